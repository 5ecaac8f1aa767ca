// The kernels that no op's case reaches in all their forms, called as a backend's author would:
// gemm, the optimizers' kernels, sums of arrays; and how numbers become 16 bits wide.
// tags: bare cuda arm64
#include "../support/backends.h"

// Runs one kernel in a workspace of its own query.
#define RUN(be, dtype, kernel, args)                                                        \
    ((args)->workspace = run_workspace(be, !(be)->kernels[dtype].kernel##_workspace         \
         ? 0 : (be)->kernels[dtype].kernel##_workspace(be, args)),                          \
     run_done(be, (args)->workspace, (be)->kernels[dtype].kernel(be, args)))
static void *run_workspace(mrc_backend *be, size_t bytes) {
    return bytes ? be->alloc(be, bytes) : NULL;
}
static mrc_status run_done(mrc_backend *be, void *workspace, mrc_status s) {
    if (workspace) be->free(be, workspace);
    return s;
}

// n numbers on a backend, in its type.
static void *put(mrc_backend *be, mrc_dtype dtype, const double *values, size_t n) {
    void *raw = malloc((n + 1) * sizeof(double));
    void *data = be->alloc(be, (n + 1) * mrc_dtype_bytes(dtype));
    if (!raw || !data) abort();
    test_encode(dtype, values, n, raw);
    be->upload(be, data, raw, n * mrc_dtype_bytes(dtype));
    free(raw);
    return data;
}

static double error_of(const double *a, const double *b, size_t n) {
    double worst = 0, scale = 1e-30;
    for (size_t i = 0; i < n; i++) {
        double e = fabs(a[i] - b[i]);
        if (!(e < HUGE_VAL)) return HUGE_VAL;
        worst = fmax(worst, e);
        scale = fmax(scale, fabs(b[i]));
    }
    return worst / scale;
}

//==============================================================================
// gemm: both operands both ways round, leading dimensions with room to spare, old contents
//==============================================================================
enum { GAP = 3, MAX_MATRIX = 300 * 310 };
static const double sentinel = 1024;           // every type has it

typedef struct matrix { size_t rows, columns, ld, n; double values[MAX_MATRIX]; } matrix;

// With values that the type has.
static void matrix_init(matrix *m, size_t rows, size_t columns, mrc_dtype dtype) {
    static uint64_t raw[MAX_MATRIX];
    m->rows = rows;
    m->columns = columns;
    m->ld = columns + GAP;
    m->n = rows * m->ld + GAP;
    for (size_t i = 0; i < m->n; i++) {
        m->values[i] = i % m->ld < columns && i / m->ld < rows ? test_random() : sentinel;
    }
    test_encode(dtype, m->values, m->n, raw);
    test_decode(dtype, raw, m->n, m->values);
}

static void gemm_formula(const mrc_gemm_args *g, const matrix *a, const matrix *b, matrix *c) {
    for (size_t i = 0; i < g->m; i++) {
        for (size_t j = 0; j < g->n; j++) {
            double sum = 0;
            for (size_t p = 0; p < g->k; p++) {
                sum += a->values[g->a_transposed ? p * a->ld + i : i * a->ld + p]
                     * b->values[g->b_transposed ? j * b->ld + p : p * b->ld + j];
            }
            double *to = &c->values[i * c->ld + j];
            *to = g->c.accumulate ? *to + sum : sum;
        }
    }
}

static void gemm_on(const all_backends *all, const mrc_gemm_args *shape, const matrix *a,
                    const matrix *b, const matrix *c, const matrix *want, mrc_dtype dtype) {
    static double kept[MAX_BACKENDS][MAX_MATRIX];
    static const double tolerance[] = { 2e-6, 3e-15, 0x1p-11 + 2e-6, 0x1p-8 + 2e-6 };
    for (int k = 0; k < all->n; k++) {
        mrc_backend *be = all->be[k];
        mrc_gemm_args g = *shape;
        if (!strcmp(be->name, "guard") || !all_has(be, dtype)) continue;    // in no arena
        g.a = (mrc_in){ dtype, a->ld, put(be, dtype, a->values, a->n) };
        g.b = (mrc_in){ dtype, b->ld, put(be, dtype, b->values, b->n) };
        g.c = (mrc_out){ dtype, c->ld, put(be, dtype, c->values, c->n), shape->c.accumulate };
        CHECK(RUN(be, dtype, gemm, &g) == MRC_OK, "gemm on %s", all->label[k]);
        test_read(be, dtype, g.c.data, c->n, kept[k]);
        double e = 0, scale = 1;
        for (size_t i = 0; i < c->n; i++) {
            int inside = i % c->ld < c->columns && i / c->ld < c->rows;
            if (inside) scale = fmax(scale, fabs(want->values[i]));
            if (inside ? !(fabs(kept[k][i] - want->values[i]) <= e)
                       : kept[k][i] != sentinel) {
                e = inside ? fabs(kept[k][i] - want->values[i]) : HUGE_VAL;
            }
            if (e != e) e = HUGE_VAL;
        }
        CHECK(e / scale <= tolerance[dtype], "gemm %zu x %zu x %zu, %d %d, "
              "+ %d, %s on %s: off by %g", g.m, g.n, g.k, g.a_transposed, g.b_transposed,
              g.c.accumulate, mrc_dtype_name(dtype), all->label[k], e / scale);
        int other = all->same_as[k];
        CHECK(other < 0 || !memcmp(kept[k], kept[other], c->n * sizeof(double)),
              "gemm %zu x %zu x %zu: %s has other bits", g.m, g.n, g.k, all->label[k]);
        be->free(be, (void *)(uintptr_t)g.a.data);
        be->free(be, (void *)(uintptr_t)g.b.data);
        be->free(be, g.c.data);
    }
}

static void test_gemm(const all_backends *all) {
    static const size_t sizes[][3] = { { 1, 1, 1 }, { 3, 5, 7 }, { 7, 19, 0 }, { 0, 3, 2 },
        { 97, 33, 1 }, { 1, 290, 3 }, { 6, 16, 257 }, { 101, 70, 300 }, { 130, 65, 40 },
        { 48, 64, 64 } };
    static matrix a, b, c, want;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int form = 0; form < 32; form++) {
            const mrc_dtype dtype = (mrc_dtype)(form >> 3);
            mrc_gemm_args g = { .m = sizes[i][0], .n = sizes[i][1], .k = sizes[i][2],
                                .a_transposed = form & 1, .b_transposed = form >> 1 & 1 };
            g.c.accumulate = form >> 2 & 1;
            matrix_init(&a, g.a_transposed ? g.k : g.m, g.a_transposed ? g.m : g.k, dtype);
            matrix_init(&b, g.b_transposed ? g.n : g.k, g.b_transposed ? g.k : g.n, dtype);
            matrix_init(&c, g.m, g.n, dtype);
            want = c;
            gemm_formula(&g, &a, &b, &want);
            for (size_t k = 0; !g.c.accumulate && k < c.n; k++) {
                if (k % c.ld < c.columns && k / c.ld < c.rows) c.values[k] = NAN;
            }
            gemm_on(all, &g, &a, &b, &c, &want, dtype);
        }
    }
}

//==============================================================================
// grad_norm and the optimizers over several tensors and steps
//==============================================================================
enum { N_TENSORS = 6, MAX_SIZE = 4099, TOTAL = 8192 };
static const size_t tensor_sizes[N_TENSORS] = { 1, 7, 300, 0, MAX_SIZE, 1190 };
static const size_t tensor_rows[N_TENSORS] = { 0, 7, 12, 0, 1, 34 };

// What is run after grad_norm: an optimizer of PARITY 3.11, or an average of the weights.
typedef enum update { AS_OPTIM = MRC_SGD, ADAMP_NESTEROV, EMA, N_UPDATES } update;

// The optimizer's numbers, all tensors after one another, each followed by a sentinel.
typedef struct optim { double p[TOTAL], m[TOTAL], v[TOTAL], g[TOTAL]; int t; } optim;
static size_t optim_at(int k) {
    size_t at = 0;
    for (int i = 0; i < k; i++) at += tensor_sizes[i] + 1;
    return at;
}
static double optim_lr(int k) { return 0.01 * (k + 1); }
static double optim_decay(int k) { return k % 2 ? 0 : 0.1; }

static void optim_init(optim *o) {
    memset(o, 0, sizeof *o);
    for (int k = 0; k < N_TENSORS; k++) {
        size_t at = optim_at(k), n = tensor_sizes[k];
        for (size_t i = at; i < at + n; i++) o->p[i] = test_random();
        o->p[at + n] = o->m[at + n] = o->v[at + n] = sentinel;
    }
}

static void optim_gradients(optim *o, double scale) {
    for (size_t i = 0; i < optim_at(N_TENSORS); i++) o->g[i] = scale * test_random();
}

// The first has tensors that are projected as a whole and some that are not, the second by rows.
static double adamp_delta(update kind) { return kind == ADAMP_NESTEROV ? 4 : 0.5; }

// AdamP's change of the step u of one tensor, and what decay is multiplied by.
static double adamp_project(const double *p, const double *g, double *u, size_t rows, size_t size,
                            double delta) {
    const size_t views[2] = { rows, 1 };
    for (int view = 0; rows && size && view < 2; view++) {
        size_t columns = size / views[view];
        double most = 0, norms[64], dots[64];
        for (size_t r = 0; r < views[view]; r++) {
            double gg = 0, pp = 0, gp = 0, pu = 0;
            for (size_t i = r * columns; i < (r + 1) * columns; i++) {
                gg += g[i] * g[i], pp += p[i] * p[i], gp += g[i] * p[i], pu += p[i] * u[i];
            }
            most = fmax(most, fabs(gp) / (fmax(sqrt(gg), 1e-6) * fmax(sqrt(pp), 1e-6)));
            norms[r] = sqrt(pp) + 1e-6;
            dots[r] = pu / norms[r];
        }
        if (most >= delta / sqrt((double)columns)) continue;
        for (size_t i = 0; i < size; i++) u[i] -= p[i] / norms[i / columns] * dots[i / columns];
        return 0.1;
    }
    return 1;
}

// PARITY's formulas, in double.
static void optim_tensor(optim *o, int k, update kind, double clip) {
    static double u[TOTAL], scaled[TOTAL];
    const size_t at = optim_at(k), n = tensor_sizes[k];
    const int hf = kind == (update)MRC_ADAMW_HF, nesterov = kind == ADAMP_NESTEROV;
    double lr = optim_lr(k), decay = optim_decay(k), *p = o->p + at, *m = o->m + at;
    double *v = o->v + at, c1 = 1 - pow(0.9, o->t), c2 = 1 - pow(0.999, o->t);
    for (size_t i = 0; i < n; i++) {
        double g = scaled[i] = clip * o->g[at + i];
        if (kind == EMA) {
            m[i] = 0.97 * m[i] + 0.03 * p[i];
        } else if (kind == (update)MRC_SGD) {
            m[i] = 0.8 * m[i] + (g + decay * p[i]);
            p[i] -= lr * m[i];
        } else {
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            u[i] = hf ? m[i] * sqrt(c2) / (sqrt(v[i]) + 1e-6)
                      : (nesterov ? 0.9 * m[i] + 0.1 * g : m[i]) / (sqrt(v[i] / c2) + 1e-6);
        }
    }
    if (kind == EMA || kind == (update)MRC_SGD) return;
    if (kind == (update)MRC_ADAMP || nesterov) {
        decay *= adamp_project(p, scaled, u, tensor_rows[k], n, adamp_delta(kind));
    }
    for (size_t i = 0; i < n; i++) {
        if (!hf) p[i] *= 1 - lr * decay;
        p[i] -= lr / c1 * u[i];
        if (hf) p[i] *= 1 - lr * decay;
    }
}

static void optim_formula(optim *o, update kind, double max_norm, double *norm, double *clip) {
    double sum = 0;
    for (int k = 0; k < N_TENSORS; k++) {
        const double *g = o->g + optim_at(k);
        for (size_t i = 0; i < tensor_sizes[k]; i++) sum += g[i] * g[i];
    }
    *norm = sqrt(sum);
    *clip = max_norm > 0 ? fmin(1, max_norm / (*norm + 1e-6)) : 1;
    o->t++;
    for (int k = 0; k < N_TENSORS; k++) optim_tensor(o, k, kind, *clip);
}

// Working copies, of f32 parameters alone: one in f16, one in bf16, the last with a vector's tail.
static mrc_dtype optim_copy(mrc_dtype dtype, int k) {
    return dtype != MRC_DTYPE_F32 ? dtype : k == 2 ? MRC_DTYPE_F16 : k == 4 ? MRC_DTYPE_BF16
         : dtype;
}

// What lives on the backend.
typedef struct device_optim {
    mrc_backend     *be;
    mrc_dtype        dtype;
    char            *p, *m, *v, *g, *copies;
    void            *norm, *clip;
    int32_t         *state;
    mrc_optim_tensor tensors[N_TENSORS];
} device_optim;

static void device_new(device_optim *d, mrc_backend *be, mrc_dtype dtype, const optim *o) {
    const size_t n = optim_at(N_TENSORS), bytes = mrc_dtype_bytes(dtype);
    const int32_t state[2] = { 0, 0 };
    static const double zeros[TOTAL];
    *d = (device_optim){ .be = be, .dtype = dtype };
    d->copies = put(be, MRC_DTYPE_F16, zeros, n);
    d->p = put(be, dtype, o->p, n);
    d->m = put(be, dtype, o->m, n);
    d->v = put(be, dtype, o->v, n);
    d->g = put(be, dtype, o->g, n);
    d->norm = put(be, dtype, &sentinel, 1);
    d->clip = put(be, dtype, &sentinel, 1);
    d->state = be->alloc(be, sizeof state);
    be->upload(be, d->state, state, sizeof state);
    for (int k = 0; k < N_TENSORS; k++) {
        size_t at = optim_at(k) * bytes, ld = tensor_sizes[k];
        d->tensors[k] = (mrc_optim_tensor){
            .numel = tensor_sizes[k], .rows = tensor_rows[k], .lr = optim_lr(k),
            .weight_decay = optim_decay(k),
            .grad = { dtype, ld, d->g + at }, .param = { dtype, ld, d->p + at, 0 },
            .m = { dtype, ld, d->m + at, 0 }, .v = { dtype, ld, d->v + at, 0 } };
        if (!mrc__is_half(optim_copy(dtype, k))) continue;
        d->tensors[k].copy = (mrc_out){ optim_copy(dtype, k), ld, d->copies + optim_at(k) * 2, 0 };
    }
}

static void device_free(device_optim *d) {
    void *all[] = { d->p, d->m, d->v, d->g, d->norm, d->clip, d->state, d->copies };
    for (int i = 0; i < 8; i++) d->be->free(d->be, all[i]);
}

// Both halves of the norm: the squares by chunk, then what args say.
static mrc_status run_norm(mrc_backend *be, mrc_dtype dtype, size_t n,
                           const mrc_optim_tensor *tensors, mrc_grad_norm_args *a) {
    a->n = 0;
    for (size_t k = 0; k < n; k++) {
        a->n += (tensors[k].numel + MRC_NORM_CHUNK - 1) / MRC_NORM_CHUNK;
    }
    double *squares = be->alloc(be, (a->n + 1) * sizeof *squares);
    mrc_squares_args half = { .n_tensors = n, .tensors = tensors,
                              .squares = { MRC_DTYPE_F64, a->n, squares, 0 } };
    a->squares = (mrc_in){ MRC_DTYPE_F64, a->n, squares };
    mrc_status s = RUN(be, dtype, squares, &half);
    if (s == MRC_OK) s = RUN(be, dtype, grad_norm, a);
    be->free(be, squares);
    return s;
}

// The average that the optimizer keeps, as axpby of each tensor.
static mrc_status device_average(device_optim *d) {
    mrc_status s = MRC_OK;
    for (size_t k = 0; k < N_TENSORS && s == MRC_OK; k++) {
        const mrc_optim_tensor *t = &d->tensors[k];
        mrc_axpby_args a = { .n = t->numel, .alpha = 1 - 0.97, .beta = 0.97,
                             .skip = { MRC_DTYPE_I32, 1, d->state + 1 },
                             .x = { d->dtype, t->numel, t->param.data }, .y = t->m };
        s = RUN(d->be, d->dtype, axpby, &a);
    }
    return s;
}

static mrc_status device_update(device_optim *d, update kind) {
    const mrc_in clip = { d->dtype, 1, d->clip }, state = { MRC_DTYPE_I32, 1, d->state };
    mrc_adamw_args adamw = { .n_tensors = N_TENSORS, .tensors = d->tensors,
        .variant = (mrc_optim)kind, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-6, .clip = clip,
        .state = state };
    mrc_adamp_args adamp = { .n_tensors = N_TENSORS, .tensors = d->tensors, .beta1 = 0.9,
        .beta2 = 0.999, .eps = 1e-6, .delta = adamp_delta(kind), .wd_ratio = 0.1,
        .nesterov = kind == ADAMP_NESTEROV, .clip = clip, .state = state };
    mrc_sgd_args sgd = { .n_tensors = N_TENSORS, .tensors = d->tensors, .momentum = 0.8,
        .clip = clip, .state = state };
    if (kind == EMA) return device_average(d);
    if (kind == (update)MRC_SGD) return RUN(d->be, d->dtype, sgd, &sgd);
    if (kind == (update)MRC_ADAMP || kind == ADAMP_NESTEROV) {
        return RUN(d->be, d->dtype, adamp, &adamp);
    }
    return RUN(d->be, d->dtype, adamw, &adamw);
}

// One step with o's gradients; the norm and the clip it found.
static mrc_status device_step(device_optim *d, const optim *o, update kind, double max_norm,
                              double *norm, double *clip) {
    mrc_backend *be = d->be;
    float f32[TOTAL];
    const size_t n = optim_at(N_TENSORS);
    for (size_t i = 0; i < n; i++) f32[i] = (float)o->g[i];
    be->upload(be, d->g, d->dtype == MRC_DTYPE_F64 ? (const void *)o->g : f32,
               n * mrc_dtype_bytes(d->dtype));
    mrc_grad_norm_args first = {
        .max_norm = max_norm, .norm = { d->dtype, 1, d->norm, 0 },
        .clip = { d->dtype, 1, d->clip, 0 }, .state = { MRC_DTYPE_I32, 1, d->state, 0 } };
    mrc_status s = run_norm(be, d->dtype, N_TENSORS, d->tensors, &first);
    if (s == MRC_OK) s = device_update(d, kind);
    test_read(be, d->dtype, d->norm, 1, norm);
    test_read(be, d->dtype, d->clip, 1, clip);
    return s;
}

static void device_read(const device_optim *d, optim *o, int32_t state[2]) {
    const size_t n = optim_at(N_TENSORS);
    test_read(d->be, d->dtype, d->p, n, o->p);
    test_read(d->be, d->dtype, d->m, n, o->m);
    test_read(d->be, d->dtype, d->v, n, o->v);
    d->be->download(d->be, state, d->state, 2 * sizeof *state);
}

// A gradient that is not finite: flagged, not counted, nothing written.
static void optim_refuses(device_optim *d, optim *o, update kind, double bad,
                          const char *label) {
    static optim before, after;
    int32_t was[2], state[2];
    uint16_t copies[2][TOTAL];
    double norm, clip;
    device_read(d, &before, was);
    d->be->download(d->be, copies[0], d->copies, optim_at(N_TENSORS) * 2);
    optim_gradients(o, 1);
    o->g[optim_at(4) + 2000] = bad;
    CHECK(device_step(d, o, kind, 1, &norm, &clip) == MRC_OK, "%s: %g", label, bad);
    device_read(d, &after, state);
    d->be->download(d->be, copies[1], d->copies, optim_at(N_TENSORS) * 2);
    CHECK(!memcmp(copies[0], copies[1], optim_at(N_TENSORS) * 2), "%s: a copy was written", label);
    const size_t bytes = optim_at(N_TENSORS) * sizeof(double);
    CHECK(state[1] == 1 && state[0] == was[0], "%s: %g gives state %d, %d", label, bad,
          (int)state[0], (int)state[1]);
    CHECK(!memcmp(before.p, after.p, bytes) && !memcmp(before.m, after.m, bytes)
          && !memcmp(before.v, after.v, bytes), "%s: %g was written", label, bad);
}

// After a step a copy is its master, rounded; nothing else is written.
static void optim_copies(const device_optim *d, const optim *o, const char *label) {
    uint16_t copies[TOTAL], want[TOTAL] = {0};
    for (int k = 0; k < N_TENSORS; k++) {
        const mrc_dtype dtype = optim_copy(d->dtype, k);
        const size_t at = optim_at(k);
        if (mrc__is_half(dtype)) test_encode(dtype, o->p + at, tensor_sizes[k], want + at);
    }
    d->be->download(d->be, copies, d->copies, optim_at(N_TENSORS) * 2);
    CHECK(!memcmp(copies, want, optim_at(N_TENSORS) * 2), "%s: copies are not the masters", label);
}

static void optim_on(const all_backends *all, mrc_dtype dtype, update kind) {
    static const double max_norms[] = { 0, 1e9, 1, 0.5 }, bad[] = { NAN, HUGE_VAL, -HUGE_VAL };
    static optim want, got, kept[MAX_BACKENDS];
    for (int k = 0; k < all->n; k++) {
        device_optim d;
        int32_t state[2];
        if (!strcmp(all->be[k]->name, "guard")) continue;
        test_rng = 5;
        optim_init(&want);
        device_new(&d, all->be[k], dtype, &want);
        const double tolerance = dtype == MRC_DTYPE_F32 ? 1e-6 : 1e-14;
        for (int step = 0; step < 8; step++) {
            double norm, clip, want_norm, want_clip;
            if (step > 4) optim_refuses(&d, &want, kind, bad[step - 5], all->label[k]);
            optim_gradients(&want, step % 2 ? 1 : 1e-3);
            optim_formula(&want, kind, max_norms[step % 4], &want_norm, &want_clip);
            CHECK(device_step(&d, &want, kind, max_norms[step % 4], &norm, &clip) == MRC_OK,
                  "step on %s", all->label[k]);
            CHECK(fabs(norm / want_norm - 1) <= tolerance
                  && fabs(clip / want_clip - 1) <= tolerance,
                  "%s: norm %g, %g expected; clip %g, %g", all->label[k], norm, want_norm, clip,
                  want_clip);
            CHECK(step % 4 < 2 ? want_clip == 1 : step % 4 == 2 || want_clip < 1, "the plan");
        }
        device_read(&d, &got, state);
        if (kind != EMA) optim_copies(&d, &got, all->label[k]);
        double e = 0;
        for (int i = 0; i < N_TENSORS; i++) {
            size_t at = optim_at(i), size = tensor_sizes[i];
            CHECK(got.p[at + size] == sentinel && got.m[at + size] == sentinel
                  && got.v[at + size] == sentinel, "%s writes past tensor %d", all->label[k], i);
            e = fmax(e, error_of(got.p + at, want.p + at, size));
            e = fmax(e, error_of(got.m + at, want.m + at, size));
            e = fmax(e, error_of(got.v + at, want.v + at, size));
        }
        CHECK(e <= 4 * tolerance, "update %d, %s on %s: off by %g", kind, mrc_dtype_name(dtype),
              all->label[k], e);
        CHECK(state[0] == 8 && state[1] == 0, "%d steps counted", (int)state[0]);
        memcpy(&kept[k], &got, sizeof got);
        int other = all->same_as[k];
        CHECK(other < 0 || (!memcmp(got.p, kept[other].p, sizeof got.p)
                            && !memcmp(got.v, kept[other].v, sizeof got.v)),
              "update %d: %s has other bits", kind, all->label[k]);
        device_free(&d);
    }
}

// What FGM does to the word embeddings, to each tensor: m = p, p += eps g / ||g||; or p = m.
static mrc_status device_perturb(device_optim *d, double eps, int restore) {
    mrc_status s = MRC_OK;
    for (size_t k = 0; k < N_TENSORS && s == MRC_OK; k++) {
        const mrc_optim_tensor *t = &d->tensors[k];
        const mrc_out from = restore ? t->m : t->param, to = restore ? t->param : t->m;
        mrc_axpby_args copy = { .n = t->numel, .alpha = 1, .x = { d->dtype, t->numel, from.data },
                                .y = to };
        mrc_axpby_args move = { .n = t->numel, .alpha = eps, .beta = 1,
                                .scale = { d->dtype, 1, d->norm },
                                .x = { d->dtype, t->numel, t->grad.data }, .y = t->param };
        mrc_grad_norm_args norm = { .inverse = { d->dtype, 1, d->norm, 0 } };
        s = RUN(d->be, d->dtype, axpby, &copy);
        if (s == MRC_OK && !restore) s = run_norm(d->be, d->dtype, 1, t, &norm);
        if (s == MRC_OK && !restore) s = RUN(d->be, d->dtype, axpby, &move);
        mrc_axpby_args half = { .n = t->numel, .alpha = 1,
                                .x = { d->dtype, t->numel, t->param.data }, .y = t->copy };
        if (s == MRC_OK && t->copy.data) s = RUN(d->be, d->dtype, axpby, &half);
    }
    return s;
}

// An adversary's step and back: each tensor by eps along its own gradient, and the very same bits
// again; a gradient of norm 0, or one that is not finite, moves nothing.
static void perturb_on(const all_backends *all, mrc_dtype dtype) {
    static optim begun, want, got;
    for (int k = 0; k < all->n; k++) {
        device_optim d;
        int32_t state[2];
        if (!strcmp(all->be[k]->name, "guard")) continue;
        test_rng = 9;
        optim_init(&want);
        optim_gradients(&want, 1);
        for (size_t i = 0; i < tensor_sizes[1]; i++) want.g[optim_at(1) + i] = 0;
        want.g[optim_at(2) + 5] = NAN;
        device_new(&d, all->be[k], dtype, &want);
        device_read(&d, &begun, state);
        for (int t = 0; t < N_TENSORS; t++) {
            size_t at = optim_at(t);
            double sum = 0;
            for (size_t i = 0; i < tensor_sizes[t]; i++) sum += want.g[at + i] * want.g[at + i];
            for (size_t i = 0; sum > 0 && i < tensor_sizes[t]; i++) {
                want.p[at + i] += 0.3 * want.g[at + i] / sqrt(sum);
            }
        }
        CHECK(device_perturb(&d, 0.3, 0) == MRC_OK, "perturb on %s", all->label[k]);
        device_read(&d, &got, state);
        double e = error_of(got.p, want.p, optim_at(N_TENSORS));
        CHECK(e <= (dtype == MRC_DTYPE_F32 ? 1e-6 : 1e-14), "perturb on %s: off by %g",
              all->label[k], e);
        CHECK(device_perturb(&d, 0, 1) == MRC_OK, "restore on %s", all->label[k]);
        device_read(&d, &got, state);
        CHECK(!memcmp(got.p, begun.p, sizeof got.p), "%s does not restore", all->label[k]);
        optim_copies(&d, &got, all->label[k]);
        device_free(&d);
    }
}

//==============================================================================
// The loss scale: when it moves, and that norm, clip and steps are those of the true gradients
//==============================================================================
typedef struct scale_step { double bad, scale; int32_t counts[2]; } scale_step;

// interval 3, hysteresis 2, from 4: what a step's gradient holds, and what is there afterwards.
static const scale_step scale_steps[] = {
    { 0, 4, { 1, 0 } }, { 0, 4, { 2, 0 } }, { NAN, 4, { 0, 1 } },           // forgiven once
    { 0, 4, { 1, 1 } }, { HUGE_VAL, 2, { 0, 2 } },                          // but not twice
    { -HUGE_VAL, 1, { 0, 2 } }, { NAN, 1, { 0, 2 } },                       // 1 is the floor
    { 0, 1, { 1, 2 } }, { 0, 1, { 2, 2 } }, { 0, 2, { 0, 0 } },             // grows: forgives again
    { NAN, 2, { 0, 1 } }, { 0, 2, { 1, 1 } } };

static void scale_on(mrc_backend *be, const char *label) {
    enum { N = 37 };
    double p[N], g[N], zeros[N] = {0}, first = 4, norm[2], clip[2], got[2][N];
    const int32_t none[2] = { 0, 0 };
    void *at[2][6], *scale = put(be, MRC_DTYPE_F32, &first, 1);
    int32_t *counts = put(be, MRC_DTYPE_F64, zeros, 1), seen[2];
    for (int i = 0; i < N; i++) p[i] = test_random();
    for (int k = 0; k < 2; k++) {                           // 0: without a scale
        for (int i = 0; i < 6; i++) {
            at[k][i] = put(be, i < 5 ? MRC_DTYPE_F32 : MRC_DTYPE_F64, i ? zeros : p, N);
        }
        be->upload(be, at[k][5], none, sizeof none);
    }
    for (size_t step = 0; step < sizeof scale_steps / sizeof *scale_steps; step++) {
        const scale_step *s = &scale_steps[step];
        double was;
        test_read(be, MRC_DTYPE_F32, scale, 1, &was);
        for (int i = 0; i < N; i++) g[i] = test_random();
        for (int k = 0; k < 2; k++) {
            float f32[N];
            for (int i = 0; i < N; i++) f32[i] = (float)(g[i] * (k ? was : 1));
            if (s->bad != 0) f32[20] = (float)s->bad;
            be->upload(be, at[k][3], f32, sizeof f32);
            mrc_optim_tensor t = { .numel = N, .lr = 0.1, .grad = { MRC_DTYPE_F32, N, at[k][3] },
                .param = { MRC_DTYPE_F32, N, at[k][0], 0 }, .m = { MRC_DTYPE_F32, N, at[k][1], 0 },
                .v = { MRC_DTYPE_F32, N, at[k][2], 0 } };
            char *norms = at[k][4];
            mrc_grad_norm_args a = { .max_norm = 0.7,
                .norm = { MRC_DTYPE_F32, 1, norms, 0 }, .clip = { MRC_DTYPE_F32, 1, norms + 4, 0 },
                .state = { MRC_DTYPE_I32, 1, at[k][5], 0 } };
            if (k) a.loss_scale = (mrc_loss_scale){ .scale = { MRC_DTYPE_F32, 1, scale, 0 },
                .counts = { MRC_DTYPE_I32, 1, counts, 0 }, .growth_interval = 3, .hysteresis = 2 };
            mrc_adamw_args b = { .n_tensors = 1, .tensors = &t, .variant = MRC_ADAMW_TORCH,
                .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-6, .clip = { MRC_DTYPE_F32, 1, norms + 4 },
                .state = { MRC_DTYPE_I32, 1, at[k][5] } };
            CHECK(run_norm(be, MRC_DTYPE_F32, 1, &t, &a) == MRC_OK, "%s", label);
            CHECK(RUN(be, MRC_DTYPE_F32, adamw, &b) == MRC_OK, "%s", label);
            test_read(be, MRC_DTYPE_F32, norms, 1, &norm[k]);
            test_read(be, MRC_DTYPE_F32, norms + 4, 1, &clip[k]);
            test_read(be, MRC_DTYPE_F32, at[k][0], N, got[k]);
        }
        CHECK(s->bad != 0 || (norm[0] == norm[1] && clip[0] == clip[1] * was), "%s, step %zu: norm "
              "%g and %g, clip %g and %g / %g", label, step, norm[1], norm[0], clip[1], clip[0],
              was);
        CHECK(!memcmp(got[0], got[1], sizeof got[0]), "%s, step %zu: other bits", label, step);
        test_read(be, MRC_DTYPE_F32, scale, 1, &was);
        be->download(be, seen, counts, sizeof seen);
        CHECK(was == s->scale && seen[0] == s->counts[0] && seen[1] == s->counts[1],
              "%s, step %zu: scale %g, counts %d, %d", label, step, was, (int)seen[0],
              (int)seen[1]);
    }
    for (int k = 0; k < 12; k++) be->free(be, at[k / 6][k % 6]);
    be->free(be, scale);
    be->free(be, counts);
}

//==============================================================================
// The losses of a step: whether it counts is decided on the device, and all that the host wants to
// know is reported in one piece
//==============================================================================
typedef struct losses_case {
    double values[6], max, loss;
    size_t each;                        // of 3 places a micro-batch
    int    good;
} losses_case;
static const losses_case losses_cases[] = {
    { { 0.5, NAN, NAN, 0.25, NAN, NAN }, 0, 0.75, 1, 1 },
    { { 0.5, 0.125, 1, 0.25, 2, 4 }, 8, 7.875, 3, 1 },
    { { 0.5, 0.125, 1, 0.25, 2, 4 }, 7.5, 7.875, 3, 0 },
    { { 0.5, 0, 0, NAN, 0, 0 }, 0, NAN, 1, 0 },
    { { INFINITY, 0, 0, 1, 0, 0 }, 0, INFINITY, 1, 0 } };

// How many cases come out wrong.
static int losses_wrong(mrc_backend *be, mrc_dtype dtype) {
    const double squares[1] = { 25 };
    const float scale_f32 = 8;
    const int32_t state_was[2] = { 5, 0 }, counts_was[2] = { 2, 0 };
    int wrong = 0;
    for (size_t i = 0; i < sizeof losses_cases / sizeof *losses_cases; i++) {
        const losses_case *c = &losses_cases[i];
        double report[4] = { -1, -1, -1, -1 };
        float scale;
        int32_t state[2];
        void *at[6] = { put(be, dtype, c->values, 6), put(be, MRC_DTYPE_F64, squares, 1),
                        put(be, MRC_DTYPE_F64, report, 4), put(be, MRC_DTYPE_F64, squares, 1),
                        put(be, MRC_DTYPE_F64, squares, 1), put(be, MRC_DTYPE_F64, squares, 1) };
        be->upload(be, at[3], state_was, sizeof state_was);
        be->upload(be, at[4], counts_was, sizeof counts_was);
        be->upload(be, at[5], &scale_f32, sizeof scale_f32);
        mrc_grad_norm_args a = { .n = 1, .squares = { MRC_DTYPE_F64, 1, at[1] }, .n_units = 2,
            .n_losses = c->each, .losses = { dtype, 3, at[0] }, .max_loss = c->max,
            .loss_scale = { .scale = { MRC_DTYPE_F32, 1, at[5], 0 },
                            .counts = { MRC_DTYPE_I32, 1, at[4], 0 }, .growth_interval = 3,
                            .hysteresis = 2 },
            .state = { MRC_DTYPE_I32, 1, at[3], 0 }, .report = { MRC_DTYPE_F64, 1, at[2], 0 } };
        wrong += RUN(be, dtype, grad_norm, &a) != MRC_OK;
        be->download(be, report, at[2], sizeof report);
        be->download(be, state, at[3], sizeof state);
        be->download(be, &scale, at[5], sizeof scale);
        wrong += !(report[0] == c->loss || (isnan(report[0]) && isnan(c->loss)))
              || report[1] != 5.0 / 8 || report[2] != !c->good || report[3] != (c->good ? 16 : 8)
              || scale != (c->good ? 16 : 8) || state[0] != 5 + c->good || state[1] != !c->good;
        for (int k = 0; k < 6; k++) be->free(be, at[k]);
    }
    return wrong;
}
#if defined(MRC_TEST_CUDA) && !defined(MRC_TEST_GPU)
#include "../cuda/bugs.h"
#endif
static void test_losses(const all_backends *all) {
    for (int k = 0; k < all->n; k++) {
        for (mrc_dtype dtype = MRC_DTYPE_F32; dtype <= MRC_DTYPE_F64; dtype++) {
            if (!strcmp(all->be[k]->name, "guard")) continue;    // it watches a context
            if (!all->be[k]->kernels[dtype].grad_norm) continue;
            CHECK(losses_wrong(all->be[k], dtype) == 0, "losses in %s on %s: %d of 5 cases",
                  mrc_dtype_name(dtype), all->label[k], losses_wrong(all->be[k], dtype));
        }
    }
#if defined(MRC_TEST_CUDA) && !defined(MRC_TEST_GPU)
    mrc_shim_bug = MRC_BUG_STEP_LOSS;
    CHECK(losses_wrong(all->be[1], MRC_DTYPE_F32), "no case shows that the weights move after any "
          "loss");
    mrc_shim_bug = MRC_BUG_NONE;
#endif
}

//==============================================================================
// 16 bits: every value there is goes both ways; a double becomes the nearest, ties to even
//==============================================================================
static void test_half(mrc_dtype dtype) {
    size_t wrong = 0, ties = 0;
    double before = 0;
    for (uint32_t h = 0; h < 0x8000; h++) {
        double value, x[4];
        uint16_t bits = (uint16_t)h, back[4], minus = (uint16_t)(h | 0x8000);
        test_decode(dtype, &bits, 1, &value);
        x[0] = value;
        test_decode(dtype, &minus, 1, &x[1]);
        test_encode(dtype, x, 2, back);
        if (value != value) {                               // a NaN stays one
            test_decode(dtype, back, 1, &x[0]);
            wrong += x[0] == x[0];
            continue;
        }
        wrong += back[0] != bits || back[1] != minus || x[1] != -value;
        if (h == 0) continue;
        // Half-way from the one before, and a little to both sides: far below a float's last bit.
        double half = isinf(value) ? before * (1 + 0.5 / (dtype == MRC_DTYPE_F16 ? 2047 : 255))
                    : before + (value - before) / 2;
        x[0] = half;
        x[1] = half * (1 - 0x1p-50);
        x[2] = half * (1 + 0x1p-50);
        test_encode(dtype, x, 3, back);
        wrong += back[0] != (h & 1 ? h - 1 : h) || back[1] != h - 1 || back[2] != h;
        ties++;
        before = value;
    }
    CHECK(wrong == 0 && ties > 31000, "%s: %zu conversions are wrong", mrc_dtype_name(dtype),
          wrong);
}

//==============================================================================
// fold: sums in the order of their parts; of one part it is a copy to the bit, of -0 too
//==============================================================================
enum { SUM_N = 257, SUM_PARTS = 8 };

// Whether two numbers are the same to the bit; a NaN is one whatever its bits.
static int same_bits(double a, double b) {
    return a != a ? b != b : a == b && signbit(a) == signbit(b);
}

static void put_reals(mrc_backend *be, mrc_dtype dtype, void *at, const double *x, size_t n) {
    float f32[SUM_N * SUM_PARTS];
    for (size_t i = 0; i < n; i++) f32[i] = (float)x[i];
    const void *from = dtype == MRC_DTYPE_F64 ? (const void *)x : f32;
    be->upload(be, at, from, n * mrc_dtype_bytes(dtype));
}

static double special(size_t k) {
    static const double values[] = { -0.0, 0.0, 1.5, -3, INFINITY, NAN };
    return values[k % 6];
}

// As a loop over the parts adds, in that type: -0 and NaN among them.
static void fold_on(mrc_backend *be, const char *label, mrc_dtype dtype) {
    static const size_t lengths[] = { 1, 2, 7, 8, 15, 16, 17, 63, 255, 256, SUM_N };
    static double parts[SUM_N * SUM_PARTS], y[SUM_N], got[SUM_N];
    const size_t bytes = mrc_dtype_bytes(dtype);
    void *from = be->alloc(be, sizeof parts), *to = be->alloc(be, sizeof y);
    for (size_t i = 0; i < SUM_N * SUM_PARTS; i++) {
        parts[i] = i % 11 ? (float)test_random() : special(i / 11);
    }
    for (size_t i = 0; i < SUM_N; i++) y[i] = i % 5 ? (float)test_random() : special(i / 5);
    put_reals(be, dtype, from, parts, SUM_N * SUM_PARTS);
    for (size_t c = 0; c < 2 * SUM_PARTS * sizeof lengths / sizeof *lengths; c++) {
        const size_t n = lengths[c / (2 * SUM_PARTS)], k = 1 + c / 2 % SUM_PARTS;
        size_t wrong = 0;
        put_reals(be, dtype, to, y, n);
        mrc_fold_args a = { .n = n, .n_parts = k, .parts = { dtype, SUM_N, from },
                            .y = { dtype, n, to, (int)(c % 2) } };
        CHECK(RUN(be, dtype, fold, &a) == MRC_OK, "%s: fold", label);
        test_read(be, dtype, to, n, got);
        for (size_t i = 0; i < n; i++) {
            double want = c % 2 ? y[i] : parts[i];
            for (size_t p = c % 2 ? 0 : 1; p < k; p++) {
                want += parts[p * SUM_N + i];
                if (bytes == sizeof(float)) want = (float)want;
            }
            wrong += !same_bits(got[i], want);
        }
        CHECK(wrong == 0, "%s, %s: fold of %zu parts of %zu, accumulate %zu: %zu are wrong", label,
              mrc_dtype_name(dtype), k, n, c % 2, wrong);
    }
    be->free(be, from);
    be->free(be, to);
}

int main(void) {
    static all_backends all;
    test_half(MRC_DTYPE_F16);
    test_half(MRC_DTYPE_BF16);
    all_new(&all);
    for (int k = 0; k < all.n; k++) {
        if (strcmp(all.be[k]->name, "guard") == 0) continue;    // it watches a context
        scale_on(all.be[k], all.label[k]);
        for (int dtype = MRC_DTYPE_F32; dtype <= MRC_DTYPE_F64; dtype++) {
            if (!all.be[k]->kernels[dtype].fold) continue;
            fold_on(all.be[k], all.label[k], (mrc_dtype)dtype);
        }
    }
    test_losses(&all);
    if (TEST_ON_CUDA) {                     // test_cuda has the rest of it
        all_free(&all);
        return test_end();
    }
    test_gemm(&all);
    for (int kind = MRC_ADAMW_HF; kind < N_UPDATES; kind++) {
        optim_on(&all, MRC_DTYPE_F32, (update)kind);
        optim_on(&all, MRC_DTYPE_F64, (update)kind);
    }
    perturb_on(&all, MRC_DTYPE_F32);
    perturb_on(&all, MRC_DTYPE_F64);
    all_free(&all);
    return test_end();
}
