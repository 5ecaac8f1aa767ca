// The demo's data set: that data/make_data.c still makes the committed files, byte for byte, and
// that they hold what data/README.md says. Run from the repository root.
#define TEST_LINKED
#include "../support/test.h"
#include <errno.h>
#include <unistd.h>
#define main make_data_main
#include "../../data/make_data.c"
#undef main

static const char *const FILES[] = {
    "train.jsonl", "validation.jsonl", "hard.jsonl", "vocab.txt", "tokenizer_config.json",
    "special_tokens_map.json", "config.json",
};

// The whole file with a NUL behind it; free it. NULL, and a failed check, if it cannot be read.
static char *read_file(const char *folder, const char *name, size_t *size) {
    char path[512], *s = NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    long n = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    if (n >= 0 && fseek(f, 0, SEEK_SET) == 0) s = malloc((size_t)n + 1);
    *size = s ? fread(s, 1, (size_t)n, f) : 0;
    if (s) s[*size] = 0;
    if (f) fclose(f);
    CHECK(s && *size == (size_t)n, "%s: cannot be read", path);
    return s;
}

static void test_regeneration(void) {
    char folder[] = "/tmp/mrc-data-XXXXXX", path[512];
    if (!CHECK(mkdtemp(folder) != NULL, "no temporary folder")) return;
    char name[] = "make_data", *argv[] = {name, folder, NULL};
    CHECK(make_data_main(2, argv) == 0, "make_data failed");
    for (size_t i = 0; i < COUNT(FILES); i++) {
        size_t n_made, n_kept;
        char *made = read_file(folder, FILES[i], &n_made);
        char *kept = read_file("data", FILES[i], &n_kept);
        CHECK(made && kept && n_made == n_kept && memcmp(made, kept, n_made) == 0,
              "data/%s differs from what make_data writes (%zu bytes, expected %zu)", FILES[i],
              n_kept, n_made);
        free(made);
        free(kept);
        snprintf(path, sizeof path, "%s/%s", folder, FILES[i]);
        remove(path);
    }
    rmdir(folder);
}

// Copies the text of a field that follows `key`; the files have no escapes. 0 if it is not there.
static int get_field(const char *line, const char *key, char *out, size_t size) {
    const char *at = strstr(line, key), *end = at ? strchr(at + strlen(key), '"') : NULL;
    size_t n = end ? (size_t)(end - at) - strlen(key) : size;
    out[0] = 0;
    if (n >= size) return 0;
    memcpy(out, at + strlen(key), n);
    out[n] = 0;
    return 1;
}

typedef struct {
    char title[64], context[2048], question[256], answer[64];
    long answer_start;
} record;

static int get_record(const char *line, record *r) {
    const char *start = strstr(line, "\"answer_start\": [");
    r->answer_start = start ? strtol(start + strlen("\"answer_start\": ["), NULL, 10) : -1;
    return get_field(line, "{\"title\": \"", r->title, sizeof r->title) &&
           get_field(line, "\"context\": \"", r->context, sizeof r->context) &&
           get_field(line, "\"question\": \"", r->question, sizeof r->question) &&
           get_field(line, "\"text\": [\"", r->answer, sizeof r->answer);
}

static int is_year(const char *s) { return *s >= '0' && *s <= '9'; }

static int count_years(const char *s) {
    int n = 0;
    for (; *s; s++) n += is_year(s) && (unsigned char)s[1] >= 0x80;
    return n;
}

// Offsets are right, the answer stands there only, and other years stand beside an asked one.
static void check_record(const char *file, int line, const record *r) {
    const char *at = r->context;
    for (long i = 0; i < r->answer_start && *at; i++) at += char_bytes(at);
    CHECK(r->answer_start >= 0 && strncmp(at, r->answer, strlen(r->answer)) == 0,
          "%s:%d: no %s at %ld", file, line, r->answer, r->answer_start);
    CHECK(count_occurrences(r->context, r->answer) == 1, "%s:%d: %s is there more than once", file,
          line, r->answer);
    CHECK(strstr(r->question, r->title) && strstr(r->context, r->title),
          "%s:%d: does not name %s", file, line, r->title);
    CHECK(!is_year(r->answer) || count_years(r->context) >= 2, "%s:%d: a single year", file, line);
}

// Checks all records of a file. `train`, where given, must hold none of its names.
static void test_split(const char *file, int expected, const char *train) {
    size_t size;
    char *s = read_file("data", file, &size);
    int n = 0;
    for (char *line = s, *end; line && (end = strchr(line, '\n')) != NULL; line = end + 1) {
        record r;
        *end = 0;
        n++;
        if (!CHECK(get_record(line, &r), "%s:%d: a field is missing", file, n)) continue;
        check_record(file, n, &r);
        if (!train) continue;
        CHECK(!strstr(train, r.title), "%s:%d: training knows %s", file, n, r.title);
        CHECK(is_year(r.answer) || !strstr(train, r.answer), "%s:%d: training knows %s", file, n,
              r.answer);
    }
    CHECK(n == expected, "%s: %d records, expected %d", file, n, expected);
    free(s);
}

static void test_vocabulary(void) {
    size_t size, lines = 0;
    char *pieces = read_file("data", "vocab.txt", &size), want[64];
    char *config = read_file("data", "config.json", &size);
    const char *head = "[CLS]\n[PAD]\n[SEP]\n[UNK]\n[MASK]\n";
    CHECK(pieces && strncmp(pieces, head, strlen(head)) == 0, "vocab.txt: special tokens");
    for (const char *p = pieces; p && (p = strchr(p, '\n')) != NULL; p++) lines++;
    snprintf(want, sizeof want, "\"vocab_size\": %zu\n", lines);
    CHECK(config && strstr(config, want), "config.json: the vocabulary has %zu pieces", lines);
    free(pieces);
    free(config);
}

int main(void) {
    size_t size;
    test_regeneration();
    test_vocabulary();
    char *train = read_file("data", "train.jsonl", &size);
    test_split("train.jsonl", TRAIN_PASSAGES * QUESTIONS_PER_PASSAGE, NULL);
    test_split("validation.jsonl", VALIDATION_PASSAGES * QUESTIONS_PER_PASSAGE, train);
    test_split("hard.jsonl", HARD_PASSAGES * QUESTIONS_PER_PASSAGE, train);
    free(train);
    return test_end();
}
