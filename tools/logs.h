// What a run logs, written for others to read: a TensorBoard event file, an offline W&B run.
//
// Both follow log.jsonl line by line and hold nothing else but times.  A run that goes on gives the
// lines it has kept once more: as long as the file has them already they are passed over, from the
// first that it lacks the file is cut and written anew.  So no step is lost or stands twice,
// wherever the process before was killed, and no checkpoint needs to know of these files.
// Where they are stands in OUTPUT_DIR/logs.json.
//
//     tool_logs_open(&logs, ..);                      // then the lines of log.jsonl that hold
//     tool_logs_row(&logs, line, seconds);
//     tool_logs_ready(&logs);                         // what is beyond them goes
//     tool_logs_row(&logs, line, seconds);            // the run itself
//     tool_logs_flush(&logs, seconds);                // no more of this step
//     tool_logs_finish(&logs, seconds);               // the run has ended well
#ifndef LOGS_H
#define LOGS_H
#include "tool.h"

enum { LOG_EVENTS, LOG_WANDB, LOG_KINDS };
#define LOG_ITEMS 32                    // keys of one step, at most
#define LOG_BLOCK 32768                 // LevelDB's, in a .wandb file

// One file.  `at` is how much of it holds; what a process before left beyond is in `old`.
typedef struct tool_log_file {
    mrc_ctx *ctx;
    char     path[TOOL_PATH_BYTES];
    int      fd;                        // -1: not wanted
    int      kind;
    char    *old;
    size_t   old_bytes;
    uint64_t at;
} tool_log_file;

// Keys and their values as JSON.
typedef struct tool_log_items {
    struct { char key[64], value[40]; } list[LOG_ITEMS];
    size_t n;
} tool_log_items;

typedef struct tool_logs {
    tool_log_file       log[LOG_KINDS];
    char           output_dir[TOOL_PATH_BYTES], wandb_dir[TOOL_PATH_BYTES];
    uint64_t       step;                // of the row of W&B that is being collected
    tool_log_items row, last;           // last: of each key, in the whole run
} tool_logs;

//==============================================================================
// Protocol buffers: what little of them is needed
//==============================================================================
static void logs__pb_varint(mrc_text *t, uint64_t x) {
    for (; x > 127; x >>= 7) mrc_text_add(t, &(char){ (char)(x | 128) }, 1);
    mrc_text_add(t, &(char){ (char)x }, 1);
}
static void logs__pb_integer(mrc_text *t, unsigned field, uint64_t x) {
    logs__pb_varint(t, field << 3);
    logs__pb_varint(t, x);
}
static void logs__pb_bytes(mrc_text *t, unsigned field, const char *s, size_t bytes) {
    logs__pb_varint(t, field << 3 | 2);
    logs__pb_varint(t, bytes);
    mrc_text_add(t, s, bytes);
}
static void logs__pb_string(mrc_text *t, unsigned field, const char *s) {
    logs__pb_bytes(t, field, s, strlen(s));
}
// A message inside another; it is freed.
static void logs__pb_message(mrc_text *t, unsigned field, mrc_text *message) {
    t->failed |= message->failed;
    logs__pb_bytes(t, field, message->bytes ? message->data : "", message->bytes);
    mrc_text_free(message);
}
static void logs__pb_little_endian(mrc_text *t, uint64_t x, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) mrc_text_add(t, &(char){ (char)(x >> 8 * i) }, 1);
}
static void logs__pb_double(mrc_text *t, unsigned field, double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    logs__pb_varint(t, field << 3 | 1);
    logs__pb_little_endian(t, bits, 8);
}
static void logs__pb_float(mrc_text *t, unsigned field, double x) {
    float narrow = (float)x;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    logs__pb_varint(t, field << 3 | 5);
    logs__pb_little_endian(t, bits, 4);
}

static uint64_t logs__read_little_endian(const char *s, size_t bytes) {
    uint64_t x = 0;
    for (size_t i = bytes; i--; ) x = x << 8 | (unsigned char)s[i];
    return x;
}

static int logs__read_varint(const char *s, size_t n, size_t *at, uint64_t *x) {
    *x = 0;
    for (unsigned shift = 0; *at < n && shift < 64; shift += 7) {
        unsigned char c = (unsigned char)s[(*at)++];
        *x |= (uint64_t)(c & 127) << shift;
        if (c < 128) return 1;
    }
    return 0;
}

// The first such field of a message: an integer, or *bytes with its length; 0: it has none.
static int logs__pb_find(const char *s, size_t n, unsigned field, const char **bytes, uint64_t *x) {
    uint64_t tag;
    for (size_t at = 0; at < n && logs__read_varint(s, n, &at, &tag); ) {
        unsigned type = tag & 7;
        const char *here;
        if (type == 0) {
            if (!logs__read_varint(s, n, &at, x)) return 0;
            here = s + at;
        } else {
            *x = type == 1 ? 8 : 4;
            if (type != 1 && type != 5 && (type != 2 || !logs__read_varint(s, n, &at, x))) return 0;
            if (*x > n - at) return 0;
            here = s + at;
            at += (size_t)*x;
        }
        if (tag >> 3 != field) continue;
        *bytes = here;
        return 1;
    }
    return 0;
}

//==============================================================================
// Frames: TFRecord with CRC-32C, LevelDB's log with zlib's CRC-32
//==============================================================================
static uint32_t logs__masked_crc(const char *s, size_t bytes) {
    uint32_t crc = mrc_crc32c(0, s, bytes);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

// zlib's, of a LevelDB record's type and payload.
static uint32_t logs__crc32(uint8_t type, const char *s, size_t bytes) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i <= bytes; i++) {
        crc ^= i ? (uint8_t)s[i - 1] : type;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void logs__frame_event(mrc_text *to, const mrc_text *payload) {
    char length[8];
    for (int i = 0; i < 8; i++) length[i] = (char)((uint64_t)payload->bytes >> 8 * i);
    mrc_text_add(to, length, 8);
    logs__pb_little_endian(to, logs__masked_crc(length, 8), 4);
    mrc_text_add(to, payload->data, payload->bytes);
    logs__pb_little_endian(to, logs__masked_crc(payload->data, payload->bytes), 4);
}

// In pieces where a block ends; what is left of one that has no room for a header is zeros.
static void logs__frame_wandb(mrc_text *to, const mrc_text *payload, uint64_t at) {
    enum { FULL = 1, FIRST, MIDDLE, LAST };
    size_t done = 0;
    do {
        size_t room = LOG_BLOCK - (size_t)((at + to->bytes) % LOG_BLOCK);
        if (room < 7) {
            mrc_text_add(to, "\0\0\0\0\0\0", room);
            room = LOG_BLOCK;
        }
        size_t left = payload->bytes - done, n = left < room - 7 ? left : room - 7;
        uint8_t type = n == payload->bytes ? FULL : !done ? FIRST : n < left ? MIDDLE : LAST;
        logs__pb_little_endian(to, logs__crc32(type, payload->data + done, n), 4);
        logs__pb_little_endian(to, n, 2);
        logs__pb_little_endian(to, type, 1);
        mrc_text_add(to, payload->data + done, n);
        done += n;
    } while (done < payload->bytes && !to->failed);
}

// The record of `old` at *at, moving on; 0: there is none, or it is torn.
static int logs__read_event(const tool_log_file *l, uint64_t *at, mrc_text *payload) {
    const char *s = l->old + *at;
    size_t left = l->old_bytes - (size_t)*at;
    if (left < 16 || logs__read_little_endian(s + 8, 4) != logs__masked_crc(s, 8)) return 0;
    uint64_t n = logs__read_little_endian(s, 8);
    if (n > left - 16) return 0;
    if (logs__read_little_endian(s + 12 + n, 4) != logs__masked_crc(s + 12, (size_t)n)) return 0;
    mrc_text_add(payload, s + 12, (size_t)n);
    *at += 16 + n;
    return !payload->failed;
}

static int logs__read_wandb(const tool_log_file *l, uint64_t *at, mrc_text *payload) {
    for (;;) {
        size_t room = LOG_BLOCK - (size_t)(*at % LOG_BLOCK);
        if (room < 7) *at += room;
        if (*at + 7 > l->old_bytes) return 0;
        const char *s = l->old + *at;
        size_t n = (size_t)logs__read_little_endian(s + 4, 2);
        uint8_t type = (uint8_t)s[6];
        if (n > l->old_bytes - *at - 7) return 0;
        if (logs__read_little_endian(s, 4) != logs__crc32(type, s + 7, n)) return 0;
        mrc_text_add(payload, s + 7, n);
        *at += 7 + n;
        if (type == 1 || type == 4) return !payload->failed;
    }
}

//==============================================================================
// A file
//==============================================================================
_Noreturn static void logs__write_fail(const tool_log_file *l) {
    tool_fail(TOOL_IO, "%s: cannot be written: %s", l->path, strerror(errno));
}

// What stands beyond `at` goes.
static void logs__cut(tool_log_file *l) {
    if (l->fd < 0 || !l->old) return;
    if (l->old_bytes > l->at && ftruncate(l->fd, (off_t)l->at) != 0) logs__write_fail(l);
    mrc_file_free(l->ctx, l->old);
    l->old = NULL;
}

static void logs__write(tool_log_file *l, const char *data, size_t bytes) {
    for (size_t done = 0; done < bytes; ) {
        ssize_t n = pwrite(l->fd, data + done, bytes - done, (off_t)(l->at + done));
        if (n < 0 && errno != EINTR) logs__write_fail(l);
        if (n > 0) done += (size_t)n;
    }
    l->at += bytes;
}

// Whether a record is of that field and, where it has one, that step.
static int logs__record_is(const tool_log_file *l, const mrc_text *record, unsigned field,
                           uint64_t step) {
    const char *s = record->data, *inner;
    size_t n = record->bytes;
    uint64_t bytes, found = 0;
    if (!n || !logs__pb_find(s, n, field, &inner, &bytes)) return 0;
    if (l->kind == LOG_WANDB) {
        if (field != 2) return 1;
        s = inner;                      // HistoryRecord.step.num
        n = (size_t)bytes;
        if (!logs__pb_find(s, n, 2, &inner, &bytes)) return 0;
        if (!logs__pb_find(inner, (size_t)bytes, 1, &s, &found)) found = 0;
    } else if (!logs__pb_find(s, n, 2, &inner, &found)) {
        found = 0;                      // as protocol buffers leave it out
    }
    return found == step;
}

// Adds a record, which is freed, unless it stands there: one with that field, of that step.
static void logs__record(tool_log_file *l, mrc_text *record, unsigned field, uint64_t step) {
    mrc_text found, frame;
    uint64_t at = l->at;
    mrc_text_init(&found, l->ctx);
    int stands = l->old && (l->kind == LOG_EVENTS ? logs__read_event(l, &at, &found)
                                                  : logs__read_wandb(l, &at, &found))
              && logs__record_is(l, &found, field, step);
    mrc_text_free(&found);
    if (stands) {
        l->at = at;
    } else {
        logs__cut(l);
        mrc_text_init(&frame, l->ctx);
        if (l->kind == LOG_EVENTS) logs__frame_event(&frame, record);
        else logs__frame_wandb(&frame, record, l->at);
        tool_check_text(record);
        tool_check_text(&frame);
        logs__write(l, frame.data, frame.bytes);
        mrc_text_free(&frame);
    }
    mrc_text_free(record);
}

static double logs__clock(void) {         // seconds since 1970
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void logs__open(tool_log_file *l, mrc_ctx *ctx, int kind) {
    l->ctx = ctx;
    l->kind = kind;
    if (mrc_path_kind(l->path) == MRC_PATH_FILE) {
        tool_check(ctx, mrc_file_read(ctx, &l->old, &l->old_bytes, l->path));
    }
    l->fd = open(l->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (l->fd < 0) tool_fail(TOOL_IO, "%s: cannot be opened: %s", l->path, strerror(errno));
}

//==============================================================================
// TensorBoard
//==============================================================================
static void logs__events_begin(tool_log_file *l) {
    mrc_text event;
    mrc_text_init(&event, l->ctx);
    logs__pb_double(&event, 1, logs__clock());
    logs__pb_string(&event, 3, "brain.Event:2");
    logs__record(l, &event, 3, 0);
}

// Whether a member of a line is a value to plot; null is a number that was not finite.
static int logs__is_value(const mrc_json *m) {
    return strcmp(m->key, "step") && (m->type == MRC_JSON_NUMBER || m->type == MRC_JSON_NULL);
}

// A line of log.jsonl as one event.
static void logs__events_row(tool_log_file *l, const mrc_json *line, uint64_t step) {
    mrc_text event, summary, value;
    mrc_text_init(&event, l->ctx);
    mrc_text_init(&summary, l->ctx);
    for (const mrc_json *m = line->child; m; m = m->next) {
        if (!logs__is_value(m)) continue;
        mrc_text_init(&value, l->ctx);
        logs__pb_string(&value, 1, m->key);
        logs__pb_float(&value, 2, m->type == MRC_JSON_NUMBER ? m->number : (double)NAN);
        logs__pb_message(&summary, 1, &value);
    }
    logs__pb_double(&event, 1, logs__clock());
    logs__pb_integer(&event, 2, step);
    logs__pb_message(&event, 5, &summary);
    logs__record(l, &event, 5, step);
}

//==============================================================================
// Weights & Biases
//==============================================================================
// Key and JSON value: an item of a history, a summary or a configuration.
static void logs__wandb_item(mrc_text *to, const mrc_ctx *ctx, unsigned field, const char *key,
                       const char *json) {
    mrc_text item;
    mrc_text_init(&item, ctx);
    logs__pb_string(&item, 1, key);
    logs__pb_string(&item, 16, json);
    logs__pb_message(to, field, &item);
}

static void logs__wandb_header(tool_log_file *l) {
    mrc_text record, header, version;
    char producer[64];
    snprintf(producer, sizeof producer, "mrc %d.%d.%d", MRC_VERSION_MAJOR, MRC_VERSION_MINOR,
             MRC_VERSION_PATCH);
    mrc_text_init(&record, l->ctx);
    mrc_text_init(&header, l->ctx);
    mrc_text_init(&version, l->ctx);
    logs__pb_string(&version, 1, producer);
    logs__pb_string(&version, 2, "0.70.0");   // the oldest W&B that reads this
    logs__pb_message(&header, 1, &version);
    logs__pb_message(&record, 21, &header);
    logs__record(l, &record, 21, 0);
}

// The run and its configuration, which files/config.yaml repeats.
static void logs__wandb_begin(tool_logs *logs, const char *id, const char *name,
                              const mrc_json *flags) {
    tool_log_file *l = &logs->log[LOG_WANDB];
    static const char magic[7] = ":W&B\xe1\xbe";
    const char *project = getenv("WANDB_PROJECT");
    mrc_text record, body, config, yaml, stamp;
    if (l->old && (l->old_bytes < 7 || memcmp(l->old, magic, 7))) logs__cut(l);
    if (l->old) l->at = 7;
    else logs__write(l, magic, 7);
    logs__wandb_header(l);
    mrc_text_init(&record, l->ctx);
    mrc_text_init(&body, l->ctx);
    mrc_text_init(&config, l->ctx);
    mrc_text_init(&yaml, l->ctx);
    mrc_text_init(&stamp, l->ctx);
    for (const mrc_json *m = flags->child; m; m = m->next) {
        mrc_text value;
        mrc_text_init(&value, l->ctx);
        tool_json_value(&value, m);
        tool_check_text(&value);
        logs__wandb_item(&config, l->ctx, 1, m->key, value.data);
        mrc_text_printf(&yaml, "%s:\n    value: %s\n", m->key, value.data);
        mrc_text_free(&value);
    }
    double now = logs__clock();
    logs__pb_integer(&stamp, 1, (uint64_t)now);
    logs__pb_integer(&stamp, 2, (uint64_t)((now - floor(now)) * 1e9));
    logs__pb_string(&body, 1, id);
    logs__pb_string(&body, 3, project && *project ? project : "huggingface");
    logs__pb_message(&body, 4, &config);
    logs__pb_string(&body, 8, name);
    logs__pb_message(&body, 17, &stamp);
    logs__pb_message(&record, 17, &body);
    logs__record(l, &record, 17, 0);
    char path[TOOL_PATH_BYTES];
    tool_check_text(&yaml);
    tool_check(l->ctx, mrc_file_write(l->ctx, tool_path(path, logs->wandb_dir, "files/config.yaml"),
                                      yaml.bytes ? yaml.data : "", yaml.bytes));
    mrc_text_free(&yaml);
}

static void logs__wandb_set(const tool_log_file *l, tool_log_items *to, const char *key,
                            const char *json) {
    size_t i = 0;
    while (i < to->n && strcmp(to->list[i].key, key)) i++;
    if (i == LOG_ITEMS) {
        tool_fail(TOOL_BAD_INPUT, "%s: too many keys to log (found %s too, expected at most %d)",
                  l->path, key, LOG_ITEMS);
    }
    if (i == to->n) to->n++;
    snprintf(to->list[i].key, sizeof to->list[i].key, "%s", key);
    snprintf(to->list[i].value, sizeof to->list[i].value, "%s", json);
}

static void logs__wandb_set_number(const tool_log_file *l, tool_log_items *to, const char *key,
                                   double x) {
    mrc_text t;
    mrc_text_init(&t, l->ctx);
    mrc_text_number(&t, x);
    tool_check_text(&t);
    logs__wandb_set(l, to, key, t.data);
    mrc_text_free(&t);
}

// All that a step has logged is there: its row, as W&B knows a step once, is written.
TOOL_DEF void tool_logs_flush(tool_logs *logs, double seconds) {
    tool_log_file *l = &logs->log[LOG_WANDB];
    mrc_text history, summary, number, record;
    char step[24];
    if (l->fd < 0 || !logs->row.n) return;
    snprintf(step, sizeof step, "%llu", (unsigned long long)logs->step);
    logs__wandb_set(l, &logs->row, "_step", step);
    logs__wandb_set_number(l, &logs->row, "_timestamp", logs__clock());
    logs__wandb_set_number(l, &logs->row, "_runtime", seconds);
    mrc_text_init(&history, l->ctx);
    mrc_text_init(&summary, l->ctx);
    mrc_text_init(&number, l->ctx);
    for (size_t i = 0; i < logs->row.n; i++) {
        const char *key = logs->row.list[i].key, *value = logs->row.list[i].value;
        logs__wandb_item(&history, l->ctx, 1, key, value);
        logs__wandb_item(&summary, l->ctx, 1, key, value);
        logs__wandb_set(l, &logs->last, key, value);
    }
    logs__pb_integer(&number, 1, logs->step);
    logs__pb_message(&history, 2, &number);
    mrc_text_init(&record, l->ctx);
    logs__pb_message(&record, 2, &history);
    logs__record(l, &record, 2, logs->step);
    mrc_text_init(&record, l->ctx);
    logs__pb_message(&record, 3, &summary);
    logs__record(l, &record, 3, 0);
    logs->row.n = 0;
}

static void logs__wandb_row(tool_logs *logs, const mrc_json *line, uint64_t step, double seconds) {
    const tool_log_file *l = &logs->log[LOG_WANDB];
    if (step != logs->step) tool_logs_flush(logs, seconds);
    logs->step = step;
    for (const mrc_json *m = line->child; m; m = m->next) {
        if (!logs__is_value(m)) continue;
        logs__wandb_set_number(l, &logs->row, m->key, m->type == MRC_JSON_NUMBER ? m->number
                                                                          : (double)NAN);
    }
}

// The last record, and files/wandb-summary.json.
static void logs__wandb_finish(tool_logs *logs, double seconds) {
    tool_log_file *l = &logs->log[LOG_WANDB];
    mrc_text record, body, text;
    char path[TOOL_PATH_BYTES];
    mrc_text_init(&record, l->ctx);
    mrc_text_init(&body, l->ctx);
    mrc_text_init(&text, l->ctx);
    logs__pb_integer(&body, 2, (uint64_t)seconds);
    logs__pb_message(&record, 18, &body);
    logs__record(l, &record, 18, 0);
    if (fsync(l->fd) != 0) logs__write_fail(l);
    mrc_text_add(&text, "{", 1);
    for (size_t i = 0; i < logs->last.n; i++) {
        tool_json_key(&text, logs->last.list[i].key);
        mrc_text_printf(&text, "%s", logs->last.list[i].value);
    }
    mrc_text_add(&text, "}\n", 2);
    tool_check_text(&text);
    tool_path(path, logs->wandb_dir, "files/wandb-summary.json");
    tool_check(l->ctx, mrc_file_write(l->ctx, path, text.data, text.bytes));
    mrc_text_free(&text);
}

//==============================================================================
// Where they are: OUTPUT_DIR/logs.json, paths from there unless they begin with a slash
//==============================================================================
static const char *const logs__kinds[LOG_KINDS] = { "tensorboard", "wandb" };

// The name of this machine as part of a file's name.
static const char *logs__host(char *out, size_t bytes) {
    if (gethostname(out, bytes) != 0) snprintf(out, bytes, "localhost");
    out[bytes - 1] = 0;
    for (char *c = out; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("._-", *c)) *c = '_';
    }
    return out;
}

// Eight characters that no other run has, as far as time and process tell.
static void logs__wandb_new_id(char out[9]) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    uint64_t x = (uint64_t)t.tv_sec * 1000000007u ^ (uint64_t)t.tv_nsec * 2654435761u
               ^ (uint64_t)getpid() * 97531u;
    for (int i = 0; i < 8; i++, x = x / 36 + x * 11400714819323198485u) {
        out[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[x % 36];
    }
    out[8] = 0;
}

// The path of a new file, as logs.json has it.
static void logs__new_path(char *out, int kind, const char *logging_dir) {
    char date[64], host[128], id[9];
    time_t now = time(NULL);
    struct tm tm;
    int n;
    localtime_r(&now, &tm);
    logs__host(host, sizeof host);
    if (kind == LOG_WANDB) {
        logs__wandb_new_id(id);
        strftime(date, sizeof date, "%Y%m%d_%H%M%S", &tm);
        n = snprintf(out, TOOL_PATH_BYTES, "wandb/offline-run-%s-%s/run-%s.wandb", date, id, id);
    } else {
        char folder[TOOL_PATH_BYTES] = "";
        const int relative = logging_dir && *logging_dir != '/';
        strftime(date, sizeof date, "%b%d_%H-%M-%S", &tm);
        if (!logging_dir) snprintf(folder, sizeof folder, "runs/%s_%s", date, host);
        else if (relative && !getcwd(folder, sizeof folder)) folder[0] = '.';
        n = snprintf(out, TOOL_PATH_BYTES, "%s%s%s/events.out.tfevents.%lld.%s.%ld.0", folder,
                     relative ? "/" : "", logging_dir ? logging_dir : "", (long long)now, host,
                     (long)getpid());
    }
    if (n < 0 || n >= TOOL_PATH_BYTES) tool_fail(TOOL_USAGE, "--logging_dir: the path is too long");
}

// A recorded path, if it is one of ours: what is deleted or cut must be nobody else's file.
static const char *logs__recorded(const mrc_json *record, int kind) {
    const mrc_json *v = record ? mrc_json_get(record, logs__kinds[kind]) : NULL;
    const char *path = v && v->type == MRC_JSON_STRING ? v->string : NULL;
    const char *slash = path ? strrchr(path, '/') : NULL;
    if (!slash || strlen(path) >= TOOL_PATH_BYTES) return NULL;
    if (kind == LOG_EVENTS) return strncmp(slash, "/events.out.tfevents.", 21) ? NULL : path;
    return strncmp(path, "wandb/offline-run-", 18) || strchr(path + 6, '/') != slash ? NULL : path;
}

static void logs__place(char *out, const char *output_dir, const char *recorded) {
    if (*recorded == '/') snprintf(out, TOOL_PATH_BYTES, "%s", recorded);
    else tool_path(out, output_dir, recorded);
}

static mrc_json *logs__record_of(mrc_ctx *ctx, const char *output_dir) {
    char path[TOOL_PATH_BYTES];
    mrc_json *record = NULL;
    tool_path(path, output_dir, "logs.json");
    if (mrc_path_kind(path) == MRC_PATH_FILE) tool_check(ctx, mrc_json_load(ctx, &record, path));
    return record;
}

static char *logs__folder(char *path) {   // cuts the last name off
    char *slash = strrchr(path, '/');
    if (slash) *slash = 0;
    return path;
}

// Before an output directory is used anew: what an earlier run has written, and folders left empty.
TOOL_DEF void tool_logs_remove(mrc_ctx *ctx, const char *output_dir) {
    mrc_json *record = logs__record_of(ctx, output_dir);
    char path[TOOL_PATH_BYTES], latest[TOOL_PATH_BYTES];
    for (int kind = 0; kind < LOG_KINDS; kind++) {
        const char *recorded = logs__recorded(record, kind);
        if (!recorded) continue;
        logs__place(path, output_dir, recorded);
        if (kind == LOG_WANDB) {
            tool_check(ctx, mrc_dir_remove(ctx, logs__folder(path)));
            unlink(tool_path(latest, output_dir, "wandb/latest-run"));
        } else {
            unlink(path);
            rmdir(logs__folder(path));
        }
        if (*recorded != '/') rmdir(logs__folder(path));
    }
    mrc_json_free(record);
}

// The folder of a run of W&B: files/, and the link that its tools look for.
static void logs__wandb_prepare(tool_logs *logs) {
    char path[TOOL_PATH_BYTES];
    memcpy(path, logs->log[LOG_WANDB].path, sizeof path);
    memcpy(logs->wandb_dir, logs__folder(path), sizeof path);
    tool_check(logs->log[LOG_WANDB].ctx,
               mrc_dir_new(logs->log[LOG_WANDB].ctx, tool_path(path, logs->wandb_dir, "files")));
    tool_path(path, logs->output_dir, "wandb/latest-run");
    unlink(path);
    if (symlink(strrchr(logs->wandb_dir, '/') + 1, path) != 0) {
        tool_note("%s: cannot be made: %s", path, strerror(errno));
    }
}

//==============================================================================
// Both
//==============================================================================
// Whether --report_to names that kind: "all", or a list with commas.
static int logs__is_wanted(const char *report_to, int kind) {
    int wanted = 0;
    for (const char *s = report_to; *s; ) {
        size_t n = strcspn(s, ",");
        int known = tool__word("none|all|tensorboard|wandb", s, n);
        if (known < 0) {
            tool_fail(TOOL_USAGE, "--report_to: no such logger (found %.*s, expected none, "
                      "tensorboard, wandb, both with a comma, or all)", (int)n, s);
        }
        wanted |= known == 1 || known == 2 + kind;
        s += n + (s[n] == ',');
    }
    return wanted;
}

TOOL_DEF void tool_logs_check(const char *report_to) { logs__is_wanted(report_to, LOG_EVENTS); }

// Before the work begins: whether the folder for TensorBoard's file could be written.
TOOL_DEF void tool_logs_try(const char *report_to, const char *logging_dir) {
    if (logging_dir && logs__is_wanted(report_to, LOG_EVENTS)) tool_try_place(logging_dir, 1);
}

typedef struct tool_logs_desc {
    const char *output_dir, *report_to;
    const char *logging_dir, *run_name; // NULL: OUTPUT_DIR/runs/DATE_HOST, OUTPUT_DIR
    const char *flags;                  // the run's settings, a flat JSON object
} tool_logs_desc;

// Takes up the files that logs.json has, or begins such; logs.json comes first.
static void logs__find(tool_logs *logs, mrc_ctx *ctx, const tool_logs_desc *desc) {
    char path[TOOL_PATH_BYTES];
    mrc_json *record = logs__record_of(ctx, desc->output_dir);
    mrc_text text;
    mrc_text_init(&text, ctx);
    mrc_text_add(&text, "{", 1);
    for (int kind = 0; kind < LOG_KINDS; kind++) {
        const char *recorded = logs__recorded(record, kind);
        logs->log[kind].fd = -1;
        if (!recorded && !logs__is_wanted(desc->report_to, kind)) continue;
        if (recorded) snprintf(path, sizeof path, "%s", recorded);
        else logs__new_path(path, kind, desc->logging_dir);
        tool_json_string(&text, logs__kinds[kind], path);
        if (!logs__is_wanted(desc->report_to, kind)) continue;
        logs__place(logs->log[kind].path, desc->output_dir, path);
    }
    mrc_text_add(&text, "}\n", 2);
    tool_check_text(&text);
    tool_path(path, desc->output_dir, "logs.json");
    if (text.bytes > 3) tool_check(ctx, mrc_file_write(ctx, path, text.data, text.bytes));
    mrc_text_free(&text);
    mrc_json_free(record);
}

TOOL_DEF void tool_logs_open(tool_logs *logs, mrc_ctx *ctx, const tool_logs_desc *desc) {
    char folder[TOOL_PATH_BYTES];
    memset(logs, 0, sizeof *logs);
    snprintf(logs->output_dir, sizeof logs->output_dir, "%s", desc->output_dir);
    logs__find(logs, ctx, desc);
    for (int kind = 0; kind < LOG_KINDS; kind++) {
        tool_log_file *l = &logs->log[kind];
        if (!*l->path) continue;
        memcpy(folder, l->path, sizeof folder);
        tool_check(ctx, mrc_dir_new(ctx, logs__folder(folder)));
        logs__open(l, ctx, kind);
    }
    if (logs->log[LOG_EVENTS].fd >= 0) logs__events_begin(&logs->log[LOG_EVENTS]);
    if (logs->log[LOG_WANDB].fd < 0) return;
    const char *name = desc->run_name ? desc->run_name : desc->output_dir;
    char id[9] = "";
    mrc_json *flags;
    const char *dot = strrchr(logs->log[LOG_WANDB].path, '.');
    if (dot - logs->log[LOG_WANDB].path > 8) memcpy(id, dot - 8, 8);
    tool_check(ctx, mrc_json_parse(ctx, &flags, "flags", desc->flags, strlen(desc->flags), 0));
    logs__wandb_prepare(logs);
    logs__wandb_begin(logs, id, name, flags);
    mrc_json_free(flags);
}

// A line of log.jsonl; seconds: how long the run has been going.
TOOL_DEF void tool_logs_row(tool_logs *logs, const mrc_json *line, double seconds) {
    const mrc_json *at = mrc_json_get(line, "step");
    const uint64_t step = at && at->is_int ? (uint64_t)at->integer : 0;
    if (logs->log[LOG_EVENTS].fd >= 0) logs__events_row(&logs->log[LOG_EVENTS], line, step);
    if (logs->log[LOG_WANDB].fd >= 0) logs__wandb_row(logs, line, step, seconds);
}

// The lines that a resumed run has kept are through: what is beyond them goes.
TOOL_DEF void tool_logs_ready(tool_logs *logs) {
    for (int i = 0; i < LOG_KINDS; i++) logs__cut(&logs->log[i]);
}

TOOL_DEF void tool_logs_finish(tool_logs *logs, double seconds) {
    tool_logs_flush(logs, seconds);
    if (logs->log[LOG_WANDB].fd >= 0) logs__wandb_finish(logs, seconds);
    for (int i = 0; i < LOG_KINDS; i++) {
        if (logs->log[i].fd >= 0) close(logs->log[i].fd);
        logs->log[i].fd = -1;
    }
}
#endif
