// The counting mode's table: what the requests of each kernel cost, against the least that they
// could.  `count_run all` prints every figure; without a word those that are above their bar.
//
//     loads, stores        sectors of 32 bytes of global memory, against the sectors that the bytes
//                          asked for would fill
//     shared loads, ...    wavefronts of shared memory, against one a phase: bank conflicts
//     barriers             of a block
//
// Then launches and copies of a training step, and bugs that only these figures show.
#include "../support/cuda.h"
#include "../support/op_cases.h"
#include "count.h"
#include "bugs.h"

typedef enum figure { LOADS, STORES, SHARED_LOADS, SHARED_STORES, FIGURES } figure;
static const char *const figure_name[FIGURES] = { "loads", "stores", "shared loads",
                                                  "shared stores" };
static double ratio(uint64_t a, uint64_t b) { return b ? (double)a / (double)b : 0; }
static double figure_of(const mrc_counts *c, figure f) {
    switch (f) {
    case LOADS:         return ratio(c->load.sectors, c->load.ideal);
    case STORES:        return ratio(c->store.sectors, c->store.ideal);
    case SHARED_LOADS:  return ratio(c->shared_load.wavefronts, c->shared_load.phases);
    default:            return ratio(c->shared_store.wavefronts, c->shared_store.phases);
    }
}

// What is run: forward and backward of an op, on a path.
typedef struct counted { op_case c; mrc_dtype dtype; int path; } counted;
static const counted runs[] = {
    { { ATTENTION_CASE(128, 2, 64), .p = 0.1, .n_sequences = 1, .lengths = { 128 },
        .why = "attention" }, MRC_DTYPE_F32, 80 },
    { { ATTENTION_CASE(128, 1, 64), .p = 0.1, .n_sequences = 1, .lengths = { 128 },
        .why = "one head" }, MRC_DTYPE_F32, 80 },
    { { ATTENTION_CASE(128, 2, 64), .p = 0.1, .n_sequences = 1, .lengths = { 128 },
        .why = "attention f16" }, MRC_DTYPE_F16, 80 },
    { { ATTENTION_CASE(128, 2, 64), .p = 0.1, .n_sequences = 1, .lengths = { 128 },
        .why = "attention f16 sm_70" }, MRC_DTYPE_F16, 70 },
    { { RELATIVE_CASE(128, 1, 64, 90), .n_sequences = 1, .lengths = { 128 },
        .why = "disentangled" }, MRC_DTYPE_F32, 80 },
    { { MAXSIM_CASE(64, 128, 64), .n_queries = 2, .n_sequences = 4, .lengths = { 32, 32, 64, 64 },
        .why = "maxsim" }, MRC_DTYPE_F32, 80 },
    { { LINEAR_CASE(256, 64, 256), .act = MRC_ACT_GELU, .why = "linear" }, MRC_DTYPE_F32, 80 },
    { { LINEAR_CASE(256, 64, 256), .act = MRC_ACT_GELU, .why = "linear f16" }, MRC_DTYPE_F16, 80 },
    { { LINEAR_CASE(256, 64, 256), .act = MRC_ACT_GELU, .why = "linear f16 sm_70" }, MRC_DTYPE_F16,
      70 },
    { { LINEAR_CASE(256, 128, 256), .act = MRC_ACT_GELU, .why = "linear f16 sm_90" },
      MRC_DTYPE_F16, 90 },
    { { LSTM_CASE(24, 32, 64), .n_sequences = 4, .lengths = { 6, 6, 6, 6 }, .why = "lstm" },
      MRC_DTYPE_F32, 80 },
    { { ADD_NORM_CASE(16, 1024), .eps = 1e-5, .p = 0.1, .n_sequences = 1, .lengths = { 16 },
        .why = "add_norm" }, MRC_DTYPE_F32, 80 },
    { { .op = MRC__OP_GLU, .n_in = 1, .ndim = { 2 }, .shape = { { 16, 512 } },
        .act = MRC_ACT_GELU, .why = "glu" }, MRC_DTYPE_F32, 80 },
    { { .op = MRC__OP_ROPE, .n_in = 1, .ndim = { 2 }, .shape = { { 64, 256 } }, .heads = 4,
        .size = 2, .n_sequences = 1, .lengths = { 64 }, .why = "rope" }, MRC_DTYPE_F32, 80 },
    { { POOL_CASE(MEAN, 64, 256), .n_sequences = 2, .lengths = { 32, 32 }, .why = "pool" },
      MRC_DTYPE_F32, 80 },
    { { NORMALIZE_CASE(64, 256), .why = "normalize" }, MRC_DTYPE_F32, 80 },
};
enum { N_RUNS = sizeof runs / sizeof *runs };

// Of a run, the kernels whose names contain the word: at most these, by figure; 0: none there.
// What is not near 1 stands in backends/README.md as what is left to do.
typedef struct bar { const char *run, *kernel; double most[FIGURES]; } bar;
static const bar bars[] = {
    { "attention", "attention_wide_fwd", { 1.00, 1.00, 1.00, 1.00 } },
    { "attention", "attention_wide_bwd", { 1.00, 1.00, 1.00, 1.00 } },
    { "one head", "attention_dq", { 1.00, 1.05, 1.00, 1.00 } },
    { "one head", "attention_dkv", { 1.05, 1.00, 1.00, 1.00 } },
    { "attention f16", "attention_tc_fwd", { 1.00, 1.06, 1.00, 1.00 } },
    { "attention f16", "attention_tc_dq", { 1.01, 1.06, 1.00, 1.00 } },
    { "attention f16", "attention_tc_dkv", { 1.00, 1.00, 1.00, 1.00 } },
    { "attention f16 sm_70", "attention_tc_fwd", { 1.00, 1.06, 1.00, 1.00 } },
    { "attention f16 sm_70", "attention_tc_dq", { 1.01, 1.06, 1.00, 1.00 } },
    { "attention f16 sm_70", "attention_tc_dkv", { 1.00, 1.00, 1.00, 1.00 } },
    { "disentangled", "attention_fwd", { 1.00, 1.05, 1.00, 1.00 } },
    { "disentangled", "attention_dq", { 1.00, 1.05, 1.03, 1.00 } },
    { "disentangled", "attention_dkv", { 1.05, 1.00, 1.00, 1.00 } },
    { "disentangled", "attention_tables", { 1.05, 2.00, 1.37, 1.00 } },
    { "disentangled", "attention_by_row", { 1.00, 1.00, 0, 0 } },
    { "maxsim", "maxsim_rows", { 1.06, 4.00, 1.00, 1.00 } },
    { "maxsim", "maxsim_sums", { 1.00, 1.00, 0, 0 } },
    { "maxsim", "maxsim_dq", { 1.00, 1.00, 0, 0 } },
    { "maxsim", "maxsim_dd", { 1.33, 1.00, 1.00, 1.00 } },
    { "linear", "gemm_kernel<true, true>", { 1.60, 4.00, 1.00, 2.00 } },
    { "linear", "gemm_kernel<true, false>", { 1.00, 4.00, 1.00, 1.50 } },
    { "linear", "gemm_kernel<false, false>", { 1.00, 4.00, 1.00, 1.00 } },
    { "linear f16", "tc_gemm_kernel", { 1.00, 1.00, 1.00, 1.00 } },
    { "linear f16 sm_70", "tc_gemm_kernel", { 1.00, 1.00, 1.00, 1.00 } },
    { "linear f16 sm_90", "wg_gemm_kernel", { 1.00, 1.00, 1.00, 1.00 } },
    { "linear", "sum_rows", { 1.00, 1.00, 1.00, 1.00 } },
    { "add_norm", "sum_rows", { 1.00, 1.00, 1.00, 1.00 } },
    { "lstm", "rnn_chip_fwd", { 1.11, 1.49, 1.00, 1.00 } },
    { "lstm", "rnn_chip_bwd", { 1.25, 1.25, 1.00, 1.09 } },
    { "add_norm", "norm_fwd", { 1.00, 1.00, 0, 0 } },
    { "add_norm", "norm_bwd", { 1.00, 1.00, 0, 0 } },
    { "glu", "glu", { 1.00, 1.00, 0, 0 } },
    { "rope", "rope", { 1.00, 1.00, 0, 0 } },
    { "pool", "pool", { 1.00, 1.00, 0, 0 } },
    { "normalize", "normalize", { 1.00, 1.00, 0, 0 } },
};

static double *noise(size_t n) {
    double *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = test_random();
    return x;
}

static void count(mrc_backend *be, const counted *r) {
    mrc_tensor *in[MAX_IN];
    mrc_ctx *ctx = new_ctx(be);
    mrc_ctx_set_random(ctx, (mrc_random){ .seed = 7, .step = 3 });
    for (int i = 0; i < r->c.n_in; i++) {
        in[i] = r->c.same[i] ? in[r->c.same[i] - 1] : case_input(ctx, &r->c, i, r->dtype, 1);
        if (r->c.same[i] || !in[i]) continue;
        double *x = noise(in[i]->numel);
        in[i] = test_tensor(ctx, in[i], x);
        free(x);
    }
    mrc_counts_reset();
    mrc_tensor *y = case_build(ctx, &r->c, r->dtype, in);
    double *w = noise(y ? y->numel : 0);
    if (y) test_backward(ctx, y, w);
    free(w);
    CHECK(mrc_ctx_status(ctx) == MRC_OK, "%s: %s", r->c.why, mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
}

// How many figures are above their bar.
static int above(const char *run, int say) {
    int n = 0;
    for (size_t i = 0; i < sizeof bars / sizeof *bars; i++) {
        if (strcmp(bars[i].run, run)) continue;
        const mrc_counts c = mrc_counts_of(bars[i].kernel);
        if (say) CHECK(c.launches, "%s: no kernel is called %s", run, bars[i].kernel);
        for (figure f = 0; f < FIGURES; f++) {
            const double found = figure_of(&c, f);
            const int bad = found > bars[i].most[f] + 0.005;
            if (say) CHECK(!bad, "%s, %s: %s (found %.2f, expected at most %.2f)", run,
                           bars[i].kernel, figure_name[f], found, bars[i].most[f]);
            n += bad;
        }
    }
    return n;
}

static void print_all(const char *run) {
    const char *name;
    for (size_t i = 0; (name = mrc_counts_kernel(i)) != NULL; i++) {
        const mrc_counts c = mrc_counts_of(name);
        printf("%-18s %-52s", run, name);
        for (figure f = 0; f < FIGURES; f++) printf(" %5.2f", figure_of(&c, f));
        printf("  %.1f barriers\n", ratio(c.barriers, c.blocks));
    }
}

//==============================================================================
// Launches and copies of a training step
//==============================================================================
enum { LENGTH = 40 };
static mrc_host_counts step_counts(mrc_backend *be, size_t layers) {
    static int32_t ids[LENGTH], types[LENGTH];
    const mrc_feature feature = { .length = LENGTH, .real_len = LENGTH, .input_ids = ids,
                                  .token_type_ids = types, .loss_end = LENGTH,
                                  .start_position = 1, .end_position = 3 };
    const mrc_feature *const list[1] = { &feature };
    mrc_model_config c = mrc_model_config_default();
    mrc_optimizer_config optimizer = mrc_optimizer_config_default();
    mrc_step_desc desc = { .features = list, .n = 1, .micro_batch = 1, .lr = 1e-3,
                           .random = { .seed = 1 }, .forward = mrc_forward_config_default() };
    trained t;
    desc.forward.dropout = 1;
    c.vocab_size = 50;
    c.hidden_size = 32;
    c.num_hidden_layers = layers;
    c.num_attention_heads = 2;
    c.intermediate_size = 64;
    c.max_position_embeddings = 64;
    c.type_vocab_size = 1;
    trained_new(&t, be, &c, &optimizer, MRC_DTYPE_F32);
    for (int k = 0; k < 2; k++) {               // the first one makes arenas grow
        mrc_step_result r = {0};
        mrc_counts_reset();
        CHECK(mrc_train_step(t.ctx, t.m, t.o, &desc, &r) == MRC_OK, "%s", mrc_ctx_message(t.ctx));
    }
    const mrc_host_counts counts = mrc_counts_of_host();
    trained_free(&t);
    return counts;
}

static void test_step(mrc_backend *be, int say) {
    const mrc_host_counts one = step_counts(be, 1), two = step_counts(be, 2);
    const unsigned layer = (unsigned)(two.launches - one.launches);
    if (say) {
        printf("a step: %u launches and %u a layer, %u uploads and %u a layer, %u downloads, "
               "%u waits\n", (unsigned)one.launches - layer, layer, (unsigned)one.uploads,
               (unsigned)(two.uploads - one.uploads), (unsigned)one.downloads,
               (unsigned)one.waits);
    }
    CHECK(layer <= 26, "a layer is %u launches", layer);
    CHECK(one.launches - layer <= 22, "a step without its layers is %u launches",
          (unsigned)one.launches - layer);
    CHECK(two.downloads <= 1 && two.waits <= 1, "a step waits for %u downloads",
          (unsigned)two.downloads);
    CHECK(two.uploads <= one.uploads + 2 && one.uploads <= 13, "%u and %u uploads in a step",
          (unsigned)one.uploads, (unsigned)two.uploads);
}

//==============================================================================
// What a bar is for: bugs that leave results right
//==============================================================================
static void test_count_bugs(mrc_backend *be) {
    static const struct { int bug; const char *run, *what; } bugs[] = {
#define MRC_X(name, run, what) { MRC_BUG_##name, run, what },
        MRC_COUNT_BUGS(MRC_X)
#undef MRC_X
    };
    for (size_t b = 0; b < sizeof bugs / sizeof *bugs; b++) {
        int bad = 0;
        for (int i = 0; i < N_RUNS; i++) {
            if (strcmp(runs[i].c.why, bugs[b].run)) continue;
            mrc_shim_bug = bugs[b].bug;
            count(be, &runs[i]);
            mrc_shim_bug = MRC_BUG_NONE;
            bad += above(bugs[b].run, 0);
        }
        CHECK(bad, "no bar shows that %s", bugs[b].what);
    }
}

int main(int argc, char **argv) {
    const int all = argc > 1 && !strcmp(argv[1], "all");
    mrc_backend *be[3] = { cuda_new(70, 0), cuda_new(80, 0), cuda_new(90, 0) };
    if (!be[0] || !be[1] || !be[2]) return test_end();
    for (int i = 0; i < N_RUNS; i++) {
        count(be[runs[i].path / 10 - 7], &runs[i]);
        if (all) print_all(runs[i].c.why);
        above(runs[i].c.why, 1);
    }
    test_count_bugs(be[1]);
    mrc_counts_accesses(0);
    test_step(be[1], all);
    mrc_backend_free(be[0]);
    mrc_backend_free(be[1]);
    mrc_backend_free(be[2]);
    return test_end();
}
