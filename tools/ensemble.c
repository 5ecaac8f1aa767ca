// ensemble: one set of answers out of several models'.
//
// Votes are over nbest_predictions.json files, question by question in the first file's order; a
// file that lacks a question has no vote on it.  The mean of logits is over predict's --save_logits
// files, which must be of the same windows, and makes such a file, for predict --logits.
#include "tool.h"

enum { MAX_FILES = 64, LOGIT_MEAN = 3 };

typedef struct ensemble_args {
    tool_list   files, weights;
    const char *output_dir, *output;
    int         method;
    double      null_score_diff_threshold;
} ensemble_args;

// The files and what each counts.
typedef struct inputs {
    const char *path[MAX_FILES];
    double      weight[MAX_FILES];
    size_t      n;
} inputs;

static void take_files(inputs *in, const ensemble_args *a) {
    double all = 0;
    if (a->files.n > MAX_FILES) {
        tool_fail(TOOL_USAGE, "--files: too many (found %zu, expected at most %d)", a->files.n,
                  MAX_FILES);
    }
    if (a->weights.n && a->weights.n != a->files.n) {
        tool_fail(TOOL_USAGE, "--weights: are not one for each file (found %zu, expected %zu)",
                  a->weights.n, a->files.n);
    }
    double *weights = tool_list_numbers(&a->weights, "weights", 0);
    for (; in->n < a->files.n; in->n++) {
        in->path[in->n] = a->files.item[in->n];
        in->weight[in->n] = a->weights.n ? weights[in->n] : 1;
        all += in->weight[in->n];
    }
    if (!(all > 0)) tool_fail(TOOL_USAGE, "--weights: are all 0 (expected one above 0)");
    free(weights);
}

//==============================================================================
// Votes
//==============================================================================
// "" leads a text by the difference of their scores, the logarithm of the ratio of their
// probabilities: divided by exp(threshold), it is ahead where that is above the threshold.
static void weigh_null(mrc_vote *list, size_t n, double threshold) {
    for (size_t i = 0; i < n; i++) {
        mrc_vote null = list[i];
        size_t at = 0;
        if (null.bytes) continue;
        memmove(list + i, list + i + 1, (n - 1 - i) * sizeof *list);
        null.probability *= exp(-threshold);
        while (at + 1 < n && list[at].probability >= null.probability) at++;
        memmove(list + at + 1, list + at, (n - 1 - at) * sizeof *list);
        list[at] = null;
        return;
    }
}

// One question's list of one file, into room that grows; 0 votes where the file lacks it.
static size_t read_votes(const char *path, const mrc_json *list, double threshold,
                         mrc_vote **room, size_t *capacity) {
    size_t n = 0;
    if (!list) return 0;
    if (list->type != MRC_JSON_ARRAY) {
        tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: is no list of answers", path, list->line,
                  list->column);
    }
    if (list->n > *capacity) {
        *capacity = list->n;
        free(*room);
        *room = tool_allocate(list->n, sizeof **room);
    }
    for (const mrc_json *v = list->child; v; v = v->next) {
        const mrc_json *text = mrc_json_get(v, "text"), *p = mrc_json_get(v, "probability");
        if (!text || text->type != MRC_JSON_STRING || !p || p->type != MRC_JSON_NUMBER) {
            tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: has no text and probability", path, v->line,
                      v->column);
        }
        (*room)[n++] = (mrc_vote){ text->string, text->bytes, p->number };
    }
    if (threshold < 0 || threshold > 0) weigh_null(*room, n, threshold);
    return n;
}

static mrc_json *load_votes(mrc_ctx *ctx, const char *path) {
    mrc_json *root;
    tool_check(ctx, mrc_json_load(ctx, &root, path));
    if (root->type != MRC_JSON_OBJECT) {
        tool_fail(TOOL_BAD_INPUT, "%s: is no object of lists by question", path);
    }
    tool_check(ctx, mrc_json_unique_keys(ctx, root, path));
    return root;
}

// The questions of file `from` that no file before it has, each with its winner, onto `out`.
static size_t vote_on(mrc_ctx *ctx, const inputs *in, const ensemble_args *a,
                      mrc_json *const *root, size_t from, mrc_text *out) {
    mrc_vote *room[MAX_FILES] = { NULL }, winner;
    mrc_votes lists[MAX_FILES];
    size_t capacity[MAX_FILES] = { 0 }, n = 0;
    for (const mrc_json *q = root[from]->child; q; q = q->next) {
        int seen = 0;
        for (size_t m = 0; m < from && !seen; m++) seen = mrc_json_get(root[m], q->key) != NULL;
        if (seen) continue;
        for (size_t m = 0; m < in->n; m++) {
            const mrc_json *list = m == from ? q : mrc_json_get(root[m], q->key);
            lists[m].n = read_votes(in->path[m], list, a->null_score_diff_threshold, &room[m],
                                    &capacity[m]);
            lists[m].list = room[m];
        }
        tool_check(ctx, mrc_ensemble_vote(ctx, (mrc_ensemble)a->method, lists, in->n, in->weight,
                                          &winner));
        mrc_text_printf(out, "%s\n    ", out->bytes ? "," : "{");
        mrc_text_json_string(out, q->key, q->key_bytes, 1);
        mrc_text_add(out, ": ", 2);
        mrc_text_json_string(out, winner.text, winner.bytes, 1);
        n++;
    }
    for (size_t m = 0; m < in->n; m++) free(room[m]);
    return n;
}

static void vote(mrc_ctx *ctx, const inputs *in, const ensemble_args *a) {
    mrc_json *root[MAX_FILES];
    char path[TOOL_PATH_BYTES];
    mrc_text out;
    size_t n = 0;
    for (size_t m = 0; m < in->n; m++) root[m] = load_votes(ctx, in->path[m]);
    mrc_text_init(&out, ctx);
    for (size_t m = 0; m < in->n; m++) n += vote_on(ctx, in, a, root, m, &out);
    mrc_text_printf(&out, n ? "\n}\n" : "{}\n");
    tool_check_text(&out);
    tool_check(ctx, mrc_dir_new(ctx, a->output_dir));
    tool_check(ctx, mrc_file_write(ctx, tool_path(path, a->output_dir, "predictions.json"),
                                   out.data, out.bytes));
    tool_note("%s: %zu questions, %zu models", path, n, in->n);
    mrc_text_free(&out);
    for (size_t m = 0; m < in->n; m++) mrc_json_free(root[m]);
}

//==============================================================================
// The mean of logits
//==============================================================================
static int is_logit(const char *name) {
    return !strcmp(name, "start_logits") || !strcmp(name, "end_logits");
}

// A tensor of file m as it is in memory; it must have the first file's shape and type.
static void *read_tensor(mrc_ctx *ctx, const inputs *in, mrc_weights *const *st, size_t m,
                         const mrc_st_entry *first) {
    const mrc_st_entry *e = mrc_weights_find(st[m], first->name);
    int same = e && e->ndim == first->ndim && !strcmp(e->dtype, first->dtype);
    for (int i = 0; same && i < e->ndim; i++) same = e->shape[i] == first->shape[i];
    if (!same || strcmp(first->dtype, is_logit(first->name) ? "F32" : "I64")) {
        tool_fail(TOOL_BAD_INPUT, "%s: its %s is not that of %s (expected the same windows, "
                  "written by predict --save_logits)", in->path[m], first->name, in->path[0]);
    }
    const mrc_dtype dtype = is_logit(first->name) ? MRC_DTYPE_F32 : MRC_DTYPE_I32;
    void *data = tool_allocate((size_t)e->numel, 8);
    tool_check(ctx, mrc_weights_read(st[m], e, dtype, data));
    return data;
}

// The first file's tensor, or the mean of all; the others must be the same in every file.
static void *merge_tensor(mrc_ctx *ctx, const inputs *in, mrc_weights *const *st,
                          const mrc_st_entry *e) {
    void *data[MAX_FILES];
    const float *logits[MAX_FILES];
    const size_t n = (size_t)e->numel;
    for (size_t m = 0; m < in->n; m++) {
        logits[m] = data[m] = read_tensor(ctx, in, st, m, e);
        if (m && !is_logit(e->name) && memcmp(data[0], data[m], n * sizeof(int32_t))) {
            tool_fail(TOOL_BAD_INPUT, "%s: its %s are not those of %s (expected the same windows)",
                      in->path[m], e->name, in->path[0]);
        }
    }
    if (is_logit(e->name)) {
        float *mean = tool_allocate(n, sizeof *mean);
        mrc_ensemble_mean(logits, in->n, in->weight, n, mean);
        free(data[0]);
        data[0] = mean;
    } else {                            // as it is written: 8 bytes each
        const int32_t *narrow = data[0];
        int64_t *wide = tool_allocate(n, sizeof *wide);
        for (size_t i = 0; i < n; i++) wide[i] = narrow[i];
        free(data[0]);
        data[0] = wide;
    }
    for (size_t m = 1; m < in->n; m++) free(data[m]);
    return data[0];
}

static void mean(mrc_ctx *ctx, const inputs *in, const ensemble_args *a) {
    mrc_weights *st[MAX_FILES];
    mrc_st_tensor list[16];
    const mrc_st_entry *e;
    size_t n = 0;
    for (size_t m = 0; m < in->n; m++) {
        tool_check(ctx, mrc_safetensors_open(ctx, &st[m], in->path[m]));
    }
    for (; (e = mrc_weights_at(st[0], n)) != NULL; n++) {
        if (n == 16) tool_fail(TOOL_BAD_INPUT, "%s: is no file of logits", in->path[0]);
        list[n] = (mrc_st_tensor){ .name = e->name, .dtype = e->dtype, .ndim = e->ndim,
                                   .data = merge_tensor(ctx, in, st, e) };
        memcpy(list[n].shape, e->shape, sizeof list[n].shape);
    }
    if (!mrc_weights_find(st[0], "start_logits")
        || !mrc_weights_find(st[0], "end_logits")) {
        tool_fail(TOOL_BAD_INPUT, "%s: has no start_logits and end_logits", in->path[0]);
    }
    tool_make_parent(ctx, a->output);
    tool_check(ctx, mrc_safetensors_write(ctx, a->output, list, n, NULL));
    for (size_t i = 0; i < n; i++) free((void *)(uintptr_t)list[i].data);
    for (size_t m = 0; m < in->n; m++) mrc_weights_close(st[m]);
}

static ensemble_args a;
static inputs in;

static int run(tool_program *p) {
    (void)p;
    take_files(&in, &a);
    if (!a.output) a.output = a.output_dir;             // one place: either name will do
    if (!a.output_dir) a.output_dir = a.output;
    const char *needed = a.output;
    if (!needed) {
        tool_fail(TOOL_USAGE, "--%s is missing (found none, expected a path)",
                  a.method == LOGIT_MEAN ? "output" : "output_dir");
    }
    tool_try_place(needed, a.method != LOGIT_MEAN);
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    if (a.method == LOGIT_MEAN) mean(ctx, &in, &a);
    else vote(ctx, &in, &a);
    mrc_ctx_free(ctx);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "method", .group = "answers", .choice = &a.method,
      .choices = "probability_sum|hard_vote|fold_combine|logit_mean",
      .preset = "probability_sum",
      .help = "the text with the largest sum of probabilities; with the most first places, a "
              "tie to the most probable; with the largest sum of each model's best; or the "
              "mean of logits, to be decoded by predict --logits" },
    { .name = "files", .list = &a.files, .value = "FILE ..", .required = 1,
      .help = "nbest_predictions.json of each model; for logit_mean what predict "
              "--save_logits wrote" },
    { .name = "null_score_diff_threshold", .real = &a.null_score_diff_threshold, .preset = "0",
      .help = "\"\" wins when it scores more than this above a text: as predict's" },
    { .name = "weights", .list = &a.weights, .value = "X ..", .otherwise = "1 each",
      .help = "what each model's vote or logits count" },
    { .name = "output_dir", .group = "output", .string = &a.output_dir, .value = "DIR",
      .otherwise = "required for votes", .help = "where predictions.json goes" },
    { .name = "output", .string = &a.output, .value = "FILE.safetensors",
      .otherwise = "required for logit_mean", .help = "the mean logits" },
    { 0 }
};

static tool_program program = {
    .name = "ensemble", .group = "answer and score", .run = run, .flags = flags,
    .purpose = "Makes one set of answers out of several models' predictions.",
    .usage = "--method METHOD --files FILE .. --output_dir DIR",
    .examples = { "ensemble --files fold0/nbest_predictions.json fold1/nbest_predictions.json "
                  "--output_dir vote",
                  "ensemble --method logit_mean --files a.safetensors b.safetensors --output "
                  "mean.safetensors" }
};
TOOL_PROGRAM(ensemble, program)
