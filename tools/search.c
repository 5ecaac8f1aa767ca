// search: the best passages of an index for each question of a file, as a TREC run, and how good
// they are where it is known which passages are right.
#include "engine_search.h"
#include "ranking.h"
#include "texts.h"

static retrieval_options o = { .k1 = NAN, .b = NAN, .delta = NAN };
static struct {
    const char *queries, *run, *qrels, *tag;
    size_t      top_k, repeat;
    int         ignore_identical, ties;
} a;

typedef struct search_run {
    mrc_ctx    *ctx;
    retrieval   r;
    cluster     cluster;                // of --engine
    texts       questions;
    stage_hit  *hits;                   // top_k of each question
    size_t     *n_hits;
    char      **passage_ids;            // of those that were read so far, by passage
    size_t      n_ids;
    mrc_text    out;
} search_run;

// The id of a passage, read once.
static const char *passage_id(search_run *s, uint32_t at) {
    mrc_passage x;
    if (s->passage_ids[at]) return s->passage_ids[at];
    tool_check(s->ctx, retrieval_passage(&s->r, at, &s->r.room, &x));
    s->passage_ids[at] = tool_allocate(strlen(x.id) + 1, 1);
    return strcpy(s->passage_ids[at], x.id);
}

// All queries.  Those of a cluster in blocks, as it says the ids with the hits and then forgets.
static void search_all(search_run *s) {
    size_t n = s->questions.n, block = o.source ? 64 : n, some;
    for (size_t at = 0; at < n; at += some) {
        some = n - at < block ? n - at : block;
        tool_check(s->ctx, retrieval_run(&s->r, s->questions.list + at, some, a.top_k,
                                         s->hits + at * a.top_k, s->n_hits + at));
        for (size_t q = at; q < at + some && o.source; q++) {
            for (size_t i = 0; i < s->n_hits[q]; i++) {
                (void)passage_id(s, s->hits[q * a.top_k + i].passage);
            }
        }
    }
}

static void answer_queries(search_run *s) {
    size_t n = s->questions.n, passages = retrieval_size(&s->r);
    if (a.top_k > passages) a.top_k = passages;
    if (n && a.top_k > SIZE_MAX / sizeof *s->hits / n) {
        tool_no_memory("%zu times %zu hits", n, a.top_k);
    }
    s->n_hits = tool_allocate(n, sizeof *s->n_hits);
    s->hits = tool_allocate(n * a.top_k, sizeof *s->hits);
    s->n_ids = passages;
    s->passage_ids = tool_allocate(s->n_ids, sizeof *s->passage_ids);
    for (size_t i = 0; i < a.repeat; i++) {
        double begun = tool_seconds();
        search_all(s);
        double seconds = tool_seconds() - begun;
        if (i + 1 < a.repeat && i) continue;
        tool_note("%s: %zu queries in %.4f s, %.0f queries/s", a.queries, n, seconds,
                  (double)n / (seconds > 0 ? seconds : 1e-9));
    }
}

//==============================================================================
// The run
//==============================================================================
// BEIR leaves out a hit that is the query itself.
static void drop_identical(search_run *s) {
    for (size_t q = 0; q < s->questions.n; q++) {
        stage_hit *hits = s->hits + q * a.top_k;
        size_t kept = 0;
        for (size_t i = 0; i < s->n_hits[q]; i++) {
            if (!strcmp(passage_id(s, hits[i].passage), s->questions.list[q].id)) continue;
            hits[kept++] = hits[i];
        }
        s->n_hits[q] = kept;
    }
}

// What a run and judgements call a question: its id, else its number.
static const char *question_id(const search_run *s, size_t q, char digits[24]) {
    const char *id = s->questions.list[q].id;
    return *id ? id : (snprintf(digits, 24, "%zu", q), digits);
}

static void write_run(search_run *s) {
    for (size_t q = 0; q < s->questions.n; q++) {
        char digits[24];
        const char *id = question_id(s, q, digits);
        run_want_field(TOOL_BAD_INPUT, a.queries, "id", id);
        for (size_t i = 0; i < s->n_hits[q]; i++) {
            const stage_hit *hit = &s->hits[q * a.top_k + i];
            const char *passage = passage_id(s, hit->passage);
            run_want_field(TOOL_BAD_INPUT, o.index, "id", passage);
            mrc_text_printf(&s->out, "%s Q0 %s %zu %.17g %s\n", id, passage, i + 1, hit->score,
                            a.tag);
        }
    }
    tool_check_text(&s->out);
    if (!a.run) tool_write_text(&s->out);
    else {
        tool_make_parent(s->ctx, a.run);
        tool_check(s->ctx, mrc_file_write(s->ctx, a.run, s->out.data ? s->out.data : "",
                                          s->out.bytes));
    }
}

//==============================================================================
// Against what is known to be right
//==============================================================================
static void print_quality(search_run *s, const mrc_run *q) {
    mrc_rank_result sum = { 0 };
    named_hit *list = tool_allocate(a.top_k, sizeof *list);
    const char **ids = tool_allocate(a.top_k, sizeof *ids);
    for (size_t i = 0; i < s->questions.n; i++) {
        size_t n = s->n_hits[i];
        for (size_t k = 0; k < n; k++) {
            const stage_hit *hit = &s->hits[i * a.top_k + k];
            list[k] = (named_hit){ passage_id(s, hit->passage), hit->score };
        }
        ranking_order(list, n, a.ties, ids);
        char digits[24];
        ranking_add(s->ctx, &sum, q, question_id(s, i, digits), ids, NULL, n);
    }
    ranking_want(&sum, q, a.qrels, a.queries);
    ranking_print(s->ctx, &sum, qrels_queries(q));
    free(list);
    free(ids);
}

static int run(tool_program *p) {
    search_run s = { 0 };
    mrc_run known = { 0 };
    (void)p;
    if (a.run) tool_try_place(a.run, 0);
    run_want_field(TOOL_USAGE, "--tag", "text", a.tag);
    const int words = stages_are_words(&o);
    mrc_backend *be = words ? NULL : tool_backend_new();
    s.ctx = tool_ctx_new(be, 0);
    mrc_text_init(&s.out, s.ctx);
    if (a.qrels) tool_check(s.ctx, mrc_qrels_load(s.ctx, &known, a.qrels));
    if (o.reranker) tool_want_model(o.reranker);
    o.threads = tool_pool_threads();
    cluster_open(&s.cluster, s.ctx, &o, a.top_k, 0, 0);
    tool_check(s.ctx, retrieval_open(s.ctx, &s.r, &o));
    s.questions = texts_read(s.ctx, a.queries, MRC_SIDE_QUERY);
    const char *twin = NULL;
    if (texts_twins(texts_of_list, s.questions.list, s.questions.n, &twin)) {
        tool_fail(TOOL_BAD_INPUT, "%s: two questions have the id %.100s, which a run could not "
                  "tell apart", a.queries, twin);
    }
    answer_queries(&s);
    if (a.ignore_identical) drop_identical(&s);
    write_run(&s);
    if (a.qrels) print_quality(&s, &known);
    mrc_run_free(&known);
    for (size_t i = 0; i < s.n_ids; i++) free(s.passage_ids[i]);
    free(s.passage_ids);
    free(s.hits);
    free(s.n_hits);
    mrc_text_free(&s.out);
    texts_free(&s.questions);
    retrieval_close(&s.r);
    cluster_close(&s.cluster);
    mrc_ctx_free(s.ctx);
    if (be) mrc_backend_free(be);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "index", .string = &o.index, .value = "DIR", .required = 1,
      .help = "what index wrote; with --engine the alias" },
    { .name = "queries", .string = &a.queries, .value = "FILE", .required = 1,
      .help = "JSONL records of id and question, or lines of id and text between tabs" },
    RETRIEVAL_FLAGS(o),
    { .name = "method", .choice = &o.method, .preset = "lucene", .choices = READER_METHODS,
      .help = "okapi, l and plus are rank_bm25's (l_rank_bm25 with its release's extra "
              "factor), lucene to bm25s_plus bm25s's, elasticsearch Lucene's own" },
    { .name = "k1", .real = &o.k1, .min = 0, .max = 1000,
      .otherwise = "1.5; 1.2 for elasticsearch", .help = "how soon a term's count saturates" },
    { .name = "b", .real = &o.b, .min = 0, .max = 1, .otherwise = "0.75",
      .help = "how much long passages lose" },
    { .name = "delta", .real = &o.delta, .min = 0, .max = 1000,
      .otherwise = "0.5; 1 for plus", .help = "what the l and plus kinds add" },
    { .name = "top_k", .size = &a.top_k, .preset = "20", .min = 1, .max = 1e9,
      .help = "passages for a query" },
    { .name = "run", .string = &a.run, .value = "FILE", .otherwise = "stdout",
      .help = "where the run goes: query, Q0, passage, rank, score, tag a line" },
    { .name = "qrels", .string = &a.qrels, .value = "FILE",
      .help = "the right passages, TREC's or BEIR's; prints recall, MRR, nDCG and MAP" },
    RANKING_TIES_FLAG(a.ties),
    { .name = "ignore_identical_ids", .flag = &a.ignore_identical,
      .help = "leave out hits whose id is the query's, as BEIR does" },
    { .name = "tag", .string = &a.tag, .value = "TEXT", .preset = "mrc",
      .help = "the last field of the run" },
    { .name = "repeat", .size = &a.repeat, .preset = "1", .min = 1, .max = 1e9,
      .help = "answer all queries that often, to time it: reports the first and the last" },
    ENGINE_FLAGS("300"),
    ENGINE_QUERY_FLAGS,
    { 0 }
};

static tool_program program = {
    .name = "search", .group = "search", .run = run, .flags = flags,
    .purpose = "Finds the best passages of an index for each question of a file: by words, "
               "vectors, token rows or all of them, with a reranker on top.",
    .usage = "--index DIR --queries FILE [--retriever hybrid] [--reranker DIR] [--run FILE]",
    .examples = { "search --index wiki --queries questions.jsonl --method okapi --top_k 10",
                  "search --index wiki --queries dev.jsonl --retriever hybrid --reranker "
                  "my-cross-encoder --run dev.run --qrels qrels.tsv" }
};
TOOL_PROGRAM(search, program)
