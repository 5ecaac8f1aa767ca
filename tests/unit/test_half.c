// Mixed precision as a whole: models with f16 and bf16 activations against the same in f32, the
// loss scale over many steps, what a skipped step leaves alone, resuming.  And weights for
// prediction, packed: f32 to the bit of plain ones, bf16 with activations in f32.
#include "../support/backends.h"
#include <unistd.h>

enum { N_FEATURES = 5, MAX_LENGTH = 14, MAX_VALUES = 40000 };

static mrc_feature features[N_FEATURES];
static const mrc_feature *feature_list[N_FEATURES];

static void features_make(void) {
    static int32_t ids[N_FEATURES][MAX_LENGTH], types[N_FEATURES][MAX_LENGTH];
    static const int32_t lengths[N_FEATURES] = { 7, 14, 1, 9, 12 };
    for (int32_t i = 0; i < N_FEATURES; i++) {
        for (int32_t k = 0; k < lengths[i]; k++) {
            ids[i][k] = 2 + (k * 7 + i * 5) % 28;
            types[i][k] = k > lengths[i] / 2;
        }
        features[i] = (mrc_feature){ .length = lengths[i], .real_len = lengths[i] - (i == 4),
                                     .input_ids = ids[i], .token_type_ids = types[i],
                                     .loss_end = lengths[i], .start_position = lengths[i] / 3,
                                     .end_position = i == 3 ? -1 : lengths[i] / 2 };
        feature_list[i] = &features[i];
    }
}

static mrc_model_config small_config(void) {
    mrc_model_config c = mrc_model_config_default();
    c.vocab_size = 30;
    c.hidden_size = 16;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.intermediate_size = 24;
    c.max_position_embeddings = 20;
    c.head = MRC_HEAD_BILSTM;
    c.num_head_layers = 1;
    c.head_hidden_size = 8;
    c.initializer_range = 0.2;
    return c;
}

typedef struct trained { mrc_ctx *ctx; mrc_model *m; mrc_optimizer *o; } trained;

static mrc_optimizer_config scaled_config(mrc_dtype dtype) {
    mrc_optimizer_config c = mrc_optimizer_config_default();
    if (dtype != MRC_DTYPE_F16) return c;
    c.loss_scale = 0x1p24;                          // too much: the first steps overflow
    c.loss_scale_interval = 4;
    return c;
}

static trained trained_new(mrc_backend *be, mrc_dtype dtype, const char *from) {
    trained t = { .ctx = all_ctx(be) };
    const mrc_model_config c = small_config();
    const mrc_optimizer_config oc = scaled_config(dtype);
    char path[512];
    mrc_status s = !from ? mrc_model_new(t.ctx, &t.m, &c, dtype, 3)
                 : mrc_model_load(t.ctx, &t.m, &(mrc_model_load_desc){ .path = from,
                                                                       .dtype = dtype });
    if (s == MRC_OK) s = mrc_optimizer_new(t.ctx, &t.o, t.m->params, &oc);
    snprintf(path, sizeof path, "%s/optimizer.safetensors", from ? from : "");
    if (s == MRC_OK && from) s = mrc_optimizer_load(t.ctx, t.o, path);
    if (!CHECK(s == MRC_OK, "%s: %s", be->name, mrc_ctx_message(t.ctx))) exit(1);
    return t;
}

static void trained_free(trained *t) {
    mrc_optimizer_free(t->o);
    mrc_ctx_free(t->ctx);
    mrc_model_free(t->m);
}

static mrc_step_result trained_step(trained *t, uint32_t step) {
    mrc_step_desc desc = { .features = feature_list, .n = N_FEATURES, .micro_batch = 2, .lr = 1e-2,
                           .random = { .seed = 9, .step = step },
                           .forward = mrc_forward_config_default() };
    mrc_step_result r;
    desc.forward.dropout = 1;
    CHECK(mrc_train_step(t->ctx, t->m, t->o, &desc, &r) == MRC_OK, "%s", mrc_ctx_message(t->ctx));
    return r;
}

// Everything that a step may change, as bytes.  Copies are checked against their masters.
static size_t trained_read(const trained *t, mrc_backend *be, char *out, int copies_follow) {
    const mrc_params *lists[] = { t->m->params, t->o->exp_avg, t->o->exp_avg_sq };
    size_t bytes = 0, wrong = 0, copies = 0;
    for (int l = 0; l < 3; l++) {
        for (size_t i = 0; mrc_params_at(lists[l], i); i++) {
            const mrc_tensor *p = mrc_params_at(lists[l], i);
            float *values = (float *)(void *)(out + bytes);
            be->download(be, values, p->data, p->numel * sizeof *values);
            bytes += p->numel * sizeof *values;
            if (!p->copy) continue;
            uint16_t copy[2048], want[2048];
            copies++;
            mrc__narrow(p->copy_dtype, want, values, p->numel);
            be->download(be, copy, p->copy, p->numel * sizeof *copy);
            wrong += copies_follow && memcmp(copy, want, p->numel * sizeof *copy) != 0;
            memcpy(out + bytes, copy, p->numel * sizeof *copy);
            bytes += (p->numel * sizeof *copy + 3) / 4 * 4;
        }
    }
    CHECK(copies == 17 && wrong == 0, "%zu of %zu copies are not their masters", wrong, copies);
    CHECK(bytes < MAX_VALUES * sizeof(float), "the buffer is too small");
    return bytes;
}

//==============================================================================
// Gradients of the true loss, whatever the type and the scale
//==============================================================================
static double gradients(trained *t, mrc_backend *be, double scale, double *out) {
    const size_t two = 2;
    const double counted[2] = { 10, 8 };
    mrc_forward_config forward = mrc_forward_config_default();
    mrc_batch batch;
    double loss = NAN;
    forward.dropout = 1;
    mrc_ctx_set_random(t->ctx, (mrc_random){ .seed = 9 });
    CHECK(mrc_model_batch(t->ctx, t->m, &batch, feature_list, N_FEATURES, 0) == MRC_OK, "batch");
    mrc_tensor *n = test_tensor(t->ctx, mrc_tensor_new(t->ctx, MRC_DTYPE_F32, 1, &two, 0), counted);
    mrc_tensor *logits = mrc_model_forward(t->ctx, t->m, &batch, &forward);
    CHECK(logits && logits->dtype == t->m->dtype, "logits");
    mrc_tensor *y = mrc_cross_entropy(t->ctx, logits, batch.targets, n, &batch);
    if (!CHECK(y, "%s: %s", be->name, mrc_ctx_message(t->ctx))) exit(1);
    test_read(be, MRC_DTYPE_F32, y->data, 1, &loss);
    CHECK(test_backward(t->ctx, y, &scale) == MRC_OK, "%s", mrc_ctx_message(t->ctx));
    for (size_t i = 0; mrc_params_at(t->m->params, i); i++) {
        const mrc_tensor *p = mrc_params_at(t->m->params, i);
        if (!p->requires_grad) continue;
        test_read(be, MRC_DTYPE_F32, mrc_grad(t->ctx, p), p->numel, out);
        for (size_t k = 0; k < p->numel; k++) *out++ /= scale;
    }
    return loss;
}

static void test_gradients(mrc_backend *naive, mrc_backend *be, const char *label,
                           mrc_dtype dtype) {
    static double want[MAX_VALUES], got[MAX_VALUES];
    trained exact = trained_new(naive, MRC_DTYPE_F32, NULL), t = trained_new(be, dtype, NULL);
    const double scale = dtype == MRC_DTYPE_F16 ? 1024 : 1;
    const double unit = dtype == MRC_DTYPE_F16 ? 0x1p-11 : 0x1p-8;
    double loss[2] = { gradients(&exact, naive, 1, want), gradients(&t, be, scale, got) };
    double off = 0, norm = 0;
    for (size_t i = 0; i < MAX_VALUES; i++) {
        off += (want[i] - got[i]) * (want[i] - got[i]);
        norm += want[i] * want[i];
    }
    CHECK(fabs(loss[1] / loss[0] - 1) <= 8 * unit, "%s, %s: loss %g, %g expected", label,
          mrc_dtype_name(dtype), loss[1], loss[0]);
    CHECK(norm > 0.01 && sqrt(off / norm) <= 16 * unit, "%s, %s: gradients off by %g of their norm",
          label, mrc_dtype_name(dtype), sqrt(off / norm));
    trained_free(&exact);
    trained_free(&t);
}

//==============================================================================
// Steps: a skipped one changes no bit of weights, moments and copies; all resume to the bit
//==============================================================================
static void save(const trained *t, const char *dir) {
    char path[512];
    snprintf(path, sizeof path, "%s/optimizer.safetensors", dir);
    CHECK(mrc_model_save(t->ctx, t->m, dir, NULL) == MRC_OK, "%s", mrc_ctx_message(t->ctx));
    CHECK(mrc_optimizer_save(t->ctx, t->o, path) == MRC_OK, "%s", mrc_ctx_message(t->ctx));
}

static void test_steps(mrc_backend *be, const char *label, mrc_dtype dtype) {
    enum { STEPS = 28 };
    static char before[MAX_VALUES * 4], after[MAX_VALUES * 4], resumed[MAX_VALUES * 4];
    char dir[64];
    double first = 0, last = 0, scale = scaled_config(dtype).loss_scale;
    double highest = 0, lowest = scale;
    int skipped = 0, grew = 0;
    trained t = trained_new(be, dtype, NULL);
    snprintf(dir, sizeof dir, "/tmp/mrc-half-%ld", (long)getpid());
    size_t bytes = trained_read(&t, be, before, 1);
    for (uint32_t step = 0; step < STEPS; step++) {
        if (step % 5 == 1) save(&t, dir);
        mrc_step_result r = trained_step(&t, step);
        trained_read(&t, be, after, 1);
        CHECK(!r.skipped == (memcmp(before, after, bytes) != 0), "%s, %s, step %u: skipped %d",
              label, mrc_dtype_name(dtype), (unsigned)step, r.skipped);
        CHECK(r.skipped || isfinite(r.grad_norm), "a norm of %g", r.grad_norm);
        if (step % 5 == 1) {
            trained again = trained_new(be, dtype, dir);
            mrc_step_result s = trained_step(&again, step);
            trained_read(&again, be, resumed, 1);
            CHECK(!memcmp(after, resumed, bytes) && !memcmp(&r, &s, sizeof r), "%s, %s: step %u "
                  "resumed has other bits", label, mrc_dtype_name(dtype), (unsigned)step);
            trained_free(&again);
            CHECK(mrc_dir_remove(t.ctx, dir) == MRC_OK, "%s", dir);
        }
        if (step == 0) first = r.loss;
        last = r.loss;
        skipped += r.skipped;
        grew += r.loss_scale > scale;
        scale = r.loss_scale;
        highest = fmax(highest, scale);
        lowest = fmin(lowest, scale);
        memcpy(before, after, bytes);
    }
    CHECK(last < 0.9 * first, "%s, %s: loss from %g to %g", label, mrc_dtype_name(dtype), first,
          last);
    if (dtype == MRC_DTYPE_F16) {
        CHECK(skipped > 2 && skipped < 20 && lowest < 0x1p22 && grew > 0, "%d steps were skipped, "
              "the scale grew %d times, from %g", skipped, grew, lowest);
    } else {
        CHECK(skipped == 0 && highest == 0, "%d steps were skipped, scale %g", skipped, highest);
    }
    trained_free(&t);
}

//==============================================================================
// Weights for prediction
//==============================================================================
// y = x W^T + b on an instance, from weights that are packed as `dtype`, or plain; freed by nobody.
static mrc_status packed_linear(mrc_backend *be, const size_t n[3], const float *x, const float *w,
                                const float *b, int packed, mrc_dtype dtype, float *y) {
    mrc_linear_fwd_args a = { .n = n[0], .in = n[1], .out = n[2], .x = { MRC_DTYPE_F32, n[1], x },
                              .weight = { MRC_DTYPE_F32, n[1], w }, .bias = { MRC_DTYPE_F32, 0, b },
                              .y = { MRC_DTYPE_F32, n[2], y, 0 } };
    char *data = NULL;
    size_t bytes = packed ? be->prepack_bytes(be, dtype, n[2], n[1]) : 0;
    if (packed) {
        data = be->alloc(be, bytes + 64);
        memset(data, 0xff, bytes + 64);
        mrc_status s = be->prepack(be, data, dtype, n[2], n[1], w);
        if (s != MRC_OK) return s;
        for (size_t i = 0; i < 64; i++) {
            CHECK((signed char)data[bytes + i] == -1, "prepack writes past");
        }
        a.weight = (mrc_in){ dtype, 0, data };
    }
    mrc_status s = be->kernels[MRC_DTYPE_F32].linear_fwd(be, &a);
    be->free(be, data);
    return s;
}

static void round_bf16(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = mrc__from_bf16(mrc__to_bf16(x[i]));
}

static void test_packed(mrc_backend *be, const char *label) {
    enum { X = 100 * 1700, W = 1100 * 1700, Y = 100 * 1100 };
    static const size_t sizes[][3] = { { 1, 1, 1 }, { 3, 5, 2 }, { 13, 7, 33 }, { 100, 131, 70 },
        { 5, 40, 1065 }, { 14, 801, 40 }, { 2, 1601, 35 }, { 0, 3, 4 } };
    static float x[X], w[W], b[1100], want[Y], got[Y];
    mrc__host_backend *h = be->self;
    const int dot = h->dot_bf16;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const size_t *n = sizes[s];
        for (size_t i = 0; i < n[0] * n[1]; i++) x[i] = (float)test_random();
        for (size_t i = 0; i < n[2] * n[1]; i++) w[i] = (float)test_random();
        for (size_t i = 0; i < n[2]; i++) b[i] = (float)test_random();
        memset(got, 0xff, sizeof got);
        int same = be->prepack_bytes(be, MRC_DTYPE_F32, 1, 1) != 0;
        CHECK(same == (strcmp(be->name, "cpu") == 0), "%s packs f32", label);
        packed_linear(be, n, x, w, b, 0, MRC_DTYPE_F32, want);
        if (same) {
            CHECK(packed_linear(be, n, x, w, b, 1, MRC_DTYPE_F32, got) == MRC_OK, "%s", label);
            CHECK(!memcmp(want, got, n[0] * n[2] * sizeof *got), "%s: packed f32 weights, %zu x "
                  "%zu x %zu: other bits", label, n[0], n[1], n[2]);
        }
        for (h->dot_bf16 = 0; h->dot_bf16 <= dot; h->dot_bf16++) {
            double worst = 0, scale = 1;
            memset(got, 0xff, sizeof got);
            CHECK(packed_linear(be, n, x, w, b, 1, MRC_DTYPE_BF16, got) == MRC_OK, "%s", label);
            round_bf16(w, n[2] * n[1]);             // the kernels' own rounding does nothing more
            if (h->dot_bf16) round_bf16(x, n[0] * n[1]);
            for (size_t i = 0; i < n[0] * n[2]; i++) {
                double y = b[i % n[2]];
                for (size_t k = 0; k < n[1]; k++) {
                    y += (double)x[i / n[2] * n[1] + k] * (double)w[i % n[2] * n[1] + k];
                }
                double e = fabs(y - (double)got[i]);
                scale = fmax(scale, fabs(y));
                if (!(e <= worst)) worst = e == e ? e : HUGE_VAL;
            }
            CHECK(worst <= 2e-6 * scale, "%s: packed bf16 weights, %zu x %zu x %zu, dot %d: off by "
                  "%g of %g", label, n[0], n[1], n[2], h->dot_bf16, worst, scale);
        }
        h->dot_bf16 = dot;
    }
}

// GELU after a packed map of 16 or 8 bits is made by a polynomial: near x Phi(x) everywhere, 0 and
// x far out, and a NaN stays alone.
static void test_packed_gelu(mrc_backend *be, const char *label) {
    enum { N = 2061 };
    static float x[N], y[N], z[N];
    const float one = 1, zero = 0, far[] = { 5, -5, 6, -6, 1e10f, -1e10f, 1e30f, -1e30f, NAN };
    for (int i = 0; i < N; i++) x[i] = (float)(i - 1026) * 0x1p-7f;
    memcpy(x + N - 9, far, sizeof far);
    for (int k = 0; k < 2; k++) {
        const mrc_dtype dtype = k ? MRC_DTYPE_I8 : MRC_DTYPE_BF16;
        void *data = be->alloc(be, be->prepack_bytes(be, dtype, 1, 1));
        mrc_linear_fwd_args a = { .n = N, .in = 1, .out = 1, .act = MRC_ACT_GELU,
                                  .x = { MRC_DTYPE_F32, 1, x }, .weight = { dtype, 0, data },
                                  .bias = { MRC_DTYPE_F32, 0, &zero },
                                  .y = { MRC_DTYPE_F32, 1, y, 0 },
                                  .z = { MRC_DTYPE_F32, 1, z, 0 } };
        CHECK(be->prepack(be, data, dtype, 1, 1, &one) == MRC_OK, "%s", label);
        CHECK(be->kernels[MRC_DTYPE_F32].linear_fwd(be, &a) == MRC_OK, "%s", label);
        for (int i = 0; i < N; i++) {
            const double want = mrc__gelu((double)z[i]), e = fabs((double)y[i] - want);
            if (isnan(x[i])) {
                CHECK(isnan(y[i]) && !isnan(y[i - 1]), "%s: a NaN stays, alone", label);
                continue;
            }
            CHECK(fabs((double)z[i] - (double)x[i]) <= 1e-2 * fabs((double)x[i]), "z");
            CHECK(e <= 4e-6 + 3e-7 * fabs(want), "%s: %s, gelu(%g) is %g, not %g", label,
                  mrc_dtype_name(dtype), (double)z[i], (double)y[i], want);
        }
        be->free(be, data);
    }
}

// The logits of a model that was loaded in some way.
static size_t predicted(mrc_backend *be, const char *dir, mrc_dtype dtype, int for_prediction,
                        double *out) {
    const mrc_forward_config forward = mrc_forward_config_default();
    mrc_ctx *ctx = all_ctx(be);
    mrc_model *m;
    mrc_batch batch;
    CHECK(mrc_model_load(ctx, &m, &(mrc_model_load_desc){ .path = dir, .dtype = dtype,
              .for_prediction = for_prediction }) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_no_grad(ctx, 1);
    CHECK(mrc_model_batch(ctx, m, &batch, feature_list, N_FEATURES, 0) == MRC_OK, "batch");
    mrc_tensor *y = mrc_model_forward(ctx, m, &batch, &forward);
    if (!CHECK(y, "%s: %s", be->name, mrc_ctx_message(ctx))) exit(1);
    test_read(be, y->dtype, y->data, y->numel, out);
    size_t n = y->numel;
    if (for_prediction) {
        mrc_ctx_reset(ctx);
        CHECK(mrc_model_save(ctx, m, dir, NULL) == MRC_ERR_ARG, "saved");
        CHECK(strstr(mrc_ctx_message(ctx), "loaded for prediction only"), "%s",
              mrc_ctx_message(ctx));
        mrc_ctx_clear_error(ctx);
    }
    mrc_ctx_free(ctx);
    mrc_model_free(m);
    return n;
}

static void test_prediction(mrc_backend *be, const char *label, const char *dir) {
    double want[200], got[200];
    size_t n = predicted(be, dir, MRC_DTYPE_F32, 0, want);
    CHECK(n == predicted(be, dir, MRC_DTYPE_F32, 1, got) && !memcmp(want, got, n * sizeof *got),
          "%s: packed weights have other bits", label);
    CHECK(n == predicted(be, dir, MRC_DTYPE_BF16, 1, got), "%s", label);
    double e = test_error(got, want, n);
    CHECK(e > 0 && e <= 0x1p-5, "%s: bf16 weights move logits by %g", label, e);
}

// A weight that is packed has no backward, and no op reads it but those that can.
static void test_packed_refusals(mrc_backend *cpu) {
    const size_t shape[2] = { 3, 5 }, three = 3;
    static const double zeros[15];
    mrc_params *params;
    mrc_tensor *w, *b, *y;
    mrc_ctx *ctx = all_ctx(cpu);
    float back[15];
    CHECK(mrc_params_new(&params, cpu, NULL) == MRC_OK, "params");
    CHECK(mrc_param_packed_new(params, &w, "w", MRC_DTYPE_F16, 3, 5) == MRC_ERR_UNSUPPORTED && !w,
          "f16 on cpu");
    CHECK(mrc_param_packed_new(params, &w, "w", MRC_DTYPE_BF16, 3, 5) == MRC_OK, "bf16");
    CHECK(mrc_param_new(params, &b, "b", MRC_DTYPE_F32, 1, &three) == MRC_OK, "b");
    CHECK(test_tensor(ctx, w, zeros) && test_tensor(ctx, b, zeros), "upload");
    mrc_tensor *x = test_tensor(ctx, mrc_tensor_new(ctx, MRC_DTYPE_F32, 2, shape, 0), zeros);
    CHECK(mrc_tensor_download(ctx, w, back) == MRC_ERR_ARG, "download");
    mrc_ctx_clear_error(ctx);
    CHECK(!mrc_linear(ctx, x, w, b, MRC_ACT_NONE), "b wants a gradient");
    CHECK(!strcmp(mrc_ctx_message(ctx), "linear: w is for prediction and has no backward"), "%s",
          mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    mrc_no_grad(ctx, 1);
    CHECK((y = mrc_linear(ctx, x, w, b, MRC_ACT_NONE)) != NULL, "%s", mrc_ctx_message(ctx));
    mrc_tensor *wide = mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, shape, 0);
    CHECK(!mrc_linear(ctx, wide, w, b, MRC_ACT_NONE), "x is f64");
    CHECK(!strcmp(mrc_ctx_message(ctx), "linear: x is f64, w is for prediction"), "%s",
          mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    mrc_params_free(params);
}

// What cannot be is said.
static void test_refusals(mrc_backend *cpu) {
    mrc_ctx *ctx = all_ctx(cpu);
    const mrc_model_config c = small_config();
    mrc_optimizer_config oc = scaled_config(MRC_DTYPE_F16);
    mrc_optimizer *o;
    mrc_model *m;
    CHECK(mrc_model_new(ctx, &m, &c, MRC_DTYPE_F16, 0) == MRC_ERR_UNSUPPORTED && !m, "f16 on cpu");
    CHECK(!strcmp(mrc_ctx_message(ctx), "model: backend cpu has no kernels for f16"), "%s",
          mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 0) == MRC_OK, "%s", mrc_ctx_message(ctx));
    oc.loss_scale = 0.5;
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &oc) == MRC_ERR_ARG, "a scale below 1");
    mrc_ctx_clear_error(ctx);
    oc.loss_scale = NAN;
    CHECK(mrc_optimizer_new(ctx, &o, m->params, &oc) == MRC_ERR_ARG, "a scale of NaN");
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

int main(void) {
    static all_backends all;
    char dir[64];
    all_new(&all);
    features_make();
    snprintf(dir, sizeof dir, "/tmp/mrc-half-model-%ld", (long)getpid());
    trained t = trained_new(all.be[0], MRC_DTYPE_F32, NULL);
    CHECK(mrc_model_save(t.ctx, t.m, dir, NULL) == MRC_OK, "%s", mrc_ctx_message(t.ctx));
    for (int k = 0; k < all.n; k++) {
        if (!strcmp(all.be[k]->name, "guard")) continue;
        if (!strcmp(all.label[k], "cpu baseline x1")) {
            test_refusals(all.be[k]);
            test_packed_refusals(all.be[k]);
        }
        if (all.be[k]->prepack) test_packed(all.be[k], all.label[k]);
        if (all.be[k]->prepack) test_packed_gelu(all.be[k], all.label[k]);
        test_prediction(all.be[k], all.label[k], dir);
        for (mrc_dtype dtype = MRC_DTYPE_F16; dtype <= MRC_DTYPE_BF16; dtype++) {
            if (!all_has(all.be[k], dtype)) continue;
            test_gradients(all.be[0], all.be[k], all.label[k], dtype);
            test_steps(all.be[k], all.label[k], dtype);
        }
    }
    CHECK(mrc_dir_remove(t.ctx, dir) == MRC_OK, "%s", dir);
    trained_free(&t);
    all_free(&all);
    return test_end();
}
