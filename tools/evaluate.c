// Scores predictions as the official scripts do: PARITY 3.1 (KorQuAD v1), 3.2 (KLUE), 3.3 (SQuAD).
//
// The data file's questions are all counted, also rows that training leaves out.  The sums run in
// file order, in double: the last digit depends on it.
#include "tool.h"

typedef struct prediction { const mrc_json *answer; size_t at; } prediction;

static int by_key(const void *a, const void *b) {
    const mrc_json *x = ((const prediction *)a)->answer, *y = ((const prediction *)b)->answer;
    size_t n = x->key_bytes < y->key_bytes ? x->key_bytes : y->key_bytes;
    int order = memcmp(x->key, y->key, n);
    if (!order) order = (x->key_bytes > y->key_bytes) - (x->key_bytes < y->key_bytes);
    if (order) return order;
    size_t i = ((const prediction *)a)->at, j = ((const prediction *)b)->at;
    return (i > j) - (i < j);
}

// {"id": value, ..}, sorted by id, each value of that type; freed by the caller.
static prediction *predictions_sort(const mrc_json *root, const char *path, mrc_json_type type) {
    const char *what = type == MRC_JSON_STRING ? "text" : type == MRC_JSON_NUMBER ? "number"
                     : "list of candidates";
    if (root->type != MRC_JSON_OBJECT) {
        tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: predictions must be one object of id and %s "
                  "(found another kind of value)", path, root->line, root->column, what);
    }
    prediction *list = tool_allocate(root->n, sizeof *list);
    size_t n = 0;
    for (const mrc_json *p = root->child; p; p = p->next) {
        if (p->type != type) {
            tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: the prediction for \"%.60s\" is no %s", path,
                      p->line, p->column, p->key, what);
        }
        list[n] = (prediction){ p, n };
        n++;
    }
    qsort(list, n, sizeof *list, by_key);
    return list;
}

// Of several the last, as in Python; NULL: none.
static const mrc_json *prediction_find(const prediction *list, size_t n, const char *id) {
    mrc_json key = { .key = id, .key_bytes = strlen(id) };
    prediction wanted = { &key, SIZE_MAX };
    size_t low = 0, high = n;
    while (low < high) {                        // the first that is greater than every such
        size_t middle = low + (high - low) / 2;
        if (by_key(&list[middle], &wanted) <= 0) low = middle + 1;
        else high = middle;
    }
    if (!low) return NULL;
    const mrc_json *found = list[low - 1].answer;
    int same = found->key_bytes == key.key_bytes && !memcmp(found->key, id, key.key_bytes);
    return same ? found : NULL;
}

// The first ten by name, as the official scripts name all, then their number.
static void note_missing(size_t *count, const char *id, int skipped) {
    if (++*count > 10) return;
    tool_note("no prediction for question %s: it %s", id, skipped ? "is not counted" : "scores 0");
}

// KorQuAD's script compares the version without its last part.
static void check_version(const mrc_dataset *d, const char *path) {
    static const char expected[] = "KorQuAD_v1.0";
    const char *version = mrc_dataset_version(d), *last = strrchr(version, '_');
    size_t bytes = last ? (size_t)(last - version) : 0;
    if (bytes == sizeof expected - 1 && !memcmp(version, expected, bytes)) return;
    tool_note("%s: the metric is for %s (found version \"%.60s\")", path, expected, version);
}

// A question's scores; p NULL: it has no prediction.
typedef struct question { const mrc_example *x; const mrc_json *p; } question;

typedef struct evaluation {
    mrc_ctx     *ctx;
    mrc_metric   metric;
    const char  *data, *predictions, *na_prob_file, *nbest_file;
    double       na_prob_thresh;
    mrc_dataset *set;
    question    *list;
    mrc_scored  *scores;                // of the list
    size_t       n;
    mrc_text     out;
} evaluation;

// Fills in the list; predictions that are missing are noted.
static void score(evaluation *e, const prediction *sorted, size_t n_sorted) {
    size_t missing = 0, unanswered = 0, skips = e->metric == MRC_METRIC_SQUAD_V2;
    e->n = mrc_dataset_size(e->set);
    if (!e->n) tool_fail(TOOL_BAD_INPUT, "%s: nothing to score (found 0 questions)", e->data);
    if (e->metric == MRC_METRIC_KORQUAD) check_version(e->set, e->data);
    e->list = tool_allocate(e->n, sizeof *e->list);
    e->scores = tool_allocate(e->n, sizeof *e->scores);
    for (size_t i = 0; i < e->n; i++) {
        question *q = &e->list[i];
        mrc_scored *s = &e->scores[i];
        q->x = mrc_dataset_at(e->set, i);
        q->p = prediction_find(sorted, n_sorted, q->x->id);
        if (!q->x->n_answers) unanswered++;
        s->counted = q->p || !skips;
        s->answerable = q->x->n_answers > 0;
        s->answered = q->p && q->p->bytes;
        if (!q->p) note_missing(&missing, q->x->id, (int)skips);
        else tool_check(e->ctx, mrc_metric_score(e->ctx, e->metric, q->p->string, q->p->bytes,
                                                 q->x->answers, q->x->n_answers, &s->exact,
                                                 &s->f1));
    }
    if (missing) tool_note("%zu of %zu questions have no prediction", missing, e->n);
    if (unanswered && (e->metric == MRC_METRIC_KORQUAD || e->metric == MRC_METRIC_SQUAD)) {
        tool_note("%s: %zu of %zu questions have no answer to compare with and score 0", e->data,
                  unanswered, e->n);
    }
}

//==============================================================================
// korquad, squad, klue
//==============================================================================
// In per cent of the questions of that type; 0: of all.
static void add_means(evaluation *e, int type, const char *exact_key, const char *f1_key) {
    mrc_scored *of = tool_allocate(e->n, sizeof *of);
    for (size_t i = 0; i < e->n; i++) {
        of[i] = e->scores[i];
        of[i].counted = !type || e->list[i].x->question_type == type;
    }
    mrc_figures mean = mrc_metric_mean(of, e->n, MRC_SUBSET_ALL);
    tool_json_number(&e->out, exact_key, mean.exact);
    tool_json_number(&e->out, f1_key, mean.f1);
    if (type) tool_json_integer(&e->out, "total", (int64_t)mean.total);
    free(of);
}

static void add_question_types(evaluation *e) {
    for (int type = 1; type <= 3; type++) {
        char key[32];
        size_t n = 0;
        for (size_t i = 0; i < e->n; i++) n += e->list[i].x->question_type == type;
        if (!n) continue;
        snprintf(key, sizeof key, "question_type_%d", type);
        tool_json_key(&e->out, key);
        mrc_text_add(&e->out, "{", 1);
        add_means(e, type, "exact_match", "rouge_w");
        mrc_text_add(&e->out, "}", 1);
    }
}

//==============================================================================
// squad_v2
//==============================================================================
// na: the probabilities of "no answer", by question, NaN where there is none.  The script takes 0
// for all without a file.
static void add_v2(evaluation *e, mrc_subset of, const double *na) {
    static const char *const prefix[] = { "", "HasAns_", "NoAns_" };
    char key[32];
    mrc_scored *list = tool_allocate(e->n, sizeof *list);
    for (size_t i = 0; i < e->n; i++) {
        list[i] = e->scores[i];
        if (na && na[i] > e->na_prob_thresh) list[i].exact = list[i].f1 = !list[i].answerable;
    }
    mrc_figures mean = mrc_metric_mean(list, e->n, of);
    free(list);
    if (!mean.total && of != MRC_SUBSET_ALL) return;
    if (!mean.total) tool_fail(TOOL_BAD_INPUT, "%s: no question of %s has a prediction",
                               e->predictions, e->data);
    snprintf(key, sizeof key, "%sexact", prefix[of]);
    tool_json_number(&e->out, key, mean.exact);
    snprintf(key, sizeof key, "%sf1", prefix[of]);
    tool_json_number(&e->out, key, mean.f1);
    snprintf(key, sizeof key, "%stotal", prefix[of]);
    tool_json_integer(&e->out, key, (int64_t)mean.total);
}

// A question and the place of its value in the file, which decides between equal values as in
// Python's sort.
typedef struct na_prob { size_t at, question; } na_prob;

static int by_place(const void *a, const void *b) {
    const na_prob *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

// The best score that some threshold gives, and the threshold.
static void add_best(evaluation *e, const mrc_scored *list, int is_f1) {
    double best, threshold;
    tool_check(e->ctx, mrc_metric_best(e->ctx, list, e->n, is_f1, &best, &threshold));
    tool_json_number(&e->out, is_f1 ? "best_f1" : "best_exact", best);
    tool_json_number(&e->out, is_f1 ? "best_f1_thresh" : "best_exact_thresh", threshold);
}

static void add_squad_v2(evaluation *e) {
    if (!e->na_prob_file) {
        for (int of = MRC_SUBSET_ALL; of <= MRC_SUBSET_UNANSWERABLE; of++) {
            add_v2(e, (mrc_subset)of, NULL);
        }
        return;
    }
    mrc_json *root;
    tool_check(e->ctx, mrc_json_load(e->ctx, &root, e->na_prob_file));
    prediction *sorted = predictions_sort(root, e->na_prob_file, MRC_JSON_NUMBER);
    na_prob *order = tool_allocate(e->n, sizeof *order);
    double *na = tool_allocate(e->n, sizeof *na);
    mrc_scored *list = tool_allocate(e->n, sizeof *list);
    for (size_t i = 0; i < e->n; i++) {
        const mrc_json *p = prediction_find(sorted, root->n, e->list[i].x->id);
        if (!p && e->list[i].p) {
            tool_fail(TOOL_BAD_INPUT, "%s: no value for question %.60s, which has a prediction",
                      e->na_prob_file, e->list[i].x->id);
        }
        na[i] = p && e->list[i].p ? p->number : 0;
        order[i] = (na_prob){ p ? p->line * 65536 + p->column : 0, i };
    }
    qsort(order, e->n, sizeof *order, by_place);
    for (size_t i = 0; i < e->n; i++) {
        list[i] = e->scores[order[i].question];
        list[i].no_answer = na[order[i].question];
    }
    for (int of = MRC_SUBSET_ALL; of <= MRC_SUBSET_UNANSWERABLE; of++) {
        add_v2(e, (mrc_subset)of, na);
    }
    for (int is_f1 = 0; is_f1 < 2; is_f1++) add_best(e, list, is_f1);
    free(list);
    free(na);
    free(order);
    free(sorted);
    mrc_json_free(root);
}

//==============================================================================
// Calibration: how far the probability of the first answer can be believed
//==============================================================================
typedef struct believed { const mrc_json *spans; int right; } believed;

// The softmax of the first candidate at a temperature.
static double confidence(const mrc_json *spans, double temperature) {
    double max = -HUGE_VAL, sum = 0, first = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (const mrc_json *s = spans->child; s; s = s->next) {
            const mrc_json *a = mrc_json_get(s, "start_logit"), *b = mrc_json_get(s, "end_logit");
            double score = (a ? a->number : 0) + (b ? b->number : 0);
            if (pass == 0) {
                if (score > max) max = score;
                continue;
            }
            double weight = exp((score - max) / temperature);
            sum += weight;
            if (s == spans->child) first = weight;
        }
    }
    return first / sum;
}

// Mean negative log-likelihood of what was right; *ece: the expected calibration error, ten bins.
static double disbelief(const believed *list, size_t n, double temperature, double *ece) {
    double loss = 0, gap[10] = { 0 };
    for (size_t i = 0; i < n; i++) {
        double p = confidence(list[i].spans, temperature), q = 1 - p;
        loss -= log(fmax(list[i].right ? p : q, 1e-12));
        gap[p >= 1 ? 9 : (int)(p * 10)] += list[i].right - p;
    }
    *ece = 0;
    for (int i = 0; i < 10; i++) *ece += fabs(gap[i]) / (double)n;
    return loss / (double)n;
}

// The temperature with the least loss, by golden section on its logarithm.
static void add_calibration(evaluation *e) {
    mrc_json *root;
    double ece, low = log(0.05), high = log(20), exact, f1;
    size_t n = 0;
    tool_check(e->ctx, mrc_json_load(e->ctx, &root, e->nbest_file));
    prediction *sorted = predictions_sort(root, e->nbest_file, MRC_JSON_ARRAY);
    believed *list = tool_allocate(e->n, sizeof *list);
    for (size_t i = 0; i < e->n; i++) {
        const mrc_example *x = e->list[i].x;
        const mrc_json *spans = prediction_find(sorted, root->n, x->id);
        const mrc_json *text = spans && spans->child ? mrc_json_get(spans->child, "text") : NULL;
        if (!text || text->type != MRC_JSON_STRING) continue;
        tool_check(e->ctx, mrc_metric_score(e->ctx, e->metric, text->string, text->bytes,
                                            x->answers, x->n_answers, &exact, &f1));
        list[n++] = (believed){ spans, exact > 0 };
    }
    if (!n) tool_fail(TOOL_BAD_INPUT, "%s: no candidates for the questions of %s", e->nbest_file,
                      e->data);
    for (int i = 0; i < 60; i++) {
        double third = 0.381966011250105 * (high - low);
        double a = disbelief(list, n, exp(low + third), &ece);
        if (a < disbelief(list, n, exp(high - third), &ece)) high -= third;
        else low += third;
    }
    double temperature = exp((low + high) / 2);
    tool_json_number(&e->out, "temperature", temperature);
    disbelief(list, n, 1, &ece);
    tool_json_number(&e->out, "calibration_error", ece);
    disbelief(list, n, temperature, &ece);
    tool_json_number(&e->out, "calibration_error_at_temperature", ece);
    free(list);
    free(sorted);
    mrc_json_free(root);
}

//==============================================================================
// main
//==============================================================================
static void evaluate(evaluation *e) {
    mrc_json *root;
    e->ctx = tool_ctx_new(NULL, 0);
    tool_check(e->ctx, mrc_dataset_load_questions(e->ctx, &e->set, e->data));
    tool_check(e->ctx, mrc_json_load(e->ctx, &root, e->predictions));
    prediction *sorted = predictions_sort(root, e->predictions, MRC_JSON_STRING);
    score(e, sorted, root->n);
    mrc_text_init(&e->out, e->ctx);
    mrc_text_add(&e->out, "{", 1);
    if (e->metric == MRC_METRIC_SQUAD_V2) add_squad_v2(e);
    else add_means(e, 0, "exact_match", e->metric == MRC_METRIC_KLUE ? "rouge_w" : "f1");
    if (e->metric == MRC_METRIC_KLUE) add_question_types(e);
    if (e->nbest_file) add_calibration(e);
    mrc_text_add(&e->out, "}\n", 2);
    tool_write_text(&e->out);
    mrc_text_free(&e->out);
    free(sorted);
    free(e->list);
    free(e->scores);
    mrc_json_free(root);
    mrc_dataset_free(e->set);
    mrc_ctx_free(e->ctx);
}

static evaluation e;
static int metric;

static int run(tool_program *p) {
    (void)p;
    e.metric = (mrc_metric)metric;
    if (e.na_prob_file && e.metric != MRC_METRIC_SQUAD_V2) {
        tool_fail(TOOL_USAGE, "--na_prob_file: only squad_v2 has it (found another --metric)");
    }
    evaluate(&e);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "metric", .group = "figures",
      .choice = &metric, .choices = "korquad|squad|squad_v2|klue",
      .required = 1,
      .help = "whose definition: korquad (KorQuAD v1, F1 over characters), squad or squad_v2 "
              "(F1 over words; v2: with questions that have no answer) or klue (ROUGE-W, by "
              "question type)" },
    { .name = "na_prob_file", .string = &e.na_prob_file, .value = "FILE",
      .help = "squad_v2: how sure the reader is that there is no answer, as null_odds.json; "
              "adds the best thresholds" },
    { .name = "na_prob_thresh", .real = &e.na_prob_thresh, .preset = "1",
      .help = "squad_v2: above it the answer counts as none" },
    { .name = "nbest_file", .string = &e.nbest_file, .value = "FILE",
      .help = "nbest_predictions.json: adds the --temperature at which its probabilities say "
              "how often the first answer is right, and by how much they are off" },
    { .name = "DATA_FILE", .string = &e.data, .positional = 1, .required = 1,
      .help = "questions and answers: SQuAD, KorQuAD or KLUE JSON, or JSONL records" },
    { .name = "PREDICTIONS_FILE", .string = &e.predictions, .positional = 1, .required = 1,
      .help = "one JSON object of id and answer, as predict writes it" },
    { 0 }
};

static tool_program program = {
    .name = "evaluate", .group = "answer and score", .run = run, .flags = flags,
    .purpose = "Scores predicted answers: exact match and F1, in per cent, as the official "
               "scripts print them.",
    .usage = "--metric korquad|squad|squad_v2|klue DATA_FILE PREDICTIONS_FILE",
    .examples = { "evaluate --metric korquad KorQuAD_v1.0_dev.json out/predictions.json",
                  "evaluate --metric squad_v2 --na_prob_file out/null_odds.json dev-v2.0.json "
                  "out/predictions.json" }
};
TOOL_PROGRAM(evaluate, program)
