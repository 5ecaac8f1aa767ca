// Questions with their passages in every format, and the runs and judgements that name them.
#include "../support/fuzz.h"

static int fuzz_accepts(mrc_ctx *ctx, const uint8_t *data, size_t bytes) {
    static const char corpus[] = "{\"_id\": \"d1\", \"text\": \"A\"}\n{\"_id\": \"d2\", \"text\": "
                                 "\"B\"}\n", queries[] = "{\"_id\": \"q1\", \"text\": \"one\"}\n";
    char passages[256], questions[256];
    mrc_pairs *p;
    int ok = 0;
    snprintf(passages, sizeof passages, "%s",
             fuzz_file_named("c.jsonl", (const uint8_t *)corpus, sizeof corpus - 1));
    snprintf(questions, sizeof questions, "%s",
             fuzz_file_named("q.jsonl", (const uint8_t *)queries, sizeof queries - 1));
    const char *path = fuzz_file_named("input", data, bytes);
    const mrc_pairs_desc descs[] = {
        { .path = path, .queries = questions, .passages = passages },
        { .path = questions, .passages = passages, .qrels = path, .negatives = path,
          .teacher = path } };
    for (int i = 0; i < 2; i++) {
        mrc_ctx_clear_error(ctx);
        mrc_status s = mrc_pairs_load(ctx, &p, &descs[i]);
        FUZZ_HOLDS((s == MRC_OK) == (p != NULL));
        for (size_t k = 0; p && k < mrc_pairs_size(p); k++) {
            const mrc_pair *x = mrc_pairs_at(p, k);
            FUZZ_HOLDS(x->n_positives > 0 && x->bytes <= bytes + 8);
            for (size_t j = 0; j < x->n_positives; j++) {
                FUZZ_HOLDS(x->positives[j] < mrc_pairs_passages(p));
            }
            for (size_t j = 0; j < x->n_negatives; j++) {
                FUZZ_HOLDS(x->negatives[j] < mrc_pairs_passages(p));
            }
        }
        if (p) {
            mrc_pair_plan plan;
            mrc_status planned = mrc_pairs_plan(ctx, &plan, p, 2, 2, 1, 0);
            FUZZ_HOLDS(planned == MRC_OK || (planned == MRC_ERR_MEM && fuzz_failed));
            if (planned == MRC_OK) {
                FUZZ_HOLDS(plan.begin[plan.n_batches] == mrc_pairs_size(p));
                mrc_pair_plan_free(&plan);
            }
        }
        FUZZ_HOLDS(p || *mrc_ctx_message(ctx));
        ok |= p != NULL;
        mrc_pairs_free(p);
    }
    return ok;
}

const char *const fuzz_seeds[] = {
    "[{\"question\": \"q\", \"positive_ctxs\": [{\"title\": \"t\", \"text\": \"p\"}], "
    "\"negative_ctxs\": [{\"text\": \"n\"}]}]",
    "{\"anchor\": \"a\", \"positive\": \"p\", \"negative\": \"n\"}\n{\"query\": \"a\", \"pos\": "
    "[\"p\"], \"neg\": [\"n\"], \"pos_scores\": [1], \"neg_scores\": [0.5]}\n",
    "{\"query\": \"a\", \"positive_passages\": [{\"title\": \"t\", \"text\": \"p\"}]}",
    "[\"q1\", \"d1\", \"d2\"]\n[\"q1\", [\"d1\", 2], [\"d2\", 1e0]]\n", "a\tp\tn\nb\tp\tm\n",
    "q1 Q0 d1 1 9.5 x\nq1 Q0 d2 2 -1e3 x\n", "query-id\tcorpus-id\tscore\nq1\td1\t1\n",
    "{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"id\": \"1\", \"question\": "
    "\"q\", \"answers\": []}]}]}]}", NULL };
