// Filling an index of a search cluster, and going on with one that is not whole.  For index, which
// ends with the first error.
#ifndef ENGINE_LOAD_H
#define ENGINE_LOAD_H
#include "engine.h"

// What index --engine is given beside its flags; encoder: of vectors, NULL: words only.
typedef struct engine_job {
    const mrc_passages *passages;
    int                 analyzer;
    const char         *tokenizer, *model, *pooling;
    mrc_encoder        *encoder;
    size_t              max_length, m, ef_construction;
    int                 graph;
} engine_job;

#ifndef MRC_CURL
TOOL_DEF void engine_index(mrc_ctx *ctx, const engine_job *job) {
    (void)ctx; (void)job;
    engine_missing();
}
#else

typedef struct engine_load {
    engine              *e;
    const engine_job    *job;
    const mrc_passages  *passages;
    size_t               n, sent, bad, batch;       // batch: passages at a time, as it goes now
    unsigned char       *is_there;
    const size_t        *block;                     // passages that are being sent
    mrc_vectors          rows;                      // and their vectors
    char                 index[300];
    mrc_text             body, terms;
    double               progress;                  // when an item was last accepted
} engine_load;

TOOL_DEF uint32_t engine_crc(const mrc_passages *p) {
    uint32_t crc = 0;
    for (size_t i = 0; i < mrc_passages_size(p); i++) {
        const mrc_passage *x = mrc_passages_at(p, i);
        crc = mrc_crc32c(crc, x->id, strlen(x->id) + 1);
        crc = mrc_crc32c(crc, x->title, strlen(x->title) + 1);
        crc = mrc_crc32c(crc, x->text, x->text_bytes + 1);
    }
    return crc;
}

// engine_must for a program that ends with an error.
TOOL_DEF mrc_json *engine_need(engine *e, const char *method, const char *path,
                               const mrc_text *body) {
    mrc_json *root;
    tool_check(e->ctx, engine_must(e, method, path, body, &root));
    return root;
}
TOOL_DEF void engine_do(engine *e, const char *method, const char *path, const mrc_text *body) {
    mrc_json_free(engine_need(e, method, path, body));
}

static const char *engine_decompound(void) {
    static const char *const names[] = { "discard", "none", "mixed" };
    return names[engine_a.decompound];
}

TOOL_DEF int engine_is_cosine(const engine_job *job) {
    return mrc_encoder_about(job->encoder)->encoder.similarity == MRC_SIMILARITY_COS;
}

// What makes an index this one's: the analyzer, the passages, BM25's numbers, the vectors' model.
// With where: the directory too, for who asks the index; another place is the same model.
TOOL_DEF void engine_meta(mrc_text *t, const engine_load *l, int where) {
    const engine_job *job = l->job;
    char real[TOOL_PATH_BYTES];
    mrc_text_printf(t, "{\"format\": 1, \"analyzer\": \"%s\", \"passages\": %zu, \"crc32c\": %lu, "
                    "\"k1\": %.17g, \"b\": %.17g", engine_analyzer_name(job->analyzer), l->n,
                    (unsigned long)engine_crc(l->passages), engine_a.k1, engine_a.b);
    if (job->analyzer == ENGINE_NORI) {
        mrc_text_printf(t, ", \"decompound_mode\": \"%s\"", engine_decompound());
    }
    if (job->encoder) {
        mrc_text_printf(t, ", \"fingerprint\": \"%016llx\", \"width\": %zu, \"graph\": %d, "
                        "\"max_seq_length\": %zu, \"similarity\": \"%s\"",
                        (unsigned long long)mrc_encoder_fingerprint(job->encoder),
                        mrc_encoder_width(job->encoder), job->graph, job->max_length,
                        engine_is_cosine(job) ? "cosine" : "dot");
    }
    if (job->encoder && where) {
        if (!realpath(job->model, real)) snprintf(real, sizeof real, "%s", job->model);
        mrc_text_printf(t, ", \"model_name_or_path\": ");
        mrc_text_json_string(t, real, strlen(real), 0);
        mrc_text_printf(t, ", \"pooling\": \"%s\"", job->pooling ? job->pooling : "");
    }
    mrc_text_printf(t, "}");
}

// The mapping of the vectors: what scores all of them, or with --graph a graph.  The similarity is
// always the inner product: rows of a cosine model are sent as unit vectors.
TOOL_DEF void engine_map_vectors(mrc_text *t, const engine_load *l) {
    const engine_job *job = l->job;
    size_t width = mrc_encoder_width(job->encoder);
    const int open = engine_a.kind == ENGINE_OPENSEARCH;
    mrc_text_printf(t, open ? ", \"vector\": {\"type\": \"knn_vector\", \"dimension\": %zu"
                            : ", \"vector\": {\"type\": \"dense_vector\", \"dims\": %zu", width);
    if (job->graph && open) {
        mrc_text_printf(t, ", \"method\": {\"name\": \"hnsw\", \"engine\": \"faiss\", "
                        "\"space_type\": \"innerproduct\", \"parameters\": {\"m\": %zu, "
                        "\"ef_construction\": %zu}}", job->m, job->ef_construction);
    } else if (job->graph) {
        mrc_text_printf(t, ", \"index\": true, \"similarity\": \"max_inner_product\", "
                        "\"index_options\": {\"type\": \"hnsw\", \"m\": %zu, "
                        "\"ef_construction\": %zu}", job->m, job->ef_construction);
    } else if (!open && l->e->major > 7) {
        mrc_text_printf(t, ", \"index\": false");
    }
    mrc_text_add(t, "}", 1);
}

// Settings of the cluster's own analyzers: nori is spelled out, so that both engines build the same
TOOL_DEF void engine_set_analysis(mrc_text *t, const engine_load *l) {
    if (l->job->analyzer != ENGINE_NORI) return;
    mrc_text_printf(t, ", \"analysis\": {\"tokenizer\": {\"mrc_nori\": {\"type\": "
                    "\"nori_tokenizer\", \"decompound_mode\": \"%s\"}}, \"analyzer\": "
                    "{\"mrc_nori\": {\"type\": \"custom\", \"tokenizer\": \"mrc_nori\", "
                    "\"filter\": [\"nori_part_of_speech\", \"nori_readingform\", "
                    "\"lowercase\"]}}}", engine_decompound());
}

// The server has no such analyzer, or no such field, or something else is wrong with the index.
_Noreturn TOOL_DEF void engine_not_created(const engine_load *l, const char *path, long http) {
    char why[512];
    const int own = l->job->analyzer >= MRC_ANALYZER_COUNT;
    engine_explain(l->e, why, sizeof why);
    tool_fail(http == 404 ? TOOL_IO : TOOL_BAD_INPUT, "%s%s: status %ld %s%s", engine_url(l->e),
              path, http, why, l->job->analyzer == ENGINE_NORI ? " (expected the plug-in "
              "analysis-nori there, or --analyzer korean or cjk)" : own ? " (expected an analyzer "
              "that the cluster has, or --analyzer korean)" : "");
}

TOOL_DEF void engine_create(engine_load *l) {
    const int own = l->job->analyzer >= MRC_ANALYZER_COUNT;
    char path[320];
    long http;
    mrc_text t;
    mrc_text_init(&t, l->e->ctx);
    mrc_text_printf(&t, "{\"settings\": {\"number_of_shards\": %zu, \"number_of_replicas\": 0, "
                    "\"refresh_interval\": \"-1\", \"similarity\": {\"default\": {\"type\": "
                    "\"BM25\", \"k1\": %.17g, \"b\": %.17g}}%s", engine_a.shards, engine_a.k1,
                    engine_a.b, l->job->encoder && l->job->graph
                    && engine_a.kind == ENGINE_OPENSEARCH ? ", \"index.knn\": true" : "");
    engine_set_analysis(&t, l);
    mrc_text_printf(&t, "}, \"mappings\": {\"dynamic\": \"strict\", \"_meta\": {\"mrc\": ");
    engine_meta(&t, l, 1);
    mrc_text_printf(&t, "}, \"_source\": {\"excludes\": [\"terms\", \"vector\"]}, \"properties\": "
                    "{\"ord\": {\"type\": \"long\"}, \"title\": {\"type\": \"text\", \"index\": "
                    "false}, \"text\": {\"type\": \"text\", \"index\": false}, \"terms\": "
                    "{\"type\": \"text\", \"analyzer\": \"%s\"}",
                    l->job->analyzer == ENGINE_NORI ? "mrc_nori"
                    : own ? engine_analyzer_name(l->job->analyzer) : "whitespace");
    if (l->job->encoder) engine_map_vectors(&t, l);
    mrc_text_printf(&t, "}}}");
    snprintf(l->index, sizeof l->index, "%s-%08lx", engine_a.name,
             (unsigned long)(engine_crc(l->passages) ^ (uint32_t)time(NULL)));
    snprintf(path, sizeof path, "/%s", l->index);
    tool_check(l->e->ctx, engine_ask(l->e, "PUT", path, &t, 0, &http));
    if (http >= 300) engine_not_created(l, path, http);
    mrc_text_free(&t);
}

// The unfinished or finished index of this name whose _meta is ours; 0: there is none.
TOOL_DEF int engine_find(engine_load *l) {
    char path[320];
    long http;
    mrc_text meta;
    mrc_json *want, *root;
    mrc_text_init(&meta, l->e->ctx);
    engine_meta(&meta, l, 0);
    tool_check_text(&meta);
    tool_check(l->e->ctx, mrc_json_parse(l->e->ctx, &want, "meta", meta.data, meta.bytes, 0));
    snprintf(path, sizeof path, "/%s-*/_mapping", engine_a.name);
    tool_check(l->e->ctx, engine_ask(l->e, "GET", path, NULL, 0, &http));
    if (http == 404) return 0;
    tool_check(l->e->ctx, engine_json(l->e, &root));
    for (const mrc_json *x = root->child; x; x = x->next) {
        const mrc_json *m = mrc_json_get(mrc_json_get(mrc_json_get(x, "mappings"), "_meta"), "mrc");
        int same = m && x->key_bytes < sizeof l->index
            && !mrc_json_get(m, "fingerprint") == !mrc_json_get(want, "fingerprint");
        for (const mrc_json *w = want->child; same && w; w = w->next) {
            const mrc_json *v = mrc_json_get(m, w->key);
            same = v && v->type == w->type && v->number >= w->number && v->number <= w->number
                && (v->type != MRC_JSON_STRING || !strcmp(v->string, w->string));
        }
        if (same) snprintf(l->index, sizeof l->index, "%s", x->key);
    }
    mrc_json_free(root);
    mrc_json_free(want);
    mrc_text_free(&meta);
    return *l->index != 0;
}

// Which passages the index has: pages of their numbers, in order.
TOOL_DEF void engine_present(engine_load *l) {
    char path[320];
    long long last = -1;
    size_t found = 1, all = 0;
    snprintf(path, sizeof path, "/%s/_refresh", l->index);
    engine_do(l->e, "POST", path, NULL);
    snprintf(path, sizeof path, "/%s/_search", l->index);
    while (found) {
        l->body.bytes = found = 0;
        mrc_text_printf(&l->body, "{\"size\": 10000, \"_source\": false, \"sort\": [{\"ord\": "
                        "\"asc\"}], \"query\": {\"range\": {\"ord\": {\"gt\": %lld}}}}", last);
        mrc_json *root = engine_need(l->e, "POST", path, &l->body);
        const mrc_json *hits = mrc_json_get(mrc_json_get(root, "hits"), "hits");
        for (const mrc_json *h = hits ? hits->child : NULL; h; h = h->next) {
            const mrc_json *sort = mrc_json_get(h, "sort");
            const mrc_json *ord = sort ? sort->child : NULL;
            if (!ord || !ord->is_int || ord->integer <= last || (size_t)ord->integer >= l->n) {
                tool_fail(TOOL_BAD_INPUT, "%s: %s has numbers that are not ours", engine_url(l->e),
                          l->index);
            }
            last = ord->integer;
            all += !l->is_there[last];
            l->is_there[last] = 1;
            found++;
        }
        mrc_json_free(root);
    }
    tool_note("%s: %zu of %zu passages are there", l->index, all, l->n);
}

// The block's passage at `place` as two lines of _bulk.  `create`: one that is there already, for
// its answer was lost, stays as it is (409).  What replaced it would leave a deleted document, and
// those count in the statistics that rank.
TOOL_DEF void engine_add(engine_load *l, size_t place) {
    const size_t i = l->block[place], width = l->rows.width;
    const mrc_passage *x = mrc_passages_at(l->passages, i);
    tool_check(l->e->ctx, engine_terms(l->e, x->text, x->text_bytes, &l->terms));
    mrc_text_printf(&l->body, "{\"create\": {\"_id\": ");
    mrc_text_json_string(&l->body, x->id, strlen(x->id), 0);
    mrc_text_printf(&l->body, "}}\n{\"ord\": %zu, \"title\": ", i);
    mrc_text_json_string(&l->body, x->title, strlen(x->title), 0);
    mrc_text_printf(&l->body, ", \"text\": ");
    mrc_text_json_string(&l->body, x->text, x->text_bytes, 0);
    mrc_text_printf(&l->body, ", \"terms\": ");
    mrc_text_json_string(&l->body, l->terms.data ? l->terms.data : "", l->terms.bytes, 0);
    if (width) {
        mrc_text_printf(&l->body, ", ");
        engine_add_vector(&l->body, "vector", l->rows.rows + place * width, width,
                          engine_is_cosine(l->job));
    }
    mrc_text_printf(&l->body, "}\n");
    tool_check_text(&l->body);
}

// Walks the answer's items beside what was sent.  Accepted passages are marked; the others stay in
// list, places of the block, or are bad.  Returns how many stay.
TOOL_DEF size_t engine_items(engine_load *l, size_t *list, size_t n) {
    mrc_json *root;
    tool_check(l->e->ctx, engine_json(l->e, &root));
    const mrc_json *items = mrc_json_get(root, "items");
    const mrc_json *item = items && items->type == MRC_JSON_ARRAY ? items->child : NULL;
    size_t left = 0;
    if (!items || items->n != n) {
        tool_fail(TOOL_BAD_INPUT, "%s: answers for %zu passages (expected %zu)", engine_url(l->e),
                  items ? items->n : 0, n);
    }
    for (size_t i = 0; i < n; i++, item = item->next) {
        const mrc_json *x = item->type == MRC_JSON_OBJECT ? item->child : NULL;
        const mrc_json *status = mrc_json_get(x, "status");
        const char *id = mrc_passages_at(l->passages, l->block[list[i]])->id;
        if (!status || !status->is_int || strcmp(engine_text(x, "_id"), id)) {
            tool_fail(TOOL_BAD_INPUT, "%s: answers for another passage (expected %.100s)",
                      engine_url(l->e), id);
        }
        if (status->integer == 200 || status->integer == 201 || status->integer == 409) {
            l->is_there[l->block[list[i]]] = 1;
            l->sent += status->integer != 409;
            l->progress = tool_seconds();
        } else if (status->integer == 429 || status->integer == 503) {
            list[left++] = list[i];
        } else if (++l->bad <= 10) {
            const mrc_json *error = mrc_json_get(x, "error");
            tool_note("passage %.100s is refused: %.60s: %.200s", id, engine_text(error, "type"),
                      engine_text(error, "reason"));
        }
    }
    mrc_json_free(root);
    return left;
}

// Sends these passages of the block until each is accepted or bad.
TOOL_DEF void engine_send(engine_load *l, size_t *list, size_t n) {
    char path[700];
    double wait = 0.5;
    snprintf(path, sizeof path, "/%s/_bulk?filter_path=took,errors,items.*._id,items.*.status,"
             "items.*.error.type,items.*.error.reason", l->index);
    while (n) {
        size_t take = n < l->batch ? n : l->batch, at = 0;
        l->body.bytes = 0;
        while (at < take && (at == 0 || l->body.bytes < ENGINE_BATCH_BYTES)) {
            engine_add(l, list[at++]);
        }
        long status;
        tool_check(l->e->ctx, engine_ask(l->e, "POST", path, &l->body, 1, &status));
        if (tool_signal) tool_fail(TOOL_INTERRUPTED, "interrupted; --resume goes on");
        if (status == 413 && at > 1) {
            l->batch = at / 2;
            continue;
        }
        if (status >= 300 && status != 413) {
            char why[512];
            engine_explain(l->e, why, sizeof why);
            tool_fail(TOOL_BAD_INPUT, "%s: _bulk: status %ld %s", engine_url(l->e), status, why);
        }
        size_t left = at;
        if (status == 413) {
            l->bad++;
            left = 0;
            tool_note("passage %.100s is larger than the cluster takes", mrc_passages_at(
                      l->passages, l->block[list[0]])->id);
        } else left = engine_items(l, list, at);
        memmove(list + left, list + at, (n - at) * sizeof *list);
        n -= at - left;
        if (!left) {
            l->batch += l->batch / 10 + 1;
            if (l->batch > ENGINE_BATCH) l->batch = ENGINE_BATCH;
            wait = 0.5;
            continue;
        }
        if (tool_seconds() - l->progress > (double)engine_a.retry_seconds) {
            tool_fail(TOOL_IO, "%s: accepted nothing for %zu s (its write queue is full)",
                      engine_url(l->e), engine_a.retry_seconds);
        }
        l->batch = l->batch > 1 ? l->batch / 2 : 1;
        engine_wait(wait);
        wait = wait < 30 ? wait * 2 : 60;
    }
}

TOOL_DEF size_t engine_count(engine *e, const char *index) {
    char path[320];
    snprintf(path, sizeof path, "/%s/_count", index);
    mrc_json *root = engine_need(e, "GET", path, NULL);
    const mrc_json *count = mrc_json_get(root, "count");
    size_t n = count && count->is_int && count->integer >= 0 ? (size_t)count->integer : SIZE_MAX;
    mrc_json_free(root);
    return n;
}

// The alias moves; with --overwrite_output_dir what it stood for goes.
TOOL_DEF void engine_publish(engine_load *l) {
    char path[320], old[8][256];
    long http;
    size_t n_old = 0;
    snprintf(path, sizeof path, "/_alias/%s", engine_a.name);
    l->body.bytes = 0;
    mrc_text_printf(&l->body, "{\"actions\": [{\"add\": {\"index\": \"%s\", \"alias\": \"%s\"}}",
                    l->index, engine_a.name);
    tool_check(l->e->ctx, engine_ask(l->e, "GET", path, NULL, 0, &http));
    if (http == 200) {
        mrc_json *root;
        tool_check(l->e->ctx, engine_json(l->e, &root));
        for (const mrc_json *x = root->child; x && n_old < 8; x = x->next) {
            if (!strcmp(x->key, l->index) || x->key_bytes >= sizeof old[0]) continue;
            mrc_text_printf(&l->body, ", {\"remove\": {\"index\": \"%s\", \"alias\": \"%s\"}}",
                            x->key, engine_a.name);
            snprintf(old[n_old++], sizeof old[0], "%s", x->key);
        }
        mrc_json_free(root);
    }
    mrc_text_printf(&l->body, "]}");
    engine_do(l->e, "POST", "/_aliases", &l->body);
    for (size_t i = 0; i < n_old && engine_a.overwrite; i++) {
        snprintf(path, sizeof path, "/%.255s", old[i]);
        engine_do(l->e, "DELETE", path, NULL);
    }
}

TOOL_DEF void engine_finish(engine_load *l) {
    char path[320];
    snprintf(path, sizeof path, "/%s/_settings", l->index);
    l->body.bytes = 0;
    mrc_text_printf(&l->body, "{\"index\": {\"number_of_replicas\": %zu, "
                    "\"refresh_interval\": null}}", engine_a.replicas);
    engine_do(l->e, "PUT", path, &l->body);
    snprintf(path, sizeof path, "/%s/_refresh", l->index);
    engine_do(l->e, "POST", path, NULL);
    size_t count = engine_count(l->e, l->index);
    if (l->bad) {
        tool_fail(TOOL_BAD_INPUT, "%s: %zu passages were refused (found %zu, expected %zu)",
                  l->index, l->bad, count, l->n);
    }
    if (count != l->n) {
        tool_fail(TOOL_IO, "%s: has %zu passages (expected %zu; two with one id are one there)",
                  l->index, count, l->n);
    }
    engine_publish(l);
}

// What vectors the cluster can have; the rest is refused by name.
TOOL_DEF void engine_check_vectors(const engine *e, const engine_job *job) {
    const int open = engine_a.kind == ENGINE_OPENSEARCH, version = 100 * e->major + e->minor;
    if (!job->encoder || open) return;
    if (version < 706) {
        tool_fail(TOOL_BAD_INPUT, "%s: --model_name_or_path: this version scores no vectors (found "
                  "%d.%d, expected 7.6 or later, or no vectors)", e->urls[0], e->major, e->minor);
    }
    if (job->graph && version < 811) {
        tool_fail(TOOL_BAD_INPUT, "%s: --graph: this version has none for inner products (found "
                  "%d.%d, expected 8.11 or later, or no --graph)", e->urls[0], e->major, e->minor);
    }
}

// The passages that are missing, in blocks: the vectors of one are in memory at a time.
TOOL_DEF void engine_send_all(engine_load *l) {
    size_t *block = tool_allocate(ENGINE_BATCH, sizeof *block), i = 0;
    size_t *list = tool_allocate(ENGINE_BATCH, sizeof *list);
    mrc_passage *texts = tool_allocate(ENGINE_BATCH, sizeof *texts);
    l->block = block;
    l->progress = tool_seconds();
    while (i < l->n) {
        size_t n = 0;
        for (; i < l->n && n < ENGINE_BATCH; i++) {
            if (l->is_there[i]) continue;
            list[n] = n;
            texts[n] = *mrc_passages_at(l->passages, i);
            block[n++] = i;
        }
        if (!n) continue;
        if (l->job->encoder) {
            tool_check(l->e->ctx, mrc_encoder_encode(l->job->encoder, MRC_SIDE_PASSAGE, texts, n,
                                                     &l->rows));
            l->progress = tool_seconds();
        }
        engine_send(l, list, n);
        mrc_vectors_free(&l->rows);
    }
    free(block);
    free(list);
    free(texts);
}

// index --engine: fills the cluster.
TOOL_DEF void engine_index(mrc_ctx *ctx, const engine_job *job) {
    engine e;
    const mrc_passages *p = job->passages;
    engine_load l = { .e = &e, .job = job, .passages = p, .n = mrc_passages_size(p),
                      .batch = ENGINE_BATCH };
    double begun = tool_seconds();
    engine_check_name(engine_a.name);
    tool_catch_signals();
    engine_open(&e, ctx);
    e.analyzer = job->analyzer;
    e.patience = 120000;
    if (job->tokenizer) tool_check(ctx, mrc_tokenizer_load(ctx, &e.tok, job->tokenizer));
    for (size_t i = 0; i < l.n; i++) {
        size_t bytes = strlen(mrc_passages_at(p, i)->id);
        if (bytes < 1 || bytes > 512) {
            tool_fail(TOOL_BAD_INPUT, "passage %zu: its id has %zu bytes (expected 1 to 512)",
                      i + 1, bytes);
        }
    }
    mrc_text_init(&l.body, ctx);
    mrc_text_init(&l.terms, ctx);
    l.is_there = tool_allocate(l.n + 1, 1);
    tool_check(ctx, engine_hello(&e));
    engine_check_vectors(&e, job);
    if (engine_a.resume && engine_find(&l)) engine_present(&l);
    else engine_create(&l);
    engine_send_all(&l);
    engine_finish(&l);
    tool_note("%s: %zu passages in %s, %zu sent in %.1f s", engine_url(&e), l.n, l.index, l.sent,
              tool_seconds() - begun);
    free(l.is_there);
    mrc_text_free(&l.body);
    mrc_text_free(&l.terms);
    engine_close(&e);
}
#endif
#endif
