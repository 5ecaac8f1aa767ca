// Answers a question from a passage: answer MODEL_DIR QUESTION PASSAGE
#define MRC_IMPLEMENTATION
#include "mrc.h"

int main(int argc, char **argv) {
    mrc_backend *backend = NULL;
    mrc_ctx *ctx = NULL;
    mrc_reader *reader = NULL;
    mrc_ctx_desc desc = {0};
    mrc_example x = {0};
    mrc_reply reply;
    size_t bytes;
    if (argc != 4 || mrc_backend_cpu_new(&backend, NULL) != MRC_OK) return 2;
    desc.backend = backend;
    if (mrc_ctx_new(&ctx, &desc) != MRC_OK) return 1;
    x.question = argv[2], x.question_bytes = strlen(argv[2]);
    x.context = argv[3], x.context_bytes = strlen(argv[3]);
    int ok = mrc_reader_new(ctx, &reader, argv[1], NULL) == MRC_OK
          && mrc_reader_answer(reader, &x, 1, &reply) == MRC_OK;
    if (ok) {
        const char *text = mrc_span_text(reply.answer, &x, NULL, &bytes);
        printf("%.*s (%.0f%%)\n", (int)bytes, text, 100 * reply.answer->probability);
    } else fprintf(stderr, "%s\n", mrc_ctx_message(ctx));
    mrc_reader_free(reader);
    mrc_ctx_free(ctx);
    mrc_backend_free(backend);
    return ok ? 0 : 1;
}
