// The flags of retrieval in stages (stages.h), what index notes about its models, and the scores of
// a hit as JSON.  For index, search, ask and serve.
#ifndef RETRIEVAL_H
#define RETRIEVAL_H
#include "reader.h"
#include "stages.h"

// The flags of stages; o: a retrieval_options.
#define RETRIEVAL_FLAGS(o)                                                                         \
    { .name = "retriever", .choice = &(o).kind, .choices = "bm25|dense|colbert|hybrid",            \
      .preset = "bm25", .help = "words, vectors, token rows, or all that the index has, fused by " \
      "z-scores" },                                                                                \
    { .name = "reranker", .string = &(o).reranker, .value = "DIR",                                 \
      .help = "a cross-encoder, bi-encoder or ColBERT that orders the first passages again" },     \
    { .name = "rerank_top_k", .size = &(o).rerank_top_k, .preset = "20", .min = 1, .max = 1e6,     \
      .unit = "passages", .help = "how many of them" },                                            \
    { .name = "rerank_weight", .real = &(o).rerank_weight, .preset = "1", .min = 0, .max = 1,      \
      .help = "of the reranker's z-score; that of the stages below has the rest" },                \
    { .name = "retrieval_model", .alias = "model_of_vectors", .string = &(o).model,                \
      .value = "DIR", .otherwise = "the one the index names",                                      \
      .help = "the bi-encoder of the index's vectors" },                                           \
    { .name = "token_model", .string = &(o).token_model, .value = "DIR",                           \
      .otherwise = "the one the index names", .help = "the ColBERT of the index's token rows" },   \
    { .name = "query_model_name_or_path", .string = &(o).query_model, .value = "DIR",              \
      .otherwise = "the same model", .help = "the query tower of two" },                           \
    { .name = "fusion", .choice = &(o).fusion, .choices = "rrf|minmax|zscore|raw",                 \
      .preset = "zscore", .help = "how the stages of hybrid are added up" },                       \
    { .name = "fusion_depth", .size = &(o).depth, .preset = "20", .min = 1, .max = 1e6,            \
      .help = "passages of each stage that are fused" },                                           \
    { .name = "ef", .size = &(o).ef, .preset = "64", .min = 1, .max = 1e6,                         \
      .help = "candidates that a search of a graph keeps" },                                       \
    { .name = "exact", .flag = &(o).exact, .help = "score all vectors though there is a graph" },  \
    { .name = "any_model", .flag = &(o).any_model,                                                 \
      .help = "take a model that did not make the index's vectors" }

// Writes the entry and keeps the other one.
TOOL_DEF void retrieval_encoder_write(mrc_ctx *ctx, const char *index, int tokens,
                                      const char *model, const char *pooling, size_t max_length) {
    char file[TOOL_PATH_BYTES], real[TOOL_PATH_BYTES], digits[24] = "";
    mrc_text t;
    char *other[3];
    static const char *const keys[] = { "model_name_or_path", "pooling", "max_seq_length" };
    for (int i = 0; i < 3; i++) {
        tool_check(ctx, stages_encoder(ctx, index, !tokens, keys[i], &other[i]));
    }
    if (!realpath(model, real)) snprintf(real, sizeof real, "%s", model);
    if (max_length) snprintf(digits, sizeof digits, "%zu", max_length);
    const char *own[3] = { real, pooling ? pooling : "", digits };
    mrc_text_init(&t, ctx);
    mrc_text_printf(&t, "{");
    for (int side = 0, n = 0; side < 2; side++) {
        if (side != tokens && !other[0]) continue;
        mrc_text_printf(&t, "%s\n  \"%s\": {", n++ ? "," : "", side ? "tokens" : "vectors");
        for (int i = 0; i < 3; i++) {
            const char *value = side == tokens ? own[i] : other[i] ? other[i] : "";
            mrc_text_printf(&t, "%s\"%s\": ", i ? ", " : "", keys[i]);
            mrc_text_json_string(&t, value, strlen(value), 0);
        }
        mrc_text_printf(&t, "}");
    }
    mrc_text_printf(&t, "\n}\n");
    tool_check_text(&t);
    tool_check(ctx, stages_path(ctx, file, index, "encoders.json"));
    tool_check(ctx, mrc_file_write(ctx, file, t.data, t.bytes));
    mrc_text_free(&t);
    for (int i = 0; i < 3; i++) free(other[i]);
}

// A hit's passage as what a question is asked of; room keeps its texts.
TOOL_DEF mrc_status retrieval_example(retrieval *r, uint32_t passage, mrc_text *room,
                                      mrc_example *out) {
    mrc_passage x;
    mrc_status status = retrieval_passage(r, passage, room, &x);
    if (status == MRC_OK) {
        *out = (mrc_example){ .id = x.id, .title = x.title, .context = x.text,
                              .context_bytes = x.text_bytes };
    }
    return status;
}

// ", \"bm25\": 3.2, ..": what is known of a hit's stages, for JSON.
TOOL_DEF void retrieval_json(mrc_text *t, const stage_hit *h) {
    for (int s = 0; s < STAGES; s++) {
        if (!isnan(h->stage[s])) tool_json_number(t, stage_names[s], h->stage[s]);
    }
}
#endif
