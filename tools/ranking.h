// Runs and relevance judgements as files, and the measures of a run as one JSON object.
#ifndef RANKING_H
#define RANKING_H
#include "tool.h"

// Judgements by query, then passage.
typedef struct qrel { const char *query, *passage; double relevance; } qrel;
typedef struct qrels { qrel *list; size_t n; char *text; } qrels;

static int qrels_order(const void *a, const void *b) {
    const qrel *x = a, *y = b;
    int order = strcmp(x->query, y->query);
    return order ? order : strcmp(x->passage, y->passage);
}

// "query passage relevance" (BEIR, with a header) or "query 0 passage relevance" (TREC) a line.  Of
// two lines for one passage the later counts.
TOOL_DEF qrels qrels_read(mrc_ctx *ctx, const char *path) {
    qrels q = { NULL, 0, NULL };
    size_t capacity = 0, line = 0, kept = 0;
    q.text = tool_read_text(ctx, path);
    for (char *at = q.text, *next; at && *at; at = next) {
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
                      "number, or query, 0, passage and a number)", path, line, fields);
        }
        q.list = tool_grow(q.list, q.n, &capacity, sizeof *q.list);
        q.list[q.n++] = (qrel){ field[0], field[fields - 2], relevance };
    }
    if (q.n) qsort(q.list, q.n, sizeof *q.list, qrels_order);
    for (size_t i = 0; i < q.n; i++) {
        if (i + 1 < q.n && !qrels_order(&q.list[i], &q.list[i + 1])) continue;
        q.list[kept++] = q.list[i];
    }
    q.n = kept;
    return q;
}

TOOL_DEF void qrels_free(mrc_ctx *ctx, qrels *q) {
    if (q->text) mrc_file_free(ctx, q->text);
    free(q->list);
}

// The judgements of a query: how many, from *first on.
TOOL_DEF size_t qrels_of(const qrels *q, const char *query, size_t *first) {
    size_t low = 0, high = q->n, count = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(q->list[middle].query, query) < 0) low = middle + 1;
        else high = middle;
    }
    *first = low;
    while (low + count < q->n && !strcmp(q->list[low + count].query, query)) count++;
    return count;
}

// Adds one query whose hits are named by ids: both sides get numbers of their own.
TOOL_DEF void ranking_add(mrc_ctx *ctx, mrc_rank_result *sum, const qrels *q, const char *query,
                          const char *const *ids, const double *scores, size_t n) {
    size_t first, judged = qrels_of(q, query, &first);
    mrc_hit *hits = tool_allocate(n, sizeof *hits);
    mrc_judged *list = tool_allocate(judged, sizeof *list);
    for (size_t i = 0; i < judged; i++) {
        list[i] = (mrc_judged){ (uint32_t)i, q->list[first + i].relevance };
    }
    for (size_t i = 0; i < n; i++) {
        const qrel key = { query, ids[i], 0 };
        const qrel *found = !judged ? NULL : bsearch(&key, q->list + first, judged, sizeof key,
                                                     qrels_order);
        hits[i] = (mrc_hit){ found ? (uint32_t)(found - (q->list + first))
                                   : (uint32_t)(judged + i), scores ? scores[i] : 0 };
    }
    tool_check(ctx, mrc_rank_add(ctx, sum, hits, n, list, judged));
    free(hits);
    free(list);
}

// A hit by name, and the ids of hits in the order that figures take: as they stand, or trec_eval's.
// That has equal scores by id as bytes, falling, and scores as 32-bit floats.
typedef struct named_hit { const char *id; double score; } named_hit;

static int ranking_trec_order(const void *a, const void *b) {
    const named_hit *x = a, *y = b;
    float s = (float)x->score, t = (float)y->score;
    if (s > t || s < t) return s > t ? -1 : 1;
    return strcmp(y->id, x->id);
}

TOOL_DEF void ranking_order(named_hit *list, size_t n, int trec, const char **ids) {
    if (trec && n) qsort(list, n, sizeof *list, ranking_trec_order);
    for (size_t i = 0; i < n; i++) ids[i] = list[i].id;
}
#define RANKING_TIES_FLAG(value)                                                                  \
    { .name = "ties", .choice = &(value), .choices = "passage|trec", .preset = "passage",         \
      .help = "the order of equal scores in the figures: that of the passages, or trec_eval's" }

//==============================================================================
// Runs
//==============================================================================
// Ends the program where a text could not be read back from a run, whose fields stand between
// blanks.
TOOL_DEF void run_want_field(tool_exit code, const char *where, const char *what,
                             const char *text) {
    if (*text && !text[strcspn(text, " \t\r\n\v\f")]) return;
    tool_fail(code, "%s: no %s for a run, whose fields stand between blanks (found \"%s\", "
              "expected one without, not empty)", where, what, text);
}

typedef struct run_line { const char *query, *passage; double score; size_t number; } run_line;
typedef struct run_file { run_line *list; size_t n; char *text; } run_file;

// The hits of a TREC run (query, Q0, passage, rank, score, tag; the rank is not trusted) or of MS
// MARCO's three columns, in the file's order.  Ids point into the text that is kept.
TOOL_DEF run_file run_read(mrc_ctx *ctx, const char *path) {
    run_file r = { NULL, 0, NULL };
    size_t number = 0, capacity = 0;
    r.text = tool_read_text(ctx, path);
    for (char *at = r.text, *next; at && *at; at = next) {
        char *field[7], *save = NULL;
        size_t n = 0;
        double score = 0;
        next = strchr(at, '\n');
        if (next) *next++ = 0;
        number++;
        for (char *f = strtok_r(at, " \t\r", &save); f && n < 7;
             f = strtok_r(NULL, " \t\r", &save)) field[n++] = f;
        if (!n) continue;
        int ok = (n == 6 || n == 5 || n == 3)
              && tool__parse_real(field[n == 3 ? 2 : 4], &score);
        if (!ok) {
            tool_fail(TOOL_BAD_INPUT, "%s:%zu: found %zu fields, or no score (expected query, Q0, "
                      "passage, rank, score and tag)", path, number, n);
        }
        if (r.n == capacity) {
            capacity = capacity ? 2 * capacity : 4096;
            run_line *more = realloc(r.list, capacity * sizeof *more);
            if (!more) tool_no_memory("the hits of %s", path);
            r.list = more;
        }
        // MS MARCO's three columns end with a rank.
        r.list[r.n++] = (run_line){ field[0], field[n == 3 ? 1 : 2], n == 3 ? -score : score,
                                    number };
    }
    if (!r.n) {
        tool_fail(TOOL_BAD_INPUT, "%s: is no run (found no hit, expected lines of query, Q0, "
                  "passage, rank, score and tag)", path);
    }
    return r;
}

TOOL_DEF void run_free(mrc_ctx *ctx, run_file *r) {
    if (r->text) mrc_file_free(ctx, r->text);
    free(r->list);
}

//==============================================================================
// Measures
//==============================================================================
// How many queries have a relevant passage, whether a run knows them or not.
TOOL_DEF size_t qrels_queries(const qrels *q) {
    size_t n = 0;
    for (size_t i = 0, seen = 0; i < q->n; i++) {
        if (!i || strcmp(q->list[i].query, q->list[i - 1].query)) seen = 0;
        if (q->list[i].relevance >= 1 && !seen) n += seen = 1;
    }
    return n;
}

// Ends the program where the judgements at `path` know none of the queries that were added, which
// are those of the file `of`; says how many of theirs are missing.
TOOL_DEF void ranking_want(const mrc_rank_result *sum, const qrels *q, const char *path,
                           const char *of) {
    size_t queries = qrels_queries(q);
    if (!sum->queries) tool_fail(TOOL_BAD_INPUT, "%s: knows none of the queries of %s", path, of);
    if (sum->queries == queries) return;
    tool_note("%s: %zu of its %zu queries are not in %s: they count 0", path,
              queries - sum->queries, queries, of);
}

// One JSON object; queries that have relevant passages and no hits count 0.
TOOL_DEF void ranking_print(mrc_ctx *ctx, const mrc_rank_result *sum, size_t queries) {
    static const int cuts[MRC_RANK_CUTS] = { 1, 5, 10, 20, 100 };
    double n = queries ? (double)queries : 1;
    mrc_text t;
    mrc_text_init(&t, ctx);
    mrc_text_add(&t, "{", 1);
    tool_json_integer(&t, "queries", (int64_t)queries);
    for (int i = 0; i < MRC_RANK_CUTS; i++) {
        char key[32];
        snprintf(key, sizeof key, "recall@%d", cuts[i]);
        tool_json_number(&t, key, sum->recall[i] / n);
    }
    tool_json_number(&t, "mrr@10", sum->mrr_10 / n);
    tool_json_number(&t, "ndcg@10", sum->ndcg_10 / n);
    tool_json_number(&t, "map@100", sum->map_100 / n);
    mrc_text_add(&t, "}\n", 2);
    tool_write_text(&t);
    mrc_text_free(&t);
}
#endif
