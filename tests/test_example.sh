#!/bin/sh
# The README's tokens, as they stand there: the program compiles with nothing but the header and runs.
# The last line is 'N passed, N failed'.
cd "$(dirname "$0")/.." || exit 2
passed=0 failed=0
ok()  { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAIL $*"; }
dir=build/test_example.$$
mkdir -p "$dir" || exit 5
trap 'rm -rf "$dir"' EXIT

# The block of C that prints tokens; tests/test_ask.sh has the one that answers.
awk '/^```c$/ { text = ""; inside = 1; next }
     /^```$/ && inside { inside = 0; if (text ~ /mrc_tokenizer_token/) { printf "%s", text; exit } }
     inside { text = text $0 "\n" }' README.md >"$dir/example.c"
if [ -s "$dir/example.c" ]; then ok; else bad "README.md has no C program"; fi
cc=${CC:-cc}
# shellcheck disable=SC2086
if $cc -I. "$dir/example.c" -o "$dir/example" -lm -lpthread; then ok; else bad "it does not compile"; fi
"$dir/example" >"$dir/out" && grep -q '^\[CLS\]$' "$dir/out" && grep -q '^\[SEP\]$' "$dir/out" \
    && ok || bad "it does not run: $(head -n 3 "$dir/out")"

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
