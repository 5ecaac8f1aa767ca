// Files as people bring them: what is read, what is refused and with which words.  And what the
// library does with files of its own when something else is at work beside it.
// tags: threads
#define _GNU_SOURCE                     // sched_setaffinity
#define TEST_LINKED
#include "../support/cases.h"
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static mrc_ctx *ctx;
static char folder[64] = "build/test_foreign.XXXXXX", notes[4096];

static void note(void *user, mrc_status status, const char *message) {
    (void)user;
    if (status == MRC_OK) snprintf(notes, sizeof notes, "%s", message);
}
static const char *path_of(const char *name) {
    static char path[4][256];
    static int at;
    at = (at + 1) % 4;
    snprintf(path[at], sizeof path[at], "%s/%s", folder, name);
    return path[at];
}
static const char *bytes_new(const char *name, const char *data, size_t bytes) {
    const char *path = path_of(name);
    CHECK(mrc_file_write(ctx, path, data, bytes) == MRC_OK, "%s", mrc_ctx_message(ctx));
    return path;
}
static const char *text_new(const char *name, const char *text) {
    return bytes_new(name, text, strlen(text));
}

// The file is refused, and the message has all these words, given with '|' between them.
static void refused(mrc_status s, const char *what, const char *words) {
    char list[256];
    snprintf(list, sizeof list, "%s", words);
    CHECK(s != MRC_OK && s == mrc_ctx_status(ctx), "%s: status %d, the context's %d", what, (int)s,
          (int)mrc_ctx_status(ctx));
    for (char *word = strtok(list, "|"); word; word = strtok(NULL, "|")) {
        CHECK(strstr(mrc_ctx_message(ctx), word), "%s: no \"%s\" in: %s", what, word,
              mrc_ctx_message(ctx));
    }
    mrc_ctx_clear_error(ctx);
}
static void data_refused(const char *path, const char *words) {
    mrc_dataset *d;
    refused(mrc_dataset_load(ctx, &d, path), path, words);
}
static void passages_refused(const char *path, const char *words) {
    mrc_passages *p;
    refused(mrc_passages_load(ctx, &p, path, NULL), path, words);
}

static mrc_dataset *data_read(const char *path, size_t n) {
    mrc_dataset *d;
    if (!CHECK(mrc_dataset_load(ctx, &d, path) == MRC_OK, "%s", mrc_ctx_message(ctx))) {
        mrc_ctx_clear_error(ctx);
        return NULL;
    }
    CHECK(mrc_dataset_size(d) == n, "%s: %zu examples, expected %zu", path, mrc_dataset_size(d), n);
    return d;
}

//------------------------------------------------------------------------------
// Arrow
//------------------------------------------------------------------------------
// Three rows, whatever else the file has.
static mrc_status arrow_file(mrc_ctx *c, void *user, const char *name) {
    static const char *const words[][2] = {
        { "wrong_context.arrow", "column \"context\"|found dictionary|expected string" },
        { "wrong_question.arrow", "column \"question\"|found binary|expected string" },
        { "wrong_answers.arrow", "column \"answers\"|found string|expected struct" },
        { "wrong_start.arrow", "column \"answer_start\"|found floating point|expected integer" },
        { "wrong_impossible.arrow", "column \"is_impossible\"|found integer|expected bool" },
        { "wrong_id.arrow", "column \"id\"|found timestamp|expected string or integer" } };
    char path[256];
    (void)c;
    ++*(int *)user;
    snprintf(path, sizeof path, "tests/fixtures/arrow/%s", name);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(name, words[i][0])) continue;
        data_refused(path, words[i][1]);
        return MRC_OK;
    }
    mrc_dataset *d = data_read(path, 3);
    if (!d) return MRC_OK;
    const mrc_example *a = mrc_dataset_at(d, 0), *b = mrc_dataset_at(d, 1);
    const mrc_example *e = mrc_dataset_at(d, 2);
    CHECK(a && !strcmp(a->id, "a") && !strcmp(a->context, "Seoul is a city.") && a->n_answers == 1
          && !strcmp(a->answers[0].text, "Seoul") && a->answers[0].answer_start == 0, "%s: a",
          name);
    CHECK(b && !strcmp(b->id, "b") && !strcmp(b->title, "") && b->n_answers == 1
          && b->answers[0].answer_start == 8, "%s: b", name);
    CHECK(e && e->n_answers == 0 && !strcmp(e->question, "Who?"), "%s: c", name);
    CHECK(mrc_dataset_unanswerable(d) == 1, "%s: one has no answer", name);
    mrc_dataset_free(d);
    return MRC_OK;
}

// Every 64-bit number of a file that could be a length, made huge: an answer at once, and the same
// rows or none.
static void test_arrow_lengths(void) {
    static const char *const files[] = { "arrow/null", "arrow/list", "bare_int", "bare_null" };
    static const uint64_t huge[] = { UINT64_MAX, UINT64_MAX - 1, (uint64_t)1 << 63,
                                     (uint64_t)1 << 39, 1000 };
    for (size_t f = 0; f < 4; f++) {
        char path[128], *data;
        size_t bytes, tried = 0;
        snprintf(path, sizeof path, "tests/fixtures/%s.arrow", files[f]);
        if (!CHECK(mrc_file_read(ctx, &data, &bytes, path) == MRC_OK, "%s", path)) return;
        for (size_t at = 0; at + 8 <= bytes; at += 4) {
            uint64_t x;
            memcpy(&x, data + at, 8);
            if (x == 0 || x > 64) continue;
            for (size_t k = 0; k < sizeof huge / sizeof *huge; k++) {
                mrc_dataset *d = NULL;
                memcpy(data + at, &huge[k], 8);
                mrc_status s = mrc_dataset_load(ctx, &d, bytes_new("huge.arrow", data, bytes));
                CHECK((s == MRC_OK) == (d != NULL) && (!d || mrc_dataset_rows(d) <= 8 * bytes),
                      "%s: byte %zu", path, at);
                mrc_dataset_free(d);
                mrc_ctx_clear_error(ctx);
                tried++;
            }
            memcpy(data + at, &x, 8);
        }
        CHECK(tried > 20, "%s: %zu numbers", path, tried);
        mrc_file_free(ctx, data);
    }
}

static void test_arrow(void) {
    char path[512];
    int files = 0;
    CHECK(mrc_dir_list(ctx, "tests/fixtures/arrow", arrow_file, &files) == MRC_OK && files == 37,
          "%d files: %s", files, mrc_ctx_message(ctx));
    test_arrow_lengths();
    if (cases_find(path, sizeof path, "cases/field/arrow_timestamp")) {
        mrc_dataset *d = data_read(path, 6);
        if (d) CHECK(!strcmp(mrc_dataset_format(d), "arrow"), "%s", path);
        mrc_dataset_free(d);
    }
}

//------------------------------------------------------------------------------
// Data sets
//------------------------------------------------------------------------------
static void test_unanswerable(void) {
    static const char rows[] =
        "{\"id\": 1, \"context\": \"a b\", \"question\": \"q\", \"answers\": {\"text\": [\"b\"], "
        "\"answer_start\": [2]}}\n"
        "{\"id\": 2, \"context\": \"a b\", \"question\": \"q\", \"answers\": {\"text\": [], "
        "\"answer_start\": []}}\n"
        "{\"id\": 3, \"context\": \"a b\", \"question\": \"q\", \"answers\": []}\n"
        "{\"id\": 4, \"context\": \"a b\", \"question\": \"q\", \"answers\": [], "
        "\"is_impossible\": true}\n"
        "{\"id\": 5, \"context\": \"a b\", \"question\": \"q\", \"answers\": [], "
        "\"is_impossible\": false}\n"
        "{\"id\": 6, \"context\": \"a b\", \"question\": \"q\"}\n";
    *notes = 0;
    mrc_dataset *d = data_read(text_new("v2.jsonl", rows), 4);
    if (!d) return;
    CHECK(mrc_dataset_unanswerable(d) == 3, "%zu", mrc_dataset_unanswerable(d));
    CHECK(strstr(notes, "2 rows have an empty list of answers"), "said: %s", notes);
    mrc_dataset_free(d);
    // The nested form says is_impossible: without it a question is left out, as before.
    d = data_read(text_new("nested.json", "{\"data\": [{\"paragraphs\": [{\"context\": \"a\", "
                           "\"qas\": [{\"id\": \"1\", \"question\": \"q\", \"answers\": "
                           "[]}]}]}]}"), 0);
    mrc_dataset_free(d);
}

static void test_shapes(void) {
    static const char record[] = "{\"id\": \"1\", \"context\": \"a b\", \"question\": \"q\", "
                                 "\"answers\": {\"text\": [\"b\"], \"answer_start\": [2]}}";
    char text[1024], path[512];
    snprintf(text, sizeof text, "[%s,\n%s]", record, record);
    mrc_dataset *d = data_read(text_new("array.json", text), 2);
    if (d) CHECK(!strcmp(mrc_dataset_format(d), "json"), "%s", mrc_dataset_format(d));
    mrc_dataset_free(d);
    data_refused(text_new("empty.json", "[]"), "found no record");
    d = data_read(text_new("korquad2.json", "{\"version\": \"KorQuAD_v2.0\", \"data\": ["
        "{\"title\": \"t\", \"context\": \"<p>a b</p>\", \"raw_html\": \"\", \"qas\": [{\"id\": "
        "\"1\", \"question\": \"q\", \"answer\": {\"text\": \"b\", \"answer_start\": 5}}]}]}"), 1);
    if (d && mrc_dataset_size(d)) {
        const mrc_example *e = mrc_dataset_at(d, 0);
        CHECK(!strcmp(mrc_dataset_format(d), "korquad_v2") && !strcmp(e->title, "t")
              && e->n_answers == 1 && e->answers[0].answer_start == 5, "KorQuAD 2");
    }
    mrc_dataset_free(d);
    if (cases_find(path, sizeof path, "cases/field/korquad2.json")) {
        d = data_read(path, 1);         // it says 16, where the space before the answer is
        const mrc_example *e = d ? mrc_dataset_at(d, 0) : NULL;
        CHECK(e && e->answers[0].answer_start == 17, "%s", path);
        mrc_dataset_free(d);
    }
    if (cases_find(path, sizeof path, "cases/field/json_array.json")) {
        mrc_dataset_free(data_read(path, 6));
    }
    if (cases_find(path, sizeof path, "cases/field/squad_v2_flat.jsonl")) {
        d = data_read(path, 2);
        if (d) CHECK(mrc_dataset_unanswerable(d) == 1, "%s", path);
        mrc_dataset_free(d);
    }
}

// What is no data at all: named, with the command that helps.
static void test_named(void) {
    data_refused(text_new("x.parquet", "PAR1....PAR1"), "Parquet|to_json");
    data_refused(text_new("x.feather", "ARROW1...."), "Arrow file|read_feather");
    data_refused(text_new("x.csv", "id,context,question\n1,a,b\n"), "comma-separated|from_csv");
    data_refused(text_new("x.tsv", "id\tcontext\tquestion\n1\ta\tb\n"), "tab-separated");
    data_refused(text_new("x.gz", "\x1f\x8b\x08"), "gzip|gunzip");
    data_refused(text_new("x.zip", "PK\3\4"), "zip archive|unzip");
    data_refused(text_new("x.html", "<!DOCTYPE html>"), "web page|download");
    data_refused(text_new("lfs.json", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
                 "Git LFS pointer|git lfs pull");
    data_refused(text_new("cp949.json", "{\"data\": \"\xb0\xa1\xb3\xaa\"}"),
                 "ill-formed UTF-8, byte 0xb0|iconv -f CP949 -t UTF-8");
    CHECK(mrc_dir_new(ctx, path_of("folder")) == MRC_OK, "%s", mrc_ctx_message(ctx));
    data_refused(path_of("folder"), "is a folder without a state.json");
    data_refused("owner/name", "there is no folder owner|hf download");
    // A folder that may be a name of the hub, and what may not: "name" or "owner/name" of letters,
    // digits, - _ .
    static const struct { const char *path; int hinted; } names[] = {
        { "zA0-9_z.Z/f", 1 }, { "Z/9/f", 1 }, { "9/z-Z/f", 1 }, { "a/b c/f", 0 }, { "-a/f", 0 },
        { "a/b-/f", 0 }, { "a/b[/f", 0 }, { "a{/f", 0 }, { "a@/f", 0 }, { "a/b/c/f", 0 },
        { "a:/f", 0 }, { "a/b", 1 }, { "a", 0 },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        mrc_weights *w = NULL;
        mrc_status s = mrc_weights_open(ctx, &w, names[i].path);
        int found = strstr(mrc_ctx_message(ctx), "hf download") != NULL;
        CHECK(s != MRC_OK && found == names[i].hinted, "%s: %s", names[i].path,
              mrc_ctx_message(ctx));
        mrc_ctx_clear_error(ctx);
    }
    data_refused("/proc/absent/data.json", "there is no folder /proc/absent");
    data_refused("data/absent.json", "No such file");
    passages_refused(path_of("folder"), "is a folder (expected a file)");
    passages_refused(text_new("x.parquet", "PAR1....PAR1"), "Parquet|to_json");
    passages_refused(text_new("x.csv", "1,a\n"), "found 1 field|commas do not part");
    passages_refused(text_new("cp949.tsv", "1\t\xb0\xa1\n"), "0xb0|iconv -f CP949");
    mrc_model *m;
    mrc_weights *w;
    mrc_json *j;
    const mrc_model_load_desc hub = { .path = "klue/roberta-base" };
    const mrc_model_load_desc file = { .path = text_new("a.txt", "") };
    refused(mrc_model_load(ctx, &m, &hub), "model",
            "klue/roberta-base: there is no such folder|hf download klue/roberta-base");
    refused(mrc_model_load(ctx, &m, &file), "model",
            "a.txt: is a file (expected a folder)");
    refused(mrc_json_load(ctx, &j, text_new("config.json", "version https://git-lfs.github.com/")),
            "json", "Git LFS pointer");
    refused(mrc_weights_open(ctx, &w, text_new("lfs.safetensors", "version https://git-lfs.github."
                                               "com/spec/v1\n")), "weights",
            "Git LFS pointer|git lfs pull");
    refused(mrc_weights_open(ctx, &w, text_new("pytorch_model.bin", "version https://git-lfs."
                                               "github.com/spec/v1\n")), "weights", "Git LFS");
    refused(mrc_weights_open(ctx, &w, text_new("tf_model.h5", "\x89HDF\r\n\x1a\n........")),
            "weights", "HDF5|save_pretrained");
}

//------------------------------------------------------------------------------
// Passages
//------------------------------------------------------------------------------
static mrc_passages *passages_read(const char *path, size_t n) {
    mrc_passages *p;
    if (!CHECK(mrc_passages_load(ctx, &p, path, NULL) == MRC_OK, "%s", mrc_ctx_message(ctx))) {
        mrc_ctx_clear_error(ctx);
        return NULL;
    }
    CHECK(mrc_passages_size(p) == n, "%s: %zu passages", path, mrc_passages_size(p));
    return p;
}

static void test_tables(void) {
    char path[512];
    // Plain: a quote is a character, in the middle and where it begins a field.
    mrc_passages *p = passages_read(text_new("plain.tsv", "0\t\"Hello, is it me?\" is a line.\n"
                                             "1\tplain\n2\t\"unfinished\n3\t5\" pipe\n"), 4);
    if (p) {
        CHECK(!strcmp(mrc_passages_at(p, 0)->text, "\"Hello, is it me?\" is a line.")
              && !strcmp(mrc_passages_at(p, 2)->text, "\"unfinished"), "quotes are text");
    }
    mrc_passages_free(p);
    // DPR's: as Python's csv reads it.
    *notes = 0;
    p = passages_read(text_new("dpr.tsv", "id\ttext\ttitle\n1\t\"a \"\"b\"\"\nc\"\tt\n"
                               "2\tb\tu\n"), 2);
    if (p) {
        CHECK(!strcmp(mrc_passages_at(p, 0)->text, "a \"b\"\nc")
              && !strcmp(mrc_passages_at(p, 0)->title, "t"), "csv's quotes");
    }
    mrc_passages_free(p);
    CHECK(strstr(notes, "breaks of 1 fields stand in quotes"), "said: %s", notes);
    passages_refused(text_new("dpr.tsv", "id\ttext\ttitle\n1\t\"a\n"), "a quote that does not end");
    // A plain file with DPR's line of names: two rows would become one.
    passages_refused(text_new("dpr.tsv", "id\ttext\ttitle\n1\t\"one and\ty\n2\tno\" end\tz\n"),
                     "dpr.tsv:2: found a quote that ends on line 3 inside a field");
    // Behind a quote that joins nothing, csv takes text as the field's.
    p = passages_read(text_new("dpr.tsv", "id\ttext\ttitle\n1\t\"To be\" is it\tt\n"), 1);
    if (p) CHECK(!strcmp(mrc_passages_at(p, 0)->text, "To be is it"), "text behind a quote");
    mrc_passages_free(p);
    if (cases_find(path, sizeof path, "cases/field/msmarco_collection.tsv")) {
        p = passages_read(path, 4);
        if (p) CHECK(strstr(mrc_passages_at(p, 3)->text, "pipe"), "%s", path);
        mrc_passages_free(p);
    }
    // A record is one, whatever its first member is; a map of records is a map.
    p = passages_read(text_new("meta.jsonl", "{\"meta\": {\"x\": 1}, \"id\": \"a\", \"text\": "
                               "\"1\"}\n"
                               "{\"meta\": {}, \"id\": \"b\", \"text\": \"2\"}\n"), 2);
    if (p) CHECK(!strcmp(mrc_passages_at(p, 1)->id, "b"), "ids");
    mrc_passages_free(p);
    mrc_passages_free(passages_read(text_new("one.json", "{\"meta\": {\"x\": 1}, \"text\": "
                                             "\"1\"}"), 1));
    mrc_passages_free(passages_read(text_new("map.json", "{\"0\": {\"text\": \"a\"}, \"1\": "
                                             "{\"text\": \"b\"}}"), 2));
}

//------------------------------------------------------------------------------
// Files of our own
//------------------------------------------------------------------------------
// Two writers of one path in one process, and a file that a dead or living process has left: each
// commit publishes its own bytes whole.
static void test_writers(void) {
    char left[256], *data;
    size_t bytes;
    mrc_ctx *other;
    mrc_file_writer *a, *b;
    const char *path = path_of("shared.bin");
    snprintf(left, sizeof left, "%s.tmp.%ld", path, (long)getpid());
    CHECK(mrc_file_write(ctx, left, "alive", 5) == MRC_OK, "%s", mrc_ctx_message(ctx));
    if (!CHECK(mrc_ctx_new(&other, NULL) == MRC_OK, "a context")) return;
    CHECK(mrc_file_writer_new(ctx, &a, path) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_file_writer_add(a, "ab", 2) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_file_writer_new(other, &b, path) == MRC_OK, "%s", mrc_ctx_message(other));
    CHECK(mrc_file_writer_add(b, "12345678", 8) == MRC_OK, "%s", mrc_ctx_message(other));
    CHECK(mrc_file_writer_add(a, "cdefgh", 6) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_file_writer_commit(a) == MRC_OK, "%s", mrc_ctx_message(ctx));
    CHECK(mrc_file_read(ctx, &data, &bytes, path) == MRC_OK && bytes == 8
          && !memcmp(data, "abcdefgh", 8), "the first writer's bytes, whole");
    mrc_file_free(ctx, data);
    CHECK(mrc_file_writer_commit(b) == MRC_OK, "%s", mrc_ctx_message(other));
    CHECK(mrc_file_read(ctx, &data, &bytes, path) == MRC_OK && bytes == 8
          && !memcmp(data, "12345678", 8), "then the second's");
    mrc_file_free(ctx, data);
    CHECK(mrc_file_read(ctx, &data, &bytes, left) == MRC_OK && bytes == 5, "a third's "
          "is untouched");
    mrc_file_free(ctx, data);
    mrc_ctx_free(other);
}

// The reason is that of the call that failed, not of one after it.
static void test_errno(void) {
    char expected[128];
    errno = 0;
    int made = mkdir("/sys/mrc_test_foreign", 0777) == 0;
    snprintf(expected, sizeof expected, "%s", strerror(errno));
    if (made) {
        rmdir("/sys/mrc_test_foreign");
        test_skipped++;
        printf("SKIP: /sys can be written to: why a folder cannot be made\n");
        return;
    }
    refused(mrc_dir_new(ctx, "/sys/mrc_test_foreign/x"), "mrc_dir_new", expected);
}

// Looking for a checkpoint among damaged ones is no error, and hides none.
static void test_find(void) {
    char found[256];
    mrc_json *j;
    CHECK(mrc_dir_new(ctx, path_of("run/checkpoint-3")) == MRC_OK, "%s", mrc_ctx_message(ctx));
    text_new("run/checkpoint-3/trainer_state.json", "{}");
    CHECK(mrc_checkpoint_find(ctx, path_of("run"), found, sizeof found) == MRC_OK && !*found
          && mrc_ctx_status(ctx) == MRC_OK, "none, and no error: %s", mrc_ctx_message(ctx));
    CHECK(mrc_json_parse(ctx, &j, "older", "[", 1, 0) == MRC_ERR_FORMAT, "an older error");
    CHECK(mrc_checkpoint_find(ctx, path_of("run"), found, sizeof found) == MRC_OK
          && mrc_ctx_status(ctx) == MRC_ERR_FORMAT && !strncmp(mrc_ctx_message(ctx), "older:", 6),
          "the older error stays: %s", mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
}

// The threads of this process; a sanitizer may have one of its own.
static size_t tasks(void) {
    size_t n = 0;
    DIR *dir = opendir("/proc/self/task");
    while (dir && readdir(dir)) n++;
    if (dir) closedir(dir);
    return n;
}

// threads 0 is what this process may use: on one processor of many, no thread is made.
static void one_processor(void) {
    cpu_set_t all, one;
    mrc_backend *be;
    if (sched_getaffinity(0, sizeof all, &all) != 0) test_leave(2);
    if ((size_t)CPU_COUNT(&all) < mrc_processors()) test_leave(3);
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE; i++) {
        if (CPU_ISSET(i, &all) && !CPU_COUNT(&one)) CPU_SET(i, &one);
    }
    if (sched_setaffinity(0, sizeof one, &one) != 0) test_leave(4);
    if (mrc_processors() != 1) test_leave(5);
    const size_t before = tasks();
    if (mrc_backend_cpu_new(&be, NULL) != MRC_OK) test_leave(6);
    test_leave(before && tasks() == before ? 0 : 7);
}
static void test_processors(void) {
    int status = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) one_processor();
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status), "a child");
    CHECK(WEXITSTATUS(status) == 0, "one processor of several: step %d", WEXITSTATUS(status));
}

// An arena of several chunks that cannot become one goes on with several.
static size_t largest;
static void *limited_alloc(void *user, size_t bytes) {
    (void)user;
    return bytes > largest ? NULL : malloc(bytes);
}
static void limited_free(void *user, void *p) {
    (void)user;
    free(p);
}
static void test_arena(void) {
    const mrc_backend_desc desc = { .allocator = { limited_alloc, limited_free, NULL } };
    mrc_backend *be;
    mrc_ctx *c;
    largest = SIZE_MAX;
    if (!CHECK(mrc_backend_naive_new(&be, &desc) == MRC_OK, "a backend")) return;
    const mrc_ctx_desc ctx_desc = { .backend = be, .step_chunk_bytes = 4096 };
    if (!CHECK(mrc_ctx_new(&c, &ctx_desc) == MRC_OK, "a context")) return;
    largest = 700000;
    const size_t half_mb[] = { 150000 };
    for (int i = 0; i < 3; i++) {
        CHECK(mrc_tensor_new(c, MRC_DTYPE_F32, 1, half_mb, 0)
              && mrc_tensor_new(c, MRC_DTYPE_F32, 1, half_mb, 0), "round %d: %s", i,
              mrc_ctx_message(c));
        mrc_ctx_reset(c);
    }
    mrc_ctx_free(c);
    mrc_backend_free(be);
}

// A searcher's memory is bounded: with a small cache the same hits and no growth.
static size_t n_live;
static void *counted_alloc(void *user, size_t bytes) {
    (void)user;
    n_live++;
    return malloc(bytes);
}
static void counted_free(void *user, void *p) {
    (void)user;
    n_live--;
    free(p);
}
static void test_searcher(void) {
    const mrc_ctx_desc desc = { .allocator = { counted_alloc, counted_free, NULL } };
    mrc_passages *p = passages_read(text_new("s.tsv", "1\ta b c d e f\n2\tg h i j k a\n"), 2);
    const mrc_index_desc index = { .passages = p, .threads = 1 };
    mrc_ctx *c;
    mrc_index *ix;
    mrc_searcher *s[2];
    if (!p || mrc_index_new(ctx, path_of("ix"), &index) != MRC_OK
        || mrc_ctx_new(&c, &desc) != MRC_OK || mrc_index_open(c, &ix, path_of("ix")) != MRC_OK) {
        CHECK(0, "an index: %s", mrc_ctx_message(ctx));
        return;
    }
    mrc_search_config config = mrc_search_config_default(MRC_BM25_LUCENE);
    config.threads = 1;
    CHECK(mrc_searcher_new(c, &s[0], ix, &config) == MRC_OK, "%s", mrc_ctx_message(c));
    config.cache_bytes = 1;
    CHECK(mrc_searcher_new(c, &s[1], ix, &config) == MRC_OK, "%s", mrc_ctx_message(c));
    size_t before = 0;
    for (int i = 0; i < 11; i++) {
        char text[] = { (char)('a' + i), ' ', 'a' };
        const mrc_query q = { text, sizeof text };
        mrc_hit hits[2][2] = { 0 };
        size_t n[2] = { 0 };
        for (int k = 0; k < 2; k++) mrc_search(s[k], &q, 1, 2, hits[k], &n[k]);
        CHECK(n[0] == n[1] && n[0] && hits[0][0].passage == hits[1][0].passage
              && !(hits[0][0].score < hits[1][0].score || hits[0][0].score > hits[1][0].score),
              "query %d", i);
        size_t live = n_live;
        mrc_search(s[1], &q, 1, 2, hits[1], &n[1]);
        CHECK(n_live == live && (!i || live <= before + 1), "query %d: %zu live", i, live);
        before = live;
    }
    mrc_searcher_free(s[0]);
    mrc_searcher_free(s[1]);
    mrc_index_close(ix);
    mrc_ctx_free(c);
    mrc_passages_free(p);
}

// One error has one status: a word of config.json that is not supported.
static void test_status(void) {
    mrc_model_config c;
    const char *path = text_new("act/config.json", "{\"model_type\": \"bert\", \"vocab_size\": 9, "
                                "\"hidden_size\": 4, \"num_hidden_layers\": 1, "
                                "\"num_attention_heads\": 1, \"intermediate_size\": 4, "
                                "\"max_position_embeddings\": 9, \"type_vocab_size\": 2, "
                                "\"hidden_act\": \"softsign\"}");
    (void)path;
    CHECK(mrc_model_config_load(ctx, &c, path_of("act/config.json")) == MRC_ERR_UNSUPPORTED, "%s",
          mrc_ctx_message(ctx));
    refused(mrc_ctx_status(ctx), "config.json", "softsign");
}

// Each family's own keys of config.json: what is read, and what is refused by the key's name.
static const struct { const char *family, *keys, *words; int terms; } config_keys[] = {
    { "deberta-v2", "", NULL, 0 },
    { "deberta-v2", "\"pos_att_type\": \"c2p|p2c\"", NULL, 3 },
    { "deberta-v2", "\"pos_att_type\": \" C2P | none\"", NULL, 1 },
    { "deberta-v2", "\"pos_att_type\": [\"P2C\"]", NULL, 2 },
    { "deberta-v2", "\"pos_att_type\": [\"P2C\", \"c2P\", \"\"]", NULL, 3 },
    { "deberta-v2", "\"pos_att_type\": null", NULL, 0 },
    { "deberta-v2", "\"pos_att_type\": \"p2p\"", "pos_att_type|c2p, p2c or both", 0 },
    { "deberta-v2", "\"pos_att_type\": \"cxp\"", "pos_att_type|c2p, p2c or both", 0 },
    { "deberta-v2", "\"pos_att_type\": \"c2x\"", "pos_att_type|c2p, p2c or both", 0 },
    { "deberta-v2", "\"pos_att_type\": \"pxc\"", "pos_att_type|c2p, p2c or both", 0 },
    { "deberta-v2", "\"pos_att_type\": \"p2x\"", "pos_att_type|c2p, p2c or both", 0 },
    { "deberta-v2", "\"pos_att_type\": \"noun\"", "pos_att_type|c2p, p2c or both", 0 },
    { "deberta-v2", "\"pos_att_type\": \"both\"", "pos_att_type|c2p, p2c or both", 0 },
    { "deberta-v2", "\"pos_att_type\": [3]", "pos_att_type|words", 0 },
    { "deberta-v2", "\"pos_att_type\": 3", "pos_att_type|a list or a string", 0 },
    { "deberta-v2", "\"pos_att_type\": [\"x\"]", "pos_att_type|c2p, p2c or both", 0 },
    { "deberta-v2", "\"norm_rel_ebd\": \"layer_norm\"", NULL, 0 },
    { "deberta-v2", "\"norm_rel_ebd\": \"none\"", NULL, 0 },
    { "deberta-v2", "\"norm_rel_ebd\": 3", "norm_rel_ebd|a string", 0 },
    { "deberta-v2", "\"relative_attention\": 3", "relative_attention|true or false", 0 },
    { "deberta-v2", "\"relative_attention\": true, \"max_relative_positions\": -1", NULL, 0 },
    { "deberta-v2", "\"max_relative_positions\": 0", NULL, 0 },
    { "deberta-v2", "\"max_relative_positions\": 16, \"position_buckets\": 8", NULL, 0 },
    { "deberta-v2", "\"max_relative_positions\": \"x\"", "max_relative_positions", 0 },
    { "deberta-v2", "\"max_relative_positions\": 9999999", "max_relative_positions", 0 },
    { "deberta-v2", "\"max_relative_positions\": 1.5", "max_relative_positions", 0 },
    { "deberta-v2", "\"position_buckets\": 3", "position_buckets", 0 },
    { "deberta-v2", "\"position_buckets\": 64, \"max_relative_positions\": 8",
      "position_buckets", 0 },
    { "deberta-v2", "\"position_buckets\": 8", NULL, 0 },
    { "deberta-v2", "\"position_buckets\": 1024", "position_buckets", 0 },
    { "deberta-v2", "\"conv_kernel_size\": 2", "conv_kernel_size", 0 },
    { "deberta-v2", "\"conv_kernel_size\": 3, \"conv_act\": \"tanh\", \"conv_groups\": 1", NULL,
      0 },
    { "deberta-v2", "\"conv_kernel_size\": 3, \"conv_act\": \"selu\"", "conv_act", 0 },
    { "deberta-v2", "\"conv_groups\": 2", "conv_groups", 0 },
    { "deberta-v2", "\"conv_groups\": true", NULL, 0 },
    { "deberta-v2", "\"conv_groups\": \"1\"", "conv_groups", 0 },
    { "deberta-v2", "\"talking_head\": false", NULL, 0 },
    { "deberta-v2", "\"talking_head\": 0", NULL, 0 },
    { "deberta-v2", "\"talking_head\": true", "talking_head|false", 0 },
    { "deberta-v2", "\"talking_head\": [0]", "talking_head|false", 0 },
    { "modernbert", "\"layer_types\": [\"full_attention\", \"sliding_attention\"]", NULL, 0 },
    { "modernbert", "\"layer_types\": [\"full_attention\"]", "layer_types|found 1, expected 2",
      0 },
    { "modernbert", "\"layer_types\": [\"full_attention\", \"linear\"]", "layer_types", 0 },
    { "modernbert", "\"layer_types\": [\"full_attention\", 1]", "layer_types", 0 },
    { "modernbert", "\"layer_types\": \"full_attention\"", "layer_types|a list", 0 },
    { "modernbert", "\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\", "
      "\"rope_theta\": 5e4}, \"sliding_attention\": null}", NULL, 0 },
    { "modernbert", "\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"yarn\"}}",
      "rope_type", 0 },
    { "modernbert", "\"rope_parameters\": {\"full_attention\": {\"rope_theta\": -1}}",
      "rope_theta", 0 },
    { "modernbert", "\"rope_parameters\": {\"full_attention\": 3}", NULL, 0 },
    { "modernbert", "\"rope_parameters\": 3", "rope_parameters|an object", 0 },
    { "modernbert", "\"local_rope_theta\": null, \"global_rope_theta\": 7", NULL, 0 },
    { "modernbert", "\"local_rope_theta\": 3", NULL, 0 },
    { "modernbert", "\"norm_bias\": 1", "norm_bias|true or false", 0 },
    { "modernbert", "\"norm_bias\": true, \"mlp_bias\": false", NULL, 0 },
    { "modernbert", "\"num_attention_heads\": 8", "cannot be rotated", 0 },
    { "modernbert", "\"hidden_activation\": \"elu\"", "hidden_activation", 0 },
    { "big_bird", "\"attention_type\": \"original_full\"", NULL, 0 },
    { "big_bird", "\"attention_type\": \"block_sparse\", \"block_size\": 16, "
      "\"num_random_blocks\": 1, \"max_position_embeddings\": 4096", NULL, 0 },
    { "big_bird", "\"attention_type\": \"x\"", "attention_type", 0 },
    { "big_bird", "\"use_bias\": false", "use_bias|1 or true", 0 },
    { "big_bird", "\"rescale_embeddings\": true", "rescale_embeddings", 0 },
    { "mobilebert", "\"intra_bottleneck_size\": 7", "intra_bottleneck_size", 0 },
    { "mobilebert", "\"intra_bottleneck_size\": 8, \"normalization_type\": \"no_norm\"", NULL,
      0 },
    { "mobilebert", "\"normalization_type\": \"layer_norm\"", "normalization_type", 0 },
    { "mobilebert", "\"trigram_input\": false", "trigram_input", 0 },
    { "mobilebert", "\"use_bottleneck_attention\": true", "use_bottleneck_attention", 0 },
    { "albert", "\"num_hidden_groups\": 3", "num_hidden_groups", 0 },
    { "albert", "\"num_hidden_groups\": 2", NULL, 0 },
    { "bert", "\"position_embedding_type\": \"relative_key\"", "position_embedding_type", 0 },
    { "bert", "\"hidden_size\": 7", "hidden_size 7", 0 },
    { "bert", "\"is_decoder\": true", "is_decoder", 0 },
    { "bert", "\"is_decoder\": false", NULL, 0 },
    { "bert", "\"mrc_head\": {\"type\": \"conv1d\", \"num_layers\": 1, \"kernel_size\": 3, "
      "\"pad_to_max_length\": false}", NULL, 0 },
    { "bert", "\"mrc_head\": {\"type\": \"conv1d\", \"num_layers\": 1, \"kernel_size\": 0}",
      "kernel_size", 0 },
    { "bert", "\"mrc_head\": {\"type\": \"mlp\", \"num_layers\": 1, \"hidden_size\": 4, "
      "\"pad_to_max_length\": 1}", "pad_to_max_length", 0 },
    { "dpr", "", NULL, 0 }, { "xlnet", "", "xlnet", 0 },
};
static void test_config_keys(void) {
    for (size_t i = 0; i < sizeof config_keys / sizeof *config_keys; i++) {
        const char *family = config_keys[i].family, *keys = config_keys[i].keys;
        char text[1024];
        mrc_model_config c;
        // The last of two equal keys would be refused, so the sizes are given but where the row has
        // them.
        size_t at = (size_t)snprintf(text, sizeof text, "{\"model_type\": \"%s\"", family);
        static const char *const sizes[][2] = {
            { "vocab_size", "20" }, { "hidden_size", "8" }, { "num_hidden_layers", "2" },
            { "num_attention_heads", "2" }, { "intermediate_size", "8" },
            { "max_position_embeddings", "64" }, { "pad_token_id", "0" } };
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            if (strstr(keys, sizes[k][0])) continue;
            at += (size_t)snprintf(text + at, sizeof text - at, ", \"%s\": %s", sizes[k][0],
                                   sizes[k][1]);
        }
        snprintf(text + at, sizeof text - at, "%s%s}", *keys ? ", " : "", keys);
        mrc_status s = mrc_model_config_load(ctx, &c, text_new("config.json", text));
        if (config_keys[i].words) {
            refused(s, text, config_keys[i].words);
            continue;
        }
        CHECK(s == MRC_OK, "%s: %s", text, mrc_ctx_message(ctx));
        if (config_keys[i].terms) {
            CHECK(c.pos_att_type == config_keys[i].terms, "%s: %d", text, c.pos_att_type);
        }
        mrc_ctx_clear_error(ctx);
    }
}

// Directories for retrieval: what each sign in their files means, and what is refused by name.
#define MODULE(kind) "{\"path\": \"1\", \"type\": \"x." kind "\"}"
#define POOL "[" MODULE("Pooling") "]"
#define DENSE "[" MODULE("Dense") "]"
#define TOKENS "{\"model_type\": \"ColBERT\"}"
#define MULTI "{\"model_type\": \"MultiVectorEncoder\"}"
#define MASK "[" MODULE("MultiVectorMask") "]"
#define CLASS(name) "\"architectures\": [\"" name "\"]"
#define DPR CLASS("DPRQuestionEncoder")
#define LONG "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define LONGER LONG LONG LONG LONG LONG
static const struct encoder_dir_case {
    const char *keys, *modules, *module, *similar, *transformer, *colbert, *pooling;
    mrc_head_type head;                     // asked for
    const char *words;                      // NULL: read, and then
    mrc_head_type found;
    unsigned poolings;
    size_t width, query, passage;           // 0: not looked at
} encoder_dirs[] = {
    { .found = MRC_HEAD_POOL, .poolings = 4, .query = 64, .passage = 64 },      // the mean
    { .modules = POOL, .module = "{\"pooling_mode_cls_token\": true}", .poolings = 1 },
    { .modules = POOL, .module = "{\"pooling_mode_cls_token\": false}", .poolings = 4 },
    { .modules = POOL, .module = "{\"pooling_mode\": \"max\"}", .poolings = 2 },
    { .modules = POOL, .module = "{\"pooling_mode\": [\"mean_tokens\", \"cls\"]}", .poolings = 5 },
    { .modules = POOL, .module = "{\"pooling_mode\": \"pooler\"}", .poolings = 1 },
    { .modules = POOL, .module = "{\"pooling_mode\": [\"max\", 3]}", .words = "pooling  is not" },
    { .modules = POOL, .module = "{\"pooling_mode\": \"sum\"}", .words = "pooling sum is not" },
    { .modules = POOL, .module = "{\"pooling_mode\": 3}", .poolings = 4 },
    { .modules = POOL, .module = NULL, .words = "1/config.json|modules.json names it" },
    { .modules = POOL, .module = "{", .words = "1/config.json:1:2" },
    { .modules = POOL, .pooling = "lasttoken", .poolings = 32 },
    { .modules = POOL, .pooling = "last", .poolings = 32 },
    { .modules = POOL, .pooling = "pooler", .poolings = 1 },
    { .modules = POOL, .pooling = "no", .words = "pooling no is not" },
    { .modules = "[" MODULE("LSTM") "]", .words = "modules.json:1:2|LSTM" },
    { .modules = "[{\"path\": \"/x\", \"type\": \"Pooling\"}]", .words = "leads out" },
    { .modules = "[{\"path\": \"a/../b\", \"type\": \"Pooling\"}]", .words = "leads out" },
    { .modules = "[{\"type\": 3}]", .words = "has a module" },
    { .modules = "[" MODULE("Dense") ", " MODULE("Dense") "]", .module = "{\"out_features\": 4}",
      .words = "has again a module Dense" },
    { .modules = DENSE, .module = "{\"out_features\": 4}", .width = 4 },
    { .modules = DENSE, .module = "{\"out_features\": 4, \"activation_function\": \"a.GELU\"}",
      .width = 4 },
    { .modules = DENSE, .module = "{\"out_features\": 4, \"activation_function\": \"Identity\", "
      "\"bias\": false, \"use_residual\": 3}", .width = 4 },
    { .modules = DENSE, .module = "{\"out_features\": 4, \"activation_function\": \"a.ReLU\"}",
      .words = "activation_function ReLU" },
    { .modules = DENSE, .module = "{\"out_features\": 4, \"use_residual\": true}",
      .words = "use_residual" },
    { .modules = DENSE, .module = "{}", .words = "out_features" },
    { .modules = DENSE, .module = "{\"out_features\": 65537}", .words = "out_features" },
    { .modules = DENSE, .words = "modules.json names it" },
    { .modules = "[{\"path\": \"1\", \"type\": \"pylate.models.Dense\"}]", .module =
      "{\"out_features\": 4}", .similar = TOKENS, .found = MRC_HEAD_TOKENS, .width = 4,
      .query = 32, .passage = 64 },
    { .modules = "[" MODULE("Normalize") ", " MODULE("Dropout") ", {\"path\": \"\", \"type\": "
      "\"x.Transformer\"}]", .poolings = 4 },
    { .modules = "[" MODULE("Pooling") ", {\"path\": \"../0\", \"type\": \"x.Transformer\"}]",
      .module = "{}", .words = "leads out" },
    { .keys = DPR, .poolings = 1, .passage = 64 },
    { .keys = DPR ", \"projection_dim\": 3, \"max_position_embeddings\": 512", .width = 3,
      .query = 512, .passage = 256 },
    { .keys = CLASS("DPRContextEncoder"), .modules = POOL, .module = "{}", .poolings = 4 },
    { .similar = "{\"prompts\": {\"query\": \"q: \", \"corpus\": \"c: \"}, "
      "\"default_prompt_name\": \"corpus\", \"similarity_fn_name\": \"dot\"}", .poolings = 4 },
    { .similar = "{\"prompts\": {\"query\": \"q\\u0000\"}, \"default_prompt_name\": \"x\", "
      "\"similarity_fn_name\": \"cosine\"}", .poolings = 4 },
    { .similar = "{\"similarity_fn_name\": \"MaxSim\"}", .poolings = 4 },
    { .similar = "{\"similarity_fn_name\": \"maxsim\"}", .poolings = 4 },
    { .similar = "{\"similarity_fn_name\": \"euclidean\"}", .words = "similarity_fn_name euclid" },
    { .similar = "{\"prompts\": {\"query\": \"" LONGER "\"}}", .words = "the query prompt" },
    { .similar = "{\"prompts\": {\"document\": \"" LONGER "\"}}", .words = "the passage prompt" },
    { .transformer = "{\"max_seq_length\": 16}", .query = 16, .passage = 16 },
    { .transformer = "{\"max_seq_length\": 512}", .query = 64 },
    { .transformer = "[", .words = "sentence_bert_config.json" },
    // Token rows: Stanford's, PyLate's, sentence-transformers'.
    { .head = MRC_HEAD_TOKENS, .found = MRC_HEAD_TOKENS, .query = 64, .passage = 64 },
    { .keys = CLASS("HF_ColBERT"), .found = MRC_HEAD_TOKENS, .width = 128 },
    { .colbert = "{}", .found = MRC_HEAD_TOKENS, .width = 128, .query = 32, .passage = 64 },
    { .colbert = "{\"dim\": 8, \"query_maxlen\": 0, \"doc_maxlen\": 0, \"mask_punctuation\": false,"
      " \"similarity\": \"l2\", \"attend_to_mask_tokens\": true, \"query_token_id\": \"[Q]\", "
      "\"doc_token_id\": \"[D]\"}", .found = MRC_HEAD_TOKENS, .width = 8, .query = 64,
      .passage = 64 },
    { .colbert = "{\"similarity\": \"cosine\"}", .found = MRC_HEAD_TOKENS },
    { .colbert = "{\"similarity\": \"dot\"}", .words = "similarity dot" },
    { .colbert = "{\"query_token_id\": \"" LONGER "\"}", .words = "query_token_id" },
    { .colbert = "{\"doc_token_id\": \"" LONGER "\"}", .words = "doc_token_id" },
    { .similar = TOKENS, .found = MRC_HEAD_TOKENS, .query = 32, .passage = 64 },
    { .similar = "{\"model_type\": \"ColBERT\", \"query_prefix\": \"" LONGER "\"}",
      .words = "query_prefix" },
    { .similar = "{\"model_type\": \"ColBERT\", \"document_prefix\": \"" LONGER "\"}",
      .words = "document_prefix" },
    { .similar = "{\"model_type\": \"ColBERT\", \"skiplist_words\": [\"a\", \"b\"], "
      "\"query_prefix\": \"[q]\", \"document_prefix\": \"[d]\"}", .found = MRC_HEAD_TOKENS },
    { .similar = "{\"model_type\": \"ColBERT\", \"skiplist_words\": 3}",
      .found = MRC_HEAD_TOKENS },
    { .similar = "{\"model_type\": \"ColBERT\", \"skiplist_words\": [\"a b\"]}",
      .words = "skiplist_words" },
    { .similar = "{\"model_type\": \"ColBERT\", \"skiplist_words\": [3]}",
      .words = "skiplist_words" },
    { .similar = "{\"model_type\": \"ColBERT\", \"skiplist_words\": [\"\"]}",
      .words = "skiplist_words" },
    { .similar = "{\"model_type\": \"ColBERT\", \"skiplist_words\": [\"a\\u0000\"]}",
      .words = "skiplist_words" },
    { .similar = "{\"model_type\": \"ColBERT\", \"skiplist_words\": [\"" LONGER LONGER LONGER LONGER
      "\"]}", .words = "skiplist_words" },
    { .similar = MULTI, .found = MRC_HEAD_TOKENS, .query = 64 },
    { .similar = MULTI, .transformer = "{\"query_expansion\": {\"strategy\": \"min\", "
      "\"length\": 9}, \"document_length\": 7}", .found = MRC_HEAD_TOKENS, .query = 9,
      .passage = 7 },
    { .similar = MULTI, .transformer = "{\"query_expansion\": {\"strategy\": \"fixed\"}}",
      .found = MRC_HEAD_TOKENS },
    { .similar = MULTI, .transformer = "{\"query_expansion\": {}}", .found = MRC_HEAD_TOKENS },
    { .similar = MULTI, .transformer = "{\"query_expansion\": 3}", .found = MRC_HEAD_TOKENS },
    { .similar = MULTI, .transformer = "{\"query_expansion\": {\"strategy\": \"max\"}}",
      .words = "query_expansion max" },
    { .similar = MULTI, .modules = MASK, .module = "{\"skiplist_words\": [\"!\"]}",
      .found = MRC_HEAD_TOKENS },
    { .similar = MULTI, .modules = MASK, .module = "{\"skiplist_words\": [1]}",
      .words = "skiplist_words" },
    { .similar = MULTI, .modules = MASK, .words = "modules.json names it" },
    { .similar = TOKENS, .modules = DENSE, .module = "{}", .words = "out_features" },
    { .similar = TOKENS, .modules = "[" MODULE("CNN") "]", .words = "CNN" },
    // Cross-encoders.
    { .similar = "{\"model_type\": \"CrossEncoder\"}", .found = MRC_HEAD_SCORE },
    { .similar = "{\"model_type\": \"other\"}", .found = MRC_HEAD_POOL },
    { .keys = CLASS("BertForSequenceClassification"), .found = MRC_HEAD_SCORE },
    { .keys = "\"num_labels\": 0", .head = MRC_HEAD_SCORE, .words = "of 0 labels" },
    { .keys = "\"num_labels\": 3", .head = MRC_HEAD_SCORE, .words = "of 3 labels" },
    { .keys = "\"id2label\": {\"0\": \"a\", \"1\": \"b\"}, \"classifier_dropout\": 0.5, "
      "\"sbert_ce_default_activation_function\": \"torch.nn.Identity\"", .head = MRC_HEAD_SCORE,
      .found = MRC_HEAD_SCORE },
    { .keys = "\"id2label\": {}, \"classifier_dropout\": 1, \"sentence_transformers\": "
      "{\"activation_fn\": \"Softmax\"}", .head = MRC_HEAD_SCORE, .words = "activation Softmax" },
    { .keys = "\"id2label\": [], \"classifier_dropout\": -1", .head = MRC_HEAD_SCORE,
      .found = MRC_HEAD_SCORE },
    { .keys = "\"model_type\": \"electra\", \"classifier_dropout\": null", .head = MRC_HEAD_SCORE,
      .found = MRC_HEAD_SCORE },
    { .keys = "\"architectures\": [3]", .found = MRC_HEAD_POOL },
    { .keys = "\"architectures\": 3", .found = MRC_HEAD_POOL },
};
// A folder "d" below `dir` that has the files of a row, config.json in `base` of it.
static void encoder_dir_new(const struct encoder_dir_case *c, const char *base) {
    const char *const files[][2] = {
        { "d/modules.json", c->modules }, { "d/1/config.json", c->module },
        { "d/config_sentence_transformers.json", c->similar },
        { "d/artifact.metadata", c->colbert } };
    const char *keys = c->keys ? c->keys : "\"pad_token_id\": 0";
    char config[512], name[80];
    CHECK(mrc_dir_remove(ctx, path_of("d")) == MRC_OK, "%s", mrc_ctx_message(ctx));
    snprintf(name, sizeof name, "d/%s", base);
    CHECK(mrc_dir_new(ctx, path_of("d")) == MRC_OK && mrc_dir_new(ctx, path_of("d/1")) == MRC_OK
          && mrc_dir_new(ctx, path_of(name)) == MRC_OK, "%s", mrc_ctx_message(ctx));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (files[i][1]) text_new(files[i][0], files[i][1]);
    }
    snprintf(config, sizeof config, "{%s%s%s, \"vocab_size\": 20, \"hidden_size\": 8, "
             "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, \"intermediate_size\": 8}",
             strstr(keys, "model_type") ? "" : "\"model_type\": \"bert\", ",
             strstr(keys, "max_position") ? "" : "\"max_position_embeddings\": 64, ", keys);
    snprintf(name, sizeof name, "d/%s/config.json", base);
    text_new(name, config);
    snprintf(name, sizeof name, "d/%s/sentence_bert_config.json", base);
    if (c->transformer) text_new(name, c->transformer);
}
// The folder of config.json is the one that modules.json names.
static void test_encoder_base(void) {
    static const struct encoder_dir_case c = { .modules =
        "[{\"path\": \"0_BERT\", \"type\": \"x.Transformer\"}, " MODULE("Pooling") "]", .module =
        "{\"pooling_mode\": \"max\"}", .transformer = "{\"max_seq_length\": 16}" };
    mrc_model_config m;
    encoder_dir_new(&c, "0_BERT");
    if (!CHECK(mrc_encoder_config_load(ctx, &m, path_of("d"), MRC_HEAD_POOL, NULL) == MRC_OK, "%s",
               mrc_ctx_message(ctx))) return;
    CHECK(m.hidden_size == 8 && m.encoder.poolings == 2 && m.encoder.query_max_length == 16,
          "%zu, %u, %zu", m.hidden_size, m.encoder.poolings, m.encoder.query_max_length);
}

static void test_encoder_dirs(void) {
    for (size_t i = 0; i < 2 * sizeof encoder_dirs / sizeof *encoder_dirs; i++) {
        const struct encoder_dir_case *c = &encoder_dirs[i / 2];
        mrc_model_config m;
        encoder_dir_new(c, i % 2 ? "0_Transformer" : ".");      // as old directories have it
        mrc_status s = mrc_encoder_config_load(ctx, &m, path_of("d"), c->head, c->pooling);
        char what[32];
        snprintf(what, sizeof what, "row %zu", i / 2);
        if (c->words) {
            refused(s, what, c->words);
            continue;
        }
        if (!CHECK(s == MRC_OK, "%s: %s", what, mrc_ctx_message(ctx))) continue;
        const mrc_encoder_config *e = &m.encoder;
        CHECK(m.head == (c->found ? c->found : MRC_HEAD_POOL), "%s: head %d", what, (int)m.head);
        CHECK(!c->poolings || e->poolings == c->poolings, "%s: poolings %u", what, e->poolings);
        CHECK(!c->width || e->projection_size == c->width, "%s: width %zu", what,
              e->projection_size);
        CHECK((!c->query || e->query_max_length == c->query)
              && (!c->passage || e->passage_max_length == c->passage), "%s: %zu and %zu tokens",
              what, e->query_max_length, e->passage_max_length);
        CHECK(e->query_max_length && e->passage_max_length && e->num_labels, "%s", what);
    }
}

int main(void) {
    const mrc_ctx_desc desc = { .log = note };
    if (!CHECK(mrc_ctx_new(&ctx, &desc) == MRC_OK && mrc_dir_new(ctx, "build") == MRC_OK
               && mkdtemp(folder) != NULL, "%s", folder)) return test_end();
    test_arrow();
    test_unanswerable();
    test_shapes();
    test_named();
    test_config_keys();
    test_encoder_dirs();
    test_encoder_base();
    test_tables();
    test_writers();
    test_errno();
    test_find();
    CHECK(mrc_dir_new(ctx, path_of("act")) == MRC_OK, "%s", mrc_ctx_message(ctx));
    test_status();
    test_searcher();
    test_processors();
    test_arena();
    CHECK(mrc_dir_remove(ctx, folder) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    return test_end();
}
