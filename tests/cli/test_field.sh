#!/bin/sh
# Files as people report them, with the right value of a peer: tokenizers of every age, data in every
# shape, training on questions without an answer.  The files are of ../shared (MRC_SHARED).
# Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
field=${MRC_SHARED:-../shared}/cases/field
# agree NAME FOUND EXPECTED
agree() { [ "$2" = "$3" ] && ok || bad "$1: found '$2', expected '$3'"; }

if [ ! -d "$field" ]; then
    skip "no $field"
    end
fi

# ids FOLDER TEXT IDS: what a tokenizer makes of a text.
ids() {
    found=$(printf '"%s"\n' "$2" | build/tok --tokenizer_name "$field/$1" --jsonl 2>"$dir/err" \
        | sed 's/.*"input_ids": \[\([0-9,]*\)\].*/\1/')
    agree "$1" "$found" "$3"
}
ids untyped           "Hello world"       2,4,5,6,3
ids vocab_u2028       "Hello World"       2,5,7,3
ids added_tokens_json "hello <ent> world" 2,5,11,6,3
ids added_normalized  "hello *** world"   2,5,11,6,3
ids no_tokenizer_config "Hello World"     2,5,6,3
grep -q "texts are lower-cased, as transformers does where no" "$dir/err" && ok || bad "no note"
ids silent_lowercase  "Hello World"       2,5,6,3
grep -q "which comes before this file's lowercase false" "$dir/err" && ok || bad "no note"

# inspected FILE FORMAT EXAMPLES
inspected() {
    found=$(build/inspect "$field/$1" 2>/dev/null \
        | sed 's/.*"format": "\([^"]*\)", "examples": \([0-9]*\), "skipped": 0.*/\1 \2/')
    agree "inspect $1" "$found" "$2 $3"
}
inspected arrow_timestamp arrow 6
inspected arrow_v2 arrow 6
inspected json_array.json json 6
inspected korquad2.json korquad_v2 1
inspected squad_v2_flat.jsonl jsonl 2
inspected v2_impossible.jsonl jsonl 4

# trained DATA ROWS KEPT FLAGS..: one step, and what train says of the rows.
trained() {
    data=$1 rows=$2 kept=$3
    shift 3
    build/train --config_name data/config.json --tokenizer_name data --train_file "$field/$data" \
        --output_dir "$dir/run" --overwrite_output_dir --max_steps 1 --save_steps 0 --seed 1 \
        "$@" >"$dir/said" 2>"$dir/err" || bad "train $data: $(tail -n 1 "$dir/err")"
    agree "$data" "$(head -n 1 "$dir/said")" "$field/$data: $rows rows -> $kept kept"
}
trained squad_v2_flat.jsonl 2 2
trained arrow_v2 6 6
trained arrow_timestamp 6 6
trained json_array.json 6 6
trained korquad2.json 1 1

# Unanswerable questions: what train measures is what evaluate makes of the model that it leaves.
trained v2_impossible.jsonl 4 4 --version_2_with_negative --validation_file \
    "$field/v2_impossible.jsonl" --max_steps 12 --learning_rate 1e-3 --eval_steps 12
build/predict --model_name_or_path "$dir/run" --test_file "$field/v2_impossible.jsonl" \
    --output_dir "$dir/answers" --version_2_with_negative >/dev/null 2>"$dir/err" \
    || bad "predict: $(tail -n 1 "$dir/err")"
build/evaluate --metric squad_v2 "$field/v2_impossible.jsonl" "$dir/answers/predictions.json" \
    >"$dir/figures" || bad "evaluate"
number() { grep -o "\"$1\": [^,}]*" "$2" | tail -n 1 | sed 's/.*: //'; }
exact=$(number exact "$dir/figures") f1=$(number f1 "$dir/figures")
[ -n "$exact" ] && ok || bad "no figure: $(cat "$dir/figures")"
agree "exact in training" "$(number eval_exact_match "$dir/run/eval_results.json")" "$exact"
agree "F1 in training" "$(number eval_f1 "$dir/run/eval_results.json")" "$f1"

# A field of plain TSV that begins with a quote ends at the tab.
build/index --passages "$field/msmarco_collection.tsv" --analyzer whitespace --output "$dir/index" \
    >"$dir/said" 2>&1 || bad "index: $(cat "$dir/said")"
printf '{"id": "q", "question": "pipe"}\n' >"$dir/query"
found=$(build/search --index "$dir/index" --queries "$dir/query" --top_k 4 2>/dev/null \
    | awk '{ print $3 }')
agree "the passage with pipe" "$found" 3
found=$(printf '{"id": "q", "question": "is plain starts he"}\n' >"$dir/query"
    build/search --index "$dir/index" --queries "$dir/query" --top_k 9 2>/dev/null | wc -l)
agree "passages" $((found)) 4

# The pipeline's decoding, from its own logits.
build/predict --tokenizer_name "$field/pipeline" --test_file "$field/pipeline/q.jsonl" --logits \
    "$field/pipeline/logits.safetensors" --postprocess pipeline --n_best_size 1 \
    --max_answer_length 15 --output_dir "$dir/pipeline" >/dev/null 2>"$dir/err" \
    || bad "pipeline: $(tail -n 1 "$dir/err")"
agree "pipeline" "$(grep -o '"1": "[^"]*"' "$dir/pipeline/predictions.json")" '"1": "playing"'

end
