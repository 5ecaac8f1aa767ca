#!/bin/sh
# The README's tokens, as they stand there: the program compiles with nothing but the header and
# runs; and so does a head and a loss of a user's own, tests/examples/custom_head.c, with the library as an
# object.
# The last line is 'N passed, N failed'.
cd "$(dirname "$0")/../.." || exit 2
passed=0 failed=0
ok()  { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAIL $*"; }
dir=build/test_example.$$
mkdir -p "$dir" || exit 5
trap 'rm -rf "$dir"' EXIT

# The block of C that prints tokens; tests/cli/test_ask.sh has the one that answers.
awk '/^```c$/ { text = ""; inside = 1; next }
     /^```$/ && inside { inside = 0; if (text ~ /mrc_tokenizer_token/) { printf "%s", text; exit } }
     inside { text = text $0 "\n" }' README.md >"$dir/example.c"
if [ -s "$dir/example.c" ]; then ok; else bad "README.md has no C program"; fi
cc=${CC:-cc}
# shellcheck disable=SC2086
if $cc -I. "$dir/example.c" -o "$dir/example" -lm -lpthread; then ok; else bad "it does not compile"; fi
"$dir/example" >"$dir/out" && grep -q '^\[CLS\]$' "$dir/out" && grep -q '^\[SEP\]$' "$dir/out" \
    && ok || bad "it does not run: $(head -n 3 "$dir/out")"

# It checks its gradients against differences, and learns: the last loss is below half the first.
# shellcheck disable=SC2086
if $cc -std=c11 -Wall -Wextra -Werror -O2 tests/examples/custom_head.c build/mrc.o -o "$dir/head" -lm -lpthread
then ok; else bad "tests/examples/custom_head.c does not compile"; fi
"$dir/head" tests/golden/experiment/linear >"$dir/losses" 2>"$dir/err" \
    && awk 'NR == 1 { first = $1 } { last = $1 } END { exit !(NR == 80 && last < first / 2) }' \
        "$dir/losses" && ok || bad "custom_head: $(cat "$dir/err") $(tail -n 1 "$dir/losses")"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
