// mrc.h - v0.1.0 - extractive question answering in plain C: train a reader, run it, measure it
//
// A single-header library: RoBERTa and BERT encoders with a linear or BiLSTM head, their tokenizer,
// data sets, training with resumable checkpoints, decoding and metrics.  C11 and POSIX, no
// dependency beyond libc, libm and pthreads.
//
// Do this in *one* C file to create the implementation:
//     #define MRC_IMPLEMENTATION
//     #include "mrc.h"
// Include it before any system header, or compile with -D_POSIX_C_SOURCE=200809L.  If you rename
// the file, define MRC_SELF as its new name in quotes: the file includes itself.
//
// CONTENTS  (jump with:  grep -n '>>tag' mrc.h)
//     >>api.config  >>api.status  >>api.backend  >>api.ctx  >>api.utf8  >>api.json  >>api.file
//     >>api.safetensors  >>api.tensor  >>api.tape  >>api.random  >>api.ops  >>api.optim
//     >>api.tokenizer  >>api.dataset  >>api.encode  >>api.batch  >>api.decode  >>api.metrics
//     >>api.model  >>api.checkpoint  >>api.reader
//     >>impl.passes  >>impl.status  >>impl.alloc  >>impl.threads  >>impl.arena  >>impl.ctx
//     >>impl.utf8  >>impl.json  >>impl.file  >>impl.safetensors  >>impl.tensor  >>impl.grad
//     >>impl.tape  >>impl.recompute  >>impl.random
//     >>op.common  >>op.linear  >>op.gelu  >>op.layer_norm  >>op.dropout  >>op.cross_entropy
//     >>op.custom  >>op.table
//     >>impl.naive  >>impl.cpu  >>impl.optim  >>impl.vocabulary  >>impl.tokenizer
//     >>impl.dataset  >>impl.encode
//     >>impl.batch  >>impl.decode  >>impl.metrics  >>impl.model  >>impl.checkpoint
//     >>impl.reader  >>impl.tables

#ifndef MRC_H
#define MRC_H

//==============================================================================
// >>api.config
//==============================================================================
// Before the first system header: <stdint.h> already fixes what POSIX shows.
#if defined(MRC_IMPLEMENTATION) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MRC_VERSION_MAJOR 0
#define MRC_VERSION_MINOR 1
#define MRC_VERSION_PATCH 0
#define MRC_VERSION (MRC_VERSION_MAJOR * 10000 + MRC_VERSION_MINOR * 100 + MRC_VERSION_PATCH)

#ifndef MRCDEF
#ifdef MRC_STATIC
#define MRCDEF static __attribute__((unused))
#else
#define MRCDEF extern
#endif
#endif

#define MRC_MAX_DIMS  4
#define MRC_ALIGNMENT 64            // of every buffer: a cache line, an AVX-512 vector

// The element types: name, bytes.  i32 is for what a batch carries (ids, offsets, targets).
#define MRC_DTYPE_LIST(X) \
    X(F32, f32, 4) X(F64, f64, 8) X(F16, f16, 2) X(BF16, bf16, 2) X(I32, i32, 4)
typedef enum mrc_dtype {
#define MRC_X(NAME, name, bytes) MRC_DTYPE_##NAME,
    MRC_DTYPE_LIST(MRC_X)
#undef MRC_X
    MRC_DTYPE_COUNT
} mrc_dtype;

MRCDEF size_t      mrc_dtype_bytes(mrc_dtype dtype);        // 0 for a value that is no dtype
MRCDEF const char *mrc_dtype_name(mrc_dtype dtype);

// Zero-initialised means malloc and free; give both or neither.
typedef struct mrc_allocator {
    void *(*alloc)(void *user, size_t bytes);
    void  (*free)(void *user, void *ptr);
    void  *user;
} mrc_allocator;

//==============================================================================
// >>api.status   every fallible function returns one of these, or NULL
//==============================================================================
#define MRC_STATUS_LIST(X)                                              \
    X(OK,              0, "ok")                                         \
    X(ERR_ARG,         1, "invalid argument")                           \
    X(ERR_SHAPE,       2, "shapes do not agree")                        \
    X(ERR_MEM,         3, "out of memory")                              \
    X(ERR_FORMAT,      4, "malformed file")                             \
    X(ERR_UNSUPPORTED, 5, "not supported by this backend or build")     \
    X(ERR_IO,          6, "input or output failed")                     \
    X(ERR_NUMERIC,     7, "not a finite number")                        \
    X(ERR_INTERRUPTED, 8, "interrupted")

typedef enum mrc_status {
#define MRC_X(name, value, text) MRC_##name = value,
    MRC_STATUS_LIST(MRC_X)
#undef MRC_X
} mrc_status;

MRCDEF const char *mrc_status_string(mrc_status status);    // static text, never NULL

//==============================================================================
// >>api.backend   contract A: what backends/openblas.c and backends/cuda.cu implement
//
// Matrices are row-major.  Every kernel takes one args struct.  The rules of all kernels:
//   - no kernel allocates: results, saved values and workspace are given to it;
//   - a forward output is overwritten, never read; a gradient output is overwritten when its
//     accumulate bit is 0 (so its old contents, NaN included, do not matter) and added to when 1;
//   - data NULL in a gradient or saved output means "not wanted";
//   - gradient outputs are finished in the order of the struct: a tensor used twice by one op
//     appears twice with one address, and the second has accumulate = 1;
//   - a scalar that a kernel makes (loss, norm) is a backend address: nothing waits for the host;
//   - `workspace` is what the kernel's own query asked for, given back when the kernel returns (on
//     a stream: to later work of that stream);
//   - statistics, losses and weights' gradients are f32 where activations are f16 or bf16;
//   - what forward saved may be overwritten by backward, which is its last reader;
//   - gelu_fwd of the z that linear_fwd saves gives linear_fwd's y to the bit: see mrc_drop().
//==============================================================================
typedef struct mrc_backend mrc_backend;

// Vectors are matrices of one row: ld is not read.
typedef struct mrc_in  { mrc_dtype dtype; size_t ld; const void *data; } mrc_in;
typedef struct mrc_out { mrc_dtype dtype; size_t ld; void *data; int accumulate; } mrc_out;

typedef enum mrc_act { MRC_ACT_NONE, MRC_ACT_GELU } mrc_act;

// c (m, n) = a (m, k) b (k, n); a transposed operand is stored the other way round.
typedef struct mrc_gemm_args {
    size_t  m, n, k;
    int     a_transposed, b_transposed;
    mrc_in  a, b;
    mrc_out c;
    void   *workspace;
} mrc_gemm_args;

typedef struct mrc_linear_fwd_args {
    size_t  n, in, out;             // rows, columns of x, columns of y
    mrc_act act;
    mrc_in  x, weight, bias;        // (N, I) (O, I) (O)
    mrc_out y, z;                   // (N, O); z: y before the activation, saved for backward
    void   *workspace;
} mrc_linear_fwd_args;

typedef struct mrc_linear_bwd_args {
    size_t  n, in, out;
    mrc_act act;
    mrc_in  x, weight, dy;
    mrc_out z, dx, dweight, dbias;  // z: as saved; afterwards dz, or anything
    void   *workspace;
} mrc_linear_bwd_args;

typedef struct mrc_gelu_fwd_args { size_t n; mrc_in x; mrc_out y; void *workspace; }
    mrc_gelu_fwd_args;
typedef struct mrc_gelu_bwd_args { size_t n; mrc_in x, dy; mrc_out dx; void *workspace; }
    mrc_gelu_bwd_args;

typedef struct mrc_layer_norm_fwd_args {
    size_t  n, h;                   // rows, columns
    double  eps;
    mrc_in  x, weight, bias;
    mrc_out y, mean, rstd;          // mean, rstd (N): saved for backward
    void   *workspace;
} mrc_layer_norm_fwd_args;

typedef struct mrc_layer_norm_bwd_args {
    size_t  n, h;
    mrc_in  x, weight, mean, rstd, dy;
    mrc_out dx, dweight, dbias;
    void   *workspace;
} mrc_layer_norm_bwd_args;

// Forward and backward are the same map: to = keep(element) ? from * scale : 0.
typedef struct mrc_dropout_args {
    size_t   n_sequences, h;
    uint32_t key[2];                // mrc_dropout_key()
    uint64_t threshold;             // floor(p * 2^32); an element is dropped when its u32 is below
    double   scale;                 // 1 / (1 - p)
    mrc_in   cu_seqlens, sequence_index, from;
    mrc_out  to;
    void    *workspace;
} mrc_dropout_args;
typedef mrc_dropout_args mrc_dropout_fwd_args, mrc_dropout_bwd_args;

typedef struct mrc_cross_entropy_fwd_args {
    size_t  n_sequences, columns;
    mrc_in  logits, targets;        // (N, C) (C, B)
    mrc_in  cu_seqlens, loss_begin, loss_end, denominator;      // (B + 1) (B) (B) (C)
    mrc_out loss, lse;              // scalar; (C, B): saved for backward
    void   *workspace;
} mrc_cross_entropy_fwd_args;

typedef struct mrc_cross_entropy_bwd_args {
    size_t  n_sequences, columns;
    mrc_in  logits, targets;
    mrc_in  cu_seqlens, loss_begin, loss_end, denominator;
    mrc_in  lse, dloss;
    mrc_out dlogits;
    void   *workspace;
} mrc_cross_entropy_bwd_args;

// The kernels, once.  NULL: the backend has none, and an op that needs it is MRC_ERR_UNSUPPORTED.
// Each has a query of its workspace, NULL for 0 bytes: asked with the args, before the kernel runs.
#define MRC_KERNEL_LIST(X)                                                                  \
    X(gemm) X(linear_fwd) X(linear_bwd) X(gelu_fwd) X(gelu_bwd) X(layer_norm_fwd)           \
    X(layer_norm_bwd) X(dropout_fwd) X(dropout_bwd) X(cross_entropy_fwd) X(cross_entropy_bwd)
typedef struct mrc_kernels {
#define MRC_X(name)                                                                         \
    mrc_status (*name)(mrc_backend *be, const mrc_##name##_args *a);                        \
    size_t     (*name##_workspace)(mrc_backend *be, const mrc_##name##_args *a);
    MRC_KERNEL_LIST(MRC_X)
#undef MRC_X
} mrc_kernels;

// An instance.  It belongs to one thread at a time and is not shared by value: to derive a backend,
// make an instance, replace entries, and keep your own state in `derived`.
#define MRC_BACKEND_API 1
struct mrc_backend {
    size_t      size;               // sizeof(mrc_backend) and MRC_BACKEND_API of whoever made it:
    uint32_t    api;                // a mismatch is refused when a context is made
    int         is_host;            // 1: the library may dereference data
    const char *name, *isa;         // "cpu", "avx2": recorded with results, as both fix their bits
    void       *self;               // the constructor's state
    void       *derived;            // the state of whoever replaced entries
    void       (*destroy)(mrc_backend *be);
    void      *(*alloc)(mrc_backend *be, size_t bytes);         // 64-byte aligned; NULL: no memory
    void       (*free)(mrc_backend *be, void *ptr);
    // src may be reused on return; only download waits for the device.
    mrc_status (*upload)(mrc_backend *be, void *dst, const void *host_src, size_t bytes);
    mrc_status (*download)(mrc_backend *be, void *host_dst, const void *src, size_t bytes);
    // One table per element type of the activations: a kernel is written for one type and choosing
    // it is a lookup.  Matrices still carry their dtype, for tables that mix (bf16 with f32).
    mrc_kernels kernels[MRC_DTYPE_COUNT];
};

typedef enum mrc_isa { MRC_ISA_AUTO, MRC_ISA_BASELINE, MRC_ISA_AVX2 } mrc_isa;

typedef struct mrc_backend_desc {   // NULL or zero-initialised: malloc, the best instruction set
    mrc_allocator allocator;
    mrc_isa       isa;              // cpu only; one that the machine lacks is MRC_ERR_UNSUPPORTED
} mrc_backend_desc;

// naive: plain loops, f32 and f64, the oracle.  cpu: the same with a fast gemm and a linear on it.
MRCDEF mrc_status mrc_backend_naive_new(mrc_backend **out, const mrc_backend_desc *desc);
MRCDEF mrc_status mrc_backend_cpu_new(mrc_backend **out, const mrc_backend_desc *desc);
MRCDEF void       mrc_backend_free(mrc_backend *be);        // after its contexts and parameters

//==============================================================================
// >>api.ctx   one context per thread; no global state
//==============================================================================
typedef struct mrc_ctx mrc_ctx;

typedef struct mrc_ctx_desc {
    mrc_allocator allocator;        // of host memory: nodes, tensor records
    void  (*log)(void *user, mrc_status status, const char *message);  // NULL: silent
    void  *log_user;
    mrc_backend *backend;           // not owned; NULL: a context for text and files, no tensors
    size_t step_chunk_bytes;        // the step arena's first chunk: its planned extent; 0: 1 MiB
} mrc_ctx_desc;

// Why a context could not be made goes to desc->log, as there is no context to keep it in.
MRCDEF mrc_status  mrc_ctx_new(mrc_ctx **out, const mrc_ctx_desc *desc);
MRCDEF void        mrc_ctx_free(mrc_ctx *ctx);              // NULL is fine
// The first error since the last clear, and its text (which op, which argument, which numbers).
// NULL is fine here, in mrc_ctx_free() and in ops; other functions want a context.  Messages about
// files begin "file:line:column: " as far as known, and say what was found and what was expected.
MRCDEF mrc_status  mrc_ctx_status(const mrc_ctx *ctx);
MRCDEF const char *mrc_ctx_message(const mrc_ctx *ctx);
MRCDEF void        mrc_ctx_clear_error(mrc_ctx *ctx);

// Bytes of the step arena (activations and their gradients) and of the parameters' gradients.
// peak is since the context was made; extent is peak with the holes between buffers: what a first
// chunk must have so that the arena never grows.  On the null backend, with a chunk that nothing
// fills ((size_t)1 << 46), these are the plan of a step.
typedef struct mrc_memory {
    size_t step_live, step_peak, step_extent, step_reserved, grads;
} mrc_memory;
MRCDEF mrc_memory mrc_ctx_memory(const mrc_ctx *ctx);

//==============================================================================
// >>api.utf8   text is UTF-8; the positions that users see count code points
//==============================================================================
// One code point from at most `bytes` bytes: how many it took, 0 when they are ill-formed or none.
MRCDEF size_t mrc_utf8_decode(const char *s, size_t bytes, uint32_t *cp);
// The same for live text: ill-formed bytes read as U+FFFD, one for each maximal subpart.  0 only
// when there are no bytes.
MRCDEF size_t mrc_utf8_next(const char *s, size_t bytes, uint32_t *cp);
MRCDEF size_t mrc_utf8_encode(uint32_t cp, char out[4]);    // bytes written; 0: not a scalar value
MRCDEF size_t mrc_utf8_valid(const char *s, size_t bytes);          // of the well-formed beginning
MRCDEF size_t mrc_utf8_length(const char *s, size_t bytes);         // code points of valid text
// The byte where code point `index` of valid text begins; `bytes` for one past the end.
MRCDEF size_t mrc_utf8_offset(const char *s, size_t bytes, size_t index);

//==============================================================================
// >>api.json   a tree that is read-only, and text that grows
//==============================================================================
typedef enum mrc_json_type {
    MRC_JSON_NULL, MRC_JSON_FALSE, MRC_JSON_TRUE, MRC_JSON_NUMBER, MRC_JSON_STRING, MRC_JSON_ARRAY,
    MRC_JSON_OBJECT
} mrc_json_type;

typedef struct mrc_json mrc_json;
struct mrc_json {
    mrc_json_type   type;
    int             is_int;         // NUMBER: written as an integer that fits `integer`
    double          number;
    int64_t         integer;
    const char     *string;         // STRING: `bytes` long, may hold NUL, and ends with one more
    size_t          bytes;
    const char     *key;            // in an object: the member's name
    size_t          key_bytes;
    const mrc_json *child, *next;   // elements or members in file order
    size_t          n;              // how many
    size_t          line, column;   // from 1, column in code points
};

// RFC 8259 as PARITY has it (RELIABILITY 3.3); duplicate keys are kept.  name is for messages:
// "name:line:column: what".  max_depth 0: 512.  The tree owns copies of all text.
MRCDEF mrc_status mrc_json_parse(mrc_ctx *ctx, mrc_json **out, const char *name, const char *text,
                                 size_t bytes, size_t max_depth);
MRCDEF mrc_status mrc_json_load(mrc_ctx *ctx, mrc_json **out, const char *path);
MRCDEF void       mrc_json_free(mrc_json *root);                    // NULL is fine
// The first member of that name; NULL: there is none, or this is no object.
MRCDEF const mrc_json *mrc_json_get(const mrc_json *object, const char *key);
// MRC_ERR_FORMAT when two members have one name: what a config, a tokenizer or a data set must not
// have.  Only this object's own members are looked at; anything but an object passes.
MRCDEF mrc_status mrc_json_unique_keys(mrc_ctx *ctx, const mrc_json *object, const char *name);

// Text under construction.  A failed allocation is kept in `failed` and asked about once.
typedef struct mrc_text {
    mrc_allocator host;
    char  *data;                    // NUL-terminated once anything was added
    size_t bytes, capacity;
    int    failed;
} mrc_text;
MRCDEF void mrc_text_init(mrc_text *t, const mrc_ctx *ctx);
MRCDEF void mrc_text_free(mrc_text *t);
MRCDEF void mrc_text_add(mrc_text *t, const char *s, size_t bytes);
MRCDEF void mrc_text_printf(mrc_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// A JSON string with quotes; ascii 1: everything above 0x7e as \u escapes, as Python's json.dumps.
MRCDEF void mrc_text_json_string(mrc_text *t, const char *s, size_t bytes, int ascii);
// The shortest text that reads back as x, as Python's repr: 58.333333333333336, 1e-05, 2.0, NaN.
MRCDEF void mrc_text_number(mrc_text *t, double x);

//==============================================================================
// >>api.file   reading whole files; writing them whole or not at all
//==============================================================================
// A file's bytes and one NUL behind them, freed by mrc_file_free.  A missing file is MRC_ERR_ARG
// (bad input), a failing read MRC_ERR_IO.
MRCDEF mrc_status mrc_file_read(mrc_ctx *ctx, char **out, size_t *bytes, const char *path);
MRCDEF void       mrc_file_free(mrc_ctx *ctx, char *data);
// Written beside its target (path.tmp.<pid>), synced, renamed, folder synced.
MRCDEF mrc_status mrc_file_write(mrc_ctx *ctx, const char *path, const void *data, size_t bytes);

// The same in pieces.  Any failure removes the temporary file; commit or abort ends it.
typedef struct mrc_file_writer mrc_file_writer;
MRCDEF mrc_status mrc_file_writer_new(mrc_ctx *ctx, mrc_file_writer **out, const char *path);
MRCDEF mrc_status mrc_file_writer_add(mrc_file_writer *w, const void *data, size_t bytes);
MRCDEF mrc_status mrc_file_writer_commit(mrc_file_writer *w);       // frees w either way
MRCDEF void       mrc_file_writer_abort(mrc_file_writer *w);        // NULL is fine

MRCDEF uint32_t   mrc_crc32c(uint32_t crc, const void *data, size_t bytes);     // start with 0
MRCDEF mrc_status mrc_file_crc32c(mrc_ctx *ctx, const char *path, uint32_t *crc, uint64_t *bytes);
MRCDEF int        mrc_file_exists(const char *path);                // 1: file, 2: folder, 0: neither
MRCDEF mrc_status mrc_dir_new(mrc_ctx *ctx, const char *path);      // with its parents; may exist
MRCDEF mrc_status mrc_dir_sync(mrc_ctx *ctx, const char *path);
MRCDEF mrc_status mrc_dir_remove(mrc_ctx *ctx, const char *path);   // with all below; may be absent
// Calls fn with each name but "." and "..", in byte order, until it returns something else than OK.
MRCDEF mrc_status mrc_dir_list(mrc_ctx *ctx, const char *path,
                               mrc_status (*fn)(mrc_ctx *ctx, void *user, const char *name),
                               void *user);

//==============================================================================
// >>api.safetensors   RELIABILITY 3.1, both ways
//==============================================================================
// A reader checks the whole header before it shows a tensor.  Data stays in the file until read.
typedef struct mrc_st_entry {
    const char *name, *dtype;       // "F32"
    int         ndim;
    uint64_t    shape[8], numel;
    uint64_t    begin, end;         // bytes, within the data area
} mrc_st_entry;
typedef struct mrc_safetensors mrc_safetensors;
MRCDEF mrc_status mrc_safetensors_open(mrc_ctx *ctx, mrc_safetensors **out, const char *path);
MRCDEF void       mrc_safetensors_close(mrc_safetensors *st);       // NULL is fine
MRCDEF const mrc_st_entry *mrc_safetensors_at(const mrc_safetensors *st, size_t index); // or NULL
MRCDEF const mrc_st_entry *mrc_safetensors_find(const mrc_safetensors *st, const char *name);
// Metadata by key; NULL when absent.
MRCDEF const char *mrc_safetensors_meta(const mrc_safetensors *st, const char *key);
// numel values as `to` (f32, f64, i32) into dst; from F32, F64, F16, BF16, I32, I64 (in range).
MRCDEF mrc_status mrc_safetensors_read(mrc_safetensors *st, const mrc_st_entry *e, mrc_dtype to,
                                       void *dst);

// What to write: dtype "F32", "I64", ...; data is host memory, or comes piece by piece from fill
// (called with rising offsets), so that a device's tensors need no second copy of the model.
typedef struct mrc_st_tensor {
    const char *name, *dtype;
    int         ndim;
    uint64_t    shape[8];
    const void *data;
    mrc_status (*fill)(mrc_ctx *ctx, void *user, uint64_t offset, void *dst, size_t bytes);
    void       *user;
} mrc_st_tensor;
// metadata: key, value, key, value, .., NULL; NULL is {"format": "pt"} alone, which is always in.
// Atomic, as mrc_file_write.
MRCDEF mrc_status mrc_safetensors_write(mrc_ctx *ctx, const char *path, const mrc_st_tensor *list,
                                        size_t n, const char *const *metadata);

//==============================================================================
// >>api.tensor   a tensor holds no context: weights may be shared by several
//==============================================================================
// Read-only for users.  data is a backend address: use upload and download.
typedef struct mrc_tensor {
    mrc_dtype dtype;
    int       ndim;
    size_t    shape[MRC_MAX_DIMS];
    size_t    numel;
    int       requires_grad;        // of a parameter: may be changed between steps
    void     *data;                 // NULL while dropped
    // Parameters only: the state_dict's name, and the 16-bit copy that kernels read in its place.
    const char *name;
    mrc_dtype copy_dtype;
    void     *copy;
    // The tape's, constant in parameters so that threads can share them:
    uint64_t  frame;                // 0: parameter; else it dies when this frame is rewound
    struct mrc_node *producer;      // NULL: no op made it, or none that was recorded
    int       dropped, pinned;      // see mrc_drop()
} mrc_tensor;

// Parameters: an arena that lives with its owner (a model).  Free it after the contexts that used
// it: their gradients are found by the tensor's address.
typedef struct mrc_params mrc_params;
MRCDEF mrc_status mrc_params_new(mrc_params **out, mrc_backend *be,
                                 const mrc_allocator *allocator);
// name is copied; a second parameter of that name is MRC_ERR_ARG.  Moments and averages of an
// optimizer are mrc_params of the same names.
MRCDEF mrc_status mrc_param_new(mrc_params *params, mrc_tensor **out, const char *name,
                                mrc_dtype dtype, int ndim, const size_t *shape);
// In the order they were made, the same in every run; NULL past the end, or for a name not there.
MRCDEF mrc_tensor *mrc_params_at(const mrc_params *params, size_t index);
MRCDEF mrc_tensor *mrc_params_find(const mrc_params *params, const char *name);
// Gives a matrix a working copy, contents undefined: ops whose x has that dtype read the copy, the
// tape and the gradient stay the master's.  The optimizer and loaders write both.
MRCDEF mrc_status mrc_param_copy_new(mrc_params *params, mrc_tensor *t, mrc_dtype dtype);
MRCDEF void       mrc_params_free(mrc_params *params);

// A tensor of the running step, contents undefined.  It ends with mrc_ctx_reset() or a rewind.
MRCDEF mrc_tensor *mrc_tensor_new(mrc_ctx *ctx, mrc_dtype dtype, int ndim, const size_t *shape,
                                  int requires_grad);
// src and dst hold numel elements of t's dtype.  Download waits for the device; nothing else does.
MRCDEF mrc_status  mrc_tensor_upload(mrc_ctx *ctx, mrc_tensor *t, const void *src);
MRCDEF mrc_status  mrc_tensor_download(mrc_ctx *ctx, const mrc_tensor *t, void *dst);

// What these ops read of a packed batch (contract B): sequence s is rows cu_seqlens[s] to
// cu_seqlens[s + 1] - 1.
typedef struct mrc_batch {
    size_t      n_tokens, n_sequences;
    size_t      max_length;         // of a sequence: what a device needs to size a launch
    mrc_tensor *cu_seqlens;         // (B + 1) i32
    mrc_tensor *sequence_index;     // (B) i32: the sequence's index within the optimizer step
    mrc_tensor *loss_begin, *loss_end;  // (B) i32: the rows of a sequence that the loss looks at
} mrc_batch;
MRCDEF mrc_status mrc_batch_new(mrc_ctx *ctx, mrc_batch *out, size_t n_sequences,
                                const int32_t *cu_seqlens, const int32_t *sequence_index,
                                const int32_t *loss_begin, const int32_t *loss_end);

//==============================================================================
// >>api.tape   contract C
//==============================================================================
// Backward from y.  dy has y's shape and is only read; NULL for a scalar y means 1.  (A loss scale
// is a dy that lives on the device.)  A node that has run is gone, and with it the gradient of its
// output and what it saved; so a second backward from y is an error.  The data of tensors stays
// until a reset, a rewind or mrc_drop().
// After an error: mrc_ctx_reset(), mrc_grad_clear() if backward had begun, mrc_ctx_clear_error();
// then the context is as good as new.
MRCDEF mrc_status mrc_backward(mrc_ctx *ctx, mrc_tensor *y, const mrc_tensor *dy);
// mrc_backward() in two: makes dy the gradient of y; then mrc_tape_backward(), in pieces if wanted.
MRCDEF mrc_status mrc_grad_seed(mrc_ctx *ctx, mrc_tensor *y, const mrc_tensor *dy);
// The address of t's gradient in this context; NULL: no backward reached t since the last clear.
MRCDEF void      *mrc_grad(mrc_ctx *ctx, const mrc_tensor *t);
// Ends the accumulation into parameters' gradients: the next writer overwrites.  Touches no memory.
MRCDEF void       mrc_grad_clear(mrc_ctx *ctx);
// Ends a forward and backward: frees all tensors of the step.  Parameters' gradients stay.
MRCDEF void       mrc_ctx_reset(mrc_ctx *ctx);
// In no-grad mode ops record nothing and save nothing.  Returns the previous mode.
MRCDEF int        mrc_no_grad(mrc_ctx *ctx, int on);

// Marks nest.  Backward from a mark runs the nodes recorded since, newest first; rewinding forgets
// nodes and tensors made since, but keeps gradients of tensors that are older than the mark.  {0}
// is the beginning.  With a mark before each layer, backward in pieces hands over the gradients of
// one layer while the next one runs.
typedef struct mrc_mark { uint64_t frame; } mrc_mark;
MRCDEF mrc_mark   mrc_tape_mark(mrc_ctx *ctx);
MRCDEF mrc_status mrc_tape_backward(mrc_ctx *ctx, mrc_mark mark);
MRCDEF void       mrc_tape_rewind(mrc_ctx *ctx, mrc_mark mark);

// y = fn(ctx, user, in), keeping only y: backward runs fn again.  fn must return a tensor it made
// and do the same both times; dropout does, as its masks are counted.  Parameters may come through
// user, which must live until backward.
typedef mrc_tensor *(*mrc_segment_fn)(mrc_ctx *ctx, void *user, mrc_tensor *const *in, size_t n_in);
MRCDEF mrc_tensor *mrc_checkpointed(mrc_ctx *ctx, mrc_segment_fn fn, void *user,
                                    mrc_tensor *const *in, size_t n_in);

// Says that the forward pass will not read t again.  In no-grad mode its memory is free at once: a
// forward pass that drops what it has read holds one layer, not all.  Where backward may read t, it
// goes if it can be made again without a matrix product (from what its op saved, or from inputs
// that are kept), else it stays: a hint is never an error.  In a segment only its own tensors go.
// An op that returned its input (dropout with p = 0) made no second tensor: drop it once.
MRCDEF void mrc_drop(mrc_ctx *ctx, mrc_tensor *t);

// Custom node: the user computed out (from mrc_tensor_new) by any means; backward receives dy and
// writes the gradient of each input that wants one where mrc_grad_target() says.
typedef struct mrc_custom_call {
    mrc_tensor *const *in;
    size_t             n_in;
    const mrc_tensor  *out;
    mrc_in             dy;
} mrc_custom_call;
typedef struct mrc_custom_desc {
    const char  *name;              // for error messages; must outlive the node, as user must
    mrc_status (*backward)(mrc_ctx *ctx, void *user, const mrc_custom_call *call);
    void        *user;
} mrc_custom_desc;
MRCDEF mrc_tensor *mrc_custom(mrc_ctx *ctx, const mrc_custom_desc *desc, mrc_tensor *out,
                              mrc_tensor *const *in, size_t n_in);
// Where to write t's gradient, and whether to add.  out->data is NULL when t wants none.
MRCDEF mrc_status  mrc_grad_target(mrc_ctx *ctx, const mrc_tensor *t, mrc_out *out);

//==============================================================================
// >>api.random   contract D: masks are counted, not drawn
//
//   mask key = words 0, 1 of philox(counter {step, pass, site, "drop"}, key {seed low, seed high})
//   element  = word f % 4 of philox(counter {f / 4, position, sequence, head}, mask key)
//
// f is the feature (attention: the key's position), position the token's within its sequence
// (attention: the query's), sequence the index within the optimizer step, head 0 but in attention.
//==============================================================================
typedef struct mrc_random {
    uint64_t seed;
    uint32_t step;                  // optimizer step
    uint32_t pass;                  // 0; 1, 2.. when one step runs the *same* sequences again
} mrc_random;                       // (R-Drop, adversarial): micro-batches do not count it up

MRCDEF void     mrc_ctx_set_random(mrc_ctx *ctx, mrc_random random);
MRCDEF uint32_t mrc_site(const char *module_name);          // FNV-1a of "encoder.layer.0.output"
MRCDEF void     mrc_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
MRCDEF void     mrc_dropout_key(mrc_random random, uint32_t site, uint32_t key[2]);

//==============================================================================
// >>api.ops   NULL in -> NULL out; the first error stays in the context
//
// So NULL never means "none": a linear without bias will be another function.
//==============================================================================
MRCDEF mrc_tensor *mrc_linear(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *weight, mrc_tensor *bias,
                              mrc_act act);
MRCDEF mrc_tensor *mrc_gelu(mrc_ctx *ctx, mrc_tensor *x);
MRCDEF mrc_tensor *mrc_layer_norm(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *weight, mrc_tensor *bias,
                                  double eps);
// 0 <= p < 1; p = 0 returns x itself.
MRCDEF mrc_tensor *mrc_dropout(mrc_ctx *ctx, mrc_tensor *x, double p, uint32_t site,
                               const mrc_batch *batch);
// logits (N, C): column c has targets[c] (B) i32, which count from the sequence's start, and is
// divided by denominator[c], what the optimizer step counts: splitting it changes no gradient.
// The two ends of an answer are C = 2 with denominators of twice the sequences counted.
MRCDEF mrc_tensor *mrc_cross_entropy(mrc_ctx *ctx, mrc_tensor *logits, mrc_tensor *targets,
                                     mrc_tensor *denominator, const mrc_batch *batch);

//==============================================================================
// >>api.optim
//==============================================================================

//==============================================================================
// >>api.tokenizer   WordPiece as BertTokenizerFast has it (PARITY 3.8, 3.9)
//==============================================================================
// A loaded tokenizer is immutable and may be shared by threads.
typedef struct mrc_tokenizer mrc_tokenizer;
// path: a folder (tokenizer.json if it is there, else vocab.txt with tokenizer_config.json and
// special_tokens_map.json), a vocab.txt, or a tokenizer.json.
MRCDEF mrc_status  mrc_tokenizer_load(mrc_ctx *ctx, mrc_tokenizer **out, const char *path);
MRCDEF void        mrc_tokenizer_free(mrc_tokenizer *tok);          // NULL is fine
MRCDEF size_t      mrc_tokenizer_size(const mrc_tokenizer *tok);    // the largest id + 1
MRCDEF const char *mrc_tokenizer_token(const mrc_tokenizer *tok, int32_t id);   // NULL: no such id
MRCDEF int32_t     mrc_tokenizer_id(const mrc_tokenizer *tok, const char *token);   // -1: none
MRCDEF size_t      mrc_tokenizer_max_length(const mrc_tokenizer *tok);  // model_max_length; 0: none
typedef struct mrc_special_ids { int32_t cls, sep, pad, unk, mask; } mrc_special_ids;   // -1: none
MRCDEF mrc_special_ids mrc_tokenizer_special(const mrc_tokenizer *tok);

typedef enum mrc_truncation {
    MRC_TRUNCATION_NONE, MRC_TRUNCATION_LONGEST_FIRST, MRC_TRUNCATION_ONLY_SECOND,
    MRC_TRUNCATION_ONLY_FIRST
} mrc_truncation;
typedef struct mrc_encode_options { // a desc: zero is the default
    mrc_truncation truncation;
    size_t         max_length;      // tokens with the special ones; 0: no limit
    size_t         stride;          // only_*: the *overlap* of two windows, as in HF
    int            no_special_tokens;
} mrc_encode_options;

typedef struct mrc_encoding {
    size_t    n;
    int32_t  *input_ids, *token_type_ids;   // 0 .. 0 1 .. 1 (a model with one type ignores them)
    int32_t (*offset_mapping)[2];   // code points of its own text, half-open; special ones (0, 0)
    int32_t  *word_ids;             // the pre-token's number in its text; -1: special
    int32_t  *sequence_ids;         // 0 text, 1 pair, -1 special
    int32_t   overflow_to_sample_mapping;
} mrc_encoding;
// The windows of one text or pair: one, or with only_* as many as it takes.
typedef struct mrc_encodings {
    mrc_allocator host;
    size_t        n;
    mrc_encoding *list;
} mrc_encodings;
// pair NULL: a single text.  Ill-formed UTF-8 counts as U+FFFD by maximal subparts.
MRCDEF mrc_status mrc_tokenizer_encode(mrc_ctx *ctx, const mrc_tokenizer *tok, mrc_encodings *out,
                                       const char *text, size_t text_bytes,
                                       const char *pair, size_t pair_bytes,
                                       const mrc_encode_options *options);
MRCDEF void       mrc_encodings_free(mrc_encodings *e);             // zeroed is fine

//==============================================================================
// >>api.dataset   SQuAD, KorQuAD, KLUE JSON and flat JSONL, one record type out
//==============================================================================
typedef struct mrc_answer {
    const char *text;
    size_t      bytes;
    int64_t     answer_start;       // -1: unknown (only after mrc_dataset_load_questions)
} mrc_answer;
typedef struct mrc_example {        // answer_start counts code points of context
    const char *id, *title, *context, *question;    // valid UTF-8, NUL-terminated; title may be ""
    size_t      context_bytes, question_bytes;
    mrc_answer *answers;            // checked: context has the text at answer_start
    size_t      n_answers;
} mrc_example;
typedef struct mrc_dataset mrc_dataset;
// Rows that cannot be used are left out, counted by reason, and the first ten logged.
MRCDEF mrc_status mrc_dataset_load(mrc_ctx *ctx, mrc_dataset **out, const char *path);
// For answering and scoring, which must not lose a question: every row that has an id is kept, as
// the official scripts do.  Context and question may be "", answers none or not in the context.
MRCDEF mrc_status mrc_dataset_load_questions(mrc_ctx *ctx, mrc_dataset **out, const char *path);
MRCDEF void       mrc_dataset_free(mrc_dataset *d);                 // NULL is fine
MRCDEF size_t     mrc_dataset_size(const mrc_dataset *d);
MRCDEF size_t     mrc_dataset_rows(const mrc_dataset *d);           // with those left out
MRCDEF const mrc_example *mrc_dataset_at(const mrc_dataset *d, size_t index);   // NULL past the end
MRCDEF const char *mrc_dataset_format(const mrc_dataset *d);   // squad_v1, squad_v2, json, jsonl
MRCDEF const char *mrc_dataset_version(const mrc_dataset *d);       // the file's "version", or ""
// Reasons and counts of the rows left out, in a fixed order; NULL past the end.
MRCDEF const char *mrc_dataset_skipped(const mrc_dataset *d, size_t index, size_t *count);

//==============================================================================
// >>api.encode   examples -> features: what the model is given
//==============================================================================
// One window of one example.  Positions count rows of the window.
typedef struct mrc_feature {
    int32_t  example_index, window_index;
    int32_t  length;                // rows, pads included
    int32_t  real_len;              // without pads
    int32_t *input_ids, *token_type_ids;
    int32_t (*offset_mapping)[2];   // code points of the context; (-1, -1) outside the passage
    int32_t  loss_begin, loss_end;  // the rows that the loss and argmax look at: all, pads included
    int32_t  start_position, end_position;      // -1: not counted
} mrc_feature;

typedef enum mrc_encoding_kind { MRC_ENCODING_OFFSETS, MRC_ENCODING_SENTINEL } mrc_encoding_kind;
#define MRC_FEATURES_MAGIC 0x66656174
typedef struct mrc_features_config {
    uint32_t          magic;
    mrc_encoding_kind kind;         // offsets (PARITY 3.4) or the reference run's (3.14)
    size_t            max_seq_length;
    size_t            doc_stride;   // offsets: the overlap of two windows, as in HF's run_qa
    int               pad_to_max_length;
    int               with_targets; // 0: positions are -1; with offsets, no answers are needed
} mrc_features_config;
MRCDEF mrc_features_config mrc_features_config_default(void);       // offsets, 512, 128, targets

typedef struct mrc_features {
    mrc_allocator host;
    size_t       n;
    mrc_feature *list;              // by example, then window
    size_t       rows, kept;        // examples looked at, and those with a feature
    struct { const char *reason; size_t count; } dropped[8];    // reason NULL ends it
} mrc_features;
MRCDEF mrc_status mrc_features_new(mrc_ctx *ctx, mrc_features *out, const mrc_dataset *d,
                                   const mrc_tokenizer *tok, const mrc_features_config *config);
MRCDEF void       mrc_features_free(mrc_features *f);

//==============================================================================
// >>api.batch   which features go together (their order), and how they reach the device
//==============================================================================
typedef enum mrc_batching {
    MRC_BATCHING_RANDOM, MRC_BATCHING_SEQUENTIAL, MRC_BATCHING_SORTED, MRC_BATCHING_TOKEN_BUDGET
} mrc_batching;
// The batches of one epoch, a function of its arguments alone: resuming makes it again.  Features
// are shuffled by Philox counters; sorted: by length inside chunks of 50 batches (a quarter of the
// data at most), batches shuffled;
// token_budget: at most batch_size * the longest feature's rows, padding aside.
typedef struct mrc_batch_plan {
    mrc_allocator host;
    size_t    n_batches;
    uint32_t *feature;              // indices into the features
    size_t   *begin;                // (n_batches + 1): batch b is feature[begin[b] .. begin[b + 1])
} mrc_batch_plan;
MRCDEF mrc_status mrc_batch_plan_new(mrc_ctx *ctx, mrc_batch_plan *out, const mrc_features *f,
                                     mrc_batching kind, size_t batch_size, uint64_t seed,
                                     uint32_t epoch);
MRCDEF void       mrc_batch_plan_free(mrc_batch_plan *p);

//==============================================================================
// >>api.decode   logits -> answers (PARITY 3.5)
//==============================================================================
typedef struct mrc_span {           // a candidate answer
    float   start_logit, end_logit;
    int32_t begin, end;             // code points of the context, half-open
    double  probability;            // softmax over the n-best list
    int     empty;                  // the "empty" fallback: no span could be read
} mrc_span;
#define MRC_DECODE_MAGIC 0x6465636f
typedef struct mrc_decode_config { uint32_t magic; size_t n_best_size, max_answer_length; }
    mrc_decode_config;
MRCDEF mrc_decode_config mrc_decode_config_default(void);           // 20, 30
// The windows of one example and their logits, length long each -> at most n_best_size spans,
// best first, into out; at least one (the fallback).  Returns how many.
typedef struct mrc_window_logits { const mrc_feature *feature; const float *start, *end; }
    mrc_window_logits;
MRCDEF mrc_status mrc_decode(mrc_ctx *ctx, const mrc_window_logits *windows, size_t n_windows,
                             const mrc_decode_config *config, mrc_span *out, size_t *n_out);

//==============================================================================
// >>api.metrics   EM and F1 digit for digit (PARITY 3.1, 3.3)
//==============================================================================
typedef enum mrc_metric { MRC_METRIC_KORQUAD, MRC_METRIC_SQUAD } mrc_metric;
// Of one prediction against all answers: exact 0 or 1, f1 0 to 1, each the best over the answers.
MRCDEF mrc_status mrc_metric_score(mrc_ctx *ctx, mrc_metric metric, const char *prediction,
                                   size_t bytes, const mrc_answer *answers, size_t n_answers,
                                   double *exact, double *f1);

//==============================================================================
// >>api.model
//==============================================================================

//==============================================================================
// >>api.checkpoint
//==============================================================================

//==============================================================================
// >>api.reader
//==============================================================================

#ifdef __cplusplus
}
#endif
#endif // MRC_H

//
// Stop here if you only want the API.  The implementation follows.
//

//==============================================================================
// >>impl.passes   how one file is read several times
//
// A kernel is written once.  The core pass reads everything but kernels; then impl.naive and
// impl.cpu include this file again, with MRC__PASS_NAIVE or MRC__PASS_CPU defined and
//     MRC__REAL      the element type        MRC__T(name)   the name with its suffix
//     MRC__TARGET    function attributes     MRC__VEC_BYTES, MRC__ROWS   the register block (cpu)
// and those passes read kernels only.  So an op's formula, kernels and builder stand in one place.
// The name is written out because #include __FILE__ fails for "dir/mrc.h": a quoted path is
// looked up from the folder of the file that includes it.
//==============================================================================
#ifndef MRC_SELF
#define MRC_SELF "mrc.h"
#endif

#if defined(MRC_IMPLEMENTATION) && !defined(MRC_IMPLEMENTATION_ONCE)
#define MRC_IMPLEMENTATION_ONCE
#define MRC__PASS_CORE
#ifdef __cplusplus
#error "the implementation of mrc.h is C11: compile it as C (declarations are fine in C++)"
#endif

#include <math.h>
#include <stdarg.h>
#include <stdio.h>                  // vsnprintf only
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef CLOCK_MONOTONIC             // mrc.h's clock and threads need POSIX.1-2008
#error "include mrc.h before system headers, or compile with -D_POSIX_C_SOURCE=200809L"
#endif

// Under ASan, released arena memory is poisoned: a read after release is found at once.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MRC__ASAN
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define MRC__ASAN
#endif
#ifdef MRC__ASAN
#include <sanitizer/asan_interface.h>
#define MRC__POISON(ptr, bytes)   ASAN_POISON_MEMORY_REGION(ptr, bytes)
#define MRC__UNPOISON(ptr, bytes) ASAN_UNPOISON_MEMORY_REGION(ptr, bytes)
#else
#define MRC__POISON(ptr, bytes)   ((void)(ptr), (void)(bytes))
#define MRC__UNPOISON(ptr, bytes) ((void)(ptr), (void)(bytes))
#endif

//==============================================================================
// >>impl.status
//==============================================================================
MRCDEF const char *mrc_status_string(mrc_status status) {
    switch (status) {
#define MRC_X(name, value, text) case MRC_##name: return text;
        MRC_STATUS_LIST(MRC_X)
#undef MRC_X
    }
    return "unknown status";
}

static const struct { const char *name; size_t bytes; } mrc__dtypes[MRC_DTYPE_COUNT] = {
#define MRC_X(NAME, name, bytes) { #name, bytes },
    MRC_DTYPE_LIST(MRC_X)
#undef MRC_X
};

MRCDEF size_t mrc_dtype_bytes(mrc_dtype dtype) {
    return (unsigned)dtype < MRC_DTYPE_COUNT ? mrc__dtypes[dtype].bytes : 0;
}
MRCDEF const char *mrc_dtype_name(mrc_dtype dtype) {
    return (unsigned)dtype < MRC_DTYPE_COUNT ? mrc__dtypes[dtype].name : "no dtype";
}

//==============================================================================
// >>impl.alloc   checked sizes, allocator hooks
//==============================================================================
// a * b and a + b, or failure.  Sizes come from files: never compute them bare.
static int mrc__mul(size_t a, size_t b, size_t *out) {
    if (b != 0 && a > SIZE_MAX / b) return 0;
    *out = a * b;
    return 1;
}
static int mrc__add(size_t a, size_t b, size_t *out) {
    if (a > SIZE_MAX - b) return 0;
    *out = a + b;
    return 1;
}

static void *mrc__std_alloc(void *user, size_t bytes) { (void)user; return malloc(bytes); }
static void  mrc__std_free(void *user, void *ptr)     { (void)user; free(ptr); }

// Fills in malloc and free; 0 when only one of the two is given.
static int mrc__allocator_init(mrc_allocator *a, const mrc_allocator *given) {
    memset(a, 0, sizeof *a);
    if (given) *a = *given;
    if (!a->alloc != !a->free) return 0;
    if (!a->alloc) { a->alloc = mrc__std_alloc; a->free = mrc__std_free; }
    return 1;
}

static void *mrc__host_zalloc(const mrc_allocator *host, size_t bytes) {
    void *p = host->alloc(host->user, bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

// Makes room for n elements, old contents kept; 0: no memory, and nothing has changed.
static int mrc__grow(const mrc_allocator *host, void **data, size_t *capacity, size_t n,
                     size_t element) {
    size_t bytes, more = *capacity > SIZE_MAX / 2 ? n : *capacity * 2;
    if (n <= *capacity) return 1;
    if (more < n) more = n;
    if (more < 16) more = 16;
    void *grown = mrc__mul(more, element, &bytes) ? host->alloc(host->user, bytes) : NULL;
    if (!grown) return 0;
    if (*data) {
        memcpy(grown, *data, *capacity * element);
        host->free(host->user, *data);
    }
    *data = grown;
    *capacity = more;
    return 1;
}

// Host memory that is freed all at once: the nodes and texts of a parsed file.
typedef struct mrc__chunk { struct mrc__chunk *next; char pad[16 - sizeof(void *)]; } mrc__chunk;
typedef struct mrc__pool {
    mrc_allocator host;
    mrc__chunk   *chunks;
    char         *at;
    size_t        left, chunk_bytes;
} mrc__pool;

// align: 1 to 16, a power of two.  What is large gets a chunk of its own, so that no tail is lost.
static void *mrc__pool_alloc(mrc__pool *p, size_t bytes, size_t align) {
    size_t pad = (align - (uintptr_t)p->at % align) % align, total;
    if (p->left < pad || p->left - pad < bytes) {
        size_t next = p->chunk_bytes ? p->chunk_bytes : 2048;
        int own = bytes > next / 4;
        if (!mrc__add(own ? bytes : next, sizeof(mrc__chunk), &total)) return NULL;
        mrc__chunk *c = p->host.alloc(p->host.user, total);
        if (!c) return NULL;
        c->next = p->chunks;
        p->chunks = c;
        if (own) return c + 1;
        p->chunk_bytes = next < (size_t)1 << 20 ? next * 2 : next;
        p->at = (char *)(c + 1);
        p->left = next;
        pad = 0;
    }
    void *data = p->at + pad;
    p->at += pad + bytes;
    p->left -= pad + bytes;
    return data;
}

static void mrc__pool_free(mrc__pool *p) {
    for (mrc__chunk *c = p->chunks, *next; c; c = next) {
        next = c->next;
        p->host.free(p->host.user, c);
    }
    p->chunks = NULL;
    p->left = 0;
}

// Heapsort of pointers: in place, n log n on every input, no memory behind the hooks' back.
static void mrc__sort(const void **list, size_t n,
                      int (*compare)(const void *a, const void *b)) {
    for (size_t heap = n / 2, end = n; end > 1; ) {
        const void *moving;
        if (heap > 0) {
            moving = list[--heap];
        } else {
            moving = list[--end];
            list[end] = list[0];
        }
        size_t at = heap, child;
        while ((child = 2 * at + 1) < end) {
            if (child + 1 < end && compare(list[child], list[child + 1]) < 0) child++;
            if (compare(moving, list[child]) >= 0) break;
            list[at] = list[child];
            at = child;
        }
        list[at] = moving;
    }
}

// Names by bytes, the shorter of two equal beginnings first.
static int mrc__compare_bytes(const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    size_t n = a_bytes < b_bytes ? a_bytes : b_bytes;
    int order = n ? memcmp(a, b, n) : 0;
    return order ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

//==============================================================================
// >>impl.threads
//==============================================================================

//==============================================================================
// >>impl.arena
//
// Buffers on a backend.  The library never reads a buffer, so the book-keeping is in host memory:
//
//     chunk (one backend alloc)      chunk
//     [live][free  ][live][live]     [live][free       ]      blocks in address order
//
// Allocation is best fit, and a chunk's tail comes last: so offsets depend on the sequence of calls
// only, not on addresses nor on the size of a chunk that is large enough, and the extent that the
// null backend finds is exact.  Release merges neighbours of one chunk, rewind releases every block
// whose frame is not older.  An empty arena of several chunks makes them one at the next
// allocation, so unplanned sizes settle.  Searches are linear: a step has hundreds of blocks.
//==============================================================================
typedef struct mrc__block {
    struct mrc__block *next;
    char    *data;
    size_t   bytes;                 // a multiple of MRC_ALIGNMENT
    uint64_t frame;
    int      live;
    struct mrc__block *chunk;       // the chunk's first block: itself, if it is that one
    size_t   extent;                // of a first block: the end of what was ever live in its chunk
} mrc__block;

typedef struct mrc__arena {
    mrc_backend  *be;
    mrc_allocator host;
    mrc__block   *first;
    size_t        chunk_bytes, n_chunks, live, peak, extent, reserved;
} mrc__arena;

// Of an arena with nothing live, where each chunk is one block.
static void mrc__arena_free(mrc__arena *a) {
    for (mrc__block *b = a->first, *next; b; b = next) {
        next = b->next;
        if (a->be->is_host) MRC__UNPOISON(b->data, b->bytes);
        a->be->free(a->be, b->data);
        a->host.free(a->host.user, b);
    }
    a->first = NULL;
    a->n_chunks = a->extent = a->reserved = 0;
}

// A free chunk of at least `bytes` at the front of the list, or NULL.  After the first it is an
// eighth of the arena: a plan that was a little short must not double the memory.
static mrc__block *mrc__arena_grow(mrc__arena *a, size_t bytes) {
    size_t chunk = a->reserved && a->chunk_bytes ? a->reserved / 8 : a->chunk_bytes;
    chunk -= chunk % MRC_ALIGNMENT;
    if (bytes < chunk) bytes = chunk;
    mrc__block *b = mrc__host_zalloc(&a->host, sizeof *b);
    if (!b) return NULL;
    b->data = a->be->alloc(a->be, bytes);
    if (!b->data) {
        a->host.free(a->host.user, b);
        return NULL;
    }
    if (a->be->is_host) MRC__POISON(b->data, bytes);
    b->bytes = bytes;
    b->chunk = b;
    b->next = a->first;
    a->first = b;
    a->n_chunks++;
    a->reserved += bytes;
    return b;
}

// Whether `bytes` go rather to a than to b: holes before tails, then the smaller one.
static int mrc__block_better(const mrc__block *a, const mrc__block *b) {
    int tail_a = !a->next || a->next->chunk == a->next;
    int tail_b = b && (!b->next || b->next->chunk == b->next);
    return !b || (tail_a != tail_b ? tail_b : a->bytes < b->bytes);
}

// NULL: out of memory; nothing has changed then but that the arena may have grown.
static void *mrc__arena_alloc(mrc__arena *a, size_t bytes, uint64_t frame) {
    size_t need;
    if (!mrc__add(bytes ? bytes : 1, MRC_ALIGNMENT - 1, &need)) return NULL;
    need -= need % MRC_ALIGNMENT;
    if (a->n_chunks > 1 && a->live == 0) {
        a->chunk_bytes = a->reserved;
        mrc__arena_free(a);
    }
    mrc__block *best = NULL;
    for (mrc__block *b = a->first; b; b = b->next) {
        if (!b->live && b->bytes >= need && mrc__block_better(b, best)) best = b;
    }
    if (!best) best = mrc__arena_grow(a, need);
    if (!best) return NULL;
    if (best->bytes > need) {
        mrc__block *rest = mrc__host_zalloc(&a->host, sizeof *rest);
        if (!rest) return NULL;
        *rest = (mrc__block){ .next = best->next, .data = best->data + need,
                              .bytes = best->bytes - need, .chunk = best->chunk };
        best->next = rest;
        best->bytes = need;
    }
    best->live = 1;
    best->frame = frame;
    a->live += need;
    if (a->live > a->peak) a->peak = a->live;
    size_t end = (size_t)(best->data - best->chunk->data) + need;
    if (end > best->chunk->extent) {
        a->extent += end - best->chunk->extent;
        best->chunk->extent = end;
    }
    if (a->be->is_host) MRC__UNPOISON(best->data, bytes);
    return best->data;
}

static mrc__block *mrc__arena_find(const mrc__arena *a, const void *data) {
    mrc__block *b = a->first;
    while (b && (!b->live || b->data != data)) b = b->next;
    return b;
}

static void mrc__arena_release_block(mrc__arena *a, mrc__block *b) {
    b->live = 0;
    a->live -= b->bytes;
    if (a->be->is_host) MRC__POISON(b->data, b->bytes);
}

// Joins free neighbours of one chunk.
static void mrc__arena_merge(mrc__arena *a) {
    for (mrc__block *b = a->first; b; b = b->next) {
        mrc__block *right = b->next;
        while (!b->live && right && !right->live && right->chunk != right) {
            b->bytes += right->bytes;
            b->next = right->next;
            a->host.free(a->host.user, right);
            right = b->next;
        }
    }
}

static void mrc__arena_release(mrc__arena *a, const void *data) {
    mrc__block *b = data ? mrc__arena_find(a, data) : NULL;
    if (!b) return;
    mrc__arena_release_block(a, b);
    mrc__arena_merge(a);
}

static void mrc__arena_rewind(mrc__arena *a, uint64_t frame) {
    for (mrc__block *b = a->first; b; b = b->next) {
        if (b->live && b->frame >= frame) mrc__arena_release_block(a, b);
    }
    mrc__arena_merge(a);
}

//==============================================================================
// >>impl.ctx
//==============================================================================
typedef struct mrc_node mrc_node;

// Host records that die with a frame: tensors and nodes.  Newest first, so frames never rise.
typedef struct mrc__object {
    struct mrc__object *next;
    uint64_t            frame;
} mrc__object;
#define MRC__OBJECT_BYTES ((sizeof(mrc__object) + 15) / 16 * 16)    // keeps what follows aligned

#define MRC__GRAD_BUCKETS 256
struct mrc_ctx {
    mrc_allocator     host;
    void            (*log)(void *user, mrc_status status, const char *message);
    void             *log_user;
    mrc_backend      *be;
    mrc_status        status;
    char              message[1024];
    mrc__arena        step, grads;
    mrc__object      *objects;
    mrc_node         *tape;         // newest first: already reverse topological
    uint64_t          frame;        // of what is made now; a mark opens the next one
    uint64_t          segment;      // first frame of the running segment: see mrc_drop()
    int               grad_mode;
    int               saw_trainable;    // an op had an input that wants a gradient
    mrc_random        random;
    struct mrc__grad *grad_table[MRC__GRAD_BUCKETS];
};

// Records the first error, logs every one, returns the status: `return mrc__fail(...)`.
__attribute__((format(printf, 3, 4)))
static mrc_status mrc__fail(mrc_ctx *ctx, mrc_status status, const char *fmt, ...) {
    char text[sizeof ctx->message];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (ctx->status == MRC_OK) {
        ctx->status = status;
        memcpy(ctx->message, text, sizeof text);
    }
    if (ctx->log) ctx->log(ctx->log_user, status, text);
    return status;
}
// In a function that returns a pointer: return mrc__fail_null(...).
#define mrc__fail_null(...) (mrc__fail(__VA_ARGS__), NULL)
#define MRC__TRY(expr) do { mrc_status try_ = (expr); if (try_ != MRC_OK) return try_; } while (0)

static void *mrc__object_new(const mrc_allocator *host, mrc__object **list, uint64_t frame,
                             size_t bytes) {
    mrc__object *o = mrc__host_zalloc(host, MRC__OBJECT_BYTES + bytes);
    if (!o) return NULL;
    o->next = *list;
    o->frame = frame;
    *list = o;
    return (char *)o + MRC__OBJECT_BYTES;
}

static void mrc__objects_rewind(const mrc_allocator *host, mrc__object **list, uint64_t frame) {
    while (*list && (*list)->frame >= frame) {
        mrc__object *dead = *list;
        *list = dead->next;
        host->free(host->user, dead);
    }
}

// The text of what is wrong with a backend as such, NULL when nothing is.
static const char *mrc__backend_refusal(const mrc_backend *be) {
    if (!be) return "no backend given";
    if (be->size != sizeof *be) return "backend struct has another size";
    if (be->api != MRC_BACKEND_API) return "backend was made for another API number";
    if (!be->alloc || !be->free || !be->upload || !be->download) return "backend has no memory";
    return NULL;
}

MRCDEF mrc_status mrc_ctx_new(mrc_ctx **out, const mrc_ctx_desc *desc) {
    mrc_allocator host;
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (!desc || !mrc__allocator_init(&host, &desc->allocator)) return MRC_ERR_ARG;
    const char *refusal = desc->backend ? mrc__backend_refusal(desc->backend) : NULL;
    if (refusal) {
        char text[160];
        snprintf(text, sizeof text, "%s: size %zu, library's %zu; API %u, library's %u", refusal,
                 desc->backend->size, sizeof(mrc_backend), (unsigned)desc->backend->api,
                 (unsigned)MRC_BACKEND_API);
        if (desc->log) desc->log(desc->log_user, MRC_ERR_UNSUPPORTED, text);
        return MRC_ERR_UNSUPPORTED;
    }
    mrc_ctx *ctx = mrc__host_zalloc(&host, sizeof *ctx);
    if (!ctx) return MRC_ERR_MEM;
    ctx->host = host;
    ctx->log = desc->log;
    ctx->log_user = desc->log_user;
    ctx->be = desc->backend;
    ctx->step.be = ctx->grads.be = desc->backend;
    ctx->step.host = ctx->grads.host = host;
    ctx->step.chunk_bytes = desc->step_chunk_bytes ? desc->step_chunk_bytes : (size_t)1 << 20;
    ctx->step.chunk_bytes -= ctx->step.chunk_bytes % MRC_ALIGNMENT;
    ctx->grad_mode = 1;
    ctx->frame = 1;
    *out = ctx;
    return MRC_OK;
}

MRCDEF mrc_status mrc_ctx_status(const mrc_ctx *ctx) { return ctx ? ctx->status : MRC_ERR_ARG; }
MRCDEF const char *mrc_ctx_message(const mrc_ctx *ctx) { return ctx ? ctx->message : "no context"; }
MRCDEF void mrc_ctx_clear_error(mrc_ctx *ctx) {
    ctx->status = MRC_OK;
    ctx->message[0] = 0;
}

MRCDEF mrc_memory mrc_ctx_memory(const mrc_ctx *ctx) {
    return (mrc_memory){ .step_live = ctx->step.live, .step_peak = ctx->step.peak,
                         .step_extent = ctx->step.extent, .step_reserved = ctx->step.reserved,
                         .grads = ctx->grads.live };
}

MRCDEF void mrc_backend_free(mrc_backend *be) {
    if (be) be->destroy(be);
}

//==============================================================================
// >>impl.utf8
//
// The well-formed sequences are those of Unicode's table 3-7: a lead byte fixes the length and the
// range of the second byte, every later byte is 80..BF.  So nothing overlong, no surrogate and
// nothing above 10FFFF gets through, and U+0000 and noncharacters do.  An ill-formed sequence ends
// before the byte that broke it (Unicode 3.9, "maximal subpart"): that byte may begin the next one.
// No read passes the end that the caller gave.
//==============================================================================
// The longest beginning of s that a well-formed sequence could have; the sequence is complete when
// that is *need bytes.  bytes is at least 1; *need is 0 when no sequence begins so.
static size_t mrc__utf8_scan(const char *s, size_t bytes, uint32_t *cp, size_t *need) {
    const unsigned char *p = (const unsigned char *)s;
    unsigned lead = p[0], low = 0x80, high = 0xBF;
    size_t n = 1;
    if (lead < 0x80) {
        *need = 1;
        *cp = lead;
    } else if (lead < 0xC2 || lead > 0xF4) {
        *need = 0;
    } else if (lead < 0xE0) {
        *need = 2;
        *cp = lead & 0x1F;
    } else if (lead < 0xF0) {
        *need = 3;
        *cp = lead & 0x0F;
        if (lead == 0xE0) low = 0xA0;
        if (lead == 0xED) high = 0x9F;
    } else {
        *need = 4;
        *cp = lead & 0x07;
        if (lead == 0xF0) low = 0x90;
        if (lead == 0xF4) high = 0x8F;
    }
    for (; n < *need && n < bytes && p[n] >= low && p[n] <= high; n++) {
        *cp = *cp << 6 | (p[n] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    return n;
}

MRCDEF size_t mrc_utf8_decode(const char *s, size_t bytes, uint32_t *cp) {
    uint32_t value = 0;
    size_t need = 0, n = bytes ? mrc__utf8_scan(s, bytes, &value, &need) : 0;
    if (n == 0 || n != need) return 0;
    *cp = value;
    return n;
}

MRCDEF size_t mrc_utf8_next(const char *s, size_t bytes, uint32_t *cp) {
    uint32_t value = 0;
    size_t need = 0, n = bytes ? mrc__utf8_scan(s, bytes, &value, &need) : 0;
    *cp = n == need ? value : 0xFFFD;
    return n;
}

MRCDEF size_t mrc_utf8_encode(uint32_t cp, char out[4]) {
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF)) return 0;
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    uint32_t lead = n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0;
    for (size_t i = n; i-- > 1; cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)(lead | cp);
    return n;
}

// Eight bytes at once where they are all ASCII: most of most files.
MRCDEF size_t mrc_utf8_valid(const char *s, size_t bytes) {
    size_t at = 0, n = 1;
    uint32_t cp;
    while (at < bytes && n) {
        uint64_t eight;
        while (bytes - at >= 8 && (memcpy(&eight, s + at, 8), !(eight & 0x8080808080808080u))) {
            at += 8;
        }
        n = mrc_utf8_decode(s + at, bytes - at, &cp);
        at += n;
    }
    return at;
}

// Continuation bytes do not count.
MRCDEF size_t mrc_utf8_length(const char *s, size_t bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += ((unsigned char)s[i] & 0xC0) != 0x80;
    return n;
}

MRCDEF size_t mrc_utf8_offset(const char *s, size_t bytes, size_t index) {
    for (size_t i = 0; i < bytes; i++) {
        if (((unsigned char)s[i] & 0xC0) != 0x80 && index-- == 0) return i;
    }
    return bytes;
}

//==============================================================================
// >>impl.json
//
// RFC 8259 to the letter (RELIABILITY 3.3).  Three layers: a lexer that checks every byte once and
// never allocates (safetensors headers are read with it alone), a builder of the read-only tree,
// and text that grows.  The builder keeps its open containers in a list, so that nesting costs no
// C stack; nodes and texts of a tree lie in one pool.  Nothing here asks the locale: numbers are
// read by exact integer arithmetic, and of what printf writes only the digits are used.
//==============================================================================
#include <float.h>

// Unsigned integers of up to 3072 bits, lowest limb first, no zero limb on top.  The longest that
// a number needs: 769 digits, or 5^1099 (see mrc__decimal_round), each under 2560 bits.
#define MRC__BIG_LIMBS 96
typedef struct mrc__big { uint32_t limb[MRC__BIG_LIMBS]; size_t n; } mrc__big;

static void mrc__big_muladd(mrc__big *b, uint32_t factor, uint32_t term) {
    uint64_t carry = term;
    for (size_t i = 0; i < b->n; i++) {
        carry += (uint64_t)b->limb[i] * factor;
        b->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry && b->n < MRC__BIG_LIMBS) b->limb[b->n++] = (uint32_t)carry;
}

static void mrc__big_mul_pow5(mrc__big *b, unsigned power) {
    for (; power >= 13; power -= 13) mrc__big_muladd(b, 1220703125u, 0);        // 5^13
    for (; power > 0; power--) mrc__big_muladd(b, 5, 0);
}

static int mrc__big_bits(const mrc__big *b) {
    int bits = (int)b->n * 32;
    for (uint32_t top = b->n ? b->limb[b->n - 1] : 1; b->n && !(top & 0x80000000u); top <<= 1) {
        bits--;
    }
    return bits;
}

static void mrc__big_shift(mrc__big *b, unsigned bits) {
    size_t limbs = bits / 32;
    if (b->n == 0 || b->n + limbs > MRC__BIG_LIMBS) return;
    memmove(b->limb + limbs, b->limb, b->n * sizeof b->limb[0]);
    memset(b->limb, 0, limbs * sizeof b->limb[0]);
    b->n += limbs;
    mrc__big_muladd(b, (uint32_t)1 << bits % 32, 0);
}

static int mrc__big_compare(const mrc__big *a, const mrc__big *b) {
    if (a->n != b->n) return a->n > b->n ? 1 : -1;
    for (size_t i = a->n; i-- > 0; ) {
        if (a->limb[i] != b->limb[i]) return a->limb[i] > b->limb[i] ? 1 : -1;
    }
    return 0;
}

// a -= b, where a >= b.
static void mrc__big_subtract(mrc__big *a, const mrc__big *b) {
    uint64_t borrow = 0;
    for (size_t i = 0; i < a->n; i++) {
        uint64_t difference = (uint64_t)a->limb[i] - (i < b->n ? b->limb[i] : 0) - borrow;
        a->limb[i] = (uint32_t)difference;
        borrow = difference >> 63;
    }
    while (a->n && a->limb[a->n - 1] == 0) a->n--;
}

// numerator / denominator * 2^exponent to the nearest double, ties to even: 56 bits of the quotient
// by shift and subtract, one for whether anything is left, then a single rounding at the place
// that the result's exponent leaves (subnormals have fewer bits).
static double mrc__big_ratio(mrc__big *numerator, mrc__big *denominator, int exponent) {
    int align = mrc__big_bits(numerator) - mrc__big_bits(denominator);
    if (align < 0) mrc__big_shift(numerator, (unsigned)-align);
    if (align > 0) mrc__big_shift(denominator, (unsigned)align);
    uint64_t q = 0;
    for (int i = 0; i < 56; i++) {
        q <<= 1;
        if (mrc__big_compare(numerator, denominator) >= 0) {
            mrc__big_subtract(numerator, denominator);
            q |= 1;
        }
        mrc__big_shift(numerator, 1);
    }
    exponent += align - 55;                         // the value is q * 2^exponent, and a rest
    int bits = q >> 55 ? 56 : 55, drop = bits - 53;
    if (exponent + drop < -1074) drop = -1074 - exponent;
    if (drop > bits) return 0;                      // below half of the smallest double
    uint64_t kept = q >> drop, half = (uint64_t)1 << (drop - 1);
    int above = (q & (half - 1)) != 0 || numerator->n != 0;
    if ((q & half) && (above || (kept & 1))) kept++;
    return ldexp((double)kept, exponent + drop);
}

// Digits with a point at `exponent` places from their end.  No double or middle between two has
// more than 767 digits, so of what follows 768 only matters whether it is all zeros.
#define MRC__DECIMAL_DIGITS 768
typedef struct mrc__decimal {
    uint64_t    low;                // the first 19 digits as an integer
    int64_t     n, exponent;        // significant digits, all of them
    const char *first;              // the first that is no zero; a point may be among them
} mrc__decimal;

static double mrc__decimal_round(const mrc__decimal *d) {
    static const double power[] = { 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21,
                                    1e22 };
    if (d->n == 0 || d->n + d->exponent < -330) return 0;
    if (d->n + d->exponent > 310) return HUGE_VAL;
    // Both factors are exact, so the one operation rounds correctly (Clinger's fast case).
    if (FLT_EVAL_METHOD == 0 && d->n <= 19 && d->low <= (uint64_t)1 << 53
        && d->exponent >= -22 && d->exponent <= 22) {
        double low = (double)d->low;
        return d->exponent < 0 ? low / power[-d->exponent] : low * power[d->exponent];
    }
    mrc__big numerator, denominator;
    numerator.n = denominator.n = 0;
    int64_t used = d->n <= 19 ? d->n : 0, exponent = d->exponent;
    if (used) {
        mrc__big_muladd(&numerator, 1, (uint32_t)(d->low >> 32));
        mrc__big_shift(&numerator, 32);
        mrc__big_muladd(&numerator, 1, (uint32_t)d->low);
    }
    for (const char *p = d->first; used < d->n && used < MRC__DECIMAL_DIGITS; p++) {
        if (*p == '.') continue;
        mrc__big_muladd(&numerator, 10, (uint32_t)(*p - '0'));
        used++;
    }
    if (used < d->n) {              // the rest as one digit: trailing zeros were not counted
        mrc__big_muladd(&numerator, 10, 1);
        used++;
    }
    exponent += d->n - used;
    mrc__big_muladd(&denominator, 1, 1);
    if (exponent < 0) mrc__big_mul_pow5(&denominator, (unsigned)-exponent);
    if (exponent > 0) mrc__big_mul_pow5(&numerator, (unsigned)exponent);
    return mrc__big_ratio(&numerator, &denominator, (int)exponent);
}

// The double nearest to a text of JSON's number grammar: infinite when it overflows.
static double mrc__decimal_parse(const char *s, size_t bytes) {
    const char *p = s, *end = s + bytes;
    mrc__decimal d = { .first = s };
    int negative = *p == '-', point = 0, exponent_negative = 0;
    int64_t zeros = 0, exponent = 0;        // zeros: at the end of the digits so far
    for (p += negative; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            point = 1;
            continue;
        }
        if (point) d.exponent--;
        if (*p == '0') {
            zeros += d.n > 0;
            continue;
        }
        if (d.n == 0) d.first = p;
        for (d.n += zeros; zeros > 0; zeros--) if (d.n - zeros < 19) d.low *= 10;
        if (d.n < 19) d.low = d.low * 10 + (uint64_t)(*p - '0');
        d.n++;
    }
    d.exponent += zeros;
    if (p < end) p++;
    if (p < end && (*p == '-' || *p == '+')) exponent_negative = *p++ == '-';
    for (; p < end; p++) {
        if (exponent < (int64_t)1 << 40) exponent = exponent * 10 + (*p - '0');
    }
    d.exponent += exponent_negative ? -exponent : exponent;
    double x = mrc__decimal_round(&d);
    return negative ? -x : x;
}

// One token at a time.  A token is its first character, '0' for a number, 0 for the end of the
// text; for strings and numbers `text` is what stands in the file, without quotes.
typedef struct mrc__lexer {
    mrc_ctx    *ctx;
    const char *name;               // for messages
    const char *at, *end, *line_start;
    size_t      line, wide;         // wide: bytes since line_start that begin no code point
    char        token;
    int         escaped;            // STRING: holds a backslash
    int         whole;              // NUMBER: no point, no exponent
    const char *text;
    size_t      bytes, column;      // column: of the token
} mrc__lexer;

static void mrc__lexer_init(mrc__lexer *lx, mrc_ctx *ctx, const char *name, const char *text,
                            size_t bytes, size_t line) {
    *lx = (mrc__lexer){ .ctx = ctx, .name = name, .at = text, .end = text + bytes,
                        .line_start = text, .line = line, .text = text, .column = 1 };
}

__attribute__((format(printf, 3, 4)))
static mrc_status mrc__lexer_fail(const mrc__lexer *lx, size_t column, const char *fmt, ...) {
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return mrc__fail(lx->ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: %s", lx->name, lx->line, column, what);
}

static size_t mrc__lexer_column(const mrc__lexer *lx, const char *at) {
    return (size_t)(at - lx->line_start) - lx->wide + 1;
}

// The token that stands where something else should.
static mrc_status mrc__lexer_expected(const mrc__lexer *lx, const char *what) {
    if (!lx->token) return mrc__lexer_fail(lx, lx->column, "expected %s, found the end", what);
    if (lx->token == '"') {
        return mrc__lexer_fail(lx, lx->column, "expected %s, found a string", what);
    }
    if (lx->token == '0') {
        return mrc__lexer_fail(lx, lx->column, "expected %s, found a number", what);
    }
    return mrc__lexer_fail(lx, lx->column, "expected %s, found '%c'", what, lx->token);
}

// The value of four hexadecimal digits, or -1.
static int mrc__json_hex4(const char *s, const char *end) {
    int value = 0;
    if (end - s < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int c = (unsigned char)s[i], lower = c | 0x20;
        if (c >= '0' && c <= '9') value = value * 16 + (c - '0');
        else if (lower >= 'a' && lower <= 'f') value = value * 16 + (lower - 'a' + 10);
        else return -1;
    }
    return value;
}

// The bytes of the escape at s, which is a backslash: 2, 6, or 12 for a pair; 0 and *what if wrong.
static size_t mrc__json_escape(const char *s, const char *end, const char **what) {
    *what = "not an escape";
    if (end - s < 2 || !s[1]) return 0;
    if (s[1] != 'u') return strchr("\"\\/bfnrt", s[1]) ? 2 : 0;
    int unit = mrc__json_hex4(s + 2, end), second = -1;
    *what = "expected four hexadecimal digits";
    if (unit < 0) return 0;
    if (unit < 0xD800 || unit > 0xDFFF) return 6;
    *what = "half of a surrogate pair alone";
    if (end - s >= 12 && s[6] == '\\' && s[7] == 'u') second = mrc__json_hex4(s + 8, end);
    return unit < 0xDC00 && second >= 0xDC00 && second <= 0xDFFF ? 12 : 0;
}

// Past printable ASCII, eight bytes at once.  The sums find bytes below 0x20, quotes, backslashes,
// 0x7f and what is above; they may stop early, never late.
static const char *mrc__json_plain(const char *p, const char *end) {
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    uint64_t x;
    while (end - p >= 8) {
        memcpy(&x, p, 8);
        uint64_t quote = x ^ ones * '"', slash = x ^ ones * '\\';
        if (((x - ones * 0x20) | (quote - ones) | (slash - ones) | (x + ones) | x) & tops) break;
        p += 8;
    }
    while (p < end && *p >= 0x20 && *p < 0x7f && *p != '"' && *p != '\\') p++;
    return p;
}

// A string whose opening quote is passed: every byte is checked here, so unescaping cannot fail.
static mrc_status mrc__lexer_string(mrc__lexer *lx) {
    const char *p = lx->at, *what;
    uint32_t cp;
    lx->text = p;
    lx->escaped = 0;
    for (;;) {
        p = mrc__json_plain(p, lx->end);
        if (p == lx->end) {
            return mrc__lexer_fail(lx, lx->column, "the string that begins here has no end");
        }
        if (*p == '"') break;
        unsigned char c = (unsigned char)*p;
        if (c == '\\') {
            size_t n = mrc__json_escape(p, lx->end, &what);
            if (n == 0) return mrc__lexer_fail(lx, mrc__lexer_column(lx, p), "%s", what);
            lx->escaped = 1;
            p += n;
        } else if (c < 0x20) {
            return mrc__lexer_fail(lx, mrc__lexer_column(lx, p),
                                   "control character 0x%02x in a string", c);
        } else {
            size_t n = mrc_utf8_decode(p, (size_t)(lx->end - p), &cp);
            if (n == 0) {
                return mrc__lexer_fail(lx, mrc__lexer_column(lx, p),
                                       "ill-formed UTF-8, byte 0x%02x", c);
            }
            lx->wide += n - 1;
            p += n;
        }
    }
    lx->bytes = (size_t)(p - lx->text);
    lx->at = p + 1;
    return MRC_OK;
}

static const char *mrc__json_digits(const char *p, const char *end) {
    while (p < end && *p >= '0' && *p <= '9') p++;
    return p;
}

static mrc_status mrc__lexer_number(mrc__lexer *lx) {
    const char *p = lx->at, *digits = p + (*p == '-');
    lx->text = p;
    lx->whole = 1;
    p = mrc__json_digits(digits, lx->end);
    if (p == digits) return mrc__lexer_fail(lx, lx->column, "a minus without a digit behind it");
    if (*digits == '0' && p - digits > 1) {
        return mrc__lexer_fail(lx, lx->column, "a number with a leading zero");
    }
    if (p < lx->end && *p == '.') {
        lx->whole = 0;
        digits = p + 1;
        p = mrc__json_digits(digits, lx->end);
        if (p == digits) return mrc__lexer_fail(lx, lx->column, "a point without a digit behind it");
    }
    if (p < lx->end && (*p == 'e' || *p == 'E')) {
        lx->whole = 0;
        digits = p + 1;
        if (digits < lx->end && (*digits == '-' || *digits == '+')) digits++;
        p = mrc__json_digits(digits, lx->end);
        if (p == digits) return mrc__lexer_fail(lx, lx->column, "an exponent without a digit");
    }
    lx->bytes = (size_t)(p - lx->text);
    lx->at = p;
    return MRC_OK;
}

static mrc_status mrc__lexer_next(mrc__lexer *lx) {
    static const char *const words[] = { "true", "false", "null" };
    const char *p = lx->at;
    for (; p < lx->end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'); p++) {
        if (*p != '\n') continue;
        lx->line++;
        lx->line_start = p + 1;
        lx->wide = 0;
    }
    lx->at = p;
    lx->column = mrc__lexer_column(lx, p);
    lx->token = 0;
    if (p == lx->end) return MRC_OK;
    unsigned char c = (unsigned char)*p;
    if (c == '"') {
        lx->token = '"';
        lx->at++;
        return mrc__lexer_string(lx);
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        lx->token = '0';
        return mrc__lexer_number(lx);
    }
    if (c && strchr("{}[]:,", c)) {
        lx->token = *p;
        lx->at++;
        return MRC_OK;
    }
    for (size_t i = 0; i < 3; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(lx->end - p) < n || memcmp(p, words[i], n)) continue;
        lx->token = *p;
        lx->at += n;
        return MRC_OK;
    }
    if (c > 0x20 && c < 0x7f) return mrc__lexer_fail(lx, lx->column, "unexpected '%c'", c);
    return mrc__lexer_fail(lx, lx->column, "unexpected byte 0x%02x", c);
}

// What a checked string means; out has room for as many bytes as the file's text.
static size_t mrc__json_unescape(const char *s, size_t bytes, char *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *end = s + bytes;
    char *o = out;
    while (s < end) {
        if (*s != '\\') {
            *o++ = *s++;
        } else if (s[1] != 'u') {
            *o++ = to[strchr(from, s[1]) - from];
            s += 2;
        } else {
            uint32_t cp = (uint32_t)mrc__json_hex4(s + 2, end);
            int pair = cp >= 0xD800 && cp <= 0xDBFF;
            if (pair) {
                uint32_t low = (uint32_t)mrc__json_hex4(s + 8, end);
                cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
            }
            o += mrc_utf8_encode(cp, o);
            s += pair ? 12 : 6;
        }
    }
    return (size_t)(o - out);
}

// The string token's meaning with a NUL behind it, in the pool.
static mrc_status mrc__lexer_text(mrc__lexer *lx, mrc__pool *pool, const char **out,
                                  size_t *bytes) {
    char *text = mrc__pool_alloc(pool, lx->bytes + 1, 1);
    if (!text) {
        return mrc__fail(lx->ctx, MRC_ERR_MEM, "%s: no memory for a string of %zu bytes",
                         lx->name, lx->bytes);
    }
    *bytes = lx->bytes;
    if (lx->escaped) *bytes = mrc__json_unescape(lx->text, lx->bytes, text);
    else memcpy(text, lx->text, lx->bytes);
    text[*bytes] = 0;
    *out = text;
    return MRC_OK;
}

// A whole number's digits without its sign; 0 when they do not fit.
static int mrc__lexer_u64(const mrc__lexer *lx, uint64_t *out) {
    uint64_t value = 0;
    for (size_t i = lx->text[0] == '-'; i < lx->bytes; i++) {
        uint64_t digit = (uint64_t)(lx->text[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) return 0;
        value = value * 10 + digit;
    }
    *out = value;
    return lx->whole;
}

typedef struct mrc__json_doc {
    mrc_json      root;             // first: freeing the root frees the whole
    mrc_allocator host;
    mrc__pool     pool;
} mrc__json_doc;

// A container that is still open.
typedef struct mrc__json_level { mrc_json *node, *last; } mrc__json_level;

static mrc_status mrc__json_number(mrc__lexer *lx, mrc_json *node) {
    uint64_t digits;
    int negative = lx->text[0] == '-';
    node->type = MRC_JSON_NUMBER;
    if (mrc__lexer_u64(lx, &digits) && digits <= (uint64_t)INT64_MAX + (negative ? 1u : 0u)) {
        node->is_int = 1;
        node->integer = negative && digits ? -(int64_t)(digits - 1) - 1 : (int64_t)digits;
    }
    node->number = mrc__decimal_parse(lx->text, lx->bytes);
    if (!isfinite(node->number)) {
        return mrc__lexer_fail(lx, lx->column, "a number too large for a double");
    }
    return MRC_OK;
}

// The value that begins with the current token: all of a scalar, of a container its opening.
static mrc_status mrc__json_value(mrc__lexer *lx, mrc__pool *pool, mrc_json *node) {
    node->line = lx->line;
    node->column = lx->column;
    switch (lx->token) {
    case '{': node->type = MRC_JSON_OBJECT; return MRC_OK;
    case '[': node->type = MRC_JSON_ARRAY; return MRC_OK;
    case 't': node->type = MRC_JSON_TRUE; return MRC_OK;
    case 'f': node->type = MRC_JSON_FALSE; return MRC_OK;
    case 'n': node->type = MRC_JSON_NULL; return MRC_OK;
    case '0': return mrc__json_number(lx, node);
    case '"':
        node->type = MRC_JSON_STRING;
        return mrc__lexer_text(lx, pool, &node->string, &node->bytes);
    default: return mrc__lexer_expected(lx, "a value");
    }
}

// A new last child of an open container, its key read; the current token is then the value's.
static mrc_status mrc__json_child(mrc__lexer *lx, mrc__pool *pool, mrc__json_level *level,
                                  mrc_json **out) {
    mrc_json *node = mrc__pool_alloc(pool, sizeof *node, 16);
    if (!node) return mrc__fail(lx->ctx, MRC_ERR_MEM, "%s: no memory for a node", lx->name);
    memset(node, 0, sizeof *node);
    if (level->node->type == MRC_JSON_OBJECT) {
        if (lx->token != '"') return mrc__lexer_expected(lx, "a member's name in quotes");
        MRC__TRY(mrc__lexer_text(lx, pool, &node->key, &node->key_bytes));
        MRC__TRY(mrc__lexer_next(lx));
        if (lx->token != ':') return mrc__lexer_expected(lx, "':'");
        MRC__TRY(mrc__lexer_next(lx));
    }
    if (level->last) level->last->next = node;
    else level->node->child = node;
    level->last = node;
    level->node->n++;
    *out = node;
    return MRC_OK;
}

// The tree below doc->root, and nothing behind it.  levels has room for max_depth.
static mrc_status mrc__json_build(mrc__lexer *lx, mrc__json_doc *doc, mrc__json_level *levels,
                                  size_t max_depth) {
    mrc_json *node = &doc->root;
    size_t depth = 0;
    MRC__TRY(mrc__lexer_next(lx));
    for (;;) {
        MRC__TRY(mrc__json_value(lx, &doc->pool, node));
        int opened = node->type == MRC_JSON_ARRAY || node->type == MRC_JSON_OBJECT;
        if (opened && depth == max_depth) {
            return mrc__lexer_fail(lx, lx->column, "nested deeper than %zu", max_depth);
        }
        if (opened) levels[depth++] = (mrc__json_level){ .node = node };
        for (;;) {                  // to the next value, closing what ends before it
            MRC__TRY(mrc__lexer_next(lx));
            if (depth == 0) return lx->token ? mrc__lexer_expected(lx, "the end") : MRC_OK;
            mrc__json_level *level = &levels[depth - 1];
            int object = level->node->type == MRC_JSON_OBJECT;
            if (lx->token == (object ? '}' : ']')) {
                depth--;
                opened = 0;
                continue;
            }
            if (!opened) {
                if (lx->token != ',') return mrc__lexer_expected(lx, object ? "',' or '}'"
                                                                            : "',' or ']'");
                MRC__TRY(mrc__lexer_next(lx));
            }
            MRC__TRY(mrc__json_child(lx, &doc->pool, level, &node));
            break;
        }
    }
}

// Other encodings, told by their marks, or by the zeros that ASCII has in them.
static const char *mrc__json_encoding(const char *s, size_t bytes) {
    if (bytes >= 4 && (!memcmp(s, "\0\0\xFE\xFF", 4) || !memcmp(s, "\xFF\xFE\0\0", 4))) {
        return "UTF-32";
    }
    if (bytes >= 2 && (!memcmp(s, "\xFE\xFF", 2) || !memcmp(s, "\xFF\xFE", 2))) return "UTF-16";
    if (bytes >= 4 && ((!s[0] && !s[1] && !s[2]) || (!s[1] && !s[2] && !s[3]))) return "UTF-32";
    if (bytes >= 2 && (!s[0] != !s[1])) return "UTF-16";
    return NULL;
}

// One value that begins on the given line of a larger text: what JSONL readers call.
static mrc_status mrc__json_parse_at(mrc_ctx *ctx, mrc_json **out, const char *name, size_t line,
                                     const char *text, size_t bytes, size_t max_depth) {
    mrc__lexer lx;
    size_t levels_bytes;
    if (max_depth == 0) max_depth = 512;
    mrc__lexer_init(&lx, ctx, name, text, bytes, line);
    if (bytes > UINT32_MAX) return mrc__lexer_fail(&lx, 1, "%zu bytes, at most 4 GiB", bytes);
    const char *encoding = mrc__json_encoding(text, bytes);
    if (encoding) return mrc__lexer_fail(&lx, 1, "this is %s: save it as UTF-8", encoding);
    if (line == 1 && bytes >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) {
        lx.at = lx.line_start = text + 3;
    }
    mrc__json_doc *doc = mrc__host_zalloc(&ctx->host, sizeof *doc);
    mrc__json_level *levels = mrc__mul(max_depth, sizeof *levels, &levels_bytes)
                            ? ctx->host.alloc(ctx->host.user, levels_bytes) : NULL;
    if (doc) doc->host = doc->pool.host = ctx->host;
    mrc_status s = doc && levels ? mrc__json_build(&lx, doc, levels, max_depth)
                                 : mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory to parse it", name);
    if (levels) ctx->host.free(ctx->host.user, levels);
    if (s == MRC_OK) *out = &doc->root;
    else if (doc) mrc_json_free(&doc->root);
    return s;
}

MRCDEF mrc_status mrc_json_parse(mrc_ctx *ctx, mrc_json **out, const char *name, const char *text,
                                 size_t bytes, size_t max_depth) {
    if (!ctx || !out) return MRC_ERR_ARG;
    *out = NULL;
    if (!text) return mrc__fail(ctx, MRC_ERR_ARG, "json: no text given");
    return mrc__json_parse_at(ctx, out, name ? name : "json", 1, text, bytes, max_depth);
}

MRCDEF mrc_status mrc_json_load(mrc_ctx *ctx, mrc_json **out, const char *path) {
    char *text;
    size_t bytes;
    if (!ctx || !out) return MRC_ERR_ARG;
    *out = NULL;
    MRC__TRY(mrc_file_read(ctx, &text, &bytes, path));
    mrc_status s = mrc_json_parse(ctx, out, path, text, bytes, 0);
    mrc_file_free(ctx, text);
    return s;
}

MRCDEF void mrc_json_free(mrc_json *root) {
    if (!root) return;
    mrc__json_doc *doc = (mrc__json_doc *)root;
    mrc__pool_free(&doc->pool);
    doc->host.free(doc->host.user, doc);
}

MRCDEF const mrc_json *mrc_json_get(const mrc_json *object, const char *key) {
    if (!object || !key || object->type != MRC_JSON_OBJECT) return NULL;
    size_t bytes = strlen(key);
    for (const mrc_json *m = object->child; m; m = m->next) {
        if (m->key_bytes == bytes && !memcmp(m->key, key, bytes)) return m;
    }
    return NULL;
}

static int mrc__json_compare_keys(const void *a, const void *b) {
    const mrc_json *x = a, *y = b;
    return mrc__compare_bytes(x->key, x->key_bytes, y->key, y->key_bytes);
}

MRCDEF mrc_status mrc_json_unique_keys(mrc_ctx *ctx, const mrc_json *object, const char *name) {
    size_t bytes, n = 0;
    if (!ctx || !object || !name) return MRC_ERR_ARG;
    if (object->type != MRC_JSON_OBJECT || object->n < 2) return MRC_OK;
    const void **list = mrc__mul(object->n, sizeof *list, &bytes)
                      ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!list) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory for %zu keys", name, object->n);
    for (const mrc_json *m = object->child; m; m = m->next) list[n++] = m;
    mrc__sort(list, n, mrc__json_compare_keys);
    mrc_status s = MRC_OK;
    for (size_t i = 1; s == MRC_OK && i < n; i++) {
        const mrc_json *m = list[i];
        if (mrc__json_compare_keys(list[i - 1], m)) continue;
        s = mrc__fail(ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: the key \"%.100s\" appears twice", name,
                      m->line, m->column, m->key);
    }
    ctx->host.free(ctx->host.user, list);
    return s;
}

MRCDEF void mrc_text_init(mrc_text *t, const mrc_ctx *ctx) {
    *t = (mrc_text){ .host = ctx->host };
}

MRCDEF void mrc_text_free(mrc_text *t) {
    if (t->data) t->host.free(t->host.user, t->data);
    *t = (mrc_text){ .host = t->host };
}

// Room for `bytes` more and a NUL: where they go, or NULL.
static char *mrc__text_room(mrc_text *t, size_t bytes) {
    size_t need;
    void *data = t->data;
    if (t->failed || !mrc__add(t->bytes, bytes, &need) || !mrc__add(need, 1, &need)
        || !mrc__grow(&t->host, &data, &t->capacity, need, 1)) {
        t->failed = 1;
        return NULL;
    }
    t->data = data;
    return t->data + t->bytes;
}

MRCDEF void mrc_text_add(mrc_text *t, const char *s, size_t bytes) {
    char *to = mrc__text_room(t, bytes);
    if (!to) return;
    if (bytes) memcpy(to, s, bytes);
    t->bytes += bytes;
    t->data[t->bytes] = 0;
}

MRCDEF void mrc_text_printf(mrc_text *t, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *to = n >= 0 ? mrc__text_room(t, (size_t)n) : NULL;
    if (!to) {
        t->failed = 1;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->bytes += (size_t)n;
}

// Ill-formed bytes become U+FFFD, so that what is written can be read back.
MRCDEF void mrc_text_json_string(mrc_text *t, const char *s, size_t bytes, int ascii) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    uint32_t cp;
    mrc_text_add(t, "\"", 1);
    for (size_t at = 0, n; at < bytes && !t->failed; at += n) {
        const char *plain = mrc__json_plain(s + at, s + bytes), *known;
        n = (size_t)(plain - (s + at));
        mrc_text_add(t, s + at, n);
        at += n;
        n = mrc_utf8_next(s + at, bytes - at, &cp);
        if (n == 0) break;
        if (cp && cp < 0x80 && (known = strchr(from, (int)cp)) != NULL) {
            const char escape[2] = { '\\', to[known - from] };
            mrc_text_add(t, escape, 2);
        } else if (cp < 0x20 || (ascii && cp < 0x10000)) {
            mrc_text_printf(t, "\\u%04x", (unsigned)cp);
        } else if (ascii) {
            mrc_text_printf(t, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((cp - 0x10000) >> 10)),
                            (unsigned)(0xDC00 + ((cp - 0x10000) & 0x3FF)));
        } else {
            char utf8[4];
            mrc_text_add(t, utf8, mrc_utf8_encode(cp, utf8));
        }
    }
    mrc_text_add(t, "\"", 1);
}

// The n significant digits nearest to x > 0, and the power of ten of the first.  printf's digits
// are exact; its point, which the locale chooses, is skipped.
static int mrc__number_digits(double x, int n, char *digits) {
    char text[64];
    int found = 0, exponent = 0, negative;
    const char *p = text;
    snprintf(text, sizeof text, "%.*e", n - 1, x);
    for (; *p && *p != 'e'; p++) if (*p >= '0' && *p <= '9' && found < n) digits[found++] = *p;
    negative = *p == 'e' && p[1] == '-';
    for (p += *p == 'e' ? 2 : 0; *p; p++) exponent = exponent * 10 + (*p - '0');
    return negative ? -exponent : exponent;
}

static int mrc__number_reads_back(double x, const char *digits, int n, int exponent) {
    char text[64];
    int bytes = snprintf(text, sizeof text, "%.*se%d", n, digits, exponent - (n - 1));
    return mrc__decimal_parse(text, (size_t)bytes) == x;
}

// One more in the last place.
static void mrc__number_next(char *digits, int n, int *exponent) {
    int i = n - 1;
    for (; i >= 0 && digits[i] == '9'; i--) digits[i] = '0';
    if (i >= 0) {
        digits[i]++;
        return;
    }
    digits[0] = '1';                // 99..9 became 00..0: it is 10..0
    ++*exponent;
}

// The fewest digits that read back as x > 0, the nearest of them: how many.  Fifteen digits always
// survive the way through a normal double, so anything that short is among them with zeros behind.
// Below a power of two doubles lie closer than above it: there the nearest decimal may miss x where
// the one above it does not.
static int mrc__number_shortest(double x, char *digits, int *exponent) {
    for (int n = x < DBL_MIN ? 1 : 15; n < 17; n++) {
        *exponent = mrc__number_digits(x, n, digits);
        int found = mrc__number_reads_back(x, digits, n, *exponent);
        if (!found) {
            mrc__number_next(digits, n, exponent);
            found = mrc__number_reads_back(x, digits, n, *exponent);
        }
        if (!found) continue;
        while (n > 1 && digits[n - 1] == '0') n--;
        return n;
    }
    *exponent = mrc__number_digits(x, 17, digits);
    return 17;
}

MRCDEF void mrc_text_number(mrc_text *t, double x) {
    char digits[20];
    int exponent = 0, n = 1;
    if (isnan(x)) {
        mrc_text_add(t, "NaN", 3);
        return;
    }
    if (signbit(x)) mrc_text_add(t, "-", 1);
    x = fabs(x);
    if (isinf(x)) {
        mrc_text_add(t, "Infinity", 8);
        return;
    }
    digits[0] = '0';
    if (x > 0) n = mrc__number_shortest(x, digits, &exponent);
    if (exponent < -4 || exponent >= 16) {
        mrc_text_add(t, digits, 1);
        if (n > 1) mrc_text_printf(t, ".%.*s", n - 1, digits + 1);
        mrc_text_printf(t, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        mrc_text_printf(t, "0.%.*s%.*s", -exponent - 1, "000", n, digits);
    } else if (n <= exponent + 1) {
        mrc_text_printf(t, "%.*s%.*s.0", n, digits, exponent + 1 - n, "000000000000000");
    } else {
        mrc_text_printf(t, "%.*s.%.*s", exponent + 1, digits, n - exponent - 1,
                        digits + exponent + 1);
    }
}

//==============================================================================
// >>impl.file
//
// Reading is read() of what is there now, not mmap: a file cut while it is open is an error, not a
// signal.  Writing is the protocol of RELIABILITY 3.6: everything goes to a temporary file beside
// the target, and the rename after its fsync is the only moment at which the target changes.  A
// failed fsync is never repeated: the kernel may have dropped the pages that it could not write.
// Errors name the file and the system's reason.
//==============================================================================
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

// What a failed system call on an input file means: no such file is the caller's mistake.
static mrc_status mrc__file_fail(mrc_ctx *ctx, const char *path, const char *doing) {
    int e = errno;
    int absent = e == ENOENT || e == ENOTDIR || e == ENAMETOOLONG || e == EISDIR;
    return mrc__fail(ctx, absent ? MRC_ERR_ARG : MRC_ERR_IO, "%s: cannot %s: %s", path, doing,
                     strerror(e));
}
static mrc_status mrc__write_fail(mrc_ctx *ctx, const char *path, const char *doing) {
    return mrc__fail(ctx, MRC_ERR_IO, "%s: cannot %s: %s", path, doing, strerror(errno));
}

// An open file and its size; a folder is refused.
static mrc_status mrc__file_open(mrc_ctx *ctx, const char *path, int *fd, struct stat *info) {
    do *fd = open(path, O_RDONLY | O_CLOEXEC); while (*fd < 0 && errno == EINTR);
    if (*fd < 0) return mrc__file_fail(ctx, path, "open it");
    if (fstat(*fd, info) == 0 && !S_ISDIR(info->st_mode)) return MRC_OK;
    if (S_ISDIR(info->st_mode)) errno = EISDIR;
    mrc_status s = mrc__file_fail(ctx, path, "read it");
    close(*fd);
    return s;
}

// What one read brings, at most a gigabyte; 0 at the end, -1 and errno on failure.
static ssize_t mrc__file_read_some(int fd, void *to, size_t bytes) {
    ssize_t n;
    do n = read(fd, to, bytes < ((size_t)1 << 30) ? bytes : (size_t)1 << 30);
    while (n < 0 && errno == EINTR);
    return n;
}

// To the end of the file, whatever size it said: pipes say none, and files grow.
static mrc_status mrc__file_read_all(mrc_ctx *ctx, const char *path, int fd, size_t expected,
                                     char **out, size_t *bytes) {
    void *data = NULL;
    size_t capacity = 0, n = 0, need = expected;
    for (;;) {
        if (!mrc__add(need, 2, &need) || !mrc__grow(&ctx->host, &data, &capacity, need, 1)) {
            mrc_file_free(ctx, data);
            return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory for %zu bytes", path, need);
        }
        ssize_t got = mrc__file_read_some(fd, (char *)data + n, capacity - n - 1);
        if (got < 0) {
            mrc_file_free(ctx, data);
            return mrc__file_fail(ctx, path, "read it");
        }
        if (got == 0) break;
        n += (size_t)got;
        need = n;
    }
    ((char *)data)[n] = 0;
    *out = data;
    *bytes = n;
    return MRC_OK;
}

MRCDEF mrc_status mrc_file_read(mrc_ctx *ctx, char **out, size_t *bytes, const char *path) {
    struct stat info;
    int fd;
    if (!ctx || !out || !bytes) return MRC_ERR_ARG;
    *out = NULL;
    *bytes = 0;
    if (!path) return mrc__fail(ctx, MRC_ERR_ARG, "file read: no path given");
    MRC__TRY(mrc__file_open(ctx, path, &fd, &info));
    size_t expected = info.st_size > 0 && (uintmax_t)info.st_size < SIZE_MAX - 2
                    ? (size_t)info.st_size : 0;
    mrc_status s = mrc__file_read_all(ctx, path, fd, expected, out, bytes);
    close(fd);
    return s;
}

MRCDEF void mrc_file_free(mrc_ctx *ctx, char *data) {
    if (data) ctx->host.free(ctx->host.user, data);
}

struct mrc_file_writer {
    mrc_ctx   *ctx;
    int        fd;                  // -1 after a failure: the temporary file is gone
    mrc_status failure;
    uint64_t   written, reserved;
    char      *temporary, *path;    // both behind the struct
};

// Keeps the failure for commit, and leaves nothing behind.
static mrc_status mrc__writer_drop(mrc_file_writer *w, mrc_status failure) {
    if (w->failure == MRC_OK) w->failure = failure;
    if (w->fd >= 0) close(w->fd);
    if (w->fd >= 0) unlink(w->temporary);
    w->fd = -1;
    return failure;
}

// The temporary file carries this process's number: one that already exists is left over from a
// dead process that had the same.
static int mrc__writer_open(const char *temporary) {
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, fd;
    do fd = open(temporary, flags, 0666); while (fd < 0 && errno == EINTR);
    if (fd >= 0 || errno != EEXIST || unlink(temporary) != 0) return fd;
    do fd = open(temporary, flags, 0666); while (fd < 0 && errno == EINTR);
    return fd;
}

MRCDEF mrc_status mrc_file_writer_new(mrc_ctx *ctx, mrc_file_writer **out, const char *path) {
    size_t total, bytes;
    if (!ctx || !out) return MRC_ERR_ARG;
    *out = NULL;
    if (!path || !*path) return mrc__fail(ctx, MRC_ERR_ARG, "file write: no path given");
    bytes = strlen(path) + 1;
    mrc_file_writer *w = NULL;
    if (mrc__mul(bytes, 2, &total) && mrc__add(total, sizeof *w + 32, &total)) {
        w = mrc__host_zalloc(&ctx->host, total);
    }
    if (!w) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory for a writer", path);
    w->ctx = ctx;
    w->path = memcpy(w + 1, path, bytes);
    w->temporary = w->path + bytes;
    snprintf(w->temporary, bytes + 32, "%s.tmp.%ld", path, (long)getpid());
    w->fd = mrc__writer_open(w->temporary);
    if (w->fd < 0) {
        mrc_status s = mrc__write_fail(ctx, w->temporary, "create it");
        ctx->host.free(ctx->host.user, w);
        return s;
    }
    *out = w;
    return MRC_OK;
}

// The whole size before the first byte: a full disk shows now.  File systems that cannot reserve
// say so, and are written to all the same.
static mrc_status mrc__writer_reserve(mrc_file_writer *w, uint64_t bytes) {
    int e = 0;
    if (bytes == 0) return MRC_OK;
    if (bytes > INT64_MAX || (uint64_t)(off_t)bytes != bytes) e = EFBIG;
    while (!e && (e = posix_fallocate(w->fd, 0, (off_t)bytes)) == EINTR) e = 0;
    if (e && e != EOPNOTSUPP && e != EINVAL && e != ENOSYS) {
        return mrc__writer_drop(w, mrc__fail(w->ctx, MRC_ERR_IO, "%s: cannot reserve %llu bytes: "
                                             "%s", w->path, (unsigned long long)bytes,
                                             strerror(e)));
    }
    w->reserved = e ? 0 : bytes;
    return MRC_OK;
}

MRCDEF mrc_status mrc_file_writer_add(mrc_file_writer *w, const void *data, size_t bytes) {
    const char *p = data;
    if (!w || (bytes && !data)) return MRC_ERR_ARG;
    if (w->failure != MRC_OK) return w->failure;
    while (bytes > 0) {
        ssize_t n = write(w->fd, p, bytes < ((size_t)1 << 30) ? bytes : (size_t)1 << 30);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) return mrc__writer_drop(w, mrc__write_fail(w->ctx, w->path, "write it"));
        p += n;
        bytes -= (size_t)n;
        w->written += (uint64_t)n;
    }
    return MRC_OK;
}

MRCDEF void mrc_file_writer_abort(mrc_file_writer *w) {
    if (!w) return;
    mrc__writer_drop(w, MRC_OK);
    w->ctx->host.free(w->ctx->host.user, w);
}

// The folder that holds path, synced.  path is cut at its last slash meanwhile.
static mrc_status mrc__writer_sync_folder(mrc_file_writer *w) {
    char *slash = strrchr(w->path, '/');
    if (!slash) return mrc_dir_sync(w->ctx, ".");
    if (slash == w->path) return mrc_dir_sync(w->ctx, "/");
    *slash = 0;
    return mrc_dir_sync(w->ctx, w->path);
}

static mrc_status mrc__writer_finish(mrc_file_writer *w) {
    if (w->failure != MRC_OK) return w->failure;
    if (w->reserved && w->reserved != w->written) {
        return mrc__fail(w->ctx, MRC_ERR_ARG, "%s: %llu bytes written, %llu announced", w->path,
                         (unsigned long long)w->written, (unsigned long long)w->reserved);
    }
    if (fsync(w->fd) != 0) return mrc__write_fail(w->ctx, w->path, "sync it");
    int fd = w->fd;
    w->fd = -1;                     // close is not repeated either: the number may be taken anew
    if (close(fd) != 0 && errno != EINTR) {
        mrc_status s = mrc__write_fail(w->ctx, w->path, "close it");
        unlink(w->temporary);
        return s;
    }
    if (rename(w->temporary, w->path) != 0) {
        mrc_status s = mrc__write_fail(w->ctx, w->path, "put it in its place");
        unlink(w->temporary);
        return s;
    }
    return mrc__writer_sync_folder(w);
}

MRCDEF mrc_status mrc_file_writer_commit(mrc_file_writer *w) {
    if (!w) return MRC_ERR_ARG;
    mrc_status s = mrc__writer_finish(w);
    mrc_file_writer_abort(w);       // after success there is nothing left to remove
    return s;
}

MRCDEF mrc_status mrc_file_write(mrc_ctx *ctx, const char *path, const void *data, size_t bytes) {
    mrc_file_writer *w;
    MRC__TRY(mrc_file_writer_new(ctx, &w, path));
    mrc_status s = mrc__writer_reserve(w, bytes);
    if (s == MRC_OK) s = mrc_file_writer_add(w, data, bytes);
    if (s == MRC_OK) return mrc_file_writer_commit(w);
    mrc_file_writer_abort(w);
    return s;
}

// CRC-32C (Castagnoli, reflected), eight bytes per step.  Table k holds the effect of a byte that
// k more bytes follow; it is linear, so each entry is the sum of those of its bits, and the
// preprocessor writes the tables from eight numbers each.
#define MRC__CRC_BIT(i, bit, value) ((i) & (1u << (bit)) ? (value) : 0u)
#define MRC__CRC_1(i, a, b, c, d, e, f, g, h)                                               \
    MRC__CRC_BIT(i, 0, a) ^ MRC__CRC_BIT(i, 1, b) ^ MRC__CRC_BIT(i, 2, c)                   \
        ^ MRC__CRC_BIT(i, 3, d) ^ MRC__CRC_BIT(i, 4, e) ^ MRC__CRC_BIT(i, 5, f)             \
        ^ MRC__CRC_BIT(i, 6, g) ^ MRC__CRC_BIT(i, 7, h)
#define MRC__CRC_4(i, ...)  MRC__CRC_1((i), __VA_ARGS__), MRC__CRC_1((i) + 1u, __VA_ARGS__),  \
                            MRC__CRC_1((i) + 2u, __VA_ARGS__), MRC__CRC_1((i) + 3u, __VA_ARGS__)
#define MRC__CRC_16(i, ...) MRC__CRC_4((i), __VA_ARGS__), MRC__CRC_4((i) + 4u, __VA_ARGS__),  \
                            MRC__CRC_4((i) + 8u, __VA_ARGS__), MRC__CRC_4((i) + 12u, __VA_ARGS__)
#define MRC__CRC_64(i, ...) MRC__CRC_16((i), __VA_ARGS__), MRC__CRC_16((i) + 16u, __VA_ARGS__), \
                            MRC__CRC_16((i) + 32u, __VA_ARGS__),                            \
                            MRC__CRC_16((i) + 48u, __VA_ARGS__)
#define MRC__CRC_256(...)   { MRC__CRC_64(0u, __VA_ARGS__), MRC__CRC_64(64u, __VA_ARGS__),    \
                              MRC__CRC_64(128u, __VA_ARGS__), MRC__CRC_64(192u, __VA_ARGS__) }
static const uint32_t mrc__crc32c_table[8][256] = {
    MRC__CRC_256(0xf26b8303u, 0xe13b70f7u, 0xc79a971fu, 0x8ad958cfu,
                 0x105ec76fu, 0x20bd8edeu, 0x417b1dbcu, 0x82f63b78u),
    MRC__CRC_256(0x13a29877u, 0x274530eeu, 0x4e8a61dcu, 0x9d14c3b8u,
                 0x3fc5f181u, 0x7f8be302u, 0xff17c604u, 0xfbc3faf9u),
    MRC__CRC_256(0xa541927eu, 0x4f6f520du, 0x9edea41au, 0x38513ec5u,
                 0x70a27d8au, 0xe144fb14u, 0xc76580d9u, 0x8b277743u),
    MRC__CRC_256(0xdd45aab8u, 0xbf672381u, 0x7b2231f3u, 0xf64463e6u,
                 0xe964b13du, 0xd725148bu, 0xaba65fe7u, 0x52a0c93fu),
    MRC__CRC_256(0x38116facu, 0x7022df58u, 0xe045beb0u, 0xc5670b91u,
                 0x8f2261d3u, 0x1ba8b557u, 0x37516aaeu, 0x6ea2d55cu),
    MRC__CRC_256(0xef306b19u, 0xdb8ca0c3u, 0xb2f53777u, 0x6006181fu,
                 0xc00c303eu, 0x85f4168du, 0x0e045bebu, 0x1c08b7d6u),
    MRC__CRC_256(0x68032cc8u, 0xd0065990u, 0xa5e0c5d1u, 0x4e2dfd53u,
                 0x9c5bfaa6u, 0x3d5b83bdu, 0x7ab7077au, 0xf56e0ef4u),
    MRC__CRC_256(0x493c7d27u, 0x9278fa4eu, 0x211d826du, 0x423b04dau,
                 0x847609b4u, 0x0d006599u, 0x1a00cb32u, 0x34019664u),
};

static uint32_t mrc__load_u32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

MRCDEF uint32_t mrc_crc32c(uint32_t crc, const void *data, size_t bytes) {
    const uint32_t (*t)[256] = mrc__crc32c_table;
    const unsigned char *p = data;
    crc = ~crc;
    for (; bytes >= 8; bytes -= 8, p += 8) {
        uint32_t a = crc ^ mrc__load_u32(p), b = mrc__load_u32(p + 4);
        crc = t[7][a & 255] ^ t[6][a >> 8 & 255] ^ t[5][a >> 16 & 255] ^ t[4][a >> 24]
            ^ t[3][b & 255] ^ t[2][b >> 8 & 255] ^ t[1][b >> 16 & 255] ^ t[0][b >> 24];
    }
    for (; bytes > 0; bytes--, p++) crc = crc >> 8 ^ t[0][(crc ^ *p) & 255];
    return ~crc;
}

MRCDEF mrc_status mrc_file_crc32c(mrc_ctx *ctx, const char *path, uint32_t *crc,
                                  uint64_t *bytes) {
    unsigned char piece[16384];
    struct stat info;
    int fd;
    ssize_t n;
    if (!ctx || !path || !crc || !bytes) return MRC_ERR_ARG;
    *crc = 0;
    *bytes = 0;
    MRC__TRY(mrc__file_open(ctx, path, &fd, &info));
    while ((n = mrc__file_read_some(fd, piece, sizeof piece)) > 0) {
        *crc = mrc_crc32c(*crc, piece, (size_t)n);
        *bytes += (uint64_t)n;
    }
    mrc_status s = n < 0 ? mrc__file_fail(ctx, path, "read it") : MRC_OK;
    close(fd);
    return s;
}

MRCDEF int mrc_file_exists(const char *path) {
    struct stat info;
    if (!path || stat(path, &info) != 0) return 0;
    return S_ISDIR(info.st_mode) ? 2 : 1;
}

MRCDEF mrc_status mrc_dir_new(mrc_ctx *ctx, const char *path) {
    if (!ctx || !path || !*path) return MRC_ERR_ARG;
    size_t bytes = strlen(path) + 1;
    char *part = ctx->host.alloc(ctx->host.user, bytes);
    if (!part) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory for its name", path);
    mrc_status s = MRC_OK;
    for (size_t i = 1; s == MRC_OK && i < bytes; i++) {
        if (path[i] && path[i] != '/') continue;
        memcpy(part, path, i);
        part[i] = 0;
        // Some systems name another reason than EEXIST for a folder that is there.
        if (mkdir(part, 0777) != 0 && mrc_file_exists(part) != 2) {
            s = mrc__write_fail(ctx, part, "make this folder");
        }
    }
    ctx->host.free(ctx->host.user, part);
    return s;
}

MRCDEF mrc_status mrc_dir_sync(mrc_ctx *ctx, const char *path) {
    int fd;
    if (!ctx || !path) return MRC_ERR_ARG;
    do fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC); while (fd < 0 && errno == EINTR);
    if (fd < 0) return mrc__write_fail(ctx, path, "open this folder");
    // EINVAL: a file system that has nothing to sync for a folder.
    mrc_status s = fsync(fd) != 0 && errno != EINVAL ? mrc__write_fail(ctx, path, "sync this folder")
                                                     : MRC_OK;
    close(fd);
    return s;
}

static int mrc__dir_is_dot(const char *name) {
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

// Removes what the name in an open folder stands for; links go, what they point to stays.  Returns
// 0 or an errno.  Depth is bounded, as each level holds a descriptor.
static int mrc__dir_remove_at(int folder, const char *name, int depth) {
    const struct dirent *entry;
    int e = 0;
    if (unlinkat(folder, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR && errno != EPERM) return errno;
    if (depth == 0) return ENAMETOOLONG;
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        e = errno;
        if (fd >= 0) close(fd);
        return e;
    }
    while (!e && (errno = 0, entry = readdir(dir)) != NULL) {
        if (!mrc__dir_is_dot(entry->d_name)) e = mrc__dir_remove_at(fd, entry->d_name, depth - 1);
    }
    if (!e) e = errno;
    closedir(dir);
    if (!e && unlinkat(folder, name, AT_REMOVEDIR) != 0 && errno != ENOENT) e = errno;
    return e;
}

MRCDEF mrc_status mrc_dir_remove(mrc_ctx *ctx, const char *path) {
    if (!ctx || !path || !*path) return MRC_ERR_ARG;
    int e = mrc__dir_remove_at(AT_FDCWD, path, 64);
    if (!e) return MRC_OK;
    return mrc__fail(ctx, MRC_ERR_IO, "%s: cannot remove it: %s", path, strerror(e));
}

static int mrc__dir_compare(const void *a, const void *b) { return strcmp(a, b); }

// The names into the pool and the list; 0 or an errno.
static int mrc__dir_names(DIR *dir, mrc__pool *pool, void **list, size_t *capacity, size_t *n) {
    const struct dirent *entry;
    while ((errno = 0, entry = readdir(dir)) != NULL) {
        if (mrc__dir_is_dot(entry->d_name)) continue;
        size_t bytes = strlen(entry->d_name) + 1;
        char *name = mrc__pool_alloc(pool, bytes, 1);
        if (!name || !mrc__grow(&pool->host, list, capacity, *n + 1, sizeof(void *))) {
            return ENOMEM;
        }
        ((const void **)*list)[(*n)++] = memcpy(name, entry->d_name, bytes);
    }
    return errno;
}

MRCDEF mrc_status mrc_dir_list(mrc_ctx *ctx, const char *path,
                               mrc_status (*fn)(mrc_ctx *ctx, void *user, const char *name),
                               void *user) {
    if (!ctx || !path || !fn) return MRC_ERR_ARG;
    mrc__pool pool = { .host = ctx->host };
    void *list = NULL;
    size_t capacity = 0, n = 0;
    DIR *dir = opendir(path);
    if (!dir) return mrc__file_fail(ctx, path, "list this folder");
    int e = mrc__dir_names(dir, &pool, &list, &capacity, &n);
    closedir(dir);
    mrc_status s = MRC_OK;
    if (e == ENOMEM) s = mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory to list it", path);
    else if (e) s = mrc__fail(ctx, MRC_ERR_IO, "%s: cannot list it: %s", path, strerror(e));
    if (s == MRC_OK) mrc__sort(list, n, mrc__dir_compare);
    const void **names = list;
    for (size_t i = 0; s == MRC_OK && i < n; i++) s = fn(ctx, user, names[i]);
    if (list) ctx->host.free(ctx->host.user, list);
    mrc__pool_free(&pool);
    return s;
}

//==============================================================================
// >>impl.safetensors
//==============================================================================

//==============================================================================
// >>impl.tensor
//==============================================================================
// Fills in t but for its memory; the message for a bad shape, NULL when it is good.
static const char *mrc__tensor_init(mrc_tensor *t, mrc_dtype dtype, int ndim, const size_t *shape,
                                    size_t *bytes) {
    int fits = 1;
    memset(t, 0, sizeof *t);
    if (ndim < 0 || ndim > MRC_MAX_DIMS) return "ndim is not 0 to 4";
    if (mrc_dtype_bytes(dtype) == 0) return "no such dtype";
    t->dtype = dtype;
    t->ndim = ndim;
    t->numel = 1;
    for (int i = 0; i < ndim; i++) {
        t->shape[i] = shape[i];
        fits = fits && mrc__mul(t->numel, shape[i], &t->numel);
    }
    return fits && mrc__mul(t->numel, mrc_dtype_bytes(dtype), bytes) ? NULL : "size overflows";
}

// The last axis: the leading dimension, as tensors are contiguous.
static size_t mrc__columns(const mrc_tensor *t) { return t->ndim ? t->shape[t->ndim - 1] : 1; }

// data NULL: allocates it; else t takes over a buffer of the step arena.
static mrc_tensor *mrc__tensor_make(mrc_ctx *ctx, mrc_dtype dtype, int ndim, const size_t *shape,
                                    void *data) {
    size_t bytes;
    if (!ctx->be) return mrc__fail_null(ctx, MRC_ERR_ARG, "tensor: the context has no backend");
    mrc_tensor *t = mrc__object_new(&ctx->host, &ctx->objects, ctx->frame, sizeof *t);
    if (!t) return mrc__fail_null(ctx, MRC_ERR_MEM, "tensor: no host memory");
    const char *bad = mrc__tensor_init(t, dtype, ndim, shape, &bytes);
    if (bad) return mrc__fail_null(ctx, MRC_ERR_ARG, "tensor: %s", bad);
    t->frame = ctx->frame;
    t->data = data ? data : mrc__arena_alloc(&ctx->step, bytes, ctx->frame);
    if (!t->data) return mrc__fail_null(ctx, MRC_ERR_MEM, "%s: %zu bytes", ctx->be->name, bytes);
    return t;
}

MRCDEF mrc_tensor *mrc_tensor_new(mrc_ctx *ctx, mrc_dtype dtype, int ndim, const size_t *shape,
                                  int requires_grad) {
    if (!ctx || (ndim > 0 && !shape)) return NULL;
    mrc_tensor *t = mrc__tensor_make(ctx, dtype, ndim, shape, NULL);
    if (t) t->requires_grad = requires_grad != 0;
    return t;
}

MRCDEF mrc_status mrc_tensor_upload(mrc_ctx *ctx, mrc_tensor *t, const void *src) {
    if (!ctx || !t || !src) return MRC_ERR_ARG;
    if (!ctx->be) return mrc__fail(ctx, MRC_ERR_ARG, "upload: the context has no backend");
    if (!t->data) return mrc__fail(ctx, MRC_ERR_ARG, "upload: the tensor was dropped");
    mrc_status s = ctx->be->upload(ctx->be, t->data, src, t->numel * mrc_dtype_bytes(t->dtype));
    return s == MRC_OK ? s : mrc__fail(ctx, s, "upload on %s", ctx->be->name);
}

MRCDEF mrc_status mrc_tensor_download(mrc_ctx *ctx, const mrc_tensor *t, void *dst) {
    if (!ctx || !t || !dst) return MRC_ERR_ARG;
    if (!ctx->be) return mrc__fail(ctx, MRC_ERR_ARG, "download: the context has no backend");
    if (!t->data) return mrc__fail(ctx, MRC_ERR_ARG, "download: the tensor was dropped");
    mrc_status s = ctx->be->download(ctx->be, dst, t->data, t->numel * mrc_dtype_bytes(t->dtype));
    return s == MRC_OK ? s : mrc__fail(ctx, s, "download on %s", ctx->be->name);
}

// Parameters have frame 0: no rewind reaches them.
struct mrc_params {
    mrc_allocator host;
    mrc__arena    arena;
    mrc__object  *objects;
    mrc_tensor  **list;             // in the order they were made
    size_t        n, capacity;
};

MRCDEF mrc_status mrc_params_new(mrc_params **out, mrc_backend *be,
                                 const mrc_allocator *allocator) {
    mrc_allocator host;
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (mrc__backend_refusal(be) || !mrc__allocator_init(&host, allocator)) return MRC_ERR_ARG;
    mrc_params *p = mrc__host_zalloc(&host, sizeof *p);
    if (!p) return MRC_ERR_MEM;
    p->host = p->arena.host = host;
    p->arena.be = be;
    *out = p;
    return MRC_OK;
}

// Room for one more in the list.
static mrc_status mrc__params_grow(mrc_params *p) {
    size_t bytes, capacity = p->capacity ? p->capacity * 2 : 64;
    if (p->n < p->capacity) return MRC_OK;
    mrc_tensor **list = mrc__mul(capacity, sizeof *list, &bytes)
                      ? p->host.alloc(p->host.user, bytes) : NULL;
    if (!list) return MRC_ERR_MEM;
    if (p->n) memcpy(list, p->list, p->n * sizeof *list);
    if (p->list) p->host.free(p->host.user, p->list);
    p->list = list;
    p->capacity = capacity;
    return MRC_OK;
}

MRCDEF mrc_status mrc_param_new(mrc_params *params, mrc_tensor **out, const char *name,
                                mrc_dtype dtype, int ndim, const size_t *shape) {
    size_t bytes;
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (!params || !name || (ndim > 0 && !shape)) return MRC_ERR_ARG;
    if (mrc_params_find(params, name)) return MRC_ERR_ARG;
    MRC__TRY(mrc__params_grow(params));
    size_t name_bytes = strlen(name) + 1;
    mrc_tensor *t = mrc__object_new(&params->host, &params->objects, 0, sizeof *t + name_bytes);
    if (!t) return MRC_ERR_MEM;
    if (mrc__tensor_init(t, dtype, ndim, shape, &bytes)) return MRC_ERR_ARG;
    t->requires_grad = 1;
    t->name = memcpy(t + 1, name, name_bytes);
    t->data = mrc__arena_alloc(&params->arena, bytes, 0);
    if (!t->data) return MRC_ERR_MEM;
    params->list[params->n++] = t;
    *out = t;
    return MRC_OK;
}

MRCDEF mrc_tensor *mrc_params_at(const mrc_params *params, size_t index) {
    return params && index < params->n ? params->list[index] : NULL;
}

MRCDEF mrc_tensor *mrc_params_find(const mrc_params *params, const char *name) {
    for (size_t i = 0; params && name && i < params->n; i++) {
        if (!strcmp(params->list[i]->name, name)) return params->list[i];
    }
    return NULL;
}

MRCDEF mrc_status mrc_param_copy_new(mrc_params *params, mrc_tensor *t, mrc_dtype dtype) {
    if (!params || !t || t->frame || t->copy) return MRC_ERR_ARG;
    if (dtype != MRC_DTYPE_F16 && dtype != MRC_DTYPE_BF16) return MRC_ERR_ARG;
    t->copy = mrc__arena_alloc(&params->arena, t->numel * mrc_dtype_bytes(dtype), 0);
    if (!t->copy) return MRC_ERR_MEM;
    t->copy_dtype = dtype;
    return MRC_OK;
}

MRCDEF void mrc_params_free(mrc_params *params) {
    if (!params) return;
    mrc__arena_rewind(&params->arena, 0);
    mrc__arena_free(&params->arena);
    mrc__objects_rewind(&params->host, &params->objects, 0);
    if (params->list) params->host.free(params->host.user, params->list);
    params->host.free(params->host.user, params);
}

static mrc_tensor *mrc__batch_array(mrc_ctx *ctx, size_t n, const int32_t *values) {
    mrc_tensor *t = mrc_tensor_new(ctx, MRC_DTYPE_I32, 1, &n, 0);
    return t && mrc_tensor_upload(ctx, t, values) == MRC_OK ? t : NULL;
}

// Offsets are checked here, on the host, so that kernels may trust them.
MRCDEF mrc_status mrc_batch_new(mrc_ctx *ctx, mrc_batch *out, size_t n_sequences,
                                const int32_t *cu_seqlens, const int32_t *sequence_index,
                                const int32_t *loss_begin, const int32_t *loss_end) {
    if (!ctx || !out || !cu_seqlens || !sequence_index || !loss_begin || !loss_end) {
        return MRC_ERR_ARG;
    }
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < n_sequences; i++) {
        if (cu_seqlens[0] != 0 || cu_seqlens[i + 1] < cu_seqlens[i]) {
            return mrc__fail(ctx, MRC_ERR_ARG, "batch: cu_seqlens goes from %d to %d at %zu",
                             (int)cu_seqlens[i], (int)cu_seqlens[i + 1], i);
        }
        int32_t length = cu_seqlens[i + 1] - cu_seqlens[i];
        if (loss_begin[i] < 0 || loss_end[i] < loss_begin[i] || loss_end[i] > length) {
            return mrc__fail(ctx, MRC_ERR_ARG, "batch: loss window %d to %d of %d rows at %zu",
                             (int)loss_begin[i], (int)loss_end[i], (int)length, i);
        }
        if ((size_t)length > out->max_length) out->max_length = (size_t)length;
    }
    out->n_tokens = n_sequences ? (size_t)cu_seqlens[n_sequences] : 0;
    out->n_sequences = n_sequences;
    out->cu_seqlens = mrc__batch_array(ctx, n_sequences + 1, cu_seqlens);
    out->sequence_index = mrc__batch_array(ctx, n_sequences, sequence_index);
    out->loss_begin = mrc__batch_array(ctx, n_sequences, loss_begin);
    out->loss_end = mrc__batch_array(ctx, n_sequences, loss_end);
    return out->cu_seqlens && out->sequence_index && out->loss_begin && out->loss_end
               ? MRC_OK : ctx->status;
}

//==============================================================================
// >>impl.grad   gradients belong to the context: a table keyed by tensor
//
// Not a field of the tensor, as weights are shared by contexts.  Gradients of a step's tensors are
// in the step arena with the tensor's frame; those of parameters (frame 0) are in an arena of their
// own, made once, so that they outlive steps and do not cut the step arena into pieces.
// `written` 0 means that the contents do not count: the next writer overwrites.
//==============================================================================
typedef struct mrc__grad {
    struct mrc__grad *next;
    const mrc_tensor *tensor;
    uint64_t          frame;        // the tensor's
    void             *data;
    int               written;
    int               borrowed;     // a seed: the user's, only to be read
} mrc__grad;

// The link that holds t's entry, or the NULL at the end of its chain, where one can be put.
static mrc__grad **mrc__grad_slot(mrc_ctx *ctx, const mrc_tensor *t) {
    mrc__grad **at = &ctx->grad_table[((uintptr_t)t >> 5) % MRC__GRAD_BUCKETS];
    while (*at && (*at)->tensor != t) at = &(*at)->next;
    return at;
}

static void mrc__grad_release(mrc_ctx *ctx, const mrc_tensor *t) {
    mrc__grad **at = mrc__grad_slot(ctx, t), *g = *at;
    if (!g) return;
    *at = g->next;
    if (!g->borrowed) mrc__arena_release(&ctx->step, g->data);
    ctx->host.free(ctx->host.user, g);
}

// Forgets the gradients of tensors of this and later frames; rewinding the arena frees the data.
static void mrc__grad_rewind(mrc_ctx *ctx, uint64_t frame) {
    for (size_t i = 0; i < MRC__GRAD_BUCKETS; i++) {
        for (mrc__grad **at = &ctx->grad_table[i]; *at; ) {
            mrc__grad *g = *at;
            if (g->frame < frame) {
                at = &g->next;
            } else {
                *at = g->next;
                ctx->host.free(ctx->host.user, g);
            }
        }
    }
}

MRCDEF mrc_status mrc_grad_target(mrc_ctx *ctx, const mrc_tensor *t, mrc_out *out) {
    if (!ctx || !t || !out) return MRC_ERR_ARG;
    size_t bytes = t->numel * mrc_dtype_bytes(t->dtype);
    *out = (mrc_out){ .dtype = t->dtype, .ld = mrc__columns(t) };
    if (!t->requires_grad) return MRC_OK;
    mrc__grad **at = mrc__grad_slot(ctx, t), *g = *at;
    if (!g) {
        g = mrc__host_zalloc(&ctx->host, sizeof *g);
        if (!g) return mrc__fail(ctx, MRC_ERR_MEM, "gradient: no host memory");
        *g = (mrc__grad){ .tensor = t, .frame = t->frame };
        g->data = mrc__arena_alloc(t->frame ? &ctx->step : &ctx->grads, bytes, t->frame);
        if (!g->data) {
            ctx->host.free(ctx->host.user, g);
            return mrc__fail(ctx, MRC_ERR_MEM, "%s: gradient of %zu bytes", ctx->be->name, bytes);
        }
        *at = g;
    }
    if (g->borrowed) return mrc__fail(ctx, MRC_ERR_ARG, "gradient: is the dy that was given");
    out->data = g->data;
    out->accumulate = g->written;
    g->written = 1;
    return MRC_OK;
}

MRCDEF mrc_status mrc_grad_seed(mrc_ctx *ctx, mrc_tensor *y, const mrc_tensor *dy) {
    const float one_f32 = 1;
    const double one_f64 = 1;
    mrc_out seed;
    if (!ctx) return MRC_ERR_ARG;
    if (!y && ctx->status != MRC_OK) return ctx->status;        // the op that failed said why
    if (!y || !y->producer) return mrc__fail(ctx, MRC_ERR_ARG, "backward: no recorded op made y");
    if (dy && (dy->numel != y->numel || dy->dtype != y->dtype || !dy->data)) {
        return mrc__fail(ctx, MRC_ERR_SHAPE, "backward: y has %zu elements of %s, dy %zu of %s",
                         y->numel, mrc_dtype_name(y->dtype), dy->numel, mrc_dtype_name(dy->dtype));
    }
    if (!dy && (y->numel != 1 || y->dtype > MRC_DTYPE_F64)) {
        return mrc__fail(ctx, MRC_ERR_ARG, "backward: y has %zu elements of %s and no dy given",
                         y->numel, mrc_dtype_name(y->dtype));
    }
    if (dy) {
        if (*mrc__grad_slot(ctx, y)) return mrc__fail(ctx, MRC_ERR_ARG, "backward: y has a seed");
        mrc__grad *g = mrc__host_zalloc(&ctx->host, sizeof *g);
        if (!g) return mrc__fail(ctx, MRC_ERR_MEM, "gradient: no host memory");
        *g = (mrc__grad){ .tensor = y, .frame = y->frame, .data = dy->data, .written = 1,
                          .borrowed = 1 };
        *mrc__grad_slot(ctx, y) = g;
        return MRC_OK;
    }
    MRC__TRY(mrc_grad_target(ctx, y, &seed));
    const void *one = y->dtype == MRC_DTYPE_F64 ? (const void *)&one_f64 : &one_f32;
    mrc_status s = ctx->be->upload(ctx->be, seed.data, one, mrc_dtype_bytes(y->dtype));
    return s == MRC_OK ? s : mrc__fail(ctx, s, "backward: upload on %s", ctx->be->name);
}

MRCDEF void *mrc_grad(mrc_ctx *ctx, const mrc_tensor *t) {
    const mrc__grad *g = ctx && t ? *mrc__grad_slot(ctx, t) : NULL;
    return g && g->written ? g->data : NULL;
}

MRCDEF void mrc_grad_clear(mrc_ctx *ctx) {
    for (size_t i = 0; i < MRC__GRAD_BUCKETS; i++) {
        for (mrc__grad *g = ctx->grad_table[i]; g; g = g->next) {
            if (g->frame == 0) g->written = 0;
        }
    }
}

//==============================================================================
// >>impl.tape
//==============================================================================
// The ops, once.  The enum, the tables of forward and backward and the tests' coverage check come
// from this list, so an op without a backward does not compile.
#define MRC__OPS(OP)                                                            \
    OP(LINEAR,        linear)                                                   \
    OP(GELU,          gelu)                                                     \
    OP(LAYER_NORM,    layer_norm)                                               \
    OP(DROPOUT,       dropout)                                                  \
    OP(CROSS_ENTROPY, cross_entropy)                                            \
    OP(CUSTOM,        custom)                                                   \
    OP(CHECKPOINT,    checkpoint)

typedef enum mrc__op {
#define MRC_X(NAME, name) MRC__OP_##NAME,
    MRC__OPS(MRC_X)
#undef MRC_X
    MRC__OP_COUNT
} mrc__op;

#define MRC__MAX_SAVED 4
struct mrc_node {
    mrc_node   *prev;
    uint64_t    frame;
    mrc__op     op;
    mrc_status (*remake)(mrc_ctx *ctx, mrc_node *node);     // out again, cheaply; NULL: it is kept
    int         recorded;               // 0: no gradient wanted, or no-grad mode
    mrc_tensor *out;
    mrc_tensor *saved[MRC__MAX_SAVED];  // the op's own buffers, released after its backward
    union {                             // what the kernels need beyond tensors
        struct { mrc_act act; } linear;
        struct { double eps; } layer_norm;
        struct { uint32_t key[2]; uint64_t threshold; double scale; } dropout;
        mrc_custom_desc custom;
        struct { mrc_segment_fn fn; void *user; mrc_random random; } checkpoint;
    } attr;
    size_t      n_in;
    mrc_tensor *in[];
};

typedef struct mrc__opdef {
    const char *name;
    mrc_status (*forward)(mrc_ctx *ctx, mrc_node *node);    // writes node->out and node->saved
    mrc_status (*backward)(mrc_ctx *ctx, mrc_node *node);   // reads the gradient of node->out
} mrc__opdef;
static const mrc__opdef mrc__ops[MRC__OP_COUNT];            // filled in after the last op

static mrc_in mrc__in(const mrc_tensor *t) {
    return (mrc_in){ .dtype = t->dtype, .ld = mrc__columns(t), .data = t->data };
}

// A buffer to write; with t NULL one that is not wanted.
static mrc_out mrc__out(const mrc_tensor *t) {
    if (!t) return (mrc_out){ .data = NULL };
    return (mrc_out){ .dtype = t->dtype, .ld = mrc__columns(t), .data = t->data };
}

// The gradient of node's output; backward runs only where it has been written.
static mrc_in mrc__dy(mrc_ctx *ctx, const mrc_node *node) {
    mrc_in dy = mrc__in(node->out);
    dy.data = mrc_grad(ctx, node->out);
    return dy;
}

// What stays precise where activations are 16 bits wide: statistics, losses.
static mrc_dtype mrc__stat_dtype(mrc_dtype dtype) {
    return dtype == MRC_DTYPE_F64 ? MRC_DTYPE_F64 : MRC_DTYPE_F32;
}

// A parameter as an op of this dtype reads it: its working copy, if it has one of that dtype.
static mrc_in mrc__param_in(const mrc_tensor *t, mrc_dtype dtype) {
    if (t->dtype == dtype || !t->copy || t->copy_dtype != dtype) return mrc__in(t);
    return (mrc_in){ .dtype = dtype, .ld = mrc__columns(t), .data = t->copy };
}

// A matrix must come in x's dtype; a vector may also be what statistics are.
static int mrc__param_fits(mrc_ctx *ctx, mrc__op op, const mrc_tensor *x, const mrc_tensor *t) {
    mrc_dtype dtype = mrc__param_in(t, x->dtype).dtype;
    if (dtype == x->dtype || (t->ndim < 2 && dtype == mrc__stat_dtype(x->dtype))) return 1;
    mrc__fail(ctx, MRC_ERR_ARG, "%s: x is %s, %s %s without a copy", mrc__ops[op].name,
              mrc_dtype_name(x->dtype), t->name ? t->name : "a weight", mrc_dtype_name(t->dtype));
    return 0;
}

// Runs one kernel of the context's backend, by the element type of x, in its workspace.
#define MRC__RUN(ctx, type, kernel, args)                                                   \
    (!(ctx)->be->kernels[type].kernel                                                       \
         ? mrc__fail(ctx, MRC_ERR_UNSUPPORTED, "backend %s has no %s for %s",               \
                     (ctx)->be->name, #kernel, mrc_dtype_name(type))                        \
     : mrc__workspace(ctx, &(args)->workspace, !(ctx)->be->kernels[type].kernel##_workspace \
             ? 0 : (ctx)->be->kernels[type].kernel##_workspace((ctx)->be, args)) != MRC_OK  \
         ? MRC_ERR_MEM                                                                      \
     : mrc__ran(ctx, (ctx)->be->kernels[type].kernel((ctx)->be, args), #kernel, type,       \
                (args)->workspace))

static mrc_status mrc__workspace(mrc_ctx *ctx, void **out, size_t bytes) {
    *out = bytes ? mrc__arena_alloc(&ctx->step, bytes, ctx->frame) : NULL;
    if (*out || !bytes) return MRC_OK;
    return mrc__fail(ctx, MRC_ERR_MEM, "%s: workspace of %zu bytes", ctx->be->name, bytes);
}

static mrc_status mrc__ran(mrc_ctx *ctx, mrc_status s, const char *kernel, mrc_dtype dtype,
                           const void *workspace) {
    mrc__arena_release(&ctx->step, workspace);
    if (s == MRC_OK) return s;
    return mrc__fail(ctx, s, "%s for %s failed on backend %s", kernel, mrc_dtype_name(dtype),
                     ctx->be->name);
}

// A node that is not on the tape yet.  NULL with an error when an input was dropped.
static mrc_node *mrc__node_new(mrc_ctx *ctx, mrc__op op, mrc_tensor *const *in, size_t n_in) {
    size_t bytes;
    int wants = 0;
    if (!ctx->be) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "%s: the context has no backend",
                              mrc__ops[op].name);
    }
    for (size_t i = 0; i < n_in; i++) {
        wants |= in[i]->requires_grad;
        if (!in[i]->data) {
            return mrc__fail_null(ctx, MRC_ERR_ARG, "%s: input %zu was dropped",
                                  mrc__ops[op].name, i);
        }
    }
    if (!mrc__mul(n_in, sizeof *in, &bytes) || !mrc__add(bytes, sizeof(mrc_node), &bytes)) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "%s: %zu inputs", mrc__ops[op].name, n_in);
    }
    mrc_node *node = mrc__object_new(&ctx->host, &ctx->objects, ctx->frame, bytes);
    if (!node) return mrc__fail_null(ctx, MRC_ERR_MEM, "%s: no host memory", mrc__ops[op].name);
    node->op = op;
    node->frame = ctx->frame;
    node->n_in = n_in;
    for (size_t i = 0; i < n_in; i++) node->in[i] = in[i];
    node->recorded = wants && ctx->grad_mode;
    ctx->saw_trainable |= wants;
    return node;
}

// A buffer of `count` elements that forward fills for backward; none when nothing is recorded.
static mrc_status mrc__node_save(mrc_ctx *ctx, mrc_node *node, int slot, mrc_dtype dtype,
                                 size_t count) {
    if (!node->recorded) return MRC_OK;
    node->saved[slot] = mrc__tensor_make(ctx, dtype, 1, &count, NULL);
    return node->saved[slot] ? MRC_OK : MRC_ERR_MEM;
}

static mrc_tensor *mrc__record(mrc_ctx *ctx, mrc_node *node, mrc_tensor *out) {
    node->out = out;
    if (!node->recorded) return out;
    out->requires_grad = 1;
    out->producer = node;
    for (size_t i = 0; i < node->n_in; i++) {           // backward cannot make a leaf again
        if (node->in[i]->frame && !node->in[i]->producer) node->in[i]->pinned = 1;
    }
    node->prev = ctx->tape;
    ctx->tape = node;
    return out;
}

// Makes the output, runs forward, records.  The last step of most builders.
static mrc_tensor *mrc__apply(mrc_ctx *ctx, mrc_node *node, mrc_dtype dtype, int ndim,
                              const size_t *shape) {
    node->out = mrc__tensor_make(ctx, dtype, ndim, shape, NULL);
    if (!node->out || mrc__ops[node->op].forward(ctx, node) != MRC_OK) return NULL;
    return mrc__record(ctx, node, node->out);
}

MRCDEF void mrc_drop(mrc_ctx *ctx, mrc_tensor *t) {
    if (!ctx || !t || t->dropped || t->pinned || t->frame == 0 || t->frame < ctx->segment) return;
    mrc_node *node = t->producer;               // none: a leaf, or made in no-grad mode
    if (node ? !node->remake : ctx->grad_mode) return;
    size_t n_read = node && node->remake == mrc__ops[node->op].forward ? node->n_in : 0;
    for (size_t i = 0; i < n_read; i++) {
        if (node->in[i]->dropped) return;
    }
    for (size_t i = 0; i < n_read; i++) {
        if (node->in[i]->frame) node->in[i]->pinned = 1;
    }
    mrc__arena_release(&ctx->step, t->data);
    t->data = NULL;
    t->dropped = 1;
}

// Makes a dropped tensor again.  Every backward calls it for the inputs that it reads.
static mrc_status mrc__need(mrc_ctx *ctx, mrc_tensor *t) {
    size_t bytes = t->numel * mrc_dtype_bytes(t->dtype);
    if (t->data) return MRC_OK;
    if (!t->producer) return mrc__fail(ctx, MRC_ERR_ARG, "backward: an input was dropped for good");
    t->data = mrc__arena_alloc(&ctx->step, bytes, t->frame);
    if (!t->data) return mrc__fail(ctx, MRC_ERR_MEM, "%s: %zu bytes", ctx->be->name, bytes);
    return t->producer->remake(ctx, t->producer);
}

// What only this node and later ones needed goes back to the arena.
static void mrc__node_release(mrc_ctx *ctx, mrc_node *node) {
    mrc__grad_release(ctx, node->out);
    for (int i = 0; i < MRC__MAX_SAVED; i++) {
        if (!node->saved[i]) continue;
        mrc__arena_release(&ctx->step, node->saved[i]->data);
        node->saved[i]->data = NULL;
    }
    if (node->out->dropped && node->out->data) {
        mrc__arena_release(&ctx->step, node->out->data);
        node->out->data = NULL;
    }
    node->out->producer = NULL;
}

MRCDEF mrc_mark mrc_tape_mark(mrc_ctx *ctx) {
    return (mrc_mark){ .frame = ++ctx->frame };
}

MRCDEF int mrc_no_grad(mrc_ctx *ctx, int on) {
    int was_on = !ctx->grad_mode;
    ctx->grad_mode = !on;
    return was_on;
}

// Nodes leave the tape before they run, so a checkpoint's backward finds the tape at its own mark;
// and they run in no-grad mode, so a custom backward may use ops.
MRCDEF mrc_status mrc_tape_backward(mrc_ctx *ctx, mrc_mark mark) {
    mrc_status s = MRC_OK;
    int was_on = mrc_no_grad(ctx, 1);
    while (s == MRC_OK && ctx->tape && ctx->tape->frame >= mark.frame) {
        mrc_node *node = ctx->tape;
        ctx->tape = node->prev;
        if (mrc_grad(ctx, node->out)) s = mrc__ops[node->op].backward(ctx, node);
        mrc__node_release(ctx, node);
        if (s != MRC_OK) mrc__fail(ctx, s, "backward of %s", mrc__ops[node->op].name);
    }
    mrc_no_grad(ctx, was_on);
    return s;
}

// Frame 0 takes the parameters' gradients too.
static void mrc__rewind(mrc_ctx *ctx, uint64_t frame) {
    for (; ctx->tape && ctx->tape->frame >= frame; ctx->tape = ctx->tape->prev) {
        ctx->tape->out->producer = NULL;        // a custom node's out may be older than the mark
    }
    if (frame < ctx->frame) ctx->frame = frame;
    mrc__grad_rewind(ctx, frame);
    mrc__arena_rewind(&ctx->step, frame);
    mrc__objects_rewind(&ctx->host, &ctx->objects, frame);
}

MRCDEF void mrc_tape_rewind(mrc_ctx *ctx, mrc_mark mark) {
    mrc__rewind(ctx, mark.frame ? mark.frame : 1);
}

MRCDEF void mrc_ctx_reset(mrc_ctx *ctx) { mrc__rewind(ctx, 1); }

MRCDEF void mrc_ctx_free(mrc_ctx *ctx) {
    if (!ctx) return;
    mrc__rewind(ctx, 0);
    mrc__arena_rewind(&ctx->grads, 0);
    mrc__arena_free(&ctx->step);
    mrc__arena_free(&ctx->grads);
    ctx->host.free(ctx->host.user, ctx);
}

MRCDEF mrc_status mrc_backward(mrc_ctx *ctx, mrc_tensor *y, const mrc_tensor *dy) {
    MRC__TRY(mrc_grad_seed(ctx, y, dy));
    return mrc_tape_backward(ctx, (mrc_mark){0});
}

//==============================================================================
// >>impl.recompute   activation checkpointing
//
// Forward runs fn in no-grad mode inside a frame of its own, moves the result's buffer out of that
// frame and rewinds it.  Backward runs fn again, recording, between a mark and a rewind; the nodes
// write straight into the gradients of in[] and of the parameters, which are older than the mark.
// The order of additions is that of a plain run, so gradients are the same to the last bit.
// Segments may nest; the C stack grows with the nesting, not with the length of the tape.
//==============================================================================
static mrc_tensor *mrc__segment_result(mrc_ctx *ctx, mrc_mark mark, mrc_tensor *y) {
    if (!y && ctx->status == MRC_OK) mrc__fail(ctx, MRC_ERR_ARG, "checkpointed: fn returned NULL");
    if (!y) return NULL;
    if (y->frame >= mark.frame && y->data) return y;
    return mrc__fail_null(ctx, MRC_ERR_ARG, "checkpointed: fn did not return a tensor it made");
}

MRCDEF mrc_tensor *mrc_checkpointed(mrc_ctx *ctx, mrc_segment_fn fn, void *user,
                                    mrc_tensor *const *in, size_t n_in) {
    if (!ctx || !fn || (n_in > 0 && !in)) return NULL;
    for (size_t i = 0; i < n_in; i++) {
        if (!in[i]) return NULL;
    }
    int grad_mode = ctx->grad_mode, saw_before = ctx->saw_trainable;
    uint64_t segment = ctx->segment;
    mrc_random random = ctx->random;            // as fn finds it, whatever it does to it
    mrc_mark mark = mrc_tape_mark(ctx);
    ctx->segment = mark.frame;
    ctx->grad_mode = 0;
    ctx->saw_trainable = 0;
    mrc_tensor *inner = mrc__segment_result(ctx, mark, fn(ctx, user, in, n_in)), kept = {0};
    int trainable = ctx->saw_trainable;         // through in[] or through parameters in user
    ctx->grad_mode = grad_mode;
    ctx->segment = segment;
    ctx->saw_trainable = saw_before || trainable;
    if (inner) {
        kept = *inner;
        mrc__arena_find(&ctx->step, kept.data)->frame = mark.frame - 1;
    }
    mrc_tape_rewind(ctx, mark);
    if (!inner) return NULL;
    mrc_node *node = mrc__node_new(ctx, MRC__OP_CHECKPOINT, in, n_in);
    mrc_tensor *y = !node ? NULL
                  : mrc__tensor_make(ctx, kept.dtype, kept.ndim, kept.shape, kept.data);
    if (!y) {
        mrc__arena_release(&ctx->step, kept.data);
        return NULL;
    }
    node->recorded = trainable && grad_mode;
    node->attr.checkpoint.fn = fn;
    node->attr.checkpoint.user = user;
    node->attr.checkpoint.random = random;
    return mrc__record(ctx, node, y);
}

// Hands the gradient of `from` to `to`, which was made again in a newer frame.
static mrc_status mrc__grad_move(mrc_ctx *ctx, const mrc_tensor *from, const mrc_tensor *to) {
    if (from->numel != to->numel || from->dtype != to->dtype || !to->requires_grad) {
        return mrc__fail(ctx, MRC_ERR_ARG, "checkpointed: %zu elements, %zu in the second run",
                         from->numel, to->numel);
    }
    mrc__grad **at = mrc__grad_slot(ctx, from), *g = *at;
    *at = g->next;
    if (!g->borrowed) mrc__arena_find(&ctx->step, g->data)->frame = to->frame;
    *g = (mrc__grad){ .tensor = to, .frame = to->frame, .data = g->data, .written = 1,
                      .borrowed = g->borrowed };
    *mrc__grad_slot(ctx, to) = g;
    return MRC_OK;
}

static mrc_status mrc__checkpoint_forward(mrc_ctx *ctx, mrc_node *node) {
    (void)node;
    return mrc__fail(ctx, MRC_ERR_UNSUPPORTED, "checkpointed: has no kernel of its own");
}

static mrc_status mrc__checkpoint_backward(mrc_ctx *ctx, mrc_node *node) {
    for (size_t i = 0; i < node->n_in; i++) MRC__TRY(mrc__need(ctx, node->in[i]));
    mrc_random random = ctx->random;
    uint64_t segment = ctx->segment;
    mrc_mark mark = mrc_tape_mark(ctx);
    int was_on = mrc_no_grad(ctx, 0);
    ctx->segment = mark.frame;
    ctx->random = node->attr.checkpoint.random;
    mrc_tensor *y = mrc__segment_result(ctx, mark, node->attr.checkpoint.fn(
                        ctx, node->attr.checkpoint.user, node->in, node->n_in));
    mrc_status s = y ? mrc__grad_move(ctx, node->out, y) : ctx->status;
    if (s == MRC_OK) s = mrc_tape_backward(ctx, mark);
    mrc_tape_rewind(ctx, mark);
    ctx->segment = segment;
    ctx->random = random;
    mrc_no_grad(ctx, was_on);
    return s;
}

//==============================================================================
// >>impl.random
//==============================================================================
// Philox 4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
MRCDEF void mrc_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c[4] = { counter[0], counter[1], counter[2], counter[3] };
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c[0], p1 = (uint64_t)0xCD9E8D57 * c[2];
        c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)p1;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    memcpy(out, c, sizeof c);
}

MRCDEF void mrc_dropout_key(mrc_random random, uint32_t site, uint32_t key[2]) {
    const uint32_t domain = 0x64726f70;         // "drop": other uses of the seed take another word
    const uint32_t counter[4] = { random.step, random.pass, site, domain };
    const uint32_t seed[2] = { (uint32_t)random.seed, (uint32_t)(random.seed >> 32) };
    uint32_t words[4];
    mrc_philox4x32(counter, seed, words);
    key[0] = words[0];
    key[1] = words[1];
}

MRCDEF uint32_t mrc_site(const char *module_name) {
    uint32_t h = 2166136261u;
    for (; module_name && *module_name; module_name++) {
        h = (h ^ (unsigned char)*module_name) * 16777619u;
    }
    return h;
}

MRCDEF void mrc_ctx_set_random(mrc_ctx *ctx, mrc_random random) { ctx->random = random; }

//==============================================================================
// >>op.common   what the kernels of several ops share
//==============================================================================
// Shared by kernels of every type: double inside, rounded once.
static double mrc__gelu(double x) { return x * (0.5 * (1.0 + erf(x * 0.70710678118654752440))); }

static double mrc__gelu_slope(double x) {
    double Phi = 0.5 * (1.0 + erf(x * 0.70710678118654752440));
    return Phi + x * (0.39894228040143267794 * exp(-0.5 * x * x));
}
#endif // core pass

#ifdef MRC__PASS_NAIVE
// Element (r, c) as double; rounded once when put back.  The one place that obeys accumulate bits.
static double MRC__T(at)(mrc_in m, size_t r, size_t c) {
    return ((const MRC__REAL *)m.data)[r * m.ld + c];
}
static void MRC__T(put)(mrc_out m, size_t r, size_t c, double value) {
    if (!m.data) return;
    MRC__REAL *to = (MRC__REAL *)m.data + r * m.ld + c;
    *to = (MRC__REAL)(m.accumulate ? *to + value : value);
}
#endif

//==============================================================================
// >>op.linear
//   z = x W^T + b,  y = act(z)
//   dz = dy * act'(z)
//   dx = dz W          dW = dz^T x          db = sum over rows of dz
//
// x (N, I), weight (O, I), bias (O) -> y (N, O).  As torch.nn.Linear, then torch.nn.GELU.
// Saves z (N, O) when there is an activation.  Fusing it saves a pass over y, the largest
// activation of an encoder layer.  x and weight may be one tensor: the gradients are then written
// one after the other (see the rules of all kernels).
//==============================================================================
#ifdef MRC__PASS_NAIVE
static mrc_status MRC__T(linear_fwd)(mrc_backend *be, const mrc_linear_fwd_args *a) {
    (void)be;
    for (size_t r = 0; r < a->n; r++) {
        for (size_t o = 0; o < a->out; o++) {
            double z = MRC__T(at)(a->bias, 0, o);
            for (size_t i = 0; i < a->in; i++) {
                z += MRC__T(at)(a->x, r, i) * MRC__T(at)(a->weight, o, i);
            }
            z = (MRC__REAL)z;                   // y is of the z that backward sees
            MRC__T(put)(a->z, r, o, z);
            MRC__T(put)(a->y, r, o, a->act == MRC_ACT_GELU ? mrc__gelu(z) : z);
        }
    }
    return MRC_OK;
}

static double MRC__T(linear_dz)(const mrc_linear_bwd_args *a, size_t r, size_t o) {
    double dy = MRC__T(at)(a->dy, r, o);
    // forward was: y = act(z)
    if (a->act != MRC_ACT_GELU) return dy;
    return dy * mrc__gelu_slope(((const MRC__REAL *)a->z.data)[r * a->z.ld + o]);
}

static mrc_status MRC__T(linear_bwd)(mrc_backend *be, const mrc_linear_bwd_args *a) {
    (void)be;
    // forward was: z[r][o] = b[o] + sum over i of x[r][i] * w[o][i]
    for (size_t r = 0; a->dx.data && r < a->n; r++) {
        for (size_t i = 0; i < a->in; i++) {
            double dx = 0;
            for (size_t o = 0; o < a->out; o++) {
                dx += MRC__T(linear_dz)(a, r, o) * MRC__T(at)(a->weight, o, i);
            }
            MRC__T(put)(a->dx, r, i, dx);
        }
    }
    for (size_t o = 0; a->dweight.data && o < a->out; o++) {
        for (size_t i = 0; i < a->in; i++) {
            double dw = 0;
            for (size_t r = 0; r < a->n; r++) {
                dw += MRC__T(linear_dz)(a, r, o) * MRC__T(at)(a->x, r, i);
            }
            MRC__T(put)(a->dweight, o, i, dw);
        }
    }
    for (size_t o = 0; a->dbias.data && o < a->out; o++) {
        double db = 0;
        for (size_t r = 0; r < a->n; r++) db += MRC__T(linear_dz)(a, r, o);
        MRC__T(put)(a->dbias, 0, o, db);
    }
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
// y = act(z), from the saved z.
static mrc_status mrc__linear_remake(mrc_ctx *ctx, mrc_node *node) {
    mrc_gelu_fwd_args a = { .n = node->out->numel, .x = mrc__in(node->saved[0]),
                            .y = mrc__out(node->out) };
    return MRC__RUN(ctx, node->out->dtype, gelu_fwd, &a);
}

MRCDEF mrc_tensor *mrc_linear(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *weight, mrc_tensor *bias,
                              mrc_act act) {
    size_t shape[MRC_MAX_DIMS];
    if (!ctx || !x || !weight || !bias) return NULL;
    size_t in = x->ndim > 0 ? x->shape[x->ndim - 1] : 0;
    if (in == 0 || weight->ndim != 2 || weight->shape[1] != in) {
        return mrc__fail_null(ctx, MRC_ERR_SHAPE,
                              "linear: x has %zu columns, weight (O, I) has %zu", in,
                              weight->ndim == 2 ? weight->shape[1] : 0);
    }
    if (bias->numel != weight->shape[0]) {
        return mrc__fail_null(ctx, MRC_ERR_SHAPE, "linear: bias has %zu elements, weight %zu rows",
                              bias->numel, weight->shape[0]);
    }
    if (!mrc__param_fits(ctx, MRC__OP_LINEAR, x, weight)) return NULL;
    if (!mrc__param_fits(ctx, MRC__OP_LINEAR, x, bias)) return NULL;
    memcpy(shape, x->shape, sizeof shape);
    shape[x->ndim - 1] = weight->shape[0];
    mrc_node *node = mrc__node_new(ctx, MRC__OP_LINEAR, (mrc_tensor *[]){ x, weight, bias }, 3);
    if (!node) return NULL;
    node->attr.linear.act = act;
    if (act != MRC_ACT_NONE) {
        size_t count = x->numel / in * weight->shape[0];        // y's, which mrc__apply checks
        if (mrc__node_save(ctx, node, 0, x->dtype, count) != MRC_OK) return NULL;
        node->remake = mrc__linear_remake;
    }
    return mrc__apply(ctx, node, x->dtype, x->ndim, shape);
}

static mrc_status mrc__linear_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0], *w = node->in[1];
    mrc_linear_fwd_args a = { .n = x->numel / w->shape[1], .in = w->shape[1], .out = w->shape[0],
                              .act = node->attr.linear.act, .x = mrc__in(x),
                              .weight = mrc__param_in(w, x->dtype),
                              .bias = mrc__param_in(node->in[2], x->dtype),
                              .y = mrc__out(node->out), .z = mrc__out(node->saved[0]) };
    a.z.ld = a.out;                                             // saved flat, used as (N, O)
    return MRC__RUN(ctx, x->dtype, linear_fwd, &a);
}

static mrc_status mrc__linear_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0], *w = node->in[1];
    MRC__TRY(mrc__need(ctx, x));
    MRC__TRY(mrc__need(ctx, w));
    mrc_linear_bwd_args a = { .n = x->numel / w->shape[1], .in = w->shape[1], .out = w->shape[0],
                              .act = node->attr.linear.act, .x = mrc__in(x),
                              .weight = mrc__param_in(w, x->dtype), .dy = mrc__dy(ctx, node) };
    a.z = mrc__out(node->saved[0]);
    a.z.ld = a.out;
    MRC__TRY(mrc_grad_target(ctx, x, &a.dx));
    MRC__TRY(mrc_grad_target(ctx, w, &a.dweight));
    MRC__TRY(mrc_grad_target(ctx, node->in[2], &a.dbias));
    return MRC__RUN(ctx, x->dtype, linear_bwd, &a);
}
#endif

//==============================================================================
// >>op.gelu
//   y  = x * Phi(x),  Phi(x) = (1 + erf(x / sqrt 2)) / 2
//   dx = dy * (Phi(x) + x * phi(x)),  phi(x) = exp(-x^2 / 2) / sqrt(2 pi)
//
// Any shape.  Saves nothing.  The erf form: hidden_act "gelu" of HF.  "gelu_new" (tanh) is another
// function and differs by up to 5e-4; checkpoints of one must not be run with the other.
//==============================================================================
#ifdef MRC__PASS_NAIVE
static mrc_status MRC__T(gelu_fwd)(mrc_backend *be, const mrc_gelu_fwd_args *a) {
    (void)be;
    for (size_t i = 0; i < a->n; i++) MRC__T(put)(a->y, 0, i, mrc__gelu(MRC__T(at)(a->x, 0, i)));
    return MRC_OK;
}

static mrc_status MRC__T(gelu_bwd)(mrc_backend *be, const mrc_gelu_bwd_args *a) {
    (void)be;
    for (size_t i = 0; i < a->n; i++) {
        // forward was: y = x * Phi(x)
        double slope = mrc__gelu_slope(MRC__T(at)(a->x, 0, i));
        MRC__T(put)(a->dx, 0, i, MRC__T(at)(a->dy, 0, i) * slope);
    }
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
static mrc_status mrc__gelu_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    mrc_gelu_fwd_args a = { .n = x->numel, .x = mrc__in(x), .y = mrc__out(node->out) };
    return MRC__RUN(ctx, x->dtype, gelu_fwd, &a);
}

MRCDEF mrc_tensor *mrc_gelu(mrc_ctx *ctx, mrc_tensor *x) {
    if (!ctx || !x) return NULL;
    mrc_node *node = mrc__node_new(ctx, MRC__OP_GELU, &x, 1);
    if (!node) return NULL;
    node->remake = mrc__gelu_forward;
    return mrc__apply(ctx, node, x->dtype, x->ndim, x->shape);
}

static mrc_status mrc__gelu_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    MRC__TRY(mrc__need(ctx, x));
    mrc_gelu_bwd_args a = { .n = x->numel, .x = mrc__in(x), .dy = mrc__dy(ctx, node) };
    MRC__TRY(mrc_grad_target(ctx, x, &a.dx));
    return MRC__RUN(ctx, x->dtype, gelu_bwd, &a);
}
#endif

//==============================================================================
// >>op.layer_norm
//   xhat = (x - mean) * rstd,  rstd = 1 / sqrt(var + eps),  over the last axis
//   y    = xhat * weight + bias
//   dx      = rstd * (g - mean(g) - xhat * mean(g * xhat)),  g = dy * weight
//   dweight = sum over rows of dy * xhat
//   dbias   = sum over rows of dy
//
// x (N, H), weight (H), bias (H) -> y (N, H).  Saves mean (N) and rstd (N).  As torch.nn.LayerNorm.
// var is the two-pass form: E[x^2] - E[x]^2 cancels when |mean| is much larger than the deviation.
//==============================================================================
#ifdef MRC__PASS_NAIVE
static mrc_status MRC__T(layer_norm_fwd)(mrc_backend *be, const mrc_layer_norm_fwd_args *a) {
    const double h = (double)a->h;
    (void)be;
    for (size_t r = 0; r < a->n; r++) {
        double mean = 0, var = 0;
        for (size_t i = 0; i < a->h; i++) mean += MRC__T(at)(a->x, r, i) / h;
        for (size_t i = 0; i < a->h; i++) {
            double d = MRC__T(at)(a->x, r, i) - mean;
            var += d * d / h;
        }
        double rstd = 1.0 / sqrt(var + a->eps);
        for (size_t i = 0; i < a->h; i++) {
            double xhat = (MRC__T(at)(a->x, r, i) - mean) * rstd;
            MRC__T(put)(a->y, r, i, xhat * MRC__T(at)(a->weight, 0, i) + MRC__T(at)(a->bias, 0, i));
        }
        MRC__T(put)(a->mean, 0, r, mean);
        MRC__T(put)(a->rstd, 0, r, rstd);
    }
    return MRC_OK;
}

static double MRC__T(layer_norm_xhat)(const mrc_layer_norm_bwd_args *a, size_t r, size_t i) {
    // forward was: xhat = (x - mean) * rstd
    return (MRC__T(at)(a->x, r, i) - MRC__T(at)(a->mean, 0, r)) * MRC__T(at)(a->rstd, 0, r);
}

static mrc_status MRC__T(layer_norm_bwd)(mrc_backend *be, const mrc_layer_norm_bwd_args *a) {
    const double h = (double)a->h;
    (void)be;
    for (size_t r = 0; a->dx.data && r < a->n; r++) {
        double mean_g = 0, mean_gx = 0;
        for (size_t i = 0; i < a->h; i++) {
            double g = MRC__T(at)(a->dy, r, i) * MRC__T(at)(a->weight, 0, i);
            mean_g += g / h;
            mean_gx += g * MRC__T(layer_norm_xhat)(a, r, i) / h;
        }
        for (size_t i = 0; i < a->h; i++) {
            double g = MRC__T(at)(a->dy, r, i) * MRC__T(at)(a->weight, 0, i);
            double centred = g - mean_g - MRC__T(layer_norm_xhat)(a, r, i) * mean_gx;
            MRC__T(put)(a->dx, r, i, MRC__T(at)(a->rstd, 0, r) * centred);
        }
    }
    for (size_t i = 0; i < a->h; i++) {
        double dweight = 0, dbias = 0;
        for (size_t r = 0; r < a->n; r++) {
            // forward was: y = xhat * weight + bias
            dweight += MRC__T(at)(a->dy, r, i) * MRC__T(layer_norm_xhat)(a, r, i);
            dbias += MRC__T(at)(a->dy, r, i);
        }
        MRC__T(put)(a->dweight, 0, i, dweight);
        MRC__T(put)(a->dbias, 0, i, dbias);
    }
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
static mrc_status mrc__layer_norm_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    mrc_layer_norm_fwd_args a = { .n = x->numel / node->in[1]->numel, .h = node->in[1]->numel,
                                  .eps = node->attr.layer_norm.eps, .x = mrc__in(x),
                                  .weight = mrc__in(node->in[1]), .bias = mrc__in(node->in[2]),
                                  .y = mrc__out(node->out), .mean = mrc__out(node->saved[0]),
                                  .rstd = mrc__out(node->saved[1]) };
    return MRC__RUN(ctx, x->dtype, layer_norm_fwd, &a);
}

MRCDEF mrc_tensor *mrc_layer_norm(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *weight, mrc_tensor *bias,
                                  double eps) {
    if (!ctx || !x || !weight || !bias) return NULL;
    size_t h = x->ndim > 0 ? x->shape[x->ndim - 1] : 0;
    if (h == 0 || weight->numel != h || bias->numel != h) {
        return mrc__fail_null(ctx, MRC_ERR_SHAPE,
                              "layer_norm: last axis of x is %zu, weight %zu, bias %zu", h,
                              weight->numel, bias->numel);
    }
    if (!mrc__param_fits(ctx, MRC__OP_LAYER_NORM, x, weight)) return NULL;
    if (!mrc__param_fits(ctx, MRC__OP_LAYER_NORM, x, bias)) return NULL;
    mrc_dtype stat = mrc__stat_dtype(x->dtype);
    mrc_node *node = mrc__node_new(ctx, MRC__OP_LAYER_NORM, (mrc_tensor *[]){ x, weight, bias }, 3);
    if (!node || mrc__node_save(ctx, node, 0, stat, x->numel / h) != MRC_OK
              || mrc__node_save(ctx, node, 1, stat, x->numel / h) != MRC_OK) return NULL;
    node->attr.layer_norm.eps = eps;
    node->remake = mrc__layer_norm_forward;
    return mrc__apply(ctx, node, x->dtype, x->ndim, x->shape);
}

static mrc_status mrc__layer_norm_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0], *w = node->in[1];
    MRC__TRY(mrc__need(ctx, x));
    MRC__TRY(mrc__need(ctx, w));
    mrc_layer_norm_bwd_args a = { .n = x->numel / w->numel, .h = w->numel, .x = mrc__in(x),
                                  .weight = mrc__in(w), .mean = mrc__in(node->saved[0]),
                                  .rstd = mrc__in(node->saved[1]), .dy = mrc__dy(ctx, node) };
    MRC__TRY(mrc_grad_target(ctx, x, &a.dx));
    MRC__TRY(mrc_grad_target(ctx, w, &a.dweight));
    MRC__TRY(mrc_grad_target(ctx, node->in[2], &a.dbias));
    return MRC__RUN(ctx, x->dtype, layer_norm_bwd, &a);
}
#endif

//==============================================================================
// >>op.dropout
//   y  = keep * x  / (1 - p)       keep = not (u < floor(p * 2^32)), u as in api.random
//   dx = keep * dy / (1 - p)
//
// x (N, H) packed rows.  Saves nothing: backward draws the mask again, from the key in the node.
//==============================================================================
#ifdef MRC__PASS_NAIVE
static mrc_status MRC__T(dropout)(mrc_backend *be, const mrc_dropout_args *a) {
    const int32_t *cu = a->cu_seqlens.data, *index = a->sequence_index.data;
    (void)be;
    for (size_t s = 0; s < a->n_sequences; s++) {
        for (int32_t row = cu[s]; row < cu[s + 1]; row++) {
            uint32_t u[4] = {0}, position = (uint32_t)(row - cu[s]);
            for (uint32_t f = 0; f < a->h; f++) {
                const uint32_t counter[4] = { f / 4, position, (uint32_t)index[s], 0 };
                if (f % 4 == 0) mrc_philox4x32(counter, a->key, u);
                double kept = MRC__T(at)(a->from, (size_t)row, f) * a->scale;
                MRC__T(put)(a->to, (size_t)row, f, u[f % 4] < a->threshold ? 0 : kept);
            }
        }
    }
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
static mrc_dropout_args mrc__dropout_args(const mrc_node *node, mrc_in from, mrc_out to) {
    return (mrc_dropout_args){
        .n_sequences = node->in[2]->numel, .h = node->in[0]->shape[1],
        .key = { node->attr.dropout.key[0], node->attr.dropout.key[1] },
        .threshold = node->attr.dropout.threshold, .scale = node->attr.dropout.scale,
        .cu_seqlens = mrc__in(node->in[1]), .sequence_index = mrc__in(node->in[2]),
        .from = from, .to = to };
}

static mrc_status mrc__dropout_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_dropout_args a = mrc__dropout_args(node, mrc__in(node->in[0]), mrc__out(node->out));
    return MRC__RUN(ctx, node->out->dtype, dropout_fwd, &a);
}

MRCDEF mrc_tensor *mrc_dropout(mrc_ctx *ctx, mrc_tensor *x, double p, uint32_t site,
                               const mrc_batch *batch) {
    if (!ctx || !x || !batch || !batch->cu_seqlens || !batch->sequence_index) return NULL;
    if (!(p >= 0 && p < 1)) return mrc__fail_null(ctx, MRC_ERR_ARG, "dropout: p is %g", p);
    if (x->ndim != 2 || x->shape[0] != batch->n_tokens) {
        return mrc__fail_null(ctx, MRC_ERR_SHAPE, "dropout: x has %zu rows, the batch %zu tokens",
                              x->ndim == 2 ? x->shape[0] : 0, batch->n_tokens);
    }
    if (p == 0) return x;
    mrc_tensor *in[] = { x, batch->cu_seqlens, batch->sequence_index };
    mrc_node *node = mrc__node_new(ctx, MRC__OP_DROPOUT, in, 3);
    if (!node) return NULL;
    mrc_dropout_key(ctx->random, site, node->attr.dropout.key);
    node->attr.dropout.threshold = (uint64_t)(p * 4294967296.0);
    node->attr.dropout.scale = 1.0 / (1.0 - p);
    node->remake = mrc__dropout_forward;
    return mrc__apply(ctx, node, x->dtype, x->ndim, x->shape);
}

static mrc_status mrc__dropout_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_out dx;
    MRC__TRY(mrc_grad_target(ctx, node->in[0], &dx));
    mrc_dropout_args a = mrc__dropout_args(node, mrc__dy(ctx, node), dx);
    return MRC__RUN(ctx, node->out->dtype, dropout_bwd, &a);
}
#endif

//==============================================================================
// >>op.cross_entropy
//   lse_cs = log sum over rows i of sequence s, in its loss window, of exp(l_ic)
//   loss   = sum over c of (sum over counted s of (lse_cs - l_target)) / denominator_c
//   dl_ic  = dloss * (exp(l_ic - lse_cs) - [i is the target]) / denominator_c,
//            0 outside the window and where s is not counted
//
// logits (N, C) or (N), targets (C, B), denominator (C) -> loss ().  The softmax is over rows of a
// sequence: the start (column 0) or the end (1) of an answer.  A target outside the window is not
// counted (-1 by convention; HF ignores positions past the window too).  The denominators come from
// the caller, who knows the optimizer step; 0 means that nothing counts.  Saves lse (C, B).
//==============================================================================
#ifdef MRC__PASS_NAIVE
static double MRC__T(cross_entropy_share)(mrc_in denominator, size_t c) {
    double d = MRC__T(at)(denominator, 0, c);
    return d > 0 ? 1 / d : 0;
}

static mrc_status MRC__T(cross_entropy_fwd)(mrc_backend *be, const mrc_cross_entropy_fwd_args *a) {
    const int32_t *cu = a->cu_seqlens.data, *from = a->loss_begin.data, *to = a->loss_end.data;
    double loss = 0;
    (void)be;
    for (size_t c = 0; c < a->columns; c++) {
        const int32_t *targets = (const int32_t *)a->targets.data + c * a->n_sequences;
        double column = 0;
        for (size_t s = 0; s < a->n_sequences; s++) {
            size_t begin = (size_t)(cu[s] + from[s]), end = (size_t)(cu[s] + to[s]);
            double max = -HUGE_VAL, sum = 0;
            for (size_t i = begin; i < end; i++) max = fmax(max, MRC__T(at)(a->logits, i, c));
            for (size_t i = begin; i < end; i++) sum += exp(MRC__T(at)(a->logits, i, c) - max);
            double lse = max + log(sum);        // of an empty window -inf, which nothing reads
            MRC__T(put)(a->lse, c, s, lse);
            if (targets[s] < from[s] || targets[s] >= to[s]) continue;
            column += lse - MRC__T(at)(a->logits, (size_t)(cu[s] + targets[s]), c);
        }
        loss += column * MRC__T(cross_entropy_share)(a->denominator, c);
    }
    MRC__T(put)(a->loss, 0, 0, loss);
    return MRC_OK;
}

static mrc_status MRC__T(cross_entropy_bwd)(mrc_backend *be, const mrc_cross_entropy_bwd_args *a) {
    const int32_t *cu = a->cu_seqlens.data, *from = a->loss_begin.data, *to = a->loss_end.data;
    double dloss = MRC__T(at)(a->dloss, 0, 0);
    (void)be;
    for (size_t c = 0; c < a->columns; c++) {
        const int32_t *targets = (const int32_t *)a->targets.data + c * a->n_sequences;
        double scale = dloss * MRC__T(cross_entropy_share)(a->denominator, c);
        for (size_t s = 0; s < a->n_sequences; s++) {
            int counted = targets[s] >= from[s] && targets[s] < to[s];
            for (int32_t i = 0; i < cu[s + 1] - cu[s]; i++) {
                size_t row = (size_t)(cu[s] + i);
                double dl = 0;
                if (counted && i >= from[s] && i < to[s]) {
                    // forward was: column += lse - l_target
                    double p = exp(MRC__T(at)(a->logits, row, c) - MRC__T(at)(a->lse, c, s));
                    dl = scale * (p - (i == targets[s]));
                }
                MRC__T(put)(a->dlogits, row, c, dl);
            }
        }
    }
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
MRCDEF mrc_tensor *mrc_cross_entropy(mrc_ctx *ctx, mrc_tensor *logits, mrc_tensor *targets,
                                     mrc_tensor *denominator, const mrc_batch *batch) {
    if (!ctx || !logits || !targets || !denominator || !batch || !batch->loss_end) return NULL;
    size_t columns = logits->ndim == 2 ? logits->shape[1] : 1;
    if (logits->ndim < 1 || logits->ndim > 2 || logits->shape[0] != batch->n_tokens
        || targets->numel != batch->n_sequences * columns || denominator->numel != columns) {
        return mrc__fail_null(ctx, MRC_ERR_SHAPE, "cross_entropy: %zu logits, %zu tokens, %zu "
                              "columns; %zu targets, %zu sequences; %zu denominators",
                              logits->numel, batch->n_tokens, columns, targets->numel,
                              batch->n_sequences, denominator->numel);
    }
    mrc_dtype stat = mrc__stat_dtype(logits->dtype);
    if (targets->dtype != MRC_DTYPE_I32 || denominator->dtype != stat) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "cross_entropy: targets are %s, not i32; "
                              "denominators %s, not %s", mrc_dtype_name(targets->dtype),
                              mrc_dtype_name(denominator->dtype), mrc_dtype_name(stat));
    }
    mrc_tensor *in[] = { logits, targets, batch->cu_seqlens, batch->loss_begin, batch->loss_end,
                         denominator };
    mrc_node *node = mrc__node_new(ctx, MRC__OP_CROSS_ENTROPY, in, 6);
    if (!node || mrc__node_save(ctx, node, 0, stat, targets->numel) != MRC_OK) return NULL;
    return mrc__apply(ctx, node, stat, 0, NULL);
}

static mrc_status mrc__cross_entropy_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_cross_entropy_fwd_args a = {
        .n_sequences = node->in[3]->numel, .columns = node->in[5]->numel,
        .logits = mrc__in(node->in[0]), .targets = mrc__in(node->in[1]),
        .cu_seqlens = mrc__in(node->in[2]), .loss_begin = mrc__in(node->in[3]),
        .loss_end = mrc__in(node->in[4]), .denominator = mrc__in(node->in[5]),
        .loss = mrc__out(node->out), .lse = mrc__out(node->saved[0]) };
    a.logits.ld = a.columns;
    a.lse.ld = a.n_sequences;
    return MRC__RUN(ctx, node->in[0]->dtype, cross_entropy_fwd, &a);
}

static mrc_status mrc__cross_entropy_backward(mrc_ctx *ctx, mrc_node *node) {
    MRC__TRY(mrc__need(ctx, node->in[0]));
    mrc_cross_entropy_bwd_args a = {
        .n_sequences = node->in[3]->numel, .columns = node->in[5]->numel,
        .logits = mrc__in(node->in[0]), .targets = mrc__in(node->in[1]),
        .cu_seqlens = mrc__in(node->in[2]), .loss_begin = mrc__in(node->in[3]),
        .loss_end = mrc__in(node->in[4]), .denominator = mrc__in(node->in[5]),
        .lse = mrc__in(node->saved[0]), .dloss = mrc__dy(ctx, node) };
    MRC__TRY(mrc_grad_target(ctx, node->in[0], &a.dlogits));
    a.logits.ld = a.dlogits.ld = a.columns;
    a.lse.ld = a.n_sequences;
    return MRC__RUN(ctx, node->in[0]->dtype, cross_entropy_bwd, &a);
}

//==============================================================================
// >>op.custom   the user's forward result and backward function
//==============================================================================
MRCDEF mrc_tensor *mrc_custom(mrc_ctx *ctx, const mrc_custom_desc *desc, mrc_tensor *out,
                              mrc_tensor *const *in, size_t n_in) {
    if (!ctx || !out || !in) return NULL;
    for (size_t i = 0; i < n_in; i++) {
        if (!in[i]) return NULL;
    }
    if (!desc || !desc->backward || n_in == 0) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "custom: no backward, or %zu inputs", n_in);
    }
    if (out->producer || out->frame == 0) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "custom: out is a parameter or an op's result");
    }
    mrc_node *node = mrc__node_new(ctx, MRC__OP_CUSTOM, in, n_in);
    if (!node) return NULL;
    node->attr.custom = *desc;
    return mrc__record(ctx, node, out);
}

static mrc_status mrc__custom_forward(mrc_ctx *ctx, mrc_node *node) {
    (void)node;
    return mrc__fail(ctx, MRC_ERR_UNSUPPORTED, "custom: forward was the user's");
}

static mrc_status mrc__custom_backward(mrc_ctx *ctx, mrc_node *node) {
    const mrc_custom_desc *desc = &node->attr.custom;
    for (size_t i = 0; i < node->n_in; i++) MRC__TRY(mrc__need(ctx, node->in[i]));
    mrc_custom_call call = { .in = node->in, .n_in = node->n_in, .out = node->out,
                             .dy = mrc__dy(ctx, node) };
    mrc_mark mark = mrc_tape_mark(ctx);         // what the user makes on the way goes at once
    uint64_t segment = ctx->segment;
    ctx->segment = mark.frame;
    mrc_status s = desc->backward(ctx, desc->user, &call);
    ctx->segment = segment;
    mrc_tape_rewind(ctx, mark);
    return s == MRC_OK ? s : mrc__fail(ctx, s, "custom node %s", desc->name ? desc->name : "");
}

//==============================================================================
// >>op.table
//==============================================================================
static const mrc__opdef mrc__ops[MRC__OP_COUNT] = {
#define MRC_X(NAME, name) { #name, mrc__##name##_forward, mrc__##name##_backward },
    MRC__OPS(MRC_X)
#undef MRC_X
};
#endif // core pass

//==============================================================================
// >>impl.naive   the oracle: plain loops, sums in double, f32 and f64
//==============================================================================
#ifdef MRC__PASS_NAIVE
static mrc_status MRC__T(gemm)(mrc_backend *be, const mrc_gemm_args *g) {
    (void)be;
    for (size_t i = 0; i < g->m; i++) {
        for (size_t j = 0; j < g->n; j++) {
            double c = 0;
            for (size_t p = 0; p < g->k; p++) {
                c += (g->a_transposed ? MRC__T(at)(g->a, p, i) : MRC__T(at)(g->a, i, p))
                   * (g->b_transposed ? MRC__T(at)(g->b, j, p) : MRC__T(at)(g->b, p, j));
            }
            MRC__T(put)(g->c, i, j, c);
        }
    }
    return MRC_OK;
}

static void MRC__T(fill)(mrc_kernels *k) {
    k->gemm              = MRC__T(gemm);
    k->linear_fwd        = MRC__T(linear_fwd);
    k->linear_bwd        = MRC__T(linear_bwd);
    k->gelu_fwd          = MRC__T(gelu_fwd);
    k->gelu_bwd          = MRC__T(gelu_bwd);
    k->layer_norm_fwd    = MRC__T(layer_norm_fwd);
    k->layer_norm_bwd    = MRC__T(layer_norm_bwd);
    k->dropout_fwd       = MRC__T(dropout);
    k->dropout_bwd       = MRC__T(dropout);
    k->cross_entropy_fwd = MRC__T(cross_entropy_fwd);
    k->cross_entropy_bwd = MRC__T(cross_entropy_bwd);
}
#endif

#ifdef MRC__PASS_CORE
#undef MRC__PASS_CORE
#define MRC__PASS_NAIVE

#define MRC__REAL    float
#define MRC__T(name) mrc__naive_##name##_f32
#include MRC_SELF

#define MRC__REAL    double
#define MRC__T(name) mrc__naive_##name##_f64
#include MRC_SELF

#undef MRC__PASS_NAIVE
#define MRC__PASS_CORE

// What the two host backends own.  Instance and state are one allocation, and die together.
typedef struct mrc__host_backend {
    mrc_backend   base;
    mrc_allocator host;
    void         *pack_a, *pack_b;  // cpu: the gemm's scratch
} mrc__host_backend;

// The hooks promise no alignment: take more, and keep the hook's address just before ours.
static void *mrc__host_alloc(mrc_backend *be, size_t bytes) {
    mrc__host_backend *h = be->self;
    size_t total;
    if (!mrc__add(bytes, MRC_ALIGNMENT + sizeof(void *), &total)) return NULL;
    char *raw = h->host.alloc(h->host.user, total);
    if (!raw) return NULL;
    char *ptr = raw + sizeof(void *);
    ptr += (MRC_ALIGNMENT - (uintptr_t)ptr % MRC_ALIGNMENT) % MRC_ALIGNMENT;
    memcpy(ptr - sizeof raw, &raw, sizeof raw);
    return ptr;
}

static void mrc__host_free(mrc_backend *be, void *ptr) {
    mrc__host_backend *h = be->self;
    char *raw;
    if (!ptr) return;
    memcpy(&raw, (char *)ptr - sizeof raw, sizeof raw);
    h->host.free(h->host.user, raw);
}

static mrc_status mrc__host_copy(mrc_backend *be, void *dst, const void *src, size_t bytes) {
    (void)be;
    if (bytes) memcpy(dst, src, bytes);
    return MRC_OK;
}

static void mrc__host_destroy(mrc_backend *be) {
    mrc__host_backend *h = be->self;
    mrc_allocator host = h->host;
    mrc__host_free(be, h->pack_a);
    mrc__host_free(be, h->pack_b);
    host.free(host.user, h);
}

MRCDEF mrc_status mrc_backend_naive_new(mrc_backend **out, const mrc_backend_desc *desc) {
    mrc_allocator host;
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (!mrc__allocator_init(&host, desc ? &desc->allocator : NULL)) return MRC_ERR_ARG;
    mrc__host_backend *h = mrc__host_zalloc(&host, sizeof *h);
    if (!h) return MRC_ERR_MEM;
    h->host = host;
    mrc_backend *be = &h->base;
    be->size = sizeof *be;
    be->api = MRC_BACKEND_API;
    be->is_host = 1;
    be->name = "naive";
    be->isa = "c";
    be->self = h;
    be->destroy = mrc__host_destroy;
    be->alloc = mrc__host_alloc;
    be->free = mrc__host_free;
    be->upload = mrc__host_copy;
    be->download = mrc__host_copy;
    mrc__naive_fill_f32(&be->kernels[MRC_DTYPE_F32]);
    mrc__naive_fill_f64(&be->kernels[MRC_DTYPE_F64]);
    *out = be;
    return MRC_OK;
}
#endif // core pass

//==============================================================================
// >>impl.cpu   a blocked gemm per instruction set, and a linear made of it
//
//   for each KC slice of k, MC slice of m, NC slice of n:
//       pack a into panels of ROWS rows, b into panels of COLS columns, padded with 0:
//           a panel  [k = 0: r0 r1 .. r5][k = 1: r0 r1 .. r5] ..       b panel alike
//       for each pair of panels: a tile ROWS x COLS in registers, then stored to c
//
// Blocks depend on the shape only, so the bits of a result do too.  The packs are the instance's
// scratch, made with it.  Products are fused to FMA on purpose: gcc does not in -std=c11 unless
// told so (DESIGN 7: results are per build and instruction set, not across them).
//==============================================================================
#ifdef MRC__PASS_CPU
typedef MRC__REAL MRC__T(vec) __attribute__((vector_size(MRC__VEC_BYTES), may_alias));
enum {
    MRC__T(COLS) = 2 * MRC__VEC_BYTES / sizeof(MRC__REAL)       // two vectors wide
};

// dst[k][0 .. width): `width` rows or columns of src from `first`, those past `limit` as 0.
// Element (line, k) of src is src[line * line_step + k * k_step].
MRC__TARGET static void MRC__T(pack_panel)(MRC__REAL *dst, const MRC__REAL *src, size_t line_step,
                                           size_t k_step, size_t first, size_t limit,
                                           size_t width, size_t kc) {
    for (size_t k = 0; k < kc; k++) {
        for (size_t i = 0; i < width; i++) {
            size_t line = first + i;
            *dst++ = line < limit ? src[line * line_step + k * k_step] : 0;
        }
    }
}

MRC__TARGET static void MRC__T(tile)(size_t kc, const MRC__REAL *a, const MRC__REAL *b,
                                     MRC__T(vec) acc[MRC__ROWS][2]) {
    MRC__T(vec) sum[MRC__ROWS][2] = {{{0}}};
    for (size_t k = 0; k < kc; k++) {
        const MRC__T(vec) *bk = (const MRC__T(vec) *)(b + k * MRC__T(COLS));
        const MRC__T(vec) b0 = bk[0], b1 = bk[1];
        const MRC__REAL *ak = a + k * MRC__ROWS;
#pragma GCC unroll 8
        for (int i = 0; i < MRC__ROWS; i++) {       // unrolled: sum must stay in registers
            sum[i][0] += ak[i] * b0;
            sum[i][1] += ak[i] * b1;
        }
    }
    memcpy(acc, sum, sizeof sum);
}

// c[i0 .., j0 ..] gets one tile; at the edges only what is inside (m, n).
MRC__TARGET static void MRC__T(store)(const mrc_gemm_args *g, size_t i0, size_t j0,
                                      const MRC__REAL *acc, int accumulate) {
    for (size_t i = i0; i < g->m && i < i0 + MRC__ROWS; i++, acc += MRC__T(COLS)) {
        MRC__REAL *row = (MRC__REAL *)g->c.data + i * g->c.ld + j0;
        for (size_t j = 0; j0 + j < g->n && j < MRC__T(COLS); j++) {
            row[j] = accumulate ? row[j] + acc[j] : acc[j];
        }
    }
}

MRC__TARGET static mrc_status MRC__T(gemm)(mrc_backend *be, const mrc_gemm_args *g) {
    const mrc__host_backend *h = be->self;
    const MRC__REAL *a = g->a.data, *b = g->b.data;
    size_t a_line = g->a_transposed ? 1 : g->a.ld, a_k = g->a_transposed ? g->a.ld : 1;
    size_t b_line = g->b_transposed ? g->b.ld : 1, b_k = g->b_transposed ? 1 : g->b.ld;
    MRC__T(vec) acc[MRC__ROWS][2];
    for (size_t k0 = 0; k0 == 0 || k0 < g->k; k0 += MRC__KC) {     // k = 0 still writes c
        size_t kc = g->k - k0 < MRC__KC ? g->k - k0 : MRC__KC;
        int accumulate = k0 > 0 || g->c.accumulate;
        for (size_t j0 = 0; j0 < g->n; j0 += MRC__NC) {
            size_t nc = g->n - j0 < MRC__NC ? g->n - j0 : MRC__NC;
            for (size_t j = 0; j < nc; j += MRC__T(COLS)) {
                MRC__T(pack_panel)((MRC__REAL *)h->pack_b + j * kc, b + k0 * b_k, b_line, b_k,
                                   j0 + j, g->n, MRC__T(COLS), kc);
            }
            for (size_t i0 = 0; i0 < g->m; i0 += MRC__MC) {
                size_t mc = g->m - i0 < MRC__MC ? g->m - i0 : MRC__MC;
                for (size_t i = 0; i < mc; i += MRC__ROWS) {
                    MRC__T(pack_panel)((MRC__REAL *)h->pack_a + i * kc, a + k0 * a_k, a_line, a_k,
                                       i0 + i, g->m, MRC__ROWS, kc);
                }
                for (size_t i = 0; i < mc; i += MRC__ROWS) {
                    for (size_t j = 0; j < nc; j += MRC__T(COLS)) {
                        MRC__T(tile)(kc, (const MRC__REAL *)h->pack_a + i * kc,
                                     (const MRC__REAL *)h->pack_b + j * kc, acc);
                        MRC__T(store)(g, i0 + i, j0 + j, (const MRC__REAL *)acc, accumulate);
                    }
                }
            }
        }
    }
    return MRC_OK;
}

// The fused linear calls gemm through the table: whoever replaces gemm speeds this up too.
MRC__TARGET static mrc_status MRC__T(linear_fwd)(mrc_backend *be, const mrc_linear_fwd_args *a) {
    mrc_out z = a->z.data ? a->z : a->y;
    const MRC__REAL *bias = a->bias.data;
    mrc_gemm_args g = { .m = a->n, .n = a->out, .k = a->in, .b_transposed = 1,
                        .a = a->x, .b = a->weight, .c = z };
    MRC__TRY(be->kernels[a->x.dtype].gemm(be, &g));
    for (size_t r = 0; r < a->n; r++) {
        MRC__REAL *zr = (MRC__REAL *)z.data + r * z.ld, *y = (MRC__REAL *)a->y.data + r * a->y.ld;
        for (size_t o = 0; o < a->out; o++) {
            zr[o] += bias[o];
            y[o] = a->act == MRC_ACT_GELU ? (MRC__REAL)mrc__gelu(zr[o]) : zr[o];
        }
    }
    return MRC_OK;
}

MRC__TARGET static mrc_status MRC__T(linear_bwd)(mrc_backend *be, const mrc_linear_bwd_args *a) {
    const MRC__REAL *dy = a->dy.data;
    MRC__REAL *dbias = a->dbias.data;
    mrc_in dz = a->dy;
    if (a->act == MRC_ACT_GELU) {
        for (size_t i = 0; i < a->n * a->out; i++) {
            size_t r = i / a->out, o = i % a->out;
            MRC__REAL *z = (MRC__REAL *)a->z.data + r * a->z.ld + o;
            // forward was: y = gelu(z)
            *z = (MRC__REAL)(dy[r * a->dy.ld + o] * mrc__gelu_slope(*z));
        }
        dz.data = a->z.data;
        dz.ld = a->z.ld;
    }
    // forward was: z = x W^T + b
    mrc_gemm_args dx = { .m = a->n, .n = a->in, .k = a->out, .a = dz, .b = a->weight, .c = a->dx };
    mrc_gemm_args dw = { .m = a->out, .n = a->in, .k = a->n, .a_transposed = 1, .a = dz, .b = a->x,
                         .c = a->dweight };
    if (dx.c.data) MRC__TRY(be->kernels[a->x.dtype].gemm(be, &dx));
    if (dw.c.data) MRC__TRY(be->kernels[a->x.dtype].gemm(be, &dw));
    for (size_t o = 0; dbias && o < a->out; o++) {
        MRC__REAL sum = 0;
        for (size_t r = 0; r < a->n; r++) sum += ((const MRC__REAL *)dz.data)[r * dz.ld + o];
        dbias[o] = a->dbias.accumulate ? dbias[o] + sum : sum;
    }
    return MRC_OK;
}

static void MRC__T(fill)(mrc_kernels *k) {
    k->gemm       = MRC__T(gemm);
    k->linear_fwd = MRC__T(linear_fwd);
    k->linear_bwd = MRC__T(linear_bwd);
}
#endif // cpu pass

#ifdef MRC__PASS_CORE
#undef MRC__PASS_CORE
#define MRC__PASS_CPU
#define MRC__KC 256                 // a panel of b, KC x COLS, stays in the L1 cache
#define MRC__MC 96                  // a multiple of every ROWS: pack_a, MC x KC, stays in L2
#define MRC__NC 512                 // a multiple of every COLS

#define MRC__ROWS      4
#define MRC__VEC_BYTES 16
#define MRC__TARGET
#define MRC__REAL      float
#define MRC__T(name)   mrc__cpu_##name##_f32
#include MRC_SELF
#define MRC__REAL      double
#define MRC__T(name)   mrc__cpu_##name##_f64
#include MRC_SELF
#undef MRC__ROWS
#undef MRC__VEC_BYTES
#undef MRC__TARGET

#if defined(__x86_64__)
#define MRC__ROWS      6            // 12 sums + 2 of b + 1 of a: 15 of AVX2's 16 registers
#define MRC__VEC_BYTES 32
#ifdef __clang__
#define MRC__TARGET    __attribute__((target("avx2,fma")))
#else
#define MRC__TARGET    __attribute__((target("avx2,fma"), optimize("fp-contract=fast")))
#endif
#define MRC__REAL      float
#define MRC__T(name)   mrc__cpu_##name##_avx2_f32
#include MRC_SELF
#define MRC__REAL      double
#define MRC__T(name)   mrc__cpu_##name##_avx2_f64
#include MRC_SELF
#undef MRC__ROWS
#undef MRC__VEC_BYTES
#undef MRC__TARGET
#endif

#undef MRC__PASS_CPU
#define MRC__PASS_CORE

static int mrc__cpu_has_avx2(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 0;
#endif
}

MRCDEF mrc_status mrc_backend_cpu_new(mrc_backend **out, const mrc_backend_desc *desc) {
    mrc_isa isa = desc ? desc->isa : MRC_ISA_AUTO;
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (isa == MRC_ISA_AVX2 && !mrc__cpu_has_avx2()) return MRC_ERR_UNSUPPORTED;
    if (isa == MRC_ISA_AUTO) isa = mrc__cpu_has_avx2() ? MRC_ISA_AVX2 : MRC_ISA_BASELINE;
    mrc_backend *be;
    MRC__TRY(mrc_backend_naive_new(&be, desc));
    mrc__host_backend *h = be->self;
    be->name = "cpu";
    be->isa = isa == MRC_ISA_AVX2 ? "avx2" : "baseline";
    h->pack_a = mrc__host_alloc(be, (size_t)MRC__MC * MRC__KC * sizeof(double));
    h->pack_b = mrc__host_alloc(be, (size_t)MRC__NC * MRC__KC * sizeof(double));
    if (!h->pack_a || !h->pack_b) {
        mrc_backend_free(be);
        return MRC_ERR_MEM;
    }
    mrc__cpu_fill_f32(&be->kernels[MRC_DTYPE_F32]);
    mrc__cpu_fill_f64(&be->kernels[MRC_DTYPE_F64]);
#if defined(__x86_64__)
    if (isa == MRC_ISA_AVX2) {
        mrc__cpu_fill_avx2_f32(&be->kernels[MRC_DTYPE_F32]);
        mrc__cpu_fill_avx2_f64(&be->kernels[MRC_DTYPE_F64]);
    }
#endif
    *out = be;
    return MRC_OK;
}
#endif // core pass

//==============================================================================
// >>impl.optim
//==============================================================================
#ifdef MRC__PASS_CORE
#endif // core pass

//==============================================================================
// >>impl.vocabulary   a tokenizer's files: vocab.txt with Hugging Face's settings, tokenizer.json
//
// The vocabulary is a trie over code points: the longest match, which is all that WordPiece asks
// for, is one walk, and no choice of tokens makes it slow.  What to do with a character is one byte
// per code point, made at load: the bits of stages that are switched off are clear.
// Ids are 0 to n - 1, each with one token: twins, holes and strangers are refused.
// Byte-level BPE would be another model beside mrc__tok_read_model().
//==============================================================================
#ifdef MRC__PASS_CORE
typedef struct mrc__uni_range { uint32_t first, last, value; } mrc__uni_range;
typedef struct mrc__uni_lower { uint32_t first, last, step; int32_t delta; } mrc__uni_lower;
// `count` code points from `first` on, each decomposing to `length` parts: the first from `at`.
typedef struct mrc__uni_run { uint32_t first, count, length, at; } mrc__uni_run;
typedef struct mrc__unicode {
    const mrc__uni_range *classes, *combining;
    const mrc__uni_lower *lowers;
    const mrc__uni_run   *runs;
    const uint32_t       *parts;
    size_t                n_classes, n_combining, n_lowers, n_runs;
} mrc__unicode;
static const mrc__unicode mrc__unicode_tables;      // generated data stands last, in impl.tables

#define MRC__UNI_POINTS 0x110000u
enum {
    MRC__UNI_DROP = 1, MRC__UNI_SPACE = 2, MRC__UNI_PUNCT = 4, MRC__UNI_CJK = 8, MRC__UNI_MARK = 16,
    MRC__UNI_NFD = 32, MRC__UNI_COMBINING = 64, MRC__UNI_LOWER = 128
};

// Doubles *data (n elements of `bytes`) when it is full; 0: out of memory, nothing has changed.
static int mrc__tok_grow(const mrc_allocator *host, void **data, size_t *capacity, size_t n,
                         size_t bytes) {
    size_t total, want = *capacity ? *capacity : 64;
    if (n < *capacity) return 1;
    if (*capacity && !mrc__mul(*capacity, 2, &want)) return 0;
    void *to = mrc__mul(want, bytes, &total) ? host->alloc(host->user, total) : NULL;
    if (!to) return 0;
    if (*data) {
        memcpy(to, *data, n * bytes);
        host->free(host->user, *data);
    }
    *data = to;
    *capacity = want;
    return 1;
}

// mrc_utf8_next() of s .. end, which is not empty, with the two lengths that most text has in line.
static inline size_t mrc__tok_decode(const unsigned char *s, const unsigned char *end,
                                     uint32_t *cp) {
    uint32_t lead = s[0];
    if (lead < 0x80) {
        *cp = lead;
        return 1;
    }
    // E1 .. EC: any two continuation bytes may follow, so the checks are two.
    if (lead - 0xE1 < 12 && end - s >= 3 && (s[1] & 0xC0) == 0x80 && (s[2] & 0xC0) == 0x80) {
        *cp = (lead & 0x0F) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
        return 3;
    }
    return mrc_utf8_next((const char *)s, (size_t)(end - s), cp);
}

//
// Trie: strings of code points, each with a number.  The root is node 0; all edges are in one open
// table from (node, code point) to node, hashed with a seed so that no vocabulary can choose its
// collisions.
//
typedef struct mrc__tok_edge { uint64_t key; uint32_t node; } mrc__tok_edge;     // key 0: empty
typedef struct mrc__tok_trie {
    mrc__tok_edge *edges;
    int32_t       *value;           // by node; -1: no string ends here
    size_t         n_nodes, node_capacity;
    size_t         mask;            // of the edge table, whose size is a power of two
    uint64_t       seed;
} mrc__tok_trie;
#define MRC__TOK_NONE UINT32_MAX

static inline size_t mrc__tok_slot(const mrc__tok_trie *t, uint64_t key) {
    uint64_t h = (key ^ t->seed) * 0x9E3779B97F4A7C15u;
    h = (h ^ h >> 32) * 0xD6E8FEB86659FD93u;
    size_t slot = (size_t)(h >> 32) & t->mask;
    while (t->edges[slot].key != key && t->edges[slot].key != 0) slot = (slot + 1) & t->mask;
    return slot;
}
static inline uint64_t mrc__tok_key(uint32_t node, uint32_t cp) {
    return ((uint64_t)node << 21 | cp) + 1;
}
static inline uint32_t mrc__tok_next(const mrc__tok_trie *t, uint32_t node, uint32_t cp) {
    const mrc__tok_edge *e = &t->edges[mrc__tok_slot(t, mrc__tok_key(node, cp))];
    return e->key ? e->node : MRC__TOK_NONE;
}

static int mrc__tok_rehash(const mrc_allocator *host, mrc__tok_trie *t, size_t capacity) {
    mrc__tok_trie old = *t;
    size_t bytes;
    t->edges = mrc__mul(capacity, sizeof *t->edges, &bytes) ? mrc__host_zalloc(host, bytes) : NULL;
    if (!t->edges) {
        t->edges = old.edges;
        return 0;
    }
    t->mask = capacity - 1;
    for (size_t i = 0; old.edges && i <= old.mask; i++) {
        if (old.edges[i].key) t->edges[mrc__tok_slot(t, old.edges[i].key)] = old.edges[i];
    }
    if (old.edges) host->free(host->user, old.edges);
    return 1;
}

// 0: out of memory.
static int mrc__tok_node_new(const mrc_allocator *host, mrc__tok_trie *t) {
    void *value = t->value;
    if (t->n_nodes >= INT32_MAX) return 0;
    if (!mrc__tok_grow(host, &value, &t->node_capacity, t->n_nodes, sizeof *t->value)) return 0;
    t->value = value;
    t->value[t->n_nodes++] = -1;
    return 1;
}

// The clock and an address are enough of a seed: it only has to be unknown to who made the file.
static int mrc__tok_trie_init(const mrc_allocator *host, mrc__tok_trie *t) {
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    t->seed = (uint64_t)now.tv_nsec * 0x2545F4914F6CDD1Du ^ (uint64_t)now.tv_sec << 32
            ^ (uint64_t)(uintptr_t)t;
    return mrc__tok_node_new(host, t) && mrc__tok_rehash(host, t, 64);
}

static void mrc__tok_trie_free(const mrc_allocator *host, mrc__tok_trie *t) {
    if (t->edges) host->free(host->user, t->edges);
    if (t->value) host->free(host->user, t->value);
}

// The node of a string, made if it is not there; 0: out of memory.
static int mrc__tok_trie_put(const mrc_allocator *host, mrc__tok_trie *t, const char *text,
                             size_t bytes, uint32_t *node) {
    const unsigned char *s = (const unsigned char *)text, *end = s + bytes;
    *node = 0;
    while (s < end) {
        uint32_t cp;
        s += mrc__tok_decode(s, end, &cp);
        uint64_t key = mrc__tok_key(*node, cp);
        mrc__tok_edge *e = &t->edges[mrc__tok_slot(t, key)];
        if (!e->key) {
            if (t->n_nodes * 2 > t->mask) {
                if (!mrc__tok_rehash(host, t, (t->mask + 1) * 2)) return 0;
                e = &t->edges[mrc__tok_slot(t, key)];
            }
            if (!mrc__tok_node_new(host, t)) return 0;
            *e = (mrc__tok_edge){ .key = key, .node = (uint32_t)t->n_nodes - 1 };
        }
        *node = e->node;
    }
    return 1;
}

static uint32_t mrc__tok_trie_find(const mrc__tok_trie *t, const char *text, size_t bytes) {
    const unsigned char *s = (const unsigned char *)text, *end = s + bytes;
    uint32_t cp, node = 0;
    while (s < end && node != MRC__TOK_NONE) {
        s += mrc__tok_decode(s, end, &cp);
        node = mrc__tok_next(t, node, cp);
    }
    return node;
}

//
// The tokenizer and what is asked of it
//
#define MRC__TOK_TEMPLATE_ITEMS 16
typedef struct mrc__tok_item {
    int32_t sequence, type_id, id;  // sequence 0 or 1 (id is not read), -1: the special token id
} mrc__tok_item;
typedef struct mrc__tok_template {
    size_t        n, n_special;
    mrc__tok_item item[MRC__TOK_TEMPLATE_ITEMS];
} mrc__tok_template;

struct mrc_tokenizer {
    mrc_allocator     host;
    mrc__tok_trie     words, added; // the vocabulary; the tokens that are found in the raw text
    uint32_t          suffix;       // the node of the continuing prefix "##"
    uint8_t           added_first[256];     // whether an added token begins with this byte
    uint8_t          *classes;      // by code point
    mrc_text          pool;         // the tokens' texts
    size_t           *token_at;     // by id: where in the pool; SIZE_MAX: no such id yet
    size_t            n, capacity;
    size_t            max_length, max_chars;
    mrc_special_ids   special;
    mrc__tok_template single, pair;
};

MRCDEF void mrc_tokenizer_free(mrc_tokenizer *tok) {
    if (!tok) return;
    mrc_allocator host = tok->host;
    mrc__tok_trie_free(&host, &tok->words);
    mrc__tok_trie_free(&host, &tok->added);
    if (tok->classes) host.free(host.user, tok->classes);
    if (tok->token_at) host.free(host.user, tok->token_at);
    mrc_text_free(&tok->pool);
    host.free(host.user, tok);
}

MRCDEF size_t mrc_tokenizer_size(const mrc_tokenizer *tok)       { return tok->n; }
MRCDEF size_t mrc_tokenizer_max_length(const mrc_tokenizer *tok) { return tok->max_length; }
MRCDEF mrc_special_ids mrc_tokenizer_special(const mrc_tokenizer *tok) { return tok->special; }
MRCDEF const char *mrc_tokenizer_token(const mrc_tokenizer *tok, int32_t id) {
    return id >= 0 && (size_t)id < tok->n ? tok->pool.data + tok->token_at[id] : NULL;
}
static int32_t mrc__tok_id(const mrc_tokenizer *tok, const char *token, size_t bytes) {
    uint32_t node = mrc__tok_trie_find(&tok->words, token, bytes);
    int32_t id = node == MRC__TOK_NONE ? -1 : tok->words.value[node];
    if (id >= 0) return id;
    node = mrc__tok_trie_find(&tok->added, token, bytes);
    return node == MRC__TOK_NONE ? -1 : tok->added.value[node];
}
MRCDEF int32_t mrc_tokenizer_id(const mrc_tokenizer *tok, const char *token) {
    return token ? mrc__tok_id(tok, token, strlen(token)) : -1;
}

//
// Loading.  mrc__tok_source is what the files say: settings, and the JSON trees as long as needed.
//
enum { MRC__TOK_CLS, MRC__TOK_SEP, MRC__TOK_PAD, MRC__TOK_UNK, MRC__TOK_MASK, MRC__TOK_BOS,
       MRC__TOK_EOS, MRC__TOK_NAMES };
static const struct { const char *key, *usual; } mrc__tok_names[MRC__TOK_NAMES] = {
    { "cls_token", "[CLS]" }, { "sep_token", "[SEP]" }, { "pad_token", "[PAD]" },
    { "unk_token", "[UNK]" }, { "mask_token", "[MASK]" }, { "bos_token", NULL },
    { "eos_token", NULL },
};

typedef struct mrc__tok_source {
    mrc_ctx    *ctx;
    mrc_text    path;               // of the file in work; messages name it
    mrc_text    names[MRC__TOK_NAMES];      // empty: not given
    mrc_json   *config, *map, *json;
    int         lowercase, strip_accents, chinese, clean;   // -1: not given
    size_t      max_length;
} mrc__tok_source;

#define mrc__tok_fail(src, status, at, fmt, ...)                                            \
    mrc__fail((src)->ctx, status, "%s:%zu:%zu: " fmt, (src)->path.data, (at)->line, (at)->column, \
              __VA_ARGS__)

static const char *mrc__tok_type(const mrc_json *j) {
    static const char *const names[] = { "null", "false", "true", "a number", "a string",
                                         "an array", "an object" };
    return names[j->type];
}

static mrc_status mrc__tok_object(mrc__tok_source *src, const mrc_json *j, const char *what) {
    if (j->type != MRC_JSON_OBJECT)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "%s is %s, expected an object", what,
                             mrc__tok_type(j));
    return mrc_json_unique_keys(src->ctx, j, src->path.data);
}

// A member that is true or false; absent and null leave *out alone.
static mrc_status mrc__tok_bool(mrc__tok_source *src, const mrc_json *object, const char *key,
                                int *out) {
    const mrc_json *j = mrc_json_get(object, key);
    if (!j || j->type == MRC_JSON_NULL) return MRC_OK;
    if (j->type != MRC_JSON_TRUE && j->type != MRC_JSON_FALSE)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "%s is %s, expected true or false", key,
                             mrc__tok_type(j));
    int value = j->type == MRC_JSON_TRUE;
    if (*out >= 0 && *out != value)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "%s is %d here and %d in "
                             "tokenizer_config.json", key, value, *out);
    *out = value;
    return MRC_OK;
}

// A member that is a string; *out NULL: it is absent or null.
static mrc_status mrc__tok_string(mrc__tok_source *src, const mrc_json *object, const char *key,
                                  const mrc_json **out) {
    const mrc_json *j = mrc_json_get(object, key);
    *out = NULL;
    if (!j || j->type == MRC_JSON_NULL) return MRC_OK;
    if (j->type != MRC_JSON_STRING)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "%s is %s, expected a string", key,
                             mrc__tok_type(j));
    *out = j;
    return MRC_OK;
}

// An integer from lo to hi.
static mrc_status mrc__tok_int(mrc__tok_source *src, const mrc_json *j, const char *what,
                               int64_t lo, int64_t hi, int64_t *out) {
    if (j->type != MRC_JSON_NUMBER)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "%s is %s, expected an integer", what,
                             mrc__tok_type(j));
    if (!j->is_int || j->integer < lo || j->integer > hi)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "%s is %.17g, expected an integer from %lld "
                             "to %lld", what, j->number, (long long)lo, (long long)hi);
    *out = j->integer;
    return MRC_OK;
}

// Puts a token at an id; `at` is where it stands in the file.
static mrc_status mrc__tok_add(mrc__tok_source *src, mrc_tokenizer *tok, mrc__tok_trie *trie,
                               const mrc_json *at, const char *text, size_t bytes, int64_t id) {
    uint32_t node;
    if (bytes == 0 || memchr(text, 0, bytes))
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "%s", bytes ? "token with a NUL character"
                                                                  : "empty token");
    if (id < 0 || (uint64_t)id >= tok->capacity)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "token \"%.60s\" has id %lld, expected 0 to "
                             "%zu: there are %zu tokens", text, (long long)id, tok->capacity - 1,
                             tok->capacity);
    if (!mrc__tok_trie_put(&tok->host, trie, text, bytes, &node))
        return mrc__tok_fail(src, MRC_ERR_MEM, at, "no memory for %zu tokens", tok->capacity);
    if (trie->value[node] >= 0)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "token \"%.60s\" is there twice: with id %d "
                             "and id %lld", text, (int)trie->value[node], (long long)id);
    trie->value[node] = (int32_t)id;
    const char *old = tok->token_at[id] == SIZE_MAX ? NULL : tok->pool.data + tok->token_at[id];
    if (old && strcmp(old, text) == 0) return MRC_OK;
    if (old)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "id %lld has two tokens: \"%.60s\" and "
                             "\"%.60s\"", (long long)id, old, text);
    tok->token_at[id] = tok->pool.bytes;
    mrc_text_add(&tok->pool, text, bytes);
    mrc_text_add(&tok->pool, "", 1);
    if (tok->pool.failed)
        return mrc__tok_fail(src, MRC_ERR_MEM, at, "no memory for %zu tokens", tok->capacity);
    if ((size_t)id >= tok->n) tok->n = (size_t)id + 1;
    return MRC_OK;
}

// Makes a token one that is found in the raw text.
static mrc_status mrc__tok_add_special(mrc__tok_source *src, mrc_tokenizer *tok, const mrc_json *at,
                                       const char *text, size_t bytes, int64_t id) {
    uint32_t node = mrc__tok_trie_find(&tok->added, text, bytes);
    if (node != MRC__TOK_NONE && tok->added.value[node] == id) return MRC_OK;
    int32_t known = mrc__tok_id(tok, text, bytes);
    if (known >= 0 && known != id)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "token \"%.60s\" has two ids: %d in the "
                             "vocabulary and %lld as an added token", text, (int)known,
                             (long long)id);
    MRC__TRY(mrc__tok_add(src, tok, &tok->added, at, text, bytes, id));
    tok->added_first[(unsigned char)text[0]] = 1;
    return MRC_OK;
}

// Room for ids 0 .. capacity - 1.
static mrc_status mrc__tok_room(mrc__tok_source *src, mrc_tokenizer *tok, size_t capacity) {
    size_t bytes;
    if (capacity == 0)
        return mrc__fail(src->ctx, MRC_ERR_FORMAT, "%s: no tokens", src->path.data);
    if (capacity > INT32_MAX)
        return mrc__fail(src->ctx, MRC_ERR_FORMAT, "%s: %zu tokens, expected at most %d",
                         src->path.data, capacity, INT32_MAX);
    tok->token_at = mrc__mul(capacity, sizeof *tok->token_at, &bytes)
                  ? tok->host.alloc(tok->host.user, bytes) : NULL;
    if (!tok->token_at)
        return mrc__fail(src->ctx, MRC_ERR_MEM, "%s: no memory for %zu tokens", src->path.data,
                         capacity);
    for (size_t i = 0; i < capacity; i++) tok->token_at[i] = SIZE_MAX;
    tok->capacity = capacity;
    return MRC_OK;
}

// Trailing White_Space is cut, as Rust's trim_end does.
static size_t mrc__tok_trim(const char *s, size_t bytes) {
    const mrc__unicode *u = &mrc__unicode_tables;
    for (;;) {
        size_t at = bytes;
        while (at > 0 && ((unsigned char)s[at - 1] & 0xC0) == 0x80) at--;
        if (at == 0) return bytes;
        uint32_t cp, space = 0;
        at--;
        mrc__tok_decode((const unsigned char *)s + at, (const unsigned char *)s + bytes, &cp);
        for (size_t i = 0; i < u->n_classes && u->classes[i].first <= cp; i++) {
            if (cp <= u->classes[i].last) space = u->classes[i].value & MRC__UNI_SPACE;
        }
        if (!space) return bytes;
        bytes = at;
    }
}

static mrc_status mrc__tok_read_vocab(mrc__tok_source *src, mrc_tokenizer *tok, char *data,
                                      size_t bytes) {
    const char *path = src->path.data;
    size_t lines = 0, valid = mrc_utf8_valid(data, bytes);
    for (size_t i = 0; i < bytes; i++) lines += data[i] == '\n';
    if (bytes && data[bytes - 1] != '\n') lines++;
    if (valid != bytes) {
        size_t line = 1;
        for (size_t i = 0; i < valid; i++) line += data[i] == '\n';
        return mrc__fail(src->ctx, MRC_ERR_FORMAT, "%s:%zu: ill-formed UTF-8 (byte 0x%02x)", path,
                         line, (unsigned)(unsigned char)data[valid]);
    }
    MRC__TRY(mrc__tok_room(src, tok, lines));
    char *s = data;
    for (size_t id = 0; id < lines; id++) {
        mrc_json at = { .line = id + 1, .column = 1 };
        char *end = memchr(s, '\n', (size_t)(data + bytes - s));
        if (!end) end = data + bytes;
        size_t n = mrc__tok_trim(s, (size_t)(end - s));
        s[n] = 0;                   // the file's own line end, or the NUL behind it
        MRC__TRY(mrc__tok_add(src, tok, &tok->words, &at, s, n, (int64_t)id));
        s = end + 1;
    }
    return MRC_OK;
}

// One added token: {"content": .., flags}, or its text alone.
static mrc_status mrc__tok_added(mrc__tok_source *src, mrc_tokenizer *tok, const mrc_json *j,
                                 int64_t id) {
    static const char *const flags[] = { "single_word", "lstrip", "rstrip", "normalized" };
    const mrc_json *content = j;
    if (j->type != MRC_JSON_STRING) {
        MRC__TRY(mrc__tok_object(src, j, "an added token"));
        MRC__TRY(mrc__tok_string(src, j, "content", &content));
        if (!content)
            return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "an added token without %s", "content");
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
            int on = -1;
            MRC__TRY(mrc__tok_bool(src, j, flags[i], &on));
            if (on == 1)
                return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, j, "added token \"%.60s\" has %s: "
                                     "true, which is not supported", content->string, flags[i]);
        }
    }
    if (id < 0) {
        id = mrc__tok_id(tok, content->string, content->bytes);
        if (id < 0)
            return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "special token \"%.60s\" is not in the "
                                 "vocabulary of %zu tokens", content->string, tok->n);
    }
    return mrc__tok_add_special(src, tok, j, content->string, content->bytes, id);
}

//
// tokenizer_config.json and special_tokens_map.json
//
// The names of special tokens; one that another file gave differently is refused.
static mrc_status mrc__tok_read_names(mrc__tok_source *src, const mrc_json *root) {
    for (size_t i = 0; i < MRC__TOK_NAMES; i++) {
        const mrc_json *j = mrc_json_get(root, mrc__tok_names[i].key);
        mrc_text *name = &src->names[i];
        if (j && j->type == MRC_JSON_OBJECT) {
            MRC__TRY(mrc__tok_object(src, j, mrc__tok_names[i].key));
            MRC__TRY(mrc__tok_string(src, j, "content", &j));
        } else {
            MRC__TRY(mrc__tok_string(src, root, mrc__tok_names[i].key, &j));
        }
        if (!j) continue;
        if (name->bytes && (name->bytes != j->bytes || memcmp(name->data, j->string, j->bytes)))
            return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "%s is \"%.60s\" here and \"%.60s\" in "
                                 "tokenizer_config.json", mrc__tok_names[i].key, j->string,
                                 name->data);
        if (name->bytes == 0) mrc_text_add(name, j->string, j->bytes);
        if (name->failed) return mrc__fail(src->ctx, MRC_ERR_MEM, "%s: no memory", src->path.data);
    }
    return MRC_OK;
}

static mrc_status mrc__tok_read_config(mrc__tok_source *src, const mrc_json *root) {
    int basic = -1;
    MRC__TRY(mrc__tok_object(src, root, "the tokenizer's configuration"));
    MRC__TRY(mrc__tok_bool(src, root, "do_lower_case", &src->lowercase));
    MRC__TRY(mrc__tok_bool(src, root, "strip_accents", &src->strip_accents));
    MRC__TRY(mrc__tok_bool(src, root, "tokenize_chinese_chars", &src->chinese));
    MRC__TRY(mrc__tok_bool(src, root, "do_basic_tokenize", &basic));
    const mrc_json *never = mrc_json_get(root, "never_split");
    const mrc_json *length = mrc_json_get(root, "model_max_length");
    if (basic == 0)
        return mrc__fail(src->ctx, MRC_ERR_UNSUPPORTED, "%s: do_basic_tokenize is false, which is "
                         "not supported", src->path.data);
    if (never && never->type != MRC_JSON_NULL && never->n > 0)
        return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, never, "never_split has %zu entries, which "
                             "is not supported", never->n);
    // Hugging Face writes 1e30, as an integer, for "none".
    if (length && length->type == MRC_JSON_NUMBER && length->number > INT32_MAX) length = NULL;
    if (length && length->type != MRC_JSON_NULL) {
        int64_t n;
        MRC__TRY(mrc__tok_int(src, length, "model_max_length", 1, INT32_MAX, &n));
        src->max_length = (size_t)n;
    }
    return mrc__tok_read_names(src, root);
}

// Writes path: dir/name or name.
static mrc_status mrc__tok_path(mrc__tok_source *src, const char *dir, const char *name) {
    src->path.bytes = 0;
    if (dir) mrc_text_printf(&src->path, "%s/%s", dir, name);
    else mrc_text_printf(&src->path, "%s", name);
    return src->path.failed ? mrc__fail(src->ctx, MRC_ERR_MEM, "%s: no memory", name) : MRC_OK;
}

// *out NULL: there is no such file.
static mrc_status mrc__tok_optional(mrc__tok_source *src, mrc_json **out, const char *dir,
                                    const char *name) {
    *out = NULL;
    MRC__TRY(mrc__tok_path(src, dir, name));
    if (mrc_file_exists(src->path.data) != 1) return MRC_OK;
    return mrc_json_load(src->ctx, out, src->path.data);
}

static mrc_status mrc__tok_read_configs(mrc__tok_source *src, const char *dir) {
    MRC__TRY(mrc__tok_optional(src, &src->config, dir, "tokenizer_config.json"));
    if (src->config) MRC__TRY(mrc__tok_read_config(src, src->config));
    MRC__TRY(mrc__tok_optional(src, &src->map, dir, "special_tokens_map.json"));
    if (!src->map) return MRC_OK;
    MRC__TRY(mrc__tok_object(src, src->map, "the map of special tokens"));
    return mrc__tok_read_names(src, src->map);
}

//
// tokenizer.json
//
static int mrc__tok_is(const mrc_json *j, const char *text) {
    return j && j->type == MRC_JSON_STRING && j->bytes == strlen(text)
        && memcmp(j->string, text, j->bytes) == 0;
}

// A part of the pipeline, which must be of one of two types (b may be NULL).
static mrc_status mrc__tok_part(mrc__tok_source *src, const char *key, const char *a,
                                const char *b, const mrc_json **out) {
    const mrc_json *part = mrc_json_get(src->json, key);
    *out = part;
    if (!part || part->type == MRC_JSON_NULL)
        return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, src->json, "no %s, expected %s", key, a);
    MRC__TRY(mrc__tok_object(src, part, key));
    const mrc_json *type = mrc_json_get(part, "type");
    if (mrc__tok_is(type, a) || (b && mrc__tok_is(type, b))) return MRC_OK;
    return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, part, "%s of type %.60s, supported is %s%s%s",
                         key, type && type->type == MRC_JSON_STRING ? type->string : "unknown", a,
                         b ? " or " : "", b ? b : "");
}

// "vocab": {token: id}, with the ids of the added tokens after or among them.
static mrc_status mrc__tok_read_model(mrc__tok_source *src, mrc_tokenizer *tok,
                                      const mrc_json *added) {
    const mrc_json *model, *prefix, *unk;
    MRC__TRY(mrc__tok_part(src, "model", "WordPiece", NULL, &model));
    const mrc_json *vocab = mrc_json_get(model, "vocab");
    const mrc_json *max_chars = mrc_json_get(model, "max_input_chars_per_word");
    MRC__TRY(mrc__tok_string(src, model, "unk_token", &unk));
    MRC__TRY(mrc__tok_string(src, model, "continuing_subword_prefix", &prefix));
    if (!vocab || vocab->type != MRC_JSON_OBJECT)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, model, "vocab is %s, expected an object",
                             vocab ? mrc__tok_type(vocab) : "absent");
    MRC__TRY(mrc__tok_room(src, tok, vocab->n + (added ? added->n : 0)));
    for (const mrc_json *j = vocab->child; j; j = j->next) {
        int64_t id;
        MRC__TRY(mrc__tok_int(src, j, "a token's id", 0, INT32_MAX, &id));
        MRC__TRY(mrc__tok_add(src, tok, &tok->words, j, j->key, j->key_bytes, id));
    }
    if (max_chars) {
        int64_t n;
        MRC__TRY(mrc__tok_int(src, max_chars, "max_input_chars_per_word", 1, INT32_MAX, &n));
        tok->max_chars = (size_t)n;
    }
    mrc_text *name = &src->names[MRC__TOK_UNK];
    const char *text = unk ? unk->string : "[UNK]";
    if (name->bytes && strcmp(name->data, text))
        return mrc__tok_fail(src, MRC_ERR_FORMAT, model, "unk_token is \"%.60s\" here and \"%.60s\""
                             " in tokenizer_config.json", text, name->data);
    if (name->bytes == 0) mrc_text_printf(name, "%s", text);
    if (!mrc__tok_trie_put(&tok->host, &tok->words, prefix ? prefix->string : "##",
                           prefix ? prefix->bytes : 2, &tok->suffix) || name->failed)
        return mrc__fail(src->ctx, MRC_ERR_MEM, "%s: no memory", src->path.data);
    return MRC_OK;
}

static mrc_status mrc__tok_template_add(mrc__tok_source *src, const mrc_json *at,
                                        mrc__tok_template *t, mrc__tok_item item) {
    if (t->n == MRC__TOK_TEMPLATE_ITEMS)
        return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, at, "a template of more than %d tokens",
                             MRC__TOK_TEMPLATE_ITEMS);
    t->item[t->n++] = item;
    t->n_special += item.sequence < 0;
    return MRC_OK;
}

static mrc_status mrc__tok_template_special(mrc__tok_source *src, mrc_tokenizer *tok,
                                            const mrc_json *specials, const mrc_json *name,
                                            mrc__tok_template *t, int32_t type_id) {
    const mrc_json *entry = mrc_json_get(specials, name->string);
    const mrc_json *ids = mrc_json_get(entry, "ids");
    if (!ids || ids->type != MRC_JSON_ARRAY)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, name, "the template's special token \"%.60s\" "
                             "has no ids", name->string);
    for (const mrc_json *j = ids->child; j; j = j->next) {
        int64_t id;
        MRC__TRY(mrc__tok_int(src, j, "a special token's id", 0, (int64_t)tok->n - 1, &id));
        MRC__TRY(mrc__tok_template_add(src, j, t, (mrc__tok_item){ -1, type_id, (int32_t)id }));
    }
    return MRC_OK;
}

// [{"SpecialToken": {"id", "type_id"}}, {"Sequence": {"id": "A", "type_id"}}, ..]
static mrc_status mrc__tok_read_template(mrc__tok_source *src, mrc_tokenizer *tok,
                                         const mrc_json *part, const char *key, int32_t n_sequences,
                                         mrc__tok_template *t) {
    const mrc_json *list = mrc_json_get(part, key);
    const mrc_json *specials = mrc_json_get(part, "special_tokens");
    int32_t next = 0;
    if (!list || list->type != MRC_JSON_ARRAY)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, part, "the post_processor's %s is %s, expected "
                             "an array", key, list ? mrc__tok_type(list) : "absent");
    for (const mrc_json *j = list->child; j; j = j->next) {
        const mrc_json *sequence = mrc_json_get(j, "Sequence"), *name;
        const mrc_json *item = sequence ? sequence : mrc_json_get(j, "SpecialToken");
        const mrc_json *type = mrc_json_get(item, "type_id");
        int64_t type_id = 0;
        if (!item)
            return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "a piece of the template's %s is neither "
                                 "Sequence nor SpecialToken", key);
        MRC__TRY(mrc__tok_string(src, item, "id", &name));
        if (!name)
            return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "a piece of the template's %s has no id",
                                 key);
        if (type) MRC__TRY(mrc__tok_int(src, type, "type_id", 0, INT32_MAX, &type_id));
        if (!sequence) {
            MRC__TRY(mrc__tok_template_special(src, tok, specials, name, t, (int32_t)type_id));
            continue;
        }
        if (!mrc__tok_is(name, next == 0 ? "A" : "B") || next == n_sequences)
            return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, name, "the template's %s has sequence "
                                 "%.60s as number %d, supported is A%s", key, name->string,
                                 (int)next + 1, n_sequences == 2 ? " then B" : "");
        MRC__TRY(mrc__tok_template_add(src, j, t, (mrc__tok_item){ next++, (int32_t)type_id, 0 }));
    }
    if (next == n_sequences) return MRC_OK;
    return mrc__tok_fail(src, MRC_ERR_FORMAT, list, "the template's %s has %d sequences, expected "
                         "%d", key, (int)next, (int)n_sequences);
}

// [CLS] A [SEP] and [CLS] A [SEP] B [SEP], types 0 0 0 1 1.
static void mrc__tok_bert_template(mrc_tokenizer *tok, int32_t cls, int32_t sep) {
    tok->single = (mrc__tok_template){ 3, 2, { { -1, 0, cls }, { 0, 0, 0 }, { -1, 0, sep } } };
    tok->pair = (mrc__tok_template){ 5, 3, { { -1, 0, cls }, { 0, 0, 0 }, { -1, 0, sep },
                                             { 1, 1, 0 }, { -1, 1, sep } } };
}

// "sep": ["[SEP]", 102]
static mrc_status mrc__tok_bert_pair(mrc__tok_source *src, const mrc_tokenizer *tok,
                                     const mrc_json *part, const char *key, int32_t *out) {
    const mrc_json *j = mrc_json_get(part, key);
    int64_t id;
    if (!j || j->type != MRC_JSON_ARRAY || j->n != 2)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, part, "BertProcessing without \"%s\": [token, "
                             "id]", key);
    MRC__TRY(mrc__tok_int(src, j->child->next, "a special token's id", 0, (int64_t)tok->n - 1,
                          &id));
    *out = (int32_t)id;
    return MRC_OK;
}

static mrc_status mrc__tok_read_processor(mrc__tok_source *src, mrc_tokenizer *tok) {
    const mrc_json *part;
    int32_t cls, sep;
    MRC__TRY(mrc__tok_part(src, "post_processor", "TemplateProcessing", "BertProcessing", &part));
    if (mrc__tok_is(mrc_json_get(part, "type"), "TemplateProcessing")) {
        MRC__TRY(mrc__tok_read_template(src, tok, part, "single", 1, &tok->single));
        return mrc__tok_read_template(src, tok, part, "pair", 2, &tok->pair);
    }
    MRC__TRY(mrc__tok_bert_pair(src, tok, part, "cls", &cls));
    MRC__TRY(mrc__tok_bert_pair(src, tok, part, "sep", &sep));
    mrc__tok_bert_template(tok, cls, sep);
    return MRC_OK;
}

static mrc_status mrc__tok_read_json(mrc__tok_source *src, mrc_tokenizer *tok) {
    const mrc_json *part;
    MRC__TRY(mrc_json_load(src->ctx, &src->json, src->path.data));
    MRC__TRY(mrc__tok_object(src, src->json, "the tokenizer"));
    MRC__TRY(mrc__tok_part(src, "normalizer", "BertNormalizer", NULL, &part));
    MRC__TRY(mrc__tok_bool(src, part, "lowercase", &src->lowercase));
    MRC__TRY(mrc__tok_bool(src, part, "strip_accents", &src->strip_accents));
    MRC__TRY(mrc__tok_bool(src, part, "handle_chinese_chars", &src->chinese));
    MRC__TRY(mrc__tok_bool(src, part, "clean_text", &src->clean));
    MRC__TRY(mrc__tok_part(src, "pre_tokenizer", "BertPreTokenizer", NULL, &part));
    const mrc_json *added = mrc_json_get(src->json, "added_tokens");
    if (added && added->type == MRC_JSON_NULL) added = NULL;
    if (added && added->type != MRC_JSON_ARRAY)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, added, "added_tokens is %s, expected an array",
                             mrc__tok_type(added));
    MRC__TRY(mrc__tok_read_model(src, tok, added));
    for (const mrc_json *j = added ? added->child : NULL; j; j = j->next) {
        const mrc_json *id = mrc_json_get(j, "id");
        int64_t number;
        if (!id) return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "an added token without %s", "id");
        MRC__TRY(mrc__tok_int(src, id, "an added token's id", 0, INT32_MAX, &number));
        MRC__TRY(mrc__tok_added(src, tok, j, number));
    }
    return mrc__tok_read_processor(src, tok);
}

//
// vocab.txt, and what both kinds end with
//
// "added_tokens_decoder": {"0": {"content": ..}}; "additional_special_tokens": [..]
static mrc_status mrc__tok_read_extra(mrc__tok_source *src, mrc_tokenizer *tok,
                                      const mrc_json *root) {
    const mrc_json *extra = mrc_json_get(root, "additional_special_tokens");
    if (extra && extra->type != MRC_JSON_ARRAY && extra->type != MRC_JSON_NULL)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, extra, "additional_special_tokens is %s, "
                             "expected an array", mrc__tok_type(extra));
    for (const mrc_json *j = extra ? extra->child : NULL; j; j = j->next) {
        MRC__TRY(mrc__tok_added(src, tok, j, -1));
    }
    extra = mrc_json_get(root, "added_tokens_decoder");
    if (extra) MRC__TRY(mrc__tok_object(src, extra, "added_tokens_decoder"));
    for (const mrc_json *j = extra ? extra->child : NULL; j; j = j->next) {
        MRC__TRY(mrc__tok_object(src, j, "an added token"));
        MRC__TRY(mrc__tok_added(src, tok, j, -1));
        const mrc_json *content = mrc_json_get(j, "content");
        int32_t id = mrc__tok_id(tok, content->string, content->bytes);
        char number[16];
        snprintf(number, sizeof number, "%d", (int)id);
        if (strcmp(number, j->key))
            return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "token \"%.60s\" has id %.20s here and %d "
                                 "in the vocabulary", content->string, j->key, (int)id);
    }
    return MRC_OK;
}

// The special tokens by name.  One that a file names must be there; one that only is usual may be
// missing, but for those that every encoding needs.
static mrc_status mrc__tok_find_special(mrc__tok_source *src, mrc_tokenizer *tok) {
    int32_t *const out[] = { &tok->special.cls, &tok->special.sep, &tok->special.pad,
                             &tok->special.unk, &tok->special.mask };
    for (size_t i = 0; i < MRC__TOK_NAMES; i++) {
        int given = src->names[i].bytes > 0;
        const char *name = given ? src->names[i].data : mrc__tok_names[i].usual;
        if (!name) continue;
        int32_t id = mrc_tokenizer_id(tok, name);
        int needed = i == MRC__TOK_UNK || (!src->json && (i == MRC__TOK_CLS || i == MRC__TOK_SEP));
        if (id < 0 && (given || needed))
            return mrc__fail(src->ctx, MRC_ERR_FORMAT, "%s: %s \"%.60s\" is not in the vocabulary "
                             "of %zu tokens", src->path.data, mrc__tok_names[i].key, name, tok->n);
        if (i < sizeof out / sizeof *out) *out[i] = id;
        // tokenizer.json lists by itself what is found in the raw text.
        mrc_json at = { .line = (size_t)(id + 1), .column = 1 };
        if (id >= 0 && !src->json)
            MRC__TRY(mrc__tok_add_special(src, tok, &at, name, strlen(name), id));
    }
    return MRC_OK;
}

static mrc_status mrc__tok_read_text(mrc__tok_source *src, mrc_tokenizer *tok, const char *dir) {
    char *data;
    size_t bytes;
    MRC__TRY(mrc_file_read(src->ctx, &data, &bytes, src->path.data));
    mrc_status s = mrc__tok_read_vocab(src, tok, data, bytes);
    mrc_file_free(src->ctx, data);
    MRC__TRY(s);
    if (!mrc__tok_trie_put(&tok->host, &tok->words, "##", 2, &tok->suffix))
        return mrc__fail(src->ctx, MRC_ERR_MEM, "%s: no memory", src->path.data);
    MRC__TRY(mrc__tok_find_special(src, tok));
    mrc__tok_bert_template(tok, tok->special.cls, tok->special.sep);
    if (src->config) {
        MRC__TRY(mrc__tok_path(src, dir, "tokenizer_config.json"));
        MRC__TRY(mrc__tok_read_extra(src, tok, src->config));
    }
    if (src->map) {
        MRC__TRY(mrc__tok_path(src, dir, "special_tokens_map.json"));
        MRC__TRY(mrc__tok_read_extra(src, tok, src->map));
    }
    return MRC_OK;
}

// The byte per code point, with the bits of stages that are off cleared.
static mrc_status mrc__tok_read_classes(mrc__tok_source *src, mrc_tokenizer *tok) {
    const mrc__unicode *u = &mrc__unicode_tables;
    int lower = src->lowercase == 1;
    int strip = src->strip_accents >= 0 ? src->strip_accents : lower;
    unsigned keep = MRC__UNI_SPACE | MRC__UNI_PUNCT;
    if (src->clean != 0) keep |= MRC__UNI_DROP;
    if (src->chinese != 0) keep |= MRC__UNI_CJK;
    if (strip) keep |= MRC__UNI_MARK;
    uint8_t *c = tok->classes = mrc__host_zalloc(&tok->host, MRC__UNI_POINTS);
    if (!c) return mrc__fail(src->ctx, MRC_ERR_MEM, "tokenizer: no memory for the character table");
    for (size_t i = 0; i < u->n_classes; i++) {
        for (uint32_t cp = u->classes[i].first; cp <= u->classes[i].last; cp++)
            c[cp] = (uint8_t)(u->classes[i].value & keep);
    }
    for (size_t i = 0; strip && i < u->n_combining; i++) {
        for (uint32_t cp = u->combining[i].first; cp <= u->combining[i].last; cp++)
            c[cp] |= MRC__UNI_COMBINING;
    }
    for (size_t i = 0; strip && i < u->n_runs; i++) {
        for (uint32_t k = 0; k < u->runs[i].count; k++) c[u->runs[i].first + k] |= MRC__UNI_NFD;
    }
    for (uint32_t cp = 0xAC00; strip && cp <= 0xD7A3; cp++) c[cp] |= MRC__UNI_NFD;
    for (size_t i = 0; lower && i < u->n_lowers; i++) {
        const mrc__uni_lower *l = &u->lowers[i];
        for (uint32_t cp = l->first; cp <= l->last; cp += l->step) c[cp] |= MRC__UNI_LOWER;
    }
    return MRC_OK;
}

static mrc_status mrc__tok_read(mrc__tok_source *src, mrc_tokenizer *tok, const char *path) {
    int kind = mrc_file_exists(path);
    size_t length = strlen(path);
    const char *dir = kind == 2 ? path : NULL;
    int json = length > 5 && strcmp(path + length - 5, ".json") == 0;
    if (kind == 0) return mrc__fail(src->ctx, MRC_ERR_ARG, "%s: no such file or folder", path);
    if (!mrc__tok_trie_init(&tok->host, &tok->words)
        || !mrc__tok_trie_init(&tok->host, &tok->added))
        return mrc__fail(src->ctx, MRC_ERR_MEM, "%s: no memory", path);
    MRC__TRY(mrc__tok_path(src, NULL, path));
    if (dir) {
        MRC__TRY(mrc__tok_read_configs(src, dir));
        MRC__TRY(mrc__tok_path(src, dir, "tokenizer.json"));
        json = mrc_file_exists(src->path.data) == 1;
        if (!json) MRC__TRY(mrc__tok_path(src, dir, "vocab.txt"));
        if (!json && mrc_file_exists(src->path.data) != 1)
            return mrc__fail(src->ctx, MRC_ERR_ARG, "%s: neither tokenizer.json nor vocab.txt in "
                             "this folder", dir);
        // What Hugging Face does where a configuration says nothing.
        if (!json && src->config && src->lowercase < 0) src->lowercase = 1;
    }
    MRC__TRY(json ? mrc__tok_read_json(src, tok) : mrc__tok_read_text(src, tok, dir));
    if (json) MRC__TRY(mrc__tok_find_special(src, tok));
    for (size_t id = 0; id < tok->n; id++) {
        if (tok->token_at[id] == SIZE_MAX)
            return mrc__fail(src->ctx, MRC_ERR_FORMAT, "%s: no token has id %zu, but one has %zu",
                             src->path.data, id, tok->n - 1);
    }
    tok->max_length = src->max_length;
    return mrc__tok_read_classes(src, tok);
}

MRCDEF mrc_status mrc_tokenizer_load(mrc_ctx *ctx, mrc_tokenizer **out, const char *path) {
    if (!ctx || !out || !path) return MRC_ERR_ARG;
    *out = NULL;
    mrc_tokenizer *tok = mrc__host_zalloc(&ctx->host, sizeof *tok);
    if (!tok) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory", path);
    mrc__tok_source src = { .ctx = ctx, .lowercase = -1, .strip_accents = -1, .chinese = -1,
                            .clean = -1 };
    tok->host = ctx->host;
    tok->max_chars = 100;
    tok->special = (mrc_special_ids){ -1, -1, -1, -1, -1 };
    mrc_text_init(&tok->pool, ctx);
    mrc_text_init(&src.path, ctx);
    for (size_t i = 0; i < MRC__TOK_NAMES; i++) mrc_text_init(&src.names[i], ctx);
    mrc_status s = mrc__tok_read(&src, tok, path);
    mrc_json_free(src.config);
    mrc_json_free(src.map);
    mrc_json_free(src.json);
    mrc_text_free(&src.path);
    for (size_t i = 0; i < MRC__TOK_NAMES; i++) mrc_text_free(&src.names[i]);
    if (s == MRC_OK) *out = tok;
    else mrc_tokenizer_free(tok);
    return s;
}

#endif // core pass

//==============================================================================
// >>impl.tokenizer
//
// The normaliser, pre-tokeniser and WordPiece of BertTokenizerFast as the Rust package `tokenizers`
// has them (PARITY 3.8), truncation and windows (3.9).  Text runs once through
//
//     decode -> clean -> space around CJK -> NFD -> drop marks -> lower case -> words -> pieces
//
// a code point at a time, and each carries the position in the original text that it is aligned to.
// Byte-level BPE would replace mrc__tok_segment(); added tokens, templates and windows are shared.
//==============================================================================
#ifdef MRC__PASS_CORE
// A mrc__tok_run takes a text apart into pieces; its buffers serve both texts of a pair.
typedef struct mrc__tok_piece { int32_t id, begin, end, word; } mrc__tok_piece;
typedef struct mrc__tok_mark { uint32_t cp, order, follows; int32_t from; } mrc__tok_mark;
typedef struct mrc__tok_run {
    const mrc_allocator *host;      // the caller's: threads share the tokenizer
    const mrc_tokenizer *tok;
    mrc__tok_piece *pieces;
    size_t          n, capacity;
    uint32_t       *word;           // the word being collected: its code points
    int32_t        *from;           // and where each stands in the text
    size_t          n_word, word_capacity;
    int32_t         last_from;      // of the word's last code point, kept or not
    int32_t         words;          // words so far
    mrc__tok_mark  *marks;          // combining marks that wait to be put in order
    size_t          n_marks, mark_capacity;
    int32_t         aligned;        // where the latest code point that replaced another stands
    int             failed;         // out of memory: asked about once, at the end
} mrc__tok_run;

static void mrc__tok_run_free(mrc__tok_run *r) {
    const mrc_allocator *host = r->host;
    if (r->pieces) host->free(host->user, r->pieces);
    if (r->word) host->free(host->user, r->word);
    if (r->marks) host->free(host->user, r->marks);
}

static inline void mrc__tok_piece_add(mrc__tok_run *r, int32_t id, int32_t begin, int32_t end) {
    if (r->n == r->capacity) {
        void *to = r->pieces;
        if (!mrc__tok_grow(r->host, &to, &r->capacity, r->n, sizeof *r->pieces)) {
            r->failed = 1;
            return;
        }
        r->pieces = to;
    }
    r->pieces[r->n++] = (mrc__tok_piece){ id, begin, end, r->words };
}

// Ends the word: greedy, the longest piece first; a word that does not come out is one [UNK].
static void mrc__tok_word_end(mrc__tok_run *r) {
    const mrc_tokenizer *tok = r->tok;
    const mrc__tok_trie *t = &tok->words;
    size_t n = r->n_word, first = r->n;
    if (n == 0) return;
    for (size_t begin = 0, end = 0; begin < n && n <= tok->max_chars; begin = end) {
        uint32_t node = begin ? tok->suffix : 0;
        int32_t id = -1;
        for (size_t i = begin; i < n; i++) {
            node = mrc__tok_next(t, node, r->word[i]);
            if (node == MRC__TOK_NONE) break;
            if (t->value[node] >= 0) {
                id = t->value[node];
                end = i + 1;
            }
        }
        if (id < 0) {
            r->n = first;
            break;
        }
        mrc__tok_piece_add(r, id, r->from[begin], r->from[end - 1] + 1);
    }
    if (r->n == first) mrc__tok_piece_add(r, tok->special.unk, r->from[0], r->last_from + 1);
    r->n_word = 0;
    r->words++;
}

// Room for twice the word; 0: out of memory.
static int mrc__tok_word_grow(mrc__tok_run *r) {
    const mrc_allocator *host = r->host;
    size_t bytes, want = r->word_capacity ? r->word_capacity : 64;
    if (!mrc__mul(want, 4 * sizeof *r->word, &bytes)) return 0;
    uint32_t *word = host->alloc(host->user, bytes);
    if (!word) return 0;
    want *= 2;
    int32_t *from = (int32_t *)(word + want);
    if (r->word) {
        memcpy(word, r->word, r->n_word * sizeof *word);
        memcpy(from, r->from, r->n_word * sizeof *from);
        host->free(host->user, r->word);
    }
    r->word = word;
    r->from = from;
    r->word_capacity = want;
    return 1;
}

// Beyond max_chars only the length and the end count.
static inline void mrc__tok_word_add(mrc__tok_run *r, uint32_t cp, int32_t from) {
    if (r->n_word < r->tok->max_chars) {
        if (r->n_word == r->word_capacity && !mrc__tok_word_grow(r)) {
            r->failed = 1;
            return;
        }
        r->word[r->n_word] = cp;
        r->from[r->n_word] = from;
    }
    r->n_word++;
    r->last_from = from;
}

// Pre-tokeniser: white space ends a word, punctuation is one.
static void mrc__tok_put(mrc__tok_run *r, uint32_t cp, int32_t from) {
    unsigned k = r->tok->classes[cp];
    if (k & (MRC__UNI_SPACE | MRC__UNI_PUNCT)) mrc__tok_word_end(r);
    if (!(k & MRC__UNI_SPACE)) mrc__tok_word_add(r, cp, from);
    if (k & MRC__UNI_PUNCT) mrc__tok_word_end(r);
}

// Drops marks, lower case.  A code point at a time: no final sigma, and only U+0130 becomes two.
static void mrc__tok_put_lower(mrc__tok_run *r, uint32_t cp, int32_t from) {
    const mrc__unicode *u = &mrc__unicode_tables;
    unsigned k = r->tok->classes[cp];
    size_t lo = 0, hi = u->n_lowers;
    if (k & MRC__UNI_MARK) return;
    if (k & MRC__UNI_LOWER) {
        while (hi - lo > 1) {       // the last range that begins at or before cp
            size_t mid = lo + (hi - lo) / 2;
            if (u->lowers[mid].first <= cp) lo = mid;
            else hi = mid;
        }
        mrc__tok_put(r, (uint32_t)((int32_t)cp + u->lowers[lo].delta), from);
        if (cp == 0x130) mrc__tok_put(r, 0x307, from);
        return;
    }
    mrc__tok_put(r, cp, from);
}

// Stable, in linear time: a text may be all marks.
static int mrc__tok_marks_sort(mrc__tok_run *r) {
    const mrc_allocator *host = r->host;
    size_t at[257] = {0}, bytes;
    if (r->n_marks < 2) return 1;
    mrc__tok_mark *sorted = mrc__mul(r->mark_capacity, sizeof *sorted, &bytes)
                          ? host->alloc(host->user, bytes) : NULL;
    if (!sorted) return 0;
    for (size_t i = 0; i < r->n_marks; i++) at[r->marks[i].order + 1]++;
    for (size_t k = 0; k < 256; k++) at[k + 1] += at[k];
    for (size_t i = 0; i < r->n_marks; i++) sorted[at[r->marks[i].order]++] = r->marks[i];
    // The k-th code point that replaces one is aligned to the k-th replaced, whatever the order; a
    // code point that was inserted goes with the one before it.
    for (size_t i = 0, k = 0; i < r->n_marks; i++) {
        if (sorted[i].follows) continue;
        while (r->marks[k].follows) k++;
        sorted[i].from = r->marks[k++].from;
    }
    host->free(host->user, r->marks);
    r->marks = sorted;
    return 1;
}

static void mrc__tok_marks_end(mrc__tok_run *r) {
    if (!mrc__tok_marks_sort(r)) r->failed = 1;
    for (size_t i = 0; i < r->n_marks; i++) {
        if (!r->marks[i].follows) r->aligned = r->marks[i].from;
        mrc__tok_put_lower(r, r->marks[i].cp, r->aligned);
    }
    r->n_marks = 0;
}

// One code point of the decomposed text; follows: not the first of what it decomposed from.
static void mrc__tok_put_part(mrc__tok_run *r, uint32_t cp, uint32_t follows, int32_t from) {
    const mrc__unicode *u = &mrc__unicode_tables;
    size_t lo = 0, hi = u->n_combining;
    if (!(r->tok->classes[cp] & MRC__UNI_COMBINING)) {
        if (r->n_marks) mrc__tok_marks_end(r);
        if (!follows) r->aligned = from;
        mrc__tok_put_lower(r, cp, r->aligned);
        return;
    }
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (u->combining[mid].first <= cp) lo = mid;
        else hi = mid;
    }
    void *to = r->marks;
    if (!mrc__tok_grow(r->host, &to, &r->mark_capacity, r->n_marks, sizeof *r->marks)) {
        r->failed = 1;
        return;
    }
    r->marks = to;
    r->marks[r->n_marks++] = (mrc__tok_mark){ cp, u->combining[lo].value, follows, from };
}

static void mrc__tok_put_nfd(mrc__tok_run *r, uint32_t cp, int32_t from) {
    const mrc__unicode *u = &mrc__unicode_tables;
    size_t lo = 0, hi = u->n_runs;
    if (!(r->tok->classes[cp] & MRC__UNI_NFD)) {
        mrc__tok_put_part(r, cp, 0, from);
        return;
    }
    if (cp >= 0xAC00 && cp <= 0xD7A3) {     // Hangul syllables by arithmetic (Unicode 3.12)
        uint32_t s = cp - 0xAC00;
        mrc__tok_put_part(r, 0x1100 + s / 588, 0, from);
        mrc__tok_put_part(r, 0x1161 + s % 588 / 28, 1, from);
        if (s % 28) mrc__tok_put_part(r, 0x11A7 + s % 28, 1, from);
        return;
    }
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        if (u->runs[mid].first <= cp) lo = mid;
        else hi = mid;
    }
    const uint32_t *part = u->parts + u->runs[lo].at
                         + (size_t)(cp - u->runs[lo].first) * u->runs[lo].length;
    for (uint32_t i = 0; i < u->runs[lo].length; i++) mrc__tok_put_part(r, part[i], i > 0, from);
}

static void mrc__tok_boundary(mrc__tok_run *r) {
    if (r->n_marks) mrc__tok_marks_end(r);
    mrc__tok_word_end(r);
}

// A text without added tokens that begins at code point `at`; returns where it ends.
static int32_t mrc__tok_segment(mrc__tok_run *r, const unsigned char *s, const unsigned char *end,
                                int32_t at) {
    const uint8_t *classes = r->tok->classes;
    for (; s < end; at++) {
        uint32_t cp;
        s += mrc__tok_decode(s, end, &cp);
        unsigned k = classes[cp];
        if (k == 0 && r->n_marks == 0) {
            mrc__tok_word_add(r, cp, at);
        } else if (!(k & MRC__UNI_DROP)) {
            if (k & (MRC__UNI_SPACE | MRC__UNI_CJK)) mrc__tok_boundary(r);
            if (!(k & MRC__UNI_SPACE)) mrc__tok_put_nfd(r, cp, at);
            if (k & MRC__UNI_CJK) mrc__tok_boundary(r);
        }
    }
    mrc__tok_boundary(r);
    return at;
}

// The longest added token at s: its id, bytes and code points; -1: none.
static int32_t mrc__tok_added_at(const mrc__tok_trie *t, const unsigned char *s,
                                 const unsigned char *end, size_t *bytes, int32_t *chars) {
    const unsigned char *p = s;
    uint32_t node = 0, cp;
    int32_t id = -1, n = 0;
    while (p < end) {
        p += mrc__tok_decode(p, end, &cp);
        n++;
        node = mrc__tok_next(t, node, cp);
        if (node == MRC__TOK_NONE) break;
        if (t->value[node] < 0) continue;
        id = t->value[node];
        *bytes = (size_t)(p - s);
        *chars = n;
    }
    return id;
}

// Appends a text's pieces to r.
static void mrc__tok_text(mrc__tok_run *r, const char *text, size_t n_bytes) {
    const unsigned char *s = (const unsigned char *)text, *begin = s, *end = s + n_bytes;
    int32_t at = 0;
    r->words = 0;
    while (s < end) {
        size_t bytes;
        int32_t chars, id = -1;
        if (r->tok->added_first[*s]) id = mrc__tok_added_at(&r->tok->added, s, end, &bytes, &chars);
        if (id < 0) {
            s++;
            continue;
        }
        at = mrc__tok_segment(r, begin, s, at);
        mrc__tok_piece_add(r, id, at, at + chars);
        r->words++;
        at += chars;
        begin = s += bytes;
    }
    mrc__tok_segment(r, begin, end, at);
}

//
// Truncation and windows (PARITY 3.9)
//
// A window of sequence `cut` has `size` pieces, and begins `step` after the one before; the other
// sequence is whole, or cut to n[].
typedef struct mrc__tok_plan {
    size_t n[2];                    // pieces of each text that are used
    size_t n_windows, size, step;
    int    cut;                     // which text the windows go through; -1: none
} mrc__tok_plan;

static void mrc__tok_longest_first(size_t room, size_t n[2]) {
    int swap = n[0] > n[1];
    size_t a = n[swap], b = n[!swap];
    b = a > room ? a : a > room - a ? a : room - a;
    if (a + b > room) {
        a = room / 2;
        b = a + room % 2;
    }
    n[swap] = a;
    n[!swap] = b;
}

static mrc_status mrc__tok_plan_windows(mrc_ctx *ctx, mrc__tok_plan *plan, size_t room, int cut,
                                        size_t stride, size_t max_length) {
    size_t other = plan->n[!cut], length = plan->n[cut];
    if (other >= room)
        return mrc__fail(ctx, MRC_ERR_ARG, "tokenizer: max_length %zu leaves no room for the %s: "
                         "the other has %zu tokens and %zu are left for both", max_length,
                         cut ? "second text" : "first text", other, room);
    plan->size = room - other;
    if (stride >= plan->size)
        return mrc__fail(ctx, MRC_ERR_ARG, "tokenizer: stride %zu, expected less than the %zu "
                         "tokens that a window of max_length %zu has room for", stride,
                         plan->size, max_length);
    plan->cut = cut;
    plan->step = plan->size - stride;
    plan->n_windows = 1 + (length - plan->size + plan->step - 1) / plan->step;
    return MRC_OK;
}

static mrc_status mrc__tok_plan_make(mrc_ctx *ctx, mrc__tok_plan *plan, int pair, size_t n_special,
                                     const mrc_encode_options *o) {
    plan->n_windows = 1;
    plan->cut = -1;
    if (o->max_length == 0 || o->truncation == MRC_TRUNCATION_NONE) return MRC_OK;
    if (o->truncation == MRC_TRUNCATION_ONLY_SECOND && !pair)
        return mrc__fail(ctx, MRC_ERR_ARG, "tokenizer: only_second, but there is one text");
    if (o->max_length < n_special)
        return mrc__fail(ctx, MRC_ERR_ARG, "tokenizer: max_length %zu, but %zu special tokens are "
                         "added", o->max_length, n_special);
    size_t room = o->max_length - n_special;
    if (plan->n[0] + plan->n[1] <= room) return MRC_OK;
    switch (o->truncation) {
    case MRC_TRUNCATION_ONLY_FIRST:
    case MRC_TRUNCATION_ONLY_SECOND:
        return mrc__tok_plan_windows(ctx, plan, room, o->truncation == MRC_TRUNCATION_ONLY_SECOND,
                                     o->stride, o->max_length);
    case MRC_TRUNCATION_LONGEST_FIRST:
        if (pair) mrc__tok_longest_first(room, plan->n);
        else plan->n[0] = room;
        return MRC_OK;
    case MRC_TRUNCATION_NONE: break;
    }
    return mrc__fail(ctx, MRC_ERR_ARG, "tokenizer: no truncation of number %d", (int)o->truncation);
}

static void mrc__tok_window(mrc_encoding *e, const mrc__tok_template *t, int special,
                            const mrc__tok_piece *const text[2], const size_t n[2]) {
    size_t at = 0;
    for (size_t i = 0; i < t->n; i++) {
        int32_t which = t->item[i].sequence;
        size_t count = which >= 0 ? n[which] : special ? 1 : 0;
        for (size_t k = 0; k < count; k++, at++) {
            mrc__tok_piece p = which >= 0 ? text[which][k]
                                          : (mrc__tok_piece){ t->item[i].id, 0, 0, -1 };
            e->input_ids[at] = p.id;
            e->token_type_ids[at] = t->item[i].type_id;
            e->offset_mapping[at][0] = p.begin;
            e->offset_mapping[at][1] = p.end;
            e->word_ids[at] = p.word;
            e->sequence_ids[at] = which;
        }
    }
}

// All windows in one allocation: the list, then six numbers per token.
static mrc_status mrc__tok_windows(mrc_ctx *ctx, mrc_encodings *out,
                                   const mrc__tok_piece *const text[2], const mrc__tok_plan *plan,
                                   const mrc__tok_template *t, int special) {
    size_t per_window, n_tokens, list_bytes, bytes, n[2] = { plan->n[0], plan->n[1] };
    if (plan->cut >= 0) n[plan->cut] = plan->size;
    per_window = n[0] + n[1] + (special ? t->n_special : 0);
    int fits = mrc__mul(plan->n_windows, per_window, &n_tokens)
            && mrc__mul(n_tokens, 6 * sizeof(int32_t), &bytes)
            && mrc__mul(plan->n_windows, sizeof *out->list, &list_bytes)
            && mrc__add(bytes, list_bytes, &bytes);
    out->list = fits ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!out->list)
        return mrc__fail(ctx, MRC_ERR_MEM, "tokenizer: no memory for %zu windows of %zu tokens",
                         plan->n_windows, per_window);
    int32_t *room = (int32_t *)(out->list + plan->n_windows);
    out->n = plan->n_windows;
    for (size_t w = 0; w < out->n; w++) {
        const mrc__tok_piece *from[2] = { text[0], text[1] };
        if (plan->cut >= 0) {
            size_t begin = w * plan->step, left = plan->n[plan->cut] - begin;
            from[plan->cut] += begin;
            n[plan->cut] = left < plan->size ? left : plan->size;
        }
        mrc_encoding *e = &out->list[w];
        *e = (mrc_encoding){ .n = n[0] + n[1] + (special ? t->n_special : 0) };
        e->input_ids = room;
        e->token_type_ids = room + e->n;
        e->word_ids = room + 2 * e->n;
        e->sequence_ids = room + 3 * e->n;
        e->offset_mapping = (int32_t (*)[2])(room + 4 * e->n);
        room += 6 * e->n;
        mrc__tok_window(e, t, special, from, n);
    }
    return MRC_OK;
}

MRCDEF mrc_status mrc_tokenizer_encode(mrc_ctx *ctx, const mrc_tokenizer *tok, mrc_encodings *out,
                                       const char *text, size_t text_bytes,
                                       const char *pair, size_t pair_bytes,
                                       const mrc_encode_options *options) {
    static const mrc_encode_options none;
    if (!out) return MRC_ERR_ARG;
    *out = (mrc_encodings){0};
    if (!ctx) return MRC_ERR_ARG;
    out->host = ctx->host;
    if (!tok || (!text && text_bytes)) return mrc__fail(ctx, MRC_ERR_ARG, "tokenizer: no text");
    if (text_bytes > INT32_MAX || (pair && pair_bytes > INT32_MAX))
        return mrc__fail(ctx, MRC_ERR_ARG, "tokenizer: texts of %zu and %zu bytes, at most %d",
                         text_bytes, pair ? pair_bytes : 0, INT32_MAX);
    const mrc_encode_options *o = options ? options : &none;
    const mrc__tok_template *t = pair ? &tok->pair : &tok->single;
    mrc__tok_run r = { .host = &ctx->host, .tok = tok };
    mrc__tok_plan plan = {0};
    int special = !o->no_special_tokens;
    if (text_bytes) mrc__tok_text(&r, text, text_bytes);
    plan.n[0] = r.n;
    if (pair) mrc__tok_text(&r, pair, pair_bytes);
    plan.n[1] = r.n - plan.n[0];
    const mrc__tok_piece *const texts[2] = { r.pieces, r.pieces ? r.pieces + plan.n[0] : NULL };
    mrc_status s = r.failed ? mrc__fail(ctx, MRC_ERR_MEM, "tokenizer: no memory for %zu tokens",
                                        r.n)
                 : mrc__tok_plan_make(ctx, &plan, pair != NULL, special ? t->n_special : 0, o);
    if (s == MRC_OK) s = mrc__tok_windows(ctx, out, texts, &plan, t, special);
    mrc__tok_run_free(&r);
    return s;
}

MRCDEF void mrc_encodings_free(mrc_encodings *e) {
    if (e->list) e->host.free(e->host.user, e->list);
    *e = (mrc_encodings){ .host = e->host };
}
#endif // core pass

//==============================================================================
// >>impl.dataset
//
// Data files are foreign: a row is used only if its answers stand in its context where it says.
// What is wrong with the file as such (not JSON, no "data") is an error; what is wrong with a row
// leaves the row out, with a reason, a count and, for the first ten, a log line that says where.
//
// Two shapes, told apart by content: nested (SQuAD, KorQuAD, KLUE: articles, paragraphs, qas), and
// flat records as `datasets` writes them, one a line (JSONL) or in {"data": [..]}.  Answers are
// [{"text", "answer_start"}, ..] or {"text": [..], "answer_start": [..]} in either.
//
// The tree goes after reading: texts live in blocks of the data set, equal contexts once.
//==============================================================================
#ifdef MRC__PASS_CORE
#define MRC__SKIP_LIST(X)                                           \
    X(OBJECT,         "not an object")                              \
    X(TWICE,          "a key is given twice")                       \
    X(PARAGRAPHS,     "paragraphs is not an array")                 \
    X(QAS,            "qas is not an array")                        \
    X(ID,             "id is missing or not text")                  \
    X(CONTEXT,        "context is missing or not text")             \
    X(CONTEXT_EMPTY,  "context is empty")                           \
    X(QUESTION,       "question is missing or not text")            \
    X(QUESTION_EMPTY, "question is empty")                          \
    X(ANSWERS,        "answers are malformed")                      \
    X(NO_ANSWER,      "no answer and not is_impossible")            \
    X(ANSWER_EMPTY,   "answer text is empty")                       \
    X(START,          "answer_start is no position in the context") \
    X(MISMATCH,       "context has another text at answer_start")
typedef enum mrc__skip {
#define MRC_X(NAME, text) MRC__SKIP_##NAME,
    MRC__SKIP_LIST(MRC_X)
#undef MRC_X
    MRC__SKIP_COUNT, MRC__SKIP_NONE = MRC__SKIP_COUNT
} mrc__skip;
static const char *const mrc__skip_text[MRC__SKIP_COUNT] = {
#define MRC_X(NAME, text) text,
    MRC__SKIP_LIST(MRC_X)
#undef MRC_X
};

typedef struct mrc__ds_block { struct mrc__ds_block *next; } mrc__ds_block;
typedef struct mrc__ds_shared { uint64_t hash; const char *text; size_t bytes; } mrc__ds_shared;
struct mrc_dataset {
    mrc_allocator   host;
    mrc__ds_block  *blocks;         // their bytes hold texts and answers
    char           *room;           // what is left of the newest block
    size_t          room_bytes;
    mrc__ds_shared *shared;         // open addressing, a power of two; text NULL: free
    size_t          n_shared, shared_slots;
    mrc_example    *list;
    size_t          n, capacity, rows;
    size_t          skipped[MRC__SKIP_COUNT];
    const char     *format, *version;
};

typedef struct mrc__ds_loader {
    mrc_ctx     *ctx;
    mrc_dataset *d;
    const char  *path;
    size_t       lines_before;      // JSONL: of the line that was parsed alone
    int          questions;         // see mrc_dataset_load_questions
    size_t       logged;
} mrc__ds_loader;

// Python's str.isspace(), which str.split() and str.strip() go by.
static int mrc__is_space(uint32_t cp) {
    return (cp >= 0x09 && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

// Bytes of white space at the beginning; all of them when there is nothing else.
static size_t mrc__leading_space(const char *s, size_t bytes) {
    size_t at = 0;
    while (at < bytes) {
        uint32_t cp;
        size_t taken = mrc_utf8_decode(s + at, bytes - at, &cp);
        if (!taken || !mrc__is_space(cp)) break;
        at += taken;
    }
    return at;
}

// Bytes that live as long as the data set, aligned for any record; NULL when out of memory.
static void *mrc__ds_take(mrc_dataset *d, size_t bytes) {
    const size_t head = (sizeof(mrc__ds_block) + 15) / 16 * 16, usual = (size_t)1 << 16;
    size_t padded, total;
    if (!mrc__add(bytes, 15, &padded)) return NULL;
    padded -= padded % 16;
    if (padded > d->room_bytes) {
        size_t room = padded > usual ? padded : usual;
        if (!mrc__add(room, head, &total)) return NULL;
        mrc__ds_block *block = d->host.alloc(d->host.user, total);
        if (!block) return NULL;
        block->next = d->blocks;
        d->blocks = block;
        d->room = (char *)block + head;
        d->room_bytes = room;
    }
    void *p = d->room;
    d->room += padded;
    d->room_bytes -= padded;
    return p;
}

static const char *mrc__ds_copy(mrc_dataset *d, const char *s, size_t bytes) {
    size_t total;
    char *p = mrc__add(bytes, 1, &total) ? mrc__ds_take(d, total) : NULL;
    if (!p) return NULL;
    if (bytes) memcpy(p, s, bytes);
    p[bytes] = 0;
    return p;
}

static uint64_t mrc__ds_hash(const char *s, size_t bytes) {
    uint64_t h = 14695981039346656037u;             // FNV-1a
    for (size_t i = 0; i < bytes; i++) h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h;
}

static mrc__ds_shared *mrc__ds_slot(mrc__ds_shared *table, size_t slots, uint64_t hash,
                                    const char *s, size_t bytes) {
    size_t i = (size_t)hash & (slots - 1);
    while (table[i].text && !(table[i].hash == hash && table[i].bytes == bytes &&
                              memcmp(table[i].text, s, bytes) == 0)) {
        i = (i + 1) & (slots - 1);
    }
    return &table[i];
}

// As mrc__ds_copy, but equal texts are one.
static const char *mrc__ds_intern(mrc_dataset *d, const char *s, size_t bytes) {
    if (d->n_shared >= d->shared_slots / 2) {
        size_t slots = d->shared_slots ? d->shared_slots * 2 : 256, size;
        if (!mrc__mul(slots, sizeof(mrc__ds_shared), &size)) return NULL;
        mrc__ds_shared *table = mrc__host_zalloc(&d->host, size);
        if (!table) return NULL;
        for (size_t i = 0; i < d->shared_slots; i++) {
            mrc__ds_shared *old = &d->shared[i];
            if (old->text) *mrc__ds_slot(table, slots, old->hash, old->text, old->bytes) = *old;
        }
        if (d->shared) d->host.free(d->host.user, d->shared);
        d->shared = table;
        d->shared_slots = slots;
    }
    uint64_t hash = mrc__ds_hash(s, bytes);
    mrc__ds_shared *slot = mrc__ds_slot(d->shared, d->shared_slots, hash, s, bytes);
    if (!slot->text) {
        const char *text = mrc__ds_copy(d, s, bytes);
        if (!text) return NULL;
        *slot = (mrc__ds_shared){ .hash = hash, .text = text, .bytes = bytes };
        d->n_shared++;
    }
    return slot->text;
}

static mrc_status mrc__ds_no_memory(const mrc__ds_loader *l) {
    return mrc__fail(l->ctx, MRC_ERR_MEM, "%s: out of memory after %zu rows", l->path, l->d->rows);
}

__attribute__((format(printf, 2, 3)))
static void mrc__ds_log(const mrc__ds_loader *l, const char *fmt, ...) {
    char text[sizeof l->ctx->message];
    va_list ap;
    if (!l->ctx->log) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    l->ctx->log(l->ctx->log_user, MRC_OK, text);
}

static void mrc__ds_skip(mrc__ds_loader *l, const mrc_json *at, mrc__skip why) {
    l->d->skipped[why]++;
    if (l->logged == 10) return;
    l->logged++;
    mrc__ds_log(l, "%s:%zu:%zu: row left out: %s%s", l->path, l->lines_before + at->line,
                at->column, mrc__skip_text[why],
                l->logged == 10 ? " (others are counted only)" : "");
}

// As mrc_json_get, but sets *twice if there is a second: Python's reader would take the last.
static const mrc_json *mrc__ds_get(const mrc_json *object, const char *key, int *twice) {
    const mrc_json *first = mrc_json_get(object, key);
    size_t bytes = strlen(key);
    for (const mrc_json *m = first ? first->next : NULL; m; m = m->next) {
        if (m->key_bytes == bytes && memcmp(m->key, key, bytes) == 0) *twice = 1;
    }
    return first;
}

typedef struct mrc__ds_passage {
    const char *title, *context;
    size_t      bytes;
    mrc__skip   why;                // what is wrong with the context
} mrc__ds_passage;

// From a paragraph or a flat row; title NULL or no text: "".
static mrc_status mrc__ds_passage_read(mrc__ds_loader *l, mrc__ds_passage *p,
                                       const mrc_json *holder, const mrc_json *title) {
    int twice = 0, has_title = title && title->type == MRC_JSON_STRING;
    const mrc_json *context = mrc__ds_get(holder, "context", &twice);
    int has_context = context && context->type == MRC_JSON_STRING;
    p->why = twice ? MRC__SKIP_TWICE : !has_context ? MRC__SKIP_CONTEXT : MRC__SKIP_NONE;
    p->bytes = has_context ? context->bytes : 0;
    p->context = mrc__ds_intern(l->d, has_context ? context->string : "", p->bytes);
    p->title = mrc__ds_intern(l->d, has_title ? title->string : "", has_title ? title->bytes : 0);
    if (!p->context || !p->title) return mrc__ds_no_memory(l);
    if (p->why == MRC__SKIP_NONE && mrc__leading_space(p->context, p->bytes) == p->bytes) {
        p->why = MRC__SKIP_CONTEXT_EMPTY;
    }
    return MRC_OK;
}

// Holds one answer against the context.
static mrc__skip mrc__ds_answer_check(const mrc_example *e, const mrc_json *text,
                                      const mrc_json *start) {
    if (!text || text->type != MRC_JSON_STRING) return MRC__SKIP_ANSWERS;
    if (!start || start->type != MRC_JSON_NUMBER || !start->is_int || start->integer < 0 ||
        (uint64_t)start->integer >= e->context_bytes) {
        return MRC__SKIP_START;
    }
    if (!text->bytes) return MRC__SKIP_ANSWER_EMPTY;
    size_t at = mrc_utf8_offset(e->context, e->context_bytes, (size_t)start->integer);
    if (at >= e->context_bytes) return MRC__SKIP_START;
    if (text->bytes > e->context_bytes - at ||
        memcmp(e->context + at, text->string, text->bytes) != 0) {
        return MRC__SKIP_MISMATCH;
    }
    return MRC__SKIP_NONE;
}

// Both shapes.  The first answer that does not hold takes the row with it; among questions it only
// loses its position, as scoring needs none.
static mrc_status mrc__ds_answers_read(mrc__ds_loader *l, const mrc_json *answers, mrc_example *e,
                                       mrc__skip *why) {
    int columns = answers->type == MRC_JSON_OBJECT, twice = 0;
    const mrc_json *texts = columns ? mrc__ds_get(answers, "text", &twice) : answers;
    const mrc_json *starts = columns ? mrc__ds_get(answers, "answer_start", &twice) : NULL;
    size_t bytes;
    if (!texts || texts->type != MRC_JSON_ARRAY || twice ||
        (columns && !l->questions &&
         (!starts || starts->type != MRC_JSON_ARRAY || starts->n != texts->n))) {
        *why = twice ? MRC__SKIP_TWICE : MRC__SKIP_ANSWERS;
        return MRC_OK;
    }
    if (!texts->n) return MRC_OK;
    if (!mrc__mul(texts->n, sizeof *e->answers, &bytes) ||
        !(e->answers = mrc__ds_take(l->d, bytes))) {
        return mrc__ds_no_memory(l);
    }
    const mrc_json *column = starts && starts->type == MRC_JSON_ARRAY ? starts->child : NULL;
    for (const mrc_json *a = texts->child; a; a = a->next) {
        const mrc_json *text = columns ? a : mrc__ds_get(a, "text", &twice);
        const mrc_json *start = columns ? column : mrc__ds_get(a, "answer_start", &twice);
        mrc__skip wrong = twice ? MRC__SKIP_TWICE : mrc__ds_answer_check(e, text, start);
        if (column) column = column->next;
        if (wrong != MRC__SKIP_NONE && !l->questions) {
            *why = wrong;
            return MRC_OK;
        }
        if (!text || text->type != MRC_JSON_STRING) continue;
        mrc_answer *to = &e->answers[e->n_answers++];
        to->bytes = text->bytes;
        to->answer_start = wrong == MRC__SKIP_NONE ? start->integer : -1;
        if (!(to->text = mrc__ds_copy(l->d, text->string, text->bytes))) {
            return mrc__ds_no_memory(l);
        }
    }
    return MRC_OK;
}

// Text, or a whole number as its digits; NULL for anything else.
static const char *mrc__ds_id(mrc__ds_loader *l, const mrc_json *id, mrc_status *status) {
    char digits[24];
    const char *copy;
    if (!id) return NULL;
    if (id->type == MRC_JSON_NUMBER && id->is_int) {
        int n = snprintf(digits, sizeof digits, "%lld", (long long)id->integer);
        copy = mrc__ds_copy(l->d, digits, (size_t)n);
    } else if (id->type == MRC_JSON_STRING && id->bytes && !memchr(id->string, 0, id->bytes)) {
        copy = mrc__ds_copy(l->d, id->string, id->bytes);
    } else {
        return NULL;
    }
    if (!copy) *status = mrc__ds_no_memory(l);
    return copy;
}

// Fills in e, or says in *why what is wrong with the row.
static mrc_status mrc__ds_example_read(mrc__ds_loader *l, const mrc_json *row,
                                       const mrc__ds_passage *p, mrc_example *e, mrc__skip *why) {
    mrc_status status = MRC_OK;
    int twice = 0;
    if (row->type != MRC_JSON_OBJECT) {
        *why = MRC__SKIP_OBJECT;
        return MRC_OK;
    }
    const mrc_json *id = mrc__ds_get(row, "id", &twice);
    const mrc_json *question = mrc__ds_get(row, "question", &twice);
    const mrc_json *answers = mrc__ds_get(row, "answers", &twice);
    const mrc_json *impossible = mrc__ds_get(row, "is_impossible", &twice);
    int has_question = question && question->type == MRC_JSON_STRING;
    if (!id) id = mrc__ds_get(row, "guid", &twice);             // KLUE
    if (impossible && !strcmp(l->d->format, "squad_v1")) l->d->format = "squad_v2";
    e->title = p->title;
    e->context = p->context;
    e->context_bytes = p->bytes;
    e->question_bytes = has_question ? question->bytes : 0;
    e->question = mrc__ds_copy(l->d, has_question ? question->string : "", e->question_bytes);
    if (!e->question) return mrc__ds_no_memory(l);
    e->id = mrc__ds_id(l, id, &status);
    if (status != MRC_OK) return status;
    if (twice) *why = MRC__SKIP_TWICE;
    else if (!e->id) *why = MRC__SKIP_ID;
    else if (l->questions) *why = MRC__SKIP_NONE;
    else if (p->why != MRC__SKIP_NONE) *why = p->why;
    else if (!has_question) *why = MRC__SKIP_QUESTION;
    else if (mrc__leading_space(e->question, e->question_bytes) == e->question_bytes)
        *why = MRC__SKIP_QUESTION_EMPTY;
    if (*why != MRC__SKIP_NONE) return MRC_OK;
    if (answers && answers->type != MRC_JSON_NULL) {
        MRC__TRY(mrc__ds_answers_read(l, answers, e, why));
    }
    if (l->questions) *why = MRC__SKIP_NONE;
    else if (*why == MRC__SKIP_NONE && !e->n_answers &&
             !(impossible && impossible->type == MRC_JSON_TRUE)) *why = MRC__SKIP_NO_ANSWER;
    return MRC_OK;
}

static mrc_status mrc__ds_row(mrc__ds_loader *l, const mrc_json *row, const mrc__ds_passage *p) {
    mrc_dataset *d = l->d;
    mrc_example e = {0};
    mrc__skip why = MRC__SKIP_NONE;
    MRC__TRY(mrc__ds_example_read(l, row, p, &e, &why));
    d->rows++;
    if (why != MRC__SKIP_NONE) {
        mrc__ds_skip(l, row, why);
        return MRC_OK;
    }
    if (d->n == d->capacity) {
        size_t capacity = d->capacity ? d->capacity * 2 : 256, bytes;
        mrc_example *list = mrc__mul(capacity, sizeof *list, &bytes)
                                ? d->host.alloc(d->host.user, bytes) : NULL;
        if (!list) return mrc__ds_no_memory(l);
        if (d->n) memcpy(list, d->list, d->n * sizeof *list);
        if (d->list) d->host.free(d->host.user, d->list);
        d->list = list;
        d->capacity = capacity;
    }
    d->list[d->n++] = e;
    return MRC_OK;
}

static mrc_status mrc__ds_flat(mrc__ds_loader *l, const mrc_json *row) {
    mrc__ds_passage p;
    MRC__TRY(mrc__ds_passage_read(l, &p, row, mrc_json_get(row, "title")));
    return mrc__ds_row(l, row, &p);
}

static mrc_status mrc__ds_article(mrc__ds_loader *l, const mrc_json *article) {
    int twice = 0;
    const mrc_json *paragraphs = mrc__ds_get(article, "paragraphs", &twice);
    if (twice || !paragraphs || paragraphs->type != MRC_JSON_ARRAY) {
        l->d->rows++;
        mrc__ds_skip(l, article, twice ? MRC__SKIP_TWICE : MRC__SKIP_PARAGRAPHS);
        return MRC_OK;
    }
    for (const mrc_json *paragraph = paragraphs->child; paragraph; paragraph = paragraph->next) {
        const mrc_json *qas = mrc__ds_get(paragraph, "qas", &twice);
        mrc__ds_passage p;
        if (twice || !qas || qas->type != MRC_JSON_ARRAY) {
            l->d->rows++;
            mrc__ds_skip(l, paragraph, twice ? MRC__SKIP_TWICE : MRC__SKIP_QAS);
            twice = 0;
            continue;
        }
        MRC__TRY(mrc__ds_passage_read(l, &p, paragraph, mrc_json_get(article, "title")));
        for (const mrc_json *row = qas->child; row; row = row->next) {
            MRC__TRY(mrc__ds_row(l, row, &p));
        }
    }
    return MRC_OK;
}

// One tree: an object with "data", or a single flat record.
static mrc_status mrc__ds_tree(mrc__ds_loader *l, const mrc_json *root) {
    int twice = 0;
    const mrc_json *data = mrc__ds_get(root, "data", &twice);
    const mrc_json *version = mrc__ds_get(root, "version", &twice);
    if (!data && mrc_json_get(root, "context") && mrc_json_get(root, "question")) {
        l->d->format = "jsonl";
        return mrc__ds_flat(l, root);
    }
    if (twice || !data || data->type != MRC_JSON_ARRAY) {
        const mrc_json *at = data ? data : root;
        return mrc__fail(l->ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: %s (expected an object with one "
                         "\"data\" array, or one record a line)", l->path, at->line, at->column,
                         twice ? "\"data\" or \"version\" is given twice"
                         : data ? "\"data\" is no array"
                         : root->type == MRC_JSON_OBJECT ? "found no \"data\"" : "found no object");
    }
    int nested = !data->child || mrc_json_get(data->child, "paragraphs");
    l->d->format = nested ? "squad_v1" : "json";
    if (version && version->type == MRC_JSON_STRING &&
        !(l->d->version = mrc__ds_copy(l->d, version->string, version->bytes))) {
        return mrc__ds_no_memory(l);
    }
    for (const mrc_json *a = data->child; a; a = a->next) {
        int flat = !nested && !mrc_json_get(a, "paragraphs");
        MRC__TRY(flat ? mrc__ds_flat(l, a) : mrc__ds_article(l, a));
    }
    return MRC_OK;
}

// Parses without telling the context: what is wrong, ":line:column: ...", goes to `what`.
static mrc_status mrc__ds_parse_quietly(mrc_ctx *ctx, mrc_json **out, const char *text,
                                        size_t bytes, char what[sizeof ctx->message]) {
    char message[sizeof ctx->message];
    mrc_status status = ctx->status;
    void (*log)(void *, mrc_status, const char *) = ctx->log;
    memcpy(message, ctx->message, sizeof message);
    mrc_ctx_clear_error(ctx);
    ctx->log = NULL;
    mrc_status parsed = mrc_json_parse(ctx, out, "", text, bytes, 0);
    memcpy(what, ctx->message, sizeof message);
    ctx->log = log;
    ctx->status = status;
    memcpy(ctx->message, message, sizeof message);
    return parsed;
}

// The next line from *at that is not blank: its length, 0 at the end.  Counts lines passed.
static size_t mrc__ds_line(const char *text, size_t bytes, size_t *at, size_t *lines) {
    while (*at < bytes) {
        const char *begin = text + *at, *end = memchr(begin, '\n', bytes - *at);
        size_t length = end ? (size_t)(end - begin) : bytes - *at, blank = 0;
        while (blank < length && strchr(" \t\r", begin[blank]) && begin[blank]) blank++;
        if (blank < length) return length;
        *at += length + (end ? 1 : 0);
        ++*lines;
    }
    return 0;
}

// Several lines, and the first alone is an object that is not a whole nested file.
static int mrc__ds_is_jsonl(mrc_ctx *ctx, const char *text, size_t bytes) {
    char what[sizeof ctx->message];
    size_t at = 0, lines = 0, next;
    size_t length = mrc__ds_line(text, bytes, &at, &lines);
    mrc_json *first;
    next = at + length;
    if (!length || !mrc__ds_line(text, bytes, &next, &lines)) return 0;
    if (mrc__ds_parse_quietly(ctx, &first, text + at, length, what) != MRC_OK) return 0;
    int yes = first->type == MRC_JSON_OBJECT && !mrc_json_get(first, "data");
    mrc_json_free(first);
    return yes;
}

static mrc_status mrc__ds_jsonl(mrc__ds_loader *l, const char *text, size_t bytes) {
    char what[sizeof l->ctx->message];
    size_t at = 0, length;
    l->d->format = "jsonl";
    while ((length = mrc__ds_line(text, bytes, &at, &l->lines_before)) > 0) {
        mrc_json *row;
        mrc_status status = mrc__ds_parse_quietly(l->ctx, &row, text + at, length, what);
        if (status != MRC_OK) {
            int placed = strncmp(what, ":1:", 3) == 0;
            return mrc__fail(l->ctx, status, "%s:%zu%s%s", l->path, l->lines_before + 1,
                             placed ? "" : ": ", placed ? what + 2 : what);
        }
        status = mrc__ds_flat(l, row);
        mrc_json_free(row);
        MRC__TRY(status);
        at += length + (at + length < bytes ? 1 : 0);
        l->lines_before++;
    }
    return MRC_OK;
}

static mrc_status mrc__ds_read(mrc__ds_loader *l, const char *text, size_t bytes) {
    static const char lfs[] = "version https://git-lfs";
    mrc_json *root;
    const char *packed = NULL;
    if (bytes >= 2 && memcmp(text, "\x1f\x8b", 2) == 0) packed = "gzip data: unpack it first";
    if (bytes >= 4 && memcmp(text, "PK\x03\x04", 4) == 0) packed = "a zip archive: unpack it first";
    if (bytes >= sizeof lfs && memcmp(text, lfs, sizeof lfs - 1) == 0) {
        packed = "a Git LFS pointer: fetch the file itself (git lfs pull)";
    }
    if (packed) {
        return mrc__fail(l->ctx, MRC_ERR_FORMAT, "%s:1:1: found %s (expected JSON)", l->path,
                         packed);
    }
    size_t bom = bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    if (mrc__ds_is_jsonl(l->ctx, text + bom, bytes - bom)) {
        return mrc__ds_jsonl(l, text + bom, bytes - bom);
    }
    MRC__TRY(mrc_json_parse(l->ctx, &root, l->path, text, bytes, 0));
    mrc_status status = mrc__ds_tree(l, root);
    mrc_json_free(root);
    return status;
}

static int mrc__ds_by_id(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// Answers are looked up by id: two rows of one id get one answer, which is worth a warning.
static mrc_status mrc__ds_warn_twins(mrc__ds_loader *l) {
    mrc_dataset *d = l->d;
    size_t twins = 0, bytes;
    const char *which = NULL;
    if (!mrc__mul(d->n + 1, sizeof(char *), &bytes)) return mrc__ds_no_memory(l);
    const char **ids = d->host.alloc(d->host.user, bytes);
    if (!ids) return mrc__ds_no_memory(l);
    for (size_t i = 0; i < d->n; i++) ids[i] = d->list[i].id;
    qsort(ids, d->n, sizeof *ids, mrc__ds_by_id);
    for (size_t i = 1; i < d->n; i++) {
        if (strcmp(ids[i - 1], ids[i]) != 0) continue;
        if (!twins++) which = ids[i];
    }
    d->host.free(d->host.user, ids);
    if (twins) {
        mrc__ds_log(l, "%s: %zu rows have an id that another has (as \"%.60s\"); all are kept",
                    l->path, twins, which);
    }
    return MRC_OK;
}

static mrc_status mrc__ds_load(mrc_ctx *ctx, mrc_dataset **out, const char *path, int questions) {
    char *text;
    size_t bytes;
    *out = NULL;
    MRC__TRY(mrc_file_read(ctx, &text, &bytes, path));
    mrc_dataset *d = mrc__host_zalloc(&ctx->host, sizeof *d);
    if (!d) {
        mrc_file_free(ctx, text);
        return mrc__fail(ctx, MRC_ERR_MEM, "%s: out of memory", path);
    }
    d->host = ctx->host;
    d->format = d->version = "";
    mrc__ds_loader l = { .ctx = ctx, .d = d, .path = path, .questions = questions };
    mrc_status status = mrc__ds_read(&l, text, bytes);
    mrc_file_free(ctx, text);
    if (status == MRC_OK) status = mrc__ds_warn_twins(&l);
    if (status != MRC_OK) {
        mrc_dataset_free(d);
        return status;
    }
    *out = d;
    return MRC_OK;
}

MRCDEF mrc_status mrc_dataset_load(mrc_ctx *ctx, mrc_dataset **out, const char *path) {
    return mrc__ds_load(ctx, out, path, 0);
}
MRCDEF mrc_status mrc_dataset_load_questions(mrc_ctx *ctx, mrc_dataset **out, const char *path) {
    return mrc__ds_load(ctx, out, path, 1);
}

MRCDEF void mrc_dataset_free(mrc_dataset *d) {
    if (!d) return;
    mrc_allocator host = d->host;
    while (d->blocks) {
        mrc__ds_block *next = d->blocks->next;
        host.free(host.user, d->blocks);
        d->blocks = next;
    }
    if (d->shared) host.free(host.user, d->shared);
    if (d->list) host.free(host.user, d->list);
    host.free(host.user, d);
}

MRCDEF size_t mrc_dataset_size(const mrc_dataset *d) { return d->n; }
MRCDEF size_t mrc_dataset_rows(const mrc_dataset *d) { return d->rows; }
MRCDEF const mrc_example *mrc_dataset_at(const mrc_dataset *d, size_t index) {
    return index < d->n ? &d->list[index] : NULL;
}
MRCDEF const char *mrc_dataset_format(const mrc_dataset *d)  { return d->format; }
MRCDEF const char *mrc_dataset_version(const mrc_dataset *d) { return d->version; }

MRCDEF const char *mrc_dataset_skipped(const mrc_dataset *d, size_t index, size_t *count) {
    for (size_t why = 0; why < MRC__SKIP_COUNT; why++) {
        if (!d->skipped[why] || index-- > 0) continue;
        *count = d->skipped[why];
        return mrc__skip_text[why];
    }
    return NULL;
}
#endif // core pass

//==============================================================================
// >>impl.encode
//
// offsets: HF run_qa's prepare_train_features (PARITY 3.4): windows over the context, labels from
//     the answer's characters; the one deviation is that an answer which begins in the window's
//     last token of the passage is labelled there, where HF walks on to the [SEP] or last pad.
// sentinel: the reference run's drop_truncated_data (3.14): the answer is replaced by as many mask
//     tokens as it has of its own, the pair truncated, and the masks replaced by the answer's ids.
//     An answer that is cut off shows in the number of masks: that row goes.
//
// The loss looks at all rows, as softmax in HF and in the reference run does: without padding that
// is 0 .. real_len, with it the pads too.
//==============================================================================
#ifdef MRC__PASS_CORE
typedef struct mrc__enc {
    mrc_ctx                   *ctx;
    mrc_features              *f;
    const mrc_tokenizer       *tok;
    const mrc_features_config *config;
    mrc_special_ids            ids;
    size_t                     max_length, capacity;
} mrc__enc;

MRCDEF mrc_features_config mrc_features_config_default(void) {
    return (mrc_features_config){ .magic = MRC_FEATURES_MAGIC, .kind = MRC_ENCODING_OFFSETS,
                                  .max_seq_length = 512, .doc_stride = 128, .with_targets = 1 };
}

static mrc_status mrc__enc_no_memory(const mrc__enc *e) {
    return mrc__fail(e->ctx, MRC_ERR_MEM, "encode: out of memory after %zu examples, %zu features",
                     e->f->rows, e->f->n);
}

static void mrc__enc_drop(mrc__enc *e, const char *reason) {
    size_t i = 0;
    while (e->f->dropped[i].reason && strcmp(e->f->dropped[i].reason, reason) != 0) i++;
    e->f->dropped[i].reason = reason;       // there are fewer reasons than places
    e->f->dropped[i].count++;
}

// Appends a window of n rows and its pads: ids and types are the encoding's, offsets (-1, -1).
static mrc_feature *mrc__enc_push(mrc__enc *e, size_t example, const mrc_encoding *w) {
    mrc_features *f = e->f;
    size_t rows = e->config->pad_to_max_length ? e->max_length : w->n, bytes;
    if (f->n == e->capacity) {
        size_t capacity = e->capacity ? e->capacity * 2 : 256;
        mrc_feature *list = mrc__mul(capacity, sizeof *list, &bytes)
                                ? f->host.alloc(f->host.user, bytes) : NULL;
        if (!list) return NULL;
        if (f->n) memcpy(list, f->list, f->n * sizeof *list);
        if (f->list) f->host.free(f->host.user, f->list);
        f->list = list;
        e->capacity = capacity;
    }
    if (!mrc__mul(rows, 4 * sizeof(int32_t), &bytes)) return NULL;
    int32_t *block = f->host.alloc(f->host.user, bytes);
    if (!block) return NULL;
    mrc_feature *x = &f->list[f->n++];
    *x = (mrc_feature){ .example_index = (int32_t)example,
                        .length = (int32_t)rows, .real_len = (int32_t)w->n,
                        .offset_mapping = (int32_t (*)[2])block, .input_ids = block + 2 * rows,
                        .token_type_ids = block + 3 * rows, .loss_end = (int32_t)rows,
                        .start_position = -1, .end_position = -1 };
    for (size_t i = 0; i < rows; i++) {
        x->input_ids[i] = i < w->n ? w->input_ids[i] : e->ids.pad;
        x->token_type_ids[i] = i < w->n ? w->token_type_ids[i] : 0;
        x->offset_mapping[i][0] = x->offset_mapping[i][1] = -1;
    }
    return x;
}

// Rows first .. last - 1 of a window are the passage's.
static void mrc__enc_passage(const mrc_encoding *w, size_t *first, size_t *last) {
    *first = 0;
    while (*first < w->n && w->sequence_ids[*first] != 1) ++*first;
    *last = *first;
    while (*last < w->n && w->sequence_ids[*last] == 1) ++*last;
}

// Start and end of characters s .. t - 1 in rows first .. last - 1, or the cls row for both.
static void mrc__enc_label(mrc__enc *e, mrc_feature *x, size_t first, size_t last, int64_t s,
                           int64_t t) {
    int32_t cls = 0;
    while (cls < x->real_len && x->input_ids[cls] != e->ids.cls) cls++;
    if (cls == x->real_len) cls = 0;
    x->start_position = x->end_position = cls;
    if (s < 0 || first == last || x->offset_mapping[first][0] > s ||
        x->offset_mapping[last - 1][1] < t) {
        return;
    }
    size_t start = first, end = last - 1;
    while (start + 1 < last && x->offset_mapping[start + 1][0] <= s) start++;
    while (end > first && x->offset_mapping[end - 1][1] >= t) end--;
    x->start_position = (int32_t)start;
    x->end_position = (int32_t)end;
}

static mrc_status mrc__enc_windows(mrc__enc *e, size_t index, const mrc_example *x,
                                   const mrc_encodings *windows) {
    const mrc_answer *a = x->n_answers ? &x->answers[0] : NULL;
    int64_t s = a ? a->answer_start : -1;
    int64_t t = a && s >= 0 ? s + (int64_t)mrc_utf8_length(a->text, a->bytes) : -1;
    for (size_t i = 0; i < windows->n; i++) {
        const mrc_encoding *w = &windows->list[i];
        size_t first, last;
        mrc_feature *feature = mrc__enc_push(e, index, w);
        if (!feature) return mrc__enc_no_memory(e);
        feature->window_index = (int32_t)i;
        mrc__enc_passage(w, &first, &last);
        for (size_t row = first; row < last; row++) {
            memcpy(feature->offset_mapping[row], w->offset_mapping[row], 2 * sizeof(int32_t));
        }
        if (e->config->with_targets) mrc__enc_label(e, feature, first, last, s, t);
    }
    return MRC_OK;
}

static mrc_status mrc__enc_offsets(mrc__enc *e, size_t index, const mrc_example *x) {
    size_t space = mrc__leading_space(x->question, x->question_bytes);   // question.lstrip()
    const char *question = x->question + space;
    size_t bytes = x->question_bytes - space;
    mrc_encode_options alone = { .no_special_tokens = 1 };
    mrc_encode_options pair = { .truncation = MRC_TRUNCATION_ONLY_SECOND,
                                .max_length = e->max_length, .stride = e->config->doc_stride };
    mrc_encodings q = {0}, windows = {0};
    MRC__TRY(mrc_tokenizer_encode(e->ctx, e->tok, &q, question, bytes, NULL, 0, &alone));
    size_t taken = q.n ? q.list[0].n + 3 : 3;
    mrc_encodings_free(&q);
    // No room for a window that moves on: such a row is kept only if nothing has to be cut.
    int tight = taken >= e->max_length || e->max_length - taken <= e->config->doc_stride;
    if (tight) pair = (mrc_encode_options){0};
    MRC__TRY(mrc_tokenizer_encode(e->ctx, e->tok, &windows, question, bytes, x->context,
                                  x->context_bytes, &pair));
    mrc_status status = MRC_OK;
    if (tight && windows.n && windows.list[0].n > e->max_length) {
        mrc__enc_drop(e, "question is too long");
    } else {
        status = mrc__enc_windows(e, index, x, &windows);
        e->f->kept++;
    }
    mrc_encodings_free(&windows);
    return status;
}

// The context with n masks in the answer's place; `at` is the answer's first byte.
static void mrc__enc_mask(mrc_text *to, const mrc_example *x, size_t at, const char *mask,
                          size_t n) {
    size_t after = at + x->answers[0].bytes, mask_bytes = strlen(mask);
    mrc_text_add(to, x->context, at);
    for (size_t i = 0; i < n; i++) {
        if (i) mrc_text_add(to, " ", 1);
        mrc_text_add(to, mask, mask_bytes);
    }
    mrc_text_add(to, x->context + after, x->context_bytes - after);
}

// Puts the answer's ids where the masks are, and offsets of the context as it was.
static mrc_status mrc__enc_unmask(mrc__enc *e, size_t index, const mrc_example *x,
                                  const mrc_encoding *w, const mrc_encoding *answer,
                                  size_t mask_length) {
    size_t n = 0, begin = 0, end = 0, first, last;
    for (size_t i = 0; i < w->n; i++) {
        if (w->input_ids[i] != e->ids.mask) continue;
        if (!n++) begin = i;
        end = i + 1;
    }
    if (n != answer->n || end - begin != n) {
        mrc__enc_drop(e, n < answer->n ? "answer truncated" : "mask token in the text");
        return MRC_OK;
    }
    mrc_feature *feature = mrc__enc_push(e, index, w);
    if (!feature) return mrc__enc_no_memory(e);
    const mrc_answer *a = &x->answers[0];
    int32_t start = (int32_t)a->answer_start;
    int32_t grown = (int32_t)mask_length - (int32_t)mrc_utf8_length(a->text, a->bytes);
    mrc__enc_passage(w, &first, &last);
    for (size_t i = first; i < last; i++) {
        int in = i >= begin && i < end;
        const int32_t *from = in ? answer->offset_mapping[i - begin] : w->offset_mapping[i];
        int32_t shift = in ? start : i < begin ? 0 : -grown;
        if (in) feature->input_ids[i] = answer->input_ids[i - begin];
        feature->offset_mapping[i][0] = from[0] + shift;
        feature->offset_mapping[i][1] = from[1] + shift;
    }
    if (e->config->with_targets) {
        feature->start_position = (int32_t)begin;
        feature->end_position = (int32_t)end - 1;
    }
    e->f->kept++;
    return MRC_OK;
}

static mrc_status mrc__enc_sentinel(mrc__enc *e, size_t index, const mrc_example *x) {
    mrc_encode_options alone = { .no_special_tokens = 1 };
    mrc_encode_options cut = { .truncation = MRC_TRUNCATION_LONGEST_FIRST,
                               .max_length = e->max_length };
    const mrc_answer *a = x->n_answers ? &x->answers[0] : NULL;
    const char *mask = mrc_tokenizer_token(e->tok, e->ids.mask);
    mrc_encodings answer = {0}, pair = {0};
    if (!a || a->answer_start < 0) {
        mrc__enc_drop(e, "no answer");
        return MRC_OK;
    }
    MRC__TRY(mrc_tokenizer_encode(e->ctx, e->tok, &answer, a->text, a->bytes, NULL, 0, &alone));
    size_t n = answer.n ? answer.list[0].n : 0;
    if (!n) {
        mrc__enc_drop(e, "answer has no token");
        mrc_encodings_free(&answer);
        return MRC_OK;
    }
    mrc_text masked;
    mrc_text_init(&masked, e->ctx);
    mrc__enc_mask(&masked, x, mrc_utf8_offset(x->context, x->context_bytes,
                                              (size_t)a->answer_start), mask, n);
    mrc_status status = masked.failed ? mrc__enc_no_memory(e)
        : mrc_tokenizer_encode(e->ctx, e->tok, &pair, x->question, x->question_bytes,
                               masked.data, masked.bytes, &cut);
    if (status == MRC_OK && pair.n) {
        size_t length = n * (mrc_utf8_length(mask, strlen(mask)) + 1) - 1;
        status = mrc__enc_unmask(e, index, x, &pair.list[0], &answer.list[0], length);
    }
    mrc_text_free(&masked);
    mrc_encodings_free(&pair);
    mrc_encodings_free(&answer);
    return status;
}

static mrc_status mrc__enc_check(const mrc__enc *e) {
    const mrc_features_config *c = e->config;
    if (c->magic != MRC_FEATURES_MAGIC) {
        return mrc__fail(e->ctx, MRC_ERR_ARG, "encode: the config is not from "
                         "mrc_features_config_default()");
    }
    if (e->ids.cls < 0 || e->ids.sep < 0) {
        return mrc__fail(e->ctx, MRC_ERR_ARG, "encode: the tokenizer has no %s token",
                         e->ids.cls < 0 ? "cls" : "sep");
    }
    if (c->pad_to_max_length && e->ids.pad < 0) {
        return mrc__fail(e->ctx, MRC_ERR_ARG, "encode: the tokenizer has no pad token");
    }
    if (c->kind == MRC_ENCODING_SENTINEL && e->ids.mask < 0) {
        return mrc__fail(e->ctx, MRC_ERR_ARG, "encode: sentinels need a mask token, and the "
                         "tokenizer has none");
    }
    if (e->max_length < 4 || e->max_length > INT32_MAX) {
        return mrc__fail(e->ctx, MRC_ERR_ARG, "encode: max_seq_length is %zu, expected at least 4",
                         e->max_length);
    }
    if (c->kind == MRC_ENCODING_OFFSETS && c->doc_stride >= e->max_length - 3) {
        return mrc__fail(e->ctx, MRC_ERR_ARG, "encode: doc_stride %zu is no overlap of windows of "
                         "%zu tokens (expected less than %zu)", c->doc_stride, e->max_length,
                         e->max_length - 3);
    }
    return MRC_OK;
}

MRCDEF mrc_status mrc_features_new(mrc_ctx *ctx, mrc_features *out, const mrc_dataset *d,
                                   const mrc_tokenizer *tok, const mrc_features_config *config) {
    memset(out, 0, sizeof *out);
    out->host = ctx->host;
    mrc__enc e = { .ctx = ctx, .f = out, .tok = tok, .config = config,
                   .ids = mrc_tokenizer_special(tok), .max_length = config->max_seq_length };
    size_t longest = mrc_tokenizer_max_length(tok);         // of the model's positions
    if (longest && e.max_length > longest) e.max_length = longest;
    MRC__TRY(mrc__enc_check(&e));
    for (size_t i = 0; i < mrc_dataset_size(d); i++) {
        const mrc_example *x = mrc_dataset_at(d, i);
        out->rows++;
        mrc_status status = config->kind == MRC_ENCODING_SENTINEL ? mrc__enc_sentinel(&e, i, x)
                                                                  : mrc__enc_offsets(&e, i, x);
        if (status != MRC_OK) {
            mrc_features_free(out);
            return status;
        }
    }
    return MRC_OK;
}

MRCDEF void mrc_features_free(mrc_features *f) {
    for (size_t i = 0; i < f->n; i++) f->host.free(f->host.user, f->list[i].offset_mapping);
    if (f->list) f->host.free(f->host.user, f->list);
    memset(f, 0, sizeof *f);
}
#endif // core pass

//==============================================================================
// >>impl.batch
//
// The order of an epoch is made at once, from integers only.  Word pair of draw i in shuffle s:
// words 0, 1 of philox(counter {i, epoch, s, "shuf"}, key {seed low, seed high}), modulo the number
// of choices (its bias, a 2^-64th of that number, is nothing).
//==============================================================================
#ifdef MRC__PASS_CORE
typedef struct mrc__plan_item { int32_t length; uint32_t at, feature; } mrc__plan_item;

static size_t mrc__plan_draw(uint64_t seed, uint32_t epoch, uint32_t shuffle, size_t i,
                             size_t choices) {
    const uint32_t domain = 0x73687566;         // "shuf"
    const uint32_t counter[4] = { (uint32_t)i, epoch, shuffle, domain };
    const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) };
    uint32_t words[4];
    mrc_philox4x32(counter, key, words);
    return (size_t)(((uint64_t)words[1] << 32 | words[0]) % choices);
}

// Fisher and Yates, Durstenfeld's form.
static void mrc__plan_shuffle(uint32_t *list, size_t n, uint64_t seed, uint32_t epoch,
                              uint32_t shuffle) {
    for (size_t i = n; i > 1; i--) {
        size_t j = mrc__plan_draw(seed, epoch, shuffle, i - 1, i);
        uint32_t other = list[j];
        list[j] = list[i - 1];
        list[i - 1] = other;
    }
}

// Longest first, and stable.
static int mrc__plan_longer(const void *a, const void *b) {
    const mrc__plan_item *x = a, *y = b;
    if (x->length != y->length) return x->length > y->length ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

// Sorts chunks of the shuffled list by length and shuffles the batches.  A chunk is 50 batches, or
// fewer so that there are at least four chunks: else every epoch had the same batches (as in HF's
// group_by_length).
static mrc_status mrc__plan_sorted(mrc_ctx *ctx, mrc_batch_plan *p, const mrc_features *f,
                                   size_t batch_size, uint64_t seed, uint32_t epoch) {
    size_t n = f->n, bytes, done = 0;
    size_t n_batches = n / batch_size + (n % batch_size != 0), batches = n_batches / 4;
    batches = batches > 50 ? 50 : batches ? batches : 1;
    size_t chunk = batch_size > n ? n : batches * batch_size;
    if (!mrc__mul(n, sizeof(mrc__plan_item) + sizeof(uint32_t), &bytes)) return MRC_ERR_MEM;
    mrc__plan_item *items = ctx->host.alloc(ctx->host.user, bytes + 1);
    if (!items) return MRC_ERR_MEM;
    uint32_t *order = (uint32_t *)(void *)(items + n);
    for (size_t i = 0; i < n; i++) {
        items[i] = (mrc__plan_item){ f->list[p->feature[i]].length, (uint32_t)i, p->feature[i] };
    }
    for (size_t i = 0; i < n; i += chunk) {
        qsort(items + i, n - i < chunk ? n - i : chunk, sizeof *items, mrc__plan_longer);
    }
    for (size_t b = 0; b < n_batches; b++) order[b] = (uint32_t)b;
    mrc__plan_shuffle(order, n_batches, seed, epoch, 1);
    for (size_t b = 0; b < n_batches; b++) {
        size_t from = order[b] * batch_size, to = n - from < batch_size ? n : from + batch_size;
        p->begin[b] = done;
        while (from < to) p->feature[done++] = items[from++].feature;
    }
    p->begin[n_batches] = done;
    p->n_batches = n_batches;
    ctx->host.free(ctx->host.user, items);
    return MRC_OK;
}

// Cuts the list into batches of batch_size features, or of at most `budget` rows (0: no budget).
static void mrc__plan_cut(mrc_batch_plan *p, const mrc_features *f, size_t batch_size,
                          uint64_t budget) {
    uint64_t rows = 0;
    size_t in = 0;
    for (size_t i = 0; i < f->n; i++) {
        uint64_t length = (uint64_t)f->list[p->feature[i]].length;
        if (i == 0 || (budget ? rows + length > budget : in == batch_size)) {
            p->begin[p->n_batches++] = i;
            rows = in = 0;
        }
        rows += length;
        in++;
    }
    p->begin[p->n_batches] = f->n;
}

MRCDEF mrc_status mrc_batch_plan_new(mrc_ctx *ctx, mrc_batch_plan *out, const mrc_features *f,
                                     mrc_batching kind, size_t batch_size, uint64_t seed,
                                     uint32_t epoch) {
    size_t feature_bytes, begin_bytes;
    uint64_t longest = 0, budget = 0;
    memset(out, 0, sizeof *out);
    out->host = ctx->host;
    if (!batch_size) return mrc__fail(ctx, MRC_ERR_ARG, "batch: batch_size is 0");
    if ((unsigned)kind > MRC_BATCHING_TOKEN_BUDGET || f->n > UINT32_MAX) {
        return mrc__fail(ctx, MRC_ERR_ARG, "batch: kind %d with %zu features", (int)kind, f->n);
    }
    if (mrc__mul(f->n + 1, sizeof *out->feature, &feature_bytes) &&
        mrc__mul(f->n + 1, sizeof *out->begin, &begin_bytes)) {
        out->feature = ctx->host.alloc(ctx->host.user, feature_bytes);
        out->begin = ctx->host.alloc(ctx->host.user, begin_bytes);
    }
    mrc_status status = out->feature && out->begin ? MRC_OK : MRC_ERR_MEM;
    if (status == MRC_OK) {
        for (size_t i = 0; i < f->n; i++) {
            uint64_t length = (uint64_t)f->list[i].length;
            out->feature[i] = (uint32_t)i;
            longest = length > longest ? length : longest;
        }
        if (kind != MRC_BATCHING_SEQUENTIAL) mrc__plan_shuffle(out->feature, f->n, seed, epoch, 0);
        if (kind == MRC_BATCHING_TOKEN_BUDGET) {
            budget = longest && batch_size > UINT64_MAX / 2 / longest ? UINT64_MAX / 2
                                                                      : batch_size * longest;
        }
        if (kind == MRC_BATCHING_SORTED && f->n) {
            status = mrc__plan_sorted(ctx, out, f, batch_size, seed, epoch);
        } else {
            mrc__plan_cut(out, f, batch_size, budget);
        }
    }
    if (status != MRC_OK) {
        mrc_batch_plan_free(out);
        return mrc__fail(ctx, status, "batch: out of memory for a plan of %zu features", f->n);
    }
    return MRC_OK;
}

MRCDEF void mrc_batch_plan_free(mrc_batch_plan *p) {
    if (p->feature) p->host.free(p->host.user, p->feature);
    if (p->begin) p->host.free(p->host.user, p->begin);
    memset(p, 0, sizeof *p);
}
#endif // core pass

//==============================================================================
// >>impl.decode
//
// HF's postprocess_qa_predictions without null answers (PARITY 3.5), in its arithmetic: scores are
// sums of two floats in float; probabilities are numpy's, float32 with pairwise summation, and in
// double when the "empty" fallback (a Python float) is in the list.
//
// Where HF leaves the result open: of equal logits the later row comes first (numpy's argsort is
// not stable; this is what a stable one gives, reversed), and a score that is not finite is no
// candidate, so that a broken model gives "empty" instead of NaN.
//==============================================================================
#ifdef MRC__PASS_CORE
MRCDEF mrc_decode_config mrc_decode_config_default(void) {
    return (mrc_decode_config){ .magic = MRC_DECODE_MAGIC, .n_best_size = 20,
                                .max_answer_length = 30 };
}

// Rows of the k largest of n values, largest first; returns how many.  NaN counts as -infinity.
static size_t mrc__dec_top(const float *values, size_t n, size_t k, size_t *rows) {
    size_t found = 0;
    for (size_t i = n; i-- > 0;) {
        float v = isnan(values[i]) ? -INFINITY : values[i];
        size_t at = found;
        while (at > 0) {
            float other = values[rows[at - 1]];
            if (!isnan(other) && !(v > other)) break;       // equal: the later row stays first
            if (isnan(other) && !(v > -INFINITY)) break;
            at--;
        }
        if (at == k) continue;
        if (found < k) found++;
        memmove(rows + at + 1, rows + at, (found - 1 - at) * sizeof *rows);
        rows[at] = i;
    }
    return found;
}

// Python's sorted(reverse=True) is stable: after equal scores.
static size_t mrc__dec_insert(mrc_span *out, size_t n, size_t k, mrc_span span) {
    float score = span.start_logit + span.end_logit;
    size_t at = n;
    while (at > 0 && score > out[at - 1].start_logit + out[at - 1].end_logit) at--;
    if (at == k) return n;
    if (n < k) n++;
    memmove(out + at + 1, out + at, (n - 1 - at) * sizeof *out);
    out[at] = span;
    return n;
}

// numpy's sum of fewer than 128 float32: eight lanes, then the rest.
static float mrc__dec_sum(const float *x, size_t n) {
    float lane[8], sum = 0;
    size_t i = 0;
    if (n >= 8) {
        memcpy(lane, x, sizeof lane);
        for (i = 8; i + 8 <= n; i += 8) {
            for (size_t k = 0; k < 8; k++) lane[k] += x[i + k];
        }
        sum = ((lane[0] + lane[1]) + (lane[2] + lane[3])) +
              ((lane[4] + lane[5]) + (lane[6] + lane[7]));
    }
    for (; i < n; i++) sum += x[i];
    return sum;
}

// `e` has room for n floats.
static void mrc__dec_softmax(mrc_span *out, size_t n, float *e) {
    float max = out[0].start_logit + out[0].end_logit;
    for (size_t i = 0; i < n; i++) {
        e[i] = (float)exp((double)((out[i].start_logit + out[i].end_logit) - max));
    }
    float sum = mrc__dec_sum(e, n);
    for (size_t i = 0; i < n; i++) out[i].probability = (double)(e[i] / sum);
}

// The fallback before what there is: nothing, or one span without text.
static size_t mrc__dec_fallback(mrc_span *out, size_t n, size_t k) {
    mrc_span other = out[0];
    out[0] = (mrc_span){ .empty = 1, .probability = 1 };
    if (!n || k < 2) return 1;
    double score = (double)(other.start_logit + other.end_logit), max = score > 0 ? score : 0;
    double a = exp(0 - max), b = exp(score - max);
    out[0].probability = a / (a + b);
    other.probability = b / (a + b);
    out[1] = other;
    return 2;
}

// Adds one window's candidates, starts from the best, for each its ends from the best.
static size_t mrc__dec_window(const mrc_window_logits *w, const mrc_decode_config *config,
                              size_t *starts, size_t *ends, mrc_span *out, size_t n) {
    const mrc_feature *f = w->feature;
    size_t k = config->n_best_size;
    size_t n_starts = mrc__dec_top(w->start, (size_t)f->length, k, starts);
    size_t n_ends = mrc__dec_top(w->end, (size_t)f->length, k, ends);
    for (size_t a = 0; a < n_starts; a++) {
        for (size_t b = 0; b < n_ends; b++) {
            size_t i = starts[a], j = ends[b];
            if (f->offset_mapping[i][0] < 0 || f->offset_mapping[j][0] < 0) continue;
            if (j < i || j - i >= config->max_answer_length) continue;
            mrc_span span = { .start_logit = w->start[i], .end_logit = w->end[j],
                              .begin = f->offset_mapping[i][0], .end = f->offset_mapping[j][1] };
            if (!isfinite(span.start_logit + span.end_logit)) continue;
            n = mrc__dec_insert(out, n, k, span);
        }
    }
    return n;
}

MRCDEF mrc_status mrc_decode(mrc_ctx *ctx, const mrc_window_logits *windows, size_t n_windows,
                             const mrc_decode_config *config, mrc_span *out, size_t *n_out) {
    size_t bytes, n = 0, k = config->n_best_size;
    *n_out = 0;
    if (config->magic != MRC_DECODE_MAGIC || !k) {
        return mrc__fail(ctx, MRC_ERR_ARG, "decode: %s", k
                         ? "the config is not from mrc_decode_config_default()"
                         : "n_best_size is 0");
    }
    size_t *rows = mrc__mul(k, 2 * sizeof *rows + sizeof(float), &bytes)
                       ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!rows) return mrc__fail(ctx, MRC_ERR_MEM, "decode: out of memory for %zu spans", k);
    for (size_t i = 0; i < n_windows; i++) {
        n = mrc__dec_window(&windows[i], config, rows, rows + k, out, n);
    }
    if (!n || (n == 1 && out[0].begin >= out[0].end)) n = mrc__dec_fallback(out, n, k);
    else mrc__dec_softmax(out, n, (float *)(void *)(rows + 2 * k));
    ctx->host.free(ctx->host.user, rows);
    *n_out = n;
    return MRC_OK;
}
#endif // core pass

//==============================================================================
// >>impl.metrics
//
// The official scripts' normalisation and scores (PARITY 3.1 KorQuAD v1, 3.3 SQuAD v1), on code
// points.  Python decides what lower case, white space and a word are: str.lower() with its final
// sigma, str.split(), and \w of re, as of Unicode 14 (Python 3.11).  Lower case is the tokenizer's
// table, which is newer: only characters that are cased in 14 are looked up there.
//==============================================================================
#ifdef MRC__PASS_CORE
typedef struct mrc__met_text { uint32_t *cp; size_t n; } mrc__met_text;

enum { MRC__MET_WORD, MRC__MET_CASED, MRC__MET_IGNORABLE, MRC__MET_CLASSES };
// Pairs of (code points to skip, code points in the class).
typedef struct mrc__met_class { const uint16_t (*pairs)[2]; size_t n; } mrc__met_class;
static const mrc__met_class mrc__met_tables[MRC__MET_CLASSES];     // in >>impl.tables

// Asked rarely, so searched from the beginning: at the edges of what may be an article, and around
// a capital sigma.
static int mrc__met_is(int class, uint32_t cp) {
    const mrc__met_class *c = &mrc__met_tables[class];
    uint32_t at = 0;
    for (size_t i = 0; i < c->n; i++) {
        at += c->pairs[i][0];
        if (cp < at) return 0;
        at += c->pairs[i][1];
        if (cp < at) return 1;
    }
    return 0;
}

static int mrc__met_is_punctuation(uint32_t cp) {           // string.punctuation
    return (cp >= 0x21 && cp <= 0x2f) || (cp >= 0x3a && cp <= 0x40) || (cp >= 0x5b && cp <= 0x60) ||
           (cp >= 0x7b && cp <= 0x7e);
}

// What KorQuAD's script makes a space before all else: ' " ( ) < > and six quotes of print.
static int mrc__met_is_quote(uint32_t cp) {
    return cp == '\'' || cp == '"' || cp == '(' || cp == ')' || cp == '<' || cp == '>' ||
           (cp >= 0x3008 && cp <= 0x300b) || cp == 0x2018 || cp == 0x2019;
}

// Looks from i in one direction past case-ignorable characters for a cased one.
static int mrc__met_sees_cased(mrc__met_text t, size_t i, int step) {
    for (;;) {
        if (step < 0 ? i == 0 : i + 1 == t.n) return 0;
        i = step < 0 ? i - 1 : i + 1;
        if (!mrc__met_is(MRC__MET_IGNORABLE, t.cp[i])) return mrc__met_is(MRC__MET_CASED, t.cp[i]);
    }
}

// The code points of s, at most as many as it has bytes.
static mrc__met_text mrc__met_decode(uint32_t *room, const char *s, size_t bytes) {
    mrc__met_text t = { room, 0 };
    for (size_t at = 0; at < bytes;) {
        uint32_t cp;
        size_t taken = mrc_utf8_decode(s + at, bytes - at, &cp);
        t.cp[t.n++] = taken ? cp : 0xfffd;
        at += taken ? taken : 1;
    }
    return t;
}

// str.lower(); one character becomes two, so that room for twice as many is needed.
static mrc__met_text mrc__met_lower(uint32_t *room, mrc__met_text t) {
    const mrc__unicode *u = &mrc__unicode_tables;
    mrc__met_text low = { room, 0 };
    for (size_t i = 0; i < t.n; i++) {
        uint32_t cp = t.cp[i];
        size_t lo = 0, hi = u->n_lowers;
        while (hi - lo > 1) {       // the last range that begins at or before cp
            size_t mid = lo + (hi - lo) / 2;
            if (u->lowers[mid].first <= cp) lo = mid;
            else hi = mid;
        }
        const mrc__uni_lower *l = &u->lowers[lo];
        int upper = cp >= l->first && cp <= l->last && (cp - l->first) % l->step == 0 &&
                    (cp < 0x80 || mrc__met_is(MRC__MET_CASED, cp));
        if (cp == 0x3a3 && mrc__met_sees_cased(t, i, -1) && !mrc__met_sees_cased(t, i, 1)) {
            low.cp[low.n++] = 0x3c2;
        } else {
            low.cp[low.n++] = upper ? (uint32_t)((int32_t)cp + l->delta) : cp;
        }
        if (cp == 0x130) low.cp[low.n++] = 0x307;
    }
    return low;
}

// \b(a|an|the)\b -> ' ', in place.  An article that ends at a boundary and begins at one is a whole
// run of word characters.
static void mrc__met_remove_articles(mrc__met_text *t) {
    size_t n = 0;
    int in_word = 0;
    for (size_t i = 0; i < t->n;) {
        const uint32_t *c = t->cp + i;
        size_t left = t->n - i, length = 0;
        if (!in_word && c[0] == 't' && left >= 3 && c[1] == 'h' && c[2] == 'e') length = 3;
        if (!in_word && c[0] == 'a') length = left >= 2 && c[1] == 'n' ? 2 : 1;
        if (length && (left == length || !mrc__met_is(MRC__MET_WORD, c[length]))) {
            t->cp[n++] = ' ';
            i += length;
            continue;
        }
        // Only before an a or a t does it matter whether a word is running.
        in_word = left >= 2 && (c[1] == 'a' || c[1] == 't') && mrc__met_is(MRC__MET_WORD, c[0]);
        t->cp[n++] = c[0];
        i++;
    }
    t->n = n;
}

// Runs of white space -> one space, none at the ends, in place.
static void mrc__met_join(mrc__met_text *t) {
    size_t n = 0;
    int space = 0;
    for (size_t i = 0; i < t->n; i++) {
        uint32_t cp = t->cp[i];
        if (mrc__is_space(cp)) {
            space = n > 0;
            continue;
        }
        if (space) t->cp[n++] = ' ';            // n <= i: at least one space was read
        space = 0;
        t->cp[n++] = cp;
    }
    t->n = n;
}

// Host memory of the caller's to free; cp NULL when there is none.
static mrc__met_text mrc__met_normalize(mrc_ctx *ctx, mrc_metric metric, const char *s,
                                        size_t bytes) {
    mrc__met_text t = {0}, low;
    size_t size;
    if (!mrc__mul(bytes, 3 * sizeof(uint32_t), &size) || !mrc__add(size, 4, &size)) return t;
    uint32_t *room = ctx->host.alloc(ctx->host.user, size);
    if (!room) return t;
    t = mrc__met_decode(room + 2 * bytes, s, bytes);
    for (size_t i = 0; metric == MRC_METRIC_KORQUAD && i < t.n; i++) {
        if (mrc__met_is_quote(t.cp[i])) t.cp[i] = ' ';
    }
    low = mrc__met_lower(room, t);
    size_t n = 0;
    for (size_t i = 0; i < low.n; i++) {
        if (!mrc__met_is_punctuation(low.cp[i])) low.cp[n++] = low.cp[i];
    }
    low.n = n;
    if (metric == MRC_METRIC_SQUAD) mrc__met_remove_articles(&low);
    mrc__met_join(&low);
    return low;
}

// Orders tokens by length, then content: any order does that brings equal ones together.
static int mrc__met_compare(const void *a, const void *b) {
    const mrc__met_text *x = a, *y = b;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return memcmp(x->cp, y->cp, x->n * sizeof *x->cp);
}

// The sorted tokens of a normalised text: its words, or (KorQuAD) its characters without spaces.
// There are at most as many as code points: that is the room needed.
static size_t mrc__met_tokens(mrc_metric metric, mrc__met_text t, mrc__met_text *tokens) {
    size_t n = 0;
    for (size_t i = 0; i < t.n;) {
        size_t end = i + 1;
        if (metric == MRC_METRIC_SQUAD) {
            while (end < t.n && t.cp[end] != ' ') end++;
        }
        if (t.cp[i] != ' ') tokens[n++] = (mrc__met_text){ t.cp + i, end - i };
        i = end + (metric == MRC_METRIC_SQUAD);
    }
    qsort(tokens, n, sizeof *tokens, mrc__met_compare);
    return n;
}

// The scripts' order of operations, as the last digit depends on it.
static double mrc__met_f1(const mrc__met_text *p, size_t n_p, const mrc__met_text *g, size_t n_g) {
    size_t common = 0;
    for (size_t i = 0, j = 0; i < n_p && j < n_g;) {
        int order = mrc__met_compare(&p[i], &g[j]);
        common += order == 0;
        i += order <= 0;
        j += order >= 0;
    }
    if (!common) return 0;
    double precision = (double)common / (double)n_p, recall = (double)common / (double)n_g;
    return 2 * precision * recall / (precision + recall);
}

// Scores one answer; *exact and *f1 only rise.
static mrc_status mrc__met_answer(mrc_ctx *ctx, mrc_metric metric, mrc__met_text p,
                                  const mrc__met_text *p_tokens, size_t n_p,
                                  const mrc_answer *answer, double *exact, double *f1) {
    mrc__met_text g = mrc__met_normalize(ctx, metric, answer->text, answer->bytes);
    size_t size;
    mrc__met_text *tokens = g.cp && mrc__mul(g.n + 1, sizeof *tokens, &size)
                                ? ctx->host.alloc(ctx->host.user, size) : NULL;
    if (tokens) {
        double f = mrc__met_f1(p_tokens, n_p, tokens, mrc__met_tokens(metric, g, tokens));
        if (f > *f1) *f1 = f;
        if (g.n == p.n && memcmp(g.cp, p.cp, g.n * sizeof *g.cp) == 0) *exact = 1;
        ctx->host.free(ctx->host.user, tokens);
    }
    if (g.cp) ctx->host.free(ctx->host.user, g.cp);
    return tokens ? MRC_OK : mrc__fail(ctx, MRC_ERR_MEM, "metric: out of memory");
}

MRCDEF mrc_status mrc_metric_score(mrc_ctx *ctx, mrc_metric metric, const char *prediction,
                                   size_t bytes, const mrc_answer *answers, size_t n_answers,
                                   double *exact, double *f1) {
    mrc_status status = MRC_OK;
    size_t size;
    *exact = *f1 = 0;
    if ((unsigned)metric > MRC_METRIC_SQUAD) {
        return mrc__fail(ctx, MRC_ERR_ARG, "metric: no metric %d", (int)metric);
    }
    mrc__met_text p = mrc__met_normalize(ctx, metric, prediction, bytes);
    mrc__met_text *tokens = p.cp && mrc__mul(p.n + 1, sizeof *tokens, &size)
                                ? ctx->host.alloc(ctx->host.user, size) : NULL;
    if (tokens) {
        size_t n = mrc__met_tokens(metric, p, tokens);
        for (size_t i = 0; i < n_answers && status == MRC_OK; i++) {
            status = mrc__met_answer(ctx, metric, p, tokens, n, &answers[i], exact, f1);
        }
        ctx->host.free(ctx->host.user, tokens);
    } else {
        status = mrc__fail(ctx, MRC_ERR_MEM, "metric: out of memory for a text of %zu bytes",
                           bytes);
    }
    if (p.cp) ctx->host.free(ctx->host.user, p.cp);
    return status;
}
#endif // core pass

//==============================================================================
// >>impl.model
//==============================================================================
#ifdef MRC__PASS_CORE
#endif // core pass

//==============================================================================
// >>impl.checkpoint
//==============================================================================
#ifdef MRC__PASS_CORE
#endif // core pass

//==============================================================================
// >>impl.reader
//==============================================================================
#ifdef MRC__PASS_CORE
#endif // core pass

//==============================================================================
// >>impl.tables   generated data: what the tokenizer and the metrics know about characters
//==============================================================================
#ifdef MRC__PASS_CORE
// begin of what tests/tables/make_tables.py wrote
// Measured from tokenizers 0.23.3.
static const mrc__uni_range mrc__uni_classes[] = {
    {0x0,0x8,1}, {0x9,0xA,2}, {0xB,0xC,3}, {0xD,0xD,2}, {0xE,0x1F,1}, {0x20,0x20,2}, {0x21,0x2F,4},
    {0x3A,0x40,4}, {0x5B,0x60,4}, {0x7B,0x7E,4}, {0x7F,0x84,1}, {0x85,0x85,3}, {0x86,0x9F,1},
    {0xA0,0xA0,2}, {0xA1,0xA1,4}, {0xA7,0xA7,4}, {0xAB,0xAB,4}, {0xAD,0xAD,1}, {0xB6,0xB7,4},
    {0xBB,0xBB,4}, {0xBF,0xBF,4}, {0x300,0x33F,16}, {0x342,0x342,16}, {0x345,0x36F,16},
    {0x37E,0x37E,4}, {0x387,0x387,4}, {0x483,0x487,16}, {0x55A,0x55F,4}, {0x589,0x58A,4},
    {0x591,0x5BD,16}, {0x5BE,0x5BE,4}, {0x5BF,0x5BF,16}, {0x5C0,0x5C0,4}, {0x5C1,0x5C2,16},
    {0x5C3,0x5C3,4}, {0x5C4,0x5C5,16}, {0x5C6,0x5C6,4}, {0x5C7,0x5C7,16}, {0x5F3,0x5F4,4},
    {0x600,0x605,1}, {0x609,0x60A,4}, {0x60C,0x60D,4}, {0x610,0x61A,16}, {0x61B,0x61B,4},
    {0x61C,0x61C,1}, {0x61E,0x61F,4}, {0x64B,0x65F,16}, {0x66A,0x66D,4}, {0x670,0x670,16},
    {0x6D4,0x6D4,4}, {0x6D6,0x6DC,16}, {0x6DD,0x6DD,1}, {0x6DF,0x6E4,16}, {0x6E7,0x6E8,16},
    {0x6EA,0x6ED,16}, {0x700,0x70D,4}, {0x70F,0x70F,1}, {0x711,0x711,16}, {0x730,0x74A,16},
    {0x7A6,0x7B0,16}, {0x7EB,0x7F3,16}, {0x7F7,0x7F9,4}, {0x816,0x819,16}, {0x81B,0x823,16},
    {0x825,0x827,16}, {0x829,0x82D,16}, {0x830,0x83E,4}, {0x859,0x85B,16}, {0x85E,0x85E,4},
    {0x8E3,0x902,16}, {0x93A,0x93A,16}, {0x93C,0x93C,16}, {0x941,0x948,16}, {0x94D,0x94D,16},
    {0x951,0x957,16}, {0x962,0x963,16}, {0x964,0x965,4}, {0x970,0x970,4}, {0x981,0x981,16},
    {0x9BC,0x9BC,16}, {0x9C1,0x9C4,16}, {0x9CD,0x9CD,16}, {0x9E2,0x9E3,16}, {0xA01,0xA02,16},
    {0xA3C,0xA3C,16}, {0xA41,0xA42,16}, {0xA47,0xA48,16}, {0xA4B,0xA4D,16}, {0xA51,0xA51,16},
    {0xA70,0xA71,16}, {0xA75,0xA75,16}, {0xA81,0xA82,16}, {0xABC,0xABC,16}, {0xAC1,0xAC5,16},
    {0xAC7,0xAC8,16}, {0xACD,0xACD,16}, {0xAE2,0xAE3,16}, {0xAF0,0xAF0,4}, {0xB01,0xB01,16},
    {0xB3C,0xB3C,16}, {0xB3F,0xB3F,16}, {0xB41,0xB44,16}, {0xB4D,0xB4D,16}, {0xB56,0xB56,16},
    {0xB62,0xB63,16}, {0xB82,0xB82,16}, {0xBC0,0xBC0,16}, {0xBCD,0xBCD,16}, {0xC00,0xC00,16},
    {0xC3E,0xC40,16}, {0xC46,0xC47,16}, {0xC4A,0xC4D,16}, {0xC55,0xC56,16}, {0xC62,0xC63,16},
    {0xC81,0xC81,16}, {0xCBC,0xCBC,16}, {0xCBF,0xCBF,16}, {0xCC6,0xCC6,16}, {0xCCC,0xCCD,16},
    {0xCE2,0xCE3,16}, {0xD01,0xD01,16}, {0xD41,0xD44,16}, {0xD4D,0xD4D,16}, {0xD62,0xD63,16},
    {0xDCA,0xDCA,16}, {0xDD2,0xDD4,16}, {0xDD6,0xDD6,16}, {0xDF4,0xDF4,4}, {0xE31,0xE31,16},
    {0xE34,0xE3A,16}, {0xE47,0xE4E,16}, {0xE4F,0xE4F,4}, {0xE5A,0xE5B,4}, {0xEB1,0xEB1,16},
    {0xEB4,0xEB9,16}, {0xEBB,0xEBC,16}, {0xEC8,0xECD,16}, {0xF04,0xF12,4}, {0xF14,0xF14,4},
    {0xF18,0xF19,16}, {0xF35,0xF35,16}, {0xF37,0xF37,16}, {0xF39,0xF39,16}, {0xF3A,0xF3D,4},
    {0xF71,0xF72,16}, {0xF74,0xF74,16}, {0xF77,0xF77,16}, {0xF79,0xF7E,16}, {0xF80,0xF80,16},
    {0xF82,0xF84,16}, {0xF85,0xF85,4}, {0xF86,0xF87,16}, {0xF8D,0xF92,16}, {0xF94,0xF97,16},
    {0xF99,0xF9C,16}, {0xF9E,0xFA1,16}, {0xFA3,0xFA6,16}, {0xFA8,0xFAB,16}, {0xFAD,0xFB8,16},
    {0xFBA,0xFBC,16}, {0xFC6,0xFC6,16}, {0xFD0,0xFD4,4}, {0xFD9,0xFDA,4}, {0x102D,0x1030,16},
    {0x1032,0x1037,16}, {0x1039,0x103A,16}, {0x103D,0x103E,16}, {0x104A,0x104F,4},
    {0x1058,0x1059,16}, {0x105E,0x1060,16}, {0x1071,0x1074,16}, {0x1082,0x1082,16},
    {0x1085,0x1086,16}, {0x108D,0x108D,16}, {0x109D,0x109D,16}, {0x10FB,0x10FB,4},
    {0x135D,0x135F,16}, {0x1360,0x1368,4}, {0x1400,0x1400,4}, {0x166D,0x166E,4}, {0x1680,0x1680,2},
    {0x169B,0x169C,4}, {0x16EB,0x16ED,4}, {0x1712,0x1714,16}, {0x1732,0x1734,16},
    {0x1735,0x1736,4}, {0x1752,0x1753,16}, {0x1772,0x1773,16}, {0x17B4,0x17B5,16},
    {0x17B7,0x17BD,16}, {0x17C6,0x17C6,16}, {0x17C9,0x17D3,16}, {0x17D4,0x17D6,4},
    {0x17D8,0x17DA,4}, {0x17DD,0x17DD,16}, {0x1800,0x180A,4}, {0x180B,0x180D,16},
    {0x180E,0x180E,1}, {0x18A9,0x18A9,16}, {0x1920,0x1922,16}, {0x1927,0x1928,16},
    {0x1932,0x1932,16}, {0x1939,0x193B,16}, {0x1944,0x1945,4}, {0x1A17,0x1A18,16},
    {0x1A1B,0x1A1B,16}, {0x1A1E,0x1A1F,4}, {0x1A56,0x1A56,16}, {0x1A58,0x1A5E,16},
    {0x1A60,0x1A60,16}, {0x1A62,0x1A62,16}, {0x1A65,0x1A6C,16}, {0x1A73,0x1A7C,16},
    {0x1A7F,0x1A7F,16}, {0x1AA0,0x1AA6,4}, {0x1AA8,0x1AAD,4}, {0x1AB0,0x1ABD,16},
    {0x1B00,0x1B03,16}, {0x1B34,0x1B34,16}, {0x1B36,0x1B3A,16}, {0x1B3C,0x1B3C,16},
    {0x1B42,0x1B42,16}, {0x1B5A,0x1B60,4}, {0x1B6B,0x1B73,16}, {0x1B80,0x1B81,16},
    {0x1BA2,0x1BA5,16}, {0x1BA8,0x1BA9,16}, {0x1BAB,0x1BAD,16}, {0x1BE6,0x1BE6,16},
    {0x1BE8,0x1BE9,16}, {0x1BED,0x1BED,16}, {0x1BEF,0x1BF1,16}, {0x1BFC,0x1BFF,4},
    {0x1C2C,0x1C33,16}, {0x1C36,0x1C37,16}, {0x1C3B,0x1C3F,4}, {0x1C7E,0x1C7F,4},
    {0x1CC0,0x1CC7,4}, {0x1CD0,0x1CD2,16}, {0x1CD3,0x1CD3,4}, {0x1CD4,0x1CE0,16},
    {0x1CE2,0x1CE8,16}, {0x1CED,0x1CED,16}, {0x1CF4,0x1CF4,16}, {0x1CF8,0x1CF9,16},
    {0x1DC0,0x1DF5,16}, {0x1DFC,0x1DFF,16}, {0x2000,0x200A,2}, {0x200B,0x200F,1},
    {0x2010,0x2027,4}, {0x2028,0x2029,2}, {0x202A,0x202E,1}, {0x202F,0x202F,2}, {0x2030,0x2043,4},
    {0x2045,0x2051,4}, {0x2053,0x205E,4}, {0x205F,0x205F,2}, {0x2060,0x2064,1}, {0x2066,0x206F,1},
    {0x207D,0x207E,4}, {0x208D,0x208E,4}, {0x20D0,0x20DC,16}, {0x20E1,0x20E1,16},
    {0x20E5,0x20F0,16}, {0x2308,0x230B,4}, {0x2329,0x232A,4}, {0x2768,0x2775,4}, {0x27C5,0x27C6,4},
    {0x27E6,0x27EF,4}, {0x2983,0x2998,4}, {0x29D8,0x29DB,4}, {0x29FC,0x29FD,4}, {0x2CEF,0x2CF1,16},
    {0x2CF9,0x2CFC,4}, {0x2CFE,0x2CFF,4}, {0x2D70,0x2D70,4}, {0x2D7F,0x2D7F,16},
    {0x2DE0,0x2DFF,16}, {0x2E00,0x2E2E,4}, {0x2E30,0x2E42,4}, {0x3000,0x3000,2}, {0x3001,0x3003,4},
    {0x3008,0x3011,4}, {0x3014,0x301F,4}, {0x302A,0x302D,16}, {0x3030,0x3030,4}, {0x303D,0x303D,4},
    {0x3099,0x309A,16}, {0x30A0,0x30A0,4}, {0x30FB,0x30FB,4}, {0x3400,0x4DBF,8}, {0x4E00,0x9FFF,8},
    {0xA4FE,0xA4FF,4}, {0xA60D,0xA60F,4}, {0xA66F,0xA66F,16}, {0xA673,0xA673,4},
    {0xA674,0xA67D,16}, {0xA67E,0xA67E,4}, {0xA69E,0xA69F,16}, {0xA6F0,0xA6F1,16},
    {0xA6F2,0xA6F7,4}, {0xA802,0xA802,16}, {0xA806,0xA806,16}, {0xA80B,0xA80B,16},
    {0xA825,0xA826,16}, {0xA874,0xA877,4}, {0xA8C4,0xA8C4,16}, {0xA8CE,0xA8CF,4},
    {0xA8E0,0xA8F1,16}, {0xA8F8,0xA8FA,4}, {0xA8FC,0xA8FC,4}, {0xA926,0xA92D,16},
    {0xA92E,0xA92F,4}, {0xA947,0xA951,16}, {0xA95F,0xA95F,4}, {0xA980,0xA982,16},
    {0xA9B3,0xA9B3,16}, {0xA9B6,0xA9B9,16}, {0xA9BC,0xA9BC,16}, {0xA9C1,0xA9CD,4},
    {0xA9DE,0xA9DF,4}, {0xA9E5,0xA9E5,16}, {0xAA29,0xAA2E,16}, {0xAA31,0xAA32,16},
    {0xAA35,0xAA36,16}, {0xAA43,0xAA43,16}, {0xAA4C,0xAA4C,16}, {0xAA5C,0xAA5F,4},
    {0xAA7C,0xAA7C,16}, {0xAAB0,0xAAB0,16}, {0xAAB2,0xAAB4,16}, {0xAAB7,0xAAB8,16},
    {0xAABE,0xAABF,16}, {0xAAC1,0xAAC1,16}, {0xAADE,0xAADF,4}, {0xAAEC,0xAAED,16},
    {0xAAF0,0xAAF1,4}, {0xAAF6,0xAAF6,16}, {0xABE5,0xABE5,16}, {0xABE8,0xABE8,16},
    {0xABEB,0xABEB,4}, {0xABED,0xABED,16}, {0xE000,0xF8FF,1}, {0xF900,0xFAFF,8},
    {0xFB1E,0xFB1E,16}, {0xFD3E,0xFD3F,4}, {0xFE00,0xFE0F,16}, {0xFE10,0xFE19,4},
    {0xFE20,0xFE2F,16}, {0xFE30,0xFE52,4}, {0xFE54,0xFE61,4}, {0xFE63,0xFE63,4}, {0xFE68,0xFE68,4},
    {0xFE6A,0xFE6B,4}, {0xFEFF,0xFEFF,1}, {0xFF01,0xFF03,4}, {0xFF05,0xFF0A,4}, {0xFF0C,0xFF0F,4},
    {0xFF1A,0xFF1B,4}, {0xFF1F,0xFF20,4}, {0xFF3B,0xFF3D,4}, {0xFF3F,0xFF3F,4}, {0xFF5B,0xFF5B,4},
    {0xFF5D,0xFF5D,4}, {0xFF5F,0xFF65,4}, {0xFFF9,0xFFFB,1}, {0xFFFD,0xFFFD,1},
    {0x10100,0x10102,4}, {0x101FD,0x101FD,16}, {0x102E0,0x102E0,16}, {0x10376,0x1037A,16},
    {0x1039F,0x1039F,4}, {0x103D0,0x103D0,4}, {0x1056F,0x1056F,4}, {0x10857,0x10857,4},
    {0x1091F,0x1091F,4}, {0x1093F,0x1093F,4}, {0x10A01,0x10A03,16}, {0x10A05,0x10A06,16},
    {0x10A0C,0x10A0F,16}, {0x10A38,0x10A3A,16}, {0x10A3F,0x10A3F,16}, {0x10A50,0x10A58,4},
    {0x10A7F,0x10A7F,4}, {0x10AE5,0x10AE6,16}, {0x10AF0,0x10AF6,4}, {0x10B39,0x10B3F,4},
    {0x10B99,0x10B9C,4}, {0x11001,0x11001,16}, {0x11038,0x11046,16}, {0x11047,0x1104D,4},
    {0x1107F,0x11081,16}, {0x110B3,0x110B6,16}, {0x110B9,0x110BA,16}, {0x110BB,0x110BC,4},
    {0x110BD,0x110BD,1}, {0x110BE,0x110C1,4}, {0x11100,0x11102,16}, {0x11127,0x1112B,16},
    {0x1112D,0x1112D,16}, {0x11130,0x11134,16}, {0x11140,0x11143,4}, {0x11173,0x11173,16},
    {0x11174,0x11175,4}, {0x11180,0x11181,16}, {0x111B6,0x111BE,16}, {0x111C5,0x111C9,4},
    {0x111CA,0x111CC,16}, {0x111CD,0x111CD,4}, {0x111DB,0x111DB,4}, {0x111DD,0x111DF,4},
    {0x1122F,0x11231,16}, {0x11234,0x11234,16}, {0x11236,0x11237,16}, {0x11238,0x1123D,4},
    {0x112A9,0x112A9,4}, {0x112DF,0x112DF,16}, {0x112E3,0x112EA,16}, {0x11300,0x11301,16},
    {0x1133C,0x1133C,16}, {0x11340,0x11340,16}, {0x11366,0x1136C,16}, {0x11370,0x11374,16},
    {0x114B3,0x114B8,16}, {0x114BA,0x114BA,16}, {0x114BF,0x114C0,16}, {0x114C2,0x114C3,16},
    {0x114C6,0x114C6,4}, {0x115B2,0x115B5,16}, {0x115BC,0x115BD,16}, {0x115BF,0x115C0,16},
    {0x115C1,0x115D7,4}, {0x115DC,0x115DD,16}, {0x11633,0x1163A,16}, {0x1163D,0x1163D,16},
    {0x1163F,0x11640,16}, {0x11641,0x11643,4}, {0x116AB,0x116AB,16}, {0x116AD,0x116AD,16},
    {0x116B0,0x116B5,16}, {0x116B7,0x116B7,16}, {0x1171D,0x1171F,16}, {0x11722,0x11725,16},
    {0x11727,0x1172B,16}, {0x1173C,0x1173E,4}, {0x12470,0x12474,4}, {0x16A6E,0x16A6F,4},
    {0x16AF0,0x16AF4,16}, {0x16AF5,0x16AF5,4}, {0x16B30,0x16B36,16}, {0x16B37,0x16B3B,4},
    {0x16B44,0x16B44,4}, {0x16F8F,0x16F92,16}, {0x1BC9D,0x1BC9E,16}, {0x1BC9F,0x1BC9F,4},
    {0x1BCA0,0x1BCA3,1}, {0x1D167,0x1D169,16}, {0x1D173,0x1D17A,1}, {0x1D17B,0x1D182,16},
    {0x1D185,0x1D18B,16}, {0x1D1AA,0x1D1AD,16}, {0x1D242,0x1D244,16}, {0x1DA00,0x1DA36,16},
    {0x1DA3B,0x1DA6C,16}, {0x1DA75,0x1DA75,16}, {0x1DA84,0x1DA84,16}, {0x1DA87,0x1DA8B,4},
    {0x1DA9B,0x1DA9F,16}, {0x1DAA1,0x1DAAF,16}, {0x1E8D0,0x1E8D6,16}, {0x20000,0x2A6DF,8},
    {0x2A700,0x2B81F,8}, {0x2B920,0x2CEAF,8}, {0x2F800,0x2FA1F,8}, {0xE0001,0xE0001,1},
    {0xE0020,0xE007F,1}, {0xE0100,0xE01EF,16}, {0xF0000,0xFFFFD,1}, {0x100000,0x10FFFD,1},
};
static const mrc__uni_range mrc__uni_combining[] = {
    {0x300,0x314,230}, {0x315,0x315,232}, {0x316,0x319,220}, {0x31A,0x31A,232}, {0x31B,0x31B,216},
    {0x31C,0x320,220}, {0x321,0x322,202}, {0x323,0x326,220}, {0x327,0x328,202}, {0x329,0x333,220},
    {0x334,0x338,1}, {0x339,0x33C,220}, {0x33D,0x33F,230}, {0x342,0x342,230}, {0x345,0x345,240},
    {0x346,0x346,230}, {0x347,0x349,220}, {0x34A,0x34C,230}, {0x34D,0x34E,220}, {0x350,0x352,230},
    {0x353,0x356,220}, {0x357,0x357,230}, {0x358,0x358,232}, {0x359,0x35A,220}, {0x35B,0x35B,230},
    {0x35C,0x35C,233}, {0x35D,0x35E,234}, {0x35F,0x35F,233}, {0x360,0x361,234}, {0x362,0x362,233},
    {0x363,0x36F,230}, {0x483,0x487,230}, {0x591,0x591,220}, {0x592,0x595,230}, {0x596,0x596,220},
    {0x597,0x599,230}, {0x59A,0x59A,222}, {0x59B,0x59B,220}, {0x59C,0x5A1,230}, {0x5A2,0x5A7,220},
    {0x5A8,0x5A9,230}, {0x5AA,0x5AA,220}, {0x5AB,0x5AC,230}, {0x5AD,0x5AD,222}, {0x5AE,0x5AE,228},
    {0x5AF,0x5AF,230}, {0x5B0,0x5B0,10}, {0x5B1,0x5B1,11}, {0x5B2,0x5B2,12}, {0x5B3,0x5B3,13},
    {0x5B4,0x5B4,14}, {0x5B5,0x5B5,15}, {0x5B6,0x5B6,16}, {0x5B7,0x5B7,17}, {0x5B8,0x5B8,18},
    {0x5B9,0x5BA,19}, {0x5BB,0x5BB,20}, {0x5BC,0x5BC,21}, {0x5BD,0x5BD,22}, {0x5BF,0x5BF,23},
    {0x5C1,0x5C1,24}, {0x5C2,0x5C2,25}, {0x5C4,0x5C4,230}, {0x5C5,0x5C5,220}, {0x5C7,0x5C7,18},
    {0x610,0x617,230}, {0x618,0x618,30}, {0x619,0x619,31}, {0x61A,0x61A,32}, {0x64B,0x64B,27},
    {0x64C,0x64C,28}, {0x64D,0x64D,29}, {0x64E,0x64E,30}, {0x64F,0x64F,31}, {0x650,0x650,32},
    {0x651,0x651,33}, {0x652,0x652,34}, {0x653,0x654,230}, {0x655,0x656,220}, {0x657,0x65B,230},
    {0x65C,0x65C,220}, {0x65D,0x65E,230}, {0x65F,0x65F,220}, {0x670,0x670,35}, {0x6D6,0x6DC,230},
    {0x6DF,0x6E2,230}, {0x6E3,0x6E3,220}, {0x6E4,0x6E4,230}, {0x6E7,0x6E8,230}, {0x6EA,0x6EA,220},
    {0x6EB,0x6EC,230}, {0x6ED,0x6ED,220}, {0x711,0x711,36}, {0x730,0x730,230}, {0x731,0x731,220},
    {0x732,0x733,230}, {0x734,0x734,220}, {0x735,0x736,230}, {0x737,0x739,220}, {0x73A,0x73A,230},
    {0x73B,0x73C,220}, {0x73D,0x73D,230}, {0x73E,0x73E,220}, {0x73F,0x741,230}, {0x742,0x742,220},
    {0x743,0x743,230}, {0x744,0x744,220}, {0x745,0x745,230}, {0x746,0x746,220}, {0x747,0x747,230},
    {0x748,0x748,220}, {0x749,0x74A,230}, {0x7EB,0x7F1,230}, {0x7F2,0x7F2,220}, {0x7F3,0x7F3,230},
    {0x816,0x819,230}, {0x81B,0x823,230}, {0x825,0x827,230}, {0x829,0x82D,230}, {0x859,0x85B,220},
    {0x8D4,0x8E1,230}, {0x8E3,0x8E3,220}, {0x8E4,0x8E5,230}, {0x8E6,0x8E6,220}, {0x8E7,0x8E8,230},
    {0x8E9,0x8E9,220}, {0x8EA,0x8EC,230}, {0x8ED,0x8EF,220}, {0x8F0,0x8F0,27}, {0x8F1,0x8F1,28},
    {0x8F2,0x8F2,29}, {0x8F3,0x8F5,230}, {0x8F6,0x8F6,220}, {0x8F7,0x8F8,230}, {0x8F9,0x8FA,220},
    {0x8FB,0x8FF,230}, {0x93C,0x93C,7}, {0x94D,0x94D,9}, {0x951,0x951,230}, {0x952,0x952,220},
    {0x953,0x954,230}, {0x9BC,0x9BC,7}, {0x9CD,0x9CD,9}, {0xA3C,0xA3C,7}, {0xA4D,0xA4D,9},
    {0xABC,0xABC,7}, {0xACD,0xACD,9}, {0xB3C,0xB3C,7}, {0xB4D,0xB4D,9}, {0xBCD,0xBCD,9},
    {0xC4D,0xC4D,9}, {0xC55,0xC55,84}, {0xC56,0xC56,91}, {0xCBC,0xCBC,7}, {0xCCD,0xCCD,9},
    {0xD4D,0xD4D,9}, {0xDCA,0xDCA,9}, {0xE38,0xE39,103}, {0xE3A,0xE3A,9}, {0xE48,0xE4B,107},
    {0xEB8,0xEB9,118}, {0xEC8,0xECB,122}, {0xF18,0xF19,220}, {0xF35,0xF35,220}, {0xF37,0xF37,220},
    {0xF39,0xF39,216}, {0xF71,0xF71,129}, {0xF72,0xF72,130}, {0xF74,0xF74,132}, {0xF7A,0xF7D,130},
    {0xF80,0xF80,130}, {0xF82,0xF83,230}, {0xF84,0xF84,9}, {0xF86,0xF87,230}, {0xFC6,0xFC6,220},
    {0x1037,0x1037,7}, {0x1039,0x103A,9}, {0x108D,0x108D,220}, {0x135D,0x135F,230},
    {0x1714,0x1714,9}, {0x1734,0x1734,9}, {0x17D2,0x17D2,9}, {0x17DD,0x17DD,230},
    {0x18A9,0x18A9,228}, {0x1939,0x1939,222}, {0x193A,0x193A,230}, {0x193B,0x193B,220},
    {0x1A17,0x1A17,230}, {0x1A18,0x1A18,220}, {0x1A60,0x1A60,9}, {0x1A75,0x1A7C,230},
    {0x1A7F,0x1A7F,220}, {0x1AB0,0x1AB4,230}, {0x1AB5,0x1ABA,220}, {0x1ABB,0x1ABC,230},
    {0x1ABD,0x1ABD,220}, {0x1B34,0x1B34,7}, {0x1B44,0x1B44,9}, {0x1B6B,0x1B6B,230},
    {0x1B6C,0x1B6C,220}, {0x1B6D,0x1B73,230}, {0x1BAA,0x1BAB,9}, {0x1BE6,0x1BE6,7},
    {0x1BF2,0x1BF3,9}, {0x1C37,0x1C37,7}, {0x1CD0,0x1CD2,230}, {0x1CD4,0x1CD4,1},
    {0x1CD5,0x1CD9,220}, {0x1CDA,0x1CDB,230}, {0x1CDC,0x1CDF,220}, {0x1CE0,0x1CE0,230},
    {0x1CE2,0x1CE8,1}, {0x1CED,0x1CED,220}, {0x1CF4,0x1CF4,230}, {0x1CF8,0x1CF9,230},
    {0x1DC0,0x1DC1,230}, {0x1DC2,0x1DC2,220}, {0x1DC3,0x1DC9,230}, {0x1DCA,0x1DCA,220},
    {0x1DCB,0x1DCC,230}, {0x1DCD,0x1DCD,234}, {0x1DCE,0x1DCE,214}, {0x1DCF,0x1DCF,220},
    {0x1DD0,0x1DD0,202}, {0x1DD1,0x1DF5,230}, {0x1DFB,0x1DFB,230}, {0x1DFC,0x1DFC,233},
    {0x1DFD,0x1DFD,220}, {0x1DFE,0x1DFE,230}, {0x1DFF,0x1DFF,220}, {0x20D0,0x20D1,230},
    {0x20D2,0x20D3,1}, {0x20D4,0x20D7,230}, {0x20D8,0x20DA,1}, {0x20DB,0x20DC,230},
    {0x20E1,0x20E1,230}, {0x20E5,0x20E6,1}, {0x20E7,0x20E7,230}, {0x20E8,0x20E8,220},
    {0x20E9,0x20E9,230}, {0x20EA,0x20EB,1}, {0x20EC,0x20EF,220}, {0x20F0,0x20F0,230},
    {0x2CEF,0x2CF1,230}, {0x2D7F,0x2D7F,9}, {0x2DE0,0x2DFF,230}, {0x302A,0x302A,218},
    {0x302B,0x302B,228}, {0x302C,0x302C,232}, {0x302D,0x302D,222}, {0x302E,0x302F,224},
    {0x3099,0x309A,8}, {0xA66F,0xA66F,230}, {0xA674,0xA67D,230}, {0xA69E,0xA69F,230},
    {0xA6F0,0xA6F1,230}, {0xA806,0xA806,9}, {0xA8C4,0xA8C4,9}, {0xA8E0,0xA8F1,230},
    {0xA92B,0xA92D,220}, {0xA953,0xA953,9}, {0xA9B3,0xA9B3,7}, {0xA9C0,0xA9C0,9},
    {0xAAB0,0xAAB0,230}, {0xAAB2,0xAAB3,230}, {0xAAB4,0xAAB4,220}, {0xAAB7,0xAAB8,230},
    {0xAABE,0xAABF,230}, {0xAAC1,0xAAC1,230}, {0xAAF6,0xAAF6,9}, {0xABED,0xABED,9},
    {0xFB1E,0xFB1E,26}, {0xFE20,0xFE26,230}, {0xFE27,0xFE2D,220}, {0xFE2E,0xFE2F,230},
    {0x101FD,0x101FD,220}, {0x102E0,0x102E0,220}, {0x10376,0x1037A,230}, {0x10A0D,0x10A0D,220},
    {0x10A0F,0x10A0F,230}, {0x10A38,0x10A38,230}, {0x10A39,0x10A39,1}, {0x10A3A,0x10A3A,220},
    {0x10A3F,0x10A3F,9}, {0x10AE5,0x10AE5,230}, {0x10AE6,0x10AE6,220}, {0x11046,0x11046,9},
    {0x1107F,0x1107F,9}, {0x110B9,0x110B9,9}, {0x110BA,0x110BA,7}, {0x11100,0x11102,230},
    {0x11133,0x11134,9}, {0x11173,0x11173,7}, {0x111C0,0x111C0,9}, {0x111CA,0x111CA,7},
    {0x11235,0x11235,9}, {0x11236,0x11236,7}, {0x112E9,0x112E9,7}, {0x112EA,0x112EA,9},
    {0x1133C,0x1133C,7}, {0x1134D,0x1134D,9}, {0x11366,0x1136C,230}, {0x11370,0x11374,230},
    {0x11442,0x11442,9}, {0x11446,0x11446,7}, {0x114C2,0x114C2,9}, {0x114C3,0x114C3,7},
    {0x115BF,0x115BF,9}, {0x115C0,0x115C0,7}, {0x1163F,0x1163F,9}, {0x116B6,0x116B6,9},
    {0x116B7,0x116B7,7}, {0x1172B,0x1172B,9}, {0x11C3F,0x11C3F,9}, {0x16AF0,0x16AF4,1},
    {0x16B30,0x16B36,230}, {0x1BC9E,0x1BC9E,1}, {0x1D165,0x1D166,216}, {0x1D167,0x1D169,1},
    {0x1D16D,0x1D16D,226}, {0x1D16E,0x1D172,216}, {0x1D17B,0x1D182,220}, {0x1D185,0x1D189,230},
    {0x1D18A,0x1D18B,220}, {0x1D1AA,0x1D1AD,230}, {0x1D242,0x1D244,230}, {0x1E000,0x1E006,230},
    {0x1E008,0x1E018,230}, {0x1E01B,0x1E021,230}, {0x1E023,0x1E024,230}, {0x1E026,0x1E02A,230},
    {0x1E8D0,0x1E8D6,220}, {0x1E944,0x1E949,230}, {0x1E94A,0x1E94A,7},
};
static const mrc__uni_lower mrc__uni_lowers[] = {
    {0x41,0x5A,1,32}, {0xC0,0xD6,1,32}, {0xD8,0xDE,1,32}, {0x100,0x12E,2,1}, {0x130,0x130,1,-199},
    {0x132,0x136,2,1}, {0x139,0x147,2,1}, {0x14A,0x176,2,1}, {0x178,0x178,1,-121},
    {0x179,0x17D,2,1}, {0x181,0x181,1,210}, {0x182,0x184,2,1}, {0x186,0x186,1,206},
    {0x187,0x187,1,1}, {0x189,0x18A,1,205}, {0x18B,0x18B,1,1}, {0x18E,0x18E,1,79},
    {0x18F,0x18F,1,202}, {0x190,0x190,1,203}, {0x191,0x191,1,1}, {0x193,0x193,1,205},
    {0x194,0x194,1,207}, {0x196,0x196,1,211}, {0x197,0x197,1,209}, {0x198,0x198,1,1},
    {0x19C,0x19C,1,211}, {0x19D,0x19D,1,213}, {0x19F,0x19F,1,214}, {0x1A0,0x1A4,2,1},
    {0x1A6,0x1A6,1,218}, {0x1A7,0x1A7,1,1}, {0x1A9,0x1A9,1,218}, {0x1AC,0x1AC,1,1},
    {0x1AE,0x1AE,1,218}, {0x1AF,0x1AF,1,1}, {0x1B1,0x1B2,1,217}, {0x1B3,0x1B5,2,1},
    {0x1B7,0x1B7,1,219}, {0x1B8,0x1B8,1,1}, {0x1BC,0x1BC,1,1}, {0x1C4,0x1C4,1,2},
    {0x1C5,0x1C5,1,1}, {0x1C7,0x1C7,1,2}, {0x1C8,0x1C8,1,1}, {0x1CA,0x1CA,1,2}, {0x1CB,0x1DB,2,1},
    {0x1DE,0x1EE,2,1}, {0x1F1,0x1F1,1,2}, {0x1F2,0x1F4,2,1}, {0x1F6,0x1F6,1,-97},
    {0x1F7,0x1F7,1,-56}, {0x1F8,0x21E,2,1}, {0x220,0x220,1,-130}, {0x222,0x232,2,1},
    {0x23A,0x23A,1,10795}, {0x23B,0x23B,1,1}, {0x23D,0x23D,1,-163}, {0x23E,0x23E,1,10792},
    {0x241,0x241,1,1}, {0x243,0x243,1,-195}, {0x244,0x244,1,69}, {0x245,0x245,1,71},
    {0x246,0x24E,2,1}, {0x370,0x372,2,1}, {0x376,0x376,1,1}, {0x37F,0x37F,1,116},
    {0x386,0x386,1,38}, {0x388,0x38A,1,37}, {0x38C,0x38C,1,64}, {0x38E,0x38F,1,63},
    {0x391,0x3A1,1,32}, {0x3A3,0x3AB,1,32}, {0x3CF,0x3CF,1,8}, {0x3D8,0x3EE,2,1},
    {0x3F4,0x3F4,1,-60}, {0x3F7,0x3F7,1,1}, {0x3F9,0x3F9,1,-7}, {0x3FA,0x3FA,1,1},
    {0x3FD,0x3FF,1,-130}, {0x400,0x40F,1,80}, {0x410,0x42F,1,32}, {0x460,0x480,2,1},
    {0x48A,0x4BE,2,1}, {0x4C0,0x4C0,1,15}, {0x4C1,0x4CD,2,1}, {0x4D0,0x52E,2,1},
    {0x531,0x556,1,48}, {0x10A0,0x10C5,1,7264}, {0x10C7,0x10C7,1,7264}, {0x10CD,0x10CD,1,7264},
    {0x13A0,0x13EF,1,38864}, {0x13F0,0x13F5,1,8}, {0x1C89,0x1C89,1,1}, {0x1C90,0x1CBA,1,-3008},
    {0x1CBD,0x1CBF,1,-3008}, {0x1E00,0x1E94,2,1}, {0x1E9E,0x1E9E,1,-7615}, {0x1EA0,0x1EFE,2,1},
    {0x1F08,0x1F0F,1,-8}, {0x1F18,0x1F1D,1,-8}, {0x1F28,0x1F2F,1,-8}, {0x1F38,0x1F3F,1,-8},
    {0x1F48,0x1F4D,1,-8}, {0x1F59,0x1F5F,2,-8}, {0x1F68,0x1F6F,1,-8}, {0x1F88,0x1F8F,1,-8},
    {0x1F98,0x1F9F,1,-8}, {0x1FA8,0x1FAF,1,-8}, {0x1FB8,0x1FB9,1,-8}, {0x1FBA,0x1FBB,1,-74},
    {0x1FBC,0x1FBC,1,-9}, {0x1FC8,0x1FCB,1,-86}, {0x1FCC,0x1FCC,1,-9}, {0x1FD8,0x1FD9,1,-8},
    {0x1FDA,0x1FDB,1,-100}, {0x1FE8,0x1FE9,1,-8}, {0x1FEA,0x1FEB,1,-112}, {0x1FEC,0x1FEC,1,-7},
    {0x1FF8,0x1FF9,1,-128}, {0x1FFA,0x1FFB,1,-126}, {0x1FFC,0x1FFC,1,-9}, {0x2126,0x2126,1,-7517},
    {0x212A,0x212A,1,-8383}, {0x212B,0x212B,1,-8262}, {0x2132,0x2132,1,28}, {0x2160,0x216F,1,16},
    {0x2183,0x2183,1,1}, {0x24B6,0x24CF,1,26}, {0x2C00,0x2C2F,1,48}, {0x2C60,0x2C60,1,1},
    {0x2C62,0x2C62,1,-10743}, {0x2C63,0x2C63,1,-3814}, {0x2C64,0x2C64,1,-10727},
    {0x2C67,0x2C6B,2,1}, {0x2C6D,0x2C6D,1,-10780}, {0x2C6E,0x2C6E,1,-10749},
    {0x2C6F,0x2C6F,1,-10783}, {0x2C70,0x2C70,1,-10782}, {0x2C72,0x2C72,1,1}, {0x2C75,0x2C75,1,1},
    {0x2C7E,0x2C7F,1,-10815}, {0x2C80,0x2CE2,2,1}, {0x2CEB,0x2CED,2,1}, {0x2CF2,0x2CF2,1,1},
    {0xA640,0xA66C,2,1}, {0xA680,0xA69A,2,1}, {0xA722,0xA72E,2,1}, {0xA732,0xA76E,2,1},
    {0xA779,0xA77B,2,1}, {0xA77D,0xA77D,1,-35332}, {0xA77E,0xA786,2,1}, {0xA78B,0xA78B,1,1},
    {0xA78D,0xA78D,1,-42280}, {0xA790,0xA792,2,1}, {0xA796,0xA7A8,2,1}, {0xA7AA,0xA7AA,1,-42308},
    {0xA7AB,0xA7AB,1,-42319}, {0xA7AC,0xA7AC,1,-42315}, {0xA7AD,0xA7AD,1,-42305},
    {0xA7AE,0xA7AE,1,-42308}, {0xA7B0,0xA7B0,1,-42258}, {0xA7B1,0xA7B1,1,-42282},
    {0xA7B2,0xA7B2,1,-42261}, {0xA7B3,0xA7B3,1,928}, {0xA7B4,0xA7C2,2,1}, {0xA7C4,0xA7C4,1,-48},
    {0xA7C5,0xA7C5,1,-42307}, {0xA7C6,0xA7C6,1,-35384}, {0xA7C7,0xA7C9,2,1},
    {0xA7CB,0xA7CB,1,-42343}, {0xA7CC,0xA7DA,2,1}, {0xA7DC,0xA7DC,1,-42561}, {0xA7F5,0xA7F5,1,1},
    {0xFF21,0xFF3A,1,32}, {0x10400,0x10427,1,40}, {0x104B0,0x104D3,1,40}, {0x10570,0x1057A,1,39},
    {0x1057C,0x1058A,1,39}, {0x1058C,0x10592,1,39}, {0x10594,0x10595,1,39}, {0x10C80,0x10CB2,1,64},
    {0x10D50,0x10D65,1,32}, {0x118A0,0x118BF,1,32}, {0x16E40,0x16E5F,1,32}, {0x16EA0,0x16EB8,1,27},
    {0x1E900,0x1E921,1,34},
};
static const mrc__uni_run mrc__uni_runs[] = {
    {0xC0,6,2,0}, {0xC7,9,2,12}, {0xD1,6,2,30}, {0xD9,5,2,42}, {0xE0,6,2,52}, {0xE7,9,2,64},
    {0xF1,6,2,82}, {0xF9,5,2,94}, {0xFF,17,2,104}, {0x112,20,2,138}, {0x128,9,2,178},
    {0x134,4,2,196}, {0x139,6,2,204}, {0x143,6,2,216}, {0x14C,6,2,228}, {0x154,18,2,240},
    {0x168,23,2,276}, {0x1A0,2,2,322}, {0x1AF,2,2,326}, {0x1CD,8,2,330}, {0x1D5,8,3,346},
    {0x1DE,4,3,370}, {0x1E2,2,2,382}, {0x1E6,6,2,386}, {0x1EC,2,3,398}, {0x1EE,3,2,404},
    {0x1F4,2,2,410}, {0x1F8,2,2,414}, {0x1FA,2,3,418}, {0x1FC,32,2,424}, {0x21E,2,2,488},
    {0x226,4,2,492}, {0x22A,4,3,500}, {0x22E,2,2,512}, {0x230,2,3,516}, {0x232,2,2,522},
    {0x340,2,1,526}, {0x343,1,1,528}, {0x344,1,2,529}, {0x374,1,1,531}, {0x37E,1,1,532},
    {0x385,2,2,533}, {0x387,1,1,537}, {0x388,3,2,538}, {0x38C,1,2,544}, {0x38E,2,2,546},
    {0x390,1,3,550}, {0x3AA,6,2,553}, {0x3B0,1,3,565}, {0x3CA,5,2,568}, {0x3D3,2,2,578},
    {0x400,2,2,582}, {0x403,1,2,586}, {0x407,1,2,588}, {0x40C,3,2,590}, {0x419,1,2,596},
    {0x439,1,2,598}, {0x450,2,2,600}, {0x453,1,2,604}, {0x457,1,2,606}, {0x45C,3,2,608},
    {0x476,2,2,614}, {0x4C1,2,2,618}, {0x4D0,4,2,622}, {0x4D6,2,2,630}, {0x4DA,6,2,634},
    {0x4E2,6,2,646}, {0x4EA,12,2,658}, {0x4F8,2,2,682}, {0x622,5,2,686}, {0x6C0,1,2,696},
    {0x6C2,1,2,698}, {0x6D3,1,2,700}, {0x929,1,2,702}, {0x931,1,2,704}, {0x934,1,2,706},
    {0x958,8,2,708}, {0x9CB,2,2,724}, {0x9DC,2,2,728}, {0x9DF,1,2,732}, {0xA33,1,2,734},
    {0xA36,1,2,736}, {0xA59,3,2,738}, {0xA5E,1,2,744}, {0xB48,1,2,746}, {0xB4B,2,2,748},
    {0xB5C,2,2,752}, {0xB94,1,2,756}, {0xBCA,3,2,758}, {0xC48,1,2,764}, {0xCC0,1,2,766},
    {0xCC7,2,2,768}, {0xCCA,1,2,772}, {0xCCB,1,3,774}, {0xD4A,3,2,777}, {0xDDA,1,2,783},
    {0xDDC,1,2,785}, {0xDDD,1,3,787}, {0xDDE,1,2,790}, {0xF43,1,2,792}, {0xF4D,1,2,794},
    {0xF52,1,2,796}, {0xF57,1,2,798}, {0xF5C,1,2,800}, {0xF69,1,2,802}, {0xF73,1,2,804},
    {0xF75,2,2,806}, {0xF78,1,2,810}, {0xF81,1,2,812}, {0xF93,1,2,814}, {0xF9D,1,2,816},
    {0xFA2,1,2,818}, {0xFA7,1,2,820}, {0xFAC,1,2,822}, {0xFB9,1,2,824}, {0x1026,1,2,826},
    {0x1B06,1,2,828}, {0x1B08,1,2,830}, {0x1B0A,1,2,832}, {0x1B0C,1,2,834}, {0x1B0E,1,2,836},
    {0x1B12,1,2,838}, {0x1B3B,1,2,840}, {0x1B3D,1,2,842}, {0x1B40,2,2,844}, {0x1B43,1,2,848},
    {0x1E00,8,2,850}, {0x1E08,2,3,866}, {0x1E0A,10,2,872}, {0x1E14,4,3,892}, {0x1E18,4,2,904},
    {0x1E1C,2,3,912}, {0x1E1E,16,2,918}, {0x1E2E,2,3,950}, {0x1E30,8,2,956}, {0x1E38,2,3,972},
    {0x1E3A,18,2,978}, {0x1E4C,8,3,1014}, {0x1E54,8,2,1038}, {0x1E5C,2,3,1054}, {0x1E5E,6,2,1060},
    {0x1E64,6,3,1072}, {0x1E6A,14,2,1090}, {0x1E78,4,3,1118}, {0x1E7C,30,2,1130},
    {0x1E9B,1,2,1190}, {0x1EA0,4,2,1192}, {0x1EA4,20,3,1200}, {0x1EB8,6,2,1260},
    {0x1EBE,10,3,1272}, {0x1EC8,8,2,1302}, {0x1ED0,20,3,1318}, {0x1EE4,4,2,1378},
    {0x1EE8,10,3,1386}, {0x1EF2,8,2,1416}, {0x1F00,2,2,1432}, {0x1F02,6,3,1436}, {0x1F08,2,2,1454},
    {0x1F0A,6,3,1458}, {0x1F10,2,2,1476}, {0x1F12,4,3,1480}, {0x1F18,2,2,1492}, {0x1F1A,4,3,1496},
    {0x1F20,2,2,1508}, {0x1F22,6,3,1512}, {0x1F28,2,2,1530}, {0x1F2A,6,3,1534}, {0x1F30,2,2,1552},
    {0x1F32,6,3,1556}, {0x1F38,2,2,1574}, {0x1F3A,6,3,1578}, {0x1F40,2,2,1596}, {0x1F42,4,3,1600},
    {0x1F48,2,2,1612}, {0x1F4A,4,3,1616}, {0x1F50,2,2,1628}, {0x1F52,6,3,1632}, {0x1F59,1,2,1650},
    {0x1F5B,1,3,1652}, {0x1F5D,1,3,1655}, {0x1F5F,1,3,1658}, {0x1F60,2,2,1661}, {0x1F62,6,3,1665},
    {0x1F68,2,2,1683}, {0x1F6A,6,3,1687}, {0x1F70,14,2,1705}, {0x1F80,2,3,1733}, {0x1F82,6,4,1739},
    {0x1F88,2,3,1763}, {0x1F8A,6,4,1769}, {0x1F90,2,3,1793}, {0x1F92,6,4,1799}, {0x1F98,2,3,1823},
    {0x1F9A,6,4,1829}, {0x1FA0,2,3,1853}, {0x1FA2,6,4,1859}, {0x1FA8,2,3,1883}, {0x1FAA,6,4,1889},
    {0x1FB0,2,2,1913}, {0x1FB2,1,3,1917}, {0x1FB3,1,2,1920}, {0x1FB4,1,3,1922}, {0x1FB6,1,2,1925},
    {0x1FB7,1,3,1927}, {0x1FB8,5,2,1930}, {0x1FBE,1,1,1940}, {0x1FC1,1,2,1941}, {0x1FC2,1,3,1943},
    {0x1FC3,1,2,1946}, {0x1FC4,1,3,1948}, {0x1FC6,1,2,1951}, {0x1FC7,1,3,1953}, {0x1FC8,10,2,1956},
    {0x1FD2,2,3,1976}, {0x1FD6,1,2,1982}, {0x1FD7,1,3,1984}, {0x1FD8,4,2,1987}, {0x1FDD,5,2,1995},
    {0x1FE2,2,3,2005}, {0x1FE4,3,2,2011}, {0x1FE7,1,3,2017}, {0x1FE8,7,2,2020}, {0x1FEF,1,1,2034},
    {0x1FF2,1,3,2035}, {0x1FF3,1,2,2038}, {0x1FF4,1,3,2040}, {0x1FF6,1,2,2043}, {0x1FF7,1,3,2045},
    {0x1FF8,5,2,2048}, {0x1FFD,1,1,2058}, {0x2000,2,1,2059}, {0x2126,1,1,2061}, {0x212A,1,1,2062},
    {0x212B,1,2,2063}, {0x219A,2,2,2065}, {0x21AE,1,2,2069}, {0x21CD,3,2,2071}, {0x2204,1,2,2077},
    {0x2209,1,2,2079}, {0x220C,1,2,2081}, {0x2224,1,2,2083}, {0x2226,1,2,2085}, {0x2241,1,2,2087},
    {0x2244,1,2,2089}, {0x2247,1,2,2091}, {0x2249,1,2,2093}, {0x2260,1,2,2095}, {0x2262,1,2,2097},
    {0x226D,5,2,2099}, {0x2274,2,2,2109}, {0x2278,2,2,2113}, {0x2280,2,2,2117}, {0x2284,2,2,2121},
    {0x2288,2,2,2125}, {0x22AC,4,2,2129}, {0x22E0,4,2,2137}, {0x22EA,4,2,2145}, {0x2329,2,1,2153},
    {0x2ADC,1,2,2155}, {0x304C,1,2,2157}, {0x304E,1,2,2159}, {0x3050,1,2,2161}, {0x3052,1,2,2163},
    {0x3054,1,2,2165}, {0x3056,1,2,2167}, {0x3058,1,2,2169}, {0x305A,1,2,2171}, {0x305C,1,2,2173},
    {0x305E,1,2,2175}, {0x3060,1,2,2177}, {0x3062,1,2,2179}, {0x3065,1,2,2181}, {0x3067,1,2,2183},
    {0x3069,1,2,2185}, {0x3070,2,2,2187}, {0x3073,2,2,2191}, {0x3076,2,2,2195}, {0x3079,2,2,2199},
    {0x307C,2,2,2203}, {0x3094,1,2,2207}, {0x309E,1,2,2209}, {0x30AC,1,2,2211}, {0x30AE,1,2,2213},
    {0x30B0,1,2,2215}, {0x30B2,1,2,2217}, {0x30B4,1,2,2219}, {0x30B6,1,2,2221}, {0x30B8,1,2,2223},
    {0x30BA,1,2,2225}, {0x30BC,1,2,2227}, {0x30BE,1,2,2229}, {0x30C0,1,2,2231}, {0x30C2,1,2,2233},
    {0x30C5,1,2,2235}, {0x30C7,1,2,2237}, {0x30C9,1,2,2239}, {0x30D0,2,2,2241}, {0x30D3,2,2,2245},
    {0x30D6,2,2,2249}, {0x30D9,2,2,2253}, {0x30DC,2,2,2257}, {0x30F4,1,2,2261}, {0x30F7,4,2,2263},
    {0x30FE,1,2,2271}, {0xF900,270,1,2273}, {0xFA10,1,1,2543}, {0xFA12,1,1,2544},
    {0xFA15,10,1,2545}, {0xFA20,1,1,2555}, {0xFA22,1,1,2556}, {0xFA25,2,1,2557},
    {0xFA2A,68,1,2559}, {0xFA70,106,1,2627}, {0xFB1D,1,2,2733}, {0xFB1F,1,2,2735},
    {0xFB2A,2,2,2737}, {0xFB2C,2,3,2741}, {0xFB2E,9,2,2747}, {0xFB38,5,2,2765}, {0xFB3E,1,2,2775},
    {0xFB40,2,2,2777}, {0xFB43,2,2,2781}, {0xFB46,9,2,2785}, {0x1109A,1,2,2803},
    {0x1109C,1,2,2805}, {0x110AB,1,2,2807}, {0x1112E,2,2,2809}, {0x1134B,2,2,2813},
    {0x114BB,2,2,2817}, {0x114BE,1,2,2821}, {0x115BA,2,2,2823}, {0x1D15E,2,2,2827},
    {0x1D160,5,3,2831}, {0x1D1BB,2,2,2846}, {0x1D1BD,4,3,2850}, {0x2F800,542,1,2862},
};
static const uint32_t mrc__uni_parts[] = {
    0x41, 0x300, 0x41, 0x301, 0x41, 0x302, 0x41, 0x303, 0x41, 0x308, 0x41, 0x30A, 0x43, 0x327,
    0x45, 0x300, 0x45, 0x301, 0x45, 0x302, 0x45, 0x308, 0x49, 0x300, 0x49, 0x301, 0x49, 0x302,
    0x49, 0x308, 0x4E, 0x303, 0x4F, 0x300, 0x4F, 0x301, 0x4F, 0x302, 0x4F, 0x303, 0x4F, 0x308,
    0x55, 0x300, 0x55, 0x301, 0x55, 0x302, 0x55, 0x308, 0x59, 0x301, 0x61, 0x300, 0x61, 0x301,
    0x61, 0x302, 0x61, 0x303, 0x61, 0x308, 0x61, 0x30A, 0x63, 0x327, 0x65, 0x300, 0x65, 0x301,
    0x65, 0x302, 0x65, 0x308, 0x69, 0x300, 0x69, 0x301, 0x69, 0x302, 0x69, 0x308, 0x6E, 0x303,
    0x6F, 0x300, 0x6F, 0x301, 0x6F, 0x302, 0x6F, 0x303, 0x6F, 0x308, 0x75, 0x300, 0x75, 0x301,
    0x75, 0x302, 0x75, 0x308, 0x79, 0x301, 0x79, 0x308, 0x41, 0x304, 0x61, 0x304, 0x41, 0x306,
    0x61, 0x306, 0x41, 0x328, 0x61, 0x328, 0x43, 0x301, 0x63, 0x301, 0x43, 0x302, 0x63, 0x302,
    0x43, 0x307, 0x63, 0x307, 0x43, 0x30C, 0x63, 0x30C, 0x44, 0x30C, 0x64, 0x30C, 0x45, 0x304,
    0x65, 0x304, 0x45, 0x306, 0x65, 0x306, 0x45, 0x307, 0x65, 0x307, 0x45, 0x328, 0x65, 0x328,
    0x45, 0x30C, 0x65, 0x30C, 0x47, 0x302, 0x67, 0x302, 0x47, 0x306, 0x67, 0x306, 0x47, 0x307,
    0x67, 0x307, 0x47, 0x327, 0x67, 0x327, 0x48, 0x302, 0x68, 0x302, 0x49, 0x303, 0x69, 0x303,
    0x49, 0x304, 0x69, 0x304, 0x49, 0x306, 0x69, 0x306, 0x49, 0x328, 0x69, 0x328, 0x49, 0x307,
    0x4A, 0x302, 0x6A, 0x302, 0x4B, 0x327, 0x6B, 0x327, 0x4C, 0x301, 0x6C, 0x301, 0x4C, 0x327,
    0x6C, 0x327, 0x4C, 0x30C, 0x6C, 0x30C, 0x4E, 0x301, 0x6E, 0x301, 0x4E, 0x327, 0x6E, 0x327,
    0x4E, 0x30C, 0x6E, 0x30C, 0x4F, 0x304, 0x6F, 0x304, 0x4F, 0x306, 0x6F, 0x306, 0x4F, 0x30B,
    0x6F, 0x30B, 0x52, 0x301, 0x72, 0x301, 0x52, 0x327, 0x72, 0x327, 0x52, 0x30C, 0x72, 0x30C,
    0x53, 0x301, 0x73, 0x301, 0x53, 0x302, 0x73, 0x302, 0x53, 0x327, 0x73, 0x327, 0x53, 0x30C,
    0x73, 0x30C, 0x54, 0x327, 0x74, 0x327, 0x54, 0x30C, 0x74, 0x30C, 0x55, 0x303, 0x75, 0x303,
    0x55, 0x304, 0x75, 0x304, 0x55, 0x306, 0x75, 0x306, 0x55, 0x30A, 0x75, 0x30A, 0x55, 0x30B,
    0x75, 0x30B, 0x55, 0x328, 0x75, 0x328, 0x57, 0x302, 0x77, 0x302, 0x59, 0x302, 0x79, 0x302,
    0x59, 0x308, 0x5A, 0x301, 0x7A, 0x301, 0x5A, 0x307, 0x7A, 0x307, 0x5A, 0x30C, 0x7A, 0x30C,
    0x4F, 0x31B, 0x6F, 0x31B, 0x55, 0x31B, 0x75, 0x31B, 0x41, 0x30C, 0x61, 0x30C, 0x49, 0x30C,
    0x69, 0x30C, 0x4F, 0x30C, 0x6F, 0x30C, 0x55, 0x30C, 0x75, 0x30C, 0x55, 0x308, 0x304, 0x75,
    0x308, 0x304, 0x55, 0x308, 0x301, 0x75, 0x308, 0x301, 0x55, 0x308, 0x30C, 0x75, 0x308, 0x30C,
    0x55, 0x308, 0x300, 0x75, 0x308, 0x300, 0x41, 0x308, 0x304, 0x61, 0x308, 0x304, 0x41, 0x307,
    0x304, 0x61, 0x307, 0x304, 0xC6, 0x304, 0xE6, 0x304, 0x47, 0x30C, 0x67, 0x30C, 0x4B, 0x30C,
    0x6B, 0x30C, 0x4F, 0x328, 0x6F, 0x328, 0x4F, 0x328, 0x304, 0x6F, 0x328, 0x304, 0x1B7, 0x30C,
    0x292, 0x30C, 0x6A, 0x30C, 0x47, 0x301, 0x67, 0x301, 0x4E, 0x300, 0x6E, 0x300, 0x41, 0x30A,
    0x301, 0x61, 0x30A, 0x301, 0xC6, 0x301, 0xE6, 0x301, 0xD8, 0x301, 0xF8, 0x301, 0x41, 0x30F,
    0x61, 0x30F, 0x41, 0x311, 0x61, 0x311, 0x45, 0x30F, 0x65, 0x30F, 0x45, 0x311, 0x65, 0x311,
    0x49, 0x30F, 0x69, 0x30F, 0x49, 0x311, 0x69, 0x311, 0x4F, 0x30F, 0x6F, 0x30F, 0x4F, 0x311,
    0x6F, 0x311, 0x52, 0x30F, 0x72, 0x30F, 0x52, 0x311, 0x72, 0x311, 0x55, 0x30F, 0x75, 0x30F,
    0x55, 0x311, 0x75, 0x311, 0x53, 0x326, 0x73, 0x326, 0x54, 0x326, 0x74, 0x326, 0x48, 0x30C,
    0x68, 0x30C, 0x41, 0x307, 0x61, 0x307, 0x45, 0x327, 0x65, 0x327, 0x4F, 0x308, 0x304, 0x6F,
    0x308, 0x304, 0x4F, 0x303, 0x304, 0x6F, 0x303, 0x304, 0x4F, 0x307, 0x6F, 0x307, 0x4F, 0x307,
    0x304, 0x6F, 0x307, 0x304, 0x59, 0x304, 0x79, 0x304, 0x300, 0x301, 0x313, 0x308, 0x301, 0x2B9,
    0x3B, 0xA8, 0x301, 0x391, 0x301, 0xB7, 0x395, 0x301, 0x397, 0x301, 0x399, 0x301, 0x39F, 0x301,
    0x3A5, 0x301, 0x3A9, 0x301, 0x3B9, 0x308, 0x301, 0x399, 0x308, 0x3A5, 0x308, 0x3B1, 0x301,
    0x3B5, 0x301, 0x3B7, 0x301, 0x3B9, 0x301, 0x3C5, 0x308, 0x301, 0x3B9, 0x308, 0x3C5, 0x308,
    0x3BF, 0x301, 0x3C5, 0x301, 0x3C9, 0x301, 0x3D2, 0x301, 0x3D2, 0x308, 0x415, 0x300, 0x415,
    0x308, 0x413, 0x301, 0x406, 0x308, 0x41A, 0x301, 0x418, 0x300, 0x423, 0x306, 0x418, 0x306,
    0x438, 0x306, 0x435, 0x300, 0x435, 0x308, 0x433, 0x301, 0x456, 0x308, 0x43A, 0x301, 0x438,
    0x300, 0x443, 0x306, 0x474, 0x30F, 0x475, 0x30F, 0x416, 0x306, 0x436, 0x306, 0x410, 0x306,
    0x430, 0x306, 0x410, 0x308, 0x430, 0x308, 0x415, 0x306, 0x435, 0x306, 0x4D8, 0x308, 0x4D9,
    0x308, 0x416, 0x308, 0x436, 0x308, 0x417, 0x308, 0x437, 0x308, 0x418, 0x304, 0x438, 0x304,
    0x418, 0x308, 0x438, 0x308, 0x41E, 0x308, 0x43E, 0x308, 0x4E8, 0x308, 0x4E9, 0x308, 0x42D,
    0x308, 0x44D, 0x308, 0x423, 0x304, 0x443, 0x304, 0x423, 0x308, 0x443, 0x308, 0x423, 0x30B,
    0x443, 0x30B, 0x427, 0x308, 0x447, 0x308, 0x42B, 0x308, 0x44B, 0x308, 0x627, 0x653, 0x627,
    0x654, 0x648, 0x654, 0x627, 0x655, 0x64A, 0x654, 0x6D5, 0x654, 0x6C1, 0x654, 0x6D2, 0x654,
    0x928, 0x93C, 0x930, 0x93C, 0x933, 0x93C, 0x915, 0x93C, 0x916, 0x93C, 0x917, 0x93C, 0x91C,
    0x93C, 0x921, 0x93C, 0x922, 0x93C, 0x92B, 0x93C, 0x92F, 0x93C, 0x9C7, 0x9BE, 0x9C7, 0x9D7,
    0x9A1, 0x9BC, 0x9A2, 0x9BC, 0x9AF, 0x9BC, 0xA32, 0xA3C, 0xA38, 0xA3C, 0xA16, 0xA3C, 0xA17,
    0xA3C, 0xA1C, 0xA3C, 0xA2B, 0xA3C, 0xB47, 0xB56, 0xB47, 0xB3E, 0xB47, 0xB57, 0xB21, 0xB3C,
    0xB22, 0xB3C, 0xB92, 0xBD7, 0xBC6, 0xBBE, 0xBC7, 0xBBE, 0xBC6, 0xBD7, 0xC46, 0xC56, 0xCBF,
    0xCD5, 0xCC6, 0xCD5, 0xCC6, 0xCD6, 0xCC6, 0xCC2, 0xCC6, 0xCC2, 0xCD5, 0xD46, 0xD3E, 0xD47,
    0xD3E, 0xD46, 0xD57, 0xDD9, 0xDCA, 0xDD9, 0xDCF, 0xDD9, 0xDCF, 0xDCA, 0xDD9, 0xDDF, 0xF42,
    0xFB7, 0xF4C, 0xFB7, 0xF51, 0xFB7, 0xF56, 0xFB7, 0xF5B, 0xFB7, 0xF40, 0xFB5, 0xF71, 0xF72,
    0xF71, 0xF74, 0xFB2, 0xF80, 0xFB3, 0xF80, 0xF71, 0xF80, 0xF92, 0xFB7, 0xF9C, 0xFB7, 0xFA1,
    0xFB7, 0xFA6, 0xFB7, 0xFAB, 0xFB7, 0xF90, 0xFB5, 0x1025, 0x102E, 0x1B05, 0x1B35, 0x1B07,
    0x1B35, 0x1B09, 0x1B35, 0x1B0B, 0x1B35, 0x1B0D, 0x1B35, 0x1B11, 0x1B35, 0x1B3A, 0x1B35, 0x1B3C,
    0x1B35, 0x1B3E, 0x1B35, 0x1B3F, 0x1B35, 0x1B42, 0x1B35, 0x41, 0x325, 0x61, 0x325, 0x42, 0x307,
    0x62, 0x307, 0x42, 0x323, 0x62, 0x323, 0x42, 0x331, 0x62, 0x331, 0x43, 0x327, 0x301, 0x63,
    0x327, 0x301, 0x44, 0x307, 0x64, 0x307, 0x44, 0x323, 0x64, 0x323, 0x44, 0x331, 0x64, 0x331,
    0x44, 0x327, 0x64, 0x327, 0x44, 0x32D, 0x64, 0x32D, 0x45, 0x304, 0x300, 0x65, 0x304, 0x300,
    0x45, 0x304, 0x301, 0x65, 0x304, 0x301, 0x45, 0x32D, 0x65, 0x32D, 0x45, 0x330, 0x65, 0x330,
    0x45, 0x327, 0x306, 0x65, 0x327, 0x306, 0x46, 0x307, 0x66, 0x307, 0x47, 0x304, 0x67, 0x304,
    0x48, 0x307, 0x68, 0x307, 0x48, 0x323, 0x68, 0x323, 0x48, 0x308, 0x68, 0x308, 0x48, 0x327,
    0x68, 0x327, 0x48, 0x32E, 0x68, 0x32E, 0x49, 0x330, 0x69, 0x330, 0x49, 0x308, 0x301, 0x69,
    0x308, 0x301, 0x4B, 0x301, 0x6B, 0x301, 0x4B, 0x323, 0x6B, 0x323, 0x4B, 0x331, 0x6B, 0x331,
    0x4C, 0x323, 0x6C, 0x323, 0x4C, 0x323, 0x304, 0x6C, 0x323, 0x304, 0x4C, 0x331, 0x6C, 0x331,
    0x4C, 0x32D, 0x6C, 0x32D, 0x4D, 0x301, 0x6D, 0x301, 0x4D, 0x307, 0x6D, 0x307, 0x4D, 0x323,
    0x6D, 0x323, 0x4E, 0x307, 0x6E, 0x307, 0x4E, 0x323, 0x6E, 0x323, 0x4E, 0x331, 0x6E, 0x331,
    0x4E, 0x32D, 0x6E, 0x32D, 0x4F, 0x303, 0x301, 0x6F, 0x303, 0x301, 0x4F, 0x303, 0x308, 0x6F,
    0x303, 0x308, 0x4F, 0x304, 0x300, 0x6F, 0x304, 0x300, 0x4F, 0x304, 0x301, 0x6F, 0x304, 0x301,
    0x50, 0x301, 0x70, 0x301, 0x50, 0x307, 0x70, 0x307, 0x52, 0x307, 0x72, 0x307, 0x52, 0x323,
    0x72, 0x323, 0x52, 0x323, 0x304, 0x72, 0x323, 0x304, 0x52, 0x331, 0x72, 0x331, 0x53, 0x307,
    0x73, 0x307, 0x53, 0x323, 0x73, 0x323, 0x53, 0x301, 0x307, 0x73, 0x301, 0x307, 0x53, 0x30C,
    0x307, 0x73, 0x30C, 0x307, 0x53, 0x323, 0x307, 0x73, 0x323, 0x307, 0x54, 0x307, 0x74, 0x307,
    0x54, 0x323, 0x74, 0x323, 0x54, 0x331, 0x74, 0x331, 0x54, 0x32D, 0x74, 0x32D, 0x55, 0x324,
    0x75, 0x324, 0x55, 0x330, 0x75, 0x330, 0x55, 0x32D, 0x75, 0x32D, 0x55, 0x303, 0x301, 0x75,
    0x303, 0x301, 0x55, 0x304, 0x308, 0x75, 0x304, 0x308, 0x56, 0x303, 0x76, 0x303, 0x56, 0x323,
    0x76, 0x323, 0x57, 0x300, 0x77, 0x300, 0x57, 0x301, 0x77, 0x301, 0x57, 0x308, 0x77, 0x308,
    0x57, 0x307, 0x77, 0x307, 0x57, 0x323, 0x77, 0x323, 0x58, 0x307, 0x78, 0x307, 0x58, 0x308,
    0x78, 0x308, 0x59, 0x307, 0x79, 0x307, 0x5A, 0x302, 0x7A, 0x302, 0x5A, 0x323, 0x7A, 0x323,
    0x5A, 0x331, 0x7A, 0x331, 0x68, 0x331, 0x74, 0x308, 0x77, 0x30A, 0x79, 0x30A, 0x17F, 0x307,
    0x41, 0x323, 0x61, 0x323, 0x41, 0x309, 0x61, 0x309, 0x41, 0x302, 0x301, 0x61, 0x302, 0x301,
    0x41, 0x302, 0x300, 0x61, 0x302, 0x300, 0x41, 0x302, 0x309, 0x61, 0x302, 0x309, 0x41, 0x302,
    0x303, 0x61, 0x302, 0x303, 0x41, 0x323, 0x302, 0x61, 0x323, 0x302, 0x41, 0x306, 0x301, 0x61,
    0x306, 0x301, 0x41, 0x306, 0x300, 0x61, 0x306, 0x300, 0x41, 0x306, 0x309, 0x61, 0x306, 0x309,
    0x41, 0x306, 0x303, 0x61, 0x306, 0x303, 0x41, 0x323, 0x306, 0x61, 0x323, 0x306, 0x45, 0x323,
    0x65, 0x323, 0x45, 0x309, 0x65, 0x309, 0x45, 0x303, 0x65, 0x303, 0x45, 0x302, 0x301, 0x65,
    0x302, 0x301, 0x45, 0x302, 0x300, 0x65, 0x302, 0x300, 0x45, 0x302, 0x309, 0x65, 0x302, 0x309,
    0x45, 0x302, 0x303, 0x65, 0x302, 0x303, 0x45, 0x323, 0x302, 0x65, 0x323, 0x302, 0x49, 0x309,
    0x69, 0x309, 0x49, 0x323, 0x69, 0x323, 0x4F, 0x323, 0x6F, 0x323, 0x4F, 0x309, 0x6F, 0x309,
    0x4F, 0x302, 0x301, 0x6F, 0x302, 0x301, 0x4F, 0x302, 0x300, 0x6F, 0x302, 0x300, 0x4F, 0x302,
    0x309, 0x6F, 0x302, 0x309, 0x4F, 0x302, 0x303, 0x6F, 0x302, 0x303, 0x4F, 0x323, 0x302, 0x6F,
    0x323, 0x302, 0x4F, 0x31B, 0x301, 0x6F, 0x31B, 0x301, 0x4F, 0x31B, 0x300, 0x6F, 0x31B, 0x300,
    0x4F, 0x31B, 0x309, 0x6F, 0x31B, 0x309, 0x4F, 0x31B, 0x303, 0x6F, 0x31B, 0x303, 0x4F, 0x31B,
    0x323, 0x6F, 0x31B, 0x323, 0x55, 0x323, 0x75, 0x323, 0x55, 0x309, 0x75, 0x309, 0x55, 0x31B,
    0x301, 0x75, 0x31B, 0x301, 0x55, 0x31B, 0x300, 0x75, 0x31B, 0x300, 0x55, 0x31B, 0x309, 0x75,
    0x31B, 0x309, 0x55, 0x31B, 0x303, 0x75, 0x31B, 0x303, 0x55, 0x31B, 0x323, 0x75, 0x31B, 0x323,
    0x59, 0x300, 0x79, 0x300, 0x59, 0x323, 0x79, 0x323, 0x59, 0x309, 0x79, 0x309, 0x59, 0x303,
    0x79, 0x303, 0x3B1, 0x313, 0x3B1, 0x314, 0x3B1, 0x313, 0x300, 0x3B1, 0x314, 0x300, 0x3B1,
    0x313, 0x301, 0x3B1, 0x314, 0x301, 0x3B1, 0x313, 0x342, 0x3B1, 0x314, 0x342, 0x391, 0x313,
    0x391, 0x314, 0x391, 0x313, 0x300, 0x391, 0x314, 0x300, 0x391, 0x313, 0x301, 0x391, 0x314,
    0x301, 0x391, 0x313, 0x342, 0x391, 0x314, 0x342, 0x3B5, 0x313, 0x3B5, 0x314, 0x3B5, 0x313,
    0x300, 0x3B5, 0x314, 0x300, 0x3B5, 0x313, 0x301, 0x3B5, 0x314, 0x301, 0x395, 0x313, 0x395,
    0x314, 0x395, 0x313, 0x300, 0x395, 0x314, 0x300, 0x395, 0x313, 0x301, 0x395, 0x314, 0x301,
    0x3B7, 0x313, 0x3B7, 0x314, 0x3B7, 0x313, 0x300, 0x3B7, 0x314, 0x300, 0x3B7, 0x313, 0x301,
    0x3B7, 0x314, 0x301, 0x3B7, 0x313, 0x342, 0x3B7, 0x314, 0x342, 0x397, 0x313, 0x397, 0x314,
    0x397, 0x313, 0x300, 0x397, 0x314, 0x300, 0x397, 0x313, 0x301, 0x397, 0x314, 0x301, 0x397,
    0x313, 0x342, 0x397, 0x314, 0x342, 0x3B9, 0x313, 0x3B9, 0x314, 0x3B9, 0x313, 0x300, 0x3B9,
    0x314, 0x300, 0x3B9, 0x313, 0x301, 0x3B9, 0x314, 0x301, 0x3B9, 0x313, 0x342, 0x3B9, 0x314,
    0x342, 0x399, 0x313, 0x399, 0x314, 0x399, 0x313, 0x300, 0x399, 0x314, 0x300, 0x399, 0x313,
    0x301, 0x399, 0x314, 0x301, 0x399, 0x313, 0x342, 0x399, 0x314, 0x342, 0x3BF, 0x313, 0x3BF,
    0x314, 0x3BF, 0x313, 0x300, 0x3BF, 0x314, 0x300, 0x3BF, 0x313, 0x301, 0x3BF, 0x314, 0x301,
    0x39F, 0x313, 0x39F, 0x314, 0x39F, 0x313, 0x300, 0x39F, 0x314, 0x300, 0x39F, 0x313, 0x301,
    0x39F, 0x314, 0x301, 0x3C5, 0x313, 0x3C5, 0x314, 0x3C5, 0x313, 0x300, 0x3C5, 0x314, 0x300,
    0x3C5, 0x313, 0x301, 0x3C5, 0x314, 0x301, 0x3C5, 0x313, 0x342, 0x3C5, 0x314, 0x342, 0x3A5,
    0x314, 0x3A5, 0x314, 0x300, 0x3A5, 0x314, 0x301, 0x3A5, 0x314, 0x342, 0x3C9, 0x313, 0x3C9,
    0x314, 0x3C9, 0x313, 0x300, 0x3C9, 0x314, 0x300, 0x3C9, 0x313, 0x301, 0x3C9, 0x314, 0x301,
    0x3C9, 0x313, 0x342, 0x3C9, 0x314, 0x342, 0x3A9, 0x313, 0x3A9, 0x314, 0x3A9, 0x313, 0x300,
    0x3A9, 0x314, 0x300, 0x3A9, 0x313, 0x301, 0x3A9, 0x314, 0x301, 0x3A9, 0x313, 0x342, 0x3A9,
    0x314, 0x342, 0x3B1, 0x300, 0x3B1, 0x301, 0x3B5, 0x300, 0x3B5, 0x301, 0x3B7, 0x300, 0x3B7,
    0x301, 0x3B9, 0x300, 0x3B9, 0x301, 0x3BF, 0x300, 0x3BF, 0x301, 0x3C5, 0x300, 0x3C5, 0x301,
    0x3C9, 0x300, 0x3C9, 0x301, 0x3B1, 0x313, 0x345, 0x3B1, 0x314, 0x345, 0x3B1, 0x313, 0x300,
    0x345, 0x3B1, 0x314, 0x300, 0x345, 0x3B1, 0x313, 0x301, 0x345, 0x3B1, 0x314, 0x301, 0x345,
    0x3B1, 0x313, 0x342, 0x345, 0x3B1, 0x314, 0x342, 0x345, 0x391, 0x313, 0x345, 0x391, 0x314,
    0x345, 0x391, 0x313, 0x300, 0x345, 0x391, 0x314, 0x300, 0x345, 0x391, 0x313, 0x301, 0x345,
    0x391, 0x314, 0x301, 0x345, 0x391, 0x313, 0x342, 0x345, 0x391, 0x314, 0x342, 0x345, 0x3B7,
    0x313, 0x345, 0x3B7, 0x314, 0x345, 0x3B7, 0x313, 0x300, 0x345, 0x3B7, 0x314, 0x300, 0x345,
    0x3B7, 0x313, 0x301, 0x345, 0x3B7, 0x314, 0x301, 0x345, 0x3B7, 0x313, 0x342, 0x345, 0x3B7,
    0x314, 0x342, 0x345, 0x397, 0x313, 0x345, 0x397, 0x314, 0x345, 0x397, 0x313, 0x300, 0x345,
    0x397, 0x314, 0x300, 0x345, 0x397, 0x313, 0x301, 0x345, 0x397, 0x314, 0x301, 0x345, 0x397,
    0x313, 0x342, 0x345, 0x397, 0x314, 0x342, 0x345, 0x3C9, 0x313, 0x345, 0x3C9, 0x314, 0x345,
    0x3C9, 0x313, 0x300, 0x345, 0x3C9, 0x314, 0x300, 0x345, 0x3C9, 0x313, 0x301, 0x345, 0x3C9,
    0x314, 0x301, 0x345, 0x3C9, 0x313, 0x342, 0x345, 0x3C9, 0x314, 0x342, 0x345, 0x3A9, 0x313,
    0x345, 0x3A9, 0x314, 0x345, 0x3A9, 0x313, 0x300, 0x345, 0x3A9, 0x314, 0x300, 0x345, 0x3A9,
    0x313, 0x301, 0x345, 0x3A9, 0x314, 0x301, 0x345, 0x3A9, 0x313, 0x342, 0x345, 0x3A9, 0x314,
    0x342, 0x345, 0x3B1, 0x306, 0x3B1, 0x304, 0x3B1, 0x300, 0x345, 0x3B1, 0x345, 0x3B1, 0x301,
    0x345, 0x3B1, 0x342, 0x3B1, 0x342, 0x345, 0x391, 0x306, 0x391, 0x304, 0x391, 0x300, 0x391,
    0x301, 0x391, 0x345, 0x3B9, 0xA8, 0x342, 0x3B7, 0x300, 0x345, 0x3B7, 0x345, 0x3B7, 0x301,
    0x345, 0x3B7, 0x342, 0x3B7, 0x342, 0x345, 0x395, 0x300, 0x395, 0x301, 0x397, 0x300, 0x397,
    0x301, 0x397, 0x345, 0x1FBF, 0x300, 0x1FBF, 0x301, 0x1FBF, 0x342, 0x3B9, 0x306, 0x3B9, 0x304,
    0x3B9, 0x308, 0x300, 0x3B9, 0x308, 0x301, 0x3B9, 0x342, 0x3B9, 0x308, 0x342, 0x399, 0x306,
    0x399, 0x304, 0x399, 0x300, 0x399, 0x301, 0x1FFE, 0x300, 0x1FFE, 0x301, 0x1FFE, 0x342, 0x3C5,
    0x306, 0x3C5, 0x304, 0x3C5, 0x308, 0x300, 0x3C5, 0x308, 0x301, 0x3C1, 0x313, 0x3C1, 0x314,
    0x3C5, 0x342, 0x3C5, 0x308, 0x342, 0x3A5, 0x306, 0x3A5, 0x304, 0x3A5, 0x300, 0x3A5, 0x301,
    0x3A1, 0x314, 0xA8, 0x300, 0xA8, 0x301, 0x60, 0x3C9, 0x300, 0x345, 0x3C9, 0x345, 0x3C9, 0x301,
    0x345, 0x3C9, 0x342, 0x3C9, 0x342, 0x345, 0x39F, 0x300, 0x39F, 0x301, 0x3A9, 0x300, 0x3A9,
    0x301, 0x3A9, 0x345, 0xB4, 0x2002, 0x2003, 0x3A9, 0x4B, 0x41, 0x30A, 0x2190, 0x338, 0x2192,
    0x338, 0x2194, 0x338, 0x21D0, 0x338, 0x21D4, 0x338, 0x21D2, 0x338, 0x2203, 0x338, 0x2208,
    0x338, 0x220B, 0x338, 0x2223, 0x338, 0x2225, 0x338, 0x223C, 0x338, 0x2243, 0x338, 0x2245,
    0x338, 0x2248, 0x338, 0x3D, 0x338, 0x2261, 0x338, 0x224D, 0x338, 0x3C, 0x338, 0x3E, 0x338,
    0x2264, 0x338, 0x2265, 0x338, 0x2272, 0x338, 0x2273, 0x338, 0x2276, 0x338, 0x2277, 0x338,
    0x227A, 0x338, 0x227B, 0x338, 0x2282, 0x338, 0x2283, 0x338, 0x2286, 0x338, 0x2287, 0x338,
    0x22A2, 0x338, 0x22A8, 0x338, 0x22A9, 0x338, 0x22AB, 0x338, 0x227C, 0x338, 0x227D, 0x338,
    0x2291, 0x338, 0x2292, 0x338, 0x22B2, 0x338, 0x22B3, 0x338, 0x22B4, 0x338, 0x22B5, 0x338,
    0x3008, 0x3009, 0x2ADD, 0x338, 0x304B, 0x3099, 0x304D, 0x3099, 0x304F, 0x3099, 0x3051, 0x3099,
    0x3053, 0x3099, 0x3055, 0x3099, 0x3057, 0x3099, 0x3059, 0x3099, 0x305B, 0x3099, 0x305D, 0x3099,
    0x305F, 0x3099, 0x3061, 0x3099, 0x3064, 0x3099, 0x3066, 0x3099, 0x3068, 0x3099, 0x306F, 0x3099,
    0x306F, 0x309A, 0x3072, 0x3099, 0x3072, 0x309A, 0x3075, 0x3099, 0x3075, 0x309A, 0x3078, 0x3099,
    0x3078, 0x309A, 0x307B, 0x3099, 0x307B, 0x309A, 0x3046, 0x3099, 0x309D, 0x3099, 0x30AB, 0x3099,
    0x30AD, 0x3099, 0x30AF, 0x3099, 0x30B1, 0x3099, 0x30B3, 0x3099, 0x30B5, 0x3099, 0x30B7, 0x3099,
    0x30B9, 0x3099, 0x30BB, 0x3099, 0x30BD, 0x3099, 0x30BF, 0x3099, 0x30C1, 0x3099, 0x30C4, 0x3099,
    0x30C6, 0x3099, 0x30C8, 0x3099, 0x30CF, 0x3099, 0x30CF, 0x309A, 0x30D2, 0x3099, 0x30D2, 0x309A,
    0x30D5, 0x3099, 0x30D5, 0x309A, 0x30D8, 0x3099, 0x30D8, 0x309A, 0x30DB, 0x3099, 0x30DB, 0x309A,
    0x30A6, 0x3099, 0x30EF, 0x3099, 0x30F0, 0x3099, 0x30F1, 0x3099, 0x30F2, 0x3099, 0x30FD, 0x3099,
    0x8C48, 0x66F4, 0x8ECA, 0x8CC8, 0x6ED1, 0x4E32, 0x53E5, 0x9F9C, 0x9F9C, 0x5951, 0x91D1, 0x5587,
    0x5948, 0x61F6, 0x7669, 0x7F85, 0x863F, 0x87BA, 0x88F8, 0x908F, 0x6A02, 0x6D1B, 0x70D9, 0x73DE,
    0x843D, 0x916A, 0x99F1, 0x4E82, 0x5375, 0x6B04, 0x721B, 0x862D, 0x9E1E, 0x5D50, 0x6FEB, 0x85CD,
    0x8964, 0x62C9, 0x81D8, 0x881F, 0x5ECA, 0x6717, 0x6D6A, 0x72FC, 0x90CE, 0x4F86, 0x51B7, 0x52DE,
    0x64C4, 0x6AD3, 0x7210, 0x76E7, 0x8001, 0x8606, 0x865C, 0x8DEF, 0x9732, 0x9B6F, 0x9DFA, 0x788C,
    0x797F, 0x7DA0, 0x83C9, 0x9304, 0x9E7F, 0x8AD6, 0x58DF, 0x5F04, 0x7C60, 0x807E, 0x7262, 0x78CA,
    0x8CC2, 0x96F7, 0x58D8, 0x5C62, 0x6A13, 0x6DDA, 0x6F0F, 0x7D2F, 0x7E37, 0x964B, 0x52D2, 0x808B,
    0x51DC, 0x51CC, 0x7A1C, 0x7DBE, 0x83F1, 0x9675, 0x8B80, 0x62CF, 0x6A02, 0x8AFE, 0x4E39, 0x5BE7,
    0x6012, 0x7387, 0x7570, 0x5317, 0x78FB, 0x4FBF, 0x5FA9, 0x4E0D, 0x6CCC, 0x6578, 0x7D22, 0x53C3,
    0x585E, 0x7701, 0x8449, 0x8AAA, 0x6BBA, 0x8FB0, 0x6C88, 0x62FE, 0x82E5, 0x63A0, 0x7565, 0x4EAE,
    0x5169, 0x51C9, 0x6881, 0x7CE7, 0x826F, 0x8AD2, 0x91CF, 0x52F5, 0x5442, 0x5973, 0x5EEC, 0x65C5,
    0x6FFE, 0x792A, 0x95AD, 0x9A6A, 0x9E97, 0x9ECE, 0x529B, 0x66C6, 0x6B77, 0x8F62, 0x5E74, 0x6190,
    0x6200, 0x649A, 0x6F23, 0x7149, 0x7489, 0x79CA, 0x7DF4, 0x806F, 0x8F26, 0x84EE, 0x9023, 0x934A,
    0x5217, 0x52A3, 0x54BD, 0x70C8, 0x88C2, 0x8AAA, 0x5EC9, 0x5FF5, 0x637B, 0x6BAE, 0x7C3E, 0x7375,
    0x4EE4, 0x56F9, 0x5BE7, 0x5DBA, 0x601C, 0x73B2, 0x7469, 0x7F9A, 0x8046, 0x9234, 0x96F6, 0x9748,
    0x9818, 0x4F8B, 0x79AE, 0x91B4, 0x96B8, 0x60E1, 0x4E86, 0x50DA, 0x5BEE, 0x5C3F, 0x6599, 0x6A02,
    0x71CE, 0x7642, 0x84FC, 0x907C, 0x9F8D, 0x6688, 0x962E, 0x5289, 0x677B, 0x67F3, 0x6D41, 0x6E9C,
    0x7409, 0x7559, 0x786B, 0x7D10, 0x985E, 0x516D, 0x622E, 0x9678, 0x502B, 0x5D19, 0x6DEA, 0x8F2A,
    0x5F8B, 0x6144, 0x6817, 0x7387, 0x9686, 0x5229, 0x540F, 0x5C65, 0x6613, 0x674E, 0x68A8, 0x6CE5,
    0x7406, 0x75E2, 0x7F79, 0x88CF, 0x88E1, 0x91CC, 0x96E2, 0x533F, 0x6EBA, 0x541D, 0x71D0, 0x7498,
    0x85FA, 0x96A3, 0x9C57, 0x9E9F, 0x6797, 0x6DCB, 0x81E8, 0x7ACB, 0x7B20, 0x7C92, 0x72C0, 0x7099,
    0x8B58, 0x4EC0, 0x8336, 0x523A, 0x5207, 0x5EA6, 0x62D3, 0x7CD6, 0x5B85, 0x6D1E, 0x66B4, 0x8F3B,
    0x884C, 0x964D, 0x898B, 0x5ED3, 0x5140, 0x55C0, 0x585A, 0x6674, 0x51DE, 0x732A, 0x76CA, 0x793C,
    0x795E, 0x7965, 0x798F, 0x9756, 0x7CBE, 0x7FBD, 0x8612, 0x8AF8, 0x9038, 0x90FD, 0x98EF, 0x98FC,
    0x9928, 0x9DB4, 0x90DE, 0x96B7, 0x4FAE, 0x50E7, 0x514D, 0x52C9, 0x52E4, 0x5351, 0x559D, 0x5606,
    0x5668, 0x5840, 0x58A8, 0x5C64, 0x5C6E, 0x6094, 0x6168, 0x618E, 0x61F2, 0x654F, 0x65E2, 0x6691,
    0x6885, 0x6D77, 0x6E1A, 0x6F22, 0x716E, 0x722B, 0x7422, 0x7891, 0x793E, 0x7949, 0x7948, 0x7950,
    0x7956, 0x795D, 0x798D, 0x798E, 0x7A40, 0x7A81, 0x7BC0, 0x7DF4, 0x7E09, 0x7E41, 0x7F72, 0x8005,
    0x81ED, 0x8279, 0x8279, 0x8457, 0x8910, 0x8996, 0x8B01, 0x8B39, 0x8CD3, 0x8D08, 0x8FB6, 0x9038,
    0x96E3, 0x97FF, 0x983B, 0x6075, 0x242EE, 0x8218, 0x4E26, 0x51B5, 0x5168, 0x4F80, 0x5145,
    0x5180, 0x52C7, 0x52FA, 0x559D, 0x5555, 0x5599, 0x55E2, 0x585A, 0x58B3, 0x5944, 0x5954, 0x5A62,
    0x5B28, 0x5ED2, 0x5ED9, 0x5F69, 0x5FAD, 0x60D8, 0x614E, 0x6108, 0x618E, 0x6160, 0x61F2, 0x6234,
    0x63C4, 0x641C, 0x6452, 0x6556, 0x6674, 0x6717, 0x671B, 0x6756, 0x6B79, 0x6BBA, 0x6D41, 0x6EDB,
    0x6ECB, 0x6F22, 0x701E, 0x716E, 0x77A7, 0x7235, 0x72AF, 0x732A, 0x7471, 0x7506, 0x753B, 0x761D,
    0x761F, 0x76CA, 0x76DB, 0x76F4, 0x774A, 0x7740, 0x78CC, 0x7AB1, 0x7BC0, 0x7C7B, 0x7D5B, 0x7DF4,
    0x7F3E, 0x8005, 0x8352, 0x83EF, 0x8779, 0x8941, 0x8986, 0x8996, 0x8ABF, 0x8AF8, 0x8ACB, 0x8B01,
    0x8AFE, 0x8AED, 0x8B39, 0x8B8A, 0x8D08, 0x8F38, 0x9072, 0x9199, 0x9276, 0x967C, 0x96E3, 0x9756,
    0x97DB, 0x97FF, 0x980B, 0x983B, 0x9B12, 0x9F9C, 0x2284A, 0x22844, 0x233D5, 0x3B9D, 0x4018,
    0x4039, 0x25249, 0x25CD0, 0x27ED3, 0x9F43, 0x9F8E, 0x5D9, 0x5B4, 0x5F2, 0x5B7, 0x5E9, 0x5C1,
    0x5E9, 0x5C2, 0x5E9, 0x5BC, 0x5C1, 0x5E9, 0x5BC, 0x5C2, 0x5D0, 0x5B7, 0x5D0, 0x5B8, 0x5D0,
    0x5BC, 0x5D1, 0x5BC, 0x5D2, 0x5BC, 0x5D3, 0x5BC, 0x5D4, 0x5BC, 0x5D5, 0x5BC, 0x5D6, 0x5BC,
    0x5D8, 0x5BC, 0x5D9, 0x5BC, 0x5DA, 0x5BC, 0x5DB, 0x5BC, 0x5DC, 0x5BC, 0x5DE, 0x5BC, 0x5E0,
    0x5BC, 0x5E1, 0x5BC, 0x5E3, 0x5BC, 0x5E4, 0x5BC, 0x5E6, 0x5BC, 0x5E7, 0x5BC, 0x5E8, 0x5BC,
    0x5E9, 0x5BC, 0x5EA, 0x5BC, 0x5D5, 0x5B9, 0x5D1, 0x5BF, 0x5DB, 0x5BF, 0x5E4, 0x5BF, 0x11099,
    0x110BA, 0x1109B, 0x110BA, 0x110A5, 0x110BA, 0x11131, 0x11127, 0x11132, 0x11127, 0x11347,
    0x1133E, 0x11347, 0x11357, 0x114B9, 0x114BA, 0x114B9, 0x114B0, 0x114B9, 0x114BD, 0x115B8,
    0x115AF, 0x115B9, 0x115AF, 0x1D157, 0x1D165, 0x1D158, 0x1D165, 0x1D158, 0x1D165, 0x1D16E,
    0x1D158, 0x1D165, 0x1D16F, 0x1D158, 0x1D165, 0x1D170, 0x1D158, 0x1D165, 0x1D171, 0x1D158,
    0x1D165, 0x1D172, 0x1D1B9, 0x1D165, 0x1D1BA, 0x1D165, 0x1D1B9, 0x1D165, 0x1D16E, 0x1D1BA,
    0x1D165, 0x1D16E, 0x1D1B9, 0x1D165, 0x1D16F, 0x1D1BA, 0x1D165, 0x1D16F, 0x4E3D, 0x4E38, 0x4E41,
    0x20122, 0x4F60, 0x4FAE, 0x4FBB, 0x5002, 0x507A, 0x5099, 0x50E7, 0x50CF, 0x349E, 0x2063A,
    0x514D, 0x5154, 0x5164, 0x5177, 0x2051C, 0x34B9, 0x5167, 0x518D, 0x2054B, 0x5197, 0x51A4,
    0x4ECC, 0x51AC, 0x51B5, 0x291DF, 0x51F5, 0x5203, 0x34DF, 0x523B, 0x5246, 0x5272, 0x5277,
    0x3515, 0x52C7, 0x52C9, 0x52E4, 0x52FA, 0x5305, 0x5306, 0x5317, 0x5349, 0x5351, 0x535A, 0x5373,
    0x537D, 0x537F, 0x537F, 0x537F, 0x20A2C, 0x7070, 0x53CA, 0x53DF, 0x20B63, 0x53EB, 0x53F1,
    0x5406, 0x549E, 0x5438, 0x5448, 0x5468, 0x54A2, 0x54F6, 0x5510, 0x5553, 0x5563, 0x5584, 0x5584,
    0x5599, 0x55AB, 0x55B3, 0x55C2, 0x5716, 0x5606, 0x5717, 0x5651, 0x5674, 0x5207, 0x58EE, 0x57CE,
    0x57F4, 0x580D, 0x578B, 0x5832, 0x5831, 0x58AC, 0x214E4, 0x58F2, 0x58F7, 0x5906, 0x591A,
    0x5922, 0x5962, 0x216A8, 0x216EA, 0x59EC, 0x5A1B, 0x5A27, 0x59D8, 0x5A66, 0x36EE, 0x36FC,
    0x5B08, 0x5B3E, 0x5B3E, 0x219C8, 0x5BC3, 0x5BD8, 0x5BE7, 0x5BF3, 0x21B18, 0x5BFF, 0x5C06,
    0x5F53, 0x5C22, 0x3781, 0x5C60, 0x5C6E, 0x5CC0, 0x5C8D, 0x21DE4, 0x5D43, 0x21DE6, 0x5D6E,
    0x5D6B, 0x5D7C, 0x5DE1, 0x5DE2, 0x382F, 0x5DFD, 0x5E28, 0x5E3D, 0x5E69, 0x3862, 0x22183,
    0x387C, 0x5EB0, 0x5EB3, 0x5EB6, 0x5ECA, 0x2A392, 0x5EFE, 0x22331, 0x22331, 0x8201, 0x5F22,
    0x5F22, 0x38C7, 0x232B8, 0x261DA, 0x5F62, 0x5F6B, 0x38E3, 0x5F9A, 0x5FCD, 0x5FD7, 0x5FF9,
    0x6081, 0x393A, 0x391C, 0x6094, 0x226D4, 0x60C7, 0x6148, 0x614C, 0x614E, 0x614C, 0x617A,
    0x618E, 0x61B2, 0x61A4, 0x61AF, 0x61DE, 0x61F2, 0x61F6, 0x6210, 0x621B, 0x625D, 0x62B1, 0x62D4,
    0x6350, 0x22B0C, 0x633D, 0x62FC, 0x6368, 0x6383, 0x63E4, 0x22BF1, 0x6422, 0x63C5, 0x63A9,
    0x3A2E, 0x6469, 0x647E, 0x649D, 0x6477, 0x3A6C, 0x654F, 0x656C, 0x2300A, 0x65E3, 0x66F8,
    0x6649, 0x3B19, 0x6691, 0x3B08, 0x3AE4, 0x5192, 0x5195, 0x6700, 0x669C, 0x80AD, 0x43D9, 0x6717,
    0x671B, 0x6721, 0x675E, 0x6753, 0x233C3, 0x3B49, 0x67FA, 0x6785, 0x6852, 0x6885, 0x2346D,
    0x688E, 0x681F, 0x6914, 0x3B9D, 0x6942, 0x69A3, 0x69EA, 0x6AA8, 0x236A3, 0x6ADB, 0x3C18,
    0x6B21, 0x238A7, 0x6B54, 0x3C4E, 0x6B72, 0x6B9F, 0x6BBA, 0x6BBB, 0x23A8D, 0x21D0B, 0x23AFA,
    0x6C4E, 0x23CBC, 0x6CBF, 0x6CCD, 0x6C67, 0x6D16, 0x6D3E, 0x6D77, 0x6D41, 0x6D69, 0x6D78,
    0x6D85, 0x23D1E, 0x6D34, 0x6E2F, 0x6E6E, 0x3D33, 0x6ECB, 0x6EC7, 0x23ED1, 0x6DF9, 0x6F6E,
    0x23F5E, 0x23F8E, 0x6FC6, 0x7039, 0x701E, 0x701B, 0x3D96, 0x704A, 0x707D, 0x7077, 0x70AD,
    0x20525, 0x7145, 0x24263, 0x719C, 0x243AB, 0x7228, 0x7235, 0x7250, 0x24608, 0x7280, 0x7295,
    0x24735, 0x24814, 0x737A, 0x738B, 0x3EAC, 0x73A5, 0x3EB8, 0x3EB8, 0x7447, 0x745C, 0x7471,
    0x7485, 0x74CA, 0x3F1B, 0x7524, 0x24C36, 0x753E, 0x24C92, 0x7570, 0x2219F, 0x7610, 0x24FA1,
    0x24FB8, 0x25044, 0x3FFC, 0x4008, 0x76F4, 0x250F3, 0x250F2, 0x25119, 0x25133, 0x771E, 0x771F,
    0x771F, 0x774A, 0x4039, 0x778B, 0x4046, 0x4096, 0x2541D, 0x784E, 0x788C, 0x78CC, 0x40E3,
    0x25626, 0x7956, 0x2569A, 0x256C5, 0x798F, 0x79EB, 0x412F, 0x7A40, 0x7A4A, 0x7A4F, 0x2597C,
    0x25AA7, 0x25AA7, 0x7AEE, 0x4202, 0x25BAB, 0x7BC6, 0x7BC9, 0x4227, 0x25C80, 0x7CD2, 0x42A0,
    0x7CE8, 0x7CE3, 0x7D00, 0x25F86, 0x7D63, 0x4301, 0x7DC7, 0x7E02, 0x7E45, 0x4334, 0x26228,
    0x26247, 0x4359, 0x262D9, 0x7F7A, 0x2633E, 0x7F95, 0x7FFA, 0x8005, 0x264DA, 0x26523, 0x8060,
    0x265A8, 0x8070, 0x2335F, 0x43D5, 0x80B2, 0x8103, 0x440B, 0x813E, 0x5AB5, 0x267A7, 0x267B5,
    0x23393, 0x2339C, 0x8201, 0x8204, 0x8F9E, 0x446B, 0x8291, 0x828B, 0x829D, 0x52B3, 0x82B1,
    0x82B3, 0x82BD, 0x82E6, 0x26B3C, 0x82E5, 0x831D, 0x8363, 0x83AD, 0x8323, 0x83BD, 0x83E7,
    0x8457, 0x8353, 0x83CA, 0x83CC, 0x83DC, 0x26C36, 0x26D6B, 0x26CD5, 0x452B, 0x84F1, 0x84F3,
    0x8516, 0x273CA, 0x8564, 0x26F2C, 0x455D, 0x4561, 0x26FB1, 0x270D2, 0x456B, 0x8650, 0x865C,
    0x8667, 0x8669, 0x86A9, 0x8688, 0x870E, 0x86E2, 0x8779, 0x8728, 0x876B, 0x8786, 0x45D7, 0x87E1,
    0x8801, 0x45F9, 0x8860, 0x8863, 0x27667, 0x88D7, 0x88DE, 0x4635, 0x88FA, 0x34BB, 0x278AE,
    0x27966, 0x46BE, 0x46C7, 0x8AA0, 0x8AED, 0x8B8A, 0x8C55, 0x27CA8, 0x8CAB, 0x8CC1, 0x8D1B,
    0x8D77, 0x27F2F, 0x20804, 0x8DCB, 0x8DBC, 0x8DF0, 0x208DE, 0x8ED4, 0x8F38, 0x285D2, 0x285ED,
    0x9094, 0x90F1, 0x9111, 0x2872E, 0x911B, 0x9238, 0x92D7, 0x92D8, 0x927C, 0x93F9, 0x9415,
    0x28BFA, 0x958B, 0x4995, 0x95B7, 0x28D77, 0x49E6, 0x96C3, 0x5DB2, 0x9723, 0x29145, 0x2921A,
    0x4A6E, 0x4A76, 0x97E0, 0x2940A, 0x4AB2, 0x29496, 0x980B, 0x980B, 0x9829, 0x295B6, 0x98E2,
    0x4B33, 0x9929, 0x99A7, 0x99C2, 0x99FE, 0x4BCE, 0x29B30, 0x9B12, 0x9C40, 0x9CFD, 0x4CCE,
    0x4CED, 0x9D67, 0x2A0CE, 0x4CF8, 0x2A105, 0x2A20E, 0x2A291, 0x9EBB, 0x4D56, 0x9EF9, 0x9EFE,
    0x9F05, 0x9F0F, 0x9F16, 0x9F3B, 0x2A600,
};
// end of what tests/tables/make_tables.py wrote

static const mrc__unicode mrc__unicode_tables = {
    .classes = mrc__uni_classes, .n_classes = sizeof mrc__uni_classes / sizeof *mrc__uni_classes,
    .combining = mrc__uni_combining,
    .n_combining = sizeof mrc__uni_combining / sizeof *mrc__uni_combining,
    .lowers = mrc__uni_lowers, .n_lowers = sizeof mrc__uni_lowers / sizeof *mrc__uni_lowers,
    .runs = mrc__uni_runs, .n_runs = sizeof mrc__uni_runs / sizeof *mrc__uni_runs,
    .parts = mrc__uni_parts,
};

// What tests/tables/metrics_tables.py prints: Python 3.11's classes.
static const uint16_t mrc__table_word[][2] = {
    {48,10}, {7,26}, {4,1}, {1,26}, {47,1}, {7,2}, {1,1}, {3,2}, {1,3}, {1,23}, {1,31}, {1,458},
    {4,12}, {14,5}, {7,1}, {1,1}, {129,5}, {1,2}, {2,4}, {1,1}, {6,1}, {1,3}, {1,1}, {1,20}, {1,83},
    {1,139}, {8,166}, {1,38}, {2,1}, {6,41}, {71,27}, {4,4}, {45,43}, {21,10}, {4,2}, {1,99}, {1,1},
    {15,2}, {7,15}, {2,1}, {16,1}, {1,30}, {29,89}, {11,1}, {14,43}, {9,2}, {4,1}, {5,22}, {4,1},
    {9,1}, {3,1}, {23,25}, {7,11}, {5,24}, {1,6}, {17,42}, {58,54}, {3,1}, {18,1}, {7,10}, {4,10},
    {1,16}, {4,8}, {2,2}, {2,22}, {1,7}, {1,1}, {3,4}, {3,1}, {16,1}, {13,2}, {1,3}, {4,12}, {2,6},
    {2,1}, {8,6}, {4,2}, {2,22}, {1,7}, {1,2}, {1,2}, {1,2}, {31,4}, {1,1}, {7,10}, {2,3}, {16,9},
    {1,3}, {1,22}, {1,7}, {1,2}, {1,5}, {3,1}, {18,1}, {15,2}, {4,10}, {9,1}, {11,8}, {2,2}, {2,22},
    {1,7}, {1,2}, {1,5}, {3,1}, {30,2}, {1,3}, {4,10}, {1,7}, {11,1}, {1,6}, {3,3}, {1,4}, {3,2},
    {1,1}, {1,2}, {3,2}, {3,3}, {3,12}, {22,1}, {21,13}, {18,8}, {1,3}, {1,23}, {1,16}, {3,1},
    {26,3}, {2,1}, {2,2}, {4,10}, {8,7}, {1,1}, {4,8}, {1,3}, {1,23}, {1,10}, {1,5}, {3,1}, {31,2},
    {1,2}, {4,10}, {1,2}, {17,9}, {1,3}, {1,41}, {2,1}, {16,1}, {5,3}, {1,10}, {4,19}, {1,6},
    {5,18}, {3,24}, {1,9}, {1,1}, {2,7}, {31,10}, {17,48}, {1,2}, {12,7}, {9,10}, {39,2}, {1,1},
    {1,5}, {1,24}, {1,1}, {1,10}, {1,2}, {9,1}, {2,5}, {1,1}, {9,10}, {2,4}, {32,1}, {31,20},
    {12,8}, {1,36}, {27,5}, {115,43}, {20,11}, {6,6}, {4,4}, {3,1}, {3,2}, {7,3}, {4,13}, {12,1},
    {1,10}, {6,38}, {1,1}, {5,1}, {2,43}, {1,333}, {1,4}, {2,7}, {1,1}, {1,4}, {2,41}, {1,4},
    {2,33}, {1,4}, {2,7}, {1,1}, {1,4}, {2,15}, {1,57}, {1,4}, {2,67}, {14,20}, {3,16}, {16,86},
    {2,6}, {3,620}, {2,17}, {1,26}, {5,75}, {3,11}, {7,18}, {13,19}, {14,18}, {14,13}, {1,3},
    {15,52}, {35,1}, {4,1}, {3,10}, {6,10}, {22,10}, {6,89}, {7,5}, {2,34}, {1,1}, {5,70}, {10,31},
    {39,40}, {2,5}, {11,44}, {4,26}, {6,11}, {37,23}, {9,53}, {43,10}, {6,10}, {13,1}, {93,47},
    {17,8}, {3,10}, {41,30}, {13,56}, {26,36}, {28,10}, {3,49}, {2,9}, {7,43}, {2,3}, {41,4}, {1,6},
    {1,2}, {3,1}, {5,192}, {64,278}, {2,6}, {2,38}, {2,6}, {2,8}, {1,1}, {1,1}, {1,1}, {1,31},
    {2,53}, {1,7}, {1,1}, {3,3}, {1,7}, {3,4}, {2,6}, {4,13}, {5,3}, {1,7}, {115,2}, {2,6}, {5,11},
    {6,13}, {101,1}, {4,1}, {2,10}, {1,1}, {3,5}, {6,1}, {1,1}, {1,1}, {1,4}, {1,11}, {2,4}, {5,5},
    {4,1}, {1,58}, {726,60}, {78,22}, {630,30}, {1132,229}, {6,4}, {3,2}, {9,1}, {2,38}, {1,1},
    {5,1}, {2,56}, {7,1}, {16,23}, {9,7}, {1,7}, {1,7}, {1,7}, {1,7}, {1,7}, {1,7}, {1,7}, {80,1},
    {469,3}, {25,9}, {7,5}, {2,5}, {4,86}, {6,3}, {1,90}, {1,4}, {5,43}, {1,94}, {3,4}, {10,32},
    {48,16}, {32,10}, {30,8}, {1,15}, {32,10}, {39,15}, {320,6592}, {64,22157}, {67,46}, {2,269},
    {3,28}, {20,47}, {16,31}, {2,80}, {39,9}, {2,103}, {2,64}, {5,2}, {1,1}, {1,5}, {24,16}, {1,3},
    {1,4}, {1,23}, {13,6}, {10,52}, {14,50}, {28,10}, {24,6}, {3,1}, {1,2}, {1,38}, {10,23},
    {25,29}, {7,47}, {28,11}, {6,5}, {1,25}, {1,41}, {23,3}, {1,8}, {4,10}, {6,23}, {3,1}, {3,50},
    {1,1}, {3,2}, {2,5}, {2,1}, {1,1}, {24,3}, {2,11}, {7,3}, {12,6}, {2,6}, {2,6}, {9,7}, {1,7},
    {1,43}, {1,14}, {6,115}, {13,10}, {6,11172}, {12,23}, {4,49}, {8452,366}, {2,106}, {38,7},
    {12,5}, {5,1}, {1,10}, {1,13}, {1,5}, {1,1}, {1,2}, {1,2}, {1,108}, {33,363}, {18,64}, {2,54},
    {40,12}, {116,5}, {1,135}, {19,10}, {7,26}, {6,26}, {11,89}, {3,6}, {2,6}, {2,6}, {2,3},
    {35,12}, {1,26}, {1,19}, {1,2}, {1,15}, {2,14}, {34,123}, {12,45}, {12,57}, {17,2}, {244,29},
    {3,49}, {16,27}, {4,36}, {9,30}, {5,38}, {10,30}, {2,36}, {4,8}, {1,5}, {42,158}, {2,10},
    {6,36}, {4,36}, {4,40}, {8,52}, {12,11}, {1,15}, {1,7}, {1,2}, {1,11}, {1,15}, {1,7}, {1,2},
    {67,311}, {9,22}, {10,8}, {24,6}, {1,42}, {1,9}, {69,6}, {2,1}, {1,44}, {1,2}, {3,1}, {2,23},
    {2,31}, {2,38}, {8,9}, {48,19}, {1,2}, {5,33}, {4,26}, {70,56}, {4,20}, {2,47}, {15,4}, {1,3},
    {1,29}, {10,9}, {23,31}, {1,32}, {32,8}, {1,28}, {6,5}, {16,54}, {10,22}, {2,27}, {5,26},
    {23,7}, {80,73}, {55,51}, {13,51}, {7,42}, {12,10}, {294,31}, {1,42}, {6,2}, {78,40}, {8,22},
    {11,4}, {27,18}, {46,28}, {20,23}, {12,53}, {26,30}, {1,2}, {2,1}, {13,45}, {32,25}, {7,10},
    {9,36}, {15,10}, {4,1}, {2,1}, {8,35}, {3,1}, {12,48}, {14,4}, {11,11}, {1,1}, {4,20}, {11,18},
    {1,25}, {84,7}, {1,1}, {1,4}, {1,15}, {1,10}, {7,47}, {17,10}, {11,8}, {2,2}, {2,22}, {1,7},
    {1,2}, {1,5}, {3,1}, {18,1}, {12,5}, {158,53}, {18,4}, {5,10}, {5,3}, {30,48}, {20,2}, {1,1},
    {8,10}, {166,47}, {41,4}, {36,48}, {20,1}, {11,10}, {38,43}, {13,1}, {7,10}, {54,27}, {21,12},
    {4,7}, {185,44}, {116,83}, {12,8}, {2,1}, {2,8}, {1,2}, {1,24}, {15,1}, {1,1}, {14,10}, {70,8},
    {2,39}, {16,1}, {1,1}, {28,1}, {10,40}, {7,1}, {21,1}, {11,46}, {19,1}, {18,73}, {263,9},
    {1,37}, {17,1}, {15,29}, {5,30}, {112,7}, {1,2}, {1,38}, {21,1}, {9,10}, {6,6}, {1,2}, {1,32},
    {14,1}, {7,10}, {310,19}, {189,1}, {15,21}, {43,922}, {102,111}, {17,196}, {2636,97}, {15,1071},
    {4049,583}, {8633,569}, {7,31}, {1,10}, {6,79}, {1,10}, {6,30}, {18,48}, {16,4}, {12,10}, {1,7},
    {1,21}, {5,19}, {688,87}, {105,75}, {5,1}, {66,13}, {64,2}, {1,1}, {28,6136}, {8,1238}, {42,9},
    {8935,4}, {1,7}, {1,2}, {1,291}, {45,3}, {17,4}, {8,396}, {2308,107}, {5,13}, {3,9}, {7,10},
    {5702,20}, {108,25}, {135,85}, {1,71}, {1,2}, {2,1}, {2,2}, {2,4}, {1,12}, {1,1}, {1,7}, {1,65},
    {1,4}, {2,8}, {1,7}, {1,28}, {1,4}, {1,5}, {1,1}, {3,7}, {1,340}, {2,25}, {1,25}, {1,31},
    {1,25}, {1,31}, {1,25}, {1,31}, {1,25}, {1,31}, {1,25}, {1,8}, {2,50}, {1792,31}, {481,45},
    {10,7}, {2,10}, {4,1}, {321,30}, {18,44}, {4,10}, {1254,7}, {1,4}, {1,2}, {1,15}, {1,197},
    {2,9}, {48,68}, {7,1}, {4,10}, {791,59}, {1,3}, {1,4}, {76,45}, {1,15}, {194,4}, {1,27}, {1,2},
    {1,1}, {2,1}, {1,10}, {1,4}, {1,1}, {1,1}, {6,1}, {4,1}, {1,1}, {1,1}, {1,3}, {1,2}, {1,1},
    {2,1}, {1,1}, {1,1}, {1,1}, {1,1}, {1,2}, {1,1}, {2,4}, {1,7}, {1,4}, {1,4}, {1,1}, {1,10},
    {1,17}, {5,3}, {1,5}, {1,17}, {580,13}, {2787,10}, {1030,42720}, {32,4153}, {7,222}, {2,5762},
    {14,7473}, {3103,542}, {1506,4939},
};
static const uint16_t mrc__table_cased[][2] = {
    {65,26}, {6,26}, {47,1}, {10,1}, {4,1}, {5,23}, {1,31}, {1,195}, {1,4}, {4,208}, {1,27},
    {192,4}, {2,2}, {3,3}, {1,1}, {6,1}, {1,3}, {1,1}, {1,20}, {1,83}, {1,139}, {8,166}, {1,38},
    {9,41}, {2839,38}, {1,1}, {5,1}, {2,43}, {2,3}, {672,86}, {2,6}, {2178,9}, {7,43}, {2,3},
    {64,44}, {63,13}, {1,34}, {101,278}, {2,6}, {2,38}, {2,6}, {2,8}, {1,1}, {1,1}, {1,1}, {1,31},
    {2,53}, {1,7}, {1,1}, {3,3}, {1,7}, {3,4}, {2,6}, {4,13}, {5,3}, {1,7}, {261,1}, {4,1}, {2,10},
    {1,1}, {3,5}, {6,1}, {1,1}, {1,1}, {1,4}, {1,6}, {4,1}, {2,4}, {5,5}, {4,1}, {17,32}, {3,2},
    {817,52}, {1814,124}, {2,103}, {6,4}, {3,2}, {12,38}, {1,1}, {5,1}, {30994,46}, {18,28},
    {134,78}, {1,23}, {3,4}, {1,59}, {5,2}, {1,1}, {1,5}, {27,2}, {3,1}, {821,43}, {5,9}, {7,80},
    {20288,7}, {12,5}, {1033,26}, {6,26}, {1189,80}, {96,36}, {4,36}, {116,11}, {1,15}, {1,7},
    {1,2}, {1,11}, {1,15}, {1,7}, {1,2}, {1731,51}, {13,51}, {2989,64}, {21856,64}, {25984,85},
    {1,71}, {1,2}, {2,1}, {2,2}, {2,4}, {1,12}, {1,1}, {1,7}, {1,65}, {1,4}, {2,8}, {1,7}, {1,28},
    {1,4}, {1,5}, {1,1}, {3,7}, {1,340}, {2,25}, {1,25}, {1,31}, {1,25}, {1,31}, {1,25}, {1,31},
    {1,25}, {1,31}, {1,25}, {1,8}, {1844,10}, {1,20}, {2529,68}, {2028,26}, {6,26}, {6,26},
};
static const uint16_t mrc__table_ignorable[][2] = {
    {39,1}, {6,1}, {11,1}, {35,1}, {1,1}, {71,1}, {4,1}, {1,1}, {4,1}, {2,2}, {503,192}, {4,2},
    {4,1}, {9,2}, {1,1}, {251,7}, {207,1}, {5,1}, {49,45}, {1,1}, {1,2}, {1,2}, {1,1}, {44,1},
    {11,6}, {10,11}, {1,1}, {35,1}, {10,21}, {16,1}, {101,8}, {1,10}, {1,4}, {33,1}, {1,1}, {30,27},
    {91,11}, {58,11}, {4,1}, {2,1}, {24,24}, {43,3}, {44,1}, {7,2}, {6,8}, {41,58}, {55,1}, {1,1},
    {4,8}, {4,1}, {3,7}, {10,2}, {13,1}, {15,1}, {58,1}, {4,4}, {8,1}, {20,2}, {26,1}, {2,2},
    {57,1}, {4,2}, {4,2}, {2,3}, {3,1}, {30,2}, {3,1}, {11,2}, {57,1}, {4,5}, {1,2}, {4,1}, {20,2},
    {22,6}, {1,1}, {58,1}, {2,1}, {1,4}, {8,1}, {7,2}, {11,2}, {30,1}, {61,1}, {12,1}, {50,1},
    {3,1}, {55,1}, {1,3}, {5,3}, {1,4}, {7,2}, {11,2}, {29,1}, {58,1}, {2,1}, {6,1}, {5,2}, {20,2},
    {28,2}, {57,2}, {4,4}, {8,1}, {20,2}, {29,1}, {72,1}, {7,3}, {1,1}, {90,1}, {2,7}, {11,9},
    {98,1}, {2,9}, {9,1}, {1,6}, {74,2}, {27,1}, {1,1}, {1,1}, {55,14}, {1,5}, {1,2}, {5,11},
    {1,36}, {9,1}, {102,4}, {1,6}, {1,2}, {2,2}, {25,2}, {4,3}, {16,4}, {13,1}, {2,2}, {6,1},
    {15,1}, {94,1}, {608,3}, {946,3}, {29,2}, {30,2}, {30,2}, {64,2}, {1,7}, {8,1}, {2,11}, {3,1},
    {5,1}, {45,5}, {51,1}, {65,2}, {34,1}, {118,3}, {4,2}, {9,1}, {6,3}, {219,2}, {2,1}, {58,1},
    {1,7}, {1,1}, {1,1}, {2,8}, {6,10}, {2,1}, {39,1}, {8,31}, {49,4}, {48,1}, {1,5}, {1,1}, {5,1},
    {40,9}, {12,2}, {32,4}, {2,2}, {1,3}, {56,1}, {1,2}, {3,1}, {1,3}, {58,8}, {2,2}, {64,6},
    {82,3}, {1,13}, {1,7}, {4,1}, {6,1}, {3,2}, {50,63}, {13,1}, {34,101}, {445,1}, {1,3}, {11,3},
    {13,3}, {13,3}, {13,2}, {12,5}, {8,2}, {10,1}, {2,1}, {2,5}, {49,5}, {1,10}, {1,1}, {13,1},
    {16,13}, {51,33}, {2955,2}, {113,3}, {125,1}, {15,1}, {96,32}, {47,1}, {469,1}, {36,4}, {3,5},
    {5,1}, {93,6}, {93,3}, {28438,1}, {1250,6}, {270,1}, {98,4}, {1,10}, {1,1}, {28,4}, {80,2},
    {14,34}, {78,1}, {23,3}, {103,3}, {3,2}, {8,1}, {3,1}, {4,1}, {25,2}, {5,1}, {151,2}, {26,18},
    {13,1}, {38,8}, {25,11}, {46,3}, {48,1}, {2,4}, {2,2}, {17,1}, {21,2}, {66,6}, {2,2}, {2,2},
    {12,1}, {8,1}, {35,1}, {11,1}, {51,1}, {1,3}, {2,2}, {5,2}, {1,1}, {27,1}, {14,2}, {5,2}, {1,1},
    {100,5}, {9,3}, {121,1}, {2,1}, {4,1}, {20272,1}, {147,17}, {573,16}, {3,1}, {12,16}, {34,1},
    {2,1}, {169,1}, {7,1}, {6,1}, {11,1}, {35,1}, {1,1}, {47,1}, {45,2}, {67,1}, {21,3}, {513,1},
    {226,1}, {149,5}, {1029,6}, {1,42}, {1,9}, {582,3}, {1,2}, {5,4}, {40,3}, {4,1}, {165,2},
    {573,4}, {387,2}, {153,11}, {49,4}, {123,1}, {54,15}, {41,1}, {2,2}, {10,3}, {49,4}, {2,2},
    {2,1}, {4,1}, {10,1}, {50,3}, {36,5}, {1,8}, {62,1}, {12,2}, {52,9}, {10,4}, {2,1}, {95,3},
    {2,1}, {1,2}, {6,1}, {160,1}, {3,8}, {21,2}, {57,2}, {3,1}, {37,7}, {3,5}, {195,8}, {2,3},
    {1,1}, {23,1}, {84,6}, {1,1}, {4,2}, {1,2}, {238,4}, {6,2}, {1,2}, {27,2}, {85,8}, {2,1}, {1,2},
    {106,1}, {1,1}, {2,6}, {1,1}, {101,3}, {2,4}, {1,5}, {259,9}, {1,2}, {256,2}, {1,1}, {4,1},
    {144,4}, {2,2}, {4,1}, {32,10}, {40,6}, {2,4}, {8,1}, {9,6}, {2,3}, {46,13}, {1,2}, {406,7},
    {1,6}, {1,1}, {82,22}, {2,7}, {1,2}, {1,2}, {122,6}, {3,1}, {1,2}, {1,7}, {1,1}, {72,2}, {3,1},
    {1,1}, {347,2}, {5435,9}, {14007,5}, {59,7}, {9,4}, {1035,1}, {63,17}, {64,2}, {1,2}, {16395,4},
    {1,7}, {1,2}, {3230,2}, {1,4}, {4700,46}, {2,23}, {544,3}, {9,16}, {2,7}, {30,4}, {148,3},
    {1979,55}, {4,50}, {8,1}, {14,1}, {22,5}, {1,15}, {1360,7}, {1,17}, {2,7}, {1,2}, {1,5},
    {261,14}, {368,1}, {61,4}, {1504,7}, {109,8}, {2735,5}, {65535,0}, {65535,0}, {65535,0},
    {65535,0}, {65535,0}, {65535,0}, {65535,0}, {65535,0}, {65535,0}, {65535,0}, {65535,0},
    {65535,0}, {3085,1}, {30,96}, {128,240},
};

static const mrc__met_class mrc__met_tables[MRC__MET_CLASSES] = {
    [MRC__MET_WORD] = { mrc__table_word, sizeof mrc__table_word / sizeof *mrc__table_word },
    [MRC__MET_CASED] = { mrc__table_cased, sizeof mrc__table_cased / sizeof *mrc__table_cased },
    [MRC__MET_IGNORABLE] = { mrc__table_ignorable,
                             sizeof mrc__table_ignorable / sizeof *mrc__table_ignorable },
};
#endif // core pass

#undef MRC__PASS_CORE
// Each kernel pass ends here and takes its parameters with it.
#undef MRC__REAL
#undef MRC__T
