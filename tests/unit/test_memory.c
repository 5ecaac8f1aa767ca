// What retrieval, training pairs and tokenizers do when memory ends: each allocation of each call
// fails once, then for good.  What must hold: MRC_ERR_MEM with a text or the whole result, nothing
// is left, and the same call succeeds afterwards in a new context.
#define TEST_LINKED
#include "../support/folder.h"

static mrc_backend *be;

//==============================================================================
// The calls
//==============================================================================
static float rows[24 * 8];
static uint64_t offsets[13];
static const mrc_vectors plain = { .n = 24, .n_rows = 24, .width = 8, .rows = rows };
static const mrc_vectors tokens = { .n = 12, .n_rows = 24, .width = 8, .rows = rows,
                                    .offsets = offsets };
static const mrc_vectors_desc forms[] = {
    { .threads = 1 }, { .form = MRC_FORM_BF16, .threads = 1 },
    { .form = MRC_FORM_INT8, .graph = 1, .threads = 1, .m = 4, .ef_construction = 8 },
    { .form = MRC_FORM_BITS, .threads = 1 }, { .graph = 1, .threads = 1 },
    { .threads = 1 }, { .form = MRC_FORM_BF16, .threads = 1 },
    { .residual_bits = 2, .threads = 1 } };
enum { FORMS = sizeof forms / sizeof *forms, FIRST_TOKENS = 5 };

static const char *form_path(size_t i) {
    char name[16];
    snprintf(name, sizeof name, "form%zu", i);
    return path_of(name);
}
static mrc_status write_form(mrc_ctx *ctx, size_t i) {
    return mrc_vectors_index(ctx, form_path(i), i < FIRST_TOKENS ? &plain : &tokens, &forms[i]);
}
static mrc_status search_form(mrc_ctx *ctx, size_t i) {
    const int many = i >= FIRST_TOKENS;
    uint64_t own[3] = { 0, 1, 3 };
    const mrc_vectors queries = { .n = 2, .n_rows = many ? 3 : 2, .width = 8, .rows = rows,
                                  .offsets = many ? own : NULL };
    const uint32_t passages[] = { 0, 11 };
    mrc_dense *d;
    mrc_hit hits[8];
    size_t n_hits[2];
    double scores[2];
    mrc_dense_config config = mrc_dense_config_default();
    mrc_status s = mrc_dense_open(ctx, &d, form_path(i), many);
    for (config.threads = 1, config.exact = 0; s == MRC_OK && config.exact < 2; config.exact++) {
        s = mrc_dense_search(d, &queries, 4, &config, hits, n_hits);
        CHECK(s != MRC_OK || (n_hits[0] && n_hits[1]), "form %zu: %zu hits", i, n_hits[0]);
    }
    if (s == MRC_OK) s = mrc_dense_score(d, &queries, 1, passages, 2, scores);
    mrc_dense_close(d);
    return s;
}

static const char *const vector_files[] = { "v.npy", "v.safetensors", "t.safetensors" };
static mrc_status save_vectors(mrc_ctx *ctx, size_t i) {
    return mrc_vectors_save(ctx, i == 2 ? &tokens : &plain, path_of(vector_files[i]));
}
static mrc_status load_vectors(mrc_ctx *ctx, size_t i) {
    mrc_vectors v;
    mrc_status s = mrc_vectors_load(ctx, &v, path_of(vector_files[i]));
    CHECK(s != MRC_OK || v.n_rows == 24, "%zu rows", v.n_rows);
    mrc_vectors_free(&v);
    return s;
}

static const char *const pair_files[] = {
    "[{\"question\": \"q\", \"positive_ctxs\": [{\"title\": \"t\", \"text\": \"p\"}], "
    "\"hard_negative_ctxs\": [{\"text\": \"n\"}]}]",
    "{\"query\": \"a\", \"pos\": [\"p\"], \"neg\": [\"n\", \"m\"], \"pos_scores\": [1], "
    "\"neg_scores\": [0.5, 2]}\n{\"anchor\": \"a\", \"positive\": \"p\", \"negative\": \"n\"}\n",
    "{\"query\": \"a\", \"positive_passages\": [{\"title\": \"t\", \"text\": \"p\"}], "
    "\"negative_passages\": [{\"docid\": \"1\", \"text\": \"n\"}]}", "a\tp\tn\nb\tp\tm\n",
    "[\"q1\", \"d1\", \"d2\"]\n[\"q1\", [\"d1\", 2], [\"d2\", 1e0]]\n",
    "{\"id\": \"1\", \"context\": \"c\", \"question\": \"q\", \"answers\": {\"text\": [\"c\"], "
    "\"answer_start\": [0]}}\n", "" };
static mrc_status load_pairs(mrc_ctx *ctx, size_t i) {
    char name[16];
    snprintf(name, sizeof name, "pairs%zu", i);
    mrc_pairs_desc desc = { .path = path_of(name), .queries = path_of("queries.jsonl"),
                            .passages = path_of("corpus.jsonl") };
    if (i == 6) {                           // a BEIR folder's files, and runs
        desc.path = path_of("queries.jsonl");
        desc.queries = NULL;
        desc.qrels = path_of("qrels.tsv");
        desc.negatives = desc.teacher = path_of("run.trec");
        desc.whole = 1;
    }
    mrc_pairs *p;
    mrc_pair_plan plan = {0};
    mrc_status s = mrc_pairs_load(ctx, &p, &desc);
    if (s == MRC_OK) s = mrc_pairs_plan(ctx, &plan, p, 2, 1, 1, 0);
    CHECK(s != MRC_OK || mrc_pairs_size(p) > 0, "file %zu: no pair", i);
    mrc_pair_plan_free(&plan);
    mrc_pairs_free(p);
    return s;
}

static const char *const tokenizers[] = {
    "data", "tests/fixtures/tokenizer/bytes", "tests/fixtures/tokenizer/cased",
    "tests/fixtures/tokenizer/prefix", "tests/fixtures/tokenizer/uncased" };
static mrc_status load_tokenizer(mrc_ctx *ctx, size_t i) {
    const mrc_encode_options options = { .truncation = MRC_TRUNCATION_ONLY_SECOND, .max_length = 14,
                                         .stride = 1 };
    mrc_tokenizer *tok;
    mrc_encodings list = {0};
    mrc_status s = mrc_tokenizer_load(ctx, &tok, tokenizers[i]);
    if (s == MRC_OK) {
        s = mrc_tokenizer_encode(ctx, tok, &list, "a b", 3, "the king of a city and more", 27,
                                 &options);
    }
    if (s == MRC_OK) s = mrc_tokenizer_save(ctx, tokenizers[i], path_of("saved"));
    mrc_encodings_free(&list);
    mrc_tokenizer_free(tok);
    return s;
}

// A bi-encoder and token rows; the text of two passages.
static mrc_status encode(mrc_ctx *ctx, size_t i) {
    const mrc_passage list[] = { { "1", "t", "a b", 3 }, { "2", "", "city", 4 } };
    const mrc_passage *const one[] = { &list[1], &list[0] };
    const mrc_encoder_desc desc = { .head = i ? MRC_HEAD_TOKENS : MRC_HEAD_POOL };
    double scores[2];
    mrc_encoder *e;
    mrc_vectors v = {0};
    mrc_status s = mrc_encoder_new(ctx, &e, path_of(i ? "tokens" : "pool"), &desc);
    if (s == MRC_OK) s = mrc_encoder_encode(e, MRC_SIDE_PASSAGE, list, 2, &v);
    if (s == MRC_OK) s = mrc_encoder_score(e, &list[0], one, 2, scores);
    mrc_vectors_free(&v);
    mrc_encoder_free(e);
    return s;
}

// Two towers, from two folders or from one that has both.
static mrc_status towers_new(mrc_ctx *ctx, mrc_model **m, int both) {
    mrc_model_config c;
    mrc_status s = mrc_encoder_config_load(ctx, &c, path_of("pool"), MRC_HEAD_POOL, NULL);
    const mrc_model_load_desc desc = { .path = path_of(both ? "towers" : "pool"), .config = &c,
                                       .question_path = both ? NULL : path_of("pool2") };
    *m = NULL;
    return s == MRC_OK ? mrc_model_load(ctx, m, &desc) : s;
}
static mrc_status load_towers(mrc_ctx *ctx, size_t i) {
    mrc_model *m;
    mrc_status s = towers_new(ctx, &m, i != 0);
    mrc_model_free(m);
    return s;
}

static mrc_status import_examples(mrc_ctx *ctx, size_t i) {
    mrc_answer answer = { "b", 1, 2 };
    const mrc_example list[] = {
        { .id = "1", .title = "t", .context = "a b", .context_bytes = 3, .question = "q",
          .question_bytes = 1, .answers = &answer, .n_answers = 1 },
        { .context = "a b", .context_bytes = 3, .question = "q", .question_bytes = 1 } };
    mrc_dataset *d;
    mrc_status s = mrc_dataset_new(ctx, &d, list, 1 + i);
    mrc_dataset_free(d);
    return s;
}

static const struct call {
    const char *name;
    mrc_status (*run)(mrc_ctx *ctx, size_t i);
    size_t n;
} calls[] = {
    { "vectors_index", write_form, FORMS }, { "dense_search", search_form, FORMS },
    { "vectors_save", save_vectors, 3 }, { "vectors_load", load_vectors, 3 },
    { "pairs_load", load_pairs, sizeof pair_files / sizeof *pair_files },
    { "tokenizer_load", load_tokenizer, sizeof tokenizers / sizeof *tokenizers },
    { "encoder", encode, 2 }, { "towers", load_towers, 2 }, { "dataset_new", import_examples, 2 },
};

//==============================================================================
// Memory ends
//==============================================================================
// Allocation number `at` fails, and those behind it if on; -1: none.
typedef struct failing { long at, calls, live; int on; } failing;
static void *failing_alloc(void *user, size_t bytes) {
    failing *f = user;
    const long call = f->calls++;
    if (f->at >= 0 && (f->on ? call >= f->at : call == f->at)) return NULL;
    void *p = malloc(bytes ? bytes : 1);
    if (p) f->live++;
    return p;
}
static void failing_free(void *user, void *p) {
    if (p) ((failing *)user)->live--;
    free(p);
}

// Runs it with the allocation `at` (from 0) failing; the number of allocations that it made.
static long run_failing(const struct call *c, size_t i, long at, int on) {
    failing f = { .at = -1, .on = on };
    mrc_ctx *ctx;
    const mrc_ctx_desc desc = { .backend = be, .allocator = { failing_alloc, failing_free, &f } };
    if (!CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK, "no context")) return 0;
    const long before = f.calls;
    if (at >= 0) f.at = before + at;
    const mrc_status s = c->run(ctx, i);
    const long made = f.calls - before;
    if (at < 0) CHECK(s == MRC_OK, "%s %zu: %s", c->name, i, mrc_ctx_message(ctx));
    CHECK(s == MRC_OK || (s == MRC_ERR_MEM && *mrc_ctx_message(ctx)),
          "%s %zu, allocation %ld: status %d (%s)", c->name, i, at, (int)s, mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    CHECK(f.live == 0, "%s %zu, allocation %ld: %ld stay", c->name, i, at, f.live);
    return made;
}

static void model_new(mrc_ctx *ctx, const char *name, mrc_head_type head) {
    mrc_model_config c = mrc_model_config_default();
    mrc_model *m;
    c.vocab_size = 812;
    c.hidden_size = c.intermediate_size = 4;
    c.num_hidden_layers = c.num_attention_heads = 1;
    c.max_position_embeddings = 34;
    c.head = head;
    c.encoder = (mrc_encoder_config){ .poolings = 1u << MRC_POOLING_MEAN, .num_labels = 1,
                                      .classifier_dropout = -1, .query_max_length = 16,
                                      .passage_max_length = 16, .projection_size = 4 };
    CHECK(mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 1) == MRC_OK
          && mrc_model_save(ctx, m, path_of(name), "data") == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_model_free(m);
}

static void begin(mrc_ctx *ctx) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rows[i] = (float)((i * 7919 + i / 8 * 31) % 17) - 8;
    }
    for (size_t i = 0; i < 13; i++) offsets[i] = 2 * i;
    for (size_t i = 0; i + 1 < sizeof pair_files / sizeof *pair_files; i++) {
        char name[16];
        snprintf(name, sizeof name, "pairs%zu", i);
        file_new(name, pair_files[i]);
    }
    file_new("corpus.jsonl", "{\"_id\": \"d1\", \"title\": \"t\", \"text\": \"A\"}\n"
             "{\"_id\": \"d2\", \"text\": \"B\"}\n{\"_id\": \"d3\", \"text\": \"C\"}\n");
    file_new("queries.jsonl", "{\"_id\": \"q1\", \"text\": \"one\"}\n");
    file_new("qrels.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\n");
    file_new("run.trec", "q1 Q0 d1 1 9.5 x\nq1 Q0 d2 2 1e1 x\nq1 Q0 d3 3 -1 x\n");
    model_new(ctx, "pool", MRC_HEAD_POOL);
    model_new(ctx, "pool2", MRC_HEAD_POOL);
    model_new(ctx, "tokens", MRC_HEAD_TOKENS);
    mrc_model *m;
    CHECK(towers_new(ctx, &m, 0) == MRC_OK
          && mrc_model_save(ctx, m, path_of("towers"), "data") == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    mrc_model_free(m);
}

int main(void) {
    mrc_ctx *ctx;
    if (!CHECK(mrc_backend_naive_new(&be, NULL) == MRC_OK, "naive")) return test_end();
    const mrc_ctx_desc desc = { .backend = be };
    if (!folder_new("memory") || !CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK, "context")) {
        return test_end();
    }
    begin(ctx);
    CHECK(mrc_dir_new(ctx, path_of("saved")) == MRC_OK, "%s", mrc_ctx_message(ctx));
    for (size_t k = 0; k < sizeof calls / sizeof *calls; k++) {
        for (size_t i = 0; i < calls[k].n; i++) {
            const long n = run_failing(&calls[k], i, -1, 0);
            CHECK(n > 0, "%s %zu: %ld allocations", calls[k].name, i, n);
            // All of the first, then some: a large file's rows have one each.
            for (long at = 0; at < n; at += at < 400 ? 1 : 1 + at / 20) {
                run_failing(&calls[k], i, at, 0);
                run_failing(&calls[k], i, at, 1);
            }
            run_failing(&calls[k], i, -1, 0);
        }
    }
    mrc_ctx_free(ctx);
    mrc_backend_free(be);
    folder_end();
    return test_end();
}
