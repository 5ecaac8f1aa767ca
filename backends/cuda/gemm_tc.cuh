// gemm_tc.cuh - matrix products on tensor cores: f16, bf16, and f32 by way of TF32
//
// c (m, n) = a (m, k) b (k, n), sums in f32.  A block of threads makes one tile of c, BM x BN, from
// slices of k that are 64 bytes of an element wide; a warp makes WM x WN of it, 64 x 64 of a large
// tile.  An operand lies in shared memory as it lies in memory: rows of k ("by k"), or rows of its
// m or n.  Path 80 keeps three slices there, copied asynchronously; path 70 two, by way of
// registers.
// A slice that is not whole, or cannot be read 16 bytes at a time (an odd leading dimension, an
// address in between), is read by elements.
//
// Small products of long k are split into parts of k, made by blocks of their own and summed in
// their order: how often depends on the shape alone, so neither the device nor chance is in the
// bits.
#pragma once
#include "gemm.cuh"
#include "mma.cuh"

enum {
    TC_CHUNK = 16,                      // bytes that a thread moves at a time
    TC_SLICE = 64                       // bytes of k in a slice
};

typedef struct tc_operand {
    const void *data;
    size_t ld;
    int rows;                           // m or n
    int aligned;                        // every row begins on 16 bytes
} tc_operand;

typedef struct tc_args {
    tc_operand a, b;
    int m, n, k, k_part;                // k_part: what one part sums over
    void *c, *z;                        // z: c before the activation, NULL: not wanted
    size_t ldc, ldz;
    int c_f32, accumulate, act;
    int four;                           // four columns can be read and written at once
    mrc_cuda_vector bias;
    float *parts;                       // not NULL: (parts, m, n)
} tc_args;

// How R rows of an operand lie in shared memory, and which chunk of a slice is where.
template <class T, int R, bool BY_K> struct tc_tile {
    enum {
        PER_CHUNK = TC_CHUNK / (int)sizeof(T),
        K = TC_SLICE / (int)sizeof(T),
        // No two lanes of a fragment want one bank: rows of k are set apart, and of other rows the
        // chunks change places, four ways over eight rows.
        PITCH = BY_K ? TC_SLICE : R * (int)sizeof(T) + (sizeof(T) == 4 ? 32 : 16),
        BYTES = BY_K ? R * PITCH : K * PITCH,
        CHUNKS = R * TC_SLICE / TC_CHUNK,
        IN_ROW = BY_K ? TC_SLICE / TC_CHUNK : R / PER_CHUNK
    };
    // The chunk's source, and in *count how many of its elements exist.
    static __device__ const T *source(const tc_operand &o, int r0, int k0, int k_end, int chunk,
                                      int *count) {
        int row = chunk / IN_ROW, first = chunk % IN_ROW * PER_CHUNK;
        int r = BY_K ? r0 + row : r0 + first, k = BY_K ? k0 + first : k0 + row;
        int left = BY_K ? k_end - k : o.rows - r;
        int there = BY_K ? r < o.rows : k < k_end;
        *count = !there || left < 0 ? 0 : left < PER_CHUNK ? left : PER_CHUNK;
        const T *data = (const T *)o.data;
        if (*count == 0) return data;
        return BY_K ? data + (size_t)r * o.ld + k : data + (size_t)k * o.ld + r;
    }
    // Where byte `at` of row `row` stands.
    static __device__ __forceinline__ int place(int row, int at) {
        if (!BY_K || MRC_BUG(TC_SWIZZLE)) return row * PITCH + at;
        const int chunk = (at & -TC_CHUNK) ^ (row >> 1 & 3) * TC_CHUNK;
        return row * PITCH + chunk + at % TC_CHUNK;
    }
    static __device__ __forceinline__ int target(int chunk) {
        return place(chunk / IN_ROW, chunk % IN_ROW * TC_CHUNK);
    }
};

// A chunk that is short or not aligned, by elements.
template <class T> __device__ uint4 tc_gather(const T *from, int count) {
    unsigned w[4] = { 0, 0, 0, 0 };
#pragma unroll
    for (int i = 0; i < TC_CHUNK / (int)sizeof(T); i++) {
        if (i >= count) continue;
        if (sizeof(T) == 4) w[i & 3] = ((const unsigned *)from)[i];
        else w[i / 2] |= (unsigned)((const unsigned short *)from)[i] << (16 * (i & 1));
    }
    return make_uint4(w[0], w[1], w[2], w[3]);
}

// A thread's chunks of an operand, slice after slice.  Of a tile and a slice that exist wholly, and
// are aligned, a chunk is ROWS rows farther than the one before it, here and in shared memory.
template <class T, int R, bool BY_K, int THREADS> struct tc_chunks {
    typedef tc_tile<T, R, BY_K> tile;
    enum { EACH = (int)tile::CHUNKS / THREADS, ROWS = THREADS / (int)tile::IN_ROW };
    const T *at;                        // the first one's, of the next whole slice
    int r0, to;
    uint4 held[EACH];                   // on path 70, on their way

    // Returns whether the tile is whole.
    __device__ __forceinline__ bool start(const tc_operand &o, int r, int k) {
        const int row = (int)threadIdx.x / (int)tile::IN_ROW;
        const int first = (int)threadIdx.x % (int)tile::IN_ROW * (int)tile::PER_CHUNK;
        at = (const T *)o.data + (BY_K ? (size_t)(r + row) * o.ld + (size_t)(k + first)
                                       : (size_t)(k + row) * o.ld + (size_t)(r + first));
        r0 = r;
        to = tile::target((int)threadIdx.x);
        return o.aligned && r + R <= o.rows;
    }
    __device__ __forceinline__ void advance(const tc_operand &o) {
        at += BY_K ? (size_t)tile::K : (size_t)tile::K * o.ld;
    }
    // Begins copying a whole slice; the caller commits and waits.
    __device__ __forceinline__ void copy(unsigned char *s, const tc_operand &o) {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            cp_async_16(s + to + i * (int)ROWS * (int)tile::PITCH, at + (size_t)(i * ROWS) * o.ld,
                        TC_CHUNK);
        }
        advance(o);
    }
    // The same by way of registers: fetch() is followed by put().
    __device__ __forceinline__ void fetch(const tc_operand &o) {
#pragma unroll
        for (int i = 0; i < EACH; i++) held[i] = *(const uint4 *)(at + (size_t)(i * ROWS) * o.ld);
        advance(o);
    }
    __device__ __forceinline__ void put(unsigned char *s) const {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            *(uint4 *)(s + to + i * (int)ROWS * (int)tile::PITCH) = held[i];
        }
    }
    // Any other slice, from k on: what does not exist is 0.
    __device__ __forceinline__ void rest(unsigned char *s, const tc_operand &o, int k, int k_end) {
#pragma unroll 1
        for (int i = 0; i < EACH; i++) {
            int count;
            const int chunk = (int)threadIdx.x + i * THREADS;
            const T *from = tile::source(o, r0, k, k_end, chunk, &count);
            uint4 *into = (uint4 *)(s + tile::target(chunk));
            if (o.aligned && count == (int)tile::PER_CHUNK) *into = *(const uint4 *)from;
            else *into = tc_gather(from, count);
        }
    }
};

// Where a lane finds its fragments of rows r.. of an operand, r a multiple of 16: of k it reads
// there ^ 2 k where rows are of k, whose chunks change places, else there + k * PITCH.
template <class T, int R, bool BY_K, bool IS_A, int ARCH>
__device__ __forceinline__ int tc_start(int r, int lane) {
    typedef tc_tile<T, R, BY_K> tile;
    if (ARCH == 70) {       // 4 (q & 1) + 8 h + .. of a (q >> 1 of b), so that no banks collide
        const int q = lane >> 2 & 3, t = lane & 3;
        const int first = r + (IS_A ? q & 1 : q >> 1) * 4 + (lane >> 4) * 8;
        return BY_K ? tile::place(first + t, 0) : tile::place(t, first * 2);
    }
    const int row = (lane & 7) + (BY_K == IS_A ? lane & 8 : lane >> 4 << 3);
    const int col = BY_K == IS_A ? lane >> 4 << 3 : lane & 8;
    return BY_K ? tile::place(r + row, col * 2) : tile::place(row, (r + col) * 2);
}
// The same of k, and of rows `more` farther, a multiple of 16.
template <class T, int R, bool BY_K>
__device__ __forceinline__ int tc_at(int start, int k, int more) {
    typedef tc_tile<T, R, BY_K> tile;
    if (!BY_K) return start + k * (int)tile::PITCH + more * (int)sizeof(T);
    if (MRC_BUG(TC_SWIZZLE)) return start + k * 2 + more * (int)tile::PITCH;
    return (start ^ k * 2) + more * (int)tile::PITCH;
}

// Fragments of 16 rows r.. of a at k.., or of 16 columns of b: two of 8, words 0, 1 and 2, 3.
// start: tc_start() of the first rows, r - more.
template <class T, int R, bool BY_K, bool IS_A>
__device__ __forceinline__ void tc_fragment(unsigned *w, const unsigned char *s, int start, int r,
                                            int k, int more, int lane) {
    typedef tc_tile<T, R, BY_K> tile;
    if (sizeof(T) == 2) {
        ldmatrix_x4<!BY_K>(w, s + tc_at<T, R, BY_K>(start, k, more));
        return;
    }
    r += more;
    int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = r + g + (IS_A ? i & 1 : i >> 1) * 8, col = k + t + (IS_A ? i >> 1 : i & 1) * 4;
        w[i] = tf32_of(*(const float *)(s + (BY_K ? tile::place(row, col * 4)
                                                  : tile::place(col, row * 4))));
    }
}

// Volta's: four k of 16 rows.
template <class T, int R, bool BY_K>
__device__ __forceinline__ void tc_fragment_70(unsigned *w, const unsigned char *s, int start,
                                               int k, int more) {
    const uint2 v = *(const uint2 *)(s + tc_at<T, R, BY_K>(start, k, more));
    w[0] = v.x;
    w[1] = v.y;
}

__device__ __forceinline__ void tc_mma(__half tag, float *d, const unsigned *a,
                                       const unsigned *b) {
    mma_16816(tag, d, a, b);
}
__device__ __forceinline__ void tc_mma(__nv_bfloat16 tag, float *d, const unsigned *a,
                                       const unsigned *b) {
    mma_16816(tag, d, a, b);
}
__device__ __forceinline__ void tc_mma(float, float *d, const unsigned *a, const unsigned *b) {
    mma_1688(d, a, b);
}

// What a block makes: its tile's rows and columns, a warp's place in it, and its part of k.
typedef struct tc_place_of { int m0, n0, row, col, lane, k0, k_end, slices; } tc_place_of;

// A warp's fragments of a step of k, of both operands, and their products: sums[i][j] are 16 x 16.
template <class T, int ARCH, int BM, int BN, int WM, int WN, bool A_BY_K, bool B_BY_K>
struct tc_step {
    enum { K = ARCH == 70 ? 4 : 32 / (int)sizeof(T), IN_SLICE = TC_SLICE / (int)sizeof(T) / K };
    unsigned a[WM / 16][4], b[WN / 16][4];

    // Of step `step` of a slice in s; at_a, at_b: see tc_start().
    __device__ __forceinline__ void load(const unsigned char *s, int step, int at_a, int at_b,
                                         const tc_place_of &p) {
        const unsigned char *sb = s + tc_tile<T, BM, A_BY_K>::BYTES;
#pragma unroll
        for (int j = 0; j < WN / 16; j++) {
            if (ARCH == 70) tc_fragment_70<T, BN, B_BY_K>(b[j], sb, at_b, step * K, j * 16);
            else tc_fragment<T, BN, B_BY_K, false>(b[j], sb, at_b, p.col, step * K, j * 16, p.lane);
        }
#pragma unroll
        for (int i = 0; i < WM / 16; i++) {
            if (ARCH == 70) tc_fragment_70<T, BM, A_BY_K>(a[i], s, at_a, step * K, i * 16);
            else tc_fragment<T, BM, A_BY_K, true>(a[i], s, at_a, p.row, step * K, i * 16, p.lane);
        }
    }
    __device__ __forceinline__ void multiply(float (&sums)[WM / 16][WN / 16][8]) const {
#pragma unroll
        for (int i = 0; i < WM / 16; i++) {
#pragma unroll
            for (int j = 0; j < WN / 16; j++) {
                if constexpr (ARCH == 70) {
                    mma_884<A_BY_K, B_BY_K>(sums[i][j], a[i], b[j]);
                } else {
                    tc_mma(T(), sums[i][j], a[i], b[j]);
                    tc_mma(T(), sums[i][j] + 4, a[i], b[j] + 2);
                }
            }
        }
    }
};

// Element e of a lane's part of a 16 x 16 sum; e and e + 1 are neighbours of a row for even e.
template <int ARCH> __device__ void tc_place(int lane, int e, int *row, int *col) {
    if (ARCH == 70) {
        int q = lane >> 2 & 3;
        *row = (lane & 1) + (e & 2) + (lane >> 4) * 8 + (q & 1) * 4;
        *col = (lane & 2) + (e & 1) + (e >> 2) * 8 + (q >> 1) * 4;
    } else {
        *row = (lane >> 2) + (e >> 1 & 1) * 8;
        *col = (lane & 3) * 2 + (e & 1) + (e >> 2) * 8;
    }
}

// Two elements that stand side by side.
template <class T> __device__ __forceinline__ void tc_store2(void *at, float a, float b) {
    union { unsigned bits; T e[2]; } u;
    u.e[0] = (T)a;
    u.e[1] = (T)b;
    *(unsigned *)at = u.bits;
}
template <> __device__ __forceinline__ void tc_store2<float>(void *at, float a, float b) {
    *(float2 *)at = make_float2(a, b);
}
template <class T>
__device__ __forceinline__ void tc_give2(void *base, size_t at, float a, float b,
                                         int accumulate) {
    T *to = (T *)base + at;
    if (accumulate) tc_store2<T>(to, (float)to[0] + a, (float)to[1] + b);
    else tc_store2<T>(to, a, b);
}

// Columns col to col + 3 of a row: a part of k's sums; or c, given a bias, kept as z, given an
// activation.
template <class T>
__device__ __forceinline__ void tc_put4(const tc_args &g, int row, int col, float (&v)[4]) {
    if (row >= g.m || col >= g.n) return;
    if (g.parts) {
        float *to = g.parts + ((size_t)blockIdx.y * g.m + row) * g.n;
        mrc_cuda_store4(to, col, g.n, g.four, 0, v);
        return;
    }
    if (g.bias.data) {
        float bias[4];
        mrc_cuda_at4(g.bias, col, g.n, g.four, bias);
#pragma unroll
        for (int k = 0; k < 4; k++) v[k] += bias[k];
    }
    if (g.z) mrc_cuda_store4((T *)g.z + (size_t)row * g.ldz, col, g.n, g.four, 0, v);
    // Of what z holds, wanted or not: see mrc_drop().
#pragma unroll 1
    for (int k = 0; g.act && k < 4; k++) {      // in turns: code for one, and no index
        const float first = mrc_cuda_act(g.act, (float)(T)v[0]);
        v[0] = v[1];
        v[1] = v[2];
        v[2] = v[3];
        v[3] = first;
    }
    const size_t at = (size_t)row * g.ldc;
    if (g.c_f32) mrc_cuda_store4((float *)g.c + at, col, g.n, g.four, g.accumulate, v);
    else mrc_cuda_store4((T *)g.c + at, col, g.n, g.four, g.accumulate, v);
}

// Where a warp leaves 16 rows of its sums for others of its lanes: two lanes that write, or read,
// at once never meet in a bank.
template <int WN> __device__ __forceinline__ int tc_end_at(int row, int col) {
    return row * (WN + 8) + (col ^ (row & 4) * 4);
}

// A warp's sums, 16 rows at a time: through its own shared memory, so that a row is written by
// lanes that stand side by side.
template <class T, int ARCH, int WM, int WN>
__device__ __forceinline__ void tc_end(const float (&sums)[WM / 16][WN / 16][8],
                                       const tc_args &g, const tc_place_of &p, float *own) {
#pragma unroll
    for (int i = 0; i < WM / 16; i++) {
#pragma unroll
        for (int j = 0; j < WN / 16; j++) {
#pragma unroll
            for (int e = 0; e < 8; e += 2) {
                int r, c;
                tc_place<ARCH>(p.lane, e, &r, &c);
                *(float2 *)(own + tc_end_at<WN>(r, c + j * 16)) =
                    make_float2(sums[i][j][e], sums[i][j][e + 1]);
            }
        }
        __syncwarp();
#pragma unroll 1
        for (int q = p.lane; q < 16 * WN / 4; q += 32) {
            const int r = q / (WN / 4), c = q % (WN / 4) * 4;
            float v[4];
            mrc_cuda_load4(own + tc_end_at<WN>(r, c), 0, 4, 1, v);
            tc_put4<T>(g, p.m0 + p.row + i * 16 + r, p.n0 + p.col + c, v);
        }
        if (!MRC_BUG(TC_END)) __syncwarp();
    }
}

// A block's slices one after the other.  Fragments are read one step of k ahead, across slices
// too: the barrier stands before a slice's last products, so that these run while the next slice's
// first fragments come, and behind it what the slice's fragments were read from is free.
//
// Path 70: the next slice but one is fetched behind the barrier and put in its place half a slice
// later.
template <class T, int BM, int BN, int WM, int WN, bool A_BY_K, bool B_BY_K>
__device__ __forceinline__ void tc_slices_70(float (&sums)[WM / 16][WN / 16][8],
                                             const tc_args &g, const tc_place_of &p,
                                             unsigned char *smem) {
    typedef tc_tile<T, BM, A_BY_K> tile_a;
    typedef tc_tile<T, BN, B_BY_K> tile_b;
    typedef tc_step<T, 70, BM, BN, WM, WN, A_BY_K, B_BY_K> step_of;
    const int threads = BM / WM * (BN / WN) * 32, steps = step_of::IN_SLICE;
    const int stage = (int)tile_a::BYTES + (int)tile_b::BYTES;
    const int at_a = tc_start<T, BM, A_BY_K, true, 70>(p.row, p.lane);
    const int at_b = tc_start<T, BN, B_BY_K, false, 70>(p.col, p.lane);
    tc_chunks<T, BM, A_BY_K, threads> a;
    tc_chunks<T, BN, B_BY_K, threads> b;
    step_of f[2];
    const bool whole_a = a.start(g.a, p.m0, p.k0), whole_b = b.start(g.b, p.n0, p.k0);
    const int whole = whole_a && whole_b ? (p.k_end - p.k0) / (int)tile_a::K : 0;
    // Whatever stands in for a slice that is not whole, or is none.
    auto rest = [&](unsigned char *to, int s) {
        if (s < whole || s >= p.slices) return;
        a.rest(to, g.a, p.k0 + s * (int)tile_a::K, p.k_end);
        b.rest(to + tile_a::BYTES, g.b, p.k0 + s * (int)tile_a::K, p.k_end);
    };
    auto fetch = [&](int s) {
        if (s >= whole) return;
        a.fetch(g.a);
        b.fetch(g.b);
    };
    auto put = [&](unsigned char *to, int s) {
        if (s >= whole) return;
        a.put(to);
        b.put(to + tile_a::BYTES);
    };
    fetch(0);
    put(smem, 0);
    rest(smem, 0);
    __syncthreads();
    fetch(1);
    f[0].load(smem, 0, at_a, at_b, p);
    for (int s = 0; s < p.slices; s++) {
        unsigned char *now = smem + (s & 1) * stage, *next = smem + (~s & 1) * stage;
#pragma unroll
        for (int i = 0; i < steps; i++) {
            if (i == steps / 2) put(next, s + 1);
            if (i + 1 < steps) {
                f[(i + 1) & 1].load(now, i + 1, at_a, at_b, p);
            } else {
                rest(next, s + 1);
                __syncthreads();
                fetch(s + 2);
                f[0].load(next, 0, at_a, at_b, p);
            }
            f[i & 1].multiply(sums);
        }
    }
}

// Path 80: copies that run beside the products, three slices ahead.
template <class T, int BM, int BN, int WM, int WN, bool A_BY_K, bool B_BY_K>
__device__ __forceinline__ void tc_slices_80(float (&sums)[WM / 16][WN / 16][8],
                                             const tc_args &g, const tc_place_of &p,
                                             unsigned char *smem) {
    typedef tc_tile<T, BM, A_BY_K> tile_a;
    typedef tc_tile<T, BN, B_BY_K> tile_b;
    typedef tc_step<T, 80, BM, BN, WM, WN, A_BY_K, B_BY_K> step_of;
    const int threads = BM / WM * (BN / WN) * 32, stages = 3, steps = step_of::IN_SLICE;
    const int stage = (int)tile_a::BYTES + (int)tile_b::BYTES;
    const int at_a = tc_start<T, BM, A_BY_K, true, 80>(p.row, p.lane);
    const int at_b = tc_start<T, BN, B_BY_K, false, 80>(p.col, p.lane);
    tc_chunks<T, BM, A_BY_K, threads> a;
    tc_chunks<T, BN, B_BY_K, threads> b;
    step_of f[2];
    const bool whole_a = a.start(g.a, p.m0, p.k0), whole_b = b.start(g.b, p.n0, p.k0);
    const int whole = whole_a && whole_b ? (p.k_end - p.k0) / (int)tile_a::K : 0;
    auto copy = [&](unsigned char *to, int s) {
        if (s < whole) {
            a.copy(to, g.a);
            b.copy(to + tile_a::BYTES, g.b);
        } else if (s < p.slices) {
            a.rest(to, g.a, p.k0 + s * (int)tile_a::K, p.k_end);
            b.rest(to + tile_a::BYTES, g.b, p.k0 + s * (int)tile_a::K, p.k_end);
        }
        cp_async_commit();
    };
    for (int s = 0; s < stages; s++) copy(smem + s * stage, s);
    cp_async_wait<stages - 1>();
    __syncthreads();
    f[0].load(smem, 0, at_a, at_b, p);
    unsigned char *now = smem;
    for (int s = 0; s < p.slices; s++) {
        unsigned char *next = now == smem + (stages - 1) * stage ? smem : now + stage;
#pragma unroll
        for (int i = 0; i < steps; i++) {
            if (i + 1 < steps) {
                f[(i + 1) & 1].load(now, i + 1, at_a, at_b, p);
            } else {
                if (!MRC_BUG(NO_WAIT)) cp_async_wait<stages - 2>();
                __syncthreads();
                f[0].load(next, 0, at_a, at_b, p);
                copy(now, s + stages);
            }
            f[i & 1].multiply(sums);
        }
        now = next;
    }
    cp_async_wait<0>();
}

// Grid (tiles, parts).
template <class T, int ARCH, int BM, int BN, int WM, int WN, bool A_BY_K, bool B_BY_K>
__global__ void __launch_bounds__(BM / WM *(BN / WN) * 32) tc_gemm_kernel(tc_args g) {
    if (!MRC_HAS_PATH(ARCH)) return;
    MRC_DYN_SMEM(unsigned char, smem);
    const int across = (g.n + BN - 1) / BN, warp = threadIdx.x >> 5, K = tc_tile<T, BM, A_BY_K>::K;
    tc_place_of p;
    p.m0 = blockIdx.x / across * BM;
    p.n0 = blockIdx.x % across * BN;
    p.row = warp / (BN / WN) * WM;
    p.col = warp % (BN / WN) * WN;
    p.lane = threadIdx.x & 31;
    p.k0 = blockIdx.y * g.k_part;
    p.k_end = g.k - p.k0 < g.k_part ? g.k : p.k0 + g.k_part;
    p.slices = (p.k_end - p.k0 + K - 1) / K;
    float sums[WM / 16][WN / 16][8] = {};
    if constexpr (ARCH == 70) tc_slices_70<T, BM, BN, WM, WN, A_BY_K, B_BY_K>(sums, g, p, smem);
    else tc_slices_80<T, BM, BN, WM, WN, A_BY_K, B_BY_K>(sums, g, p, smem);
    __syncthreads();                    // the slices are read: their place is free
    tc_end<T, ARCH, WM, WN>(sums, g, p, (float *)smem + warp * 16 * (WN + 8));
}

// The parts of a split product, in their order: a thread has four columns of a row.
template <class T> __global__ void tc_sum_kernel(tc_args g, const float *from, int parts) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, fours = ((size_t)g.n + 3) / 4;
    const size_t row = i / fours;
    const int col = (int)(i % fours) * 4;
    if (row >= (size_t)g.m) return;
    float sum[4] = {}, v[4];
    for (int p = 0; p < parts; p++) {
        mrc_cuda_load4(from + ((size_t)p * g.m + row) * g.n, col, g.n, g.four, v);
#pragma unroll
        for (int k = 0; k < 4; k++) sum[k] += v[k];
    }
    tc_put4<T>(g, (int)row, col, sum);
}

//==============================================================================
// Host: which kernel
//==============================================================================
template <class T, int ARCH, int BM, int BN, int WM, int WN, bool A_BY_K, bool B_BY_K>
static int tc_launch(mrc_cuda *c, const tc_args &g, int parts) {
    const size_t smem = (ARCH == 70 ? 2 : 3)
                      * ((size_t)tc_tile<T, BM, A_BY_K>::BYTES + tc_tile<T, BN, B_BY_K>::BYTES);
    const int tiles = (g.m + BM - 1) / BM * ((g.n + BN - 1) / BN);
    auto *kernel = tc_gemm_kernel<T, ARCH, BM, BN, WM, WN, A_BY_K, B_BY_K>;
    if (mrc_cuda_allow(c, kernel, smem) != MRC_OK) return cudaErrorInvalidValue;
    return MRC_LAUNCH((tc_gemm_kernel<T, ARCH, BM, BN, WM, WN, A_BY_K, B_BY_K>),
                      dim3((unsigned)tiles, (unsigned)parts), BM / WM * (BN / WN) * 32, smem,
                      c->stream, g);
}

template <class T, int ARCH, bool A_BY_K, bool B_BY_K>
static int tc_pick_tile(mrc_cuda *c, const tc_args &g, int large, int parts) {
    return large ? tc_launch<T, ARCH, 128, 128, 64, 64, A_BY_K, B_BY_K>(c, g, parts)
                 : tc_launch<T, ARCH, 64, 64, 32, 32, A_BY_K, B_BY_K>(c, g, parts);
}

template <class T, int ARCH>
static int tc_pick_form(mrc_cuda *c, const tc_args &g, bool a_by_k, bool b_by_k, int large,
                        int parts) {
    if (a_by_k && b_by_k) return tc_pick_tile<T, ARCH, true, true>(c, g, large, parts);
    if (a_by_k) return tc_pick_tile<T, ARCH, true, false>(c, g, large, parts);
    if (b_by_k) return tc_pick_tile<T, ARCH, false, true>(c, g, large, parts);
    return tc_pick_tile<T, ARCH, false, false>(c, g, large, parts);
}

// Volta's instruction knows f16 alone.
static int tc_pick_path(__half, mrc_cuda *c, const tc_args &g, bool a_by_k, bool b_by_k,
                        int large, int parts) {
    return c->path < 80 ? tc_pick_form<__half, 70>(c, g, a_by_k, b_by_k, large, parts)
                     : tc_pick_form<__half, 80>(c, g, a_by_k, b_by_k, large, parts);
}
template <class T>
static int tc_pick_path(T, mrc_cuda *c, const tc_args &g, bool a_by_k, bool b_by_k, int large,
                        int parts) {
    return tc_pick_form<T, 80>(c, g, a_by_k, b_by_k, large, parts);
}

static int tc_is_large(const mrc_cuda_product *p) {
    return p->m > 64 && p->n > 64 && mrc_cuda_gemm_tiles(p, 128) >= 32;
}

static size_t tc_parts(const mrc_cuda_product *p, int path) {
    const int large = tc_is_large(p);
    return mrc_cuda_waves(mrc_cuda_gemm_tiles(p, large ? 128 : 64), p->k, mrc_cuda_slots(path),
                          large ? 400 : 100, 256);
}
static inline size_t mrc_cuda_gemm_tc_scratch(const mrc_cuda_product *p, int path) {
    size_t parts = tc_parts(p, path);
    return parts < 2 ? 0 : parts * p->m * p->n * sizeof(float);
}

template <class T> static tc_operand tc_operand_of(mrc_in v, size_t rows) {
    return { v.data, v.ld, (int)rows,
             (uintptr_t)v.data % TC_CHUNK == 0 && v.ld % (TC_CHUNK / sizeof(T)) == 0 };
}

static inline bool tc_is_too_large(const mrc_cuda_product *p) {
    return p->m > INT32_MAX / 2 || p->n > INT32_MAX / 2 || p->k > INT32_MAX / 2
        || mrc_cuda_gemm_tiles(p, 64) > INT32_MAX;
}

// A product in parts of k, whole slices each, whose sums go to scratch where there are several.
template <class T>
static tc_args tc_args_of(const mrc_cuda_product *p, size_t parts, size_t slice, void *scratch) {
    tc_args g = {};
    g.a = tc_operand_of<T>(p->a, p->m);
    g.b = tc_operand_of<T>(p->b, p->n);
    g.m = (int)p->m;
    g.n = (int)p->n;
    g.k = (int)p->k;
    g.k_part = (int)(((p->k + parts - 1) / parts + slice - 1) / slice * slice);
    g.c = p->c.data;
    g.ldc = p->c.ld;
    g.c_f32 = p->c.dtype == MRC_DTYPE_F32;
    g.accumulate = p->c.accumulate;
    g.z = p->z.data;
    g.ldz = p->z.ld;
    g.act = p->act;
    g.bias = mrc_cuda_vector_of(p->bias);
    g.parts = parts > 1 ? (float *)scratch : nullptr;
    const uintptr_t at = (uintptr_t)g.c | (uintptr_t)g.z | (uintptr_t)g.parts
                       | (uintptr_t)g.bias.data;
    g.four = p->n % 4 == 0 && p->c.ld % 4 == 0 && p->z.ld % 4 == 0 && at % 16 == 0;
    return g;
}
// The parts' sums, where there are several.
template <class T>
static mrc_status tc_sum_parts(mrc_cuda *c, const mrc_cuda_product *p, tc_args g, int parts) {
    if (parts == 1) return MRC_OK;
    const float *from = g.parts;
    g.parts = nullptr;
    const unsigned blocks = mrc_cuda_blocks(p->m * ((p->n + 3) / 4), 256);
    return mrc_cuda_check(c, MRC_LAUNCH(tc_sum_kernel<T>, blocks, 256, 0, c->stream, g, from,
                                        parts));
}

// scratch: mrc_cuda_gemm_tc_scratch() bytes, or NULL: k is not split.
template <class T>
static mrc_status mrc_cuda_gemm_tc(mrc_cuda *c, const mrc_cuda_product *p, void *scratch) {
    if (p->m == 0 || p->n == 0) return MRC_OK;
    if (tc_is_too_large(p)) return MRC_ERR_UNSUPPORTED;
    const int parts = scratch ? (int)tc_parts(p, c->path) : 1;
    const tc_args g = tc_args_of<T>(p, (size_t)parts, TC_SLICE / sizeof(T), scratch);
    const int e = tc_pick_path(T(), c, g, !p->a_transposed, p->b_transposed, tc_is_large(p),
                               parts);
    return e ? mrc_cuda_check(c, e) : tc_sum_parts<T>(c, p, g, parts);
}
