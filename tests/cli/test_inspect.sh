#!/bin/sh
# inspect and convert from outside, with 256 KB of stack and 64 MB of memory beside twice the largest
# file: verdicts of the corpora, values, checksums.
# Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
shared=${MRC_SHARED:-../shared}
inspect=build/inspect
ulimit -s 256
ulimit -v $((65536 + 2 * 4096 + 8192))  # in KB; the last is for the program and its libraries


# inspects CODE TEXT ARGUMENTS..: inspect ends with CODE and prints TEXT, in one line on stderr unless
# CODE is 0.
inspects() {
    expected=$1 text=$2 how=refuses
    shift 2
    [ "$expected" != 0 ] || how=gives
    $how "$expected" "$text" $inspect "$@"
}

# manifest KIND FOLDER: each file of manifest.tsv gets its verdict.
manifest() {
    if [ ! -e "$2/manifest.tsv" ]; then skip "$2 is not here"; return; fi
    tail -n +2 "$2/manifest.tsv" >"$dir/manifest"
    while read -r file verdict reason; do
        case $verdict in
        bad|error) inspects 3 "$file" --as "$1" "$2/$file" ;;
        skip)    inspects 0 '"skipped": 1' --as "$1" "$2/$file" ;;
        ok|warn) inspects 0 '"kind": ' --as "$1" "$2/$file" ;;
        *)       bad "$2/$file: verdict $verdict ($reason)" ;;
        esac
    done <"$dir/manifest"
}

manifest dataset "$shared/cases/squad"
manifest safetensors "$shared/cases/safetensors"
manifest torch "$shared/cases/torch"

# What YAML is read as is the JSON beside it, or it is refused.
if [ -d "$shared/cases/yaml" ]; then
    for yaml in $(find "$shared/cases/yaml" -name in.yaml | sort); do
        folder=$(dirname "$yaml")
        if $inspect --as yaml "$yaml" >"$dir/yaml" 2>"$dir/err"; then
            $inspect --as json "$folder/in.json" >"$dir/json" 2>/dev/null
            if [ ! -e "$folder/error" ] && cmp -s "$dir/yaml" "$dir/json"; then ok
            else bad "$yaml: another value"; fi
        elif [ $? = 3 ] && grep -q 'in.yaml:[0-9]*:[0-9]*: ' "$dir/err"; then ok
        else bad "$yaml: refused without a place"; fi
    done
else skip "$shared/cases/yaml is not here"; fi

# The same rows from a stream, from the folder that it lies in, and as JSON lines.
if [ -e "$shared/data/mrc/validation_dataset.arrow" ]; then
    mkdir -p "$dir/split"
    cp "$shared/data/mrc/validation_dataset.arrow" "$dir/split/data-00000-of-00001.arrow"
    echo '{"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "validation"}' \
        >"$dir/split/state.json"
    echo '{"features": {}}' >"$dir/split/dataset_info.json"
    inspects 0 '"format": "arrow", "examples": 240, "skipped": 0' "$dir/split"
    inspects 0 '"format": "arrow", "examples": 240, "skipped": 0' --as dataset \
        "$shared/data/mrc/validation_dataset.arrow"
    head -c 300000 "$shared/data/mrc/validation_dataset.arrow" >"$dir/cut.arrow"
    inspects 3 'it is cut' "$dir/cut.arrow"
    echo '{"_data_files": [{"filename": "../x.arrow"}]}' >"$dir/split/state.json"
    inspects 3 'state.json:1:18: not the name of a file' "$dir/split"
    echo '{"splits": ["validation"]}' >"$dir/split/dataset_dict.json"
    inspects 3 'holds several splits' "$dir/split"
else skip "$shared/data/mrc is not here"; fi

# A conversion keeps names, shapes and values; what it wrote is read again, in shards too.
torch=$shared/cases/torch/ok/ok_bert_like_with_metadata.pt
if [ -e "$torch" ]; then
    sums() { $inspect --tensors "$1" | grep -o '{"name"[^}]*}' | sort; }
    sums "$torch" >"$dir/sums"
    [ "$(wc -l <"$dir/sums")" = 49 ] && ok || bad "$torch: not 49 tensors"
    if build/convert "$torch" --output "$dir/one.safetensors" >"$dir/out" \
        && sums "$dir/one.safetensors" | cmp -s - "$dir/sums"; then ok
    else bad "convert $torch to one file"; fi
    mkdir "$dir/model"
    cp "$torch" "$dir/model/pytorch_model.bin"
    if build/convert "$dir/model" --output "$dir/copy" >"$dir/out" \
        && sums "$dir/copy" | cmp -s - "$dir/sums"; then ok
    else bad "convert a folder"; fi
    $inspect --tensors "$shared/cases/torch_real/candle/candle-core_tests_fortran_tensor_3d.pth" \
        | grep -q '"shape": \[2, 3, 4\]' && ok || bad "a strided tensor"
else skip "$torch is not here"; fi

# Checksums that were not computed are a word on stderr, or with --strict the end.
unchecked=$shared/cases/torch/ok/ok_crc_zero.pt
if [ -e "$unchecked" ]; then
    inspects 0 '"kind": "torch", "tensors": 2' "$unchecked"
    grep -q "^inspect: $unchecked: 5 records were written without checksums" "$dir/err" && ok \
        || bad "$unchecked: $(cat "$dir/err")"
    inspects 3 'records without checksums (found 5, expected none with --strict)' --strict "$unchecked"
    inspects 0 '"kind": "torch", "tensors": 49' --strict "$torch"
    [ ! -s "$dir/err" ] && ok || bad "$torch: $(cat "$dir/err")"
else skip "$unchecked is not here"; fi

inspects 0 '"format": "arrow", "examples": 3, "skipped": 0' tests/fixtures/small.arrow
inspects 0 '"kind": "config"' data/config.json
# A model directory: its weights, and what reader it is.
inspects 0 '"kind": "safetensors", "tensors": 40' tests/golden/families/deberta_v3
inspects 0 '"model_type": "deberta-v2", "vocab_size": 41, "hidden_size": 12' tests/golden/families/deberta_v3
inspects 0 '"head": "bilstm"' tests/golden/roberta_bilstm
inspects 0 '"kind": "tokenizer"' --as tokenizer data
inspects 0 '"kind": "tokenizer"' data/vocab.txt
inspects 0 '"kind": "dataset", "format": "jsonl"' data/train.jsonl
inspects 3 'No such' "$dir/nothing"

# Folders: a run, finished and not, its checkpoints, and what transformers' Trainer leaves.
(
    ulimit -v unlimited 2>/dev/null
    sed 's/: 64,/: 8,/; s/: 128,/: 8,/' data/config.json >"$dir/config.json"
    head -n 40 data/train.jsonl >"$dir/rows.jsonl"
    build/train --config_name "$dir/config.json" --tokenizer_name data --threads 1 \
        --train_file "$dir/rows.jsonl" --validation_file "$dir/rows.jsonl" --output_dir "$dir/run" \
        --max_steps 4 --save_steps 2 --eval_steps 2 >/dev/null 2>"$dir/err"
) || { bad "no run"; cat "$dir/err"; }
inspects 0 '{"kind": "run", "finished": true, "step": 4, "max_steps": 4, "epoch": 0.8,' "$dir/run"
inspects 0 '"checkpoints": 2, "tensors": ' "$dir/run"
inspects 0 '{"kind": "checkpoint", "tensors": ' "$dir/run/checkpoint-2"
inspects 0 '{"kind": "safetensors", "tensors": ' "$dir/run/best"
inspects 3 'is the output folder of a run, not a checkpoint (expected a folder checkpoint-N in it)' \
    --as checkpoint "$dir/run"
mkdir "$dir/begun"
cp "$dir/run/log.jsonl" "$dir/run/train_args.json" "$dir/begun"
inspects 0 '{"kind": "run", "finished": false, "checkpoints": 0}' "$dir/begun"
mkdir "$dir/trainer"
cp "$dir/run/config.json" "$dir/run/model.safetensors" "$dir/trainer"
: >"$dir/trainer/optimizer.pt"
echo '{"epoch": 1.0, "global_step": 500, "max_steps": 1500, "best_metric": null}' \
    >"$dir/trainer/trainer_state.json"
inspects 0 '{"kind": "trainer", "step": 500, "max_steps": 1500, "epoch": 1.0, "checkpoints": 0, "tens' \
    "$dir/trainer"
inspects 3 "is a folder of transformers' Trainer, whose optimizer.pt is not read here" \
    --as checkpoint "$dir/trainer"
rm "$dir/trainer/optimizer.pt"
inspects 0 '{"kind": "trainer", "step": 500' "$dir/trainer"
# What is damaged is said to be.
printf x >>"$dir/run/checkpoint-2/trainer_state.json"
inspects 3 'is damaged' "$dir/run/checkpoint-2"
build/train --config_name "$dir/config.json" --tokenizer_name data --train_file "$dir/rows.jsonl" \
    --output_dir "$dir/other" --resume_from_checkpoint "$dir/trainer" >"$dir/out" 2>"$dir/err"
if [ $? = 3 ] && grep -q "is a folder of transformers' Trainer.*--model_name_or_path" "$dir/err"
then ok; else bad "--resume_from_checkpoint of Trainer's: $(cat "$dir/err")"; fi
end
