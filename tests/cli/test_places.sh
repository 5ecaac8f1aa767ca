#!/bin/sh
# What scripts do with files: pipes in their place, outputs in folders that are not there yet, names
# that are empty, a run on stdout.  Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

sed 's/: 64,/: 8,/; s/: 128,/: 8,/' data/config.json >"$dir/config.json"
head -n 8 data/validation.jsonl >"$dir/rows.jsonl"
works build/train --config_name "$dir/config.json" --tokenizer_name data --max_steps 1 \
    --train_file "$dir/rows.jsonl" --validation_file "$dir/rows.jsonl" --output_dir "$dir/model"
printf '%s\n' '{"id": "p0", "text": "서울은 큰 도시이다"}' '{"id": "p1", "text": "부산은 항구 도시이다"}' \
    '{"id": "p2", "text": "서울은 강이 있다"}' >"$dir/passages.jsonl"
printf '%s\n' '{"id": "q0", "question": "서울은"}' '{"id": "q1", "question": "항구 도시이다"}' \
    >"$dir/queries.jsonl"
printf 'q0 0 p2 1\nq1 0 p1 1\n' >"$dir/qrels"
works build/index --passages "$dir/passages.jsonl" --analyzer whitespace --output "$dir/index"

# A run and its figures: the run on stdout, then one line of JSON; or the run in its file.
search() { $limit build/search --index "$dir/index" --queries "$dir/queries.jsonl" "$@"; }
program=search
works search --run "$dir/run"
works search --qrels "$dir/qrels"
sed '$d' "$dir/out" >"$dir/lines"
same "$dir/run" "$dir/lines"
tail -n 1 "$dir/out" >"$dir/last"
check "the last line is the figures" grep -q '^{"queries": 2, "recall@1": .*}$' "$dir/last"
works search --qrels "$dir/qrels" --run "$dir/again"
same "$dir/last" "$dir/out"
same "$dir/run" "$dir/again"

# Questions without ids are judged by the numbers that the run calls them.
printf '%s\n' 서울은 '항구 도시이다' >"$dir/questions.txt"
sed 's/^q//' "$dir/qrels" >"$dir/numbered"
works build/search --index "$dir/index" --queries "$dir/questions.txt" --qrels "$dir/numbered" \
    --run "$dir/numbers.run"
same "$dir/last" "$dir/out"

# Folders of outputs are made, as those of --output_dir are.
works search --run "$dir/a/b/run"
same "$dir/run" "$dir/a/b/run"
works build/fuse --runs "$dir/run" "$dir/run" --run "$dir/c/d/run"
works build/embed --model_name_or_path "$dir/model" --input "$dir/passages.jsonl" \
    --output "$dir/e/f/vectors.npy"
works build/predict --model_name_or_path "$dir/model" --test_file "$dir/rows.jsonl" \
    --output_dir "$dir/answers" --save_logits "$dir/g/h/logits.safetensors"
works build/report "$dir/model" --output "$dir/i/j/report.html"
works build/convert "$dir/model/model.safetensors" --output "$dir/k/l/weights.safetensors"
for file in c/d/run e/f/vectors.npy g/h/logits.safetensors i/j/report.html k/l/weights.safetensors; do
    check "$file is there" test -s "$dir/$file"
done

# An input may be a pipe: it is read once.
cat "$dir/queries.jsonl" | build/search --index "$dir/index" --queries /dev/stdin \
    >"$dir/piped" 2>"$dir/err"
same "$dir/run" "$dir/piped"
cat "$dir/passages.jsonl" | build/embed --model_name_or_path "$dir/model" --input /dev/stdin \
    --output "$dir/piped.npy" 2>"$dir/err"
same "$dir/e/f/vectors.npy" "$dir/piped.npy"

# Those that are read twice say so.
cat "$dir/rows.jsonl" | build/train --model_name_or_path "$dir/model" --train_file /dev/stdin \
    --output_dir "$dir/none" >"$dir/out" 2>"$dir/err"
says "train: /dev/stdin: is a pipe or a device, which can be read once"
cat "$dir/rows.jsonl" | build/inspect /dev/stdin >"$dir/out" 2>"$dir/err"
says "inspect: /dev/stdin: is a pipe or a device, which can be read once"
cat "$dir/rows.jsonl" | build/inspect --as dataset /dev/stdin >"$dir/out" 2>"$dir/err"
says '"examples": 8'

# An output may be a pipe too: it is written to, and stays what it is.
mkfifo "$dir/pipe"
$bound cat "$dir/pipe" >"$dir/piped" &
reader=$!
bounded search --run "$dir/pipe"
wait $reader
same "$dir/run" "$dir/piped"
check "a pipe stays a pipe" test -p "$dir/pipe"
ls "$dir" >"$dir/out"
check "no temporary file is left" sh -c '! grep tmp "$1"' - "$dir/out"

# Lines of text that look like something else: a headline's bracket, a mark of the encoding.
embed() { $limit build/embed --model_name_or_path "$dir/model" --input "$@"; }
program=embed
printf '서울\n[단독] 부산\n' >"$dir/lines"
printf '\357\273\277[단독] 부산\n서울\n' >"$dir/turned"
works embed "$dir/lines" --output "$dir/lines.npy"
works embed "$dir/turned" --output "$dir/turned.npy"
works embed "$dir/passages.jsonl" --output "$dir/passages.npy"
sed 's/^/[/; s/$/]/; 1!d' "$dir/passages.jsonl" >"$dir/array.json"
works embed "$dir/array.json" --output "$dir/array.npy"
tail -c 32 "$dir/lines.npy" >"$dir/second"
tail -c 64 "$dir/turned.npy" | head -c 32 >"$dir/first"
same "$dir/second" "$dir/first"
tail -c 32 "$dir/array.npy" >"$dir/second"
tail -c 96 "$dir/passages.npy" | head -c 32 >"$dir/first"
same "$dir/second" "$dir/first"
# A kind of output that there is none of is refused before the work.
refuses 3 "vectors.bin: no such kind of file" embed "$dir/lines" --output "$dir/vectors.bin"

# A model or judgements that are not there are missed before anything is written.
fails 3 "no-model: no such folder (expected a model directory" build/index --analyzer whitespace \
    --passages "$dir/passages.jsonl" --output "$dir/none" --model_name_or_path "$dir/no-model"
fails 2 "--bits: residual codes are of token rows" build/index --analyzer whitespace --bits 2 \
    --passages "$dir/passages.jsonl" --output "$dir/none" --model_name_or_path "$dir/model"
program=search
refuses 3 "no-qrels: cannot open it" search --run "$dir/none" --qrels "$dir/no-qrels"
fails 3 "no-model: no such folder" search --run "$dir/none" --reranker "$dir/no-model"

# A name that is empty, as of a variable that is not set, is refused before any work.
predict() { $limit build/predict --model_name_or_path "$dir/model" "$@"; }
program=predict
refuses 2 "--output_dir: not a value of this flag (found nothing, expected DIR)" \
    predict --test_file "$dir/rows.jsonl" --output_dir ""
refuses 2 "--test_file: not a value of this flag (found nothing, expected FILE)" \
    predict --test_file= --output_dir "$dir/none"
refuses 2 "--model_name_or_path: not a value" build/predict --model_name_or_path "" \
    --test_file "$dir/rows.jsonl" --output_dir "$dir/none"
refuses 5 "cannot be written: File name too long" predict --test_file "$dir/rows.jsonl" \
    --output_dir "$dir/$(printf '%0300d' 7)"
refuses 2 "--prefix: begins a file's name, which has no / (found a/b" \
    predict --test_file "$dir/rows.jsonl" --output_dir "$dir/none" --prefix a/b
refuses 5 "cannot be written: File name too long" predict --test_file "$dir/rows.jsonl" \
    --output_dir "$dir/none" --prefix "$(printf '%0240d' 7)"
mkdir -p "$dir/taken/x_nbest_predictions.json"
refuses 3 "x_nbest_predictions.json: is a directory" predict --test_file "$dir/rows.jsonl" \
    --output_dir "$dir/taken" --prefix x
check "nothing was written" test "$(ls "$dir/taken")" = x_nbest_predictions.json
refuses 2 "DATA_FILE: not a value of this argument (found nothing" build/evaluate --metric squad "" x
# train tries its folder before it reads.
fails 5 "rows.jsonl/x: cannot be written" build/train --model_name_or_path "$dir/model" \
    --train_file "$dir/rows.jsonl" --output_dir "$dir/rows.jsonl/x"
check "no rows were counted" test ! -s "$dir/out"
fails 5 "rows.jsonl/x: cannot be written" build/train --model_name_or_path "$dir/model" \
    --train_file "$dir/rows.jsonl" --output_dir "$dir/none" --report_to tensorboard \
    --logging_dir "$dir/rows.jsonl/x"
check "no rows were counted" test ! -s "$dir/out"
check "no folder was made" test ! -e "$dir/none"
program=search
refuses 2 "--run: not a value" search --run ""
# So is a flag with one dash, which is no file's name.
refuses 2 "unknown flag (found -run, expected perhaps --run;" search -run x
refuses 2 "unknown flag (found -run=x, expected perhaps --run;" search -run=x
refuses 2 "unknown flag (found -zq, expected another;" search -zq
fails 3 "-x: " build/evaluate --metric squad -- -x "$dir/rows.jsonl"
# Other names of a flag count for guesses.
refuses 2 "found --max_len, expected perhaps --max_seq_length" build/train --max_len 3

# What could not be read back from a run is not written.
refuses 2 '--tag: no text for a run, whose fields stand between blanks (found "a b"' \
    search --tag "a b"
refuses 2 '--tag: no text' search --tag ""
printf '{"id": "q 0", "question": "서울은"}\n' >"$dir/blank.jsonl"
fails 3 'blank.jsonl: no id for a run, whose fields stand between blanks (found "q 0"' \
    build/search --index "$dir/index" --queries "$dir/blank.jsonl" --run "$dir/none"
printf '{"id": "p 0", "text": "서울은"}\n' >"$dir/blank.jsonl"
works build/index --passages "$dir/blank.jsonl" --analyzer whitespace --output "$dir/blank"
fails 3 'blank: no id for a run, whose fields stand between blanks (found "p 0"' \
    build/search --index "$dir/blank" --queries "$dir/queries.jsonl" --run "$dir/none"
check "nothing was written" test ! -e "$dir/none"

# inspect lists tensors wherever it counts them.
for folder in model model/checkpoint-1; do
    works build/inspect --tensors "$dir/$folder"
    says '"list": [{"name": '
    count=$(sed 's/.*"tensors": \([0-9]*\).*/\1/' "$dir/out")
    check "$folder: $count tensors" test "$count" = "$(grep -o '"crc32c"' "$dir/out" | wc -l)"
done
end
