// gemm.cuh - matrix products in f32: a tile of c per block, slices of k through shared memory
//
// 256 threads stand in a square of 16 x 16; each holds 8 x 8 elements of a tile of 128 x 128, or
// 4 x 4 of one of 64 x 64 where 128 would leave processors idle.  The next slice is on its way to
// registers while this one is multiplied.  Where k is long and c small, as in weights' gradients,
// k is cut into parts, whose sums a second kernel adds up in their order.  All of this depends on
// the shape alone, so a product has the same bits on every device.
#ifndef MRC_CUDA_GEMM_CUH
#define MRC_CUDA_GEMM_CUH
#include "common.cuh"

enum {
    MRC_CUDA_SLICE = 16,                // of k
    MRC_CUDA_GEMM_THREADS = 256,
    MRC_CUDA_GEMM_BLOCKS = 160          // tiles that keep a device busy
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
    float *c, *z, *parts;               // parts (.., m, n): what parts of k gave, or NULL
    mrc_cuda_vector bias;
    int    act, accumulate;
} mrc_cuda_gemm_args;

__device__ __forceinline__ void mrc_cuda_gemm_finish(const mrc_cuda_gemm_args &g, int row, int col,
                                                     float v) {
    if (g.bias.data) v += mrc_cuda_at(g.bias, (size_t)col);
    if (g.z) g.z[(size_t)row * g.ldz + col] = v;
    if (g.act) v = mrc_cuda_act(g.act, v);
    mrc_cuda_give(g.c + (size_t)row * g.ldc + col, v, g.accumulate);
}

// One operand's slice, rows (of a) or columns (of b) first .. first + 16 E, into E registers a
// thread; what lies outside is 0.
template <int E, bool BY_K>
__device__ __forceinline__ void mrc_cuda_gemm_fetch(float (&r)[E], const float *from, size_t ld,
                                                    int first, int rows, int k0, int k_end) {
    const int t = (int)threadIdx.x, width = 16 * E;
#pragma unroll
    for (int i = 0; i < E; i++) {
        const int e = t + MRC_CUDA_GEMM_THREADS * i;
        const int row = first + (BY_K ? e / MRC_CUDA_SLICE : e % width);
        const int k = k0 + (BY_K ? e % MRC_CUDA_SLICE : e / width);
        const size_t at = BY_K ? (size_t)row * ld + k : (size_t)k * ld + row;
        r[i] = row < rows && k < k_end ? from[at] : 0.0f;
    }
}
template <int E, bool BY_K>
__device__ __forceinline__ void mrc_cuda_gemm_store(float (*to)[16 * E + 4], const float (&r)[E]) {
    const int t = (int)threadIdx.x, width = 16 * E;
#pragma unroll
    for (int i = 0; i < E; i++) {
        const int e = t + MRC_CUDA_GEMM_THREADS * i;
        to[BY_K ? e % MRC_CUDA_SLICE : e / width][BY_K ? e / MRC_CUDA_SLICE : e % width] = r[i];
    }
}

// E elements of a row of the slice: four at place 4 x, and four more half a tile on.
template <int E>
__device__ __forceinline__ void mrc_cuda_gemm_pick(float (&v)[E], const float *row, int x) {
#pragma unroll
    for (int q = 0; q < E / 4; q++) {
        const float4 f = *(const float4 *)(row + q * 64 + x * 4);
        v[4 * q] = f.x;
        v[4 * q + 1] = f.y;
        v[4 * q + 2] = f.z;
        v[4 * q + 3] = f.w;
    }
}

// A_BY_K: a is (m, k) as it stands, else transposed; B_BY_K: b is transposed, (n, k).
template <int E, bool A_BY_K, bool B_BY_K>
__global__ void __launch_bounds__(MRC_CUDA_GEMM_THREADS)
mrc_cuda_gemm_kernel(mrc_cuda_gemm_args g) {
    struct slices { float a[MRC_CUDA_SLICE][16 * E + 4], b[MRC_CUDA_SLICE][16 * E + 4]; };
    MRC_DYN_SMEM(slices, s);
    const int m0 = (int)blockIdx.x * 16 * E, n0 = (int)blockIdx.y * 16 * E;
    const int tx = (int)threadIdx.x % 16, ty = (int)threadIdx.x / 16;
    int k = (int)blockIdx.z * g.k_part;
    const int k_end = k + g.k_part < g.k ? k + g.k_part : g.k;
    float sum[E][E] = {}, ra[E], rb[E];
    mrc_cuda_gemm_fetch<E, A_BY_K>(ra, g.a, g.lda, m0, g.m, k, k_end);
    mrc_cuda_gemm_fetch<E, B_BY_K>(rb, g.b, g.ldb, n0, g.n, k, k_end);
    for (; k < k_end; k += MRC_CUDA_SLICE) {
        mrc_cuda_gemm_store<E, A_BY_K>(s->a, ra);
        mrc_cuda_gemm_store<E, B_BY_K>(s->b, rb);
        __syncthreads();
        mrc_cuda_gemm_fetch<E, A_BY_K>(ra, g.a, g.lda, m0, g.m, k + MRC_CUDA_SLICE, k_end);
        mrc_cuda_gemm_fetch<E, B_BY_K>(rb, g.b, g.ldb, n0, g.n, k + MRC_CUDA_SLICE, k_end);
#pragma unroll
        for (int kk = 0; kk < MRC_CUDA_SLICE; kk++) {
            float a[E], b[E];
            mrc_cuda_gemm_pick(a, s->a[kk], ty);
            mrc_cuda_gemm_pick(b, s->b[kk], tx);
#pragma unroll
            for (int i = 0; i < E; i++) {
#pragma unroll
                for (int j = 0; j < E; j++) sum[i][j] += a[i] * b[j];
            }
        }
#ifndef MRC_CUDA_BUG_NO_BARRIER         // planted: what the tests must catch
        __syncthreads();
#endif
    }
#pragma unroll
    for (int i = 0; i < E; i++) {
        const int row = m0 + i / 4 * 64 + ty * 4 + i % 4;
#pragma unroll
        for (int j = 0; j < E; j++) {
            const int col = n0 + j / 4 * 64 + tx * 4 + j % 4;
#ifdef MRC_CUDA_BUG_TAIL                // planted
            if (row > g.m || col >= g.n) continue;
#else
            if (row >= g.m || col >= g.n) continue;
#endif
            if (g.parts) {
                g.parts[((size_t)blockIdx.z * g.m + row) * g.n + col] = sum[i][j];
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

// How k is cut: 1 where there are tiles enough or k is short.
static inline size_t mrc_cuda_gemm_parts(const mrc_cuda_product *p) {
    const size_t tiles = mrc_cuda_gemm_tiles(p, 64);
    if (tiles == 0 || tiles >= MRC_CUDA_GEMM_BLOCKS) return 1;
    const size_t most = p->k / 128, wanted = MRC_CUDA_GEMM_BLOCKS / tiles + 1;
    const size_t parts = wanted < most ? wanted : most;
    return parts > 32 ? 32 : parts < 2 ? 1 : parts;
}
static inline size_t mrc_cuda_gemm_scratch_f32(const mrc_cuda_product *p) {
    const size_t parts = mrc_cuda_gemm_parts(p);
    return parts < 2 ? 0 : parts * p->m * p->n * sizeof(float);
}

template <int E>
static int mrc_cuda_gemm_launch(mrc_cuda *c, const mrc_cuda_product *p,
                                const mrc_cuda_gemm_args &g, size_t parts) {
    const dim3 grid(mrc_cuda_blocks(p->m, 16 * E), mrc_cuda_blocks(p->n, 16 * E),
                    (unsigned)parts);
    const size_t shared = 2 * MRC_CUDA_SLICE * (16 * E + 4) * sizeof(float);
    if (!p->a_transposed && p->b_transposed) {
        return MRC_LAUNCH((mrc_cuda_gemm_kernel<E, true, true>), grid, MRC_CUDA_GEMM_THREADS,
                          shared, c->stream, g);
    }
    if (!p->a_transposed) {
        return MRC_LAUNCH((mrc_cuda_gemm_kernel<E, true, false>), grid, MRC_CUDA_GEMM_THREADS,
                          shared, c->stream, g);
    }
    if (p->b_transposed) {
        return MRC_LAUNCH((mrc_cuda_gemm_kernel<E, false, true>), grid, MRC_CUDA_GEMM_THREADS,
                          shared, c->stream, g);
    }
    return MRC_LAUNCH((mrc_cuda_gemm_kernel<E, false, false>), grid, MRC_CUDA_GEMM_THREADS, shared,
                      c->stream, g);
}

// scratch: mrc_cuda_gemm_scratch_f32() bytes.
static mrc_status mrc_cuda_gemm_f32(mrc_cuda *c, const mrc_cuda_product *p, void *scratch) {
    if (p->m == 0 || p->n == 0) return MRC_OK;
    if (p->m > INT32_MAX || p->k > INT32_MAX || p->n > 65535 * 64) return MRC_ERR_UNSUPPORTED;
    const size_t parts = scratch ? mrc_cuda_gemm_parts(p) : 1;
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
    g.bias = mrc_cuda_vector_of(p->bias);
    g.act = p->act;
    g.accumulate = p->c.accumulate;
    const int large = mrc_cuda_gemm_tiles(p, 128) >= MRC_CUDA_GEMM_BLOCKS / 2;
    int error = large ? mrc_cuda_gemm_launch<8>(c, p, g, parts)
                      : mrc_cuda_gemm_launch<4>(c, p, g, parts);
    if (error == cudaSuccess && parts > 1) {
        error = MRC_LAUNCH(mrc_cuda_gemm_add_parts, mrc_cuda_blocks(p->m * p->n, 256), 256, 0,
                           c->stream, g, (int)parts);
    }
    return mrc_cuda_check(c, error);
}

#endif
