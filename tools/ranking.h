// Runs and relevance judgements as files, and the measures of a run as one JSON object.
#ifndef RANKING_H
#define RANKING_H
#include "tool.h"

static int qrels_order(const void *a, const void *b) {
    return strcmp(((const mrc_run_line *)a)->passage, ((const mrc_run_line *)b)->passage);
}
// The place of a passage among the judgements of a query, `judged` of them from `first` on; NULL:
// it was not judged.
TOOL_DEF const mrc_run_line *qrels_find(const mrc_run *q, size_t first, size_t judged,
                                        const char *passage) {
    const mrc_run_line key = { .passage = passage };
    return !judged ? NULL : bsearch(&key, q->list + first, judged, sizeof key, qrels_order);
}

// Adds one query whose hits are named by ids: both sides get numbers of their own.
TOOL_DEF void ranking_add(mrc_ctx *ctx, mrc_rank_result *sum, const mrc_run *q, const char *query,
                          const char *const *ids, const double *scores, size_t n) {
    size_t first, judged = mrc_run_of(q, query, &first);
    mrc_hit *hits = tool_allocate(n, sizeof *hits);
    mrc_judged *list = tool_allocate(judged, sizeof *list);
    for (size_t i = 0; i < judged; i++) {
        list[i] = (mrc_judged){ (uint32_t)i, q->list[first + i].score };
    }
    for (size_t i = 0; i < n; i++) {
        const mrc_run_line *found = qrels_find(q, first, judged, ids[i]);
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

// mrc_run_load() of a run that has hits.
TOOL_DEF mrc_run run_read(mrc_ctx *ctx, const char *path) {
    mrc_run r;
    tool_check(ctx, mrc_run_load(ctx, &r, path));
    if (!r.n) {
        tool_fail(TOOL_BAD_INPUT, "%s: is no run (found no hit, expected lines of query, Q0, "
                  "passage, rank, score and tag)", path);
    }
    return r;
}

//==============================================================================
// Measures
//==============================================================================
// How many queries have a relevant passage, whether a run knows them or not.
TOOL_DEF size_t qrels_queries(const mrc_run *q) {
    size_t n = 0;
    for (size_t i = 0, seen = 0; i < q->n; i++) {
        if (!i || strcmp(q->list[i].query, q->list[i - 1].query)) seen = 0;
        if (q->list[i].score >= 1 && !seen) n += seen = 1;
    }
    return n;
}

// Ends the program where the judgements at `path` know none of the queries that were added, which
// are those of the file `of`; says how many of theirs are missing.
TOOL_DEF void ranking_want(const mrc_rank_result *sum, const mrc_run *q, const char *path,
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
