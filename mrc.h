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
//     >>impl.naive  >>impl.cpu  >>impl.optim  >>impl.tokenizer  >>impl.dataset  >>impl.encode
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
MRCDEF size_t mrc_utf8_encode(uint32_t cp, char out[4]);            // bytes written
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
    MRC_TRUNCATION_NONE, MRC_TRUNCATION_LONGEST_FIRST, MRC_TRUNCATION_ONLY_SECOND
} mrc_truncation;
typedef struct mrc_encode_options { // a desc: zero is the default
    mrc_truncation truncation;
    size_t         max_length;      // tokens with the special ones; 0: no limit
    size_t         stride;          // only_second: the *overlap* of two windows, as in HF
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
// The windows of one text or pair: one, or with only_second as many as it takes.
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
//==============================================================================

//==============================================================================
// >>impl.json
//==============================================================================

//==============================================================================
// >>impl.file
//==============================================================================

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
// >>impl.tokenizer
//==============================================================================
#ifdef MRC__PASS_CORE
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
        mrc__ds_log(l, "%s: %zu rows have the id of another (the first: \"%.60s\"); all are kept",
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
// sigma, str.split(), and \w of re.
//
// The classes are pairs of (code points to skip, code points in the class), of Unicode 14 (Python
// 3.11): python tests/tables/metrics_tables.py prints them.  They are searched rarely, so from the
// beginning: at the edges of what may be an article, and around a capital sigma.
//==============================================================================
#ifdef MRC__PASS_CORE
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

typedef struct mrc__met_text { uint32_t *cp; size_t n; } mrc__met_text;

#define mrc__met_in(table, cp) mrc__met_search(table, sizeof(table) / sizeof *(table), cp)
static int mrc__met_search(const uint16_t (*pairs)[2], size_t n, uint32_t cp) {
    uint32_t at = 0;
    for (size_t i = 0; i < n; i++) {
        at += pairs[i][0];
        if (cp < at) return 0;
        at += pairs[i][1];
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
        if (!mrc__met_in(mrc__table_ignorable, t.cp[i])) {
            return mrc__met_in(mrc__table_cased, t.cp[i]);
        }
    }
}

// The code points of s; `room` may take three times as many as s has bytes.
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

static mrc__met_text mrc__met_lower(uint32_t *room, mrc__met_text t) {
    mrc__met_text low = { room, 0 };
    for (size_t i = 0; i < t.n; i++) {
        if (t.cp[i] == 0x3a3 && mrc__met_sees_cased(t, i, -1) && !mrc__met_sees_cased(t, i, 1)) {
            low.cp[low.n++] = 0x3c2;
        } else {
            low.n += mrc__lower(t.cp[i], low.cp + low.n);
        }
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
        if (length && (left == length || !mrc__met_in(mrc__table_word, c[length]))) {
            t->cp[n++] = ' ';
            i += length;
            continue;
        }
        // Only before an a or a t does it matter whether a word is running.
        in_word = left >= 2 && (c[1] == 'a' || c[1] == 't') && mrc__met_in(mrc__table_word, c[0]);
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
    if (!mrc__mul(bytes, 4 * sizeof(uint32_t), &size) || !mrc__add(size, 4, &size)) return t;
    uint32_t *room = ctx->host.alloc(ctx->host.user, size);
    if (!room) return t;
    t = mrc__met_decode(room + 3 * bytes, s, bytes);
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
// >>impl.tables
//==============================================================================
#ifdef MRC__PASS_CORE
#endif // core pass

#undef MRC__PASS_CORE
// Each kernel pass ends here and takes its parameters with it.
#undef MRC__REAL
#undef MRC__T
