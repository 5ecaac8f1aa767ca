// lstm.cuh - whole bidirectional LSTM layers: products over all rows, and one sweep over time
//
// Forward: z = x W_ih^T for all rows at once; then the sweep, one persistent launch for both
// directions, in which step s computes row s of every sequence that is that long (from its own end
// in the reverse direction).  A block owns groups of 16 hidden units, which is 64 rows of W_hh, and
// keeps as much of them on the chip as fits; between two steps all blocks of a direction meet at a
// barrier, as every unit reads all of h.  Backward is the same sweep against time, a group being 16
// columns of W_hh; dx and the weights' gradients are products over all rows again.
//
// Two kinds of sweep.  "Registers" (16 bits wide, hidden sizes of a table): W_hh in registers, as
// the tensor cores' fragments.  "Shared" (any size and type): W_hh in shared memory in slices of
// 128 columns, as many as fit; the others are read again in every step.  A sweep of one block per
// direction needs no barrier and is an ordinary launch.  Which is chosen depends on shapes and on
// the device, and each sums in an order of its own: bits are the same for the same device.
//
// Sequences are visited by falling length, so those that go on are the first ones of a list.
#pragma once
#include "common.cuh"
#include "mma.cuh"

enum {
    LSTM_UNITS = 16,                    // hidden units of a group
    LSTM_BATCH = 16,                    // sequences that are swept together
    LSTM_SLICE = 128,                   // columns of W_hh, or rows of its transpose, in a slice
    LSTM_THREADS = 256,                 // of a "shared" block: a unit and a sequence each
    LSTM_REGISTER_THREADS = 512,
    LSTM_ONE_BLOCK = 64                 // hidden sizes that one block does alone
};

typedef struct lstm_sweep {
    int sequences, h, first_dir, groups, resident;      // resident: slices that stay on the chip
    const int *begin, *length;          // (B) of the sequences, longest first
    const void *weight_hh[2];
    size_t ld_weight[2], ld_y, ld_dy;
    const float *bias_ih[2], *bias_hh[2];
    const float *z;                     // (N, 8 H) x W_ih^T: may be the gates
    void *y, *gates;                    // gates NULL: not wanted
    const void *dy;
    float *cells;                       // (N, 2 H): backward leaves f dc of a row in its place
    unsigned *barrier;                  // (2), 0 before the launch
} lstm_sweep;

// Row of step s of sequence i.
__device__ __forceinline__ size_t lstm_row(const lstm_sweep &a, int i, int s, int dir) {
    return (size_t)(a.begin[i] + (dir ? a.length[i] - 1 - s : s));
}

// All blocks of a direction have come this far, and see what the others wrote.
__device__ __forceinline__ void lstm_barrier(unsigned *arrived, unsigned target) {
    __syncthreads();
    if (gridDim.x > 1) {
        if (threadIdx.x == 0) {
#ifdef MRC_CUDA_BUG_NO_RELEASE     // planted: what the tests must catch
            atomicAdd(arrived, 1u);
#else
            mrc_red_release(arrived, 1u);
#endif
            while (mrc_ld_acquire(arrived) < target) MRC_SPIN();
        }
        __syncthreads();
    }
}

__device__ __forceinline__ float lstm_sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The list of sequences by falling length, and no block at any barrier.
__global__ void lstm_order_kernel(const int *cu_seqlens, int sequences, int *begin, int *length,
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
// One unit of one sequence at one step
//==============================================================================
// sums[g]: W_hh h of gate g.  c_before: the cell one step ago.
template <class T>
__device__ void lstm_cell(const lstm_sweep &a, const float *sums, float c_before, size_t row,
                          int dir, int unit) {
    const int h = a.h;
    const size_t at = row * 8 * h + (size_t)dir * 4 * h + unit;
    float v[4];
#pragma unroll
    for (int g = 0; g < 4; g++) {
        float z = a.z[at + (size_t)g * h] + sums[g]
                + (a.bias_ih[dir][g * h + unit] + a.bias_hh[dir][g * h + unit]);
        v[g] = g == 2 ? tanhf(z) : lstm_sigmoid(z);
    }
    float c = v[1] * c_before + v[0] * v[2];
    a.cells[row * 2 * h + (size_t)dir * h + unit] = c;
    ((T *)a.y)[row * a.ld_y + (size_t)dir * h + unit] = (T)(v[3] * tanhf(c));
    if (!a.gates) return;
#pragma unroll
    for (int g = 0; g < 4; g++) ((T *)a.gates)[at + (size_t)g * h] = (T)v[g];
}

// sum: W_hh^T dz of the step that came after, if there was one.
template <class T>
__device__ void lstm_cell_bwd(const lstm_sweep &a, float sum, int i, int s, int dir, int unit) {
    const int h = a.h;
    const size_t row = lstm_row(a, i, s, dir), in_row = (size_t)dir * h + unit;
    T *z = (T *)a.gates + row * 8 * h + (size_t)dir * 4 * h + unit;
    float *cells = a.cells + in_row;
    float before = s > 0 ? cells[lstm_row(a, i, s - 1, dir) * 2 * h] : 0.0f;
    float dc = s + 1 < a.length[i] ? cells[lstm_row(a, i, s + 1, dir) * 2 * h] : 0.0f;
    float dh = (float)((const T *)a.dy)[row * a.ld_dy + in_row] + sum;
    float in = (float)z[0], forget = (float)z[h], g = (float)z[2 * h], o = (float)z[3 * h];
    float t = tanhf(cells[row * 2 * h]);
    dc += dh * o * (1 - t * t);
    z[0] = (T)(dc * g * in * (1 - in));
    z[h] = (T)(dc * before * forget * (1 - forget));
    z[2 * h] = (T)(dc * in * (1 - g * g));
    z[3 * h] = (T)(dh * t * o * (1 - o));
    cells[row * 2 * h] = dc * forget;
}

//==============================================================================
// "Shared": slices of W_hh in shared memory, products in f32
//==============================================================================
// A slice of what the sums run over: rows of W (64 forward, 16 backward), 16 vectors, in the
// blocks' shared memory.  A warp makes 8 rows and, backward, a quarter of the slice.
template <class T, int ROWS> struct lstm_shared {
    enum {
        PITCH = LSTM_SLICE + 16 / (int)sizeof(T),       // of W
        X_PITCH = LSTM_SLICE + 4,                       // of the vectors
        QUARTERS = 64 / ROWS,
        W_BYTES = ROWS * PITCH * (int)sizeof(T),
        X_BYTES = LSTM_BATCH * X_PITCH * (int)sizeof(float),
        SUM_BYTES = 64 * (LSTM_BATCH + 1) * (int)sizeof(float)
    };
};

__device__ __forceinline__ float4 lstm_load4(const float *p) { return *(const float4 *)p; }
template <class T> __device__ __forceinline__ float4 lstm_load4(const T *p) {
    return make_float4((float)p[0], (float)p[1], (float)p[2], (float)p[3]);
}

template <class T, int ROWS>
__device__ void lstm_multiply(float (&sums)[4], const T *w, const float *x) {
    typedef lstm_shared<T, ROWS> shape;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row = warp % (ROWS / 8) * 8 + (lane >> 2), quarter = warp / (ROWS / 8);
    const int k0 = quarter * (LSTM_SLICE / shape::QUARTERS);
    w += row * shape::PITCH + k0;
    x += (lane & 3) * shape::X_PITCH + k0;
#pragma unroll 4
    for (int k = 0; k < LSTM_SLICE / shape::QUARTERS; k += 4) {
        float4 wk = lstm_load4(w + k);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float4 xk = lstm_load4(x + 4 * j * shape::X_PITCH + k);
            sums[j] += wk.x * xk.x + wk.y * xk.y + wk.z * xk.z + wk.w * xk.w;
        }
    }
}

// Leaves a warp's sums where the owners of the units find them: part[quarter, row, sequence].
template <class T, int ROWS> __device__ void lstm_share(const float (&sums)[4], float *part) {
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int row = warp % (ROWS / 8) * 8 + (lane >> 2), quarter = warp / (ROWS / 8);
#pragma unroll
    for (int j = 0; j < 4; j++) {
        part[(quarter * ROWS + row) * (LSTM_BATCH + 1) + (lane & 3) + 4 * j] = sums[j];
    }
}

// A slice of W_hh: rows of the group's gates; or, transposed, columns of its units.
template <class T, bool BACKWARD>
__device__ void lstm_slice(T *to, const lstm_sweep &a, int dir, int group, int k0) {
    typedef lstm_shared<T, BACKWARD ? 16 : 64> shape;
    const int rows = BACKWARD ? 16 : 64, h = a.h, u0 = group * LSTM_UNITS;
    const T *w = (const T *)a.weight_hh[dir];
    for (int at = threadIdx.x; at < rows * LSTM_SLICE; at += LSTM_THREADS) {
        int r = BACKWARD ? at % rows : at / LSTM_SLICE, k = BACKWARD ? at / rows : at % LSTM_SLICE;
        int unit = u0 + r % LSTM_UNITS, row = BACKWARD ? k0 + k : r / LSTM_UNITS * h + unit;
        int col = BACKWARD ? unit : k0 + k, there = BACKWARD ? row < 4 * h : col < h;
        to[r * shape::PITCH + k] = unit < h && there ? w[(size_t)row * a.ld_weight[dir] + col]
                                                     : (T)0.0f;
    }
}

// The vectors that W_hh is multiplied with: h one step ago, dz one step later; 0 where none was.
template <class T, bool BACKWARD>
__device__ void lstm_vectors(float *to, const lstm_sweep &a, int dir, int first, int n, int s,
                             int k0) {
    const int size = BACKWARD ? 4 * a.h : a.h, other = BACKWARD ? s + 1 : s - 1;
    const T *from = (const T *)(BACKWARD ? a.gates : a.y) + (size_t)dir * size;
    const size_t ld = BACKWARD ? (size_t)8 * a.h : a.ld_y;
    for (int at = threadIdx.x; at < LSTM_BATCH * LSTM_SLICE; at += LSTM_THREADS) {
        int b = at / LSTM_SLICE, k = at % LSTM_SLICE, i = first + b;
        float v = 0;
        if (b < n && k0 + k < size && other < a.length[i]) {
            v = (float)from[lstm_row(a, i, other, dir) * ld + k0 + k];
        }
        to[b * (LSTM_SLICE + 4) + k] = v;
    }
}

// All products of one group at one step, into part.  slot: the group's number within the block.
template <class T, bool BACKWARD>
__device__ void lstm_products(const lstm_sweep &a, T *w, float *x, float *part, int dir,
                              int group, int slot, int first, int n, int s) {
    typedef lstm_shared<T, BACKWARD ? 16 : 64> shape;
    const int slices = ((BACKWARD ? 4 * a.h : a.h) + LSTM_SLICE - 1) / LSTM_SLICE;
    float sums[4] = {};
    for (int k = 0; k < slices; k++) {
        const int number = slot * slices + k;
        const bool kept = number < a.resident;
        T *slice = w + (size_t)(kept ? number : a.resident) * (shape::W_BYTES / sizeof(T));
        lstm_vectors<T, BACKWARD>(x, a, dir, first, n, s, k * LSTM_SLICE);
        if (!kept) lstm_slice<T, BACKWARD>(slice, a, dir, group, k * LSTM_SLICE);
        __syncthreads();
        lstm_multiply<T, BACKWARD ? 16 : 64>(sums, slice, x);
        __syncthreads();
    }
    lstm_share<T, BACKWARD ? 16 : 64>(sums, part);
    __syncthreads();
}

// A thread's unit of its sequence, from the products of the group.
template <class T, bool BACKWARD>
__device__ void lstm_unit(const lstm_sweep &a, const float *part, bool products, int dir, int unit,
                          int i, int s) {
    const int u = threadIdx.x % LSTM_UNITS, b = threadIdx.x / LSTM_UNITS % LSTM_BATCH;
    float sums[4] = {};
#pragma unroll
    for (int g = 0; products && g < 4; g++) {
        sums[g] = part[(g * LSTM_UNITS + u) * (LSTM_BATCH + 1) + b];
    }
    if (BACKWARD) {
        lstm_cell_bwd<T>(a, (sums[0] + sums[1]) + (sums[2] + sums[3]), i, s, dir, unit);
    } else {
        float c = s > 0 ? a.cells[lstm_row(a, i, s - 1, dir) * 2 * a.h + (size_t)dir * a.h + unit]
                        : 0.0f;
        lstm_cell<T>(a, sums, c, lstm_row(a, i, s, dir), dir, unit);
    }
}

// How many sequences have a row at step s; they are the first ones.
__device__ __forceinline__ int lstm_active(const lstm_sweep &a, int active, int s) {
    while (active > 0 && a.length[active - 1] <= s) active--;
    while (active < a.sequences && a.length[active] > s) active++;
    return active;
}

// Grid (blocks, directions).  Block b does the groups b, b + blocks, ..
template <class T, bool BACKWARD>
__global__ void __launch_bounds__(LSTM_THREADS, 1) lstm_shared_kernel(lstm_sweep a) {
    typedef lstm_shared<T, BACKWARD ? 16 : 64> shape;
    MRC_DYN_SMEM(unsigned char, smem);
    float *x = (float *)smem, *part = (float *)(smem + shape::X_BYTES);
    T *w = (T *)(smem + shape::X_BYTES + shape::SUM_BYTES);
    const int dir = a.first_dir + blockIdx.y, steps = a.length[0];
    const int slices = ((BACKWARD ? 4 * a.h : a.h) + LSTM_SLICE - 1) / LSTM_SLICE;
    for (int k = 0; k < a.resident; k++) {
        lstm_slice<T, BACKWARD>(w + (size_t)k * (shape::W_BYTES / sizeof(T)), a, dir,
                                blockIdx.x + k / slices * gridDim.x, k % slices * LSTM_SLICE);
    }
    int active = BACKWARD ? 0 : a.sequences;
    for (int step = 0; step < steps; step++) {
        const int s = BACKWARD ? steps - 1 - step : step;
        active = lstm_active(a, active, s);
        for (int first = 0; first < active; first += LSTM_BATCH) {
            const int n = active - first < LSTM_BATCH ? active - first : LSTM_BATCH;
            // The longest of these says whether any has a step before, or after, this one.
            const bool products = BACKWARD ? s + 1 < a.length[first] : s > 0;
            const int i = first + threadIdx.x / LSTM_UNITS;
            int slot = 0;
            for (int group = blockIdx.x; group < a.groups; group += gridDim.x, slot++) {
                const int unit = group * LSTM_UNITS + threadIdx.x % LSTM_UNITS;
                if (products) {
                    lstm_products<T, BACKWARD>(a, w, x, part, dir, group, slot, first, n, s);
                }
                if (i < first + n && unit < a.h) {
                    lstm_unit<T, BACKWARD>(a, part, products, dir, unit, i, s);
                }
                __syncthreads();
            }
        }
        lstm_barrier(a.barrier + dir, (unsigned)(step + 1) * gridDim.x);
    }
}

//==============================================================================
// "Registers": W_hh as the tensor cores' fragments, in registers from the first step to the last
//==============================================================================
// 16 warps share a group's products: each has rows of W and a part of what the sums run over, and
// holds that much of W once.  A lane reads its vectors 16 bytes at a time: what k an element has is
// free, as long as W has the same.
template <class T, int H, int ARCH, bool BACKWARD> struct lstm_registers {
    enum {
        K = BACKWARD ? 4 * H : H,
        // Path 80 forward: a warp has one gate's 16 rows and a quarter of k; path 70: 32 rows and
        // an eighth.  Backward every warp has the 16 units, and a sixteenth.
        PARTS = BACKWARD ? 16 : ARCH == 70 ? 8 : 4,
        ROWS = BACKWARD ? 16 : 64,
        // On path 70 backward the quad pairs of a warp share its k in halves.
        K_LANE = K / PARTS / (BACKWARD && ARCH == 70 ? 2 : 1),
        WORDS = ARCH == 70 ? K_LANE / 2 : K_LANE / 4,
        // Path 70 has no registers to spare: one eight of sequences at a time, and of many words
        // a few wait in shared memory.
        EIGHTS = ARCH == 70 ? 1 : 2,
        HELD = ARCH == 70 && WORDS > 48 ? 48 : WORDS,
        SUMS = PARTS * ROWS * (LSTM_BATCH + 1),
        BYTES = (SUMS + (WORDS - HELD) * LSTM_REGISTER_THREADS) * 4
    };
    static __device__ int part(int warp) {
        return BACKWARD ? warp : ARCH == 70 ? warp >> 1 : warp >> 2;
    }
    // Where a lane's k begins.
    static __device__ int first_k(int warp, int lane) {
        int k = part(warp) * (K / PARTS);
        return BACKWARD && ARCH == 70 ? k + (lane >> 3 & 1) * (int)K_LANE : k;
    }
    // The first of the rows that a warp, on path 70 a quad pair, has.
    static __device__ int first_row(int warp, int lane) {
        if (ARCH != 70) return BACKWARD ? 0 : (warp & 3) * 16;
        return BACKWARD ? (lane >> 2 & 1) * 8 : (warp & 1) * 32 + (lane >> 2 & 3) * 8;
    }
};

// Two neighbouring elements of a row of W (a column, backward) as one word.
template <class T, int H, bool BACKWARD>
__device__ unsigned lstm_pair(const T *w, size_t ld, int u0, int row, int k) {
    const unsigned short *p = (const unsigned short *)w;
    if (BACKWARD) {
        p += (size_t)k * ld + u0 + row;
        return p[0] | (unsigned)p[ld] << 16;
    }
    p += ((size_t)(row / LSTM_UNITS) * H + u0 + row % LSTM_UNITS) * ld + k;
    return p[0] | (unsigned)p[1] << 16;
}

template <class T, int H, int ARCH, bool BACKWARD, int HELD>
__device__ void lstm_load_weights(unsigned (&w)[HELD], unsigned *others, const lstm_sweep &a,
                                  int dir) {
    typedef lstm_registers<T, H, ARCH, BACKWARD> shape;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, u0 = blockIdx.x * LSTM_UNITS;
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
        unsigned pair = lstm_pair<T, H, BACKWARD>(from, a.ld_weight[dir], u0, row, k);
        if (i < HELD) w[i < HELD ? i : 0] = pair;
        else others[(i - HELD) * LSTM_REGISTER_THREADS + threadIdx.x] = pair;
    }
}

// The vector of a sequence that W is multiplied with, from a lane's first k on; NULL: 0.
template <class T, int H, bool BACKWARD>
__device__ const T *lstm_vector(const lstm_sweep &a, int i, int last, int s, int dir, int k) {
    const int other = BACKWARD ? s + 1 : s - 1;
    if (i >= last || other >= a.length[i]) return nullptr;
    size_t row = lstm_row(a, i, other, dir);
    return BACKWARD ? (const T *)a.gates + row * 8 * H + (size_t)dir * 4 * H + k
                    : (const T *)a.y + row * a.ld_y + (size_t)dir * H + k;
}

__device__ __forceinline__ uint4 lstm_load16(const void *p) {
    return p ? *(const uint4 *)p : make_uint4(0, 0, 0, 0);
}

// Two steps of one accumulator: 8 k of path 70's lane, 32 of path 80's four.
template <int ARCH>
__device__ __forceinline__ void lstm_mma(__half tag, float *d, const unsigned *a,
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
__device__ __forceinline__ void lstm_mma(__nv_bfloat16 tag, float *d, const unsigned *a,
                                         const unsigned *b) {
    mma_16816(tag, d, a, b);
    mma_16816(tag, d, a + 4, b + 2);
}

template <class T, int H, int ARCH, bool BACKWARD, int EIGHTS, int HELD>
__device__ void lstm_fragments(float (&sums)[EIGHTS][8], const unsigned (&w)[HELD],
                               const unsigned *others, const lstm_sweep &a, int dir, int first,
                               int last, int s) {
    typedef lstm_registers<T, H, ARCH, BACKWARD> shape;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, k0 = shape::first_k(warp, lane);
    const int column = ARCH == 70 ? (lane & 3) + (lane >> 4) * 4 : lane >> 2;
    const int skip = ARCH == 70 ? 8 : 32, mine = ARCH == 70 ? 0 : (lane & 3) * 8;
    const T *x[EIGHTS];
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) {
        x[j] = lstm_vector<T, H, BACKWARD>(a, first + column + 8 * j, last, s, dir, k0 + mine);
    }
#pragma unroll
    for (int k = 0; k < shape::K_LANE; k += skip) {
        const int words = ARCH == 70 ? 4 : 8, at = k / skip * words;
        unsigned wk[words];
#pragma unroll
        for (int i = 0; i < words; i++) {
            if (at + i < HELD) wk[i] = w[at + i < HELD ? at + i : 0];
            else wk[i] = others[(at + i - HELD) * LSTM_REGISTER_THREADS + threadIdx.x];
        }
#pragma unroll
        for (int j = 0; j < EIGHTS; j++) {
            uint4 v = lstm_load16(x[j] ? x[j] + k : nullptr);
            unsigned b[4] = { v.x, v.y, v.z, v.w };
            lstm_mma<ARCH>(T(), sums[j], wk, b);
        }
    }
}

// Element e of a lane's sums over sequences j: path 80 has 4 of 16 rows, path 70 8 of 8.
template <class T, int H, int ARCH, bool BACKWARD, int EIGHTS>
__device__ void lstm_share_fragments(float (&sums)[EIGHTS][8], float *part) {
    typedef lstm_registers<T, H, ARCH, BACKWARD> shape;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int r0 = shape::part(warp) * shape::ROWS + shape::first_row(warp, lane);
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
            part[(r0 + row) * (LSTM_BATCH + 1) + col + 8 * j] = v;
        }
    }
}

// A thread's unit of its sequence: the parts of the sums, in their order.
template <class T, int H, int ARCH, bool BACKWARD>
__device__ void lstm_unit_of_parts(const lstm_sweep &a, const float *part, bool products, int dir,
                                   int i, int s) {
    typedef lstm_registers<T, H, ARCH, BACKWARD> shape;
    const int u = threadIdx.x % LSTM_UNITS, b = threadIdx.x / LSTM_UNITS;
    const int unit = blockIdx.x * LSTM_UNITS + u;
    float sums[4] = {};
    for (int p = 0; products && p < shape::PARTS; p++) {
#pragma unroll
        for (int g = 0; g < shape::ROWS / LSTM_UNITS; g++) {
            sums[g] += part[(p * shape::ROWS + g * LSTM_UNITS + u) * (LSTM_BATCH + 1) + b];
        }
    }
    if (BACKWARD) {
        lstm_cell_bwd<T>(a, sums[0], i, s, dir, unit);
    } else {
        float c = s > 0 ? a.cells[lstm_row(a, i, s - 1, dir) * 2 * H + (size_t)dir * H + unit]
                        : 0.0f;
        lstm_cell<T>(a, sums, c, lstm_row(a, i, s, dir), dir, unit);
    }
}

// Grid (H / 16, directions).
template <class T, int H, int ARCH, bool BACKWARD>
__global__ void __launch_bounds__(LSTM_REGISTER_THREADS, 1) lstm_register_kernel(lstm_sweep a) {
    typedef lstm_registers<T, H, ARCH, BACKWARD> shape;
    if (!MRC_HAS_PATH(ARCH)) return;
    MRC_DYN_SMEM(float, part);
    const int dir = a.first_dir + blockIdx.y, steps = a.length[0];
    unsigned w[shape::HELD], *others = (unsigned *)(part + shape::SUMS);
    lstm_load_weights<T, H, ARCH, BACKWARD>(w, others, a, dir);
    int active = BACKWARD ? 0 : a.sequences;
    for (int step = 0; step < steps; step++) {
        const int s = BACKWARD ? steps - 1 - step : step;
        active = lstm_active(a, active, s);
        for (int first = 0; first < active; first += LSTM_BATCH) {
            const int last = active - first < LSTM_BATCH ? active : first + LSTM_BATCH;
            const bool products = BACKWARD ? s + 1 < a.length[first] : s > 0;
            if (products) {
#pragma unroll 1
                for (int j = 0; j < LSTM_BATCH; j += 8 * shape::EIGHTS) {
                    float sums[shape::EIGHTS][8] = {};
                    lstm_fragments<T, H, ARCH, BACKWARD>(sums, w, others, a, dir, first + j, last,
                                                         s);
                    lstm_share_fragments<T, H, ARCH, BACKWARD>(sums, part + j);
                }
                __syncthreads();
            }
            const int i = first + threadIdx.x / LSTM_UNITS;
            if (threadIdx.x < LSTM_UNITS * LSTM_BATCH && i < last) {
                lstm_unit_of_parts<T, H, ARCH, BACKWARD>(a, part, products, dir, i, s);
            }
            __syncthreads();
        }
        lstm_barrier(a.barrier + dir, (unsigned)(step + 1) * gridDim.x);
    }
}

//==============================================================================
// Host: which sweep, and the products around it
//==============================================================================
// Whether the device holds all these blocks at once, as a grid barrier needs.
template <class K>
static bool lstm_fit(mrc_cuda *c, K *kernel, int threads, size_t smem, int blocks) {
    int per_processor = 0, cooperative = 0;
    if (cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, c->device)
        || !cooperative) return false;
    if (mrc_cuda_allow(c, kernel, smem) != MRC_OK
        || cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, threads, smem)) {
        return false;
    }
    return (int64_t)per_processor * c->processors >= blocks;
}

// Both directions at once where they fit, else one after the other.
template <class K>
static int lstm_launch(mrc_cuda *c, K *kernel, int threads, size_t smem, int blocks,
                       lstm_sweep a) {
    if (blocks == 1) return MRC_LAUNCH(kernel, dim3(1, 2), threads, smem, c->stream, a);
    if (lstm_fit(c, kernel, threads, smem, 2 * blocks)) {
        return MRC_LAUNCH_COOP(kernel, dim3((unsigned)blocks, 2), threads, smem, c->stream, a);
    }
    int e = 0;
    for (a.first_dir = 0; a.first_dir < 2 && !e; a.first_dir++) {
        e = MRC_LAUNCH_COOP(kernel, dim3((unsigned)blocks, 1), threads, smem, c->stream, a);
    }
    return e;
}

// Returns whether there is such a kernel and the device holds it; then *e is how launching went.
template <class T, int H, int ARCH, bool BACKWARD>
static bool lstm_try_registers(mrc_cuda *c, const lstm_sweep &a, int *e) {
    const size_t smem = lstm_registers<T, H, ARCH, BACKWARD>::BYTES;
    auto *kernel = lstm_register_kernel<T, H, ARCH, BACKWARD>;
    if (!lstm_fit(c, kernel, LSTM_REGISTER_THREADS, smem, H / LSTM_UNITS)) return false;
    *e = lstm_launch(c, kernel, LSTM_REGISTER_THREADS, smem, H / LSTM_UNITS, a);
    return true;
}

template <class T, int ARCH, bool BACKWARD>
static bool lstm_sizes(mrc_cuda *c, const lstm_sweep &a, int *e) {
    switch (a.h) {
    case 128:  return lstm_try_registers<T, 128, ARCH, BACKWARD>(c, a, e);
    case 256:  return lstm_try_registers<T, 256, ARCH, BACKWARD>(c, a, e);
    case 512:  return lstm_try_registers<T, 512, ARCH, BACKWARD>(c, a, e);
    case 768:  return lstm_try_registers<T, 768, ARCH, BACKWARD>(c, a, e);
    case 1024: return lstm_try_registers<T, 1024, ARCH, BACKWARD>(c, a, e);
    default:   return false;
    }
}
template <bool BACKWARD>
static bool lstm_in_registers(float, mrc_cuda *, const lstm_sweep &, int *) { return false; }
template <bool BACKWARD>
static bool lstm_in_registers(__half, mrc_cuda *c, const lstm_sweep &a, int *e) {
    return c->path < 80 ? lstm_sizes<__half, 70, BACKWARD>(c, a, e)
                        : lstm_sizes<__half, 80, BACKWARD>(c, a, e);
}
template <bool BACKWARD>
static bool lstm_in_registers(__nv_bfloat16, mrc_cuda *c, const lstm_sweep &a, int *e) {
    return lstm_sizes<__nv_bfloat16, 80, BACKWARD>(c, a, e);
}

// The sweep that takes any size: as many blocks as there are groups if the device holds them.
template <class T, bool BACKWARD> static int lstm_any_size(mrc_cuda *c, lstm_sweep a) {
    typedef lstm_shared<T, BACKWARD ? 16 : 64> shape;
    auto *kernel = lstm_shared_kernel<T, BACKWARD>;
    const int slices = ((BACKWARD ? 4 * a.h : a.h) + LSTM_SLICE - 1) / LSTM_SLICE;
    const size_t fixed = (size_t)shape::X_BYTES + shape::SUM_BYTES;
    const size_t room = (c->shared_limit - fixed) / shape::W_BYTES;
    int blocks = a.h <= LSTM_ONE_BLOCK ? 1 : a.groups;
    size_t smem = 0;
    for (;; blocks = (blocks + 1) / 2) {
        size_t all = (size_t)slices * ((a.groups + blocks - 1) / blocks);
        a.resident = (int)(all <= room ? all : room - 1);
        smem = fixed + (size_t)shape::W_BYTES * (all <= room ? all : room);
        // A device that holds no two blocks, or none that wait, still has one after the other.
        if (blocks == 1 || lstm_fit(c, kernel, LSTM_THREADS, smem, blocks)) break;
    }
    if (mrc_cuda_allow(c, kernel, smem) != MRC_OK) return cudaErrorInvalidValue;
    return lstm_launch(c, kernel, LSTM_THREADS, smem, blocks, a);
}

// Sizes that an int counts: what is larger is refused.
static bool lstm_counts(size_t n, size_t sequences, size_t in, size_t h) {
    return n < INT32_MAX / 2 && sequences < INT32_MAX && in < INT32_MAX && h < INT32_MAX / 16;
}

// What a sweep's workspace begins with: the list of sequences and the barriers.
static size_t lstm_list_bytes(size_t sequences) {
    return (2 * sequences + 2 + 15) / 16 * 16 * sizeof(int);
}
static int lstm_list(mrc_cuda *c, lstm_sweep *a, const void *cu_seqlens, size_t sequences,
                     void *workspace) {
    int *list = (int *)workspace;
    a->sequences = (int)sequences;
    a->begin = list;
    a->length = list + sequences;
    a->barrier = (unsigned *)(list + 2 * sequences);
    return MRC_LAUNCH(lstm_order_kernel, mrc_cuda_blocks(sequences, 128), 128, 0, c->stream,
                      (const int *)cu_seqlens, (int)sequences, list, list + sequences,
                      a->barrier);
}

template <class T, bool BACKWARD> static int lstm_run(mrc_cuda *c, lstm_sweep a) {
    int e = 0;
    const bool aligned = a.ld_y % 8 == 0 && (uintptr_t)a.y % 16 == 0
                      && (uintptr_t)a.gates % 16 == 0;
    a.groups = (a.h + LSTM_UNITS - 1) / LSTM_UNITS;
    if (aligned && lstm_in_registers<BACKWARD>(T(), c, a, &e)) return e;
    return lstm_any_size<T, BACKWARD>(c, a);
}

static mrc_status lstm_gemm(mrc_backend *be, mrc_dtype table, mrc_gemm_args g) {
    return g.c.data ? be->kernels[table].gemm(be, &g) : MRC_OK;
}

// z in f32 needs a place of its own unless the gates are f32 and kept; so do cells nobody keeps.
static size_t lstm_z_bytes(const mrc_lstm_fwd_args *a, size_t element) {
    return element == sizeof(float) && a->gates.data ? 0 : a->n * a->h * 8 * sizeof(float);
}
template <class T>
static size_t mrc_cuda_lstm_fwd_scratch(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    (void)be;
    return lstm_list_bytes(a->n_sequences) + lstm_z_bytes(a, sizeof(T))
         + (a->gates.data ? 0 : a->n * a->h * 2 * sizeof(float));
}

template <class T>
static mrc_status mrc_cuda_lstm_fwd_run(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    if (!lstm_counts(a->n, a->n_sequences, a->in, a->h)) return MRC_ERR_UNSUPPORTED;
    if (a->n == 0) return MRC_OK;
    char *at = (char *)a->workspace + lstm_list_bytes(a->n_sequences);
    const size_t z_bytes = lstm_z_bytes(a, sizeof(T)), h = a->h;
    float *z = z_bytes ? (float *)at : (float *)a->gates.data;
    lstm_sweep s = {};
    s.h = (int)h;
    s.z = z;
    s.y = a->y.data;
    s.ld_y = a->y.ld;
    s.gates = a->gates.data;
    s.cells = a->gates.data ? (float *)a->cells.data : (float *)(at + z_bytes);
    for (int d = 0; d < 2; d++) {
        mrc_gemm_args g = {};
        g.m = a->n;
        g.n = 4 * h;
        g.k = a->in;
        g.b_transposed = 1;
        g.a = a->x;
        g.b = a->weight_ih[d];
        g.c = { MRC_DTYPE_F32, 8 * h, z + (size_t)d * 4 * h, 0 };
        MRC_CUDA_TRY(lstm_gemm(be, a->x.dtype, g));
        s.weight_hh[d] = a->weight_hh[d].data;
        s.ld_weight[d] = a->weight_hh[d].ld;
        s.bias_ih[d] = (const float *)a->bias_ih[d].data;
        s.bias_hh[d] = (const float *)a->bias_hh[d].data;
    }
    MRC_CUDA_TRY(mrc_cuda_check(c, lstm_list(c, &s, a->cu_seqlens.data, a->n_sequences,
                                             a->workspace)));
    return mrc_cuda_check(c, lstm_run<T, false>(c, s));
}

// to[r] = what the step before row r made of h: 0 at a sequence's beginning, in the reverse
// direction at its end.  A block a row.
template <class T>
__global__ void lstm_before_kernel(T *to, const T *y, size_t ld_y, int h, const int *cu_seqlens,
                                   int sequences) {
    const int row = blockIdx.x, i = mrc_cuda_sequence_of(cu_seqlens, sequences, row);
    for (int k = threadIdx.x; k < 2 * h; k += blockDim.x) {
        const int before = k < h ? row - 1 : row + 1;
        const bool there = before >= cu_seqlens[i] && before < cu_seqlens[i + 1];
        to[(size_t)row * 2 * h + k] = there ? y[(size_t)before * ld_y + k] : (T)0.0f;
    }
}

typedef struct lstm_biases { float *to[4]; int accumulate[4]; } lstm_biases;    // ih, hh of each

// Sums of dz over rows, and into the four gradients in their order.  A block has 32 columns.
template <class T>
__global__ void lstm_bias_kernel(const T *dz, int n, int h, lstm_biases g) {
    __shared__ float part[2][8][33];
    const int lane = threadIdx.x & 31, first = threadIdx.x >> 5, o = blockIdx.x * 32 + lane;
    float sum[2] = { 0, 0 };
    for (int r = first; o < 4 * h && r < n; r += 8) {
        for (int d = 0; d < 2; d++) sum[d] += (float)dz[((size_t)r * 2 + d) * 4 * h + o];
    }
    for (int d = 0; d < 2; d++) part[d][first][lane] = sum[d];
    __syncthreads();
    if (first != 0 || o >= 4 * h) return;
    for (int d = 0; d < 2; d++) {
        sum[d] = 0;
        for (int i = 0; i < 8; i++) sum[d] += part[d][i][lane];
    }
    for (int k = 0; k < 4; k++) {
        if (g.to[k]) mrc_cuda_give(g.to[k] + o, sum[k % 2], g.accumulate[k]);
    }
}

template <class T>
static size_t mrc_cuda_lstm_bwd_scratch(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    (void)be;
    return lstm_list_bytes(a->n_sequences) + a->n * a->h * 2 * sizeof(T);
}

// The weights' gradients, from dz in the gates' place.
template <class T>
static mrc_status lstm_weights(mrc_backend *be, const mrc_lstm_bwd_args *a, T *before) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const size_t h = a->h;
    mrc_gemm_args g = {};
    g.m = 4 * h;
    g.k = a->n;
    g.a_transposed = 1;
    for (int j = 0; j < 4; j++) {
        const int d = j % 2;
        g.a = { a->gates.dtype, 8 * h, (const T *)a->gates.data + (size_t)d * 4 * h };
        g.n = j < 2 ? a->in : h;
        if (j < 2) g.b = a->x;
        else g.b = { a->gates.dtype, 2 * h, before + (size_t)d * h };
        g.c = j < 2 ? a->dweight_ih[d] : a->dweight_hh[d];
        MRC_CUDA_TRY(lstm_gemm(be, a->gates.dtype, g));
    }
    lstm_biases b = {};
    for (int k = 0; k < 4; k++) {
        const mrc_out *to = k < 2 ? &a->dbias_ih[k] : &a->dbias_hh[k - 2];
        b.to[k] = (float *)to->data;
        b.accumulate[k] = to->accumulate;
    }
    return mrc_cuda_check(c, MRC_LAUNCH(lstm_bias_kernel<T>, mrc_cuda_blocks(4 * h, 32), 256, 0,
                                        c->stream, (const T *)a->gates.data, (int)a->n, (int)h,
                                        b));
}

template <class T>
static mrc_status mrc_cuda_lstm_bwd_run(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const size_t h = a->h;
    if (!lstm_counts(a->n, a->n_sequences, a->in, h)) return MRC_ERR_UNSUPPORTED;
    T *before = (T *)((char *)a->workspace + lstm_list_bytes(a->n_sequences));
    lstm_sweep s = {};
    s.h = (int)h;
    s.gates = a->gates.data;
    s.cells = (float *)a->cells.data;
    s.dy = a->dy.data;
    s.ld_dy = a->dy.ld;
    for (int d = 0; d < 2; d++) {
        s.weight_hh[d] = a->weight_hh[d].data;
        s.ld_weight[d] = a->weight_hh[d].ld;
    }
    if (a->n) {
        MRC_CUDA_TRY(mrc_cuda_check(c, lstm_list(c, &s, a->cu_seqlens.data, a->n_sequences,
                                                 a->workspace)));
        MRC_CUDA_TRY(mrc_cuda_check(c, lstm_run<T, true>(c, s)));
        MRC_CUDA_TRY(mrc_cuda_check(
            c, MRC_LAUNCH(lstm_before_kernel<T>, (unsigned)a->n, 128, 0, c->stream, before,
                          (const T *)a->y.data, a->y.ld, (int)h,
                          (const int *)a->cu_seqlens.data, (int)a->n_sequences)));
    }
    for (int d = 0; d < 2; d++) {
        mrc_gemm_args g = {};
        g.m = a->n;
        g.n = a->in;
        g.k = 4 * h;
        g.a = { a->gates.dtype, 8 * h, (const T *)a->gates.data + (size_t)d * 4 * h };
        g.b = a->weight_ih[d];
        g.c = a->dx;
        g.c.accumulate = a->dx.accumulate || d == 1;
        MRC_CUDA_TRY(lstm_gemm(be, a->gates.dtype, g));
    }
    return lstm_weights<T>(be, a, before);
}
