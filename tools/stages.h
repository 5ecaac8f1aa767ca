// Finding passages in stages: words, vectors, token rows, all of them fused, a reranker on top.
// For the programs (retrieval.h) and for other languages (bindings.h): every failure is a status
// with the context's text, and nothing is printed.  What index wrote says which models made the
// vectors.
#ifndef STAGES_H
#define STAGES_H
#include "../mrc.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef TOOL_DEF
#define TOOL_DEF __attribute__((unused)) static
#endif

enum { RETRIEVE_BM25, RETRIEVE_DENSE, RETRIEVE_COLBERT, RETRIEVE_HYBRID };
enum { STAGE_BM25, STAGE_DENSE, STAGE_COLBERT, STAGE_FUSED, STAGE_RERANK, STAGES };
static const char *const stage_names[STAGES] = { "bm25", "dense", "colbert", "fused", "rerank" };

// An index that is in no folder, as a search cluster's.  Its passages have the numbers that they
// have in a folder: ranks, ties and fusion are the same.  Of self, on the context's thread.
typedef struct stages_source {
    void       *self;
    size_t      n, width;               // passages; floats of a vector, 0: it has none
    uint64_t    fingerprint;            // of the model that made them
    const char *model, *pooling;        // "": not said
    size_t      max_length;             // 0: not said
    // Hits of n queries as mrc_search has them: by vectors, or by words where v is NULL.
    mrc_status (*find)(void *self, const mrc_passage *queries, const mrc_vectors *v, size_t n,
                       size_t top_k, mrc_hit *hits, size_t *n_hits);
    // A passage that find met since the last forget; until the next find.
    mrc_status (*passage)(void *self, uint32_t number, mrc_passage *out);
    void       (*forget)(void *self);
} stages_source;

typedef struct retrieval_options {
    const stages_source *source;        // NULL: the folder `index`
    const char *index, *model, *token_model, *query_model, *reranker;
    int         kind, method, fusion, any_model, exact;
    size_t      rerank_top_k, depth, ef, threads;      // threads: of words and of vectors; 0: all
    double      k1, b, delta;           // NAN: the method's own
    double      rerank_weight;          // of the reranker; the score below has the rest
} retrieval_options;

// A passage and what each stage said of it; NAN: that stage did not meet it.
typedef struct stage_hit { uint32_t passage; double score, stage[STAGES]; } stage_hit;

typedef struct retrieval {
    retrieval_options o;
    mrc_ctx      *ctx;
    mrc_index    *ix;                   // these four: of a folder
    mrc_searcher *searcher;
    mrc_dense    *dense[2];             // vectors, token rows
    int           on[3];                // STAGE_BM25 to STAGE_COLBERT
    mrc_encoder  *encoder[2], *reranker;
    mrc_text      room;
} retrieval;

//==============================================================================
// Which models made an index: encoders.json beside it
//==============================================================================
// out (4096 bytes): the file of that name in the index's folder.
static mrc_status stages_path(mrc_ctx *ctx, char *out, const char *dir, const char *name) {
    if ((size_t)snprintf(out, 4096, "%s/%s", dir, name) < 4096) return MRC_OK;
    return mrc_ctx_fail(ctx, MRC_ERR_ARG, "%.200s: the path is too long (found over 4,095 bytes)",
                        dir);
}

// Zeros; n 0 gives memory too.
static void *stages_take(mrc_ctx *ctx, size_t n, size_t each) {
    void *p = calloc(n ? n : 1, each);
    if (!p) mrc_ctx_fail(ctx, MRC_ERR_MEM, "no memory for %zu times %zu bytes", n, each);
    return p;
}

// *out: a member of encoders.json's entry for vectors (0) or token rows (1), a copy; NULL: none.
TOOL_DEF mrc_status stages_encoder(mrc_ctx *ctx, const char *index, int tokens, const char *key,
                                   char **out) {
    char file[4096];
    mrc_json *root;
    *out = NULL;
    mrc_status status = stages_path(ctx, file, index, "encoders.json");
    if (status != MRC_OK || mrc_path_kind(file) != MRC_PATH_FILE) return status;
    status = mrc_json_load(ctx, &root, file);
    if (status != MRC_OK) return status;
    const mrc_json *entry = mrc_json_get(root, tokens ? "tokens" : "vectors");
    const mrc_json *v = entry ? mrc_json_get(entry, key) : NULL;
    if (v && v->type == MRC_JSON_STRING && v->bytes) {
        *out = stages_take(ctx, v->bytes + 1, 1);
        if (*out) memcpy(*out, v->string, v->bytes + 1);
        else status = MRC_ERR_MEM;
    }
    mrc_json_free(root);
    return status;
}

// Whether the index's folder has a file of that name.
TOOL_DEF int stages_has(const char *index, const char *name) {
    char file[4096];
    return (size_t)snprintf(file, sizeof file, "%s/%s", index, name) < sizeof file
        && mrc_path_kind(file) == MRC_PATH_FILE;
}

//==============================================================================
// Opening
//==============================================================================
// Passages of the index.
TOOL_DEF size_t retrieval_size(const retrieval *r) {
    return r->o.source ? r->o.source->n : mrc_index_size(r->ix);
}

// A passage of the index, of a source one that was found last; room keeps its texts.
TOOL_DEF mrc_status retrieval_passage(retrieval *r, uint32_t number, mrc_text *room,
                                      mrc_passage *out) {
    const stages_source *from = r->o.source;
    mrc_passage x;
    if (!from) return mrc_index_passage(r->ix, number, room, out);
    mrc_status status = from->passage(from->self, number, &x);
    if (status != MRC_OK) return status;
    const size_t id = strlen(x.id) + 1, title = strlen(x.title) + 1;
    room->bytes = 0;
    room->failed = 0;
    mrc_text_add(room, x.id, id);
    mrc_text_add(room, x.title, title);
    mrc_text_add(room, x.text, x.text_bytes);
    if (room->failed) return mrc_ctx_fail(r->ctx, MRC_ERR_MEM, "no memory for a passage");
    *out = (mrc_passage){ room->data, room->data + id, room->data + id + title, x.text_bytes };
    return MRC_OK;
}

// The encoder must be the one that made the vectors, and these of this index's passages.
static mrc_status stages_fit(const retrieval *r, int tokens, const char *model) {
    const stages_source *from = r->o.source;
    mrc_dense_info about = from ? (mrc_dense_info){ .n = from->n, .width = from->width,
                                                    .fingerprint = from->fingerprint }
                         : mrc_dense_about(r->dense[tokens]);
    uint64_t own = mrc_encoder_fingerprint(r->encoder[tokens]);
    size_t n = retrieval_size(r), width = mrc_encoder_width(r->encoder[tokens]);
    if (about.fingerprint && !r->o.any_model && about.fingerprint != own) {
        return mrc_ctx_fail(r->ctx, MRC_ERR_FORMAT, "%s: is not the model that made the vectors of "
                            "%s (found fingerprint %016llx, expected %016llx; --any_model takes it "
                            "all the same)", model, r->o.index, (unsigned long long)own,
                            (unsigned long long)about.fingerprint);
    }
    if (from && about.width != width) {
        return mrc_ctx_fail(r->ctx, MRC_ERR_FORMAT, "%s: has vectors of %zu floats (expected %zu, "
                            "as %s makes them)", r->o.index, about.width, width, model);
    }
    if (about.n == n) return MRC_OK;
    return mrc_ctx_fail(r->ctx, MRC_ERR_FORMAT, "%s: has vectors of other passages (found %zu, "
                        "expected %zu)", r->o.index, about.n, n);
}

static mrc_status stages_open_model(retrieval *r, int tokens, const char *model,
                                    const char *pooling, size_t max_length) {
    if (!model) {
        return mrc_ctx_fail(r->ctx, MRC_ERR_ARG, "%s: does not say which model made its vectors "
                            "(expected --%s DIR)", r->o.index,
                            tokens ? "token_model" : "retrieval_model");
    }
    mrc_encoder_desc desc = { .pooling = pooling, .query_path = tokens ? NULL : r->o.query_model,
                              .max_length = max_length,
                              .head = tokens ? MRC_HEAD_TOKENS : MRC_HEAD_LINEAR };
    mrc_status status = mrc_encoder_new(r->ctx, &r->encoder[tokens], model, &desc);
    return status != MRC_OK ? status : stages_fit(r, tokens, model);
}

static mrc_status stages_open_one(retrieval *r, int tokens) {
    static const char *const keys[] = { "model_name_or_path", "pooling", "max_seq_length" };
    const char *given = tokens ? r->o.token_model : r->o.model;
    char *said[3] = { NULL, NULL, NULL };
    mrc_status status = MRC_OK;
    for (int i = 0; i < 3 && status == MRC_OK; i++) {
        status = stages_encoder(r->ctx, r->o.index, tokens, keys[i], &said[i]);
    }
    if (status == MRC_OK) status = mrc_dense_open(r->ctx, &r->dense[tokens], r->o.index, tokens);
    if (status == MRC_OK) {
        status = stages_open_model(r, tokens, given ? given : said[0], said[1],
                                   said[2] ? (size_t)strtoul(said[2], NULL, 10) : 0);
    }
    r->on[STAGE_DENSE + tokens] = status == MRC_OK;
    for (int i = 0; i < 3; i++) free(said[i]);
    return status;
}

static mrc_status stages_open_folder(retrieval *r) {
    const retrieval_options *o = &r->o;
    int hybrid = o->kind == RETRIEVE_HYBRID;
    mrc_search_config config = mrc_search_config_default((mrc_bm25)o->method);
    if (!isnan(o->k1)) config.k1 = o->k1;
    if (!isnan(o->b)) config.b = o->b;
    if (!isnan(o->delta)) config.delta = o->delta;
    config.threads = o->threads;
    mrc_status status = mrc_index_open(r->ctx, &r->ix, o->index);
    if (status == MRC_OK && (o->kind == RETRIEVE_BM25 || hybrid)) {
        status = mrc_searcher_new(r->ctx, &r->searcher, r->ix, &config);
        r->on[STAGE_BM25] = status == MRC_OK;
    }
    if (status == MRC_OK
        && (o->kind == RETRIEVE_DENSE || (hybrid && stages_has(o->index, "vectors.bin")))) {
        status = stages_open_one(r, 0);
    }
    if (status == MRC_OK
        && (o->kind == RETRIEVE_COLBERT || (hybrid && stages_has(o->index, "tokens.bin")))) {
        status = stages_open_one(r, 1);
    }
    return status;
}

static mrc_status stages_open_source(retrieval *r) {
    const retrieval_options *o = &r->o;
    const stages_source *from = o->source;
    r->on[STAGE_BM25] = o->kind == RETRIEVE_BM25 || o->kind == RETRIEVE_HYBRID;
    if (o->kind == RETRIEVE_BM25 || (o->kind == RETRIEVE_HYBRID && !from->width)) return MRC_OK;
    if (o->kind == RETRIEVE_COLBERT || !from->width) {
        return mrc_ctx_fail(r->ctx, MRC_ERR_FORMAT, "%s: has no %s", o->index,
                            o->kind == RETRIEVE_COLBERT ? "token rows" : "vectors (expected some: "
                            "index --model_name_or_path DIR)");
    }
    r->on[STAGE_DENSE] = 1;
    return stages_open_model(r, 0, o->model ? o->model : *from->model ? from->model : NULL,
                             *from->pooling ? from->pooling : NULL, from->max_length);
}

static mrc_status stages_open_all(retrieval *r) {
    const retrieval_options *o = &r->o;
    mrc_status status = o->source ? stages_open_source(r) : stages_open_folder(r);
    if (status == MRC_OK && o->kind == RETRIEVE_HYBRID && !r->on[STAGE_DENSE]
        && !r->on[STAGE_COLBERT]) {
        return mrc_ctx_fail(r->ctx, MRC_ERR_FORMAT, "%s: has words only, so there is nothing to "
                            "fuse (expected vectors too: index --model_name_or_path DIR)",
                            o->index);
    }
    if (status != MRC_OK || !o->reranker) return status;
    return mrc_encoder_new(r->ctx, &r->reranker, o->reranker, NULL);
}

TOOL_DEF void retrieval_close(retrieval *r) {
    mrc_searcher_free(r->searcher);
    for (int i = 0; i < 2; i++) mrc_dense_close(r->dense[i]);
    for (int i = 0; i < 2; i++) mrc_encoder_free(r->encoder[i]);
    mrc_encoder_free(r->reranker);
    mrc_text_free(&r->room);
    if (r->ix) mrc_index_close(r->ix);
    *r = (retrieval){ 0 };
}

// The strings of o are borrowed until retrieval_close.
TOOL_DEF mrc_status retrieval_open(mrc_ctx *ctx, retrieval *r, const retrieval_options *o) {
    *r = (retrieval){ .o = *o, .ctx = ctx };
    mrc_text_init(&r->room, ctx);
    mrc_status status = stages_open_all(r);
    if (status != MRC_OK) retrieval_close(r);
    return status;
}

//==============================================================================
// Running
//==============================================================================
// One stage's hits of n queries: hits[q * depth ..], counts[q].
static mrc_status retrieval_stage(retrieval *r, int stage, const mrc_passage *queries, size_t n,
                                  size_t depth, mrc_hit *hits, size_t *counts) {
    const stages_source *from = r->o.source;
    mrc_status status;
    if (stage == STAGE_BM25 && from) {
        return from->find(from->self, queries, NULL, n, depth, hits, counts);
    }
    if (stage == STAGE_BM25) {
        mrc_query *list = stages_take(r->ctx, n, sizeof *list);
        if (!list) return MRC_ERR_MEM;
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
    config.threads = r->o.threads;
    status = mrc_encoder_encode(r->encoder[tokens], MRC_SIDE_QUERY, queries, n, &v);
    if (status != MRC_OK) return status;
    status = from ? from->find(from->self, queries, &v, n, depth, hits, counts)
           : mrc_dense_search(r->dense[tokens], &v, depth, &config, hits, counts);
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
    mrc_hit *fused = stages_take(r->ctx, most, sizeof *fused);
    *n_out = 0;
    if (!fused) return MRC_ERR_MEM;
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

static int stages_by_passage(const void *a, const void *b) {
    const stage_hit *x = a, *y = b;
    return (x->passage > y->passage) - (x->passage < y->passage);
}
static int stages_by_score(const void *a, const void *b) {
    const stage_hit *x = a, *y = b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    return stages_by_passage(a, b);
}

// Orders hits that a reranker has scored: by that score, or with a weight below 1 by the sum of
// weight times its z-score and 1 - weight times the z-score of what the hits had before.
TOOL_DEF mrc_status stages_reorder(mrc_ctx *ctx, stage_hit *hits, size_t n, double weight) {
    const double weights[2] = { 1 - weight, weight };
    const mrc_fuse_desc desc = { .method = MRC_FUSE_ZSCORE, .weights = weights };
    mrc_status status = MRC_OK;
    if (weight < 1) {
        mrc_hit *room = stages_take(ctx, n, 4 * sizeof *room);
        if (!room) return MRC_ERR_MEM;
        mrc_hit *after = room + n;
        qsort(hits, n, sizeof *hits, stages_by_passage);
        for (size_t i = 0; i < n; i++) {
            room[i] = (mrc_hit){ hits[i].passage, hits[i].score };
            after[i] = (mrc_hit){ hits[i].passage, hits[i].stage[STAGE_RERANK] };
        }
        const mrc_hits runs[2] = { { room, n }, { after, n } };
        status = mrc_fuse(ctx, &desc, runs, 2, after + n, &n);
        for (size_t i = 0; i < n && status == MRC_OK; i++) {
            const stage_hit key = { .passage = after[n + i].passage };
            stage_hit *h = bsearch(&key, hits, n, sizeof *hits, stages_by_passage);
            if (h) h->score = after[n + i].score;
        }
        free(room);
    } else {
        for (size_t i = 0; i < n; i++) hits[i].score = hits[i].stage[STAGE_RERANK];
    }
    if (status == MRC_OK) qsort(hits, n, sizeof *hits, stages_by_score);
    return status;
}

// Copies of the passages' texts, for the reranker: list[i].title is one allocation for both.
static mrc_status retrieval_texts(retrieval *r, const stage_hit *hits, size_t n,
                                  mrc_passage *list) {
    for (size_t i = 0; i < n; i++) {
        mrc_passage x;
        mrc_status status = retrieval_passage(r, hits[i].passage, &r->room, &x);
        if (status != MRC_OK) return status;
        size_t title = strlen(x.title) + 1;
        char *copy = stages_take(r->ctx, title + x.text_bytes + 1, 1);
        if (!copy) return MRC_ERR_MEM;
        memcpy(copy, x.title, title);
        memcpy(copy + title, x.text, x.text_bytes);
        list[i] = (mrc_passage){ "", copy, copy + title, x.text_bytes };
    }
    return MRC_OK;
}

// Orders the first of a query's hits with the reranker; what is behind keeps its order below.
static mrc_status retrieval_rerank(retrieval *r, const mrc_passage *query, stage_hit *hits,
                                   size_t n) {
    size_t k = n < r->o.rerank_top_k ? n : r->o.rerank_top_k;
    if (!k) return MRC_OK;
    mrc_passage *texts = stages_take(r->ctx, k, sizeof *texts);
    const mrc_passage **list = stages_take(r->ctx, k, sizeof *list);
    double *scores = stages_take(r->ctx, k, sizeof *scores);
    mrc_status status = texts && list && scores ? retrieval_texts(r, hits, k, texts) : MRC_ERR_MEM;
    for (size_t i = 0; i < k && status == MRC_OK; i++) list[i] = &texts[i];
    if (status == MRC_OK) status = mrc_encoder_score(r->reranker, query, list, k, scores);
    for (size_t i = 0; i < k; i++) {
        if (status == MRC_OK) hits[i].stage[STAGE_RERANK] = scores[i];
        if (texts) free((void *)(uintptr_t)texts[i].title);
    }
    if (status == MRC_OK) status = stages_reorder(r->ctx, hits, k, r->o.rerank_weight);
    if (status == MRC_OK) {
        double last = hits[k - 1].score;
        for (size_t i = k; i < n; i++) hits[i].score = last - (double)(i - k + 1);
    }
    free(texts);
    free((void *)list);
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
    if (depth > retrieval_size(r)) depth = retrieval_size(r);
    if (r->o.source) r->o.source->forget(r->o.source->self);
    mrc_status status = MRC_OK;
    mrc_hit *hits[3] = { NULL, NULL, NULL };
    size_t *n_hits[3] = { NULL, NULL, NULL };
    for (int s = 0; s < 3 && status == MRC_OK; s++) {
        if (!r->on[s]) continue;
        if (n && depth > SIZE_MAX / sizeof **hits / n) {
            status = mrc_ctx_fail(r->ctx, MRC_ERR_MEM, "no memory for %zu times %zu hits", n,
                                  depth);
            break;
        }
        hits[s] = stages_take(r->ctx, n * depth, sizeof *hits[s]);
        n_hits[s] = stages_take(r->ctx, n, sizeof *n_hits[s]);
        status = !hits[s] || !n_hits[s] ? MRC_ERR_MEM
               : retrieval_stage(r, s, queries, n, depth, hits[s], n_hits[s]);
    }
    stage_hit *joined = stages_take(r->ctx, 3 * depth, sizeof *joined);
    if (!joined) status = MRC_ERR_MEM;
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
#endif
