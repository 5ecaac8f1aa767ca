// Contract C: who owns gradients, when memory returns, what marks, checkpoints and custom nodes do.
// tags: threads
#include "../support/backends.h"
#include "../support/model.h"
#include <pthread.h>

static mrc_ctx *context(mrc_backend *be) {
    mrc_ctx *ctx = NULL;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .step_chunk_bytes = 4096 }) == MRC_OK,
          "context");
    return ctx;
}

static mrc_tensor *leaf(mrc_ctx *ctx, mrc_dtype dtype, size_t rows, size_t columns) {
    double values[256];
    for (size_t i = 0; i < rows * columns; i++) values[i] = test_random();
    return test_tensor(ctx, mrc_tensor_new(ctx, dtype, 2, (size_t[]){ rows, columns }, 1), values);
}

// NaN in the old gradient must not show: the first writer overwrites, the second adds.
static void test_overwrite_first(mrc_backend *be, model *m) {
    static double once[MODEL_NUMBERS], again[MODEL_NUMBERS];
    mrc_ctx *ctx = context(be);
    size_t n = model_numbers(m);
    CHECK(model_step(ctx, be, m, PLAIN, once) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_grad_clear(ctx);
    CHECK(mrc_grad(ctx, m->p[W1]) == NULL, "a cleared gradient is still there");
    for (int i = 0; i < m->n; i++) {
        mrc__grad *g = *mrc__grad_slot(ctx, m->p[i]);
        memset(g->data, 0xff, m->p[i]->numel * mrc_dtype_bytes(m->dtype));
    }
    CHECK(model_step(ctx, be, m, PLAIN, again) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(!memcmp(once, again, n * sizeof *once), "old contents leak into the gradient");
    CHECK(model_step(ctx, be, m, PLAIN, again) == MRC_OK, "%s", mrc_ctx_message(ctx));
    for (size_t i = 1; i < n; i++) once[i] *= 2;
    CHECK(test_error(again, once, n) < 1e-14, "micro-batches do not add up");
    mrc_ctx_free(ctx);
}

// After backward only what the user can still name is live; after a reset nothing is.
static void test_release(mrc_backend *be, model *m) {
    layer_ref refs[LAYERS];
    mrc_ctx *ctx = context(be);
    size_t reserved = 0, peak = 0;
    for (int step = 0; step < 3; step++) {
        mrc_tensor *loss = model_loss(ctx, m, refs, PLAIN);
        size_t forward = mrc_ctx_memory(ctx).step_live;
        CHECK(mrc_backward(ctx, loss, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
        size_t after = mrc_ctx_memory(ctx).step_live, saved = 0;
        saved += LAYERS * (MODEL_TOKENS * INNER * sizeof(double));              // z: 2496
        saved += LAYERS * 2 * 128;                                              // mean, rstd: 104
        saved += 64;                                                            // lse
        CHECK(forward - after == saved, "%zu bytes released, %zu saved", forward - after, saved);
        CHECK(!mrc_grad(ctx, loss) && mrc_grad(ctx, m->p[W1]), "gradients after backward");
        CHECK(ctx->tape == NULL, "backward leaves nodes on the tape");
        CHECK(mrc_backward(ctx, loss, NULL) == MRC_ERR_ARG, "a second backward");
        mrc_ctx_clear_error(ctx);
        mrc_ctx_reset(ctx);
        mrc_memory memory = mrc_ctx_memory(ctx);
        CHECK(memory.step_live == 0, "%zu bytes survive a reset", memory.step_live);
        CHECK(step == 0 || (memory.step_reserved == reserved && memory.step_peak == peak),
              "step %d needs more memory than the one before", step);
        reserved = memory.step_reserved;
        peak = memory.step_peak;
    }
    mrc_ctx_free(ctx);
}

// y = W (W x + b) + b: the weight's gradient has two terms, checked against differences.
static void test_shared_weight(mrc_backend *be) {
    mrc_ctx *ctx = context(be);
    double w[9], x[6], b[3], dy[6], dw[9], y[6], loss[2];
    for (int i = 0; i < 9; i++) w[i] = test_random();
    for (int i = 0; i < 6; i++) { x[i] = test_random(); dy[i] = test_random(); }
    for (int i = 0; i < 3; i++) b[i] = test_random();
    for (int j = -1; j < 18; j++) {                     // -1: the gradient; then each element +- h
        double changed[9];
        memcpy(changed, w, sizeof w);
        if (j >= 0) changed[j / 2] += j % 2 ? -1e-6 : 1e-6;
        mrc_tensor *tw = test_tensor(ctx, leaf(ctx, MRC_DTYPE_F64, 3, 3), changed);
        mrc_tensor *tx = test_tensor(ctx, leaf(ctx, MRC_DTYPE_F64, 2, 3), x);
        mrc_tensor *tb = test_tensor(ctx, leaf(ctx, MRC_DTYPE_F64, 1, 3), b);
        mrc_tensor *h = mrc_linear(ctx, tx, tw, tb, MRC_ACT_NONE);
        mrc_tensor *out = mrc_linear(ctx, h, tw, tb, MRC_ACT_NONE);
        test_read(be, MRC_DTYPE_F64, out->data, 6, y);
        if (j < 0) {
            CHECK(test_backward(ctx, out, dy) == MRC_OK, "%s", mrc_ctx_message(ctx));
            test_read(be, MRC_DTYPE_F64, mrc_grad(ctx, tw), 9, dw);
        } else {
            loss[j % 2] = 0;
            for (int i = 0; i < 6; i++) loss[j % 2] += y[i] * dy[i];
        }
        if (j % 2 == 1) {
            double e = fabs((loss[0] - loss[1]) / 2e-6 - dw[j / 2]);
            CHECK(e < 1e-7, "dW[%d] off by %g", j / 2, e);
        }
        mrc_ctx_reset(ctx);
    }
    mrc_ctx_free(ctx);
}

// Weights know no context: two contexts, each with a backend, interleaved, and one freed early.
static void test_two_contexts(mrc_backend *be, model *m) {
    static double alone[MODEL_NUMBERS], first[MODEL_NUMBERS], second[MODEL_NUMBERS];
    layer_ref refs[2][LAYERS];
    mrc_backend *other_be;
    size_t n = model_numbers(m);
    CHECK(mrc_backend_naive_new(&other_be, NULL) == MRC_OK, "second backend");
    mrc_ctx *a = context(be), *b = context(other_be);
    CHECK(model_step(a, be, m, PLAIN, alone) == MRC_OK, "%s", mrc_ctx_message(a));
    mrc_grad_clear(a);
    model in_b = *m;                                    // the batch differs, the weights do not
    mrc_tensor *loss_a = model_loss(a, m, refs[0], PLAIN);
    mrc_tensor *loss_b = model_loss(b, &in_b, refs[1], PLAIN);
    CHECK(mrc_backward(b, loss_b, NULL) == MRC_OK, "%s", mrc_ctx_message(b));
    CHECK(mrc_grad(a, m->p[W1]) == NULL, "b's backward wrote a's gradient");
    CHECK(mrc_grad(b, m->p[W1]) != NULL, "b has no gradient");
    mrc_ctx_reset(b);
    mrc_grad_clear(b);
    CHECK(model_step(b, other_be, &in_b, PLAIN, second) == MRC_OK, "%s", mrc_ctx_message(b));
    mrc_ctx_free(b);
    CHECK(mrc_backward(a, loss_a, NULL) == MRC_OK, "%s", mrc_ctx_message(a));
    mrc_ctx_reset(a);
    mrc_grad_clear(a);
    CHECK(model_step(a, be, m, PLAIN, first) == MRC_OK, "%s", mrc_ctx_message(a));
    CHECK(!memcmp(alone, first, n * sizeof *alone), "another context changed a's gradients");
    CHECK(!memcmp(alone, second, n * sizeof *alone), "contexts differ");
    mrc_ctx_free(a);
    mrc_backend_free(other_be);
}

// The same from two threads; run.sh has ThreadSanitizer watch them.
typedef struct worker { model m; mrc_status status; double got[MODEL_NUMBERS]; } worker;

static void *work(void *user) {
    worker *w = user;
    mrc_backend *be;
    mrc_ctx *ctx;
    w->status = mrc_backend_cpu_new(&be, NULL);
    if (w->status != MRC_OK) return NULL;
    w->status = mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be });
    for (int step = 0; step < 3 && w->status == MRC_OK; step++) {
        mrc_grad_clear(ctx);
        w->status = model_step(ctx, be, &w->m, step ? CHECKPOINTED : PLAIN, w->got);
    }
    mrc_ctx_free(ctx);
    mrc_backend_free(be);
    return NULL;
}

static void test_two_threads(model *m) {
    static worker alone, pair[2];
    pthread_t thread[2];
    alone.m = pair[0].m = pair[1].m = *m;       // copies of the handles: the weights are shared
    work(&alone);
    for (int i = 0; i < 2; i++) CHECK(!pthread_create(&thread[i], NULL, work, &pair[i]), "thread");
    for (int i = 0; i < 2; i++) {
        CHECK(!pthread_join(thread[i], NULL) && pair[i].status == MRC_OK, "thread %d", i);
        CHECK(!memcmp(alone.got, pair[i].got, sizeof alone.got), "thread %d: other bits", i);
    }
}

static void test_no_grad(mrc_backend *be, model *m) {
    layer_ref refs[LAYERS];
    double with = 0, without = 1;
    mrc_ctx *ctx = context(be);
    mrc_tensor *loss = model_loss(ctx, m, refs, PLAIN);
    test_read(be, m->dtype, loss->data, 1, &with);
    size_t recorded = mrc_ctx_memory(ctx).step_live;
    mrc_ctx_reset(ctx);
    CHECK(mrc_no_grad(ctx, 1) == 0, "the mode before");
    loss = model_loss(ctx, m, refs, PLAIN);
    test_read(be, m->dtype, loss->data, 1, &without);
    CHECK(with == without, "no-grad changes the result");
    CHECK(ctx->tape == NULL && !loss->requires_grad, "no-grad records");
    CHECK(mrc_ctx_memory(ctx).step_live < recorded, "no-grad saves for backward");
    CHECK(mrc_backward(ctx, loss, NULL) == MRC_ERR_ARG, "backward without a tape");
    CHECK(mrc_no_grad(ctx, 0) == 1, "the mode before");
    mrc_ctx_free(ctx);
}

// Work after a mark that is rewound leaves no trace; backward in pieces is backward.
static void test_marks(mrc_backend *be) {
    double whole[24], pieces[24];
    mrc_ctx *ctx = context(be);
    for (int round = 0; round < 2; round++) {
        test_rng = 11;
        mrc_tensor *x = leaf(ctx, MRC_DTYPE_F64, 4, 6), *w = leaf(ctx, MRC_DTYPE_F64, 6, 6);
        mrc_tensor *b = leaf(ctx, MRC_DTYPE_F64, 1, 6);
        mrc_tensor *h = mrc_linear(ctx, x, w, b, MRC_ACT_GELU);
        size_t live = mrc_ctx_memory(ctx).step_live;
        for (int i = 0; round && i < 3; i++) {
            mrc_mark outer = mrc_tape_mark(ctx);
            mrc_tensor *lost = test_gelu(ctx, mrc_linear(ctx, h, w, b, MRC_ACT_GELU));
            mrc_mark inner = mrc_tape_mark(ctx);
            CHECK(test_gelu(ctx, lost) != NULL, "%s", mrc_ctx_message(ctx));
            mrc_tape_rewind(ctx, inner);
            CHECK(lost->data && ctx->tape == lost->producer, "inner rewind reaches too far");
            mrc_tape_rewind(ctx, outer);
            CHECK(mrc_ctx_memory(ctx).step_live == live, "rewind leaves memory");
            CHECK(ctx->tape == h->producer, "rewind leaves nodes");
        }
        mrc_mark mark = mrc_tape_mark(ctx);
        mrc_tensor *y = test_gelu(ctx, mrc_linear(ctx, h, w, b, MRC_ACT_NONE));
        double dy[24];
        for (int i = 0; i < 24; i++) dy[i] = test_random();
        if (round == 0) {
            CHECK(test_backward(ctx, y, dy) == MRC_OK, "%s", mrc_ctx_message(ctx));
        } else {
            mrc_tensor *seed = test_tensor(ctx, mrc_tensor_new(ctx, y->dtype, 2, y->shape, 0), dy);
            CHECK(mrc_grad_seed(ctx, y, seed) == MRC_OK, "%s", mrc_ctx_message(ctx));
            CHECK(mrc_tape_backward(ctx, mark) == MRC_OK, "%s", mrc_ctx_message(ctx));
            CHECK(ctx->tape == h->producer && mrc_grad(ctx, h), "stops at the mark");
            mrc_tape_rewind(ctx, mark);                 // keeps the gradients of h, w and b
            CHECK(mrc_tape_backward(ctx, (mrc_mark){0}) == MRC_OK, "the rest");
        }
        test_read(be, MRC_DTYPE_F64, mrc_grad(ctx, x), 24, round ? pieces : whole);
        mrc_ctx_reset(ctx);
    }
    CHECK(!memcmp(whole, pieces, sizeof whole), "backward in pieces differs");
    mrc_ctx_free(ctx);
}

static void test_checkpointing(mrc_backend *be, model *m) {
    static double plain[MODEL_NUMBERS], got[MODEL_NUMBERS];
    size_t peak[3];
    for (int mode = PLAIN; mode <= NESTED; mode++) {
        mrc_ctx *ctx = context(be);
        mrc_ctx_set_random(ctx, (mrc_random){ .seed = 9, .step = 4 });
        CHECK(model_step(ctx, be, m, (model_mode)mode, mode ? got : plain) == MRC_OK, "mode %d: %s",
              mode, mrc_ctx_message(ctx));
        CHECK(model_step(ctx, be, m, (model_mode)mode, NULL) == MRC_OK, "again");
        peak[mode] = mrc_ctx_memory(ctx).step_peak;
        CHECK(mrc_ctx_memory(ctx).step_live == 0, "mode %d leaves memory", mode);
        CHECK(!mode || !memcmp(plain, got, model_numbers(m) * sizeof *got), "mode %d: other bits",
              mode);
        mrc_ctx_free(ctx);
    }
    CHECK(peak[CHECKPOINTED] < peak[PLAIN], "peak %zu, plain %zu", peak[CHECKPOINTED], peak[PLAIN]);
    printf("step arena peak on %s: plain %zu, checkpointed %zu, nested %zu bytes\n", be->name,
           peak[PLAIN], peak[CHECKPOINTED], peak[NESTED]);
}

// In no-grad mode a forward pass that drops what it has read needs the memory of one layer.
static void test_no_grad_depth(mrc_backend *be, model *m) {
    size_t peak[2][2];
    for (int segments = 0; segments < 2; segments++) {
        for (int deep = 0; deep < 2; deep++) {
            mrc_ctx *ctx = context(be);
            layer_ref ref = { m, 0 };
            mrc_no_grad(ctx, 1);
            CHECK(test_batch(ctx, &m->batch, 3, model_lengths, model_index) == MRC_OK, "batch");
            mrc_tensor *h = leaf(ctx, m->dtype, MODEL_TOKENS, HIDDEN);
            for (int i = 0; i < (deep ? 24 : 2); i++) {
                mrc_tensor *y = segments ? mrc_checkpointed(ctx, model_layer, &ref, &h, 1)
                                         : model_layer(ctx, &ref, &h, 1);
                CHECK(h->data != NULL, "a segment dropped its caller's tensor");
                mrc_drop(ctx, h);
                h = y;
            }
            CHECK(h && h->data, "%s", mrc_ctx_message(ctx));
            peak[segments][deep] = mrc_ctx_memory(ctx).step_peak;
            mrc_ctx_free(ctx);
        }
        CHECK(peak[segments][0] == peak[segments][1], "segments %d: 2 layers need %zu, 24 %zu",
              segments, peak[segments][0], peak[segments][1]);
    }
}

// One layer used twice, as ALBERT does: the second segment to run backward must add.
static void test_shared_segment(mrc_backend *be, model *m) {
    double plain[HIDDEN * INNER], got[HIDDEN * INNER], dy[MODEL_TOKENS * HIDDEN];
    for (int i = 0; i < MODEL_TOKENS * HIDDEN; i++) dy[i] = test_random();
    for (int round = 0; round < 2; round++) {
        mrc_ctx *ctx = context(be);
        layer_ref ref = { m, 0 };
        test_rng = 5;
        CHECK(test_batch(ctx, &m->batch, 3, model_lengths, model_index) == MRC_OK, "batch");
        mrc_tensor *h = leaf(ctx, m->dtype, MODEL_TOKENS, HIDDEN);
        for (int i = 0; i < 2; i++) {
            h = round ? mrc_checkpointed(ctx, model_layer, &ref, &h, 1)
                      : model_layer(ctx, &ref, &h, 1);
        }
        CHECK(test_backward(ctx, h, dy) == MRC_OK, "%s", mrc_ctx_message(ctx));
        test_read(be, m->dtype, mrc_grad(ctx, m->p[W1]), HIDDEN * INNER, round ? got : plain);
        mrc_ctx_free(ctx);
    }
    CHECK(!memcmp(plain, got, sizeof got), "a shared layer's gradient differs");
}

// A segment that keeps the dropout mask of each of its runs where the test can see it.
typedef struct witness { mrc_backend *be; mrc_batch batch; int runs; double mask[2][24]; } witness;

static mrc_tensor *witnessed(mrc_ctx *ctx, void *user, mrc_tensor *const *in, size_t n_in) {
    witness *w = user;
    (void)n_in;
    mrc_tensor *y = mrc_dropout(ctx, in[0], 0.5, mrc_site("w"), &w->batch);
    if (y && w->runs < 2) test_read(w->be, y->dtype, y->data, y->numel, w->mask[w->runs]);
    w->runs++;
    mrc_drop(ctx, in[0]);               // not its own: nothing happens
    mrc_ctx_set_random(ctx, (mrc_random){ .seed = 1, .step = 2, .pass = 1 });   // as R-Drop does
    return test_gelu(ctx, y);
}

static mrc_tensor *returns_input(mrc_ctx *ctx, void *user, mrc_tensor *const *in, size_t n_in) {
    (void)ctx; (void)user; (void)n_in;
    return in[0];
}

static void test_recomputed_masks(mrc_backend *be) {
    const int32_t length = 4, index = 3;
    double dy[24] = { 1, 2, 3 };
    witness w = { .be = be };
    mrc_ctx *ctx = context(be);
    CHECK(test_batch(ctx, &w.batch, 1, &length, &index) == MRC_OK, "batch");
    CHECK(w.batch.max_length == 4, "longest sequence %zu", w.batch.max_length);
    mrc_tensor *x = leaf(ctx, MRC_DTYPE_F64, 4, 6);
    mrc_ctx_set_random(ctx, (mrc_random){ .seed = 1, .step = 2 });
    mrc_tensor *y = mrc_checkpointed(ctx, witnessed, &w, &x, 1);
    mrc_ctx_set_random(ctx, (mrc_random){ .seed = 1, .step = 3 });  // backward must not see this
    CHECK(test_backward(ctx, y, dy) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(x->data != NULL, "a segment dropped its input");
    CHECK(w.runs == 2 && !memcmp(w.mask[0], w.mask[1], sizeof w.mask[0]), "other masks");
    CHECK(ctx->random.step == 3, "the context's random state was not put back");
    CHECK(!mrc_checkpointed(ctx, returns_input, NULL, &x, 1), "a segment that makes nothing");
    CHECK(mrc_ctx_status(ctx) == MRC_ERR_ARG, "%s", mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
}

// A user's op on the host: y = sum over i of (i + 1) * in[i], any number of inputs.
static mrc_status weighted_backward(mrc_ctx *ctx, void *user, const mrc_custom_call *call) {
    const double *dy = call->dy.data;
    (*(int *)user)++;
    mrc_tensor *scratch = test_gelu(ctx, call->in[0]);   // ops are allowed, and not recorded
    if (!scratch || scratch->requires_grad) return MRC_ERR_ARG;
    for (size_t i = 0; i < call->n_in; i++) {
        mrc_out dx;
        MRC__TRY(mrc_grad_target(ctx, call->in[i], &dx));
        double *to = dx.data;
        for (size_t j = 0; to && j < call->in[i]->numel; j++) {
            to[j] = (dx.accumulate ? to[j] : 0) + (double)(i + 1) * dy[j];
        }
    }
    return MRC_OK;
}

static mrc_status failing_backward(mrc_ctx *ctx, void *user, const mrc_custom_call *call) {
    (void)ctx; (void)user; (void)call;
    return MRC_ERR_NUMERIC;
}

static mrc_tensor *weighted_sum(mrc_ctx *ctx, mrc_tensor *const *in, size_t n, int *calls) {
    mrc_tensor *y = mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, in[0]->shape, 0);
    for (size_t j = 0; y && j < y->numel; j++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += (double)(i + 1) * ((const double *)in[i]->data)[j];
        ((double *)y->data)[j] = sum;
    }
    const mrc_custom_desc desc = { "weighted_sum", weighted_backward, calls };
    return mrc_custom(ctx, &desc, y, in, n);
}

static void test_custom(mrc_backend *be) {
    int calls = 0;
    double dy[6] = { 1, -2, 3, -4, 5, -6 }, dx[6];
    mrc_ctx *ctx = context(be);
    mrc_tensor *x = leaf(ctx, MRC_DTYPE_F64, 2, 3);
    mrc_tensor *frozen = mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, x->shape, 0);
    mrc_tensor *in[] = { x, test_tensor(ctx, frozen, dy), x, x, x };    // x at 1, 3, 4 and 5
    mrc_tensor *y = weighted_sum(ctx, in, 5, &calls);
    size_t live = mrc_ctx_memory(ctx).step_live;
    CHECK(test_backward(ctx, y, dy) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_ctx_memory(ctx).step_live == live + 2 * 64, "more than dy and dx stays");
    test_read(be, MRC_DTYPE_F64, mrc_grad(ctx, x), 6, dx);
    for (int i = 0; i < 6; i++) CHECK(dx[i] == 13 * dy[i], "dx[%d] = %g", i, dx[i]);
    CHECK(calls == 1 && !mrc_grad(ctx, frozen), "a gradient that nobody wants");
    CHECK(mrc_custom(ctx, &(mrc_custom_desc){ "fails", failing_backward, NULL },
                     mrc_tensor_new(ctx, MRC_DTYPE_F64, 0, NULL, 0), &x, 1) != NULL, "custom");
    mrc_tensor *bad = ctx->tape->out;
    CHECK(mrc_backward(ctx, bad, NULL) == MRC_ERR_NUMERIC, "%s", mrc_ctx_message(ctx));
    CHECK(strstr(mrc_ctx_message(ctx), "fails") != NULL, "%s", mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
}

// Dropping the inner activation changes the peak and nothing else.
static void test_drop(mrc_backend *be) {
    double kept[64], dropped[64];
    size_t live[2];
    for (int drop = 0; drop < 2; drop++) {
        mrc_ctx *ctx = context(be);
        test_rng = 3;
        mrc_tensor *x = leaf(ctx, MRC_DTYPE_F64, 8, 8), *w = leaf(ctx, MRC_DTYPE_F64, 8, 8);
        mrc_tensor *b = leaf(ctx, MRC_DTYPE_F64, 1, 8);
        mrc_tensor *h = mrc_linear(ctx, x, w, b, MRC_ACT_NONE), *a = test_gelu(ctx, h);
        mrc_tensor *y = mrc_linear(ctx, a, w, b, MRC_ACT_NONE);
        if (drop) mrc_drop(ctx, a);
        CHECK(!drop == (a->data != NULL), "drop %d", drop);
        live[drop] = mrc_ctx_memory(ctx).step_live;
        CHECK(mrc_backward(ctx, test_gelu(ctx, y), x) == MRC_OK, "%s", mrc_ctx_message(ctx));
        test_read(be, MRC_DTYPE_F64, mrc_grad(ctx, w), 64, drop ? dropped : kept);
        CHECK(!drop || !a->data, "a recomputed tensor stays");
        mrc_ctx_free(ctx);
    }
    CHECK(!memcmp(kept, dropped, sizeof kept), "recomputation changes the gradient");
    CHECK(live[1] + 512 == live[0], "dropping frees %zu", live[0] - live[1]);
    mrc_ctx *ctx = context(be);
    mrc_tensor *x = leaf(ctx, MRC_DTYPE_F64, 2, 2), *h = test_gelu(ctx, x), *a = test_gelu(ctx, h);
    CHECK(test_gelu(ctx, a) != NULL, "a reader, whose backward wants a");
    mrc_drop(ctx, x);
    mrc_no_grad(ctx, 1);
    mrc_drop(ctx, x);                   // not even here: a recorded op read it
    mrc_no_grad(ctx, 0);
    CHECK(x->data != NULL, "a leaf cannot be made again");
    mrc_drop(ctx, a);
    mrc_drop(ctx, h);
    CHECK(!a->data && h->data && mrc_ctx_status(ctx) == MRC_OK, "no chains");
    CHECK(test_gelu(ctx, a) == NULL, "an op read a dropped tensor");
    mrc_ctx_free(ctx);
}

// A dropped result of linear with GELU is made from z: no matrix product, and the same bits.  What
// only a matrix product could make again stays, and a leaf that a recorded op reads stays.
static void test_drop_is_cheap(void) {
    derived_state state = {0};
    mrc_backend *derived;
    double got[2][64];
    CHECK(derived_new(&derived, &state) == MRC_OK, "derived");
    for (int round = 0; round < 4; round++) {
        int dtype = round % 2 ? MRC_DTYPE_F64 : MRC_DTYPE_F32;
        mrc_backend *be = round < 2 ? derived : state.naive;
        for (int drop = 0; drop < 2; drop++) {
            mrc_ctx *ctx = context(be);
            test_rng = 3;
            state.calls = 0;
            mrc_tensor *x = leaf(ctx, (mrc_dtype)dtype, 8, 8);
            mrc_tensor *w = leaf(ctx, (mrc_dtype)dtype, 8, 8);
            mrc_tensor *b = leaf(ctx, (mrc_dtype)dtype, 1, 8);
            mrc_tensor *n = mrc_layer_norm(ctx, x, b, b, 1e-5);
            mrc_tensor *a = mrc_linear(ctx, n, w, b, MRC_ACT_GELU);
            mrc_tensor *y = mrc_linear(ctx, a, w, b, MRC_ACT_NONE), *z = test_gelu(ctx, y);
            for (int i = 0; drop && i < 2; i++) {       // twice: the second time is nothing
                mrc_drop(ctx, n);
                mrc_drop(ctx, a);
                mrc_drop(ctx, y);
                mrc_no_grad(ctx, 1);
                mrc_drop(ctx, x);
                mrc_no_grad(ctx, 0);
            }
            CHECK(x->data && y->data && !drop == (n->data && a->data), "what a drop takes");
            CHECK(mrc_backward(ctx, z, x) == MRC_OK, "%s", mrc_ctx_message(ctx));
            CHECK(state.calls == (be == derived ? 6 : 0), "%zu matrix products", state.calls);
            test_read(be, (mrc_dtype)dtype, mrc_grad(ctx, w), 64, got[drop]);
            mrc_ctx_free(ctx);
        }
        CHECK(!memcmp(got[0], got[1], sizeof got[0]), "a drop changes the gradient");
    }
    mrc_backend_free(derived);
    mrc_backend_free(state.naive);
}

// Marks out of order, and a custom node whose output is older than the mark: nothing dangles.
static void test_stale_marks(mrc_backend *be) {
    double dy[4] = { 1, 2, 3, 4 };
    int calls = 0;
    mrc_ctx *ctx = context(be);
    mrc_tensor *x = leaf(ctx, MRC_DTYPE_F64, 2, 2), *w = leaf(ctx, MRC_DTYPE_F64, 2, 2);
    mrc_tensor *b = leaf(ctx, MRC_DTYPE_F64, 1, 2);
    mrc_tensor *h = mrc_linear(ctx, x, w, b, MRC_ACT_GELU);
    mrc_mark mark = mrc_tape_mark(ctx);
    CHECK(test_backward(ctx, test_gelu(ctx, h), dy) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_tape_rewind(ctx, mark);                 // backward went past it: the nodes stay gone
    CHECK(ctx->tape == NULL, "rewind brings back nodes that ran");
    CHECK(test_backward(ctx, test_gelu(ctx, h), dy) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_tensor *out = mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, x->shape, 0);
    mark = mrc_tape_mark(ctx);
    CHECK(mrc_custom(ctx, &(mrc_custom_desc){ "late", weighted_backward, &calls }, out, &x, 1)
              != NULL, "%s", mrc_ctx_message(ctx));
    mrc_tape_rewind(ctx, mark);
    CHECK(out->producer == NULL, "its producer is gone");
    mrc_drop(ctx, out);
    CHECK(mrc_backward(ctx, out, x) == MRC_ERR_ARG && calls == 0, "backward from nothing");
    mrc_ctx_clear_error(ctx);
    mrc_mark stale = mrc_tape_mark(ctx);
    mrc_ctx_reset(ctx);
    x = leaf(ctx, MRC_DTYPE_F64, 2, 2);
    mrc_tape_rewind(ctx, stale);
    CHECK(mrc_ctx_memory(ctx).step_live == 64, "a mark from before a reset took something");
    mrc_ctx_free(ctx);
}

// A matrix product fails, each in turn: after the three calls of api.tape the next step is right.
static void test_recovery(void) {
    static double want[MODEL_NUMBERS], got[MODEL_NUMBERS];
    derived_state state = {0};
    mrc_backend *be;
    model m;
    CHECK(derived_new(&be, &state) == MRC_OK, "derived");
    CHECK(model_new(&m, be, NULL, MRC_DTYPE_F64) == MRC_OK, "model");
    for (int mode = PLAIN; mode <= NESTED; mode++) {
        mrc_ctx *ctx = context(be);
        size_t failures = 0, wrong = 0, calls = 0;
        state.fail_at = 0;
        CHECK(model_step(ctx, be, &m, (model_mode)mode, want) == MRC_OK, "mode %d", mode);
        for (size_t k = 1; k == failures + 1; k++) {
            mrc_grad_clear(ctx);
            state.calls = 0;
            state.fail_at = k;
            failures += model_step(ctx, be, &m, (model_mode)mode, NULL) == MRC_ERR_NUMERIC;
            calls = state.calls;
            state.fail_at = 0;
            mrc_grad_clear(ctx);                // model_step has reset
            mrc_ctx_clear_error(ctx);
            wrong += model_step(ctx, be, &m, (model_mode)mode, got) != MRC_OK
                     || memcmp(want, got, model_numbers(&m) * sizeof *got);
            wrong += mrc_ctx_memory(ctx).step_live != 0;
        }
        CHECK(failures == calls && failures > 10, "%zu of %zu failed", failures, calls);
        CHECK(wrong == 0, "mode %d: %zu of %zu steps after a failure are wrong", mode, wrong,
              failures);
        mrc_ctx_free(ctx);
    }
    mrc_params_free(m.params);
    mrc_backend_free(be);
    mrc_backend_free(state.naive);
}

// Parameters are found by name and enumerated in the order they were made.
static void test_params(mrc_backend *be) {
    const size_t shape[1] = { 3 }, matrix[2] = { 2, 3 };
    mrc_params *params;
    mrc_tensor *t;
    char name[24];
    CHECK(mrc_params_new(&params, be, NULL) == MRC_OK, "params");
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "layer.%d.weight", i);
        CHECK(mrc_param_new(params, &t, name, MRC_DTYPE_F32, 1, shape) == MRC_OK, "%s", name);
        CHECK(!strcmp(t->name, name) && mrc_params_at(params, (size_t)i) == t, "%s", name);
    }
    CHECK(mrc_param_new(params, &t, name, MRC_DTYPE_F32, 1, shape) == MRC_ERR_ARG && !t, "twice");
    CHECK(!mrc_params_at(params, 200) && !mrc_params_find(params, "layer.200.weight"), "end");
    t = mrc_params_find(params, "layer.7.weight");
    CHECK(t && t == mrc_params_at(params, 7), "found another");
    CHECK(mrc_param_copy_new(params, t, MRC_DTYPE_BF16) == MRC_ERR_ARG, "vectors have no copy");
    CHECK(mrc_param_new(params, &t, "d", MRC_DTYPE_F64, 2, matrix) == MRC_OK, "f64");
    CHECK(mrc_param_copy_new(params, t, MRC_DTYPE_BF16) == MRC_ERR_ARG, "f64 has no copy");
    CHECK(mrc_param_new(params, &t, "m", MRC_DTYPE_F32, 2, matrix) == MRC_OK, "matrix");
    CHECK(mrc_param_copy_new(params, t, MRC_DTYPE_F64) == MRC_ERR_ARG, "a copy is 16 bits");
    CHECK(mrc_param_copy_new(params, t, MRC_DTYPE_BF16) == MRC_OK && t->copy, "copy");
    CHECK(mrc_param_copy_new(params, t, MRC_DTYPE_BF16) == MRC_ERR_ARG, "one copy only");
    mrc_params_free(params);
}

// The first error and its text stay; NULL goes through; every message has its numbers.
static void test_errors(mrc_backend *be) {
    mrc_ctx *ctx = context(be);
    mrc_tensor *x = leaf(ctx, MRC_DTYPE_F32, 2, 8), *w = leaf(ctx, MRC_DTYPE_F32, 3, 7);
    mrc_tensor *b = leaf(ctx, MRC_DTYPE_F32, 1, 3), *d = leaf(ctx, MRC_DTYPE_F64, 3, 8);
    mrc_tensor *y = mrc_linear(ctx, x, w, b, MRC_ACT_NONE);
    y = test_gelu(ctx, mrc_layer_norm(ctx, y, b, b, 0));
    CHECK(y == NULL && mrc_backward(ctx, y, NULL) == MRC_ERR_SHAPE, "NULL in, NULL out");
    CHECK(!strcmp(mrc_ctx_message(ctx), "linear: x has 8 columns, weight (O, I) has 7"), "%s",
          mrc_ctx_message(ctx));
    CHECK(!mrc_layer_norm(ctx, x, b, b, 0), "another error");
    CHECK(!strncmp(mrc_ctx_message(ctx), "linear", 6), "the first error was overwritten");
    mrc_ctx_clear_error(ctx);
    CHECK(!mrc_linear(ctx, x, d, b, MRC_ACT_NONE) && mrc_ctx_status(ctx) == MRC_ERR_ARG, "dtypes");
    mrc_ctx_clear_error(ctx);
    CHECK(!mrc_tensor_new(ctx, MRC_DTYPE_F32, 2, (size_t[]){ SIZE_MAX, 2 }, 0), "overflow");
    CHECK(!mrc_tensor_new(ctx, MRC_DTYPE_F32, 1, (size_t[]){ SIZE_MAX / 4 }, 0), "overflow of 64");
    CHECK(!mrc_tensor_new(ctx, MRC_DTYPE_COUNT, 0, NULL, 0), "no dtype");
    CHECK(!mrc_tensor_new(ctx, MRC_DTYPE_F32, 5, (size_t[]){ 1, 1, 1, 1, 1 }, 0), "ndim");
    mrc_batch batch;
    CHECK(mrc_batch_new(ctx, &batch, NULL) == MRC_ERR_ARG, "no desc");
    CHECK(!test_gelu(NULL, x) && !test_gelu(ctx, NULL), "NULL");
    const size_t bytes[MRC_DTYPE_COUNT] = { 4, 8, 2, 2, 4, 1 };
    for (int i = 0; i < MRC_DTYPE_COUNT; i++) {
        CHECK(mrc_dtype_bytes((mrc_dtype)i) == bytes[i], "%s", mrc_dtype_name((mrc_dtype)i));
    }
    CHECK((uintptr_t)x->data % MRC_ALIGNMENT == 0, "alignment of x");
    CHECK((uintptr_t)b->data % MRC_ALIGNMENT == 0, "alignment of b");
    mrc_ctx_free(ctx);
    mrc_ctx_free(NULL);
}

// What a batch is checked for, and what its arrays hold when they are not given.
static void test_batches(mrc_backend *be) {
    const int32_t cu[] = { 0, 3, 3, 5 }, falls[] = { 0, 3, 2, 5 }, late[] = { 1, 3, 3, 5 };
    const int32_t long_real[] = { 3, 1, 2 }, negative[] = { 0, 1, -2, 0, 0 };
    const int32_t begin[] = { 2, 0, 0 }, end[] = { 1, 0, 2 }, far_end[] = { 4, 0, 2 };
    const int32_t ids[] = { 4, 0, 7, 7, 1 }, starts[] = { 1, -1, 0 };
    const struct { mrc_batch_desc desc; const char *message; } bad[] = {
        { { .n_sequences = 3, .cu_seqlens = falls }, "batch: cu_seqlens goes from 3 to 2 at 1" },
        { { .n_sequences = 3, .cu_seqlens = late }, "batch: cu_seqlens goes from 1 to 3 at 0" },
        { { .n_sequences = 3, .cu_seqlens = cu, .real_len = long_real },
          "batch: real_len 1 of 0 rows at 1" },
        { { .n_sequences = 3, .cu_seqlens = cu, .real_len = negative },
          "batch: real_len 1 of 0 rows at 1" },
        { { .n_sequences = 3, .cu_seqlens = cu, .loss_begin = begin, .loss_end = end },
          "batch: loss window 2 to 1 of 3 rows at 0" },
        { { .n_sequences = 3, .cu_seqlens = cu, .loss_end = far_end },
          "batch: loss window 0 to 4 of 3 rows at 0" },
        { { .n_sequences = 3, .cu_seqlens = cu, .input_ids = negative },
          "batch: input_ids[2] is -2" },
        { { .n_sequences = 3, .cu_seqlens = cu, .input_ids = ids, .token_type_ids = negative },
          "batch: token_type_ids[2] is -2" },
        { { .n_sequences = 3, .cu_seqlens = cu, .input_ids = ids, .position_ids = negative },
          "batch: position_ids[2] is -2" },
    };
    mrc_batch batch;
    mrc_ctx *ctx = context(be);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(mrc_batch_new(ctx, &batch, &bad[i].desc) == MRC_ERR_ARG, "%s", bad[i].message);
        CHECK(!strcmp(mrc_ctx_message(ctx), bad[i].message), "%s", mrc_ctx_message(ctx));
        mrc_ctx_clear_error(ctx);
    }
    const mrc_batch_desc desc = { .n_sequences = 3, .cu_seqlens = cu, .input_ids = ids,
                                  .start_positions = starts };
    CHECK(mrc_batch_new(ctx, &batch, &desc) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(batch.n_tokens == 5 && batch.n_sequences == 3 && batch.max_length == 3, "sizes");
    CHECK(batch.max_input_id == 7 && batch.max_token_type_id == 0 && batch.max_position_id == 2,
          "largest ids %d, %d, %d", (int)batch.max_input_id, (int)batch.max_token_type_id,
          (int)batch.max_position_id);
    const int32_t want_index[] = { 0, 1, 2 }, zero[5] = {0}, lengths[] = { 3, 0, 2 };
    const int32_t want_targets[] = { 1, -1, 0, -1, -1, -1 }, positions[] = { 0, 1, 2, 0, 1 };
    const struct { mrc_tensor *t; const int32_t *want; size_t n; } arrays[] = {
        { batch.cu_seqlens, cu, 4 }, { batch.sequence_index, want_index, 3 },
        { batch.real_len, lengths, 3 }, { batch.loss_begin, zero, 3 },
        { batch.loss_end, lengths, 3 }, { batch.targets, want_targets, 6 },
        { batch.input_ids, ids, 5 }, { batch.token_type_ids, zero, 5 },
        { batch.position_ids, positions, 5 } };
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        int32_t got[8];
        CHECK(arrays[i].t->numel == arrays[i].n && arrays[i].t->dtype == MRC_DTYPE_I32
              && mrc_tensor_download(ctx, arrays[i].t, got) == MRC_OK
              && !memcmp(got, arrays[i].want, arrays[i].n * sizeof *got), "array %zu", i);
    }
    const mrc_batch_desc none = { .cu_seqlens = cu };
    CHECK(mrc_batch_new(ctx, &batch, &none) == MRC_OK && batch.n_tokens == 0, "no sequences");
    CHECK(!batch.input_ids, "ids from nowhere");
    mrc_ctx_free(ctx);
}

// Each op's refusal has its numbers.
static void test_op_errors(mrc_backend *be) {
    const int32_t cu[] = { 0, 2 }, ids[] = { 3, 1 };
    mrc_batch batch, bare;
    mrc_ctx *ctx = context(be);
    const mrc_batch_desc desc = { .n_sequences = 1, .cu_seqlens = cu, .input_ids = ids };
    const mrc_batch_desc without = { .n_sequences = 1, .cu_seqlens = cu };
    CHECK(mrc_batch_new(ctx, &batch, &desc) == MRC_OK, "batch");
    CHECK(mrc_batch_new(ctx, &bare, &without) == MRC_OK, "batch without ids");
    mrc_tensor *x = leaf(ctx, MRC_DTYPE_F32, 2, 6), *t3 = leaf(ctx, MRC_DTYPE_F32, 3, 6);
    mrc_tensor *t4 = leaf(ctx, MRC_DTYPE_F32, 4, 6), *v = leaf(ctx, MRC_DTYPE_F32, 1, 6);
    mrc_tensor *d = leaf(ctx, MRC_DTYPE_F64, 4, 6), *b4 = leaf(ctx, MRC_DTYPE_F32, 1, 4);
    mrc_tensor *lstm[8] = { t4, t4, b4, b4, t4, t4, b4, b4 };
#define REFUSED(call, text) do {                                                            \
        CHECK(!(call), "%s", #call);                                                        \
        CHECK(!strcmp(mrc_ctx_message(ctx), text), "%s", mrc_ctx_message(ctx));             \
        mrc_ctx_clear_error(ctx);                                                           \
    } while (0)
    const mrc_dtype f32 = MRC_DTYPE_F32;
    REFUSED(mrc_embedding(ctx, t4, t4, t4, -1, -1, f32, &bare), "embedding: the batch has no "
            "input_ids");
    REFUSED(mrc_embedding(ctx, t3, t4, t4, -1, -1, f32, &batch), "embedding: word (3, 6) of f32, "
            "word has 6 columns of f32, and the batch id 3");
    REFUSED(mrc_embedding(ctx, t4, leaf(ctx, f32, 1, 6), t4, -1, -1, f32, &batch),
            "embedding: position (1, 6) of f32, word has 6 columns of f32, and the batch id 1");
    REFUSED(mrc_embedding(ctx, t4, t4, d, -1, -1, f32, &batch), "embedding: token_type (4, 6) of "
            "f64, word has 6 columns of f32, and the batch id 0");
    REFUSED(mrc_embedding(ctx, t4, t4, t4, -1, -1, MRC_DTYPE_F64, &batch), "embedding: f64 from "
            "tables of f32");
    REFUSED(mrc_embedding(ctx, d, d, d, -1, -1, MRC_DTYPE_F16, &batch), "embedding: f16 from "
            "tables of f64");
    REFUSED(mrc_attention(ctx, x, x, x, 4, 0, 0, &batch), "attention: queries, keys, values have "
            "6, 6, 6 columns (expected one number for each, a multiple of 4 heads; or one tensor "
            "of three times that)");
    REFUSED(mrc_attention(ctx, t3, t3, t3, 1, 0, 0, &batch), "attention: x has 2 axes and 3 rows, "
            "the batch 2 tokens");
    REFUSED(mrc_attention(ctx, x, x, x, 1, -0.5, 0, &batch), "attention: dropout p is -0.5, not in "
            "[0, 1)");
    REFUSED(mrc_add_norm(ctx, x, t3, v, v, 0, 0, 0, &batch), "add_norm: x (2, 6), residual of 18 "
            "elements, weight 6, bias 6");
    REFUSED(mrc_add_norm(ctx, x, x, v, v, 0, NAN, 0, &batch), "add_norm: dropout p is nan, not in "
            "[0, 1)");
    REFUSED(mrc_lstm(ctx, x, lstm, &batch), "lstm: weight 0 has 4 rows of 6, expected 24 of 6 (x "
            "has 6 columns)");
    REFUSED(mrc_cross_entropy(ctx, x, batch.targets, b4, &batch), "cross_entropy: 12 logits, 2 "
            "tokens, 6 columns; 2 targets, 1 sequences; 4 denominators");
#undef REFUSED
    mrc_ctx_free(ctx);
}

int main(void) {
    model m, full;
    mrc_backend *naive, *cpu;
    CHECK(mrc_backend_naive_new(&naive, NULL) == MRC_OK, "naive");
    CHECK(mrc_backend_cpu_new(&cpu, NULL) == MRC_OK, "cpu");
    CHECK(model_new(&m, naive, NULL, MRC_DTYPE_F64) == MRC_OK, "model");
    CHECK(model_make(&full, naive, NULL, MRC_DTYPE_F64, 1) == MRC_OK, "full model");
    test_overwrite_first(naive, &m);
    test_overwrite_first(naive, &full);
    test_overwrite_first(cpu, &full);
    test_release(naive, &m);
    test_release(cpu, &m);
    test_shared_weight(naive);
    test_two_contexts(naive, &m);
    test_two_contexts(naive, &full);
    test_two_threads(&m);
    test_two_threads(&full);
    test_no_grad(naive, &m);
    test_no_grad(naive, &full);
    test_no_grad(cpu, &full);
    test_marks(naive);
    test_checkpointing(naive, &m);
    test_checkpointing(cpu, &m);
    test_checkpointing(naive, &full);
    test_checkpointing(cpu, &full);
    test_no_grad_depth(naive, &m);
    test_no_grad_depth(cpu, &full);
    test_shared_segment(naive, &m);
    test_recomputed_masks(naive);
    test_custom(naive);
    test_drop(naive);
    test_drop_is_cheap();
    test_stale_marks(naive);
    test_recovery();
    test_params(naive);
    test_errors(naive);
    test_batches(naive);
    test_op_errors(naive);
    mrc_params_free(full.params);
    mrc_params_free(m.params);
    mrc_backend_free(cpu);
    mrc_backend_free(naive);
    return test_end();
}
