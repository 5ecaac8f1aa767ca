// predict: answers the questions of a file with a trained reader.
//
// Each window of a passage gets a start and an end logit per token.  The windows of one question
// follow one another, so they are decoded as soon as the next question begins.
#include "tool.h"

typedef struct predict_args {
    const char *model_name_or_path, *tokenizer_name, *test_file, *output_dir, *save_logits;
    int    encoding, pad_to_max_length;
    size_t n_best_size, max_answer_length, max_seq_length, doc_stride, batch_size;
} predict_args;

typedef struct prediction_run {
    predict_args   a;
    mrc_ctx       *ctx;
    mrc_tokenizer *tok;
    mrc_dataset   *set;
    mrc_features   features;
    mrc_model     *model;
    size_t         width;               // rows of the longest window
    float         *logits;              // (W, 2, width): -inf where a window has no row
    size_t         done;                // windows that have their logits
    mrc_span      *spans;
    mrc_window_logits *windows;         // room for those of one question
    mrc_text       answers;             // predictions.json, growing
    size_t         answered;            // examples written to it
    tool_bar       bar;
} prediction_run;

static void *allocate(size_t n, size_t each) {
    void *p = calloc(n ? n : 1, each);
    if (!p) tool_fail(TOOL_NO_MEMORY, "no memory for %zu times %zu bytes", n, each);
    return p;
}

//==============================================================================
// Inputs
//==============================================================================
static void load_inputs(prediction_run *p) {
    predict_args *a = &p->a;
    const char *tokenizer = a->tokenizer_name ? a->tokenizer_name : a->model_name_or_path;
    tool_load_notes notes = { .path = a->model_name_or_path };
    mrc_model_load_desc desc = { .path = a->model_name_or_path, .dtype = MRC_DTYPE_F32,
                                 .seed = (uint64_t)tool_common.seed, .note = tool_load_note,
                                 .user = &notes };
    tool_check(p->ctx, mrc_tokenizer_load(p->ctx, &p->tok, tokenizer));
    tool_check(p->ctx, mrc_model_load(p->ctx, &p->model, &desc));
    tool_load_notes_end(&notes);
    tool_check_fit(&p->model->config, a->model_name_or_path, p->tok, tokenizer,
                   &a->max_seq_length, &a->doc_stride);
    mrc_features_config config = mrc_features_config_default();
    config.kind = (mrc_encoding_kind)a->encoding;
    config.max_seq_length = a->max_seq_length;
    config.doc_stride = a->doc_stride;
    // A reader that was trained over pads is run over pads.
    config.pad_to_max_length = a->pad_to_max_length || p->model->config.pad_to_max_length;
    config.with_targets = a->encoding == MRC_ENCODING_SENTINEL;
    // The study's encoder looks for the answer; otherwise every question gets its answer, also one
    // whose own answers are missing or wrong.
    tool_check(p->ctx, a->encoding == MRC_ENCODING_SENTINEL
               ? mrc_dataset_load(p->ctx, &p->set, a->test_file)
               : mrc_dataset_load_questions(p->ctx, &p->set, a->test_file));
    tool_check(p->ctx, mrc_features_new(p->ctx, &p->features, p->set, p->tok, &config));
    if (mrc_dataset_size(p->set) == 0) {
        tool_fail(TOOL_BAD_INPUT, "%s: nothing to answer (found 0 of %zu rows kept, expected at "
                  "least 1)", a->test_file, mrc_dataset_rows(p->set));
    }
    tool_note("%s: %zu rows -> %zu kept, %zu windows", a->test_file, mrc_dataset_rows(p->set),
              p->features.kept, p->features.n);
}

static void make_room(prediction_run *p) {
    size_t most = 0, run = 0;
    for (size_t i = 0; i < p->features.n; i++) {
        const mrc_feature *f = &p->features.list[i];
        run = i && f->example_index == f[-1].example_index ? run + 1 : 1;
        if (run > most) most = run;
        if ((size_t)f->length > p->width) p->width = (size_t)f->length;
    }
    // All logits are kept only to be saved; else those of one question.
    size_t kept = p->a.save_logits ? p->features.n : most;
    if (p->width > SIZE_MAX / 8 / (kept + 1)) {
        tool_fail(TOOL_NO_MEMORY, "no memory for the logits of %zu windows", kept);
    }
    p->logits = allocate(kept * 2 * p->width, sizeof *p->logits);
    p->windows = allocate(most, sizeof *p->windows);
    p->spans = allocate(p->a.n_best_size + 1, sizeof *p->spans);
}

//==============================================================================
// Answers
//==============================================================================
// A member of predictions.json, as json.dumps(indent=4) writes it.
static void add_answer(prediction_run *p, const mrc_example *x, const char *text, size_t bytes) {
    mrc_text_printf(&p->answers, "%s\n    ", p->answered++ ? "," : "{");
    mrc_text_json_string(&p->answers, x->id, strlen(x->id), 1);
    mrc_text_add(&p->answers, ": ", 2);
    mrc_text_json_string(&p->answers, text, bytes, 1);
}

// Questions before `index` that have not been answered have no window: nothing can be read there.
static void add_unread(prediction_run *p, size_t index) {
    while (p->answered < index) add_answer(p, mrc_dataset_at(p->set, p->answered), "empty", 5);
}

// The question whose n windows, the first at `first`, have their logits.
static mrc_status answer(prediction_run *p, size_t first, size_t n) {
    mrc_decode_config config = mrc_decode_config_default();
    size_t index = (size_t)p->features.list[first].example_index, n_spans;
    config.n_best_size = p->a.n_best_size;
    config.max_answer_length = p->a.max_answer_length;
    for (size_t i = 0; i < n; i++) {
        const float *logits = p->logits + (p->a.save_logits ? first + i : i) * 2 * p->width;
        p->windows[i] = (mrc_window_logits){ .feature = &p->features.list[first + i],
                                             .start = logits, .end = logits + p->width };
    }
    mrc_status status = mrc_decode(p->ctx, p->windows, n, &config, p->spans, &n_spans);
    if (status != MRC_OK) return status;
    const mrc_example *x = mrc_dataset_at(p->set, index);
    const mrc_span *best = &p->spans[0];
    add_unread(p, index);
    if (best->empty) {
        add_answer(p, x, "empty", 5);
        return MRC_OK;
    }
    size_t begin = mrc_utf8_offset(x->context, x->context_bytes, (size_t)best->begin);
    size_t end = mrc_utf8_offset(x->context, x->context_bytes, (size_t)best->end);
    add_answer(p, x, x->context + begin, end - begin);
    return MRC_OK;
}

// One more window; the last of a question ends it.
static mrc_status take_window(mrc_ctx *ctx, void *user, const mrc_feature *f, const float *start,
                              const float *end) {
    prediction_run *p = user;
    size_t at = p->done++, first = at;
    (void)ctx;
    while (first > 0 && p->features.list[first - 1].example_index == f->example_index) first--;
    float *logits = p->logits + (p->a.save_logits ? at : at - first) * 2 * p->width;
    for (size_t i = 0; i < p->width; i++) {
        int inside = i < (size_t)f->length;
        logits[i] = inside ? start[i] : -HUGE_VALF;
        logits[p->width + i] = inside ? end[i] : -HUGE_VALF;
    }
    int last = at + 1 == p->features.n || f[1].example_index != f->example_index;
    if (!last || p->a.encoding == MRC_ENCODING_SENTINEL) return MRC_OK;
    return answer(p, first, at - first + 1);
}

static mrc_status show_progress(void *user, size_t done, size_t total) {
    prediction_run *p = user;
    (void)total;
    tool_bar_update(&p->bar, done, NULL);
    return MRC_OK;
}

static void run_model(prediction_run *p) {
    mrc_predict_desc desc = { .features = &p->features, .batch_size = p->a.batch_size,
                              .random = { (uint64_t)tool_common.seed, 0, 0 }, .fn = take_window,
                              .user = p, .progress = show_progress };
    double begun = tool_seconds();
    tool_bar_begin(&p->bar, "predict", p->features.n, 0);
    tool_check(p->ctx, mrc_predict(p->ctx, p->model, &desc));
    tool_bar_end(&p->bar, NULL);
    double seconds = tool_seconds() - begun;
    tool_note("%s: %zu windows in %.1f s, %.1f windows/s, %zu MiB at most", p->a.test_file,
              p->features.n, seconds, (double)p->features.n / (seconds > 0 ? seconds : 1e-9),
              tool_peak_bytes() >> 20);
}

static void save_answers(prediction_run *p) {
    char path[TOOL_PATH_BYTES];
    add_unread(p, mrc_dataset_size(p->set));
    mrc_text_add(&p->answers, "\n}\n", 3);
    if (p->answers.failed) tool_fail(TOOL_NO_MEMORY, "%s", mrc_status_string(MRC_ERR_MEM));
    tool_check(p->ctx, mrc_dir_new(p->ctx, p->a.output_dir));
    tool_check(p->ctx, mrc_file_write(p->ctx, tool_path(path, p->a.output_dir, "predictions.json"),
                                      p->answers.data, p->answers.bytes));
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
    int32_t pad = p->model->config.pad_token_id;
    switch (of->part) {
    case PART_INPUT_IDS: return at < length ? feature->input_ids[at] : pad;
    case PART_MASK:      return at < (size_t)feature->real_len;
    case PART_OFFSETS:   return at / 2 < length ? feature->offset_mapping[at / 2][at % 2] : -1;
    case PART_EXAMPLE:   return feature->example_index;
    default:
        *f = p->logits[(2 * row + (of->part == PART_END)) * p->width + at];
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
    tool_check(p->ctx, mrc_safetensors_write(p->ctx, p->a.save_logits, list, PARTS, NULL));
}

//==============================================================================
// main
//==============================================================================
static void check_usage(const predict_args *a) {
    if (a->encoding == MRC_ENCODING_OFFSETS && !a->output_dir) {
        tool_fail(TOOL_USAGE, "--output_dir is missing (found nothing, expected DIR; see --help)");
    }
    if (a->encoding == MRC_ENCODING_SENTINEL && !a->save_logits) {
        tool_fail(TOOL_USAGE, "--save_logits is missing: sentinel windows are not decoded (found "
                  "nothing, expected FILE.safetensors)");
    }
    if (a->output_dir && mrc_file_exists(a->output_dir) == 1) {
        tool_fail(TOOL_BAD_INPUT, "%s: is no directory (found a file)", a->output_dir);
    }
}

static int run_program(prediction_run *p, tool_program *program, int argc, char **argv) {
    tool_start(program, argc, argv);
    check_usage(&p->a);
    mrc_backend *be = tool_backend_new();
    p->ctx = tool_ctx_new(be, 0);
    mrc_text_init(&p->answers, p->ctx);
    load_inputs(p);
    make_room(p);
    run_model(p);
    if (p->a.encoding == MRC_ENCODING_OFFSETS) save_answers(p);
    if (p->a.save_logits) save_logits(p);
    mrc_text_free(&p->answers);
    mrc_features_free(&p->features);
    mrc_dataset_free(p->set);
    mrc_tokenizer_free(p->tok);
    mrc_ctx_free(p->ctx);
    mrc_model_free(p->model);
    mrc_backend_free(be);
    free(p->logits);
    free(p->windows);
    free(p->spans);
    return tool_finish();
}

static prediction_run the_run;
#define A the_run.a
static tool_flag the_flags[] = {
    { .name = "model_name_or_path", .string = &A.model_name_or_path, .value = "DIR",
      .required = 1, .help = "a model directory: what train wrote, or Hugging Face's" },
    { .name = "tokenizer_name", .string = &A.tokenizer_name, .value = "DIR",
      .otherwise = "the model directory", .help = "a directory with the vocabulary, or vocab.txt" },
    { .name = "test_file", .string = &A.test_file, .value = "FILE", .required = 1,
      .help = "the questions: SQuAD, KorQuAD or KLUE JSON, or JSONL; answers are not needed" },
    { .name = "output_dir", .string = &A.output_dir, .value = "DIR",
      .otherwise = "none; needed but with --encoding sentinel",
      .help = "where predictions.json goes" },
    { .name = "n_best_size", .size = &A.n_best_size, .preset = "20", .min = 1, .max = 1000,
      .help = "best starts and best ends that are combined" },
    { .name = "max_answer_length", .size = &A.max_answer_length, .preset = "30", .min = 1,
      .max = 65536, .unit = "tokens", .help = "of an answer" },
    { .name = "max_seq_length", .size = &A.max_seq_length, .min = 8, .max = 65536,
      .unit = "tokens", .otherwise = "512, or what the model allows",
      .help = "of a window, question and special tokens included" },
    { .name = "doc_stride", .size = &A.doc_stride, .max = 65536, .unit = "tokens",
      .otherwise = TOOL_STRIDE_HELP, .help = "overlap of two windows" },
    { .name = "pad_to_max_length", .flag = &A.pad_to_max_length,
      .help = "pad all windows to --max_seq_length; a model that was trained so always is" },
    { .name = "encoding", .choice = &A.encoding, .choices = "offsets|sentinel",
      .preset = "offsets", .help = "offsets: windows over the passage; sentinel: the study's "
                                   "sequences, only with --save_logits" },
    { .name = "per_device_eval_batch_size", .size = &A.batch_size, .preset = "8", .min = 1,
      .max = 65536, .help = "windows in memory at a time" },
    { .name = "save_logits", .string = &A.save_logits, .value = "FILE.safetensors",
      .help = "write ids, offsets and logits of all windows too" },
    { 0 }
};
#undef A

int main(int argc, char **argv) {
    tool_program program = {
        .name = "predict", .flags = the_flags,
        .purpose = "Answers the questions of a file: each answer is a piece of the question's "
                   "passage.",
        .usage = "--model_name_or_path DIR --test_file FILE --output_dir DIR [flags]",
        .examples = { "predict --model_name_or_path out/best --test_file dev.json --output_dir "
                      "answers",
                      "predict --model_name_or_path out --test_file dev.json --output_dir answers "
                      "--max_seq_length 384 --save_logits answers/logits.safetensors" }
    };
    the_run.a.doc_stride = SIZE_MAX;
    return run_program(&the_run, &program, argc, argv);
}
