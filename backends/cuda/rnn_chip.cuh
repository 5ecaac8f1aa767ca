// rnn_chip.cuh - the f32 LSTM's sweeps with all of a direction's W_hh on the chip
//
// Blocks of 13 units: with 1024 units 79 of them, one on each processor of a V100 (80), whose
// registers and shared memory hold 52 rows of 1024 floats, 213 KB, from the first step to the last.
// What a step brings from memory is h of the step before, z, and c.
//
// Forward: a warp has the rows of a gate and half of the columns; its lane l has columns 4 l to
// 4 l + 3 of every second 128.  Of a lane's 16-byte words 40 are in registers, 12 in shared memory.
// h of all sequences of a group is staged in shared memory, then two of them at a time are
// multiplied; the lanes' sums are added by halves (each lane sends the half that it does not keep),
// and owners of a unit and a sequence do the cell.  Their z of the next step is fetched before the
// barrier.
//
// Backward: a block's 52 rows of W_hh meet the dz that its own units have just made, so dz need not
// go round: a thread has 4 columns of them, and what it sums, the block's part of dh of the step
// before, goes to memory.  After the barrier the owners add the parts of all blocks in their order.
// Parts stand twice, for steps of either parity.
//
// A group of sequences is what fits beside W_hh; further groups come one after the other.
#pragma once
#include "lstm.cuh"

// On a CPU one hidden size stands for all, and groups are small.
#ifdef __CUDACC__
enum { RNN_CHIP_LEAST = 897, RNN_CHIP_MOST = 1024, RNN_CHIP_GROUP = 10, RNN_CHIP_LANES = 32 };
#else
enum { RNN_CHIP_LEAST = 64, RNN_CHIP_MOST = 64, RNN_CHIP_GROUP = 4, RNN_CHIP_LANES = 8 };
#endif
enum {
    RNN_CHIP_UNITS = 13,                        // of a block
    RNN_CHIP_THREADS = 256,
    RNN_CHIP_CHUNKS = RNN_CHIP_MOST / (8 * RNN_CHIP_LANES),     // of a lane's columns, 4 each
    RNN_CHIP_WORDS = RNN_CHIP_UNITS * RNN_CHIP_CHUNKS,  // of 16 bytes, a thread's part of W_hh
    RNN_CHIP_HELD = RNN_CHIP_WORDS * 10 / 13,           // of them in registers
    RNN_CHIP_REST = (RNN_CHIP_WORDS - RNN_CHIP_HELD) * RNN_CHIP_THREADS * 16,
    RNN_CHIP_OWNERS = RNN_CHIP_GROUP * RNN_CHIP_UNITS,
    RNN_CHIP_FWD = RNN_CHIP_REST + (RNN_CHIP_GROUP * RNN_CHIP_MOST + 8 * RNN_CHIP_OWNERS
                                    + 4 * RNN_CHIP_UNITS) * 4,
    RNN_CHIP_ROWS = 4 * RNN_CHIP_UNITS,         // of a block
    RNN_CHIP_HELD_BWD = RNN_CHIP_ROWS * 9 / 13,         // backward a thread has a word of each
    RNN_CHIP_REST_BWD = (RNN_CHIP_ROWS - RNN_CHIP_HELD_BWD) * RNN_CHIP_THREADS * 16,
    RNN_CHIP_BWD = RNN_CHIP_REST_BWD + 4 * RNN_CHIP_OWNERS * 4
};

// The sequences of a group: lane j has the one that is first + j.
typedef struct rnn_chip_group { int begin, length; } rnn_chip_group;
__device__ __forceinline__ rnn_chip_group rnn_chip_group_of(const rnn_sweep &a, int first) {
    const int i = first + (int)threadIdx.x % 32;
    const bool there = i < a.sequences && (int)threadIdx.x % 32 < RNN_CHIP_GROUP;
    return { there ? a.begin[i] : 0, there ? a.length[i] : 0 };
}
// Of the lane's group the sequence number j.
__device__ __forceinline__ rnn_chip_group rnn_chip_pick(const rnn_chip_group &g, int j) {
    return { __shfl_sync(0xffffffffu, g.begin, j & 31),
             __shfl_sync(0xffffffffu, g.length, j & 31) };
}
__device__ __forceinline__ size_t rnn_chip_row(const rnn_chip_group &g, int s, int dir) {
    return (size_t)(g.begin + (dir ? g.length - 1 - s : s));
}
__device__ __forceinline__ int rnn_chip_active(const rnn_chip_group &g, int s) {
    return __popc(__ballot_sync(0xffffffffu, g.length > s));
}

// The group from sequence `first` on and the owner's sequence of it, where there are several
// groups; how many of its sequences are under way at step s.  0: nor are the shorter ones after it.
__device__ __forceinline__ int rnn_chip_turn(const rnn_sweep &a, int first, int owned, int s,
                                             bool one, rnn_chip_group &group,
                                             rnn_chip_group &mine) {
    if (first > 0 && a.length[first] <= s) return 0;
    if (!one) {
        group = rnn_chip_group_of(a, first);
        mine = rnn_chip_pick(group, owned);
    }
    return rnn_chip_active(group, s);
}

__device__ __forceinline__ float4 rnn_chip_get(const float *p, bool there) {
    return there ? *(const float4 *)p : make_float4(0, 0, 0, 0);
}

// Adds the first N values over a warp, from the bit BY of the lanes on: the lane that
// rnn_chip_place() says has the sum of a value.
template <int N, int BY, int ALL> __device__ __forceinline__ float rnn_chip_sum(float (&v)[ALL]) {
    if constexpr (BY == 0) {
        return v[0];
    } else {
        enum { HALF = (N + 1) / 2 };
        const bool high = threadIdx.x & BY;
#pragma unroll
        for (int i = 0; i < HALF; i++) {
            const float far = i + HALF < N ? v[i + HALF < N ? i + HALF : 0] : 0;
            const float give = high ? v[i] : far, mine = high ? far : v[i];
            v[i] = mine + __shfl_xor_sync(0xffffffffu, give, BY);
        }
        return rnn_chip_sum<HALF, BY / 2>(v);
    }
}
// Which value the lane has; -1: none.
template <int N> __device__ int rnn_chip_place(void) {
    int at = 0, most = N, there = N;
    for (int by = 16; by; by /= 2) {
        const int half = (most + 1) / 2;
        if (threadIdx.x & by) at += half, there -= half;
        else if (there > half) there = half;
        most = half;
    }
    return there > 0 ? at : -1;
}

// W_hh h of the warp's gate and half, of two sequences whose h begin with x: into to[sequence,
// unit].
__device__ __forceinline__ void rnn_chip_multiply(const float4 (&held)[RNN_CHIP_HELD],
                                                  const float4 *rest, const float *x, float *to,
                                                  int place) {
    enum { N = RNN_CHIP_UNITS };
    float v[2 * N] = {};
#pragma unroll
    for (int c = 0; c < RNN_CHIP_CHUNKS; c++) {
        float4 h[2];
#pragma unroll
        for (int j = 0; j < 2; j++) {
            h[j] = *(const float4 *)(x + j * RNN_CHIP_MOST + 8 * RNN_CHIP_LANES * c);
        }
#pragma unroll
        for (int u = 0; u < N; u++) {
            const int i = c * N + u, at = MRC_BUG(CHIP_REST) ? 0 : i - RNN_CHIP_HELD;
            const float4 w = i < RNN_CHIP_HELD ? held[i < RNN_CHIP_HELD ? i : 0]
                                               : rest[at * RNN_CHIP_THREADS + (int)threadIdx.x];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                v[j * N + u] += w.x * h[j].x;
                v[j * N + u] += w.y * h[j].y;
                v[j * N + u] += w.z * h[j].z;
                v[j * N + u] += w.w * h[j].w;
            }
        }
    }
    const float sum = rnn_chip_sum<2 * N, 16>(v);
    if (place >= 0) to[place] = sum;
}

// h of a step of the group's n sequences.
__device__ __forceinline__ void rnn_chip_stage(float *x, const rnn_sweep &a,
                                               const rnn_chip_group &group, int n, int s,
                                               int dir) {
    const int k = 4 * (int)threadIdx.x;
    float4 v[RNN_CHIP_GROUP];
#pragma unroll
    for (int j = 0; j < RNN_CHIP_GROUP; j++) {
        const size_t row = rnn_chip_row(rnn_chip_pick(group, j), s, dir);
        v[j] = rnn_chip_get((const float *)a.y + row * a.ld_y + (size_t)dir * a.h + k,
                            j < n && k < a.h);
    }
#pragma unroll
    for (int j = 0; j < RNN_CHIP_GROUP; j++) {
        if (k < RNN_CHIP_MOST) *(float4 *)(x + j * RNN_CHIP_MOST + k) = v[j];
    }
}

// The words of W_hh that a thread has forward: rows of the warp's gate, columns from k0 on.
__device__ __forceinline__ void rnn_chip_keep(float4 (&held)[RNN_CHIP_HELD], float4 *rest,
                                              const rnn_sweep &a, int dir, int u0, int k0) {
    const int gate = (int)threadIdx.x / 64, h = a.h;
#pragma unroll
    for (int i = 0; i < RNN_CHIP_WORDS; i++) {
        const int k = i / RNN_CHIP_UNITS * 8 * RNN_CHIP_LANES + k0, unit = u0 + i % RNN_CHIP_UNITS;
        const float *from = (const float *)a.weight_hh[dir]
                          + (size_t)(gate * h + unit) * a.ld_weight[dir] + k;
        const bool there = (int)threadIdx.x % 32 < RNN_CHIP_LANES && unit < h && k < h;
        const float4 w = rnn_chip_get(from, there);
        if (i < RNN_CHIP_HELD) held[i < RNN_CHIP_HELD ? i : 0] = w;
        else rest[(i - RNN_CHIP_HELD) * RNN_CHIP_THREADS + (int)threadIdx.x] = w;
    }
}

// What an owner has of its unit: z of the next step, and c.
typedef struct rnn_chip_ahead { float z[4], c; } rnn_chip_ahead;

// An owner's cell at a step.  one: there is one group, so what is ahead is of the same sequence.
__device__ __forceinline__ void rnn_chip_cell(const rnn_sweep &a, const rnn_chip_group &mine,
                                              rnn_chip_ahead &ahead, const float *sums,
                                              const float *bias, int s, int dir, int unit,
                                              bool one) {
    const int h = a.h;
    const size_t in_row = (size_t)dir * h + unit, row = rnn_chip_row(mine, s, dir);
    const size_t at = row * 8 * h + (size_t)dir * 4 * h + unit;
    const bool fetched = one && s > 0;
    float v[4];
#pragma unroll
    for (int g = 0; g < 4; g++) {
        const float *both = sums + 2 * g * RNN_CHIP_OWNERS + (int)threadIdx.x;
        v[g] = (fetched ? ahead.z[g] : a.z[at + g * h]) + bias[g * RNN_CHIP_UNITS];
        if (s > 0) v[g] += both[0] + both[RNN_CHIP_OWNERS];
    }
    if (!one && s > 0) ahead.c = a.cells[rnn_chip_row(mine, s - 1, dir) * 2 * h + in_row];
    else if (s == 0) ahead.c = 0;
    ahead.c = lstm_cell::gates(v, ahead.c);
    a.cells[row * 2 * h + in_row] = ahead.c;
    ((float *)a.y)[row * a.ld_y + in_row] = v[3] * tanhf(ahead.c);
    const size_t next = rnn_chip_row(mine, s + 1 - MRC_BUG(CHIP_AHEAD), dir) * 8 * h
                      + (size_t)dir * 4 * h + unit;
#pragma unroll
    for (int g = 0; g < 4; g++) {               // z of the next step, before the barrier
        if (one && s + 1 < mine.length) ahead.z[g] = a.z[next + g * h];
    }
#pragma unroll
    for (int g = 0; a.gates && g < 4; g++) ((float *)a.gates)[at + g * h] = v[g];
}

// Grid (blocks, 1).
__global__ void __launch_bounds__(RNN_CHIP_THREADS, 1) rnn_chip_fwd_kernel(rnn_sweep a) {
    MRC_DYN_SMEM(float4, rest);
    float *x = (float *)rest + RNN_CHIP_REST / 4, *sums = x + RNN_CHIP_GROUP * RNN_CHIP_MOST;
    float *biases = sums + 8 * RNN_CHIP_OWNERS;
    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, h = a.h;
    const int dir = a.first_dir, steps = a.length[0], u0 = (int)blockIdx.x * RNN_CHIP_UNITS;
    // Where the lane's columns begin; beyond the lanes that have any, h of others is met by zeros.
    const int k0 = 4 * (warp % 2 * RNN_CHIP_LANES + lane % RNN_CHIP_LANES);
    const int place = rnn_chip_place<2 * RNN_CHIP_UNITS>();
    float4 held[RNN_CHIP_HELD];
    rnn_chip_keep(held, rest, a, dir, u0, k0);
    // An owner has a unit of a sequence of the group.
    const int owned = (int)threadIdx.x / RNN_CHIP_UNITS;
    const int unit = u0 + (int)threadIdx.x % RNN_CHIP_UNITS;
    const bool owner = owned < RNN_CHIP_GROUP && unit < h, one = a.sequences <= RNN_CHIP_GROUP;
    rnn_chip_ahead ahead = {};
    for (int g = 0; owned == 0 && unit < h && g < 4; g++) {
        biases[g * RNN_CHIP_UNITS + (int)threadIdx.x]
            = a.bias_ih[dir][g * h + unit] + a.bias_hh[dir][g * h + unit];
    }
    rnn_chip_group group = rnn_chip_group_of(a, 0), mine = rnn_chip_pick(group, owned);
    for (int s = 0; s < steps; s++) {
        for (int first = 0; first < a.sequences; first += RNN_CHIP_GROUP) {
            const int n = rnn_chip_turn(a, first, owned, s, one, group, mine);
            if (n == 0) break;
            if (s > 0) rnn_chip_stage(x, a, group, n, s - 1, dir);
            if (!MRC_BUG(CHIP_STAGED)) __syncthreads();
#pragma unroll 1
            for (int j = 0; s > 0 && j < n; j += 2) {
                rnn_chip_multiply(held, rest, x + j * RNN_CHIP_MOST + k0,
                                  sums + warp * RNN_CHIP_OWNERS + j * RNN_CHIP_UNITS, place);
            }
            __syncthreads();
            if (owner && owned < n) {
                rnn_chip_cell(a, mine, ahead, sums, biases + unit - u0, s, dir, unit, one);
            }
            if (!one) __syncthreads();
        }
        rnn_barrier(a.barrier + dir, (unsigned)(s + 1) * gridDim.x);
    }
}

// The block's part of dh of two sequences: dz (4, UNITS, GROUP) times its rows, 4 columns a thread.
__device__ __forceinline__ void rnn_chip_part(const float4 (&held)[RNN_CHIP_HELD_BWD],
                                              const float4 *rest, const float *dz,
                                              float (&sum)[2][4]) {
#pragma unroll
    for (int i = 0; i < RNN_CHIP_ROWS; i++) {
        const int at = MRC_BUG(CHIP_ROWS) ? 0 : i - RNN_CHIP_HELD_BWD;
        const float4 w = i < RNN_CHIP_HELD_BWD ? held[i < RNN_CHIP_HELD_BWD ? i : 0]
                                           : rest[at * RNN_CHIP_THREADS + (int)threadIdx.x];
        const float2 d = *(const float2 *)(dz + i * RNN_CHIP_GROUP);
        sum[0][0] += d.x * w.x;
        sum[0][1] += d.x * w.y;
        sum[0][2] += d.x * w.z;
        sum[0][3] += d.x * w.w;
        sum[1][0] += d.y * w.x;
        sum[1][1] += d.y * w.y;
        sum[1][2] += d.y * w.z;
        sum[1][3] += d.y * w.w;
    }
}

// What an owner needs of a step: dy, the gates, c, and c of the step before.
typedef struct rnn_chip_saved { float dy, gates[4], c, before; } rnn_chip_saved;
__device__ __forceinline__ rnn_chip_saved rnn_chip_load(const rnn_sweep &a,
                                                        const rnn_chip_group &mine, int s, int dir,
                                                        int unit) {
    const int h = a.h;
    const size_t row = rnn_chip_row(mine, s, dir), in_row = (size_t)dir * h + unit;
    const float *z = (const float *)a.gates + row * 8 * h + (size_t)dir * 4 * h + unit;
    rnn_chip_saved v = {};
    v.dy = ((const float *)a.dy)[row * a.ld_dy + in_row];
#pragma unroll
    for (int g = 0; g < 4; g++) v.gates[g] = z[(size_t)g * h];
    v.c = a.cells[row * 2 * h + in_row];
    if (s > 0) v.before = a.cells[rnn_chip_row(mine, s - 1, dir) * 2 * h + in_row];
    return v;
}

// n floats of a distance, added in their order; 16 are under way before the first is waited for.
__device__ __forceinline__ float rnn_chip_add(const float *from, int n, size_t apart) {
    float sum = 0;
#pragma unroll 1
    for (int b = 0; b < n; b += 16) {
        float v[16];
#pragma unroll
        for (int i = 0; i < 16; i++, from += apart) v[i] = b + i < n ? *from : 0;
#pragma unroll
        for (int i = 0; i < 16; i++) sum += v[i];
    }
    return sum;
}

// The words of W_hh that a thread has backward: columns 4 t to 4 t + 3 of all rows.
__device__ __forceinline__ void rnn_chip_keep_rows(float4 (&held)[RNN_CHIP_HELD_BWD], float4 *rest,
                                                   const rnn_sweep &a, int dir, int u0) {
    const int h = a.h, k = 4 * (int)threadIdx.x;
#pragma unroll
    for (int i = 0; i < RNN_CHIP_ROWS; i++) {
        const int unit = u0 + i % RNN_CHIP_UNITS;
        const float *from = (const float *)a.weight_hh[dir]
                          + (size_t)(i / RNN_CHIP_UNITS * h + unit) * a.ld_weight[dir] + k;
        const float4 w = rnn_chip_get(from, unit < h && k < h);
        if (i < RNN_CHIP_HELD_BWD) held[i < RNN_CHIP_HELD_BWD ? i : 0] = w;
        else rest[(i - RNN_CHIP_HELD_BWD) * RNN_CHIP_THREADS + (int)threadIdx.x] = w;
    }
}

// An owner's cell at a step, from the sum of all parts of its dh; leaves dz in v and in the gates'
// place.
__device__ __forceinline__ void rnn_chip_cell_again(const rnn_sweep &a, const rnn_chip_group &mine,
                                                    const rnn_chip_saved &saved, float &carry,
                                                    float sum, int s, int dir, int unit, bool one,
                                                    float (&v)[4]) {
    const int h = a.h;
    const size_t row = rnn_chip_row(mine, s, dir);
    float *z = (float *)a.gates + row * 8 * h + (size_t)dir * 4 * h + unit;
#pragma unroll
    for (int g = 0; g < 4; g++) v[g] = saved.gates[g];
    carry = lstm_cell::slopes(v, saved.c, saved.before, carry, saved.dy + sum);
    if (!one) a.cells[row * 2 * h + (size_t)dir * h + unit] = carry;
#pragma unroll
    for (int g = 0; g < 4; g++) z[(size_t)g * h] = v[g];
}

// What an owner has of its unit: what the next step needs, and f dc.
typedef struct rnn_chip_owned { rnn_chip_saved saved; float carry; } rnn_chip_owned;

// The owners' dz of a step into the block's (4, UNITS, GROUP).  parts: of the step that came after.
__device__ __forceinline__ void rnn_chip_dz(const rnn_sweep &a, const rnn_chip_group &mine,
                                            rnn_chip_owned &own, const float *parts, float *dz,
                                            int s, int dir, int unit, bool one, int steps) {
    const int h = a.h;
    const bool after = s + 1 < mine.length, there = unit < h;
    float v[4] = {};
    if (there && (!one || s == steps - 1)) {
        own.saved = rnn_chip_load(a, mine, s, dir, unit);
        if (after) {
            own.carry = a.cells[rnn_chip_row(mine, s + 1, dir) * 2 * h + (size_t)dir * h + unit];
        }
    }
    if (!after) own.carry = 0;
    const float sum = there && after
                    ? rnn_chip_add(parts, (int)gridDim.x, (size_t)a.sequences * h) : 0;
    if (there) {
        rnn_chip_cell_again(a, mine, own.saved, own.carry, sum, s, dir, unit, one, v);
    }
#pragma unroll
    for (int g = 0; g < 4; g++) dz[g * RNN_CHIP_UNITS * RNN_CHIP_GROUP] = v[g];
}

// Grid (blocks, 1).
__global__ void __launch_bounds__(RNN_CHIP_THREADS, 1) rnn_chip_bwd_kernel(rnn_sweep a) {
    MRC_DYN_SMEM(float4, rest);
    float *dz = (float *)rest + RNN_CHIP_REST_BWD / 4;
    const int h = a.h, k = 4 * (int)threadIdx.x, dir = a.first_dir, steps = a.length[0];
    const int u0 = (int)blockIdx.x * RNN_CHIP_UNITS;
    const size_t parity = (size_t)gridDim.x * a.sequences * h;
    float4 held[RNN_CHIP_HELD_BWD];
    rnn_chip_keep_rows(held, rest, a, dir, u0);
    const int owned = (int)threadIdx.x / RNN_CHIP_UNITS, u = (int)threadIdx.x % RNN_CHIP_UNITS;
    const bool owner = owned < RNN_CHIP_GROUP, one = a.sequences <= RNN_CHIP_GROUP;
    const int unit = u0 + u;
    rnn_chip_owned own = {};
    rnn_chip_group group = rnn_chip_group_of(a, 0), mine = rnn_chip_pick(group, owned);
    for (int s = steps - 1; s >= 0; s--) {
        const float *all = a.parts + (size_t)((s + 1) & 1) * parity + unit;
        float *to = a.parts + (size_t)(s & 1) * parity
                  + (size_t)(int)blockIdx.x * a.sequences * h + k;
        for (int first = 0; first < a.sequences; first += RNN_CHIP_GROUP) {
            const int n = rnn_chip_turn(a, first, owned, s, one, group, mine);
            if (n == 0) break;
            if (owner && owned < n) {
                rnn_chip_dz(a, mine, own, all + (size_t)(first + owned) * h,
                            dz + u * RNN_CHIP_GROUP + owned, s, dir, unit, one, steps);
            }
            if (!MRC_BUG(CHIP_DZ)) __syncthreads();
            // What the next step needs is under way while this one's dz is multiplied.
            if (one && owner && unit < h && s > 0 && s - 1 < mine.length) {
                own.saved = rnn_chip_load(a, mine, s - 1, dir, unit);
            }
#pragma unroll 1
            for (int j = 0; s > 0 && j < n; j += 2) {
                float sum[2][4] = {};
                rnn_chip_part(held, rest, dz + j, sum);
                for (int i = 0; i < 2; i++) {
                    if (j + i < n && k < h) mrc_cuda_put4(to + (size_t)(first + j + i) * h, sum[i]);
                }
            }
            if (!one) __syncthreads();
        }
        rnn_barrier(a.barrier + dir, (unsigned)(steps - s) * gridDim.x);
    }
}

//==============================================================================
// Launches
//==============================================================================
static int rnn_chip_blocks(size_t h) {
    return (int)((h + RNN_CHIP_UNITS - 1) / RNN_CHIP_UNITS);
}
static bool rnn_chip_takes(size_t h) {
    return h % 4 == 0 && h >= RNN_CHIP_LEAST && h <= RNN_CHIP_MOST;
}
// The parts of dh.
template <class T> static size_t rnn_chip_bytes(size_t sequences, size_t h) {
    if (!std::is_same<T, float>::value || !rnn_chip_takes(h)) return 0;
    return 2 * (size_t)rnn_chip_blocks(h) * sequences * h * sizeof(float);
}

// Returns whether the sweep fits the size and the device; then *e is how launching went.  One
// direction after the other: no device of today has room for both.
template <bool BACKWARD> static bool rnn_on_chip(mrc_cuda *c, const rnn_sweep &a, int *e) {
    auto *kernel = BACKWARD ? rnn_chip_bwd_kernel : rnn_chip_fwd_kernel;
    const size_t shared = BACKWARD ? RNN_CHIP_BWD : RNN_CHIP_FWD;
    const unsigned blocks = (unsigned)rnn_chip_blocks((size_t)a.h);
    rnn_sweep one = a;
    if (!a.vectors || !rnn_chip_takes((size_t)a.h)
        || !rnn_fit(c, kernel, RNN_CHIP_THREADS, shared, (int)blocks)) return false;
    for (one.first_dir = 0, *e = 0; one.first_dir < 2 && !*e; one.first_dir++) {
        *e = BACKWARD ? MRC_LAUNCH_COOP(rnn_chip_bwd_kernel, blocks, RNN_CHIP_THREADS, shared,
                                        c->stream, one)
                      : MRC_LAUNCH_COOP(rnn_chip_fwd_kernel, blocks, RNN_CHIP_THREADS, shared,
                                        c->stream, one);
    }
    return !rnn_refused(*e);
}
