// Training on several devices by backends/nccl.h, on the shims of CUDA and NCCL: the bits of one
// process for 1 to 4 ranks, replicated and sharded, pieces that do not divide the slices; what a
// deadline, an error of NCCL's and two ranks on one device say.  Ranks are processes.
#include "../support/comm_forks.h"
#include "../cuda/nccl_shim.h"
#include "../../backends/nccl.h"
#include <sys/stat.h>

//==============================================================================
// Sums and gathers of vectors
//==============================================================================
enum { LONG = 5000 };
typedef struct vectors {
    int    ranks, members, first;
    size_t piece;
    const char *fault;
    int    fault_rank;
    unsigned fault_group;
    double timeout;
    int    device[FORK_RANKS];
    struct { mrc_status made, reduced, again; char text[256]; unsigned groups; } out[FORK_RANKS];
} vectors;

// Of many sizes, so that another order of adding has other bits.
static float value_of(int rank, size_t i) {
    const uint32_t h = (uint32_t)(i * 2654435761u + (uint32_t)rank * 40503u) ^ 0x9e3779b9u;
    return ldexpf((float)(h >> 8) - 8e6f, (int)(h & 15) - 8);
}

static mrc_status vectors_run(mrc_comm *c, mrc_backend *be, const vectors *v) {
    const int rank = c->rank;
    size_t begin[FORK_RANKS + 1];
    for (int r = 0; r <= c->n_ranks; r++) {     // rank 1's is empty where there are three
        begin[r] = LONG * (size_t)(c->n_ranks == 3 && r == 2 ? 1 : r) / (size_t)c->n_ranks;
    }
    const mrc_comm_slices b = { MRC_DTYPE_F32, begin };
    const size_t here = begin[rank + 1] - begin[rank];
    float *host = malloc(LONG * sizeof *host);
    float *data = be->alloc(be, LONG * sizeof *data), *sum = be->alloc(be, LONG * sizeof *sum);
    for (size_t i = 0; i < LONG; i++) host[i] = value_of(rank, i);
    be->upload(be, data, host, LONG * sizeof *host);
    for (size_t i = 0; i < here; i++) host[i] = -0.0f;
    be->upload(be, sum, host, LONG * sizeof *host);
    mrc_status s = c->reduce(c, be, &b, data, sum, v->first, v->members);
    if (s == MRC_OK) s = c->wait(c);
    if (s == MRC_OK) s = c->gather(c, be, &b, sum, data);
    if (s == MRC_OK) s = be->download(be, host, data, LONG * sizeof *host);
    size_t wrong = 0;
    for (size_t i = 0; s == MRC_OK && i < LONG; i++) {
        float want = v->first ? value_of(0, i) : -0.0f + value_of(0, i);
        for (int r = 1; r < v->members; r++) want = want + value_of(r, i);
        wrong += memcmp(&want, &host[i], sizeof want) != 0;
    }
    CHECK(!wrong, "rank %d of %d, members %d, pieces of %zu: %zu of %d sums differ", rank,
          c->n_ranks, v->members, v->piece, wrong, (int)LONG);
    be->free(be, data);
    be->free(be, sum);
    free(host);
    return s;
}

static void vectors_rank(mrc_comm *host, void *user) {
    vectors *v = user;
    mrc_backend *be = NULL;
    mrc_comm *c = NULL;
    nccl_shim.fault.kind = v->fault;
    nccl_shim.fault.rank = v->fault_rank;
    nccl_shim.fault.group = v->fault_group;
    const int device = v->device[host->rank];
    if (!CHECK(mrc_backend_cuda_new(&be, &(mrc_cuda_desc){ .device = device }) == MRC_OK,
               "device %d", device)) return;
    const mrc_nccl_desc desc = { .timeout = v->timeout, .piece = v->piece };
    mrc_status s = v->out[host->rank].made = mrc_comm_nccl_new(&c, host, be, &desc);
    const char *text = host->error;
    if (s == MRC_OK) {
        s = v->out[host->rank].reduced = vectors_run(c, be, v);
        text = c->error;
        v->out[host->rank].groups = nccl_shim.groups;
    }
    snprintf(v->out[host->rank].text, sizeof v->out[0].text, "%s", text);
    if (c && s != MRC_OK) v->out[host->rank].again = vectors_run(c, be, v);
    mrc_comm_free(c);
    CHECK(!nccl_shim.comm, "rank %d leaves a communicator", host->rank);
    mrc_backend_free(be);
}

static void vectors_all(vectors *v) {
    for (int r = 0; r < FORK_RANKS; r++) {
        v->out[r].made = v->out[r].reduced = v->out[r].again = MRC_ERR_NUMERIC;
    }
    const int well = forks_run(v->ranks, vectors_rank, v);
    CHECK(well == v->ranks, "%d of %d ranks failed", v->ranks - well, v->ranks);
}

static void on_own_devices(vectors *v) {
    for (int r = 0; r < FORK_RANKS; r++) v->device[r] = r;
}

static void test_sums(vectors *v) {
    static const size_t pieces[] = { 0, 64, 4096, 1 << 17 };
    for (int n = 1; n <= FORK_RANKS; n++) {
        for (int k = 0; k < 8; k++) {
            *v = (vectors){ .ranks = n, .members = k % 2 ? n : (n + 1) / 2, .first = k / 4,
                            .piece = pieces[(k + n) % 4], .timeout = 30 };
            on_own_devices(v);
            vectors_all(v);
            for (int r = 0; r < n; r++) {
                CHECK(v->out[r].made == MRC_OK && v->out[r].reduced == MRC_OK,
                      "rank %d of %d: %s", r, n, v->out[r].text);
            }
        }
    }
}

// What each rank says of a fault; NULL: nothing is wrong with it.
static void says(const vectors *v, int rank, const char *want) {
    CHECK(v->out[rank].reduced == MRC_ERR_IO && !strcmp(v->out[rank].text, want),
          "rank %d: status %d, says: %s (expected: %s)", rank, (int)v->out[rank].reduced,
          v->out[rank].text, want);
    CHECK(v->out[rank].again == MRC_ERR_IO, "rank %d goes on after an error: %d", rank,
          (int)v->out[rank].again);
}

static void test_faults(vectors *v) {
    const vectors three = { .ranks = 3, .members = 3, .first = 1, .piece = 4096, .timeout = 1 };
    *v = three;                         // the second piece of rank 1 does not come
    on_own_devices(v);
    v->fault = "stall", v->fault_rank = 1, v->fault_group = 1;
    vectors_all(v);
    says(v, 0, "NCCL: a sum over the ranks: nothing from one of rank 1 (here), rank 2 (here) for "
               "1 s");
    says(v, 2, "NCCL: a sum over the ranks: nothing from one of rank 0 (here), rank 1 (here) for "
               "1 s");
    *v = three;
    v->ranks = v->members = 2;
    on_own_devices(v);
    v->fault = "stall", v->fault_rank = 1, v->fault_group = 1;
    v->piece = 1 << 20;                 // one for the sum: the gather does not end
    vectors_all(v);
    says(v, 0, "NCCL: a gather of slices: nothing from rank 1 (here) for 1 s");
    *v = three;
    on_own_devices(v);
    v->fault = "error", v->fault_rank = 2;
    vectors_all(v);
    says(v, 2, "NCCL: a sum over the ranks: remote process exited or there was a network error: "
               "the other end hung up");
    says(v, 0, "NCCL: a sum over the ranks: nothing from one of rank 1 (here), rank 2 (here) for "
               "1 s");
    *v = three;
    on_own_devices(v);
    v->fault = "refuse", v->fault_rank = 0, v->fault_group = 1;
    vectors_all(v);
    says(v, 0, "NCCL: a sum over the ranks: internal error: no more channels");
}

static void test_beginnings(vectors *v) {
    *v = (vectors){ .ranks = 3, .members = 3, .timeout = 1, .device = { 0, 2, 0 } };
    vectors_all(v);
    for (int r = 0; r < 3; r++) {
        CHECK(v->out[r].made == MRC_ERR_ARG && !strcmp(v->out[r].text, "NCCL: ranks 0 and 2 are on "
              "one GPU (found 0000:00:00.0 on here, expected one for each: start fewer ranks "
              "there)"), "rank %d: %d, %s", r, (int)v->out[r].made, v->out[r].text);
    }
    // One rank has no memory for pieces: all say so.
    *v = (vectors){ .ranks = 2, .members = 2, .timeout = 1, .piece = SIZE_MAX };
    on_own_devices(v);
    vectors_all(v);
    for (int r = 0; r < 2; r++) {
        CHECK(v->out[r].made == MRC_ERR_MEM && strstr(v->out[r].text, "the device has no memory"),
              "rank %d: %d, %s", r, (int)v->out[r].made, v->out[r].text);
    }
}

//==============================================================================
// Training
//==============================================================================
enum { STEPS = 3, FEATURES = 7, LENGTH = 12, WORDS = 600 };
typedef struct training {
    int  alone, sharded;
    char folder[64];
    struct {
        mrc_status status;
        uint32_t crc, file;             // of the weights; of a checkpoint's moments
        double loss[STEPS], norm[STEPS];
        char text[256];
    } out[FORK_RANKS];
} training;

static mrc_model_config config_of(void) {
    mrc_model_config c = mrc_model_config_default();
    c.vocab_size = WORDS;
    c.hidden_size = 16;
    c.num_hidden_layers = 1;
    c.num_attention_heads = 2;
    c.intermediate_size = 24;
    c.max_position_embeddings = 40;
    c.type_vocab_size = 1;
    c.head = MRC_HEAD_LINEAR;
    return c;
}

static void features_of(mrc_feature *list, const mrc_feature **refs, int32_t ids[][LENGTH],
                        uint32_t seed) {
    for (int i = 0; i < FEATURES; i++) {
        const int32_t n = 6 + i % (LENGTH - 6);
        list[i] = (mrc_feature){ .input_ids = ids[i], .length = n, .real_len = n, .loss_end = n,
                                 .start_position = i % n, .end_position = n - 1 };
        for (int k = 0; k < LENGTH; k++) {
            seed = seed * 1664525u + 1013904223u;
            ids[i][k] = 5 + (int32_t)(seed >> 8) % (WORDS - 5);
        }
        refs[i] = &list[i];
    }
}

static mrc_status weights_crc(mrc_backend *be, const mrc_params *params, uint32_t *crc) {
    mrc_status s = MRC_OK;
    *crc = 0;
    for (size_t i = 0; s == MRC_OK && mrc_params_at(params, i); i++) {
        const mrc_tensor *t = mrc_params_at(params, i);
        float *host = malloc(t->numel * sizeof *host);
        s = be->download(be, host, t->data, t->numel * sizeof *host);
        *crc = mrc_crc32c(*crc, host, t->numel * sizeof *host);
        free(host);
    }
    return s;
}

static mrc_status train(mrc_ctx *ctx, mrc_backend *be, training *t, int rank) {
    mrc_model *m = NULL;
    mrc_optimizer *o = NULL;
    mrc_feature list[FEATURES];
    const mrc_feature *refs[FEATURES];
    int32_t ids[FEATURES][LENGTH];
    const mrc_model_config c = config_of();
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    char path[128];
    uint64_t bytes;
    oc.sharded = t->sharded;
    mrc_status s = mrc_model_new(ctx, &m, &c, MRC_DTYPE_F32, 3);
    if (s == MRC_OK) s = mrc_optimizer_new(ctx, &o, m->params, &oc);
    for (uint32_t step = 0; s == MRC_OK && step < STEPS; step++) {
        mrc_step_desc desc = { .features = refs, .n = FEATURES, .micro_batch = 2, .lr = 1e-3,
                               .random = { .seed = 5, .step = step },
                               .forward = mrc_forward_config_default() };
        mrc_step_result result;
        features_of(list, refs, ids, step * 977 + 1);
        desc.forward.dropout = 1;
        s = mrc_train_step(ctx, m, o, &desc, &result);
        t->out[rank].loss[step] = result.loss;
        t->out[rank].norm[step] = result.grad_norm;
    }
    if (s == MRC_OK) s = mrc_comm_check(ctx, m->params);
    if (s == MRC_OK) s = weights_crc(be, m->params, &t->out[rank].crc);
    if (s == MRC_OK && (rank == 0 || t->sharded)) {
        s = mrc_checkpoint_save(ctx, t->folder, STEPS, m, NULL, o, "{}");
    }
    snprintf(path, sizeof path, "%s/checkpoint-%d/optimizer.safetensors", t->folder, (int)STEPS);
    if (s == MRC_OK && rank == 0) s = mrc_file_crc32c(ctx, path, &t->out[0].file, &bytes);
    snprintf(t->out[rank].text, sizeof t->out[rank].text, "%.255s", mrc_ctx_message(ctx));
    mrc_optimizer_free(o);
    mrc_model_free(m);
    return s;
}

static void train_rank(mrc_comm *host, void *user) {
    training *t = user;
    mrc_backend *be = NULL;
    mrc_comm *c = NULL;
    mrc_ctx *ctx = NULL;
    const int rank = host->rank;
    const mrc_nccl_desc desc = { .timeout = 30, .piece = 4096 };
    CHECK(mrc_backend_cuda_new(&be, &(mrc_cuda_desc){ .device = rank }) == MRC_OK, "device");
    mrc_status s = t->alone ? MRC_OK : mrc_comm_nccl_new(&c, host, be, &desc);
    if (s == MRC_OK) s = mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be, .comm = c });
    if (s == MRC_OK) s = train(ctx, be, t, rank);
    t->out[rank].status = s;
    CHECK(t->alone || nccl_shim.messages > 0 || host->n_ranks == 1, "nothing went by NCCL");
    mrc_ctx_free(ctx);
    mrc_comm_free(c);
    mrc_backend_free(be);
}

static void training_run(training *t, int n, const char *folder) {
    memset(t->out, 0, sizeof t->out);
    snprintf(t->folder, sizeof t->folder, "%.63s", folder);
    const int well = forks_run(n, train_rank, t);
    CHECK(well == n, "%d of %d ranks failed", n - well, n);
}

static void test_training(const char *folder) {
    training *t = fork_memory(sizeof *t), alone;
    t->alone = 1;
    training_run(t, 1, folder);
    CHECK(t->out[0].status == MRC_OK, "alone: %s", t->out[0].text);
    alone = *t;
    t->alone = 0;
    for (int k = 0; k < 2 * FORK_RANKS; k++) {
        const int n = 1 + k / 2;
        t->sharded = k % 2;
        training_run(t, n, folder);
        for (int r = 0; r < n; r++) {
            CHECK(t->out[r].status == MRC_OK && t->out[r].crc == alone.out[0].crc, "rank %d of %d, "
                  "sharded %d: weights %08x, alone %08x; %s", r, n, t->sharded,
                  (unsigned)t->out[r].crc, (unsigned)alone.out[0].crc, t->out[r].text);
            CHECK(!memcmp(t->out[r].loss, alone.out[0].loss, sizeof alone.out[0].loss)
                  && !memcmp(t->out[r].norm, alone.out[0].norm, sizeof alone.out[0].norm),
                  "rank %d of %d, sharded %d: other losses or norms", r, n, t->sharded);
        }
        CHECK(t->out[0].file == alone.out[0].file, "%d ranks, sharded %d: other moments", n,
              t->sharded);
    }
    munmap(t, sizeof *t);
}

int main(void) {
    char folder[] = "/tmp/mrc-nccl-XXXXXX", command[128];
    setenv("MRC_SHIM_DEVICES", "4", 1);
    vectors *v = fork_memory(sizeof *v);
    test_sums(v);
    test_faults(v);
    test_beginnings(v);
    if (CHECK(mkdtemp(folder) != NULL, "mkdtemp")) {
        test_training(folder);
        snprintf(command, sizeof command, "rm -rf %s", folder);
        CHECK(system(command) == 0, "%s", command);
    }
    munmap(v, sizeof *v);
    return test_end();
}
