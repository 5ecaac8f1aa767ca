// gemm_wgmma.cuh - matrix products in 16 bits by the warpgroups of compute capability 9.0: path 90
//
// A block makes a tile of 64 GROUPS x 256 of c, a warpgroup 64 x 256 of it, from slices of 64 k.
// The tensor cores read both operands from shared memory and keep their sums in registers, in
// either order of an operand, so that nothing is transposed on the way.
//
//     copied        two slices ahead of the products, by all threads, 16 bytes each (cp.async),
//                   into four stages
//     multiplied    by four instructions of 16 k a warpgroup, one group of them under way while the
//                   next one is begun
//
// A turn waits in two places: for the copies of its slice, with a barrier behind, and for the
// products of the slice before.  So what is behind the barrier of slice s knows that all warpgroups
// are done with slice s - 2, and copies slice s + 2 into its stage.  No thread polls anything.
//
// Products of odd leading dimensions or addresses, and small ones, are path 80's.  Which kernel and
// how many parts of k follows from shape and alignment alone.
#pragma once
#include "gemm_tc.cuh"
#include "wgmma.cuh"

enum {
    WG_K = 64,                          // of a slice: a row of the swizzle
    WG_STAGES = 4,
    WG_AHEAD = 2,                       // slices that copies are ahead of products
    WG_PITCH = WG_N + 8                 // floats from a row of sums to the next one, at the end
};

// Rows first .. first + R of an operand, of the slice at k, on their way into a tile: R rows of 128
// bytes, of k or, in blocks of 64 of the operand's rows, of these.  What does not exist is 0.
template <class T, int R, bool BY_K, int THREADS>
__device__ __forceinline__ void wg_copy(unsigned char *tile, const tc_operand &o, int first, int k,
                                        int k_end) {
    const int at = (int)threadIdx.x / 8, chunk = (int)threadIdx.x % 8, EACH = THREADS / 8;
    const int place = MRC_BUG(WG_SWIZZLE) ? chunk : chunk ^ at % 8;
    const T *data = (const T *)o.data;
#pragma unroll
    for (int i = 0; i < (R + EACH - 1) / EACH; i++) {
        const int row = at + i * EACH;
        if (R % EACH && row >= R) continue;
        const int r = BY_K ? first + row : first + row / 64 * 64 + chunk * 8;
        const int kk = BY_K ? k + chunk * 8 : k + row % 64;
        const int left = BY_K ? k_end - kk : o.rows - r;
        const int bytes = !(BY_K ? r < o.rows : kk < k_end) || left < 0 ? 0
                        : left < 8                                      ? left * 2
                                                                        : TC_CHUNK;
        const T *from = BY_K ? data + (size_t)r * o.ld + kk : data + (size_t)kk * o.ld + r;
        cp_async_16(tile + row * (int)WG_ROW + place * TC_CHUNK, bytes ? from : data, bytes);
    }
}

// A warp's 16 rows of sums: through its own shared memory, so that a row is written by lanes that
// stand side by side.
template <class T>
__device__ __forceinline__ void wg_end(const float (&sums)[16][8], const tc_args &g,
                                       const tc_place_of &p, float *own) {
#pragma unroll
    for (int j = 0; j < 16; j++) {
#pragma unroll
        for (int e = 0; e < 8; e += 2) {
            int r, c;
            tc_place<80>(p.lane, e, &r, &c);
            *(float2 *)(own + tc_end_at<WG_N>(r, c + j * 16)) =
                make_float2(sums[j][e], sums[j][e + 1]);
        }
    }
    __syncwarp();
    // Four turns at a time where c is added to: what was there is asked for before it is needed.
    const bool adds = g.accumulate && g.c_f32 && g.four && !g.parts && !g.bias.data && !g.z
                   && !g.act;
#pragma unroll 1
    for (int q = 0; q < 32; q += 4) {
        float was[4][4] = {}, v[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int row = p.m0 + p.row + (q + i) / 2;
            const int col = p.n0 + ((q + i) % 2 * 32 + p.lane) * 4;
            if (!adds || row >= g.m || col >= g.n) continue;
            mrc_cuda_load4((const float *)g.c + (size_t)row * g.ldc, col, g.n, 1, was[i]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int r = (q + i) / 2, c = ((q + i) % 2 * 32 + p.lane) * 4;
            mrc_cuda_load4(own + tc_end_at<WG_N>(r, c), 0, 4, 1, v);
            if (!adds) {
                tc_put4<T>(g, p.m0 + p.row + r, p.n0 + c, v);
                continue;
            }
            if (p.m0 + p.row + r >= g.m || p.n0 + c >= g.n) continue;
#pragma unroll
            for (int e = 0; e < 4; e++) v[e] += was[i][e];
            mrc_cuda_store4((float *)g.c + (size_t)(p.m0 + p.row + r) * g.ldc, p.n0 + c, g.n, 1, 0,
                            v);
        }
    }
}

// A block's slices, one after the other; smem begins on a pattern of the swizzle.
template <class T, int GROUPS, bool A_BY_K, bool B_BY_K>
__device__ __forceinline__ void wg_slices(float (&sums)[16][8], const tc_args &g,
                                          const tc_place_of &p, unsigned char *smem) {
    const int threads = GROUPS * 128, bytes_a = GROUPS * (int)WG_BLOCK;
    const int stage = bytes_a + WG_N * (int)WG_ROW, group = (int)threadIdx.x / 128;
    auto copy = [&](int s) {
        unsigned char *to = smem + s % WG_STAGES * stage;
        const int k = p.k0 + s * WG_K;
        if (s < p.slices) {
            wg_copy<T, GROUPS * 64, A_BY_K, threads>(to, g.a, p.m0, k, p.k_end);
            wg_copy<T, WG_N, B_BY_K, threads>(to + bytes_a, g.b, p.n0, k, p.k_end);
        }
        cp_async_commit();
    };
    for (int s = 0; s < WG_AHEAD; s++) copy(s);
#pragma unroll 1
    for (int s = 0; s < p.slices; s++) {
        const unsigned char *now = smem + s % WG_STAGES * stage;
        if (!MRC_BUG(WG_COPIED)) cp_async_wait<WG_AHEAD - 1>();
        if (!MRC_BUG(WG_PUBLISH)) wg_publish();
        __syncthreads();
        const uint64_t a = wg_descriptor(now + group * (int)WG_BLOCK, A_BY_K);
        const uint64_t b = wg_descriptor(now + bytes_a, B_BY_K);
        if (!MRC_BUG(WG_FENCE)) wgmma_fence();
#pragma unroll
        for (int i = 0; i < WG_K / 16; i++) {
            wgmma<A_BY_K, B_BY_K>(T(), sums, a + (uint64_t)(i * wg_next(A_BY_K)),
                                  b + (uint64_t)(i * wg_next(B_BY_K)));
        }
        wgmma_commit();
        copy(s + WG_AHEAD);
        if (!MRC_BUG(WG_REUSE)) wgmma_wait<1>();
    }
    if (!MRC_BUG(WG_DONE)) wgmma_wait<0>();
    cp_async_wait<0>();
}

template <int GROUPS> constexpr size_t wg_bytes() {     // of shared memory, and what aligns it
    return WG_STAGES * (GROUPS * (size_t)WG_BLOCK + WG_N * WG_ROW) + WG_PATTERN;
}

// Grid (tiles, parts).
template <class T, int GROUPS, bool A_BY_K, bool B_BY_K>
__global__ void __launch_bounds__(GROUPS * 128, 1) wg_gemm_kernel(tc_args g) {
#if MRC_HAS_WGMMA
    MRC_DYN_SMEM(unsigned char, base);
    unsigned char *smem = base + (0u - wg_address(base)) % WG_PATTERN;
    const int across = (g.n + WG_N - 1) / WG_N, warp = (int)threadIdx.x / 32;
    tc_place_of p;
    p.m0 = (int)blockIdx.x / across * GROUPS * 64;
    p.n0 = (int)blockIdx.x % across * WG_N;
    p.row = warp * 16;
    p.col = 0;
    p.lane = (int)threadIdx.x % 32;
    p.k0 = (int)blockIdx.y * g.k_part;
    p.k_end = g.k - p.k0 < g.k_part ? g.k : p.k0 + g.k_part;
    p.slices = (p.k_end - p.k0 + WG_K - 1) / WG_K;
    float sums[16][8] = {};
    wg_slices<T, GROUPS, A_BY_K, B_BY_K>(sums, g, p, smem);
    __syncthreads();                    // the slices are read: their place is free
    wg_end<T>(sums, g, p, (float *)smem + warp * 16 * WG_PITCH);
#endif
}

//==============================================================================
// Host: which kernel
//==============================================================================
// What a product is given: tiles of 64 groups rows, and parts of k.  groups 0: path 80 has it.
typedef struct wg_plan { int groups, parts; } wg_plan;

// Cycles of a wave of `blocks` blocks, one on a processor: slices at three quarters of the tensor
// cores' rate or at what the L2 cache gives to all of them, 3.1 KB a cycle, and a block's beginning
// and end.
static inline size_t wg_wave(size_t groups, size_t slices, size_t blocks) {
    const size_t tensor = 683 * groups, cache = (64 * groups + WG_N) * WG_ROW * blocks / 3134;
    if (blocks == 0) return 0;
    return slices * (tensor > cache ? tensor : cache) + 2000 + 2000 * groups;
}
// Of a product on the 132 processors of an H100 or H200; parts of k are written and read once more.
static inline size_t wg_cost(const mrc_cuda_product *p, size_t groups, size_t parts) {
    const size_t tiles = ((p->m + 64 * groups - 1) / (64 * groups)) * ((p->n + WG_N - 1) / WG_N);
    const size_t blocks = tiles * parts, slices = (p->k + parts * WG_K - 1) / (parts * WG_K);
    return blocks / 132 * wg_wave(groups, slices, 132) + wg_wave(groups, slices, blocks % 132)
         + (parts > 1 ? 5000 + (parts + 1) * p->m * p->n / 540 : 0);
}

// By the shape alone, and not by addresses: the plan of memory asks too.
static inline wg_plan wg_plan_of(const mrc_cuda *c, const mrc_cuda_product *p, bool split) {
    wg_plan best = {};
    size_t least = SIZE_MAX;
    if (c->path != 90 || p->m == 0 || p->n == 0) return best;
    // Of a tile's columns at most a third may be missing.
    const bool large = tc_is_large(p) && (p->n + WG_N - 1) / WG_N * WG_N * 2 <= 3 * p->n;
    if (!large && !c->wgmma_all) return best;
    for (int groups = 2; groups <= 3; groups++) {
        for (int parts = 1; parts <= (split ? MRC_CUDA_PARTS : 1); parts++) {
            if (parts > 1 && p->k / (size_t)parts < 4 * WG_K) break;
            const size_t cost = wg_cost(p, (size_t)groups, (size_t)parts);
            if (cost >= least) continue;
            least = cost;
            best = { groups, parts };
        }
    }
    return best;
}

template <class T, int GROUPS, bool A_BY_K, bool B_BY_K>
static int wg_launch(mrc_cuda *c, const tc_args &g, int parts) {
    const size_t bytes = wg_bytes<GROUPS>();
    const int tiles = (g.m + GROUPS * 64 - 1) / (GROUPS * 64) * ((g.n + WG_N - 1) / WG_N);
    auto *kernel = wg_gemm_kernel<T, GROUPS, A_BY_K, B_BY_K>;
    if (mrc_cuda_allow(c, kernel, bytes) != MRC_OK) return cudaErrorInvalidValue;
    return MRC_LAUNCH((wg_gemm_kernel<T, GROUPS, A_BY_K, B_BY_K>),
                      dim3((unsigned)tiles, (unsigned)parts), GROUPS * 128, bytes, c->stream, g);
}
template <class T, int GROUPS>
static int wg_pick_form(mrc_cuda *c, const mrc_cuda_product *p, const tc_args &g, int parts) {
    if (!p->a_transposed && p->b_transposed) return wg_launch<T, GROUPS, true, true>(c, g, parts);
    if (!p->a_transposed) return wg_launch<T, GROUPS, true, false>(c, g, parts);
    if (p->b_transposed) return wg_launch<T, GROUPS, false, true>(c, g, parts);
    return wg_launch<T, GROUPS, false, false>(c, g, parts);
}

template <class T>
static mrc_status wg_multiply(mrc_cuda *c, const mrc_cuda_product *p, wg_plan plan,
                              void *scratch) {
    const tc_args g = tc_args_of<T>(p, (size_t)plan.parts, WG_K, scratch);
    const int e = plan.groups == 2 ? wg_pick_form<T, 2>(c, p, g, plan.parts)
                                   : wg_pick_form<T, 3>(c, p, g, plan.parts);
    return e ? mrc_cuda_check(c, e) : tc_sum_parts<T>(c, p, g, plan.parts);
}

// Products on tensor cores, by whichever kernel: what they need, and they.
template <class T>
static size_t mrc_cuda_tensor_scratch(mrc_cuda *c, const mrc_cuda_product *p) {
    const size_t bytes = mrc_cuda_gemm_tc_scratch(p, c->path);
    const wg_plan plan = sizeof(T) == 2 ? wg_plan_of(c, p, true) : wg_plan{};
    const size_t more = plan.parts < 2 ? 0 : (size_t)plan.parts * p->m * p->n * sizeof(float);
    return more > bytes ? more : bytes;
}
static mrc_status mrc_cuda_gemm_tensor(float, mrc_cuda *c, const mrc_cuda_product *p,
                                       void *scratch) {
    return mrc_cuda_gemm_tc<float>(c, p, scratch);
}
template <class T>
static mrc_status mrc_cuda_gemm_tensor(T, mrc_cuda *c, const mrc_cuda_product *p, void *scratch) {
    const wg_plan plan = wg_plan_of(c, p, scratch != NULL);
    if (plan.groups == 0 || !tc_operand_of<T>(p->a, p->m).aligned
        || !tc_operand_of<T>(p->b, p->n).aligned || tc_is_too_large(p)) {
        return mrc_cuda_gemm_tc<T>(c, p, scratch);
    }
    return wg_multiply<T>(c, p, plan, scratch);
}

//==============================================================================
// Host: whether the device does as is said here
//==============================================================================
// Integers, whose sums are exact; more slices than stages, the last one not full, and rows that are
// no whole tile.
enum { WG_CHECK_M = 136, WG_CHECK_N = 256, WG_CHECK_K = 64 * 5 + 40 };

template <class T>
static mrc_status wg_check_form(mrc_cuda *c, int form, const void *a, const void *b, float *near,
                                float *far) {
    const size_t n = (size_t)WG_CHECK_M * WG_CHECK_N, bytes = n * sizeof(float);
    const mrc_dtype dtype = std::is_same<T, __half>::value ? MRC_DTYPE_F16 : MRC_DTYPE_BF16;
    mrc_cuda_product p = {};
    p.m = WG_CHECK_M;
    p.n = WG_CHECK_N;
    p.k = WG_CHECK_K;
    p.a_transposed = form & 1;
    p.b_transposed = form >> 1;
    p.a = { dtype, p.a_transposed ? p.m : p.k, a };
    p.b = { dtype, p.b_transposed ? p.k : p.n, b };
    p.c = { MRC_DTYPE_F32, p.n, far, 0 };
    for (int groups = 1; groups <= 3; groups++) {       // 1: path 80, what the others must be
        float *to = near + (groups > 1 ? n : 0);
        MRC_CUDA_TRY(mrc_cuda_check(c, cudaMemsetAsync(far, 0xff, bytes, c->stream)));
        MRC_CUDA_TRY(groups > 1 ? wg_multiply<T>(c, &p, wg_plan{ groups, 1 }, NULL)
                                : mrc_cuda_gemm_tc<T>(c, &p, NULL));
        MRC_CUDA_TRY(mrc_cuda_check(c, cudaMemcpyAsync(to, far, bytes, cudaMemcpyDeviceToHost,
                                                       c->stream)));
        MRC_CUDA_TRY(mrc_cuda_check(c, cudaStreamSynchronize(c->stream)));
        if (memcmp(near, to, bytes)) return MRC_ERR_UNSUPPORTED;
    }
    return MRC_OK;
}

// Operands of a type, the same numbers in every form.
template <class T>
static mrc_status wg_check_type(mrc_cuda *c, T *near, float *sums, char *far) {
    const size_t n_a = (size_t)WG_CHECK_M * WG_CHECK_K, n_b = (size_t)WG_CHECK_N * WG_CHECK_K;
    T *to = (T *)far;
    for (size_t i = 0; i < n_a + n_b; i++) near[i] = (T)((float)(i * i % 13) - 6);
    MRC_CUDA_TRY(mrc_cuda_check(c, cudaMemcpyAsync(to, near, (n_a + n_b) * sizeof(T),
                                                   cudaMemcpyHostToDevice, c->stream)));
    for (int form = 0; form < 4; form++) {
        MRC_CUDA_TRY((wg_check_form<T>(c, form, to, to + n_a, sums, (float *)(to + n_a + n_b))));
    }
    return MRC_OK;
}

// Both kinds of tiles, all orders of operands and both types, against path 80, bit by bit.
// MRC_ERR_UNSUPPORTED: the device, or this build, has other products.
static mrc_status wg_check(mrc_cuda *c) {
    const size_t n = (size_t)(WG_CHECK_M + WG_CHECK_N) * WG_CHECK_K;
    const size_t sums = sizeof(float) * WG_CHECK_M * WG_CHECK_N;
    void *far = NULL, *near = malloc(n * 2 + 2 * sums);
    mrc_status s = near ? mrc_cuda_check(c, cudaMalloc(&far, n * 2 + sums)) : MRC_ERR_MEM;
    float *to = near ? (float *)((char *)near + n * 2) : NULL;
    if (s == MRC_OK) s = wg_check_type(c, (__half *)near, to, (char *)far);
    if (s == MRC_OK) s = wg_check_type(c, (__nv_bfloat16 *)near, to, (char *)far);
    if (far) (void)cudaFree(far);
    free(near);
    return s;
}
