// Scores predictions as the official scripts do: PARITY 3.1 (KorQuAD v1), 3.3 (SQuAD v1).
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

// {"id": "answer", ..}, sorted by id; freed by the caller.
static prediction *predictions_sort(const mrc_json *root, const char *path) {
    if (root->type != MRC_JSON_OBJECT) {
        tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: predictions must be one object of id and answer "
                  "(found another kind of value)", path, root->line, root->column);
    }
    prediction *list = malloc((root->n + 1) * sizeof *list);
    size_t n = 0;
    if (!list) tool_fail(TOOL_NO_MEMORY, "%s: out of memory for %zu predictions", path, root->n);
    for (const mrc_json *p = root->child; p; p = p->next) {
        if (p->type != MRC_JSON_STRING) {
            tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: the prediction for \"%.60s\" is no text", path,
                      p->line, p->column, p->key);
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
static void note_missing(size_t *count, const char *id) {
    if (++*count <= 10) tool_note("no prediction for question %s: it scores 0", id);
}

// KorQuAD's script compares the version without its last part.
static void check_version(const mrc_dataset *d, const char *path) {
    static const char expected[] = "KorQuAD_v1.0";
    const char *version = mrc_dataset_version(d), *last = strrchr(version, '_');
    size_t bytes = last ? (size_t)(last - version) : 0;
    if (bytes == sizeof expected - 1 && !memcmp(version, expected, bytes)) return;
    tool_note("%s: the metric is for %s (found version \"%.60s\")", path, expected, version);
}

// In per cent of all questions.
static void score(mrc_ctx *ctx, mrc_metric metric, const mrc_dataset *d, const char *path,
                  const prediction *list, size_t n_list, double *exact, double *f1) {
    size_t n = mrc_dataset_size(d), missing = 0, unanswered = 0;
    double exact_sum = 0, f1_sum = 0;
    if (!n) tool_fail(TOOL_BAD_INPUT, "%s: nothing to score (found 0 questions)", path);
    if (metric == MRC_METRIC_KORQUAD) check_version(d, path);
    for (size_t i = 0; i < n; i++) {
        const mrc_example *x = mrc_dataset_at(d, i);
        const mrc_json *p = prediction_find(list, n_list, x->id);
        double e = 0, f = 0;
        if (!x->n_answers) unanswered++;
        if (!p) note_missing(&missing, x->id);
        else tool_check(ctx, mrc_metric_score(ctx, metric, p->string, p->bytes, x->answers,
                                              x->n_answers, &e, &f));
        exact_sum += e;
        f1_sum += f;
    }
    if (missing) tool_note("%zu of %zu questions have no prediction", missing, n);
    if (unanswered) {
        tool_note("%s: %zu of %zu questions have no answer to compare with and score 0", path,
                  unanswered, n);
    }
    *exact = 100.0 * exact_sum / (double)n;
    *f1 = 100.0 * f1_sum / (double)n;
}

int main(int argc, char **argv) {
    struct { const char *data, *predictions; int metric; } a = { 0 };
    tool_flag flags[] = {
        { .name = "metric", .choice = &a.metric, .choices = "korquad|squad", .required = 1,
          .help = "whose definition: korquad (KorQuAD v1, F1 over characters) or squad "
                  "(SQuAD v1, F1 over words)" },
        { .name = "DATA_FILE", .string = &a.data, .positional = 1, .required = 1,
          .help = "questions and answers: SQuAD, KorQuAD or KLUE JSON, or JSONL records" },
        { .name = "PREDICTIONS_FILE", .string = &a.predictions, .positional = 1, .required = 1,
          .help = "one JSON object of id and answer, as predict writes it" },
        { 0 }
    };
    tool_program program = {
        .name = "evaluate", .flags = flags,
        .purpose = "Scores predicted answers: exact match and F1, in per cent, as the official "
                   "scripts print them.",
        .usage = "--metric korquad|squad DATA_FILE PREDICTIONS_FILE",
        .examples = { "evaluate --metric korquad KorQuAD_v1.0_dev.json out/predictions.json",
                      "evaluate --metric squad dev-v1.1.json out/predictions.json" }
    };
    tool_start(&program, argc, argv);
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    mrc_dataset *d;
    mrc_json *root;
    tool_check(ctx, mrc_dataset_load_questions(ctx, &d, a.data));
    tool_check(ctx, mrc_json_load(ctx, &root, a.predictions));
    prediction *list = predictions_sort(root, a.predictions);
    double exact, f1;
    score(ctx, a.metric ? MRC_METRIC_SQUAD : MRC_METRIC_KORQUAD, d, a.data, list, root->n, &exact,
          &f1);
    mrc_text t;
    mrc_text_init(&t, ctx);
    mrc_text_printf(&t, "{\"exact_match\": ");
    mrc_text_number(&t, exact);
    mrc_text_printf(&t, ", \"f1\": ");
    mrc_text_number(&t, f1);
    mrc_text_printf(&t, "}\n");
    tool_write_text(&t);
    mrc_text_free(&t);
    free(list);
    mrc_json_free(root);
    mrc_dataset_free(d);
    mrc_ctx_free(ctx);
    return tool_finish();
}
