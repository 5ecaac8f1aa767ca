// Finding passages in stages: words, vectors, token rows, all of them fused, a reranker on top.
// For search, ask and serve.  What index wrote says which models made the vectors.
#ifndef RETRIEVAL_H
#define RETRIEVAL_H
#include "reader.h"

enum { RETRIEVE_BM25, RETRIEVE_DENSE, RETRIEVE_COLBERT, RETRIEVE_HYBRID };
enum { STAGE_BM25, STAGE_DENSE, STAGE_COLBERT, STAGE_FUSED, STAGE_RERANK, STAGES };
static const char *const stage_names[STAGES] = { "bm25", "dense", "colbert", "fused", "rerank" };

typedef struct retrieval_options {
    const char *index, *model, *token_model, *query_model, *reranker;
    int         kind, method, fusion, any_model, exact;
    size_t      rerank_top_k, depth, ef, max_length;
    double      k1, b, delta;
} retrieval_options;

// A passage and what each stage said of it; NAN: that stage did not meet it.
typedef struct stage_hit { uint32_t passage; double score, stage[STAGES]; } stage_hit;

typedef struct retrieval {
    retrieval_options o;
    mrc_ctx      *ctx;
    mrc_index    *ix;
    mrc_searcher *searcher;
    mrc_dense    *dense[2];             // vectors, token rows
    mrc_encoder  *encoder[2], *reranker;
    mrc_text      room;
} retrieval;

// The flags of stages; o: a retrieval_options.
#define RETRIEVAL_FLAGS(o)                                                                         \
    { .name = "retriever", .choice = &(o).kind, .choices = "bm25|dense|colbert|hybrid",            \
      .preset = "bm25", .help = "words, vectors, token rows, or all that the index has, fused by " \
      "z-scores" },                                                                                \
    { .name = "reranker", .string = &(o).reranker, .value = "DIR",                                 \
      .help = "a cross-encoder, bi-encoder or ColBERT that orders the first passages again" },     \
    { .name = "rerank_top_k", .size = &(o).rerank_top_k, .preset = "20", .min = 1, .max = 1e6,     \
      .unit = "passages", .help = "how many of them" },                                            \
    { .name = "retrieval_model", .alias = "model_of_vectors", .string = &(o).model,                \
      .value = "DIR", .otherwise = "the one the index names",                                      \
      .help = "the bi-encoder of the index's vectors" },                                           \
    { .name = "token_model", .string = &(o).token_model, .value = "DIR",                           \
      .otherwise = "the one the index names", .help = "the ColBERT of the index's token rows" },   \
    { .name = "query_model_name_or_path", .string = &(o).query_model, .value = "DIR",              \
      .otherwise = "the same model", .help = "the query tower of two" },                           \
    { .name = "fusion", .choice = &(o).fusion, .choices = "rrf|minmax|zscore|raw",                 \
      .preset = "zscore", .help = "how the stages of hybrid are added up" },                       \
    { .name = "fusion_depth", .size = &(o).depth, .preset = "20", .min = 1, .max = 1e6,            \
      .help = "passages of each stage that are fused" },                                           \
    { .name = "ef", .size = &(o).ef, .preset = "64", .min = 1, .max = 1e6,                         \
      .help = "candidates that a search of a graph keeps" },                                       \
    { .name = "exact", .flag = &(o).exact, .help = "score all vectors though there is a graph" },  \
    { .name = "any_model", .flag = &(o).any_model,                                                 \
      .help = "take a model that did not make the index's vectors" }

//==============================================================================
// Which models made an index: encoders.json beside it
//==============================================================================
TOOL_DEF void retrieval_path(char *out, size_t room, const char *dir, const char *name) {
    if ((size_t)snprintf(out, room, "%s/%s", dir, name) >= room) {
        tool_fail(TOOL_BAD_INPUT, "%.200s: the path is too long", dir);
    }
}

// A member of encoders.json's entry for vectors (0) or token rows (1); a copy, or NULL.
TOOL_DEF char *retrieval_encoder(mrc_ctx *ctx, const char *index, int tokens, const char *key) {
    char file[TOOL_PATH_BYTES], *copy = NULL;
    mrc_json *root;
    retrieval_path(file, sizeof file, index, "encoders.json");
    if (mrc_file_exists(file) != 1) return NULL;
    tool_check(ctx, mrc_json_load(ctx, &root, file));
    const mrc_json *entry = mrc_json_get(root, tokens ? "tokens" : "vectors");
    const mrc_json *v = entry ? mrc_json_get(entry, key) : NULL;
    if (v && v->type == MRC_JSON_STRING && v->bytes) {
        copy = strcpy(tool_allocate(v->bytes + 1, 1), v->string);
    }
    mrc_json_free(root);
    return copy;
}

// Writes the entry and keeps the other one.
TOOL_DEF void retrieval_encoder_write(mrc_ctx *ctx, const char *index, int tokens,
                                      const char *model, const char *pooling, size_t max_length) {
    char file[TOOL_PATH_BYTES], real[TOOL_PATH_BYTES], digits[24] = "";
    mrc_text t;
    char *other[3];
    static const char *const keys[] = { "model_name_or_path", "pooling", "max_seq_length" };
    for (int i = 0; i < 3; i++) other[i] = retrieval_encoder(ctx, index, !tokens, keys[i]);
    if (!realpath(model, real)) snprintf(real, sizeof real, "%s", model);
    if (max_length) snprintf(digits, sizeof digits, "%zu", max_length);
    const char *own[3] = { real, pooling ? pooling : "", digits };
    mrc_text_init(&t, ctx);
    mrc_text_printf(&t, "{");
    for (int side = 0, n = 0; side < 2; side++) {
        if (side != tokens && !other[0]) continue;
        mrc_text_printf(&t, "%s\n  \"%s\": {", n++ ? "," : "", side ? "tokens" : "vectors");
        for (int i = 0; i < 3; i++) {
            const char *value = side == tokens ? own[i] : other[i] ? other[i] : "";
            mrc_text_printf(&t, "%s\"%s\": ", i ? ", " : "", keys[i]);
            mrc_text_json_string(&t, value, strlen(value), 0);
        }
        mrc_text_printf(&t, "}");
    }
    mrc_text_printf(&t, "\n}\n");
    tool_check_text(&t);
    retrieval_path(file, sizeof file, index, "encoders.json");
    tool_check(ctx, mrc_file_write(ctx, file, t.data, t.bytes));
    mrc_text_free(&t);
    for (int i = 0; i < 3; i++) free(other[i]);
}

//==============================================================================
// Opening
//==============================================================================
static void retrieval_open_stage(retrieval *r, int tokens) {
    char *named = retrieval_encoder(r->ctx, r->o.index, tokens, "model_name_or_path");
    char *pooling = retrieval_encoder(r->ctx, r->o.index, tokens, "pooling");
    char *length = retrieval_encoder(r->ctx, r->o.index, tokens, "max_seq_length");
    const char *given = tokens ? r->o.token_model : r->o.model, *model = given ? given : named;
    tool_check(r->ctx, mrc_dense_open(r->ctx, &r->dense[tokens], r->o.index, tokens));
    if (!model) {
        tool_fail(TOOL_USAGE, "%s: does not say which model made its vectors (expected "
                  "--%s DIR)", r->o.index, tokens ? "token_model" : "retrieval_model");
    }
    mrc_encoder_desc desc = { .pooling = pooling, .query_path = tokens ? NULL : r->o.query_model,
                              .max_length = length ? (size_t)strtoul(length, NULL, 10) : 0,
                              .head = tokens ? MRC_HEAD_TOKENS : MRC_HEAD_LINEAR };
    tool_check(r->ctx, mrc_encoder_new(r->ctx, &r->encoder[tokens], model, &desc));
    mrc_dense_info about = mrc_dense_about(r->dense[tokens]);
    if (about.fingerprint && !r->o.any_model
        && about.fingerprint != mrc_encoder_fingerprint(r->encoder[tokens])) {
        tool_fail(TOOL_BAD_INPUT, "%s: is not the model that made the vectors of %s (found "
                  "fingerprint %016llx, expected %016llx; --any_model takes it all the same)",
                  model, r->o.index,
                  (unsigned long long)mrc_encoder_fingerprint(r->encoder[tokens]),
                  (unsigned long long)about.fingerprint);
    }
    if (about.n != mrc_index_size(r->ix)) {
        tool_fail(TOOL_BAD_INPUT, "%s: has vectors of other passages (found %zu, expected %zu)",
                  r->o.index, about.n, mrc_index_size(r->ix));
    }
    free(named);
    free(pooling);
    free(length);
}

static int retrieval_has(const char *index, const char *name) {
    char file[TOOL_PATH_BYTES];
    retrieval_path(file, sizeof file, index, name);
    return mrc_file_exists(file) == 1;
}

TOOL_DEF void retrieval_open(mrc_ctx *ctx, retrieval *r, const retrieval_options *o) {
    *r = (retrieval){ .o = *o, .ctx = ctx };
    mrc_search_config config = mrc_search_config_default((mrc_bm25)o->method);
    if (!isnan(o->k1)) config.k1 = o->k1;
    if (!isnan(o->b)) config.b = o->b;
    if (!isnan(o->delta)) config.delta = o->delta;
    config.threads = tool_pool_threads();
    mrc_text_init(&r->room, ctx);
    tool_check(ctx, mrc_index_open(ctx, &r->ix, o->index));
    int hybrid = o->kind == RETRIEVE_HYBRID;
    if (o->kind == RETRIEVE_BM25 || hybrid) {
        tool_check(ctx, mrc_searcher_new(ctx, &r->searcher, r->ix, &config));
    }
    if (o->kind == RETRIEVE_DENSE || (hybrid && retrieval_has(o->index, "vectors.bin"))) {
        retrieval_open_stage(r, 0);
    }
    if (o->kind == RETRIEVE_COLBERT || (hybrid && retrieval_has(o->index, "tokens.bin"))) {
        retrieval_open_stage(r, 1);
    }
    if (hybrid && !r->dense[0] && !r->dense[1]) {
        tool_fail(TOOL_BAD_INPUT, "%s: has words only, so there is nothing to fuse (expected "
                  "vectors too: index --model_name_or_path DIR)", o->index);
    }
    if (o->reranker) {
        tool_check(ctx, mrc_encoder_new(ctx, &r->reranker, o->reranker, NULL));
    }
}

TOOL_DEF void retrieval_close(retrieval *r) {
    mrc_searcher_free(r->searcher);
    for (int i = 0; i < 2; i++) mrc_dense_close(r->dense[i]);
    for (int i = 0; i < 2; i++) mrc_encoder_free(r->encoder[i]);
    mrc_encoder_free(r->reranker);
    mrc_text_free(&r->room);
    if (r->ix) mrc_index_close(r->ix);
}

//==============================================================================
// Running
//==============================================================================
// One stage's hits of n queries: hits[q * depth ..], counts[q].
static mrc_status retrieval_stage(retrieval *r, int stage, const mrc_passage *queries, size_t n,
                                  size_t depth, mrc_hit *hits, size_t *counts) {
    mrc_status status;
    if (stage == STAGE_BM25) {
        mrc_query *list = tool_allocate(n, sizeof *list);
        for (size_t i = 0; i < n; i++) {
            list[i] = (mrc_query){ queries[i].text, queries[i].text_bytes };
        }
        status = mrc_search(r->searcher, list, n, depth, hits, counts);
        free(list);
        return status;
    }
    int tokens = stage == STAGE_COLBERT;
    mrc_dense_config config = mrc_dense_config_default();
    mrc_vectors v;
    config.ef = r->o.ef;
    config.exact = r->o.exact;
    config.threads = tool_pool_threads();
    status = mrc_encoder_encode(r->encoder[tokens], MRC_SIDE_QUERY, queries, n, &v);
    if (status != MRC_OK) return status;
    status = mrc_dense_search(r->dense[tokens], &v, depth, &config, hits, counts);
    mrc_vectors_free(&v);
    return status;
}

// A query's lists into one of *n_out: out has room for all of them.
static mrc_status retrieval_join(retrieval *r, mrc_hits lists[3], stage_hit *out, size_t *n_out) {
    size_t n_lists = 0, n = 0, most = 0;
    mrc_status status = MRC_OK;
    mrc_hits runs[3];
    for (int s = 0; s < 3; s++) {
        most += lists[s].n;
        if (lists[s].list) runs[n_lists++] = lists[s];
    }
    mrc_hit *fused = tool_allocate(most, sizeof *fused);
    mrc_fuse_desc desc = { .method = (mrc_fusion)r->o.fusion, .depth = r->o.depth };
    if (n_lists > 1) {
        status = mrc_fuse(r->ctx, &desc, runs, n_lists, fused, &n);
        if (status != MRC_OK) n = 0;
    } else if (n_lists) {
        n = runs[0].n;
        if (n) memcpy(fused, runs[0].list, n * sizeof *fused);
    }
    for (size_t i = 0; i < n; i++) {
        stage_hit *h = &out[i];
        h->passage = fused[i].passage;
        h->score = fused[i].score;
        for (int s = 0; s < STAGES; s++) h->stage[s] = NAN;
        if (n_lists > 1) h->stage[STAGE_FUSED] = fused[i].score;
        for (int s = 0; s < 3; s++) {
            for (size_t k = 0; k < lists[s].n; k++) {
                if (lists[s].list[k].passage == h->passage) h->stage[s] = lists[s].list[k].score;
            }
        }
    }
    free(fused);
    *n_out = n;
    return status;
}

static int retrieval_by_rerank(const void *a, const void *b) {
    const stage_hit *x = a, *y = b;
    double s = x->stage[STAGE_RERANK], t = y->stage[STAGE_RERANK];
    if (s > t || s < t) return s > t ? -1 : 1;
    return (x->passage > y->passage) - (x->passage < y->passage);
}

// Copies of the passages' texts, for the reranker: list[i].title is one allocation for both.
static mrc_status retrieval_texts(retrieval *r, const stage_hit *hits, size_t n,
                                  mrc_passage *list) {
    for (size_t i = 0; i < n; i++) {
        mrc_passage x;
        mrc_status status = mrc_index_passage(r->ix, hits[i].passage, &r->room, &x);
        if (status != MRC_OK) return status;
        size_t title = strlen(x.title) + 1;
        char *copy = tool_allocate(title + x.text_bytes + 1, 1);
        memcpy(copy, x.title, title);
        memcpy(copy + title, x.text, x.text_bytes);
        list[i] = (mrc_passage){ "", copy, copy + title, x.text_bytes };
    }
    return MRC_OK;
}

// Orders the first of a query's hits by the reranker; what is behind keeps its order below.
static mrc_status retrieval_rerank(retrieval *r, const mrc_passage *query, stage_hit *hits,
                                   size_t n) {
    size_t k = n < r->o.rerank_top_k ? n : r->o.rerank_top_k;
    if (!k) return MRC_OK;
    mrc_passage *texts = tool_allocate(k, sizeof *texts);
    const mrc_passage **list = tool_allocate(k, sizeof *list);
    double *scores = tool_allocate(k, sizeof *scores);
    for (size_t i = 0; i < k; i++) texts[i] = (mrc_passage){ NULL, NULL, NULL, 0 };
    mrc_status status = retrieval_texts(r, hits, k, texts);
    for (size_t i = 0; i < k; i++) list[i] = &texts[i];
    if (status == MRC_OK) status = mrc_encoder_score(r->reranker, query, list, k, scores);
    for (size_t i = 0; i < k; i++) {
        if (status == MRC_OK) hits[i].stage[STAGE_RERANK] = hits[i].score = scores[i];
        free((void *)(uintptr_t)texts[i].title);
    }
    if (status == MRC_OK) {
        qsort(hits, k, sizeof *hits, retrieval_by_rerank);
        double last = hits[k - 1].score;
        for (size_t i = k; i < n; i++) hits[i].score = last - (double)(i - k + 1);
    }
    free(texts);
    free(list);
    free(scores);
    return status;
}

// The best top_k passages of n queries: query q's are out[q * top_k ..], counts[q] of them.  A
// failure of a file or a model is a status with the context's text: a service goes on after it.
TOOL_DEF mrc_status retrieval_run(retrieval *r, const mrc_passage *queries, size_t n, size_t top_k,
                                  stage_hit *out, size_t *counts) {
    int hybrid = r->o.kind == RETRIEVE_HYBRID;
    size_t depth = hybrid ? r->o.depth : top_k;
    if (r->reranker && r->o.rerank_top_k > depth && !hybrid) depth = r->o.rerank_top_k;
    if (depth > mrc_index_size(r->ix)) depth = mrc_index_size(r->ix);
    mrc_status status = MRC_OK;
    mrc_hit *hits[3] = { NULL, NULL, NULL };
    size_t *n_hits[3] = { NULL, NULL, NULL };
    for (int s = 0; s < 3 && status == MRC_OK; s++) {
        if (s == STAGE_BM25 ? !r->searcher : !r->dense[s - 1]) continue;
        if (n && depth > SIZE_MAX / sizeof **hits / n) {
            tool_no_memory("%zu times %zu hits", n, depth);
        }
        hits[s] = tool_allocate(n * depth, sizeof *hits[s]);
        n_hits[s] = tool_allocate(n, sizeof *n_hits[s]);
        status = retrieval_stage(r, s, queries, n, depth, hits[s], n_hits[s]);
    }
    stage_hit *joined = tool_allocate(3 * depth, sizeof *joined);
    for (size_t q = 0; q < n && status == MRC_OK; q++) {
        mrc_hits lists[3] = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };
        for (int s = 0; s < 3; s++) {
            if (hits[s]) lists[s] = (mrc_hits){ hits[s] + q * depth, n_hits[s][q] };
        }
        size_t found = 0;
        status = retrieval_join(r, lists, joined, &found);
        if (status == MRC_OK && r->reranker) {
            status = retrieval_rerank(r, &queries[q], joined, found);
        }
        if (status != MRC_OK) break;
        counts[q] = found < top_k ? found : top_k;
        memcpy(out + q * top_k, joined, counts[q] * sizeof *out);
    }
    for (int s = 0; s < 3; s++) free(hits[s]), free(n_hits[s]);
    free(joined);
    return status;
}

// Whether nothing but words finds passages.
TOOL_DEF int stages_are_words(const retrieval_options *o) {
    return o->kind == RETRIEVE_BM25 && !o->reranker;
}

// ", \"bm25\": 3.2, ..": what is known of a hit's stages, for JSON.
TOOL_DEF void retrieval_json(mrc_text *t, const stage_hit *h) {
    for (int s = 0; s < STAGES; s++) {
        if (!isnan(h->stage[s])) tool_json_number(t, stage_names[s], h->stage[s]);
    }
}
#endif
