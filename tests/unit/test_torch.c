// PyTorch's files: the corpora, real files, what their tensors hold, and failing memory.
#define TEST_LINKED
#include "../support/cases.h"

static mrc_ctx *pt_ctx;

// "ok" or "bad": the verdict of the rules; anything but a malformed file is a failure.
static int torch_opens(const char *path, size_t *tensors) {
    mrc_weights *st;
    mrc_ctx_clear_error(pt_ctx);
    mrc_status s = mrc_torch_open(pt_ctx, &st, path);
    *tensors = 0;
    CHECK(s == MRC_OK || (s == MRC_ERR_FORMAT && !st && strstr(mrc_ctx_message(pt_ctx), path)),
          "%s: %s", path, mrc_ctx_message(pt_ctx));
    const mrc_st_entry *e;
    for (; st && (e = mrc_weights_at(st, *tensors)) != NULL; ++*tensors) {
        uint32_t crc;
        CHECK(mrc_weights_crc32c(st, e, &crc) == MRC_OK, "%s", mrc_ctx_message(pt_ctx));
        CHECK(mrc_weights_find(st, e->name) == e, "%s: %s by name", path, e->name);
    }
    mrc_weights_close(st);
    return s == MRC_OK;
}

static void test_manifest(void) {
    char folder[512], path[1024];
    size_t n_ok = 0, n_bad = 0, tensors;
    char *text = cases_manifest(pt_ctx, folder, sizeof folder, "cases/torch"), *rest = text, *line;
    if (!text) return;
    cases_line(&rest);
    while ((line = cases_line(&rest)) != NULL) {
        const char *file = cases_field(&line), *verdict = cases_field(&line);
        const char *reason = cases_field(&line);
        int ok = !strcmp(verdict, "ok");
        snprintf(path, sizeof path, "%s/%s", folder, file);
        CHECK(torch_opens(path, &tensors) == ok, "%s is %s (%s): %s", file, verdict, reason,
              mrc_ctx_message(pt_ctx));
        CHECK(!ok || strtoul(reason + 1, NULL, 10) == tensors, "%s: %zu, %s", file, tensors,
              reason);
        n_ok += ok != 0;
        n_bad += ok == 0;
    }
    CHECK(n_ok == 21 && n_bad == 336, "%zu good files and %zu bad", n_ok, n_bad);
    mrc_file_free(pt_ctx, text);
}

typedef struct folder_run { const char *dir; size_t ok, bad; } folder_run;
static mrc_status folder_file(mrc_ctx *ctx, void *user, const char *name) {
    folder_run *run = user;
    char path[1024];
    size_t tensors, bytes = strlen(name);
    (void)ctx;
    if (strstr(name, "LICENSE") || (bytes > 12 && !strcmp(name + bytes - 12, ".safetensors"))) {
        return MRC_OK;
    }
    snprintf(path, sizeof path, "%s/%s", run->dir, name);
    if (torch_opens(path, &tensors)) run->ok++;
    else run->bad++;
    mrc_ctx_clear_error(pt_ctx);
    return MRC_OK;
}

static void test_folder(const char *below, size_t ok, size_t bad) {
    char folder[512];
    if (!cases_find(folder, sizeof folder, below)) return;
    folder_run run = { .dir = folder };
    mrc_ctx_clear_error(pt_ctx);
    CHECK(mrc_dir_list(pt_ctx, folder, folder_file, &run) == MRC_OK, "%s", below);
    CHECK(run.ok == ok && run.bad == bad, "%s: %zu read, %zu refused", below, run.ok, run.bad);
}

// A transposed and an offset view: elements are gathered, in the order of the shape.
static void test_values(void) {
    char path[1024];
    mrc_weights *st = NULL;
    if (!cases_find(path, sizeof path, "cases/torch_real/candle/candle-core_tests_fortran_tensor_"
                    "3d.pth")) return;
    if (!CHECK(mrc_torch_open(pt_ctx, &st, path) == MRC_OK, "%s", mrc_ctx_message(pt_ctx))) return;
    const mrc_st_entry *e = mrc_weights_at(st, 0);
    double *values = malloc((size_t)e->numel * sizeof *values);
    float *f32 = malloc((size_t)e->numel * sizeof *f32);
    uint32_t crc;
    CHECK(mrc_weights_read(st, e, MRC_DTYPE_F64, values) == MRC_OK, "values");
    CHECK(mrc_weights_read(st, e, MRC_DTYPE_F32, f32) == MRC_OK, "values");
    CHECK(mrc_weights_crc32c(st, e, &crc) == MRC_OK
          && crc == mrc_crc32c(0, f32, (size_t)e->numel * 4), "their checksum");
    CHECK(e->ndim == 3 && e->shape[0] == 2 && e->shape[1] == 3 && e->shape[2] == 4, "2 x 3 x 4");
    for (size_t i = 0; i < e->numel; i++) {
        CHECK(values[i] == (double)(i + 1), "%zu: %g", i, values[i]);
    }
    free(values);
    free(f32);
    mrc_weights_close(st);
}

static size_t pt_left;
static void *pt_alloc(void *user, size_t bytes) {
    (void)user;
    if (pt_left == 0) return NULL;
    pt_left--;
    return malloc(bytes);
}
static void pt_free(void *user, void *p) { (void)user; free(p); }

// The k-th allocation fails: a clear error, nothing lost.
static void test_memory(const char *below) {
    char path[1024];
    mrc_ctx *ctx;
    if (!cases_find(path, sizeof path, below)) return;
    const mrc_ctx_desc desc = { .allocator = { pt_alloc, pt_free, NULL } };
    pt_left = SIZE_MAX;
    if (!CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK, "context")) return;
    mrc_status s = MRC_ERR_MEM;
    size_t k;
    for (k = 0; k < 1000 && s != MRC_OK; k++) {
        mrc_weights *st;
        uint32_t crc;
        pt_left = k;
        s = mrc_torch_open(ctx, &st, path);
        for (size_t i = 0; s == MRC_OK && mrc_weights_at(st, i); i++) {
            s = mrc_weights_crc32c(st, mrc_weights_at(st, i), &crc);
        }
        CHECK(s == MRC_OK || s == MRC_ERR_MEM, "%s, k = %zu: %s", path, k, mrc_ctx_message(ctx));
        mrc_weights_close(st);
        mrc_ctx_clear_error(ctx);
    }
    CHECK(s == MRC_OK && k > 4, "%s: %zu allocations", path, k);
    pt_left = SIZE_MAX;
    mrc_ctx_free(ctx);
}

//------------------------------------------------------------------------------
// Folders and shards
//------------------------------------------------------------------------------
static void write_text(const char *dir, const char *name, const char *text) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK(mrc_file_write(pt_ctx, path, text, strlen(text)) == MRC_OK, "%s", path);
}

static void write_shard(const char *dir, const char *name, const char *tensor, float value) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    const mrc_st_tensor t = { .name = tensor, .dtype = "F32", .ndim = 1, .shape = { 1 },
                              .data = &value };
    CHECK(mrc_safetensors_write(pt_ctx, path, &t, 1, NULL) == MRC_OK, "%s", path);
}

static void test_shards(const char *dir) {
    static const struct { const char *index, *message; } bad[] = {
        { "{}", ":1:1: has no weight_map" }, { "{\"weight_map\": {}}", ":1:1: has no weight_map" },
        { "{\"weight_map\": {\"a\": \"1.safetensors\", \"a\": \"1.safetensors\"}}", "twice" },
        { "{\"weight_map\": {\"a\": \"../1.safetensors\"}}", "not the name of a file beside" },
        { "{\"weight_map\": {\"a\": 1}}", "not the name of a file beside" },
        { "{\"weight_map\": {\"a\": \"1.safetensors\"}}", NULL },
        { "{\"weight_map\": {\"a\": \"2.safetensors\"}}", "\"a\" is not in 2.safetensors" },
        { "{\"weight_map\": {\"b\": \"1.safetensors\", \"a\": \"2.safetensors\"}}", "is not in" },
        { "{\"weight_map\": {\"a\": \"1.safetensors\", \"c\": \"2.safetensors\"}}", "is not in" },
        { "{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"3.safetensors\"}}",
          "3.safetensors" },
        { "{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"same.safetensors\"}}",
          "two tensors named" },
    };
    char path[1024];
    mrc_weights *st;
    float value = 0;
    mrc_ctx_clear_error(pt_ctx);
    CHECK(mrc_weights_open(pt_ctx, &st, dir) == MRC_ERR_ARG && !st
          && strstr(mrc_ctx_message(pt_ctx), "model.safetensors"), "an empty folder: %s",
          mrc_ctx_message(pt_ctx));
    mrc_ctx_clear_error(pt_ctx);
    write_shard(dir, "1.safetensors", "a", 1);
    write_shard(dir, "2.safetensors", "b", 2);
    write_shard(dir, "same.safetensors", "a", 3);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(dir, "model.safetensors.index.json", bad[i].index);
        mrc_status s = mrc_weights_open(pt_ctx, &st, dir);
        CHECK((s == MRC_OK) == !bad[i].message && (s == MRC_OK) == (st != NULL), "%s: %s",
              bad[i].index, mrc_ctx_message(pt_ctx));
        CHECK(!bad[i].message || strstr(mrc_ctx_message(pt_ctx), bad[i].message), "%s: %s",
              bad[i].index, mrc_ctx_message(pt_ctx));
        mrc_weights_close(st);
        mrc_ctx_clear_error(pt_ctx);
    }
    write_text(dir, "model.safetensors.index.json", "{\"metadata\": {\"total_size\": 8}, "
               "\"weight_map\": {\"b\": \"2.safetensors\", \"a\": \"1.safetensors\"}}");
    if (CHECK(mrc_weights_open(pt_ctx, &st, dir) == MRC_OK, "%s", mrc_ctx_message(pt_ctx))) {
        CHECK(mrc_weights_read(st, mrc_weights_find(st, "b"), MRC_DTYPE_F32, &value)
              == MRC_OK && value == 2, "b is %g", (double)value);
        CHECK(!strcmp(mrc_weights_format(st), "safetensors"), "format");
        mrc_weights_close(st);
    }
    // A file that is there decides, even when it is bad: no other one is tried.
    write_text(dir, "model.safetensors", "no");
    CHECK(mrc_weights_open(pt_ctx, &st, dir) == MRC_ERR_FORMAT && !st, "a bad file, then shards");
    mrc_ctx_clear_error(pt_ctx);
    snprintf(path, sizeof path, "%s/odd", dir);
    write_text(dir, "odd", "\x80\x02nothing");
    CHECK(mrc_weights_open(pt_ctx, &st, path) == MRC_ERR_FORMAT
          && strstr(mrc_ctx_message(pt_ctx), "pickle"), "%s", mrc_ctx_message(pt_ctx));
    mrc_ctx_clear_error(pt_ctx);
}

static void run(void) {
    char folder[64] = "/tmp/mrc_test_torch.XXXXXX";
    mrc_weights *st;
    if (!CHECK(mrc_ctx_new(&pt_ctx, NULL) == MRC_OK, "context")) return;
    test_manifest();
    test_folder("cases/torch_real/burn", 55, 1);
    test_folder("cases/torch_real/candle", 3, 0);
    test_folder("cases/pickle_hostile/tests/data", 2, 44);
    test_values();
    test_memory("cases/torch/ok/ok_legacy_tied.pt");
    test_memory("cases/torch/ok/ok_1500_tensors.pt");
    test_memory("cases/torch_real/candle/candle-core_tests_fortran_tensor_3d.pth");
    if (CHECK(mkdtemp(folder) != NULL, "a folder for files")) {
        test_shards(folder);
        CHECK(mrc_dir_remove(pt_ctx, folder) == MRC_OK, "clean up");
    }
    CHECK(mrc_torch_open(pt_ctx, &st, "/no/such/file") == MRC_ERR_ARG && !st, "no file");
    CHECK(mrc_torch_open(pt_ctx, &st, NULL) == MRC_ERR_ARG, "no path");
    CHECK(mrc_torch_open(NULL, &st, "a") == MRC_ERR_ARG, "no context");
    CHECK(mrc_weights_open(pt_ctx, &st, NULL) == MRC_ERR_ARG, "no path");
    CHECK(mrc_weights_open(NULL, &st, "a") == MRC_ERR_ARG, "no context");
    mrc_ctx_free(pt_ctx);
}

int main(void) {
    cases_on_small_stack(run);
    return test_end();
}
