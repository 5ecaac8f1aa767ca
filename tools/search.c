// search: the best passages of an index for each question of a file, as a TREC run, and how good
// they are where it is known which passages are right.
#include "engine.h"

typedef struct search_args {
    const char *index, *queries, *run, *qrels, *tag;
    int         method;
    size_t      top_k, repeat;
    double      k1, b, delta;
} search_args;

typedef struct search_run {
    search_args   a;
    mrc_ctx      *ctx;
    mrc_index    *ix;
    mrc_searcher *searcher;
    mrc_passages *questions;
    size_t        n;
    mrc_query    *queries;
    mrc_hit      *hits;
    size_t       *n_hits;
    mrc_text      out;
} search_run;

static void open_index(search_run *r) {
    mrc_search_config config = mrc_search_config_default((mrc_bm25)r->a.method);
    if (!isnan(r->a.k1)) config.k1 = r->a.k1;
    if (!isnan(r->a.b)) config.b = r->a.b;
    if (!isnan(r->a.delta)) config.delta = r->a.delta;
    config.threads = tool_pool_threads();
    tool_check(r->ctx, mrc_passages_load(r->ctx, &r->questions, r->a.queries, "question"));
    if (engine_a.kind != ENGINE_NONE) return;
    tool_check(r->ctx, mrc_index_open(r->ctx, &r->ix, r->a.index));
    tool_check(r->ctx, mrc_searcher_new(r->ctx, &r->searcher, r->ix, &config));
}

static char **passage_ids;              // of those that were read so far, by passage
static size_t n_passage_ids;

// A hit of the cluster: its passage's number here is its place among all hits.
static void engine_hit(void *user, size_t query, size_t rank, const char *id, double score) {
    search_run *r = user;
    size_t at = query * r->a.top_k + rank;
    r->hits[at] = (mrc_hit){ (uint32_t)at, score };
    passage_ids[at] = tool_allocate(strlen(id) + 1, 1);
    strcpy(passage_ids[at], id);
}

static void search_all(search_run *r) {
    if (engine_a.kind == ENGINE_NONE) {
        tool_check(r->ctx, mrc_search(r->searcher, r->queries, r->n, r->a.top_k, r->hits,
                                      r->n_hits));
        return;
    }
    for (size_t i = 0; i < n_passage_ids; i++) free(passage_ids[i]);
    memset(passage_ids, 0, n_passage_ids * sizeof *passage_ids);
#ifdef MRC_CURL
    engine_search(r->ctx, r->a.index, r->queries, r->n, r->a.top_k, r->n_hits, engine_hit, r);
#else
    (void)engine_hit;
    engine_missing();
#endif
}

static void answer_queries(search_run *r) {
    int local = engine_a.kind == ENGINE_NONE;
    r->n = mrc_passages_size(r->questions);
    r->queries = tool_allocate(r->n, sizeof *r->queries);
    r->n_hits = tool_allocate(r->n, sizeof *r->n_hits);
    if (local && r->a.top_k > mrc_index_size(r->ix)) r->a.top_k = mrc_index_size(r->ix);
    if (r->n && r->a.top_k > (local ? SIZE_MAX / sizeof *r->hits : UINT32_MAX) / r->n) {
        tool_fail(TOOL_NO_MEMORY, "no memory for %zu times %zu hits", r->n, r->a.top_k);
    }
    r->hits = tool_allocate(r->n * r->a.top_k, sizeof *r->hits);
    n_passage_ids = local ? mrc_index_size(r->ix) : r->n * r->a.top_k;
    passage_ids = tool_allocate(n_passage_ids, sizeof *passage_ids);
    for (size_t i = 0; i < r->n; i++) {
        const mrc_passage *q = mrc_passages_at(r->questions, i);
        r->queries[i] = (mrc_query){ q->text, q->text_bytes };
    }
    for (size_t i = 0; i < r->a.repeat; i++) {
        double begun = tool_seconds();
        search_all(r);
        double seconds = tool_seconds() - begun;
        if (i + 1 < r->a.repeat && i) continue;
        tool_note("%s: %zu queries in %.4f s, %.0f queries/s", r->a.queries, r->n, seconds,
                  (double)r->n / (seconds > 0 ? seconds : 1e-9));
    }
}

//==============================================================================
// The run
//==============================================================================
// The id of a passage, read once.
static const char *passage_id(search_run *r, uint32_t at, mrc_text *room) {
    mrc_passage x;
    if (passage_ids[at]) return passage_ids[at];
    tool_check(r->ctx, mrc_index_passage(r->ix, at, room, &x));
    passage_ids[at] = tool_allocate(strlen(x.id) + 1, 1);
    return strcpy(passage_ids[at], x.id);
}

static void write_run(search_run *r) {
    mrc_text room;
    mrc_text_init(&room, r->ctx);
    for (size_t q = 0; q < r->n; q++) {
        const char *id = mrc_passages_at(r->questions, q)->id;
        for (size_t i = 0; i < r->n_hits[q]; i++) {
            const mrc_hit *hit = &r->hits[q * r->a.top_k + i];
            mrc_text_printf(&r->out, "%s Q0 %s %zu %.17g %s\n", id,
                            passage_id(r, hit->passage, &room), i + 1, hit->score, r->a.tag);
        }
    }
    mrc_text_free(&room);
    if (r->out.failed) tool_fail(TOOL_NO_MEMORY, "%s", mrc_status_string(MRC_ERR_MEM));
    if (!r->a.run) tool_write_text(&r->out);
    else tool_check(r->ctx, mrc_file_write(r->ctx, r->a.run, r->out.data ? r->out.data : "",
                                           r->out.bytes));
}

//==============================================================================
// Against what is known to be right
//==============================================================================
typedef struct qrel { const char *query, *passage; } qrel;

static int by_query(const void *a, const void *b) {
    return strcmp(((const qrel *)a)->query, ((const qrel *)b)->query);
}

// "query passage relevance" (BEIR, with a header) or "query 0 passage relevance" (TREC) a line:
// those that are relevant, by query.  The text is cut up.
static qrel *qrels_read(search_run *r, char **text, size_t *n) {
    size_t bytes, capacity = 0, line = 0;
    qrel *list = NULL;
    *n = 0;
    tool_check(r->ctx, mrc_file_read(r->ctx, text, &bytes, r->a.qrels));
    for (char *at = *text, *next; at && *at; at = next) {
        char *field[5], *save = NULL;
        int fields = 0;
        next = strchr(at, '\n');
        if (next) *next++ = 0;
        line++;
        for (char *f = strtok_r(at, " \t\r", &save); f && fields < 5;
             f = strtok_r(NULL, " \t\r", &save)) field[fields++] = f;
        double relevance = 0;
        int known = fields >= 3 && fields <= 4 && tool__parse_real(field[fields - 1], &relevance);
        if (!fields || (line == 1 && !known && fields == 3)) continue;
        if (!known) {
            tool_fail(TOOL_BAD_INPUT, "%s:%zu: found %d fields (expected query, passage and a "
                      "number, or query, 0, passage and a number)", r->a.qrels, line, fields);
        }
        if (!(relevance > 0)) continue;
        if (*n == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            qrel *more = realloc(list, capacity * sizeof *list);
            if (!more) tool_fail(TOOL_NO_MEMORY, "%s: out of memory", r->a.qrels);
            list = more;
        }
        list[(*n)++] = (qrel){ field[0], field[fields - 2] };
    }
    if (*n) qsort(list, *n, sizeof *list, by_query);
    return list;
}

// The qrels of a query: how many, from *first on.
static size_t qrels_of(const qrel *list, size_t n, const char *query, size_t *first) {
    size_t low = 0, high = n, count = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(list[middle].query, query) < 0) low = middle + 1;
        else high = middle;
    }
    *first = low;
    while (low + count < n && !strcmp(list[low + count].query, query)) count++;
    return count;
}

// Means over the queries that have a right passage; what stands below top_k counts as not found.
static void print_quality(search_run *r) {
    static const size_t at[] = { 1, 5, 10, 20, 50, 100 };
    enum { CUTS = sizeof at / sizeof *at };
    double recall[CUTS] = { 0 }, mrr = 0;
    size_t n_qrels, judged = 0;
    char *text;
    qrel *list = qrels_read(r, &text, &n_qrels);
    for (size_t q = 0; q < r->n; q++) {
        size_t first, found = 0, cut = 0;
        size_t right = qrels_of(list, n_qrels, mrc_passages_at(r->questions, q)->id, &first);
        if (!right) continue;
        judged++;
        for (size_t i = 0; i <= r->a.top_k; i++) {
            for (; cut < CUTS && at[cut] == i; cut++) recall[cut] += (double)found / (double)right;
            if (i == r->a.top_k || i >= r->n_hits[q]) continue;
            const char *id = passage_ids[r->hits[q * r->a.top_k + i].passage];
            for (size_t k = 0; k < right; k++) {
                if (strcmp(list[first + k].passage, id) != 0) continue;
                if (!found++) mrr += 1 / (double)(i + 1);
                break;
            }
        }
    }
    if (!judged) {
        tool_fail(TOOL_BAD_INPUT, "%s: knows none of the queries of %s", r->a.qrels, r->a.queries);
    }
    r->out.bytes = 0;
    mrc_text_add(&r->out, "{", 1);
    tool_json_integer(&r->out, "queries", (int64_t)judged);
    for (size_t cut = 0; cut < CUTS && at[cut] <= r->a.top_k; cut++) {
        char key[32];
        snprintf(key, sizeof key, "recall@%zu", at[cut]);
        tool_json_number(&r->out, key, recall[cut] / (double)judged);
    }
    tool_json_number(&r->out, "mrr", mrr / (double)judged);
    mrc_text_add(&r->out, "}\n", 2);
    tool_write_text(&r->out);
    mrc_file_free(r->ctx, text);
    free(list);
}

static search_run the_run = { .a = { .k1 = NAN, .b = NAN, .delta = NAN } };

static int run(tool_program *p) {
    search_run *r = &the_run;
    (void)p;
    if (r->a.qrels && !r->a.run) {
        tool_fail(TOOL_USAGE, "--run is missing (found nothing, expected FILE: with --qrels the "
                  "figures go to stdout)");
    }
    if (r->a.run) tool_try_place(r->a.run, 0);
    r->ctx = tool_ctx_new(NULL, 0);
    mrc_text_init(&r->out, r->ctx);
    open_index(r);
    answer_queries(r);
    write_run(r);
    if (r->a.qrels) print_quality(r);
    for (size_t i = 0; i < n_passage_ids; i++) free(passage_ids[i]);
    free(passage_ids);
    mrc_text_free(&r->out);
    mrc_passages_free(r->questions);
    mrc_searcher_free(r->searcher);
    mrc_index_close(r->ix);
    mrc_ctx_free(r->ctx);
    free(r->queries);
    free(r->hits);
    free(r->n_hits);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "index", .string = &the_run.a.index, .value = "DIR", .required = 1,
      .help = "what index wrote; with --engine the alias" },
    { .name = "queries", .string = &the_run.a.queries, .value = "FILE", .required = 1,
      .help = "JSONL records of id and question, or lines of id and text between tabs" },
    { .name = "method", .choice = &the_run.a.method, .preset = "lucene",
      .choices = "okapi|l|l_rank_bm25|plus|lucene|robertson|atire|bm25s_l|bm25s_plus|"
                 "elasticsearch",
      .help = "okapi, l and plus are rank_bm25's (l_rank_bm25 with its release's extra "
              "factor), lucene to bm25s_plus bm25s's, elasticsearch Lucene's own" },
    { .name = "k1", .real = &the_run.a.k1, .min = 0, .max = 1000,
      .otherwise = "1.5; 1.2 for elasticsearch", .help = "how soon a term's count saturates" },
    { .name = "b", .real = &the_run.a.b, .min = 0, .max = 1, .otherwise = "0.75",
      .help = "how much long passages lose" },
    { .name = "delta", .real = &the_run.a.delta, .min = 0, .max = 1000,
      .otherwise = "0.5; 1 for plus", .help = "what the l and plus kinds add" },
    { .name = "top_k", .size = &the_run.a.top_k, .preset = "20", .min = 1, .max = 1e9,
      .help = "passages for a query" },
    { .name = "run", .string = &the_run.a.run, .value = "FILE", .otherwise = "stdout",
      .help = "where the run goes: query, Q0, passage, rank, score, tag a line" },
    { .name = "qrels", .string = &the_run.a.qrels, .value = "FILE",
      .help = "the right passages, TREC's or BEIR's; prints recall and MRR" },
    { .name = "tag", .string = &the_run.a.tag, .value = "TEXT", .preset = "mrc",
      .help = "the last field of the run" },
    { .name = "repeat", .size = &the_run.a.repeat, .preset = "1", .min = 1, .max = 1e9,
      .help = "answer all queries that often, to time it: reports the first and the last" },
    ENGINE_FLAGS,
    { .name = "tokenizer_name", .string = &engine_a.tokenizer, .value = "DIR",
      .group = "search cluster", .help = "of an index by word pieces: what it was made with" },
    { .name = "global_statistics", .flag = &engine_a.global_statistics, .preset = "true",
      .group = "search cluster",
      .help = "count terms over all parts of the index, not in each: the local ranking" },
    { 0 }
};

static tool_program program = {
    .name = "search", .group = "search", .run = run, .flags = flags,
    .purpose = "Finds the best passages of an index for each question of a file, by BM25.",
    .usage = "--index DIR --queries FILE [--method lucene] [--top_k 20] [--run FILE]",
    .examples = { "search --index wiki --queries questions.jsonl --method okapi --top_k 10",
                  "search --index wiki --queries dev.jsonl --method elasticsearch "
                  "--run dev.run --qrels qrels.tsv" }
};
TOOL_PROGRAM(search, program)
