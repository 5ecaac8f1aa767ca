// tools/logs.h: TensorBoard's event files and offline runs of W&B, read by decoders written for
// this test alone: checksums, frames over the ends of blocks, steps and values; files that were
// torn or cut at any byte, and rows that are given again.
//
//     test_logs FILE      prints what is in one: STEP KEY VALUE
#define TEST_LINKED
#define _GNU_SOURCE
#include "../../tools/logs.h"
#include "../support/test.h"
#include <sys/stat.h>

static mrc_ctx *ctx;
static char     dir[64];

//==============================================================================
// Decoders
//==============================================================================
typedef struct found { uint64_t step; char key[64]; double value; } found;
typedef struct rows { found list[20000]; size_t n, records, ends; int torn; } rows;

static uint32_t crc_of(uint32_t polynomial, const unsigned char *s, size_t n) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < 8 * n; i++) {
        uint32_t bit = (crc ^ (uint32_t)(s[i / 8] >> i % 8)) & 1;
        crc = (crc >> 1) ^ (bit ? polynomial : 0);
    }
    return ~crc;
}

typedef struct field { unsigned number; uint64_t integer; const unsigned char *s; } field;
static uint64_t varint(const unsigned char **s) {
    uint64_t x = 0;
    for (int shift = 0; ; shift += 7) {
        x |= (uint64_t)(**s & 127) << shift;
        if (*(*s)++ < 128) return x;
    }
}
// The field at *s; strings have their length in `integer`.
static field next_field(const unsigned char **s) {
    uint64_t tag = varint(s);
    field f = { .number = (unsigned)(tag >> 3) };
    if ((tag & 7) == 0) f.integer = varint(s);
    else f.integer = (tag & 7) == 2 ? varint(s) : (tag & 7) == 1 ? 8 : 4;
    f.s = *s;
    if ((tag & 7) != 0) *s += f.integer;
    return f;
}

static void add_found(rows *r, uint64_t step, const field *key, double value) {
    if (r->n == sizeof r->list / sizeof *r->list) return;
    found *f = &r->list[r->n++];
    f->step = step;
    f->value = value;
    snprintf(f->key, sizeof f->key, "%.*s", (int)key->integer, (const char *)key->s);
}

// A list of messages under field 1 that have a key (1) and a value (2 float or 16 JSON).
static void decode_items(rows *r, uint64_t step, const unsigned char *s, uint64_t n) {
    for (const unsigned char *end = s + n; s < end; ) {
        field item = next_field(&s), key = { 0 };
        if (item.number != 1) continue;
        for (const unsigned char *at = item.s; at < item.s + item.integer; ) {
            field f = next_field(&at);
            float value;
            char text[64];
            if (f.number == 1) key = f;
            if (f.number == 2) {
                memcpy(&value, f.s, 4);
                add_found(r, step, &key, (double)value);
            }
            if (f.number == 16) {
                snprintf(text, sizeof text, "%.*s", (int)f.integer, (const char *)f.s);
                add_found(r, step, &key, strtod(text, NULL));
            }
        }
    }
}

static void decode_event(rows *r, const unsigned char *s, uint64_t n) {
    field summary = { 0 };
    uint64_t step = 0;
    for (const unsigned char *end = s + n; s < end; ) {
        field f = next_field(&s);
        if (f.number == 2) step = f.integer;
        if (f.number == 5) summary = f;
    }
    if (summary.s) decode_items(r, step, summary.s, summary.integer);
}

static void decode_record(rows *r, const unsigned char *s, uint64_t n) {
    for (const unsigned char *end = s + n; s < end; ) {
        field f = next_field(&s);
        uint64_t step = 0;
        if (f.number == 18) r->ends++;
        if (f.number != 2) continue;
        for (const unsigned char *at = f.s; at < f.s + f.integer; ) {
            field g = next_field(&at);
            if (g.number != 2 || !g.integer) continue;
            const unsigned char *number = g.s;
            step = next_field(&number).integer;
        }
        decode_items(r, step, f.s, f.integer);
    }
}

static uint32_t u32(const unsigned char *s) {
    return (uint32_t)s[0] | (uint32_t)s[1] << 8 | (uint32_t)s[2] << 16 | (uint32_t)s[3] << 24;
}
static uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

static void decode_events(rows *r, const unsigned char *s, size_t bytes) {
    for (size_t at = 0; at < bytes; r->records++) {
        uint32_t n = bytes - at >= 16 ? u32(s + at) : 0xffffffff;
        if (n > bytes - at - 16 || masked(crc_of(0x82f63b78, s + at, 8)) != u32(s + at + 8)
            || masked(crc_of(0x82f63b78, s + at + 12, n)) != u32(s + at + 12 + n)) {
            r->torn = 1;
            return;
        }
        decode_event(r, s + at + 12, n);
        at += 16 + n;
    }
}

static void decode_wandb(rows *r, const unsigned char *s, size_t bytes) {
    static unsigned char whole[1 << 16];
    size_t have = 0;
    r->torn = bytes < 7 || memcmp(s, ":W&B\xe1\xbe", 7) != 0;
    for (size_t at = 7; at < bytes && !r->torn; ) {
        if (32768 - at % 32768 < 7) {
            for (; at % 32768 && at < bytes; at++) r->torn |= s[at] != 0;
            continue;
        }
        size_t n = bytes - at >= 7 ? (size_t)s[at + 4] | (size_t)s[at + 5] << 8 : bytes;
        unsigned char type = bytes - at >= 7 ? s[at + 6] : 0;
        r->torn = n > bytes - at - 7 || have + n > sizeof whole
               || crc_of(0xedb88320, s + at + 6, n + 1) != u32(s + at)
               || (type == 1 || type == 2 ? have != 0 : have == 0) || n > 32768 - at % 32768 - 7;
        if (r->torn) return;
        memcpy(whole + have, s + at + 7, n);
        have += n;
        at += 7 + n;
        if (type != 1 && type != 4) continue;
        decode_record(r, whole, have);
        have = 0;
        r->records++;
    }
    r->torn |= have != 0;
}

static rows *decode(const char *path) {
    static rows r;
    char *data;
    size_t bytes;
    memset(&r, 0, sizeof r);
    if (mrc_file_read(ctx, &data, &bytes, path) != MRC_OK) {
        printf("%s\n", mrc_ctx_message(ctx));
        exit(3);
    }
    if (strstr(path, ".wandb")) decode_wandb(&r, (const unsigned char *)data, bytes);
    else decode_events(&r, (const unsigned char *)data, bytes);
    mrc_file_free(ctx, data);
    return &r;
}

//==============================================================================
// Writing
//==============================================================================
static tool_logs logs;
static char      events[TOOL_PATH_BYTES], wandb[TOOL_PATH_BYTES];

static void begin(void) {
    tool_logs_desc desc = { .output_dir = dir, .report_to = "tensorboard,wandb",
                            .flags = "{\"head\": \"linear\", \"lr\": 0.5, \"fp16\": false}" };
    tool_logs_open(&logs, ctx, &desc);
    memcpy(events, logs.log[LOG_EVENTS].path, sizeof events);
    memcpy(wandb, logs.log[LOG_WANDB].path, sizeof wandb);
}

// Steps from..to, two lines each; the loss of one is not finite.
static void add(uint64_t from, uint64_t to) {
    for (uint64_t step = from; step <= to; step++) {
        for (int line = 0; line < 2; line++) {
            char text[256];
            mrc_json *parsed;
            int n = line ? snprintf(text, sizeof text, "{\"step\": %llu, \"epoch\": 1.5, "
                                    "\"eval/f1\": %g, \"best_acc\": 0.25}",
                                    (unsigned long long)step, 1.0 / (double)step)
                  : snprintf(text, sizeof text, "{\"step\": %llu, \"epoch\": 1.5, \"bad/batch\": "
                             "[\"a\"], \"train/loss\": %s}", (unsigned long long)step,
                             step == 2 ? "null" : "0.1");
            CHECK(mrc_json_parse(ctx, &parsed, "line", text, (size_t)n, 0) == MRC_OK, "%s", text);
            tool_logs_row(&logs, parsed, 1.5);
            mrc_json_free(parsed);
        }
        if (step % 2) tool_logs_flush(&logs, 1.5);
    }
}

// Both files have each step up to n once, with its values.
static void check(const char *what, uint64_t n, int ended) {
    for (int kind = 0; kind < 2; kind++) {
        const rows *r = decode(kind ? wandb : events);
        int losses = 0, scores = 0, others = 0, wrong = 0, steps = (int)n;
        uint64_t last = 0;
        for (size_t i = 0; i < r->n; i++) {
            const found *f = &r->list[i];
            int loss = !strcmp(f->key, "train/loss"), score = !strcmp(f->key, "eval/f1");
            losses += loss;
            scores += score;
            others += !strcmp(f->key, "best_acc") && f->value == 0.25;
            wrong += f->step < last || f->step > last + 1;
            last = f->step;
            if (loss) wrong += f->step == 2 ? !isnan(f->value) : !(fabs(f->value - 0.1) < 1e-8);
            if (score) wrong += !(fabs(f->value * (double)f->step - 1) < 1e-5);
        }
        CHECK(!r->torn && !wrong && losses == steps && scores == steps && others == steps
              && last == n && r->ends == (size_t)(kind && ended), "%s, %s: torn %d, %d wrong, %d "
              "losses, %d scores, the last step is %d, %d ends", what, kind ? "W&B" : "TensorBoard",
              r->torn, wrong, losses, scores, (int)last, (int)r->ends);
    }
}

static void leave(void) {               // as a process that dies: what is collected is lost
    for (int kind = 0; kind < LOG_KINDS; kind++) {
        tool_log_file *l = &logs.log[kind];
        if (l->fd >= 0) close(l->fd);
        mrc_file_free(ctx, l->old);
    }
}

static void test_checksums(void) {
    static const char start[] = "\x18\0\0\0\0\0\0\0";   // of every event file
    CHECK(logs__crc32('1', "23456789", 8) == 0xcbf43926u, "CRC-32");
    CHECK(logs__masked_crc(start, 8) == 0x224b7fa3u, "masked CRC-32C");
    CHECK(crc_of(0xedb88320, (const unsigned char *)"123456789", 9) == 0xcbf43926u
          && crc_of(0x82f63b78, (const unsigned char *)"123456789", 9) == 0xe3069283u, "our own");
}

// What a run writes; the whole again; a part of it, then more.
static void test_rows(void) {
    enum { HALF = 201, N = 401 };       // a .wandb file of more than three blocks
    struct stat before, after;
    begin();
    tool_logs_ready(&logs);
    add(1, N);
    tool_logs_finish(&logs, 2);
    check("a run", N, 1);
    CHECK(stat(wandb, &before) == 0 && before.st_size > 3 * 32768, "too small for its purpose");
    begin();
    add(1, N);
    tool_logs_ready(&logs);
    tool_logs_finish(&logs, 2);
    CHECK(stat(wandb, &after) == 0 && after.st_size == before.st_size, "resumed at its end");
    check("resumed at its end", N, 1);
    begin();
    add(1, HALF);
    tool_logs_ready(&logs);
    leave();
    check("resumed in its middle", HALF, 0);
    begin();
    add(1, HALF);
    tool_logs_ready(&logs);
    add(HALF + 1, N);
    tool_logs_finish(&logs, 2);
    check("gone on with", N, 1);
}

// Cut at any byte, or with it changed, then resumed after four of six steps; one in five of them,
// as each try syncs files.
static void test_torn(void) {
    char *data[2];
    size_t bytes[2];
    tool_logs_remove(ctx, dir);
    begin();
    tool_logs_ready(&logs);
    add(1, 6);
    tool_logs_finish(&logs, 2);
    for (int kind = 0; kind < 2; kind++) {
        const char *path = kind ? wandb : events;
        CHECK(mrc_file_read(ctx, &data[kind], &bytes[kind], path) == MRC_OK, "%s", path);
        for (size_t at = 0; at < 2 * bytes[kind]; at += 9) {
            FILE *f = fopen(path, "wb");
            size_t place = at / 2;
            char was = data[kind][place];
            if (at % 2) data[kind][place] = (char)(was ^ 1);
            fwrite(data[kind], 1, at % 2 ? bytes[kind] : place, f);
            data[kind][place] = was;
            fclose(f);
            begin();
            add(1, 4);
            tool_logs_ready(&logs);
            add(5, 6);
            tool_logs_finish(&logs, 2);
            char what[64];
            snprintf(what, sizeof what, "%s at byte %d", at % 2 ? "changed" : "cut", (int)place);
            check(what, 6, 1);
            if (test_failed > 5) break;
        }
        mrc_file_free(ctx, data[kind]);
    }
}

// Logs that are not wanted any more are left alone; a new run removes what it can name, no more.
static void test_places(void) {
    char mine[128], folder[128];
    tool_logs_desc none = { .output_dir = dir, .report_to = "none", .flags = "{}" };
    tool_logs_open(&logs, ctx, &none);
    tool_logs_ready(&logs);
    CHECK(logs.log[LOG_EVENTS].fd < 0 && logs.log[LOG_WANDB].fd < 0, "none");
    check("left alone", 6, 1);
    snprintf(mine, sizeof mine, "%s/runs/mine", dir);
    CHECK(mrc_file_write(ctx, mine, "x", 1) == MRC_OK, "%s", mine);
    tool_logs_remove(ctx, dir);
    snprintf(folder, sizeof folder, "%s/wandb", dir);
    CHECK(mrc_path_kind(mine) == MRC_PATH_FILE && !mrc_path_kind(events) && !mrc_path_kind(folder),
          "removed");
    snprintf(folder, sizeof folder, "%s/logs.json", dir);
    static const char foreign[] = "{\"tensorboard\": \"runs/mine\", \"wandb\": "
                                  "\"wandb/offline-run-1/../../runs/x\"}";
    CHECK(mrc_file_write(ctx, folder, foreign, sizeof foreign - 1) == MRC_OK, "%s", folder);
    tool_logs_remove(ctx, dir);
    CHECK(mrc_path_kind(mine) == MRC_PATH_FILE, "a file that is not ours was removed");
    unlink(folder);
    // A folder of its own choice, relative to where the program runs.
    char here[512];
    if (!CHECK(getcwd(here, sizeof here) && chdir(dir) == 0, "chdir")) return;
    tool_logs_desc named = { .output_dir = "out", .report_to = "tensorboard",
                             .logging_dir = "tb/a", .flags = "{}" };
    CHECK(mrc_dir_new(ctx, "out") == MRC_OK, "%s", mrc_ctx_message(ctx));
    tool_logs_open(&logs, ctx, &named);
    tool_logs_finish(&logs, 0);
    CHECK(mrc_path_kind("tb/a") == MRC_PATH_DIR
              && strstr(logs.log[LOG_EVENTS].path, "/tb/a/events.out."),
          "--logging_dir: %s", logs.log[LOG_EVENTS].path);
    CHECK(chdir(here) == 0, "chdir");
}

int main(int argc, char **argv) {
    ctx = tool_ctx_new(NULL, 0);
    if (argc == 2) {
        const rows *r = decode(argv[1]);
        for (size_t i = 0; i < r->n; i++) {
            printf("%llu %s %.17g\n", (unsigned long long)r->list[i].step, r->list[i].key,
                   r->list[i].value);
        }
        return r->torn ? 3 : 0;
    }
    // In memory where that can be: hundreds of files are synced.
    snprintf(dir, sizeof dir, "%s/mrc_logs_XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    CHECK(mkdtemp(dir) != NULL, "%s", dir);
    test_checksums();
    test_rows();
    test_torn();
    test_places();
    CHECK(mrc_dir_remove(ctx, dir) == MRC_OK, "%s", mrc_ctx_message(ctx));
    mrc_ctx_free(ctx);
    return test_end();
}
