// Ranks that are processes of one test, forked by it, and a communicator for what they have in host
// memory.  Each leaves what it found in memory that all of them share.
#ifndef COMM_FORKS_H
#define COMM_FORKS_H
#include "test.h"
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FORK_RANKS = 4, FORK_BYTES = 1 << 16, FORK_SECONDS = 60 };
typedef struct fork_shared {
    unsigned waiting, turn, gone;
    char     data[FORK_RANKS][FORK_BYTES];
} fork_shared;
typedef struct fork_comm { mrc_comm base; fork_shared *all; } fork_comm;

TEST_HELPER void *fork_memory(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) perror("mmap"), test_leave(1);
    return p;
}

// Until all ranks are here; MRC_ERR_IO when one has ended before.
static mrc_status forks_meet(fork_comm *c) {
    fork_shared *all = c->all;
    const unsigned turn = __atomic_load_n(&all->turn, __ATOMIC_ACQUIRE);
    const time_t begun = time(NULL);
    if (__atomic_add_fetch(&all->waiting, 1, __ATOMIC_ACQ_REL) == (unsigned)c->base.n_ranks) {
        __atomic_store_n(&all->waiting, 0, __ATOMIC_RELAXED);
        __atomic_add_fetch(&all->turn, 1, __ATOMIC_ACQ_REL);
    }
    while (__atomic_load_n(&all->turn, __ATOMIC_ACQUIRE) == turn) {
        if (__atomic_load_n(&all->gone, __ATOMIC_ACQUIRE) || time(NULL) - begun > FORK_SECONDS) {
            snprintf(c->base.error, sizeof c->base.error, "a rank is gone");
            return MRC_ERR_IO;
        }
        sched_yield();
    }
    return MRC_OK;
}

static mrc_status forks_exchange(mrc_comm *base, const void *mine, void *all, size_t bytes) {
    fork_comm *c = base->self;
    mrc_status s = MRC_OK;
    for (size_t at = 0; at < bytes && s == MRC_OK; at += FORK_BYTES) {
        const size_t n = bytes - at < FORK_BYTES ? bytes - at : FORK_BYTES;
        memcpy(c->all->data[base->rank], (const char *)mine + at, n);
        s = forks_meet(c);
        for (size_t r = 0; s == MRC_OK && r < (size_t)base->n_ranks; r++) {
            memcpy((char *)all + r * bytes + at, c->all->data[r], n);
        }
        if (s == MRC_OK) s = forks_meet(c);
    }
    return s;
}
static mrc_status forks_broadcast(mrc_comm *base, void *data, size_t bytes, int root) {
    fork_comm *c = base->self;
    mrc_status s = MRC_OK;
    for (size_t at = 0; at < bytes && s == MRC_OK; at += FORK_BYTES) {
        const size_t n = bytes - at < FORK_BYTES ? bytes - at : FORK_BYTES;
        if (base->rank == root) memcpy(c->all->data[root], (char *)data + at, n);
        s = forks_meet(c);
        if (s == MRC_OK && base->rank != root) {
            memcpy((char *)data + at, c->all->data[root], n);
        }
        if (s == MRC_OK) s = forks_meet(c);
    }
    return s;
}
static void forks_abort(mrc_comm *base, int code) {
    fork_comm *c = base->self;
    __atomic_store_n(&c->all->gone, 1, __ATOMIC_RELEASE);
    test_leave(code);
}
static const char *forks_host(const mrc_comm *c, int rank) {
    (void)c; (void)rank;
    return "here";
}

// Runs fn(rank's communicator, user) in n processes, each in a session of its own memory; returns
// how many ended well.  A rank that ends otherwise is one that nobody waits for.
TEST_HELPER int forks_run(int n, void (*fn)(mrc_comm *host, void *user), void *user) {
    fork_shared *all = fork_memory(sizeof *all);
    pid_t pid[FORK_RANKS];
    int well = 0;
    fflush(stdout);
    for (int k = 0; k < n; k++) {
        pid[k] = fork();
        if (pid[k]) continue;
        fork_comm c = { .all = all };
        c.base = (mrc_comm){ .size = sizeof(mrc_comm), .api = MRC_COMM_API, .rank = k,
                             .n_ranks = n, .local_rank = k, .n_local = n, .name = "forks",
                             .self = &c, .broadcast = forks_broadcast,
                             .exchange = forks_exchange, .abort = forks_abort,
                             .host = forks_host };
        test_passed = test_failed = 0;
        fn(&c.base, user);
        fflush(stdout);
        test_leave(test_failed ? 1 : 0);
    }
    for (int k = 0; k < n; k++) {
        int status = 1;
        pid_t ended = wait(&status);
        if (ended > 0 && status == 0) well++;
        else __atomic_store_n(&all->gone, 1, __ATOMIC_RELEASE);
    }
    munmap(all, sizeof *all);
    return well;
}
#endif
