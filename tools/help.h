// What is made from the tables of flags: --help, manual pages, completion, the manual's lists.
//
// tool.h includes this file.  Every program prints its own --help; the rest is printed by
// tools/mrc.c, which knows all programs.
#ifndef TOOL_HELP_H
#define TOOL_HELP_H

#define HELP_GROUPS 32

// The group of a row: its own, or that of the nearest row before it that has one.  "": none.
static const char *help__group(const tool_flag *table, const tool_flag *f) {
    for (;; f--) {
        if (f->positional) return "";
        if (f->group) return f->group;
        if (f == table) return "";
    }
}

// The groups of a table by first appearance; how many.
static size_t help__groups(const tool_flag *table, const char *out[HELP_GROUPS]) {
    size_t n = 0;
    for (const tool_flag *f = table; f->name; f++) {
        const char *group = help__group(table, f);
        size_t i = 0;
        if (f->positional) continue;
        while (i < n && strcmp(out[i], group)) i++;
        if (i == n && n < HELP_GROUPS) out[n++] = group;
    }
    return n;
}

// What stands for a flag's value: DIR, linear|bilstm, X.  "": it has none.
static const char *help__value(const tool_flag *f) {
    if (f->positional || f->flag) return "";
    return f->choices ? f->choices : f->value ? f->value : f->real || f->is_ratio ? "X"
         : f->string || f->list ? "TEXT" : "N";
}

static const char *help__preset(const tool_flag *f) {
    return f->preset ? f->preset : f->otherwise ? f->otherwise : f->flag ? "false" : "none";
}

// "an integer from 1 to 1024, tokens; default: 384; also --max_length".
static void help__facts(const tool_flag *f, char *out, size_t bytes) {
    char range[128] = "";
    int numeric = f->integer || f->size || f->real;
    if (numeric) tool__expected(f, range, sizeof range);
    snprintf(out, bytes, "%s%s%s%s%s%s", range, numeric && f->unit ? ", " : "",
             numeric && f->unit ? f->unit : "", numeric ? "; " : "",
             f->required ? "required" : "default: ", f->required ? "" : help__preset(f));
    for (const char *a = f->alias; a && *a; ) {
        size_t n = strcspn(a, "|"), at = strlen(out);
        snprintf(out + at, bytes - at, "%s--%.*s", a == f->alias ? "; also " : ", ", (int)n, a);
        a += n + (a[n] == '|');
    }
}

//==============================================================================
// --help
//==============================================================================
// Words of text from column `at`, broken before column 80, further lines from column `indent`.
static void help__wrap(const char *text, size_t at, size_t indent) {
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

static void help__flag(const tool_flag *f) {
    char line[1400], head[256], facts[512];
    const char *value = help__value(f);
    int n = snprintf(head, sizeof head, "  %s%s%s%s%s%s%s", f->positional ? "" : "--", f->name,
                     *value ? " " : "", f->bare ? "[" : "", value, f->bare ? "]" : "",
                     f->list && !strstr(value, "..") && !f->positional ? ".." : "");
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
    help__facts(f, facts, sizeof facts);
    snprintf(line, sizeof line, "%s (%s)", f->help, facts);
    help__wrap(line, 34, 34);
}

// A command line, broken as a shell allows before column 80.
static void help__example(const char *text) {
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

#define HELP_EXITS "0 done, 2 usage, 3 bad input, 4 out of memory, 5 input or output failed, " \
                   "6 numerical failure, 7 interrupted and saved"
#define HELP_WRITE "A flag is written --flag value or --flag=value; - is _. true, yes, 1, false, " \
                   "no and 0 switch one. Several values stand side by side or with commas."

TOOL_DEF void help_text(const tool_program *p) {
    const char *groups[HELP_GROUPS];
    size_t n = help__groups(p->flags, groups);
    tool_print("%s - ", p->name);
    help__wrap(p->purpose, strlen(p->name) + 3, 0);
    tool_print("\nusage: %s ", p->name);
    help__wrap(p->usage, strlen(p->name) + 8, strlen(p->name) + 8);
    tool_print("\n");
    for (const tool_flag *f = p->flags; f->name; f++) {
        if (f->positional) help__flag(f);
    }
    for (size_t g = 0; g < n; g++) {
        if (*groups[g]) tool_print("\n%s:\n", groups[g]);
        for (const tool_flag *f = p->flags; f->name; f++) {
            if (!f->positional && !strcmp(help__group(p->flags, f), groups[g])) help__flag(f);
        }
    }
    tool_print("\nof every program:\n");
    for (const tool_flag *f = tool_common_flags; f->name; f++) help__flag(f);
    tool_print("\n");
    help__wrap(HELP_WRITE, 0, 0);
    tool_print("\nexamples:\n");
    for (int i = 0; i < 2 && p->examples[i]; i++) help__example(p->examples[i]);
    tool_print("\nexit codes: ");
    help__wrap(HELP_EXITS, 12, 0);
}

//==============================================================================
// A manual page
//==============================================================================
// Text for roff: no line begins a request, "-" stays what it is.
static void help__roff(const char *text) {
    if (*text == '.' || *text == '\'') tool_print("\\&");
    for (; *text; text++) {
        if (*text == '-') tool_print("\\-");
        else if (*text == '\\') tool_print("\\e");
        else tool_write(text, 1);
    }
}

static void help__man_flag(const tool_flag *f) {
    char facts[512];
    const char *value = help__value(f);
    tool_print(".TP\n.B ");
    help__roff(f->positional ? "" : "--");
    help__roff(f->name);
    if (*value) {
        tool_print(" \\fI");
        help__roff(value);
        tool_print("\\fR");
    }
    tool_print("\n");
    help__roff(f->help);
    help__facts(f, facts, sizeof facts);
    tool_print("\n(");
    help__roff(facts);
    tool_print(")\n");
}

static void help__man_head(const char *name, const char *what) {
    tool_print(".TH %s 1 \"\" \"mrc %d.%d.%d\" \"mrc\"\n.SH NAME\n", name, MRC_VERSION_MAJOR,
               MRC_VERSION_MINOR, MRC_VERSION_PATCH);
    help__roff(name);
    tool_print(" \\- ");
    help__roff(what);
    tool_print("\n");
}

TOOL_DEF void help_man(const tool_program *p) {
    const char *groups[HELP_GROUPS];
    char name[64];
    size_t n = help__groups(p->flags, groups);
    snprintf(name, sizeof name, "mrc-%s", p->name);
    help__man_head(name, p->purpose);
    tool_print(".SH SYNOPSIS\n.B mrc %s\n", p->name);
    help__roff(p->usage);
    tool_print("\n.SH FLAGS\n");
    help__roff(HELP_WRITE);
    tool_print("\n");
    for (const tool_flag *f = p->flags; f->name; f++) {
        if (f->positional) help__man_flag(f);
    }
    for (size_t g = 0; g < n; g++) {
        if (*groups[g]) tool_print(".SS %s\n", groups[g]);
        for (const tool_flag *f = p->flags; f->name; f++) {
            if (!f->positional && !strcmp(help__group(p->flags, f), groups[g])) help__man_flag(f);
        }
    }
    tool_print(".SS of every program\n");
    for (const tool_flag *f = tool_common_flags; f->name; f++) help__man_flag(f);
    tool_print(".SH EXAMPLES\n.nf\n");
    for (int i = 0; i < 2 && p->examples[i]; i++) {
        tool_print("mrc ");
        help__roff(p->examples[i]);
        tool_print("\n");
    }
    tool_print(".fi\n.SH EXIT STATUS\n" HELP_EXITS "\n.SH SEE ALSO\n.BR mrc (1)\n");
}

//==============================================================================
// The manual's list of flags: Markdown
//==============================================================================
static void help__cell(const char *text) {
    for (; *text; text++) {
        if (*text == '|' || *text == '<' || *text == '*') tool_print("\\");
        tool_write(text, 1);
    }
}

static void help__markdown_flag(const tool_flag *f) {
    char facts[512];
    const char *value = help__value(f);
    tool_print("| `%s%s`%s", f->positional ? "" : "--", f->name, *value ? " " : "");
    help__cell(value);
    tool_print(" | ");
    help__cell(f->help);
    help__facts(f, facts, sizeof facts);
    tool_print(" | ");
    help__cell(facts);
    tool_print(" |\n");
}

TOOL_DEF void help_markdown(const tool_program *p) {
    const char *groups[HELP_GROUPS];
    size_t n = help__groups(p->flags, groups);
    tool_print("%s\n\n    %s %s\n\n| flag | what | value |\n|---|---|---|\n", p->purpose, p->name,
               p->usage);
    for (const tool_flag *f = p->flags; f->name; f++) {
        if (f->positional) help__markdown_flag(f);
    }
    for (size_t g = 0; g < n; g++) {
        if (*groups[g]) tool_print("| **%s** | | |\n", groups[g]);
        for (const tool_flag *f = p->flags; f->name; f++) {
            if (f->positional || strcmp(help__group(p->flags, f), groups[g])) continue;
            help__markdown_flag(f);
        }
    }
}

#endif
