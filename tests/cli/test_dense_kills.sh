#!/bin/sh
# Retrieval that is killed: training after each of its steps, `index` at many moments.  What is done
# again ends with the bytes of what was never disturbed; so do other numbers of threads.
# DENSE_KILLS: how often `index` of each kind is killed (8).  Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

kills=${DENSE_KILLS:-8}
head -n 400 data/train.jsonl >"$dir/train.jsonl"
begin="--config_name data/config.json --tokenizer_name data --train_file $dir/train.jsonl
       --per_device_train_batch_size 8 --mini_batch_size 4 --logging_steps 1 --save_steps 1
       --save_total_limit 2"

# train_killed NAME STEPS FLAG..: killed when each step's checkpoint but the last is there, and
# resumed.  One that is too quick to be caught has done the next step too, which changes nothing.
train_killed() {
    name=$1 steps=$2 step=0 caught=0
    shift 2
    while [ $((step += 1)) -lt "$steps" ]; do
        # shellcheck disable=SC2086
        build/train "$@" $begin --max_steps "$steps" --output_dir "$dir/$name" \
            --resume_from_checkpoint >"$dir/killed.out" 2>&1 &
        running=$!
        wait_for 60 [ -e "$dir/$name/checkpoint-$step" ] || bad "$name: no checkpoint of step $step"
        kill -9 $running 2>/dev/null && caught=$((caught + 1))
        wait $running 2>/dev/null
        running=
    done
    # shellcheck disable=SC2086
    works build/train "$@" $begin --max_steps "$steps" --output_dir "$dir/$name" \
        --resume_from_checkpoint
    [ $caught -gt $((steps / 2)) ] && ok || bad "$name: $caught kills in $steps steps"
}

steps=20
# shellcheck disable=SC2086
works build/train --task biencoder $begin --max_steps $steps --output_dir "$dir/bi"
train_killed bi_killed $steps --task biencoder
same "$dir/bi/model.safetensors" "$dir/bi_killed/model.safetensors"
same "$dir/bi/log.jsonl" "$dir/bi_killed/log.jsonl"
markers="--query_marker= --passage_marker="
# shellcheck disable=SC2086
works build/train --task colbert $markers $begin --max_steps 6 --output_dir "$dir/colbert"
# shellcheck disable=SC2086
train_killed colbert_killed 6 --task colbert $markers
same "$dir/colbert/model.safetensors" "$dir/colbert_killed/model.safetensors"
same "$dir/colbert/log.jsonl" "$dir/colbert_killed/log.jsonl"

# The same weights for any number of threads.
for threads in 1 2 3 8; do
    # shellcheck disable=SC2086
    works build/train --task biencoder $begin --max_steps 3 --output_dir "$dir/threads" \
        --overwrite_output_dir --threads $threads
    mv "$dir/threads/model.safetensors" "$dir/threads$threads"
    rm -r "$dir/threads"
    same "$dir/threads1" "$dir/threads$threads"
done

# An index: words; vectors with a graph; token rows.  $before: exec, where a process is to be one.
before=
awk -F'"' 'NR <= 3000 { for (i = 1; i < NF; i++) if ($i == "context" && !seen[$(i + 2)]++)
    print ++n "\t" $(i + 2) }' data/train.jsonl | head -n 600 >"$dir/passages.tsv"
words() { $before build/index --passages "$dir/passages.tsv" --analyzer char_bigram --output "$1"; }
graph() {
    $before build/index --passages "$dir/passages.tsv" --output "$1" --model_name_or_path "$dir/bi" --graph \
        --threads "${2:-2}"
}
tokens() {
    $before build/index --passages "$dir/passages.tsv" --output "$1" --model_name_or_path "$dir/colbert" \
        --bits 2 --threads "${2:-2}"
}
for threads in 1 2 3 8; do
    works words "$dir/ix$threads"
    works graph "$dir/ix$threads" $threads
    works tokens "$dir/ix$threads" $threads
    for file in index.bin vectors.bin tokens.bin; do
        same "$dir/ix1/$file" "$dir/ix$threads/$file"
    done
done

# killed FOLDER KIND FILE: kills KIND at moments spread over the time that it takes.  FILE is then
# whole or absent, and nothing else in the folder has changed.
killed() {
    begun=$(date +%s%N)
    works "$2" "$dir/timed"
    took=$((($(date +%s%N) - begun) / 1000000))
    i=0 caught=0
    while [ $((i += 1)) -le "$kills" ]; do
        (
            before=exec
            "$2" "$1"
        ) >"$dir/killed.out" 2>&1 &
        running=$!
        # The moments of one file are not those of another, nor of another number of kills.
        sleep "$(awk -v i=$i -v n="$kills" -v t=$took 'BEGIN { printf "%.3f", t * (i - 0.37) / n / 1000 }')"
        kill -9 $running 2>/dev/null && caught=$((caught + 1))
        wait $running 2>/dev/null
        running=
        [ ! -e "$1/$3" ] || same "$dir/ix1/$3" "$1/$3"
    done
    [ $caught -ge $((kills / 2)) ] && ok || bad "$2: $caught of $kills kills found it at work"
}
works words "$dir/timed"
mkdir "$dir/ixk"
killed "$dir/ixk" words index.bin
works words "$dir/ixk"
killed "$dir/ixk" graph vectors.bin
works graph "$dir/ixk"
killed "$dir/ixk" tokens tokens.bin
works tokens "$dir/ixk"
for file in index.bin vectors.bin tokens.bin; do same "$dir/ix1/$file" "$dir/ixk/$file"; done

end
