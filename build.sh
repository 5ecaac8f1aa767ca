#!/bin/sh
# Builds and checks everything.  ./build.sh help lists the verbs.
#
# Needs a C11 compiler and a POSIX shell, nothing else: no make, no network.
# CC chooses the compiler (default: the first of cc, gcc, clang), CFLAGS adds flags, JOBS is how
# many tests run at a time (default: the cores there are).
cd "$(dirname "$0")" || exit 2

STD="-std=c11"
WARN="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
LIBS="-lm -lpthread"
JOBS=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
OUT=build

say() { echo "$*" >&2; }
die() { code=$1; shift; echo "build.sh: $*" >&2; exit "$code"; }

find_cc() {
    for cc in ${CC:+"$CC"} cc gcc clang; do
        # shellcheck disable=SC2086
        if command -v ${cc%% *} >/dev/null 2>&1; then CC=$cc; return; fi
    done
    die 3 "no C compiler (found none of cc, gcc, clang; expected one, or CC=...)"
}

# newer TARGET SOURCE...: whether TARGET stands and no source is newer.
newer() {
    [ -e "$1" ] || return 1
    target=$1
    shift
    [ -z "$(find "$@" -newer "$target" 2>/dev/null)" ]
}

# compile TARGET ARGUMENTS...: whole or not at all.
compile() {
    target=$1
    shift
    # shellcheck disable=SC2086
    $CC $STD $WARN -pthread "$@" $CFLAGS -o "$target.tmp.$$" || { rm -f "$target.tmp.$$"; return 1; }
    mv -f "$target.tmp.$$" "$target"
}

#==============================================================================
# all: the library as one object, each tools/*.c a program
#==============================================================================
build_all() {
    find_cc
    mkdir -p "$OUT" || exit 5
    # Another compiler or other flags make everything anew.
    flags="$CC $STD $WARN $CFLAGS $($CC --version 2>/dev/null | head -n 1)"
    if [ "$(cat "$OUT/flags" 2>/dev/null)" != "$flags" ]; then
        rm -f "$OUT/mrc.o"
        echo "$flags" >"$OUT/flags"
    fi
    if ! newer "$OUT/mrc.o" mrc.h tools/mrc.c; then
        say "$CC mrc.o"
        compile "$OUT/mrc.o" -O3 -c tools/mrc.c || exit 3
    fi
    for source in tools/*.c; do
        name=$(basename "$source" .c)
        [ "$name" = mrc ] && continue
        newer "$OUT/$name" "$source" tools/tool.h "$OUT/mrc.o" && continue
        say "$CC $name"
        # shellcheck disable=SC2086
        compile "$OUT/$name" -O2 "$source" "$OUT/mrc.o" $LIBS || exit 3
    done
}

case ${1:-all} in
all) build_all ;;
clean) rm -rf "$OUT" ;;
*) die 2 "unknown verb (found $1, expected all or clean)" ;;
esac
