// train --task biencoder|colbert|cross: what differs from training a reader.  The loop, the logs,
// checkpoints and resuming are train.c's.
#ifndef TRAIN_RETRIEVAL_H
#define TRAIN_RETRIEVAL_H
#include "train_state.h"

static const mrc_head_type task_heads[] = { MRC_HEAD_LINEAR, MRC_HEAD_POOL, MRC_HEAD_TOKENS,
                                            MRC_HEAD_SCORE };

//==============================================================================
// Flags
//==============================================================================
// The models beside --model_name_or_path, and who uses them.
static void retrieval_check_models(const train_args *a) {
    const int teaches = a->loss == LOSS_INFONCE + MRC_CONTRASTIVE_MARGIN_MSE
                     || a->loss == LOSS_INFONCE + MRC_CONTRASTIVE_KL;
    if ((a->teacher || a->teacher_model) && !teaches) {
        tool_fail(TOOL_USAGE, "--%s: is of --loss margin_mse and kl, and no other loss looks at "
                  "it", a->teacher ? "teacher" : "teacher_model");
    }
    if (a->teacher && a->teacher_model) {
        tool_fail(TOOL_USAGE, "--teacher_model: contradicts --teacher (found both, expected one)");
    }
    if (a->query_model && a->task != TASK_BIENCODER) {
        tool_fail(TOOL_USAGE, "--query_model_name_or_path: is of --task biencoder (found --task "
                  "%s)", a->task == TASK_COLBERT ? "colbert" : "cross");
    }
    if (a->query_model && !a->model_name_or_path) {
        tool_fail(TOOL_USAGE, "--query_model_name_or_path: is the second of two models (found "
                  "--config_name, expected --model_name_or_path DIR)");
    }
}

static void retrieval_check(train_args *a, const tool_program *p) {
    static const char *const own[] = {
        "passages", "qrels", "queries", "negatives", "teacher", "teacher_model",
        "query_model_name_or_path", "num_negatives", "negative_ranks",
        "scale", "similarity", "pooling", "projection_size", "query_max_length",
        "passage_max_length", "mini_batch_size", "eval_passages", "eval_queries", "eval_qrels",
        "eval_negatives", "query_marker", "passage_marker", "query_expansion", NULL };
    // All that a run for retrieval would not look at; what stands in a file of flags may be there.
    static const char *const readers[] = {
        "head", "num_rnn_layers", "rnn_hidden_size", "rnn_dropout", "head_kernel_size", "fp16",
        "bf16", "num_folds", "fold", "rdrop_alpha", "fgm_epsilon", "encoding", "compat",
        "pad_to_max_length", "batching", "doc_stride", "max_seq_length", "max_train_samples",
        "max_eval_samples", "version_2_with_negative", "null_score_diff_threshold", "metric",
        "postprocess", "n_best_size", "max_answer_length", "loss_variant", "loss_positions",
        "gamma", "smoothing", "micro_batches_per_step", "sharded_optimizer", NULL };
    static const char *const instead[][2] = {
        { "max_seq_length", "--query_max_length and --passage_max_length" },
        { "micro_batches_per_step", "--mini_batch_size" },
        { "max_train_samples", "a shorter --train_file" },
        { "max_eval_samples", "fewer questions to measure on" } };
    const char *const *no = a->task ? readers : own;
    for (int i = 0; no[i]; i++) {
        const char *better = a->task ? "--task reader" : "--task biencoder, colbert or cross";
        if (tool_given(p, no[i]) != TOOL_GIVEN) continue;
        for (size_t k = 0; k < sizeof instead / sizeof *instead; k++) {
            if (!strcmp(instead[k][0], no[i])) better = instead[k][1];
        }
        tool_fail(TOOL_USAGE, "--%s: is not of this --task (found --task %s, expected %s)", no[i],
                  a->task == TASK_READER ? "reader" : a->task == TASK_BIENCODER ? "biencoder"
                  : a->task == TASK_COLBERT ? "colbert" : "cross", better);
    }
    if (!a->task && a->loss >= LOSS_INFONCE) {
        tool_fail(TOOL_USAGE, "--loss: is of --task biencoder, colbert and cross (expected ce, "
                  "focal or label_smoothing)");
    }
    if (!a->task) return;
    if (a->pooling && a->task != TASK_BIENCODER) {
        tool_fail(TOOL_USAGE, "--pooling: is of --task biencoder (found --task %s, whose texts do "
                  "not become one vector)", a->task == TASK_COLBERT ? "colbert" : "cross");
    }
    if (!tool_given(p, "loss")) a->loss = a->task == TASK_CROSS
                                    ? LOSS_INFONCE + MRC_CONTRASTIVE_BCE : LOSS_INFONCE;
    if (a->loss < LOSS_INFONCE) {
        tool_fail(TOOL_USAGE, "--loss: is of --task reader (expected infonce, symmetric, listwise, "
                  "bce, margin_mse or kl)");
    }
    retrieval_check_models(a);
    if (a->eval_qrels && !(a->eval_passages && a->eval_queries)) {
        tool_fail(TOOL_USAGE, "--eval_qrels: names questions and passages (expected --eval_queries "
                  "and --eval_passages too)");
    }
    if (a->accumulation > 1) {
        tool_fail(TOOL_USAGE, "--gradient_accumulation_steps: a step's texts are one batch (found "
                  "%zu, expected --mini_batch_size N, which splits it exactly)", a->accumulation);
    }
    if (!a->do_eval) a->eval_qrels = NULL;
}

// What measures this run: --validation_file, or questions with --eval_qrels.
static int retrieval_measures(const train_args *a) {
    return a->validation_file || a->eval_qrels;
}

//==============================================================================
// Model and data
//==============================================================================
static mrc_model_config retrieval_config(run *r, const tool_program *p, const char *from) {
    mrc_model_config c;
    train_args *a = r->a;
    tool_check(r->ctx, mrc_encoder_config_load(r->ctx, &c, from, task_heads[a->task],
                                               a->pooling));
    mrc_encoder_config *e = &c.encoder;
    size_t longest = mrc_model_config_max_length(&c);
    int fresh = e->query_max_length == e->passage_max_length;
    if (tool_given(p, "similarity")) {
        e->similarity = a->similarity ? MRC_SIMILARITY_DOT : MRC_SIMILARITY_COS;
        if (a->task == TASK_BIENCODER) e->normalize = !a->similarity;
    }
    if (tool_given(p, "projection_size") || (a->task == TASK_COLBERT && !e->projection_size)) {
        e->projection_size = a->projection_size;
        e->projection_act = MRC_ACT_NONE;
        e->projection_bias = a->task != TASK_COLBERT;
    }
    if (a->task == TASK_COLBERT && fresh) {         // a directory without settings
        e->query_max_length = 32;
        e->passage_max_length = 220;
        snprintf(e->skiplist, sizeof e->skiplist, "! \" # $ %% & ' ( ) * + , - . / : ; < = > ? @ "
                 "[ \\ ] ^ _ ` { | } ~");
        snprintf(e->query_marker, sizeof e->query_marker, "[unused0]");
        snprintf(e->passage_marker, sizeof e->passage_marker, "[unused1]");
    }
    if (a->task == TASK_BIENCODER && fresh && !tool_given(p, "query_max_length")) {
        if (e->query_max_length > 64) e->query_max_length = 64;
        if (e->passage_max_length > 256) e->passage_max_length = 256;
    }
    if (a->task == TASK_CROSS && e->passage_max_length > 256) e->passage_max_length = 256;
    if (a->query_max_length) e->query_max_length = a->query_max_length;
    if (a->passage_max_length) e->passage_max_length = a->passage_max_length;
    if (e->query_max_length > longest) e->query_max_length = longest;
    if (e->passage_max_length > longest) e->passage_max_length = longest;
    if (tool_given(p, "query_expansion")) e->query_expansion = a->query_expansion;
    if (e->pairs && a->task == TASK_BIENCODER) {    // the folder that is written cannot say it
        tool_note("%s: a title goes before its text, a blank between, and not as a pair", from);
        e->pairs = 0;
    }
    if (a->query_marker) snprintf(e->query_marker, sizeof e->query_marker, "%s", a->query_marker);
    if (a->passage_marker) {
        snprintf(e->passage_marker, sizeof e->passage_marker, "%s", a->passage_marker);
    }
    return c;
}

static void say_pairs(const char *path, const mrc_pairs *p) {
    tool_note("%s: %zu rows -> %zu kept, %zu passages", path, mrc_pairs_rows(p),
              mrc_pairs_size(p), mrc_pairs_passages(p));
}

static void retrieval_data(run *r) {
    const train_args *a = r->a;
    mrc_pairs_desc desc = { .path = a->train_file, .queries = a->queries, .passages = a->passages,
                            .qrels = a->qrels, .negatives = a->negatives, .teacher = a->teacher };
    if (a->negative_ranks
        && sscanf(a->negative_ranks, "%zu-%zu", &desc.first_rank, &desc.last_rank) != 2) {
        tool_fail(TOOL_USAGE, "--negative_ranks: is no range (found %s, expected 1-50)",
                  a->negative_ranks);
    }
    tool_check(r->ctx, mrc_pairs_load(r->ctx, &r->pairs, &desc));
    say_pairs(a->train_file, r->pairs);
    if (!retrieval_measures(a)) return;
    mrc_pairs_desc eval = { .path = a->validation_file, .negatives = a->eval_negatives,
                            .passages = a->eval_passages, .whole = a->task != TASK_CROSS };
    if (a->eval_qrels) {
        eval.path = a->eval_queries;
        eval.qrels = a->eval_qrels;
    }
    tool_check(r->ctx, mrc_pairs_load(r->ctx, &r->eval_pairs, &eval));
    say_pairs(eval.path, r->eval_pairs);
}

// After the model: texts become rows by its rules.  The teacher only reads.
static void retrieval_encoder(run *r) {
    if (r->a->teacher_model) {
        tool_check(r->ctx, mrc_encoder_new(r->ctx, &r->teacher, r->a->teacher_model, NULL));
    }
    mrc_encoder_desc desc = { .config = &r->model_config, .model = r->model, .tokenizer = r->tok };
    tool_check(r->ctx, mrc_encoder_new(r->ctx, &r->encoder, r->model_dir ? r->model_dir
                                       : r->tokenizer_dir, &desc));
}

static void retrieval_plan(run *r, uint32_t epoch, uint64_t seed) {
    mrc_pair_plan plan;
    tool_check(r->ctx, mrc_pairs_plan(r->ctx, &plan, r->pairs, r->a->train_batch_size,
                                      r->a->num_negatives, seed, epoch));
    r->plan = (mrc_batch_plan){ plan.host, plan.n_batches, plan.query, plan.begin };
}

static mrc_step_result retrieval_step(run *r, size_t first, size_t n, double max_loss,
                                      double rate) {
    mrc_step_result result;
    mrc_contrastive_desc desc = {
        .pairs = r->pairs, .queries = r->plan.feature + first, .n = n,
        .micro_batch = r->a->mini_batch_size, .num_negatives = r->a->num_negatives,
        .seed = (uint64_t)(r->a->data_seed < 0 ? tool_common.seed : r->a->data_seed),
        .epoch = r->epoch, .loss = (mrc_contrastive_loss)(r->a->loss - LOSS_INFONCE),
        .teacher = r->teacher, .scale = r->a->scale, .lr = rate, .max_loss = max_loss,
        .random = { (uint64_t)tool_common.seed, (uint32_t)r->s.step, 0 },
        .forward = mrc_forward_config_default() };
    desc.forward.dropout = 1;
    desc.forward.gradient_checkpointing = r->a->gradient_checkpointing;
    tool_check(r->ctx, mrc_contrastive_step(r->encoder, r->optimizer, &desc, &result));
    r->s.tokens += result.rows;
    return result;
}

//==============================================================================
// Evaluation
//==============================================================================
static void retrieval_judge(run *r, size_t query, const mrc_hit *hits, size_t n,
                            mrc_rank_result *sum) {
    const mrc_pair *x = mrc_pairs_at(r->eval_pairs, query);
    mrc_judged *judged = tool_allocate(x->n_positives, sizeof *judged);
    for (size_t i = 0; i < x->n_positives; i++) judged[i] = (mrc_judged){ x->positives[i], 1 };
    tool_check(r->ctx, mrc_rank_add(r->ctx, sum, hits, n, judged, x->n_positives));
    free(judged);
}

// All passages of the set, by vectors: an index that lives as long as the evaluation.
static void retrieval_search(run *r, mrc_rank_result *sum) {
    size_t n = mrc_pairs_size(r->eval_pairs), m = mrc_pairs_passages(r->eval_pairs);
    size_t k = m < 100 ? m : 100;
    char path[TOOL_PATH_BYTES];
    mrc_vectors v;
    mrc_dense *d;
    mrc_dense_config config = mrc_dense_config_default();
    mrc_vectors_desc desc = { .similarity = r->model_config.encoder.similarity,
                              .threads = tool_pool_threads() };
    mrc_passage *texts = tool_allocate(m > n ? m : n, sizeof *texts);
    mrc_hit *hits = tool_allocate(n * k, sizeof *hits);
    size_t *n_hits = tool_allocate(n, sizeof *n_hits);
    for (size_t i = 0; i < m; i++) texts[i] = *mrc_pairs_passage(r->eval_pairs, i);
    tool_check(r->ctx, mrc_encoder_encode(r->encoder, MRC_SIDE_PASSAGE, texts, m, &v));
    tool_path(path, r->a->output_dir, ".eval.tmp");
    tool_check(r->ctx, mrc_vectors_index(r->ctx, path, &v, &desc));
    mrc_vectors_free(&v);
    for (size_t i = 0; i < n; i++) {
        const mrc_pair *x = mrc_pairs_at(r->eval_pairs, i);
        texts[i] = (mrc_passage){ x->id, "", x->text, x->bytes };
    }
    tool_check(r->ctx, mrc_encoder_encode(r->encoder, MRC_SIDE_QUERY, texts, n, &v));
    tool_check(r->ctx, mrc_dense_open(r->ctx, &d, path, r->a->task == TASK_COLBERT));
    config.threads = tool_pool_threads();
    tool_check(r->ctx, mrc_dense_search(d, &v, k, &config, hits, n_hits));
    for (size_t i = 0; i < n; i++) retrieval_judge(r, i, hits + i * k, n_hits[i], sum);
    mrc_dense_close(d);
    mrc_vectors_free(&v);
    tool_check(r->ctx, mrc_dir_remove(r->ctx, path));
    free(texts);
    free(hits);
    free(n_hits);
}

static int retrieval_hit_order(const void *a, const void *b) {
    const mrc_hit *x = a, *y = b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    return (x->passage > y->passage) - (x->passage < y->passage);
}

// A cross-encoder orders each question's own passages.
static void retrieval_rerank_lists(run *r, mrc_rank_result *sum) {
    size_t n = mrc_pairs_size(r->eval_pairs);
    for (size_t i = 0; i < n; i++) {
        const mrc_pair *x = mrc_pairs_at(r->eval_pairs, i);
        size_t m = x->n_positives + x->n_negatives;
        mrc_hit *hits = tool_allocate(m, sizeof *hits);
        double *scores = tool_allocate(m, sizeof *scores);
        const mrc_passage **list = tool_allocate(m, sizeof *list);
        const mrc_passage query = { x->id, "", x->text, x->bytes };
        for (size_t k = 0; k < m; k++) {
            hits[k].passage = k < x->n_positives ? x->positives[k]
                            : x->negatives[k - x->n_positives];
            list[k] = mrc_pairs_passage(r->eval_pairs, hits[k].passage);
        }
        tool_check(r->ctx, mrc_encoder_score(r->encoder, &query, list, m, scores));
        for (size_t k = 0; k < m; k++) hits[k].score = scores[k];
        qsort(hits, m, sizeof *hits, retrieval_hit_order);
        retrieval_judge(r, i, hits, m, sum);
        free(hits);
        free(scores);
        free(list);
    }
}

static mrc_eval_result retrieval_measure(run *r) {
    mrc_rank_result sum = { 0 };
    mrc_eval_result result = { 0 };
    if (r->a->task == TASK_CROSS) retrieval_rerank_lists(r, &sum);
    else retrieval_search(r, &sum);
    double n = sum.queries ? (double)sum.queries : 1;
    result.n_questions = sum.queries;
    for (int i = 0; i < MRC_RANK_CUTS; i++) result.recall[i] = sum.recall[i] / n;
    result.mrr_10 = sum.mrr_10 / n;
    result.ndcg_10 = sum.ndcg_10 / n;
    result.map_100 = sum.map_100 / n;
    return result;
}
#endif
