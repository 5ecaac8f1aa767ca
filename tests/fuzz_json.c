// The JSON parser: a tree is written and read back as the same tree.
#include "fuzz.h"

static size_t fuzz_count(const mrc_json *v, size_t depth) {
    size_t n = 1;
    FUZZ_HOLDS(depth <= 512);
    for (const mrc_json *c = v->child; c; c = c->next) n += fuzz_count(c, depth + 1);
    FUZZ_HOLDS(v->type != MRC_JSON_STRING || mrc_utf8_valid(v->string, v->bytes) == v->bytes);
    FUZZ_HOLDS(v->type != MRC_JSON_NUMBER || isfinite(v->number));
    return n;
}

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_json *root, *again;
    mrc_text t;
    mrc_status s = mrc_json_parse(ctx, &root, "f", (const char *)data, bytes, 0);
    FUZZ_HOLDS(s == MRC_OK || s == MRC_ERR_FORMAT);
    FUZZ_HOLDS((s == MRC_OK) == (root != NULL));
    if (s != MRC_OK) return 0;
    mrc_text_init(&t, ctx);
    mrc__json_write(&t, root);
    FUZZ_HOLDS(mrc_json_parse(ctx, &again, "g", t.data, t.bytes, 0) == MRC_OK);
    FUZZ_HOLDS(fuzz_count(root, 0) == fuzz_count(again, 0));
    mrc_text_free(&t);
    mrc_json_free(again);
    mrc_json_free(root);
    return 1;
}

const char *const fuzz_seeds[] = {
    "{\"a\": [1, -2.5e3, \"x\\u00e9\\ud83d\\ude00\", true, false, null, {}], \"b\": {\"c\": []}}",
    "12345678901234567890", "\"\xed\x95\x9c\"", NULL
};
