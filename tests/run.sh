# Part of build.sh: the verbs test, check, faults and exhaustive.

#===================================================================================================
# test [NAME]..: every suite in every configuration, or those that a NAME selects
#
# NAME is a configuration (gcc), a suite (ops), both (gcc:ops), or cuda for all of its
# configurations; `test --list` prints the pairs.  A job is a configuration and a suite.  It leaves
# a log whose last line says "N passed, N failed, N skipped"; a job without that line has died,
# which is a failure.  Configurations:
#     gcc, clang              tests/unit/test_*.c at -O2
#     gcc-asan, clang-asan    the same under AddressSanitizer and UndefinedBehaviorSanitizer;
#                             clang's without those tagged "threads" and the fault loops
#     gcc-tsan, clang-tsan    those tagged "threads", under ThreadSanitizer
#     arm64                   those tagged "arm64" for aarch64 with NEON, by a cross compiler, under
#                             qemu
#     bare                    those tagged "bare", as on a machine without OpenBLAS
#     cuda-*                  the CUDA source on a CPU; those tagged "cuda", and tests/cuda
#     sh                      tests/cli/test_*.sh, on the programs in build/
#     header-gcc, header-clang    mrc.h as C++ declarations, static, from another folder; tools
#     lint                    the style of the sources
#===================================================================================================
CUDA_CONFIGS="cuda-asan cuda-tsan cuda-gcc cuda-clang"
CONFIGS="gcc-asan clang-asan $CUDA_CONFIGS gcc-tsan clang-tsan gcc clang bare arm64 sh header-gcc
    header-clang lint"
TEST_SECONDS=2400                       # of a processor, for each process of a suite
TEST_WALL=2400                          # of a clock: only what waits for ever meets this one,
                                        # and then the others still have their turn

# The C compiler of a configuration, and the C++ compiler that goes with it.
config_cc() {
    case $1 in
    arm64)      echo aarch64-linux-gnu-gcc ;;
    cuda-clang) echo clang ;;
    bare)       echo "${CC:-cc}" ;;
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

# Those that only the CUDA source has.
cuda_suites() { for f in tests/unit/test_cuda*.c; do basename "$f" .c; done; }

# source SUITE: its file.
source_of() { echo "tests/unit/$1.c"; }

# tagged TAG: the suites whose file has TAG in its line "// tags: ..".
tagged() {
    grep -l "^// tags:.* $1\b" tests/unit/test_*.c | sed 's/.*\///; s/\.c$//' | grep -v '^test_cuda'
}

# Suites of a configuration, one a line.
suites() {
    case $1 in
    sh)       for f in tests/cli/test_*.sh; do [ -e "$f" ] && basename "$f" .sh; done ;;
    lint)     echo lint ;;
    header-*) echo header ;;
    cuda-gcc) tagged cuda; cuda_suites; printf '%s
' cuda_planted cuda_count cuda_nvcc cuda_volta cuda_ranks gpu_run ;;
    cuda-tsan) echo test_ops; cuda_suites | grep -v nccl ;;     # its ranks are processes
    cuda-clang) echo test_ops ;;
    cuda-*)   echo test_ops; cuda_suites ;;
    arm64)    tagged arm64 ;;
    bare)     tagged bare ;;
    *-tsan)   tagged threads ;;
    # What gcc-asan runs as well: for its time clang's is of what no other sanitizer of its sees.
    clang-asan) suites gcc | grep -vxF "$(tagged threads; echo test_faults)" ;;
    *)        for f in tests/unit/test_*.c; do basename "$f" .c; done | grep -v '^test_cuda' ;;
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
    (
        # shellcheck disable=SC3045
        ulimit -t "$TEST_SECONDS" 2>/dev/null
        if have timeout; then timeout -k 10 "$TEST_WALL" "$@"; else "$@"; fi
    )
}

# Kernels, which take ten times as long to compile as the rest, are compiled once for all suites of
# a configuration; suites that call public functions only share one mrc.o as well.
SPLIT='-DMRC_SELF="tests/support/kernels.h"'
is_linked() { grep -q '^#define TEST_LINKED' "$(source_of "$1")"; }
run_object() {
    mkdir -p "$OUT/test/$1"
    object=$OUT/test/$1/$2.o flags="$SPLIT -Wno-unused-function" source=tools/library.c
    [ "$2" = mrc ] || flags='' source=tests/support/kernels.c
    if [ "$2" = cuda ]; then cuda_object "$1" "$object"; return; fi
    newer "$object" mrc.h "$source" tests/support/kernels.h tests/run.sh && return
    # shellcheck disable=SC2046,SC2086
    compile "$(config_cc "$1")" "$object" $(config_flags "$1") $flags -c "$source"
}

# run_suite CONFIG SUITE: the job itself, its output going to the log.
run_suite() {
    case $1 in
    sh)       limited sh "tests/cli/$2.sh"; return ;;
    lint)     lint; return ;;
    header-*) check_header "${1#header-}"; return ;;
    cuda-*)   run_cuda_suite "$1" "$2"; return ;;
    esac
    binary=$OUT/test/$1/$2 emulator='' blas=$BLAS objects=$OUT/test/$1/kernels.o
    [ "$1" = bare ] && blas=''
    [ "$1" = arm64 ] && emulator=qemu-aarch64 blas=''
    run_object "$1" kernels || return 1
    if is_linked "$2"; then
        run_object "$1" mrc || return 1
        objects="$OUT/test/$1/mrc.o $objects"
    fi
    if ! newer "$binary" "$(source_of "$2")" tests/support/*.h tests/support/*.inc backends/*.h \
        tools/yaml.h mrc.h tests/run.sh; then
        # shellcheck disable=SC2046,SC2086
        compile "$(config_cc "$1")" "$binary" $(config_flags "$1") $SPLIT \
            "$(source_of "$2")" $objects $blas || return 1
    fi
    # shellcheck disable=SC2086
    MRC_TEST_CONFIG=$1 limited $emulator "$binary"
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

# chosen CONFIG SUITE NAME..: whether a NAME selects the pair; no NAME selects all.
chosen() {
    config=$1 suite=$2
    shift 2
    [ $# -gt 0 ] || return 0
    for name in "$@"; do
        case $name in
        "$config"|"$suite"|"${suite#test_}"|"$config:$suite"|"$config:${suite#test_}") return 0 ;;
        cuda) case $config in cuda-*) return 0 ;; esac ;;
        esac
    done
    return 1
}

list_tests() {
    for config in $CONFIGS; do
        missing=$(config_missing "$config")
        for suite in $(suites "$config"); do
            echo "$config:${suite#test_}${missing:+  (cannot run here: $missing)}"
        done
    done
}

run_tests() {
    skipped=0 jobs=
    mkdir -p "$OUT/test" || exit 5
    if [ "$1" = --list ]; then list_tests; return; fi
    for name in "$@"; do
        list_tests | grep -q -e "^${name#test_}:" -e ":${name#test_}\( \|\$\)" \
            -e "^$(echo "$name" | sed 's/:test_/:/')\( \|\$\)" || [ "$name" = cuda ] \
            || die 2 "test: no such suite (found $name, expected one of ./build.sh test --list)"
    done
    for config in $CONFIGS; do
        some=
        for suite in $(suites "$config"); do
            chosen "$config" "$suite" "$@" && some="$some $suite"
        done
        [ -n "$some" ] || continue
        missing=$(config_missing "$config")
        if [ -n "$missing" ]; then
            for suite in $some; do skipped=$((skipped + 1)); done
            echo "SKIP $config: $missing; not run:$some"
            continue
        fi
        mkdir -p "$OUT/test/$config"
        for suite in $some; do
            rm -f "$OUT/test/$config/$suite.count"
            jobs="$jobs$config $suite
"
        done
    done
    build_all
    # First what several jobs need; one that cannot be built fails its jobs.
    printf '%s' "$jobs" | while read -r config suite; do
        [ -e "$(source_of "$suite")" ] || continue
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
        if [ -n "$missing" ]; then
            echo "SKIP $config: $missing; not run: $suite"
            echo "0 0 1" >>"$OUT/test/faults.counts.$$"
            continue
        fi
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
