// The YAML subset: what it accepts is finite, bounded and UTF-8, and stays itself as flow JSON.
#include "../support/fuzz.h"
#include "../../tools/yaml.h"

static size_t fuzz_count(const mrc_json *v) {
    size_t n = 1;
    for (const mrc_json *c = v->child; c; c = c->next) n += fuzz_count(c);
    FUZZ_HOLDS(v->type != MRC_JSON_STRING || mrc_utf8_valid(v->string, v->bytes) == v->bytes);
    FUZZ_HOLDS(v->type != MRC_JSON_NUMBER || isfinite(v->number));
    return n;
}

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_json *root;
    mrc_status s = fuzz_status(yaml_parse(ctx, &root, "f", (const char *)data, bytes));
    FUZZ_HOLDS((s == MRC_OK) == (root != NULL));
    FUZZ_HOLDS(s != MRC_ERR_FORMAT || !strncmp(mrc_ctx_message(ctx), "f:", 2));
    if (root) FUZZ_HOLDS(fuzz_count(root) <= 10001);         // the limit, and the root
    yaml_free(root);
    return s == MRC_OK;
}

const char *const fuzz_seeds[] = {
    "# c\n---\na: 1\nb:\n  - x\n  - 'it''s'\n  - \"\\x41\\u00e9\"\n"
    "c: {d: [1, 2.5e-3, ~], e: true}\n",
    "- a: b\n  c:\n  - - 1\n    - 0x1F\n", "[a, {b: c}]", "a: |\n  b\n", NULL
};
