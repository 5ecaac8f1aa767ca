// What all fuzz targets share.  A target includes this, names its seeds and defines
//     static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes);
// which reads the bytes as the library would, checks what must always hold, and returns whether
// they were accepted.  Then:
//     fuzz_x FILE..                          replays files, folders too
//     fuzz_x --runs N [--seed S] FILE..      N mutations of them: no fuzzer is needed
//     fuzz_x --emit N [--seed S] FILE..      the same to stdout, with verdicts and digests of the
//                                            values, for an oracle
//     fuzz_x --accepts FILE..                exit code 1 unless each is accepted
//     fuzz_x --corpus FOLDER FILE..          copies them and the built-in ones, for a fuzzer
// Every eighth input is read once more with memory that fails at some allocation, from then on or
// only there: the target's fuzz_status() then lets MRC_ERR_MEM pass.
// With -DFUZZ_LIBFUZZER and -fsanitize=fuzzer libFuzzer brings its own main.  Targets are linked
// with one mrc.o and call public functions only.
#ifndef FUZZ_H
#define FUZZ_H
#define TEST_LINKED
#include "test.h"
#include <fcntl.h>
#include <unistd.h>

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes);
extern const char *const fuzz_seeds[];      // built in, NULL ends it

// Not assert(): a target must fail in every build, and say where.
#define FUZZ_HOLDS(condition) \
    ((condition) ? (void)0 : (printf("FAIL %s:%d: %s\n", __FILE__, __LINE__, #condition), \
                              fflush(stdout), abort()))

// Memory that fails: at allocation number fuzz_fail_at, and behind it if fuzz_fail_on.
static size_t fuzz_allocations, fuzz_fail_at;
static int fuzz_fail_on, fuzz_failed;
static void *fuzz_alloc(void *user, size_t bytes) {
    size_t k = ++fuzz_allocations;
    (void)user;
    if (!fuzz_fail_at || (fuzz_fail_on ? k < fuzz_fail_at : k != fuzz_fail_at)) {
        return malloc(bytes);
    }
    fuzz_failed = 1;
    return NULL;
}
static void fuzz_free(void *user, void *p) {
    (void)user;
    free(p);
}

// What an accepted input's values come to: tests/peers/compare_oracles.py makes the same of what
// another reader has read.  Sums of fuzz_crc() of canonical texts; 0: the target has no digest.
static uint32_t fuzz_digest;
TEST_HELPER uint32_t fuzz_crc(uint32_t crc, const void *data, size_t bytes) {   // zlib's
    const uint8_t *p = data;
    crc = ~crc;
    for (; bytes > 0; bytes--, p++) {
        crc ^= *p;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

// What the reader gave, held against what it may give; memory is whole again from here.
TEST_HELPER mrc_status fuzz_status(mrc_status s) {
    int starved = s == MRC_ERR_MEM && fuzz_failed;
    fuzz_fail_at = 0;
    FUZZ_HOLDS(s == MRC_OK || s == MRC_ERR_FORMAT || s == MRC_ERR_UNSUPPORTED || starved);
    return s;
}

// Name, dtype, shape and bytes of a tensor: "name|F32|2,3|", and the values in the shape's order.
TEST_HELPER uint32_t fuzz_tensor_crc(mrc_weights *st, const mrc_st_entry *e) {
    char text[64];
    size_t bytes = (size_t)(e->end - e->begin);
    uint32_t crc = fuzz_crc(0, e->name, strlen(e->name));
    crc = fuzz_crc(crc, text, (size_t)snprintf(text, sizeof text, "|%s|", e->dtype));
    for (int i = 0; i < e->ndim; i++) {
        crc = fuzz_crc(crc, text, (size_t)snprintf(text, sizeof text, "%s%llu", i ? "," : "",
                                                   (unsigned long long)e->shape[i]));
    }
    crc = fuzz_crc(crc, "|", 1);
    uint8_t *data = bytes <= 4096 ? malloc(bytes + 1) : NULL;
    if (data && mrc_weights_bytes(st, e, data) == MRC_OK) crc = fuzz_crc(crc, data, bytes);
    free(data);
    return crc;
}

// What opening a file of weights left, and whether it was accepted: entries lie inside of it and
// are readable to the end.  Closes st.
TEST_HELPER int fuzz_entries(mrc_status s, mrc_weights *st, size_t bytes) {
    const mrc_st_entry *e;
    FUZZ_HOLDS((fuzz_status(s) == MRC_OK) == (st != NULL));
    for (size_t i = 0; st && i < 64 && (e = mrc_weights_at(st, i)) != NULL; i++) {
        uint32_t crc;
        mrc_status read = mrc_weights_crc32c(st, e, &crc);
        FUZZ_HOLDS(read == MRC_OK || read == MRC_ERR_UNSUPPORTED);
        FUZZ_HOLDS(mrc_weights_find(st, e->name) == e && e->end - e->begin <= bytes);
        fuzz_digest += fuzz_tensor_crc(st, e);
    }
    mrc_weights_close(st);
    return s == MRC_OK;
}

static mrc_ctx *fuzz_ctx;

static void fuzz_begin(void) {
    const mrc_ctx_desc desc = { .allocator = { fuzz_alloc, fuzz_free, NULL } };
    if (!fuzz_ctx) FUZZ_HOLDS(mrc_ctx_new(&fuzz_ctx, &desc) == MRC_OK);
}

static int fuzz_read(const uint8_t *data, size_t bytes) {
    fuzz_allocations = 0;
    fuzz_failed = 0;
    fuzz_digest = 0;
    int accepted = fuzz_accepts(fuzz_ctx, data, bytes);
    FUZZ_HOLDS(accepted || *mrc_ctx_message(fuzz_ctx));
    mrc_ctx_clear_error(fuzz_ctx);
    fuzz_fail_at = 0;
    return accepted;
}

static int fuzz_run(const uint8_t *data, size_t bytes) {
    static size_t runs;
    fuzz_begin();
    int accepted = fuzz_read(data, bytes);
    uint32_t digest = fuzz_digest;
    if (++runs % 8 || !fuzz_allocations) return accepted;
    fuzz_fail_at = 1 + runs / 8 * 2654435761u % fuzz_allocations;
    fuzz_fail_on = runs / 8 % 2 == 0;
    fuzz_read(data, bytes);
    fuzz_digest = digest;
    return accepted;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_run(data, bytes);
    return 0;
}

// Files for readers that want some: always in one folder, which goes when the program ends.
static char fuzz_dir[64];
static void fuzz_dir_end(void) {
    mrc_ctx *ctx;
    if (mrc_ctx_new(&ctx, NULL) != MRC_OK) return;
    mrc_dir_remove(ctx, fuzz_dir);
    mrc_ctx_free(ctx);
}
// The bytes as the file of that name; its path until the next call.
TEST_HELPER const char *fuzz_file_named(const char *name, const uint8_t *data, size_t bytes) {
    static char path[128];
    if (!*fuzz_dir) {
        snprintf(fuzz_dir, sizeof fuzz_dir, "%s/mrc_fuzz.XXXXXX",
                 mrc_path_kind("/dev/shm") == MRC_PATH_DIR ? "/dev/shm" : "/tmp");
        FUZZ_HOLDS(mkdtemp(fuzz_dir) != NULL);
        atexit(fuzz_dir_end);
    }
    snprintf(path, sizeof path, "%s/%s", fuzz_dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    FUZZ_HOLDS(fd >= 0);
    FUZZ_HOLDS(write(fd, data, bytes) == (ssize_t)bytes);
    close(fd);
    return path;
}
TEST_HELPER const char *fuzz_file(const uint8_t *data, size_t bytes) {
    return fuzz_file_named("input", data, bytes);
}
// One input as several files, cut at bytes 1e; the last takes what is left.  A file without a part
// is removed.  Their folder.
TEST_HELPER const char *fuzz_files(const char *const *names, const uint8_t *data, size_t bytes) {
    for (; *names; names++) {
        const uint8_t *end = data && names[1] ? memchr(data, 0x1e, bytes) : NULL;
        size_t n = end ? (size_t)(end - data) : bytes;
        const char *path = fuzz_file_named(*names, data, data ? n : 0);
        if (!data) unlink(path);
        data = end ? end + 1 : NULL;
        bytes = end ? bytes - n - 1 : 0;
    }
    return fuzz_dir;
}

// Makes the checksums of a file of blocks right: sections of 64 KiB blocks, a checksum of each, and
// a record of end_bytes whose uint64 at sections_at says how long the sections are.
TEST_HELPER void fuzz_repair_blocks(uint8_t *data, size_t bytes, size_t end_bytes,
                                    size_t sections_at) {
    enum { BLOCK = 65536 };
    uint64_t sections;
    if (bytes < end_bytes) return;
    uint8_t *end = data + bytes - end_bytes;
    memcpy(&sections, end + sections_at, 8);
    size_t n = (size_t)(sections / BLOCK + (sections % BLOCK > 0));
    if (sections <= bytes - end_bytes && (bytes - end_bytes - sections) / 4 >= n) {
        for (size_t i = 0; i < n; i++) {
            size_t left = (size_t)sections - i * BLOCK;
            uint32_t crc = mrc_crc32c(0, data + i * BLOCK, left < BLOCK ? left : BLOCK);
            memcpy(data + sections + 4 * i, &crc, 4);
        }
        uint32_t all = mrc_crc32c(0, data + sections, 4 * n);
        memcpy(end + end_bytes - 8, &all, 4);
    }
    uint32_t crc = mrc_crc32c(0, end, end_bytes - 4);
    memcpy(end + end_bytes - 4, &crc, 4);
}

#ifndef FUZZ_LIBFUZZER
static struct fuzz_corpus {
    struct { uint8_t *data; size_t bytes; } list[4096];
    size_t n;
} fuzz_corpus;

static void fuzz_add(const void *data, size_t bytes) {
    if (fuzz_corpus.n == 4096) return;
    uint8_t *copy = malloc(bytes + 1);
    FUZZ_HOLDS(copy != NULL);
    memcpy(copy, data, bytes);
    fuzz_corpus.list[fuzz_corpus.n].data = copy;
    fuzz_corpus.list[fuzz_corpus.n++].bytes = bytes;
}

static size_t fuzz_most = SIZE_MAX;         // larger seeds are left out of mutation

static void fuzz_load(const char *path);
static mrc_status fuzz_entry(mrc_ctx *ctx, void *user, const char *name) {
    char path[4096];
    (void)ctx;
    snprintf(path, sizeof path, "%s/%s", (const char *)user, name);
    fuzz_load(path);
    return MRC_OK;
}
static void fuzz_load(const char *path) {
    char *data, folder[4096];
    size_t bytes;
    if (mrc_path_kind(path) == MRC_PATH_DIR) {
        snprintf(folder, sizeof folder, "%s", path);
        FUZZ_HOLDS(mrc_dir_list(fuzz_ctx, path, fuzz_entry, folder) == MRC_OK);
    } else if (mrc_file_read(fuzz_ctx, &data, &bytes, path) == MRC_OK) {
        if (bytes <= fuzz_most) fuzz_add(data, bytes);
        mrc_file_free(fuzz_ctx, data);
    } else {
        printf("SKIP: %s\n", mrc_ctx_message(fuzz_ctx));
        mrc_ctx_clear_error(fuzz_ctx);
    }
}

static uint64_t fuzz_state = 1;
static size_t fuzz_below(size_t n) {        // 0 .. n - 1
    fuzz_state = fuzz_state * 6364136223846793005u + 1442695040888963407u;
    return n ? (size_t)(fuzz_state >> 33) % n : 0;
}

// Replaces `old` bytes at `at` by n others.
static size_t fuzz_splice(uint8_t *data, size_t bytes, size_t room, size_t at, size_t old,
                          const uint8_t *with, size_t n) {
    if (bytes - old + n > room) return bytes;
    memmove(data + at + n, data + at + old, bytes - at - old);
    if (n) memmove(data + at, with, n);
    return bytes - old + n;
}

// A little-endian number of 4 or 8 bytes that could be a length or an offset in these bytes: not 0
// and not larger than they are.  The next one from a random place on; its width, 0: none is near.
static size_t fuzz_find_length(const uint8_t *data, size_t bytes, size_t *at, uint64_t *value) {
    size_t begin = fuzz_below(bytes) / 4 * 4;
    for (size_t i = begin; i + 8 <= bytes && i < begin + 1024; i += 4) {
        uint32_t x;
        uint64_t y;
        memcpy(&x, data + i, 4);
        memcpy(&y, data + i, 8);
        *at = i;
        *value = y;
        if (y && y <= bytes) return 8;
        *value = x;
        if (x && x <= bytes) return 4;
    }
    return 0;
}

// Such a number becomes another that is as likely: a neighbour, a multiple, one from elsewhere.
static size_t fuzz_change_length(uint8_t *data, size_t bytes) {
    size_t at, from, width = bytes ? fuzz_find_length(data, bytes, &at, &from) : 0;
    uint64_t x = 0, other = 0;
    if (!width) return bytes;
    memcpy(&x, data + at, width);
    switch (fuzz_below(8)) {
    case 0: x++; break;
    case 1: x--; break;
    case 2: x += 8; break;
    case 3: x = x > 8 ? x - 8 : 0; break;
    case 4: x *= 2; break;
    case 5: x /= 2; break;
    case 6: x = bytes - at - fuzz_below(bytes - at); break;
    default: if (fuzz_find_length(data, bytes, &from, &other)) x = other;
    }
    memcpy(data + at, &x, width);
    return bytes;
}

// A piece more or less, with the 64-bit lengths that stand before it and reach over it made right,
// and the decimal number after it too, as offsets in a JSON header are.
static size_t fuzz_change_fitting(uint8_t *data, size_t bytes, size_t room) {
    uint8_t piece[16];
    size_t at = fuzz_below(bytes), n = 1 + fuzz_below(16), cut = fuzz_below(2);
    if (cut && n > bytes - at) n = bytes - at;
    for (size_t i = 0; i < n; i++) piece[i] = cut ? 0 : data[fuzz_below(bytes)];
    size_t now = fuzz_splice(data, bytes, room, at, cut ? n : 0, piece, cut ? 0 : n);
    if (now == bytes) return bytes;
    for (size_t i = 0; i + 8 <= at && i < 4096; i += 4) {
        uint64_t x;
        memcpy(&x, data + i, 8);
        if (x < 1 || x > bytes || i + 8 + x < at || i + x > bytes || !fuzz_below(4)) continue;
        x = cut ? x - (x < n ? x : n) : x + n;
        memcpy(data + i, &x, 8);
    }
    return now;
}

// A decimal number of the text becomes a neighbour.
static size_t fuzz_change_digits(uint8_t *data, size_t bytes, size_t room) {
    char text[24];
    size_t at = fuzz_below(bytes), tries = bytes, end;
    for (; tries && !(data[at] >= '0' && data[at] <= '9'); tries--) at = (at + 1) % bytes;
    if (!tries) return bytes;
    while (at > 0 && data[at - 1] >= '0' && data[at - 1] <= '9') at--;
    for (end = at; end < bytes && end < at + 18 && data[end] >= '0' && data[end] <= '9'; ) end++;
    memcpy(text, data + at, end - at);
    text[end - at] = 0;
    unsigned long long x = strtoull(text, NULL, 10);
    static const int steps[] = { 1, -1, 2, 4, -4, 8, -8, 100 };
    x = fuzz_below(9) ? x + (unsigned long long)steps[fuzz_below(8)] : bytes;
    snprintf(text, sizeof text, "%llu", x > 99999999999999999u ? 0 : x);
    return fuzz_splice(data, bytes, room, at, end - at, (const uint8_t *)text, strlen(text));
}

// One change at random: bits, bytes, numbers of all widths, pieces cut, copied or from elsewhere.
static size_t fuzz_change(uint8_t *data, size_t bytes, size_t room) {
    static const uint64_t numbers[] = { 0, 1, 2, 4, 7, 8, 16, 127, 128, 255, 256, 32767, 32768,
        65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff,
        0x8000000000000000, 0xffffffffffffffff };
    static const char texts[] = "{}[]\",:0123456789-.eE+truefalsn\\u \n\t#&*!|>%@`'?~\x80\xff";
    uint8_t piece[64];
    size_t at = fuzz_below(bytes), n = 1 + fuzz_below(8), from;
    if (n > bytes - at) n = bytes - at;
    switch (fuzz_below(bytes ? 14 : 1)) {
    case 0:
        for (size_t i = 0; i < 8; i++) piece[i] = (uint8_t)texts[fuzz_below(sizeof texts - 1)];
        return fuzz_splice(data, bytes, room, at, 0, piece, 1 + fuzz_below(4));
    case 1: data[at] ^= (uint8_t)(1u << fuzz_below(8)); return bytes;
    case 2: data[at] = (uint8_t)fuzz_below(256); return bytes;
    case 3: data[at] = (uint8_t)texts[fuzz_below(sizeof texts - 1)]; return bytes;
    case 4: return fuzz_splice(data, bytes, room, at, n, NULL, 0);
    case 5: {
        uint64_t x = numbers[fuzz_below(sizeof numbers / sizeof *numbers)];
        size_t width = (size_t)1 << fuzz_below(4);
        if (fuzz_below(2)) x = x + fuzz_below(17) - 8;
        if (width <= bytes - at) memcpy(data + at, &x, width);
        return bytes;
    }
    case 6:
        from = fuzz_below(bytes);
        n = fuzz_below(sizeof piece);
        if (n > bytes - from) n = bytes - from;
        memcpy(piece, data + from, n);
        return fuzz_splice(data, bytes, room, at, 0, piece, n);
    case 7: return fuzz_below(4) ? bytes : at;              // cut
    case 8: case 9: return fuzz_change_length(data, bytes);
    case 10: return fuzz_change_fitting(data, bytes, room);
    case 11: return fuzz_change_digits(data, bytes, room);
    default: {
        size_t other = fuzz_below(fuzz_corpus.n), size = fuzz_corpus.list[other].bytes;
        from = fuzz_below(size);
        n = fuzz_below(256);
        if (n > size - from) n = size - from;
        return fuzz_splice(data, bytes, room, at, 0, fuzz_corpus.list[other].data + from, n);
    }
    }
}

// The end of the JSON value at `at`, as far as brackets and quotes tell.
static size_t fuzz_value_end(const uint8_t *data, size_t bytes, size_t at) {
    int quoted = 0;
    size_t depth = 0;
    for (; at < bytes; at++) {
        uint8_t c = data[at];
        if (quoted && c == '\\') at++;
        else if (c == '"') quoted = !quoted;
        else if (!quoted && (c == '{' || c == '[')) depth++;
        else if (!quoted && (c == '}' || c == ']')) {
            if (!depth) return at;
            if (!--depth) return at + 1;
        } else if (!quoted && !depth && (c == ',' || c == '\n' || c == ' ')) return at;
        if (c == '"' && !quoted && !depth) return at + 1;
    }
    return bytes;
}

// A JSON value of another kind, a member twice or a member less: what a schema must bear.
static size_t fuzz_change_json(uint8_t *data, size_t bytes, size_t room) {
    static const char *const values[] = { "null", "true", "false", "0", "-1", "1", "3", "1.5",
        "1e30",
        "2147483648", "-9223372036854775808", "18446744073709551615", "\"\"", "\"x\"", "\"a b\"",
        "\"[MASK]\"", "\"\\u0000\"", "\"\\ud55c\"", "[]", "[1]", "[\"a\"]", "[\"a\", \"b\"]",
        "[[]]",
        "{}", "{\"a\": 1}", "[{}]" };
    size_t at = fuzz_below(bytes), tries = bytes;
    for (; tries && data[at] != ':'; tries--) at = (at + 1) % bytes;
    if (!tries) return bytes;
    size_t value = at + 1, key = at;
    while (value < bytes && data[value] == ' ') value++;
    size_t end = fuzz_value_end(data, bytes, value);
    while (key > 1 && data[key - 1] != '"') key--;
    for (key -= key > 1 ? 2 : 0; key > 0 && data[key] != '"'; key--) continue;
    switch (fuzz_below(8)) {
    case 0:                                         // the member once more
        bytes = fuzz_splice(data, bytes, room, key, 0, data + key, end - key);
        return fuzz_splice(data, bytes, room, end, 0, (const uint8_t *)",", 1);
    case 1:                                         // it has gone, with a comma
        end += end < bytes && data[end] == ',';
        return fuzz_splice(data, bytes, room, key, end - key, NULL, 0);
    default: {
        const char *x = values[fuzz_below(sizeof values / sizeof *values)];
        return fuzz_splice(data, bytes, room, value, end - value, (const uint8_t *)x, strlen(x));
    }
    }
}

static void fuzz_write_corpus(mrc_ctx *ctx, const char *dir) {
    char path[4096];
    FUZZ_HOLDS(mrc_dir_new(ctx, dir) == MRC_OK);
    for (size_t i = 0; i < fuzz_corpus.n; i++) {
        snprintf(path, sizeof path, "%s/%zu", dir, i);
        FUZZ_HOLDS(mrc_file_write(ctx, path, fuzz_corpus.list[i].data, fuzz_corpus.list[i].bytes)
                   == MRC_OK);
    }
    printf("%zu files in %s\n", fuzz_corpus.n, dir);
}

static int fuzz_all_accepted(void) {
    int all = fuzz_corpus.n > 0;
    for (size_t i = 0; i < fuzz_corpus.n; i++) {
        if (fuzz_run(fuzz_corpus.list[i].data, fuzz_corpus.list[i].bytes)) continue;
        printf("input %zu of %zu is refused\n", i + 1, fuzz_corpus.n);
        all = 0;
    }
    return all;
}

static void fuzz_replay(void) {
    size_t accepted = 0;
    for (size_t i = 0; i < fuzz_corpus.n; i++) {
        accepted += fuzz_run(fuzz_corpus.list[i].data, fuzz_corpus.list[i].bytes) != 0;
    }
    printf("%zu files, %zu accepted\n", fuzz_corpus.n, accepted);
}

static void fuzz_mutate(size_t runs, int emit) {
    size_t room = 1024, accepted = 0;
    for (size_t i = 0; i < fuzz_corpus.n; i++) {
        if (fuzz_corpus.list[i].bytes + 1024 > room) room = fuzz_corpus.list[i].bytes + 1024;
    }
    uint8_t *data = malloc(room);
    FUZZ_HOLDS(data != NULL);
    for (size_t i = 0; i < runs; i++) {
        size_t seed = fuzz_below(fuzz_corpus.n), bytes = fuzz_corpus.list[seed].bytes;
        memcpy(data, fuzz_corpus.list[seed].data, bytes);
        for (size_t k = 1 + fuzz_below(fuzz_below(4) ? 2 : 8); k > 0; k--) {
            int json = bytes && (*data == '{' || *data == '[') && fuzz_below(2);
            bytes = json ? fuzz_change_json(data, bytes, room) : fuzz_change(data, bytes, room);
        }
        int ok = fuzz_run(data, bytes);
        accepted += ok != 0;
        if (!emit) continue;
        uint32_t head[3] = { (uint32_t)bytes, (uint32_t)ok, fuzz_digest };
        FUZZ_HOLDS(fwrite(head, 1, sizeof head, stdout) == sizeof head);
        FUZZ_HOLDS(fwrite(data, 1, bytes, stdout) == bytes);
    }
    free(data);
    fprintf(emit ? stderr : stdout, "%zu executions of %zu seeds, %zu accepted\n", runs,
            fuzz_corpus.n, accepted);
}

int main(int argc, char **argv) {
    size_t runs = 0;
    const char *corpus = NULL;
    int emit = 0, accepts = 0;
    fuzz_begin();
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--runs") || !strcmp(argv[i], "--emit")) {
            emit = argv[i][2] == 'e';
            runs = i + 1 < argc ? (size_t)strtoull(argv[++i], NULL, 10) : 0;
            if (fuzz_most == SIZE_MAX) fuzz_most = 16384;
        } else if (!strcmp(argv[i], "--accepts")) {
            accepts = 1;
        } else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
            fuzz_state = strtoull(argv[++i], NULL, 10);
        } else if (!strcmp(argv[i], "--corpus") && i + 1 < argc) {
            corpus = argv[++i];
            if (fuzz_most == SIZE_MAX) fuzz_most = 16384;
        } else {
            fuzz_load(argv[i]);
        }
    }
    for (size_t i = 0; fuzz_seeds[i] && !accepts; i++) {
        fuzz_add(fuzz_seeds[i], strlen(fuzz_seeds[i]));
    }
    if (accepts) return !fuzz_all_accepted();
    if (corpus) fuzz_write_corpus(fuzz_ctx, corpus);
    else if (runs) fuzz_mutate(runs, emit);
    else fuzz_replay();
    for (size_t i = 0; i < fuzz_corpus.n; i++) free(fuzz_corpus.list[i].data);
    mrc_ctx_free(fuzz_ctx);
    return 0;
}
#endif
#endif
