// A folder of the test's own, the files in it, and the last message of the library's.
#ifndef FOLDER_H
#define FOLDER_H
#include "test.h"
#include <unistd.h>

static char folder[64];

// In memory where that can be had: what the library saves is synced.
TEST_HELPER int folder_new(const char *name) {
    snprintf(folder, sizeof folder, "%s/mrc_%s.XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", name);
    return CHECK(mkdtemp(folder) != NULL, "%s", folder);
}
TEST_HELPER void folder_end(void) {
    mrc_ctx *ctx = NULL;
    CHECK(mrc_ctx_new(&ctx, NULL) == MRC_OK && mrc_dir_remove(ctx, folder) == MRC_OK, "%s: %s",
          folder, mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
}

// The path of what lies in the folder; good until the next but five.
TEST_HELPER const char *path_of(const char *name) {
    static char paths[6][256];
    static int turn;
    char *path = paths[turn++ % 6];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}
// A file there, written anew; its path.
TEST_HELPER const char *bytes_new(const char *name, const void *data, size_t bytes) {
    const char *path = path_of(name);
    FILE *f = fopen(path, "wb");
    int whole = f && fwrite(data, 1, bytes, f) == bytes;
    if (f) whole &= fclose(f) == 0;
    if (!whole) CHECK(0, "%s cannot be written", path);
    return path;
}
TEST_HELPER const char *file_new(const char *name, const char *text) {
    return bytes_new(name, text, strlen(text));
}

// The log of a context: the last message and how many there were.
static char message[4096];
static int n_messages;
TEST_HELPER void keep_message(void *user, mrc_status status, const char *text) {
    (void)user, (void)status;
    n_messages++;
    snprintf(message, sizeof message, "%s", text);
}

#endif
