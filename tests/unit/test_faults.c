// Failing memory, system calls, disks and numbers: nothing crashes or leaks, errors say what
// failed, and what was saved before is there.  The usual run takes every so many of the places to
// fail, a run with MRC_FAULTS=full takes all of them.
#include "../support/faults.h"
#include "../support/test.h"
#include "../support/pickles.h"
#include "../../tools/yaml.h"

static char root[128];              // a temporary folder, and what lies in it
static char data_file[256], model_dir[256], out_dir[256];
static int  full;

typedef struct run {
    mrc_allocator  host;
    mrc_backend   *be;
    mrc_ctx       *ctx;
    mrc_model     *m;
    mrc_tokenizer *tok;
    mrc_dataset   *data;
    mrc_features   features;
    mrc_optimizer *o;
} run;

static void run_free(run *r) {
    mrc_features_free(&r->features);
    mrc_ctx_free(r->ctx);
    mrc_optimizer_free(r->o);
    mrc_dataset_free(r->data);
    mrc_tokenizer_free(r->tok);
    mrc_model_free(r->m);
    mrc_backend_free(r->be);
}

// A reader from a folder, its data, and the moments if the folder has some.
static mrc_status run_load(run *r, const char *from, mrc_allocator host) {
    char moments[512];
    *r = (run){ .host = host, .features = { .host = host } };
    MRC__TRY(mrc_backend_naive_new(&r->be, &(mrc_backend_desc){ .allocator = host }));
    MRC__TRY(mrc_ctx_new(&r->ctx, &(mrc_ctx_desc){ .allocator = host, .backend = r->be }));
    MRC__TRY(mrc_model_load(r->ctx, &r->m, &(mrc_model_load_desc){ .path = from, .seed = 5 }));
    MRC__TRY(mrc_tokenizer_load(r->ctx, &r->tok, from));
    MRC__TRY(mrc_dataset_load(r->ctx, &r->data, data_file));
    mrc_features_config fc = mrc_features_config_default();
    fc.max_seq_length = 32, fc.doc_stride = 8;
    MRC__TRY(mrc_features_new(r->ctx, &r->features, r->data, r->tok, &fc));
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    MRC__TRY(mrc_optimizer_new(r->ctx, &r->o, r->m->params, &oc));
    snprintf(moments, sizeof moments, "%s/optimizer.safetensors", from);
    if (mrc_path_kind(moments) != MRC_PATH_FILE) return MRC_OK;
    return mrc_optimizer_load(r->ctx, r->o, moments);
}

static mrc_status add_logits(mrc_ctx *ctx, void *user, const mrc_feature *f, const float *start,
                             const float *end) {
    uint32_t *crc = user;
    (void)ctx;
    *crc = mrc_crc32c(*crc, start, (size_t)f->length * sizeof *start);
    *crc = mrc_crc32c(*crc, end, (size_t)f->length * sizeof *end);
    return MRC_OK;
}
// A checksum of all logits.
static mrc_status run_predict(run *r, uint32_t *crc) {
    *crc = 0;
    return mrc_predict(r->ctx, r->m, &(mrc_predict_desc){ .features = &r->features,
                       .batch_size = 2, .fn = add_logits, .user = crc });
}

static mrc_status run_step(run *r, uint32_t step, mrc_step_result *result) {
    const mrc_feature *list[8];
    size_t n = r->features.n < 8 ? r->features.n : 8;
    for (size_t i = 0; i < n; i++) list[i] = &r->features.list[i];
    mrc_step_desc desc = { .features = list, .n = n, .micro_batch = 2, .lr = 0.01,
                           .random = { .seed = 9, .step = step },
                           .forward = mrc_forward_config_default() };
    desc.forward.dropout = 1;
    return mrc_train_step(r->ctx, r->m, r->o, &desc, result);
}

static mrc_status run_save(run *r, uint64_t step) {
    return mrc_checkpoint_save(r->ctx, out_dir, step, r->m, model_dir, r->o, "{\"a\": 1}");
}

static uint32_t crc_of(const mrc_params *p) {
    uint32_t crc = 0;
    for (size_t i = 0; mrc_params_at(p, i); i++) {
        const mrc_tensor *t = mrc_params_at(p, i);
        crc = mrc_crc32c(crc, t->data, t->numel * sizeof(float));
    }
    return crc;
}
// Of the weights, the moments and the count of steps.
static uint32_t run_crc(const run *r) {
    return crc_of(r->m->params) ^ crc_of(r->o->exp_avg) * 3 ^ crc_of(r->o->exp_avg_sq) * 5;
}

static const mrc_allocator plain;

static void must(run *r, mrc_status s, const char *what) {
    if (CHECK(s == MRC_OK, "%s: %s", what, mrc_ctx_message(r->ctx))) return;
    exit(1);
}

static void make_files(void) {
    static const char *const rows[] = { "the reader's reading was the book", "19 the there  <mask>",
                                        "a caf\xC3\xA9 in the town, and the reader reads there" };
    run r = {0};
    char text[2048] = "";
    mrc_model_config c = mrc_model_config_default();
    for (int i = 0; i < 3; i++) {
        snprintf(text + strlen(text), sizeof text - strlen(text), "{\"id\": \"%d\", \"context\": "
                 "\"%s\", \"question\": \"who reads?\", \"answers\": {\"answer_start\": [3], "
                 "\"text\": [\"%.2s\"]}}\n", i, rows[i], rows[i] + 3);
    }
    c.hidden_size = 8, c.num_hidden_layers = 1, c.num_attention_heads = 2, c.intermediate_size = 12;
    c.max_position_embeddings = 40;
    must(&r, mrc_backend_naive_new(&r.be, NULL), "backend");
    must(&r, mrc_ctx_new(&r.ctx, &(mrc_ctx_desc){ .backend = r.be }), "context");
    must(&r, mrc_file_write(r.ctx, data_file, text, strlen(text)), "data");
    must(&r, mrc_tokenizer_load(r.ctx, &r.tok, "tests/fixtures/tokenizer/bytes"), "tokenizer");
    c.vocab_size = mrc_tokenizer_size(r.tok);
    must(&r, mrc_model_new(r.ctx, &r.m, &c, MRC_DTYPE_F32, 3), "model");
    must(&r, mrc_model_save(r.ctx, r.m, model_dir, "tests/fixtures/tokenizer/bytes"), "save");
    run_free(&r);
}

//
// Memory: the k-th allocation fails, once or from then on
//
typedef struct failing { size_t n, at; int on; long live; } failing;
static void *failing_alloc(void *user, size_t bytes) {
    failing *f = user;
    f->n++;
    if (f->n == f->at || (f->on && f->n > f->at)) return NULL;
    void *p = malloc(bytes);
    f->live += p != NULL;
    return p;
}
static void failing_free(void *user, void *p) {
    ((failing *)user)->live -= p != NULL;
    free(p);
}

static mrc_status load_predict_train_save(failing *f, uint32_t *crc, char *message, size_t room) {
    mrc_allocator host = { failing_alloc, failing_free, f };
    run r;
    mrc_step_result result;
    uint32_t logits = 0;
    mrc_status s = run_load(&r, model_dir, host);
    if (s == MRC_OK) s = run_predict(&r, &logits);
    if (s == MRC_OK) s = run_step(&r, 0, &result);
    if (s == MRC_OK) s = run_save(&r, 2);
    if (s == MRC_OK) *crc = run_crc(&r) ^ logits * 7;
    snprintf(message, room, "%.500s", r.ctx ? mrc_ctx_message(r.ctx) : "no context");
    run_free(&r);
    return s;
}

// The checkpoint of step 1 holds, and the newest is found.
static void check_disk(uint64_t newest, const char *what) {
    mrc_ctx *ctx;
    char path[512], one[512];
    if (!CHECK(mrc_ctx_new(&ctx, NULL) == MRC_OK, "context")) return;
    snprintf(one, sizeof one, "%s/checkpoint-1", out_dir);
    CHECK(mrc_checkpoint_check(ctx, one) == MRC_OK, "%s: %s", what, mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_checkpoint_find(ctx, out_dir, path, sizeof path) == MRC_OK && path[0], "%s: %s", what,
          mrc_ctx_message(ctx));
    snprintf(one, sizeof one, "%s/checkpoint-%d", out_dir, (int)newest);
    CHECK(newest == 0 || !strcmp(path, one), "%s: found %s, expected %s", what, path, one);
    mrc_ctx_free(ctx);
}

static void save_one(void) {
    run r;
    mrc_step_result result;
    must(&r, run_load(&r, model_dir, plain), "load");
    must(&r, mrc_dir_remove(r.ctx, out_dir), "remove");
    must(&r, mrc_dir_new(r.ctx, out_dir), "folder");
    must(&r, run_step(&r, 0, &result), "step");
    must(&r, run_save(&r, 1), "save");
    run_free(&r);
}

static void test_memory(void) {
    uint32_t want = 0, crc = 0;
    char message[512];
    failing f = {0};
    save_one();
    CHECK(load_predict_train_save(&f, &want, message, sizeof message) == MRC_OK && f.live == 0,
          "%s, %ld left", message, f.live);
    size_t n = f.n, step = full ? 1 : n / 60 + 1, tried = 0;
    for (size_t at = 1; at <= n + 1; at += at > n - 2 ? 1 : step) {
        for (int on = 0; on < 2; on++, tried++) {
            f = (failing){ .at = at, .on = on };
            mrc_status s = load_predict_train_save(&f, &crc, message, sizeof message);
            CHECK(f.live == 0, "allocation %zu of %zu: %ld left", at, n, f.live);
            // Some can be done without: the results are the same then.
            CHECK(s == MRC_OK ? crc == want : at <= n && s == MRC_ERR_MEM && message[0],
                  "allocation %zu of %zu fails: status %d, %s", at, n, (int)s, message);
        }
        if (at % 16 == 1 || at > n) check_disk(0, "memory");
    }
    printf("%zu of %zu allocations failed, each once and from there on\n", tried / 2 - 1, n);
}

//
// System calls
//
static const struct { int error; const char *name; } faults[] = {
    { EIO, "EIO" }, { ENOSPC, "ENOSPC" }, { EINTR, "EINTR" }, { EMFILE, "EMFILE" },
    { EACCES, "EACCES" }, { ENOMEM, "ENOMEM" }, { FAULT_SHORT, "half" },
};

// A failed write, sync or rename is never taken for a success.
static int is_fatal(const char *what) {
    return !strcmp(what, "write") || !strcmp(what, "fsync") || !strcmp(what, "rename");
}

static void check_failed(mrc_status s, const char *message, const char *phase, long at,
                         const char *name) {
    if (s != MRC_OK) {
        CHECK(fault.failed > 0 && message[0] == '/', "%s: call %ld, %s, %s: status %d, \"%s\"",
              phase, at, fault.what ? fault.what : "none", name, (int)s, message);
        return;
    }
    CHECK(!fault.failed || fault.error == EINTR || fault.error == FAULT_SHORT
          || !is_fatal(fault.what), "%s: call %ld, %s fails with %s and nothing is said", phase, at,
          fault.what, name);
}

static long count_calls(run *r, int saves, uint32_t *logits) {
    fault_arm(0, 0, 0);
    mrc_status s = saves ? run_save(r, 2) : run_load(r, model_dir, plain);
    if (s == MRC_OK && !saves) s = run_predict(r, logits);
    fault.armed = 0;
    must(r, s, "without faults");
    return fault.calls;
}

static void test_load_calls(void) {
    run r;
    uint32_t want = 0, logits = 0;
    long n = count_calls(&r, 0, &want), tried = 0, failed = 0;
    run_free(&r);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        for (long at = 1; at <= n; at += full ? 1 : 3) {
            for (int on = 0; on < 2; on++, tried++) {
                fault_arm(at, faults[i].error, on);
                mrc_status s = run_load(&r, model_dir, plain);
                if (s == MRC_OK) s = run_predict(&r, &logits);
                fault.armed = 0;
                failed += s != MRC_OK;
                check_failed(s, r.ctx ? mrc_ctx_message(r.ctx) : "", "load", at, faults[i].name);
                CHECK(s != MRC_OK || logits == want, "load: call %ld, %s: %s: other logits", at,
                      fault.what ? fault.what : "none", faults[i].name);
                run_free(&r);
            }
        }
    }
    printf("load and predict: %ld calls, %ld faults, %ld of them errors\n", n, tried, failed);
}

// A file that is cut in half between any two calls of loading it: an error that names it, or what
// was read before.
static void test_cut_files(void) {
    static const char *const names[] = { "config.json", "model.safetensors", "vocab.json",
                                         "merges.txt", "data.jsonl" };
    run r;
    char paths[5][512], *texts[5];
    size_t bytes[5];
    uint32_t want = 0, logits = 0;
    long n = count_calls(&r, 0, &want), cuts = 0, errors = 0;
    mrc_ctx *files;                     // outlives the runs, so it has no backend of theirs
    must(&r, mrc_ctx_new(&files, &(mrc_ctx_desc){0}), "a context for files");
    for (int f = 0; f < 5; f++) {
        snprintf(paths[f], sizeof paths[f], "%s/%s", f < 4 ? model_dir : root, names[f]);
        must(&r, mrc_file_read(files, &texts[f], &bytes[f], paths[f]), names[f]);
    }
    run_free(&r);
    for (int f = 0; f < 5; f++) {
        for (long at = 1; at <= n; at += full ? 1 : 3) {
            fault_arm(at, FAULT_CUT, 0);
            fault.cut = paths[f];
            mrc_status s = run_load(&r, model_dir, plain);
            if (s == MRC_OK) s = run_predict(&r, &logits);
            fault.armed = 0;
            cuts += fault.failed;
            errors += s != MRC_OK;
            const char *text = r.ctx ? mrc_ctx_message(r.ctx) : "";
            CHECK(s == MRC_OK ? logits == want : strstr(text, names[f]) != NULL,
                  "%s cut at call %ld: status %d, %s", names[f], at, (int)s, text);
            run_free(&r);
            if (mrc_file_write(files, paths[f], texts[f], bytes[f]) != MRC_OK) exit(1);
        }
    }
    CHECK(errors > 0 && errors < cuts, "%ld errors of %ld cuts", errors, cuts);
    printf("load and predict: %ld files cut, %ld errors\n", cuts, errors);
    for (int f = 0; f < 5; f++) mrc_file_free(files, texts[f]);
    mrc_ctx_free(files);
}

static void test_save_calls(void) {
    run r;
    long tried = 0, failed = 0;
    char two[512];
    save_one();
    snprintf(two, sizeof two, "%s/checkpoint-2", out_dir);
    must(&r, run_load(&r, model_dir, plain), "load");
    long n = count_calls(&r, 1, NULL);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        for (long at = 1; at <= n; at += full ? 1 : 3) {
            for (int on = 0; on < 2; on++, tried++) {
                must(&r, mrc_dir_remove(r.ctx, two), "remove");
                fault_arm(at, faults[i].error, on);
                mrc_status s = run_save(&r, 2);
                fault.armed = 0;
                failed += s != MRC_OK;
                check_failed(s, mrc_ctx_message(r.ctx), "save", at, faults[i].name);
                check_disk(s == MRC_OK ? 2 : 0, "save");
                mrc_ctx_clear_error(r.ctx);
            }
        }
    }
    printf("save: %ld calls, %ld faults, %ld of them errors\n", n, tried, failed);
    run_free(&r);
}

//
// Kills: at each system call of a save, by fork
//
static uint32_t finish(const char *from, uint32_t step) {
    run r;
    mrc_step_result result;
    must(&r, run_load(&r, from, plain), "load");
    for (; step < 4; step++) must(&r, run_step(&r, step, &result), "step");
    uint32_t crc = run_crc(&r);
    run_free(&r);
    return crc;
}

// Goes from checkpoint-1 to step `to` and saves there, being killed at call `at`; 0: it ended.
static int killed_save(uint32_t to, long at) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        run r;
        char one[512];
        mrc_step_result result;
        snprintf(one, sizeof one, "%s/checkpoint-1", out_dir);
        mrc_status s = run_load(&r, one, plain);
        for (uint32_t step = 1; s == MRC_OK && step < to; step++) s = run_step(&r, step, &result);
        fault_arm(at, FAULT_KILL, 0);
        if (s == MRC_OK) s = run_save(&r, to);
        if (s == MRC_OK) s = mrc_checkpoint_prune(r.ctx, out_dir, 2);
        _exit(s == MRC_OK ? 0 : 3);
    }
    int code = 0;
    while (waitpid(child, &code, 0) < 0 && errno == EINTR) continue;
    if (WIFSIGNALED(code) && WTERMSIG(code) == SIGKILL) return 1;
    CHECK(WIFEXITED(code) && WEXITSTATUS(code) == 0, "the child ended with %d", code);
    return 0;
}

// to 2: beside the checkpoint of step 1; to 1: in its place.
static void test_kills(uint32_t to) {
    save_one();
    char path[512];
    mrc_ctx *ctx = NULL;
    snprintf(path, sizeof path, "%s/checkpoint-1", out_dir);
    uint32_t want = finish(path, 1);
    long at = 1, kills = 0;
    CHECK(mrc_ctx_new(&ctx, NULL) == MRC_OK, "context");
    while (killed_save(to, at)) {
        kills++;
        mrc_ctx_clear_error(ctx);
        mrc_status s = mrc_checkpoint_find(ctx, out_dir, path, sizeof path);
        const char *dash = strrchr(path, '-');
        if (CHECK(s == MRC_OK && path[0], "killed at call %ld of saving step %d: none is found: %s",
                  at, (int)to, mrc_ctx_message(ctx))) {
            CHECK(finish(path, (uint32_t)atoi(dash + 1)) == want, "killed at call %ld of saving "
                  "step %d: going on from %s ends elsewhere", at, (int)to, path);
        } else {
            save_one();
        }
        snprintf(path, sizeof path, "%s/checkpoint-2", out_dir);
        mrc_dir_remove(ctx, path);
        at += full ? 1 : 2;
    }
    CHECK(kills > 20, "only %ld kills", kills);
    printf("saving step %d: killed at %ld system calls\n", (int)to, kills);
    mrc_ctx_free(ctx);
}

//
// A disk that is nearly full: file systems in memory, of growing sizes
//
static void test_full_disk(void) {
    run r;
    char normal[256], one[512], options[64];
    long failed = 0, whole = 0;
    memcpy(normal, out_dir, sizeof normal);
    must(&r, run_load(&r, model_dir, plain), "load");
    snprintf(out_dir, sizeof out_dir, "%s/disk", root);
    must(&r, mrc_dir_new(r.ctx, out_dir), "folder");
    snprintf(one, sizeof one, "%s/checkpoint-1", out_dir);
    for (int i = 0; i < 64; i += full ? 1 : 4) {
        snprintf(options, sizeof options, "size=%dk", 40 + 4 * i);
        if (mount("tmpfs", out_dir, "tmpfs", 0, options) != 0) {
            test_skip("a full disk: no file system can be mounted here");
            break;
        }
        mrc_ctx_clear_error(r.ctx);
        mrc_status first = run_save(&r, 1), s = first == MRC_OK ? run_save(&r, 2) : first;
        const char *text = mrc_ctx_message(r.ctx);
        CHECK(s == MRC_OK || (s == MRC_ERR_IO && strstr(text, out_dir)
              && strstr(text, strerror(ENOSPC))), "%s: status %d, %s", options, (int)s, text);
        CHECK(s == MRC_OK || strstr(text, "cannot reserve") || strstr(text, "cannot create")
              || strstr(text, "cannot write") || strstr(text, "cannot make"), "%s: %s", options,
              text);
        if (first == MRC_OK) check_disk(s == MRC_OK ? 2 : 1, options);
        failed += s != MRC_OK;
        whole += s == MRC_OK;
        CHECK(umount(out_dir) == 0, "umount: %s", strerror(errno));
    }
    CHECK(whole + failed == 0 || (whole > 0 && failed > 0), "%ld whole, %ld failed", whole, failed);
    printf("disks of %ld sizes were too small, of %ld large enough\n", failed, whole);
    memcpy(out_dir, normal, sizeof out_dir);
    run_free(&r);
}

//
// Power loss: what was not synced may be gone or torn
//
// Each folder keeps its changes up to a point, which is not before its last sync; a file keeps what
// was synced, and of what was not any blocks.
typedef struct after { int n; disk_name name[512]; } after;

static uint32_t draw(uint32_t n) {
    test_rng = test_rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return (uint32_t)(test_rng >> 33) % n;
}

static void names_after(after *a, int crash, int how) {
    int keep[64] = {0};             // by folder: changes that are kept
    a->n = 0;
    for (int i = 0, seen[64] = {0}; i < crash; i++) {
        const disk_op *op = &disk.op[i];
        if (op->dir >= 0 && op->dir < 64) seen[op->dir]++;
        if (op->kind == DISK_SYNC && op->node < 64) keep[op->node] = seen[op->node];
        if (i + 1 < crash || how == 0) continue;
        for (int d = 0; d < 64; d++) {
            int open = seen[d] - keep[d];
            keep[d] += how == 1 ? open : open ? (int)draw((uint32_t)open + 1) : 0;
        }
    }
    for (int i = 0, seen[64] = {0}; i < crash; i++) {
        const disk_op *op = &disk.op[i];
        if (op->dir < 0 || op->dir >= 64 || seen[op->dir]++ >= keep[op->dir]) continue;
        int at = 0;
        while (at < a->n && (a->name[at].dir != op->dir || strcmp(a->name[at].name, op->name)))
            at++;
        if (op->kind == DISK_LINK) {
            disk_name *to = &a->name[a->n++];
            *to = (disk_name){ .dir = op->dir, .node = op->node };
            memcpy(to->name, op->name, sizeof to->name);
            continue;
        }
        if (at == a->n) continue;
        for (int k = 0; op->kind == DISK_RENAME && k < a->n; k++) {
            if (a->name[k].dir != op->dir || strcmp(a->name[k].name, op->to)) continue;
            a->name[k] = a->name[--a->n];
            if (at == a->n) at = k;
            break;
        }
        if (op->kind == DISK_RENAME) memcpy(a->name[at].name, op->to, sizeof a->name[at].name);
        else a->name[at] = a->name[--a->n];
    }
}

static void write_file(const char *path, int node, int crash, int how, size_t block) {
    static char content[1 << 20];
    size_t size = 0;
    int synced = 0;
    for (int i = 0; i < crash; i++) {
        if (disk.op[i].kind == DISK_SYNC && disk.op[i].node == node) synced = i;
    }
    memset(content, 0, sizeof content);
    for (int i = 0; i < crash; i++) {
        const disk_op *op = &disk.op[i];
        if (op->node != node || (op->kind != DISK_WRITE && op->kind != DISK_SIZE)) continue;
        if (i > synced && how == 0) continue;
        if (op->at + op->n > sizeof content) continue;
        if (op->at + op->n > size) size = op->at + op->n;
        for (size_t b = 0; op->kind == DISK_WRITE && op->data && b < op->n; b += block) {
            size_t n = op->n - b < block ? op->n - b : block;
            if (i < synced || how == 1 || draw(2)) memcpy(content + op->at + b, op->data + b, n);
        }
    }
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(content, 1, size, f) == size, "%s: %s", path, strerror(errno));
    if (f) fclose(f);
}

// Makes in `where` what a crash before call `crash` leaves.
static void rebuild(mrc_ctx *ctx, const char *where, int crash, int how, size_t block) {
    static after a;
    names_after(&a, crash, how);
    CHECK(mrc_dir_remove(ctx, where) == MRC_OK && mrc_dir_new(ctx, where) == MRC_OK, "%s",
          mrc_ctx_message(ctx));
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < a.n; i++) {
            const disk_name *x = &a.name[i];
            char path[512];
            int is_dir = 0, parent = -1;
            for (int k = 0; k < disk.n; k++) is_dir |= disk.op[k].dir == x->node;
            for (int k = 0; k < a.n; k++) if (a.name[k].node == x->dir) parent = k;
            if ((x->dir != 0) != pass || (pass && parent < 0)) continue;
            if (pass) snprintf(path, sizeof path, "%s/%s/%s", where, a.name[parent].name, x->name);
            else snprintf(path, sizeof path, "%s/%s", where, x->name);
            if (is_dir) mrc_dir_new(ctx, path);
            else write_file(path, x->node, crash, how, block);
        }
    }
}

static void test_power_loss(void) {
    run r;
    mrc_ctx *ctx = NULL;
    char where[256], path[512];
    mrc_step_result result;
    uint32_t crc[4] = {0};
    int saved[4] = {0}, states = 0, newest[4] = {0}, variants = full ? 24 : 4;
    must(&r, run_load(&r, model_dir, plain), "load");
    must(&r, mrc_dir_remove(r.ctx, out_dir), "remove");
    must(&r, mrc_dir_new(r.ctx, out_dir), "folder");
    snprintf(disk.root, sizeof disk.root, "%s", out_dir);
    for (uint32_t step = 1; step <= 3; step++) {        // the third in place of the second
        must(&r, run_step(&r, step - 1, &result), "step");
        must(&r, run_save(&r, step < 3 ? step : 2), "save");
        saved[step] = disk.n;
        crc[step] = run_crc(&r);
    }
    must(&r, mrc_checkpoint_prune(r.ctx, out_dir, 1), "prune");
    disk.root[0] = 0;
    CHECK(!disk.lost && disk.n > 60, "%d calls noted, %d lost", disk.n, disk.lost);
    CHECK(mrc_ctx_new(&ctx, NULL) == MRC_OK, "context");
    snprintf(where, sizeof where, "%s/crashed", root);
    run_free(&r);
    for (int crash = saved[1]; crash <= disk.n; crash += full ? 1 : 3) {
        for (int v = 0; v < variants; v++, states++) {
            mrc_ctx_clear_error(ctx);
            rebuild(ctx, where, crash, v < 2 ? v : 2, v % 2 ? 512 : 4096);
            mrc_status s = mrc_checkpoint_find(ctx, where, path, sizeof path);
            if (!CHECK(s == MRC_OK && path[0], "power lost at call %d of %d, variant %d: no "
                       "checkpoint: %s", crash, disk.n, v, mrc_ctx_message(ctx))) continue;
            must(&r, run_load(&r, path, plain), path);
            uint32_t found = run_crc(&r);
            int which = found == crc[1] ? 1 : found == crc[2] ? 2 : found == crc[3] ? 3 : 0;
            // What was saved before the crash is not lost again.
            CHECK(which && which >= (crash >= saved[3] ? 3 : crash >= saved[2] ? 2 : 1), "power "
                  "lost at call %d, variant %d: %s is state %d", crash, v, path, which);
            newest[which]++;
            run_free(&r);
        }
    }
    printf("power lost in %d ways: the first state was found %d times, the second %d, the third "
           "%d\n", states, newest[1], newest[2], newest[3]);
    for (int i = 0; i < disk.n; i++) free(disk.op[i].data);
    mrc_ctx_free(ctx);
}

//
// Numbers: NaN in the loss, in one element of a gradient, in one weight
//
static mrc_status (*true_loss)(mrc_backend *be, const mrc_cross_entropy_fwd_args *a);
static mrc_status (*true_gradient)(mrc_backend *be, const mrc_layer_norm_bwd_args *a);
static mrc_status nan_loss(mrc_backend *be, const mrc_cross_entropy_fwd_args *a) {
    MRC__TRY(true_loss(be, a));
    *(float *)a->loss.data = NAN;
    return MRC_OK;
}
static mrc_status nan_gradient(mrc_backend *be, const mrc_layer_norm_bwd_args *a) {
    MRC__TRY(true_gradient(be, a));
    if (a->dweight.data) ((float *)a->dweight.data)[a->h / 2] = NAN;
    return MRC_OK;
}

static void test_nan(void) {
    for (int site = 0; site < 3; site++) {
        for (uint32_t bad = 0; bad < 20; bad++) {
            run r, twin;
            mrc_step_result result;
            must(&r, run_load(&r, model_dir, plain), "load");
            must(&twin, run_load(&twin, model_dir, plain), "load");
            for (uint32_t step = bad < 16 ? bad : 16; step < bad; step++) {
                must(&r, run_step(&r, step, &result), "step");
                must(&twin, run_step(&twin, step, &result), "step");
            }
            mrc_kernels *k = &r.be->kernels[MRC_DTYPE_F32];
            float *weight = mrc_params_at(r.m->params, bad % r.m->params->n)->data, old = *weight;
            uint32_t before = run_crc(&r);
            true_loss = k->cross_entropy_fwd, true_gradient = k->layer_norm_bwd;
            if (site == 0) k->cross_entropy_fwd = nan_loss;
            if (site == 1) k->layer_norm_bwd = nan_gradient;
            // The head's bias reaches every logit, whatever the batch.
            if (site == 2) {
                mrc_tensor *t = mrc_params_find(r.m->params, "qa_outputs.bias");
                weight = t ? t->data : weight;
                old = *weight;
                *weight = NAN;
            }
            mrc_status s = run_step(&r, bad, &result);
            if (site == 2) *weight = old;
            k->cross_entropy_fwd = true_loss, k->layer_norm_bwd = true_gradient;
            CHECK(s == MRC_OK && result.skipped, "site %d, step %d: status %d, skipped %d", site,
                  (int)bad, (int)s, result.skipped);
            CHECK(site == 1 || !(result.loss - result.loss == 0), "site %d: loss %g", site,
                  result.loss);
            CHECK(run_crc(&r) == before, "site %d, step %d: something changed", site, (int)bad);
            // Nothing of it is left: the next step is that of a run that saw no NaN.
            must(&r, run_step(&r, bad + 1, &result), "step");
            must(&twin, run_step(&twin, bad + 1, &result), "step");
            CHECK(run_crc(&r) == run_crc(&twin), "site %d, step %d: the next step differs", site,
                  (int)bad);
            run_free(&r);
            run_free(&twin);
        }
    }
}

// Weights and moments that are not finite are not saved, and take nothing from what was.
static void test_save_nan(void) {
    static const float odd[] = { NAN, HUGE_VALF, -HUGE_VALF };
    run r;
    save_one();
    must(&r, run_load(&r, model_dir, plain), "load");
    for (size_t i = 0; i < 2 * r.m->params->n; i++) {
        const mrc_params *of = i < r.m->params->n ? r.m->params : r.o->exp_avg;
        mrc_tensor *t = mrc_params_at(of, i % r.m->params->n);
        if (!t) continue;
        float *value = (float *)t->data + draw((uint32_t)t->numel), old = *value;
        *value = odd[i % 3];
        mrc_status s = run_save(&r, 2);
        CHECK(s == MRC_ERR_NUMERIC && strstr(mrc_ctx_message(r.ctx), "not finite"), "%s: status "
              "%d, %s", t->name, (int)s, mrc_ctx_message(r.ctx));
        *value = old;
        mrc_ctx_clear_error(r.ctx);
        check_disk(1, t->name);
    }
    must(&r, run_save(&r, 2), "save");
    check_disk(2, "finite again");
    run_free(&r);
}

//
// Readers: each with its k-th allocation or system call failing
//
// One reading of `path` is a digest of what was read.
typedef struct reading {
    mrc_ctx    *ctx;
    const char *path;
    uint32_t    crc;
} reading;

static void digest(reading *r, const void *data, size_t bytes) {
    r->crc = mrc_crc32c(r->crc, data, bytes);
}
static void digest_text(reading *r, const char *text) { digest(r, text, strlen(text) + 1); }

static void digest_tree(reading *r, const mrc_json *j) {
    digest(r, &j->type, sizeof j->type);
    if (j->type == MRC_JSON_NUMBER) digest(r, &j->number, sizeof j->number);
    if (j->type == MRC_JSON_STRING) digest(r, j->string, j->bytes);
    for (const mrc_json *c = j->child; c; c = c->next) {
        digest(r, c->key, c->key ? c->key_bytes : 0);
        digest_tree(r, c);
    }
}

static mrc_status read_json(reading *r) {
    mrc_json *j;
    MRC__TRY(mrc_json_load(r->ctx, &j, r->path));
    mrc_status s = mrc_json_unique_keys(r->ctx, j, r->path);
    digest_tree(r, j);
    mrc_json_free(j);
    return s;
}

static mrc_status read_yaml(reading *r) {
    mrc_json *j = NULL;
    MRC__TRY(yaml_load(r->ctx, &j, r->path));
    digest_tree(r, j);
    yaml_free(j);
    return MRC_OK;
}

static mrc_status read_tokenizer(reading *r) {
    static const char text[] = "the reader's caf\xC3\xA9, 19 <mask>", pair[] = "who reads?";
    mrc_tokenizer *tok;
    mrc_encodings out = {0};
    MRC__TRY(mrc_tokenizer_load(r->ctx, &tok, r->path));
    mrc_status s = mrc_tokenizer_encode(r->ctx, tok, &out, text, sizeof text - 1, pair,
                                        sizeof pair - 1, NULL);
    for (size_t i = 0; s == MRC_OK && i < out.n; i++) {
        digest(r, out.list[i].input_ids, out.list[i].n * sizeof *out.list[i].input_ids);
    }
    mrc_encodings_free(&out);
    mrc_tokenizer_free(tok);
    return s;
}

static mrc_status read_weights(reading *r) {
    mrc_weights *st;
    const mrc_st_entry *e;
    mrc_status s = MRC_OK;
    uint32_t crc = 0;
    MRC__TRY(mrc_weights_open(r->ctx, &st, r->path));
    for (size_t i = 0; s == MRC_OK && (e = mrc_weights_at(st, i)) != NULL; i++) {
        float *values = calloc((size_t)e->numel + 1, sizeof *values);
        s = values ? mrc_weights_read(st, e, MRC_DTYPE_F32, values) : MRC_ERR_MEM;
        if (s == MRC_OK) s = mrc_weights_crc32c(st, e, &crc);
        if (s == MRC_OK) s = mrc_weights_bytes(st, e, values);
        digest_text(r, e->name);
        digest(r, &crc, sizeof crc);
        free(values);
    }
    mrc_weights_close(st);
    return s;
}

static mrc_status read_dataset(reading *r) {
    mrc_dataset *d, *questions = NULL;
    MRC__TRY(mrc_dataset_load(r->ctx, &d, r->path));
    mrc_status s = mrc_dataset_load_questions(r->ctx, &questions, r->path);
    for (size_t i = 0; s == MRC_OK && i < mrc_dataset_size(d); i++) {
        const mrc_example *e = mrc_dataset_at(d, i);
        digest_text(r, e->id);
        digest_text(r, e->context);
        for (size_t k = 0; k < e->n_answers; k++) digest_text(r, e->answers[k].text);
    }
    mrc_dataset_free(questions);
    mrc_dataset_free(d);
    return s;
}

static mrc_status read_passages(reading *r) {
    mrc_passages *p;
    MRC__TRY(mrc_passages_load(r->ctx, &p, r->path, NULL));
    for (size_t i = 0; i < mrc_passages_size(p); i++) {
        const mrc_passage *x = mrc_passages_at(p, i);
        digest_text(r, x->id);
        digest_text(r, x->title);
        digest(r, x->text, x->text_bytes);
    }
    mrc_passages_free(p);
    return MRC_OK;
}

static const char tokenizer_dir[] = "tests/fixtures/tokenizer/uncased";

// Makes an index of each kind in the folder.
static mrc_status make_index(reading *r, mrc_analyzer analyzer) {
    mrc_passages *p;
    char from[512], to[8192], file[8300];
    uint64_t bytes;
    snprintf(from, sizeof from, "%s/p.tsv", root);
    snprintf(to, sizeof to, "%s/new%d", r->path, (int)analyzer);
    snprintf(file, sizeof file, "%s/index.bin", to);
    MRC__TRY(mrc_passages_load(r->ctx, &p, from, NULL));
    mrc_index_desc desc = { .passages = p, .analyzer = analyzer, .threads = 1 };
    if (analyzer == MRC_ANALYZER_WORDPIECE) desc.tokenizer = tokenizer_dir;
    mrc_status s = mrc_index_new(r->ctx, to, &desc);
    mrc_passages_free(p);
    return s == MRC_OK ? mrc_file_crc32c(r->ctx, file, &r->crc, &bytes) : s;
}
static mrc_status make_korean(reading *r) { return make_index(r, MRC_ANALYZER_KOREAN); }
static mrc_status make_pieces(reading *r) { return make_index(r, MRC_ANALYZER_WORDPIECE); }

static mrc_status use_index(reading *r, mrc_index *ix) {
    const mrc_query query = { "the king of a city", 18 };
    mrc_search_config config = mrc_search_config_default(MRC_BM25_OKAPI);
    mrc_searcher *searcher;
    mrc_passage x = {0};
    mrc_text room;
    mrc_hit hits[4];
    size_t n = 0;
    MRC__TRY(mrc_index_check(ix));
    mrc_text_init(&room, r->ctx);
    mrc_status s = mrc_index_passage(ix, 1, &room, &x);
    if (s == MRC_OK) digest(r, x.text, x.text_bytes);
    mrc_text_free(&room);
    MRC__TRY(s);
    config.threads = 1;
    MRC__TRY(mrc_searcher_new(r->ctx, &searcher, ix, &config));
    s = mrc_search(searcher, &query, 1, 4, hits, &n);
    for (size_t i = 0; s == MRC_OK && i < n; i++) digest(r, &hits[i].passage, 4);
    mrc_searcher_free(searcher);
    return s;
}
static mrc_status read_index(reading *r) {
    mrc_index *ix;
    MRC__TRY(mrc_index_open(r->ctx, &ix, r->path));
    mrc_status s = use_index(r, ix);
    mrc_index_close(ix);
    return s;
}

static mrc_status read_config(reading *r) {
    mrc_model_config c;
    MRC__TRY(mrc_model_config_load(r->ctx, &c, r->path));
    digest(r, &c.vocab_size, sizeof c.vocab_size);
    digest(r, &c.hidden_size, sizeof c.hidden_size);
    return MRC_OK;
}

static mrc_status read_model(reading *r) {
    mrc_model *m;
    MRC__TRY(mrc_model_load(r->ctx, &m, &(mrc_model_load_desc){ .path = r->path, .seed = 5 }));
    r->crc = crc_of(m->params);
    mrc_model_free(m);
    return MRC_OK;
}

static mrc_status read_moments(reading *r, mrc_model *m, const char *from) {
    char path[8192 + 32];               // of a folder in 8192 bytes
    mrc_optimizer *o;
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    snprintf(path, sizeof path, "%s/optimizer.safetensors", from);
    MRC__TRY(mrc_optimizer_new(r->ctx, &o, m->params, &oc));
    mrc_status s = mrc_optimizer_load(r->ctx, o, path);
    if (s == MRC_OK) r->crc ^= crc_of(o->exp_avg) * 3 ^ crc_of(o->exp_avg_sq) * 5;
    mrc_optimizer_free(o);
    return s;
}
// The newest one that is whole, and all that is in it.
static mrc_status read_checkpoint(reading *r) {
    char path[8192];
    mrc_model *m;
    MRC__TRY(mrc_checkpoint_find(r->ctx, r->path, path, sizeof path));
    if (!path[0]) return mrc__fail(r->ctx, MRC_ERR_IO, "%s: none is whole", r->path);
    MRC__TRY(mrc_checkpoint_check(r->ctx, path));
    MRC__TRY(mrc_model_load(r->ctx, &m, &(mrc_model_load_desc){ .path = path, .seed = 5 }));
    r->crc = crc_of(m->params);
    mrc_status s = read_moments(r, m, path);
    mrc_model_free(m);
    return s;
}

// A model's folder again, two checkpoints in it, of which the newer stays.
static mrc_status write_checkpoints(reading *r, const char *to, mrc_model *m) {
    mrc_optimizer *o;
    mrc_optimizer_config oc = mrc_optimizer_config_default();
    MRC__TRY(mrc_optimizer_new(r->ctx, &o, m->params, &oc));
    mrc_status s = mrc_checkpoint_save(r->ctx, to, 1, m, model_dir, o, "{}");
    if (s == MRC_OK) s = mrc_checkpoint_save(r->ctx, to, 2, m, NULL, o, "{\"a\": 1}");
    if (s == MRC_OK) s = mrc_checkpoint_prune(r->ctx, to, 1);
    mrc_optimizer_free(o);
    return s;
}
static mrc_status write_model(reading *r) {
    mrc_model *m;
    char to[8192];
    snprintf(to, sizeof to, "%s/saved", r->path);
    MRC__TRY(mrc_model_load(r->ctx, &m, &(mrc_model_load_desc){ .path = model_dir, .seed = 5 }));
    mrc_status s = mrc_model_save(r->ctx, m, to, model_dir);
    if (s == MRC_OK) s = write_checkpoints(r, to, m);
    mrc_model_free(m);
    return s;
}

static mrc_status read_manifest(reading *r) { return mrc_checkpoint_check(r->ctx, r->path); }

// Paths below the folder of this run, or of the repository.
typedef struct reader { mrc_status (*fn)(reading *r); const char *path; } reader;
static const reader readers[] = {
    { read_json, "rich.json" }, { read_yaml, "rich.yaml" },
    { read_tokenizer, "tests/fixtures/tokenizer/bytes" },
    { read_tokenizer, "tests/fixtures/tokenizer/cased" },
    { read_tokenizer, "tests/fixtures/tokenizer/prefix" },
    { read_tokenizer, "tests/fixtures/tokenizer/uncased" },
    { read_weights, "model/model.safetensors" }, { read_weights, "zip.pt" },
    { read_weights, "wide.pt" }, { read_weights, "old.pt" }, { read_weights, "shards" },
    { read_dataset, "data.jsonl" }, { read_dataset, "squad.json" },
    { read_dataset, "tests/fixtures/small.arrow" }, { read_dataset, "split" },
    { read_passages, "p.tsv" }, { read_passages, "p.jsonl" }, { read_passages, "p.json" },
    { read_passages, "by_id.json" },
    { make_korean, "" }, { make_pieces, "" }, { read_index, "new1" }, { read_index, "new3" },
    { read_config, "model" }, { read_model, "model" }, { read_model, "shards" },
    { read_checkpoint, "out" }, { write_model, "" },
};

// The file of each that is damaged, all of its bytes or its JSON values; repair: a checkpoint's
// checksum of its state is made right again.
static const struct { reader reader; const char *file; int by_bytes, repair; } damaged_files[] = {
    { { read_json, "rich.json" }, "rich.json", 1, 0 },
    { { read_yaml, "rich.yaml" }, "rich.yaml", 1, 0 },
    { { read_weights, "zip.pt" }, "zip.pt", 1, 0 },
    { { read_weights, "wide.pt" }, "wide.pt", 1, 0 },
    { { read_weights, "old.pt" }, "old.pt", 1, 0 },
    { { read_dataset, "split" }, "split/a.arrow", 1, 0 },
    { { read_dataset, "split" }, "split/state.json", 0, 0 },
    { { read_dataset, "squad.json" }, "squad.json", 0, 0 },
    { { read_dataset, "data.jsonl" }, "data.jsonl", 0, 0 },
    { { read_passages, "p.tsv" }, "p.tsv", 1, 0 },
    { { read_passages, "p.jsonl" }, "p.jsonl", 0, 0 },
    { { read_passages, "by_id.json" }, "by_id.json", 0, 0 },
    { { read_tokenizer, "uncased.json" }, "uncased.json", 0, 0 },
    { { read_tokenizer, "prefix.json" }, "prefix.json", 0, 0 },
    { { read_tokenizer, "cased" }, "cased/tokenizer_config.json", 0, 0 },
    { { read_tokenizer, "cased" }, "cased/special_tokens_map.json", 0, 0 },
    { { read_tokenizer, "cased" }, "cased/vocab.txt", 1, 0 },
    { { read_tokenizer, "bytes" }, "bytes/tokenizer_config.json", 0, 0 },
    { { read_tokenizer, "bytes" }, "bytes/merges.txt", 1, 0 },
    { { read_model, "model" }, "model/config.json", 0, 0 },
    { { read_config, "head" }, "head/config.json", 0, 0 },
    { { read_model, "shards" }, "shards/model.safetensors.index.json", 0, 0 },
    { { read_manifest, "out/checkpoint-1" }, "out/checkpoint-1/trainer_state.json", 0, 1 },
};

static mrc_backend *reading_be;
static size_t deep;                 // slashes too many in each path that is read

static void put_file(run *r, const char *name, const char *data, size_t bytes) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    must(r, mrc_file_write(r->ctx, path, data, bytes), name);
}
static void copy_file(run *r, const char *name, const char *from) {
    char *data;
    size_t bytes;
    must(r, mrc_file_read(r->ctx, &data, &bytes, from), from);
    put_file(r, name, data, bytes);
    mrc_file_free(r->ctx, data);
}

// Small files with something of all that their readers know.
static const struct { const char *name, *text; } reader_files[] = {
    { "rich.json", "{\"a\": [1, -2.5e300, 1e-320, 123456789012345678901234567890, "
      "\"\\u00e9\\ud83d\\ude00\\n\", true, false, null, {}, []], \"b\\t\": {\"c\": \"d\"}, "
      "\"e\": 0}" },
    { "rich.yaml", "# c\na:\n  lr: 1.5e-3\n  big: 123456789012345678901234567890.5\n"
      "  flow: {a: [1, 'it''s', \"x\\u00e9\\n\"], b: null}\n"
      "  list:\n  - 1\n  - x: y\n    z: 0.25\n  - - 0x1f\n    - ~\n"
      "plain: some words\n\"quoted key\": true\n" },
    { "squad.json", "{\"version\": \"1\", \"data\": [{\"title\": \"t\", \"paragraphs\": "
      "[{\"context\": \"a b\", \"qas\": [{\"id\": \"1\", \"question\": \"q\", \"answers\": "
      "[{\"text\": \"b\", \"answer_start\": 2}]}, {\"id\": \"1\", \"question\": \"r\", "
      "\"answers\": [{\"text\": \"c\", \"answer_start\": 2}, {\"text\": \"a\", "
      "\"answer_start\": 0}]}]}]}]}" },
    { "p.tsv", "id\ttext\ttitle\n1\t\"the king of a \"\"city\"\"\n1.\"\tt\n"
      "2\ta \355\225\234\352\265\255\354\235\230 city\n" },
    { "p.jsonl", "{\"id\": \"1\", \"title\": \"t\", \"text\": \"a b\"}\n"
      "{\"_id\": 2, \"contents\": \"c\"}\n" },
    { "p.json", "[{\"document_id\": 1, \"text\": \"a\"}, {\"id\": \"x\", \"context\": \"a\"}]" },
    { "by_id.json", "{\"0\": {\"text\": \"a\", \"document_id\": 7, \"title\": \"t\"}, "
      "\"1\": {\"text\": \"b\"}}" },
    { "split/state.json", "{\"_data_files\": [{\"filename\": \"a.arrow\"}], "
      "\"_indices_data_files\": null, \"_split\": \"train\"}" },
};

// The model's weights in two files and their index, beside its configuration.
static void make_shards(run *r) {
    mrc_text map;
    char path[256];
    mrc_st_tensor list[64];
    size_t n = 0;
    for (mrc_tensor *t; (t = mrc_params_at(r->m->params, n)) != NULL && n < 64; n++) {
        list[n] = (mrc_st_tensor){ .name = t->name, .dtype = "F32", .ndim = t->ndim,
                                   .data = t->data };
        for (int d = 0; d < t->ndim; d++) list[n].shape[d] = t->shape[d];
    }
    mrc_text_init(&map, r->ctx);
    mrc_text_printf(&map, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (size_t i = 0; i < n; i++) {
        mrc_text_printf(&map, "%s\"%s\": \"%c.safetensors\"", i ? ", " : "", list[i].name,
                        i < n / 2 ? 'a' : 'b');
    }
    mrc_text_printf(&map, "}}");
    put_file(r, "shards/model.safetensors.index.json", map.data, map.bytes);
    mrc_text_free(&map);
    for (int b = 0; b < 2; b++) {
        snprintf(path, sizeof path, "%s/shards/%c.safetensors", root, 'a' + b);
        must(r, mrc_safetensors_write(r->ctx, path, b ? list + n / 2 : list,
                                      b ? n - n / 2 : n / 2, NULL), path);
    }
    char config[512];
    snprintf(config, sizeof config, "%s/config.json", model_dir);
    copy_file(r, "shards/config.json", config);
}

// A model whose configuration says all of its head and its padding.
static void make_head(run *r) {
    char path[256];
    mrc_model *m;
    mrc_model_config c = r->m->config;
    c.head = MRC_HEAD_BILSTM, c.head_hidden_size = 4, c.num_head_layers = 1;
    c.pad_to_max_length = 1;
    snprintf(path, sizeof path, "%s/head", root);
    must(r, mrc_model_new(r->ctx, &m, &c, MRC_DTYPE_F32, 3), "model");
    must(r, mrc_model_save(r->ctx, m, path, NULL), path);
    mrc_model_free(m);
}

// A whole checkpoint of step 1 and a damaged one of step 2, which is passed over.
static void make_checkpoints(void) {
    char path[512];
    run r;
    save_one();
    must(&r, run_load(&r, model_dir, plain), "load");
    must(&r, run_save(&r, 2), "save");
    snprintf(path, sizeof path, "%s/checkpoint-2/config.json", out_dir);
    must(&r, mrc_file_write(r.ctx, path, "{}", 2), path);
    run_free(&r);
}

static void make_readers(void) {
    static const char *const folders[] = { "split", "shards", "cased", "bytes" };
    static const char *const copies[][2] = {
        { "split/a.arrow", "types.arrow" }, { "uncased.json", "tokenizer/uncased/tokenizer.json" },
        { "prefix.json", "tokenizer/prefix/tokenizer.json" },
        { "cased/vocab.txt", "tokenizer/cased/vocab.txt" },
        { "cased/tokenizer_config.json", "tokenizer/cased/tokenizer_config.json" },
        { "cased/special_tokens_map.json", "tokenizer/cased/special_tokens_map.json" },
        { "bytes/vocab.json", "tokenizer/bytes/vocab.json" },
        { "bytes/merges.txt", "tokenizer/bytes/merges.txt" },
        { "bytes/tokenizer_config.json", "tokenizer/bytes/tokenizer_config.json" },
    };
    static const char object[] = KEY("b") "](K\1NG\0\0\0\0\0\0\0\0e" KEY("c") PARAMETER "h\0\210"
                                 ODICT "tR" KEY("d") "}K\1Ns";
    static pickle b;
    char path[256];
    run r;
    must(&r, run_load(&r, model_dir, plain), "load");
    for (int i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", root, folders[i]);
        must(&r, mrc_dir_new(r.ctx, path), path);
    }
    for (size_t i = 0; i < sizeof reader_files / sizeof *reader_files; i++) {
        put_file(&r, reader_files[i].name, reader_files[i].text, strlen(reader_files[i].text));
    }
    for (size_t i = 0; i < sizeof copies / sizeof *copies; i++) {
        snprintf(path, sizeof path, "tests/fixtures/%s", copies[i][1]);
        copy_file(&r, copies[i][0], path);
    }
    pickle_file(&b, object, sizeof object - 1);
    put_file(&r, "old.pt", b.data, b.n);
    zip_file(&b, KEY("b") "](K\1Ne", sizeof KEY("b") "](K\1Ne" - 1, 0);
    put_file(&r, "zip.pt", b.data, b.n);
    zip_file(&b, "", 0, 1);
    put_file(&r, "wide.pt", b.data, b.n);
    make_shards(&r);
    make_head(&r);
    run_free(&r);
    make_checkpoints();
    must(&r, mrc_backend_naive_new(&reading_be, NULL), "backend");
}

// Whether an error begins with a file or folder that is read here, or one above it.
static int is_of_file(const char *message) {
    size_t n = strcspn(message, ":"), most = strlen(root);
    return n && (!strncmp(message, root, n < most ? n : most) || !strncmp(message, "tests/", 6));
}

// Reads with the at-th allocation failing (0: none); faults of calls are the caller's to arm.
static mrc_status read_once(const reader *of, failing *f, uint32_t *crc, char *message,
                            size_t room) {
    char path[8192];
    const mrc_ctx_desc desc = { .allocator = { failing_alloc, failing_free, f },
                                .backend = reading_be };
    const failing wanted = *f;
    int lowest = dup(1), armed = fault.armed;
    reading r = { .path = of->path };
    close(lowest);
    if (strncmp(r.path, "tests/", 6)) {
        size_t n = (size_t)snprintf(path, sizeof path, "%s", root);
        for (size_t i = 0; i < deep; i++) path[n++] = '/';
        snprintf(path + n, sizeof path - n, "%s%s", *r.path ? "/" : "", r.path);
        r.path = path;
    }
    fault.armed = 0;
    *f = (failing){0};
    if (mrc_ctx_new(&r.ctx, &desc) != MRC_OK) exit(1);
    f->n = 0, f->at = wanted.at, f->on = wanted.on;
    fault.armed = armed;
    mrc_status s = of->fn(&r);
    fault.armed = 0;
    *crc = r.crc;
    snprintf(message, room, "%.500s", mrc_ctx_message(r.ctx));
    int clear = s == MRC_ERR_MEM ? strstr(message, "memory") || strstr(message, ": no ")
                                 : is_of_file(message);
    CHECK(s == MRC_OK || clear, "%s: status %d, \"%s\"", r.path, (int)s, message);
    mrc_ctx_free(r.ctx);
    int now = dup(1);
    close(now);
    CHECK(f->live == 0 && now == lowest, "%s: %ld allocations left, descriptor %d was %d", r.path,
          f->live, now, lowest);
    return s;
}

static void test_reader_memory(size_t i, size_t n, uint32_t want) {
    char message[512];
    uint32_t crc;
    for (size_t at = 1; at <= n; at++) {
        for (int on = 0; on < 2; on++) {
            failing f = { .at = at, .on = on };
            mrc_status s = read_once(&readers[i], &f, &crc, message, sizeof message);
            CHECK(s == MRC_OK ? crc == want : s == MRC_ERR_MEM, "%s: allocation %zu of %zu fails: "
                  "status %d, %s", readers[i].path, at, n, (int)s, message);
        }
    }
}

// The usual run has each call fail in a quarter of the ways.
static void test_reader_calls(size_t i, long n, uint32_t want) {
    char message[512];
    uint32_t crc;
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++) {
        for (long at = 1; at <= n; at++) {
            for (int on = 0; on < 2; on++) {
                failing f = {0};
                if (!full && (at + (long)k + on) % 4) continue;
                fault_arm(at, faults[k].error, on);
                mrc_status s = read_once(&readers[i], &f, &crc, message, sizeof message);
                CHECK(s == MRC_OK ? crc == want : fault.failed > 0, "%s: call %ld of %ld, %s, %s: "
                      "status %d, %s", readers[i].path, at, n, fault.what ? fault.what : "none",
                      faults[k].name, (int)s, message);
            }
        }
    }
}

static void test_readers(void) {
    char message[512];
    size_t allocations = 0, n = sizeof readers / sizeof *readers;
    long calls = 0;
    make_readers();
    for (size_t i = 0; i < n; i++) {
        uint32_t want;
        failing f = {0};
        fault_arm(0, 0, 0);
        mrc_status s = read_once(&readers[i], &f, &want, message, sizeof message);
        if (!CHECK(s == MRC_OK, "%s: %s", readers[i].path, message)) continue;
        long here = fault.calls;
        calls += here;
        allocations += f.n;
        test_reader_memory(i, f.n, want);
        test_reader_calls(i, here, want);
    }
    printf("%zu readings of %zu allocations and %ld calls\n", n, allocations, calls);
}

// Paths that are just too long, or become so with a name behind: an error, or the right result.
static void test_long_paths(void) {
    size_t n = sizeof readers / sizeof *readers, errors = 0;
    for (size_t i = 0; i < n; i++) {
        char message[512];
        uint32_t want, crc;
        failing f = {0};
        if (!strncmp(readers[i].path, "tests/", 6)) continue;
        mrc_status s = read_once(&readers[i], &f, &want, message, sizeof message);
        CHECK(s == MRC_OK, "%s: %s", readers[i].path, message);
        for (size_t bytes = 4040; bytes < 4100; bytes += 6) {
            deep = bytes - strlen(root);
            s = read_once(&readers[i], &f, &crc, message, sizeof message);
            CHECK(s == MRC_OK ? crc == want : s == MRC_ERR_ARG || s == MRC_ERR_IO, "%s, %zu slashes"
                  ": status %d, %s", readers[i].path, deep, (int)s, message);
            errors += s != MRC_OK;
            deep = 0;
        }
    }
    CHECK(errors > n, "%zu errors", errors);
    printf("%zu readings of paths that are too long\n", errors);
}

//
// Readers: files that are damaged, byte by byte or value by value
//
static char damaged[1 << 14];
static long damages;                // the usual run reads a third of them

// Where the JSON value at `at` ends, or 0 if none begins there.
static size_t value_end(const char *text, size_t n, size_t at) {
    size_t end = at, depth = 0;
    char c = text[at];
    if (c == '"') {
        while (++end < n && text[end] != '"') end += text[end] == '\\';
        return end < n ? end + 1 : 0;
    }
    if (c == '{' || c == '[') {
        for (; end < n; end++) {
            depth += text[end] == '{' || text[end] == '[';
            depth -= text[end] == '}' || text[end] == ']';
            if (!depth) return end + 1;
        }
        return 0;
    }
    while (end < n && text[end] && strchr("+-.0123456789aeflnrstuE", text[end])) end++;
    return end > at ? end : 0;
}

// Writes the file with `n_with` bytes in the place of those from begin to end, and reads.
static void damage_once(size_t i, const char *path, const char *text, size_t n, size_t begin,
                        size_t end, const char *with, size_t n_with) {
    static const char key[] = "\"state_crc32c\": ";
    char message[512];
    uint32_t crc;
    failing f = {0};
    size_t bytes = n - (end - begin) + n_with;
    if (bytes + 64 > sizeof damaged || (damages++ % 3 && !full)) return;
    memcpy(damaged, text, begin);
    memcpy(damaged + begin, with, n_with);
    memcpy(damaged + begin + n_with, text + end, n - end);
    for (size_t at = bytes; damaged_files[i].repair && at-- > 0;) {
        if (at + sizeof key > bytes || memcmp(damaged + at, key, sizeof key - 1)) continue;
        bytes = at + (size_t)snprintf(damaged + at, 64, "%s%lu}\n", key,
                                      (unsigned long)mrc_crc32c(0, damaged, at));
        break;
    }
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(damaged, 1, bytes, file) != bytes || fclose(file)) exit(1);
    read_once(&damaged_files[i].reader, &f, &crc, message, sizeof message);
}

// In the place of each value, or name, another; each member twice; without it.
static void damage_values(size_t i, const char *path, const char *text, size_t n) {
    static const char *const others[] = { "null", "true", "-1", "0", "3", "1.5", "\"\"", "\"x\"",
                                          "[]", "{}", "[null]", "{\"a\": 1}", "1e99", "\"a/b\"" };
    char twice[1024];
    for (size_t at = 0, end; at < n; at++) {
        if ((at && !strchr(" ,:[{\n\t", text[at - 1])) || !(end = value_end(text, n, at))) continue;
        for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
            damage_once(i, path, text, n, at, end, others[k], strlen(others[k]));
        }
        size_t colon = end + strspn(text + end, " "), value = colon + 1, last;
        if (text[at] != '"' || text[colon] != ':') continue;
        value += strspn(text + value, " ");
        last = value_end(text, n, value);
        if (!last || 2 * (last - at) + 3 > sizeof twice) continue;
        int length = snprintf(twice, sizeof twice, "%.*s, %.*s", (int)(last - at), text + at,
                              (int)(last - at), text + at);
        damage_once(i, path, text, n, at, last, twice, (size_t)length);
        last += text[last] == ',';
        damage_once(i, path, text, n, at, last, "", 0);
    }
}

static void damage_bytes(size_t i, const char *path, const char *text, size_t n) {
    static const unsigned char other[] = { 0x00, 0xff, 0x01, 0x7f, 0x80, 0x03 };
    for (size_t at = 0; at < n; at++) {
        for (size_t k = 0; k < sizeof other; k++) {
            char c = (char)(k < 2 ? other[k] : text[at] ^ other[k]);
            damage_once(i, path, text, n, at, at + 1, &c, 1);
        }
        damage_once(i, path, text, n, at, n, "", 0);
    }
}

static void test_damaged(void) {
    mrc_ctx *files;
    if (!CHECK(mrc_ctx_new(&files, NULL) == MRC_OK, "context")) return;
    for (size_t i = 0; i < sizeof damaged_files / sizeof *damaged_files; i++) {
        char path[512], *text;
        size_t n;
        snprintf(path, sizeof path, "%s/%s", root, damaged_files[i].file);
        if (!CHECK(mrc_file_read(files, &text, &n, path) == MRC_OK, "%s", path)) continue;
        if (damaged_files[i].by_bytes) damage_bytes(i, path, text, n);
        else damage_values(i, path, text, n);
        CHECK(mrc_file_write(files, path, text, n) == MRC_OK, "%s", path);
        mrc_file_free(files, text);
    }
    mrc_ctx_free(files);
    printf("files damaged in %ld ways, %s of which were read\n", damages,
           full ? "all" : "a third");
}

int main(void) {
    const char *tmp = getenv("TMPDIR"), *mode = getenv("MRC_FAULTS");
    full = mode && !strcmp(mode, "full");
    // In memory where that can be: thousands of files are synced.
    if (!tmp) tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(root, sizeof root, "%s/mrc-faults-XXXXXX", tmp);
    if (!mkdtemp(root)) return 1;
    snprintf(data_file, sizeof data_file, "%s/data.jsonl", root);
    snprintf(model_dir, sizeof model_dir, "%s/model", root);
    snprintf(out_dir, sizeof out_dir, "%s/out", root);
    make_files();
    test_memory();
    test_load_calls();
    test_cut_files();
    test_save_calls();
    test_kills(2);
    test_kills(1);
    test_full_disk();
    test_power_loss();
    test_nan();
    test_save_nan();
    test_readers();
    test_long_paths();
    test_damaged();
    mrc_backend_free(reading_be);
    mrc_ctx *ctx;
    if (mrc_ctx_new(&ctx, NULL) == MRC_OK) mrc_dir_remove(ctx, root);
    mrc_ctx_free(ctx);
    return test_end();
}
