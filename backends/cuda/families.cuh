// families.cuh - what some model families need and BERT does not: gated maps, rotary positions
#ifndef MRC_CUDA_FAMILIES_CUH
#define MRC_CUDA_FAMILIES_CUH
#include "elementwise.cuh"

//==============================================================================
// Gated maps: a thread has an element of y, or both halves of dz
//==============================================================================
template <class T> struct mrc_cuda_gated {
    size_t n, width;
    int    act;
    mrc_cuda_matrix<const T> z, dy;
    mrc_cuda_matrix<T> to;                      // y, or dz
};
template <class T> __global__ void mrc_cuda_glu_fwd(mrc_cuda_gated<T> a) {
    const size_t e = (size_t)blockIdx.x * MRC_CUDA_BLOCK + threadIdx.x;
    const size_t r = e / a.width, i = e % a.width;
    if (r >= a.n) return;
    mrc_cuda_put(a.to.at(r, i), mrc_cuda_act(a.act, mrc_cuda_get(a.z.at(r, i)))
                                * mrc_cuda_get(a.z.at(r, MRC_BUG(GLU_FWD) ? i : a.width + i)));
}
template <class T> __global__ void mrc_cuda_glu_bwd(mrc_cuda_gated<T> a) {
    const size_t e = (size_t)blockIdx.x * MRC_CUDA_BLOCK + threadIdx.x;
    const size_t r = e / a.width, i = e % a.width;
    if (r >= a.n) return;
    // forward was: y = act(u) g
    const float u = mrc_cuda_get(a.z.at(r, i)), g = mrc_cuda_get(a.z.at(r, a.width + i));
    const float dy = mrc_cuda_get(a.dy.at(r, i));
    const float slope = MRC_BUG(GLU_BWD) ? 1 : mrc_cuda_act_slope(a.act, u);
    mrc_cuda_give(a.to.at(r, i), dy * g * slope, a.to.accumulate);
    mrc_cuda_give(a.to.at(r, a.width + i), dy * mrc_cuda_act(a.act, u), a.to.accumulate);
}
template <class T>
static mrc_status mrc_cuda_glu_fwd_run(mrc_backend *be, const mrc_glu_fwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const mrc_cuda_gated<T> a = { g->n, g->width, (int)g->act, mrc_cuda_from<T>(g->z), {},
                                  mrc_cuda_into<T>(g->y) };
    if (g->n == 0 || g->width == 0) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_glu_fwd<T>),
                                        mrc_cuda_blocks(g->n * g->width, MRC_CUDA_BLOCK),
                                        MRC_CUDA_BLOCK, 0, c->stream, a));
}
template <class T>
static mrc_status mrc_cuda_glu_bwd_run(mrc_backend *be, const mrc_glu_bwd_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const mrc_cuda_gated<T> a = { g->n, g->width, (int)g->act, mrc_cuda_from<T>(g->z),
                                  mrc_cuda_from<T>(g->dy), mrc_cuda_into<T>(g->dz) };
    if (g->n == 0 || g->width == 0 || !g->dz.data) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_glu_bwd<T>),
                                        mrc_cuda_blocks(g->n * g->width, MRC_CUDA_BLOCK),
                                        MRC_CUDA_BLOCK, 0, c->stream, a));
}

//==============================================================================
// Rotary positions
//==============================================================================
enum { MRC_CUDA_ROPE_ROWS = 16 };

template <class T> struct mrc_cuda_turn {
    int    n, n_sequences, heads, rotated, d, inverse;
    double theta;
    const int32_t *cu;
    mrc_cuda_matrix<const T> from;
    mrc_cuda_matrix<T> to;
};

// A warp has 32 pairs of columns, the same in every head, so that an angle is made once a row; a
// thread's rate, the costly part, once for all its rows.
template <class T>
__global__ void __launch_bounds__(MRC_CUDA_BLOCK) mrc_cuda_rope(mrc_cuda_turn<T> a) {
    const int back = a.inverse && !MRC_BUG(ROPE);
    const int half = a.d / 2, e = (int)blockIdx.y * 32 + (int)threadIdx.x % 32;
    const int first = (int)blockIdx.x * MRC_CUDA_ROPE_ROWS;
    if (e >= half) return;
    // in the library's own words: the rate and the product are floats, cosine and sine are rounded
    const float rate = (float)(1 / pow(a.theta, 2 * (double)e / (double)a.d));
    for (int i = (int)threadIdx.x / 32; i < MRC_CUDA_ROPE_ROWS; i += MRC_CUDA_ROWS) {
        const int row = first + i;
        if (row >= a.n) return;
        const int s = mrc_cuda_sequence_of(a.cu, a.n_sequences, row);
        const float angle = (float)(row - a.cu[s]) * rate;
        const float turn = (float)cos((double)angle), side = (float)sin((double)angle);
        for (int h = 0; h < a.heads; h++) {
            const float c = h < a.rotated ? turn : 1;
            const float v = h < a.rotated ? (back ? -side : side) : 0;
            const size_t one = (size_t)h * a.d + e, two = one + half;
            const float x = mrc_cuda_get(a.from.at((size_t)row, one));
            const float y = mrc_cuda_get(a.from.at((size_t)row, two));
            mrc_cuda_give(a.to.at((size_t)row, one), x * c - y * v, a.to.accumulate);
            mrc_cuda_give(a.to.at((size_t)row, two), y * c + x * v, a.to.accumulate);
        }
    }
}
template <class T> static mrc_status mrc_cuda_rope_run(mrc_backend *be, const mrc_rope_args *g) {
    mrc_cuda *c = (mrc_cuda *)be->self;
    const mrc_cuda_turn<T> a = { (int)g->n, (int)g->n_sequences, (int)g->heads, (int)g->rotated,
                                 (int)g->d, g->inverse, g->theta,
                                 (const int32_t *)g->cu_seqlens.data, mrc_cuda_from<T>(g->from),
                                 mrc_cuda_into<T>(g->to) };
    if (g->n == 0 || !g->to.data) return MRC_OK;
    return mrc_cuda_check(c, MRC_LAUNCH((mrc_cuda_rope<T>),
                                        dim3(mrc_cuda_blocks(g->n, MRC_CUDA_ROPE_ROWS),
                                             mrc_cuda_blocks(g->d / 2, 32)),
                                        MRC_CUDA_BLOCK, 0, c->stream, a));
}

#endif
