#!/bin/sh
# Everything that only a GPU can show, in one command and within ten minutes: sh tests/gpu.sh [DIR]
#
# Run it in the project's root on a machine with an NVIDIA GPU, its driver and nvcc.  It builds,
# holds every op and the goldens against the CPU, runs compute-sanitizer's four tools, 50 training
# steps on real batches each from the CPU's state, 20 steps of its own twice (the same bits) and
# against PyTorch where python3 has it (PYTHON=.. names another), training runs of the program, one
# of which is killed and resumed, Volta's path, and prints a table of times.  Output goes to DIR
# (default build/gpu), the last line is "N passed, N failed, N skipped".  A step that cannot run
# here is skipped and says so.
#
# GPU_SHIM=1 runs the same steps without a GPU, on the tests' shim and with fewer steps: what it
# shows is that this script and its programs work.  Each of its lines says [shim].
cd "$(dirname "$0")/.." || exit 2
DIR=${1:-build/gpu}
python=${PYTHON:-python3}
mkdir -p "$DIR" || exit 5
passed=0 failed=0 skipped=0 on=
[ -z "$GPU_SHIM" ] || on='[shim] '
ok()   { passed=$((passed + 1)); echo "ok    $on$*"; }
bad()  { failed=$((failed + 1)); echo "FAIL  $on$*"; }
skip() { skipped=$((skipped + 1)); echo "SKIP: $on$*"; }
# check WHAT COMMAND..: its output goes to a file named after WHAT's first word.
check() {
    what=$1 word=${1%% *}
    word=${word%:}
    log=$DIR/$word.log
    shift
    begun=$(date +%s)
    "$@" >"$log" 2>&1
    code=$?
    if [ $code -eq 0 ]; then
        ok "$what ($(($(date +%s) - begun)) s)"
        sed -n "s/^SKIP/SKIP: $word/p" "$log"
    else
        bad "$what: exit code $code"
        tail -n 8 "$log"
    fi
    return $code
}
end() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}

#---------------------------------------------------------------------------------------------------
# Build
#---------------------------------------------------------------------------------------------------
nvcc=${NVCC:-nvcc}
command -v "$nvcc" >/dev/null 2>&1 || nvcc=/usr/local/cuda/bin/nvcc
if [ -n "$GPU_SHIM" ]; then
    steps=2 run_steps=4 save_steps=2 flags=-DMRC_TEST_CUDA libs=-lstdc++
    object=build/test/cuda-gcc/cuda.o
    check "build of the library" env CUDA=0 ./build.sh || end
    check "object of the backend for the shim" ./build.sh run-object cuda-gcc cuda || end
elif ! command -v "$nvcc" >/dev/null 2>&1 || [ ! -e /dev/nvidiactl ]; then
    skip "no nvcc or no GPU on this machine: nothing here can run (GPU_SHIM=1 tries the script)"
    end
else
    steps=50 run_steps=20 save_steps=10 object=build/cuda.o
    flags='-DMRC_TEST_CUDA -DMRC_TEST_GPU'
    lib=$(dirname "$(dirname "$(command -v "$nvcc")")")/lib64
    libs="-L$lib -lcudart_static -lstdc++ -ldl -lrt"
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader
    "$nvcc" --version | tail -n 2 | head -n 1
    check "build of library and programs" env CUDA=1 NVCC="$nvcc" ./build.sh || end
fi
kernels=build/test/cuda-gcc/kernels.o
check "kernels of the CPU, for the suites" ./build.sh run-object cuda-gcc kernels || end
# Programs with the backend's object, JOBS at a time: a name, and what it is made of.
programs() {
    for suite in test_ops test_model test_experiment test_cuda test_cuda_half gpu_run; do
        source=tests/unit/$suite.c
        [ "$suite" = gpu_run ] && source=tests/cuda/gpu_run.c
        echo "$suite $flags '-DMRC_SELF=\"tests/support/kernels.h\"' $source $kernels"
    done
    echo "train -DMRC_CUDA -DTOOL_ALONE tools/train.c build/mrc.o"
}
link() {
    # shellcheck disable=SC2016
    programs | DIR=$DIR OBJECTS="$object $libs -lm" \
        xargs -L 1 -P "${JOBS:-$(getconf _NPROCESSORS_ONLN)}" \
        sh -c 'gcc -std=c11 -O1 -w -pthread "$@" $OBJECTS -o "$DIR/$0"'
}
check "link of suites and train" link || end

#---------------------------------------------------------------------------------------------------
# Against the CPU: each path that the device has
#---------------------------------------------------------------------------------------------------
check "test_ops: every op and type against the naive kernels" "$DIR/test_ops"
check "test_model: goldens of PyTorch, ten steps each" "$DIR/test_model"
check "test_experiment: goldens of heads, losses and optimizers" "$DIR/test_experiment"
check "test_cuda: steps from the CPU's state, memory, copies" "$DIR/test_cuda"
check "test_cuda_half: tensor cores, sweeps, training in 16 bits" "$DIR/test_cuda_half"

# What the sanitizers see, of one step of a small model with each head and of orders of its ops.
if [ -n "$GPU_SHIM" ]; then
    skip "compute-sanitizer needs a GPU; other sanitizers see the shim in ./build.sh test cuda"
elif command -v compute-sanitizer >/dev/null 2>&1; then
    for tool in memcheck racecheck initcheck synccheck; do
        check "$tool of a step" timeout 90 compute-sanitizer --tool $tool --error-exitcode 9 \
            env MRC_TEST_CONFIG=tsan "$DIR/test_cuda"
    done
else
    skip "no compute-sanitizer"
fi

#---------------------------------------------------------------------------------------------------
# Training
#---------------------------------------------------------------------------------------------------
rm -rf "$DIR/steps" "$DIR/cpu" "$DIR/one" "$DIR/two" "$DIR/killed" "$DIR/half"
mkdir -p "$DIR/steps"
check "steps: $steps from the CPU's state, and a run of its own twice" \
    "$DIR/gpu_run" steps $steps "$DIR/steps"
check "torch-steps: the same run by PyTorch" "$python" tests/peers/compare_steps.py "$DIR/steps"
check "volta-steps: Volta's path from the CPU's state" env MRC_CUDA_PATH=70 \
    "$DIR/gpu_run" steps $((steps / 2)) "$DIR/steps"

# train BACKEND DIR FLAGS..: the program on the demo's data.
config=data/config.json in_place=
train() {
    backend=$1 out=$2
    shift 2
    $in_place "$DIR/train" --backend "$backend" --config_name "$config" --tokenizer_name data \
        --train_file data/train.jsonl --output_dir "$out" --head bilstm --num_rnn_layers 2 \
        --rnn_hidden_size 64 --per_device_train_batch_size 8 --learning_rate 1e-3 \
        --lr_scheduler_type linear --max_steps $run_steps --logging_steps 1 \
        --save_steps $save_steps --seed 1 "$@"
}
losses() { sed -n 's/.*"train\/loss": \([0-9.e+-]*\).*/\1/p' "$1/log.jsonl" | head -n $run_steps; }
# agree A B FIRST BAR: losses of two runs, the first three within FIRST, as free runs part later.
agree() {
    losses "$DIR/$1" >"$DIR/losses.$1"
    losses "$DIR/$2" >"$DIR/losses.$2"
    paste "$DIR/losses.$1" "$DIR/losses.$2" | awk -v first="$3" -v bar="$4" -v steps=$run_steps '
        { d = $1 - $2; if (d < 0) d = -d; if (!(d <= (NR <= 3 ? first : bar) * $1)) bad++ }
        END { print NR " steps, " bad + 0 " apart"; exit !(NR == steps && !bad) }'
}
check "train-cpu: $run_steps steps" train cpu "$DIR/cpu"
check "train-one: $run_steps steps of the backend" train cuda "$DIR/one"
check "train-two: the same again" train cuda "$DIR/two"
check "same-bits in two runs" cmp "$DIR/one/model.safetensors" "$DIR/two/model.safetensors"
check "losses of $run_steps steps against the CPU" agree cpu one 1e-5 1e-2

# Killed in the middle, then resumed: the same bytes as without a break.
(in_place=exec; train cuda "$DIR/killed") >"$DIR/killed.log" 2>&1 &
pid=$!                                  # the program's, as it stands in the shell's place
while kill -0 $pid 2>/dev/null && [ ! -d "$DIR/killed/checkpoint-$save_steps" ]; do sleep 0.1; done
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
check "resume after a kill" train cuda "$DIR/killed" --resume_from_checkpoint
check "resumed-bits are those without a break" \
    cmp "$DIR/one/model.safetensors" "$DIR/killed/model.safetensors"

# A model that no device holds: an error before it begins, with both numbers.
too_large() {
    sed -e 's/"hidden_size": 64/"hidden_size": 8192/' \
        -e 's/"num_hidden_layers": 2/"num_hidden_layers": 99/' data/config.json >"$DIR/large.json"
    config=$DIR/large.json
    train cuda "$DIR/large"
    code=$?
    config=data/config.json
    [ $code -eq 4 ] && grep -q 'does not fit (found [0-9]* MiB, expected at least [0-9]*)' \
        "$DIR/memory.log"
}
check "memory that is too little is an error with both numbers" too_large

# Volta's instructions, in 16 bits: near the run in 32.
volta() { MRC_CUDA_PATH=70 train cuda "$DIR/half" --fp16; }
check "volta-fp16: $run_steps steps" volta
check "volta-losses against those in 32 bits" agree one half 1e-2 5e-2

# wgmma on and off: path 90 for products of every size, path 80, and what a run takes by itself.
on_path() {
    (export MRC_SHIM_ARCH=90 MRC_CUDA_WGMMA_ALL=1 MRC_CUDA_PATH="$1"
     train cuda "$DIR/path$1" --bf16)
}
taken() {
    (export MRC_SHIM_ARCH=90; train cuda "$DIR/taken" --bf16 --max_steps 1)
    code=$?
    echo "taken: $(grep -o 'sm_[0-9]*[a-z0-9_, ]*' "$DIR/wgmma-taken.log" | head -n 1)"
    [ $code -eq 0 ] && grep -q 'sm_90' "$DIR/wgmma-taken.log" \
        && ! grep -q 'not sm_90' "$DIR/wgmma-taken.log"
}
if [ -n "$GPU_SHIM" ] || nvidia-smi --query-gpu=compute_cap --format=csv,noheader | grep -qx 9.0
then
    check "wgmma-taken by itself: its check of the device passes" taken
    check "wgmma-on: $run_steps steps" on_path 90
    check "wgmma-off: $run_steps steps" on_path 80
    check "wgmma-losses on and off" agree path80 path90 1e-2 5e-2
else
    skip "no device of compute capability 9.0: wgmma"
fi

#---------------------------------------------------------------------------------------------------
# Times
#---------------------------------------------------------------------------------------------------
check "times of steps, products and attention" "$DIR/gpu_run" times
sed 's/^/      /' "$DIR/times.log"
for run in cpu one two; do
    sed -n "s/.*\"train_runtime\": *\([0-9.]*\).*/      train-$run: \1 s/p" \
        "$DIR/$run/train_results.json"
done
bench=../shared/cuda/gpu/bench_torch.py
if [ -z "$GPU_SHIM" ] && [ -e $bench ] \
    && "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    check "torch-times of the same model" timeout 150 "$python" $bench
    sed 's/^/      /' "$DIR/torch-times.log"
else
    skip "no PyTorch on a GPU: its times"
fi
end
