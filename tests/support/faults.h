// Failing system calls: mrc.h, included after this file, calls the functions here in place of those
// of its own.  They count, fail, kill the process or note what reaches the disk, as `fault` says.
// Include before test.h.
#ifndef FAULTS_H
#define FAULTS_H
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

// In place of an errno: half of the bytes; SIGKILL; another program cuts the file `cut` in half.
enum { FAULT_SHORT = -1, FAULT_KILL = -2, FAULT_CUT = -3 };
typedef struct fault_state {
    int         armed, error, on;   // on: from the at-th call on, not once
    long        at, calls, failed;
    const char *what;               // the first call that failed
    const char *cut;
} fault_state;
static fault_state fault;

static void fault_arm(long at, int error, int on) {
    fault = (fault_state){ .armed = 1, .at = at, .error = error, .on = on };
}

// Whether this call fails, with errno set; FAULT_SHORT: it transfers less, when it can.
static int fault_now(const char *what, int transfers) {
    if (!fault.armed) return 0;
    fault.calls++;
    if (fault.calls != fault.at && !(fault.on && fault.calls > fault.at)) return 0;
    if (fault.error == FAULT_KILL) kill(getpid(), SIGKILL);
    if (fault.error == FAULT_CUT) {
        struct stat info;
        fault.failed += stat(fault.cut, &info) == 0 && truncate(fault.cut, info.st_size / 2) == 0;
        return 0;
    }
    if (fault.error == FAULT_SHORT && !transfers) return 0;
    // Who tries again after a signal must come through one day.
    if (fault.error == EINTR && fault.failed == 50) return 0;
    if (fault.failed++ == 0) fault.what = what;
    if (fault.error > 0) errno = fault.error;
    return fault.error;
}

//
// The disk: what has been done to it, call by call
//
enum { DISK_LINK, DISK_RENAME, DISK_UNLINK, DISK_WRITE, DISK_SIZE, DISK_SYNC };
typedef struct disk_op {
    int    kind, dir, node;         // the folder that changes, the file or folder concerned
    char   name[64], to[64];
    size_t at, n;
    char  *data;
} disk_op;
typedef struct disk_name { int dir, node; char name[64]; } disk_name;
static struct {
    char       root[256];           // "": nothing is noted
    int        n, n_names, n_nodes, lost;
    disk_op    op[4096];
    disk_name  name[512];
    int        node_of[1024];       // by file descriptor
    size_t     position[1024];
} disk;

static disk_name *disk_find(int dir, const char *name) {
    for (int i = 0; i < disk.n_names; i++) {
        if (disk.name[i].dir == dir && !strcmp(disk.name[i].name, name)) return &disk.name[i];
    }
    return NULL;
}

// The folder that a path's last part is in (the root is node 0), or -1.
static int disk_dir(const char *path, const char **last) {
    size_t n = strlen(disk.root);
    if (!disk.root[0] || strncmp(path, disk.root, n) != 0) return -1;
    const char *p = path + n + (path[n] == '/'), *slash = strchr(p, '/');
    *last = p;
    if (!slash) return 0;
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(slash - p), p);
    disk_name *d = disk_find(0, name);
    *last = slash + 1;
    return d ? d->node : -1;
}

static disk_op *disk_add(int kind, int dir, int node, const char *name) {
    if (disk.n == 4096) {
        disk.lost++;
        return NULL;
    }
    disk_op *op = &disk.op[disk.n++];
    *op = (disk_op){ .kind = kind, .dir = dir, .node = node };
    snprintf(op->name, sizeof op->name, "%s", name);
    return op;
}

static int disk_link(const char *path) {
    const char *last;
    int dir = disk_dir(path, &last);
    if (dir < 0) return -1;
    disk_name *found = *last ? disk_find(dir, last) : NULL;
    if (!*last) return 0;
    if (found) return found->node;
    disk_name *made = &disk.name[disk.n_names++];
    *made = (disk_name){ .dir = dir, .node = ++disk.n_nodes };
    snprintf(made->name, sizeof made->name, "%s", last);
    disk_add(DISK_LINK, dir, made->node, last);
    return made->node;
}

static void disk_unlink(int dir, const char *name) {
    disk_name *found = disk_find(dir, name);
    if (!found) return;
    disk_add(DISK_UNLINK, dir, found->node, name);
    *found = disk.name[--disk.n_names];
}

//
// The calls
//
static int fault_opened(int fd, const char *path, int flags) {
    if (fd < 0 || fd >= 1024 || !disk.root[0]) return fd;
    const char *last;
    int dir = disk_dir(path, &last);
    disk_name *found = dir >= 0 && *last ? disk_find(dir, last) : NULL;
    disk.node_of[fd] = flags & O_CREAT ? disk_link(path) : dir < 0 ? -1 : !*last ? 0
                     : found ? found->node : -1;
    disk.position[fd] = 0;
    return fd;
}
static int fault_open(const char *path, int flags, ...) {
    va_list ap;
    va_start(ap, flags);
    int mode = flags & O_CREAT ? va_arg(ap, int) : 0;
    va_end(ap);
    if (fault_now("open", 0)) return -1;
    return fault_opened(open(path, flags, mode), path, flags);
}
static int fault_openat(int folder, const char *path, int flags) {
    if (fault_now("openat", 0)) return -1;
    int fd = openat(folder, path, flags);
    if (folder == AT_FDCWD) return fault_opened(fd, path, flags);
    if (fd >= 0 && fd < 1024) disk.node_of[fd] = -1;
    return fd;
}
static ssize_t fault_read(int fd, void *to, size_t n) {
    int f = fault_now("read", n > 1);
    if (f > 0) return -1;
    return read(fd, to, f ? n / 2 : n);
}
static ssize_t fault_pread(int fd, void *to, size_t n, off_t at) {
    int f = fault_now("pread", n > 1);
    if (f > 0) return -1;
    return pread(fd, to, f ? n / 2 : n, at);
}
static ssize_t fault_write(int fd, const void *from, size_t n) {
    int f = fault_now("write", n > 1);
    if (f > 0) return -1;
    ssize_t done = write(fd, from, f ? n / 2 : n);
    if (done > 0 && fd < 1024 && disk.root[0] && disk.node_of[fd] > 0) {
        disk_op *op = disk_add(DISK_WRITE, -1, disk.node_of[fd], "");
        if (op && (op->data = malloc((size_t)done)) != NULL) {
            memcpy(op->data, from, (size_t)done);
            op->at = disk.position[fd];
            op->n = (size_t)done;
        }
        disk.position[fd] += (size_t)done;
    }
    return done;
}
static int fault_fallocate(int fd, off_t at, off_t bytes) {
    int f = fault_now("posix_fallocate", 0);
    if (f > 0) return f;
    f = posix_fallocate(fd, at, bytes);
    if (!f && fd < 1024 && disk.root[0] && disk.node_of[fd] > 0) {
        disk_op *op = disk_add(DISK_SIZE, -1, disk.node_of[fd], "");
        if (op) op->n = (size_t)(at + bytes);
    }
    return f;
}
static int fault_fsync(int fd) {
    if (fault_now("fsync", 0)) return -1;
    if (disk.root[0] && fd < 1024 && disk.node_of[fd] >= 0)
        disk_add(DISK_SYNC, -1, disk.node_of[fd], "");
    return fsync(fd);
}
static int fault_close(int fd) {
    int f = fault_now("close", 0), e = errno, r = close(fd);
    if (!f) return r;
    errno = e;
    return -1;
}
static int fault_rename(const char *from, const char *to) {
    if (fault_now("rename", 0)) return -1;
    int r = rename(from, to);
    const char *a, *b;
    int dir = r == 0 ? disk_dir(from, &a) : -1;
    if (dir >= 0 && disk_dir(to, &b) == dir) {
        disk_name *source = disk_find(dir, a);
        disk_op *op = source ? disk_add(DISK_RENAME, dir, source->node, a) : NULL;
        if (op) snprintf(op->to, sizeof op->to, "%s", b);
        disk_name *target = disk_find(dir, b);
        if (target) *target = disk.name[--disk.n_names];
        source = disk_find(dir, a);
        if (source) snprintf(source->name, sizeof source->name, "%s", b);
    }
    return r;
}
static int fault_unlink(const char *path) {
    const char *last;
    if (fault_now("unlink", 0)) return -1;
    int r = unlink(path), dir = r == 0 ? disk_dir(path, &last) : -1;
    if (dir >= 0) disk_unlink(dir, last);
    return r;
}
static int fault_unlinkat(int folder, const char *name, int flags) {
    const char *last = name;
    if (fault_now("unlinkat", 0)) return -1;
    int r = unlinkat(folder, name, flags), dir = -1;
    if (r == 0 && disk.root[0] && folder == AT_FDCWD) dir = disk_dir(name, &last);
    else if (r == 0 && disk.root[0] && folder < 1024) dir = disk.node_of[folder];
    if (dir >= 0) disk_unlink(dir, last);
    return r;
}
static int fault_mkdir(const char *path, mode_t mode) {
    if (fault_now("mkdir", 0)) return -1;
    int r = mkdir(path, mode);
    if (r == 0) disk_link(path);
    return r;
}
static DIR *fault_opendir(const char *path) {
    return fault_now("opendir", 0) ? NULL : opendir(path);
}
static struct dirent *fault_readdir(DIR *dir) {
    return fault_now("readdir", 0) ? NULL : readdir(dir);
}
static int fault_fstat(int fd, struct stat *info) {
    return fault_now("fstat", 0) ? -1 : fstat(fd, info);
}
static int fault_stat(const char *path, struct stat *info) {
    return fault_now("stat", 0) ? -1 : stat(path, info);
}

// Function-like, so that members and declarations of these names stay what they are.
#define open(...)                    fault_open(__VA_ARGS__)
#define openat(folder, path, flags)  fault_openat(folder, path, flags)
#define read(fd, to, n)              fault_read(fd, to, n)
#define pread(fd, to, n, at)         fault_pread(fd, to, n, at)
#define write(fd, from, n)           fault_write(fd, from, n)
#define posix_fallocate(fd, at, n)   fault_fallocate(fd, at, n)
#define fsync(fd)                    fault_fsync(fd)
#define close(fd)                    fault_close(fd)
#define rename(from, to)             fault_rename(from, to)
#define unlink(path)                 fault_unlink(path)
#define unlinkat(folder, name, f)    fault_unlinkat(folder, name, f)
#define mkdir(path, mode)            fault_mkdir(path, mode)
#define opendir(path)                fault_opendir(path)
#define readdir(dir)                 fault_readdir(dir)
#define fstat(fd, info)              fault_fstat(fd, info)
#define stat(path, info)             fault_stat(path, info)
#endif
