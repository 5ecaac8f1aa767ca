// The reader of PyTorch files: entries lie inside of what it accepts, readable to the end.  A zip's
// checksums would stop what is changed in its pickle, so each is read without them too: 0 is "not
// computed".
#include "../support/fuzz.h"

static int fuzz_torch(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_weights *st;
    mrc_status s = mrc_torch_open(ctx, &st, fuzz_file(data, bytes));
    return fuzz_entries(s, st, bytes);
}

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    uint8_t *copy = malloc(bytes + 1);
    int found = 0;
    FUZZ_HOLDS(copy != NULL);
    memcpy(copy, data, bytes);
    for (size_t i = 0; i + 20 <= bytes; i++) {
        size_t at = !memcmp(copy + i, "PK\1\2", 4) ? 16 : !memcmp(copy + i, "PK\3\4", 4) ? 14 : 0;
        if (at) memset(copy + i + at, 0, 4);
        found |= at != 0;
    }
    if (found) fuzz_torch(ctx, copy, bytes);
    free(copy);
    fuzz_digest = 0;
    return fuzz_torch(ctx, data, bytes);
}

const char *const fuzz_seeds[] = {
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.", "PK\3\4", NULL
};
