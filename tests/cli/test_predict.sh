#!/bin/sh
# predict and evaluate on committed fixtures: the three files of answers to the byte, and the
# figures of the metrics on edge cases.  Run after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

#---------------------------------------------------------------------------------------------------
# Decoding: tests/fixtures/decode is made by tests/peers/compare_decode.py
#---------------------------------------------------------------------------------------------------
given=tests/fixtures/decode
# decode FOLDER FLAGS...: predict's files from the saved logits.
decode() {
    to=$dir/$1
    shift
    build/predict --logits $given/logits.safetensors --tokenizer_name $given/vocab.txt \
        --test_file $given/questions.json --max_seq_length 32 --doc_stride 8 \
        --output_dir "$to" "$@" 2>"$dir/err" || bad "predict $*: $(cat "$dir/err")"
}
decode v1
decode v2 --version_2_with_negative
decode v2_7 --version_2_with_negative --null_score_diff_threshold 7.5
decode pipeline --postprocess pipeline --n_best_size 5 --max_answer_length 15
decode pipeline_v2 --postprocess pipeline --n_best_size 5 --max_answer_length 15 \
    --version_2_with_negative
decode legacy --postprocess legacy
decode legacy_v2 --postprocess legacy --version_2_with_negative
for file in "$given"/*/*; do same "$dir/${file#"$given"/}" "$file"; done
[ -e "$dir/v1/null_odds.json" ] && bad "v1 has null_odds.json" || ok
[ -e "$dir/pipeline_v2/null_odds.json" ] && bad "the pipeline has null_odds.json" || ok
decode named --prefix eval
same "$dir/named/eval_predictions.json" $given/v1/predictions.json
# A temperature changes probabilities, not answers; so far apart nothing else is likely.
decode cold --temperature 0.001
same "$dir/cold/predictions.json" $given/v1/predictions.json
grep -q '"probability": 1.0' "$dir/cold/nbest_predictions.json" && ok || bad "--temperature 0.001"
decode again --save_logits "$dir/again.safetensors"
# Logits of other windows are refused.
build/predict --logits $given/logits.safetensors --tokenizer_name $given/vocab.txt \
    --test_file $given/questions.json --max_seq_length 16 --output_dir "$dir/other" 2>"$dir/err"
[ $? = 3 ] && grep -q "does not fit" "$dir/err" && [ ! -e "$dir/other" ] && ok \
    || bad "logits of other windows: $(cat "$dir/err")"
# Padding out and back in: what was saved again decodes to the same.
build/predict --logits "$dir/again.safetensors" --tokenizer_name $given/vocab.txt \
    --test_file $given/questions.json --max_seq_length 32 --doc_stride 8 \
    --output_dir "$dir/twice" 2>"$dir/err"
same "$dir/twice/nbest_predictions.json" $given/v1/nbest_predictions.json

#---------------------------------------------------------------------------------------------------
# Metrics: tests/fixtures/metrics is made by tests/peers/compare_metrics.py
#---------------------------------------------------------------------------------------------------
given=tests/fixtures/metrics
# Keys and numbers, one a line.
words() { tr -d '{}' | tr ',:' '\n\n' | sed 's/^ *//' | grep .; }
# figures NAME METRIC FLAGS...: the same keys in the same order, numbers to 1e-12.
figures() {
    name=$1 metric=$2
    shift 2
    build/evaluate --metric "$metric" "$@" $given/data.json $given/predictions.json \
        >"$dir/figures" 2>"$dir/err" || bad "evaluate --metric $metric $*: $(cat "$dir/err")"
    words <"$given/$name.json" >"$dir/expected"
    words <"$dir/figures" >"$dir/found"
    paste "$dir/expected" "$dir/found" | awk -F '\t' '
        $1 ~ /^[-0-9]/ && $2 ~ /^[-0-9]/ {
            if (!($1 - $2 <= 1e-12 && $2 - $1 <= 1e-12)) exit 1
            next
        }
        $1 != $2 { exit 1 }' && ok || { bad "$name"; cat "$given/$name.json" "$dir/figures"; }
}
figures korquad korquad
figures squad squad
figures squad_v2 squad_v2
figures squad_v2_na squad_v2 --na_prob_file $given/null_odds.json --na_prob_thresh 0.5
figures klue klue

end
