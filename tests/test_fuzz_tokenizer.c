// Some thousand mutations of the fixtures through the fuzz target of the tokenizer.
#include "test.h"
#define FUZZ_MAIN
#define main fuzz_main
#include "fuzz_tokenizer.c"
#undef main

// The target's input: a byte that says what it is, and one or two files with a NUL between them.
static char *seed(mrc_ctx *ctx, const char *dir, int kind, const char *a, const char *b) {
    const char *names[] = { a, b };
    mrc_text t;
    char first = (char)kind, *path = malloc(256);
    mrc_text_init(&t, ctx);
    mrc_text_add(&t, &first, 1);
    for (int i = 0; i < 2 && names[i]; i++) {
        char *data = NULL, from[256];
        size_t bytes = 0;
        snprintf(from, sizeof from, "tests/fixtures/tokenizer/%s", names[i]);
        CHECK(mrc_file_read(ctx, &data, &bytes, from) == MRC_OK, "%s", mrc_ctx_message(ctx));
        if (i) mrc_text_add(&t, "", 1);
        if (data) mrc_text_add(&t, data, bytes);
        mrc_file_free(ctx, data);
    }
    snprintf(path, 256, "%s/%d-%s", dir, kind, strrchr(a, '/') + 1);
    CHECK(mrc_file_write(ctx, path, t.data, t.bytes) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_text_free(&t);
    return path;
}

int main(void) {
    char dir[] = "/tmp/mrc-fuzz-seeds-XXXXXX", *argv[16] = { "fuzz", "--runs", "3000" };
    mrc_ctx *ctx = NULL;
    int n = 3;
    if (!mkdtemp(dir) || mrc_ctx_new(&ctx, NULL) != MRC_OK) return 1;
    argv[n++] = seed(ctx, dir, 0, "prefix/tokenizer.json", NULL);
    argv[n++] = seed(ctx, dir, 4, "uncased/tokenizer.json", NULL);
    argv[n++] = seed(ctx, dir, 1, "cased/vocab.txt", NULL);
    argv[n++] = seed(ctx, dir, 2, "bytes/vocab.json", "bytes/merges.txt");
    for (int kind = 3; kind < 16; kind += 4) argv[n++] = seed(ctx, dir, kind, "./text.txt", NULL);
    CHECK(fuzz_main(n, argv) == 0, "a mutation broke something (see fuzz-crash)");
    while (n > 3) free(argv[--n]);
    mrc_dir_remove(ctx, dir);
    mrc_ctx_free(ctx);
    return test_end();
}
