// embed: texts into vectors: one a text, or with a ColBERT directory one a token.
#include "tool.h"
#include "texts.h"

static struct {
    const char *model, *query_model, *input, *output, *pooling;
    int         side;
    tool_precision precision;
    size_t      max_length, batch_rows, token_types;
    int         skip_unknown;
} a;

static int is_called(const char *tail) {
    const size_t n = strlen(a.output), m = strlen(tail);
    return n > m && strcmp(a.output + n - m, tail) == 0;
}

// Before all texts are read: whether the output can hold what becomes of none of them.
static void want_kind(mrc_ctx *ctx, mrc_encoder *e, mrc_side side, const texts *list) {
    mrc_vectors none;
    tool_check(ctx, mrc_encoder_encode(e, side, list->list, 0, &none));
    if (none.offsets && is_called(".npy")) {
        tool_fail(TOOL_BAD_INPUT, "%s: .npy holds one row a text, these are a row a token "
                  "(expected a name that ends in .safetensors)", a.output);
    }
    mrc_vectors_free(&none);
}

static int run(tool_program *p) {
    (void)p;
    if (!is_called(".npy") && !is_called(".safetensors")) {
        tool_fail(TOOL_BAD_INPUT, "%s: no such kind of file (expected a name that ends in .npy or "
                  ".safetensors)", a.output);
    }
    tool_try_place(a.output, 0);
    tool_want_model(a.model);
    mrc_backend *be = tool_backend_new_for(tool_precision_dtype(&a.precision));
    mrc_ctx *ctx = tool_ctx_new(be, 0);
    mrc_encoder *e;
    mrc_vectors v;
    double begun = tool_seconds();
    mrc_encoder_desc desc = { .pooling = a.pooling, .max_length = a.max_length,
                              .batch_rows = a.batch_rows,
                              .one_token_type = !a.token_types, .skip_unknown = a.skip_unknown,
                              .dtype = tool_precision_dtype(&a.precision),
                              .int8_keep = tool_precision_keep(&a.precision) };
    tool_check(ctx, mrc_encoder_new(ctx, &e, a.model, &desc));
    if (!mrc_encoder_width(e)) {
        tool_fail(TOOL_BAD_INPUT, "%s: a cross-encoder scores pairs and has no vectors (expected a "
                  "bi-encoder or ColBERT)", a.model);
    }
    const mrc_side side = a.side ? MRC_SIDE_PASSAGE : MRC_SIDE_QUERY;
    texts list = texts_read(ctx, a.input, side);
    want_kind(ctx, e, side, &list);
    double loaded = tool_seconds();
    tool_check(ctx, mrc_encoder_encode(e, side, list.list, list.n, &v));
    double done = tool_seconds();
    tool_make_parent(ctx, a.output);
    tool_check(ctx, mrc_vectors_save(ctx, &v, a.output));
    tool_note("%s: %zu texts, %zu rows of %zu in %.2f s, %.1f texts/s; loaded in %.2f s", a.input,
              v.n, v.n_rows, v.width, done - loaded, (double)v.n / (done - loaded + 1e-9),
              loaded - begun);
    mrc_vectors_free(&v);
    texts_free(&list);
    mrc_encoder_free(e);
    mrc_ctx_free(ctx);
    mrc_backend_free(be);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "model_name_or_path", .string = &a.model, .value = "DIR", .required = 1,
      .help = "a directory of sentence-transformers, of a plain encoder, of DPR or of ColBERT" },
    { .name = "input", .string = &a.input, .value = "FILE", .required = 1,
      .help = "JSONL with text or question (of the side query the question where there are both), "
              "lines of id and text between tabs, or plain lines" },
    { .name = "side", .choice = &a.side, .choices = "query|passage", .preset = "passage",
      .help = "whose prompt, marker and length to use" },
    { .name = "output", .alias = "output_file", .string = &a.output, .value = "FILE", .required = 1,
      .help = "X.npy, or X.safetensors; row i is text i" },
    { .name = "pooling", .string = &a.pooling, .value = "NAME", .otherwise = "the directory's",
      .help = "cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken or pooler" },
    { .name = "max_seq_length", .size = &a.max_length, .unit = "tokens", .min = 4, .max = 1e6,
      .otherwise = "the directory's", .help = "of a text, special tokens included" },
    { .name = "batch_rows", .size = &a.batch_rows, .unit = "tokens", .preset = "4096", .min = 1,
      .max = 1e9, .help = "at a time" },
    TEXT_RULE_FLAGS(a.token_types, a.skip_unknown),
    TOOL_PRECISION_FLAGS(a.precision),
    { 0 }
};

static tool_program program = {
    .name = "embed", .group = "search", .run = run, .flags = flags,
    .purpose = "Turns texts into vectors, for whatever searches or clusters them.",
    .usage = "--model_name_or_path DIR --input FILE --output X.npy [--side query]",
    .examples = { "embed --model_name_or_path all-MiniLM-L6-v2 --input passages.jsonl --output "
                  "passages.npy",
                  "embed --model_name_or_path my-colbert --input questions.jsonl --side query "
                  "--output questions.safetensors" }
};
TOOL_PROGRAM(embed, program)
