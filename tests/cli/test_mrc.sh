#!/bin/sh
# tests/cli/test_mrc.sh: the one program: names, links, help, manual pages, completion, version.
# Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
mrc=build/mrc



names=$($mrc help --names)
[ -n "$names" ] || bad "mrc help --names"

# By its name and by its link a program does the same, byte for byte: results, messages, codes.
both() {
    name=$1
    shift
    build/"$name" "$@" >"$dir/out.link" 2>"$dir/err.link" </dev/null; link=$?
    $mrc "$name" "$@" >"$dir/out.name" 2>"$dir/err.name" </dev/null; by_name=$?
    if [ $link = $by_name ] && cmp -s "$dir/out.link" "$dir/out.name" \
        && cmp -s "$dir/err.link" "$dir/err.name"; then ok
    else bad "build/$name $* and mrc $name $* differ"; fi
}
for name in $names; do
    if [ "$(readlink build/"$name")" = mrc ]; then ok; else bad "build/$name is no link"; fi
    both "$name" --help
    both "$name" --version
    both "$name"
    both "$name" --no_such_flag 1
    build/"$name" --help >"$dir/help"
    $mrc help "$name" >"$dir/helped"
    check "mrc help $name is $name --help" cmp "$dir/help" "$dir/helped"
    check "mrc help lists $name" sh -c "$mrc help | grep -q '^  $name '"

    # A manual page has every flag and, where groff is, no warning.
    $mrc help --man "$name" >"$dir/$name.1"
    for flag in $(sed -n 's/^  --\([A-Za-z0-9_]*\).*/\1/p' "$dir/help"); do
        if grep -qE '^\.B \\-\\-'"$flag"'( |$)' "$dir/$name.1"; then ok
        else bad "mrc help --man $name does not know --$flag"; fi
    done
    if command -v groff >/dev/null; then
        if [ -z "$(groff -man -ww -Tascii "$dir/$name.1" 2>&1 >/dev/null)" ]; then ok
        else bad "mrc help --man $name: groff warns"; fi
    fi
done
command -v groff >/dev/null || skip "no groff: warnings of manual pages"

refuses 2 "mrc: which program? (found nothing; \`mrc help\` lists all)" $mrc
refuses 2 "mrc: no such program (found trian, expected perhaps train; \`mrc help\` lists all)" \
    $mrc trian
refuses 2 "mrc: no such program (found x, expected another; \`mrc help\` lists all)" $mrc help x
refuses 2 "mrc: help: unknown flag (found --foo, expected --man [NAME], --markdown NAME, --names or \
--completion SHELL)" $mrc help --foo
refuses 2 "mrc: help --completion: no such shell (found csh, expected bash or zsh)" \
    $mrc help --completion csh
refuses 2 "mrc: help: one argument too many (found predict)" $mrc help train predict
for flag in --help -h help; do
    check "mrc $flag" sh -c "$mrc $flag | cmp - '$dir/list' || $mrc $flag >'$dir/list'"
done

# version: one thing a line.
$mrc version >"$dir/version"
for line in "mrc [0-9]*\.[0-9]*\.[0-9]*" "commit [0-9a-z]*" "naive" \
    "cpu baseline[ a-z0-9]* (here: [a-z0-9]*)"; do
    check "mrc version: $line" grep -q "^$line$" "$dir/version"
done
# What is linked is listed.
if command -v ldd >/dev/null; then
    ldd build/mrc 2>/dev/null >"$dir/linked"
    for library in mpi curl; do
        grep -q "lib$library[.-]" "$dir/linked" || continue
        check "mrc version lists $library" grep -qx "$library" "$dir/version"
    done
fi
check "mrc --version" sh -c "$mrc --version | cmp - '$dir/version'"

# The links and the name work from anywhere, also where mrc is found by PATH.
root=$(pwd)
(cd "$dir" && PATH=$root/build:$PATH mrc tok --help >"$dir/from_path")
check "mrc by PATH" sh -c "build/tok --help | cmp - '$dir/from_path'"

# Completion: programs, flags, the values of a choice, after "=" too.
completes() {
    expected=$1
    shift
    got=$(bash -c '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mrc
        printf "%s " "${COMPREPLY[@]}"' bash "$dir/complete.bash" "$@")
    if [ "$got" = "$expected " ]; then ok; else bad "completion of $*: $got"; fi
}
$mrc help --completion bash >"$dir/complete.bash"
if command -v bash >/dev/null; then
    completes "sweep" mrc sw
    completes "train" mrc help tra
    completes "linear" mrc train --head li
    completes "bilstm bigru" mrc train --head = bi
    completes "--max_seq_length" mrc predict --max_s
    completes "build.sh" mrc train --train_file build.s
    completes "tools" mrc predict --output_dir tool
else skip "no bash: completion"; fi
$mrc help --completion zsh >"$dir/_mrc"
check "zsh's completion begins as it must" sh -c "head -n 1 '$dir/_mrc' | grep -qx '#compdef mrc'"
if command -v zsh >/dev/null; then check "zsh -n" zsh -n "$dir/_mrc"; else skip "no zsh"; fi

end
