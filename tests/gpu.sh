#!/bin/sh
# Everything that only a GPU can show, in one command and within ten minutes: sh tests/gpu.sh [DIR]
#
# Run it in the project's root on a machine with an NVIDIA GPU, its driver and nvcc.  It builds,
# holds every op and the goldens against the CPU, runs compute-sanitizer's four tools, 20 training
# steps against the naive kernels and, where Python has PyTorch, against PyTorch's goldens, a run that
# is killed and resumed, the same run twice, and prints a table of times.  Output goes to DIR (default
# build/gpu), the last line is "N passed, N failed, N skipped".  A step that cannot run here is
# skipped and says so.
cd "$(dirname "$0")/.." || exit 2
DIR=${1:-build/gpu}
mkdir -p "$DIR" || exit 5
passed=0 failed=0 skipped=0
ok()   { passed=$((passed + 1)); echo "ok    $*"; }
bad()  { failed=$((failed + 1)); echo "FAIL  $*"; }
skip() { skipped=$((skipped + 1)); echo "SKIP: $*"; }
# check WHAT COMMAND..: its output goes to a file named after WHAT's first word.
check() {
    what=$1 log=$DIR/${1%% *}.log
    shift
    begun=$(date +%s)
    if "$@" >"$log" 2>&1; then ok "$what ($(($(date +%s) - begun)) s)"
    else bad "$what: exit code $?"; tail -n 8 "$log"; fi
}
end() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}

nvcc=${NVCC:-nvcc}
command -v "$nvcc" >/dev/null 2>&1 || nvcc=/usr/local/cuda/bin/nvcc
if ! command -v "$nvcc" >/dev/null 2>&1 || [ ! -e /dev/nvidiactl ]; then
    skip "no nvcc or no GPU on this machine: nothing here can run"
    end
fi
nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader
"$nvcc" --version | tail -n 2 | head -n 1

# The programs, and the suites linked with the device's object.
check "build of library and programs" env CUDA=1 NVCC="$nvcc" ./build.sh || end
lib=$(dirname "$(dirname "$(command -v "$nvcc")")")/lib64
for suite in test_ops test_model test_cuda; do
    check "link-$suite" gcc -std=c11 -O2 -w -pthread -DMRC_TEST_CUDA -DMRC_TEST_GPU \
        "tests/$suite.c" build/cuda.o -L"$lib" -lcudart_static -lstdc++ -ldl -lrt -lm \
        -o "$DIR/$suite"
done

# Each path that the device has, against the naive kernels on the host.
check "ops of every type against the CPU" "$DIR/test_ops"
check "goldens of PyTorch, ten steps each" "$DIR/test_model"
check "steps from the CPU's state, memory, copies" "$DIR/test_cuda"

# What the sanitizers see; the goldens' models are small enough for all four.
if command -v compute-sanitizer >/dev/null 2>&1; then
    for tool in memcheck racecheck initcheck synccheck; do
        check "$tool of a step" timeout 120 compute-sanitizer --tool $tool --error-exitcode 9 \
            env MRC_TEST_CONFIG=tsan "$DIR/test_cuda"
    done
else
    skip "no compute-sanitizer"
fi

# A run of the programs on the demo's data.
train() {
    build/train --backend "$1" --config_name data/config.json --tokenizer_name data \
        --train_file data/train.jsonl --output_dir "$2" --head bilstm --num_rnn_layers 2 \
        --rnn_hidden_size 64 --per_device_train_batch_size 8 --learning_rate 1e-3 \
        --lr_scheduler_type linear --max_steps "$3" --logging_steps 1 --save_steps 10 --seed 1 \
        --resume_from_checkpoint
}
rm -rf "$DIR/cpu" "$DIR/one" "$DIR/two" "$DIR/killed"
check "train-cpu: 20 steps" train cpu "$DIR/cpu" 20
check "train-one: 20 steps on the GPU" train cuda "$DIR/one" 20
check "train-two: the same again" train cuda "$DIR/two" 20
check "same-bits in two runs" cmp "$DIR/one/model.safetensors" "$DIR/two/model.safetensors"
# The first steps agree; later ones part, as free trajectories of floats do.
losses() { sed -n 's/.*"train\/loss": \([0-9.e+-]*\).*/\1/p' "$1/log.jsonl" | head -n 20; }
losses "$DIR/cpu" >"$DIR/losses.cpu"
losses "$DIR/one" >"$DIR/losses.cuda"
check "losses of 20 steps against the CPU" sh -c "paste '$DIR/losses.cpu' '$DIR/losses.cuda' | awk '
    { d = \$1 - \$2; if (d < 0) d = -d; if (!(d <= (NR <= 3 ? 1e-5 : 1e-2) * \$1)) bad++ }
    END { print NR \" steps, \" bad + 0 \" apart\"; exit !(NR == 20 && !bad) }'"
# Killed in the middle, then resumed: the same bytes as without a break.
train cuda "$DIR/killed" 20 >"$DIR/killed.log" 2>&1 &
pid=$!
while kill -0 $pid 2>/dev/null && [ ! -d "$DIR/killed/checkpoint-10" ]; do sleep 0.1; done
kill -9 $pid 2>/dev/null
wait $pid 2>/dev/null
check "resume after a kill" train cuda "$DIR/killed" 20
check "resumed-bits are those without a break" cmp "$DIR/one/model.safetensors" "$DIR/killed/model.safetensors"

# Against PyTorch, on this GPU, as far as Python has it; and the times.
python=${PYTHON:-python3}
if "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    if [ -e ../shared/cuda/gpu/bench_torch.py ]; then
        check "torch-times of its kernels at our shapes" "$python" ../shared/cuda/gpu/bench_torch.py
        cat "$DIR/torch-times.log" 2>/dev/null
    fi
else
    skip "no PyTorch with CUDA: its times"
fi
echo "seconds of 20 steps:"
for run in cpu one two; do
    sed -n "s/.*\"train_runtime\": *\([0-9.]*\).*/  $run \1/p" "$DIR/$run/train_results.json"
done
end
