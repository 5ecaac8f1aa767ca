// lstm.cuh - the LSTM's cell, for the sweep of rnn.cuh: gates i, f, g, o
#pragma once
#include "rnn.cuh"

// cells (N, 2 H): c of each row; backward leaves f dc of a row in its place.
struct lstm_cell {
    enum { GATES = 4, PIECES = 1, CHIP = 1, READS = 5, READS_BACK = 8, BIASES = 4 };
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

    static __device__ __forceinline__ void read_biases(float *v, const rnn_sweep &a, int dir,
                                                       int unit) {
#pragma unroll
        for (int g = 0; g < 4; g++) {
            v[g] = a.bias_ih[dir][g * a.h + unit] + a.bias_hh[dir][g * a.h + unit];
        }
    }

    // What a unit reads at row `row`, which is step s: z of the gates, c before.
    template <class T>
    static __device__ __forceinline__ void read(float *v, const rnn_sweep &a, int s, int row,
                                                int dir, int unit) {
        const int h = a.h;
        const float *z = a.z + (size_t)row * 8 * h + (size_t)dir * 4 * h + unit;
#pragma unroll
        for (int g = 0; g < 4; g++) v[g] = z[(size_t)g * h];
        const size_t was = (size_t)(row + (dir ? 1 : -1));
        v[4] = s > 0 ? a.cells[was * 2 * h + (size_t)dir * h + unit] : 0.0f;
    }

    // sums[g]: W_hh h of gate g; from: what read() found; biases: read_biases().
    template <class T>
    static __device__ __forceinline__ void forward(const rnn_sweep &a, const float *from,
                                                   const float *biases, const float *sums,
                                                   int row, int dir, int unit) {
        const int h = a.h;
        const size_t in_row = (size_t)dir * h + unit;
        const size_t at = (size_t)row * 8 * h + (size_t)dir * 4 * h + unit;
        float v[4];
#pragma unroll
        for (int g = 0; g < 4; g++) v[g] = from[g] + sums[g] + biases[g];
        const float c = gates(v, from[4]);
        a.cells[(size_t)row * 2 * h + in_row] = c;
        ((T *)a.y)[(size_t)row * a.ld_y + in_row] = (T)(v[3] * tanhf(c));
        if (!a.gates) return;
#pragma unroll
        for (int g = 0; g < 4; g++) ((T *)a.gates)[at + (size_t)g * h] = (T)v[g];
    }

    // Backward: the gates, c of the step and before it, f dc of the step that came after, dy.
    template <class T>
    static __device__ __forceinline__ void read_back(float *v, const rnn_sweep &a, int i, int s,
                                                     int row, int dir, int unit) {
        const int h = a.h, next = dir ? -1 : 1;
        const T *gate = (const T *)a.gates + (size_t)row * 8 * h + (size_t)dir * 4 * h + unit;
        const float *cells = a.cells + (size_t)dir * h + unit;
#pragma unroll
        for (int g = 0; g < 4; g++) v[g] = (float)gate[(size_t)g * h];
        v[4] = cells[(size_t)row * 2 * h];
        v[5] = s > 0 ? cells[(size_t)(row - next) * 2 * h] : 0.0f;
        v[6] = s + 1 < a.length[i] ? cells[(size_t)(row + next) * 2 * h] : 0.0f;
        v[7] = (float)((const T *)a.dy)[(size_t)row * a.ld_dy + (size_t)dir * h + unit];
    }

    // sum: W_hh^T dz of the step that came after, if there was one.
    template <class T>
    static __device__ __forceinline__ void backward(const rnn_sweep &a, const float *from,
                                                    float sum, int i, int row, int dir,
                                                    int unit) {
        const int h = a.h;
        T *z = (T *)a.gates + (size_t)row * 8 * h + (size_t)dir * 4 * h + unit;
        float v[4] = { from[0], from[1], from[2], from[3] };
        a.cells[(size_t)row * 2 * h + (size_t)dir * h + unit]
            = slopes(v, from[4], from[5], from[6], from[7] + sum);
#pragma unroll
        for (int g = 0; g < 4; g++) z[(size_t)g * h] = (T)v[g];
        (void)i;
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
