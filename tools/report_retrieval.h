// The part of report about runs of search: how many right passages each finds how soon, which run
// is better on how many questions, and the questions that tell them apart.
// Included by report.c, whose page, strokes and axes it draws with.

enum { MAX_FOUND = 16, DEEPEST = 100 };

typedef struct found_run {
    mrc_run          file;
    mrc_rank_result  sum;
    size_t          *rank;              // of each question: the first right passage; 0: not found
    double           curve[DEEPEST];    // recall at 1, 2, .. summed over the questions
} found_run;

static struct {
    found_run    run[MAX_FOUND];
    mrc_run      right;
    const char **question;              // ids of those with a right passage
    size_t       n, depth;
    texts        asked;                 // of --queries
} found;

static void found_questions(void) {
    const mrc_run *q = &found.right;
    found.question = tool_allocate(q->n, sizeof *found.question);
    for (size_t i = 0; i < q->n; i++) {
        const char *id = q->list[i].query;
        if (q->list[i].score < 1) continue;
        if (!found.n || strcmp(found.question[found.n - 1], id)) found.question[found.n++] = id;
    }
    if (!found.n) {
        tool_fail(TOOL_BAD_INPUT, "%s: judges no passage as right (expected a relevance of 1 or "
                  "more)", args.qrels);
    }
}

// Measures one question of a run: its n hits from `lines` on.
static void found_measure(found_run *r, size_t question, const mrc_run_line *lines, size_t n) {
    const char *id = found.question[question];
    const char **ids = tool_allocate(n, sizeof *ids);
    size_t first, judged = mrc_run_of(&found.right, id, &first), relevant = 0, got = 0;
    for (size_t i = 0; i < judged; i++) relevant += found.right.list[first + i].score >= 1;
    for (size_t i = 0; i < n; i++) {
        const mrc_run_line *hit = qrels_find(&found.right, first, judged, lines[i].passage);
        ids[i] = lines[i].passage;
        if (hit && hit->score >= 1) {
            got++;
            if (!r->rank[question]) r->rank[question] = i + 1;
        }
        if (i < DEEPEST) r->curve[i] += (double)got / (double)relevant;
    }
    for (size_t i = n; i < DEEPEST; i++) r->curve[i] += (double)got / (double)relevant;
    ranking_add(ctx, &r->sum, &found.right, id, ids, NULL, n);
    if (n > found.depth) found.depth = n < DEEPEST ? n : DEEPEST;
    free(ids);
}

static void found_read(found_run *r, const char *path) {
    size_t known = 0;
    r->file = run_read(ctx, path);
    r->rank = tool_allocate(found.n, sizeof *r->rank);
    memset(r->rank, 0, found.n * sizeof *r->rank);
    for (size_t q = 0; q < found.n; q++) {
        size_t first, n = mrc_run_of(&r->file, found.question[q], &first);
        known += n > 0;
        found_measure(r, q, r->file.list + first, n);
    }
    if (!known) tool_fail(TOOL_BAD_INPUT, "%s: has none of the questions of %s", path, args.qrels);
}

static const char *found_name(size_t run) {
    const char *path = args.runs.item[run], *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static void put_found_label(size_t run) {
    put_swatch(run);
    put(" ");
    put_text(found_name(run));
}

//==============================================================================
// Figures
//==============================================================================
enum { FOUND_FIGURES = MRC_RANK_CUTS + 3 };
static double found_figure(size_t run, int which) {
    const mrc_rank_result *s = &found.run[run].sum;
    const double last[] = { s->mrr_10, s->ndcg_10, s->map_100 };
    return (which < MRC_RANK_CUTS ? s->recall[which] : last[which - MRC_RANK_CUTS])
         / (double)found.n;
}

static void put_found_table(void) {
    static const char *const names[FOUND_FIGURES] = { "recall@1", "@5", "@10", "@20", "@100",
                                                      "mrr@10", "ndcg@10", "map@100" };
    put("<div class=\"wide\"><table><tr><th>run</th>");
    for (int i = 0; i < FOUND_FIGURES; i++) put("<th class=\"n\">%s</th>", names[i]);
    put("</tr>\n");
    for (size_t r = 0; r < args.runs.n; r++) {
        put("<tr><td>");
        put_found_label(r);
        put("</td>");
        for (int i = 0; i < FOUND_FIGURES; i++) {
            double best = 0;
            for (size_t k = 0; k < args.runs.n; k++) best = fmax(best, found_figure(k, i));
            put("<td class=\"n%s\">%.4f</td>", found_figure(r, i) >= best ? " best" : "",
                found_figure(r, i));
        }
        put("</tr>\n");
    }
    put("</table></div>\n");
}

// Recall over the number of passages looked at, which is drawn by its logarithm.
static void put_found_curves(void) {
    static const int marks[] = { 1, 2, 5, 10, 20, 50, 100 };
    double low = 1, high = 0;
    for (size_t r = 0; r < args.runs.n; r++) {
        low = fmin(low, found.run[r].curve[0] / (double)found.n);
        high = fmax(high, found.run[r].curve[found.depth - 1] / (double)found.n);
    }
    axis y = axis_of(low < 0.5 * high ? 0 : low, high, 5);
    axis x = { 0, found.depth > 1 ? log((double)found.depth) : 1, 1 };
    put("<figure style=\"max-width:40rem;margin-top:1rem\"><figcaption>recall</figcaption>"
        "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"recall of each "
        "run over the number of passages\">\n", WIDE, HIGH);
    put_axis_y(y);
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if ((size_t)marks[i] > found.depth) break;
        put("<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n",
            at_x(x, log(marks[i])), HIGH - BOTTOM + 18, marks[i]);
    }
    put("<text x=\"%d\" y=\"%d\" text-anchor=\"end\">passages</text>\n", WIDE - RIGHT, HIGH - 2);
    for (size_t r = 0; r < args.runs.n; r++) {
        const double *curve = found.run[r].curve;
        put("<polyline ");
        put_stroke(r);
        put(" points=\"");
        for (size_t k = 0; k < found.depth; k++) {
            put("%.1f,%.1f ", at_x(x, log((double)(k + 1))), at_y(y, curve[k] / (double)found.n));
        }
        put("\"><title>");
        put_text(found_name(r));
        put("</title></polyline>\n");
    }
    put("</svg></figure>\n");
}

//==============================================================================
// Questions
//==============================================================================
// Whether run a has the question's first right passage higher than run b.
static int found_wins(size_t a, size_t b, size_t question) {
    size_t x = found.run[a].rank[question], y = found.run[b].rank[question];
    return x && (!y || x < y);
}

static void put_found_wins(void) {
    put("<h3>Which run is better on how many questions</h3>\n<p class=\"soft\">Of %zu questions: "
        "those whose first right passage stands higher in the run of the row than in the run of "
        "the column.</p>\n<div class=\"wide\"><table><tr><th></th>", found.n);
    for (size_t b = 0; b < args.runs.n; b++) {
        put("<th>");
        put_found_label(b);
        put("</th>");
    }
    put("</tr>\n");
    for (size_t a = 0; a < args.runs.n; a++) {
        put("<tr><th>");
        put_found_label(a);
        put("</th>");
        for (size_t b = 0; b < args.runs.n; b++) {
            size_t wins = 0;
            for (size_t q = 0; q < found.n; q++) wins += (size_t)found_wins(a, b, q);
            if (a == b) put("<td></td>");
            else put("<td class=\"n\">%zu</td>", wins);
        }
        put("</tr>\n");
    }
    put("</table></div>\n");
}

static void put_found_question(size_t question) {
    const char *id = found.question[question];
    put("<tr><td>");
    for (size_t i = 0; i < found.asked.n; i++) {
        const mrc_passage *x = &found.asked.list[i];
        if (strcmp(x->id, id)) continue;
        put_bytes(x->text, x->text_bytes);
        put(" ");
        break;
    }
    put("<span class=\"soft\">");
    put_text(id);
    put("</span></td>");
    for (size_t r = 0; r < args.runs.n; r++) {
        size_t rank = found.run[r].rank[question];
        if (rank) put("<td class=\"n\">%zu</td>", rank);
        else put("<td class=\"n\">-</td>");
    }
    put("</tr>\n");
}

// The first --examples of the questions that run `only` alone has at rank 1; only = the number of
// runs: those that no run has within its hits.
static void put_found_list(size_t only) {
    size_t n = 0, none = args.runs.n;
    for (int pass = 0; pass < 2; pass++) {
        size_t seen = 0;
        if (pass && n) {
            put("<details%s><summary>", only ? "" : " open");
            if (only == none) put("%zu questions that no run finds", n);
            else put("%zu questions that only ", n);
            if (only != none) put_found_label(only);
            if (only != none) put(" has at rank 1");
            put("</summary>\n<div class=\"wide\"><table class=\"found\"><tr><th>question</th>");
            for (size_t r = 0; r < args.runs.n; r++) {
                put("<th class=\"n\">");
                put_found_label(r);
                put("</th>");
            }
            put("</tr>\n");
        }
        for (size_t q = 0; q < found.n; q++) {
            size_t first = 0, hits = 0;
            for (size_t r = 0; r < args.runs.n; r++) {
                first += found.run[r].rank[q] == 1;
                hits += found.run[r].rank[q] > 0;
            }
            if (only == none ? hits > 0 : found.run[only].rank[q] != 1 || first > 1) continue;
            if (!pass) n++;
            else if (seen++ < args.examples) put_found_question(q);
        }
        if (pass && n) put("</table></div></details>\n");
    }
}

static void put_found(void) {
    if (args.runs.n > MAX_FOUND) {
        tool_fail(TOOL_USAGE, "--runs: found %zu (expected at most %d)", args.runs.n, MAX_FOUND);
    }
    tool_check(ctx, mrc_qrels_load(ctx, &found.right, args.qrels));
    found_questions();
    if (args.queries) found.asked = texts_read(ctx, args.queries, MRC_SIDE_QUERY);
    for (size_t r = 0; r < args.runs.n; r++) found_read(&found.run[r], args.runs.item[r]);
    put("<h2>Passages found</h2>\n<p class=\"soft\">%zu questions of ", found.n);
    put_text(args.qrels);
    put("; a question that a run lacks counts 0. The best of a column is bold.</p>\n");
    put_found_table();
    put_found_curves();
    if (args.runs.n > 1) put_found_wins();
    put("<h3>Questions</h3>\n<p class=\"soft\">Ranks of the first right passage; -: not among the "
        "hits. At most %zu of each kind are shown.</p>\n", args.examples);
    for (size_t r = 0; r <= args.runs.n && args.runs.n > 1; r++) put_found_list(r);
    if (args.runs.n == 1) put_found_list(1);
    for (size_t r = 0; r < args.runs.n; r++) {
        mrc_run_free(&found.run[r].file);
        free(found.run[r].rank);
    }
    if (args.queries) texts_free(&found.asked);
    mrc_run_free(&found.right);
    free(found.question);
}
