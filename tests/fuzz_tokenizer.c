// tokenizer.json and vocab.txt: what is accepted encodes any text to ids that it has.
#include "fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    static const char text[] = "Hello \xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 a\xff [MASK] 1.";
    char path[96];
    mrc_tokenizer *tok;
    mrc_encodings out = {0};
    const char *file = fuzz_file(data, bytes);
    snprintf(path, sizeof path, "%s%s", file, bytes && *data == '{' ? ".tokenizer.json" : ".txt");
    unlink(path);
    FUZZ_HOLDS(link(file, path) == 0);
    mrc_status s = mrc_tokenizer_load(ctx, &tok, path);
    unlink(path);
    FUZZ_HOLDS(s == MRC_OK || s == MRC_ERR_FORMAT || s == MRC_ERR_UNSUPPORTED);
    FUZZ_HOLDS((s == MRC_OK) == (tok != NULL));
    if (tok && mrc_tokenizer_encode(ctx, tok, &out, text, sizeof text - 1, NULL, 0, NULL)
        == MRC_OK) {
        for (size_t i = 0; i < out.list[0].n; i++) {
            FUZZ_HOLDS(mrc_tokenizer_token(tok, out.list[0].input_ids[i]) != NULL);
        }
        mrc_encodings_free(&out);
    }
    mrc_tokenizer_free(tok);
    return s == MRC_OK;
}

const char *const fuzz_seeds[] = {
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhello\n##l\na\n1\n.\n",
    "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 0, \"content\": \"[UNK]\", \"special\": "
    "true}], \"normalizer\": {\"type\": \"BertNormalizer\", \"lowercase\": true}, "
    "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"}, \"model\": {\"type\": \"WordPiece\", "
    "\"unk_token\": \"[UNK]\", \"vocab\": {\"[UNK]\": 0, \"[CLS]\": 1, \"[SEP]\": 2, \"a\": 3}}}",
    NULL
};
