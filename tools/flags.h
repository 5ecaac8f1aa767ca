// Flags: a program describes them in one table; this reads command lines and config files by it.
//
// tool.h includes this file.  What else is made from the tables, help, manual pages and
// completion, is in help.h.
#ifndef TOOL_FLAGS_H
#define TOOL_FLAGS_H

typedef struct tool_list { const char **item; size_t n; } tool_list;    // never freed

// One flag or positional argument.  Exactly one of the value pointers is set and gives the type.
typedef struct tool_flag {
    const char  *name;                  // without dashes; a row without a name ends the table
    const char  *alias;                 // other names, "a|b"
    const char  *group;                 // the heading in --help; NULL: that of the row before
    const char **string;
    int64_t     *integer;
    size_t      *size;
    double      *real;
    int         *flag;                  // 0 or 1: alone, or with true, false, yes, no, 1 or 0
    int         *choice;                // the place in choices, from 0
    tool_list   *list;                  // several values, or one with commas in it
    const char  *choices;               // "linear|bilstm"
    const char  *value;                 // what stands for the value in --help: DIR, FILE
    const char  *unit;                  // of a number: "tokens"
    const char  *preset;                // the default as text; NULL: the variable stays as it is
    const char  *otherwise;             // without preset: the default in words ("the model's")
    const char  *bare;                  // the value of a flag that may stand alone
    const char  *help;
    double       min, max;              // of numbers; both 0: any
    int          above_min, below_max;  // 1: that end is not allowed itself
    int          is_ratio;              // of real: a whole number, or below 1 a part of all
    int          required, positional;
    int          given;                 // out: TOOL_GIVEN, or TOOL_CONFIGURED by a config file
} tool_flag;
enum { TOOL_GIVEN = 1, TOOL_CONFIGURED = 2 };

// A flag of another program that users bring along.
typedef enum tool_foreign_kind {
    TOOL_REFUSED,                       // advice: what to write here instead
    TOOL_SWITCH,                        // the same, but false is what is done here anyway
    TOOL_IDLE_SWITCH, TOOL_IDLE_VALUE   // taken, and nothing to do; advice: why
} tool_foreign_kind;
typedef struct tool_foreign { const char *name, *advice; tool_foreign_kind kind; } tool_foreign;

typedef struct tool_program {
    const char *name;
    const char *group;                  // the heading in `mrc help`
    const char *purpose;                // a sentence or two
    const char *usage;                  // what follows the name: "--output_dir DIR [flags]"
    const char *examples[2];            // whole command lines
    tool_flag  *flags;
    const char *const *config;          // where a flag puts a config file's path; NULL: none
    const tool_foreign *foreign;        // ends with a row without a name; NULL: none
    struct tool_program *inner;         // whose flags are taken too, for it: into `passed`
    tool_list  *passed;                 // "--name=value" each
    int       (*run)(struct tool_program *p);   // returns tool_finish()
} tool_program;

//==============================================================================
// What every program accepts
//==============================================================================
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
      .help = "what does the arithmetic; auto: the fastest one of this build that works here" },
    { .name = "seed", .integer = &tool_common.seed, .preset = "42", .min = 0, .max = 4294967295.0,
      .help = "of initial weights, dropout and the order of the data" },
    { .name = "help", .flag = &tool_want_help, .help = "print this and leave" },
    { .name = "version", .flag = &tool_want_version, .help = "print the version and leave" },
    { 0 }
};

// For programs whose models may run on a GPU.
// In what a model is loaded for prediction.
typedef struct tool_precision { int dtype; tool_list int8_keep; } tool_precision;
#define TOOL_PRECISION_FLAGS(p)                                                                    \
    { .name = "dtype", .group = "machines", .choice = &(p).dtype,                                  \
      .choices = "fp32|bf16|fp16|int8", .preset = "fp32",                                          \
      .help = "of the weights: bf16 takes half the memory and less time and moves logits a "       \
              "little; int8, of the encoder's layers, takes a quarter and the least time, and "    \
              "moves them more; fp16 where the backend has it" },                                  \
    { .name = "int8_keep", .list = &(p).int8_keep, .value = "LAYER,..",                            \
      .help = "with --dtype int8: layers that stay bf16, of query, key, value, out, up and down "  \
              "(attention: the first four), for models with large outliers" }
TOOL_DEF mrc_dtype tool_precision_dtype(const tool_precision *p) {
    static const mrc_dtype dtypes[] = { MRC_DTYPE_F32, MRC_DTYPE_BF16, MRC_DTYPE_F16,
                                        MRC_DTYPE_I8 };
    return dtypes[p->dtype];
}
// The MRC_LAYER_* that --int8_keep names.
TOOL_DEF unsigned tool_precision_keep(const tool_precision *p) {
    static const struct { const char *name; unsigned bits; } layers[] = {
        { "query", MRC_LAYER_QUERY }, { "key", MRC_LAYER_KEY }, { "value", MRC_LAYER_VALUE },
        { "out", MRC_LAYER_OUT }, { "up", MRC_LAYER_UP }, { "down", MRC_LAYER_DOWN },
        { "attention", MRC_LAYER_QUERY | MRC_LAYER_KEY | MRC_LAYER_VALUE | MRC_LAYER_OUT } };
    const size_t n = sizeof layers / sizeof *layers;
    unsigned keep = 0;
    if (p->int8_keep.n && tool_precision_dtype(p) != MRC_DTYPE_I8) {
        tool_fail(TOOL_USAGE, "--int8_keep: needs --dtype int8 (found another --dtype)");
    }
    for (size_t k = 0, i; k < p->int8_keep.n; k++) {
        for (i = 0; i < n && strcmp(layers[i].name, p->int8_keep.item[k]); i++) continue;
        if (i == n) {
            tool_fail(TOOL_USAGE, "--int8_keep: no such layer (found %s, expected query, key, "
                      "value, out, up, down or attention)", p->int8_keep.item[k]);
        }
        keep |= layers[i].bits;
    }
    return keep;
}

#define TOOL_TF32_FLAG                                                                             \
    { .name = "tf32", .flag = &tool_common.tf32,                                                   \
      .help = "with --backend cuda: round what 32-bit matrix products multiply to 10 bits of "     \
              "fraction, as tensor cores from compute capability 8.0 on take them" }

//==============================================================================
// Values
//==============================================================================
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
    static const char *const words[] = { "false", "true", "0", "1", "no", "yes" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(s, words[i]) != 0) continue;
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
    if (f->choice || f->flag || f->string || f->list) {
        snprintf(out, bytes, "%s", f->choice ? f->choices : f->flag ? "true or false"
                                   : f->value ? f->value : "text");
        return;
    }
    if (f->is_ratio) {
        snprintf(out, bytes, "a whole number, or a part of all below 1");
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

static void tool_list_add(tool_list *l, const char *item) {
    size_t capacity = l->n;
    l->item = tool_grow(l->item, l->n, &capacity, sizeof *l->item);
    l->item[l->n++] = item;
}

// Adds what text names: itself, or the parts between its commas.  A file's name may have commas.
static int tool__list_set(tool_list *l, const char *text) {
    if (!strchr(text, ',') || mrc_path_kind(text)) {
        if (!*text) return 0;
        tool_list_add(l, tool_copy(text));
        return 1;
    }
    for (;;) {
        size_t n = strcspn(text, ",");
        if (!n) return 0;
        char *part = tool_allocate(n + 1, 1);
        memcpy(part, text, n);
        tool_list_add(l, part);
        if (!text[n]) return 1;
        text += n + 1;
    }
}

// The values with commas between them; "" for none.  Never freed.
TOOL_DEF const char *tool_list_join(const tool_list *l) {
    size_t bytes = 1, at = 0;
    for (size_t i = 0; i < l->n; i++) bytes += strlen(l->item[i]) + 1;
    char *text = tool_allocate(bytes, 1);
    for (size_t i = 0; i < l->n; i++) {
        size_t n = strlen(l->item[i]);
        if (i) text[at++] = ',';
        memcpy(text + at, l->item[i], n);
        at += n;
    }
    return text;
}

// The values of a list flag as numbers from `min` on: n of them, freed by the caller.
TOOL_DEF double *tool_list_numbers(const tool_list *l, const char *name, double min) {
    double *x = tool_allocate(l->n, sizeof *x);
    for (size_t i = 0; i < l->n; i++) {
        if (tool__parse_real(l->item[i], &x[i]) && x[i] >= min) continue;
        tool_fail(TOOL_USAGE, "--%s: not a value of this flag (found %s, expected numbers from %g, "
                  "as several values or with commas)", name, l->item[i], min);
    }
    return x;
}

// Reads text into the flag's variable; 0 when it is not one of its values.
static int tool__set(const tool_flag *f, const char *text) {
    int64_t i;
    double x;
    if (f->list) return tool__list_set(f->list, text);
    if (f->string) {
        int word;                       // one that may stand alone may also be switched
        const char *path = f->value ? f->value : "";
        const int names_file = f->positional || !strncmp(path, "DIR", 3)
                            || !strncmp(path, "FILE", 4);
        if (!*text && !f->bare && names_file) return 0;
        *f->string = text;
        if (f->bare && tool__parse_bool(text, &word)) *f->string = word ? f->bare : NULL;
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
        if (f->is_ratio && x >= 1 && x > floor(x)) return 0;
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

// A flag's value as text, as a command line would have it; a list has commas.
TOOL_DEF void tool_flag_text(mrc_text *t, const tool_flag *f) {
    if (f->real && f->is_ratio && *f->real >= 1) mrc_text_printf(t, "%.0f", *f->real);
    else if (f->real) mrc_text_number(t, *f->real);
    else if (f->size) mrc_text_printf(t, "%zu", *f->size);
    else if (f->integer) mrc_text_printf(t, "%lld", (long long)*f->integer);
    else if (f->flag) mrc_text_printf(t, "%s", *f->flag ? "true" : "false");
    else if (f->list) mrc_text_printf(t, "%s", tool_list_join(f->list));
    else if (f->string) mrc_text_printf(t, "%s", *f->string ? *f->string : "");
    else {
        const char *word = f->choices;
        for (int i = 0; word && i < *f->choice; i++) word = strchr(word, '|') + 1;
        mrc_text_printf(t, "%.*s", (int)strcspn(word, "|"), word);
    }
    if (t->failed) tool_no_memory("the value of --%s", f->name);
}

//==============================================================================
// Names
//==============================================================================
// A flag as it was typed: bytes of s, where "-" is "_".
static int tool__same_name(const char *name, const char *s, size_t bytes) {
    if (strlen(name) != bytes) return 0;
    for (size_t i = 0; i < bytes; i++) {
        if ((s[i] == '-' ? '_' : s[i]) != name[i]) return 0;
    }
    return 1;
}

static int tool__is_called(const tool_flag *f, const char *s, size_t bytes) {
    if (f->positional) return 0;
    if (tool__same_name(f->name, s, bytes)) return 1;
    for (const char *a = f->alias; a && *a; ) {
        char name[64];
        size_t n = strcspn(a, "|");
        snprintf(name, sizeof name, "%.*s", (int)n, a);
        if (tool__same_name(name, s, bytes)) return 1;
        a += n + (a[n] == '|');
    }
    return 0;
}

static tool_flag *tool__find_in(tool_flag *table, const char *s, size_t bytes) {
    for (tool_flag *f = table; f->name; f++) {
        if (tool__is_called(f, s, bytes)) return f;
    }
    return NULL;
}

// The flag named by the first `bytes` of s in either table; NULL: unknown.
static tool_flag *tool__find(tool_program *p, const char *s, size_t bytes) {
    tool_flag *f = tool__find_in(p->flags, s, bytes);
    return f ? f : tool__find_in(tool_common_flags, s, bytes);
}

static int tool__letter(char c) { return c == '-' ? '_' : tolower((unsigned char)c); }

// Edit distance of two names without regard to case, two letters that changed places counting 1;
// longer ones count by their first 63 bytes.
static size_t tool__distance(const char *a, size_t n, const char *b) {
    size_t d[3][64], m = strlen(b);     // of the prefixes of a with i - 2, i - 1 and i letters
    if (n > 63) n = 63;
    if (m > 63) m = 63;
    for (size_t j = 0; j <= m; j++) d[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = d[i % 3], *last = d[(i + 2) % 3], *before = d[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            const int x = tool__letter(a[i - 1]), y = tool__letter(b[j - 1]);
            size_t best = last[j - 1] + (x != y);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            if (i > 1 && j > 1 && x == tool__letter(b[j - 2]) && y == tool__letter(a[i - 2])
                && before[j - 2] + 1 < best) best = before[j - 2] + 1;
            now[j] = best;
        }
    }
    return d[n % 3][m];
}

// How far a typed name is from a known one; SIZE_MAX: too far for a guess.  A beginning or an end
// of at least four letters comes first, then at most a third of the name may differ.
static size_t tool__far(const char *s, size_t bytes, const char *name) {
    size_t n = strlen(name), d, whole = bytes < n ? bytes : n;
    char typed[64];
    snprintf(typed, sizeof typed, "%.*s", (int)(bytes < 63 ? bytes : 63), s);
    for (char *c = typed; *c; c++) {
        if (*c == '-') *c = '_';
    }
    bytes = strlen(typed);
    if (whole >= 4 && bytes != n) {
        const char *longer = bytes < n ? name : typed, *part = bytes < n ? typed : name;
        size_t more = strlen(longer) - strlen(part);
        if (!strncasecmp(longer, part, strlen(part)) || !strcasecmp(longer + more, part)) {
            return more;
        }
    }
    d = tool__distance(typed, bytes, name);
    return 3 * d <= bytes ? 100 + d : SIZE_MAX;
}

// The nearest flag; NULL: none is near.
static const char *tool__nearest(const tool_program *p, const char *s, size_t bytes) {
    const tool_flag *tables[3] = { p->flags, tool_common_flags, p->inner ? p->inner->flags : NULL };
    const char *nearest = NULL;
    size_t least = SIZE_MAX;
    for (int t = 0; t < 3; t++) {
        for (const tool_flag *f = tables[t]; f && f->name; f++) {
            if (f->positional) continue;
            size_t d = tool__far(s, bytes, f->name);
            for (const char *a = f->alias; a && *a; a += strcspn(a, "|"), a += *a == '|') {
                char name[64];
                snprintf(name, sizeof name, "%.*s", (int)strcspn(a, "|"), a);
                const size_t other = tool__far(s, bytes, name);
                if (other < d && other < 100) d = other;    // of them a beginning or an end
            }
            if (d < least) { least = d; nearest = f->name; }
        }
    }
    return nearest;
}

static const tool_foreign *tool__foreign(const tool_program *p, const char *s, size_t bytes) {
    for (const tool_foreign *f = p->foreign; f && f->name; f++) {
        if (tool__same_name(f->name, s, bytes)) return f;
    }
    return NULL;
}

// Whether a foreign flag with that value (NULL: alone) may be passed over.
static int tool__is_idle(const tool_foreign *f, const char *value) {
    int on = 1;
    if (f->kind == TOOL_IDLE_SWITCH || f->kind == TOOL_IDLE_VALUE) return 1;
    return f->kind == TOOL_SWITCH && value && tool__parse_bool(value, &on) && !on;
}

static void tool__pass_over(const tool_foreign *f) {
    if (f->kind != TOOL_SWITCH) tool_note("--%s: changes nothing here: %s", f->name, f->advice);
}

//==============================================================================
// The command line
//==============================================================================
TOOL_DEF int tool_flag_given(const tool_flag *flags, const char *name) {
    for (const tool_flag *f = flags; f->name; f++) {
        if (strcmp(f->name, name) == 0) return f->given;
    }
    return 0;
}
TOOL_DEF int tool_given(const tool_program *p, const char *name) {
    return tool_flag_given(p->flags, name);
}

// Adds to a buffer of `room` bytes what fits of it.
__attribute__((format(printf, 3, 4)))
static void tool__append(char *out, size_t room, const char *fmt, ...) {
    size_t at = strlen(out);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(out + at, room - at, fmt, ap);
    va_end(ap);
}

// Ends the program when the command line has names that no table knows: all of them in one line.
static void tool__refuse_unknown(tool_program *p, int argc, char **argv) {
    char list[2048] = "", one[512] = "";
    size_t n = 0;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const char *s = argv[i] + 2;
        size_t bytes = strcspn(s, "=");
        if (strncmp(argv[i], "--", 2) != 0 || tool__find(p, s, bytes)) continue;
        if (p->inner && tool__find_in(p->inner->flags, s, bytes)) continue;
        const tool_foreign *foreign = tool__foreign(p, s, bytes);
        const char *value = s[bytes] ? s + bytes + 1 : i + 1 < argc ? argv[i + 1] : NULL;
        if (foreign && tool__is_idle(foreign, value)) continue;
        const char *advice = foreign ? foreign->advice : NULL, *near = tool__nearest(p, s, bytes);
        tool__append(list, sizeof list, "%s--%.*s", n ? "; " : "", (int)bytes, s);
        if (advice) tool__append(list, sizeof list, ": %s", advice);
        else if (near) tool__append(list, sizeof list, ": perhaps --%s", near);
        snprintf(one, sizeof one, "--%.*s%s%s; --help lists all", (int)bytes, s,
                 advice ? ": " : near ? ", expected perhaps --" : ", expected another",
                 advice ? advice : near ? near : "");
        n++;
    }
    if (n == 1) tool_fail(TOOL_USAGE, "unknown flag (found %s)", one);
    if (n) tool_fail(TOOL_USAGE, "%zu unknown flags (found %s; --help lists all)", n, list);
}

// A flag of the program that is run by this one, as one word for it.
static void tool__pass(tool_program *p, const tool_flag *f, const char *text) {
    size_t bytes = strlen(f->name) + strlen(text) + 4;
    char *word = tool_allocate(bytes, 1);
    snprintf(word, bytes, "--%s=%s", f->name, text);
    tool_list_add(p->passed, word);
}

// argv[i] is "--name" or "--name=value"; returns the index of the last argument it took.
static int tool__flag(tool_program *p, int argc, char **argv, int i) {
    const char *name = argv[i] + 2, *next = i + 1 < argc ? argv[i + 1] : NULL;
    size_t bytes = strcspn(name, "=");
    tool_flag *f = tool__find(p, name, bytes);
    const tool_foreign *foreign = f ? NULL : tool__foreign(p, name, bytes);
    int inner = !f, ignored;
    if (foreign) {                      // an idle one, as tool__refuse_unknown() has seen
        const int takes = foreign->kind == TOOL_IDLE_VALUE ? next && strncmp(next, "--", 2) != 0
                        : next && tool__parse_bool(next, &ignored);
        tool__pass_over(foreign);
        return i + (takes && name[bytes] != '=');
    }
    if (inner) f = tool__find_in(p->inner->flags, name, bytes);
    if (f->list && f->given && !inner) f->list->n = 0;          // the last one counts
    if (name[bytes] == '=') {
        if (inner) tool__pass(p, f, name + bytes + 1);
        else tool__assign(f, name + bytes + 1);
        return i;
    }
    if (next && strncmp(next, "--", 2) == 0) next = NULL;
    if (f->flag && next && !tool__parse_bool(next, &ignored)) next = NULL;     // an argument
    if (!next && !f->flag && !f->bare) {
        char expected[256];
        tool__expected(f, expected, sizeof expected);
        tool_fail(TOOL_USAGE, "--%s: a value is missing (found nothing, expected %s)", f->name,
                  expected);
    }
    const char *text = next ? next : f->flag ? "true" : f->bare;
    if (inner && f->list) {
        tool_list all = { 0 };
        for (; i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0; i++) {
            tool_list_add(&all, argv[i + 1]);
        }
        tool__pass(p, f, tool_list_join(&all));
        return i;
    }
    if (inner) tool__pass(p, f, text);
    else tool__assign(f, text);
    i += next != NULL;
    for (; f->list && i + 1 < argc && strncmp(argv[i + 1], "--", 2) != 0; i++) {
        tool__assign(f, argv[i + 1]);
    }
    return i;
}

static void tool__positional(tool_program *p, const char *text, int only_positional) {
    if (!only_positional && text[0] == '-' && isalpha((unsigned char)text[1])) {
        const char *near = tool__nearest(p, text + 1, strcspn(text + 1, "="));
        tool_fail(TOOL_USAGE, "unknown flag (found %s, expected %s%s; --help lists all, and what "
                  "follows -- is no flag)", text, near ? "perhaps --" : "another",
                  near ? near : "");
    }
    for (tool_flag *f = p->flags; f->name; f++) {
        if (!f->positional || (f->given && !f->list)) continue;
        tool__assign(f, text);
        return;
    }
    tool_fail(TOOL_USAGE, "one argument too many (found %s, expected none; see --help)", text);
}

static void tool__parse(tool_program *p, int argc, char **argv) {
    int only_positional = 0;
    tool__refuse_unknown(p, argc, argv);
    for (int i = 1; i < argc; i++) {
        if (!only_positional && strcmp(argv[i], "--") == 0) only_positional = 1;
        else if (!only_positional && strncmp(argv[i], "--", 2) == 0) {
            i = tool__flag(p, argc, argv, i);
        } else if (!only_positional && strcmp(argv[i], "-h") == 0) tool_want_help = 1;
        else tool__positional(p, argv[i], only_positional);
    }
}

static void tool__presets(tool_program *p) {
    tool_flag *tables[2] = { p->flags, tool_common_flags };
    for (int t = 0; t < 2; t++) {
        for (tool_flag *f = tables[t]; f->name; f++) {
            if (f->preset && !tool__set(f, f->preset)) {
                tool_fail(TOOL_USAGE, "--%s: default %s is out of range", f->name, f->preset);
            }
        }
    }
}

static void tool__require(const tool_program *p) {
    for (const tool_flag *f = p->flags; f->name; f++) {
        char expected[256];
        if (!f->required || f->given) continue;
        tool__expected(f, expected, sizeof expected);
        tool_fail(TOOL_USAGE, "%s%s is missing (found nothing, expected %s; see --help)",
                  f->positional ? "" : "--", f->name, expected);
    }
}

//==============================================================================
// A config file: flags by name, in sections that only order them; the command line wins
//==============================================================================
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

// One value of a key, which has several where the flag takes a list.
static void tool__config_value(tool_flag *f, const char *path, const mrc_json *key,
                               const mrc_json *v) {
    char number[64], expected[256];
    const char *text = tool__config_text(v, number, sizeof number);
    // The tree goes with its context, a string flag keeps pointing at its text.
    char *kept = text ? tool_copy(text) : NULL;
    if (!kept || !tool__set(f, kept)) {
        tool__expected(f, expected, sizeof expected);
        tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: %s is out of range (found %s, expected %s)", path,
                  v->line, v->column, key->key, text ? text : "a list or mapping", expected);
    }
    if (!f->string) free(kept);
}

static void tool__config_members(tool_program *p, const char *path, const mrc_json *object,
                                 int depth) {
    for (const mrc_json *v = object->child; v; v = v->next) {
        if (v->type == MRC_JSON_OBJECT && depth < 2) {
            tool__config_members(p, path, v, depth + 1);
            continue;
        }
        if (v->type == MRC_JSON_NULL) continue;         // as if it were not there
        tool_flag *f = tool__find(p, v->key, v->key_bytes);
        const tool_foreign *foreign = f ? NULL : tool__foreign(p, v->key, v->key_bytes);
        char number[64];
        if (foreign && tool__is_idle(foreign, tool__config_text(v, number, sizeof number))) {
            tool__pass_over(foreign);
            continue;
        }
        if (!f) {
            const char *advice = foreign ? foreign->advice : NULL;
            const char *near = tool__nearest(p, v->key, v->key_bytes);
            tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: unknown key (found %s%s%s; --help lists all)",
                      path, v->line, v->column, v->key,
                      advice ? ": " : near ? ", expected perhaps " : ", expected another",
                      advice ? advice : near ? near : "");
        }
        if (f->given == TOOL_CONFIGURED) {
            tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: %s stands twice", path, v->line, v->column,
                      f->name);
        }
        if (f->given) continue;
        if (f->list) f->list->n = 0;
        if (f->list && v->type == MRC_JSON_ARRAY) {
            for (const mrc_json *e = v->child; e; e = e->next) tool__config_value(f, path, v, e);
        } else {
            tool__config_value(f, path, v, v);
        }
        f->given = TOOL_CONFIGURED;
    }
}

// Reads a program's config file, YAML or by its name JSON, below the flags that were given.
TOOL_DEF void tool_config(tool_program *p, const char *path) {
    const size_t n = strlen(path);
    const int json = n > 5 && strcmp(path + n - 5, ".json") == 0;
    mrc_ctx *ctx = tool_ctx_new(NULL, 0);
    mrc_json *root;
    tool_check(ctx, json ? mrc_json_load(ctx, &root, path) : yaml_load(ctx, &root, path));
    if (root->type != MRC_JSON_OBJECT) {
        tool_fail(TOOL_BAD_INPUT, "%s:%zu:%zu: is no mapping of flags", path, root->line,
                  root->column);
    }
    tool__config_members(p, path, root, 0);
    if (json) mrc_json_free(root);
    else yaml_free(root);
    mrc_ctx_free(ctx);
}

#endif
