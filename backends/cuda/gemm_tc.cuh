// gemm_tc.cuh - matrix products on tensor cores: f16, bf16, and f32 by way of TF32
//
// c (m, n) = a (m, k) b (k, n), sums in f32.  A block of threads makes one tile of c, BM x BN, from
// slices of k that are 64 bytes of an element wide; a warp makes WM x 32 of it.  An operand lies in
// shared memory as it lies in memory: rows of k ("by k"), or rows of its m or n.  Path 80 keeps
// three slices there, copied asynchronously; path 70 two, by way of registers.  What cannot be read
// 16 bytes at a time (an odd leading dimension, an address in between) is read by elements.
//
// Small products of long k are split into parts of k, made by blocks of their own and summed in
// their order: how often depends on the shape alone, so neither the device nor chance is in the
// bits.
#pragma once
#include "gemm.cuh"
#include "mma.cuh"

enum {
    TC_CHUNK = 16,                      // bytes that a thread moves at a time
    TC_SLICE = 64,                      // bytes of k in a slice
    TC_WN = 32                          // columns of c of a warp
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
    int pairs;                          // two columns can be written at once, from even ones on
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

// A thread's chunks of an operand, slice after slice: where the next one begins, and how many of
// its bytes exist where the slice is full.
template <class T, int R, bool BY_K, int THREADS> struct tc_chunks {
    typedef tc_tile<T, R, BY_K> tile;
    enum { EACH = (int)tile::CHUNKS / THREADS };
    const T *at[EACH];
    int bytes[EACH], k0, k_end;
    bool whole;                         // all of them exist, and are aligned, in a full slice
    uint4 held[EACH];                   // on path 70, on their way

    __device__ __forceinline__ void start(const tc_operand &o, int r, int k, int end) {
        k0 = k;
        k_end = end;
        whole = o.aligned;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            int count;
            const int chunk = (int)threadIdx.x + i * THREADS;
            at[i] = tile::source(o, r, BY_K ? 0 : k0, BY_K ? (int)tile::K : k_end, chunk, &count);
            if (BY_K && count) at[i] += k0;
            bytes[i] = count * (int)sizeof(T);
            whole = whole && bytes[i] == TC_CHUNK;
        }
    }
    // Bytes of chunk i that exist in the slice, which may be the last one.
    __device__ __forceinline__ int there(int i) const {
        if (k_end - k0 >= tile::K) return bytes[i];
        const int chunk = (int)threadIdx.x + i * THREADS;
        const int left = (k_end - k0 - chunk % (int)tile::IN_ROW * (int)tile::PER_CHUNK)
                       * (int)sizeof(T);
        if (!BY_K) return k0 + chunk / (int)tile::IN_ROW < k_end ? bytes[i] : 0;
        return left < 0 ? 0 : left < bytes[i] ? left : bytes[i];
    }
    // What does not exist is never read, so its address may move on too.
    __device__ __forceinline__ void advance(const tc_operand &o) {
        k0 += tile::K;
#pragma unroll
        for (int i = 0; i < EACH; i++) at[i] += BY_K ? (size_t)tile::K : (size_t)tile::K * o.ld;
    }
    // Begins moving a slice to shared memory, and turns to the next one; the caller commits and
    // waits.
    __device__ __forceinline__ void copy(unsigned char *to, const tc_operand &o) {
        const bool all = whole && k_end - k0 >= tile::K;
#pragma unroll
        for (int i = 0; all && i < EACH; i++) {
            cp_async_16(to + tile::target((int)threadIdx.x + i * THREADS), at[i], TC_CHUNK);
        }
#pragma unroll
        for (int i = 0; !all && i < EACH; i++) {
            unsigned char *into = to + tile::target((int)threadIdx.x + i * THREADS);
            const int n = there(i);
            if (o.aligned) cp_async_16(into, n ? at[i] : (const T *)o.data, n);
            else *(uint4 *)into = tc_gather(at[i], n / (int)sizeof(T));
        }
        advance(o);
    }
    // The same by way of registers: fetch() is followed by put().
    __device__ __forceinline__ void fetch(const tc_operand &o) {
        const bool all = whole && k_end - k0 >= tile::K;
#pragma unroll
        for (int i = 0; all && i < EACH; i++) held[i] = *(const uint4 *)at[i];
#pragma unroll
        for (int i = 0; !all && i < EACH; i++) {
            const int n = there(i);
            if (o.aligned && n == TC_CHUNK) held[i] = *(const uint4 *)at[i];
            else held[i] = tc_gather(at[i], n / (int)sizeof(T));
        }
        advance(o);
    }
    __device__ __forceinline__ void put(unsigned char *to) const {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            *(uint4 *)(to + tile::target((int)threadIdx.x + i * THREADS)) = held[i];
        }
    }
};

// Fragments of 16 rows r.. of a at k.., or of 16 columns of b: two of 8, words 0, 1 and 2, 3.
template <class T, int R, bool BY_K, bool IS_A>
__device__ void tc_fragment(unsigned *w, const unsigned char *s, int r, int k, int lane) {
    typedef tc_tile<T, R, BY_K> tile;
    if (sizeof(T) == 2) {
        int row = (lane & 7) + (BY_K == IS_A ? lane & 8 : lane >> 4 << 3);
        int col = BY_K == IS_A ? lane >> 4 << 3 : lane & 8;
        ldmatrix_x4<!BY_K>(w, s + (BY_K ? tile::place(r + row, (k + col) * 2)
                                        : tile::place(k + row, (r + col) * 2)));
        return;
    }
    int g = lane >> 2, t = lane & 3;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = r + g + (IS_A ? i & 1 : i >> 1) * 8, col = k + t + (IS_A ? i >> 1 : i & 1) * 4;
        w[i] = tf32_of(*(const float *)(s + (BY_K ? tile::place(row, col * 4)
                                                  : tile::place(col, row * 4))));
    }
}

// Volta's: four k of 16 rows, 4 (q & 1) + 8 h + .. for a (q >> 1 for b) so that no banks collide.
template <class T, int R, bool BY_K, bool IS_A>
__device__ void tc_fragment_70(unsigned *w, const unsigned char *s, int r, int k, int lane) {
    typedef tc_tile<T, R, BY_K> tile;
    int q = lane >> 2 & 3, t = lane & 3;
    int first = r + (IS_A ? q & 1 : q >> 1) * 4 + (lane >> 4) * 8;
    const unsigned char *at = s + (BY_K ? tile::place(first + t, k * 2)
                                        : tile::place(k + t, first * 2));
    uint2 v = *(const uint2 *)at;
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

// A warp's part of the product of two slices: sums[i][j] are 16 x 16.
template <class T, int ARCH, int BM, int BN, int WM, bool A_BY_K, bool B_BY_K>
__device__ void tc_multiply(float (&sums)[WM / 16][2][8], const unsigned char *a,
                            const unsigned char *b, int row, int col, int lane) {
    const int step = ARCH == 70 ? 4 : 32 / (int)sizeof(T);
#pragma unroll
    for (int k = 0; k < TC_SLICE / (int)sizeof(T); k += step) {
        unsigned fb[2][4];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            if (ARCH == 70) {
                tc_fragment_70<T, BN, B_BY_K, false>(fb[j], b, col + j * 16, k, lane);
            } else {
                tc_fragment<T, BN, B_BY_K, false>(fb[j], b, col + j * 16, k, lane);
            }
        }
#pragma unroll
        for (int i = 0; i < WM / 16; i++) {
            unsigned fa[4];
            if (ARCH == 70) tc_fragment_70<T, BM, A_BY_K, true>(fa, a, row + i * 16, k, lane);
            else tc_fragment<T, BM, A_BY_K, true>(fa, a, row + i * 16, k, lane);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                if (ARCH == 70) {
                    mma_884<A_BY_K, B_BY_K>(sums[i][j], fa, fb[j]);
                } else {
                    tc_mma(T(), sums[i][j], fa, fb[j]);
                    tc_mma(T(), sums[i][j] + 4, fa, fb[j] + 2);
                }
            }
        }
    }
}

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

template <class T> __device__ void tc_put(const tc_args &g, int row, int col, float v) {
    if (row >= g.m || col >= g.n) return;
    if (g.parts) {
        g.parts[((size_t)blockIdx.y * g.m + row) * g.n + col] = v;
        return;
    }
    if (g.bias.data) v += mrc_cuda_at(g.bias, (size_t)col);
    if (g.z) ((T *)g.z)[(size_t)row * g.ldz + col] = (T)v;
    // Of what z holds, wanted or not: see mrc_drop().
    if (g.act) v = mrc_cuda_act(g.act, (float)(T)v);
    size_t at = (size_t)row * g.ldc + col;
    if (g.c_f32) mrc_cuda_give((float *)g.c + at, v, g.accumulate);
    else mrc_cuda_give((T *)g.c + at, v, g.accumulate);
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

// As tc_put() of columns col, which is even, and col + 1.
template <class T> __device__ void tc_put2(const tc_args &g, int row, int col, float a, float b) {
    if (!g.pairs) {
        tc_put<T>(g, row, col, a);
        tc_put<T>(g, row, col + 1, b);
        return;
    }
    if (row >= g.m || col >= g.n) return;
    if (g.parts) {
        tc_give2<float>(g.parts, ((size_t)blockIdx.y * g.m + row) * g.n + col, a, b, 0);
        return;
    }
    if (g.bias.data) {
        a += mrc_cuda_at(g.bias, (size_t)col);
        b += mrc_cuda_at(g.bias, (size_t)col + 1);
    }
    if (g.z) tc_give2<T>(g.z, (size_t)row * g.ldz + col, a, b, 0);
    if (g.act) {
        a = mrc_cuda_act(g.act, (float)(T)a);
        b = mrc_cuda_act(g.act, (float)(T)b);
    }
    const size_t at = (size_t)row * g.ldc + col;
    if (g.c_f32) tc_give2<float>(g.c, at, a, b, g.accumulate);
    else tc_give2<T>(g.c, at, a, b, g.accumulate);
}

// What a block makes: its tile's rows and columns, a warp's place in it, and its part of k.
typedef struct tc_place_of { int m0, n0, row, col, lane, k0, k_end, slices; } tc_place_of;

// A block's slices one after the other, by way of registers: the next one is fetched before this
// one is multiplied.
template <class T, int BM, int BN, int WM, bool A_BY_K, bool B_BY_K>
__device__ __forceinline__ void tc_slices_70(float (&sums)[WM / 16][2][8], const tc_args &g,
                                             const tc_place_of &p, unsigned char *smem) {
    typedef tc_tile<T, BM, A_BY_K> tile_a;
    typedef tc_tile<T, BN, B_BY_K> tile_b;
    const int threads = BM / WM * (BN / TC_WN) * 32;
    const int stage = (int)tile_a::BYTES + (int)tile_b::BYTES;
    tc_chunks<T, BM, A_BY_K, threads> a;
    tc_chunks<T, BN, B_BY_K, threads> b;
    a.start(g.a, p.m0, p.k0, p.k_end);
    b.start(g.b, p.n0, p.k0, p.k_end);
    for (int s = -1; s < p.slices; s++) {
        const bool more = s + 1 < p.slices;
        unsigned char *next = smem + ((s + 1) & 1) * stage, *now = smem + (s & 1) * stage;
        __syncthreads();
        if (more) {
            a.fetch(g.a);
            b.fetch(g.b);
        }
        if (s >= 0) {
            tc_multiply<T, 70, BM, BN, WM, A_BY_K, B_BY_K>(sums, now, now + tile_a::BYTES, p.row,
                                                           p.col, p.lane);
        }
        if (more) {
            a.put(next);
            b.put(next + tile_a::BYTES);
        }
    }
}

// The same with copies that run beside the products, two slices ahead.
template <class T, int BM, int BN, int WM, bool A_BY_K, bool B_BY_K>
__device__ __forceinline__ void tc_slices_80(float (&sums)[WM / 16][2][8], const tc_args &g,
                                             const tc_place_of &p, unsigned char *smem) {
    typedef tc_tile<T, BM, A_BY_K> tile_a;
    typedef tc_tile<T, BN, B_BY_K> tile_b;
    const int threads = BM / WM * (BN / TC_WN) * 32, stages = 3;
    const int stage = (int)tile_a::BYTES + (int)tile_b::BYTES;
    tc_chunks<T, BM, A_BY_K, threads> a;
    tc_chunks<T, BN, B_BY_K, threads> b;
    a.start(g.a, p.m0, p.k0, p.k_end);
    b.start(g.b, p.n0, p.k0, p.k_end);
    for (int s = -2; s < p.slices; s++) {
        if (s >= 0 && !MRC_BUG(NO_WAIT)) cp_async_wait<1>();
        __syncthreads();
        if (s + 2 < p.slices) {
            unsigned char *next = smem + (s + 2) % stages * stage;
            a.copy(next, g.a);
            b.copy(next + tile_a::BYTES, g.b);
        }
        cp_async_commit();
        if (s < 0) continue;
        const unsigned char *now = smem + s % stages * stage;
        tc_multiply<T, 80, BM, BN, WM, A_BY_K, B_BY_K>(sums, now, now + tile_a::BYTES, p.row,
                                                       p.col, p.lane);
    }
    cp_async_wait<0>();
}

// Grid (tiles, parts).
template <class T, int ARCH, int BM, int BN, int WM, bool A_BY_K, bool B_BY_K>
__global__ void __launch_bounds__(BM / WM *(BN / TC_WN) * 32) tc_gemm_kernel(tc_args g) {
    if (!MRC_HAS_PATH(ARCH)) return;
    MRC_DYN_SMEM(unsigned char, smem);
    const int across = (g.n + BN - 1) / BN, warp = threadIdx.x >> 5, K = tc_tile<T, BM, A_BY_K>::K;
    tc_place_of p;
    p.m0 = blockIdx.x / across * BM;
    p.n0 = blockIdx.x % across * BN;
    p.row = warp / (BN / TC_WN) * WM;
    p.col = warp % (BN / TC_WN) * TC_WN;
    p.lane = threadIdx.x & 31;
    p.k0 = blockIdx.y * g.k_part;
    p.k_end = g.k - p.k0 < g.k_part ? g.k : p.k0 + g.k_part;
    p.slices = (p.k_end - p.k0 + K - 1) / K;
    float sums[WM / 16][2][8] = {};
    if constexpr (ARCH == 70) tc_slices_70<T, BM, BN, WM, A_BY_K, B_BY_K>(sums, g, p, smem);
    else tc_slices_80<T, BM, BN, WM, A_BY_K, B_BY_K>(sums, g, p, smem);
#pragma unroll
    for (int i = 0; i < WM / 16; i++) {
#pragma unroll
        for (int j = 0; j < 2; j++) {
#pragma unroll
            for (int e = 0; e < 8; e += 2) {
                int r, c;
                tc_place<ARCH>(p.lane, e, &r, &c);
                tc_put2<T>(g, p.m0 + p.row + i * 16 + r, p.n0 + p.col + j * 16 + c,
                           sums[i][j][e], sums[i][j][e + 1]);
            }
        }
    }
}

// The parts of a split product, in their order.
template <class T> __global__ void tc_sum_kernel(tc_args g, const float *from, int parts) {
    size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, all = (size_t)g.m * g.n;
    if (i >= all) return;
    float sum = 0;
    for (int p = 0; p < parts; p++) sum += from[(size_t)p * all + i];
    tc_put<T>(g, (int)(i / g.n), (int)(i % g.n), sum);
}

//==============================================================================
// Host: which kernel
//==============================================================================
template <class T, int ARCH, int BM, int BN, int WM, bool A_BY_K, bool B_BY_K>
static int tc_launch(const tc_args &g, int parts, cudaStream_t stream) {
    const size_t smem = (ARCH == 70 ? 2 : 3)
                      * ((size_t)tc_tile<T, BM, A_BY_K>::BYTES + tc_tile<T, BN, B_BY_K>::BYTES);
    const int tiles = (g.m + BM - 1) / BM * ((g.n + BN - 1) / BN);
    int e = (int)cudaFuncSetAttribute(tc_gemm_kernel<T, ARCH, BM, BN, WM, A_BY_K, B_BY_K>,
                                      cudaFuncAttributeMaxDynamicSharedMemorySize, (int)smem);
    if (e) return e;
    return MRC_LAUNCH((tc_gemm_kernel<T, ARCH, BM, BN, WM, A_BY_K, B_BY_K>),
                      dim3((unsigned)tiles, (unsigned)parts), BM / WM * (BN / TC_WN) * 32, smem,
                      stream, g);
}

template <class T, int ARCH, bool A_BY_K, bool B_BY_K>
static int tc_pick_tile(const tc_args &g, int large, int parts, cudaStream_t stream) {
    return large ? tc_launch<T, ARCH, 128, 128, 64, A_BY_K, B_BY_K>(g, parts, stream)
                 : tc_launch<T, ARCH, 64, 64, 32, A_BY_K, B_BY_K>(g, parts, stream);
}

template <class T, int ARCH>
static int tc_pick_form(const tc_args &g, bool a_by_k, bool b_by_k, int large, int parts,
                        cudaStream_t stream) {
    if (a_by_k && b_by_k) return tc_pick_tile<T, ARCH, true, true>(g, large, parts, stream);
    if (a_by_k) return tc_pick_tile<T, ARCH, true, false>(g, large, parts, stream);
    if (b_by_k) return tc_pick_tile<T, ARCH, false, true>(g, large, parts, stream);
    return tc_pick_tile<T, ARCH, false, false>(g, large, parts, stream);
}

// Volta's instruction knows f16 alone.
static int tc_pick_path(__half, const tc_args &g, int path, bool a_by_k, bool b_by_k, int large,
                        int parts, cudaStream_t stream) {
    return path < 80 ? tc_pick_form<__half, 70>(g, a_by_k, b_by_k, large, parts, stream)
                     : tc_pick_form<__half, 80>(g, a_by_k, b_by_k, large, parts, stream);
}
template <class T>
static int tc_pick_path(T, const tc_args &g, int, bool a_by_k, bool b_by_k, int large, int parts,
                        cudaStream_t stream) {
    return tc_pick_form<T, 80>(g, a_by_k, b_by_k, large, parts, stream);
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

// scratch: mrc_cuda_gemm_tc_scratch() bytes, or NULL: k is not split.
template <class T>
static mrc_status mrc_cuda_gemm_tc(mrc_cuda *c, const mrc_cuda_product *p, void *scratch) {
    if (p->m == 0 || p->n == 0) return MRC_OK;
    if (p->m > INT32_MAX / 2 || p->n > INT32_MAX / 2 || p->k > INT32_MAX / 2
        || mrc_cuda_gemm_tiles(p, 64) > INT32_MAX) return MRC_ERR_UNSUPPORTED;
    const size_t parts = scratch ? tc_parts(p, c->path) : 1, slice = TC_SLICE / sizeof(T);
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
    g.pairs = p->n % 2 == 0 && p->c.ld % 2 == 0 && p->z.ld % 2 == 0
           && ((uintptr_t)g.c | (uintptr_t)g.z | (uintptr_t)g.parts) % 8 == 0;
    int e = tc_pick_path(T(), g, c->path, !p->a_transposed, p->b_transposed, tc_is_large(p),
                         (int)parts, c->stream);
    if (e || parts == 1) return mrc_cuda_check(c, e);
    g.parts = nullptr;
    return mrc_cuda_check(c, MRC_LAUNCH(tc_sum_kernel<T>, mrc_cuda_blocks(p->m * p->n, 256), 256,
                                        0, c->stream, g, (const float *)scratch, (int)parts));
}
