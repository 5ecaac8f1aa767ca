// What tests/gpu.sh runs beside the suites, on a GPU or, without one, small on the tests' shim:
//
//     gpu_run steps N DIR      N steps on batches of data/train.jsonl, each from the CPU's state;
//                              then a run of its own, twice, whose batches and losses go to DIR
//     gpu_run times            milliseconds of steps and of attention, TFLOP/s of products
//
// The last line of steps is the suites' "N passed, N failed".
#include "../support/cuda.h"
#include <time.h>

//==============================================================================
// Steps on real batches
//==============================================================================
enum { BATCH = 8, FREE_STEPS = TEST_ON_GPU ? 20 : 3 };
#define RATE 5e-5

typedef struct batches { mrc_dataset *d; mrc_tokenizer *tok; mrc_features f; mrc_batch_plan plan; }
    batches;

static void batches_new(mrc_ctx *ctx, batches *b) {
    mrc_features_config config = mrc_features_config_default();
    config.max_seq_length = 128;
    config.doc_stride = 32;
    if (!CHECK(mrc_tokenizer_load(ctx, &b->tok, "data") == MRC_OK
               && mrc_dataset_load(ctx, &b->d, "data/train.jsonl") == MRC_OK
               && mrc_features_new(ctx, &b->f, b->d, b->tok, &config) == MRC_OK
               && mrc_batch_plan_new(ctx, &b->plan, &b->f, MRC_BATCHING_RANDOM, BATCH, 1, 0)
                  == MRC_OK, "%s", mrc_ctx_message(ctx))) exit(1);
}
static void batches_free(batches *b) {
    mrc_batch_plan_free(&b->plan);
    mrc_features_free(&b->f);
    mrc_dataset_free(b->d);
    mrc_tokenizer_free(b->tok);
}

// A step's batch; list has room for BATCH.
static mrc_step_desc step_of(const batches *b, uint32_t step, int dropout,
                             const mrc_feature **list) {
    const size_t at = b->plan.begin[step % b->plan.n_batches];
    mrc_step_desc desc = { .features = list, .n = BATCH, .micro_batch = BATCH, .lr = RATE,
                           .random = { .seed = 1, .step = step },
                           .forward = mrc_forward_config_default() };
    desc.forward.dropout = dropout;
    for (size_t i = 0; i < BATCH; i++) list[i] = &b->f.list[b->plan.feature[at + i]];
    return desc;
}

static mrc_model_config reader_config(mrc_ctx *ctx, mrc_head_type head, double dropout) {
    mrc_model_config c;
    if (!CHECK(mrc_model_config_load(ctx, &c, "data/config.json") == MRC_OK, "%s",
               mrc_ctx_message(ctx))) exit(1);
    c.head = head;
    c.num_head_layers = 2;
    c.head_hidden_size = 64;
    c.head_dropout = c.hidden_dropout_prob = c.attention_probs_dropout_prob = dropout;
    return c;
}

static void steps_from_cpu(mrc_backend *cpu, mrc_backend *cuda, const batches *b,
                           mrc_head_type head, uint32_t steps) {
    const mrc_feature *list[BATCH];
    mrc_ctx *ctx = new_ctx(cpu);
    const mrc_model_config config = reader_config(ctx, head, 0.1);
    const mrc_optimizer_config optimizer = mrc_optimizer_config_default();
    trained x, y;
    trained_new(&x, cpu, &config, &optimizer, MRC_DTYPE_F32);
    trained_new(&y, cuda, &config, &optimizer, MRC_DTYPE_F32);
    for (uint32_t step = 0; step < steps; step++) {
        char label[60];
        const mrc_step_desc desc = step_of(b, step, 1, list);
        snprintf(label, sizeof label, "head %d, step %u from the CPU's state", (int)head,
                 (unsigned)step);
        step_from_same(&x, &y, &desc, label);
    }
    trained_free(&x);
    trained_free(&y);
    mrc_ctx_free(ctx);
}

// A line of what PyTorch is given: ids, places of the answers, and our loss.
static void write_batch(FILE *to, const mrc_step_desc *desc, double loss) {
    fprintf(to, "{\"loss\": %.9g, \"lr\": %.9g, \"rows\": [", loss, desc->lr);
    for (size_t i = 0; i < desc->n; i++) {
        const mrc_feature *f = desc->features[i];
        fprintf(to, "%s{\"start\": %d, \"end\": %d, \"ids\": [", i ? ", " : "",
                (int)f->start_position, (int)f->end_position);
        for (int32_t k = 0; k < f->length; k++) {
            fprintf(to, "%s%d", k ? ", " : "", (int)f->input_ids[k]);
        }
        fprintf(to, "]}");
    }
    fprintf(to, "]}\n");
}

// A run of the GPU's own; losses, and in the end its whole state in *t.
static void free_run(mrc_backend *cuda, const batches *b, const char *dir, double *losses,
                     trained *t) {
    const mrc_feature *list[BATCH];
    char path[300];
    mrc_ctx *ctx = new_ctx(cuda);
    const mrc_model_config config = reader_config(ctx, MRC_HEAD_BILSTM, 0);
    mrc_optimizer_config optimizer = mrc_optimizer_config_default();
    optimizer.weight_decay = 0;
    optimizer.max_grad_norm = 1;
    trained_new(t, cuda, &config, &optimizer, MRC_DTYPE_F32);
    if (dir) {
        snprintf(path, sizeof path, "%s/model", dir);
        CHECK(mrc_model_save(t->ctx, t->m, path, NULL) == MRC_OK, "%s", mrc_ctx_message(t->ctx));
        snprintf(path, sizeof path, "%s/steps.jsonl", dir);
    }
    FILE *to = dir ? fopen(path, "w") : NULL;
    CHECK(!dir || to, "%s cannot be written", path);
    for (uint32_t step = 0; step < FREE_STEPS; step++) {
        mrc_step_result r = {0};
        const mrc_step_desc desc = step_of(b, step, 0, list);
        CHECK(mrc_train_step(t->ctx, t->m, t->o, &desc, &r) == MRC_OK, "%s",
              mrc_ctx_message(t->ctx));
        losses[step] = r.loss;
        if (to) write_batch(to, &desc, r.loss);
    }
    if (to) CHECK(fclose(to) == 0, "%s cannot be written", path);
    mrc_ctx_free(ctx);
}

// The same run twice has the same bits.
static void test_twice(mrc_backend *cuda, const batches *b, const char *dir) {
    double losses[2][FREE_STEPS];
    trained t[2];
    size_t different = 0;
    for (int k = 0; k < 2; k++) free_run(cuda, b, k ? NULL : dir, losses[k], &t[k]);
    CHECK(!memcmp(losses[0], losses[1], sizeof losses[0]), "a run repeated has other losses");
    for (size_t i = 0; mrc_params_at(t[0].m->params, i); i++) {
        const mrc_tensor *x = mrc_params_at(t[0].m->params, i);
        const mrc_tensor *y = mrc_params_at(t[1].m->params, i);
        double *u = malloc(2 * x->numel * sizeof *u), *v = u + x->numel;
        test_read(cuda, MRC_DTYPE_F32, x->data, x->numel, u);
        test_read(cuda, MRC_DTYPE_F32, y->data, y->numel, v);
        different += memcmp(u, v, x->numel * sizeof *u) != 0;
        free(u);
    }
    CHECK(different == 0, "a run repeated has other bits in %zu tensors", different);
    trained_free(&t[0]);
    trained_free(&t[1]);
}

static int steps_main(uint32_t steps, const char *dir) {
    mrc_backend *cpu = NULL, *cuda = cuda_new(0, 0);
    batches b = {0};
    CHECK(mrc_backend_cpu_new(&cpu, NULL) == MRC_OK, "cpu");
    if (!cpu || !cuda) return test_end();
    mrc_ctx *ctx = new_ctx(cpu);
    batches_new(ctx, &b);
    steps_from_cpu(cpu, cuda, &b, MRC_HEAD_BILSTM, steps);
    steps_from_cpu(cpu, cuda, &b, MRC_HEAD_BIGRU, (steps + 4) / 5);
    printf("%u steps from the CPU's state, on %s\n", (unsigned)steps, cuda->isa);
    test_twice(cuda, &b, dir);
    batches_free(&b);
    mrc_ctx_free(ctx);
    mrc_backend_free(cuda);
    mrc_backend_free(cpu);
    return test_end();
}

//==============================================================================
// Times
//==============================================================================
static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

// Mean milliseconds of a run after a warm-up: runs for half a second, on the shim once.
static double ms_of(mrc_backend *be, void (*run)(void *), void *what, const void *probe) {
    float word;
    double begun = 0;
    int n = -1;
    for (; n < 1 || (TEST_ON_GPU && now_ms() - begun < 500); n++) {
        run(what);
        if (n >= 0) continue;
        be->download(be, &word, probe, sizeof word);            // waits
        begun = now_ms();
    }
    be->download(be, &word, probe, sizeof word);
    return (now_ms() - begun) / n;
}

typedef struct timed {
    mrc_backend *be;
    mrc_dtype dtype;
    mrc_gemm_args gemm;
    mrc_attention_fwd_args fwd;
    mrc_attention_bwd_args bwd;
    trained t;
    mrc_step_desc desc;
} timed;

static void run_gemm(void *what) {
    timed *t = what;
    t->be->kernels[t->dtype].gemm(t->be, &t->gemm);
}
static void run_attention(void *what) {
    timed *t = what;
    t->be->kernels[t->dtype].attention_fwd(t->be, &t->fwd);
}
static void run_attention_bwd(void *what) {
    timed *t = what;
    t->be->kernels[t->dtype].attention_bwd(t->be, &t->bwd);
}
static void run_step(void *what) {
    timed *t = what;
    mrc_step_result r;
    CHECK(mrc_train_step(t->t.ctx, t->t.m, t->t.o, &t->desc, &r) == MRC_OK, "%s",
          mrc_ctx_message(t->t.ctx));
}

// n elements of a type, all 1/2 or, of int32, as given.
static void *filled(mrc_backend *be, mrc_dtype dtype, size_t n, const int32_t *values) {
    void *raw = malloc(n * sizeof(double)), *at = be->alloc(be, n * mrc_dtype_bytes(dtype));
    double *half = malloc(n * sizeof *half);
    for (size_t i = 0; i < n; i++) half[i] = 0.5;
    if (!values) test_encode(dtype, half, n, raw);
    CHECK(at && be->upload(be, at, values ? (const void *)values : raw,
                           n * mrc_dtype_bytes(dtype)) == MRC_OK, "%zu elements", n);
    free(half);
    free(raw);
    return at;
}

enum { SEQUENCES = TEST_ON_GPU ? 10 : 2, LENGTH = TEST_ON_GPU ? 512 : 40,
       ROWS = SEQUENCES * LENGTH, WIDTH = TEST_ON_GPU ? 1024 : 64, HEADS_OF = WIDTH / 64 };

// The products of a linear layer: y = x W^T, dx = dy W, dW = dy^T x.
static void time_gemm(mrc_backend *be, mrc_dtype dtype, size_t in, size_t out) {
    static const char *const names[] = { "y", "dx", "dW" };
    const mrc_dtype sums = MRC_DTYPE_F32;
    timed t = { .be = be, .dtype = dtype };
    const mrc_in x = { dtype, in, filled(be, dtype, ROWS * in, NULL) };
    const mrc_in w = { dtype, in, filled(be, dtype, in * out, NULL) };
    const mrc_in dy = { dtype, out, filled(be, dtype, ROWS * out, NULL) };
    const size_t most = ROWS > in ? ROWS * (in > out ? in : out) : in * out;
    void *to = be->alloc(be, most * sizeof(float));
    const mrc_gemm_args products[] = {
        { .m = ROWS, .n = out, .k = in, .b_transposed = 1, .a = x, .b = w,
          .c = { dtype, out, to, 0 } },
        { .m = ROWS, .n = in, .k = out, .a = dy, .b = w, .c = { dtype, in, to, 0 } },
        { .m = out, .n = in, .k = ROWS, .a_transposed = 1, .a = dy, .b = x,
          .c = { sums, in, to, 0 } },
    };
    for (int k = 0; k < 3; k++) {
        t.gemm = products[k];
        const double ms = ms_of(be, run_gemm, &t, to), flops = 2.0 * ROWS * (double)(in * out);
        printf("gemm %-2s %d x %zu x %zu %s %s: %.3f ms, %.2f TFLOP/s\n", names[k], ROWS, in, out,
               mrc_dtype_name(dtype), be->isa, ms, flops / ms / 1e9);
    }
    const void *const all[] = { x.data, w.data, dy.data, to };
    for (int k = 0; k < 4; k++) be->free(be, (void *)(uintptr_t)all[k]);
}

static void time_attention(mrc_backend *be, mrc_dtype dtype) {
    int32_t cu[SEQUENCES + 1] = {0}, real[SEQUENCES], index[SEQUENCES];
    for (int i = 0; i < SEQUENCES; i++) {
        cu[i + 1] = cu[i] + LENGTH;
        real[i] = LENGTH;
        index[i] = i;
    }
    void *p[] = { filled(be, MRC_DTYPE_I32, SEQUENCES + 1, cu),
                  filled(be, MRC_DTYPE_I32, SEQUENCES, real),
                  filled(be, MRC_DTYPE_I32, SEQUENCES, index),
                  filled(be, dtype, ROWS * 3 * WIDTH, NULL), filled(be, dtype, ROWS * WIDTH, NULL),
                  be->alloc(be, ROWS * HEADS_OF * sizeof(float)),
                  be->alloc(be, ROWS * 3 * WIDTH * sizeof(float)), NULL };
    const mrc_in cu_in = { MRC_DTYPE_I32, 1, p[0] }, real_in = { MRC_DTYPE_I32, 1, p[1] };
    const mrc_in index_in = { MRC_DTYPE_I32, 1, p[2] }, q = { dtype, 3 * WIDTH, p[3] };
    const size_t bytes = WIDTH * mrc_dtype_bytes(dtype);
    const mrc_in k = { dtype, 3 * WIDTH, (char *)p[3] + bytes };
    const mrc_in v = { dtype, 3 * WIDTH, (char *)p[3] + 2 * bytes };
    timed t = { .be = be, .dtype = dtype };
    t.fwd = (mrc_attention_fwd_args){
        .n = ROWS, .n_sequences = SEQUENCES, .max_length = LENGTH, .heads = HEADS_OF, .d = 64,
        .scale = 0.125, .mask = { .threshold = 1u << 28, .scale = 1.0 / 0.9375 },
        .cu_seqlens = cu_in, .real_len = real_in, .sequence_index = index_in, .q = q, .k = k,
        .v = v,
        .y = { dtype, WIDTH, p[4], 0 }, .lse = { MRC_DTYPE_F32, ROWS, p[5], 0 } };
    t.bwd = (mrc_attention_bwd_args){
        .n = ROWS, .n_sequences = SEQUENCES, .max_length = LENGTH, .heads = HEADS_OF, .d = 64,
        .scale = 0.125, .mask = t.fwd.mask, .cu_seqlens = cu_in, .real_len = real_in,
        .sequence_index = index_in, .q = q, .k = k, .v = v, .lse = { MRC_DTYPE_F32, ROWS, p[5] },
        .y = { dtype, WIDTH, p[4] }, .dy = { dtype, WIDTH, p[4] },
        .dq = { dtype, 3 * WIDTH, p[6], 0 },
        .dk = { dtype, 3 * WIDTH, (char *)p[6] + bytes, 0 },
        .dv = { dtype, 3 * WIDTH, (char *)p[6] + 2 * bytes, 0 } };
    p[7] = be->alloc(be, be->kernels[dtype].attention_bwd_workspace(be, &t.bwd));
    t.bwd.workspace = p[7];
    printf("attention %d x %d, %d heads of 64, %s %s: forward %.3f ms, ", SEQUENCES, LENGTH,
           HEADS_OF, mrc_dtype_name(dtype), be->isa, ms_of(be, run_attention, &t, p[5]));
    printf("backward %.3f ms\n", ms_of(be, run_attention_bwd, &t, p[5]));
    for (size_t k = 0; k < sizeof p / sizeof *p; k++) be->free(be, p[k]);
}

// RoBERTa-large with two BiLSTM layers of 1024, ten windows of 512; on the shim a tiny one.
static void time_step(mrc_backend *be, mrc_dtype dtype, mrc_head_type head) {
    static int32_t ids[LENGTH], types[LENGTH];
    mrc_feature list[SEQUENCES];
    const mrc_feature *features[SEQUENCES];
    mrc_model_config c = mrc_model_config_default();
    const mrc_optimizer_config optimizer = mrc_optimizer_config_default();
    c.hidden_size = c.head_hidden_size = WIDTH;
    c.num_hidden_layers = TEST_ON_GPU ? 24 : 1;
    c.num_attention_heads = HEADS_OF;
    c.intermediate_size = 4 * WIDTH;
    c.vocab_size = TEST_ON_GPU ? 32000 : 100;
    c.max_position_embeddings = LENGTH + 2;
    c.type_vocab_size = 1;
    c.head = head;
    c.num_head_layers = 2;
    for (int i = 0; i < LENGTH; i++) ids[i] = 5 + i * 7 % 90;
    for (int i = 0; i < SEQUENCES; i++) {
        list[i] = (mrc_feature){ .example_index = i, .length = LENGTH, .real_len = LENGTH,
                                 .input_ids = ids, .token_type_ids = types, .loss_end = LENGTH,
                                 .start_position = 1 + i, .end_position = 3 + i };
        features[i] = &list[i];
    }
    timed t = { .be = be, .dtype = dtype };
    t.desc = (mrc_step_desc){ .features = features, .n = SEQUENCES, .micro_batch = SEQUENCES,
                              .lr = 1e-5, .random = { .seed = 1 },
                              .forward = mrc_forward_config_default() };
    t.desc.forward.dropout = 1;
    trained_new(&t.t, be, &c, &optimizer, dtype);
    const void *probe = mrc_params_at(t.t.m->params, 0)->data;
    printf("step %d x %d, %zu layers of %d, %s of 2 x %d, %s %s: %.1f ms\n", SEQUENCES, LENGTH,
           c.num_hidden_layers, WIDTH, head == MRC_HEAD_BILSTM ? "BiLSTM" : "BiGRU", WIDTH,
           mrc_dtype_name(dtype), be->isa, ms_of(be, run_step, &t, probe));
    trained_free(&t.t);
}

static int times_main(void) {
    for (int tf32 = 0; tf32 < 2; tf32++) {
        mrc_backend *be = cuda_new(tf32 ? 80 : 0, tf32);
        for (mrc_dtype dtype = MRC_DTYPE_F32; be && dtype <= MRC_DTYPE_BF16; dtype++) {
            if (dtype == MRC_DTYPE_F64 || !be->kernels[dtype].gemm) continue;
            if (tf32 && dtype != MRC_DTYPE_F32) continue;
            time_gemm(be, dtype, WIDTH, WIDTH);
            time_gemm(be, dtype, WIDTH, 4 * WIDTH);
            if (!tf32) time_attention(be, dtype);
            time_step(be, dtype, MRC_HEAD_BILSTM);
            if (!tf32) time_step(be, dtype, MRC_HEAD_BIGRU);
        }
        if (be) mrc_backend_free(be);
    }
    return test_end();
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "times")) return times_main();
    if (argc == 4 && !strcmp(argv[1], "steps")) {
        return steps_main((uint32_t)strtoul(argv[2], NULL, 10), argv[3]);
    }
    fprintf(stderr, "usage: gpu_run steps N DIR | gpu_run times\n");
    return 2;
}
