// Contract D: the generator's known answers, and masks that do not depend on how a batch is made.
// tags: bare threads
#include "../support/backends.h"

enum { H = 10, N_SEQUENCES = 4 };                       // H is no multiple of 4
static const int32_t lengths[N_SEQUENCES] = { 3, 1, 5, 2 };

static void test_known_answers(void) {
    // The vectors that come with Random123: counter, key, result.
    static const uint32_t kat[3][10] = {
        { 0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 },
        { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
          0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd },
        { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0,
          0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 },
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        mrc_philox4x32(kat[i], kat[i] + 4, out);
        CHECK(!memcmp(out, kat[i] + 6, sizeof out), "vector %d: %08x", i, (unsigned)out[0]);
    }
}

// Dropout of ones for the given sequences, in the order given; row r of sequence s goes to
// masks[s][r].  The packing is the only thing that differs between calls.
static void masks_of(mrc_backend *be, mrc_dtype dtype, mrc_random random, const char *site,
                     const int32_t *order, size_t n, double masks[N_SEQUENCES][8][H]) {
    mrc_ctx *ctx = all_ctx(be);
    mrc_batch batch;
    int32_t packed[N_SEQUENCES];
    double ones[N_SEQUENCES * 8 * H], y[N_SEQUENCES * 8 * H];
    size_t row = 0;
    for (size_t i = 0; i < n; i++) packed[i] = lengths[order[i]];
    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++) ones[i] = 1;
    if (!CHECK(ctx != NULL, "context")) return;
    mrc_ctx_set_random(ctx, random);
    CHECK(test_batch(ctx, &batch, n, packed, order) == MRC_OK, "batch");
    size_t shape[2] = { batch.n_tokens, H };
    mrc_tensor *x = test_tensor(ctx, mrc_tensor_new(ctx, dtype, 2, shape, 0), ones);
    mrc_tensor *out = mrc_dropout(ctx, x, 0.5, mrc_site(site), &batch);
    if (CHECK(out != NULL, "dropout: %s", mrc_ctx_message(ctx))) {
        test_read(be, dtype, out->data, out->numel, y);
        for (size_t i = 0; i < n; i++) {
            for (int32_t r = 0; r < packed[i]; r++, row++) {
                memcpy(masks[order[i]][r], y + row * H, H * sizeof(double));
            }
        }
    }
    mrc_ctx_free(ctx);
}

static void test_same_masks(mrc_backend *const *be, int n_be) {
    static double want[N_SEQUENCES][8][H], got[N_SEQUENCES][8][H];
    const mrc_random random = { .seed = 0x123456789abcdefu, .step = 17, .pass = 0 };
    const int32_t all[] = { 0, 1, 2, 3 }, shuffled[] = { 2, 0, 3, 1 };
    masks_of(be[0], MRC_DTYPE_F32, random, "a", all, 4, want);
    for (int i = 0; i < n_be; i++) {
        memset(got, 0, sizeof got);
        masks_of(be[i], MRC_DTYPE_F32, random, "a", all, 4, got);
        CHECK(!memcmp(got, want, sizeof got), "%s draws other masks", be[i]->name);
        memset(got, 0, sizeof got);
        masks_of(be[i], MRC_DTYPE_F64, random, "a", all, 4, got);
        CHECK(!memcmp(got, want, sizeof got), "%s in f64 draws other masks", be[i]->name);
        memset(got, 0, sizeof got);
        masks_of(be[i], MRC_DTYPE_F32, random, "a", shuffled, 4, got);
        CHECK(!memcmp(got, want, sizeof got), "%s: packing order changes masks", be[i]->name);
        memset(got, 0, sizeof got);
        masks_of(be[i], MRC_DTYPE_F32, random, "a", all, 2, got);
        masks_of(be[i], MRC_DTYPE_F32, random, "a", all + 2, 2, got);
        CHECK(!memcmp(got, want, sizeof got), "%s: micro-batches change masks", be[i]->name);
    }
}

// Each part of the key changes the mask; a repeated part would be the worst kind of silent error.
static void test_other_masks(mrc_backend *be) {
    static double want[N_SEQUENCES][8][H], got[N_SEQUENCES][8][H];
    const int32_t all[] = { 0, 1, 2, 3 };
    const mrc_random r = { .seed = 1, .step = 1, .pass = 1 };
    const mrc_random other[] = { { 2, 1, 1 }, { 1 + (1ull << 32), 1, 1 }, { 1, 2, 1 },
                                 { 1, 1, 2 } };
    masks_of(be, MRC_DTYPE_F32, r, "a", all, 4, want);
    for (int i = 0; i < 4; i++) {
        memset(got, 0, sizeof got);
        masks_of(be, MRC_DTYPE_F32, other[i], "a", all, 4, got);
        CHECK(memcmp(got, want, sizeof got), "part %d of the key changes nothing", i);
    }
    memset(got, 0, sizeof got);
    masks_of(be, MRC_DTYPE_F32, r, "b", all, 4, got);
    CHECK(memcmp(got, want, sizeof got), "the site changes nothing");
    CHECK(memcmp(want[0][0], want[0][1], sizeof want[0][0]), "the position changes nothing");
    CHECK(memcmp(want[0][0], want[2][0], sizeof want[0][0]), "the sequence changes nothing");
}

// The layout as written in >>api.random, computed here by hand.
static void test_layout(mrc_backend *be) {
    static double got[N_SEQUENCES][8][H];
    const int32_t order[] = { 0, 1, 2, 3 };
    const mrc_random r = { .seed = 5 + (6ull << 32), .step = 7, .pass = 8 };
    const uint32_t outer[4] = { 7, 8, mrc_site("a"), 0x64726f70 }, seed[2] = { 5, 6 };
    uint32_t key[4], u[4];
    int wrong = 0;
    masks_of(be, MRC_DTYPE_F32, r, "a", order, 4, got);
    mrc_philox4x32(outer, seed, key);
    for (uint32_t s = 0; s < N_SEQUENCES; s++) {
        for (uint32_t position = 0; position < (uint32_t)lengths[s]; position++) {
            for (uint32_t f = 0; f < H; f++) {
                const uint32_t counter[4] = { f / 4, position, s, 0 };
                mrc_philox4x32(counter, key, u);
                double y = u[f % 4] < 0x80000000u ? 0 : 2;
                wrong += !(got[s][position][f] == y);
            }
        }
    }
    CHECK(wrong == 0, "%d elements differ from the layout", wrong);
    CHECK(mrc_site("a") == 0xe40c292c, "FNV-1a of \"a\" is %08x", (unsigned)mrc_site("a"));
}

// The comparison is `u < floor(p 2^32)`: with p 2^32 = u the element stays, with u + 1 it goes.
static void test_threshold(mrc_backend *be) {
    const mrc_random random = { .seed = 3 };
    const uint32_t counter[4] = {0};
    const int32_t length = 1, index = 0;
    uint32_t key[2], u[4];
    double one = 1, y[2];
    mrc_ctx *ctx;
    mrc_batch batch;
    mrc_dropout_key(random, mrc_site("a"), key);
    mrc_philox4x32(counter, key, u);
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    mrc_ctx_set_random(ctx, random);
    CHECK(test_batch(ctx, &batch, 1, &length, &index) == MRC_OK, "batch");
    mrc_tensor *x = test_tensor(
        ctx, mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, (size_t[]){ 1, 1 }, 0), &one);
    for (int i = 0; i < 2; i++) {
        double p = ((double)u[0] + i) / 4294967296.0;
        mrc_tensor *out = mrc_dropout(ctx, x, p, mrc_site("a"), &batch);
        test_read(be, MRC_DTYPE_F64, out ? out->data : NULL, 1, &y[i]);
    }
    CHECK(y[0] > 0 && y[1] == 0, "at the threshold: %g, past it: %g", y[0], y[1]);
    mrc_ctx_free(ctx);
}

// p: a 4-sigma test of the rate; its ends.
static void test_rate(mrc_backend *be) {
    enum { ROWS = 200, WIDTH = 500 };
    static double ones[ROWS * WIDTH], y[ROWS * WIDTH];
    const int32_t length = ROWS, index = 0;
    const double p = 0.1, n = ROWS * WIDTH;
    double dropped = 0;
    mrc_ctx *ctx;
    mrc_batch batch;
    for (int i = 0; i < ROWS * WIDTH; i++) ones[i] = 1;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK, "context");
    CHECK(test_batch(ctx, &batch, 1, &length, &index) == MRC_OK, "batch");
    mrc_tensor *x = test_tensor(
        ctx, mrc_tensor_new(ctx, MRC_DTYPE_F64, 2, (size_t[]){ ROWS, WIDTH }, 0), ones);
    mrc_tensor *out = mrc_dropout(ctx, x, p, 1, &batch);
    if (CHECK(out != NULL, "%s", mrc_ctx_message(ctx))) {
        test_read(be, MRC_DTYPE_F64, out->data, out->numel, y);
        for (int i = 0; i < ROWS * WIDTH; i++) dropped += y[i] == 0;
        CHECK(fabs(dropped - n * p) < 4 * sqrt(n * p * (1 - p)), "%g of %g dropped", dropped, n);
    }
    CHECK(mrc_dropout(ctx, x, 0, 1, &batch) == x, "p = 0 is not the identity");
    CHECK(!mrc_dropout(ctx, x, 1, 1, &batch) && mrc_ctx_status(ctx) == MRC_ERR_ARG, "p = 1");
    mrc_ctx_free(ctx);
}

//==============================================================================
// Every op that drops: a sequence's rows and their gradients are the same however the step is cut
// into batches, in whatever order, recomputed or not, on any number of threads
//==============================================================================
enum { HEADS = 2, WIDTH = 6, MAX_ROWS = 8 };            // attention's input has 3 * WIDTH columns
typedef enum dropper { DROPOUT, ADD_NORM, ATTENTION, N_DROPPERS } dropper;
static const char *const dropper_names[] = { "dropout", "add_norm", "attention" };

typedef struct step_rows {
    double y[N_SEQUENCES][MAX_ROWS][WIDTH];
    double dx[N_SEQUENCES][MAX_ROWS][3 * WIDTH];
} step_rows;
typedef struct drop_call { dropper kind; mrc_batch batch; double p; } drop_call;

static mrc_tensor *drop_segment(mrc_ctx *ctx, void *user, mrc_tensor *const *in, size_t n_in) {
    const drop_call *call = user;
    (void)n_in;
    switch (call->kind) {
    case DROPOUT:   return mrc_dropout(ctx, in[0], call->p, mrc_site("d"), &call->batch);
    case ADD_NORM:  return mrc_add_norm(ctx, in[0], in[1], in[2], in[3], 1e-5, call->p,
                                        mrc_site("n"), &call->batch);
    case ATTENTION: return mrc_attention(ctx, in[0], in[0], in[0], HEADS, call->p,
                                          mrc_site("a"), &call->batch);
    case N_DROPPERS: break;
    }
    return NULL;
}

// A number for an element of a sequence, wherever the sequence stands.
static double element(int32_t sequence, int32_t row, size_t column, int what) {
    return sin(1.7 * sequence + 3.1 * row + 0.9 * (double)column + 5.3 * what);
}

static mrc_tensor *rows_tensor(mrc_ctx *ctx, mrc_dtype dtype, const int32_t *order, size_t n,
                               size_t columns, int what) {
    double values[N_SEQUENCES * MAX_ROWS * 3 * WIDTH], *to = values;
    size_t shape[2] = { 0, columns };
    for (size_t i = 0; i < n; i++) {
        for (int32_t r = 0; r < lengths[order[i]]; r++, shape[0]++) {
            for (size_t k = 0; k < columns; k++) *to++ = element(order[i], r, k, what);
        }
    }
    return test_tensor(ctx, mrc_tensor_new(ctx, dtype, 2, shape, what < 2), values);
}

// Forward and backward of one batch: sequences order[0 .. n).
static void rows_of(mrc_backend *be, mrc_dtype dtype, dropper kind, double p, int checkpointed,
                    const int32_t *order, size_t n, step_rows *out) {
    const size_t columns = kind == ATTENTION ? 3 * WIDTH : WIDTH;
    double y[N_SEQUENCES * MAX_ROWS * WIDTH], dx[N_SEQUENCES * MAX_ROWS * 3 * WIDTH];
    drop_call call = { .kind = kind, .p = p };
    int32_t packed[N_SEQUENCES];
    for (size_t i = 0; i < n; i++) packed[i] = lengths[order[i]];
    mrc_ctx *ctx = all_ctx(be);
    if (!CHECK(ctx != NULL, "context")) return;
    mrc_ctx_set_random(ctx, (mrc_random){ .seed = 11, .step = 5 });
    CHECK(test_batch(ctx, &call.batch, n, packed, order) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_tensor *in[4] = { rows_tensor(ctx, dtype, order, n, columns, 0),
                          rows_tensor(ctx, dtype, order, n, columns, 1) };
    const size_t width = WIDTH;
    double weight[WIDTH] = { 1, -1, 2, 0.5, 1, 3 };
    in[2] = test_tensor(ctx, mrc_tensor_new(ctx, dtype, 1, &width, 1), weight);
    in[3] = test_tensor(ctx, mrc_tensor_new(ctx, dtype, 1, &width, 1), weight);
    mrc_tensor *out_y = checkpointed ? mrc_checkpointed(ctx, drop_segment, &call, in, 4)
                                     : drop_segment(ctx, &call, in, 4);
    mrc_tensor *dy = rows_tensor(ctx, dtype, order, n, WIDTH, 2);
    if (out_y) test_read(be, dtype, out_y->data, out_y->numel, y);
    CHECK(mrc_backward(ctx, out_y, dy) == MRC_OK, "%s: %s", be->name, mrc_ctx_message(ctx));
    test_read(be, dtype, mrc_grad(ctx, in[0]), in[0]->numel, dx);
    for (size_t i = 0, row = 0; out_y && i < n; i++) {
        for (int32_t r = 0; r < packed[i]; r++, row++) {
            memcpy(out->y[order[i]][r], y + row * WIDTH, WIDTH * sizeof *y);
            memcpy(out->dx[order[i]][r], dx + row * columns, columns * sizeof *dx);
        }
    }
    mrc_ctx_free(ctx);
}

static double rows_error(const step_rows *a, const step_rows *b) {
    double ey = test_error(&a->y[0][0][0], &b->y[0][0][0], sizeof a->y / sizeof(double));
    double ex = test_error(&a->dx[0][0][0], &b->dx[0][0][0], sizeof a->dx / sizeof(double));
    return fmax(ey, ex);
}

static void test_invariance(const all_backends *all, dropper kind, mrc_dtype dtype) {
    const int32_t whole[] = { 0, 1, 2, 3 }, shuffled[] = { 2, 0, 3, 1 };
    const char *op = dropper_names[kind];
    step_rows first = {0}, without = {0};
    rows_of(all->be[0], dtype, kind, 0.4, 0, whole, 4, &first);
    if (kind != DROPOUT) rows_of(all->be[0], dtype, kind, 0, 0, whole, 4, &without);
    CHECK(rows_error(&first, &without) > 0.1, "%s drops nothing", op);
    for (int k = 0; k < all->n; k++) {
        mrc_backend *be = all->be[k];
        step_rows want = {0}, got = {0}, cut = {0}, again = {0};
        rows_of(be, dtype, kind, 0.4, 0, whole, 4, &want);
        CHECK(rows_error(&want, &first) < 1e-5, "%s on %s: other masks", op, all->label[k]);
        rows_of(be, dtype, kind, 0.4, 0, shuffled, 4, &got);
        CHECK(!memcmp(&got, &want, sizeof got), "%s on %s: packing order shows, by %g", op,
              all->label[k], rows_error(&got, &want));
        rows_of(be, dtype, kind, 0.4, 0, whole, 1, &cut);
        rows_of(be, dtype, kind, 0.4, 0, whole + 1, 3, &cut);
        CHECK(!memcmp(&cut, &want, sizeof cut), "%s on %s: micro-batches show, by %g", op,
              all->label[k], rows_error(&cut, &want));
        rows_of(be, dtype, kind, 0.4, 1, whole, 4, &again);
        CHECK(!memcmp(&again, &want, sizeof again), "%s on %s: recomputation shows, by %g", op,
              all->label[k], rows_error(&again, &want));
        int other = all->same_as[k];
        memset(&got, 0, sizeof got);
        if (other >= 0) rows_of(all->be[other], dtype, kind, 0.4, 0, whole, 4, &got);
        CHECK(other < 0 || !memcmp(&got, &want, sizeof got), "%s: %s and %s differ", op,
              all->label[k], all->label[other < 0 ? 0 : other]);
    }
}

int main(void) {
    static all_backends all;
    all_new(&all);
    test_known_answers();
    test_same_masks(all.be, all.n);
    test_other_masks(all.be[0]);
    test_layout(all.be[0]);
    test_threshold(all.be[0]);
    test_rate(all.be[0]);
    for (int kind = 0; kind < N_DROPPERS; kind++) {
        test_invariance(&all, (dropper)kind, MRC_DTYPE_F32);
        test_invariance(&all, (dropper)kind, MRC_DTYPE_F64);
    }
    all_free(&all);
    return test_end();
}
