// Every family of encoders and every head at every precision of the cpu backend: a training step
// whose products multiply bf16, and predictions with weights in bf16 and in bytes.
// tags: threads
#include "../support/golden.h"
#include <unistd.h>

enum { MAX_LOGITS = 4096 };

static mrc_status model_load(mrc_ctx *ctx, mrc_model **m, const char *path, int head) {
    mrc_model_config c = mrc_model_config_default();
    c.head = (mrc_head_type)head, c.head_hidden_size = 24, c.num_head_layers = 1;
    return mrc_model_load(ctx, m, &(mrc_model_load_desc){ .path = path, .config = &c, .seed = 5 });
}

static mrc_ctx *new_ctx_on(mrc_backend *be) {
    mrc_ctx *ctx;
    if (!CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context")) exit(1);
    return ctx;
}

// A step of a model with that head; returns its loss, and saves the model as it was before.
static double step(mrc_backend *be, const char *name, int head, const char *dir) {
    golden g = {0};
    mrc_ctx *ctx = new_ctx_on(be);
    golden_open(ctx, &g, name, "ragged");
    char path[256];
    snprintf(path, sizeof path, GOLDEN "%s", name);
    mrc_model *m = NULL;
    mrc_optimizer *o = NULL;
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    mrc_step_result r = {0};
    CHECK(model_load(ctx, &m, path, head) == MRC_OK
          && mrc_model_save(ctx, m, dir, NULL) == MRC_OK
          && mrc_optimizer_new(ctx, &o, m->params, &oc) == MRC_OK, "%s, head %d: %s", path, head,
          mrc_ctx_message(ctx));
    if (!o) exit(1);
    const mrc_step_desc desc = { .features = g.list, .n = g.b, .micro_batch = 2, .lr = 1e-3,
                                 .forward = { MRC_FORWARD_MAGIC, 1, 1, 0 } };
    CHECK(mrc_train_step(ctx, m, o, &desc, &r) == MRC_OK && r.loss > 0 && !r.skipped
          && r.grad_norm > 0, "%s, head %d on %s: %s", path, head, be->isa, mrc_ctx_message(ctx));
    mrc_optimizer_free(o);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
    return r.loss;
}

// Logits of the saved model, loaded for prediction.
static size_t predict(mrc_backend *be, const char *name, const char *dir, mrc_dtype dtype,
                      unsigned keep, double *out) {
    golden g = {0};
    mrc_ctx *ctx = new_ctx_on(be);
    mrc_model *m = NULL;
    mrc_batch batch;
    const mrc_forward_config config = mrc_forward_config_default();
    const mrc_model_load_desc desc = { .path = dir, .dtype = dtype, .for_prediction = 1,
                                       .int8_keep = keep };
    golden_open(ctx, &g, name, "ragged");
    mrc_no_grad(ctx, 1);
    CHECK(mrc_model_load(ctx, &m, &desc) == MRC_OK
          && mrc_model_batch(ctx, m, &batch, g.list, g.b, 0) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_tensor *y = m ? mrc_model_forward(ctx, m, &batch, &config) : NULL;
    if (!CHECK(y && y->numel <= MAX_LOGITS, "%s in %s: %s", name, mrc_dtype_name(dtype),
               mrc_ctx_message(ctx))) exit(1);
    const size_t n = y->numel;
    test_read(be, y->dtype, y->data, n, out);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
    return n;
}

// A batch of thousands of rows goes through the layers in parts: its logits have the bits that each
// sequence has alone, whatever the parts, which follow the number of threads.
static void test_parts(const char *name, const char *dir, mrc_dtype dtype, size_t threads,
                       mrc_isa isa) {
    enum { SEQUENCES = 260 };
    static double alone[MAX_LOGITS];
    const mrc_feature *list[SEQUENCES];
    const mrc_forward_config config = mrc_forward_config_default();
    golden g = {0};
    mrc_backend *be = NULL;
    mrc_model *m = NULL;
    mrc_batch batch;
    const mrc_status made = mrc_backend_cpu_new(&be, &(mrc_backend_desc){ .threads = threads,
        .isa = isa, .math = dtype == MRC_DTYPE_BF16 ? MRC_MATH_BF16 : MRC_MATH_F32 });
    if (made == MRC_ERR_UNSUPPORTED && isa != MRC_ISA_AUTO) return;     // not on this machine
    if (!CHECK(made == MRC_OK, "cpu")) exit(1);
    mrc_ctx *ctx = new_ctx_on(be);
    golden_open(ctx, &g, name, "ragged");
    for (size_t i = 0; i < SEQUENCES; i++) list[i] = g.list[(i * i + i / 7) % g.b];
    mrc_no_grad(ctx, 1);
    if (!CHECK(mrc_model_load(ctx, &m, &(mrc_model_load_desc){ .path = dir, .dtype = dtype,
                                                               .for_prediction = 1 }) == MRC_OK
               && mrc_model_batch(ctx, m, &batch, list, SEQUENCES, 0) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) exit(1);
    const size_t least = mrc__part_rows(ctx, m, &batch);
    CHECK(least == (m->weights->relative ? 0 : threads > 2 ? 192 * threads : 384)
          && (!least || mrc__part_end(&batch, 0, least) < SEQUENCES), "%s: parts of %zu rows",
          name, least);
    mrc_tensor *y = mrc_model_forward(ctx, m, &batch, &config);
    if (!CHECK(y, "%s: %s", name, mrc_ctx_message(ctx))) exit(1);
    double *got = tensor_read(be, y, y->data);
    size_t wrong = 0, row = 0;
    for (size_t i = 0; i < SEQUENCES; row += (size_t)list[i++]->length) {
        mrc_ctx_reset(ctx);
        const mrc_status s = mrc_model_batch(ctx, m, &batch, list + i, 1, i);
        y = s == MRC_OK ? mrc_model_forward(ctx, m, &batch, &config) : NULL;
        if (!CHECK(y && y->numel <= MAX_LOGITS, "%s: %s", name, mrc_ctx_message(ctx))) exit(1);
        test_read(be, y->dtype, y->data, y->numel, alone);
        wrong += memcmp(got + 2 * row, alone, y->numel * sizeof *alone) != 0;
    }
    CHECK(wrong == 0, "%s in %s on %s, %zu threads: %zu sequences differ from themselves alone",
          name, mrc_dtype_name(dtype), be->isa, threads, wrong);
    free(got);
    golden_close(&g);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
    mrc_backend_free(be);
}

// f32 is the measure; what is kept in bf16 changes a result of bytes.
static void test_family(mrc_backend *be, mrc_backend *bf16, const char *name, const char *dir) {
    static double want[MAX_LOGITS], got[MAX_LOGITS], kept[MAX_LOGITS];
    for (int head = 0; head <= MRC_HEAD_CONV1D; head++) {
        const double f32 = step(be, name, head, dir), narrow = step(bf16, name, head, dir);
        // Attention by distance stays f32, and products of fewer than 16 columns: here all.
        const int all_f32 = !head && (strstr(name, "deberta_v") || strstr(name, "mpnet"));
        CHECK((all_f32 || f32 != narrow) && fabs(f32 - narrow) <= 0.02 * f32,
              "%s, head %d: loss %.9g, in bf16 %.9g", name, head, f32, narrow);
        static const mrc_isa isas[] = { MRC_ISA_AUTO, MRC_ISA_BASELINE, MRC_ISA_AVX2 };
        static const mrc_dtype dtypes[] = { MRC_DTYPE_F32, MRC_DTYPE_BF16, MRC_DTYPE_I8 };
        for (size_t k = 0; head == 0 && k < 9; k++) {
            test_parts(name, dir, dtypes[k % 3], 1 + k % 4, isas[k / 3]);
        }
        const size_t n = predict(be, name, dir, MRC_DTYPE_F32, 0, want);
        predict(bf16, name, dir, MRC_DTYPE_BF16, 0, got);
        double e = difference(got, want, n, 1);
        CHECK(e > 0 && e <= 0.1, "%s, head %d: bf16 is off by %g", name, head, e);
        predict(bf16, name, dir, MRC_DTYPE_I8, 0, got);
        e = difference(got, want, n, 1);
        CHECK(e > 0 && e <= 0.2, "%s, head %d: bytes are off by %g", name, head, e);
        predict(be, name, dir, MRC_DTYPE_I8, 0, got);
        e = difference(got, want, n, 1);
        CHECK(e > 0 && e <= 0.2, "%s, head %d: bytes are off by %g", name, head, e);
        predict(be, name, dir, MRC_DTYPE_I8, MRC_LAYER_DOWN, kept);
        CHECK(difference(kept, got, n, 0) > 0 && difference(kept, want, n, 1) <= 0.2,
              "%s, head %d: int8_keep", name, head);
    }
}

static const char *scratch;
static mrc_backend *backends[2];
static mrc_status each(mrc_ctx *ctx, void *user, const char *name) {
    char path[128];
    (void)ctx;
    (void)user;
    snprintf(path, sizeof path, "families/%s", name);
    test_family(backends[0], backends[1], path, scratch);
    return MRC_OK;
}

int main(void) {
    char dir[64];
    snprintf(dir, sizeof dir, "/tmp/mrc-precisions-%ld", (long)getpid());
    scratch = dir;
    CHECK(mrc_backend_cpu_new(&backends[0], &(mrc_backend_desc){ .threads = 2 }) == MRC_OK, "cpu");
    CHECK(mrc_backend_cpu_new(&backends[1], &(mrc_backend_desc){ .threads = 1,
              .math = MRC_MATH_BF16 }) == MRC_OK, "cpu");
    mrc_ctx *ctx = new_ctx_on(backends[0]);
    test_family(backends[0], backends[1], "roberta_linear", dir);
    test_family(backends[0], backends[1], "bert_linear", dir);
    CHECK(mrc_dir_list(ctx, GOLDEN "families", each, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_dir_remove(ctx, dir) == MRC_OK, "%s", dir);
    mrc_ctx_free(ctx);
    for (int i = 0; i < 2; i++) mrc_backend_free(backends[i]);
    return test_end();
}
