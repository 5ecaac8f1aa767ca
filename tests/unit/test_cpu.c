// The cpu backend against the naive one: the thread pool, gemm in all forms and odd sizes, every
// fused kernel at shapes that cross its blocks, and the same bits for any number of threads.
// tags: threads
#include "../support/test.h"

// ---- the pool ----

typedef struct pool_job {
    atomic_int hits[1000], bad_worker;
    size_t     n_workers;
} pool_job;

static void pool_task(void *arg, size_t task, size_t worker) {
    pool_job *j = arg;
    atomic_fetch_add(&j->hits[task], 1);
    if (worker >= j->n_workers) atomic_store(&j->bad_worker, 1);
}

static void test_pool(size_t threads) {
    static pool_job job;
    const mrc_allocator host = { mrc__std_alloc, mrc__std_free, NULL };
    mrc__pool *pool;
    if (!CHECK(mrc__pool_new(&pool, &host, threads) == MRC_OK, "pool of %zu", threads)) return;
    job.n_workers = pool->n_workers;
    CHECK(threads == 0 || pool->n_workers == threads, "%zu workers", pool->n_workers);
    size_t wrong = 0;
    for (size_t round = 0; round < 2000; round++) {
        size_t n = round * 7919 % 1000;
        for (size_t i = 0; i < n; i++) atomic_store(&job.hits[i], 0);
        mrc__pool_run(pool, n, round % 3 ? MRC__POOL_WORK : 0, pool_task, &job);
        for (size_t i = 0; i < n; i++) wrong += atomic_load(&job.hits[i]) != 1;
        if (round % 500 == 0) {                         // long enough for all to fall asleep
            nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
        }
    }
    CHECK(wrong == 0, "%zu threads: %zu tasks not run once", threads, wrong);
    CHECK(!atomic_load(&job.bad_worker), "a worker's number is too high");
    mrc__pool_free(pool, &host);
}

// ---- buffers: random contents, guarded ends ----

enum { GUARD = 16, MAX_BUFFERS = 64 };
typedef struct buffer { size_t n; double *f64; float *f32; } buffer;

static buffer buffer_new(size_t n) {
    buffer b = { n, malloc((n + 2 * GUARD) * sizeof(double)),
                 malloc((n + 2 * GUARD) * sizeof(float)) };
    for (size_t i = 0; i < n + 2 * GUARD; i++) {
        b.f32[i] = (float)test_random();
        b.f64[i] = b.f32[i];
    }
    return b;
}
static void buffer_free(buffer *b) {
    free(b->f64);
    free(b->f32);
}
static void *buffer_data(const buffer *b, mrc_dtype dtype) {
    return dtype == MRC_DTYPE_F64 ? (void *)(b->f64 + GUARD) : (void *)(b->f32 + GUARD);
}

// One kernel call's matrices: `in` are read, `out` compared.  All as doubles for comparing.
typedef struct sheet {
    size_t n;
    buffer list[MAX_BUFFERS];
    int    is_out[MAX_BUFFERS];
} sheet;

static void sheet_copy(sheet *to, const sheet *from) {
    to->n = from->n;
    for (size_t k = 0; k < from->n; k++) {
        to->list[k] = buffer_new(from->list[k].n);
        size_t n = from->list[k].n + 2 * GUARD;
        memcpy(to->list[k].f64, from->list[k].f64, n * sizeof(double));
        memcpy(to->list[k].f32, from->list[k].f32, n * sizeof(float));
        to->is_out[k] = from->is_out[k];
    }
}
static void sheet_free(sheet *s) {
    for (size_t k = 0; k < s->n; k++) buffer_free(&s->list[k]);
    s->n = 0;
}

// The largest |a - b| / max(1, |b|'s largest) over the outputs, guards included.
static double sheet_error(const sheet *a, mrc_dtype dtype_a, const sheet *b, mrc_dtype dtype_b) {
    double worst = 0;
    for (size_t k = 0; k < a->n; k++) {
        double scale = 1, e = 0;
        for (size_t i = 0; a->is_out[k] && i < a->list[k].n + 2 * GUARD; i++) {
            double x = dtype_a == MRC_DTYPE_F64 ? a->list[k].f64[i] : (double)a->list[k].f32[i];
            double y = dtype_b == MRC_DTYPE_F64 ? b->list[k].f64[i] : (double)b->list[k].f32[i];
            if (!(fabs(x - y) < HUGE_VAL)) return HUGE_VAL;
            e = fmax(e, fabs(x - y));
            scale = fmax(scale, fabs(y));
        }
        worst = fmax(worst, e / scale);
    }
    return worst;
}
static int sheet_same(const sheet *a, const sheet *b) {
    for (size_t k = 0; k < a->n; k++) {
        size_t n = a->list[k].n + 2 * GUARD;
        if (memcmp(a->list[k].f32, b->list[k].f32, n * sizeof(float))) return 0;
    }
    return 1;
}

// ---- cases: a kernel at a shape ----

typedef struct setting {            // of one call
    size_t  n, in, out, heads, sequences;
    int32_t lengths[6], real[6];
    int     accumulate, kind, wanted;       // wanted 0: what is optional is NULL
    double  p;
} setting;

typedef struct call { mrc_backend *be; mrc_dtype dtype; sheet *s; size_t next; const setting *c; }
    call;

static mrc_in in(call *x, size_t ld) {
    return (mrc_in){ x->dtype, ld, buffer_data(&x->s->list[x->next++], x->dtype) };
}
static mrc_out out(call *x, size_t ld, int accumulate) {
    return (mrc_out){ x->dtype, ld, buffer_data(&x->s->list[x->next++], x->dtype), accumulate };
}
static mrc_in ids(const int32_t *values) { return (mrc_in){ MRC_DTYPE_I32, 1, values }; }

// Runs a kernel with the workspace it asks for, filled with NaN.
#define RUN(x, entry, a) do {                                                               \
    const mrc_kernels *k_ = &(x)->be->kernels[(x)->dtype];                                  \
    size_t bytes_ = k_->entry##_workspace ? k_->entry##_workspace((x)->be, (a)) : 0;        \
    (a)->workspace = (x)->be->alloc((x)->be, bytes_ + 64);                                  \
    memset((a)->workspace, 0xff, bytes_ + 64);                                              \
    CHECK(k_->entry((x)->be, (a)) == MRC_OK, #entry " on %s", (x)->be->isa);                \
    (x)->be->free((x)->be, (a)->workspace);                                                 \
} while (0)

typedef struct batch { int32_t cu[7], index[6], real[6]; } batch;
static batch batch_of(const setting *c) {
    batch b = { .index = { 5, 0, 2, 9, 1, 7 } };
    for (size_t i = 0; i < c->sequences; i++) {
        b.cu[i + 1] = b.cu[i] + c->lengths[i];
        b.real[i] = c->real[i] < 0 ? c->lengths[i] : c->real[i];
    }
    return b;
}
static const mrc_dropout_mask no_mask = { .scale = 1 };
static mrc_dropout_mask mask_of(const setting *c) {
    if (c->p == 0) return no_mask;
    return (mrc_dropout_mask){ { 11, 77 }, (uint64_t)(c->p * 4294967296.0), 1 / (1 - c->p) };
}

// What a case needs: sizes of its buffers (those of outputs negative), and how it is called.
typedef struct kernel_case {
    const char *name;
    void (*sizes)(const setting *c, ptrdiff_t *sizes);      // ends with PTRDIFF_MAX
    void (*run)(call *x);
    double turns;                   // what rounding results of one product for another may move
} kernel_case;
#define SIZES(...) do {                                                                     \
    const ptrdiff_t list_[] = { __VA_ARGS__, PTRDIFF_MAX };                                 \
    memcpy(sizes, list_, sizeof list_);                                                     \
} while (0)
#define DIMS const ptrdiff_t n = (ptrdiff_t)c->n, i = (ptrdiff_t)c->in, o = (ptrdiff_t)c->out; \
    (void)n; (void)i; (void)o

static void linear_sizes(const setting *c, ptrdiff_t *sizes) {
    DIMS;
    SIZES(n * (i + 3), o * (i + 1), o, -(n * (o + 2)), -(n * o), n * (o + 1), -(n * i), -(o * i),
          -o);
}
static void linear_run(call *x) {
    const setting *c = x->c;
    mrc_linear_fwd_args f = { .n = c->n, .in = c->in, .out = c->out, .act = (mrc_act)c->kind };
    mrc_linear_bwd_args b = { .n = c->n, .in = c->in, .out = c->out, .act = (mrc_act)c->kind };
    b.x = f.x = in(x, c->in + 3);
    b.weight = f.weight = in(x, c->in + 1);
    f.bias = in(x, 0);
    f.y = out(x, c->out + 2, 0);
    b.z = f.z = out(x, c->out, 0);
    b.dy = in(x, c->out + 1);
    b.dx = out(x, c->in, c->accumulate);
    b.dweight = out(x, c->in, c->accumulate);
    b.dbias = out(x, 0, c->accumulate);
    if (!c->kind || !c->wanted) f.z.data = NULL;
    RUN(x, linear_fwd, &f);
    if (c->kind && !c->wanted) return;                      // backward needs z
    RUN(x, linear_bwd, &b);
    memset(buffer_data(&x->s->list[4], x->dtype), 0, c->n * c->out * mrc_dtype_bytes(x->dtype));
}

static void gelu_sizes(const setting *c, ptrdiff_t *sizes) {
    DIMS;
    SIZES(n * i, -(n * i), n * i, -(n * i));
}
static void gelu_run(call *x) {
    const setting *c = x->c;
    mrc_activation_fwd_args f = { .n = c->n * c->in, .act = MRC_ACT_GELU };
    mrc_activation_bwd_args b = { .n = c->n * c->in, .act = MRC_ACT_GELU };
    b.x = f.x = in(x, 0);
    f.y = out(x, 0, 0);
    b.dy = in(x, 0);
    b.dx = out(x, 0, c->accumulate);
    RUN(x, activation_fwd, &f);
    RUN(x, activation_bwd, &b);
}

static void norm_sizes(const setting *c, ptrdiff_t *sizes) {
    DIMS;
    SIZES(n * i, i, i, -(n * i), -n, -n, n * i, -(n * i), -i, -i);
}
static void norm_run(call *x) {
    const setting *c = x->c;
    mrc_layer_norm_fwd_args f = { .n = c->n, .h = c->in, .eps = 1e-5 };
    mrc_layer_norm_bwd_args b = { .n = c->n, .h = c->in };
    b.x = f.x = in(x, c->in);
    b.weight = f.weight = in(x, 0);
    f.bias = in(x, 0);
    f.y = out(x, c->in, 0);
    f.mean = out(x, 0, 0);
    f.rstd = out(x, 0, 0);
    b.mean = (mrc_in){ x->dtype, 0, f.mean.data };
    b.rstd = (mrc_in){ x->dtype, 0, f.rstd.data };
    b.dy = in(x, c->in);
    b.dx = out(x, c->in, c->accumulate);
    b.dweight = out(x, 0, c->accumulate);
    b.dbias = out(x, 0, c->accumulate);
    RUN(x, layer_norm_fwd, &f);
    RUN(x, layer_norm_bwd, &b);
}

static void add_norm_sizes(const setting *c, ptrdiff_t *sizes) {
    DIMS;
    SIZES(n * i, n * i, i, i, -(n * i), -(n * i), -n, -n, n * i, -(n * i), -(n * i), -i, -i);
}
static void add_norm_run(call *x) {
    const setting *c = x->c;
    const batch t = batch_of(c);
    mrc_add_norm_fwd_args f = { .n = c->n, .h = c->in, .eps = 1e-5, .n_sequences = c->sequences,
                                .mask = mask_of(c), .cu_seqlens = ids(t.cu),
                                .sequence_index = ids(t.index) };
    mrc_add_norm_bwd_args b = { .n = c->n, .h = c->in, .n_sequences = c->sequences,
                                .mask = mask_of(c), .cu_seqlens = ids(t.cu),
                                .sequence_index = ids(t.index) };
    f.x = in(x, c->in);
    f.residual = in(x, c->in);
    b.weight = f.weight = in(x, 0);
    f.bias = in(x, 0);
    f.y = out(x, c->in, 0);
    b.sum = f.sum = out(x, c->in, 0);
    f.mean = out(x, 0, 0);
    f.rstd = out(x, 0, 0);
    b.mean = (mrc_in){ x->dtype, 0, f.mean.data };
    b.rstd = (mrc_in){ x->dtype, 0, f.rstd.data };
    b.dy = in(x, c->in);
    b.dx = out(x, c->in, c->accumulate);
    b.dresidual = out(x, c->in, c->accumulate);
    b.dweight = out(x, 0, c->accumulate);
    b.dbias = out(x, 0, c->accumulate);
    if (!c->wanted) f.sum.data = f.mean.data = f.rstd.data = NULL;
    RUN(x, add_norm_fwd, &f);
    if (c->wanted) RUN(x, add_norm_bwd, &b);
}

static void dropout_sizes(const setting *c, ptrdiff_t *sizes) {
    DIMS;
    SIZES(n * i, -(n * i));
}
static void dropout_run(call *x) {
    const setting *c = x->c;
    const batch t = batch_of(c);
    mrc_dropout_args a = { .n = c->n, .n_sequences = c->sequences, .h = c->in, .mask = mask_of(c),
                           .cu_seqlens = ids(t.cu), .sequence_index = ids(t.index) };
    a.from = in(x, c->in);
    a.to = out(x, c->in, c->accumulate);
    RUN(x, dropout_bwd, &a);
}

static void embedding_sizes(const setting *c, ptrdiff_t *sizes) {
    DIMS;
    SIZES(11 * i, 7 * i, 2 * i, -(n * i), n * i, -(11 * i), -(7 * i), -(2 * i));
}
static void embedding_run(call *x) {
    const setting *c = x->c;
    int32_t *id = malloc((3 * c->n + 1) * sizeof *id);
    for (size_t r = 0; r < c->n; r++) {
        id[r] = (int32_t)(r * r % 11);
        id[c->n + r] = (int32_t)(r % 7);
        id[2 * c->n + r] = r > c->n / 2;
    }
    mrc_embedding_fwd_args f = { .n = c->n, .h = c->in, .input_ids = ids(id),
                                 .position_ids = ids(id + c->n),
                                 .token_type_ids = ids(id + 2 * c->n) };
    mrc_embedding_bwd_args b = { .n = c->n, .h = c->in, .n_words = 11, .n_positions = 7,
                                 .n_types = 2, .word_padding = 4, .position_padding = 1,
                                 .input_ids = f.input_ids, .position_ids = f.position_ids,
                                 .token_type_ids = f.token_type_ids };
    f.word = in(x, c->in);
    f.position = in(x, c->in);
    f.token_type = in(x, c->in);
    f.y = out(x, c->in, 0);
    b.dy = in(x, c->in);
    b.dword = out(x, c->in, c->accumulate);
    b.dposition = out(x, c->in, c->accumulate);
    b.dtoken_type = out(x, c->in, c->accumulate);
    RUN(x, embedding_fwd, &f);
    RUN(x, embedding_bwd, &b);
    free(id);
}

static void attention_sizes(const setting *c, ptrdiff_t *sizes) {
    DIMS;
    const ptrdiff_t w = (ptrdiff_t)c->heads * i;
    SIZES(n * (3 * w + 1), -(n * w), -((ptrdiff_t)c->heads * n), n * (w + 2), -(n * 3 * w));
}
static void attention_run(call *x) {
    const setting *c = x->c;
    const batch t = batch_of(c);
    const size_t w = c->heads * c->in;
    size_t longest = 0;
    for (size_t k = 0; k < c->sequences; k++) {
        if ((size_t)c->lengths[k] > longest) longest = (size_t)c->lengths[k];
    }
    mrc_attention_fwd_args f = { .n = c->n, .n_sequences = c->sequences, .max_length = longest,
                                 .heads = c->heads, .d = c->in, .mask = mask_of(c),
                                 .scale = 3 / sqrt((double)c->in), .cu_seqlens = ids(t.cu),
                                 .real_len = ids(t.real), .sequence_index = ids(t.index) };
    mrc_attention_bwd_args b = { .n = c->n, .n_sequences = c->sequences, .max_length = longest,
                                 .heads = c->heads, .d = c->in, .mask = mask_of(c),
                                 .scale = f.scale, .cu_seqlens = ids(t.cu),
                                 .real_len = ids(t.real), .sequence_index = ids(t.index) };
    b.q = f.q = in(x, 3 * w + 1);
    const size_t bytes = w * mrc_dtype_bytes(x->dtype);
    b.k = f.k = (mrc_in){ f.q.dtype, f.q.ld, (const char *)f.q.data + bytes };
    b.v = f.v = (mrc_in){ f.q.dtype, f.q.ld, (const char *)f.k.data + bytes };
    f.y = out(x, w, 0);
    f.lse = out(x, c->n, 0);
    b.lse = (mrc_in){ x->dtype, c->n, f.lse.data };
    b.dy = in(x, w + 2);
    b.dq = out(x, 3 * w, c->accumulate);
    b.dk = b.dv = b.dq;
    b.dk.data = (char *)b.dq.data + bytes;
    b.dv.data = (char *)b.dk.data + bytes;
    if (!c->wanted) f.lse.data = NULL;
    RUN(x, attention_fwd, &f);
    if (c->wanted) RUN(x, attention_bwd, &b);
}

static void lstm_sizes(const setting *c, ptrdiff_t *sizes) {
    DIMS;
    SIZES(n * i, 4 * o * i, 4 * o * i, 4 * o * o, 4 * o * o, 4 * o, 4 * o, 4 * o, 4 * o,
          -(n * 2 * o), -(n * 8 * o), -(n * 2 * o), n * 2 * o, -(n * i), -(4 * o * i),
          -(4 * o * i), -(4 * o * o), -(4 * o * o), -(4 * o), -(4 * o), -(4 * o), -(4 * o));
}
static void lstm_run(call *x) {
    const setting *c = x->c;
    const batch t = batch_of(c);
    size_t longest = 0, h = c->out;
    for (size_t k = 0; k < c->sequences; k++) {
        if ((size_t)c->lengths[k] > longest) longest = (size_t)c->lengths[k];
    }
    mrc_lstm_fwd_args f = { .n = c->n, .n_sequences = c->sequences, .max_length = longest,
                            .in = c->in, .h = h, .cu_seqlens = ids(t.cu) };
    mrc_lstm_bwd_args b = { .n = c->n, .n_sequences = c->sequences, .max_length = longest,
                            .in = c->in, .h = h, .cu_seqlens = ids(t.cu) };
    b.x = f.x = in(x, c->in);
    for (int d = 0; d < 2; d++) b.weight_ih[d] = f.weight_ih[d] = in(x, c->in);
    for (int d = 0; d < 2; d++) b.weight_hh[d] = f.weight_hh[d] = in(x, h);
    for (int d = 0; d < 2; d++) f.bias_ih[d] = in(x, 0);
    for (int d = 0; d < 2; d++) f.bias_hh[d] = in(x, 0);
    f.y = out(x, 2 * h, 0);
    b.y = (mrc_in){ x->dtype, 2 * h, f.y.data };
    b.gates = f.gates = out(x, 8 * h, 0);
    b.cells = f.cells = out(x, 2 * h, 0);
    b.dy = in(x, 2 * h);
    b.dx = out(x, c->in, c->accumulate);
    for (int d = 0; d < 2; d++) b.dweight_ih[d] = out(x, c->in, c->accumulate);
    for (int d = 0; d < 2; d++) b.dweight_hh[d] = out(x, h, c->accumulate);
    for (int d = 0; d < 2; d++) b.dbias_ih[d] = out(x, 0, c->accumulate);
    for (int d = 0; d < 2; d++) b.dbias_hh[d] = out(x, 0, c->accumulate);
    if (!c->wanted) f.gates.data = f.cells.data = NULL;
    RUN(x, lstm_fwd, &f);
    if (c->wanted) RUN(x, lstm_bwd, &b);
}

static void optim_sizes(const setting *c, ptrdiff_t *sizes) {
    DIMS;
    SIZES(n * i, i, -(n * i), -i, -(n * i), -i, -(n * i), -i, -1, -1);
}
static void optim_run(call *x) {
    const setting *c = x->c;
    int32_t state[2] = { 6, 0 };
    mrc_optim_tensor t[3] = { { .numel = c->n * c->in, .lr = 1e-3, .weight_decay = 0.01 },
                              { .numel = 0 }, { .numel = c->in, .lr = 2e-3 } };
    for (int k = 0; k < 3; k += 2) t[k].grad = in(x, 0);
    for (int k = 0; k < 3; k += 2) t[k].param = out(x, 0, 0);
    for (int k = 0; k < 3; k += 2) t[k].m = out(x, 0, 0);
    for (int k = 0; k < 3; k += 2) t[k].v = out(x, 0, 0);
    for (int k = 0; k < 3; k += 2) {                        // second moments are not negative
        for (size_t j = 0; j < t[k].numel; j++) {
            float *v32 = t[k].v.data;
            double *v64 = t[k].v.data;
            if (x->dtype == MRC_DTYPE_F64) v64[j] = v64[j] * v64[j] + 1e-3;
            else v32[j] = v32[j] * v32[j] + 1e-3f;
        }
    }
    mrc_grad_norm_args g = { .max_norm = c->kind ? 1 : 0,
                             .norm = out(x, 0, 0), .clip = out(x, 0, 0),
                             .state = { MRC_DTYPE_I32, 0, state, 0 } };
    double squares[64];
    mrc_squares_args half = { .n_tensors = 3, .tensors = t,
                              .squares = { MRC_DTYPE_F64, 64, squares, 0 } };
    for (size_t k = 0; k < 3; k++) g.n += mrc__ceil_div(t[k].numel, MRC_NORM_CHUNK);
    CHECK(g.n <= 64, "%zu chunks", g.n);
    g.squares = (mrc_in){ MRC_DTYPE_F64, g.n, squares };
    RUN(x, squares, &half);
    RUN(x, grad_norm, &g);
    CHECK(state[0] == 7 && state[1] == 0, "state %d %d", (int)state[0], (int)state[1]);
    mrc_adamw_args a = { .n_tensors = 3, .tensors = t, .variant = (mrc_optim)c->kind, .beta1 = 0.9,
                         .beta2 = 0.999, .eps = 1e-6, .clip = { x->dtype, 0, g.clip.data },
                         .state = ids(state) };
    RUN(x, adamw, &a);
}

static const kernel_case linear_case = { "linear", linear_sizes, linear_run, 2e-3 };
static const kernel_case gelu_case = { "gelu", gelu_sizes, gelu_run, 0 };
static const kernel_case norm_case = { "layer_norm", norm_sizes, norm_run, 0 };
static const kernel_case add_norm_case = { "add_norm", add_norm_sizes, add_norm_run, 0 };
static const kernel_case dropout_case = { "dropout", dropout_sizes, dropout_run, 0 };
static const kernel_case embedding_case = { "embedding", embedding_sizes, embedding_run, 0 };
static const kernel_case attention_case = { "attention", attention_sizes, attention_run, 2e-2 };
static const kernel_case lstm_case = { "lstm", lstm_sizes, lstm_run, 2e-3 };
static const kernel_case optim_case = { "optim", optim_sizes, optim_run, 0 };

// ---- backends ----

enum { MANY = 16 };
typedef struct fleet {
    mrc_backend *naive, *list[MANY];    // at most: those of test_many_threads
    mrc_math     math;
    size_t       n, each;           // instances; of one instruction set
} fleet;

// The instances of one instruction set; word: the machine's instruction for pairs is used.
static void fleet_add(fleet *f, mrc_isa isa, int word) {
    static const size_t threads[] = { 1, 2, 3, 4, 7 };
    for (size_t t = 0; t < f->each; t++) {
        mrc_backend_desc desc = { .isa = isa, .math = f->math,
                                  .threads = f->each == MANY ? t + 1 : threads[t] };
        if (mrc_backend_cpu_new(&f->list[f->n], &desc) != MRC_OK) return;
        mrc__host_backend *h = f->list[f->n]->self;
        if (!word) {
            h->dot_bf16 = 0;
            h->base.isa = mrc__cpu_name(isa, f->math, 0);
        }
        f->n++;
    }
}

static void fleet_new(fleet *f, mrc_math math) {
    *f = (fleet){ .math = math, .each = math == MRC_MATH_F32 ? 5 : 3 };
    CHECK(mrc_backend_naive_new(&f->naive, &(mrc_backend_desc){ .math = math }) == MRC_OK, "naive");
    for (size_t i = 0; i < TEST_ISAS; i++) {
        const size_t before = f->n;
        fleet_add(f, test_isas[i].isa, 1);
        if (math == MRC_MATH_F32 || f->n == before) continue;
        const mrc__host_backend *h = f->list[before]->self;
        if (h->dot_bf16) fleet_add(f, test_isas[i].isa, 0);
    }
}

static void fleet_free(fleet *f) {
    for (size_t i = 0; i < f->n; i++) mrc_backend_free(f->list[i]);
    mrc_backend_free(f->naive);
}

// Every instruction set against naive in both types; and bits of 1 thread against those of others.
// bf16: a last bit of what is rounded between two products (a gate, dz) may turn that rounding.
static void test_kernel(const fleet *f, const kernel_case *k, const setting *c) {
    ptrdiff_t sizes[MAX_BUFFERS];
    sheet start = {0}, oracle, naive, got, first = {0};
    char name[64];
    snprintf(name, sizeof name, "cpu %s, %zu x %zu x %zu", k->name, c->n, c->in, c->out);
    test_seed(name);                                    // inputs depend on the case alone
    k->sizes(c, sizes);
    for (size_t i = 0; sizes[i] != PTRDIFF_MAX; i++) {
        start.is_out[start.n] = sizes[i] < 0;
        start.list[start.n++] = buffer_new((size_t)(sizes[i] < 0 ? -sizes[i] : sizes[i]));
    }
    sheet_copy(&oracle, &start);
    sheet_copy(&naive, &start);
    k->run(&(call){ .be = f->naive, .dtype = MRC_DTYPE_F64, .s = &oracle, .c = c });
    k->run(&(call){ .be = f->naive, .dtype = MRC_DTYPE_F32, .s = &naive, .c = c });
    double e32 = sheet_error(&naive, MRC_DTYPE_F32, &oracle, MRC_DTYPE_F64), e;
    // As test_ops: the random walk of a sum's roundings, and what functions are approximated by.
    const size_t longest = c->n > 4 * c->out ? c->n : 4 * c->out;
    const double sum = (double)(longest > c->in ? longest : c->in);
    const double bound = 4 * e32 + 4 * 0x1p-24 * sqrt(sum);
    for (size_t i = 0; i < f->n; i++) {
        mrc_backend *be = f->list[i];
        sheet_copy(&got, &start);
        k->run(&(call){ .be = be, .dtype = MRC_DTYPE_F32, .s = &got, .c = c });
        if (i % f->each == 0) {                         // the first of this instruction set
            const double most = f->math == MRC_MATH_F32 || !(k->turns > 0) ? 3e-6 : k->turns;
            e = sheet_error(&got, MRC_DTYPE_F32, &oracle, MRC_DTYPE_F64);
            CHECK(e <= bound + most, "%s (%zu, %zu, %zu) on %s: off by %g, naive %g", k->name,
                  c->n, c->in, c->out, be->isa, e, e32);
            sheet_free(&first);
            first = got;
            if (f->math == MRC_MATH_BF16) continue;     // f64 is not rounded
            sheet_copy(&got, &start);
            k->run(&(call){ .be = be, .dtype = MRC_DTYPE_F64, .s = &got, .c = c });
            e = sheet_error(&got, MRC_DTYPE_F64, &oracle, MRC_DTYPE_F64);
            CHECK(e <= 1e-12, "%s (%zu, %zu, %zu) on %s: f64 off by %g", k->name, c->n, c->in,
                  c->out, be->isa, e);
            sheet_free(&got);
            continue;
        }
        CHECK(sheet_same(&got, &first), "%s (%zu, %zu, %zu) on %s: bits depend on threads",
              k->name, c->n, c->in, c->out, be->isa);
        sheet_free(&got);
    }
    sheet_free(&first);
    sheet_free(&start);
    sheet_free(&oracle);
    sheet_free(&naive);
}

// ---- gemm ----

static void gemm_sizes(const setting *c, ptrdiff_t *sizes) {
    DIMS;
    const ptrdiff_t a = (c->kind & 1 ? i * (n + 3) : n * (i + 3));
    const ptrdiff_t b = (c->kind & 2 ? o * (i + 1) : i * (o + 1));
    SIZES(a, b, -(n * (o + 2)));
}
static void gemm_run(call *x) {
    const setting *c = x->c;
    mrc_gemm_args g = { .m = c->n, .n = c->out, .k = c->in, .a_transposed = c->kind & 1,
                        .b_transposed = (c->kind & 2) != 0 };
    g.a = in(x, (g.a_transposed ? c->n : c->in) + 3);
    g.b = in(x, (g.b_transposed ? c->in : c->out) + 1);
    g.c = out(x, c->out + 2, c->accumulate);
    if (!c->accumulate) {                               // what c held must not matter
        memset(g.c.data, 0xff, c->n * g.c.ld * mrc_dtype_bytes(x->dtype));
        char *row = g.c.data;
        size_t bytes = mrc_dtype_bytes(x->dtype);
        for (size_t r = 0; r < c->n; r++) {
            memset(row + (r * g.c.ld + c->out) * bytes, 0, 2 * bytes);
        }
    }
    RUN(x, gemm, &g);
}
static const kernel_case gemm_case = { "gemm", gemm_sizes, gemm_run, 0 };

static void test_gemm(const fleet *f) {
    static const size_t shapes[][3] = {     // m, k, n
        { 0, 5, 3 }, { 3, 0, 5 }, { 4, 3, 0 }, { 1, 1, 1 }, { 2, 7, 1 }, { 1, 3, 40 },
        { 11, 13, 31 }, { 12, 16, 32 }, { 13, 17, 33 }, { 25, 385, 65 }, { 8, 384, 64 },
        { 100, 31, 5 }, { 97, 33, 70 }, { 5, 800, 7 }, { 3, 9, 1030 }, { 200, 6, 129 },
        { 14, 1030, 1060 } };
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        for (int kind = 0; kind < 8; kind++) {
            setting c = { .n = shapes[s][0], .in = shapes[s][1], .out = shapes[s][2],
                          .kind = kind & 3, .accumulate = kind >> 2 };
            test_kernel(f, &gemm_case, &c);
        }
    }
    for (size_t m = 1; m <= 14; m++) {                  // tails, all of them
        for (size_t n = 1; n <= 34; n++) {
            setting c = { .n = m, .in = 1 + (m * n) % 9, .out = n, .kind = (int)(m + n) % 4 };
            test_kernel(f, &gemm_case, &c);
        }
    }
}

// ---- the other kernels ----

static void test_kernels(const fleet *f) {
    static const size_t sizes[][3] = { { 1, 1, 1 }, { 7, 5, 3 }, { 33, 17, 50 }, { 80, 64, 96 },
                                       { 0, 3, 2 }, { 130, 20, 2 }, { 65, 33, 129 } };
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (int kind = 0; kind < 4; kind++) {
            setting c = { .n = sizes[s][0], .in = sizes[s][1], .out = sizes[s][2],
                          .kind = kind & 1, .accumulate = kind >> 1, .wanted = s != 1 };
            test_kernel(f, &linear_case, &c);
            if (f->math == MRC_MATH_BF16) continue;     // the others make no products
            if (c.kind == 0) test_kernel(f, &gelu_case, &c);
            if (c.kind == 0) test_kernel(f, &norm_case, &c);
            if (c.kind == 0) test_kernel(f, &embedding_case, &c);
            if (c.accumulate == 0) test_kernel(f, &optim_case, &c);
        }
    }
    if (f->math == MRC_MATH_BF16) return;
    setting big = { .n = 300, .in = 70, .kind = 1 };    // several chunks of one tensor
    test_kernel(f, &optim_case, &big);
    for (size_t h = 1; h < 70; h += h < 34 ? 1 : 9) {
        for (int kind = 0; kind < 4; kind++) {
            setting c = { .n = 37, .in = h, .sequences = 4, .lengths = { 17, 0, 1, 19 },
                          .p = kind & 1 ? 0.3 : 0, .accumulate = kind >> 1, .wanted = h != 5 };
            test_kernel(f, &add_norm_case, &c);
            test_kernel(f, &dropout_case, &c);
        }
    }
}

static void test_attention(const fleet *f) {
    static const setting cases[] = {
        { .n = 1, .in = 1, .heads = 1, .sequences = 1, .lengths = { 1 }, .real = { -1 } },
        { .n = 37, .in = 3, .heads = 2, .sequences = 4, .lengths = { 17, 0, 1, 19 },
          .real = { -1, -1, -1, 18 } },
        { .n = 130, .in = 32, .heads = 2, .sequences = 2, .lengths = { 61, 69 },
          .real = { 60, -1 } },
        { .n = 90, .in = 40, .heads = 3, .sequences = 3, .lengths = { 33, 20, 37 },
          .real = { 0, 5, 16 } },
        { .n = 125, .in = 64, .heads = 1, .sequences = 1, .lengths = { 125 }, .real = { -1 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int kind = 0; kind < 5; kind++) {
            setting c = cases[i];
            c.p = kind & 1 ? 0.1 : 0;
            c.accumulate = kind >> 1 & 1;
            c.wanted = kind != 4;
            test_kernel(f, &attention_case, &c);
        }
    }
}

static void test_lstm(const fleet *f) {
    static const setting cases[] = {
        { .n = 1, .in = 1, .out = 1, .sequences = 1, .lengths = { 1 } },
        { .n = 37, .in = 5, .out = 3, .sequences = 4, .lengths = { 17, 0, 1, 19 } },
        { .n = 40, .in = 16, .out = 33, .sequences = 6, .lengths = { 7, 7, 2, 9, 9, 6 } },
        { .n = 21, .in = 64, .out = 64, .sequences = 3, .lengths = { 3, 10, 8 } },
        { .n = 4, .in = 2, .out = 515, .sequences = 2, .lengths = { 1, 3 } },   // split steps
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int kind = 0; kind < 3; kind++) {
            setting c = cases[i];
            c.accumulate = kind == 1;
            c.wanted = kind != 2;
            test_kernel(f, &lstm_case, &c);
        }
    }
}

// ---- vector math: large arguments, NaN, and GELU of the saved z to the bit ----

static void test_math(const fleet *f) {
    const float x[] = { 0, -0.0f, 1, -1, 5, -5, 13.5f, -13.5f, 30, -30, 1e10f, -1e10f, 3e38f,
                        -3e38f, 1e-30f, -1e-30f, 88.8f, -104 };
    enum { N = sizeof x / sizeof x[0] };
    for (size_t i = 0; i < f->n; i += f->each) {
        mrc_backend *be = f->list[i];
        float y[N], dx[N], dy[N], nan_in[3] = { 1, NAN, 2 }, nan_out[3];
        for (int k = 0; k < N; k++) dy[k] = 1;
        mrc_activation_fwd_args g = { .n = N, .act = MRC_ACT_GELU,
                                       .x = { MRC_DTYPE_F32, 0, x }, .y = { .data = y } };
        mrc_activation_bwd_args d = { .n = N, .act = MRC_ACT_GELU, .x = g.x,
                                       .dy = { MRC_DTYPE_F32, 0, dy },
                                .dx = { .data = dx } };
        be->kernels[MRC_DTYPE_F32].activation_fwd(be, &g);
        be->kernels[MRC_DTYPE_F32].activation_bwd(be, &d);
        for (int k = 0; k < N; k++) {
            double want = mrc__gelu((double)x[k]), slope = mrc__gelu_slope((double)x[k]);
            CHECK(fabs((double)y[k] - want) <= 3e-7 * fabs(want) + 1e-8, "gelu(%g) is %g, not %g",
                  (double)x[k], (double)y[k], want);
            CHECK(fabs((double)dx[k] - slope) <= 4e-7, "gelu'(%g) is %g, not %g", (double)x[k],
                  (double)dx[k], slope);
        }
        g = (mrc_activation_fwd_args){ .n = 3, .act = MRC_ACT_GELU,
                                         .x = { MRC_DTYPE_F32, 0, nan_in },
                                 .y = { .data = nan_out } };
        be->kernels[MRC_DTYPE_F32].activation_fwd(be, &g);
        CHECK(isnan(nan_out[1]) && !isnan(nan_out[0]) && !isnan(nan_out[2]), "NaN stays, alone");
    }
}

static void test_gelu_remake(const fleet *f) {
    enum { M = 37, K = 11, O = 45 };
    static float x[M * K], w[O * K], b[O], y[M * O], z[M * O], again[M * O];
    for (int i = 0; i < M * K; i++) x[i] = (float)(3 * test_random());
    for (int i = 0; i < O * K; i++) w[i] = (float)test_random();
    for (int i = 0; i < O; i++) b[i] = (float)test_random();
    for (size_t i = 0; i < f->n; i++) {
        mrc_backend *be = f->list[i];
        mrc_linear_fwd_args a = { .n = M, .in = K, .out = O, .act = MRC_ACT_GELU,
                                  .x = { MRC_DTYPE_F32, K, x }, .weight = { MRC_DTYPE_F32, K, w },
                                  .bias = { MRC_DTYPE_F32, 0, b }, .y = { MRC_DTYPE_F32, O, y, 0 },
                                  .z = { MRC_DTYPE_F32, O, z, 0 } };
        mrc_activation_fwd_args g = { .n = M * O, .act = MRC_ACT_GELU, .x = { MRC_DTYPE_F32, 0, z },
                                .y = { MRC_DTYPE_F32, 0, again, 0 } };
        be->kernels[MRC_DTYPE_F32].linear_fwd(be, &a);
        be->kernels[MRC_DTYPE_F32].activation_fwd(be, &g);
        CHECK(!memcmp(y, again, sizeof y), "%s: gelu of z is not y to the bit", be->isa);
    }
}

// ---- maps of one x, one after the other ----

enum { AGAIN_ROWS = 4200, AGAIN_IN = 70, AGAIN_OUT = 1060, AGAIN_WEIGHTS = 1100 * AGAIN_OUT };
static void again_fwd(mrc_backend *be, const float *x, const size_t n[3], const float *w,
                      mrc_dtype dtype, void *data, int again, float *y) {
    static const float bias[AGAIN_OUT];
    mrc_linear_fwd_args a = { .n = n[0], .in = n[1], .out = n[2], .again = again,
                              .x = { MRC_DTYPE_F32, AGAIN_IN, x },
                              .weight = { MRC_DTYPE_F32, n[1], w },
                              .bias = { MRC_DTYPE_F32, 0, bias },
                              .y = { MRC_DTYPE_F32, n[2], y, 0 } };
    if (data) {
        CHECK(be->prepack(be, data, dtype, n[2], n[1], w) == MRC_OK, "prepack");
        a.weight = (mrc_in){ dtype, 0, data };
    }
    CHECK(be->kernels[MRC_DTYPE_F32].linear_fwd(be, &a) == MRC_OK, "%s", be->isa);
}

// What is said to be x again gives the same bits; after another product, another number of rows or
// columns, and an x that has changed and is not said to be the same, nothing old is used.
static void test_again(const fleet *f) {
    // The last has several slices of k and of n; its rows overlap.
    static const size_t sizes[][3] = { { 30, 70, 40 }, { 1, 1, 1 }, { 29, 33, 40 }, { 29, 70, 7 },
                                       { 4200, 3, 2 }, { 25, 1100, AGAIN_OUT } };
    enum { SIZES = sizeof sizes / sizeof *sizes };
    static float x[AGAIN_ROWS * AGAIN_IN], w[2][AGAIN_WEIGHTS];
    static float want[AGAIN_ROWS * 40], got[AGAIN_ROWS * 40];
    static const mrc_dtype dtypes[] = { MRC_DTYPE_F32, MRC_DTYPE_BF16, MRC_DTYPE_I8 };
    for (size_t i = 0; i < AGAIN_ROWS * AGAIN_IN; i++) x[i] = (float)test_random();
    for (size_t i = 0; i < AGAIN_WEIGHTS; i++) w[0][i] = (float)test_random();
    for (size_t i = 0; i < AGAIN_WEIGHTS; i++) w[1][i] = (float)test_random();
    for (size_t k = 0; k < f->n * 4 * SIZES; k++) {
        mrc_backend *be = f->list[k / (4 * SIZES)];
        const size_t *n = sizes[k % SIZES], bytes = n[0] * n[2] * sizeof *got;
        const size_t kind = k / SIZES % 4;
        const mrc_dtype dtype = dtypes[kind % 3];       // kind 3: not packed
        void *data = kind < 3 ? be->alloc(be, be->prepack_bytes(be, dtype, n[2], n[1])) : NULL;
        again_fwd(be, x, n, w[1], dtype, data, 0, want);
        again_fwd(be, x, n, w[0], dtype, data, 0, got);
        again_fwd(be, x, n, w[1], dtype, data, 1, got);
        CHECK(!memcmp(want, got, bytes), "%s: kind %zu, %zu rows again: other bits", be->isa, kind,
              n[0]);
        const size_t less[3] = { n[0], n[1] > 1 ? n[1] - 1 : 1, n[2] };
        again_fwd(be, x, less, w[0], dtype, data, 0, got);
        again_fwd(be, x, n, w[1], dtype, data, 1, got);
        CHECK(!memcmp(want, got, bytes), "%s: kind %zu, %zu rows after fewer columns: other bits",
              be->isa, kind, n[0]);
        x[0] += 1;
        again_fwd(be, x, n, w[1], dtype, data, 0, got);
        CHECK(memcmp(want, got, bytes) != 0, "%s: kind %zu: an old x is used", be->isa, kind);
        x[0] -= 1;
        if (data) be->free(be, data);
    }
}

// ---- products of rounded operands: NaN, infinities, subnormals ----

static void test_bf16_specials(const fleet *f) {
    enum { M = 14, K = 37, N = 35 };
    static float a[M * K], b[K * N], c[M * N];
    for (size_t i = 0; i < f->n; i++) {
        mrc_backend *be = f->list[i];
        mrc_gemm_args g = { .m = M, .n = N, .k = K, .a = { MRC_DTYPE_F32, K, a },
                            .b = { MRC_DTYPE_F32, N, b }, .c = { MRC_DTYPE_F32, N, c, 0 } };
        const uint32_t nans[] = { 0x7fffffff, 0xffffffff, 0x7f800001, 0xff80ffff };
        for (int k = 0; k < M * K; k++) a[k] = 1;
        for (int k = 0; k < K * N; k++) b[k] = 1;
        for (int k = 0; k < 4; k++) a[(k + 2) * K + 9 * k] = mrc__bits_float(nans[k]);
        a[7 * K + 36] = HUGE_VALF;
        a[8 * K] = 3.4e38f;                             // rounds to infinity
        for (int k = 0; k < K; k++) a[9 * K + k] = 1e-40f;      // subnormal, or 0
        for (int k = 0; k < K; k++) a[10 * K + k] = 1 + 0x1p-8f;        // half way: to even, 1
        for (int k = 0; k < K; k++) a[11 * K + k] = 1 + 3 * 0x1p-8f;    // 1 + 2^-6
        be->kernels[MRC_DTYPE_F32].gemm(be, &g);
        for (int r = 0; r < M; r++) {
            for (int j = 0; j < N; j++) {
                const float y = c[r * N + j];
                const int ok = r >= 2 && r < 6 ? isnan(y) : r == 7 || r == 8 ? isinf(y) && y > 0
                             : r == 9 ? y >= 0 && y <= 1e-37f
                             : y == (r == 11 ? K * (1 + 0x1p-6f) : K);
                CHECK(ok, "%s: row %d column %d is %g", be->isa, r, j, (double)y);
            }
        }
    }
}

// The names that tell bits apart, and who refuses to round.
static void test_math_names(const fleet *f) {
    for (size_t i = 0; i < f->n; i++) {
        CHECK(f->list[i]->math == MRC_MATH_BF16 && strstr(f->list[i]->isa, "-bf16"), "%s",
              f->list[i]->isa);
    }
    CHECK(!strcmp(f->naive->isa, "c-bf16"), "%s", f->naive->isa);
}

// Products and attention that have work for many threads, on 1 to 16 of them: the same bits.
static void test_many_threads(mrc_math math, int word) {
    const setting layer = { .n = 70, .in = 512, .out = 520, .wanted = 1 };
    const setting heads = { .n = 130, .in = 32, .heads = 3, .sequences = 2, .lengths = { 61, 69 },
                            .real = { 60, -1 }, .p = 0.1, .wanted = 1 };
    for (size_t i = 0; i < TEST_ISAS; i++) {
        fleet f = { .math = math, .each = MANY };
        fleet_add(&f, test_isas[i].isa, word);
        if (f.n == 0) continue;
        CHECK(mrc_backend_naive_new(&f.naive, &(mrc_backend_desc){ .math = math }) == MRC_OK,
              "naive");
        test_kernel(&f, &linear_case, &layer);
        test_kernel(&f, &attention_case, &heads);
        fleet_free(&f);
    }
}

int main(void) {
    fleet f;
    fleet_new(&f, MRC_MATH_F32);
    for (size_t threads = 0; threads < 8; threads++) test_pool(threads);
    const mrc_allocator host = { mrc__std_alloc, mrc__std_free, NULL };
    mrc__pool *pool;
    CHECK(mrc__pool_new(&pool, &host, 65) == MRC_ERR_ARG, "65 threads");
    mrc_backend *be;
    CHECK(mrc_backend_cpu_new(&be, &(mrc_backend_desc){ .threads = 65 }) == MRC_ERR_ARG, "65");
    test_math(&f);
    test_gelu_remake(&f);
    test_again(&f);
    test_gemm(&f);
    test_kernels(&f);
    test_attention(&f);
    test_lstm(&f);
    if (f.n < 15) printf("SKIP: this machine lacks an instruction set: %zu instances\n", f.n);
    fleet_free(&f);
    test_many_threads(MRC_MATH_F32, 1);
    test_many_threads(MRC_MATH_BF16, 1);
    test_many_threads(MRC_MATH_BF16, 0);
    fleet_new(&f, MRC_MATH_BF16);
    test_math_names(&f);
    test_bf16_specials(&f);
    test_gelu_remake(&f);
    test_again(&f);
    test_gemm(&f);
    test_kernels(&f);
    test_attention(&f);
    test_lstm(&f);
    if (f.n < 12) printf("SKIP: this machine has no products of bf16: %zu instances\n", f.n);
    fleet_free(&f);
    return test_end();
}
