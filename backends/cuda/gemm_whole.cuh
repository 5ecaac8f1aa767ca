// gemm_whole.cuh - f32 products of whole tiles of 128 x 128, the path of everything large
//
// 256 threads make a tile: a warp 64 x 32 of it, a lane 8 x 8 as 2 x 2 squares of 4 x 4.  Slices of
// 8 of k are fetched 16 bytes at a time into registers while the slice before them is multiplied,
// first of a, then of b, and stand in two shared buffers, so one barrier a slice is enough.
// Fragments are read one k ahead, across slices too: what a warp waits for at the barrier is other
// warps, not memory.  What lies outside of whole tiles is the business of mrc_cuda_gemm_kernel.
//
// Every sum runs over k in rising order, as everywhere: a product's bits do not depend on which of
// the two kernels made an element.
#ifndef MRC_CUDA_GEMM_WHOLE_CUH
#define MRC_CUDA_GEMM_WHOLE_CUH
#include "common.cuh"

enum { MRC_CUDA_WHOLE = 128, MRC_CUDA_WHOLE_K = 8, MRC_CUDA_WHOLE_PITCH = 132 };

// What becomes of a tile's sums: written or added to c; given a bias and, where asked for, a GELU.
enum { MRC_CUDA_END_SUM, MRC_CUDA_END_MAP };

typedef struct mrc_cuda_whole_slices {
    float a[2][MRC_CUDA_WHOLE_K][MRC_CUDA_WHOLE_PITCH];
    float b[2][MRC_CUDA_WHOLE_K][MRC_CUDA_WHOLE_PITCH];
} mrc_cuda_whole_slices;

// A thread's 4 elements of a slice; 0 from k_end on.  Where they are of 4 k, k_end is a multiple
// of 4.
__device__ __forceinline__ float4 mrc_cuda_whole_fetch(const float *from, int k, int k_end) {
    return k < k_end ? *(const float4 *)from : make_float4(0, 0, 0, 0);
}
template <bool BY_K>
__device__ __forceinline__ void mrc_cuda_whole_store(float (*to)[MRC_CUDA_WHOLE_PITCH], int row,
                                                     int column, float4 v) {
    if (!BY_K) {
        *(float4 *)&to[row][column] = v;
        return;
    }
    to[column][row] = v.x;
    to[column + 1][row] = v.y;
    to[column + 2][row] = v.z;
    to[column + 3][row] = v.w;
}

// 8 elements of a row of a slice: four at a place, four more at a distance.
__device__ __forceinline__ void mrc_cuda_whole_pick(float (&v)[8], const float *row, int far) {
    const float4 p = *(const float4 *)row, q = *(const float4 *)(row + far);
    v[0] = p.x; v[1] = p.y; v[2] = p.z; v[3] = p.w;
    v[4] = q.x; v[5] = q.y; v[6] = q.z; v[7] = q.w;
}

__device__ __forceinline__ float4 mrc_cuda_whole_end4(int end, const mrc_cuda_gemm_args &g,
                                                      size_t row, int column, float4 v,
                                                      const float (&bias)[4]) {
    if (end == MRC_CUDA_END_SUM) {
        if (!g.accumulate) return v;
        const float4 c = *(const float4 *)(g.c + row * g.ldc + column);
        return make_float4(c.x + v.x, c.y + v.y, c.z + v.z, c.w + v.w);
    }
    v = make_float4(v.x + bias[0], v.y + bias[1], v.z + bias[2], v.w + bias[3]);
    if (g.z) *(float4 *)(g.z + row * g.ldz + column) = v;
    if (g.act == MRC_ACT_NONE) return v;
    return make_float4(mrc_cuda_gelu(v.x), mrc_cuda_gelu(v.y), mrc_cuda_gelu(v.z),
                       mrc_cuda_gelu(v.w));
}

// A lane's 8 x 8 sums: rows row + 32 (i / 4) + i % 4, columns column and column + 16, 4 each.  Row
// and column are reckoned anew, so that the loop over k keeps no register for them.
template <int END>
__device__ __forceinline__ void mrc_cuda_whole_end(const mrc_cuda_gemm_args &g,
                                                   const float (&sum)[8][8]) {
    const uint3 at = mrc_place_again();
    const int warp = (int)at.x / 32, lane = (int)at.x % 32;
    const int row = (int)at.y * MRC_CUDA_WHOLE + warp / 4 * 64 + lane / 4 * 4;
    const int column = (int)at.z * MRC_CUDA_WHOLE + warp % 4 * 32 + lane % 4 * 4;
    float *to = END == MRC_CUDA_END_SUM ? g.c + blockIdx.z * g.part_stride : g.c;
    float bias[2][4] = {};
#pragma unroll
    for (int j = 0; END == MRC_CUDA_END_MAP && j < 8; j++) {
        const size_t c = (size_t)(column + j / 4 * 16 + j % 4);
        if (g.bias.data) bias[j / 4][j % 4] = mrc_cuda_at(g.bias, c);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const size_t r = (size_t)(row + i / 4 * 32 + i % 4);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            const int c = column + 16 * j;
            const float4 v = make_float4(sum[i][4 * j], sum[i][4 * j + 1], sum[i][4 * j + 2],
                                         sum[i][4 * j + 3]);
            *(float4 *)(to + r * g.ldc + c) = mrc_cuda_whole_end4(END, g, r, c, v, bias[j]);
        }
    }
}

// Grid: tiles of m, tiles of n, parts of k.  g.c is where the first part goes, part_stride away
// from the next one.
template <bool A_BY_K, bool B_BY_K, int END>
__global__ void __launch_bounds__(256, 2) mrc_cuda_gemm_whole(mrc_cuda_gemm_args g) {
    MRC_DYN_SMEM(mrc_cuda_whole_slices, s);
    const int K = MRC_CUDA_WHOLE_K;
    const int t = (int)threadIdx.x, warp = t / 32, lane = t % 32;
    const int row = warp / 4 * 64 + lane / 4 * 4, col = warp % 4 * 32 + lane % 4 * 4;
    const int m0 = (int)blockIdx.x * MRC_CUDA_WHOLE, n0 = (int)blockIdx.y * MRC_CUDA_WHOLE;
    // Where a thread's 4 elements of a slice stand: in rows of k, or in a row of one k.
    const int ar = A_BY_K ? t / 2 : t / 32, ac = A_BY_K ? t % 2 * 4 : t % 32 * 4;
    const int br = B_BY_K ? t / 2 : t / 32, bc = B_BY_K ? t % 2 * 4 : t % 32 * 4;
    int k = (int)blockIdx.z * g.k_part, w = 0;
    const int k_end = k + g.k_part < g.k ? k + g.k_part : g.k;
    // Places of 32 bits, which spare registers; the host has seen that they are enough.
    const int lda = (int)g.lda, ldb = (int)g.ldb;
    int pa = A_BY_K ? (m0 + ar) * lda + k + ac : (k + ar) * lda + m0 + ac;
    int pb = B_BY_K ? (n0 + br) * ldb + k + bc : (k + br) * ldb + n0 + bc;
    const int da = A_BY_K ? K : K * lda, db = B_BY_K ? K : K * ldb;
    float sum[8][8] = {};
    float4 r = mrc_cuda_whole_fetch(g.a + pa, k + (A_BY_K ? ac : ar), k_end);
    mrc_cuda_whole_store<A_BY_K>(s->a[0], ar, ac, r);
    r = mrc_cuda_whole_fetch(g.b + pb, k + (B_BY_K ? bc : br), k_end);
    mrc_cuda_whole_store<B_BY_K>(s->b[0], br, bc, r);
    float fa[2][8], fb[2][8];
    __syncthreads();
    mrc_cuda_whole_pick(fa[0], &s->a[0][0][row], 32);
    mrc_cuda_whole_pick(fb[0], &s->b[0][0][col], 16);
    for (; k < k_end; k += K, w ^= 1) {
#pragma unroll
        for (int kk = 0; kk < K; kk++) {
            const int next = kk + 1 < K ? w : w ^ 1, at = (kk + 1) % K;
            // The other buffer is read by nobody since the barrier of the slice before.
            if (kk == 0) {
                pa += da;
                r = mrc_cuda_whole_fetch(g.a + pa, k + K + (A_BY_K ? ac : ar), k_end);
            }
            if (kk == 3) {
                mrc_cuda_whole_store<A_BY_K>(s->a[w ^ 1], ar, ac, r);
                pb += db;
                r = mrc_cuda_whole_fetch(g.b + pb, k + K + (B_BY_K ? bc : br), k_end);
            }
            if (kk == 6) mrc_cuda_whole_store<B_BY_K>(s->b[w ^ 1], br, bc, r);
            if (kk + 1 == K && !MRC_BUG(WHOLE_BARRIER)) __syncthreads();    // the slice stands
            mrc_cuda_whole_pick(fa[(kk + 1) & 1], &s->a[next][at][row], 32);
            mrc_cuda_whole_pick(fb[(kk + 1) & 1], &s->b[next][at][col], 16);
#pragma unroll
            for (int i = 0; i < 8; i++) {
#pragma unroll
                for (int j = 0; j < 8; j++) sum[i][j] += fa[kk & 1][i] * fb[kk & 1][j];
            }
        }
    }
    mrc_cuda_whole_end<END>(g, sum);
}

#endif
