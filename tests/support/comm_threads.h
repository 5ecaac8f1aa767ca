// A communicator of threads in one process, for tests: no MPI, and ThreadSanitizer sees all of it.
#ifndef COMM_THREADS_H
#define COMM_THREADS_H
#include "test.h"
#include <pthread.h>

enum { MAX_RANKS = 8 };
typedef struct thread_comm thread_comm;
typedef struct thread_rank { mrc_comm base; thread_comm *all; } thread_rank;
struct thread_comm {
    pthread_mutex_t lock;
    pthread_cond_t  turned;
    int             n, waiting, turn;
    int             missing;            // 1: a rank is gone, and nobody waits any longer
    const void     *data[MAX_RANKS];
    int             flip;               // of rank 1's next gather: a bit of the first number
    thread_rank     ranks[MAX_RANKS];
};

// Until all ranks are here; MRC_ERR_IO when one is gone.
static mrc_status threads_meet(thread_comm *t) {
    pthread_mutex_lock(&t->lock);
    const int turn = t->turn;
    if (++t->waiting == t->n) {
        t->waiting = 0;
        t->turn++;
        pthread_cond_broadcast(&t->turned);
    }
    while (turn == t->turn && !t->missing) pthread_cond_wait(&t->turned, &t->lock);
    const mrc_status s = turn == t->turn ? MRC_ERR_IO : MRC_OK;
    pthread_mutex_unlock(&t->lock);
    return s;
}

static mrc_status threads_with(thread_rank *r, const void *data) {
    r->all->data[r->base.rank] = data;
    const mrc_status s = threads_meet(r->all);
    if (s != MRC_OK) snprintf(r->base.error, sizeof r->base.error, "a rank is gone");
    return s;
}

static mrc_status threads_reduce(mrc_comm *c, mrc_backend *be, const mrc_comm_slices *b,
                                 const void *data, void *sum, int first, int members) {
    thread_rank *r = c->self;
    const size_t bytes = mrc_dtype_bytes(b->dtype), n = b->begin[c->rank + 1] - b->begin[c->rank];
    mrc_status s = threads_with(r, data);
    for (int k = 0; k < members && s == MRC_OK; k++) {
        const char *from = (const char *)r->all->data[k] + b->begin[c->rank] * bytes;
        const mrc_fold_args a = { .n = n, .n_parts = 1, .parts = { b->dtype, n, from },
                                  .y = { b->dtype, n, sum, !(first && k == 0) } };
        s = be->kernels[b->dtype].fold(be, &a);
    }
    return s == MRC_OK ? threads_meet(r->all) : s;
}

static mrc_status threads_gather(mrc_comm *c, mrc_backend *be, const mrc_comm_slices *b,
                                 const void *slice, void *data) {
    thread_rank *r = c->self;
    const size_t bytes = mrc_dtype_bytes(b->dtype);
    mrc_status s = threads_with(r, slice);
    (void)be;
    for (int k = 0; k < c->n_ranks && s == MRC_OK; k++) {
        const size_t n = b->begin[k + 1] - b->begin[k];
        char *to = (char *)data + b->begin[k] * bytes;
        if (to != r->all->data[k]) memcpy(to, r->all->data[k], n * bytes);  // it may be there
    }
    if (c->rank == 1 && r->all->flip && b->dtype == MRC_DTYPE_F32) {
        ((unsigned char *)data)[3] ^= 0x40;     // of an exponent: it shows
        r->all->flip = 0;
    }
    return s == MRC_OK ? threads_meet(r->all) : s;
}

static mrc_status threads_wait(mrc_comm *c) {
    (void)c;
    return MRC_OK;
}

static mrc_status threads_exchange(mrc_comm *c, const void *mine, void *all, size_t bytes) {
    thread_rank *r = c->self;
    mrc_status s = threads_with(r, mine);
    for (int k = 0; k < c->n_ranks && s == MRC_OK; k++) {
        memcpy((char *)all + (size_t)k * bytes, r->all->data[k], bytes);
    }
    return s == MRC_OK ? threads_meet(r->all) : s;
}

static mrc_status threads_broadcast(mrc_comm *c, void *data, size_t bytes, int root) {
    thread_rank *r = c->self;
    mrc_status s = threads_with(r, data);
    if (s == MRC_OK && c->rank != root) memcpy(data, r->all->data[root], bytes);
    return s == MRC_OK ? threads_meet(r->all) : s;
}

static const char *threads_host(const mrc_comm *c, int rank) {
    (void)c; (void)rank;
    return "here";
}

// A rank that will not come again: the others do not wait for it.
TEST_HELPER void threads_leave(thread_comm *t) {
    pthread_mutex_lock(&t->lock);
    t->missing = 1;
    pthread_cond_broadcast(&t->turned);
    pthread_mutex_unlock(&t->lock);
}

TEST_HELPER void threads_init(thread_comm *t, int n) {
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->turned, NULL);
    t->n = n;
    for (int k = 0; k < n; k++) {
        t->ranks[k].all = t;
        t->ranks[k].base = (mrc_comm){
            .size = sizeof(mrc_comm), .api = MRC_COMM_API, .rank = k, .n_ranks = n,
            .local_rank = k, .n_local = n, .name = "threads", .self = &t->ranks[k],
            .reduce = threads_reduce, .gather = threads_gather, .wait = threads_wait,
            .broadcast = threads_broadcast, .exchange = threads_exchange, .host = threads_host };
    }
}
TEST_HELPER void threads_free(thread_comm *t) {
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->turned);
}
#endif
