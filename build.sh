#!/bin/sh
# Builds, runs and checks everything:
#     ./build.sh [all|demo|check|test [NAME]..|install|uninstall|lint|bench [--quick] [ROW]..|
#                 faults|fuzz|exhaustive|cuda_predict|coverage|clean]
#
# Needs a C11 compiler and a POSIX shell with awk, nothing else: no make, no network.  A verb's last
# line on stdout is its result.  tests/README.md says what each verb shows and how long it takes.
#     CC            the compiler (default: the first of cc, gcc, clang); CFLAGS adds flags
#     JOBS          how many compilations or tests run at a time (default: the processors)
#     WERROR        -Werror makes warnings errors, as check does; WERROR= check does without
#     OPENBLAS=0, CUDA=0, MICROHTTPD=0, MPI=0, NCCL=0     leave out what is found; MPICC=.. names
#                   MPI's compiler wrapper (mpicc of Open MPI or MPICH); CUDA=1 compiles CUDA
#                   without a driver too, NVCC=.. names its compiler; MRC_NCCL=.. is the folder
#                   that has NCCL's include/ and lib/, where it is not beside CUDA or the system's
#     PYTHON        runs the peers of bench; install puts the module where it looks
#     PREFIX, DESTDIR   where to install (default: /usr/local), and below what to put all of it
# This file builds and dispatches; tests/*.sh hold the verbs that check.
cd "$(dirname "$0")" || exit 2

STD="-std=c11"
WARN="-Wall -Wextra -Wpedantic -Wshadow -Wconversion"
LIBS="-lm -lpthread"
JOBS=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
OUT=build
VERBS="all, demo, check, test, install, uninstall, lint"
VERBS="$VERBS, bench, faults, fuzz, exhaustive, cuda_predict, coverage or clean"

say() { echo "$*" >&2; }
die() { code=$1; shift; echo "build.sh: $*" >&2; exit "$code"; }

# The first word of CC, as CC="ccache gcc" is allowed.
have() { command -v "${1%% *}" >/dev/null 2>&1; }

find_cc() {
    if [ -n "$CC" ]; then
        have "$CC" || die 3 "CC: no such compiler (found $CC, expected the name of a program)"
        return
    fi
    for CC in cc gcc clang; do have "$CC" && return; done
    die 3 "no C compiler (found none of cc, gcc, clang; expected one of them, or CC=...)"
}

# Sets BLAS, the flags of what may use OpenBLAS: empty where there is none.  It is loaded when asked
# for and never linked, so it is enough that a program here can load it and multiply.
find_openblas() {
    [ -z "${BLAS+set}" ] || return 0                # an outer build.sh has looked
    BLAS=
    if [ "$OPENBLAS" != 0 ]; then
        probe=$OUT/openblas-probe.$$
        cat >"$probe.c" <<'END'
#include "../mrc.h"
#include "../backends/openblas.h"
mrc_status mrc_backend_cpu_new(mrc_backend **out, const mrc_backend_desc *desc) {
    return out && desc ? MRC_OK : MRC_ERR_ARG;
}
void mrc_backend_free(mrc_backend *be) { if (be) be->destroy(be); }
int main(void) { return mrc_openblas_version() == 0; }
END
        for library in "" -ldl; do
            # shellcheck disable=SC2086
            $CC -w "$probe.c" $library -o "$probe" 2>/dev/null && "$probe" || continue
            BLAS="-DMRC_OPENBLAS $library"
            break
        done
        rm -f "$probe" "$probe.c"
    fi
    export BLAS
}

# Sets CURL_FLAGS, what links libcurl into index and search: empty where it is left out (CURL=0).
find_curl() {
    [ -z "${CURL_FLAGS+set}" ] || return 0
    CURL_FLAGS=
    probe=$OUT/curl-probe.$$
    printf '%s\n' '#include <curl/curl.h>' '#if LIBCURL_VERSION_NUM < 0x075500' '#error too old' \
        '#endif' 'int main(void) { return curl_global_init(0) != 0; }' >"$probe.c"
    if [ "$CURL" != 0 ] && $CC -w "$probe.c" -lcurl -o "$probe" 2>/dev/null; then
        CURL_FLAGS=-lcurl
    fi
    rm -f "$probe" "$probe.c"
    export CURL_FLAGS
}

# Sets HTTPD_FLAGS, what links libmicrohttpd into tools/serve.c: empty where it is left out.
find_http() {
    [ -z "${HTTPD_FLAGS+set}" ] || return 0
    HTTPD_FLAGS=
    probe=$OUT/http-probe.$$
    printf '%s\n' '#include <microhttpd.h>' '#if MHD_VERSION < 0x00097100' '#error too old' \
        '#endif' 'int main(void) { return MHD_get_version() == 0; }' >"$probe.c"
    if [ "$MICROHTTPD" != 0 ]; then
        # shellcheck disable=SC2086
        $CC -w "$probe.c" -lmicrohttpd -o "$probe" 2>/dev/null \
            && HTTPD_FLAGS="-I$OUT -lmicrohttpd"
    fi
    rm -f "$probe" "$probe.c"
    export HTTPD_FLAGS
}

# Sets MPI_FLAGS, what lets train run on several processes: empty where there is no MPI, or MPI=0.
# MPICC names a compiler wrapper, whose flags are asked for; else pkg-config, else mpicc.
find_mpi() {
    [ -z "${MPI_FLAGS+set}" ] || return 0
    MPI_FLAGS=
    probe=$OUT/mpi-probe.$$
    echo '#include <mpi.h>
int main(void) { int n; return MPI_Initialized(&n); }' >"$probe.c"
    for source in mpicc ompi-c mpich; do
        [ "$MPI" != 0 ] || break
        case $source in
        mpicc)
            wrapper=${MPICC:-mpicc}
            have "$wrapper" || continue
            flags=$("$wrapper" --showme:compile 2>/dev/null) \
                && flags="$flags $("$wrapper" --showme:link 2>/dev/null)" \
                || flags=$("$wrapper" -show 2>/dev/null | cut -d ' ' -f 2-) ;;
        *)  flags=$(pkg-config --cflags --libs "$source" 2>/dev/null) || continue ;;
        esac
        # shellcheck disable=SC2086
        $CC -w "$probe.c" $flags -o "$probe" 2>/dev/null || continue
        MPI_FLAGS="-DMRC_MPI $flags"
        break
    done
    rm -f "$probe" "$probe.c"
    export MPI_FLAGS
}

# nccl_flags NVCC: what finds <nccl.h> and the library, by MRC_NCCL or beside CUDA.
nccl_flags() {
    home=$(dirname "$(dirname "$(command -v "$1")")")
    flags="-isystem $home/include -L$home/lib64"
    [ -z "$MRC_NCCL" ] || flags="-isystem $MRC_NCCL/include -L$MRC_NCCL/lib $flags"
    [ -z "$MRC_NCCL" ] || flags="$flags -Wl,-rpath,$MRC_NCCL/lib"
    echo "$flags -l:libnccl.so.2"
}

# Sets NCCL_FLAGS, what lets train's ranks use a GPU each: empty where MPI, CUDA or NCCL (2.14 or
# later) is missing, or NCCL=0.
find_nccl() {
    [ -z "${NCCL_FLAGS+set}" ] || return 0
    NCCL_FLAGS=
    if [ "$NCCL" != 0 ] && [ -n "$MPI_FLAGS" ] && [ -n "$CUDA_FLAGS" ]; then
        probe=$OUT/nccl-probe.$$
        printf '%s\n' '#include <nccl.h>' '#if NCCL_VERSION_CODE < 21400' '#error too old' \
            '#endif' 'int main(void) { int version; return ncclGetVersion(&version); }' >"$probe.c"
        flags=$(nccl_flags "$(cuda_compiler)")
        # shellcheck disable=SC2086
        $CC -w "$probe.c" $flags -o "$probe" 2>/dev/null && NCCL_FLAGS="-DMRC_NCCL $flags"
        rm -f "$probe" "$probe.c"
    fi
    export NCCL_FLAGS
}

# left_out SOURCE: why one of the programs is not built here; nothing when it is.
left_out() {
    case $1 in
    */serve.c)
        [ -n "$HTTPD_FLAGS" ] || echo "no libmicrohttpd (0.9.71 or later, with its header)" ;;
    esac
}

# The page of tools/serve.c as bytes: a string may not be that long.
make_page() {
    newer "$OUT/page.h" tools/page.html && return
    { echo "static const unsigned char page_html[] = {"
      od -An -v -tu1 tools/page.html | sed 's/[0-9][0-9]*/&,/g'
      echo "};"
    } >"$OUT/page.h.$$" && mv -f "$OUT/page.h.$$" "$OUT/page.h"
}

CUDA_SOURCES="backends/cuda.cu backends/cuda.h backends/cuda/*.cuh tests/cuda/*.h
    tests/cuda/*.cu mrc.h"

# nvcc, or nothing: NVCC=.. says which, CUDA=0 leaves CUDA out.
cuda_compiler() {
    [ "$CUDA" != 0 ] || return 0
    for nvcc in "$NVCC" nvcc /usr/local/cuda/bin/nvcc; do
        [ -n "$nvcc" ] && have "$nvcc" && { echo "$nvcc"; return 0; }
    done
    return 0
}

# cuda_targets NVCC: which of the devices that the source is for it knows, as numbers.
cuda_targets() {
    known=$("$1" --list-gpu-code 2>/dev/null)
    for target in 70 80 90; do
        echo "$known" | grep -qx "sm_$target" && printf '%s ' "$target"
    done
}

# cuda_knows_90a NVCC: whether it makes code with the instructions that 9.0 alone has.
cuda_knows_90a() {
    release=$("$1" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    [ "${release:-0}" -ge 12 ]
}

# cuda_compile OBJECT: backends/cuda.cu for every device that nvcc knows; says which it left out.
# Of 9.0 with the instructions that it alone has, from CUDA 12 on.
cuda_compile() {
    nvcc=$(cuda_compiler) codes=
    targets=$(cuda_targets "$nvcc")
    for target in 70 80 90; do
        code=$target
        [ $target = 90 ] && cuda_knows_90a "$nvcc" && code=90a
        case " $targets" in
        *" $target "*) codes="$codes -gencode arch=compute_$code,code=sm_$code" ;;
        *) say "CUDA: this nvcc knows no sm_$target: the object is not for such devices" ;;
        esac
    done
    case " $targets" in
    *" 90 "*) codes="$codes -gencode arch=compute_90,code=compute_90" ;;       # later ones
    esac
    # Several devices at a time, where this nvcc can.
    "$nvcc" --help | grep -q -- '--threads ' && codes="$codes --threads 0"
    # shellcheck disable=SC2086
    "$nvcc" -std=c++17 -O3 ${WERROR:+-Werror all-warnings} -Xcompiler -Wall $codes \
        -c backends/cuda.cu \
        -o "$1.tmp.$$" && mv -f "$1.tmp.$$" "$1"
}

# cuda_flags NVCC OBJECT: what links an object of nvcc's into a program.
cuda_flags() {
    lib=$(dirname "$(dirname "$(command -v "$1")")")/lib64
    defined=$(cuda_targets "$1" | sed 's/\([0-9][0-9]*\)/-DMRC_CUDA_SM\1/g')
    echo "-DMRC_CUDA $defined $2 -L$lib -lcudart_static -lstdc++ -ldl -lrt"
}

# Sets CUDA_FLAGS, what links CUDA into a program: empty where it is left out.  A machine with nvcc
# but no driver compiles it only when asked with CUDA=1, as it could not run it.
find_cuda() {
    [ -z "${CUDA_FLAGS+set}" ] || return 0
    CUDA_FLAGS=
    nvcc=$(cuda_compiler)
    if [ -n "$nvcc" ] && { [ "$CUDA" = 1 ] || [ -e /dev/nvidiactl ]; }; then
        # shellcheck disable=SC2086
        if ! newer "$OUT/cuda.o" $CUDA_SOURCES; then
            say "$nvcc $OUT/cuda.o"
            cuda_compile "$OUT/cuda.o" || exit 3
        fi
        CUDA_FLAGS=$(cuda_flags "$nvcc" "$OUT/cuda.o")
    elif [ -z "$nvcc" ] && [ "$CUDA" != 0 ] && [ -e /dev/nvidiactl ]; then
        say "CUDA: this machine has a driver and no nvcc: --backend cuda is left out"
    elif [ -z "$nvcc" ] && [ "$CUDA" = 1 ]; then
        die 3 "CUDA=1: no nvcc (expected the CUDA toolkit, or NVCC=.. that names its compiler)"
    fi
    export CUDA_FLAGS
}

# newer TARGET SOURCE...: whether TARGET stands and no source is newer.
newer() {
    [ -e "$1" ] || return 1
    target=$1
    shift
    [ -z "$(find "$@" -newer "$target" 2>/dev/null)" ]
}

# compile CC TARGET ARGUMENTS...: the target appears whole or not at all.
compile() {
    compiler=$1 target=$2 libs=$LIBS
    shift 2
    case " $* " in *" -c "*) libs= ;; esac      # clang complains of libraries it does not link
    # shellcheck disable=SC2086
    if $compiler $STD $WARN $WERROR -pthread "$@" $CFLAGS $libs -o "$target.tmp.$$"; then
        mv -f "$target.tmp.$$" "$target"
    else
        rm -f "$target.tmp.$$"
        return 1
    fi
}

#===================================================================================================
# all: the library as one object, the programs as one executable, $OUT/mrc, with a link for each
#===================================================================================================
# The programs that are built here.
programs() {
    for source in tools/*.c; do
        name=$(basename "$source" .c)
        case $name in library|mrc) continue ;; esac
        [ -n "$(left_out "$source")" ] || echo "$name"
    done
}

# program_object NAME: $OUT/tools/NAME.o, where it is older than its sources.
program_object() {
    object=$OUT/tools/$1.o flags='' page=''
    case $1 in
    serve)
        flags="-I$OUT" page=$OUT/page.h
        [ -n "$CURL_FLAGS" ] && flags="$flags -DMRC_CURL" ;;
    train) flags="$MPI_FLAGS $NCCL_FLAGS -DMRC_COMMIT=\"$(cat "$OUT/commit")\"" page=$OUT/commit ;;
    ask|index|search) [ -n "$CURL_FLAGS" ] && flags=-DMRC_CURL ;;
    mrc)
        flags="-DMRC_COMMIT=$(cat "$OUT/commit")" page=$OUT/commit
        [ -n "$HTTPD_FLAGS" ] && flags="$flags -DMRC_HTTPD"
        [ -n "$MPI_FLAGS" ] && flags="$flags -DMRC_MPI"
        [ -n "$NCCL_FLAGS" ] && flags="$flags -DMRC_NCCL"
        [ -n "$CURL_FLAGS" ] && flags="$flags -DMRC_CURL" ;;
    esac
    # shellcheck disable=SC2086
    newer "$object" "tools/$1.c" tools/*.h mrc.h backends/*.h "$OUT/flags" \
        $page && return
    say "$CC $object"
    # shellcheck disable=SC2086
    compile "$CC" "$object" -O2 -c "tools/$1.c" $BLAS $CUDA_FLAGS $flags || rm -f "$object"
}

# The objects of all programs, JOBS at a time.
program_objects() {
    mkdir -p "$OUT/tools" || exit 5
    commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
    [ "$commit" = "$(cat "$OUT/commit" 2>/dev/null)" ] || echo "$commit" >"$OUT/commit"
    running=0
    for name in mrc $(programs); do
        program_object "$name" &
        running=$((running + 1))
        [ $((running % JOBS)) -ne 0 ] || wait
    done
    wait
}

build_all() {
    find_cc
    mkdir -p "$OUT" || exit 5
    find_openblas
    find_cuda
    find_http
    find_mpi
    find_nccl
    find_curl
    make_page || exit 5
    # Another compiler or other flags make everything anew.
    flags="$CC $STD $WARN $CFLAGS $BLAS $CUDA_FLAGS $HTTPD_FLAGS $CURL_FLAGS $MPI_FLAGS"
    flags="$flags $NCCL_FLAGS $($CC --version 2>/dev/null | head -n 1)"
    if [ "$(cat "$OUT/flags" 2>/dev/null)" != "$flags" ]; then
        rm -f "$OUT/mrc.o"
        echo "$flags" >"$OUT/flags"
    fi
    # One object for the program and the shared library: no call in it can be replaced from outside.
    if ! newer "$OUT/mrc.o" mrc.h tools/library.c tools/bindings.h; then
        say "$CC $OUT/mrc.o"
        compile "$CC" "$OUT/mrc.o" -O3 -fPIC -fno-semantic-interposition -c tools/library.c \
            || exit 3
    fi
    if ! newer "$OUT/libmrc.so" "$OUT/mrc.o"; then
        say "$CC $OUT/libmrc.so"
        compile "$CC" "$OUT/libmrc.so" -shared "$OUT/mrc.o" || exit 3
    fi
    program_objects
    objects=$OUT/mrc.o
    for name in mrc $(programs); do
        [ -e "$OUT/tools/$name.o" ] || exit 3
        objects="$objects $OUT/tools/$name.o"
    done
    # shellcheck disable=SC2086
    if ! newer "$OUT/mrc" $objects; then
        say "$CC $OUT/mrc"
        # shellcheck disable=SC2086
        compile "$CC" "$OUT/mrc" $objects $BLAS $CUDA_FLAGS $HTTPD_FLAGS $CURL_FLAGS \
            $MPI_FLAGS $NCCL_FLAGS || exit 3
    fi
    for source in tools/*.c; do
        name=$(basename "$source" .c)
        why=$(left_out "$source")
        case $name in library|mrc) continue ;; esac
        if [ -n "$why" ]; then
            say "$OUT/$name is left out: $why"
            rm -f "${OUT:?}/$name"
        elif [ "$(readlink "$OUT/$name" 2>/dev/null)" != mrc ]; then
            ln -sf mrc "$OUT/$name" || exit 5
        fi
    done
}

#===================================================================================================
# demo: train the reader on data/ from random weights, measure it, ask it the README's question
#===================================================================================================
DEMO_TRAIN=data/train.jsonl
DEMO_HELD_OUT=data/validation.jsonl
DEMO_QUESTION=data/question.jsonl               # one row: the README's passage, question, answer
DEMO_LIMIT=0.90                                 # exact match on held-out passages

# The options of the demo's training run; everything else is the default.
demo_train() {
    "$OUT/train" --config_name data/config.json --tokenizer_name data \
        --train_file "$DEMO_TRAIN" --validation_file "$DEMO_HELD_OUT" --output_dir "$1" \
        --head bilstm --num_rnn_layers 2 --rnn_hidden_size 64 --rnn_dropout 0 \
        --per_device_train_batch_size 8 --learning_rate 1e-3 --lr_scheduler_type linear \
        --warmup_steps 0 --weight_decay 0 --max_grad_norm 1 --num_train_epochs 3 \
        --logging_steps 500 --eval_steps 1000 --save_steps 100000 --seed 1
}

# demo_predict MODEL FILE DIR: predictions.json into DIR.
demo_predict() {
    "$OUT/predict" --model_name_or_path "$1" --test_file "$2" --output_dir "$3"
}

# The only answer in predictions.json, which is ASCII as Python writes it: \uXXXX into UTF-8.
only_answer() {
    LC_ALL=C awk '
        function unit(hex,   i, x) {
            for (i = 1; i <= 4; i++) x = x * 16 + index("0123456789abcdef", substr(hex, i, 1)) - 1
            return x
        }
        function utf8(x) {
            if (x < 128) return sprintf("%c", x)
            if (x < 2048) return sprintf("%c%c", 192 + int(x / 64), 128 + x % 64)
            return sprintf("%c%c%c", 224 + int(x / 4096), 128 + int(x / 64) % 64, 128 + x % 64)
        }
        sub(/^ *"[^"]*": *"/, "") {
            sub(/",?$/, "")
            while (match($0, /\\u[0-9a-f][0-9a-f][0-9a-f][0-9a-f]/)) {
                $0 = substr($0, 1, RSTART - 1) utf8(unit(substr($0, RSTART + 2, 4))) \
                    substr($0, RSTART + 6)
            }
            print
        }' "$1"
}

# The string under KEY in a file of one flat row without escapes.
json_string() { sed -n 's/.*"'"$1"'": *"\([^"]*\)".*/\1/p' "$2" | head -n 1; }

# Seconds since 1970, with a fraction where date knows one.
now() { date +%s.%N 2>/dev/null | sed 's/[^0-9.]//g; s/\.$//'; }

demo() {
    build_all
    dir=$OUT/demo
    rm -rf "$dir"
    begun=$(now)
    demo_train "$dir/model" || exit $?
    demo_predict "$dir/model" "$DEMO_HELD_OUT" "$dir/held_out" || exit $?
    scores=$("$OUT/evaluate" --metric korquad "$DEMO_HELD_OUT" "$dir/held_out/predictions.json") \
        || exit $?
    demo_predict "$dir/model" "$DEMO_QUESTION" "$dir/question" || exit $?
    answered=$("$OUT/evaluate" --metric korquad "$DEMO_QUESTION" \
        "$dir/question/predictions.json") || exit $?

    echo "passage:  $(json_string context "$DEMO_QUESTION")"
    echo "question: $(json_string question "$DEMO_QUESTION")"
    echo "answer:   $(only_answer "$dir/question/predictions.json")"
    # Ids of held-out questions stand one a line, as Python's indent=4 has it.
    echo "$scores" | awk -v questions="$(grep -c '^    "' "$dir/held_out/predictions.json")" \
        -v seconds="$begun $(now)" -v limit="$DEMO_LIMIT" -v answered="$answered" '{
        split(seconds, t, " ")
        sub(/.*"exact_match": */, ""); sub(/[,}].*/, "")
        right = answered ~ /"exact_match": 100/
        if (!right) print "the answer is wrong"
        printf "{\"exact_match\": %.4g, \"questions\": %d, \"seconds\": %.1f}\n",
            $0 / 100, questions, t[2] - t[1]
        exit !(right && $0 / 100 >= limit)
    }'
}

#===================================================================================================
# install, uninstall: bin/mrc, include/mrc.h, lib/libmrc.so, the Python module, manual pages and
# completion below PREFIX.  share/mrc/installed lists the files and folders that were made.
#===================================================================================================
install_begin() {
    PREFIX=${PREFIX:-/usr/local}
    case $PREFIX in
    /*) PREFIX=${PREFIX%/} ;;
    *) die 2 "PREFIX: no absolute path (found $PREFIX, expected one that begins with /)" ;;
    esac
    ROOT=${DESTDIR%/}
    MANIFEST=$ROOT$PREFIX/share/mrc/installed
}

# install_folder PATH: made with those above it; what was made goes to the list.
install_folder() {
    [ -d "$ROOT$1" ] && return
    if [ "$1" = / ]; then mkdir -p "$ROOT" || exit 5
    else
        install_folder "$(dirname "$1")"
        mkdir "$ROOT$1" || exit 5
    fi
    MADE="$1
$MADE"
}

# install_file SOURCE PATH MODE: it appears whole or not at all.
install_file() {
    install_folder "$(dirname "$2")"
    cp "$1" "$ROOT$2.tmp.$$" && chmod "$3" "$ROOT$2.tmp.$$" && mv -f "$ROOT$2.tmp.$$" "$ROOT$2" \
        || { rm -f "$ROOT$2.tmp.$$"; die 5 "$ROOT$2: cannot be written"; }
    FILES="$2
$FILES"
}

# Where PYTHON finds modules below PREFIX.
python_folder() {
    "${PYTHON:-python3}" -c 'import sys
prefix = sys.argv[1] + "/lib/python"
own = "%s%d.%d/site-packages" % ((prefix,) + sys.version_info[:2])
print(next((p for p in sys.path if p.startswith(prefix) and p.endswith("-packages")), own))
' "$PREFIX" 2>/dev/null
}

install_all() {
    install_begin
    build_all
    FILES='' MADE='' text=$OUT/install.$$
    trap 'rm -f "$text"' EXIT
    install_file "$OUT/mrc" "$PREFIX/bin/mrc" 755
    install_file mrc.h "$PREFIX/include/mrc.h" 644
    install_file "$OUT/libmrc.so" "$PREFIX/lib/libmrc.so" 755
    modules=$(python_folder)
    if [ -n "$modules" ]; then install_file tools/mrc.py "$modules/mrc.py" 644
    else say "no Python 3: the module is left out (PYTHON=.. names one)"; fi
    for name in '' $("$OUT/mrc" help --names); do
        # shellcheck disable=SC2086
        "$OUT/mrc" help --man $name >"$text" || exit 5
        install_file "$text" "$PREFIX/share/man/man1/mrc${name:+-$name}.1" 644
    done
    "$OUT/mrc" help --completion bash >"$text" || exit 5
    install_file "$text" "$PREFIX/share/bash-completion/completions/mrc" 644
    "$OUT/mrc" help --completion zsh >"$text" || exit 5
    install_file "$text" "$PREFIX/share/zsh/site-functions/_mrc" 644
    # A second install keeps what the first one made on the list.
    { cat "$MANIFEST" 2>/dev/null; printf '%s' "$FILES" | sed 's/^/file /'; } \
        | awk '!seen[$0]++' >"$text"
    install_file "$text" "$PREFIX/share/mrc/installed" 644
    printf '%s' "$MADE" | sed 's/^/folder /' >>"$MANIFEST" || exit 5
    say "$ROOT$PREFIX/bin/mrc: $("$OUT/mrc" version | head -n 1)"
    case $modules in
    '') ;;
    *) "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.argv[1] not in sys.path)' "$modules" \
        || say "Python finds the module with PYTHONPATH=$modules" ;;
    esac
    echo "installed $(printf '%s' "$FILES" | wc -l) files below $ROOT$PREFIX"
}

uninstall() {
    install_begin
    [ -f "$MANIFEST" ] || die 3 "$MANIFEST: not there: nothing is installed below $ROOT$PREFIX"
    list=$(cat "$MANIFEST")
    printf '%s\n' "$list" | sed -n 's/^file //p' | while read -r path; do
        rm -f "$ROOT$path" || exit 5
        case $path in
        */mrc.py)                               # and what Python has compiled of it
            rm -f "$ROOT${path%.py}.pyc" "$ROOT${path%/*}"/__pycache__/mrc.*.pyc
            rmdir "$ROOT${path%/*}/__pycache__" 2>/dev/null ;;
        esac
    done || exit 5
    rm -f "$MANIFEST"
    # Folders that install made and that are empty now, the deepest first.
    printf '%s\n' "$list" | sed -n 's/^folder //p' | awk '{ print length($0) " " $0 }' | sort -rn \
        | sed 's/^[0-9]* //' | while read -r path; do rmdir "$ROOT$path" 2>/dev/null; done
    files=$(printf '%s\n' "$list" | grep -c '^file ')      # beside the list itself
    echo "uninstalled $((files + 1)) files below $ROOT$PREFIX"
}

#===================================================================================================
# bench [--quick] [ROW]..: the table of ratios, build/bench.tsv
#===================================================================================================
bench() {
    build_all
    "$OUT/bench" --output_dir "$OUT" --python "${PYTHON:-python3}" "$@"
}

#===================================================================================================
# The verbs that check, each in a file of its own.
for part in run cuda fuzz coverage lint; do
    # shellcheck disable=SC1090
    . "tests/$part.sh"
done

verb=${1:-all}
[ $# -gt 0 ] && shift
case $verb in
test|run-job|run-object|bench|coverage) ;;              # run-*: what test gives to xargs
*) [ $# -eq 0 ] || die 2 "$verb: no argument expected (found $*)" ;;
esac
case $verb in
all)     build_all ;;
demo)    demo ;;
check)
    WERROR=${WERROR--Werror}            # of a compiler that is known; WERROR= for another
    export WERROR
    run_tests gcc sh lint ;;
test)    run_tests "$@" ;;
run-job) run_job "$1" "$2" ;;
run-object) run_object "$1" "$2" ;;
install) install_all ;;
uninstall) uninstall ;;
lint)    lint ;;
faults)  faults ;;
bench)   bench "$@" ;;
fuzz)    fuzz ;;
exhaustive) exhaustive ;;
cuda_predict) cuda_predict ;;
coverage) coverage "$@" ;;
clean)   rm -rf "$OUT" ;;
*)       die 2 "unknown verb (found $verb, expected $VERBS)" ;;
esac
