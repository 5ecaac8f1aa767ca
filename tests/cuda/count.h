// The shim's counting mode: what the requests of warps cost.  backends/cuda.cu is compiled with
// -fsanitize=thread -DMRC_COUNT, which calls a function before every access to memory, and linked
// with count.cc, which has these functions, instead of ThreadSanitizer.
//
// An access is logged by lane.  At a convergence point (a block's barrier, a warp operation of all
// lanes, the block's end) the lanes' logs are joined: the k-th time that lanes were at one place of
// the code is one request of the warp.  That is exact where control flow is uniform.
#ifndef MRC_CUDA_COUNT_H
#define MRC_CUDA_COUNT_H
#include <stddef.h>
#include <stdint.h>

// Of global memory: sectors are 32 bytes, and ideal is how many the bytes asked for would fill.
typedef struct mrc_count_global { uint64_t requests, sectors, ideal; } mrc_count_global;
// Of shared memory: a request has a phase for each 32 lanes of up to 4 bytes, 16 lanes of 8 or 8 of
// 16, and a phase takes as many wavefronts as one bank has different words.
typedef struct mrc_count_shared { uint64_t requests, phases, wavefronts; } mrc_count_shared;

typedef struct mrc_counts {
    uint64_t launches, blocks, barriers;
    mrc_count_global load, store;
    mrc_count_shared shared_load, shared_store;
} mrc_counts;
typedef struct mrc_host_counts { uint64_t launches, uploads, downloads, waits; } mrc_host_counts;

#ifdef __cplusplus
extern "C" {
#endif
// The sum over all kernels whose name contains this, since the last reset.
mrc_counts mrc_counts_of(const char *kernel);
const char *mrc_counts_kernel(size_t i);        // the kernels by name; NULL: there are no more
mrc_host_counts mrc_counts_of_host(void);
void mrc_counts_reset(void);
void mrc_counts_accesses(int on);       // off: only launches and the host's calls are counted

// What the shim calls.
void mrc_count_launch(const char *kernel, unsigned blocks);
void mrc_count_barrier(void);           // of the running thread's block: all its threads are there
void mrc_count_warp(int all_lanes);     // a warp operation of the running thread's warp
void mrc_count_block_end(void *block);
void mrc_count_memory(const void *p, size_t bytes);     // bytes 0: given back
void mrc_count_upload(void);
void mrc_count_download(void);
void mrc_count_wait(void);
void mrc_count_quiet(int on);           // accesses are the shim's own
void mrc_count_access(const void *p, size_t bytes, int write, void *from);
void mrc_count_vector(void *to, const void *from, size_t bytes, void *place);
#ifdef __cplusplus
}
#endif
#endif
