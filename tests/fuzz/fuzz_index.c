// The index of passages.  Checksums would stop nearly every mutation, so each input is read twice:
// as it is, and with checksums made right, where a reader must bear what is inside.
#include "../support/fuzz.h"

static int fuzz_index(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    const mrc_query queries[] = { { "the king of a city", 18 }, { "\xed\x95\x9c 1.", 6 } };
    mrc_hit hits[8];
    size_t n_hits[2];
    mrc_index *ix;
    mrc_searcher *searcher;
    mrc_passage x;
    mrc_text room;
    // What tests/fuzz.sh gave the index by word pieces: it is in the index's folder.
    static const char vocabulary[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nking\na\ncity\n1\n";
    static const char settings[] = "{\"do_lower_case\": true}\n";
    static int is_made;
    if (!is_made++) {
        fuzz_file_named("vocab.txt", (const uint8_t *)vocabulary, sizeof vocabulary - 1);
        fuzz_file_named("tokenizer_config.json", (const uint8_t *)settings, sizeof settings - 1);
    }
    fuzz_file_named("index.bin", data, bytes);
    mrc_status s = mrc_index_open(ctx, &ix, fuzz_dir);
    FUZZ_HOLDS((s == MRC_OK) == (ix != NULL));
    if (!ix) return 0;
    s = mrc_index_check(ix);
    mrc_text_init(&room, ctx);
    for (size_t i = 0; i < 8 && i < mrc_index_size(ix); i++) {
        if (mrc_index_passage(ix, i, &room, &x) != MRC_OK) s = MRC_ERR_FORMAT;
        else FUZZ_HOLDS(!x.text[x.text_bytes] && strlen(x.id) + strlen(x.title) <= bytes);
    }
    mrc_text_free(&room);
    mrc_search_config config = mrc_search_config_default((mrc_bm25)(bytes % 10));
    config.threads = 1;
    if (mrc_searcher_new(ctx, &searcher, ix, &config) == MRC_OK) {
        if (mrc_search(searcher, queries, 2, 4, hits, n_hits) != MRC_OK) s = MRC_ERR_FORMAT;
        for (size_t i = 0; s == MRC_OK && i < n_hits[0]; i++) {
            FUZZ_HOLDS(hits[i].passage < mrc_index_size(ix));
        }
    } else {
        s = MRC_ERR_FORMAT;
    }
    mrc_searcher_free(searcher);
    mrc_index_close(ix);
    return s == MRC_OK;
}

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    uint8_t *copy = malloc(bytes + 1);
    FUZZ_HOLDS(copy != NULL);
    memcpy(copy, data, bytes);
    fuzz_repair_blocks(copy, bytes, 128, 112);
    fuzz_index(ctx, copy, bytes);
    free(copy);
    mrc_ctx_clear_error(ctx);
    return fuzz_index(ctx, data, bytes);
}

const char *const fuzz_seeds[] = { "MRCINDEX", NULL };          // build.sh makes others
