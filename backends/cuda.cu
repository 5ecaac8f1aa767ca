// cuda.cu - the CUDA backend: the instance, its memory, and which kernel serves which entry
//
// nvcc compiles this file for devices; a C++17 compiler with tests/cuda/cuda_shim.h on its include
// path compiles the same source for a CPU, which is how it is tested without a GPU.
#include "cuda.h"
#include "cuda/attention.cuh"
#include "cuda/elementwise.cuh"
#include "cuda/families.cuh"
#include "cuda/gemm.cuh"
#include "cuda/gemm_tc.cuh"
#include "cuda/gemm_wgmma.cuh"
#include "cuda/gru.cuh"
#include "cuda/lstm.cuh"
#include "cuda/optim.cuh"
#include "cuda/retrieval.cuh"
#include <new>
#include <type_traits>

//==============================================================================
// Device memory: what was reserved is one chunk that is cut into blocks; what does not fit it is an
// allocation of its own
//==============================================================================
typedef struct mrc_cuda_piece {         // of a chunk, in the order of addresses
    struct mrc_cuda_piece *next;
    size_t offset, bytes;
    int    used;
} mrc_cuda_piece;
typedef struct mrc_cuda_chunk {
    struct mrc_cuda_chunk *next;
    char  *base;
    size_t bytes;
    int    reserved;
    mrc_cuda_piece *first;              // of a reserved one
} mrc_cuda_chunk;

static void *mrc_cuda_host_alloc(mrc_cuda *c, size_t bytes) {
    return c->host.alloc ? c->host.alloc(c->host.user, bytes) : malloc(bytes);
}
static void mrc_cuda_host_free(mrc_cuda *c, void *ptr) {
    if (c->host.free) c->host.free(c->host.user, ptr);
    else free(ptr);
}

static mrc_cuda_piece *mrc_cuda_piece_new(mrc_cuda *c, size_t offset, size_t bytes,
                                          mrc_cuda_piece *next) {
    mrc_cuda_piece *p = (mrc_cuda_piece *)mrc_cuda_host_alloc(c, sizeof *p);
    if (p) *p = { next, offset, bytes, 0 };
    return p;
}

// One cudaMalloc; NULL: no memory, on the device or the host.
static mrc_cuda_chunk *mrc_cuda_chunk_new(mrc_cuda *c, size_t bytes, int reserved) {
    mrc_cuda_chunk *chunk = (mrc_cuda_chunk *)mrc_cuda_host_alloc(c, sizeof *chunk);
    mrc_cuda_piece *piece = reserved && chunk ? mrc_cuda_piece_new(c, 0, bytes, NULL) : NULL;
    void *base = NULL;
    if (chunk && (piece || !reserved) && cudaSetDevice(c->device) == cudaSuccess
        && cudaMalloc(&base, bytes ? bytes : 1) == cudaSuccess) {
        *chunk = { c->chunks, (char *)base, bytes, reserved, piece };
        c->chunks = chunk;
        return chunk;
    }
    (void)cudaGetLastError();           // a refused allocation is no error of what comes after it
    if (piece) mrc_cuda_host_free(c, piece);
    if (chunk) mrc_cuda_host_free(c, chunk);
    return NULL;
}

static void mrc_cuda_chunk_free(mrc_cuda *c, mrc_cuda_chunk *chunk) {
    cudaFree(chunk->base);
    while (chunk->first) {
        mrc_cuda_piece *next = chunk->first->next;
        mrc_cuda_host_free(c, chunk->first);
        chunk->first = next;
    }
    mrc_cuda_host_free(c, chunk);
}

// First fit; what is left over becomes a piece of its own.
static void *mrc_cuda_cut(mrc_cuda *c, mrc_cuda_chunk *chunk, size_t bytes) {
    for (mrc_cuda_piece *p = chunk->first; p; p = p->next) {
        if (p->used || p->bytes < bytes) continue;
        if (p->bytes > bytes) {
            mrc_cuda_piece *rest = mrc_cuda_piece_new(c, p->offset + bytes, p->bytes - bytes,
                                                      p->next);
            if (!rest) return NULL;
            p->next = rest;
            p->bytes = bytes;
        }
        p->used = 1;
        return chunk->base + p->offset;
    }
    return NULL;
}

static void *mrc_cuda_alloc(mrc_backend *be, size_t bytes) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    if (bytes > SIZE_MAX - MRC_ALIGNMENT) return NULL;
    const size_t whole = (bytes + MRC_ALIGNMENT - 1) / MRC_ALIGNMENT * MRC_ALIGNMENT;
    for (mrc_cuda_chunk *k = c->chunks; k; k = k->next) {
        void *ptr = k->reserved ? mrc_cuda_cut(c, k, whole ? whole : MRC_ALIGNMENT) : NULL;
        if (ptr) return ptr;
    }
    mrc_cuda_chunk *chunk = mrc_cuda_chunk_new(c, bytes, 0);
    return chunk ? chunk->base : NULL;
}

// Joins a piece with the one after it where both are free.
static void mrc_cuda_join(mrc_cuda *c, mrc_cuda_piece *p) {
    mrc_cuda_piece *next = p ? p->next : NULL;
    if (!next || p->used || next->used) return;
    p->bytes += next->bytes;
    p->next = next->next;
    mrc_cuda_host_free(c, next);
}

// Work on the stream that still uses it comes before any that could be given the same memory; a
// chunk of its own waits, as cudaFree does.
static void mrc_cuda_give_back(mrc_backend *be, void *ptr) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    for (mrc_cuda_chunk **at = &c->chunks; ptr && *at; at = &(*at)->next) {
        mrc_cuda_chunk *k = *at;
        if ((char *)ptr < k->base || (char *)ptr >= k->base + (k->bytes ? k->bytes : 1)) continue;
        if (!k->reserved) {
            *at = k->next;
            mrc_cuda_chunk_free(c, k);
            return;
        }
        mrc_cuda_piece *before = NULL;
        for (mrc_cuda_piece *p = k->first; p; before = p, p = p->next) {
            if (k->base + p->offset != (char *)ptr) continue;
            p->used = 0;
            mrc_cuda_join(c, p);
            mrc_cuda_join(c, before);
            return;
        }
        return;
    }
}

extern "C" mrc_status mrc_cuda_reserve(mrc_backend *be, size_t bytes) {
    return mrc_cuda_chunk_new((mrc_cuda *)be->self, bytes, 1) ? MRC_OK : MRC_ERR_MEM;
}

extern "C" void mrc_cuda_memory(const mrc_backend *be, size_t *free_bytes, size_t *total) {
    const mrc_cuda *c = (const mrc_cuda *)be->self;
    *free_bytes = *total = 0;
    if (cudaSetDevice(c->device) != cudaSuccess
        || cudaMemGetInfo(free_bytes, total) != cudaSuccess) *free_bytes = *total = 0;
}

extern "C" const char *mrc_cuda_error(const mrc_backend *be) {
    return ((const mrc_cuda *)be->self)->error;
}

extern "C" void *mrc_cuda_stream(const mrc_backend *be) {
    return ((const mrc_cuda *)be->self)->stream;
}
extern "C" int mrc_cuda_device(const mrc_backend *be) {
    return ((const mrc_cuda *)be->self)->device;
}
extern "C" int mrc_cuda_devices(void) {
    int n = 0;
    if (cudaGetDeviceCount(&n) == cudaSuccess) return n;
    (void)cudaGetLastError();
    return 0;
}

//==============================================================================
// Copies: through pinned memory; uploads are not waited for
//==============================================================================
enum { MRC_CUDA_STAGING_HALF = 4 << 20 };

static mrc_status mrc_cuda_upload(mrc_backend *be, void *dst, const void *src, size_t bytes) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    MRC_CUDA_TRY(mrc_cuda_check(c, cudaSetDevice(c->device)));
    for (size_t done = 0; done < bytes;) {
        if (c->staged == MRC_CUDA_STAGING_HALF) {       // the other half's turn
            MRC_CUDA_TRY(mrc_cuda_check(c, cudaEventRecord(c->copied[c->half], c->stream)));
            c->half = !c->half;
            c->staged = 0;
            MRC_CUDA_TRY(mrc_cuda_check(c, cudaEventSynchronize(c->copied[c->half])));
        }
        size_t part = bytes - done, room = MRC_CUDA_STAGING_HALF - c->staged;
        if (part > room) part = room;
        char *at = c->staging + (size_t)c->half * MRC_CUDA_STAGING_HALF + c->staged;
        memcpy(at, (const char *)src + done, part);
        MRC_CUDA_TRY(mrc_cuda_check(c, cudaMemcpyAsync((char *)dst + done, at, part,
                                                       cudaMemcpyHostToDevice, c->stream)));
        c->staged += part;
        done += part;
    }
    return MRC_OK;
}

// A piece of a download, on its way to its half.  What uploads have left there was read before it.
static mrc_status mrc_cuda_ask(mrc_cuda *c, const void *src, size_t bytes, size_t piece) {
    const size_t half = MRC_CUDA_STAGING_HALF, done = piece * half;
    const size_t part = bytes - done < half ? bytes - done : half;
    MRC_CUDA_TRY(mrc_cuda_check(c, cudaMemcpyAsync(c->staging + piece % 2 * half,
                                                   (const char *)src + done, part,
                                                   cudaMemcpyDeviceToHost, c->stream)));
    return mrc_cuda_check(c, cudaEventRecord(c->copied[piece % 2], c->stream));
}

// A piece is on its way while the one before it is copied out.  What kernels failed at shows here,
// as only this waits.
static mrc_status mrc_cuda_download(mrc_backend *be, void *dst, const void *src, size_t bytes) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const size_t half = MRC_CUDA_STAGING_HALF, pieces = bytes / half + (bytes % half != 0);
    MRC_CUDA_TRY(mrc_cuda_check(c, cudaSetDevice(c->device)));
    for (size_t piece = 0; piece <= pieces; piece++) {
        const bool last = piece == pieces;
        if (!last) MRC_CUDA_TRY(mrc_cuda_ask(c, src, bytes, piece));
        if (last) {
            MRC_CUDA_TRY(mrc_cuda_check(c, cudaStreamSynchronize(c->stream)));
        } else if (piece && !MRC_BUG(DOWNLOAD)) {
            MRC_CUDA_TRY(mrc_cuda_check(c, cudaEventSynchronize(c->copied[(piece - 1) % 2])));
        }
        if (!piece) continue;
        const size_t done = (piece - 1) * half;
        memcpy((char *)dst + done, c->staging + (piece - 1) % 2 * half,
               last ? bytes - done : half);
    }
    return MRC_OK;
}

//==============================================================================
// Matrix products, and the maps made of them
//==============================================================================
// Which product serves operands of T: tensor cores for 16 bits and, where asked for, TF32.
template <class T> static bool mrc_cuda_uses_tc(const mrc_cuda *c) {
    return !std::is_same<T, float>::value || (c->tf32 && c->path >= 80);
}
template <class T> static size_t mrc_cuda_product_scratch(mrc_cuda *c, const mrc_cuda_product *p) {
    return mrc_cuda_uses_tc<T>(c) ? mrc_cuda_tensor_scratch<T>(c, p)
                                  : mrc_cuda_gemm_scratch_f32(p, c->path);
}
static mrc_status mrc_cuda_multiply(float, mrc_cuda *c, const mrc_cuda_product *p, void *scratch) {
    return mrc_cuda_uses_tc<float>(c) ? mrc_cuda_gemm_tensor(float(), c, p, scratch)
                                      : mrc_cuda_gemm_f32(c, p, scratch);
}
template <class T>
static mrc_status mrc_cuda_multiply(T, mrc_cuda *c, const mrc_cuda_product *p, void *scratch) {
    return mrc_cuda_gemm_tensor(T(), c, p, scratch);
}

static mrc_cuda_product mrc_cuda_product_of(size_t m, size_t n, size_t k, mrc_in a,
                                            int a_transposed, mrc_in b, int b_transposed,
                                            mrc_out to) {
    mrc_cuda_product p = {};
    p.m = m;
    p.n = n;
    p.k = k;
    p.a = a;
    p.b = b;
    p.a_transposed = a_transposed;
    p.b_transposed = b_transposed;
    p.c = to;
    return p;
}

template <class T> static mrc_status mrc_cuda_gemm_run(mrc_backend *be, const mrc_gemm_args *g) {
    const mrc_cuda_product p = mrc_cuda_product_of(g->m, g->n, g->k, g->a, g->a_transposed, g->b,
                                                   g->b_transposed, g->c);
    return mrc_cuda_multiply(T(), (mrc_cuda *)be->self, &p, NULL);
}

template <class T>
static mrc_status mrc_cuda_linear_fwd_run(mrc_backend *be, const mrc_linear_fwd_args *g) {
    mrc_cuda_product p = mrc_cuda_product_of(g->n, g->out, g->in, g->x, 0, g->weight, 1, g->y);
    p.bias = g->bias;
    p.z = g->z;
    p.act = g->act;
    return mrc_cuda_multiply(T(), (mrc_cuda *)be->self, &p, NULL);
}

// The products of a linear map's backward: dx = dz W, dW = dz^T x.
static mrc_cuda_product mrc_cuda_dx_of(size_t n, size_t in, size_t out, mrc_in dz, mrc_in weight,
                                       mrc_out dx) {
    return mrc_cuda_product_of(n, in, out, dz, 0, weight, 0, dx);
}
static mrc_cuda_product mrc_cuda_dw_of(size_t n, size_t in, size_t out, mrc_in dz, mrc_in x,
                                       mrc_out dweight) {
    return mrc_cuda_product_of(out, in, n, dz, 1, x, 0, dweight);
}

// What both products need, one after the other; neither dx nor dW alone
// counts, so that the plan does not depend on who wants a gradient.
template <class T>
static size_t mrc_cuda_map_scratch(mrc_cuda *c, size_t n, size_t in, size_t out) {
    const mrc_cuda_product p[2] = { mrc_cuda_dx_of(n, in, out, {}, {}, {}),
                                    mrc_cuda_dw_of(n, in, out, {}, {}, {}) };
    size_t most = 0;
    for (int k = 0; k < 2; k++) {
        const size_t bytes = mrc_cuda_product_scratch<T>(c, &p[k]);
        if (bytes > most) most = bytes;
    }
    return most;
}
template <class T>
static size_t mrc_cuda_linear_bwd_scratch(mrc_backend *be, const mrc_linear_bwd_args *g) {
    return mrc_cuda_map_scratch<T>((mrc_cuda *)be->self, g->n, g->in, g->out);
}

// dz over the saved z, and with it the bias's gradient; *dbias then is no longer wanted.
template <class T>
static mrc_status mrc_cuda_linear_dz(mrc_cuda *c, const mrc_linear_bwd_args *g, mrc_out *dbias) {
    const mrc_cuda_matrix<T> z = mrc_cuda_into<T>(g->z);
    const mrc_cuda_matrix<const T> dy = mrc_cuda_from<T>(g->dy);
    // One tensor for two gradients: they are finished in the order of the struct.
    if (dbias->data && dbias->data != g->dx.data && dbias->data != g->dweight.data) {
        const mrc_cuda_targets t = { { (float *)dbias->data, NULL }, { dbias->accumulate, 0 } };
        dbias->data = NULL;
        return mrc_cuda_row_sums(c, mrc_cuda_act_sum<T>{ (int)g->act, z, dy }, g->n, g->out, t);
    }
    if (g->n == 0 || g->out == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_act_dz<T>),
                                        mrc_cuda_blocks(g->n * g->out, MRC_CUDA_BLOCK),
                                        MRC_CUDA_BLOCK, 0, c->stream, g->n, g->out, (int)g->act, z,
                                        dy));
}

template <class T>
static mrc_status mrc_cuda_linear_bwd_run(mrc_backend *be, const mrc_linear_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_in dz = g->dy;
    mrc_out dbias = g->dbias;
    if (g->act != MRC_ACT_NONE) {
        dz = { g->z.dtype, g->z.ld, g->z.data };
        MRC_CUDA_TRY(mrc_cuda_linear_dz<T>(c, g, &dbias));
    }
    if (g->dx.data) {
        const mrc_cuda_product p = mrc_cuda_dx_of(g->n, g->in, g->out, dz, g->weight, g->dx);
        MRC_CUDA_TRY(mrc_cuda_multiply(T(), c, &p, g->workspace));
    }
    if (g->dweight.data) {
        const mrc_cuda_product p = mrc_cuda_dw_of(g->n, g->in, g->out, dz, g->x, g->dweight);
        MRC_CUDA_TRY(mrc_cuda_multiply(T(), c, &p, g->workspace));
    }
    return mrc_cuda_bias_gradient<T>(c, dz, g->n, g->out, dbias);
}

//==============================================================================
// The tables
//==============================================================================
// A kernel as others call it: the thread that calls may have another device as its current one.
template <auto RUN> struct mrc_cuda_entry;
template <class Args, mrc_status (*RUN)(mrc_backend *, const Args *)> struct mrc_cuda_entry<RUN> {
    static mrc_status run(mrc_backend *be, const Args *g) {
        mrc_cuda *c = (mrc_cuda *)be->self;
        MRC_CUDA_TRY(mrc_cuda_check(c, cudaSetDevice(c->device)));
        return RUN(be, g);
    }
};

template <class T> static void mrc_cuda_fill(mrc_kernels *k) {
    k->gemm                        = mrc_cuda_entry<mrc_cuda_gemm_run<T>>::run;
    k->embedding_fwd               = mrc_cuda_entry<mrc_cuda_embedding_fwd_run<T>>::run;
    k->embedding_bwd               = mrc_cuda_entry<mrc_cuda_embedding_bwd_run<T>>::run;
    k->linear_fwd                  = mrc_cuda_entry<mrc_cuda_linear_fwd_run<T>>::run;
    k->linear_bwd                  = mrc_cuda_entry<mrc_cuda_linear_bwd_run<T>>::run;
    k->linear_bwd_workspace        = mrc_cuda_linear_bwd_scratch<T>;
    k->attention_fwd               = mrc_cuda_entry<mrc_cuda_attention_fwd_run<T>>::run;
    k->attention_bwd               = mrc_cuda_entry<mrc_cuda_attention_bwd_run<T>>::run;
    k->attention_bwd_workspace     = mrc_cuda_attention_bwd_scratch;
    k->activation_fwd              = mrc_cuda_entry<mrc_cuda_activation_fwd_run<T>>::run;
    k->activation_bwd              = mrc_cuda_entry<mrc_cuda_activation_bwd_run<T>>::run;
    k->add_fwd                     = mrc_cuda_entry<mrc_cuda_add_fwd_run<T>>::run;
    k->add_bwd                     = mrc_cuda_entry<mrc_cuda_add_bwd_run<T>>::run;
    k->fill                        = mrc_cuda_entry<mrc_cuda_fill_run<T>>::run;
    k->axpby                       = mrc_cuda_entry<mrc_cuda_axpby_run<T>>::run;
    k->glu_fwd                     = mrc_cuda_entry<mrc_cuda_glu_fwd_run<T>>::run;
    k->glu_bwd                     = mrc_cuda_entry<mrc_cuda_glu_bwd_run<T>>::run;
    k->rope_fwd                    = mrc_cuda_entry<mrc_cuda_rope_run<T>>::run;
    k->rope_bwd                    = mrc_cuda_entry<mrc_cuda_rope_run<T>>::run;
    k->layer_norm_fwd              = mrc_cuda_entry<mrc_cuda_layer_norm_fwd_run<T>>::run;
    k->layer_norm_bwd              = mrc_cuda_entry<mrc_cuda_layer_norm_bwd_run<T>>::run;
    k->add_norm_fwd                = mrc_cuda_entry<mrc_cuda_add_norm_fwd_run<T>>::run;
    k->add_norm_bwd                = mrc_cuda_entry<mrc_cuda_add_norm_bwd_run<T>>::run;
    k->dropout_fwd                 = mrc_cuda_entry<mrc_cuda_dropout_run<T>>::run;
    k->dropout_bwd                 = mrc_cuda_entry<mrc_cuda_dropout_run<T>>::run;
    k->lstm_fwd                    = mrc_cuda_entry<mrc_cuda_lstm_fwd_run<T>>::run;
    k->lstm_fwd_workspace          = mrc_cuda_lstm_fwd_scratch<T>;
    k->lstm_bwd                    = mrc_cuda_entry<mrc_cuda_lstm_bwd_run<T>>::run;
    k->lstm_bwd_workspace          = mrc_cuda_lstm_bwd_scratch<T>;
    k->gru_fwd                     = mrc_cuda_entry<mrc_cuda_gru_fwd_run<T>>::run;
    k->gru_fwd_workspace           = mrc_cuda_gru_fwd_scratch<T>;
    k->gru_bwd                     = mrc_cuda_entry<mrc_cuda_gru_bwd_run<T>>::run;
    k->gru_bwd_workspace           = mrc_cuda_gru_bwd_scratch<T>;
    k->unfold_fwd                  = mrc_cuda_entry<mrc_cuda_unfold_fwd_run<T>>::run;
    k->unfold_bwd                  = mrc_cuda_entry<mrc_cuda_unfold_bwd_run<T>>::run;
    k->cross_entropy_fwd           = mrc_cuda_entry<mrc_cuda_cross_entropy_fwd_run<T>>::run;
    k->cross_entropy_fwd_workspace = mrc_cuda_loss_scratch<mrc_cross_entropy_fwd_args>;
    k->cross_entropy_bwd           = mrc_cuda_entry<mrc_cuda_cross_entropy_bwd_run<T>>::run;
    k->symmetric_kl_fwd            = mrc_cuda_entry<mrc_cuda_symmetric_kl_fwd_run<T>>::run;
    k->symmetric_kl_fwd_workspace  = mrc_cuda_loss_scratch<mrc_symmetric_kl_fwd_args>;
    k->symmetric_kl_bwd            = mrc_cuda_entry<mrc_cuda_symmetric_kl_bwd_run<T>>::run;
    k->pool_fwd                    = mrc_cuda_entry<mrc_cuda_pool_fwd_run<T>>::run;
    k->pool_bwd                    = mrc_cuda_entry<mrc_cuda_pool_bwd_run<T>>::run;
    k->normalize_fwd               = mrc_cuda_entry<mrc_cuda_normalize_fwd_run<T>>::run;
    k->normalize_bwd               = mrc_cuda_entry<mrc_cuda_normalize_bwd_run<T>>::run;
    k->maxsim_fwd                  = mrc_cuda_entry<mrc_cuda_maxsim_fwd_run<T>>::run;
    k->maxsim_fwd_workspace        = mrc_cuda_maxsim_scratch;
    k->maxsim_bwd                  = mrc_cuda_entry<mrc_cuda_maxsim_bwd_run<T>>::run;
    k->score_loss_fwd              = mrc_cuda_entry<mrc_cuda_score_loss_fwd_run<T>>::run;
    k->score_loss_fwd_workspace    = mrc_cuda_score_loss_scratch;
    k->score_loss_bwd              = mrc_cuda_entry<mrc_cuda_score_loss_bwd_run<T>>::run;
}

static void mrc_cuda_fill_optim(mrc_kernels *k) {
    k->fold                = mrc_cuda_entry<mrc_cuda_fold_run>::run;
    k->squares             = mrc_cuda_entry<mrc_cuda_squares_run>::run;
    k->squares_workspace   = mrc_cuda_optim_scratch<mrc_squares_args>;
    k->grad_norm           = mrc_cuda_entry<mrc_cuda_grad_norm_run>::run;
    k->adamw               = mrc_cuda_entry<mrc_cuda_adamw_run>::run;
    k->adamw_workspace     = mrc_cuda_optim_scratch<mrc_adamw_args>;
    k->adamp               = mrc_cuda_entry<mrc_cuda_adamp_run>::run;
    k->adamp_workspace     = mrc_cuda_adamp_scratch;
    k->sgd                 = mrc_cuda_entry<mrc_cuda_sgd_run>::run;
    k->sgd_workspace       = mrc_cuda_optim_scratch<mrc_sgd_args>;
}

//==============================================================================
// The instance
//==============================================================================
static void mrc_cuda_destroy(mrc_backend *be) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const mrc_allocator host = c->host;
    (void)cudaSetDevice(c->device);
    if (c->stream) (void)cudaStreamSynchronize(c->stream);
    while (c->chunks) {
        mrc_cuda_chunk *next = c->chunks->next;
        mrc_cuda_chunk_free(c, c->chunks);
        c->chunks = next;
    }
    for (int k = 0; k < 2; k++) {
        if (c->copied[k]) (void)cudaEventDestroy(c->copied[k]);
    }
    if (c->staging) (void)cudaFreeHost(c->staging);
    if (c->stream) (void)cudaStreamDestroy(c->stream);
    if (host.free) host.free(host.user, c);
    else free(c);
}

static int mrc_cuda_number(const char *variable, int otherwise) {
    const char *text = getenv(variable);
    return text && *text ? atoi(text) : otherwise;
}

static mrc_status mrc_cuda_no(const mrc_cuda_desc *desc, mrc_status status, const char *why,
                              int number) {
    if (desc && desc->why && desc->why_bytes) {
        snprintf(desc->why, desc->why_bytes, why, number);
    }
    return status;
}

// Finds the device, and what it has.
static mrc_status mrc_cuda_choose(mrc_cuda *c, const mrc_cuda_desc *desc) {
    int count = 0, major = 0, minor = 0, shared = 0, error = cudaGetDeviceCount(&count);
    c->device = desc && desc->device ? desc->device : mrc_cuda_number("MRC_CUDA_DEVICE", 0);
    if (error == cudaErrorInsufficientDriver) {
        return mrc_cuda_no(desc, MRC_ERR_UNSUPPORTED, "no CUDA driver, or one that is older than "
                           "this build's CUDA", 0);
    }
    if (error != cudaSuccess || count == 0) {
        return mrc_cuda_no(desc, MRC_ERR_UNSUPPORTED, "no CUDA device on this machine", 0);
    }
    if (c->device < 0 || c->device >= count || cudaSetDevice(c->device) != cudaSuccess) {
        return mrc_cuda_no(desc, MRC_ERR_UNSUPPORTED, "no such CUDA device: %d", c->device);
    }
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, c->device)
        || cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, c->device)
        || cudaDeviceGetAttribute(&c->processors, cudaDevAttrMultiProcessorCount, c->device)
        || cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, c->device)) {
        return mrc_cuda_no(desc, MRC_ERR_UNSUPPORTED, "the CUDA device answers no questions", 0);
    }
    cudaFuncAttributes kernel;
    c->arch = 10 * major + minor;
    c->shared_limit = (size_t)shared;
    const int own = c->arch == 90 && MRC_KNOWS_WGMMA ? 90 : c->arch >= 80 ? 80 : 70;
    c->path = desc && desc->path ? desc->path : mrc_cuda_number("MRC_CUDA_PATH", own);
    c->tf32 = desc && desc->tf32;
    c->wgmma_all = mrc_cuda_number("MRC_CUDA_WGMMA_ALL", 0);
    if (c->arch < 70) {
        return mrc_cuda_no(desc, MRC_ERR_UNSUPPORTED, "the CUDA device has compute capability "
                           "%d / 10, and 7.0 is the least that will do", c->arch);
    }
    if (cudaFuncGetAttributes(&kernel, mrc_cuda_fill_array<float>) != cudaSuccess) {
        (void)cudaGetLastError();
        return mrc_cuda_no(desc, MRC_ERR_UNSUPPORTED, "this build has no code for the CUDA "
                           "device's compute capability, %d / 10 (CUDA 13 makes none below 7.5: "
                           "build with 11.8 or 12)", c->arch);
    }
    if ((c->path != 70 && c->path != 80 && c->path != 90) || c->path > own) {
        return mrc_cuda_no(desc, MRC_ERR_UNSUPPORTED, "CUDA path %d: not one that this device has "
                           "(70, 80 from compute capability 8.0 on, and 90 of 9.0 alone, in builds "
                           "of CUDA 12 or later)", c->path);
    }
    if (c->tf32 && c->path < 80) {
        return mrc_cuda_no(desc, MRC_ERR_UNSUPPORTED, "TF32 is not what CUDA path %d has, but 80, "
                           "from compute capability 8.0 on", c->path);
    }
    return MRC_OK;
}

static mrc_status mrc_cuda_begin(mrc_cuda *c, const mrc_cuda_desc *desc) {
    if (cudaStreamCreateWithFlags(&c->stream, cudaStreamNonBlocking) != cudaSuccess
        || cudaMallocHost((void **)&c->staging, 2 * MRC_CUDA_STAGING_HALF) != cudaSuccess
        || cudaEventCreateWithFlags(&c->copied[0], cudaEventDisableTiming) != cudaSuccess
        || cudaEventCreateWithFlags(&c->copied[1], cudaEventDisableTiming) != cudaSuccess) {
        (void)cudaGetLastError();
        return mrc_cuda_no(desc, MRC_ERR_MEM, "the CUDA device gives no stream and %d bytes of "
                           "pinned memory", 2 * MRC_CUDA_STAGING_HALF);
    }
    return MRC_OK;
}

// Path 90 is taken where its products are path 80's to the bit: see wg_check().  A device that does
// not even finish them does nothing more until it is reset, for any instance of this process.
static mrc_status mrc_cuda_confirm(mrc_cuda *c, const mrc_cuda_desc *desc) {
    const mrc_status s = c->path == 90 ? wg_check(c) : MRC_OK;
    if (s == MRC_OK || s == MRC_ERR_MEM) return s;
    if ((desc && desc->path) || mrc_cuda_number("MRC_CUDA_PATH", 0)) {
        return mrc_cuda_no(desc, MRC_ERR_UNSUPPORTED, "CUDA path %d: its products are not those of "
                           "path 80 on this device", c->path);
    }
    c->path = 80;
    c->unconfirmed = 1;
    c->error[0] = 0;
    (void)cudaGetLastError();
    if (cudaStreamSynchronize(c->stream) == cudaSuccess) return MRC_OK;
    (void)cudaDeviceReset();
    c->stream = NULL;
    c->staging = NULL;
    c->copied[0] = c->copied[1] = NULL;
    MRC_CUDA_TRY(mrc_cuda_check(c, cudaSetDevice(c->device)));
    return mrc_cuda_begin(c, desc);
}

static const char *mrc_cuda_isa(const mrc_cuda *c) {
    if (c->path == 70) return "sm_70";
    if (c->path == 90) return c->tf32 ? "sm_90 tf32" : "sm_90";
    if (c->unconfirmed) return c->tf32 ? "sm_80 tf32, not sm_90" : "sm_80, not sm_90";
    return c->tf32 ? "sm_80 tf32" : "sm_80";
}

static mrc_status mrc_cuda_set_up(mrc_cuda *c, const mrc_cuda_desc *desc) {
    MRC_CUDA_TRY(mrc_cuda_choose(c, desc));
    MRC_CUDA_TRY(mrc_cuda_begin(c, desc));
    MRC_CUDA_TRY(mrc_cuda_confirm(c, desc));
    mrc_backend *be = &c->base;
    be->size = sizeof *be;
    be->api = MRC_BACKEND_API;
    be->name = "cuda";
    be->isa = mrc_cuda_isa(c);
    be->destroy = mrc_cuda_destroy;
    be->alloc = mrc_cuda_alloc;
    be->free = mrc_cuda_give_back;
    be->upload = mrc_cuda_upload;
    be->download = mrc_cuda_download;
    mrc_cuda_fill<float>(&be->kernels[MRC_DTYPE_F32]);
    mrc_cuda_fill<__half>(&be->kernels[MRC_DTYPE_F16]);
    if (c->path >= 80) mrc_cuda_fill<__nv_bfloat16>(&be->kernels[MRC_DTYPE_BF16]);
    mrc_cuda_fill_optim(&be->kernels[MRC_DTYPE_F32]);
    return MRC_OK;
}

extern "C" mrc_status mrc_backend_cuda_new(mrc_backend **out, const mrc_cuda_desc *desc) {
    mrc_allocator host = {};
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (desc) host = desc->allocator;
    if (!host.alloc != !host.free) return MRC_ERR_ARG;
    mrc_cuda *c = (mrc_cuda *)(host.alloc ? host.alloc(host.user, sizeof *c) : malloc(sizeof *c));
    if (!c) return MRC_ERR_MEM;
    new (c) mrc_cuda();                 // all zero
    c->host = host;
    c->base.self = c;
    const mrc_status status = mrc_cuda_set_up(c, desc);
    if (status != MRC_OK) mrc_cuda_destroy(&c->base);
    else *out = &c->base;
    return status;
}
