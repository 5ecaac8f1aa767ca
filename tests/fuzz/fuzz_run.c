// Runs and relevance judgements (qrels): what is kept is in order, once and within bounds; a run
// that is written again is the same; fusion and measures of what was read are numbers.
#include "../support/fuzz.h"

enum { MOST = 4096 };
static mrc_hit      fuzz_hits[MOST], fuzz_fused[2 * MOST];
static mrc_judged   fuzz_judged[MOST];

static void fuzz_field(const char *s) {
    FUZZ_HOLDS(*s && !s[strcspn(s, " \t\r\n\v\f")]);
    FUZZ_HOLDS(mrc_utf8_valid(s, strlen(s)) == strlen(s));
}

static void fuzz_check(const mrc_run *r, int run) {
    for (size_t i = 0; i < r->n; i++) {
        const mrc_run_line *x = &r->list[i], *before = x - 1;
        fuzz_field(x->query);
        fuzz_field(x->passage);
        FUZZ_HOLDS(x->line && fabs(x->score) <= (run ? INFINITY : 1e9));
        FUZZ_HOLDS(isinf(x->score) || fabs(x->score) <= 1e100);
        if (!i) continue;
        int order = strcmp(before->query, x->query);
        FUZZ_HOLDS(order <= 0);
        if (order) continue;
        if (!run) FUZZ_HOLDS(strcmp(before->passage, x->passage) < 0);
        if (run) {
            FUZZ_HOLDS(before->score > x->score
                       || (before->score >= x->score && before->line < x->line));
            for (size_t k = 0; k < i && i < 64; k++) {
                FUZZ_HOLDS(strcmp(r->list[k].query, x->query)
                           || strcmp(r->list[k].passage, x->passage));
            }
        }
    }
}

// One query's hits by numbers: a passage's is its place among the judged, or behind them.
static size_t fuzz_numbers(const mrc_run *run, const mrc_run *qrels, size_t first, size_t n) {
    size_t at, judged = mrc_run_of(qrels, run->list[first].query, &at);
    for (size_t i = 0; i < n; i++) {
        fuzz_hits[i] = (mrc_hit){ (uint32_t)(judged + i), run->list[first + i].score };
        for (size_t k = 0; k < judged; k++) {
            if (strcmp(run->list[first + i].passage, qrels->list[at + k].passage)) continue;
            fuzz_hits[i].passage = (uint32_t)k;
        }
    }
    for (size_t k = 0; k < judged; k++) {
        fuzz_judged[k] = (mrc_judged){ (uint32_t)k, qrels->list[at + k].score };
    }
    return judged;
}

static void fuzz_measure(mrc_ctx *ctx, const mrc_run *run, const mrc_run *qrels) {
    mrc_rank_result sum = { 0 };
    if (run->n > MOST || qrels->n > MOST) return;
    for (size_t first = 0, n; first < run->n; first += n) {
        size_t at, fused;
        n = mrc_run_of(run, run->list[first].query, &at);
        FUZZ_HOLDS(n && at == first);
        size_t judged = fuzz_numbers(run, qrels, first, n);
        FUZZ_HOLDS(mrc_rank_add(ctx, &sum, fuzz_hits, n, fuzz_judged, judged) == MRC_OK);
        for (int method = 0; method <= MRC_FUSE_RAW; method++) {
            const mrc_hits runs[2] = { { fuzz_hits, n }, { fuzz_hits, n / 2 } };
            mrc_fuse_desc desc = { .method = (mrc_fusion)method };
            FUZZ_HOLDS(mrc_fuse(ctx, &desc, runs, 2, fuzz_fused, &fused) == MRC_OK && fused == n);
            for (size_t i = 0; i < fused; i++) FUZZ_HOLDS(isfinite(fuzz_fused[i].score));
        }
    }
    double most = (double)sum.queries + 1e-6;
    for (int i = 0; i < MRC_RANK_CUTS; i++) {
        FUZZ_HOLDS(sum.recall[i] <= most && sum.success[i] <= most);
    }
    FUZZ_HOLDS(sum.ndcg_10 >= 0 && sum.ndcg_10 <= most && sum.map_100 <= most);
    FUZZ_HOLDS(sum.mrr_10 <= most && sum.reciprocal_rank <= most && sum.queries <= run->n);
}

static void fuzz_again(mrc_ctx *ctx, const mrc_run *run) {
    mrc_text t;
    mrc_run twin;
    mrc_text_init(&t, ctx);
    for (size_t i = 0; i < run->n; i++) {
        mrc_text_printf(&t, "%s Q0 %s %zu %.17g x\n", run->list[i].query, run->list[i].passage, i,
                        run->list[i].score);
    }
    FUZZ_HOLDS(t.data && mrc_run_load(ctx, &twin, fuzz_file_named("twin", (uint8_t *)t.data,
                                                                  t.bytes)) == MRC_OK);
    FUZZ_HOLDS(twin.n == run->n);
    for (size_t i = 0; i < run->n; i++) {
        FUZZ_HOLDS(!strcmp(twin.list[i].query, run->list[i].query)
                   && !strcmp(twin.list[i].passage, run->list[i].passage)
                   && twin.list[i].score >= run->list[i].score
                   && twin.list[i].score <= run->list[i].score);
    }
    mrc_run_free(&twin);
    mrc_text_free(&t);
}

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    mrc_run run, qrels;
    const char *path = fuzz_file(data, bytes);
    mrc_status r = mrc_run_load(ctx, &run, path);
    FUZZ_HOLDS(r == MRC_OK || *mrc_ctx_message(ctx));
    mrc_ctx_clear_error(ctx);
    mrc_status q = mrc_qrels_load(ctx, &qrels, path);
    if (r == MRC_ERR_MEM) FUZZ_HOLDS(fuzz_failed);
    else fuzz_status(r);                        // memory is whole again
    if (q == MRC_ERR_MEM) FUZZ_HOLDS(fuzz_failed);
    else fuzz_status(q);
    FUZZ_HOLDS(r == MRC_OK || (!run.n && !run.text && !run.list));
    FUZZ_HOLDS(q == MRC_OK || (!qrels.n && !qrels.text && !qrels.list && *mrc_ctx_message(ctx)));
    fuzz_fail_at = 0;
    fuzz_check(&run, 1);
    fuzz_check(&qrels, 0);
    fuzz_measure(ctx, &run, &qrels);
    if (run.n) fuzz_again(ctx, &run);
    mrc_run_free(&run);
    mrc_run_free(&qrels);
    return r == MRC_OK || q == MRC_OK;
}

const char *const fuzz_seeds[] = {
    "q1 Q0 d1 1 9.5 x\nq1 Q0 d2 2 -1e3 x\nq2 Q0 d1 1 0.25 x\n",
    "q1\tQ0\td1\t1\t9\tx\r\nq1\tQ0\td2\t2\t9\tx\r\n\r\nq1\tQ0\td1\t3\t8\tx\r\n",
    "q1 Q0 d1 1 inf x\nq1 Q0 d2 2 1e100 x\nq1 Q0 d3 3 -1e100\nq1 Q0 d4 4 -inf x",
    "1\t7\t1\n1\t9\t2\n2\t7\t1\n", "q1 0 d1 1\nq1 0 d2 0\nq2 0 d1 2\nq1 0 d1 3\n",
    "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t1e9\nq2\td1\t-1\nq2\td2\t.5\n",
    "\xef\xbb\xbf\xef\xbb\xbf Q0 d 0 -2\n", "\xef\xbb\xbfq\xed\x95\x9c 0 d\xed\x95\x9c +2\n", NULL
};
