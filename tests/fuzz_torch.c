// The reader of PyTorch files: entries lie inside of what it accepts, readable to the end.
#include "fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_safetensors *st;
    mrc_status s = mrc_torch_open(ctx, &st, fuzz_file(data, bytes));
    return fuzz_entries(s, st, bytes);
}

const char *const fuzz_seeds[] = {
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.", "PK\3\4", NULL
};
