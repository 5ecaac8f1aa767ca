// train's state: what a run holds, its output directory, log.jsonl, trainer_state.json, resuming.
#ifndef TRAIN_STATE_H
#define TRAIN_STATE_H
#include "logs.h"
#include "folders.h"
#include "train_flags.h"
#include <sys/file.h>
#include <sys/stat.h>

#define RECENT_LOSSES 128               // what a loss is held against: so many before it

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
    train_args    *a;
    tool_flag     *flags;
    mrc_backend   *be;
    mrc_ctx       *ctx;
    mrc_comm      *comm;                // NULL: this process trains alone
    size_t         micro_batches;       // of a full step, on all ranks
    int            stop;                // a rank has seen a signal: after the step all know
    mrc_tokenizer *tok;
    char           towers[2][TOOL_PATH_BYTES];  // of passages and of questions
    const char    *model_dir, *query_dir;       // the models to begin with; NULL: there is none
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
    mrc_pairs     *pairs, *eval_pairs;  // of a --task for retrieval; NULL: a reader
    mrc_encoder   *encoder, *teacher;
    mrc_batch_plan plan;                // of `epoch`; batch `at` is next
    uint32_t       epoch;
    size_t         at, fixed_batches;   // fixed_batches: of every epoch; 0: they differ
    uint64_t       total_steps, warmup_steps, eval_steps, logging_steps, save_steps;
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

// Rank 0, or the only one: it alone prints, logs and writes.
static int is_writer(const run *r) { return !r->comm || r->comm->rank == 0; }

// Whether the run is to end: of several ranks, when all know it.
static int is_stopping(const run *r) { return r->comm ? r->stop : tool_signal; }

//==============================================================================
// Files of the output directory
//==============================================================================
static int is_run_file(const char *name) {
    static const char *const names[] = {
        "log.jsonl", "logs.json", "trainer_state.json", "train_results.json", "eval_results.json",
        "all_results.json", "train_args.json", "config.json", "model.safetensors", "best",
        ".best.tmp", ".best.old", "modules.json", "config_sentence_transformers.json",
        "sentence_bert_config.json", "artifact.metadata", "1_Pooling", "1_Dense", "2_Dense",
        "2_Normalize", "3_Normalize", "ctx_encoder", "question_encoder", ".eval.tmp" };
    const size_t own = sizeof names / sizeof *names;
    const char *known;
    for (size_t i = 0; (known = i < own ? names[i] : mrc_tokenizer_file(i - own)) != NULL; i++) {
        size_t n = strlen(known);
        if (strcmp(name, known) == 0) return 1;
        // What a killed process was writing: NAME.tmp.PID or NAME.tmp.PID.N.
        if (strncmp(name, known, n) == 0 && strncmp(name + n, ".tmp.", 5) == 0
            && strspn(name + n + 5, "0123456789.") == strlen(name + n + 5)) return 2;
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
    r->lock = open(r->a->output_dir, O_RDONLY | O_CLOEXEC);
    if (r->lock < 0) {
        tool_fail(TOOL_IO, "%s: cannot be opened: %s", r->a->output_dir, strerror(errno));
    }
    if (flock(r->lock, LOCK_EX | LOCK_NB) == 0) return;
    if (errno == EWOULDBLOCK || errno == EAGAIN) {
        tool_fail(TOOL_BAD_INPUT, "%s: another train is writing there (found its lock, expected "
                  "none)", r->a->output_dir);
    }
    tool_note("%s: cannot be locked (%s): no second train may write there", r->a->output_dir,
              strerror(errno));
}

static void refuse_full(run *r) {
    size_t n = 0;
    tool_check(r->ctx, mrc_dir_list(r->ctx, r->a->output_dir, count_one, &n));
    if (n && !r->a->overwrite_output_dir && !r->a->resume_from_checkpoint) {
        tool_fail(TOOL_BAD_INPUT, "%s: the output directory is not empty (found %zu entries, "
                  "expected none, --overwrite_output_dir or --resume_from_checkpoint)",
                  r->a->output_dir, n);
    }
}

// What the run begins with must not be what it will replace.
static void refuse_own_source(const run *r, const char *flag, const char *path) {
    char *out = path ? realpath(r->a->output_dir, NULL) : NULL;
    char *source = out ? realpath(path, NULL) : NULL;
    size_t n = out ? strlen(out) : 0;
    if (source && strncmp(source, out, n) == 0 && (!source[n] || source[n] == '/')) {
        char *below = source + n + (source[n] == '/');
        below[strcspn(below, "/")] = 0;
        if (!*below || is_run_file(below) || is_checkpoint(below)) {
            tool_fail(TOOL_BAD_INPUT, "%s: --output_dir holds what %s begins with, which would be "
                      "overwritten (found %s, expected another directory)", r->a->output_dir, flag,
                      path);
        }
    }
    free(source);
    free(out);
}

// Before the inputs are read: an output directory that cannot be used ends the run early.
static void open_output(run *r) {
    r->lock = r->log = -1;
    if (!is_writer(r)) return;
    mrc_path kind = mrc_path_kind(r->a->output_dir);
    if (kind == MRC_PATH_FILE) {
        tool_fail(TOOL_BAD_INPUT, "%s: is no directory (found a file)", r->a->output_dir);
    }
    if (kind == MRC_PATH_NONE) tool_try_place(r->a->output_dir, 1);
    tool_logs_try(tool_list_join(&r->a->report_to), r->a->logging_dir);
    refuse_own_source(r, "--model_name_or_path", r->a->model_name_or_path);
    refuse_own_source(r, "--config_name", r->a->config_name);
    refuse_own_source(r, "--tokenizer_name", r->a->tokenizer_name);
    if (kind == MRC_PATH_DIR) {
        lock_output(r);
        refuse_full(r);
    }
}

//==============================================================================
// log.jsonl
//==============================================================================
static void log_fail(const run *r, const char *what) {
    tool_fail(TOOL_IO, "%s/log.jsonl: cannot be %s: %s", r->a->output_dir, what, strerror(errno));
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
    tool_check_text(line);
    for (size_t done = 0; is_writer(r) && done < line->bytes;) {
        ssize_t n = write(r->log, line->data + done, line->bytes - done);
        if (n < 0 && errno != EINTR) log_fail(r, "written");
        if (n > 0) done += (size_t)n;
    }
    r->s.log_bytes += line->bytes;
    r->s.log_crc = mrc_crc32c(r->s.log_crc, line->data, line->bytes);
    if (is_writer(r)) log_take(r, line->data, line->bytes);
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
    tool_path(path, r->a->output_dir, "log.jsonl");
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
        "passages", "queries", "qrels", "negatives", "teacher", "eval_passages", "eval_queries",
        "eval_qrels", "eval_negatives", "save_steps", "save_total_limit", "gradient_checkpointing",
        "CONFIG", "report_to",
        "logging_dir", "run_name", "validation", "DEBUG", "eval_strategy", "save_strategy",
        "load_best_model_at_end", "ddp_backend", "ddp_timeout", "micro_batches_per_step",
        "sharded_optimizer", NULL };
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
        // The number of ranks does not count, the micro-batches of a step do.
        if (!strcmp(f->name, "gradient_accumulation_steps")) {
            mrc_text_printf(&value, "%zu", r->micro_batches);
        } else {
            tool_flag_text(&value, f);
        }
        tool_json_string(t, f->name, value.data);
        mrc_text_free(&value);
    }
    mrc_text_printf(t, ", \"seed\": \"%lld\"}", (long long)tool_common.seed);
}

// Calls fn for each file that the run is made from; key is what trainer_state.json calls it.
typedef void (*input_fn)(run *r, void *user, const char *key, const char *path);
static void each_input(run *r, input_fn fn, void *user) {
    char path[TOOL_PATH_BYTES];
    const char *file;
    fn(r, user, "train_file", r->a->train_file);
    fn(r, user, "validation_file", r->a->validation_file);
    fn(r, user, "passages", r->a->passages);
    fn(r, user, "queries", r->a->queries);
    fn(r, user, "qrels", r->a->qrels);
    fn(r, user, "negatives", r->a->negatives);
    fn(r, user, "teacher", r->a->teacher);
    fn(r, user, "eval_passages", r->a->eval_passages);
    fn(r, user, "eval_queries", r->a->eval_queries);
    fn(r, user, "eval_qrels", r->a->eval_qrels);
    fn(r, user, "eval_negatives", r->a->eval_negatives);
    fn(r, user, "config.json", r->model_dir ? tool_path(path, r->model_dir, "config.json")
                                            : r->a->config_name);
    fn(r, user, "query model", r->query_dir ? tool_path(path, r->query_dir, "config.json") : NULL);
    fn(r, user, "teacher model", r->a->teacher_model
       ? tool_path(path, r->a->teacher_model, "config.json") : NULL);
    for (size_t i = 0; (file = mrc_tokenizer_file(i)) != NULL; i++) {
        const char *dir = r->tokenizer_dir;
        int is_dir = mrc_path_kind(dir) == MRC_PATH_DIR;
        const char *of = is_dir ? tool_path(path, dir, file) : i == 0 ? dir : NULL;
        fn(r, user, file, of && mrc_path_kind(of) == MRC_PATH_FILE ? of : NULL);
    }
}

// A data set's folder counts by the files in it, in any order.
typedef struct folder_sum { const char *dir; uint64_t bytes; uint32_t crc; } folder_sum;
static mrc_status sum_one(mrc_ctx *ctx, void *user, const char *name) {
    folder_sum *sum = user;
    char path[TOOL_PATH_BYTES];
    uint32_t crc;
    uint64_t bytes;
    if (mrc_path_kind(tool_path(path, sum->dir, name)) != MRC_PATH_FILE) return MRC_OK;
    mrc_status status = mrc_file_crc32c(ctx, path, &crc, &bytes);
    if (status != MRC_OK) return status;
    sum->bytes += bytes;
    sum->crc += crc;
    return MRC_OK;
}

static void input_add(run *r, void *user, const char *key, const char *path) {
    mrc_text *t = user;
    folder_sum sum = { .dir = path };
    if (!path) return;
    tool_want_twice(path);              // its checksum is taken here
    const int folder = mrc_path_kind(path) == MRC_PATH_DIR;
    if (folder && strcmp(key, "config.json") == 0) {    // --config_name may be a folder
        char file[TOOL_PATH_BYTES];
        input_add(r, user, key, tool_path(file, path, "config.json"));
        return;
    }
    tool_check(r->ctx, folder ? mrc_dir_list(r->ctx, path, sum_one, &sum)
                              : mrc_file_crc32c(r->ctx, path, &sum.crc, &sum.bytes));
    tool_json_key(t, key);
    mrc_text_printf(t, "\"%llu bytes, crc32c %08lx\"", (unsigned long long)sum.bytes,
                    (unsigned long)sum.crc);
}

// Flags and inputs as members of a JSON object, once: files may change while the run goes on.
static void identify(run *r) {
    mrc_text *t = &r->identity;
    mrc_text_init(t, r->ctx);
    flags_add(t, r);
    mrc_text_add(t, ", \"inputs\": {", 13);
    each_input(r, input_add, t);
    mrc_text_add(t, "}", 1);
    tool_check_text(t);
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
    tool_check_text(&t);
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
        if (is_measured(r->a, i)) log_number(t, metrics[i].name, figure_of(e, i));
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
        tool_path(best, r->a->output_dir, "best");
        mrc_text_json_string(t, best, strlen(best), 0);
    } else {
        mrc_text_add(t, "null", 4);
    }
    tool_json_number(t, "epoch", epoch_now(r));
    tool_json_integer(t, "eval_steps", (int64_t)r->eval_steps);
    tool_json_integer(t, "global_step", (int64_t)r->s.step);
    mrc_text_printf(t, ", \"is_hyper_param_search\": false, \"is_local_process_zero\": true, "
                    "\"is_world_process_zero\": true");
    tool_json_integer(t, "logging_steps", (int64_t)r->logging_steps);
    tool_json_integer(t, "max_steps", (int64_t)r->total_steps);
    tool_json_integer(t, "num_input_tokens_seen", (int64_t)r->s.tokens);
    tool_json_number(t, "num_train_epochs", r->a->num_train_epochs);
    tool_json_integer(t, "save_steps", (int64_t)r->save_steps);
    tool_json_number(t, "total_flos", total_flos(r));
    tool_json_integer(t, "train_batch_size", (int64_t)r->a->train_batch_size);
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
    tool_check_text(&t);
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
        if (!is_measured(r->a, i)) continue;
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
    const char *wanted = r->a->resume_from_checkpoint;
    r->checkpoint[0] = 0;
    if (!wanted) return;
    if (*wanted) {
        if (mrc_path_kind(wanted) != MRC_PATH_DIR) {
            tool_fail(TOOL_BAD_INPUT, "%s: no such checkpoint (expected a directory)", wanted);
        }
        folder_want_checkpoint(r->ctx, wanted);
        tool_check(r->ctx, mrc_checkpoint_check(r->ctx, wanted));
        if (strlen(wanted) >= sizeof r->checkpoint) {
            tool_fail(TOOL_USAGE, "--resume_from_checkpoint: the path is too long");
        }
        memcpy(r->checkpoint, wanted, strlen(wanted) + 1);
        return;
    }
    tool_log_errors = 1;                // those that do not hold are skipped, and said
    mrc_status status = mrc_checkpoint_find(r->ctx, r->a->output_dir, r->checkpoint,
                                            sizeof r->checkpoint);
    tool_log_errors = 0;
    tool_check(r->ctx, status);
    if (!r->checkpoint[0]) {
        tool_note("%s: no valid checkpoint to resume from: starting at step 0", r->a->output_dir);
    }
}

// A run that has its final model is left alone.
static int is_finished(run *r) {
    char path[TOOL_PATH_BYTES];
    mrc_json *root;
    const char *wanted = r->a->resume_from_checkpoint;
    if (!wanted || *wanted) return 0;
    tool_path(path, r->a->output_dir, "trainer_state.json");
    if (mrc_path_kind(path) != MRC_PATH_FILE) return 0;
    tool_check(r->ctx, mrc_json_load(r->ctx, &root, path));
    const mrc_json *finished = mrc_json_get(root, "finished");
    int done = finished && finished->type == MRC_JSON_TRUE;
    if (done) {
        same_run(r, path, root);
        tool_note("%s: the run is finished (step %llu of %llu): nothing to do", r->a->output_dir,
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
    tool_path(best, r->a->output_dir, "best");
    tool_path(old, r->a->output_dir, ".best.old");
    if (!mrc_path_kind(best) && mrc_path_kind(old)) move(old, best);
    tool_check(r->ctx, mrc_dir_remove(r->ctx, old));
    tool_check(r->ctx, mrc_dir_remove(r->ctx, tool_path(fresh, r->a->output_dir, ".best.tmp")));
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
        // Given they change the model; where they are not, its directory says what holds.
        static const char *const of_the_model[] = { "similarity", "projection_size",
                                                    "query_expansion", "num_rnn_layers",
                                                    "rnn_dropout", "head_kernel_size", NULL };
        int skip = 0;
        for (int i = 0; of_one_process[i]; i++) skip |= !strcmp(f->name, of_one_process[i]);
        for (int i = 0; of_the_model[i]; i++) {
            skip |= !f->given && !strcmp(f->name, of_the_model[i]);
        }
        // A number without a default that is 0, or a size that is the largest, was not given.
        skip |= !f->preset && ((f->size && (!*f->size || *f->size == SIZE_MAX))
                               || (f->real && *f->real == 0) || (f->integer && *f->integer < 0));
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
    tool_check_text(t);
    tool_check(r->ctx, mrc_file_write(r->ctx, tool_path(path, r->a->output_dir, "train_args.json"),
                                      t->data, t->bytes));
}

// The output directory as the state wants it: nothing in it is newer than the state but checkpoints
// of the same run, which will be written again to the same bytes.
static void begin_output(run *r) {
    char path[TOOL_PATH_BYTES];
    if (!is_writer(r)) return;
    cleaning c = { .dir = r->a->output_dir, .checkpoints = r->a->overwrite_output_dir,
                   .leftovers_only = r->checkpoint[0] != 0 };
    if (r->lock < 0) {
        tool_check(r->ctx, mrc_dir_new(r->ctx, r->a->output_dir));
        lock_output(r);
        refuse_full(r);
    }
    if (!r->checkpoint[0]) tool_logs_remove(r->ctx, r->a->output_dir);
    tool_check(r->ctx, mrc_dir_list(r->ctx, r->a->output_dir, clean_one, &c));
    if (r->checkpoint[0]) {
        restore_best(r);
        tool_check(r->ctx, mrc_dir_remove(r->ctx, tool_path(path, r->a->output_dir,
                                                            "trainer_state.json")));
    }
    save_args(r);
    tool_logs_desc logs = { .output_dir = r->a->output_dir,
                            .report_to = tool_list_join(&r->a->report_to),
                            .logging_dir = r->a->logging_dir, .run_name = r->a->run_name,
                            .flags = r->args_text.data };
    tool_logs_open(&r->logs, r->ctx, &logs);
    mrc_text_init(&r->history, r->ctx);
    log_open(r);
}

#endif
