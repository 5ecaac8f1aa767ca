// gru.cuh - the GRU's cell, for the sweep of rnn.cuh: r, z, q = W_hn h + b_hn, and n
#pragma once
#include "rnn.cuh"

// Forward needs no cells; backward's are z dh of a sequence's last step, (B, 2 H).
struct gru_cell {
    enum { GATES = 3, PIECES = 2, CHIP = 0 };
    static rnn_piece piece(int k) { return k ? rnn_piece{ 2, 1, 3 } : rnn_piece{ 0, 2, 0 }; }

    // sums[g]: W_hh h of gate g.
    template <class T>
    static __device__ void forward(const rnn_sweep &a, const float *sums, int i, int s, int dir,
                                   int unit) {
        const int h = a.h;
        const size_t row = rnn_row(a, i, s, dir), in_row = (size_t)dir * h + unit;
        const size_t at = row * 8 * h + (size_t)dir * 4 * h + unit;
        const float *z = a.z + at, *ih = a.bias_ih[dir] + unit, *hh = a.bias_hh[dir] + unit;
        const float was = s > 0 ? (float)((const T *)a.y)[rnn_row(a, i, s - 1, dir) * a.ld_y
                                                          + in_row] : 0.0f;
        float v[4];
        v[0] = rnn_sigmoid(z[0] + sums[0] + (ih[0] + hh[0]));
        v[1] = rnn_sigmoid(z[h] + sums[1] + (ih[h] + hh[h]));
        v[2] = sums[2] + hh[2 * h];
        v[3] = tanhf(z[3 * h] + ih[2 * h] + v[0] * v[2]);
        ((T *)a.y)[row * a.ld_y + in_row] = (T)((1 - v[1]) * v[3] + v[1] * was);
        if (!a.gates) return;
#pragma unroll
        for (int g = 0; g < 4; g++) ((T *)a.gates)[at + (size_t)g * h] = (T)v[g];
    }

    // sum: W_hh^T (dr, dz, dq) of the step that came after, if there was one.
    template <class T>
    static __device__ void backward(const rnn_sweep &a, float sum, int i, int s, int dir,
                                    int unit) {
        const int h = a.h;
        const size_t row = rnn_row(a, i, s, dir), in_row = (size_t)dir * h + unit;
        T *gates = (T *)a.gates + row * 8 * h + (size_t)dir * 4 * h + unit;
        float *kept = a.cells + (size_t)i * 2 * h + in_row;
        const float was = s > 0 ? (float)((const T *)a.state)[rnn_row(a, i, s - 1, dir)
                                                              * a.ld_state + in_row] : 0.0f;
        float r = (float)gates[0], z = (float)gates[h], q = (float)gates[2 * h];
        float n = (float)gates[3 * h];
        float dh = (float)((const T *)a.dy)[row * a.ld_dy + in_row] + sum;
        if (s + 1 < a.length[i]) dh += *kept;
        float dn = dh * (1 - z) * (1 - n * n);
        gates[0] = (T)(dn * q * r * (1 - r));
        gates[h] = (T)(dh * (was - n) * z * (1 - z));
        gates[2 * h] = (T)(dn * r);
        gates[3 * h] = (T)dn;
        *kept = dh * z;
    }
};

template <class T>
static size_t mrc_cuda_gru_fwd_scratch(mrc_backend *be, const mrc_gru_fwd_args *a) {
    (void)be;
    return rnn_fwd_bytes<T>(a);
}
template <class T>
static mrc_status mrc_cuda_gru_fwd_run(mrc_backend *be, const mrc_gru_fwd_args *a) {
    return rnn_fwd<T, gru_cell>(be, a, nullptr);
}

template <class T>
static size_t mrc_cuda_gru_bwd_scratch(mrc_backend *be, const mrc_gru_bwd_args *a) {
    (void)be;
    return rnn_bwd_bytes<T>(a) + a->n_sequences * a->h * 2 * sizeof(float);
}
template <class T>
static mrc_status mrc_cuda_gru_bwd_run(mrc_backend *be, const mrc_gru_bwd_args *a) {
    return rnn_bwd<T, gru_cell>(be, a, (float *)((char *)a->workspace + rnn_bwd_bytes<T>(a)));
}
