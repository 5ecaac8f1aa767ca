// Indexes of vectors and of token rows.  Each input is read as it is, and with checksums made
// right, where a reader must bear what is inside.
#include "../support/fuzz.h"

static int fuzz_search(mrc_ctx *ctx, int tokens) {
    static float row[3 * 256];
    uint64_t offsets[3] = { 0, 1, 3 };
    mrc_dense *d;
    mrc_hit hits[8];
    size_t n_hits[2];
    mrc_status s = mrc_dense_open(ctx, &d, fuzz_dir, tokens);
    FUZZ_HOLDS((s == MRC_OK) == (d != NULL));
    if (!d) return 0;
    mrc_dense_info about = mrc_dense_about(d);
    s = mrc_dense_check(d);
    if (about.width <= 256 && about.n < 4096) {
        for (size_t i = 0; i < 3 * about.width; i++) row[i] = (float)(i % 7) - 3;
        mrc_vectors q = { .n = 2, .n_rows = tokens ? 3 : 2, .width = about.width, .rows = row,
                          .offsets = tokens ? offsets : NULL };
        mrc_dense_config config = mrc_dense_config_default();
        for (config.exact = 0, config.threads = 1; config.exact < 2; config.exact++) {
            mrc_status found = mrc_dense_search(d, &q, 4, &config, hits, n_hits);
            if (found != MRC_OK) s = MRC_ERR_FORMAT;
            for (size_t i = 0; found == MRC_OK && i < n_hits[0]; i++) {
                FUZZ_HOLDS(hits[i].passage < about.n);
            }
        }
    }
    mrc_dense_close(d);
    return s == MRC_OK;
}

static int fuzz_both(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    fuzz_file_named("vectors.bin", data, bytes);
    fuzz_file_named("tokens.bin", data, bytes);
    int ok = fuzz_search(ctx, 0);
    mrc_ctx_clear_error(ctx);
    return fuzz_search(ctx, 1) || ok;
}

static int fuzz_accepts(mrc_ctx *plain, const uint8_t *data, size_t bytes) {
    static mrc_backend *be;
    mrc_ctx *ctx;
    uint8_t *copy = malloc(bytes + 1);
    if (!be) mrc_backend_naive_new(&be, NULL);
    FUZZ_HOLDS(copy != NULL && mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be }) == MRC_OK);
    memcpy(copy, data, bytes);
    fuzz_repair_blocks(copy, bytes, 240, 224);
    fuzz_both(ctx, copy, bytes);
    free(copy);
    mrc_ctx_clear_error(ctx);
    int ok = fuzz_both(ctx, data, bytes);
    FUZZ_HOLDS(ok || *mrc_ctx_message(ctx));
    mrc_dense *none;
    if (!ok) FUZZ_HOLDS(mrc_dense_open(plain, &none, "", 0) != MRC_OK);     // the driver's text
    mrc_ctx_free(ctx);
    return ok;
}

const char *const fuzz_seeds[] = { "MRCVECTS", "MRCTOKEN", NULL };      // build.sh makes others
