#!/bin/sh
# train's memory from outside: the plan is printed and kept, checkpointing changes no byte, and what
# does not fit is refused before training, with flags that do.  Run from the repository root after
# ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

# train_in DIR FLAG...: a few steps on data/, dropout on; messages in $dir/err.
train_in() {
    to=$1
    shift
    $limit build/train --config_name data/config.json --tokenizer_name data --train_file "$dir/train.jsonl" \
        --validation_file "$dir/dev.jsonl" --output_dir "$to" --rnn_hidden_size 64 \
        --per_device_train_batch_size 8 --gradient_accumulation_steps 2 --learning_rate 1e-3 \
        --logging_steps 1 --eval_steps 2 --save_steps 0 --seed 5 --threads 2 "$@"
}

head -n 300 data/train.jsonl >"$dir/train.jsonl"
head -n 40 data/validation.jsonl >"$dir/dev.jsonl"

# The same weights and log with and without checkpointing, in less memory.
step_mib() { sed -n 's/.*optimizer, \([0-9]*\) one step.*/\1/p' "$dir/err"; }
for form in "--head linear" "--head bilstm --batching token_budget" \
    "--head bilstm --pad_to_max_length --max_seq_length 96"; do
    rm -rf "$dir/plain" "$dir/again"
    # shellcheck disable=SC2086
    works train_in "$dir/plain" $form --max_steps 5
    plain=$(step_mib)
    # shellcheck disable=SC2086
    works train_in "$dir/again" $form --max_steps 5 --gradient_checkpointing
    again=$(step_mib)
    if [ "${again:-1}" -lt "${plain:-0}" ]; then ok
    else bad "$form: a step of $plain MiB, checkpointed $again"; fi
    if grep -q 'was short' "$dir/err"; then bad "$form: the plan was short"; else ok; fi
    same "$dir/plain/model.safetensors" "$dir/again/model.safetensors"
    same "$dir/plain/log.jsonl" "$dir/again/log.jsonl"
done

# Address space for the program and the data, not for training.
try_within() {                          # KIB FLAG...
    space=$1
    shift
    rm -rf "$dir/small"
    (ulimit -v "$space" && train_in "$dir/small" --head linear --max_steps 1 "$@") \
        >"$dir/out" 2>"$dir/err"
}
if ! (ulimit -v 4000000) 2>/dev/null; then skip "the shell does not limit address space"
elif [ -e /dev/nvidiactl ]; then skip "CUDA's driver reserves more address space than this limits"
elif ! try_within 4000000; then bad "training within 4 GB of address space"; shows
else
    # The least space in which it trains, to 512 KiB: what libraries take differs by machine.
    least=4000000 low=16000
    while [ $((least - low)) -gt 512 ]; do
        kib=$(((least + low) / 2))
        if try_within $kib; then least=$kib; else low=$kib; fi
    done
    found=
    for less in 500 1500 2500 3500 5000 7000; do
        kib=$((least - less))
        try_within $kib
        code=$?
        if grep -q 'does not fit (found .*, expected at least .*): .* needs .* MiB' "$dir/err"; then
            found=$kib
            break
        fi
    done
    if [ -n "$found" ]; then
        if [ "$code" = 4 ]; then ok; else bad "no memory: exit $code"; fi
        if grep -q 'step 1' "$dir/err"; then bad "training began"; else ok; fi
        if [ -e "$dir/small" ]; then bad "an output directory was made"; else ok; fi
        flags=$(sed -n 's/.*expected at least [0-9]*): \(--.*\) needs .*/\1/p' "$dir/err")
        # shellcheck disable=SC2086
        if [ -z "$flags" ]; then skip "at $found KiB nothing fits"
        elif try_within "$found" $flags; then ok
        else bad "advised $flags, which fails"; tail -n 1 "$dir/err"; fi
    else
        skip "no limit of address space lies between the data's and training's need"
    fi
fi

end
