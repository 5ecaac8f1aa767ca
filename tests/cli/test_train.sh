#!/bin/sh
# train and predict from outside: results and files, exact resuming after kills, equal results for
# any number of threads, refusals and their exit codes.  A model and data so small that a run takes
# a second.  Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
program=train                           # what its functions run
export LC_ALL=C

# log_history of a finished run, and what else its state counts.
history_of() {
    sed -n 's/.*"num_input_tokens_seen": \([0-9]*\).*"log_history": \(\[[^]]*\]\).*/\1 \2/p' \
        "$1/trainer_state.json"
}
# same_run A B: what a run is known by.
same_run() {
    if [ "$(history_of "$1")" = "$(history_of "$2")" ]; then ok
    else bad "log_history of $1 and $2 differ"; fi
    same "$1/log.jsonl" "$2/log.jsonl"
    same "$1/model.safetensors" "$2/model.safetensors"
    same "$1/best/model.safetensors" "$2/best/model.safetensors"
}
absent() {
    if [ -e "$1" ]; then bad "$1 was left behind"; else ok; fi
}

#---------------------------------------------------------------------------------------------------
# Data: who lives where, in passages that state four facts in shuffled order
#---------------------------------------------------------------------------------------------------
make_rows() {                           # SEED ROWS
    awk -v set="$1" -v seed="$1" -v rows="$2" '
        function random(n) { seed = (seed * 7919 + 12345) % 99991; return seed % n }
        BEGIN {
            for (row = 0; row < rows; row++) {
                asked = random(4); text = ""; first = random(4)
                for (i = 0; i < 4; i++) {
                    who = (first + i) % 4; place = "town" random(20)
                    if (who == asked) { start = length(text "p" who " lives in "); answer = place }
                    text = text "p" who " lives in " place " . "
                }
                printf "{\"id\": \"%s-%d\", \"title\": \"\", \"context\": \"%s\", ", set, row, text
                printf "\"question\": \"where does p%d live ?\", ", asked
                printf "\"answers\": {\"answer_start\": [%d], \"text\": [\"%s\"]}}\n", start, answer
            }
        }'
}
make_inputs() {
    mkdir -p "$dir/tok"
    {
        printf '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlives\nin\nwhere\ndoes\nlive\n?\n.\n'
        awk 'BEGIN { for (i = 0; i < 4; i++) print "p" i; for (i = 0; i < 20; i++) print "town" i }'
    } >"$dir/tok/vocab.txt"
    echo '{"do_lower_case": false, "tokenizer_class": "BertTokenizer"}' \
        >"$dir/tok/tokenizer_config.json"
    cat >"$dir/config.json" <<'EOF'
{"model_type": "bert", "vocab_size": 36, "hidden_size": 16, "num_hidden_layers": 1,
 "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
 "type_vocab_size": 2, "pad_token_id": 0, "hidden_dropout_prob": 0.1,
 "attention_probs_dropout_prob": 0.1, "layer_norm_eps": 1e-12}
EOF
    make_rows 1 60 >"$dir/train.jsonl"
    make_rows 2 16 >"$dir/dev.jsonl"
}

# train_in DIR FLAG...: the run that most tests repeat.
train_in() {
    to=$1
    shift
    $exec $limit build/train --config_name "$dir/config.json" --tokenizer_name "$dir/tok" \
        --train_file "$dir/train.jsonl" --validation_file "$dir/dev.jsonl" --output_dir "$to" \
        --head bilstm --num_rnn_layers 2 --rnn_hidden_size 8 --learning_rate 3e-3 \
        --per_device_train_batch_size 3 --gradient_accumulation_steps 2 --num_train_epochs 2.5 \
        --logging_steps 3 --eval_steps 5 --save_steps 8 --save_total_limit 3 "$@"
}

# A head that the folder has keeps what no flag gives: its sizes and its dropout.
test_same_head() {
    works train_in "$dir/first" --threads 1 --rnn_dropout 0 --max_steps 1
    works $exec build/train --model_name_or_path "$dir/first" --train_file "$dir/train.jsonl" \
        --output_dir "$dir/second" --head bilstm --threads 1 --max_steps 1
    if grep -q '"num_layers": 2, "hidden_size": 8, "dropout": 0' "$dir/second/config.json"; then ok
    else bad "the head that a folder has: $(grep mrc_head "$dir/second/config.json")"; fi
    # So does the run again from the flags that the run wrote.
    works $exec build/train "$dir/second/train_args.json" --output_dir "$dir/third" --threads 1
    same "$dir/second/model.safetensors" "$dir/third/model.safetensors"
}

#---------------------------------------------------------------------------------------------------
# One run and what it leaves
#---------------------------------------------------------------------------------------------------
test_run() {
    works train_in "$dir/base" --threads 1 --save_steps 1
    says "train.jsonl: 60 rows -> 60 kept"
    says "dev.jsonl: 16 rows -> 16 kept"
    if [ "$(wc -l <"$dir/out")" -eq 2 ]; then ok; else bad "stdout has more than the rows"; fi
    for file in config.json model.safetensors vocab.txt tokenizer_config.json best/config.json \
        best/model.safetensors best/vocab.txt checkpoint-25/optimizer.safetensors \
        checkpoint-25/trainer_state.json checkpoint-23/model.safetensors trainer_state.json \
        train_results.json eval_results.json all_results.json log.jsonl; do
        if [ -s "$dir/base/$file" ]; then ok; else bad "$file is missing"; fi
    done
    absent "$dir/base/checkpoint-22"
    same "$dir/tok/vocab.txt" "$dir/base/vocab.txt"
    same "$dir/base/model.safetensors" "$dir/base/checkpoint-25/model.safetensors"
    # 25 steps: 8 losses, 5 evaluations.
    if [ "$(grep -c '"train/loss"' "$dir/base/log.jsonl")" -eq 8 ] \
        && [ "$(grep -c '"eval/f1"' "$dir/base/log.jsonl")" -eq 5 ]; then ok
    else bad "log.jsonl has other events"; fi
    keys=$(sed -n 1p "$dir/base/log.jsonl" | tr ',' '\n' | sed 's/.*"\(.*\)".*/\1/' | tr '\n' ' ')
    if [ "$keys" = "step epoch train/loss train/learning_rate train/grad_norm " ]; then ok
    else bad "keys of log.jsonl: $keys"; fi
    keys=$(sed -n 's/^    "\(.*\)":.*/\1/p' "$dir/base/train_results.json" | tr '\n' ' ')
    if [ "$keys" = "epoch total_flos train_loss train_runtime train_samples train_samples_per_second \
train_skipped_steps train_steps_per_second world_size " ]; then ok; else bad "train_results.json: $keys"; fi
    for key in eval_exact_match eval_f1 eval_samples train_loss epoch; do
        if [ "$(grep -c "\"$key\"" "$dir/base/all_results.json")" -eq 1 ]; then ok
        else bad "all_results.json: $key"; fi
    done
    # log_history has the lines of log.jsonl with Hugging Face's keys, sorted, and one at the end.
    want=$(awk '{
            gsub(/[{}]/, ""); n = split($0, part, ", "); line = ""
            for (i = 1; i <= n; i++) { sub(/"train\//, "\"", part[i]); sub(/\//, "_", part[i]) }
            for (i = 2; i <= n; i++) for (j = i; j > 1 && part[j] < part[j - 1]; j--) {
                swap = part[j]; part[j] = part[j - 1]; part[j - 1] = swap
            }
            for (i = 1; i <= n; i++) line = line (i > 1 ? ", " : "") part[i]
            printf "%s{%s}", (NR > 1 ? ", " : ""), line
        }' "$dir/base/log.jsonl")
    case $(history_of "$dir/base") in
    *"[$want, {\"epoch\": 2.5, \"step\": 25, \"total_flos\": "*"\"train_loss\": "*"}]") ok ;;
    *) bad "log_history: $(history_of "$dir/base")" ;;
    esac
    for key in best_metric best_model_checkpoint epoch eval_steps global_step logging_steps \
        max_steps num_train_epochs save_steps total_flos train_batch_size; do
        if [ "$(grep -o "\"$key\": " "$dir/base/trainer_state.json" | wc -l)" -ge 1 ]; then ok
        else bad "trainer_state.json: no $key"; fi
    done
    if grep -q '"type": "bilstm"' "$dir/base/config.json"; then ok; else bad "config.json"; fi
    works train_in "$dir/t2" --threads 2
    same_run "$dir/base" "$dir/t2"
    works train_in "$dir/t3" --threads 3
    same_run "$dir/base" "$dir/t3"
    works train_in "$dir/other" --threads 2 --seed 43
    if cmp -s "$dir/base/log.jsonl" "$dir/other/log.jsonl"; then bad "--seed changes nothing"
    else ok; fi
}

#---------------------------------------------------------------------------------------------------
# Stopping and going on
#---------------------------------------------------------------------------------------------------
# ended: waits for it; its exit code in $code.  Its number may soon be another's: it is forgotten.
ended() {
    wait "$pid" 2>/dev/null
    code=$?
    running=
}
# start COMMAND...: in the background, as process $pid; its messages in $dir/started.
start() {
    : >"$dir/started"                   # what the last one said must not be taken for this one's
    (exec=exec; "$@" >/dev/null 2>"$dir/started" </dev/null) &
    pid=$!
    running=$pid
}
# killed_in DIR KILLS FLAG...: kills the run after ever other times, then lets it end.  One that
# ended before the kill came is begun anew.
killed_in() {
    goal=$1 kills=$2 hits=0
    shift 2
    for i in $(seq "$kills"); do
        start train_in "$goal" --resume_from_checkpoint "$@" --save_steps 1
        sleep "0.$(printf '%03d' $((i * 37 % 90 + 3)))"
        kill -9 "$pid" 2>/dev/null
        ended
        if [ $code = 137 ]; then hits=$((hits + 1)); else rm -rf "$goal"; fi
    done
    if [ $((3 * hits)) -ge "$kills" ]; then ok; else skip "only $hits of $kills kills came in time"; fi
    works train_in "$goal" --resume_from_checkpoint "$@"
}

test_resume() {
    killed_in "$dir/killed" "$KILLS" --threads 2
    same_run "$dir/base" "$dir/killed"
    left=$(find "$dir/killed" -name '*.tmp*' -o -name '.best*')
    if [ -z "$left" ]; then ok; else bad "left behind: $left"; fi

    # From each checkpoint that is left, and from a copy elsewhere with its log.
    for step in 23 24 25; do
        cp -R "$dir/base" "$dir/copy"
        works train_in "$dir/copy" --resume_from_checkpoint "$dir/base/checkpoint-$step" --threads 1
        same_run "$dir/base" "$dir/copy"
        rm -r "$dir/copy"
    done

    # A finished run is left alone.
    sum=$(cat "$dir/base/"*.json | cksum)
    works train_in "$dir/base" --resume_from_checkpoint
    says "nothing to do"
    if [ "$(cat "$dir/base/"*.json | cksum)" = "$sum" ]; then ok; else bad "it was changed"; fi

    # Nothing to resume from is a fresh run, and is said.
    works train_in "$dir/fresh" --resume_from_checkpoint
    says "starting at step 0"
    same_run "$dir/base" "$dir/fresh"

    # The newest checkpoint is damaged: the one before it serves.
    cp -R "$dir/base" "$dir/copy"
    rm "$dir/copy/trainer_state.json"
    printf x >>"$dir/copy/checkpoint-25/model.safetensors"
    works train_in "$dir/copy" --resume_from_checkpoint
    says "checkpoint-25/model.safetensors: is damaged"
    says "resumed from $dir/copy/checkpoint-24"
    same_run "$dir/base" "$dir/copy"
    rm -r "$dir/copy"
}

# shellcheck disable=SC2086     # $steps is flags
# each NAME FLAG...: a run of 50 steps, each saved; gone on from those of $EACH.  All of them only
# when MRC_FAULTS is full.
each() {
    name=$1
    shift
    works train_in "$dir/$name" --threads 2 $steps "$@"
    for step in $EACH; do
        cp -R "$dir/$name" "$dir/copy"
        rm "$dir/copy/trainer_state.json" "$dir/copy/model.safetensors"
        works train_in "$dir/copy" --resume_from_checkpoint "$dir/copy/checkpoint-$step" --threads 1 \
            $steps "$@"
        says "resumed from $dir/copy/checkpoint-$step"
        same_run "$dir/$name" "$dir/copy"
        rm -r "$dir/copy"
    done
}
test_each() {
    steps="--num_train_epochs 5 --save_steps 1 --save_total_limit 0"
    each fifty
    # What an experiment may choose, as much as goes together.
    each chosen --head bigru --loss focal --gamma 2 --optim adamp --nesterov --weight_decay 0.01 \
        --ema_decay 0.9 --rdrop_alpha 1 --fgm_epsilon 0.5 --layerwise_lr_decay 0.9 \
        --head_learning_rate 1e-2 --lr_scheduler_type cosine_with_restarts --lr_num_cycles 3 \
        --warmup_steps 4 --batching sorted --metric_for_best_model eval_loss --patience 9
    if [ "$(wc -l <"$dir/chosen/log.jsonl")" -eq 26 ]; then ok; else bad "a run that was chosen"; fi
    each drawn --head conv1d --loss label_smoothing --optim sgd --momentum 0.9 --fgm_epsilon 0.2 \
        --batching token_budget --lr_scheduler_type inverse_sqrt \
        --loss_positions valid --pad_to_max_length --max_seq_length 48 --max_steps 50
    for threads in $THREADS; do
        works train_in "$dir/threads" --threads "$threads" $steps
        same_run "$dir/fifty" "$dir/threads"
        same "$dir/fifty/checkpoint-50/optimizer.safetensors" \
            "$dir/threads/checkpoint-50/optimizer.safetensors"
        rm -r "$dir/threads"
    done
}

# A signal after a while: the state is saved, exit 7, and the run goes on from there.
test_signals() {
    for signal in INT TERM HUP; do
        start train_in "$dir/stopped" --resume_from_checkpoint --save_steps 1000
        for i in $(seq 200); do
            [ "$(grep -c 'loss' "$dir/started")" -ge 2 ] && break
            sleep 0.01
        done
        kill -$signal "$pid" 2>/dev/null
        ended
        # INT and others may come after the last step: then there is nothing left to stop.
        if [ $code = 7 ] && tail -n 1 "$dir/started" | grep -q 'saved .*/checkpoint-'; then ok
        elif [ $code = 0 ] && [ -e "$dir/stopped/trainer_state.json" ]; then ok
        else
            bad "SIG$signal: expected exit 7, found $code"
            tail -n 3 "$dir/started"
        fi
    done
    works train_in "$dir/stopped" --resume_from_checkpoint --save_steps 1000
    same_run "$dir/base" "$dir/stopped"
}

# Stopped by a signal again and again at odd times, and gone on with each time.
test_stops() {
    saved=0
    rm -rf "$dir/stops"
    for i in $(seq "$STOPS"); do
        case $((i % 3)) in 0) signal=INT ;; 1) signal=TERM ;; *) signal=HUP ;; esac
        start train_in "$dir/stops" --resume_from_checkpoint --save_steps 1000
        sleep "0.$(printf '%03d' $((i * 37 % 90 + 3)))"
        kill -$signal "$pid" 2>/dev/null
        ended
        case $code in
        7) saved=$((saved + 1)) ;;
        0) rm -rf "$dir/stops" ;;       # it had ended
        129|130|143) ;;                 # it had hardly begun
        *) bad "SIG$signal: exit $code"; tail -n 3 "$dir/started" ;;
        esac
    done
    if [ $((3 * saved)) -ge "$STOPS" ]; then ok; else skip "only $saved of $STOPS stops in time"; fi
    works train_in "$dir/stops" --resume_from_checkpoint --save_steps 1000
    same_run "$dir/base" "$dir/stops"
}

# Where it may be asked to write, and in what surroundings.
test_places() {
    exec="env -i"
    works train_in "$dir/a b  c" --save_steps 1000
    same_run "$dir/base" "$dir/a b  c"
    exec=
    works train_in "$dir/한국어 \"x\"" --save_steps 1000
    same_run "$dir/base" "$dir/한국어 \"x\""
    long=$(printf '%0250d' 0)
    works train_in "$dir/$long/$long" --max_steps 2
    fails 5 "cannot" train_in "$dir/${long}0123456789" --max_steps 2
    run train_in "$(printf "$dir/%04095d" 0)" --max_steps 2
    if [ "$code" = 2 ] || [ "$code" = 3 ] || [ "$code" = 5 ]; then ok
    else bad "a name of 4096 characters"; shows; fi
    if [ -d /proc/self ]; then fails 5 "/proc/" train_in /proc/none --max_steps 2
    else skip "no /proc: a folder that cannot be written to"; fi
    # What another left under the name of a temporary folder is not followed.
    mkdir -p "$dir/linked" "$dir/victim"
    echo mine >"$dir/victim/mine"
    ln -s "$dir/victim" "$dir/linked/.checkpoint-2.tmp"
    works train_in "$dir/linked" --overwrite_output_dir --max_steps 2
    if [ "$(ls -A "$dir/victim")" = mine ] && [ -s "$dir/linked/checkpoint-2/config.json" ]; then ok
    else bad "a symbolic link was followed"; fi
}

# Other ways to train: each is the same after kills, and by other threads.
test_forms() {
    for form in "--compat reference --eval_steps 7 --max_seq_length 48" \
        "--compat reference --max_steps 30 --max_seq_length 48" \
        "--encoding sentinel --batching sorted --lr_scheduler_type constant_with_warmup" \
        "--batching token_budget --head linear --warmup_ratio 0.2 --gradient_checkpointing" \
        "--batching sequential --optim adamw_hf --weight_decay 0.1 --pad_to_max_length" \
        "--bf16" "--bf16 --head mlp --gradient_checkpointing --max_steps 12" \
        "--backend naive --fp16 --max_steps 14" "--backend naive --bf16 --max_steps 8"; do
        rm -rf "$dir/one" "$dir/two"
        # shellcheck disable=SC2086
        works train_in "$dir/one" --threads 1 $form
        # shellcheck disable=SC2086
        killed_in "$dir/two" 3 --threads 3 $form
        same_run "$dir/one" "$dir/two"
    done
    # 16 bits train, the loss scale is logged, and a backend that lacks them says so at once.
    if [ "$(tail -n 2 "$dir/one/log.jsonl" | grep -c '"train/loss_scale"')" -eq 0 ]; then ok
    else bad "bf16 has a loss scale"; fi
    rm -rf "$dir/one"
    works train_in "$dir/one" --backend naive --fp16 --max_steps 3
    if grep -q '"train/loss_scale": [0-9]' "$dir/one/log.jsonl"; then ok; else bad "loss_scale"; fi
    # The cpu backend multiplies in bf16: other numbers than fp32, close to them, and its name in
    # the checkpoint says so; fp16 it has not.
    rm -rf "$dir/one" "$dir/two"
    works train_in "$dir/one" --bf16 --max_steps 6 --logging_steps 6
    says "--bf16: products multiply bfloat16 and add in fp32"
    if grep -q '"isa": "[a-z0-9]*-bf16' "$dir/one/checkpoint-6/trainer_state.json"; then ok
    else bad "--bf16: no isa in the checkpoint"; fi
    works train_in "$dir/two" --max_steps 6 --logging_steps 6
    loss_of() { sed -n 's/.*"train.loss": \([0-9.]*\).*/\1/p' "$1/log.jsonl" | head -1; }
    if awk -v a="$(loss_of "$dir/one")" -v b="$(loss_of "$dir/two")" \
        'BEGIN { d = a > b ? a - b : b - a; exit !(a != b && d < 0.01 * b) }'; then ok
    else bad "--bf16: loss $(loss_of "$dir/one"), fp32 $(loss_of "$dir/two")"; fi
    fails 3 "--fp16: the cpu backend does not compute in f16 (found --fp16, expected" \
        train_in "$dir/none" --fp16
    absent "$dir/none"
    fails 2 "--bf16: contradicts --fp16" train_in "$dir/none" --backend naive --bf16 --fp16
    fails 2 "--tf32: only CUDA devices multiply so" train_in "$dir/none" --tf32
    # The study's validation steps, counted in each epoch; its losses are logged with them.
    rm -rf "$dir/one"
    make_rows 3 102 >"$dir/more.jsonl"
    works train_in "$dir/one" --train_file "$dir/more.jsonl" --per_device_train_batch_size 1 \
        --gradient_accumulation_steps 1 --num_train_epochs 2 --compat reference \
        --head linear --eval_steps 1000 --logging_steps 1000 --save_steps 0
    rm -rf "$dir/one"
    works build/train --config_name "$dir/config.json" --tokenizer_name "$dir/tok" \
        --train_file "$dir/more.jsonl" --validation_file "$dir/dev.jsonl" \
        --output_dir "$dir/one" --per_device_train_batch_size 1 --num_train_epochs 2 \
        --compat reference --save_steps 0
    steps=$(sed 's/{"step": \([0-9]*\),.*\(train\|eval\).loss.*/\2\1/' "$dir/one/log.jsonl" \
        | tr '\n' ' ')
    if [ "$steps" = "train101 eval101 train203 eval203 " ]; then ok
    else bad "--compat reference: events $steps"; fi
}

#---------------------------------------------------------------------------------------------------
# predict
#---------------------------------------------------------------------------------------------------
test_predict() {
    works build/predict --model_name_or_path "$dir/base" --test_file "$dir/dev.jsonl" \
        --output_dir "$dir/answers" --save_logits "$dir/logits.safetensors"
    if [ ! -s "$dir/out" ]; then ok; else bad "predict prints to stdout"; shows; fi
    if [ "$(grep -c '^    "2-[0-9]*": "' "$dir/answers/predictions.json")" -eq 16 ]; then ok
    else bad "predictions.json"; fi
    # What train measured on its final model is what predict and evaluate say.
    expected=$(sed -n 's/.*"eval_exact_match": \(.*\),/\1/p' "$dir/base/eval_results.json")
    works build/evaluate --metric korquad "$dir/dev.jsonl" "$dir/answers/predictions.json"
    says "\"exact_match\": $expected,"
    for name in '"input_ids":{"dtype":"I64","shape":\[16,' '"offset_mapping":{"dtype":"I64"' \
        '"example_index":{"dtype":"I64","shape":\[16\]' '"start_logits":{"dtype":"F32"'; do
        if head -c 1000 "$dir/logits.safetensors" | tr -d ' ' | grep -aq "$name"; then ok
        else bad "--save_logits: no $name"; fi
    done
    cp "$dir/answers/predictions.json" "$dir/first.json"
    # Weights in 16 bits, in each way that a backend has them.
    for flags in "--dtype bf16" "--dtype bf16 --backend naive" "--dtype fp16 --backend naive" \
        "--dtype int8" "--dtype int8 --int8_keep down,attention"; do
        # shellcheck disable=SC2086
        works build/predict --model_name_or_path "$dir/base" --test_file "$dir/dev.jsonl" \
            --output_dir "$dir/half" $flags
        if [ "$(grep -c '^    "2-[0-9]*": "' "$dir/half/predictions.json")" -eq 16 ]; then ok
        else bad "predict $flags"; fi
    done
    # Converted to bytes, with a note in config.json: the same logits as bytes made at loading.
    works build/predict --model_name_or_path "$dir/base" --test_file "$dir/dev.jsonl" \
        --output_dir "$dir/half" --dtype int8 --save_logits "$dir/int8.safetensors"
    works build/convert "$dir/base" --output "$dir/bytes" --dtype int8
    if grep -q '"quant_method": "compressed-tensors"' "$dir/bytes/config.json"; then ok
    else bad "convert --dtype int8: no note in config.json"; fi
    if build/inspect --tensors "$dir/bytes" | grep -q '_scale", "dtype": "F32"'; then ok
    else bad "convert --dtype int8: no scales"; fi
    works build/predict --model_name_or_path "$dir/bytes" --test_file "$dir/dev.jsonl" \
        --output_dir "$dir/half" --dtype int8 --save_logits "$dir/bytes.safetensors"
    same "$dir/int8.safetensors" "$dir/bytes.safetensors"
    works build/predict --model_name_or_path "$dir/bytes" --test_file "$dir/dev.jsonl" \
        --output_dir "$dir/half"
    fails 3 "is of bytes already" build/convert "$dir/bytes" --output "$dir/twice" --dtype int8
    fails 2 "--dtype int8: is noted in config.json" build/convert "$dir/base" \
        --output "$dir/one.safetensors" --dtype int8
    # What is trained from it is in numbers again, and says nothing of bytes.
    works build/train --model_name_or_path "$dir/bytes" --train_file "$dir/dev.jsonl" \
        --output_dir "$dir/again" --max_steps 1 --max_seq_length 48 --doc_stride 8
    if grep -q quantization_config "$dir/again/config.json"; then bad "saved as bytes"; else ok; fi
    works build/predict --model_name_or_path "$dir/again" --test_file "$dir/dev.jsonl" \
        --output_dir "$dir/half"
    fails 2 "--int8_keep: no such layer (found middle, expected query" build/predict \
        --model_name_or_path "$dir/base" --test_file "$dir/dev.jsonl" --output_dir "$dir/none" \
        --dtype int8 --int8_keep down,middle
    fails 2 "--int8_keep: needs --dtype int8" build/predict --model_name_or_path "$dir/base" \
        --test_file "$dir/dev.jsonl" --output_dir "$dir/none" --int8_keep down
    fails 3 "model: backend naive has no weights of i8" build/predict --model_name_or_path \
        "$dir/base" --test_file "$dir/dev.jsonl" --output_dir "$dir/none" --dtype int8 \
        --backend naive
    fails 3 "model: backend cpu has no kernels for f16" build/predict --model_name_or_path \
        "$dir/base" --test_file "$dir/dev.jsonl" --output_dir "$dir/none" --dtype fp16
    for flags in "--threads 1" "--threads 3 --per_device_eval_batch_size 1"; do
        # shellcheck disable=SC2086
        works build/predict --model_name_or_path "$dir/base" --test_file "$dir/dev.jsonl" \
            --output_dir "$dir/answers" $flags
        same "$dir/first.json" "$dir/answers/predictions.json"
    done
    # Answers are not needed, and need not be right; without a passage there is none.
    sed 's/"answers".*/"answers": {"answer_start": [3], "text": ["no such text"]}}/' \
        "$dir/dev.jsonl" >"$dir/test.jsonl"
    works build/predict --model_name_or_path "$dir/base" --test_file "$dir/test.jsonl" \
        --output_dir "$dir/answers"
    same "$dir/first.json" "$dir/answers/predictions.json"
    sed 's/, "answers".*/}/' "$dir/dev.jsonl" >"$dir/test.jsonl"
    works build/predict --model_name_or_path "$dir/base" --test_file "$dir/test.jsonl" \
        --output_dir "$dir/answers"
    same "$dir/first.json" "$dir/answers/predictions.json"
    works build/predict --model_name_or_path "$dir/base" --test_file "$dir/dev.jsonl" \
        --encoding sentinel --save_logits "$dir/sentinel.safetensors"
    fails 2 "--output_dir is missing" build/predict --model_name_or_path "$dir/base" \
        --test_file "$dir/dev.jsonl"
    fails 2 "--save_logits is missing" build/predict --model_name_or_path "$dir/base" \
        --test_file "$dir/dev.jsonl" --encoding sentinel
    fails 3 "no/such" build/predict --model_name_or_path "$dir/base" --test_file no/such \
        --output_dir "$dir/nowhere"
    fails 3 "no/such" build/predict --model_name_or_path no/such --test_file "$dir/dev.jsonl" \
        --output_dir "$dir/nowhere"
    fails 3 "found 65, expected at most 64" build/predict --model_name_or_path "$dir/base" \
        --test_file "$dir/dev.jsonl" --output_dir "$dir/nowhere" --max_seq_length 65
    absent "$dir/nowhere"
}

#---------------------------------------------------------------------------------------------------
# Refusals
#---------------------------------------------------------------------------------------------------
test_usage() {
    for flags in "--model_name_or_path $dir/base" "--max_steps 0" "--do_train=false" \
        "--compat reference --encoding offsets" "--compat reference --max_grad_norm 1" \
        "--doc_stride 60 --max_seq_length 60" "--overwrite_output_dir --resume_from_checkpoint" \
        "--learning_rate nan" "--head gru" "--num_train_epochs 0" "--batching none"; do
        # shellcheck disable=SC2086
        fails 2 "expected" train_in "$dir/refused" $flags
    done
    fails 2 "expected" build/train --train_file x --output_dir y
    fails 2 "--tokenizer_name is missing" build/train --train_file x --output_dir y --config_name z
    absent "$dir/refused"
}

# Inputs that do not fit name the file, the thing and both numbers, and leave nothing behind.
test_inputs() {
    refused=$dir/refused
    fails 3 "no/such.jsonl" train_in "$refused" --train_file no/such.jsonl
    fails 3 "no/such.jsonl" train_in "$refused" --validation_file no/such.jsonl
    fails 3 "no/such" train_in "$refused" --config_name no/such
    fails 3 "no/such" train_in "$refused" --tokenizer_name no/such
    fails 3 "found 65, expected at most 64" train_in "$refused" --max_seq_length 65
    sed 's/"vocab_size": 36/"vocab_size": 35/' "$dir/config.json" >"$dir/other.json"
    fails 3 "found 36 tokens, expected at most its vocab_size 35" train_in "$refused" \
        --config_name "$dir/other.json"
    sed 's/"pad_token_id": 0/"pad_token_id": 3/' "$dir/config.json" >"$dir/other.json"
    fails 3 "found id 0, expected its pad_token_id 3" train_in "$refused" \
        --config_name "$dir/other.json"
    sed 's/"num_attention_heads": 2/"num_attention_heads": 3/' "$dir/config.json" \
        >"$dir/other.json"
    fails 3 "other.json" train_in "$refused" --config_name "$dir/other.json"
    : >"$dir/empty.jsonl"
    fails 3 "empty.jsonl" train_in "$refused" --train_file "$dir/empty.jsonl"
    head -n 1 "$dir/train.jsonl" | sed 's/"text": \["/&x/' >"$dir/wrong.jsonl"
    fails 3 "found 0 of 1 kept" train_in "$refused" --train_file "$dir/wrong.jsonl"
    { cat "$dir/dev.jsonl"; echo '{"id"'; } >"$dir/wrong.jsonl"
    fails 3 "wrong.jsonl:17:" train_in "$refused" --train_file "$dir/wrong.jsonl"
    { cat "$dir/dev.jsonl"; sed 's/"text": \["/&x/' "$dir/dev.jsonl"; } >"$dir/wrong.jsonl"
    works train_in "$dir/partly" --train_file "$dir/wrong.jsonl" --max_steps 1
    says "wrong.jsonl: 32 rows -> 16 kept ("
    absent "$refused"

    # A model directory whose weights are cut short, or of another shape, or lack the encoder.
    cp -R "$dir/base/best" "$dir/model"
    head -c 3000 "$dir/base/model.safetensors" >"$dir/model/model.safetensors"
    fails 3 "model/model.safetensors" from_model "$refused"
    cp "$dir/base/model.safetensors" "$dir/model/"
    sed 's/"hidden_size": 16/"hidden_size": 32/' "$dir/base/config.json" >"$dir/model/config.json"
    fails 3 "(found (36, 16), expected (36, 32))" from_model "$refused"
    sed 's/"num_hidden_layers": 1/"num_hidden_layers": 2/' "$dir/base/config.json" \
        >"$dir/model/config.json"
    fails 3 "encoder.layer.1." from_model "$refused"
    # Another head: the old one is left out, the new one initialised, by name.
    cp "$dir/base/config.json" "$dir/model/"
    works from_model "$dir/headless" --head linear --max_steps 1
    says "has no qa_outputs.weight: initialised from --seed"
    says "lstm.bias_hh_l0 has no place in the model: left out"
    works from_model "$dir/head" --max_steps 1
    if grep -q "initialised" "$dir/err"; then bad "a head that was there"; shows; else ok; fi
    absent "$refused"
}
from_model() {
    to=$1
    shift
    build/train --model_name_or_path "$dir/model" --train_file "$dir/train.jsonl" \
        --output_dir "$to" "$@"
}

test_directories() {
    sum=$(cat "$dir/base/"*.json* | cksum)
    fails 3 "not empty" train_in "$dir/base"
    fails 3 "found a file" train_in "$dir/config.json"
    fails 3 "which would be overwritten" build/train --model_name_or_path "$dir/base/best" \
        --train_file "$dir/train.jsonl" --output_dir "$dir/base" --overwrite_output_dir
    fails 3 "--learning_rate is not that of the run to be resumed (found 0.001, expected 0.003)" \
        train_in "$dir/base" --resume_from_checkpoint --learning_rate 1e-3
    fails 3 "--seed" train_in "$dir/base" --resume_from_checkpoint --seed 1
    fails 3 "train_file is not that of the run" train_in "$dir/base" --resume_from_checkpoint \
        --train_file "$dir/dev.jsonl"
    fails 3 "validation_file is not that of the run" train_in "$dir/base" \
        --resume_from_checkpoint --do_eval false
    fails 3 "no/such" train_in "$dir/base" --resume_from_checkpoint no/such
    if [ "$(cat "$dir/base/"*.json* | cksum)" = "$sum" ]; then ok; else bad "it was changed"; fi
    cp -R "$dir/base" "$dir/copy"
    printf x >>"$dir/copy/checkpoint-24/optimizer.safetensors"
    fails 3 "is damaged" train_in "$dir/copy" --resume_from_checkpoint "$dir/copy/checkpoint-24"
    head -n 2 "$dir/base/log.jsonl" >"$dir/copy/log.jsonl"
    fails 3 "log.jsonl: is not the log of" train_in "$dir/copy" \
        --resume_from_checkpoint "$dir/copy/checkpoint-25"
    # Beginning anew removes what a run wrote and nothing else.
    echo mine >"$dir/copy/notes.txt"
    works train_in "$dir/copy" --overwrite_output_dir --max_steps 3 --save_steps 2
    if [ -s "$dir/copy/notes.txt" ] && [ ! -e "$dir/copy/checkpoint-25" ] \
        && [ "$(grep -c . "$dir/copy/log.jsonl")" -eq 2 ]; then ok; else bad "not begun anew"; fi
    rm -r "$dir/copy"

    # Two of them in one place.
    start train_in "$dir/two_at_once" --num_train_epochs 1000
    for i in $(seq 300); do
        [ -s "$dir/two_at_once/log.jsonl" ] && break
        sleep 0.01
    done
    fails 3 "another train is writing there" train_in "$dir/two_at_once" --resume_from_checkpoint
    kill -9 "$pid"
    ended
}

#---------------------------------------------------------------------------------------------------
# Numbers, memory, disks
#---------------------------------------------------------------------------------------------------
test_faults() {
    fails 6 "not finite 3 times in a row" train_in "$dir/nan" --learning_rate 1e6 \
        --optim adamw_hf --max_grad_norm 0 --weight_decay 1e6 --lr_scheduler_type constant \
        --eval_steps 1000 --num_train_epochs 50 --save_steps 1000
    says "log.jsonl"
    # Each of the three is there, with its batch of two times three.
    ids='"bad/batch": \["1-[0-9]*", "1-[0-9]*", "1-[0-9]*", "1-[0-9]*", "1-[0-9]*", "1-[0-9]*"\]}'
    if [ "$(grep -c "\"bad/what\": \"not finite\", .*$ids\$" "$dir/nan/log.jsonl")" -eq 3 ]; then ok
    else bad "no batches of bad steps"; tail -n 3 "$dir/nan/log.jsonl"; fi
    # By steps that are finite into weights that are not: those are not saved, the last that are stay.
    fails 6 "not finite" train_in "$dir/nan" --overwrite_output_dir --learning_rate 1e6 --save_steps 1 \
        --optim adamw_hf --max_grad_norm 0 --weight_decay 1e6 --lr_scheduler_type constant \
        --eval_steps 1000 --num_train_epochs 50
    kept=$(find "$dir/nan" -name 'checkpoint-*' | sort -t - -k 2 -n | tail -n 1)
    works build/predict --model_name_or_path "$kept" --test_file "$dir/dev.jsonl" \
        --output_dir "$dir/nan_predictions"

    # A file may not grow beyond a size: each write that fails ends the run with exit 5, and what
    # was saved before stays good.
    for blocks in 1 4 8 16; do
        rm -rf "$dir/full"
        works train_in "$dir/full" --max_steps 25 --num_train_epochs 2.5 --logging_steps 1 \
            --save_steps 1000
        rm -rf "$dir/full"
        (ulimit -f $blocks; exec=exec; train_in "$dir/full" >/dev/null 2>"$dir/err")
        code=$?
        if [ $code = 5 ] && tail -n 1 "$dir/err" | grep -q '^train: .*/full'; then ok
        else bad "ulimit -f $blocks: expected exit 5"; shows; fi
        if find "$dir/full" -name '*.tmp*' 2>/dev/null | grep -q .; then
            bad "ulimit -f $blocks: left behind"; else ok; fi
        works train_in "$dir/full" --resume_from_checkpoint
        same_run "$dir/base" "$dir/full"
    done
    fails 5 "cannot" train_in /dev/null/x
    if [ -w /dev/full ]; then
        (exec=exec; train_in "$dir/stdout" >/dev/full 2>"$dir/err")
        code=$?
        if [ $code = 5 ] && grep -q 'stdout' "$dir/err"; then ok; else bad "/dev/full"; shows; fi
    else skip "no /dev/full"; fi

    # Less memory than it takes: exit 4 or success, never a signal.
    if ! (ulimit -v 1000000; exec build/train --version) >/dev/null 2>&1; then
        skip "no program starts under ulimit -v (a sanitizer, or no such limit)"
        return
    fi
    refused=0 from=3000                 # the least with which the program and its libraries load
    while ! (ulimit -v $from; exec build/train --version) >/dev/null 2>&1; do
        from=$((from + 500))
    done
    for kib in $(seq $from 300 $((from + 9000))); do
        rm -rf "$dir/memory"
        (ulimit -v "$kib"; exec=exec; train_in "$dir/memory" --threads 1 --max_steps 2) >/dev/null 2>"$dir/err"
        code=$?
        case $code in
        0) ;;
        4) refused=$((refused + 1)) ;;
        127) continue ;;                # the program itself could not be loaded
        *) bad "ulimit -v $kib"; shows ;;
        esac
    done
    if [ $refused -gt 0 ]; then ok; else bad "ulimit -v: nothing ran out of memory"; fi
}

#---------------------------------------------------------------------------------------------------
# The choices of an experiment: each trains, resumes to the same bytes, and its head answers
#---------------------------------------------------------------------------------------------------
# choice NAME FLAG...: a run with every checkpoint; one that goes on from the middle ends alike.
choice() {
    name=$1
    shift
    works train_in "$dir/$name" --threads 1 --max_steps 12 --eval_steps 4 --save_steps 1 \
        --save_total_limit 6 "$@"
    cp -R "$dir/$name" "$dir/copy"
    works train_in "$dir/copy" --threads 2 --max_steps 12 --eval_steps 4 --save_steps 1 \
        --save_total_limit 6 "$@" --resume_from_checkpoint "$dir/$name/checkpoint-7"
    same_run "$dir/$name" "$dir/copy"
    works build/predict --model_name_or_path "$dir/$name" --test_file "$dir/dev.jsonl" \
        --output_dir "$dir/answers"
    if cmp -s "$dir/base/model.safetensors" "$dir/$name/model.safetensors"; then
        bad "$* changes nothing"
    fi
    rm -rf "$dir/copy" "$dir/answers"
}

test_choices() {
    choice mlp --head mlp --loss focal --gamma 2 --optim adamp --weight_decay 0.01
    choice gru --head bigru --loss label_smoothing --smoothing 0.1 --optim sgd --momentum 0.9 \
        --lr_scheduler_type cosine --warmup_steps 3
    choice conv --head conv1d --head_kernel_size 5 --ema_decay 0.9 --layerwise_lr_decay 0.8 \
        --head_learning_rate 1e-2 --lr_scheduler_type polynomial
    choice drop --rdrop_alpha 1 --fgm_epsilon 0.5 --lr_scheduler_type inverse_sqrt \
        --loss_positions valid --pad_to_max_length --max_seq_length 48
    choice words --freeze_embeddings --head linear
    choice cold --freeze_layers 1 --metric_for_best_model eval_loss \
        --lr_scheduler_type cosine_with_restarts --lr_num_cycles 2
    head='"type": "conv1d", "num_layers": 2, "hidden_size": 8, "dropout": 0.2, "kernel_size": 5'
    if grep -q "\"mrc_head\": {$head}" "$dir/conv/config.json"; then ok
    else bad "the head in config.json"; fi

    # Measured on the first examples, at each epoch's end, or never.
    works train_in "$dir/few" --max_train_samples 20 --max_eval_samples 5 --max_steps 3
    says "train.jsonl: 20 rows -> 20 kept"
    says "dev.jsonl: 5 rows -> 5 kept"
    works train_in "$dir/few" --overwrite_output_dir --max_steps 6 --eval_strategy no
    if grep -q 'eval/loss' "$dir/few/log.jsonl"; then bad "--eval_strategy no"; else ok; fi
    fails 2 "--eval_strategy: contradicts --eval_steps" train_in "$dir/no" --eval_strategy epoch
    fails 2 "--DEBUG: is not a run of its own" train_in "$dir/no" --DEBUG

    # A rate of 0 never gets better: the run stops when the third evaluation is no better.
    works train_in "$dir/patient" --learning_rate 0 --patience 2 --eval_steps 3
    says "has not been better for 2 evaluations: stopping"
    if [ "$(grep -c '"eval/loss"' "$dir/patient/log.jsonl")" -eq 3 ]; then ok
    else bad "--patience 2"; fi
    works train_in "$dir/patient" --learning_rate 0 --patience 2 --eval_steps 3 \
        --resume_from_checkpoint
    says "nothing to do"

    # A fold is measured on, the rest trained on; predict answers the same fold.
    set -- --config_name "$dir/config.json" --tokenizer_name "$dir/tok" --output_dir "$dir/fold" \
        --train_file "$dir/train.jsonl" --max_steps 4 --num_folds 7
    works build/train "$@" --fold 2
    says "fold 2 of 7: 51 of 60 examples to train on"
    says "train.jsonl: 9 rows -> 9 kept"
    works build/predict --model_name_or_path "$dir/fold/best" --test_file "$dir/train.jsonl" \
        --num_folds 7 --fold 2 --output_dir "$dir/oof"
    if [ "$(grep -c '^    "1-' "$dir/oof/predictions.json")" -eq 9 ]; then ok
    else bad "out-of-fold predictions"; fi
    fails 2 "--fold: is not one of the folds (found 7 of --num_folds 7" build/train "$@" --fold 7 \
        --overwrite_output_dir
    fails 2 "--num_folds: a fold of --train_file is measured on" train_in "$dir/no" --num_folds 2
    fails 2 "--gamma: is not of this --loss" train_in "$dir/no" --gamma 1
    fails 2 "--metric_for_best_model: no such metric" train_in "$dir/no" \
        --metric_for_best_model rouge
    fails 2 "--head_kernel_size: is not odd" train_in "$dir/no" --head conv1d --head_kernel_size 4
    fails 2 "which --freeze_embeddings freezes" train_in "$dir/no" --freeze_embeddings \
        --fgm_epsilon 1
    fails 2 "--freeze_layers: the model has fewer" train_in "$dir/no" --freeze_layers 2
    absent "$dir/no"
}

#---------------------------------------------------------------------------------------------------
# --report_to: the values of log.jsonl, each once, in files that a kill leaves readable
#---------------------------------------------------------------------------------------------------
# STEP KEY VALUE of DIR/log.jsonl, sorted; what two lines of a step have alike stands once.
logged_lines() {
    tr -d '{}":,' <"$1/log.jsonl" | awk '{
            for (i = 3; i < NF; i += 2) print $2, $i, $(i + 1)
        }' | sort -u
}
# reads DIR: what tests/unit/test_logs.c decodes is what log.jsonl has.
reads() {
    logged_lines "$1" >"$dir/want"
    for file in "$1"/runs/*/events.out.tfevents.* "$1"/wandb/latest-run/run-*.wandb; do
        if "$dir/decode" "$file" | grep -v ' _' | sort >"$dir/got" && case $file in
            *.wandb) ;;
            *) sort -u "$dir/got" >"$dir/once" && mv "$dir/once" "$dir/got" ;;
            esac && paste -d ' ' "$dir/want" "$dir/got" | awk '
                { d = $3 - $6; if (d < 0) d = -d; s = $3 < 0 ? -$3 : $3
                  if ($1 != $4 || $2 != $5 || d > 1e-6 * s) wrong = 1 }
                END { exit wrong || NR == 0 }'; then ok
        else bad "$file is not log.jsonl"; diff "$dir/want" "$dir/got" | head -n 4; fi
    done
}
test_logs() {
    fails 2 "--report_to: no such logger (found mlflow" train_in "$dir/no" --report_to mlflow
    works train_in "$dir/logs" --report_to tensorboard,wandb
    same_run "$dir/base" "$dir/logs"
    for CC in ${CC:+"$CC"} cc gcc clang; do command -v "${CC%% *}" >/dev/null && break; done
    if $CC -std=c11 -O1 -pthread tests/unit/test_logs.c build/mrc.o -o "$dir/decode" -lm 2>"$dir/err"
    then ok; else skip "no decoder: $(head -n 1 "$dir/err")"; return; fi
    reads "$dir/logs"
    killed_in "$dir/killed_logs" 5 --report_to all
    same_run "$dir/base" "$dir/killed_logs"
    reads "$dir/killed_logs"
    # What was not reported before a kill is caught up with, and one folder is one run.
    rm -rf "$dir/copy"
    cp -R "$dir/base" "$dir/copy"
    rm "$dir/copy/trainer_state.json"
    works train_in "$dir/copy" --resume_from_checkpoint "$dir/copy/checkpoint-23" \
        --report_to tensorboard --logging_dir "$dir/tb"
    mkdir -p "$dir/copy/runs" "$dir/copy/wandb/latest-run"
    mv "$dir/tb" "$dir/copy/runs/"
    cp "$dir"/logs/wandb/latest-run/run-*.wandb "$dir/copy/wandb/latest-run/"
    reads "$dir/copy"
    rm -r "$dir/copy"
    works train_in "$dir/logs" --overwrite_output_dir --max_steps 3 --report_to wandb
    absent "$dir/logs/runs"
    if [ "$(find "$dir/logs/wandb" -name '*.wandb' | wc -l)" -eq 1 ]; then ok
    else bad "--overwrite_output_dir: more than one run in wandb/"; fi
}

#---------------------------------------------------------------------------------------------------
# A spike: a reader that knows a row by heart meets it with another answer
#---------------------------------------------------------------------------------------------------
test_spikes() {
    sed 's/_prob": 0.1/_prob": 0/g' "$dir/config.json" >"$dir/still.json"
    row=$(sed -n 1p "$dir/train.jsonl")
    for i in $(seq 40); do echo "$row"; done >"$dir/easy.jsonl"
    {
        cat "$dir/easy.jsonl"
        echo "$row" | sed 's/"1-0"/"odd"/; s/start": .*/start": [0], "text": ["p"]}}/'
        head -n 8 "$dir/easy.jsonl"
    } >"$dir/odd.jsonl"
    # spike TO POLICY FLAG...: one row a step, in order.
    spike() {
        to=$1 policy=$2
        shift 2
        build/train --tokenizer_name "$dir/tok" --batching sequential --logging_steps 1 \
            --per_device_train_batch_size 1 --output_dir "$dir/$to" --num_train_epochs 1 \
            --lr_scheduler_type constant --loss_spike "$policy" "$@"
    }
    works spike learnt warn --config_name "$dir/still.json" --train_file "$dir/easy.jsonl" \
        --learning_rate 3e-3 --num_train_epochs 2
    if grep -q spike "$dir/err"; then bad "a spike where there is none"; shows; else ok; fi
    set -- --model_name_or_path "$dir/learnt" --train_file "$dir/odd.jsonl" --learning_rate 1e-5
    works spike off off "$@"
    works spike warn warn "$@"
    says "step 41: a spike (found loss"
    says "the batch was odd"
    same "$dir/off/log.jsonl" "$dir/warn/log.jsonl"
    same "$dir/off/model.safetensors" "$dir/warn/model.safetensors"
    works spike skip skip "$@" --save_steps 41
    says "the step is skipped"
    if grep -q '"step": 41, .*"bad/what": "spike", .*"bad/batch": \["odd"\]}$' \
        "$dir/skip/log.jsonl" && [ "$(grep -c bad/ "$dir/skip/log.jsonl")" -eq 1 ]; then ok
    else bad "a skipped spike in the log"; fi
    # The window of losses is part of the state: a run that goes on at the spike does as this one.
    works spike late skip "$@" --save_steps 40 --max_steps 49
    rm -rf "$dir/late/model.safetensors" "$dir/late/trainer_state.json" "$dir/late/checkpoint-49"
    works spike late skip "$@" --save_steps 40 --max_steps 49 --resume_from_checkpoint
    says "step 41: a spike (found loss"
    same "$dir/skip/model.safetensors" "$dir/late/model.safetensors"
    # Rolled back at the last step, the run ends with the weights of its checkpoint.
    works spike back rollback "$@" --save_steps 25 --max_steps 41
    says "are those of the newest checkpoint"
    same "$dir/back/model.safetensors" "$dir/back/checkpoint-25/model.safetensors"
    if cmp -s "$dir/skip/checkpoint-41/model.safetensors" "$dir/back/model.safetensors"; then
        bad "rolling back changes nothing"
    else ok; fi
}

#---------------------------------------------------------------------------------------------------
# A config file: the flags of a run, in YAML, in JSON, and as the run itself wrote them
#---------------------------------------------------------------------------------------------------
test_config() {
    cat >"$dir/run.yaml" <<EOF
data:                           # sections only order
  config_name: $dir/config.json
  tokenizer_name: $dir/tok
  train_file: $dir/train.jsonl
  validation_file: $dir/dev.jsonl
custom_model: {head: bilstm, num_rnn_layers: 2, rnn_hidden_size: 8}
learning_rate: 3e-3
batch_size: 3                   # as the study called it
gradient_accumulation_steps: 2
num_train_epochs: 7             # the command line wins
logging_steps: 3
eval_steps: 5
save_steps: ~                   # as if it were not there
EOF
    works build/train "$dir/run.yaml" --output_dir "$dir/yaml" --num_train_epochs 2.5
    same "$dir/base/log.jsonl" "$dir/yaml/log.jsonl"
    same "$dir/base/model.safetensors" "$dir/yaml/model.safetensors"
    sed "s:$dir/yaml:$dir/json:" "$dir/yaml/train_args.json" >"$dir/again.json"
    works build/train "$dir/again.json"
    same "$dir/base/model.safetensors" "$dir/json/model.safetensors"
    # refused TEXT LINE: what is wrong with a file of that line.
    refused() {
        printf 'head: linear\n%s\n' "$2" >"$dir/bad.yaml"
        fails 3 "$1" build/train "$dir/bad.yaml" --output_dir "$dir/no"
        says "bad.yaml:2:"
    }
    # What the study's program read and never used means nothing under --compat reference, but on
    # the command line.
    cat >"$dir/study.yaml" <<EOF
compat: reference
warmup_steps: 300
weight_decay: 0.01
DEBUG: false
validation: true
max_seq_length: 48
EOF
    works train_in "$dir/study" "$dir/study.yaml" --max_steps 4 --logging_steps 1
    says "study.yaml: warmup_steps is not used, as in the study"
    says "study.yaml: weight_decay is not used, as in the study"
    if sed -n 1p "$dir/study/log.jsonl" | grep -q '"train/learning_rate": 0.00225'; then ok
    else bad "warmup_steps of the study's file is used"; fi
    if grep -q '"weight_decay": 0.0,' "$dir/study/train_args.json"; then ok
    else bad "weight_decay of the study's file is used"; fi
    works train_in "$dir/study" "$dir/study.yaml" --overwrite_output_dir --max_steps 4 \
        --logging_steps 1 --warmup_steps 4
    if sed -n 1p "$dir/study/log.jsonl" | grep -q '"train/learning_rate": 0.00075'; then ok
    else bad "--warmup_steps of the command line is not used"; fi
    refused "unknown key (found learning_rat, expected perhaps learning_rate" 'learning_rat: 1'
    refused "adam_beta1 is out of range (found 1, expected" 'adam_beta1: 1'
    refused "loss is out of range (found mse, expected ce|focal|label_smoothing" 'loss: mse'
    refused "train_file is out of range (found a list or mapping" 'train_file: [a, b]'
    fails 2 "--output_dir is missing" build/train data/study.yaml --config_name "$dir/config.json"
    absent "$dir/no"
}

#---------------------------------------------------------------------------------------------------
if [ "$MRC_FAULTS" = full ]; then
    KILLS=200 STOPS=100 EACH=$(seq 50) THREADS="1 2 3 4 7 8 16"
else
    KILLS=12 STOPS=6 EACH="1 26" THREADS="7"
fi
exec=
for name in train predict evaluate; do
    [ -x build/$name ] || { skip "build/$name is not built"; set -- none; }
done
if [ $# -eq 0 ]; then
    make_inputs
    test_run
    test_same_head
    test_resume
    test_each
    test_signals
    test_stops
    test_places
    test_forms
    test_predict
    test_usage
    test_inputs
    test_directories
    test_faults
    test_spikes
    test_choices
    test_logs
    test_config
fi
end
