#!/bin/sh
# train on several processes over MPI: the bytes of one process, runs that are killed and go on with
# other numbers of ranks, ranks that differ, stall or die.  Run after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
command -v mpirun >/dev/null 2>&1 || { skip "no mpirun: train on several ranks"; end; }
ldd build/mrc 2>/dev/null | grep -q 'libmpi' || { skip "build/mrc has no MPI: train on several ranks"; end; }
OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1       # in a container
export OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM
if mpirun --version 2>/dev/null | grep -q 'Open MPI'; then options='--oversubscribe --bind-to none'
else options=; fi

base="--config_name data/config.json --tokenizer_name data --validation_file data/validation.jsonl
    --head bilstm --num_rnn_layers 1 --rnn_hidden_size 16 --max_train_samples 200
    --max_eval_samples 20 --per_device_train_batch_size 4 --micro_batches_per_step 5
    --logging_steps 1 --seed 1"
# ranks N OUT FLAGS..: on N ranks; 0: without MPI.
ranks() {
    n=$1 out=$2
    shift 2
    set -- $base --train_file data/train.jsonl --output_dir "$out" "$@"
    # shellcheck disable=SC2086
    if [ "$n" = 0 ]; then build/train "$@"
    else mpirun $options -n "$n" build/train "$@"; fi >/dev/null
}
# The bytes of two runs.
equal() {
    for file in model.safetensors log.jsonl "checkpoint-$3/optimizer.safetensors"; do
        same "$1/$file" "$2/$file"
    done
}

short="--max_steps 8 --eval_steps 4 --save_steps 4"
# shellcheck disable=SC2086
ranks 0 "$dir/one" $short 2>"$dir/err" || bad "one process: $(tail -n 2 "$dir/err")"
# The same bytes with an optimizer that is shared out, whose share of the memory is less.
optimizer() { sed -n 's/.*gradients, \([0-9]*\) optimizer.*/\1/p' "$1"; }
whole=$(optimizer "$dir/err")
for n in 2 4; do
    for shared in "" --sharded_optimizer; do
        out=$dir/n$n$shared
        # shellcheck disable=SC2086
        ranks $n "$out" $short $shared 2>"$dir/err" || bad "$n ranks: $(tail -n 2 "$dir/err")"
        grep -q "$n ranks of mpi" "$dir/err" && ok || bad "$n ranks: not said: $(cat "$dir/err")"
        grep -q "\"world_size\": $n\b" "$out/train_results.json" && ok || bad "no world_size"
        equal "$out" "$dir/one" 8
    done
    share=$(optimizer "$dir/err")
    [ "$share" -lt "$whole" ] && ok || bad "$n ranks share out $whole MiB and each has $share"
done
# NCCL is for CUDA devices, and not in every build.
no='this build has no NCCL'
build/mrc version | grep -qx nccl && no='NCCL is for --backend cuda'
# shellcheck disable=SC2086
ranks 0 "$dir/no" $short --backend cpu --ddp_backend nccl 2>"$dir/err"
[ $? -eq 2 ] && grep -q -e "$no" "$dir/err" && ok || bad "NCCL: $(tail -n 2 "$dir/err")"
# Retrieval is trained by one process, started by mpirun or not; several are refused at once.
retrieval="--task biencoder --config_name data/config.json --tokenizer_name data --train_file
    data/validation.jsonl --per_device_train_batch_size 4 --max_steps 2"
# shellcheck disable=SC2086
build/train $retrieval --output_dir "$dir/alone" >/dev/null 2>&1 && ok || bad "retrieval"
# shellcheck disable=SC2086
mpirun $options -n 1 build/train $retrieval --output_dir "$dir/single" >/dev/null 2>&1 && ok \
    || bad "retrieval by one rank"
same "$dir/alone/model.safetensors" "$dir/single/model.safetensors"
# shellcheck disable=SC2086
$bound mpirun $options -n 2 build/train $retrieval --output_dir "$dir/no" >"$dir/out" 2>"$dir/err"
[ $? -eq 2 ] && [ "$(grep -c 'retrieval is trained by one process (found 2 ranks, expected 1)' \
    "$dir/err")" = 1 ] && [ ! -e "$dir/no" ] && ok || bad "retrieval by 2 ranks: $(cat "$dir/err")"
# A run that has ended already is none to go on with, and no failure.
# shellcheck disable=SC2086
ranks 2 "$dir/n2" $short --resume_from_checkpoint 2>"$dir/err" \
    && grep -q 'is finished' "$dir/err" && ok || bad "2 ranks, ended: $(tail -n 2 "$dir/err")"
# R-Drop and FGM need what another pass over the step leaves.
more="--max_steps 3 --save_steps 3 --rdrop_alpha 1 --fgm_epsilon 0.5 --ema_decay 0.9"
for n in 0 2; do
    # shellcheck disable=SC2086
    ranks $n "$dir/more$n" $more 2>"$dir/err" || bad "R-Drop, $n ranks: $(tail -n 2 "$dir/err")"
done
equal "$dir/more2" "$dir/more0" 3
# At the end all ranks give their parts of the averages, and measure the best model again.
for best in "" --load_best_model_at_end; do
    # shellcheck disable=SC2086
    ranks 0 "$dir/last0" $short --ema_decay 0.9 $best --overwrite_output_dir 2>"$dir/err" \
        || bad "averages, one process: $(tail -n 2 "$dir/err")"
    # shellcheck disable=SC2086
    ranks 3 "$dir/last3" $short --ema_decay 0.9 $best --overwrite_output_dir --sharded_optimizer \
        --ddp_timeout 20 2>"$dir/err" || bad "averages, 3 ranks: $(tail -n 2 "$dir/err")"
    equal "$dir/last3" "$dir/last0" 8
done

# Started on 2 ranks, one of them killed; on 3, stopped by a signal; ended on 1.
long="--max_steps 40 --eval_steps 10 --save_steps 5"
# shellcheck disable=SC2086
ranks 0 "$dir/whole" $long 2>"$dir/err" || bad "whole: $(tail -n 2 "$dir/err")"
# shellcheck disable=SC2086
ranks 2 "$dir/parts" $long 2>"$dir/err" &
job=$!
wait_for 30 test -e "$dir/parts/checkpoint-5/trainer_state.json"
children() { ps -e -o pid= -o args= | awk -v out="$1" '/build\/train/ && !/mpirun/ && !/awk/ &&
    index($0, out) { print $1 }'; }
victim=$(children "$dir/parts" | tail -n 1)
[ -n "$victim" ] && kill -9 "$victim"
wait $job
code=$?
[ $code -ne 0 ] && ok || bad "a rank was killed and the launcher says $code"
# shellcheck disable=SC2086
ranks 3 "$dir/parts" $long --sharded_optimizer --resume_from_checkpoint 2>"$dir/err" &
job=$!
wait_for 30 test -e "$dir/parts/checkpoint-15/trainer_state.json"
victim=$(children "$dir/parts" | tail -n 1)
[ -n "$victim" ] && kill -TERM "$victim"
wait $job
code=$?
[ $code -eq 7 ] && ok || bad "a signal to one rank: exit code $code: $(tail -n 3 "$dir/err")"
[ "$(grep -c 'stopped by a signal' "$dir/err")" = 1 ] && ok || bad "said more or less than once"
# shellcheck disable=SC2086
ranks 0 "$dir/parts" $long --resume_from_checkpoint 2>"$dir/err" \
    || bad "resumed on 1: $(tail -n 2 "$dir/err")"
equal "$dir/parts" "$dir/whole" 40

# SIGUSR1, which a launcher passes on: all save, and end with 7.
# shellcheck disable=SC2086
ranks 2 "$dir/asked" $long 2>"$dir/err" &
job=$!
wait_for 30 test -e "$dir/asked/checkpoint-5/trainer_state.json"
launcher=$(ps -e -o pid= -o args= | awk -v out="$dir/asked" '/mpirun/ && !/awk/ && index($0, out) {
    print $1 }' | head -n 1)
[ -n "$launcher" ] && kill -USR1 "$launcher"
wait $job
code=$?
[ $code -eq 7 ] && ok || bad "SIGUSR1 to the launcher: exit code $code: $(tail -n 3 "$dir/err")"
[ "$(grep -c 'stopped by a signal' "$dir/err")" = 1 ] && ok || bad "said more or less than once"

# Another build: the commit it was made from is a word in it.
commit=$(build/mrc version | sed -n 's/.*commit[: ]*\([0-9a-f]\{7,\}\).*/\1/p' | head -n 1)
other=$(echo "$commit" | tr '0-9a-f' '1-9a-f0')
if [ -n "$commit" ]; then
    LC_ALL=C sed "s/$commit/$other/g" build/mrc >"$dir/mrc" && chmod 755 "$dir/mrc"
    # shellcheck disable=SC2086
    mpirun $options -n 1 build/train $base $short --output_dir "$dir/x" \
        --train_file data/train.jsonl : -n 1 "$dir/mrc" train $base $short --output_dir "$dir/x" \
        --train_file data/train.jsonl >/dev/null 2>"$dir/err"
    code=$?
    [ $code -eq 3 ] && grep -q "the build of rank 1 .*$other.*(expected rank 0" "$dir/err" && ok \
        || bad "another build: exit code $code, $(tail -n 3 "$dir/err")"
fi

# Ranks that differ: whose, in what, and both values; exit code 3.
sed '1s/./ &/' data/train.jsonl >"$dir/other.jsonl"
differs() {
    what=$1 words=$2
    shift 2
    # shellcheck disable=SC2086
    mpirun $options -n 1 build/train $base $short --output_dir "$dir/x" \
        --train_file data/train.jsonl : -n 1 build/train $base $short --output_dir "$dir/x" "$@" \
        >/dev/null 2>"$dir/err"
    code=$?
    [ $code -eq 3 ] && ok || bad "$what: exit code $code"
    grep -q -e "$words" "$dir/err" && ok || bad "$what: $(cat "$dir/err")"
}
differs "another data file" 'train_file of rank 1 ' --train_file "$dir/other.jsonl"
differs "another backend" 'the backend (--backend) of rank 1 (.*) is naive' \
    --train_file data/train.jsonl --backend naive
differs "another optimizer" '--sharded_optimizer of rank 1 (.*) is true (expected rank 0' \
    --train_file data/train.jsonl --sharded_optimizer
differs "another flag" '--learning_rate of rank 1 (.*) is 0.001 (expected rank 0' \
    --train_file data/train.jsonl --learning_rate 1e-3

# What all ranks know is said once, whoever ends the job.
once() {
    what=$1 code=$2 words=$3
    shift 3
    # shellcheck disable=SC2086
    mpirun $options -n 3 build/train $base $short --output_dir "$dir/y" \
        --train_file data/train.jsonl "$@" >/dev/null 2>"$dir/err"
    found=$?
    rm -rf "$dir/y"
    [ $found -eq "$code" ] && ok || bad "$what: exit code $found"
    [ "$(grep -c "$words" "$dir/err")" = 1 ] && ok || bad "$what: $(cat "$dir/err")"
}
once "a missing file" 3 'missing.jsonl: ' --validation_file "$dir/missing.jsonl"
once "two sizes of a step" 2 'accumulation_steps 2 (found 5, expected 6 on 3 ranks' \
    --gradient_accumulation_steps 2
once "AdamP shared out" 2 'adamp looks at whole matrices' --sharded_optimizer --optim adamp

# A rank that stands still ends the run by the deadline, and is named; exit code 5.
# shellcheck disable=SC2086
ranks 2 "$dir/still" $long --ddp_timeout 2 2>"$dir/err" &
job=$!
wait_for 30 test -e "$dir/still/checkpoint-5/trainer_state.json"
victim=$(children "$dir/still" | tail -n 1)
[ -n "$victim" ] && kill -STOP "$victim"
wait $job
code=$?
[ -n "$victim" ] && kill -9 "$victim" 2>/dev/null
[ $code -eq 5 ] && ok || bad "a rank that stands still: exit code $code"
grep -q 'nothing from rank [01] (.*) for 2 s' "$dir/err" && ok || bad "$(tail -n 3 "$dir/err")"

end
