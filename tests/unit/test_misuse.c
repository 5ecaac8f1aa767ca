// What callers do wrong with tensors, the tape and the optimizer, each of which once went unseen or
// gave wrong numbers with MRC_OK: it is refused with a text, or right.
#include "../support/backends.h"

static mrc_ctx *context(mrc_backend *be) {
    mrc_ctx *ctx = NULL;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    return ctx;
}

static mrc_tensor *tensor(mrc_ctx *ctx, mrc_dtype dtype, size_t rows, size_t columns, int grad) {
    double values[256];
    const size_t shape[2] = { rows, columns };
    for (size_t i = 0; i < rows * columns; i++) values[i] = test_random();
    return test_tensor(ctx, mrc_tensor_new(ctx, dtype, 2, shape, grad), values);
}

static void refused(mrc_ctx *ctx, int was, const char *text) {
    CHECK(was && strstr(mrc_ctx_message(ctx), text), "found \"%s\", expected \"%s\"",
          mrc_ctx_message(ctx), text);
    mrc_ctx_reset(ctx);
    mrc_grad_clear(ctx);
    mrc_ctx_clear_error(ctx);
}

// The gradient of logits of a weighted loss whose weights an op made; dropped: they were dropped
// before backward, which needs them.
static void weighted(mrc_backend *be, int dropped, double *dx) {
    const int32_t cu[] = { 0, 3 }, start = 1;
    const double ones = 1;
    mrc_batch batch;
    mrc_ctx *ctx = context(be);
    test_seed("weighted");
    mrc_batch_desc desc = { .n_sequences = 1, .cu_seqlens = cu, .start_positions = &start,
                            .end_positions = &start };
    CHECK(mrc_batch_new(ctx, &batch, &desc) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_tensor *x = tensor(ctx, MRC_DTYPE_F64, 3, 1, 1);
    mrc_tensor *made = tensor(ctx, MRC_DTYPE_F64, 4, 1, 1);
    mrc_tensor *alpha = test_gelu(ctx, made);
    const size_t one = 1;
    mrc_tensor *share = test_tensor(ctx, mrc_tensor_new(ctx, MRC_DTYPE_F64, 1, &one, 0), &ones);
    mrc_tensor *target = mrc_tensor_new(ctx, MRC_DTYPE_I32, 1, &one, 0);
    mrc_tensor_upload(ctx, target, &start);
    mrc_tensor *y = mrc_weighted_loss(ctx, x, target, share, alpha, &(mrc_loss){0}, &batch);
    if (dropped) mrc_drop(ctx, alpha);
    CHECK(alpha && (alpha->data == NULL) == dropped, "alpha was %s", dropped ? "kept" : "dropped");
    CHECK(mrc_backward(ctx, y, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    test_read(be, MRC_DTYPE_F64, mrc_grad(ctx, x), 3, dx);
    mrc_ctx_free(ctx);
}

static void test_dropped(mrc_backend *be) {
    double kept[3], dropped[3];
    weighted(be, 0, kept);
    weighted(be, 1, dropped);
    CHECK(!memcmp(kept, dropped, sizeof kept), "what backward reads was dropped: %g %g %g, not %g "
          "%g %g", dropped[0], dropped[1], dropped[2], kept[0], kept[1], kept[2]);
}

// More inputs than a mask has bits: the last of 40 is dropped and comes again.
static mrc_tensor *last_of(mrc_ctx *ctx, void *user, mrc_tensor *const *in, size_t n) {
    (void)user;
    return test_gelu(ctx, in[n - 1]);
}
static void test_many_inputs(mrc_backend *be) {
    enum { N = 40 };
    mrc_tensor *x[N], *in[N];
    double dy[4] = { 1, 2, 3, 4 };
    mrc_ctx *ctx = context(be);
    for (int i = 0; i < N; i++) {
        x[i] = tensor(ctx, MRC_DTYPE_F64, 2, 2, 1);
        in[i] = test_gelu(ctx, x[i]);
    }
    mrc_tensor *y = mrc_checkpointed(ctx, last_of, NULL, in, N);
    mrc_drop(ctx, in[N - 1]);
    CHECK(test_backward(ctx, y, dy) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_grad(ctx, x[N - 1]) != NULL, "the last input has no gradient");
    mrc_ctx_free(ctx);
}

static mrc_status nothing(mrc_ctx *ctx, void *user, const mrc_custom_call *call) {
    (void)ctx; (void)user; (void)call;
    return MRC_OK;
}
static void test_custom(mrc_backend *be) {
    const mrc_custom_desc desc = { .name = "late", .backward = nothing };
    mrc_ctx *ctx = context(be);
    mrc_tensor *x = tensor(ctx, MRC_DTYPE_F64, 2, 2, 1), *out = tensor(ctx, MRC_DTYPE_F64, 2, 2, 1);
    CHECK(test_gelu(ctx, out) != NULL, "%s", mrc_ctx_message(ctx));
    refused(ctx, !mrc_custom(ctx, &desc, out, &x, 1), "has read out already");
    out = tensor(ctx, MRC_DTYPE_F64, 2, 2, 0);
    refused(ctx, !mrc_custom(ctx, &desc, out, &out, 1), "input 0 is out itself");
    mrc_ctx_free(ctx);
}

static void test_seeds(mrc_backend *be) {
    const size_t one[2] = { 1, 1 };
    const double half = 0.5;
    mrc_ctx *ctx = context(be);
    mrc_tensor *x = test_tensor(ctx, mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, one, 1), &half);
    mrc_tensor *y = test_gelu(ctx, x);
    CHECK(mrc_grad_seed(ctx, y, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    refused(ctx, mrc_grad_seed(ctx, y, NULL) == MRC_ERR_ARG, "has a gradient already");
    mrc_ctx_free(ctx);
}

// Parameters that are freed and made again get the addresses of the old ones: their gradients are
// their own.  A k-fold loop in one process is that program.
static void test_addresses(mrc_backend *be) {
    mrc_ctx *ctx = context(be);
    const size_t sizes[] = { 2, 60, 2 };
    size_t reused = 0;
    const void *before = NULL;
    for (int k = 0; k < 3; k++) {
        mrc_params *params = NULL;
        mrc_tensor *w = NULL;
        const size_t shape[2] = { sizes[k], 2 };
        double values[256], dy[256];
        CHECK(mrc_params_new(&params, be, NULL) == MRC_OK, "params");
        CHECK(mrc_param_new(params, &w, "w", MRC_DTYPE_F64, 2, shape) == MRC_OK, "w");
        for (size_t i = 0; i < w->numel; i++) values[i] = dy[i] = 1;
        test_tensor(ctx, w, values);
        CHECK(!mrc_grad(ctx, w), "a new parameter has a gradient");
        CHECK(test_backward(ctx, test_gelu(ctx, w), dy) == MRC_OK, "%s", mrc_ctx_message(ctx));
        const mrc__block *b = mrc__arena_find(&ctx->grads, mrc_grad(ctx, w));
        CHECK(b && b->bytes >= w->numel * sizeof(double), "a gradient of %zu bytes for %zu",
              b ? b->bytes : 0, w->numel * sizeof(double));
        reused += before == w;
        before = w;
        mrc_ctx_reset(ctx);
        mrc_params_free(params);
    }
    mrc_grad_forget(ctx);
    CHECK(mrc_ctx_memory(ctx).grads == 0, "%zu bytes of gradients", mrc_ctx_memory(ctx).grads);
    if (!reused) test_skip("malloc gave no address twice");
    mrc_ctx_free(ctx);
}

// A list of parameters of the given types.
static mrc_params *list(mrc_backend *be, mrc_dtype first, mrc_dtype second) {
    mrc_params *params = NULL;
    mrc_tensor *t;
    const size_t n = 3;
    CHECK(mrc_params_new(&params, be, NULL) == MRC_OK, "params");
    CHECK(mrc_param_new(params, &t, "a", first, 1, &n) == MRC_OK, "a");
    CHECK(mrc_param_new(params, &t, "b", second, 1, &n) == MRC_OK, "b");
    return params;
}

static void test_optimizer(mrc_backend *be) {
    static const struct { size_t at; double value; mrc_optim variant; const char *text; } bad[] = {
        { offsetof(mrc_optimizer_config, eps), 0, MRC_ADAMW_TORCH, "eps is 0" },
        { offsetof(mrc_optimizer_config, eps), 0, MRC_ADAMP, "eps is 0" },
        { offsetof(mrc_optimizer_config, beta1), 1, MRC_ADAMW_HF, "beta1 is 1" },
        { offsetof(mrc_optimizer_config, beta2), -0.5, MRC_ADAMW_TORCH, "beta2 is -0.5" },
        { offsetof(mrc_optimizer_config, beta2), NAN, MRC_ADAMP, "beta2 is " },
        { offsetof(mrc_optimizer_config, delta), -1, MRC_ADAMP, "delta is -1" },
        { offsetof(mrc_optimizer_config, momentum), 1, MRC_SGD, "momentum is 1" },
        { offsetof(mrc_optimizer_config, weight_decay), -1, MRC_SGD, "weight_decay is -1" },
        { offsetof(mrc_optimizer_config, max_grad_norm), NAN, MRC_SGD, "max_grad_norm is " },
        { offsetof(mrc_optimizer_config, beta1), 0.9, (mrc_optim)9, "unknown variant 9" } };
    mrc_ctx *ctx = context(be);
    mrc_optimizer *o;
    mrc_params *params = list(be, MRC_DTYPE_F32, MRC_DTYPE_F32);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mrc_optimizer_config c = mrc_optimizer_config_default();
        c.variant = bad[i].variant;
        memcpy((char *)&c + bad[i].at, &bad[i].value, sizeof bad[i].value);
        refused(ctx, mrc_optimizer_new(ctx, &o, params, &c) == MRC_ERR_ARG && !o, bad[i].text);
    }
    mrc_params_free(params);
    const mrc_optimizer_config c = mrc_optimizer_config_default();
    params = list(be, MRC_DTYPE_F64, MRC_DTYPE_F32);
    refused(ctx, mrc_optimizer_new(ctx, &o, params, &c) == MRC_ERR_ARG && !o, "a is f64, b is f32");
    mrc_params_free(params);
    mrc_ctx_free(ctx);
}

// Enums come from callers too.
static void test_enums(mrc_backend *be) {
    mrc_ctx *ctx = context(be);
    mrc_tensor *x = tensor(ctx, MRC_DTYPE_F64, 2, 3, 1), *w = tensor(ctx, MRC_DTYPE_F64, 2, 3, 1);
    mrc_tensor *b = tensor(ctx, MRC_DTYPE_F64, 1, 2, 1);
    refused(ctx, !mrc_linear(ctx, x, w, b, (mrc_act)7), "linear: unknown activation 7");
    x = tensor(ctx, MRC_DTYPE_F64, 2, 3, 1);
    refused(ctx, !mrc_activation(ctx, x, (mrc_act)-1), "activation: unknown activation -1");
    mrc_ctx_free(ctx);
}

// A matrix that one instance packed is refused by an instance of another kind.
static void test_packed(mrc_backend *naive) {
    static const mrc_isa isas[] = { MRC_ISA_BASELINE, MRC_ISA_AUTO };
    mrc_backend *be[2] = { NULL, NULL };
    mrc_params *params = NULL;
    mrc_tensor *w = NULL;
    float values[15];
    for (int i = 0; i < 15; i++) values[i] = (float)i;
    for (int k = 0; k < 2; k++) {
        mrc_backend_desc desc = { .isa = isas[k], .threads = 1 };
        CHECK(mrc_backend_cpu_new(&be[k], &desc) == MRC_OK, "cpu");
    }
    CHECK(mrc_params_new(&params, be[0], NULL) == MRC_OK, "params");
    CHECK(mrc_param_packed_new(params, &w, "w", MRC_DTYPE_F32, 3, 5) == MRC_OK, "packed");
    mrc_ctx *own = context(be[0]);
    CHECK(mrc_tensor_upload(own, w, values) == MRC_OK, "%s", mrc_ctx_message(own));
    mrc_backend *others[2] = { naive, be[1] };
    for (int k = 0; k < 2; k++) {
        if (!strcmp(others[k]->isa, be[0]->isa)) {
            test_skip("one instruction set only");
            continue;
        }
        mrc_ctx *ctx = context(others[k]);
        mrc_no_grad(ctx, 1);
        mrc_tensor *x = tensor(ctx, MRC_DTYPE_F32, 2, 5, 0);
        mrc_tensor *b = tensor(ctx, MRC_DTYPE_F32, 1, 3, 0);
        refused(ctx, !mrc_linear(ctx, x, w, b, MRC_ACT_NONE), "was packed for cpu baseline");
        refused(ctx, mrc_tensor_upload(ctx, w, values) == MRC_ERR_ARG, "was packed for cpu");
        mrc_ctx_free(ctx);
    }
    mrc_ctx_free(own);
    mrc_params_free(params);
    for (int k = 0; k < 2; k++) mrc_backend_free(be[k]);
}

int main(void) {
    mrc_backend *be[2];
    CHECK(mrc_backend_naive_new(&be[0], NULL) == MRC_OK, "naive");
    CHECK(mrc_backend_cpu_new(&be[1], &(mrc_backend_desc){ .threads = 2 }) == MRC_OK, "cpu");
    for (int k = 0; k < 2; k++) {
        test_dropped(be[k]);
        test_many_inputs(be[k]);
        test_custom(be[k]);
        test_seeds(be[k]);
        test_addresses(be[k]);
        test_optimizer(be[k]);
        test_enums(be[k]);
    }
    test_packed(be[0]);
    for (int k = 0; k < 2; k++) mrc_backend_free(be[k]);
    return test_end();
}
