#!/bin/sh
# ./build.sh install and uninstall: what is there works from there, and nothing is left.  Run from
# the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

root=$(pwd)
prefix=$dir/pre\ fix
mkdir -p "$prefix/lib/keep" "$prefix/share"
before=$(find "$prefix" | sort)
check "install" env PREFIX="$prefix" ./build.sh install
if tail -n 1 "$dir/checked" | grep -q "^installed [0-9]* files below $prefix$"; then ok
else bad "the last line of install"; fi
for file in bin/mrc include/mrc.h lib/libmrc.so share/man/man1/mrc.1 share/man/man1/mrc-train.1 \
    share/bash-completion/completions/mrc share/zsh/site-functions/_mrc; do
    if [ -f "$prefix/$file" ]; then ok; else bad "install made no $file"; fi
done
if find "$prefix" -name '*.tmp.*' | grep -q .; then bad "something half-written"; else ok; fi

# From there, in another folder, by PATH.
check "mrc by PATH" sh -c "cd '$dir' && PATH='$prefix/bin':\$PATH mrc version"
if (cd "$dir" && echo hello | PATH="$prefix/bin:$PATH" mrc tok --tokenizer_name "$root/data" \
    >"$dir/tokens") && [ -s "$dir/tokens" ]; then ok; else bad "mrc tok from the prefix"; fi
cat >"$dir/use.c" <<'C'
#include <mrc.h>
int main(void) { mrc_ctx *ctx; if (mrc_ctx_new(&ctx, 0)) return 1; mrc_ctx_free(ctx); return 0; }
C
# shellcheck disable=SC2086
if $CC -std=c11 "$dir/use.c" -I "$prefix/include" -L "$prefix/lib" -Wl,-rpath,"$prefix/lib" -lmrc \
    -lm -lpthread -o "$dir/use" && "$dir/use"; then ok
else bad "a program with the installed header and library"; fi

python=${PYTHON:-python3}
if "$python" -c '' 2>/dev/null; then
    modules=$(dirname "$(find "$prefix" -name mrc.py)")
    cat >"$dir/use.py" <<'P'
import sys, mrc
assert mrc.__file__.startswith(sys.argv[1]), mrc.__file__
print(mrc.Tokenizer(sys.argv[2])("hello")["input_ids"])
P
    check "import mrc" sh -c "cd '$dir' && PYTHONPATH='$modules' \
        '$python' use.py '$prefix' '$root/data'"
else skip "no Python 3: import mrc"; fi

# Again, as an update does; then away.
check "install again" env PREFIX="$prefix" ./build.sh install
check "uninstall" env PREFIX="$prefix" ./build.sh uninstall
if [ "$(find "$prefix" | sort)" = "$before" ]; then ok
else bad "uninstall left something, or took too much"; find "$prefix"; fi
if PREFIX=$prefix ./build.sh uninstall >"$dir/out" 2>"$dir/err"; then bad "uninstall twice"
elif [ $? = 3 ] && grep -q 'nothing is installed below' "$dir/err"; then ok
else bad "uninstall twice"; fi

# Below DESTDIR, for a package.
check "install DESTDIR" env PREFIX=/usr DESTDIR="$dir/stage" ./build.sh install
if [ -x "$dir/stage/usr/bin/mrc" ] && ! grep -rq "$dir" "$dir/stage/usr/share"; then ok
else bad "DESTDIR"; fi
check "uninstall DESTDIR" env PREFIX=/usr DESTDIR="$dir/stage" ./build.sh uninstall
if [ ! -e "$dir/stage" ]; then ok; else bad "uninstall DESTDIR left something"; find "$dir/stage"; fi

if PREFIX=relative ./build.sh install >"$dir/out" 2>"$dir/err"; then bad "PREFIX=relative"
elif [ $? = 2 ] && grep -q 'PREFIX: no absolute path' "$dir/err"; then ok
else bad "PREFIX=relative"; cat "$dir/err"; fi

end
