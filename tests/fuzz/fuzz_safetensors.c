// The reader of safetensors files: entries lie inside of what it accepts, readable to the end.
#include "../support/fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_weights *st;
    mrc_status s = mrc_safetensors_open(ctx, &st, fuzz_file(data, bytes));
    return fuzz_entries(s, st, bytes);
}

const char *const fuzz_seeds[] = {       // the length is that of a text: all 0x20
    "no safetensors file",
    "        {\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}1234", NULL
};
