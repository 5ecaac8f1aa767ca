// The reader as a whole, with random weights on the demo's questions: evaluation gives the same
// figures in any order of windows and the scripts' figures of the same answers; questions from a
// caller's memory are checked before they are read.
#define TEST_LINKED
#include "../support/cases.h"

static mrc_backend *be;
static mrc_ctx *ctx;
static mrc_tokenizer *tok;
static mrc_dataset *set;
static mrc_model *model;

// The demo's first 60 held-out questions, every third without an answer.
static int setup(void) {
    mrc_dataset *all = NULL;
    mrc_example list[60];
    mrc_model_config config;
    int ok = mrc_backend_cpu_new(&be, NULL) == MRC_OK
        && mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK
        && mrc_tokenizer_load(ctx, &tok, "data") == MRC_OK
        && mrc_dataset_load(ctx, &all, "data/validation.jsonl") == MRC_OK
        && mrc_model_config_load(ctx, &config, "data/config.json") == MRC_OK
        && mrc_model_new(ctx, &model, &config, MRC_DTYPE_F32, 7) == MRC_OK;
    for (size_t i = 0; ok && i < 60; i++) {
        list[i] = *mrc_dataset_at(all, i);
        if (i % 3 == 2) list[i].n_answers = 0;
    }
    if (ok) ok = mrc_dataset_new(ctx, &set, list, 60) == MRC_OK;
    mrc_dataset_free(all);
    return CHECK(ok, "%s", ctx ? mrc_ctx_message(ctx) : "no backend");
}

static int same(double a, double b) { return memcmp(&a, &b, sizeof a) == 0; }

//==============================================================================
// Evaluation
//==============================================================================
typedef struct answers { mrc_decode_config decode; mrc_metric metric; double exact, f1; size_t n; }
    answers;

// What evaluate makes of the file that predict makes of these spans.
static mrc_status score(mrc_ctx *c, void *user, const mrc_example *e, const mrc_span *spans,
                        size_t n) {
    answers *a = user;
    size_t bytes;
    double exact, f1;
    mrc_text room;
    mrc_text_init(&room, c);
    const mrc_span *best = mrc_decode_answer(&a->decode, spans, n, NULL);
    const char *text = mrc_span_text(best, e, &room, &bytes);
    mrc_status s = mrc_metric_score(c, a->metric, text, bytes, e->answers, e->n_answers, &exact,
                                    &f1);
    a->exact += exact;
    a->f1 += f1;
    a->n++;
    mrc_text_free(&room);
    return s;
}

static void test_evaluate(void) {
    mrc_features f;
    mrc_features_config fc = mrc_features_config_default();
    size_t longest = 0, shortest = SIZE_MAX;
    fc.max_seq_length = 48;                     // several windows of most passages
    fc.doc_stride = 8;
    if (!CHECK(mrc_features_new(ctx, &f, set, tok, &fc) == MRC_OK, "%s", mrc_ctx_message(ctx))) {
        return;
    }
    for (size_t i = 0; i < f.n; i++) {
        size_t length = (size_t)f.list[i].length;
        longest = length > longest ? length : longest;
        shortest = length < shortest ? length : shortest;
    }
    CHECK(f.n > 80 && shortest < longest, "%zu windows of %zu to %zu", f.n, shortest, longest);
    for (int kind = 0; kind < 3; kind++) {
        for (int metric = 0; metric < 4; metric++) {
            mrc_eval_result r[2];
            answers a = { .decode = mrc_decode_config_default(), .metric = (mrc_metric)metric };
            a.decode.kind = (mrc_decode_kind)kind;
            a.decode.version_2_with_negative = metric >= 2;
            a.decode.null_score_diff_threshold = metric == 3 ? -0.05 : 0;
            for (int by_length = 0; by_length < 2; by_length++) {
                mrc_eval_desc desc = { .predict = { .features = &f, .batch_size = 7,
                                                    .by_length = by_length },
                                       .dataset = set, .metric = a.metric, .decode = &a.decode,
                                       .tokenizer = tok, .answer = score, .user = &a };
                a.exact = a.f1 = 0;
                a.n = 0;
                CHECK(mrc_evaluate(ctx, model, &desc, &r[by_length]) == MRC_OK, "%s",
                      mrc_ctx_message(ctx));
            }
            CHECK(memcmp(&r[0], &r[1], sizeof r[0]) == 0, "kind %d, metric %d: windows by length: "
                  "%.17g %.17g, in order %.17g %.17g", kind, metric, r[1].exact_match, r[1].f1,
                  r[0].exact_match, r[0].f1);
            CHECK(a.n == 60 && r[0].n_questions == 60
                  && same(r[0].exact_match, 100.0 * a.exact / 60)
                  && same(r[0].f1, 100.0 * a.f1 / 60), "kind %d, metric %d: %.17g %.17g", kind,
                  metric, r[0].exact_match, r[0].f1);
            CHECK(r[0].answerable.total == 40 && r[0].unanswerable.total == 20, "%zu and %zu",
                  r[0].answerable.total, r[0].unanswerable.total);
            // The best threshold is no worse than this one.
            CHECK(metric != 2 || kind == MRC_DECODE_PIPELINE
                  || (r[0].best_f1 >= r[0].f1 && r[0].best_exact >= r[0].exact_match),
                  "best %g of %g", r[0].best_f1, r[0].f1);
        }
    }
    mrc_features_free(&f);
}

// A question without room for a passage is one that has no answer, not one that is not counted.
static void test_no_window(void) {
    mrc_features f;
    mrc_features_config fc = mrc_features_config_default();
    mrc_dataset *d = NULL;
    mrc_eval_result r = {0};
    mrc_decode_config decode = mrc_decode_config_default();
    static char words[400];
    for (size_t i = 0; i + 1 < sizeof words; i++) words[i] = i % 2 ? ' ' : '?';
    mrc_example list[2] = { { .context = "ab.", .context_bytes = 3, .question = "ab?",
                              .question_bytes = 3 },
                            { .context = "ab.", .context_bytes = 3, .question = words,
                              .question_bytes = sizeof words - 1 } };
    fc.max_seq_length = 32;
    fc.doc_stride = 4;
    CHECK(mrc_dataset_new(ctx, &d, list, 2) == MRC_OK
          && mrc_features_new(ctx, &f, d, tok, &fc) == MRC_OK && f.n == 1 && f.rows == 2, "%s",
          mrc_ctx_message(ctx));
    decode.version_2_with_negative = 1;
    decode.null_score_diff_threshold = -1000;   // "" whenever there is a choice
    mrc_eval_desc desc = { .predict = { .features = &f, .batch_size = 2 }, .dataset = d,
                           .metric = MRC_METRIC_SQUAD_V2, .decode = &decode };
    CHECK(mrc_evaluate(ctx, model, &desc, &r) == MRC_OK && r.n_questions == 2
          && r.unanswerable.total == 2, "%s", mrc_ctx_message(ctx));
    mrc_features_free(&f);
    mrc_dataset_free(d);
}

static void test_sizes(void) {
    mrc_features f;
    mrc_features_config fc = mrc_features_config_default();
    mrc_eval_result r;
    mrc_decode_config decode = mrc_decode_config_default();
    CHECK(mrc_features_new(ctx, &f, set, tok, &fc) == MRC_OK, "%s", mrc_ctx_message(ctx));
    static const size_t sizes[] = { 0, SIZE_MAX / 2, SIZE_MAX };
    for (size_t i = 0; i < 3; i++) {
        decode.n_best_size = sizes[i];
        mrc_eval_desc desc = { .predict = { .features = &f, .batch_size = 8 }, .dataset = set,
                               .decode = &decode };
        CHECK(mrc_evaluate(ctx, model, &desc, &r) == MRC_ERR_ARG
              && strstr(mrc_ctx_message(ctx), "n_best_size"), "%s", mrc_ctx_message(ctx));
        mrc_ctx_clear_error(ctx);
        mrc_reader *reader;
        CHECK(mrc_reader_new(ctx, &reader, "memory",
                             &(mrc_reader_desc){ .model = model, .tokenizer = tok,
                                                 .decode = &decode }) == MRC_ERR_ARG && !reader,
              "n_best_size %zu", sizes[i]);
        mrc_ctx_clear_error(ctx);
    }
    // Features of another data set are found out.
    mrc_dataset *one = NULL;
    CHECK(mrc_dataset_subset(ctx, &one, set, (const size_t[]){ 0 }, 1) == MRC_OK, "subset");
    mrc_eval_desc other = { .predict = { .features = &f, .batch_size = 8 }, .dataset = one };
    CHECK(mrc_evaluate(ctx, model, &other, &r) == MRC_ERR_ARG
          && strstr(mrc_ctx_message(ctx), "another dataset"), "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    mrc_dataset_free(one);
    mrc_features_free(&f);
}

//==============================================================================
// Answers to questions in memory
//==============================================================================
static mrc_status ignore(mrc_ctx *c, void *user, const mrc_feature *f, const float *start,
                         const float *end) {
    (void)c; (void)user; (void)f; (void)start; (void)end;
    return MRC_OK;
}

static void test_answers(void) {
    mrc_reader *reader = NULL;
    mrc_reply reply[3];
    mrc_reader_desc desc = { .model = model, .tokenizer = tok };
    if (!CHECK(mrc_reader_new(ctx, &reader, "memory", &desc) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) return;
    // Only question and context are read: what the rest points to is nobody's.
    mrc_example x[3];
    for (int i = 0; i < 3; i++) {
        const mrc_example *from = mrc_dataset_at(set, (size_t)i);
        x[i] = (mrc_example){ .context = from->context, .context_bytes = from->context_bytes,
                              .question = from->question, .question_bytes = from->question_bytes,
                              .answers = (mrc_answer *)(uintptr_t)16, .n_answers = 3 };
    }
    CHECK(mrc_reader_answer(reader, x, 3, reply) == MRC_OK && reply[2].n_spans > 0, "%s",
          mrc_ctx_message(ctx));
    CHECK(mrc_reader_answer(reader, NULL, 0, NULL) == MRC_OK, "no question");
    CHECK(mrc_reader_answer(reader, NULL, 1, reply) == MRC_ERR_ARG, "no list");
    mrc_ctx_clear_error(ctx);
    // Bytes that are no text shift every place after them: refused, and the example is named.
    static const char *const bad[] = { ("\x80\x80\x80\x80" "abc def ghi"), "ab\xed\xa0\x80",
                                       "ab\xf4\x90\x80\x80", "ab\xc3" };
    for (size_t i = 0; i < 4; i++) {
        for (int k = 0; k < 2; k++) {
            mrc_example y[2] = { x[0], x[1] };
            *(k ? &y[1].context : &y[1].question) = bad[i];
            *(k ? &y[1].context_bytes : &y[1].question_bytes) = strlen(bad[i]);
            CHECK(mrc_reader_answer(reader, y, 2, reply) == MRC_ERR_ARG
                  && strstr(mrc_ctx_message(ctx), "example 1") && strstr(mrc_ctx_message(ctx),
                  k ? "context" : "question"), "text %zu: %s", i, mrc_ctx_message(ctx));
            mrc_ctx_clear_error(ctx);
        }
    }
    x[2].context = NULL;
    CHECK(mrc_reader_answer(reader, x, 3, reply) == MRC_ERR_ARG
          && strstr(mrc_ctx_message(ctx), "example 2"), "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    mrc_reader_free(reader);
}

// A length that no list has is refused before the list is read.
static void test_lengths(void) {
    mrc_reader *reader = NULL;
    mrc_reply reply;
    mrc_example x = *mrc_dataset_at(set, 0);
    mrc_reader_desc desc = { .model = model, .tokenizer = tok };
    CHECK(mrc_reader_new(ctx, &reader, "memory", &desc) == MRC_OK, "%s", mrc_ctx_message(ctx));
    static const size_t lengths[] = { (size_t)INT32_MAX + 1, SIZE_MAX / sizeof(mrc_example),
                                      SIZE_MAX };
    mrc_features f = { .list = (mrc_feature *)(uintptr_t)16 };
    mrc_predict_desc predict = { .features = &f, .batch_size = 1, .fn = ignore };
    for (size_t i = 0; i < 3; i++) {
        mrc_dataset *d = NULL;
        mrc_batch_plan plan;
        mrc_batch batch;
        mrc_vote vote;
        const mrc_feature *const none = NULL;
        const size_t n = lengths[i];
        const mrc_votes votes = { .list = &vote, .n = n };
        f.n = n;
        CHECK(mrc_reader_answer(reader, &x, n, &reply) == MRC_ERR_ARG, "answer %zu", n);
        CHECK(mrc_dataset_new(ctx, &d, &x, n) == MRC_ERR_ARG && !d, "dataset %zu", n);
        CHECK(mrc_dataset_subset(ctx, &d, set, &n, n) == MRC_ERR_ARG && !d, "subset %zu", n);
        CHECK(mrc_predict(ctx, model, &predict) == MRC_ERR_ARG, "predict %zu", n);
        CHECK(mrc_batch_plan_new(ctx, &plan, &f, MRC_BATCHING_SORTED, 1, 0, 0) == MRC_ERR_ARG,
              "plan %zu", n);
        CHECK(mrc_model_batch(ctx, model, &batch, &none, n, 0) == MRC_ERR_ARG, "batch %zu", n);
        CHECK(mrc_ensemble_vote(ctx, MRC_ENSEMBLE_HARD_VOTE, &votes, 1, NULL, &vote)
              == MRC_ERR_ARG && mrc_ensemble_vote(ctx, MRC_ENSEMBLE_HARD_VOTE, &votes, n, NULL,
                                                  &vote) == MRC_ERR_ARG, "votes %zu", n);
        CHECK(strstr(mrc_ctx_message(ctx), "answer"), "%s", mrc_ctx_message(ctx));
        mrc_ctx_clear_error(ctx);
    }
    mrc_dataset *d = NULL;
    mrc_example named = x;
    named.answers = NULL;
    named.n_answers = 0;
    named.title = "\xff";
    CHECK(mrc_dataset_new(ctx, &d, &named, 1) == MRC_ERR_ARG, "a title that is not UTF-8");
    mrc_ctx_clear_error(ctx);
    mrc_reader_free(reader);
}

// The same answers from each decoder as over features, through the reader.
static void test_kinds(void) {
    mrc_example x = *mrc_dataset_at(set, 0);
    mrc_features_config features = mrc_features_config_default();
    features.max_seq_length = 64;
    features.doc_stride = 16;
    for (int kind = 0; kind < 3; kind++) {
        mrc_decode_config decode = mrc_decode_config_default();
        mrc_reader *reader = NULL;
        mrc_reply reply;
        mrc_span out[21];
        size_t n = 0;
        decode.kind = (mrc_decode_kind)kind;
        mrc_reader_desc desc = { .model = model, .tokenizer = tok, .decode = &decode,
                                 .features = &features };
        CHECK(mrc_reader_new(ctx, &reader, "memory", &desc) == MRC_OK
              && mrc_reader_answer(reader, &x, 1, &reply) == MRC_OK && reply.n_windows > 0, "%s",
              mrc_ctx_message(ctx));
        mrc_decode_input in = { reply.windows, reply.n_windows, &x, tok };
        CHECK(mrc_decode(ctx, &decode, &in, out, 21, &n) == MRC_OK && n == reply.n_spans
              && !memcmp(&out[0].begin, &reply.spans[0].begin, 2 * sizeof(int32_t)), "kind %d",
              kind);
        mrc_reader_free(reader);
    }
}

int main(void) {
    if (setup()) {
        test_evaluate();
        test_no_window();
        test_sizes();
        test_answers();
        test_lengths();
        test_kinds();
    }
    mrc_dataset_free(set);
    mrc_tokenizer_free(tok);
    mrc_ctx_free(ctx);
    mrc_model_free(model);
    mrc_backend_free(be);
    return test_end();
}
