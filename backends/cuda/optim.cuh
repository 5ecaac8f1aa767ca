// optim.cuh - the optimizer's kernels: all tensors in one launch
//
// Tensors are described in an array that is uploaded into the workspace.  Element-wise kernels give
// a block a chunk of one tensor; AdamP, which projects by rows, gives a warp a row.  Sums are of
// doubles, by chunk or row and then over these in their order.  Nothing here waits for the device.
#ifndef MRC_CUDA_OPTIM_CUH
#define MRC_CUDA_OPTIM_CUH
#include "common.cuh"

enum { MRC_CUDA_OPTIM_CHUNK = MRC_NORM_CHUNK, MRC_CUDA_OPTIM_THREADS = 256 };

typedef struct mrc_cuda_tensor {
    unsigned long long numel, first_chunk, first_row, rows, columns;    // rows, columns: AdamP's
    const float *grad;
    float *param, *m, *v;
    void  *copy;
    int    copy_dtype, projected;       // projected: a matrix
    float  lr, weight_decay;
} mrc_cuda_tensor;

// The tensor that chunk or row `at` belongs to.
__device__ __forceinline__ const mrc_cuda_tensor *mrc_cuda_tensor_of(const mrc_cuda_tensor *t,
                                                                     int n, unsigned long long at,
                                                                     bool by_row) {
    int low = 0, high = n;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if ((by_row ? t[middle].first_row : t[middle].first_chunk) <= at) low = middle;
        else high = middle;
    }
    return t + low;
}

__device__ __forceinline__ void mrc_cuda_write(const mrc_cuda_tensor *t, size_t i, float p) {
    t->param[i] = p;
    if (!t->copy) return;
    if (t->copy_dtype == MRC_DTYPE_F16) ((__half *)t->copy)[i] = (__half)p;
    else ((__nv_bfloat16 *)t->copy)[i] = (__nv_bfloat16)p;
}

__device__ __forceinline__ double mrc_cuda_sum_double(double v) {
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}

// The sum of every thread's v, for thread 0.
__device__ __forceinline__ double mrc_cuda_block_sum(double v) {
    struct partial { double v[MRC_CUDA_OPTIM_THREADS / 32]; };
    MRC_DYN_SMEM(partial, s);
    v = mrc_cuda_sum_double(v);
    if (threadIdx.x % 32 == 0) s->v[threadIdx.x / 32] = v;
    __syncthreads();
    double sum = 0;
    for (int w = 0; threadIdx.x == 0 && w < MRC_CUDA_OPTIM_THREADS / 32; w++) sum += s->v[w];
    return sum;
}
enum { MRC_CUDA_OPTIM_SHARED = MRC_CUDA_OPTIM_THREADS / 32 * sizeof(double) };

//==============================================================================
// The norm of all gradients, the factor that clips them, the loss scale
//==============================================================================
__global__ static void mrc_cuda_chunk_squares(const mrc_cuda_tensor *tensors, int n,
                                              double *parts) {
    const mrc_cuda_tensor *t = mrc_cuda_tensor_of(tensors, n, blockIdx.x, false);
    const size_t first = (blockIdx.x - t->first_chunk) * MRC_CUDA_OPTIM_CHUNK;
    const size_t end = first + MRC_CUDA_OPTIM_CHUNK < t->numel ? first + MRC_CUDA_OPTIM_CHUNK
                                                               : t->numel;
    double sum = 0;
    for (size_t i = first + threadIdx.x; i < end; i += MRC_CUDA_OPTIM_THREADS) {
        sum += (double)t->grad[i] * (double)t->grad[i];
    }
    sum = mrc_cuda_block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

typedef struct mrc_cuda_norm_end {
    const double *parts;
    unsigned long long chunks;
    double   max_norm, max_loss;
    float   *norm, *clip, *inverse, *scale;
    int32_t *state, *counts, growth_interval, hysteresis;
    const float *losses;                // (n_units, n_losses), ld_losses from row to row, or NULL
    size_t   n_units, n_losses, ld_losses;
    double  *report;
} mrc_cuda_norm_end;

// The step's loss, and whether the step counts: as mrc_grad_norm_args says.
__device__ static bool mrc_cuda_step_loss(const mrc_cuda_norm_end &a, double *loss) {
    *loss = 0;
    for (size_t j = 0; a.losses && j < a.n_units; j++) {
        for (size_t k = 0; k < a.n_losses; k++) *loss += a.losses[j * a.ld_losses + k];
    }
    if (MRC_BUG(STEP_LOSS)) return true;
    return fabs(*loss) <= 1.7976931348623157e308 && !(a.max_loss > 0 && *loss > a.max_loss);
}

// As mrc_loss_scale says.
__device__ static void mrc_cuda_next_scale(const mrc_cuda_norm_end &a, bool overflow) {
    float scale = *a.scale;
    if (overflow) {
        a.counts[0] = 0;
        if (a.counts[1] < a.hysteresis) a.counts[1]++;
        if (a.counts[1] == a.hysteresis && scale > 1) scale = scale > 2 ? scale / 2 : 1;
    } else if (++a.counts[0] >= a.growth_interval) {
        a.counts[0] = a.counts[1] = 0;
        if (scale < 8.507059173023462e37f) scale *= 2;          // 2^126
    }
    *a.scale = scale;
}

__global__ static void mrc_cuda_finish_norm(mrc_cuda_norm_end a) {
    double sum = 0;
    for (size_t i = threadIdx.x; i < a.chunks; i += MRC_CUDA_OPTIM_THREADS) sum += a.parts[i];
    sum = mrc_cuda_block_sum(sum);
    if (threadIdx.x != 0) return;
    const double scale = a.scale ? *a.scale : 1, norm = sqrt(sum) / scale;
    const double clip = a.max_norm > 0 ? a.max_norm / (norm + 1e-6) : 1;
    const bool overflow = !(norm <= 3.402823466385288598e38);   // FLT_MAX; NaN too
    double loss;
    const bool good = mrc_cuda_step_loss(a, &loss), skipped = overflow || !good;
    if (a.norm) *a.norm = (float)norm;
    if (a.clip) *a.clip = (float)((clip < 1 ? clip : 1) / scale);
    if (a.inverse) *a.inverse = norm > 0 && !overflow ? (float)(1 / norm) : 0;
    if (a.state) {
        a.state[1] = skipped;
        a.state[0] += !skipped;
    }
    if (a.scale && good) mrc_cuda_next_scale(a, overflow);
    if (!a.report) return;
    a.report[0] = loss;
    a.report[1] = (float)norm;
    a.report[2] = skipped;
    a.report[3] = a.scale ? *a.scale : 0;
}

//==============================================================================
// What is done to every element
//==============================================================================
typedef enum mrc_cuda_rule { MRC_CUDA_ADAMW, MRC_CUDA_SGD } mrc_cuda_rule;
typedef struct mrc_cuda_step {
    const mrc_cuda_tensor *tensors;
    int      n, hf, nesterov;
    double   beta1, beta2, eps, delta, wd_ratio;        // beta1: also momentum
    const float   *clip;
    const int32_t *state;                               // NULL: nothing is ever skipped
    double  *sums;                      // AdamP: four a row
    unsigned long long rows;
    int32_t *modes;                     // AdamP: how each tensor is projected
    float   *along;                     // AdamP: what each row loses
} mrc_cuda_step;

// 1 - beta^t, of both betas: one thread's work.
__device__ __forceinline__ void mrc_cuda_corrections(const mrc_cuda_step &a, double (&c)[2]) {
    c[0] = 1 - pow(a.beta1, (double)a.state[0]);
    c[1] = 1 - pow(a.beta2, (double)a.state[0]);
}

template <int RULE> __global__ void mrc_cuda_every_element(mrc_cuda_step a) {
    struct constants { float rate, root; };
    MRC_DYN_SMEM(constants, s);
    if (a.state && a.state[1]) return;
    const mrc_cuda_tensor *t = mrc_cuda_tensor_of(a.tensors, a.n, blockIdx.x, false);
    const size_t first = (blockIdx.x - t->first_chunk) * MRC_CUDA_OPTIM_CHUNK;
    const size_t end = first + MRC_CUDA_OPTIM_CHUNK < t->numel ? first + MRC_CUDA_OPTIM_CHUNK
                                                               : t->numel;
    if (threadIdx.x == 0 && RULE == MRC_CUDA_ADAMW) {
        double c[2];
        mrc_cuda_corrections(a, c);
        s->rate = (float)(a.hf ? t->lr * sqrt(c[1]) / c[0] : t->lr / c[0]);
        s->root = (float)(a.hf ? 1 : 1 / sqrt(c[1]));
    }
    __syncthreads();
    const float b1 = (float)a.beta1, r1 = (float)(1 - a.beta1), b2 = (float)a.beta2;
    const float r2 = (float)(1 - a.beta2), decay = t->lr * t->weight_decay;
    const float clip = a.clip ? *a.clip : 1;
    for (size_t i = first + threadIdx.x; i < end; i += MRC_CUDA_OPTIM_THREADS) {
        float p = t->param[i];
        if (RULE == MRC_CUDA_ADAMW) {
            const float g = t->grad[i] * clip;
            const float m = t->m[i] * b1 + g * r1, v = t->v[i] * b2 + g * g * r2;
            if (!a.hf) p -= decay * p;
            p -= s->rate * m / (sqrtf(v) * s->root + (float)a.eps);
            if (a.hf) p -= decay * p;
            t->m[i] = m;
            t->v[i] = v;
        } else {
            const float m = b1 * t->m[i] + (t->grad[i] * clip + t->weight_decay * p);
            t->m[i] = m;
            p -= t->lr * m;
        }
        mrc_cuda_write(t, i, p);
    }
}

//==============================================================================
// AdamP: moments and four sums of each row; how each tensor is projected; the step
//==============================================================================
__device__ __forceinline__ float mrc_cuda_adamp_u(const mrc_cuda_step &a, const mrc_cuda_tensor *t,
                                                  size_t i, float clip, float root) {
    float m = t->m[i];
    if (a.nesterov) m = (float)a.beta1 * m + (float)(1 - a.beta1) * clip * t->grad[i];
    return m / (sqrtf(t->v[i]) * root + (float)a.eps);
}

__global__ static void __launch_bounds__(128) mrc_cuda_adamp_rows(mrc_cuda_step a) {
    const unsigned long long row = (unsigned long long)blockIdx.x * 4 + threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    if (a.state[1] || row >= a.rows) return;
    const mrc_cuda_tensor *t = mrc_cuda_tensor_of(a.tensors, a.n, row, true);
    const size_t first = (row - t->first_row) * t->columns;
    const float clip = *a.clip, b1 = (float)a.beta1, b2 = (float)a.beta2;
    const float r1 = (float)(1 - a.beta1), r2 = (float)(1 - a.beta2);
    double c[2], sum[4] = {};                           // g g, p p, g p, p u
    mrc_cuda_corrections(a, c);
    const float root = (float)(1 / sqrt(c[1]));
    for (size_t i = first + lane; i < first + t->columns; i += 32) {
        const float g = t->grad[i] * clip, p = t->param[i];
        t->m[i] = t->m[i] * b1 + g * r1;
        t->v[i] = t->v[i] * b2 + g * g * r2;
        sum[0] += (double)g * g;
        sum[1] += (double)p * p;
        sum[2] += (double)g * p;
        sum[3] += (double)p * mrc_cuda_adamp_u(a, t, i, clip, root);
    }
    for (int k = 0; k < 4; k++) {
        sum[k] = mrc_cuda_sum_double(sum[k]);
        if (lane == 0) a.sums[4 * row + k] = sum[k];
    }
}

__device__ __forceinline__ double mrc_cuda_cosine(const double *s, double eps) {
    return fabs(s[2]) / (fmax(sqrt(s[0]), eps) * fmax(sqrt(s[1]), eps));
}
__device__ __forceinline__ float mrc_cuda_along(double pp, double pu, double eps) {
    const double norm = sqrt(pp) + eps;
    return (float)(pu / (norm * norm));
}

// A warp has a tensor.  modes: 1 by rows, 2 as a whole, 0 not at all.
__global__ static void mrc_cuda_adamp_modes(mrc_cuda_step a) {
    const mrc_cuda_tensor *t = a.tensors + blockIdx.x;
    const int lane = (int)threadIdx.x;
    double all[4] = {}, most = 0;
    if (a.state[1]) return;
    for (size_t r = (size_t)lane; r < t->rows; r += 32) {
        const double *s = a.sums + 4 * (t->first_row + r), cosine = mrc_cuda_cosine(s, a.eps);
        for (int k = 0; k < 4; k++) all[k] += s[k];
        if (!(cosine <= most)) most = cosine;           // a NaN is the most
    }
    for (int k = 0; k < 4; k++) all[k] = mrc_cuda_sum_double(all[k]);
    for (int o = 16; o; o >>= 1) {
        const double other = __shfl_xor_sync(0xffffffffu, most, o);
        if (!(other <= most)) most = other;
    }
    int mode = 0;
    if (t->projected && most < a.delta / sqrt((double)t->columns)) mode = 1;
    else if (t->projected
             && mrc_cuda_cosine(all, a.eps) < a.delta / sqrt((double)t->numel)) mode = 2;
    if (lane == 0) a.modes[blockIdx.x] = mode;
    for (size_t r = (size_t)lane; r < t->rows; r += 32) {
        const double *s = a.sums + 4 * (t->first_row + r);
        a.along[t->first_row + r] = mode == 1 ? mrc_cuda_along(s[1], s[3], a.eps)
                                  : mode == 2 ? mrc_cuda_along(all[1], all[3], a.eps) : 0;
    }
}

__global__ static void __launch_bounds__(128) mrc_cuda_adamp_step(mrc_cuda_step a) {
    const unsigned long long row = (unsigned long long)blockIdx.x * 4 + threadIdx.x / 32;
    if (a.state[1] || row >= a.rows) return;
    const mrc_cuda_tensor *t = mrc_cuda_tensor_of(a.tensors, a.n, row, true);
    const size_t first = (row - t->first_row) * t->columns;
    const float clip = *a.clip, along = a.along[row];
    double c[2];
    mrc_cuda_corrections(a, c);
    const float root = (float)(1 / sqrt(c[1])), rate = (float)(t->lr / c[0]);
    const float ratio = a.modes[t - a.tensors] ? (float)a.wd_ratio : 1;
    const float decay = 1 - t->lr * t->weight_decay * ratio;
    for (size_t i = first + threadIdx.x % 32; i < first + t->columns; i += 32) {
        const float p = t->param[i], u = mrc_cuda_adamp_u(a, t, i, clip, root) - along * p;
        mrc_cuda_write(t, i, p * decay - rate * u);
    }
}

//==============================================================================
// Entries
//==============================================================================
typedef struct mrc_cuda_totals { size_t chunks, rows; } mrc_cuda_totals;

static mrc_cuda_totals mrc_cuda_optim_totals(const mrc_optim_tensor *t, size_t n) {
    mrc_cuda_totals all = { 0, 0 };
    for (size_t k = 0; k < n; k++) {
        all.chunks += (t[k].numel + MRC_CUDA_OPTIM_CHUNK - 1) / MRC_CUDA_OPTIM_CHUNK;
        if (t[k].numel) all.rows += t[k].rows ? t[k].rows : 1;
    }
    return all;
}

// Bytes of n descriptions; doubles may stand behind them.
static size_t mrc_cuda_optim_list(size_t n) { return (n * sizeof(mrc_cuda_tensor) + 63) / 64 * 64; }

// Puts the descriptions into the workspace, some at a time.
static mrc_status mrc_cuda_optim_upload(mrc_backend *be, const mrc_optim_tensor *t, size_t n,
                                        void *workspace) {
    mrc_cuda_tensor part[32];
    size_t chunks = 0, rows = 0, filled = 0;
    for (size_t k = 0; k < n; k++) {
        mrc_cuda_tensor *d = &part[filled++];
        memset(d, 0, sizeof *d);
        d->numel = t[k].numel;
        d->first_chunk = chunks;
        d->first_row = rows;
        d->rows = t[k].numel == 0 ? 0 : t[k].rows ? t[k].rows : 1;
        d->columns = d->rows ? t[k].numel / d->rows : 0;
        d->projected = t[k].rows != 0;
        d->grad = (const float *)t[k].grad.data;
        d->param = (float *)t[k].param.data;
        d->copy = t[k].copy.data;
        d->copy_dtype = (int)t[k].copy.dtype;
        d->m = (float *)t[k].m.data;
        d->v = (float *)t[k].v.data;
        d->lr = (float)t[k].lr;
        d->weight_decay = (float)t[k].weight_decay;
        chunks += (t[k].numel + MRC_CUDA_OPTIM_CHUNK - 1) / MRC_CUDA_OPTIM_CHUNK;
        rows += d->rows;
        if (filled < 32 && k + 1 < n) continue;
        MRC_CUDA_TRY(be->upload(be, (mrc_cuda_tensor *)workspace + (k + 1 - filled), part,
                                filled * sizeof *part));
        filled = 0;
    }
    return MRC_OK;
}

static mrc_status mrc_cuda_squares_run(mrc_backend *be, const mrc_squares_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const size_t chunks = mrc_cuda_optim_totals(g->tensors, g->n_tensors).chunks;
    MRC_CUDA_TRY(mrc_cuda_optim_upload(be, g->tensors, g->n_tensors, g->workspace));
    if (chunks == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH(mrc_cuda_chunk_squares, (unsigned)chunks,
                                        MRC_CUDA_OPTIM_THREADS, MRC_CUDA_OPTIM_SHARED, c->stream,
                                        (const mrc_cuda_tensor *)g->workspace,
                                        (int)g->n_tensors, (double *)g->squares.data));
}
static mrc_status mrc_cuda_grad_norm_run(mrc_backend *be, const mrc_grad_norm_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_norm_end end = {};
    end.parts = (const double *)g->squares.data;
    end.chunks = g->n;
    end.max_norm = g->max_norm;
    end.norm = (float *)g->norm.data;
    end.clip = (float *)g->clip.data;
    end.inverse = (float *)g->inverse.data;
    end.state = (int32_t *)g->state.data;
    end.scale = (float *)g->loss_scale.scale.data;
    end.counts = (int32_t *)g->loss_scale.counts.data;
    end.growth_interval = g->loss_scale.growth_interval;
    end.hysteresis = g->loss_scale.hysteresis;
    end.losses = (const float *)g->losses.data;
    end.n_units = g->n_units;
    end.n_losses = g->n_losses;
    end.ld_losses = g->losses.ld;
    end.max_loss = g->max_loss;
    end.report = (double *)g->report.data;
    return mrc_cuda_check(c, MRC_LAUNCH(mrc_cuda_finish_norm, 1, MRC_CUDA_OPTIM_THREADS,
                                        MRC_CUDA_OPTIM_SHARED, c->stream, end));
}

template <class Args> static size_t mrc_cuda_optim_scratch(mrc_backend *be, const Args *g) {
    (void)be;
    return mrc_cuda_optim_list(g->n_tensors);
}
template <class Args> static mrc_cuda_step mrc_cuda_step_of(const Args *g) {
    mrc_cuda_step a = {};
    a.tensors = (const mrc_cuda_tensor *)g->workspace;
    a.n = (int)g->n_tensors;
    return a;
}
template <int RULE, class Args>
static mrc_status mrc_cuda_optim_launch(mrc_backend *be, const Args *g, mrc_cuda_step a) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const size_t chunks = mrc_cuda_optim_totals(g->tensors, g->n_tensors).chunks;
    if (chunks == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_every_element<RULE>), (unsigned)chunks,
                                        MRC_CUDA_OPTIM_THREADS, 2 * sizeof(float), c->stream, a));
}

static mrc_status mrc_cuda_adamw_run(mrc_backend *be, const mrc_adamw_args *g) {
    mrc_cuda_step a = mrc_cuda_step_of(g);
    a.hf = g->variant == MRC_ADAMW_HF;
    a.beta1 = g->beta1;
    a.beta2 = g->beta2;
    a.eps = g->eps;
    a.clip = (const float *)g->clip.data;
    a.state = (const int32_t *)g->state.data;
    MRC_CUDA_TRY(mrc_cuda_optim_upload(be, g->tensors, g->n_tensors, g->workspace));
    return mrc_cuda_optim_launch<MRC_CUDA_ADAMW>(be, g, a);
}
static mrc_status mrc_cuda_sgd_run(mrc_backend *be, const mrc_sgd_args *g) {
    mrc_cuda_step a = mrc_cuda_step_of(g);
    a.beta1 = g->momentum;
    a.clip = (const float *)g->clip.data;
    a.state = (const int32_t *)g->state.data;
    MRC_CUDA_TRY(mrc_cuda_optim_upload(be, g->tensors, g->n_tensors, g->workspace));
    return mrc_cuda_optim_launch<MRC_CUDA_SGD>(be, g, a);
}
static size_t mrc_cuda_adamp_scratch(mrc_backend *be, const mrc_adamp_args *g) {
    (void)be;
    const size_t rows = mrc_cuda_optim_totals(g->tensors, g->n_tensors).rows;
    return mrc_cuda_optim_list(g->n_tensors) + rows * (4 * sizeof(double) + sizeof(float))
         + g->n_tensors * sizeof(int32_t);
}
static mrc_status mrc_cuda_adamp_run(mrc_backend *be, const mrc_adamp_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    mrc_cuda_step a = mrc_cuda_step_of(g);
    a.rows = mrc_cuda_optim_totals(g->tensors, g->n_tensors).rows;
    a.beta1 = g->beta1;
    a.beta2 = g->beta2;
    a.eps = g->eps;
    a.delta = g->delta;
    a.wd_ratio = g->wd_ratio;
    a.nesterov = g->nesterov;
    a.clip = (const float *)g->clip.data;
    a.state = (const int32_t *)g->state.data;
    a.sums = (double *)((char *)g->workspace + mrc_cuda_optim_list(g->n_tensors));
    a.along = (float *)(a.sums + 4 * a.rows);
    a.modes = (int32_t *)(a.along + a.rows);
    MRC_CUDA_TRY(mrc_cuda_optim_upload(be, g->tensors, g->n_tensors, g->workspace));
    if (a.rows == 0) return MRC_OK;
    const unsigned grid = mrc_cuda_blocks(a.rows, 4);
    MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH(mrc_cuda_adamp_rows, grid, 128, 0, c->stream, a)));
    MRC_CUDA_TRY(mrc_cuda_check(c, MRC_LAUNCH(mrc_cuda_adamp_modes, (unsigned)a.n, 32, 0,
                                              c->stream, a)));
    return mrc_cuda_check(c, MRC_LAUNCH(mrc_cuda_adamp_step, grid, 128, 0, c->stream, a));
}

#endif
