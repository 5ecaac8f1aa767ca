// Steps of training for retrieval on every backend against the naive kernels: bi-encoder, ColBERT
// and cross-encoder, in one piece, in pieces by gradient caching, with checkpointing: the loss,
// every gradient, ten steps of AdamW.
// tags: cuda
#include "../support/test.h"
#include "../support/folder.h"

static mrc_backend *naive;

//==============================================================================
// What is trained
//==============================================================================
// Questions and passages of one to some forty tokens, each with two negatives and teacher's scores.
enum { QUESTIONS = 7 };
static mrc_pairs *pairs_new(mrc_ctx *c) {
    static const char *const words[] = { "what", "is", "one", "of", "it", "who", "a", "city", "1" };
    char text[16384], *at = text;
    mrc_pairs *p = NULL;
    for (size_t i = 0; i < QUESTIONS; i++) {
        static const char *const keys[] = { "\", \"pos\": [\"", "\"], \"neg\": [\"", "\", \"" };
        at += sprintf(at, "{\"query\": \"");
        for (size_t k = 0; k <= 3 * i % 8; k++) at += sprintf(at, "%s ", words[(i + 2 * k) % 9]);
        for (size_t n = 0; n < 3; n++) {
            at += sprintf(at, "%s", keys[n]);
            for (size_t k = 0; k <= (11 * i + 17 * n) % 40; k++) {
                at += sprintf(at, "%s ", words[(5 * i + n + k * k + k) % 9]);
            }
            at += sprintf(at, "%zu", 3 * i + n);
        }
        at += sprintf(at, "\"], \"pos_scores\": [%g], \"neg_scores\": [%g, %g]}\n",
                      2 + .25 * (double)i, 1 - .5 * (double)(i % 3), .125 * (double)i);
    }
    mrc_pairs_desc desc = { .path = file_new("pairs.jsonl", text) };
    CHECK(mrc_pairs_load(c, &p, &desc) == MRC_OK && mrc_pairs_size(p) == QUESTIONS, "%s",
          mrc_ctx_message(c));
    return p;
}

typedef struct kind {
    const char          *name;
    mrc_head_type        head;
    mrc_contrastive_loss loss;
    unsigned             poolings;
    int                  ten;               // the mode in which it takes ten steps; -1: none
} kind;
static const kind kinds[] = {
    { "bi-encoder", MRC_HEAD_POOL, MRC_CONTRASTIVE_INFONCE, 1u << MRC_POOLING_MEAN, 1 },
    { "bi-encoder, cls and max, symmetric", MRC_HEAD_POOL, MRC_CONTRASTIVE_SYMMETRIC,
      1u << MRC_POOLING_CLS | 1u << MRC_POOLING_MAX, -1 },
    { "bi-encoder, margins", MRC_HEAD_POOL, MRC_CONTRASTIVE_MARGIN_MSE, 1u << MRC_POOLING_MEAN,
      -1 },
    { "colbert", MRC_HEAD_TOKENS, MRC_CONTRASTIVE_INFONCE, 0, 2 },
    { "colbert, teacher", MRC_HEAD_TOKENS, MRC_CONTRASTIVE_KL, 0, -1 },
    { "cross-encoder", MRC_HEAD_SCORE, MRC_CONTRASTIVE_BCE, 0, 0 },
    { "cross-encoder, lists", MRC_HEAD_SCORE, MRC_CONTRASTIVE_LISTWISE, 0, 1 },
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static mrc_model_config config_of(mrc_ctx *c, const kind *k) {
    mrc_model_config m;
    CHECK(mrc_model_config_load(c, &m, "data/config.json") == MRC_OK, "%s", mrc_ctx_message(c));
    m.hidden_size = 32;
    m.num_attention_heads = 2;
    m.intermediate_size = 48;
    m.hidden_dropout_prob = m.attention_probs_dropout_prob = 0.1;
    m.embedding_size = 0;
    m.head = k->head;
    m.encoder = (mrc_encoder_config){ .poolings = k->poolings, .normalize = 1, .num_labels = 1,
                                      .classifier_dropout = -1, .query_max_length = 24,
                                      .passage_max_length = 48 };
    if (k->head == MRC_HEAD_TOKENS) m.encoder.projection_size = 16;
    return m;
}

//==============================================================================
// A run, and two runs side by side
//==============================================================================
enum { STEPS = 10, ROOM = 200000 };
typedef struct outcome {
    double loss[STEPS];
    size_t n;                       // numbers of all parameters
    float *values;                  // gradients of one step, or weights after ten
} outcome;

// Ten steps of AdamW; or one of SGD at a rate of 2^100, which leaves -2^100 times the gradients.
static outcome run(mrc_backend *be, const kind *k, const mrc_pairs *p, size_t micro,
                   int checkpointing, int gradients) {
    const double all_bits = 0x1p100;
    outcome out = { .values = calloc(ROOM, sizeof *out.values) };
    mrc_ctx *c;
    mrc_model *m = NULL;
    mrc_encoder *e = NULL;
    mrc_optimizer *o = NULL;
    uint32_t queries[QUESTIONS];
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    if (gradients) oc.variant = MRC_SGD, oc.momentum = 0, oc.max_grad_norm = 0;
    oc.weight_decay = gradients ? 0 : .1;
    oc.eps = 1e-4;                  // what sums to 0 up to rounding stays where it is
    for (uint32_t i = 0; i < QUESTIONS; i++) queries[i] = i;
    CHECK(mrc_ctx_new(&c, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "%s", k->name);
    mrc_model_config mc = config_of(c, k);
    mrc_encoder_desc desc = { .config = &mc };
    int ok = mrc_model_new(c, &m, &mc, MRC_DTYPE_F32, 3) == MRC_OK;
    desc.model = m;
    ok = ok && mrc_encoder_new(c, &e, "data", &desc) == MRC_OK
      && mrc_optimizer_new(c, &o, m->params, &oc) == MRC_OK;
    for (uint32_t step = 0; ok && step < (gradients ? 1 : STEPS); step++) {
        mrc_step_result r = { 0 };
        mrc_contrastive_desc d = { .pairs = p, .queries = queries, .n = QUESTIONS,
                                   .micro_batch = micro, .num_negatives = 2, .loss = k->loss,
                                   .lr = gradients ? all_bits : 1e-3, .random = { 9, step, 0 },
                                   .forward = mrc_forward_config_default() };
        d.forward.dropout = 1;
        d.forward.gradient_checkpointing = checkpointing;
        ok = mrc_contrastive_step(e, o, &d, &r) == MRC_OK && !r.skipped;
        out.loss[step] = r.loss;
    }
    CHECK(ok, "%s on %s: %s", k->name, be->name, mrc_ctx_message(c));
    for (size_t i = 0; ok && mrc_params_at(m->params, i); i++) {
        const mrc_tensor *t = mrc_params_at(m->params, i);
        if (!CHECK(out.n + t->numel <= ROOM, "%s: no room", k->name)) break;
        mrc_tensor_download(c, t, out.values + out.n);
        out.n += t->numel;
    }
    for (size_t i = 0; gradients && i < out.n; i++) out.values[i] /= -(float)all_bits;
    mrc_optimizer_free(o);
    mrc_encoder_free(e);
    mrc_ctx_free(c);
    mrc_model_free(m);
    return out;
}

// By how much the numbers of the tensor that is furthest off differ; *name is its name.  Each
// tensor by its own largest number, or by a thousandth of the largest of all.  A bias of all scores
// of a list changes nothing: its gradient is what rounding leaves.
static double apart(const kind *k, const outcome *got, const outcome *want, const char **name) {
    static char worst_name[256];
    mrc_ctx *c;
    mrc_model *m = NULL;
    double most = 0, worst = 0;
    size_t at = 0;
    mrc_ctx_new(&c, &(mrc_ctx_desc){ .backend = naive });
    mrc_model_config mc = config_of(c, k);
    CHECK(mrc_model_new(c, &m, &mc, MRC_DTYPE_F32, 3) == MRC_OK, "%s", k->name);
    for (size_t i = 0; i < want->n; i++) most = fmax(most, fabs((double)want->values[i]));
    CHECK(most > 0 && got->n == want->n, "%s: nothing to compare", k->name);
    for (size_t i = 0; m && mrc_params_at(m->params, i) && got->n == want->n; i++) {
        const mrc_tensor *t = mrc_params_at(m->params, i);
        const int nothing = k->loss == MRC_CONTRASTIVE_LISTWISE
                         && strstr(t->name, "out_proj.bias") != NULL;
        double large = most / (nothing ? 10 : 1000), off = 0;
        for (size_t j = at; j < at + t->numel; j++) {
            double d = fabs((double)got->values[j] - (double)want->values[j]);
            large = fmax(large, fabs((double)want->values[j]));
            off = d <= off ? off : d;                   // a NaN stays
        }
        at += t->numel;
        if (off / large <= worst) continue;
        worst = off / large;
        snprintf(worst_name, sizeof worst_name, "%s", t->name);
    }
    *name = worst_name;
    mrc_ctx_free(c);
    mrc_model_free(m);
    return worst;
}

static void same(const kind *k, mrc_backend *be, const char *how, const outcome *got,
                 const outcome *want, double bar, const char *what) {
    const char *name;
    double off = apart(k, got, want, &name);
    CHECK(off <= bar, "%s on %s %s, %s: %s of %s off by %g of the largest", k->name, be->name,
          be->isa, how, what, name, off);
    for (int i = 0; i < STEPS; i++) {
        CHECK(fabs(got->loss[i] - want->loss[i]) <= 1e-5 * fmax(1, fabs(want->loss[i])),
              "%s on %s %s, %s: loss %d is %.9g, %.9g expected", k->name, be->name, be->isa, how, i,
              got->loss[i], want->loss[i]);
    }
}

static const struct { const char *name; size_t micro; int checkpointing; } modes[] = {
    { "in one piece", 0, 0 }, { "in pieces of 3", 3, 0 }, { "in pieces, checkpointing", 4, 1 } };
enum { N_MODES = sizeof modes / sizeof *modes };
static outcome wanted[N_KINDS][N_MODES][2];

static void test_backend(mrc_backend *be, const mrc_pairs *p) {
    for (int k = 0; k < N_KINDS; k++) {
        for (int mode = 0; mode < N_MODES; mode++) {
            for (int gradients = mode != kinds[k].ten; gradients < 2; gradients++) {
                outcome *want = &wanted[k][mode][gradients];
                outcome got = run(be, &kinds[k], p, modes[mode].micro, modes[mode].checkpointing,
                                  gradients);
                if (be == naive) *want = got;
                else {
                    same(&kinds[k], be, modes[mode].name, &got, want, gradients ? 2e-5 : 1e-4,
                         gradients ? "gradient" : "weights");
                    free(got.values);
                }
            }
        }
    }
}

// Pieces change the sums a little, checkpointing nothing but memory: both against one piece.
static void test_modes(void) {
    for (int k = 0; k < N_KINDS; k++) {
        for (int mode = 1; mode < N_MODES; mode++) {
            same(&kinds[k], naive, modes[mode].name, &wanted[k][mode][1], &wanted[k][0][1], 2e-5,
                 "gradient");
        }
    }
}

#if defined(MRC_TEST_CUDA) && !defined(MRC_TEST_GPU)
#include "../cuda/bugs.h"
// Bugs that are planted in kernels of a step show in its gradients.
static void test_planted(mrc_backend *be, const mrc_pairs *p) {
    static const struct { int bug, kind; } bugs[] = {
        { MRC_BUG_NORMALIZE_BWD, 0 }, { MRC_BUG_DELTA, 0 }, { MRC_BUG_MAXSIM_SUMS, 3 },
        { MRC_BUG_MAXSIM_DQ, 3 }, { MRC_BUG_MAXSIM_DD, 3 }, { MRC_BUG_SCORE_BWD, 2 } };
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        const kind *k = &kinds[bugs[i].kind];
        const char *name;
        mrc_shim_bug = bugs[i].bug;
        outcome got = run(be, k, p, 3, 0, 1);
        mrc_shim_bug = MRC_BUG_NONE;
        double off = apart(k, &got, &wanted[bugs[i].kind][1][1], &name);
        CHECK(!(off <= 1e-3), "planted bug %zu of %s: gradients are off by %g", i, k->name, off);
        free(got.values);
    }
}
#endif

int main(void) {
    mrc_ctx *c;
    if (!folder_new("contrastive")) return test_end();
    CHECK(mrc_backend_naive_new(&naive, NULL) == MRC_OK
          && mrc_ctx_new(&c, &(mrc_ctx_desc){ .backend = naive }) == MRC_OK, "naive");
    mrc_pairs *p = pairs_new(c);
    test_backend(naive, p);
    test_modes();
#ifdef MRC_TEST_CUDA
    for (int path = 70; path <= 80; path += 10) {
        mrc_backend *be = cuda_new(path, 0);
        if (be) test_backend(be, p);
#ifndef MRC_TEST_GPU
        if (be && path == 70) test_planted(be, p);
#endif
        mrc_backend_free(be);
    }
#else
    mrc_backend *be;
    CHECK(mrc_backend_cpu_new(&be, &(mrc_backend_desc){ .threads = 2 }) == MRC_OK, "cpu");
    test_backend(be, p);
    mrc_backend_free(be);
#endif
    for (int i = 0; i < 2 * N_KINDS * N_MODES; i++) free((&wanted[0][0][0])[i].values);
    mrc_pairs_free(p);
    mrc_ctx_free(c);
    mrc_backend_free(naive);
    folder_end();
    return test_end();
}
