// A test of the tests: the bugs of bugs.h that the op table cannot show must end this program with
// a failure, some of them under a sanitizer; without one it must pass.  On the shim only.
#include "../../backends/cuda/gemm_wgmma.cuh"
#include "../../backends/cuda/rnn.cuh"
#include <math.h>
#include <vector>

static int failed;

static mrc_status multiply(float, mrc_cuda *c, const mrc_cuda_product *p) {
    return mrc_cuda_gemm_f32(c, p, NULL);
}
static mrc_status multiply(__half, mrc_cuda *c, const mrc_cuda_product *p) {
    return mrc_cuda_gemm_tensor(__half(), c, p, NULL);
}

// c of a product with ragged edges and several slices, on a path, in an order of the threads.
template <class T, int M, int N, int K>
static void check_product(mrc_dtype dtype, int path, const char *order) {
    std::vector<T> a(M * K), b(N * K);
    for (int i = 0; i < M * K; i++) a[i] = (T)((float)(i * 7 % 11) - 5);
    for (int i = 0; i < N * K; i++) b[i] = (T)((float)(i * 5 % 13) - 6);
    mrc_cuda device = {};
    device.path = path;
    device.wgmma_all = 1;
    device.shared_limit = path == 90 ? 227 << 10 : 96 << 10;
    mrc_cuda_product p = {};
    float *far = NULL;
    setenv("MRC_SHIM_SCHED", order, 1);
    setenv("MRC_SHIM_ARCH", path == 90 ? "90" : "80", 1);
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

// The bug of that name, and which sanitizer must show it.
typedef struct planted { const char *name, *sanitizer; int bug; } planted;
static const planted bugs[] = {
#define MRC_X(name, sanitizer, what) { #name, sanitizer, MRC_BUG_##name },
    MRC_PLANTED_BUGS(MRC_X)
#undef MRC_X
};

static void check_all(void) {
    for (const char *order : { "fwd", "rev", "rand:1" }) {
        check_product<float, 70, 65, 40>(MRC_DTYPE_F32, 80, order);
        check_product<__half, 70, 65, 104>(MRC_DTYPE_F16, 80, order);
        check_product<__half, 140, 65, 328>(MRC_DTYPE_F16, 90, order);
    }
    check_product<float, 516, 1028, 20>(MRC_DTYPE_F32, 80, "fwd");     // whole tiles
    check_barrier();
}

// planted: without a bug.  planted NAME: once without, then with it, so that a sanitizer has seen
// the same threads before.  planted list: what there is.
int main(int argc, char **argv) {
    int bug = MRC_BUG_NONE;
    for (const planted &p : bugs) {
        if (argc > 1 && !strcmp(argv[1], "list")) {
            printf("%s %s\n", p.name, p.sanitizer[0] ? p.sanitizer : "none");
        }
        if (argc > 1 && !strcmp(argv[1], p.name)) bug = p.bug;
    }
    if (argc > 1 && bug == MRC_BUG_NONE) return strcmp(argv[1], "list") != 0;
    check_all();
    if (failed) return bug == MRC_BUG_NONE;     // with a bug asked for: not by it
    mrc_shim_bug = bug;
    if (bug != MRC_BUG_NONE) check_all();
    printf("%d failed\n", failed);
    return failed != 0;
}
