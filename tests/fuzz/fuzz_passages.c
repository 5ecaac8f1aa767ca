// The passages of a corpus, JSON or lines: what is kept is UTF-8 and ends.
#include "../support/fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_passages *p;
    const char *path = fuzz_file(data, bytes);
    mrc_status s = fuzz_status(mrc_passages_load(ctx, &p, path, bytes % 2 ? "text" : NULL));
    FUZZ_HOLDS((s == MRC_OK) == (p != NULL));
    if (!p) return 0;
    size_t n = mrc_passages_size(p);
    for (size_t i = 0; i < n; i++) {
        const mrc_passage *x = mrc_passages_at(p, i);
        FUZZ_HOLDS(mrc_utf8_valid(x->text, x->text_bytes) == x->text_bytes);
        FUZZ_HOLDS(!x->text[x->text_bytes]);
        FUZZ_HOLDS(mrc_utf8_valid(x->id, strlen(x->id)) == strlen(x->id));
        FUZZ_HOLDS(mrc_utf8_valid(x->title, strlen(x->title)) == strlen(x->title));
    }
    FUZZ_HOLDS(!mrc_passages_at(p, n));
    size_t gone = mrc_passages_unique(p);
    FUZZ_HOLDS(gone + mrc_passages_size(p) == n);
    mrc_passages_free(p);
    return 1;
}

const char *const fuzz_seeds[] = {
    "{\"id\": \"1\", \"title\": \"t\", \"text\": \"a b\"}\n{\"_id\": 2, \"contents\": \"c\"}\n",
    "[{\"document_id\": 1, \"text\": \"a\"}, {\"id\": \"x\", \"context\": \"a\"}]",
    "{\"0\": {\"text\": \"a\", \"document_id\": 7, \"title\": \"t\"}, \"1\": {\"text\": \"b\"}}",
    "0\t\"Hello, is it me?\" is a line.\n1\t\"unfinished\n2\tx\ttitle\n",
    "id\ttext\ttitle\n1\t\"a \"\"b\"\"\nc\"\tt\n2\tb\n", NULL
};
