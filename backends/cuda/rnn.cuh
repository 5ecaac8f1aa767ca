// rnn.cuh - whole bidirectional recurrent layers: products over all rows, and one sweep over time
//
// Forward: z = x W_ih^T for all rows at once; then the sweep, one persistent launch for both
// directions, in which step s computes row s of every sequence that is that long (from its own end
// in the reverse direction).  A block owns groups of 16 hidden units, which is 16 rows of W_hh for
// each gate that meets the state, and keeps as much of them on the chip as fits; between two steps
// all blocks of a direction meet at a barrier, as every unit reads all of h.  Backward is the same
// sweep against time, a group being 16 columns of W_hh; dx and the weights' gradients are products
// over all rows again.
//
// What a unit does at a step is CELL's, which lstm.cuh and gru.cuh have: GATES that meet the state,
// forward() and backward(), and the pieces of W_ih's rows.  Gates of a row are 4 H wide in each
// direction whatever CELL is, those that meet the state first.
//
// Three kinds of sweep.  "Registers" (16 bits wide, hidden sizes of a table): W_hh in registers, as
// the tensor cores' fragments.  "On the chip" (an LSTM in f32 of large hidden sizes): rnn_chip.cuh.
// "Shared" (any size and type): W_hh in shared memory in slices of
// 128 columns, as many as fit; the others are read again in every step.  A sweep of one block per
// direction needs no barrier and is an ordinary launch.  Which is chosen depends on shapes and on
// the device, and each sums in an order of its own: bits are the same for the same device.
//
// Sequences are visited by falling length, so those that go on are the first ones of a list.
#pragma once
#include "common.cuh"
#include "mma.cuh"
#include <type_traits>

enum {
    RNN_UNITS = 16,                     // hidden units of a group
    RNN_BATCH = 16,                     // sequences that are swept together
    RNN_SLICE = 128,                    // columns of W_hh, or rows of its transpose, in a slice
    RNN_THREADS = 256,                  // of a "shared" block: a unit and a sequence each
    RNN_ONE_BLOCK = 64                  // hidden sizes that one block does alone
};

// Hidden sizes with a sweep in registers, and how many words of W_hh a thread of a full block holds
// on Volta.  On a CPU one size stands for all, and its words do not fit either.
#ifdef __CUDACC__
#define RNN_SIZES(X) X(128) X(256) X(512) X(768) X(1024)
enum { RNN_HELD = 48 };
#else
#define RNN_SIZES(X) X(128)
enum { RNN_HELD = 6 };
#endif

typedef struct rnn_sweep {
    int sequences, h, first_dir, groups, resident;      // resident: slices that stay on the chip
    const int *begin, *length;          // (B) of the sequences, longest first
    const void *weight_hh[2];
    size_t ld_weight[2], ld_y, ld_dy;
    const float *bias_ih[2], *bias_hh[2];
    const float *z;                     // (N, 8 H) x W_ih^T: may be the gates
    void *y, *gates;                    // gates NULL: not wanted
    const void *dy, *state;             // state: y of the forward pass, where CELL wants it
    size_t ld_state;
    float *cells;                       // CELL's own
    float *parts;                       // of rnn_chip.cuh, backward
    unsigned *barrier;                  // (2), 0 before the launch
    int vectors;                        // f32 whose rows can be read four at a time
} rnn_sweep;

// Row of step s of sequence i.
__device__ __forceinline__ size_t rnn_row(const rnn_sweep &a, int i, int s, int dir) {
    return (size_t)(a.begin[i] + (dir ? a.length[i] - 1 - s : s));
}

__device__ __forceinline__ void rnn_signal(unsigned *arrived) {
    if (MRC_BUG(NO_RELEASE)) atomicAdd(arrived, 1u);
    else mrc_red_release(arrived, 1u);
}

// A barrier in halves.  This block has come this far, and is heard to have;
__device__ __forceinline__ void rnn_arrive(unsigned *arrived) {
    __syncthreads();
    if (gridDim.x > 1 && threadIdx.x == 0) rnn_signal(arrived);
}
// and all blocks of the direction have, as thread 0 knows, and the others behind their next
// __syncthreads().  What is between may touch only what no other block writes.
__device__ __forceinline__ void rnn_await(unsigned *arrived, unsigned target) {
    if (gridDim.x == 1 || threadIdx.x != 0) return;
    while (mrc_ld_acquire(arrived) < target) MRC_SPIN();
}

// All blocks of a direction have come this far, and see what the others wrote.  It is not made of
// the two halves: rnn_chip.cuh's kernels have no register left for what those ask twice.
__device__ __forceinline__ void rnn_barrier(unsigned *arrived, unsigned target) {
    __syncthreads();
    if (gridDim.x > 1) {
        if (threadIdx.x == 0) {
            rnn_signal(arrived);
            while (mrc_ld_acquire(arrived) < target) MRC_SPIN();
        }
        __syncthreads();
    }
}

__device__ __forceinline__ float rnn_sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The list of sequences by falling length, and no block at any barrier.
__global__ void rnn_order_kernel(const int *cu_seqlens, int sequences, int *begin, int *length,
                                 unsigned *barrier) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < 2) barrier[i] = 0;
    if (i >= sequences) return;
    int mine = cu_seqlens[i + 1] - cu_seqlens[i], rank = 0;
    for (int j = 0; j < sequences; j++) {
        int other = cu_seqlens[j + 1] - cu_seqlens[j];
        rank += other > mine || (other == mine && j < i);
    }
    begin[rank] = cu_seqlens[i];
    length[rank] = mine;
}

//==============================================================================
// "Shared": slices of W_hh in shared memory, products in f32
//==============================================================================
// A slice of what the sums run over: rows of W (16 a gate; 16 backward), 16 vectors, in the
// block's shared memory.  A thread makes 4 rows by 4 vectors of a part of the slice, as many parts
// as there are threads; what is left over of them waits.
template <class T, class CELL, bool BACKWARD> struct rnn_shared {
    enum {
        ROWS = BACKWARD ? RNN_UNITS : CELL::GATES * RNN_UNITS,
        PITCH = RNN_SLICE + 16 / (int)sizeof(T),        // of W
        X_PITCH = RNN_SLICE + 4,                        // of the vectors
        PARTS = ROWS == 16 ? 16 : ROWS == 32 ? 8 : 4,
        W_BYTES = ROWS * PITCH * (int)sizeof(T),
        X_BYTES = RNN_BATCH * X_PITCH * (int)sizeof(float),
        SUM_BYTES = PARTS * ROWS * (RNN_BATCH + 1) * (int)sizeof(float)
    };
};

__device__ __forceinline__ float4 rnn_load4(const float *p) { return *(const float4 *)p; }
template <class T> __device__ __forceinline__ float4 rnn_load4(const T *p) {
    return make_float4((float)p[0], (float)p[1], (float)p[2], (float)p[3]);
}

// Thread's rows row + ROWS / 4 i, vectors vector + 4 j.
template <class T, class CELL, bool BACKWARD>
__device__ void rnn_multiply(float (&sums)[4][4], const T *w, const float *x) {
    typedef rnn_shared<T, CELL, BACKWARD> shape;
    const int part = threadIdx.x / shape::ROWS, t = threadIdx.x % shape::ROWS;
    const int k0 = part * (RNN_SLICE / shape::PARTS);
    if (part >= (int)shape::PARTS) return;
    w += t / 4 * shape::PITCH + k0;
    x += t % 4 * shape::X_PITCH + k0;
#pragma unroll 2
    for (int k = 0; k < RNN_SLICE / shape::PARTS; k += 4) {
        float4 wk[4];
#pragma unroll
        for (int i = 0; i < 4; i++) wk[i] = rnn_load4(w + shape::ROWS / 4 * i * shape::PITCH + k);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float4 xk = rnn_load4(x + 4 * j * shape::X_PITCH + k);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                sums[i][j] += wk[i].x * xk.x;
                sums[i][j] += wk[i].y * xk.y;
                sums[i][j] += wk[i].z * xk.z;
                sums[i][j] += wk[i].w * xk.w;
            }
        }
    }
}

// Leaves a thread's sums where the owners of the units find them: to[part, row, vector].
template <class T, class CELL, bool BACKWARD>
__device__ void rnn_share(const float (&sums)[4][4], float *to) {
    typedef rnn_shared<T, CELL, BACKWARD> shape;
    const int part = threadIdx.x / shape::ROWS, t = threadIdx.x % shape::ROWS;
    if (part >= (int)shape::PARTS) return;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int row = part * shape::ROWS + t / 4 + shape::ROWS / 4 * i;
#pragma unroll
        for (int j = 0; j < 4; j++) to[row * (RNN_BATCH + 1) + t % 4 + 4 * j] = sums[i][j];
    }
}

// A slice of W_hh: rows of the group's gates; or, transposed, columns of its units.
template <class T, class CELL, bool BACKWARD>
__device__ void rnn_slice(T *to, const rnn_sweep &a, int dir, int group, int k0) {
    typedef rnn_shared<T, CELL, BACKWARD> shape;
    const int rows = shape::ROWS, h = a.h, u0 = group * RNN_UNITS;
    const T *w = (const T *)a.weight_hh[dir];
    for (int at = threadIdx.x; at < rows * RNN_SLICE; at += RNN_THREADS) {
        int r = BACKWARD ? at % rows : at / RNN_SLICE, k = BACKWARD ? at / rows : at % RNN_SLICE;
        int unit = u0 + r % RNN_UNITS, row = BACKWARD ? k0 + k : r / RNN_UNITS * h + unit;
        int col = BACKWARD ? unit : k0 + k, there = BACKWARD ? row < CELL::GATES * h : col < h;
        to[r * shape::PITCH + k] = unit < h && there ? w[(size_t)row * a.ld_weight[dir] + col]
                                                     : (T)0.0f;
    }
}

// The vectors that W_hh is multiplied with: h one step ago, dz one step later; 0 where none was.
template <class T, class CELL, bool BACKWARD>
__device__ void rnn_vectors(float *to, const rnn_sweep &a, int dir, int first, int n, int s,
                             int k0) {
    const int size = BACKWARD ? CELL::GATES * a.h : a.h, other = BACKWARD ? s + 1 : s - 1;
    const T *from = (const T *)(BACKWARD ? a.gates : a.y) + (size_t)dir * a.h * (BACKWARD ? 4 : 1);
    const size_t ld = BACKWARD ? (size_t)8 * a.h : a.ld_y;
    for (int at = threadIdx.x; at < RNN_BATCH * RNN_SLICE; at += RNN_THREADS) {
        int b = at / RNN_SLICE, k = at % RNN_SLICE, i = first + b;
        float v = 0;
        if (b < n && k0 + k < size && other < a.length[i]) {
            v = (float)from[rnn_row(a, i, other, dir) * ld + k0 + k];
        }
        to[b * (RNN_SLICE + 4) + k] = v;
    }
}

// What a thread brings of the next slice, 16 bytes at a time, while this one is multiplied: of W,
// unless the slice is kept, and of the vectors.
template <class T, class CELL, bool BACKWARD> struct rnn_ahead {
    typedef rnn_shared<T, CELL, BACKWARD> shape;
    enum { W = (int)shape::ROWS * RNN_SLICE / 4 / RNN_THREADS, X = 2 };
    float4 w[W], x[X];
    const float *from[X];               // of the thread's two vectors; NULL: 0

    __device__ __forceinline__ void start(const rnn_sweep &a, int dir, int first, int n, int s) {
        const int other = BACKWARD ? s + 1 : s - 1;
        const size_t ld = BACKWARD ? (size_t)8 * a.h : a.ld_y;
        const float *base = (const float *)(BACKWARD ? a.gates : a.y)
                          + (size_t)dir * a.h * (BACKWARD ? 4 : 1);
#pragma unroll
        for (int i = 0; i < X; i++) {
            const int b = (int)threadIdx.x / 32 + 8 * i;
            const bool there = b < n && other < a.length[first + b];
            from[i] = there ? base + rnn_row(a, first + b, other, dir) * ld : nullptr;
        }
    }
    __device__ __forceinline__ void fetch(const rnn_sweep &a, int dir, int group, int k0,
                                          bool kept) {
        const int u0 = group * RNN_UNITS, size = BACKWARD ? CELL::GATES * a.h : a.h;
        const int at = k0 + (int)threadIdx.x % 32 * 4;
        const float *from_w = (const float *)a.weight_hh[dir];
#pragma unroll
        for (int i = 0; i < X; i++) {
            const bool there = from[i] && at < size;
            x[i] = there ? *(const float4 *)(from[i] + at) : make_float4(0, 0, 0, 0);
        }
        if (kept) return;
#pragma unroll
        for (int i = 0; i < W; i++) {
            const int e = (int)threadIdx.x + i * RNN_THREADS;
            const int r = e / 32, unit = BACKWARD ? u0 + e % 4 * 4 : u0 + r % RNN_UNITS;
            const int row = BACKWARD ? k0 + e / 4 : r / RNN_UNITS * a.h + unit;
            const int col = BACKWARD ? unit : at;
            const bool there = unit < a.h && (BACKWARD ? row : col) < size;
            w[i] = there ? *(const float4 *)(from_w + (size_t)row * a.ld_weight[dir] + col)
                         : make_float4(0, 0, 0, 0);
        }
    }
    __device__ __forceinline__ void put(float *to_w, float *to_x, bool kept) const {
#pragma unroll
        for (int i = 0; i < X; i++) {
            *(float4 *)(to_x + (threadIdx.x / 32 + 8 * i) * shape::X_PITCH
                        + threadIdx.x % 32 * 4) = x[i];
        }
        if (kept) return;
#pragma unroll
        for (int i = 0; i < W; i++) {
            const int e = (int)threadIdx.x + i * RNN_THREADS;
            if (!BACKWARD) {
                *(float4 *)(to_w + e / 32 * shape::PITCH + e % 32 * 4) = w[i];
                continue;
            }
            float *to = to_w + e % 4 * 4 * shape::PITCH + e / 4;
            to[0] = w[i].x;
            to[(int)shape::PITCH] = w[i].y;
            to[2 * (int)shape::PITCH] = w[i].z;
            to[3 * (int)shape::PITCH] = w[i].w;
        }
    }
};

// All products of one group at one step, into part.  slot: the group's number within the block.
template <class T, class CELL, bool BACKWARD>
__device__ void rnn_products(const rnn_sweep &a, T *w, float *x, float *part, int dir,
                              int group, int slot, int first, int n, int s) {
    typedef rnn_shared<T, CELL, BACKWARD> shape;
    const int slices = ((BACKWARD ? CELL::GATES * a.h : a.h) + RNN_SLICE - 1) / RNN_SLICE;
    const bool ahead = sizeof(T) == sizeof(float) && a.vectors;
    float sums[4][4] = {};
    rnn_ahead<T, CELL, BACKWARD> next;
    if (ahead) {
        next.start(a, dir, first, n, s);
        next.fetch(a, dir, group, 0, slot * slices < a.resident);
    }
    for (int k = 0; k < slices; k++) {
        const int number = slot * slices + k;
        const bool kept = number < a.resident;
        T *slice = w + (size_t)(kept ? number : a.resident) * (shape::W_BYTES / sizeof(T));
        if (ahead) {
            next.put((float *)slice, x, kept);
        } else {
            rnn_vectors<T, CELL, BACKWARD>(x, a, dir, first, n, s, k * RNN_SLICE);
            if (!kept) rnn_slice<T, CELL, BACKWARD>(slice, a, dir, group, k * RNN_SLICE);
        }
        __syncthreads();
        if (ahead && k + 1 < slices) {
            const int k1 = MRC_BUG(RNN_AHEAD) ? k : k + 1;
            next.fetch(a, dir, group, k1 * RNN_SLICE, number + 1 < a.resident);
        }
        rnn_multiply<T, CELL, BACKWARD>(sums, slice, x);
        __syncthreads();
    }
    rnn_share<T, CELL, BACKWARD>(sums, part);
    __syncthreads();
}

// What a thread's unit needs of step s beside the sums.
template <class T, class CELL, bool BACKWARD>
__device__ __forceinline__ void rnn_read(float *from, const rnn_sweep &a, int i, int s, int row,
                                         int dir, int unit) {
    if (BACKWARD) CELL::template read_back<T>(from, a, i, s, row, dir, unit);
    else CELL::template read<T>(from, a, s, row, dir, unit);
}

// A thread's unit of its sequence, from the products of the group.
template <class T, class CELL, bool BACKWARD>
__device__ void rnn_unit(const rnn_sweep &a, const float *part, bool products, int dir, int unit,
                          int i, int s) {
    typedef rnn_shared<T, CELL, BACKWARD> shape;
    const int u = threadIdx.x % RNN_UNITS, b = threadIdx.x / RNN_UNITS % RNN_BATCH;
    float sums[4] = {};
#pragma unroll
    for (int g = 0; products && g < (int)shape::ROWS / RNN_UNITS; g++) {
#pragma unroll
        for (int p = 0; p < (int)shape::PARTS; p++) {
            sums[g] += part[(p * shape::ROWS + g * RNN_UNITS + u) * (RNN_BATCH + 1) + b];
        }
    }
    const int row = (int)rnn_row(a, i, s, dir);
    float from[BACKWARD ? CELL::READS_BACK : CELL::READS], biases[CELL::BIASES];
    rnn_read<T, CELL, BACKWARD>(from, a, i, s, row, dir, unit);
    if (!BACKWARD) CELL::read_biases(biases, a, dir, unit);
    if (BACKWARD) CELL::template backward<T>(a, from, sums[0], i, row, dir, unit);
    else CELL::template forward<T>(a, from, biases, sums, row, dir, unit);
}

// How many sequences have a row at step s; they are the first ones.
__device__ __forceinline__ int rnn_active(const rnn_sweep &a, int active, int s) {
    while (active > 0 && a.length[active - 1] <= s) active--;
    while (active < a.sequences && a.length[active] > s) active++;
    return active;
}

// Grid (blocks, directions).  Block b does the groups b, b + blocks, ..
template <class T, class CELL, bool BACKWARD>
__global__ void __launch_bounds__(RNN_THREADS, 1) rnn_shared_kernel(rnn_sweep a) {
    typedef rnn_shared<T, CELL, BACKWARD> shape;
    MRC_DYN_SMEM(unsigned char, smem);
    float *x = (float *)smem, *part = (float *)(smem + shape::X_BYTES);
    T *w = (T *)(smem + shape::X_BYTES + shape::SUM_BYTES);
    const int dir = a.first_dir + blockIdx.y, steps = a.length[0];
    const int slices = ((BACKWARD ? CELL::GATES * a.h : a.h) + RNN_SLICE - 1) / RNN_SLICE;
    for (int k = 0; k < a.resident; k++) {
        rnn_slice<T, CELL, BACKWARD>(w + (size_t)k * (shape::W_BYTES / sizeof(T)), a, dir,
                                blockIdx.x + k / slices * gridDim.x, k % slices * RNN_SLICE);
    }
    int active = BACKWARD ? 0 : a.sequences;
    for (int step = 0; step < steps; step++) {
        const int s = BACKWARD ? steps - 1 - step : step;
        active = rnn_active(a, active, s);
        for (int first = 0; first < active; first += RNN_BATCH) {
            const int n = active - first < RNN_BATCH ? active - first : RNN_BATCH;
            // The longest of these says whether any has a step before, or after, this one.
            const bool products = BACKWARD ? s + 1 < a.length[first] : s > 0;
            const int i = first + threadIdx.x / RNN_UNITS;
            int slot = 0;
            for (int group = blockIdx.x; group < a.groups; group += gridDim.x, slot++) {
                const int unit = group * RNN_UNITS + threadIdx.x % RNN_UNITS;
                if (products) {
                    rnn_products<T, CELL, BACKWARD>(a, w, x, part, dir, group, slot, first, n, s);
                }
                if (i < first + n && unit < a.h) {
                    rnn_unit<T, CELL, BACKWARD>(a, part, products, dir, unit, i, s);
                }
                __syncthreads();
            }
        }
        rnn_barrier(a.barrier + dir, (unsigned)(step + 1) * gridDim.x);
    }
}

//==============================================================================
// "Registers": W_hh as the tensor cores' fragments, in registers from the first step to the last
//==============================================================================
// 4 warps a gate share a group's products: each has rows of W and a part of what the sums run
// over, and holds that much of W once.  A lane reads its vectors 16 bytes at a time: what k an
// element has is free, as long as W has the same.
template <class T, class CELL, int H, int ARCH, bool BACKWARD> struct rnn_registers {
    enum {
        GATES = CELL::GATES,
        THREADS = 128 * GATES,
        K = BACKWARD ? GATES * H : H,
        // Path 80 forward: a warp has one gate's 16 rows and a quarter of k; path 70: a quad pair
        // has 8 rows and an eighth.  Backward every warp has the 16 units, and its part of k.
        PARTS = BACKWARD ? 4 * GATES : ARCH == 70 ? 8 : 4,
        ROWS = RNN_UNITS * (BACKWARD ? 1 : GATES),
        // On path 70 backward the quad pairs of a warp share its k in halves.
        K_LANE = K / PARTS / (BACKWARD && ARCH == 70 ? 2 : 1),
        WORDS = ARCH == 70 ? K_LANE / 2 : K_LANE / 4,
        // Path 70 has no registers to spare: one eight of sequences at a time, and of many words
        // a few wait in shared memory, unless there are few enough threads.
        EIGHTS = ARCH == 70 ? 1 : 2,
        HELD = ARCH == 70 && THREADS > 384 && WORDS > RNN_HELD ? RNN_HELD : WORDS,
        SUMS = PARTS * ROWS * (RNN_BATCH + 1),
        // What units read ahead, biases once, and the rows of RNN_BATCH sequences.
        READS = BACKWARD ? CELL::READS_BACK : CELL::READS,
        AHEAD = (READS + (BACKWARD ? 0 : CELL::BIASES)) * RNN_UNITS * RNN_BATCH,
        BYTES = (SUMS + (WORDS - HELD) * THREADS + AHEAD + 2 * RNN_BATCH) * 4
    };
    // Forward, which eight rows of which part a quad pair of path 70 has.
    static __device__ int slot(int warp, int lane) { return warp * 4 + (lane >> 2 & 3); }
    static __device__ int part(int warp, int lane) {
        return BACKWARD ? warp : ARCH == 70 ? slot(warp, lane) / (2 * GATES) : warp / GATES;
    }
    // Where a lane's k begins.
    static __device__ int first_k(int warp, int lane) {
        int k = part(warp, lane) * (K / PARTS);
        return BACKWARD && ARCH == 70 ? k + (lane >> 3 & 1) * (int)K_LANE : k;
    }
    // The first of the rows that a warp, on path 70 a quad pair, has.
    static __device__ int first_row(int warp, int lane) {
        if (ARCH != 70) return BACKWARD ? 0 : warp % GATES * 16;
        return (BACKWARD ? lane >> 2 & 1 : slot(warp, lane) % (2 * GATES)) * 8;
    }
};

// Two neighbouring elements of a row of W (a column, backward) as one word.
template <class T, int H, bool BACKWARD>
__device__ unsigned rnn_pair(const T *w, size_t ld, int u0, int row, int k) {
    const unsigned short *p = (const unsigned short *)w;
    if (BACKWARD) {
        p += (size_t)k * ld + u0 + row;
        return p[0] | (unsigned)p[ld] << 16;
    }
    p += ((size_t)(row / RNN_UNITS) * H + u0 + row % RNN_UNITS) * ld + k;
    return p[0] | (unsigned)p[1] << 16;
}

template <class T, class CELL, int H, int ARCH, bool BACKWARD, int HELD>
__device__ void rnn_load_weights(unsigned (&w)[HELD], unsigned *others, const rnn_sweep &a,
                                  int dir) {
    typedef rnn_registers<T, CELL, H, ARCH, BACKWARD> shape;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, u0 = blockIdx.x * RNN_UNITS;
    const int k0 = shape::first_k(warp, lane), r0 = shape::first_row(warp, lane);
    const T *from = (const T *)a.weight_hh[dir];
#pragma unroll
    for (int i = 0; i < shape::WORDS; i++) {
        int row, k;
        if (ARCH == 70) {                       // two words are 4 k of a row
            row = r0 + (lane & 3) + (lane >> 4) * 4;
            k = k0 + i * 2;
        } else {                                // 8 words are 32 k, 8 in a row to a lane
            row = r0 + (lane >> 2) + (i & 1) * 8;
            k = k0 + i / 8 * 32 + (lane & 3) * 8 + (i / 4 & 1) * 4 + (i / 2 & 1) * 2;
        }
        unsigned pair = rnn_pair<T, H, BACKWARD>(from, a.ld_weight[dir], u0, row, k);
        if (i < HELD) w[i < HELD ? i : 0] = pair;
        else others[(i - HELD) * shape::THREADS + threadIdx.x] = pair;
    }
}

// The vector of a row that W is multiplied with, from a lane's first k on; NULL: 0.
template <class T, int H, bool BACKWARD>
__device__ __forceinline__ const T *rnn_vector(const rnn_sweep &a, int row, int dir, int k) {
    if (row < 0) return nullptr;
    return BACKWARD ? (const T *)a.gates + (size_t)row * 8 * H + (size_t)dir * 4 * H + k
                    : (const T *)a.y + (size_t)row * a.ld_y + (size_t)dir * H + k;
}

__device__ __forceinline__ uint4 rnn_load16(const void *p) {
    return p ? *(const uint4 *)p : make_uint4(0, 0, 0, 0);
}

// Two steps of one accumulator: 8 k of path 70's lane, 32 of path 80's four.
template <int ARCH>
__device__ __forceinline__ void rnn_mma(__half tag, float *d, const unsigned *a,
                                         const unsigned *b) {
    if (ARCH == 70) {
        mma_884<true, true>(d, a, b);
        mma_884<true, true>(d, a + 2, b + 2);
    } else {
        mma_16816(tag, d, a, b);
        mma_16816(tag, d, a + 4, b + 2);
    }
}
template <int ARCH>
__device__ __forceinline__ void rnn_mma(__nv_bfloat16 tag, float *d, const unsigned *a,
                                         const unsigned *b) {
    mma_16816(tag, d, a, b);
    mma_16816(tag, d, a + 4, b + 2);
}

template <class T, class CELL, int H, int ARCH, bool BACKWARD, int EIGHTS, int HELD>
__device__ void rnn_fragments(float (&sums)[EIGHTS][8], const unsigned (&w)[HELD],
                               const unsigned *others, const rnn_sweep &a, int dir,
                               const int *rows) {
    typedef rnn_registers<T, CELL, H, ARCH, BACKWARD> shape;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, k0 = shape::first_k(warp, lane);
    const int column = ARCH == 70 ? (lane & 3) + (lane >> 4) * 4 : lane >> 2;
    const int skip = ARCH == 70 ? 8 : 32, mine = ARCH == 70 ? 0 : (lane & 3) * 8;
    const T *x[EIGHTS];
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) {
        x[j] = rnn_vector<T, H, BACKWARD>(a, rows[column + 8 * j], dir, k0 + mine);
    }
#pragma unroll
    for (int k = 0; k < shape::K_LANE; k += skip) {
        const int words = ARCH == 70 ? 4 : 8, at = k / skip * words;
        unsigned wk[words];
#pragma unroll
        for (int i = 0; i < words; i++) {
            if (at + i < HELD) wk[i] = w[at + i < HELD ? at + i : 0];
            else wk[i] = others[(at + i - HELD) * shape::THREADS + threadIdx.x];
        }
#pragma unroll
        for (int j = 0; j < EIGHTS; j++) {
            uint4 v = rnn_load16(x[j] ? x[j] + k : nullptr);
            unsigned b[4] = { v.x, v.y, v.z, v.w };
            rnn_mma<ARCH>(T(), sums[j], wk, b);
        }
    }
}

// Element e of a lane's sums over sequences j: path 80 has 4 of 16 rows, path 70 8 of 8.
template <class T, class CELL, int H, int ARCH, bool BACKWARD, int EIGHTS>
__device__ void rnn_share_fragments(float (&sums)[EIGHTS][8], float *part) {
    typedef rnn_registers<T, CELL, H, ARCH, BACKWARD> shape;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int r0 = shape::part(warp, lane) * shape::ROWS + shape::first_row(warp, lane);
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) {
#pragma unroll
        for (int e = 0; e < (ARCH == 70 ? 8 : 4); e++) {
            int row = ARCH == 70 ? (lane & 1) + (e & 2) + (lane >> 4) * 4
                                 : (lane >> 2) + (e >> 1) * 8;
            int col = ARCH == 70 ? (e & 4) + (lane & 2) + (e & 1) : (lane & 3) * 2 + (e & 1);
            float v = sums[j][e];
            if (ARCH == 70 && BACKWARD) {       // the other half of the warp's k
                v += __shfl_xor_sync(0xffffffffu, v, 8);
                if (lane & 8) continue;
            }
            part[(r0 + row) * (RNN_BATCH + 1) + col + 8 * j] = v;
        }
    }
}

// A thread's unit of its sequence: the parts of the sums, in their order.
template <class T, class CELL, int H, int ARCH, bool BACKWARD>
__device__ void rnn_unit_of_parts(const rnn_sweep &a, const float *part, const float *ahead,
                                  bool products, int dir, int i, int row) {
    typedef rnn_registers<T, CELL, H, ARCH, BACKWARD> shape;
    const int u = threadIdx.x % RNN_UNITS, b = threadIdx.x / RNN_UNITS;
    const int unit = blockIdx.x * RNN_UNITS + u;
    float sums[4] = {}, from[shape::READS + CELL::BIASES];
    for (int p = 0; products && p < shape::PARTS; p++) {
#pragma unroll
        for (int g = 0; g < shape::ROWS / RNN_UNITS; g++) {
            sums[g] += part[(p * shape::ROWS + g * RNN_UNITS + u) * (RNN_BATCH + 1) + b];
        }
    }
#pragma unroll
    for (int k = 0; k < (int)shape::READS + (BACKWARD ? 0 : (int)CELL::BIASES); k++) {
        from[k] = ahead[k * RNN_UNITS * RNN_BATCH + threadIdx.x];
    }
    if (BACKWARD) CELL::template backward<T>(a, from, sums[0], i, row, dir, unit);
    else CELL::template forward<T>(a, from, from + shape::READS, sums, row, dir, unit);
}

// What a step needs that no other block writes: what the thread's unit reads, and in `rows` each
// sequence's row, behind them the rows of the vectors that W meets, -1: none.  Asked for with
// start() and left in shared memory, where its thread finds what it read, with put().
template <class T, class CELL, bool BACKWARD> struct rnn_early {
    enum { READS = BACKWARD ? CELL::READS_BACK : CELL::READS };
    float from[READS];

    __device__ __forceinline__ void start(const rnn_sweep &a, int *rows, int dir, int first,
                                          int last, int s) {
        const int b = threadIdx.x / RNN_UNITS, u = threadIdx.x % RNN_UNITS, i = first + b;
        int row = -1, other = -1;
        if (b >= RNN_BATCH) return;
        if (i < last) {
            row = (int)rnn_row(a, i, s, dir);
            if (BACKWARD ? s + 1 < a.length[i] : s > 0) other = row + (BACKWARD == dir ? -1 : 1);
        }
        if (u == 0) rows[b] = row, rows[RNN_BATCH + b] = other;
        if (i < last) {
            rnn_read<T, CELL, BACKWARD>(from, a, i, MRC_BUG(RNN_EARLY) ? 0 : s, row, dir,
                                        blockIdx.x * RNN_UNITS + u);
        }
    }
    __device__ __forceinline__ void put(float *ahead, int first, int last) const {
        if (first + (int)threadIdx.x / RNN_UNITS >= last) return;
        if (threadIdx.x >= RNN_UNITS * RNN_BATCH) return;
#pragma unroll
        for (int k = 0; k < (int)READS; k++) {
            ahead[k * RNN_UNITS * RNN_BATCH + threadIdx.x] = from[k];
        }
    }
    // Behind them, once: the biases.
    static __device__ __forceinline__ void put_biases(float *ahead, const rnn_sweep &a, int dir) {
        float biases[CELL::BIASES];
        if (BACKWARD || threadIdx.x >= RNN_UNITS * RNN_BATCH) return;
        CELL::read_biases(biases, a, dir, blockIdx.x * RNN_UNITS + threadIdx.x % RNN_UNITS);
        for (int k = 0; k < (int)CELL::BIASES; k++) {
            ahead[(READS + k) * RNN_UNITS * RNN_BATCH + threadIdx.x] = biases[k];
        }
    }
};

// Grid (H / 16, directions).  What a step needs of its own block comes while the barrier before it
// waits for the others.
template <class T, class CELL, int H, int ARCH, bool BACKWARD>
__global__ void __launch_bounds__(128 * CELL::GATES, 1) rnn_register_kernel(rnn_sweep a) {
    typedef rnn_registers<T, CELL, H, ARCH, BACKWARD> shape;
    if (!MRC_HAS_PATH(ARCH)) return;
    MRC_DYN_SMEM(float, part);
    const int dir = a.first_dir + blockIdx.y, steps = a.length[0];
    unsigned w[shape::HELD], *others = (unsigned *)(part + shape::SUMS);
    float *ahead = (float *)(others + (shape::WORDS - shape::HELD) * shape::THREADS);
    int *rows = (int *)(ahead + shape::AHEAD);
    rnn_early<T, CELL, BACKWARD> early = {};
    rnn_load_weights<T, CELL, H, ARCH, BACKWARD>(w, others, a, dir);
    early.put_biases(ahead, a, dir);
    int active = BACKWARD ? 0 : a.sequences;
    for (int step = 0; step < steps; step++) {
        const int s = BACKWARD ? steps - 1 - step : step;
        // The first sequences' is there already, but for the first step.
        if (step == 0) active = rnn_active(a, active, s);
        for (int first = 0; first < active; first += RNN_BATCH) {
            const int last = active - first < RNN_BATCH ? active : first + RNN_BATCH;
            const bool products = step > 0
                               && (!BACKWARD || first == 0 || s + 1 < a.length[first]);
            if (step == 0 || first > 0) {
                __syncthreads();
                early.start(a, rows, dir, first, last, s);
                early.put(ahead, first, last);
                __syncthreads();
            }
            if (products) {
#pragma unroll 1
                for (int j = 0; j < RNN_BATCH; j += 8 * shape::EIGHTS) {
                    float sums[shape::EIGHTS][8] = {};
                    rnn_fragments<T, CELL, H, ARCH, BACKWARD>(sums, w, others, a, dir,
                                                              rows + RNN_BATCH + j);
                    rnn_share_fragments<T, CELL, H, ARCH, BACKWARD>(sums, part + j);
                }
                __syncthreads();
            }
            const int i = first + threadIdx.x / RNN_UNITS;
            if (threadIdx.x < RNN_UNITS * RNN_BATCH && i < last) {
                rnn_unit_of_parts<T, CELL, H, ARCH, BACKWARD>(a, part, ahead, products, dir, i,
                                                              rows[threadIdx.x / RNN_UNITS]);
            }
        }
        rnn_arrive(a.barrier + dir);
        const int next = BACKWARD ? s - 1 : s + 1;
        active = step + 1 < steps ? rnn_active(a, active, next) : 0;
        const int of_next = active < RNN_BATCH ? active : RNN_BATCH;
        early.start(a, rows, dir, 0, of_next, next);
        rnn_await(a.barrier + dir, (unsigned)(step + 1) * gridDim.x);
        early.put(ahead, 0, of_next);
        __syncthreads();
    }
}

//==============================================================================
// Host: which sweep, and the products around it
//==============================================================================
// Whether the device holds all these blocks at once, as a grid barrier needs.
template <class K>
static bool rnn_fit(mrc_cuda *c, K *kernel, int threads, size_t smem, int blocks) {
    int per_processor = 0, cooperative = 0;
    if (cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, c->device)
        || !cooperative) return false;
    if (mrc_cuda_allow(c, kernel, smem) != MRC_OK
        || cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, threads, smem)) {
        return false;
    }
    return (int64_t)per_processor * c->processors >= blocks;
}

// A launch of blocks that wait for each other, refused because part of the device is others' (MPS,
// MIG): what rnn_fit() counted is not there.  Then fewer blocks are tried.
static bool rnn_refused(int e) {
    if (e != cudaErrorCooperativeLaunchTooLarge) return false;
    (void)cudaGetLastError();
    return true;
}

// Both directions at once where they fit, else one after the other.
template <class K>
static int rnn_launch(mrc_cuda *c, K *kernel, int threads, size_t smem, int blocks,
                       rnn_sweep a) {
    if (blocks == 1) return MRC_LAUNCH(kernel, dim3(1, 2), threads, smem, c->stream, a);
    if (rnn_fit(c, kernel, threads, smem, 2 * blocks)) {
        const int both = MRC_LAUNCH_COOP(kernel, dim3((unsigned)blocks, 2), threads, smem,
                                         c->stream, a);
        if (!rnn_refused(both)) return both;
    }
    int e = 0;
    for (a.first_dir = 0; a.first_dir < 2 && !e; a.first_dir++) {
        e = MRC_LAUNCH_COOP(kernel, dim3((unsigned)blocks, 1), threads, smem, c->stream, a);
    }
    return e;
}

// Returns whether there is such a kernel and the device holds it; then *e is how launching went.
template <class T, class CELL, int H, int ARCH, bool BACKWARD>
static bool rnn_try_registers(mrc_cuda *c, const rnn_sweep &a, int *e) {
    typedef rnn_registers<T, CELL, H, ARCH, BACKWARD> shape;
    const size_t smem = shape::BYTES;
    auto *kernel = rnn_register_kernel<T, CELL, H, ARCH, BACKWARD>;
    if (!rnn_fit(c, kernel, shape::THREADS, smem, H / RNN_UNITS)) return false;
    *e = rnn_launch(c, kernel, shape::THREADS, smem, H / RNN_UNITS, a);
    return !rnn_refused(*e);
}

template <class T, class CELL, int ARCH, bool BACKWARD>
static bool rnn_sizes(mrc_cuda *c, const rnn_sweep &a, int *e) {
    switch (a.h) {
#define RNN_CASE(h) case h: return rnn_try_registers<T, CELL, h, ARCH, BACKWARD>(c, a, e);
    RNN_SIZES(RNN_CASE)
#undef RNN_CASE
    default: return false;
    }
}
// See rnn_chip.cuh.
template <bool BACKWARD> static bool rnn_on_chip(mrc_cuda *c, const rnn_sweep &a, int *e);
template <class CELL, bool BACKWARD>
static bool rnn_in_registers(float, mrc_cuda *c, const rnn_sweep &a, int *e) {
    if constexpr (CELL::CHIP) return rnn_on_chip<BACKWARD>(c, a, e);
    (void)c, (void)a, (void)e;
    return false;
}
template <class CELL, bool BACKWARD>
static bool rnn_in_registers(__half, mrc_cuda *c, const rnn_sweep &a, int *e) {
    return c->path < 80 ? rnn_sizes<__half, CELL, 70, BACKWARD>(c, a, e)
                        : rnn_sizes<__half, CELL, 80, BACKWARD>(c, a, e);
}
template <class CELL, bool BACKWARD>
static bool rnn_in_registers(__nv_bfloat16, mrc_cuda *c, const rnn_sweep &a, int *e) {
    return rnn_sizes<__nv_bfloat16, CELL, 80, BACKWARD>(c, a, e);
}

// The sweep that takes any size: as many blocks as there are groups if the device holds them.
template <class T, class CELL, bool BACKWARD> static int rnn_any_size(mrc_cuda *c, rnn_sweep a) {
    typedef rnn_shared<T, CELL, BACKWARD> shape;
    auto *kernel = rnn_shared_kernel<T, CELL, BACKWARD>;
    const int slices = ((BACKWARD ? CELL::GATES * a.h : a.h) + RNN_SLICE - 1) / RNN_SLICE;
    const size_t fixed = (size_t)shape::X_BYTES + shape::SUM_BYTES;
    const size_t room = (c->shared_limit - fixed) / shape::W_BYTES;
    int blocks = a.h <= RNN_ONE_BLOCK ? 1 : a.groups;
    size_t smem = 0;
    for (;; blocks = (blocks + 1) / 2) {
        size_t all = (size_t)slices * ((a.groups + blocks - 1) / blocks);
        a.resident = (int)(all <= room ? all : room - 1);
        smem = fixed + (size_t)shape::W_BYTES * (all <= room ? all : room);
        // A device that holds no two blocks, or none that wait, still has one after the other.
        if (blocks > 1 && !rnn_fit(c, kernel, RNN_THREADS, smem, blocks)) continue;
        if (mrc_cuda_allow(c, kernel, smem) != MRC_OK) return cudaErrorInvalidValue;
        const int e = rnn_launch(c, kernel, RNN_THREADS, smem, blocks, a);
        if (blocks == 1 || !rnn_refused(e)) return e;
    }
}

// Sizes that an int counts: what is larger is refused.
static bool rnn_counts(size_t n, size_t sequences, size_t in, size_t h) {
    return n < INT32_MAX / 2 && sequences < INT32_MAX && in < INT32_MAX && h < INT32_MAX / 16;
}

// What a sweep's workspace begins with: the list of sequences and the barriers.
static size_t rnn_list_bytes(size_t sequences) {
    return (2 * sequences + 2 + 15) / 16 * 16 * sizeof(int);
}
static int rnn_list(mrc_cuda *c, rnn_sweep *a, const void *cu_seqlens, size_t sequences,
                     void *workspace) {
    int *list = (int *)workspace;
    a->sequences = (int)sequences;
    a->begin = list;
    a->length = list + sequences;
    a->barrier = (unsigned *)(list + 2 * sequences);
    return MRC_LAUNCH(rnn_order_kernel, mrc_cuda_blocks(sequences, 128), 128, 0, c->stream,
                      (const int *)cu_seqlens, (int)sequences, list, list + sequences,
                      a->barrier);
}

template <class T, class CELL, bool BACKWARD> static int rnn_run(mrc_cuda *c, rnn_sweep a) {
    int e = 0;
    // Whole sectors of 32 bytes: no processor may have a part of one in its cache before the rest
    // of it was written.
    const bool aligned = a.ld_y * sizeof(T) % 32 == 0 && (uintptr_t)a.y % 32 == 0
                      && (uintptr_t)a.gates % 32 == 0;
    a.groups = (a.h + RNN_UNITS - 1) / RNN_UNITS;
    const uintptr_t read = (uintptr_t)a.y | (uintptr_t)a.gates | (uintptr_t)a.weight_hh[0]
                         | (uintptr_t)a.weight_hh[1];
    a.vectors = std::is_same<T, float>::value && a.h % 4 == 0 && read % 16 == 0
             && (a.ld_y | a.ld_weight[0] | a.ld_weight[1]) % 4 == 0;
    if (aligned && rnn_in_registers<CELL, BACKWARD>(T(), c, a, &e)) return e;
    return rnn_any_size<T, CELL, BACKWARD>(c, a);
}

//==============================================================================
// The products around the sweep
//==============================================================================
// Rows of W_ih, in H: where they begin, how many, and where their products stand among the gates.
typedef struct rnn_piece { int row, count, column; } rnn_piece;

static mrc_status rnn_gemm(mrc_backend *be, mrc_dtype table, mrc_gemm_args g) {
    return g.c.data ? be->kernels[table].gemm(be, &g) : MRC_OK;
}
template <class T> static mrc_in rnn_rows(mrc_in weight, size_t row) {
    weight.data = (const T *)weight.data + row * weight.ld;
    return weight;
}

// z in f32 needs a place of its own unless the gates are f32 and kept.
template <class T, class Args> static size_t rnn_z_bytes(const Args *a) {
    return sizeof(T) == sizeof(float) && a->gates.data ? 0 : a->n * a->h * 8 * sizeof(float);
}
// What a workspace begins with: the list, and z.  What CELL wants comes behind.
template <class T, class Args> static size_t rnn_fwd_bytes(const Args *a) {
    return rnn_list_bytes(a->n_sequences) + rnn_z_bytes<T>(a);
}

template <class T, class CELL, class Args>
static mrc_status rnn_fwd(mrc_backend *be, const Args *a, float *cells) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    if (!rnn_counts(a->n, a->n_sequences, a->in, a->h)) return MRC_ERR_UNSUPPORTED;
    if (a->n == 0) return MRC_OK;
    char *at = (char *)a->workspace + rnn_list_bytes(a->n_sequences);
    const size_t h = a->h;
    float *z = rnn_z_bytes<T>(a) ? (float *)at : (float *)a->gates.data;
    rnn_sweep s = {};
    s.h = (int)h;
    s.z = z;
    s.y = a->y.data;
    s.ld_y = a->y.ld;
    s.gates = a->gates.data;
    s.cells = cells;
    for (int d = 0; d < 2; d++) {
        for (int k = 0; k < CELL::PIECES; k++) {
            const rnn_piece piece = CELL::piece(k);
            mrc_gemm_args g = {};
            g.m = a->n;
            g.n = piece.count * h;
            g.k = a->in;
            g.b_transposed = 1;
            g.a = a->x;
            g.b = rnn_rows<T>(a->weight_ih[d], piece.row * h);
            g.c = { MRC_DTYPE_F32, 8 * h, z + ((size_t)d * 4 + piece.column) * h, 0 };
            MRC_CUDA_TRY(rnn_gemm(be, a->x.dtype, g));
        }
        s.weight_hh[d] = a->weight_hh[d].data;
        s.ld_weight[d] = a->weight_hh[d].ld;
        s.bias_ih[d] = (const float *)a->bias_ih[d].data;
        s.bias_hh[d] = (const float *)a->bias_hh[d].data;
    }
    MRC_CUDA_TRY(mrc_cuda_check(c, rnn_list(c, &s, a->cu_seqlens.data, a->n_sequences,
                                            a->workspace)));
    return mrc_cuda_check(c, rnn_run<T, CELL, false>(c, s));
}

// to[r] = what the step before row r made of h: 0 at a sequence's beginning, in the reverse
// direction at its end.  A block a row.
template <class T>
__global__ void rnn_before_kernel(T *to, const T *y, size_t ld_y, int h, const int *cu_seqlens,
                                  int sequences) {
    const int row = blockIdx.x, i = mrc_cuda_sequence_of(cu_seqlens, sequences, row);
    for (int k = threadIdx.x; k < 2 * h; k += blockDim.x) {
        const int before = k < h ? row - 1 : row + 1;
        const bool there = before >= cu_seqlens[i] && before < cu_seqlens[i + 1];
        to[(size_t)row * 2 * h + k] = there ? y[(size_t)before * ld_y + k] : (T)0.0f;
    }
}

typedef struct rnn_biases { float *to[4]; int accumulate[4]; } rnn_biases;      // ih, hh of each

// Sums of dz over rows, and into the four gradients in their order.  A block has 32 elements of the
// biases.  Where fewer gates meet the state than there are, the last piece of b_ih and of b_hh are
// sums of different columns.
template <class T, int GATES>
__global__ void rnn_bias_kernel(const T *dz, int n, int h, rnn_biases g) {
    enum { SUMS = GATES == 4 ? 2 : 4 };
    __shared__ float part[SUMS][8][33];
    const int lane = threadIdx.x & 31, first = threadIdx.x >> 5, o = blockIdx.x * 32 + lane;
    const int of_ih = GATES < 4 && o >= 2 * h ? o + h : o;
    float sum[SUMS] = {};
    for (int r = first; o < GATES * h && r < n; r += 8) {
        for (int k = 0; k < SUMS; k++) {
            sum[k] += (float)dz[((size_t)r * 2 + k % 2) * 4 * h + (k < 2 ? of_ih : o)];
        }
    }
    for (int k = 0; k < SUMS; k++) part[k][first][lane] = sum[k];
    __syncthreads();
    if (first != 0 || o >= GATES * h) return;
    for (int k = 0; k < SUMS; k++) {
        sum[k] = 0;
        for (int i = 0; i < 8; i++) sum[k] += part[k][i][lane];
    }
    for (int k = 0; k < 4; k++) {
        if (g.to[k]) mrc_cuda_give(g.to[k] + o, sum[k % SUMS], g.accumulate[k]);
    }
}

// What a workspace begins with: the list, and y of the steps before.
template <class T, class Args> static size_t rnn_bwd_bytes(const Args *a) {
    return rnn_list_bytes(a->n_sequences) + a->n * a->h * 2 * sizeof(T);
}

// dx and the gradients of W_ih, from dz in the gates' place.
template <class T, class CELL, class Args>
static mrc_status rnn_inputs_bwd(mrc_backend *be, const Args *a) {
    const size_t h = a->h;
    for (int j = 0; j < 2 * CELL::PIECES; j++) {
        const int d = j / CELL::PIECES;
        const rnn_piece piece = CELL::piece(j % CELL::PIECES);
        mrc_gemm_args g = {};
        g.m = a->n;
        g.n = a->in;
        g.k = piece.count * h;
        g.a = { a->gates.dtype, 8 * h,
                (const T *)a->gates.data + ((size_t)d * 4 + piece.column) * h };
        g.b = rnn_rows<T>(a->weight_ih[d], piece.row * h);
        g.c = a->dx;
        g.c.accumulate = a->dx.accumulate || j > 0;
        MRC_CUDA_TRY(rnn_gemm(be, a->gates.dtype, g));
        g.m = piece.count * h;
        g.k = a->n;
        g.a_transposed = 1;
        g.b = a->x;
        g.c = a->dweight_ih[d];
        if (g.c.data) g.c.data = (float *)g.c.data + piece.row * h * g.c.ld;
        MRC_CUDA_TRY(rnn_gemm(be, a->gates.dtype, g));
    }
    return MRC_OK;
}

// The gradients of W_hh and of the biases.
template <class T, class CELL, class Args>
static mrc_status rnn_states_bwd(mrc_backend *be, const Args *a, const T *before) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const size_t h = a->h;
    rnn_biases b = {};
    for (int d = 0; d < 2; d++) {
        mrc_gemm_args g = {};
        g.m = CELL::GATES * h;
        g.n = h;
        g.k = a->n;
        g.a_transposed = 1;
        g.a = { a->gates.dtype, 8 * h, (const T *)a->gates.data + (size_t)d * 4 * h };
        g.b = { a->gates.dtype, 2 * h, before + (size_t)d * h };
        g.c = a->dweight_hh[d];
        MRC_CUDA_TRY(rnn_gemm(be, a->gates.dtype, g));
    }
    for (int k = 0; k < 4; k++) {
        const mrc_out *to = k < 2 ? &a->dbias_ih[k] : &a->dbias_hh[k - 2];
        b.to[k] = (float *)to->data;
        b.accumulate[k] = to->accumulate;
    }
    return mrc_cuda_check(c, MRC_LAUNCH((rnn_bias_kernel<T, CELL::GATES>),
                                        mrc_cuda_blocks(CELL::GATES * h, 32), 256, 0, c->stream,
                                        (const T *)a->gates.data, (int)a->n, (int)h, b));
}

template <class T, class CELL, class Args>
static mrc_status rnn_bwd(mrc_backend *be, const Args *a, float *cells) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const size_t h = a->h;
    if (!rnn_counts(a->n, a->n_sequences, a->in, h)) return MRC_ERR_UNSUPPORTED;
    T *before = (T *)((char *)a->workspace + rnn_list_bytes(a->n_sequences));
    rnn_sweep s = {};
    s.parts = (float *)((char *)a->workspace + rnn_bwd_bytes<T>(a));
    s.h = (int)h;
    s.gates = a->gates.data;
    s.cells = cells;
    s.dy = a->dy.data;
    s.ld_dy = a->dy.ld;
    s.state = a->y.data;
    s.ld_state = a->y.ld;
    for (int d = 0; d < 2; d++) {
        s.weight_hh[d] = a->weight_hh[d].data;
        s.ld_weight[d] = a->weight_hh[d].ld;
    }
    if (a->n) {
        MRC_CUDA_TRY(mrc_cuda_check(c, rnn_list(c, &s, a->cu_seqlens.data, a->n_sequences,
                                                a->workspace)));
        MRC_CUDA_TRY(mrc_cuda_check(c, rnn_run<T, CELL, true>(c, s)));
        MRC_CUDA_TRY(mrc_cuda_check(
            c, MRC_LAUNCH(rnn_before_kernel<T>, (unsigned)a->n, 128, 0, c->stream, before,
                          (const T *)a->y.data, a->y.ld, (int)h,
                          (const int *)a->cu_seqlens.data, (int)a->n_sequences)));
    }
    MRC_CUDA_TRY((rnn_inputs_bwd<T, CELL>(be, a)));
    return rnn_states_bwd<T, CELL>(be, a, before);
}
