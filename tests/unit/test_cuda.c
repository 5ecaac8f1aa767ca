// The CUDA source on the tests' shim, beyond the op table: ten training steps against the naive
// kernels, each from the same state; the same bits whatever the blocks' order; the instance's
// memory, copies and refusals; the plan of large models.
#include "../support/cuda.h"
#ifndef MRC_TEST_GPU
#include "../cuda/bugs.h"
#endif

//==============================================================================
// Ten steps of a tiny reader with dropout and two recurrent layers
//==============================================================================
enum { N_FEATURES = 4, LONGEST = 40, STEPS = 10 };
#define RATE 1e-3
static int32_t ids[LONGEST], types[LONGEST];
static mrc_feature feature[N_FEATURES];
static const mrc_feature *features[N_FEATURES];

static void features_fill(void) {
    for (int i = 0; i < LONGEST; i++) ids[i] = 5 + i * 7 % 40;
    for (int i = 0; i < N_FEATURES; i++) {
        int32_t length = LONGEST - 9 * i;
        feature[i] = (mrc_feature){ .example_index = i, .length = length, .real_len = length - i,
                                    .input_ids = ids, .token_type_ids = types,
                                    .loss_end = length, .start_position = 1 + i,
                                    .end_position = 3 + i };
        features[i] = &feature[i];
    }
}

static mrc_model_config tiny_config(mrc_head_type head) {
    mrc_model_config c = mrc_model_config_default();
    c.vocab_size = 50;
    c.hidden_size = 32;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.intermediate_size = 64;
    c.max_position_embeddings = 64;
    c.type_vocab_size = 1;
    c.head = head;
    c.num_head_layers = 2;
    c.head_hidden_size = 24;
    c.head_dropout = 0.2;
    return c;
}

static void test_steps(mrc_backend *naive, mrc_backend *cuda, mrc_optim variant,
                       mrc_head_type head, int steps) {
    const mrc_model_config config = tiny_config(head);
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    trained a, b;
    oc.variant = variant;
    oc.weight_decay = 0.01;
    oc.max_grad_norm = 0.5;
    trained_new(&a, naive, &config, &oc, MRC_DTYPE_F32);
    trained_new(&b, cuda, &config, &oc, MRC_DTYPE_F32);
    for (uint32_t step = 0; step < (uint32_t)steps; step++) {
        char label[60];
        mrc_step_desc desc = { .features = features, .n = N_FEATURES, .micro_batch = 3, .lr = RATE,
                               .random = { .seed = 1, .step = step },
                               .forward = mrc_forward_config_default() };
        desc.forward.dropout = 1;
        snprintf(label, sizeof label, "optimizer %d, head %d, step %u", (int)variant, (int)head,
                 (unsigned)step);
        step_from_same(&a, &b, &desc, label);
    }
    trained_free(&a);
    trained_free(&b);
}

//==============================================================================
// The optimizer's kernels on their own, which a step of a reader may not choose
//==============================================================================
enum { OPTIM_TENSORS = 4 };
static const size_t optim_shape[OPTIM_TENSORS][2] = { { 6, 40 }, { 3, 7 }, { 0, 9001 }, { 5, 3 } };

// Tensors on be: 0 with gradients across its weights row by row, 1 along them, 2 a vector of more
// than one chunk, 3 across as a whole only.
static void optim_fill(mrc_backend *be, mrc_optim_tensor *t) {
    test_rng = 11;
    for (int k = 0; k < OPTIM_TENSORS; k++) {
        size_t rows = optim_shape[k][0], columns = optim_shape[k][1];
        size_t n = (rows ? rows : 1) * columns;
        float *host = malloc(4 * n * sizeof *host);
        for (size_t i = 0; i < n; i++) {
            float p = (float)test_random() + 1.5f, other = (float)test_random();
            host[i] = p;
            host[n + i] = k == 1 ? 0.5f * p : other;
            host[2 * n + i] = (float)test_random();
            host[3 * n + i] = (float)fabs(test_random());
        }
        for (size_t r = 0; k != 1 && r < rows; r++) {           // g -= p (g . p) / (p . p)
            double gp = 0, pp = 0;
            float *p = host + r * columns, *g = host + n + r * columns;
            for (size_t i = 0; i < columns; i++) {
                gp += (double)g[i] * p[i];
                pp += (double)p[i] * p[i];
            }
            double along = k == 3 ? gp / pp - (r == 0) * 0.2 + (r == 1) * 0.2 : gp / pp;
            for (size_t i = 0; i < columns; i++) g[i] -= (float)along * p[i];
        }
        void *far = be->alloc(be, 4 * n * sizeof *host);
        be->upload(be, far, host, 4 * n * sizeof *host);
        float *at = far;                        // an address: only counted with
        t[k] = (mrc_optim_tensor){ .numel = n, .rows = rows, .grad = { MRC_DTYPE_F32, n, at + n },
                                   .param = { MRC_DTYPE_F32, n, at, 0 },
                                   .m = { MRC_DTYPE_F32, n, at + 2 * n, 0 },
                                   .v = { MRC_DTYPE_F32, n, at + 3 * n, 0 },
                                   .lr = 1e-2, .weight_decay = 0.1 };
        free(host);
    }
}

// What each kernel leaves: parameters and moments, one after the other.
static size_t optim_run(mrc_backend *be, int which, double *out) {
    mrc_optim_tensor t[OPTIM_TENSORS];
    const mrc_kernels *k = &be->kernels[MRC_DTYPE_F32];
    const float clip[2] = { 0.7f, 0 };
    const int32_t state[2] = { 3, 0 };
    size_t n = 0;
    optim_fill(be, t);
    void *scalars = be->alloc(be, 128), *workspace = be->alloc(be, 1 << 16);
    be->upload(be, scalars, clip, sizeof clip);
    be->upload(be, (char *)scalars + 64, state, sizeof state);
    const mrc_in in[2] = { { MRC_DTYPE_F32, 1, scalars },
                           { MRC_DTYPE_I32, 2, (char *)scalars + 64 } };
    mrc_adamp_args adamp = { .n_tensors = OPTIM_TENSORS, .tensors = t, .beta1 = 0.9,
                             .beta2 = 0.99, .eps = 1e-8, .delta = 0.1, .wd_ratio = 0.1,
                             .nesterov = which == 1, .clip = in[0], .state = in[1],
                             .workspace = workspace };
    mrc_sgd_args sgd = { .n_tensors = OPTIM_TENSORS, .tensors = t, .momentum = 0.9, .clip = in[0],
                         .state = in[1], .workspace = workspace };
    mrc_status s = which < 2 ? k->adamp(be, &adamp) : which == 2 ? k->sgd(be, &sgd) : MRC_OK;
    for (int i = 0; which > 2 && s == MRC_OK && i < OPTIM_TENSORS; i++) {
        mrc_axpby_args a = { .n = t[i].numel, .alpha = which == 3 ? 1 - 0.9 : 1,
                             .beta = which == 3 ? 0.9 : 0, .skip = { MRC_DTYPE_I32, 1, NULL },
                             .x = { MRC_DTYPE_F32, 1, t[i].param.data }, .y = t[i].m };
        if (which == 4) a.scale = in[0];
        s = k->axpby(be, &a);
    }
    CHECK(s == MRC_OK, "optimizer kernel %d on %s", which, be->name);
    for (int i = 0; i < OPTIM_TENSORS; i++) {
        test_read(be, MRC_DTYPE_F32, t[i].param.data, 4 * t[i].numel, out + n);
        n += 4 * t[i].numel;
        be->free(be, t[i].param.data);
    }
    be->free(be, scalars);
    be->free(be, workspace);
    return n;
}

static void test_optim(mrc_backend *naive, mrc_backend *cuda) {
    static double want[40000], got[40000];
    for (int which = 0; which < 6; which++) {
        size_t n = optim_run(naive, which, want), m = optim_run(cuda, which, got);
        double e = test_error(got, want, n);
        CHECK(n == m && e <= 2e-6, "optimizer kernel %d off by %g", which, e);
    }
}

//==============================================================================
// Orders of blocks and threads: MRC_SHIM_SCHED
//==============================================================================
static size_t model_bits(const void *backend, double *out) {
    mrc_backend *be = (mrc_backend *)(uintptr_t)backend;
    model m;
    mrc_ctx *ctx = new_ctx(be);
    CHECK(model_make(&m, be, NULL, MRC_DTYPE_F32, 1) == MRC_OK, "model");
    CHECK(model_step(ctx, be, &m, PLAIN, out) == MRC_OK, "%s", mrc_ctx_message(ctx));
    const size_t n = model_numbers(&m);
    mrc_ctx_free(ctx);
    mrc_params_free(m.params);
    return n;
}
static void test_orders(mrc_backend *cuda) {
    static double first[MODEL_NUMBERS], again[MODEL_NUMBERS];
    same_in_orders("a step", model_bits, cuda, TEST_ON_GPU ? 1 : 5, first, again);
}

//==============================================================================
// The instance
//==============================================================================
static void refused(const char *variable, const char *value, mrc_cuda_desc desc, const char *says) {
    char why[200] = "";
    mrc_backend *be = NULL;
    desc.why = why;
    desc.why_bytes = sizeof why;
    if (variable) setenv(variable, value, 1);
    mrc_status s = mrc_backend_cuda_new(&be, &desc);
    CHECK(s == MRC_ERR_UNSUPPORTED && !be && strstr(why, says), "status %d: %s", (int)s, why);
    if (variable) unsetenv(variable);
}

static void test_choice(void) {
    static const struct { const char *arch; int path; const char *isa; } choices[] = {
        { "70", 0, "sm_70" }, { "75", 0, "sm_70" }, { "80", 0, "sm_80" }, { "90", 0, "sm_90" },
        { "90", 80, "sm_80" }, { "90", 70, "sm_70" }, { "100", 0, "sm_80" } };
    mrc_backend *be;
    refused("MRC_SHIM_NO_DEVICE", "1", (mrc_cuda_desc){0}, "no CUDA device");
    refused("MRC_SHIM_ARCH", "61", (mrc_cuda_desc){0}, "7.0");
    refused("MRC_SHIM_ARCH", "70", (mrc_cuda_desc){ .path = 80 }, "path 80");
    refused("MRC_SHIM_ARCH", "80", (mrc_cuda_desc){ .path = 90 }, "path 90");
    refused("MRC_SHIM_ARCH", "100", (mrc_cuda_desc){ .path = 90 }, "path 90");
    refused("MRC_CUDA_PATH", "60", (mrc_cuda_desc){0}, "path 60");
    refused("MRC_CUDA_PATH", "70", (mrc_cuda_desc){ .tf32 = 1 }, "path 70");
    refused("MRC_SHIM_ARCH", "75", (mrc_cuda_desc){ .tf32 = 1 }, "TF32");
    refused("MRC_SHIM_NO_IMAGE", "1", (mrc_cuda_desc){0}, "no code");
    refused(NULL, NULL, (mrc_cuda_desc){ .device = 3 }, "no such CUDA device: 3");
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        setenv("MRC_SHIM_ARCH", choices[i].arch, 1);
        CHECK(mrc_backend_cuda_new(&be, &(mrc_cuda_desc){ .path = choices[i].path }) == MRC_OK
              && !strcmp(be->isa, choices[i].isa), "device %s", choices[i].arch);
        CHECK(!be->kernels[MRC_DTYPE_BF16].gemm == !strcmp(be->isa, "sm_70"), "bf16");
        mrc_backend_free(be);
    }
    unsetenv("MRC_SHIM_ARCH");
    for (long fail_at = 0; fail_at < 3; fail_at++) {
        failing f = { .fail_at = fail_at };
        mrc_status s = mrc_backend_cuda_new(&be, &(mrc_cuda_desc){
            .allocator = failing_hooks(&f) });
        CHECK(s == MRC_OK ? be != NULL : s == MRC_ERR_MEM && !be, "status %d", (int)s);
        void *p = be ? be->alloc(be, 100) : NULL;
        CHECK(!be || fail_at >= 2 || !p, "no host memory, and yet an allocation");
        if (be) mrc_backend_free(be);
        CHECK(f.live == 0, "allocation %ld: %ld stay", fail_at, f.live);
    }
}

// Path 90 is not taken where its products are others than path 80's, and refused where it is asked
// for.
#ifdef MRC_TEST_GPU
static void test_unconfirmed(void) {}
#else
static void test_unconfirmed(void) {
    static const int bugs[] = { MRC_BUG_WG_SWIZZLE, MRC_BUG_WG_FENCE, MRC_BUG_WG_DONE };
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        mrc_backend *be = NULL;
        setenv("MRC_SHIM_ARCH", "90", 1);
        mrc_shim_bug = bugs[i];
        CHECK(mrc_backend_cuda_new(&be, NULL) == MRC_OK && !strcmp(be->isa, "sm_80, not sm_90"),
              "bug %zu: path 90 is taken", i);
        mrc_backend_free(be);
        refused("MRC_SHIM_ARCH", "90", (mrc_cuda_desc){ .path = 90 }, "not those of path 80");
        mrc_shim_bug = MRC_BUG_NONE;
        unsetenv("MRC_SHIM_ARCH");
    }
}
#endif

// An instance computes on its own device, whichever the calling thread has chosen last.
static void test_devices(void) {
    mrc_backend *one = NULL, *two = NULL;
    double got[5];
    setenv("MRC_SHIM_DEVICES", "2", 1);
    CHECK(mrc_backend_cuda_new(&two, &(mrc_cuda_desc){ .device = 1 }) == MRC_OK
          && mrc_backend_cuda_new(&one, NULL) == MRC_OK, "two devices");
    for (int k = 0; one && two && k < 4; k++) {
        mrc_backend *be = k % 2 ? two : one, *other = k % 2 ? one : two;
        float *far = be->alloc(be, 5 * sizeof *far), word;
        const mrc_fill_args a = { .n = 5, .value = k, .y = { MRC_DTYPE_F32, 5, far, 0 } };
        void *near = other->alloc(other, sizeof word);
        CHECK(other->download(other, &word, near, sizeof word) == MRC_OK, "download");
        CHECK(be->kernels[MRC_DTYPE_F32].fill(be, &a) == MRC_OK, "device %d: %s", k % 2,
              mrc_cuda_error(be));
        test_read(be, MRC_DTYPE_F32, far, 5, got);
        CHECK(got[0] == k && got[4] == k, "device %d has %g", k % 2, got[0]);
        be->free(be, far);
        other->free(other, near);
    }
    mrc_backend_free(one);
    mrc_backend_free(two);
    unsetenv("MRC_SHIM_DEVICES");
}

// Pieces of a reserved chunk never overlap and are joined again; what does not fit is taken apart.
static void test_memory(void) {
    enum { N = 40, RESERVED = 1 << 16 };
    static char *at[N];
    static size_t bytes[N];
    size_t before = 0, after = 0, total = 0;
    mrc_backend *be;
    setenv("MRC_SHIM_MEMORY", "100000", 1);
    CHECK(mrc_backend_cuda_new(&be, NULL) == MRC_OK, "cuda");
    mrc_cuda_memory(be, &before, &total);
    CHECK(before == 100000 && total == 100000, "%zu of %zu bytes free", before, total);
    CHECK(mrc_cuda_reserve(be, 100001) == MRC_ERR_MEM, "more than there is");
    CHECK(mrc_cuda_reserve(be, RESERVED) == MRC_OK, "what there is");
    mrc_cuda_memory(be, &before, &total);
    test_rng = 5;
    for (int round = 0; round < 2000; round++) {
        size_t i = (size_t)((test_random() + 1) / 2 * N) % N;
        if (at[i]) {
            be->free(be, at[i]);
            at[i] = NULL;
            continue;
        }
        bytes[i] = (size_t)((test_random() + 1) * 700);
        at[i] = be->alloc(be, bytes[i]);
        CHECK(at[i] && (uintptr_t)at[i] % MRC_ALIGNMENT == 0, "%zu bytes", bytes[i]);
        for (size_t k = 0; k < N; k++) {
            if (k == i || !at[k] || !at[i]) continue;
            CHECK(at[i] + bytes[i] <= at[k] || at[k] + bytes[k] <= at[i], "two pieces overlap");
        }
    }
    for (size_t i = 0; i < N; i++) be->free(be, at[i]);
    mrc_cuda_memory(be, &after, &total);
    CHECK(after == before, "what fits the reserved chunk is taken elsewhere");
    void *all = be->alloc(be, RESERVED), *more = be->alloc(be, 1000);
    mrc_cuda_memory(be, &after, &total);
    CHECK(all && more && after == before - 1000, "the pieces are not one again");
    CHECK(!be->alloc(be, 90000), "more than is left");
    be->free(be, more);
    mrc_cuda_memory(be, &after, &total);
    CHECK(after == before, "an allocation of its own stays");
    mrc_backend_free(be);
    unsetenv("MRC_SHIM_MEMORY");
}

static void test_copies(mrc_backend *cuda) {
    const size_t n = (9 << 20) + 13;            // more than both halves of the pinned memory
    unsigned char *from = malloc(n), *to = calloc(n, 1);
    void *far = cuda->alloc(cuda, n);
    for (size_t i = 0; i < n; i++) from[i] = (unsigned char)((i * 31 >> 3) + (i >> 20));
    CHECK(cuda->upload(cuda, far, from, n) == MRC_OK, "upload");
    CHECK(cuda->download(cuda, to, far, n) == MRC_OK && !memcmp(from, to, n), "copies differ");
#ifndef MRC_TEST_GPU
    mrc_shim_bug = MRC_BUG_DOWNLOAD;
    CHECK(cuda->download(cuda, to, far, n) == MRC_OK && memcmp(from, to, n), "no copy shows that a "
          "piece is not waited for");
    mrc_shim_bug = MRC_BUG_NONE;
#endif
    CHECK(cuda->upload(cuda, far, from, 0) == MRC_OK, "nothing to upload");
    CHECK(*mrc_cuda_error(cuda) == 0, "%s", mrc_cuda_error(cuda));
    cuda->free(cuda, far);
    free(from), free(to);
}

// A product whose k is cut into parts, and one of large tiles, against the naive one.
static void product(mrc_backend *naive, mrc_backend *cuda, size_t n, size_t in, size_t out) {
    float *x = malloc(n * in * sizeof *x), *dy = malloc(n * out * sizeof *dy);
    float *dw = malloc(in * out * sizeof *dw);
    double *got = malloc(in * out * sizeof *got), *want = malloc(in * out * sizeof *want);
    for (size_t i = 0; i < n * in; i++) x[i] = (float)test_random();
    for (size_t i = 0; i < n * out; i++) dy[i] = (float)test_random();
    mrc_linear_bwd_args a = { .n = n, .in = in, .out = out };
    a.x = (mrc_in){ MRC_DTYPE_F32, in, cuda->alloc(cuda, n * in * sizeof *x) };
    a.dy = (mrc_in){ MRC_DTYPE_F32, out, cuda->alloc(cuda, n * out * sizeof *dy) };
    a.dweight = (mrc_out){ MRC_DTYPE_F32, in, cuda->alloc(cuda, in * out * sizeof *dw), 0 };
    size_t bytes = cuda->kernels[MRC_DTYPE_F32].linear_bwd_workspace(cuda, &a);
    a.workspace = cuda->alloc(cuda, bytes);
    cuda->upload(cuda, (void *)(uintptr_t)a.x.data, x, n * in * sizeof *x);
    cuda->upload(cuda, (void *)(uintptr_t)a.dy.data, dy, n * out * sizeof *dy);
    CHECK(cuda->kernels[MRC_DTYPE_F32].linear_bwd(cuda, &a) == MRC_OK, "linear_bwd");
    test_read(cuda, MRC_DTYPE_F32, a.dweight.data, in * out, got);
    mrc_gemm_args g = { .m = out, .n = in, .k = n, .a_transposed = 1,
                        .a = { MRC_DTYPE_F32, out, dy }, .b = { MRC_DTYPE_F32, in, x },
                        .c = { MRC_DTYPE_F32, in, dw, 0 } };
    CHECK(naive->kernels[MRC_DTYPE_F32].gemm(naive, &g) == MRC_OK, "gemm");
    test_read(naive, MRC_DTYPE_F32, dw, in * out, want);
    double e = test_error(got, want, in * out);
    CHECK(e <= 3e-6, "dW of (%zu, %zu, %zu) off by %g", n, in, out, e);
    cuda->free(cuda, (void *)(uintptr_t)a.x.data);
    cuda->free(cuda, (void *)(uintptr_t)a.dy.data);
    cuda->free(cuda, a.dweight.data);
    cuda->free(cuda, a.workspace);
    free(x), free(dy), free(dw), free(got), free(want);
}

// More documents than a grid's second dimension has blocks.
static void test_many_documents(mrc_backend *cuda) {
    enum { M = 66000 };
    float *x = malloc((M + 1) * sizeof *x);
    int32_t *cu = malloc((M + 3) * sizeof *cu), wrong = 0;      // the query's follow
    double *y = malloc(M * sizeof *y);
    for (int i = 0; i <= M; i++) {
        cu[i] = i;
        x[i] = i < M ? (float)(i % 7) : 2;                      // the last one is the query
    }
    cu[M + 1] = 0;
    cu[M + 2] = 1;
    char *far = cuda->alloc(cuda, 4 * sizeof *x * (M + 4));
    float *rows = (float *)(void *)far, *out = rows + M + 4, *work = out + M + 4;
    int32_t *begin = (int32_t *)(void *)(work + M + 4);
    cuda->upload(cuda, rows, x, (M + 1) * sizeof *x);
    cuda->upload(cuda, begin, cu, (M + 3) * sizeof *cu);
    mrc_maxsim_fwd_args a = { .n_query_rows = 1, .n_queries = 1, .n_document_rows = M,
                              .n_documents = M, .d = 1, .workspace = work };
    a.document_cu_seqlens = (mrc_in){ MRC_DTYPE_I32, 1, begin };
    a.q_cu_seqlens = (mrc_in){ MRC_DTYPE_I32, 1, begin + M + 1 };
    a.document = (mrc_in){ MRC_DTYPE_F32, 1, rows };
    a.q = (mrc_in){ MRC_DTYPE_F32, 1, rows + M };
    a.y = (mrc_out){ MRC_DTYPE_F32, 1, out, 0 };
    CHECK(cuda->kernels[MRC_DTYPE_F32].maxsim_fwd(cuda, &a) == MRC_OK, "%d documents", M);
    test_read(cuda, MRC_DTYPE_F32, out, M, y);
    for (int i = 0; i < M; i++) wrong += !(fabs(y[i] - 2 * (i % 7)) <= 0);
    CHECK(wrong == 0, "%d of %d documents have another score", wrong, M);
    cuda->free(cuda, far);
    free(x), free(cu), free(y);
}

//==============================================================================
// Plans: roberta-large with two BiLSTM layers of 1024, ten sequences of 512
//==============================================================================
static void test_plan(mrc_backend *cuda) {
    static int32_t zeros[512];
    static mrc_feature list[10];
    static const struct { mrc_dtype dtype; double most; } forms[] = {
        { MRC_DTYPE_F32, 32e9 }, { MRC_DTYPE_F16, 16e9 } };
    mrc_optimizer_config optimizer = mrc_optimizer_config_default();
    mrc_model_config c = tiny_config(MRC_HEAD_BILSTM);
    c.hidden_size = 1024;
    c.num_hidden_layers = 24;
    c.num_attention_heads = 16;
    c.vocab_size = 32000;
    c.intermediate_size = 4096;
    c.max_position_embeddings = 514;
    c.head_hidden_size = 1024;
    for (int i = 0; i < 10; i++) {
        list[i] = (mrc_feature){ .length = 512, .real_len = 512, .input_ids = zeros,
                                 .token_type_ids = zeros, .loss_end = 512, .start_position = 1,
                                 .end_position = 2 };
    }
    const mrc_features f = { .n = 10, .list = list };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        mrc_train_memory plan = {0};
        mrc_ctx *ctx = new_ctx(cuda);
        mrc_train_plan_desc desc = { .model = &c, .optimizer = &optimizer, .features = &f,
                                     .dtype = forms[i].dtype, .micro_batch = 10,
                                     .accumulation = 1, .forward = mrc_forward_config_default() };
        desc.forward.dropout = 1;
        if (CHECK(mrc_train_plan(ctx, &desc, &plan) == MRC_OK, "%s", mrc_ctx_message(ctx))) {
            printf("large + BiLSTM, 10 x 512, %s on %s: parameters %.2f, gradients %.2f, "
                   "optimizer %.2f, step %.2f: %.2f GB\n", mrc_dtype_name(forms[i].dtype),
                   cuda->isa, (double)plan.parameters / 1e9, (double)plan.gradients / 1e9,
                   (double)plan.optimizer / 1e9, (double)plan.step / 1e9,
                   (double)plan.total / 1e9);
            CHECK((double)plan.total < forms[i].most, "%zu bytes planned", plan.total);
        }
        mrc_ctx_free(ctx);
    }
}

int main(void) {
    const char *config = getenv("MRC_TEST_CONFIG");
    const int slow = config && strstr(config, "tsan") != NULL;
    mrc_backend *naive, *paths[2] = { cuda_new(80, 0), cuda_on_host(cuda_new(70, 0)) };
    CHECK(mrc_backend_naive_new(&naive, NULL) == MRC_OK, "naive");
    if (!paths[1]) return test_end();
    features_fill();
    for (int k = 0; k < 2; k++) {
        if (!paths[k]) continue;
        if (!slow) test_plan(paths[k]);
        test_orders(paths[k]);
        test_steps(naive, paths[k], MRC_ADAMW_TORCH, MRC_HEAD_BILSTM, slow ? 1 : STEPS);
        test_steps(naive, paths[k], MRC_ADAMW_TORCH, MRC_HEAD_BIGRU, slow ? 1 : STEPS);
        if (slow) continue;
        test_steps(naive, paths[k], MRC_ADAMW_HF, MRC_HEAD_BILSTM, 2);
        test_optim(naive, paths[k]);
        test_copies(paths[k]);
    }
    product(naive, paths[1], 700, 33, 35);
    if (!slow) product(naive, paths[1], 40, 1200, 1100);
    if (!slow) test_many_documents(paths[1]);
    if (!TEST_ON_GPU) {
        test_choice();
        test_unconfirmed();
        test_devices();
        test_memory();
    }
    mrc_backend_free(paths[0]);
    mrc_backend_free(paths[1]);
    mrc_backend_free(naive);
    return test_end();
}
