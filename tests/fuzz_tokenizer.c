// Fuzz target: the tokenizer's files and its texts.  The first byte says what the rest is: a
// tokenizer.json, a vocab.txt, vocab.json and merges.txt (a NUL between them), or a text.  What
// loads must encode: ids of the vocabulary, offsets in the text and in order.
#include "fuzz.h"

static char folder[64];

static void put(const char *name, const uint8_t *data, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (f && n) fwrite(data, 1, n, f);
    if (f) fclose(f);
}
static void take(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    remove(path);
}

static void check_text(mrc_ctx *ctx, const mrc_tokenizer *tok, const uint8_t *text, size_t n) {
    mrc_encodings e = {0};
    mrc_encode_options o = { .truncation = MRC_TRUNCATION_ONLY_SECOND, .max_length = 24,
                             .stride = 3 };
    int32_t length = 0;
    uint32_t cp;
    for (size_t at = 0; at < n; length++) at += mrc_utf8_next((const char *)text + at, n - at, &cp);
    mrc_status s = mrc_tokenizer_encode(ctx, tok, &e, "a <b>", 5, (const char *)text, n, &o);
    mrc_ctx_clear_error(ctx);
    for (size_t w = 0; s == MRC_OK && w < e.n; w++) {
        const mrc_encoding *x = &e.list[w];
        int32_t from = 0;
        FUZZ_CHECK(x->n <= 24);
        for (size_t i = 0; i < x->n; i++) {
            FUZZ_CHECK(x->input_ids[i] >= 0 && mrc_tokenizer_token(tok, x->input_ids[i]));
            if (x->sequence_ids[i] != 1) continue;
            FUZZ_CHECK(x->offset_mapping[i][0] <= x->offset_mapping[i][1]);
            FUZZ_CHECK(x->offset_mapping[i][1] <= length && x->offset_mapping[i][1] >= from);
            from = x->word_ids[i] < 0 ? 0 : x->offset_mapping[i][0];
        }
    }
    mrc_encodings_free(&e);
}

static void check_load(mrc_ctx *ctx, const char *path, const uint8_t *text, size_t n) {
    static const char sample[] = "The reader's caf\xC3\xA9 <mask> [MASK] 19  \n\xED\x95\x9C.";
    mrc_tokenizer *tok = NULL;
    mrc_status s = mrc_tokenizer_load(ctx, &tok, path);
    FUZZ_CHECK((s == MRC_OK) == (tok != NULL) && (s == MRC_OK || mrc_ctx_message(ctx)[0]));
    mrc_ctx_clear_error(ctx);
    if (tok) check_text(ctx, tok, (const uint8_t *)sample, sizeof sample - 1);
    if (tok && n) check_text(ctx, tok, text, n);
    mrc_tokenizer_free(tok);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const fixtures[] = { "cased", "uncased", "bytes", "prefix" };
    mrc_ctx *ctx = NULL;
    if (!folder[0]) {
        const char *in = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        snprintf(folder, sizeof folder, "%s/mrc-fuzz-XXXXXX", in);
        if (!mkdtemp(folder)) abort();
    }
    if (size < 1 || mrc_ctx_new(&ctx, NULL) != MRC_OK) return 0;
    const uint8_t *rest = data + 1, *cut = memchr(rest, 0, size - 1);
    size_t n = size - 1, first = cut ? (size_t)(cut - rest) : n;
    switch (data[0] % 4) {
    case 0:
        put("tokenizer.json", rest, n);
        check_load(ctx, folder, NULL, 0);
        take("tokenizer.json");
        break;
    case 1:
        put("vocab.txt", rest, n);
        check_load(ctx, folder, NULL, 0);
        take("vocab.txt");
        break;
    case 2:
        put("vocab.json", rest, first);
        put("merges.txt", rest + first + (cut != NULL), n - first - (cut != NULL));
        check_load(ctx, folder, NULL, 0);
        take("vocab.json");
        take("merges.txt");
        break;
    default: {
        char path[128];
        snprintf(path, sizeof path, "tests/fixtures/tokenizer/%s", fixtures[data[0] / 4 % 4]);
        check_load(ctx, path, rest, n);
    } }
    mrc_ctx_free(ctx);
    rmdir(folder);
    folder[0] = 0;
    return 0;
}
