// mrc: all programs in one executable.
//
//     mrc NAME [flags]        the program NAME, as build/NAME, a link to this, is
//     mrc help [NAME]         the programs; NAME's --help
//     mrc help --man [NAME], --markdown NAME, --completion bash|zsh       for ./build.sh install
//     mrc version             version, commit, and the backends of this build
//
// Each tools/NAME.c leaves an entry: its table of flags and what runs it.
#include "tool.h"
#ifdef MRC_OPENBLAS
#include "../backends/openblas.h"
#endif
#ifndef MRC_COMMIT
#define MRC_COMMIT unknown              // build.sh says
#endif
#define TEXT_OF(x) TEXT_OF_(x)
#define TEXT_OF_(x) #x

#ifdef MRC_HTTPD                        // build.sh has found libmicrohttpd
#define PROGRAMS_HTTPD(X) X(serve)
#else
#define PROGRAMS_HTTPD(X)
#endif
// In the order of `mrc help`.
#define PROGRAMS(X)                                                                                \
    X(train) X(sweep) X(report) X(predict) X(evaluate) X(ensemble) X(ask) PROGRAMS_HTTPD(X)        \
    X(index) X(embed) X(search) X(fuse) X(tok) X(inspect) X(convert) X(bench)

#define DECLARE(name) extern const tool_entry tool_entry_##name;
PROGRAMS(DECLARE)
#define ENTRY(name) &tool_entry_##name,
static const tool_entry *const entries[] = { PROGRAMS(ENTRY) };
enum { N_PROGRAMS = sizeof entries / sizeof *entries };

extern const char *mrc_executable;
const char *mrc_executable = "mrc";

static const tool_entry *find(const char *name) {
    for (size_t i = 0; i < N_PROGRAMS; i++) {
        if (strcmp(entries[i]->program->name, name) == 0) return entries[i];
    }
    return NULL;
}

_Noreturn static void refuse(const char *name) {
    const char *near = NULL;
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < N_PROGRAMS; i++) {
        size_t d = tool__far(name, strlen(name), entries[i]->program->name);
        if (d < least) { least = d; near = entries[i]->program->name; }
    }
    tool_fail(TOOL_USAGE, "no such program (found %s, expected %s%s; `mrc help` lists all)", name,
              near ? "perhaps " : "another", near ? near : "");
}

// Where this executable is, so that sweep and bench can start it again from any folder.
static void find_executable(const char *called) {
    static char path[TOOL_PATH_BYTES];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    struct stat st;
    if (n > 0) path[n] = '\0';
    if (n > 0 && stat(path, &st) == 0) {
        mrc_executable = path;
    } else {
        char *whole = realpath(called, NULL);           // never freed
        mrc_executable = whole ? whole : called;
    }
}

//==============================================================================
// version
//==============================================================================
static void print_cpu(void) {
    static const struct { mrc_isa isa; const char *name; } all[] = {
        { MRC_ISA_BASELINE, "baseline" },
#if defined(__x86_64__)
        { MRC_ISA_AVX2, "avx2" }, { MRC_ISA_AVX512, "avx512" },
#elif defined(__aarch64__)
        { MRC_ISA_NEON, "neon" },
#endif
    };
    mrc_backend *be;
    const char *here = "";
    tool_print("cpu");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        mrc_backend_desc desc = { .threads = 1, .isa = all[i].isa };
        tool_print(" %s", all[i].name);
        if (mrc_backend_cpu_new(&be, &desc) != MRC_OK) continue;
        here = be->isa;
        mrc_backend_free(be);
    }
    tool_print(" (here: %s)\n", here);
}

static int version(void) {
    tool_print("mrc %d.%d.%d\ncommit %s\nnaive\n", MRC_VERSION_MAJOR, MRC_VERSION_MINOR,
               MRC_VERSION_PATCH, TEXT_OF(MRC_COMMIT));
    print_cpu();
#ifdef MRC_OPENBLAS
    const char *blas = mrc_openblas_version();
    tool_print("openblas%s%s\n", blas ? " " : " (cannot be loaded here)", blas ? blas : "");
#endif
#ifdef MRC_CUDA
    tool_print("cuda%s\n", ""              // the devices it was compiled for, by build.sh
#ifdef MRC_CUDA_SM70
               " sm_70"
#endif
#ifdef MRC_CUDA_SM80
               " sm_80"
#endif
#ifdef MRC_CUDA_SM90
               " sm_90"
#endif
    );
#endif
#ifdef MRC_MPI
    tool_print("mpi\n");
#endif
#ifdef MRC_NCCL
    tool_print("nccl\n");
#endif
#ifdef MRC_CURL
    tool_print("curl\n");
#endif
    return tool_finish();
}

//==============================================================================
// help
//==============================================================================
static void list_programs(void) {
    const char *group = "";
    tool_print("mrc - answers questions from passages: trains, measures and serves extractive "
               "readers,\nand finds the passages.\n\nusage: mrc NAME [flags]\n");
    for (size_t i = 0; i < N_PROGRAMS; i++) {
        const tool_program *p = entries[i]->program;
        char line[512];
        if (strcmp(group, p->group)) tool_print("\n%s:\n", p->group);
        group = p->group;
        snprintf(line, sizeof line, "%.*s", (int)strcspn(p->purpose, ".:"), p->purpose);
        tool_print("  %-12s", p->name);
        help__wrap(line, 14, 14);
    }
    tool_print("\nhelp:\n");
    tool_print("  help NAME     the flags of a program, with examples: the same as NAME --help\n");
    tool_print("  version       version, commit, and the backends of this build\n");
}

static void print_man(void) {
    help__man_head("mrc", "answers questions from passages");
    tool_print(".SH SYNOPSIS\n.B mrc\n\\fINAME\\fR [flags]\n.SH PROGRAMS\n");
    for (size_t i = 0; i < N_PROGRAMS; i++) {
        tool_print(".TP\n.BR mrc\\-%s (1)\n", entries[i]->program->name);
        help__roff(entries[i]->program->purpose);
        tool_print("\n");
    }
    tool_print(".TP\n.B mrc help\n\\fINAME\\fR: the flags of a program\n.TP\n.B mrc version\n"
               "version, commit, and the backends of this build\n");
}

// What completes a value: words, or names of files.
static void complete_value(const tool_program *p, const tool_flag *f, int zsh) {
    const char *value = help__value(f);
    if (f->flag || f->positional) return;
    tool_print("    \"%s --%s\") ", p->name, f->name);
    if (f->choices) {
        char words[512];
        snprintf(words, sizeof words, "%s", f->choices);
        for (char *c = words; *c; c++) {
            if (*c == '|') *c = ' ';
        }
        tool_print(zsh ? "compadd %s" : "words='%s'", words);
    } else if (!strncmp(value, "DIR", 3) && !strstr(value, "FILE")) {
        tool_print(zsh ? "_files -/" : "kind=-d");
    } else {
        tool_print(zsh ? "_files" : "kind=-f");
    }
    tool_print(" ;;\n");
}

static void complete_flags(const tool_program *p) {
    const tool_flag *tables[2] = { p->flags, tool_common_flags };
    for (int t = 0; t < 2; t++) {
        for (const tool_flag *f = tables[t]; f->name; f++) {
            if (!f->positional) tool_print(" --%s", f->name);
        }
    }
}

static void complete_names(void) {
    for (size_t i = 0; i < N_PROGRAMS; i++) tool_print(" %s", entries[i]->program->name);
    tool_print(" help version");
}

static void print_completion(int zsh) {
    tool_print(zsh ? "#compdef mrc\n_mrc() {\n    if (( CURRENT == 2 )); then compadd"
                   : "_mrc() {\n    local cur=${COMP_WORDS[COMP_CWORD]} kind= words=\n"
                     "    local prev=${COMP_WORDS[COMP_CWORD-1]} name=${COMP_WORDS[1]}\n"
                     "    [ \"$prev\" = = ] && prev=${COMP_WORDS[COMP_CWORD-2]}\n"
                     "    [ \"$cur\" = = ] && cur=\n"
                     "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words='");
    complete_names();
    tool_print(zsh ? "; return; fi\n    case \"$words[2] $words[CURRENT-1]\" in\n"
                   : "'\n    else\n    case \"$name $prev\" in\n");
    for (size_t i = 0; i < N_PROGRAMS; i++) {
        const tool_program *p = entries[i]->program;
        for (const tool_flag *f = p->flags; f->name; f++) complete_value(p, f, zsh);
        for (const tool_flag *f = tool_common_flags; f->name; f++) complete_value(p, f, zsh);
    }
    tool_print("    \"help \"*) %s", zsh ? "compadd" : "words='");
    complete_names();
    tool_print(zsh ? " ;;\n    *) case \"$words[2]\" in\n"
                   : "' ;;\n    *) kind=-f\n       case \"$name\" in\n");
    for (size_t i = 0; i < N_PROGRAMS; i++) {
        tool_print("    %s) %s", entries[i]->program->name, zsh ? "compadd --" : "words='");
        complete_flags(entries[i]->program);
        tool_print("%s ;;\n", zsh ? "; _files" : "'");
    }
    tool_print("    esac ;;\n    esac\n");
    tool_print(zsh ? "}\n_mrc \"$@\"\n"
                   : "    fi\n    case $cur in -*) kind= ;; esac\n"
                     "    # shellcheck disable=SC2207,SC2086\n"
                     "    COMPREPLY=($(compgen $kind ${words:+-W \"$words\"} -- \"$cur\"))\n}\n"
                     "complete -o filenames -F _mrc mrc\n");
}

static int help(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : NULL, *name = argc > 2 ? argv[2] : NULL;
    const tool_entry *entry = NULL;
    const int option = what && strncmp(what, "--", 2) == 0;
    if (argc > (option ? 3 : 2)) {
        tool_fail(TOOL_USAGE, "help: one argument too many (found %s)", argv[argc - 1]);
    }
    if (option && !strcmp(what, "--completion")) {
        const int zsh = name && !strcmp(name, "zsh");
        if (!zsh && !(name && !strcmp(name, "bash"))) {
            tool_fail(TOOL_USAGE, "help --completion: no such shell (found %s, expected bash or "
                      "zsh)", name ? name : "nothing");
        }
        print_completion(zsh);
        return tool_finish();
    }
    if (!option) name = what;
    if (name && (entry = find(name)) == NULL && strcmp(name, "help") && strcmp(name, "version")) {
        refuse(name);
    }
    if (option && !strcmp(what, "--man")) {
        if (entry) help_man(entry->program);
        else print_man();
    } else if (option && !strcmp(what, "--markdown") && entry) {
        help_markdown(entry->program);
    } else if (option && !strcmp(what, "--names")) {
        for (size_t i = 0; i < N_PROGRAMS; i++) tool_print("%s\n", entries[i]->program->name);
    } else if (option) {
        tool_fail(TOOL_USAGE, "help: unknown flag (found %s, expected --man [NAME], --markdown "
                  "NAME, --names or --completion SHELL)", what);
    } else if (entry) {
        char *words[] = { (char *)(uintptr_t)name, (char *)(uintptr_t)"--help", NULL };
        return entry->run(entry->program, 2, words);
    } else {
        list_programs();
    }
    return tool_finish();
}

int main(int argc, char **argv) {
    const char *called = argc > 0 ? argv[0] : "mrc", *slash = strrchr(called, '/');
    const tool_entry *entry = find(slash ? slash + 1 : called);
    find_executable(called);
    if (entry) return entry->run(entry->program, argc, argv);
    tool_prepare();
    if (argc < 2) tool_fail(TOOL_USAGE, "which program? (found nothing; `mrc help` lists all)");
    if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        return help(argc - 1, argv + 1);
    }
    if (!strcmp(argv[1], "version") || !strcmp(argv[1], "--version")) return version();
    entry = find(argv[1]);
    if (!entry) refuse(argv[1]);
    return entry->run(entry->program, argc - 1, argv + 1);
}
