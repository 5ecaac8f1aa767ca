#!/bin/sh
# Builds and checks everything:
#     ./build.sh [all|demo|test [NAME]|lint|bench [--quick] [ROW]..|faults|fuzz|
#                 exhaustive|coverage|clean]
#
# Needs a C11 compiler and a POSIX shell with awk, nothing else: no make, no network.  CC chooses
# the compiler (default: the first of cc, gcc, clang), CFLAGS adds flags, JOBS is how many tests
# run at a time (default: the cores there are), OPENBLAS=0 leaves OpenBLAS out where it is found,
# CUDA=0 leaves CUDA out, CUDA=1 compiles it without a driver too (NVCC=.. names the compiler),
# MICROHTTPD=0 leaves build/serve out, PYTHON is who runs the peers of bench.  A verb's last line on
# stdout is its result.
cd "$(dirname "$0")" || exit 2

STD="-std=c11"
WARN="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror"
LIBS="-lm -lpthread"
JOBS=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
OUT=build
VERBS="all, demo, test, lint, bench, faults, fuzz, exhaustive, coverage or clean"

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

CUDA_SOURCES="backends/cuda.cu backends/cuda.h backends/cuda/*.cuh tests/cuda/* mrc.h build.sh"

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

# cuda_compile OBJECT: backends/cuda.cu for every device that nvcc knows; says which it left out.
cuda_compile() {
    nvcc=$(cuda_compiler) codes=
    targets=$(cuda_targets "$nvcc")
    for target in 70 80 90; do
        case " $targets" in
        *" $target "*) codes="$codes -gencode arch=compute_$target,code=sm_$target" ;;
        *) say "CUDA: this nvcc knows no sm_$target: the object is not for such devices" ;;
        esac
    done
    case " $targets" in
    *" 90 "*) codes="$codes -gencode arch=compute_90,code=compute_90" ;;       # later ones
    esac
    # Several devices at a time, where this nvcc can.
    "$nvcc" --help | grep -q -- '--threads ' && codes="$codes --threads 0"
    # shellcheck disable=SC2086
    "$nvcc" -std=c++17 -O3 -Werror all-warnings -Xcompiler -Wall $codes -c backends/cuda.cu \
        -o "$1.tmp.$$" && mv -f "$1.tmp.$$" "$1"
}

# cuda_flags NVCC OBJECT: what links an object of nvcc's into a program.
cuda_flags() {
    lib=$(dirname "$(dirname "$(command -v "$1")")")/lib64
    echo "-DMRC_CUDA $2 -L$lib -lcudart_static -lstdc++ -ldl -lrt"
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
    if $compiler $STD $WARN -pthread "$@" $CFLAGS $libs -o "$target.tmp.$$"; then
        mv -f "$target.tmp.$$" "$target"
    else
        rm -f "$target.tmp.$$"
        return 1
    fi
}

#===================================================================================================
# all: the library as one object, each tools/*.c a program
#===================================================================================================
build_all() {
    find_cc
    mkdir -p "$OUT" || exit 5
    find_openblas
    find_cuda
    find_http
    make_page || exit 5
    # Another compiler or other flags make everything anew.
    flags="$CC $STD $WARN $CFLAGS $BLAS $CUDA_FLAGS $HTTPD_FLAGS"
    flags="$flags $($CC --version 2>/dev/null | head -n 1)"
    if [ "$(cat "$OUT/flags" 2>/dev/null)" != "$flags" ]; then
        rm -f "$OUT/mrc.o"
        echo "$flags" >"$OUT/flags"
    fi
    if ! newer "$OUT/mrc.o" mrc.h tools/mrc.c; then
        say "$CC $OUT/mrc.o"
        compile "$CC" "$OUT/mrc.o" -O3 -c tools/mrc.c || exit 3
    fi
    for source in tools/*.c; do
        name=$(basename "$source" .c)
        [ "$name" = mrc ] && continue
        why=$(left_out "$source")
        if [ -n "$why" ]; then
            say "$OUT/$name is left out: $why"
            rm -f "${OUT:?}/$name"
            continue
        fi
        http='' page=''
        [ "$name" = serve ] && http=$HTTPD_FLAGS page=$OUT/page.h
        # shellcheck disable=SC2086
        newer "$OUT/$name" "$source" tools/*.h backends/openblas.h backends/cuda.h "$OUT/mrc.o" \
            $page && continue
        say "$CC $OUT/$name"
        # shellcheck disable=SC2086
        compile "$CC" "$OUT/$name" -O3 "$source" "$OUT/mrc.o" $BLAS $CUDA_FLAGS $http \
            || exit 3
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
# bench [--quick] [ROW]..: the table of ratios, build/bench.tsv
#===================================================================================================
bench() {
    build_all
    "$OUT/bench" --output_dir "$OUT" --python "${PYTHON:-python3}" "$@"
}

#===================================================================================================
# test [NAME]: every suite in every configuration, or those that NAME selects
#
# A job is a configuration and a suite.  It leaves a log whose last line says "N passed, N failed,
# N skipped"; a job without that line has died, which is a failure.  Configurations:
#     gcc, clang              tests/test_*.c at -O2
#     gcc-asan, clang-asan    the same under AddressSanitizer and UndefinedBehaviorSanitizer
#     gcc-tsan, clang-tsan    those that use several threads, under ThreadSanitizer
#     arm64                   some of them for aarch64 with NEON, by a cross compiler, under qemu
#     sh                      tests/test_*.sh, on the programs in build/
#     header-gcc, header-clang    mrc.h as C++ declarations, static, from another folder; tools
#     lint                    the style of the sources
#===================================================================================================
CUDA_CONFIGS="cuda-asan cuda-tsan cuda-gcc cuda-clang"
CONFIGS="gcc-asan clang-asan $CUDA_CONFIGS gcc-tsan clang-tsan gcc clang arm64 sh header-gcc
    header-clang lint"
TEST_LIMIT=1200                         # seconds a suite may run

# The C compiler of a configuration, and the C++ compiler that goes with it.
config_cc() {
    case $1 in
    arm64)      echo aarch64-linux-gnu-gcc ;;
    cuda-clang) echo clang ;;
    cuda-*)     echo gcc ;;
    *)          echo "${1%%-*}" ;;
    esac
}
config_cxx() { config_cc "$1" | sed 's/gcc/g++/; s/clang/clang++/'; }

# The flags of a configuration.  Sanitizers make gcc suspect what it does not suspect without them;
# warnings are the business of the plain configurations.
config_flags() {
    case $1 in
    *-asan) echo "-w -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined" \
                 "-fno-sanitize-recover=all" ;;
    *-tsan) echo "-w -O1 -g -fsanitize=thread" ;;
    arm64)  echo "-O2 -static" ;;       # then qemu needs no libraries of that architecture
    *)      echo "-O2" ;;
    esac
}

ARM64_SUITES="test_kernels test_ops test_model"     # all kernels, and both models; two minutes

# Those that only the CUDA source has.
cuda_suites() { for f in tests/test_cuda*.c; do basename "$f" .c; done; }

# Suites of a configuration, one a line.
suites() {
    case $1 in
    sh)       for f in tests/test_*.sh; do [ -e "$f" ] && basename "$f" .sh; done ;;
    lint)     echo lint ;;
    header-*) echo header ;;
    cuda-tsan) cuda_suites ;;           # the kernels that share memory, small
    cuda-gcc) echo test_ops test_model test_experiment $(cuda_suites) cuda_planted cuda_nvcc \
                  cuda_volta ;;
    cuda-*)   echo test_ops $(cuda_suites) ;;
    arm64)    for name in $ARM64_SUITES; do echo "$name"; done ;;
    *-tsan)   grep -l 'pthread_create\|threads' tests/test_*.c | sed 's/.*\///; s/\.c$//' \
                  | grep -v '^test_cuda\|^test_faults' ;;
    *)        for f in tests/test_*.c; do basename "$f" .c; done | grep -v '^test_cuda' ;;
    esac
}

# Why a configuration cannot run here; nothing when it can.  Some kernels lay memory out in ways
# that a sanitizer's runtime refuses, so it is tried.
config_missing() {
    case $1 in
    sh|lint) return ;;
    header-*) have "${1#header-}" || echo "no ${1#header-}"; return ;;
    esac
    if ! have "$(config_cc "$1")"; then echo "no $(config_cc "$1")"; return; fi
    case $1 in
    arm64) have qemu-aarch64 || echo "no qemu-aarch64" ;;
    cuda-*) if ! have "$(config_cxx "$1")"; then echo "no $(config_cxx "$1")"; return; fi ;;
    esac
    case $1 in
    *-asan|*-tsan)
        probe=$OUT/test/probe-$1
        echo 'int main(void) { return 0; }' >"$probe.c"
        # shellcheck disable=SC2046
        "$(config_cc "$1")" $(config_flags "$1") "$probe.c" -o "$probe" >/dev/null 2>&1 \
            && "$probe" >/dev/null 2>&1 || echo "this compiler or machine cannot run -fsanitize" ;;
    esac
}

# Runs in front of what it is given, where there is such a program.
limited() {
    if have timeout; then timeout -k 10 "$TEST_LIMIT" "$@"; else "$@"; fi
}

# Kernels, which take ten times as long to compile as the rest, are compiled once for all suites of
# a configuration; suites that call public functions only share one mrc.o as well.
SPLIT='-DMRC_SELF="tests/kernels.h"'
is_linked() { grep -q '^#define TEST_LINKED' "tests/$1.c"; }
run_object() {
    mkdir -p "$OUT/test/$1"
    object=$OUT/test/$1/$2.o flags="$SPLIT -Wno-unused-function" source=tools/mrc.c
    [ "$2" = mrc ] || flags='' source=tests/kernels.c
    if [ "$2" = cuda ]; then cuda_object "$1" "$object"; return; fi
    newer "$object" mrc.h "$source" tests/kernels.h build.sh && return
    # shellcheck disable=SC2046,SC2086
    compile "$(config_cc "$1")" "$object" $(config_flags "$1") $flags -c "$source"
}

# run_suite CONFIG SUITE: the job itself, its output going to the log.
run_suite() {
    case $1 in
    sh)       limited sh "tests/$2.sh"; return ;;
    lint)     lint; return ;;
    header-*) check_header "${1#header-}"; return ;;
    cuda-*)   run_cuda_suite "$1" "$2"; return ;;
    esac
    binary=$OUT/test/$1/$2 emulator='' blas=$BLAS objects=$OUT/test/$1/kernels.o
    [ "$1" = arm64 ] && emulator=qemu-aarch64 blas=''
    run_object "$1" kernels || return 1
    if is_linked "$2"; then
        run_object "$1" mrc || return 1
        objects="$OUT/test/$1/mrc.o $objects"
    fi
    if ! newer "$binary" "tests/$2.c" tests/*.h backends/*.h mrc.h build.sh; then
        # shellcheck disable=SC2046,SC2086
        compile "$(config_cc "$1")" "$binary" $(config_flags "$1") $SPLIT \
            "tests/$2.c" $objects $blas || return 1
    fi
    # shellcheck disable=SC2086
    MRC_TEST_CONFIG=$1 limited $emulator "$binary"
}

# The CUDA source compiled for the CPU, with a test or, for planted bugs, a program of its own.
CUDA_WARN="-std=c++17 -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-unused-function
    -Wno-pass-failed"
cuda_object() {
    # shellcheck disable=SC2086
    newer "$2" $CUDA_SOURCES && return
    # shellcheck disable=SC2046,SC2086
    "$(config_cxx "$1")" $CUDA_WARN $(config_flags "$1") -x c++ -Itests/cuda -c backends/cuda.cu \
        -o "$2.$$" && mv -f "$2.$$" "$2"
}
run_cuda_suite() {
    cxx=$(config_cxx "$1") dir=$OUT/test/$1
    case $2 in
    cuda_planted) cuda_planted "$cxx" "$dir"; return ;;
    cuda_nvcc)    cuda_nvcc "$dir"; return ;;
    cuda_volta)   cuda_volta "$dir"; return ;;
    esac
    run_object "$1" cuda && run_object "$1" kernels || return 1
    if ! newer "$dir/$2" "tests/$2.c" tests/*.h "$dir/cuda.o" "$dir/kernels.o"; then
        # shellcheck disable=SC2046,SC2086
        "$(config_cc "$1")" $STD $WARN -pthread $(config_flags "$1") -DMRC_TEST_CUDA $SPLIT \
            -c "tests/$2.c" -o "$dir/$2.o" \
            && "$cxx" $(config_flags "$1") "$dir/$2.o" "$dir/cuda.o" "$dir/kernels.o" $LIBS \
                -o "$dir/$2" || return 1
    fi
    MRC_TEST_CONFIG=$1 limited "$dir/$2"
}

# Bugs that are in the source behind macros, each with the sanitizer or schedule that must catch it;
# the same program without a bug must pass.
cuda_planted() {
    for bug in NONE NO_BARRIER TAIL NO_RELEASE NO_WAIT; do
        case $bug in
        NO_RELEASE) flags="-O1 -g -fsanitize=thread" ;;
        TAIL)       flags="-O1 -g -fsanitize=address" ;;
        *)          flags="-O1" ;;
        esac
        # shellcheck disable=SC2086
        "$1" $CUDA_WARN $flags -DMRC_CUDA_BUG_$bug -x c++ -Itests/cuda tests/cuda/planted.cu \
            -o "$2/planted-$bug" || { bad "planted.cu with $bug does not compile"; continue; }
        "$2/planted-$bug" >"$2/planted-$bug.out" 2>&1
        code=$?
        case $bug in
        NONE) [ $code -eq 0 ] && ok || bad "planted.cu without a bug: exit code $code" ;;
        *)    [ $code -ne 0 ] && ok || bad "the planted bug $bug goes unnoticed" ;;
        esac
    done
    summary
}

# Whether nvcc takes the source, for the devices it knows, with its warnings as errors; and whether
# a program that has its object says on a machine without a driver what it misses.
cuda_nvcc() {
    if [ -z "$(cuda_compiler)" ]; then
        skip "no nvcc: the CUDA source for devices"
        summary
        return
    fi
    if cuda_compile "$1/cuda-device.o"; then ok; else bad "nvcc: backends/cuda.cu"; fi
    # shellcheck disable=SC2046
    if run_object cuda-gcc mrc && run_object cuda-gcc kernels \
        && compile gcc "$1/train" -O1 tools/train.c "$1/mrc.o" "$1/kernels.o" \
            $(cuda_flags "$(cuda_compiler)" "$1/cuda-device.o"); then ok
    else bad "train with CUDA"; fi
    if [ -e /dev/nvidiactl ]; then
        skip "this machine has a driver: what programs say without one"
    else
        "$1/train" --backend cuda --config_name data/config.json --tokenizer_name data \
            --train_file data/train.jsonl --output_dir "$1/run" >"$1/train.out" 2>&1
        code=$?
        if [ $code -eq 3 ] && [ "$(wc -l <"$1/train.out")" -eq 1 ] \
            && grep -q 'no CUDA driver.*(found cuda, expected' "$1/train.out"; then ok
        else bad "train --backend cuda without a driver: exit code $code, $(cat "$1/train.out")"; fi
    fi
    summary
}

# What CUDA 11.8's ptxas makes of it for Volta: nothing spills, and f16 goes to tensor cores.
# MRC_CUDA11 is a folder that ../shared/cuda/get_cu118.sh has filled; nothing is downloaded here.
cuda_volta() {
    if [ ! -x "$MRC_CUDA11/nvcc70" ]; then
        skip "MRC_CUDA11 names no CUDA 11.8: what its compiler makes of the kernels for sm_70"
        summary
        return
    fi
    if "$MRC_CUDA11/nvcc70" -std=c++17 -O3 -arch=sm_70 -cubin -Xptxas -v -o "$1/cuda70.cubin" \
        backends/cuda.cu >"$1/cuda70.txt" 2>&1; then ok; else bad "sm_70: backends/cuda.cu"; fi
    none "kernels of products, attention, LSTM and GRU spill no register on sm_70" awk '
        /Function properties for/ { name = $NF }
        /bytes spill/ && name ~ /gemm|attention|rnn/ && !/ 0 bytes spill stores, 0 bytes spill/ {
            print name ": " $0
        }' "$1/cuda70.txt"
    "$MRC_CUDA11/usr/bin/nvdisasm" "$1/cuda70.cubin" 2>/dev/null >"$1/cuda70.sass"
    none "every kernel of products, LSTM and GRU in f16 uses HMMA.884 on sm_70" awk '
        function close_kernel() {
            if (name ~ /(gemm|rnn_register)_kernel.*half.*Li70E/) {
                kernels++
                if (!found) print name
            }
        }
        /^\.text\./ { close_kernel(); name = $1; found = 0 }
        /HMMA\.884/ { found = 1 }
        END { close_kernel(); if (!kernels) print "no such kernel" }' "$1/cuda70.sass"
    rm -f "$1/cuda70.sass"
    summary
}

# One job: runs, counts, and says how it went.
run_job() {
    log=$OUT/test/$1/$2.log
    begun=$(date +%s)
    run_suite "$1" "$2" >"$log" 2>&1
    code=$?
    seconds=$(($(date +%s) - begun))
    line='s/^\([0-9]*\) passed, \([0-9]*\) failed'
    counts=$(tail -n 1 "$log" | sed -n "$line\$/\1 \2 0/p
        $line, \([0-9]*\) skipped\$/\1 \2 \3/p")
    # shellcheck disable=SC2086
    set -- "$1" "$2" $counts
    # What was skipped, and each failure with the lines that explain it.
    report=$(awk '/^SKIP/ && ++skips <= 20 { print }
        /^FAIL/ { if (++fails <= 20) lines = 8 }
        lines > 0 && !/ passed, .* failed/ { print; lines-- }' "$log")
    if [ $# -lt 5 ]; then
        set -- "$1" "$2" 0 1 0
        report="FAIL $1 $2 ended without a result, exit code $code
$(tail -n 40 "$log")"
    elif [ "$4" -eq 0 ] && [ $code -ne 0 ]; then
        set -- "$1" "$2" "$3" 1 "$5"
        report="FAIL $1 $2: nothing failed, but exit code $code
$(tail -n 10 "$log")"
    fi
    echo "$3 $4 $5" >"$OUT/test/$1/$2.count"
    printf '%s\n' "$1 $2: $3 passed, $4 failed, $5 skipped ($seconds s)${report:+
$report}"
}

run_tests() {
    wanted=$1 skipped=0 jobs=
    mkdir -p "$OUT/test" || exit 5
    for config in $CONFIGS; do
        chosen=
        for suite in $(suites "$config"); do
            case $wanted in
            ''|"$config"|"$suite"|"${suite#test_}") chosen="$chosen $suite" ;;
            cuda) case $config in cuda-*) chosen="$chosen $suite" ;; esac ;;
            esac
        done
        [ -n "$chosen" ] || continue
        missing=$(config_missing "$config")
        if [ -n "$missing" ]; then
            for suite in $chosen; do skipped=$((skipped + 1)); done
            echo "SKIP $config: $missing; not run:$chosen"
            continue
        fi
        mkdir -p "$OUT/test/$config"
        for suite in $chosen; do
            rm -f "$OUT/test/$config/$suite.count"
            jobs="$jobs$config $suite
"
        done
    done
    if [ "$jobs$skipped" = 0 ]; then
        die 2 "test: no such suite (found $wanted, expected $(echo "$CONFIGS" | sed 's/ /, /g')" \
            "or the name of a test)"
    fi
    build_all
    # First what several jobs need; one that cannot be built fails its jobs.
    printf '%s' "$jobs" | while read -r config suite; do
        [ -e "tests/$suite.c" ] || continue
        echo "$config kernels"
        case $config in cuda-*) echo "$config cuda"; continue ;; esac
        ! is_linked "$suite" || echo "$config mrc"
    done | sort -u | xargs -P "$JOBS" -n 2 ./build.sh run-object 2>/dev/null
    printf '%s' "$jobs" | xargs -P "$JOBS" -n 2 ./build.sh run-job
    printf '%s' "$jobs" | while read -r config suite; do
        cat "$OUT/test/$config/$suite.count" 2>/dev/null || echo "0 1 0"
    done | awk -v skipped="$skipped" '
        { passed += $1; failed += $2; skipped += $3 }
        END {
            printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
            exit failed > 0
        }'
}

#===================================================================================================
# faults: every place where memory, a system call, the disk or a process can fail
#
# The same suites as in test, which takes a part of the places: some minutes, so for changes of how
# files are read, written or resumed from, and before a release.
#===================================================================================================
faults() {
    build_all
    MRC_FAULTS=full
    export MRC_FAULTS
    for job in gcc:test_faults gcc-asan:test_faults gcc:test_checkpoint sh:test_train; do
        config=${job%:*} suite=${job#*:}
        missing=$(config_missing "$config")
        if [ -n "$missing" ]; then echo "SKIP $config: $missing"; continue; fi
        mkdir -p "$OUT/test/$config" || exit 5
        run_job "$config" "$suite"
        [ "$config" = sh ] || grep -v '^FAIL\|^SKIP\| passed, ' "$OUT/test/$config/$suite.log"
        cat "$OUT/test/$config/$suite.count" >>"$OUT/test/faults.counts.$$"
    done
    awk '{ p += $1; f += $2; s += $3 }
        END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 }' \
        "$OUT/test/faults.counts.$$"
    code=$?
    rm -f "$OUT/test/faults.counts.$$"
    return $code
}

#===================================================================================================
# exhaustive: what is proved by trying everything, where that takes longer than a test may
#
# All 2^32 strings of four bytes through the UTF-8 validator.  After a change to impl.utf8.
#===================================================================================================
exhaustive() {
    build_all
    mkdir -p "$OUT/test/gcc" || exit 5
    MRC_EXHAUSTIVE=1 run_job gcc test_text
    grep '^utf8' "$OUT/test/gcc/test_text.log"
    tail -n 1 "$OUT/test/gcc/test_text.log"
    read -r _ failed _ <"$OUT/test/gcc/test_text.count"
    [ "$failed" -eq 0 ]
}

#===================================================================================================
# fuzz: every tests/fuzz_*.c, FUZZ_RUNS mutations each (default 100000), under ASan and UBSan
#
# FUZZER=libfuzzer takes clang's, which is led by coverage, in place of the targets' own driver.
#===================================================================================================
# Seeds that C strings cannot hold, or that a program here writes, each in the folder of its target.
fuzz_make_seeds() {
    seeds=$OUT/fuzz/seeds fixtures=tests/fixtures
    newer "$seeds/done" build.sh && return
    for target in index weights tokenizer torch dataset; do
        mkdir -p "$seeds/$target" || exit 5
    done
    printf '1\tthe king of a city 1.\n2\ta \355\225\234\352\265\255 city\n' \
        >"$seeds/corpus.tsv"
    for analyzer in whitespace char_bigram korean; do
        "$OUT/index" --passages "$seeds/corpus.tsv" --analyzer $analyzer \
            --output "$seeds/made" >/dev/null 2>&1 || exit 3
        mv "$seeds/made/index.bin" "$seeds/index/$analyzer"
    done
    for name in x y; do
        header="{\"$name\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}"
        printf '\066\0\0\0\0\0\0\0%s1234' "$header" >"$seeds/$name"
    done
    {
        printf '{"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}\036'
        cat "$seeds/x"
        printf '\036'
        cat "$seeds/y"
    } >"$seeds/weights/two"
    {
        printf '{"_data_files":[{"filename":"a.arrow"}],"_indices_data_files":null}\036'
        cat $fixtures/types.arrow
    } >"$seeds/dataset/folder"
    for file in vocab.json merges.txt tokenizer_config.json; do
        cat "$fixtures/tokenizer/bytes/$file"
        [ $file = tokenizer_config.json ] || printf '\036'
    done >"$seeds/tokenizer/bytes"
    {
        printf '{"added_tokens":[{"id":0,"content":"<s>","special":true}],"normalizer":null,'
        printf '"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},'
        printf '"post_processor":{"type":"RobertaProcessing","sep":["</s>",2],"cls":["<s>",0],'
        printf '"trim_offsets":true,"add_prefix_space":false},"model":{"type":"BPE","dropout":null,'
        printf '"unk_token":null,"byte_fallback":false,"merges":["h e",["l","l"]],"vocab":'
        cat $fixtures/tokenizer/bytes/vocab.json
        printf '}}'
    } >"$seeds/tokenizer/bytes.json"
    fuzz_torch_seed >"$seeds/torch/legacy"
    touch "$seeds/done"
}

# PyTorch's old stream, which has no checksums: a tensor, a parameter, sizes, numbers of each kind.
fuzz_torch_seed() {
    odict='ccollections\nOrderedDict\n)R'
    storage='(X\007\000\000\000storagectorch\nFloatStorage\nX\001\000\000\0000'
    storage="${storage}X\003\000\000\000cpuK\002NtQ"
    tensor="ctorch._utils\n_rebuild_tensor_v2\n(${storage}K\000K\002\205K\001\205\211${odict}tR"
    printf '\200\002\212\012l\374\234F\371 j\250P\031.\200\002M\351\003.'
    printf '\200\002}X\015\000\000\000little_endian\210s.'
    printf '\200\002}('
    printf "X\001\000\000\000a${tensor}q\000"
    printf "X\001\000\000\000bctorch._utils\n_rebuild_parameter\n(${tensor}\210${odict}tR"
    printf 'X\001\000\000\000cctorch\nSize\nK\001K\002\206\205R'
    printf 'X\001\000\000\000dctorch\nSize\n](K\001K\002e\205R'
    printf 'X\001\000\000\000e(G\000\000\000\000\000\000\000\000\212\002\001\001J\001\000\000\000Nt'
    printf 'X\001\000\000\000f]K\001aX\001\000\000\000gK\001K\002K\003\207'
    printf 'u.\200\002](X\001\000\000\0000e.\002\000\000\000\000\000\000\00012345678'
}

# The seeds of a target, where ../shared is; each has a few of its own.
fuzz_seeds() {
    cases=${MRC_SHARED:-../shared}/cases
    case $1 in
    json)        echo "$cases/json" ;;
    yaml)        find "$cases/yaml" -name in.yaml 2>/dev/null ;;
    dataset)     echo "$cases/squad tests/fixtures/small.arrow tests/fixtures/types.arrow \
                     $OUT/fuzz/seeds/dataset" ;;
    safetensors) echo "$cases/safetensors" ;;
    torch)       echo "$cases/torch $cases/torch_real $OUT/fuzz/seeds/torch" ;;
    tokenizer)   echo "data/vocab.txt tests/fixtures/tokenizer/uncased/tokenizer.json \
                     tests/fixtures/tokenizer/prefix/tokenizer.json $OUT/fuzz/seeds/tokenizer" ;;
    config)      echo data/config.json ;;
    utf8)        echo "$cases/utf8" ;;
    index)       echo "$OUT/fuzz/seeds/index" ;;
    weights)     echo "$OUT/fuzz/seeds/weights" ;;
    esac
}

# fuzz_compile TARGET SOURCE: the target, and for libFuzzer a second with its main.
fuzz_compile() {
    # shellcheck disable=SC2046
    compile "${fuzz_config%-asan}" "$1" $(config_flags $fuzz_config) "$2" \
        "$OUT/test/$fuzz_config/mrc.o" "$OUT/test/$fuzz_config/kernels.o" || exit 3
    [ "$FUZZER" = libfuzzer ] || return 0
    # shellcheck disable=SC2046
    compile clang "$1-libfuzzer" $(config_flags clang-asan) -fsanitize=fuzzer -DFUZZ_LIBFUZZER \
        "$2" "$OUT/fuzz/mrc-libfuzzer.o" || exit 3
}

fuzz_begin() {
    mkdir -p "$OUT/fuzz" || exit 5
    fuzz_config=gcc-asan
    have gcc || fuzz_config=clang-asan
    case $FUZZER in
    '') ;;
    libfuzzer)
        have clang || die 3 "FUZZER: no clang, which libFuzzer comes with (unset FUZZER for the" \
            "targets' own driver)"
        newer "$OUT/fuzz/mrc-libfuzzer.o" mrc.h tools/mrc.c build.sh \
            || compile clang "$OUT/fuzz/mrc-libfuzzer.o" $(config_flags clang-asan) \
                -fsanitize=fuzzer-no-link -c tools/mrc.c || exit 3 ;;
    *) die 2 "FUZZER: unknown (found $FUZZER, expected libfuzzer or nothing)" ;;
    esac
    run_object $fuzz_config mrc && run_object $fuzz_config kernels || exit 3
    fuzz_make_seeds
}

# fuzz_run NAME: the target of tests/fuzz_NAME.c, its output going to a log.
fuzz_run() {
    target=$OUT/fuzz/fuzz_$1 runs=${FUZZ_RUNS:-100000} seed=${FUZZ_SEED:-1}
    if [ "$FUZZER" != libfuzzer ]; then
        # shellcheck disable=SC2046
        "$target" --runs "$runs" --seed "$seed" $(fuzz_seeds "$1")
        return
    fi
    corpus=$OUT/fuzz/corpus/$1
    # shellcheck disable=SC2046
    [ -d "$corpus" ] || "$target" --corpus "$corpus" $(fuzz_seeds "$1") >/dev/null || return
    "$target-libfuzzer" -runs="$runs" -seed="$seed" -artifact_prefix="$OUT/fuzz/$1-" "$corpus" 2>&1
}

fuzz() {
    build_all
    fuzz_begin
    targets=0 bad=0
    for source in tests/fuzz_*.c; do
        name=$(basename "$source" .c)
        target=$OUT/fuzz/$name
        newer "$target" "$source" tests/fuzz.h tests/test.h "$OUT/test/$fuzz_config/mrc.o" \
            && { [ "$FUZZER" != libfuzzer ] || newer "$target-libfuzzer" "$target"; } \
            || fuzz_compile "$target" "$source"
        targets=$((targets + 1))
        fuzz_run "${name#fuzz_}" >"$target.log" 2>&1 || bad=$((bad + 1))
        echo "$name: $(tail -n 1 "$target.log")"
    done
    echo "$((targets - bad)) passed, $bad failed"
    [ "$bad" -eq 0 ]
}

#===================================================================================================
# coverage: lines and branches of the parsers in mrc.h, from gcc's counters
#
# The suites that read files run at -O0, fault loops among them, and each fuzz target COVERAGE_RUNS
# times.  A branch taken only when memory or a system call fails counts like any other.  What no run
# took stands in build/coverage/missing.txt.  Below COVERAGE_LIMIT % of all branches the verb fails.
#===================================================================================================
COVERAGE_SUITES="test_text test_yaml test_safetensors test_torch test_tokenizer test_data test_model
    test_checkpoint test_search test_qa test_readers test_faults"
COVERAGE_SECTIONS="utf8 json yaml file safetensors pickle torch trie vocabulary tokenizer bpe arrow
    dataset config weights model_dir checkpoint corpus index"
COVERAGE_RUNS=50000
COVERAGE_LIMIT=98

# coverage_build SUITE: its object, with one mrc.o for those that are linked, and the program.
coverage_build() {
    dir=$OUT/coverage object=
    if is_linked "$1" || [ "${1#fuzz_}" != "$1" ]; then
        object=$dir/mrc.o
        newer "$object" mrc.h tools/mrc.c build.sh \
            || gcc $STD -w -pthread -O0 --coverage -c tools/mrc.c -o "$object" || return 1
    fi
    newer "$dir/$1.o" "tests/$1.c" tests/*.h mrc.h build.sh \
        || gcc $STD -w -pthread -O0 --coverage -c "tests/$1.c" -o "$dir/$1.o" || return 1
    # shellcheck disable=SC2086
    gcc -pthread --coverage "$dir/$1.o" $object $LIBS -o "$dir/$1"
}

# What gcov says of mrc.h in each program, added up: "LINE line COUNT", "LINE branch INDEX COUNT".
coverage_counts() {
    for data in "$OUT"/coverage/*.gcda; do
        gcov -b -c -t "$data" 2>/dev/null
    done | awk '
        /^ *-: *0:Source:/ { ours = /mrc\.h$/ }
        !ours { next }
        /^branch/ { branch[line " branch " $2] += $4; next }
        /^ *[-0-9#=*]+: *[0-9]+:/ {
            split($0, part, ":")
            line = part[2] + 0
            if (part[1] ~ /-/) next
            if (!(line in lines)) lines[line] = 0
            lines[line] += part[1]
        }
        END {
            for (l in lines) print l, "line", lines[l]
            for (b in branch) print b, branch[b]
        }' | sort -n
}

# The table, from the sections of mrc.h and the counts; the lines with a branch that was never taken
# go to the file $1.
coverage_table() {
    awk -v wanted="$COVERAGE_SECTIONS" -v limit="$COVERAGE_LIMIT" -v missing="$1" '
        function percent(part, all) { return all ? 100 * part / all : 100 }
        function row(name, l, ln, b, bn) {
            printf "%-12s %6d of %6d lines %6.2f %%   %6d of %6d branches %6.2f %%\n", name, l, ln,
                percent(l, ln), b, bn, percent(b, bn)
        }
        BEGIN { n = split(wanted, order, " ") ; for (i in order) is[order[i]] = 1 }
        FNR == NR {
            if (/^\/\/ >>/) { section = $2; sub(/.*\./, "", section)
                              if ($2 !~ /^>>impl/) section = "" }
            of[FNR] = section
            text[FNR] = $0
            next
        }
        !(of[$1] in is) { next }
        $2 == "line" { all_lines[of[$1]]++; lines[of[$1]] += $3 > 0 }
        $2 == "branch" {
            all[of[$1]]++
            taken[of[$1]] += $4 > 0
            if ($4 == 0) print $1 " " $3 ": " text[$1] >missing
        }
        END {
            for (i = 1; i <= n; i++) {
                s = order[i]
                row(s, lines[s], all_lines[s], taken[s], all[s])
                l += lines[s]; ln += all_lines[s]; b += taken[s]; bn += all[s]
            }
            row("all", l, ln, b, bn)
            exit !(bn > 0 && percent(b, bn) >= limit)
        }' mrc.h -
}

coverage() {
    have gcc && have gcov || die 3 "coverage: gcc and gcov are needed (found no such programs)"
    mkdir -p "$OUT/coverage" || exit 5
    rm -f "$OUT/coverage"/*.gcda "$OUT/coverage/missing.txt"
    failed=0
    for suite in $COVERAGE_SUITES; do
        coverage_build "$suite" || exit 3
        limited "$OUT/coverage/$suite" >"$OUT/coverage/$suite.log" 2>&1 || failed=$((failed + 1))
        say "$suite: $(tail -n 1 "$OUT/coverage/$suite.log")"
    done
    build_all
    fuzz_make_seeds
    for source in tests/fuzz_*.c; do
        name=$(basename "$source" .c)
        coverage_build "$name" || exit 3
        # shellcheck disable=SC2046
        "$OUT/coverage/$name" --runs $COVERAGE_RUNS $(fuzz_seeds "${name#fuzz_}") \
            >"$OUT/coverage/$name.log" 2>&1 || failed=$((failed + 1))
        say "$name: $(tail -n 1 "$OUT/coverage/$name.log")"
    done
    : >"$OUT/coverage/missing.txt"
    coverage_counts | coverage_table "$OUT/coverage/missing.txt" || failed=$((failed + 1))
    [ "$failed" -eq 0 ]
}

#===================================================================================================
# What lint and the header's check count
#===================================================================================================
passed=0 failed=0 skipped=0
ok()      { passed=$((passed + 1)); }
bad()     { failed=$((failed + 1)); echo "FAIL $*"; }
skip()    { skipped=$((skipped + 1)); echo "SKIP: $*"; }
summary() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}

# none WHAT COMMAND...: COMMAND prints the violations, one a line.
none() {
    what=$1
    shift
    found=$("$@" 2>&1)
    if [ -z "$found" ]; then ok; else
        bad "$what:"
        printf '%s\n' "$found" | head -n 20
    fi
}

#===================================================================================================
# mrc.h with one compiler: as C++, static, from another folder; the programs
#===================================================================================================
check_header() {
    cc=$1 dir=$OUT/test/header-$1
    cxx=$(echo "$cc" | sed 's/gcc/g++/; s/clang/clang++/')
    mkdir -p "$dir/folder"
    cp mrc.h "$dir/folder/"
    printf '#define MRC_IMPLEMENTATION\n#include "folder/mrc.h"\n' >"$dir/impl.c"
    if compile "$cc" "$dir/impl.o" -c "$dir/impl.c"; then ok
    else bad "$cc: mrc.h included from another folder"; fi

    if ! have "$cxx"; then skip "no $cxx: mrc.h's declarations as C++17"
    elif echo 'int main() { return 0; }' | "$cxx" -x c++ - -o "$dir/probe" 2>/dev/null; then
        if "$cxx" -std=c++17 -Wall -Wextra -Wpedantic -Werror tests/compile_cxx.cc "$dir/impl.o" \
            -lm -lpthread -o "$dir/cxx" && "$dir/cxx"; then ok
        else bad "$cxx: mrc.h's declarations as C++17, twice"; fi
    else skip "$cxx makes no programs here: mrc.h's declarations as C++17"; fi

    # Static with all functions unused, included twice.
    printf '#define MRC_STATIC\n#include "impl.c"\n#include "impl.c"\n' >"$dir/static.c"
    echo 'int main(void) { return 0; }' >>"$dir/static.c"
    if compile "$cc" "$dir/static" "$dir/static.c"; then ok; else bad "$cc: MRC_STATIC"; fi

    # A system header first hides POSIX in strict C: that must be said, not end in odd errors.
    printf '#include <stdio.h>\n#include "impl.c"\n' >"$dir/late.c"
    if "$cc" -std=c11 -fsyntax-only "$dir/late.c" 2>&1 | grep -q 'before system headers'; then ok
    else bad "$cc: POSIX is hidden and nothing is said"; fi

    # What ./build.sh fuzz would compile; some compilers take what others refuse.
    for source in tests/fuzz_*.c; do
        if "$cc" $STD -w -pthread -fsyntax-only "$source"; then ok; else bad "$cc: $source"; fi
    done

    [ -n "$CC" ] || CC=$cc
    find_http
    make_page
    for source in tools/*.c; do
        why=$(left_out "$source")
        if [ -n "$why" ]; then skip "$cc: $source: $why"; continue; fi
        for blas in "" -DMRC_OPENBLAS; do
            # shellcheck disable=SC2086
            if compile "$cc" "$dir/tool.o" -O2 "-I$OUT" -c "$source" $blas; then ok
            else bad "$cc: $source $blas"; fi
        done
    done
    summary
}

#===================================================================================================
# lint
#===================================================================================================
# Files that people write.  Columns are code points, so bytes 80-bf do not count.
FOLDERS="backends data tests tools"
sources() {
    # shellcheck disable=SC2086
    find mrc.h $FOLDERS '(' -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.cc' ')' \
        2>/dev/null
}
scripts() {
    # shellcheck disable=SC2086
    find build.sh .ci/run $FOLDERS '(' -name '*.sh' -o -name '*.py' -o -name run ')' 2>/dev/null
}

# CONTENTS against the sections.
lint_tags() {
    sed '/#ifndef MRC_H/q' mrc.h | grep -o '>>[a-z_]*\.[a-z_0-9]*' >"$OUT/tags.contents"
    sed '1,/#ifndef MRC_H/d' mrc.h | grep -o '>>[a-z_]*\.[a-z_0-9]*' >"$OUT/tags.sections"
    diff "$OUT/tags.contents" "$OUT/tags.sections"
    sort "$OUT/tags.contents" | uniq -d
    rm -f "$OUT/tags.contents" "$OUT/tags.sections"
}

lint_sections() {
    awk 'function close_section(end) {
            if (tag != "" && tag != ">>impl.tables" && end - begun > 900)
                print "mrc.h:" begun ": " tag " has " end - begun " lines"
        }
        /^\/\/ >>[a-z]/ { close_section(NR); tag = $2; begun = NR }
        END { close_section(NR) }' mrc.h
}

# A function begins at the last line in column 1 before its "}" in column 1.
lint_functions() {
    # shellcheck disable=SC2046
    awk '/^[A-Za-z_]/ { begun = FNR; head = $0 }
        /^}$/ && FNR - begun >= 60 {
            print FILENAME ":" begun ": " FNR - begun + 1 " lines: " head
        }' $(sources)
}

lint_columns() {
    # shellcheck disable=SC2046
    LC_ALL=C awk '{ line = $0; gsub(/[\200-\277]/, "", line) }
        length(line) > 100 { print FILENAME ":" FNR ": " length(line) " columns" }' \
        $(sources) build.sh
}

lint_blanks() {
    # shellcheck disable=SC2046
    awk '/[ \t]$/ { print FILENAME ":" FNR ": trailing blank" }
        /\t/ { print FILENAME ":" FNR ": tab" }' $(sources) $(scripts)
}

# Code without comments and strings, for the searches below.
code_of() {
    awk '{ gsub(/\\./, ""); gsub(/"[^"]*"/, "\"\""); sub(/\/\/.*/, ""); print NR ": " $0 }' "$1"
}
lint_calls() {
    code_of mrc.h \
        | grep -E '[^A-Za-z0-9_](_?exit|abort|assert|v?f?printf|perror|f?puts|f?putchar) *\('
}
lint_globals() {
    code_of mrc.h | grep -E '^[0-9]+: static ' | grep -E '(=.*|;)[ ]*$' | grep -v '(\|const '
}
lint_marks() {
    # The words themselves are split, or this line would be found.
    # shellcheck disable=SC2046
    grep -n -E '(TO''DO|FIX''ME|(^|[^X])X''XX([^X]|$))' $(sources) $(scripts) README.md
}

lint() {
    mkdir -p "$OUT" || exit 5
    none "each tag stands in CONTENTS and, in that order, at its section" lint_tags
    none "a section has at most 900 lines" lint_sections
    none "a function has at most 60 lines" lint_functions
    none "a line has at most 100 columns" lint_columns
    none "no tabs, no trailing blanks" lint_blanks
    none "mrc.h never ends the program nor prints" lint_calls
    none "mrc.h has no mutable globals" lint_globals
    none "nothing is marked as unfinished" lint_marks
    summary
}

#===================================================================================================
verb=${1:-all}
[ $# -gt 0 ] && shift
case $verb in
test) [ $# -le 1 ] || die 2 "test: one name at most (found $#: $*)" ;;
run-job|run-object|bench) ;;                   # what test gives to xargs; build/bench looks itself
*) [ $# -eq 0 ] || die 2 "$verb: no argument expected (found $*)" ;;
esac
case $verb in
all)     build_all ;;
demo)    demo ;;
test)    run_tests "$1" ;;
run-job) run_job "$1" "$2" ;;
run-object) run_object "$1" "$2" ;;
lint)    lint ;;
faults)  faults ;;
bench)   bench "$@" ;;
fuzz)    fuzz ;;
exhaustive) exhaustive ;;
coverage) coverage ;;
clean)   rm -rf "$OUT" ;;
*)       die 2 "unknown verb (found $verb, expected $VERBS)" ;;
esac
