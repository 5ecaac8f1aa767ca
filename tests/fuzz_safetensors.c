// The reader of safetensors files: entries lie inside of what it accepts, readable to the end.
#include "fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_safetensors *st;
    const mrc_st_entry *e;
    mrc_status s = mrc_safetensors_open(ctx, &st, fuzz_file(data, bytes));
    FUZZ_HOLDS(s == MRC_OK || s == MRC_ERR_FORMAT);
    FUZZ_HOLDS((s == MRC_OK) == (st != NULL));
    for (size_t i = 0; st && i < 64 && (e = mrc_safetensors_at(st, i)) != NULL; i++) {
        uint32_t crc;
        mrc_status read = mrc_safetensors_crc32c(st, e, &crc);
        FUZZ_HOLDS(read == MRC_OK || read == MRC_ERR_UNSUPPORTED);
        FUZZ_HOLDS(mrc_safetensors_find(st, e->name) == e && e->end - e->begin <= bytes);
    }
    mrc_safetensors_close(st);
    return s == MRC_OK;
}

static const char *const fuzz_seeds[] = {       // the length is that of a text: all 0x20
    "no safetensors file",
    "        {\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}1234", NULL
};
