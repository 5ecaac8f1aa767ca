// The driver of the fuzz targets where no fuzzer is: replays files, or mutates them.
//
//     cc -DFUZZ_MAIN -fsanitize=address,undefined tests/fuzz_NAME.c -lm -lpthread -o fuzz_NAME
//     ./fuzz_NAME FILE..                       each as it is
//     ./fuzz_NAME --runs 1000000 [--seed 1] FILE..     mutations of them
//
// or, without FUZZ_MAIN, with libFuzzer: clang -fsanitize=fuzzer,address,undefined.
// The input that an abort was about is left in fuzz-crash.
#ifndef FUZZ_H
#define FUZZ_H
#define MRC_IMPLEMENTATION
#include "../mrc.h"
#include <signal.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// A broken promise ends the process, as a fuzzer wants it.
#define FUZZ_CHECK(condition)                                                               \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                        \
        }                                                                                   \
    } while (0)

#ifdef FUZZ_MAIN
enum { FUZZ_BYTES = 1 << 16 };
static uint64_t fuzz_rng;
static size_t fuzz_draw(size_t n) {
    fuzz_rng = fuzz_rng * 6364136223846793005ULL + 1442695040888963407ULL;
    return n ? (size_t)(fuzz_rng >> 33) % n : 0;
}

typedef struct fuzz_input { uint8_t *data; size_t n; } fuzz_input;

static void fuzz_splice(uint8_t *to, size_t *n, size_t at, size_t cut, const uint8_t *with,
                        size_t bytes) {
    if (cut > *n - at) cut = *n - at;
    if (*n - cut + bytes > FUZZ_BYTES) return;
    memmove(to + at + bytes, to + at + cut, *n - at - cut);
    if (bytes) memcpy(to + at, with, bytes);
    *n = *n - cut + bytes;
}

// One change: a bit, a byte, a number, a piece removed, doubled, or taken from another input.
static void fuzz_mutate(uint8_t *to, size_t *n, const fuzz_input *other) {
    static const char *const words[] = { "0", "-1", "2147483648", "18446744073709551616", "1e999",
        "null", "[]", "{}", "\"", "\\u0000", "\\ud800", "\xff", "\xed\xa0\x80", "\xef\xbf\xbd", " ",
        "\n", ",", ":", "true", "\0" };
    uint8_t piece[64];
    size_t at = fuzz_draw(*n + 1), k = fuzz_draw(20), bytes = 1 + fuzz_draw(sizeof piece);
    size_t from = fuzz_draw(other->n);
    switch (fuzz_draw(7)) {
    case 0: if (at < *n) to[at] ^= (uint8_t)(1 << fuzz_draw(8)); break;
    case 1: if (at < *n) to[at] = (uint8_t)fuzz_draw(256); break;
    case 2: fuzz_splice(to, n, at, fuzz_draw(8), (const uint8_t *)words[k],
                        words[k][0] ? strlen(words[k]) : 1); break;
    case 3: fuzz_splice(to, n, at, bytes, NULL, 0); break;
    case 4:
    case 5:
        if (bytes > other->n - from) bytes = other->n - from;
        memcpy(piece, other->data + from, bytes);
        fuzz_splice(to, n, at, fuzz_draw(2) ? bytes : 0, piece, bytes);
        break;
    default: *n = fuzz_draw(16) ? *n : at;
    }
}

static void fuzz_left(const uint8_t *data, size_t n) {
    FILE *f = fopen("fuzz-crash", "wb");
    if (f) fwrite(data, 1, n, f);
    if (f) fclose(f);
}
static uint8_t fuzz_now[FUZZ_BYTES];
static size_t  fuzz_size;
static void fuzz_died(int signal_number) {
    (void)signal_number;
    fuzz_left(fuzz_now, fuzz_size);
    _exit(1);
}

int main(int argc, char **argv) {
    fuzz_input list[64];
    size_t n = 0, runs = 0;
    fuzz_rng = 1;
    signal(SIGABRT, fuzz_died);
    for (int i = 1; i < argc; i++) {
        FILE *f;
        if (!strcmp(argv[i], "--runs") && i + 1 < argc) runs = (size_t)atoll(argv[++i]);
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc) fuzz_rng = (uint64_t)atoll(argv[++i]);
        else if (n < 64 && (f = fopen(argv[i], "rb")) != NULL) {
            list[n].data = malloc(FUZZ_BYTES);
            list[n].n = list[n].data ? fread(list[n].data, 1, FUZZ_BYTES, f) : 0;
            fclose(f);
            if (list[n].n) LLVMFuzzerTestOneInput(list[n].data, list[n].n);
            n += list[n].n > 0;
        } else {
            fprintf(stderr, "%s: cannot be read\n", argv[i]);
            return 2;
        }
    }
    for (size_t i = 0; n && i < runs; i++) {
        const fuzz_input *from = &list[fuzz_draw(n)];
        memcpy(fuzz_now, from->data, fuzz_size = from->n);
        for (size_t k = 1 + fuzz_draw(4); k; k--)
            fuzz_mutate(fuzz_now, &fuzz_size, &list[fuzz_draw(n)]);
        LLVMFuzzerTestOneInput(fuzz_now, fuzz_size);
    }
    printf("%zu inputs and %zu mutations of them: nothing broke\n", n, runs);
    for (size_t i = 0; i < n; i++) free(list[i].data);
    return 0;
}
#endif
#endif
