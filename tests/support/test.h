// What all tests share: counting checks, fixed random numbers, reading and writing any dtype.
#ifndef TEST_H
#define TEST_H
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE             // MAP_ANONYMOUS, for the fake device
#endif
#ifdef TEST_LINKED                  // calls public functions only: linked with one mrc.o for many
#define _POSIX_C_SOURCE 200809L
#include "../../mrc.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#else
#define MRC_STATIC                  // what a test leaves alone is not compiled
#define MRC_IMPLEMENTATION
#pragma GCC diagnostic push         // what only kernels call, which are linked
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../mrc.h"
#pragma GCC diagnostic pop
#endif
#include "../../mrc.h"                 // including twice must not matter

#ifdef MRC_TEST_CUDA
#include "../../backends/cuda.h"
enum { TEST_ON_CUDA = 1 };              // the CUDA source alone, against the naive kernels
#else
enum { TEST_ON_CUDA = 0 };
#endif
#ifdef MRC_TEST_GPU
enum { TEST_ON_GPU = 1 };               // a real one: tests/gpu.sh
#else
enum { TEST_ON_GPU = 0 };
#endif

// For what not every test uses.
#define TEST_HELPER __attribute__((unused)) static

// Ends a child process at once; under `./build.sh coverage` what it ran counts too.
extern void __gcov_dump(void) __attribute__((weak));
extern void _exit(int);
TEST_HELPER _Noreturn void test_leave(int code) {
    if (__gcov_dump) __gcov_dump();
    _exit(code);
    for (;;) continue;
}

static int test_passed, test_failed, test_skipped;

// The instruction sets that are compiled for this architecture; the machine may lack some.
__attribute__((unused))
static const struct { mrc_isa isa; const char *name; } test_isas[] = {
    { MRC_ISA_BASELINE, "baseline" },
#if defined(__x86_64__)
    { MRC_ISA_AVX2, "avx2" }, { MRC_ISA_AVX512, "avx512" },
#elif defined(__aarch64__)
    { MRC_ISA_NEON, "neon" },
#endif
};
enum { TEST_ISAS = sizeof test_isas / sizeof test_isas[0] };

// Counts, and prints failures: CHECK(condition, "what %d", detail).
#define CHECK(condition, ...) test_check((condition) ? 1 : 0, __FILE__, __LINE__, __VA_ARGS__)
__attribute__((format(printf, 4, 5)))
static int test_check(int ok, const char *file, int line, const char *fmt, ...) {
    if (ok) {
        test_passed++;
        return 1;
    }
    va_list ap;
    test_failed++;
    printf("FAIL %s:%d: ", file, line);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    return 0;
}

// What this machine or checkout cannot test is said aloud.
TEST_HELPER void test_skip(const char *reason) {
    test_skipped++;
    printf("SKIP: %s\n", reason);
}

static int test_end(void) {
    printf("%d passed, %d failed", test_passed, test_failed);
    if (test_skipped) printf(", %d skipped", test_skipped);
    printf("\n");
    return test_failed != 0;
}

// In [-1, 1), exact in float, and the same in every run: a failure must reproduce.
static _Thread_local uint64_t test_rng = 42;
// Begins the numbers anew from a name (FNV-1a), so that what a case is given depends on it alone.
TEST_HELPER void test_seed(const char *name) {
    test_rng = 14695981039346656037ULL;
    for (; *name; name++) test_rng = (test_rng ^ (unsigned char)*name) * 1099511628211ULL;
}
TEST_HELPER double test_random(void) {
    test_rng = test_rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (double)(test_rng >> 40) / 8388608.0 - 1.0;
}

#ifdef MRC_IMPLEMENTATION
#ifdef MRC_TEST_CUDA
// The CUDA source on the tests' shim or on a GPU; NULL where a GPU has no such path.
TEST_HELPER mrc_backend *cuda_new(int path, int tf32) {
    char why[200] = "";
    mrc_backend *be = NULL;
    const mrc_cuda_desc desc = { .path = path, .tf32 = tf32, .why = why, .why_bytes = sizeof why };
    const char *device = getenv("MRC_SHIM_ARCH");
    if (path == 90) {                           // its kernels even where path 80 would be faster
        setenv("MRC_CUDA_WGMMA_ALL", "1", 1);
        setenv("MRC_SHIM_ARCH", "90", 1);
    }
    mrc_status s = mrc_backend_cuda_new(&be, &desc);
    if (path == 90) unsetenv("MRC_CUDA_WGMMA_ALL");
    if (path == 90 && device) setenv("MRC_SHIM_ARCH", device, 1);
    if (path == 90 && !device) unsetenv("MRC_SHIM_ARCH");
    if (TEST_ON_GPU && s == MRC_ERR_UNSUPPORTED && strstr(why, "not one that this device has")) {
        test_skip(why);
    }
    else CHECK(s == MRC_OK, "cuda, path %d: %s", path, why);
    return be;
}
#endif

// n doubles as elements of a type, rounded once.
TEST_HELPER void test_encode(mrc_dtype dtype, const double *values, size_t n, void *out) {
    for (size_t i = 0; i < n; i++) {
        switch (dtype) {
        case MRC_DTYPE_F32:  ((float *)out)[i] = (float)values[i]; break;
        case MRC_DTYPE_F64:  ((double *)out)[i] = values[i]; break;
        case MRC_DTYPE_F16:
            ((uint16_t *)out)[i] = mrc__to_f16(mrc__round_to_odd(values[i]));
            break;
        case MRC_DTYPE_BF16:
            ((uint16_t *)out)[i] = mrc__to_bf16(mrc__round_to_odd(values[i]));
            break;
        default:             memset((char *)out + i, 0xff, 1);
        }
    }
}
TEST_HELPER void test_decode(mrc_dtype dtype, const void *data, size_t n, double *out) {
    for (size_t i = 0; i < n; i++) {
        switch (dtype) {
        case MRC_DTYPE_F32: out[i] = (double)((const float *)data)[i]; break;
        case MRC_DTYPE_F64: out[i] = ((const double *)data)[i]; break;
        case MRC_DTYPE_F16:
        case MRC_DTYPE_BF16: out[i] = (double)mrc__widen(dtype, ((const uint16_t *)data)[i]); break;
        default:             out[i] = NAN;
        }
    }
}

TEST_HELPER mrc_tensor *test_tensor(mrc_ctx *ctx, mrc_tensor *t, const double *values) {
    void *raw = t ? malloc((t->numel + 1) * sizeof(double)) : NULL;
    if (!raw) return NULL;
    test_encode(t->dtype, values, t->numel, raw);
    mrc_status s = mrc_tensor_upload(ctx, t, raw);
    free(raw);
    return s == MRC_OK ? t : NULL;
}

// Backward from y with dy given as doubles.
TEST_HELPER mrc_status test_backward(mrc_ctx *ctx, mrc_tensor *y, const double *dy) {
    mrc_tensor *seed = y ? mrc_tensor_new(ctx, y->dtype, y->ndim, y->shape, 0) : NULL;
    return mrc_backward(ctx, y, test_tensor(ctx, seed, dy));
}

TEST_HELPER mrc_ctx *new_ctx(mrc_backend *be) {
    mrc_ctx *ctx = NULL;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    return ctx;
}

// A packed batch from lengths, without ids; at most 16 sequences.
TEST_HELPER mrc_status test_batch(mrc_ctx *ctx, mrc_batch *batch, size_t n, const int32_t *lengths,
                                  const int32_t *index) {
    int32_t cu[17] = {0};
    for (size_t i = 0; i < n; i++) cu[i + 1] = cu[i] + lengths[i];
    const mrc_batch_desc desc = { .n_sequences = n, .cu_seqlens = cu, .sequence_index = index };
    return mrc_batch_new(ctx, batch, &desc);
}

// Copies n elements at a backend address to host doubles; NULL gives NaN, which fails comparisons.
TEST_HELPER void test_read(mrc_backend *be, mrc_dtype dtype, const void *data, size_t n,
                           double *out) {
    void *raw = malloc((n + 1) * sizeof(double));
    for (size_t i = 0; i < n; i++) out[i] = NAN;
    if (raw && data && be->download(be, raw, data, n * mrc_dtype_bytes(dtype)) == MRC_OK) {
        test_decode(dtype, raw, n, out);
    }
    free(raw);
}
#endif // MRC_IMPLEMENTATION

// max |a - b| / max(1, max |b|); a NaN in either gives infinity.
TEST_HELPER double test_error(const double *a, const double *b, size_t n) {
    double scale = 1, worst = 0;
    for (size_t i = 0; i < n; i++) scale = fabs(b[i]) > scale ? fabs(b[i]) : scale;
    for (size_t i = 0; i < n; i++) {
        double e = fabs(a[i] - b[i]);
        if (!(e <= worst)) worst = e;
        if (!(e < HUGE_VAL)) return HUGE_VAL;
    }
    return worst / scale;
}

TEST_HELPER mrc_tensor *test_gelu(mrc_ctx *ctx, mrc_tensor *x) {
    return mrc_activation(ctx, x, MRC_ACT_GELU);
}

#endif
