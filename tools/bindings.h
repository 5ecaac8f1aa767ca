// bindings: what build/libmrc.so exports for other languages, beside the C API.
//
// A C struct is a poor thing to describe twice: here a language sees opaque objects that take and
// give JSON.  tools/mrc.py is the Python side.
//
//     mrc_binding_open(&b, "reader", "{\"path\": \"model\"}", bytes, error, sizeof error)
//     mrc_binding_call(b, request, bytes, &reply, error, sizeof error)    reply.text: JSON
//     mrc_binding_release(&reply)
//     mrc_binding_close(b)
//
// An object belongs to one thread at a time.  Every function that returns an int returns an
// mrc_status; with another than 0 the error's text is in `error`, and the object is still good.
// A new kind of object is a row of binding_kinds, with three functions.
#ifndef BINDINGS_H
#define BINDINGS_H
#include "stages.h"

typedef struct mrc_binding_reply {  // NULL: not given
    char  *text;
    size_t text_bytes;
    void  *data;                    // numbers that would be slow as text; text says what they are
    size_t data_bytes;
} mrc_binding_reply;

typedef struct mrc_binding mrc_binding;
typedef struct binding_kind {
    const char *name;
    mrc_status (*open)(mrc_binding *b, const mrc_json *options);
    mrc_status (*call)(mrc_binding *b, const mrc_json *request, mrc_text *out,
                       mrc_binding_reply *reply);
    void       (*close)(mrc_binding *b);
} binding_kind;

struct mrc_binding {
    const binding_kind *kind;
    mrc_backend   *be;
    mrc_ctx       *ctx;
    char          *path;
    mrc_model     *model;
    mrc_tokenizer *tok;
    size_t         threads;         // of a backend; 0: all
    void          *own;             // of the kind
};

//==============================================================================
// Members of a request
//==============================================================================
static mrc_status binding_fail(mrc_binding *b, const char *what, const char *key) {
    return mrc__fail(b->ctx, MRC_ERR_ARG, "%s: %s", key, what);
}

// A text; absent: what *to has.
static mrc_status binding_string(mrc_binding *b, const mrc_json *from, const char *key,
                                 const char **to) {
    const mrc_json *v = mrc_json_get(from, key);
    if (!v || v->type == MRC_JSON_NULL) return MRC_OK;
    if (v->type != MRC_JSON_STRING || memchr(v->string, 0, v->bytes)) {
        return binding_fail(b, "is no text", key);
    }
    *to = v->string;
    return MRC_OK;
}

// A count from `least` on; absent: what *to has.
static mrc_status binding_size(mrc_binding *b, const mrc_json *from, const char *key, size_t least,
                               size_t *to) {
    const mrc_json *v = mrc_json_get(from, key);
    if (!v || v->type == MRC_JSON_NULL) return MRC_OK;
    if (v->type != MRC_JSON_NUMBER || !v->is_int || v->integer < 0
        || (uint64_t)v->integer < least || (uint64_t)v->integer > SIZE_MAX) {
        return mrc__fail(b->ctx, MRC_ERR_ARG, "%s: is no whole number (found %g, expected at least "
                         "%zu)", key, v->type == MRC_JSON_NUMBER ? v->number : 0, least);
    }
    *to = (size_t)v->integer;
    return MRC_OK;
}

static mrc_status binding_real(mrc_binding *b, const mrc_json *from, const char *key, double *to) {
    const mrc_json *v = mrc_json_get(from, key);
    if (!v || v->type == MRC_JSON_NULL) return MRC_OK;
    if (v->type != MRC_JSON_NUMBER) return binding_fail(b, "is no number", key);
    *to = v->number;
    return MRC_OK;
}

static void binding_flag(const mrc_json *from, const char *key, int *to) {
    const mrc_json *v = mrc_json_get(from, key);
    if (v && v->type != MRC_JSON_NULL) *to = v->type == MRC_JSON_TRUE;
}

// One of the names in a list that "" ends, as its number.
static mrc_status binding_choice(mrc_binding *b, const mrc_json *from, const char *key,
                                 const char *const *names, int *to) {
    const char *name = NULL;
    int status = (int)binding_string(b, from, key, &name);
    if (status || !name) return (mrc_status)status;
    for (int i = 0; *names[i]; i++) {
        if (strcmp(names[i], name) != 0) continue;
        *to = i;
        return MRC_OK;
    }
    return mrc__fail(b->ctx, MRC_ERR_ARG, "%s: is not known (found %.60s)", key, name);
}

// A list of texts.
static mrc_status binding_list(mrc_binding *b, const mrc_json *from, const char *key,
                               const mrc_json **list) {
    *list = mrc_json_get(from, key);
    if (!*list || (*list)->type != MRC_JSON_ARRAY) return binding_fail(b, "is no list", key);
    for (const mrc_json *v = (*list)->child; v; v = v->next) {
        if (v->type != MRC_JSON_STRING) return binding_fail(b, "is no list of texts", key);
    }
    return MRC_OK;
}

static void *binding_take(mrc_binding *b, size_t n, size_t each) {
    void *p = n > SIZE_MAX / 2 / each ? NULL : calloc(n + 1, each);
    if (!p) (void)mrc__fail(b->ctx, MRC_ERR_MEM, "out of memory for %zu times %zu bytes", n, each);
    return p;
}

// Gives the context a backend, for a kind that computes: before anything is made in it.
static mrc_status binding_computes(mrc_binding *b) {
    mrc_backend_desc desc = { .threads = b->threads };
    mrc_status s = mrc_backend_cpu_new(&b->be, &desc);
    if (s != MRC_OK) return mrc__fail(b->ctx, s, "no backend with %zu threads", b->threads);
    mrc_ctx_free(b->ctx);
    b->ctx = NULL;
    return mrc_ctx_new(&b->ctx, &(mrc_ctx_desc){ .backend = b->be });
}

//==============================================================================
// Reader: questions and passages in, spans out
//==============================================================================
static mrc_status binding_reader_open(mrc_binding *b, const mrc_json *options) {
    const char *tokenizer = b->path;
    mrc_model_load_desc desc = { .path = b->path, .for_prediction = 1 };
    MRC__TRY(binding_string(b, options, "tokenizer", &tokenizer));
    MRC__TRY(binding_computes(b));
    MRC__TRY(mrc_tokenizer_load(b->ctx, &b->tok, tokenizer));
    return mrc_model_load(b->ctx, &b->model, &desc);
}

// The windows: as the pipeline of transformers makes them, or as the reader was trained.
static mrc_status binding_windows(mrc_binding *b, const mrc_json *request, int pipeline,
                                  mrc_features_config *config) {
    const size_t longest = mrc_model_config_max_length(&b->model->config);
    const size_t own = mrc_tokenizer_max_length(b->tok);
    size_t length = 0;
    MRC__TRY(mrc_reader_features(b->ctx, config, b->path, &b->model->config, NULL));
    MRC__TRY(binding_size(b, request, "max_seq_length", 1, &length));
    if (pipeline) {
        config->max_seq_length = longest < 384 ? longest : 384;
        if (own && own < config->max_seq_length) config->max_seq_length = own;
        config->strip_question = 0;
    }
    if (length) config->max_seq_length = length;
    if (pipeline) config->doc_stride = config->max_seq_length / 2 < 128
                                     ? config->max_seq_length / 2 : 128;
    else if (length && config->doc_stride >= length) config->doc_stride = length / 3;
    return binding_size(b, request, "doc_stride", 0, &config->doc_stride);
}

static mrc_status binding_decoding(mrc_binding *b, const mrc_json *request,
                                   mrc_decode_config *config) {
    static const char *const kinds[] = { "squad", "pipeline", "legacy", "" };
    int kind = 0;
    *config = mrc_decode_config_default();
    MRC__TRY(binding_choice(b, request, "postprocess", kinds, &kind));
    config->kind = (mrc_decode_kind)kind;
    MRC__TRY(binding_size(b, request, "n_best_size", 1, &config->n_best_size));
    MRC__TRY(binding_size(b, request, "max_answer_length", 1, &config->max_answer_length));
    binding_flag(request, "version_2_with_negative", &config->version_2_with_negative);
    binding_flag(request, "align_to_words", &config->align_to_words);
    MRC__TRY(binding_real(b, request, "temperature", &config->temperature));
    return binding_real(b, request, "null_score_diff_threshold",
                        &config->null_score_diff_threshold);
}

static void binding_add_span(mrc_text *out, const mrc_span *span, const mrc_example *x,
                             mrc_text *room) {
    size_t bytes = 0;
    room->bytes = 0;
    const char *text = mrc_span_text(span, x, room, &bytes);
    mrc_text_printf(out, "{\"start\": %d, \"end\": %d, \"start_logit\": ", (int)span->begin,
                    (int)span->end);
    mrc_text_number(out, (double)span->start_logit);
    mrc_text_printf(out, ", \"end_logit\": ");
    mrc_text_number(out, (double)span->end_logit);
    mrc_text_printf(out, ", \"score\": ");
    mrc_text_number(out, span->probability);
    mrc_text_printf(out, ", \"text\": ");
    mrc_text_json_string(out, text, bytes, 0);
    mrc_text_add(out, "}", 1);
}

static mrc_status binding_add_replies(mrc_binding *b, const mrc_example *list,
                                      const mrc_reply *replies, size_t n, mrc_text *out) {
    mrc_text room;
    mrc_text_init(&room, b->ctx);
    for (size_t i = 0; i < n; i++) {
        const mrc_reply *r = &replies[i];
        mrc_text_printf(out, "%s{\"windows\": %zu, \"null_score_diff\": ", i ? ", " : "[",
                        r->n_windows);
        mrc_text_number(out, r->null_score_diff);
        mrc_text_printf(out, ", \"answer\": ");
        binding_add_span(out, r->answer, &list[i], &room);
        mrc_text_printf(out, ", \"spans\": [");
        for (size_t k = 0; k < r->n_spans; k++) {
            if (k) mrc_text_add(out, ", ", 2);
            binding_add_span(out, &r->spans[k], &list[i], &room);
        }
        mrc_text_add(out, "]}", 2);
    }
    mrc_text_printf(out, n ? "]" : "[]");
    int failed = room.failed;
    mrc_text_free(&room);
    return failed ? mrc__fail(b->ctx, MRC_ERR_MEM, "out of memory for the answers") : MRC_OK;
}

static mrc_status binding_reader_call(mrc_binding *b, const mrc_json *request, mrc_text *out,
                                      mrc_binding_reply *reply) {
    const mrc_json *questions, *contexts;
    mrc_features_config features;
    mrc_decode_config decode;
    mrc_reader_desc desc = { .model = b->model, .tokenizer = b->tok, .features = &features,
                             .decode = &decode };
    mrc_reader *reader;
    (void)reply;
    MRC__TRY(binding_list(b, request, "questions", &questions));
    MRC__TRY(binding_list(b, request, "contexts", &contexts));
    if (questions->n != contexts->n) {
        return mrc__fail(b->ctx, MRC_ERR_ARG, "questions and contexts are not as many (found %zu "
                         "and %zu)", questions->n, contexts->n);
    }
    MRC__TRY(binding_decoding(b, request, &decode));
    MRC__TRY(binding_windows(b, request, decode.kind == MRC_DECODE_PIPELINE, &features));
    MRC__TRY(binding_size(b, request, "batch_size", 1, &desc.batch_size));
    size_t n = questions->n, at = 0;
    mrc_example *list = binding_take(b, n, sizeof *list);
    mrc_reply *replies = binding_take(b, n, sizeof *replies);
    mrc_status s = list && replies ? mrc_reader_new(b->ctx, &reader, b->path, &desc) : MRC_ERR_MEM;
    if (s == MRC_OK) {
        const mrc_json *c = contexts->child;
        for (const mrc_json *q = questions->child; q; q = q->next, c = c->next) {
            list[at++] = (mrc_example){ .question = q->string, .question_bytes = q->bytes,
                                        .context = c->string, .context_bytes = c->bytes };
        }
        s = mrc_reader_answer(reader, list, n, replies);
        if (s == MRC_OK) s = binding_add_replies(b, list, replies, n, out);
        mrc_reader_free(reader);
    }
    free(list);
    free(replies);
    return s;
}

//==============================================================================
// Tokenizer: texts and pairs in, encodings out
//==============================================================================
static mrc_status binding_tokenizer_open(mrc_binding *b, const mrc_json *options) {
    (void)options;
    return mrc_tokenizer_load(b->ctx, &b->tok, b->path);
}

static void binding_add_ids(mrc_text *out, const char *key, const int32_t *ids, size_t n) {
    mrc_text_printf(out, "\"%s\": [", key);
    for (size_t i = 0; i < n; i++) mrc_text_printf(out, "%s%d", i ? ", " : "", (int)ids[i]);
    mrc_text_add(out, "], ", 3);
}

static mrc_status binding_tokenizer_call(mrc_binding *b, const mrc_json *request, mrc_text *out,
                                         mrc_binding_reply *reply) {
    static const char *const truncations[] = { "none", "longest_first", "only_second",
                                               "only_first", "" };
    const mrc_json *text = mrc_json_get(request, "text"), *pair = mrc_json_get(request, "pair");
    int truncation = 0, special = 1;
    mrc_encode_options options = { 0 };
    mrc_encodings all = { 0 };
    (void)reply;
    if (pair && pair->type == MRC_JSON_NULL) pair = NULL;
    if (!text || text->type != MRC_JSON_STRING || (pair && pair->type != MRC_JSON_STRING)) {
        return binding_fail(b, "is no text", pair ? "text or pair" : "text");
    }
    MRC__TRY(binding_choice(b, request, "truncation", truncations, &truncation));
    MRC__TRY(binding_size(b, request, "max_length", 0, &options.max_length));
    MRC__TRY(binding_size(b, request, "stride", 0, &options.stride));
    binding_flag(request, "add_special_tokens", &special);
    options.truncation = (mrc_truncation)truncation;
    options.no_special_tokens = !special;
    MRC__TRY(mrc_tokenizer_encode(b->ctx, b->tok, &all, text->string, text->bytes,
                                  pair ? pair->string : NULL, pair ? pair->bytes : 0, &options));
    for (size_t k = 0; k < all.n; k++) {
        const mrc_encoding *e = &all.list[k];
        mrc_text_printf(out, "%s{", k ? ", " : "[");
        binding_add_ids(out, "input_ids", e->input_ids, e->n);
        binding_add_ids(out, "token_type_ids", e->token_type_ids, e->n);
        binding_add_ids(out, "sequence_ids", e->sequence_ids, e->n);
        binding_add_ids(out, "word_ids", e->word_ids, e->n);
        binding_add_ids(out, "offsets", &e->offset_mapping[0][0], 2 * e->n);
        mrc_text_printf(out, "\"tokens\": [");
        for (size_t i = 0; i < e->n; i++) {
            const char *token = mrc_tokenizer_token(b->tok, e->input_ids[i]);
            if (i) mrc_text_add(out, ", ", 2);
            mrc_text_json_string(out, token ? token : "", token ? strlen(token) : 0, 0);
        }
        mrc_text_add(out, "]}", 2);
    }
    mrc_text_printf(out, all.n ? "]" : "[]");
    mrc_encodings_free(&all);
    return MRC_OK;
}

//==============================================================================
// Index: queries in, passages out
//==============================================================================
// Texts of a list as passages without titles.
static mrc_passage *binding_passages(mrc_binding *b, const mrc_json *list) {
    mrc_passage *to = binding_take(b, list->n, sizeof *to);
    size_t at = 0;
    for (const mrc_json *v = to ? list->child : NULL; v; v = v->next) {
        to[at++] = (mrc_passage){ "", "", v->string, v->bytes };
    }
    return to;
}

static mrc_status binding_index_options(mrc_binding *b, const mrc_json *options,
                                        retrieval_options *o) {
    static const char *const methods[] = { "okapi", "l", "l_rank_bm25", "plus", "lucene",
                                           "robertson", "atire", "bm25s_l", "bm25s_plus",
                                           "elasticsearch", "" };
    static const char *const kinds[] = { "bm25", "dense", "colbert", "hybrid", "" };
    static const char *const fusions[] = { "rrf", "minmax", "zscore", "raw", "" };
    MRC__TRY(binding_choice(b, options, "method", methods, &o->method));
    MRC__TRY(binding_choice(b, options, "retriever", kinds, &o->kind));
    MRC__TRY(binding_choice(b, options, "fusion", fusions, &o->fusion));
    MRC__TRY(binding_string(b, options, "reranker", &o->reranker));
    MRC__TRY(binding_string(b, options, "retrieval_model", &o->model));
    MRC__TRY(binding_string(b, options, "token_model", &o->token_model));
    MRC__TRY(binding_string(b, options, "query_model", &o->query_model));
    MRC__TRY(binding_size(b, options, "rerank_top_k", 1, &o->rerank_top_k));
    MRC__TRY(binding_size(b, options, "fusion_depth", 1, &o->depth));
    MRC__TRY(binding_size(b, options, "ef", 1, &o->ef));
    binding_flag(options, "exact", &o->exact);
    binding_flag(options, "any_model", &o->any_model);
    MRC__TRY(binding_real(b, options, "k1", &o->k1));
    MRC__TRY(binding_real(b, options, "b", &o->b));
    MRC__TRY(binding_real(b, options, "delta", &o->delta));
    MRC__TRY(binding_real(b, options, "rerank_weight", &o->rerank_weight));
    if (!(o->rerank_weight >= 0 && o->rerank_weight <= 1)) {
        return binding_fail(b, "is not from 0 to 1", "rerank_weight");
    }
    o->threads = b->threads;
    return MRC_OK;
}

static mrc_status binding_index_open(mrc_binding *b, const mrc_json *options) {
    retrieval_options o = { .index = b->path, .method = MRC_BM25_ELASTICSEARCH,
                            .fusion = MRC_FUSE_ZSCORE, .rerank_top_k = 20, .depth = 20,
                            .rerank_weight = 1, .ef = 64, .k1 = NAN, .b = NAN, .delta = NAN };
    MRC__TRY(binding_index_options(b, options, &o));
    if (!stages_are_words(&o)) MRC__TRY(binding_computes(b));
    retrieval *r = binding_take(b, 1, sizeof *r);
    if (!r) return MRC_ERR_MEM;
    b->own = r;
    mrc_status s = retrieval_open(b->ctx, r, &o);
    r->o.reranker = r->o.model = r->o.token_model = r->o.query_model = NULL;    // the request's
    return s;
}

static void binding_index_close(mrc_binding *b) {
    if (b->own) retrieval_close(b->own);
    free(b->own);
}

static mrc_status binding_add_hits(retrieval *r, const stage_hit *hits, size_t n, mrc_text *out) {
    mrc_status s = MRC_OK;
    int words = r->o.kind == RETRIEVE_BM25 && !r->reranker;
    mrc_text_add(out, "[", 1);
    for (size_t i = 0; i < n && s == MRC_OK; i++) {
        mrc_passage x;
        s = mrc_index_passage(r->ix, hits[i].passage, &r->room, &x);
        if (s != MRC_OK) break;
        mrc_text_printf(out, "%s{\"passage\": %lu, \"score\": ", i ? ", " : "",
                        (unsigned long)hits[i].passage);
        mrc_text_number(out, hits[i].score);
        for (int k = 0; k < STAGES && !words; k++) {
            if (isnan(hits[i].stage[k])) continue;
            mrc_text_printf(out, ", \"%s\": ", stage_names[k]);
            mrc_text_number(out, hits[i].stage[k]);
        }
        mrc_text_printf(out, ", \"id\": ");
        mrc_text_json_string(out, x.id, strlen(x.id), 0);
        mrc_text_printf(out, ", \"title\": ");
        mrc_text_json_string(out, x.title, strlen(x.title), 0);
        mrc_text_printf(out, ", \"text\": ");
        mrc_text_json_string(out, x.text, x.text_bytes, 0);
        mrc_text_add(out, "}", 1);
    }
    mrc_text_add(out, "]", 1);
    return s;
}

static mrc_status binding_index_call(mrc_binding *b, const mrc_json *request, mrc_text *out,
                                     mrc_binding_reply *reply) {
    const mrc_json *queries;
    retrieval *r = b->own;
    size_t top_k = 10, size = mrc_index_size(r->ix);
    (void)reply;
    MRC__TRY(binding_list(b, request, "queries", &queries));
    MRC__TRY(binding_size(b, request, "top_k", 1, &top_k));
    if (top_k > size) top_k = size ? size : 1;
    if (queries->n > SIZE_MAX / top_k) return binding_fail(b, "are too many", "queries");
    mrc_passage *list = binding_passages(b, queries);
    size_t *found = binding_take(b, queries->n, sizeof *found);
    stage_hit *hits = binding_take(b, queries->n * top_k, sizeof *hits);
    mrc_status s = list && found && hits ? MRC_OK : MRC_ERR_MEM;
    if (s == MRC_OK) s = retrieval_run(r, list, queries->n, top_k, hits, found);
    mrc_text_add(out, "[", 1);
    for (size_t i = 0; i < queries->n && s == MRC_OK; i++) {
        if (i) mrc_text_add(out, ", ", 2);
        s = binding_add_hits(r, hits + i * top_k, found[i], out);
    }
    mrc_text_add(out, "]", 1);
    free(list);
    free(found);
    free(hits);
    return s;
}

//==============================================================================
// Encoder: texts in, vectors out; or pairs in, scores out
//==============================================================================
static mrc_status binding_encoder_open(mrc_binding *b, const mrc_json *options) {
    mrc_encoder_desc desc = { 0 };
    mrc_encoder *e = NULL;
    MRC__TRY(binding_string(b, options, "pooling", &desc.pooling));
    MRC__TRY(binding_size(b, options, "max_length", 4, &desc.max_length));
    MRC__TRY(binding_computes(b));
    mrc_status s = mrc_encoder_new(b->ctx, &e, b->path, &desc);
    b->own = e;
    return s;
}

static void binding_encoder_close(mrc_binding *b) { mrc_encoder_free(b->own); }

static mrc_status binding_encode(mrc_binding *b, const mrc_json *request, mrc_text *out,
                                 mrc_binding_reply *reply) {
    static const char *const sides[] = { "query", "passage", "none", "" };
    mrc_encoder *e = b->own;
    mrc_encoder_config *c = &e->config.encoder;
    const mrc_json *texts;
    char kept[MRC_PROMPT_BYTES];
    mrc_vectors v;
    int side = 2;
    MRC__TRY(binding_list(b, request, "texts", &texts));
    MRC__TRY(binding_choice(b, request, "side", sides, &side));
    mrc_passage *list = binding_passages(b, texts);
    if (!list) return MRC_ERR_MEM;
    // Without a name a text has the prompt of both sides, or none.
    memcpy(kept, c->passage_prompt, sizeof kept);
    if (side == 2 && strcmp(c->query_prompt, c->passage_prompt)) c->passage_prompt[0] = 0;
    mrc_status s = mrc_encoder_encode(e, side ? MRC_SIDE_PASSAGE : MRC_SIDE_QUERY, list, texts->n,
                                      &v);
    memcpy(c->passage_prompt, kept, sizeof kept);
    free(list);
    MRC__TRY(s);
    reply->data_bytes = v.n_rows * v.width * sizeof *v.rows;
    reply->data = malloc(reply->data_bytes + 1);
    if (reply->data) memcpy(reply->data, v.rows, reply->data_bytes);
    mrc_text_printf(out, "{\"rows\": %zu, \"width\": %zu, \"similarity\": \"%s\", "
                    "\"offsets\": [", v.n_rows, v.width,
                    c->similarity == MRC_SIMILARITY_DOT ? "dot" : "cosine");
    for (size_t i = 0; v.offsets && i <= v.n; i++) {
        mrc_text_printf(out, "%s%llu", i ? ", " : "", (unsigned long long)v.offsets[i]);
    }
    mrc_text_printf(out, "]}");
    mrc_vectors_free(&v);
    return reply->data ? MRC_OK : mrc__fail(b->ctx, MRC_ERR_MEM, "out of memory for vectors");
}

static mrc_status binding_score(mrc_binding *b, const mrc_json *request, mrc_text *out) {
    mrc_encoder *e = b->own;
    const mrc_json *queries, *texts;
    MRC__TRY(binding_list(b, request, "queries", &queries));
    MRC__TRY(binding_list(b, request, "texts", &texts));
    if (queries->n != texts->n) return binding_fail(b, "are not as many", "queries and texts");
    size_t n = texts->n;
    mrc_passage *q = binding_passages(b, queries), *p = binding_passages(b, texts);
    const mrc_passage **list = binding_take(b, 2 * n, sizeof *list);
    double *scores = binding_take(b, n, sizeof *scores);
    mrc_status s = q && p && list && scores ? MRC_OK : MRC_ERR_MEM;
    for (size_t i = 0; i < n && s == MRC_OK; i++) {
        list[i] = &q[i];
        list[n + i] = &p[i];
    }
    if (s == MRC_OK) s = mrc_encoder_score_pairs(e, list, list + n, n, scores);
    mrc_text_printf(out, "{\"sigmoid\": %s, \"labels\": %zu, \"scores\": [",
                    e->config.encoder.sigmoid ? "true" : "false", e->config.encoder.num_labels);
    for (size_t i = 0; i < n && s == MRC_OK; i++) {
        if (i) mrc_text_add(out, ", ", 2);
        mrc_text_number(out, scores[i]);
    }
    mrc_text_printf(out, "]}");
    free(q);
    free(p);
    free(list);
    free(scores);
    return s;
}

static mrc_status binding_encoder_call(mrc_binding *b, const mrc_json *request, mrc_text *out,
                                       mrc_binding_reply *reply) {
    return mrc_json_get(request, "queries") ? binding_score(b, request, out)
                                            : binding_encode(b, request, out, reply);
}

//==============================================================================
// The five functions
//==============================================================================
static const binding_kind binding_kinds[] = {
    { "reader", binding_reader_open, binding_reader_call, NULL },
    { "tokenizer", binding_tokenizer_open, binding_tokenizer_call, NULL },
    { "index", binding_index_open, binding_index_call, binding_index_close },
    { "encoder", binding_encoder_open, binding_encoder_call, binding_encoder_close }
};

// The context's error goes to the caller, and the context is as good as new.
static int binding_report(mrc_ctx *ctx, mrc_status status, char *error, size_t error_bytes) {
    const char *text = ctx ? mrc_ctx_message(ctx) : "";
    if (status == MRC_OK) return 0;
    if (error_bytes) {
        snprintf(error, error_bytes, "%s", text && *text ? text : mrc_status_string(status));
    }
    if (ctx) {
        mrc_ctx_reset(ctx);
        mrc_ctx_clear_error(ctx);
    }
    return (int)status;
}

void mrc_binding_close(mrc_binding *b);
void mrc_binding_close(mrc_binding *b) {
    if (!b) return;
    if (b->kind->close) b->kind->close(b);
    mrc_tokenizer_free(b->tok);
    mrc_ctx_free(b->ctx);
    mrc_model_free(b->model);
    mrc_backend_free(b->be);
    free(b->path);
    free(b);
}

static mrc_status binding_start(mrc_binding *b, const mrc_json *options) {
    const char *path = NULL;
    MRC__TRY(binding_size(b, options, "threads", 0, &b->threads));
    MRC__TRY(binding_string(b, options, "path", &path));
    if (!path) return binding_fail(b, "is missing", "path");
    b->path = malloc(strlen(path) + 1);
    if (!b->path) return mrc__fail(b->ctx, MRC_ERR_MEM, "out of memory");
    memcpy(b->path, path, strlen(path) + 1);
    return b->kind->open(b, options);
}

int mrc_binding_open(mrc_binding **out, const char *kind, const char *options, size_t bytes,
                     char *error, size_t error_bytes);
int mrc_binding_open(mrc_binding **out, const char *kind, const char *options, size_t bytes,
                     char *error, size_t error_bytes) {
    mrc_binding *b = calloc(1, sizeof *b);
    mrc_json *root = NULL;
    size_t n = sizeof binding_kinds / sizeof *binding_kinds, i = 0;
    *out = NULL;
    while (i < n && strcmp(binding_kinds[i].name, kind) != 0) i++;
    if (!b || i == n) {
        free(b);
        return binding_report(NULL, i == n ? MRC_ERR_ARG : MRC_ERR_MEM, error, error_bytes);
    }
    b->kind = &binding_kinds[i];
    mrc_status s = mrc_ctx_new(&b->ctx, NULL);
    if (s == MRC_OK) s = mrc_json_parse(b->ctx, &root, "options", options, bytes, 0);
    if (s == MRC_OK) s = binding_start(b, root);
    mrc_json_free(root);
    int code = binding_report(b->ctx, s, error, error_bytes);
    if (code == 0) *out = b;
    else mrc_binding_close(b);
    return code;
}

int mrc_binding_call(mrc_binding *b, const char *request, size_t bytes, mrc_binding_reply *reply,
                     char *error, size_t error_bytes);
int mrc_binding_call(mrc_binding *b, const char *request, size_t bytes, mrc_binding_reply *reply,
                     char *error, size_t error_bytes) {
    mrc_json *root = NULL;
    mrc_text out;
    *reply = (mrc_binding_reply){ 0 };
    mrc_text_init(&out, b->ctx);
    mrc_status s = mrc_json_parse(b->ctx, &root, "request", request, bytes, 0);
    if (s == MRC_OK) s = b->kind->call(b, root, &out, reply);
    if (s == MRC_OK && out.failed) s = mrc__fail(b->ctx, MRC_ERR_MEM, "out of memory for a reply");
    mrc_json_free(root);
    if (s == MRC_OK) {                  // both come from malloc: release frees them
        reply->text = out.data;
        reply->text_bytes = out.bytes;
    } else {
        mrc_text_free(&out);
        free(reply->data);
        *reply = (mrc_binding_reply){ 0 };
    }
    return binding_report(b->ctx, s, error, error_bytes);
}

void mrc_binding_release(mrc_binding_reply *reply);
void mrc_binding_release(mrc_binding_reply *reply) {
    free(reply->text);
    free(reply->data);
    *reply = (mrc_binding_reply){ 0 };
}

#define BINDING_QUOTE(x)  #x
#define BINDING_DIGITS(x) BINDING_QUOTE(x)
const char *mrc_binding_version(void);
const char *mrc_binding_version(void) {
    return BINDING_DIGITS(MRC_VERSION_MAJOR) "." BINDING_DIGITS(MRC_VERSION_MINOR) "."
           BINDING_DIGITS(MRC_VERSION_PATCH);
}

#endif
