#!/bin/sh
# Questions without an answer, from training to the vote: what train measures is what predict and
# evaluate make of the model it leaves, to the last digit, in all four metrics and each decoding;
# and a reader's windows are those of its training.  Run after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
export LC_ALL=C

# The demo's questions; every third asks another article's passage and has no answer.
mix() {                                 # ROWS
    head -n "$1" | awk '
        { context[NR] = $0; sub(/^.*"context": "/, "", context[NR])
          sub(/", "question":.*$/, "", context[NR]); row[NR] = $0 }
        END {
            for (i = 1; i <= NR; i++) {
                if (i % 3) { print row[i]; continue }
                j = (i + 16) % NR + 1
                at = index(row[i], "\"context\": \"") + 11
                head = substr(row[i], 1, at)
                question = row[i]; sub(/^.*", "question":/, "\", \"question\":", question)
                sub(/"answers":.*$/, "\"answers\": [], \"is_impossible\": true}", question)
                print head context[j] question
            }
        }'
}
head -n 1 data/validation.jsonl | grep -q '"context": ".*", "question": ".*"answers":' \
    || bad "the demo's rows have another form"
mix 120 <data/train.jsonl >"$dir/train.jsonl"
mix 47 <data/validation.jsonl >"$dir/dev.jsonl"

# number KEY FILE: the last value of a key.
number() { grep -o "\"$1\": [^,}]*" "$2" | tail -n 1 | sed 's/.*: //'; }
# agree NAME A B
agree() {
    if [ -n "$2" ] && [ "$2" = "$3" ]; then ok; else bad "$1: found '$2', expected '$3'"; fi
}

# measure NAME METRIC FLAGS...: trains, then holds its figures against predict and evaluate.
measure() {
    name=$1 metric=$2
    shift 2
    build/train --config_name data/config.json --tokenizer_name data --train_file \
        "$dir/train.jsonl" --validation_file "$dir/dev.jsonl" --output_dir "$dir/$name" \
        --metric "$metric" --max_steps 12 --eval_steps 6 --save_steps 0 --learning_rate 1e-3 \
        --max_seq_length 96 --doc_stride 24 --seed 5 "$@" >/dev/null 2>"$dir/err" \
        || { bad "train $name: $(tail -n 1 "$dir/err")"; return; }
    build/predict --model_name_or_path "$dir/$name" --test_file "$dir/dev.jsonl" --output_dir \
        "$dir/$name-answers" "$@" 2>"$dir/err" \
        || { bad "predict $name: $(tail -n 1 "$dir/err")"; return; }
    grep -q "as in training: --max_seq_length 96 --doc_stride 24" "$dir/err" && ok \
        || bad "$name: predict took other windows: $(cat "$dir/err")"
    build/evaluate --metric "$metric" "$dir/dev.jsonl" "$dir/$name-answers/predictions.json" \
        >"$dir/figures" 2>"$dir/err" || bad "evaluate $name: $(cat "$dir/err")"
    results=$dir/$name/eval_results.json log=$dir/$name/log.jsonl
    case $metric in
    squad_v2)
        agree "$name exact" "$(number eval_exact_match "$results")" "$(number exact "$dir/figures")"
        agree "$name f1" "$(number eval_f1 "$results")" "$(number f1 "$dir/figures")"
        for key in HasAns_exact HasAns_f1 NoAns_exact NoAns_f1; do
            agree "$name $key" "$(number "eval/$key" "$log")" "$(number $key "$dir/figures")"
        done ;;
    klue)
        agree "$name exact_match" "$(number eval_exact_match "$results")" \
            "$(number exact_match "$dir/figures")"
        agree "$name rouge_w" "$(number eval_rouge_w "$results")" "$(number rouge_w "$dir/figures")"
        agree "$name f1" "$(number eval/f1 "$log")" "$(number rouge_w "$dir/figures")" ;;
    *)
        agree "$name exact_match" "$(number eval/exact_match "$log")" \
            "$(number exact_match "$dir/figures")"
        agree "$name f1" "$(number eval/f1 "$log")" "$(number f1 "$dir/figures")" ;;
    esac
}
measure korquad korquad
measure squad squad --postprocess pipeline --max_answer_length 15
measure klue klue --version_2_with_negative --null_score_diff_threshold -0.5 --postprocess legacy
measure v2 squad_v2 --version_2_with_negative
[ -e "$dir/v2-answers/null_odds.json" ] && ok || bad "no null_odds.json"
# The best thresholds, as evaluate finds them from null_odds.json.
build/evaluate --metric squad_v2 --na_prob_file "$dir/v2-answers/null_odds.json" "$dir/dev.jsonl" \
    "$dir/v2-answers/predictions.json" >"$dir/figures" 2>/dev/null
for key in best_exact best_exact_thresh best_f1 best_f1_thresh; do
    agree "v2 $key" "$(number "eval/$key" "$dir/v2/log.jsonl")" "$(number $key "$dir/figures")"
done
# best/ follows the metric: with everything unanswerable, the untrained "" is right.
agree "best_metric" "$(number best_metric "$dir/v2/trainer_state.json")" \
    "$(grep -o '"eval/exact_match": [^,}]*' "$dir/v2/log.jsonl" | sed 's/.*: //' | sort -g \
        | tail -n 1)"
# Without --metric, version_2_with_negative is measured as SQuAD 2.
build/train --config_name data/config.json --tokenizer_name data --train_file "$dir/train.jsonl" \
    --validation_file "$dir/dev.jsonl" --output_dir "$dir/own" --version_2_with_negative \
    --max_steps 2 --max_seq_length 96 --metric_for_best_model NoAns_f1 --patience 3 \
    >/dev/null 2>"$dir/err" && grep -q '"eval/NoAns_f1"' "$dir/own/log.jsonl" && ok \
    || bad "metric by default: $(tail -n 1 "$dir/err")"
grep -q '"metric": "squad_v2"' "$dir/own/train_args.json" && ok || bad "train_args.json: metric"

# Windows of a reader: its best/ too, and flags win.
build/predict --model_name_or_path "$dir/v2/best" --test_file "$dir/dev.jsonl" --output_dir \
    "$dir/other" --doc_stride 16 2>"$dir/err"
grep -q "v2/best: as in training: --max_seq_length 96$" "$dir/err" && ok \
    || bad "best: $(cat "$dir/err")"
build/predict --model_name_or_path "$dir/v2" --test_file "$dir/dev.jsonl" --output_dir \
    "$dir/other" --max_seq_length 64 --doc_stride 16 2>"$dir/err"
grep -q "as in training" "$dir/err" && bad "flags do not win: $(cat "$dir/err")" || ok

# Folds: a threshold goes from the runs to the vote on what they answer.
cat >"$dir/sweep.yaml" <<END
base:
  config_name: data/config.json
  tokenizer_name: data
  train_file: $dir/train.jsonl
  max_steps: 4
  max_seq_length: 96
  doc_stride: 24
  num_folds: 2
  version_2_with_negative: true
  null_score_diff_threshold: -1000
grid:
  learning_rate: [0.001]
END
build/sweep "$dir/sweep.yaml" --output_dir "$dir/sweep" --out_of_fold >"$dir/table" 2>"$dir/err" \
    || bad "sweep: $(tail -n 1 "$dir/err")"
found=$(grep -c '": ""' "$dir"/sweep/out_of_fold*/predictions.json)
agree "answers of folds that are all \"\"" "$found" 120
awk -F '\t' 'NR == 2 { exit !($2 != "-") }' "$dir/table" && ok || bad "sweep's table"

# A vote at another threshold: "" is ahead by 1 in both lists (e to 1).
printf '{"q": [{"text": "", "probability": 0.7310585786300049},
 {"text": "a", "probability": 0.2689414213699951}]}\n' >"$dir/one.json"
vote() {
    build/ensemble --method "$1" --files "$dir/one.json" --output_dir "$dir/vote" \
        --null_score_diff_threshold "$2" 2>/dev/null
    agree "vote $1 at $2" "$(grep -o '"q": .*' "$dir/vote/predictions.json")" "\"q\": \"$3\""
}
vote hard_vote 0.9 ""
vote hard_vote 1.1 a
vote probability_sum 0.9 ""
vote probability_sum 1.1 a
vote fold_combine 1.1 a

end
