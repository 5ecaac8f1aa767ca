// train on several ranks: MPI and NCCL, who writes, what all must agree on, how a rank ends
//
// Every rank runs the same program on the same data; mrc_train_step() shares the micro-batches out,
// mrc_predict() the batches of an evaluation.  All ranks are given all logits, so they come to the
// same figures, best/, patience and end by themselves.  Rank 0 alone prints, logs and writes.
#ifndef TRAIN_RANKS_H
#define TRAIN_RANKS_H
#include "train_state.h"
#ifdef MRC_MPI
#include "../backends/mpi.h"
#ifdef MRC_NCCL
#include "../backends/nccl.h"
#endif
#endif

#ifndef MRC_COMMIT
#define MRC_COMMIT "unknown"            // build.sh says
#endif

enum { DDP_AUTO, DDP_NONE, DDP_MPI, DDP_NCCL };

static mrc_comm *ranks_comm;            // for the end of the program, from wherever it comes

// Ends the whole job, with this rank's exit code: one that leaves alone would leave the others
// waiting, and a launcher may take its exit for success.
static void ranks_end(int code) {
    mrc_comm *comm = ranks_comm;
    ranks_comm = NULL;
    if (!comm) return;
    fflush(stderr);
    if (comm->abort) comm->abort(comm, code);
}
static void ranks_exit(void) { ranks_end(TOOL_IO); }

__attribute__((unused))
static void ranks_prefix(const mrc_comm *comm) {
    static char prefix[96];
    if (comm->n_ranks < 2) return;
    snprintf(prefix, sizeof prefix, "rank %d (%.60s): ", comm->rank, comm->host(comm, comm->rank));
    tool_prefix = prefix;
}

#ifdef MRC_MPI
static void ranks_begin_mpi(run *r) {
    const mrc_mpi_desc desc = { .timeout = r->a->ddp_timeout };
    const mrc_status s = mrc_comm_mpi_new(&r->comm, &desc);
    if (s != MRC_OK) tool_fail(TOOL_IO, "MPI: cannot begin (%s)", mrc_status_string(s));
}
#endif

// The ranks of a host take its GPUs in turn, unless each of them sees its own only.  What two of
// them share NCCL refuses, with a line that says so.
static void ranks_choose_device(const run *r) {
#ifdef MRC_CUDA
    const char *own = getenv("MRC_CUDA_DEVICE");
    const int devices = own && *own ? 0 : mrc_cuda_devices();
    if (devices > 0) tool_cuda_device = r->comm->local_rank % devices;
#else
    (void)r;
#endif
}

// Two flags of a command line that say how many micro-batches a step has say the same.  (A file of
// flags may be another run's, with its default of one of the two.)
static void ranks_check_step(const run *r, size_t n) {
    const int both = tool_flag_given(r->flags, "gradient_accumulation_steps") == TOOL_GIVEN
                  && tool_flag_given(r->flags, "micro_batches_per_step") == TOOL_GIVEN;
    if (!both || r->a->micro_batches == r->a->accumulation * n) return;
    tool_fail(TOOL_USAGE, "--micro_batches_per_step: does not go with "
              "--gradient_accumulation_steps %zu (found %zu, expected %zu on %zu ranks, or one "
              "of the two flags)", r->a->accumulation, r->a->micro_batches,
              r->a->accumulation * n, n);
}

// Before other threads exist.  Sets r->comm, who is quiet, and the threads of this rank.
static void ranks_begin(run *r) {
    r->micro_batches = r->a->accumulation;
#ifndef MRC_NCCL
    if (r->a->ddp_backend == DDP_NCCL) {
        tool_fail(TOOL_USAGE, "--ddp_backend: this build has no NCCL (found nccl, expected auto, "
                  "none or mpi; ./build.sh takes it in where MPI, CUDA and <nccl.h> are found)");
    }
#endif
#ifdef MRC_MPI
    if (r->a->ddp_backend == DDP_MPI || r->a->ddp_backend == DDP_NCCL
        || (r->a->ddp_backend == DDP_AUTO && mrc_mpi_launched())) ranks_begin_mpi(r);
#else
    if (r->a->ddp_backend == DDP_MPI) {
        tool_fail(TOOL_USAGE, "--ddp_backend: this build has no MPI (found mpi, expected auto or "
                  "none; ./build.sh finds mpicc's library, or MPICC names one)");
    }
#endif
    const size_t n = r->comm ? (size_t)r->comm->n_ranks : 1;
    r->micro_batches = r->a->micro_batches ? r->a->micro_batches : r->a->accumulation * n;
    if (!r->comm) {
        ranks_check_step(r, 1);
        return;
    }
    ranks_comm = tool_comm = r->comm;
    if (r->a->task && n > 1) {
        tool_quiet = r->comm->rank != 0;
        tool_fail(TOOL_USAGE, "--task: retrieval is trained by one process (found %zu ranks, "
                  "expected 1)", n);
    }
    tool_on_fail = ranks_end;
    atexit(ranks_exit);
    ranks_prefix(r->comm);
    tool_quiet = r->comm->rank != 0;
    ranks_check_step(r, n);
    signal(SIGUSR1, tool__on_signal);   // launchers pass this one on at once
    const tool_flag *threads = tool_common_flags;
    while (strcmp(threads->name, "threads") != 0) threads++;
    const size_t allowed = mrc_processors(), local = (size_t)r->comm->n_local;
    // Where the launcher has bound a rank to some processors they are its own.
    const int bound = allowed < (size_t)sysconf(_SC_NPROCESSORS_ONLN);
    if (!threads->given && !bound && local > 1) {
        tool_common.threads = allowed > local ? allowed / local : 1;
    }
    ranks_choose_device(r);
}

// Once the backend is there: gradients in a device's memory go by NCCL.
static void ranks_use(run *r) {
    if (!r->comm) return;
    const int cuda = !strcmp(r->be->name, "cuda");
    if (!cuda && r->a->ddp_backend == DDP_NCCL) {
        tool_fail(TOOL_USAGE, "--ddp_backend: NCCL is for --backend cuda (found nccl with %s, "
                  "expected auto or mpi)", r->be->name);
    }
    if (cuda) {
#ifdef MRC_NCCL
        const mrc_nccl_desc desc = { .timeout = r->a->ddp_timeout };
        mrc_comm *comm = NULL;
        if (r->a->ddp_backend == DDP_MPI) {
            tool_fail(TOOL_USAGE, "--ddp_backend: MPI sums what is in host memory (found mpi with "
                      "--backend cuda, expected auto or nccl)");
        }
        const mrc_status s = mrc_comm_nccl_new(&comm, r->comm, r->be, &desc);
        if (s != MRC_OK) tool_fail(tool_exit_code(s), "%s", r->comm->error);
        ranks_comm = tool_comm = r->comm = comm;
#else
        tool_fail(TOOL_USAGE, "--backend: this build has no NCCL, by which several ranks train on "
                  "GPUs (found cuda, expected cpu or naive, or one process)");
#endif
    }
    tool_note("%d ranks of %s, %d on this host, %zu threads each; %zu micro-batches a step",
              r->comm->n_ranks, r->comm->name, r->comm->n_local, tool_common.threads,
              r->micro_batches);
}

// Ends the communication: all ranks are here, and may go one by one.
static void ranks_leave(run *r) {
    if (!r->comm) return;
    mrc_comm_same(r->ctx, "the end", "here");
    ranks_comm = tool_comm = NULL;
    mrc_comm_free(r->comm);
    r->comm = NULL;
}

// The same on all ranks, or the program ends and says who differs.
static void ranks_same(run *r, const char *what, const char *text) {
    if (!r->comm) return;
    const mrc_status s = mrc_comm_same(r->ctx, what, text);
    if (s == MRC_OK) return;
    tool_note("%s", mrc_ctx_message(r->ctx));           // rank 0's: once is enough
    ranks_leave(r);
    exit((int)tool_exit_code(s));
}

// bytes of rank 0 to all.
static void ranks_tell(run *r, void *data, size_t bytes) {
    if (!r->comm) return;
    const mrc_status s = r->comm->broadcast(r->comm, data, bytes, 0);
    if (s != MRC_OK) tool_fail(tool_exit_code(s), "%s", r->comm->error);
}

// The identity of the run, member by member, and the flags that are no part of it but say what the
// ranks do together.
static void ranks_compare_identity(run *r) {
    static const char *const together[] = { "save_steps", "save_strategy", "eval_strategy",
                                            "load_best_model_at_end", "validation",
                                            "sharded_optimizer" };
    char name[256];
    mrc_json *identity;
    mrc_text t;
    mrc_text_init(&t, r->ctx);
    mrc_text_printf(&t, "{%s}", r->identity.data);
    tool_check_text(&t);
    tool_check(r->ctx, mrc_json_parse(r->ctx, &identity, "flags", t.data, t.bytes, 0));
    for (const mrc_json *group = identity->child; group; group = group->next) {
        const int flags = strcmp(group->key, "flags") == 0;
        mrc_text_free(&t);
        mrc_text_init(&t, r->ctx);
        for (const mrc_json *m = group->child; m; m = m->next) mrc_text_printf(&t, "%s ", m->key);
        tool_check_text(&t);
        if (!flags) ranks_same(r, "the list of inputs", t.data);
        for (const mrc_json *m = group->child; m; m = m->next) {
            snprintf(name, sizeof name, "%s%s", flags ? "--" : "", m->key);
            ranks_same(r, name, m->string ? m->string : "none");
        }
    }
    mrc_json_free(identity);
    for (const tool_flag *f = r->flags; f->name; f++) {
        for (size_t i = 0; i < sizeof together / sizeof *together; i++) {
            if (strcmp(f->name, together[i]) != 0) continue;
            mrc_text_free(&t);
            mrc_text_init(&t, r->ctx);
            tool_flag_text(&t, f);
            snprintf(name, sizeof name, "--%s", f->name);
            ranks_same(r, name, t.data);
        }
    }
    mrc_text_free(&t);
}

// What fixes a run's bits, compared once: versions, backend, functions of libm, flags, inputs,
// features.
static void ranks_compare(run *r) {
    char text[256];
    uint32_t crc = 0;
    if (!r->comm) return;
    snprintf(text, sizeof text, "%d, API %d and %d, %s", MRC_VERSION, MRC_BACKEND_API,
             MRC_COMM_API, MRC_COMMIT);
    ranks_same(r, "the build", text);
    snprintf(text, sizeof text, "%s %s", r->be->name, r->be->isa);
    ranks_same(r, "the backend (--backend)", text);
    volatile double x = 0.7310585786300049;         // computed here, not by the compiler
    snprintf(text, sizeof text, "%a %a %a %a", pow(x, 17), exp(x), log(x), cos(x));
    ranks_same(r, "libm", text);
    ranks_compare_identity(r);
    for (size_t i = 0; i < r->train.n; i++) {
        const mrc_feature *f = &r->train.list[i];
        crc = mrc_crc32c(crc, f->input_ids, (size_t)f->length * sizeof *f->input_ids);
    }
    snprintf(text, sizeof text, "%zu features, crc32c %08lx", r->train.n, (unsigned long)crc);
    ranks_same(r, "what --train_file gives", text);
}

// Whether all ranks have the same weights; else the run ends.
static void ranks_guard(run *r) {
    tool_check(r->ctx, mrc_comm_check(r->ctx, r->model->params));
}
#endif
