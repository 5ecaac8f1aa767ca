// Training for retrieval: what the files say, which questions go together, the gradients of a step.
// tags: threads
#define TEST_LINKED
#include "../support/folder.h"

static mrc_backend *be;
static mrc_ctx *ctx;

//==============================================================================
// Files
//==============================================================================
// The set as text: "question: +positive -negative; ..".
static const char *pairs_text(const mrc_pairs *p) {
    static char out[2048];
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < mrc_pairs_size(p); i++) {
        const mrc_pair *x = mrc_pairs_at(p, i);
        at += (size_t)snprintf(out + at, sizeof out - at, "%s%s:", i ? "; " : "", x->text);
        for (size_t k = 0; k < x->n_positives; k++) {
            const mrc_passage *t = mrc_pairs_passage(p, x->positives[k]);
            at += (size_t)snprintf(out + at, sizeof out - at, " +%s%s%s", t->title,
                                   *t->title ? "/" : "", t->text);
        }
        for (size_t k = 0; k < x->n_negatives; k++) {
            at += (size_t)snprintf(out + at, sizeof out - at, " -%s",
                                   mrc_pairs_passage(p, x->negatives[k])->text);
        }
        for (size_t k = 0; x->scores && k <= x->n_negatives; k++) {
            at += (size_t)snprintf(out + at, sizeof out - at, " %g", x->scores[k]);
        }
        if (!isnan(x->label)) at += (size_t)snprintf(out + at, sizeof out - at, " =%g", x->label);
    }
    return out;
}

typedef struct pairs_case { const char *why, *text, *want, *wrong; } pairs_case;
static const pairs_case pairs_cases[] = {
    { "squad", "{\"data\": [{\"title\": \"T\", \"paragraphs\": [{\"context\": \"c one\", \"qas\": "
      "[{\"id\": \"1\", \"question\": \"q1\", \"answers\": [{\"text\": \"one\", \"answer_start\": "
      "2}]}, {\"id\": \"2\", \"question\": \"q2\", \"answers\": []}]}]}]}",
      "q1: +c one; q2: +c one", NULL },
    { "dpr", "[{\"question\": \"q\", \"answers\": [\"a\"], \"positive_ctxs\": [{\"title\": \"t\", "
      "\"text\": \"p\"}], \"negative_ctxs\": [{\"title\": \"\", \"text\": \"n\"}], "
      "\"hard_negative_ctxs\": []}, {\"question\": \"r\", \"positive_ctxs\": []}]",
      "q: +t/p -n", NULL },
    { "columns", "{\"anchor\": \"a\", \"positive\": \"p\", \"negative\": \"n\", \"negative_2\": "
      "\"m\"}\n{\"anchor\": \"b\", \"positive\": \"p\", \"negative\": \"p\"}\n",
      "a: +p -n -m; b: +p", NULL },
    { "grades", "{\"sentence1\": \"a\", \"sentence2\": \"p\", \"label\": 0.5}\n"
      "{\"sentence1\": \"b\", \"sentence2\": \"q\", \"score\": 1}", "a: +p =0.5; b: +q =1", NULL },
    { "scores", "{\"query\": \"a\", \"positive\": \"p\", \"negative\": \"n\", \"scores\": [3, 1]}",
      "a: +p -n 3 1", NULL },
    { "flag", "{\"query\": \"a\", \"pos\": [\"p\", \"o\"], \"neg\": [\"n\", \"p\"], \"pos_scores\":"
      " [5, 4], \"neg_scores\": [2, 1]}", "a: +p +o -n 5 2", NULL },
    { "tevatron", "{\"query_id\": \"7\", \"query\": \"a\", \"positive_passages\": [{\"docid\": "
      "\"1\", \"title\": \"t\", \"text\": \"p\"}], \"negative_passages\": [{\"docid\": \"2\", "
      "\"title\": \"\", \"text\": \"n\"}]}", "a: +t/p -n", NULL },
    { "triples of texts", "a\tp\tn\nb\t\"p\tm\n", "a: +p -n; b: +\"p -m", NULL },
    { "more passages than eight", "a\tp\t1\t2\t3\t4\t5\t6\t7\t8\t9\r\n\r\nb\t\tm\n",
      "a: +p -1 -2 -3 -4 -5 -6 -7 -8 -9; b: + -m", NULL },
    { "no passage", "a\tp\nb\n", NULL, "t.json:2: found 1 field" },
    { "no question", "{\"x\": 1}\n{\"x\": 2}\n", NULL, ":1:1: found a row without a question" },
    { "nothing", "{\"query\": \"a\", \"pos\": []}", NULL, "no question has a passage" },
};

static void test_files(void) {
    for (size_t i = 0; i < sizeof pairs_cases / sizeof *pairs_cases; i++) {
        const pairs_case *c = &pairs_cases[i];
        mrc_pairs *p;
        mrc_pairs_desc desc = { .path = file_new("t.json", c->text) };
        mrc_status s = mrc_pairs_load(ctx, &p, &desc);
        if (c->want) {
            CHECK(s == MRC_OK, "%s: %s", c->why, message);
            const char *found = s == MRC_OK ? pairs_text(p) : "";
            CHECK(!strcmp(found, c->want), "%s: %s", c->why, found);
        } else {
            CHECK(s != MRC_OK && strstr(message, c->wrong), "%s: %s", c->why, message);
        }
        mrc_pairs_free(p);
        mrc_ctx_clear_error(ctx);
    }
}

// What a row cannot keep is told.
static void test_left_out(void) {
    static char line[16384];
    size_t n = (size_t)snprintf(line, sizeof line, "a\tp");
    mrc_pairs *p;
    for (int i = 0; i < 1030; i++) n += (size_t)snprintf(line + n, sizeof line - n, "\tn%d", i);
    mrc_pairs_desc desc = { .path = file_new("long.tsv", line) };
    CHECK(mrc_pairs_load(ctx, &p, &desc) == MRC_OK, "%s", message);
    CHECK(mrc_pairs_at(p, 0)->n_negatives == 1024 && strstr(message, "6 passages are left out"),
          "%zu negatives: %s", mrc_pairs_at(p, 0)->n_negatives, message);
    mrc_pairs_free(p);
}

// Ids of other files: qrels, negatives of a run, a teacher, triples.
static void test_ids(void) {
    mrc_pairs *p;
    mrc_pairs_desc desc = {
        .path = file_new("q.jsonl", "{\"_id\": \"q1\", \"text\": \"one\"}\n{\"_id\": \"q2\", "
                         "\"text\": \"two\"}\n{\"_id\": \"q3\", \"text\": \"three\"}\n"),
        .passages = file_new("c.jsonl", "{\"_id\": \"d1\", \"title\": \"\", \"text\": \"A\"}\n"
                             "{\"_id\": \"d2\", \"title\": \"\", \"text\": \"B\"}\n"
                             "{\"_id\": \"d3\", \"title\": \"\", \"text\": \"C\"}\n"),
        .qrels = file_new("r.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td3\t1\nq2\td2\t2\n"
                          "q2\td1\t0\n"),
        .negatives = file_new("n.run", "q1 Q0 d3 1 9.5 x\nq1 Q0 d2 2 9 x\nq2 Q0 d2 1 3 x\n"
                              "q2 Q0 d3 2 1e0 x\n") };
    CHECK(mrc_pairs_load(ctx, &p, &desc) == MRC_OK, "qrels: %s", message);
    CHECK(!strcmp(pairs_text(p), "one: +A +C -B; two: +B -C"), "qrels: %s", pairs_text(p));
    CHECK(mrc_pairs_rows(p) == 3, "%zu rows", mrc_pairs_rows(p));
    mrc_pairs_free(p);
    desc.teacher = file_new("t.run", "q1 Q0 d1 1 2 t\nq1 Q0 d2 2 -1 t\nq2 Q0 d2 1 5 t\n");
    CHECK(mrc_pairs_load(ctx, &p, &desc) == MRC_OK, "teacher: %s", message);
    CHECK(!strcmp(pairs_text(p), "one: +A +C -B 2 -1; two: +B 5"), "teacher: %s", pairs_text(p));
    mrc_pairs_free(p);
    desc = (mrc_pairs_desc){ .path = file_new("tr.jsonl", "[\"q1\", \"d1\", \"d2\"]\n"
                                              "[\"q2\", [\"d2\", 4.5], [\"d3\", 1]]\n"),
                             .queries = file_new("q.jsonl", "{\"id\": \"q1\", \"text\": \"one\"}\n"
                                                 "{\"id\": \"q2\", \"text\": \"two\"}\n"),
                             .passages = desc.passages };
    CHECK(mrc_pairs_load(ctx, &p, &desc) == MRC_OK, "triples: %s", message);
    CHECK(!strcmp(pairs_text(p), "one: +A -B; two: +B -C 4.5 1"), "triples: %s", pairs_text(p));
    mrc_pairs_free(p);
}

// Ranks and numbers of negatives without a bound are all that there are, and cost no more.
static void test_bounds(void) {
    mrc_pairs *p;
    mrc_pair_plan plan;
    char *run = malloc(200000), *at = run, *corpus = malloc(400000), *to = corpus;
    for (int i = 0; i < 3000; i++) {
        at += sprintf(at, "q1 Q0 d%d %d %d x\n", i, i + 1, 9000 - i);
        to += sprintf(to, "{\"_id\": \"d%d\", \"title\": \"\", \"text\": \"text %d\"}\n", i, i);
    }
    mrc_pairs_desc desc = {
        .path = file_new("q.jsonl", "{\"_id\": \"q1\", \"text\": \"one\"}\n"),
        .passages = file_new("c.jsonl", corpus), .qrels = file_new("r.tsv", "q1 0 d0 1\n"),
        .negatives = file_new("n.run", run) };
    free(run);
    free(corpus);
    for (int i = 0; i < 2; i++) {
        desc.last_rank = i ? SIZE_MAX : SIZE_MAX / 4 + 1;
        if (!CHECK(mrc_pairs_load(ctx, &p, &desc) == MRC_OK, "all ranks: %s", message)) return;
        CHECK(mrc_pairs_at(p, 0)->n_negatives == 2999, "%zu negatives",
              mrc_pairs_at(p, 0)->n_negatives);
        CHECK(mrc_pairs_plan(ctx, &plan, p, 4, SIZE_MAX, 1, 0) == MRC_OK && plan.n_batches == 1,
              "all negatives: %s", message);
        mrc_pair_plan_free(&plan);
        mrc_pairs_free(p);
    }
}

// What is behind a zero byte is not left out in silence.
static void test_zero_bytes(void) {
    static const char triples[] = "a\tp\tn\n\0\nb\tq\tm\n", run[] = "q1 0 d1 1\n\0\nq1 0 d2 1\n";
    mrc_pairs *p;
    mrc_pairs_desc desc = { .path = bytes_new("t.tsv", triples, sizeof triples - 1) };
    CHECK(mrc_pairs_load(ctx, &p, &desc) == MRC_ERR_FORMAT
          && strstr(message, "t.tsv: is no text (found a zero byte at offset 6)"), "triples: %s",
          message);
    mrc_ctx_clear_error(ctx);
    desc = (mrc_pairs_desc){
        .path = file_new("q.jsonl", "{\"_id\": \"q1\", \"text\": \"one\"}\n"),
        .passages = file_new("c.jsonl", "{\"_id\": \"d1\", \"text\": \"A\"}\n"
                             "{\"_id\": \"d2\", \"text\": \"B\"}\n"),
        .qrels = bytes_new("r.tsv", run, sizeof run - 1) };
    CHECK(mrc_pairs_load(ctx, &p, &desc) == MRC_ERR_FORMAT && strstr(message, "r.tsv: is no text"),
          "qrels: %s", message);
    mrc_ctx_clear_error(ctx);
}

//==============================================================================
// The planner
//==============================================================================
// Questions over few golds, some with two positives: 2,000 of them, with negatives.
static mrc_pairs *pairs_new(size_t n, size_t golds) {
    char *text = malloc(n * 200 + 1), *at = text;
    mrc_pairs *p;
    for (size_t i = 0; i < n; i++) {
        size_t g = i % golds, h = (i * 7 + 3) % golds, k = (i * 5 + 1) % golds;
        at += sprintf(at, "{\"query\": \"what is %zu\", \"pos\": [\"passage %zu of it\"", i, g);
        if (i % 3 == 0 && h != g) at += sprintf(at, ", \"passage %zu of it\"", h);
        at += sprintf(at, "], \"neg\": [\"passage %zu of it\", \"other %zu\"]}\n", k, i % 50);
    }
    mrc_pairs_desc desc = { .path = file_new("many.jsonl", text) };
    CHECK(mrc_pairs_load(ctx, &p, &desc) == MRC_OK, "many: %s", message);
    free(text);
    return p;
}

static void test_plan(void) {
    mrc_pairs *p = pairs_new(2000, 60);
    for (uint32_t epoch = 0; epoch < 2; epoch++) {
        mrc_pair_plan plan;
        size_t seen[2000] = { 0 }, clashes = 0, missing = 0;
        CHECK(mrc_pairs_plan(ctx, &plan, p, 16, 0, 42, epoch) == MRC_OK, "plan");
        for (size_t b = 0; b < plan.n_batches; b++) {
            CHECK(plan.begin[b + 1] - plan.begin[b] <= 16 && plan.begin[b + 1] > plan.begin[b],
                  "step %zu has %zu questions", b, plan.begin[b + 1] - plan.begin[b]);
            for (size_t i = plan.begin[b]; i < plan.begin[b + 1]; i++) {
                const mrc_pair *x = mrc_pairs_at(p, plan.query[i]);
                seen[plan.query[i]]++;
                for (size_t j = plan.begin[b]; j < plan.begin[b + 1]; j++) {
                    uint32_t gold = mrc_pairs_at(p, plan.query[j])->positives[0];
                    for (size_t k = 1; k < x->n_positives; k++) clashes += x->positives[k] == gold;
                }
            }
        }
        for (size_t i = 0; i < mrc_pairs_size(p); i++) missing += seen[i] != 1;
        CHECK(!missing && !clashes, "%zu questions not once, %zu clashes", missing, clashes);
        mrc_pair_plan_free(&plan);
    }
    mrc_pairs_free(p);
}

//==============================================================================
// A step
//==============================================================================
static mrc_model_config small(mrc_head_type head) {
    mrc_model_config c;
    CHECK(mrc_model_config_load(ctx, &c, "data/config.json") == MRC_OK, "config: %s", message);
    c.hidden_size = 32;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.intermediate_size = 48;
    c.embedding_size = 0;
    c.head = head;
    c.encoder = (mrc_encoder_config){ .poolings = head == MRC_HEAD_POOL
                                                  ? 1u << MRC_POOLING_MEAN : 0, .normalize = 1,
                                      .num_labels = 1, .classifier_dropout = -1,
                                      .query_max_length = 24, .passage_max_length = 32 };
    if (head == MRC_HEAD_TOKENS) c.encoder.projection_size = 16;
    return c;
}

// SGD at a rate of 2^100 makes a weight -2^100 times its gradient, with all of its bits.
static const double all_bits = 0x1p100;

typedef struct trained {
    mrc_ctx       *outer;               // gradients are found by address: a context a model
    mrc_model     *m;
    mrc_encoder   *e;
    mrc_optimizer *o;
} trained;

static trained trained_new(mrc_head_type head) {
    mrc_model_config c = small(head);
    trained t = { .outer = ctx };
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    oc.variant = MRC_SGD;
    oc.momentum = 0;
    oc.max_grad_norm = 0;
    oc.weight_decay = 0;
    mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .log = keep_message });
    CHECK(mrc_model_new(ctx, &t.m, &c, MRC_DTYPE_F32, 3) == MRC_OK, "model: %s", message);
    mrc_encoder_desc desc = { .config = &c, .model = t.m };
    CHECK(mrc_encoder_new(ctx, &t.e, "data", &desc) == MRC_OK, "encoder: %s", message);
    CHECK(mrc_optimizer_new(ctx, &t.o, t.m->params, &oc) == MRC_OK, "optimizer");
    return t;
}

// The gradients of a step that was just made; how many numbers.
static size_t trained_end(trained *t, float *out) {
    size_t count = 0;
    mrc_tensor *w;
    for (size_t i = 0; (w = mrc_params_at(t->m->params, i)) != NULL; i++) {
        mrc_tensor_download(ctx, w, out + count);
        count += w->numel;
    }
    for (size_t k = 0; k < count; k++) out[k] /= -(float)all_bits;
    mrc_encoder_free(t->e);
    mrc_ctx_free(ctx);
    mrc_optimizer_free(t->o);
    mrc_model_free(t->m);
    ctx = t->outer;
    return count;
}

static mrc_random step_random(void) { return (mrc_random){ 9, 4, 0 }; }

// The gradients of one step into out, and its loss; count: how many numbers.
static size_t gradients_of(mrc_head_type head, const mrc_pairs *p, size_t n, size_t micro,
                           size_t negatives, mrc_contrastive_loss loss, float *out,
                           double *value) {
    trained t = trained_new(head);
    mrc_step_result result;
    uint32_t queries[256];
    for (size_t i = 0; i < n; i++) queries[i] = (uint32_t)i;
    mrc_contrastive_desc d = { .pairs = p, .queries = queries, .n = n, .micro_batch = micro,
                               .num_negatives = negatives, .loss = loss, .lr = all_bits,
                               .random = step_random(), .forward = mrc_forward_config_default() };
    d.forward.dropout = 1;
    CHECK(mrc_contrastive_step(t.e, t.o, &d, &result) == MRC_OK, "step: %s", message);
    *value = result.loss;
    return trained_end(&t, out);
}

static double far_apart(const float *a, const float *b, size_t n) {
    double most = 0, apart = 0;
    for (size_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)a[i]));
        apart = fmax(apart, fabs((double)a[i] - (double)b[i]));
    }
    return most > 0 ? apart / most : HUGE_VAL;
}

static void test_caching(void) {
    mrc_pairs *p = pairs_new(40, 20);
    float *a = malloc(sizeof *a * 4000000), *b = malloc(sizeof *b * 4000000);
    static const mrc_head_type heads[] = { MRC_HEAD_POOL, MRC_HEAD_TOKENS };
    for (int k = 0; k < 2; k++) {
        double x, y;
        size_t n = gradients_of(heads[k], p, 12, 0, 2, MRC_CONTRASTIVE_INFONCE, a, &x);
        for (size_t micro = 3; micro <= 16; micro += 5) {
            gradients_of(heads[k], p, 12, micro, 2, MRC_CONTRASTIVE_INFONCE, b, &y);
            double apart = far_apart(a, b, n);
            CHECK(x == y && apart < 2e-6, "head %d, pieces of %zu: loss %.9g, %.9g, gradients "
                  "%.3g", k, micro, x, y, apart);
        }
    }
    // A cross-encoder's lists do not depend on how they are cut.
    for (int loss = MRC_CONTRASTIVE_LISTWISE; loss <= MRC_CONTRASTIVE_BCE; loss++) {
        double x, y;
        size_t n = gradients_of(MRC_HEAD_SCORE, p, 8, 0, 2, (mrc_contrastive_loss)loss, a, &x);
        gradients_of(MRC_HEAD_SCORE, p, 8, 5, 2, (mrc_contrastive_loss)loss, b, &y);
        CHECK(fabs(x - y) < 1e-6 && far_apart(a, b, n) < 1e-5, "loss %d: %.9g, %.9g, %.3g", loss, x,
              y, far_apart(a, b, n));
    }
    double x, y;
    gradients_of(MRC_HEAD_POOL, p, 6, 0, 2, MRC_CONTRASTIVE_SYMMETRIC, a, &x);
    gradients_of(MRC_HEAD_POOL, p, 6, 0, 2, MRC_CONTRASTIVE_LISTWISE, a, &y);
    CHECK(x > 0 && y > 0 && isfinite(x + y), "symmetric %g, listwise %g", x, y);
    free(a);
    free(b);
    mrc_pairs_free(p);
}

//==============================================================================
// Gradient caching against one tape of the same pieces: the same bits
//
// Everything here is made with the public functions, without the step: features, forward passes of
// pieces, their rows one behind the other, similarities, loss, one backward.
//==============================================================================
typedef struct text_set {
    mrc_encodings *encoding;
    mrc_feature   *feature;
    size_t         n, rows;
} text_set;

static text_set texts_new(mrc_tokenizer *tok, const mrc_pairs *p, int side, const uint32_t *list,
                       size_t n) {
    text_set t = { calloc(n, sizeof *t.encoding), calloc(n, sizeof *t.feature), n, 0 };
    for (size_t i = 0; i < n; i++) {
        const char *text = side ? mrc_pairs_passage(p, list[i])->text
                                : mrc_pairs_at(p, list[i])->text;
        mrc_tokenizer_encode(ctx, tok, &t.encoding[i], text, strlen(text), NULL, 0, NULL);
        const mrc_encoding *x = &t.encoding[i].list[0];
        t.feature[i] = (mrc_feature){ .length = (int32_t)x->n, .real_len = (int32_t)x->n,
                                      .input_ids = x->input_ids,
                                      .token_type_ids = x->token_type_ids };
        t.rows += x->n;
    }
    return t;
}

static void texts_free(text_set *t) {
    for (size_t i = 0; i < t->n; i++) mrc_encodings_free(&t->encoding[i]);
    free(t->encoding);
    free(t->feature);
}

static mrc_status stack_backward(mrc_ctx *c, void *user, const mrc_custom_call *call) {
    const float *dy = call->dy.data;
    (void)user;
    for (size_t i = 0; i < call->n_in; i++) {
        mrc_out dx;
        mrc_status s = mrc_grad_target(c, call->in[i], &dx);
        if (s != MRC_OK || !dx.data) return MRC_ERR_ARG;
        memcpy(dx.data, dy, call->in[i]->numel * sizeof *dy);
        dy += call->in[i]->numel;
    }
    return MRC_OK;
}

// The pieces' rows, one behind the other.
static mrc_tensor *pieces(mrc_model *m, const text_set *t, size_t first_index, size_t micro,
                          mrc_batch *batches) {
    static const mrc_custom_desc stack = { .name = "stack", .backward = stack_backward };
    mrc_forward_config forward = mrc_forward_config_default();
    mrc_tensor *part[64];
    size_t n_parts = 0, shape[2] = { 0, 0 };
    forward.dropout = 1;
    for (size_t first = 0; first < t->n; first += micro, n_parts++) {
        const mrc_feature *list[64];
        size_t n = t->n - first < micro ? t->n - first : micro;
        for (size_t i = 0; i < n; i++) list[i] = &t->feature[first + i];
        CHECK(mrc_model_batch(ctx, m, &batches[n_parts], list, n, first_index + first) == MRC_OK,
              "batch: %s", message);
        part[n_parts] = mrc_model_forward(ctx, m, &batches[n_parts], &forward);
        if (!CHECK(part[n_parts], "forward: %s", message)) return NULL;
        shape[0] += part[n_parts]->shape[0];
        shape[1] = part[n_parts]->shape[1];
    }
    mrc_tensor *out = mrc_tensor_new(ctx, MRC_DTYPE_F32, 2, shape, 0);
    float *to = out->data;
    for (size_t i = 0; i < n_parts; i++) {
        memcpy(to, part[i]->data, part[i]->numel * sizeof *to);
        to += part[i]->numel;
    }
    return mrc_custom(ctx, &stack, out, part, n_parts);
}

static mrc_tensor *uploaded(mrc_dtype dtype, size_t rows, size_t columns, const void *values) {
    const size_t shape[2] = { rows, columns };
    mrc_tensor *t = mrc_tensor_new(ctx, dtype, columns ? 2 : 1, shape, 0);
    CHECK(t && mrc_tensor_upload(ctx, t, values) == MRC_OK, "upload: %s", message);
    return t;
}

static mrc_batch spans(const text_set *t) {
    int32_t cu[257] = { 0 };
    mrc_batch b;
    for (size_t i = 0; i < t->n; i++) cu[i + 1] = cu[i] + t->feature[i].length;
    CHECK(mrc_batch_new(ctx, &b, &(mrc_batch_desc){ .n_sequences = t->n, .cu_seqlens = cu })
          == MRC_OK, "spans: %s", message);
    return b;
}

// In-batch negatives: z (passages, questions), the gold of each column.
static mrc_tensor *in_batch(mrc_tensor *z, const int32_t *gold, size_t n, double scale) {
    size_t m = z ? z->shape[0] : 0;
    float *labels = calloc(m * n + 1, sizeof *labels), counts[256];
    for (size_t i = 0; i < n; i++) labels[(size_t)gold[i] * n + i] = 1, counts[i] = (float)n;
    mrc_tensor *l = uploaded(MRC_DTYPE_F32, m, n, labels);
    free(labels);
    return mrc_score_loss(ctx, z, l, uploaded(MRC_DTYPE_I32, n, 0, gold),
                          uploaded(MRC_DTYPE_F32, n, 0, counts),
                          &(mrc_score_loss_desc){ MRC_SCORE_LOSS_SOFT, scale, 1 });
}

static size_t one_tape(mrc_head_type head, const mrc_pairs *p, size_t n, size_t micro, float *out,
                       double *value) {
    trained t = trained_new(head);
    mrc_tokenizer *tok;
    uint32_t query[256], passage[256];
    int32_t gold[256], keep[16384];
    mrc_batch batches[2][64], side[2];
    size_t m = 0;
    float loss = NAN;
    for (size_t i = 0; i < n; i++) {
        uint32_t g = mrc_pairs_at(p, query[i] = (uint32_t)i)->positives[0];
        for (gold[i] = 0; (size_t)gold[i] < m && passage[gold[i]] != g;) gold[i]++;
        if ((size_t)gold[i] == m) passage[m++] = g;
    }
    CHECK(mrc_tokenizer_load(ctx, &tok, "data") == MRC_OK, "tokenizer: %s", message);
    text_set a = texts_new(tok, p, 0, query, n), b = texts_new(tok, p, 1, passage, m);
    mrc_ctx_set_random(ctx, step_random());
    mrc_tensor *q = pieces(t.m, &a, 0, micro, batches[0]);
    mrc_tensor *d = pieces(t.m, &b, n, micro, batches[1]), *z = NULL;
    if (head == MRC_HEAD_POOL) {
        z = mrc_matmul(ctx, d, q);
    } else {
        side[0] = spans(&a);
        side[1] = spans(&b);
        for (size_t i = 0; i < b.rows && i < 16384; i++) keep[i] = 1;
        z = mrc_maxsim(ctx, q, d, uploaded(MRC_DTYPE_I32, b.rows, 0, keep), &side[0], &side[1]);
    }
    mrc_tensor *y = in_batch(z, gold, n, head == MRC_HEAD_POOL ? 20 : 1);
    CHECK(y && mrc_tensor_download(ctx, y, &loss) == MRC_OK && mrc_backward(ctx, y, NULL) == MRC_OK
          && mrc_optimizer_step(ctx, t.o, all_bits) == MRC_OK, "one tape: %s", message);
    *value = (double)loss;
    mrc_tokenizer_free(tok);
    texts_free(&a);
    texts_free(&b);
    return trained_end(&t, out);
}

// A step of 256 questions in pieces of 16, with dropout.
static void test_cached_bits(void) {
    mrc_pairs *p = pairs_new(256, 150);
    float *part[3];
    static const mrc_head_type heads[] = { MRC_HEAD_POOL, MRC_HEAD_TOKENS };
    for (int i = 0; i < 3; i++) part[i] = malloc(sizeof *part[i] * 4000000);
    for (int k = 0; k < 2; k++) {
        double tape, cached, whole;
        size_t differ = 0, zeros = 0, n = one_tape(heads[k], p, 256, 16, part[0], &tape);
        gradients_of(heads[k], p, 256, 16, 0, MRC_CONTRASTIVE_INFONCE, part[1], &cached);
        gradients_of(heads[k], p, 256, 0, 0, MRC_CONTRASTIVE_INFONCE, part[2], &whole);
        for (size_t i = 0; i < n; i++) {
            differ += memcmp(&part[0][i], &part[1][i], sizeof(float)) != 0;
            zeros += part[0][i] == 0;
        }
        CHECK(tape == cached && !differ, "head %d: loss %.9g on one tape, %.9g cached; %zu of %zu "
              "gradients differ, by %.3g of the largest", k, tape, cached, differ, n,
              far_apart(part[0], part[1], n));
        CHECK(whole == cached && far_apart(part[2], part[1], n) < 2e-6, "head %d: loss %.9g in one "
              "packed batch, %.9g cached, gradients %.3g apart", k, whole, cached,
              far_apart(part[2], part[1], n));
        CHECK(memcmp(part[1], part[2], n * sizeof(float)) && zeros < n - 10000, "head %d: two ways "
              "to the same sums, or %zu of %zu gradients are 0", k, zeros, n);
    }
    for (int i = 0; i < 3; i++) free(part[i]);
    mrc_pairs_free(p);
}

// Several poolings stand side by side, to the bit, and learn.
static void test_poolings(void) {
    const mrc_passage texts[] = { { "", "", "what is one", 11 }, { "", "", "it", 2 } };
    const unsigned cls = 1u << MRC_POOLING_CLS, mean = 1u << MRC_POOLING_MEAN;
    const unsigned kinds[] = { cls, mean, cls | mean };
    mrc_vectors v[3];
    for (int k = 0; k < 3; k++) {
        mrc_model_config c = small(MRC_HEAD_POOL);
        mrc_model *m;
        mrc_encoder *e;
        c.encoder.poolings = kinds[k];
        c.encoder.normalize = 0;
        CHECK(mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 3) == MRC_OK, "model: %s", message);
        mrc_encoder_desc desc = { .config = &c, .model = m };
        CHECK(mrc_encoder_new(ctx, &e, "data", &desc) == MRC_OK, "encoder: %s", message);
        CHECK(mrc_encoder_encode(e, MRC_SIDE_PASSAGE, texts, 2, &v[k]) == MRC_OK, "%s", message);
        CHECK(mrc_encoder_width(e) == (k < 2 ? 32 : 64) && v[k].width == mrc_encoder_width(e),
              "kind %d is %zu wide", k, v[k].width);
        mrc_encoder_free(e);
        mrc_model_free(m);
    }
    for (size_t i = 0; i < 2; i++) {
        CHECK(!memcmp(v[2].rows + 64 * i, v[0].rows + 32 * i, 32 * sizeof(float))
              && !memcmp(v[2].rows + 64 * i + 32, v[1].rows + 32 * i, 32 * sizeof(float)),
              "text %zu: cls and mean are not side by side", i);
    }
    for (int k = 0; k < 3; k++) mrc_vectors_free(&v[k]);
}

//==============================================================================
// Directories that are written are read back the same
//==============================================================================
// A passage's title is read with it; a query's, which rows of data sets have, is not.
static void check_titles(mrc_encoder *e, int kind) {
    const mrc_passage query = { "", "", "what is it", 10 }, titled = { "", "A", "what is it", 10 };
    const mrc_passage with = { "", "A title", "it is", 5 }, without = { "", "", "it is", 5 };
    const mrc_passage *list[2] = { &with, &without };
    double plain[2] = { NAN, NAN }, other[2] = { NAN, NAN };
    CHECK(mrc_encoder_score(e, &query, list, 2, plain) == MRC_OK, "score: %s", message);
    CHECK(mrc_encoder_score(e, &titled, list, 2, other) == MRC_OK, "score: %s", message);
    CHECK(!memcmp(plain, other, sizeof plain), "kind %d: the title of a query counts", kind);
    CHECK(memcmp(&plain[0], &plain[1], sizeof plain[0]), "kind %d: the title of a passage does not "
          "count", kind);
}

static void test_directories(void) {
    static const mrc_head_type heads[] = { MRC_HEAD_POOL, MRC_HEAD_TOKENS, MRC_HEAD_SCORE };
    const mrc_passage texts[] = { { "", "", "what is one", 11 }, { "", "A title", "it is", 5 },
                                  { "", "", "", 0 } };
    for (int k = 0; k < 3; k++) {
        mrc_model_config c = small(heads[k]), back;
        mrc_model *m;
        mrc_encoder *e[2];
        mrc_vectors v[2];
        double scores[2][2];
        char path[128];
        snprintf(path, sizeof path, "%s/dir%d", folder, k);
        if (k == 0) {
            c.encoder.projection_size = 24;
            c.encoder.projection_bias = 1;
            c.encoder.projection_act = MRC_ACT_TANH;
            strcpy(c.encoder.query_prompt, "query: ");
        }
        if (k == 1) {
            c.encoder.query_expansion = 1;
            strcpy(c.encoder.skiplist, ". , ?");
        }
        CHECK(mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 5) == MRC_OK, "model: %s", message);
        CHECK(mrc_model_save(ctx, m, path, "data") == MRC_OK, "save: %s", message);
        CHECK(mrc_encoder_config_load(ctx, &back, path, MRC_HEAD_LINEAR, NULL) == MRC_OK
              && back.head == heads[k], "head %d read as %d: %s", k, (int)back.head, message);
        mrc_encoder_desc desc = { .config = &c, .model = m };
        CHECK(mrc_encoder_new(ctx, &e[0], path, &desc) == MRC_OK, "encoder: %s", message);
        CHECK(mrc_encoder_new(ctx, &e[1], path, NULL) == MRC_OK, "encoder: %s", message);
        for (int i = 0; i < 2 && k < 2; i++) {
            CHECK(mrc_encoder_encode(e[i], MRC_SIDE_QUERY, texts, 3, &v[i]) == MRC_OK, "encode: %s",
                  message);
        }
        if (k < 2) {
            CHECK(v[0].n_rows == v[1].n_rows && v[0].width == v[1].width
                  && !memcmp(v[0].rows, v[1].rows, v[0].n_rows * v[0].width * sizeof(float)),
                  "head %d: other vectors when read back (%zu, %zu rows)", k, v[0].n_rows,
                  v[1].n_rows);
            mrc_vectors_free(&v[0]);
            mrc_vectors_free(&v[1]);
        }
        const mrc_passage *list[2] = { &texts[1], &texts[0] };
        for (int i = 0; i < 2; i++) {
            CHECK(mrc_encoder_score(e[i], &texts[0], list, 2, scores[i]) == MRC_OK, "score: %s",
                  message);
        }
        CHECK(!memcmp(scores[0], scores[1], sizeof scores[0]), "head %d: other scores", k);
        check_titles(e[1], k);
        mrc_encoder_free(e[0]);
        mrc_encoder_free(e[1]);
        mrc_model_free(m);
    }
}

static void check_projection(const float want[16]) {
    static const mrc_passage text = { "", "", "what is one", 11 };
    mrc_encoder *e;
    mrc_vectors v = { 0 };
    CHECK(mrc_encoder_new(ctx, &e, path_of("projection"), NULL) == MRC_OK
          && mrc_encoder_encode(e, MRC_SIDE_PASSAGE, &text, 1, &v) == MRC_OK, "encode: %s",
          message);
    for (size_t i = 0; i < v.n_rows * v.width; i++) {
        if (CHECK(fabsf(v.rows[i] - want[i % 16]) < 1e-6f, "row %zu, column %zu: %g, not %g",
                  i / 16, i % 16, (double)v.rows[i], (double)want[i % 16])) continue;
        break;
    }
    CHECK(v.n_rows > 2 && v.width == 16, "%zu rows of %zu", v.n_rows, v.width);
    mrc_vectors_free(&v);
    mrc_encoder_free(e);
}

// A projection of token rows has the bias and the activation that its folder names, and its folder
// is the one that modules.json names: an empty 1_Dense beside it is none.
static void test_projection(void) {
    mrc_model_config c = small(MRC_HEAD_TOKENS);
    mrc_model *m;
    float weight[16 * 32] = { 0 }, bias[16], want[16];
    char from[300], to[300], *text, *name;
    size_t bytes;
    double length = 0;
    c.encoder.projection_bias = 1;
    c.encoder.projection_act = MRC_ACT_TANH;
    for (int k = 0; k < 16; k++) {
        bias[k] = (float)(k - 7) / 4;
        length += tanh(bias[k]) * tanh(bias[k]);
    }
    for (int k = 0; k < 16; k++) want[k] = (float)(tanh(bias[k]) / sqrt(length));
    CHECK(mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 5) == MRC_OK, "model: %s", message);
    mrc_tensor *w = mrc_params_find(m->params, "linear.weight");
    mrc_tensor *b = mrc_params_find(m->params, "linear.bias");
    if (!CHECK(w && b, "no %s of the projection", w ? "bias" : "weight")) return;
    mrc_tensor_upload(ctx, w, weight);
    mrc_tensor_upload(ctx, b, bias);
    CHECK(mrc_model_save(ctx, m, path_of("projection"), "data") == MRC_OK, "save: %s", message);
    mrc_model_free(m);
    check_projection(want);
    snprintf(from, sizeof from, "%s", path_of("projection/1_Dense"));
    snprintf(to, sizeof to, "%s", path_of("projection/9_Other"));
    CHECK(rename(from, to) == 0 && mrc_dir_new(ctx, from) == MRC_OK, "%s: %s", to, message);
    const char *modules = path_of("projection/modules.json");
    if (!CHECK(mrc_file_read(ctx, &text, &bytes, modules) == MRC_OK, "%s", message)) return;
    name = strstr(text, "\"1_Dense\"");
    if (CHECK(name != NULL, "%s", text)) memcpy(name, "\"9_Other", 8);
    FILE *f = fopen(modules, "w");
    CHECK(f && fwrite(text, 1, bytes, f) == bytes && fclose(f) == 0, "%s", modules);
    mrc_file_free(ctx, text);
    check_projection(want);
}

// The fingerprint tells models apart by all weights that make a passage's vector.
static uint64_t fingerprint_of(const char *path, const char *query_path) {
    const mrc_encoder_desc desc = { .query_path = query_path };
    mrc_encoder *e = NULL;
    CHECK(mrc_encoder_new(ctx, &e, path, &desc) == MRC_OK, "%s: %s", path, message);
    uint64_t fingerprint = mrc_encoder_fingerprint(e);
    mrc_encoder_free(e);
    return fingerprint;
}

// Renames a folder's weights to a shard, with an index that names it.
static void shard(const char *path, const mrc_model *m) {
    char from[300], to[300];
    const mrc_tensor *t;
    snprintf(from, sizeof from, "%s/model.safetensors", path);
    snprintf(to, sizeof to, "%s/model-00001-of-00001.safetensors", path);
    CHECK(rename(from, to) == 0, "%s", to);
    snprintf(to, sizeof to, "%s/model.safetensors.index.json", path);
    FILE *f = fopen(to, "w");
    if (!CHECK(f != NULL, "%s", to)) return;
    fprintf(f, "{\"weight_map\": {");
    for (size_t i = 0, n = 0; (t = mrc_params_at(m->params, i)) != NULL; i++) {
        if (!strncmp(t->name, "dense.linear.", 13)) continue;
        fprintf(f, "%s\"%s\": \"model-00001-of-00001.safetensors\"", n++ ? ", " : "", t->name);
    }
    fprintf(f, "}}");
    fclose(f);
}

static void test_fingerprint(void) {
    static const char *const names[] = { NULL, "dense.linear.weight",
                                         "roberta.embeddings.LayerNorm.weight" };
    mrc_model_config c = small(MRC_HEAD_POOL);
    uint64_t whole[3], shards[3], towers[3];
    char path[3][256];
    c.encoder.projection_size = 24;
    for (int i = 0; i < 3; i++) {
        mrc_model *m;
        float values[24 * 32];
        char name[16];
        snprintf(name, sizeof name, "print%d", i);
        snprintf(path[i], sizeof path[i], "%s", path_of(name));
        CHECK(mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 5) == MRC_OK, "model: %s", message);
        mrc_tensor *t = names[i] ? mrc_params_find(m->params, names[i]) : NULL;
        if (t) {
            mrc_tensor_download(ctx, t, values);
            values[3] += 1;
            mrc_tensor_upload(ctx, t, values);
        }
        CHECK(!names[i] == !t, "no %s", names[i]);
        CHECK(mrc_model_save(ctx, m, path[i], "data") == MRC_OK, "save: %s", message);
        whole[i] = fingerprint_of(path[i], NULL);
        towers[i] = fingerprint_of(path[0], path[i]);
        shard(path[i], m);
        shards[i] = fingerprint_of(path[i], NULL);
        CHECK(mrc_model_save(ctx, m, path[i], "data") == MRC_OK, "save: %s", message);
        mrc_model_free(m);
    }
    for (int i = 1; i < 3; i++) {
        CHECK(whole[i] != whole[0] && shards[i] != shards[0],
              "another %s, the same fingerprint (%d of one file, %d of shards)", names[i],
              whole[i] == whole[0], shards[i] == shards[0]);
        CHECK(towers[i] == whole[0], "the tower of questions is in the passages' fingerprint");
    }
}

// A text of no tokens, by a tokenizer without a template: the marker alone, or no row.
static void test_no_rows(void) {
    static const char json[] =
        "{\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", \"vocab\": {\"[UNK]\": 0,"
        " \"one\": 1, \"[MASK]\": 2, \"[D]\": 3}}, \"pre_tokenizer\": {\"type\":"
        " \"BertPreTokenizer\"}}";
    static const mrc_head_type heads[] = { MRC_HEAD_POOL, MRC_HEAD_TOKENS };
    const mrc_passage texts[] = { { "", "", "", 0 }, { "", "", "one", 3 } };
    mrc_tokenizer *tok;
    if (!CHECK(mrc_tokenizer_load(ctx, &tok, file_new("bare.json", json)) == MRC_OK,
               "tokenizer: %s", message)) return;
    for (int k = 0; k < 2; k++) {
        mrc_model_config c = small(heads[k]);
        mrc_model *m;
        mrc_encoder *e;
        strcpy(c.encoder.passage_marker, k ? "[D]" : "");
        CHECK(mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 5) == MRC_OK, "model: %s", message);
        const mrc_encoder_desc desc = { .config = &c, .model = m, .tokenizer = tok };
        CHECK(mrc_encoder_new(ctx, &e, "data", &desc) == MRC_OK, "encoder: %s", message);
        for (size_t n = 1; n <= 2; n++) {
            mrc_vectors v = { 0 };
            CHECK(mrc_encoder_encode(e, MRC_SIDE_PASSAGE, texts, n, &v) == MRC_OK, "head %d: %s", k,
                  message);
            CHECK(v.n_rows == (k ? 2 * n - 1 : n), "head %d: %zu rows", k, v.n_rows);
            for (size_t i = 0; i < v.n_rows * v.width; i++) {
                if (!CHECK(isfinite(v.rows[i]), "head %d: no number", k)) break;
            }
            mrc_vectors_free(&v);
            mrc_ctx_clear_error(ctx);
        }
        mrc_encoder_free(e);
        mrc_model_free(m);
    }
    mrc_tokenizer_free(tok);
}

// Two towers are one model: passages are read by the one, questions by the other, also when the
// folder that was saved is read back.
static void encode_by(const char *path, const char *query_path, mrc_side side, mrc_vectors *v) {
    const mrc_passage texts[] = { { "", "", "what is one", 11 }, { "", "", "it is", 5 } };
    const mrc_encoder_desc desc = { .query_path = query_path };
    mrc_encoder *e;
    memset(v, 0, sizeof *v);
    CHECK(mrc_encoder_new(ctx, &e, path, &desc) == MRC_OK, "encoder: %s", message);
    CHECK(mrc_encoder_encode(e, side, texts, 2, v) == MRC_OK, "encode: %s", message);
    mrc_encoder_free(e);
}

static void tower_new(char *path, const char *name, const mrc_model_config *c, uint64_t seed) {
    mrc_model *m;
    strcpy(path, path_of(name));
    CHECK(mrc_model_new(ctx, &m, c, MRC_DTYPE_F32, seed) == MRC_OK, "model: %s", message);
    CHECK(mrc_model_save(ctx, m, path, "data") == MRC_OK, "save: %s", message);
    mrc_model_free(m);
}

static void test_towers(void) {
    mrc_model_config c = small(MRC_HEAD_POOL), narrow = c;
    char passages[256], questions[256], other[256], both[256], file[300];
    mrc_model *m;
    narrow.hidden_size = 16;
    tower_new(passages, "tower_a", &c, 5);
    tower_new(questions, "tower_b", &c, 6);
    tower_new(other, "tower_c", &narrow, 7);
    strcpy(both, path_of("towers"));
    mrc_model_load_desc desc = { .path = passages, .question_path = questions, .config = &c };
    if (!CHECK(mrc_model_load(ctx, &m, &desc) == MRC_OK, "two towers: %s", message)) return;
    CHECK(mrc_params_find(m->params, "question_encoder.roberta.embeddings.LayerNorm.weight")
          && mrc_params_find(m->params, "roberta.embeddings.LayerNorm.weight"), "names: %s",
          mrc_params_at(m->params, 0)->name);
    CHECK(mrc_model_save(ctx, m, both, "data") == MRC_OK, "save: %s", message);
    mrc_model_free(m);
    snprintf(file, sizeof file, "%s/question_encoder/config.json", both);
    CHECK(mrc_path_kind(file) == MRC_PATH_FILE, "no %s", file);
    for (int side = 0; side < 2; side++) {
        mrc_vectors v[3];
        encode_by(both, NULL, (mrc_side)side, &v[0]);
        encode_by(passages, questions, (mrc_side)side, &v[1]);
        encode_by(side == MRC_SIDE_QUERY ? questions : passages, NULL, (mrc_side)side, &v[2]);
        for (int i = 1; i < 3; i++) {
            CHECK(v[0].n == 2 && v[i].n == 2 && v[0].width == v[i].width
                  && !memcmp(v[0].rows, v[i].rows, 2 * v[0].width * sizeof(float)),
                  "side %d: other vectors than %s", side, i > 1 ? "the tower's" : "the two's");
        }
        for (int i = 0; i < 3; i++) mrc_vectors_free(&v[i]);
    }
    desc.question_path = other;
    CHECK(mrc_model_load(ctx, &m, &desc) == MRC_ERR_ARG && strstr(message, "rows of 16") && !m,
          "towers of two widths: %s", message);
    mrc_ctx_clear_error(ctx);
    desc.question_path = path_of("absent");
    CHECK(mrc_model_load(ctx, &m, &desc) != MRC_OK && strstr(message, "absent") && !m,
          "no second tower: %s", message);
    mrc_ctx_clear_error(ctx);
}

int main(void) {
    if (!folder_new("retrieval")) return test_end();
    mrc_backend_cpu_new(&be, &(mrc_backend_desc){ .threads = 2 });
    mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .log = keep_message });
    test_files();
    test_left_out();
    test_ids();
    test_bounds();
    test_zero_bytes();
    test_plan();
    test_poolings();
    test_caching();
    test_cached_bits();
    test_directories();
    test_projection();
    test_fingerprint();
    test_no_rows();
    test_towers();
    mrc_ctx_free(ctx);
    mrc_backend_free(be);
    folder_end();
    return test_end();
}
