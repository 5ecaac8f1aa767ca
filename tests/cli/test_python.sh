#!/bin/sh
# tools/mrc.py against the programs: the same answers, ids and hits, errors as exceptions, and
# threads, garbage collection and forks.  Needs a Python of 3.8 or later (PYTHON says which), no
# package.  Run after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
    skip "no Python of 3.8 or later (found $("$python" --version 2>&1 | tail -n 1))"
    end
fi
stop() { bad "$1: $(tail -n 1 "$dir/err")"; end; }

build/train --config_name data/config.json --tokenizer_name data --train_file data/train.jsonl \
    --output_dir "$dir/model" --max_steps 30 --learning_rate 1e-3 --max_seq_length 64 \
    --doc_stride 16 --save_steps 0 --seed 3 >/dev/null 2>"$dir/err" || stop train
head -n 12 data/validation.jsonl >"$dir/questions.jsonl"
# predict FOLDER FLAGS...
predict() {
    folder=$1
    shift
    build/predict --model_name_or_path "$dir/model" --test_file "$dir/questions.jsonl" \
        --output_dir "$dir/$folder" "$@" 2>"$dir/err" || stop predict
}
predict one --postprocess pipeline --n_best_size 1 --max_answer_length 15
predict five --postprocess pipeline --n_best_size 5 --max_answer_length 15
predict none --postprocess pipeline --n_best_size 5 --max_answer_length 15 --version_2_with_negative
predict squad
awk '{
    context = $0; sub(/^.*"context": "/, "", context); sub(/", "question":.*$/, "", context)
    printf "{\"id\": \"p%d\", \"title\": \"\", \"text\": \"%s\"}\n", NR, context
}' data/validation.jsonl | head -n 100 >"$dir/passages.jsonl"
build/index --passages "$dir/passages.jsonl" --analyzer korean --output "$dir/index" \
    >/dev/null 2>"$dir/err" || stop index
build/search --index "$dir/index" --queries "$dir/questions.jsonl" --method elasticsearch \
    --top_k 5 --run "$dir/run.trec" >/dev/null 2>"$dir/err" || stop search
# An index of vectors and token rows too, of models that have learned next to nothing.
for task in biencoder colbert; do
    build/train --task $task --config_name data/config.json --tokenizer_name data --train_file \
        data/validation.jsonl --output_dir "$dir/$task" --max_steps 1 --query_marker "" \
        --passage_marker "" >/dev/null 2>"$dir/err" || stop "train --task $task"
done
mv "$dir/biencoder" "$dir/vectors"
cp -r "$dir/index" "$dir/staged"
for model in vectors colbert; do
    build/index --output "$dir/staged" --model_name_or_path "$dir/$model" --passages \
        "$dir/passages.jsonl" >/dev/null 2>"$dir/err" || stop "index of $model"
done
for retriever in dense colbert hybrid reranked weighted; do
    set -- --retriever $retriever
    [ $retriever = reranked ] && set -- --retriever hybrid --reranker "$dir/vectors" --rerank_top_k 4
    [ $retriever = weighted ] && set -- --retriever hybrid --reranker "$dir/vectors" --rerank_top_k 4 \
        --rerank_weight 0.3
    build/search --index "$dir/staged" --queries "$dir/questions.jsonl" --method elasticsearch \
        --top_k 5 --run "$dir/$retriever.trec" "$@" >/dev/null 2>"$dir/err" || stop "$retriever"
done
printf '%s\n' '{"text": "오지우는 누구?", "text_pair": "무용가\t𝕏 x"}' \
    '{"text": "  a b", "text_pair": "[SEP] 1872년"}' '{"text": "", "text_pair": "."}' \
    >"$dir/texts.jsonl"
build/tok --tokenizer_name "$dir/model" --jsonl <"$dir/texts.jsonl" >"$dir/tok.jsonl" \
    2>"$dir/err" || stop tok
"$python" tests/support/python_checks.py "$dir/model" "$dir/index" "$dir"
