// calibrate.cu - loops whose time on a processor is known from what they are made of: what holds
// predict.py's simulator.  Compiled for devices only, and never run.
#include "../../backends/cuda/mma.cuh"

// 64 independent sums: every cycle of the pipe is an FFMA.
__global__ void __launch_bounds__(256) calibrate_ffma(float *to, float a, int n) {
    float v[64];
#pragma unroll
    for (int i = 0; i < 64; i++) v[i] = (float)(threadIdx.x + i);
#pragma unroll 1
    for (int k = 0; k < n; k++) {
#pragma unroll
        for (int i = 0; i < 512; i++) v[i % 64] = v[i % 64] * a + a;
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 64; i++) to[64 * threadIdx.x + i] = v[i];
}

// One sum, by one warp: an FFMA waits for the one before it.
__global__ void __launch_bounds__(32) calibrate_chain(float *to, float a, int n) {
    float v = (float)threadIdx.x;
#pragma unroll 1
    for (int k = 0; k < n; k++) {
#pragma unroll
        for (int i = 0; i < 512; i++) v = v * a + a;
        __syncthreads();
    }
    to[threadIdx.x] = v;
}

// Sixteen 128-bit loads of shared memory a turn: four wavefronts each.
__global__ void __launch_bounds__(256) calibrate_lds(float4 *to, int n) {
    __shared__ float4 s[512];
    float4 v = make_float4(0, 0, 0, 0);
    s[threadIdx.x] = s[threadIdx.x + 256] = v;
#pragma unroll 1
    for (int k = 0; k < n; k++) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const float4 u = s[(threadIdx.x + 16 * i) & 511];
            v.x += u.x;
            v.y += u.y;
            v.z += u.z;
            v.w += u.w;
        }
    }
    to[threadIdx.x] = v;
}

// Eight independent 16 x 16 sums on tensor cores.
template <int PATH> __device__ void calibrate_mma(float *to, unsigned w, int n) {
    float v[8][8] = {};
    unsigned a[4] = { w, w, w, w };
#pragma unroll 1
    for (int k = 0; k < n; k++) {
#pragma unroll
        for (int j = 0; j < 64; j++) {
            float *sum = v[j % 8];
            if (PATH == 70) mma_884<true, true>(sum, a, a + 2);
            else mma_16816(__half(), sum, a, a + 2);
            if (PATH == 80) mma_16816(__half(), sum + 4, a, a + 2);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 64; i++) to[64 * threadIdx.x + i] = v[i / 8][i % 8];
}
__global__ void __launch_bounds__(256) calibrate_hmma(float *to, unsigned w, int n) {
#if __CUDA_ARCH__ >= 800
    calibrate_mma<80>(to, w, n);
#else
    calibrate_mma<70>(to, w, n);
#endif
}
