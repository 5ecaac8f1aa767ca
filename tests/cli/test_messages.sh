#!/bin/sh
# What programs say of a file that is not what they need: the line names what was found and what
# helps.  Every kind of foreign file in the place of a data set, passages, pairs, a vocabulary, a
# config, weights and a model; then the messages of flags, of places and of pipes.
# Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

# says CODE LINE COMMAND..: it ends with CODE, and its last line on stderr is "program: LINE".
says() {
    wanted=$1 text=$2
    shift 2
    bounded "$@"
    name=$(basename "$1")
    if [ "$code" = "$wanted" ] && [ "$(tail -n 1 "$dir/err")" = "$name: $text" ]; then ok
    else bad "$*: exit $code (expected $wanted)"
        echo "    expected $name: $text"; echo "    found    $(tail -n 1 "$dir/err")"; fi
}

# The foreign files: a line of text where they can be one.
printf 'PAR1....PAR1' >"$dir/parquet"
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n' >"$dir/lfs"
printf 'id,question,context\n1,a,b\n' >"$dir/csv"
printf '\260\241\263\252\n' >"$dir/cp949"
printf '{"data": "\260\241\263\252"}' >"$dir/cp949.json"
printf 'PK\003\004....' >"$dir/zip"
printf '\037\213\010.....' >"$dir/gzip"
printf '<!DOCTYPE html>\n<html></html>\n' >"$dir/html"
mkdir "$dir/empty"
lfs='found a Git LFS pointer (git lfs pull brings the file)'
parquet='found Parquet (Python: datasets.Dataset.from_parquet(FILE).to_json("x.jsonl"))'
zip='found a zip archive (unzip unpacks it)'
gzip='found gzip data (gunzip unpacks it)'
html='found a web page, not the file (download it again)'
iconv='(if it is CP949: iconv -f CP949 -t UTF-8 FILE)'
absent='cannot open it: No such file or directory'

# each EXPECTED COMMAND..: the command's word @ is each foreign file in turn.
each() {
    expected=$1
    shift
    for kind in lfs parquet zip gzip html; do
        eval "found_=\$$kind"
        command=
        for word in "$@"; do
            [ "$word" != @ ] || word=$dir/$kind
            command="$command '$word'"
        done
        eval "says 3 \"\$dir/\$kind:1:1: \$found_ (expected \$expected)\" $command"
    done
}
train="build/train --config_name data/config.json --tokenizer_name data --max_steps 1 --threads 1 \
    --output_dir $dir/run"
# shellcheck disable=SC2086
{
    # A data set.
    each JSON $train --train_file @
    says 3 "$dir/csv:1:1: found comma-separated values (expected JSON, JSONL or an Arrow stream; \
Python: datasets.Dataset.from_csv(FILE).to_json(\"x.jsonl\"))" $train --train_file "$dir/csv"
    says 3 "$dir/cp949:1:1: unexpected byte 0xb0 $iconv" $train --train_file "$dir/cp949"
    says 3 "$dir/cp949.json:1:11: ill-formed UTF-8, byte 0xb0 $iconv" $train --train_file \
        "$dir/cp949.json"
    says 3 "$dir/empty: is a folder without a state.json (expected a file, or a folder that \
datasets.save_to_disk wrote)" $train --train_file "$dir/empty"
    says 3 "$dir/none: $absent" $train --train_file "$dir/none"

    # A vocabulary, alone and in a folder.
    words="build/train --config_name data/config.json --train_file data/question.jsonl --max_steps 1 \
        --threads 1 --output_dir $dir/run --tokenizer_name"
    each "text, one token or merge a line" $words @
    says 3 "$dir/cp949:1: ill-formed UTF-8 (byte 0xb0) $iconv" $words "$dir/cp949"
    says 3 "$dir/csv: cls_token \"[CLS]\" is not in the vocabulary of 2 tokens" $words "$dir/csv"
    says 3 "$dir/empty: neither tokenizer.json nor vocab.txt nor vocab.json nor a SentencePiece \
model in this folder" $words "$dir/empty"
    says 3 "$dir/none: no such file or folder" $words "$dir/none"

    # A config.
    config="build/train --tokenizer_name data --train_file data/question.jsonl --max_steps 1 \
        --threads 1 --output_dir $dir/run --config_name"
    each JSON $config @
    says 3 "$dir/cp949:1:1: unexpected byte 0xb0 $iconv" $config "$dir/cp949"
    says 3 "$dir/empty/config.json: $absent" $config "$dir/empty"
    says 3 "$dir/none: $absent" $config "$dir/none"
    cp "$dir/lfs" "$dir/lfs.yaml"
    cp "$dir/cp949" "$dir/cp949.yaml"
    says 3 "$dir/lfs.yaml:1:1: $lfs (expected YAML)" build/train "$dir/lfs.yaml"
    says 3 "$dir/cp949.yaml:1:1: ill-formed UTF-8, byte 0xb0 $iconv" build/train "$dir/cp949.yaml"

    # Passages and pairs.
    index="build/index --analyzer whitespace --output $dir/index --passages"
    each "JSON, JSONL or tab-separated text" $index @
    says 3 "$dir/csv:1: found 1 field (expected id, text and perhaps a title between tabs, or JSON; \
commas do not part fields)" $index "$dir/csv"
    says 3 "$dir/cp949:1: ill-formed UTF-8, byte 0xb0 $iconv" $index "$dir/cp949"
    says 3 "$dir/empty: is a folder (expected a file)" $index "$dir/empty"
    says 3 "$dir/none: $absent" $index "$dir/none"
    pairs="build/train --task biencoder --config_name data/config.json --tokenizer_name data \
        --max_steps 1 --threads 1 --output_dir $dir/run --train_file"
    each "JSON, JSONL or tab-separated text" $pairs @
    says 3 "$dir/cp949: ill-formed UTF-8, byte 0xb0 at offset 0 $iconv" $pairs "$dir/cp949"

    # Weights: a folder with all the rest.
    predict="build/predict --test_file data/question.jsonl --output_dir $dir/answers \
        --threads 1 --model_name_or_path"
    mkdir "$dir/model"
    cp data/vocab.txt data/config.json "$dir/model"
    echo '{"do_lower_case": true}' >"$dir/model/tokenizer_config.json"
    weights="(expected weights: safetensors or PyTorch's)"
    for file in model.safetensors pytorch_model.bin; do
        for kind in lfs parquet gzip html; do
            cp "$dir/$kind" "$dir/model/$file"
            eval "found_=\$$kind"
            says 3 "$dir/model/$file: $found_ $weights" $predict "$dir/model"
        done
        rm "$dir/model/$file"
    done
    cp "$dir/lfs" "$dir/model/vocab.txt"
    says 3 "$dir/model/vocab.txt:1:1: $lfs (expected text, one token or merge a line)" \
        $predict "$dir/model"

    # A model: the hub's name, a path, a file.
    says 3 "klue/roberta-base: no such folder (expected a model directory; one of the hub is \
downloaded first: hf download klue/roberta-base --local-dir roberta-base)" $predict klue/roberta-base
    says 3 "$dir/none: no such folder (expected a model directory)" $predict "$dir/none"
    says 3 "./none/x: no such folder (expected a model directory)" $predict ./none/x
    says 3 "$dir/csv: is a file (expected a model directory: the folder that has config.json and \
the weights)" $predict "$dir/csv"

    # inspect says what a folder is that is no single thing.
    says 3 "$dir/empty: $(build/inspect "$dir/empty" 2>&1 | sed 's/^[^:]*: [^:]*: //')" \
        build/inspect "$dir/empty"
}

# The place of what is written has one name everywhere: --output is --output_dir.
for program in convert index report predict sweep train; do
    if build/$program --help | grep -q -e '--output' && ! build/$program --output "$dir/o" \
        --output_dir "$dir/o" 2>&1 | grep -q 'unknown flag'; then ok
    else bad "$program: --output and --output_dir are not one"; fi
done
: >"$dir/file"
says 5 "$dir/file/x: cannot be written: $dir/file: Not a directory" build/index --passages \
    data/train.jsonl --analyzer whitespace --output_dir "$dir/file/x"
says 5 "$dir/file/x: cannot be written: $dir/file: Not a directory" build/ensemble --method \
    logit_mean --files a b --output_dir "$dir/file/x"

# Places that cannot be written are tried before the work, not after it.
head -n 4 data/train.jsonl >"$dir/few.jsonl"
printf '1\tthe king\n' >"$dir/p.tsv"
printf '{"id": "1", "question": "king"}\n' >"$dir/q"
few="--config_name data/config.json --tokenizer_name data --train_file $dir/few.jsonl --max_steps 1 \
    --save_steps 0 --threads 1 --max_seq_length 64"
# shellcheck disable=SC2086
build/train $few --output_dir "$dir/reader" >/dev/null 2>&1 || bad "train"
build/index --passages "$dir/p.tsv" --analyzer whitespace --output "$dir/ix" 2>/dev/null \
    || bad "index"
taken="$dir/file/x: cannot be written: $dir/file: Not a directory"
says 5 "$taken" build/predict --model_name_or_path "$dir/reader" --test_file "$dir/few.jsonl" \
    --output_dir "$dir/file/x"
says 5 "$taken" build/search --index "$dir/ix" --queries "$dir/q" --run "$dir/file/x"
says 5 "$taken" build/report "$dir/reader" --output "$dir/file/x"

# Flags: all unknown ones in one line, a guess only where it is near.
says 2 "3 unknown flags (found --lr: write --learning_rate; --evaluation_stepz; --foo; --help lists \
all)" build/train --lr 1 --evaluation_stepz 3 --foo 1
says 2 "--pad_to_max_length: not a value of this flag (found maybe, expected true or false)" \
    build/train --pad_to_max_length=maybe

# noted LINE COMMAND..: it works, and one of its lines on stderr is "program: LINE".
noted() {
    text=$1
    shift
    run "$@"
    if [ "$code" = 0 ] && grep -qFx -e "$(basename "$1"): $text" "$dir/err"; then ok
    else bad "$*: exit $code, expected $text"; shows; fi
}
# shellcheck disable=SC2086
{
    # One list of words for yes and no, on the command line and in YAML, where lists are lists too.
    for word in 0 no False; do
        works build/train $few --output_dir "$dir/no" --overwrite_output_dir --do_eval $word
        says 3 "$dir/reader: the output directory is not empty (found $(ls "$dir/reader" | wc -l) \
entries, expected none, --overwrite_output_dir or --resume_from_checkpoint)" build/train $few \
            --output_dir "$dir/reader" --resume_from_checkpoint $word
    done
    for word in 1 yes True; do
        noted "$dir/reader: the run is finished (step 1 of 1): nothing to do" build/train $few \
            --output_dir "$dir/reader" --resume_from_checkpoint $word
    done
    printf '%s\n' "config_name: data/config.json" "tokenizer_name: data" "max_steps: 1" \
        "train_file: $dir/few.jsonl" "output_dir: $dir/yaml" "do_eval: no" "report_to: [none]" \
        "max_seq_length: 64" >"$dir/run.yaml"
    works build/train "$dir/run.yaml"
    # A folder with a comma in its name is one name.
    mkdir "$dir/a,b"
    printf '{"q": [{"text": "a", "probability": 1}]}\n' >"$dir/a,b/n.json"
    noted "$dir/vote/predictions.json: 1 questions, 2 models" build/ensemble --method hard_vote \
        --files "$dir/a,b/n.json" "$dir/a,b/n.json" --output_dir "$dir/vote"
    # What is not given is said: the backend, the windows of the training, a vocabulary that is not
    # the model's; and where the answers are.
    head -n 102 data/vocab.txt >"$dir/small.txt"
    noted "$dir/small.txt: the vocabulary is smaller than the model's (found 102 tokens, its \
vocab_size is $(sed -n 's/.*"vocab_size": *\([0-9]*\).*/\1/p' data/config.json)): if it is another \
model's, its ids mean other words" build/train --config_name data/config.json --tokenizer_name \
        "$dir/small.txt" --train_file "$dir/few.jsonl" --max_steps 1 --threads 1 --output_dir \
        "$dir/other"
    noted "$dir/reader: as in training: --max_seq_length 64 --doc_stride 21" build/predict \
        --model_name_or_path "$dir/reader" --test_file "$dir/few.jsonl" --output "$dir/answers"
    grep -qx "predict: $dir/answers/predictions.json: 4 questions" "$dir/err" && ok \
        || bad "predict does not say what it wrote"
    noted "backend: naive c, 1 thread" build/train $few --output_dir "$dir/naive" --backend naive
}

# These checks can fail: another text, another exit code, a line that is not there.
planted() { if "$@" | grep -q '^FAIL'; then ok; else bad "not seen: $*"; fi; }
planted says 3 "$dir/none: no such file" build/predict --model_name_or_path "$dir/none" \
    --test_file "$dir/few.jsonl" --output_dir "$dir/answers"
planted says 2 "$dir/none: no such folder (expected a model directory)" build/predict \
    --model_name_or_path "$dir/none" --test_file "$dir/few.jsonl" --output_dir "$dir/answers"
planted noted "2 passages" build/index --passages "$dir/p.tsv" --analyzer whitespace --output \
    "$dir/ix2"

# A closed pipe ends quietly.
build/train --help 2>"$dir/err" | head -n 1 >/dev/null
[ ! -s "$dir/err" ] && ok || bad "--help into a closed pipe: $(cat "$dir/err")"

end
