// The tokens of a sentence.
#define MRC_IMPLEMENTATION
#include "mrc.h"

int main(void) {
    mrc_ctx *ctx;
    mrc_tokenizer *tok = NULL;
    mrc_encodings e = { 0 };
    const char *text = "서울은 어디에 있는가?";
    if (mrc_ctx_new(&ctx, NULL) != MRC_OK) return 1;
    if (mrc_tokenizer_load(ctx, &tok, "data") == MRC_OK
        && mrc_tokenizer_encode(ctx, tok, &e, text, strlen(text), NULL, 0, NULL) == MRC_OK) {
        for (size_t i = 0; i < e.list[0].n; i++) {
            printf("%s\n", mrc_tokenizer_token(tok, e.list[0].input_ids[i]));
        }
    } else {
        fprintf(stderr, "%s\n", mrc_ctx_message(ctx));
    }
    mrc_encodings_free(&e);
    mrc_tokenizer_free(tok);
    mrc_ctx_free(ctx);
}
