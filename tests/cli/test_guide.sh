#!/bin/sh
# The commands of README.md, tools/GUIDE.md, tools/README.md and data/README.md run as they stand
# there: each block of them, in a folder that has small stand-ins under the names they use (models,
# data sets, passages).  A block that another program must answer, or whose words are left out ("..."),
# is named as not run.
#     sh tests/cli/test_guide.sh --list       prints the blocks
# Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

# Blocks of lines with four spaces before them that begin with a program of ours, one file each.
awk -v dir="$dir" '
    /^    (build\/[a-z]|mpirun |for [a-z] in )/ && !inside {
        inside = 1
        file = sprintf("%s/block%02d", dir, n++)
        print FILENAME >(file ".from")
    }
    inside && /^    / { print substr($0, 5) >file; next }
    inside { inside = 0; close(file); close(file ".from") }
' README.md tools/GUIDE.md tools/README.md data/README.md
if [ "$1" = --list ]; then
    for block in "$dir"/block??; do echo "# $(cat "$block.from")"; cat "$block"; done
    exit
fi

#---------------------------------------------------------------------------------------------------
# What the commands name
#---------------------------------------------------------------------------------------------------
root=$PWD work=$dir/work
mkdir "$work" && ln -s "$root/build" "$work/build" && ln -s "$root/data" "$work/data" || exit 5
sed 's/"max_position_embeddings": 256/"max_position_embeddings": 514/' data/config.json \
    >"$dir/config.json"
build/train --config_name "$dir/config.json" --tokenizer_name data --train_file data/train.jsonl \
    --output_dir "$work/klue-roberta-base" --max_train_samples 16 --max_steps 1 --save_steps 0 \
    >/dev/null 2>"$dir/err" || bad "a model to start from: $(tail -n 1 "$dir/err")"
for name in klue-roberta-large minilm; do ln -s klue-roberta-base "$work/$name"; done

# squad COUNT FILE: the first rows of the demo's questions as SQuAD's JSON.
squad() {
    head -n "$1" data/validation.jsonl | awk '
        BEGIN { printf "{\"version\": \"KorQuAD_v1.0_dev\", \"data\": [" }
        match($0, /"context": "[^"]*"/) {
            context = substr($0, RSTART, RLENGTH)
            match($0, /"question": "[^"]*"/); question = substr($0, RSTART, RLENGTH)
            match($0, /"id": "[^"]*"/); id = substr($0, RSTART, RLENGTH)
            match($0, /\[[0-9]+\]/); start = substr($0, RSTART + 1, RLENGTH - 2)
            match($0, /"text": \["[^"]*"\]/); text = substr($0, RSTART + 9, RLENGTH - 10)
            printf "%s{\"title\": \"t\", \"paragraphs\": [{%s, \"qas\": [{%s, %s, ", \
                (NR > 1 ? ", " : ""), context, id, question
            printf "\"answers\": [{\"answer_start\": %s, \"text\": %s}]}]}]}", start, text
        }
        END { print "]}" }' >"$work/$2"
}
squad 16 KorQuAD_v1.0_train.json
for name in KorQuAD_v1.0_dev train test dev squad_dev_a squad_dev_b; do squad 8 "$name.json"; done
for name in mrc_train mrc_validation questions; do head -n 8 data/train.jsonl >"$work/$name.jsonl"; done
awk 'BEGIN { printf "{" } match($0, /"context": "[^"]*"/) {
        printf "%s\"%d\": {\"title\": \"t\", \"document_id\": %d, \"text\"%s}", (NR > 1 ? ", " : ""), \
            NR - 1, NR - 1, substr($0, RSTART + 9, RLENGTH - 9)
    } END { print "}" }' "$work/questions.jsonl" >"$work/wikipedia_documents.json"
awk 'match($0, /"context": "[^"]*"/) {
        printf "{\"id\": \"%d\", \"text\"%s}\n", NR - 1, substr($0, RSTART + 9, RLENGTH - 9)
    }' "$work/questions.jsonl" >"$work/wiki.jsonl"
awk 'match($0, /"id": "[^"]*"/) {
        print substr($0, RSTART + 7, RLENGTH - 8), 0, NR - 1, 1
    }' "$work/questions.jsonl" >"$work/qrels.tsv"
for run in bm25 hybrid; do awk '{ print $1, "Q0", $3, 1, 1.5, "x" }' "$work/qrels.tsv" >"$work/$run.run"; done
sed -n '1s/.*"context": "\([^"]*\)".*/\1/p' "$work/questions.jsonl" >"$work/passage.txt"

#---------------------------------------------------------------------------------------------------
# Each block
#---------------------------------------------------------------------------------------------------
for block in "$dir"/block??; do
    shown="$(cat "$block.from"): $(head -n 1 "$block")"
    extra=
    case $(cat "$block") in
    mpirun*|*" ... "*|*" ..."|*" [flags]"*|*" ["*"]"*|*DIR*|*FILE*) continue ;;
    *--engine*)  skip "needs a search cluster: $shown"; continue ;;
    build/serve*)
        [ -x build/serve ] || { skip "no libmicrohttpd, build/serve is not built: $shown"; continue; }
        (cd "$work" && exec $(sed 's/--port 8080/--port 0/' "$block")) >"$dir/out" 2>"$dir/err" &
        server=$! running=$!
        if wait_for 30 served && [ -n "$port" ] && kill "$server" && wait "$server"; then ok
        else bad "$shown"; code=$?; shows; fi
        running=
        continue ;;
    build/sweep*) extra=' --max_steps 1 --max_train_samples 16 --max_eval_samples 4 --save_steps 0' ;;
    esac
    # Each text trains into a folder of its own.
    ! grep -qE '^build/(mrc )?train' "$block" || rm -rf "$work/out"
    # A sweep is cut short behind the flags that the text has; all else runs as it stands.
    sed "/^build\/sweep/s/\$/$extra/" "$block" >"$dir/script"
    (cd "$work" && sh -e "$dir/script") >"$dir/out" 2>"$dir/err" </dev/null
    code=$?
    if [ "$code" = 0 ]; then ok; else bad "$shown"; sed 's/^/    /' "$block"; shows; fi
done
end
