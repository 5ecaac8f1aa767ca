// The reader of PyTorch files: entries lie inside of what it accepts, readable to the end.
#include "fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_safetensors *st;
    const mrc_st_entry *e;
    mrc_status s = mrc_torch_open(ctx, &st, fuzz_file(data, bytes));
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

static const char *const fuzz_seeds[] = {
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.", "PK\3\4", NULL
};
