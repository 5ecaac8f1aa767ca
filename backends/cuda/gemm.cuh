// gemm.cuh - matrix products in f32: a tile of c per block, slices of k through shared memory
//
// Whole tiles of 128 x 128 of a large product are made by gemm_whole.cuh; what is left of it at the
// edges, and small or unaligned products, by tiles of 64 x 64 here: 256 threads stand in a square
// of 16 x 16, each holds 4 x 4 elements, and the next slice is on its way to registers while this
// one is multiplied.  k is cut into parts, whose sums a second kernel adds up in their order, where
// that keeps a device busier than it costs.  How depends on the shape and the path alone, so a
// product has the same bits on every device of a path.
#ifndef MRC_CUDA_GEMM_CUH
#define MRC_CUDA_GEMM_CUH
#include "common.cuh"

enum {
    MRC_CUDA_SLICE = 16,                // of k
    MRC_CUDA_GEMM_THREADS = 256,
    MRC_CUDA_EACH = 4,                  // rows, and columns, of c that a thread has
    MRC_CUDA_TILE = 16 * MRC_CUDA_EACH, // that a block has
    MRC_CUDA_PARTS = 32                 // of k, at most
};

// c (m, n) = act(a b + bias), as mrc_gemm_args; z: before the activation.  data NULL: none of it.
typedef struct mrc_cuda_product {
    size_t  m, n, k;
    int     a_transposed, b_transposed;
    mrc_in  a, b, bias;
    mrc_out c, z;
    mrc_act act;
} mrc_cuda_product;

typedef struct mrc_cuda_gemm_args {
    int    m, n, k, k_part;
    const float *a, *b;
    size_t lda, ldb, ldc, ldz;
    float *c, *z, *parts;               // parts: (.., m, n), what parts of k gave, or NULL
    size_t part_stride, ld_parts;       // from a part to the next one, from a row to the next one
    mrc_cuda_vector bias;
    int    act, accumulate;
} mrc_cuda_gemm_args;

#include "gemm_whole.cuh"

__device__ __forceinline__ void mrc_cuda_gemm_finish(const mrc_cuda_gemm_args &g, int row, int col,
                                                     float v) {
    if (g.bias.data) v += mrc_cuda_at(g.bias, (size_t)col);
    if (g.z) g.z[(size_t)row * g.ldz + col] = v;
    if (g.act) v = mrc_cuda_act(g.act, v);
    mrc_cuda_give(g.c + (size_t)row * g.ldc + col, v, g.accumulate);
}

// One operand's slice, rows (of a) or columns (of b) first .. first + TILE, into EACH registers a
// thread; what lies outside is 0.
template <bool BY_K>
__device__ __forceinline__ void mrc_cuda_gemm_fetch(float (&r)[MRC_CUDA_EACH], const float *from,
                                                    size_t ld, int first, int rows, int k0,
                                                    int k_end) {
#pragma unroll
    for (int i = 0; i < MRC_CUDA_EACH; i++) {
        const int e = (int)threadIdx.x + MRC_CUDA_GEMM_THREADS * i;
        const int row = first + (BY_K ? e / MRC_CUDA_SLICE : e % MRC_CUDA_TILE);
        const int k = k0 + (BY_K ? e % MRC_CUDA_SLICE : e / MRC_CUDA_TILE);
        const size_t at = BY_K ? (size_t)row * ld + k : (size_t)k * ld + row;
        r[i] = row < rows && k < k_end ? from[at] : 0.0f;
    }
}
template <bool BY_K>
__device__ __forceinline__ void mrc_cuda_gemm_store(float (*to)[MRC_CUDA_TILE + 4],
                                                    const float (&r)[MRC_CUDA_EACH]) {
#pragma unroll
    for (int i = 0; i < MRC_CUDA_EACH; i++) {
        const int e = (int)threadIdx.x + MRC_CUDA_GEMM_THREADS * i;
        if (BY_K) to[e % MRC_CUDA_SLICE][e / MRC_CUDA_SLICE] = r[i];
        else to[e / MRC_CUDA_TILE][e % MRC_CUDA_TILE] = r[i];
    }
}

// A_BY_K: a is (m, k) as it stands, else transposed; B_BY_K: b is transposed, (n, k).
template <bool A_BY_K, bool B_BY_K>
__global__ void __launch_bounds__(MRC_CUDA_GEMM_THREADS)
mrc_cuda_gemm_kernel(mrc_cuda_gemm_args g) {
    struct slices {
        float a[MRC_CUDA_SLICE][MRC_CUDA_TILE + 4], b[MRC_CUDA_SLICE][MRC_CUDA_TILE + 4];
    };
    enum { E = MRC_CUDA_EACH };
    MRC_DYN_SMEM(slices, s);
    const int m0 = (int)blockIdx.x * MRC_CUDA_TILE, n0 = (int)blockIdx.y * MRC_CUDA_TILE;
    const int tx = (int)threadIdx.x % 16, ty = (int)threadIdx.x / 16;
    int k = (int)blockIdx.z * g.k_part;
    const int k_end = k + g.k_part < g.k ? k + g.k_part : g.k;
    float sum[E][E] = {}, ra[E], rb[E];
    mrc_cuda_gemm_fetch<A_BY_K>(ra, g.a, g.lda, m0, g.m, k, k_end);
    mrc_cuda_gemm_fetch<B_BY_K>(rb, g.b, g.ldb, n0, g.n, k, k_end);
    for (; k < k_end; k += MRC_CUDA_SLICE) {
        mrc_cuda_gemm_store<A_BY_K>(s->a, ra);
        mrc_cuda_gemm_store<B_BY_K>(s->b, rb);
        __syncthreads();
        mrc_cuda_gemm_fetch<A_BY_K>(ra, g.a, g.lda, m0, g.m, k + MRC_CUDA_SLICE, k_end);
        mrc_cuda_gemm_fetch<B_BY_K>(rb, g.b, g.ldb, n0, g.n, k + MRC_CUDA_SLICE, k_end);
#pragma unroll
        for (int kk = 0; kk < MRC_CUDA_SLICE; kk++) {
            const float4 p = *(const float4 *)&s->a[kk][E * ty];
            const float4 q = *(const float4 *)&s->b[kk][E * tx];
            const float a[E] = { p.x, p.y, p.z, p.w }, b[E] = { q.x, q.y, q.z, q.w };
#pragma unroll
            for (int i = 0; i < E; i++) {
#pragma unroll
                for (int j = 0; j < E; j++) sum[i][j] += a[i] * b[j];
            }
        }
        if (!MRC_BUG(NO_BARRIER)) __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < E; i++) {
        const int row = m0 + E * ty + i;
#pragma unroll
        for (int j = 0; j < E; j++) {
            const int col = n0 + E * tx + j;
            if (row >= g.m + MRC_BUG(TAIL) || col >= g.n) continue;
            if (g.parts) {
                g.parts[blockIdx.z * g.part_stride + row * g.ld_parts + col] = sum[i][j];
            } else {
                mrc_cuda_gemm_finish(g, row, col, sum[i][j]);
            }
        }
    }
}

__global__ void __launch_bounds__(256) mrc_cuda_gemm_add_parts(mrc_cuda_gemm_args g, int n_parts) {
    const size_t all = (size_t)g.m * g.n, i = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (i >= all) return;
    float sum = 0;
    for (int p = 0; p < n_parts; p++) sum += g.parts[p * all + i];
    mrc_cuda_gemm_finish(g, (int)(i / g.n), (int)(i % g.n), sum);
}

static inline size_t mrc_cuda_gemm_tiles(const mrc_cuda_product *p, size_t tile) {
    return ((p->m + tile - 1) / tile) * ((p->n + tile - 1) / tile);
}

// Blocks that devices of a path run at once: two on each of the 80 processors of a V100, the 132 of
// an H100.
static inline size_t mrc_cuda_slots(int path) { return path < 80 ? 160 : 264; }

// How many parts k is cut into, none shorter than `least`.  A device runs tiles in waves of `slots`
// and waits for the last wave; a part more costs as much time as `price` of k, for it is written
// and read once more.
static inline size_t mrc_cuda_waves(size_t tiles, size_t k, size_t slots, size_t price,
                                    size_t least) {
    size_t best = 1, best_cost = SIZE_MAX;
    if (tiles == 0) return 1;
    for (size_t parts = 1; parts <= MRC_CUDA_PARTS; parts++) {
        if (parts > 1 && k / parts < least) break;
        const size_t waves = (tiles * parts + slots - 1) / slots;
        const size_t cost = waves * slots * k / (tiles * parts) + (parts > 1) * price * parts;
        if (cost >= best_cost) continue;
        best = parts;
        best_cost = cost;
    }
    return best;
}

// Whether whole tiles are worth a kernel of their own: there are enough of them, all that they read
// and write begins on 16 bytes, and so does what is left of k in rows of k.
static inline int mrc_cuda_gemm_is_whole(const mrc_cuda_product *p) {
    const uintptr_t at = (uintptr_t)p->a.data | (uintptr_t)p->b.data | (uintptr_t)p->c.data
                       | (uintptr_t)p->z.data;
    const size_t ld = p->a.ld | p->b.ld | p->c.ld | (p->z.data ? p->z.ld : 0) | p->n;
    return p->m / MRC_CUDA_WHOLE * (p->n / MRC_CUDA_WHOLE) >= 32 && at % 16 == 0 && ld % 4 == 0
        && (p->a_transposed ? p->k : p->m) + MRC_CUDA_WHOLE_K < INT32_MAX / (p->a.ld + 1)
        && (p->b_transposed ? p->n : p->k) + MRC_CUDA_WHOLE_K < INT32_MAX / (p->b.ld + 1)
        && (p->k % 4 == 0 || (p->a_transposed && !p->b_transposed))
        && !(p->a_transposed && p->b_transposed) && !(p->bias.data && p->c.accumulate)
        && (p->act == MRC_ACT_NONE || p->act == MRC_ACT_GELU);
}

// Asked without addresses too, for the plan: then large products count as aligned.
static inline size_t mrc_cuda_gemm_parts(const mrc_cuda_product *p, int path) {
    const size_t whole = p->m / MRC_CUDA_WHOLE * (p->n / MRC_CUDA_WHOLE);
    if (whole >= 32) {
        return mrc_cuda_waves(mrc_cuda_gemm_tiles(p, MRC_CUDA_WHOLE), p->k, mrc_cuda_slots(path),
                              64, 128);
    }
    return mrc_cuda_waves(mrc_cuda_gemm_tiles(p, MRC_CUDA_TILE), p->k, mrc_cuda_slots(path), 16,
                          128);
}
static inline size_t mrc_cuda_gemm_scratch_f32(const mrc_cuda_product *p, int path) {
    const size_t parts = mrc_cuda_gemm_parts(p, path);
    return parts < 2 ? 0 : parts * p->m * p->n * sizeof(float);
}

// Tiles of 64 x 64 over all that g has.
static int mrc_cuda_gemm_launch(mrc_cuda *c, const mrc_cuda_product *p,
                                const mrc_cuda_gemm_args &g, size_t parts) {
    const dim3 grid(mrc_cuda_blocks((size_t)g.m, MRC_CUDA_TILE),
                    mrc_cuda_blocks((size_t)g.n, MRC_CUDA_TILE), (unsigned)parts);
    if (g.m == 0 || g.n == 0) return cudaSuccess;
    const size_t shared = 2 * MRC_CUDA_SLICE * (MRC_CUDA_TILE + 4) * sizeof(float);
    if (!p->a_transposed && p->b_transposed) {
        return MRC_LAUNCH((mrc_cuda_gemm_kernel<true, true>), grid, MRC_CUDA_GEMM_THREADS,
                          shared, c->stream, g);
    }
    if (!p->a_transposed) {
        return MRC_LAUNCH((mrc_cuda_gemm_kernel<true, false>), grid, MRC_CUDA_GEMM_THREADS,
                          shared, c->stream, g);
    }
    if (p->b_transposed) {
        return MRC_LAUNCH((mrc_cuda_gemm_kernel<false, true>), grid, MRC_CUDA_GEMM_THREADS,
                          shared, c->stream, g);
    }
    return MRC_LAUNCH((mrc_cuda_gemm_kernel<false, false>), grid, MRC_CUDA_GEMM_THREADS, shared,
                      c->stream, g);
}

template <bool A_BY_K, bool B_BY_K, int END>
static int mrc_cuda_whole_launch(mrc_cuda *c, mrc_cuda_gemm_args g, size_t parts) {
    if (g.parts) {
        g.c = g.parts;
        g.ldc = g.ld_parts;
        g.accumulate = 0;
    } else {
        g.part_stride = 0;
    }
    const dim3 grid((unsigned)(g.m / MRC_CUDA_WHOLE), (unsigned)(g.n / MRC_CUDA_WHOLE),
                    (unsigned)parts);
    if (mrc_cuda_allow(c, mrc_cuda_gemm_whole<A_BY_K, B_BY_K, END>,
                       sizeof(mrc_cuda_whole_slices)) != MRC_OK) return cudaErrorInvalidValue;
    return MRC_LAUNCH((mrc_cuda_gemm_whole<A_BY_K, B_BY_K, END>), grid, 256,
                      sizeof(mrc_cuda_whole_slices), c->stream, g);
}
template <int END>
static int mrc_cuda_whole_form(mrc_cuda *c, const mrc_cuda_product *p, const mrc_cuda_gemm_args &g,
                               size_t parts) {
    if (p->a_transposed) return mrc_cuda_whole_launch<false, false, END>(c, g, parts);
    if (p->b_transposed) return mrc_cuda_whole_launch<true, true, END>(c, g, parts);
    return mrc_cuda_whole_launch<true, false, END>(c, g, parts);
}

// g without its first rows and columns.
static mrc_cuda_gemm_args mrc_cuda_gemm_rest(const mrc_cuda_product *p, mrc_cuda_gemm_args g,
                                             int row, int column) {
    g.a += p->a_transposed ? (size_t)row : (size_t)row * g.lda;
    g.b += p->b_transposed ? (size_t)column * g.ldb : (size_t)column;
    g.c += (size_t)row * g.ldc + column;
    if (g.z) g.z += (size_t)row * g.ldz + column;
    if (g.parts) g.parts += (size_t)row * g.ld_parts + column;
    if (g.bias.data) {
        g.bias.data = (const char *)g.bias.data
                    + (size_t)column * (g.bias.dtype == MRC_DTYPE_F32 ? 4 : 2);
    }
    g.m -= row;
    g.n -= column;
    return g;
}

// Whole tiles, then the columns beside them, then the rows below.
static int mrc_cuda_gemm_in_pieces(mrc_cuda *c, const mrc_cuda_product *p,
                                   const mrc_cuda_gemm_args &g, size_t parts) {
    const int m = g.m / MRC_CUDA_WHOLE * MRC_CUDA_WHOLE, n = g.n / MRC_CUDA_WHOLE * MRC_CUDA_WHOLE;
    const bool map = (g.bias.data || g.z || g.act) && !g.parts;
    int error = map ? mrc_cuda_whole_form<MRC_CUDA_END_MAP>(c, p, g, parts)
                    : mrc_cuda_whole_form<MRC_CUDA_END_SUM>(c, p, g, parts);
    mrc_cuda_gemm_args beside = mrc_cuda_gemm_rest(p, g, 0, n);
    beside.m = m;
    if (error == cudaSuccess) error = mrc_cuda_gemm_launch(c, p, beside, parts);
    if (error != cudaSuccess) return error;
    return mrc_cuda_gemm_launch(c, p, mrc_cuda_gemm_rest(p, g, m, 0), parts);
}

// scratch: mrc_cuda_gemm_scratch_f32() bytes.
static mrc_status mrc_cuda_gemm_f32(mrc_cuda *c, const mrc_cuda_product *p, void *scratch) {
    if (p->m == 0 || p->n == 0) return MRC_OK;
    if (p->m > INT32_MAX / 2 || p->k > INT32_MAX / 2 || p->n > 65535 * 64) {
        return MRC_ERR_UNSUPPORTED;
    }
    const size_t parts = scratch ? mrc_cuda_gemm_parts(p, c->path) : 1;
    const size_t slices = (p->k + MRC_CUDA_SLICE - 1) / MRC_CUDA_SLICE;
    mrc_cuda_gemm_args g = {};
    g.m = (int)p->m;
    g.n = (int)p->n;
    g.k = (int)p->k;
    g.k_part = (int)((slices + parts - 1) / parts * MRC_CUDA_SLICE);
    g.a = (const float *)p->a.data;
    g.b = (const float *)p->b.data;
    g.lda = p->a.ld;
    g.ldb = p->b.ld;
    g.c = (float *)p->c.data;
    g.ldc = p->c.ld;
    g.z = (float *)p->z.data;
    g.ldz = p->z.ld;
    g.parts = parts > 1 ? (float *)scratch : NULL;
    g.part_stride = p->m * p->n;
    g.ld_parts = p->n;
    g.bias = mrc_cuda_vector_of(p->bias);
    g.act = p->act;
    g.accumulate = p->c.accumulate;
    int error = mrc_cuda_gemm_is_whole(p) ? mrc_cuda_gemm_in_pieces(c, p, g, parts)
                                          : mrc_cuda_gemm_launch(c, p, g, parts);
    if (error == cudaSuccess && parts > 1) {
        error = MRC_LAUNCH(mrc_cuda_gemm_add_parts, mrc_cuda_blocks(p->m * p->n, 256), 256, 0,
                           c->stream, g, (int)parts);
    }
    return mrc_cuda_check(c, error);
}

#endif
