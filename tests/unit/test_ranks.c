// Training on several ranks: weights, moments, losses and norms are the bits of one rank, whatever
// the number of ranks, with dropout, R-Drop, FGM and step sizes that the ranks do not divide; one
// rank's errors and flags are everyone's.  The ranks are threads of this process.
// tags: threads
#include "../support/comm_threads.h"

enum { STEPS = 4, FEATURES = 7, LENGTH = 12, MICRO = 2 };

typedef struct variant {
    const char   *name;
    int           bilstm, naive;
    mrc_objective objective;
    size_t        n;                    // features of a step
} variant;
static const variant variants[] = {
    { "linear", 0, 0, { .rdrop_alpha = 0 }, 7 },
    { "one micro-batch", 0, 0, { .rdrop_alpha = 0 }, 2 },
    { "BiLSTM", 1, 0, { .rdrop_alpha = 0 }, 7 },
    { "naive", 0, 1, { .rdrop_alpha = 0 }, 5 },
    { "R-Drop", 0, 0, { .rdrop_alpha = 1 }, 7 },
    { "FGM", 0, 0, { .fgm_epsilon = 0.5 }, 7 },
};

typedef struct outcome {
    uint32_t   crc;                     // of weights and moments
    double     loss[STEPS], norm[STEPS];
    mrc_status status;
    char       message[512];
} outcome;

typedef struct rank_run {
    const variant *v;
    mrc_comm   *comm;                   // NULL: alone
    thread_comm *all;
    int         fail;                   // 1: a feature of this rank's is ill-formed; 2: it leaves
    int         flag, flagged;
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
    mrc_model_config c = mrc_model_config_default();
    c.vocab_size = 32;
    c.hidden_size = 16;
    c.num_hidden_layers = 2;
    c.num_attention_heads = 2;
    c.intermediate_size = 24;
    c.max_position_embeddings = 40;
    c.head = v->bilstm ? MRC_HEAD_BILSTM : MRC_HEAD_LINEAR;
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

static void steps(mrc_ctx *ctx, mrc_backend *be, rank_run *r) {
    mrc_model *m = NULL;
    mrc_optimizer *o = NULL;
    mrc_model_config c = config_of(r->v);
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    mrc_feature list[FEATURES];
    const mrc_feature *refs[FEATURES];
    int32_t ids[FEATURES][LENGTH];
    mrc_status s = mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 3);
    oc.ema_decay = 0.9;
    if (s == MRC_OK) s = mrc_optimizer_new(ctx, &o, m->params, &oc);
    for (uint32_t step = 0; s == MRC_OK && step < STEPS; step++) {
        features_of(list, refs, ids, step * 977 + 1);
        mrc_step_desc desc = { .features = refs, .n = r->v->n, .micro_batch = MICRO, .lr = 1e-3,
                               .random = { .seed = 5, .step = step },
                               .forward = mrc_forward_config_default(),
                               .objective = r->v->objective, .flag = r->flag && step == 1 };
        mrc_step_result result;
        desc.forward.dropout = 1;
        if (r->fail == 1 && step == 2) list[2].input_ids[0] = 99;
        if (r->fail == 2 && step == 2) {
            threads_leave(r->all);
            break;
        }
        s = mrc_train_step(ctx, m, o, &desc, &result);
        r->out.loss[step] = result.loss;
        r->out.norm[step] = result.grad_norm;
        if (result.flag) r->flagged |= 1 << step;
    }
    if (s == MRC_OK && r->fail != 2) s = mrc_comm_check(ctx, m->params);
    r->out.status = s;
    snprintf(r->out.message, sizeof r->out.message, "%.511s", mrc_ctx_message(ctx));
    if (s == MRC_OK) {
        r->out.crc = crc_of(be, m->params, 0);
        r->out.crc = crc_of(be, o->exp_avg, r->out.crc);
        r->out.crc = crc_of(be, o->exp_avg_sq, r->out.crc);
        r->out.crc = crc_of(be, o->ema, r->out.crc);
    }
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
    if (mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .comm = r->comm }) == MRC_OK) {
        steps(ctx, be, r);
    }
    mrc_backend_free(be);
    return NULL;
}

static void run_ranks(rank_run *runs, thread_comm *all, const variant *v, int n) {
    pthread_t threads[MAX_RANKS];
    threads_init(all, n);
    for (int k = 0; k < n; k++) {
        runs[k].v = v;
        runs[k].all = all;
        runs[k].comm = &all->ranks[k].base;
        CHECK(pthread_create(&threads[k], NULL, run_rank, &runs[k]) == 0, "thread %d", k);
    }
    for (int k = 0; k < n; k++) pthread_join(threads[k], NULL);
    threads_free(all);
}

static void test_bits(const variant *v) {
    static const int numbers[] = { 1, 2, 3, 4, 8 };
    const char *config = getenv("MRC_TEST_CONFIG");
    const int tsan = config && strstr(config, "tsan") != NULL;      // a hundred times slower
    rank_run alone = { .v = v };
    thread_comm all;
    if (tsan && (v->bilstm || v->naive)) return;
    run_rank(&alone);
    CHECK(alone.out.status == MRC_OK, "%s: %s", v->name, alone.out.message);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        if (tsan && numbers[i] != 2 && numbers[i] != 3) continue;
        rank_run runs[MAX_RANKS] = { { .v = v } };
        run_ranks(runs, &all, v, numbers[i]);
        for (int k = 0; k < numbers[i]; k++) {
            const outcome *o = &runs[k].out;
            CHECK(o->status == MRC_OK, "%s, rank %d of %d: %s", v->name, k, numbers[i], o->message);
            CHECK(o->crc == alone.out.crc, "%s, rank %d of %d: weights and moments %08x, alone "
                  "%08x", v->name, k, numbers[i], (unsigned)o->crc, (unsigned)alone.out.crc);
            CHECK(!memcmp(o->loss, alone.out.loss, sizeof o->loss)
                  && !memcmp(o->norm, alone.out.norm, sizeof o->norm),
                  "%s, rank %d of %d: other losses or norms", v->name, k, numbers[i]);
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

int main(void) {
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) test_bits(&variants[i]);
    test_one_for_all();
    test_same();
    return test_end();
}
