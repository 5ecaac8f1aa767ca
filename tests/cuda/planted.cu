// A test of the tests: bugs that stand in the kernels behind macros, MRC_CUDA_BUG_.., must end this
// program with a failure; without one it must pass.  On the shim only.
#include "../../backends/cuda/attention.cuh"
#include "../../backends/cuda/gemm_tc.cuh"
#include "../../backends/cuda/rnn.cuh"
#include <math.h>
#include <vector>

static int failed;

static mrc_status multiply(float, mrc_cuda *c, const mrc_cuda_product *p) {
    return mrc_cuda_gemm_f32(c, p, NULL);
}
static mrc_status multiply(__half, mrc_cuda *c, const mrc_cuda_product *p) {
    return mrc_cuda_gemm_tc<__half>(c, p, NULL);
}

// c of a product with ragged edges and several slices, in an order of the threads.
template <class T, int K> static void check_product(mrc_dtype dtype, const char *order) {
    enum { M = 70, N = 65 };
    std::vector<T> a(M * K), b(N * K);
    for (int i = 0; i < M * K; i++) a[i] = (T)((float)(i * 7 % 11) - 5);
    for (int i = 0; i < N * K; i++) b[i] = (T)((float)(i * 5 % 13) - 6);
    mrc_cuda device = {};
    device.path = 80;
    mrc_cuda_product p = {};
    float *far = NULL;
    setenv("MRC_SHIM_SCHED", order, 1);
    if (cudaMalloc((void **)&far, M * N * sizeof *far) != cudaSuccess) exit(1);
    p.m = M;
    p.n = N;
    p.k = K;
    p.b_transposed = 1;
    p.a = { dtype, K, a.data() };
    p.b = { dtype, K, b.data() };
    p.c = { MRC_DTYPE_F32, N, far, 0 };
    failed += multiply(T(), &device, &p) != MRC_OK;
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            float sum = 0;                      // of integers: exact in any order
            for (int k = 0; k < K; k++) sum += (float)a[i * K + k] * (float)b[j * K + k];
            failed += !(far[i * N + j] == sum);
        }
    }
    cudaFree(far);
}

// Each block reads what the next one wrote before the barrier.
__global__ static void pass_round(unsigned *arrived, const int *from, int *shared, int *to) {
    const int b = (int)blockIdx.x, n = (int)gridDim.x;
    if (threadIdx.x == 0) shared[b] = from[b];
    rnn_barrier(arrived, gridDim.x);
    if (threadIdx.x == 0) to[b] = shared[(b + 1) % n];
}
static void check_barrier(void) {
    enum { BLOCKS = 4 };
    unsigned arrived = 0;
    int from[BLOCKS] = { 3, 5, 7, 9 }, shared[BLOCKS] = {}, to[BLOCKS] = {};
    cudaStream_t stream = NULL;
    failed += MRC_LAUNCH_COOP(pass_round, BLOCKS, 64, 0, stream, &arrived, from, shared, to) != 0;
    for (int i = 0; i < BLOCKS; i++) failed += to[i] != from[(i + 1) % BLOCKS];
}

// dq of one head of one sequence, from the formula.
enum { N = 7, D = 8 };
static void check_dq(const float (*q)[D], const float (*k)[D], const float (*v)[D],
                     const float (*dy)[D], const float *dq) {
    float p[N][N] = {};
    for (int i = 0; i < N; i++) {
        float sum = 0, mean = 0, dp[N] = {};
        for (int j = 0; j < N; j++) {
            for (int e = 0; e < D; e++) p[i][j] += q[i][e] * k[j][e];
            sum += p[i][j] = expf(p[i][j]);
        }
        for (int j = 0; j < N; j++) {
            p[i][j] /= sum;
            for (int e = 0; e < D; e++) dp[j] += dy[i][e] * v[j][e];
            mean += p[i][j] * dp[j];
        }
        for (int e = 0; e < D; e++) {
            float want = 0;
            for (int j = 0; j < N; j++) want += p[i][j] * (dp[j] - mean) * k[j][e];
            failed += !(fabsf(dq[i * D + e] - want) < 1e-5f);
        }
    }
}
static void check_attention(void) {
    float *far = NULL, q[N][D], k[N][D], v[N][D], dy[N][D];
    const int32_t cu[2] = { 0, N }, real = N, index = 0;
    for (int i = 0; i < N * D; i++) {
        q[i / D][i % D] = (float)(i * 7 % 11) / 9 - 0.5f;
        k[i / D][i % D] = (float)(i * 5 % 13) / 9 - 0.5f;
        v[i / D][i % D] = (float)(i * 3 % 17) / 9 - 0.5f;
        dy[i / D][i % D] = (float)(i * 11 % 19) / 9 - 1;
    }
    if (cudaMalloc((void **)&far, 4096 * sizeof *far) != cudaSuccess) exit(1);
    float *y = far, *lse = far + 1024, *delta = far + 2048, *dq = far + 3072;
    mrc_cuda device = {};
    device.path = 80;
    device.shared_limit = 99 << 10;
    mrc_backend be = {};
    be.self = &device;
    mrc_attention_fwd_args f = {};
    f.n = f.max_length = N;
    f.n_sequences = f.heads = 1;
    f.d = D;
    f.scale = 1;
    f.mask.scale = 1;
    f.cu_seqlens = { MRC_DTYPE_I32, 1, cu };
    f.real_len = { MRC_DTYPE_I32, 1, &real };
    f.sequence_index = { MRC_DTYPE_I32, 1, &index };
    f.q = { MRC_DTYPE_F32, D, q };
    f.k = { MRC_DTYPE_F32, D, k };
    f.v = { MRC_DTYPE_F32, D, v };
    f.y = { MRC_DTYPE_F32, D, y, 0 };
    f.lse = { MRC_DTYPE_F32, N, lse, 0 };
    failed += mrc_cuda_attention_fwd_run<float>(&be, &f) != MRC_OK;
    mrc_attention_bwd_args b = {};
    b.n = b.max_length = N;
    b.n_sequences = b.heads = 1;
    b.d = D;
    b.scale = 1;
    b.mask = f.mask;
    b.cu_seqlens = f.cu_seqlens;
    b.real_len = f.real_len;
    b.sequence_index = f.sequence_index;
    b.q = f.q;
    b.k = f.k;
    b.v = f.v;
    b.y = { MRC_DTYPE_F32, D, y };
    b.lse = { MRC_DTYPE_F32, N, lse };
    b.dy = { MRC_DTYPE_F32, D, dy };
    b.dq = { MRC_DTYPE_F32, D, dq, 0 };
    b.workspace = delta;
    failed += mrc_cuda_attention_bwd_run<float>(&be, &b) != MRC_OK;
    check_dq(q, k, v, dy, dq);
    cudaFree(far);
}

int main(void) {
    for (const char *order : { "fwd", "rev", "rand:1" }) {
        check_product<float, 40>(MRC_DTYPE_F32, order);
        check_product<__half, 104>(MRC_DTYPE_F16, order);
    }
    check_barrier();
    check_attention();
    printf("%d failed\n", failed);
    return failed != 0;
}
