// compat.cuh - the one include of every kernel file: CUDA under nvcc, the tests' shim elsewhere
//
// Kernels use only what both have: MRC_LAUNCH, MRC_DYN_SMEM, shuffles, barriers, and instructions
// that stand wrapped here, in mma.cuh and in wgmma.cuh; inline PTX stands nowhere else.
#ifndef MRC_CUDA_COMPAT_CUH
#define MRC_CUDA_COMPAT_CUH
#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <tuple>

// What a test plants in kernels (tests/cuda/bugs.h); never here.
#define MRC_BUG(name) false

// In a loop that waits for another block: leaves memory to those that are still working.
#define MRC_SPIN() __nanosleep(20)

// The block's dynamic shared memory.
#define MRC_DYN_SMEM(T, name)                                                                      \
    extern __shared__ __align__(128) unsigned char mrc_dyn_smem[];                                 \
    T *name = (T *)mrc_dyn_smem

// A launch, and its error: cudaSuccess is 0.
#define MRC_LAUNCH(kernel, grid, block, smem, stream, ...)                                         \
    (kernel<<<grid, block, smem, stream>>>(__VA_ARGS__), (int)cudaGetLastError())

// All blocks of the grid run at once, and may wait for each other.
template <class... P, class... A>
static inline int mrc_launch_coop(void (*kernel)(P...), dim3 grid, dim3 block, size_t smem,
                                  cudaStream_t stream, A... a) {
    std::tuple<P...> params(a...);
    return std::apply(
        [&](P &...p) {
            void *args[] = { (void *)&p... };
            return (int)cudaLaunchCooperativeKernel((const void *)kernel, grid, block, args, smem,
                                                    stream);
        },
        params);
}
#define MRC_LAUNCH_COOP(kernel, grid, block, smem, stream, ...)                                    \
    mrc_launch_coop(kernel, dim3(grid), dim3(block), smem, stream, __VA_ARGS__)

// threadIdx.x, blockIdx.x and blockIdx.y, read again: what is made of them for the end of a kernel
// need not wait in registers while a loop runs.
__device__ static __forceinline__ uint3 mrc_place_again(void) {
    uint3 v;
    asm volatile("mov.u32 %0,%%tid.x;" : "=r"(v.x));
    asm volatile("mov.u32 %0,%%ctaid.x;" : "=r"(v.y));
    asm volatile("mov.u32 %0,%%ctaid.y;" : "=r"(v.z));
    return v;
}

// 2^x, 0 below the least normal number.
__device__ static __forceinline__ float mrc_exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ static __forceinline__ void mrc_red_release(unsigned *p, unsigned v) {
    asm volatile("red.release.gpu.global.add.u32 [%0],%1;" ::"l"(p), "r"(v) : "memory");
}
__device__ static __forceinline__ unsigned mrc_ld_acquire(const unsigned *p) {
    unsigned v;
    asm volatile("ld.acquire.gpu.global.u32 %0,[%1];" : "=r"(v) : "l"(p) : "memory");
    return v;
}
#else
#include "cuda_shim.h"                  // the compiler is told where: -I tests/cuda
#endif

#endif
