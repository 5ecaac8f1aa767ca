// Texts from a file, one after the other: for embed and search; what embed and index ask of them.
#ifndef TEXTS_H
#define TEXTS_H
#include "tool.h"

// How passages become rows, where a directory's own rule is not wanted: embed and index.
#define TEXT_RULE_FLAGS(types, unknown)                                                            \
    { .name = "passage_token_types", .size = &(types), .preset = "1", .max = 1,                    \
      .help = "of a title and a text that are a pair, as DPR's: 1: 0 and 1, as transformers; 0: "  \
      "0 throughout, as DPR's own code" },                                                         \
    { .name = "skiplist_unk", .flag = &(unknown), .help = "of ColBERT: leave out rows of [UNK] "   \
      "too, as Stanford's code and PyLate do where the vocabulary lacks a punctuation mark" }

typedef struct texts {
    mrc_passage  *list;
    size_t        n;
    mrc_passages *records;              // that they came from; NULL: lines of `file`
    char         *file;
    mrc_ctx      *ctx;
} texts;

// Whether the first thing in the file is JSON, or its first line has a tab.  A line may begin with
// a bracket, as headlines do; an array of records goes on with one, or ends.
static int texts_are_records(const char *file) {
    const char *at = file + strspn(file, " \t\r\n\xef\xbb\xbf"), *end = strchr(at, '\n');
    if (*at == '[') {
        const char next = at[1 + strspn(at + 1, " \t\r\n")];
        if (next == '{' || next == ']') return 1;
    }
    if (*at == '{') return 1;
    return memchr(at, '\t', end ? (size_t)(end - at) : strlen(at)) != NULL;
}

// JSONL (of queries question, else text; of passages the other way round), TSV (id, text), or plain
// lines: text i is line i.
TOOL_DEF texts texts_read(mrc_ctx *ctx, const char *path, mrc_side side) {
    texts t = { .ctx = ctx };
    size_t bytes, capacity = 0;
    tool_check(ctx, mrc_file_read(ctx, &t.file, &bytes, path));
    if (texts_are_records(t.file)) {
        mrc_status status = MRC_ERR_FORMAT;
        if (side == MRC_SIDE_PASSAGE) {
            status = mrc_passages_parse(ctx, &t.records, path, t.file, bytes, NULL);
        }
        if (status == MRC_ERR_FORMAT) {
            mrc_ctx_clear_error(ctx);
            status = mrc_passages_parse(ctx, &t.records, path, t.file, bytes, "question");
        }
        tool_check(ctx, status);
        t.n = mrc_passages_size(t.records);
        t.list = tool_allocate(t.n, sizeof *t.list);
        for (size_t i = 0; i < t.n; i++) t.list[i] = *mrc_passages_at(t.records, i);
        return t;
    }
    if (mrc_utf8_valid(t.file, bytes) != bytes) {
        tool_fail(TOOL_BAD_INPUT, "%s: ill-formed UTF-8 at byte %zu", path,
                  mrc_utf8_valid(t.file, bytes));
    }
    char *text = t.file + (strncmp(t.file, "\xef\xbb\xbf", 3) == 0 ? 3 : 0);
    for (char *at = text, *end = t.file + bytes; at < end;) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = stop ? (size_t)(stop - at) : (size_t)(end - at);
        t.list = tool_grow(t.list, t.n, &capacity, sizeof *t.list);
        size_t kept = n && at[n - 1] == '\r' ? n - 1 : n;
        t.list[t.n++] = (mrc_passage){ "", "", at, kept };
        at += n + 1;
    }
    return t;
}

// How many of n passages or questions have the id of an earlier one, empty ids apart; *first is the
// first such id.
TOOL_DEF size_t texts_twins(const mrc_passage *(*at)(const void *list, size_t i), const void *list,
                            size_t n, const char **first) {
    size_t mask = 15, twins = 0;
    while (mask < 2 * n) mask = 2 * mask + 1;
    size_t *slots = tool_allocate(mask + 1, sizeof *slots);         // number + 1; 0: free
    for (size_t i = 0; i < n; i++) {
        const char *id = at(list, i)->id;
        uint64_t hash = 14695981039346656037u;                      // FNV-1a
        for (const char *c = id; *c; c++) hash = (hash ^ (uint8_t)*c) * 1099511628211u;
        size_t slot = (size_t)(hash ^ hash >> 32) & mask;
        while (slots[slot] && strcmp(at(list, slots[slot] - 1)->id, id)) slot = (slot + 1) & mask;
        if (slots[slot] && *id && !twins++) *first = id;
        if (!slots[slot]) slots[slot] = i + 1;
    }
    free(slots);
    return twins;
}
TOOL_DEF const mrc_passage *texts_of_list(const void *list, size_t i) {
    return (const mrc_passage *)list + i;
}
TOOL_DEF const mrc_passage *texts_of_passages(const void *list, size_t i) {
    return mrc_passages_at(list, i);
}

TOOL_DEF void texts_free(texts *t) {
    if (t->records) mrc_passages_free(t->records);
    mrc_file_free(t->ctx, t->file);
    free(t->list);
}
#endif
