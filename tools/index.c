// index: makes an index of passages that search and ask look things up in.
#include "engine.h"

static struct { const char *passages, *output, *tokenizer; int analyzer, unique; } a;

static int run(tool_program *p) {
    (void)p;
    if (a.analyzer == MRC_ANALYZER_WORDPIECE && !a.tokenizer) {
        tool_fail(TOOL_USAGE, "--tokenizer_name is missing (found nothing, expected DIR or "
                  "vocab.txt for --analyzer wordpiece)");
    }
    tool_try_place(a.output, 1);
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    mrc_passages *passages;
    double begun = tool_seconds();
    tool_check(ctx, mrc_passages_load(ctx, &passages, a.passages, NULL));
    size_t twins = a.unique ? mrc_passages_unique(passages) : 0;
    if (engine_a.kind != ENGINE_NONE) {
        engine_a.name = a.output;
#ifdef MRC_CURL
        engine_index(ctx, passages, (mrc_analyzer)a.analyzer, a.tokenizer);
#else
        engine_missing();
#endif
        mrc_passages_free(passages);
        mrc_ctx_free(ctx);
        return tool_finish();
    }
    double loaded = tool_seconds();
    mrc_index_desc desc = { .passages = passages, .analyzer = (mrc_analyzer)a.analyzer,
                            .tokenizer = a.tokenizer, .threads = tool_pool_threads() };
    tool_check(ctx, mrc_index_new(ctx, a.output, &desc));
    double done = tool_seconds();
    mrc_index *ix;
    tool_check(ctx, mrc_index_open(ctx, &ix, a.output));
    tool_note("%s: %zu passages, %zu twins left out, %zu terms; read in %.3f s, indexed in %.3f s",
              a.passages, mrc_index_size(ix), twins, mrc_index_terms(ix), loaded - begun,
              done - loaded);
    mrc_index_close(ix);
    mrc_passages_free(passages);
    mrc_ctx_free(ctx);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "passages", .string = &a.passages, .value = "FILE", .required = 1,
      .help = "JSONL or JSON records of id, title and text (or context), or lines of id, text "
              "and title between tabs" },
    { .name = "analyzer", .choice = &a.analyzer,
      .choices = "whitespace|wordpiece|char_bigram|korean", .required = 1,
      .help = "what terms are: words, a tokenizer's pieces, every two neighbouring characters "
              "of a word, or Korean words without particles and their bigrams" },
    { .name = "output", .string = &a.output, .value = "DIR", .required = 1,
      .help = "the index: a folder, made if it is not there; with --engine the name of an alias" },
    { .name = "tokenizer_name", .string = &a.tokenizer, .value = "DIR",
      .otherwise = "none; needed with --analyzer wordpiece",
      .help = "a directory with the vocabulary, or vocab.txt; it is copied into the index" },
    { .name = "unique", .flag = &a.unique,
      .help = "leave out passages whose text an earlier one has" },
    ENGINE_FLAGS,
    { .name = "resume", .flag = &engine_a.resume, .group = "search cluster",
      .help = "go on with an index of these passages that is not whole: sends what is missing" },
    { .name = "overwrite_output_dir", .flag = &engine_a.overwrite, .group = "search cluster",
      .help = "delete the index that the alias stood for" },
    { .name = "k1", .real = &engine_a.k1, .min = 0, .max = 1000, .preset = "1.2",
      .group = "search cluster", .help = "how soon a term's count saturates" },
    { .name = "b", .real = &engine_a.b, .min = 0, .max = 1, .preset = "0.75",
      .group = "search cluster", .help = "how much long passages lose" },
    { .name = "shards", .size = &engine_a.shards, .preset = "1", .min = 1, .max = 1024,
      .group = "search cluster", .help = "parts of the index" },
    { .name = "replicas", .size = &engine_a.replicas, .preset = "0", .min = 0, .max = 64,
      .group = "search cluster", .help = "copies of each part" },
    { 0 }
};

static tool_program program = {
    .name = "index", .group = "search", .run = run, .flags = flags,
    .purpose = "Indexes passages for BM25: what search and ask look things up in.",
    .usage = "--passages FILE --analyzer whitespace|wordpiece|char_bigram|korean --output DIR\n"
             "       [--engine elasticsearch|opensearch --url URL]",
    .examples = { "index --passages wikipedia_documents.json --unique --analyzer korean "
                  "--output wiki",
                  "index --passages psgs_w100.tsv --analyzer wordpiece --tokenizer_name "
                  "bert-base-uncased --output psgs" }
};
TOOL_PROGRAM(index, program)
