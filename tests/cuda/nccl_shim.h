// nccl_shim.h - the part of NCCL and of CUDA's runtime that backends/nccl.h uses, for processes on
// the CUDA shim, whose device memory is the process's own.  C11; included before backends/nccl.h,
// or by it with -DMRC_NCCL_SHIM.
//
// The ranks are processes, forked or started by mpirun.  The id is the name of a file, which every
// rank maps: it holds a slot for each pair of ranks, through which messages go in parts.  As with
// NCCL a group is under way when ncclGroupEnd returns: what moves it on are ncclCommGetAsyncError
// and cudaEventQuery, which never wait.
//
// What NCCL would answer by hanging, or not at all, is "invalid usage" with a text: a message
// outside of a group, a call or an event while the last group is not yet on its stream (calls that
// do not block), and messages of two ranks that do not match in kind, bytes or order.
//
// A rank fails when it is told so, by nccl_shim_fault or MRC_NCCL_FAULT=KIND@RANK:GROUP:
//     error       ncclCommGetAsyncError says ncclRemoteError from that group on
//     stall       the rank moves nothing from that group on, as behind a cut cable
//     refuse      the group is not accepted
#ifndef NCCL_SHIM_H
#define NCCL_SHIM_H
#define NCCL_H_                         // the real header's guard
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef TEST_HELPER
#define TEST_HELPER __attribute__((unused)) static
#endif

//==============================================================================
// CUDA's runtime: streams and events.  The shim's kernels are done when their launch returns.
//==============================================================================
typedef int cudaError_t;
enum { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorNotReady = 600 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
typedef struct nccl_shim_stream { unsigned issued, done; } *cudaStream_t;   // groups
typedef struct nccl_shim_event { cudaStream_t stream; unsigned target; } *cudaEvent_t;

//==============================================================================
// NCCL's types
//==============================================================================
#define NCCL_VERSION_CODE 22809
#define NCCL_CONFIG_INITIALIZER { 1, NCCL_VERSION_CODE }
typedef struct ncclConfig_t { int blocking, version; } ncclConfig_t;
typedef struct { char internal[128]; } ncclUniqueId;
typedef enum ncclResult_t {
    ncclSuccess, ncclUnhandledCudaError, ncclSystemError, ncclInternalError, ncclInvalidArgument,
    ncclInvalidUsage, ncclRemoteError, ncclInProgress
} ncclResult_t;
typedef enum ncclDataType_t { ncclInt8, ncclUint8 } ncclDataType_t;

enum { NCCL_SHIM_RANKS = 8, NCCL_SHIM_SLOT = 1 << 16, NCCL_SHIM_CALLS = 64, NCCL_SHIM_GROUPS = 4 };
typedef enum nccl_shim_kind { NCCL_SHIM_MESSAGE, NCCL_SHIM_BROADCAST } nccl_shim_kind;

// From one rank to another.  The sender fills it and sets `full`, the receiver clears it.
typedef struct nccl_shim_slot {
    unsigned       full;
    nccl_shim_kind kind;
    size_t         bytes, part;         // of the message, of this part
    char           data[NCCL_SHIM_SLOT];
} nccl_shim_slot;
typedef struct nccl_shim_area {
    unsigned       joined;
    nccl_shim_slot slot[NCCL_SHIM_RANKS][NCCL_SHIM_RANKS];
} nccl_shim_area;

typedef struct nccl_shim_call {
    nccl_shim_kind kind;
    int            sends, peer;
    char          *data;
    size_t         bytes, at;
} nccl_shim_call;
typedef struct nccl_shim_group {
    nccl_shim_call call[NCCL_SHIM_CALLS];
    int            n;
} nccl_shim_group;
typedef struct ncclComm {
    nccl_shim_area *area;
    int             rank, n, polls;     // polls: until the last call is accepted
    cudaStream_t    wire;
    nccl_shim_group group[NCCL_SHIM_GROUPS];    // that are under way, by number
    nccl_shim_group open;               // between GroupStart and GroupEnd
    ncclResult_t    state;
} *ncclComm_t;

TEST_HELPER struct nccl_shim_state {
    ncclComm_t  comm;                   // a process has one at most
    int         depth, device;
    char        why[128];               // of the last error
    struct { const char *kind; int rank; unsigned group; } fault;
    unsigned    groups, messages;       // for tests: how many there were
} nccl_shim;

//==============================================================================
// What moves
//==============================================================================
static ncclResult_t nccl_shim_no(ncclComm_t c, ncclResult_t result, const char *why) {
    snprintf(nccl_shim.why, sizeof nccl_shim.why, "%s", why);
    if (c && c->state == ncclSuccess) c->state = result;
    return result;
}

static int nccl_shim_fails(const ncclComm_t c, const char *kind, unsigned group) {
    static char word[16];
    const char *text = getenv("MRC_NCCL_FAULT");
    if (!nccl_shim.fault.kind && text
        && sscanf(text, "%15[a-z]@%d:%u", word, &nccl_shim.fault.rank,
                  &nccl_shim.fault.group) == 3) {
        nccl_shim.fault.kind = word;
    }
    return nccl_shim.fault.kind && !strcmp(nccl_shim.fault.kind, kind)
        && nccl_shim.fault.rank == c->rank && group >= nccl_shim.fault.group;
}

// One part of a call, where the slot is free or full; whether the call is done.
static int nccl_shim_step(ncclComm_t c, nccl_shim_call *call) {
    nccl_shim_slot *s = call->sends ? &c->area->slot[c->rank][call->peer]
                                    : &c->area->slot[call->peer][c->rank];
    if (call->at == call->bytes) return 1;
    if ((__atomic_load_n(&s->full, __ATOMIC_ACQUIRE) != 0) == call->sends) return 0;
    size_t part = call->bytes - call->at;
    if (part > NCCL_SHIM_SLOT) part = NCCL_SHIM_SLOT;
    if (call->sends) {
        s->kind = call->kind;
        s->bytes = call->bytes;
        s->part = part;
        memcpy(s->data, call->data + call->at, part);
    } else {
        if (s->kind != call->kind || s->bytes != call->bytes) {
            nccl_shim_no(c, ncclInvalidUsage, s->bytes != call->bytes ? "sizes do not match"
                                                                      : "kinds do not match");
            return 0;
        }
        memcpy(call->data + call->at, s->data, part);
    }
    call->at += part;
    __atomic_store_n(&s->full, (unsigned)call->sends, __ATOMIC_RELEASE);
    return call->at == call->bytes;
}

// Messages between two ranks keep their order, groups follow each other.
static void nccl_shim_progress(ncclComm_t c) {
    cudaStream_t w = c->wire;
    while (c->state == ncclSuccess && w && w->done < w->issued) {
        nccl_shim_group *g = &c->group[w->done % NCCL_SHIM_GROUPS];
        int left = 0, busy[2][NCCL_SHIM_RANKS] = { { 0 } };
        if (nccl_shim_fails(c, "stall", w->done)) return;
        if (nccl_shim_fails(c, "error", w->done)) {
            nccl_shim_no(c, ncclRemoteError, "the other end hung up");
            return;
        }
        for (int i = 0; i < g->n; i++) {
            nccl_shim_call *call = &g->call[i];
            int *before = &busy[call->sends][call->peer];
            if (*before || !nccl_shim_step(c, call)) left = *before = 1;
        }
        if (left) return;
        w->done++;
    }
}

//==============================================================================
// CUDA's calls
//==============================================================================
TEST_HELPER cudaError_t cudaSetDevice(int device) {
    nccl_shim.device = device;
    return cudaSuccess;
}
TEST_HELPER cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device) {
    snprintf(text, (size_t)bytes, "0000:%02x:00.0", device);
    return cudaSuccess;
}
TEST_HELPER cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
    *s = calloc(1, sizeof **s);
    return *s && flags == cudaStreamNonBlocking ? cudaSuccess : cudaErrorInvalidValue;
}
TEST_HELPER cudaError_t cudaStreamDestroy(cudaStream_t s) { free(s); return cudaSuccess; }
TEST_HELPER cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags) {
    return s && e && !flags ? cudaSuccess : cudaErrorInvalidValue;
}
TEST_HELPER cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
    *e = calloc(1, sizeof **e);
    return *e && flags == cudaEventDisableTiming ? cudaSuccess : cudaErrorInvalidValue;
}
TEST_HELPER cudaError_t cudaEventDestroy(cudaEvent_t e) { free(e); return cudaSuccess; }
// On the stream of the groups it stands for those issued so far; on others all is done.
TEST_HELPER cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    ncclComm_t c = nccl_shim.comm;
    e->stream = c && s == c->wire ? s : NULL;
    e->target = e->stream ? s->issued : 0;
    if (e->stream && c->polls) nccl_shim_no(c, ncclInvalidUsage, "an event before its group");
    return cudaSuccess;
}
TEST_HELPER cudaError_t cudaEventQuery(cudaEvent_t e) {
    if (e->stream && nccl_shim.comm) nccl_shim_progress(nccl_shim.comm);
    return !e->stream || e->stream->done >= e->target ? cudaSuccess : cudaErrorNotReady;
}
TEST_HELPER cudaError_t cudaGetLastError(void) { return cudaSuccess; }
TEST_HELPER const char *cudaGetErrorString(cudaError_t e) {
    return e == cudaErrorInvalidValue ? "invalid argument" : "an error of the shim";
}

//==============================================================================
// NCCL's calls
//==============================================================================
TEST_HELPER ncclResult_t ncclGetVersion(int *version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}
TEST_HELPER const char *ncclGetErrorString(ncclResult_t r) {
    return r == ncclInvalidUsage ? "invalid usage" : r == ncclRemoteError
         ? "remote process exited or there was a network error" : "internal error";
}
TEST_HELPER const char *ncclGetLastError(ncclComm_t c) {
    (void)c;
    return nccl_shim.why;
}

TEST_HELPER ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/tmp/nccl-shim-%ld", (long)getpid());
    unlink(id->internal);               // of a process that had this number and did not end well
    return ncclSuccess;
}

TEST_HELPER ncclResult_t ncclCommInitRankConfig(ncclComm_t *out, int n, ncclUniqueId id, int rank,
                                                ncclConfig_t *config) {
    const int fd = open(id.internal, O_RDWR | O_CREAT, 0600);
    const int made = fd >= 0 && ftruncate(fd, (off_t)sizeof(nccl_shim_area)) == 0;
    void *area = !made ? MAP_FAILED : mmap(NULL, sizeof(nccl_shim_area), PROT_READ | PROT_WRITE,
                                            MAP_SHARED, fd, 0);
    if (fd >= 0) close(fd);
    ncclComm_t c = calloc(1, sizeof *c);
    if (area == MAP_FAILED || !c || config->blocking || n > NCCL_SHIM_RANKS || nccl_shim.comm) {
        free(c);
        return nccl_shim_no(NULL, ncclInvalidArgument, "a communicator that blocks, or a second");
    }
    c->area = area;
    c->rank = rank;
    c->n = n;
    c->polls = 1;
    nccl_shim.comm = *out = c;
    if (__atomic_add_fetch(&c->area->joined, 1, __ATOMIC_ACQ_REL) == (unsigned)n) {
        unlink(id.internal);
    }
    return ncclInProgress;
}

// In progress until all ranks have joined, and for a moment after each call.
TEST_HELPER ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *state) {
    if (__atomic_load_n(&c->area->joined, __ATOMIC_ACQUIRE) < (unsigned)c->n) {
        *state = ncclInProgress;
        return ncclSuccess;
    }
    nccl_shim_progress(c);
    *state = c->state != ncclSuccess ? c->state : c->polls ? ncclInProgress : ncclSuccess;
    if (c->polls) c->polls--;
    return ncclSuccess;
}

static ncclResult_t nccl_shim_add(ncclComm_t c, cudaStream_t s, nccl_shim_call call) {
    if (!nccl_shim.depth) return nccl_shim_no(c, ncclInvalidUsage, "a message outside of a group");
    if (c->polls) return nccl_shim_no(c, ncclInvalidUsage, "a call before the last was accepted");
    if (call.peer < 0 || call.peer >= c->n || call.peer == c->rank || !call.data || !call.bytes
        || c->open.n == NCCL_SHIM_CALLS || (c->wire && c->wire != s)) {
        return nccl_shim_no(c, ncclInvalidArgument, "a message to nobody, or of nothing");
    }
    c->wire = s;
    c->open.call[c->open.n++] = call;
    nccl_shim.messages++;
    return ncclSuccess;
}
TEST_HELPER ncclResult_t ncclSend(const void *data, size_t n, ncclDataType_t type, int peer,
                                  ncclComm_t c, cudaStream_t s) {
    (void)type;
    return nccl_shim_add(c, s, (nccl_shim_call){ NCCL_SHIM_MESSAGE, 1, peer,
                                                 (char *)(uintptr_t)data, n, 0 });
}
TEST_HELPER ncclResult_t ncclRecv(void *data, size_t n, ncclDataType_t type, int peer,
                                  ncclComm_t c, cudaStream_t s) {
    (void)type;
    return nccl_shim_add(c, s, (nccl_shim_call){ NCCL_SHIM_MESSAGE, 0, peer, data, n, 0 });
}
TEST_HELPER ncclResult_t ncclBroadcast(const void *from, void *to, size_t n, ncclDataType_t type,
                                       int root, ncclComm_t c, cudaStream_t s) {
    ncclResult_t result = ncclSuccess;
    (void)type;
    if (root == c->rank && from != to) memcpy(to, from, n);
    for (int r = 0; r < c->n && result == ncclSuccess; r++) {
        if (r == c->rank || (c->rank != root && r != root)) continue;
        result = nccl_shim_add(c, s, (nccl_shim_call){ NCCL_SHIM_BROADCAST, c->rank == root, r, to,
                                                       n, 0 });
    }
    return result;
}

TEST_HELPER ncclResult_t ncclGroupStart(void) {
    nccl_shim.depth++;
    return ncclSuccess;
}
TEST_HELPER ncclResult_t ncclGroupEnd(void) {
    ncclComm_t c = nccl_shim.comm;
    if (!nccl_shim.depth) return nccl_shim_no(c, ncclInvalidUsage, "the end of no group");
    if (--nccl_shim.depth || !c || !c->open.n) return ncclSuccess;
    cudaStream_t w = c->wire;
    if (nccl_shim_fails(c, "refuse", w->issued)) {
        return nccl_shim_no(c, ncclInternalError, "no more channels");
    }
    if (w->issued - w->done == NCCL_SHIM_GROUPS) {
        return nccl_shim_no(c, ncclInvalidUsage, "more groups under way than the shim keeps");
    }
    c->group[w->issued++ % NCCL_SHIM_GROUPS] = c->open;
    c->open.n = 0;
    c->polls = 2;
    nccl_shim.groups++;
    return ncclInProgress;
}

TEST_HELPER ncclResult_t ncclCommFinalize(ncclComm_t c) {
    c->polls = 1;
    return ncclInProgress;
}
TEST_HELPER ncclResult_t ncclCommDestroy(ncclComm_t c) {
    munmap(c->area, sizeof *c->area);
    nccl_shim.comm = NULL;
    free(c);
    return ncclSuccess;
}
TEST_HELPER ncclResult_t ncclCommAbort(ncclComm_t c) { return ncclCommDestroy(c); }
#endif
