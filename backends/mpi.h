// mpi: a communicator (mrc_comm) over MPI, for training on several processes and hosts
//
// Include this behind mrc.h in the one file that trains; Open MPI and MPICH compile it alike:
//
//     #include "mrc.h"
//     #include "backends/mpi.h"
//     ...
//     mrc_comm *comm = NULL;
//     if (mrc_comm_mpi_new(&comm, &(mrc_mpi_desc){ .timeout = 1800 }) != MRC_OK) ..
//     ctx_desc.comm = comm;
//     ..
//     mrc_comm_free(comm);            // after the contexts; ends MPI: without it the job fails
//
// Sums have the bits of adding one rank after the other: every rank sends each slice to its owner,
// who adds what it receives in the order of the ranks; MPI_Allreduce adds in an order of its own.
// One piece of 4 MiB is added while the next one travels.  Every wait has a deadline that starts
// anew with any progress; what is missing when it passes is named.
//
// reduce() only notes the sum and begins it.  MPI moves messages while it is called, so sums go on
// in poll(), which is called between the kernels of backward, and end in wait().  All sums are one
// row of pieces, the same on all ranks; two pieces are under way at a time.
//
// Only the thread that made the communicator calls MPI (MPI_THREAD_FUNNELED).  Data is host memory.
#ifndef MRC_MPI_H
#define MRC_MPI_H
#include "pieces.h"
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MRC_MPI_PIECE = 4 << 20 };       // bytes of a message: counts stay far below 2^31

typedef struct mrc_mpi_desc {
    double timeout;                     // seconds without any progress; 0: for ever
} mrc_mpi_desc;

// A piece of every slice on its way.
typedef struct mrc_mpi_piece {
    MPI_Request *list;                  // two for each rank
    int         *peer, n, left;         // not yet done
    size_t       here;                  // bytes of this rank's own slice
    size_t       sum, at;               // of a reduce(): its place in `sums`; where it begins
} mrc_mpi_piece;

// A reduce() that has not ended.
typedef struct mrc_mpi_sum {
    mrc_backend    *be;
    mrc_comm_slices slices;
    const void     *data;
    void           *sum;
    size_t          most, at;           // bytes of the longest slice; what has been posted of it
    int             first, members;
} mrc_mpi_sum;

typedef struct mrc_mpi {
    mrc_comm      base;
    MPI_Comm      world;
    double        timeout;
    char        (*hosts)[MPI_MAX_PROCESSOR_NAME];       // of every rank
    char         *staging;              // two pieces from each rank
    mrc_mpi_piece two[2];
    int           oldest, under_way;    // of `two`, pieces of sums
    mrc_mpi_sum  *sums;                 // since the last wait()
    size_t        n_sums, room, next;   // next: the first that has not been posted whole
    MPI_Status   *status;               // MPICH's header makes gcc warn of MPI_STATUSES_IGNORE
    int          *index;
} mrc_mpi;

static mrc_status mrc_mpi_check(mrc_mpi *m, int code) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int bytes = 0;
    if (code == MPI_SUCCESS) return MRC_OK;
    MPI_Error_string(code, text, &bytes);
    snprintf(m->base.error, sizeof m->base.error, "MPI: %.180s", text);
    return MRC_ERR_IO;
}

#define MRC_MPI_TRY(x)                                                                      \
    do {                                                                                    \
        mrc_status mrc_mpi_status_ = (x);                                                   \
        if (mrc_mpi_status_ != MRC_OK) return mrc_mpi_status_;                              \
    } while (0)

// Whether requests of the piece are done; *some: any of them just now.
static mrc_status mrc_mpi_test(mrc_mpi *m, mrc_mpi_piece *p, int *some) {
    int done = 0;
    *some = 0;
    if (p->left == 0) return MRC_OK;
    MRC_MPI_TRY(mrc_mpi_check(m, MPI_Testsome(p->n, p->list, &done, m->index, m->status)));
    *some = done == MPI_UNDEFINED || done > 0;
    p->left = done == MPI_UNDEFINED ? 0 : p->left - done;
    return MRC_OK;
}

// Until all requests of the piece are done.
static mrc_status mrc_mpi_wait(mrc_mpi *m, mrc_mpi_piece *p) {
    double since = mrc_pieces_seconds();
    int some;
    for (;;) {
        MRC_MPI_TRY(mrc_mpi_test(m, p, &some));
        if (p->left == 0) return MRC_OK;
        if (some) {
            since = mrc_pieces_seconds();
            continue;
        }
        const double waited = mrc_pieces_seconds() - since;
        for (int i = 0; m->timeout > 0 && waited > m->timeout && i < p->n; i++) {
            if (p->list[i] == MPI_REQUEST_NULL) continue;
            snprintf(m->base.error, sizeof m->base.error, "nothing from rank %d (%.80s) for %.0f s",
                     p->peer[i], m->hosts[p->peer[i]], m->timeout);
            return MRC_ERR_IO;
        }
        sched_yield();
    }
}

// A request of the piece has been posted, to or from `peer`.
static mrc_status mrc_mpi_posted(mrc_mpi *m, mrc_mpi_piece *p, int peer, int code) {
    p->peer[p->n] = peer;
    if (code == MPI_SUCCESS) p->n++, p->left++;
    return mrc_mpi_check(m, code);
}

static size_t mrc_mpi_part(size_t bytes, size_t at) {
    return mrc_pieces_part(bytes, at, MRC_MPI_PIECE);
}
static char *mrc_mpi_staged(const mrc_mpi *m, int buffer, int rank) {
    return mrc_pieces_staged(m->staging, MRC_MPI_PIECE, m->base.n_ranks, buffer, rank);
}

// Receives what other ranks have for this rank's piece, sends them what this one has for theirs.
static mrc_status mrc_mpi_reduce_post(mrc_mpi *m, const mrc_mpi_sum *u, int buffer) {
    mrc_mpi_piece *p = &m->two[buffer];
    const int rank = m->base.rank, n = m->base.n_ranks;
    p->n = p->left = 0;
    p->at = u->at;
    p->here = mrc_mpi_part(mrc_pieces_bytes(&u->slices, rank), u->at);
    for (int s = 0; p->here && s < u->members; s++) {
        if (s == rank) continue;
        MRC_MPI_TRY(mrc_mpi_posted(m, p, s, MPI_Irecv(mrc_mpi_staged(m, buffer, s), (int)p->here,
                                                      MPI_BYTE, s, 1, m->world, &p->list[p->n])));
    }
    for (int d = 1; rank < u->members && d < n; d++) {  // so that no rank is everyone's first
        const int s = (rank + d) % n;
        const size_t bytes = mrc_mpi_part(mrc_pieces_bytes(&u->slices, s), u->at);
        if (!bytes) continue;
        MRC_MPI_TRY(mrc_mpi_posted(m, p, s, MPI_Isend(mrc_pieces_at(&u->slices, u->data, s) + u->at,
                                                      (int)bytes, MPI_BYTE, s, 1, m->world,
                                                      &p->list[p->n])));
    }
    return MRC_OK;
}

// to = or += one rank's part, by the backend's own kernel.
static mrc_status mrc_mpi_add(mrc_backend *be, mrc_dtype dtype, void *to, const void *from,
                              size_t bytes, int accumulate) {
    const size_t n = bytes / mrc_dtype_bytes(dtype);
    const mrc_fold_args a = { .n = n, .n_parts = 1, .parts = { dtype, n, from },
                              .y = { dtype, n, to, accumulate } };
    return be->kernels[dtype].fold(be, &a);
}

// Adds the oldest piece, which is here, to its sum.
static mrc_status mrc_mpi_reduce_add(mrc_mpi *m) {
    const mrc_mpi_piece *p = &m->two[m->oldest];
    const mrc_mpi_sum *u = &m->sums[p->sum];
    for (int s = 0; p->here && s < u->members; s++) {
        const char *from = s == m->base.rank ? mrc_pieces_at(&u->slices, u->data, s) + p->at
                                             : mrc_mpi_staged(m, m->oldest, s);
        MRC_MPI_TRY(mrc_mpi_add(u->be, u->slices.dtype, (char *)u->sum + p->at, from, p->here,
                                !(u->first && s == 0)));
    }
    return MRC_OK;
}

// Posts pieces while there is a buffer for one.
static mrc_status mrc_mpi_reduce_more(mrc_mpi *m) {
    while (m->under_way < 2 && m->next < m->n_sums) {
        mrc_mpi_sum *u = &m->sums[m->next];
        const int buffer = (m->oldest + m->under_way) % 2;
        if (u->at >= u->most) {
            m->next++;
            continue;
        }
        MRC_MPI_TRY(mrc_mpi_reduce_post(m, u, buffer));
        m->two[buffer].sum = m->next;
        m->under_way++;
        u->at += MRC_MPI_PIECE;
    }
    return MRC_OK;
}

// Goes on with all sums: until they are there, or (wait 0) as far as it goes without waiting.
static mrc_status mrc_mpi_go_on(mrc_mpi *m, int wait) {
    for (;;) {
        int some;
        MRC_MPI_TRY(mrc_mpi_reduce_more(m));
        if (m->under_way == 0) break;
        mrc_mpi_piece *p = &m->two[m->oldest];
        MRC_MPI_TRY(wait ? mrc_mpi_wait(m, p) : mrc_mpi_test(m, p, &some));
        if (p->left > 0) return MRC_OK;
        MRC_MPI_TRY(mrc_mpi_reduce_add(m));
        m->oldest = !m->oldest;
        m->under_way--;
    }
    m->n_sums = m->next = 0;
    return MRC_OK;
}
static mrc_status mrc_mpi_done(mrc_comm *comm) { return mrc_mpi_go_on(comm->self, 1); }
static mrc_status mrc_mpi_poll(mrc_comm *comm) { return mrc_mpi_go_on(comm->self, 0); }

static mrc_status mrc_mpi_reduce(mrc_comm *comm, mrc_backend *be, const mrc_comm_slices *b,
                                 const void *data, void *sum, int first, int members) {
    mrc_mpi *m = (mrc_mpi *)comm->self;
    if (m->n_sums == m->room) {
        const size_t room = m->room ? 2 * m->room : 16;
        mrc_mpi_sum *sums = realloc(m->sums, room * sizeof *sums);
        if (!sums) return MRC_ERR_MEM;
        m->sums = sums;
        m->room = room;
    }
    m->sums[m->n_sums++] = (mrc_mpi_sum){ .be = be, .slices = *b, .data = data, .sum = sum,
                                          .most = mrc_pieces_longest(b, comm->n_ranks),
                                          .first = first, .members = members };
    return mrc_mpi_go_on(m, 0);
}

static mrc_status mrc_mpi_gather(mrc_comm *comm, mrc_backend *be, const mrc_comm_slices *b,
                                 const void *slice, void *data) {
    mrc_mpi *m = (mrc_mpi *)comm->self;
    const int rank = comm->rank, n = comm->n_ranks;
    const size_t most = mrc_pieces_longest(b, m->base.n_ranks), ours = mrc_pieces_bytes(b, rank);
    int k = 0;
    (void)be;
    MRC_MPI_TRY(mrc_mpi_go_on(m, 1));
    if (ours && mrc_pieces_at(b, data, rank) != slice) {
        memcpy(mrc_pieces_at(b, data, rank), slice, ours);
    }
    for (size_t at = 0; at < most + MRC_MPI_PIECE; at += MRC_MPI_PIECE, k = !k) {
        mrc_mpi_piece *p = &m->two[k];
        p->n = p->left = 0;
        for (int d = 1; at < most && d < n; d++) {
            const int s = (rank + d) % n;
            const size_t theirs = mrc_mpi_part(mrc_pieces_bytes(b, s), at);
            if (theirs) {
                MRC_MPI_TRY(mrc_mpi_posted(m, p, s, MPI_Irecv(
                    mrc_pieces_at(b, data, s) + at, (int)theirs, MPI_BYTE, s, 2, m->world,
                    &p->list[p->n])));
            }
            if (mrc_mpi_part(ours, at)) {
                MRC_MPI_TRY(mrc_mpi_posted(m, p, s, MPI_Isend(
                    (const char *)slice + at, (int)mrc_mpi_part(ours, at), MPI_BYTE, s, 2,
                    m->world, &p->list[p->n])));
            }
        }
        if (at) MRC_MPI_TRY(mrc_mpi_wait(m, &m->two[!k]));
    }
    return MRC_OK;
}

// bytes of each rank to all, in the order of ranks.  The sender of a missing part is named, which
// a collective call could not do.
static mrc_status mrc_mpi_exchange(mrc_comm *comm, const void *mine, void *all, size_t bytes) {
    mrc_mpi *m = (mrc_mpi *)comm->self;
    mrc_mpi_piece *p = &m->two[0];
    if (bytes > MRC_MPI_PIECE) return MRC_ERR_ARG;
    MRC_MPI_TRY(mrc_mpi_go_on(m, 1));
    p->n = p->left = 0;
    memcpy((char *)all + (size_t)comm->rank * bytes, mine, bytes);
    for (int d = 1; d < comm->n_ranks; d++) {
        const int s = (comm->rank + d) % comm->n_ranks;
        MRC_MPI_TRY(mrc_mpi_posted(m, p, s, MPI_Irecv((char *)all + (size_t)s * bytes, (int)bytes,
                                                      MPI_BYTE, s, 3, m->world, &p->list[p->n])));
        MRC_MPI_TRY(mrc_mpi_posted(m, p, s, MPI_Isend(mine, (int)bytes, MPI_BYTE, s, 3, m->world,
                                                      &p->list[p->n])));
    }
    return mrc_mpi_wait(m, p);
}

static mrc_status mrc_mpi_broadcast(mrc_comm *comm, void *data, size_t bytes, int root) {
    mrc_mpi *m = (mrc_mpi *)comm->self;
    MRC_MPI_TRY(mrc_mpi_go_on(m, 1));
    for (size_t at = 0; at < bytes; at += MRC_MPI_PIECE) {
        mrc_mpi_piece *p = &m->two[0];
        p->n = p->left = 0;
        MRC_MPI_TRY(mrc_mpi_posted(m, p, root, MPI_Ibcast(
            (char *)data + at, (int)mrc_mpi_part(bytes, at), MPI_BYTE, root, m->world,
            &p->list[0])));
        MRC_MPI_TRY(mrc_mpi_wait(m, p));
    }
    return MRC_OK;
}

static void mrc_mpi_abort(mrc_comm *comm, int exit_code) {
    (void)comm;
    MPI_Abort(MPI_COMM_WORLD, exit_code);   // of another communicator MPICH ends this rank alone
}

static const char *mrc_mpi_host(const mrc_comm *comm, int rank) {
    return ((const mrc_mpi *)comm->self)->hosts[rank];
}

static void mrc_mpi_free(mrc_mpi *m) {
    for (int k = 0; k < 2; k++) {
        free(m->two[k].list);
        free(m->two[k].peer);
    }
    free(m->sums);
    free(m->hosts);
    free(m->staging);
    free(m->status);
    free(m->index);
    free(m);
}
static void mrc_mpi_destroy(mrc_comm *comm) {
    mrc_mpi *m = (mrc_mpi *)comm->self;
    int over = 0;
    MPI_Comm_free(&m->world);
    mrc_mpi_free(m);
    if (MPI_Finalized(&over) == MPI_SUCCESS && !over) MPI_Finalize();
}

static mrc_status mrc_mpi_room(mrc_mpi *m) {
    const size_t n = (size_t)m->base.n_ranks;
    for (int k = 0; k < 2; k++) {
        m->two[k].list = calloc(2 * n, sizeof *m->two[k].list);
        m->two[k].peer = calloc(2 * n, sizeof *m->two[k].peer);
        if (!m->two[k].list || !m->two[k].peer) return MRC_ERR_MEM;
    }
    m->hosts = calloc(n, sizeof *m->hosts);
    m->staging = malloc(2 * n * MRC_MPI_PIECE);
    m->status = calloc(2 * n, sizeof *m->status);
    m->index = calloc(2 * n, sizeof *m->index);
    return m->hosts && m->staging && m->status && m->index ? MRC_OK : MRC_ERR_MEM;
}

// Whether a launcher started this process: mpirun of either, or srun.  MPI_Init alone takes half a
// second, so a program asks this first.
__attribute__((unused))
static int mrc_mpi_launched(void) {
    return getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMI_SIZE") || getenv("PMIX_RANK");
}

// Begins MPI, before the process has other threads.
__attribute__((unused))
static mrc_status mrc_comm_mpi_new(mrc_comm **out, const mrc_mpi_desc *desc) {
    char host[MPI_MAX_PROCESSOR_NAME] = "";
    int level = 0, bytes = 0;
    MPI_Comm local;
    *out = NULL;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS
        || level < MPI_THREAD_FUNNELED) return MRC_ERR_UNSUPPORTED;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    mrc_mpi *m = calloc(1, sizeof *m);
    if (!m) return MRC_ERR_MEM;
    mrc_comm *c = &m->base;
    *c = (mrc_comm){ .size = sizeof *c, .api = MRC_COMM_API, .name = "mpi", .self = m,
                     .reduce = mrc_mpi_reduce, .gather = mrc_mpi_gather, .wait = mrc_mpi_done,
                     .poll = mrc_mpi_poll, .broadcast = mrc_mpi_broadcast,
                     .exchange = mrc_mpi_exchange,
                     .abort = mrc_mpi_abort, .host = mrc_mpi_host, .destroy = mrc_mpi_destroy };
    m->timeout = desc ? desc->timeout : 0;
    mrc_status s = mrc_mpi_check(m, MPI_Comm_dup(MPI_COMM_WORLD, &m->world));
    if (s == MRC_OK) {
        MPI_Comm_set_errhandler(m->world, MPI_ERRORS_RETURN);
        MPI_Comm_rank(m->world, &c->rank);
        MPI_Comm_size(m->world, &c->n_ranks);
        s = mrc_mpi_check(m, MPI_Comm_split_type(m->world, MPI_COMM_TYPE_SHARED, c->rank,
                                                 MPI_INFO_NULL, &local));
    }
    if (s == MRC_OK) {
        MPI_Comm_rank(local, &c->local_rank);
        MPI_Comm_size(local, &c->n_local);
        MPI_Comm_free(&local);
        s = mrc_mpi_room(m);
    }
    if (s == MRC_OK) {
        MPI_Get_processor_name(host, &bytes);
        s = mrc_mpi_exchange(c, host, m->hosts, sizeof host);
    }
    if (s == MRC_OK) *out = c;
    else mrc_mpi_free(m);
    return s;
}
#undef MRC_MPI_TRY

#endif
