// fuse: several runs of the same questions into one.
#include "tool.h"
#include "ranking.h"

enum { MOST_RUNS = 8 };
static struct {
    tool_list   runs, weights;
    const char *run, *qrels, *tag, *tune;
    int         method, same, ties;
    size_t      depth, top_k;
    double      k;
} a;

typedef struct line { const char *query, *passage; double score; size_t run; } line;
static mrc_ctx *ctx;
static mrc_run files[MOST_RUNS];
static line *lines;
static size_t n_lines;
static const char **passages;           // in their order: by number where all ids are numbers
static size_t n_passages;
static uint32_t *passage_of;            // by line

//==============================================================================
// Reading
//==============================================================================
static int by_line(const void *x, const void *y) {
    const mrc_run_line *s = x, *t = y;
    return (s->line > t->line) - (s->line < t->line);
}

// The lines of a run behind those of the runs before, in the order of the file, which questions
// keep.
static void read_run(size_t run) {
    files[run] = run_read(ctx, a.runs.item[run]);
    line *more = realloc(lines, (n_lines + files[run].n) * sizeof *more);
    if (!more) tool_no_memory("the hits of %s", a.runs.item[run]);
    lines = more;
    qsort(files[run].list, files[run].n, sizeof *files[run].list, by_line);
    for (size_t i = 0; i < files[run].n; i++) {
        const mrc_run_line *x = &files[run].list[i];
        lines[n_lines++] = (line){ x->query, x->passage, x->score, run };
    }
}

static int all_numbers = 1;
static int by_id(const void *x, const void *y) {
    const char *s = *(const char *const *)x, *t = *(const char *const *)y;
    if (all_numbers) {
        size_t m = strlen(s), n = strlen(t);
        if (m != n) return m < n ? -1 : 1;
    }
    return strcmp(s, t);
}

// By question in the order of their first line, run, score falling, then line.
static const char **questions;
static size_t n_questions;
static size_t *question_of;
typedef struct named { const char *id; size_t at; } named;
static int by_name(const void *x, const void *y) {
    const named *s = x, *t = y;
    int order = strcmp(s->id, t->id);
    return order ? order : (s->at > t->at) - (s->at < t->at);
}

static void number_all(void) {
    named *names = tool_allocate(n_lines, sizeof *names);
    const char **ids = tool_allocate(n_lines, sizeof *ids);
    passage_of = tool_allocate(n_lines, sizeof *passage_of);
    question_of = tool_allocate(n_lines, sizeof *question_of);
    for (size_t i = 0; i < n_lines; i++) {
        ids[i] = lines[i].passage;
        const char *digits = ids[i] + strspn(ids[i], "0123456789");
        if (*digits || (ids[i][0] == '0' && ids[i][1])) all_numbers = 0;
    }
    qsort(ids, n_lines, sizeof *ids, by_id);
    for (size_t i = 0; i < n_lines; i++) {
        if (!n_passages || strcmp(ids[n_passages - 1], ids[i])) ids[n_passages++] = ids[i];
    }
    passages = ids;
    for (size_t i = 0; i < n_lines; i++) {
        const char **found = bsearch(&lines[i].passage, ids, n_passages, sizeof *ids, by_id);
        passage_of[i] = (uint32_t)(found - ids);
    }
    for (size_t i = 0; i < n_lines; i++) names[i] = (named){ lines[i].query, i };
    qsort(names, n_lines, sizeof *names, by_name);
    size_t *first = tool_allocate(n_lines, sizeof *first);      // of a line: its question's first
    for (size_t i = 0; i < n_lines; i++) {
        int fresh = !i || strcmp(names[i].id, names[i - 1].id);
        first[names[i].at] = fresh ? names[i].at : first[names[i - 1].at];
    }
    questions = tool_allocate(n_lines, sizeof *questions);
    for (size_t i = 0; i < n_lines; i++) {
        question_of[i] = first[i] == i ? n_questions : question_of[first[i]];
        if (first[i] == i) questions[n_questions++] = lines[i].query;
    }
    free(names);
    free(first);
}

//==============================================================================
// Fusing
//==============================================================================
// Each question's lists: hits of run r from begin[q * runs + r] on.
static mrc_hit *hits;
static size_t *begin;
static size_t *line_order;

static int by_place(const void *x, const void *y) {
    size_t i = *(const size_t *)x, j = *(const size_t *)y;
    if (question_of[i] != question_of[j]) return question_of[i] < question_of[j] ? -1 : 1;
    if (lines[i].run != lines[j].run) return lines[i].run < lines[j].run ? -1 : 1;
    if (lines[i].score > lines[j].score || lines[i].score < lines[j].score) {
        return lines[i].score > lines[j].score ? -1 : 1;
    }
    if (passage_of[i] != passage_of[j]) return passage_of[i] < passage_of[j] ? -1 : 1;
    return (i > j) - (i < j);
}

static void make_lists(void) {
    size_t k = a.runs.n, at = 0;
    line_order = tool_allocate(n_lines, sizeof *line_order);
    hits = tool_allocate(n_lines, sizeof *hits);
    begin = tool_allocate(n_questions * k + 1, sizeof *begin);
    for (size_t i = 0; i < n_lines; i++) line_order[i] = i;
    qsort(line_order, n_lines, sizeof *line_order, by_place);
    for (size_t i = 0; i < n_lines; i++) {
        size_t of = line_order[i];
        hits[i] = (mrc_hit){ passage_of[of], lines[of].score };
    }
    for (size_t q = 0; q < n_questions * k; q++) {
        begin[q] = at;
        while (at < n_lines && question_of[line_order[at]] * k + lines[line_order[at]].run == q) {
            at++;
        }
    }
    begin[n_questions * k] = at;
}

// Question q's fused list into room for all its lines; how many.
static size_t fuse(size_t q, const double *weights, double k, mrc_hit *out) {
    mrc_hits runs[MOST_RUNS];
    size_t n;
    for (size_t r = 0; r < a.runs.n; r++) {
        size_t from = begin[q * a.runs.n + r];
        runs[r] = (mrc_hits){ hits + from, begin[q * a.runs.n + r + 1] - from };
    }
    mrc_fuse_desc desc = { .method = (mrc_fusion)a.method, .k = k, .weights = weights,
                           .depth = a.depth };
    tool_check(ctx, mrc_fuse(ctx, &desc, runs, a.runs.n, out, &n));
    return n < a.top_k ? n : a.top_k;
}

static mrc_rank_result measure(const mrc_run *q, const double *weights, double k, mrc_hit *room) {
    mrc_rank_result sum = { 0 };
    const char **ids = tool_allocate(n_lines, sizeof *ids);
    named_hit *list = tool_allocate(n_lines, sizeof *list);
    for (size_t i = 0; i < n_questions; i++) {
        size_t n = fuse(i, weights, k, room);
        for (size_t j = 0; j < n; j++) {
            list[j] = (named_hit){ passages[room[j].passage], room[j].score };
        }
        ranking_order(list, n, a.ties, ids);
        ranking_add(ctx, &sum, q, questions[i], ids, NULL, n);
    }
    free(ids);
    free(list);
    return sum;
}

static double figure(const mrc_rank_result *sum, const char *name, size_t queries) {
    static const char *const names[] = { "recall@1", "recall@5", "recall@10", "recall@20",
                                         "recall@100", "mrr@10", "ndcg@10", "map@100" };
    const double values[] = { sum->recall[0], sum->recall[1], sum->recall[2], sum->recall[3],
                              sum->recall[4], sum->mrr_10, sum->ndcg_10, sum->map_100 };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(name, names[i])) return values[i] / (double)(queries ? queries : 1);
    }
    tool_fail(TOOL_USAGE, "--tune: no such measure (found %s, expected recall@1, recall@5, "
              "recall@10, recall@20, recall@100, mrr@10, ndcg@10 or map@100)", name);
}

// All weights on the simplex in steps of .05, for RRF each k of 1, 10 and 60: the best by the
// measure; of equal ones the most even.
static void tune(const mrc_run *q, double *weights, double *k, mrc_hit *room) {
    static const double ks[] = { 1, 10, 60 };
    size_t n = a.runs.n, queries = qrels_queries(q), steps[MOST_RUNS] = { 0 };
    double best = -1, evenness = 0, w[MOST_RUNS];
    if (n < 2 || n > 3) tool_fail(TOOL_USAGE, "--tune: takes two or three runs (found %zu)", n);
    for (int i = a.method == MRC_FUSE_RRF ? 0 : 2; i < 3; i++) {
        for (steps[0] = 0; steps[0] <= 20; steps[0]++) {
            size_t most = n > 2 ? 20 - steps[0] : 0;
            for (steps[1] = 0; steps[1] <= most; steps[1]++) {
                double even = 0;
                if (n > 2) steps[2] = 20 - steps[0] - steps[1];
                else steps[1] = 20 - steps[0];
                for (size_t r = 0; r < n; r++) {
                    w[r] = (double)steps[r] / 20;
                    even -= w[r] * w[r];
                }
                mrc_rank_result sum = measure(q, w, ks[i], room);
                if (best < 0) ranking_want(&sum, q, a.qrels, a.runs.item[0]);
                double value = figure(&sum, a.tune, queries);
                tool_print("%s", a.method == MRC_FUSE_RRF ? "k" : "weights");
                if (a.method == MRC_FUSE_RRF) tool_print(" %g weights", ks[i]);
                for (size_t r = 0; r < n; r++) tool_print(" %.2f", w[r]);
                tool_print(" %s %.6f\n", a.tune, value);
                if (value > best || (!(value < best) && even > evenness + 1e-12)) {
                    best = value;
                    evenness = even;
                    *k = ks[i];
                    memcpy(weights, w, n * sizeof *w);
                }
                if (n <= 2) break;
            }
        }
    }
    char text[64] = "";
    for (size_t r = 0, at = 0; r < n; r++) {
        at += (size_t)snprintf(text + at, sizeof text - at, " %.2f", weights[r]);
    }
    tool_note("best: weights%s, k %g, %s %.6f", text, *k, a.tune, best);
}

static void write_run(const double *weights, double k, mrc_hit *room) {
    mrc_text t;
    mrc_text_init(&t, ctx);
    for (size_t q = 0; q < n_questions; q++) {
        size_t n = fuse(q, weights, k, room);
        for (size_t i = 0; i < n; i++) {
            mrc_text_printf(&t, "%s Q0 %s %zu %.17g %s\n", questions[q],
                            passages[room[i].passage], i + 1, room[i].score, a.tag);
        }
    }
    tool_check_text(&t);
    tool_make_parent(ctx, a.run);
    tool_check(ctx, mrc_file_write(ctx, a.run, t.data ? t.data : "", t.bytes));
    mrc_text_free(&t);
}

static int run(tool_program *p) {
    double weights[MOST_RUNS], k = a.k;
    mrc_run q = { 0 };
    (void)p;
    if (!a.runs.n || a.runs.n > MOST_RUNS) {
        tool_fail(TOOL_USAGE, "--runs: found %zu (expected 1 to %d files)", a.runs.n, MOST_RUNS);
    }
    if (a.weights.n && a.weights.n != a.runs.n) {
        tool_fail(TOOL_USAGE, "--weights: found %zu (expected one for each of the %zu runs)",
                  a.weights.n, a.runs.n);
    }
    if (a.tune && !a.qrels) {
        tool_fail(TOOL_USAGE, "--tune: needs to know what is right (expected --qrels FILE too)");
    }
    if (!a.run && !a.qrels) {
        tool_fail(TOOL_USAGE, "--run is missing (expected the file that the run goes to)");
    }
    run_want_field(TOOL_USAGE, "--tag", "text", a.tag);
    if (a.run) tool_try_place(a.run, 0);
    ctx = tool_ctx_new(NULL, 0);
    for (size_t r = 0; r < a.runs.n; r++) {
        weights[r] = 1;
        if (a.weights.n && !tool__parse_real(a.weights.item[r], &weights[r])) {
            tool_fail(TOOL_USAGE, "--weights: is no number (found %s)", a.weights.item[r]);
        }
        read_run(r);
    }
    if (!n_lines) tool_fail(TOOL_BAD_INPUT, "%s: has no lines", a.runs.item[0]);
    number_all();
    make_lists();
    mrc_hit *room = tool_allocate(n_lines, sizeof *room);
    if (a.qrels) tool_check(ctx, mrc_qrels_load(ctx, &q, a.qrels));
    if (a.tune) tune(&q, weights, &k, room);
    if (a.run) write_run(weights, k, room);
    if (a.qrels && (!a.tune || a.same)) {
        mrc_rank_result sum = measure(&q, weights, k, room);
        ranking_want(&sum, &q, a.qrels, a.runs.item[0]);
        ranking_print(ctx, &sum, qrels_queries(&q));
    } else if (a.tune) {
        tool_note("no figures: these weights were chosen on %s (--same gives them all the same)",
                  a.qrels);
    }
    mrc_run_free(&q);
    void *parts[] = { room, hits, begin, line_order, passages, questions, passage_of, question_of,
                      lines };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) free(parts[i]);
    for (size_t r = 0; r < a.runs.n; r++) mrc_run_free(&files[r]);
    mrc_ctx_free(ctx);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "runs", .list = &a.runs, .value = "RUN ..", .required = 1,
      .help = "TREC runs of the same questions; a passage's order is by score" },
    { .name = "run", .string = &a.run, .value = "FILE",
      .help = "the fused run; it may be left out where --qrels is there" },
    { .name = "method", .choice = &a.method, .choices = "rrf|minmax|zscore|raw",
      .preset = "zscore", .help = "reciprocal ranks; scores between a list's least and most; in "
                                  "its standard deviations; as they are" },
    { .name = "k", .real = &a.k, .preset = "60", .min = 0, .max = 1e6, .above_min = 1,
      .help = "of rrf" },
    { .name = "weights", .list = &a.weights, .value = "W ..", .otherwise = "1 each",
      .help = "of the runs" },
    { .name = "depth", .size = &a.depth, .preset = "100", .min = 1, .max = 1e9,
      .help = "how far each run is read" },
    { .name = "top_k", .size = &a.top_k, .preset = "1000", .min = 1, .max = 1e9,
      .help = "passages of a question that are written" },
    { .name = "qrels", .string = &a.qrels, .value = "FILE",
      .help = "the right passages, TREC's or BEIR's; prints recall, MRR, nDCG and MAP" },
    { .name = "tune", .string = &a.tune, .value = "MEASURE",
      .help = "choose the weights that are best by it on --qrels, and print the table" },
    { .name = "same", .flag = &a.same,
      .help = "print the figures though they are of the questions that weights were chosen on" },
    RANKING_TIES_FLAG(a.ties),
    { .name = "tag", .string = &a.tag, .value = "TEXT", .preset = "fused",
      .help = "the last field of the run" },
    { 0 }
};

static tool_program program = {
    .name = "fuse", .group = "search", .run = run, .flags = flags,
    .purpose = "Fuses several runs of the same questions into one, and chooses weights for it; of "
               "one run alone it prints how good it is.",
    .usage = "--runs A B .. --run OUT [--method zscore] [--weights W ..] [--qrels FILE]",
    .examples = { "fuse --runs bm25.run dense.run --method zscore --run fused.run --qrels "
                  "qrels.tsv",
                  "fuse --runs bm25.run --method raw --qrels qrels.tsv --ties trec" }
};
TOOL_PROGRAM(fuse, program)
