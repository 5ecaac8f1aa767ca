// The CUDA source's tensor cores, recurrent sweeps and training in 16 bits, each path, against the
// naive kernels.  (The op table has the other kernels, and smaller sizes of these.)
#include "../support/cuda.h"
#ifndef MRC_TEST_GPU
#include "../cuda/bugs.h"
#endif

enum { MOST = 1 << 17 };

// max |a - b| relative to max |b|; a NaN gives infinity.
static double error_of(const double *a, const double *b, size_t n) {
    double worst = 0, scale = 0.01;
    for (size_t i = 0; i < n; i++) {
        double e = fabs(a[i] - b[i]);
        if (!(e < HUGE_VAL)) return HUGE_VAL;
        worst = e > worst ? e : worst;
        scale = fabs(b[i]) > scale ? fabs(b[i]) : scale;
    }
    return worst / scale;
}

// Half a unit in the last place of numbers of a type, relative.
static double rounding(mrc_dtype dtype) {
    return dtype == MRC_DTYPE_F16 ? 0x1p-11 : dtype == MRC_DTYPE_BF16 ? 0x1p-8 : 1e-7;
}

// A master of the step, and for a matrix its 16-bit copy.
static mrc_tensor *weight_new(mrc_ctx *ctx, mrc_dtype dtype, int ndim, const size_t *shape,
                              const double *values) {
    mrc_tensor *t = mrc_tensor_new(ctx, MRC_DTYPE_F32, ndim, shape, 1);
    if (t && ndim == 2 && mrc__is_half(dtype)) {
        mrc_tensor *copy = mrc_tensor_new(ctx, dtype, ndim, shape, 0);
        t->copy = copy ? copy->data : NULL;
        t->copy_dtype = dtype;
    }
    return test_tensor(ctx, t, values);
}

//==============================================================================
// Products
//==============================================================================
// pad: what rows are longer than they need be; out: 16 bits are written, not 32.
typedef struct product { size_t m, n, k, pad; int out, accumulate; const char *why; } product;
static const product products[] = {
    { 64, 64, 64, 0, 0, 0, "one tile, aligned" },
    { 64, 64, 96, 8, 1, 1, "three slices, added to what is there" },
    { 37, 70, 53, 3, 0, 1, "nothing is a multiple of anything, rows not aligned" },
    { 5, 9, 7, 0, 1, 0, "smaller than a fragment" },
    { 1, 1, 1, 0, 0, 0, "one element" },
    { 200, 130, 40, 8, 0, 0, "several tiles" },
    { 1050, 900, 33, 0, 1, 0, "tiles of 128, rows not aligned" },
    { 770, 900, 44, 0, 0, 0, "whole tiles, edges on both sides, a slice that is not full" },
    { 770, 900, 16, 4, 0, 1, "whole tiles, added to what is there" },
    { 1024, 512, 104, 0, 1, 0, "tiles of 128, three whole slices and a part of one" },
    { 3, 4, 0, 0, 0, 0, "a sum over nothing" },
};

static void *put(mrc_backend *be, mrc_dtype dtype, const double *values, size_t n) {
    static double raw[1 << 20];
    void *at = be->alloc(be, n * mrc_dtype_bytes(dtype) + 1);
    test_encode(dtype, values, n, raw);
    CHECK(at && be->upload(be, at, raw, n * mrc_dtype_bytes(dtype)) == MRC_OK, "upload");
    return at;
}

// c and the columns behind it, on a backend.
static void multiply(mrc_backend *be, mrc_dtype dtype, const product *p, int form,
                     const double *x, double *c) {
    const int ta = form & 1, tb = form >> 1;
    const mrc_dtype out = p->out ? dtype : MRC_DTYPE_F32;
    const size_t lda = (ta ? p->m : p->k) + p->pad, ldb = (tb ? p->k : p->n) + p->pad;
    const size_t ldc = p->n + p->pad;
    mrc_gemm_args g = { .m = p->m, .n = p->n, .k = p->k, .a_transposed = ta, .b_transposed = tb };
    void *a = put(be, dtype, x, (ta ? p->k : p->m) * lda);
    void *b = put(be, dtype, x + 1000, (tb ? p->n : p->k) * ldb);
    void *to = put(be, out, x + 500, p->m * ldc);
    g.a = (mrc_in){ dtype, lda, a };
    g.b = (mrc_in){ dtype, ldb, b };
    g.c = (mrc_out){ out, ldc, to, p->accumulate };
    CHECK(be->kernels[dtype].gemm(be, &g) == MRC_OK, "gemm, %s", p->why);
    test_read(be, out, to, p->m * ldc, c);
    be->free(be, a);
    be->free(be, b);
    be->free(be, to);
}

static void test_product(mrc_backend *be, mrc_backend *naive, mrc_dtype dtype, const product *p,
                         double allowed) {
    static double x[1 << 20], got[1 << 20], want[1 << 20];
    test_rng = 9;
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = test_random();
    for (int form = 0; form < (p->m > 1000 ? 1 : 4); form++) {
        multiply(be, dtype, p, form, x, got);
        multiply(naive, dtype, p, form, x, want);
        double e = error_of(got, want, p->m * (p->n + p->pad));
        double limit = allowed + (p->out ? 2 * rounding(dtype) : 0);
        CHECK(e <= limit, "%s %s, %s, form %d: off by %g", be->isa, mrc_dtype_name(dtype), p->why,
              form, e);
        for (size_t j = 0; j < p->m * p->pad; j++) {        // not a bit behind the columns
            size_t at = j / p->pad * (p->n + p->pad) + p->n + j % p->pad;
            if (!CHECK(got[at] == want[at], "%s writes behind its columns", p->why)) break;
        }
    }
}
static void test_products(mrc_backend *be, mrc_backend *naive, mrc_dtype dtype, double allowed) {
    for (size_t i = 0; i < sizeof products / sizeof *products; i++) {
        test_product(be, naive, dtype, &products[i], allowed);
    }
}

// A weight's gradient over many rows is split, and y is gelu of the z that is kept, to the bit.
static void test_linear_of(mrc_backend *be, mrc_backend *naive, mrc_dtype dtype, double allowed,
                           size_t I, size_t O) {
    enum { N = 1100, MOST_I = 24, MOST_O = 16 };
    static double x[2 * N * MOST_I], got[2][MOST_O * MOST_I], y[N * MOST_O], again[N * MOST_O];
    mrc_backend *const on[2] = { naive, be };
    for (size_t i = 0; i < 2 * N * I; i++) x[i] = test_random();
    for (int k = 0; k < 2; k++) {
        mrc_ctx *ctx = new_ctx(on[k]);
        const size_t shape[2] = { N, I }, weight[2] = { O, I }, bias = O;
        mrc_tensor *in = test_tensor(ctx, mrc_tensor_new(ctx, dtype, 2, shape, 0), x);
        mrc_tensor *w = weight_new(ctx, dtype, 2, weight, x + 7);
        mrc_tensor *b = weight_new(ctx, dtype, 1, &bias, x + 3);
        mrc_tensor *z = mrc_linear(ctx, in, w, b, MRC_ACT_NONE), *of_z = test_gelu(ctx, z);
        mrc_tensor *out = mrc_linear(ctx, in, w, b, MRC_ACT_GELU);
        int ok = of_z && test_backward(ctx, out, x + 11) == MRC_OK;
        if (!CHECK(ok, "%s", mrc_ctx_message(ctx))) return;
        test_read(on[k], mrc__stat_dtype(dtype), mrc_grad(ctx, w), O * I, got[k]);
        test_read(on[k], dtype, out->data, N * O, y);
        test_read(on[k], dtype, of_z->data, N * O, again);
        CHECK(!memcmp(y, again, N * O * sizeof *y), "%s: y is not gelu of z", on[k]->isa);
        mrc_ctx_free(ctx);
    }
    double e = error_of(got[1], got[0], O * I);
    CHECK(e <= allowed, "%s %s: a split gradient is off by %g", be->isa, mrc_dtype_name(dtype), e);
}
static void test_linear(mrc_backend *be, mrc_backend *naive, mrc_dtype dtype, double allowed) {
    test_linear_of(be, naive, dtype, allowed, 20, 12);
    test_linear_of(be, naive, dtype, allowed, 24, 16);          // rows are aligned
}

//==============================================================================
// LSTM and GRU
//==============================================================================
typedef struct sweep { size_t in, h, n; int32_t lengths[20]; int no_grad; const char *why; } sweep;
static const sweep sweeps[] = {
    { 8, 128, 4, { 5, 0, 3, 12 }, 0, "in registers" },
    { 6, 128, 20, { 1, 4, 2, 3, 1, 4, 2, 3, 1, 4, 2, 3, 1, 4, 2, 3, 1, 4, 2, 3 }, 0,
      "in registers, more sequences than are swept together" },
    { 6, 128, 3, { 2, 5, 1 }, 1, "in registers, nothing is saved" },
    { 5, 33, 20, { 3, 4, 2, 3, 1, 4, 2, 3, 1, 1, 2, 3, 1, 4, 2, 3, 1, 4, 2, 3 }, 0,
      "one block" },
    { 7, 150, 3, { 3, 1, 4 }, 0, "several blocks, slices that are not full" },
    { 7, 148, 3, { 3, 1, 4 }, 0, "several blocks, rows of four" },
};

// A sweep of a layer on a backend: gates 4 is an LSTM, 3 a GRU.
typedef struct sweep_on {
    mrc_backend *be; mrc_dtype dtype; const sweep *s; size_t gates;
} sweep_on;

// y, then the gradients of x and of the parameters.  Returns how many numbers.
static size_t sweep_run(const void *what, double *out) {
    static double values[MOST];
    const sweep_on *on = what;
    const sweep *s = on->s;
    mrc_backend *be = on->be;
    const mrc_dtype dtype = on->dtype;
    const size_t h = s->h, rows_of = on->gates * h;
    const size_t shape[4][2] = { { rows_of, s->in }, { rows_of, h }, { rows_of }, { rows_of } };
    int32_t cu[21] = {0};
    mrc_tensor *p[8], *x, *y;
    mrc_batch batch;
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) cu[i + 1] = cu[i] + s->lengths[i];
    const size_t rows[2] = { (size_t)cu[s->n], s->in };
    mrc_ctx *ctx = new_ctx(be);
    test_rng = 3;
    for (int i = 0; i < 8; i++) {
        for (size_t j = 0; j < rows_of * (i % 4 < 2 ? shape[i % 4][1] : 1); j++) {
            values[j] = test_random() * (i % 4 < 2 ? 1.5 / sqrt((double)h) : 1);
        }
        p[i] = weight_new(ctx, dtype, i % 4 < 2 ? 2 : 1, shape[i % 4], values);
    }
    for (size_t j = 0; j < MOST; j++) values[j] = test_random();
    x = test_tensor(ctx, mrc_tensor_new(ctx, dtype, 2, rows, 1), values);
    mrc_batch_new(ctx, &batch, &(mrc_batch_desc){ .n_sequences = s->n, .cu_seqlens = cu });
    mrc_no_grad(ctx, s->no_grad);
    y = on->gates == 4 ? mrc_lstm(ctx, x, p, &batch) : mrc_gru(ctx, x, p, &batch);
    if (y && !s->no_grad) test_backward(ctx, y, values + 99);
    CHECK(mrc_ctx_status(ctx) == MRC_OK, "%s: %s", s->why, mrc_ctx_message(ctx));
    if (y) test_read(be, dtype, y->data, y->numel, out);
    n += rows[0] * 2 * h;
    for (int i = -1; !s->no_grad && i < 8; i++) {
        const mrc_tensor *t = i < 0 ? x : p[i];
        test_read(be, i < 0 ? dtype : MRC_DTYPE_F32, mrc_grad(ctx, t), t->numel, out + n);
        n += t->numel;
    }
    mrc_ctx_free(ctx);
    return n;
}

static void test_sweep(mrc_backend *be, mrc_backend *naive, mrc_dtype dtype, const sweep *s,
                       size_t gates) {
    static double got[4 * MOST], want[4 * MOST];
    const sweep_on on = { be, dtype, s, gates }, expected = { naive, dtype, s, gates };
    size_t n = sweep_run(&expected, want);
    CHECK(sweep_run(&on, got) == n, "%s", s->why);
    double e = error_of(got, want, n);
    CHECK(e <= 8 * rounding(dtype), "%s %s, %s %s: off by %g", be->isa, mrc_dtype_name(dtype),
          gates == 4 ? "LSTM" : "GRU", s->why, e);
}
static void test_sweeps(mrc_backend *be, mrc_backend *naive, mrc_dtype dtype) {
    for (size_t i = 0; i < 2 * sizeof sweeps / sizeof *sweeps; i++) {
        test_sweep(be, naive, dtype, &sweeps[i / 2], 3 + i % 2);
    }
}

// A bug that only sweeps in registers can have.
#ifndef MRC_TEST_GPU
static void test_sweep_bug(mrc_backend *be) {
    static double got[4 * MOST], want[4 * MOST];
    for (size_t gates = 3; gates <= 4; gates++) {
        const sweep_on on = { be, MRC_DTYPE_F16, &sweeps[0], gates };
        const size_t n = sweep_run(&on, want);
        mrc_shim_bug = MRC_BUG_RNN_EARLY;
        CHECK(sweep_run(&on, got) == n && error_of(got, want, n) > 8 * rounding(MRC_DTYPE_F16),
              "%s: no sweep shows that what is read ahead is the first step's", be->isa);
        mrc_shim_bug = MRC_BUG_NONE;
    }
}
#endif

// The order in which blocks and threads happen to run is not in the bits: of a sweep in registers
// and of one in shared memory, both with a grid barrier.
static void test_schedules(mrc_backend *be, mrc_dtype dtype) {
    static double got[4 * MOST], first[4 * MOST];
    for (size_t i = 0; i < 4; i++) {
        const sweep_on on = { be, dtype, &sweeps[i / 2 ? 4 : 0], 3 + i % 2 };
        same_in_orders(on.s->why, sweep_run, &on, 3, first, got);
    }
}

//==============================================================================
// Training with a loss scale
//==============================================================================
typedef struct trainer { mrc_backend *be; mrc_ctx *ctx; mrc_optimizer *o; model m; } trainer;

static mrc_optimizer_config scaled(void) {
    mrc_optimizer_config config = mrc_optimizer_config_default();
    config.loss_scale = 1024;
    config.loss_scale_hysteresis = 1;
    return config;
}

static void trainer_new(trainer *t, mrc_backend *be, mrc_dtype dtype) {
    const mrc_optimizer_config config = scaled();
    t->be = be;
    CHECK(model_make(&t->m, be, NULL, dtype, 1) == MRC_OK, "model");
    t->ctx = new_ctx(be);
    CHECK(mrc_optimizer_new(t->ctx, &t->o, t->m.params, &config) == MRC_OK, "optimizer");
}
static void trainer_free(trainer *t) {
    mrc_ctx_free(t->ctx);
    mrc_optimizer_free(t->o);
    mrc_params_free(t->m.params);
}

// One step: its loss and gradient norm, and whether it was skipped.
static int trainer_step(trainer *t, double *loss, double *norm, int64_t *applied) {
    layer_ref refs[LAYERS];
    int skipped = -1;
    mrc_ctx_set_random(t->ctx, (mrc_random){ .seed = 7, .step = 3 });
    mrc_tensor *y = model_loss(t->ctx, &t->m, refs, PLAIN);
    mrc_status s = mrc_backward(t->ctx, y, mrc_optimizer_loss_scale(t->o));
    if (y) test_read(t->be, MRC_DTYPE_F32, y->data, 1, loss);
    mrc_ctx_reset(t->ctx);
    if (s == MRC_OK) s = mrc_optimizer_step(t->ctx, t->o, 1e-2);
    if (s == MRC_OK) s = mrc_optimizer_stats(t->ctx, t->o, norm, applied, &skipped);
    CHECK(s == MRC_OK, "step: %s", mrc_ctx_message(t->ctx));
    return skipped;
}

static double scale_of(const trainer *t) {
    double scale;
    test_read(t->be, MRC_DTYPE_F32, mrc_optimizer_loss_scale(t->o)->data, 1, &scale);
    return scale;
}

// The bits of everything that a step may change, masters and copies and moments; how many bytes.
static size_t trainer_bits(const trainer *t, unsigned char *out) {
    const mrc_params *const lists[3] = { t->m.params, t->o->exp_avg, t->o->exp_avg_sq };
    size_t n = 0;
    for (int l = 0; l < 3; l++) {
        const mrc_tensor *p;
        for (size_t i = 0; (p = mrc_params_at(lists[l], i)) != NULL; i++) {
            t->be->download(t->be, out + n, p->data, p->numel * 4);
            n += p->numel * 4;
            if (!p->copy) continue;
            t->be->download(t->be, out + n, p->copy, p->numel * 2);
            n += p->numel * 2;
        }
    }
    return n;
}

static void test_training(mrc_backend *be, mrc_backend *naive, mrc_dtype dtype) {
    static unsigned char before[1 << 17], after[1 << 17];
    const mrc_optimizer_config config = scaled();
    const float huge = 0x1p40f;
    double loss[2], norm[2];
    int64_t applied = 0;
    trainer t[2];
    mrc_optimizer *other = NULL;
    char path[64];
    trainer_new(&t[0], naive, dtype);
    trainer_new(&t[1], be, dtype);
    for (int k = 0; k < 2; k++) CHECK(!trainer_step(&t[k], &loss[k], &norm[k], &applied), "step");
    CHECK(fabs(loss[1] - loss[0]) <= 4 * rounding(dtype) * fabs(loss[0]), "%s: loss %g and %g",
          be->isa, loss[1], loss[0]);
    CHECK(fabs(norm[1] - norm[0]) <= 16 * rounding(dtype) * norm[0], "%s: norm %g and %g", be->isa,
          norm[1], norm[0]);
    // Planted: a scale that no gradient in f16 survives.  Nothing changes but the scale.
    be->upload(be, mrc_optimizer_loss_scale(t[1].o)->data, &huge, sizeof huge);
    size_t n = trainer_bits(&t[1], before);
    int skipped = trainer_step(&t[1], &loss[1], &norm[1], &applied);
    CHECK(skipped == 1 && applied == 1 && !(norm[1] < HUGE_VAL), "skipped %d, %d steps, norm %g",
          skipped, (int)applied, norm[1]);
    CHECK(trainer_bits(&t[1], after) == n && !memcmp(before, after, n), "a skipped step writes");
    CHECK(scale_of(&t[1]) == 0x1p39, "the scale is %g", scale_of(&t[1]));
    // It is part of what is saved.
    snprintf(path, sizeof path, "build/test/cuda-half.%d", (int)getpid());
    CHECK(mrc_optimizer_save(t[1].ctx, t[1].o, path) == MRC_OK, "save");
    CHECK(mrc_optimizer_new(t[1].ctx, &other, t[1].m.params, &config) == MRC_OK
          && mrc_optimizer_load(t[1].ctx, other, path) == MRC_OK, "load");
    mrc_optimizer_free(t[1].o);
    t[1].o = other;
    CHECK(trainer_bits(&t[1], after) == n && !memcmp(before, after, n), "moments after loading");
    CHECK(scale_of(&t[1]) == 0x1p39, "the loaded scale is %g", scale_of(&t[1]));
    remove(path);
    trainer_free(&t[0]);
    trainer_free(&t[1]);
}

// What ThreadSanitizer has the time for: a product, and sweeps with a grid barrier.
static void test_threads(mrc_backend *be, mrc_backend *naive) {
    static const sweep shared = { 5, 80, 2, { 1, 2 }, 0, "several blocks" };
    static const sweep registers = { 8, 128, 1, { 2 }, 1, "in registers, forward" };
    test_product(be, naive, MRC_DTYPE_F16, &products[2], 2e-6);
    for (size_t gates = 3; gates <= 4; gates++) {
        test_sweep(be, naive, MRC_DTYPE_F16, &shared, gates);
    }
    test_sweep(be, naive, MRC_DTYPE_F16, &registers, 3);
}

int main(void) {
    const char *config = getenv("MRC_TEST_CONFIG");
    const int slow = config && strstr(config, "tsan") != NULL;
    mrc_backend *naive = NULL;
    mrc_backend_naive_new(&naive, NULL);
    for (int path = 70; path <= 90; path += 10) {
        mrc_backend *be = cuda_new(path, 0);
        if (!be) continue;
        if (slow) {
            test_threads(be, naive);
            mrc_backend_free(be);
            continue;
        }
        for (mrc_dtype dtype = MRC_DTYPE_F16; dtype <= MRC_DTYPE_BF16; dtype++) {
            if (!be->kernels[dtype].gemm) continue;
            test_products(be, naive, dtype, 2e-6);
            test_linear(be, naive, dtype, 1e-3);
            test_sweeps(be, naive, dtype);
        }
#ifndef MRC_TEST_GPU
        test_sweep_bug(be);
#endif
        test_schedules(be, MRC_DTYPE_F16);
        test_training(be, naive, MRC_DTYPE_F16);
        if (path == 70) test_sweeps(be, naive, MRC_DTYPE_F32);
        mrc_backend_free(be);
    }
    mrc_backend *tf32 = slow ? NULL : cuda_new(80, 1);
    if (tf32) test_products(tf32, naive, MRC_DTYPE_F32, 2e-3);
    mrc_backend_free(tf32);
    mrc_backend_free(naive);
    return test_end();
}
