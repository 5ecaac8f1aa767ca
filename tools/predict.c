// predict: answers the questions of a file with a trained reader.
//
// Each window of a passage gets a start and an end logit per token: from the model, which takes
// windows of one length together, or from a file that an earlier run saved.  Then each question is
// answered from its windows.
#include "reader.h"

typedef struct predict_args {
    const char *model_name_or_path, *tokenizer_name, *test_file, *output_dir, *save_logits, *logits;
    const char *prefix;
    int    encoding, pad_to_max_length, version_2_with_negative, max_context, postprocess;
    tool_precision precision;
    size_t n_best_size, max_answer_length, max_seq_length, doc_stride, batch_size;
    double null_score_diff_threshold, temperature;
    size_t num_folds, fold;
} predict_args;

typedef struct prediction_run {
    predict_args   a;
    mrc_ctx       *ctx;
    mrc_tokenizer *tok;
    mrc_dataset   *set, *all;           // all: with folds, what set is one of
    mrc_features   features;
    mrc_model     *model;               // NULL with --logits
    int32_t        pad_token_id;
    size_t         width;               // rows of the longest window
    size_t        *begin;               // (W): where a window's logits begin: start, then end
    float         *logits;
    mrc_span      *spans;
    mrc_window_logits *windows;         // room for those of one question
    size_t         most;                // that room
    mrc_text       answers, n_best, odds;   // the three files, growing
    mrc_text       words;               // a span's, with --postprocess legacy
    tool_bar       bar;
} prediction_run;

//==============================================================================
// Inputs
//==============================================================================
static mrc_features_config features_config(const prediction_run *p) {
    mrc_features_config config = mrc_features_config_default();
    config.kind = (mrc_encoding_kind)p->a.encoding;
    config.max_seq_length = p->a.max_seq_length;
    config.doc_stride = p->a.doc_stride;
    // A reader that was trained over pads is run over pads.
    config.pad_to_max_length = p->a.pad_to_max_length
                             || (p->model && p->model->config.pad_to_max_length);
    config.with_targets = p->a.encoding == MRC_ENCODING_SENTINEL;
    return config;
}

static void load_inputs(prediction_run *p) {
    predict_args *a = &p->a;
    const char *tokenizer = a->tokenizer_name ? a->tokenizer_name : a->model_name_or_path;
    tool_load_notes notes = { .path = a->model_name_or_path };
    mrc_model_load_desc desc = { .path = a->model_name_or_path,
                                 .dtype = tool_precision_dtype(&a->precision),
                                 .int8_keep = tool_precision_keep(&a->precision),
                                 .for_prediction = 1, .seed = (uint64_t)tool_common.seed,
                                 .note = tool_load_note, .user = &notes,
                                 .threads = tool_common.threads };
    tool_check(p->ctx, mrc_tokenizer_load(p->ctx, &p->tok, tokenizer));
    p->pad_token_id = mrc_tokenizer_special(p->tok).pad;
    if (a->model_name_or_path) {
        tool_reader_features(p->ctx, a->model_name_or_path, &a->max_seq_length, &a->doc_stride);
    }
    if (!a->logits) {
        tool_check(p->ctx, mrc_model_load(p->ctx, &p->model, &desc));
        tool_load_notes_end(&notes);
        tool_check_fit(&p->model->config, a->model_name_or_path, p->tok, tokenizer,
                       &a->max_seq_length, &a->doc_stride);
    } else {
        if (!a->max_seq_length) a->max_seq_length = 512;
        tool_check_stride(a->max_seq_length, &a->doc_stride);
    }
    mrc_features_config config = features_config(p);
    // The study's encoder looks for the answer; otherwise every question gets its answer, also one
    // whose own answers are missing or wrong.
    // The folds of train are of the rows that train uses.
    tool_check(p->ctx, a->encoding == MRC_ENCODING_SENTINEL || a->num_folds
               ? mrc_dataset_load(p->ctx, &p->set, a->test_file)
               : mrc_dataset_load_questions(p->ctx, &p->set, a->test_file));
    if (a->num_folds) {
        p->all = p->set;
        p->set = tool_fold(p->ctx, p->all, a->test_file, a->num_folds, a->fold, 1);
    }
    tool_check(p->ctx, mrc_features_new(p->ctx, &p->features, p->set, p->tok, &config));
    if (mrc_dataset_size(p->set) == 0) {
        tool_fail(TOOL_BAD_INPUT, "%s: nothing to answer (found 0 of %zu rows kept, expected at "
                  "least 1)", a->test_file, mrc_dataset_rows(p->set));
    }
    tool_note("%s: %zu rows -> %zu kept, %zu windows", a->test_file, mrc_dataset_rows(p->set),
              p->features.kept, p->features.n);
}

static void make_room(prediction_run *p) {
    size_t run = 0, at = 0;
    p->begin = tool_allocate(p->features.n, sizeof *p->begin);
    for (size_t i = 0; i < p->features.n; i++) {
        const mrc_feature *f = &p->features.list[i];
        run = i && f->example_index == f[-1].example_index ? run + 1 : 1;
        if (run > p->most) p->most = run;
        if ((size_t)f->length > p->width) p->width = (size_t)f->length;
        p->begin[i] = at;               // ids take more, so this cannot overflow
        at += 2 * (size_t)f->length;
    }
    p->logits = tool_allocate(at, sizeof *p->logits);
    p->windows = tool_allocate(p->most, sizeof *p->windows);
    p->spans = tool_allocate(p->a.n_best_size + 1, sizeof *p->spans);
}

//==============================================================================
// Logits: from the model, or from --logits
//==============================================================================
static mrc_status take_window(mrc_ctx *ctx, void *user, const mrc_feature *f, const float *start,
                              const float *end) {
    prediction_run *p = user;
    float *logits = p->logits + p->begin[f - p->features.list];
    (void)ctx;
    memcpy(logits, start, (size_t)f->length * sizeof *logits);
    memcpy(logits + f->length, end, (size_t)f->length * sizeof *logits);
    return MRC_OK;
}

static mrc_status show_progress(void *user, size_t done, size_t total) {
    prediction_run *p = user;
    (void)total;
    tool_bar_update(&p->bar, done, NULL);
    return MRC_OK;
}

static void run_model(prediction_run *p) {
    mrc_predict_desc desc = { .features = &p->features, .batch_size = p->a.batch_size,
                              .by_length = 1, .random = { (uint64_t)tool_common.seed, 0, 0 },
                              .fn = take_window, .user = p, .progress = show_progress };
    double begun = tool_seconds();
    tool_bar_begin(&p->bar, "predict", p->features.n, 0);
    tool_check(p->ctx, mrc_predict(p->ctx, p->model, &desc));
    tool_bar_end(&p->bar, NULL);
    double seconds = tool_seconds() - begun;
    tool_note("%s: %zu windows in %.1f s, %.1f windows/s, %zu MiB at most", p->a.test_file,
              p->features.n, seconds, (double)p->features.n / (seconds > 0 ? seconds : 1e-9),
              tool_peak_bytes() >> 20);
}

// One of the two tensors: `which` 0 start, 1 end.
static void read_logits(prediction_run *p, mrc_weights *file, int which) {
    const char *name = which ? "end_logits" : "start_logits";
    const mrc_st_entry *e = mrc_weights_find(file, name);
    if (!e || e->ndim != 2 || e->shape[0] != p->features.n || e->shape[1] < p->width) {
        tool_fail(TOOL_BAD_INPUT, "%s: %s does not fit %s (found %llu windows of %llu tokens, "
                  "expected %zu of at least %zu)", p->a.logits, name, p->a.test_file,
                  e ? (unsigned long long)e->shape[0] : 0,
                  e && e->ndim > 1 ? (unsigned long long)e->shape[1] : 0, p->features.n, p->width);
    }
    float *rows = tool_allocate((size_t)e->numel, sizeof *rows);
    tool_check(p->ctx, mrc_weights_read(file, e, MRC_DTYPE_F32, rows));
    for (size_t i = 0; i < p->features.n; i++) {
        size_t n = (size_t)p->features.list[i].length;
        memcpy(p->logits + p->begin[i] + (which ? n : 0), rows + i * (size_t)e->shape[1],
               n * sizeof *rows);
    }
    free(rows);
}

static void load_logits(prediction_run *p) {
    mrc_weights *file;
    tool_check(p->ctx, mrc_safetensors_open(p->ctx, &file, p->a.logits));
    for (int which = 0; which < 2; which++) read_logits(p, file, which);
    mrc_weights_close(file);
}

//==============================================================================
// Answers: three files as Python's json.dumps(indent=4) writes them
//==============================================================================
static mrc_decode_config decode_config(const predict_args *a) {
    mrc_decode_config config = mrc_decode_config_default();
    config.kind = (mrc_decode_kind)a->postprocess;
    config.n_best_size = a->n_best_size;
    config.max_answer_length = a->max_answer_length;
    config.version_2_with_negative = a->version_2_with_negative;
    config.null_score_diff_threshold = a->null_score_diff_threshold;
    config.max_context = a->max_context;
    config.temperature = a->temperature;
    return config;
}

static void add_id(mrc_text *t, size_t index, const mrc_example *x) {
    mrc_text_printf(t, "%s\n    ", index ? "," : "{");
    mrc_text_json_string(t, x->id, strlen(x->id), 1);
    mrc_text_add(t, ": ", 2);
}

static const char *span_text(prediction_run *p, const mrc_span *span, const mrc_example *x,
                             size_t *bytes) {
    p->words.bytes = 0;
    const char *text = mrc_span_text(span, x, &p->words, bytes);
    tool_check_text(&p->words);
    return text;
}

// A span's keys in the order of HF's code: its fallback has the text first, the legacy code the
// probability second.
static void add_span(prediction_run *p, const mrc_span *span, const mrc_example *x) {
    static const char *const orders[] = { "setp", "tsep", "tpse" };
    mrc_text *t = &p->n_best;
    size_t bytes;
    const char *text = span_text(p, span, x, &bytes);
    const char *order = orders[p->a.postprocess == MRC_DECODE_LEGACY ? 2
                               : span->kind == MRC_SPAN_EMPTY];
    for (const char *key = order; *key; key++) {
        mrc_text_printf(t, "%s            \"%s\": ", key == order ? "" : ",\n",
                        *key == 's' ? "start_logit" : *key == 'e' ? "end_logit"
                        : *key == 'p' ? "probability" : "text");
        if (*key == 't') mrc_text_json_string(t, text, bytes, 1);
        else mrc_text_number(t, *key == 's' ? (double)span->start_logit
                                : *key == 'e' ? (double)span->end_logit : span->probability);
    }
}

// What the pipeline gives for a span.
static void add_scored(prediction_run *p, const mrc_span *span, const mrc_example *x) {
    mrc_text *t = &p->n_best;
    size_t bytes;
    const char *text = span_text(p, span, x, &bytes);
    mrc_text_printf(t, "            \"score\": ");
    mrc_text_number(t, span->probability);
    mrc_text_printf(t, ",\n            \"start\": %d,\n            \"end\": %d,\n"
                    "            \"answer\": ", (int)span->begin, (int)span->end);
    mrc_text_json_string(t, text, bytes, 1);
}

// The question at `index`, whose n windows are the features from `first` on.
static void answer(prediction_run *p, size_t index, size_t first, size_t n) {
    const mrc_example *x = mrc_dataset_at(p->set, index);
    mrc_decode_config config = decode_config(&p->a);
    mrc_decode_input in = { .windows = p->windows, .n_windows = n, .example = x,
                            .tokenizer = p->tok };
    size_t bytes, n_spans;
    double odds;
    for (size_t i = 0; i < n; i++) {
        const mrc_feature *f = &p->features.list[first + i];
        const float *logits = p->logits + p->begin[first + i];
        p->windows[i] = (mrc_window_logits){ .feature = f, .start = logits,
                                             .end = logits + f->length };
    }
    tool_check(p->ctx, mrc_decode(p->ctx, &config, &in, p->spans, config.n_best_size + 1,
                                  &n_spans));
    const mrc_span *best = mrc_decode_answer(&config, p->spans, n_spans, &odds);
    const char *text = span_text(p, best, x, &bytes);
    add_id(&p->answers, index, x);
    mrc_text_json_string(&p->answers, text, bytes, 1);
    add_id(&p->n_best, index, x);
    mrc_text_printf(&p->n_best, n_spans ? "[\n" : "[");
    for (size_t i = 0; i < n_spans; i++) {
        mrc_text_printf(&p->n_best, "        {\n");
        (p->a.postprocess == MRC_DECODE_PIPELINE ? add_scored : add_span)(p, &p->spans[i], x);
        mrc_text_printf(&p->n_best, "\n        }%s\n", i + 1 == n_spans ? "" : ",");
    }
    mrc_text_printf(&p->n_best, n_spans ? "    ]" : "]");
    add_id(&p->odds, index, x);
    mrc_text_number(&p->odds, odds);
}

static void answer_all(prediction_run *p) {
    size_t first = 0;
    for (size_t index = 0; index < mrc_dataset_size(p->set); index++) {
        size_t n = 0;
        while (first + n < p->features.n
               && (size_t)p->features.list[first + n].example_index == index) n++;
        answer(p, index, first, n);
        first += n;
    }
}

// The path of a file of the output directory.
static const char *output_path(const predict_args *a, char path[TOOL_PATH_BYTES],
                               const char *name) {
    char file[TOOL_PATH_BYTES];
    snprintf(file, sizeof file, "%s%s%s", a->prefix ? a->prefix : "", a->prefix ? "_" : "", name);
    return tool_path(path, a->output_dir, file);
}

static void save_file(prediction_run *p, mrc_text *t, const char *name) {
    char path[TOOL_PATH_BYTES];
    mrc_text_add(t, "\n}\n", 3);
    tool_check_text(t);
    tool_check(p->ctx, mrc_file_write(p->ctx, output_path(&p->a, path, name), t->data, t->bytes));
    tool_note("%s: %zu questions", path, mrc_dataset_size(p->set));
}

static void save_answers(prediction_run *p) {
    tool_check(p->ctx, mrc_dir_new(p->ctx, p->a.output_dir));
    save_file(p, &p->n_best, "nbest_predictions.json");
    if (p->a.version_2_with_negative && p->a.postprocess != MRC_DECODE_PIPELINE) {
        save_file(p, &p->odds, "null_odds.json");
    }
    save_file(p, &p->answers, "predictions.json");
}

//==============================================================================
// --save_logits: one row per window, padded to the longest
//==============================================================================
enum { PART_INPUT_IDS, PART_MASK, PART_OFFSETS, PART_EXAMPLE, PART_START, PART_END, PARTS };
typedef struct logits_part { const prediction_run *p; int part; } logits_part;

// Element `index` of a part: a 64-bit integer, or a float in *f.
static int64_t part_element(const logits_part *of, uint64_t index, float *f) {
    const prediction_run *p = of->p;
    size_t per_row = of->part == PART_OFFSETS ? 2 * p->width
                   : of->part == PART_EXAMPLE ? 1 : p->width;
    size_t row = (size_t)(index / per_row), at = (size_t)(index % per_row);
    const mrc_feature *feature = &p->features.list[row];
    size_t length = (size_t)feature->length;
    int32_t pad = p->pad_token_id;
    switch (of->part) {
    case PART_INPUT_IDS: return at < length ? feature->input_ids[at] : pad;
    case PART_MASK:      return at < (size_t)feature->real_len;
    case PART_OFFSETS:   return at / 2 < length ? feature->offset_mapping[at / 2][at % 2] : -1;
    case PART_EXAMPLE:   return feature->example_index;
    default:
        *f = -HUGE_VALF;
        if (at < length) {
            *f = p->logits[p->begin[row] + (of->part == PART_END ? length : 0) + at];
        }
        return 0;
    }
}

static mrc_status part_fill(mrc_ctx *ctx, void *user, uint64_t offset, void *dst, size_t bytes) {
    const logits_part *of = user;
    int is_float = of->part == PART_START || of->part == PART_END;
    size_t size = is_float ? sizeof(float) : sizeof(int64_t);
    (void)ctx;
    for (size_t done = 0; done < bytes;) {
        float f = 0;
        int64_t i = part_element(of, (offset + done) / size, &f);
        size_t skip = (size_t)((offset + done) % size), n = size - skip;
        if (n > bytes - done) n = bytes - done;
        memcpy((char *)dst + done, (is_float ? (const char *)&f : (const char *)&i) + skip, n);
        done += n;
    }
    return MRC_OK;
}

static void save_logits(prediction_run *p) {
    static const char *const names[PARTS] = { "input_ids", "attention_mask", "offset_mapping",
                                              "example_index", "start_logits", "end_logits" };
    logits_part parts[PARTS];
    mrc_st_tensor list[PARTS];
    for (int i = 0; i < PARTS; i++) {
        parts[i] = (logits_part){ p, i };
        list[i] = (mrc_st_tensor){ .name = names[i], .dtype = i >= PART_START ? "F32" : "I64",
                                   .ndim = i == PART_OFFSETS ? 3 : i == PART_EXAMPLE ? 1 : 2,
                                   .shape = { p->features.n, p->width, 2 }, .fill = part_fill,
                                   .user = &parts[i] };
    }
    tool_make_parent(p->ctx, p->a.save_logits);
    tool_check(p->ctx, mrc_safetensors_write(p->ctx, p->a.save_logits, list, PARTS, NULL));
    tool_note("%s: the logits of %zu windows", p->a.save_logits, p->features.n);
}

//==============================================================================
// main
//==============================================================================
// Before the work begins: whether each file that it will write could be written.
static void try_outputs(const predict_args *a) {
    const int odds = a->version_2_with_negative && a->postprocess != MRC_DECODE_PIPELINE;
    const char *const names[] = { "predictions.json", "nbest_predictions.json", "null_odds.json" };
    char path[TOOL_PATH_BYTES];
    if (a->prefix && strchr(a->prefix, '/')) {
        tool_fail(TOOL_USAGE, "--prefix: begins a file's name, which has no / (found %s; the "
                  "folder is --output_dir's)", a->prefix);
    }
    tool_try_place(a->output_dir, 1);
    for (int i = 0; i < 2 + odds; i++) tool_try_place(output_path(a, path, names[i]), 0);
}

static void check_usage(const predict_args *a) {
    if (a->encoding == MRC_ENCODING_OFFSETS && !a->output_dir) {
        tool_fail(TOOL_USAGE, "--output_dir is missing (found nothing, expected DIR; see --help)");
    }
    if (a->encoding == MRC_ENCODING_SENTINEL && !a->save_logits) {
        tool_fail(TOOL_USAGE, "--save_logits is missing: sentinel windows are not decoded (found "
                  "nothing, expected FILE.safetensors)");
    }
    if (!a->model_name_or_path && !(a->logits && a->tokenizer_name)) {
        tool_fail(TOOL_USAGE, "--model_name_or_path is missing (found nothing, expected DIR, or "
                  "--logits with --tokenizer_name; see --help)");
    }
    if (a->logits && a->encoding == MRC_ENCODING_SENTINEL) {
        tool_fail(TOOL_USAGE, "--logits: sentinel windows are not decoded (found %s, expected no "
                  "--encoding sentinel)", a->logits);
    }
    if (a->model_name_or_path && !a->logits) tool_want_model(a->model_name_or_path);
    if (a->output_dir) try_outputs(a);
    if (a->save_logits) tool_try_place(a->save_logits, 0);
}

static prediction_run the_run = { .a = { .doc_stride = SIZE_MAX } };

static int run(tool_program *program) {
    prediction_run *p = &the_run;
    (void)program;
    check_usage(&p->a);
    mrc_backend *be = p->a.logits ? NULL
                    : tool_backend_new_for(tool_precision_dtype(&p->a.precision));
    p->ctx = tool_ctx_new(be, 0);
    mrc_text *texts[] = { &p->answers, &p->n_best, &p->odds, &p->words };
    for (size_t i = 0; i < 4; i++) mrc_text_init(texts[i], p->ctx);
    load_inputs(p);
    make_room(p);
    if (p->a.logits) load_logits(p);
    else run_model(p);
    if (p->a.encoding == MRC_ENCODING_OFFSETS) {
        answer_all(p);
        save_answers(p);
    }
    if (p->a.save_logits) save_logits(p);
    for (size_t i = 0; i < 4; i++) mrc_text_free(texts[i]);
    mrc_features_free(&p->features);
    mrc_dataset_free(p->set);
    mrc_dataset_free(p->all);
    mrc_tokenizer_free(p->tok);
    mrc_ctx_free(p->ctx);
    mrc_model_free(p->model);
    mrc_backend_free(be);
    free(p->begin);
    free(p->logits);
    free(p->windows);
    free(p->spans);
    return tool_finish();
}

#define A the_run.a
static tool_flag the_flags[] = {
    { .name = "model_name_or_path", .group = "model",
      .string = &A.model_name_or_path, .value = "DIR",
      .otherwise = "none; needed but with --logits",
      .help = "a model directory: what train wrote, or Hugging Face's" },
    { .name = "tokenizer_name", .string = &A.tokenizer_name, .value = "DIR",
      .otherwise = "the model directory", .help = "a directory with the vocabulary, or vocab.txt" },
    { .name = "test_file", .group = "data", .string = &A.test_file, .value = "FILE", .required = 1,
      .help = "the questions: SQuAD, KorQuAD or KLUE JSON, or JSONL; answers are not needed" },
    { .name = "num_folds", .size = &A.num_folds, .preset = "0", .max = 1e9,
      .help = "answer one fold of the file alone, split as train does with this --seed; 0: all" },
    { .name = "fold", .size = &A.fold, .preset = "0", .max = 1e9,
      .help = "with --num_folds: which one, from 0" },
    { .name = "output_dir", .alias = "output", .group = "output", .string = &A.output_dir,
      .value = "DIR",
      .otherwise = "none; needed but with --encoding sentinel",
      .help = "where predictions.json, nbest_predictions.json and null_odds.json go" },
    { .name = "prefix", .string = &A.prefix, .value = "TEXT", .otherwise = "none",
      .help = "begins the names of these files: TEXT_predictions.json" },
    { .name = "postprocess", .group = "answers",
      .choice = &A.postprocess, .choices = "squad|pipeline|legacy",
      .preset = "squad", .help = "squad: as Hugging Face's question answering example; pipeline: "
                                 "as the pipeline of transformers 4.57.6, whole words, equal "
                                 "texts added; legacy: as its older code that the KLUE baseline "
                                 "decodes with" },
    { .name = "n_best_size", .size = &A.n_best_size, .preset = "20", .min = 1, .max = 1000,
      .help = "best starts and best ends that are combined" },
    READER_ANSWER_FLAGS(A),
    { .name = "max_context", .flag = &A.max_context,
      .help = "an answer begins only in the window that shows most around its first token" },
    READER_WINDOW_FLAGS(A),
    { .name = "pad_to_max_length", .flag = &A.pad_to_max_length,
      .help = "pad all windows to --max_seq_length; a model that was trained so always is" },
    { .name = "encoding", .choice = &A.encoding, .choices = "offsets|sentinel",
      .preset = "offsets", .help = "offsets: windows over the passage; sentinel: the study's "
                                   "sequences, only with --save_logits" },
    TOOL_PRECISION_FLAGS(A.precision),
    TOOL_TF32_FLAG,
    { .name = "save_logits", .group = "output",
      .string = &A.save_logits, .value = "FILE.safetensors",
      .help = "write ids, offsets and logits of all windows too" },
    { .name = "logits", .string = &A.logits, .value = "FILE.safetensors",
      .help = "decode what --save_logits wrote in place of running the model" },
    { 0 }
};
#undef A

static const tool_foreign foreign[] = {
    { "validation_file", "write --test_file", TOOL_REFUSED },
    { "do_predict", "this program always does", TOOL_IDLE_SWITCH },
    { "do_eval", "write `evaluate` afterwards", TOOL_SWITCH },
    { "do_train", "write `train`", TOOL_SWITCH },
    { "train_file", "write `train`", TOOL_REFUSED },
    { "dataset_name", "it is not downloaded here: in Python, datasets.load_dataset(NAME)[\"test\"]"
      ".to_json(\"test.jsonl\"), then write --test_file test.jsonl", TOOL_REFUSED },
    { "batch_size", "write --per_device_eval_batch_size", TOOL_REFUSED },
    { "max_predict_samples", "not here: write a shorter --test_file", TOOL_REFUSED },
    { "overwrite_output_dir", "files are replaced when all is done", TOOL_IDLE_SWITCH },
    { "overwrite_cache", "there is no cache", TOOL_IDLE_SWITCH },
    { "preprocessing_num_workers", "the file is read in one pass", TOOL_IDLE_VALUE },
    { 0 }
};

static tool_program program = {
    .name = "predict", .group = "answer and score", .run = run, .flags = the_flags,
    .foreign = foreign,
    .purpose = "Answers the questions of a file: each answer is a piece of the question's "
               "passage.",
    .usage = "--model_name_or_path DIR --test_file FILE --output_dir DIR [flags]",
    .examples = { "predict --model_name_or_path out/best --test_file dev.json --output_dir "
                  "answers",
                  "predict --model_name_or_path out --test_file dev.json --output_dir answers "
                  "--max_seq_length 384 --save_logits answers/logits.safetensors" }
};
TOOL_PROGRAM(predict, program)
