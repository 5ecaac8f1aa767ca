// Contract E in the library: what a checkpoint holds comes back to the bit, training goes on as if
// nothing had happened, and nothing damaged or half-written is ever taken.
// tags: threads
#define TEST_LINKED
#include "../support/test.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LENGTH = 11, FEATURES = 5 };

typedef struct run {
    mrc_ctx       *ctx;
    mrc_model     *m;
    mrc_optimizer *o;
} run;

static char dir[128];
static int32_t ids[FEATURES][LENGTH], types[FEATURES][LENGTH];
static mrc_feature features[FEATURES];
static const mrc_feature *list[FEATURES];

static void make_features(void) {
    for (int i = 0; i < FEATURES; i++) {
        for (int j = 0; j < LENGTH; j++) ids[i][j] = 2 + (i * 7 + j * 3) % 20;
        features[i] = (mrc_feature){ .example_index = i, .length = LENGTH - i,
            .real_len = LENGTH - i, .input_ids = ids[i], .token_type_ids = types[i],
            .loss_end = LENGTH - i, .start_position = i, .end_position = 5 };
        list[i] = &features[i];
    }
}

static void count_log(void *user, mrc_status status, const char *message) {
    (void)status, (void)message;
    (*(int *)user)++;
}

static mrc_model_config small_model(void) {
    mrc_model_config c = mrc_model_config_default();
    c.vocab_size = 23, c.hidden_size = 12, c.num_hidden_layers = 2, c.num_attention_heads = 3;
    c.intermediate_size = 20, c.max_position_embeddings = 20, c.head = MRC_HEAD_BILSTM;
    c.head_hidden_size = 7;
    return c;
}

// from NULL: weights of the seed and config c; else from a checkpoint.
static run run_with(mrc_backend *be, const char *from, int *logged, mrc_model_config c) {
    run r = {0};
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    mrc_ctx_desc desc = { .backend = be, .log = logged ? count_log : NULL, .log_user = logged };
    char path[256];
    oc.weight_decay = 0.01;
    CHECK(mrc_ctx_new(&r.ctx, &desc) == MRC_OK, "context");
    mrc_status s = from ? mrc_model_load(r.ctx, &r.m, &(mrc_model_load_desc){ .path = from })
                        : mrc_model_new(r.ctx, &r.m, &c, MRC_DTYPE_F32, 3);
    if (s == MRC_OK) s = mrc_optimizer_new(r.ctx, &r.o, r.m->params, &oc);
    if (s == MRC_OK && from) {
        snprintf(path, sizeof path, "%s/optimizer.safetensors", from);
        s = mrc_optimizer_load(r.ctx, r.o, path);
    }
    if (!CHECK(s == MRC_OK, "%s", mrc_ctx_message(r.ctx))) exit(1);
    return r;
}

static run run_new(mrc_backend *be, const char *from, int *logged) {
    return run_with(be, from, logged, small_model());
}

static void run_free(run *r) {
    mrc_ctx_free(r->ctx);
    mrc_optimizer_free(r->o);
    mrc_model_free(r->m);
}

static void train(run *r, uint32_t from, uint32_t to) {
    mrc_step_desc desc = { .features = list, .n = FEATURES, .micro_batch = 2, .lr = 0.01,
                           .forward = mrc_forward_config_default() };
    desc.forward.dropout = 1;
    for (uint32_t step = from; step < to; step++) {
        mrc_step_result result;
        desc.random = (mrc_random){ .seed = 9, .step = step };
        CHECK(mrc_train_step(r->ctx, r->m, r->o, &desc, &result) == MRC_OK, "%s",
              mrc_ctx_message(r->ctx));
    }
}

static void check_same(const run *a, const run *b, const char *what) {
    for (size_t i = 0; mrc_params_at(a->m->params, i); i++) {
        const mrc_tensor *t = mrc_params_at(a->m->params, i);
        const mrc_tensor *u = mrc_params_find(b->m->params, t->name);
        CHECK(u && !memcmp(t->data, u->data, t->numel * sizeof(float)), "%s: %s differs", what,
              t->name);
    }
}

// Cut after k of 6 steps and loaded again: the same bits as in one go, for any thread count.
static void test_resume(mrc_backend *be) {
    run whole = run_new(be, NULL, NULL);
    train(&whole, 0, 6);
    CHECK(mrc_dir_remove(whole.ctx, dir) == MRC_OK, "%s", mrc_ctx_message(whole.ctx));
    for (uint32_t k = 0; k <= 6; k++) {
        char path[256];
        run a = run_new(be, NULL, NULL);
        train(&a, 0, k);
        CHECK(mrc_checkpoint_save(a.ctx, dir, k, a.m, NULL, a.o, "{\"global_step\": 1}") == MRC_OK,
              "%s", mrc_ctx_message(a.ctx));
        CHECK(mrc_checkpoint_find(a.ctx, dir, path, sizeof path) == MRC_OK, "%s",
              mrc_ctx_message(a.ctx));
        mrc_backend *other;
        CHECK(mrc_backend_cpu_new(&other, &(mrc_backend_desc){ .threads = k % 3 + 1 }) == MRC_OK,
              "cpu");
        run b = run_new(strcmp(be->name, "cpu") ? be : other, path, NULL);
        train(&b, k, 6);
        check_same(&whole, &b, path);
        run_free(&a);
        run_free(&b);
        mrc_backend_free(other);
    }
    run_free(&whole);
}

// Every single-byte change in every file of a checkpoint is found; so are missing files.  The usual
// run changes a bit in 150 bytes of each file, one with MRC_FAULTS=full three times every byte.
static void test_damage(mrc_backend *be) {
    static const char *const files[] = { "model.safetensors", "optimizer.safetensors",
                                         "config.json", "trainer_state.json" };
    char path[256], file[512];
    const char *mode = getenv("MRC_FAULTS");
    const int full = mode && !strcmp(mode, "full");
    int logged = 0;
    long tried = 0;
    run r = run_new(be, NULL, &logged);
    CHECK(mrc_checkpoint_save(r.ctx, dir, 7, r.m, NULL, r.o, "{\"a\": [1]}") == MRC_OK, "%s",
          mrc_ctx_message(r.ctx));
    snprintf(path, sizeof path, "%s/checkpoint-7", dir);
    CHECK(mrc_checkpoint_check(r.ctx, path) == MRC_OK, "%s", mrc_ctx_message(r.ctx));
    for (size_t k = 0; k < 4; k++) {
        struct stat st;
        snprintf(file, sizeof file, "%s/%s", path, files[k]);
        CHECK(stat(file, &st) == 0, "%s", file);
        off_t step = full ? 1 : st.st_size / 150 + 1;
        int missed = 0, fd = open(file, O_RDWR);
        for (off_t at = 0; at < st.st_size; at += step) {
            unsigned char was = 0;
            if (!CHECK(pread(fd, &was, 1, at) == 1, "pread")) break;
            const unsigned char changed[] = { (unsigned char)(was ^ (1u << (at % 8))),
                                              (unsigned char)~was, (unsigned char)(was ? 0 : ' ') };
            for (int i = 0; i < (full ? 3 : 1); i++) {
                CHECK(pwrite(fd, &changed[i], 1, at) == 1, "pwrite");
                missed += mrc_checkpoint_check(r.ctx, path) == MRC_OK;
                mrc_ctx_clear_error(r.ctx);
                tried++;
            }
            CHECK(pwrite(fd, &was, 1, at) == 1, "pwrite");
        }
        CHECK(missed == 0, "%s: %d changes were not noticed", files[k], missed);
        CHECK(ftruncate(fd, st.st_size - 1) == 0
              && mrc_checkpoint_check(r.ctx, path) != MRC_OK, "%s cut by a byte", files[k]);
        mrc_ctx_clear_error(r.ctx);
        close(fd);
        CHECK(mrc_checkpoint_save(r.ctx, dir, 7, r.m, NULL, r.o, "{}") == MRC_OK, "%s",
              mrc_ctx_message(r.ctx));                          // over the damaged one
        CHECK(unlink(file) == 0 && mrc_checkpoint_check(r.ctx, path) != MRC_OK, "no %s", files[k]);
        mrc_ctx_clear_error(r.ctx);
        CHECK(mrc_checkpoint_save(r.ctx, dir, 7, r.m, NULL, r.o, "{}") == MRC_OK, "%s",
              mrc_ctx_message(r.ctx));
    }
    CHECK(logged > 100, "%d messages", logged);
    printf("a byte of a checkpoint changed in %ld ways\n", tried);
    run_free(&r);
}

static void test_states(run *r) {
    char path[256];
    snprintf(path, sizeof path, "%s/checkpoint-30", dir);
    // What could not be read again is refused now, with nothing written.
    static const char *const bad[] = { "{\"step\" 7}", "{\"files\": 1}", "{", "{} {}", "",
        "{\"state_crc32c\": 1}", "{\"a\": 1, \"a\": 2}", "{\"a\": 01}" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(mrc_checkpoint_save(r->ctx, dir, 30, r->m, NULL, r->o, bad[i]) != MRC_OK
              && *mrc_ctx_message(r->ctx) && !mrc_path_kind(path),
              "%s: %s", bad[i], mrc_ctx_message(r->ctx));
        mrc_ctx_clear_error(r->ctx);
    }
    static const char *const good[] = { "{ }", "{}\n", " { \"a\" : {} } \n" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK(mrc_checkpoint_save(r->ctx, dir, 30, r->m, NULL, r->o, good[i]) == MRC_OK
              && mrc_checkpoint_check(r->ctx, path) == MRC_OK,
              "%s: %s", good[i], mrc_ctx_message(r->ctx));
    }
}

// The newest that holds is taken, with a word about those that do not; leftovers go; prune keeps.
static void test_find(mrc_backend *be) {
    char path[256], file[512];
    int logged = 0;
    run r = run_new(be, NULL, &logged);
    CHECK(mrc_dir_remove(r.ctx, dir) == MRC_OK && mrc_dir_new(r.ctx, dir) == MRC_OK, "folder");
    CHECK(mrc_checkpoint_find(r.ctx, dir, path, sizeof path) == MRC_OK && !path[0], "%s", path);
    for (uint64_t step = 9; step <= 12; step++) {       // 9 < 10: by number, not by name
        CHECK(mrc_checkpoint_save(r.ctx, dir, step, r.m, NULL, r.o, "{}") == MRC_OK, "%s",
              mrc_ctx_message(r.ctx));
    }
    snprintf(file, sizeof file, "%s/.checkpoint-13.tmp", dir);
    CHECK(mrc_dir_new(r.ctx, file) == MRC_OK, "folder");
    snprintf(path, sizeof path, "%s/checkpoint-x1", dir);
    CHECK(mrc_dir_new(r.ctx, path) == MRC_OK, "folder");
    snprintf(path, sizeof path, "%s/checkpoint-12/model.safetensors", dir);
    CHECK(truncate(path, 1000) == 0, "truncate");
    CHECK(mrc_checkpoint_find(r.ctx, dir, path, sizeof path) == MRC_OK
          && strstr(path, "/checkpoint-11"), "found %s", path);
    CHECK(logged == 1, "%d messages about one damaged checkpoint", logged);
    CHECK(mrc_path_kind(file) == MRC_PATH_NONE, "a killed save's folder is still there");
    CHECK(mrc_checkpoint_prune(r.ctx, dir, 2) == MRC_OK, "%s", mrc_ctx_message(r.ctx));
    for (int step = 9; step <= 12; step++) {
        snprintf(path, sizeof path, "%s/checkpoint-%d", dir, step);
        CHECK((mrc_path_kind(path) == MRC_PATH_DIR) == (step > 10), "checkpoint-%d after pruning",
              step);
    }
    CHECK(mrc_checkpoint_save(r.ctx, dir, 1, r.m, NULL, r.o, "[]") == MRC_ERR_ARG, "a list");
    mrc_ctx_clear_error(r.ctx);
    test_states(&r);
    snprintf(path, sizeof path, "%s/.checkpoint-1.tmp", dir);
    CHECK(mrc_path_kind(path) == MRC_PATH_NONE, "a refused save leaves its folder");
    run_free(&r);
}

// On every instruction set, training is the same bits by 1, 2, 3 and 7 threads.  The layers are
// wide enough that each loop has work for more than one.
static void test_threads(void) {
    static const mrc_isa isas[] = { MRC_ISA_BASELINE, MRC_ISA_AVX2, MRC_ISA_AVX512 };
    static const size_t threads[] = { 1, 2, 3, 7 };
    mrc_model_config c = small_model();
    c.hidden_size = 192, c.intermediate_size = 260, c.head_hidden_size = 100;
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        run first = {0};
        mrc_backend *be[4] = { NULL };
        for (size_t k = 0; k < 4; k++) {
            mrc_backend_desc desc = { .isa = isas[i], .threads = threads[k] };
            char what[64];
            if (mrc_backend_cpu_new(&be[k], &desc) != MRC_OK) {
                printf("SKIP: this machine lacks instruction set %d\n", (int)isas[i]);
                break;
            }
            run r = run_with(be[k], NULL, NULL, c);
            train(&r, 0, 3);
            snprintf(what, sizeof what, "%s, %zu threads", be[k]->isa, threads[k]);
            if (k > 0) check_same(&first, &r, what);
            if (k > 0) run_free(&r);
            else first = r;
        }
        if (first.m) run_free(&first);
        for (size_t k = 0; k < 4; k++) if (be[k]) mrc_backend_free(be[k]);
    }
}

int main(void) {
    mrc_backend *naive, *cpu;
    make_features();
    snprintf(dir, sizeof dir, "build/test_checkpoint.%ld", (long)getpid());
    CHECK(mrc_backend_naive_new(&naive, NULL) == MRC_OK, "naive");
    CHECK(mrc_backend_cpu_new(&cpu, NULL) == MRC_OK, "cpu");
    test_threads();
    test_resume(naive);
    test_resume(cpu);
    test_damage(naive);
    test_find(naive);
    mrc_ctx *ctx;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){0}) == MRC_OK, "context");
    CHECK(mrc_dir_remove(ctx, dir) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    mrc_backend_free(cpu);
    mrc_backend_free(naive);
    return test_end();
}
