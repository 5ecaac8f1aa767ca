#!/bin/sh
# The demo, and what it must not be able to do: answer when the questions are blank.
. "$(dirname "$0")/../lib.sh"
begin
out=build/demo

# exact DATA_FILE NAME: the exact match of the demo's model, 0 to 100.
exact() {
    build/predict --model_name_or_path $out/model --test_file "$1" --output_dir "$out/$2" \
        >/dev/null 2>&1 || return 1
    build/evaluate --metric korquad "$1" "$out/$2/predictions.json" \
        | sed 's/.*"exact_match": *\([0-9.e+-]*\).*/\1/'
}

./build.sh demo >$out.log 2>$out.err
code=$?
tail -n 1 $out.log
[ $code -eq 0 ] && ok || bad "demo: exit $code: $(tail -n 3 $out.err)"
case $(tail -n 1 $out.log) in
'{"exact_match": '*', "questions": 400, "seconds": '*'}') ok ;;
*) bad "demo: the last line is no result" ;;
esac
grep -q '^answer:   나래마을$' $out.log && ok || bad "demo: $(grep '^answer' $out.log)"

# The kind of answer and its place must not give it away.
sed 's/"question": "[^"]*"/"question": "?"/' data/validation.jsonl >$out/blank.jsonl
blank=$(exact $out/blank.jsonl blank)
echo "exact match with blank questions: $blank"
awk -v x="$blank" 'BEGIN { exit !(x != "" && x + 0 < 30) }' && ok || bad "blank: $blank, not below 30"

# The same model in bf16 and in bytes: its F1 moves by less than half a point.
score() {
    build/predict --model_name_or_path $out/model --test_file data/validation.jsonl \
        --output_dir $out/$1 --dtype $1 2>$out.err \
        && build/evaluate --metric squad data/validation.jsonl $out/$1/predictions.json \
        | sed 's/.*"f1": *\([0-9.e+-]*\).*/\1/'
}
for dtype in bf16 int8; do
    f1="$(score fp32) $(score $dtype)"
    echo "F1 in fp32 and $dtype: $f1"
    echo "$f1" | awk '{ d = $1 - $2; exit !(NF == 2 && $1 > 0 && d < 0.5 && d > -0.5) }' && ok \
        || bad "F1 in fp32 and $dtype: $f1"
done

# Two subjects in one passage: reported, no bar.
echo "exact match on data/hard.jsonl: $(exact data/hard.jsonl hard)"

# The passage is not given but looked up: 100 questions, the passages of all of them as the index.
head -n 100 data/validation.jsonl >$out/some.jsonl
awk '{ sub(/"id": *"[^"]*"/, "\"id\": \"p" NR "\""); print }' $out/some.jsonl >$out/passages.jsonl
build/index --passages $out/passages.jsonl --unique --analyzer korean --output $out/index \
    2>$out.err || bad "index: $(cat $out.err)"
sed 's/.*"question": *"\([^"]*\)".*/\1/' $out/some.jsonl \
    | build/ask --model_name_or_path $out/model --index $out/index --retrieval_weight 0.9 --json \
        --n_answers 1 >$out/asked.jsonl 2>$out.err || bad "ask: $(cat $out.err)"
sed 's/.*"text": *\["\([^"]*\)".*/\1/' $out/some.jsonl >$out/expected.txt
sed 's/.*"answers": \[{"answer": "\([^"]*\)".*/\1/' $out/asked.jsonl >$out/asked.txt
found=$(paste -d '\n' $out/expected.txt $out/asked.txt \
    | awk 'NR % 2 { e = $0; next } { n += e == $0 } END { print n + 0 }')
echo "right answers with only an index: $found of 100"
[ "$found" -ge 80 ] && ok || bad "ask: $found of 100 right, not 80"

end
