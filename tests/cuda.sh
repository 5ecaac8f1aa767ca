# Part of build.sh: the CUDA source, for devices by nvcc and for the CPU on the shim of tests/cuda.

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
    cxx=$(config_cxx "$1") dir=$OUT/test/$1 from=tests/unit/$2.c flag=
    case $2 in
    cuda_planted) cuda_planted "$cxx" "$dir"; return ;;
    cuda_count)   cuda_count "$1" "$cxx" "$dir"; return ;;
    cuda_nvcc)    cuda_nvcc "$dir"; return ;;
    cuda_volta)   cuda_volta "$dir"; return ;;
    cuda_ranks)   cuda_ranks "$dir"; return ;;
    gpu_run)      from=tests/cuda/$2.c flag=times ;;      # that they run, not what they show
    esac
    run_object "$1" cuda && run_object "$1" kernels || return 1
    if ! newer "$dir/$2" "$from" tests/support/*.h "$dir/cuda.o" "$dir/kernels.o"; then
        # shellcheck disable=SC2046,SC2086
        "$(config_cc "$1")" $STD $WARN $WERROR -pthread $(config_flags "$1") \
            -DMRC_TEST_CUDA $SPLIT -c "$from" -o "$dir/$2.o" \
            && "$cxx" $(config_flags "$1") "$dir/$2.o" "$dir/cuda.o" "$dir/kernels.o" $LIBS \
                -o "$dir/$2" || return 1
    fi
    MRC_TEST_CONFIG=$1 limited "$dir/$2" $flag
}

# Bugs that tests/cuda/bugs.h plants and the op table cannot show, each where it must be caught: by
# the results, or by a sanitizer; the same program without a bug must pass.
cuda_planted() {
    for sanitizer in none address thread; do
        flags="-O1"
        [ $sanitizer = none ] || flags="-O1 -g -fsanitize=$sanitizer"
        # shellcheck disable=SC2086
        "$1" $CUDA_WARN $flags -x c++ -Itests/cuda tests/cuda/planted.cu \
            -o "$2/planted-$sanitizer" \
            || { bad "planted.cu does not compile with sanitizer $sanitizer"; continue; }
        if "$2/planted-$sanitizer" >"$2/planted.out" 2>&1; then ok
        else bad "planted.cu without a bug, sanitizer $sanitizer: exit code $?"; fi
        for bug in $("$2/planted-none" list | sed -n "s/ $sanitizer\$//p"); do
            "$2/planted-$sanitizer" "$bug" >"$2/planted.out" 2>&1 \
                && bad "the planted bug $bug goes unnoticed" || ok
        done
    done
    # Results show a lost barrier as well, but every race must be ThreadSanitizer's to find.
    for bug in NO_BARRIER NO_RELEASE; do
        "$2/planted-thread" $bug >"$2/planted.out" 2>&1
        if grep -q 'ThreadSanitizer: data race' "$2/planted.out"; then ok
        else bad "ThreadSanitizer does not see the planted bug $bug"; fi
    done
    summary
}

# What the requests of warps cost, by the shim's counting mode: see tests/cuda/count.h.
cuda_count() {
    run_object "$1" kernels || return 1
    for source in backends/cuda.cu tests/cuda/count.cc; do
        flags="-O1 -DMRC_COUNT"
        [ $source = tests/cuda/count.cc ] || flags="$flags -fsanitize=thread"
        object=$3/count-$(basename $source).o
        # shellcheck disable=SC2086
        newer "$object" $CUDA_SOURCES tests/cuda/count.cc \
            || "$2" $CUDA_WARN $flags -x c++ -Itests/cuda -c $source -o "$object" || return 1
    done
    # shellcheck disable=SC2086
    "$(config_cc "$1")" $STD $WARN -Wno-unused-function $WERROR -pthread -O1 -DMRC_TEST_CUDA \
        $SPLIT -c tests/cuda/count_run.c -o "$3/count_run.o" \
        && "$2" "$3/count_run.o" "$3/count-cuda.cu.o" "$3/count-count.cc.o" "$3/kernels.o" $LIBS \
            -o "$3/count_run" || return 1
    limited "$3/count_run"
}

# Whether nvcc takes the source, for the devices it knows, with its warnings as errors; and whether
# a program that has its object says on a machine without a driver what it misses.
cuda_nvcc() {
    if [ -z "$(cuda_compiler)" ]; then
        skip "no nvcc: the CUDA source for devices"
        summary
        return
    fi
    if (WERROR=-Werror; cuda_compile "$1/cuda-device.o"); then ok
    else bad "nvcc: backends/cuda.cu"; fi
    # shellcheck disable=SC2046
    if run_object cuda-gcc mrc && run_object cuda-gcc kernels \
        && compile gcc "$1/train" -O1 -DTOOL_ALONE tools/train.c "$1/mrc.o" "$1/kernels.o" \
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

# backends/nccl.h and train with the real <nccl.h>, of MRC_NCCL's folder or beside nvcc; then train
# on several ranks, with the shims of CUDA and NCCL: who is refused, and the bytes of one process.
NCCL_TRAIN="-DTOOL_ALONE -DMRC_CUDA -DMRC_NCCL tools/train.c"
cuda_ranks() {
    find_mpi
    if [ -z "$MPI_FLAGS" ]; then
        skip "no MPI: train on several GPUs"
        summary
        return
    fi
    # shellcheck disable=SC2086
    if [ -z "$(cuda_compiler)" ] || ! echo '#include <nccl.h>' \
        | gcc $(nccl_flags "$(cuda_compiler)") -fsyntax-only -x c - 2>/dev/null; then
        skip "no <nccl.h> beside nvcc, and MRC_NCCL names no folder of NCCL: train with it"
    else
        for compiler in gcc clang; do
            have $compiler || continue
            if $compiler $STD $WARN -Werror $(nccl_flags "$(cuda_compiler)") $MPI_FLAGS \
                -Wno-unused-command-line-argument -fsyntax-only $NCCL_TRAIN; then ok
            else bad "$compiler: train with the real <nccl.h>"; fi
        done
    fi
    # shellcheck disable=SC2086
    if run_object cuda-gcc mrc && run_object cuda-gcc kernels && run_object cuda-gcc cuda \
        && gcc $STD $WARN -Werror -O1 -pthread $MPI_FLAGS -DMRC_NCCL_SHIM -Itests/cuda \
            -c $NCCL_TRAIN -o "$1/train-ranks.o" \
        && g++ "$1/train-ranks.o" "$1/mrc.o" "$1/kernels.o" "$1/cuda.o" $MPI_FLAGS $LIBS \
            -o "$1/train-ranks"; then ok
    else
        bad "train with the shims of CUDA and NCCL"
        summary
        return
    fi
    if have mpirun; then nccl_runs "$1"; else skip "no mpirun: train on several GPUs"; fi
    summary
}

# nccl_train DIR RANKS OUT FLAGS..: 0 ranks: without MPI.  Leaves what it said in OUT.err.
nccl_train() {
    begin_with=
    [ "$2" = 0 ] || begin_with="timeout 120 mpirun $mpi_options -n $2"
    program=$1/train-ranks out=$3
    shift 3
    # shellcheck disable=SC2086
    $begin_with "$program" --config_name data/config.json --tokenizer_name data \
        --train_file data/train.jsonl --output_dir "$out" --backend cuda --max_train_samples 24 \
        --per_device_train_batch_size 2 --micro_batches_per_step 3 --max_steps 2 --seed 1 "$@" \
        >/dev/null 2>"$out.err"
}

# nccl_refuses DIR CODE TEXT RANKS FLAGS..
nccl_refuses() {
    rm -rf "$1/ranks-no"
    nccl_dir=$1 want=$2 text=$3 n=$4
    shift 4
    nccl_train "$nccl_dir" "$n" "$nccl_dir/ranks-no" "$@"
    code=$?
    [ $code -eq "$want" ] && grep -q -e "$text" "$nccl_dir/ranks-no.err" && ok \
        || bad "$n ranks, $*: exit code $code, $(head -n 3 "$nccl_dir/ranks-no.err")"
}

nccl_runs() {
    mpi_options=
    ! mpirun --version 2>/dev/null | grep -q 'Open MPI' \
        || mpi_options='--oversubscribe --bind-to none'
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1       # in a container
    MRC_SHIM_DEVICES=4
    export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM MRC_SHIM_DEVICES
    rm -rf "$1"/ranks-[0-9]
    for n in 0 2 3; do
        nccl_train "$1" $n "$1/ranks-$n" || bad "$n ranks: $(head -n 3 "$1/ranks-$n.err")"
        [ $n = 0 ] && continue
        grep -q "$n ranks of nccl" "$1/ranks-$n.err" && ok || bad "$n ranks: NCCL is not said"
        cmp "$1/ranks-0/model.safetensors" "$1/ranks-$n/model.safetensors" && ok \
            || bad "$n ranks have other weights than one process"
    done
    nccl_refuses "$1" 2 'MPI sums what is in host memory' 2 --ddp_backend mpi
    nccl_refuses "$1" 2 'NCCL is for --backend cuda' 2 --ddp_backend nccl --backend cpu
    MRC_CUDA_DEVICE=1 nccl_refuses "$1" 3 'ranks 0 and 1 are on one GPU' 2
    MRC_NCCL_FAULT=stall@1:2 nccl_refuses "$1" 5 'nothing from rank 1' 2 --ddp_timeout 2
    MRC_NCCL_FAULT=error@0:2 nccl_refuses "$1" 5 'remote process exited' 2 --ddp_timeout 2
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
    if have python3; then
        "$MRC_CUDA11/usr/bin/cuobjdump" -sass "$1/cuda70.cubin" >"$1/cuda70.listing" 2>/dev/null
        python3 tests/cuda/ledger.py --arch 70 "$1/cuda70.txt" "$1/cuda70.listing" \
            >"$1/ledger70.txt"
        sed -n '/^FAIL/p' "$1/ledger70.txt"
        passed=$((passed + $(tail -n 1 "$1/ledger70.txt" | sed 's/ passed.*//')))
        failed=$((failed + $(tail -n 1 "$1/ledger70.txt" | sed 's/.*passed, \([0-9]*\).*/\1/')))
        rm -f "$1/cuda70.listing"
    else
        skip "no python3: the ledger of the kernels for sm_70"
    fi
    summary
}

# A verb of its own: what a step will take, by tests/cuda/predict.py, which is first held to loops
# whose time is known.  MRC_CUDA11 as above; its compiler knows sm_90 too, and its disassembler is
# the one that reads what it made.
cuda_predict() {
    passed=0 failed=0 skipped=0 dir=$OUT/test/cuda-predict
    if [ ! -x "$MRC_CUDA11/nvcc70" ] || ! have python3; then
        skip "MRC_CUDA11 names no CUDA 11.8, or no python3: how long a step will take"
        summary
        return
    fi
    mkdir -p "$dir" || exit 5
    for arch in 70 90; do
        for source in tests/cuda/calibrate.cu backends/cuda.cu; do
            name=$dir/$(basename $source .cu)$arch
            if "$MRC_CUDA11/nvcc70" -std=c++17 -O3 -arch=sm_$arch -cubin -Xptxas -v \
                -o "$name.cubin" $source >"$name.txt" 2>&1; then ok
            else bad "sm_$arch: $source"; fi
            "$MRC_CUDA11/usr/bin/cuobjdump" -sass "$name.cubin" >"$name.sass" 2>/dev/null
        done
        python3 tests/cuda/predict.py --arch $arch --calibrate "$dir/calibrate$arch.txt" \
            "$dir/calibrate$arch.sass" >"$dir/calibrate.out" 2>&1
        none "the simulator on loops whose time is known, sm_$arch" \
            sed -n '/^FAIL\|Error/p' "$dir/calibrate.out"
        none "the ledger, sm_$arch" sh -c 'python3 tests/cuda/ledger.py "$@" | sed -n /^FAIL/p' \
            ledger --arch $arch "$dir/cuda$arch.txt" "$dir/cuda$arch.sass"
        if python3 tests/cuda/predict.py --arch $arch "$dir/cuda$arch.txt" "$dir/cuda$arch.sass"
        then ok; else bad "sm_$arch: no prediction"; fi
        rm -f "$dir"/*.sass
    done
    cuda_warpgroups "$dir"
    summary
}

# What path 90 becomes, by CUDA 12 or later, as 11.8 does not know sm_90a: nothing spills, and its
# products do not wait for each other, which ptxas would say.
cuda_warpgroups() {
    nvcc=$(cuda_compiler)
    if [ -z "$nvcc" ] || ! cuda_knows_90a "$nvcc"; then
        skip "no nvcc of CUDA 12 or later: what it makes of path 90"
        return
    fi
    if "$nvcc" -std=c++17 -O3 -arch=sm_90a -cubin -Xptxas -v -o "$1/cuda90a.cubin" \
        backends/cuda.cu >"$1/cuda90a.txt" 2>&1; then ok; else bad "sm_90a: backends/cuda.cu"; fi
    none "the ledger, sm_90a" sh -c 'python3 tests/cuda/ledger.py "$@" | sed -n /^FAIL/p' \
        ledger --arch 90a "$1/cuda90a.txt"
    none "products of path 90 that wait for each other" grep -i serializ "$1/cuda90a.txt"
}
