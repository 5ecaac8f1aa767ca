// common.cuh - the instance, and what kernels of several files share
#ifndef MRC_CUDA_COMMON_CUH
#define MRC_CUDA_COMMON_CUH
#include "compat.cuh"
#include "../../mrc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What backends/cuda.cu keeps of a device.  Kernels are launched on `stream`.
typedef struct mrc_cuda {
    mrc_backend   base;
    mrc_allocator host;
    int           device, arch;         // arch: 10 * compute capability
    int           path;                 // whose instructions products use: 70, 80 or 90
    int           unconfirmed;          // path 90 was not path 80 to the bit, and is not taken
    int           wgmma_all;            // for tests: path 90 for products of any size
    int           tf32;                 // products of f32 matrices round their operands to TF32
    int           processors;
    size_t        shared_limit;         // bytes of shared memory that a block may ask for
    cudaStream_t  stream;
    struct mrc_cuda_chunk *chunks;      // device memory
    char         *staging;              // pinned host memory, in two halves
    size_t        staged;               // bytes given out of the current half
    int           half;
    cudaEvent_t   copied[2];            // a half's copies are done
    char          error[256];           // the first that CUDA reported
} mrc_cuda;

// A cudaError_t as a status; the first one's text is kept.
static inline mrc_status mrc_cuda_check(mrc_cuda *c, int error) {
    if (error == cudaSuccess) return MRC_OK;
    if (!c->error[0]) {
        snprintf(c->error, sizeof c->error, "CUDA: %s",
                 cudaGetErrorString((cudaError_t)error));
    }
    return error == cudaErrorMemoryAllocation ? MRC_ERR_MEM : MRC_ERR_IO;
}

#define MRC_CUDA_TRY(x)                                                                            \
    do {                                                                                           \
        mrc_status status_ = (x);                                                                  \
        if (status_ != MRC_OK) return status_;                                                     \
    } while (0)

// Lets a kernel have more than the 48 KiB of shared memory that every block may; and asks that a
// processor's memory be shared memory, not cache: how many of its blocks run at once depends on it.
template <class K> static mrc_status mrc_cuda_allow(mrc_cuda *c, K *kernel, size_t bytes) {
    if (bytes > c->shared_limit) return MRC_ERR_UNSUPPORTED;
    MRC_CUDA_TRY(mrc_cuda_check(
        c, cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                cudaSharedmemCarveoutMaxShared)));
    if (bytes <= 48 << 10) return MRC_OK;
    return mrc_cuda_check(
        c, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
}

static inline unsigned mrc_cuda_blocks(size_t n, size_t per_block) {
    return (unsigned)((n + per_block - 1) / per_block);
}

//==============================================================================
// Elements: float inside, whatever they are stored as
//==============================================================================
template <class T> __device__ __forceinline__ float mrc_cuda_get(const T *p) { return (float)*p; }
template <class T> __device__ __forceinline__ void mrc_cuda_put(T *p, float v) { *p = (T)v; }

// A gradient: overwritten or added to.
template <class T> __device__ __forceinline__ void mrc_cuda_give(T *p, float v, int accumulate) {
    *p = (T)(accumulate ? (float)*p + v : v);
}

// Four elements that stand side by side.
template <class T> struct alignas(4 * sizeof(T)) mrc_cuda_four { T e[4]; };
__device__ __forceinline__ float4 mrc_cuda_get4(const float *p) { return *(const float4 *)p; }
template <class T> __device__ __forceinline__ float4 mrc_cuda_get4(const T *p) {
    union { uint2 bits; mrc_cuda_four<T> v; } u;
    u.bits = *(const uint2 *)p;
    return make_float4((float)u.v.e[0], (float)u.v.e[1], (float)u.v.e[2], (float)u.v.e[3]);
}
__device__ __forceinline__ void mrc_cuda_put4(float *p, const float (&v)[4]) {
    *(float4 *)p = make_float4(v[0], v[1], v[2], v[3]);
}
template <class T> __device__ __forceinline__ void mrc_cuda_put4(T *p, const float (&v)[4]) {
    union { uint2 bits; mrc_cuda_four<T> v; } u;
#pragma unroll
    for (int k = 0; k < 4; k++) u.v.e[k] = (T)v[k];
    *(uint2 *)p = u.bits;
}

// Columns f to f + 3 of a row of h, 0 past its end.  four: all of them are there, and aligned.
template <class T>
__device__ __forceinline__ void mrc_cuda_load4(const T *row, int f, int h, int four,
                                               float (&v)[4]) {
    if (four) {
        const float4 u = mrc_cuda_get4(row + f);
        v[0] = u.x;
        v[1] = u.y;
        v[2] = u.z;
        v[3] = u.w;
        return;
    }
#pragma unroll
    for (int k = 0; k < 4; k++) v[k] = f + k < h ? mrc_cuda_get(row + f + k) : 0;
}
template <class T>
__device__ __forceinline__ void mrc_cuda_store4(T *row, int f, int h, int four, int accumulate,
                                                const float (&v)[4]) {
    float to[4] = { v[0], v[1], v[2], v[3] };
    if (accumulate) {
        float was[4];
        mrc_cuda_load4((const T *)row, f, h, four, was);
#pragma unroll
        for (int k = 0; k < 4; k++) to[k] = was[k] + v[k];
    }
    if (four) {
        mrc_cuda_put4(row + f, to);
        return;
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
        if (f + k < h) mrc_cuda_put(row + f + k, to[k]);
    }
}

// Vectors of parameters come as masters or as 16-bit copies.
typedef struct mrc_cuda_vector { const void *data; int dtype; } mrc_cuda_vector;
static inline mrc_cuda_vector mrc_cuda_vector_of(mrc_in v) { return { v.data, (int)v.dtype }; }
__device__ __forceinline__ float mrc_cuda_at(mrc_cuda_vector v, size_t i) {
    if (v.dtype == MRC_DTYPE_F16) return (float)((const __half *)v.data)[i];
    if (v.dtype == MRC_DTYPE_BF16) return (float)((const __nv_bfloat16 *)v.data)[i];
    return ((const float *)v.data)[i];
}

__device__ __forceinline__ void mrc_cuda_at4(mrc_cuda_vector v, int f, int h, int four,
                                             float (&to)[4]) {
    if (v.dtype == MRC_DTYPE_F16) {
        mrc_cuda_load4((const __half *)v.data, f, h, four, to);
    } else if (v.dtype == MRC_DTYPE_BF16) {
        mrc_cuda_load4((const __nv_bfloat16 *)v.data, f, h, four, to);
    } else {
        mrc_cuda_load4((const float *)v.data, f, h, four, to);
    }
}

// erf's form, as in op.activation.
__device__ __forceinline__ float mrc_cuda_gelu(float x) {
    return x * (0.5f * (1.0f + erff(x * 0.70710678118654752f)));
}
__device__ __forceinline__ float mrc_cuda_gelu_slope(float x) {
    float phi = 0.39894228040143268f * expf(-0.5f * x * x);
    return 0.5f * (1.0f + erff(x * 0.70710678118654752f)) + x * phi;
}

// An activation (mrc_act) and its slope.
__device__ __forceinline__ float mrc_cuda_act(int act, float x) {
    if (act == MRC_ACT_GELU) return mrc_cuda_gelu(x);
    if (act == MRC_ACT_GELU_TANH) {
        return 0.5f * x * (1 + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
    }
    if (act == MRC_ACT_RELU) return x < 0 ? 0 : x;
    if (act == MRC_ACT_TANH) return tanhf(x);
    return act == MRC_ACT_SILU ? x / (1 + expf(-x)) : x;
}
__device__ __forceinline__ float mrc_cuda_act_slope(int act, float x) {
    if (act == MRC_ACT_GELU) return mrc_cuda_gelu_slope(x);
    if (act == MRC_ACT_GELU_TANH) {
        const float t = tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x));
        const float inner = 0.79788456080286536f * (1 + 3 * 0.044715f * x * x);
        return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * inner;
    }
    if (act == MRC_ACT_RELU) return x > 0 ? 1 : 0;
    if (act == MRC_ACT_TANH) {
        const float t = tanhf(x);
        return 1 - t * t;
    }
    const float t = 1 / (1 + expf(-x));
    return act == MRC_ACT_SILU ? t * (1 + x * (1 - t)) : 1;
}

//==============================================================================
// Sums and maxima, always in the same order
//==============================================================================
template <int WIDTH> __device__ __forceinline__ float mrc_cuda_sum(float v) {
    for (int o = WIDTH / 2; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}
template <int WIDTH> __device__ __forceinline__ float mrc_cuda_max(float v) {
    for (int o = WIDTH / 2; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
    return v;
}

//==============================================================================
// Dropout masks (contract D) and packed rows
//==============================================================================
typedef struct mrc_cuda_mask { uint32_t key[2], threshold; float scale; } mrc_cuda_mask;
static inline mrc_cuda_mask mrc_cuda_mask_of(const mrc_dropout_mask *m) {
    return { { m->key[0], m->key[1] }, (uint32_t)m->threshold, (float)m->scale };
}

// Philox 4x32-10 as in mrc.h.
__device__ __forceinline__ uint4 mrc_cuda_philox(uint32_t c0, uint32_t c1, uint32_t c2,
                                                 uint32_t c3, uint32_t k0, uint32_t k1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint32_t h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
        uint32_t h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
        c0 = h1 ^ c1 ^ k0;
        c2 = h0 ^ c3 ^ k1;
        c1 = l1;
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

// What features 4 group .. 4 group + 3 are multiplied by.
__device__ __forceinline__ void mrc_cuda_kept(const mrc_cuda_mask &m, uint32_t head,
                                              uint32_t sequence, uint32_t position,
                                              uint32_t group, float (&keep)[4]) {
    keep[0] = keep[1] = keep[2] = keep[3] = m.scale;
    if (m.threshold == 0) return;
    uint4 u = mrc_cuda_philox(group, position, sequence, head, m.key[0], m.key[1]);
    if (u.x < m.threshold) keep[0] = 0;
    if (u.y < m.threshold) keep[1] = 0;
    if (u.z < m.threshold) keep[2] = 0;
    if (u.w < m.threshold) keep[3] = 0;
}

// Where a packed row stands.
__device__ __forceinline__ int mrc_cuda_sequence_of(const int32_t *cu, int n_sequences, int row) {
    int low = 0, high = n_sequences;            // cu[low] <= row < cu[high]
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (cu[middle] <= row) low = middle;
        else high = middle;
    }
    return low;
}

#endif
