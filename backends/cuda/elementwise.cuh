// elementwise.cuh - everything that reads its operands once: activations, LayerNorm, dropout,
// embedding, cross-entropy, sums over rows
//
// T is what activations are stored as; sums, statistics and weights' gradients are f32.
#ifndef MRC_CUDA_ELEMENTWISE_CUH
#define MRC_CUDA_ELEMENTWISE_CUH
#include "common.cuh"

enum { MRC_CUDA_BLOCK = 128, MRC_CUDA_ROWS = MRC_CUDA_BLOCK / 32 };

// A matrix on the device: elements, columns from one row to the next.
template <class T> struct mrc_cuda_matrix {
    T     *data;
    size_t ld;
    int    accumulate;
    __device__ __forceinline__ T *at(size_t r, size_t c) const { return data + r * ld + c; }
};
template <class T> static mrc_cuda_matrix<const T> mrc_cuda_from(mrc_in m) {
    return { (const T *)m.data, m.ld, 0 };
}
template <class T> static mrc_cuda_matrix<T> mrc_cuda_into(mrc_out m) {
    return { (T *)m.data, m.ld, m.accumulate };
}

// Whether four elements of a row can be loaded and stored at once, from every fourth on.
template <class T> static bool mrc_cuda_by_four(const mrc_cuda_matrix<T> &m) {
    return (uintptr_t)m.data % (4 * sizeof(T)) == 0 && m.ld % 4 == 0;
}
static inline bool mrc_cuda_by_four(const mrc_cuda_vector &v) {
    return (uintptr_t)v.data % (v.dtype == MRC_DTYPE_F32 ? 16 : 8) == 0;
}

//==============================================================================
// Activations
//==============================================================================
template <class T>
__global__ void mrc_cuda_activation_fwd(size_t n, int act, const T *x, T *y) {
    const size_t i = (size_t)blockIdx.x * MRC_CUDA_BLOCK + threadIdx.x;
    if (i < n) mrc_cuda_put(y + i, mrc_cuda_act(act, mrc_cuda_get(x + i)));
}
template <class T>
__global__ void mrc_cuda_activation_bwd(size_t n, int act, const T *x, const T *dy, T *dx,
                                        int accumulate) {
    const size_t i = (size_t)blockIdx.x * MRC_CUDA_BLOCK + threadIdx.x;
    if (i >= n) return;
    mrc_cuda_give(dx + i, mrc_cuda_get(dy + i) * mrc_cuda_act_slope(act, mrc_cuda_get(x + i)),
                  accumulate);
}
// dz over z.
template <class T>
__global__ void mrc_cuda_act_dz(size_t rows, size_t cols, int act, mrc_cuda_matrix<T> z,
                                mrc_cuda_matrix<const T> dy) {
    const size_t i = (size_t)blockIdx.x * MRC_CUDA_BLOCK + threadIdx.x;
    if (i >= rows * cols) return;
    T *to = z.at(i / cols, i % cols);
    mrc_cuda_put(to, mrc_cuda_get(dy.at(i / cols, i % cols))
                     * mrc_cuda_act_slope(act, mrc_cuda_get(to)));
}

template <class T>
static mrc_status mrc_cuda_activation_fwd_run(mrc_backend *be, const mrc_activation_fwd_args *a) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    if (a->n == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_activation_fwd<T>),
                                        mrc_cuda_blocks(a->n, MRC_CUDA_BLOCK), MRC_CUDA_BLOCK, 0,
                                        c->stream, a->n, (int)a->act, (const T *)a->x.data,
                                        (T *)a->y.data));
}
template <class T>
static mrc_status mrc_cuda_activation_bwd_run(mrc_backend *be, const mrc_activation_bwd_args *a) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    if (a->n == 0 || !a->dx.data) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_activation_bwd<T>),
                                        mrc_cuda_blocks(a->n, MRC_CUDA_BLOCK), MRC_CUDA_BLOCK, 0,
                                        c->stream, a->n, (int)a->act, (const T *)a->x.data,
                                        (const T *)a->dy.data, (T *)a->dx.data,
                                        a->dx.accumulate));
}

//==============================================================================
// fill, axpby, fold: plain arrays
//==============================================================================
template <class T> __global__ void mrc_cuda_fill_array(size_t n, float value, T *y) {
    const size_t i = (size_t)blockIdx.x * MRC_CUDA_BLOCK + threadIdx.x;
    if (i < n) mrc_cuda_put(y + i, value);
}
template <class T>
static mrc_status mrc_cuda_fill_run(mrc_backend *be, const mrc_fill_args *a) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    if (a->n == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_fill_array<T>),
                                        mrc_cuda_blocks(a->n, MRC_CUDA_BLOCK), MRC_CUDA_BLOCK, 0,
                                        c->stream, a->n, (float)a->value, (T *)a->y.data));
}

template <class T, class Y>
__global__ void mrc_cuda_axpby_array(size_t n, float alpha, const float *scale,
                                     const int32_t *skip, const T *x, float beta, Y *y) {
    const size_t i = (size_t)blockIdx.x * MRC_CUDA_BLOCK + threadIdx.x;
    if (i >= n || (skip && *skip)) return;
    if (scale) alpha *= *scale;
    float v = 0;                                // what is not there is not added: 0 + -0 is +0
    if (alpha != 0) v = alpha * mrc_cuda_get(x + i);
    if (beta != 0) {
        const float old = beta * mrc_cuda_get(y + i);
        v = alpha != 0 ? old + v : old;
    }
    mrc_cuda_put(y + i, v);
}
template <class T, class Y>
static mrc_status mrc_cuda_axpby_into(mrc_cuda *c, const mrc_axpby_args *a) {
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_axpby_array<T, Y>),
                                        mrc_cuda_blocks(a->n, MRC_CUDA_BLOCK), MRC_CUDA_BLOCK, 0,
                                        c->stream, a->n, (float)a->alpha,
                                        (const float *)a->scale.data,
                                        (const int32_t *)a->skip.data, (const T *)a->x.data,
                                        (float)a->beta, (Y *)a->y.data));
}
template <class T>
static mrc_status mrc_cuda_axpby_run(mrc_backend *be, const mrc_axpby_args *a) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    if (a->n == 0) return MRC_OK;
    if (a->x.dtype == a->y.dtype) return mrc_cuda_axpby_into<T, T>(c, a);
    if (a->y.dtype == MRC_DTYPE_F16) return mrc_cuda_axpby_into<T, __half>(c, a);
    if (a->y.dtype == MRC_DTYPE_BF16) return mrc_cuda_axpby_into<T, __nv_bfloat16>(c, a);
    return MRC_ERR_UNSUPPORTED;
}

// A thread has an element: its parts are added in their order.
__global__ static void mrc_cuda_fold_parts(size_t n, size_t n_parts, size_t ld,
                                           const float *parts, float *y, int accumulate) {
    const size_t i = (size_t)blockIdx.x * MRC_CUDA_BLOCK + threadIdx.x;
    if (i >= n) return;
    size_t k = !accumulate && n_parts;
    float sum = accumulate ? y[i] : n_parts ? parts[i] : 0;
    for (; k < n_parts; k++) sum = sum + parts[k * ld + i];
    y[i] = sum;
}
static mrc_status mrc_cuda_fold_run(mrc_backend *be, const mrc_fold_args *a) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    if (a->n == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH(mrc_cuda_fold_parts,
                                        mrc_cuda_blocks(a->n, MRC_CUDA_BLOCK), MRC_CUDA_BLOCK, 0,
                                        c->stream, a->n, a->n_parts, a->parts.ld,
                                        (const float *)a->parts.data, (float *)a->y.data,
                                        a->y.accumulate));
}

//==============================================================================
// Sums over rows
//==============================================================================
typedef struct mrc_cuda_targets { float *to[2]; int accumulate[2]; } mrc_cuda_targets;

// f.load(r, c) reads what f.give(r, c, .., v) makes N values of.  A block has 32 columns, its 32
// warps a row each in turn, eight of them under way; then the warps' sums are added in their order.
template <class F>
__global__ void __launch_bounds__(1024) mrc_cuda_sum_rows(F f, int rows, int cols,
                                                          mrc_cuda_targets t) {
    struct partial { float v[F::N][32][33]; };
    MRC_DYN_SMEM(partial, s);
    enum { AT_ONCE = 8 };
    const int x = (int)threadIdx.x % 32, y = (int)threadIdx.x / 32;
    const int c = (int)blockIdx.x * 32 + x;
    float sum[F::N] = {};
    for (int first = y; first < rows; first += 32 * AT_ONCE) {
        typename F::read held[AT_ONCE] = {};
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const int r = first + 32 * i;
            if (c < cols && r < rows) held[i] = f.load((size_t)r, (size_t)c);
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const int r = first + 32 * i;
            float v[F::N] = {};
            if (c < cols && r < rows) f.give((size_t)r, (size_t)c, held[i], v);
#pragma unroll
            for (int k = 0; k < F::N; k++) sum[k] += v[k];
        }
    }
    for (int k = 0; k < F::N; k++) s->v[k][y][x] = sum[k];
    __syncthreads();
    if (y != 0 || c >= cols) return;
    for (int k = 0; k < F::N; k++) {            // in order: both may be one tensor
        float all = 0;
        for (int i = MRC_BUG(SUM_ROWS); i < 32; i++) all += s->v[k][i][x];
        if (t.to[k]) mrc_cuda_give(t.to[k] + c, all, t.accumulate[k]);
    }
}

template <class F>
static mrc_status mrc_cuda_row_sums(mrc_cuda *c, F f, size_t rows, size_t cols,
                                    mrc_cuda_targets t) {
    if (cols == 0) return MRC_OK;
    if (rows > INT32_MAX - 32) return MRC_ERR_UNSUPPORTED;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_sum_rows<F>), mrc_cuda_blocks(cols, 32), 1024,
                                        F::N * 32 * 33 * sizeof(float), c->stream, f, (int)rows,
                                        (int)cols, t));
}

template <class T> struct mrc_cuda_plain_sum {
    enum { N = 1 };
    typedef T read;
    mrc_cuda_matrix<const T> m;
    __device__ __forceinline__ T load(size_t r, size_t c) const { return *m.at(r, c); }
    __device__ __forceinline__ void give(size_t, size_t, T held, float (&v)[1]) const {
        v[0] = (float)held;
    }
};
// dz over z, as mrc_cuda_act_dz() makes it, and its sums.
template <class T> struct mrc_cuda_act_sum {
    enum { N = 1 };
    struct read { T z, dy; };
    int act;
    mrc_cuda_matrix<T> z;
    mrc_cuda_matrix<const T> dy;
    __device__ __forceinline__ read load(size_t r, size_t c) const {
        return { *z.at(r, c), *dy.at(r, c) };
    }
    __device__ __forceinline__ void give(size_t r, size_t c, read held, float (&v)[1]) const {
        const T dz = (T)((float)held.dy * mrc_cuda_act_slope(act, (float)held.z));
        if (!MRC_BUG(ACT_SUM)) *z.at(r, c) = dz;
        v[0] = (float)dz;
    }
};
template <class T>
static mrc_status mrc_cuda_bias_gradient(mrc_cuda *c, mrc_in dz, size_t rows, size_t cols,
                                         mrc_out dbias) {
    if (!dbias.data) return MRC_OK;
    const mrc_cuda_targets t = { { (float *)dbias.data, NULL }, { dbias.accumulate, 0 } };
    return mrc_cuda_row_sums(c, mrc_cuda_plain_sum<T>{ mrc_cuda_from<T>(dz) }, rows, cols, t);
}

//==============================================================================
// LayerNorm, alone and after residual + dropout: a warp has a row
//==============================================================================
template <class T> struct mrc_cuda_norm {
    int n, h, n_sequences;
    int plain;                                  // without statistics: mean 0, rstd 1
    int four;                                   // h is a multiple, and all is aligned
    float eps;
    mrc_cuda_mask mask;
    const int32_t *cu, *index;
    mrc_cuda_matrix<const T> x, residual, dy;
    mrc_cuda_vector weight, bias;
    mrc_cuda_matrix<T> y, u, dx, dresidual;
    float *mean, *rstd;
};

// ADD: u = residual + dropout(x) is made first, into u; else u is x.
template <class T, bool ADD>
__global__ void __launch_bounds__(MRC_CUDA_BLOCK) mrc_cuda_norm_fwd(mrc_cuda_norm<T> a) {
    const int row = (int)blockIdx.x * MRC_CUDA_ROWS + (int)threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    if (row >= a.n) return;                     // the whole warp
    const T *u = ADD ? a.u.at((size_t)row, 0) : a.x.at((size_t)row, 0);
    const int s = ADD ? mrc_cuda_sequence_of(a.cu, a.n_sequences, row) : 0;
    float sum = 0, square = 0, v[4];
    for (int f = 4 * lane; f < a.h; f += 128) {
        mrc_cuda_load4(a.x.at((size_t)row, 0), f, a.h, a.four, v);
        if (ADD) {
            float keep[4], residual[4];
            mrc_cuda_kept(a.mask, 0, (uint32_t)a.index[s], (uint32_t)(row - a.cu[s]),
                          (uint32_t)f / 4, keep);
            mrc_cuda_load4(a.residual.at((size_t)row, 0), f, a.h, a.four, residual);
#pragma unroll
            for (int k = 0; k < 4; k++) {       // as u will be read again: rounded
                v[k] = (float)(T)((keep[k] > 0 ? v[k] * keep[k] : 0) + residual[k]);
            }
            mrc_cuda_store4(a.u.at((size_t)row, 0), f, a.h, a.four, 0, v);
        }
        sum += v[0] + v[1] + v[2] + v[3];
    }
    const float mean = a.plain && !MRC_BUG(NORM_FWD) ? 0 : mrc_cuda_sum<32>(sum) / (float)a.h;
    for (int f = 4 * lane; f < a.h; f += 128) {         // what this lane has written
        mrc_cuda_load4(u, f, a.h, a.four, v);
#pragma unroll
        for (int k = 0; k < 4; k++) square += f + k < a.h ? (v[k] - mean) * (v[k] - mean) : 0;
    }
    square = mrc_cuda_sum<32>(square) / (float)a.h;
    const float rstd = a.plain ? 1 : 1 / sqrtf(square + a.eps);
    for (int f = 4 * lane; f < a.h; f += 128) {
        float weight[4], bias[4];
        mrc_cuda_load4(u, f, a.h, a.four, v);
        mrc_cuda_at4(a.weight, f, a.h, a.four, weight);
        mrc_cuda_at4(a.bias, f, a.h, a.four, bias);
#pragma unroll
        for (int k = 0; k < 4; k++) v[k] = (v[k] - mean) * rstd * weight[k] + bias[k];
        mrc_cuda_store4(a.y.at((size_t)row, 0), f, a.h, a.four, 0, v);
    }
    if (lane == 0 && a.mean) a.mean[row] = mean;
    if (lane == 0 && a.rstd) a.rstd[row] = rstd;
}

// du of a row: into dresidual as it is, into dx times the mask.
template <class T>
__global__ void __launch_bounds__(MRC_CUDA_BLOCK) mrc_cuda_norm_bwd(mrc_cuda_norm<T> a) {
    const int row = (int)blockIdx.x * MRC_CUDA_ROWS + (int)threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    if (row >= a.n) return;
    const size_t r = (size_t)row;
    const float mean = a.mean[row], rstd = a.rstd[row];
    float sum_g = 0, sum_gx = 0, g[4], x[4], weight[4];
    for (int f = 4 * lane; f < a.h; f += 128) {
        mrc_cuda_load4(a.dy.at(r, 0), f, a.h, a.four, g);
        mrc_cuda_load4(a.x.at(r, 0), f, a.h, a.four, x);
        mrc_cuda_at4(a.weight, f, a.h, a.four, weight);
#pragma unroll
        for (int k = 0; k < 4; k++) {           // past the end g is 0
            g[k] *= weight[k];
            sum_g += g[k];
            sum_gx += g[k] * ((x[k] - mean) * rstd);
        }
    }
    const float mean_g = a.plain && !MRC_BUG(NORM_BWD) ? 0 : mrc_cuda_sum<32>(sum_g) / (float)a.h;
    const float mean_gx = a.plain ? 0 : mrc_cuda_sum<32>(sum_gx) / (float)a.h;
    const int s = a.cu ? mrc_cuda_sequence_of(a.cu, a.n_sequences, row) : 0;
    const uint32_t sequence = a.cu ? (uint32_t)a.index[s] : 0;
    const uint32_t position = a.cu ? (uint32_t)(row - a.cu[s]) : 0;
    for (int f = 4 * lane; f < a.h; f += 128) {
        float keep[4], du[4], dx[4];
        mrc_cuda_kept(a.mask, 0, sequence, position, (uint32_t)f / 4, keep);
        mrc_cuda_load4(a.dy.at(r, 0), f, a.h, a.four, g);
        mrc_cuda_load4(a.x.at(r, 0), f, a.h, a.four, x);
        mrc_cuda_at4(a.weight, f, a.h, a.four, weight);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            // forward was: y = xhat * weight + bias
            const float xhat = (x[k] - mean) * rstd;
            du[k] = rstd * (g[k] * weight[k] - mean_g - xhat * mean_gx);
            dx[k] = du[k] * keep[k];
        }
        if (a.dx.data) mrc_cuda_store4(a.dx.at(r, 0), f, a.h, a.four, a.dx.accumulate, dx);
        if (a.dresidual.data) {
            mrc_cuda_store4(a.dresidual.at(r, 0), f, a.h, a.four, a.dresidual.accumulate, du);
        }
    }
}

template <class T> struct mrc_cuda_norm_sums {          // of dweight and dbias
    enum { N = 2 };
    struct read { T x, dy; };
    mrc_cuda_matrix<const T> x, dy;
    const float *mean, *rstd;
    __device__ __forceinline__ read load(size_t r, size_t c) const {
        return { *x.at(r, c), *dy.at(r, c) };
    }
    __device__ __forceinline__ void give(size_t r, size_t, read held, float (&v)[2]) const {
        v[1] = (float)held.dy;
        v[0] = v[1] * (((float)held.x - mean[r]) * rstd[r]);
    }
};

// Whether its rows can be read and written by four; what is not there is aligned.
template <class T> static int mrc_cuda_norm_by_four(const mrc_cuda_norm<T> &a) {
    return !MRC_BUG(NARROW) && a.h % 4 == 0 && mrc_cuda_by_four(a.x) && mrc_cuda_by_four(a.residual)
        && mrc_cuda_by_four(a.dy) && mrc_cuda_by_four(a.y) && mrc_cuda_by_four(a.u)
        && mrc_cuda_by_four(a.dx) && mrc_cuda_by_four(a.dresidual) && mrc_cuda_by_four(a.weight)
        && mrc_cuda_by_four(a.bias);
}
template <class T> static mrc_status mrc_cuda_norm_fwd_launch(mrc_cuda *c, mrc_cuda_norm<T> a) {
    a.four = mrc_cuda_norm_by_four(a);
    if (a.n == 0) return MRC_OK;
    const unsigned grid = mrc_cuda_blocks((size_t)a.n, MRC_CUDA_ROWS);
    return mrc_cuda_check(c, a.cu ? MRC_LAUNCH((mrc_cuda_norm_fwd<T, true>), grid, MRC_CUDA_BLOCK,
                                               0, c->stream, a)
                                  : MRC_LAUNCH((mrc_cuda_norm_fwd<T, false>), grid,
                                               MRC_CUDA_BLOCK, 0, c->stream, a));
}
template <class T>
static mrc_status mrc_cuda_norm_bwd_launch(mrc_cuda *c, mrc_cuda_norm<T> a, mrc_out dweight,
                                           mrc_out dbias) {
    a.four = mrc_cuda_norm_by_four(a);
    if (a.n && (a.dx.data || a.dresidual.data)) {
        MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_norm_bwd<T>),
                                                  mrc_cuda_blocks((size_t)a.n, MRC_CUDA_ROWS),
                                                  MRC_CUDA_BLOCK, 0, c->stream, a)));
    }
    if (!dweight.data && !dbias.data) return MRC_OK;
    const mrc_cuda_targets t = { { (float *)dweight.data, (float *)dbias.data },
                                 { dweight.accumulate, dbias.accumulate } };
    const mrc_cuda_norm_sums<T> f = { a.x, a.dy, a.mean, a.rstd };
    return mrc_cuda_row_sums(c, f, (size_t)a.n, (size_t)a.h, t);
}

template <class T>
static mrc_status mrc_cuda_layer_norm_fwd_run(mrc_backend *be, const mrc_layer_norm_fwd_args *g) {
    mrc_cuda_norm<T> a = {};
    a.n = (int)g->n;
    a.h = (int)g->h;
    a.plain = g->eps < 0;
    a.eps = (float)g->eps;
    a.x = mrc_cuda_from<T>(g->x);
    a.weight = mrc_cuda_vector_of(g->weight);
    a.bias = mrc_cuda_vector_of(g->bias);
    a.y = mrc_cuda_into<T>(g->y);
    a.mean = (float *)g->mean.data;
    a.rstd = (float *)g->rstd.data;
    return mrc_cuda_norm_fwd_launch((mrc_cuda *)be->self, a);
}
template <class T>
static mrc_status mrc_cuda_layer_norm_bwd_run(mrc_backend *be, const mrc_layer_norm_bwd_args *g) {
    mrc_cuda_norm<T> a = {};
    a.n = (int)g->n;
    a.h = (int)g->h;
    a.plain = g->plain;
    a.mask.scale = 1;
    a.x = mrc_cuda_from<T>(g->x);
    a.dy = mrc_cuda_from<T>(g->dy);
    a.weight = mrc_cuda_vector_of(g->weight);
    a.mean = (float *)(uintptr_t)g->mean.data;
    a.rstd = (float *)(uintptr_t)g->rstd.data;
    a.dx = mrc_cuda_into<T>(g->dx);
    return mrc_cuda_norm_bwd_launch((mrc_cuda *)be->self, a, g->dweight, g->dbias);
}

template <class T>
static mrc_status mrc_cuda_add_norm_fwd_run(mrc_backend *be, const mrc_add_norm_fwd_args *g) {
    mrc_cuda_norm<T> a = {};
    a.n = (int)g->n;
    a.h = (int)g->h;
    a.n_sequences = (int)g->n_sequences;
    a.plain = g->eps < 0;
    a.eps = (float)g->eps;
    a.mask = mrc_cuda_mask_of(&g->mask);
    a.cu = (const int32_t *)g->cu_seqlens.data;
    a.index = (const int32_t *)g->sequence_index.data;
    a.x = mrc_cuda_from<T>(g->x);
    a.residual = mrc_cuda_from<T>(g->residual);
    a.weight = mrc_cuda_vector_of(g->weight);
    a.bias = mrc_cuda_vector_of(g->bias);
    a.y = mrc_cuda_into<T>(g->y);
    a.u = mrc_cuda_into<T>(g->sum.data ? g->sum : g->y);        // nobody wants u: y is room enough
    a.mean = (float *)g->mean.data;
    a.rstd = (float *)g->rstd.data;
    return mrc_cuda_norm_fwd_launch((mrc_cuda *)be->self, a);
}
template <class T>
static mrc_status mrc_cuda_add_norm_bwd_run(mrc_backend *be, const mrc_add_norm_bwd_args *g) {
    mrc_cuda_norm<T> a = {};
    a.n = (int)g->n;
    a.h = (int)g->h;
    a.plain = g->plain;
    a.n_sequences = (int)g->n_sequences;
    a.mask = mrc_cuda_mask_of(&g->mask);
    a.cu = (const int32_t *)g->cu_seqlens.data;
    a.index = (const int32_t *)g->sequence_index.data;
    a.x = { (const T *)g->sum.data, g->sum.ld, 0 };
    a.dy = mrc_cuda_from<T>(g->dy);
    a.weight = mrc_cuda_vector_of(g->weight);
    a.mean = (float *)(uintptr_t)g->mean.data;
    a.rstd = (float *)(uintptr_t)g->rstd.data;
    a.dx = mrc_cuda_into<T>(g->dx);
    a.dresidual = mrc_cuda_into<T>(g->dresidual);
    return mrc_cuda_norm_bwd_launch((mrc_cuda *)be->self, a, g->dweight, g->dbias);
}

//==============================================================================
// Dropout: a thread has four features of a row, which one Philox call decides
//==============================================================================
template <class T> struct mrc_cuda_drop {
    int n_sequences, h;
    mrc_cuda_mask mask;
    const int32_t *cu, *index;
    mrc_cuda_matrix<const T> from, residual;    // residual.data NULL: 0
    mrc_cuda_matrix<T> to;
    int four;                                   // h is a multiple, and all is aligned
};
template <class T> __global__ void mrc_cuda_dropout(mrc_cuda_drop<T> a) {
    const int row = (int)blockIdx.x, f = 4 * (int)(blockIdx.y * blockDim.x + threadIdx.x);
    if (f >= a.h) return;
    const int s = mrc_cuda_sequence_of(a.cu, a.n_sequences, row);
    float keep[4], x[4], residual[4] = {};
    mrc_cuda_kept(a.mask, 0, (uint32_t)a.index[s], (uint32_t)(row - a.cu[s]), (uint32_t)f / 4,
                  keep);
    mrc_cuda_load4(a.from.at((size_t)row, 0), f, a.h, a.four, x);
    if (a.residual.data) {
        mrc_cuda_load4(a.residual.at((size_t)row, 0), f, a.h, a.four, residual);
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
        x[k] = keep[k] > 0 ? x[k] * keep[k] : 0;
        if (a.residual.data) x[k] += residual[k];
    }
    mrc_cuda_store4(a.to.at((size_t)row, 0), f, a.h, a.four, a.to.accumulate, x);
}
template <class T, class Args>
static mrc_status mrc_cuda_mask_rows(mrc_backend *be, const Args *g, const mrc_dropout_mask &mask,
                                     mrc_in from, mrc_in residual, mrc_out to) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_drop<T> a = { (int)g->n_sequences, (int)g->h, mrc_cuda_mask_of(&mask),
                                 (const int32_t *)g->cu_seqlens.data,
                                 (const int32_t *)g->sequence_index.data,
                                 mrc_cuda_from<T>(from), mrc_cuda_from<T>(residual),
                                 mrc_cuda_into<T>(to), 0 };
    a.four = g->h % 4 == 0 && mrc_cuda_by_four(a.from) && mrc_cuda_by_four(a.residual)
          && mrc_cuda_by_four(a.to);
    if (g->n == 0 || g->h == 0 || !to.data) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_dropout<T>),
                                        dim3((unsigned)g->n, mrc_cuda_blocks(g->h, 4 * 64)), 64, 0,
                                        c->stream, a));
}
template <class T>
static mrc_status mrc_cuda_dropout_run(mrc_backend *be, const mrc_dropout_args *g) {
    return mrc_cuda_mask_rows<T>(be, g, g->mask, g->from, {}, g->to);
}
template <class T>
static mrc_status mrc_cuda_add_fwd_run(mrc_backend *be, const mrc_add_fwd_args *g) {
    return mrc_cuda_mask_rows<T>(be, g, g->mask, g->x, g->residual, g->y);
}
template <class T>
static mrc_status mrc_cuda_add_bwd_run(mrc_backend *be, const mrc_add_bwd_args *g) {
    mrc_dropout_mask none = {};
    none.scale = 1;
    MRC_CUDA_TRY(mrc_cuda_mask_rows<T>(be, g, g->mask, g->dy, {}, g->dx));
    return mrc_cuda_mask_rows<T>(be, g, none, g->dy, {}, g->dresidual);
}

//==============================================================================
// Embedding
//==============================================================================
template <class T> struct mrc_cuda_lookup {
    const int32_t *ids[3];
    mrc_cuda_matrix<const float> table[3];      // word, position, token_type
    mrc_cuda_matrix<T> y;
    int h;
};
template <class T> __global__ void mrc_cuda_embedding_fwd(mrc_cuda_lookup<T> a) {
    const size_t row = blockIdx.x;
    const size_t id[3] = { (size_t)a.ids[0][row], (size_t)a.ids[1][row], (size_t)a.ids[2][row] };
    for (size_t i = threadIdx.x; i < (size_t)a.h; i += blockDim.x) {
        mrc_cuda_put(a.y.at(row, i), *a.table[0].at(id[0], i) + *a.table[1].at(id[1], i)
                                     + *a.table[2].at(id[2], i));
    }
}
template <class T>
static mrc_status mrc_cuda_embedding_fwd_run(mrc_backend *be, const mrc_embedding_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const mrc_cuda_lookup<T> a = {
        { (const int32_t *)g->input_ids.data, (const int32_t *)g->position_ids.data,
          (const int32_t *)g->token_type_ids.data },
        { mrc_cuda_from<float>(g->word), mrc_cuda_from<float>(g->position),
          mrc_cuda_from<float>(g->token_type) },
        mrc_cuda_into<T>(g->y), (int)g->h };
    if (g->n == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_embedding_fwd<T>), (unsigned)g->n,
                                        MRC_CUDA_BLOCK, 0, c->stream, a));
}

__global__ static void mrc_cuda_zero(mrc_cuda_matrix<float> m, size_t rows, size_t cols) {
    const size_t i = (size_t)blockIdx.x * MRC_CUDA_BLOCK + threadIdx.x;
    if (i < rows * cols) *m.at(i / cols, i % cols) = 0;
}

// A block has 128 columns of the gradient of one id: it goes to the block of the first row that
// has the id, which adds up all such rows in their order; the other blocks leave.  No sorting, no
// atomics, one order.
template <class T>
__global__ void __launch_bounds__(MRC_CUDA_BLOCK)
mrc_cuda_embedding_scatter(const int32_t *ids, int n, int32_t padding, int h,
                           mrc_cuda_matrix<const T> dy, mrc_cuda_matrix<float> d) {
    struct shared { unsigned hits[MRC_CUDA_ROWS]; };
    MRC_DYN_SMEM(shared, s);
    const int row = (int)blockIdx.x, t = (int)threadIdx.x, c = (int)blockIdx.y * MRC_CUDA_BLOCK + t;
    const int32_t id = ids[row];
    float sum = 0;
    if (id == padding) return;
    for (int r0 = 0; r0 < n; r0 += MRC_CUDA_BLOCK) {
        const unsigned hit = __ballot_sync(0xffffffffu, r0 + t < n && ids[r0 + t] == id);
        if (t % 32 == 0) s->hits[t / 32] = hit;
        __syncthreads();
        for (int w = 0; w < MRC_CUDA_ROWS; w++) {
            for (unsigned bits = s->hits[w]; bits; bits &= bits - 1) {
                const int r = r0 + 32 * w + __ffs((int)bits) - 1;
                if (r < row) return;            // all threads of the block see the same
                if (c < h) sum += mrc_cuda_get(dy.at((size_t)r, (size_t)c));
            }
        }
        __syncthreads();
    }
    if (c < h) *d.at((size_t)id, (size_t)c) += sum;
}

// A table of few rows, each of which has many rows of dy: a block has 32 columns of one id's
// gradient, its 32 warps a row of dy each in turn, and all of them are added in order.
template <class T>
__global__ void __launch_bounds__(1024)
mrc_cuda_embedding_few(const int32_t *ids, int n, int32_t padding, int h,
                       mrc_cuda_matrix<const T> dy, mrc_cuda_matrix<float> d) {
    struct partial { float v[32][33]; };
    MRC_DYN_SMEM(partial, s);
    const int x = (int)threadIdx.x % 32, y = (int)threadIdx.x / 32, id = (int)blockIdx.y;
    const int c = (int)blockIdx.x * 32 + x;
    float sum = 0;
#pragma unroll 8
    for (int r = y; r < n; r += 32) {
        const float v = c < h ? mrc_cuda_get(dy.at((size_t)r, (size_t)c)) : 0;
        sum += ids[r] == id && id != padding ? v : 0;
    }
    s->v[y][x] = sum;
    __syncthreads();
    if (y != 0 || c >= h) return;
    sum = 0;
    for (int i = MRC_BUG(EMBEDDING_FEW); i < 32; i++) sum += s->v[i][x];
    mrc_cuda_give(d.at((size_t)id, (size_t)c), sum, d.accumulate);
}

enum { MRC_CUDA_FEW = 4 };              // rows of a table

template <class T>
static mrc_status mrc_cuda_embedding_table(mrc_cuda *c, const mrc_embedding_bwd_args *g,
                                           mrc_out d, mrc_in ids, int32_t padding, size_t rows) {
    const mrc_cuda_matrix<float> to = mrc_cuda_into<float>(d);
    if (!d.data || g->h == 0) return MRC_OK;
    if (rows && rows <= MRC_CUDA_FEW) {
        return mrc_cuda_check(
            c, MRC_LAUNCH((mrc_cuda_embedding_few<T>),
                          dim3(mrc_cuda_blocks(g->h, 32), (unsigned)rows), 1024,
                          32 * 33 * sizeof(float), c->stream, (const int32_t *)ids.data,
                          (int)g->n, padding, (int)g->h, mrc_cuda_from<T>(g->dy), to));
    }
    if (!d.accumulate && rows) {
        MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH(mrc_cuda_zero,
                                                  mrc_cuda_blocks(rows * g->h, MRC_CUDA_BLOCK),
                                                  MRC_CUDA_BLOCK, 0, c->stream, to, rows, g->h)));
    }
    if (g->n == 0) return MRC_OK;
    return mrc_cuda_check(
        c, MRC_LAUNCH((mrc_cuda_embedding_scatter<T>),
                      dim3((unsigned)g->n, mrc_cuda_blocks(g->h, MRC_CUDA_BLOCK)), MRC_CUDA_BLOCK,
                      MRC_CUDA_ROWS * sizeof(unsigned), c->stream, (const int32_t *)ids.data,
                      (int)g->n, padding, (int)g->h, mrc_cuda_from<T>(g->dy), to));
}
template <class T>
static mrc_status mrc_cuda_embedding_bwd_run(mrc_backend *be, const mrc_embedding_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    MRC_CUDA_TRY(mrc_cuda_embedding_table<T>(c, g, g->dword, g->input_ids, g->word_padding,
                                             g->n_words));
    MRC_CUDA_TRY(mrc_cuda_embedding_table<T>(c, g, g->dposition, g->position_ids,
                                             g->position_padding, g->n_positions));
    return mrc_cuda_embedding_table<T>(c, g, g->dtoken_type, g->token_type_ids, -1, g->n_types);
}

//==============================================================================
// Losses over the rows of each sequence: a warp has one sequence and column
//==============================================================================
template <class T> struct mrc_cuda_loss {
    int n_sequences, columns, kind, reference;
    double gamma, smoothing;
    mrc_cuda_matrix<const T> logits, other;
    const int32_t *targets, *cu, *begin, *end;
    const float *denominator, *dloss, *alpha;
    float *lse, *parts, *loss;
    size_t ld_lse;
    mrc_cuda_matrix<T> dlogits, dother;
};
__device__ __forceinline__ float mrc_cuda_share(float denominator) {
    return denominator > 0 ? 1 / denominator : 0;
}

// What t is for the target and for each other row of a window of k (see mrc_loss).
template <class T>
__device__ __forceinline__ void mrc_cuda_loss_targets(const mrc_cuda_loss<T> &a, int k, float *own,
                                                      float *other) {
    const double s = a.kind == MRC_LOSS_LABEL_SMOOTHING ? a.smoothing : 0;
    const double rest = k < 2 ? 0 : a.reference ? s / (k - 1) : s / k;
    *other = (float)rest;
    *own = (float)(k < 2 ? 1 : 1 - s + (a.reference ? 0 : rest));
}

// log sum of exp over rows begin to end of a column; all lanes have it.
template <class T>
__device__ __forceinline__ float mrc_cuda_window_lse(mrc_cuda_matrix<const T> logits, int begin,
                                                     int end, int c) {
    float max = -INFINITY, sum = 0;
    for (int i = begin + (int)threadIdx.x; i < end; i += 32) {
        max = fmaxf(max, mrc_cuda_get(logits.at((size_t)i, (size_t)c)));
    }
    max = mrc_cuda_max<32>(max);
    for (int i = begin + (int)threadIdx.x; i < end; i += 32) {
        sum += expf(mrc_cuda_get(logits.at((size_t)i, (size_t)c)) - max);
    }
    return max + logf(mrc_cuda_sum<32>(sum));
}

template <class T> __global__ void mrc_cuda_loss_fwd(mrc_cuda_loss<T> a) {
    const int s = (int)blockIdx.x, c = (int)blockIdx.y, lane = (int)threadIdx.x;
    const int begin = a.cu[s] + a.begin[s], end = a.cu[s] + a.end[s];
    const int target = a.targets[c * a.n_sequences + s];
    const bool counted = target >= a.begin[s] && target < a.end[s];
    const float lse = mrc_cuda_window_lse(a.logits, begin, end, c);
    float all = 0, own, other;                  // all: the sum of lp
    if (a.kind == MRC_LOSS_LABEL_SMOOTHING && counted) {
        for (int i = begin + lane; i < end; i += 32) {
            all += mrc_cuda_get(a.logits.at((size_t)i, (size_t)c)) - lse;
        }
    }
    all = mrc_cuda_sum<32>(all);
    if (lane != 0) return;
    a.lse[(size_t)c * a.ld_lse + s] = lse;      // of an empty window -inf, which nothing reads
    float value = 0;
    if (counted) {
        const float lp = mrc_cuda_get(a.logits.at((size_t)(a.cu[s] + target), (size_t)c)) - lse;
        mrc_cuda_loss_targets(a, end - begin, &own, &other);
        value = a.kind == MRC_LOSS_FOCAL
              ? -(float)pow(-expm1((double)lp), a.gamma) * lp
              : -(own * lp + other * (all - lp));
        if (a.alpha) value *= a.alpha[target];
    }
    a.parts[c * a.n_sequences + s] = value;
}
template <class T> __global__ void mrc_cuda_loss_sum(mrc_cuda_loss<T> a) {
    double loss = 0;
    for (int c = 0; c < a.columns; c++) {
        double column = 0;
        for (int s = 0; s < a.n_sequences; s++) column += a.parts[c * a.n_sequences + s];
        loss += column * mrc_cuda_share(a.denominator[c]);
    }
    *a.loss = (float)loss;
}

template <class T>
__device__ __forceinline__ float mrc_cuda_loss_slope(const mrc_cuda_loss<T> &a, float lp) {
    if (a.kind != MRC_LOSS_FOCAL) return 1;
    const double left = -expm1((double)lp), slope = pow(left, a.gamma);         // left: 1 - p
    if (a.reference || !(left > 0) || a.gamma == 0) return (float)slope;
    return (float)(slope - a.gamma * pow(left, a.gamma - 1) * exp((double)lp) * lp);
}
template <class T> __global__ void mrc_cuda_loss_bwd(mrc_cuda_loss<T> a) {
    const int s = (int)blockIdx.x, c = (int)blockIdx.y;
    const int target = a.targets[c * a.n_sequences + s], begin = a.begin[s], end = a.end[s];
    const bool counted = target >= begin && target < end;
    const float lse = a.lse[(size_t)c * a.ld_lse + s];
    float slope = 0, own, other;
    mrc_cuda_loss_targets(a, end - begin, &own, &other);
    if (counted) {
        // forward was: column += alpha * f(l_target - lse)
        slope = *a.dloss * mrc_cuda_share(a.denominator[c]);
        slope *= mrc_cuda_loss_slope(
            a, mrc_cuda_get(a.logits.at((size_t)(a.cu[s] + target), (size_t)c)) - lse);
        if (a.alpha) slope *= a.alpha[target];
    }
    for (int i = (int)threadIdx.x; i < a.cu[s + 1] - a.cu[s]; i += (int)blockDim.x) {
        const size_t row = (size_t)(a.cu[s] + i);
        float d = 0;
        if (counted && i >= begin && i < end) {
            d = expf(mrc_cuda_get(a.logits.at(row, (size_t)c)) - lse);
            d = slope * (d - (i == target ? own : other));
        }
        mrc_cuda_give(a.dlogits.at(row, (size_t)c), d, a.dlogits.accumulate);
    }
}

template <class T, class Args> static mrc_cuda_loss<T> mrc_cuda_loss_of(const Args *g) {
    mrc_cuda_loss<T> a = {};
    a.n_sequences = (int)g->n_sequences;
    a.columns = (int)g->columns;
    a.logits = mrc_cuda_from<T>(g->logits);
    a.targets = (const int32_t *)g->targets.data;
    a.cu = (const int32_t *)g->cu_seqlens.data;
    a.begin = (const int32_t *)g->loss_begin.data;
    a.end = (const int32_t *)g->loss_end.data;
    a.denominator = (const float *)g->denominator.data;
    return a;
}
template <class T, class Args> static mrc_cuda_loss<T> mrc_cuda_cross_entropy_of(const Args *g) {
    mrc_cuda_loss<T> a = mrc_cuda_loss_of<T>(g);
    a.kind = (int)g->criterion.kind;
    a.reference = g->criterion.reference;
    a.gamma = g->criterion.gamma;
    a.smoothing = g->criterion.smoothing;
    a.alpha = (const float *)g->alpha.data;
    a.lse = (float *)(uintptr_t)g->lse.data;
    a.ld_lse = g->lse.ld;
    return a;
}
template <class Args> static size_t mrc_cuda_loss_scratch(mrc_backend *be, const Args *g) {
    (void)be;
    return g->n_sequences * g->columns * sizeof(float);
}
static inline dim3 mrc_cuda_loss_grid(size_t n_sequences, size_t columns) {
    return dim3((unsigned)n_sequences, (unsigned)columns);
}
template <class T>
static mrc_status mrc_cuda_cross_entropy_fwd_run(mrc_backend *be,
                                                 const mrc_cross_entropy_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_loss<T> a = mrc_cuda_cross_entropy_of<T>(g);
    a.parts = (float *)g->workspace;
    a.loss = (float *)g->loss.data;
    if (g->n_sequences && g->columns) {
        MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_loss_fwd<T>),
                                                  mrc_cuda_loss_grid(g->n_sequences, g->columns),
                                                  32, 0, c->stream, a)));
    }
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_loss_sum<T>), 1, 1, 0, c->stream, a));
}
template <class T>
static mrc_status mrc_cuda_cross_entropy_bwd_run(mrc_backend *be,
                                                 const mrc_cross_entropy_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_loss<T> a = mrc_cuda_cross_entropy_of<T>(g);
    a.dloss = (const float *)g->dloss.data;
    a.dlogits = mrc_cuda_into<T>(g->dlogits);
    if (!g->n_sequences || !g->columns || !g->dlogits.data) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_loss_bwd<T>),
                                        mrc_cuda_loss_grid(g->n_sequences, g->columns), 128, 0,
                                        c->stream, a));
}

//==============================================================================
// The symmetric KL of two passes; saved (4, C B) as in op.symmetric_kl
//==============================================================================
template <class T> __global__ void mrc_cuda_kl_fwd(mrc_cuda_loss<T> a) {
    const int s = (int)blockIdx.x, c = (int)blockIdx.y, at = c * a.n_sequences + s;
    const int begin = a.cu[s] + a.begin[s], end = a.cu[s] + a.end[s], target = a.targets[at];
    float saved[4] = {};
    if (target >= a.begin[s] && target < a.end[s]) {            // the same for the whole warp
        saved[0] = mrc_cuda_window_lse(a.logits, begin, end, c);
        saved[1] = mrc_cuda_window_lse(a.other, begin, end, c);
        for (int i = begin + (int)threadIdx.x; i < end; i += 32) {
            const float lp = mrc_cuda_get(a.logits.at((size_t)i, (size_t)c)) - saved[0];
            const float lq = mrc_cuda_get(a.other.at((size_t)i, (size_t)c)) - saved[1];
            saved[2] += expf(lp) * (lp - lq);
            saved[3] += expf(lq) * (lq - lp);
        }
        saved[2] = mrc_cuda_sum<32>(saved[2]);
        saved[3] = mrc_cuda_sum<32>(saved[3]);
    }
    if (threadIdx.x != 0) return;
    for (int k = 0; k < 4; k++) {
        if (a.lse) a.lse[(size_t)k * a.ld_lse + at] = saved[k];
    }
    a.parts[at] = (saved[2] + saved[3]) / 2;
}
template <class T> __global__ void mrc_cuda_kl_bwd(mrc_cuda_loss<T> a) {
    const int s = (int)blockIdx.x, c = (int)blockIdx.y, at = c * a.n_sequences + s;
    const int target = a.targets[at], begin = a.begin[s], end = a.end[s];
    const bool counted = target >= begin && target < end;
    const float scale = *a.dloss / 2 * mrc_cuda_share(a.denominator[c]);
    float saved[4];
    for (int k = 0; k < 4; k++) saved[k] = a.lse[(size_t)k * a.ld_lse + at];
    for (int i = (int)threadIdx.x; i < a.cu[s + 1] - a.cu[s]; i += (int)blockDim.x) {
        const size_t row = (size_t)(a.cu[s] + i);
        float dp = 0, dq = 0;
        if (counted && i >= begin && i < end) {
            // forward was: KL(p || q) = sum of p (lp - lq), and the same of q
            const float lp = mrc_cuda_get(a.logits.at(row, (size_t)c)) - saved[0];
            const float lq = mrc_cuda_get(a.other.at(row, (size_t)c)) - saved[1];
            const float p = expf(lp), q = expf(lq);
            dp = scale * (p * (lp - lq - saved[2]) + p - q);
            dq = scale * (q * (lq - lp - saved[3]) + q - p);
        }
        if (a.dlogits.data) {
            mrc_cuda_give(a.dlogits.at(row, (size_t)c), dp, a.dlogits.accumulate);
        }
        if (a.dother.data) mrc_cuda_give(a.dother.at(row, (size_t)c), dq, a.dother.accumulate);
    }
}
template <class T, class Args> static mrc_cuda_loss<T> mrc_cuda_kl_of(const Args *g) {
    mrc_cuda_loss<T> a = mrc_cuda_loss_of<T>(g);
    a.other = mrc_cuda_from<T>(g->other);
    a.lse = (float *)(uintptr_t)g->saved.data;
    a.ld_lse = g->saved.ld;
    return a;
}
template <class T>
static mrc_status mrc_cuda_symmetric_kl_fwd_run(mrc_backend *be,
                                                const mrc_symmetric_kl_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_loss<T> a = mrc_cuda_kl_of<T>(g);
    a.parts = (float *)g->workspace;
    a.loss = (float *)g->loss.data;
    if (g->n_sequences && g->columns) {
        MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_kl_fwd<T>),
                                                  mrc_cuda_loss_grid(g->n_sequences, g->columns),
                                                  32, 0, c->stream, a)));
    }
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_loss_sum<T>), 1, 1, 0, c->stream, a));
}
template <class T>
static mrc_status mrc_cuda_symmetric_kl_bwd_run(mrc_backend *be,
                                                const mrc_symmetric_kl_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_loss<T> a = mrc_cuda_kl_of<T>(g);
    a.dloss = (const float *)g->dloss.data;
    a.dlogits = mrc_cuda_into<T>(g->dlogits);
    a.dother = mrc_cuda_into<T>(g->dother);
    if (!g->n_sequences || !g->columns) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_kl_bwd<T>),
                                        mrc_cuda_loss_grid(g->n_sequences, g->columns), 128, 0,
                                        c->stream, a));
}

//==============================================================================
// The windows of a convolution
//==============================================================================
template <class T> struct mrc_cuda_windows {
    int n_sequences, in, size;
    const int32_t *cu;
    mrc_cuda_matrix<const T> from;
    mrc_cuda_matrix<T> to;
};
template <class T> __global__ void mrc_cuda_unfold_fwd(mrc_cuda_windows<T> a) {
    const int row = (int)blockIdx.x, s = mrc_cuda_sequence_of(a.cu, a.n_sequences, row);
    for (int o = (int)threadIdx.x; o < a.in * a.size; o += (int)blockDim.x) {
        const int from = row + o % a.size - a.size / 2;
        const bool there = from >= a.cu[s] && from < a.cu[s + 1];
        mrc_cuda_put(a.to.at((size_t)row, (size_t)o), there
                     ? mrc_cuda_get(a.from.at((size_t)from, (size_t)(o / a.size))) : 0.0f);
    }
}
template <class T> __global__ void mrc_cuda_unfold_bwd(mrc_cuda_windows<T> a) {
    const int row = (int)blockIdx.x, s = mrc_cuda_sequence_of(a.cu, a.n_sequences, row);
    for (int i = (int)threadIdx.x; i < a.in; i += (int)blockDim.x) {
        float dx = 0;
        for (int k = 0; k < a.size; k++) {
            // forward was: y[to] has x[to + k - half]
            const int to = row - k + a.size / 2;
            if (to < a.cu[s] || to >= a.cu[s + 1]) continue;
            dx += mrc_cuda_get(a.from.at((size_t)to, (size_t)(i * a.size + k)));
        }
        mrc_cuda_give(a.to.at((size_t)row, (size_t)i), dx, a.to.accumulate);
    }
}
template <class T>
static mrc_status mrc_cuda_unfold_fwd_run(mrc_backend *be, const mrc_unfold_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const mrc_cuda_windows<T> a = { (int)g->n_sequences, (int)g->in, (int)g->size,
                                    (const int32_t *)g->cu_seqlens.data,
                                    mrc_cuda_from<T>(g->x), mrc_cuda_into<T>(g->y) };
    if (g->n == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_unfold_fwd<T>), (unsigned)g->n, 128, 0,
                                        c->stream, a));
}
template <class T>
static mrc_status mrc_cuda_unfold_bwd_run(mrc_backend *be, const mrc_unfold_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const mrc_cuda_windows<T> a = { (int)g->n_sequences, (int)g->in, (int)g->size,
                                    (const int32_t *)g->cu_seqlens.data,
                                    mrc_cuda_from<T>(g->dy), mrc_cuda_into<T>(g->dx) };
    if (g->n == 0 || !g->dx.data) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_unfold_bwd<T>), (unsigned)g->n, 128, 0,
                                        c->stream, a));
}

#endif
