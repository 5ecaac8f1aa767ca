// attention_tiles.cuh - tiles of queries and keys in shared memory, and what is done with a pair of
// them: what attention's kernels are made of
#ifndef MRC_CUDA_ATTENTION_TILES_CUH
#define MRC_CUDA_ATTENTION_TILES_CUH
#include "elementwise.cuh"
#include <type_traits>

enum { MRC_CUDA_KEYS = 32, MRC_CUDA_WEIGHTS = MRC_CUDA_KEYS + 4 };

template <class T> struct mrc_cuda_attention {
    int      n_sequences, heads, d;
    int      tiles, slices;                     // of the longest sequence, of a head
    float    scale;
    mrc_cuda_mask mask;
    const int32_t *cu, *real, *index;
    mrc_cuda_matrix<const T> q, k, v, out, dy;  // out: forward's y, for backward
    int      vectors;                           // four elements at a time can be loaded, stored
    mrc_cuda_matrix<T> y, dq, dk, dv;           // of a gradient data NULL: not wanted
    size_t   ld_lse;
    float   *lse;
    float   *delta;                             // (A, N)
    size_t   n;
    int      kind, window, span, max_length;    // of EXTRA; window 0: none
    const int32_t *relative;                    // by i - j + span - 1: the tables' row
    mrc_cuda_vector bias;                       // (R, A)
    size_t   ld_bias;
    mrc_cuda_matrix<const T> pos_key, pos_query;        // (R, A D); data NULL: not there
    float   *parts;                             // gradients of the tables by distance
    int      distances;
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
#pragma unroll 1
    for (int j = 0; j < MRC_CUDA_KEYS; j += 4) {
        float p[4][4];
#pragma unroll
        for (int i = 0; i < 4; i++) mrc_cuda_load4(w[4 * y + i], j, MRC_CUDA_KEYS, 1, p[i]);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float *row = v[mrc_cuda_key_row(j + k)];
#pragma unroll
            for (int g = 0; g < D / 32; g++) {
                const float4 f = *(const float4 *)(row + 32 * g + 4 * x);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    o[i][4 * g] += p[i][k] * f.x;
                    o[i][4 * g + 1] += p[i][k] * f.y;
                    o[i][4 * g + 2] += p[i][k] * f.z;
                    o[i][4 * g + 3] += p[i][k] * f.w;
                }
            }
        }
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

//==============================================================================
// What EXTRA adds
//==============================================================================
// Which keys the rows begin to begin + rows see, and which queries so many keys are seen by.
template <bool EXTRA, class T>
__device__ __forceinline__ int mrc_cuda_near(const mrc_cuda_attention<T> &a, int begin, int tile) {
    if (!EXTRA || !a.window || begin <= a.window) return 0;
    return (begin - a.window) / tile * tile + (MRC_BUG(WINDOW_NEAR) ? tile : 0);
}
template <bool EXTRA, class T>
__device__ __forceinline__ int mrc_cuda_far(const mrc_cuda_attention<T> &a, int begin, int rows,
                                            int all) {
    if (!EXTRA || !a.window || all - begin - rows <= a.window) return all;
    return begin + rows + (MRC_BUG(WINDOW_FAR) ? 0 : a.window);
}

// The score of a query and a key, minus infinity where it does not count.
template <bool EXTRA, class T>
__device__ __forceinline__ float mrc_cuda_score(const mrc_cuda_attention<T> &a,
                                                const mrc_cuda_span &q, int row, int key,
                                                float dot) {
    const int apart = row - key, window = a.window + MRC_BUG(WINDOW);
    if (key >= q.keys) return -INFINITY;
    if (!EXTRA) return dot * a.scale;
    if (a.window && (apart > window || -apart > window)) return -INFINITY;
    if (a.kind != MRC_ATTENTION_BIAS || row >= q.length) return dot * a.scale;
    const int distance = MRC_BUG(BIAS) ? -apart : apart;
    const size_t at = (size_t)a.relative[distance + a.span - 1] * a.ld_bias + (size_t)q.head;
    return dot * a.scale + mrc_cuda_at(a.bias, at);
}

// Where row b of a band stands: what threads x read at once, rows 4 (y - x) + u, lies side by side.
template <int BQ> __device__ __forceinline__ int mrc_cuda_band_row(int b) {
    if (MRC_BUG(BAND_ORDER)) return b;
    return b % 4 * ((BQ + MRC_CUDA_KEYS) / 4) + b / 4;
}

// Row b is the table's row of the distance q0 - k0 + b - 31: query 4 y + i meets key 4 x + j in row
// 4 (y - x) + i - j + 31.
template <int D, int BQ, class T>
__device__ __forceinline__ void mrc_cuda_band(const mrc_cuda_attention<T> &a,
                                              const mrc_cuda_span &q, float (*to)[D + 4],
                                              const mrc_cuda_matrix<const T> &table, int column,
                                              int q0, int k0) {
    const int d = a.d - column;
#pragma unroll 4
    for (int e = (int)threadIdx.x; e < (BQ + MRC_CUDA_KEYS - 1) * (D / 4); e += 2 * BQ) {
        const int b = e / (D / 4), c = e % (D / 4) * 4;
        int apart = q0 - k0 + b - (MRC_CUDA_KEYS - 1);
        apart = apart >= a.span ? a.span - 1 : apart <= -a.span ? 1 - a.span : apart;
        const T *from = table.at((size_t)a.relative[apart + a.span - 1],
                                 (size_t)q.head * a.d + (size_t)(column + c));
        float4 v = make_float4(0, 0, 0, 0);
        if (a.vectors && c < d) v = mrc_cuda_get4(from);
        if (!a.vectors) {
            if (c < d) v.x = mrc_cuda_get(from);
            if (c + 1 < d) v.y = mrc_cuda_get(from + 1);
            if (c + 2 < d) v.z = mrc_cuda_get(from + 2);
            if (c + 3 < d) v.w = mrc_cuda_get(from + 3);
        }
        *(float4 *)&to[mrc_cuda_band_row<BQ>(b)][c] = v;
    }
}

// s[i][j] += the band's row of query i and key j times row i of q or, KEYS, row j of k.
template <int D, int BQ, bool KEYS>
__device__ __forceinline__ void mrc_cuda_band_dots(float (&s)[4][4], const float (*rows)[D + 4],
                                                   const float (*band)[D + 4], int x, int y) {
#pragma unroll 2
    for (int e = 0; e < D; e += 4) {
        float4 f[4];
#pragma unroll
        for (int i = 0; i < 4; i++) f[i] = *(const float4 *)&rows[KEYS ? 8 * i + x : 4 * y + i][e];
#pragma unroll
        for (int u = 0; u < 7; u++) {
            const float4 t = *(const float4 *)&band[mrc_cuda_band_row<BQ>(4 * (y - x + 7) + u)][e];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int j = i + 3 - u;
                if (j < 0 || j > 3) continue;
                const float4 g = f[KEYS ? j : i];
                s[i][j] += g.x * t.x;
                s[i][j] += g.y * t.y;
                s[i][j] += g.z * t.z;
                s[i][j] += g.w * t.w;
            }
        }
    }
}

// The terms of a slice of columns whose q and k are in the tiles.  Leaves in the band the rows of
// pos_key or, QUERY_LAST, of pos_query.
template <int D, int BQ, bool QUERY_LAST, class T, class Tiles>
__device__ __forceinline__ void mrc_cuda_bands(const mrc_cuda_attention<T> &a,
                                               const mrc_cuda_span &q, Tiles *s, int column,
                                               int q0, int k0, float (&p)[4][4]) {
    const int x = (int)threadIdx.x % 8, y = (int)threadIdx.x / 8;
    float (*band)[D + 4] = (float (*)[D + 4])(s + 1);
    for (int turn = 0; turn < 2; turn++) {
        const bool query = (turn == 1) == QUERY_LAST;
        const mrc_cuda_matrix<const T> &table = query ? a.pos_query : a.pos_key;
        if (!table.data) continue;
        if (!MRC_BUG(BAND_REUSE)) __syncthreads();
        mrc_cuda_band<D, BQ>(a, q, band, table, column, q0, k0);
        if (!MRC_BUG(BAND_LOAD)) __syncthreads();
        if (query) mrc_cuda_band_dots<D, BQ, true>(p, s->k, band, x, y);
        else mrc_cuda_band_dots<D, BQ, false>(p, s->q, band, x, y);
    }
}

// As mrc_cuda_weigh, with the band's row of query and key.
template <int D, int BQ>
__device__ __forceinline__ void mrc_cuda_band_weigh(float (&o)[4][D / 8],
                                                    const float (*w)[MRC_CUDA_WEIGHTS],
                                                    const float (*band)[D + 4], int x, int y) {
#pragma unroll 2
    for (int j = 0; j < MRC_CUDA_KEYS; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float p = w[4 * y + i][j];
            const float *row = band[mrc_cuda_band_row<BQ>(4 * y + i - j + MRC_CUDA_KEYS - 1)];
#pragma unroll
            for (int g = 0; g < D / 32; g++) {
                const float4 f = *(const float4 *)(row + 32 * g + 4 * x);
                o[i][4 * g] += p * f.x;
                o[i][4 * g + 1] += p * f.y;
                o[i][4 * g + 2] += p * f.z;
                o[i][4 * g + 3] += p * f.w;
            }
        }
    }
}

#endif
