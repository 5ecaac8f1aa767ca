// openblas: a cpu instance whose matrix products are OpenBLAS's
//
// The two gemm entries are replaced, for f32 and f64; everything else is the cpu backend's, which
// multiplies through the table.  Include this behind mrc.h in the file that makes the instance:
//
//     #include "mrc.h"
//     #include "backends/openblas.h"
//     ...
//     mrc_status s = mrc_backend_openblas_new(&be, NULL);     // MRC_ERR_UNSUPPORTED: none here
//
// The library is opened when the first instance is made, never before: a program that can use it
// starts as fast, and with as few threads, as one that cannot.  No header of it is needed.
//
// OpenBLAS's threads are the process's and its own business (OPENBLAS_NUM_THREADS).  Their number
// is left alone unless desc->threads asks for one; results may depend on it, which the cpu backend
// promises they do not.
#ifndef MRC_OPENBLAS_H
#define MRC_OPENBLAS_H
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

// The C interface with 32-bit integers, as every distribution's default build has it.
typedef void mrc_openblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k,
                                float alpha, const float *a, int lda, const float *b, int ldb,
                                float beta, float *c, int ldc);
typedef void mrc_openblas_dgemm(int order, int trans_a, int trans_b, int m, int n, int k,
                                double alpha, const double *a, int lda, const double *b, int ldb,
                                double beta, double *c, int ldc);

typedef struct mrc_openblas {
    mrc_allocator host;
    void        (*destroy)(mrc_backend *be);            // the cpu instance's
    mrc_openblas_sgemm *sgemm;
    mrc_openblas_dgemm *dgemm;
} mrc_openblas;

enum { MRC_OPENBLAS_ROW_MAJOR = 101, MRC_OPENBLAS_PLAIN = 111, MRC_OPENBLAS_TRANSPOSED = 112 };

// POSIX lets a data pointer hold a function's address; C wants it copied.
static int mrc_openblas_find(void *library, const char *name, void *function, size_t bytes) {
    void *address = dlsym(library, name);
    if (!address || bytes != sizeof address) return 0;
    memcpy(function, &address, bytes);
    return 1;
}

// The library, which stays open until the process ends, as it has threads; NULL: there is none.
static void *mrc_openblas_open(void) {
    static const char *const names[] = { "libopenblas.so.0", "libopenblas.so",
                                         "libopenblas.0.dylib", "libopenblas.dylib" };
    const char *path = getenv("MRC_OPENBLAS_LIBRARY");
    if (path && *path) return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library) return library;
    }
    return NULL;
}

// Arguments as ints; leading dimensions of matrices without a row are not read, but checked.
typedef struct mrc_openblas_sizes { int m, n, k, a, b, c, trans_a, trans_b; } mrc_openblas_sizes;
static int mrc_openblas_fits(const mrc_gemm_args *g, mrc_openblas_sizes *out) {
    size_t a = g->a_transposed ? g->m : g->k, b = g->b_transposed ? g->k : g->n, c = g->n;
    if (g->a.ld > a) a = g->a.ld;
    if (g->b.ld > b) b = g->b.ld;
    if (g->c.ld > c) c = g->c.ld;
    if (g->m > INT_MAX || g->n > INT_MAX || g->k > INT_MAX || a > INT_MAX || b > INT_MAX
        || c > INT_MAX) return 0;
    *out = (mrc_openblas_sizes){
        .m = (int)g->m, .n = (int)g->n, .k = (int)g->k, .a = a ? (int)a : 1, .b = b ? (int)b : 1,
        .c = (int)c,
        .trans_a = g->a_transposed ? MRC_OPENBLAS_TRANSPOSED : MRC_OPENBLAS_PLAIN,
        .trans_b = g->b_transposed ? MRC_OPENBLAS_TRANSPOSED : MRC_OPENBLAS_PLAIN };
    return 1;
}

static mrc_status mrc_openblas_gemm_f32(mrc_backend *be, const mrc_gemm_args *g) {
    const mrc_openblas *o = be->derived;
    mrc_openblas_sizes s;
    if (g->m == 0 || g->n == 0) return MRC_OK;
    if (!mrc_openblas_fits(g, &s)) return MRC_ERR_UNSUPPORTED;
    o->sgemm(MRC_OPENBLAS_ROW_MAJOR, s.trans_a, s.trans_b, s.m, s.n, s.k, 1, g->a.data, s.a,
             g->b.data, s.b, g->c.accumulate ? 1 : 0, g->c.data, s.c);
    return MRC_OK;
}

static mrc_status mrc_openblas_gemm_f64(mrc_backend *be, const mrc_gemm_args *g) {
    const mrc_openblas *o = be->derived;
    mrc_openblas_sizes s;
    if (g->m == 0 || g->n == 0) return MRC_OK;
    if (!mrc_openblas_fits(g, &s)) return MRC_ERR_UNSUPPORTED;
    o->dgemm(MRC_OPENBLAS_ROW_MAJOR, s.trans_a, s.trans_b, s.m, s.n, s.k, 1, g->a.data, s.a,
             g->b.data, s.b, g->c.accumulate ? 1 : 0, g->c.data, s.c);
    return MRC_OK;
}

static void mrc_openblas_destroy(mrc_backend *be) {
    mrc_openblas *o = be->derived;
    const mrc_allocator host = o->host;
    be->destroy = o->destroy;
    be->derived = NULL;
    if (host.free) host.free(host.user, o);
    else free(o);
    be->destroy(be);
}

// desc as for the cpu backend.  MRC_ERR_UNSUPPORTED: no OpenBLAS, or one with 64-bit integers.
__attribute__((unused))
static mrc_status mrc_backend_openblas_new(mrc_backend **out, const mrc_backend_desc *desc) {
    mrc_openblas o = { .host = desc ? desc->allocator : (mrc_allocator){ NULL, NULL, NULL } };
    char *(*config)(void) = NULL;
    void (*set_threads)(int) = NULL;
    mrc_backend *be;
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (desc && desc->math != MRC_MATH_F32) return MRC_ERR_UNSUPPORTED;     // it rounds nothing
    void *library = mrc_openblas_open();
    if (!library || !mrc_openblas_find(library, "cblas_sgemm", &o.sgemm, sizeof o.sgemm)
        || !mrc_openblas_find(library, "cblas_dgemm", &o.dgemm, sizeof o.dgemm)
        || !mrc_openblas_find(library, "openblas_get_config", &config, sizeof config)
        || strstr(config(), "USE64BITINT")
        || !mrc_openblas_find(library, "openblas_set_num_threads", &set_threads,
                              sizeof set_threads)) return MRC_ERR_UNSUPPORTED;
    mrc_status status = mrc_backend_cpu_new(&be, desc);
    if (status != MRC_OK) return status;
    mrc_openblas *state = o.host.alloc ? o.host.alloc(o.host.user, sizeof o) : malloc(sizeof o);
    if (!state) {
        mrc_backend_free(be);
        return MRC_ERR_MEM;
    }
    o.destroy = be->destroy;
    *state = o;
    be->name = "openblas";
    be->derived = state;
    be->destroy = mrc_openblas_destroy;
    be->kernels[MRC_DTYPE_F32].gemm = mrc_openblas_gemm_f32;
    be->kernels[MRC_DTYPE_F64].gemm = mrc_openblas_gemm_f64;
    be->kernels[MRC_DTYPE_F32].gemm_workspace = NULL;
    be->kernels[MRC_DTYPE_F64].gemm_workspace = NULL;
    if (desc && desc->threads) set_threads(desc->threads > 1024 ? 1024 : (int)desc->threads);
    *out = be;
    return MRC_OK;
}

// What is there, for messages and benchmarks: "OpenBLAS 0.3.21 ..", or NULL.
__attribute__((unused))
static const char *mrc_openblas_version(void) {
    char *(*config)(void) = NULL;
    void *library = mrc_openblas_open();
    if (!library || !mrc_openblas_find(library, "openblas_get_config", &config, sizeof config)) {
        return NULL;
    }
    return config();
}

#endif
