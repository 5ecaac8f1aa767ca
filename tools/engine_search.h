// An index of a search cluster as what the stages of retrieval look things up in (stages.h): by
// words, by vectors, both of them fused here, a reranker on top.  For search, ask and serve.
//
// A passage has the number that it has in a folder, its `ord`; equal scores are in that order.
#ifndef ENGINE_SEARCH_H
#define ENGINE_SEARCH_H
#include "engine.h"
#include "retrieval.h"

#ifndef MRC_CURL
typedef struct cluster { int none; } cluster;
TOOL_DEF void cluster_open(cluster *c, mrc_ctx *ctx, retrieval_options *o, size_t top_k, int texts,
                           double rest) {
    (void)c; (void)ctx; (void)o; (void)top_k; (void)texts; (void)rest;
    engine_check_none();
    if (engine_a.kind != ENGINE_NONE) engine_missing();
}
TOOL_DEF void cluster_close(cluster *c) { (void)c; }
TOOL_DEF void cluster_begin(cluster *c) { (void)c; }
TOOL_DEF int cluster_was_asked(const cluster *c) { (void)c; return 0; }
TOOL_DEF mrc_status cluster_look(cluster *c) { (void)c; return MRC_OK; }
TOOL_DEF int cluster_failed(const cluster *c) { (void)c; return 0; }
TOOL_DEF int cluster_is_late(const cluster *c) { (void)c; return 0; }
TOOL_DEF int cluster_is_away(const cluster *c) { (void)c; return 0; }
#else

// A passage that was met; its texts are in `texts`, from `at` on, one behind the other.
typedef struct cluster_passage { uint32_t number; size_t at, title, text, bytes; } cluster_passage;

typedef struct cluster {
    int              is_open, asked, failed;    // by find, since cluster_begin
    engine           e;
    const char      *index;
    stages_source    source;
    char            *model, *pooling;
    int              with_texts, graph, cosine, exact, templates;
    size_t           ef;
    mrc_text         body, terms, texts;
    cluster_passage *list;
    size_t           n, room;
    int              sorted;
} cluster;

//==============================================================================
// Passages that were met
//==============================================================================
static void cluster_forget(void *self) {
    cluster *c = self;
    c->n = c->texts.bytes = 0;
    c->texts.failed = 0;
}

static mrc_status cluster_keep(cluster *c, uint32_t number, const mrc_passage *x) {
    if (c->n == c->room) {
        size_t room = c->room ? 2 * c->room : 256;
        cluster_passage *list = realloc(c->list, room * sizeof *list);
        if (!list) return engine_fail(&c->e, MRC_ERR_MEM, "no memory for %zu passages", room);
        c->list = list;
        c->room = room;
    }
    const size_t id = strlen(x->id) + 1, title = strlen(x->title) + 1;
    c->list[c->n++] = (cluster_passage){ number, c->texts.bytes, id, id + title, x->text_bytes };
    c->sorted = 0;
    mrc_text_add(&c->texts, x->id, id);
    mrc_text_add(&c->texts, x->title, title);
    mrc_text_add(&c->texts, x->text, x->text_bytes + 1);
    return engine_text_status(&c->e, &c->texts);
}

static int cluster_order(const void *a, const void *b) {
    const cluster_passage *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static mrc_status cluster_get(void *self, uint32_t number, mrc_passage *out) {
    cluster *c = self;
    if (!c->sorted && c->n) qsort(c->list, c->n, sizeof *c->list, cluster_order);
    c->sorted = 1;
    const cluster_passage key = { .number = number }, *x = c->n
        ? bsearch(&key, c->list, c->n, sizeof key, cluster_order) : NULL;
    if (!x) {
        return engine_fail(&c->e, MRC_ERR_ARG, "passage %lu is none of those found",
                           (unsigned long)number);
    }
    const char *text = c->texts.data + x->at;
    *out = (mrc_passage){ text, text + x->title, text + x->text, x->bytes };
    return MRC_OK;
}

//==============================================================================
// Asking: two lines of _msearch a query
//==============================================================================
// The inner product d as a score, which must not be negative: d + 1, or 1 / (1 - d) where d < 0.
// So do the graphs of both engines and OpenSearch's knn_score.
static double cluster_product(double score) { return score < 1 ? 1 - 1 / score : score - 1; }

static void cluster_ask_vectors(cluster *c, const float *row, size_t top_k) {
    mrc_text *t = &c->body;
    const int open = engine_a.kind == ENGINE_OPENSEARCH;
    size_t width = c->source.width, candidates = 10 * top_k;
    if (candidates < c->ef) candidates = c->ef;
    if (candidates > 10000) candidates = 10000;
    if (c->graph && !c->exact && open) {
        mrc_text_printf(t, "\"query\": {\"knn\": {\"vector\": {\"k\": %zu, ", top_k);
        engine_add_vector(t, "vector", row, width, c->cosine);
        mrc_text_printf(t, "}}}");
    } else if (c->graph && !c->exact) {
        mrc_text_printf(t, "\"knn\": {\"field\": \"vector\", \"k\": %zu, \"num_candidates\": %zu, ",
                        top_k, candidates);
        engine_add_vector(t, "query_vector", row, width, c->cosine);
        mrc_text_printf(t, "}");
    } else {
        mrc_text_printf(t, "\"query\": {\"script_score\": {\"query\": {\"match_all\": {}}, "
                        "\"script\": {%s, \"params\": {%s", open ? "\"source\": \"knn_score\", "
                        "\"lang\": \"knn\"" : "\"source\": \"double d = dotProduct(params."
                        "query_value, 'vector'); return d < 0 ? 1 / (1 - d) : d + 1;\"",
                        open ? "\"field\": \"vector\", \"space_type\": \"innerproduct\", " : "");
        engine_add_vector(t, "query_value", row, width, c->cosine);
        mrc_text_printf(t, "}}}}");
    }
}

// The parameters of a template that the cluster keeps.
static void cluster_ask_template(cluster *c, const mrc_passage *q, const float *row,
                                 size_t top_k) {
    mrc_text *t = &c->body;
    mrc_text_printf(t, "{\"id\": ");
    mrc_text_json_string(t, engine_a.template_id, strlen(engine_a.template_id), 0);
    mrc_text_printf(t, ", \"params\": {\"k\": %zu, \"question\": ", top_k);
    mrc_text_json_string(t, q->text, q->text_bytes, 0);
    mrc_text_printf(t, ", \"terms\": ");
    mrc_text_json_string(t, c->terms.data ? c->terms.data : "", c->terms.bytes, 0);
    if (row) {
        mrc_text_printf(t, ", ");
        engine_add_vector(t, "vector", row, c->source.width, c->cosine);
    }
    mrc_text_printf(t, "}}\n");
}

// row: of vectors; NULL: by words.
static mrc_status cluster_query(cluster *c, const mrc_passage *q, const float *row, size_t top_k) {
    mrc_text *t = &c->body;
    if (!row || c->templates) ENGINE_TRY(engine_terms(&c->e, q->text, q->text_bytes, &c->terms));
    mrc_text_printf(t, "{\"index\": \"%s\"%s}\n", c->index, engine_a.global_statistics && !row
                    ? ", \"search_type\": \"dfs_query_then_fetch\"" : "");
    if (c->templates) {
        cluster_ask_template(c, q, row, top_k);
        return engine_text_status(&c->e, t);
    }
    mrc_text_printf(t, "{\"size\": %zu, \"track_total_hits\": false, \"_source\": %s, "
                    "\"timeout\": \"30s\", ", top_k, c->with_texts ? "[\"title\", \"text\"]"
                    : "false");
    if (row) {
        cluster_ask_vectors(c, row, top_k);
    } else {
        mrc_text_printf(t, "\"query\": {\"match\": {\"terms\": ");
        mrc_text_json_string(t, c->terms.data ? c->terms.data : "", c->terms.bytes, 0);
        mrc_text_printf(t, "}}");
    }
    mrc_text_printf(t, ", \"sort\": [{\"_score\": \"desc\"}, {\"ord\": \"asc\"}]}\n");
    return engine_text_status(&c->e, t);
}

//==============================================================================
// Answers
//==============================================================================
// Score and number of a hit: what it was sorted by, or of a template without that order _score and
// the source's ord.
static int cluster_place(const mrc_json *h, double *score, int64_t *number) {
    const mrc_json *sort = mrc_json_get(h, "sort"), *x = sort ? sort->child : NULL;
    const mrc_json *ord = x ? x->next : mrc_json_get(mrc_json_get(h, "_source"), "ord");
    if (!x) x = mrc_json_get(h, "_score");
    if (!*engine_text(h, "_id") || !x || x->type != MRC_JSON_NUMBER || !ord || !ord->is_int) {
        return 0;
    }
    *score = x->number;
    *number = ord->integer;
    return 1;
}

static mrc_status cluster_hit(cluster *c, const mrc_json *h, size_t query, int by_vectors,
                              mrc_hit *out) {
    const mrc_json *source = mrc_json_get(h, "_source"), *text = mrc_json_get(source, "text");
    double score;
    int64_t number;
    const char *url = engine_url(&c->e), *id = engine_text(h, "_id");
    if (!cluster_place(h, &score, &number)) {
        return engine_fail(&c->e, MRC_ERR_FORMAT, "%s: query %zu: a hit without id or score "
                           "(expected _id and sort, which is [_score, ord])", url, query + 1);
    }
    if (number < 0 || (size_t)number >= c->source.n) {
        return engine_fail(&c->e, MRC_ERR_FORMAT, "%s: query %zu: passage %.100s has a number that "
                           "is not ours (found %lld, expected less than %zu)", url, query + 1, id,
                           (long long)number, c->source.n);
    }
    if (c->with_texts && (!text || text->type != MRC_JSON_STRING)) {
        return engine_fail(&c->e, MRC_ERR_FORMAT, "%s: query %zu: passage %.100s without its text",
                           url, query + 1, id);
    }
    mrc_passage p = { id, c->with_texts ? engine_text(source, "title") : "",
                      c->with_texts ? text->string : "", 0 };
    p.text_bytes = strlen(p.text);
    *out = (mrc_hit){ (uint32_t)number, by_vectors ? cluster_product(score) : score };
    return cluster_keep(c, (uint32_t)number, &p);
}

// The hits of one response.
static mrc_status cluster_hits(cluster *c, const mrc_json *response, size_t query, int by_vectors,
                               size_t top_k, mrc_hit *out, size_t *n_out) {
    const mrc_json *hits = mrc_json_get(mrc_json_get(response, "hits"), "hits");
    const mrc_json *late = mrc_json_get(response, "timed_out");
    const mrc_json *failed = mrc_json_get(mrc_json_get(response, "_shards"), "failed");
    const mrc_json *error = mrc_json_get(response, "error");
    *n_out = 0;
    if (!hits || hits->type != MRC_JSON_ARRAY || hits->n > top_k) {
        return engine_fail(&c->e, MRC_ERR_FORMAT, "%s: query %zu: %.60s: %.300s",
                           engine_url(&c->e), query + 1, error ? engine_text(error, "type")
                           : "an answer", error ? engine_text(error, "reason")
                           : "without the hits that were asked for");
    }
    c->e.late = late && late->type == MRC_JSON_TRUE;
    if (c->e.late || (failed && failed->number > 0)) {
        return engine_fail(&c->e, MRC_ERR_IO, "%s: query %zu: a part of the index did not answer",
                           engine_url(&c->e), query + 1);
    }
    for (const mrc_json *h = hits->child; h; h = h->next) {
        ENGINE_TRY(cluster_hit(c, h, query, by_vectors, &out[*n_out]));
        ++*n_out;
    }
    return MRC_OK;
}

// Some queries, `first` of all; the request is in c->body.
static mrc_status cluster_answers(cluster *c, size_t first, size_t some, int by_vectors,
                                  size_t top_k, mrc_hit *hits, size_t *n_hits) {
    char why[512];
    long http;
    mrc_json *root;
    mrc_status status = MRC_OK;
    ENGINE_TRY(engine_ask(&c->e, "POST", c->templates ? "/_msearch/template" : "/_msearch",
                          &c->body, 1, &http));
    if (http >= 300) {
        engine_explain(&c->e, why, sizeof why);
        return engine_fail(&c->e, MRC_ERR_FORMAT, "%s: _msearch: status %ld %s", engine_url(&c->e),
                           http, why);
    }
    ENGINE_TRY(engine_json(&c->e, &root));
    const mrc_json *all = mrc_json_get(root, "responses");
    if (!all || all->type != MRC_JSON_ARRAY || all->n != some) {
        status = engine_fail(&c->e, MRC_ERR_FORMAT, "%s: answers %zu queries (expected %zu)",
                             engine_url(&c->e), all ? all->n : 0, some);
    }
    const mrc_json *r = all ? all->child : NULL;
    for (size_t i = first; i < first + some && status == MRC_OK; i++, r = r->next) {
        status = cluster_hits(c, r, i, by_vectors, top_k, hits + i * top_k, &n_hits[i]);
    }
    mrc_json_free(root);
    return status;
}

// stages_source.find: as many queries a request as an answer may have hits.
static mrc_status cluster_find(void *self, const mrc_passage *queries, const mrc_vectors *v,
                               size_t n, size_t top_k, mrc_hit *hits, size_t *n_hits) {
    cluster *c = self;
    size_t most = top_k ? 4096 / top_k : 64, some;
    c->asked = c->failed = 1;
    if (top_k > 10000) {
        return engine_fail(&c->e, MRC_ERR_ARG, "%s: a cluster gives 10000 passages at most (found "
                           "%zu)", c->index, top_k);
    }
    for (size_t at = 0; at < n; at += some) {
        some = n - at < 64 ? n - at : 64;
        if (some > most) some = most ? most : 1;
        c->body.bytes = 0;
        c->body.failed = c->terms.failed = 0;
        for (size_t i = at; i < at + some; i++) {
            ENGINE_TRY(cluster_query(c, &queries[i], v ? v->rows + i * v->width : NULL, top_k));
        }
        ENGINE_TRY(cluster_answers(c, at, some, v != NULL, top_k, hits, n_hits));
    }
    c->failed = 0;
    return MRC_OK;
}

//==============================================================================
// Opening
//==============================================================================
static char *cluster_copy(const char *s) {
    char *copy = tool_allocate(strlen(s) + 1, 1);
    return strcpy(copy, s);
}

// What the index says of itself in _meta.mrc; fails where it was made by something else.
static void cluster_read_meta(cluster *c, const mrc_json *m) {
    const char *name = engine_text(m, "analyzer"), *hex = engine_text(m, "fingerprint");
    const mrc_json *n = mrc_json_get(m, "passages"), *width = mrc_json_get(m, "width");
    const mrc_json *graph = mrc_json_get(m, "graph"), *most = mrc_json_get(m, "max_seq_length");
    int kind = 0;
    while (kind < ENGINE_ANALYZERS && strcmp(engine_analyzer_name(kind), name)) kind++;
    if (kind == ENGINE_ANALYZERS || !n || !n->is_int || n->integer < 0
        || n->integer > UINT32_MAX) {
        tool_fail(TOOL_BAD_INPUT, "%s: was not made by index --engine (found no _meta.mrc with an "
                  "analyzer and the number of passages)", c->index);
    }
    c->e.analyzer = kind;
    c->graph = graph && graph->integer == 1;
    c->cosine = !strcmp(engine_text(m, "similarity"), "cosine");
    c->model = cluster_copy(engine_text(m, "model_name_or_path"));
    c->pooling = cluster_copy(engine_text(m, "pooling"));
    c->source = (stages_source){
        .self = c, .n = (size_t)n->integer, .fingerprint = strtoull(hex, NULL, 16),
        .width = width && width->is_int && width->integer > 0 ? (size_t)width->integer : 0,
        .max_length = most && most->is_int && most->integer > 0 ? (size_t)most->integer : 0,
        .model = c->model, .pooling = c->pooling,
        .find = cluster_find, .passage = cluster_get, .forget = cluster_forget };
}

static void cluster_read(cluster *c) {
    char path[320];
    mrc_json *root;
    snprintf(path, sizeof path, "/%s/_mapping", c->index);
    tool_check(c->e.ctx, engine_hello(&c->e));
    tool_check(c->e.ctx, engine_must(&c->e, "GET", path, NULL, &root));
    const mrc_json *m = root->n == 1 ? root->child : NULL;
    cluster_read_meta(c, mrc_json_get(mrc_json_get(mrc_json_get(m, "mappings"), "_meta"), "mrc"));
    mrc_json_free(root);
    if (c->e.analyzer == MRC_ANALYZER_WORDPIECE && !engine_a.tokenizer) {
        tool_fail(TOOL_USAGE, "--tokenizer_name is missing (found nothing, expected the tokenizer "
                  "that %s was made with)", c->index);
    }
    if (engine_a.tokenizer) {
        tool_check(c->e.ctx, mrc_tokenizer_load(c->e.ctx, &c->e.tok, engine_a.tokenizer));
    }
}

// Where --engine says so o->index is an alias of a cluster, in o->source afterwards; else nothing
// is done.  texts: passages are read, and come with the hits.  rest: for so many seconds after a
// failure of the cluster it is not asked again.
TOOL_DEF void cluster_open(cluster *c, mrc_ctx *ctx, retrieval_options *o, size_t top_k, int texts,
                           double rest) {
    engine_check_none();
    if (engine_a.kind == ENGINE_NONE) return;
    engine_check_name(o->index);
    if (o->kind == RETRIEVE_COLBERT) {
        tool_fail(TOOL_USAGE, "--retriever: a cluster has no token rows (found colbert, expected "
                  "bm25, dense or hybrid)");
    }
    if (top_k > 10000) {
        tool_fail(TOOL_USAGE, "--top_k is out of range (found %zu, a cluster gives 10000 at most)",
                  top_k);
    }
    if (engine_a.template_id && o->kind == RETRIEVE_HYBRID) {
        tool_fail(TOOL_USAGE, "--search_template: one query for one stage (found --retriever "
                  "hybrid, expected bm25 or dense)");
    }
    c->index = o->index;
    c->with_texts = texts || o->reranker;
    c->exact = o->exact;
    c->ef = o->ef;
    c->templates = engine_a.template_id != NULL;
    engine_open(&c->e, ctx);
    mrc_text_init(&c->body, ctx);
    mrc_text_init(&c->terms, ctx);
    mrc_text_init(&c->texts, ctx);
    c->is_open = 1;
    cluster_read(c);
    c->e.rest = rest;
    o->source = &c->source;
}

TOOL_DEF void cluster_close(cluster *c) {
    if (!c->is_open) return;
    engine_close(&c->e);
    mrc_text_free(&c->body);
    mrc_text_free(&c->terms);
    mrc_text_free(&c->texts);
    free(c->list);
    free(c->model);
    free(c->pooling);
    *c = (cluster){ 0 };
}

// Whether the cluster answers, asked once; for a service's health.
TOOL_DEF mrc_status cluster_look(cluster *c) {
    long http;
    const long patience = c->e.patience;
    c->e.away = 0;
    c->e.patience = 3000;
    mrc_status status = engine_once(&c->e, "GET", "/", NULL, 0, &http);
    c->e.patience = patience;
    if (status != MRC_OK) return status;
    if (http >= 200 && http < 300) return MRC_OK;
    c->e.away = 1;
    return engine_fail(&c->e, MRC_ERR_IO, "%s: %s", engine_url(&c->e), http ? "refuses"
                       : c->e.reason);
}

// What comes is asked about below.
TOOL_DEF void cluster_begin(cluster *c) { c->asked = c->failed = 0; }
// Whether the cluster was asked since; not answered as it should; not in time; is not there.
TOOL_DEF int cluster_was_asked(const cluster *c) { return c->asked; }
TOOL_DEF int cluster_failed(const cluster *c) { return c->failed; }
TOOL_DEF int cluster_is_late(const cluster *c) { return c->failed && c->e.late; }
TOOL_DEF int cluster_is_away(const cluster *c) { return c->failed && c->e.away; }
#endif
#endif
