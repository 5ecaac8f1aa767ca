// Test files that lie outside the repository: where, one after the other, and what if they do not.
#ifndef CASES_H
#define CASES_H
#include "test.h"
#include <pthread.h>

// What any input must do with (RELIABILITY A11): the tests that read files run on such a stack, and
// under a sanitizer, whose frames are larger, on no more.
enum { CASES_STACK = 256 * 1024 };
static void *cases_begin(void *run) {
    (*(void (**)(void))run)();
    return NULL;
}
TEST_HELPER void cases_on_small_stack(void (*run)(void)) {
    pthread_attr_t attr;
    pthread_t thread;
    int error = pthread_attr_init(&attr);
    if (!error) error = pthread_attr_setstacksize(&attr, CASES_STACK);
    if (!error) error = pthread_create(&thread, &attr, cases_begin, &run);
    if (!error) error = pthread_join(thread, NULL);
    CHECK(!error, "a thread with a small stack: %s", strerror(error));
}

// The path of a folder or file below ../shared (or $MRC_SHARED) in `path`; 0, said aloud: absent.
TEST_HELPER int cases_find(char *path, size_t bytes, const char *below) {
    const char *root = getenv("MRC_SHARED");
    snprintf(path, bytes, "%s/%s", root ? root : "../shared", below);
    if (mrc_path_kind(path)) return 1;
    printf("SKIP: %s is not here\n", path);
    test_skipped++;
    return 0;
}

// Cuts the next line off *text, which is changed; NULL at the end.
TEST_HELPER char *cases_line(char **text) {
    char *line = *text, *end;
    if (!line || !*line) return NULL;
    end = strchr(line, '\n');
    *text = end ? end + 1 : NULL;
    if (end) *end = 0;
    return line;
}

// Cuts the next field of a tab-separated line off *line; "" when there is none.
TEST_HELPER char *cases_field(char **line) {
    static char none[1];
    char *field = *line, *end = field ? strchr(field, '\t') : NULL;
    *line = end ? end + 1 : NULL;
    if (end) *end = 0;
    return field ? field : none;
}

// The text of the manifest in the folder `below`, whose path is put into `folder`; NULL: absent.
TEST_HELPER char *cases_manifest(mrc_ctx *ctx, char *folder, size_t bytes, const char *below) {
    char path[1024], *text = NULL;
    size_t n;
    if (!cases_find(folder, bytes, below)) return NULL;
    snprintf(path, sizeof path, "%s/manifest.tsv", folder);
    CHECK(mrc_file_read(ctx, &text, &n, path) == MRC_OK, "%s", path);
    return text;
}

// An allocator for so many allocations.
__attribute__((unused)) static size_t allocations_left;
TEST_HELPER void *alloc_some(void *user, size_t bytes) {
    (void)user;
    return allocations_left ? allocations_left--, malloc(bytes) : NULL;
}
TEST_HELPER void free_some(void *user, void *p) { (void)user; free(p); }

#endif
