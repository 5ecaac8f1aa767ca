// Embeddings as .npy.
#include "../support/fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_vectors v;
    mrc_status s = mrc_vectors_load(ctx, &v, fuzz_file_named("a.npy", data, bytes));
    FUZZ_HOLDS((s == MRC_OK) == (v.rows != NULL));
    if (s != MRC_OK) return 0;
    FUZZ_HOLDS(v.n == v.n_rows && v.n * v.width <= bytes);
    for (size_t i = 0; i < v.n * v.width; i++) FUZZ_HOLDS(v.rows[i] - v.rows[i] == 0);
    mrc_vectors_free(&v);
    return 1;
}

const char *const fuzz_seeds[] = { "\x93NUMPY\1", NULL };       // build.sh makes others
