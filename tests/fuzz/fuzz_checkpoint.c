// A checkpoint's trainer_state.json, as it is and with its own checksum made right.  The folder has
// three files of known bytes; what is accepted notices when one of them changes.
#include "../support/fuzz.h"

static const char *const fuzz_names[] = { "model.safetensors", "optimizer.safetensors",
                                          "config.json" };
static void fuzz_put(const uint8_t *data, size_t bytes) {
    for (size_t i = 0; i < 3; i++) {
        fuzz_file_named(fuzz_names[i], (const uint8_t *)fuzz_names[i], 5 + i);
    }
    fuzz_file_named("trainer_state.json", data, bytes);
}

static void fuzz_repaired(const uint8_t *data, size_t bytes) {
    static const char key[] = "\"state_crc32c\": ";
    size_t at = bytes;
    for (size_t i = 0; i + sizeof key <= bytes; i++) {
        if (!memcmp(data + i, key, sizeof key - 1)) at = i;
    }
    uint8_t *copy = malloc(at + 64);
    FUZZ_HOLDS(copy != NULL);
    memcpy(copy, data, at);
    int n = snprintf((char *)copy + at, 64, "%s%lu}\n", key,
                     (unsigned long)mrc_crc32c(0, data, at));
    fuzz_put(copy, at + (size_t)n);
    free(copy);
}

static mrc_status fuzz_check(mrc_ctx *ctx) {
    mrc_status s = mrc_checkpoint_check(ctx, fuzz_dir);
    fuzz_status(s == MRC_ERR_ARG || s == MRC_ERR_IO ? MRC_ERR_FORMAT : s);
    FUZZ_HOLDS((s == MRC_OK) == !*mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    return s;
}

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    fuzz_repaired(data, bytes);
    if (fuzz_check(ctx) == MRC_OK) {
        for (size_t i = 0; i < 3; i++) fuzz_file_named(fuzz_names[i], data, 0);
        FUZZ_HOLDS(fuzz_check(ctx) == MRC_ERR_FORMAT);
    }
    fuzz_put(data, bytes);
    return mrc_checkpoint_check(ctx, fuzz_dir) == MRC_OK;
}

const char *const fuzz_seeds[] = {
    "{\"global_step\": 10, \"files\": {\"model.safetensors\": {\"bytes\": 5, \"crc32c\": "
    "2930883785}, "
    "\"optimizer.safetensors\": {\"bytes\": 6, \"crc32c\": 2507022363}, \"config.json\": "
    "{\"bytes\": 7, "
    "\"crc32c\": 626185332}}, \"state_crc32c\": 4122544078}\n", NULL
};
