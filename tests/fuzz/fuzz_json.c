// The JSON parser: a tree is written and read back as the same tree.
#include "../support/fuzz.h"

static size_t fuzz_count(const mrc_json *v, size_t depth) {
    size_t n = 1;
    FUZZ_HOLDS(depth <= 512);
    for (const mrc_json *c = v->child; c; c = c->next) n += fuzz_count(c, depth + 1);
    FUZZ_HOLDS(v->type != MRC_JSON_STRING || mrc_utf8_valid(v->string, v->bytes) == v->bytes);
    FUZZ_HOLDS(v->type != MRC_JSON_NUMBER || isfinite(v->number));
    return n;
}

static void fuzz_write(mrc_text *t, const mrc_json *v) {
    const char *comma = "";
    switch (v->type) {
    case MRC_JSON_NULL:   mrc_text_add(t, "null", 4); return;
    case MRC_JSON_FALSE:  mrc_text_add(t, "false", 5); return;
    case MRC_JSON_TRUE:   mrc_text_add(t, "true", 4); return;
    case MRC_JSON_STRING: mrc_text_json_string(t, v->string, v->bytes, v->bytes % 2); return;
    case MRC_JSON_NUMBER:
        if (v->is_int) mrc_text_printf(t, "%lld", (long long)v->integer);
        else mrc_text_number(t, v->number);
        return;
    default: break;
    }
    mrc_text_add(t, v->type == MRC_JSON_OBJECT ? "{" : "[", 1);
    for (const mrc_json *c = v->child; c; c = c->next, comma = ", ") {
        mrc_text_add(t, comma, strlen(comma));
        if (v->type == MRC_JSON_OBJECT) {
            mrc_text_json_string(t, c->key, c->key_bytes, 1);
            mrc_text_add(t, ":", 1);
        }
        fuzz_write(t, c);
    }
    mrc_text_add(t, v->type == MRC_JSON_OBJECT ? "}" : "]", 1);
}

static void fuzz_same(const mrc_json *a, const mrc_json *b) {
    FUZZ_HOLDS(a->type == b->type && a->n == b->n && a->is_int == b->is_int);
    FUZZ_HOLDS(a->number == b->number && a->bytes == b->bytes && a->key_bytes == b->key_bytes);
    FUZZ_HOLDS(!a->bytes || !memcmp(a->string, b->string, a->bytes));
    FUZZ_HOLDS(!a->key_bytes || !memcmp(a->key, b->key, a->key_bytes));
    const mrc_json *x = a->child, *y = b->child;
    for (; x && y; x = x->next, y = y->next) fuzz_same(x, y);
    FUZZ_HOLDS(!x && !y);
}

// A value as bytes that another parser's value gives too: n, t, f; d and the bits of the double;
// s and i with lengths; brackets round the rest.
static uint32_t fuzz_value_crc(uint32_t crc, const mrc_json *v) {
    char text[64];
    uint64_t bits;
    switch (v->type) {
    case MRC_JSON_NULL:   return fuzz_crc(crc, "n", 1);
    case MRC_JSON_FALSE:  return fuzz_crc(crc, "f", 1);
    case MRC_JSON_TRUE:   return fuzz_crc(crc, "t", 1);
    case MRC_JSON_NUMBER:
        memcpy(&bits, &v->number, 8);
        return fuzz_crc(crc, text, (size_t)snprintf(text, sizeof text, "d%llx",
                                                    (unsigned long long)bits));
    case MRC_JSON_STRING:
        crc = fuzz_crc(crc, text, (size_t)snprintf(text, sizeof text, "s%zu:", v->bytes));
        return fuzz_crc(crc, v->string, v->bytes);
    default: break;
    }
    crc = fuzz_crc(crc, v->type == MRC_JSON_OBJECT ? "{" : "[", 1);
    for (const mrc_json *c = v->child; c; c = c->next) {
        if (v->type == MRC_JSON_OBJECT) {
            crc = fuzz_crc(crc, text, (size_t)snprintf(text, sizeof text, "k%zu:", c->key_bytes));
            crc = fuzz_crc(crc, c->key, c->key_bytes);
        }
        crc = fuzz_value_crc(crc, c);
    }
    return fuzz_crc(crc, "]", 1);
}

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_json *root, *again;
    mrc_text t;
    mrc_status s = fuzz_status(mrc_json_parse(ctx, &root, "f", (const char *)data, bytes, 0));
    FUZZ_HOLDS((s == MRC_OK) == (root != NULL));
    if (s != MRC_OK) return 0;
    FUZZ_HOLDS(fuzz_count(root, 0) <= bytes);
    fuzz_digest = fuzz_value_crc(0, root);
    mrc_text_init(&t, ctx);
    fuzz_write(&t, root);
    FUZZ_HOLDS(mrc_json_parse(ctx, &again, "g", t.data, t.bytes, 0) == MRC_OK);
    fuzz_same(root, again);
    mrc_text_free(&t);
    mrc_json_free(again);
    mrc_json_free(root);
    return 1;
}

const char *const fuzz_seeds[] = {
    "{\"a\": [1, -2.5e3, \"x\\u00e9\\ud83d\\ude00\", true, false, null, {}], \"b\": {\"c\": []}}",
    "12345678901234567890", "\"\xed\x95\x9c\"", NULL
};
