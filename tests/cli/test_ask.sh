#!/bin/sh
# index, search and ask together on a small corpus; ask's answers against predict's.  The reader has
# random weights: what is tested is that all see the same passages and say the same.
# Run after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
model=$dir/model
build/train --config_name data/config.json --tokenizer_name data --train_file data/question.jsonl \
    --validation_file data/question.jsonl --output_dir "$model" --max_steps 1 --seed 3 \
    --overwrite_output_dir >"$dir/log" 2>&1 || bad "train: $(tail -n 2 "$dir/log")"
# The first 20 questions' passages, numbered, and the questions.
head -n 20 data/validation.jsonl >"$dir/questions.jsonl"
awk '{ sub(/"id": *"[^"]*"/, "\"id\": \"p" NR "\""); print }' "$dir/questions.jsonl" \
    >"$dir/passages.jsonl"
gives 0 "20 passages" build/index --passages "$dir/passages.jsonl" --analyzer korean \
    --output "$dir/index"
gives 0 "left out" build/index --passages "$dir/passages.jsonl" --unique --analyzer whitespace \
    --output "$dir/unique"
gives 2 "--tokenizer_name is missing" build/index --passages "$dir/passages.jsonl" \
    --analyzer wordpiece --output "$dir/pieces"
gives 0 "passages" build/index --passages "$dir/passages.jsonl" --analyzer wordpiece \
    --tokenizer_name data --output "$dir/pieces"

#---------------------------------------------------------------------------------------------------
# search
#---------------------------------------------------------------------------------------------------
for method in okapi l l_rank_bm25 plus lucene robertson atire bm25s_l bm25s_plus elasticsearch; do
    build/search --index "$dir/index" --queries "$dir/questions.jsonl" --method $method --top_k 5 \
        >"$dir/run" 2>"$dir/err" || bad "search --method $method: $(cat "$dir/err")"
    awk 'NF != 6 || $2 != "Q0" || $6 != "mrc" { exit 1 }
         $1 != q { q = $1; rank = 0; last = 1e300 }
         $4 != ++rank || $5 > last { exit 1 }
         { last = $5 } END { exit NR < 20 }' "$dir/run" && ok || bad "search --method $method"
done
awk '{ split($0, a, "\""); print }' "$dir/questions.jsonl" \
    | sed 's/.*"id": *"\([^"]*\)".*/\1/' | awk '{ print $1, 0, "p" NR, 1 }' >"$dir/qrels"
gives 0 '"recall@1":' build/search --index "$dir/index" --queries "$dir/questions.jsonl" \
    --run "$dir/the.run" --qrels "$dir/qrels"
says '{"queries": 20, "recall@1": '
[ -s "$dir/the.run" ] && ok || bad "no run"
gives 3 "qrels:1: found 2 fields" sh -c "echo 'a b' >$dir/qrels; exec build/search --index \
    $dir/index --queries $dir/questions.jsonl --run $dir/other.run --qrels $dir/qrels"
cp -r "$dir/index" "$dir/broken"
printf 'x' | dd of="$dir/broken/index.bin" bs=1 seek=3 conv=notrunc 2>/dev/null
gives 3 "block 0, from byte 0, is damaged" build/search --index "$dir/broken" \
    --queries "$dir/questions.jsonl"

#---------------------------------------------------------------------------------------------------
# ask
#---------------------------------------------------------------------------------------------------
# One field of a flat JSON row.
field() { sed 's/.*"'"$1"'": *"\(\([^"\\]\|\\.\)*\)".*/\1/'; }
head -n 1 "$dir/questions.jsonl" >"$dir/one.jsonl"
field context <"$dir/one.jsonl" | tr -d '\n' >"$dir/context.txt"
question=$(field question <"$dir/one.jsonl")
build/predict --model_name_or_path "$model" --test_file "$dir/one.jsonl" --output_dir "$dir/answers" \
    2>"$dir/err" || bad "predict: $(cat "$dir/err")"
build/ask --model_name_or_path "$model" --context "$dir/context.txt" --question "$question" --json \
    >"$dir/out" 2>"$dir/err" || bad "ask: $(cat "$dir/err")"
# Both logits of the best span, to the digit.
sum=$(sed -n 's/.*_logit": \(.*\),/\1/p' "$dir/answers/nbest_predictions.json" | head -n 2 \
    | awk '{ s += $1 } END { printf "%.4f", s }')
score=$(tr ',' '\n' <"$dir/out" | sed -n 's/ "span_score": //p' | head -n 1 \
    | awk '{ printf "%.4f", $1 }')
[ -n "$sum" ] && [ "$sum" = "$score" ] && ok || bad "ask scores $score, predict $sum"
grep -q '"start": [0-9]*, "end": [0-9]*, ' "$dir/out" && ok || bad "ask --json has no offsets"
# The offsets are the answer's place in the passage.
answer=$(sed 's/.*"answers": \[{"answer": "//; s/", "confidence.*//' "$dir/out")
gives 0 "%)" build/ask --model_name_or_path "$model" --context "$dir/context.txt" \
    --question "$question" --n_answers 1
says "1. $answer  ("
# Weights in bytes and in bf16: other scores, as predict's of that precision.
for dtype in int8 bf16; do
    gives 0 '"span_score": ' build/ask --model_name_or_path "$model" --context "$dir/context.txt" \
        --question "$question" --json --dtype $dtype
    other=$(tr ',' '\n' <"$dir/out" | sed -n 's/ "span_score": //p' | head -n 1 \
        | awk '{ printf "%.4f", $1 }')
    [ -n "$other" ] && [ "$other" != "$score" ] && ok || bad "ask --dtype $dtype scores $other"
done
gives 2 "--int8_keep: no such layer (found middle" build/ask --model_name_or_path "$model" \
    --context "$dir/context.txt" --question "$question" --dtype int8 --int8_keep middle
# Over the index: as many passages as there are at most; every answer names its passage.
gives 0 '"passage": "p' build/ask --model_name_or_path "$model" --index "$dir/index" --top_k 4 \
    --json --question "$question"
says '"retrieval_score": '
printf '%s\n\n%s\n' "$question" "$question" | build/ask --model_name_or_path "$model" \
    --index "$dir/index" --top_k 100 --json >"$dir/out" 2>"$dir/err"
[ $? = 0 ] && [ "$(wc -l <"$dir/out")" -eq 2 ] && [ "$(uniq "$dir/out" | wc -l)" -eq 1 ] && ok \
    || bad "two questions: $(cat "$dir/err")"
gives 0 "no answer" build/ask --model_name_or_path "$model" --index "$dir/index" \
    --question "qqqqqqqq zzzzzz"
gives 0 "no answer" build/ask --model_name_or_path "$model" --context "$dir/context.txt" \
    --question "$question" --version_2_with_negative --null_score_diff_threshold -1000
gives 2 "found neither" build/ask --model_name_or_path "$model" --question x
gives 2 "found both" build/ask --model_name_or_path "$model" --question x --context x --index y
printf 'abc\377' >"$dir/bad.txt"
gives 3 "is not UTF-8 (found byte ff at offset 3)" build/ask --model_name_or_path "$model" \
    --context "$dir/bad.txt" --question x

#---------------------------------------------------------------------------------------------------
# The README's reader, in C and in C++
#---------------------------------------------------------------------------------------------------
awk '/^```c$/ { text = ""; inside = 1; next }
     /^```$/ && inside { inside = 0; if (text ~ /mrc_reader_answer/) { printf "%s", text; exit } }
     inside { text = text $0 "\n" }' README.md >"$dir/example.c"
lines=$(wc -l <"$dir/example.c")
[ "$lines" -ge 10 ] && [ "$lines" -le 30 ] && ok || bad "the README's reader has $lines lines"
# shellcheck disable=SC2086
$CC -I. "$dir/example.c" -o "$dir/example" -lm -lpthread && ok || bad "example.c"
gives 0 "%" "$dir/example" "$model" "$question" "$(cat "$dir/context.txt")"
cp "$dir/out" "$dir/expected"
gives 1 "nowhere" "$dir/example" "$dir/nowhere" "$question" x
for cxx in c++ g++ clang++; do command -v $cxx >/dev/null && break; done
if command -v "$cxx" >/dev/null; then
    # The library stays C, in build/mrc.o; the program loses one line.
    { printf '#include <cstdio>\n#include <cstring>\n'; grep -v MRC_IMPLEMENTATION "$dir/example.c"
    } >"$dir/example.cc"
    $cxx -Wall -I. "$dir/example.cc" build/mrc.o -o "$dir/example_cxx" -lm -lpthread && ok \
        || bad "example.cc"
    gives 0 "%" "$dir/example_cxx" "$model" "$question" "$(cat "$dir/context.txt")"
    cmp -s "$dir/out" "$dir/expected" && ok || bad "C++ gives another answer"
else skip "no C++ compiler"; fi

end
