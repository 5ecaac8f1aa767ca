// mma.cuh - the tensor-core instructions and what feeds them, one function each
//
// A fragment is what one lane holds of a small matrix; g = lane / 4 and t = lane % 4 below, q and h
// a lane's quad pair and half: q = lane / 4 % 4, h = lane / 16.  On a host the same functions come
// from mma_shim.h, which keeps the maps that the PTX manual documents.
#pragma once
#include "compat.cuh"

// Whether code of a path is worth compiling for this device.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define MRC_HAS_PATH(path) ((path) < 80)
#else
#define MRC_HAS_PATH(path) ((path) > 0)
#endif

#ifdef __CUDACC__

// d (8 x 8 per quad pair) += a (8 x 4) b (4 x 8), f16 in, f32 sums.  A lane's two words of a are,
// by rows, a[t + 4 h][0..3], else a[4 h + 0..3][t]; of b, by columns, b[0..3][t + 4 h], else
// b[t][4 h + 0..3].  d[i] is row (t & 1) + (i & 2) + 4 h, column (i & 4) + (t & 2) + (i & 1).
template <bool A_ROWS, bool B_COLUMNS>
__device__ __forceinline__ void mma_884(float *d, const unsigned *a, const unsigned *b) {
#define MRC_MMA_884(layout)                                                                     \
    asm volatile("mma.sync.aligned.m8n8k4." layout ".f32.f16.f16.f32 "                          \
                 "{%0,%1,%2,%3,%4,%5,%6,%7},{%8,%9},{%10,%11},{%0,%1,%2,%3,%4,%5,%6,%7};"       \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]),      \
                   "+f"(d[6]), "+f"(d[7])                                                       \
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]), "r"(b[1]))
    if (A_ROWS && B_COLUMNS) MRC_MMA_884("row.col");
    else if (A_ROWS) MRC_MMA_884("row.row");
    else if (B_COLUMNS) MRC_MMA_884("col.col");
    else MRC_MMA_884("col.row");
#undef MRC_MMA_884
}

// d (16 x 8) += a (16 x 16) b (16 x 8).  Word i of a is row g + 8 (i & 1), columns 2 t and 2 t + 1,
// from column 8 on for i > 1; word i of b rows 2 t + 8 i and the next, column g; d[i] row
// g + 8 (i / 2), column 2 t + i % 2.  tag says the type: __half or __nv_bfloat16.
#define MRC_MMA_16816(type)                                                                     \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 "                 \
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"                           \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
__device__ __forceinline__ void mma_16816(__half, float *d, const unsigned *a,
                                          const unsigned *b) {
#if __CUDA_ARCH__ >= 800
    MRC_MMA_16816("f16");
#endif
}
__device__ __forceinline__ void mma_16816(__nv_bfloat16, float *d, const unsigned *a,
                                          const unsigned *b) {
#if __CUDA_ARCH__ >= 800
    MRC_MMA_16816("bf16");
#endif
}
#undef MRC_MMA_16816

// d (16 x 8) += a (16 x 8) b (8 x 8) in TF32.  Word i of a is row g + 8 (i & 1), column
// t + 4 (i / 2); word i of b row t + 4 i, column g; d as above.
__device__ __forceinline__ void mma_1688(float *d, const unsigned *a, const unsigned *b) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
// The nearest TF32 number, ties away from zero.
__device__ __forceinline__ unsigned tf32_of(float x) {
    unsigned u = __float_as_uint(x);
#if __CUDA_ARCH__ >= 800
    asm("cvt.rna.tf32.f32 %0,%1;" : "=r"(u) : "f"(x));
#endif
    return u;
}

// Four 8 x 8 matrices of 16-bit elements from shared memory: lane 8 i + r brings the address of row
// r of matrix i (16 bytes, aligned).  Word i is row g, columns 2 t and 2 t + 1 of matrix i; of its
// transpose with TRANSPOSED.
template <bool TRANSPOSED>
__device__ __forceinline__ void ldmatrix_x4(unsigned *d, const void *row) {
#if __CUDA_ARCH__ >= 750
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    if (TRANSPOSED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
                     : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(at) : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
                     : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(at) : "memory");
    }
#endif
}

// Begins copying 16 bytes to shared memory, of which the first `bytes` are read and the others 0.
__device__ __forceinline__ void cp_async_16(void *shared, const void *global, int bytes) {
#if __CUDA_ARCH__ >= 800
    unsigned at = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"(at), "l"(global), "r"(bytes)
                 : "memory");
#endif
}
__device__ __forceinline__ void cp_async_commit() {     // ends a group of copies
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most N of this thread's groups are under way.
template <int N> __device__ __forceinline__ void cp_async_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}
#else
#include "mma_shim.h"
#endif
