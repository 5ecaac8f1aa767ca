#!/bin/sh
# tools/README.md lists the flags of every program as the program does: the parts between
# "<!-- mrc help --markdown NAME -->" and "<!-- end -->" are what that command prints.
#     sh tests/cli/test_manual.sh             checks
#     sh tests/cli/test_manual.sh --write     writes these parts anew
# Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
manual=tools/README.md


names=$(build/mrc help --names)
for name in $names; do build/mrc help --markdown "$name" >"$dir/$name.md" || bad "$name"; done

# The manual with its parts as they should be; a program that this build lacks keeps its part.
awk -v dir="$dir" '
    /^<!-- mrc help --markdown [a-z]+ -->$/ {
        print
        file = dir "/" $5 ".md"
        known = (getline line <file) > 0
        if (known) do print line; while ((getline line <file) > 0)
        close(file)
        inside = known
        next
    }
    /^<!-- end -->$/ { inside = 0 }
    !inside' "$manual" >"$dir/manual"
if [ "$1" = --write ]; then
    cp "$dir/manual" "$manual"
    exit
fi
if diff "$manual" "$dir/manual" >"$dir/diff"; then ok
else
    bad "$manual is not what the programs say: sh tests/cli/test_manual.sh --write writes it anew"
    head -n 12 "$dir/diff"
fi
for name in $names; do
    if grep -q "^<!-- mrc help --markdown $name -->\$" "$manual"; then ok
    else bad "$manual has no part for $name"; fi
    # No row is lost: each flag of --help has one.
    for flag in $(build/mrc help "$name" | sed -n '/^of every program:/,$d; s/^  --\([A-Za-z0-9_]*\).*/\1/p')
    do
        if grep -q "^| .--$flag. " "$dir/$name.md"; then ok; else bad "$name --$flag has no row"; fi
    done
done
[ "$(grep -c '^<!-- mrc help' "$manual")" = "$(grep -c '^<!-- end -->' "$manual")" ] && ok \
    || bad "$manual: a part has no end"

# A flag that a text names exists: each --word in a string of the programs is in the table of some
# program.  Not theirs are variables of the report's style sheet, flags of hf and of `mrc help`,
# that by which bench runs itself, and words that stand for any flag.  The library names no flag:
# whoever links it has others, or none.
texts() {
    cat "$@" | grep -oE '"([^"\\]|\\.)*"' | sed 's/var(--[a-z0-9]*//g; s/--[a-z0-9]*://g' \
        | grep -oE '(^|[^A-Za-z0-9_-])--[A-Za-z][A-Za-z0-9_]*' | sed 's/^[^-]*--//' | sort -u
}
for name in $names; do build/mrc help "$name"; done \
    | sed -n 's/^  --\([A-Za-z0-9_]*\).*/\1/p' >"$dir/flags"
sed -n 's/^| `--.*also //p' "$dir"/*.md | grep -oE -e '--[A-Za-z0-9_]+' | sed 's/--//' >>"$dir/flags"
printf '%s\n' help version local names man markdown completion worker name flag >>"$dir/flags"
[ "$(wc -l <"$dir/flags")" -gt 300 ] && ok || bad "flags: $(wc -l <"$dir/flags")"
for word in $(texts tools/*.[ch] backends/*.h); do
    if grep -qx -e "$word" "$dir/flags"; then ok
    else bad "no program has --$word: $(grep -n -e "\"[^\"]*--$word" tools/*.[ch] | head -n 1)"; fi
done
found=$(texts mrc.h | grep -v '^local$')
if [ -z "$found" ]; then ok; else bad "mrc.h's messages name flags of programs: $found"; fi

if [ -x build/serve ]; then ok; else skip "serve is not built here: its part is not checked"; fi

end
