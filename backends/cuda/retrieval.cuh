// retrieval.cuh - ops of learned retrieval: pooling, unit length, maxsim, losses over scores
#ifndef MRC_CUDA_RETRIEVAL_CUH
#define MRC_CUDA_RETRIEVAL_CUH
#include "attention.cuh"

//==============================================================================
// Pooling: a thread has a column of a sequence, or of a row
//==============================================================================
template <class T> struct mrc_cuda_pooled {
    int n, n_sequences, h, mode, skip;
    const int32_t *cu, *real;
    int32_t *argmax;
    mrc_cuda_matrix<const T> from;              // x, or dy
    mrc_cuda_matrix<T> to;                      // y, or dx
};

// The share of row p of the rows first to end, as in op.pool.
__device__ __forceinline__ float mrc_cuda_pool_share(int mode, int p, int first, int end) {
    const float t = (float)(end - first);
    if (mode == MRC_POOLING_CLS) return p == first ? 1 : 0;
    if (mode == MRC_POOLING_LAST) return p + 1 == end ? 1 : 0;
    if (mode == MRC_POOLING_MEAN) return 1 / t;
    if (mode == MRC_POOLING_MEAN_SQRT) return 1 / sqrtf(t);
    return (float)(p + 1) / ((float)(first + 1 + end) * t / 2);
}

template <class T>
__global__ void __launch_bounds__(MRC_CUDA_BLOCK) mrc_cuda_pool_fwd(mrc_cuda_pooled<T> a) {
    const int s = (int)blockIdx.x, i = (int)(blockIdx.y * MRC_CUDA_BLOCK + threadIdx.x);
    const int begin = a.cu[s], end = a.real[s], skip = MRC_BUG(POOL_FWD) ? 0 : a.skip;
    if (i >= a.h) return;
    float y = 0;
    int best = -1;
    if (a.mode == MRC_POOLING_MAX) {
        for (int p = skip; p < end; p++) {
            const float x = mrc_cuda_get(a.from.at((size_t)(begin + p), (size_t)i));
            if (best >= 0 && !(x > y)) continue;
            y = x;
            best = begin + p;
        }
    } else {
        // rows without a share are not read: of cls and last there is one
        const int first = a.mode == MRC_POOLING_LAST && end > skip ? end - 1 : skip;
        const int last = a.mode == MRC_POOLING_CLS && end > skip ? skip + 1 : end;
#pragma unroll 4
        for (int p = first; p < last; p++) {
            y += mrc_cuda_get(a.from.at((size_t)(begin + p), (size_t)i))
               * mrc_cuda_pool_share(a.mode, p, skip, end);
        }
    }
    mrc_cuda_put(a.to.at((size_t)s, (size_t)i), y);
    if (a.argmax) a.argmax[(size_t)s * (size_t)a.h + (size_t)i] = best;
}
template <class T>
__global__ void __launch_bounds__(MRC_CUDA_BLOCK) mrc_cuda_pool_bwd(mrc_cuda_pooled<T> a) {
    const int row = (int)blockIdx.x, i = (int)(blockIdx.y * MRC_CUDA_BLOCK + threadIdx.x);
    const int s = mrc_cuda_sequence_of(a.cu, a.n_sequences, row), p = row - a.cu[s];
    if (i >= a.h) return;
    // forward was: y = sum of x_p share_p, or the largest
    float share = 0;
    if (p >= a.skip && (p < a.real[s] || MRC_BUG(POOL_BWD))) {
        share = a.mode == MRC_POOLING_MAX
              ? (float)(a.argmax[(size_t)s * (size_t)a.h + (size_t)i] == row)
              : mrc_cuda_pool_share(a.mode, p, a.skip, a.real[s]);
    }
    const float dy = share != 0 ? mrc_cuda_get(a.from.at((size_t)s, (size_t)i)) : 0;
    mrc_cuda_give(a.to.at((size_t)row, (size_t)i), dy * share, a.to.accumulate);
}
template <class T, class Args>
static mrc_cuda_pooled<T> mrc_cuda_pooled_of(const Args *g, mrc_in from, mrc_out to) {
    return { (int)g->n, (int)g->n_sequences, (int)g->h, (int)g->mode, (int)g->skip,
             (const int32_t *)g->cu_seqlens.data, (const int32_t *)g->real_len.data,
             (int32_t *)(uintptr_t)g->argmax.data, mrc_cuda_from<T>(from), mrc_cuda_into<T>(to) };
}
template <class T>
static mrc_status mrc_cuda_pool_fwd_run(mrc_backend *be, const mrc_pool_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    if (g->n_sequences == 0 || g->h == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_pool_fwd<T>),
                                        dim3((unsigned)g->n_sequences,
                                             mrc_cuda_blocks(g->h, MRC_CUDA_BLOCK)),
                                        MRC_CUDA_BLOCK, 0, c->stream,
                                        mrc_cuda_pooled_of<T>(g, g->x, g->y)));
}
template <class T>
static mrc_status mrc_cuda_pool_bwd_run(mrc_backend *be, const mrc_pool_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    if (g->n == 0 || g->h == 0 || !g->dx.data) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_pool_bwd<T>),
                                        dim3((unsigned)g->n,
                                             mrc_cuda_blocks(g->h, MRC_CUDA_BLOCK)),
                                        MRC_CUDA_BLOCK, 0, c->stream,
                                        mrc_cuda_pooled_of<T>(g, g->dy, g->dx)));
}

//==============================================================================
// Unit length: a warp has a row
//==============================================================================
template <class T> struct mrc_cuda_unit {
    int n, d;
    mrc_cuda_matrix<const T> x, dy;             // x: in backward y
    mrc_cuda_matrix<T> to;
    float *inverse;
};
template <class T>
__global__ void __launch_bounds__(MRC_CUDA_BLOCK) mrc_cuda_normalize_fwd(mrc_cuda_unit<T> a) {
    const int row = (int)blockIdx.x * MRC_CUDA_ROWS + (int)threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    if (row >= a.n) return;                     // the whole warp
    float square = 0;
    for (int i = lane; i < a.d; i += 32) {
        const float x = mrc_cuda_get(a.x.at((size_t)row, (size_t)i));
        square += x * x;
    }
    // Divided by, not multiplied with an inverse: a row of one element is 1 or -1 to the bit.
    square = MRC_BUG(NORMALIZE_FWD) ? mrc_cuda_sum<16>(square) : mrc_cuda_sum<32>(square);
    const float length = fmaxf(sqrtf(square), 1e-12f);
    for (int i = lane; i < a.d; i += 32) {
        mrc_cuda_put(a.to.at((size_t)row, (size_t)i),
                     mrc_cuda_get(a.x.at((size_t)row, (size_t)i)) / length);
    }
    if (lane == 0 && a.inverse) a.inverse[row] = 1 / length;
}
template <class T>
__global__ void __launch_bounds__(MRC_CUDA_BLOCK) mrc_cuda_normalize_bwd(mrc_cuda_unit<T> a) {
    const int row = (int)blockIdx.x * MRC_CUDA_ROWS + (int)threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    if (row >= a.n) return;
    const float inverse = a.inverse[row];
    float dot = 0;
    for (int i = lane; i < a.d; i += 32) {
        dot += mrc_cuda_get(a.x.at((size_t)row, (size_t)i))
             * mrc_cuda_get(a.dy.at((size_t)row, (size_t)i));
    }
    dot = mrc_cuda_sum<32>(dot);
    // the length was not divided by
    if (inverse > 0.999e12f || MRC_BUG(NORMALIZE_BWD)) dot = 0;
    for (int i = lane; i < a.d; i += 32) {
        // forward was: y = x / ||x||
        const float y = mrc_cuda_get(a.x.at((size_t)row, (size_t)i));
        const float dy = mrc_cuda_get(a.dy.at((size_t)row, (size_t)i));
        mrc_cuda_give(a.to.at((size_t)row, (size_t)i), (dy - y * dot) * inverse,
                      a.to.accumulate);
    }
}
template <class T>
static mrc_status mrc_cuda_normalize_fwd_run(mrc_backend *be, const mrc_normalize_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const mrc_cuda_unit<T> a = { (int)g->n, (int)g->d, mrc_cuda_from<T>(g->x), {},
                                 mrc_cuda_into<T>(g->y), (float *)g->inverse.data };
    if (g->n == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_normalize_fwd<T>),
                                        mrc_cuda_blocks(g->n, MRC_CUDA_ROWS), MRC_CUDA_BLOCK, 0,
                                        c->stream, a));
}
template <class T>
static mrc_status mrc_cuda_normalize_bwd_run(mrc_backend *be, const mrc_normalize_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const mrc_cuda_unit<T> a = { (int)g->n, (int)g->d, mrc_cuda_from<T>(g->y),
                                 mrc_cuda_from<T>(g->dy), mrc_cuda_into<T>(g->dx),
                                 (float *)(uintptr_t)g->inverse.data };
    if (g->n == 0 || !g->dx.data) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_normalize_bwd<T>),
                                        mrc_cuda_blocks(g->n, MRC_CUDA_ROWS), MRC_CUDA_BLOCK, 0,
                                        c->stream, a));
}

//==============================================================================
// Maxsim
//==============================================================================
template <class T> struct mrc_cuda_similar {
    int n_query_rows, n_queries, n_documents, d, vectors;
    const int32_t *qc, *dc, *keep;              // keep NULL: all count
    int32_t *argmax;                            // (Nq, M)
    float   *most;                              // (Nq, M): of each row its largest product
    mrc_cuda_matrix<const T> q, document, dy;
    mrc_cuda_matrix<T> to;                      // y, dq or ddocument
};
enum { MRC_CUDA_SIM_D = 64, MRC_CUDA_SIM_Q = 64 };
struct mrc_cuda_sim_tiles {
    float q[MRC_CUDA_SIM_Q][MRC_CUDA_SIM_D + 4], k[MRC_CUDA_KEYS][MRC_CUDA_SIM_D + 4];
};

// A block has 64 query rows and a document, whose rows it walks over by tiles of 32, as attention
// does; the first of equal rows is taken.
template <class T>
__global__ void __launch_bounds__(128) mrc_cuda_maxsim_rows(mrc_cuda_similar<T> a) {
    enum { D = MRC_CUDA_SIM_D, Q = MRC_CUDA_SIM_Q };
    MRC_DYN_SMEM(mrc_cuda_sim_tiles, s);
    const int x = (int)threadIdx.x % 8, y = (int)threadIdx.x / 8;
    const int m = (int)blockIdx.x % a.n_documents, q0 = (int)blockIdx.x / a.n_documents * Q;
    const int end = a.dc[m + 1];
    float most[4] = {};
    int best[4] = { -1, -1, -1, -1 };
    for (int b0 = a.dc[m]; b0 < end; b0 += MRC_CUDA_KEYS) {
        float p[4][4] = {};
        for (int c = 0; c < a.d; c += D) {
            __syncthreads();
            mrc_cuda_tiles<Q, D, 2 * Q, false, T>(s->q, a.q.at((size_t)q0, (size_t)c), a.q.ld,
                                                  NULL, NULL, 0, a.n_query_rows - q0, a.d - c,
                                                  a.vectors);
            mrc_cuda_tiles<MRC_CUDA_KEYS, D, 2 * Q, true, T>(
                s->k, a.document.at((size_t)b0, (size_t)c), a.document.ld, NULL, NULL, 0,
                end - b0, a.d - c, a.vectors);
            if (!MRC_BUG(MAXSIM_ROWS)) __syncthreads();
            mrc_cuda_dots<D>(p, s->q, s->k, x, y);
        }
        for (int j = 0; j < 4; j++) {
            const int b = b0 + 4 * x + j;
            if (b >= end || (a.keep && !a.keep[b] && !MRC_BUG(MAXSIM_KEEP))) continue;
            for (int i = 0; i < 4; i++) {
                if (best[i] >= 0 && !(p[i][j] > most[i])) continue;
                most[i] = p[i][j];
                best[i] = b;
            }
        }
    }
    for (int i = 0; i < 4; i++) {
        for (int o = 4; o; o >>= 1) {           // among the 8 threads of a row
            const float v = __shfl_xor_sync(0xffffffffu, most[i], o);
            const int b = __shfl_xor_sync(0xffffffffu, best[i], o);
            const bool better = v > most[i] || (v == most[i] && b < best[i]);
            if (b < 0 || (best[i] >= 0 && !better)) continue;
            most[i] = v;
            best[i] = b;
        }
        const int row = q0 + 4 * y + i;
        if (x != 0 || row >= a.n_query_rows) continue;
        const size_t at = (size_t)row * (size_t)a.n_documents + (size_t)m;
        a.most[at] = best[i] < 0 ? 0 : most[i];
        if (a.argmax) a.argmax[at] = best[i];
    }
}
// A thread adds up the rows of a query, in their order.
template <class T> __global__ void mrc_cuda_maxsim_sums(mrc_cuda_similar<T> a) {
    const int blocks = (a.n_documents + 63) / 64, s = (int)blockIdx.x / blocks;
    const int m = (int)blockIdx.x % blocks * 64 + (int)threadIdx.x;
    if (m >= a.n_documents) return;
    float sum = 0;
    for (int r = a.qc[s]; r < a.qc[s + 1] - MRC_BUG(MAXSIM_SUMS); r++) {
        sum += a.most[(size_t)r * (size_t)a.n_documents + (size_t)m];
    }
    mrc_cuda_put(a.to.at((size_t)m, (size_t)s), sum);
}

template <class T>
__global__ void __launch_bounds__(MRC_CUDA_BLOCK) mrc_cuda_maxsim_dq(mrc_cuda_similar<T> a) {
    const int r = (int)blockIdx.x, i = (int)(blockIdx.y * MRC_CUDA_BLOCK + threadIdx.x);
    const int s = MRC_BUG(MAXSIM_DQ) ? 0 : mrc_cuda_sequence_of(a.qc, a.n_queries, r);
    if (i >= a.d) return;
    float dq = 0;
    for (int m = 0; m < a.n_documents; m++) {
        // forward was: y[m][s] += q_r . d_b, b the row chosen
        const int b = a.argmax[(size_t)r * (size_t)a.n_documents + (size_t)m];
        if (b < 0) continue;
        dq += mrc_cuda_get(a.dy.at((size_t)m, (size_t)s))
            * mrc_cuda_get(a.document.at((size_t)b, (size_t)i));
    }
    mrc_cuda_give(a.to.at((size_t)r, (size_t)i), dq, a.to.accumulate);
}
// A block has a row of a document: it looks for the query rows that chose it, 128 at a time, and
// adds them in their order.
template <class T>
__global__ void __launch_bounds__(MRC_CUDA_BLOCK) mrc_cuda_maxsim_dd(mrc_cuda_similar<T> a) {
    struct shared { unsigned hits[MRC_CUDA_ROWS]; };
    MRC_DYN_SMEM(shared, z);
    const int b = (int)blockIdx.x, t = (int)threadIdx.x;
    const int i = (int)blockIdx.y * MRC_CUDA_BLOCK + t;
    const int m = mrc_cuda_sequence_of(a.dc, a.n_documents, b);
    float dd = 0;
    for (int r0 = 0; r0 < a.n_query_rows; r0 += MRC_CUDA_BLOCK) {
        const bool mine = r0 + t < a.n_query_rows
                       && a.argmax[(size_t)(r0 + t) * (size_t)a.n_documents + (size_t)m] == b;
        const unsigned hit = __ballot_sync(0xffffffffu, mine);
        if (t % 32 == 0) z->hits[t / 32] = hit;
        __syncthreads();
        for (int w = 0; w < MRC_CUDA_ROWS; w++) {
            for (unsigned bits = z->hits[w]; bits && i < a.d; bits &= bits - 1) {
                const int r = r0 + 32 * w + __ffs((int)bits) - 1;
                const int s = MRC_BUG(MAXSIM_DD) ? 0 : mrc_cuda_sequence_of(a.qc, a.n_queries, r);
                dd += mrc_cuda_get(a.dy.at((size_t)m, (size_t)s))
                    * mrc_cuda_get(a.q.at((size_t)r, (size_t)i));
            }
        }
        __syncthreads();
    }
    if (i < a.d) mrc_cuda_give(a.to.at((size_t)b, (size_t)i), dd, a.to.accumulate);
}

template <class T, class Args> static mrc_cuda_similar<T> mrc_cuda_similar_of(const Args *g) {
    mrc_cuda_similar<T> a = {};
    a.n_query_rows = (int)g->n_query_rows;
    a.n_queries = (int)g->n_queries;
    a.n_documents = (int)g->n_documents;
    a.d = (int)g->d;
    a.qc = (const int32_t *)g->q_cu_seqlens.data;
    a.dc = (const int32_t *)g->document_cu_seqlens.data;
    a.argmax = (int32_t *)(uintptr_t)g->argmax.data;
    a.q = mrc_cuda_from<T>(g->q);
    a.document = mrc_cuda_from<T>(g->document);
    return a;
}
static size_t mrc_cuda_maxsim_scratch(mrc_backend *be, const mrc_maxsim_fwd_args *g) {
    (void)be;
    return g->n_query_rows * g->n_documents * sizeof(float);
}
template <class T>
static mrc_status mrc_cuda_maxsim_fwd_run(mrc_backend *be, const mrc_maxsim_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_similar<T> a = mrc_cuda_similar_of<T>(g);
    a.keep = (const int32_t *)g->keep.data;
    a.most = (float *)g->workspace;
    a.to = mrc_cuda_into<T>(g->y);
    a.vectors = g->d % 4 == 0 && mrc_cuda_by_four(a.q) && mrc_cuda_by_four(a.document);
    if (g->n_documents == 0 || g->n_queries == 0) return MRC_OK;
    // Of one dimension, which alone may have more than 65,535 blocks.
    const size_t tiles = mrc_cuda_blocks(g->n_query_rows, MRC_CUDA_SIM_Q);
    const size_t sums = mrc_cuda_blocks(g->n_documents, 64);
    if (tiles > INT32_MAX / g->n_documents || sums > INT32_MAX / g->n_queries) {
        return MRC_ERR_UNSUPPORTED;
    }
    if (tiles) {
        MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_maxsim_rows<T>),
                                                  (unsigned)(tiles * g->n_documents),
                                                  2 * MRC_CUDA_SIM_Q, sizeof(mrc_cuda_sim_tiles),
                                                  c->stream, a)));
    }
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_maxsim_sums<T>),
                                        (unsigned)(sums * g->n_queries), 64, 0, c->stream, a));
}
template <class T>
static mrc_status mrc_cuda_maxsim_bwd_run(mrc_backend *be, const mrc_maxsim_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_similar<T> a = mrc_cuda_similar_of<T>(g);
    const unsigned columns = mrc_cuda_blocks(g->d, MRC_CUDA_BLOCK);
    a.dy = mrc_cuda_from<T>(g->dy);
    if (g->n_query_rows && columns && g->dq.data) {
        a.to = mrc_cuda_into<T>(g->dq);
        MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_maxsim_dq<T>),
                                                  dim3((unsigned)g->n_query_rows, columns),
                                                  MRC_CUDA_BLOCK, 0, c->stream, a)));
    }
    if (g->n_document_rows == 0 || columns == 0 || !g->ddocument.data) return MRC_OK;
    a.to = mrc_cuda_into<T>(g->ddocument);
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_maxsim_dd<T>),
                                        dim3((unsigned)g->n_document_rows, columns),
                                        MRC_CUDA_BLOCK, MRC_CUDA_ROWS * sizeof(unsigned),
                                        c->stream, a));
}

//==============================================================================
// Losses over scores: a warp has a column
//==============================================================================
template <class T> struct mrc_cuda_scored {
    int    rows, columns, kind;
    float  scale, weight;
    mrc_cuda_matrix<const T> z, labels;         // a label that is NaN: no candidate
    const int32_t *targets;
    const float *denominator, *dloss;
    float *parts, *loss, *lse;
    mrc_cuda_matrix<T> dz;
};

// What a column's candidates have in common: their number, log-sum-exp and sum of labels; the
// gold's z - t, and the sum of what the others lack to it.
typedef struct mrc_cuda_column_facts { float n, lse, total, gold, gold_sum; } mrc_cuda_column_facts;
template <class T>
__device__ __forceinline__ mrc_cuda_column_facts mrc_cuda_column_of(const mrc_cuda_scored<T> &a,
                                                                    int c) {
    const int target = a.targets[c], lane = (int)threadIdx.x;
    mrc_cuda_column_facts f = {};
    float most = -INFINITY, sum = 0;
    if (a.kind == MRC_SCORE_LOSS_MARGIN && target >= 0) {
        f.gold = mrc_cuda_get(a.z.at((size_t)target, (size_t)c))
               - mrc_cuda_get(a.labels.at((size_t)target, (size_t)c));
    }
    for (int r = lane; r < a.rows; r += 32) {
        const float z = mrc_cuda_get(a.z.at((size_t)r, (size_t)c));
        const float t = mrc_cuda_get(a.labels.at((size_t)r, (size_t)c));
        if (t != t) continue;
        most = fmaxf(most, a.scale * z);
        f.n += 1;
        f.total += t;
        f.gold_sum += 2 * (f.gold - (z - t));
    }
    f.n = mrc_cuda_sum<32>(f.n);
    f.total = mrc_cuda_sum<32>(f.total);
    f.gold_sum = mrc_cuda_sum<32>(f.gold_sum);
    most = mrc_cuda_max<32>(most);
    for (int r = lane; r < a.rows && a.kind == MRC_SCORE_LOSS_SOFT; r += 32) {
        const float t = mrc_cuda_get(a.labels.at((size_t)r, (size_t)c));
        if (t == t) sum += expf(a.scale * mrc_cuda_get(a.z.at((size_t)r, (size_t)c)) - most);
    }
    sum = mrc_cuda_sum<32>(sum);
    f.lse = sum > 0 ? most + logf(sum) : 0;
    return f;
}

template <class T> __global__ void mrc_cuda_score_fwd(mrc_cuda_scored<T> a) {
    const int c = (int)blockIdx.x, lane = (int)threadIdx.x;
    const mrc_cuda_column_facts f = mrc_cuda_column_of(a, c);
    float sum = 0;
    for (int r = lane; r < a.rows && (a.targets[c] >= 0 || MRC_BUG(SCORE_FWD)); r += 32) {
        const float z = mrc_cuda_get(a.z.at((size_t)r, (size_t)c)), s = a.scale * z;
        const float t = mrc_cuda_get(a.labels.at((size_t)r, (size_t)c));
        if (t != t) continue;
        if (a.kind == MRC_SCORE_LOSS_SOFT) {
            sum += t > 0 ? t * (logf(t) - (s - f.lse)) : 0;
        } else if (a.kind == MRC_SCORE_LOSS_BCE) {
            sum += fmaxf(s, 0) + log1pf(expf(-fabsf(s))) - t * s;
        } else {
            const float e = a.kind == MRC_SCORE_LOSS_MARGIN ? f.gold - (z - t) : z - t;
            sum += e * e;
        }
    }
    sum = mrc_cuda_sum<32>(sum);
    if (lane != 0) return;
    const float n = a.kind == MRC_SCORE_LOSS_MARGIN ? f.n - 1
                  : a.kind == MRC_SCORE_LOSS_MSE ? f.n : 1;
    a.parts[c] = (a.targets[c] < 0 && !MRC_BUG(SCORE_FWD)) || !(n > 0) ? 0
               : a.weight * sum / n * mrc_cuda_share(a.denominator[c]);
    if (a.lse && a.targets[c] >= 0) a.lse[c] = f.lse;
}
template <class T> __global__ void mrc_cuda_score_sum(mrc_cuda_scored<T> a) {
    double loss = 0;
    for (int c = 0; c < a.columns - MRC_BUG(SCORE_SUM); c++) loss += a.parts[c];
    *a.loss = (float)loss;
}

template <class T> __global__ void mrc_cuda_score_bwd(mrc_cuda_scored<T> a) {
    const int c = (int)blockIdx.x, target = a.targets[c];
    const mrc_cuda_column_facts f = mrc_cuda_column_of(a, c);
    const float share = *a.dloss * a.weight * mrc_cuda_share(a.denominator[c]);
    for (int r = (int)threadIdx.x; r < a.rows; r += 32) {
        const float z = mrc_cuda_get(a.z.at((size_t)r, (size_t)c)), s = a.scale * z;
        const float t = mrc_cuda_get(a.labels.at((size_t)r, (size_t)c));
        float dz = 0;
        if (target >= 0 && t == t) {
            // forward was: loss = share times the sum of the column's terms
            if (a.kind == MRC_SCORE_LOSS_SOFT) dz = a.scale * (expf(s - a.lse[c]) * f.total - t);
            if (a.kind == MRC_SCORE_LOSS_BCE) dz = a.scale * (1 / (1 + expf(-s)) - t);
            if (a.kind == MRC_SCORE_LOSS_MSE) dz = 2 * (z - t) / f.n;
            if (a.kind == MRC_SCORE_LOSS_MARGIN && f.n > 1) {
                const float own = MRC_BUG(SCORE_BWD) ? 0 : f.gold_sum;
                dz = (r == target ? own : -2 * (f.gold - (z - t))) / (f.n - 1);
            }
        }
        mrc_cuda_give(a.dz.at((size_t)r, (size_t)c), share * dz, a.dz.accumulate);
    }
}

template <class T, class Args> static mrc_cuda_scored<T> mrc_cuda_scored_of(const Args *g) {
    mrc_cuda_scored<T> a = {};
    a.rows = (int)g->rows;
    a.columns = (int)g->columns;
    a.kind = (int)g->kind;
    a.scale = (float)g->scale;
    a.weight = (float)g->weight;
    a.z = mrc_cuda_from<T>(g->z);
    a.labels = mrc_cuda_from<T>(g->labels);
    a.targets = (const int32_t *)g->targets.data;
    a.denominator = (const float *)g->denominator.data;
    a.lse = (float *)(uintptr_t)g->lse.data;
    return a;
}
static size_t mrc_cuda_score_loss_scratch(mrc_backend *be, const mrc_score_loss_fwd_args *g) {
    (void)be;
    return g->columns * sizeof(float);
}
template <class T>
static mrc_status mrc_cuda_score_loss_fwd_run(mrc_backend *be, const mrc_score_loss_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_scored<T> a = mrc_cuda_scored_of<T>(g);
    a.parts = (float *)g->workspace;
    a.loss = (float *)g->loss.data;
    if (g->columns) {
        MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_score_fwd<T>), (unsigned)g->columns,
                                                  32, 0, c->stream, a)));
    }
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_score_sum<T>), 1, 1, 0, c->stream, a));
}
template <class T>
static mrc_status mrc_cuda_score_loss_bwd_run(mrc_backend *be, const mrc_score_loss_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_scored<T> a = mrc_cuda_scored_of<T>(g);
    a.dloss = (const float *)g->dloss.data;
    a.dz = mrc_cuda_into<T>(g->dz);
    if (!g->rows || !g->columns || !g->dz.data) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_score_bwd<T>), (unsigned)g->columns, 32, 0,
                                        c->stream, a));
}

#endif
