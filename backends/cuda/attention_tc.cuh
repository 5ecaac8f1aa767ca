// attention_tc.cuh - attention on tensor cores: 16 bits, no extras, heads of up to 64 columns
//
// A warp has 16 queries of a head (in backward's second kernel 16 keys) and all of its columns; a
// block has four warps and walks over tiles of the other side, which all of them read.  The tile
// that comes next is on its way while this one is used: copied asynchronously on path 80, in
// registers on path 70; one barrier a tile.  Weights go from sums to operands within the warp.
// Masks, the order of the kernels and delta are attention.cuh's; every sum has one owner and one
// order here too.
#ifndef MRC_CUDA_ATTENTION_TC_CUH
#define MRC_CUDA_ATTENTION_TC_CUH
#include "attention_tiles.cuh"
#include "gemm_tc.cuh"

enum {
    TCA_D = 64,                         // columns, of which d are there
    TCA_ROWS = 64,                      // of a block
    TCA_THREADS = 128,
    TCA_PITCH = 2 * TCA_D + 16,         // bytes of a row in shared memory: no banks collide
    TCA_TURN = 16 * 48 + 64             // bytes in which path 70 turns 16 x 16 sums
};
#define TCA_LOG2E 1.4426950408889634f

typedef unsigned char tca_row[TCA_PITCH];
template <int ROWS> struct tca_pair { tca_row a[ROWS], b[ROWS]; };

// Rows of a tile that the block walks over, and the words of an operand's 16 x 16.
template <int ARCH> struct tca_form {
    enum { FWD = ARCH == 70 ? 32 : 64, BWD = 32, WORDS = ARCH == 70 ? 8 : 4 };
};
template <int ARCH> struct tca_fwd_tiles {
    tca_row q[TCA_ROWS];
    tca_pair<tca_form<ARCH>::FWD> ring[2];
    unsigned char turn[ARCH == 70 ? 4 * TCA_TURN : 16];
};
template <int ARCH> struct tca_bwd_tiles {
    tca_pair<TCA_ROWS> own;                     // q and dy, or k and v
    tca_pair<tca_form<ARCH>::BWD> ring[2];
    float stats[2][2][TCA_ROWS];                // of a query: lse, delta
    unsigned char turn[ARCH == 70 ? 4 * TCA_TURN : 16];
};
// Two blocks on a processor of compute capability 7.0, which has 96 KiB.
static_assert(sizeof(tca_bwd_tiles<70>) <= 48 << 10 && sizeof(tca_fwd_tiles<80>) <= 48 << 10,
              "tiles of attention are too large");

//==============================================================================
// Tiles
//==============================================================================
// Begins moving rows 0 .. ROWS, of which `rows` are there, to shared memory or, on path 70, to
// registers, from where tca_put() stores them.
template <int ARCH, int ROWS, class T>
__device__ __forceinline__ void tca_fetch(tca_row *to, uint4 (&held)[ROWS / 16], const T *from,
                                          size_t ld, int rows, int d) {
    const int row = (int)threadIdx.x / 8, c = (int)threadIdx.x % 8 * 8;
#pragma unroll
    for (int i = 0; i < ROWS / 16; i++) {
        const int r = row + 16 * i;
        const bool there = r < rows && c < d;
        const T *at = there ? from + (size_t)r * ld + c : from;
        if (ARCH == 70) held[i] = there ? *(const uint4 *)at : make_uint4(0, 0, 0, 0);
        else cp_async_16(to[r] + 2 * c, at, there ? TC_CHUNK : 0);
    }
}
template <int ARCH, int ROWS>
__device__ __forceinline__ void tca_put(tca_row *to, const uint4 (&held)[ROWS / 16]) {
#pragma unroll
    for (int i = 0; ARCH == 70 && i < ROWS / 16; i++) {
        *(uint4 *)(to[threadIdx.x / 8 + 16 * i] + 16 * (threadIdx.x % 8)) = held[i];
    }
}

// Two tiles at a time, as the block walks: begin() on path 70 must be followed by end().
template <int ARCH, int ROWS> struct tca_walk {
    uint4 a[ROWS / 16], b[ROWS / 16];
    template <class T>
    __device__ __forceinline__ void begin(tca_pair<ROWS> *to, const mrc_cuda_matrix<const T> &ma,
                                          const mrc_cuda_matrix<const T> &mb, size_t row,
                                          size_t column, int rows, int d) {
        tca_fetch<ARCH, ROWS>(to->a, a, ma.at(row, column), ma.ld, rows, d);
        tca_fetch<ARCH, ROWS>(to->b, b, mb.at(row, column), mb.ld, rows, d);
    }
    __device__ __forceinline__ void end(tca_pair<ROWS> *to) {
        tca_put<ARCH, ROWS>(to->a, a);
        tca_put<ARCH, ROWS>(to->b, b);
    }
    // Waits for tile t, which may then be read, and begins tile t + 1 where there is one: whether
    // there is.  `rows` of the walk exist from `row` on.
    template <class T>
    __device__ __forceinline__ bool turn(tca_pair<ROWS> (&ring)[2], int t, int tiles,
                                         const mrc_cuda_matrix<const T> &ma,
                                         const mrc_cuda_matrix<const T> &mb, size_t row,
                                         size_t column, int rows, int d) {
        const bool more = t + 1 < tiles;
        const int next = (t + 1) * ROWS;
        if (ARCH != 70 && !MRC_BUG(ATTENTION_WAIT)) cp_async_wait<0>();
        if (!MRC_BUG(ATTENTION_BARRIER)) __syncthreads();
        if (more) begin(&ring[(t + 1) & 1], ma, mb, row + (size_t)next, column, rows - next, d);
        if (ARCH != 70) cp_async_commit();
        return more;
    }
};

// A warp's 16 rows: the first one's number in the block and in its sequence; the sequence's first
// row in the batch, and the head's first column.
struct tca_warp { int lane, first, begin; size_t row, head; };
template <class T>
__device__ __forceinline__ tca_warp tca_warp_of(const mrc_cuda_attention<T> &a,
                                                const mrc_cuda_span &q) {
    const int first = (int)threadIdx.x / 32 * 16;
    return { (int)threadIdx.x % 32, first, q.begin + first, (size_t)q.first,
             (size_t)q.head * (size_t)a.d };
}

// After so many tiles: nothing is on its way to shared memory any more.
template <int ARCH> __device__ __forceinline__ void tca_end(int tiles) {
    if (ARCH != 70) cp_async_wait<0>();
    if (tiles == 0) __syncthreads();    // what other threads copied is the warp's own rows
}

//==============================================================================
// Operands
//==============================================================================
// 16 rows r.. (of a; columns of b) by 16 k; BY_K: a row of shared memory is a row of the operand.
template <int ARCH, bool BY_K, bool IS_A>
__device__ __forceinline__ void tca_fragment(unsigned (&w)[tca_form<ARCH>::WORDS],
                                             const tca_row *s, int r, int k, int lane) {
    if constexpr (ARCH == 70) {
        const int q = lane >> 2 & 3, t = lane & 3;
        const int first = r + (IS_A ? q & 1 : q >> 1) * 4 + (lane >> 4) * 8;
#pragma unroll
        for (int i = 0; BY_K && i < 8; i += 4) {
            const uint4 v = *(const uint4 *)(s[first + t] + (k + 2 * i) * 2);
            w[i] = v.x;
            w[i + 1] = v.y;
            w[i + 2] = v.z;
            w[i + 3] = v.w;
        }
#pragma unroll
        for (int i = 0; !BY_K && i < 8; i += 2) {
            const uint2 v = *(const uint2 *)(s[k + 2 * i + t] + first * 2);
            w[i] = v.x;
            w[i + 1] = v.y;
        }
    } else {
        const int row = (lane & 7) + (BY_K == IS_A ? lane & 8 : lane >> 4 << 3);
        const int col = BY_K == IS_A ? lane >> 4 << 3 : lane & 8;
        ldmatrix_x4<!BY_K>(w, BY_K ? s[r + row] + (k + col) * 2 : s[k + row] + (r + col) * 2);
    }
}

// d (16 x 16) += a b.
template <class T, int ARCH, bool B_BY_K>
__device__ __forceinline__ void tca_mma(float (&d)[8], const unsigned *a, const unsigned *b) {
    if constexpr (ARCH == 70) {
#pragma unroll
        for (int i = 0; i < 8; i += 2) mma_884<true, B_BY_K>(d, a + i, b + i);
    } else {
        tc_mma(T(), d, a, b);
        tc_mma(T(), d + 4, a, b + 2);
    }
}

__device__ __forceinline__ unsigned tca_pack(__half, float a, float b) {
    union { __half2 v; unsigned bits; } u = { __floats2half2_rn(a, b) };
    return u.bits;
}
__device__ __forceinline__ unsigned tca_pack(__nv_bfloat16, float a, float b) {
    union { __nv_bfloat162 v; unsigned bits; } u = { __floats2bfloat162_rn(a, b) };
    return u.bits;
}

// Sums as an operand a.  What path 80's lanes hold of a sum is what they hold of an operand; path
// 70's turn it in shared memory, whose rows stand so that neither way's meet in a bank.
template <int ARCH> __device__ __forceinline__ int tca_turned(int row) {
    const int at = (row & 1) + (row >> 2 & 1) * 2 + (row >> 3) * 4 + (row >> 1 & 1) * 8;
    return at * 48 + (at >> 3) * 64;
}
template <class T, int ARCH>
__device__ __forceinline__ void tca_operand(unsigned (&w)[tca_form<ARCH>::WORDS],
                                            const float (&v)[8], unsigned char *turn, int lane) {
    if constexpr (ARCH == 70) {
        unsigned char *mine = turn + threadIdx.x / 32 * TCA_TURN;
#pragma unroll
        for (int e = 0; e < 8; e += 2) {
            int row, col;
            tc_place<ARCH>(lane, e, &row, &col);
            *(unsigned *)(mine + tca_turned<ARCH>(row) + 2 * col) = tca_pack(T(), v[e], v[e + 1]);
        }
        __syncwarp();
        const int row = (lane & 3) + (lane >> 2 & 1) * 4 + (lane >> 4) * 8;
#pragma unroll
        for (int i = 0; i < 8; i += 4) {
            const uint4 u = *(const uint4 *)(mine + tca_turned<ARCH>(row) + 4 * i);
            w[i] = u.x;
            w[i + 1] = u.y;
            w[i + 2] = u.z;
            w[i + 3] = u.w;
        }
        __syncwarp();
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = tca_pack(T(), v[2 * i], v[2 * i + 1]);
    }
}

// A warp's own 16 rows as operand a: in registers, or read each time on path 70, where they would
// be too many.
template <int ARCH> struct tca_own {
    enum { WORDS = tca_form<ARCH>::WORDS };
    unsigned w[ARCH == 70 ? 1 : TCA_D / 16][WORDS];
    const tca_row *rows;
    __device__ __forceinline__ void load(int lane) {
#pragma unroll
        for (int k = 0; ARCH != 70 && k < TCA_D / 16; k++) {
            tca_fragment<ARCH, true, true>(w[k], rows, 0, 16 * k, lane);
        }
    }
};

// s[j] += own rows times rows first + 16 j .. of a tile.
template <class T, int ARCH, int J>
__device__ __forceinline__ void tca_dots(float (&s)[J][8], tca_own<ARCH> &own,
                                         const tca_row *tile, int first, int lane) {
#pragma unroll
    for (int k = 0; k < TCA_D / 16; k++) {
        unsigned b[tca_form<ARCH>::WORDS];
        if (ARCH == 70) tca_fragment<ARCH, true, true>(own.w[0], own.rows, 0, 16 * k, lane);
#pragma unroll
        for (int j = 0; j < J; j++) {
            tca_fragment<ARCH, true, false>(b, tile, first + 16 * j, 16 * k, lane);
            tca_mma<T, ARCH, true>(s[j], own.w[ARCH == 70 ? 0 : k], b);
        }
    }
}

// o += a (16 x 16) times rows first .. of a tile.
template <class T, int ARCH>
__device__ __forceinline__ void tca_weigh(float (&o)[TCA_D / 16][8], const unsigned *a,
                                          const tca_row *tile, int first, int lane) {
#pragma unroll
    for (int n = 0; n < TCA_D / 16; n++) {
        unsigned b[tca_form<ARCH>::WORDS];
        tca_fragment<ARCH, false, false>(b, tile, 16 * n, first, lane);
        tca_mma<T, ARCH, false>(o[n], a, b);
    }
}

//==============================================================================
// Dropout
//==============================================================================
// Whether each of 4 keys is kept, as bits.
__device__ __forceinline__ unsigned tca_draw(const mrc_cuda_mask &m, int head, int sequence,
                                             int position, int group) {
    const uint4 u = mrc_cuda_philox((uint32_t)group, (uint32_t)position, (uint32_t)sequence,
                                    (uint32_t)head, m.key[0], m.key[1]);
    return (unsigned)(u.x >= m.threshold) | (unsigned)(u.y >= m.threshold) << 1
         | (unsigned)(u.z >= m.threshold) << 2 | (unsigned)(u.w >= m.threshold) << 3;
}

// Bit e: whether element e of a lane's sums is kept, of queries q0.. by keys k0...  A draw is of 4
// keys, which stand in two lanes: each draws for one of its two rows and both groups of keys.
template <int ARCH>
__device__ __forceinline__ unsigned tca_kept(const mrc_cuda_mask &m, int head, int sequence,
                                             int q0, int k0, int lane) {
    if (m.threshold == 0) return 0xff;
    const int half = ARCH == 70 ? lane >> 1 & 1 : lane & 1;
    int row, col;
    tc_place<ARCH>(lane, 2 * half, &row, &col);
    const unsigned mine = tca_draw(m, head, sequence, q0 + row, (k0 + col) / 4)
                        | tca_draw(m, head, sequence, q0 + row, (k0 + col) / 4 + 2) << 4;
    const unsigned other = __shfl_xor_sync(0xffffffffu, mine, ARCH == 70 ? 2 : 1);
    const unsigned row0 = (half ? other : mine) >> 2 * half;
    const unsigned row1 = (half ? mine : other) >> 2 * half;
    return (row0 & 0x33) | (row1 & 0x33) << 2;
}

// The same where rows are keys and columns queries: on path 80 a draw's keys stand in four lanes,
// each of which draws for one of its four queries, on path 70 in two, which draw for two.
template <int ARCH>
__device__ __forceinline__ unsigned tca_kept_of_keys(const mrc_cuda_mask &m, int head,
                                                     int sequence, int q0, int k0, int lane) {
    if (m.threshold == 0) return 0xff;
    const int c = ARCH == 70 ? lane & 1 : lane >> 2 & 3;
    int row, col;
    tc_place<ARCH>(lane, ARCH == 70 ? c : (c & 1) + (c >> 1) * 4, &row, &col);
    const int more_q = ARCH == 70 ? 8 : 0, more_k = ARCH == 70 ? 0 : 2;
    if (MRC_BUG(ATTENTION_KEPT)) col ^= 1;
    const unsigned mine = tca_draw(m, head, sequence, q0 + col, (k0 + row) / 4)
                        | tca_draw(m, head, sequence, q0 + col + more_q, (k0 + row) / 4 + more_k)
                              << 4;
    unsigned of[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {       // what was drawn for queries i of path 80, i & 1 of 70
        const int from = ARCH == 70 ? (lane & ~1) | (i & 1) : (lane & ~12) | i << 2;
        of[i] = __shfl_sync(0xffffffffu, mine, from) >> (ARCH == 70 ? lane & 1 : lane >> 2 & 3);
    }
    if (ARCH == 70) return (of[0] & 0x55) | (of[1] & 0x55) << 1;
    unsigned kept = 0;                  // of each draw bits 0 and 4 are the lane's
#pragma unroll
    for (int i = 0; i < 4; i++) {
        kept |= ((of[i] & 1) | (of[i] >> 2 & 4)) << ((i & 1) + (i >> 1) * 4);
    }
    return kept;
}

//==============================================================================
// Rows
//==============================================================================
// A row of 16 x 16 sums stands in four lanes, in elements e with e >> 1 & 1 = i for two rows i.
template <int ARCH> __device__ __forceinline__ float tca_row_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, ARCH == 70 ? 2 : 1));
    return fmaxf(v, __shfl_xor_sync(0xffffffffu, v, ARCH == 70 ? 8 : 2));
}
template <int ARCH> __device__ __forceinline__ float tca_row_sum(float v) {
    v += __shfl_xor_sync(0xffffffffu, v, ARCH == 70 ? 2 : 1);
    return v + __shfl_xor_sync(0xffffffffu, v, ARCH == 70 ? 8 : 2);
}
template <int ARCH> __device__ __forceinline__ int tca_row_of(int lane, int i) {
    int row, col;
    tc_place<ARCH>(lane, 2 * i, &row, &col);
    return row;
}

// Where column c of row r of a result stands, so that path 70's lanes meet in no bank.
__device__ __forceinline__ int tca_stage(int r, int c) { return 2 * c ^ (r & 8) * 4; }

// A warp's 16 rows of a result, of which `rows` are there, from row `row` on: through its own rows
// of shared memory, so that 8 lanes write a row's bytes.
template <class T, int ARCH>
__device__ __forceinline__ void tca_store(const mrc_cuda_matrix<T> &to, size_t row, size_t column,
                                          int rows, int d, const float (&v)[TCA_D / 16][8],
                                          tca_row *stage, int lane) {
    if (!to.data) return;
    __syncwarp();
#pragma unroll
    for (int n = 0; n < TCA_D / 16; n++) {
#pragma unroll
        for (int e = 0; e < 8; e += 2) {
            int r, c;
            tc_place<ARCH>(lane, e, &r, &c);
            c += 16 * n;
            if (!to.accumulate) {
                *(unsigned *)(stage[r] + tca_stage(r, c)) = tca_pack(T(), v[n][e], v[n][e + 1]);
            } else if (r < rows && c < d) {
                tc_give2<T>(to.at(row + (size_t)r, column), (size_t)c, v[n][e], v[n][e + 1], 1);
            }
        }
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int r = lane / 8 + 4 * i, c = lane % 8 * 8;
        if (to.accumulate || r >= rows || c >= d) continue;
        *(uint4 *)to.at(row + (size_t)r, column + (size_t)c) =
            *(const uint4 *)(stage[r] + tca_stage(r, c));
    }
}

//==============================================================================
// Forward
//==============================================================================
// Scores s of J times 16 keys become weights; what was summed before shrinks to the new maximum.
template <int ARCH, int J>
__device__ __forceinline__ void tca_soften(float (&s)[J][8], float scale, int keys, int lane,
                                           float (&top)[2], float (&sum)[2],
                                           float (&o)[TCA_D / 16][8]) {
#pragma unroll
    for (int j = 0; j < J; j++) {
#pragma unroll
        for (int e = 0; e < 8; e++) {
            int row, col;
            tc_place<ARCH>(lane, e, &row, &col);
            const int key = 16 * j + col - 16 * MRC_BUG(ATTENTION_TAIL);
            s[j][e] = key < keys ? s[j][e] * scale : -INFINITY;
        }
    }
    float m[2] = { top[0], top[1] }, shrink[2];
#pragma unroll
    for (int e = 0; e < 8 * J; e++) m[e >> 1 & 1] = fmaxf(m[e >> 1 & 1], s[e / 8][e % 8]);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        m[i] = tca_row_max<ARCH>(m[i]);
        shrink[i] = mrc_exp2(top[i] - m[i]);       // 0 at first
        top[i] = m[i];
        sum[i] *= shrink[i];
    }
#pragma unroll
    for (int e = 0; e < 8 * J; e++) {
        s[e / 8][e % 8] = mrc_exp2(s[e / 8][e % 8] - m[e >> 1 & 1]);
        sum[e >> 1 & 1] += s[e / 8][e % 8];
    }
#pragma unroll
    for (int e = 0; e < TCA_D / 2; e++) o[e / 8][e % 8] *= shrink[e >> 1 & 1];
}

// A tile of keys and values from key k0 on, for the warp's queries from query `begin` on.
template <class T, int ARCH, int WALK>
__device__ __forceinline__ void tca_forward(const mrc_cuda_attention<T> &a, const mrc_cuda_span &q,
                                            tca_own<ARCH> &own, const tca_pair<WALK> *tile,
                                            unsigned char *turn, int begin, int k0, int lane,
                                            float (&top)[2], float (&sum)[2],
                                            float (&o)[TCA_D / 16][8]) {
    float p[WALK / 16][8] = {};
    tca_dots<T, ARCH>(p, own, tile->a, 0, lane);
    tca_soften<ARCH>(p, a.scale * TCA_LOG2E, q.keys - k0, lane, top, sum, o);
#pragma unroll
    for (int j = 0; j < WALK / 16; j++) {
        const unsigned kept = tca_kept<ARCH>(a.mask, q.head, a.index[q.sequence], begin,
                                             k0 + 16 * j, lane);
        unsigned w[tca_form<ARCH>::WORDS];
#pragma unroll
        for (int e = 0; e < 8; e++) p[j][e] = kept >> e & 1 ? p[j][e] : 0;
        tca_operand<T, ARCH>(w, p[j], turn, lane);
        tca_weigh<T, ARCH>(o, w, tile->b, 16 * j, lane);
    }
}

template <class T, int ARCH>
__global__ void __launch_bounds__(TCA_THREADS, 3)
    mrc_cuda_attention_tc_fwd(mrc_cuda_attention<T> a) {
    if (!MRC_HAS_PATH(ARCH)) return;
    enum { WALK = tca_form<ARCH>::FWD };
    typedef tca_fwd_tiles<ARCH> tiles;
    MRC_DYN_SMEM(tiles, s);
    const mrc_cuda_span q = mrc_cuda_span_of(a, TCA_ROWS);
    if (q.begin >= q.length) return;
    const auto [lane, first, begin, row, head] = tca_warp_of(a, q);
    const int ends = (q.keys + WALK - 1) / WALK;
    float o[TCA_D / 16][8] = {}, top[2] = { -INFINITY, -INFINITY }, sum[2] = {};
    tca_walk<ARCH, WALK> walk;
    tca_own<ARCH> own;
    uint4 held[TCA_ROWS / 16];
    tca_fetch<ARCH, TCA_ROWS>(s->q, held, a.q.at(row + (size_t)q.begin, head), a.q.ld,
                              q.length - q.begin, a.d);
    tca_put<ARCH, TCA_ROWS>(s->q, held);
    own.rows = s->q + first;
    for (int t = -1; t < ends; t++) {
        const bool more = walk.turn(s->ring, t, ends, a.k, a.v, row, head, q.keys, a.d);
        const int k0 = t * WALK;
        if (t == 0) own.load(lane);
        if (t >= 0) {
            tca_forward<T, ARCH>(a, q, own, &s->ring[t & 1], s->turn, begin, k0, lane, top, sum,
                                 o);
        }
        if (more) walk.end(&s->ring[(t + 1) & 1]);
    }
    tca_end<ARCH>(ends);
    float share[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float all = tca_row_sum<ARCH>(sum[i]);
        share[i] = all > 0 ? 1 / all : 0;
        const int at = begin + tca_row_of<ARCH>(lane, i);
        const bool mine = ARCH == 70 ? !(lane & 10) : !(lane & 3);
        if (mine && a.lse && at < q.length) {
            a.lse[(size_t)q.head * a.ld_lse + row + (size_t)at] =
                all > 0 ? (top[i] + log2f(all)) / TCA_LOG2E : 0;
        }
    }
#pragma unroll
    for (int e = 0; e < TCA_D / 2; e++) o[e / 8][e % 8] *= share[e >> 1 & 1] * a.mask.scale;
    tca_store<T, ARCH>(a.y, row + (size_t)begin, head, q.length - begin, a.d, o, s->q + first,
                       lane);
}

//==============================================================================
// Backward
//==============================================================================
// lse in the exponent's base and delta = y . dy of the warp's 16 queries, by 8 lanes each; a query
// that is not there has an infinite lse, and so no weight.
template <class T>
__device__ __forceinline__ void tca_stats(const mrc_cuda_attention<T> &a, const mrc_cuda_span &q,
                                          float (*stats)[TCA_ROWS], int first, int lane) {
    const int x = lane % 8;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int at = first + lane / 8 + 4 * i, row = q.begin + at;
        const float delta = mrc_cuda_delta(a, q, row);
        if (x) continue;
        stats[0][at] = INFINITY;
        stats[1][at] = MRC_BUG(ATTENTION_DELTA) ? 0 : delta;
        if (row >= q.length) continue;
        const size_t to = (size_t)(q.first + row);
        stats[0][at] = a.lse[(size_t)q.head * a.ld_lse + to] * TCA_LOG2E;
        a.delta[(size_t)q.head * a.n + to] = stats[1][at];
    }
    __syncwarp();
}

// From scores of 16 x 16: p_ij = exp(s_ij - lse_i), and ds_ij = p_ij (m_ij dp_ij - delta_i) in
// place of dp.  Of element e, lse[e], delta[e] and whether it is there.
__device__ __forceinline__ void tca_again(float (&p)[8], float (&dp)[8], float scale,
                                          const float (&lse)[8], const float (&delta)[8],
                                          unsigned there, unsigned kept, float keep) {
#pragma unroll
    for (int e = 0; e < 8; e++) {
        p[e] = there >> e & 1 ? mrc_exp2(p[e] * scale - lse[e]) : 0;
        dp[e] = p[e] * ((kept >> e & 1 ? dp[e] * keep : 0) - delta[e]);
        if (!(kept >> e & 1)) p[e] = 0;
        else p[e] *= keep;
    }
}

// 16 keys of a tile, from key k0 + j on, for the warp's queries.
template <class T, int ARCH, int WALK>
__device__ __forceinline__ void tca_dq_of(const mrc_cuda_attention<T> &a, const mrc_cuda_span &q,
                                          tca_own<ARCH> &queries, tca_own<ARCH> &slopes,
                                          const tca_pair<WALK> *tile, unsigned char *turn,
                                          int begin, int k0, int j, int lane,
                                          const float (&lse)[8], const float (&delta)[8],
                                          float (&dq)[TCA_D / 16][8]) {
    float p[1][8] = {}, dp[1][8] = {};
    unsigned w[tca_form<ARCH>::WORDS], there = 0;
    tca_dots<T, ARCH>(p, queries, tile->a, j, lane);
    tca_dots<T, ARCH>(dp, slopes, tile->b, j, lane);
#pragma unroll
    for (int e = 0; e < 8; e++) {
        int r, c;
        tc_place<ARCH>(lane, e, &r, &c);
        there |= (unsigned)(k0 + j + c < q.keys) << e;
    }
    const unsigned kept = tca_kept<ARCH>(a.mask, q.head, a.index[q.sequence], begin, k0 + j,
                                         lane);
    tca_again(p[0], dp[0], a.scale * TCA_LOG2E, lse, delta, there, kept, a.mask.scale);
    tca_operand<T, ARCH>(w, dp[0], turn, lane);
    tca_weigh<T, ARCH>(dq, w, tile->a, j, lane);
}

template <class T, int ARCH>
__global__ void __launch_bounds__(TCA_THREADS, 3)
    mrc_cuda_attention_tc_dq(mrc_cuda_attention<T> a) {
    if (!MRC_HAS_PATH(ARCH)) return;
    enum { WALK = tca_form<ARCH>::BWD };
    typedef tca_bwd_tiles<ARCH> tiles;
    MRC_DYN_SMEM(tiles, s);
    const mrc_cuda_span q = mrc_cuda_span_of(a, TCA_ROWS);
    if (q.begin >= q.length) return;
    const auto [lane, first, begin, row, head] = tca_warp_of(a, q);
    const int ends = (q.keys + WALK - 1) / WALK;
    float dq[TCA_D / 16][8] = {}, lse[8], delta[8];
    tca_walk<ARCH, TCA_ROWS> rows;
    tca_walk<ARCH, WALK> walk;
    tca_own<ARCH> queries, slopes;
    rows.begin(&s->own, a.q, a.dy, row + (size_t)q.begin, head, q.length - q.begin, a.d);
    rows.end(&s->own);
    tca_stats(a, q, s->stats[0], first, lane);
#pragma unroll
    for (int e = 0; e < 8; e++) {
        lse[e] = s->stats[0][0][first + tca_row_of<ARCH>(lane, e >> 1 & 1)];
        delta[e] = s->stats[0][1][first + tca_row_of<ARCH>(lane, e >> 1 & 1)];
    }
    queries.rows = s->own.a + first;
    slopes.rows = s->own.b + first;
    for (int t = -1; t < ends; t++) {
        const bool more = walk.turn(s->ring, t, ends, a.k, a.v, row, head, q.keys, a.d);
        const int k0 = t * WALK;
        if (t == 0) queries.load(lane);
        if (t == 0) slopes.load(lane);
        const tca_pair<WALK> *tile = &s->ring[t & 1];
#pragma unroll 1
        for (int j = 0; t >= 0 && j < WALK; j += 16) {
            tca_dq_of<T, ARCH>(a, q, queries, slopes, tile, s->turn, begin, k0, j, lane, lse, delta,
                               dq);
        }
        if (more) walk.end(&s->ring[(t + 1) & 1]);
    }
    tca_end<ARCH>(ends);
#pragma unroll
    for (int e = 0; e < TCA_D / 2; e++) dq[e / 8][e % 8] *= a.scale;
    tca_store<T, ARCH>(a.dq, row + (size_t)begin, head, q.length - begin, a.d, dq,
                       s->own.a + first, lane);
}

// A thread's share of the lse and delta of 32 queries q0.., for its place in stats.
template <class T>
__device__ __forceinline__ float tca_stat(const mrc_cuda_attention<T> &a, const mrc_cuda_span &q,
                                          int q0) {
    const int i = (int)threadIdx.x % 32, of_delta = (int)threadIdx.x / 32, row = q0 + i;
    if (of_delta > 1) return 0;
    if (row >= q.length) return of_delta ? 0 : INFINITY;
    const size_t at = (size_t)(q.first + row);
    return of_delta ? a.delta[(size_t)q.head * a.n + at]
                    : a.lse[(size_t)q.head * a.ld_lse + at] * TCA_LOG2E;
}

// 16 queries of a tile, from query q0 + j on, for the warp's keys from key `begin` on.
template <class T, int ARCH, int WALK>
__device__ __forceinline__ void tca_dkv_of(const mrc_cuda_attention<T> &a, const mrc_cuda_span &q,
                                           tca_own<ARCH> &keys, tca_own<ARCH> &values,
                                           const tca_pair<WALK> *tile,
                                           const float (*stats)[TCA_ROWS], unsigned char *turn,
                                           int begin, int q0, int j, int lane,
                                           float (&dk)[TCA_D / 16][8],
                                           float (&dv)[TCA_D / 16][8]) {
    float p[1][8] = {}, dp[1][8] = {}, lse[8], delta[8];
    unsigned w[tca_form<ARCH>::WORDS], there = 0;
    tca_dots<T, ARCH>(p, keys, tile->a, j, lane);
    tca_dots<T, ARCH>(dp, values, tile->b, j, lane);
#pragma unroll
    for (int e = 0; e < 8; e++) {
        int r, c;
        tc_place<ARCH>(lane, e, &r, &c);
        lse[e] = stats[0][j + c];
        delta[e] = stats[1][j + c];
        there |= (unsigned)(begin + r < q.keys) << e;
    }
    const unsigned kept = tca_kept_of_keys<ARCH>(a.mask, q.head, a.index[q.sequence], q0 + j,
                                                 begin, lane);
    tca_again(p[0], dp[0], a.scale * TCA_LOG2E, lse, delta, there, kept, a.mask.scale);
    tca_operand<T, ARCH>(w, p[0], turn, lane);
    tca_weigh<T, ARCH>(dv, w, tile->b, j, lane);
    tca_operand<T, ARCH>(w, dp[0], turn, lane);
    tca_weigh<T, ARCH>(dk, w, tile->a, j, lane);
}

template <class T, int ARCH>
__global__ void __launch_bounds__(TCA_THREADS, ARCH == 70 ? 2 : 3)
    mrc_cuda_attention_tc_dkv(mrc_cuda_attention<T> a) {
    if (!MRC_HAS_PATH(ARCH)) return;
    enum { WALK = tca_form<ARCH>::BWD };
    typedef tca_bwd_tiles<ARCH> tiles;
    MRC_DYN_SMEM(tiles, s);
    const mrc_cuda_span q = mrc_cuda_span_of(a, TCA_ROWS);
    if (q.begin >= q.length) return;
    const auto [lane, first, begin, row, head] = tca_warp_of(a, q);
    const int ends = q.begin < q.keys ? (q.length + WALK - 1) / WALK : 0;
    float dk[TCA_D / 16][8] = {}, dv[TCA_D / 16][8] = {}, stat = 0;
    tca_walk<ARCH, TCA_ROWS> rows;
    tca_walk<ARCH, WALK> walk;
    tca_own<ARCH> keys, values;
    rows.begin(&s->own, a.k, a.v, row + (size_t)q.begin, head, q.keys - q.begin, a.d);
    rows.end(&s->own);
    keys.rows = s->own.a + first;
    values.rows = s->own.b + first;
    for (int t = -1; t < ends; t++) {
        const bool more = walk.turn(s->ring, t, ends, a.q, a.dy, row, head, q.length, a.d);
        const int q0 = t * WALK;
        if (more) stat = tca_stat(a, q, q0 + WALK);
        if (t == 0) keys.load(lane);
        if (t == 0) values.load(lane);
        const tca_pair<WALK> *tile = &s->ring[t & 1];
#pragma unroll 1
        for (int j = 0; t >= 0 && j < WALK; j += 16) {
            tca_dkv_of<T, ARCH>(a, q, keys, values, tile, s->stats[t & 1], s->turn, begin, q0, j,
                                lane, dk, dv);
        }
        if (more) walk.end(&s->ring[(t + 1) & 1]);
        if (more && threadIdx.x < 64) {
            s->stats[(t + 1) & 1][threadIdx.x / 32][threadIdx.x % 32] = stat;
        }
    }
    tca_end<ARCH>(ends);
#pragma unroll
    for (int e = 0; e < TCA_D / 2; e++) dk[e / 8][e % 8] *= a.scale;
    tca_store<T, ARCH>(a.dk, row + (size_t)begin, head, q.length - begin, a.d, dk,
                       s->own.a + first, lane);
    tca_store<T, ARCH>(a.dv, row + (size_t)begin, head, q.length - begin, a.d, dv,
                       s->own.b + first, lane);
}

//==============================================================================
// Host
//==============================================================================
// Whether eight elements of a row can be loaded and stored at once; what is not there can.
template <class T> static bool tca_by_eight(const mrc_cuda_matrix<T> &m) {
    return !m.data || ((uintptr_t)m.data % TC_CHUNK == 0 && m.ld % 8 == 0);
}

// Whether this file's kernels do it: of 16 bits, without extras, every chunk of a row aligned.
template <class T> static bool tca_fits(const mrc_cuda_attention<T> &a) {
    return sizeof(T) == 2 && !a.kind && !a.window && a.d <= TCA_D && a.d % 8 == 0
        && tca_by_eight(a.q) && tca_by_eight(a.k) && tca_by_eight(a.v) && tca_by_eight(a.out)
        && tca_by_eight(a.dy) && tca_by_eight(a.y) && tca_by_eight(a.dq) && tca_by_eight(a.dk)
        && tca_by_eight(a.dv);
}

#endif
