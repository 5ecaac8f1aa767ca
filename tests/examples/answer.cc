// The same in C++, with the implementation in a C file beside it: answer MODEL_DIR QUESTION PASSAGE
#include "mrc.h"
#include <cstring>
#include <iostream>
#include <memory>
#include <string>

namespace {
struct Free {
    void operator()(mrc_backend *x) const { mrc_backend_free(x); }
    void operator()(mrc_ctx *x) const { mrc_ctx_free(x); }
    void operator()(mrc_reader *x) const { mrc_reader_free(x); }
};
}

int main(int argc, char **argv) {
    mrc_backend *backend = nullptr;
    mrc_ctx *ctx = nullptr;
    mrc_reader *reader = nullptr;
    mrc_reply reply;
    if (argc != 4 || mrc_backend_cpu_new(&backend, nullptr) != MRC_OK) return 2;
    std::unique_ptr<mrc_backend, Free> owns_backend(backend);
    mrc_ctx_desc desc = mrc_ctx_desc();
    desc.backend = backend;
    if (mrc_ctx_new(&ctx, &desc) != MRC_OK) return 1;
    std::unique_ptr<mrc_ctx, Free> owns_ctx(ctx);       // freed before the backend
    mrc_example x = mrc_example();
    x.question = argv[2], x.question_bytes = std::strlen(argv[2]);
    x.context = argv[3], x.context_bytes = std::strlen(argv[3]);
    bool ok = mrc_reader_new(ctx, &reader, argv[1], nullptr) == MRC_OK;
    std::unique_ptr<mrc_reader, Free> owns_reader(reader);
    if (!ok || mrc_reader_answer(reader, &x, 1, &reply) != MRC_OK) {
        std::cerr << mrc_ctx_message(ctx) << "\n";
        return 1;
    }
    size_t bytes;
    const char *text = mrc_span_text(reply.answer, &x, nullptr, &bytes);
    std::cout << std::string(text, bytes) << "\n";
}
