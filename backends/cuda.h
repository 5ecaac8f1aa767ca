// cuda: every kernel on an NVIDIA GPU, written by hand: no cuBLAS, no cuDNN
//
// backends/cuda.cu has the code, for nvcc; this file is for C programs that link it:
//
//     #include "mrc.h"
//     #include "backends/cuda.h"
//     ...
//     mrc_status s = mrc_backend_cuda_new(&be, &(mrc_cuda_desc){ .device = 0 });
//
// One source serves compute capability 7.0 (Volta) and up.  Results of a path are the same bits in
// every run: work is divided by shape, and no floating-point atomics are used.  Nothing but
// download waits for the device.
#ifndef MRC_CUDA_H
#define MRC_CUDA_H
#include "../mrc.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct mrc_cuda_desc {          // NULL or zero-initialised: malloc, device 0, its own path
    mrc_allocator allocator;            // of host memory
    int    device;                      // ordinal; MRC_CUDA_DEVICE in the environment overrides 0
    int    path;                        // 70, 80 or 90; 0: MRC_CUDA_PATH, else the device's own
    int    tf32;                        // 1: products of f32 matrices in TF32: from path 80 on
    char  *why;                         // where a line goes that says why there is no instance,
    size_t why_bytes;                   // and its room; NULL: nowhere
} mrc_cuda_desc;

// MRC_ERR_UNSUPPORTED: no driver, no device, one below 7.0, or a path or TF32 that it lacks.
// Path 90 is compared with path 80 first, some small products of integers bit by bit: where they
// differ, path 80 is taken and isa says "sm_80, not sm_90", unless 90 was asked for.
mrc_status mrc_backend_cuda_new(mrc_backend **out, const mrc_cuda_desc *desc);

// Takes that many bytes of the device's memory in one allocation, from which later ones are served
// while they fit.  MRC_ERR_MEM: there is less, and nothing has changed.
mrc_status mrc_cuda_reserve(mrc_backend *be, size_t bytes);
// Bytes that are free on the device, and all it has; 0 where that cannot be asked.
void mrc_cuda_memory(const mrc_backend *be, size_t *free_bytes, size_t *total);
// What CUDA said when a call failed for the first time; "" where none has.
const char *mrc_cuda_error(const mrc_backend *be);
// For what shares the device with an instance: the cudaStream_t that its kernels run on, the
// device's ordinal, and how many devices there are (0 where that cannot be asked).
void *mrc_cuda_stream(const mrc_backend *be);
int mrc_cuda_device(const mrc_backend *be);
int mrc_cuda_devices(void);

#ifdef __cplusplus
}
#endif
#endif
