// Contract A: the memory plan, the device that must not be touched, derived and incomplete
// backends, and memory that runs out at every possible moment.
// tags: bare threads
#include "../support/backends.h"
#include "../support/model.h"
#include <sys/wait.h>
#include <unistd.h>

// One worst-case step through the same code on the null backend plans the real step's memory.
static void test_memory_plan(mrc_backend *real, mrc_dtype dtype, int full) {
    mrc_backend *be[2] = { real, null_new(real) };
    mrc_memory memory[3][2];
    for (int mode = PLAIN; mode <= NESTED; mode++) {
        for (int i = 0; i < 2; i++) {
            model m;
            mrc_ctx *ctx;
            CHECK(model_make(&m, be[i], NULL, dtype, full) == MRC_OK, "model on %s", be[i]->name);
            mrc_ctx_desc desc = { .backend = be[i], .step_chunk_bytes = 4096 };
            CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK, "context on %s", be[i]->name);
            CHECK(model_step(ctx, be[i], &m, (model_mode)mode, NULL) == MRC_OK, "%s",
                  mrc_ctx_message(ctx));
            memory[mode][i] = mrc_ctx_memory(ctx);
            mrc_ctx_free(ctx);
            mrc_params_free(m.params);
        }
        CHECK(!memcmp(&memory[mode][0], &memory[mode][1], sizeof memory[mode][0]),
              "%s, mode %d: %zu bytes at peak, %zu planned", real->name, mode,
              memory[mode][0].step_peak, memory[mode][1].step_peak);
        size_t live = mrc_backend_null_counts(be[1]).live;
        CHECK(live == 0, "%zu bytes not given back", live);
    }
    CHECK(mrc_backend_null_counts(be[1]).peak
          >= memory[PLAIN][1].step_reserved + memory[PLAIN][1].grads, "null's own count");
    mrc_backend_free(be[1]);
}

// The extent that the null backend finds is exact: one chunk of it holds the real step.
static void test_extent(mrc_backend *real, int full) {
    mrc_backend *be[2] = { null_new(real), real };
    for (int mode = PLAIN; mode <= NESTED; mode++) {
        size_t extent = SIZE_MAX / 4;
        for (int i = 0; i < 2; i++) {
            model m;
            mrc_ctx *ctx;
            CHECK(model_make(&m, be[i], NULL, MRC_DTYPE_F32, full) == MRC_OK, "model");
            mrc_ctx_desc desc = { .backend = be[i], .step_chunk_bytes = extent };
            CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK, "context on %s", be[i]->name);
            CHECK(model_step(ctx, be[i], &m, (model_mode)mode, NULL) == MRC_OK, "%s",
                  mrc_ctx_message(ctx));
            mrc_memory memory = mrc_ctx_memory(ctx);
            CHECK(i == 0 || (memory.step_extent == extent && memory.step_reserved == extent),
                  "%s, mode %d: %zu planned, %zu reserved", real->name, mode, extent,
                  memory.step_reserved);
            CHECK(memory.step_extent >= memory.step_peak, "extent below peak");
            extent = memory.step_extent;
            mrc_ctx_free(ctx);
            mrc_params_free(m.params);
        }
    }
    mrc_backend_free(be[0]);
}

// The same for sizes and lifetimes at random, where best fit leaves holes of every kind.
static void test_extent_of_anything(mrc_backend *be) {
    size_t wrong = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        size_t extent = (size_t)1 << 20;
        for (int i = 0; i < 2; i++) {
            mrc_tensor *live[16] = {0};
            mrc_ctx *ctx;
            mrc_ctx_desc desc = { .backend = be, .step_chunk_bytes = extent };
            CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK, "context");
            mrc_no_grad(ctx, 1);
            test_rng = seed;
            for (int k = 0; k < 200; k++) {
                size_t n = (size_t)(200 * (test_random() + 1));
                int slot = (int)(8 * (test_random() + 1));
                mrc_drop(ctx, live[slot]);
                live[slot] = mrc_tensor_new(ctx, MRC_DTYPE_F32, 1, &n, 0);
            }
            wrong += i && (ctx->step.n_chunks != 1 || ctx->step.extent != extent);
            extent = mrc_ctx_memory(ctx).step_extent;
            mrc_ctx_free(ctx);
        }
    }
    CHECK(wrong == 0, "%zu of 50 extents are not enough", wrong);
}

// A chunk that is too small by a little grows a little, and the next step has one chunk.
static void test_growth(mrc_backend *be) {
    mrc_ctx *ctx;
    const size_t big = 1 << 17, small = 64;
    mrc_ctx_desc desc = { .backend = be, .step_chunk_bytes = big * sizeof(float) };
    CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK, "context");
    for (int step = 0; step < 2; step++) {
        mrc_tensor_new(ctx, MRC_DTYPE_F32, 1, &big, 0);
        mrc_tensor_new(ctx, MRC_DTYPE_F32, 1, &small, 0);
        CHECK(mrc_ctx_memory(ctx).step_reserved <= big * sizeof(float) / 8 * 9, "it doubles");
        CHECK(ctx->step.n_chunks == (step ? 1 : 2), "%zu chunks", ctx->step.n_chunks);
        mrc_ctx_reset(ctx);
    }
    mrc_ctx_free(ctx);
}

// Mixed precision: what a bf16 table is given.  These kernels only look at the types.
typedef struct half_state { const model *m; int calls, wrong; } half_state;
static void half_see(mrc_backend *be, int right) {
    half_state *h = be->derived;
    h->calls++;
    h->wrong += !right;
}
static mrc_status half_linear_fwd(mrc_backend *be, const mrc_linear_fwd_args *a) {
    int copy = 0;
    for (int i = 0; i < MODEL_PARAMS; i++) {
        copy |= a->weight.data == ((half_state *)be->derived)->m->p[i]->copy;
    }
    half_see(be, copy && a->weight.dtype == MRC_DTYPE_BF16 && a->bias.dtype == MRC_DTYPE_F32
                 && a->y.dtype == MRC_DTYPE_BF16);
    return MRC_OK;
}
static mrc_status half_linear_bwd(mrc_backend *be, const mrc_linear_bwd_args *a) {
    half_see(be, a->weight.dtype == MRC_DTYPE_BF16 && a->dy.dtype == MRC_DTYPE_BF16
                 && a->dx.dtype == MRC_DTYPE_BF16 && a->dweight.dtype == MRC_DTYPE_F32
                 && a->dbias.dtype == MRC_DTYPE_F32);
    return MRC_OK;
}
static mrc_status half_gelu(mrc_backend *be, const mrc_activation_fwd_args *a) {
    half_see(be, a->x.dtype == MRC_DTYPE_BF16);
    return MRC_OK;
}
static mrc_status half_layer_norm_fwd(mrc_backend *be, const mrc_layer_norm_fwd_args *a) {
    half_see(be, a->weight.dtype == MRC_DTYPE_F32 && a->mean.dtype == MRC_DTYPE_F32
                 && a->y.dtype == MRC_DTYPE_BF16);
    return MRC_OK;
}
static mrc_status half_layer_norm_bwd(mrc_backend *be, const mrc_layer_norm_bwd_args *a) {
    half_see(be, a->rstd.dtype == MRC_DTYPE_F32 && a->dweight.dtype == MRC_DTYPE_F32);
    return MRC_OK;
}
static mrc_status half_dropout(mrc_backend *be, const mrc_dropout_args *a) {
    half_see(be, a->from.dtype == MRC_DTYPE_BF16 && a->to.dtype == MRC_DTYPE_BF16);
    return MRC_OK;
}
static mrc_status half_cross_entropy_fwd(mrc_backend *be, const mrc_cross_entropy_fwd_args *a) {
    half_see(be, a->loss.dtype == MRC_DTYPE_F32 && a->lse.dtype == MRC_DTYPE_F32);
    return MRC_OK;
}
static mrc_status half_cross_entropy_bwd(mrc_backend *be, const mrc_cross_entropy_bwd_args *a) {
    half_see(be, a->dloss.dtype == MRC_DTYPE_F32 && a->dlogits.dtype == MRC_DTYPE_BF16);
    return MRC_OK;
}

static void test_mixed_precision(mrc_backend *be) {
    model m;
    mrc_ctx *ctx;
    half_state h = { &m, 0, 0 };
    layer_ref ref = { &m, 0 };
    const size_t shape[2] = { MODEL_TOKENS, HIDDEN }, n = 3, one = 1;
    be->derived = &h;
    const mrc_kernels kept = be->kernels[MRC_DTYPE_BF16];
    be->kernels[MRC_DTYPE_BF16] = (mrc_kernels){
        .linear_fwd = half_linear_fwd, .linear_bwd = half_linear_bwd, .activation_fwd = half_gelu,
        .layer_norm_fwd = half_layer_norm_fwd, .layer_norm_bwd = half_layer_norm_bwd,
        .dropout_fwd = half_dropout, .dropout_bwd = half_dropout,
        .cross_entropy_fwd = half_cross_entropy_fwd, .cross_entropy_bwd = half_cross_entropy_bwd };
    CHECK(model_new(&m, be, NULL, MRC_DTYPE_F32) == MRC_OK, "model");
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    CHECK(test_batch(ctx, &m.batch, 3, model_lengths, model_index) == MRC_OK, "batch");
    mrc_tensor *x = mrc_tensor_new(ctx, MRC_DTYPE_BF16, 2, shape, 1);
    CHECK(!model_layer(ctx, &ref, &x, 1) && mrc_ctx_status(ctx) == MRC_ERR_ARG, "no copies yet");
    CHECK(!strcmp(mrc_ctx_message(ctx), "linear: x is bf16, p.0 f32 without a copy"), "%s",
          mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    for (int i = 0; i < MODEL_PARAMS; i++) {
        if (m.p[i]->ndim < 2) continue;
        CHECK(mrc_param_copy_new(m.params, m.p[i], MRC_DTYPE_BF16) == MRC_OK, "copy %d", i);
    }
    mrc_tensor *y = model_layer(ctx, &ref, &x, 1);
    y = mrc_linear(ctx, y, m.p[LAYERS * 6], m.p[LAYERS * 6 + 1], MRC_ACT_NONE);
    mrc_tensor *targets = mrc_tensor_new(ctx, MRC_DTYPE_I32, 1, &n, 0);
    mrc_tensor *denominator = mrc_tensor_new(ctx, MRC_DTYPE_F32, 1, &one, 0);
    mrc_tensor *loss = mrc_cross_entropy(ctx, y, targets, denominator, &m.batch);
    mrc_tensor *scale = mrc_tensor_new(ctx, MRC_DTYPE_F32, 0, NULL, 0);     // as loss scaling does
    CHECK(loss && mrc_backward(ctx, loss, scale) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(h.calls == 13 && h.wrong == 0, "%d of %d calls got wrong types", h.wrong, h.calls);
    CHECK(mrc_grad(ctx, m.p[W1]) && mrc_grad(ctx, x), "gradients of the masters");
    mrc_ctx_free(ctx);
    mrc_params_free(m.params);
    be->kernels[MRC_DTYPE_BF16] = kept;
}

// 2 N I O for a forward product, twice that for a backward; a frozen input saves one of three.
static void test_flops(mrc_backend *like) {
    model m;
    mrc_ctx *ctx;
    mrc_backend *be = null_new(like);
    const double product = 2.0 * MODEL_TOKENS * HIDDEN * INNER, head = 2.0 * MODEL_TOKENS * HIDDEN;
    CHECK(model_new(&m, be, NULL, MRC_DTYPE_F32) == MRC_OK, "model");
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    CHECK(model_step(ctx, be, &m, PLAIN, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    double want = 3 * (2 * LAYERS * product + head) - product;      // the input wants no gradient
    double flops = mrc_backend_null_counts(be).flops;
    CHECK(flops == want, "%g flops counted, %g expected", flops, want);
    mrc_ctx_free(ctx);
    mrc_params_free(m.params);
    mrc_backend_free(be);
}

static void test_fake_device(mrc_backend *naive, int full) {
    static fake_state fake;
    static double want[MODEL_NUMBERS], got[MODEL_NUMBERS];
    mrc_backend *be[2] = { naive, fake_new(&fake) };
    for (int mode = PLAIN; mode <= NESTED; mode++) {
        for (int i = 0; i < 2; i++) {
            model m;
            mrc_ctx *ctx;
            CHECK(model_make(&m, be[i], NULL, MRC_DTYPE_F32, full) == MRC_OK, "model");
            CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be[i] }) == MRC_OK, "context");
            memset(got, 0, sizeof got);
            CHECK(model_step(ctx, be[i], &m, (model_mode)mode, i ? got : want) == MRC_OK, "%s",
                  mrc_ctx_message(ctx));
            mrc_ctx_free(ctx);
            mrc_params_free(m.params);
        }
        CHECK(!memcmp(want, got, sizeof got), "mode %d: the device has other bits", mode);
    }
    CHECK(fake.strays == 0, "%d addresses that are none", fake.strays);
    char *far = fake_alloc(&fake.base, 64);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {                       // the device is a device: reading its memory must kill
        close(STDERR_FILENO);
        _exit(*(volatile char *)far ? 0 : 0);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status != 0, "a stray read survives");
    fake_free(&fake.base, far);
    for (size_t i = 0; i < FAKE_MAPS; i++) CHECK(!fake.map[i].far, "map %zu is not given back", i);
    mrc_backend_free(fake.naive);
}

// The cpu's linear must reach a replaced gemm: once forward, twice backward.
static void test_derived(void) {
    derived_state state = {0};
    mrc_backend *be;
    mrc_ctx *ctx;
    double ones[12] = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    CHECK(derived_new(&be, &state) == MRC_OK, "derived");
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    mrc_tensor *x = test_tensor(
        ctx, mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, (size_t[]){ 3, 4 }, 1), ones);
    mrc_tensor *w = test_tensor(
        ctx, mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, (size_t[]){ 2, 4 }, 1), ones);
    mrc_tensor *b = test_tensor(
        ctx, mrc_tensor_new(ctx, MRC_DTYPE_F64, 1, (size_t[]){ 2 }, 1), ones);
    mrc_tensor *y = mrc_linear(ctx, x, w, b, MRC_ACT_GELU);
    CHECK(state.calls == 1, "%zu calls in forward", state.calls);
    CHECK(test_backward(ctx, y, ones) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(state.calls == 3, "%zu calls after backward", state.calls);
    mrc_ctx_free(ctx);
    mrc_backend_free(be);
    mrc_backend_free(state.naive);
}

// What a backend lacks is an error that names it, never a detour.
static void test_missing_kernel(void) {
    static fake_state fake;
    const size_t shape[2] = { 2, 3 };
    double dy[6] = {0};
    mrc_ctx *ctx;
    mrc_backend *be = fake_new(&fake);
    be->kernels[MRC_DTYPE_F32].activation_fwd = NULL;
    be->kernels[MRC_DTYPE_F64].activation_bwd = NULL;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    CHECK(!test_gelu(ctx, mrc_tensor_new(ctx, MRC_DTYPE_F32, 2, shape, 0)), "gelu without kernel");
    CHECK(mrc_ctx_status(ctx) == MRC_ERR_UNSUPPORTED, "%s", mrc_ctx_message(ctx));
    CHECK(!strcmp(mrc_ctx_message(ctx), "backend fake has no activation_fwd for f32"), "%s",
          mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    mrc_tensor *y = test_gelu(ctx, mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, shape, 1));
    CHECK(y && test_backward(ctx, y, dy) == MRC_ERR_UNSUPPORTED, "%s", mrc_ctx_message(ctx));
    CHECK(!strcmp(mrc_ctx_message(ctx), "backend fake has no activation_bwd for f64"), "%s",
          mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    memset(&be->kernels[MRC_DTYPE_BF16], 0, sizeof be->kernels[MRC_DTYPE_BF16]);
    CHECK(!test_gelu(ctx, mrc_tensor_new(ctx, MRC_DTYPE_BF16, 2, shape, 0)), "bf16 has no kernels");
    CHECK(mrc_ctx_status(ctx) == MRC_ERR_UNSUPPORTED, "%s", mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    mrc_backend_free(fake.naive);
}

static void keep_message(void *user, mrc_status status, const char *message) {
    snprintf(user, 200, "%d %s", (int)status, message);
}

static void test_refused(void) {
    char text[200] = "";
    mrc_ctx *ctx;
    mrc_backend *be;
    mrc_ctx_desc desc = { .log = keep_message, .log_user = text };
    CHECK(mrc_backend_naive_new(&be, NULL) == MRC_OK, "naive");
    CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK && ctx, "a context for text has no backend");
    CHECK(!mrc_tensor_new(ctx, MRC_DTYPE_F32, 0, NULL, 0), "a tensor on no backend");
    CHECK(strstr(text, "no backend") != NULL, "%s", text);
    mrc_ctx_free(ctx);
    desc.backend = be;
    be->api = 99;
    CHECK(mrc_ctx_new(&ctx, &desc) == MRC_ERR_UNSUPPORTED && !ctx, "a wrong API number");
    char api[40];
    snprintf(api, sizeof api, "API 99, library's %d", MRC_BACKEND_API);
    CHECK(strstr(text, api) != NULL, "%s", text);
    be->api = MRC_BACKEND_API;
    be->size -= 8;
    CHECK(mrc_ctx_new(&ctx, &desc) == MRC_ERR_UNSUPPORTED && !ctx, "a wrong size");
    CHECK(strstr(text, "another size") != NULL, "%s", text);
    be->size += 8;
    desc.allocator.alloc = failing_alloc;
    CHECK(mrc_ctx_new(&ctx, &desc) == MRC_ERR_ARG && !ctx, "alloc without free");
    CHECK(mrc_ctx_new(NULL, &desc) == MRC_ERR_ARG, "nowhere to put it");
    CHECK(mrc_ctx_new(&ctx, NULL) == MRC_OK && ctx, "no desc: all default");
    mrc_ctx_free(ctx);
    mrc_backend_free(be);
    mrc_backend_free(NULL);
}

// Everything from backend to a second step, with one allocator for all of it.
static mrc_status whole_life(failing *f, model_mode mode, mrc_isa isa, int full) {
    const mrc_allocator hooks = failing_hooks(f);
    mrc_backend *be = NULL;
    mrc_ctx *ctx = NULL;
    model m = {0};
    mrc_status s = isa == MRC_ISA_AUTO
        ? mrc_backend_naive_new(&be, &(mrc_backend_desc){ .allocator = hooks })
        : mrc_backend_cpu_new(&be, &(mrc_backend_desc){ .allocator = hooks, .isa = isa,
                                                        .threads = (size_t)full + 1 });
    if (s == MRC_OK) s = model_make(&m, be, &hooks, MRC_DTYPE_F32, full);
    mrc_ctx_desc desc = { .backend = be, .allocator = hooks, .step_chunk_bytes = 2048 };
    if (s == MRC_OK) s = mrc_ctx_new(&ctx, &desc);
    if (s == MRC_OK) s = model_step(ctx, be, &m, mode, NULL);
    if (s == MRC_OK) mrc_grad_clear(ctx);
    if (s == MRC_OK) s = model_step(ctx, be, &m, mode, NULL);
    mrc_ctx_free(ctx);
    mrc_params_free(m.params);
    mrc_backend_free(be);
    return s;
}

// The k-th allocation fails, for every k.
static void test_allocation_failures(int full) {
    const mrc_isa isa[] = { MRC_ISA_AUTO, MRC_ISA_BASELINE };
    long swept = 0, wrong = 0, leaks = 0;
    for (int mode = PLAIN; mode <= NESTED; mode += full ? 2 : 1) {
        for (int variant = 0; variant < 4; variant++) {
            for (long k = 0; ; k++) {
                failing f = { .fail_at = k, .from_then_on = variant / 2 };
                mrc_status s = whole_life(&f, (model_mode)mode, isa[variant % 2], full);
                leaks += f.live != 0;
                if (f.calls <= k) {
                    CHECK(s == MRC_OK, "no allocation failed: %s", mrc_status_string(s));
                    break;
                }
                // One chunk that cannot be had may be followed by a smaller one that can.
                wrong += s != MRC_ERR_MEM && (f.from_then_on || s != MRC_OK);
                swept++;
            }
        }
    }
    printf("%ld failing allocations swept, %s model\n", swept, full ? "full" : "small");
    CHECK(wrong == 0, "%ld failed allocations gave another status", wrong);
    CHECK(leaks == 0, "%ld runs leak", leaks);
    CHECK(swept > 1000, "only %ld allocations failed", swept);
}

int main(void) {
    mrc_backend *naive, *cpu;
    CHECK(mrc_backend_naive_new(&naive, NULL) == MRC_OK, "naive");
    CHECK(mrc_backend_cpu_new(&cpu, NULL) == MRC_OK, "cpu");
    derived_state derived = {0};
    mrc_backend *query;
    CHECK(derived_new(&query, &derived) == MRC_OK, "derived");
    for (int full = 0; full < 2; full++) {
        test_memory_plan(naive, MRC_DTYPE_F32, full);
        test_memory_plan(cpu, MRC_DTYPE_F32, full);
        test_memory_plan(cpu, MRC_DTYPE_F64, full);
        test_memory_plan(query, MRC_DTYPE_F32, full);
        test_extent(cpu, full);
        test_extent(query, full);
        test_fake_device(naive, full);
        test_allocation_failures(full);
    }
    test_extent_of_anything(naive);
    test_growth(naive);
    test_mixed_precision(naive);
    mrc_backend_free(query);
    mrc_backend_free(derived.naive);
    test_flops(naive);
    test_derived();
    test_missing_kernel();
    test_refused();
    mrc_backend_free(cpu);
    mrc_backend_free(naive);
    return test_end();
}
