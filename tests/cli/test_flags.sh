#!/bin/sh
# train's flags as users of run_qa.py and transformers write them: taken with their meaning, or
# answered with what to write here.  Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

sed 's/: 64,/: 8,/; s/: 128,/: 8,/' data/config.json >"$dir/config.json"
head -n 40 data/train.jsonl >"$dir/rows.jsonl"
head -n 8 data/validation.jsonl >"$dir/dev.jsonl"

program=train                           # what its functions run
# train FLAGS..: into $dir/run, made anew.
train() {
    rm -rf "$dir/run"
    $limit build/train --config_name "$dir/config.json" --tokenizer_name data \
        --train_file "$dir/rows.jsonl" --output_dir "$dir/run" --threads 1 \
        --per_device_train_batch_size 4 "$@"
}
# steps PATTERN: the steps of the lines of log.jsonl that have it.
steps() {
    grep "$1" "$dir/run/log.jsonl" | sed 's/{"step": \([0-9]*\),.*/\1/' | tr '\n' ' '
}
checkpoints() {
    find "$dir/run" -name 'checkpoint-*' | sed 's/.*-//' | sort -n | tr '\n' ' '
}
# logs LOGGED EVALUATED SAVED FLAGS..: 20 steps, and the steps at which these happened.
logs() {
    logged=$1 evaluated=$2 saved=$3
    shift 3
    run train --validation_file "$dir/dev.jsonl" --max_steps 20 "$@"
    if [ $code = 0 ] && [ "$(steps train/loss)" = "$logged" ] \
        && [ "$(steps eval/loss)" = "$evaluated" ] && [ "$(checkpoints)" = "$saved" ]; then ok
    else bad "$*: logged $(steps train/loss), evaluated $(steps eval/loss), saved $(checkpoints)"
        shows; fi
}
logs "10 20 " "10 20 " "20 " --logging_steps 0.5 --eval_steps 0.5
logs "3 6 9 12 15 18 " "7 14 20 " "13 20 " --logging_steps 0.11 --eval_steps 0.35 --save_steps 0.65
logs "4 8 12 16 20 " "10 20 " "5 10 15 20 " --logging-steps=4 --eval_strategy epoch --save_steps 5
logs "10 20 " "20 " "10 20 " --logging_strategy epoch --eval_steps 1000 --save_strategy epoch
logs "1 8 16 " "8 16 20 " "20 " --logging_first_step --logging_steps 8 --eval_strategy steps \
    --save_strategy no
logs "" "10 20 " "20 " --logging_strategy no --save_strategy best

# Warm-up: half of 20 steps, so after one step the rate of the next is 1/10 of it.
run train --max_steps 20 --warmup_steps 0.5 --logging_steps 1 --learning_rate 1
if [ "$(sed -n 's/.*"train\/learning_rate": \([0-9.]*\),.*/\1/p' "$dir/run/log.jsonl" \
    | head -n 1)" = 0.1 ]; then ok; else bad "--warmup_steps 0.5"; head -n 1 "$dir/run/log.jsonl"; fi
# What is written can be read again.
cp "$dir/run/train_args.json" "$dir/args.json"
rm -rf "$dir/run"
if build/train "$dir/args.json" >"$dir/out" 2>"$dir/err" && cmp -s "$dir/args.json" \
    "$dir/run/train_args.json"; then ok; else bad "train_args.json"; code=; shows; fi

# Equal meanings: the same log to the byte.
alike() {
    run train --max_steps 4 --logging_steps 1 "$1"
    [ $code = 0 ] || { bad "$1"; shows; }
    mv "$dir/run/log.jsonl" "$dir/log.jsonl"
    run train --max_steps 4 --logging_steps 1 "$2"
    if cmp -s "$dir/log.jsonl" "$dir/run/log.jsonl"; then ok; else bad "$1 is not $2"; shows; fi
}
alike --optim=adamw_torch_fused --optim=adamw_torch
alike --data_seed=42 --seed=42
alike --batch_size=2 --per-device-train-batch-size=2
run train --max_steps 4 --logging_steps 1 --data_seed 7
if [ $code = 0 ] && ! cmp -s "$dir/log.jsonl" "$dir/run/log.jsonl"; then ok
else bad "--data_seed changes nothing"; fi

# --load_best_model_at_end: the final model is best/, and so are the results.
run train --validation_file "$dir/dev.jsonl" --max_steps 9 --eval_steps 3 --learning_rate 5 \
    --metric_for_best_model loss --load_best_model_at_end
if [ $code = 0 ] && cmp -s "$dir/run/model.safetensors" "$dir/run/best/model.safetensors" \
    && grep -q 'the final model is that of step' "$dir/err"; then ok
else bad "--load_best_model_at_end"; shows; fi
best=$(sed -n 's/.*"best_metric": \([0-9.e-]*\),.*/\1/p' "$dir/run/trainer_state.json")
if grep -q "\"eval_loss\": $best" "$dir/run/eval_results.json"; then ok
else bad "eval_results.json is not of best/"; cat "$dir/run/eval_results.json"; fi

# Passed over, with a line that says why.
idle() {
    run train --max_steps 1 "$@"
    if [ $code = 0 ] && grep -q "^train: $1: changes nothing here: " "$dir/err"; then ok
    else bad "$*"; shows; fi
}
idle --overwrite_cache
idle --overwrite_cache True
idle --preprocessing_num_workers 4
idle --dataloader_num_workers 8
idle --use_fast_tokenizer yes
idle --cache_dir /nowhere
idle --disable_tqdm true
idle --save_safetensors
for flag in do_predict push_to_hub group_by_length no_cuda; do
    run train --max_steps 1 --$flag False
    if [ $code = 0 ]; then ok; else bad "--$flag False"; shows; fi
done

# Answered: exit 2, one line with what to write.
refuses 2 "--lr: write --learning_rate;" train --lr 1e-5
refuses 2 "--label_smoothing_factor: write --loss label_smoothing --smoothing X;" \
    train --label_smoothing_factor 0.1
refuses 2 "--group_by_length: write --batching sorted;" train --group_by_length
refuses 2 "--do_predict: write \`predict --model_name_or_path OUTPUT_DIR --test_file FILE\`" \
    train --do_predict
refuses 2 "--test_file: write \`predict --test_file FILE\` afterwards" train --test_file x
refuses 2 'datasets.load_dataset(NAME)["train"].to_json("train.jsonl")' train --dataset_name klue
refuses 2 "--no_cuda: write --backend cpu;" train --no_cuda
refuses 2 "--per_gpu_train_batch_size: write --per_device_train_batch_size;" \
    train --per_gpu_train_batch_size=4
refuses 2 "2 unknown flags (found --fsdp: not here: several processes are --ddp_backend; \
--adafactor: not here; write --optim adamw_torch; --help lists all)" train --fsdp x --adafactor
refuses 2 "expected a whole number, or a part of all below 1" train --save_steps 2.5
refuses 2 "--load_best_model_at_end: nothing is measured" train --load_best_model_at_end
printf 'lr: 1\n' >"$dir/lr.yaml"
run train "$dir/lr.yaml"
if [ $code = 3 ] && grep -q 'lr.yaml:1:.*unknown key (found lr: write --learning_rate' "$dir/err"
then ok; else bad "lr in a config file"; shows; fi
printf 'report_to: [tensorboard, wandb]\noverwrite_cache: true\nmax_steps: 1\n' >"$dir/list.yaml"
run train "$dir/list.yaml"
if [ $code = 0 ] && [ -d "$dir/run/wandb" ] && [ -d "$dir/run/runs" ]; then ok
else bad "a list in a config file"; shows; fi

# --head NAME on a folder that has that head: what is not given comes from the folder.
run train --head bilstm --num_rnn_layers 1 --rnn_hidden_size 4 --rnn_dropout 0 --max_steps 1
mv "$dir/run" "$dir/bilstm"
again() {
    rm -rf "$dir/run"
    build/train --model_name_or_path "$dir/bilstm" --train_file "$dir/rows.jsonl" --max_steps 1 \
        --output_dir "$dir/run" --threads 1 "$@"
}
head_is() {
    expected=$1
    shift
    run again "$@"
    if [ $code = 0 ] && grep -q "$expected" "$dir/run/config.json"; then ok
    else bad "$*: expected $expected"; shows; grep -A6 mrc_head "$dir/run/config.json"; fi
}
one='"num_layers": 1, "hidden_size": 4, "dropout": 0'
head_is "$one" --head bilstm
head_is "$one" --seed 1
head_is '"num_layers": 1, "hidden_size": 4, "dropout": 0.5' --head bilstm --rnn_dropout 0.5
head_is '"num_layers": 2, "hidden_size": 4, "dropout": 0.2' --head bigru --rnn_hidden_size 4

# What computes is said in one line, before anything else.
tells() {
    if grep -q -e "$1" "$dir/err"; then ok; else bad "expected '$1'"; head -n 3 "$dir/err"; fi
}
run train --max_steps 1 --backend naive
tells '^train: backend: naive c, 1 thread$'
run train --max_steps 1 --backend cpu --threads 2
tells '^train: backend: cpu [a-z0-9]*, 2 threads$'
[ "$(grep -c 'backend: ' "$dir/err")" = 1 ] && head -n 1 "$dir/err" | grep -q backend && ok \
    || bad "the line of the backend"

# A vocabulary that is smaller than the model's is said; the words of another one may be meant.
mkdir "$dir/small"
head -n 300 data/vocab.txt >"$dir/small/vocab.txt"
rm -rf "$dir/run"
build/train --config_name "$dir/config.json" --tokenizer_name "$dir/small" --train_file \
    "$dir/rows.jsonl" --output_dir "$dir/run" --max_steps 1 --threads 1 >"$dir/out" 2>"$dir/err"
tells 'small: the vocabulary is smaller than the model.s (found 300 tokens, its vocab_size is 812)'

# A folder that datasets saved is a data file too, and a resumed run knows it again.
mkdir "$dir/arrow"
cp tests/fixtures/small.arrow "$dir/arrow/"
echo '{"_data_files": [{"filename": "small.arrow"}]}' >"$dir/arrow/state.json"
arrow() {
    build/train --config_name "$dir/config.json" --tokenizer_name data --train_file "$dir/arrow" \
        --output_dir "$dir/run" --max_steps 1 --threads 1 "$@"
}
rm -rf "$dir/run"
run arrow
if [ $code = 0 ] && grep -q 'arrow: 3 rows -> 3 kept' "$dir/out"; then ok
else bad "--train_file FOLDER"; shows; fi
run arrow --resume_from_checkpoint
if [ $code = 0 ] && grep -q 'the run is finished' "$dir/err"; then ok
else bad "--train_file FOLDER, finished"; shows; fi
echo ' ' >>"$dir/arrow/state.json"
run arrow --resume_from_checkpoint
if [ $code = 3 ] && grep -q 'train_file is not that of the run' "$dir/err"; then ok
else bad "--train_file FOLDER, changed"; shows; fi

# A model that is no folder.
for program in "train --train_file x --output_dir" "predict --test_file x --output_dir" \
    "ask --question x --context"; do
    # shellcheck disable=SC2086
    build/${program%% *} --model_name_or_path klue/roberta-base ${program#* } "$dir/none" \
        >"$dir/out" 2>"$dir/err"
    if [ $? = 3 ] && grep -q "klue/roberta-base: no such folder (expected a model directory; one of\
 the hub is downloaded first: hf download klue/roberta-base --local-dir roberta-base)" "$dir/err"
    then ok; else bad "$program of a model of the hub"; shows; fi
    # shellcheck disable=SC2086
    build/${program%% *} --model_name_or_path data/config.json ${program#* } "$dir/none" \
        >"$dir/out" 2>"$dir/err"
    if [ $? = 3 ] && grep -q "data/config.json: is a file (expected a model directory" "$dir/err"
    then ok; else bad "$program of a file"; shows; fi
done

# A place that cannot be written ends a program before it works, and nothing is left there.
: >"$dir/file"
refuses 5 "file/x: cannot be written: $dir/file: Not a directory" build/predict --model_name_or_path \
    "$dir/bilstm" --test_file "$dir/rows.jsonl" --output_dir "$dir/file/x"
refuses 5 "file/x.st: cannot be written: $dir/file: Not a directory" build/predict \
    --model_name_or_path "$dir/bilstm" --test_file "$dir/rows.jsonl" --output_dir "$dir/answers" \
    --save_logits "$dir/file/x.st"
refuses 5 "file/x.html: cannot be written" build/report "$dir/bilstm" --output "$dir/file/x.html"
refuses 5 "file/x: cannot be written" build/index --passages "$dir/rows.jsonl" --analyzer korean \
    --output "$dir/file/x"
refuses 5 "file/x: cannot be written" build/ensemble --files "$dir/none.json" --output_dir "$dir/file/x"
refuses 5 "file/x: cannot be written" build/convert "$dir/bilstm" --output "$dir/file/x"
[ ! -e "$dir/answers" ] && ok || bad "predict left a folder"

# predict says what it wrote, and how windows are cut.
build/predict --model_name_or_path "$dir/bilstm" --test_file "$dir/dev.jsonl" \
    --output_dir "$dir/answers" >"$dir/out" 2>"$dir/err"
says "answers/predictions.json: 8 questions"
says "answers/nbest_predictions.json: 8 questions"
says "bilstm: as in training: --max_seq_length"
code=0
for flag in "--validation_file x" "--batch_size 3" "--dataset_name klue"; do
    # shellcheck disable=SC2086
    build/predict $flag >"$dir/out" 2>"$dir/err"
    if [ $? = 2 ] && grep -q ': write --\|then write --' "$dir/err"; then ok
    else bad "predict $flag"; shows; fi
done

# Every flag of run_qa.py and of TrainingArguments (transformers 4.57) is known: taken or answered.
for flag in $(cat tests/fixtures/hf_flags.txt); do
    case $flag in ddp_backend|ddp_timeout) build/train --help | grep -q "^  --$flag " || continue ;; esac
    run train "--$flag"
    if [ $code != 2 ] || ! grep -q 'unknown flag' "$dir/err" \
        || grep -q "unknown flag (found --$flag: " "$dir/err"; then ok
    else bad "--$flag is neither taken nor answered"; shows; fi
done

end
