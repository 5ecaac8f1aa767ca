// What only programs need: flags, messages and exit codes, progress, signals, clocks.
//
// A program is one C file that includes this first, describes its flags in a table and does its
// work in one function.  Everything is static; tools/mrc.c has all programs in one executable.
//
//     static struct { const char *file; size_t n_best; int metric, json; } a;
//     static int run(tool_program *p) {               // the flags have their values
//         ...
//         return tool_finish();
//     }
//     static tool_flag flags[] = {
//         { .name = "n_best_size", .size = &a.n_best, .preset = "20", .min = 1, .max = 1000,
//           .group = "answers", .help = "candidates kept for a question" },
//         { .name = "metric", .choice = &a.metric, .choices = "korquad|squad", .required = 1,
//           .help = "whose definition to use" },
//         { .name = "json", .flag = &a.json, .help = "print JSON" },
//         { .name = "DATA_FILE", .string = &a.file, .positional = 1, .required = 1,
//           .help = "the questions and their answers" },
//         { 0 }
//     };
//     static tool_program program = {
//         .name = "example", .group = "answers", .purpose = "...", .usage = "...",
//         .examples = { "...", "..." }, .flags = flags, .run = run
//     };
//     TOOL_PROGRAM(example, program)
//
// tools/mrc.c names it in its list, tools/README.md has its manual.
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
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
// Of a program that runs on several ranks: the others' notes are not wanted, errors say whose they
// are and are said once, the rest of the job ends with this process.
static int tool_quiet;
static const char *tool_prefix = "";
static void (*tool_on_fail)(int code);
static mrc_comm *tool_comm;             // of the contexts that are made

//==============================================================================
// Messages: one line each on stderr
//==============================================================================
// Control characters would break "one line": a file's name may hold anything.
static void tool__line(const char *prefix, const char *fmt, va_list ap) {
    char text[4096];
    vsnprintf(text, sizeof text, fmt, ap);
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
    }
    if (tool_bar_drawn) fputs("\r\033[K", stderr);
    tool_bar_drawn = 0;
    // What another rank has reported says whose it is.
    fprintf(stderr, "%s: %s%s\n", tool_name, strncmp(text, "rank ", 5) ? prefix : "", text);
}

// Progress and warnings: "program: text".
__attribute__((format(printf, 1, 2)))
TOOL_DEF void tool_note(const char *fmt, ...) {
    va_list ap;
    if (tool_quiet) return;
    va_start(ap, fmt);
    tool__line("", fmt, ap);
    va_end(ap);
}

// Most errors of a job are known to all its ranks, and one line is enough: rank 0 says its at once
// and ends the job; another rank waits for that, and speaks if nothing comes.  A launcher takes a
// second to end the others.
static void tool__turn(void) {
    static const char *const names[] = { "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK",
                                         "SLURM_PROCID" };
    const char *text = NULL;
    struct timespec t;
    for (int i = 0; i < 4 && !text; i++) text = getenv(names[i]);
    const long rank = tool_comm ? tool_comm->rank : text ? strtol(text, NULL, 10) : 0;
    if (rank <= 0) return;
    clock_gettime(CLOCK_MONOTONIC, &t);
    for (const double end = (double)t.tv_sec + (rank < 10 ? 2.5 + 0.5 * (double)rank : 8);
         (double)t.tv_sec < end; clock_gettime(CLOCK_MONOTONIC, &t)) {
        nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    }
}

// Before MPI has begun nobody is told by it: launchers of MPICH's kind end a job by a line on this
// descriptor.  Open MPI's does so by itself.
static void tool__end_job(int code) {
    const char *fd = getenv("PMI_FD"), *rank = getenv("PMI_RANK");
    if (tool_comm || !fd || !rank || strcmp(rank, "0") != 0) return;
    char line[64];
    const int n = snprintf(line, sizeof line, "cmd=abort exitcode=%d\n", code);
    nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);    // the error is read before
    if (write((int)strtol(fd, NULL, 10), line, (size_t)n) != n) errno = 0;
}

// Ends the program with "program: file:line: what is wrong (found X, expected Y)".
_Noreturn __attribute__((format(printf, 2, 3)))
TOOL_DEF void tool_fail(tool_exit code, const char *fmt, ...) {
    va_list ap;
    tool__turn();
    va_start(ap, fmt);
    tool__line(tool_prefix, fmt, ap);
    va_end(ap);
    if (tool_on_fail) tool_on_fail((int)code);
    else tool__end_job((int)code);
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

static const mrc_backend *tool_device;  // the backend of this process, if it is a device's

// What the device said of its first failed call; "": nothing.
static const char *tool__device_error(void) {
#ifdef MRC_CUDA
    if (tool_device) return mrc_cuda_error(tool_device);
#endif
    return "";
}

// Ends the program with the context's first error unless status is MRC_OK.
TOOL_DEF void tool_check(const mrc_ctx *ctx, mrc_status status) {
    if (status == MRC_OK) return;
    const char *text = ctx ? mrc_ctx_message(ctx) : NULL, *device = tool__device_error();
    tool_fail(tool_exit_code(status), "%s%s%s%s", text && *text ? text : mrc_status_string(status),
              *device ? " (the device: " : "", device, *device ? ")" : "");
}

// Ends the program with "program: no memory for ..".
_Noreturn __attribute__((format(printf, 1, 2)))
TOOL_DEF void tool_no_memory(const char *fmt, ...) {
    char what[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    tool_fail(TOOL_NO_MEMORY, "no memory for %s", what);
}

// Zeros; n 0 gives memory too.  Ends the program where there is none.
TOOL_DEF void *tool_allocate(size_t n, size_t each) {
    void *p = calloc(n ? n : 1, each);
    if (!p) tool_no_memory("%zu times %zu bytes", n, each);
    return p;
}

// Room for element n of a list, which grows by half and is moved: NULL grows too.
TOOL_DEF void *tool_grow(void *list, size_t n, size_t *capacity, size_t each) {
    if (n < *capacity) return list;
    const size_t more = n + n / 2 + 64;
    void *p = more > n && more <= SIZE_MAX / each ? realloc(list, more * each) : NULL;
    if (!p) tool_no_memory("%zu times %zu bytes", more, each);
    *capacity = more;
    return p;
}

TOOL_DEF char *tool_copy(const char *s) {
    return strcpy(tool_allocate(strlen(s) + 1, 1), s);
}

// Ends the program when a text that was built has no memory.
TOOL_DEF void tool_check_text(const mrc_text *t) {
    if (t->failed) tool_no_memory("a text of over %zu bytes", t->bytes);
}

//==============================================================================
// Standard output: results and nothing else
//==============================================================================
_Noreturn TOOL_DEF void tool_fail_stdout(void) {
    int e = errno;
    if (e == EPIPE) exit(TOOL_IO);      // its reader has left, as `| head` does: nothing to say
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
    tool_check_text(t);
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
// Contexts
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
    mrc_ctx_desc desc = { .log = tool_log, .backend = be, .step_chunk_bytes = step_chunk_bytes,
                          .comm = tool_comm };
    mrc_status status = mrc_ctx_new(&ctx, &desc);
    if (status == MRC_OK) return ctx;
    tool_fail(tool_exit_code(status), "%s",
              *tool_log_text ? tool_log_text : mrc_status_string(status));
}

#include "yaml.h"
#include "flags.h"
#include "help.h"

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

// What a program needs before it reads or writes anything.
TOOL_DEF void tool_prepare(void) {
    tool__open_streams();
    signal(SIGPIPE, SIG_IGN);           // a reader that leaves is a failed write
    signal(SIGXFSZ, SIG_IGN);
}

// Defaults, then the command line.  Returns when the program has work to do.
TOOL_DEF void tool_start(tool_program *p, int argc, char **argv) {
    tool_name = p->name;
    tool_prepare();
    tool_common.threads = mrc_processors();
    tool__presets(p);
    tool__parse(p, argc, argv);
    if (tool_want_help) {
        help_text(p);
        exit(tool_finish());
    }
    if (tool_want_version) {
        tool_print("%s %d.%d.%d\n", p->name, MRC_VERSION_MAJOR, MRC_VERSION_MINOR,
                   MRC_VERSION_PATCH);
        exit(tool_finish());
    }
    if (p->config && *p->config) tool_config(p, *p->config);
    tool__require(p);
}

// Ends a program's file.  tools/mrc.c asks for the program by name; with TOOL_ALONE it is one of
// its own, which some tests compile.
#ifdef TOOL_ALONE
#define TOOL_PROGRAM(word, program)                                                                \
    int main(int argc, char **argv) {                                                              \
        tool_start(&program, argc, argv);                                                          \
        return program.run(&program);                                                              \
    }
#else
#define TOOL_PROGRAM(word, program)                                                                \
    const tool_entry tool_entry_##word = { &program, tool__run };
#endif
typedef struct tool_entry {
    tool_program *program;
    int         (*run)(tool_program *p, int argc, char **argv);  // of the file that has the flags
} tool_entry;
TOOL_DEF int tool__run(tool_program *p, int argc, char **argv) {
    tool_start(p, argc, argv);
    return p->run(p);
}

//==============================================================================
// Backends
//==============================================================================
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

#ifdef MRC_CUDA
static int tool_cuda_device;            // 0: MRC_CUDA_DEVICE, or the first
#endif

// CUDA for --backend auto; NULL: why says what is missing, "" where this build has none.
static mrc_backend *tool__cuda_try(char *why, size_t bytes) {
    mrc_backend *be = NULL;
    *why = '\0';
#ifdef MRC_CUDA
    mrc_cuda_desc desc = { .device = tool_cuda_device, .tf32 = tool_common.tf32, .why = why,
                           .why_bytes = bytes };
    mrc_status status = mrc_backend_cuda_new(&be, &desc);
    if (status != MRC_OK) be = NULL;
    if (!be && !*why) snprintf(why, bytes, "%s", mrc_status_string(status));
#else
    (void)bytes;
#endif
    return be;
}

// CUDA, or one line that says why not: no CUDA in this build, no driver, no device.
static mrc_status tool__cuda_new(mrc_backend **out) {
#ifdef MRC_CUDA
    char why[200] = "";
    mrc_cuda_desc desc = { .device = tool_cuda_device, .tf32 = tool_common.tf32, .why = why,
                           .why_bytes = sizeof why };
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

// "backend: cpu avx512, 2 threads": what computes, and with auto why it is no device.
static mrc_backend *tool__backend_said(mrc_backend *be, const char *why) {
    const int device = strcmp(be->name, "cuda") == 0;
    char threads[32] = "";
    if (device) tool_device = be;
    else snprintf(threads, sizeof threads, ", %zu thread%s", tool_common.threads,
                  tool_common.threads == 1 ? "" : "s");
    if (!strcmp(be->name, "naive")) snprintf(threads, sizeof threads, ", 1 thread");
    tool_note("backend: %s%s%s%s%s%s%s", be->name, be->isa ? " " : "", be->isa ? be->isa : "",
              threads, *why ? " (no cuda: " : "", why, *why ? ")" : "");
    return be;
}

// What --backend asks for, said in one line; math: of its products, where it is the cpu backend.
TOOL_DEF mrc_backend *tool_backend_new_with(mrc_math math) {
    char why[200] = "";
    mrc_backend *be = NULL;
    mrc_status status = MRC_ERR_UNSUPPORTED;
    mrc_backend_desc desc = { .threads = tool_common.threads };
    const int kind = tool_common.backend;
    if (tool_common.tf32 && kind != TOOL_BACKEND_CUDA) {
        tool_fail(TOOL_USAGE, "--tf32: only CUDA devices multiply so (found another --backend, "
                  "expected --backend cuda)");
    }
    if (kind == TOOL_BACKEND_NAIVE) status = mrc_backend_naive_new(&be, &desc);
    if (kind == TOOL_BACKEND_AUTO) be = tool__cuda_try(why, sizeof why);
    if (be) status = MRC_OK;
    else if (kind == TOOL_BACKEND_CPU || kind == TOOL_BACKEND_AUTO) {
        desc.math = math;
        status = mrc_backend_cpu_new(&be, &desc);
    }
    if (kind == TOOL_BACKEND_OPENBLAS) status = tool__openblas_new(&be, desc);
    if (kind == TOOL_BACKEND_CUDA) status = tool__cuda_new(&be);
    if (status == MRC_OK) return tool__backend_said(be, why);
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

TOOL_DEF mrc_backend *tool_backend_new(void) { return tool_backend_new_with(MRC_MATH_F32); }

// For prediction with weights of that type: where they are not f32, what attention and heads
// multiply may be rounded too, if the processor gains by it.
TOOL_DEF mrc_backend *tool_backend_new_for(mrc_dtype weights) {
    const int narrow = weights == MRC_DTYPE_BF16 || weights == MRC_DTYPE_I8;
    mrc_backend *be = tool_backend_new_with(narrow ? MRC_MATH_BF16 : MRC_MATH_F32);
    if (be->math == MRC_MATH_F32 || !strstr(be->isa, "emulated")) return be;
    mrc_backend_free(be);
    return tool_backend_new();
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

// What the library writes to where it stands: a pipe, /dev/null, /dev/stdout.
static int tool__is_device(const char *path) {
    struct stat info;
    return strncmp(path, "/dev/", 5) == 0 || (stat(path, &info) == 0 && !S_ISREG(info.st_mode));
}

// Whether names of a path are too long for the file system of the folder `there`.  A file is
// written beside its place, under a name with at most 16 bytes more.
static int tool__is_too_long(const char *path, const char *there, int is_folder) {
    const long longest = pathconf(there, _PC_NAME_MAX);
    for (size_t n; longest > 0 && *path; path += n + (path[n] == '/')) {
        n = strcspn(path, "/");
        if (n + (is_folder || path[n] ? 0 : 16) > (size_t)longest) return 1;
    }
    return 0;
}

// Before the work begins: whether a file (or with is_folder a folder) could be written there.  No
// folder is made yet, so that a run that fails leaves nothing: of a file, tool_make_parent() does.
TOOL_DEF void tool_try_place(const char *path, int is_folder) {
    char at[TOOL_PATH_BYTES];
    struct stat there;
    const mrc_path kind = mrc_path_kind(path);
    if (stat(path, &there) != 0 && errno == ENAMETOOLONG) {
        tool_fail(TOOL_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
    if (kind == MRC_PATH_FILE && is_folder) {
        tool_fail(TOOL_BAD_INPUT, "%s: is no directory (found a file)", path);
    }
    if (kind == MRC_PATH_DIR && !is_folder) {
        tool_fail(TOOL_BAD_INPUT, "%s: is a directory (expected the name of a file)", path);
    }
    if (strlen(path) >= sizeof at) tool_fail(TOOL_USAGE, "%.60s...: the path is too long", path);
    if (kind == MRC_PATH_FILE && tool__is_device(path)) {
        if (access(path, W_OK) == 0) return;
        tool_fail(TOOL_IO, "%s: cannot be written: %s", path, strerror(errno));
    }
    strcpy(at, path);
    for (int up = kind != MRC_PATH_DIR; up; ) {    // the nearest folder that is there
        char *slash = strrchr(at, '/');
        if (!slash) strcpy(at, ".");
        else if (slash == at) at[1] = '\0';
        else *slash = '\0';
        struct stat st;
        up = stat(at, &st) != 0 && errno == ENOENT && strcmp(at, "/") && strcmp(at, ".");
    }
    if (tool__is_too_long(path, at, is_folder)) {
        tool_fail(TOOL_IO, "%s: cannot be written: %s", path, strerror(ENAMETOOLONG));
    }
    char probe[TOOL_PATH_BYTES + 32];
    snprintf(probe, sizeof probe, "%s/.mrc-try.%ld", at, (long)getpid());
    const int file = open(probe, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) tool_fail(TOOL_IO, "%s: cannot be written: %s: %s", path, at, strerror(errno));
    close(file);
    unlink(probe);
}

// For what reads a file twice.
TOOL_DEF void tool_want_twice(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0 || S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) return;
    tool_fail(TOOL_BAD_INPUT, "%s: is a pipe or a device, which can be read once (expected a file: "
              "it is read twice)", path);
}

// The folders that a file is about to be written into.
TOOL_DEF void tool_make_parent(mrc_ctx *ctx, const char *path) {
    char *folder = tool_copy(path), *slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = '\0';
        tool_check(ctx, mrc_dir_new(ctx, folder));
    }
    free(folder);
}

// A text file whose lines are cut at their NULs: one inside would hide what follows it.
TOOL_DEF char *tool_read_text(mrc_ctx *ctx, const char *path) {
    char *text;
    size_t bytes;
    tool_check(ctx, mrc_file_read(ctx, &text, &bytes, path));
    const char *nul = memchr(text, 0, bytes);
    if (nul) {
        tool_fail(TOOL_BAD_INPUT, "%s: is no text (found a zero byte at offset %zu)", path,
                  (size_t)(nul - text));
    }
    return text;
}

// Ends the program when a path is no folder, before the library says so of a file in it.
TOOL_DEF void tool_want_model(const char *path) {
    const mrc_path kind = mrc_path_kind(path);
    if (kind == MRC_PATH_FILE) {
        tool_fail(TOOL_BAD_INPUT, "%s: is a file (expected a model directory: the folder that has "
                  "config.json and the weights)", path);
    }
    if (kind != MRC_PATH_DIR) {
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        const int local = slash == path || *path == '.' || *path == '~' || !*name
                       || (slash && memchr(path, '/', (size_t)(slash - path)));
        if (local) {
            tool_fail(TOOL_BAD_INPUT, "%s: no such folder (expected a model directory)", path);
        }
        tool_fail(TOOL_BAD_INPUT, "%s: no such folder (expected a model directory; one of the hub "
                  "is downloaded first: hf download %s --local-dir %s)", path, path, name);
    }
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
    if (tokens < config->vocab_size) {
        tool_note("%s: the vocabulary is smaller than the model's (found %zu tokens, its "
                  "vocab_size is %zu): if it is another model's, its ids mean other words",
                  tokenizer, tokens, config->vocab_size);
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

// The windows of a reader's questions: as it was trained, unless flags say otherwise (*length 0 and
// *stride SIZE_MAX: not given).  Says what it took from train_args.json, and fills in both.
#define TOOL_READER_LENGTH_HELP "as in training; else 512, or what the model allows"
#define TOOL_READER_STRIDE_HELP "as in training; else 128, or a third of a shorter window"
TOOL_DEF mrc_features_config tool_reader_features(mrc_ctx *ctx, const char *path, size_t *length,
                                                  size_t *stride) {
    mrc_model_config model;
    mrc_features_config config;
    int from = 0;
    tool_check(ctx, mrc_model_config_load(ctx, &model, path));
    tool_check(ctx, mrc_reader_features(ctx, &config, path, &model, &from));
    if (from && (!*length || *stride == SIZE_MAX)) {
        char length_text[48] = "", stride_text[48] = "";
        if (!*length) {
            snprintf(length_text, sizeof length_text, " --max_seq_length %zu",
                     config.max_seq_length);
        }
        if (*stride == SIZE_MAX) {
            snprintf(stride_text, sizeof stride_text, " --doc_stride %zu", config.doc_stride);
        }
        tool_note("%s: as in training:%s%s", path, length_text, stride_text);
    }
    if (*length) {                      // an overlap of other windows may not fit
        config.max_seq_length = *length;
        if (!from || config.doc_stride >= *length) {
            config.doc_stride = *length / 3 < 128 ? *length / 3 : 128;
        }
    }
    if (*stride != SIZE_MAX) config.doc_stride = *stride;
    *length = config.max_seq_length;
    *stride = config.doc_stride;
    tool_check_stride(*length, stride);
    return config;
}

// The examples of one of k folds (KFold with --seed), or those of all others; freed before d.
TOOL_DEF mrc_dataset *tool_fold(mrc_ctx *ctx, const mrc_dataset *d, const char *path, size_t k,
                                size_t fold, int inside) {
    size_t n = mrc_dataset_size(d), kept = 0;
    size_t *folds = tool_allocate(2 * n + 1, sizeof *folds);
    mrc_dataset *part;
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
    if (tool_quiet) return;
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

// The least memory that this process's control group and those above it may use; SIZE_MAX where
// nothing says so.  root is "" but in tests, which have the kernel's files in a folder.
TOOL_DEF size_t tool_memory_limit(const char *root) {
    static const struct { const char *group, *folder, *file; } kinds[] = {
        { "\n0::/", "", "memory.max" }, { "memory:/", "/memory", "memory.limit_in_bytes" } };
    char groups[4096] = "\n", path[8192], text[32];
    size_t limit = SIZE_MAX;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "r");
    if (f) groups[1 + fread(groups + 1, 1, sizeof groups - 2, f)] = 0;
    if (f) fclose(f);
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(groups, kinds[i].group);
        at = at ? at + strlen(kinds[i].group) - 1 : "/";
        // A container may see its own group as the root, whatever its name: so the root last.
        for (int n = (int)strcspn(at, "\n"); n >= 0; n--) {
            if (n && at[n] != '/' && at[n] != '\n' && at[n]) continue;
            snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%.*s/%s", root, kinds[i].folder, n, at,
                     kinds[i].file);
            if ((f = fopen(path, "r")) == NULL) continue;
            if (fgets(text, sizeof text, f) && text[0] >= '0' && text[0] <= '9') {
                unsigned long long bytes = strtoull(text, NULL, 10);
                if (bytes < limit) limit = (size_t)bytes;
            }
            fclose(f);
        }
    }
    return limit;
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
// Drawn where stderr is a terminal; elsewhere there is a line a minute.
//==============================================================================
typedef struct tool_bar {
    const char *desc;
    size_t      total, n, first;        // first: where this run began, when it was resumed
    double      begun, drawn;           // seconds
    size_t      n_drawn;
    double      rate;                   // per second, smoothed as tqdm does
    int         on;
} tool_bar;
static double tool_bar_seconds = 60;    // between two lines where stderr is no terminal

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
                     .drawn = now, .n_drawn = done, .on = !tool_quiet && tool_is_terminal() };
    if (b->on) tool__bar_draw(b, NULL, now);
}

// Where there is no terminal: "train: 42 of 100, 01:12 left, loss=0.31", a line a minute.
static void tool__bar_line(tool_bar *b, const char *note, double now) {
    char left[32];
    const double done = (double)(b->n - b->first), rate = done / (now - b->begun);
    tool__duration(left, sizeof left, rate > 0 ? (double)(b->total - b->n) / rate : -1);
    tool_note("%s: %zu of %zu, %s left%s%s", b->desc, b->n, b->total, left,
              note && *note ? ", " : "", note ? note : "");
    b->drawn = now;
}

// n of total are done; note: "loss=0.31" or NULL.  At most ten times a second it is drawn.
TOOL_DEF void tool_bar_update(tool_bar *b, size_t n, const char *note) {
    double now = tool_seconds();
    b->n = n < b->total ? n : b->total;
    if (!b->on) {
        if (now - b->drawn >= tool_bar_seconds && b->n < b->total) tool__bar_line(b, note, now);
    } else if (now - b->drawn >= 0.1 || !tool_bar_drawn) tool__bar_draw(b, note, now);
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
