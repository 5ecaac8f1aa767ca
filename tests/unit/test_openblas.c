// The openblas backend: every matrix product of the fused kernels goes through it, the number of
// its threads is not touched unasked, and it is taken down without a trace.
// tags: bare threads
#include "../support/backends.h"

#ifdef MRC_OPENBLAS
static size_t calls;                    // of cblas_sgemm
static mrc_openblas_sgemm *real_sgemm;

static void counting_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                           const float *a, int lda, const float *b, int ldb, float beta, float *c,
                           int ldc) {
    calls++;
    real_sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

enum { N = 6, IN = 5, OUT = 8 };
static float x[N * IN], w[4 * OUT * IN], bias[4 * OUT], y[N * 8 * OUT], z[N * 8 * OUT];
static float dy[N * 3 * OUT], dx[N * IN], dw[3][OUT * IN];

static mrc_in matrix(const float *data, size_t ld) {
    return (mrc_in){ MRC_DTYPE_F32, ld, data };
}
static mrc_out result(float *data, size_t ld) {
    return (mrc_out){ MRC_DTYPE_F32, ld, data, 0 };
}

// How many products a kernel asks OpenBLAS for.
static size_t products(mrc_backend *be, int kernel) {
    const mrc_kernels *k = &be->kernels[MRC_DTYPE_F32];
    mrc_linear_fwd_args lf = { .n = N, .in = IN, .out = OUT, .act = MRC_ACT_GELU,
                               .x = matrix(x, IN), .weight = matrix(w, IN),
                               .bias = matrix(bias, 0), .y = result(y, OUT),
                               .z = result(z, OUT) };
    mrc_linear_bwd_args lb = { .n = N, .in = IN, .out = OUT, .x = matrix(x, IN),
                               .weight = matrix(w, IN), .dy = matrix(dy, OUT),
                               .dx = result(dx, IN), .dweight = result(dw[0], IN) };
    mrc_status s = MRC_ERR_ARG;
    calls = 0;
    if (kernel == KERNEL_linear_fwd) s = k->linear_fwd(be, &lf);
    if (kernel == KERNEL_linear_bwd) s = k->linear_bwd(be, &lb);
    CHECK(s == MRC_OK, "kernel %d", kernel);
    return calls;
}

// x W^T of an LSTM's two directions.
static size_t lstm_products(mrc_backend *be) {
    const int32_t cu[] = { 0, N };
    float hh[4 * OUT * OUT] = { 0 };
    mrc_lstm_fwd_args a = { .n = N, .n_sequences = 1, .max_length = N, .in = IN, .h = OUT,
                            .cu_seqlens = { MRC_DTYPE_I32, 1, cu }, .x = matrix(x, IN),
                            .y = result(y, 2 * OUT) };
    for (int i = 0; i < 2; i++) {
        a.weight_ih[i] = matrix(w, IN);
        a.weight_hh[i] = matrix(hh, OUT);
        a.bias_ih[i] = a.bias_hh[i] = matrix(bias, 0);
    }
    a.workspace = be->alloc(be, be->kernels[MRC_DTYPE_F32].lstm_fwd_workspace(be, &a));
    calls = 0;
    CHECK(be->kernels[MRC_DTYPE_F32].lstm_fwd(be, &a) == MRC_OK, "lstm_fwd");
    be->free(be, a.workspace);
    return calls;
}

static void test_products(void) {
    mrc_backend *be;
    if (!CHECK(mrc_backend_openblas_new(&be, &(mrc_backend_desc){ .threads = 1 }) == MRC_OK,
               "openblas")) return;
    mrc_openblas *o = be->derived;
    real_sgemm = o->sgemm;
    o->sgemm = counting_sgemm;
    CHECK(strcmp(be->name, "openblas") == 0, "its name is %s", be->name);
    CHECK(products(be, KERNEL_linear_fwd) == 1, "linear_fwd: %zu products", calls);
    CHECK(products(be, KERNEL_linear_bwd) == 2, "linear_bwd: %zu products", calls);
    CHECK(lstm_products(be) == 2, "lstm_fwd: %zu products", calls);
    mrc_backend_free(be);
}

// Products without rows, columns or depth; sizes that do not fit an int.
static void test_edges(void) {
    mrc_backend *be;
    float one = NAN, two[2] = { 3, 5 };
    if (!CHECK(mrc_backend_openblas_new(&be, NULL) == MRC_OK, "openblas")) return;
    mrc_status (*gemm)(mrc_backend *, const mrc_gemm_args *) = be->kernels[MRC_DTYPE_F32].gemm;
    mrc_gemm_args g = { .m = 1, .n = 1, .k = 0, .c = result(&one, 1) };
    CHECK(gemm(be, &g) == MRC_OK && one == 0, "k = 0 writes %g", (double)one);
    one = 7;
    g.c.accumulate = 1;
    CHECK(gemm(be, &g) == MRC_OK && one == 7, "k = 0 adds to 7 and gives %g", (double)one);
    g = (mrc_gemm_args){ .m = 1, .n = 1, .k = 2, .b_transposed = 1, .a = matrix(two, 2),
                         .b = matrix(two, 2), .c = result(&one, 1) };
    one = NAN;
    CHECK(gemm(be, &g) == MRC_OK && one == 34, "a dot product is %g", (double)one);
    g.m = 0;
    CHECK(gemm(be, &g) == MRC_OK && one == 34, "m = 0 wrote %g", (double)one);
    g.m = (size_t)INT_MAX + 1;
    CHECK(gemm(be, &g) == MRC_ERR_UNSUPPORTED, "more rows than an int counts");
    mrc_backend_free(be);
}

static void test_threads(void) {
    int (*get)(void) = NULL;
    void (*set)(int) = NULL;
    mrc_backend *be;
    void *library = mrc_openblas_open();
    if (!CHECK(mrc_openblas_find(library, "openblas_get_num_threads", &get, sizeof get)
               && mrc_openblas_find(library, "openblas_set_num_threads", &set, sizeof set),
               "the number of threads")) return;
    set(2);
    int before = get();
    CHECK(mrc_backend_openblas_new(&be, NULL) == MRC_OK && get() == before, "unasked: %d", get());
    mrc_backend_free(be);
    CHECK(mrc_backend_openblas_new(&be, &(mrc_backend_desc){ .threads = 1 }) == MRC_OK
          && get() == 1, "asked for 1: %d", get());
    mrc_backend_free(be);
}

static void test_memory(void) {
    for (long fail_at = 0; fail_at < 8; fail_at++) {
        failing f = { .fail_at = fail_at };
        mrc_backend *be = NULL;
        const mrc_backend_desc desc = { .allocator = failing_hooks(&f), .threads = 1 };
        mrc_status s = mrc_backend_openblas_new(&be, &desc);
        CHECK(s == MRC_OK ? be != NULL : s == MRC_ERR_MEM && !be, "allocation %ld: status %d",
              fail_at, (int)s);
        if (be) mrc_backend_free(be);
        CHECK(f.live == 0, "allocation %ld: %ld stay", fail_at, f.live);
    }
}

int main(void) {
    for (int i = 0; i < N * IN; i++) x[i] = (float)(i % 7) - 3;
    for (int i = 0; i < 4 * OUT * IN; i++) w[i] = (float)(i % 5) - 2;
    test_products();
    test_edges();
    test_threads();
    test_memory();
    return test_end();
}
#else
int main(void) {
    test_skip("no OpenBLAS: its backend");
    return test_end();
}
#endif
