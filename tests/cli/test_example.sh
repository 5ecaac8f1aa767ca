#!/bin/sh
# The examples: each compiles with nothing but the header (or the library as an object), runs, and
# says what the programs say; and the programs that the README shows are these, to the letter.
# Run after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
warn="-Wall -Wextra -Werror"

#---------------------------------------------------------------------------------------------------
# The README's whole programs are examples, but for the comment that opens an example
#---------------------------------------------------------------------------------------------------
awk -v dir="$dir" '
    /^```(c|cc|cpp|c\+\+|python)?$/ && !inside { text = ""; inside = 1; next }
    /^```$/ && inside {
        inside = 0
        if (text ~ /int main/) printf "%s", text >(dir "/readme" n++)
        next
    }
    inside { text = text $0 "\n" }' README.md
for example in tests/examples/*; do
    awk 'body || !/^\/\// { body = 1; print }' "$example" >"$dir/body.$(basename "$example")"
done
for shown in "$dir"/readme*; do
    [ -e "$shown" ] || { bad "README.md shows no program"; break; }
    same=
    for body in "$dir"/body.*; do cmp -s "$shown" "$body" && same=$body; done
    [ -n "$same" ] && ok || bad "README.md has a program that is no example: $(head -n 9 "$shown")"
done

#---------------------------------------------------------------------------------------------------
# They compile and run
#---------------------------------------------------------------------------------------------------
# shellcheck disable=SC2086
$CC -I. tests/examples/tokens.c -o "$dir/tokens" -lm -lpthread && ok \
    || bad "tokens.c does not compile"
"$dir/tokens" >"$dir/out" && grep -q '^\[CLS\]$' "$dir/out" && grep -q '^\[SEP\]$' "$dir/out" \
    && ok || bad "tokens: $(head -n 3 "$dir/out")"

# A head and a loss of one's own check their gradients against differences, and learn.
# shellcheck disable=SC2086
$CC -std=c11 $warn -O2 tests/examples/custom_head.c build/mrc.o -o "$dir/head" -lm -lpthread && ok \
    || bad "custom_head.c does not compile"
"$dir/head" tests/golden/experiment/linear >"$dir/losses" 2>"$dir/err" \
    && awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(NR == 80 && last < first / 2) }' \
        "$dir/losses" && ok || bad "custom_head: $(cat "$dir/err") $(tail -n 1 "$dir/losses")"

build/train --config_name data/config.json --tokenizer_name data --train_file data/train.jsonl \
    --output_dir "$dir/model" --max_steps 20 --learning_rate 1e-3 --save_steps 0 --seed 3 \
    >/dev/null 2>"$dir/err" || bad "train: $(tail -n 1 "$dir/err")"
head -n 1 data/question.jsonl >"$dir/row.jsonl"
question=$(sed 's/^.*"question": "\([^"]*\)".*$/\1/' "$dir/row.jsonl")
passage=$(sed 's/^.*"context": "\([^"]*\)".*$/\1/' "$dir/row.jsonl")
build/predict --model_name_or_path "$dir/model" --test_file "$dir/row.jsonl" \
    --output_dir "$dir/answers" 2>"$dir/err" || bad "predict: $(tail -n 1 "$dir/err")"
# As predictions.json has it, whose text is escaped.
expected=$(sed -n 's/^    "[^"]*": "\(.*\)"$/"\1"/p' "$dir/answers/predictions.json")

# shellcheck disable=SC2086
$CC -I. tests/examples/answer.c -o "$dir/answer" -lm -lpthread && ok \
    || bad "answer.c does not compile"
"$dir/answer" "$dir/model" "$question" "$passage" >"$dir/said" 2>"$dir/err" && ok \
    || bad "answer: $(cat "$dir/err")"
said=$(sed 's/ ([0-9]*%)$//' "$dir/said")
printf '{"x": "%s"}' "$said" >"$dir/said.json"
printf '{"x": %s}' "$expected" >"$dir/expected.json"
[ -n "$said" ] && [ "$(build/inspect --as json "$dir/said.json")" \
    = "$(build/inspect --as json "$dir/expected.json")" ] && ok \
    || bad "answer says '$said', predict $expected"
"$dir/answer" no/such/model q p >/dev/null 2>"$dir/err" && bad "a model that is not there" || ok
grep -q "no/such/model" "$dir/err" && ok || bad "it does not say what is not there: $(cat "$dir/err")"

cxx=${CXX:-$(command -v c++ || command -v g++ || command -v clang++)}
if [ -n "$cxx" ]; then
    # shellcheck disable=SC2086
    $cxx -std=c++11 -I. $warn tests/examples/answer.cc build/mrc.o -o "$dir/answer_cc" -lm \
        -lpthread && ok || bad "answer.cc does not compile"
    [ "$("$dir/answer_cc" "$dir/model" "$question" "$passage")" = "$said" ] && ok \
        || bad "answer.cc says something else"
else
    skip "no C++ compiler"
fi

# shellcheck disable=SC2086
$CC -std=c11 $warn tests/examples/http_client.c -o "$dir/http_client" && ok \
    || bad "http_client.c does not compile"
if [ -e build/serve ]; then
    serves build/serve --model_name_or_path "$dir/model" || bad "serve: $(cat "$dir/err")"
    "$dir/http_client" 127.0.0.1 "$port" "$question" "$passage" >"$dir/reply.json" 2>"$dir/err"
    [ $? = 0 ] && grep -qF "{\"answer\": \"$said\"" "$dir/reply.json" && ok \
        || bad "http_client: $(cat "$dir/err" "$dir/reply.json")"
    "$dir/http_client" 127.0.0.1 "$port" "" "$passage" >/dev/null 2>&1 && bad "no question" || ok
else
    skip "no libmicrohttpd: the HTTP client was compiled, not run"
fi

end
