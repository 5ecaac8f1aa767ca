#!/bin/sh
# ensemble: votes over n-best files, among them five folds of a real run and the vote that was
# recorded from them; the mean of logits; what it refuses.  Run after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

# The case: a probability sum over the 20 best, 200 of 200.
cases=../shared/cases/ensemble
if [ -d $cases ]; then
    files=
    for k in 0 1 2 3 4; do files=$files,$cases/fold${k}_nbest_predictions.json; done
    build/ensemble --files "${files#,}" --output_dir "$dir/vote" 2>"$dir/err" \
        || bad "ensemble: $(cat "$dir/err")"
    right=$(grep -cFxf "$dir/vote/predictions.json" $cases/hard_voting_predictions.json)
    # 200 answers and two braces; the last answer has no comma in either file
    [ "$right" = 202 ] && ok || bad "the recorded vote: $right of 202 lines"
else
    skip "no ../shared/cases/ensemble: the recorded vote"
fi

# Two models by hand, the second without one question.
cat >"$dir/a.json" <<'END'
{"q1": [{"text": "\uc11c\uc6b8", "probability": 0.6}, {"text": "b", "probability": 0.4}],
 "q2": [{"text": "only", "probability": 1.0}]}
END
cat >"$dir/b.json" <<'END'
{"q1": [{"text": "b", "probability": 0.5}, {"text": "c", "probability": 0.3}]}
END
vote() {
    build/ensemble --files "$dir/a.json,$dir/b.json" --output_dir "$dir/vote" "$@" 2>"$dir/err" \
        || bad "ensemble $*: $(cat "$dir/err")"
    grep -q "\"q1\": \"$want\"" "$dir/vote/predictions.json" && ok || bad "ensemble $*: not $want"
    grep -q '"q2": "only"' "$dir/vote/predictions.json" && ok || bad "ensemble $*: q2"
}
want=b vote
# Questions that only a later file has come behind: folds are put together that way.
build/ensemble --files "$dir/b.json,$dir/a.json" --output_dir "$dir/vote" 2>"$dir/err"
printf '{\n    "q1": "b",\n    "q2": "only"\n}\n' >"$dir/union.json"
same "$dir/vote/predictions.json" "$dir/union.json"
want=b vote --method fold_combine
want='\\uc11c\\uc6b8' vote --method hard_vote
want='\\uc11c\\uc6b8' vote --weights 3,0.1

# The mean of a file with itself is that file, and decodes to the same.
given=tests/fixtures/decode
build/ensemble --method logit_mean --files $given/logits.safetensors,$given/logits.safetensors \
    --weights 1,3 --output "$dir/mean.safetensors" 2>"$dir/err" || bad "$(cat "$dir/err")"
build/predict --logits "$dir/mean.safetensors" --tokenizer_name $given/vocab.txt \
    --test_file $given/questions.json --max_seq_length 32 --doc_stride 8 \
    --output_dir "$dir/decoded" 2>"$dir/err" || bad "$(cat "$dir/err")"
same "$dir/decoded/nbest_predictions.json" $given/v1/nbest_predictions.json

echo '{"q1": [{"text": 3}]}' >"$dir/bad.json"
refuses 2 'is missing' build/ensemble --files "$dir/a.json"
refuses 2 'not one for each file' build/ensemble --files "$dir/a.json" --weights 1,2 --output_dir "$dir/vote"
refuses 2 'found x, expected numbers from 0' build/ensemble --files "$dir/a.json" --weights x --output_dir "$dir/vote"
refuses 3 'has no text and probability' build/ensemble --files "$dir/bad.json" --output_dir "$dir/vote"
refuses 3 'none.json: cannot open it: ' build/ensemble --files "$dir/none.json" --output_dir "$dir/vote"

end
