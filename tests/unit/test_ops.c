// Op table x backend: gradients in double against differences, every backend against the oracle,
// the oracle's attention, LSTM and GRU against formulas written here.
// tags: bare cuda arm64
#include "../support/op_cases.h"

typedef struct values {
    double x[MAX_IN][MAX_NUMEL], w[MAX_NUMEL];      // inputs, the random cotangent
    double y[MAX_NUMEL], dx[MAX_IN][MAX_NUMEL];
    size_t numel[MAX_IN], n_out;
} values;

// How to run a case: how often backward runs into the same gradients (0: forward only), and which
// inputs want one.
typedef struct run_options { int times; unsigned trainable; } run_options;
enum { ALL = 0xffff };

static mrc_status run(mrc_backend *be, mrc_dtype dtype, const op_case *c, run_options o,
                      values *v) {
    mrc_tensor *in[MAX_IN], *y = NULL;
    mrc_ctx *ctx = all_ctx(be);
    if (!ctx) return MRC_ERR_MEM;
    mrc_ctx_set_random(ctx, (mrc_random){ .seed = 7, .step = 3 });
    for (int i = 0; i < c->n_in; i++) {
        mrc_tensor *t = c->same[i] ? in[c->same[i] - 1]
                      : case_input(ctx, c, i, dtype, (int)(o.trainable >> i & 1));
        in[i] = c->same[i] ? t : test_tensor(ctx, t, v->x[i]);
        v->numel[i] = in[i] ? in[i]->numel : 0;
    }
    for (int k = 0; k < (o.times ? o.times : 1); k++) {
        y = case_build(ctx, c, dtype, in);
        if (y && o.times) test_backward(ctx, y, v->w);
    }
    v->n_out = y ? y->numel : 0;
    if (y) test_read(be, y->dtype, y->data, v->n_out, v->y);
    for (int i = 0; y && o.times && i < c->n_in; i++) {
        test_read(be, in[i]->dtype, mrc_grad(ctx, in[i]), v->numel[i], v->dx[i]);
    }
    mrc_status s = mrc_ctx_status(ctx);
    if (s != MRC_OK) printf("%s: %s\n", be->name, mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    return s;
}

// sum of (y - before) * w: differences first, so that what did not move adds no rounding.
static double change(const values *v, const double *before) {
    double sum = 0;
    for (size_t i = 0; i < v->n_out; i++) sum += (v->y[i] - before[i]) * v->w[i];
    return sum;
}

static double largest(const double *x, size_t n) {
    double max = 0;
    for (size_t i = 0; i < n; i++) max = fabs(x[i]) > max ? fabs(x[i]) : max;
    return max;
}

// Rows that get no gradient, whatever the differences say; -1 where the table is used twice, as
// then the row has the other use's.
static int is_padding(const op_case *c, int i, size_t j) {
    if (c->op != MRC__OP_EMBEDDING || i > 1) return 0;
    if ((int32_t)(j / c->shape[i][1]) != c->padding[i]) return 0;
    return c->same[1] ? -1 : 1;
}

// The reference run's focal loss is no function of which its gradient is the derivative: it is
// (1 - p)^gamma times that of cross-entropy.  The same case with the gradient by its definition.
static double reference_focal_error(mrc_backend *be, const op_case *c, values *v) {
    static values ce;
    op_case plain = *c;
    double worst = 0;
    plain.loss = (mrc_loss){ .kind = MRC_LOSS_CE };
    ce = *v;
    if (run(be, MRC_DTYPE_F64, c, (run_options){ 1, ALL }, v) != MRC_OK
        || run(be, MRC_DTYPE_F64, &plain, (run_options){ 1, ALL }, &ce) != MRC_OK) return HUGE_VAL;
    for (size_t column = 0, first = 0; column < 2; column++, first = 0) {
        for (size_t s = 0; s < c->n_sequences; first += (size_t)c->lengths[s++]) {
            int32_t y = c->targets[column * c->n_sequences + s];
            double sum = 0;
            if (y < c->begin[s] || y >= c->end[s]) continue;
            for (int32_t i = c->begin[s]; i < c->end[s]; i++) {
                sum += exp(v->x[0][2 * (first + (size_t)i) + column]);
            }
            double p = exp(v->x[0][2 * (first + (size_t)y) + column]) / sum;
            for (size_t i = first; i < first + (size_t)c->lengths[s]; i++) {
                double want = pow(1 - p, c->loss.gamma) * ce.dx[0][2 * i + column];
                double e = fabs(v->dx[0][2 * i + column] - want);
                if (!(e <= worst)) worst = e;
            }
        }
    }
    return worst;
}

// The largest relative error of a backend's f64 gradient against central differences: relative to
// 1 + |gradient|, and to the tensor's largest element where that is less.
static double gradient_error(mrc_backend *be, const op_case *c, values *v) {
    static double low[MAX_NUMEL];
    const double h = 1e-5;
    double worst = 0;
    if (c->loss.kind == MRC_LOSS_FOCAL && c->loss.reference) {
        return reference_focal_error(be, c, v);
    }
    if (run(be, MRC_DTYPE_F64, c, (run_options){ 1, ALL }, v) != MRC_OK) return HUGE_VAL;
    for (int i = 0; i < c->n_in; i++) {
        if (c->same[i]) continue;
        double scale = fmax(largest(v->dx[i], v->numel[i]), 1e-3);
        size_t stride = v->numel[i] / 24 + 1;           // large cases: 24 elements of each input
        for (size_t j = 0; j < v->numel[i]; j += stride) {
            double x = v->x[i][j], g = v->dx[i][j];
            v->x[i][j] = x - h;
            run(be, MRC_DTYPE_F64, c, (run_options){ 0, ALL }, v);
            memcpy(low, v->y, v->n_out * sizeof *low);
            v->x[i][j] = x + h;
            run(be, MRC_DTYPE_F64, c, (run_options){ 0, ALL }, v);
            v->x[i][j] = x;
            int padding = is_padding(c, i, j);
            double want = padding ? 0 : change(v, low) / (2 * h);
            double e = padding < 0 ? 0 : fabs(want - g) / fmin(1 + fabs(g), scale);
            if (!(e <= worst)) worst = e;               // a NaN is the worst
        }
    }
    return worst == worst ? worst : HUGE_VAL;
}

// What an error is relative to where all of a tensor is smaller.  16 bits: what is rounded on the
// way to a gradient (gates, z) is about 1, however small the gradient is.
static double least(mrc_dtype dtype) { return mrc__is_half(dtype) ? 0.5 : 0.01; }

// max |a - b| relative to max |b|, or to least(); a NaN gives infinity.
static double error_of(mrc_dtype dtype, const double *a, const double *b, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        double e = fabs(a[i] - b[i]);
        if (!(e < HUGE_VAL)) return HUGE_VAL;
        if (e > worst) worst = e;
    }
    return worst / fmax(largest(b, n), least(dtype));
}

// The largest of the errors of the result and of each gradient.
static double difference(mrc_dtype dtype, const op_case *c, const values *a, const values *b) {
    double worst = a->n_out == b->n_out ? error_of(dtype, a->y, b->y, b->n_out) : HUGE_VAL;
    for (int i = 0; i < c->n_in; i++) {
        double e = error_of(dtype, a->dx[i], b->dx[i], b->numel[i]);
        if (!(e <= worst)) worst = e;
    }
    return worst;
}

// What the oracle of each type may be off by.  In 16 bits results are rounded once, but what lies
// between two kernels (z, the sum before a norm) once more; of a recurrent layer gates and h in
// each step, and a last bit of exp or tanh may turn each of these roundings.
static double allowed(mrc_dtype dtype, mrc__op op) {
    const int recurrent = op == MRC__OP_LSTM || op == MRC__OP_GRU;
    switch (dtype) {
    case MRC_DTYPE_F32:  return 2e-6;
    case MRC_DTYPE_F16:  return (recurrent ? 16 : 4) * 0x1p-11;
    case MRC_DTYPE_BF16: return (recurrent ? 16 : 4) * 0x1p-8;
    default:             return 0;
    }
}

// The longest sum of products that a case takes: over columns forward, over rows backward.
static double longest_sum(const op_case *c) {
    size_t n = c->shape[0][0];
    for (int i = 0; i < c->n_in; i++) {
        for (int k = 0; k < c->ndim[i]; k++) n = c->shape[i][k] > n ? c->shape[i][k] : n;
    }
    return (double)n;
}

// Whether a backend's error is one of rounding, where the oracle of that type has error e0.  f32:
// a sum of n products in float, where the oracle's are in double, is off by a random walk of n
// steps of half a unit in the last place; four times its length is allowed, and 2e-6 for functions
// that are approximated.  TF32 has the bits of f16 and the range of f32, for what is multiplied
// only.
static int agrees(const mrc_backend *be, mrc_dtype dtype, const op_case *c, double e, double e0) {
    if (mrc__is_half(dtype)) return e <= allowed(dtype, c->op);
    if (strstr(be->isa, "tf32")) return e <= allowed(MRC_DTYPE_F16, c->op);
    if (dtype != MRC_DTYPE_F32) return e <= 4 * e0 + 3e-12;
    return e <= 4 * e0 + 2e-6 + 4 * 0x1p-24 * sqrt(longest_sum(c));
}

// The inputs of a case, from its name alone: neither the cases before it nor the backends that a
// machine has change what it is given.
static void fill(const op_case *c, values *v) {
    test_seed(c->why);
    memset(v, 0, sizeof *v);
    for (int i = 0; i < MAX_IN; i++) {
        for (int j = 0; j < MAX_NUMEL; j++) v->x[i][j] = test_random();
    }
    for (int j = 0; j < MAX_NUMEL; j++) v->w[j] = test_random();
}

// Inputs that the type has, so that only what is done with them is rounded.
static void round_to(mrc_dtype type, values *v) {
    uint16_t bits[MAX_NUMEL];
    for (int i = 0; i <= MAX_IN; i++) {
        double *x = i < MAX_IN ? v->x[i] : v->w;
        test_encode(type, x, MAX_NUMEL, bits);
        test_decode(type, bits, MAX_NUMEL, x);
    }
}

// Every backend against the oracle, in each type that it has; bits where they must be the same.
static void test_case(const op_case *c, const all_backends *all) {
    static values exact, v, kept[MAX_BACKENDS];
    const char *op = mrc__ops[c->op].name;
    const run_options once = { 1, ALL };
    fill(c, &exact);
    double e = TEST_ON_CUDA ? 0 : gradient_error(all->be[0], c, &exact);
    CHECK(e <= 1e-6, "%s, %s: gradient error %g", op, c->why, e);
    CHECK(run(all->be[0], MRC_DTYPE_F64, c, once, &exact) == MRC_OK, "%s, %s", op, c->why);
    for (mrc_dtype type = MRC_DTYPE_F32; type <= MRC_DTYPE_BF16; type++) {
        double e0 = 0;
        if (mrc__is_half(type)) {
            if (!case_mixed(c)) break;
            fill(c, &exact);
            round_to(type, &exact);
            run(all->be[0], MRC_DTYPE_F64, c, once, &exact);
        }
        for (int k = 0; k < all->n; k++) {
            if (!all_has(all->be[k], type)) continue;
            memcpy(v.x, exact.x, sizeof v.x);
            memcpy(v.w, exact.w, sizeof v.w);
            CHECK(run(all->be[k], type, c, once, &v) == MRC_OK, "%s, %s on %s", op, c->why,
                  all->label[k]);
            e = difference(type, c, &v, &exact);
            if (k == 0) {
                e0 = e;
                CHECK(e0 <= allowed(type, c->op), "%s, %s: naive %s off by %g", op, c->why,
                      mrc_dtype_name(type), e0);
            }
            CHECK(agrees(all->be[k], type, c, e, e0), "%s, %s on %s: %s off by %g, naive by "
                  "%g", op, c->why, all->label[k], mrc_dtype_name(type), e, e0);
            int other = all->same_as[k];
            CHECK(other < 0 || difference(type, c, &v, &kept[other]) == 0, "%s, %s: %s has other "
                  "bits than %s", op, c->why, all->label[k], all->label[other < 0 ? 0 : other]);
            kept[k] = v;
        }
    }
}

// Gradients add up over two backward passes, and do not change when other inputs want none.
static void test_targets(const op_case *c, const all_backends *all) {
    static values both, v;
    const char *op = mrc__ops[c->op].name;
    for (int k = 0; k < all->n; k++) {
        const mrc_dtype type = all_has(all->be[k], MRC_DTYPE_F64) ? MRC_DTYPE_F64 : MRC_DTYPE_F32;
        const double most = type == MRC_DTYPE_F64 ? 1e-12 : 2e-6;
        if (!all_has(all->be[k], type)) continue;
        fill(c, &both);
        v = both;
        run(all->be[k], type, c, (run_options){ 1, ALL }, &both);
        CHECK(run(all->be[k], type, c, (run_options){ 2, ALL }, &v) == MRC_OK, "%s", op);
        for (int i = 0; i < c->n_in; i++) {
            for (size_t j = 0; j < v.numel[i]; j++) v.dx[i][j] *= 0.5;
        }
        double e = difference(type, c, &v, &both);
        CHECK(e <= most, "%s, %s on %s: twice is off by %g", op, c->why, all->label[k], e);
        for (int i = 0; i < c->n_in; i++) {
            if (c->same[i]) continue;
            CHECK(run(all->be[k], type, c, (run_options){ 1, 1u << i }, &v) == MRC_OK,
                  "%s, only input %d", op, i);
            e = error_of(type, v.dx[i], both.dx[i], v.numel[i]);
            CHECK(e <= most, "%s, %s on %s: alone, input %d is off by %g", op, c->why,
                  all->label[k], i, e);
        }
    }
}

//==============================================================================
// Forward passes from the formulas, with nothing of the library but Philox
//==============================================================================
static double dropped_weight(const op_case *c, const uint32_t key[2], size_t head, int32_t index,
                             int32_t i, int32_t j) {
    const uint32_t counter[4] = { (uint32_t)j / 4, (uint32_t)i, (uint32_t)index, (uint32_t)head };
    uint32_t u[4];
    mrc_philox4x32(counter, key, u);
    return (double)u[j % 4] < floor(c->p * 4294967296.0) ? 0 : 1 / (1 - c->p);
}

// What the case adds to the score of query i and key j of a head, before the scale and after it.
static void added_to_score(const op_case *c, const values *v, const double *q, const double *key,
                           size_t head, size_t d, int32_t i, int32_t j, double added[2]) {
    added[0] = added[1] = 0;
    if (!c->relative) return;
    const size_t t = (size_t)case_row(c, i - j), tables = (size_t)c->n_in - 3;
    if (c->relative == MRC_ATTENTION_BIAS) added[1] = v->x[3][t * c->heads + head];
    for (size_t k = 0; c->relative == MRC_ATTENTION_DISENTANGLED && k < tables; k++) {
        const size_t at = c->same[3 + k] ? (size_t)c->same[3 + k] - 1 : 3 + k;
        const double *row = v->x[at] + t * c->heads * d;
        const double *by = k == 0 && !c->no_pos_key ? q : key;
        for (size_t e = head * d; e < head * d + d; e++) added[0] += by[e] * row[e];
    }
}

static void attention_formula(const op_case *c, const values *v, double *y) {
    static const int32_t index[MAX_SEQUENCES] = { 5, 0, 2, 9, 1, 7 };
    const size_t fused = c->same[2] == 1, columns = c->shape[0][1];
    const size_t width = fused ? columns / 3 : columns, d = width / c->heads;
    const double *part[3];
    uint32_t key[2];
    for (size_t k = 0; k < 3; k++) {
        part[k] = v->x[c->same[k] ? c->same[k] - 1 : (int)k] + (fused ? k * width : 0);
    }
    mrc_dropout_key((mrc_random){ .seed = 7, .step = 3 }, mrc_site("a"), key);
    for (size_t s = 0, first = 0; s < c->n_sequences; first += (size_t)c->lengths[s++]) {
        int32_t n = c->lengths[s], keys = n - c->pads[s];
        for (int32_t i = 0; i < n; i++) {
            const double *q = part[0] + (first + (size_t)i) * columns;
            for (size_t k = 0; k < width; k++) {
                const size_t head = k / d;
                double sum = 0, weighted = 0, added[2];
                for (int32_t j = 0; j < keys; j++) {
                    const size_t row = (first + (size_t)j) * columns;
                    double dot = 0;
                    if (c->window && (size_t)abs(i - j) > c->window) continue;
                    added_to_score(c, v, q, part[1] + row, head, d, i, j, added);
                    for (size_t e = head * d; e < head * d + d; e++) dot += q[e] * part[1][row + e];
                    dot = (dot + added[0]) * (c->scale > 0 ? c->scale : 1 / sqrt((double)d));
                    double w = exp(dot + added[1]);
                    sum += w;
                    weighted += w * part[2][row + k] * dropped_weight(c, key, head, index[s], i, j);
                }
                *y++ = sum > 0 ? weighted / sum : 0;
            }
        }
    }
}

// z: the products with x and, in z[q][1], with the state, biases included.
static void lstm_cell(double z[4][2], double *h, double *c) {
    double g[4];
    for (int q = 0; q < 4; q++) g[q] = z[q][0] + z[q][1];
    for (int q = 0; q < 4; q++) g[q] = q == 2 ? tanh(g[q]) : 1 / (1 + exp(-g[q]));
    *c = g[1] * *c + g[0] * g[2];
    *h = g[3] * tanh(*c);
}
static void gru_cell(double z[4][2], double *h) {
    double reset = 1 / (1 + exp(-z[0][0] - z[0][1])), keep = 1 / (1 + exp(-z[1][0] - z[1][1]));
    *h = (1 - keep) * tanh(z[2][0] + reset * z[2][1]) + keep * *h;
}

static void rnn_formula(const op_case *c, const values *v, double *y) {
    const size_t in = c->shape[0][1], h = c->shape[2][1], gates = c->shape[1][0] / h;
    size_t first = 0;
    const double *w[MAX_IN];
    for (int i = 0; i < MAX_IN; i++) w[i] = v->x[c->same[i] ? c->same[i] - 1 : i];
    for (size_t s = 0; s < c->n_sequences; first += (size_t)c->lengths[s++]) {
        for (int dir = 0; dir < 2; dir++) {
            double state[2][128] = {{0}}, next[2][128];         // h, c
            const double *const *p = w + 1 + 4 * dir;
            for (int32_t t = 0; t < c->lengths[s]; t++) {
                size_t r = first + (size_t)(dir ? c->lengths[s] - 1 - t : t);
                memcpy(next, state, sizeof state);
                for (size_t k = 0; k < h; k++) {
                    double z[4][2];
                    for (size_t g = 0; g < gates; g++) {
                        size_t o = g * h + k;
                        z[g][0] = p[2][o];
                        z[g][1] = p[3][o];
                        for (size_t i = 0; i < in; i++) {
                            z[g][0] += p[0][o * in + i] * w[0][r * in + i];
                        }
                        for (size_t i = 0; i < h; i++) z[g][1] += p[1][o * h + i] * state[0][i];
                    }
                    if (gates == 4) lstm_cell(z, &next[0][k], &next[1][k]);
                    else gru_cell(z, &next[0][k]);
                    y[r * 2 * h + (size_t)dir * h + k] = next[0][k];
                }
                memcpy(state, next, sizeof state);
            }
        }
    }
}

static void test_formula(const op_case *c, mrc_backend *naive) {
    static values v;
    static double y[MAX_NUMEL];
    if (c->op != MRC__OP_ATTENTION && c->op != MRC__OP_LSTM && c->op != MRC__OP_GRU) return;
    if (c->shape[0][0] > 200) return;           // the formula is slow, and the shorter ones do
    fill(c, &v);
    CHECK(run(naive, MRC_DTYPE_F64, c, (run_options){ 0, ALL }, &v) == MRC_OK, "%s", c->why);
    if (c->op == MRC__OP_ATTENTION) attention_formula(c, &v, y);
    else rnn_formula(c, &v, y);
    double e = error_of(MRC_DTYPE_F64, v.y, y, v.n_out);
    CHECK(e <= 1e-12, "%s, %s: off the formula by %g", mrc__ops[c->op].name, c->why, e);
}

//==============================================================================
// Planted bugs: what a wrong kernel does must be called wrong by the functions above
//==============================================================================
static mrc_backend *plant_naive;                // what the planted kernels are made of
#define PLANT(kernel) plant_naive->kernels[MRC_DTYPE_F64].kernel

static mrc_status plant_activation(mrc_backend *be, const mrc_activation_bwd_args *a) {
    mrc_status s = PLANT(activation_bwd)(be, a);
    for (size_t i = 0; i < a->n; i++) ((double *)a->dx.data)[i] *= 1 + 1e-5;
    return s;
}
// Keys' gradients a little too large.
static mrc_status plant_attention_scaled(mrc_backend *be, const mrc_attention_bwd_args *a) {
    mrc_status s = PLANT(attention_bwd)(be, a);
    for (size_t i = 0; i < a->n * a->heads * a->d; i++) {
        size_t r = i / (a->heads * a->d), e = i % (a->heads * a->d);
        ((double *)a->dk.data)[r * a->dk.ld + e] *= 1 + 1e-5;
    }
    return s;
}
// The mask is forgotten in backward; pads are attended to in backward.
static mrc_status plant_attention_unmasked(mrc_backend *be, const mrc_attention_bwd_args *a) {
    mrc_attention_bwd_args b = *a;
    b.mask.threshold = 0;
    b.mask.scale = 1;
    return PLANT(attention_bwd)(be, &b);
}
static mrc_status plant_attention_pads(mrc_backend *be, const mrc_attention_bwd_args *a) {
    mrc_attention_bwd_args b = *a;
    int32_t length[MAX_SEQUENCES];
    const int32_t *cu = a->cu_seqlens.data;
    for (size_t s = 0; s < a->n_sequences; s++) length[s] = cu[s + 1] - cu[s];
    b.real_len.data = length;
    return PLANT(attention_bwd)(be, &b);
}
// dx does not get the mask.
static mrc_status plant_add(mrc_backend *be, const mrc_add_bwd_args *a) {
    mrc_add_bwd_args b = *a;
    b.mask = (mrc_dropout_mask){ .scale = 1 };
    return PLANT(add_bwd)(be, &b);
}
// The residual's gradient gets the mask.
static mrc_status plant_add_norm(mrc_backend *be, const mrc_add_norm_bwd_args *a) {
    mrc_add_norm_bwd_args b = *a;
    b.dx = a->dresidual;
    b.dresidual.data = NULL;
    mrc_status s = PLANT(add_norm_bwd)(be, &b);
    b = *a;
    b.dresidual.data = NULL;
    return s == MRC_OK ? PLANT(add_norm_bwd)(be, &b) : s;
}
// No gradient flows from one row to the one before it: every row is a sequence.
static mrc_status plant_lstm(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    static const double zeros[4 * 128 * 128];
    mrc_lstm_bwd_args b = *a;
    for (int k = 0; k < 2; k++) b.weight_hh[k].data = zeros;
    return PLANT(lstm_bwd)(be, &b);
}
static mrc_status plant_lstm_order(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    mrc_lstm_bwd_args b = *a;
    b.dbias_hh[0].accumulate = 0;               // as if nobody had written that tensor before
    return PLANT(lstm_bwd)(be, &b);
}
static mrc_status plant_embedding(mrc_backend *be, const mrc_embedding_bwd_args *a) {
    mrc_embedding_bwd_args b = *a;
    b.word_padding = -1;
    return PLANT(embedding_bwd)(be, &b);
}
static mrc_status plant_linear(mrc_backend *be, const mrc_linear_bwd_args *a) {
    mrc_linear_bwd_args b = *a;
    b.act = MRC_ACT_NONE;
    return PLANT(linear_bwd)(be, &b);
}
static mrc_status plant_layer_norm(mrc_backend *be, const mrc_layer_norm_bwd_args *a) {
    mrc_status s = PLANT(layer_norm_bwd)(be, a);
    for (size_t i = 0; i < a->h; i++) ((double *)a->dweight.data)[i] *= 1 + 1e-5;
    return s;
}
static mrc_status plant_dropout(mrc_backend *be, const mrc_dropout_args *a) {
    mrc_dropout_args b = *a;
    b.mask.key[1] ^= 1;
    return PLANT(dropout_bwd)(be, &b);
}
static mrc_status plant_cross_entropy(mrc_backend *be, const mrc_cross_entropy_bwd_args *a) {
    mrc_status s = PLANT(cross_entropy_bwd)(be, a);
    ((double *)a->dlogits.data)[0] += 1e-5;
    return s;
}

static mrc_status plant_gru(mrc_backend *be, const mrc_gru_bwd_args *a) {
    mrc_gru_bwd_args b = *a;                    // the candidate's bias is summed before the gate
    mrc_status s = PLANT(gru_bwd)(be, a);
    b.dbias_hh[1] = a->dbias_ih[1];
    for (size_t o = 2 * a->h; o < 3 * a->h; o++) {
        ((double *)a->dbias_hh[1].data)[o] = ((double *)b.dbias_hh[1].data)[o];
    }
    return s;
}
static mrc_status plant_unfold(mrc_backend *be, const mrc_unfold_bwd_args *a) {
    mrc_unfold_bwd_args b = *a;                 // windows reach into the neighbouring sequence
    const int32_t all[2] = { 0, (int32_t)a->n };
    b.cu_seqlens.data = all;
    b.n_sequences = 1;
    return PLANT(unfold_bwd)(be, &b);
}
static mrc_status plant_symmetric_kl(mrc_backend *be, const mrc_symmetric_kl_bwd_args *a) {
    mrc_symmetric_kl_bwd_args b = *a;           // the second pass is taken for a constant
    mrc_status s = PLANT(symmetric_kl_bwd)(be, &b);
    const int32_t rows = ((const int32_t *)a->cu_seqlens.data)[a->n_sequences];
    for (size_t i = 0; i < (size_t)rows * a->columns; i++) {
        ((double *)a->dother.data)[i / a->columns * a->dother.ld + i % a->columns] = 0;
    }
    return s;
}
static mrc_status plant_focal(mrc_backend *be, const mrc_cross_entropy_bwd_args *a) {
    mrc_cross_entropy_bwd_args b = *a;
    b.criterion.reference = !a->criterion.reference;
    return PLANT(cross_entropy_bwd)(be, &b);
}

// A planted bug is found when some case of its op is off the differences and off the oracle.
static void plant_check(mrc_backend *planted, mrc__op op, const char *what) {
    static values exact, v;
    int by_differences = 0, by_oracle = 0;
    for (int i = 0; i < N_CASES; i++) {
        if (cases[i].op != op || cases[i].shape[0][0] > 50) continue;
        fill(&cases[i], &exact);
        v = exact;
        run(plant_naive, MRC_DTYPE_F64, &cases[i], (run_options){ 1, ALL }, &exact);
        by_differences += gradient_error(planted, &cases[i], &v) > 1e-6;
        run(planted, MRC_DTYPE_F64, &cases[i], (run_options){ 1, ALL }, &v);
        by_oracle += !agrees(planted, MRC_DTYPE_F64, &cases[i],
                             difference(MRC_DTYPE_F64, &cases[i], &v, &exact), 0);
    }
    CHECK(by_differences > 0, "%s: no difference shows that %s", mrc__ops[op].name, what);
    CHECK(by_oracle > 0, "%s: no comparison shows that %s", mrc__ops[op].name, what);
}

static void test_planted(mrc_backend *naive) {
    mrc_backend *be;
    plant_naive = naive;
    CHECK(mrc_backend_naive_new(&be, NULL) == MRC_OK, "naive");
    mrc_kernels *k = &be->kernels[MRC_DTYPE_F64];
    const mrc_kernels right = *k;
    k->activation_bwd = plant_activation;
    k->embedding_bwd = plant_embedding;
    k->linear_bwd = plant_linear;
    k->layer_norm_bwd = plant_layer_norm;
    k->dropout_bwd = plant_dropout;
    k->add_norm_bwd = plant_add_norm;
    k->add_bwd = plant_add;
    k->cross_entropy_bwd = plant_cross_entropy;
    k->attention_bwd = plant_attention_scaled;
    k->lstm_bwd = plant_lstm;
    plant_check(be, MRC__OP_ACTIVATION, "dx is 1e-5 too large");
    plant_check(be, MRC__OP_EMBEDDING, "the padding row gets a gradient");
    plant_check(be, MRC__OP_LINEAR, "the activation has no slope");
    plant_check(be, MRC__OP_LAYER_NORM, "dweight is 1e-5 too large");
    plant_check(be, MRC__OP_DROPOUT, "backward has another mask");
    plant_check(be, MRC__OP_ADD_NORM, "the residual's gradient is masked");
    plant_check(be, MRC__OP_ADD, "dx is not masked");
    plant_check(be, MRC__OP_CROSS_ENTROPY, "one element is 1e-5 too large");
    plant_check(be, MRC__OP_ATTENTION, "dk is 1e-5 too large");
    plant_check(be, MRC__OP_LSTM, "nothing flows back through h");
    k->attention_bwd = plant_attention_unmasked;
    plant_check(be, MRC__OP_ATTENTION, "the mask is forgotten");
    k->attention_bwd = plant_attention_pads;
    plant_check(be, MRC__OP_ATTENTION, "pads are attended to");
    k->gru_bwd = plant_gru;
    k->unfold_bwd = plant_unfold;
    k->symmetric_kl_bwd = plant_symmetric_kl;
    k->cross_entropy_bwd = plant_focal;
    plant_check(be, MRC__OP_GRU, "b_hn is taken for b_in");
    plant_check(be, MRC__OP_UNFOLD, "windows reach into another sequence");
    plant_check(be, MRC__OP_SYMMETRIC_KL, "the other pass gets no gradient");
    plant_check(be, MRC__OP_CROSS_ENTROPY, "the loss is of the other variant");
    k->lstm_bwd = plant_lstm_order;
    plant_check(be, MRC__OP_LSTM, "a tensor used twice is overwritten");
    *k = right;
    mrc_backend_free(be);
}

//==============================================================================
// axpby has no node: y = alpha x + beta y to the bit, zeros with their signs
//==============================================================================
// Runs one on a backend: x of a type, y of the same or of another one.
static void axpby_run(mrc_backend *be, mrc_dtype type, mrc_dtype into, mrc_axpby_args a,
                      const double *x, const double *y, double *out) {
    double raw[32];
    void *far[2];
    mrc_ctx *ctx = all_ctx(be);                 // whose memory a guard watches
    for (int k = 0; k < 2; k++) {
        const mrc_dtype one = k ? into : type;
        const size_t bytes = a.n * mrc_dtype_bytes(one);
        test_encode(one, k ? y : x, a.n, raw);
        far[k] = be->alloc(be, bytes);
        CHECK(far[k] && be->upload(be, far[k], raw, bytes) == MRC_OK, "upload");
    }
    a.x = (mrc_in){ type, a.n, far[0] };
    a.y = (mrc_out){ into, a.n, far[1], 0 };
    CHECK(be->kernels[type].axpby(be, &a) == MRC_OK, "axpby on %s", be->name);
    test_read(be, into, far[1], a.n, out);
    be->free(be, far[0]);
    be->free(be, far[1]);
    mrc_ctx_free(ctx);
}

static void test_axpby(const all_backends *all) {
    enum { N = 27 };
    static const double given[3] = { -0.0, 0.0, -2.5 };
    static const struct { double alpha, beta; } forms[] = {
        { 1, 0 }, { 0, 1 }, { 0.5, -2 }, { -1, 1 }, { 0, 0 } };
    double x[N], y[N], want[N], got[N];
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        const double alpha = forms[f].alpha, beta = forms[f].beta;
        const int reads_x = alpha > 0 || alpha < 0, reads_y = beta > 0 || beta < 0;
        for (int i = 0; i < N; i++) {           // what is not read is a NaN
            x[i] = reads_x ? given[i % 3] : NAN;
            y[i] = reads_y ? given[i / 3 % 3] : NAN;
            want[i] = reads_x && reads_y ? beta * y[i] + alpha * x[i]
                    : reads_x ? alpha * x[i] : reads_y ? beta * y[i] : 0;
        }
        for (int k = 0; k < all->n * 16; k++) {
            mrc_backend *be = all->be[k / 16];
            const mrc_dtype type = (mrc_dtype)(k % 4), into = (mrc_dtype)(k / 4 % 4);
            if (!all_has(be, type) || (into != type && (type != MRC_DTYPE_F32
                                                        || !mrc__is_half(into)))) continue;
            axpby_run(be, type, into, (mrc_axpby_args){ .n = N, .alpha = alpha, .beta = beta }, x,
                      y, got);
            CHECK(!memcmp(got, want, sizeof got), "%g x + %g y on %s, %s into %s: other bits",
                  alpha, beta, all->label[k / 16], mrc_dtype_name(type), mrc_dtype_name(into));
        }
    }
}

//==============================================================================
// Bugs in the CUDA kernels, tests/cuda/bugs.h: each is shown by a case of its op
//==============================================================================
#if defined(MRC_TEST_CUDA) && !defined(MRC_TEST_GPU)
#include "../cuda/bugs.h"
static void test_cuda_bugs(const all_backends *all) {
    static const struct { int bug; mrc__op op; mrc_dtype type; const char *what; } bugs[] = {
#define MRC_X(name, op, what) { MRC_BUG_##name, MRC__OP_##op, MRC_DTYPE_F32, what },
        MRC_OP_BUGS(MRC_X)
#undef MRC_X
#define MRC_X(name, op, what) { MRC_BUG_##name, MRC__OP_##op, MRC_DTYPE_F16, what },
        MRC_HALF_BUGS(MRC_X)
#undef MRC_X
    };
    static values exact, v;
    for (size_t b = 0; b < sizeof bugs / sizeof *bugs; b++) {
        int caught = 0;
        for (int i = 0; i < N_CASES && !caught; i++) {
            const mrc_dtype type = bugs[b].type;
            if (cases[i].op != bugs[b].op || (mrc__is_half(type) && !case_mixed(&cases[i]))) {
                continue;
            }
            fill(&cases[i], &exact);
            if (mrc__is_half(type)) round_to(type, &exact);
            v = exact;
            run(all->be[0], MRC_DTYPE_F64, &cases[i], (run_options){ 1, ALL }, &exact);
            mrc_shim_bug = bugs[b].bug;
            run(all->be[1], type, &cases[i], (run_options){ 1, ALL }, &v);
            mrc_shim_bug = MRC_BUG_NONE;
            caught = !agrees(all->be[1], type, &cases[i],
                             difference(type, &cases[i], &v, &exact), 0);
        }
        CHECK(caught, "%s on cuda: no case shows that %s", mrc__ops[bugs[b].op].name,
              bugs[b].what);
    }
}

// A device that refuses grids of blocks that wait for each other, though it counts room for them.
static void test_cuda_refusals(const all_backends *all) {
    static const char *const most[] = { "1", "2", "5" };
    static values exact, v;
    for (int i = 0; i < N_CASES; i++) {
        const op_case *c = &cases[i];
        if (c->op != MRC__OP_LSTM && c->op != MRC__OP_GRU) continue;
        for (size_t k = 0; k < 6; k++) {
            const mrc_dtype type = k % 2 ? MRC_DTYPE_F16 : MRC_DTYPE_F32;
            if (mrc__is_half(type) && !case_mixed(c)) continue;
            fill(c, &exact);
            if (mrc__is_half(type)) round_to(type, &exact);
            v = exact;
            run(all->be[0], MRC_DTYPE_F64, c, (run_options){ 1, ALL }, &exact);
            setenv("MRC_SHIM_COOP", most[k / 2], 1);
            run(all->be[1], type, c, (run_options){ 1, ALL }, &v);
            unsetenv("MRC_SHIM_COOP");
            CHECK(agrees(all->be[1], type, c, difference(type, c, &v, &exact), 1e-6), "%s, %s: "
                  "where at most %s blocks may wait", mrc__ops[c->op].name, c->why, most[k / 2]);
        }
    }
}
#else
static void test_cuda_bugs(const all_backends *all) { (void)all; }
static void test_cuda_refusals(const all_backends *all) { (void)all; }
#endif

//==============================================================================
// Maps of one input whose parameters are one piece of memory: one product, with the gradients of
// three; in parts where one of them is frozen or has a gradient already
//==============================================================================
enum { JOINT_ROWS = 5, JOINT_WIDTH = 32, JOINT_SQUARE = JOINT_WIDTH * JOINT_WIDTH };
typedef enum joint { JOINT_WHOLE, JOINT_FROZEN, JOINT_WRITTEN, JOINT_APART, JOINTS } joint;

static size_t joint_calls;              // of linear_bwd
static mrc_status (*joint_kernel)(mrc_backend *be, const mrc_linear_bwd_args *a);
static mrc_status joint_counted(mrc_backend *be, const mrc_linear_bwd_args *a) {
    joint_calls++;
    return joint_kernel(be, a);
}

static void joint_params(mrc_params *p, joint kind, mrc__map maps[3]) {
    const size_t shape[2] = { JOINT_WIDTH, JOINT_WIDTH };
    double values[JOINT_SQUARE];
    char name[8];
    for (int bias = 0; bias < 2; bias++) {
        if (kind != JOINT_APART) {
            CHECK(mrc__params_join(p, 3, JOINT_WIDTH, bias ? 1 : JOINT_WIDTH, MRC_DTYPE_F32,
                                   MRC_DTYPE_F32) == MRC_OK, "join");
        }
        for (int k = 0; k < 3; k++) {
            mrc_tensor **t = bias ? &maps[k].bias : &maps[k].weight;
            float host[JOINT_SQUARE];
            snprintf(name, sizeof name, "%d.%d", bias, k);
            CHECK(mrc_param_new(p, t, name, MRC_DTYPE_F32, 2 - bias, shape) == MRC_OK, "%s", name);
            for (int i = 0; i < JOINT_SQUARE; i++) {
                values[i] = ((i * 7 + k * 13 + bias * 5) % 23 - 11) / 32.0;
                host[i] = (float)values[i];
            }
            p->arena.be->upload(p->arena.be, (*t)->data, host, (*t)->numel * sizeof *host);
        }
    }
    if (kind == JOINT_FROZEN) maps[1].weight->requires_grad = 0;
}

// The outputs of three maps and their gradients; apart: by three nodes.
static void joint_run(mrc_backend *be, joint kind, int apart, float *y, float *grads) {
    enum { N = JOINT_ROWS, H = JOINT_WIDTH };
    const size_t shape[2] = { N, H }, whole[2] = { N, 3 * H };
    double x[N * H], w[N * 3 * H], part[N * H];
    mrc_ctx *ctx = all_ctx(be);                 // whose memory a guard watches
    mrc_params *p = NULL;
    mrc__map maps[3];
    CHECK(mrc_params_new(&p, be, NULL) == MRC_OK, "params");
    joint_params(p, kind, maps);
    for (int i = 0; i < N * H; i++) x[i] = (i * 5 % 17 - 8) / 16.0;
    for (int i = 0; i < N * 3 * H; i++) w[i] = (i * 11 % 19 - 9) / 16.0;
    mrc_tensor *in = test_tensor(ctx, mrc_tensor_new(ctx, MRC_DTYPE_F32, 2, shape, 1), x);
    mrc_tensor *out[3] = { NULL }, *d[3], *extra = NULL;
    if (!apart) out[0] = mrc__linear(ctx, in, maps, 3, MRC_ACT_NONE);
    for (int k = 0; apart && k < 3; k++) {
        out[k] = mrc_linear(ctx, in, maps[k].weight, maps[k].bias, MRC_ACT_NONE);
    }
    // backward comes to it first: the key's gradient has been written by then
    if (kind == JOINT_WRITTEN) {
        extra = mrc_linear(ctx, in, maps[1].weight, maps[1].bias, MRC_ACT_NONE);
        mrc_grad_seed(ctx, extra, test_tensor(ctx, mrc_tensor_new(ctx, MRC_DTYPE_F32, 2, shape, 0),
                                              x));
    }
    for (int k = 0; k < (apart ? 3 : 1); k++) {
        for (int i = 0; i < N * H; i++) part[i] = w[i / H * 3 * H + k * H + i % H];
        d[k] = test_tensor(ctx, mrc_tensor_new(ctx, MRC_DTYPE_F32, 2, apart ? shape : whole, 0),
                           apart ? part : w);
        mrc_grad_seed(ctx, out[k], d[k]);
        float host[N * 3 * H];
        mrc_tensor_download(ctx, out[k], host);
        for (int i = 0; apart && i < N * H; i++) y[i / H * 3 * H + k * H + i % H] = host[i];
        if (!apart) memcpy(y, host, sizeof host);
    }
    CHECK(mrc_tape_backward(ctx, (mrc_mark){0}) == MRC_OK, "%s", mrc_ctx_message(ctx));
    be->download(be, grads, mrc_grad(ctx, in), N * H * sizeof *grads);
    grads += N * H;
    for (int k = 0; k < 3; k++, grads += JOINT_SQUARE + H) {
        const void *g = mrc_grad(ctx, maps[k].weight);
        if (g) be->download(be, grads, g, JOINT_SQUARE * sizeof *grads);
        be->download(be, grads + JOINT_SQUARE, mrc_grad(ctx, maps[k].bias), H * sizeof *grads);
    }
    mrc_ctx_free(ctx);
    mrc_params_free(p);
}

// How many values differ, or are no numbers.
static size_t joint_off(const float *a, const float *b, int n) {
    size_t off = 0;
    for (int i = 0; i < n; i++) off += !(fabs((double)a[i] - b[i]) <= 2e-5);
    return off;
}

static void test_joint(mrc_backend *be) {
    enum { Y = 3 * JOINT_ROWS * JOINT_WIDTH, X = JOINT_ROWS * JOINT_WIDTH,
           G = X + 3 * (JOINT_SQUARE + JOINT_WIDTH) };
    static const size_t calls[JOINTS] = { 1, 3, 4, 3 };         // WRITTEN: and the other map's own
    static float y[2][Y], g[2][G];
    mrc_kernels *k = &be->kernels[MRC_DTYPE_F32];
    joint_kernel = k->linear_bwd;
    for (joint kind = 0; kind < JOINTS; kind++) {
        memset(g, 0, sizeof g);
        joint_run(be, kind, 1, y[1], g[1]);
        joint_calls = 0;
        k->linear_bwd = joint_counted;
        joint_run(be, kind, 0, y[0], g[0]);
        k->linear_bwd = joint_kernel;
        CHECK(joint_calls == calls[kind], "%s, joint %d: %zu calls of linear_bwd, expected %zu",
              be->name, (int)kind, joint_calls, calls[kind]);
        size_t off = joint_off(y[0], y[1], Y) + joint_off(g[0], g[1], G);
        CHECK(off == 0, "%s, joint %d: %zu values are off", be->name, (int)kind, off);
    }
}

// Under ThreadSanitizer the CUDA kernels whose threads share memory, as far as test_cuda's training
// steps do not have them.
static int test_cuda_races(void) {
    const char *config = getenv("MRC_TEST_CONFIG");
    static all_backends all;
    if (!TEST_ON_CUDA || !config || strcmp(config, "cuda-tsan")) return 0;
    all_new(&all);
    for (int i = 0; i < N_CASES; i++) {
        const op_case *c = &cases[i];
        const int shares = c->op == MRC__OP_MAXSIM || c->window || c->relative;
        if (shares && c->shape[0][0] <= 150) test_case(c, &all);
    }
    all_free(&all);
    return 1;
}

int main(void) {
    static all_backends all;
    int covered[MRC__OP_COUNT] = { [MRC__OP_CUSTOM] = 1, [MRC__OP_CHECKPOINT] = 1 };
    if (test_cuda_races()) return test_end();
    all_new(&all);
    for (int i = 0; i < N_CASES; i++) {
        const op_case *c = &cases[i];
        test_case(c, &all);
        if (!TEST_ON_CUDA) test_formula(c, all.be[0]);
        if (c->shape[0][0] <= 20) test_targets(c, &all);
        covered[c->op]++;
    }
    test_axpby(&all);
    for (int k = 0; k < all.n; k++) test_joint(all.be[k]);
    for (int op = 0; op < MRC__OP_COUNT; op++) {
        CHECK(covered[op], "%s has no case", mrc__ops[op].name);
    }
    if (!TEST_ON_CUDA) test_planted(all.be[0]);
    test_cuda_bugs(&all);
    test_cuda_refusals(&all);
    CHECK(all.derived.calls > 0 || TEST_ON_CUDA, "the cpu's linear did not call the replaced gemm");
    all_free(&all);
    return test_end();
}
