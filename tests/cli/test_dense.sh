#!/bin/sh
# Retrieval that learns, from end to end on small models: train --task, embed, index, search, fuse, ask.
# Run from the repository root after ./build.sh.
. "$(dirname "$0")/../lib.sh"
begin

begin="--config_name data/config.json --tokenizer_name data --train_file data/train.jsonl
       --validation_file data/validation.jsonl --per_device_train_batch_size 8 --logging_steps 3
       --eval_steps 4 --save_steps 2"

# A run that is stopped and resumed ends with the bytes of one that was not; the split of a step is
# exact but for the last bits, so its log has the same evaluations.
works build/train --task biencoder $begin --max_steps 8 --output_dir "$dir/bi"
works build/train --task biencoder $begin --max_steps 8 --output_dir "$dir/cut"
rm -rf "$dir/cut/checkpoint-8" "$dir/cut/checkpoint-6" "$dir/cut/model.safetensors" \
    "$dir/cut/trainer_state.json"
works build/train --task biencoder $begin --max_steps 8 --output_dir "$dir/cut" --resume_from_checkpoint
same "$dir/bi/model.safetensors" "$dir/cut/model.safetensors"
same "$dir/bi/log.jsonl" "$dir/cut/log.jsonl"
same "$dir/bi/best/model.safetensors" "$dir/cut/best/model.safetensors"
grep -q '"eval/ndcg@10": 0\.' "$dir/bi/log.jsonl" && ok || bad "no eval/ndcg@10 in log.jsonl"
works build/train --task biencoder $begin --max_steps 2 --output_dir "$dir/pieces" --mini_batch_size 3
# A folder that lacks the file of its pooling, as downloads of single files do.
cp -r "$dir/pieces" "$dir/lacks" && rm -r "$dir/lacks/1_Pooling"
lacking="--model_name_or_path $dir/lacks --train_file data/train.jsonl --per_device_train_batch_size 4"
fails 3 'it is not read where pooling is given' build/train --task biencoder $lacking --max_steps 1 \
    --output_dir "$dir/no"
works build/train --task biencoder $lacking --max_steps 1 --pooling mean --output_dir "$dir/lacked"
refuses 2 '--pooling: is of --task biencoder' build/train --task colbert $begin --max_steps 1 \
    --pooling mean --output_dir "$dir/no"
# Two towers: both learn, and a run that is stopped and resumed ends with the same bytes.
towers="--task biencoder --model_name_or_path $dir/bi --query_model_name_or_path $dir/pieces --train_file
        data/train.jsonl --validation_file data/validation.jsonl --per_device_train_batch_size 8
        --eval_steps 2 --save_steps 2 --similarity dot --pooling cls"
works build/train $towers --max_steps 4 --output_dir "$dir/towers"
works build/train $towers --max_steps 4 --output_dir "$dir/again"
rm -rf "$dir/again/checkpoint-4" "$dir/again/ctx_encoder" "$dir/again/question_encoder" \
    "$dir/again/trainer_state.json"
works build/train $towers --max_steps 4 --output_dir "$dir/again" --resume_from_checkpoint
for tower in ctx_encoder question_encoder best/question_encoder; do
    same "$dir/towers/$tower/model.safetensors" "$dir/again/$tower/model.safetensors"
done
cmp -s "$dir/towers/ctx_encoder/model.safetensors" "$dir/bi/model.safetensors" \
    && bad "the passages' tower did not learn" || ok
cmp -s "$dir/towers/question_encoder/model.safetensors" "$dir/pieces/model.safetensors" \
    && bad "the questions' tower did not learn" || ok
# A run that begins with the folder of both is one that begins with each; so is one with a tower of
# another folder.
more="--task biencoder --train_file data/train.jsonl --per_device_train_batch_size 8 --max_steps 1"
works build/train $more --model_name_or_path "$dir/towers" --output_dir "$dir/both"
works build/train $more --model_name_or_path "$dir/towers/ctx_encoder" --query_model_name_or_path \
    "$dir/towers/question_encoder" --output_dir "$dir/each"
works build/train $more --model_name_or_path "$dir/towers" --query_model_name_or_path "$dir/towers" \
    --output_dir "$dir/twice"
for tower in ctx_encoder question_encoder; do
    same "$dir/both/$tower/model.safetensors" "$dir/each/$tower/model.safetensors"
    same "$dir/both/$tower/model.safetensors" "$dir/twice/$tower/model.safetensors"
    cmp -s "$dir/both/$tower/model.safetensors" "$dir/towers/$tower/model.safetensors" \
        && bad "$tower did not learn" || ok
done
works build/train $more --model_name_or_path "$dir/towers" --output_dir "$dir/both" \
    --resume_from_checkpoint
fails 3 'holds two towers' build/train --task cross --model_name_or_path "$dir/towers" --train_file \
    data/train.jsonl --max_steps 1 --output_dir "$dir/no"
fails 3 'would be overwritten' build/train $more --model_name_or_path "$dir/towers" --output_dir \
    "$dir/towers" --overwrite_output_dir
refuses 2 '--query_model_name_or_path: is of --task biencoder' build/train --task colbert $begin \
    --max_steps 1 --query_model_name_or_path "$dir/bi" --output_dir "$dir/no"
works build/train --task colbert $begin --max_steps 2 --output_dir "$dir/colbert" --projection_size 16 \
    --query_marker "" --passage_marker ""
fails 3 'no marker' build/train --task colbert $begin --max_steps 1 --output_dir "$dir/marked"

# Lists with negatives, for a cross-encoder.
awk 'NR <= 60' data/train.jsonl | sed 's/.*"context": \("[^"]*"\).*"question": \("[^"]*"\).*/\2 \1/' \
    >"$dir/lines"
awk -F'" "' 'NR > 1 { print "{\"query\": " $1 "\", \"pos\": [\"" $2 "], \"neg\": [\"" before "]}" }
    { before = $2 }' "$dir/lines" >"$dir/lists.jsonl"
cross="--config_name data/config.json --tokenizer_name data --train_file $dir/lists.jsonl
       --validation_file $dir/lists.jsonl --per_device_train_batch_size 4 --num_negatives 1"
works build/train --task cross $cross --max_steps 2 --output_dir "$dir/cross"
works build/train --task cross $cross --max_steps 2 --output_dir "$dir/cross2" --loss listwise
# A model that teaches: its scores are those of a run of it.
works build/train --task cross $cross --max_steps 2 --output_dir "$dir/taught" --loss margin_mse \
    --teacher_model "$dir/cross" --logging_steps 1
grep -q '"train/loss": [0-9]' "$dir/taught/log.jsonl" && ok || bad "no loss under --teacher_model"
works build/train --task cross --model_name_or_path "$dir/cross" --train_file "$dir/lists.jsonl" \
    --per_device_train_batch_size 4 --num_negatives 1 --max_steps 1 --output_dir "$dir/taught2" --loss \
    margin_mse --teacher_model "$dir/cross" --logging_steps 1 --weight_decay 0 --warmup_steps 0
refuses 2 '--teacher_model: is of --loss' build/train --task cross $cross --max_steps 1 --output_dir \
    "$dir/no" --teacher_model "$dir/cross"
refuses 2 '--teacher_model: contradicts --teacher' build/train --task cross $cross --max_steps 1 \
    --output_dir "$dir/no" --loss kl --teacher "$dir/lines" --teacher_model "$dir/cross"
fails 2 'is of --task reader' build/train --task cross $cross --max_steps 1 --output_dir "$dir/no" \
    --loss focal
fails 2 'expected --task biencoder, colbert or cross' build/train $begin --max_steps 1 --output_dir \
    "$dir/no" --scale 3
# What a run for retrieval would not look at is refused, not passed over.
for flag in head=mlp num_rnn_layers=1 rnn_hidden_size=8 rnn_dropout=0.1 head_kernel_size=3 fp16 bf16 \
    num_folds=3 fold=1 rdrop_alpha=1 fgm_epsilon=1 encoding=sentinel compat=reference pad_to_max_length \
    batching=sorted doc_stride=8 max_seq_length=64 max_train_samples=8 max_eval_samples=8 \
    version_2_with_negative null_score_diff_threshold=1 metric=squad postprocess=pipeline \
    n_best_size=5 max_answer_length=9 loss_variant=standard loss_positions=valid gamma=1 smoothing=0.1 \
    micro_batches_per_step=2 sharded_optimizer gradient_accumulation_steps=2; do
    refuses 2 "--${flag%%=*}: " build/train --task biencoder $begin --max_steps 1 --output_dir "$dir/no" \
        "--$flag"
done
refuses 2 'expected --query_max_length and' build/train --task biencoder $begin --max_steps 1 \
    --output_dir "$dir/no" --max_seq_length 64
# What its own train_args.json has of them changes nothing.
works build/train "$dir/pieces/train_args.json" --output_dir "$dir/repeated"
same "$dir/pieces/model.safetensors" "$dir/repeated/model.safetensors"

# One index for words, vectors and token rows.
awk '{ print NR "\t" $0 }' "$dir/lines" | awk -F'\t' '{ split($2, part, "\" \""); sub(/"$/, "", part[2])
    print $1 "\t" part[2] }' | sort -u -t"$(printf '\t')" -k2 >"$dir/passages.tsv"
works build/index --passages "$dir/passages.tsv" --unique --analyzer char_bigram --output "$dir/ix" \
    --model_name_or_path "$dir/bi" --graph
for flag in --graph --tokens "--form int8" "--bits 2" "--pooling cls" "--max_seq_length 32"; do
    # shellcheck disable=SC2086
    refuses 2 "${flag%% *}: is of vectors" build/index --passages "$dir/passages.tsv" --analyzer \
        whitespace --output "$dir/no" $flag
done
refuses 2 '--m: is of a graph' build/index --passages "$dir/passages.tsv" --analyzer whitespace \
    --output "$dir/no" --m 8
works build/index --passages "$dir/passages.tsv" --unique --output "$dir/ix" --model_name_or_path \
    "$dir/colbert"
awk -F'"' '{ print "{\"id\": \"" NR "\", \"question\": \"" $2 "\"}" }' "$dir/lines" \
    >"$dir/questions.jsonl"
awk '{ print NR "\t0\t1\t1" }' "$dir/lines" >"$dir/qrels"
for retriever in bm25 dense colbert hybrid; do
    works build/search --index "$dir/ix" --queries "$dir/questions.jsonl" --retriever $retriever \
        --top_k 5 --run "$dir/$retriever.run" --qrels "$dir/qrels"
    tail -n 1 "$dir/out" | grep -q '^{"queries": 60, "recall@1": .*"recall@100": .*"mrr@10": .*"ndcg@10": .*"map@100": ' \
        && ok || bad "$retriever: $(tail -n 1 "$dir/out")"
done
works build/search --index "$dir/ix" --queries "$dir/questions.jsonl" --retriever hybrid --top_k 5 \
    --reranker "$dir/cross" --rerank_top_k 4 --run "$dir/reranked.run"
# A weight of 1 is the reranker alone, as without the flag; of 0 the order is that below.
works build/search --index "$dir/ix" --queries "$dir/questions.jsonl" --retriever hybrid --top_k 5 \
    --reranker "$dir/cross" --rerank_top_k 4 --rerank_weight 1 --run "$dir/one.run"
same "$dir/reranked.run" "$dir/one.run"
works build/search --index "$dir/ix" --queries "$dir/questions.jsonl" --retriever hybrid --top_k 5 \
    --reranker "$dir/cross" --rerank_top_k 4 --rerank_weight 0 --run "$dir/none.run"
cut -d' ' -f1-4 "$dir/hybrid.run" >"$dir/hybrid.order"
cut -d' ' -f1-4 "$dir/none.run" >"$dir/none.order"
same "$dir/hybrid.order" "$dir/none.order"
fails 2 'from 0 to 1' build/search --index "$dir/ix" --queries "$dir/questions.jsonl" --reranker \
    "$dir/cross" --rerank_weight 2
fails 3 'is not the model that made' build/search --index "$dir/ix" --queries "$dir/questions.jsonl" \
    --retriever dense --retrieval_model "$dir/pieces"
works build/search --index "$dir/ix" --queries "$dir/questions.jsonl" --retriever dense \
    --retrieval_model "$dir/pieces" --any_model
works build/fuse --runs "$dir/bm25.run" "$dir/dense.run" --method rrf --run "$dir/f.run" --qrels \
    "$dir/qrels"
works build/fuse --runs "$dir/bm25.run" "$dir/dense.run" --qrels "$dir/qrels" --tune mrr@10 --run \
    "$dir/f.run"
[ "$(grep -c '^weights ' "$dir/out")" = 21 ] && ok || bad "fuse tries $(wc -l <"$dir/out") weights"
grep -q queries "$dir/out" && bad "fuse gives figures of the questions it chose weights on" || ok

# Of one run alone fuse prints what search printed of it; trec_eval's order of equal scores is by id,
# falling.
works build/search --index "$dir/ix" --queries "$dir/questions.jsonl" --retriever bm25 --top_k 5 --run \
    "$dir/bm25.run" --qrels "$dir/qrels"
tail -n 1 "$dir/out" >"$dir/said"
works build/fuse --runs "$dir/bm25.run" --qrels "$dir/qrels"
same "$dir/said" "$dir/out"
printf 'a Q0 d1 1 2 x\na Q0 d2 2 2 x\n' >"$dir/made.run"
echo 'a 0 d2 1' >"$dir/made.qrels"
for ties in passage:0.0 trec:1.0; do
    works build/fuse --runs "$dir/made.run" --qrels "$dir/made.qrels" --ties "${ties%:*}"
    says "\"recall@1\": ${ties#*:}, "
done
# A passage without rows has the score that C prints so; a passage that stands twice is found once.
printf 'a Q0 d2 1 9 x\na Q0 d2 2 8 x\na Q0 d3 3 7 x\na Q0 d1 4 -inf x\n' >"$dir/twice.run"
works build/fuse --runs "$dir/twice.run" --method raw --qrels "$dir/made.qrels"
says '"recall@5": 1.0, '
says '"map@100": 1.0}'
grep -q '1 line names a passage of the same query again: the best score counts' "$dir/err" && ok \
    || bad "fuse: a passage twice, and nothing is said: $(cat "$dir/err")"
refuses 3 'knows none of the queries of' build/fuse --runs "$dir/made.run" --qrels "$dir/qrels"
refuses 2 '--run is missing' build/fuse --runs "$dir/made.run" "$dir/bm25.run"
refuses 2 'takes two or three runs' build/fuse --runs "$dir/made.run" --qrels "$dir/made.qrels" --tune \
    mrr@10

# The report of runs says what search said, and which questions one run alone has at rank 1.
works build/search --index "$dir/ix" --queries "$dir/questions.jsonl" --retriever bm25 --top_k 5 --run \
    "$dir/bm25.run" --qrels "$dir/qrels"
figure=$(sed -n 's/.*"ndcg@10": \(0\.[0-9]*\).*/\1/p' "$dir/out" | awk '{ printf "%.4f", $1 }')
printf '1 Q0 1 1 9 x\n2 Q0 none 1 9 x\n2 Q0 1 2 8 x\n' >"$dir/made.run"
works build/report --runs "$dir/bm25.run" "$dir/made.run" --qrels "$dir/qrels" --queries \
    "$dir/questions.jsonl" --output "$dir/found.html"
grep -q "made.run</td><td class=\"n[^>]*>0.0167<.*>0.0333<" "$dir/found.html" && ok \
    || bad "report: recall@1 and @5 of a run of one right passage first and one second"
grep -q "bm25.run</td>.*>$figure<" "$dir/found.html" && ok || bad "report: ndcg@10 is not $figure"
# Against bm25.run: better where that has the passage lower or not at all.
first=$(awk '$3 == 1 && ($1 == 1 || $1 == 2) { print $1, $4 }' "$dir/bm25.run" | awk '
    { rank[$1] = $2 } END { print (rank[1] != 1) + (rank[2] == 0 || rank[2] > 2) }')
grep -q "made.run</th><td class=\"n\">$first</td><td></td>" "$dir/found.html" && ok \
    || bad "report: made.run is better on $first questions"
refuses 2 '--qrels is missing' build/report --runs "$dir/bm25.run" --output "$dir/no.html"
refuses 2 'DIR is missing' build/report --output "$dir/no.html"
refuses 3 'is no run' build/report --runs /dev/null --qrels "$dir/qrels" --output "$dir/no.html"
awk '{ print "x" $0 }' "$dir/qrels" >"$dir/others"
refuses 3 'has none of the questions' build/report --runs "$dir/bm25.run" --qrels "$dir/others" --output \
    "$dir/no.html"
[ -e "$dir/no.html" ] && bad "a report that failed is there" || ok

# Vectors of texts: the same for one text alone and among others.
awk -F'"' '{ print $2 }' "$dir/lines" >"$dir/plain"
sed -n 7p "$dir/plain" >"$dir/one"
works build/embed --model_name_or_path "$dir/bi" --input "$dir/plain" --side query --output "$dir/a.npy"
works build/embed --model_name_or_path "$dir/bi" --input "$dir/one" --side query --output "$dir/b.npy"
tail -c +1665 "$dir/a.npy" | head -c 256 >"$dir/row"
tail -c 256 "$dir/b.npy" >"$dir/alone"
same "$dir/row" "$dir/alone"
# Of a row with both, a query is the question and a passage the text; a query has no title.
awk 'NR == 7 { print "{\"title\": \"T\", \"question\": \"" $0 "\", \"text\": \"other words\"}" }' \
    "$dir/plain" >"$dir/row.jsonl"
echo 'T other words' >"$dir/titled"
works build/embed --model_name_or_path "$dir/bi" --input "$dir/row.jsonl" --side query --output "$dir/c.npy"
same "$dir/b.npy" "$dir/c.npy"
works build/embed --model_name_or_path "$dir/bi" --input "$dir/row.jsonl" --output "$dir/c.npy"
works build/embed --model_name_or_path "$dir/bi" --input "$dir/titled" --output "$dir/d.npy"
same "$dir/c.npy" "$dir/d.npy"
echo '{"question": "T other words"}' >"$dir/row.jsonl"
works build/embed --model_name_or_path "$dir/bi" --input "$dir/row.jsonl" --output "$dir/c.npy"
same "$dir/c.npy" "$dir/d.npy"
# Of two towers the side says which one reads; both of one folder are those of each alone.
for side in ctx_encoder:passage question_encoder:query; do
    works build/embed --model_name_or_path "$dir/towers" --input "$dir/one" --side "${side#*:}" \
        --output "$dir/c.npy"
    works build/embed --model_name_or_path "$dir/towers/${side%:*}" --input "$dir/one" --side \
        "${side#*:}" --output "$dir/d.npy"
    same "$dir/c.npy" "$dir/d.npy"
    cmp -s "$dir/c.npy" "$dir/before.npy" && bad "both sides have one tower" || ok
    mv "$dir/c.npy" "$dir/before.npy"
done
works build/index --passages "$dir/passages.tsv" --unique --analyzer whitespace --output "$dir/ix2" \
    --model_name_or_path "$dir/towers"
works build/search --index "$dir/ix2" --queries "$dir/questions.jsonl" --retriever dense --run "$dir/a.run"
works build/search --index "$dir/ix2" --queries "$dir/questions.jsonl" --retriever dense --run \
    "$dir/b.run" --retrieval_model "$dir/towers/ctx_encoder" --query_model_name_or_path \
    "$dir/towers/question_encoder"
same "$dir/a.run" "$dir/b.run"
fails 3 'makes its vectors otherwise' build/search --index "$dir/ix2" --queries \
    "$dir/questions.jsonl" --retriever dense --run "$dir/b.run" --query_model_name_or_path "$dir/bi"
# DPR's title and text are a pair, with token types 0 and 1, or as its own code has them.
sed 's/"roberta"/"bert"/; s/"type_vocab_size": 1/"type_vocab_size": 2/' data/config.json >"$dir/bert.json"
works build/train --task biencoder --config_name "$dir/bert.json" --tokenizer_name data --train_file \
    data/train.jsonl --per_device_train_batch_size 4 --max_steps 1 --output_dir "$dir/dpr" --pooling cls
rm -rf "$dir/dpr"/*Pooling "$dir/dpr"/*Normalize "$dir/dpr"/modules.json "$dir/dpr"/*sentence*
sed 's/"architectures": \["[A-Za-z]*"\]/"architectures": ["DPRContextEncoder"]/
    s/"model_type": "bert"/"model_type": "dpr"/' "$dir/dpr/config.json" >"$dir/dpr.json"
mv "$dir/dpr.json" "$dir/dpr/config.json"
echo '{"title": "T", "text": "other words"}' >"$dir/row.jsonl"
for types in 0 1; do
    works build/embed --model_name_or_path "$dir/dpr" --input "$dir/row.jsonl" --output \
        "$dir/titled$types.npy" --passage_token_types $types
    works build/embed --model_name_or_path "$dir/dpr" --input "$dir/one" --output \
        "$dir/alone$types.npy" --passage_token_types $types
done
same "$dir/alone0.npy" "$dir/alone1.npy"
cmp -s "$dir/titled0.npy" "$dir/titled1.npy" && bad "--passage_token_types changes no vector" || ok
works build/embed --model_name_or_path "$dir/dpr" --input "$dir/row.jsonl" --output "$dir/c.npy"
same "$dir/c.npy" "$dir/titled1.npy"
# A run on it learns from what the folder that it writes makes of a title: the blank between.
for row in '"title": "T", "text": "other words"' '"text": "T other words"'; do
    printf '{"query_id": "1", "query": "q", "positive_passages": [{"docid": "1", %s}], %s\n' "$row" \
        '"negative_passages": [{"docid": "2", "text": "nothing"}]}' >"$dir/titled.jsonl"
    works build/train --task biencoder --model_name_or_path "$dir/dpr" --train_file \
        "$dir/titled.jsonl" --num_negatives 1 --max_steps 1 --logging_steps 1 --output_dir \
        "$dir/learned" --overwrite_output_dir
    mv "$dir/learned/log.jsonl" "$dir/log$(echo "$row" | tr -dc 'a-z' | cut -c1-2)"
done
same "$dir/logti" "$dir/logte"
# The rows of [UNK] are left out where that is asked for.
echo 'T ☃ words' >"$dir/unknown"
for flag in "" --skiplist_unk; do
    works build/embed --model_name_or_path "$dir/colbert" --input "$dir/unknown" --output \
        "$dir/u$flag.safetensors" $flag
done
[ "$(wc -c <"$dir/u.safetensors")" -gt "$(wc -c <"$dir/u--skiplist_unk.safetensors")" ] && ok \
    || bad "--skiplist_unk leaves out no row"
# A head that is not there is not made up: a cross-encoder by its class name alone.
cp -r "$dir/pieces" "$dir/headless"
rm -rf "$dir/headless"/*Pooling "$dir/headless"/*Normalize "$dir/headless"/modules.json \
    "$dir/headless"/*sentence*
sed 's/"architectures": \["[A-Za-z]*"\]/"architectures": ["RobertaForSequenceClassification"]/' \
    "$dir/pieces/config.json" >"$dir/headless/config.json"
fails 3 'has no classifier.dense.weight' build/search --index "$dir/ix2" --queries \
    "$dir/questions.jsonl" --reranker "$dir/headless" --run "$dir/no.run"
# What has no one vector has no pooling.
fails 3 'pooling is of encoders' build/embed --model_name_or_path "$dir/colbert" --input \
    "$dir/one" --output "$dir/no.safetensors" --pooling mean
fails 3 'pooling is of encoders' build/embed --model_name_or_path "$dir/cross" --input \
    "$dir/one" --output "$dir/no.npy" --pooling mean
fails 3 'pooling is of encoders' build/index --passages "$dir/passages.tsv" --output "$dir/ix" \
    --model_name_or_path "$dir/bi" --tokens --pooling mean
# With weights of bytes: nearly those of fp32, each the same for one text alone and among others.
works build/embed --model_name_or_path "$dir/bi" --input "$dir/plain" --side query --output \
    "$dir/a8.npy" --dtype int8
works build/embed --model_name_or_path "$dir/bi" --input "$dir/one" --side query --output \
    "$dir/b8.npy" --dtype int8
tail -c +1665 "$dir/a8.npy" | head -c 256 >"$dir/row8"
tail -c 256 "$dir/b8.npy" >"$dir/alone8"
same "$dir/row8" "$dir/alone8"
cmp -s "$dir/row" "$dir/row8" && bad "--dtype int8 changes no bit" || ok
for row in row row8; do od -An -v -w4 -t f4 "$dir/$row" >"$dir/$row.txt"; done
paste "$dir/row.txt" "$dir/row8.txt" | awk '{ xy += $1 * $2; xx += $1 * $1; yy += $2 * $2 }
    END { exit !(NR == 64 && xy > 0.99 * sqrt(xx * yy)) }' && ok || bad "--dtype int8 is far off"
fails 2 '--int8_keep: needs --dtype int8' build/embed --model_name_or_path "$dir/bi" --input \
    "$dir/one" --output "$dir/no.npy" --int8_keep down
works build/embed --model_name_or_path "$dir/colbert" --input "$dir/plain" --side query --output \
    "$dir/t.safetensors"
fails 3 'expected a name that ends in .safetensors' build/embed --model_name_or_path "$dir/colbert" \
    --input "$dir/plain" --output "$dir/t.npy"
fails 3 'a cross-encoder scores pairs' build/embed --model_name_or_path "$dir/cross" --input \
    "$dir/plain" --output "$dir/t.npy"

end
