// attention_wide.cuh - f32 attention of heads of up to 64 columns, 8 x 4 sums a thread
//
// Tiles are 64 x 64 floats.  A thread's part of a product is 8 rows by 4 columns, so that twelve
// 128-bit loads of shared memory feed 128 products.  Thread (y, x), y < 8 and x < 16: rows 4 y to
// 4 y + 3 and 32 farther, columns 4 x to 4 x + 3; a warp has two y.  Rows have no padding: the 16
// chunks of a row change places by its number, so no two of 8 threads meet in a bank.
//
// Forward: a block has 64 queries of a head and walks over its keys; the weights of a tile take the
// place of its keys once the scores stand.  48 KiB: two blocks on a Volta processor.
//
// Backward: a block has a whole head of a sequence.  It walks over tiles of keys, whose dk and dv
// stay in registers, and for each over all queries, so scores are made once, not once for dq and
// once for dk and dv.  Half of the warps make q k, the other half dy v; they exchange halves of the
// results, and both turn theirs into weights.  Then the halves sum dv and dk, and all of them dq,
// which is added to in memory: its rows have one owner, so the order of its sums is that of keys.
#ifndef MRC_CUDA_ATTENTION_WIDE_CUH
#define MRC_CUDA_ATTENTION_WIDE_CUH
#include "attention_tiles.cuh"

enum {
    MRC_CUDA_WIDE = 64,                         // rows and columns of a tile
    MRC_CUDA_WIDE_TILE = MRC_CUDA_WIDE * MRC_CUDA_WIDE,
    MRC_CUDA_WIDE_FWD = 128, MRC_CUDA_WIDE_BWD = 256        // threads
};

typedef struct mrc_cuda_wide_fwd { float q[MRC_CUDA_WIDE_TILE], k[MRC_CUDA_WIDE_TILE],
                                         v[MRC_CUDA_WIDE_TILE]; } mrc_cuda_wide_fwd;
typedef struct mrc_cuda_wide_bwd {
    float q[MRC_CUDA_WIDE_TILE], dy[MRC_CUDA_WIDE_TILE], k[MRC_CUDA_WIDE_TILE],
          v[MRC_CUDA_WIDE_TILE], p[MRC_CUDA_WIDE_TILE], ds[MRC_CUDA_WIDE_TILE];
} mrc_cuda_wide_bwd;

// Bytes from a tile's beginning to a chunk of 4 columns of a row; of the rows that follow it up to
// a multiple of 4, 256 bytes more each.  Another chunk of the row is this one's, ^ 16 (c ^ chunk).
__device__ __forceinline__ int mrc_cuda_wide_at(int row, int chunk) {
    const int turn = MRC_BUG(WIDE_PLACES) ? 0 : row >> 2 & 7;
    return row * 4 * MRC_CUDA_WIDE + ((chunk ^ turn) << 4);
}
__device__ __forceinline__ float4 mrc_cuda_wide_get(const float *tile, int at) {
    return *(const float4 *)((const char *)tile + at);
}
__device__ __forceinline__ void mrc_cuda_wide_set(float *tile, int at, const float (&v)[4]) {
    *(float4 *)((char *)tile + at) = make_float4(v[0], v[1], v[2], v[3]);
}

// A thread's part of a tile on its way: rows that are not there, and columns from d on, are 0.
template <int THREADS>
__device__ __forceinline__ void mrc_cuda_wide_fetch(float4 (&v)[1024 / THREADS], const float *from,
                                                    size_t ld, int rows, int d) {
    const int r = (int)threadIdx.x / 16, c = (int)threadIdx.x % 16 * 4;
    from += (size_t)r * ld + (size_t)c;
#pragma unroll
    for (int i = 0; i < 1024 / THREADS; i++) {
        const bool there = r + i * (THREADS / 16) < rows && c < d;
        v[i] = make_float4(0, 0, 0, 0);
        if (there) v[i] = *(const float4 *)(from + (size_t)(i * (THREADS / 16)) * ld);
    }
}
template <int THREADS>
__device__ __forceinline__ void mrc_cuda_wide_put(float *tile,
                                                  const float4 (&v)[1024 / THREADS]) {
    const int r = (int)threadIdx.x / 16, c = (int)threadIdx.x % 16;
#pragma unroll
    for (int i = 0; i < 1024 / THREADS; i++) {
        const float to[4] = { v[i].x, v[i].y, v[i].z, v[i].w };
        mrc_cuda_wide_set(tile, mrc_cuda_wide_at(r + i * (THREADS / 16), c), to);
    }
}

__device__ __forceinline__ int mrc_cuda_wide_row(int y, int i) {
    return 4 * y + i % 4 + i / 4 * 32;
}

// s[i][j] += row i of a times row 4 x + j of b.
__device__ __forceinline__ void mrc_cuda_wide_dots(float (&s)[8][4], const float *a,
                                                   const float *b, int x, int y) {
    const int of_a = mrc_cuda_wide_at(4 * y, 0), of_b = mrc_cuda_wide_at(4 * x, 0);
#pragma unroll 2
    for (int e = 0; e < 256; e += 16) {
        float4 u[8], w[4];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            u[i] = mrc_cuda_wide_get(a, (of_a ^ e) + 256 * (i % 4 + i / 4 * 32));
        }
#pragma unroll
        for (int j = 0; j < 4; j++) w[j] = mrc_cuda_wide_get(b, (of_b ^ e) + 256 * j);
#pragma unroll
        for (int i = 0; i < 8; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                s[i][j] += u[i].x * w[j].x;
                s[i][j] += u[i].y * w[j].y;
                s[i][j] += u[i].z * w[j].z;
                s[i][j] += u[i].w * w[j].w;
            }
        }
    }
}

// o[i] += sum over keys of row i of w times columns 4 x to 4 x + 3 of v.
template <int ROWS>
__device__ __forceinline__ void mrc_cuda_wide_weigh(float (&o)[ROWS][4], const float *w,
                                                    const float *v, int x, int y) {
    const int of_w = mrc_cuda_wide_at(4 * y, 0);
#pragma unroll 2
    for (int k = 0; k < 16; k++) {
        const int of_v = mrc_cuda_wide_at(4 * k, x);
        float4 u[ROWS], f[4];
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            u[i] = mrc_cuda_wide_get(w, (of_w ^ k << 4) + 256 * (i % 4 + i / 4 * 32));
        }
#pragma unroll
        for (int j = 0; j < 4; j++) f[j] = mrc_cuda_wide_get(v, of_v + 256 * j);
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const float p[4] = { u[i].x, u[i].y, u[i].z, u[i].w };
#pragma unroll
            for (int j = 0; j < 4; j++) {
                o[i][0] += p[j] * f[j].x;
                o[i][1] += p[j] * f[j].y;
                o[i][2] += p[j] * f[j].z;
                o[i][3] += p[j] * f[j].w;
            }
        }
    }
}

// sum[i] += sum over rows of w's column i times the row of v, columns 4 x to 4 x + 3.
__device__ __forceinline__ void mrc_cuda_wide_gather(float (&sum)[8][4], const float *w,
                                                     const float *v, int x, int y) {
#pragma unroll 2
    for (int r = 0; r < MRC_CUDA_WIDE; r += 4) {
        const int of_w = mrc_cuda_wide_at(r, y), of_v = mrc_cuda_wide_at(r, x);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float4 a = mrc_cuda_wide_get(w, of_w + 256 * k);
            const float4 b = mrc_cuda_wide_get(w, of_w + 256 * k + 128);        // 8 chunks on
            const float4 f = mrc_cuda_wide_get(v, of_v + 256 * k);
            const float p[8] = { a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w };
#pragma unroll
            for (int i = 0; i < 8; i++) {
                sum[i][0] += p[i] * f.x;
                sum[i][1] += p[i] * f.y;
                sum[i][2] += p[i] * f.z;
                sum[i][3] += p[i] * f.w;
            }
        }
    }
}

// Which of a row's 4 elements dropout takes away, as bits.
__device__ __forceinline__ int mrc_cuda_wide_lost(const mrc_cuda_attention<float> &a,
                                                  const mrc_cuda_span &q, int row, int key) {
    const uint4 u = mrc_cuda_philox((uint32_t)(key / 4), (uint32_t)row,
                                    (uint32_t)a.index[q.sequence], (uint32_t)q.head,
                                    a.mask.key[0], a.mask.key[1]);
    const uint32_t least = a.mask.threshold;
    return (u.x < least) | (u.y < least) << 1 | (u.z < least) << 2 | (u.w < least) << 3;
}

#define MRC_CUDA_LOG2E 1.4426950408889634f

// A thread's 8 rows have seen 4 more keys each: scores become weights, and what was summed before
// shrinks to the new maximum.  max is of scores times log2 e.
__device__ __forceinline__ void mrc_cuda_wide_soften(const mrc_cuda_attention<float> &a,
                                                     const mrc_cuda_span &q, int key, int y,
                                                     float (&p)[8][4], float (&max)[8],
                                                     float (&sum)[8], float (&o)[8][4]) {
    const float by = a.scale * MRC_CUDA_LOG2E;
    float shrink[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        float m = -INFINITY;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            p[i][j] = key + j < q.keys ? p[i][j] * by : -INFINITY;
            m = fmaxf(m, p[i][j]);
        }
        m = fmaxf(max[i], mrc_cuda_max<16>(m));
        shrink[i] = mrc_exp2(max[i] - m);                  // 0 at first
        max[i] = m;
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        sum[i] *= shrink[i];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float w = mrc_exp2(p[i][j] - max[i]);
            o[i][j] *= shrink[i];
            sum[i] += w;
            p[i][j] = w;
        }
    }
    if (a.mask.threshold == 0) return;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int lost = mrc_cuda_wide_lost(a, q, q.begin + mrc_cuda_wide_row(y, i), key);
#pragma unroll
        for (int j = 0; j < 4; j++) p[i][j] = lost >> j & 1 ? 0 : p[i][j];
    }
}

__global__ void __launch_bounds__(MRC_CUDA_WIDE_FWD, 2)
mrc_cuda_attention_wide_fwd(mrc_cuda_attention<float> a) {
    enum { THREADS = MRC_CUDA_WIDE_FWD };
    MRC_DYN_SMEM(mrc_cuda_wide_fwd, s);
    const mrc_cuda_span q = mrc_cuda_span_of(a, MRC_CUDA_WIDE);
    if (q.begin >= q.length) return;
    const int x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16;
    const size_t first = (size_t)q.first, head = (size_t)q.head * a.d;
    float max[8], sum[8] = {}, o[8][4] = {};
    float4 v[1024 / THREADS];
#pragma unroll
    for (int i = 0; i < 8; i++) max[i] = -INFINITY;
    mrc_cuda_wide_fetch<THREADS>(v, a.q.at(first + (size_t)q.begin, head), a.q.ld,
                                 q.length - q.begin, a.d);
    mrc_cuda_wide_put<THREADS>(s->q, v);
    mrc_cuda_wide_fetch<THREADS>(v, a.k.at(first, head), a.k.ld, q.keys, a.d);
    for (int k0 = 0; k0 < q.keys; k0 += MRC_CUDA_WIDE) {
        float p[8][4] = {};
        if (!MRC_BUG(WIDE_REUSE)) __syncthreads();
        mrc_cuda_wide_put<THREADS>(s->k, v);
        __syncthreads();
        mrc_cuda_wide_fetch<THREADS>(v, a.v.at(first + (size_t)k0, head), a.v.ld, q.keys - k0,
                                     a.d);
        mrc_cuda_wide_dots(p, s->q, s->k, x, y);
        mrc_cuda_wide_put<THREADS>(s->v, v);
        mrc_cuda_wide_soften(a, q, k0 + 4 * x, y, p, max, sum, o);
        __syncthreads();                // nobody reads the keys any more
#pragma unroll
        for (int i = 0; i < 8; i++) {
            mrc_cuda_wide_set(s->k, mrc_cuda_wide_at(mrc_cuda_wide_row(y, i), x), p[i]);
        }
        if (k0 + MRC_CUDA_WIDE < q.keys) {
            const size_t next = first + (size_t)(k0 + MRC_CUDA_WIDE);
            mrc_cuda_wide_fetch<THREADS>(v, a.k.at(next, head), a.k.ld,
                                         q.keys - k0 - MRC_CUDA_WIDE, a.d);
        }
        __syncwarp();                   // the 16 threads of these rows are in one warp
        mrc_cuda_wide_weigh<8>(o, s->k, s->v, x, y);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int row = q.begin + mrc_cuda_wide_row(y, i);
        const float all = mrc_cuda_sum<16>(sum[i]), share = all > 0 ? a.mask.scale / all : 0;
        const size_t at = (size_t)(q.first + row);
        const float v4[4] = { o[i][0] * share, o[i][1] * share, o[i][2] * share, o[i][3] * share };
        if (row >= q.length) continue;
        if (x == 0 && a.lse) {
            a.lse[q.head * a.ld_lse + at] = all > 0 ? max[i] / MRC_CUDA_LOG2E + logf(all) : 0;
        }
        if (4 * x < a.d) mrc_cuda_put4(a.y.at(at, head) + 4 * x, v4);
    }
}

// A thread's 4 x 4 weights of a tile: from scores and dp, p_ij m_ij and scale p_ij (dp_ij m_ij -
// delta_i).  Rows past the end have no q and no dy: what they get is multiplied by 0.
__device__ __forceinline__ void mrc_cuda_wide_weights(const mrc_cuda_attention<float> &a,
                                                      const mrc_cuda_span &q, int row, int key,
                                                      const float (&lse)[4],
                                                      const float (&delta)[4], float (&p)[4][4],
                                                      float (&dp)[4][4]) {
    const float by = a.scale * MRC_CUDA_LOG2E;
    int lost[4] = {};
    if (a.mask.threshold != 0) {
#pragma unroll
        for (int i = 0; i < 4; i++) lost[i] = mrc_cuda_wide_lost(a, q, row + i, key);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float e = mrc_exp2(p[i][j] * by - lse[i]), w = key + j < q.keys ? e : 0;
            const float keep = lost[i] >> j & 1 ? 0 : a.mask.scale;
            dp[i][j] = w * (dp[i][j] * keep - delta[i]) * a.scale;
            p[i][j] = w * keep;
        }
    }
}

// What a half of the warps has summed of 64 keys goes to dk or dv.
__device__ __forceinline__ void mrc_cuda_wide_give(const mrc_cuda_attention<float> &a,
                                                   const mrc_cuda_span &q, int k0, int x, int y,
                                                   const mrc_cuda_matrix<float> &to,
                                                   const float (&sum)[8][4]) {
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const int key = k0 + mrc_cuda_wide_row(y, i);
        if (key >= q.length || 4 * x >= a.d || !to.data) continue;
        mrc_cuda_store4(to.at((size_t)(q.first + key), (size_t)q.head * a.d), 4 * x, a.d, 1,
                        to.accumulate, sum[i]);
    }
}

// A tile of queries and one of keys: adds to the half's dv or dk and to dq.
__device__ __forceinline__ void mrc_cuda_wide_pair(const mrc_cuda_attention<float> &a,
                                                   const mrc_cuda_span &q, mrc_cuda_wide_bwd *s,
                                                   int q0, int k0, bool half, int x, int y,
                                                   float (&sum)[8][4]) {
    const size_t head = (size_t)q.head * a.d;
    const int mine = 4 * y + half * 32, at = mrc_cuda_wide_at(mine, x);
    const int others = mrc_cuda_wide_at(4 * y + !half * 32, x);
    float both[8][4] = {}, lse[4], delta[4], p[4][4], dp[4][4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        lse[i] = mrc_cuda_of_row(a.lse, a.ld_lse, q, q0 + mine + i) * MRC_CUDA_LOG2E;
        delta[i] = mrc_cuda_of_row(a.delta, a.n, q, q0 + mine + i);
    }
    mrc_cuda_wide_dots(both, half ? s->dy : s->q, half ? s->v : s->k, x, y);
#pragma unroll
    for (int i = 0; i < 4; i++) {               // the rows that the other half turns into weights
        float give[4];
#pragma unroll
        for (int j = 0; j < 4; j++) give[j] = half ? both[i][j] : both[i + 4][j];
        mrc_cuda_wide_set(half ? s->ds : s->p, others + 256 * i, give);
    }
    if (!MRC_BUG(WIDE_EXCHANGE)) __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float4 v = mrc_cuda_wide_get(half ? s->p : s->ds, at + 256 * i);
        const float other[4] = { v.x, v.y, v.z, v.w };
#pragma unroll
        for (int j = 0; j < 4; j++) {
            p[i][j] = half ? other[j] : both[i][j];
            dp[i][j] = half ? both[i + 4][j] : other[j];
        }
    }
    mrc_cuda_wide_weights(a, q, q0 + mine, k0 + 4 * x, lse, delta, p, dp);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        mrc_cuda_wide_set(s->p, at + 256 * i, p[i]);
        mrc_cuda_wide_set(s->ds, at + 256 * i, dp[i]);
    }
    __syncthreads();
    mrc_cuda_wide_gather(sum, half ? s->ds : s->p, half ? s->q : s->dy, x, y);
    if (!a.dq.data) return;
    const int y4 = y + half * 8;                // all 256 threads: rows 4 y4 to 4 y4 + 3
    float was[4][4] = {}, dq[4][4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = q0 + 4 * y4 + i;
        if ((k0 == 0 && !a.dq.accumulate) || row >= q.length || 4 * x >= a.d) continue;
        mrc_cuda_load4((const float *)a.dq.at((size_t)(q.first + row), head), 4 * x, a.d, 1,
                       was[i]);
    }
    mrc_cuda_wide_weigh<4>(dq, s->ds, s->k, x, y4);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = q0 + 4 * y4 + i;
        if (row >= q.length || 4 * x >= a.d) continue;
        const float v[4] = { was[i][0] + dq[i][0], was[i][1] + dq[i][1], was[i][2] + dq[i][2],
                             was[i][3] + dq[i][3] };
        mrc_cuda_put4(a.dq.at((size_t)(q.first + row), head) + 4 * x, v);
    }
}

// Grid: heads, then sequences.  Several outputs may be one tensor: a barrier stands between dq, dk
// and dv.
__global__ void __launch_bounds__(MRC_CUDA_WIDE_BWD, 1)
mrc_cuda_attention_wide_bwd(mrc_cuda_attention<float> a) {
    enum { THREADS = MRC_CUDA_WIDE_BWD };
    MRC_DYN_SMEM(mrc_cuda_wide_bwd, s);
    const mrc_cuda_span q = mrc_cuda_span_of(a, INT32_MAX);     // begin is 0: tiles is 1
    const int x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16 % 8;
    const bool half = threadIdx.x >= THREADS / 2;
    const size_t first = (size_t)q.first, head = (size_t)q.head * a.d;
    for (int row = (int)threadIdx.x / 8; row < (q.length + 31) / 32 * 32; row += THREADS / 8) {
        const float delta = MRC_BUG(WIDE_DELTA) ? 0 : mrc_cuda_delta(a, q, row);
        if (threadIdx.x % 8 == 0 && row < q.length) {
            a.delta[(size_t)q.head * a.n + first + (size_t)row] = delta;
        }
    }
    for (int k0 = 0; k0 < q.length; k0 += MRC_CUDA_WIDE) {
        float sum[8][4] = {};
        float4 u[1024 / THREADS], w[1024 / THREADS];
        __syncthreads();                        // delta stands; the tiles are free, and dk, dv
        mrc_cuda_wide_fetch<THREADS>(u, a.k.at(first + (size_t)k0, head), a.k.ld, q.keys - k0,
                                     a.d);
        mrc_cuda_wide_fetch<THREADS>(w, a.v.at(first + (size_t)k0, head), a.v.ld, q.keys - k0,
                                     a.d);
        mrc_cuda_wide_put<THREADS>(s->k, u);
        mrc_cuda_wide_put<THREADS>(s->v, w);
        mrc_cuda_wide_fetch<THREADS>(u, a.q.at(first, head), a.q.ld, q.length, a.d);
        mrc_cuda_wide_fetch<THREADS>(w, a.dy.at(first, head), a.dy.ld, q.length, a.d);
        for (int q0 = 0; q0 < q.length && (k0 == 0 || k0 < q.keys); q0 += MRC_CUDA_WIDE) {
            mrc_cuda_wide_put<THREADS>(s->q, u);
            mrc_cuda_wide_put<THREADS>(s->dy, w);
            __syncthreads();
            if (q0 + MRC_CUDA_WIDE < q.length) {
                const size_t next = first + (size_t)(q0 + MRC_CUDA_WIDE);
                const int rows = q.length - q0 - MRC_CUDA_WIDE;
                mrc_cuda_wide_fetch<THREADS>(u, a.q.at(next, head), a.q.ld, rows, a.d);
                mrc_cuda_wide_fetch<THREADS>(w, a.dy.at(next, head), a.dy.ld, rows, a.d);
            }
            mrc_cuda_wide_pair(a, q, s, q0, k0, half, x, y, sum);
            __syncthreads();
        }
        if (half) mrc_cuda_wide_give(a, q, k0, x, y, a.dk, sum);
        __syncthreads();
        if (!half) mrc_cuda_wide_give(a, q, k0, x, y, a.dv, sum);
    }
}

//==============================================================================
// Launches
//==============================================================================
template <class T> static bool mrc_cuda_wide_fits(const mrc_cuda_attention<T> &a) {
    return std::is_same<T, float>::value && a.vectors && a.d > 32 && a.d <= MRC_CUDA_WIDE;
}

// A head has one block, and its product count is 5 where two kernels have 7: worth it where waves
// of blocks fill that share of the processors of the path.  On a CPU two blocks are a wave.
#ifdef __CUDACC__
enum { MRC_CUDA_WAVE_70 = 80, MRC_CUDA_WAVE_80 = 132 };
#else
enum { MRC_CUDA_WAVE_70 = 2, MRC_CUDA_WAVE_80 = 2 };
#endif
static bool mrc_cuda_wide_pays(const mrc_cuda *c, int sequences, int heads) {
    const int64_t wave = c->path < 80 ? MRC_CUDA_WAVE_70 : MRC_CUDA_WAVE_80;
    const int64_t blocks = (int64_t)sequences * heads;
    return 7 * blocks >= 5 * ((blocks + wave - 1) / wave * wave);
}

#endif
