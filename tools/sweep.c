// Runs `train` over a grid of flags, some at a time, and lays the results side by side.
//
// The sweep file (YAML or JSON) has the flags that all runs share and, for each flag that varies,
// the list of its values:
//     base:
//       config_name: data/config.json
//       tokenizer_name: data
//       train_file: data/train.jsonl
//     grid:
//       learning_rate: [0.0005, 0.001]
//       head: [linear, bilstm]
// A run lives in OUTPUT_DIR/learning_rate=0.001,head=bilstm and is always started with
// --resume_from_checkpoint: a sweep that was stopped, however that happened, goes on when the same
// command is given again, and a run that is finished costs nothing.
//
// With num_folds in base and no fold anywhere each combination runs once for every fold, and what
// scikit-learn calls cv_results_ comes out: means and standard deviations over the folds.
#include "process.h"

#define MAX_KEYS 64
#define MAX_RUNS 4096
#define TEXT_OF(x) TEXT_OF_(x)
#define TEXT_OF_(x) #x

typedef struct setting { const char *key; mrc_text value; } setting;    // as on a command line

typedef struct sweep_run {
    setting *settings;                  // one for each key of the grid
    char    *name;                      // of its folder
    pid_t    pid;                       // 0: not running
    int      code;                      // exit code; -1: was not started
} sweep_run;

static struct sweep_args {
    const char *file, *output_dir;
    size_t      jobs;
    int         json, dry_run, out_of_fold;
    tool_list   passed;                 // flags of train, "--name=value" each
} args;

static mrc_ctx         *ctx;
static mrc_json        *root;
static const mrc_json  *base, *grid;
static setting         *shared;         // of all runs: base, and above it the command line's
static size_t           n_shared;
static sweep_run       *runs;
static size_t           n_runs, n_keys; // keys: the grid's, then "fold" if there are folds
static size_t           n_folds;        // runs of a combination, side by side in `runs`; 0: none
extern const tool_entry tool_entry_train;

//==============================================================================
// The sweep file
//==============================================================================
_Noreturn static void refuse(const mrc_json *at, const char *what) {
    tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: %s", args.file, at->line, at->column, what);
}

// A scalar as text for a flag of train; of a list flag also a list of such, with commas.
static void add_value(mrc_text *t, const char *key, const mrc_json *v) {
    const tool_flag *f = tool__find(tool_entry_train.program, key, strlen(key));
    if (v->type == MRC_JSON_STRING) {
        mrc_text_add(t, v->string, v->bytes);
    } else if (v->type == MRC_JSON_ARRAY && f && f->list) {
        for (const mrc_json *e = v->child; e; e = e->next) {
            if (e != v->child) mrc_text_add(t, ",", 1);
            if (e->type == MRC_JSON_ARRAY) refuse(e, "not a value for a flag (found a list)");
            add_value(t, key, e);
        }
    } else if (v->type == MRC_JSON_ARRAY || v->type == MRC_JSON_OBJECT
               || v->type == MRC_JSON_NULL) {
        refuse(v, "not a value for a flag (found a list, an object or null, expected text, a "
                  "number or true or false)");
    } else {
        tool_json_value(t, v);
    }
    tool_check_text(t);
}

static const mrc_json *member(const char *name, int required) {
    const mrc_json *m = mrc_json_get(root, name);
    if (!m && required) {
        tool_fail(TOOL_BAD_INPUT, "%s: no \"%s\" (found %zu other keys, expected base and grid)",
                  args.file, name, root->n);
    }
    if (m && m->type != MRC_JSON_OBJECT) refuse(m, "expected flags and their values");
    return m;
}

// "YAML" by its name, else JSON.
static void load_file(void) {
    const char *dot = strrchr(args.file, '.');
    int yaml = dot && (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0);
    tool_check(ctx, yaml ? yaml_load(ctx, &root, args.file)
                         : mrc_json_load(ctx, &root, args.file));
    if (root->type != MRC_JSON_OBJECT) refuse(root, "expected an object with base and grid");
    tool_check(ctx, mrc_json_unique_keys(ctx, root, args.file));
    for (const mrc_json *m = root->child; m; m = m->next) {
        if (strcmp(m->key, "base") && strcmp(m->key, "grid")) {
            tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: unknown key (found %.60s, expected base or "
                      "grid)", args.file, m->line, m->column, m->key);
        }
    }
    base = member("base", 0);
    if (base) tool_check(ctx, mrc_json_unique_keys(ctx, base, args.file));
    grid = member("grid", 0);
    if (grid) tool_check(ctx, mrc_json_unique_keys(ctx, grid, args.file));
}

//==============================================================================
// Flags of train
//==============================================================================
static int is_own_key(const char *key) {
    static const char *const own[] = { "output_dir", "resume_from_checkpoint",
                                       "overwrite_output_dir", "help", "version" };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (strcmp(key, own[i]) == 0) return 1;
    }
    return 0;
}

// The flag of train that a key names, by its first name.
static const char *key_of(const mrc_json *at) {
    tool_program *train = tool_entry_train.program;
    const tool_flag *f = tool__find(train, at->key, at->key_bytes);
    if (!f) {
        const tool_foreign *foreign = tool__foreign(train, at->key, at->key_bytes);
        const char *advice = foreign ? foreign->advice : NULL;
        const char *near = tool__nearest(train, at->key, at->key_bytes);
        tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: not the name of a flag of train (found %.60s%s%s)",
                  args.file, at->line, at->column, at->key,
                  advice ? ": " : near ? ", expected perhaps " : "",
                  advice ? advice : near ? near : "");
    }
    if (is_own_key(f->name)) refuse(at, "this flag is the sweep's own");
    return f->name;
}

static setting *shared_find(const char *key) {
    for (size_t i = 0; i < n_shared; i++) {
        if (strcmp(shared[i].key, key) == 0) return &shared[i];
    }
    return NULL;
}

// The command line goes over base.
static void make_shared(void) {
    shared = tool_allocate((base ? base->n : 0) + args.passed.n, sizeof *shared);
    for (const mrc_json *k = base ? base->child : NULL; k; k = k->next) {
        setting *s = &shared[n_shared];
        s->key = key_of(k);
        if (shared_find(s->key)) refuse(k, "this flag stands twice in base");
        mrc_text_init(&s->value, ctx);
        add_value(&s->value, s->key, k);
        n_shared++;
    }
    for (size_t i = 0; i < args.passed.n; i++) {
        const char *word = args.passed.item[i] + 2;
        size_t bytes = strcspn(word, "=");
        const char *key = tool__find(tool_entry_train.program, word, bytes)->name;
        if (is_own_key(key)) tool_fail(TOOL_USAGE, "--%s: this flag is the sweep's own", key);
        setting *s = shared_find(key);
        if (!s) s = &shared[n_shared++];
        s->key = key;
        mrc_text_init(&s->value, ctx);
        mrc_text_add(&s->value, word + bytes + 1, strlen(word + bytes + 1));
        tool_check_text(&s->value);
    }
}

static int in_grid(const char *key) {
    for (const mrc_json *k = grid ? grid->child : NULL; k; k = k->next) {
        if (strcmp(key_of(k), key) == 0) return 1;
    }
    return 0;
}

// With num_folds and no fold anywhere each combination runs on every fold.
static void count_folds(void) {
    const setting *folds = shared_find("num_folds");
    int64_t n;
    if (!folds || shared_find("fold") || in_grid("fold")) return;
    if (!tool__parse_integer(folds->value.data, &n) || n < 2 || n > MAX_RUNS) {
        tool_fail(TOOL_BAD_INPUT, "%s: num_folds: not a number of folds (found %.60s, expected 2 "
                  "to " TEXT_OF(MAX_RUNS) ")", args.file, folds->value.data);
    }
    n_folds = (size_t)n;
}

static size_t count_runs(void) {
    make_shared();
    count_folds();
    if (!n_folds) member("grid", 1);
    size_t n = n_folds ? n_folds : 1;
    n_keys = (grid ? grid->n : 0) + (n_folds > 0);
    if (!n_keys || n_keys > MAX_KEYS) {
        tool_fail(TOOL_BAD_INPUT, "%s: grid varies %zu flags, expected 1 to %d", args.file, n_keys,
                  MAX_KEYS);
    }
    for (const mrc_json *k = grid ? grid->child : NULL; k; k = k->next) {
        if (shared_find(key_of(k))) {
            refuse(k, "this flag is in base or on the command line too");
        }
        if (k->type != MRC_JSON_ARRAY || !k->n) refuse(k, "expected a list of values");
        if (k->n > MAX_RUNS / n) {
            tool_fail(TOOL_BAD_INPUT, "%s: the grid has too many runs (found over %d, expected at "
                      "most %d)", args.file, MAX_RUNS, MAX_RUNS);
        }
        n *= k->n;
    }
    return n;
}

// "loss=focal,head=bilstm", what a folder's name should not have replaced by "_"; of n settings.
static char *run_name(const sweep_run *r, size_t n) {
    mrc_text t;
    mrc_text_init(&t, ctx);
    mrc_text_add(&t, "", 0);
    for (size_t k = 0; k < n; k++) {
        mrc_text_printf(&t, "%s%s=%s", k ? "," : "", r->settings[k].key,
                        r->settings[k].value.bytes ? r->settings[k].value.data : "");
    }
    tool_check_text(&t);
    if (t.bytes > 240) {
        tool_fail(TOOL_BAD_INPUT, "%s: a run's settings are too long for the name of a folder "
                  "(found %zu bytes, expected at most 240): %.60s..", args.file, t.bytes, t.data);
    }
    for (char *c = t.data; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("._-+=,", *c)) *c = '_';
    }
    return t.data;                      // kept until the program ends
}

// The last key changes fastest.
static void make_runs(void) {
    n_runs = count_runs();
    runs = tool_allocate(n_runs, sizeof *runs);
    for (size_t i = 0; i < n_runs; i++) {
        sweep_run *r = &runs[i];
        size_t left = n_runs, rest = i, k = 0;
        if (n_folds) {
            left /= n_folds;
            rest /= n_folds;
        }
        r->code = -1;
        r->settings = tool_allocate(n_keys, sizeof *r->settings);
        for (const mrc_json *key = grid ? grid->child : NULL; key; key = key->next, k++) {
            left /= key->n;
            const mrc_json *v = key->child;
            for (size_t j = rest / left; j; j--) v = v->next;
            rest %= left;
            r->settings[k].key = key_of(key);
            mrc_text_init(&r->settings[k].value, ctx);
            add_value(&r->settings[k].value, r->settings[k].key, v);
        }
        if (n_folds) {
            r->settings[k].key = "fold";
            mrc_text_init(&r->settings[k].value, ctx);
            mrc_text_printf(&r->settings[k].value, "%zu", i % n_folds);
        }
        r->name = run_name(r, n_keys);
        for (size_t j = 0; j < i; j++) {
            if (strcmp(runs[j].name, r->name) == 0) {
                tool_fail(TOOL_BAD_INPUT, "%s: two runs of the grid have one name (found %s "
                          "twice)", args.file, r->name);
            }
        }
    }
}

//==============================================================================
// Processes
//==============================================================================
static words command_of(const sweep_run *r) {
    words w = words_of_program("train");
    char dir[TOOL_PATH_BYTES];
    for (size_t k = 0; k < n_shared; k++) {
        const mrc_text *value = &shared[k].value;
        words_add(&w, "--%s=%s", shared[k].key, value->bytes ? value->data : "");
    }
    for (size_t k = 0; k < n_keys; k++) {
        words_add(&w, "--%s=%s", r->settings[k].key,
                 r->settings[k].value.bytes ? r->settings[k].value.data : "");
    }
    if (!shared_find("threads") && !in_grid("threads")) {
        size_t share = tool_common.threads / args.jobs;
        words_add(&w, "--threads=%zu", share ? share : 1);
    }
    words_add(&w, "--output_dir=%s", tool_path(dir, args.output_dir, r->name));
    words_add(&w, "--resume_from_checkpoint");
    return w;
}

// Begins a program whose messages go to OUTPUT_DIR/NAME.log, in a folder; frees its words.
static pid_t spawn(words w, const char *name, const char *folder) {
    char log[TOOL_PATH_BYTES], file[512];
    snprintf(file, sizeof file, "%s.log", name);
    tool_path(log, args.output_dir, file);
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (out < 0) tool_fail(TOOL_IO, "%s: %s", log, strerror(errno));
    // Ctrl-C reaches the sweep, which tells its runs once.
    process_desc desc = { .in = -1, .out = out, .err = out, .folder = folder, .own_group = 1 };
    pid_t pid = process_start(&w, &desc);
    close(out);
    words_free(&w);
    return pid;
}

// Looks twenty times a second, as a signal does not end a wait (SA_RESTART): -1: none has ended.
static int wait_for_one(void) {
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid <= 0) {
        nanosleep(&(struct timespec){ .tv_nsec = 50 * 1000 * 1000 }, NULL);
        return -1;
    }
    for (size_t i = 0; i < n_runs; i++) {
        sweep_run *r = &runs[i];
        if (r->pid != pid) continue;
        r->pid = 0;
        r->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (r->code == 0) tool_note("%s: done", r->name);
        else if (r->code == 127) tool_fail(TOOL_BAD_INPUT, "%s: cannot be run", mrc_executable);
        else tool_note("%s: ended with exit code %d: see %s/%s.log", r->name, r->code,
                       args.output_dir, r->name);
    }
    return 0;
}

static void run_all(void) {
    size_t next = 0, running = 0;
    int told = 0;
    for (;;) {
        while (!tool_signal && running < args.jobs && next < n_runs) {
            tool_note("%s: run %zu of %zu", runs[next].name, next + 1, n_runs);
            runs[next].pid = spawn(command_of(&runs[next]), runs[next].name, ".");
            next++;
            running++;
        }
        if (tool_signal && !told) {
            for (size_t i = 0; i < n_runs; i++) {
                if (runs[i].pid) kill(runs[i].pid, SIGTERM);
            }
            tool_note("stopping: %zu runs save their state", running);
            told = 1;
        }
        if (!running) return;
        if (wait_for_one() == 0) running--;
    }
}

//==============================================================================
// Results
//==============================================================================
// The run's all_results.json; NULL: it has none.
static mrc_json *results_of(const sweep_run *r) {
    char dir[TOOL_PATH_BYTES], path[TOOL_PATH_BYTES];
    mrc_json *results = NULL;
    tool_path(path, tool_path(dir, args.output_dir, r->name), "all_results.json");
    if (mrc_path_kind(path) != MRC_PATH_FILE) return NULL;
    tool_check(ctx, mrc_json_load(ctx, &results, path));
    return results;
}

static void print_json(const sweep_run *r, const mrc_json *results) {
    mrc_text t;
    mrc_text_init(&t, ctx);
    mrc_text_add(&t, "{", 1);
    tool_json_string(&t, "run", r->name);
    tool_json_integer(&t, "exit_code", r->code);
    for (size_t k = 0; k < n_keys; k++) {
        tool_json_string(&t, r->settings[k].key,
                         r->settings[k].value.bytes ? r->settings[k].value.data : "");
    }
    for (const mrc_json *m = results ? results->child : NULL; m; m = m->next) {
        if (m->type == MRC_JSON_NUMBER) tool_json_number(&t, m->key, m->number);
    }
    mrc_text_add(&t, "}\n", 2);
    tool_write_text(&t);
    mrc_text_free(&t);
}

static const char *const figures[] = { "eval_exact_match", "eval_f1", "eval_start_accuracy",
    "eval_end_accuracy", "eval_accuracy", "eval_loss", "train_loss" };
#define N_FIGURES (sizeof figures / sizeof *figures)

// A table with tabs: settings, then the measured figures of the first run that has them.
static void print_row(const sweep_run *r, const mrc_json *results) {
    const size_t n = N_FIGURES;
    if (r == runs) {
        for (size_t k = 0; k < n_keys; k++) tool_print("%s\t", r->settings[k].key);
        for (size_t i = 0; i < n; i++) tool_print("%s%s", figures[i], i + 1 < n ? "\t" : "\n");
    }
    for (size_t k = 0; k < n_keys; k++) {
        tool_print("%s\t", r->settings[k].value.bytes ? r->settings[k].value.data : "");
    }
    for (size_t i = 0; i < n; i++) {
        const mrc_json *m = results ? mrc_json_get(results, figures[i]) : NULL;
        if (m && m->type == MRC_JSON_NUMBER) tool_print("%.4f", m->number);
        else tool_print("-");
        tool_print(i + 1 < n ? "\t" : "\n");
    }
}

static int print_all(void) {
    int code = 0;
    for (size_t i = 0; i < n_runs; i++) {
        mrc_json *results = results_of(&runs[i]);
        if (args.json) print_json(&runs[i], results);
        else print_row(&runs[i], results);
        mrc_json_free(results);
        if (runs[i].code > 0 && runs[i].code != TOOL_INTERRUPTED && !code) {
            code = runs[i].code > 7 ? TOOL_BAD_INPUT : runs[i].code;
        }
    }
    return code;
}

//==============================================================================
// Folds: a combination is `n_folds` runs
//==============================================================================
// A figure over the folds of a combination, as scikit-learn has it: the standard deviation is that
// of the population.  Without all folds there is none.
typedef struct over_folds { double *split, mean, std; size_t rank; int known; } over_folds;

static void fold_values(over_folds *o, const sweep_run *first, const char *figure) {
    o->split = tool_allocate(n_folds, sizeof *o->split);
    o->known = 1;
    for (size_t k = 0; k < n_folds; k++) {
        mrc_json *results = results_of(&first[k]);
        const mrc_json *m = results ? mrc_json_get(results, figure) : NULL;
        if (m && m->type == MRC_JSON_NUMBER) o->split[k] = m->number;
        else o->known = 0;
        o->mean += o->split[k] / (double)n_folds;
        mrc_json_free(results);
    }
    for (size_t k = 0; k < n_folds; k++) {
        o->std += (o->split[k] - o->mean) * (o->split[k] - o->mean) / (double)n_folds;
    }
    o->std = sqrt(o->std);
}

// 1 for the best mean; equal ones share the better rank.
static void rank_all(over_folds *list, size_t n, int down) {
    for (size_t i = 0; i < n; i++) {
        list[i].rank = 1;
        for (size_t j = 0; j < n; j++) {
            list[i].rank += down ? list[j].mean < list[i].mean : list[j].mean > list[i].mean;
        }
    }
}

static void add_list(mrc_text *t, const char *key, const over_folds *list, size_t n, int what,
                     size_t split) {
    tool_json_key(t, key);
    for (size_t i = 0; i < n; i++) {
        mrc_text_add(t, i ? ", " : "[", i ? 2 : 1);
        if (what == 0) mrc_text_number(t, list[i].split[split]);
        if (what == 1) mrc_text_number(t, list[i].mean);
        if (what == 2) mrc_text_number(t, list[i].std);
        if (what == 3) mrc_text_printf(t, "%zu", list[i].rank);
    }
    mrc_text_add(t, "]", 1);
}

// params and param_*: the settings of each combination.
static void add_params(mrc_text *t, size_t n) {
    tool_json_key(t, "params");
    for (size_t i = 0; i < n; i++) {
        mrc_text_add(t, i ? ", {" : "[{", i ? 3 : 2);
        for (size_t k = 0; k + 1 < n_keys; k++) {
            const setting *s = &runs[i * n_folds].settings[k];
            tool_json_string(t, s->key, s->value.bytes ? s->value.data : "");
        }
        mrc_text_add(t, "}", 1);
    }
    mrc_text_add(t, "]", 1);
}

// One figure of all combinations into cv_results.json and, as a row of text, the table.
static void add_figure(mrc_text *json, mrc_text *table, const char *figure) {
    const size_t n = n_runs / n_folds;
    const char *name = strchr(figure, '_') + 1;     // mean_test_f1 of eval_f1
    over_folds *list = tool_allocate(n, sizeof *list);
    char key[64];
    int known = 1;
    for (size_t i = 0; i < n; i++) {
        fold_values(&list[i], &runs[i * n_folds], figure);
        known &= list[i].known;
    }
    rank_all(list, n, strstr(figure, "loss") != NULL);
    for (size_t k = 0; known && k < n_folds; k++) {
        snprintf(key, sizeof key, "split%zu_test_%s", k, name);
        add_list(json, key, list, n, 0, k);
    }
    static const char *const of[] = { "", "mean", "std", "rank" };
    for (int what = 1; known && what < 4; what++) {
        snprintf(key, sizeof key, "%s_test_%s", of[what], name);
        add_list(json, key, list, n, what, 0);
    }
    for (size_t i = 0; known && i < n; i++) {
        mrc_text_printf(table, "%s\t", name);
        for (size_t k = 0; k + 1 < n_keys; k++) {
            const mrc_text *value = &runs[i * n_folds].settings[k].value;
            mrc_text_printf(table, "%s\t", value->bytes ? value->data : "");
        }
        mrc_text_printf(table, "%.4f\t%.4f\t%zu\n", list[i].mean, list[i].std, list[i].rank);
    }
    for (size_t i = 0; i < n; i++) free(list[i].split);
    free(list);
}

// cv_results.json, and a table of it behind that of the runs.
static void write_folds(void) {
    char path[TOOL_PATH_BYTES];
    mrc_text json, table;
    mrc_text_init(&json, ctx);
    mrc_text_init(&table, ctx);
    mrc_text_printf(&table, "\nfigure\t");
    for (size_t k = 0; k + 1 < n_keys; k++) {
        mrc_text_printf(&table, "%s\t", runs[0].settings[k].key);
    }
    mrc_text_printf(&table, "mean_test\tstd_test\trank_test\n");
    mrc_text_add(&json, "{", 1);
    add_params(&json, n_runs / n_folds);
    for (size_t i = 0; i + 1 < N_FIGURES; i++) add_figure(&json, &table, figures[i]);
    mrc_text_add(&json, "}\n", 2);
    tool_check_text(&json);
    tool_check(ctx, mrc_file_write(ctx, tool_path(path, args.output_dir, "cv_results.json"),
                                   json.data, json.bytes));
    if (!args.json) tool_write_text(&table);
    mrc_text_free(&json);
    mrc_text_free(&table);
}

//==============================================================================
// Out-of-fold answers: each row by the model that has not seen it
//==============================================================================
// Runs a program to its end.
static void run_to_end(words w, const char *name, const char *folder) {
    char program[256];
    snprintf(program, sizeof program, "%s", w.text[1]);
    int code = process_end(spawn(w, name, folder));
    if (code == 0) return;
    tool_fail(code > 0 && code < 8 ? (tool_exit)code : TOOL_BAD_INPUT, "%s: has failed: see "
              "%s/%s.log", program, args.output_dir, name);
}

// A run's answers to its own fold, decoded as it was measured, into a folder.
static void answer_fold(const sweep_run *r, const char *folder) {
    static const char *const same[] = { "num_folds", "fold", "seed", "max_seq_length",
                                        "doc_stride", "n_best_size", "max_answer_length",
                                        "version_2_with_negative", "postprocess" };
    char dir[TOOL_PATH_BYTES], path[TOOL_PATH_BYTES];
    mrc_json *flags;
    words w = words_of_program("predict");
    tool_path(path, tool_path(dir, args.output_dir, r->name), "train_args.json");
    tool_check(ctx, mrc_json_load(ctx, &flags, path));
    const mrc_json *file = mrc_json_get(flags, "train_file");
    const mrc_json *encoding = mrc_json_get(flags, "encoding");
    if (!file || (encoding && !strcmp(encoding->string, "sentinel"))) {
        tool_fail(TOOL_USAGE, "--out_of_fold: %s: sentinels are not decoded (found --encoding "
                  "sentinel, expected offsets)", r->name);
    }
    words_add(&w, "--model_name_or_path=%s", dir);
    words_add(&w, "--test_file=%s", file->string);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        const mrc_json *v = mrc_json_get(flags, same[i]);
        if (v && v->is_int) words_add(&w, "--%s=%lld", same[i], (long long)v->integer);
        if (v && v->type == MRC_JSON_TRUE) words_add(&w, "--%s", same[i]);
        if (v && v->type == MRC_JSON_STRING) words_add(&w, "--%s=%s", same[i], v->string);
    }
    const mrc_json *threshold = mrc_json_get(flags, "null_score_diff_threshold");
    if (threshold && threshold->type == MRC_JSON_NUMBER) {
        words_add(&w, "--null_score_diff_threshold=%.17g", threshold->number);
    }
    words_add(&w, "--threads=%zu", tool_common.threads);
    words_add(&w, "--output_dir=%s", folder);
    mrc_json_free(flags);
    run_to_end(w, r->name, ".");
}

// What a run was measured with.
static double null_threshold(const sweep_run *r) {
    char dir[TOOL_PATH_BYTES], path[TOOL_PATH_BYTES];
    mrc_json *flags;
    tool_path(path, tool_path(dir, args.output_dir, r->name), "train_args.json");
    tool_check(ctx, mrc_json_load(ctx, &flags, path));
    const mrc_json *v = mrc_json_get(flags, "null_score_diff_threshold");
    double threshold = v && v->type == MRC_JSON_NUMBER ? v->number : 0;
    mrc_json_free(flags);
    return threshold;
}

// The answers of all folds of a combination.  Every question is in one list, so that a vote only
// puts them together; the vote is taken in their folder, as the settings in its name have commas.
static void answer_folds(const sweep_run *first) {
    char name[512], dir[TOOL_PATH_BYTES], *settings = run_name(first, n_keys - 1);
    words w = words_of_program("ensemble");
    mrc_text files;
    mrc_text_init(&files, ctx);
    snprintf(name, sizeof name, "out_of_fold%s%s", *settings ? "," : "", settings);
    tool_path(dir, args.output_dir, name);
    double threshold = null_threshold(first);
    for (size_t k = 0; k < n_folds; k++) {
        char fold[32], folder[TOOL_PATH_BYTES];
        snprintf(fold, sizeof fold, "fold%zu", k);
        answer_fold(&first[k], tool_path(folder, dir, fold));
        mrc_text_printf(&files, "%s%s/nbest_predictions.json", k ? "," : "", fold);
    }
    words_add(&w, "--method=hard_vote");
    if (threshold < 0 || threshold > 0) {
        words_add(&w, "--null_score_diff_threshold=%.17g", threshold);
    }
    words_add(&w, "--files=%s", files.failed ? "" : files.data);
    words_add(&w, "--output_dir=.");
    mrc_text_free(&files);
    free(settings);
    run_to_end(w, name, dir);
    tool_note("%s/predictions.json: the answers of %zu folds", dir, n_folds);
}

static void answer_all(void) {
    for (size_t i = 0; i < n_runs && !tool_signal; i += n_folds) {
        size_t done = 0;
        while (done < n_folds && runs[i + done].code == 0) done++;
        if (done == n_folds) answer_folds(&runs[i]);
    }
}

// The commands, for a shell.
static void print_commands(void) {
    for (size_t i = 0; i < n_runs; i++) {
        words w = command_of(&runs[i]);
        for (size_t k = 0; k < w.n; k++) tool_print("%s%s", w.text[k], k + 1 < w.n ? " " : "\n");
        words_free(&w);
    }
}

static int run(tool_program *p) {
    ctx = tool_ctx_new(NULL, 0);
    load_file();
    (void)p;
    make_runs();
    if (args.out_of_fold && !n_folds) {
        tool_fail(TOOL_USAGE, "--out_of_fold: %s: there are no folds (found no num_folds, or a "
                  "fold beside it)", args.file);
    }
    if (args.dry_run) {
        print_commands();
        return tool_finish();
    }
    tool_catch_signals();
    tool_check(ctx, mrc_dir_new(ctx, args.output_dir));
    run_all();
    if (tool_signal) {
        tool_fail(TOOL_INTERRUPTED, "interrupted: the same command goes on from here");
    }
    int code = print_all();
    if (n_folds) write_folds();
    tool_flush();
    if (args.out_of_fold) answer_all();
    if (code) tool_fail((tool_exit)code, "not every run has ended well: see %s", args.output_dir);
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "SWEEP_FILE", .string = &args.file, .positional = 1, .required = 1,
      .help = "YAML or JSON with base: the flags of all runs, and grid: lists of values; with "
              "folds there may be no grid" },
    { .name = "output_dir", .alias = "output", .group = "runs",
      .string = &args.output_dir, .value = "DIR", .required = 1,
      .help = "a folder for each run, and its messages in a .log beside it" },
    { .name = "jobs", .size = &args.jobs, .preset = "1", .min = 1, .max = 256,
      .unit = "runs", .help = "runs at a time; they share --threads" },
    { .name = "json", .flag = &args.json, .help = "print one JSON object a run" },
    { .name = "out_of_fold", .flag = &args.out_of_fold,
      .help = "with folds: let every model answer its own fold, and put these together in "
              "output_dir/out_of_fold,SETTINGS/predictions.json" },
    { .name = "dry_run", .flag = &args.dry_run, .help = "print the command lines and leave" },
    { 0 }
};

static tool_program program = {
    .name = "sweep", .group = "train and compare", .run = run,
    .purpose = "Trains a reader for every combination of the values in a grid of flags. "
               "Started again after it was stopped, it goes on where it was. With num_folds "
               "in base each combination runs on every fold; means and standard deviations go "
               "to stdout and cv_results.json.",
    .usage = "SWEEP_FILE --output_dir DIR [flags] [flags of train, which go over base]",
    .examples = { "sweep data/sweep.yaml --output_dir runs",
                  "sweep grid.json --output_dir runs --jobs 2 --json --max_steps 60" },
    .flags = flags, .passed = &args.passed,
};

static int start(tool_program *p, int argc, char **argv) {
    p->inner = tool_entry_train.program;
    return tool__run(p, argc, argv);
}
const tool_entry tool_entry_sweep = { &program, start };
