// lstm.cuh - the LSTM's cell, for the sweep of rnn.cuh: gates i, f, g, o
#pragma once
#include "rnn.cuh"

// cells (N, 2 H): c of each row; backward leaves f dc of a row in its place.
struct lstm_cell {
    enum { GATES = 4, PIECES = 1, CHIP = 1 };
    static rnn_piece piece(int) { return { 0, 4, 0 }; }

    // v: z of the four gates, which become their values; returns c.
    static __device__ __forceinline__ float gates(float (&v)[4], float before) {
#pragma unroll
        for (int g = 0; g < 4; g++) v[g] = g == 2 ? tanhf(v[g]) : rnn_sigmoid(v[g]);
        return v[1] * before + v[0] * v[2];
    }

    // v: the values of the gates, which become dz; c, the step's and the one before it; dc: f dc of
    // the step that came after.  Returns f dc.
    static __device__ __forceinline__ float slopes(float (&v)[4], float c, float before, float dc,
                                                   float dh) {
        const float in = v[0], forget = v[1], g = v[2], o = v[3], t = tanhf(c);
        dc += dh * o * (1 - t * t);
        v[0] = dc * g * in * (1 - in);
        v[1] = dc * before * forget * (1 - forget);
        v[2] = dc * in * (1 - g * g);
        v[3] = dh * t * o * (1 - o);
        return dc * forget;
    }

    // sums[g]: W_hh h of gate g.
    template <class T>
    static __device__ void forward(const rnn_sweep &a, const float *sums, int i, int s, int dir,
                                   int unit) {
        const int h = a.h;
        const size_t row = rnn_row(a, i, s, dir), in_row = (size_t)dir * h + unit;
        const size_t at = row * 8 * h + (size_t)dir * 4 * h + unit;
        float v[4];
#pragma unroll
        for (int g = 0; g < 4; g++) {
            v[g] = a.z[at + (size_t)g * h] + sums[g]
                 + (a.bias_ih[dir][g * h + unit] + a.bias_hh[dir][g * h + unit]);
        }
        const float c = gates(v, s > 0 ? a.cells[rnn_row(a, i, s - 1, dir) * 2 * h + in_row] : 0);
        a.cells[row * 2 * h + in_row] = c;
        ((T *)a.y)[row * a.ld_y + in_row] = (T)(v[3] * tanhf(c));
        if (!a.gates) return;
#pragma unroll
        for (int g = 0; g < 4; g++) ((T *)a.gates)[at + (size_t)g * h] = (T)v[g];
    }

    // sum: W_hh^T dz of the step that came after, if there was one.
    template <class T>
    static __device__ void backward(const rnn_sweep &a, float sum, int i, int s, int dir,
                                    int unit) {
        const int h = a.h;
        const size_t row = rnn_row(a, i, s, dir), in_row = (size_t)dir * h + unit;
        T *z = (T *)a.gates + row * 8 * h + (size_t)dir * 4 * h + unit;
        float *cells = a.cells + in_row;
        float before = s > 0 ? cells[rnn_row(a, i, s - 1, dir) * 2 * h] : 0.0f;
        float dc = s + 1 < a.length[i] ? cells[rnn_row(a, i, s + 1, dir) * 2 * h] : 0.0f;
        float dh = (float)((const T *)a.dy)[row * a.ld_dy + in_row] + sum;
        float v[4] = { (float)z[0], (float)z[h], (float)z[2 * h], (float)z[3 * h] };
        cells[row * 2 * h] = slopes(v, cells[row * 2 * h], before, dc, dh);
        for (int g = 0; g < 4; g++) z[(size_t)g * h] = (T)v[g];
    }
};

#include "rnn_chip.cuh"

// Cells that nobody keeps need a place.
template <class T>
static size_t mrc_cuda_lstm_fwd_scratch(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    (void)be;
    return rnn_fwd_bytes<T>(a) + (a->gates.data ? 0 : a->n * a->h * 2 * sizeof(float));
}
template <class T>
static mrc_status mrc_cuda_lstm_fwd_run(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    char *own = (char *)a->workspace + rnn_fwd_bytes<T>(a);
    return rnn_fwd<T, lstm_cell>(be, a, (float *)(a->gates.data ? a->cells.data : own));
}

template <class T>
static size_t mrc_cuda_lstm_bwd_scratch(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    (void)be;
    return rnn_bwd_bytes<T>(a) + rnn_chip_bytes<T>(a->n_sequences, a->h);
}
template <class T>
static mrc_status mrc_cuda_lstm_bwd_run(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    return rnn_bwd<T, lstm_cell>(be, a, (float *)a->cells.data);
}
