// The safetensors reader and writer: every rule of RELIABILITY 3.1, conversions, round trips.
#include "../support/backends.h"
#include "../support/cases.h"

static mrc_ctx *st_ctx(void) {
    mrc_ctx *ctx = NULL;
    CHECK(mrc_ctx_new(&ctx, &(mrc_ctx_desc){0}) == MRC_OK, "context");
    return ctx;
}

// The manifest: file, verdict of the strict rules, reason.
static void test_manifest(mrc_ctx *ctx) {
    char folder[512], path[1024];
    size_t n_ok = 0, n_bad = 0;
    mrc_weights *st;
    char *text = cases_manifest(ctx, folder, sizeof folder, "cases/safetensors");
    char *rest = text, *line;
    if (!text) return;
    cases_line(&rest);
    while ((line = cases_line(&rest)) != NULL) {
        const char *file = cases_field(&line), *verdict = cases_field(&line);
        const char *reason = cases_field(&line);
        int ok = !strcmp(verdict, "ok");
        snprintf(path, sizeof path, "%s/%s", folder, file);
        mrc_status s = mrc_safetensors_open(ctx, &st, path);
        CHECK(s == (ok ? MRC_OK : MRC_ERR_FORMAT), "%s is %s (%s): %s", file, verdict, reason,
              mrc_ctx_message(ctx));
        CHECK(ok || (!st && strstr(mrc_ctx_message(ctx), file)), "%s: %s", file,
              mrc_ctx_message(ctx));
        mrc_weights_close(st);
        mrc_ctx_clear_error(ctx);
        if (ok) n_ok++;
        else n_bad++;
    }
    CHECK(n_ok == 30 && n_bad == 118, "%zu good files and %zu bad", n_ok, n_bad);
    mrc_file_free(ctx, text);
}

// Files that other programs wrote: each opens, each tensor reads.
static void test_foreign(mrc_ctx *ctx) {
    static const char *const files[] = {
        "burn/examples_import-model-weights_weights_mnist.safetensors",
        "burn/crates_burn-store_safetensors-tests_tests_multi_layer_multi_layer.safetensors",
        "candle/candle-examples_examples_csm_voices.safetensors",
        "candle/candle-examples_examples_encodec_jfk-codes.safetensors",
    };
    char folder[512], path[1024];
    const mrc_st_entry *e;
    if (!cases_find(folder, sizeof folder, "cases/torch_real")) return;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        mrc_weights *st;
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        if (!CHECK(mrc_safetensors_open(ctx, &st, path) == MRC_OK, "%s", mrc_ctx_message(ctx))) {
            mrc_ctx_clear_error(ctx);
            continue;
        }
        for (size_t k = 0; (e = mrc_weights_at(st, k)) != NULL; k++) {
            double *values = malloc((size_t)e->numel * 8 + 8);
            mrc_status s = mrc_weights_read(st, e, MRC_DTYPE_F64, values);
            CHECK(s == MRC_OK || s == MRC_ERR_UNSUPPORTED, "%s", mrc_ctx_message(ctx));
            CHECK(mrc_weights_find(st, e->name) == e, "find %s", e->name);
            mrc_ctx_clear_error(ctx);
            free(values);
        }
        mrc_weights_close(st);
    }
}

// A file with any header before the data, the length field added.
static void write_raw(mrc_ctx *ctx, const char *path, const char *header, const void *data,
                      size_t bytes) {
    mrc_file_writer *w = NULL;
    unsigned char length[8] = {0};
    for (int i = 0; i < 4; i++) length[i] = (unsigned char)(strlen(header) >> 8 * i);
    CHECK(mrc_file_writer_new(ctx, &w, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_file_writer_add(w, length, 8);
    mrc_file_writer_add(w, header, strlen(header));
    mrc_file_writer_add(w, data, bytes);
    CHECK(mrc_file_writer_commit(w) == MRC_OK, "%s", mrc_ctx_message(ctx));
}

// Messages name the file, the tensor and both numbers.
static void test_messages(mrc_ctx *ctx, const char *path) {
    static const struct { const char *header, *message; } cases[] = {
        { "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}",
          ":1:2: \"x\" has data_offsets 0 to 4, its shape and dtype need 8 bytes" },
        { "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
          ": \"x\" begins at data byte 4, expected 0" },
        { "{\"x\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,12]}}",
          ": holds 8 bytes of data, its tensors need 12" },
        { "{\"x\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}",
          ":1:30: 1.0 is no integer of 0 to 2^64 - 1" },
        { "{\"x\":{\"dtype\":\"F32\",\"sh\":[2]}}", ":1:21: unknown field in a tensor's entry" },
        { "{\"x\":{\"dtype\":\"F32\"}}", ":1:2: \"x\" has no shape" },
        { "{\"x\":{\"dtype\":\"F32\",\"\\u0064type\":\"F32\"}}", ":1:21: a second \"dtype\"" },
        { "{\"__metadat\\u0061__\":{\"a\":1}}", ":1:27: expected a string, found a number" },
        { "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
          "\"\\u0078\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[8,8]}}",
          ": two tensors named \"x\"" },
    };
    char expected[1024];
    mrc_weights *st;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_raw(ctx, path, cases[i].header, "12345678", 8);
        CHECK(mrc_safetensors_open(ctx, &st, path) == MRC_ERR_FORMAT, "%s", cases[i].header);
        snprintf(expected, sizeof expected, "%s%s", path, cases[i].message);
        CHECK(!strcmp(mrc_ctx_message(ctx), expected), "got %s, expected %s", mrc_ctx_message(ctx),
              expected);
        mrc_ctx_clear_error(ctx);
    }
    // A dtype is what its text means, however that is written.
    write_raw(ctx, path, "{\"x\":{\"dtype\":\"\\u0046\\u00332\",\"shape\":[2],"
              "\"data_offsets\":[0,8]}}", "12345678", 8);
    CHECK(mrc_safetensors_open(ctx, &st, path) == MRC_OK
          && !strcmp(mrc_weights_at(st, 0)->dtype, "F32"), "%s", mrc_ctx_message(ctx));
    mrc_weights_close(st);
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_safetensors_open(ctx, &st, "/no/such/file") == MRC_ERR_ARG && !st, "missing file");
    mrc_ctx_clear_error(ctx);
}

// Every half precision value, against its definition; bfloat16 is the upper half of a float.
static void test_halves(mrc_ctx *ctx, const char *path) {
    enum { N = 65536 };
    uint16_t *bits = malloc(2 * N * sizeof *bits);
    float *f32 = malloc(N * sizeof *f32);
    double *f64 = malloc(N * sizeof *f64);
    mrc_weights *st;
    size_t bad = 0;
    for (size_t i = 0; i < N; i++) bits[i] = bits[N + i] = (uint16_t)i;
    write_raw(ctx, path,
              "{\"h\":{\"dtype\":\"F16\",\"shape\":[65536],\"data_offsets\":[0,131072]},"
              "\"b\":{\"dtype\":\"BF16\",\"shape\":[65536],\"data_offsets\":[131072,262144]}}",
              bits, 2 * N * sizeof *bits);
    if (!CHECK(mrc_safetensors_open(ctx, &st, path) == MRC_OK, "%s", mrc_ctx_message(ctx))) return;
    mrc_weights_read(st, mrc_weights_find(st, "h"), MRC_DTYPE_F32, f32);
    mrc_weights_read(st, mrc_weights_find(st, "h"), MRC_DTYPE_F64, f64);
    for (int i = 0; i < N; i++) {
        int e = i >> 10 & 31, m = i & 1023;
        double x = (e ? 1 + m / 1024.0 : m / 512.0) * pow(2, e - 15) * (i & 0x8000 ? -1 : 1);
        if (e == 31) x = m ? (double)NAN : (i & 0x8000 ? -HUGE_VAL : HUGE_VAL);
        bad += isnan(x) ? !isnan(f32[i]) || !isnan(f64[i])
                        : (double)f32[i] != x || f64[i] != x || signbit(x) != signbit(f64[i]);
    }
    CHECK(bad == 0, "%zu of F16 read wrongly", bad);
    CHECK(mrc_weights_read(st, mrc_weights_find(st, "b"), MRC_DTYPE_F32, f32) == MRC_OK,
          "%s", mrc_ctx_message(ctx));
    for (uint32_t i = 0; i < N; i++) {
        uint32_t want = i << 16, got;
        memcpy(&got, &f32[i], 4);
        bad += got != want && !isnan(f32[i]);   // a quiet NaN may stand for a signalling one
    }
    CHECK(bad == 0, "%zu of BF16 read wrongly", bad);
    CHECK(mrc_weights_read(st, mrc_weights_find(st, "b"), MRC_DTYPE_I32, f64)
          == MRC_ERR_UNSUPPORTED, "BF16 is no integer");
    mrc_ctx_clear_error(ctx);
    mrc_weights_close(st);
    free(bits);
    free(f32);
    free(f64);
}

static mrc_status read_one(mrc_ctx *ctx, const char *path, const char *dtype, const void *value,
                           mrc_dtype to, void *out) {
    mrc_weights *st;
    mrc_st_tensor t = { .name = "v", .dtype = dtype, .data = value };
    if (mrc_safetensors_write(ctx, path, &t, 1, NULL) != MRC_OK) return ctx->status;
    if (mrc_safetensors_open(ctx, &st, path) != MRC_OK) return ctx->status;
    mrc_status s = mrc_weights_read(st, mrc_weights_find(st, "v"), to, out);
    mrc_weights_close(st);
    mrc_ctx_clear_error(ctx);
    return s;
}

// What a target cannot hold is refused, what it can arrives.
static void test_ranges(mrc_ctx *ctx, const char *path) {
    static const struct { int64_t value; mrc_dtype to; int fits; } integers[] = {
        { INT32_MAX, MRC_DTYPE_I32, 1 }, { INT32_MIN, MRC_DTYPE_I32, 1 },
        { (int64_t)INT32_MAX + 1, MRC_DTYPE_I32, 0 }, { (int64_t)INT32_MIN - 1, MRC_DTYPE_I32, 0 },
        { INT64_MIN, MRC_DTYPE_I32, 0 }, { 1 << 24, MRC_DTYPE_F32, 1 },
        { -(1 << 24) - 1, MRC_DTYPE_F32, 0 }, { (int64_t)1 << 53, MRC_DTYPE_F64, 1 },
        { ((int64_t)1 << 53) + 1, MRC_DTYPE_F64, 0 }, { INT64_MIN, MRC_DTYPE_F64, 0 },
    };
    static const struct { double value; int fits; } reals[] = {
        { 0.1, 1 }, { 3.4028234663852886e38, 1 }, { 3.4028235677973362e38, 1 },
        { 3.4028235677973366e38, 0 }, { -1e300, 0 }, { HUGE_VAL, 1 }, { 1e-60, 1 },
    };
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        union { int32_t i32; float f32; double f64; } out = { .f64 = 0 };
        mrc_dtype to = integers[i].to;
        mrc_status s = read_one(ctx, path, "I64", &integers[i].value, to, &out);
        CHECK(s == (integers[i].fits ? MRC_OK : MRC_ERR_NUMERIC), "I64 %zu: %d", i, (int)s);
        double got = to == MRC_DTYPE_I32 ? out.i32
                   : to == MRC_DTYPE_F32 ? (double)out.f32 : out.f64;
        CHECK(s != MRC_OK || got == (double)integers[i].value, "I64 %zu: %.17g", i, got);
    }
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        float out = 0;
        mrc_status s = read_one(ctx, path, "F64", &reals[i].value, MRC_DTYPE_F32, &out);
        CHECK(s == (reals[i].fits ? MRC_OK : MRC_ERR_NUMERIC), "F64 %zu: %d", i, (int)s);
        CHECK(s != MRC_OK || out == (float)reals[i].value, "F64 %zu: %.9g", i, (double)out);
    }
    int32_t value = -7, back = 0;
    CHECK(read_one(ctx, path, "I32", &value, MRC_DTYPE_I32, &back) == MRC_OK && back == -7,
          "I32 as I32");
}

// Three tensors; one comes in pieces and is larger than a piece.
enum { FILLED = 100003 };
typedef struct filling { uint64_t next; size_t calls, fail_at; } filling;

static mrc_status fill_rising(mrc_ctx *ctx, void *user, uint64_t offset, void *dst, size_t bytes) {
    filling *f = user;
    (void)ctx;
    if (++f->calls == f->fail_at) return MRC_ERR_NUMERIC;
    if (offset != f->next || offset % 8 || bytes % 8) return MRC_ERR_ARG;
    for (size_t i = 0; i < bytes / 8; i++) {
        double x = (double)(offset / 8 + i) + 0.5;
        memcpy((char *)dst + i * 8, &x, 8);
    }
    f->next += bytes;
    return MRC_OK;
}

static const float round_f32[6] = { 1, -2.5f, 3, 4, 5, 6 };
static const int64_t round_i64[2] = { -5, 1LL << 40 };

static mrc_status write_three(mrc_ctx *ctx, const char *path, filling *f) {
    const mrc_st_tensor list[] = {
        { .name = "b.\"\xED\x95\x9C", .dtype = "F32", .ndim = 2, .shape = { 2, 3 },
          .data = round_f32 },
        { .name = "z", .dtype = "F64", .ndim = 1, .shape = { FILLED }, .fill = fill_rising,
          .user = f },
        { .name = "a", .dtype = "F32", .ndim = 2, .shape = { 0, 7 } },
        { .name = "step", .dtype = "I64", .ndim = 1, .shape = { 2 }, .data = round_i64 },
    };
    static const char *const metadata[] = { "step", "12", "note", "a \"b\"\n", NULL };
    return mrc_safetensors_write(ctx, path, list, 4, metadata);
}

static void test_round_trip(mrc_ctx *ctx, const char *path) {
    static const char *const order[] = { "step", "z", "a", "b.\"\xED\x95\x9C" };
    filling f = {0};
    mrc_weights *st;
    CHECK(write_three(ctx, path, &f) == MRC_OK, "%s", mrc_ctx_message(ctx));
    if (!CHECK(mrc_safetensors_open(ctx, &st, path) == MRC_OK, "%s", mrc_ctx_message(ctx))) return;
    CHECK(st->data_begin % 8 == 0, "data at %llu", (unsigned long long)st->data_begin);
    for (size_t i = 0; i < 4; i++) {
        const mrc_st_entry *e = mrc_weights_at(st, i);
        CHECK(e && !strcmp(e->name, order[i]), "tensor %zu is %s", i, e ? e->name : "absent");
    }
    CHECK(!mrc_weights_at(st, 4) && !mrc_weights_find(st, "c"), "no more");
    const mrc_st_entry *b = mrc_weights_find(st, order[3]), *z = mrc_weights_find(st, "z");
    if (!CHECK(b && z, "found")) return;
    CHECK(b->ndim == 2 && b->shape[0] == 2 && b->shape[1] == 3 && b->numel == 6, "shape");
    float back[6];
    double *wide = malloc(FILLED * sizeof *wide);
    float *narrow = malloc(FILLED * sizeof *narrow);
    CHECK(mrc_weights_read(st, b, MRC_DTYPE_F32, back) == MRC_OK
          && !memcmp(back, round_f32, sizeof back), "f32");
    CHECK(mrc_weights_read(st, b, MRC_DTYPE_F64, wide) == MRC_OK && wide[1] == -2.5,
          "f32 as f64");
    CHECK(mrc_weights_read(st, mrc_weights_find(st, "step"), MRC_DTYPE_F64, wide) == MRC_OK
          && wide[0] == -5 && wide[1] == 0x1p40, "i64");
    CHECK(mrc_weights_read(st, z, MRC_DTYPE_F64, wide) == MRC_OK, "f64");
    CHECK(mrc_weights_read(st, z, MRC_DTYPE_F32, narrow) == MRC_OK, "f64 as f32");
    size_t bad = 0;
    for (size_t i = 0; i < FILLED; i++) {
        bad += wide[i] != (double)i + 0.5 || narrow[i] != (float)wide[i];
    }
    CHECK(bad == 0 && f.calls > 1, "%zu values changed, %zu pieces", bad, f.calls);
    CHECK(mrc_weights_read(st, mrc_weights_find(st, "a"), MRC_DTYPE_F32, NULL) == MRC_OK,
          "an empty tensor");
    const char *format = mrc_weights_meta(st, "format");
    const char *note = mrc_weights_meta(st, "note");
    CHECK(format && !strcmp(format, "pt") && note && !strcmp(note, "a \"b\"\n"), "metadata");
    CHECK(!mrc_weights_meta(st, "none"), "no such key");
    mrc_weights_close(st);
    free(wide);
    free(narrow);
}

// What is not a model is not written, and a failing source leaves the old file and nothing else.
static void test_write_errors(mrc_ctx *ctx, const char *path) {
    static const mrc_st_tensor good = { .name = "x", .dtype = "F32", .data = round_f32 };
    mrc_st_tensor bad[10];
    static const char *const twice[] = { "a", "1", "a", "2", NULL };
    static const char *const format[] = { "format", "tf", NULL };
    static char long_name[65537 + 1];
    uint32_t before = 0, after = 1;
    uint64_t bytes;
    memset(long_name, 'x', 65536);
    for (size_t i = 0; i < 10; i++) bad[i] = good;
    bad[0].name = "";
    bad[1].name = NULL;
    bad[2].name = "__metadata__";
    bad[3].name = "\xFF";
    bad[4].dtype = "f32";
    bad[5].dtype = NULL;
    bad[6].ndim = 9;
    bad[7].ndim = 3;
    bad[7].shape[0] = bad[7].shape[1] = bad[7].shape[2] = (uint64_t)1 << 40;
    bad[8].data = NULL;
    bad[9].name = long_name;
    CHECK(mrc_safetensors_write(ctx, path, &good, 1, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_file_crc32c(ctx, path, &before, &bytes) == MRC_OK, "crc");
    for (size_t i = 0; i < 10; i++) {
        CHECK(mrc_safetensors_write(ctx, path, &bad[i], 1, NULL) == MRC_ERR_ARG, "bad %zu", i);
    }
    const mrc_st_tensor pair[2] = { good, { .name = "x", .dtype = "I64", .data = round_i64 } };
    CHECK(mrc_safetensors_write(ctx, path, pair, 2, NULL) == MRC_ERR_ARG, "one name twice");
    CHECK(mrc_safetensors_write(ctx, path, &good, 1, twice) == MRC_ERR_ARG, "one key twice");
    CHECK(mrc_safetensors_write(ctx, path, &good, 1, format) == MRC_ERR_ARG, "format is given");
    filling f = { .fail_at = 2 };
    mrc_ctx_clear_error(ctx);
    CHECK(write_three(ctx, path, &f) == MRC_ERR_NUMERIC, "a failing source");
    CHECK(strstr(mrc_ctx_message(ctx), "no data for \"z\" at byte 262144"), "%s",
          mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    CHECK(mrc_file_crc32c(ctx, path, &after, &bytes) == MRC_OK && after == before, "old file");
}

// Each byte of a small file changed in three ways: never anything but OK or a clean refusal.
static void test_flips(mrc_ctx *ctx, const char *path) {
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{\"dtype\":\"F16\","
        "\"shape\":[3,1],\"data_offsets\":[0,6]},\"b\":{\"dtype\":\"I32\",\"shape\":[],"
        "\"data_offsets\":[6,10]}} ";
    char file[8 + sizeof header - 1 + 10] = { (char)(sizeof header - 1) };
    size_t accepted = 0, n = sizeof file;
    memcpy(file + 8, header, sizeof header - 1);
    for (size_t i = 0; i < n * 3; i++) {
        static const unsigned char masks[3] = { 1, 0x20, 0x80 };
        mrc_weights *st;
        double out[16];
        file[i / 3] = (char)(file[i / 3] ^ masks[i % 3]);
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        CHECK(fd >= 0 && write(fd, file, n) == (ssize_t)n && close(fd) == 0, "write");
        file[i / 3] = (char)(file[i / 3] ^ masks[i % 3]);
        mrc_status s = mrc_safetensors_open(ctx, &st, path);
        CHECK(s == MRC_OK || s == MRC_ERR_FORMAT, "byte %zu: %s", i / 3, mrc_ctx_message(ctx));
        for (size_t k = 0; s == MRC_OK && mrc_weights_at(st, k); k++) {
            mrc_status r = mrc_weights_read(st, mrc_weights_at(st, k), MRC_DTYPE_F64, out);
            CHECK(r == MRC_OK || r == MRC_ERR_UNSUPPORTED, "read after byte %zu", i / 3);
        }
        accepted += s == MRC_OK;
        mrc_ctx_clear_error(ctx);
        mrc_weights_close(st);
    }
    CHECK(accepted > 30 && accepted < n * 3 / 2, "%zu of %zu accepted", accepted, n * 3);
}

// A file that is cut while it is open: an error, no signal.
static void test_cut_while_open(mrc_ctx *ctx, const char *path) {
    filling f = {0};
    mrc_weights *st;
    CHECK(write_three(ctx, path, &f) == MRC_OK, "%s", mrc_ctx_message(ctx));
    if (!CHECK(mrc_safetensors_open(ctx, &st, path) == MRC_OK, "%s", mrc_ctx_message(ctx))) return;
    double *out = malloc(FILLED * sizeof *out);
    CHECK(truncate(path, 1000) == 0, "truncate");
    CHECK(mrc_weights_read(st, mrc_weights_find(st, "z"), MRC_DTYPE_F64, out) == MRC_ERR_IO,
          "%s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    mrc_weights_close(st);
    free(out);
}

// Whatever allocation fails, reading or writing: MRC_ERR_MEM, nothing stays, no file left over.
static void test_memory(const char *path) {
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        mrc_status s = MRC_ERR_MEM;
        long k = 0;
        for (; s == MRC_ERR_MEM && k < 1000; k++) {
            failing hooks = { .fail_at = k + 1, .from_then_on = from_then_on };
            filling f = {0};
            mrc_ctx *ctx;
            mrc_weights *st = NULL;
            mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .allocator = failing_hooks(&hooks) });
            s = write_three(ctx, path, &f);
            if (s == MRC_OK) s = mrc_safetensors_open(ctx, &st, path);
            CHECK(s == MRC_OK || (s == MRC_ERR_MEM && !st && mrc_ctx_status(ctx) == s),
                  "%ld: %s", k, mrc_ctx_message(ctx));
            mrc_weights_close(st);
            mrc_ctx_free(ctx);
            CHECK(hooks.live == 0, "%ld allocations left after failure %ld", hooks.live, k);
        }
        CHECK(s == MRC_OK && k > 8, "%s after %ld failures", mrc_status_string(s), k);
    }
}

static mrc_status count_names(mrc_ctx *ctx, void *user, const char *name) {
    (void)ctx; (void)name;
    ++*(int *)user;
    return MRC_OK;
}

static void run(void) {
    char folder[64] = "/tmp/mrc_test_st.XXXXXX", path[100];
    mrc_ctx *ctx = st_ctx();
    int names = 0;
    test_manifest(ctx);
    test_foreign(ctx);
    if (CHECK(mkdtemp(folder) != NULL, "a folder for files")) {
        snprintf(path, sizeof path, "%s/x.safetensors", folder);
        test_messages(ctx, path);
        test_halves(ctx, path);
        test_ranges(ctx, path);
        test_round_trip(ctx, path);
        test_write_errors(ctx, path);
        test_flips(ctx, path);
        test_cut_while_open(ctx, path);
        test_memory(path);
        CHECK(mrc_dir_list(ctx, folder, count_names, &names) == MRC_OK && names == 1,
              "%d files in the folder", names);
        CHECK(mrc_dir_remove(ctx, folder) == MRC_OK, "%s", mrc_ctx_message(ctx));
    }
    mrc_ctx_free(ctx);
}

int main(void) {
    cases_on_small_stack(run);
    return test_end();
}
