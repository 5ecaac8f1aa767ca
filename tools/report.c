// Runs of `train` side by side in one HTML file: settings that differ, figures, learning curves,
// which setting mattered, lengths, and for single questions the scores over the words; and runs of
// `search`: recall curves and the questions that tell them apart (report_retrieval.h).
//
// The file stands alone: no script, no network, pictures as inline SVG.  Everything that is drawn
// was read from the runs' own files (trainer_state.json, log.jsonl, all_results.json); the last two
// parts run the models on --test_file.
#include "answers.h"
#include "ranking.h"
#include "texts.h"

#define MAX_RUNS  64
#define MAX_FLAGS 256

typedef struct report_run {
    char       *path;
    mrc_json   *state, *results;        // trainer_state.json; all_results.json or NULL
    mrc_json  **lines;                  // log.jsonl
    size_t      n_lines;
} report_run;

static struct report_args {
    const char *output, *test_file, *metric, *title, *qrels, *queries;
    tool_list   dirs, ids, runs;
    size_t      examples;
} args;

static mrc_ctx    *ctx;
static report_run  runs[MAX_RUNS];
static size_t      n_runs;
static mrc_text    page;
static const char *differing[MAX_FLAGS];        // names of flags that not all runs have alike
static size_t      n_differing;
static const char *metric;                      // the key in log.jsonl that runs are compared by

//==============================================================================
// Reading runs
//==============================================================================
static char *joined(const char *dir, const char *name) {
    char path[TOOL_PATH_BYTES];
    return tool_copy(tool_path(path, dir, name));
}

// The lines of log.jsonl; a run that has none yet has no curves.
static void load_log(report_run *r) {
    char path[TOOL_PATH_BYTES], *text;
    size_t bytes, capacity = 0;
    tool_path(path, r->path, "log.jsonl");
    if (mrc_path_kind(path) != MRC_PATH_FILE) return;
    tool_check(ctx, mrc_file_read(ctx, &text, &bytes, path));
    for (size_t at = 0; at < bytes; ) {
        const char *end = memchr(text + at, '\n', bytes - at);
        size_t n = end ? (size_t)(end - text) - at : bytes - at;
        if (n) {
            r->lines = tool_grow(r->lines, r->n_lines, &capacity, sizeof *r->lines);
            tool_check(ctx, mrc_json_parse(ctx, &r->lines[r->n_lines], path, text + at, n, 0));
            r->n_lines++;
        }
        at += n + 1;
    }
    mrc_file_free(ctx, text);
}

static int is_run(const char *dir) {
    char path[TOOL_PATH_BYTES];
    return mrc_path_kind(tool_path(path, dir, "trainer_state.json")) == MRC_PATH_FILE;
}

static void load_run(const char *dir) {
    char path[TOOL_PATH_BYTES];
    if (n_runs == MAX_RUNS) {
        tool_fail(TOOL_USAGE, "%s: too many runs for one report (expected at most %d)", dir,
                  MAX_RUNS);
    }
    report_run *r = &runs[n_runs++];
    r->path = tool_copy(dir);
    tool_check(ctx, mrc_json_load(ctx, &r->state, tool_path(path, dir, "trainer_state.json")));
    tool_path(path, dir, "all_results.json");
    if (mrc_path_kind(path) == MRC_PATH_FILE)
        tool_check(ctx, mrc_json_load(ctx, &r->results, path));
    load_log(r);
}

static mrc_status load_child(mrc_ctx *c, void *user, const char *name) {
    char *dir = joined(user, name);
    (void)c;
    if (mrc_path_kind(dir) == MRC_PATH_DIR && name[0] != '.' && is_run(dir)) load_run(dir);
    free(dir);
    return MRC_OK;
}

// A run, or a folder of runs, as sweep makes it.
static void load_dir(const char *dir) {
    size_t before = n_runs;
    if (mrc_path_kind(dir) != MRC_PATH_DIR) {
        tool_fail(TOOL_BAD_INPUT, "%s: no such folder (expected the output_dir of a run, or a "
                  "folder of such)", dir);
    }
    if (is_run(dir)) load_run(dir);
    else tool_check(ctx, mrc_dir_list(ctx, dir, load_child, (void *)(uintptr_t)dir));
    if (n_runs == before) {
        tool_fail(TOOL_BAD_INPUT, "%s: no run here (found no trainer_state.json, expected one in "
                  "it or in its folders)", dir);
    }
}

// A setting as text; "" when this run has no such flag.
static const char *flag_of(const report_run *r, const char *name) {
    const mrc_json *flags = mrc_json_get(r->state, "flags");
    const mrc_json *f = flags ? mrc_json_get(flags, name) : NULL;
    return f && f->type == MRC_JSON_STRING ? f->string : "";
}

static void find_differing(void) {
    for (size_t i = 0; i < n_runs; i++) {
        const mrc_json *flags = mrc_json_get(runs[i].state, "flags");
        for (const mrc_json *f = flags ? flags->child : NULL; f; f = f->next) {
            int known = 0, differs = 0;
            for (size_t k = 0; k < n_differing; k++) known |= !strcmp(differing[k], f->key);
            for (size_t j = 0; j < n_runs && !known; j++) {
                differs |= strcmp(flag_of(&runs[j], f->key), flag_of(&runs[i], f->key)) != 0;
            }
            if (differs && n_differing < MAX_FLAGS) differing[n_differing++] = f->key;
        }
    }
}

// The last figure of that key in the log, or the best one; 0: there is none.
static int figure(const report_run *r, const char *key, int best, double *out) {
    int found = 0, down = strstr(key, "loss") != NULL;
    for (size_t i = 0; i < r->n_lines; i++) {
        const mrc_json *v = mrc_json_get(r->lines[i], key);
        if (!v || v->type != MRC_JSON_NUMBER) continue;
        if (!found || !best || (down ? v->number < *out : v->number > *out)) *out = v->number;
        found = 1;
    }
    return found;
}

static int any_has(const char *key) {
    double x;
    for (size_t i = 0; i < n_runs; i++) {
        if (figure(&runs[i], key, 0, &x)) return 1;
    }
    return 0;
}

static void choose_metric(void) {
    static const char *const keys[] = { "eval/exact_match", "eval/accuracy", "eval/loss",
                                        "train/loss" };
    metric = args.metric;
    for (size_t i = 0; !metric && i < sizeof keys / sizeof *keys; i++) {
        if (any_has(keys[i])) metric = keys[i];
    }
    if (!metric || !any_has(metric)) {
        tool_fail(TOOL_BAD_INPUT, "--metric: no run has logged it (found %s, expected a key of "
                  "log.jsonl)", metric ? metric : "none");
    }
}

//==============================================================================
// HTML
//==============================================================================
// These make page text only; what fails is asked about once, at the end.
#define put(...) mrc_text_printf(&page, __VA_ARGS__)

static void put_bytes(const char *s, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        switch (s[i]) {
        case '&': put("&amp;"); break;
        case '<': put("&lt;"); break;
        case '>': put("&gt;"); break;
        case '"': put("&quot;"); break;
        default:  mrc_text_add(&page, s + i, 1);
        }
    }
}
static void put_text(const char *s) { put_bytes(s, strlen(s)); }

// A run is known by a color, and past the eighth by a dash too.
static void put_stroke(size_t run) {
    static const char *const dash[] = { "", "6 3", "2 3", "8 3 2 3", "1 2", "10 4", "4 4", "3 1" };
    put("class=\"c%zu\" stroke-dasharray=\"%s\"", run % 8, dash[run / 8 % 8]);
}

static void put_swatch(size_t run) {
    put("<svg class=\"swatch\" viewBox=\"0 0 24 8\" aria-hidden=\"true\"><line x1=\"1\" y1=\"4\" "
        "x2=\"23\" y2=\"4\" stroke-width=\"3\" ");
    put_stroke(run);
    put("/></svg>");
}

static void put_label(const report_run *r) {
    if (!n_differing) {
        const char *slash = strrchr(r->path, '/');
        put_text(slash && slash[1] ? slash + 1 : r->path);
    }
    for (size_t k = 0; k < n_differing; k++) {
        const char *value = flag_of(r, differing[k]);
        put("%s%s ", k ? ", " : "", differing[k]);
        put_text(*value ? value : "-");
    }
}

static void put_head(void) {
    put("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
    put_text(args.title);
    put("</title>\n<style>\n"
        ":root{color-scheme:light dark;--bg:#fff;--fg:#1c1e21;--soft:#666;--line:#d8dade;"
        "--c0:#0060b0;--c1:#c24a00;--c2:#00795a;--c3:#a03a86;--c4:#8a6d00;--c5:#1588a8;"
        "--c6:#b3261e;--c7:#5b5f66;--s:#0060b0;--e:#c24a00;--mark:#ffe9a8}\n"
        "@media(prefers-color-scheme:dark){:root{--bg:#16181c;--fg:#e7e9ec;--soft:#a0a5ad;"
        "--line:#3a3f47;--c0:#6db3ff;--c1:#ff9a5c;--c2:#4fd1a5;--c3:#e58fcd;--c4:#e3c552;"
        "--c5:#62cdeb;--c6:#ff8a80;--c7:#b6bcc6;--s:#6db3ff;--e:#ff9a5c;--mark:#5a4a12}}\n");
    for (int i = 0; i < 8; i++) put(".c%d{stroke:var(--c%d)}", i, i);
    put("\nbody{background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,sans-serif;"
        "margin:0 auto;max-width:72rem;padding:1rem}\n"
        "h1{font-size:1.5rem}h2{font-size:1.2rem;margin-top:2.5rem}h3{font-size:1rem}\n"
        ".wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}\n"
        "th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);"
        "white-space:nowrap}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\n"
        ".best{font-weight:700}.soft{color:var(--soft)}.swatch{width:1.5rem;height:.5rem}\n"
        ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%%,26rem),1fr));"
        "gap:1rem}figure{margin:0}figcaption{font-weight:600}\n"
        "svg.chart{width:100%%;height:auto}svg.chart text{fill:var(--soft);font-size:13px}"
        "svg.chart .grid{stroke:var(--line)}svg.chart polyline{fill:none;stroke-width:2}"
        "svg.chart circle{fill:var(--bg);stroke-width:2}svg .bar{fill:var(--c0);stroke:none}"
        "svg.chart .mean{stroke:var(--fg);stroke-width:3}\n"
        "@media(max-width:30rem){svg.chart text{font-size:17px}}\n"
        ".words{line-height:1;display:flex;flex-wrap:wrap;align-items:flex-end;row-gap:.4rem}"
        ".w{display:inline-block;white-space:pre;text-align:center}"
        ".w i{display:block;height:1.4rem;position:relative}"
        ".w i b{position:absolute;left:1px;right:1px}.w .s b{bottom:0;background:var(--s)}"
        ".w .e b{top:0;background:var(--e)}.w.a{background:var(--mark)}\n"
        ".found td:first-child{white-space:normal;min-width:18rem}"
        ".key{display:inline-block;width:.8em;height:.8em}summary{cursor:pointer}"
        "</style></head>\n<body><h1>");
    put_text(args.title);
    put("</h1>\n");
}

//==============================================================================
// Scales
//==============================================================================
enum { WIDE = 520, HIGH = 280, LEFT = 62, RIGHT = 12, TOP = 12, BOTTOM = 34, NAMES = 200 };

typedef struct axis { double low, high, tick; } axis;

// 1, 2 or 5 times a power of ten, about `ticks` of them.
static axis axis_of(double low, double high, double ticks) {
    axis a = { low, high, 1 };
    if (!(a.high > a.low)) {
        a.high = a.low + fmax(fabs(a.low), 1) * 0.5;
        a.low -= fmax(fabs(a.low), 1) * 0.5;
    }
    double raw = (a.high - a.low) / ticks, power = pow(10, floor(log10(raw)));
    double unit = raw / power;
    a.tick = power * (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 5 ? 5 : 10);
    return a;
}
static double at_x(axis a, double x) {
    return LEFT + (x - a.low) / (a.high - a.low) * (WIDE - LEFT - RIGHT);
}
static double at_y(axis a, double y) {
    return HIGH - BOTTOM - (y - a.low) / (a.high - a.low) * (HIGH - TOP - BOTTOM);
}
// Beside names of NAMES.
static double at_wide(axis a, double x) {
    return NAMES + (x - a.low) / (a.high - a.low) * (WIDE - NAMES - 3 * RIGHT);
}

//==============================================================================
// The table of runs, and which setting mattered
//==============================================================================
static const char *const figure_keys[] = {
    "eval/exact_match", "eval/f1", "eval/start_accuracy", "eval/end_accuracy", "eval/accuracy",
    "eval/loss", "train/loss"
};
#define N_FIGURES (sizeof figure_keys / sizeof *figure_keys)

static double best_over_runs(const char *key) {
    double best = 0, x;
    int found = 0, down = strstr(key, "loss") != NULL;
    for (size_t i = 0; i < n_runs; i++) {
        if (!figure(&runs[i], key, 0, &x)) continue;
        if (!found || (down ? x < best : x > best)) best = x;
        found = 1;
    }
    return best;
}

static void put_run_row(size_t run) {
    const report_run *r = &runs[run];
    const mrc_json *finished = mrc_json_get(r->state, "finished");
    const mrc_json *step = mrc_json_get(r->state, "global_step");
    const mrc_json *seconds = r->results ? mrc_json_get(r->results, "train_runtime") : NULL;
    put("<tr><td>");
    put_swatch(run);
    put("</td>");
    for (size_t k = 0; k < n_differing; k++) {
        put("<td>");
        put_text(flag_of(r, differing[k]));
        put("</td>");
    }
    if (!n_differing) {
        put("<td>");
        put_label(r);
        put("</td>");
    }
    for (size_t i = 0; i < N_FIGURES; i++) {
        double x;
        if (!any_has(figure_keys[i])) continue;
        int has = figure(r, figure_keys[i], 0, &x);
        put("<td class=\"n%s\">", has && x == best_over_runs(figure_keys[i]) ? " best" : "");
        if (has) put("%.4g</td>", x);
        else put("-</td>");
    }
    put("<td class=\"n\">%lld</td><td class=\"n\">", step && step->is_int
        ? (long long)step->integer : 0);
    if (seconds && seconds->type == MRC_JSON_NUMBER) put("%.0f", seconds->number);
    put("</td><td>%s</td></tr>\n", finished && finished->type == MRC_JSON_TRUE ? "finished"
                                                                               : "not finished");
}

static void put_runs(void) {
    put("<h2>Runs</h2>\n<p class=\"soft\">%zu runs; figures are the last logged ones, the best of "
        "a column is bold.</p><div class=\"wide\"><table><tr><th></th>", n_runs);
    for (size_t k = 0; k < n_differing; k++) put("<th>%s</th>", differing[k]);
    if (!n_differing) put("<th>run</th>");
    for (size_t i = 0; i < N_FIGURES; i++) {
        if (any_has(figure_keys[i])) put("<th class=\"n\">%s</th>", figure_keys[i]);
    }
    put("<th class=\"n\">step</th><th class=\"n\">seconds</th><th></th></tr>\n");
    for (size_t i = 0; i < n_runs; i++) put_run_row(i);
    put("</table></div>\n<details><summary>Settings that all runs share</summary>"
        "<div class=\"wide\"><table>\n");
    const mrc_json *flags = mrc_json_get(runs[0].state, "flags");
    for (const mrc_json *f = flags ? flags->child : NULL; f; f = f->next) {
        int differs = 0;
        for (size_t k = 0; k < n_differing; k++) differs |= !strcmp(differing[k], f->key);
        if (differs || f->type != MRC_JSON_STRING) continue;
        put("<tr><td>");
        put_text(f->key);
        put("</td><td>");
        put_text(f->string);
        put("</td></tr>\n");
    }
    put("</table></div></details>\n");
}

// A setting's main effect: its values, each with the mean of its runs; the gap between the best and
// the worst mean orders the settings.  `rest` is how far runs with one value lie from their mean,
// what the other settings do to them: root of the mean square.
typedef struct effect {
    const char *flag, *value[MAX_RUNS];
    double      mean[MAX_RUNS], low[MAX_RUNS], high[MAX_RUNS], gap, rest;
    size_t      n[MAX_RUNS], values, of[MAX_RUNS];      // of: which value a run has
} effect;

static effect effect_of(const char *flag) {
    effect e = { .flag = flag };
    double low = HUGE_VAL, high = -HUGE_VAL, x;
    size_t n = 0;
    for (size_t i = 0; i < n_runs; i++) {
        const char *value = flag_of(&runs[i], flag);
        size_t v = 0;
        if (!figure(&runs[i], metric, 0, &x)) continue;
        while (v < e.values && strcmp(e.value[v], value) != 0) v++;
        if (v == e.values) {
            e.low[v] = HUGE_VAL;
            e.high[v] = -HUGE_VAL;
            e.value[e.values++] = value;
        }
        e.of[i] = v;
        e.mean[v] += x;
        e.low[v] = fmin(e.low[v], x);
        e.high[v] = fmax(e.high[v], x);
        e.n[v]++;
    }
    for (size_t v = 0; v < e.values; v++) {
        e.mean[v] /= (double)e.n[v];
        low = fmin(low, e.mean[v]);
        high = fmax(high, e.mean[v]);
    }
    for (size_t i = 0; i < n_runs; i++) {
        if (!figure(&runs[i], metric, 0, &x)) continue;
        e.rest += (x - e.mean[e.of[i]]) * (x - e.mean[e.of[i]]);
        n++;
    }
    e.rest = n ? sqrt(e.rest / (double)n) : 0;
    e.gap = e.values ? high - low : 0;
    return e;
}

static int by_gap(const void *a, const void *b) {
    double x = ((const effect *)a)->gap, y = ((const effect *)b)->gap;
    return (x < y) - (x > y);
}

// All settings in one table, the one that matters most first.
static void put_effects_table(const effect *list) {
    double most = list[0].gap;
    put("<div class=\"wide\"><table><tr><th>setting</th><th class=\"n\">means apart</th><th></th>"
        "<th>highest mean</th><th>lowest mean</th><th class=\"n\">spread of the rest</th></tr>\n");
    for (size_t k = 0; k < n_differing; k++) {
        const effect *e = &list[k];
        size_t top = 0, bottom = 0;
        for (size_t v = 1; v < e->values; v++) {
            if (e->mean[v] > e->mean[top]) top = v;
            if (e->mean[v] < e->mean[bottom]) bottom = v;
        }
        put("<tr><td>%s</td><td class=\"n\">%.4g</td><td><svg width=\"120\" height=\"12\" "
            "aria-hidden=\"true\"><rect class=\"bar\" width=\"%.1f\" height=\"12\"/></svg></td>"
            "<td>", e->flag, e->gap, most > 0 ? 120 * e->gap / most : 0);
        put_text(e->values ? e->value[top] : "-");
        put("</td><td>");
        put_text(e->values ? e->value[bottom] : "-");
        put("</td><td class=\"n\">%.4g</td></tr>\n", e->rest);
    }
    put("</table></div>\n");
}

// A row for each value: its runs as dots on the scale of all runs, its mean as a bar.
static void put_effect(const effect *e, axis x) {
    enum { ROW = 30 };
    const double high = (double)(ROW * e->values + BOTTOM);
    put("<figure><figcaption>%s <span class=\"soft\">means %.4g apart</span></figcaption>"
        "<svg class=\"chart\" viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"%s by %s\">\n",
        e->flag, e->gap, WIDE, high, metric, e->flag);
    for (double v = ceil(x.low / x.tick) * x.tick; v <= x.high + 1e-9 * x.tick; v += x.tick) {
        put("<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"0\" y2=\"%.0f\"/><text x=\"%.1f\" "
            "y=\"%.0f\" text-anchor=\"middle\">%.4g</text>\n", at_wide(x, v), at_wide(x, v),
            high - BOTTOM + 4, at_wide(x, v), high - BOTTOM + 20, fabs(v) < 1e-9 * x.tick ? 0 : v);
    }
    for (size_t v = 0; v < e->values; v++) {
        const double y = ROW * ((double)v + 0.5);
        put("<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", NAMES - 14, y + 4);
        put_text(*e->value[v] ? e->value[v] : "-");
        put("</text>\n");
        for (size_t i = 0; i < n_runs; i++) {
            double value;
            if (e->of[i] != v || !figure(&runs[i], metric, 0, &value)) continue;
            put("<circle class=\"c%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"><title>", i % 8,
                at_wide(x, value), y);
            put_label(&runs[i]);
            put(": %.5g</title></circle>\n", value);
        }
        put("<line class=\"mean\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"><title>mean %.4g "
            "of %zu runs, %.4g to %.4g</title></line>\n", at_wide(x, e->mean[v]),
            at_wide(x, e->mean[v]), y - 12, y + 12, e->mean[v], e->n[v], e->low[v], e->high[v]);
    }
    put("</svg></figure>\n");
}

static void put_effects(void) {
    effect *list = tool_allocate(n_differing + 1, sizeof *list);
    double low = HUGE_VAL, high = -HUGE_VAL, x;
    for (size_t i = 0; i < n_runs; i++) {
        if (!figure(&runs[i], metric, 0, &x)) continue;
        low = fmin(low, x);
        high = fmax(high, x);
    }
    for (size_t k = 0; k < n_differing; k++) list[k] = effect_of(differing[k]);
    qsort(list, n_differing, sizeof *list, by_gap);
    if (n_differing) {
        put("<h2>Which setting mattered</h2>\n<p class=\"soft\">Main effects: the mean of the last "
            "%s over all runs with a value, and how far apart these means are. The rest is how far "
            "runs with one value lie from their mean: a gap much smaller than that may be chance. "
            "Below, a dot is a run and a bar a mean.</p>\n", metric);
        put_effects_table(list);
        put("<div class=\"charts\" style=\"margin-top:1rem\">\n");
        const double room = 0.04 * (high - low);        // no dot on the edge
        for (size_t k = 0; k < n_differing; k++) {
            put_effect(&list[k], axis_of(low - room, high + room, 5));
        }
        put("</div>\n");
    }
    free(list);
}

//==============================================================================
// Learning curves
//==============================================================================
static void put_axis_y(axis y) {
    for (double v = ceil(y.low / y.tick) * y.tick; v <= y.high + 1e-9 * y.tick; v += y.tick) {
        double shown = fabs(v) < 1e-9 * y.tick ? 0 : v;
        put("<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"%d\" "
            "y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", LEFT, WIDE - RIGHT, at_y(y, v),
            at_y(y, v), LEFT - 6, at_y(y, v) + 4, shown);
    }
}

static void put_axes(axis x, axis y, const char *x_name) {
    put_axis_y(y);
    for (double v = ceil(x.low / x.tick) * x.tick; v <= x.high + 1e-9 * x.tick; v += x.tick) {
        put("<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.6g</text>\n", at_x(x, v),
            HIGH - BOTTOM + 18, v);
    }
    put("<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", WIDE - RIGHT, HIGH - 2, x_name);
}

static void put_curve(size_t run, const char *key, axis x, axis y) {
    const report_run *r = &runs[run];
    for (int pass = 0; pass < 2; pass++) {
        if (pass == 0) {
            put("<polyline ");
            put_stroke(run);
            put(" points=\"");
        }
        for (size_t i = 0; i < r->n_lines; i++) {
            const mrc_json *v = mrc_json_get(r->lines[i], key);
            const mrc_json *step = mrc_json_get(r->lines[i], "step");
            if (!v || v->type != MRC_JSON_NUMBER || !step) continue;
            double px = at_x(x, step->number), py = at_y(y, v->number);
            if (pass == 0) {
                put("%.1f,%.1f ", px, py);
                continue;
            }
            put("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" class=\"c%zu\"><title>", px, py, run % 8);
            put_label(r);
            put(": step %.0f, %s %.5g</title></circle>\n", step->number, key, v->number);
        }
        if (pass == 0) put("\"/>\n");
    }
}

static void put_chart(const char *key) {
    double low = HUGE_VAL, high = -HUGE_VAL, last = 0;
    for (size_t i = 0; i < n_runs; i++) {
        for (size_t k = 0; k < runs[i].n_lines; k++) {
            const mrc_json *v = mrc_json_get(runs[i].lines[k], key);
            const mrc_json *step = mrc_json_get(runs[i].lines[k], "step");
            if (!v || v->type != MRC_JSON_NUMBER || !step) continue;
            low = fmin(low, v->number);
            high = fmax(high, v->number);
            last = fmax(last, step->number);
        }
    }
    if (!(high >= low)) return;
    if (low > 0 && low < 0.5 * high) low = 0;
    axis x = axis_of(0, last, 5), y = axis_of(low, high, 5);
    put("<figure><figcaption>%s</figcaption><svg class=\"chart\" viewBox=\"0 0 %d %d\" "
        "role=\"img\" aria-label=\"%s of each run over the steps\">\n", key, WIDE, HIGH, key);
    put_axes(x, y, "step");
    for (size_t i = 0; i < n_runs; i++) put_curve(i, key, x, y);
    put("</svg></figure>\n");
}

static void put_charts(void) {
    static const char *const more[] = { "train/learning_rate", "train/grad_norm",
                                        "eval/start_accuracy", "eval/end_accuracy" };
    static const char *const first[] = { "train/loss", "eval/loss", "eval/exact_match", "eval/f1",
                                         "eval/accuracy" };
    put("<h2>Learning curves</h2>\n<p>");
    for (size_t i = 0; i < n_runs; i++) {
        put("<span style=\"display:inline-block;margin-right:1em\">");
        put_swatch(i);
        put(" ");
        put_label(&runs[i]);
        put("</span> ");
    }
    put("</p>\n<div class=\"charts\">\n");
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) put_chart(first[i]);
    put("</div>\n<details><summary>More curves</summary><div class=\"charts\">\n");
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) put_chart(more[i]);
    put("</div></details>\n");
}

//==============================================================================
// The test file: lengths, then single questions through each run's model
//==============================================================================
typedef struct test_set {
    mrc_dataset   *data;
    size_t         n_chosen;
    size_t        *chosen;              // indices of examples
} test_set;

static int is_chosen(const test_set *t, int32_t example) {
    for (size_t i = 0; i < t->n_chosen; i++) {
        if (t->chosen[i] == (size_t)example) return 1;
    }
    return 0;
}

// --ids by name, else the first --examples of the file.
static void choose(test_set *t) {
    size_t n = mrc_dataset_size(t->data);
    t->chosen = tool_allocate(n + 1, sizeof *t->chosen);
    for (size_t i = 0; !args.ids.n && i < n && i < args.examples; i++) {
        t->chosen[t->n_chosen++] = i;
    }
    for (size_t k = 0; k < args.ids.n; k++) {
        size_t i = 0;
        while (i < n && strcmp(mrc_dataset_at(t->data, i)->id, args.ids.item[k]) != 0) i++;
        if (i == n) {
            tool_fail(TOOL_BAD_INPUT, "%s: no question with this id (found %s)", args.test_file,
                      args.ids.item[k]);
        }
        if (t->n_chosen < n) t->chosen[t->n_chosen++] = i;
    }
}

// One run's model and its windows of the chosen questions.
typedef struct reader {
    mrc_model     *model;
    mrc_tokenizer *tok;
    mrc_features   features;            // of the whole file
    mrc_features   few;                 // of what was chosen; borrows
    float        **logits;              // of each of few: starts, then ends
    size_t         n_logits;
} reader;

static mrc_status keep_logits(mrc_ctx *c, void *user, const mrc_feature *f, const float *start,
                              const float *end) {
    reader *r = user;
    size_t n = (size_t)f->length;
    float *copy = tool_allocate(2 * n + 1, sizeof *copy);
    (void)c;
    memcpy(copy, start, n * sizeof *copy);
    memcpy(copy + n, end, n * sizeof *copy);
    r->logits[r->n_logits++] = copy;
    return MRC_OK;
}

static void reader_open(reader *r, const report_run *run, const test_set *t) {
    mrc_model_load_desc desc = { .path = run->path, .for_prediction = 1 };
    mrc_features_config fc = mrc_features_config_default();
    const char *length = flag_of(run, "max_seq_length"), *stride = flag_of(run, "doc_stride");
    memset(r, 0, sizeof *r);
    tool_check(ctx, mrc_model_load(ctx, &r->model, &desc));
    tool_check(ctx, mrc_tokenizer_load(ctx, &r->tok, run->path));
    fc.max_seq_length = *length ? (size_t)strtoul(length, NULL, 10) : 0;
    fc.doc_stride = *stride ? (size_t)strtoul(stride, NULL, 10) : SIZE_MAX;
    fc.with_targets = 0;
    fc.pad_to_max_length = r->model->config.pad_to_max_length;
    tool_check_fit(&r->model->config, run->path, r->tok, run->path, &fc.max_seq_length,
                   &fc.doc_stride);
    tool_check(ctx, mrc_features_new(ctx, &r->features, t->data, r->tok, &fc));
    r->few.list = tool_allocate(r->features.n + 1, sizeof *r->few.list);
    r->logits = tool_allocate(r->features.n + 1, sizeof *r->logits);
    for (size_t i = 0; i < r->features.n; i++) {
        if (is_chosen(t, r->features.list[i].example_index)) {
            r->few.list[r->few.n++] = r->features.list[i];
        }
    }
    mrc_predict_desc predict = { .features = &r->few, .batch_size = 8, .fn = keep_logits,
                                 .user = r };
    tool_check(ctx, mrc_predict(ctx, r->model, &predict));
}

static void reader_close(reader *r) {
    for (size_t i = 0; i < r->n_logits; i++) free(r->logits[i]);
    free(r->logits);
    free(r->few.list);
    mrc_features_free(&r->features);
    mrc_tokenizer_free(r->tok);
    mrc_ctx_reset(ctx);
    mrc_model_free(r->model);
}

// Tokens of question and passage, as one histogram; windows as long as the model's are marked.
static void put_lengths(const reader *r) {
    enum { BINS = 24 };
    size_t longest = 1, count[BINS] = { 0 }, most = 1;
    for (size_t i = 0; i < r->features.n; i++) {
        if ((size_t)r->features.list[i].real_len > longest) {
            longest = (size_t)r->features.list[i].real_len;
        }
    }
    size_t wide = (longest + BINS) / BINS;
    for (size_t i = 0; i < r->features.n; i++) {
        size_t bin = (size_t)r->features.list[i].real_len / wide;
        if (++count[bin < BINS ? bin : BINS - 1] > most) most = count[bin < BINS ? bin : BINS - 1];
    }
    axis x = axis_of(0, (double)(wide * BINS), 6), y = axis_of(0, (double)most, 4);
    put("<h2>Lengths</h2>\n<p class=\"soft\">Tokens in a window (question, passage and special "
        "tokens): %zu windows of ", r->features.n);
    put_text(args.test_file);
    put(", the longest %zu.</p>\n<figure style=\"max-width:36rem\"><svg class=\"chart\" "
        "viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"histogram of window lengths\">\n", longest,
        WIDE, HIGH);
    put_axes(x, y, "tokens");
    for (size_t b = 0; b < BINS; b++) {
        double left = at_x(x, (double)(b * wide)), right = at_x(x, (double)((b + 1) * wide));
        double top = at_y(y, (double)count[b]);
        put("<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"><title>%zu "
            "to %zu tokens: %zu windows</title></rect>\n", left, top, right - left - 1,
            at_y(y, 0) - top, b * wide, (b + 1) * wide - 1, count[b]);
    }
    put("</svg></figure>\n");
}

// The passage's words with a bar above (start) and below (end) each token.
static void put_words(const mrc_feature *f, const float *logits, const mrc_example *x,
                      const mrc_span *best) {
    size_t n = (size_t)f->length, at = 0;
    double *p = tool_allocate(2 * n + 1, sizeof *p);
    window_softmax(logits, n, p);
    window_softmax(logits + n, n, p + n);
    put("<div class=\"words\">");
    for (size_t i = 0; i < n; i++) {
        if (f->offset_mapping[i][0] < 0) continue;
        size_t begin = (size_t)f->offset_mapping[i][0], end = (size_t)f->offset_mapping[i][1];
        size_t from = mrc_utf8_offset(x->context, x->context_bytes, begin);
        size_t to = mrc_utf8_offset(x->context, x->context_bytes, end);
        int inside = begin >= (size_t)best->begin && end <= (size_t)best->end && best->end > 0;
        put("<span class=\"w%s\" title=\"start %.3f, end %.3f\"><i class=\"s\">",
            inside ? " a" : "", p[i], p[n + i]);
        if (p[i] >= 0.005) put("<b style=\"height:%.0f%%\"></b>", 100 * p[i]);
        put("</i>");
        if (at && begin > at) put(" ");
        put_bytes(x->context + from, to - from);
        put("<i class=\"e\">");
        if (p[n + i] >= 0.005) put("<b style=\"height:%.0f%%\"></b>", 100 * p[n + i]);
        put("</i></span>");
        at = end;
    }
    put("</div>\n");
    free(p);
}

// As the run measured itself, as far as that decides whether there is an answer.
static mrc_decode_config decode_config(const report_run *run) {
    mrc_decode_config config = mrc_decode_config_default();
    config.version_2_with_negative = !strcmp(flag_of(run, "version_2_with_negative"), "true");
    config.null_score_diff_threshold = strtod(flag_of(run, "null_score_diff_threshold"), NULL);
    return config;
}

static void put_answer(const reader *r, size_t run, size_t example, const test_set *t) {
    const mrc_example *x = mrc_dataset_at(t->data, example);
    mrc_decode_config config = decode_config(&runs[run]);
    mrc_span spans[32];
    mrc_window_logits windows[64];
    mrc_decode_input in = { .windows = windows, .example = x, .tokenizer = r->tok };
    size_t first = 0, n = 0, n_spans, bytes;
    while (first < r->few.n && (size_t)r->few.list[first].example_index != example) first++;
    while (first + n < r->few.n && (size_t)r->few.list[first + n].example_index == example
           && n < sizeof windows / sizeof *windows) {
        const mrc_feature *f = &r->few.list[first + n];
        windows[n] = (mrc_window_logits){ .feature = f, .start = r->logits[first + n],
                                          .end = r->logits[first + n] + f->length };
        n++;
    }
    in.n_windows = n;
    tool_check(ctx, mrc_decode(ctx, &config, &in, spans, sizeof spans / sizeof *spans, &n_spans));
    const mrc_span *best = mrc_decode_answer(&config, spans, n_spans, NULL);
    const char *text = mrc_span_text(best, x, NULL, &bytes);
    put("<details%s><summary>", run == 0 ? " open" : "");
    put_swatch(run);
    put(" ");
    put_label(&runs[run]);
    put(": <strong>");
    put_bytes(text, bytes);
    put("</strong> <span class=\"soft\">%.3f</span></summary>\n", best->probability);
    if (n) {
        size_t w = first + window_of(windows, n, best);
        put_words(&r->few.list[w], r->logits[w], x, best);
    }
    put("</details>\n");
}

static void put_examples(reader *readers, const test_set *t) {
    put("<h2>Questions</h2>\n<p class=\"soft\"><span class=\"key\" style=\"background:var(--s)\">"
        "</span> above a word: probability that the answer starts there; <span class=\"key\" "
        "style=\"background:var(--e)\"></span> below: that it ends there. The answer given is "
        "shaded.</p>\n");
    for (size_t i = 0; i < t->n_chosen; i++) {
        const mrc_example *x = mrc_dataset_at(t->data, t->chosen[i]);
        put("<h3>");
        put_bytes(x->question, x->question_bytes);
        put("</h3>\n<p class=\"soft\">id ");
        put_text(x->id);
        for (size_t k = 0; k < x->n_answers; k++) {
            put(k ? ", " : "; expected: ");
            put_bytes(x->answers[k].text, x->answers[k].bytes);
        }
        put("</p>\n");
        for (size_t run = 0; run < n_runs; run++) {
            put_answer(&readers[run], run, t->chosen[i], t);
        }
    }
}

static void put_test_file(void) {
    test_set t = { 0 };
    reader *readers = tool_allocate(n_runs, sizeof *readers);
    tool_check(ctx, mrc_dataset_load_questions(ctx, &t.data, args.test_file));
    choose(&t);
    for (size_t i = 0; i < n_runs; i++) {
        tool_note("%s: reading %zu questions", runs[i].path, t.n_chosen);
        reader_open(&readers[i], &runs[i], &t);
    }
    put_lengths(&readers[0]);
    if (t.n_chosen) put_examples(readers, &t);
    for (size_t i = 0; i < n_runs; i++) reader_close(&readers[i]);
    free(readers);
    free(t.chosen);
    mrc_dataset_free(t.data);
}

#include "report_retrieval.h"

//==============================================================================
// main
//==============================================================================
static void free_runs(void) {
    for (size_t i = 0; i < n_runs; i++) {
        for (size_t k = 0; k < runs[i].n_lines; k++) mrc_json_free(runs[i].lines[k]);
        free(runs[i].lines);
        mrc_json_free(runs[i].state);
        mrc_json_free(runs[i].results);
        free(runs[i].path);
    }
}

static void write_page(void) {
    tool_try_place(args.output, 0);
    mrc_backend *be = args.test_file ? tool_backend_new() : NULL;
    ctx = tool_ctx_new(be, 0);
    mrc_text_init(&page, ctx);
    for (size_t i = 0; i < args.dirs.n; i++) load_dir(args.dirs.item[i]);
    find_differing();
    if (n_runs) choose_metric();
    put_head();
    if (n_runs) {
        put_runs();
        put_effects();
        put_charts();
    }
    if (args.test_file) put_test_file();
    if (args.runs.n) put_found();
    put("</body></html>\n");
    tool_check_text(&page);
    tool_make_parent(ctx, args.output);
    tool_check(ctx, mrc_file_write(ctx, args.output, page.data, page.bytes));
    tool_print("%s: %zu runs, %zu bytes\n", args.output, n_runs + args.runs.n, page.bytes);
    mrc_text_free(&page);
    free_runs();
    mrc_ctx_free(ctx);
    mrc_backend_free(be);
}

static int run(tool_program *p) {
    (void)p;
    if (!args.dirs.n && !args.runs.n) {
        tool_fail(TOOL_USAGE, "DIR is missing (found nothing, expected the output_dir of a run of "
                  "train, or --runs; see --help)");
    }
    if (!args.runs.n != !args.qrels) {
        tool_fail(TOOL_USAGE, "--%s is missing (found nothing, expected FILE: --runs are measured "
                  "by --qrels)", args.runs.n ? "qrels" : "runs");
    }
    if (args.test_file && !args.dirs.n) {
        tool_fail(TOOL_USAGE, "--test_file: nothing to ask (found no DIR, expected the output_dir "
                  "of a run of train)");
    }
    write_page();
    return tool_finish();
}

static tool_flag flags[] = {
    { .name = "DIR", .list = &args.dirs, .positional = 1, .value = "DIR ..",
      .help = "the output_dir of a run of train, or a folder of such, as sweep makes it" },
    { .name = "output", .alias = "output_file|output_dir", .group = "output",
      .string = &args.output, .value = "FILE.html", .required = 1,
      .help = "the report" },
    { .name = "metric", .group = "figures", .string = &args.metric, .value = "KEY",
      .otherwise = "eval/exact_match, or what there is",
      .help = "the key of log.jsonl that settings are compared by" },
    { .name = "test_file", .group = "questions", .string = &args.test_file, .value = "FILE",
      .help = "questions: adds their lengths, and answers with the scores over the words" },
    { .name = "examples", .size = &args.examples, .preset = "5", .min = 0, .max = 1000,
      .unit = "questions",
      .help = "how many of them, and of each list of --runs, from the first on" },
    { .name = "ids", .list = &args.ids, .value = "ID ..",
      .help = "these questions instead" },
    { .name = "title", .string = &args.title, .preset = "Runs side by side",
      .help = "the heading" },
    { .name = "runs", .group = "search", .list = &args.runs, .value = "RUN ..",
      .help = "what search or fuse wrote: adds recall curves, and the questions on which one run "
              "is better than another" },
    { .name = "qrels", .string = &args.qrels, .value = "FILE",
      .help = "the right passages that --runs are measured by, TREC's or BEIR's" },
    { .name = "queries", .string = &args.queries, .value = "FILE",
      .help = "the questions' texts, as search takes them" },
    { 0 }
};

static tool_program program = {
    .name = "report", .group = "train and compare", .run = run,
    .purpose = "Lays runs of train, and runs of search, side by side in one HTML file that needs "
               "no network: settings, figures, curves, scores over the words of single questions.",
    .usage = "[DIR ..] [--runs RUN .. --qrels FILE] --output FILE.html [flags]",
    .examples = { "report runs --output report.html --test_file data/validation.jsonl",
                  "report --runs bm25.run hybrid.run --qrels qrels.tsv --queries dev.jsonl "
                  "--output found.html" },
    .flags = flags,
};
TOOL_PROGRAM(report, program)
