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
// EXTRA: a window, or terms by the distance i - j of query and key (mrc_attention_extra).  Tiles
// that no row's window reaches are left out.  The rows of a table that a tile of queries and one of
// keys can meet are a band, BQ + 31 distances, which stands in shared memory beside the tiles.
//
// The largest form wants 95 KiB of shared memory.  A device that gives a block less (compute
// capability 7.5: 64 KiB) gets tiles of 32 queries and 64 columns, in slices.
//
// Rows of 32 keys stand in shared memory so that what thread x reads at once, rows 4 x + j for one
// j, lies side by side: no two of the 8 threads meet in a bank.
#ifndef MRC_CUDA_ATTENTION_CUH
#define MRC_CUDA_ATTENTION_CUH
#include "attention_tc.cuh"
#include "attention_wide.cuh"

template <int D, int BQ> struct mrc_cuda_fwd_tiles {
    float q[BQ][D + 4], k[MRC_CUDA_KEYS][D + 4], v[MRC_CUDA_KEYS][D + 4];
    float p[BQ][MRC_CUDA_WEIGHTS];
};

// A thread's 4 rows have seen the scores p of 4 more keys each: their weights go to s->p, and what
// was summed before shrinks to the new maximum.
template <class T, int D, bool EXTRA, class Tiles>
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
            p[i][j] = mrc_cuda_score<EXTRA>(a, q, q.begin + 4 * y + i, k0 + 4 * x + j, p[i][j]);
            m = fmaxf(m, p[i][j]);
        }
        m = fmaxf(max[i], mrc_cuda_max<8>(m));
        const float base = EXTRA && m == -INFINITY ? 0 : m;     // no key yet within the window
        const float shrink = expf(max[i] - base);               // 0 at first
        max[i] = m;
        sum[i] *= shrink;
#pragma unroll
        for (int e = 0; e < D / 8; e++) o[i][e] *= shrink;
        mrc_cuda_kept(a.mask, (uint32_t)q.head, (uint32_t)a.index[q.sequence],
                      (uint32_t)(q.begin + 4 * y + i), (uint32_t)(k0 / 4 + x), keep);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float w = expf(p[i][j] - base);
            sum[i] += w;
            p[i][j] = w * keep[j];
        }
        mrc_cuda_put4(&s->p[4 * y + i][4 * x], p[i]);
    }
}

// The column of its head that element e of a thread's row of a result is, in tiles of D columns.
template <int D> __device__ __forceinline__ int mrc_cuda_column(const mrc_cuda_span &q, int e) {
    return q.slice * D + e / 4 * 32 + 4 * ((int)threadIdx.x % 8) + e % 4;
}

template <class T, int D, int BQ, bool EXTRA>
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
    const int near = mrc_cuda_near<EXTRA>(a, q.begin, MRC_CUDA_KEYS);
    const int end = mrc_cuda_far<EXTRA>(a, q.begin, BQ, q.keys);
    for (int k0 = near; k0 < end; k0 += MRC_CUDA_KEYS) {
        const T *keys = a.k.at(first + (size_t)k0, head);
        const T *values = a.v.at(first + (size_t)k0, head);
        float p[4][4] = {};
        for (int c = 0; c < a.slices; c++) {
            __syncthreads();
            if (k0 == near || a.slices > 1) {
                mrc_cuda_tiles<BQ, D, 2 * BQ, false, T>(
                    s->q, a.q.at(first + (size_t)q.begin, head) + c * D, a.q.ld, NULL, NULL, 0,
                    q.length - q.begin, a.d - c * D, a.vectors);
            }
            mrc_cuda_tiles<MRC_CUDA_KEYS, D, 2 * BQ, true, T>(
                s->k, keys + c * D, a.k.ld, s->v, c == q.slice ? values + c * D : NULL, a.v.ld,
                q.keys - k0, a.d - c * D, a.vectors);
            __syncthreads();
            mrc_cuda_dots<D>(p, s->q, s->k, x, y);
            if (EXTRA && a.kind == MRC_ATTENTION_DISENTANGLED) {
                mrc_cuda_bands<D, BQ, false>(a, q, s, c * D, q.begin, k0, p);
            }
        }
        mrc_cuda_soften<T, D, EXTRA>(a, q, s, k0, p, max, sum, o);
        __syncwarp();                   // the 8 threads of these rows are in one warp
        mrc_cuda_weigh<D>(o, s->p, s->v, x, y);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = q.begin + 4 * y + i;
        const float all = mrc_cuda_sum<8>(sum[i]), share = all > 0 ? 1 / all : 0;
        if (row >= q.length) continue;
        const size_t at = (size_t)(q.first + row);
        if (x == 0 && q.slice == 0 && a.lse) {
            a.lse[q.head * a.ld_lse + at] = all > 0 ? max[i] + logf(all) : 0;
        }
#pragma unroll
        for (int e = 0; e < D / 8; e += 4) {
            const float v[4] = { o[i][e] * share, o[i][e + 1] * share, o[i][e + 2] * share,
                                 o[i][e + 3] * share };
            const int column = mrc_cuda_column<D>(q, e);
            if (column < a.d) mrc_cuda_store4(a.y.at(at, head), column, a.d, a.vectors, 0, v);
        }
    }
}

template <int D, int BQ> struct mrc_cuda_bwd_tiles {
    float q[BQ][D + 4], dy[BQ][D + 4], k[MRC_CUDA_KEYS][D + 4], v[MRC_CUDA_KEYS][D + 4];
    float p[BQ][MRC_CUDA_WEIGHTS], ds[BQ][MRC_CUDA_WEIGHTS];
};

// p_ij = q_i k_j and dp_ij = dy_i v_j of 4 queries and 4 keys.  Leaves the columns of the block's
// own slice in the tiles.  queries, keys: whether they are other ones than in the call before.
template <int D, int BQ, bool EXTRA, bool QUERY_LAST, class T, class Tiles>
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
        if (EXTRA && a.kind == MRC_ATTENTION_DISENTANGLED) {
            mrc_cuda_bands<D, BQ, QUERY_LAST>(a, q, s, column, q0, k0, p);
        }
    }
}

// From scores of a row: p_ij = exp(s_ij - lse_i), and dp_ij times m_ij; masked ones are 0.
template <bool EXTRA, class T>
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
        const float score = mrc_cuda_score<EXTRA>(a, q, row, k0 + 4 * x + j, p[j]);
        p[j] = there ? expf(score - lse) : 0;
        dp[j] *= keep[j];
    }
}

template <class T, int D, int BQ, bool EXTRA>
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
        if (MRC_BUG(DELTA)) delta[i] = 0;
        if (x == 0 && q.slice == 0 && row < q.length) {
            a.delta[(size_t)q.head * a.n + (size_t)(q.first + row)] = delta[i];
        }
    }
    const int near = mrc_cuda_near<EXTRA>(a, q.begin, MRC_CUDA_KEYS);
    const int end = mrc_cuda_far<EXTRA>(a, q.begin, BQ, q.keys);
    for (int k0 = near; k0 < end; k0 += MRC_CUDA_KEYS) {
        float p[4][4] = {}, dp[4][4] = {}, keep[4];
        mrc_cuda_scores_again<D, BQ, EXTRA, false>(a, q, s, q.begin, k0, k0 == near, true, p, dp);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            mrc_cuda_row_again<EXTRA>(a, q, q.begin + 4 * y + i, k0, lse[i], p[i], dp[i], keep);
#pragma unroll
            for (int j = 0; j < 4; j++) p[i][j] = p[i][j] * (dp[i][j] - delta[i]) * a.scale;
            mrc_cuda_put4(&s->ds[4 * y + i][4 * x], p[i]);
        }
        __syncwarp();
        mrc_cuda_weigh<D>(dq, s->ds, s->k, x, y);
        if (EXTRA && a.pos_key.data && !MRC_BUG(BAND_DQ)) {
            mrc_cuda_band_weigh<D, BQ>(dq, s->ds, (const float (*)[D + 4])(s + 1), x, y);
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = q.begin + 4 * y + i;
        T *to = a.dq.at((size_t)(q.first + row), (size_t)q.head * a.d);
#pragma unroll
        for (int e = 0; e < D / 8; e += 4) {
            const float v[4] = { dq[i][e], dq[i][e + 1], dq[i][e + 2], dq[i][e + 3] };
            const int column = mrc_cuda_column<D>(q, e);
            if (row < q.length && column < a.d && a.dq.data) {
                mrc_cuda_store4(to, column, a.d, a.vectors, a.dq.accumulate, v);
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

// As mrc_cuda_gather, with the band's row of query and key.
template <int D, int BQ>
__device__ __forceinline__ void mrc_cuda_band_gather(float (&sum)[4][4 * D / BQ],
                                                     const float (*w)[MRC_CUDA_WEIGHTS],
                                                     const float (*band)[D + 4], int x, int y) {
    enum { E = 4 * D / BQ };
#pragma unroll 2
    for (int i = 0; i < BQ; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float p = w[i][4 * x + j];
            const float *row = band[mrc_cuda_band_row<BQ>(i - 4 * x - j + MRC_CUDA_KEYS - 1)];
#pragma unroll
            for (int e = 0; e < E; e += 4) {
                const float4 f = *(const float4 *)(row + E * y + e);
                sum[j][e] += p * f.x;
                sum[j][e + 1] += p * f.y;
                sum[j][e + 2] += p * f.z;
                sum[j][e + 3] += p * f.w;
            }
        }
    }
}

// From scores of a tile of queries and one of keys, once delta stands: s->p = m_ij p_ij, and
// s->ds = scale p_ij (dp_ij - delta_i).
template <bool EXTRA, class T, class Tiles>
__device__ __forceinline__ void mrc_cuda_weights_again(const mrc_cuda_attention<T> &a,
                                                       const mrc_cuda_span &q, Tiles *s, int q0,
                                                       int k0, float scale, float (&p)[4][4],
                                                       float (&dp)[4][4]) {
    const int x = (int)threadIdx.x % 8, y = (int)threadIdx.x / 8;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = q0 + 4 * y + i;
        const float delta = mrc_cuda_of_row(a.delta, a.n, q, row);
        float keep[4];
        mrc_cuda_row_again<EXTRA>(a, q, row, k0, mrc_cuda_of_row(a.lse, a.ld_lse, q, row), p[i],
                                  dp[i], keep);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            dp[i][j] = p[i][j] * (dp[i][j] - delta) * scale;
            p[i][j] *= keep[j];
        }
        mrc_cuda_put4(&s->p[4 * y + i][4 * x], p[i]);
        mrc_cuda_put4(&s->ds[4 * y + i][4 * x], dp[i]);
    }
}

template <class T, int D, int BQ, bool EXTRA>
__global__ void __launch_bounds__(2 * BQ, 1) mrc_cuda_attention_dkv(mrc_cuda_attention<T> a) {
    typedef mrc_cuda_bwd_tiles<D, BQ> tiles;
    enum { E = 4 * D / BQ };
    MRC_DYN_SMEM(tiles, s);
    const mrc_cuda_span q = mrc_cuda_span_of(a, MRC_CUDA_KEYS);
    const int k0 = q.begin;
    if (k0 >= q.length) return;
    const int x = (int)threadIdx.x % 8, y = (int)threadIdx.x / 8;
    float dk[4][E] = {}, dv[4][E] = {};
    const int near = mrc_cuda_near<EXTRA>(a, k0, BQ);
    const int end = mrc_cuda_far<EXTRA>(a, k0, MRC_CUDA_KEYS, q.length);
    for (int q0 = near; q0 < end && k0 < q.keys; q0 += BQ) {
        float p[4][4] = {}, dp[4][4] = {};
        mrc_cuda_scores_again<D, BQ, EXTRA, true>(a, q, s, q0, k0, true, q0 == near, p, dp);
        mrc_cuda_weights_again<EXTRA>(a, q, s, q0, k0, a.scale, p, dp);
        __syncthreads();
        mrc_cuda_gather<D, BQ>(dv, s->p, s->dy, x, y);
        mrc_cuda_gather<D, BQ>(dk, s->ds, s->q, x, y);
        if (EXTRA && a.pos_query.data && !MRC_BUG(BAND_DKV)) {
            mrc_cuda_band_gather<D, BQ>(dk, s->ds, (const float (*)[D + 4])(s + 1), x, y);
        }
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int key = k0 + 4 * x + j;
        const size_t row = (size_t)(q.first + key), head = (size_t)q.head * a.d;
#pragma unroll
        for (int e = 0; e < E; e += 4) {
            const float k[4] = { dk[j][e], dk[j][e + 1], dk[j][e + 2], dk[j][e + 3] };
            const float v[4] = { dv[j][e], dv[j][e + 1], dv[j][e + 2], dv[j][e + 3] };
            const int column = q.slice * D + E * y + e;
            if (key >= q.length || column >= a.d) continue;
            if (a.dk.data) {
                mrc_cuda_store4(a.dk.at(row, head), column, a.d, a.vectors, a.dk.accumulate, k);
            }
            if (a.dv.data) {
                mrc_cuda_store4(a.dv.at(row, head), column, a.d, a.vectors, a.dv.accumulate, v);
            }
        }
    }
}

//==============================================================================
// Gradients of the tables: by distance first, then by the tables' rows
//==============================================================================
// A block has 32 distances of a head and walks over all tiles of all sequences that have them, in
// their order; a thread has a distance and 16 columns.  parts: (2, A, distances, D) of pos_key and
// pos_query; of a bias (A, distances).
template <class T, int D, int BQ>
__global__ void __launch_bounds__(2 * BQ, 1) mrc_cuda_attention_tables(mrc_cuda_attention<T> a) {
    typedef mrc_cuda_bwd_tiles<D, BQ> tiles;
    enum { E = 16 * D / BQ };
    MRC_DYN_SMEM(tiles, s);
    const int groups = a.distances / 32;
    const int at = (int)blockIdx.x % groups * 32 + (int)threadIdx.x % 32;
    const int apart = at - a.max_length + 1, least = apart - (int)threadIdx.x % 32;
    const int column = (int)threadIdx.x / 32 * E;
    mrc_cuda_span q = {};
    q.slice = (int)blockIdx.x / groups % a.slices;
    q.head = (int)blockIdx.x / groups / a.slices;
    float by_query[E] = {}, by_key[E] = {}, bias = 0;
    for (q.sequence = 0; q.sequence < a.n_sequences; q.sequence++) {
        q.first = a.cu[q.sequence];
        q.length = a.cu[q.sequence + 1] - q.first;
        q.keys = a.real[q.sequence];
        for (int q0 = 0; q0 < q.length; q0 += BQ) {
            const int from = q0 - least - 31, to = q0 + BQ - least;     // these keys
            const int end = to < q.keys ? to : q.keys;
            for (int k0 = from > 0 ? from / 32 * 32 : 0; k0 < end; k0 += MRC_CUDA_KEYS) {
                float p[4][4] = {}, dp[4][4] = {};
                mrc_cuda_scores_again<D, BQ, true, true>(a, q, s, q0, k0, true, true, p, dp);
                mrc_cuda_weights_again<true>(a, q, s, q0, k0, 1, p, dp);
                if (!MRC_BUG(TABLES)) __syncthreads();
                for (int i = 0; i < BQ; i++) {
                    const int j = q0 + i - apart - k0;
                    if (j < 0 || j >= MRC_CUDA_KEYS) continue;
                    const float w = s->ds[i][j], *k = s->k[mrc_cuda_key_row(j)] + column;
                    bias += w;
#pragma unroll
                    for (int e = 0; e < E; e++) {
                        by_query[e] += w * s->q[i][column + e];
                        by_key[e] += w * k[e];
                    }
                }
            }
        }
    }
    if (a.kind == MRC_ATTENTION_BIAS) {
        if (column == 0 && q.slice == 0) a.parts[q.head * a.distances + at] = bias;
        return;
    }
    const size_t one = (size_t)(q.head * a.distances + at) * (size_t)a.d;
    const size_t half = (size_t)a.heads * (size_t)a.distances * (size_t)a.d;
    const int four = a.d % 4 == 0 && (uintptr_t)a.parts % 16 == 0;
#pragma unroll
    for (int e = 0; e < E; e += 4) {
        const int c = q.slice * D + column + e;
        float u[4], v[4];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            u[k] = by_query[e + k] * a.scale;
            v[k] = by_key[e + k] * a.scale;
        }
        if (c >= a.d) continue;
        mrc_cuda_store4(a.parts + one, c, a.d, four, 0, u);
        mrc_cuda_store4(a.parts + half + one, c, a.d, four, 0, v);
    }
}

// A block has a table's row and a head, a thread columns of it: distances are added in their order.
template <class G>
__global__ void mrc_cuda_attention_by_row(const float *parts, int distances, int max_length,
                                          const int32_t *relative, int d,
                                          mrc_cuda_matrix<G> to) {
    const int t = (int)blockIdx.x, head = (int)blockIdx.y;
    for (int c = (int)threadIdx.x; c < d; c += (int)blockDim.x) {
        float sum = 0;
        for (int at = 0; at < 2 * max_length - 1 - MRC_BUG(TABLES_ROW); at++) {
            if (relative[at] != t) continue;
            sum += parts[(size_t)(head * distances + at) * (size_t)d + (size_t)c];
        }
        mrc_cuda_give(to.at((size_t)t, (size_t)head * d + (size_t)c), sum, to.accumulate);
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

// The shared memory of a block: the tiles, and a band where there are terms that need one.
template <class Tiles, int D, int BQ> struct mrc_cuda_room {
    enum { BAND = (BQ + MRC_CUDA_KEYS) * (D + 4) * sizeof(float) };
    static size_t bytes(int kind) {
        return sizeof(Tiles) + (kind == MRC_ATTENTION_DISENTANGLED ? (size_t)BAND : 0);
    }
};
template <int D, int BQ>
struct mrc_cuda_fwd_room : mrc_cuda_room<mrc_cuda_fwd_tiles<D, BQ>, D, BQ> {};
template <int D, int BQ>
struct mrc_cuda_bwd_room : mrc_cuda_room<mrc_cuda_bwd_tiles<D, BQ>, D, BQ> {};
static_assert(sizeof(mrc_cuda_bwd_tiles<64, 32>) + mrc_cuda_bwd_room<64, 32>::BAND <= 64 << 10,
              "the smallest tiles must fit every device");

template <class T, int D, int BQ, bool EXTRA>
static mrc_status mrc_cuda_attend(mrc_cuda *c, mrc_cuda_attention<T> a, size_t max_length) {
    const size_t shared = mrc_cuda_fwd_room<D, BQ>::bytes(a.kind);
    unsigned grid;
    MRC_CUDA_TRY(mrc_cuda_attention_grid(&a, max_length, BQ, D, &grid));
    if (grid == 0) return MRC_OK;
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_fwd<T, D, BQ, EXTRA>, shared));
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_fwd<T, D, BQ, EXTRA>), grid, 2 * BQ,
                                        shared, c->stream, a));
}

// On tensor cores: see attention_tc.cuh.
template <class T, int ARCH>
static mrc_status mrc_cuda_attend_tc(mrc_cuda *c, mrc_cuda_attention<T> a, size_t max_length,
                                     bool backward) {
    const size_t shared = backward ? sizeof(tca_bwd_tiles<ARCH>) : sizeof(tca_fwd_tiles<ARCH>);
    cudaStream_t stream = c->stream;
    unsigned grid;
    MRC_CUDA_TRY(mrc_cuda_attention_grid(&a, max_length, TCA_ROWS, TCA_D, &grid));
    if (grid == 0) return MRC_OK;
    if (!backward) {
        MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_tc_fwd<T, ARCH>, shared));
        return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_tc_fwd<T, ARCH>), grid,
                                            TCA_THREADS, shared, stream, a));
    }
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_tc_dq<T, ARCH>, shared));
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_tc_dkv<T, ARCH>, shared));
    MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_tc_dq<T, ARCH>), grid,
                                              TCA_THREADS, shared, stream, a)));
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_tc_dkv<T, ARCH>), grid, TCA_THREADS,
                                        shared, stream, a));
}
template <class T>
static mrc_status mrc_cuda_attend_by_path(mrc_cuda *c, const mrc_cuda_attention<T> &a,
                                          size_t max_length, bool backward) {
    if constexpr (std::is_same<T, __half>::value) {
        if (c->path < 80) return mrc_cuda_attend_tc<T, 70>(c, a, max_length, backward);
    }
    return mrc_cuda_attend_tc<T, 80>(c, a, max_length, backward);
}

// Where the gradients of the tables go; G: their type.
template <class G>
static mrc_status mrc_cuda_table_gradient(mrc_cuda *c, const mrc_attention_bwd_args *g,
                                          const float *parts, int distances, size_t d,
                                          mrc_out to) {
    if (!to.data || g->extra.rows == 0) return MRC_OK;
    const int32_t *relative = (const int32_t *)g->extra.index.data + g->extra.span - g->max_length;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_by_row<G>),
                                        dim3((unsigned)g->extra.rows, (unsigned)g->heads),
                                        d > 32 ? 64 : 32, 0, c->stream, parts, distances,
                                        (int)g->max_length, relative, (int)d,
                                        mrc_cuda_into<G>(to)));
}
template <class T>
static mrc_status mrc_cuda_table_gradients(mrc_cuda *c, const mrc_attention_bwd_args *g,
                                           const mrc_cuda_attention<T> &a) {
    const bool bias = a.kind == MRC_ATTENTION_BIAS;
    const size_t half = g->heads * (size_t)a.distances * g->d;
    const mrc_out to[2] = { bias ? g->dbias : g->dpos_key, bias ? mrc_out{} : g->dpos_query };
    for (int k = 0; k < 2; k++) {
        const float *parts = a.parts + (size_t)k * half;
        const size_t d = bias ? 1 : g->d;
        MRC_CUDA_TRY(to[k].dtype == MRC_DTYPE_F32
                     ? mrc_cuda_table_gradient<float>(c, g, parts, a.distances, d, to[k])
                     : mrc_cuda_table_gradient<T>(c, g, parts, a.distances, d, to[k]));
    }
    return MRC_OK;
}

template <class T, int D, int BQ, bool EXTRA>
static mrc_status mrc_cuda_attend_bwd(mrc_cuda *c, mrc_cuda_attention<T> a, size_t max_length) {
    const size_t shared = mrc_cuda_bwd_room<D, BQ>::bytes(a.kind);
    unsigned grid;
    MRC_CUDA_TRY(mrc_cuda_attention_grid(&a, max_length, BQ, D, &grid));
    if (grid == 0) return MRC_OK;
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_dq<T, D, BQ, EXTRA>, shared));
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_dkv<T, D, BQ, EXTRA>, shared));
    MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_dq<T, D, BQ, EXTRA>), grid,
                                              2 * BQ, shared, c->stream, a)));
    MRC_CUDA_TRY(mrc_cuda_attention_grid(&a, max_length, MRC_CUDA_KEYS, D, &grid));
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_dkv<T, D, BQ, EXTRA>), grid, 2 * BQ,
                                        shared, c->stream, a));
}

// After the others, which give delta.
template <class T, int D, int BQ>
static mrc_status mrc_cuda_attend_tables(mrc_cuda *c, const mrc_attention_bwd_args *g,
                                         mrc_cuda_attention<T> a) {
    const size_t shared = mrc_cuda_bwd_room<D, BQ>::bytes(a.kind);
    const size_t blocks = (size_t)a.distances / 32 * g->heads;
    a.slices = (int)((g->d + D - 1) / D);
    if (!a.kind || (!g->dbias.data && !g->dpos_key.data && !g->dpos_query.data)) return MRC_OK;
    if (blocks > INT32_MAX / (size_t)a.slices || g->heads > 65535) return MRC_ERR_UNSUPPORTED;
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_tables<T, D, BQ>, shared));
    MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_attention_tables<T, D, BQ>),
                                              (unsigned)(blocks * (size_t)a.slices), 2 * BQ,
                                              shared, c->stream, a)));
    return mrc_cuda_table_gradients(c, g, a);
}

// Heads of up to 64 columns in f32: see attention_wide.cuh.
static mrc_status mrc_cuda_attend_wide(mrc_cuda *c, mrc_cuda_attention<float> a,
                                       size_t max_length) {
    const size_t shared = sizeof(mrc_cuda_wide_fwd);
    unsigned grid;
    MRC_CUDA_TRY(mrc_cuda_attention_grid(&a, max_length, MRC_CUDA_WIDE, MRC_CUDA_WIDE, &grid));
    if (grid == 0) return MRC_OK;
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_wide_fwd, shared));
    return mrc_cuda_check(c, MRC_LAUNCH(mrc_cuda_attention_wide_fwd, grid, MRC_CUDA_WIDE_FWD,
                                        shared, c->stream, a));
}
static mrc_status mrc_cuda_attend_wide_bwd(mrc_cuda *c, mrc_cuda_attention<float> a) {
    const size_t shared = sizeof(mrc_cuda_wide_bwd);
    unsigned grid;
    MRC_CUDA_TRY(mrc_cuda_attention_grid(&a, 1, 1, MRC_CUDA_WIDE, &grid));
    if (grid == 0) return MRC_OK;
    MRC_CUDA_TRY(mrc_cuda_allow(c, mrc_cuda_attention_wide_bwd, shared));
    return mrc_cuda_check(c, MRC_LAUNCH(mrc_cuda_attention_wide_bwd, grid, MRC_CUDA_WIDE_BWD,
                                        shared, c->stream, a));
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
    a.kind = (int)g->extra.kind;
    a.window = (int)(g->extra.window < INT32_MAX / 4 ? g->extra.window : INT32_MAX / 4);
    a.span = (int)g->extra.span;
    a.max_length = (int)g->max_length;
    a.relative = (const int32_t *)g->extra.index.data;
    a.bias = mrc_cuda_vector_of(g->extra.bias);
    a.ld_bias = g->extra.bias.ld;
    a.pos_key = mrc_cuda_from<T>(g->extra.pos_key);
    a.pos_query = mrc_cuda_from<T>(g->extra.pos_query);
    if (a.pos_key.data) a.vectors = a.vectors && mrc_cuda_by_four(a.pos_key);
    if (a.pos_query.data) a.vectors = a.vectors && mrc_cuda_by_four(a.pos_query);
    return a;
}

// Tables of positions are of the activations' type.
static inline bool mrc_cuda_extra_fits(const mrc_attention_extra *x, mrc_dtype dtype) {
    return (!x->pos_key.data || x->pos_key.dtype == dtype)
        && (!x->pos_query.data || x->pos_query.dtype == dtype) && x->span < INT32_MAX / 4;
}

template <class T>
static mrc_status mrc_cuda_attention_fwd_run(mrc_backend *be, const mrc_attention_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_attention<T> a = mrc_cuda_attention_of<T>(g);
    a.y = mrc_cuda_into<T>(g->y);
    a.vectors = a.vectors && mrc_cuda_by_four(a.y);
    const bool half = sizeof(T) == 2, extra = half || g->extra.kind || g->extra.window;
    if (!mrc_cuda_extra_fits(&g->extra, g->q.dtype)) return MRC_ERR_UNSUPPORTED;
    if (g->n == 0) return MRC_OK;
    if constexpr (half) {
        if (tca_fits(a)) return mrc_cuda_attend_by_path(c, a, g->max_length, false);
    }
    if (g->d <= 32) {
        if (extra) return mrc_cuda_attend<T, 32, 32, true>(c, a, g->max_length);
    } else if (extra && mrc_cuda_fwd_room<64, 64>::bytes(a.kind) > c->shared_limit) {
        return mrc_cuda_attend<T, 64, 32, true>(c, a, g->max_length);
    }
    if (extra) return mrc_cuda_attend<T, 64, 64, true>(c, a, g->max_length);
    if constexpr (!half) {
        if (g->d <= 32) return mrc_cuda_attend<T, 32, 32, false>(c, a, g->max_length);
        if (mrc_cuda_wide_fits(a)) return mrc_cuda_attend_wide(c, a, g->max_length);
        if (g->d <= 64) return mrc_cuda_attend<T, 64, 64, false>(c, a, g->max_length);
        return mrc_cuda_attend<T, 128, 32, false>(c, a, g->max_length);
    }
    return MRC_OK;
}

// delta, then the tables' gradients by distance.
static size_t mrc_cuda_attention_distances(const mrc_attention_bwd_args *g) {
    return g->extra.kind && g->max_length ? (2 * g->max_length - 1 + 31) / 32 * 32 : 0;
}
static size_t mrc_cuda_attention_bwd_scratch(mrc_backend *be, const mrc_attention_bwd_args *g) {
    (void)be;
    const size_t each = g->extra.kind == MRC_ATTENTION_BIAS ? 1 : 2 * g->d;
    return g->heads * (g->n + mrc_cuda_attention_distances(g) * each) * sizeof(float);
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
    a.vectors = a.vectors && mrc_cuda_by_four(a.dq) && mrc_cuda_by_four(a.dk)
             && mrc_cuda_by_four(a.dv);
    a.delta = (float *)g->workspace;
    a.parts = a.delta + g->heads * g->n;
    a.distances = (int)mrc_cuda_attention_distances(g);
    const bool half = sizeof(T) == 2, extra = half || g->extra.kind || g->extra.window;
    if (!mrc_cuda_extra_fits(&g->extra, g->q.dtype)) return MRC_ERR_UNSUPPORTED;
    if (g->n == 0) return g->extra.kind ? mrc_cuda_table_gradients(c, g, a) : MRC_OK;
    if constexpr (half) {
        if (tca_fits(a)) return mrc_cuda_attend_by_path(c, a, g->max_length, true);
    }
    const size_t want = extra || g->d <= 64 ? mrc_cuda_bwd_room<64, 64>::bytes(a.kind)
                                            : mrc_cuda_bwd_room<128, 32>::bytes(a.kind);
    if constexpr (!half) {
        if (!extra && g->d <= 32) {
            return mrc_cuda_attend_bwd<T, 32, 32, false>(c, a, g->max_length);
        }
        if (!extra && mrc_cuda_wide_fits(a) && mrc_cuda_wide_pays(c, a.n_sequences, a.heads)
            && sizeof(mrc_cuda_wide_bwd) <= c->shared_limit) {
            return mrc_cuda_attend_wide_bwd(c, a);
        }
        if (!extra && want <= c->shared_limit) {
            return g->d <= 64 ? mrc_cuda_attend_bwd<T, 64, 64, false>(c, a, g->max_length)
                              : mrc_cuda_attend_bwd<T, 128, 32, false>(c, a, g->max_length);
        }
    }
    if (g->d <= 32) {
        MRC_CUDA_TRY((mrc_cuda_attend_bwd<T, 32, 32, true>(c, a, g->max_length)));
        return mrc_cuda_attend_tables<T, 32, 32>(c, g, a);
    }
    if (want > c->shared_limit) {
        MRC_CUDA_TRY((mrc_cuda_attend_bwd<T, 64, 32, true>(c, a, g->max_length)));
        return mrc_cuda_attend_tables<T, 64, 32>(c, g, a);
    }
    MRC_CUDA_TRY((mrc_cuda_attend_bwd<T, 64, 64, true>(c, a, g->max_length)));
    return mrc_cuda_attend_tables<T, 64, 64>(c, g, a);
}

#endif
