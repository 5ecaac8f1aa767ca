// train: teaches a reader from question-answering data; saves, resumes, keeps the best.
//
// A run is a function of its flags, its input files, the backend and the build.  Everything that
// decides the next weights and the next line of log.jsonl is in `run_state`, which each checkpoint
// records, so that a killed run goes on and ends with the bytes of one that was not killed.  The
// order within a step: weights, log line, checkpoint (it records whether an evaluation is to come),
// evaluation with its log line, best/.
//
// The output directory, in the order in which things appear there:
//     log.jsonl               appended to; synced before a checkpoint records its length
//     logs.json, runs/, wandb/    with --report_to: they follow log.jsonl (logs.h)
//     best/                   a model directory, replaced by renaming
//     checkpoint-<step>/      contract E of mrc.h
//     the final model, *_results.json, and last trainer_state.json with "finished": true
#include "logs.h"
#include <sys/file.h>
#include <sys/stat.h>

enum { COMPAT_NONE, COMPAT_REFERENCE };
#define SKIPS_IN_A_ROW 3                // skipped steps before the run gives up
#define RECENT_LOSSES 128               // what a loss is held against: so many before it,
#define RECENT_ENOUGH 32                // as soon as there are so many
enum { SPIKE_OFF, SPIKE_WARN, SPIKE_SKIP, SPIKE_ROLLBACK };

typedef struct train_args {
    const char *model_name_or_path, *config_name, *tokenizer_name;
    const char *train_file, *validation_file, *output_dir, *resume_from_checkpoint;
    int     head, encoding, batching, optim, schedule, compat, metric, postprocess;
    int     version_2_with_negative;
    double  null_score_diff_threshold;
    size_t  num_rnn_layers, rnn_hidden_size;
    double  rnn_dropout;
    size_t  max_seq_length, doc_stride, n_best_size, max_answer_length;
    size_t  train_batch_size, eval_batch_size, accumulation;
    double  learning_rate, weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm;
    double  warmup_ratio, num_train_epochs;
    size_t  warmup_steps, eval_steps, logging_steps, save_steps, save_total_limit;
    int64_t max_steps;
    int     pad_to_max_length, gradient_checkpointing, overwrite_output_dir, do_train, do_eval;
    int     fp16, bf16;
    int     loss, loss_variant, loss_positions, loss_spike, nesterov, greater_is_better;
    double  gamma, smoothing, rdrop_alpha, fgm_epsilon;
    double  momentum, adamp_delta, adamp_wd_ratio, ema_decay, layerwise_lr_decay;
    double  head_learning_rate, lr_num_cycles, lr_power, lr_end;
    size_t  head_kernel_size, freeze_layers, num_folds, fold, patience;
    const char *metric_for_best_model, *config;
    tool_list   report_to;
    const char *logging_dir, *run_name;
    int     eval_strategy, validation, debug;
    size_t  max_train_samples, max_eval_samples;
} train_args;

// What a checkpoint brings back, beside weights and moments.
typedef struct run_state {
    uint64_t step;                      // optimizer steps attempted
    double   window_sum, window_weight; // losses since the last logging event
    double   loss_sum;                  // of all steps that were not skipped
    uint64_t skipped, skipped_in_a_row;
    double   recent[RECENT_LOSSES];     // losses of steps that were not skipped, oldest first
    size_t   n_recent;
    int      has_best, has_eval, evaluate;  // evaluate: the one of this step is still to be done
    double   best_metric;
    uint64_t best_step, eval_step;
    uint64_t stale;                     // evaluations since the best one
    int      stopped;                   // --patience is at its end
    mrc_eval_result eval;               // the latest
    double   eval_seconds, seconds;     // seconds: of training, all processes of the run together
    uint64_t log_bytes;
    uint32_t log_crc;
    uint64_t tokens;                    // that have been trained on, pads too
} run_state;

typedef struct run {
    train_args     a;
    tool_flag     *flags;
    mrc_backend   *be;
    mrc_ctx       *ctx;
    mrc_tokenizer *tok;
    const char    *tokenizer_dir;
    mrc_dataset   *train_set, *validation_set;
    mrc_dataset   *all_set;             // with folds: what both are parts of
    int            validation_said;     // the line with its rows has been printed
    mrc_dataset   *whole_train, *whole_validation;  // with --max_train_samples and its like
    mrc_features   train, validation;
    mrc_model     *model;
    mrc_model_config model_config;
    mrc_optimizer *optimizer;
    run_state      s;
    mrc_text       identity;            // flags and inputs as JSON members
    char           checkpoint[TOOL_PATH_BYTES]; // resumed from; "": began at step 0
    uint64_t       saved_step;          // of the newest checkpoint, UINT64_MAX: none
    mrc_batch_plan plan;                // of `epoch`; batch `at` is next
    uint32_t       epoch;
    size_t         at, fixed_batches;   // fixed_batches: of every epoch; 0: they differ
    uint64_t       total_steps, warmup_steps;
    const mrc_feature **batch;          // room for one optimizer step's
    int            lock, log;           // file descriptors; -1: not open
    tool_logs      logs;
    mrc_text       args_text;           // train_args.json
    mrc_text       history;             // log_history: the lines of log.jsonl as HF has them
    double         best_acc;            // the highest eval/accuracy that was logged
    double         last_loss;           // the latest train/loss that was logged, 0: none
    size_t         step_bytes;          // of the step arena, as planned
    double         begun;               // seconds
    tool_bar       bar;
} run;

//==============================================================================
// Flags
//==============================================================================
// Keys of the study's config.yaml that its program read and never used: a file that has them means
// what it meant there, a command line means what it says.
static void unused_in_study(const tool_program *p, const char *name, int used) {
    if (used && tool_given(p, name) == TOOL_CONFIGURED) {
        tool_note("%s: %s is not used, as in the study (--%s on the command line is)",
                  *p->config, name, name);
    }
}
static void resolve_unused(train_args *a, const tool_program *p) {
    unused_in_study(p, "warmup_steps", a->warmup_steps > 0);
    unused_in_study(p, "weight_decay", a->weight_decay > 0);
    if (tool_given(p, "warmup_steps") == TOOL_CONFIGURED) a->warmup_steps = 0;
    if (tool_given(p, "weight_decay") == TOOL_CONFIGURED) a->weight_decay = 0;
}

// What --compat reference means (PARITY 0), and what contradicts it.
static void resolve_compat(run *r, const tool_program *p) {
    train_args *a = &r->a;
    if (a->compat != COMPAT_REFERENCE) return;
    if (tool_given(p, "encoding") && a->encoding != MRC_ENCODING_SENTINEL) {
        tool_fail(TOOL_USAGE, "--encoding: --compat reference trains on sentinels (found offsets, "
                  "expected sentinel)");
    }
    if (tool_given(p, "max_grad_norm") && a->max_grad_norm != 0) {
        tool_fail(TOOL_USAGE, "--max_grad_norm: --compat reference does not clip (found %g, "
                  "expected 0)", a->max_grad_norm);
    }
    if (tool_given(p, "pad_to_max_length") && !a->pad_to_max_length) {
        tool_fail(TOOL_USAGE, "--pad_to_max_length: --compat reference pads (found false, "
                  "expected true)");
    }
    a->encoding = MRC_ENCODING_SENTINEL;
    a->pad_to_max_length = 1;
    a->max_grad_norm = 0;
    resolve_unused(a, p);
    if (!tool_given(p, "loss_variant")) a->loss_variant = 1;
    if (!tool_given(p, "gamma")) a->gamma = 1;
}

// What is of no use without another flag, or contradicts it.
static void check_experiment(run *r, const tool_program *p) {
    train_args *a = &r->a;
    if (a->num_folds && a->validation_file) {
        tool_fail(TOOL_USAGE, "--num_folds: a fold of --train_file is measured on (found "
                  "--validation_file too, expected one of them)");
    }
    if (a->patience && !a->validation_file && !a->num_folds) {
        tool_fail(TOOL_USAGE, "--patience: nothing is measured (found neither --validation_file "
                  "nor --num_folds, expected one)");
    }
    if (a->fgm_epsilon > 0 && a->freeze_layers) {
        tool_fail(TOOL_USAGE, "--fgm_epsilon: moves the word embeddings, which --freeze_layers "
                  "freezes (found both, expected one)");
    }
    static const struct { const char *flag; int loss; } of[] = { { "gamma", 1 },
                                                                  { "smoothing", 2 } };
    for (int i = 0; i < 2; i++) {
        if (tool_given(p, of[i].flag) != TOOL_GIVEN || a->loss == of[i].loss) continue;
        tool_fail(TOOL_USAGE, "--%s: is not of this --loss (found --%s, expected --loss %s with "
                  "it)", of[i].flag, of[i].flag, i ? "label_smoothing" : "focal");
    }
}

// The figures of an evaluation: what they are called in log.jsonl and by --metric_for_best_model,
// whether more is better, and when they are measured.
enum { OF_ALL, OF_OFFSETS, OF_KLUE, OF_HAS, OF_NONE, OF_BEST };
static const struct { const char *name; int greater, of; size_t at; } metrics[] = {
    { "loss", 0, OF_ALL, offsetof(mrc_eval_result, loss) },
    { "start_accuracy", 1, OF_ALL, offsetof(mrc_eval_result, start_accuracy) },
    { "end_accuracy", 1, OF_ALL, offsetof(mrc_eval_result, end_accuracy) },
    { "accuracy", 1, OF_ALL, offsetof(mrc_eval_result, accuracy) },
    { "exact_match", 1, OF_OFFSETS, offsetof(mrc_eval_result, exact_match) },
    { "f1", 1, OF_OFFSETS, offsetof(mrc_eval_result, f1) },
    { "rouge_w", 1, OF_KLUE, offsetof(mrc_eval_result, f1) },
    { "HasAns_exact", 1, OF_HAS, offsetof(mrc_eval_result, answerable.exact) },
    { "HasAns_f1", 1, OF_HAS, offsetof(mrc_eval_result, answerable.f1) },
    { "NoAns_exact", 1, OF_NONE, offsetof(mrc_eval_result, unanswerable.exact) },
    { "NoAns_f1", 1, OF_NONE, offsetof(mrc_eval_result, unanswerable.f1) },
    { "best_exact", 1, OF_BEST, offsetof(mrc_eval_result, best_exact) },
    { "best_exact_thresh", 1, OF_BEST, offsetof(mrc_eval_result, best_exact_threshold) },
    { "best_f1", 1, OF_BEST, offsetof(mrc_eval_result, best_f1) },
    { "best_f1_thresh", 1, OF_BEST, offsetof(mrc_eval_result, best_f1_threshold) } };
enum { N_METRICS = sizeof metrics / sizeof *metrics };

// Whether this run measures figure i.
static int is_measured(const train_args *a, int i) {
    const int v2 = a->metric == MRC_METRIC_SQUAD_V2;
    if (metrics[i].of == OF_ALL) return 1;
    if (a->encoding != MRC_ENCODING_OFFSETS) return 0;
    if (metrics[i].of == OF_KLUE) return a->metric == MRC_METRIC_KLUE;
    if (metrics[i].of == OF_BEST) {
        return v2 && a->version_2_with_negative && a->postprocess != MRC_DECODE_PIPELINE;
    }
    return metrics[i].of == OF_OFFSETS || v2;
}

static double figure_of(const mrc_eval_result *e, int i) {
    double value;
    memcpy(&value, (const char *)e + metrics[i].at, sizeof value);
    return value;
}

// As Hugging Face takes it: with eval_ or without.  Leaves the bare name.
static void resolve_metric(run *r, const tool_program *p) {
    train_args *a = &r->a;
    char known[512] = "";
    // As run_qa.py: data with unanswerable questions is measured as SQuAD 2 is.
    if (!tool_given(p, "metric") && a->version_2_with_negative) a->metric = MRC_METRIC_SQUAD_V2;
    if (!a->metric_for_best_model) {
        a->metric_for_best_model = a->encoding == MRC_ENCODING_OFFSETS ? "exact_match" : "accuracy";
    }
    const char *name = a->metric_for_best_model;
    if (!strncmp(name, "eval_", 5) || !strncmp(name, "eval/", 5)) name += 5;
    for (int i = 0; i < N_METRICS; i++) {
        if (!is_measured(a, i)) continue;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", metrics[i].name);
        if (strcmp(name, metrics[i].name)) continue;
        a->metric_for_best_model = metrics[i].name;
        if (!tool_given(p, "greater_is_better")) a->greater_is_better = metrics[i].greater;
        return;
    }
    tool_fail(TOOL_USAGE, "--metric_for_best_model: no such metric is measured (found %s, expected "
              "one of %s)", a->metric_for_best_model, known);
}

static double best_value(const run *r) {
    int i = 0;
    while (strcmp(r->a.metric_for_best_model, metrics[i].name)) i++;
    return figure_of(&r->s.eval, i);
}

// --eval_strategy in terms of --eval_steps, whose 0 is each epoch's end.
static void resolve_strategy(run *r, const tool_program *p) {
    enum { AUTO, NO, STEPS, EPOCH };
    train_args *a = &r->a;
    const int given = tool_given(p, "eval_steps");
    if (a->debug) {
        tool_fail(TOOL_USAGE, "--DEBUG: is not a run of its own here (found true, expected false "
                  "with --max_train_samples and --max_eval_samples)");
    }
    if (a->eval_strategy == NO) a->do_eval = 0;
    if (a->eval_strategy == EPOCH && given) {
        tool_fail(TOOL_USAGE, "--eval_strategy: contradicts --eval_steps (found epoch, expected "
                  "steps, or no --eval_steps)");
    }
    if (a->eval_strategy == STEPS && !given) a->eval_steps = a->logging_steps;
    if (a->eval_strategy == STEPS && !a->eval_steps) {
        tool_fail(TOOL_USAGE, "--eval_strategy: says steps, not how many (found neither "
                  "--eval_steps nor --logging_steps, expected one)");
    }
}

static void check_usage(run *r, const tool_program *p) {
    train_args *a = &r->a;
    if (!a->model_name_or_path == !a->config_name) {
        tool_fail(TOOL_USAGE, "the model is not given once (found %s, expected "
                  "--model_name_or_path DIR or --config_name FILE --tokenizer_name DIR)",
                  a->config_name ? "--model_name_or_path and --config_name" : "neither");
    }
    if (a->config_name && !a->tokenizer_name) {
        tool_fail(TOOL_USAGE, "--tokenizer_name is missing (found --config_name alone, expected a "
                  "DIR or vocab.txt with it)");
    }
    if (a->max_steps == 0) {
        tool_fail(TOOL_USAGE, "--max_steps: nothing to train (found 0, expected -1 or above 0)");
    }
    if (!a->do_train) {
        tool_fail(TOOL_USAGE, "--do_train: this program trains (found false, expected true; "
                  "predict and evaluate measure a model)");
    }
    if (a->overwrite_output_dir && a->resume_from_checkpoint) {
        tool_fail(TOOL_USAGE, "--overwrite_output_dir: contradicts --resume_from_checkpoint (found "
                  "both, expected one)");
    }
    if (a->resume_from_checkpoint && strcmp(a->resume_from_checkpoint, "true") == 0) {
        a->resume_from_checkpoint = "";     // as run_qa.py's users write it
    }
    if (a->fp16 && a->bf16) {
        tool_fail(TOOL_USAGE, "--bf16: contradicts --fp16 (found both, expected one)");
    }
    resolve_compat(r, p);
    check_experiment(r, p);
    resolve_metric(r, p);
    tool_logs_check(tool_list_join(&a->report_to));
    resolve_strategy(r, p);
    // Under --compat reference losses are reported where the study did: at its validations.
    if (!tool_given(p, "logging_steps") && a->compat) a->logging_steps = 0;
    if (!a->do_eval) a->validation_file = NULL;
    r->tokenizer_dir = a->tokenizer_name ? a->tokenizer_name : a->model_name_or_path;
}

// What the model computes in; its weights are f32 in any case.
static mrc_dtype model_dtype(const run *r) {
    return r->a.fp16 ? MRC_DTYPE_F16 : r->a.bf16 ? MRC_DTYPE_BF16 : MRC_DTYPE_F32;
}

// Before anything is read: a backend that cannot train in this precision.
static void check_precision(const run *r) {
    const mrc_dtype dtype = model_dtype(r);
    if (r->be->kernels[dtype].linear_bwd) return;
    tool_fail(TOOL_BAD_INPUT, "--%s: the %s backend does not compute in %s (found --%s, expected "
              "no such flag, or --backend naive, which is slow)", r->a.fp16 ? "fp16" : "bf16",
              r->be->name, mrc_dtype_name(dtype), r->a.fp16 ? "fp16" : "bf16");
}

//==============================================================================
// Files of the output directory
//==============================================================================
static int is_run_file(const char *name) {
    static const char *const names[] = {
        "log.jsonl", "logs.json", "trainer_state.json", "train_results.json", "eval_results.json",
        "all_results.json", "train_args.json", "config.json", "model.safetensors", "vocab.txt",
        "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "best", ".best.tmp", ".best.old", NULL };
    for (int i = 0; names[i]; i++) {
        size_t n = strlen(names[i]);
        if (strcmp(name, names[i]) == 0) return 1;
        // What a killed process was writing: NAME.tmp.PID.
        if (strncmp(name, names[i], n) == 0 && strncmp(name + n, ".tmp.", 5) == 0
            && strspn(name + n + 5, "0123456789") == strlen(name + n + 5)) return 2;
    }
    return 0;
}

static int is_checkpoint(const char *name) {
    if (strncmp(name, ".checkpoint-", 12) == 0) return 1;
    return strncmp(name, "checkpoint-", 11) == 0 && name[11]
        && strspn(name + 11, "0123456789") == strlen(name + 11);
}

typedef struct cleaning { const char *dir; int checkpoints, leftovers_only; } cleaning;
static mrc_status clean_one(mrc_ctx *ctx, void *user, const char *name) {
    const cleaning *c = user;
    char path[TOOL_PATH_BYTES];
    int kind = is_run_file(name);
    if (c->leftovers_only ? kind != 2 : !kind && !(c->checkpoints && is_checkpoint(name))) {
        return MRC_OK;
    }
    return mrc_dir_remove(ctx, tool_path(path, c->dir, name));
}

static mrc_status count_one(mrc_ctx *ctx, void *user, const char *name) {
    (void)ctx;
    (void)name;
    ++*(size_t *)user;
    return MRC_OK;
}

// The file locks of other programs and machines do not matter: this is against a second trainer.
static void lock_output(run *r) {
    r->lock = open(r->a.output_dir, O_RDONLY | O_CLOEXEC);
    if (r->lock < 0) {
        tool_fail(TOOL_IO, "%s: cannot be opened: %s", r->a.output_dir, strerror(errno));
    }
    if (flock(r->lock, LOCK_EX | LOCK_NB) == 0) return;
    if (errno == EWOULDBLOCK || errno == EAGAIN) {
        tool_fail(TOOL_BAD_INPUT, "%s: another train is writing there (found its lock, expected "
                  "none)", r->a.output_dir);
    }
    tool_note("%s: cannot be locked (%s): no second train may write there", r->a.output_dir,
              strerror(errno));
}

static void refuse_full(run *r) {
    size_t n = 0;
    tool_check(r->ctx, mrc_dir_list(r->ctx, r->a.output_dir, count_one, &n));
    if (n && !r->a.overwrite_output_dir && !r->a.resume_from_checkpoint) {
        tool_fail(TOOL_BAD_INPUT, "%s: the output directory is not empty (found %zu entries, "
                  "expected none, --overwrite_output_dir or --resume_from_checkpoint)",
                  r->a.output_dir, n);
    }
}

// What the run begins with must not be what it will replace.
static void refuse_own_source(const run *r, const char *flag, const char *path) {
    char *out = path ? realpath(r->a.output_dir, NULL) : NULL;
    char *source = out ? realpath(path, NULL) : NULL;
    size_t n = out ? strlen(out) : 0;
    if (source && strncmp(source, out, n) == 0 && (!source[n] || source[n] == '/')) {
        char *below = source + n + (source[n] == '/');
        below[strcspn(below, "/")] = 0;
        if (!*below || is_run_file(below) || is_checkpoint(below)) {
            tool_fail(TOOL_BAD_INPUT, "%s: --output_dir holds what %s begins with, which would be "
                      "overwritten (found %s, expected another directory)", r->a.output_dir, flag,
                      path);
        }
    }
    free(source);
    free(out);
}

// Before the inputs are read: an output directory that cannot be used ends the run early.
static void open_output(run *r) {
    int kind = mrc_file_exists(r->a.output_dir);
    r->lock = r->log = -1;
    if (kind == 1) {
        tool_fail(TOOL_BAD_INPUT, "%s: is no directory (found a file)", r->a.output_dir);
    }
    refuse_own_source(r, "--model_name_or_path", r->a.model_name_or_path);
    refuse_own_source(r, "--config_name", r->a.config_name);
    refuse_own_source(r, "--tokenizer_name", r->a.tokenizer_name);
    if (kind == 2) {
        lock_output(r);
        refuse_full(r);
    }
}

//==============================================================================
// log.jsonl
//==============================================================================
static void log_fail(const run *r, const char *what) {
    tool_fail(TOOL_IO, "%s/log.jsonl: cannot be %s: %s", r->a.output_dir, what, strerror(errno));
}

// The seconds of training so far, of all processes of the run.
static double train_seconds(const run *r) {
    return r->s.seconds + (r->begun > 0 ? tool_seconds() - r->begun : 0);
}

// Hugging Face's key of one of ours: train/loss is loss, eval/loss is eval_loss.
static const char *history_key(const mrc_json *m, char *out, size_t bytes) {
    snprintf(out, bytes, "%s", strncmp(m->key, "train/", 6) ? m->key : m->key + 6);
    for (char *c = out; *c; c++) {
        if (*c == '/') *c = '_';
    }
    return out;
}

static int by_history_key(const void *a, const void *b) {
    char x[64], y[64];
    return strcmp(history_key(*(const mrc_json *const *)a, x, sizeof x),
                  history_key(*(const mrc_json *const *)b, y, sizeof y));
}

// A line as an entry of log_history, its keys sorted.
static void history_add(run *r, const mrc_json *line) {
    const mrc_json *member[LOG_ITEMS];
    char key[64];
    size_t n = 0;
    for (const mrc_json *m = line->child; m && n < LOG_ITEMS; m = m->next) member[n++] = m;
    qsort(member, n, sizeof *member, by_history_key);
    mrc_text *t = &r->history;
    mrc_text_add(t, ", {", 3);
    for (size_t i = 0; i < n; i++) {
        tool_json_key(t, history_key(member[i], key, sizeof key));
        tool_json_value(t, member[i]);
    }
    mrc_text_add(t, "}", 1);
}

// What follows log.jsonl takes a line of it, new or kept.
static void log_take(run *r, const char *text, size_t bytes) {
    mrc_json *line;
    tool_check(r->ctx, mrc_json_parse(r->ctx, &line, "log.jsonl", text, bytes, 0));
    const mrc_json *best = mrc_json_get(line, "best_acc");
    const mrc_json *loss = mrc_json_get(line, "train/loss");
    if (best && best->type == MRC_JSON_NUMBER) r->best_acc = best->number;
    if (loss) r->last_loss = loss->type == MRC_JSON_NUMBER ? loss->number : (double)NAN;
    history_add(r, line);
    tool_logs_row(&r->logs, line, train_seconds(r));
    mrc_json_free(line);
}

static void log_append(run *r, const mrc_text *line) {
    if (line->failed) tool_fail(TOOL_NO_MEMORY, "%s", mrc_status_string(MRC_ERR_MEM));
    for (size_t done = 0; done < line->bytes;) {
        ssize_t n = write(r->log, line->data + done, line->bytes - done);
        if (n < 0 && errno != EINTR) log_fail(r, "written");
        if (n > 0) done += (size_t)n;
    }
    r->s.log_bytes += line->bytes;
    r->s.log_crc = mrc_crc32c(r->s.log_crc, line->data, line->bytes);
    log_take(r, line->data, line->bytes);
}

// The lines that a resumed run has kept.
static void log_replay(run *r, const char *data, size_t bytes) {
    for (size_t at = 0; at < bytes; ) {
        const char *end = memchr(data + at, '\n', bytes - at);
        size_t n = end ? (size_t)(end - data) - at : bytes - at;
        log_take(r, data + at, n);
        at += n + 1;
    }
    if (!r->s.evaluate) tool_logs_flush(&r->logs, train_seconds(r));
}

// Makes the log end where the state says; what a checkpoint recorded must still be there.
static void log_open(run *r) {
    char path[TOOL_PATH_BYTES], *data;
    size_t bytes = 0;
    uint32_t crc = 0;
    tool_path(path, r->a.output_dir, "log.jsonl");
    if (r->s.log_bytes) {
        tool_check(r->ctx, mrc_file_read(r->ctx, &data, &bytes, path));
        if (bytes >= r->s.log_bytes) crc = mrc_crc32c(0, data, (size_t)r->s.log_bytes);
        if (bytes < r->s.log_bytes || crc != r->s.log_crc) {
            tool_fail(TOOL_BAD_INPUT, "%s: is not the log of %s (found %zu bytes with checksum "
                      "%lu, expected %llu with %lu to begin with)", path, r->checkpoint, bytes,
                      (unsigned long)crc, (unsigned long long)r->s.log_bytes,
                      (unsigned long)r->s.log_crc);
        }
        log_replay(r, data, (size_t)r->s.log_bytes);
        mrc_file_free(r->ctx, data);
    }
    tool_logs_ready(&r->logs);
    r->log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (r->log < 0) log_fail(r, "opened");
    if (ftruncate(r->log, (off_t)r->s.log_bytes) != 0) log_fail(r, "truncated");
}

// A number that JSON has: losses of skipped steps may be NaN.
static void log_number(mrc_text *t, const char *key, double x) {
    if (isfinite(x)) {
        tool_json_number(t, key, x);
    } else {
        tool_json_key(t, key);
        mrc_text_add(t, "null", 4);
    }
}

//==============================================================================
// The identity of a run: what a resumed run must have in common with the first
//==============================================================================
// Flags that change neither weights nor log.jsonl, and files, which count by what is in them.
static int is_free_flag(const char *name) {
    static const char *const names[] = {
        "model_name_or_path", "config_name", "tokenizer_name", "train_file", "validation_file",
        "output_dir", "resume_from_checkpoint", "overwrite_output_dir", "do_train", "do_eval",
        "save_steps", "save_total_limit", "gradient_checkpointing", "CONFIG", "report_to",
        "logging_dir", "run_name", "validation", "DEBUG", "eval_strategy", NULL };
    for (int i = 0; names[i]; i++) {
        if (strcmp(name, names[i]) == 0) return 1;
    }
    return 0;
}

static void flags_add(mrc_text *t, const run *r) {
    mrc_text_printf(t, "\"flags\": {");
    for (const tool_flag *f = r->flags; f->name; f++) {
        mrc_text value;
        if (is_free_flag(f->name)) continue;
        mrc_text_init(&value, r->ctx);
        tool_flag_text(&value, f);
        tool_json_string(t, f->name, value.data);
        mrc_text_free(&value);
    }
    mrc_text_printf(t, ", \"seed\": \"%lld\"}", (long long)tool_common.seed);
}

// Calls fn for each file that the run is made from; key is what trainer_state.json calls it.
typedef void (*input_fn)(run *r, void *user, const char *key, const char *path);
static void each_input(run *r, input_fn fn, void *user) {
    static const char *const files[] = { "vocab.txt", "tokenizer.json", "tokenizer_config.json",
                                         "special_tokens_map.json", "vocab.json", "merges.txt",
                                         NULL };
    char path[TOOL_PATH_BYTES];
    fn(r, user, "train_file", r->a.train_file);
    fn(r, user, "validation_file", r->a.validation_file);
    fn(r, user, "config.json", r->a.model_name_or_path
       ? tool_path(path, r->a.model_name_or_path, "config.json") : r->a.config_name);
    for (int i = 0; files[i]; i++) {
        const char *dir = r->tokenizer_dir;
        int is_dir = mrc_file_exists(dir) == 2;
        const char *of = is_dir ? tool_path(path, dir, files[i]) : i == 0 ? dir : NULL;
        fn(r, user, files[i], of && mrc_file_exists(of) == 1 ? of : NULL);
    }
}

static void input_add(run *r, void *user, const char *key, const char *path) {
    mrc_text *t = user;
    uint32_t crc;
    uint64_t bytes;
    if (!path) return;
    if (mrc_file_exists(path) == 2) {   // --config_name may be a folder
        char file[TOOL_PATH_BYTES];
        input_add(r, user, key, tool_path(file, path, "config.json"));
        return;
    }
    tool_check(r->ctx, mrc_file_crc32c(r->ctx, path, &crc, &bytes));
    tool_json_key(t, key);
    mrc_text_printf(t, "\"%llu bytes, crc32c %08lx\"", (unsigned long long)bytes,
                    (unsigned long)crc);
}

// Flags and inputs as members of a JSON object, once: files may change while the run goes on.
static void identify(run *r) {
    mrc_text *t = &r->identity;
    mrc_text_init(t, r->ctx);
    flags_add(t, r);
    mrc_text_add(t, ", \"inputs\": {", 13);
    each_input(r, input_add, t);
    mrc_text_add(t, "}", 1);
    if (t->failed) tool_fail(TOOL_NO_MEMORY, "%s", mrc_status_string(MRC_ERR_MEM));
}

// Every member of `now` must be in `then` with the same text, and the reverse.
static void same_members(const char *path, const char *what, const mrc_json *now,
                         const mrc_json *then, int reversed) {
    for (const mrc_json *a = now ? now->child : NULL; a; a = a->next) {
        const mrc_json *b = then ? mrc_json_get(then, a->key) : NULL;
        if (b && a->type == MRC_JSON_STRING && b->type == MRC_JSON_STRING
            && strcmp(a->string, b->string) == 0) continue;
        const char *here = a->string ? a->string : "?";
        const char *there = b && b->string ? b->string : "none";
        tool_fail(TOOL_BAD_INPUT, "%s: %s%s is not that of the run to be resumed (found %s, "
                  "expected %s)", path, what, a->key, reversed ? there : here,
                  reversed ? here : there);
    }
}

// The recorded identity against this command line; path names the state that recorded it.
static void same_run(run *r, const char *path, const mrc_json *state) {
    mrc_text t;
    mrc_json *now;
    mrc_text_init(&t, r->ctx);
    mrc_text_printf(&t, "{%s}", r->identity.data);
    if (t.failed) tool_fail(TOOL_NO_MEMORY, "%s", mrc_status_string(MRC_ERR_MEM));
    tool_check(r->ctx, mrc_json_parse(r->ctx, &now, "flags", t.data, t.bytes, 0));
    const mrc_json *flags = mrc_json_get(state, "flags"), *inputs = mrc_json_get(state, "inputs");
    same_members(path, "--", mrc_json_get(now, "flags"), flags, 0);
    same_members(path, "--", flags, mrc_json_get(now, "flags"), 1);
    same_members(path, "", mrc_json_get(now, "inputs"), inputs, 0);
    same_members(path, "", inputs, mrc_json_get(now, "inputs"), 1);
    mrc_json_free(now);
    mrc_text_free(&t);
}

//==============================================================================
// trainer_state.json
//==============================================================================
static double epoch_now(const run *r) {
    return (double)r->epoch + (double)r->at / (double)(r->plan.n_batches ? r->plan.n_batches : 1);
}

// What every line of log.jsonl begins with.
static void log_begin(const run *r, mrc_text *t) {
    mrc_text_init(t, r->ctx);
    mrc_text_add(t, "{", 1);
    tool_json_integer(t, "step", (int64_t)r->s.step);
    tool_json_number(t, "epoch", epoch_now(r));
}

static void state_add_eval(mrc_text *t, const run *r) {
    const mrc_eval_result *e = &r->s.eval;
    tool_json_key(t, "last_evaluation");
    if (!r->s.has_eval) {
        mrc_text_add(t, "null", 4);
        return;
    }
    mrc_text_add(t, "{", 1);
    tool_json_integer(t, "step", (int64_t)r->s.eval_step);
    tool_json_integer(t, "features", (int64_t)e->n_features);
    tool_json_integer(t, "questions", (int64_t)e->n_questions);
    for (int i = 0; i < N_METRICS; i++) {
        if (is_measured(&r->a, i)) log_number(t, metrics[i].name, figure_of(e, i));
    }
    tool_json_number(t, "seconds", r->s.eval_seconds);
    mrc_text_add(t, "}", 1);
}

// As Hugging Face counts it: six for each token and weight, embeddings aside.
static double total_flos(const run *r) {
    double weights = 0;
    for (size_t i = 0; mrc_params_at(r->model->params, i); i++) {
        const mrc_tensor *p = mrc_params_at(r->model->params, i);
        if (!strstr(p->name, "_embeddings.weight")) weights += (double)p->numel;
    }
    return 6 * weights * (double)r->s.tokens;
}

static double train_loss(const run *r) {
    double applied = (double)r->s.step - (double)r->s.skipped;
    return applied > 0 ? r->s.loss_sum / applied : (double)NAN;
}

// Without times, so that it is the same however often the run was stopped.
static void state_add_history(mrc_text *t, const run *r, int finished) {
    tool_json_key(t, "log_history");
    mrc_text_printf(t, "[%s", r->history.bytes ? r->history.data + 2 : "");
    if (finished) {
        mrc_text_printf(t, "%s{", r->history.bytes ? ", " : "");
        tool_json_number(t, "epoch", epoch_now(r));
        tool_json_integer(t, "step", (int64_t)r->s.step);
        tool_json_number(t, "total_flos", total_flos(r));
        log_number(t, "train_loss", train_loss(r));
        mrc_text_add(t, "}", 1);
    }
    mrc_text_add(t, "]", 1);
}

// The keys that Hugging Face's trainer_state.json has.
static void state_add_known(mrc_text *t, const run *r) {
    char best[TOOL_PATH_BYTES];
    tool_json_key(t, "best_global_step");
    if (r->s.has_best) mrc_text_printf(t, "%llu", (unsigned long long)r->s.best_step);
    else mrc_text_add(t, "null", 4);
    log_number(t, "best_metric", r->s.has_best ? r->s.best_metric : (double)NAN);
    tool_json_key(t, "best_model_checkpoint");
    if (r->s.has_best) {
        tool_path(best, r->a.output_dir, "best");
        mrc_text_json_string(t, best, strlen(best), 0);
    } else {
        mrc_text_add(t, "null", 4);
    }
    tool_json_number(t, "epoch", epoch_now(r));
    tool_json_integer(t, "eval_steps", (int64_t)r->a.eval_steps);
    tool_json_integer(t, "global_step", (int64_t)r->s.step);
    mrc_text_printf(t, ", \"is_hyper_param_search\": false, \"is_local_process_zero\": true, "
                    "\"is_world_process_zero\": true");
    tool_json_integer(t, "logging_steps", (int64_t)r->a.logging_steps);
    tool_json_integer(t, "max_steps", (int64_t)r->total_steps);
    tool_json_integer(t, "num_input_tokens_seen", (int64_t)r->s.tokens);
    tool_json_number(t, "num_train_epochs", r->a.num_train_epochs);
    tool_json_integer(t, "save_steps", (int64_t)r->a.save_steps);
    tool_json_number(t, "total_flos", total_flos(r));
    tool_json_integer(t, "train_batch_size", (int64_t)r->a.train_batch_size);
    mrc_text_printf(t, ", \"trial_name\": null, \"trial_params\": null");
}

// The whole state as JSON; freed by the caller.
static mrc_text state_text(run *r, int finished) {
    const run_state *s = &r->s;
    int64_t applied;
    mrc_text t;
    tool_check(r->ctx, mrc_optimizer_stats(r->ctx, r->optimizer, NULL, &applied, NULL));
    mrc_text_init(&t, r->ctx);
    mrc_text_add(&t, "{", 1);
    state_add_known(&t, r);
    state_add_history(&t, r, finished);
    mrc_text_printf(&t, ", \"format_version\": 1, \"mrc_version\": \"%d.%d.%d\", \"backend\": "
                    "\"%s\", \"isa\": \"%s\"", MRC_VERSION_MAJOR, MRC_VERSION_MINOR,
                    MRC_VERSION_PATCH, r->be->name, r->be->isa ? r->be->isa : "");
    mrc_text_printf(&t, ", \"finished\": %s, \"evaluate\": %s", finished ? "true" : "false",
                    s->evaluate ? "true" : "false");
    mrc_text_printf(&t, ", \"stopped\": %s, \"evaluations_since_best\": %llu",
                    s->stopped ? "true" : "false", (unsigned long long)s->stale);
    mrc_text_printf(&t, ", \"random\": {\"seed\": %lld, \"step\": %llu}",
                    (long long)tool_common.seed, (unsigned long long)s->step);
    mrc_text_printf(&t, ", \"log\": {\"bytes\": %llu, \"crc32c\": %lu}",
                    (unsigned long long)s->log_bytes, (unsigned long)s->log_crc);
    tool_json_key(&t, "loss");
    mrc_text_add(&t, "{", 1);
    tool_json_number(&t, "window_sum", s->window_sum);
    tool_json_number(&t, "window_weight", s->window_weight);
    tool_json_number(&t, "sum", s->loss_sum);
    tool_json_key(&t, "recent");
    for (size_t i = 0; i < s->n_recent; i++) {
        mrc_text_add(&t, i ? ", " : "[", i ? 2 : 1);
        mrc_text_number(&t, s->recent[i]);
    }
    mrc_text_add(&t, s->n_recent ? "]}" : "[]}", s->n_recent ? 2 : 3);
    mrc_text_printf(&t, ", \"applied_steps\": %lld, \"skipped_steps\": %llu, "
                    "\"skipped_in_a_row\": %llu", (long long)applied,
                    (unsigned long long)s->skipped, (unsigned long long)s->skipped_in_a_row);
    tool_json_number(&t, "train_seconds", train_seconds(r));
    state_add_eval(&t, r);
    mrc_text_printf(&t, ", %s}\n", r->identity.data);
    if (t.failed) tool_fail(TOOL_NO_MEMORY, "%s", mrc_status_string(MRC_ERR_MEM));
    return t;
}

// A member that must be there, of that type.
static const mrc_json *member(const char *path, const mrc_json *object, const char *key,
                              mrc_json_type type) {
    const mrc_json *v = object ? mrc_json_get(object, key) : NULL;
    int is_bool = type == MRC_JSON_TRUE && v && v->type == MRC_JSON_FALSE;
    if (!v || (v->type != type && !is_bool)) {
        tool_fail(TOOL_BAD_INPUT, "%s: %s is %s", path, key, v ? "of another type" : "missing");
    }
    return v;
}
static double number_of(const char *path, const mrc_json *object, const char *key) {
    return member(path, object, key, MRC_JSON_NUMBER)->number;
}
static uint64_t count_of(const char *path, const mrc_json *object, const char *key) {
    const mrc_json *v = member(path, object, key, MRC_JSON_NUMBER);
    if (!v->is_int || v->integer < 0) {
        tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: %s is no count (found %g)", path, v->line,
                  v->column, key, v->number);
    }
    return (uint64_t)v->integer;
}

static void state_read_eval(run *r, const char *path, const mrc_json *e) {
    if (!e || e->type == MRC_JSON_NULL) return;
    r->s.has_eval = 1;
    r->s.eval_step = count_of(path, e, "step");
    r->s.eval = (mrc_eval_result){ .n_features = (size_t)count_of(path, e, "features"),
                                   .n_questions = (size_t)count_of(path, e, "questions") };
    for (int i = 0; i < N_METRICS; i++) {
        const mrc_json *v = mrc_json_get(e, metrics[i].name);
        if (!is_measured(&r->a, i)) continue;
        // A loss that is not finite is written as null.
        double value = v && v->type == MRC_JSON_NULL ? (double)NAN
                     : number_of(path, e, metrics[i].name);
        memcpy((char *)&r->s.eval + metrics[i].at, &value, sizeof value);
    }
    r->s.eval_seconds = number_of(path, e, "seconds");
}

static void state_read_recent(run *r, const char *path, const mrc_json *loss) {
    const mrc_json *list = member(path, loss, "recent", MRC_JSON_ARRAY);
    for (const mrc_json *v = list->child; v; v = v->next) {
        if (v->type != MRC_JSON_NUMBER || r->s.n_recent == RECENT_LOSSES) {
            tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: not the recent losses (found %zu values, "
                      "expected at most %d numbers)", path, v->line, v->column, list->n,
                      RECENT_LOSSES);
        }
        r->s.recent[r->s.n_recent++] = v->number;
    }
}

static void state_read(run *r, const char *path, const mrc_json *root) {
    const mrc_json *log = member(path, root, "log", MRC_JSON_OBJECT);
    const mrc_json *loss = member(path, root, "loss", MRC_JSON_OBJECT);
    const mrc_json *best = mrc_json_get(root, "best_metric");
    uint64_t version = count_of(path, root, "format_version");
    if (version != 1) {
        tool_fail(TOOL_BAD_INPUT, "%s: of another version (found %llu, expected 1)", path,
                  (unsigned long long)version);
    }
    same_run(r, path, root);
    r->s = (run_state){
        .step = count_of(path, root, "global_step"),
        .window_sum = number_of(path, loss, "window_sum"),
        .window_weight = number_of(path, loss, "window_weight"),
        .loss_sum = number_of(path, loss, "sum"),
        .skipped = count_of(path, root, "skipped_steps"),
        .skipped_in_a_row = count_of(path, root, "skipped_in_a_row"),
        .evaluate = member(path, root, "evaluate", MRC_JSON_TRUE)->type == MRC_JSON_TRUE,
        .stopped = member(path, root, "stopped", MRC_JSON_TRUE)->type == MRC_JSON_TRUE,
        .stale = count_of(path, root, "evaluations_since_best"),
        .seconds = number_of(path, root, "train_seconds"),
        .tokens = count_of(path, root, "num_input_tokens_seen"),
        .log_bytes = count_of(path, log, "bytes"),
        .log_crc = (uint32_t)count_of(path, log, "crc32c") };
    if (best && best->type == MRC_JSON_NUMBER) {
        r->s.has_best = 1;
        r->s.best_metric = best->number;
        r->s.best_step = count_of(path, root, "best_global_step");
    }
    state_read_recent(r, path, loss);
    state_read_eval(r, path, mrc_json_get(root, "last_evaluation"));
    const char *backend = member(path, root, "backend", MRC_JSON_STRING)->string;
    const char *isa = member(path, root, "isa", MRC_JSON_STRING)->string;
    if (strcmp(backend, r->be->name) || strcmp(isa, r->be->isa ? r->be->isa : "")) {
        tool_note("%s: was written on %s %s: on %s %s the run goes on, but with other last bits",
                  path, backend, isa, r->be->name, r->be->isa ? r->be->isa : "");
    }
}

//==============================================================================
// Resuming
//==============================================================================
// The newest valid checkpoint, or the one that was named, into r->checkpoint.
static void find_checkpoint(run *r) {
    const char *wanted = r->a.resume_from_checkpoint;
    r->checkpoint[0] = 0;
    if (!wanted) return;
    if (*wanted) {
        if (mrc_file_exists(wanted) != 2) {
            tool_fail(TOOL_BAD_INPUT, "%s: no such checkpoint (expected a directory)", wanted);
        }
        tool_check(r->ctx, mrc_checkpoint_check(r->ctx, wanted));
        if (strlen(wanted) >= sizeof r->checkpoint) {
            tool_fail(TOOL_USAGE, "--resume_from_checkpoint: the path is too long");
        }
        memcpy(r->checkpoint, wanted, strlen(wanted) + 1);
        return;
    }
    tool_log_errors = 1;                // those that do not hold are skipped, and said
    mrc_status status = mrc_checkpoint_find(r->ctx, r->a.output_dir, r->checkpoint,
                                            sizeof r->checkpoint);
    tool_log_errors = 0;
    tool_check(r->ctx, status);
    if (!r->checkpoint[0]) {
        tool_note("%s: no valid checkpoint to resume from: starting at step 0", r->a.output_dir);
    }
}

// A run that has its final model is left alone.
static int is_finished(run *r) {
    char path[TOOL_PATH_BYTES];
    mrc_json *root;
    const char *wanted = r->a.resume_from_checkpoint;
    if (!wanted || *wanted) return 0;
    if (mrc_file_exists(tool_path(path, r->a.output_dir, "trainer_state.json")) != 1) return 0;
    tool_check(r->ctx, mrc_json_load(r->ctx, &root, path));
    const mrc_json *finished = mrc_json_get(root, "finished");
    int done = finished && finished->type == MRC_JSON_TRUE;
    if (done) {
        same_run(r, path, root);
        tool_note("%s: the run is finished (step %llu of %llu): nothing to do", r->a.output_dir,
                  (unsigned long long)count_of(path, root, "global_step"),
                  (unsigned long long)count_of(path, root, "max_steps"));
    }
    mrc_json_free(root);
    return done;
}

static void move(const char *from, const char *to) {
    if (rename(from, to) != 0) {
        tool_fail(TOOL_IO, "%s: cannot be renamed to %s: %s", from, to, strerror(errno));
    }
}

// A process that was killed while it replaced best/ left the previous one beside its place.
static void restore_best(run *r) {
    char best[TOOL_PATH_BYTES], old[TOOL_PATH_BYTES], fresh[TOOL_PATH_BYTES];
    tool_path(best, r->a.output_dir, "best");
    tool_path(old, r->a.output_dir, ".best.old");
    if (!mrc_file_exists(best) && mrc_file_exists(old)) move(old, best);
    tool_check(r->ctx, mrc_dir_remove(r->ctx, old));
    tool_check(r->ctx, mrc_dir_remove(r->ctx, tool_path(fresh, r->a.output_dir, ".best.tmp")));
}

// train_args.json: every flag of the run as it was resolved, to be given again as CONFIG.
static void save_args(run *r) {
    char path[TOOL_PATH_BYTES];
    mrc_text value, *t = &r->args_text;
    mrc_text_init(t, r->ctx);
    mrc_text_add(t, "{", 1);
    for (const tool_flag *f = r->flags; f->name; f++) {
        static const char *const of_one_process[] = { "CONFIG", "resume_from_checkpoint",
                                                      "overwrite_output_dir", NULL };
        int skip = 0;
        for (int i = 0; of_one_process[i]; i++) skip |= !strcmp(f->name, of_one_process[i]);
        // A number without a default that is 0 was not given: 0 may be no value of it.
        skip |= !f->preset && ((f->size && !*f->size) || (f->real && *f->real == 0));
        mrc_text_init(&value, r->ctx);
        tool_flag_text(&value, f);
        if (!skip && !(f->string && !*f->string) && !(f->list && !f->list->n)) {
            mrc_text_printf(t, "%s\n    \"%s\": ", t->bytes > 1 ? "," : "", f->name);
            if (f->string || f->choice || f->list) {
                mrc_text_json_string(t, value.bytes ? value.data : "", value.bytes, 0);
            } else {
                mrc_text_add(t, value.data, value.bytes);
            }
        }
        mrc_text_free(&value);
    }
    mrc_text_printf(t, ",\n    \"seed\": %lld\n}\n", (long long)tool_common.seed);
    if (t->failed) tool_fail(TOOL_NO_MEMORY, "%s", mrc_status_string(MRC_ERR_MEM));
    tool_check(r->ctx, mrc_file_write(r->ctx, tool_path(path, r->a.output_dir, "train_args.json"),
                                      t->data, t->bytes));
}

// The output directory as the state wants it: nothing in it is newer than the state but checkpoints
// of the same run, which will be written again to the same bytes.
static void begin_output(run *r) {
    char path[TOOL_PATH_BYTES];
    cleaning c = { .dir = r->a.output_dir, .checkpoints = r->a.overwrite_output_dir,
                   .leftovers_only = r->checkpoint[0] != 0 };
    if (r->lock < 0) {
        tool_check(r->ctx, mrc_dir_new(r->ctx, r->a.output_dir));
        lock_output(r);
        refuse_full(r);
    }
    if (!r->checkpoint[0]) tool_logs_remove(r->ctx, r->a.output_dir);
    tool_check(r->ctx, mrc_dir_list(r->ctx, r->a.output_dir, clean_one, &c));
    if (r->checkpoint[0]) {
        restore_best(r);
        tool_check(r->ctx, mrc_dir_remove(r->ctx, tool_path(path, r->a.output_dir,
                                                            "trainer_state.json")));
    }
    save_args(r);
    tool_logs_desc logs = { .output_dir = r->a.output_dir,
                            .report_to = tool_list_join(&r->a.report_to),
                            .logging_dir = r->a.logging_dir, .run_name = r->a.run_name,
                            .flags = r->args_text.data };
    tool_logs_open(&r->logs, r->ctx, &logs);
    mrc_text_init(&r->history, r->ctx);
    log_open(r);
}

//==============================================================================
// Inputs: tokenizer, data, model
//==============================================================================
static void load_features(run *r, const mrc_dataset *set, mrc_features *features,
                          const char *path) {
    mrc_features_config config = mrc_features_config_default();
    config.kind = (mrc_encoding_kind)r->a.encoding;
    config.max_seq_length = r->a.max_seq_length;
    config.doc_stride = r->a.doc_stride;
    config.pad_to_max_length = r->a.pad_to_max_length;
    config.with_targets = 1;
    config.loss_valid = r->a.loss_positions;
    tool_check(r->ctx, mrc_features_new(r->ctx, features, set, r->tok, &config));
    if (set != r->validation_set || !r->validation_said) tool_print_rows(path, set, features);
    if (features->n == 0) {
        tool_fail(TOOL_BAD_INPUT, "%s: no row is left (found 0 of %zu kept, expected at least 1)",
                  path, mrc_dataset_rows(set));
    }
}

// The first examples of a set, at most so many; 0: all.  *whole is what they are part of.
static void first_of(run *r, mrc_dataset **set, size_t most, mrc_dataset **whole) {
    const size_t n = *set ? mrc_dataset_size(*set) : 0;
    if (!most || most >= n) return;
    size_t *indices = tool_allocate(most, sizeof *indices);
    for (size_t i = 0; i < most; i++) indices[i] = i;
    *whole = *set;
    tool_check(r->ctx, mrc_dataset_subset(r->ctx, set, *whole, indices, most));
    free(indices);
}

// All questions of the file are answered, as predict and evaluate do: a row that cannot be trained
// on is still a question, without a part in the loss.
static void load_validation(run *r) {
    const char *path = r->a.validation_file;
    mrc_dataset *usable;
    tool_check(r->ctx, mrc_dataset_load(r->ctx, &usable, path));
    const size_t kept = mrc_dataset_size(usable);
    r->validation_set = usable;
    if (r->a.encoding != MRC_ENCODING_OFFSETS || kept == mrc_dataset_rows(usable)) return;
    tool_print_rows(path, usable, &(mrc_features){ .kept = kept });
    mrc_dataset_free(usable);
    tool_check(r->ctx, mrc_dataset_load_questions(r->ctx, &r->validation_set, path));
    r->validation_said = 1;
    tool_note("%s: %zu questions are scored, as evaluate does", path,
              mrc_dataset_size(r->validation_set));
}

static void load_data(run *r) {
    const train_args *a = &r->a;
    if (a->num_folds) {
        tool_check(r->ctx, mrc_dataset_load(r->ctx, &r->all_set, a->train_file));
        r->train_set = tool_fold(r->ctx, r->all_set, a->train_file, a->num_folds, a->fold, 0);
        r->validation_set = tool_fold(r->ctx, r->all_set, a->train_file, a->num_folds, a->fold, 1);
    } else {
        tool_check(r->ctx, mrc_dataset_load(r->ctx, &r->train_set, a->train_file));
    }
    first_of(r, &r->train_set, a->max_train_samples, &r->whole_train);
    load_features(r, r->train_set, &r->train, a->train_file);
    if (a->validation_file) load_validation(r);
    first_of(r, &r->validation_set, a->max_eval_samples, &r->whole_validation);
    if (r->validation_set) {
        load_features(r, r->validation_set, &r->validation,
                      a->validation_file ? a->validation_file : a->train_file);
    }
}

// The numbers of the model: its config.json, then the flags that describe the head.
static mrc_model_config model_config(run *r, const tool_program *p, const char *from) {
    mrc_model_config config;
    train_args *a = &r->a;
    tool_check(r->ctx, mrc_model_config_load(r->ctx, &config, from));
    // What is not given comes from the folder, but for a head of another kind than its own.
    const int other = a->head >= 0 && config.head != (mrc_head_type)a->head;
    if (a->head >= 0) config.head = (mrc_head_type)a->head;
    if (tool_given(p, "num_rnn_layers") || !config.num_head_layers || other) {
        config.num_head_layers = a->num_rnn_layers;
    }
    if (a->rnn_hidden_size) config.head_hidden_size = a->rnn_hidden_size;
    else if (!config.head_hidden_size || other) config.head_hidden_size = config.hidden_size;
    if (tool_given(p, "rnn_dropout") || other) config.head_dropout = a->rnn_dropout;
    if (config.pad_to_max_length) a->pad_to_max_length = 1;
    if (tool_given(p, "head_kernel_size") || other) {
        config.head_kernel_size = a->head_kernel_size;
    }
    if (config.head == MRC_HEAD_CONV1D && config.head_kernel_size % 2 == 0) {
        tool_fail(TOOL_USAGE, "--head_kernel_size: is not odd (found %zu, expected 1, 3, 5, ..)",
                  config.head_kernel_size);
    }
    if (a->freeze_layers > config.num_hidden_layers) {
        tool_fail(TOOL_USAGE, "--freeze_layers: the model has fewer (found %zu, expected at most "
                  "%zu)", a->freeze_layers, config.num_hidden_layers);
    }
    // Pads reach other rows through the layers of these heads.
    config.pad_to_max_length = a->pad_to_max_length && config.head != MRC_HEAD_LINEAR
                            && config.head != MRC_HEAD_MLP;
    a->head_kernel_size = config.head_kernel_size;
    a->head = (int)config.head;
    a->num_rnn_layers = config.num_head_layers;
    a->rnn_hidden_size = config.head_hidden_size;
    a->rnn_dropout = config.head_dropout;
    return config;
}

static void load_weights(run *r, const mrc_model_config *config) {
    uint64_t seed = (uint64_t)tool_common.seed;
    if (r->a.config_name && !r->checkpoint[0]) {
        tool_check(r->ctx, mrc_model_new(r->ctx, &r->model, config, model_dtype(r), seed));
        return;
    }
    const char *path = r->checkpoint[0] ? r->checkpoint : r->a.model_name_or_path;
    tool_load_notes notes = { .path = path };
    mrc_model_load_desc desc = { .path = path, .config = r->checkpoint[0] ? NULL : config,
                                 .dtype = model_dtype(r), .seed = seed, .note = tool_load_note,
                                 .user = &notes, .threads = tool_common.threads };
    tool_check(r->ctx, mrc_model_load(r->ctx, &r->model, &desc));
    tool_load_notes_end(&notes);
}

static void load_model(run *r, const mrc_model_config *config) {
    load_weights(r, config);
    mrc_model_freeze(r->model, r->a.freeze_layers);
}

// --layerwise_lr_decay and --head_learning_rate.
static void parameter_group(void *user, const mrc_tensor *p, mrc_param_group *g) {
    const run *r = user;
    size_t head = r->model_config.num_hidden_layers + 1;    // before the model is there, too
    g->lr_scale = pow(r->a.layerwise_lr_decay, (double)(head - p->depth));
    if (p->depth == head && r->a.head_learning_rate > 0) {
        g->lr_scale = r->a.head_learning_rate / r->a.learning_rate;
    }
}

static mrc_optimizer_config optimizer_config(run *r) {
    mrc_optimizer_config config = mrc_optimizer_config_default();
    static const mrc_optim variants[] = { MRC_ADAMW_TORCH, MRC_ADAMW_HF, MRC_ADAMP, MRC_SGD };
    config.variant = variants[r->a.optim];
    config.delta = r->a.adamp_delta;
    config.wd_ratio = r->a.adamp_wd_ratio;
    config.nesterov = r->a.nesterov;
    config.momentum = r->a.momentum;
    config.ema_decay = r->a.ema_decay;
    config.group = parameter_group;
    config.user = r;
    config.beta1 = r->a.adam_beta1;
    config.beta2 = r->a.adam_beta2;
    config.eps = r->a.adam_epsilon;
    config.weight_decay = r->a.weight_decay;
    config.max_grad_norm = r->a.max_grad_norm;
    config.decay_all = r->a.compat == COMPAT_REFERENCE;
    if (r->a.fp16) config.loss_scale = 65536;   // as PyTorch's GradScaler begins
    return config;
}

static void load_optimizer(run *r) {
    char path[TOOL_PATH_BYTES];
    mrc_optimizer_config config = optimizer_config(r);
    tool_check(r->ctx, mrc_optimizer_new(r->ctx, &r->optimizer, r->model->params, &config));
    if (!r->checkpoint[0]) return;
    tool_path(path, r->checkpoint, "optimizer.safetensors");
    tool_check(r->ctx, mrc_optimizer_load(r->ctx, r->optimizer, path));
}

//==============================================================================
// Memory: planned, and refused before training where it cannot be had
//==============================================================================
#define MIB(bytes) (((bytes) + (1 << 20) - 1) >> 20)

static mrc_loss loss_of(const run *r) {
    return (mrc_loss){ .kind = (mrc_loss_kind)r->a.loss, .reference = r->a.loss_variant,
                       .gamma = r->a.gamma, .smoothing = r->a.smoothing };
}
static mrc_objective objective_of(const run *r) {
    return (mrc_objective){ .loss = loss_of(r), .rdrop_alpha = r->a.rdrop_alpha,
                            .fgm_epsilon = r->a.fgm_epsilon };
}

// What training takes with another micro-batch size, checkpointing or evaluation batch.
static mrc_train_memory memory_of(run *r, const mrc_model_config *model, size_t micro_batch,
                                  int checkpointing, size_t eval_batch) {
    mrc_optimizer_config optimizer = optimizer_config(r);
    mrc_train_memory memory;
    mrc_train_plan_desc desc = {
        .model = model, .optimizer = &optimizer, .dtype = model_dtype(r),
        .forward = mrc_forward_config_default(), .objective = objective_of(r),
        .freeze_layers = r->a.freeze_layers, .features = &r->train,
        .batching = (mrc_batching)r->a.batching, .micro_batch = micro_batch,
        .accumulation = r->a.train_batch_size / micro_batch * r->a.accumulation,
        .eval = r->validation_set ? &r->validation : NULL, .eval_batch_size = eval_batch,
        .eval_dropout = r->a.compat == COMPAT_REFERENCE };
    desc.forward.dropout = 1;
    desc.forward.gradient_checkpointing = checkpointing;
    tool_check(r->ctx, mrc_train_plan(r->ctx, &desc, &memory));
    return memory;
}

// The memory that a container may use, SIZE_MAX where nothing says so.
static size_t memory_limit(void) {
    static const char *const files[] = { "/sys/fs/cgroup/memory.max",
                                         "/sys/fs/cgroup/memory/memory.limit_in_bytes" };
    size_t limit = SIZE_MAX;
    for (int i = 0; i < 2; i++) {
        char text[32] = "";
        FILE *f = fopen(files[i], "r");
        if (!f) continue;
        if (fgets(text, sizeof text, f) && text[0] >= '0' && text[0] <= '9') {
            unsigned long long bytes = strtoull(text, NULL, 10);
            if (bytes < limit) limit = (size_t)bytes;
        }
        fclose(f);
    }
    return limit;
}

static int can_have(run *r, size_t bytes) {
    void *probe = r->be->alloc(r->be, bytes);
    if (probe) r->be->free(r->be, probe);
    return probe != NULL;
}

// The most that can be had, up to `wanted`, to the MiB.
static size_t memory_to_be_had(run *r, size_t wanted) {
    size_t had;
    if (tool_backend_reserve(r->be, wanted, &had)) return had;
    size_t limit = memory_limit(), used = tool_peak_bytes();
    size_t room = limit > used ? limit - used : 0, low = 0, high = wanted < room ? wanted : room;
    if (can_have(r, high)) return high;
    while (high - low > 1 << 20) {
        size_t middle = low + (high - low) / 2;
        if (can_have(r, middle)) low = middle;
        else high = middle;
    }
    return low;
}

// What would fit, of the same optimizer steps: checkpointing, smaller micro-batches, then both.
static void advise(run *r, const mrc_model_config *model, size_t limit, char *out, size_t n) {
    size_t batch = r->a.train_batch_size, total = 0;
    for (int stage = 0; stage < 3; stage++) {
        int checkpointing = stage == 1 ? r->a.gradient_checkpointing : 1;
        for (size_t micro = batch; micro >= (stage == 0 ? batch : 1); micro--) {
            if (batch % micro) continue;
            size_t eval = r->a.eval_batch_size < micro ? r->a.eval_batch_size : micro;
            total = memory_of(r, model, micro, checkpointing, eval).total;
            if (total > limit) continue;
            snprintf(out, n, "%s--per_device_train_batch_size %zu --gradient_accumulation_steps "
                     "%zu --per_device_eval_batch_size %zu needs %zu MiB",
                     checkpointing ? "--gradient_checkpointing " : "", micro,
                     batch / micro * r->a.accumulation, eval, MIB(total));
            return;
        }
    }
    snprintf(out, n, "one window at a time with --gradient_checkpointing needs %zu MiB",
             MIB(total));
}

static void plan_memory(run *r, const mrc_model_config *model) {
    const train_args *a = &r->a;
    mrc_train_memory m = memory_of(r, model, a->train_batch_size, a->gradient_checkpointing,
                                   a->eval_batch_size);
    tool_note("memory: %zu MiB for parameters, %zu gradients, %zu optimizer, %zu one step "
              "(training %zu: at most %zu windows, %zu rows; evaluation %zu): %zu in all, beside "
              "%zu MiB of program and data", MIB(m.parameters), MIB(m.gradients), MIB(m.optimizer),
              MIB(m.step), MIB(m.step_train), m.sequences, m.rows, MIB(m.step_eval), MIB(m.total),
              MIB(tool_peak_bytes()));
    size_t had = memory_to_be_had(r, m.total);
    if (had < m.total) {
        char advice[320];
        advise(r, model, had, advice, sizeof advice);
        tool_fail(TOOL_NO_MEMORY, "memory: training does not fit (found %zu MiB, expected at least "
                  "%zu): %s", had >> 20, MIB(m.total), advice);
    }
    tool_check(r->ctx, mrc_ctx_reserve(r->ctx, m.step));
    r->step_bytes = m.step;
}

// All inputs; 0: the run is finished already and there is nothing to do.
static int load_inputs(run *r, const tool_program *p) {
    const char *from = r->a.model_name_or_path ? r->a.model_name_or_path : r->a.config_name;
    mrc_model_config config = model_config(r, p, from);
    tool_check(r->ctx, mrc_tokenizer_load(r->ctx, &r->tok, r->tokenizer_dir));
    tool_check_fit(&config, from, r->tok, r->tokenizer_dir, &r->a.max_seq_length,
                   &r->a.doc_stride);
    identify(r);
    if (is_finished(r)) return 0;
    load_data(r);
    find_checkpoint(r);
    if (r->checkpoint[0]) {
        char path[TOOL_PATH_BYTES];
        mrc_json *root;
        tool_path(path, r->checkpoint, "trainer_state.json");
        tool_check(r->ctx, mrc_json_load(r->ctx, &root, path));
        state_read(r, path, root);
        mrc_json_free(root);
        r->saved_step = r->s.step;
    }
    r->model_config = config;
    plan_memory(r, &config);
    load_model(r, &config);
    load_optimizer(r);
    return 1;
}

//==============================================================================
// The order of the data
//==============================================================================
static void plan_epoch(run *r, uint32_t epoch) {
    mrc_batch_plan_free(&r->plan);
    tool_check(r->ctx, mrc_batch_plan_new(r->ctx, &r->plan, &r->train, (mrc_batching)r->a.batching,
                                          r->a.train_batch_size * r->a.accumulation,
                                          (uint64_t)tool_common.seed, epoch));
    r->epoch = epoch;
    r->at = 0;
}

static size_t epoch_batches(run *r, uint32_t epoch) {
    if (r->fixed_batches) return r->fixed_batches;
    if (r->epoch != epoch || !r->plan.n_batches) plan_epoch(r, epoch);
    return r->plan.n_batches;
}

// How many steps the run has, and where in the data step r->s.step stands.
static void plan_run(run *r) {
    plan_epoch(r, 0);
    if (r->a.batching != MRC_BATCHING_TOKEN_BUDGET) r->fixed_batches = r->plan.n_batches;
    if (r->a.max_steps > 0) {
        r->total_steps = (uint64_t)r->a.max_steps;
    } else {
        double left = r->a.num_train_epochs;
        for (uint32_t e = 0; left > 0; e++, left -= 1) {
            double part = left < 1 ? left : 1;
            r->total_steps += (uint64_t)ceil(part * (double)epoch_batches(r, e) - 1e-9);
        }
    }
    r->warmup_steps = r->a.warmup_steps ? r->a.warmup_steps
                    : (uint64_t)ceil((double)r->total_steps * r->a.warmup_ratio - 1e-9);
    if (r->s.step > r->total_steps) {
        tool_fail(TOOL_BAD_INPUT, "%s: is past the end of the run (found step %llu, expected at "
                  "most %llu)", r->checkpoint, (unsigned long long)r->s.step,
                  (unsigned long long)r->total_steps);
    }
    uint32_t epoch = 0;
    uint64_t before = 0;
    // A step that ends an epoch stands at the end of that epoch's plan, as without a break.
    while (r->s.step - before > epoch_batches(r, epoch)) before += epoch_batches(r, epoch++);
    plan_epoch(r, epoch);
    r->at = (size_t)(r->s.step - before);
    size_t most = 1;
    for (size_t i = 0; i < r->train.n; i++) most++;
    r->batch = malloc(most * sizeof *r->batch);
    if (!r->batch) tool_fail(TOOL_NO_MEMORY, "no memory for a batch of %zu features", most);
}

//==============================================================================
// Evaluation, best/, checkpoints
//==============================================================================
static mrc_status eval_progress(void *user, size_t done, size_t total) {
    tool_bar *bar = user;
    (void)total;
    tool_bar_update(bar, done, NULL);
    return tool_signal ? MRC_ERR_INTERRUPTED : MRC_OK;
}

static void save_best(run *r) {
    char best[TOOL_PATH_BYTES], old[TOOL_PATH_BYTES], fresh[TOOL_PATH_BYTES];
    tool_path(best, r->a.output_dir, "best");
    tool_path(old, r->a.output_dir, ".best.old");
    tool_path(fresh, r->a.output_dir, ".best.tmp");
    tool_check(r->ctx, mrc_dir_remove(r->ctx, fresh));
    mrc_status status = mrc_model_save(r->ctx, r->model, fresh, r->tokenizer_dir);
    if (status == MRC_OK) status = mrc_dir_sync(r->ctx, fresh);
    if (status != MRC_OK) mrc_dir_remove(r->ctx, fresh);    // the first error is the one to report
    tool_check(r->ctx, status);
    if (mrc_file_exists(best)) move(best, old);
    move(fresh, best);
    tool_check(r->ctx, mrc_dir_sync(r->ctx, r->a.output_dir));
    tool_check(r->ctx, mrc_dir_remove(r->ctx, old));
}

// What the study's program printed when it validated, steps counted in the epoch; then the rest.
static void say_eval(const run *r) {
    const mrc_eval_result *e = &r->s.eval;
    char train[32] = "-", decoded[64] = "";
    if (r->last_loss != 0) snprintf(train, sizeof train, "%.4f", r->last_loss);
    if (r->a.encoding == MRC_ENCODING_OFFSETS) {
        snprintf(decoded, sizeof decoded, ", exact_match %.2f, f1 %.2f", e->exact_match, e->f1);
    }
    tool_note("epoch %lu, step %zu: train loss %s, eval loss %.4f, start_accuracy %.4f, "
              "end_accuracy %.4f, accuracy %.4f, best_acc %.4f%s", (unsigned long)r->epoch + 1,
              r->at, train, e->loss, e->start_accuracy, e->end_accuracy, e->accuracy, r->best_acc,
              decoded);
}

static void log_eval(run *r) {
    const mrc_eval_result *e = &r->s.eval;
    mrc_text t;
    log_begin(r, &t);
    for (int i = 0; i < N_METRICS; i++) {
        char key[64];
        snprintf(key, sizeof key, "eval/%s", metrics[i].name);
        if (is_measured(&r->a, i)) log_number(&t, key, figure_of(e, i));
    }
    tool_json_number(&t, "best_acc", fmax(e->accuracy, r->best_acc));
    mrc_text_add(&t, "}\n", 2);
    log_append(r, &t);
    mrc_text_free(&t);
    say_eval(r);
}

// What is measured, kept as best/ and left as the final model are the averages, if there are any.
static void swap_average(run *r) {
    if (r->a.ema_decay > 0) tool_check(r->ctx, mrc_optimizer_swap(r->ctx, r->optimizer));
}

// As predict decodes with the same flags.
static mrc_decode_config decode_config(const train_args *a) {
    mrc_decode_config config = mrc_decode_config_default();
    config.kind = (mrc_decode_kind)a->postprocess;
    config.n_best_size = a->n_best_size;
    config.max_answer_length = a->max_answer_length;
    config.version_2_with_negative = a->version_2_with_negative;
    config.null_score_diff_threshold = a->null_score_diff_threshold;
    return config;
}

// 0: a signal came first.
static int evaluate(run *r) {
    tool_bar bar;
    int offsets = r->a.encoding == MRC_ENCODING_OFFSETS;
    double begun = tool_seconds();
    const mrc_decode_config decode = decode_config(&r->a);
    mrc_eval_desc desc = {
        .loss = loss_of(r),
        .predict = { .features = &r->validation, .batch_size = r->a.eval_batch_size,
                     .dropout = r->a.compat == COMPAT_REFERENCE,
                     .random = { (uint64_t)tool_common.seed, (uint32_t)r->s.step, 1 },
                     .progress = eval_progress, .user = &bar },
        .dataset = offsets ? r->validation_set : NULL,
        .metric = (mrc_metric)r->a.metric, .decode = &decode, .tokenizer = r->tok };
    tool_bar_begin(&bar, "eval", r->validation.n, 0);
    mrc_eval_result result;
    swap_average(r);
    mrc_status status = mrc_evaluate(r->ctx, r->model, &desc, &result);
    tool_bar_end(&bar, NULL);
    if (status == MRC_ERR_INTERRUPTED) {
        swap_average(r);
        return 0;
    }
    tool_check(r->ctx, status);
    r->s.eval = result;
    r->s.has_eval = 1;
    r->s.eval_step = r->s.step;
    r->s.eval_seconds = tool_seconds() - begun;
    r->s.evaluate = 0;
    log_eval(r);
    const double metric = best_value(r), best = r->s.best_metric;
    r->s.stale++;
    if (!r->s.has_best || (r->a.greater_is_better ? metric > best : metric < best)) {
        save_best(r);
        r->s.has_best = 1;
        r->s.best_metric = metric;
        r->s.best_step = r->s.step;
        r->s.stale = 0;
    }
    swap_average(r);
    if (r->a.patience && r->s.stale >= r->a.patience) r->s.stopped = 1;
    return 1;
}

static void save_checkpoint(run *r) {
    if (r->saved_step == r->s.step) return;
    if (fsync(r->log) != 0) log_fail(r, "synced");
    mrc_text state = state_text(r, 0);
    tool_check(r->ctx, mrc_checkpoint_save(r->ctx, r->a.output_dir, r->s.step, r->model,
                                           r->tokenizer_dir, r->optimizer, state.data));
    mrc_text_free(&state);
    tool_check(r->ctx, mrc_checkpoint_prune(r->ctx, r->a.output_dir, r->a.save_total_limit));
    r->saved_step = r->s.step;
}

_Noreturn static void leave(run *r) {
    if (r->s.step == 0) tool_fail(TOOL_INTERRUPTED, "stopped by a signal before the first step");
    save_checkpoint(r);
    tool_fail(TOOL_INTERRUPTED, "stopped by a signal after step %llu of %llu: saved %s/checkpoint-"
              "%llu, --resume_from_checkpoint goes on", (unsigned long long)r->s.step,
              (unsigned long long)r->total_steps, r->a.output_dir, (unsigned long long)r->s.step);
}

//==============================================================================
// Training
//==============================================================================
// Whether the step that has just been done is followed by an evaluation.
static int eval_due(const run *r) {
    int last = r->s.step == r->total_steps;
    if (!r->validation_set) return 0;
    if (r->a.eval_steps) return last || r->s.step % r->a.eval_steps == 0;
    // The study: at step != 0 && step % 100 == 0, counted from 0 in each epoch, after the step.
    if (r->a.compat) return (r->at > 1 && (r->at - 1) % 100 == 0) || (last && !r->s.has_eval);
    return last || r->at == r->plan.n_batches;
}

// The learning rate of the step to come.
static double rate_of(const run *r) {
    mrc_schedule_config c = mrc_schedule_config_default((mrc_schedule)r->a.schedule);
    c.warmup_steps = r->warmup_steps;
    c.total_steps = r->total_steps;
    if (r->a.lr_num_cycles > 0) c.num_cycles = r->a.lr_num_cycles;
    c.power = r->a.lr_power;
    c.lr_end = r->a.lr_end;
    c.lr = r->a.learning_rate;
    return r->a.learning_rate * mrc_schedule_factor(&c, r->s.step);
}

static void log_train(run *r, const mrc_step_result *result) {
    double loss = r->s.window_weight > 0 ? r->s.window_sum / r->s.window_weight : (double)NAN;
    // As Hugging Face logs it: the rate of the step to come.
    double rate = rate_of(r);
    mrc_text t;
    log_begin(r, &t);
    log_number(&t, "train/loss", loss);
    tool_json_number(&t, "train/learning_rate", rate);
    log_number(&t, "train/grad_norm", result->grad_norm);
    if (r->a.fp16) tool_json_number(&t, "train/loss_scale", result->loss_scale);
    mrc_text_add(&t, "}\n", 2);
    log_append(r, &t);
    mrc_text_free(&t);
    r->s.window_sum = r->s.window_weight = 0;
    double done = (double)(r->s.step - r->bar.first), seconds = tool_seconds() - r->begun;
    double speed = seconds > 0 ? done / seconds : 0;
    tool_note("step %llu/%llu: epoch %.2f, loss %.4f, learning_rate %.3g, grad_norm %.3g, %.2f "
              "steps/s, %.0f s left", (unsigned long long)r->s.step,
              (unsigned long long)r->total_steps, epoch_now(r), loss, rate, result->grad_norm,
              speed, speed > 0 ? (double)(r->total_steps - r->s.step) / speed : 0);
}

static int by_number(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}
static double median(double *list, size_t n) {
    qsort(list, n, sizeof *list, by_number);
    return (list[(n - 1) / 2] + list[n / 2]) / 2;
}

// The loss above which a step is a spike; 0: there are too few to say.  Losses differ by factors,
// so it is their logarithms that are held against the median: six deviations (estimated by the
// median of the distances from it, which spikes do not move), and a factor of four at least.
static double spike_limit(const run *r) {
    double logs[RECENT_LOSSES], middle;
    size_t n = r->s.n_recent;
    if (n < RECENT_ENOUGH || r->a.loss_spike == SPIKE_OFF) return 0;
    for (size_t i = 0; i < n; i++) logs[i] = log(fmax(r->s.recent[i], 1e-12));
    middle = median(logs, n);
    for (size_t i = 0; i < n; i++) logs[i] = fabs(logs[i] - middle);
    return exp(middle + fmax(log(4), 6 * 1.4826 * median(logs, n)));
}

static void remember_loss(run *r, double loss) {
    run_state *s = &r->s;
    if (s->n_recent == RECENT_LOSSES) {
        memmove(s->recent, s->recent + 1, (RECENT_LOSSES - 1) * sizeof *s->recent);
        s->n_recent--;
    }
    s->recent[s->n_recent++] = loss;
}

// What stood in the batch of a step that was no good, into log.jsonl.
static void log_bad_step(run *r, const mrc_step_result *result, const char *what, size_t n) {
    mrc_text t;
    log_begin(r, &t);
    tool_json_string(&t, "bad/what", what);
    log_number(&t, "bad/loss", result->loss);
    log_number(&t, "bad/grad_norm", result->grad_norm);
    tool_json_key(&t, "bad/batch");
    for (size_t i = 0; i < n; i++) {
        const mrc_example *x = mrc_dataset_at(r->train_set, (size_t)r->batch[i]->example_index);
        mrc_text_add(&t, i ? ", " : "[", i ? 2 : 1);
        mrc_text_json_string(&t, x->id, strlen(x->id), 0);
    }
    mrc_text_add(&t, "]}\n", 3);
    log_append(r, &t);
    mrc_text_free(&t);
}

// --loss_spike warn: the step has been done.
static void note_spike(const run *r, const mrc_step_result *result, double limit, size_t n) {
    char ids[512] = "";
    for (size_t i = 0, at = 0; i < n && at < sizeof ids - 1; i++) {
        const mrc_example *x = mrc_dataset_at(r->train_set, (size_t)r->batch[i]->example_index);
        int k = snprintf(ids + at, sizeof ids - at, "%s%s", i ? ", " : "", x->id);
        at += k > 0 ? (size_t)k : 0;
    }
    tool_note("step %llu: a spike (found loss %g, expected at most %g): the batch was %s",
              (unsigned long long)r->s.step, result->loss, limit, ids);
}

// Weights and moments as the newest checkpoint has them; the run goes on with the next batch.  0:
// there is none.
static int roll_back(run *r) {
    char dir[TOOL_PATH_BYTES], path[TOOL_PATH_BYTES], name[64];
    mrc_safetensors *st;
    mrc_tensor *t;
    if (r->saved_step == UINT64_MAX) return 0;
    snprintf(name, sizeof name, "checkpoint-%llu", (unsigned long long)r->saved_step);
    tool_path(dir, r->a.output_dir, name);
    tool_check(r->ctx, mrc_checkpoint_check(r->ctx, dir));
    tool_check(r->ctx, mrc_weights_open(r->ctx, &st, dir));
    for (size_t i = 0; (t = mrc_params_at(r->model->params, i)) != NULL; i++) {
        const mrc_st_entry *e = mrc_safetensors_find(st, t->name);
        if (!e || e->numel != t->numel) {
            tool_fail(TOOL_BAD_INPUT, "%s: has no %s of %zu values", dir, t->name, t->numel);
        }
        void *values = tool_allocate(t->numel, mrc_dtype_bytes(t->dtype));
        tool_check(r->ctx, mrc_safetensors_read(st, e, t->dtype, values));
        tool_check(r->ctx, mrc_tensor_upload(r->ctx, t, values));
        free(values);
    }
    mrc_safetensors_close(st);
    tool_path(path, dir, "optimizer.safetensors");
    tool_check(r->ctx, mrc_optimizer_load(r->ctx, r->optimizer, path));
    return 1;
}

// A step that changed no weight: its loss or a gradient is not finite, or its loss is a spike.
static void skip_step(run *r, const mrc_step_result *result, double limit, size_t n) {
    const int spike = isfinite(result->loss) && limit > 0 && result->loss > limit;
    char found[128];
    r->s.skipped++;
    log_bad_step(r, result, spike ? "spike" : "not finite", n);
    // A loss scale that is still above its floor is looking for the gradients' range.
    if (!spike && isfinite(result->loss) && result->loss_scale > 1) {
        tool_note("step %llu: gradients overflow: the step is skipped, the loss scale is %g",
                  (unsigned long long)r->s.step, result->loss_scale);
        return;
    }
    if (spike) snprintf(found, sizeof found, "loss %g, expected at most %g", result->loss, limit);
    else snprintf(found, sizeof found, "loss %g, grad_norm %g, expected finite numbers",
                  result->loss, result->grad_norm);
    if (++r->s.skipped_in_a_row == SKIPS_IN_A_ROW) {
        tool_fail(TOOL_NUMERIC, "step %llu: %s %d times in a row (found %s): the batches are in "
                  "%s/log.jsonl", (unsigned long long)r->s.step, spike ? "a spike" : "not finite",
                  SKIPS_IN_A_ROW, found, r->a.output_dir);
    }
    const int back = spike && r->a.loss_spike == SPIKE_ROLLBACK && roll_back(r);
    tool_note("step %llu: %s (found %s): the step is skipped%s", (unsigned long long)r->s.step,
              spike ? "a spike" : "not finite", found,
              back ? ", weights and moments are those of the newest checkpoint" : "");
}

static mrc_step_result one_step(run *r) {
    if (r->at == r->plan.n_batches) plan_epoch(r, r->epoch + 1);
    size_t first = r->plan.begin[r->at], n = r->plan.begin[r->at + 1] - first;
    for (size_t i = 0; i < n; i++) r->batch[i] = &r->train.list[r->plan.feature[first + i]];
    // A token budget says nothing about how many sequences there are: it is split evenly.
    size_t micro = r->a.batching == MRC_BATCHING_TOKEN_BUDGET
                 ? (n + r->a.accumulation - 1) / r->a.accumulation : r->a.train_batch_size;
    mrc_step_desc desc = {
        .features = r->batch, .n = n, .micro_batch = micro,
        .lr = rate_of(r), .objective = objective_of(r),
        .random = { (uint64_t)tool_common.seed, (uint32_t)r->s.step, 0 },
        .forward = mrc_forward_config_default() };
    const double limit = spike_limit(r);
    desc.forward.dropout = 1;
    desc.forward.gradient_checkpointing = r->a.gradient_checkpointing;
    if (r->a.loss_spike >= SPIKE_SKIP) desc.max_loss = limit;
    mrc_step_result result;
    tool_check(r->ctx, mrc_train_step(r->ctx, r->model, r->optimizer, &desc, &result));
    for (size_t i = 0; i < n; i++) r->s.tokens += (uint64_t)r->batch[i]->length;
    r->s.step++;
    r->at++;
    if (result.skipped) {
        skip_step(r, &result, limit, n);
        return result;
    }
    if (limit > 0 && result.loss > limit) note_spike(r, &result, limit, n);
    remember_loss(r, result.loss);
    // The study weighted its mean by the batches' sizes, Hugging Face does not.
    double weight = r->a.compat ? (double)n : 1;
    r->s.skipped_in_a_row = 0;
    r->s.window_sum += weight * result.loss;
    r->s.window_weight += weight;
    r->s.loss_sum += result.loss;
    return result;
}

// What may follow a step, again after resuming in the middle of it.  The checkpoint comes first: a
// run that is killed while it evaluates repeats the evaluation, not the steps before it.
static void after_step(run *r) {
    int last = r->s.step == r->total_steps;
    if (last || (r->a.save_steps && r->s.step % r->a.save_steps == 0)) save_checkpoint(r);
    if (r->s.evaluate && !evaluate(r)) leave(r);
    tool_logs_flush(&r->logs, train_seconds(r));
    if (tool_signal) leave(r);
    if (r->s.stopped) {
        tool_note("step %llu: eval/%s has not been better for %llu evaluations: stopping",
                  (unsigned long long)r->s.step, r->a.metric_for_best_model,
                  (unsigned long long)r->s.stale);
        save_checkpoint(r);
    }
}

static void train(run *r) {
    r->begun = tool_seconds();
    tool_bar_begin(&r->bar, "train", (size_t)r->total_steps, (size_t)r->s.step);
    if (r->s.evaluate) after_step(r);
    if (tool_signal) leave(r);
    while (r->s.step < r->total_steps && !r->s.stopped) {
        char note[64];
        mrc_step_result result = one_step(r);
        r->s.evaluate = eval_due(r);
        snprintf(note, sizeof note, "loss=%.4g", result.loss);
        tool_bar_update(&r->bar, (size_t)r->s.step, note);
        // The study printed its losses when it validated.
        if ((r->a.logging_steps && r->s.step % r->a.logging_steps == 0)
            || (!r->a.logging_steps && r->a.compat && r->s.evaluate)) {
            log_train(r, &result);
        }
        after_step(r);
    }
    tool_bar_end(&r->bar, NULL);
    r->s.seconds += tool_seconds() - r->begun;
}

//==============================================================================
// The end: results and the final model
//==============================================================================
typedef struct result { const char *key; double value; int is_count; } result;

static int by_result_key(const void *a, const void *b) {
    return strcmp(((const result *)a)->key, ((const result *)b)->key);
}

// As Hugging Face's save_metrics: sorted, indented by 4.
static void save_results(run *r, const char *name, result *list, size_t n) {
    char path[TOOL_PATH_BYTES];
    mrc_text t;
    qsort(list, n, sizeof *list, by_result_key);
    mrc_text_init(&t, r->ctx);
    for (size_t i = 0; i < n; i++) {
        mrc_text_printf(&t, "%s\n    \"%s\": ", i ? "," : "{", list[i].key);
        if (list[i].is_count) mrc_text_printf(&t, "%.0f", list[i].value);
        else if (isfinite(list[i].value)) mrc_text_number(&t, list[i].value);
        else mrc_text_add(&t, "null", 4);
    }
    mrc_text_add(&t, "\n}\n", 3);
    if (t.failed) tool_fail(TOOL_NO_MEMORY, "%s", mrc_status_string(MRC_ERR_MEM));
    tool_check(r->ctx, mrc_file_write(r->ctx, tool_path(path, r->a.output_dir, name), t.data,
                                      t.bytes));
    mrc_text_free(&t);
}

static size_t train_results(const run *r, result *to) {
    double steps = (double)r->s.step, seconds = r->s.seconds > 0 ? r->s.seconds : 1e-9;
    double samples = epoch_now(r) * (double)r->train.n;
    result list[] = {
        { "epoch", epoch_now(r), 0 },
        { "total_flos", total_flos(r), 0 },
        { "train_loss", train_loss(r), 0 },
        { "train_runtime", r->s.seconds, 0 },
        { "train_samples", (double)r->train.n, 1 },
        { "train_samples_per_second", samples / seconds, 0 },
        { "train_skipped_steps", (double)r->s.skipped, 1 },
        { "train_steps_per_second", steps / seconds, 0 } };
    memcpy(to, list, sizeof list);
    return sizeof list / sizeof *list;
}

// The figures' names, in the order of `metrics`.
static const char *const eval_keys[N_METRICS] = {
    "eval_loss", "eval_start_accuracy", "eval_end_accuracy", "eval_accuracy", "eval_exact_match",
    "eval_f1", "eval_rouge_w", "eval_HasAns_exact", "eval_HasAns_f1", "eval_NoAns_exact",
    "eval_NoAns_f1", "eval_best_exact", "eval_best_exact_thresh", "eval_best_f1",
    "eval_best_f1_thresh" };

static size_t eval_results(const run *r, result *to) {
    const mrc_eval_result *e = &r->s.eval;
    double seconds = r->s.eval_seconds > 0 ? r->s.eval_seconds : 1e-9;
    double batches = ceil((double)r->validation.n / (double)r->a.eval_batch_size);
    result list[] = {
        { "epoch", epoch_now(r), 0 },
        { "eval_runtime", r->s.eval_seconds, 0 },
        { "eval_samples", (double)r->validation.n, 1 },
        { "eval_samples_per_second", (double)r->validation.n / seconds, 0 },
        { "eval_steps_per_second", batches / seconds, 0 } };
    size_t n = sizeof list / sizeof *list;
    memcpy(to, list, sizeof list);
    for (int i = 0; i < N_METRICS; i++) {
        if (is_measured(&r->a, i)) to[n++] = (result){ eval_keys[i], figure_of(e, i), 0 };
    }
    return n;
}

static void finish(run *r) {
    result list[64];
    char path[TOOL_PATH_BYTES];
    swap_average(r);
    tool_check(r->ctx, mrc_model_save(r->ctx, r->model, r->a.output_dir, r->tokenizer_dir));
    swap_average(r);
    size_t n = train_results(r, list);
    save_results(r, "train_results.json", list, n);
    if (r->s.has_eval) {
        size_t n_eval = eval_results(r, list);
        save_results(r, "eval_results.json", list, n_eval);
        n = train_results(r, list);
        // Both have "epoch", the first of the unsorted evaluation results.
        result more[32];
        n_eval = eval_results(r, more);
        memcpy(list + n, more + 1, (n_eval - 1) * sizeof *more);
        n += n_eval - 1;
    }
    save_results(r, "all_results.json", list, n);
    r->begun = tool_seconds();          // what follows is no training
    tool_logs_finish(&r->logs, train_seconds(r));
    mrc_text state = state_text(r, 1);
    tool_check(r->ctx, mrc_file_write(r->ctx, tool_path(path, r->a.output_dir,
                                                        "trainer_state.json"), state.data,
                                      state.bytes));
    mrc_text_free(&state);
    tool_check(r->ctx, mrc_dir_sync(r->ctx, r->a.output_dir));
    if (mrc_ctx_memory(r->ctx).step_reserved > r->step_bytes) {
        tool_note("memory: the plan of %zu bytes for a step was short of %zu", r->step_bytes,
                  mrc_ctx_memory(r->ctx).step_reserved);
    }
    tool_note("%s: finished %llu steps in %.0f s, %zu MiB at most%s", r->a.output_dir,
              (unsigned long long)r->s.step, r->s.seconds, tool_peak_bytes() >> 20,
              r->s.skipped ? ", some of them skipped" : "");
    if (r->s.has_best) {
        tool_note("%s/best: eval/%s %.4f at step %llu", r->a.output_dir,
                  r->a.metric_for_best_model, r->s.best_metric, (unsigned long long)r->s.best_step);
    }
}

static void close_run(run *r) {
    mrc_features_free(&r->train);
    mrc_features_free(&r->validation);
    mrc_dataset_free(r->train_set);
    mrc_dataset_free(r->validation_set);
    mrc_dataset_free(r->whole_train);
    mrc_dataset_free(r->whole_validation);
    mrc_dataset_free(r->all_set);
    mrc_batch_plan_free(&r->plan);
    mrc_tokenizer_free(r->tok);
    mrc_optimizer_free(r->optimizer);
    mrc_ctx_free(r->ctx);
    mrc_model_free(r->model);
    mrc_backend_free(r->be);
    free(r->batch);
    mrc_text_free(&r->identity);
    mrc_text_free(&r->args_text);
    mrc_text_free(&r->history);
    if (r->log >= 0) close(r->log);
    if (r->lock >= 0) close(r->lock);
}

static run the_run = { .a = { .head = -1, .doc_stride = SIZE_MAX } };

static int run_program(tool_program *program) {
    run *r = &the_run;
    r->flags = program->flags;
    r->saved_step = UINT64_MAX;
    check_usage(r, program);
    tool_catch_signals();
    r->be = tool_backend_new();
    check_precision(r);
    r->ctx = tool_ctx_new(r->be, 0);
    open_output(r);
    if (load_inputs(r, program)) {
        plan_run(r);
        begin_output(r);
        tool_note("%s: %zu features, %llu steps%s%s", r->a.train_file, r->train.n,
                  (unsigned long long)r->total_steps, r->checkpoint[0] ? ", resumed from " : "",
                  r->checkpoint);
        train(r);
        finish(r);
    }
    close_run(r);
    return tool_finish();
}

#define A the_run.a
static tool_flag the_flags[] = {
    { .name = "CONFIG", .string = &A.config, .positional = 1, .value = "FILE.yaml|FILE.json",
      .otherwise = "none", .help = "flags by name, in sections or not; those given here win" },
    { .name = "model_name_or_path", .string = &A.model_name_or_path, .value = "DIR",
      .help = "the model directory to begin with: config.json, model.safetensors, vocab.txt" },
    { .name = "config_name", .string = &A.config_name, .value = "FILE",
      .help = "instead: a config.json; the weights come from --seed" },
    { .name = "tokenizer_name", .string = &A.tokenizer_name, .value = "DIR",
      .otherwise = "the model directory", .help = "a directory with the vocabulary, or vocab.txt" },
    { .name = "train_file", .string = &A.train_file, .value = "FILE", .required = 1,
      .help = "SQuAD, KorQuAD or KLUE JSON, or JSONL" },
    { .name = "validation_file", .string = &A.validation_file, .value = "FILE",
      .help = "the same, to measure on; rows that cannot be used are left out, kept questions "
              "without a feature count as wrong" },
    { .name = "output_dir", .string = &A.output_dir, .value = "DIR", .required = 1,
      .help = "for the final model, best/, checkpoints, log.jsonl and results" },
    { .name = "overwrite_output_dir", .flag = &A.overwrite_output_dir,
      .help = "remove what an earlier run left there and begin anew" },
    { .name = "resume_from_checkpoint", .string = &A.resume_from_checkpoint, .value = "DIR",
      .bare = "", .help = "go on from this checkpoint; without DIR from the newest valid one of "
                          "the output directory" },
    { .name = "do_train", .flag = &A.do_train, .preset = "true",
      .help = "as in run_qa.py; this program always trains" },
    { .name = "do_eval", .flag = &A.do_eval, .preset = "true",
      .help = "measure on --validation_file, if there is one" },
    { .name = "compat", .choice = &A.compat, .choices = "none|reference", .preset = "none",
      .help = "reference: do as the study's program did: sentinel encoding, all padded, dropout "
              "on while validating, validation after 101, 201, 301 steps of each epoch, one "
              "parameter group, no clipping" },
    { .name = "head", .choice = &A.head, .choices = "linear|mlp|bilstm|bigru|conv1d",
      .otherwise = "the model's, else linear",
      .help = "what stands on the encoder: a linear map, with layers before it" },
    { .name = "num_rnn_layers", .size = &A.num_rnn_layers, .preset = "2", .min = 1, .max = 16,
      .help = "of any head but linear" },
    { .name = "rnn_hidden_size", .size = &A.rnn_hidden_size, .min = 1, .max = 65536,
      .otherwise = "the model's hidden_size", .help = "of those layers, each direction" },
    { .name = "rnn_dropout", .real = &A.rnn_dropout, .preset = "0.2", .max = 1, .below_max = 1,
      .help = "between those layers" },
    { .name = "head_kernel_size", .size = &A.head_kernel_size, .preset = "3", .min = 1,
      .max = 1023, .unit = "tokens", .help = "of --head conv1d, an odd number" },
    { .name = "freeze_layers", .size = &A.freeze_layers, .preset = "0", .max = 1000,
      .help = "the embeddings and so many layers are not trained; 0: all are" },
    { .name = "loss", .choice = &A.loss, .choices = "ce|focal|label_smoothing", .preset = "ce",
      .help = "cross-entropy, or one of its kin" },
    { .name = "gamma", .real = &A.gamma, .preset = "0.5", .max = 100,
      .help = "of --loss focal; --compat reference: 1" },
    { .name = "smoothing", .real = &A.smoothing, .preset = "0.2", .max = 1, .below_max = 1,
      .help = "of --loss label_smoothing" },
    { .name = "loss_variant", .choice = &A.loss_variant, .choices = "standard|reference",
      .otherwise = "standard; with --compat reference its own",
      .help = "reference: focal takes p for a constant, smoothing gives s to the K - 1 others" },
    { .name = "loss_positions", .choice = &A.loss_positions, .choices = "padded|valid",
      .preset = "padded", .help = "what the softmax runs over: pads too, or real tokens alone" },
    { .name = "loss_spike", .choice = &A.loss_spike, .choices = "off|warn|skip|rollback",
      .preset = "warn", .help = "what is done about a loss far above the last 128: it is said; the "
              "step is skipped; the newest checkpoint's weights and moments come back too" },
    { .name = "rdrop_alpha", .real = &A.rdrop_alpha, .preset = "0", .max = 1e6,
      .help = "R-Drop: weight of the divergence of two passes; 0: one pass" },
    { .name = "fgm_epsilon", .real = &A.fgm_epsilon, .preset = "0", .max = 1e6,
      .help = "FGM: how far an adversary moves the word embeddings; 0: there is none" },
    { .name = "encoding", .choice = &A.encoding, .choices = "offsets|sentinel",
      .preset = "offsets", .help = "offsets: windows with a stride; sentinel: the study's, one "
                                   "truncated sequence, dropped where it loses the answer" },
    { .name = "max_seq_length", .alias = "max_length",
      .size = &A.max_seq_length, .min = 8, .max = 65536,
      .unit = "tokens", .otherwise = "512, or what the model allows",
      .help = "of a window, question and special tokens included" },
    { .name = "doc_stride", .size = &A.doc_stride, .max = 65536, .unit = "tokens",
      .otherwise = TOOL_STRIDE_HELP, .help = "overlap of two windows" },
    { .name = "pad_to_max_length", .flag = &A.pad_to_max_length,
      .help = "pad all windows to --max_seq_length; by default nothing is padded" },
    { .name = "batching", .choice = &A.batching,
      .choices = "random|sequential|sorted|token_budget", .preset = "random",
      .help = "which rows go together: shuffled; in file order; of similar length; as many as "
              "have the tokens of --per_device_train_batch_size longest ones" },
    { .name = "per_device_train_batch_size", .alias = "batch_size|train_batch_size",
      .size = &A.train_batch_size, .preset = "8",
      .min = 1, .max = 65536, .help = "windows in memory at a time" },
    { .name = "per_device_eval_batch_size", .alias = "eval_batch_size",
      .size = &A.eval_batch_size, .preset = "8",
      .min = 1, .max = 65536, .help = "the same while measuring" },
    { .name = "gradient_accumulation_steps", .size = &A.accumulation, .preset = "1",
      .min = 1, .max = 65536, .help = "such batches in one optimizer step" },
    { .name = "gradient_checkpointing", .flag = &A.gradient_checkpointing,
      .help = "keep one tensor of each layer and compute the rest again: less memory, a third more "
              "time, the same results to the bit; the memory is printed before the first step" },
    { .name = "fp16", .flag = &A.fp16,
      .help = "mixed precision: activations and working copies of the weights in 16 bits, the loss "
              "scaled so that small gradients survive; where the backend has it" },
    { .name = "bf16", .flag = &A.bf16,
      .help = "the same in bfloat16, which has the range of float: no scaling" },
    TOOL_TF32_FLAG,
    { .name = "learning_rate", .real = &A.learning_rate, .preset = "5e-5", .max = 1e6,
      .help = "at its highest" },
    { .name = "weight_decay", .real = &A.weight_decay, .preset = "0", .max = 1e6,
      .help = "of any optimizer; biases and LayerNorm weights are spared" },
    { .name = "adam_beta1", .real = &A.adam_beta1, .preset = "0.9", .max = 1, .below_max = 1,
      .help = "of AdamW and AdamP" },
    { .name = "adam_beta2", .real = &A.adam_beta2, .preset = "0.999", .max = 1, .below_max = 1,
      .help = "of AdamW" },
    { .name = "adam_epsilon", .real = &A.adam_epsilon, .preset = "1e-8", .max = 1e6,
      .help = "of AdamW" },
    { .name = "max_grad_norm", .real = &A.max_grad_norm, .preset = "1", .max = 1e9,
      .help = "gradients are scaled down to this norm; 0: no clipping" },
    { .name = "optim", .choice = &A.optim, .choices = "adamw_torch|adamw_hf|adamp|sgd",
      .preset = "adamw_torch", .help = "the optimizer; the first two differ in whose AdamW it is" },
    { .name = "adamp_delta", .real = &A.adamp_delta, .preset = "0.1", .max = 1e6,
      .help = "of AdamP: how close to a right angle" },
    { .name = "adamp_wd_ratio", .real = &A.adamp_wd_ratio, .preset = "0.1", .max = 1,
      .help = "of AdamP: weight decay where the step is projected" },
    { .name = "nesterov", .flag = &A.nesterov, .help = "of AdamP" },
    { .name = "momentum", .real = &A.momentum, .preset = "0", .max = 1, .below_max = 1,
      .help = "of SGD" },
    { .name = "ema_decay", .real = &A.ema_decay, .preset = "0", .max = 1, .below_max = 1,
      .help = "an average of the weights is what is measured and kept; 0: the weights are" },
    { .name = "layerwise_lr_decay", .real = &A.layerwise_lr_decay, .preset = "1", .max = 1,
      .above_min = 1, .help = "the learning rate of a layer, as part of the one above" },
    { .name = "head_learning_rate", .real = &A.head_learning_rate, .max = 1e6,
      .otherwise = "--learning_rate", .help = "of the head" },
    { .name = "lr_scheduler_type", .choice = &A.schedule,
      .choices = "linear|cosine|cosine_with_restarts|polynomial|constant|constant_with_warmup|"
                 "inverse_sqrt", .preset = "linear",
      .help = "linear and cosine fall to 0 at the last step" },
    { .name = "lr_num_cycles", .real = &A.lr_num_cycles, .max = 1e6,
      .otherwise = "0.5 for cosine, 1 with restarts", .help = "of the cosine" },
    { .name = "lr_power", .real = &A.lr_power, .preset = "1", .max = 100,
      .help = "of the polynomial" },
    { .name = "lr_end", .real = &A.lr_end, .preset = "1e-7", .max = 1e6,
      .help = "where the polynomial ends" },
    { .name = "warmup_steps", .size = &A.warmup_steps, .preset = "0", .max = 1e12,
      .unit = "steps", .help = "the learning rate rises from 0" },
    { .name = "warmup_ratio", .real = &A.warmup_ratio, .preset = "0", .max = 1,
      .help = "instead of --warmup_steps: the part of all steps" },
    { .name = "num_train_epochs", .alias = "epochs",
      .real = &A.num_train_epochs, .preset = "3", .max = 1e6,
      .above_min = 1, .help = "times that the data is seen; may be a fraction" },
    { .name = "max_steps", .integer = &A.max_steps, .preset = "-1", .min = -1, .max = 4e9,
      .unit = "steps", .help = "instead of --num_train_epochs; -1: not used" },
    { .name = "eval_steps", .size = &A.eval_steps, .min = 1, .max = 1e12, .unit = "steps",
      .otherwise = "each epoch's end; the last step is always measured",
      .help = "between two measurements" },
    { .name = "eval_strategy", .alias = "evaluation_strategy", .choice = &A.eval_strategy,
      .choices = "auto|no|steps|epoch", .preset = "auto",
      .help = "when to measure; auto: steps if --eval_steps is given, else epoch" },
    { .name = "max_train_samples", .size = &A.max_train_samples, .preset = "0", .max = 1e12,
      .unit = "examples", .help = "train on the first of them; 0: all" },
    { .name = "max_eval_samples", .size = &A.max_eval_samples, .preset = "0", .max = 1e12,
      .unit = "examples", .help = "measure on the first of them; 0: all" },
    { .name = "validation", .flag = &A.validation,
      .help = "a key of the study's config.yaml that changes nothing, there or here" },
    { .name = "DEBUG", .flag = &A.debug, .help = "the same, as long as it is false" },
    { .name = "num_folds", .size = &A.num_folds, .preset = "0", .max = 1e9,
      .help = "splits --train_file as scikit-learn's KFold(shuffle=True, random_state=seed) does; "
              "0: does not" },
    { .name = "fold", .size = &A.fold, .preset = "0", .max = 1e9,
      .help = "with --num_folds: the one that is measured on, from 0" },
    { .name = "metric_for_best_model", .alias = "metric_key",
      .string = &A.metric_for_best_model, .value = "NAME",
      .otherwise = "exact_match; accuracy with --encoding sentinel",
      .help = "what best/ is best by: loss, start_accuracy, end_accuracy, accuracy, exact_match, "
              "f1; klue: rouge_w; squad_v2: HasAns_f1, NoAns_f1, best_f1 and their exact" },
    { .name = "greater_is_better", .flag = &A.greater_is_better,
      .otherwise = "true, but for loss", .help = "whether more of it is" },
    { .name = "patience", .size = &A.patience, .preset = "0", .max = 1e9, .unit = "evaluations",
      .help = "ends the run after so many without a better one; 0: never" },
    { .name = "logging_steps", .size = &A.logging_steps, .preset = "500", .max = 1e12,
      .unit = "steps", .help = "between two lines of log.jsonl; 0: none" },
    { .name = "report_to", .list = &A.report_to, .value = "NAME ..", .preset = "none",
      .help = "log for others too, tensorboard, wandb (an offline run, for `wandb sync`; project "
              "$WANDB_PROJECT or huggingface), both, or all; log.jsonl is there "
              "always" },
    { .name = "logging_dir", .string = &A.logging_dir, .value = "DIR",
      .otherwise = "output_dir/runs/DATE_HOST", .help = "where TensorBoard's event file is begun" },
    { .name = "run_name", .string = &A.run_name, .value = "NAME",
      .otherwise = "--output_dir", .help = "of the run in W&B" },
    { .name = "save_steps", .size = &A.save_steps, .preset = "500", .max = 1e12,
      .unit = "steps", .help = "between two checkpoints; the last step has one; 0: only that" },
    { .name = "save_total_limit", .size = &A.save_total_limit, .preset = "0", .max = 1e12,
      .help = "checkpoints kept, the newest; 0: all" },
    { .name = "metric", .choice = &A.metric, .choices = "korquad|squad|squad_v2|klue",
      .preset = "korquad",
      .help = "whose definition of eval/exact_match and eval/f1 (klue: ROUGE-W); squad_v2 without "
              "this flag where --version_2_with_negative is given" },
    { .name = "version_2_with_negative", .flag = &A.version_2_with_negative,
      .help = "a question may have no answer in its passage: \"\" is an answer while measuring" },
    { .name = "null_score_diff_threshold", .real = &A.null_score_diff_threshold, .preset = "0",
      .help = "the answer is \"\" when that scores more than this above the best span; "
              "eval/best_f1_thresh is the best one, with --metric squad_v2" },
    { .name = "postprocess", .choice = &A.postprocess, .choices = "squad|pipeline|legacy",
      .preset = "squad", .help = "how answers are decoded while measuring: see predict" },
    { .name = "n_best_size", .size = &A.n_best_size, .preset = "20", .min = 1, .max = 1000,
      .help = "candidates for an answer while measuring" },
    { .name = "max_answer_length", .size = &A.max_answer_length, .preset = "30", .min = 1,
      .max = 65536, .unit = "tokens", .help = "of an answer while measuring" },
    { 0 }
};
#undef A

static tool_program program = {
    .name = "train", .group = "train and compare", .run = run_program,
    .flags = the_flags, .config = &the_run.a.config,
    .purpose = "Trains or fine-tunes a reader: a BERT or RoBERTa model that points at the "
               "answer to a question in a passage. Measures it on the way, saves, resumes.",
    .usage = "[CONFIG] --model_name_or_path DIR --train_file FILE --output_dir DIR [flags]",
    .examples = { "train --model_name_or_path klue-roberta-base --train_file train.json "
                  "--validation_file dev.json --output_dir out --learning_rate 3e-5",
                  "train --config_name data/config.json --tokenizer_name data --train_file "
                  "data/train.jsonl --output_dir out --max_steps 100" }
};
TOOL_PROGRAM(train, program)
