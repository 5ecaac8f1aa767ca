// Backends that only tests need, allocators that are dirty or fail on demand, and the list of all
// backends that a test runs on.
#ifndef BACKENDS_H
#define BACKENDS_H
#include "test.h"
#include <sys/mman.h>
#ifdef MRC_OPENBLAS
#include "../../backends/openblas.h"
#endif

//==============================================================================
// What the kernels' args hold: every backend address, with its place.  A new kernel is a line here;
// one that is forgotten shows when the naive kernel reads the fake device's memory.
//==============================================================================
enum {
#define MRC_X(name, ...) KERNEL_##name,
    MRC_KERNEL_LIST(MRC_X)
#undef MRC_X
    N_KERNELS
};
typedef enum operand_kind { READ, WRITTEN, WORKSPACE, TENSORS } operand_kind;
typedef struct operand { int kernel; operand_kind kind; size_t at; } operand;

#define IN(k, m)   { KERNEL_##k, READ, offsetof(mrc_##k##_args, m.data) }
#define OUT(k, m)  { KERNEL_##k, WRITTEN, offsetof(mrc_##k##_args, m.data) }
#define IN2(k, m)  IN(k, m[0]), IN(k, m[1])
#define OUT2(k, m) OUT(k, m[0]), OUT(k, m[1])
#define PACKED(k)  IN(k, cu_seqlens), IN(k, sequence_index)
#define LOSS(k)    IN(k, logits), IN(k, targets), IN(k, cu_seqlens), IN(k, loss_begin),            \
                   IN(k, loss_end), IN(k, denominator)
#define ATTENTION(fn) PACKED(fn), IN(fn, real_len), IN(fn, q), IN(fn, k), IN(fn, v),               \
                   IN(fn, extra.index), IN(fn, extra.bias), IN(fn, extra.pos_key),                 \
                   IN(fn, extra.pos_query)
#define MAXSIM(k)  IN(k, q), IN(k, document), IN(k, q_cu_seqlens), IN(k, document_cu_seqlens)
#define SCORES(k)  IN(k, z), IN(k, labels), IN(k, targets), IN(k, denominator)
#define IDS(k)     IN(k, input_ids), IN(k, position_ids), IN(k, token_type_ids)
#define GATES(k)   IN(k, cu_seqlens), IN(k, x), IN2(k, weight_ih), IN2(k, weight_hh)
static const operand operands[] = {
    IN(gemm, a), IN(gemm, b), OUT(gemm, c),
    IDS(embedding_fwd), IN(embedding_fwd, word), IN(embedding_fwd, position),
    IN(embedding_fwd, token_type), OUT(embedding_fwd, y),
    IDS(embedding_bwd), IN(embedding_bwd, dy), OUT(embedding_bwd, dword),
    OUT(embedding_bwd, dposition), OUT(embedding_bwd, dtoken_type),
    IN(linear_fwd, x), IN(linear_fwd, weight), IN(linear_fwd, bias), OUT(linear_fwd, y),
    OUT(linear_fwd, z),
    IN(linear_bwd, x), IN(linear_bwd, weight), IN(linear_bwd, dy), OUT(linear_bwd, z),
    OUT(linear_bwd, dx), OUT(linear_bwd, dweight), OUT(linear_bwd, dbias),
    ATTENTION(attention_fwd), OUT(attention_fwd, y), OUT(attention_fwd, lse),
    ATTENTION(attention_bwd), IN(attention_bwd, lse), IN(attention_bwd, dy),
    OUT(attention_bwd, dq), OUT(attention_bwd, dk), OUT(attention_bwd, dv),
    OUT(attention_bwd, dbias), OUT(attention_bwd, dpos_key), OUT(attention_bwd, dpos_query),
    IN(activation_fwd, x), OUT(activation_fwd, y),
    IN(activation_bwd, x), IN(activation_bwd, dy), OUT(activation_bwd, dx),
    IN(glu_fwd, z), OUT(glu_fwd, y), IN(glu_bwd, z), IN(glu_bwd, dy), OUT(glu_bwd, dz),
    IN(rope_fwd, cu_seqlens), IN(rope_fwd, from), OUT(rope_fwd, to),
    IN(rope_bwd, cu_seqlens), IN(rope_bwd, from), OUT(rope_bwd, to),
    PACKED(add_fwd), IN(add_fwd, x), IN(add_fwd, residual), OUT(add_fwd, y),
    PACKED(add_bwd), IN(add_bwd, dy), OUT(add_bwd, dx), OUT(add_bwd, dresidual),
    IN(pool_fwd, cu_seqlens), IN(pool_fwd, real_len), IN(pool_fwd, x), OUT(pool_fwd, y),
    OUT(pool_fwd, argmax),
    IN(pool_bwd, cu_seqlens), IN(pool_bwd, real_len), IN(pool_bwd, argmax), IN(pool_bwd, dy),
    OUT(pool_bwd, dx),
    IN(normalize_fwd, x), OUT(normalize_fwd, y), OUT(normalize_fwd, inverse),
    IN(normalize_bwd, y), IN(normalize_bwd, inverse), IN(normalize_bwd, dy),
    OUT(normalize_bwd, dx),
    MAXSIM(maxsim_fwd), IN(maxsim_fwd, keep), OUT(maxsim_fwd, y), OUT(maxsim_fwd, argmax),
    MAXSIM(maxsim_bwd), IN(maxsim_bwd, argmax), IN(maxsim_bwd, dy), OUT(maxsim_bwd, dq),
    OUT(maxsim_bwd, ddocument),
    SCORES(score_loss_fwd), OUT(score_loss_fwd, loss), OUT(score_loss_fwd, lse),
    SCORES(score_loss_bwd), IN(score_loss_bwd, lse), IN(score_loss_bwd, dloss),
    OUT(score_loss_bwd, dz),
    OUT(fill, y), IN(axpby, scale), IN(axpby, skip), IN(axpby, x), OUT(axpby, y),
    IN(fold, parts), OUT(fold, y),
    IN(layer_norm_fwd, x), IN(layer_norm_fwd, weight), IN(layer_norm_fwd, bias),
    OUT(layer_norm_fwd, y), OUT(layer_norm_fwd, mean), OUT(layer_norm_fwd, rstd),
    IN(layer_norm_bwd, x), IN(layer_norm_bwd, weight), IN(layer_norm_bwd, mean),
    IN(layer_norm_bwd, rstd), IN(layer_norm_bwd, dy), OUT(layer_norm_bwd, dx),
    OUT(layer_norm_bwd, dweight), OUT(layer_norm_bwd, dbias),
    PACKED(add_norm_fwd), IN(add_norm_fwd, x), IN(add_norm_fwd, residual),
    IN(add_norm_fwd, weight), IN(add_norm_fwd, bias), OUT(add_norm_fwd, y),
    OUT(add_norm_fwd, sum), OUT(add_norm_fwd, mean), OUT(add_norm_fwd, rstd),
    PACKED(add_norm_bwd), IN(add_norm_bwd, weight), IN(add_norm_bwd, mean),
    IN(add_norm_bwd, rstd), IN(add_norm_bwd, dy), OUT(add_norm_bwd, sum), OUT(add_norm_bwd, dx),
    OUT(add_norm_bwd, dresidual), OUT(add_norm_bwd, dweight), OUT(add_norm_bwd, dbias),
    PACKED(dropout_fwd), IN(dropout_fwd, from), OUT(dropout_fwd, to),
    PACKED(dropout_bwd), IN(dropout_bwd, from), OUT(dropout_bwd, to),
    GATES(lstm_fwd), IN2(lstm_fwd, bias_ih), IN2(lstm_fwd, bias_hh), OUT(lstm_fwd, y),
    OUT(lstm_fwd, gates), OUT(lstm_fwd, cells),
    GATES(lstm_bwd), IN(lstm_bwd, y), IN(lstm_bwd, dy), OUT(lstm_bwd, gates),
    OUT(lstm_bwd, cells), OUT(lstm_bwd, dx), OUT2(lstm_bwd, dweight_ih),
    OUT2(lstm_bwd, dweight_hh), OUT2(lstm_bwd, dbias_ih), OUT2(lstm_bwd, dbias_hh),
    GATES(gru_fwd), IN2(gru_fwd, bias_ih), IN2(gru_fwd, bias_hh), OUT(gru_fwd, y),
    OUT(gru_fwd, gates),
    GATES(gru_bwd), IN(gru_bwd, y), IN(gru_bwd, dy), OUT(gru_bwd, gates), OUT(gru_bwd, dx),
    OUT2(gru_bwd, dweight_ih), OUT2(gru_bwd, dweight_hh), OUT2(gru_bwd, dbias_ih),
    OUT2(gru_bwd, dbias_hh),
    IN(unfold_fwd, cu_seqlens), IN(unfold_fwd, x), OUT(unfold_fwd, y),
    IN(unfold_bwd, cu_seqlens), IN(unfold_bwd, dy), OUT(unfold_bwd, dx),
    LOSS(cross_entropy_fwd), IN(cross_entropy_fwd, alpha), OUT(cross_entropy_fwd, loss),
    OUT(cross_entropy_fwd, lse),
    LOSS(cross_entropy_bwd), IN(cross_entropy_bwd, alpha), IN(cross_entropy_bwd, lse),
    IN(cross_entropy_bwd, dloss), OUT(cross_entropy_bwd, dlogits),
    LOSS(symmetric_kl_fwd), IN(symmetric_kl_fwd, other), OUT(symmetric_kl_fwd, loss),
    OUT(symmetric_kl_fwd, saved),
    LOSS(symmetric_kl_bwd), IN(symmetric_kl_bwd, other), IN(symmetric_kl_bwd, saved),
    IN(symmetric_kl_bwd, dloss), OUT(symmetric_kl_bwd, dlogits), OUT(symmetric_kl_bwd, dother),
    OUT(grad_norm, norm), OUT(grad_norm, clip), OUT(grad_norm, state),
    OUT(grad_norm, loss_scale.scale), OUT(grad_norm, loss_scale.counts),
    IN(grad_norm, squares), IN(grad_norm, losses), OUT(grad_norm, inverse),
    OUT(grad_norm, report),
    { KERNEL_squares, TENSORS, offsetof(mrc_squares_args, tensors) }, OUT(squares, squares),
    IN(adamw, clip), IN(adamw, state),
    { KERNEL_adamw, TENSORS, offsetof(mrc_adamw_args, tensors) },
    IN(adamp, clip), IN(adamp, state),
    { KERNEL_adamp, TENSORS, offsetof(mrc_adamp_args, tensors) },
    IN(sgd, clip), IN(sgd, state), { KERNEL_sgd, TENSORS, offsetof(mrc_sgd_args, tensors) },
#define MRC_X(name, ...) { KERNEL_##name, WORKSPACE, offsetof(mrc_##name##_args, workspace) },
    MRC_KERNEL_LIST(MRC_X)
#undef MRC_X
};
enum { N_OPERANDS = sizeof operands / sizeof operands[0], MAX_TENSORS = 64 };

static void *operand_get(const void *args, const operand *o) {
    void *ptr;
    memcpy(&ptr, (const char *)args + o->at, sizeof ptr);
    return ptr;
}
static void operand_set(void *args, const operand *o, void *ptr) {
    memcpy((char *)args + o->at, &ptr, sizeof ptr);
}

// Defines prefix_f32_name and so on for each type, which call prefix_before(be, kernel, copy of the
// args), the same kernel of prefix_inner(be), and prefix_after(be, kernel, copy); and the queries.
#define RELAY_TYPE(prefix, name, type, DTYPE)                                               \
    static mrc_status prefix##_##type##_##name(mrc_backend *be, const mrc_##name##_args *args) { \
        mrc_backend *inner = prefix##_inner(be);                                            \
        mrc_##name##_args a = *args;                                                        \
        mrc_optim_tensor tensors[MAX_TENSORS];                                              \
        prefix##_before(be, KERNEL_##name, &a, tensors);                                    \
        mrc_status s = inner->kernels[DTYPE].name(inner, &a);                               \
        prefix##_after(be, KERNEL_##name, &a);                                              \
        return s;                                                                           \
    }                                                                                       \
    static size_t prefix##_##type##_##name##_query(mrc_backend *be,                         \
                                                   const mrc_##name##_args *a) {            \
        mrc_backend *inner = prefix##_inner(be);                                            \
        return inner->kernels[DTYPE].name##_workspace(inner, a);                            \
    }
#define RELAY(prefix, name)                                                                 \
    RELAY_TYPE(prefix, name, f32, MRC_DTYPE_F32)                                            \
    RELAY_TYPE(prefix, name, f64, MRC_DTYPE_F64)                                            \
    RELAY_TYPE(prefix, name, f16, MRC_DTYPE_F16)                                            \
    RELAY_TYPE(prefix, name, bf16, MRC_DTYPE_BF16)
#define RELAY_FILL_TYPE(prefix, name, type, be, inner, DTYPE)                               \
    if ((inner)->kernels[DTYPE].name) (be)->kernels[DTYPE].name = prefix##_##type##_##name;  \
    if ((inner)->kernels[DTYPE].name##_workspace) {                                         \
        (be)->kernels[DTYPE].name##_workspace = prefix##_##type##_##name##_query;           \
    }
#define RELAY_FILL(prefix, name, be, inner)                                                 \
    RELAY_FILL_TYPE(prefix, name, f32, be, inner, MRC_DTYPE_F32)                            \
    RELAY_FILL_TYPE(prefix, name, f64, be, inner, MRC_DTYPE_F64)                            \
    RELAY_FILL_TYPE(prefix, name, f16, be, inner, MRC_DTYPE_F16)                            \
    RELAY_FILL_TYPE(prefix, name, bf16, be, inner, MRC_DTYPE_BF16)

//==============================================================================
// Hooks whose memory is full of NaN; and whose k-th allocation fails, and every later one if
// asked, counting what stays live
//==============================================================================
static void *dirty_alloc(void *user, size_t bytes) {
    void *p = malloc(bytes);
    (void)user;
    return p ? memset(p, 0xff, bytes) : NULL;
}
static void dirty_free(void *user, void *ptr) { (void)user; free(ptr); }
static const mrc_allocator dirty_hooks = { .alloc = dirty_alloc, .free = dirty_free };

typedef struct failing { long fail_at, calls, live; int from_then_on; } failing;

static void *failing_alloc(void *user, size_t bytes) {
    failing *f = user;
    long call = f->calls++;
    if (call == f->fail_at || (f->from_then_on && call > f->fail_at)) return NULL;
    f->live++;
    return malloc(bytes);
}
static void failing_free(void *user, void *ptr) {
    if (ptr) ((failing *)user)->live--;
    free(ptr);
}
TEST_HELPER mrc_allocator failing_hooks(failing *f) {
    return (mrc_allocator){ .alloc = failing_alloc, .free = failing_free, .user = f };
}

//==============================================================================
// Derived: a cpu instance with gemm replaced.  What backends/openblas.c will be.
//==============================================================================
typedef struct derived_state { mrc_backend *naive; size_t calls, fail_at; } derived_state;

static mrc_status derived_gemm(mrc_backend *be, const mrc_gemm_args *a) {
    derived_state *d = be->derived;
    if (++d->calls == d->fail_at) return MRC_ERR_NUMERIC;
    return d->naive->kernels[a->a.dtype].gemm(d->naive, a);
}

// A query that reads its own instance, as one that counts threads or multiprocessors does.  The
// kernel it belongs to is the naive one.
static size_t derived_workspace(mrc_backend *be, const mrc_layer_norm_bwd_args *a) {
    const derived_state *d = be->derived;
    return d->naive ? 64 * a->n : 0;
}
static mrc_status derived_layer_norm_bwd(mrc_backend *be, const mrc_layer_norm_bwd_args *a) {
    const derived_state *d = be->derived;
    return d->naive->kernels[MRC_DTYPE_F32].layer_norm_bwd(d->naive, a);
}

TEST_HELPER mrc_status derived_new(mrc_backend **out, derived_state *state) {
    mrc_status s = mrc_backend_naive_new(&state->naive, NULL);
    if (s == MRC_OK) s = mrc_backend_cpu_new(out, &(mrc_backend_desc){ .threads = 1 });
    if (s != MRC_OK) return s;
    (*out)->name = "derived";
    (*out)->derived = state;
    (*out)->kernels[MRC_DTYPE_F32].gemm = derived_gemm;
    (*out)->kernels[MRC_DTYPE_F64].gemm = derived_gemm;
    (*out)->kernels[MRC_DTYPE_F32].layer_norm_bwd = derived_layer_norm_bwd;
    (*out)->kernels[MRC_DTYPE_F32].layer_norm_bwd_workspace = derived_workspace;
    return MRC_OK;
}

//==============================================================================
// Null, the library's: planning for `like`.  Freed by the caller.
//==============================================================================
TEST_HELPER mrc_backend *null_new(mrc_backend *like) {
    mrc_backend *be = NULL;
    CHECK(mrc_backend_null_new(&be, like, NULL) == MRC_OK, "null");
    return be;
}

//==============================================================================
// Fake device: addresses are pages that nobody may touch, so the library faults when it
// dereferences one.  Kernels translate and call the naive ones.
//==============================================================================
typedef struct fake_state {
    mrc_backend  base;
    mrc_backend *naive;
    struct { char *far, *near; size_t bytes; } map[1024];
    int          strays;            // addresses that belong to no allocation
} fake_state;
#define FAKE_MAPS (sizeof ((fake_state *)0)->map / sizeof ((fake_state *)0)->map[0])

static void *fake_alloc(mrc_backend *be, size_t bytes) {
    fake_state *f = be->self;
    for (size_t i = 0; i < FAKE_MAPS; i++) {
        if (f->map[i].far) continue;
        void *far = mmap(NULL, bytes + 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char *near = far == MAP_FAILED ? NULL : f->naive->alloc(f->naive, bytes);
        if (!near) return NULL;
        f->map[i].far = far;
        f->map[i].near = near;
        f->map[i].bytes = bytes;
        return far;
    }
    return NULL;
}

static void fake_free(mrc_backend *be, void *ptr) {
    fake_state *f = be->self;
    for (size_t i = 0; i < FAKE_MAPS; i++) {
        if (!ptr || f->map[i].far != ptr) continue;
        munmap(ptr, f->map[i].bytes + 1);
        f->naive->free(f->naive, f->map[i].near);
        f->map[i].far = NULL;
    }
}

// NULL, a kernel's "not wanted", stays NULL.
static void *fake_near(mrc_backend *be, const void *ptr) {
    fake_state *f = be->self;
    uintptr_t p = (uintptr_t)ptr;
    for (size_t i = 0; ptr && i < FAKE_MAPS; i++) {
        uintptr_t far = (uintptr_t)f->map[i].far;
        if (far && p >= far && p - far < f->map[i].bytes) return f->map[i].near + (p - far);
    }
    if (ptr) f->strays++;
    return NULL;
}

static mrc_status fake_upload(mrc_backend *be, void *dst, const void *src, size_t bytes) {
    if (bytes) memcpy(fake_near(be, dst), src, bytes);
    return MRC_OK;
}
static mrc_status fake_download(mrc_backend *be, void *dst, const void *src, size_t bytes) {
    if (bytes) memcpy(dst, fake_near(be, src), bytes);
    return MRC_OK;
}

static mrc_backend *fake_inner(mrc_backend *be) { return ((fake_state *)be->self)->naive; }

static void fake_tensors(mrc_backend *be, size_t n, const mrc_optim_tensor *from,
                         mrc_optim_tensor *to) {
    for (size_t i = 0; i < n && i < MAX_TENSORS; i++) {
        to[i] = from[i];
        to[i].grad.data = fake_near(be, from[i].grad.data);
        to[i].param.data = fake_near(be, from[i].param.data);
        to[i].copy.data = fake_near(be, from[i].copy.data);
        to[i].m.data = fake_near(be, from[i].m.data);
        to[i].v.data = fake_near(be, from[i].v.data);
    }
}

static void fake_before(mrc_backend *be, int kernel, void *args, mrc_optim_tensor *tensors) {
    for (int i = 0; i < N_OPERANDS; i++) {
        const operand *o = &operands[i];
        if (o->kernel != kernel) continue;
        if (o->kind == TENSORS) {           // the host's array, n_tensors just before it
            size_t n;
            memcpy(&n, (char *)args + o->at - sizeof n, sizeof n);
            fake_tensors(be, n, operand_get(args, o), tensors);
            operand_set(args, o, tensors);
        } else {
            operand_set(args, o, fake_near(be, operand_get(args, o)));
        }
    }
}
static void fake_after(mrc_backend *be, int kernel, const void *args) {
    (void)be; (void)kernel; (void)args;
}

#define MRC_X(name, ...) RELAY(fake, name)
MRC_KERNEL_LIST(MRC_X)
#undef MRC_X

TEST_HELPER mrc_backend *fake_new(fake_state *f) {
    memset(f, 0, sizeof *f);
    const mrc_backend_desc desc = { .allocator = dirty_hooks };
    if (mrc_backend_naive_new(&f->naive, &desc) != MRC_OK) return NULL;
    f->base = (mrc_backend){ .size = sizeof(mrc_backend), .api = MRC_BACKEND_API, .name = "fake",
                             .isa = "c", .self = f, .alloc = fake_alloc, .free = fake_free,
                             .upload = fake_upload, .download = fake_download };
#define MRC_X(name, ...) RELAY_FILL(fake, name, &f->base, f->naive)
    MRC_KERNEL_LIST(MRC_X)
#undef MRC_X
    return &f->base;
}

//==============================================================================
// Guard: another host backend under watch.  What a kernel was not given to write, inputs and free
// memory included, must be the same afterwards.  (Behind an output's last element the arena's
// padding is poisoned, so that is ASan's.)
//==============================================================================
typedef struct guard_state {
    mrc_backend   base;
    mrc_backend  *inner;            // not owned
    const mrc_ctx *ctx;             // whose memory is watched
    uint64_t      hash[4096];       // of each block, in the arenas' order
    size_t        watched, strays;
    int           stray_kernel;     // the last kernel that wrote elsewhere
} guard_state;

__attribute__((no_sanitize_address))
static uint64_t guard_hash(const mrc__block *b) {
    uint64_t h = 1469598103934665603u;
    const uint64_t *word = (const uint64_t *)(const void *)b->data;
    for (size_t i = 0; i < b->bytes / sizeof *word; i++) h = (h ^ word[i]) * 1099511628211u;
    return h;
}

static int guard_writable(const mrc__block *b, int kernel, const void *args) {
    for (int i = 0; i < N_OPERANDS; i++) {
        if (operands[i].kernel != kernel) continue;
        const char *ptr = operand_get(args, &operands[i]);
        if (operands[i].kind == TENSORS) return 1;
        if (operands[i].kind != READ && ptr && ptr >= b->data && ptr < b->data + b->bytes) return 1;
    }
    return 0;
}

static void guard_before(mrc_backend *be, int kernel, void *args, mrc_optim_tensor *tensors) {
    guard_state *g = be->self;
    const mrc__arena *arena[2] = { &g->ctx->step, &g->ctx->grads };
    size_t k = 0;
    (void)kernel; (void)args; (void)tensors;
    for (int i = 0; i < 2; i++) {
        for (const mrc__block *b = arena[i]->first; b && k < 4096; b = b->next) {
            g->hash[k++] = guard_hash(b);
        }
    }
}

static void guard_after(mrc_backend *be, int kernel, const void *args) {
    guard_state *g = be->self;
    const mrc__arena *arena[2] = { &g->ctx->step, &g->ctx->grads };
    size_t k = 0;
    for (int i = 0; i < 2; i++) {
        for (const mrc__block *b = arena[i]->first; b && k < 4096; b = b->next, k++) {
            if (guard_writable(b, kernel, args)) continue;
            g->watched++;
            if (guard_hash(b) == g->hash[k]) continue;
            g->strays++;
            g->stray_kernel = kernel;
        }
    }
}

static mrc_backend *guard_inner(mrc_backend *be) { return ((guard_state *)be->self)->inner; }
static void *guard_alloc(mrc_backend *be, size_t bytes) {
    return guard_inner(be)->alloc(guard_inner(be), bytes);
}
static void guard_free(mrc_backend *be, void *ptr) { guard_inner(be)->free(guard_inner(be), ptr); }

#define MRC_X(name, ...) RELAY(guard, name)
MRC_KERNEL_LIST(MRC_X)
#undef MRC_X

TEST_HELPER mrc_backend *guard_new(guard_state *g, mrc_backend *inner) {
    memset(g, 0, sizeof *g);
    g->inner = inner;
    g->base = (mrc_backend){ .size = sizeof(mrc_backend), .api = MRC_BACKEND_API, .name = "guard",
                             .isa = inner->isa, .is_host = 1, .self = g, .alloc = guard_alloc,
                             .free = guard_free, .upload = inner->upload,
                             .download = inner->download };
#define MRC_X(name, ...) RELAY_FILL(guard, name, &g->base, inner)
    MRC_KERNEL_LIST(MRC_X)
#undef MRC_X
    return &g->base;
}

//==============================================================================
// All of them: naive first, then what must agree with it
//==============================================================================
enum { MAX_BACKENDS = 24, MAX_THREADS = 3 };
typedef struct all_backends {
    mrc_backend  *be[MAX_BACKENDS];
    char          label[MAX_BACKENDS][32];
    int           same_as[MAX_BACKENDS];        // whose bits it must have; -1: nobody's
    int           n;
    fake_state    fake;
    derived_state derived;
    guard_state   guard[4];
    int           n_guards;
} all_backends;

static void all_add(all_backends *a, mrc_backend *be, const char *label, int same_as) {
    if (!CHECK(be && a->n < MAX_BACKENDS, "backend %s", label)) return;
    a->be[a->n] = be;
    a->same_as[a->n] = same_as;
    snprintf(a->label[a->n++], sizeof a->label[0], "%s", label);
}

TEST_HELPER void all_add_guard(all_backends *a, int inner) {
    char label[32];
    snprintf(label, sizeof label, "guard on %.20s", a->label[inner]);
    all_add(a, guard_new(&a->guard[a->n_guards++], a->be[inner]), label, inner);
}

// One thread, as the sanitizers cannot see into it.
TEST_HELPER void all_add_openblas(all_backends *a) {
#ifdef MRC_OPENBLAS
    mrc_backend *be = NULL;
    mrc_backend_openblas_new(&be, &(mrc_backend_desc){ .allocator = dirty_hooks, .threads = 1 });
    all_add(a, be, "openblas", -1);
#else
    (void)a;
    test_skip("no OpenBLAS: its backend");
#endif
}

#ifdef MRC_TEST_CUDA
// Not in strict C's headers.
int setenv(const char *name, const char *value, int overwrite);
int unsetenv(const char *name);

// Host memory after all, so that the library's arenas mark what is free for AddressSanitizer.
TEST_HELPER mrc_backend *cuda_on_host(mrc_backend *be) {
    if (be) be->is_host = !TEST_ON_GPU;
    return be;
}

TEST_HELPER void all_new(all_backends *a) {
    mrc_backend *be = NULL;
    memset(a, 0, sizeof *a);
    mrc_backend_naive_new(&be, &(mrc_backend_desc){ .allocator = dirty_hooks });
    all_add(a, be, "naive", -1);
    be = cuda_on_host(cuda_new(80, 0));
    if (be) all_add(a, be, "cuda sm_80", -1);
    be = cuda_new(80, 1);
    if (be) all_add(a, be, "cuda tf32", -1);
    be = cuda_on_host(cuda_new(90, 0));
    if (be) all_add(a, be, "cuda sm_90", -1);
    // Of what path 70 is for, the device whose blocks have the least shared memory: 64 KiB.
    setenv("MRC_SHIM_ARCH", "75", 1);
    all_add(a, cuda_new(70, 0), "cuda sm_75", -1);
    unsetenv("MRC_SHIM_ARCH");
}
#else
TEST_HELPER void all_new(all_backends *a) {
    mrc_backend *be = NULL;
    memset(a, 0, sizeof *a);
    mrc_backend_naive_new(&be, &(mrc_backend_desc){ .allocator = dirty_hooks });
    all_add(a, be, "naive", -1);
    all_add(a, fake_new(&a->fake), "fake", 0);
    be = NULL;
    derived_new(&be, &a->derived);
    all_add(a, be, "derived", -1);
    all_add_openblas(a);
    all_add_guard(a, 0);
    for (int i = 0; i < TEST_ISAS; i++) {
        const mrc_isa isa = test_isas[i].isa;
        int one = a->n;
        for (size_t threads = 1; threads <= MAX_THREADS; threads++) {
            char label[32];
            mrc_backend_desc desc = { .allocator = dirty_hooks, .isa = isa, .threads = threads };
            snprintf(label, sizeof label, "cpu %s x%zu", test_isas[i].name, threads);
            mrc_status s = mrc_backend_cpu_new(&be, &desc);
            if (s == MRC_ERR_UNSUPPORTED && isa != MRC_ISA_BASELINE) {
                test_skip(label);
                continue;
            }
            all_add(a, s == MRC_OK ? be : NULL, label, threads == 1 ? -1 : one);
        }
        if (a->n > one) all_add_guard(a, one);
    }
}
#endif

TEST_HELPER void all_free(all_backends *a) {
    CHECK(a->fake.strays == 0, "%d addresses that are none", a->fake.strays);
    for (int i = 0; i < a->n_guards; i++) {
        const guard_state *g = &a->guard[i];
        CHECK(g->strays == 0, "kernel %d on %s %s wrote where it should not, %zu times in all",
              g->stray_kernel, g->inner->name, g->inner->isa, g->strays);
    }
    for (int i = 0; i < a->n; i++) {
        if (a->be[i]->destroy) mrc_backend_free(a->be[i]);
    }
    mrc_backend_free(a->derived.naive);
    mrc_backend_free(a->fake.naive);
}

// Whether it computes with activations of that type.
TEST_HELPER int all_has(const mrc_backend *be, mrc_dtype dtype) {
    return be->kernels[dtype].linear_fwd != NULL;
}

// A context on one of them; the guards are told whose memory to watch.
TEST_HELPER mrc_ctx *all_ctx(mrc_backend *be) {
    mrc_ctx *ctx = NULL;
    if (mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) != MRC_OK) return NULL;
    if (!strcmp(be->name, "guard")) ((guard_state *)be->self)->ctx = ctx;
    return ctx;
}

#endif
