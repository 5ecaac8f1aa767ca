// The choices of an experiment against PyTorch, transformers, adamp, scikit-learn: heads, losses,
// optimizers, groups, averages, FGM over twenty steps; schedules; folds.  What training is made of
// beyond that: R-Drop, freezing, the average in the optimizer's file.
// tags: threads cuda
#include "../support/golden.h"
#include <unistd.h>

#define EXPERIMENT "experiment/"
enum { STEPS = 20 };

// How a recipe of make_experiment.py differs from AdamW with lr 1e-3.
typedef struct recipe {
    const char   *name, *head, *form;
    mrc_objective objective;
    mrc_optim     variant;
    double        lr, weight_decay, momentum, ema, layer_decay, head_lr;
    int           nesterov, valid, hf;  // hf: AdamW as transformers had it, not PyTorch's
    size_t        freeze;
} recipe;

static const recipe recipes[] = {
    { .name = "ce", .head = "linear" }, { .name = "ce", .head = "mlp" },
    { .name = "ce", .head = "bilstm" }, { .name = "ce", .head = "bigru" },
    { .name = "ce", .head = "conv1d" },
    { .name = "padded", .head = "mlp", .form = "padded" },
    { .name = "padded", .head = "bilstm", .form = "padded" },
    { .name = "padded", .head = "bigru", .form = "padded" },
    { .name = "padded", .head = "conv1d", .form = "padded" },
    { .name = "focal_reference", .objective = { .loss = { MRC_LOSS_FOCAL, 1, 1, 0 } } },
    { .name = "focal_half", .objective = { .loss = { MRC_LOSS_FOCAL, 1, 0.5, 0 } } },
    { .name = "focal", .objective = { .loss = { MRC_LOSS_FOCAL, 0, 2, 0 } } },
    { .name = "smoothing_reference",
      .objective = { .loss = { MRC_LOSS_LABEL_SMOOTHING, 1, 0, 0.2 } } },
    { .name = "smoothing", .objective = { .loss = { MRC_LOSS_LABEL_SMOOTHING, 0, 0, 0.2 } } },
    { .name = "padded_smoothing", .form = "padded",
      .objective = { .loss = { MRC_LOSS_LABEL_SMOOTHING, 1, 0, 0.2 } } },
    { .name = "valid_smoothing", .form = "padded", .valid = 1,
      .objective = { .loss = { MRC_LOSS_LABEL_SMOOTHING, 1, 0, 0.2 } } },
    { .name = "adamp", .variant = MRC_ADAMP, .weight_decay = 0.05 },
    { .name = "adamp_nesterov", .variant = MRC_ADAMP, .weight_decay = 0.05, .nesterov = 1 },
    { .name = "adamw_hf", .hf = 1, .weight_decay = 0.05 },
    { .name = "sgd", .variant = MRC_SGD, .lr = 0.05, .momentum = 0.9, .weight_decay = 0.01 },
    { .name = "ema", .ema = 0.9 },
    { .name = "fgm", .objective = { .fgm_epsilon = 0.5 } },
    { .name = "groups", .layer_decay = 0.7, .head_lr = 5e-3 },
    { .name = "freeze", .freeze = 1 },
};
enum { N_RECIPES = sizeof recipes / sizeof *recipes };

static void group(void *user, const mrc_tensor *p, mrc_param_group *g) {
    const recipe *r = user;
    size_t depth = strstr(p->name, "qa_") ? 3 : strstr(p->name, "layer.1.") ? 2
                 : strstr(p->name, "layer.0.") ? 1 : 0;
    g->lr_scale = pow(r->layer_decay, (double)(3 - depth));
    if (depth == 3) g->lr_scale = r->head_lr / 1e-3;
}

static mrc_optimizer_config optimizer_of(recipe *r) {
    mrc_optimizer_config c = mrc_optimizer_config_default();
    c.variant = r->hf ? MRC_ADAMW_HF : r->variant == MRC_ADAMW_HF ? MRC_ADAMW_TORCH : r->variant;
    c.eps = 1e-6;
    c.weight_decay = r->weight_decay;
    c.momentum = r->momentum;
    c.nesterov = r->nesterov;
    c.max_grad_norm = 0;
    c.decay_all = 1;
    c.ema_decay = r->ema;
    if (r->layer_decay > 0) c.group = group;
    c.user = r;
    return c;
}

// PyTorch's weights in the end, or the averages; parameters whose gradient is noise aside.
static void check_weights(mrc_ctx *ctx, mrc_backend *be, const mrc_model *m, golden *g,
                          const recipe *r, double bar) {
    for (size_t i = 0; mrc_params_at(m->params, i); i++) {
        const mrc_tensor *t = mrc_params_at(m->params, i);
        char name[300];
        snprintf(name, sizeof name, "%s.%s", r->name, t->name);
        if (is_zero(g, t->name)) continue;
        double *want = golden_read(ctx, g, name, MRC_DTYPE_F64, NULL);
        double *got = tensor_read(be, t, t->data), d = difference(got, want, t->numel, 1);
        CHECK(d <= bar, "%s on %s: %s off by %g", g->path, be->name, name, d);
        free(got), free(want);
    }
}

static void test_recipe(mrc_backend *be, mrc_dtype dtype, recipe r) {
    char model[64], losses_name[64];
    golden g = {0};
    mrc_optimizer *o;
    mrc_ctx *ctx = new_ctx(be);
    const double bar = dtype == MRC_DTYPE_F64 ? 1e-6 : 5e-5;
    snprintf(model, sizeof model, EXPERIMENT "%s", r.head ? r.head : "linear");
    snprintf(losses_name, sizeof losses_name, "losses.%s", r.name);
    golden_open(ctx, &g, model, r.form ? r.form : "ragged");
    for (size_t i = 0; r.valid && i < g.b; i++) g.features[i].loss_end = g.lengths[i];
    mrc_model *m = load(ctx, model, dtype);
    mrc_model_freeze(m, 0, r.freeze);
    mrc_optimizer_config config = optimizer_of(&r);
    double *losses = golden_read(ctx, &g, losses_name, MRC_DTYPE_F64, NULL);
    if (!CHECK(mrc_optimizer_new(ctx, &o, m->params, &config) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) exit(1);
    for (uint32_t step = 0; step <= STEPS; step++) {
        mrc_step_desc desc = { .features = g.list, .n = g.b, .micro_batch = 2,
                               .lr = step == STEPS ? 0 : r.lr > 0 ? r.lr : 1e-3,
                               .random = { .seed = 1, .step = step }, .objective = r.objective,
                               .forward = mrc_forward_config_default() };
        mrc_step_result result;
        if (step == STEPS && r.ema > 0) mrc_optimizer_swap(ctx, o);
        if (step == STEPS) check_weights(ctx, be, m, &g, &r, bar);
        if (step == STEPS && r.ema > 0) mrc_optimizer_swap(ctx, o);
        CHECK(mrc_train_step(ctx, m, o, &desc, &result) == MRC_OK, "%s", mrc_ctx_message(ctx));
        CHECK(fabs(result.loss / losses[step] - 1) <= bar, "%s, %s on %s: loss %u is %.10g, not "
              "%.10g", g.path, r.name, be->name, (unsigned)step, result.loss, losses[step]);
    }
    free(losses);
    mrc_optimizer_free(o);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

// Two passes with other dropout: R-Drop's loss is that of its parts, computed here.
static void test_rdrop(mrc_backend *be) {
    golden g = {0};
    mrc_ctx *ctx = new_ctx(be);
    golden_open(ctx, &g, EXPERIMENT "bigru", "ragged");
    mrc_model *m = load(ctx, EXPERIMENT "bigru", MRC_DTYPE_F64);
    m->config.hidden_dropout_prob = 0.3;
    mrc_optimizer_config config = mrc_optimizer_config_default();
    mrc_optimizer *o;
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &config) == MRC_OK, "%s", mrc_ctx_message(ctx));
    double want = 0, *logits[2], alpha = 0.7;
    for (uint32_t pass = 0; pass < 2; pass++) {
        mrc_forward_config forward = mrc_forward_config_default();
        mrc_batch batch;
        forward.dropout = 1;
        mrc_ctx_set_random(ctx, (mrc_random){ .seed = 3, .step = 1, .pass = pass });
        CHECK(mrc_model_batch(ctx, m, &batch, g.list, g.b, 0) == MRC_OK, "batch");
        mrc_tensor *t = mrc_model_forward(ctx, m, &batch, &forward);
        logits[pass] = tensor_read(be, t, t->data);
        mrc_ctx_reset(ctx);
    }
    for (size_t s = 0; s < g.b; s++) {
        for (size_t c = 0; c < 2; c++) {
            double sum[2] = { 0, 0 };
            int32_t y = c ? g.end[s] : g.start[s];
            for (int k = 0; k < 2; k++) {
                for (int32_t i = g.cu[s]; i < g.cu[s + 1]; i++) {
                    sum[k] += exp(logits[k][2 * (size_t)i + c]);
                }
                want += (log(sum[k]) - logits[k][2 * (size_t)(g.cu[s] + y) + c]) / 2;
            }
            for (int32_t i = g.cu[s]; i < g.cu[s + 1]; i++) {
                double p = exp(logits[0][2 * (size_t)i + c]) / sum[0];
                double q = exp(logits[1][2 * (size_t)i + c]) / sum[1];
                want += alpha * (p - q) * log(p / q) / 2;
            }
        }
    }
    mrc_step_desc desc = { .features = g.list, .n = g.b, .micro_batch = 2, .lr = 1e-3,
                           .random = { .seed = 3, .step = 1 },
                           .forward = mrc_forward_config_default(),
                           .objective = { .rdrop_alpha = alpha } };
    mrc_step_result result;
    desc.forward.dropout = 1;
    CHECK(mrc_train_step(ctx, m, o, &desc, &result) == MRC_OK, "%s", mrc_ctx_message(ctx));
    want /= 2 * (double)g.b;
    CHECK(fabs(result.loss / want - 1) <= 1e-12, "R-Drop: %.15g, not %.15g", result.loss, want);
    free(logits[0]), free(logits[1]);
    mrc_optimizer_free(o);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

static void test_schedules(mrc_ctx *ctx) {
    static const char *const names[] = { "linear", "cosine", "cosine_with_restarts", "polynomial",
                                         "constant", "constant_with_warmup", "inverse_sqrt" };
    golden g = { .path = GOLDEN EXPERIMENT "schedules.safetensors" };
    if (!CHECK(mrc_safetensors_open(ctx, &g.st, g.path) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) exit(1);
    for (int kind = 0; kind < 7; kind++) {
        for (uint64_t warmup = 0; warmup <= 5; warmup += 5) {
            char name[64];
            mrc_schedule_config c = mrc_schedule_config_default((mrc_schedule)kind);
            snprintf(name, sizeof name, "%s.%d", names[kind], (int)warmup);
            double *want = golden_read(ctx, &g, name, MRC_DTYPE_F64, NULL);
            c.num_warmup_steps = warmup;
            c.num_training_steps = 30;
            c.lr = 3e-4;
            for (uint64_t t = 0; t < 40; t++) {
                double got = 3e-4 * mrc_schedule_factor(&c, t);
                CHECK(fabs(got - want[t]) <= 1e-12 * 3e-4, "%s: step %d has %.17g, not %.17g", name,
                      (int)t, got, want[t]);
            }
            free(want);
        }
    }
    mrc_weights_close(g.st);
}

static void test_folds(mrc_ctx *ctx) {
    golden g = { .path = GOLDEN EXPERIMENT "folds.safetensors" };
    const mrc_st_entry *e;
    size_t triples = 0, few[3];
    if (!CHECK(mrc_safetensors_open(ctx, &g.st, g.path) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) exit(1);
    for (; (e = mrc_weights_at(g.st, triples)) != NULL; triples++) {
        unsigned long long n, k, seed;
        if (!CHECK(sscanf(e->name, "%llu.%llu.%llu", &n, &k, &seed) == 3, "%s", e->name)) break;
        int32_t *want = golden_read(ctx, &g, e->name, MRC_DTYPE_I32, NULL);
        size_t *got = calloc((size_t)n, sizeof *got), wrong = 0;
        CHECK(mrc_kfold(ctx, (size_t)n, (size_t)k, seed, got) == MRC_OK, "%s",
              mrc_ctx_message(ctx));
        for (size_t i = 0; i < n; i++) wrong += got[i] != (size_t)want[i];
        CHECK(wrong == 0, "KFold(%s): %zu rows are in another fold", e->name, wrong);
        free(want), free(got);
    }
    CHECK(triples == 10, "%zu triples", triples);
    mrc_weights_close(g.st);
    CHECK(mrc_kfold(ctx, 3, 4, 0, few) == MRC_ERR_ARG, "more folds than rows");
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_kfold(ctx, 3, 2, (uint64_t)1 << 32, few) == MRC_ERR_ARG, "numpy has no such seed");
    mrc_ctx_clear_error(ctx);
}

// Six steps; resumed: the optimizer is saved after the third and loaded into a new one.  What the
// average of a weight is in the end; freed by the caller.
static double *train_briefly(mrc_backend *be, mrc_optim variant, int resumed, size_t *n) {
    golden g = {0};
    char path[64];
    mrc_ctx *ctx = new_ctx(be);
    golden_open(ctx, &g, EXPERIMENT "conv1d", "ragged");
    snprintf(path, sizeof path, "/tmp/mrc_experiment_%ld", (long)getpid());
    mrc_model *m = load(ctx, EXPERIMENT "conv1d", MRC_DTYPE_F32);
    mrc_optimizer_config config = mrc_optimizer_config_default();
    mrc_optimizer *o = NULL;
    config.variant = variant;
    config.momentum = 0.5;
    config.ema_decay = 0.8;
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &config) == MRC_OK, "new");
    for (uint32_t step = 0; step < 6; step++) {
        mrc_step_desc desc = { .features = g.list, .n = g.b, .lr = 1e-2,
                               .random = { .seed = 1, .step = step },
                               .forward = mrc_forward_config_default() };
        mrc_step_result result;
        CHECK(mrc_train_step(ctx, m, o, &desc, &result) == MRC_OK, "%s", mrc_ctx_message(ctx));
        if (step != 2 || !resumed) continue;
        CHECK(mrc_optimizer_save(ctx, o, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
        mrc_optimizer_free(o);
        CHECK(mrc_optimizer_new(ctx, &o, m->params, &config) == MRC_OK, "new");
        CHECK(mrc_optimizer_load(ctx, o, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
    }
    unlink(path);
    CHECK(mrc_optimizer_swap(ctx, o) == MRC_OK, "%s", mrc_ctx_message(ctx));
    const mrc_tensor *t = mrc_params_find(m->params, "conv.0.weight");
    double *out = t ? tensor_read(be, t, t->data) : NULL;
    *n = t ? t->numel : 0;
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_optimizer_free(o);
    mrc_model_free(m);
    return out;
}

static void test_resume(mrc_backend *be, mrc_optim variant) {
    size_t n = 0;
    double *plain = train_briefly(be, variant, 0, &n), *resumed = train_briefly(be, variant, 1, &n);
    CHECK(n > 0 && plain && resumed && !memcmp(plain, resumed, n * sizeof *plain),
          "optimizer %d goes on with other bits", (int)variant);
    free(plain), free(resumed);
}

// A model's segments keep the batch, not its address: what the caller's struct holds when backward
// runs does not matter.
static void test_batch_by_value(mrc_backend *be) {
    golden g = {0};
    double grad[2];
    mrc_ctx *ctx = new_ctx(be);
    golden_open(ctx, &g, EXPERIMENT "mlp", "ragged");
    mrc_model *m = load(ctx, EXPERIMENT "mlp", MRC_DTYPE_F32);
    mrc_forward_config forward = mrc_forward_config_default();
    forward.gradient_checkpointing = 1;
    for (int gone = 0; gone < 2; gone++) {
        mrc_batch batch;
        float value;
        CHECK(mrc_model_batch(ctx, m, &batch, g.list, g.b, 0) == MRC_OK, "batch");
        mrc_tensor *y = mrc_model_encode(ctx, m, &batch, &forward);
        if (!CHECK(y, "%s", mrc_ctx_message(ctx))) break;
        mrc_tensor *dy = mrc_tensor_new(ctx, MRC_DTYPE_F32, y->ndim, y->shape, 0);
        mrc_fill_args ones = { .n = y->numel, .value = 1, .y = { MRC_DTYPE_F32, 1, dy->data, 0 } };
        be->kernels[MRC_DTYPE_F32].fill(be, &ones);
        if (gone) memset(&batch, 0x7f, sizeof batch);
        CHECK(mrc_backward(ctx, y, dy) == MRC_OK, "%s", mrc_ctx_message(ctx));
        be->download(be, &value, mrc_grad(ctx, mrc_params_at(m->params, 1)), sizeof value);
        grad[gone] = (double)value;
        mrc_ctx_reset(ctx);
        mrc_grad_clear(ctx);
    }
    CHECK(grad[0] == grad[1], "%g with the batch gone, %g with it there", grad[1], grad[0]);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

// While the weights are their averages neither a step nor a checkpoint takes them for weights.
static void test_swapped(mrc_backend *be) {
    golden g = {0};
    mrc_optimizer *o;
    mrc_ctx *ctx = new_ctx(be);
    golden_open(ctx, &g, EXPERIMENT "mlp", "ragged");
    mrc_model *m = load(ctx, EXPERIMENT "mlp", MRC_DTYPE_F32);
    mrc_optimizer_config config = mrc_optimizer_config_default();
    config.ema_decay = 0.5;
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &config) == MRC_OK, "new");
    CHECK(mrc_optimizer_swap(ctx, o) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_checkpoint_save(ctx, "/tmp", 1, m, EXPERIMENT "mlp", o, "{}") == MRC_ERR_ARG
          && strstr(mrc_ctx_message(ctx), "are their averages"), "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_optimizer_step(ctx, o, 1) == MRC_ERR_ARG
          && strstr(mrc_ctx_message(ctx), "are their averages"), "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_optimizer_swap(ctx, o) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_optimizer_free(o);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

// What is misused says so.
static void test_misuse(mrc_backend *be) {
    golden g = {0};
    mrc_optimizer *o;
    mrc_ctx *ctx = new_ctx(be);
    golden_open(ctx, &g, EXPERIMENT "mlp", "ragged");
    mrc_model *m = load(ctx, EXPERIMENT "mlp", MRC_DTYPE_F32);
    mrc_optimizer_config config = mrc_optimizer_config_default();
    config.ema_decay = 1;
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &config) == MRC_ERR_ARG, "a decay of 1");
    mrc_ctx_clear_error(ctx);
    config.ema_decay = 0;
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &config) == MRC_OK, "new");
    CHECK(mrc_optimizer_swap(ctx, o) == MRC_ERR_ARG, "no averages");
    mrc_ctx_clear_error(ctx);
    mrc_optimizer_free(o);
    mrc_model_freeze(m, 1, 0);
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &config) == MRC_OK, "new");
    mrc_step_desc desc = { .features = g.list, .n = g.b, .lr = 1e-3,
                           .forward = mrc_forward_config_default(),
                           .objective = { .fgm_epsilon = 1 } };
    mrc_step_result result;
    CHECK(mrc_train_step(ctx, m, o, &desc, &result) == MRC_ERR_ARG, "FGM of frozen embeddings");
    mrc_ctx_clear_error(ctx);
    desc.objective = (mrc_objective){ .loss = { MRC_LOSS_LABEL_SMOOTHING, 0, 0, 1 } };
    CHECK(mrc_train_step(ctx, m, o, &desc, &result) == MRC_ERR_ARG, "a smoothing of 1");
    mrc_optimizer_free(o);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

// The mean of logits in double, -inf of padding included; a vote by hand for each method.
static void test_ensemble(mrc_ctx *ctx) {
    static const float a[] = { 1, -2.5f, 1e30f, -HUGE_VALF }, b[] = { 2, 4, -1e30f, -HUGE_VALF };
    const float *logits[] = { a, b };
    float mean[4];
    mrc_ensemble_mean(logits, 2, (const double[]){ 3, 1 }, 4, mean);
    for (int i = 0; i < 3; i++) {
        double want = (3 * (double)a[i] + (double)b[i]) / 4;
        CHECK(fabs((double)mean[i] - want) <= 1e-6 * fabs(want), "mean %d is %g, not %g", i,
              (double)mean[i], want);
    }
    CHECK(isinf(mean[3]) && mean[3] < 0, "the mean of padding");
    // x: sum 0.9 + 0.1, first place once; y: 0.05 + 0.6 + 0.5, twice first; z twice in one list.
    static const mrc_vote v0[] = { { "x", 1, 0.9 }, { "y", 1, 0.05 } };
    static const mrc_vote v1[] = { { "y", 1, 0.6 }, { "z", 1, 0.3 }, { "x", 1, 0.1 } };
    static const mrc_vote v2[] = { { "y", 1, 0.5 }, { "z", 1, 0.45 }, { "z", 1, 0.45 } };
    const mrc_votes lists[] = { { v0, 2 }, { v1, 3 }, { v2, 3 } };
    static const struct { mrc_ensemble kind; double weights[3]; char text; double score; } of[] = {
        { MRC_ENSEMBLE_PROBABILITY_SUM, { 1, 1, 1 }, 'z', 1.2 },
        { MRC_ENSEMBLE_HARD_VOTE, { 1, 1, 1 }, 'y', 2 },
        { MRC_ENSEMBLE_FOLD_COMBINE, { 1, 1, 1 }, 'y', 1.15 },
        { MRC_ENSEMBLE_PROBABILITY_SUM, { 3, 1, 1 }, 'x', 2.8 },
        { MRC_ENSEMBLE_HARD_VOTE, { 2, 1, 1 }, 'x', 2 },        // a tie: 0.9 is the most probable
        { MRC_ENSEMBLE_HARD_VOTE, { 0, 1, 0 }, 'y', 1 } };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        mrc_vote out = { "", 0, 0 };
        CHECK(mrc_ensemble_vote(ctx, of[i].kind, lists, 3, of[i].weights, &out) == MRC_OK, "%s",
              mrc_ctx_message(ctx));
        CHECK(out.bytes == 1 && out.text[0] == of[i].text
              && fabs(out.probability - of[i].score) <= 1e-12, "vote %zu: %s with %g, not %c with "
              "%g", i, out.text, out.probability, of[i].text, of[i].score);
    }
    const mrc_votes none = { NULL, 0 };
    mrc_vote out;
    CHECK(mrc_ensemble_vote(ctx, MRC_ENSEMBLE_HARD_VOTE, &none, 1, NULL, &out) == MRC_ERR_ARG,
          "no votes");
    mrc_ctx_clear_error(ctx);
}

// The CUDA source on the tests' shim or a GPU: every golden.
static int test_cuda(void) {
#ifdef MRC_TEST_CUDA
    for (int path = 70; path <= 80; path += 10) {
        mrc_backend *be = cuda_new(path, 0);
        for (int i = 0; be && i < N_RECIPES; i++) test_recipe(be, MRC_DTYPE_F32, recipes[i]);
        mrc_backend_free(be);
    }
#endif
    return test_end();
}

// A device is spoken to a few times a step, however many parameters and micro-batches there are:
// gradients are zeroed, averages taken and losses summed by kernels.
static struct transfers {
    size_t uploads, downloads, upload_bytes;
    mrc_status (*upload)(mrc_backend *be, void *dst, const void *src, size_t bytes);
    mrc_status (*download)(mrc_backend *be, void *dst, const void *src, size_t bytes);
} transfers;
static mrc_status transfers_upload(mrc_backend *be, void *dst, const void *src, size_t bytes) {
    transfers.uploads++;
    transfers.upload_bytes += bytes;
    return transfers.upload(be, dst, src, bytes);
}
static mrc_status transfers_download(mrc_backend *be, void *dst, const void *src, size_t bytes) {
    transfers.downloads++;
    return transfers.download(be, dst, src, bytes);
}
static void test_transfers(void) {
    size_t parameter_bytes = 0, uploads[2] = { 0, 0 };
    for (int k = 0; k < 2; k++) {
        mrc_backend *be;
        golden g = {0};
        mrc_optimizer *o;
        mrc_step_result result;
        mrc_optimizer_config config = mrc_optimizer_config_default();
        if (!CHECK(mrc_backend_naive_new(&be, NULL) == MRC_OK, "naive")) return;
        transfers = (struct transfers){ .upload = be->upload, .download = be->download };
        be->upload = transfers_upload;
        be->download = transfers_download;
        be->is_host = 0;                // its memory is the host's, but nobody may know
        mrc_ctx *ctx = new_ctx(be);
        golden_open(ctx, &g, EXPERIMENT "linear", "ragged");
        mrc_model *m = load(ctx, EXPERIMENT "linear", MRC_DTYPE_F32);
        config.ema_decay = 0.9;
        CHECK(mrc_optimizer_new(ctx, &o, m->params, &config) == MRC_OK, "%s", mrc_ctx_message(ctx));
        mrc_step_desc desc = { .features = g.list, .n = g.b, .micro_batch = k ? 1 : g.b,
                               .lr = 1e-3, .random = { .seed = 1 },
                               .forward = mrc_forward_config_default() };
        for (uint32_t step = 0; step < 2; step++) {
            transfers.uploads = transfers.downloads = transfers.upload_bytes = 0;
            desc.random.step = step;
            CHECK(mrc_train_step(ctx, m, o, &desc, &result) == MRC_OK, "%s", mrc_ctx_message(ctx));
        }
        for (size_t i = 0; mrc_params_at(m->params, i); i++) {
            parameter_bytes += mrc_params_at(m->params, i)->numel * sizeof(float);
        }
        uploads[k] = transfers.uploads;
        CHECK(transfers.downloads <= 3, "%zu downloads in a step of %zu micro-batches",
              transfers.downloads, k ? g.b : (size_t)1);
        CHECK(transfers.uploads <= 16 * (k ? g.b : 1)
              && transfers.upload_bytes < parameter_bytes / 4,
              "%zu uploads of %zu bytes in a step of %zu micro-batches, parameters have %zu",
              transfers.uploads, transfers.upload_bytes, k ? g.b : (size_t)1, parameter_bytes);
        mrc_optimizer_free(o);
        golden_close(&g);
        mrc_ctx_free(ctx);
        mrc_model_free(m);
        mrc_backend_free(be);
    }
    CHECK(uploads[0] > 0 && uploads[1] > uploads[0], "%zu and %zu uploads", uploads[0], uploads[1]);
}

int main(void) {
    mrc_backend *naive, *cpu;
    if (TEST_ON_CUDA) return test_cuda();
    CHECK(mrc_backend_naive_new(&naive, NULL) == MRC_OK, "naive");
    CHECK(mrc_backend_cpu_new(&cpu, &(mrc_backend_desc){ .threads = 2 }) == MRC_OK, "cpu");
    for (int i = 0; i < N_RECIPES; i++) {
        test_recipe(naive, MRC_DTYPE_F64, recipes[i]);
        test_recipe(cpu, MRC_DTYPE_F64, recipes[i]);
        test_recipe(cpu, MRC_DTYPE_F32, recipes[i]);
    }
    test_rdrop(naive);
    test_rdrop(cpu);
    for (int variant = MRC_ADAMW_TORCH; variant <= MRC_SGD; variant++) {
        test_resume(cpu, (mrc_optim)variant);
    }
    test_transfers();
    test_batch_by_value(cpu);
    test_swapped(cpu);
    test_misuse(cpu);
    mrc_ctx *ctx = new_ctx(cpu);
    test_schedules(ctx);
    test_folds(ctx);
    test_ensemble(ctx);
    mrc_ctx_free(ctx);
    mrc_backend_free(naive);
    mrc_backend_free(cpu);
    return test_end();
}
