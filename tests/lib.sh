# What the shell tests share: a folder, and checks that are counted.  A test begins with
#     . "$(dirname "$0")/../lib.sh"
#     begin
# and ends with `end`.
# shellcheck source=tests/count.sh
. "$(dirname "$0")/../count.sh"
# end: the count, a test's last line, and its exit code.
end() { summary; exit; }

# begin: to the repository's root; $dir is a folder that goes away with the test, as do the
# processes whose numbers are in $running; $CC is a compiler.
begin() {
    cd "$(dirname "$0")/../.." || exit 2
    dir=$(mktemp -d) || exit 2
    running='' limit='' code='' program=''
    # shellcheck disable=SC2086
    trap '[ -z "$running" ] || kill -9 $running 2>/dev/null; rm -rf "$dir"' EXIT
    bound=$(command -v timeout >/dev/null && echo "timeout -k 5 60")
    for CC in ${CC:+"$CC"} cc gcc clang; do command -v "${CC%% *}" >/dev/null && break; done
    unset TERM
}

# run COMMAND..: its exit code in $code, its streams in $dir/out and $dir/err.  COMMAND may be a
# function of the test's, which then writes $limit before the program that it runs.
run() {
    case $limit:$(command -v "$1") in
    ?*:*/*) $limit "$@" ;;
    *)      "$@" ;;
    esac >"$dir/out" 2>"$dir/err" </dev/null
    code=$?
}
# bounded COMMAND..: run, but what goes on for a minute is ended, with timeout's exit code 124.
bounded() {
    limit=$bound
    run "$@"
    limit=
}
# shows: the last command's exit code and streams, below the line of a failure.
shows() {
    echo "    exit $code"
    sed 's/^/    out: /' "$dir/out" | tail -n 5
    sed 's/^/    err: /' "$dir/err" | tail -n 5
}

# works COMMAND..: exit code 0.
works() {
    run "$@"
    if [ "$code" = 0 ]; then ok; else bad "$*"; shows; fi
}
# says TEXT: the last command's streams hold it.
says() {
    if grep -qF -e "$1" "$dir/out" "$dir/err"; then ok; else bad "expected '$1'"; shows; fi
}
# gives CODE TEXT COMMAND..: that exit code, and TEXT somewhere in what it prints.
gives() {
    expected=$1 text=$2
    shift 2
    if [ "$expected" = 0 ]; then run "$@"; else bounded "$@"; fi
    if [ "$code" = "$expected" ] && grep -qF -e "$text" "$dir/out" "$dir/err"; then ok
    else bad "$*: expected exit $expected and '$text'"; shows; fi
}
# blames TEXT COMMAND..: whether the last line on stderr begins with the program's name, which is
# $program for a function of the test's, and holds TEXT.
blames() {
    case $(command -v "$2") in
    */*) set -- "$1" "$(basename "$2")" ;;
    *)   set -- "$1" "$program" ;;
    esac
    tail -n 1 "$dir/err" | grep "^$2: " | grep -qF -e "$1"
}
# fails CODE TEXT COMMAND..: that exit code, and a last line on stderr of the program's with TEXT.
# One that should fail and goes on instead is ended.
fails() {
    expected=$1 text=$2
    shift 2
    bounded "$@"
    if [ "$code" = "$expected" ] && blames "$text" "$@"; then ok
    else bad "$*: expected exit $expected and '$text'"; shows; fi
}
# refuses CODE TEXT COMMAND..: as fails, and that line is all that it prints.
refuses() {
    expected=$1 text=$2
    shift 2
    bounded "$@"
    if [ "$code" = "$expected" ] && blames "$text" "$@" && [ ! -s "$dir/out" ] \
        && [ "$(wc -l <"$dir/err")" -eq 1 ]; then ok
    else bad "$*: expected exit $expected and one line with '$text'"; shows; fi
}
# same A B: equal files.
same() {
    if cmp -s "$1" "$2"; then ok; else bad "$1 is not $2"; diff "$1" "$2" | head -n 5; fi
}
# check WHAT COMMAND..: it succeeds.
check() {
    what=$1
    shift
    if "$@" >"$dir/checked" 2>&1; then ok; else bad "$what"; sed 's/^/    /' "$dir/checked"; fi
}

# wait_for SECONDS COMMAND..: until COMMAND succeeds; fails when it has not in that time.
wait_for() {
    tries=$(($1 * 20))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.05
    done
}
# serves SERVE FLAG..: a service at a port of its own choice, as process $server; $port is empty
# where it has not said one in half a minute.
serves() {
    : >"$dir/out"                       # an earlier one's port stands there
    "$@" --port 0 --log errors >"$dir/out" 2>"$dir/err" &
    server=$! running=$! port=
    wait_for 30 served
    [ -n "$port" ]
}
served() {
    port=$(sed -n 's/.*"port": \([0-9]*\)}$/\1/p' "$dir/out")
    [ -n "$port" ] || ! kill -0 "$server" 2>/dev/null
}
