// attention.cuh - attention over packed sequences, forward and backward, without a T x T matrix
//
// A block has BQ queries of one head of one sequence and walks over its keys, 32 at a time; 8
// threads share 4 queries, each with 4 consecutive keys, for which one Philox call draws the mask.
// Backward makes the weights again from lse: one kernel with a block per queries gives dq and
// delta_i = sum_j p_ij dp_ij = y_i . dy_i, then one with a block per keys gives dk and dv.  Every
// sum has one owner and one order.
//
// A head of more columns than a kernel's tiles have is cut into slices: a block sums its scores
// over all of them, one after the other, and gives the result's columns of its own slice alone.
//
// Rows of 32 keys stand in shared memory so that what thread x reads at once, rows 4 x + j for one
// j, lies side by side: no two of the 8 threads meet in a bank.
#ifndef MRC_CUDA_ATTENTION_CUH
#define MRC_CUDA_ATTENTION_CUH
#include "elementwise.cuh"

enum { MRC_CUDA_KEYS = 32, MRC_CUDA_WEIGHTS = MRC_CUDA_KEYS + 4 };

template <class T> struct mrc_cuda_attention {
    int      n_sequences, heads, d;
    int      tiles, slices;                     // of the longest sequence, of a head
    float    scale;
    mrc_cuda_mask mask;
    const int32_t *cu, *real, *index;
    mrc_cuda_matrix<const T> q, k, v, out, dy;  // out: forward's y, for backward
    int      vectors;                           // four elements at a time can be loaded
    mrc_cuda_matrix<T> y, dq, dk, dv;           // of a gradient data NULL: not wanted
    size_t   ld_lse;
    float   *lse;
    float   *delta;                             // (A, N)
    size_t   n;
};

// Which slice of which head of which sequence a block has, and where its tile begins.
typedef struct mrc_cuda_span {
    int sequence, head, slice, first, length, keys, begin;
} mrc_cuda_span;
template <class T>
__device__ __forceinline__ mrc_cuda_span mrc_cuda_span_of(const mrc_cuda_attention<T> &a,
                                                          int tile_rows) {
    mrc_cuda_span q;
    const int x = (int)blockIdx.x, heads = x / a.tiles / a.slices;
    q.begin = x % a.tiles * tile_rows;
    q.slice = x / a.tiles % a.slices;
    q.head = heads % a.heads;
    q.sequence = heads / a.heads;
    q.first = a.cu[q.sequence];
    q.length = a.cu[q.sequence + 1] - q.first;
    q.keys = a.real[q.sequence];
    return q;
}

__device__ __forceinline__ int mrc_cuda_key_row(int j) { return j % 4 * 8 + j / 4; }

// Four elements that stand side by side.
__device__ __forceinline__ float4 mrc_cuda_get4(const float *p) { return *(const float4 *)p; }
template <class T> __device__ __forceinline__ float4 mrc_cuda_get4(const T *p) {
    struct four { T e[4]; };
    union { uint2 bits; four v; } u;
    u.bits = *(const uint2 *)p;
    return make_float4((float)u.v.e[0], (float)u.v.e[1], (float)u.v.e[2], (float)u.v.e[3]);
}

// One tile or, with another one b, two of the same shape: rows 0 .. ROWS, D columns, by THREADS
// threads; what is not there is 0.  KEYS: in the order of key rows.  With vectors eight loads of a
// thread are under way before the first is waited for.
template <int ROWS, int D, int THREADS, bool KEYS, class T>
__device__ __forceinline__ void mrc_cuda_tiles(float (*to_a)[D + 4], const T *a, size_t ld_a,
                                               float (*to_b)[D + 4], const T *b, size_t ld_b,
                                               int rows, int d, int vectors) {
    enum { EACH = ROWS * D / 4 / THREADS, STEP = EACH < 4 ? EACH : 4 };
    for (int first = 0; vectors && first < EACH; first += STEP) {
        float4 v[STEP], w[STEP];
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            const int e = (int)threadIdx.x + (first + i) * THREADS;
            const int r = e / (D / 4), c = e % (D / 4) * 4;
            const bool there = r < rows && c < d;
            v[i] = there ? mrc_cuda_get4(a + (size_t)r * ld_a + c) : make_float4(0, 0, 0, 0);
            w[i] = there && b ? mrc_cuda_get4(b + (size_t)r * ld_b + c) : make_float4(0, 0, 0, 0);
        }
#pragma unroll
        for (int i = 0; i < STEP; i++) {
            const int e = (int)threadIdx.x + (first + i) * THREADS;
            const int r = e / (D / 4), c = e % (D / 4) * 4, at = KEYS ? mrc_cuda_key_row(r) : r;
            *(float4 *)&to_a[at][c] = v[i];
            if (b) *(float4 *)&to_b[at][c] = w[i];
        }
    }
    for (int e = (int)threadIdx.x; !vectors && e < ROWS * D; e += THREADS) {
        const int r = e / D, c = e % D, at = KEYS ? mrc_cuda_key_row(r) : r;
        const bool there = r < rows && c < d;
        to_a[at][c] = there ? mrc_cuda_get(a + (size_t)r * ld_a + c) : 0.0f;
        if (b) to_b[at][c] = there ? mrc_cuda_get(b + (size_t)r * ld_b + c) : 0.0f;
    }
}

// s[i][j] += q row 4 y + i times k row 4 x + j.
template <int D>
__device__ __forceinline__ void mrc_cuda_dots(float (&s)[4][4], const float (*q)[D + 4],
                                              const float (*k)[D + 4], int x, int y) {
#pragma unroll 4
    for (int e = 0; e < D; e += 4) {
        float4 a[4], b[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            a[i] = *(const float4 *)&q[4 * y + i][e];
            b[i] = *(const float4 *)&k[8 * i + x][e];
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                s[i][j] += a[i].x * b[j].x;
                s[i][j] += a[i].y * b[j].y;
                s[i][j] += a[i].z * b[j].z;
                s[i][j] += a[i].w * b[j].w;
            }
        }
    }
}

// o[i] += sum over keys of w row 4 y + i times v: columns 4 x + 32 g + 0..3 of group g.
template <int D>
__device__ __forceinline__ void mrc_cuda_weigh(float (&o)[4][D / 8],
                                               const float (*w)[MRC_CUDA_WEIGHTS],
                                               const float (*v)[D + 4], int x, int y) {
#pragma unroll 2
    for (int j = 0; j < MRC_CUDA_KEYS; j++) {
        const float *row = v[mrc_cuda_key_row(j)];
        float p[4];
#pragma unroll
        for (int i = 0; i < 4; i++) p[i] = w[4 * y + i][j];
#pragma unroll
        for (int g = 0; g < D / 32; g++) {
            const float4 f = *(const float4 *)(row + 32 * g + 4 * x);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                o[i][4 * g] += p[i] * f.x;
                o[i][4 * g + 1] += p[i] * f.y;
                o[i][4 * g + 2] += p[i] * f.z;
                o[i][4 * g + 3] += p[i] * f.w;
            }
        }
    }
}

template <int D, int BQ> struct mrc_cuda_fwd_tiles {
    float q[BQ][D + 4], k[MRC_CUDA_KEYS][D + 4], v[MRC_CUDA_KEYS][D + 4];
    float p[BQ][MRC_CUDA_WEIGHTS];
};

// A thread's 4 rows have seen the scores p of 4 more keys each: their weights go to s->p, and what
// was summed before shrinks to the new maximum.
template <class T, int D, class Tiles>
__device__ __forceinline__ void mrc_cuda_soften(const mrc_cuda_attention<T> &a,
                                                const mrc_cuda_span &q, Tiles *s, int k0,
                                                float (&p)[4][4], float (&max)[4], float (&sum)[4],
                                                float (&o)[4][D / 8]) {
    const int x = (int)threadIdx.x % 8, y = (int)threadIdx.x / 8;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float m = -INFINITY, keep[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            p[i][j] = k0 + 4 * x + j < q.keys ? p[i][j] * a.scale : -INFINITY;
            m = fmaxf(m, p[i][j]);
        }
        m = fmaxf(max[i], mrc_cuda_max<8>(m));
        const float shrink = expf(max[i] - m);          // 0 at first
        max[i] = m;
        sum[i] *= shrink;
#pragma unroll
        for (int e = 0; e < D / 8; e++) o[i][e] *= shrink;
        mrc_cuda_kept(a.mask, (uint32_t)q.head, (uint32_t)a.index[q.sequence],
                      (uint32_t)(q.begin + 4 * y + i), (uint32_t)(k0 / 4 + x), keep);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float w = expf(p[i][j] - m);
            sum[i] += w;
            s->p[4 * y + i][4 * x + j] = w * keep[j];
        }
    }
}

// The column of its head that element e of a thread's row of a result is, in tiles of D columns.
template <int D> __device__ __forceinline__ int mrc_cuda_column(const mrc_cuda_span &q, int e) {
    return q.slice * D + e / 4 * 32 + 4 * ((int)threadIdx.x % 8) + e % 4;
}

template <class T, int D, int BQ>
__global__ void __launch_bounds__(2 * BQ, 1) mrc_cuda_attention_fwd(mrc_cuda_attention<T> a) {
    typedef mrc_cuda_fwd_tiles<D, BQ> tiles;
    MRC_DYN_SMEM(tiles, s);
    const mrc_cuda_span q = mrc_cuda_span_of(a, BQ);
    if (q.begin >= q.length) return;
    const int x = (int)threadIdx.x % 8, y = (int)threadIdx.x / 8;
    const size_t first = (size_t)q.first, head = (size_t)q.head * a.d;
    float max[4], sum[4] = {}, o[4][D / 8] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) max[i] = -INFINITY;
    for (int k0 = 0; k0 < q.keys; k0 += MRC_CUDA_KEYS) {
        const T *keys = a.k.at(first + (size_t)k0, head);
        const T *values = a.v.at(first + (size_t)k0, head);
        float p[4][4] = {};
        for (int c = 0; c < a.slices; c++) {
            __syncthreads();
            if (k0 == 0 || a.slices > 1) {
                mrc_cuda_tiles<BQ, D, 2 * BQ, false, T>(
                    s->q, a.q.at(first + (size_t)q.begin, head) + c * D, a.q.ld, NULL, NULL, 0,
                    q.length - q.begin, a.d - c * D, a.vectors);
            }
            mrc_cuda_tiles<MRC_CUDA_KEYS, D, 2 * BQ, true, T>(
                s->k, keys + c * D, a.k.ld, s->v, c == q.slice ? values + c * D : NULL, a.v.ld,
                q.keys - k0, a.d - c * D, a.vectors);
            __syncthreads();
            mrc_cuda_dots<D>(p, s->q, s->k, x, y);
        }
        mrc_cuda_soften<T, D>(a, q, s, k0, p, max, sum, o);
        __syncwarp();                   // the 8 threads of these rows are in one warp
        mrc_cuda_weigh<D>(o, s->p, s->v, x, y);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = q.begin + 4 * y + i;
        const float all = mrc_cuda_sum<8>(sum[i]), share = q.keys ? 1 / all : 0;
        if (row >= q.length) continue;
        const size_t at = (size_t)(q.first + row);
        if (x == 0 && q.slice == 0 && a.lse) {
            a.lse[q.head * a.ld_lse + at] = q.keys ? max[i] + logf(all) : 0;
        }
#pragma unroll
        for (int e = 0; e < D / 8; e++) {
            const int column = mrc_cuda_column<D>(q, e);
            if (column >= a.d) continue;
            mrc_cuda_put(a.y.at(at, head + (size_t)column), o[i][e] * share);
        }
    }
}

template <int D, int BQ> struct mrc_cuda_bwd_tiles {
    float q[BQ][D + 4], dy[BQ][D + 4], k[MRC_CUDA_KEYS][D + 4], v[MRC_CUDA_KEYS][D + 4];
    float p[BQ][MRC_CUDA_WEIGHTS], ds[BQ][MRC_CUDA_WEIGHTS];
};

// p_ij = q_i k_j and dp_ij = dy_i v_j of 4 queries and 4 keys.  Leaves the columns of the block's
// own slice in the tiles.  queries, keys: whether they are other ones than in the call before.
template <int D, int BQ, class T, class Tiles>
__device__ __forceinline__ void mrc_cuda_scores_again(const mrc_cuda_attention<T> &a,
                                                      const mrc_cuda_span &q, Tiles *s, int q0,
                                                      int k0, bool queries, bool keys,
                                                      float (&p)[4][4], float (&dp)[4][4]) {
    const int x = (int)threadIdx.x % 8, y = (int)threadIdx.x / 8;
    const size_t first = (size_t)q.first, head = (size_t)q.head * a.d;
    for (int c = 1; c <= a.slices; c++) {
        const int column = (q.slice + c) % a.slices * D, d = a.d - column;
        const size_t at = head + (size_t)column;
        __syncthreads();
        if (queries || a.slices > 1) {
            mrc_cuda_tiles<BQ, D, 2 * BQ, false, T>(
                s->q, a.q.at(first + (size_t)q0, at), a.q.ld, s->dy,
                a.dy.at(first + (size_t)q0, at), a.dy.ld, q.length - q0, d, a.vectors);
        }
        if (keys || a.slices > 1) {
            mrc_cuda_tiles<MRC_CUDA_KEYS, D, 2 * BQ, true, T>(
                s->k, a.k.at(first + (size_t)k0, at), a.k.ld, s->v,
                a.v.at(first + (size_t)k0, at), a.v.ld, q.keys - k0, d, a.vectors);
        }
        __syncthreads();
        mrc_cuda_dots<D>(p, s->q, s->k, x, y);
        mrc_cuda_dots<D>(dp, s->dy, s->v, x, y);
    }
}

// From scores of a row: p_ij = exp(s_ij - lse_i), and dp_ij times m_ij; masked ones are 0.
template <class T>
__device__ __forceinline__ void mrc_cuda_row_again(const mrc_cuda_attention<T> &a,
                                                   const mrc_cuda_span &q, int row, int k0,
                                                   float lse, float (&p)[4], float (&dp)[4],
                                                   float (&keep)[4]) {
    const int x = (int)threadIdx.x % 8;
    mrc_cuda_kept(a.mask, (uint32_t)q.head, (uint32_t)a.index[q.sequence], (uint32_t)row,
                  (uint32_t)(k0 / 4 + x), keep);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const bool there = row < q.length && k0 + 4 * x + j < q.keys;
        p[j] = there ? expf(p[j] * a.scale - lse) : 0;
        dp[j] *= keep[j];
    }
}

// Of a row of the block's head; 0 past the end.
__device__ __forceinline__ float mrc_cuda_of_row(const float *from, size_t ld,
                                                 const mrc_cuda_span &q, int row) {
    return row < q.length ? from[(size_t)q.head * ld + (size_t)(q.first + row)] : 0;
}

// y_i . dy_i of a row of the block's head, by the 8 threads that share it; 0 past the end.
template <class T>
__device__ __forceinline__ float mrc_cuda_delta(const mrc_cuda_attention<T> &a,
                                                const mrc_cuda_span &q, int row) {
    const size_t at = (size_t)(q.first + row), head = (size_t)q.head * a.d;
    const int x = (int)threadIdx.x % 8;
    float sum = 0;
    for (int c = 4 * x; row < q.length && c < a.d; c += 32) {
        const T *y = a.out.at(at, head + (size_t)c), *dy = a.dy.at(at, head + (size_t)c);
        if (a.vectors) {
            const float4 u = mrc_cuda_get4(y), v = mrc_cuda_get4(dy);
            sum += u.x * v.x;
            sum += u.y * v.y;
            sum += u.z * v.z;
            sum += u.w * v.w;
            continue;
        }
        for (int e = 0; e < 4 && c + e < a.d; e++) {
            sum += mrc_cuda_get(y + e) * mrc_cuda_get(dy + e);
        }
    }
    return mrc_cuda_sum<8>(sum);
}

template <class T, int D, int BQ>
__global__ void __launch_bounds__(2 * BQ, 1) mrc_cuda_attention_dq(mrc_cuda_attention<T> a) {
    typedef mrc_cuda_bwd_tiles<D, BQ> tiles;
    MRC_DYN_SMEM(tiles, s);
    const mrc_cuda_span q = mrc_cuda_span_of(a, BQ);
    if (q.begin >= q.length) return;
    const int x = (int)threadIdx.x % 8, y = (int)threadIdx.x / 8;
    float lse[4], delta[4], dq[4][D / 8] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = q.begin + 4 * y + i;
        lse[i] = mrc_cuda_of_row(a.lse, a.ld_lse, q, row);
        delta[i] = mrc_cuda_delta(a, q, row);
#ifdef MRC_CUDA_BUG_DELTA               // planted: what the tests must catch
        delta[i] = 0;
#endif
        if (x == 0 && q.slice == 0 && row < q.length) {
            a.delta[(size_t)q.head * a.n + (size_t)(q.first + row)] = delta[i];
        }
    }
    for (int k0 = 0; k0 < q.keys; k0 += MRC_CUDA_KEYS) {
        float p[4][4] = {}, dp[4][4] = {}, keep[4];
        mrc_cuda_scores_again<D, BQ>(a, q, s, q.begin, k0, k0 == 0, true, p, dp);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            mrc_cuda_row_again(a, q, q.begin + 4 * y + i, k0, lse[i], p[i], dp[i], keep);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                s->ds[4 * y + i][4 * x + j] = p[i][j] * (dp[i][j] - delta[i]) * a.scale;
            }
        }
        __syncwarp();
        mrc_cuda_weigh<D>(dq, s->ds, s->k, x, y);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = q.begin + 4 * y + i;
        T *to = a.dq.at((size_t)(q.first + row), (size_t)q.head * a.d);
#pragma unroll
        for (int e = 0; e < D / 8; e++) {
            const int column = mrc_cuda_column<D>(q, e);
            if (row < q.length && column < a.d && a.dq.data) {
                mrc_cuda_give(to + column, dq[i][e], a.dq.accumulate);
            }
        }
    }
}

// sum[j][e] += weights' column 4 x + j times rows of from, columns E y + e.
template <int D, int BQ>
__device__ __forceinline__ void mrc_cuda_gather(float (&sum)[4][4 * D / BQ],
                                                const float (*w)[MRC_CUDA_WEIGHTS],
                                                const float (*from)[D + 4], int x, int y) {
    enum { E = 4 * D / BQ };
#pragma unroll 2
    for (int i = 0; i < BQ; i++) {
        const float4 p = *(const float4 *)&w[i][4 * x];
#pragma unroll
        for (int e = 0; e < E; e += 4) {
            const float4 f = *(const float4 *)&from[i][E * y + e];
            const float v[4] = { f.x, f.y, f.z, f.w };
#pragma unroll
            for (int c = 0; c < 4; c++) {
                sum[0][e + c] += p.x * v[c];
                sum[1][e + c] += p.y * v[c];
                sum[2][e + c] += p.z * v[c];
                sum[3][e + c] += p.w * v[c];
            }
        }
    }
}

template <class T, int D, int BQ>
__global__ void __launch_bounds__(2 * BQ, 1) mrc_cuda_attention_dkv(mrc_cuda_attention<T> a) {
    typedef mrc_cuda_bwd_tiles<D, BQ> tiles;
    enum { E = 4 * D / BQ };
    MRC_DYN_SMEM(tiles, s);
    const mrc_cuda_span q = mrc_cuda_span_of(a, MRC_CUDA_KEYS);
    const int k0 = q.begin;
    if (k0 >= q.length) return;
    const int x = (int)threadIdx.x % 8, y = (int)threadIdx.x / 8;
    float dk[4][E] = {}, dv[4][E] = {};
    for (int q0 = 0; q0 < q.length && k0 < q.keys; q0 += BQ) {
        float p[4][4] = {}, dp[4][4] = {}, keep[4];
        mrc_cuda_scores_again<D, BQ>(a, q, s, q0, k0, true, q0 == 0, p, dp);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = q0 + 4 * y + i;
            const float delta = mrc_cuda_of_row(a.delta, a.n, q, row);
            mrc_cuda_row_again(a, q, row, k0, mrc_cuda_of_row(a.lse, a.ld_lse, q, row), p[i],
                               dp[i], keep);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                s->p[4 * y + i][4 * x + j] = p[i][j] * keep[j];
                s->ds[4 * y + i][4 * x + j] = p[i][j] * (dp[i][j] - delta) * a.scale;
            }
        }
        __syncthreads();
        mrc_cuda_gather<D, BQ>(dv, s->p, s->dy, x, y);
        mrc_cuda_gather<D, BQ>(dk, s->ds, s->q, x, y);
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int key = k0 + 4 * x + j;
        const size_t row = (size_t)(q.first + key), head = (size_t)q.head * a.d;
#pragma unroll
        for (int e = 0; e < E; e++) {
            const int column = q.slice * D + E * y + e;
            if (key >= q.length || column >= a.d) continue;
            if (a.dk.data) {
                mrc_cuda_give(a.dk.at(row, head + (size_t)column), dk[j][e], a.dk.accumulate);
            }
            if (a.dv.data) {
                mrc_cuda_give(a.dv.at(row, head + (size_t)column), dv[j][e], a.dv.accumulate);
            }
        }
    }
}

//==============================================================================
// Launches
//==============================================================================
// A grid of one dimension: tiles, then slices of columns, then heads, then sequences.
template <class T>
static mrc_status mrc_cuda_attention_grid(mrc_cuda_attention<T> *a, size_t max_length, size_t rows,
                                          size_t columns, unsigned *grid) {
    const size_t tiles = (max_length + rows - 1) / rows;
    a->slices = (int)(((size_t)a->d + columns - 1) / columns);
    const size_t pairs = (size_t)a->n_sequences * (size_t)a->heads * (size_t)a->slices;
    if (pairs && tiles > INT32_MAX / pairs) return MRC_ERR_UNSUPPORTED;
    a->tiles = (int)tiles;
    *grid = (unsigned)(tiles * pairs);
    return MRC_OK;
}

template <class T, int D, int BQ>
static mrc_status mrc_cuda_attend(mrc_cuda *c, mrc_cuda_attention<T> a, size_t max_length) {
    const size_t shared = sizeof(mrc_cuda_fwd_tiles<D, BQ>);
    unsigned grid;
    MRC_CUDA_TRY(mrc_cuda_attention_grid(&a, max_length, BQ, D, &grid));
    if (grid == 0) return MRC_OK;
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_fwd<T, D, BQ>, shared));
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_fwd<T, D, BQ>), grid, 2 * BQ, shared,
                                        c->stream, a));
}

template <class T, int D, int BQ>
static mrc_status mrc_cuda_attend_bwd(mrc_cuda *c, mrc_cuda_attention<T> a, size_t max_length) {
    const size_t shared = sizeof(mrc_cuda_bwd_tiles<D, BQ>);
    unsigned grid;
    MRC_CUDA_TRY(mrc_cuda_attention_grid(&a, max_length, BQ, D, &grid));
    if (grid == 0) return MRC_OK;
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_dq<T, D, BQ>, shared));
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_dkv<T, D, BQ>, shared));
    MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_dq<T, D, BQ>), grid, 2 * BQ,
                                              shared, c->stream, a)));
    MRC_CUDA_TRY(mrc_cuda_attention_grid(&a, max_length, MRC_CUDA_KEYS, D, &grid));
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_dkv<T, D, BQ>), grid, 2 * BQ, shared,
                                        c->stream, a));
}

// Whether four elements of a row can be loaded at once, from every fourth on.
template <class T> static bool mrc_cuda_by_four(const mrc_cuda_matrix<const T> &m) {
    return (uintptr_t)m.data % (4 * sizeof(T)) == 0 && m.ld % 4 == 0;
}

// What forward and backward have in common; their args have the same names for it.
template <class T, class Args> static mrc_cuda_attention<T> mrc_cuda_attention_of(const Args *g) {
    mrc_cuda_attention<T> a = {};
    a.n_sequences = (int)g->n_sequences;
    a.heads = (int)g->heads;
    a.d = (int)g->d;
    a.scale = (float)g->scale;
    a.mask = mrc_cuda_mask_of(&g->mask);
    a.cu = (const int32_t *)g->cu_seqlens.data;
    a.real = (const int32_t *)g->real_len.data;
    a.index = (const int32_t *)g->sequence_index.data;
    a.q = mrc_cuda_from<T>(g->q);
    a.k = mrc_cuda_from<T>(g->k);
    a.v = mrc_cuda_from<T>(g->v);
    a.lse = (float *)g->lse.data;
    a.ld_lse = g->lse.ld;
    a.n = g->n;
    a.vectors = g->d % 4 == 0 && mrc_cuda_by_four(a.q) && mrc_cuda_by_four(a.k)
             && mrc_cuda_by_four(a.v);
    return a;
}

template <class T>
static mrc_status mrc_cuda_attention_fwd_run(mrc_backend *be, const mrc_attention_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_attention<T> a = mrc_cuda_attention_of<T>(g);
    a.y = mrc_cuda_into<T>(g->y);
    if (g->extra.kind || g->extra.window) return MRC_ERR_UNSUPPORTED;
    if (g->n == 0) return MRC_OK;
    if (g->d <= 32) return mrc_cuda_attend<T, 32, 32>(c, a, g->max_length);
    if (g->d <= 64) return mrc_cuda_attend<T, 64, 64>(c, a, g->max_length);
    return mrc_cuda_attend<T, 128, 32>(c, a, g->max_length);
}

static size_t mrc_cuda_attention_bwd_scratch(mrc_backend *be, const mrc_attention_bwd_args *g) {
    (void)be;
    return g->heads * g->n * sizeof(float);     // delta
}

template <class T>
static mrc_status mrc_cuda_attention_bwd_run(mrc_backend *be, const mrc_attention_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_attention<T> a = mrc_cuda_attention_of<T>(g);
    a.out = mrc_cuda_from<T>(g->y);
    a.dy = mrc_cuda_from<T>(g->dy);
    a.vectors = a.vectors && mrc_cuda_by_four(a.out) && mrc_cuda_by_four(a.dy);
    a.dq = mrc_cuda_into<T>(g->dq);
    a.dk = mrc_cuda_into<T>(g->dk);
    a.dv = mrc_cuda_into<T>(g->dv);
    a.delta = (float *)g->workspace;
    if (g->extra.kind || g->extra.window) return MRC_ERR_UNSUPPORTED;
    if (g->n == 0 || (!g->dq.data && !g->dk.data && !g->dv.data)) return MRC_OK;
    if (g->d <= 32) return mrc_cuda_attend_bwd<T, 32, 32>(c, a, g->max_length);
    if (g->d <= 64) return mrc_cuda_attend_bwd<T, 64, 64>(c, a, g->max_length);
    return mrc_cuda_attend_bwd<T, 128, 32>(c, a, g->max_length);
}

#endif
