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

# A closed pipe ends quietly.
build/train --help 2>"$dir/err" | head -n 1 >/dev/null
[ ! -s "$dir/err" ] && ok || bad "--help into a closed pipe: $(cat "$dir/err")"

end
