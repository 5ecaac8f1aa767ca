// nccl: a communicator (mrc_comm) over NCCL, for training on several GPUs of NVIDIA's
//
// Include this behind mrc.h in the one file that trains.  It is made on top of another communicator
// (backends/mpi.h), which goes on to carry what is in host memory; what is in device memory goes by
// NCCL:
//
//     #include "mrc.h"
//     #include "backends/mpi.h"
//     #include "backends/nccl.h"
//     ...
//     mrc_comm *mpi = NULL, *comm = NULL;
//     if (mrc_comm_mpi_new(&mpi, &(mrc_mpi_desc){ .timeout = 1800 }) != MRC_OK) ..
//     if (mrc_backend_cuda_new(&be, &(mrc_cuda_desc){ .device = mpi->local_rank }) != MRC_OK) ..
//     if (mrc_comm_nccl_new(&comm, mpi, be, &(mrc_nccl_desc){ .timeout = 1800 }) != MRC_OK) ..
//     ctx_desc.comm = comm;
//     ..
//     mrc_comm_free(comm);            // before the backend; frees mpi as well
//
// Sums have the bits of adding one rank after the other: every rank sends each slice to its owner
// (ncclSend, ncclRecv), who adds what it receives in the order of the ranks, by its backend's
// `fold`.  ncclAllReduce and ncclReduceScatter add in orders of their own and are never called.
// Pieces travel on a stream of their own while the one before is added.
//
// NCCL's communicator does not block: every wait asks for its errors and has a deadline that starts
// anew with any piece that arrives.  After an error the communicator has ended, and each later call
// fails with the same text.
#ifndef MRC_NCCL_H
#define MRC_NCCL_H
#if defined(MRC_NCCL_SHIM)              // tests bring a stand-in of NCCL and CUDA's runtime, and
#include "nccl_shim.h"                  // tell the compiler where: -I tests/cuda
#elif !defined(NCCL_H_)
#include <cuda_runtime.h>
#include <nccl.h>
#endif
#include "cuda.h"
#include "pieces.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if NCCL_VERSION_CODE < 21400           // NCCL_VERSION(2, 14, 0): communicators that do not block
#error "NCCL is too old: 2.14 or later is needed"
#endif

typedef struct mrc_nccl_desc {
    double timeout;                     // seconds without any progress; 0: for ever
    size_t piece;                       // bytes of a message, a multiple of 64; 0: 8 MiB
} mrc_nccl_desc;

typedef struct mrc_nccl {
    mrc_comm     base;
    mrc_comm    *host;                  // for what is in host memory; owned
    mrc_backend *be;
    ncclComm_t   nccl;                  // NULL: not begun, or ended by an error
    double       timeout;
    size_t       piece;
    int          device;
    cudaStream_t work, wire;            // the backend's; what travels
    cudaEvent_t  ready;                 // what is sent has been computed
    cudaEvent_t  arrived[2], added[2];  // of the two pieces that may be on their way
    char        *staging;               // on the device: two pieces from each rank
} mrc_nccl;

#define MRC_NCCL_TRY(x)                                                                     \
    do {                                                                                    \
        mrc_status mrc_nccl_status_ = (x);                                                  \
        if (mrc_nccl_status_ != MRC_OK) return mrc_nccl_status_;                            \
    } while (0)

// Ends the communicator, so that no kernel of NCCL's waits on the device for ever.
static mrc_status mrc_nccl_ended(mrc_nccl *n) {
    if (n->nccl) ncclCommAbort(n->nccl);
    n->nccl = NULL;
    return MRC_ERR_IO;
}

static mrc_status mrc_nccl_failed(mrc_nccl *n, ncclResult_t result, const char *what) {
    const char *more = ncclGetLastError(n->nccl);
    const int bytes = more ? (int)strcspn(more, "\n") : 0;
    snprintf(n->base.error, sizeof n->base.error, "NCCL: %s: %.60s%s%.*s", what,
             ncclGetErrorString(result), bytes ? ": " : "", bytes > 120 ? 120 : bytes,
             more ? more : "");
    return mrc_nccl_ended(n);
}

static mrc_status mrc_nccl_cuda(mrc_nccl *n, cudaError_t error, const char *what) {
    if (error == cudaSuccess) return MRC_OK;
    (void)cudaGetLastError();           // it is no error of the next kernel
    snprintf(n->base.error, sizeof n->base.error, "NCCL: %s: CUDA: %.120s", what,
             cudaGetErrorString(error));
    return mrc_nccl_ended(n);
}

// NCCL does not say whose part is missing, so all that it may be are named, as far as they fit.
static mrc_status mrc_nccl_missing(mrc_nccl *n, const char *what) {
    const int ranks = n->base.n_ranks;
    char *text = n->base.error;
    const size_t room = sizeof n->base.error;
    snprintf(text, room, "NCCL: %s: nothing from %s", what,
             ranks == 2 ? "" : ranks == 1 ? "the device" : "one of ");
    for (int r = 0, k = 0; r < ranks; r++) {
        const size_t used = strlen(text);
        if (r == n->base.rank) continue;
        if (used > room - 80) {
            snprintf(text + used, room - used, ", ..");
            break;
        }
        snprintf(text + used, room - used, "%srank %d (%.30s)", k++ ? ", " : "", r,
                 n->host->host(n->host, r));
    }
    const size_t used = strlen(text);
    snprintf(text + used, room - used, " for %g s", n->timeout);
    return mrc_nccl_ended(n);
}

// Until NCCL has taken the last call and, where one is given, the event has happened.
static mrc_status mrc_nccl_until(mrc_nccl *n, const cudaEvent_t *event, const char *what) {
    const double since = mrc_pieces_seconds();
    for (;;) {
        ncclResult_t state = ncclInProgress;
        const ncclResult_t asked = ncclCommGetAsyncError(n->nccl, &state);
        if (asked != ncclSuccess) state = asked;
        if (state != ncclSuccess && state != ncclInProgress) {
            return mrc_nccl_failed(n, state, what);
        }
        if (state == ncclSuccess) {
            const cudaError_t e = event ? cudaEventQuery(*event) : cudaSuccess;
            if (e == cudaSuccess) return MRC_OK;
            if (e != cudaErrorNotReady) return mrc_nccl_cuda(n, e, what);
            (void)cudaGetLastError();   // "not ready" is no error of the next kernel
        }
        if (n->timeout > 0 && mrc_pieces_seconds() - since > n->timeout) {
            return mrc_nccl_missing(n, what);
        }
        sched_yield();
    }
}

// The end of a group, in which `result` is the first error, if there is one; then the event.
static mrc_status mrc_nccl_grouped(mrc_nccl *n, ncclResult_t result, cudaEvent_t arrived,
                                   const char *what) {
    const ncclResult_t end = ncclGroupEnd();
    if (result == ncclSuccess) result = end;
    if (result != ncclSuccess && result != ncclInProgress) return mrc_nccl_failed(n, result, what);
    MRC_NCCL_TRY(mrc_nccl_until(n, NULL, what));        // only then it is on the stream
    return mrc_nccl_cuda(n, cudaEventRecord(arrived, n->wire), what);
}
static void mrc_nccl_first(ncclResult_t *result, ncclResult_t next) {
    if (*result == ncclSuccess && next != ncclInProgress) *result = next;
}

static size_t mrc_nccl_part(const mrc_nccl *n, size_t bytes, size_t at) {
    return mrc_pieces_part(bytes, at, n->piece);
}
static char *mrc_nccl_staged(const mrc_nccl *n, int buffer, int rank) {
    return mrc_pieces_staged(n->staging, n->piece, n->base.n_ranks, buffer, rank);
}

// What the wire carries comes after what the backend has computed so far.
static mrc_status mrc_nccl_start(mrc_nccl *n, const mrc_backend *be, const char *what) {
    if (be != n->be) {
        snprintf(n->base.error, sizeof n->base.error, "NCCL: %s: another backend than the "
                 "communicator's", what);
        return MRC_ERR_ARG;
    }
    if (!n->nccl) return MRC_ERR_IO;    // the text is there
    MRC_NCCL_TRY(mrc_nccl_cuda(n, cudaSetDevice(n->device), what));
    MRC_NCCL_TRY(mrc_nccl_cuda(n, cudaEventRecord(n->ready, n->work), what));
    return mrc_nccl_cuda(n, cudaStreamWaitEvent(n->wire, n->ready, 0), what);
}

static const char mrc_nccl_sum[] = "a sum over the ranks", mrc_nccl_all[] = "a gather of slices";

// Receives what other ranks have for this rank's piece, sends them what this one has for theirs.
static mrc_status mrc_nccl_reduce_post(mrc_nccl *n, const mrc_comm_slices *b, const void *data,
                                       size_t at, int members, int buffer) {
    const int rank = n->base.rank, ranks = n->base.n_ranks;
    const size_t here = mrc_nccl_part(n, mrc_pieces_bytes(b, rank), at);
    ncclResult_t result = ncclSuccess;
    // The buffer's last piece has been added.
    MRC_NCCL_TRY(mrc_nccl_cuda(n, cudaStreamWaitEvent(n->wire, n->added[buffer], 0),
                               mrc_nccl_sum));
    mrc_nccl_first(&result, ncclGroupStart());
    for (int s = 0; here && s < members; s++) {
        if (s == rank) continue;
        mrc_nccl_first(&result, ncclRecv(mrc_nccl_staged(n, buffer, s), here, ncclUint8, s,
                                         n->nccl, n->wire));
    }
    for (int d = 1; rank < members && d < ranks; d++) {
        const int s = (rank + d) % ranks;
        const size_t theirs = mrc_nccl_part(n, mrc_pieces_bytes(b, s), at);
        if (!theirs) continue;
        mrc_nccl_first(&result, ncclSend(mrc_pieces_at(b, data, s) + at, theirs, ncclUint8, s,
                                         n->nccl, n->wire));
    }
    return mrc_nccl_grouped(n, result, n->arrived[buffer], mrc_nccl_sum);
}

// sum = or += the parts of a piece, in the order of ranks.
static mrc_status mrc_nccl_add(mrc_nccl *n, const mrc_comm_slices *b, const void *data, void *sum,
                               size_t at, int first, int members, int buffer) {
    const int rank = n->base.rank;
    const size_t here = mrc_nccl_part(n, mrc_pieces_bytes(b, rank), at);
    const size_t count = here / mrc_dtype_bytes(b->dtype);
    for (int s = 0; here && s < members; s++) {
        const char *from = s == rank ? mrc_pieces_at(b, data, s) + at
                                     : mrc_nccl_staged(n, buffer, s);
        const mrc_fold_args a = { .n = count, .n_parts = 1, .parts = { b->dtype, count, from },
                                  .y = { b->dtype, count, (char *)sum + at, !(first && s == 0) } };
        MRC_NCCL_TRY(n->be->kernels[b->dtype].fold(n->be, &a));
    }
    return mrc_nccl_cuda(n, cudaEventRecord(n->added[buffer], n->work), mrc_nccl_sum);
}

static mrc_status mrc_nccl_reduce(mrc_comm *comm, mrc_backend *be, const mrc_comm_slices *b,
                                  const void *data, void *sum, int first, int members) {
    mrc_nccl *n = (mrc_nccl *)comm->self;
    const size_t most = mrc_pieces_longest(b, n->base.n_ranks);
    int now = 0;
    if (!be->kernels[b->dtype].fold) return MRC_ERR_UNSUPPORTED;
    MRC_NCCL_TRY(mrc_nccl_start(n, be, mrc_nccl_sum));
    if (most) MRC_NCCL_TRY(mrc_nccl_reduce_post(n, b, data, 0, members, 0));
    for (size_t at = 0; at < most; at += n->piece, now = !now) {
        if (at + n->piece < most) {
            MRC_NCCL_TRY(mrc_nccl_reduce_post(n, b, data, at + n->piece, members, !now));
        }
        MRC_NCCL_TRY(mrc_nccl_until(n, &n->arrived[now], mrc_nccl_sum));
        MRC_NCCL_TRY(mrc_nccl_add(n, b, data, sum, at, first, members, now));
    }
    return MRC_OK;
}

static mrc_status mrc_nccl_gather(mrc_comm *comm, mrc_backend *be, const mrc_comm_slices *b,
                                  const void *slice, void *data) {
    mrc_nccl *n = (mrc_nccl *)comm->self;
    const size_t most = mrc_pieces_longest(b, n->base.n_ranks);
    int k = 0;
    MRC_NCCL_TRY(mrc_nccl_start(n, be, mrc_nccl_all));
    for (size_t at = 0; at < most + n->piece; at += n->piece, k = !k) {
        ncclResult_t result = ncclSuccess;
        if (at < most) {
            mrc_nccl_first(&result, ncclGroupStart());
            for (int s = 0; s < comm->n_ranks; s++) {
                const size_t theirs = mrc_nccl_part(n, mrc_pieces_bytes(b, s), at);
                char *to = mrc_pieces_at(b, data, s) + at;
                const void *from = s == comm->rank ? (const char *)slice + at : to;
                if (!theirs) continue;
                mrc_nccl_first(&result, ncclBroadcast(from, to, theirs, ncclUint8, s, n->nccl,
                                                      n->wire));
            }
            MRC_NCCL_TRY(mrc_nccl_grouped(n, result, n->arrived[k], mrc_nccl_all));
        }
        if (at) MRC_NCCL_TRY(mrc_nccl_until(n, &n->arrived[!k], mrc_nccl_all));
    }
    return MRC_OK;
}

// Nothing is on its way when reduce() and gather() return; sums are on the backend's stream.
static mrc_status mrc_nccl_done(mrc_comm *comm) {
    (void)comm;
    return MRC_OK;
}

//==============================================================================
// Host memory: the other communicator's
//==============================================================================
static mrc_status mrc_nccl_from_host(mrc_comm *comm, mrc_status s) {
    const mrc_nccl *n = (const mrc_nccl *)comm->self;
    if (s != MRC_OK) snprintf(comm->error, sizeof comm->error, "%.255s", n->host->error);
    return s;
}
static mrc_status mrc_nccl_exchange(mrc_comm *comm, const void *mine, void *all, size_t bytes) {
    mrc_comm *host = ((mrc_nccl *)comm->self)->host;
    return mrc_nccl_from_host(comm, host->exchange(host, mine, all, bytes));
}
static mrc_status mrc_nccl_broadcast(mrc_comm *comm, void *data, size_t bytes, int root) {
    mrc_comm *host = ((mrc_nccl *)comm->self)->host;
    return mrc_nccl_from_host(comm, host->broadcast(host, data, bytes, root));
}
static void mrc_nccl_abort(mrc_comm *comm, int exit_code) {
    mrc_comm *host = ((mrc_nccl *)comm->self)->host;
    host->abort(host, exit_code);
}
static const char *mrc_nccl_host(const mrc_comm *comm, int rank) {
    const mrc_comm *host = ((const mrc_nccl *)comm->self)->host;
    return host->host(host, rank);
}

//==============================================================================
// Beginning and end
//==============================================================================
// Not the other communicator.
static void mrc_nccl_free(mrc_nccl *n) {
    if (n->nccl && ncclCommFinalize(n->nccl) != ncclInvalidArgument
        && mrc_nccl_until(n, NULL, "the end") == MRC_OK) ncclCommDestroy(n->nccl);
    for (int k = 0; k < 2; k++) {
        if (n->arrived[k]) cudaEventDestroy(n->arrived[k]);
        if (n->added[k]) cudaEventDestroy(n->added[k]);
    }
    if (n->ready) cudaEventDestroy(n->ready);
    if (n->wire) cudaStreamDestroy(n->wire);
    if (n->staging) n->be->free(n->be, n->staging);
    free(n);
}
static void mrc_nccl_destroy(mrc_comm *comm) {
    mrc_nccl *n = (mrc_nccl *)comm->self;
    mrc_comm *host = n->host;
    mrc_nccl_free(n);
    mrc_comm_free(host);
}

// What a rank tells the others before NCCL begins.
typedef struct mrc_nccl_card {
    ncclUniqueId id;                    // rank 0's
    int32_t status, version;
    char    bus[32], error[256];
} mrc_nccl_card;

// What needs no other rank.
static mrc_status mrc_nccl_open(mrc_nccl *n, mrc_nccl_card *card) {
    const char *what = "the beginning";
    const unsigned plain = cudaEventDisableTiming;
    int version = 0;
    if (strcmp(n->be->name, "cuda") != 0) {
        snprintf(n->base.error, sizeof n->base.error, "NCCL: the backend is %.40s (expected cuda)",
                 n->be->name);
        return MRC_ERR_ARG;
    }
    n->device = mrc_cuda_device(n->be);
    n->work = (cudaStream_t)mrc_cuda_stream(n->be);
    MRC_NCCL_TRY(mrc_nccl_cuda(n, cudaSetDevice(n->device), what));
    MRC_NCCL_TRY(mrc_nccl_cuda(n, cudaDeviceGetPCIBusId(card->bus, sizeof card->bus, n->device),
                               what));
    MRC_NCCL_TRY(mrc_nccl_cuda(n, cudaStreamCreateWithFlags(&n->wire, cudaStreamNonBlocking),
                               what));
    MRC_NCCL_TRY(mrc_nccl_cuda(n, cudaEventCreateWithFlags(&n->ready, plain), what));
    for (int k = 0; k < 2; k++) {
        MRC_NCCL_TRY(mrc_nccl_cuda(n, cudaEventCreateWithFlags(&n->arrived[k], plain), what));
        MRC_NCCL_TRY(mrc_nccl_cuda(n, cudaEventCreateWithFlags(&n->added[k], plain), what));
    }
    const size_t ranks = (size_t)n->base.n_ranks;
    n->staging = n->piece > SIZE_MAX / 2 / ranks ? NULL
               : (char *)n->be->alloc(n->be, 2 * ranks * n->piece);
    if (!n->staging) {
        snprintf(n->base.error, sizeof n->base.error, "NCCL: the device has no memory for %zu "
                 "pieces of %zu bytes", 2 * ranks, n->piece);
        return MRC_ERR_MEM;
    }
    ncclResult_t result = ncclGetVersion(&version);
    card->version = version;
    if (result == ncclSuccess && n->base.rank == 0) result = ncclGetUniqueId(&card->id);
    return result == ncclSuccess ? MRC_OK : mrc_nccl_failed(n, result, what);
}

// The same for all ranks: the first error, another version, two ranks on one device (of which NCCL
// would say "invalid usage").
static mrc_status mrc_nccl_judge(mrc_nccl *n, const mrc_nccl_card *all) {
    char *text = n->base.error;
    for (int r = 0; r < n->base.n_ranks; r++) {
        const char *host = n->host->host(n->host, r);
        if (all[r].status != MRC_OK) {
            if (r != n->base.rank) {
                snprintf(text, sizeof n->base.error, "rank %d (%.30s): %.200s", r, host,
                         all[r].error);
            }
            return (mrc_status)all[r].status;
        }
        if (all[r].version != all[0].version) {
            snprintf(text, sizeof n->base.error, "NCCL: rank %d (%.60s) has version %d (expected "
                     "rank 0's, %d)", r, host, (int)all[r].version, (int)all[0].version);
            return MRC_ERR_ARG;
        }
        for (int q = 0; q < r; q++) {
            if (strcmp(all[q].bus, all[r].bus) != 0
                || strcmp(n->host->host(n->host, q), host) != 0) continue;
            snprintf(text, sizeof n->base.error, "NCCL: ranks %d and %d are on one GPU (found %s "
                     "on %.60s, expected one for each: start fewer ranks there)", q, r,
                     all[r].bus, host);
            return MRC_ERR_ARG;
        }
    }
    return MRC_OK;
}

static mrc_status mrc_nccl_begin(mrc_nccl *n) {
    const int ranks = n->base.n_ranks;
    mrc_nccl_card mine, *all;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    memset(&mine, 0, sizeof mine);
    all = (mrc_nccl_card *)calloc((size_t)ranks, sizeof *all);
    if (!all) return MRC_ERR_MEM;
    mrc_status s = mrc_nccl_open(n, &mine);
    mine.status = (int32_t)s;
    snprintf(mine.error, sizeof mine.error, "%s", n->base.error);
    s = mrc_nccl_exchange(&n->base, &mine, all, sizeof mine);
    if (s == MRC_OK) s = mrc_nccl_judge(n, all);
    if (s == MRC_OK) {
        const ncclResult_t result = ncclCommInitRankConfig(&n->nccl, ranks, all[0].id,
                                                           n->base.rank, &config);
        s = result == ncclSuccess || result == ncclInProgress
          ? mrc_nccl_until(n, NULL, "the beginning")
          : mrc_nccl_failed(n, result, "the beginning");
    }
    free(all);
    return s;
}

// Collective.  `be` is a cuda instance, each rank's on a device of its own; it outlives the
// communicator, whose contexts have it too.  From then on `host` belongs to *out.  After an error
// it is still the caller's, and host->error says what is wrong.
__attribute__((unused))
static mrc_status mrc_comm_nccl_new(mrc_comm **out, mrc_comm *host, mrc_backend *be,
                                    const mrc_nccl_desc *desc) {
    *out = NULL;
    mrc_nccl *n = (mrc_nccl *)calloc(1, sizeof *n);
    if (!n) return MRC_ERR_MEM;
    n->base = (mrc_comm){ .size = sizeof n->base, .api = MRC_COMM_API, .rank = host->rank,
                          .n_ranks = host->n_ranks, .local_rank = host->local_rank,
                          .n_local = host->n_local, .name = "nccl", .self = n,
                          .reduce = mrc_nccl_reduce, .gather = mrc_nccl_gather,
                          .wait = mrc_nccl_done, .broadcast = mrc_nccl_broadcast,
                          .exchange = mrc_nccl_exchange, .abort = mrc_nccl_abort,
                          .host = mrc_nccl_host, .destroy = mrc_nccl_destroy };
    n->host = host;
    n->be = be;
    n->timeout = desc ? desc->timeout : 0;
    n->piece = desc && desc->piece ? desc->piece : (size_t)8 << 20;
    n->piece = n->piece < MRC_ALIGNMENT ? MRC_ALIGNMENT : n->piece - n->piece % MRC_ALIGNMENT;
    const mrc_status s = mrc_nccl_begin(n);
    if (s == MRC_OK) {
        *out = &n->base;
        return s;
    }
    snprintf(host->error, sizeof host->error, "%.255s",
             n->base.error[0] ? n->base.error : mrc_status_string(s));
    mrc_nccl_free(n);
    return s;
}
#undef MRC_NCCL_TRY

#endif
