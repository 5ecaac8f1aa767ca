// gru.cuh - the GRU's cell, for the sweep of rnn.cuh: r, z, q = W_hn h + b_hn, and n
#pragma once
#include "rnn.cuh"

// Forward needs no cells; backward's are z dh of a sequence's last step, (B, 2 H).
struct gru_cell {
    enum { GATES = 3, PIECES = 2, CHIP = 0, READS = 4, READS_BACK = 7, BIASES = 4 };
    static rnn_piece piece(int k) { return k ? rnn_piece{ 2, 1, 3 } : rnn_piece{ 0, 2, 0 }; }

    static __device__ __forceinline__ void read_biases(float *v, const rnn_sweep &a, int dir,
                                                       int unit) {
        const float *ih = a.bias_ih[dir] + unit, *hh = a.bias_hh[dir] + unit;
        v[0] = ih[0] + hh[0];
        v[1] = ih[a.h] + hh[a.h];
        v[2] = hh[2 * a.h];
        v[3] = ih[2 * a.h];
    }

    // What a unit reads at row `row`, which is step s: z of r, z and n, h before.
    template <class T>
    static __device__ __forceinline__ void read(float *v, const rnn_sweep &a, int s, int row,
                                                int dir, int unit) {
        const int h = a.h;
        const float *z = a.z + (size_t)row * 8 * h + (size_t)dir * 4 * h + unit;
        const size_t was = (size_t)(row + (dir ? 1 : -1));
        v[0] = z[0];
        v[1] = z[h];
        v[2] = z[3 * h];
        v[3] = s > 0 ? (float)((const T *)a.y)[was * a.ld_y + (size_t)dir * h + unit] : 0.0f;
    }

    // sums[g]: W_hh h of gate g; from: what read() found; biases: read_biases().
    template <class T>
    static __device__ __forceinline__ void forward(const rnn_sweep &a, const float *from,
                                                   const float *biases, const float *sums,
                                                   int row, int dir, int unit) {
        const int h = a.h;
        const size_t at = (size_t)row * 8 * h + (size_t)dir * 4 * h + unit;
        float v[4];
        v[0] = rnn_sigmoid(from[0] + sums[0] + biases[0]);
        v[1] = rnn_sigmoid(from[1] + sums[1] + biases[1]);
        v[2] = sums[2] + biases[2];
        v[3] = tanhf(from[2] + biases[3] + v[0] * v[2]);
        ((T *)a.y)[(size_t)row * a.ld_y + (size_t)dir * h + unit]
            = (T)((1 - v[1]) * v[3] + v[1] * from[3]);
        if (!a.gates) return;
#pragma unroll
        for (int g = 0; g < 4; g++) ((T *)a.gates)[at + (size_t)g * h] = (T)v[g];
    }

    // Backward: r, z, q, n, h before, dy, and z dh of the step that came after.
    template <class T>
    static __device__ __forceinline__ void read_back(float *v, const rnn_sweep &a, int i, int s,
                                                     int row, int dir, int unit) {
        const int h = a.h;
        const T *gate = (const T *)a.gates + (size_t)row * 8 * h + (size_t)dir * 4 * h + unit;
        const size_t in_row = (size_t)dir * h + unit, was = (size_t)(row + (dir ? 1 : -1));
#pragma unroll
        for (int g = 0; g < 4; g++) v[g] = (float)gate[(size_t)g * h];
        v[4] = s > 0 ? (float)((const T *)a.state)[was * a.ld_state + in_row] : 0.0f;
        v[5] = (float)((const T *)a.dy)[(size_t)row * a.ld_dy + in_row];
        v[6] = s + 1 < a.length[i] ? a.cells[(size_t)i * 2 * h + in_row] : 0.0f;
    }

    // sum: W_hh^T (dr, dz, dq) of the step that came after, if there was one.
    template <class T>
    static __device__ __forceinline__ void backward(const rnn_sweep &a, const float *from,
                                                    float sum, int i, int row, int dir,
                                                    int unit) {
        const int h = a.h;
        T *gates = (T *)a.gates + (size_t)row * 8 * h + (size_t)dir * 4 * h + unit;
        const float r = from[0], z = from[1], q = from[2], n = from[3], was = from[4];
        const float dh = from[5] + sum + from[6], dn = dh * (1 - z) * (1 - n * n);
        gates[0] = (T)(dn * q * r * (1 - r));
        gates[h] = (T)(dh * (was - n) * z * (1 - z));
        gates[2 * h] = (T)(dn * r);
        gates[3 * h] = (T)dn;
        a.cells[(size_t)i * 2 * h + (size_t)dir * h + unit] = dh * z;
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
