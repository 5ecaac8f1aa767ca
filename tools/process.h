// Other processes: command lines, this executable again, starting and ending.
#ifndef TOOL_PROCESS_H
#define TOOL_PROCESS_H
#include "tool.h"
#include <sys/wait.h>

extern const char *mrc_executable;      // tools/mrc.c: the path by which it can be started again

typedef struct words { char **text; size_t n; } words;      // a command line, ended by NULL

__attribute__((format(printf, 2, 3)))
TOOL_DEF void words_add(words *w, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    char *word = tool_allocate(n < 0 ? 1 : (size_t)n + 1, 1);
    vsnprintf(word, n < 0 ? 1 : (size_t)n + 1, fmt, ap);
    va_end(ap);
    size_t capacity = w->n;
    w->text = tool_grow(w->text, w->n + 1, &capacity, sizeof *w->text);
    w->text[w->n++] = word;
    w->text[w->n] = NULL;
}

TOOL_DEF void words_free(words *w) {
    for (size_t i = 0; i < w->n; i++) free(w->text[i]);
    free(w->text);
    *w = (words){ 0 };
}

// A program of this executable: "mrc train".
TOOL_DEF words words_of_program(const char *name) {
    words w = { 0 };
    words_add(&w, "%s", mrc_executable);
    words_add(&w, "%s", name);
    return w;
}

// Its standard streams, -1: those of this process; folder NULL: this one's.
typedef struct process_desc {
    int         in, out, err;
    const char *folder;
    int         own_group;              // Ctrl-C does not reach it
} process_desc;

TOOL_DEF pid_t process_start(const words *w, const process_desc *d) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) tool_fail(TOOL_NO_MEMORY, "fork: %s", strerror(errno));
    if (pid > 0) return pid;
    if (d->own_group) setpgid(0, 0);
    if (d->in >= 0 && dup2(d->in, STDIN_FILENO) < 0) _exit(TOOL_IO);
    if (d->out >= 0 && dup2(d->out, STDOUT_FILENO) < 0) _exit(TOOL_IO);
    if (d->err >= 0 && dup2(d->err, STDERR_FILENO) < 0) _exit(TOOL_IO);
    if (d->folder && chdir(d->folder) != 0) _exit(TOOL_IO);
    execvp(w->text[0], w->text);
    _exit(127);
}

// Waits for its end: the exit code, 128 + the signal that ended it.
TOOL_DEF int process_end(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif
