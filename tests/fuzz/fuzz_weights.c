// Weights in several files: the index, then the files that its seeds name, parted by bytes 1e.
#include "../support/fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    static const char *const names[] = { "model.safetensors.index.json", "a.safetensors",
                                         "b.safetensors", NULL };
    static const char *const torch[] = { "pytorch_model.bin.index.json", "a.bin", "b.bin", NULL };
    static const char mark[] = "\"a.bin\"";
    mrc_weights *st;
    int is_torch = 0;
    for (size_t i = 0; i + sizeof mark <= bytes && i < 256 && !is_torch; i++) {
        is_torch = !memcmp(data + i, mark, sizeof mark - 1);
    }
    fuzz_files(is_torch ? names : torch, NULL, 0);      // the other kind's files go
    mrc_status s = mrc_weights_open(ctx, &st, fuzz_files(is_torch ? torch : names, data, bytes));
    if (s == MRC_ERR_ARG) s = MRC_ERR_FORMAT;       // the index names a file that is not here
    return fuzz_entries(s, st, bytes);
}

// Headers' lengths have NULs, which cannot stand here: build.sh makes seeds of more use.
const char *const fuzz_seeds[] = {
    "{\"metadata\": {\"total_size\": 8}, \"weight_map\": {\"x\": \"a.safetensors\", \"y\": "
    "\"b.safetensors\"}}\x1e        {}\x1e        {}", NULL
};
