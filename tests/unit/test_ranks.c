// Training on several ranks: weights, moments, losses and norms are the bits of one rank, whatever
// the number of ranks, with dropout, R-Drop, FGM and step sizes that the ranks do not divide, and
// with an optimizer that is shared out; checkpoints are the same files, and any number of ranks
// goes on with them; so are predictions.  One rank's errors and flags are everyone's.  Buckets of
// gradients are handed over while backward goes on, and nothing is written to them after that.  The
// ranks are threads of this process.
// tags: threads
#include "../support/comm_threads.h"
#include <sys/stat.h>
#include <unistd.h>

enum { STEPS = 4, FEATURES = 7, LENGTH = 12, MICRO = 2, WORDS = 1200 };
static char folder[64];                 // of checkpoints

typedef struct variant {
    const char   *name;
    int           bilstm, naive;
    mrc_objective objective;
    size_t        n;                    // features of a step
    int           skips;                // the second step's loss is above what is allowed
    int           checkpoints;          // backward computes the layers again
    mrc_model_type type;                // ALBERT: both layers have the same weights
} variant;
static const variant variants[] = {
    { "linear", 0, 0, { .rdrop_alpha = 0 }, 7, 0, 0, 0 },
    { "one micro-batch", 0, 0, { .rdrop_alpha = 0 }, 2, 0, 0, 0 },
    { "BiLSTM", 1, 0, { .rdrop_alpha = 0 }, 7, 0, 0, 0 },
    { "naive", 0, 1, { .rdrop_alpha = 0 }, 5, 0, 0, 0 },
    { "R-Drop", 0, 0, { .rdrop_alpha = 1 }, 7, 0, 0, 0 },
    { "FGM", 0, 0, { .fgm_epsilon = 0.5 }, 7, 0, 0, 0 },
    { "a step that is skipped", 0, 0, { .rdrop_alpha = 0 }, 7, 1, 0, 0 },
    { "checkpointed", 0, 0, { .rdrop_alpha = 0 }, 7, 0, 1, 0 },
    { "R-Drop and FGM, shared layers, checkpointed", 0, 0, { .rdrop_alpha = 1, .fgm_epsilon = .5 },
      3, 0, 1, MRC_MODEL_ALBERT },
    { "tables that all layers read", 1, 0, { .rdrop_alpha = 0 }, 5, 0, 0, MRC_MODEL_DEBERTA_V2 },
};

// A communicator that looks on: which buckets are handed over before backward has ended, and
// whether what has been handed over changes before the wait.
enum { MOST_SUMS = 32 };
typedef struct watch {
    mrc_comm    base;
    mrc_comm   *inner;
    mrc_ctx    *ctx;
    struct { const void *data; void *copy; size_t bytes; } sums[MOST_SUMS];
    int         n;
    size_t      handed, early, rounds;
    size_t      changed;
} watch;

static mrc_status watch_reduce(mrc_comm *c, mrc_backend *be, const mrc_comm_slices *b,
                               const void *data, void *sum, int first, int members) {
    watch *w = c->self;
    const size_t bytes = b->begin[c->n_ranks] * mrc_dtype_bytes(b->dtype);
    if (c->rank < members && w->n < MOST_SUMS) {
        void *copy = malloc(bytes + 1);
        memcpy(copy, data, bytes);
        w->sums[w->n].data = data;
        w->sums[w->n].copy = copy;
        w->sums[w->n++].bytes = bytes;
        w->handed++;
        w->early += w->ctx->tape != NULL;
    }
    const mrc_status s = w->inner->reduce(w->inner, be, b, data, sum, first, members);
    snprintf(c->error, sizeof c->error, "%s", w->inner->error);
    return s;
}
static mrc_status watch_wait(mrc_comm *c) {
    watch *w = c->self;
    if (w->n) w->rounds++;
    for (; w->n > 0; w->n--) {
        w->changed += memcmp(w->sums[w->n - 1].data, w->sums[w->n - 1].copy,
                             w->sums[w->n - 1].bytes) != 0;
        free(w->sums[w->n - 1].copy);
    }
    return w->inner->wait(w->inner);
}
// All else has nothing to do with sums.
static mrc_status watch_gather(mrc_comm *c, mrc_backend *be, const mrc_comm_slices *b,
                               const void *slice, void *data) {
    mrc_comm *inner = ((watch *)c->self)->inner;
    const mrc_status s = inner->gather(inner, be, b, slice, data);
    snprintf(c->error, sizeof c->error, "%s", inner->error);
    return s;
}
static mrc_status watch_exchange(mrc_comm *c, const void *mine, void *all, size_t bytes) {
    mrc_comm *inner = ((watch *)c->self)->inner;
    const mrc_status s = inner->exchange(inner, mine, all, bytes);
    snprintf(c->error, sizeof c->error, "%s", inner->error);
    return s;
}
static mrc_status watch_broadcast(mrc_comm *c, void *data, size_t bytes, int root) {
    mrc_comm *inner = ((watch *)c->self)->inner;
    const mrc_status s = inner->broadcast(inner, data, bytes, root);
    snprintf(c->error, sizeof c->error, "%s", inner->error);
    return s;
}
static void watch_begin(watch *w, mrc_comm *inner) {
    *w = (watch){ .base = *inner, .inner = inner };
    w->base.self = w;
    w->base.reduce = watch_reduce;
    w->base.gather = watch_gather;
    w->base.wait = watch_wait;
    w->base.exchange = watch_exchange;
    w->base.broadcast = watch_broadcast;
}

typedef struct outcome {
    uint32_t   crc;                     // of weights and averages
    uint32_t   file;                    // of a checkpoint's moments
    size_t     kept;                    // elements of the first moment
    double     loss[STEPS], norm[STEPS];
    mrc_status status;
    char       message[512];
} outcome;

typedef struct rank_run {
    const variant *v;
    mrc_comm   *comm;                   // NULL: alone
    thread_comm *all;
    int         sharded, flip;
    int         fail;                   // 1: a feature of this rank's is ill-formed; 2: it leaves
    int         flag, flagged;
    uint32_t    first, last;            // steps; first > 0: from the checkpoint that is there
    watch       watch;
    outcome     out;
} rank_run;

static uint32_t next(uint32_t *x) { return *x = *x * 1664525u + 1013904223u, *x >> 8; }

static void features_of(mrc_feature *list, const mrc_feature **refs, int32_t ids[][LENGTH],
                        uint32_t seed) {
    for (int i = 0; i < FEATURES; i++) {
        const int32_t n = 6 + (int32_t)(next(&seed) % (LENGTH - 6));
        list[i] = (mrc_feature){ .input_ids = ids[i], .length = n, .real_len = n, .loss_end = n,
                                 .start_position = (int32_t)next(&seed) % n,
                                 .end_position = i % 3 ? (int32_t)next(&seed) % n : -1 };
        for (int k = 0; k < LENGTH; k++) ids[i][k] = 5 + (int32_t)next(&seed) % 20;
        refs[i] = &list[i];
    }
}

static mrc_model_config config_of(const variant *v) {
    mrc_model_config c = v->type ? mrc_model_config_family(v->type) : mrc_model_config_default();
    c.vocab_size = WORDS;               // its table spans several chunks of a norm
    c.hidden_size = 16;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.intermediate_size = 24;
    c.max_position_embeddings = 40;
    c.type_vocab_size = 1;
    c.head_hidden_size = 8;
    c.head = v->bilstm ? MRC_HEAD_BILSTM : MRC_HEAD_LINEAR;
    if (v->type == MRC_MODEL_ALBERT) c.embedding_size = 8;
    if (v->type == MRC_MODEL_DEBERTA_V2) {
        c.relative_attention = c.share_att_key = 1;
        c.pos_att_type = MRC_C2P | MRC_P2C;
    }
    return c;
}

static uint32_t crc_of(mrc_backend *be, const mrc_params *params, uint32_t crc) {
    for (size_t i = 0; mrc_params_at(params, i); i++) {
        const mrc_tensor *t = mrc_params_at(params, i);
        float *host = malloc((t->numel + 1) * sizeof *host);
        be->download(be, host, t->data, t->numel * sizeof *host);
        crc = mrc_crc32c(crc, host, t->numel * sizeof *host);
        free(host);
    }
    return crc;
}

static mrc_status begin(mrc_ctx *ctx, const rank_run *r, mrc_model **m, mrc_optimizer **o) {
    const mrc_model_config c = config_of(r->v);
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    char path[128];
    oc.ema_decay = 0.9;
    oc.sharded = r->sharded;
    oc.loss_scale = 4;
    snprintf(path, sizeof path, "%s/checkpoint-%u", folder, (unsigned)r->first);
    mrc_status s = r->first ? mrc_model_load(ctx, m, &(mrc_model_load_desc){ .path = path })
                            : mrc_model_new(ctx, m, &c, MRC_DTYPE_F32, 3);
    if (s == MRC_OK) s = mrc_optimizer_new(ctx, o, (*m)->params, &oc);
    if (s != MRC_OK || !r->first) return s;
    snprintf(path, sizeof path, "%s/checkpoint-%u/optimizer.safetensors", folder,
             (unsigned)r->first);
    return mrc_optimizer_load(ctx, *o, path);
}

// What there is at the end: weights, averages (they change places with them), a checkpoint.
static mrc_status look(mrc_ctx *ctx, mrc_backend *be, rank_run *r, const mrc_model *m,
                       mrc_optimizer *o) {
    char path[128];
    uint64_t bytes;
    r->out.crc = crc_of(be, m->params, 0);
    for (size_t i = 0; mrc_params_at(o->exp_avg, i); i++) {
        r->out.kept += mrc_params_at(o->exp_avg, i)->numel;
    }
    mrc_status s = mrc_comm_check(ctx, m->params);
    if (s == MRC_OK) s = mrc_optimizer_swap(ctx, o);
    r->out.crc = crc_of(be, m->params, r->out.crc);
    if (s == MRC_OK) s = mrc_optimizer_swap(ctx, o);
    if (s == MRC_OK) s = mrc_comm_check(ctx, m->params);
    if (s != MRC_OK || (r->comm && r->comm->rank && !r->sharded)) return s;
    s = mrc_checkpoint_save(ctx, folder, r->last, m, NULL, o, "{}");
    if (s == MRC_OK && r->comm) s = r->comm->rank ? MRC_OK : s;
    if (s != MRC_OK || (r->comm && r->comm->rank)) return s;
    snprintf(path, sizeof path, "%s/checkpoint-%u/optimizer.safetensors", folder,
             (unsigned)r->last);
    return mrc_file_crc32c(ctx, path, &r->out.file, &bytes);
}

static void steps(mrc_ctx *ctx, mrc_backend *be, rank_run *r) {
    mrc_model *m = NULL;
    mrc_optimizer *o = NULL;
    mrc_feature list[FEATURES];
    const mrc_feature *refs[FEATURES];
    int32_t ids[FEATURES][LENGTH];
    if (!r->last) r->last = STEPS;
    mrc_status s = begin(ctx, r, &m, &o);
    for (uint32_t step = r->first; s == MRC_OK && step < r->last; step++) {
        features_of(list, refs, ids, step * 977 + 1);
        mrc_step_desc desc = { .features = refs, .n = r->v->n, .micro_batch = MICRO, .lr = 1e-3,
                               .random = { .seed = 5, .step = step },
                               .forward = mrc_forward_config_default(),
                               .objective = r->v->objective, .flag = r->flag && step == 1 };
        mrc_step_result result;
        desc.forward.dropout = 1;
        desc.forward.gradient_checkpointing = r->v->checkpoints;
        if (r->v->skips && step == 1) desc.max_loss = 1e-6;
        if (r->fail == 1 && step == 2) list[2].input_ids[0] = WORDS;
        if (r->fail == 2 && step == 2) {
            threads_leave(r->all);
            break;
        }
        s = mrc_train_step(ctx, m, o, &desc, &result);
        r->out.loss[step] = result.loss;
        r->out.norm[step] = result.grad_norm;
        if (result.flag) r->flagged |= 1 << step;
    }
    if (s == MRC_OK && r->fail != 2) s = look(ctx, be, r, m, o);
    r->out.status = s;
    snprintf(r->out.message, sizeof r->out.message, "%.511s", mrc_ctx_message(ctx));
    mrc_optimizer_free(o);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
}

static void *run_rank(void *user) {
    rank_run *r = user;
    mrc_backend *be = NULL;
    mrc_ctx *ctx = NULL;
    // other numbers of threads on other ranks
    mrc_backend_desc desc = { .threads = r->comm ? 1 + (size_t)r->comm->rank % 2 : 2 };
    if ((r->v->naive ? mrc_backend_naive_new(&be, &desc) : mrc_backend_cpu_new(&be, &desc))
        != MRC_OK) return NULL;
    if (r->comm) watch_begin(&r->watch, r->comm);
    if (mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .comm = r->comm ? &r->watch.base : NULL })
        == MRC_OK) {
        r->watch.ctx = ctx;
        steps(ctx, be, r);
    }
    mrc_backend_free(be);
    return NULL;
}

// Embeddings, two layers or the one of both, head: of each micro-batch all buckets are handed over,
// and only that of the embeddings when backward is through.
static void test_early(const rank_run *r, int k, int n) {
    const watch *w = &r->watch;
    const size_t buckets = r->v->type == MRC_MODEL_ALBERT ? 3 : 4;
    CHECK(w->changed == 0, "%s, rank %d of %d: %zu buckets are written after they were handed over",
          r->v->name, k, n, w->changed);
    CHECK(w->handed == w->rounds * buckets, "%s, rank %d of %d: %zu buckets in %zu rounds "
          "(expected %zu each)", r->v->name, k, n, w->handed, w->rounds, buckets);
    CHECK(w->early == w->rounds * (buckets - 1), "%s, rank %d of %d: %zu of %zu buckets are handed "
          "over while backward goes on, in %zu rounds", r->v->name, k, n, w->early, w->handed,
          w->rounds);
    CHECK(r->v->n < MICRO * (size_t)(k + 1) - 1 || w->rounds > 0, "rank %d hands nothing over", k);
}

static void run_ranks(rank_run *runs, thread_comm *all, const variant *v, int n) {
    pthread_t threads[MAX_RANKS];
    threads_init(all, n);
    all->flip = runs[0].flip;
    for (int k = 0; k < n; k++) {
        runs[k].v = v;
        runs[k].all = all;
        runs[k].comm = &all->ranks[k].base;
        CHECK(pthread_create(&threads[k], NULL, run_rank, &runs[k]) == 0, "thread %d", k);
    }
    for (int k = 0; k < n; k++) pthread_join(threads[k], NULL);
    threads_free(all);
}

static void same_as(const outcome *o, const outcome *alone, const char *name, int sharded, int k,
                    int n) {
    CHECK(o->status == MRC_OK, "%s, rank %d of %d: %s", name, k, n, o->message);
    CHECK(o->crc == alone->crc, "%s, sharded %d, rank %d of %d: weights and averages %08x, alone "
          "%08x", name, sharded, k, n, (unsigned)o->crc, (unsigned)alone->crc);
    CHECK(k > 0 || o->file == alone->file, "%s, sharded %d, %d ranks: the file of moments is "
          "another", name, sharded, n);
    CHECK(!memcmp(o->loss, alone->loss, sizeof o->loss)
          && !memcmp(o->norm, alone->norm, sizeof o->norm),
          "%s, sharded %d, rank %d of %d: other losses or norms", name, sharded, k, n);
}

// A quarter of the moments on each of four ranks, or nearly.
static void test_shares(const rank_run *runs, int n, size_t whole, int sharded) {
    size_t sum = 0;
    for (int k = 0; k < n; k++) {
        const size_t kept = runs[k].out.kept;
        sum += kept;
        CHECK(sharded && n > 1 ? kept < whole / (size_t)n + 9000 : kept == whole, "rank %d of %d "
              "keeps %zu of %zu", k, n, kept, whole);
    }
    // one element stands for a parameter that is all other ranks'
    CHECK(!sharded || n == 1 || (sum >= whole && sum < whole + 100 * (size_t)n), "%d ranks keep "
          "%zu of %zu", n, sum, whole);
}

static int is_config(const char *part) {
    const char *config = getenv("MRC_TEST_CONFIG");
    return config && strstr(config, part) != NULL;
}

static void test_bits(const variant *v) {
    static const int numbers[] = { 1, 2, 3, 4, 8 };
    rank_run alone = { .v = v };
    thread_comm all;
    const int slow = is_config("tsan");  // a hundred times
    if (slow && (v->bilstm || v->naive)) return;
    run_rank(&alone);
    CHECK(alone.out.status == MRC_OK, "%s: %s", v->name, alone.out.message);
    for (size_t i = 0; i < 2 * sizeof numbers / sizeof *numbers; i++) {
        const int n = numbers[i / 2], sharded = (int)(i % 2);
        if ((slow || is_config("asan")) && n != 2 && n != 3) continue;
        rank_run runs[MAX_RANKS] = { { .v = v } };
        for (int k = 0; k < n; k++) runs[k].sharded = sharded;
        run_ranks(runs, &all, v, n);
        for (int k = 0; k < n; k++) {
            same_as(&runs[k].out, &alone.out, v->name, sharded, k, n);
            test_early(&runs[k], k, n);
        }
        test_shares(runs, n, alone.out.kept, sharded);
    }
}

// Two steps on some ranks, two on others, moments shared out in one of the two or in both.
static void test_resume(void) {
    static const struct { int n[2], sharded[2]; } plans[] = {
        { { 3, 2 }, { 1, 0 } }, { { 2, 4 }, { 0, 1 } }, { { 2, 3 }, { 1, 1 } },
        { { 4, 1 }, { 1, 1 } } };
    thread_comm all;
    rank_run alone = { .v = &variants[0] };
    run_rank(&alone);
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        for (int part = 0; part < 2; part++) {
            const int n = plans[i].n[part];
            rank_run runs[MAX_RANKS] = { { .v = NULL } };
            for (int k = 0; k < n; k++) {
                runs[k].sharded = plans[i].sharded[part];
                runs[k].first = part ? 2 : 0;
                runs[k].last = part ? 4 : 2;
            }
            run_ranks(runs, &all, &variants[0], n);
            for (int k = 0; k < n; k++) {
                CHECK(runs[k].out.status == MRC_OK, "%d ranks go on: %s", n, runs[k].out.message);
                if (!part) continue;
                memcpy(runs[k].out.loss, alone.out.loss, 2 * sizeof *alone.out.loss);
                memcpy(runs[k].out.norm, alone.out.norm, 2 * sizeof *alone.out.norm);
                same_as(&runs[k].out, &alone.out, "resumed", runs[k].sharded, k, n);
            }
        }
    }
}

static void test_one_for_all(void) {
    thread_comm all;
    rank_run runs[MAX_RANKS] = { [1] = { .flag = 1 } };
    run_ranks(runs, &all, &variants[0], 3);
    for (int k = 0; k < 3; k++) {
        CHECK(runs[k].flagged == 1 << 1, "rank %d: flags of steps %d", k, runs[k].flagged);
    }
    rank_run bad[MAX_RANKS] = { [1] = { .fail = 1 } };
    run_ranks(bad, &all, &variants[0], 3);
    for (int k = 0; k < 3; k++) {
        CHECK(bad[k].out.status != MRC_OK, "rank %d goes on alone", k);
        CHECK(k == 1 || strstr(bad[k].out.message, "rank 1 (here): "), "rank %d says: %s", k,
              bad[k].out.message);
    }
    for (int sharded = 0; sharded < 2; sharded++) {     // what the guard is for
        rank_run flipped[MAX_RANKS] = { { .flip = 1 } };
        for (int k = 0; k < 3; k++) flipped[k].sharded = sharded, flipped[k].last = 1;
        run_ranks(flipped, &all, &variants[0], 3);
        for (int k = 0; k < 3; k++) {
            CHECK(flipped[k].out.status == MRC_ERR_NUMERIC && strstr(flipped[k].out.message,
                  "checksum of rank 1 (here) is "), "a bit that flips, sharded %d, rank %d: %d, %s",
                  sharded, k, (int)flipped[k].out.status, flipped[k].out.message);
        }
    }
    rank_run gone[MAX_RANKS] = { [2] = { .fail = 2 } };
    run_ranks(gone, &all, &variants[0], 3);
    for (int k = 0; k < 2; k++) {
        CHECK(gone[k].out.status == MRC_ERR_IO && strstr(gone[k].out.message, "a rank is gone"),
              "rank %d: %s", k, gone[k].out.message);
    }
}

// Each rank compares what it was started with; a bit that differs is found, and whose it is said.
typedef struct compared { mrc_comm *comm; const char *text; mrc_status status; char message[512]; }
    compared;
static void *compare(void *user) {
    compared *c = user;
    mrc_ctx *ctx = NULL;
    if (mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .comm = c->comm }) != MRC_OK) return NULL;
    c->status = mrc_comm_same(ctx, "the build", c->text);
    snprintf(c->message, sizeof c->message, "%.511s", mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    return NULL;
}
static void test_same(void) {
    thread_comm all;
    pthread_t threads[2];
    compared two[2] = { { .text = "a1" }, { .text = "b2" } };
    threads_init(&all, 2);
    for (int k = 0; k < 2; k++) {
        two[k].comm = &all.ranks[k].base;
        CHECK(pthread_create(&threads[k], NULL, compare, &two[k]) == 0, "thread");
    }
    for (int k = 0; k < 2; k++) pthread_join(threads[k], NULL);
    for (int k = 0; k < 2; k++) {
        CHECK(two[k].status == MRC_ERR_ARG && !strcmp(two[k].message, "the build of rank 1 (here) "
              "is b2 (expected rank 0's, on here: a1)"), "%s", two[k].message);
    }
    threads_free(&all);
}


// Predictions: all ranks are given what one would be, in its order.
typedef struct prediction {
    mrc_comm   *comm;
    int         by_length, fail;        // 1: fn, 2: progress, 3: a feature of this rank's
    mrc_status  status;
    uint32_t    crc;
    size_t      calls;
    char        message[512];
} prediction;
static mrc_status take(mrc_ctx *ctx, void *user, const mrc_feature *f, const float *start,
                       const float *end) {
    prediction *p = user;
    (void)ctx;
    const size_t bytes = (size_t)f->length * sizeof *start;
    p->crc = mrc_crc32c(mrc_crc32c(mrc_crc32c(p->crc, &f->example_index, sizeof f->example_index),
                                   start, bytes), end, bytes);
    return p->fail == 1 && ++p->calls == 3 ? MRC_ERR_IO : MRC_OK;
}
static mrc_status stop_now(void *user, size_t done, size_t total) {
    const prediction *p = user;
    if (done > total) return MRC_ERR_NUMERIC;
    return p->fail == 2 ? MRC_ERR_INTERRUPTED : MRC_OK;
}
static void *predict(void *user) {
    prediction *p = user;
    mrc_backend *be = NULL;
    mrc_ctx *ctx = NULL;
    mrc_model *m = NULL;
    mrc_feature list[FEATURES];
    const mrc_feature *refs[FEATURES];
    int32_t ids[FEATURES][LENGTH];
    const mrc_model_config c = config_of(&variants[0]);
    const mrc_features features = { .list = list, .n = FEATURES };
    features_of(list, refs, ids, 3);
    for (int i = 0; i < FEATURES; i++) list[i].example_index = i;
    if (p->fail == 3) list[2].input_ids[0] = WORDS;
    p->status = mrc_backend_cpu_new(&be, &(mrc_backend_desc){ .threads = 1 });
    if (p->status == MRC_OK) {
        p->status = mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .comm = p->comm });
    }
    if (p->status == MRC_OK) p->status = mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 3);
    const mrc_predict_desc desc = { .features = &features, .batch_size = 2,
                                    .by_length = p->by_length, .dropout = 1, .random = { 5, 1, 1 },
                                    .fn = take, .user = p, .progress = stop_now };
    if (p->status == MRC_OK) p->status = mrc_predict(ctx, m, &desc);
    snprintf(p->message, sizeof p->message, "%.511s", ctx ? mrc_ctx_message(ctx) : "");
    mrc_ctx_free(ctx);
    mrc_model_free(m);
    mrc_backend_free(be);
    return NULL;
}
static void predict_on(prediction *list, int n) {
    pthread_t threads[MAX_RANKS];
    thread_comm all;
    threads_init(&all, n);
    for (int k = 0; k < n; k++) {
        list[k].comm = &all.ranks[k].base;
        CHECK(pthread_create(&threads[k], NULL, predict, &list[k]) == 0, "thread %d", k);
    }
    for (int k = 0; k < n; k++) pthread_join(threads[k], NULL);
    threads_free(&all);
}
static void test_predictions(void) {
    static const mrc_status expected[] = { MRC_OK, MRC_ERR_IO, MRC_ERR_INTERRUPTED,
                                           MRC_ERR_SHAPE };
    for (int by_length = 0; by_length < 2; by_length++) {
        prediction alone = { .by_length = by_length };
        predict(&alone);
        CHECK(alone.status == MRC_OK && alone.crc, "alone: %s", alone.message);
        for (int n = 1; n <= 4; n++) {
            prediction list[MAX_RANKS] = { { .by_length = by_length } };
            for (int k = 0; k < n; k++) list[k].by_length = by_length;
            predict_on(list, n);
            for (int k = 0; k < n; k++) {
                CHECK(list[k].status == MRC_OK && list[k].crc == alone.crc, "rank %d of %d: other "
                      "predictions (%s)", k, n, list[k].message);
            }
        }
    }
    for (int fail = 1; fail <= 3; fail++) {
        prediction list[MAX_RANKS] = { [1] = { .fail = fail } };
        predict_on(list, 3);
        for (int k = 0; k < 3; k++) {
            CHECK(list[k].status == expected[fail], "fault %d, rank %d: status %d (%s)", fail, k,
                  (int)list[k].status, list[k].message);
            CHECK(k == 1 || strstr(list[k].message, "rank 1 (here): "), "fault %d, rank %d says: "
                  "%s", fail, k, list[k].message);
        }
    }
}

// What cannot be shared out, or saved, is refused on all ranks.
typedef struct refusal { mrc_comm *comm; mrc_status made, stepped, saved; char message[512]; }
    refusal;
static void *refuse(void *user) {
    refusal *r = user;
    mrc_backend *be = NULL;
    mrc_ctx *ctx = NULL;
    mrc_model *m = NULL;
    mrc_optimizer *o = NULL;
    const mrc_model_config c = config_of(&variants[0]);
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    mrc_backend_cpu_new(&be, &(mrc_backend_desc){ .threads = 1 });
    mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .comm = r->comm });
    mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 3);
    oc.sharded = 1;
    oc.variant = MRC_ADAMP;
    r->made = mrc_optimizer_new(ctx, &o, m->params, &oc);
    mrc_optimizer_free(o);
    mrc_ctx_clear_error(ctx);
    oc.variant = MRC_ADAMW_TORCH;
    o = NULL;
    r->stepped = mrc_optimizer_new(ctx, &o, m->params, &oc);
    if (r->stepped == MRC_OK) r->stepped = mrc_optimizer_step(ctx, o, 1e-3);
    mrc_ctx_clear_error(ctx);
    r->saved = mrc_checkpoint_save(ctx, "/dev/null/here", 1, m, NULL, o, "{}");
    snprintf(r->message, sizeof r->message, "%.511s", mrc_ctx_message(ctx));
    mrc_optimizer_free(o);
    mrc_ctx_free(ctx);
    mrc_model_free(m);
    mrc_backend_free(be);
    return NULL;
}
static void test_refusals(void) {
    thread_comm all;
    pthread_t threads[2];
    refusal two[2] = { { .comm = NULL } };
    threads_init(&all, 2);
    for (int k = 0; k < 2; k++) {
        two[k].comm = &all.ranks[k].base;
        CHECK(pthread_create(&threads[k], NULL, refuse, &two[k]) == 0, "thread");
    }
    for (int k = 0; k < 2; k++) pthread_join(threads[k], NULL);
    for (int k = 0; k < 2; k++) {
        CHECK(two[k].made == MRC_ERR_ARG, "AdamP is shared out");
        CHECK(two[k].stepped == MRC_ERR_ARG, "a step without a sum");
        CHECK(two[k].saved == MRC_ERR_IO && (k == 0 || strstr(two[k].message, "rank 0 (here): ")),
              "rank %d: a save that fails: %d, %s", k, (int)two[k].saved, two[k].message);
    }
    threads_free(&all);
}

int main(void) {
    snprintf(folder, sizeof folder, "/tmp/mrc_ranks_%ld", (long)getpid());
    mkdir(folder, 0700);
    test_resume();
    test_predictions();
    test_refusals();
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) test_bits(&variants[i]);
    test_one_for_all();
    test_same();
    mrc_ctx *ctx = NULL;
    if (mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .comm = NULL }) == MRC_OK) mrc_dir_remove(ctx, folder);
    mrc_ctx_free(ctx);
    return test_end();
}
