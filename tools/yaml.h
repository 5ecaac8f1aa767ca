// YAML as configurations are written in it, into the tree that JSON has.
//
// A subset: block mappings and lists, [ ] and { }, plain and quoted values of one line, comments,
// one "---"; types by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2).  Everything else,
// and a key that stands twice in one mapping, is refused by name, with line and column: no text is
// read as something else than YAML 1.2 means by it.  Blocks nest 64 deep and flows 32, so that
// recursion has a bound.
//
//     yaml_load(ctx, &root, path);   mrc_json_get(root, "key");   yaml_free(root);
//
// Errors are the context's, as the library's own are.
#ifndef YAML_H
#define YAML_H
#include "../mrc.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define YAML_DEF __attribute__((unused)) static     // not every includer uses all
#define YAML_BYTES (1 << 20)
#define YAML_NODES 10000
#define YAML_BLOCKS 64
#define YAML_FLOWS 32

#define YAML_TRY(call)                              \
    do {                                            \
        mrc_status status_ = (call);                \
        if (status_ != MRC_OK) return status_;      \
    } while (0)

// The tree's memory: chunks, of which the newest is filled.
typedef struct yaml_chunk { struct yaml_chunk *next; size_t used, bytes; } yaml_chunk;
typedef struct yaml_doc {
    mrc_json      root;             // first: freeing the root frees the whole
    mrc_allocator memory;
    yaml_chunk   *chunks;
} yaml_doc;

// Aligned for nodes.  NULL: no memory.
static void *yaml_alloc(yaml_doc *doc, size_t bytes) {
    const size_t align = 16, head = (sizeof(yaml_chunk) + align - 1) / align * align;
    yaml_chunk *c = doc->chunks;
    bytes = (bytes + align - 1) / align * align;    // a file has 1 MiB at most
    if (!c || c->bytes - c->used < bytes) {
        size_t room = bytes > 8192 ? bytes : 8192;
        c = doc->memory.alloc(doc->memory.user, head + room);
        if (!c) return NULL;
        *c = (yaml_chunk){ doc->chunks, 0, room };
        doc->chunks = c;
    }
    void *data = (char *)c + head + c->used;
    c->used += bytes;
    return data;
}

// A collection that is still open.
typedef struct yaml_level { mrc_json *node, *last; } yaml_level;

typedef struct yaml_reader {
    mrc_ctx        *ctx;
    const char     *name;
    const char     *at, *end, *line_start;
    size_t          line, nodes, blocks, flows;
    const char     *counted;        // columns of this line are counted up to here: how many
    size_t          count;
    int             fresh;          // the token at `at` is the first of its line
    int             begun;          // the first token was found: "---" now begins a second document
    yaml_doc       *doc;
} yaml_reader;

// The column of p, from 1, in code points.  Long lines are not counted anew for each value.
static size_t yaml_place(yaml_reader *y, const char *p) {
    if (y->counted < y->line_start || y->counted > p) {
        y->counted = y->line_start;
        y->count = 0;
    }
    y->count += mrc_utf8_length(y->counted, (size_t)(p - y->counted));
    y->counted = p;
    return y->count + 1;
}

__attribute__((format(printf, 3, 4)))
static mrc_status yaml_fail(yaml_reader *y, const char *at, const char *fmt, ...) {
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return mrc_ctx_fail(y->ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: %s", y->name, y->line,
                        yaml_place(y, at), what);
}

static mrc_status yaml_unsupported(yaml_reader *y, const char *what) {
    return yaml_fail(y, y->at, "unsupported YAML: %s", what);
}

static int yaml_blank(char c) { return c == ' ' || c == '\t'; }

// Lines end with \n or \r\n: other \r were refused.
static int yaml_line_end(const yaml_reader *y, const char *p) {
    return p == y->end || *p == '\n' || *p == '\r';
}
static int yaml_flow_mark(char c) { return c && strchr(",[]{}", c) != NULL; }

// An indicator that counts only with a blank behind it: "- ", ": ", "? ".
static int yaml_indicator(const yaml_reader *y, char c) {
    const char *p = y->at;
    if (p == y->end || *p != c) return 0;
    return yaml_line_end(y, p + 1) || yaml_blank(p[1]);
}

static int yaml_marker(const yaml_reader *y, const char *marker) {
    const char *p = y->at;
    return y->end - p >= 3 && !memcmp(p, marker, 3)
           && (yaml_line_end(y, p + 3) || yaml_blank(p[3]));
}

static ptrdiff_t yaml_column(const yaml_reader *y) { return y->at - y->line_start; }

// To the next token, over blanks, comments and lines.
static mrc_status yaml_skip(yaml_reader *y) {
    const char *p = y->at;
    y->fresh = 0;
    for (;; p++) {
        const char *from = p;
        if (p == y->line_start) y->fresh = 1;
        while (p < y->end && yaml_blank(*p)) p++;
        if (p < y->end && *p == '#' && (p > from || p == y->line_start)) {
            while (!yaml_line_end(y, p)) p++;
        }
        if (p < y->end && *p == '\r') p++;
        if (p == y->end || *p != '\n') break;
        y->line++;
        y->line_start = p + 1;
    }
    y->at = p;
    if (p == y->end || !y->fresh) return MRC_OK;
    for (const char *q = y->line_start; q < p; q++) {
        if (*q == '\t') return yaml_fail(y, q, "unsupported YAML: a tab in indentation");
    }
    if (p > y->line_start) return MRC_OK;
    if (yaml_marker(y, "---") && y->begun) {
        return yaml_unsupported(y, "several documents");
    }
    if (yaml_marker(y, "...")) return yaml_unsupported(y, "an end of document (...)");
    return MRC_OK;
}

// Whether nothing but a comment follows on this line.
static int yaml_rest_empty(const yaml_reader *y) {
    const char *p = y->at;
    while (p < y->end && yaml_blank(*p)) p++;
    return yaml_line_end(y, p) || (*p == '#' && p > y->at);
}

static mrc_status yaml_expect_line_end(yaml_reader *y) {
    if (yaml_rest_empty(y)) return MRC_OK;
    while (yaml_blank(*y->at)) y->at++;
    return yaml_fail(y, y->at, "expected the end of the line behind a value");
}

// What begins with a character that has a meaning outside of the subset, by its name.
static mrc_status yaml_refuse(yaml_reader *y) {
    static const struct { char c; const char *what; } marks[] = {
        { '&', "an anchor" }, { '*', "an alias" }, { '!', "a tag" }, { '|', "a block scalar" },
        { '>', "a block scalar" }, { '%', "a directive" }, { '@', "a reserved character" },
        { '`', "a reserved character" },
    };
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (*y->at == marks[i].c) return yaml_unsupported(y, marks[i].what);
    }
    if (yaml_indicator(y, '?')) return yaml_unsupported(y, "a key with a question mark");
    return MRC_OK;
}

typedef struct yaml_scalar {
    char  *text;                    // in the pool, NUL-terminated
    size_t bytes, line, column;
    int    quoted;
} yaml_scalar;

static mrc_status yaml_escape(yaml_reader *y, const char **from, char **to) {
    static const char letters[] = "0abtnvfre\"/\\ \t", values[] = "\0\a\b\t\n\v\f\r\033\"/\\ \t";
    const char *p = *from + 1, *found;
    uint32_t cp = 0;
    size_t digits = 0;
    if (yaml_line_end(y, p)) return yaml_unsupported(y, "a value of several lines");
    if (*p && (found = strchr(letters, *p)) != NULL) {
        *(*to)++ = values[found - letters];
        *from = p + 1;
        return MRC_OK;
    }
    switch (*p) {
    case 'N': cp = 0x85; break;
    case '_': cp = 0xA0; break;
    case 'L': cp = 0x2028; break;
    case 'P': cp = 0x2029; break;
    case 'x': digits = 2; break;
    case 'u': digits = 4; break;
    case 'U': digits = 8; break;
    default: return yaml_fail(y, *from, "not an escape");
    }
    for (p++; digits > 0; digits--, p++) {
        int c = p < y->end ? (unsigned char)*p : 0, lower = c | 0x20;
        int digit = c >= '0' && c <= '9' ? c - '0'
                  : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
        if (digit < 0) return yaml_fail(y, *from, "an escape with too few digits");
        cp = cp << 4 | (uint32_t)digit;
    }
    size_t n = mrc_utf8_encode(cp, *to);
    if (n == 0) return yaml_fail(y, *from, "an escape that is no character");
    *to += n;
    *from = p;
    return MRC_OK;
}

// The length of a plain scalar at y->at, blanks behind it not counted.
static size_t yaml_plain(const yaml_reader *y, int flow) {
    const char *p = y->at, *first = p;
    for (; !yaml_line_end(y, p); p++) {
        int last = yaml_line_end(y, p + 1);
        if (*p == ':' && (last || yaml_blank(p[1]) || (flow && yaml_flow_mark(p[1])))) {
            break;
        }
        if (*p == '#' && p > first && yaml_blank(p[-1])) break;
        if (flow && yaml_flow_mark(*p)) break;
    }
    while (p > first && yaml_blank(p[-1])) p--;
    return (size_t)(p - first);
}

// Bytes that are enough for the quoted scalar at y->at: an escape of two can stand for three.
static size_t yaml_quoted_room(const yaml_reader *y, char quote) {
    const char *p = y->at + 1;
    for (; !yaml_line_end(y, p); p++) {
        int pair = !yaml_line_end(y, p + 1)
                   && (quote == '"' ? *p == '\\' : *p == quote && p[1] == quote);
        if (pair) p++;
        else if (*p == quote) break;
    }
    return 2 * (size_t)(p - y->at);
}

static mrc_status yaml_quoted(yaml_reader *y, char quote, char *out, size_t *bytes) {
    const char *p = y->at + 1;
    char *o = out;
    for (;;) {
        if (p == y->end) {
            return yaml_fail(y, y->at, "the string that begins here has no end");
        }
        if (yaml_line_end(y, p)) return yaml_unsupported(y, "a value of several lines");
        if (*p == quote && quote == '\'' && p + 1 < y->end && p[1] == quote) {
            *o++ = quote;
            p += 2;
        } else if (*p == quote) {
            break;
        } else if (*p == '\\' && quote == '"') {
            YAML_TRY(yaml_escape(y, &p, &o));
        } else {
            *o++ = *p++;
        }
    }
    *o = 0;
    *bytes = (size_t)(o - out);
    y->at = p + 1;
    return MRC_OK;
}

// A plain or quoted scalar, which ends on its line.
static mrc_status yaml_scalar_at(yaml_reader *y, int flow, yaml_scalar *out) {
    const char *p = y->at;
    size_t room;
    YAML_TRY(yaml_refuse(y));
    *out = (yaml_scalar){ .line = y->line, .quoted = *p == '"' || *p == '\'' };
    out->column = yaml_place(y, p);
    if (out->quoted) {
        room = yaml_quoted_room(y, *p);
    } else {
        int follows = p + 1 < y->end && !yaml_line_end(y, p + 1) && !yaml_blank(p[1])
                      && !(flow && yaml_flow_mark(p[1]));
        if (yaml_flow_mark(*p) || *p == '#' || (strchr("-?:", *p) && !follows)) {
            return yaml_fail(y, p, "expected a value, found '%c'", *p);
        }
        room = out->bytes = yaml_plain(y, flow);
    }
    out->text = yaml_alloc(y->doc, room + 1);
    if (!out->text) return mrc_ctx_fail(y->ctx, MRC_ERR_MEM, "%s: no memory for a value", y->name);
    if (out->quoted) return yaml_quoted(y, *p, out->text, &out->bytes);
    memcpy(out->text, p, room);
    out->text[room] = 0;
    y->at += room;
    return MRC_OK;
}

// A number as JSON has it.
static mrc_status yaml_number(yaml_reader *y, const yaml_scalar *s, const char *text,
                              mrc_json *node) {
    mrc_json *number;
    mrc_status status = mrc_json_parse(y->ctx, &number, y->name, text, strlen(text), 1);
    if (status == MRC_ERR_FORMAT) {             // it told the place in `text`
        mrc_ctx_clear_error(y->ctx);
        return mrc_ctx_fail(y->ctx, status, "%s:%zu:%zu: a number too large for a double", y->name,
                            s->line, s->column);
    }
    YAML_TRY(status);
    node->type = MRC_JSON_NUMBER;
    node->is_int = number->is_int;
    node->integer = number->integer;
    node->number = number->number;
    mrc_json_free(number);
    return MRC_OK;
}

// 0x1F and 0o17 of the core schema: 1, or 0 when it is no such number.
static mrc_status yaml_based(yaml_reader *y, const yaml_scalar *s, mrc_json *node,
                             int *is_number) {
    uint64_t value = 0, base = s->bytes > 2 && s->text[1] == 'o' ? 8 : 16;
    *is_number = s->bytes > 2 && s->text[0] == '0' && (s->text[1] == 'x' || base == 8)
                 && strspn(s->text + 2, base == 8 ? "01234567" : "0123456789abcdefABCDEF")
                    == s->bytes - 2;
    for (const char *p = s->text + 2; *is_number && *p; p++) {
        unsigned digit = (unsigned)(*p <= '9' ? *p - '0' : (*p | 0x20) - 'a' + 10);
        if (value > ((uint64_t)INT64_MAX - digit) / base) {
            return mrc_ctx_fail(y->ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: an integer that does not fit "
                                "63 bits", y->name, s->line, s->column);
        }
        value = value * base + digit;
    }
    if (!*is_number) return MRC_OK;
    node->type = MRC_JSON_NUMBER;
    node->is_int = 1;
    node->integer = (int64_t)value;
    node->number = (double)value;
    return MRC_OK;
}

// Integers and fractions of the core schema, rewritten as JSON has them: no plus, no leading zeros,
// digits on both sides of the point.
static mrc_status yaml_decimal(yaml_reader *y, const yaml_scalar *s, mrc_json *node,
                               int *is_number) {
    const char *p = s->text + (*s->text == '-' || *s->text == '+'), *digits = p;
    size_t whole = strspn(p, "0123456789"), fraction = 0;
    *is_number = 0;
    p += whole;
    if (*p == '.') fraction = strspn(++p, "0123456789");
    if (whole + fraction == 0) return MRC_OK;
    const char *point = p;
    p += fraction;
    const char *exponent = *p == 'e' || *p == 'E' ? p : NULL;
    if (exponent) {
        p += 1 + (p[1] == '-' || p[1] == '+');
        size_t n = strspn(p, "0123456789");
        p += n;
        if (n == 0) return MRC_OK;
    }
    if (p != s->text + s->bytes) return MRC_OK;         // a NUL in it, or other text
    *is_number = 1;
    while (whole > 1 && *digits == '0') digits++, whole--;
    char *text = yaml_alloc(y->doc, s->bytes + 4), *o = text;
    if (!text) return mrc_ctx_fail(y->ctx, MRC_ERR_MEM, "%s: no memory for a number", y->name);
    if (*s->text == '-') *o++ = '-';
    if (whole == 0) *o++ = '0';
    memcpy(o, digits, whole);
    o += whole;
    if (point > digits && point[-1] == '.') {
        *o++ = '.';
        if (fraction == 0) *o++ = '0';
        memcpy(o, point, fraction);
        o += fraction;
    }
    size_t rest = exponent ? (size_t)(p - exponent) : 0;
    if (rest) memcpy(o, exponent, rest);
    o[rest] = 0;
    return yaml_number(y, s, text, node);
}

// What a scalar is by the core schema, but for 0o17, which stays a string.
static mrc_status yaml_resolve(yaml_reader *y, const yaml_scalar *s, mrc_json *node) {
    static const struct { const char *words; mrc_json_type type; } types[] = {
        { "|~|null|Null|NULL|", MRC_JSON_NULL }, { "|true|True|TRUE|", MRC_JSON_TRUE },
        { "|false|False|FALSE|", MRC_JSON_FALSE },
    };
    char word[8];
    int is_number = 0;
    node->line = s->line;
    node->column = s->column;
    node->type = MRC_JSON_STRING;
    node->string = s->text;
    node->bytes = s->bytes;
    if (s->quoted || s->bytes == 0) return MRC_OK;
    if (s->bytes < 6 && !strchr(s->text, '|')) {
        snprintf(word, sizeof word, "|%s|", s->text);
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            if (strstr(types[i].words, word)) node->type = types[i].type;
        }
        const char *p = s->text + (*s->text == '-' || *s->text == '+');
        if (!strcmp(p, ".inf") || !strcmp(p, ".Inf") || !strcmp(p, ".INF") || !strcmp(p, ".nan")
            || !strcmp(p, ".NaN") || !strcmp(p, ".NAN")) {
            return mrc_ctx_fail(y->ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: not a finite number", y->name,
                                s->line, s->column);
        }
    }
    if (node->type == MRC_JSON_STRING) YAML_TRY(yaml_based(y, s, node, &is_number));
    if (node->type == MRC_JSON_STRING) YAML_TRY(yaml_decimal(y, s, node, &is_number));
    if (node->type == MRC_JSON_STRING) return MRC_OK;
    node->string = NULL;
    node->bytes = 0;
    return MRC_OK;
}

// Whether ": " comes next, which makes a key of what was read; y->at is then at the colon.
static int yaml_colon(yaml_reader *y) {
    const char *before = y->at;
    while (y->at < y->end && yaml_blank(*y->at)) y->at++;
    if (yaml_indicator(y, ':')) return 1;
    y->at = before;
    return 0;
}

static mrc_status yaml_child(yaml_reader *y, yaml_level *level,
                             const yaml_scalar *key, mrc_json **out) {
    if (++y->nodes > YAML_NODES) {
        return yaml_fail(y, y->at, "more than %d values", YAML_NODES);
    }
    mrc_json *node = yaml_alloc(y->doc, sizeof *node);
    if (!node) return mrc_ctx_fail(y->ctx, MRC_ERR_MEM, "%s: no memory for a node", y->name);
    memset(node, 0, sizeof *node);
    node->line = key ? key->line : y->line;
    node->column = key ? key->column : yaml_place(y, y->at);
    if (key) {
        if (key->bytes > 1024) return yaml_fail(y, y->at, "a key of more than 1024 bytes");
        if (!key->quoted && key->bytes == 2 && !memcmp(key->text, "<<", 2)) {
            return yaml_fail(y, y->at, "unsupported YAML: a merge key");
        }
        node->key = key->text;
        node->key_bytes = key->bytes;
    }
    if (level->last) level->last->next = node;
    else level->node->child = node;
    level->last = node;
    level->node->n++;
    *out = node;
    return MRC_OK;
}

static mrc_status yaml_flow(yaml_reader *y, mrc_json *node, ptrdiff_t parent);

// Inside brackets lines are free, but stay to the right of what the flow belongs to.
static mrc_status yaml_flow_skip(yaml_reader *y, ptrdiff_t parent) {
    YAML_TRY(yaml_skip(y));
    if (y->at == y->end) return yaml_fail(y, y->at, "a bracket is not closed");
    if (y->fresh && yaml_column(y) <= parent) {
        return yaml_fail(y, y->at, "expected more indentation inside brackets");
    }
    return MRC_OK;
}

static mrc_status yaml_flow_value(yaml_reader *y, mrc_json *node, ptrdiff_t parent) {
    yaml_scalar scalar;
    if (*y->at == '[' || *y->at == '{') return yaml_flow(y, node, parent);
    YAML_TRY(yaml_scalar_at(y, 1, &scalar));
    return yaml_resolve(y, &scalar, node);
}

// One "key: value" of braces.
static mrc_status yaml_flow_pair(yaml_reader *y, yaml_level *level, ptrdiff_t parent) {
    yaml_scalar key;
    mrc_json *child = NULL;
    if (*y->at == '[' || *y->at == '{') return yaml_unsupported(y, "a collection as a key");
    YAML_TRY(yaml_scalar_at(y, 1, &key));
    YAML_TRY(yaml_child(y, level, &key, &child));
    YAML_TRY(yaml_flow_skip(y, parent));
    if (*y->at == ',' || *y->at == '}') {
        return yaml_unsupported(y, "a key without a value in braces");
    }
    if (*y->at != ':') return yaml_unsupported(y, "a value of several lines");
    const char *p = y->at + 1;
    if (!key.quoted && !yaml_indicator(y, ':') && !(p < y->end && yaml_flow_mark(*p))) {
        return yaml_unsupported(y, "a value of several lines");
    }
    y->at++;
    YAML_TRY(yaml_flow_skip(y, parent));
    if (*y->at == ',' || *y->at == '}') return MRC_OK;
    return yaml_flow_value(y, child, parent);
}

// A [list] or {mapping}: y->at is at its bracket, and behind the closing one afterwards.
static mrc_status yaml_flow(yaml_reader *y, mrc_json *node, ptrdiff_t parent) {
    int mapping = *y->at == '{';
    char close = mapping ? '}' : ']';
    yaml_level level = { .node = node };
    mrc_json *child = NULL;
    if (y->flows == YAML_FLOWS) {
        return yaml_fail(y, y->at, "brackets nested deeper than %d", YAML_FLOWS);
    }
    y->flows++;
    node->type = mapping ? MRC_JSON_OBJECT : MRC_JSON_ARRAY;
    y->at++;
    YAML_TRY(yaml_flow_skip(y, parent));
    while (*y->at != close) {
        if (mapping) {
            YAML_TRY(yaml_flow_pair(y, &level, parent));
        } else {
            YAML_TRY(yaml_child(y, &level, NULL, &child));
            YAML_TRY(yaml_flow_value(y, child, parent));
        }
        YAML_TRY(yaml_flow_skip(y, parent));
        if (*y->at == ':') return yaml_unsupported(y, "a pair that stands in no mapping");
        if (*y->at == close) break;
        if (*y->at != ',') {
            return yaml_fail(y, y->at, "expected ',' or '%c' (a value of several lines is not "
                             "supported)", close);
        }
        y->at++;
        YAML_TRY(yaml_flow_skip(y, parent));
    }
    y->at++;
    y->flows--;
    return mapping ? mrc_json_unique_keys(y->ctx, node, y->name) : MRC_OK;
}

static mrc_status yaml_block(yaml_reader *y, mrc_json *node, ptrdiff_t parent, int compact);

// The next entry of a block at `column`: *more 0 when the block ends here.
static mrc_status yaml_next(yaml_reader *y, ptrdiff_t column, int *more) {
    YAML_TRY(yaml_skip(y));
    *more = y->at < y->end && yaml_column(y) >= column;
    if (*more && yaml_column(y) > column) {
        return yaml_fail(y, y->at, "indentation that fits no line above (a value of several "
                         "lines is not supported)");
    }
    return MRC_OK;
}

// Entries "- value" at one column.
static mrc_status yaml_sequence(yaml_reader *y, mrc_json *node, ptrdiff_t column) {
    yaml_level level = { .node = node };
    mrc_json *child = NULL;
    int more;
    node->type = MRC_JSON_ARRAY;
    do {
        YAML_TRY(yaml_child(y, &level, NULL, &child));
        y->at++;
        if (yaml_rest_empty(y)) {
            YAML_TRY(yaml_skip(y));
            if (y->at < y->end && yaml_column(y) > column) {
                YAML_TRY(yaml_block(y, child, column, 1));
            }
        } else {
            while (*y->at == ' ') y->at++;
            if (*y->at == '\t') return yaml_unsupported(y, "a tab in indentation");
            YAML_TRY(yaml_block(y, child, column, 1));
        }
        YAML_TRY(yaml_next(y, column, &more));
    } while (more && yaml_indicator(y, '-'));
    return MRC_OK;
}

// What stands behind "key:".  A list below may begin at the key's own column.
static mrc_status yaml_value(yaml_reader *y, mrc_json *child, ptrdiff_t column) {
    if (!yaml_rest_empty(y)) {
        while (yaml_blank(*y->at)) y->at++;
        return yaml_block(y, child, column, 0);
    }
    YAML_TRY(yaml_skip(y));
    if (y->at == y->end || yaml_column(y) < column) return MRC_OK;
    if (yaml_column(y) == column && !yaml_indicator(y, '-')) return MRC_OK;
    return yaml_block(y, child, yaml_column(y) == column ? column - 1 : column, 1);
}

// Entries "key: value" at one column; the first key is read, its colon is next.
static mrc_status yaml_mapping(yaml_reader *y, mrc_json *node, ptrdiff_t column,
                               yaml_scalar *key) {
    yaml_level level = { .node = node };
    mrc_json *child = NULL;
    int more;
    node->type = MRC_JSON_OBJECT;
    for (;;) {
        YAML_TRY(yaml_child(y, &level, key, &child));
        y->at++;
        YAML_TRY(yaml_value(y, child, column));
        YAML_TRY(yaml_next(y, column, &more));
        if (!more) return mrc_json_unique_keys(y->ctx, node, y->name);
        if (*y->at == '[' || *y->at == '{') {
            return yaml_unsupported(y, "a collection as a key");
        }
        YAML_TRY(yaml_scalar_at(y, 0, key));
        if (!yaml_colon(y)) return yaml_fail(y, y->at, "expected ':' behind a key");
    }
}

// The value at y->at, right of column `parent`.  compact 0: it stands behind a key, where no block
// may begin.
static mrc_status yaml_block(yaml_reader *y, mrc_json *node, ptrdiff_t parent, int compact) {
    ptrdiff_t column = yaml_column(y);
    mrc_status s;
    node->line = y->line;
    node->column = yaml_place(y, y->at);
    if (y->blocks == YAML_BLOCKS) {
        return yaml_fail(y, y->at, "nested deeper than %d", YAML_BLOCKS);
    }
    y->blocks++;
    if (*y->at == '[' || *y->at == '{') {
        YAML_TRY(yaml_flow(y, node, parent));
        if (yaml_colon(y)) return yaml_unsupported(y, "a collection as a key");
        s = yaml_expect_line_end(y);
    } else if (compact && yaml_indicator(y, '-')) {
        s = yaml_sequence(y, node, column);
    } else {
        yaml_scalar scalar;
        YAML_TRY(yaml_scalar_at(y, 0, &scalar));
        if (yaml_colon(y)) {
            if (!compact) return yaml_fail(y, y->at, "a second ':' on the line of a key");
            s = yaml_mapping(y, node, column, &scalar);
        } else {
            YAML_TRY(yaml_resolve(y, &scalar, node));
            s = yaml_expect_line_end(y);
        }
    }
    y->blocks--;
    return s;
}

// Characters that YAML has no place for; afterwards \r stands only before \n.
static mrc_status yaml_check_text(yaml_reader *y) {
    uint32_t cp = 0;
    for (const char *p = y->at; p < y->end; ) {
        size_t n = mrc_utf8_decode(p, (size_t)(y->end - p), &cp);
        if (n == 0) {
            return yaml_fail(y, p, "ill-formed UTF-8, byte 0x%02x (if it is CP949: iconv -f CP949 "
                             "-t UTF-8 FILE)", (unsigned char)*p);
        }
        int crlf = cp == '\r' && p + 1 < y->end && p[1] == '\n';
        if ((cp < 0x20 && cp != '\t' && cp != '\n' && !crlf) || (cp >= 0x7F && cp < 0xA0)
            || cp == 0xFEFF || cp == 0xFFFE || cp == 0xFFFF || cp == 0x2028 || cp == 0x2029) {
            return yaml_fail(y, p, "the control character U+%04X", (unsigned)cp);
        }
        p += n;
        if (cp != '\n') continue;
        y->line++;
        y->line_start = p;
    }
    y->line = 1;
    y->line_start = y->at;
    return MRC_OK;
}

static mrc_status yaml_document(yaml_reader *y) {
    mrc_json *root = &y->doc->root;
    const char *lfs = "version https://git-lfs";
    YAML_TRY(yaml_check_text(y));
    if ((size_t)(y->end - y->at) > strlen(lfs) && !memcmp(y->at, lfs, strlen(lfs))) {
        return yaml_fail(y, y->at, "found a Git LFS pointer (git lfs pull brings the file) "
                         "(expected YAML)");
    }
    YAML_TRY(yaml_skip(y));
    if (y->at == y->end) return yaml_fail(y, y->at, "no value: the file is empty");
    root->line = y->line;
    root->column = 1;
    y->begun = 1;
    if (yaml_column(y) > 0 || !yaml_marker(y, "---")) {
        YAML_TRY(yaml_block(y, root, -1, 1));
    } else {
        y->at += 3;
        int same_line = !yaml_rest_empty(y);
        YAML_TRY(yaml_skip(y));
        if (y->at < y->end) YAML_TRY(yaml_block(y, root, -1, !same_line));
    }
    YAML_TRY(yaml_skip(y));
    if (y->at == y->end) return MRC_OK;
    return yaml_fail(y, y->at, "expected the end (a value of several lines is not supported)");
}

YAML_DEF void yaml_free(mrc_json *root) {                      // NULL is fine
    if (!root) return;
    yaml_doc *doc = (yaml_doc *)root;
    for (yaml_chunk *c = doc->chunks, *next; c; c = next) {
        next = c->next;
        doc->memory.free(doc->memory.user, c);
    }
    doc->memory.free(doc->memory.user, doc);
}

// name is for messages: "name:line:column: what".
YAML_DEF mrc_status yaml_parse(mrc_ctx *ctx, mrc_json **out, const char *name, const char *text,
                             size_t bytes) {
    mrc_text memory;
    if (!ctx || !out) return mrc_ctx_fail(ctx, MRC_ERR_ARG, "yaml: no place for the tree");
    *out = NULL;
    if (!text) return mrc_ctx_fail(ctx, MRC_ERR_ARG, "yaml: no text given");
    yaml_reader y = { .ctx = ctx, .name = name ? name : "yaml", .line = 1 };
    if (bytes >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) text += 3, bytes -= 3;
    y.at = y.line_start = text;
    y.end = text + bytes;
    if (bytes > YAML_BYTES) {
        return yaml_fail(&y, text, "%zu bytes, at most %d", bytes, YAML_BYTES);
    }
    mrc_text_init(&memory, ctx);                // which knows the context's allocator
    y.doc = memory.host.alloc(memory.host.user, sizeof *y.doc);
    if (!y.doc) return mrc_ctx_fail(ctx, MRC_ERR_MEM, "%s: no memory to parse it", y.name);
    *y.doc = (yaml_doc){ .memory = memory.host };
    mrc_status s = yaml_document(&y);
    if (s == MRC_OK) *out = &y.doc->root;
    else yaml_free(&y.doc->root);
    return s;
}

YAML_DEF mrc_status yaml_load(mrc_ctx *ctx, mrc_json **out, const char *path) {
    char *text;
    size_t bytes;
    if (!ctx || !out) return mrc_ctx_fail(ctx, MRC_ERR_ARG, "yaml: no place for the tree");
    *out = NULL;
    YAML_TRY(mrc_file_read(ctx, &text, &bytes, path));
    mrc_status s = yaml_parse(ctx, out, path, text, bytes);
    mrc_file_free(ctx, text);
    return s;
}

#endif
