// index: makes an index of passages, by words and by vectors, for search and ask.
#include "engine_load.h"
#include "retrieval.h"
#include "texts.h"

static struct {
    const char *passages, *output, *tokenizer, *model, *pooling;
    int         analyzer, unique, form, graph, tokens;
    int         skip_unknown;
    size_t      bits, max_length, m, ef_construction, token_types;
} a = { .analyzer = -1, .form = -1 };

// What makes the vectors, before anything is written.
static mrc_encoder *open_encoder(mrc_ctx *ctx) {
    mrc_encoder *e;
    mrc_encoder_desc desc = { .pooling = a.pooling, .max_length = a.max_length,
                              .one_token_type = !a.token_types, .skip_unknown = a.skip_unknown,
                              .head = a.tokens ? MRC_HEAD_TOKENS : MRC_HEAD_LINEAR };
    tool_want_model(a.model);
    tool_check(ctx, mrc_encoder_new(ctx, &e, a.model, &desc));
    if (!mrc_encoder_width(e)) {
        tool_fail(TOOL_BAD_INPUT, "%s: a cross-encoder has no vectors (expected a bi-encoder or "
                  "ColBERT)", a.model);
    }
    if (a.bits && mrc_encoder_about(e)->head != MRC_HEAD_TOKENS) {
        tool_fail(TOOL_USAGE, "--bits: residual codes are of token rows (found %s, expected a "
                  "ColBERT, or --tokens)", a.model);
    }
    if (a.bits == 3) tool_fail(TOOL_USAGE, "--bits: found 3 (expected 0, 1, 2 or 4)");
    return e;
}

// Vectors of all passages, or of their tokens, into the index's folder.
static void add_vectors(mrc_ctx *ctx, mrc_encoder *e, const mrc_passages *passages) {
    size_t n = mrc_passages_size(passages);
    int tokens = mrc_encoder_about(e)->head == MRC_HEAD_TOKENS;
    mrc_vectors v;
    mrc_dense *d;
    mrc_passage *list = tool_allocate(n, sizeof *list);
    for (size_t i = 0; i < n; i++) list[i] = *mrc_passages_at(passages, i);
    double begun = tool_seconds();
    tool_check(ctx, mrc_encoder_encode(e, MRC_SIDE_PASSAGE, list, n, &v));
    double encoded = tool_seconds();
    mrc_vectors_desc index = {
        .form = tokens && a.form < 0 ? MRC_FORM_BF16 : a.form < 0 ? MRC_FORM_F32
              : (mrc_vector_form)a.form,
        .similarity = mrc_encoder_about(e)->encoder.similarity, .graph = a.graph, .m = a.m,
        .ef_construction = a.ef_construction, .residual_bits = (int)a.bits,
        .fingerprint = mrc_encoder_fingerprint(e), .threads = tool_pool_threads(),
        .seed = (uint64_t)tool_common.seed };
    tool_check(ctx, mrc_vectors_index(ctx, a.output, &v, &index));
    retrieval_encoder_write(ctx, a.output, tokens, a.model, a.pooling, a.max_length);
    tool_check(ctx, mrc_dense_open(ctx, &d, a.output, tokens));
    mrc_dense_info about = mrc_dense_about(d);
    tool_note("%s: %zu rows of %zu as %s; encoded in %.2f s, indexed in %.2f s", a.output,
              about.n_rows, about.width, about.residual_bits ? "residual codes"
              : mrc_vector_form_name(about.form), encoded - begun, tool_seconds() - encoded);
    if (about.graph) {
        tool_note("%s: recall@10 of the graph %.4f, %.4f, %.4f at ef 32, 64, 128; %zu vectors out "
                  "of reach", a.output, about.recall[0], about.recall[1], about.recall[2],
                  about.unreachable);
    }
    mrc_dense_close(d);
    mrc_vectors_free(&v);
    free(list);
}

// Flags of vectors without a model, and of a graph without one, would change nothing.
static void check_vectors(const tool_program *p) {
    static const char *const of_graph[] = { "m", "ef_construction" };
    static const char *const of_vectors[] = { "pooling", "max_seq_length", "passage_token_types",
                                              "skiplist_unk", "form", "graph", "tokens", "bits" };
    for (size_t i = 0; i < 2; i++) {
        if (a.graph || !tool_given(p, of_graph[i])) continue;
        tool_fail(TOOL_USAGE, "--%s: is of a graph (found no --graph, expected it)", of_graph[i]);
    }
    for (size_t i = 0; i < sizeof of_vectors / sizeof *of_vectors; i++) {
        if (a.model || !tool_given(p, of_vectors[i])) continue;
        tool_fail(TOOL_USAGE, "--%s: is of vectors (found no --model_name_or_path, expected an "
                  "encoder's)", of_vectors[i]);
    }
}

// What a cluster cannot keep; the rest its version decides.
static void check_cluster(void) {
    engine_check_none();
    if (engine_a.kind == ENGINE_NONE) {
        if (a.analyzer < MRC_ANALYZER_COUNT) return;
        tool_fail(TOOL_USAGE, "--analyzer: %s is a cluster's own (found no --engine, expected one, "
                  "or korean, english or another of this program's)",
                  engine_analyzer_name(a.analyzer));
    }
    if (a.tokens || a.bits) {
        tool_fail(TOOL_USAGE, "%s: a cluster has no token rows (expected a bi-encoder, one vector "
                  "a passage)", a.tokens ? "--tokens" : "--bits");
    }
    if (a.form > MRC_FORM_F32) {
        tool_fail(TOOL_USAGE, "--form: a cluster is sent f32 (found %s)",
                  mrc_vector_form_name((mrc_vector_form)a.form));
    }
}

static void fill_cluster(mrc_ctx *ctx, const mrc_passages *passages) {
    engine_job job = { .passages = passages, .analyzer = a.analyzer, .tokenizer = a.tokenizer,
                       .model = a.model, .pooling = a.pooling, .max_length = a.max_length,
                       .m = a.m, .ef_construction = a.ef_construction, .graph = a.graph };
    mrc_encoder_desc desc = { .pooling = a.pooling, .max_length = a.max_length,
                              .one_token_type = !a.token_types };
    if (a.model) {
        tool_want_model(a.model);
        tool_check(ctx, mrc_encoder_new(ctx, &job.encoder, a.model, &desc));
        if (mrc_encoder_about(job.encoder)->head != MRC_HEAD_POOL) {
            tool_fail(TOOL_BAD_INPUT, "%s: has no one vector a passage, all that a cluster takes "
                      "(expected a bi-encoder)", a.model);
        }
    }
    engine_a.name = a.output;
    engine_index(ctx, &job);
    mrc_encoder_free(job.encoder);
}

static int run(tool_program *p) {
    check_vectors(p);
    if (a.analyzer == MRC_ANALYZER_WORDPIECE && !a.tokenizer) {
        tool_fail(TOOL_USAGE, "--tokenizer_name is missing (found nothing, expected DIR or "
                  "vocab.txt for --analyzer wordpiece)");
    }
    int words = a.analyzer >= 0;
    check_cluster();
    if (!words && (!a.model || engine_a.kind != ENGINE_NONE
                   || !stages_has(a.output, "index.bin"))) {
        tool_fail(TOOL_USAGE, "--analyzer is missing (found nothing, expected whitespace, "
                  "wordpiece, char_bigram, korean or english; only vectors for an index that is "
                  "there go without)");
    }
    if (engine_a.kind == ENGINE_NONE) tool_try_place(a.output, 1);
    mrc_backend *be = a.model ? tool_backend_new() : NULL;
    mrc_ctx *ctx = tool_ctx_new(be, 0);
    mrc_passages *passages;
    double begun = tool_seconds();
    tool_check(ctx, mrc_passages_load(ctx, &passages, a.passages, NULL));
    size_t twins = a.unique ? mrc_passages_unique(passages) : 0;
    const char *id = NULL;
    size_t same = texts_twins(texts_of_passages, passages, mrc_passages_size(passages), &id);
    if (same) {
        tool_note("%s: %zu passages have the id of an earlier one (the first: %.100s), which a run "
                  "and qrels cannot tell apart%s", a.passages, same, id,
                  engine_a.kind == ENGINE_NONE ? "" : ", and a cluster keeps one of");
    }
    if (engine_a.kind != ENGINE_NONE) {
        fill_cluster(ctx, passages);
        mrc_passages_free(passages);
        mrc_ctx_free(ctx);
        if (be) mrc_backend_free(be);
        return tool_finish();
    }
    double loaded = tool_seconds();
    mrc_encoder *encoder = a.model ? open_encoder(ctx) : NULL;
    double opened = tool_seconds();
    mrc_index_desc desc = { .passages = passages, .analyzer = (mrc_analyzer)a.analyzer,
                            .tokenizer = a.tokenizer, .threads = tool_pool_threads() };
    if (words) tool_check(ctx, mrc_index_new(ctx, a.output, &desc));
    double done = tool_seconds();
    mrc_index *ix;
    tool_check(ctx, mrc_index_open(ctx, &ix, a.output));
    tool_note("%s: %zu passages, %zu twins left out, %zu terms; read in %.3f s, indexed in %.3f s",
              a.passages, mrc_index_size(ix), twins, mrc_index_terms(ix), loaded - begun,
              done - opened);
    if (mrc_index_size(ix) != mrc_passages_size(passages)) {
        tool_fail(TOOL_BAD_INPUT, "%s: is of other passages (found %zu, expected the %zu of %s)",
                  a.output, mrc_index_size(ix), mrc_passages_size(passages), a.passages);
    }
    mrc_index_close(ix);
    if (a.model) add_vectors(ctx, encoder, passages);
    mrc_encoder_free(encoder);
    mrc_passages_free(passages);
    mrc_ctx_free(ctx);
    if (be) mrc_backend_free(be);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "passages", .string = &a.passages, .value = "FILE", .required = 1,
      .help = "JSONL or JSON records of id, title and text (or context), or lines of id, text "
              "and title between tabs" },
    { .name = "analyzer", .choice = &a.analyzer,
      .choices = "whitespace|wordpiece|char_bigram|korean|english|standard|cjk|nori",
      .otherwise = "needed, but for vectors of an index that is there",
      .help = "what terms are: words, the pieces of --tokenizer_name (of any kind), every two "
              "neighbouring characters of a word, Korean words without particles and their "
              "bigrams, or stems of English words without the commonest, as Lucene's; with "
              "--engine also the cluster's own standard, cjk and nori" },
    { .name = "output", .alias = "output_dir", .string = &a.output, .value = "DIR", .required = 1,
      .help = "the index: a folder, made if it is not there; with --engine the name of an alias" },
    { .name = "tokenizer_name", .string = &a.tokenizer, .value = "DIR",
      .otherwise = "none; needed with --analyzer wordpiece",
      .help = "a model's folder, its vocab.txt, tokenizer.json or *.model; it is copied into "
              "the index" },
    { .name = "unique", .flag = &a.unique,
      .help = "leave out passages whose text an earlier one has" },
    { .name = "model_name_or_path", .group = "vectors", .string = &a.model, .value = "DIR",
      .help = "a bi-encoder or ColBERT: its vectors of the passages go into the index too" },
    { .name = "pooling", .string = &a.pooling, .value = "NAME", .otherwise = "the directory's",
      .help = "cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken or pooler" },
    { .name = "max_seq_length", .size = &a.max_length, .unit = "tokens", .min = 4, .max = 1e6,
      .otherwise = "the directory's", .help = "of a passage, special tokens included" },
    TEXT_RULE_FLAGS(a.token_types, a.skip_unknown),
    { .name = "form", .choice = &a.form, .choices = "f32|bf16|int8|bits",
      .otherwise = "f32; bf16 of token rows", .help = "how a vector is kept" },
    { .name = "graph", .flag = &a.graph,
      .help = "an HNSW graph too: above 100,000 vectors it is faster than scoring them all" },
    { .name = "m", .size = &a.m, .preset = "16", .min = 2, .max = 256,
      .help = "links of a vector in the graph" },
    { .name = "ef_construction", .size = &a.ef_construction, .preset = "200", .min = 1,
      .max = 100000, .help = "candidates that are met for a new vector's links" },
    { .name = "tokens", .flag = &a.tokens,
      .help = "a vector a token, for MaxSim, of whatever directory" },
    { .name = "bits", .size = &a.bits, .preset = "0", .min = 0, .max = 4,
      .help = "of a coordinate of token rows, as residual codes: 1, 2 or 4; 0: rows as --form" },
    ENGINE_FLAGS("300"),
    { .name = "resume", .flag = &engine_a.resume, .group = "search cluster",
      .help = "go on with an index of these passages that is not whole: sends what is missing" },
    { .name = "overwrite_output_dir", .flag = &engine_a.overwrite, .group = "search cluster",
      .help = "delete the index that the alias stood for" },
    { .name = "decompound_mode", .choice = &engine_a.decompound, .choices = ENGINE_DECOMPOUND,
      .preset = "discard", .group = "search cluster",
      .help = "of --analyzer nori: compounds become their parts, stay, or both" },
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
    .purpose = "Indexes passages by words, and by vectors: what search and ask look things up in.",
    .usage = "--passages FILE --analyzer whitespace|wordpiece|char_bigram|korean|english "
             "--output DIR\n"
             "       [--model_name_or_path DIR] [--engine elasticsearch|opensearch --url URL]",
    .examples = { "index --passages wikipedia_documents.json --unique --analyzer korean "
                  "--output wiki",
                  "index --passages corpus.jsonl --analyzer whitespace --output corpus "
                  "--model_name_or_path all-MiniLM-L6-v2 --graph" }
};
TOOL_PROGRAM(index, program)
