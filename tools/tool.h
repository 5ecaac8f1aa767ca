// What only programs need: flags, messages and exit codes, progress, signals, clocks.
//
// A program is one C file that includes this first, describes its flags in a table and returns
// tool_finish().  Everything is static; the library is linked as one object (tools/mrc.c).
//
//     int main(int argc, char **argv) {
//         struct { const char *file; size_t n_best; int metric, json; } a = { 0 };
//         tool_flag flags[] = {
//             { .name = "n_best_size", .size = &a.n_best, .preset = "20", .min = 1, .max = 1000,
//               .help = "candidates kept for a question" },
//             { .name = "metric", .choice = &a.metric, .choices = "korquad|squad", .required = 1,
//               .help = "whose definition to use" },
//             { .name = "json", .flag = &a.json, .help = "print JSON" },
//             { .name = "DATA_FILE", .string = &a.file, .positional = 1, .required = 1,
//               .help = "the questions and their answers" },
//             { 0 }
//         };
//         tool_program program = { .name = "example", .purpose = "...", .usage = "...",
//                                  .examples = { "...", "..." }, .flags = flags };
//         tool_start(&program, argc, argv);
//         ...
//         return tool_finish();
//     }
#ifndef TOOL_H
#define TOOL_H
#define _DEFAULT_SOURCE                 // TIOCGWINSZ, flock()
#define _DARWIN_C_SOURCE
#include "../mrc.h"
#ifdef MRC_OPENBLAS                     // build.sh has found one
#include "../backends/openblas.h"
#endif
#ifdef MRC_CUDA                         // build.sh has compiled backends/cuda.cu
#include "../backends/cuda.h"
#endif
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

// No program uses all of this.
#define TOOL_DEF __attribute__((unused)) static

typedef enum tool_exit {
    TOOL_OK = 0, TOOL_USAGE = 2, TOOL_BAD_INPUT = 3, TOOL_NO_MEMORY = 4, TOOL_IO = 5,
    TOOL_NUMERIC = 6, TOOL_INTERRUPTED = 7
} tool_exit;

static const char *tool_name = "mrc";   // of the running program, for its messages
static int tool_bar_drawn;              // the cursor stands behind a progress bar

//==============================================================================
// Messages: one line each on stderr
//==============================================================================
// Control characters would break "one line": a file's name may hold anything.
static void tool__line(const char *fmt, va_list ap) {
    char text[4096];
    vsnprintf(text, sizeof text, fmt, ap);
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
    }
    if (tool_bar_drawn) fputs("\r\033[K", stderr);
    tool_bar_drawn = 0;
    fprintf(stderr, "%s: %s\n", tool_name, text);
}

// Progress and warnings: "program: text".
__attribute__((format(printf, 1, 2)))
TOOL_DEF void tool_note(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    tool__line(fmt, ap);
    va_end(ap);
}

// Ends the program with "program: file:line: what is wrong (found X, expected Y)".
_Noreturn __attribute__((format(printf, 2, 3)))
TOOL_DEF void tool_fail(tool_exit code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    tool__line(fmt, ap);
    va_end(ap);
    exit((int)code);
}

TOOL_DEF tool_exit tool_exit_code(mrc_status status) {
    switch (status) {
    case MRC_OK:              return TOOL_OK;
    case MRC_ERR_ARG:
    case MRC_ERR_SHAPE:
    case MRC_ERR_FORMAT:
    case MRC_ERR_UNSUPPORTED: return TOOL_BAD_INPUT;
    case MRC_ERR_MEM:         return TOOL_NO_MEMORY;
    case MRC_ERR_IO:          return TOOL_IO;
    case MRC_ERR_NUMERIC:     return TOOL_NUMERIC;
    case MRC_ERR_INTERRUPTED: return TOOL_INTERRUPTED;
    }
    return TOOL_BAD_INPUT;
}

// Ends the program with the context's first error unless status is MRC_OK.
TOOL_DEF void tool_check(const mrc_ctx *ctx, mrc_status status) {
    if (status == MRC_OK) return;
    const char *text = ctx ? mrc_ctx_message(ctx) : NULL;
    tool_fail(tool_exit_code(status), "%s", text && *text ? text : mrc_status_string(status));
}

// Zeros; n 0 gives memory too.  Ends the program where there is none.
TOOL_DEF void *tool_allocate(size_t n, size_t each) {
    void *p = calloc(n ? n : 1, each);
    if (!p) tool_fail(TOOL_NO_MEMORY, "no memory for %zu times %zu bytes", n, each);
    return p;
}

//==============================================================================
// Standard output: results and nothing else
//==============================================================================
_Noreturn TOOL_DEF void tool_fail_stdout(void) {
    int e = errno;
    tool_fail(TOOL_IO, "stdout: cannot be written: %s", e ? strerror(e) : "a write has failed");
}

// Results, any bytes.  Stops the program as soon as nobody can receive them.
TOOL_DEF void tool_write(const char *data, size_t bytes) {
    errno = 0;
    if (bytes && fwrite(data, 1, bytes, stdout) != bytes) tool_fail_stdout();
}
__attribute__((format(printf, 1, 2)))
TOOL_DEF void tool_print(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    errno = 0;
    int n = vprintf(fmt, ap);
    va_end(ap);
    if (n < 0) tool_fail_stdout();
}
// Results that were built with mrc_text_add() and others.
TOOL_DEF void tool_write_text(const mrc_text *t) {
    if (t->failed) tool_fail(TOOL_NO_MEMORY, "%s", mrc_status_string(MRC_ERR_MEM));
    tool_write(t->data, t->bytes);
}
// What is printed so far reaches its reader now.
TOOL_DEF void tool_flush(void) {
    errno = 0;
    if (fflush(stdout) != 0 || ferror(stdout)) tool_fail_stdout();
}
// The last act of main: results that could not be written are a failure, not a success.
TOOL_DEF int tool_finish(void) {
    tool_flush();
    errno = 0;
    if (fclose(stdout) != 0 && errno != EBADF) tool_fail_stdout();
    return TOOL_OK;
}

//==============================================================================
// Flags
//==============================================================================
// One flag or positional argument.  Exactly one of the value pointers is set and gives the type.
typedef struct tool_flag {
    const char  *name;                  // without dashes; a row without a name ends the table
    const char  *alias;                 // other names, "a|b"
    const char **string;
    int64_t     *integer;
    size_t      *size;
    double      *real;
    int         *flag;                  // 0 or 1: alone, or with true or false
    int         *choice;                // the place in choices, from 0
    const char  *choices;               // "linear|bilstm"
    const char  *value;                 // what stands for the value in --help: DIR, FILE
    const char  *unit;                  // of a number: "tokens"
    const char  *preset;                // the default as text; NULL: the variable stays as it is
    const char  *otherwise;             // without preset: the default in words ("the model's")
    const char  *bare;                  // the value of a flag that may stand alone
    const char  *help;
    double       min, max;              // of numbers; both 0: any
    int          above_min, below_max;  // 1: that end is not allowed itself
    int          required, positional;
    int          given;                 // out: TOOL_GIVEN, or TOOL_CONFIGURED by a config file
} tool_flag;
enum { TOOL_GIVEN = 1, TOOL_CONFIGURED = 2 };

typedef struct tool_program {
    const char *name;
    const char *purpose;                // a sentence or two
    const char *usage;                  // what follows the name: "--output_dir DIR [flags]"
    const char *examples[2];            // whole command lines
    tool_flag  *flags;
    const char *const *config;          // where a flag puts a config file's path; NULL: none
} tool_program;

// What every program accepts.
enum { TOOL_BACKEND_AUTO, TOOL_BACKEND_NAIVE, TOOL_BACKEND_CPU, TOOL_BACKEND_OPENBLAS,
       TOOL_BACKEND_CUDA };
static struct tool_common {
    size_t  threads;
    int     backend, tf32;
    int64_t seed;
} tool_common;
static int tool_want_help, tool_want_version;
static tool_flag tool_common_flags[] = {
    { .name = "threads", .size = &tool_common.threads, .min = 1, .max = 1024,
      .otherwise = "the cores this process may use", .help = "threads that compute" },
    { .name = "backend", .choice = &tool_common.backend,
      .choices = "auto|naive|cpu|openblas|cuda", .preset = "auto",
      .help = "who does the arithmetic; auto is the fastest that this build has" },
    { .name = "seed", .integer = &tool_common.seed, .preset = "42", .min = 0, .max = 4294967295.0,
      .help = "of initial weights, dropout and the order of the data" },
    { .name = "help", .flag = &tool_want_help, .help = "print this and leave" },
    { .name = "version", .flag = &tool_want_version, .help = "print the version and leave" },
    { 0 }
};

// For programs whose models may run on a GPU.
#define TOOL_TF32_FLAG                                                                             \
    { .name = "tf32", .flag = &tool_common.tf32,                                                   \
      .help = "with --backend cuda: round what 32-bit matrix products multiply to 10 bits of "     \
              "fraction, as tensor cores from compute capability 8.0 on take them" }

// The index of `bytes` of s in "a|b|c", or -1.
static int tool__word(const char *list, const char *s, size_t bytes) {
    for (int i = 0; list && *list; i++) {
        size_t n = strcspn(list, "|");
        if (n == bytes && memcmp(list, s, n) == 0) return i;
        list += n + (list[n] == '|');
    }
    return -1;
}

// Whether s is a decimal number and nothing else: no hex, no inf, no nan, no spaces, a point.
static int tool__is_decimal(const char *s) {
    size_t digits = 0;
    if (*s == '+' || *s == '-') s++;
    for (; *s >= '0' && *s <= '9'; s++) digits++;
    if (*s == '.') {
        for (s++; *s >= '0' && *s <= '9'; s++) digits++;
    }
    if (!digits) return 0;
    if (*s == 'e' || *s == 'E') {
        s++;
        if (*s == '+' || *s == '-') s++;
        if (*s < '0' || *s > '9') return 0;
        while (*s >= '0' && *s <= '9') s++;
    }
    return *s == '\0';
}

// Programs never call setlocale(), so strtod() knows the point only.
static int tool__parse_real(const char *s, double *out) {
    if (!tool__is_decimal(s)) return 0;
    *out = strtod(s, NULL);
    return isfinite(*out);
}

static int tool__parse_integer(const char *s, int64_t *out) {
    int negative = *s == '-';
    if (*s == '+' || *s == '-') s++;
    if (*s < '0' || *s > '9') return 0;
    int64_t x = 0;                      // kept negative: the smallest has no positive twin
    for (; *s >= '0' && *s <= '9'; s++) {
        int digit = *s - '0';
        if (x < (INT64_MIN + digit) / 10) return 0;
        x = x * 10 - digit;
    }
    if (*s || (!negative && x == INT64_MIN)) return 0;
    *out = negative ? x : -x;
    return 1;
}

static int tool__parse_bool(const char *s, int *out) {
    static const char *const words[] = { "false", "true", "False", "True", "0", "1", "no", "yes" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(s, words[i]) != 0) continue;
        *out = (int)(i % 2);
        return 1;
    }
    return 0;
}

static int tool__in_range(const tool_flag *f, double x) {
    if (f->min == 0 && f->max == 0) return 1;
    return (f->above_min ? x > f->min : x >= f->min) && (f->below_max ? x < f->max : x <= f->max);
}

// "an integer from 1 to 1024", "a number above 0, below 1".
static void tool__expected(const tool_flag *f, char *out, size_t bytes) {
    if (f->choice || f->flag || f->string) {
        snprintf(out, bytes, "%s", f->choice ? f->choices : f->flag ? "true or false"
                                   : f->value ? f->value : "text");
        return;
    }
    int n = snprintf(out, bytes, f->real ? "a number" : "an integer");
    double max = f->max >= 9e15 ? HUGE_VAL : f->max;
    if (f->min == 0 && f->max == 0) {
        if (f->size && (size_t)n < bytes) snprintf(out + n, bytes - (size_t)n, " not below 0");
        return;
    }
    if ((size_t)n < bytes) {
        n += snprintf(out + n, bytes - (size_t)n, " %s %.10g", f->above_min ? "above" : "from",
                      f->min);
    }
    if ((size_t)n < bytes && max < HUGE_VAL) {
        const char *to = f->below_max ? ", below" : f->above_min ? ", at most" : " to";
        snprintf(out + n, bytes - (size_t)n, "%s %.10g", to, max);
    }
}

// Reads text into the flag's variable; 0 when it is not one of its values.
static int tool__set(const tool_flag *f, const char *text) {
    int64_t i;
    double x;
    if (f->string) {
        *f->string = text;
        return 1;
    }
    if (f->flag) return tool__parse_bool(text, f->flag);
    if (f->choice) {
        int index = tool__word(f->choices, text, strlen(text));
        if (index >= 0) *f->choice = index;
        return index >= 0;
    }
    if (f->real) {
        if (!tool__parse_real(text, &x) || !tool__in_range(f, x)) return 0;
        *f->real = x;
        return 1;
    }
    if (!tool__parse_integer(text, &i) || !tool__in_range(f, (double)i)) return 0;
    if (f->integer) *f->integer = i;
    if (f->size) {
        if (i < 0 || (uint64_t)i > SIZE_MAX) return 0;
        *f->size = (size_t)i;
    }
    return 1;
}

static void tool__assign(tool_flag *f, const char *text) {
    char expected[256];
    if (!tool__set(f, text)) {
        tool__expected(f, expected, sizeof expected);
        tool_fail(TOOL_USAGE, "%s%s: not a value of this %s (found %s, expected %s)",
                  f->positional ? "" : "--", f->name, f->positional ? "argument" : "flag",
                  *text ? text : "nothing", expected);
    }
    f->given = TOOL_GIVEN;
}

// Edit distance of two names; names are short, longer ones count by their first 63 bytes.
static size_t tool__distance(const char *a, size_t n, const char *b) {
    size_t row[64], m = strlen(b);
    if (n > 63) n = 63;
    if (m > 63) m = 63;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[m];
}

// The flag named by the first `bytes` of s in either table; NULL: unknown.
static tool_flag *tool__find(tool_program *p, const char *s, size_t bytes) {
    tool_flag *tables[2] = { p->flags, tool_common_flags };
    for (int t = 0; t < 2; t++) {
        for (tool_flag *f = tables[t]; f->name; f++) {
            if (f->positional) continue;
            if (strlen(f->name) == bytes && memcmp(f->name, s, bytes) == 0) return f;
            if (tool__word(f->alias, s, bytes) >= 0) return f;
        }
    }
    return NULL;
}

// The flag whose name is nearest.
static const char *tool__nearest(tool_program *p, const char *s, size_t bytes) {
    tool_flag *tables[2] = { p->flags, tool_common_flags };
    const char *nearest = "help";
    size_t least = SIZE_MAX;
    for (int t = 0; t < 2; t++) {
        for (tool_flag *f = tables[t]; f->name; f++) {
            size_t d = f->positional ? SIZE_MAX : tool__distance(s, bytes, f->name);
            if (d < least) { least = d; nearest = f->name; }
        }
    }
    return nearest;
}

_Noreturn static void tool__unknown(tool_program *p, const char *s, size_t bytes) {
    tool_fail(TOOL_USAGE, "unknown flag (found --%.*s, expected perhaps --%s; --help lists all)",
              (int)bytes, s, tool__nearest(p, s, bytes));
}

// argv[i] is "--name" or "--name=value"; returns the index of the last argument it took.
static int tool__flag(tool_program *p, int argc, char **argv, int i) {
    const char *name = argv[i] + 2, *next = i + 1 < argc ? argv[i + 1] : NULL;
    size_t bytes = strcspn(name, "=");
    tool_flag *f = tool__find(p, name, bytes);
    int is_bool, ignored;
    if (!f) tool__unknown(p, name, bytes);
    is_bool = f->flag != NULL;
    if (name[bytes] == '=') {
        tool__assign(f, name + bytes + 1);
        return i;
    }
    if (next && strncmp(next, "--", 2) == 0) next = NULL;
    if (is_bool && next && (isdigit((unsigned char)*next) || !tool__parse_bool(next, &ignored))) {
        next = NULL;                    // a positional argument follows, even one called 1
    }
    if (next) {
        tool__assign(f, next);
        return i + 1;
    }
    if (is_bool || f->bare) {
        tool__assign(f, is_bool ? "true" : f->bare);
        return i;
    }
    char expected[256];
    tool__expected(f, expected, sizeof expected);
    tool_fail(TOOL_USAGE, "--%s: a value is missing (found nothing, expected %s)", f->name,
              expected);
}

static void tool__positional(tool_program *p, const char *text) {
    for (tool_flag *f = p->flags; f->name; f++) {
        if (!f->positional || f->given) continue;
        tool__assign(f, text);
        return;
    }
    tool_fail(TOOL_USAGE, "one argument too many (found %s, expected none; see --help)", text);
}

TOOL_DEF int tool_given(const tool_program *p, const char *name) {
    for (const tool_flag *f = p->flags; f->name; f++) {
        if (strcmp(f->name, name) == 0) return f->given;
    }
    return 0;
}

//==============================================================================
// --help
//==============================================================================
// Words of text from column `at`, broken before column 80, further lines from column `indent`.
static void tool__wrap(const char *text, size_t at, size_t indent) {
    for (int first = 1; *text; first = 0) {
        size_t n = strcspn(text, " ");
        if (!first && at + 1 + n >= 80) {
            tool_print("\n%*s", (int)indent, "");
            at = indent;
        } else if (!first) {
            tool_print(" ");
            at++;
        }
        tool_write(text, n);
        at += n;
        text += n + (text[n] == ' ');
    }
    tool_print("\n");
}

static void tool__help_flag(const tool_flag *f) {
    char line[1024], head[256], range[128] = "";
    const char *value = f->positional || f->flag ? "" : f->choices ? f->choices
                      : f->value ? f->value : f->real ? "X" : f->string ? "TEXT" : "N";
    int n = snprintf(head, sizeof head, "  %s%s%s%s%s%s", f->positional ? "" : "--", f->name,
                     *value ? " " : "", f->bare ? "[" : "", value, f->bare ? "]" : "");
    for (const char *s = head; *s; ) {          // many choices go on in the next line
        size_t part = strlen(s);
        if (part > 79) {
            for (part = 79; part && s[part - 1] != '|'; ) part--;
            if (!part) part = strlen(s);
        }
        tool_write(s, part);
        s += part;
        if (*s) tool_print("\n      ");
    }
    if (n > 32) tool_print("\n%34s", "");
    else tool_print("%*s", 34 - n, "");
    int numeric = f->integer || f->size || f->real;
    if (numeric) tool__expected(f, range, sizeof range);
    const char *preset = f->preset ? f->preset : f->otherwise ? f->otherwise
                       : f->flag ? "false" : "none";
    snprintf(line, sizeof line, "%s (%s%s%s%s%s%s%s%s)", f->help, range,
             numeric && f->unit ? ", " : "", numeric && f->unit ? f->unit : "",
             numeric ? "; " : "", f->required ? "required" : "default: ",
             f->required ? "" : preset, f->alias ? "; also --" : "", f->alias ? f->alias : "");
    tool__wrap(line, 34, 34);
}

// A command line, broken as a shell allows before column 80.
static void tool__help_example(const char *text) {
    size_t at = 0;
    for (int first = 1; *text; first = 0) {
        size_t n = strcspn(text, " ");
        if (!first && at + 1 + n > 76) {
            tool_print(" \\\n     ");
            at = 5;
        }
        tool_print(first ? "  %.*s" : " %.*s", (int)n, text);
        at += n + (first ? 2 : 1);
        text += n + (text[n] == ' ');
    }
    tool_print("\n");
}

_Noreturn static void tool__help(const tool_program *p) {
    tool_print("%s - ", p->name);
    tool__wrap(p->purpose, strlen(p->name) + 3, 0);
    tool_print("\nusage: %s ", p->name);
    tool__wrap(p->usage, strlen(p->name) + 8, strlen(p->name) + 8);
    tool_print("\n");
    for (const tool_flag *f = p->flags; f->name; f++) {
        if (f->positional) tool__help_flag(f);
    }
    for (const tool_flag *f = p->flags; f->name; f++) {
        if (!f->positional) tool__help_flag(f);
    }
    tool_print("\nof every program:\n");
    for (const tool_flag *f = tool_common_flags; f->name; f++) tool__help_flag(f);
    tool_print("\nA flag is written --flag value or --flag=value.\n\nexamples:\n");
    for (int i = 0; i < 2 && p->examples[i]; i++) tool__help_example(p->examples[i]);
    tool_print("\nexit codes: 0 done, 2 usage, 3 bad input, 4 out of memory, 5 input or output\n"
               "failed, 6 numerical failure, 7 interrupted and saved\n");
    exit(tool_finish());
}

//==============================================================================
// The start of main
//==============================================================================
// A program started with a standard stream closed would open its first file in its place.
static void tool__open_streams(void) {
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) != -1) continue;
        // Read-only, so that results written there still fail.
        if (open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY) != fd) exit(TOOL_IO);
    }
}


//==============================================================================
// Contexts and backends
//==============================================================================
static char tool_log_text[1024];        // the latest error, for what has no context to keep it
static int tool_log_errors;             // 1: errors are worth a line too, as they will be cleared
static int tool_log_no_notes;           // 1: warnings are not, as an error will say the same

// The context keeps errors until tool_check(); what comes with MRC_OK is worth a line now.
TOOL_DEF void tool_log(void *user, mrc_status status, const char *message) {
    (void)user;
    if (status == MRC_OK ? !tool_log_no_notes : tool_log_errors) tool_note("%s", message);
    if (status != MRC_OK) snprintf(tool_log_text, sizeof tool_log_text, "%s", message);
}

// be NULL: for text and files only.
TOOL_DEF mrc_ctx *tool_ctx_new(mrc_backend *be, size_t step_chunk_bytes) {
    mrc_ctx *ctx;
    mrc_ctx_desc desc = { .log = tool_log, .backend = be, .step_chunk_bytes = step_chunk_bytes };
    mrc_status status = mrc_ctx_new(&ctx, &desc);
    if (status == MRC_OK) return ctx;
    tool_fail(tool_exit_code(status), "%s",
              *tool_log_text ? tool_log_text : mrc_status_string(status));
}

//------------------------------------------------------------------------------
// A config file: flags by name, in sections that only order them; the command line wins
//------------------------------------------------------------------------------
// A value as it would stand on the command line; NULL for one that no flag takes.
static const char *tool__config_text(const mrc_json *v, char *number, size_t capacity) {
    switch (v->type) {
    case MRC_JSON_STRING: return v->string;
    case MRC_JSON_TRUE:   return "true";
    case MRC_JSON_FALSE:  return "false";
    case MRC_JSON_NUMBER:
        if (v->is_int) snprintf(number, capacity, "%lld", (long long)v->integer);
        else snprintf(number, capacity, "%.17g", v->number);
        return number;
    default:              return NULL;
    }
}

static void tool__config_members(tool_program *p, const char *path, const mrc_json *object,
                                 int depth) {
    for (const mrc_json *v = object->child; v; v = v->next) {
        char number[64], expected[256];
        if (v->type == MRC_JSON_OBJECT && depth < 2) {
            tool__config_members(p, path, v, depth + 1);
            continue;
        }
        if (v->type == MRC_JSON_NULL) continue;         // as if it were not there
        tool_flag *f = tool__find(p, v->key, v->key_bytes);
        const char *text = tool__config_text(v, number, sizeof number);
        if (!f) {
            tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: unknown key (found %s, expected perhaps %s; "
                      "--help lists all)", path, v->line, v->column, v->key,
                      tool__nearest(p, v->key, v->key_bytes));
        }
        if (f->given == TOOL_CONFIGURED) {
            tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: %s stands twice", path, v->line, v->column,
                      f->name);
        }
        if (f->given) continue;
        // The tree goes with its context, a string flag keeps pointing at its text.
        char *kept = text ? malloc(strlen(text) + 1) : NULL;
        if (kept) memcpy(kept, text, strlen(text) + 1);
        if (text && !kept) tool_fail(TOOL_NO_MEMORY, "%s: no memory for %s", path, v->key);
        if (!kept || !tool__set(f, kept)) {
            tool__expected(f, expected, sizeof expected);
            tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: %s is out of range (found %s, expected %s)",
                      path, v->line, v->column, v->key, text ? text : "a list or mapping",
                      expected);
        }
        f->given = TOOL_CONFIGURED;
        if (!f->string) free(kept);
    }
}

// Reads a program's config file, YAML or by its name JSON, below the flags that were given.
TOOL_DEF void tool_config(tool_program *p, const char *path) {
    const size_t n = strlen(path);
    const int json = n > 5 && strcmp(path + n - 5, ".json") == 0;
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    mrc_json *root;
    tool_check(ctx, json ? mrc_json_load(ctx, &root, path) : mrc_yaml_load(ctx, &root, path));
    if (root->type != MRC_JSON_OBJECT) {
        tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: is no mapping of flags", path, root->line,
                  root->column);
    }
    tool__config_members(p, path, root, 0);
    mrc_json_free(root);
    mrc_ctx_free(ctx);
}

// Defaults, then the command line.  Returns when the program has work to do.
TOOL_DEF void tool_start(tool_program *p, int argc, char **argv) {
    int only_positional = 0;
    tool_name = p->name;
    tool__open_streams();
    signal(SIGPIPE, SIG_IGN);           // a reader that leaves is a failed write, exit 5
    signal(SIGXFSZ, SIG_IGN);
    tool_common.threads = mrc_processors();
    tool_flag *tables[2] = { p->flags, tool_common_flags };
    for (int t = 0; t < 2; t++) {
        for (tool_flag *f = tables[t]; f->name; f++) {
            if (f->preset && !tool__set(f, f->preset)) {
                tool_fail(TOOL_USAGE, "--%s: default %s is out of range", f->name, f->preset);
            }
        }
    }
    for (int i = 1; i < argc; i++) {
        if (!only_positional && strcmp(argv[i], "--") == 0) only_positional = 1;
        else if (!only_positional && strncmp(argv[i], "--", 2) == 0) {
            i = tool__flag(p, argc, argv, i);
        } else if (!only_positional && strcmp(argv[i], "-h") == 0) tool_want_help = 1;
        else tool__positional(p, argv[i]);
    }
    if (tool_want_help) tool__help(p);
    if (tool_want_version) {
        tool_print("%s %d.%d.%d\n", p->name, MRC_VERSION_MAJOR, MRC_VERSION_MINOR,
                   MRC_VERSION_PATCH);
        exit(tool_finish());
    }
    if (p->config && *p->config) tool_config(p, *p->config);
    for (tool_flag *f = p->flags; f->name; f++) {
        char expected[256];
        if (!f->required || f->given) continue;
        tool__expected(f, expected, sizeof expected);
        tool_fail(TOOL_USAGE, "%s%s is missing (found nothing, expected %s; see --help)",
                  f->positional ? "" : "--", f->name, expected);
    }
}

// --threads for what has a pool of the library's without a backend.
TOOL_DEF size_t tool_pool_threads(void) {
    return tool_common.threads < 64 ? tool_common.threads : 64;
}

#if defined(MRC_OPENBLAS) && defined(MRC_CUDA)
#define TOOL_BACKENDS "naive, cpu, openblas or cuda"
#elif defined(MRC_CUDA)
#define TOOL_BACKENDS "naive, cpu or cuda"
#elif defined(MRC_OPENBLAS)
#define TOOL_BACKENDS "naive, cpu or openblas"
#else
#define TOOL_BACKENDS "naive or cpu"
#endif

// CUDA, or one line that says why not: no CUDA in this build, no driver, no device.
static mrc_status tool__cuda_new(mrc_backend **out) {
#ifdef MRC_CUDA
    char why[200] = "";
    mrc_cuda_desc desc = { .tf32 = tool_common.tf32, .why = why, .why_bytes = sizeof why };
    mrc_status status = mrc_backend_cuda_new(out, &desc);
    if (status == MRC_ERR_UNSUPPORTED) {
        tool_fail(TOOL_BAD_INPUT, "--backend: %s (found cuda, expected " TOOL_BACKENDS ")", why);
    }
    return status;
#else
    *out = NULL;
    const int driver = access("/dev/nvidiactl", F_OK) == 0;
    tool_fail(TOOL_BAD_INPUT, "--backend: this build has no CUDA%s (found cuda, expected "
              TOOL_BACKENDS ")", driver ? ", though this machine has a driver: install the CUDA "
              "toolkit (nvcc) and run ./build.sh again" : ", and this machine no CUDA driver");
#endif
}

// OpenBLAS's threads are its own business unless --threads was given.
static mrc_status tool__openblas_new(mrc_backend **out, mrc_backend_desc desc) {
#ifdef MRC_OPENBLAS
    const tool_flag *threads = tool_common_flags;
    while (strcmp(threads->name, "threads") != 0) threads++;
    if (!threads->given) desc.threads = 0;
    return mrc_backend_openblas_new(out, &desc);
#else
    (void)out; (void)desc;
    return MRC_ERR_UNSUPPORTED;
#endif
}

// What --backend asks for.
TOOL_DEF mrc_backend *tool_backend_new(void) {
    mrc_backend *be = NULL;
    mrc_status status = MRC_ERR_UNSUPPORTED;
    mrc_backend_desc desc = { .threads = tool_common.threads };
    const int kind = tool_common.backend;
    if (tool_common.tf32 && kind != TOOL_BACKEND_CUDA) {
        tool_fail(TOOL_USAGE, "--tf32: only CUDA devices multiply so (found another --backend, "
                  "expected --backend cuda)");
    }
    if (kind == TOOL_BACKEND_NAIVE) status = mrc_backend_naive_new(&be, &desc);
    if (kind == TOOL_BACKEND_CPU || kind == TOOL_BACKEND_AUTO) {
        status = mrc_backend_cpu_new(&be, &desc);
    }
    if (kind == TOOL_BACKEND_OPENBLAS) status = tool__openblas_new(&be, desc);
    if (kind == TOOL_BACKEND_CUDA) status = tool__cuda_new(&be);
    if (status == MRC_OK) return be;
    if (status == MRC_ERR_UNSUPPORTED && kind == TOOL_BACKEND_OPENBLAS) {
#ifdef MRC_OPENBLAS
        tool_fail(TOOL_BAD_INPUT, "--backend: libopenblas was there when this was built and cannot "
                  "be loaded now (found openblas, expected " TOOL_BACKENDS ")");
#else
        tool_fail(TOOL_BAD_INPUT, "--backend: this build has no OpenBLAS: install it and run "
                  "./build.sh again (found openblas, expected " TOOL_BACKENDS ")");
#endif
    }
    const char *word = kind == TOOL_BACKEND_CUDA ? "cuda" : kind == TOOL_BACKEND_NAIVE ? "naive"
                     : kind == TOOL_BACKEND_OPENBLAS ? "openblas" : "cpu";
    tool_fail(tool_exit_code(status), "--backend: %s (found %s, expected " TOOL_BACKENDS ")",
              mrc_status_string(status), word);
}

// Takes what was planned of a device's memory, in one piece; *had: wanted, or what there is.
// Returns 0 where the backend's memory is the host's.
TOOL_DEF int tool_backend_reserve(mrc_backend *be, size_t wanted, size_t *had) {
#ifdef MRC_CUDA
    if (!strcmp(be->name, "cuda")) {
        size_t total;
        *had = wanted;
        if (mrc_cuda_reserve(be, wanted) == MRC_OK) return 1;
        mrc_cuda_memory(be, had, &total);
        if (*had >= wanted) *had = wanted - 1;
        return 1;
    }
#endif
    (void)be; (void)wanted; (void)had;
    return 0;
}

//==============================================================================
// Models and data
//==============================================================================
#define TOOL_PATH_BYTES 4096

// "dir/name" into a buffer of TOOL_PATH_BYTES.
TOOL_DEF const char *tool_path(char *out, const char *dir, const char *name) {
    int n = snprintf(out, TOOL_PATH_BYTES, "%s/%s", dir, name);
    if (n < 0 || n >= TOOL_PATH_BYTES) {
        tool_fail(TOOL_USAGE, "%.60s...: the path is too long (found %d bytes, expected at most "
                  "%d)", dir, n, TOOL_PATH_BYTES - 1);
    }
    return out;
}

// Weights that were initialised, or that only the file has: ten names of each, then counts.
typedef struct tool_load_notes { const char *path; size_t n[2]; } tool_load_notes;
TOOL_DEF void tool_load_note(void *user, mrc_load_note note, const char *name) {
    tool_load_notes *notes = user;
    if (++notes->n[note == MRC_LOAD_UNEXPECTED] > 10) return;
    if (note == MRC_LOAD_MISSING) {
        tool_note("%s: has no %s: initialised from --seed", notes->path, name);
    } else {
        tool_note("%s: %s has no place in the model: left out", notes->path, name);
    }
}
TOOL_DEF void tool_load_notes_end(const tool_load_notes *notes) {
    for (int i = 0; i < 2; i++) {
        if (notes->n[i] <= 10) continue;
        tool_note("%s: and %zu more weights, %zu in all, were %s", notes->path, notes->n[i] - 10,
                  notes->n[i], i ? "left out" : "initialised from --seed");
    }
}

// *stride SIZE_MAX: 128, or a third of shorter windows.
TOOL_DEF void tool_check_stride(size_t length, size_t *stride) {
    if (*stride == SIZE_MAX) *stride = length / 3 < 128 ? length / 3 : 128;
    if (*stride >= length) {
        tool_fail(TOOL_USAGE, "--doc_stride: the overlap of two windows must be shorter than they "
                  "are (found %zu, expected below %zu)", *stride, length);
    }
}

// The vocabulary must fit the embedding, and the windows the table of positions.  *length 0: the
// longest up to 512 that fits; *stride as above.
#define TOOL_STRIDE_HELP "128, or a third of --max_seq_length where that is less"
TOOL_DEF void tool_check_fit(const mrc_model_config *config, const char *model,
                             const mrc_tokenizer *tok, const char *tokenizer, size_t *length,
                             size_t *stride) {
    size_t tokens = mrc_tokenizer_size(tok), longest = mrc_model_config_max_length(config);
    int32_t pad = mrc_tokenizer_special(tok).pad;
    if (tokens > config->vocab_size) {
        tool_fail(TOOL_BAD_INPUT, "%s: the vocabulary is too large for the model %s (found %zu "
                  "tokens, expected at most its vocab_size %zu)", tokenizer, model, tokens,
                  config->vocab_size);
    }
    if (pad != config->pad_token_id) {
        tool_fail(TOOL_BAD_INPUT, "%s: the padding token is not that of the model %s (found id "
                  "%d, expected its pad_token_id %d)", tokenizer, model, (int)pad,
                  (int)config->pad_token_id);
    }
    if (!*length) *length = longest < 512 ? longest : 512;
    if (*length > longest) {
        tool_fail(TOOL_BAD_INPUT, "--max_seq_length: longer than the model %s can read (found "
                  "%zu, expected at most %zu)", model, *length, longest);
    }
    tool_check_stride(*length, stride);
}

// The examples of one of k folds (KFold with --seed), or those of all others; freed before d.
TOOL_DEF mrc_dataset *tool_fold(mrc_ctx *ctx, const mrc_dataset *d, const char *path, size_t k,
                                size_t fold, int inside) {
    size_t n = mrc_dataset_size(d), kept = 0;
    size_t *folds = malloc((2 * n + 1) * sizeof *folds);
    mrc_dataset *part;
    if (!folds) tool_fail(TOOL_NO_MEMORY, "no memory for the folds of %zu examples", n);
    if (k < 2 || fold >= k) {
        tool_fail(TOOL_USAGE, "--fold: is not one of the folds (found %zu of --num_folds %zu, "
                  "expected 0 to %zu of at least 2)", fold, k, k > 1 ? k - 1 : 1);
    }
    if (k > n) {
        tool_fail(TOOL_BAD_INPUT, "%s: has fewer examples than folds (found %zu, expected at least "
                  "%zu)", path, n, k);
    }
    tool_check(ctx, mrc_kfold(ctx, n, k, (uint64_t)tool_common.seed, folds));
    for (size_t i = 0; i < n; i++) {
        if ((folds[i] == fold) == (inside != 0)) folds[n + kept++] = i;
    }
    tool_check(ctx, mrc_dataset_subset(ctx, &part, d, folds + n, kept));
    tool_note("%s: fold %zu of %zu: %zu of %zu examples to %s", path, fold, k, kept, n,
              inside ? "measure on" : "train on");
    free(folds);
    return part;
}

// "FILE: 3952 rows -> 3706 kept (reason: 246)": a result, there before the work begins.
TOOL_DEF void tool_print_rows(const char *path, const mrc_dataset *d, const mrc_features *f) {
    const char *reason, *before = " (";
    size_t count;
    tool_print("%s: %zu rows -> %zu kept", path, mrc_dataset_rows(d), f->kept);
    for (size_t i = 0; (reason = mrc_dataset_skipped(d, i, &count)) != NULL; i++, before = ", ") {
        tool_print("%s%s: %zu", before, reason, count);
    }
    for (size_t i = 0; i < sizeof f->dropped / sizeof *f->dropped && f->dropped[i].reason; i++) {
        tool_print("%s%s: %zu", before, f->dropped[i].reason, f->dropped[i].count);
        before = ", ";
    }
    tool_print(*before == ',' ? ")\n" : "\n");
    tool_flush();
}

//==============================================================================
// Clocks, memory, JSON
//==============================================================================
TOOL_DEF double tool_seconds(void) {    // since some moment in the past; never goes back
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

TOOL_DEF size_t tool_peak_bytes(void) { // resident memory, at its highest so far
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0 || usage.ru_maxrss < 0) return 0;
#ifdef __APPLE__
    return (size_t)usage.ru_maxrss;
#else
    return (size_t)usage.ru_maxrss * 1024;
#endif
}

// Members of an object on one line: add "{", members, "}".
TOOL_DEF void tool_json_key(mrc_text *t, const char *key) {
    if (t->bytes && t->data[t->bytes - 1] != '{') mrc_text_add(t, ", ", 2);
    mrc_text_json_string(t, key, strlen(key), 1);
    mrc_text_add(t, ": ", 2);
}
TOOL_DEF void tool_json_string(mrc_text *t, const char *key, const char *s) {
    tool_json_key(t, key);
    mrc_text_json_string(t, s, strlen(s), 0);
}
TOOL_DEF void tool_json_number(mrc_text *t, const char *key, double x) {
    tool_json_key(t, key);
    mrc_text_number(t, x);
}
TOOL_DEF void tool_json_integer(mrc_text *t, const char *key, int64_t x) {
    tool_json_key(t, key);
    mrc_text_printf(t, "%lld", (long long)x);
}
// A value as it was read: a scalar, or a list of such.
TOOL_DEF void tool_json_value(mrc_text *t, const mrc_json *v) {
    switch (v->type) {
    case MRC_JSON_STRING: mrc_text_json_string(t, v->string, v->bytes, 0); break;
    case MRC_JSON_TRUE:   mrc_text_add(t, "true", 4); break;
    case MRC_JSON_FALSE:  mrc_text_add(t, "false", 5); break;
    case MRC_JSON_NUMBER:
        if (v->is_int) mrc_text_printf(t, "%lld", (long long)v->integer);
        else mrc_text_number(t, v->number);
        break;
    case MRC_JSON_ARRAY:
        mrc_text_add(t, "[", 1);
        for (const mrc_json *e = v->child; e; e = e->next) {
            if (e != v->child) mrc_text_add(t, ", ", 2);
            tool_json_value(t, e);
        }
        mrc_text_add(t, "]", 1);
        break;
    default: mrc_text_add(t, "null", 4);
    }
}

//==============================================================================
// Progress bar: desc:  42%|####      | 42/100 [00:12<00:17, 3.40it/s, loss=0.7]
//
// Only where stderr is a terminal; elsewhere callers print a line at logging steps.
//==============================================================================
typedef struct tool_bar {
    const char *desc;
    size_t      total, n, first;        // first: where this run began, when it was resumed
    double      begun, drawn;           // seconds
    size_t      n_drawn;
    double      rate;                   // per second, smoothed as tqdm does
    int         on;
} tool_bar;

TOOL_DEF int tool_is_terminal(void) {
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
}

static void tool__duration(char *out, size_t bytes, double seconds) {
    if (!(seconds >= 0 && seconds < 3.6e9)) {
        snprintf(out, bytes, "?");
        return;
    }
    unsigned long s = (unsigned long)seconds;
    if (s >= 3600) snprintf(out, bytes, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else snprintf(out, bytes, "%02lu:%02lu", s / 60, s % 60);
}

static size_t tool__columns(void) {
#ifdef TIOCGWINSZ
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
#endif
    return 80;
}

static void tool__bar_draw(tool_bar *b, const char *note, double now) {
    char elapsed[32], left[32], rate[32], head[128], tail[256];
    double interval = now - b->drawn;
    if (b->n > b->n_drawn && interval > 0) {
        double r = (double)(b->n - b->n_drawn) / interval;
        b->rate = b->rate > 0 ? 0.3 * r + 0.7 * b->rate : r;
        b->n_drawn = b->n;
        b->drawn = now;
    }
    tool__duration(elapsed, sizeof elapsed, now - b->begun);
    tool__duration(left, sizeof left, b->rate > 0 ? (double)(b->total - b->n) / b->rate : -1);
    if (!(b->rate > 0)) snprintf(rate, sizeof rate, "?it/s");
    else if (b->rate >= 1) snprintf(rate, sizeof rate, "%.2fit/s", b->rate);
    else snprintf(rate, sizeof rate, "%.2fs/it", 1 / b->rate);
    double part = b->total ? (double)b->n / (double)b->total : 1;
    snprintf(head, sizeof head, "%s: %3.0f%%|", b->desc, 100 * part);
    snprintf(tail, sizeof tail, "| %zu/%zu [%s<%s, %s%s%s]", b->n, b->total, elapsed, left, rate,
             note && *note ? ", " : "", note ? note : "");
    size_t columns = tool__columns(), used = strlen(head) + strlen(tail) + 1;
    size_t cells = columns > used + 4 ? columns - used : 4;
    if (cells > 40) cells = 40;
    fprintf(stderr, "\r%s", head);
    for (size_t i = 0; i < cells; i++) {
        fputs((double)i + 0.5 <= part * (double)cells ? "\xe2\x96\x88" : " ", stderr);
    }
    fprintf(stderr, "%s\033[K", tail);
    fflush(stderr);
    tool_bar_drawn = 1;
}

// done: how many of total an earlier run has behind it.
TOOL_DEF void tool_bar_begin(tool_bar *b, const char *desc, size_t total, size_t done) {
    double now = tool_seconds();
    *b = (tool_bar){ .desc = desc, .total = total, .n = done, .first = done, .begun = now,
                     .drawn = now, .n_drawn = done, .on = tool_is_terminal() };
    if (b->on) tool__bar_draw(b, NULL, now);
}

// n of total are done; note: "loss=0.31" or NULL.  At most ten times a second it is drawn.
TOOL_DEF void tool_bar_update(tool_bar *b, size_t n, const char *note) {
    double now = b->on ? tool_seconds() : 0;
    b->n = n < b->total ? n : b->total;
    if (b->on && (now - b->drawn >= 0.1 || !tool_bar_drawn)) tool__bar_draw(b, note, now);
}

// Leaves the last state standing, with the mean rate, and ends its line.
TOOL_DEF void tool_bar_end(tool_bar *b, const char *note) {
    if (!b->on) return;
    double now = tool_seconds(), seconds = now - b->begun;
    b->rate = seconds > 0 ? (double)(b->n - b->first) / seconds : 0;
    b->n_drawn = b->n;
    tool__bar_draw(b, note, now);
    fputs("\n", stderr);
    tool_bar_drawn = 0;
    b->on = 0;
}

//==============================================================================
// Signals: the first asks the loop to save and leave, the second leaves at once
//==============================================================================
static volatile sig_atomic_t tool_signal;   // 0, or the signal that asks to stop

static void tool__on_signal(int number) {
    if (tool_signal) _exit(128 + number);
    tool_signal = number;
}

// For programs that have something to save: poll tool_signal between steps, then exit with
// TOOL_INTERRUPTED.  Under nohup a hang-up stays ignored.
TOOL_DEF void tool_catch_signals(void) {
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_handler = tool__on_signal;
    action.sa_flags = SA_RESTART;       // reads and writes under way go on
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
        sigaction(SIGHUP, &action, NULL);
    }
}

#endif
