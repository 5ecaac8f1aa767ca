// wgmma.cuh - the warpgroup instructions of compute capability 9.0, one function each
//
// A warpgroup is four warps, the first of which is a multiple of four; all its lanes call these
// together.  What is said here of layouts is the PTX manual's, chapter "Asynchronous Warpgroup
// Level Matrix Multiply-Accumulate Instructions", and no device has confirmed it yet.
//
// d (64 x 256) += a (64 x 16) b (16 x 256) in 16 bits, sums in f32.  Of d ("Matrix Fragments for
// wgmma.mma_async.m64nNk16") lane l of warp w of the warpgroup has d[j][e]: row 16 w + l / 4
// + 8 (e / 2 % 2), column 16 j + 8 (e / 4) + 2 (l % 4) + e % 2, which is what mma_16816() leaves of
// 16 x 16 twice.
//
// a and b lie in shared memory in the 128-byte swizzle ("Shared Memory Matrix Layout"): rows of 128
// bytes, 64 elements, one below the other, and in a row chunk c of 16 bytes stands at c ^ row % 8.
// The swizzle is of an address' bits, 7 to 9 into 4 to 6, and a pattern begins on 1024 bytes, so
// that its base offset is 0 ("Matrix Descriptor Format").
//     by k (K-major): a row of 64 k for each row of a, or column of b; the next 8 rows are SBO
//         bytes farther; LBO is not used.  The next 16 k are 32 bytes farther in the same pattern.
//     else (MN-major): a row of 64 rows of a, or columns of b, for each k; the next 8 k are SBO
//         bytes farther, the next 64 rows or columns LBO bytes ("Leading Dimension Byte Offset" and
//         "Stride Dimension Byte Offset": of matrices of 128-bit elements, from the first 128 / 16
//         rows to the next ones, and from the first 8 columns to the next ones).  The next 16 k are
//         2048 bytes farther.
//
// The instructions read shared memory by the asynchronous proxy ("Async proxy"): what threads or
// cp.async wrote there is theirs to see behind a fence.proxy.async of the thread that wrote it, and
// a barrier.
#pragma once
#include "mma.cuh"

// Whether the device's code is compiled for the architecture's own instructions: sm_90a, not sm_90.
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MRC_HAS_WGMMA 1
#else
#define MRC_HAS_WGMMA 0
#endif
// Whether this CUDA knows them at all.
#if !defined(__CUDACC__) || CUDART_VERSION >= 12000
#define MRC_KNOWS_WGMMA 1
#else
#define MRC_KNOWS_WGMMA 0
#endif

enum {
    WG_ROW = 128,                       // bytes of a row of a swizzled tile
    WG_PATTERN = 8 * WG_ROW,            // and of the pattern that repeats
    WG_BLOCK = 64 * WG_ROW,             // 64 k of 64 rows or columns
    WG_N = 256                          // columns of an instruction
};

#ifdef __CUDACC__
// The address of shared memory as descriptors have it.
__device__ __forceinline__ unsigned wg_address(const void *shared) {
    return (unsigned)__cvta_generic_to_shared(shared);
}
#if MRC_HAS_WGMMA
#define MRC_WG_8(j)                                                                             \
    "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3]), "+f"(d[j][4]), "+f"(d[j][5]),   \
        "+f"(d[j][6]), "+f"(d[j][7])
#define MRC_WGMMA(type)                                                                         \
    asm volatile(                                                                               \
        "{\n.reg .pred p;\nsetp.eq.u32 p,0,0;\n"                                                \
        "wgmma.mma_async.sync.aligned.m64n256k16.f32." type "." type " {"                       \
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                \
        "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"                      \
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"                      \
        "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"                      \
        "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"                      \
        "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"                      \
        "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"          \
        "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"       \
        "},%128,%129,p,1,1,%130,%131;\n}"                                                       \
        : MRC_WG_8(0), MRC_WG_8(1), MRC_WG_8(2), MRC_WG_8(3), MRC_WG_8(4), MRC_WG_8(5),         \
          MRC_WG_8(6), MRC_WG_8(7), MRC_WG_8(8), MRC_WG_8(9), MRC_WG_8(10), MRC_WG_8(11),       \
          MRC_WG_8(12), MRC_WG_8(13), MRC_WG_8(14), MRC_WG_8(15)                                \
        : "l"(a), "l"(b), "n"(!A_BY_K), "n"(!B_BY_K))
#else
#define MRC_WGMMA(type) (void)d, (void)a, (void)b
#endif

// Begins d += a b, of descriptors; tag says the type.
template <bool A_BY_K, bool B_BY_K>
__device__ __forceinline__ void wgmma(__half, float (&d)[16][8], uint64_t a, uint64_t b) {
    MRC_WGMMA("f16");
}
template <bool A_BY_K, bool B_BY_K>
__device__ __forceinline__ void wgmma(__nv_bfloat16, float (&d)[16][8], uint64_t a, uint64_t b) {
    MRC_WGMMA("bf16");
}
#undef MRC_WGMMA
#undef MRC_WG_8

// What threads wrote to d and shared memory comes before the products that follow.
__device__ __forceinline__ void wgmma_fence() {
#if MRC_HAS_WGMMA
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void wgmma_commit() {        // ends a group of products
#if MRC_HAS_WGMMA
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
// Waits until at most N groups of the warpgroup are under way.
template <int N> __device__ __forceinline__ void wgmma_wait() {
#if MRC_HAS_WGMMA
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
#endif
}
// What this thread wrote to shared memory is there for the asynchronous proxy.
__device__ __forceinline__ void wg_publish() {
#if MRC_HAS_WGMMA
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
#else
#include "wgmma_shim.h"
#endif

// The descriptor of an operand of an instruction that begins at `tile`, in rows of k or not.
__device__ __forceinline__ uint64_t wg_descriptor(const void *tile, bool by_k) {
    const uint64_t leading = by_k ? 1 : WG_BLOCK >> 4, stride = WG_PATTERN >> 4, swizzle = 1;
    return (wg_address(tile) & 0x3ffff) >> 4 | leading << 16 | stride << 32 | swizzle << 62;
}
// How far the next 16 k are, in a descriptor's units of 16 bytes.
__device__ __forceinline__ constexpr int wg_next(bool by_k) {
    return (by_k ? 32 : 16 * (int)WG_ROW) >> 4;
}
