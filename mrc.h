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
//     >>op.common  >>op.embedding  >>op.linear  >>op.qkv  >>op.gelu  >>op.layer_norm  >>op.dropout
//     >>op.attention  >>op.add_norm  >>op.lstm  >>op.cross_entropy  >>op.optim  >>op.custom
//     >>op.table
//     >>impl.naive  >>impl.cpu_math  >>impl.cpu_gemm  >>impl.cpu_ops  >>impl.cpu_attention
//     >>impl.cpu_lstm  >>impl.cpu  >>impl.optim  >>impl.tokenizer  >>impl.dataset  >>impl.encode
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

// What a dropout mask is made of (contract D); threshold 0: nothing is dropped, scale is 1.
typedef struct mrc_mask {
    uint32_t key[2];                // mrc_dropout_key()
    uint64_t threshold;             // floor(p * 2^32); an element is dropped when its u32 is below
    double   scale;                 // 1 / (1 - p)
} mrc_mask;

// Forward and backward are the same map: to = keep(element) ? from * scale : 0.
typedef struct mrc_dropout_args {
    size_t   n, n_sequences, h;
    mrc_mask mask;
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

// y = word[input_ids] + position[position_ids] + token_type[token_type_ids]; ids are checked before.
typedef struct mrc_embedding_fwd_args {
    size_t  n, h;                   // rows, columns
    mrc_in  input_ids, position_ids, token_type_ids;            // (N) i32
    mrc_in  word, position, token_type;                         // (V, H) (P, H) (Y, H): masters
    mrc_out y;                      // (N, H)
    void   *workspace;
} mrc_embedding_fwd_args;

typedef struct mrc_embedding_bwd_args {
    size_t  n, h, n_words, n_positions, n_types;                // the tables' rows
    int32_t word_padding, position_padding;     // rows that get no gradient; -1: none
    mrc_in  input_ids, position_ids, token_type_ids, dy;
    mrc_out dword, dposition, dtoken_type;
    void   *workspace;
} mrc_embedding_bwd_args;

// Three linear maps of one x into the columns of one y: query, key, value.
typedef struct mrc_qkv_fwd_args {
    size_t  n, in, out;             // out: of each
    mrc_in  x, weight[3], bias[3];  // (N, I) (O, I) (O)
    mrc_out y;                      // (N, 3 O)
    void   *workspace;
} mrc_qkv_fwd_args;

typedef struct mrc_qkv_bwd_args {
    size_t  n, in, out;
    mrc_in  x, weight[3], dy;
    mrc_out dx, dweight[3], dbias[3];
    void   *workspace;
} mrc_qkv_bwd_args;

typedef struct mrc_attention_fwd_args {
    size_t   n, n_sequences, max_length, heads, d;
    double   scale;                 // of the scores: 1 / sqrt(d)
    mrc_mask mask;                  // of the weights
    mrc_in   cu_seqlens, real_len, sequence_index;      // keys from real_len on have weight 0
    mrc_in   qkv;                   // (N, 3 A D): queries, keys, values, each by head
    mrc_out  y, lse;                // (N, A D); (A, N): log-sum-exp of scores, saved for backward
    void    *workspace;
} mrc_attention_fwd_args;

typedef struct mrc_attention_bwd_args {
    size_t   n, n_sequences, max_length, heads, d;
    double   scale;
    mrc_mask mask;
    mrc_in   cu_seqlens, real_len, sequence_index, qkv, lse, dy;
    mrc_out  dqkv;
    void    *workspace;
} mrc_attention_bwd_args;

// y = layer_norm(residual + dropout(x)): the end of each half of an encoder layer.
typedef struct mrc_add_norm_fwd_args {
    size_t   n, h, n_sequences;
    double   eps;
    mrc_mask mask;
    mrc_in   cu_seqlens, sequence_index, x, residual, weight, bias;
    mrc_out  y, sum, mean, rstd;    // sum (N, H), mean, rstd (N): saved for backward
    void    *workspace;
} mrc_add_norm_fwd_args;

typedef struct mrc_add_norm_bwd_args {
    size_t   n, h, n_sequences;
    mrc_mask mask;
    mrc_in   cu_seqlens, sequence_index, weight, mean, rstd, dy;
    mrc_out  sum;                   // as saved; afterwards anything
    mrc_out  dx, dresidual, dweight, dbias;
    void    *workspace;
} mrc_add_norm_bwd_args;

// A bidirectional layer; index 0 runs forward, 1 in reverse.  Gates i, f, g, o, as in PyTorch.
typedef struct mrc_lstm_fwd_args {
    size_t  n, n_sequences, max_length, in, h;
    mrc_in  cu_seqlens, x;          // (B + 1), (N, I)
    mrc_in  weight_ih[2], weight_hh[2], bias_ih[2], bias_hh[2]; // (4H, I) (4H, H) (4H) (4H)
    mrc_out y;                      // (N, 2 H)
    mrc_out gates, cells;           // (N, 8 H) after activation, (N, 2 H): saved for backward
    void   *workspace;
} mrc_lstm_fwd_args;

typedef struct mrc_lstm_bwd_args {
    size_t  n, n_sequences, max_length, in, h;
    mrc_in  cu_seqlens, x, weight_ih[2], weight_hh[2], y, dy;
    mrc_out gates, cells;           // as saved; afterwards the gates' gradients, or anything
    mrc_out dx, dweight_ih[2], dweight_hh[2], dbias_ih[2], dbias_hh[2];
    void   *workspace;
} mrc_lstm_bwd_args;

// What the optimizer's kernels do to one parameter.  The array is host memory.
typedef struct mrc_optim_tensor {
    size_t  numel;
    mrc_in  grad;
    mrc_out param, copy, m, v;      // copy: the 16-bit one, data NULL when there is none
    double  lr, weight_decay;
} mrc_optim_tensor;

// Begins an optimizer step: norm = ||all gradients||, clip = min(1, max_norm / (norm + 1e-6)), or 1
// with max_norm 0.  state (2) i32: [0] counts the steps applied; [1] is 1 and nothing is counted
// when the norm is not finite.
typedef struct mrc_grad_norm_args {
    size_t  n_tensors;
    const mrc_optim_tensor *tensors;
    double  max_norm;
    mrc_out norm, clip, state;
    void   *workspace;
} mrc_grad_norm_args;

typedef enum mrc_adamw { MRC_ADAMW_HF, MRC_ADAMW_TORCH } mrc_adamw;     // PARITY 3.11
typedef struct mrc_adamw_args {
    size_t  n_tensors;
    const mrc_optim_tensor *tensors;
    mrc_adamw variant;
    double  beta1, beta2, eps;
    mrc_in  clip, state;            // as mrc_grad_norm left them; state[1]: do nothing
    void   *workspace;
} mrc_adamw_args;

// The kernels, once.  NULL: the backend has none, and an op that needs it is MRC_ERR_UNSUPPORTED.
// Each has a query of its workspace, NULL for 0 bytes: asked with the args, before the kernel runs.
#define MRC_KERNEL_LIST(X)                                                                  \
    X(gemm) X(embedding_fwd) X(embedding_bwd) X(linear_fwd) X(linear_bwd) X(qkv_fwd)        \
    X(qkv_bwd) X(attention_fwd) X(attention_bwd) X(gelu_fwd) X(gelu_bwd) X(layer_norm_fwd)  \
    X(layer_norm_bwd) X(add_norm_fwd) X(add_norm_bwd) X(dropout_fwd) X(dropout_bwd)         \
    X(lstm_fwd) X(lstm_bwd) X(cross_entropy_fwd) X(cross_entropy_bwd) X(grad_norm) X(adamw)
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

typedef enum mrc_isa { MRC_ISA_AUTO, MRC_ISA_BASELINE, MRC_ISA_AVX2, MRC_ISA_AVX512 } mrc_isa;

typedef struct mrc_backend_desc {   // NULL or zero-initialised: malloc, the best instruction set
    mrc_allocator allocator;
    mrc_isa       isa;              // cpu only; one that the machine lacks is MRC_ERR_UNSUPPORTED
    size_t        threads;          // cpu only; 0: the processors this process may use, at most 64
} mrc_backend_desc;

// naive: plain loops, f32 and f64, the oracle.  cpu: fast kernels on threads, held to it by tests.
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

// A packed batch (contract B): sequence s is rows cu_seqlens[s] to cu_seqlens[s + 1] - 1.  Pads, if
// any, are rows from real_len[s] on: no attention looks at them, but they have outputs.
typedef struct mrc_batch {
    size_t      n_tokens, n_sequences;
    size_t      max_length;         // of a sequence: what a device needs to size a launch
    mrc_tensor *cu_seqlens;         // (B + 1) i32, and so the rest
    mrc_tensor *sequence_index;     // (B): the sequence's index within the optimizer step
    mrc_tensor *real_len;           // (B)
    mrc_tensor *loss_begin, *loss_end;  // (B): the rows of a sequence that the loss looks at
    mrc_tensor *targets;            // (2, B): start and end positions; outside: not counted
    mrc_tensor *input_ids, *token_type_ids, *position_ids;      // (N); NULL: none were given
    int32_t     max_input_id, max_token_type_id, max_position_id;
} mrc_batch;

// Host arrays, checked here so that kernels may trust them.
typedef struct mrc_batch_desc {
    size_t         n_sequences;
    const int32_t *cu_seqlens;                          // required
    const int32_t *sequence_index;                      // NULL: 0, 1, ..
    const int32_t *real_len, *loss_begin, *loss_end;    // NULL: the length, 0, the length
    const int32_t *start_positions, *end_positions;     // NULL: -1
    const int32_t *input_ids;                           // NULL: no ids at all
    const int32_t *token_type_ids, *position_ids;       // NULL: 0; counted from 0
} mrc_batch_desc;
MRCDEF mrc_status mrc_batch_new(mrc_ctx *ctx, mrc_batch *out, const mrc_batch_desc *desc);

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
// word (V, H), position (P, H), token_type (Y, H) -> (N, H).  Rows word_padding and
// position_padding get no gradient; -1: all do.
MRCDEF mrc_tensor *mrc_embedding(mrc_ctx *ctx, mrc_tensor *word, mrc_tensor *position,
                                 mrc_tensor *token_type, int32_t word_padding,
                                 int32_t position_padding, const mrc_batch *batch);
// weight and bias: query, key, value, each (O, I) and (O) -> (N, 3 O).
MRCDEF mrc_tensor *mrc_qkv(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *const weight[3],
                           mrc_tensor *const bias[3]);
// qkv (N, 3 H) -> (N, H); weights are dropped with probability p.
MRCDEF mrc_tensor *mrc_attention(mrc_ctx *ctx, mrc_tensor *qkv, size_t heads, double p,
                                 uint32_t site, const mrc_batch *batch);
// layer_norm(residual + dropout(x)).
MRCDEF mrc_tensor *mrc_add_norm(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *residual,
                                mrc_tensor *weight, mrc_tensor *bias, double eps, double p,
                                uint32_t site, const mrc_batch *batch);
// One bidirectional layer, x (N, I) -> (N, 2 H).  weights: weight_ih (4H, I), weight_hh (4H, H),
// bias_ih, bias_hh (4H), then the same of the reverse direction.
MRCDEF mrc_tensor *mrc_lstm(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *const weights[8],
                            const mrc_batch *batch);
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
typedef struct mrc_answer { const char *text; size_t bytes; int64_t answer_start; } mrc_answer;
typedef struct mrc_example {        // answer_start counts code points of context
    const char *id, *title, *context, *question;        // valid UTF-8, NUL-terminated; title may be ""
    size_t      context_bytes, question_bytes;
    mrc_answer *answers;            // checked: context has the text at answer_start
    size_t      n_answers;
} mrc_example;
typedef struct mrc_dataset mrc_dataset;
// Rows that cannot be used are left out, counted by reason, and the first ten logged.
MRCDEF mrc_status mrc_dataset_load(mrc_ctx *ctx, mrc_dataset **out, const char *path);
MRCDEF void       mrc_dataset_free(mrc_dataset *d);                 // NULL is fine
MRCDEF size_t     mrc_dataset_size(const mrc_dataset *d);
MRCDEF size_t     mrc_dataset_rows(const mrc_dataset *d);           // with those left out
MRCDEF const mrc_example *mrc_dataset_at(const mrc_dataset *d, size_t index);   // NULL past the end
MRCDEF const char *mrc_dataset_format(const mrc_dataset *d);        // "squad_v1", "jsonl", ...
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
    int32_t  loss_begin, loss_end;  // the rows that the loss and argmax look at
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
    int               with_targets; // 0: positions are -1, and examples need no answers
} mrc_features_config;
MRCDEF mrc_features_config mrc_features_config_default(void);

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
// are shuffled by Philox counters; sorted: by length inside chunks of 50 batches, batches shuffled;
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

#include <float.h>
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
// >>impl.threads   a pool of threads, and one loop shared by them
//
// mrc__pool_run(pool, n, work, fn, arg) calls fn(arg, task, worker) once for each task below n and
// returns when all are done.  Which thread runs a task is chance, so a task must own what it
// writes; what a task is follows from shapes only, never from the number of threads: that keeps
// bits equal.  `left` counts tasks that nobody has claimed.  Who takes it from i to i - 1 owns task
// n - i; the job's other fields are read by owners only, and the caller writes them when all tasks
// are done, so a thread that wakes late finds either nothing or a job of which it owns a part.
// Idle threads spin for some microseconds, as the next loop of a training step follows soon, then
// sleep.
//==============================================================================
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define MRC__POOL_MAX  64
#define MRC__POOL_SPIN 600          // pauses: 10 to 20 microseconds
#define MRC__POOL_WORK 5000         // nanoseconds of work below which waking others does not pay

typedef void (*mrc__task_fn)(void *arg, size_t task, size_t worker);

typedef struct mrc__pool mrc__pool;
typedef struct mrc__worker { mrc__pool *pool; size_t index; pthread_t thread; } mrc__worker;
struct mrc__pool {
    pthread_mutex_t lock;
    pthread_cond_t  wake, finished;
    atomic_size_t   left, done;     // tasks not claimed; tasks finished
    atomic_int      sleepers, stop;
    size_t          n;              // the job
    mrc__task_fn    fn;
    void           *arg;
    size_t          n_workers;      // with the caller, who is worker 0
    mrc__worker     workers[MRC__POOL_MAX];
};

static void mrc__pool_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

// Runs tasks until none is left to claim.
static void mrc__pool_work(mrc__pool *p, size_t worker) {
    size_t left = atomic_load_explicit(&p->left, memory_order_acquire);
    while (left) {
        if (!atomic_compare_exchange_weak_explicit(&p->left, &left, left - 1, memory_order_acq_rel,
                                                   memory_order_acquire)) continue;
        size_t n = p->n;            // after the last task is done the job may change
        p->fn(p->arg, n - left, worker);
        if (atomic_fetch_add_explicit(&p->done, 1, memory_order_acq_rel) + 1 == n) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->finished);
            pthread_mutex_unlock(&p->lock);
        }
        left = atomic_load_explicit(&p->left, memory_order_acquire);
    }
}

static void *mrc__pool_thread(void *arg) {
    mrc__worker *w = arg;
    mrc__pool *p = w->pool;
    while (!atomic_load(&p->stop)) {
        for (int i = 0; i < MRC__POOL_SPIN; i++) {
            if (atomic_load_explicit(&p->left, memory_order_relaxed)) break;
            mrc__pool_pause();
        }
        if (!atomic_load_explicit(&p->left, memory_order_relaxed)) {
            pthread_mutex_lock(&p->lock);
            atomic_fetch_add(&p->sleepers, 1);          // before left is read again: see pool_run
            while (!atomic_load(&p->left) && !atomic_load(&p->stop)) {
                pthread_cond_wait(&p->wake, &p->lock);
            }
            atomic_fetch_sub(&p->sleepers, 1);
            pthread_mutex_unlock(&p->lock);
        }
        mrc__pool_work(p, w->index);
    }
    return NULL;
}

// work: what all tasks take together in nanoseconds on one core, roughly, and from shapes only.
static void mrc__pool_run(mrc__pool *p, size_t n, size_t work, mrc__task_fn fn, void *arg) {
    if (n < 2 || p->n_workers < 2 || work < MRC__POOL_WORK) {
        for (size_t task = 0; task < n; task++) fn(arg, task, 0);
        return;
    }
    p->n = n;
    p->fn = fn;
    p->arg = arg;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store(&p->left, n);
    if (atomic_load(&p->sleepers)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
    mrc__pool_work(p, 0);
    for (int i = 0; i < MRC__POOL_SPIN; i++) {
        if (atomic_load_explicit(&p->done, memory_order_acquire) == n) return;
        mrc__pool_pause();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load_explicit(&p->done, memory_order_acquire) != n) {
        pthread_cond_wait(&p->finished, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

static void mrc__pool_free(mrc__pool *p, const mrc_allocator *host) {
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stop, 1);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (size_t i = 1; i < p->n_workers; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->finished);
    pthread_mutex_destroy(&p->lock);
    host->free(host->user, p);
}

// threads 0: the processors online, at most 64.
static mrc_status mrc__pool_new(mrc__pool **out, const mrc_allocator *host, size_t threads) {
    *out = NULL;
    if (threads == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        threads = online > 0 ? (size_t)online : 1;
        if (threads > MRC__POOL_MAX) threads = MRC__POOL_MAX;
    }
    if (threads > MRC__POOL_MAX) return MRC_ERR_ARG;
    mrc__pool *p = mrc__host_zalloc(host, sizeof *p);
    if (!p) return MRC_ERR_MEM;
    p->n_workers = 1;
    int ok = pthread_mutex_init(&p->lock, NULL) == 0;
    int woken = ok && pthread_cond_init(&p->wake, NULL) == 0;
    if (!woken || pthread_cond_init(&p->finished, NULL) != 0) {
        if (woken) pthread_cond_destroy(&p->wake);
        if (ok) pthread_mutex_destroy(&p->lock);
        host->free(host->user, p);
        return MRC_ERR_MEM;
    }
    while (p->n_workers < threads) {
        mrc__worker *w = &p->workers[p->n_workers];
        w->pool = p;
        w->index = p->n_workers;
        if (pthread_create(&w->thread, NULL, mrc__pool_thread, w) != 0) {
            mrc__pool_free(p, host);
            return MRC_ERR_MEM;
        }
        p->n_workers++;
    }
    *out = p;
    return MRC_OK;
}

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

// n values, those given or `first`, `first` + step, ..
static mrc_tensor *mrc__batch_array(mrc_ctx *ctx, size_t n, const int32_t *values, int32_t first,
                                    int32_t step) {
    mrc_tensor *t = mrc_tensor_new(ctx, MRC_DTYPE_I32, 1, &n, 0);
    int32_t *made = NULL;
    if (!t) return NULL;
    if (!values && n) {
        size_t bytes;
        made = mrc__mul(n, sizeof *made, &bytes) ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
        if (!made) return mrc__fail_null(ctx, MRC_ERR_MEM, "batch: no host memory");
        for (size_t i = 0; i < n; i++) made[i] = first + step * (int32_t)i;
        values = made;
    }
    mrc_status s = n ? mrc_tensor_upload(ctx, t, values) : MRC_OK;
    if (made) ctx->host.free(ctx->host.user, made);
    return s == MRC_OK ? t : NULL;
}

static mrc_status mrc__batch_check(mrc_ctx *ctx, const mrc_batch_desc *d, mrc_batch *out) {
    const int32_t *cu = d->cu_seqlens;
    for (size_t i = 0; i < d->n_sequences; i++) {
        if (cu[0] != 0 || cu[i + 1] < cu[i]) {
            return mrc__fail(ctx, MRC_ERR_ARG, "batch: cu_seqlens goes from %d to %d at %zu",
                             (int)cu[i], (int)cu[i + 1], i);
        }
        int32_t length = cu[i + 1] - cu[i], begin = d->loss_begin ? d->loss_begin[i] : 0;
        int32_t end = d->loss_end ? d->loss_end[i] : length;
        if (begin < 0 || end < begin || end > length) {
            return mrc__fail(ctx, MRC_ERR_ARG, "batch: loss window %d to %d of %d rows at %zu",
                             (int)begin, (int)end, (int)length, i);
        }
        if (d->real_len && (d->real_len[i] < 0 || d->real_len[i] > length)) {
            return mrc__fail(ctx, MRC_ERR_ARG, "batch: real_len %d of %d rows at %zu",
                             (int)d->real_len[i], (int)length, i);
        }
        if ((size_t)length > out->max_length) out->max_length = (size_t)length;
    }
    out->n_sequences = d->n_sequences;
    out->n_tokens = d->n_sequences ? (size_t)cu[d->n_sequences] : 0;
    return MRC_OK;
}

// The largest of n ids; an error when one is negative.
static mrc_status mrc__batch_max(mrc_ctx *ctx, const char *name, const int32_t *ids, size_t n,
                                 int32_t *max) {
    *max = 0;
    for (size_t i = 0; ids && i < n; i++) {
        if (ids[i] < 0) {
            return mrc__fail(ctx, MRC_ERR_ARG, "batch: %s[%zu] is %d", name, i, (int)ids[i]);
        }
        if (ids[i] > *max) *max = ids[i];
    }
    return MRC_OK;
}

// Position ids that count from 0 in every sequence.
static mrc_tensor *mrc__batch_positions(mrc_ctx *ctx, const mrc_batch_desc *d, mrc_batch *out) {
    size_t n = out->n_tokens, bytes;
    if (d->position_ids) return mrc__batch_array(ctx, n, d->position_ids, 0, 0);
    int32_t *made = mrc__mul(n + 1, sizeof *made, &bytes)
                  ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!made) return mrc__fail_null(ctx, MRC_ERR_MEM, "batch: no host memory");
    for (size_t s = 0; s < d->n_sequences; s++) {
        for (int32_t i = d->cu_seqlens[s]; i < d->cu_seqlens[s + 1]; i++) {
            made[i] = i - d->cu_seqlens[s];
        }
    }
    out->max_position_id = out->max_length ? (int32_t)out->max_length - 1 : 0;
    mrc_tensor *t = mrc__batch_array(ctx, n, made, 0, 0);
    ctx->host.free(ctx->host.user, made);
    return t;
}

// real_len and loss_end are the lengths where none are given, targets -1.
static mrc_tensor *mrc__batch_lengths(mrc_ctx *ctx, const mrc_batch_desc *d, const int32_t *given) {
    mrc_tensor *t = mrc__batch_array(ctx, d->n_sequences, given ? given : d->cu_seqlens, 0, 0);
    size_t bytes;
    if (!t || given || !d->n_sequences) return t;
    int32_t *made = mrc__mul(d->n_sequences, sizeof *made, &bytes)
                  ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!made) return mrc__fail_null(ctx, MRC_ERR_MEM, "batch: no host memory");
    for (size_t i = 0; i < d->n_sequences; i++) made[i] = d->cu_seqlens[i + 1] - d->cu_seqlens[i];
    mrc_status s = mrc_tensor_upload(ctx, t, made);
    ctx->host.free(ctx->host.user, made);
    return s == MRC_OK ? t : NULL;
}

static mrc_tensor *mrc__batch_targets(mrc_ctx *ctx, const mrc_batch_desc *d) {
    const size_t n = d->n_sequences, shape[2] = { 2, n };
    mrc_tensor *t = mrc_tensor_new(ctx, MRC_DTYPE_I32, 2, shape, 0);
    size_t bytes;
    if (!t) return NULL;
    int32_t *made = mrc__mul(2 * n + 1, sizeof *made, &bytes)
                  ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!made) return mrc__fail_null(ctx, MRC_ERR_MEM, "batch: no host memory");
    for (size_t i = 0; i < n; i++) {
        made[i] = d->start_positions ? d->start_positions[i] : -1;
        made[n + i] = d->end_positions ? d->end_positions[i] : -1;
    }
    mrc_status s = n ? mrc_tensor_upload(ctx, t, made) : MRC_OK;
    ctx->host.free(ctx->host.user, made);
    return s == MRC_OK ? t : NULL;
}

MRCDEF mrc_status mrc_batch_new(mrc_ctx *ctx, mrc_batch *out, const mrc_batch_desc *desc) {
    if (!ctx || !out || !desc || !desc->cu_seqlens) return MRC_ERR_ARG;
    memset(out, 0, sizeof *out);
    size_t b = desc->n_sequences;
    MRC__TRY(mrc__batch_check(ctx, desc, out));
    size_t n = out->n_tokens;
    MRC__TRY(mrc__batch_max(ctx, "input_ids", desc->input_ids, n, &out->max_input_id));
    MRC__TRY(mrc__batch_max(ctx, "token_type_ids", desc->token_type_ids, n,
                            &out->max_token_type_id));
    MRC__TRY(mrc__batch_max(ctx, "position_ids", desc->position_ids, n, &out->max_position_id));
    out->cu_seqlens = mrc__batch_array(ctx, b + 1, desc->cu_seqlens, 0, 0);
    out->sequence_index = mrc__batch_array(ctx, b, desc->sequence_index, 0, 1);
    out->real_len = mrc__batch_lengths(ctx, desc, desc->real_len);
    out->loss_begin = mrc__batch_array(ctx, b, desc->loss_begin, 0, 0);
    out->loss_end = mrc__batch_lengths(ctx, desc, desc->loss_end);
    out->targets = mrc__batch_targets(ctx, desc);
    int ok = out->cu_seqlens && out->sequence_index && out->real_len && out->loss_begin
          && out->loss_end && out->targets;
    if (!ok || !desc->input_ids) return ok ? MRC_OK : ctx->status;
    out->input_ids = mrc__batch_array(ctx, n, desc->input_ids, 0, 0);
    out->token_type_ids = mrc__batch_array(ctx, n, desc->token_type_ids, 0, 0);
    out->position_ids = mrc__batch_positions(ctx, desc, out);
    return out->input_ids && out->token_type_ids && out->position_ids ? MRC_OK : ctx->status;
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
    OP(EMBEDDING,     embedding)                                                \
    OP(LINEAR,        linear)                                                   \
    OP(QKV,           qkv)                                                      \
    OP(ATTENTION,     attention)                                                \
    OP(GELU,          gelu)                                                     \
    OP(LAYER_NORM,    layer_norm)                                               \
    OP(ADD_NORM,      add_norm)                                                 \
    OP(DROPOUT,       dropout)                                                  \
    OP(LSTM,          lstm)                                                     \
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
        struct { mrc_mask mask; } dropout;
        struct { mrc_mask mask; double eps; } add_norm;
        struct { mrc_mask mask; size_t heads, max_length; } attention;
        struct { int32_t word_padding, position_padding; } embedding;
        struct { size_t max_length; } lstm;
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
// >>op.embedding
//   y = word[input_ids] + position[position_ids] + token_type[token_type_ids]
//   dword[v] = sum of dy over the rows with input_ids = v, and so the other two
//
// word (V, H), position (P, H), token_type (Y, H) -> y (N, H).  The rows padding_idx of word and
// position get no gradient, as torch.nn.Embedding(padding_idx=..): it shows when an LSTM runs over
// pads.  The tables are read as masters, whatever y's type.
//==============================================================================
#ifdef MRC__PASS_NAIVE
static mrc_status MRC__T(embedding_fwd)(mrc_backend *be, const mrc_embedding_fwd_args *a) {
    const int32_t *ids = a->input_ids.data, *positions = a->position_ids.data;
    const int32_t *types = a->token_type_ids.data;
    (void)be;
    for (size_t r = 0; r < a->n; r++) {
        for (size_t i = 0; i < a->h; i++) {
            double y = MRC__T(at)(a->word, (size_t)ids[r], i);
            y += MRC__T(at)(a->position, (size_t)positions[r], i);
            y += MRC__T(at)(a->token_type, (size_t)types[r], i);
            MRC__T(put)(a->y, r, i, y);
        }
    }
    return MRC_OK;
}

// d[v] = sum of dy's rows whose id is v, but for padding.
static void MRC__T(embedding_scatter)(mrc_out d, const int32_t *ids, int32_t padding,
                                      size_t n_rows, const mrc_embedding_bwd_args *a) {
    for (size_t v = 0; d.data && v < n_rows; v++) {
        for (size_t i = 0; i < a->h; i++) {
            double sum = 0;
            for (size_t r = 0; r < a->n; r++) {
                if (ids[r] == (int32_t)v && ids[r] != padding) sum += MRC__T(at)(a->dy, r, i);
            }
            MRC__T(put)(d, v, i, sum);
        }
    }
}

static mrc_status MRC__T(embedding_bwd)(mrc_backend *be, const mrc_embedding_bwd_args *a) {
    (void)be;
    MRC__T(embedding_scatter)(a->dword, a->input_ids.data, a->word_padding, a->n_words, a);
    MRC__T(embedding_scatter)(a->dposition, a->position_ids.data, a->position_padding,
                              a->n_positions, a);
    MRC__T(embedding_scatter)(a->dtoken_type, a->token_type_ids.data, -1, a->n_types, a);
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
static int mrc__embedding_fits(mrc_ctx *ctx, const char *name, const mrc_tensor *table,
                               const mrc_tensor *word, int32_t max_id) {
    if (table->ndim == 2 && table->shape[1] == word->shape[1] && table->dtype == word->dtype
        && (size_t)max_id < table->shape[0]) return 1;
    mrc__fail(ctx, MRC_ERR_SHAPE, "embedding: %s (%zu, %zu) of %s, word has %zu columns of %s, and "
              "the batch id %d", name, table->ndim == 2 ? table->shape[0] : 0,
              table->ndim == 2 ? table->shape[1] : 0, mrc_dtype_name(table->dtype), word->shape[1],
              mrc_dtype_name(word->dtype), (int)max_id);
    return 0;
}

MRCDEF mrc_tensor *mrc_embedding(mrc_ctx *ctx, mrc_tensor *word, mrc_tensor *position,
                                 mrc_tensor *token_type, int32_t word_padding,
                                 int32_t position_padding, const mrc_batch *batch) {
    if (!ctx || !word || !position || !token_type || !batch) return NULL;
    if (!batch->input_ids || !batch->position_ids || !batch->token_type_ids) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "embedding: the batch has no input_ids");
    }
    if (word->ndim != 2) return mrc__fail_null(ctx, MRC_ERR_SHAPE, "embedding: word is no matrix");
    if (!mrc__embedding_fits(ctx, "word", word, word, batch->max_input_id)
        || !mrc__embedding_fits(ctx, "position", position, word, batch->max_position_id)
        || !mrc__embedding_fits(ctx, "token_type", token_type, word, batch->max_token_type_id)) {
        return NULL;
    }
    mrc_tensor *in[] = { word, position, token_type, batch->input_ids, batch->position_ids,
                         batch->token_type_ids };
    mrc_node *node = mrc__node_new(ctx, MRC__OP_EMBEDDING, in, 6);
    if (!node) return NULL;
    node->attr.embedding.word_padding = word_padding;
    node->attr.embedding.position_padding = position_padding;
    const size_t shape[2] = { batch->n_tokens, word->shape[1] };
    return mrc__apply(ctx, node, word->copy ? word->copy_dtype : word->dtype, 2, shape);
}

static mrc_status mrc__embedding_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_embedding_fwd_args a = {
        .n = node->out->shape[0], .h = node->out->shape[1], .word = mrc__in(node->in[0]),
        .position = mrc__in(node->in[1]), .token_type = mrc__in(node->in[2]),
        .input_ids = mrc__in(node->in[3]), .position_ids = mrc__in(node->in[4]),
        .token_type_ids = mrc__in(node->in[5]), .y = mrc__out(node->out) };
    return MRC__RUN(ctx, node->out->dtype, embedding_fwd, &a);
}

static mrc_status mrc__embedding_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_embedding_bwd_args a = {
        .n = node->out->shape[0], .h = node->out->shape[1], .n_words = node->in[0]->shape[0],
        .n_positions = node->in[1]->shape[0], .n_types = node->in[2]->shape[0],
        .word_padding = node->attr.embedding.word_padding,
        .position_padding = node->attr.embedding.position_padding,
        .input_ids = mrc__in(node->in[3]), .position_ids = mrc__in(node->in[4]),
        .token_type_ids = mrc__in(node->in[5]), .dy = mrc__dy(ctx, node) };
    MRC__TRY(mrc_grad_target(ctx, node->in[0], &a.dword));
    MRC__TRY(mrc_grad_target(ctx, node->in[1], &a.dposition));
    MRC__TRY(mrc_grad_target(ctx, node->in[2], &a.dtoken_type));
    return MRC__RUN(ctx, node->out->dtype, embedding_bwd, &a);
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

// dz over the saved z; without an activation dy is dz.
static mrc_in MRC__T(linear_dz)(const mrc_linear_bwd_args *a) {
    if (a->act != MRC_ACT_GELU) return a->dy;
    const mrc_in z = { a->z.dtype, a->z.ld, a->z.data };
    for (size_t r = 0; r < a->n; r++) {
        for (size_t o = 0; o < a->out; o++) {
            // forward was: y = act(z)
            double slope = mrc__gelu_slope(MRC__T(at)(z, r, o));
            MRC__T(put)(a->z, r, o, MRC__T(at)(a->dy, r, o) * slope);
        }
    }
    return z;
}

static mrc_status MRC__T(linear_bwd)(mrc_backend *be, const mrc_linear_bwd_args *a) {
    const mrc_in dz = MRC__T(linear_dz)(a);
    (void)be;
    // forward was: z[r][o] = b[o] + sum over i of x[r][i] * w[o][i]
    for (size_t r = 0; a->dx.data && r < a->n; r++) {
        for (size_t i = 0; i < a->in; i++) {
            double dx = 0;
            for (size_t o = 0; o < a->out; o++) {
                dx += MRC__T(at)(dz, r, o) * MRC__T(at)(a->weight, o, i);
            }
            MRC__T(put)(a->dx, r, i, dx);
        }
    }
    for (size_t o = 0; a->dweight.data && o < a->out; o++) {
        for (size_t i = 0; i < a->in; i++) {
            double dw = 0;
            for (size_t r = 0; r < a->n; r++) {
                dw += MRC__T(at)(dz, r, o) * MRC__T(at)(a->x, r, i);
            }
            MRC__T(put)(a->dweight, o, i, dw);
        }
    }
    for (size_t o = 0; a->dbias.data && o < a->out; o++) {
        double db = 0;
        for (size_t r = 0; r < a->n; r++) db += MRC__T(at)(dz, r, o);
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
// >>op.qkv
//   y[:, k O .. (k + 1) O) = x W_k^T + b_k,  k = 0, 1, 2: query, key, value
//   dx = sum over k of dy_k W_k     dW_k = dy_k^T x     db_k = sum over rows of dy_k
//
// x (N, I), W_k (O, I), b_k (O) -> y (N, 3 O).  Three parameters, as they are three in every file,
// and one op: x is read once, and attention finds its operands side by side.
//==============================================================================
#ifdef MRC__PASS_NAIVE
// Columns k O .. (k + 1) O of a matrix of three.
static mrc_in MRC__T(third_in)(mrc_in m, size_t k, size_t out) {
    m.data = (const MRC__REAL *)m.data + k * out;
    return m;
}
static mrc_out MRC__T(third_out)(mrc_out m, size_t k, size_t out) {
    m.data = (MRC__REAL *)m.data + k * out;
    return m;
}

static mrc_status MRC__T(qkv_fwd)(mrc_backend *be, const mrc_qkv_fwd_args *a) {
    for (size_t k = 0; k < 3; k++) {
        mrc_linear_fwd_args one = { .n = a->n, .in = a->in, .out = a->out, .x = a->x,
                                    .weight = a->weight[k], .bias = a->bias[k],
                                    .y = MRC__T(third_out)(a->y, k, a->out) };
        MRC__TRY(MRC__T(linear_fwd)(be, &one));
    }
    return MRC_OK;
}

static mrc_status MRC__T(qkv_bwd)(mrc_backend *be, const mrc_qkv_bwd_args *a) {
    // forward was: y_k = x W_k^T + b_k.  All of dx first: outputs are finished in order.
    for (size_t r = 0; a->dx.data && r < a->n; r++) {
        for (size_t i = 0; i < a->in; i++) {
            double dx = 0;
            for (size_t o = 0; o < 3 * a->out; o++) {
                dx += MRC__T(at)(a->dy, r, o) * MRC__T(at)(a->weight[o / a->out], o % a->out, i);
            }
            MRC__T(put)(a->dx, r, i, dx);
        }
    }
    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t k = 0; k < 3; k++) {
            mrc_linear_bwd_args one = { .n = a->n, .in = a->in, .out = a->out, .x = a->x,
                                        .weight = a->weight[k],
                                        .dy = MRC__T(third_in)(a->dy, k, a->out) };
            if (pass == 0) one.dweight = a->dweight[k];
            else one.dbias = a->dbias[k];
            MRC__TRY(MRC__T(linear_bwd)(be, &one));
        }
    }
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
MRCDEF mrc_tensor *mrc_qkv(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *const weight[3],
                           mrc_tensor *const bias[3]) {
    if (!ctx || !x || !weight || !bias) return NULL;
    for (int k = 0; k < 3; k++) {
        if (!weight[k] || !bias[k]) return NULL;
        if (x->ndim != 2 || weight[k]->ndim != 2 || weight[k]->shape[1] != x->shape[1]
            || weight[k]->shape[0] != weight[0]->shape[0]
            || bias[k]->numel != weight[0]->shape[0]) {
            return mrc__fail_null(ctx, MRC_ERR_SHAPE, "qkv: x has %zu columns, weight %d (%zu, "
                                  "%zu), its bias %zu", x->ndim == 2 ? x->shape[1] : 0, k,
                                  weight[k]->shape[0], weight[k]->ndim == 2 ? weight[k]->shape[1]
                                  : 0, bias[k]->numel);
        }
        if (!mrc__param_fits(ctx, MRC__OP_QKV, x, weight[k])) return NULL;
        if (!mrc__param_fits(ctx, MRC__OP_QKV, x, bias[k])) return NULL;
    }
    mrc_tensor *in[] = { x, weight[0], weight[1], weight[2], bias[0], bias[1], bias[2] };
    mrc_node *node = mrc__node_new(ctx, MRC__OP_QKV, in, 7);
    if (!node) return NULL;
    const size_t shape[2] = { x->shape[0], 3 * weight[0]->shape[0] };
    return mrc__apply(ctx, node, x->dtype, 2, shape);
}

static mrc_status mrc__qkv_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0], *w = node->in[1];
    mrc_qkv_fwd_args a = { .n = x->shape[0], .in = w->shape[1], .out = w->shape[0],
                           .x = mrc__in(x), .y = mrc__out(node->out) };
    for (int k = 0; k < 3; k++) {
        a.weight[k] = mrc__param_in(node->in[1 + k], x->dtype);
        a.bias[k] = mrc__param_in(node->in[4 + k], x->dtype);
    }
    return MRC__RUN(ctx, x->dtype, qkv_fwd, &a);
}

static mrc_status mrc__qkv_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0], *w = node->in[1];
    MRC__TRY(mrc__need(ctx, x));
    mrc_qkv_bwd_args a = { .n = x->shape[0], .in = w->shape[1], .out = w->shape[0],
                           .dy = mrc__dy(ctx, node) };
    for (int k = 0; k < 3; k++) {
        MRC__TRY(mrc__need(ctx, node->in[1 + k]));
        a.weight[k] = mrc__param_in(node->in[1 + k], x->dtype);
    }
    a.x = mrc__in(x);
    MRC__TRY(mrc_grad_target(ctx, x, &a.dx));
    for (int k = 0; k < 3; k++) MRC__TRY(mrc_grad_target(ctx, node->in[1 + k], &a.dweight[k]));
    for (int k = 0; k < 3; k++) MRC__TRY(mrc_grad_target(ctx, node->in[4 + k], &a.dbias[k]));
    return MRC__RUN(ctx, x->dtype, qkv_bwd, &a);
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
// What row and feature are multiplied by: 0 or scale.
static double MRC__T(kept)(const mrc_mask *mask, uint32_t head, uint32_t sequence,
                           uint32_t position, uint32_t f) {
    const uint32_t counter[4] = { f / 4, position, sequence, head };
    uint32_t u[4];
    if (mask->threshold == 0) return mask->scale;
    mrc_philox4x32(counter, mask->key, u);
    return u[f % 4] < mask->threshold ? 0 : mask->scale;
}

static mrc_status MRC__T(dropout)(mrc_backend *be, const mrc_dropout_args *a) {
    const int32_t *cu = a->cu_seqlens.data, *index = a->sequence_index.data;
    (void)be;
    for (size_t s = 0; s < a->n_sequences; s++) {
        for (int32_t row = cu[s]; row < cu[s + 1]; row++) {
            for (uint32_t f = 0; f < a->h; f++) {
                double keep = MRC__T(kept)(&a->mask, 0, (uint32_t)index[s],
                                           (uint32_t)(row - cu[s]), f);
                MRC__T(put)(a->to, (size_t)row, f,
                            keep > 0 ? MRC__T(at)(a->from, (size_t)row, f) * keep : 0);
            }
        }
    }
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
// The mask of this site in the running pass; 0 with an error for a p that is no probability.
static int mrc__mask_init(mrc_ctx *ctx, const char *op, mrc_mask *mask, double p, uint32_t site) {
    if (!(p >= 0 && p < 1)) {
        mrc__fail(ctx, MRC_ERR_ARG, "%s: dropout p is %g, not in [0, 1)", op, p);
        return 0;
    }
    mrc_dropout_key(ctx->random, site, mask->key);
    mask->threshold = (uint64_t)(p * 4294967296.0);
    mask->scale = mask->threshold ? 1.0 / (1.0 - p) : 1;
    return 1;
}

// x is packed rows of this batch; 0 with an error when it is not.
static int mrc__rows_fit(mrc_ctx *ctx, const char *op, const mrc_tensor *x,
                         const mrc_batch *batch) {
    if (x->ndim == 2 && x->shape[0] == batch->n_tokens) return 1;
    mrc__fail(ctx, MRC_ERR_SHAPE, "%s: x has %zu axes and %zu rows, the batch %zu tokens", op,
              (size_t)x->ndim, x->ndim ? x->shape[0] : 0, batch->n_tokens);
    return 0;
}

static mrc_dropout_args mrc__dropout_args(const mrc_node *node, mrc_in from, mrc_out to) {
    return (mrc_dropout_args){
        .n = node->in[0]->shape[0], .n_sequences = node->in[2]->numel,
        .h = node->in[0]->shape[1], .mask = node->attr.dropout.mask,
        .cu_seqlens = mrc__in(node->in[1]), .sequence_index = mrc__in(node->in[2]),
        .from = from, .to = to };
}

static mrc_status mrc__dropout_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_dropout_args a = mrc__dropout_args(node, mrc__in(node->in[0]), mrc__out(node->out));
    return MRC__RUN(ctx, node->out->dtype, dropout_fwd, &a);
}

MRCDEF mrc_tensor *mrc_dropout(mrc_ctx *ctx, mrc_tensor *x, double p, uint32_t site,
                               const mrc_batch *batch) {
    mrc_mask mask;
    if (!ctx || !x || !batch || !batch->cu_seqlens || !batch->sequence_index) return NULL;
    if (!mrc__rows_fit(ctx, "dropout", x, batch)) return NULL;
    if (!mrc__mask_init(ctx, "dropout", &mask, p, site)) return NULL;
    if (mask.threshold == 0) return x;
    mrc_tensor *in[] = { x, batch->cu_seqlens, batch->sequence_index };
    mrc_node *node = mrc__node_new(ctx, MRC__OP_DROPOUT, in, 3);
    if (!node) return NULL;
    node->attr.dropout.mask = mask;
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
// >>op.attention
//   per sequence and head, over its rows i, j, keys j < real_len:
//   s_ij = scale q_i . k_j      p_ij = exp(s_ij - lse_i)      lse_i = log sum_j exp(s_ij)
//   y_i  = sum_j m_ij p_ij v_j           m: 0 or 1 / (1 - p), the dropout mask of the weights
//
//   dp_ij = m_ij dy_i . v_j     ds_ij = p_ij (dp_ij - sum_j p_ij dp_ij)
//   dq_i = scale sum_j ds_ij k_j     dk_j = scale sum_i ds_ij q_i     dv_j = sum_i m_ij p_ij dy_i
//
// qkv (N, 3 A D) -> y (N, A D).  Saves lse (A, N); backward makes the weights again from it, so no
// T x T matrix is kept.  A masked key has weight exactly 0; with real_len 0 every row is 0 and
// has gradient 0.  Pads are queries as any other row, as in HF.
//==============================================================================
#ifdef MRC__PASS_NAIVE
// One head of one sequence: its first row and length, its columns, and what its masks count.
typedef struct MRC__T(span) {
    size_t   first, length, keys, head, d, width;       // width: A D
    uint32_t sequence;
} MRC__T(span);

static MRC__T(span) MRC__T(span_of)(mrc_in cu_seqlens, mrc_in real_len, mrc_in sequence_index,
                                    size_t s, size_t head, size_t heads, size_t d) {
    const int32_t *cu = cu_seqlens.data, *real = real_len.data, *index = sequence_index.data;
    return (MRC__T(span)){ (size_t)cu[s], (size_t)(cu[s + 1] - cu[s]), (size_t)real[s], head, d,
                           heads * d, (uint32_t)index[s] };
}

// Element e of row i's query, key or value (0, 1, 2).
static double MRC__T(part)(mrc_in qkv, const MRC__T(span) *q, size_t part, size_t i, size_t e) {
    return MRC__T(at)(qkv, q->first + i, part * q->width + q->head * q->d + e);
}

// s[j] of query i, by key.
static void MRC__T(scores)(mrc_in qkv, double scale, const MRC__T(span) *q, size_t i, double *s) {
    for (size_t j = 0; j < q->keys; j++) {
        double dot = 0;
        for (size_t e = 0; e < q->d; e++) {
            dot += MRC__T(part)(qkv, q, 0, i, e) * MRC__T(part)(qkv, q, 1, j, e);
        }
        s[j] = dot * scale;
    }
}

static double MRC__T(weight_kept)(const mrc_mask *mask, const MRC__T(span) *q, size_t i, size_t j) {
    return MRC__T(kept)(mask, (uint32_t)q->head, q->sequence, (uint32_t)i, (uint32_t)j);
}

static void MRC__T(attend)(const mrc_attention_fwd_args *a, const MRC__T(span) *q, size_t i) {
    double max = -HUGE_VAL, sum = 0, *w = a->workspace;
    MRC__T(scores)(a->qkv, a->scale, q, i, w);
    for (size_t j = 0; j < q->keys; j++) max = fmax(max, w[j]);
    for (size_t j = 0; j < q->keys; j++) sum += exp(w[j] - max);
    double lse = q->keys ? max + log(sum) : 0;
    MRC__T(put)(a->lse, q->head, q->first + i, lse);
    for (size_t j = 0; j < q->keys; j++) {
        w[j] = MRC__T(weight_kept)(&a->mask, q, i, j) * exp(w[j] - lse);
    }
    for (size_t e = 0; e < q->d; e++) {
        double y = 0;
        for (size_t j = 0; j < q->keys; j++) y += w[j] * MRC__T(part)(a->qkv, q, 2, j, e);
        MRC__T(put)(a->y, q->first + i, q->head * q->d + e, y);
    }
}

// One row of weights.
static size_t MRC__T(attention_fwd_workspace)(mrc_backend *be, const mrc_attention_fwd_args *a) {
    (void)be;
    return a->max_length * sizeof(double);
}

static mrc_status MRC__T(attention_fwd)(mrc_backend *be, const mrc_attention_fwd_args *a) {
    (void)be;
    for (size_t s = 0; s < a->n_sequences; s++) {
        for (size_t head = 0; head < a->heads; head++) {
            MRC__T(span) q = MRC__T(span_of)(a->cu_seqlens, a->real_len, a->sequence_index, s,
                                             head, a->heads, a->d);
            for (size_t i = 0; i < q.length; i++) MRC__T(attend)(a, &q, i);
        }
    }
    return MRC_OK;
}

// Adds what query i gives to sum: dq, dk and dv of the span, each (T, D).
static void MRC__T(attend_bwd)(const mrc_attention_bwd_args *a, const MRC__T(span) *q, size_t i,
                               double *p, double *dp, double *sum) {
    double mean = 0, lse = MRC__T(at)(a->lse, q->head, q->first + i);
    double *dq = sum, *dk = dq + q->length * q->d, *dv = dk + q->length * q->d;
    MRC__T(scores)(a->qkv, a->scale, q, i, p);
    for (size_t j = 0; j < q->keys; j++) {
        // forward was: y_i = sum_j m_ij p_ij v_j, p_ij = exp(s_ij - lse_i)
        double m = MRC__T(weight_kept)(&a->mask, q, i, j);
        p[j] = exp(p[j] - lse);
        dp[j] = 0;
        for (size_t e = 0; e < q->d; e++) {
            double dy = MRC__T(at)(a->dy, q->first + i, q->head * q->d + e);
            dp[j] += m * dy * MRC__T(part)(a->qkv, q, 2, j, e);
            dv[j * q->d + e] += m * p[j] * dy;
        }
        mean += p[j] * dp[j];
    }
    for (size_t j = 0; j < q->keys; j++) {
        double ds = p[j] * (dp[j] - mean) * a->scale;
        for (size_t e = 0; e < q->d; e++) {
            dq[i * q->d + e] += ds * MRC__T(part)(a->qkv, q, 1, j, e);
            dk[j * q->d + e] += ds * MRC__T(part)(a->qkv, q, 0, i, e);
        }
    }
}

// A row of p, one of dp, and the sums of one span.
static size_t MRC__T(attention_bwd_workspace)(mrc_backend *be, const mrc_attention_bwd_args *a) {
    (void)be;
    return a->max_length * (2 + 3 * a->d) * sizeof(double);
}

static mrc_status MRC__T(attention_bwd)(mrc_backend *be, const mrc_attention_bwd_args *a) {
    (void)be;
    if (!a->dqkv.data || a->n == 0) return MRC_OK;      // without rows there is no workspace
    double *p = a->workspace, *dp = p + a->max_length, *sum = dp + a->max_length;
    for (size_t k = 0; k < a->n_sequences * a->heads; k++) {
        MRC__T(span) q = MRC__T(span_of)(a->cu_seqlens, a->real_len, a->sequence_index,
                                         k / a->heads, k % a->heads, a->heads, a->d);
        size_t third = q.length * q.d;
        for (size_t e = 0; e < 3 * third; e++) sum[e] = 0;
        for (size_t i = 0; i < q.length; i++) MRC__T(attend_bwd)(a, &q, i, p, dp, sum);
        for (size_t e = 0; e < 3 * third; e++) {
            MRC__T(put)(a->dqkv, q.first + e % third / q.d,
                        e / third * q.width + q.head * q.d + e % q.d, sum[e]);
        }
    }
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
MRCDEF mrc_tensor *mrc_attention(mrc_ctx *ctx, mrc_tensor *qkv, size_t heads, double p,
                                 uint32_t site, const mrc_batch *batch) {
    mrc_mask mask;
    if (!ctx || !qkv || !batch || !batch->real_len) return NULL;
    if (!mrc__rows_fit(ctx, "attention", qkv, batch)) return NULL;
    if (!mrc__mask_init(ctx, "attention", &mask, p, site)) return NULL;
    size_t columns = qkv->shape[1];
    if (heads == 0 || columns == 0 || columns % 3 || columns / 3 % heads) {
        return mrc__fail_null(ctx, MRC_ERR_SHAPE, "attention: qkv has %zu columns, not three times "
                              "a multiple of %zu heads", columns, heads);
    }
    mrc_tensor *in[] = { qkv, batch->cu_seqlens, batch->real_len, batch->sequence_index };
    mrc_node *node = mrc__node_new(ctx, MRC__OP_ATTENTION, in, 4);
    if (!node || mrc__node_save(ctx, node, 0, mrc__stat_dtype(qkv->dtype),
                                heads * qkv->shape[0]) != MRC_OK) return NULL;
    node->attr.attention.mask = mask;
    node->attr.attention.heads = heads;
    node->attr.attention.max_length = batch->max_length;
    const size_t shape[2] = { qkv->shape[0], columns / 3 };
    return mrc__apply(ctx, node, qkv->dtype, 2, shape);
}

static mrc_status mrc__attention_forward(mrc_ctx *ctx, mrc_node *node) {
    size_t heads = node->attr.attention.heads, d = node->out->shape[1] / heads;
    mrc_attention_fwd_args a = {
        .n = node->out->shape[0], .n_sequences = node->in[2]->numel, .heads = heads, .d = d,
        .max_length = node->attr.attention.max_length, .scale = 1 / sqrt((double)d),
        .mask = node->attr.attention.mask, .qkv = mrc__in(node->in[0]),
        .cu_seqlens = mrc__in(node->in[1]), .real_len = mrc__in(node->in[2]),
        .sequence_index = mrc__in(node->in[3]), .y = mrc__out(node->out),
        .lse = mrc__out(node->saved[0]) };
    a.lse.ld = a.n;
    return MRC__RUN(ctx, node->out->dtype, attention_fwd, &a);
}

static mrc_status mrc__attention_backward(mrc_ctx *ctx, mrc_node *node) {
    size_t heads = node->attr.attention.heads, d = node->out->shape[1] / heads;
    MRC__TRY(mrc__need(ctx, node->in[0]));
    mrc_attention_bwd_args a = {
        .n = node->out->shape[0], .n_sequences = node->in[2]->numel, .heads = heads, .d = d,
        .max_length = node->attr.attention.max_length, .scale = 1 / sqrt((double)d),
        .mask = node->attr.attention.mask, .qkv = mrc__in(node->in[0]),
        .cu_seqlens = mrc__in(node->in[1]), .real_len = mrc__in(node->in[2]),
        .sequence_index = mrc__in(node->in[3]), .lse = mrc__in(node->saved[0]),
        .dy = mrc__dy(ctx, node) };
    a.lse.ld = a.n;
    MRC__TRY(mrc_grad_target(ctx, node->in[0], &a.dqkv));
    return MRC__RUN(ctx, node->out->dtype, attention_bwd, &a);
}
#endif

//==============================================================================
// >>op.add_norm
//   u = residual + dropout(x)      y = layer_norm(u) * weight + bias
//   du as op.layer_norm's dx;  dresidual = du,  dx = mask * du
//
// x, residual (N, H) -> y (N, H): the end of each half of an encoder layer (post-LN).  Saves u,
// mean and rstd: one (N, H) buffer where dropout, addition and layer_norm as ops of their own keep
// two.  x and residual may be one tensor.
//==============================================================================
#ifdef MRC__PASS_NAIVE
static mrc_status MRC__T(add_norm_fwd)(mrc_backend *be, const mrc_add_norm_fwd_args *a) {
    mrc_out u = a->sum.data ? a->sum : a->y;            // nobody wants u: y is room enough
    mrc_dropout_args drop = { .n = a->n, .n_sequences = a->n_sequences, .h = a->h, .mask = a->mask,
                              .cu_seqlens = a->cu_seqlens, .sequence_index = a->sequence_index,
                              .from = a->x, .to = u };
    MRC__TRY(MRC__T(dropout)(be, &drop));
    for (size_t r = 0; r < a->n; r++) {
        for (size_t i = 0; i < a->h; i++) {
            double sum = ((const MRC__REAL *)u.data)[r * u.ld + i];
            MRC__T(put)(u, r, i, sum + MRC__T(at)(a->residual, r, i));
        }
    }
    mrc_layer_norm_fwd_args norm = { .n = a->n, .h = a->h, .eps = a->eps,
                                     .x = { u.dtype, u.ld, u.data }, .weight = a->weight,
                                     .bias = a->bias, .y = a->y, .mean = a->mean, .rstd = a->rstd };
    return MRC__T(layer_norm_fwd)(be, &norm);
}

// to = du of row r, each element times its factor of the mask, or as it is with mask NULL.
static void MRC__T(add_norm_du)(const mrc_add_norm_bwd_args *a, const mrc_mask *mask, mrc_out to,
                                size_t r, uint32_t sequence, uint32_t position) {
    mrc_layer_norm_bwd_args norm = { .mean = a->mean, .rstd = a->rstd,
                                     .x = { a->sum.dtype, a->sum.ld, a->sum.data } };
    double mean_g = 0, mean_gx = 0, h = (double)a->h;
    for (size_t i = 0; i < a->h; i++) {
        double g = MRC__T(at)(a->dy, r, i) * MRC__T(at)(a->weight, 0, i);
        mean_g += g / h;
        mean_gx += g * MRC__T(layer_norm_xhat)(&norm, r, i) / h;
    }
    for (size_t i = 0; i < a->h; i++) {
        // forward was: u = residual + dropout(x); y = layer_norm(u)
        double g = MRC__T(at)(a->dy, r, i) * MRC__T(at)(a->weight, 0, i);
        double du = g - mean_g - MRC__T(layer_norm_xhat)(&norm, r, i) * mean_gx;
        if (mask) du *= MRC__T(kept)(mask, 0, sequence, position, (uint32_t)i);
        MRC__T(put)(to, r, i, MRC__T(at)(a->rstd, 0, r) * du);
    }
}

static mrc_status MRC__T(add_norm_bwd)(mrc_backend *be, const mrc_add_norm_bwd_args *a) {
    const int32_t *cu = a->cu_seqlens.data, *index = a->sequence_index.data;
    for (size_t s = 0; a->dx.data && s < a->n_sequences; s++) {
        for (int32_t r = cu[s]; r < cu[s + 1]; r++) {
            MRC__T(add_norm_du)(a, &a->mask, a->dx, (size_t)r, (uint32_t)index[s],
                                (uint32_t)(r - cu[s]));
        }
    }
    for (size_t r = 0; a->dresidual.data && r < a->n; r++) {
        MRC__T(add_norm_du)(a, NULL, a->dresidual, r, 0, 0);
    }
    mrc_layer_norm_bwd_args norm = { .n = a->n, .h = a->h, .weight = a->weight, .mean = a->mean,
                                     .rstd = a->rstd, .dy = a->dy, .dweight = a->dweight,
                                     .dbias = a->dbias,
                                     .x = { a->sum.dtype, a->sum.ld, a->sum.data } };
    return MRC__T(layer_norm_bwd)(be, &norm);
}
#endif

#ifdef MRC__PASS_CORE
MRCDEF mrc_tensor *mrc_add_norm(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *residual,
                                mrc_tensor *weight, mrc_tensor *bias, double eps, double p,
                                uint32_t site, const mrc_batch *batch) {
    mrc_mask mask;
    if (!ctx || !x || !residual || !weight || !bias || !batch) return NULL;
    if (!mrc__rows_fit(ctx, "add_norm", x, batch)) return NULL;
    if (!mrc__mask_init(ctx, "add_norm", &mask, p, site)) return NULL;
    size_t h = x->shape[1];
    if (h == 0 || residual->ndim != 2 || residual->shape[0] != x->shape[0]
        || residual->shape[1] != h || weight->numel != h || bias->numel != h
        || residual->dtype != x->dtype) {
        return mrc__fail_null(ctx, MRC_ERR_SHAPE, "add_norm: x (%zu, %zu), residual of %zu "
                              "elements, weight %zu, bias %zu", x->shape[0], h, residual->numel,
                              weight->numel, bias->numel);
    }
    if (!mrc__param_fits(ctx, MRC__OP_ADD_NORM, x, weight)) return NULL;
    if (!mrc__param_fits(ctx, MRC__OP_ADD_NORM, x, bias)) return NULL;
    mrc_tensor *in[] = { x, residual, weight, bias, batch->cu_seqlens, batch->sequence_index };
    mrc_dtype stat = mrc__stat_dtype(x->dtype);
    mrc_node *node = mrc__node_new(ctx, MRC__OP_ADD_NORM, in, 6);
    if (!node || mrc__node_save(ctx, node, 0, x->dtype, x->numel) != MRC_OK
              || mrc__node_save(ctx, node, 1, stat, x->shape[0]) != MRC_OK
              || mrc__node_save(ctx, node, 2, stat, x->shape[0]) != MRC_OK) return NULL;
    node->attr.add_norm.mask = mask;
    node->attr.add_norm.eps = eps;
    return mrc__apply(ctx, node, x->dtype, 2, x->shape);
}

static mrc_status mrc__add_norm_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_add_norm_fwd_args a = {
        .n = node->out->shape[0], .h = node->out->shape[1], .n_sequences = node->in[5]->numel,
        .eps = node->attr.add_norm.eps, .mask = node->attr.add_norm.mask,
        .x = mrc__in(node->in[0]), .residual = mrc__in(node->in[1]),
        .weight = mrc__in(node->in[2]), .bias = mrc__in(node->in[3]),
        .cu_seqlens = mrc__in(node->in[4]), .sequence_index = mrc__in(node->in[5]),
        .y = mrc__out(node->out), .sum = mrc__out(node->saved[0]),
        .mean = mrc__out(node->saved[1]), .rstd = mrc__out(node->saved[2]) };
    a.sum.ld = a.h;                                     // saved flat
    return MRC__RUN(ctx, node->out->dtype, add_norm_fwd, &a);
}

static mrc_status mrc__add_norm_backward(mrc_ctx *ctx, mrc_node *node) {
    MRC__TRY(mrc__need(ctx, node->in[2]));
    mrc_add_norm_bwd_args a = {
        .n = node->out->shape[0], .h = node->out->shape[1], .n_sequences = node->in[5]->numel,
        .mask = node->attr.add_norm.mask, .weight = mrc__in(node->in[2]),
        .cu_seqlens = mrc__in(node->in[4]), .sequence_index = mrc__in(node->in[5]),
        .sum = mrc__out(node->saved[0]), .mean = mrc__in(node->saved[1]),
        .rstd = mrc__in(node->saved[2]), .dy = mrc__dy(ctx, node) };
    a.sum.ld = a.h;
    MRC__TRY(mrc_grad_target(ctx, node->in[0], &a.dx));
    MRC__TRY(mrc_grad_target(ctx, node->in[1], &a.dresidual));
    MRC__TRY(mrc_grad_target(ctx, node->in[2], &a.dweight));
    MRC__TRY(mrc_grad_target(ctx, node->in[3], &a.dbias));
    return MRC__RUN(ctx, node->out->dtype, add_norm_bwd, &a);
}
#endif

//==============================================================================
// >>op.lstm
//   per sequence and direction, t running from its first row (reverse: from its last):
//   i, f, o = sigmoid, g = tanh of  W_ih x_t + b_ih + W_hh h_(t-1) + b_hh     (gates i, f, g, o)
//   c_t = f c_(t-1) + i g         h_t = o tanh(c_t)         y_t = h_t
//
//   dh = dy_t + W_hh^T dz_(t+1)   dc = dh o (1 - tanh^2 c_t) + f_(t+1) dc_(t+1)
//   dz = (dc g i(1-i), dc c_(t-1) f(1-f), dc i (1-g^2), dh tanh(c_t) o(1-o))
//   dx = dz W_ih     dW_ih = dz^T x     dW_hh = dz^T h_(t-1)     db_ih = db_hh = sum of dz
//
// x (N, I) -> y (N, 2 H), the forward direction's h in the first H columns, as torch.nn.LSTM with
// bidirectional=True on unpadded sequences: every sequence starts from h = c = 0 and ends at its
// own last row (pads that are rows count).  Saves the gates (N, 8 H) and cells (N, 2 H); backward
// writes dz over the gates.
//==============================================================================
#ifdef MRC__PASS_NAIVE
static double MRC__T(sigmoid)(double x) { return 1 / (1 + exp(-x)); }

// One row of one direction; before is the row that was computed before it, or -1.
static void MRC__T(lstm_cell)(const mrc_lstm_fwd_args *a, MRC__REAL *gates, MRC__REAL *cells,
                              int dir, size_t row, ptrdiff_t before) {
    const size_t h = a->h, d = (size_t)dir;
    MRC__REAL *z = gates + row * 8 * h + d * 4 * h, *c = cells + row * 2 * h + d * h;
    for (size_t o = 0; o < 4 * h; o++) {
        double sum = MRC__T(at)(a->bias_ih[dir], 0, o) + MRC__T(at)(a->bias_hh[dir], 0, o);
        for (size_t i = 0; i < a->in; i++) {
            sum += MRC__T(at)(a->weight_ih[dir], o, i) * MRC__T(at)(a->x, row, i);
        }
        for (size_t j = 0; before >= 0 && j < h; j++) {
            double y = ((const MRC__REAL *)a->y.data)[(size_t)before * a->y.ld + d * h + j];
            sum += MRC__T(at)(a->weight_hh[dir], o, j) * y;
        }
        z[o] = (MRC__REAL)(o / h == 2 ? tanh(sum) : MRC__T(sigmoid)(sum));
    }
    for (size_t j = 0; j < h; j++) {
        double was = before < 0 ? 0 : cells[(size_t)before * 2 * h + d * h + j];
        c[j] = (MRC__REAL)(z[h + j] * was + (double)z[j] * z[2 * h + j]);
        MRC__T(put)(a->y, row, d * h + j, z[3 * h + j] * tanh(c[j]));
    }
}

// Where nothing is saved the gates of all rows live in the workspace.
static size_t MRC__T(lstm_fwd_workspace)(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    (void)be;
    return a->gates.data ? 0 : a->n * a->h * 10 * sizeof(MRC__REAL);
}

static mrc_status MRC__T(lstm_fwd)(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    const int32_t *cu = a->cu_seqlens.data;
    MRC__REAL *gates = a->gates.data ? a->gates.data : a->workspace;
    MRC__REAL *cells = a->gates.data ? a->cells.data : gates + a->n * a->h * 8;
    (void)be;
    for (size_t s = 0; s < a->n_sequences; s++) {
        int32_t n = cu[s + 1] - cu[s];
        for (int32_t t = 0; t < n; t++) {
            MRC__T(lstm_cell)(a, gates, cells, 0, (size_t)(cu[s] + t), t ? cu[s] + t - 1 : -1);
            int32_t last = cu[s + 1] - 1 - t;
            MRC__T(lstm_cell)(a, gates, cells, 1, (size_t)last, t ? last + 1 : -1);
        }
    }
    return MRC_OK;
}

// dz of one row over its gates, and dc for the row before it; after: the row computed after it.
static void MRC__T(lstm_cell_bwd)(const mrc_lstm_bwd_args *a, double *dc, int dir, size_t row,
                                  ptrdiff_t before, ptrdiff_t after) {
    const size_t h = a->h, d = (size_t)dir;
    MRC__REAL *gates = a->gates.data, *z = gates + row * 8 * h + d * 4 * h;
    const MRC__REAL *cells = (const MRC__REAL *)a->cells.data + d * h;
    for (size_t j = 0; j < h; j++) {
        double dh = MRC__T(at)(a->dy, row, d * h + j);
        for (size_t o = 0; after >= 0 && o < 4 * h; o++) {
            dh += gates[(size_t)after * 8 * h + d * 4 * h + o]
                * MRC__T(at)(a->weight_hh[dir], o, j);
        }
        // forward was: c_t = f c_(t-1) + i g;  h_t = o tanh(c_t)
        double i = z[j], f = z[h + j], g = z[2 * h + j], o = z[3 * h + j];
        double t = tanh(cells[row * 2 * h + j]);
        double was = before < 0 ? 0 : cells[(size_t)before * 2 * h + j];
        double dcj = dc[j] + dh * o * (1 - t * t);
        z[j] = (MRC__REAL)(dcj * g * i * (1 - i));
        z[h + j] = (MRC__REAL)(dcj * was * f * (1 - f));
        z[2 * h + j] = (MRC__REAL)(dcj * i * (1 - g * g));
        z[3 * h + j] = (MRC__REAL)(dh * t * o * (1 - o));
        dc[j] = dcj * f;
    }
}

static size_t MRC__T(lstm_bwd_workspace)(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    (void)be;
    return a->h * sizeof(double);
}

// dz of one direction: the gradient of what its gates were made of.
static mrc_in MRC__T(lstm_dz)(const mrc_lstm_bwd_args *a, int dir) {
    return (mrc_in){ a->gates.dtype, 8 * a->h,
                     (const MRC__REAL *)a->gates.data + (size_t)dir * 4 * a->h };
}

static void MRC__T(lstm_dweight_hh)(const mrc_lstm_bwd_args *a, int dir) {
    const size_t h = a->h;
    const int32_t *cu = a->cu_seqlens.data;
    const mrc_in dz = MRC__T(lstm_dz)(a, dir);
    for (size_t o = 0; a->dweight_hh[dir].data && o < 4 * h; o++) {
        for (size_t j = 0; j < h; j++) {
            double dw = 0;
            for (size_t s = 0; s < a->n_sequences; s++) {
                for (int32_t r = cu[s]; r < cu[s + 1]; r++) {
                    int32_t before = dir ? r + 1 : r - 1;
                    if (before < cu[s] || before >= cu[s + 1]) continue;
                    dw += MRC__T(at)(dz, (size_t)r, o)
                        * MRC__T(at)(a->y, (size_t)before, (size_t)dir * h + j);
                }
            }
            MRC__T(put)(a->dweight_hh[dir], o, j, dw);
        }
    }
}

static void MRC__T(lstm_dbias)(mrc_out dbias, const mrc_in dz, size_t h, size_t n) {
    for (size_t o = 0; dbias.data && o < 4 * h; o++) {
        double db = 0;
        for (size_t r = 0; r < n; r++) db += MRC__T(at)(dz, r, o);
        MRC__T(put)(dbias, 0, o, db);
    }
}

// The weights' gradients from dz, in the order of the struct.
static void MRC__T(lstm_weights)(const mrc_lstm_bwd_args *a) {
    for (int dir = 0; dir < 2; dir++) {
        const mrc_in dz = MRC__T(lstm_dz)(a, dir);
        for (size_t o = 0; a->dweight_ih[dir].data && o < 4 * a->h; o++) {
            for (size_t i = 0; i < a->in; i++) {
                double dw = 0;
                for (size_t r = 0; r < a->n; r++) {
                    dw += MRC__T(at)(dz, r, o) * MRC__T(at)(a->x, r, i);
                }
                MRC__T(put)(a->dweight_ih[dir], o, i, dw);
            }
        }
    }
    for (int dir = 0; dir < 2; dir++) MRC__T(lstm_dweight_hh)(a, dir);
    for (int dir = 0; dir < 2; dir++) {
        MRC__T(lstm_dbias)(a->dbias_ih[dir], MRC__T(lstm_dz)(a, dir), a->h, a->n);
    }
    for (int dir = 0; dir < 2; dir++) {
        MRC__T(lstm_dbias)(a->dbias_hh[dir], MRC__T(lstm_dz)(a, dir), a->h, a->n);
    }
}

static mrc_status MRC__T(lstm_bwd)(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    const int32_t *cu = a->cu_seqlens.data;
    double *dc = a->workspace;
    (void)be;
    for (size_t s = 0; s < a->n_sequences; s++) {
        for (int dir = 0; dir < 2; dir++) {
            for (size_t j = 0; j < a->h; j++) dc[j] = 0;
            int32_t n = cu[s + 1] - cu[s];
            for (int32_t t = n - 1; t >= 0; t--) {      // against the order of forward
                int32_t row = dir ? cu[s + 1] - 1 - t : cu[s] + t, step = dir ? -1 : 1;
                MRC__T(lstm_cell_bwd)(a, dc, dir, (size_t)row, t ? row - step : -1,
                                      t < n - 1 ? row + step : -1);
            }
        }
    }
    for (size_t r = 0; a->dx.data && r < a->n; r++) {
        for (size_t i = 0; i < a->in; i++) {
            double dx = 0;
            for (size_t o = 0; o < 8 * a->h; o++) {
                dx += ((const MRC__REAL *)a->gates.data)[r * 8 * a->h + o]
                    * MRC__T(at)(a->weight_ih[o / (4 * a->h)], o % (4 * a->h), i);
            }
            MRC__T(put)(a->dx, r, i, dx);
        }
    }
    MRC__T(lstm_weights)(a);
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
static int mrc__lstm_fits(mrc_ctx *ctx, const mrc_tensor *x, mrc_tensor *const weights[8]) {
    size_t in = x->shape[1], h = weights[1]->ndim == 2 ? weights[1]->shape[1] : 0;
    for (int k = 0; k < 8; k++) {
        const mrc_tensor *w = weights[k];
        size_t columns = k % 4 == 0 ? in : h;
        int ok = k % 4 < 2 ? w->ndim == 2 && w->shape[0] == 4 * h && w->shape[1] == columns
                           : w->numel == 4 * h;
        if (h == 0 || !ok) {
            mrc__fail(ctx, MRC_ERR_SHAPE, "lstm: weight %d has %zu rows of %zu, expected %zu of "
                      "%zu (x has %zu columns)", k, w->ndim ? w->shape[0] : 0,
                      w->ndim == 2 ? w->shape[1] : 1, 4 * h, k % 4 < 2 ? columns : 1, in);
            return 0;
        }
        if (!mrc__param_fits(ctx, MRC__OP_LSTM, x, w)) return 0;
    }
    return 1;
}

MRCDEF mrc_tensor *mrc_lstm(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *const weights[8],
                            const mrc_batch *batch) {
    mrc_tensor *in[10] = { x };
    if (!ctx || !x || !weights || !batch || !batch->cu_seqlens) return NULL;
    for (int k = 0; k < 8; k++) {
        if (!weights[k]) return NULL;
        in[1 + k] = weights[k];
    }
    if (!mrc__rows_fit(ctx, "lstm", x, batch) || !mrc__lstm_fits(ctx, x, weights)) return NULL;
    in[9] = batch->cu_seqlens;
    size_t n = x->shape[0], h = weights[1]->shape[1];
    mrc_dtype stat = mrc__stat_dtype(x->dtype);
    mrc_node *node = mrc__node_new(ctx, MRC__OP_LSTM, in, 10);
    if (!node || mrc__node_save(ctx, node, 0, x->dtype, n * 8 * h) != MRC_OK
              || mrc__node_save(ctx, node, 1, stat, n * 2 * h) != MRC_OK) return NULL;
    node->attr.lstm.max_length = batch->max_length;
    const size_t shape[2] = { n, 2 * h };
    return mrc__apply(ctx, node, x->dtype, 2, shape);
}

static mrc_status mrc__lstm_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    mrc_lstm_fwd_args a = {
        .n = x->shape[0], .n_sequences = node->in[9]->numel - 1, .in = x->shape[1],
        .h = node->out->shape[1] / 2, .max_length = node->attr.lstm.max_length,
        .cu_seqlens = mrc__in(node->in[9]), .x = mrc__in(x), .y = mrc__out(node->out),
        .gates = mrc__out(node->saved[0]), .cells = mrc__out(node->saved[1]) };
    for (int k = 0; k < 2; k++) {
        a.weight_ih[k] = mrc__param_in(node->in[1 + 4 * k], x->dtype);
        a.weight_hh[k] = mrc__param_in(node->in[2 + 4 * k], x->dtype);
        a.bias_ih[k] = mrc__param_in(node->in[3 + 4 * k], x->dtype);
        a.bias_hh[k] = mrc__param_in(node->in[4 + 4 * k], x->dtype);
    }
    a.gates.ld = 8 * a.h;
    a.cells.ld = 2 * a.h;
    return MRC__RUN(ctx, x->dtype, lstm_fwd, &a);
}

static mrc_status mrc__lstm_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    MRC__TRY(mrc__need(ctx, x));
    MRC__TRY(mrc__need(ctx, node->out));
    mrc_lstm_bwd_args a = {
        .n = x->shape[0], .n_sequences = node->in[9]->numel - 1, .in = x->shape[1],
        .h = node->out->shape[1] / 2, .max_length = node->attr.lstm.max_length,
        .cu_seqlens = mrc__in(node->in[9]), .x = mrc__in(x), .y = mrc__in(node->out),
        .dy = mrc__dy(ctx, node), .gates = mrc__out(node->saved[0]),
        .cells = mrc__out(node->saved[1]) };
    MRC__TRY(mrc_grad_target(ctx, x, &a.dx));
    for (int k = 0; k < 2; k++) {
        for (int j = 1; j <= 2; j++) MRC__TRY(mrc__need(ctx, node->in[j + 4 * k]));
        a.weight_ih[k] = mrc__param_in(node->in[1 + 4 * k], x->dtype);
        a.weight_hh[k] = mrc__param_in(node->in[2 + 4 * k], x->dtype);
    }
    mrc_out *const targets[] = { a.dweight_ih, a.dweight_hh, a.dbias_ih, a.dbias_hh };
    for (int j = 0; j < 8; j++) {               // the kernel's order: a weight may be used twice
        MRC__TRY(mrc_grad_target(ctx, node->in[1 + j / 2 + 4 * (j % 2)], &targets[j / 2][j % 2]));
    }
    a.gates.ld = 8 * a.h;
    a.cells.ld = 2 * a.h;
    return MRC__RUN(ctx, x->dtype, lstm_bwd, &a);
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
#endif

//==============================================================================
// >>op.optim   the optimizer's kernels: no nodes, run by mrc_optimizer_step()
//   norm = sqrt(sum over all gradients of g^2)      clip = min(1, max_norm / (norm + 1e-6))
//   g = clip * gradient     m = b1 m + (1 - b1) g     v = b2 v + (1 - b2) g^2,  t: steps applied
//   hf:     p -= lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps);  then  p -= lr wd p
//   torch:  p -= lr wd p;  p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
//
// PARITY 3.11.  The two differ in where eps stands and in the order of the decay.  A gradient that
// is not finite makes the norm so: then nothing is written and t does not count.
//==============================================================================
#ifdef MRC__PASS_NAIVE
static mrc_status MRC__T(grad_norm)(mrc_backend *be, const mrc_grad_norm_args *a) {
    int32_t *state = a->state.data;
    double sum = 0;
    (void)be;
    for (size_t k = 0; k < a->n_tensors; k++) {
        for (size_t i = 0; i < a->tensors[k].numel; i++) {
            double g = MRC__T(at)(a->tensors[k].grad, 0, i);
            sum += g * g;
        }
    }
    double norm = (MRC__REAL)sqrt(sum), clip = a->max_norm > 0 ? a->max_norm / (norm + 1e-6) : 1;
    MRC__T(put)(a->norm, 0, 0, norm);
    MRC__T(put)(a->clip, 0, 0, clip < 1 ? clip : 1);
    state[1] = !(norm <= DBL_MAX);                      // NaN, infinity, too large for the type
    state[0] += !state[1];
    return MRC_OK;
}

static void MRC__T(adamw_one)(const mrc_adamw_args *a, const mrc_optim_tensor *t, double clip,
                              double c1, double c2) {
    const int hf = a->variant == MRC_ADAMW_HF;
    for (size_t i = 0; i < t->numel; i++) {
        double g = clip * MRC__T(at)(t->grad, 0, i), p = ((const MRC__REAL *)t->param.data)[i];
        double m = ((const MRC__REAL *)t->m.data)[i], v = ((const MRC__REAL *)t->v.data)[i];
        m = a->beta1 * m + (1 - a->beta1) * g;
        v = a->beta2 * v + (1 - a->beta2) * g * g;
        if (hf) {
            p -= t->lr * sqrt(c2) / c1 * m / (sqrt(v) + a->eps);
            p -= t->lr * t->weight_decay * p;
        } else {
            p -= t->lr * t->weight_decay * p;
            p -= t->lr / c1 * m / (sqrt(v) / sqrt(c2) + a->eps);
        }
        ((MRC__REAL *)t->m.data)[i] = (MRC__REAL)m;
        ((MRC__REAL *)t->v.data)[i] = (MRC__REAL)v;
        ((MRC__REAL *)t->param.data)[i] = (MRC__REAL)p;
    }
}

static mrc_status MRC__T(adamw)(mrc_backend *be, const mrc_adamw_args *a) {
    const int32_t *state = a->state.data;
    (void)be;
    if (state[1]) return MRC_OK;
    double c1 = 1 - pow(a->beta1, state[0]), c2 = 1 - pow(a->beta2, state[0]);
    for (size_t k = 0; k < a->n_tensors; k++) {
        MRC__T(adamw_one)(a, &a->tensors[k], MRC__T(at)(a->clip, 0, 0), c1, c2);
    }
    return MRC_OK;
}
#endif

//==============================================================================
// >>op.custom   the user's forward result and backward function
//==============================================================================
#ifdef MRC__PASS_CORE
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
    k->embedding_fwd     = MRC__T(embedding_fwd);
    k->embedding_bwd     = MRC__T(embedding_bwd);
    k->qkv_fwd           = MRC__T(qkv_fwd);
    k->qkv_bwd           = MRC__T(qkv_bwd);
    k->attention_fwd     = MRC__T(attention_fwd);
    k->attention_bwd     = MRC__T(attention_bwd);
    k->attention_fwd_workspace = MRC__T(attention_fwd_workspace);
    k->attention_bwd_workspace = MRC__T(attention_bwd_workspace);
    k->add_norm_fwd      = MRC__T(add_norm_fwd);
    k->add_norm_bwd      = MRC__T(add_norm_bwd);
    k->lstm_fwd          = MRC__T(lstm_fwd);
    k->lstm_bwd          = MRC__T(lstm_bwd);
    k->lstm_fwd_workspace = MRC__T(lstm_fwd_workspace);
    k->lstm_bwd_workspace = MRC__T(lstm_bwd_workspace);
    k->grad_norm         = MRC__T(grad_norm);
    k->adamw             = MRC__T(adamw);
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
    struct mrc__pool *pool;         // cpu: its threads
    char         *pack_a;           // cpu: the gemm's scratch: one of pack_a_bytes a thread, and
    void         *pack_b;           // one that all share
    size_t        pack_a_bytes;
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
    mrc__pool_free(h->pool, &host);
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
// >>impl.cpu_math   vectors, and the functions that activations need
//
// A vector is a GCC/Clang vector of the pass's width: vec in registers, mem at any address.
// Element i of a result depends on element i alone, so tails go through the same code in a padded
// vector and a value has the same bits wherever it stands.  f64 calls libm for each lane: it is
// there for tests.
// Polynomials are least-squares fits of our own, reweighted towards equal ripple.  Largest errors
// against libm in double, measured, in units of the last place: exp 1.0, sigmoid 2.4, tanh 2.5, Phi
// 5.2 above -1; below, down to -5, 7e-7 relative, as its argument x^2 / 2 is rounded once.
//==============================================================================
#ifdef MRC__PASS_CPU
#define MRC__INLINE MRC__TARGET static inline __attribute__((always_inline))
#define MRC__ALONE  MRC__TARGET static __attribute__((noinline)) void
#ifdef __clang__                    // before loops of constant length, 16 at most
#define MRC__UNROLL _Pragma("clang loop unroll(full)")
#else
#define MRC__UNROLL _Pragma("GCC unroll 16")
#endif
typedef MRC__REAL MRC__T(vec) __attribute__((vector_size(MRC__VEC_BYTES), may_alias));
typedef MRC__REAL MRC__T(mem) __attribute__((vector_size(MRC__VEC_BYTES), may_alias,
                                             aligned(sizeof(MRC__REAL))));
#if MRC__F32
typedef int32_t MRC__T(ivec) __attribute__((vector_size(MRC__VEC_BYTES), may_alias));
typedef uint32_t MRC__T(uvec) __attribute__((vector_size(MRC__VEC_BYTES), may_alias));
#else
typedef int64_t MRC__T(ivec) __attribute__((vector_size(MRC__VEC_BYTES), may_alias));
#endif
enum {
    MRC__T(LANES) = MRC__VEC_BYTES / sizeof(MRC__REAL),
    MRC__T(COLS) = 2 * MRC__VEC_BYTES / sizeof(MRC__REAL)       // of a register block
};

MRC__INLINE MRC__T(vec) MRC__T(splat)(MRC__REAL x) { return x - (MRC__T(vec)){0}; }
MRC__INLINE MRC__T(vec) MRC__T(load)(const MRC__REAL *p) { return *(const MRC__T(mem) *)p; }
MRC__INLINE void MRC__T(store)(MRC__REAL *p, MRC__T(vec) v) { *(MRC__T(mem) *)p = v; }

// The first n elements, n at most LANES; the others are 0, or not written.
MRC__INLINE MRC__T(vec) MRC__T(load_n)(const MRC__REAL *p, size_t n) {
    if (n >= MRC__T(LANES)) return MRC__T(load)(p);
    MRC__T(vec) v = {0};
    for (size_t i = 0; i < n; i++) v[i] = p[i];
    return v;
}
MRC__INLINE void MRC__T(store_n)(MRC__REAL *p, MRC__T(vec) v, size_t n) {
    if (n >= MRC__T(LANES)) {
        MRC__T(store)(p, v);
        return;
    }
    for (size_t i = 0; i < n; i++) p[i] = v[i];
}
// How a gradient is written.
MRC__INLINE void MRC__T(write_n)(MRC__REAL *p, MRC__T(vec) v, size_t n, int accumulate) {
    if (accumulate) v = v + MRC__T(load_n)(p, n);
    MRC__T(store_n)(p, v, n);
}

MRC__INLINE MRC__T(vec) MRC__T(select)(MRC__T(ivec) mask, MRC__T(vec) a, MRC__T(vec) b) {
    return (MRC__T(vec))((mask & (MRC__T(ivec))a) | (~mask & (MRC__T(ivec))b));
}
// a > b ? a : b and a < b ? a : b, so b where one is NaN: a value that may be NaN comes second.
MRC__INLINE MRC__T(vec) MRC__T(max)(MRC__T(vec) a, MRC__T(vec) b) {
#if defined(__x86_64__) && MRC__F32 && MRC__VEC_BYTES == 64
    return (MRC__T(vec))_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__x86_64__) && MRC__F32 && MRC__VEC_BYTES == 32
    return (MRC__T(vec))_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__) && MRC__F32
    return (MRC__T(vec))_mm_max_ps((__m128)a, (__m128)b);
#else
    return MRC__T(select)((MRC__T(ivec))(a > b), a, b);
#endif
}
MRC__INLINE MRC__T(vec) MRC__T(min)(MRC__T(vec) a, MRC__T(vec) b) {
#if defined(__x86_64__) && MRC__F32 && MRC__VEC_BYTES == 64
    return (MRC__T(vec))_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__x86_64__) && MRC__F32 && MRC__VEC_BYTES == 32
    return (MRC__T(vec))_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__x86_64__) && MRC__F32
    return (MRC__T(vec))_mm_min_ps((__m128)a, (__m128)b);
#else
    return MRC__T(select)((MRC__T(ivec))(a < b), a, b);
#endif
}
// As a tree, in double.
MRC__INLINE double MRC__T(sum)(MRC__T(vec) v) {
    double s[MRC__T(LANES)];
#pragma GCC unroll 16
    for (size_t i = 0; i < MRC__T(LANES); i++) s[i] = (double)v[i];
#pragma GCC unroll 4
    for (size_t half = MRC__T(LANES) / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
        for (size_t i = 0; i < half; i++) s[i] += s[i + half];
    }
    return s[0];
}
MRC__INLINE MRC__REAL MRC__T(largest)(MRC__T(vec) v) {
#pragma GCC unroll 4
    for (size_t half = MRC__T(LANES) / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
        for (size_t i = 0; i < half; i++) v[i] = v[i] > v[i + half] ? v[i] : v[i + half];
    }
    return v[0];
}

MRC__INLINE MRC__T(vec) MRC__T(sqrt)(MRC__T(vec) v) {
#if defined(__x86_64__) && MRC__F32 && MRC__VEC_BYTES == 64
    return (MRC__T(vec))_mm512_sqrt_ps((__m512)v);
#elif defined(__x86_64__) && MRC__F32 && MRC__VEC_BYTES == 32
    return (MRC__T(vec))_mm256_sqrt_ps((__m256)v);
#elif defined(__x86_64__) && MRC__F32
    return (MRC__T(vec))_mm_sqrt_ps((__m128)v);
#else
    for (size_t i = 0; i < MRC__T(LANES); i++) v[i] = (MRC__REAL)sqrt((double)v[i]);
    return v;
#endif
}

#if MRC__F32
// e^r - 1 for |r| <= ln 2 / 2.
MRC__INLINE MRC__T(vec) MRC__T(expm1_part)(MRC__T(vec) r) {
    MRC__T(vec) q = MRC__T(splat)(0.00019857828738167882f);
    q = q * r + 0.0013933687005192041f;
    q = q * r + 0.008333360776305199f;
    q = q * r + 0.041666463017463684f;
    q = q * r + 0.1666666716337204f;
    q = q * r + 0.5f;
    return r + r * r * q;
}

// x = n ln 2 + r, |r| <= ln 2 / 2; returns r.  x is clamped to where e^x is 0 or infinite.
MRC__INLINE MRC__T(vec) MRC__T(exp_reduce)(MRC__T(vec) x, MRC__T(ivec) *n) {
    const float round = 12582912.0f;                    // 1.5 * 2^23: adding it rounds to integer
    x = MRC__T(min)(MRC__T(splat)(89.0f), MRC__T(max)(MRC__T(splat)(-104.5f), x));
    MRC__T(vec) t = x * 1.4426950408889634f + round, k = t - round;
    *n = (MRC__T(ivec))((MRC__T(uvec))t - 0x4b400000u);
    x = x - k * 0.693359375f;                           // ln 2 in two parts: the first is exact
    return x + k * 2.12194440054690583e-4f;
}

MRC__INLINE MRC__T(vec) MRC__T(exp)(MRC__T(vec) x) {
    MRC__T(ivec) n;
    MRC__T(vec) y = MRC__T(expm1_part)(MRC__T(exp_reduce)(x, &n)) + 1.0f;
    MRC__T(ivec) half = n >> 1;                         // two steps: 2^128 is no float
    MRC__T(uvec) a = ((MRC__T(uvec))half + 127u) << 23;
    MRC__T(uvec) b = ((MRC__T(uvec))n - (MRC__T(uvec))half + 127u) << 23;
    return y * (MRC__T(vec))a * (MRC__T(vec))b;
}

MRC__INLINE MRC__T(vec) MRC__T(sigmoid)(MRC__T(vec) x) {
    return 1.0f / (1.0f + MRC__T(exp)(-x));
}

// -(e^(-2|x|) - 1) / (e^(-2|x|) + 1) with x's sign: exact where x is small, no overflow.
MRC__INLINE MRC__T(vec) MRC__T(tanh)(MRC__T(vec) x) {
    const MRC__T(ivec) sign = (MRC__T(ivec))x & (MRC__T(ivec))MRC__T(splat)(-0.0f);
    MRC__T(ivec) n;
    MRC__T(vec) size = MRC__T(min)(MRC__T(splat)(20.0f), (MRC__T(vec))((MRC__T(ivec))x ^ sign));
    MRC__T(vec) p = MRC__T(expm1_part)(MRC__T(exp_reduce)(-2.0f * size, &n));
    MRC__T(vec) two_n = (MRC__T(vec))(((MRC__T(uvec))n + 127u) << 23);
    p = two_n * p + (two_n - 1.0f);
    return (MRC__T(vec))((MRC__T(ivec))(-p / (p + 2.0f)) | sign);
}

// The normal distribution: its integral up to x, and *density its density at x.
// For u = |x|: Phi(-u) = e^(-u^2 / 2) Q(t), t = (u - 3) / (u + 3).
MRC__INLINE MRC__T(vec) MRC__T(normal)(MRC__T(vec) x, MRC__T(vec) *density) {
    const MRC__T(ivec) sign = (MRC__T(ivec))MRC__T(splat)(-0.0f);
    MRC__T(vec) u = MRC__T(min)(MRC__T(splat)(20.0f), (MRC__T(vec))((MRC__T(ivec))x & ~sign));
    MRC__T(vec) e = MRC__T(exp)(-0.5f * u * u), t = (u - 3.0f) / (u + 3.0f);
    MRC__T(vec) q = MRC__T(splat)(4.83368662e-5f);
    q = q * t + 0.000110464886f;
    q = q * t - 0.000333459741f;
    q = q * t - 0.000978736324f;
    q = q * t + 0.00290196109f;
    q = q * t + 0.00613055651f;
    q = q * t - 0.0462128122f;
    q = q * t + 0.123225165f;
    q = q * t - 0.206402645f;
    q = q * t + 0.121513946f;
    MRC__T(vec) lower = e * q;
    *density = e * 0.3989422804f;
    return MRC__T(select)((MRC__T(ivec))(x > 0.0f), 1.0f - lower, lower);
}
#else
MRC__INLINE MRC__T(vec) MRC__T(exp)(MRC__T(vec) x) {
    for (size_t i = 0; i < MRC__T(LANES); i++) x[i] = exp(x[i]);
    return x;
}
MRC__INLINE MRC__T(vec) MRC__T(sigmoid)(MRC__T(vec) x) {
    return 1.0 / (1.0 + MRC__T(exp)(-x));
}
MRC__INLINE MRC__T(vec) MRC__T(tanh)(MRC__T(vec) x) {
    for (size_t i = 0; i < MRC__T(LANES); i++) x[i] = tanh(x[i]);
    return x;
}
MRC__INLINE MRC__T(vec) MRC__T(normal)(MRC__T(vec) x, MRC__T(vec) *density) {
    *density = MRC__T(exp)(-0.5 * x * x) * 0.39894228040143267794;
    for (size_t i = 0; i < MRC__T(LANES); i++) {
        x[i] = 0.5 * (1.0 + erf(x[i] * 0.70710678118654752440));
    }
    return x;
}
#endif

// GELU and its gradient over n elements.  Not inlined: linear_fwd and gelu_fwd must agree bitwise.
MRC__ALONE MRC__T(gelu_span)(const MRC__REAL *x, MRC__REAL *y, size_t n) {
    for (size_t i = 0; i < n; i += MRC__T(LANES)) {
        MRC__T(vec) v = MRC__T(load_n)(x + i, n - i), density;
        MRC__T(store_n)(y + i, v * MRC__T(normal)(v, &density), n - i);
    }
}

MRC__ALONE MRC__T(gelu_bwd_span)(const MRC__REAL *x, const MRC__REAL *dy, MRC__REAL *dx, size_t n,
                                 int accumulate) {
    for (size_t i = 0; i < n; i += MRC__T(LANES)) {
        // forward was: y = x * Phi(x)
        MRC__T(vec) v = MRC__T(load_n)(x + i, n - i), density;
        MRC__T(vec) slope = MRC__T(normal)(v, &density);
        slope = slope + v * density;
        MRC__T(write_n)(dx + i, MRC__T(load_n)(dy + i, n - i) * slope, n - i, accumulate);
    }
}

#if MRC__F32 && defined(__x86_64__)
#define MRC__PHILOX_VECTOR
typedef uint64_t MRC__T(wide) __attribute__((vector_size(MRC__VEC_BYTES), may_alias));

// The product of the low halves of each 64-bit lane.
MRC__INLINE MRC__T(wide) MRC__T(mul32)(MRC__T(wide) a, MRC__T(wide) b) {
#if MRC__VEC_BYTES == 64
    return (MRC__T(wide))_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif MRC__VEC_BYTES == 32
    return (MRC__T(wide))_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
    return (MRC__T(wide))_mm_mul_epu32((__m128i)a, (__m128i)b);
#endif
}

// Words of the COLS features from f, a multiple of COLS, in order.  Each 64-bit lane runs one
// counter in its low half; high halves hold rubbish, which no product reads.  The counters are laid
// out so that interleaving pairs of lanes leaves words in order.
MRC__INLINE void MRC__T(philox)(const uint32_t key[2], const uint32_t where[3], size_t f,
                                MRC__T(uvec) out[2]) {
#if MRC__VEC_BYTES == 64
    const MRC__T(wide) order = { 0, 4, 1, 5, 2, 6, 3, 7 };
#elif MRC__VEC_BYTES == 32
    const MRC__T(wide) order = { 0, 2, 1, 3 };
#else
    const MRC__T(wide) order = { 0, 1 };
#endif
    const MRC__T(wide) zero = {0}, low = zero + 0xffffffffu;
    const MRC__T(wide) m0 = zero + 0xD2511F53u, m1 = zero + 0xCD9E8D57u;
    MRC__T(wide) c0 = order + (uint64_t)(f / 4), c1 = zero + (uint64_t)where[0];
    MRC__T(wide) c2 = zero + (uint64_t)where[1], c3 = zero + (uint64_t)where[2];
    uint32_t k0 = key[0], k1 = key[1];
    MRC__UNROLL
    for (int round = 0; round < 10; round++) {
        MRC__T(wide) p0 = MRC__T(mul32)(c0, m0), p1 = MRC__T(mul32)(c2, m1);
        c0 = (p1 >> 32) ^ c1 ^ (uint64_t)k0;
        c2 = (p0 >> 32) ^ c3 ^ (uint64_t)k1;
        c1 = p1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    MRC__T(wide) a = (c0 & low) | (c1 << 32), b = (c2 & low) | (c3 << 32);
#if MRC__VEC_BYTES == 64
    out[0] = (MRC__T(uvec))_mm512_unpacklo_epi64((__m512i)a, (__m512i)b);
    out[1] = (MRC__T(uvec))_mm512_unpackhi_epi64((__m512i)a, (__m512i)b);
#elif MRC__VEC_BYTES == 32
    out[0] = (MRC__T(uvec))_mm256_unpacklo_epi64((__m256i)a, (__m256i)b);
    out[1] = (MRC__T(uvec))_mm256_unpackhi_epi64((__m256i)a, (__m256i)b);
#else
    out[0] = (MRC__T(uvec))_mm_unpacklo_epi64((__m128i)a, (__m128i)b);
    out[1] = (MRC__T(uvec))_mm_unpackhi_epi64((__m128i)a, (__m128i)b);
#endif
}
#endif

// Factors, 0 or the scale, of the features f .. f + COLS - 1 of a row; where: position, sequence,
// head.  f is a multiple of COLS.
MRC__INLINE void MRC__T(factors)(const mrc_mask *mask, const uint32_t where[3], size_t f,
                                 MRC__T(vec) out[2]) {
    out[0] = out[1] = MRC__T(splat)((MRC__REAL)mask->scale);
    if (mask->threshold == 0) return;
#ifdef MRC__PHILOX_VECTOR
    MRC__T(uvec) u[2];
    const MRC__T(uvec) least = (MRC__T(uvec)){0} + (uint32_t)mask->threshold;
    MRC__T(philox)(mask->key, where, f, u);
    out[0] = (MRC__T(vec))((MRC__T(ivec))out[0] & (MRC__T(ivec))(u[0] >= least));
    out[1] = (MRC__T(vec))((MRC__T(ivec))out[1] & (MRC__T(ivec))(u[1] >= least));
#else
    for (uint32_t i = 0; i < MRC__T(COLS); i += 4) {
        const uint32_t counter[4] = { (uint32_t)(f + i) / 4, where[0], where[1], where[2] };
        uint32_t u[4];
        mrc_philox4x32(counter, mask->key, u);
        for (uint32_t w = 0; w < 4; w++) {
            size_t at = i + w;
            if (u[w] < mask->threshold) out[at / MRC__T(LANES)][at % MRC__T(LANES)] = 0;
        }
    }
#endif
}
#undef MRC__PHILOX_VECTOR
#endif // cpu pass

//==============================================================================
// >>impl.cpu_gemm   packed, register-blocked matrix products
//
//   for each NC slice of n, KC slice of k:
//       all threads: pack b into panels of COLS columns, padded with 0
//           panel  [k = 0: c0 c1 .. c31][k = 1: c0 c1 .. c31] ..
//       tasks, each some rows by some of the panels:
//           pack a into panels of ROWS rows alike; for each pair of panels: a tile in registers
//
// An element of c is summed over k in order, slice by slice, by one task: its bits depend on the
// shape alone.  The packs are the instance's scratch.  Products are fused to FMA on purpose: gcc
// does not in -std=c11 unless told so (DESIGN 7: results are per build and instruction set).
// Blocking as in Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.
//==============================================================================
#ifdef MRC__PASS_CORE
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#define MRC__KC 384                 // a panel of b, KC x COLS, is read from L2, one of a from L1
#define MRC__NC 1024                // a multiple of every COLS
#define MRC__MC 96                  // a multiple of every ROWS: a's pack, MC x KC, stays in L2

static size_t mrc__ceil_div(size_t a, size_t b) { return a / b + (a % b != 0); }
static size_t mrc__round_up(size_t a, size_t b) { return mrc__ceil_div(a, b) * b; }
static size_t mrc__min(size_t a, size_t b) { return a < b ? a : b; }

// The size of equal slices of n, none above `most`, each a multiple of `unit`.
static size_t mrc__slice(size_t n, size_t most, size_t unit) {
    size_t slices = mrc__ceil_div(n, most);
    return slices ? mrc__round_up(mrc__ceil_div(n, slices), unit) : unit;
}
#endif

#ifdef MRC__PASS_CPU
// dst[k][0 .. width): `lines` rows or columns of src, then 0.  Element (line, k) of src is
// src[line * line_step + k * k_step], where one of the steps is 1.
MRC__INLINE void MRC__T(pack)(MRC__REAL *dst, const MRC__REAL *src, size_t line_step,
                              size_t k_step, size_t lines, size_t width, size_t kc) {
    if (line_step == 1 && lines == width) {
        for (size_t k = 0; k < kc; k++) {
            memcpy(dst + k * width, src + k * k_step, width * sizeof *dst);
        }
        return;
    }
    size_t line = 0;
#if defined(__x86_64__) && MRC__F32
    for (; k_step == 1 && line + 4 <= lines; line += 4) {       // 4 x 4 transposed in registers
        const float *s = src + line * line_step;
        float *to = dst + line;
        size_t k = 0;
        for (; k + 4 <= kc; k += 4) {
            __m128 a = _mm_loadu_ps(s + k), b = _mm_loadu_ps(s + line_step + k);
            __m128 c = _mm_loadu_ps(s + 2 * line_step + k), d = _mm_loadu_ps(s + 3 * line_step + k);
            __m128 ab = _mm_unpacklo_ps(a, b), cd = _mm_unpacklo_ps(c, d);
            __m128 ab2 = _mm_unpackhi_ps(a, b), cd2 = _mm_unpackhi_ps(c, d);
            _mm_storeu_ps(to + k * width, _mm_movelh_ps(ab, cd));
            _mm_storeu_ps(to + (k + 1) * width, _mm_movehl_ps(cd, ab));
            _mm_storeu_ps(to + (k + 2) * width, _mm_movelh_ps(ab2, cd2));
            _mm_storeu_ps(to + (k + 3) * width, _mm_movehl_ps(cd2, ab2));
        }
        for (; k < kc; k++) {
            for (size_t i = 0; i < 4; i++) to[k * width + i] = s[i * line_step + k];
        }
    }
#endif
    for (; line < width; line++) {
        const MRC__REAL *s = src + line * line_step;
        for (size_t k = 0; k < kc; k++) dst[k * width + line] = line < lines ? s[k * k_step] : 0;
    }
}

MRC__TARGET static void MRC__T(pack_a)(MRC__REAL *dst, const MRC__REAL *src, size_t line_step,
                                       size_t k_step, size_t lines, size_t kc) {
    MRC__T(pack)(dst, src, line_step, k_step, mrc__min(lines, MRC__ROWS), MRC__ROWS, kc);
}
MRC__TARGET static void MRC__T(pack_b)(MRC__REAL *dst, const MRC__REAL *src, size_t line_step,
                                       size_t k_step, size_t lines, size_t kc) {
    MRC__T(pack)(dst, src, line_step, k_step, mrc__min(lines, MRC__T(COLS)), MRC__T(COLS), kc);
}

// c (m, n) = or += a b, b packed.  Element (i, k) of a is rows[i][k] or, where rows is NULL,
// a[i / ROWS * a_step + i % ROWS + k * a_k]: packed (a_step ROWS kc, a_k ROWS), or a transposed
// matrix in place (a_step ROWS, a_k its ld).  Up to ROWS - 1 elements past m are read, not used.
typedef struct MRC__T(block) {
    size_t m, n, kc;
    const MRC__REAL *a, *const *rows, *b;
    size_t a_step, a_k, b_step;     // b_step: from panel to panel
    MRC__REAL *c;
    size_t ld;
    int accumulate;
} MRC__T(block);

// One tile of up to r rows; r and by_rows are constants where this is inlined.
MRC__INLINE void MRC__T(tile)(const int r, const int by_rows, const MRC__T(block) *t) {
    MRC__T(vec) sum[MRC__ROWS][2] = {{{0}}};
    const MRC__REAL *a = t->a, *b = t->b, *const *rows = t->rows;
    const size_t kc = t->kc, a_k = t->a_k;
    MRC__UNROLL
    for (size_t i = 0; i < (size_t)r; i++) {        // c is on its way while the sums are made
        __builtin_prefetch(t->c + mrc__min(i, t->m - 1) * t->ld, 1);
        __builtin_prefetch(t->c + mrc__min(i, t->m - 1) * t->ld + MRC__T(LANES), 1);
    }
    for (size_t k = 0; k < kc; k++, b += MRC__T(COLS), a += a_k) {
        const MRC__T(vec) b0 = MRC__T(load)(b), b1 = MRC__T(load)(b + MRC__T(LANES));
        MRC__UNROLL
        for (int i = 0; i < r; i++) {               // unrolled: sum must stay in registers
            const MRC__REAL ai = by_rows ? rows[i][k] : a[i];
            sum[i][0] += ai * b0;
            sum[i][1] += ai * b1;
        }
    }
    if (t->n >= MRC__T(COLS) && t->m >= (size_t)r) {
        MRC__UNROLL
        for (int i = 0; i < r; i++) {
            MRC__REAL *c = t->c + (size_t)i * t->ld;
            if (t->accumulate) {
                sum[i][0] += MRC__T(load)(c);
                sum[i][1] += MRC__T(load)(c + MRC__T(LANES));
            }
            MRC__T(store)(c, sum[i][0]);
            MRC__T(store)(c + MRC__T(LANES), sum[i][1]);
        }
        return;
    }
    MRC__T(vec) edge[MRC__ROWS][2];
    MRC__UNROLL
    for (int i = 0; i < r; i++) {
        edge[i][0] = sum[i][0];
        edge[i][1] = sum[i][1];
    }
    for (size_t i = 0; i < mrc__min(t->m, (size_t)r); i++) {
        for (size_t j = 0; j < 2; j++) {
            size_t left = t->n > j * MRC__T(LANES) ? t->n - j * MRC__T(LANES) : 0;
            MRC__REAL *c = t->c + i * t->ld + j * MRC__T(LANES);
            if (left) MRC__T(write_n)(c, edge[i][j], left, t->accumulate);
        }
    }
}

// Not inlined: a compiler that sees only one of these keeps its sums in registers.
MRC__ALONE MRC__T(tile_max)(const MRC__T(block) *t) { MRC__T(tile)(MRC__ROWS, 0, t); }
MRC__ALONE MRC__T(tile_mid)(const MRC__T(block) *t) { MRC__T(tile)(MRC__ROWS_MID, 0, t); }
MRC__ALONE MRC__T(tile_min)(const MRC__T(block) *t) { MRC__T(tile)(MRC__ROWS_MIN, 0, t); }
MRC__ALONE MRC__T(rows_max)(const MRC__T(block) *t) { MRC__T(tile)(MRC__ROWS, 1, t); }
MRC__ALONE MRC__T(rows_mid)(const MRC__T(block) *t) { MRC__T(tile)(MRC__ROWS_MID, 1, t); }
MRC__ALONE MRC__T(rows_min)(const MRC__T(block) *t) { MRC__T(tile)(MRC__ROWS_MIN, 1, t); }

// All tiles of a block, panel of b by panel of b.
MRC__TARGET static void MRC__T(multiply)(const MRC__T(block) *all) {
    for (size_t j = 0; j < all->n; j += MRC__T(COLS)) {
        for (size_t i = 0; i < all->m; i += MRC__ROWS) {
            MRC__T(block) t = *all;
            t.m = mrc__min(all->m - i, MRC__ROWS);
            t.n = mrc__min(all->n - j, MRC__T(COLS));
            t.b = all->b + j / MRC__T(COLS) * all->b_step;
            t.c = all->c + i * all->ld + j;
            if (all->rows) {
                t.rows = all->rows + i;
                if (t.m > MRC__ROWS_MID) MRC__T(rows_max)(&t);
                else if (t.m > MRC__ROWS_MIN) MRC__T(rows_mid)(&t);
                else MRC__T(rows_min)(&t);
                continue;
            }
            t.a = all->a + i / MRC__ROWS * all->a_step;
            if (t.m > MRC__ROWS_MID) MRC__T(tile_max)(&t);
            else if (t.m > MRC__ROWS_MIN) MRC__T(tile_mid)(&t);
            else MRC__T(tile_min)(&t);
        }
    }
}

// What a linear layer does to a finished block: z += bias, y = gelu(z) where there is one.
typedef struct MRC__T(finish) {
    const MRC__REAL *bias;
    MRC__REAL *y;                   // NULL: z is the result
    size_t ld;
} MRC__T(finish);

MRC__TARGET static void MRC__T(finish_rows)(const MRC__T(finish) *f, mrc_out z, size_t first,
                                            size_t last, size_t begin, size_t end) {
    for (size_t r = first; r < last; r++) {
        MRC__REAL *to = (MRC__REAL *)z.data + r * z.ld;
        for (size_t j = begin; j < end; j += MRC__T(LANES)) {
            MRC__T(vec) v = MRC__T(load_n)(to + j, end - j);
            MRC__T(store_n)(to + j, v + MRC__T(load_n)(f->bias + j, end - j), end - j);
        }
        if (f->y) MRC__T(gelu_span)(to + begin, f->y + r * f->ld + begin, end - begin);
    }
}

// One slice of the loops above; shared by its tasks.
typedef struct MRC__T(gemm_job) {
    const mrc_gemm_args *g;
    const MRC__T(finish) *finish;   // NULL but in the last slice of k
    const mrc__host_backend *h;
    size_t k0, kc, j0, nc, mc;      // mc: rows of a task
    size_t groups, group_cols;      // columns of a task, a multiple of COLS
    int accumulate;
} MRC__T(gemm_job);

MRC__TARGET static void MRC__T(gemm_pack)(void *arg, size_t task, size_t worker) {
    const MRC__T(gemm_job) *job = arg;
    const mrc_gemm_args *g = job->g;
    size_t line = g->b_transposed ? g->b.ld : 1, k_step = g->b_transposed ? 1 : g->b.ld;
    size_t j = task * MRC__T(COLS);
    (void)worker;
    MRC__T(pack_b)((MRC__REAL *)job->h->pack_b + j * job->kc,
                   (const MRC__REAL *)g->b.data + job->k0 * k_step + (job->j0 + j) * line, line,
                   k_step, job->nc - j, job->kc);
}

MRC__TARGET static void MRC__T(gemm_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(gemm_job) *job = arg;
    const mrc_gemm_args *g = job->g;
    size_t line = g->a_transposed ? 1 : g->a.ld, k_step = g->a_transposed ? g->a.ld : 1;
    size_t i0 = task / job->groups * job->mc, begin = task % job->groups * job->group_cols;
    size_t mc = mrc__min(job->mc, g->m - i0), cols = mrc__min(job->group_cols, job->nc - begin);
    MRC__REAL *pack = (MRC__REAL *)(void *)(job->h->pack_a + worker * job->h->pack_a_bytes);
    for (size_t i = 0; i < mc; i += MRC__ROWS) {
        MRC__T(pack_a)(pack + i * job->kc,
                       (const MRC__REAL *)g->a.data + job->k0 * k_step + (i0 + i) * line, line,
                       k_step, mc - i, job->kc);
    }
    MRC__T(block) block = {
        .m = mc, .n = cols, .kc = job->kc, .a = pack, .a_step = MRC__ROWS * job->kc,
        .a_k = MRC__ROWS, .b = (const MRC__REAL *)job->h->pack_b + begin * job->kc,
        .b_step = MRC__T(COLS) * job->kc, .ld = g->c.ld, .accumulate = job->accumulate,
        .c = (MRC__REAL *)g->c.data + i0 * g->c.ld + job->j0 + begin };
    MRC__T(multiply)(&block);
    if (job->finish) {
        MRC__T(finish_rows)(job->finish, g->c, i0, i0 + mc, job->j0 + begin,
                            job->j0 + begin + cols);
    }
}

MRC__TARGET static mrc_status MRC__T(gemm_run)(mrc_backend *be, const mrc_gemm_args *g,
                                               const MRC__T(finish) *finish) {
    const mrc__host_backend *h = be->self;
    size_t nc = mrc__slice(g->n, MRC__NC, MRC__T(COLS)), kc = mrc__slice(g->k, MRC__KC, 4);
    size_t panels = mrc__ceil_div(g->m, MRC__ROWS);
    size_t mc = mrc__min(mrc__ceil_div(panels, 16) * MRC__ROWS, MRC__MC);
    size_t row_tasks = mrc__ceil_div(g->m, mc ? mc : 1);
    if (row_tasks == 0) return MRC_OK;
    for (size_t j0 = 0; j0 < g->n; j0 += nc) {
        for (size_t k0 = 0; k0 == 0 || k0 < g->k; k0 += kc) {   // k = 0 still writes c
            MRC__T(gemm_job) job = { .g = g, .h = h, .k0 = k0, .kc = mrc__min(kc, g->k - k0),
                                     .j0 = j0, .nc = mrc__min(nc, g->n - j0), .mc = mc,
                                     .finish = k0 + kc >= g->k ? finish : NULL,
                                     .accumulate = k0 > 0 || g->c.accumulate };
            size_t b_panels = mrc__ceil_div(job.nc, MRC__T(COLS));
            size_t split = mrc__min(mrc__ceil_div(16, row_tasks), b_panels);
            job.group_cols = mrc__ceil_div(b_panels, split) * MRC__T(COLS);
            job.groups = mrc__ceil_div(job.nc, job.group_cols);
            size_t work = g->m * job.nc * job.kc / 64;
            mrc__pool_run(h->pool, b_panels, job.nc * job.kc / 2, MRC__T(gemm_pack), &job);
            mrc__pool_run(h->pool, row_tasks * job.groups, work, MRC__T(gemm_task), &job);
        }
    }
    return MRC_OK;
}

MRC__TARGET static mrc_status MRC__T(gemm)(mrc_backend *be, const mrc_gemm_args *g) {
    return MRC__T(gemm_run)(be, g, NULL);
}
#endif // cpu pass

//==============================================================================
// >>impl.cpu_ops   linear, qkv, gelu, layer_norm, add_norm, dropout, embedding, the optimizer
//
// Maps over rows are tasks of some rows; sums over rows (biases, LayerNorm's weights) are tasks of
// COLS columns that walk down all rows in order, 64 rows at a time so that a long sum rounds like a
// short one.  Products go through the table's gemm, so that who replaces gemm speeds all of this
// up; with our own gemm a linear layer's bias and GELU are applied to each block while in cache.
//==============================================================================
#ifdef MRC__PASS_CORE
enum { MRC__CPU_ROWS = 16, MRC__CPU_RUN = 64, MRC__CPU_CHUNK = 8192 };

static size_t mrc__cpu_row_tasks(size_t n) { return mrc__ceil_div(n, MRC__CPU_ROWS); }

// The sequence of row r; s only grows from row to row of a task.
static size_t mrc__cpu_sequence(const int32_t *cu, size_t s, size_t r) {
    while ((size_t)cu[s + 1] <= r) s++;
    return s;
}
#endif

#ifdef MRC__PASS_CPU
MRC__INLINE const MRC__REAL *MRC__T(row)(mrc_in m, size_t r) {
    return (const MRC__REAL *)m.data + r * m.ld;
}
MRC__INLINE MRC__REAL *MRC__T(out_row)(mrc_out m, size_t r) {
    return (MRC__REAL *)m.data + r * m.ld;
}
static mrc_in MRC__T(saved)(mrc_out m) { return (mrc_in){ m.dtype, m.ld, m.data }; }

// Sums over the rows of dy, with LayerNorm's: of dy * xhat, where x is given.
typedef struct MRC__T(columns) {
    size_t  n, h;
    mrc_in  dy, x, mean, rstd;      // x.data NULL: only the plain sum
    mrc_out dweight, dbias;
} MRC__T(columns);

MRC__TARGET static void MRC__T(columns_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(columns) *c = arg;
    const MRC__REAL *mean = c->mean.data, *rstd = c->rstd.data;
    const size_t j = task * MRC__T(COLS), left = c->h - j;
    const size_t right = left > MRC__T(LANES) ? left - MRC__T(LANES) : 0;
    MRC__T(vec) total[4] = {{0}};
    (void)worker;
    for (size_t r0 = 0; r0 < c->n; r0 += MRC__CPU_RUN) {
        MRC__T(vec) w0 = {0}, w1 = {0}, b0 = {0}, b1 = {0};
        for (size_t r = r0; r < c->n && r < r0 + MRC__CPU_RUN; r++) {
            const MRC__REAL *dy = MRC__T(row)(c->dy, r) + j;
            MRC__T(vec) d0 = MRC__T(load_n)(dy, left), d1 = {0};
            if (right) d1 = MRC__T(load_n)(dy + MRC__T(LANES), right);
            b0 += d0;
            b1 += d1;
            if (!c->x.data) continue;
            const MRC__REAL *x = MRC__T(row)(c->x, r) + j;
            w0 += d0 * ((MRC__T(load_n)(x, left) - mean[r]) * rstd[r]);
            if (right) w1 += d1 * ((MRC__T(load_n)(x + MRC__T(LANES), right) - mean[r]) * rstd[r]);
        }
        total[0] += w0;
        total[1] += w1;
        total[2] += b0;
        total[3] += b1;
    }
    const mrc_out out[2] = { c->dweight, c->dbias };
    for (size_t k = 0; k < 2; k++) {
        MRC__REAL *to = (MRC__REAL *)out[k].data + j;
        if (!out[k].data) continue;
        MRC__T(write_n)(to, total[2 * k], left, out[k].accumulate);
        if (right) {
            MRC__T(write_n)(to + MRC__T(LANES), total[2 * k + 1], right, out[k].accumulate);
        }
    }
}

MRC__TARGET static void MRC__T(sum_columns)(mrc_backend *be, MRC__T(columns) c) {
    const mrc__host_backend *h = be->self;
    if (!c.dweight.data && !c.dbias.data) return;
    mrc__pool_run(h->pool, mrc__ceil_div(c.h, MRC__T(COLS)), c.n * c.h / 8,
                  MRC__T(columns_task), &c);
}

// ---- linear, qkv ----

typedef struct MRC__T(finish_job) { MRC__T(finish) f; mrc_out z; size_t n, out; }
    MRC__T(finish_job);
MRC__TARGET static void MRC__T(finish_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(finish_job) *j = arg;
    size_t first = task * MRC__CPU_ROWS;
    (void)worker;
    MRC__T(finish_rows)(&j->f, j->z, first, mrc__min(j->n, first + MRC__CPU_ROWS), 0, j->out);
}

MRC__TARGET static mrc_status MRC__T(linear_fwd)(mrc_backend *be, const mrc_linear_fwd_args *a) {
    const mrc__host_backend *h = be->self;
    const int gelu = a->act == MRC_ACT_GELU;
    const mrc_gemm_args g = { .m = a->n, .n = a->out, .k = a->in, .b_transposed = 1, .a = a->x,
                              .b = a->weight, .c = gelu && a->z.data ? a->z : a->y };
    MRC__T(finish_job) job = { .f = { .bias = a->bias.data, .y = gelu ? a->y.data : NULL,
                                      .ld = a->y.ld }, .z = g.c, .n = a->n, .out = a->out };
    if (be->kernels[a->x.dtype].gemm == MRC__T(gemm)) return MRC__T(gemm_run)(be, &g, &job.f);
    MRC__TRY(be->kernels[a->x.dtype].gemm(be, &g));
    mrc__pool_run(h->pool, mrc__cpu_row_tasks(a->n), a->n * a->out / 4, MRC__T(finish_task), &job);
    return MRC_OK;
}

MRC__TARGET static void MRC__T(linear_dz_task)(void *arg, size_t task, size_t worker) {
    const mrc_linear_bwd_args *a = arg;
    size_t first = task * MRC__CPU_ROWS, last = mrc__min(a->n, first + MRC__CPU_ROWS);
    (void)worker;
    for (size_t r = first; r < last; r++) {
        MRC__REAL *z = MRC__T(out_row)(a->z, r);
        MRC__T(gelu_bwd_span)(z, MRC__T(row)(a->dy, r), z, a->out, 0);
    }
}

MRC__TARGET static mrc_status MRC__T(linear_bwd)(mrc_backend *be, const mrc_linear_bwd_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_linear_bwd_args job = *a;
    mrc_in dz = a->dy;
    if (a->act == MRC_ACT_GELU) {
        mrc__pool_run(h->pool, mrc__cpu_row_tasks(a->n), a->n * a->out / 2,
                      MRC__T(linear_dz_task), &job);
        dz = MRC__T(saved)(a->z);
        dz.dtype = a->dy.dtype;
    }
    // forward was: z = x W^T + b
    mrc_gemm_args dx = { .m = a->n, .n = a->in, .k = a->out, .a = dz, .b = a->weight, .c = a->dx };
    mrc_gemm_args dw = { .m = a->out, .n = a->in, .k = a->n, .a_transposed = 1, .a = dz, .b = a->x,
                         .c = a->dweight };
    if (dx.c.data) MRC__TRY(be->kernels[a->x.dtype].gemm(be, &dx));
    if (dw.c.data) MRC__TRY(be->kernels[a->x.dtype].gemm(be, &dw));
    MRC__T(sum_columns)(be, (MRC__T(columns)){ .n = a->n, .h = a->out, .dy = dz,
                                               .dbias = a->dbias });
    return MRC_OK;
}

MRC__TARGET static mrc_status MRC__T(qkv_fwd)(mrc_backend *be, const mrc_qkv_fwd_args *a) {
    for (size_t k = 0; k < 3; k++) {
        mrc_linear_fwd_args one = { .n = a->n, .in = a->in, .out = a->out, .x = a->x,
                                    .weight = a->weight[k], .bias = a->bias[k], .y = a->y };
        one.y.data = (MRC__REAL *)a->y.data + k * a->out;
        MRC__TRY(MRC__T(linear_fwd)(be, &one));
    }
    return MRC_OK;
}

MRC__TARGET static mrc_status MRC__T(qkv_bwd)(mrc_backend *be, const mrc_qkv_bwd_args *a) {
    mrc_in dy[3];
    for (size_t k = 0; k < 3; k++) {
        dy[k] = a->dy;
        dy[k].data = (const MRC__REAL *)a->dy.data + k * a->out;
    }
    // forward was: y_k = x W_k^T + b_k.  In the order of the outputs.
    for (size_t k = 0; a->dx.data && k < 3; k++) {
        mrc_gemm_args dx = { .m = a->n, .n = a->in, .k = a->out, .a = dy[k], .b = a->weight[k],
                             .c = a->dx };
        dx.c.accumulate |= k > 0;
        MRC__TRY(be->kernels[a->x.dtype].gemm(be, &dx));
    }
    for (size_t k = 0; k < 3; k++) {
        mrc_gemm_args dw = { .m = a->out, .n = a->in, .k = a->n, .a_transposed = 1, .a = dy[k],
                             .b = a->x, .c = a->dweight[k] };
        if (dw.c.data) MRC__TRY(be->kernels[a->x.dtype].gemm(be, &dw));
    }
    for (size_t k = 0; k < 3; k++) {
        MRC__T(sum_columns)(be, (MRC__T(columns)){ .n = a->n, .h = a->out, .dy = dy[k],
                                                   .dbias = a->dbias[k] });
    }
    return MRC_OK;
}

// ---- gelu ----

MRC__TARGET static void MRC__T(gelu_task)(void *arg, size_t task, size_t worker) {
    const mrc_gelu_fwd_args *a = arg;
    size_t i = task * MRC__CPU_CHUNK;
    (void)worker;
    MRC__T(gelu_span)((const MRC__REAL *)a->x.data + i, (MRC__REAL *)a->y.data + i,
                      mrc__min(a->n - i, MRC__CPU_CHUNK));
}
MRC__TARGET static mrc_status MRC__T(gelu_fwd)(mrc_backend *be, const mrc_gelu_fwd_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_gelu_fwd_args job = *a;
    mrc__pool_run(h->pool, mrc__ceil_div(a->n, MRC__CPU_CHUNK), a->n / 2, MRC__T(gelu_task), &job);
    return MRC_OK;
}

MRC__TARGET static void MRC__T(gelu_bwd_task)(void *arg, size_t task, size_t worker) {
    const mrc_gelu_bwd_args *a = arg;
    size_t i = task * MRC__CPU_CHUNK;
    (void)worker;
    MRC__T(gelu_bwd_span)((const MRC__REAL *)a->x.data + i, (const MRC__REAL *)a->dy.data + i,
                          (MRC__REAL *)a->dx.data + i, mrc__min(a->n - i, MRC__CPU_CHUNK),
                          a->dx.accumulate);
}
MRC__TARGET static mrc_status MRC__T(gelu_bwd)(mrc_backend *be, const mrc_gelu_bwd_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_gelu_bwd_args job = *a;
    if (!a->dx.data) return MRC_OK;
    mrc__pool_run(h->pool, mrc__ceil_div(a->n, MRC__CPU_CHUNK), a->n / 2, MRC__T(gelu_bwd_task),
                  &job);
    return MRC_OK;
}

// ---- layer_norm, add_norm ----

// One row: mean and rstd of x, y = (x - mean) * rstd * weight + bias.  `rest` is what rounding the
// mean left over: it matters where the mean is much larger than the deviation.
MRC__INLINE void MRC__T(norm_row)(const MRC__REAL *x, MRC__REAL *y, const MRC__REAL *weight,
                                  const MRC__REAL *bias, size_t h, double eps, MRC__REAL *mean_out,
                                  MRC__REAL *rstd_out) {
    MRC__T(vec) sum = {0}, squares = {0}, rests = {0};
    for (size_t i = 0; i < h; i += MRC__T(LANES)) sum += MRC__T(load_n)(x + i, h - i);
    const MRC__REAL mean = (MRC__REAL)(MRC__T(sum)(sum) / (double)h);
    for (size_t i = 0; i < h; i += MRC__T(LANES)) {
        MRC__T(vec) d = MRC__T(load_n)(x + i, h - i) - mean;
        if (h - i < MRC__T(LANES)) {                    // lanes past the row are no elements
            for (size_t k = h - i; k < MRC__T(LANES); k++) d[k] = 0;
        }
        squares += d * d;
        rests += d;
    }
    const double off = MRC__T(sum)(rests) / (double)h;
    const double var = fmax(MRC__T(sum)(squares) / (double)h - off * off, 0);
    const MRC__REAL rstd = (MRC__REAL)(1 / sqrt(var + eps)), rest = (MRC__REAL)off;
    for (size_t i = 0; i < h; i += MRC__T(LANES)) {
        MRC__T(vec) xhat = (MRC__T(load_n)(x + i, h - i) - mean - rest) * rstd;
        xhat = xhat * MRC__T(load_n)(weight + i, h - i) + MRC__T(load_n)(bias + i, h - i);
        MRC__T(store_n)(y + i, xhat, h - i);
    }
    if (mean_out) *mean_out = mean;
    if (rstd_out) *rstd_out = rstd;
}

MRC__TARGET static void MRC__T(add_norm_task)(void *arg, size_t task, size_t worker) {
    const mrc_add_norm_fwd_args *a = arg;
    const int32_t *cu = a->cu_seqlens.data, *index = a->sequence_index.data;
    size_t first = task * MRC__CPU_ROWS, last = mrc__min(a->n, first + MRC__CPU_ROWS), s = 0;
    mrc_out u = a->sum.data ? a->sum : a->y;            // nobody wants u: y is room enough
    (void)worker;
    for (size_t r = first; r < last; r++) {
        s = mrc__cpu_sequence(cu, s, r);
        const uint32_t where[3] = { (uint32_t)r - (uint32_t)cu[s], (uint32_t)index[s], 0 };
        const MRC__REAL *x = MRC__T(row)(a->x, r), *residual = MRC__T(row)(a->residual, r);
        MRC__REAL *to = MRC__T(out_row)(u, r), *mean = a->mean.data, *rstd = a->rstd.data;
        for (size_t i = 0; i < a->h; i += MRC__T(COLS)) {
            MRC__T(vec) keep[2];
            MRC__T(factors)(&a->mask, where, i, keep);
            for (size_t k = 0, j = i; k < 2 && j < a->h; k++, j += MRC__T(LANES)) {
                MRC__T(vec) v = MRC__T(load_n)(x + j, a->h - j);
                v = MRC__T(select)((MRC__T(ivec))(keep[k] > 0), v * keep[k], (MRC__T(vec)){0});
                MRC__T(store_n)(to + j, v + MRC__T(load_n)(residual + j, a->h - j), a->h - j);
            }
        }
        MRC__T(norm_row)(to, MRC__T(out_row)(a->y, r), a->weight.data, a->bias.data, a->h, a->eps,
                         mean ? mean + r : NULL, rstd ? rstd + r : NULL);
    }
}

MRC__TARGET static mrc_status MRC__T(add_norm_fwd)(mrc_backend *be,
                                                   const mrc_add_norm_fwd_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_add_norm_fwd_args job = *a;
    mrc__pool_run(h->pool, mrc__cpu_row_tasks(a->n), a->n * a->h / 4, MRC__T(add_norm_task), &job);
    return MRC_OK;
}

MRC__TARGET static void MRC__T(layer_norm_task)(void *arg, size_t task, size_t worker) {
    const mrc_layer_norm_fwd_args *a = arg;
    size_t first = task * MRC__CPU_ROWS, last = mrc__min(a->n, first + MRC__CPU_ROWS);
    MRC__REAL *mean = a->mean.data, *rstd = a->rstd.data;
    (void)worker;
    for (size_t r = first; r < last; r++) {
        MRC__T(norm_row)(MRC__T(row)(a->x, r), MRC__T(out_row)(a->y, r), a->weight.data,
                         a->bias.data, a->h, a->eps, mean ? mean + r : NULL,
                         rstd ? rstd + r : NULL);
    }
}
MRC__TARGET static mrc_status MRC__T(layer_norm_fwd)(mrc_backend *be,
                                                     const mrc_layer_norm_fwd_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_layer_norm_fwd_args job = *a;
    mrc__pool_run(h->pool, mrc__cpu_row_tasks(a->n), a->n * a->h / 8, MRC__T(layer_norm_task),
                  &job);
    return MRC_OK;
}

// dresidual gets du, the gradient of what was normalised, and dx the part that dropout kept.
MRC__TARGET static void MRC__T(add_norm_bwd_task)(void *arg, size_t task, size_t worker) {
    const mrc_add_norm_bwd_args *a = arg;
    const int32_t *cu = a->cu_seqlens.data, *index = a->sequence_index.data;
    const MRC__REAL *w = a->weight.data;
    const size_t h = a->h, first = task * MRC__CPU_ROWS;
    size_t s = 0;
    (void)worker;
    for (size_t r = first; r < mrc__min(a->n, first + MRC__CPU_ROWS); r++) {
        const MRC__REAL *dy = MRC__T(row)(a->dy, r), *x = MRC__T(out_row)(a->sum, r);
        const MRC__REAL mean = ((const MRC__REAL *)a->mean.data)[r];
        const MRC__REAL rstd = ((const MRC__REAL *)a->rstd.data)[r];
        uint32_t where[3] = {0};
        MRC__T(vec) sum_g = {0}, sum_gx = {0};
        for (size_t i = 0; i < h; i += MRC__T(LANES)) {
            MRC__T(vec) g = MRC__T(load_n)(dy + i, h - i) * MRC__T(load_n)(w + i, h - i);
            sum_g += g;
            sum_gx += g * ((MRC__T(load_n)(x + i, h - i) - mean) * rstd);
        }
        const MRC__REAL mean_g = (MRC__REAL)(MRC__T(sum)(sum_g) / (double)h);
        const MRC__REAL mean_gx = (MRC__REAL)(MRC__T(sum)(sum_gx) / (double)h);
        if (a->dx.data && a->mask.threshold) {
            s = mrc__cpu_sequence(cu, s, r);
            where[0] = (uint32_t)r - (uint32_t)cu[s];
            where[1] = (uint32_t)index[s];
        }
        for (size_t i = 0; i < h; i += MRC__T(COLS)) {
            MRC__T(vec) keep[2];
            if (a->dx.data) MRC__T(factors)(&a->mask, where, i, keep);
            for (size_t k = 0, j = i; k < 2 && j < h; k++, j += MRC__T(LANES)) {
                MRC__T(vec) g = MRC__T(load_n)(dy + j, h - j) * MRC__T(load_n)(w + j, h - j);
                MRC__T(vec) xhat = (MRC__T(load_n)(x + j, h - j) - mean) * rstd;
                // forward was: u = residual + dropout(x); y = layer_norm(u)
                MRC__T(vec) du = (g - mean_g - xhat * mean_gx) * rstd;
                if (a->dx.data) {
                    MRC__T(write_n)(MRC__T(out_row)(a->dx, r) + j, du * keep[k], h - j,
                                    a->dx.accumulate);
                }
                if (a->dresidual.data) {
                    MRC__T(write_n)(MRC__T(out_row)(a->dresidual, r) + j, du, h - j,
                                    a->dresidual.accumulate);
                }
            }
        }
    }
}

MRC__TARGET static mrc_status MRC__T(add_norm_bwd)(mrc_backend *be,
                                                   const mrc_add_norm_bwd_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_add_norm_bwd_args job = *a;
    if (a->dx.data || a->dresidual.data) {
        mrc__pool_run(h->pool, mrc__cpu_row_tasks(a->n), a->n * a->h / 4,
                      MRC__T(add_norm_bwd_task), &job);
    }
    MRC__T(sum_columns)(be, (MRC__T(columns)){ .n = a->n, .h = a->h, .dy = a->dy,
        .x = MRC__T(saved)(a->sum), .mean = a->mean, .rstd = a->rstd, .dweight = a->dweight,
        .dbias = a->dbias });
    return MRC_OK;
}

// An add_norm of which only the residual's gradient is wanted.
MRC__TARGET static mrc_status MRC__T(layer_norm_bwd)(mrc_backend *be,
                                                     const mrc_layer_norm_bwd_args *a) {
    mrc_add_norm_bwd_args same = { .n = a->n, .h = a->h, .weight = a->weight, .mean = a->mean,
                                   .rstd = a->rstd, .dy = a->dy, .dresidual = a->dx,
                                   .dweight = a->dweight, .dbias = a->dbias };
    MRC__REAL *x;                   // read only: sum is an output just because others may spoil it
    memcpy(&x, &a->x.data, sizeof x);
    same.sum = (mrc_out){ .dtype = a->x.dtype, .ld = a->x.ld, .data = x };
    return MRC__T(add_norm_bwd)(be, &same);
}

// ---- dropout ----

MRC__TARGET static void MRC__T(dropout_task)(void *arg, size_t task, size_t worker) {
    const mrc_dropout_args *a = arg;
    const int32_t *cu = a->cu_seqlens.data, *index = a->sequence_index.data;
    size_t first = task * MRC__CPU_ROWS, last = mrc__min(a->n, first + MRC__CPU_ROWS), s = 0;
    (void)worker;
    for (size_t r = first; r < last; r++) {
        s = mrc__cpu_sequence(cu, s, r);
        const uint32_t where[3] = { (uint32_t)r - (uint32_t)cu[s], (uint32_t)index[s], 0 };
        const MRC__REAL *from = MRC__T(row)(a->from, r);
        MRC__REAL *to = MRC__T(out_row)(a->to, r);
        for (size_t i = 0; i < a->h; i += MRC__T(COLS)) {
            MRC__T(vec) keep[2];
            MRC__T(factors)(&a->mask, where, i, keep);
            for (size_t k = 0, j = i; k < 2 && j < a->h; k++, j += MRC__T(LANES)) {
                MRC__T(vec) v = MRC__T(load_n)(from + j, a->h - j) * keep[k];
                v = MRC__T(select)((MRC__T(ivec))(keep[k] > 0), v, (MRC__T(vec)){0});
                MRC__T(write_n)(to + j, v, a->h - j, a->to.accumulate);
            }
        }
    }
}
MRC__TARGET static mrc_status MRC__T(dropout)(mrc_backend *be, const mrc_dropout_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_dropout_args job = *a;
    if (!a->to.data) return MRC_OK;
    mrc__pool_run(h->pool, mrc__cpu_row_tasks(a->n), a->n * a->h / 8, MRC__T(dropout_task), &job);
    return MRC_OK;
}

// ---- embedding ----

MRC__TARGET static void MRC__T(embedding_task)(void *arg, size_t task, size_t worker) {
    const mrc_embedding_fwd_args *a = arg;
    const int32_t *ids = a->input_ids.data, *positions = a->position_ids.data;
    const int32_t *types = a->token_type_ids.data;
    size_t first = task * MRC__CPU_ROWS, last = mrc__min(a->n, first + MRC__CPU_ROWS);
    (void)worker;
    for (size_t r = first; r < last; r++) {
        const MRC__REAL *word = MRC__T(row)(a->word, (size_t)ids[r]);
        const MRC__REAL *position = MRC__T(row)(a->position, (size_t)positions[r]);
        const MRC__REAL *type = MRC__T(row)(a->token_type, (size_t)types[r]);
        MRC__REAL *y = MRC__T(out_row)(a->y, r);
        for (size_t i = 0; i < a->h; i += MRC__T(LANES)) {
            MRC__T(vec) v = MRC__T(load_n)(word + i, a->h - i);
            v = v + MRC__T(load_n)(position + i, a->h - i);
            MRC__T(store_n)(y + i, v + MRC__T(load_n)(type + i, a->h - i), a->h - i);
        }
    }
}
MRC__TARGET static mrc_status MRC__T(embedding_fwd)(mrc_backend *be,
                                                    const mrc_embedding_fwd_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_embedding_fwd_args job = *a;
    mrc__pool_run(h->pool, mrc__cpu_row_tasks(a->n), a->n * a->h / 8, MRC__T(embedding_task),
                  &job);
    return MRC_OK;
}

// One table's gradient.
typedef struct MRC__T(scatter) {
    size_t  n, h, rows;
    const int32_t *ids;
    int32_t padding;
    mrc_in  dy;
    mrc_out d;
} MRC__T(scatter);

MRC__TARGET static void MRC__T(zero_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(scatter) *j = arg;
    size_t first = task * MRC__CPU_RUN, last = mrc__min(j->rows, first + MRC__CPU_RUN);
    (void)worker;
    for (size_t r = first; r < last; r++) {
        memset(MRC__T(out_row)(j->d, r), 0, j->h * sizeof(MRC__REAL));
    }
}

// COLS columns of all rows in order; rows in turn with one id are summed first, 64 at most.
MRC__TARGET static void MRC__T(scatter_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(scatter) *j = arg;
    const size_t begin = task * MRC__T(COLS), end = mrc__min(j->h, begin + MRC__T(COLS));
    (void)worker;
    for (size_t r = 0, next; r < j->n; r = next) {
        next = r + 1;
        while (next < j->n && next < r + MRC__CPU_RUN && j->ids[next] == j->ids[r]) next++;
        if (j->ids[r] == j->padding) continue;
        MRC__REAL *to = MRC__T(out_row)(j->d, (size_t)j->ids[r]);
        for (size_t i = begin; i < end; i += MRC__T(LANES)) {
            MRC__T(vec) sum = {0};
            for (size_t k = r; k < next; k++) {
                sum += MRC__T(load_n)(MRC__T(row)(j->dy, k) + i, end - i);
            }
            MRC__T(write_n)(to + i, sum, end - i, 1);
        }
    }
}

MRC__TARGET static mrc_status MRC__T(embedding_bwd)(mrc_backend *be,
                                                    const mrc_embedding_bwd_args *a) {
    const mrc__host_backend *h = be->self;
    MRC__T(scatter) jobs[3] = {
        { .rows = a->n_words, .ids = a->input_ids.data, .padding = a->word_padding,
          .d = a->dword },
        { .rows = a->n_positions, .ids = a->position_ids.data, .padding = a->position_padding,
          .d = a->dposition },
        { .rows = a->n_types, .ids = a->token_type_ids.data, .padding = -1, .d = a->dtoken_type }
    };
    for (size_t k = 0; k < 3; k++) {
        MRC__T(scatter) *j = &jobs[k];
        j->n = a->n;
        j->h = a->h;
        j->dy = a->dy;
        if (!j->d.data) continue;
        if (!j->d.accumulate) {
            mrc__pool_run(h->pool, mrc__ceil_div(j->rows, MRC__CPU_RUN), j->rows * j->h / 8,
                          MRC__T(zero_task), j);
        }
        mrc__pool_run(h->pool, mrc__ceil_div(j->h, MRC__T(COLS)), j->n * j->h / 4,
                      MRC__T(scatter_task), j);
    }
    return MRC_OK;
}

// ---- the optimizer ----

// Tasks are chunks of all tensors in turn: the one that `task` is in, and where it begins.
MRC__INLINE const mrc_optim_tensor *MRC__T(chunk)(const mrc_optim_tensor *list, size_t task,
                                                  size_t *begin, size_t *end) {
    size_t n;
    for (; task >= (n = mrc__ceil_div(list->numel, MRC__CPU_CHUNK)); list++) task -= n;
    *begin = task * MRC__CPU_CHUNK;
    *end = mrc__min(list->numel, *begin + MRC__CPU_CHUNK);
    return list;
}
static size_t MRC__T(chunks)(const mrc_optim_tensor *list, size_t n) {
    size_t chunks = 0;
    for (size_t k = 0; k < n; k++) chunks += mrc__ceil_div(list[k].numel, MRC__CPU_CHUNK);
    return chunks;
}

MRC__TARGET static void MRC__T(grad_norm_task)(void *arg, size_t task, size_t worker) {
    const mrc_grad_norm_args *a = arg;
    size_t i, end;
    const MRC__REAL *g = MRC__T(chunk)(a->tensors, task, &i, &end)->grad.data;
    double sum[8] = {0};
    (void)worker;
    for (; i + 8 <= end; i += 8) {
        MRC__UNROLL
        for (size_t k = 0; k < 8; k++) sum[k] += (double)g[i + k] * (double)g[i + k];
    }
    for (; i < end; i++) sum[0] += (double)g[i] * (double)g[i];
    ((double *)a->workspace)[task] = ((sum[0] + sum[1]) + (sum[2] + sum[3]))
                                   + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}
static size_t MRC__T(grad_norm_workspace)(mrc_backend *be, const mrc_grad_norm_args *a) {
    (void)be;
    return MRC__T(chunks)(a->tensors, a->n_tensors) * sizeof(double);
}
MRC__TARGET static mrc_status MRC__T(grad_norm)(mrc_backend *be, const mrc_grad_norm_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_grad_norm_args job = *a;
    size_t chunks = MRC__T(chunks)(a->tensors, a->n_tensors);
    const double *part = a->workspace;
    int32_t *state = a->state.data;
    double sum = 0;
    mrc__pool_run(h->pool, chunks, chunks * 2000, MRC__T(grad_norm_task), &job);
    for (size_t i = 0; i < chunks; i++) sum += part[i];
    double norm = sqrt(sum), clip = a->max_norm > 0 ? a->max_norm / (norm + 1e-6) : 1;
    if (a->norm.data) *(MRC__REAL *)a->norm.data = (MRC__REAL)norm;
    if (a->clip.data) *(MRC__REAL *)a->clip.data = (MRC__REAL)(clip < 1 ? clip : 1);
    state[1] = !(norm <= DBL_MAX);                      // NaN and infinity
    state[0] += !state[1];
    return MRC_OK;
}

MRC__TARGET static void MRC__T(adamw_task)(void *arg, size_t task, size_t worker) {
    const mrc_adamw_args *a = arg;
    size_t i, end;
    const mrc_optim_tensor *t = MRC__T(chunk)(a->tensors, task, &i, &end);
    const int hf = a->variant == MRC_ADAMW_HF;
    const int32_t steps = *(const int32_t *)a->state.data;
    const double c1 = 1 - pow(a->beta1, steps), c2 = 1 - pow(a->beta2, steps);
    const MRC__REAL clip = *(const MRC__REAL *)a->clip.data, *grad = t->grad.data;
    const MRC__REAL b1 = (MRC__REAL)a->beta1, r1 = (MRC__REAL)(1 - a->beta1);
    const MRC__REAL b2 = (MRC__REAL)a->beta2, r2 = (MRC__REAL)(1 - a->beta2);
    const MRC__REAL rate = (MRC__REAL)(hf ? t->lr * sqrt(c2) / c1 : t->lr / c1);
    const MRC__REAL root = (MRC__REAL)(hf ? 1 : 1 / sqrt(c2)), eps = (MRC__REAL)a->eps;
    const MRC__REAL decay = (MRC__REAL)(t->lr * t->weight_decay);
    MRC__REAL *param = t->param.data, *pm = t->m.data, *pv = t->v.data;
    (void)worker;
    for (; i < end; i += MRC__T(LANES)) {
        size_t n = end - i;
        MRC__T(vec) g = MRC__T(load_n)(grad + i, n) * clip, p = MRC__T(load_n)(param + i, n);
        MRC__T(vec) m = MRC__T(load_n)(pm + i, n) * b1 + g * r1;
        MRC__T(vec) v = MRC__T(load_n)(pv + i, n) * b2 + g * g * r2;
        MRC__T(vec) step = rate * m / (MRC__T(sqrt)(v) * root + eps);
        if (!hf) p = p - decay * p;
        p = p - step;
        if (hf) p = p - decay * p;
        MRC__T(store_n)(pm + i, m, n);
        MRC__T(store_n)(pv + i, v, n);
        MRC__T(store_n)(param + i, p, n);
    }
}
MRC__TARGET static mrc_status MRC__T(adamw)(mrc_backend *be, const mrc_adamw_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_adamw_args job = *a;
    if (((const int32_t *)a->state.data)[1]) return MRC_OK;
    size_t chunks = MRC__T(chunks)(a->tensors, a->n_tensors);
    mrc__pool_run(h->pool, chunks, chunks * 4000, MRC__T(adamw_task), &job);
    return MRC_OK;
}
#endif // cpu pass

//==============================================================================
// >>impl.cpu_attention   blocks of 60 queries, one task per sequence and head
//
// Forward: S = Q K^T for a block of queries against all keys, softmax and dropout in place, then
// Y = S V.  Backward makes S again from lse, and dS beside it; dK and dV add up over the blocks in
// the task's own scratch, so each element of a gradient has one owner and one order of sums.  No
// T x T matrix exists: a worker's scratch is a share of the workspace, and grows with T.
// The rows of S are padded to whole panels; columns past the last key hold rubbish nobody reads.
// After Dao et al., "FlashAttention", 2022, with whole rows in place of running maxima: a CPU's
// cache holds 60 of them.
//==============================================================================
#ifdef MRC__PASS_CORE
enum { MRC__CPU_QUERIES = 60 };     // a multiple of every ROWS
#endif

#ifdef MRC__PASS_CPU
// One worker's scratch; what forward does not need has no room there.
typedef struct MRC__T(scratch) {
    size_t bytes, columns, d;       // of S's rows; of V's, padded
    MRC__REAL *kt, *v;              // packed: K^T; forward V, backward V^T
    MRC__REAL *s, *dp, *k;          // scores, dP, K packed
    MRC__REAL *q, *dy, *dk, *dv;    // a block of Q and dY packed, and the sums
} MRC__T(scratch);

static MRC__REAL *MRC__T(take)(MRC__T(scratch) *w, MRC__REAL *base, size_t n) {
    MRC__REAL *at = base ? base + w->bytes / sizeof(MRC__REAL) : NULL;
    w->bytes += mrc__round_up(n * sizeof(MRC__REAL), MRC_ALIGNMENT);
    return at;
}

static MRC__T(scratch) MRC__T(scratch_of)(MRC__REAL *base, size_t length, size_t d, int backward) {
    MRC__T(scratch) w = { .columns = mrc__round_up(length, MRC__T(COLS)),
                          .d = mrc__round_up(d, MRC__T(COLS)) };
    const size_t queries = MRC__CPU_QUERIES;
    w.kt = MRC__T(take)(&w, base, w.columns * d);
    w.v = MRC__T(take)(&w, base, backward ? w.columns * d : length * w.d);
    w.s = MRC__T(take)(&w, base, queries * w.columns + MRC__ROWS);      // see block, past m
    if (!backward) return w;
    w.dp = MRC__T(take)(&w, base, queries * w.columns + MRC__ROWS);
    w.k = MRC__T(take)(&w, base, length * w.d);
    w.q = MRC__T(take)(&w, base, queries * w.d);
    w.dy = MRC__T(take)(&w, base, queries * w.d);
    w.dk = MRC__T(take)(&w, base, length * w.d);
    w.dv = MRC__T(take)(&w, base, length * w.d);
    return w;
}

// src (n, d), one row a line: packed as (d, n), that is its transpose, or as (n, d).
MRC__TARGET static void MRC__T(pack_transpose)(MRC__REAL *dst, const MRC__REAL *src, size_t ld,
                                               size_t n, size_t d) {
    for (size_t i = 0; i < n; i += MRC__T(COLS)) {
        MRC__T(pack_b)(dst + i * d, src + i * ld, ld, 1, n - i, d);
    }
}
MRC__TARGET static void MRC__T(pack_rows)(MRC__REAL *dst, const MRC__REAL *src, size_t ld,
                                          size_t n, size_t d) {
    for (size_t i = 0; i < d; i += MRC__T(COLS)) {
        MRC__T(pack_b)(dst + i * n, src + i, 1, ld, d - i, n);
    }
}

// Pointers to the rows of a, `ld` apart; those past m repeat the last, for tiles read them.
MRC__INLINE void MRC__T(point)(const MRC__REAL **rows, const MRC__REAL *a, size_t ld, size_t m) {
    for (size_t i = 0; i < MRC__CPU_QUERIES; i++) rows[i] = a + (i < m ? i : m - 1) * ld;
}

// c (m, n) = or += rows (m, k) b, b packed.
MRC__INLINE void MRC__T(by_rows)(const MRC__REAL *const *rows, const MRC__REAL *b, size_t m,
                                 size_t n, size_t k, MRC__REAL *c, size_t ld, int accumulate) {
    const MRC__T(block) block = { .m = m, .n = n, .kc = k, .rows = rows, .b = b,
                                  .b_step = MRC__T(COLS) * k, .c = c, .ld = ld,
                                  .accumulate = accumulate };
    MRC__T(multiply)(&block);
}

// What forward and backward tasks share: a sequence's head.
typedef struct MRC__T(head) {
    size_t   first, length, keys, d, ld;        // ld: of qkv
    uint32_t sequence, head;
    const MRC__REAL *q, *k, *v;
} MRC__T(head);

MRC__INLINE MRC__T(head) MRC__T(head_of)(const int32_t *cu, const int32_t *real,
                                         const int32_t *index, mrc_in qkv, size_t s, size_t head,
                                         size_t heads, size_t d) {
    MRC__T(head) t = { .first = (size_t)cu[s], .length = (size_t)(cu[s + 1] - cu[s]),
                       .keys = (size_t)real[s], .d = d, .ld = qkv.ld,
                       .sequence = (uint32_t)index[s], .head = (uint32_t)head };
    t.q = MRC__T(row)(qkv, t.first) + head * d;
    t.k = t.q + heads * d;
    t.v = t.k + heads * d;
    return t;
}

// A row of scores becomes weights, dropped ones 0; returns lse.
MRC__INLINE double MRC__T(softmax)(MRC__REAL *s, size_t keys, MRC__REAL scale,
                                   const mrc_mask *mask, const uint32_t where[3]) {
    const size_t end = mrc__round_up(keys, MRC__T(LANES));
    MRC__T(vec) most = MRC__T(splat)((MRC__REAL)-HUGE_VAL), sums = {0};
    for (size_t j = keys; j < end; j++) s[j] = (MRC__REAL)-HUGE_VAL;
    for (size_t j = 0; j < end; j += MRC__T(LANES)) {
        most = MRC__T(max)(MRC__T(load)(s + j), most);
    }
    const MRC__REAL max = MRC__T(largest)(most) * scale;
    for (size_t j = 0; j < end; j += MRC__T(LANES)) {
        MRC__T(vec) e = MRC__T(exp)(MRC__T(load)(s + j) * scale - max);
        MRC__T(store)(s + j, e);
        sums += e;
    }
    const double sum = MRC__T(sum)(sums);
    const MRC__REAL share = (MRC__REAL)(1 / sum);
    for (size_t j = 0; j < keys; j += MRC__T(COLS)) {
        MRC__T(vec) keep[2];
        MRC__T(factors)(mask, where, j, keep);
        MRC__T(store)(s + j, MRC__T(load)(s + j) * share * keep[0]);
        MRC__REAL *right = s + j + MRC__T(LANES);
        if (j + MRC__T(LANES) < end) MRC__T(store)(right, MRC__T(load)(right) * share * keep[1]);
    }
    return (double)max + log(sum);
}

MRC__TARGET static void MRC__T(attention_task)(void *arg, size_t task, size_t worker) {
    const mrc_attention_fwd_args *a = arg;
    const size_t d = a->d, head = task % a->heads;
    const MRC__T(head) t = MRC__T(head_of)(a->cu_seqlens.data, a->real_len.data,
                                           a->sequence_index.data, a->qkv, task / a->heads, head,
                                           a->heads, d);
    size_t bytes = MRC__T(scratch_of)(NULL, a->max_length, d, 0).bytes;
    char *mine = (char *)a->workspace + worker * bytes;
    const MRC__T(scratch) w = MRC__T(scratch_of)((MRC__REAL *)(void *)mine, a->max_length, d, 0);
    const MRC__REAL *rows[MRC__CPU_QUERIES];
    MRC__REAL *lse = a->lse.data ? MRC__T(out_row)(a->lse, head) + t.first : NULL;
    MRC__REAL *y = MRC__T(out_row)(a->y, t.first) + head * d;
    MRC__T(pack_transpose)(w.kt, t.k, t.ld, t.keys, d);
    MRC__T(pack_rows)(w.v, t.v, t.ld, t.keys, d);
    for (size_t i = 0; i < t.length; i += MRC__CPU_QUERIES) {
        size_t n = mrc__min(t.length - i, MRC__CPU_QUERIES);
        MRC__T(point)(rows, t.q + i * t.ld, t.ld, n);
        MRC__T(by_rows)(rows, w.kt, n, mrc__round_up(t.keys, MRC__T(COLS)), d, w.s, w.columns, 0);
        for (size_t r = 0; r < n; r++) {
            const uint32_t where[3] = { (uint32_t)(i + r), t.sequence, t.head };
            double l = t.keys ? MRC__T(softmax)(w.s + r * w.columns, t.keys, (MRC__REAL)a->scale,
                                                &a->mask, where) : 0;
            if (lse) lse[i + r] = (MRC__REAL)l;
        }
        MRC__T(point)(rows, w.s, w.columns, n);
        MRC__T(by_rows)(rows, w.v, n, d, t.keys, y + i * a->y.ld, a->y.ld, 0);
    }
}

static size_t MRC__T(attention_fwd_workspace)(mrc_backend *be, const mrc_attention_fwd_args *a) {
    const mrc__host_backend *h = be->self;
    return h->pool->n_workers * MRC__T(scratch_of)(NULL, a->max_length, a->d, 0).bytes;
}

MRC__TARGET static mrc_status MRC__T(attention_fwd)(mrc_backend *be,
                                                    const mrc_attention_fwd_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_attention_fwd_args job = *a;
    mrc__pool_run(h->pool, a->n_sequences * a->heads, a->n * a->max_length * a->heads * a->d / 32,
                  MRC__T(attention_task), &job);
    return MRC_OK;
}

// One row of backward: s, the scores, becomes m p; dp, dY V^T, becomes ds.
MRC__INLINE void MRC__T(softmax_bwd)(MRC__REAL *s, MRC__REAL *dp, size_t keys, MRC__REAL scale,
                                     MRC__REAL lse, const mrc_mask *mask,
                                     const uint32_t where[3]) {
    const size_t end = mrc__round_up(keys, MRC__T(LANES));
    MRC__T(vec) sums = {0};
    for (size_t j = keys; j < end; j++) {
        s[j] = (MRC__REAL)-HUGE_VAL;                    // weight 0
        dp[j] = 0;
    }
    for (size_t j = 0; j < end; j += MRC__T(COLS)) {
        MRC__T(vec) keep[2];
        MRC__T(factors)(mask, where, j, keep);
        for (size_t k = 0, i = j; k < 2 && i < end; k++, i += MRC__T(LANES)) {
            // forward was: y_i = sum_j m_ij p_ij v_j, p_ij = exp(s_ij - lse_i)
            MRC__T(vec) p = MRC__T(exp)(MRC__T(load)(s + i) * scale - lse);
            MRC__T(vec) pdp = p * (MRC__T(load)(dp + i) * keep[k]);
            sums += pdp;
            MRC__T(store)(dp + i, pdp);
            // the sign bit tells a dropped weight from a kept one below: p itself is needed there
            MRC__T(store)(s + i, MRC__T(select)((MRC__T(ivec))(keep[k] > 0), p, -p));
        }
    }
    const MRC__REAL mean = (MRC__REAL)MRC__T(sum)(sums), keep = (MRC__REAL)mask->scale;
    for (size_t i = 0; i < end; i += MRC__T(LANES)) {
        const MRC__T(ivec) sign = (MRC__T(ivec))MRC__T(splat)((MRC__REAL)-0.0);
        const MRC__T(vec) signed_p = MRC__T(load)(s + i), none = {0};
        MRC__T(vec) p = (MRC__T(vec))((MRC__T(ivec))signed_p & ~sign);
        MRC__T(store)(dp + i, (MRC__T(load)(dp + i) - p * mean) * scale);
        MRC__T(store)(s + i, MRC__T(select)((MRC__T(ivec))(signed_p > 0), p * keep, none));
    }
}

// dk += ds^T q and dv += (m p)^T dy: a matrix in place, read along its columns.
MRC__INLINE void MRC__T(by_columns)(const MRC__T(scratch) *w, const MRC__REAL *a,
                                    const MRC__REAL *b, size_t keys, size_t n, MRC__REAL *c,
                                    int accumulate) {
    const MRC__T(block) block = { .m = keys, .n = w->d, .kc = n, .a = a, .a_step = MRC__ROWS,
                                  .a_k = w->columns, .b = b, .b_step = MRC__T(COLS) * n, .c = c,
                                  .ld = w->d, .accumulate = accumulate };
    MRC__T(multiply)(&block);
}

// Rows of dK or dV to where they belong; rows from `keys` on are pads, which got no weight.
MRC__INLINE void MRC__T(write_rows)(mrc_out to, size_t column, const MRC__T(head) *t,
                                    const MRC__REAL *from, size_t ld) {
    for (size_t r = 0; r < t->length; r++) {
        MRC__REAL *row = MRC__T(out_row)(to, t->first + r) + column;
        for (size_t i = 0; i < t->d; i += MRC__T(LANES)) {
            MRC__T(vec) v = {0};
            if (r < t->keys) v = MRC__T(load_n)(from + r * ld + i, t->d - i);
            MRC__T(write_n)(row + i, v, t->d - i, to.accumulate);
        }
    }
}

MRC__TARGET static void MRC__T(attention_bwd_task)(void *arg, size_t task, size_t worker) {
    const mrc_attention_bwd_args *a = arg;
    const size_t d = a->d, head = task % a->heads, width = a->heads * d;
    const MRC__T(head) t = MRC__T(head_of)(a->cu_seqlens.data, a->real_len.data,
                                           a->sequence_index.data, a->qkv, task / a->heads, head,
                                           a->heads, d);
    size_t bytes = MRC__T(scratch_of)(NULL, a->max_length, d, 1).bytes;
    char *mine = (char *)a->workspace + worker * bytes;
    const MRC__T(scratch) w = MRC__T(scratch_of)((MRC__REAL *)(void *)mine, a->max_length, d, 1);
    const size_t columns = mrc__round_up(t.keys, MRC__T(COLS));
    const MRC__REAL *rows[MRC__CPU_QUERIES], *lse = MRC__T(row)(a->lse, head) + t.first;
    const MRC__REAL *dy = MRC__T(row)(a->dy, t.first) + head * d;
    MRC__T(pack_transpose)(w.kt, t.k, t.ld, t.keys, d);
    MRC__T(pack_transpose)(w.v, t.v, t.ld, t.keys, d);
    MRC__T(pack_rows)(w.k, t.k, t.ld, t.keys, d);
    for (size_t i = 0; i < t.length; i += MRC__CPU_QUERIES) {
        size_t n = mrc__min(t.length - i, MRC__CPU_QUERIES);
        MRC__T(point)(rows, t.q + i * t.ld, t.ld, n);
        MRC__T(by_rows)(rows, w.kt, n, columns, d, w.s, w.columns, 0);
        MRC__T(point)(rows, dy + i * a->dy.ld, a->dy.ld, n);
        MRC__T(by_rows)(rows, w.v, n, columns, d, w.dp, w.columns, 0);
        for (size_t r = 0; t.keys && r < n; r++) {
            const uint32_t where[3] = { (uint32_t)(i + r), t.sequence, t.head };
            MRC__T(softmax_bwd)(w.s + r * w.columns, w.dp + r * w.columns, t.keys,
                                (MRC__REAL)a->scale, lse[i + r], &a->mask, where);
        }
        MRC__T(point)(rows, w.dp, w.columns, n);
        MRC__T(by_rows)(rows, w.k, n, d, t.keys, MRC__T(out_row)(a->dqkv, t.first + i) + head * d,
                        a->dqkv.ld, a->dqkv.accumulate);
        MRC__T(pack_rows)(w.q, t.q + i * t.ld, t.ld, n, d);
        MRC__T(pack_rows)(w.dy, dy + i * a->dy.ld, a->dy.ld, n, d);
        MRC__T(by_columns)(&w, w.dp, w.q, t.keys, n, w.dk, i > 0);
        MRC__T(by_columns)(&w, w.s, w.dy, t.keys, n, w.dv, i > 0);
    }
    MRC__T(write_rows)(a->dqkv, width + head * d, &t, w.dk, w.d);
    MRC__T(write_rows)(a->dqkv, 2 * width + head * d, &t, w.dv, w.d);
}

static size_t MRC__T(attention_bwd_workspace)(mrc_backend *be, const mrc_attention_bwd_args *a) {
    const mrc__host_backend *h = be->self;
    return h->pool->n_workers * MRC__T(scratch_of)(NULL, a->max_length, a->d, 1).bytes;
}

MRC__TARGET static mrc_status MRC__T(attention_bwd)(mrc_backend *be,
                                                    const mrc_attention_bwd_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_attention_bwd_args job = *a;
    if (!a->dqkv.data) return MRC_OK;
    mrc__pool_run(h->pool, a->n_sequences * a->heads, a->n * a->max_length * a->heads * a->d / 12,
                  MRC__T(attention_bwd_task), &job);
    return MRC_OK;
}
#endif // cpu pass

//==============================================================================
// >>impl.cpu_lstm   one sweep over time for the whole batch
//
// What does not depend on the step before is a gemm over all rows, for both directions: x W_ih^T,
// and after the sweep dx and the weights' gradients.  The sweep goes through the steps with all
// sequences that are that long: they are sorted by length, longest first, so the running ones are
// the first ones, and their states are found by pointers to rows of y and of the gates.
// A unit of work is a direction and COLS hidden units: its columns of W_hh, packed once a call, for
// all four gates, so that the cell follows its products at once.  Narrow layers run a direction as
// one task over all steps; wide ones split each step.
//==============================================================================
#ifdef MRC__PASS_CORE
enum { MRC__CPU_WIDE = 512 };       // hidden units from which a step is worth splitting
#endif

#ifdef MRC__PASS_CPU
// Forward and backward in one: what a sweep reads, and the workspace.
typedef struct MRC__T(sweep) {
    size_t n_sequences, h, groups;  // groups: units of COLS
    const int32_t *cu;
    MRC__REAL *bias[2];             // forward: b_ih + b_hh, (4H)
    MRC__REAL *gates, *cells;       // (N, 8 H), (N, 2 H)
    size_t gates_ld, cells_ld;
    mrc_out y;                      // forward
    mrc_in  dy;                     // backward
    MRC__REAL *pack[2], *dc;        // W_hh by panels; dc (2, B, H)
    int32_t *order;                 // sequences, longest first
    size_t *running;                // (max_length + 1): sequences longer than t
    size_t steps, step;
    int backward;
} MRC__T(sweep);

// Row of step t of a sequence.
MRC__INLINE size_t MRC__T(lstm_row)(const int32_t *cu, int32_t s, size_t t, int dir) {
    return dir ? (size_t)cu[s + 1] - 1 - t : (size_t)cu[s] + t;
}

// One group of units of up to ROWS sequences from `first`: gates, cells and y of step t.
MRC__INLINE void MRC__T(lstm_cells)(const MRC__T(sweep) *w, size_t t, size_t d, size_t unit,
                                    size_t first, size_t m) {
    const size_t h = w->h, units = mrc__min(h - unit, MRC__T(COLS));
    const MRC__REAL *rows[MRC__ROWS], *bias = w->bias[d] + unit;
    MRC__REAL z[MRC__ROWS][4][MRC__T(COLS)];
    for (size_t i = 0; t && i < MRC__ROWS; i++) {
        int32_t s = w->order[first + (i < m ? i : m - 1)];
        rows[i] = MRC__T(out_row)(w->y, MRC__T(lstm_row)(w->cu, s, t - 1, (int)d)) + d * h;
    }
    if (t) {
        const MRC__T(block) block = {
            .m = m, .n = 4 * MRC__T(COLS), .kc = h, .rows = rows, .c = z[0][0],
            .b = w->pack[d] + unit * 4 * h, .b_step = MRC__T(COLS) * h, .ld = 4 * MRC__T(COLS) };
        MRC__T(multiply)(&block);
    } else {
        memset(z, 0, sizeof z);
    }
    for (size_t i = 0; i < m; i++) {
        int32_t s = w->order[first + i];
        size_t row = MRC__T(lstm_row)(w->cu, s, t, (int)d);
        MRC__REAL *gates = w->gates + row * w->gates_ld + d * 4 * h + unit;
        MRC__REAL *c = w->cells + row * w->cells_ld + d * h + unit;
        const MRC__REAL *was = d ? c + w->cells_ld : t ? c - w->cells_ld : NULL;
        MRC__REAL *y = MRC__T(out_row)(w->y, row) + d * h + unit;
        for (size_t j = 0; j < units; j += MRC__T(LANES)) {
            MRC__T(vec) v[4], before = {0};
            size_t n = units - j;
            for (size_t q = 0; q < 4; q++) {
                v[q] = MRC__T(load_n)(gates + q * h + j, n) + MRC__T(load_n)(bias + q * h + j, n);
                v[q] = v[q] + MRC__T(load)(&z[i][q][j]);
                v[q] = q == 2 ? MRC__T(tanh)(v[q]) : MRC__T(sigmoid)(v[q]);
                MRC__T(store_n)(gates + q * h + j, v[q], n);
            }
            if (t) before = MRC__T(load_n)(was + j, n);
            MRC__T(vec) cell = v[1] * before + v[0] * v[2];
            MRC__T(store_n)(c + j, cell, n);
            MRC__T(store_n)(y + j, v[3] * MRC__T(tanh)(cell), n);
        }
    }
}

// The same backward: dz over the gates, and dc for the step before.
MRC__INLINE void MRC__T(lstm_cells_bwd)(const MRC__T(sweep) *w, size_t t, size_t d, size_t unit,
                                        size_t first, size_t m) {
    const size_t h = w->h, units = mrc__min(h - unit, MRC__T(COLS)), after = w->running[t + 1];
    const size_t linked = after > first ? mrc__min(after - first, m) : 0;   // have a step t + 1
    const MRC__REAL *rows[MRC__ROWS];
    MRC__REAL dh[MRC__ROWS][MRC__T(COLS)];
    for (size_t i = 0; linked && i < MRC__ROWS; i++) {
        int32_t s = w->order[first + (i < linked ? i : linked - 1)];
        rows[i] = w->gates + MRC__T(lstm_row)(w->cu, s, t + 1, (int)d) * w->gates_ld + d * 4 * h;
    }
    memset(dh, 0, sizeof dh);
    if (linked) {
        const MRC__T(block) block = {
            .m = linked, .n = MRC__T(COLS), .kc = 4 * h, .rows = rows, .c = dh[0],
            .b = w->pack[d] + unit * 4 * h, .ld = MRC__T(COLS) };
        MRC__T(multiply)(&block);
    }
    for (size_t i = 0; i < m; i++) {
        int32_t s = w->order[first + i];
        size_t row = MRC__T(lstm_row)(w->cu, s, t, (int)d);
        MRC__REAL *z = w->gates + row * w->gates_ld + d * 4 * h + unit;
        const MRC__REAL *c = w->cells + row * w->cells_ld + d * h + unit;
        const MRC__REAL *was = d ? c + w->cells_ld : t ? c - w->cells_ld : NULL;
        const MRC__REAL *dy = MRC__T(row)(w->dy, row) + d * h + unit;
        MRC__REAL *dc = w->dc + (d * w->n_sequences + first + i) * h + unit;
        for (size_t j = 0; j < units; j += MRC__T(LANES)) {
            size_t n = units - j;
            // forward was: c_t = f c_(t-1) + i g;  h_t = o tanh(c_t)
            MRC__T(vec) in = MRC__T(load_n)(z + j, n), f = MRC__T(load_n)(z + h + j, n);
            MRC__T(vec) g = MRC__T(load_n)(z + 2 * h + j, n), o = MRC__T(load_n)(z + 3 * h + j, n);
            MRC__T(vec) th = MRC__T(tanh)(MRC__T(load_n)(c + j, n)), before = {0}, dcj = {0};
            MRC__T(vec) dhj = MRC__T(load_n)(dy + j, n) + MRC__T(load)(&dh[i][j]);
            if (t) before = MRC__T(load_n)(was + j, n);
            if (i < linked) dcj = MRC__T(load_n)(dc + j, n);
            dcj = dcj + dhj * o * (1 - th * th);
            MRC__T(store_n)(z + j, dcj * g * in * (1 - in), n);
            MRC__T(store_n)(z + h + j, dcj * before * f * (1 - f), n);
            MRC__T(store_n)(z + 2 * h + j, dcj * in * (1 - g * g), n);
            MRC__T(store_n)(z + 3 * h + j, dhj * th * o * (1 - o), n);
            MRC__T(store_n)(dc + j, dcj * f, n);
        }
    }
}

MRC__TARGET static void MRC__T(lstm_unit)(const MRC__T(sweep) *w, size_t t, size_t d,
                                          size_t group) {
    for (size_t i = 0; i < w->running[t]; i += MRC__ROWS) {
        size_t m = mrc__min(w->running[t] - i, MRC__ROWS);
        if (w->backward) MRC__T(lstm_cells_bwd)(w, t, d, group * MRC__T(COLS), i, m);
        else MRC__T(lstm_cells)(w, t, d, group * MRC__T(COLS), i, m);
    }
}

MRC__TARGET static void MRC__T(lstm_step_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(sweep) *w = arg;
    (void)worker;
    MRC__T(lstm_unit)(w, w->step, task / w->groups, task % w->groups);
}

MRC__TARGET static void MRC__T(lstm_direction_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(sweep) *w = arg;
    (void)worker;
    for (size_t k = 0; k < w->steps; k++) {
        size_t t = w->backward ? w->steps - 1 - k : k;
        for (size_t g = 0; g < w->groups; g++) MRC__T(lstm_unit)(w, t, task, g);
    }
}

static void MRC__T(lstm_sweep)(const mrc__host_backend *b, MRC__T(sweep) *w) {
    if (w->h < MRC__CPU_WIDE) {
        mrc__pool_run(b->pool, 2, w->steps * w->h * w->h, MRC__T(lstm_direction_task), w);
        return;
    }
    for (size_t k = 0; k < w->steps; k++) {
        w->step = w->backward ? w->steps - 1 - k : k;
        mrc__pool_run(b->pool, 2 * w->groups, w->h * w->h, MRC__T(lstm_step_task), w);
    }
}

// Packs W_hh: panels of one group together.  Forward (H, 4H): four panels a group, one a gate;
// backward (4H, H): one panel.
typedef struct MRC__T(lstm_packing) {
    const MRC__T(sweep) *w;
    const MRC__REAL *weight[2];
    size_t ld[2];
} MRC__T(lstm_packing);

MRC__TARGET static void MRC__T(lstm_pack_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(lstm_packing) *p = arg;
    const size_t h = p->w->h, d = task / p->w->groups, unit = task % p->w->groups * MRC__T(COLS);
    MRC__REAL *to = p->w->pack[d] + unit * 4 * h;
    (void)worker;
    if (p->w->backward) {
        MRC__T(pack_b)(to, p->weight[d] + unit, 1, p->ld[d], h - unit, 4 * h);
        return;
    }
    for (size_t q = 0; q < 4; q++) {
        MRC__T(pack_b)(to + q * MRC__T(COLS) * h, p->weight[d] + (q * h + unit) * p->ld[d],
                       p->ld[d], 1, h - unit, h);
    }
}

// Sorts the sequences, and counts those longer than each t.
static void MRC__T(lstm_order)(MRC__T(sweep) *w) {
    const int32_t *cu = w->cu;
    w->steps = 0;
    for (size_t i = 0; i < w->n_sequences; i++) {
        int32_t length = cu[i + 1] - cu[i];
        size_t at = i;
        for (; at > 0 && cu[w->order[at - 1] + 1] - cu[w->order[at - 1]] < length; at--) {
            w->order[at] = w->order[at - 1];
        }
        w->order[at] = (int32_t)i;
        if ((size_t)length > w->steps) w->steps = (size_t)length;
    }
    for (size_t t = 0, n = w->n_sequences; t <= w->steps; t++) {
        while (n && (size_t)(cu[w->order[n - 1] + 1] - cu[w->order[n - 1]]) <= t) n--;
        w->running[t] = n;
    }
}

// Lays the sweep's scratch out from base, or from NULL; returns its bytes.
static size_t MRC__T(lstm_scratch)(MRC__T(sweep) *w, void *base, size_t max_length) {
    const size_t padded = mrc__round_up(w->h, MRC__T(COLS));
    size_t bytes[6] = { padded * 4 * w->h * sizeof(MRC__REAL), 0, 0, 0, 0, 0 }, total = 0;
    void *at[6];
    bytes[1] = bytes[0];
    bytes[2] = 8 * w->h * sizeof(MRC__REAL);                            // biases
    bytes[3] = w->backward ? 2 * w->n_sequences * w->h * sizeof(MRC__REAL) : 0;
    bytes[4] = w->n_sequences * sizeof(int32_t);
    bytes[5] = (max_length + 1) * sizeof(size_t);
    for (size_t i = 0; i < 6; i++) {
        at[i] = base ? (char *)base + total : NULL;
        total += mrc__round_up(bytes[i], MRC_ALIGNMENT);
    }
    w->pack[0] = at[0];
    w->pack[1] = at[1];
    w->bias[0] = at[2];
    w->bias[1] = base ? w->bias[0] + 4 * w->h : NULL;
    w->dc = at[3];
    w->order = at[4];
    w->running = at[5];
    return total;
}

static size_t MRC__T(lstm_fwd_bytes)(const mrc_lstm_fwd_args *a, MRC__T(sweep) *w) {
    *w = (MRC__T(sweep)){ .n_sequences = a->n_sequences, .h = a->h };
    w->groups = mrc__ceil_div(a->h, MRC__T(COLS));
    return MRC__T(lstm_scratch)(w, a->workspace, a->max_length);
}

// Where nothing is saved the gates and cells of all rows live in the workspace too.
static size_t MRC__T(lstm_fwd_workspace)(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    MRC__T(sweep) w;
    size_t rows = a->gates.data ? 0 : a->n * a->h * 10 * sizeof(MRC__REAL);
    (void)be;
    return MRC__T(lstm_fwd_bytes)(a, &w) + rows;
}

MRC__TARGET static mrc_status MRC__T(lstm_fwd)(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    const mrc__host_backend *b = be->self;
    const size_t h = a->h;
    MRC__T(sweep) w;
    MRC__REAL *rest = (MRC__REAL *)(void *)((char *)a->workspace + MRC__T(lstm_fwd_bytes)(a, &w));
    w.cu = a->cu_seqlens.data;
    w.gates = a->gates.data ? a->gates.data : rest;
    w.gates_ld = a->gates.data ? a->gates.ld : 8 * h;
    w.cells = a->gates.data ? a->cells.data : rest + a->n * 8 * h;
    w.cells_ld = a->gates.data ? a->cells.ld : 2 * h;
    w.y = a->y;
    for (size_t d = 0; d < 2; d++) {
        const MRC__REAL *ih = a->bias_ih[d].data, *hh = a->bias_hh[d].data;
        for (size_t i = 0; i < 4 * h; i++) w.bias[d][i] = ih[i] + hh[i];
        mrc_gemm_args g = { .m = a->n, .n = 4 * h, .k = a->in, .b_transposed = 1, .a = a->x,
                            .b = a->weight_ih[d],
                            .c = { a->x.dtype, w.gates_ld, w.gates + d * 4 * h, 0 } };
        MRC__TRY(be->kernels[a->x.dtype].gemm(be, &g));
    }
    MRC__T(lstm_packing) p = { .w = &w, .weight = { a->weight_hh[0].data, a->weight_hh[1].data },
                               .ld = { a->weight_hh[0].ld, a->weight_hh[1].ld } };
    mrc__pool_run(b->pool, 2 * w.groups, h * h, MRC__T(lstm_pack_task), &p);
    MRC__T(lstm_order)(&w);
    MRC__T(lstm_sweep)(b, &w);
    return MRC_OK;
}

// Behind the sweep's scratch: h of the step before, one direction at a time (N, H).
static size_t MRC__T(lstm_bwd_bytes)(const mrc_lstm_bwd_args *a, MRC__T(sweep) *w) {
    *w = (MRC__T(sweep)){ .n_sequences = a->n_sequences, .h = a->h, .backward = 1 };
    w->groups = mrc__ceil_div(a->h, MRC__T(COLS));
    return MRC__T(lstm_scratch)(w, a->workspace, a->max_length);
}
static size_t MRC__T(lstm_bwd_workspace)(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    MRC__T(sweep) w;
    (void)be;
    return MRC__T(lstm_bwd_bytes)(a, &w) + a->n * a->h * sizeof(MRC__REAL);
}

MRC__TARGET static void MRC__T(lstm_before)(const mrc_lstm_bwd_args *a, size_t d,
                                            MRC__REAL *to) {
    const int32_t *cu = a->cu_seqlens.data;
    const size_t h = a->h;
    for (size_t s = 0; s < a->n_sequences; s++) {
        for (size_t r = (size_t)cu[s]; r < (size_t)cu[s + 1]; r++) {
            int first = d ? r + 1 == (size_t)cu[s + 1] : r == (size_t)cu[s];
            if (first) memset(to + r * h, 0, h * sizeof *to);
            else memcpy(to + r * h, MRC__T(row)(a->y, d ? r + 1 : r - 1) + d * h, h * sizeof *to);
        }
    }
}

// Outputs in the order of the struct, from dz.
MRC__TARGET static mrc_status MRC__T(lstm_gradients)(mrc_backend *be, const mrc_lstm_bwd_args *a,
                                                     MRC__REAL *before) {
    const size_t h = a->h;
    const mrc_kernels *kernels = &be->kernels[a->x.dtype];
    mrc_in dz[2];
    for (size_t d = 0; d < 2; d++) {
        dz[d] = (mrc_in){ a->x.dtype, a->gates.ld, (const MRC__REAL *)a->gates.data + d * 4 * h };
    }
    for (size_t d = 0; a->dx.data && d < 2; d++) {
        mrc_gemm_args g = { .m = a->n, .n = a->in, .k = 4 * h, .a = dz[d], .b = a->weight_ih[d],
                            .c = a->dx };
        g.c.accumulate |= d > 0;
        MRC__TRY(kernels->gemm(be, &g));
    }
    for (size_t d = 0; d < 2; d++) {
        mrc_gemm_args g = { .m = 4 * h, .n = a->in, .k = a->n, .a_transposed = 1, .a = dz[d],
                            .b = a->x, .c = a->dweight_ih[d] };
        if (g.c.data) MRC__TRY(kernels->gemm(be, &g));
    }
    for (size_t d = 0; d < 2; d++) {
        mrc_gemm_args g = { .m = 4 * h, .n = h, .k = a->n, .a_transposed = 1, .a = dz[d],
                            .b = { a->x.dtype, h, before }, .c = a->dweight_hh[d] };
        if (!g.c.data) continue;
        MRC__T(lstm_before)(a, d, before);
        MRC__TRY(kernels->gemm(be, &g));
    }
    for (size_t k = 0; k < 4; k++) {
        mrc_out out = k < 2 ? a->dbias_ih[k] : a->dbias_hh[k - 2];
        MRC__T(sum_columns)(be, (MRC__T(columns)){ .n = a->n, .h = 4 * h, .dy = dz[k % 2],
                                                   .dbias = out });
    }
    return MRC_OK;
}

MRC__TARGET static mrc_status MRC__T(lstm_bwd)(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    const mrc__host_backend *b = be->self;
    MRC__T(sweep) w;
    char *before = (char *)a->workspace + MRC__T(lstm_bwd_bytes)(a, &w);
    w.cu = a->cu_seqlens.data;
    w.gates = a->gates.data;
    w.gates_ld = a->gates.ld;
    w.cells = a->cells.data;
    w.cells_ld = a->cells.ld;
    w.dy = a->dy;
    MRC__T(lstm_packing) p = { .w = &w, .weight = { a->weight_hh[0].data, a->weight_hh[1].data },
                               .ld = { a->weight_hh[0].ld, a->weight_hh[1].ld } };
    mrc__pool_run(b->pool, 2 * w.groups, a->h * a->h, MRC__T(lstm_pack_task), &p);
    MRC__T(lstm_order)(&w);
    MRC__T(lstm_sweep)(b, &w);
    return MRC__T(lstm_gradients)(be, a, (MRC__REAL *)(void *)before);
}
#endif // cpu pass

//==============================================================================
// >>impl.cpu   the instances of the kernels above, one per instruction set, and the backend
//
// Three paths from one source: baseline (what the compiler targets anyway: SSE2 on x86-64, 16-byte
// vectors elsewhere), AVX2 with FMA, AVX-512 (F, DQ, BW, VL).  The register block of each is chosen
// for its number of registers: ROWS x 2 sums, 2 of b, 1 of a.  cross_entropy stays naive: its sums
// are in double anyway, and it reads two columns.
//==============================================================================
#ifdef MRC__PASS_CPU
static void MRC__T(fill)(mrc_kernels *k) {
    k->gemm                    = MRC__T(gemm);
    k->linear_fwd              = MRC__T(linear_fwd);
    k->linear_bwd              = MRC__T(linear_bwd);
    k->qkv_fwd                 = MRC__T(qkv_fwd);
    k->qkv_bwd                 = MRC__T(qkv_bwd);
    k->gelu_fwd                = MRC__T(gelu_fwd);
    k->gelu_bwd                = MRC__T(gelu_bwd);
    k->layer_norm_fwd          = MRC__T(layer_norm_fwd);
    k->layer_norm_bwd          = MRC__T(layer_norm_bwd);
    k->add_norm_fwd            = MRC__T(add_norm_fwd);
    k->add_norm_bwd            = MRC__T(add_norm_bwd);
    k->dropout_fwd             = MRC__T(dropout);
    k->dropout_bwd             = MRC__T(dropout);
    k->embedding_fwd           = MRC__T(embedding_fwd);
    k->embedding_bwd           = MRC__T(embedding_bwd);
    k->attention_fwd           = MRC__T(attention_fwd);
    k->attention_fwd_workspace = MRC__T(attention_fwd_workspace);
    k->attention_bwd           = MRC__T(attention_bwd);
    k->attention_bwd_workspace = MRC__T(attention_bwd_workspace);
    k->lstm_fwd                = MRC__T(lstm_fwd);
    k->lstm_fwd_workspace      = MRC__T(lstm_fwd_workspace);
    k->lstm_bwd                = MRC__T(lstm_bwd);
    k->lstm_bwd_workspace      = MRC__T(lstm_bwd_workspace);
    k->grad_norm               = MRC__T(grad_norm);
    k->grad_norm_workspace     = MRC__T(grad_norm_workspace);
    k->adamw                   = MRC__T(adamw);
}
#undef MRC__INLINE
#undef MRC__ALONE
#undef MRC__UNROLL
#endif // cpu pass

#ifdef MRC__PASS_CORE
#undef MRC__PASS_CORE
#define MRC__PASS_CPU
#ifdef __clang__
#define MRC__TARGETS(list) __attribute__((target(list)))
#else
#define MRC__TARGETS(list) __attribute__((target(list), optimize("fp-contract=fast")))
#endif

#define MRC__ROWS      4            // 8 sums + 2 of b + 1 of a: 11 of 16 registers
#define MRC__ROWS_MID  2
#define MRC__ROWS_MIN  1
#define MRC__VEC_BYTES 16
#define MRC__TARGET
#define MRC__F32       1
#define MRC__REAL      float
#define MRC__T(name)   mrc__cpu_##name##_f32
#include MRC_SELF
#undef MRC__F32
#define MRC__F32       0
#define MRC__REAL      double
#define MRC__T(name)   mrc__cpu_##name##_f64
#include MRC_SELF
#undef MRC__F32
#undef MRC__ROWS
#undef MRC__ROWS_MID
#undef MRC__ROWS_MIN
#undef MRC__VEC_BYTES
#undef MRC__TARGET

#if defined(__x86_64__)
#define MRC__ROWS      6            // 12 + 2 + 1: 15 of AVX2's 16
#define MRC__ROWS_MID  4
#define MRC__ROWS_MIN  2
#define MRC__VEC_BYTES 32
#define MRC__TARGET    MRC__TARGETS("avx2,fma")
#define MRC__F32       1
#define MRC__REAL      float
#define MRC__T(name)   mrc__cpu_##name##_avx2_f32
#include MRC_SELF
#undef MRC__F32
#define MRC__F32       0
#define MRC__REAL      double
#define MRC__T(name)   mrc__cpu_##name##_avx2_f64
#include MRC_SELF
#undef MRC__F32
#undef MRC__ROWS
#undef MRC__ROWS_MID
#undef MRC__ROWS_MIN
#undef MRC__VEC_BYTES
#undef MRC__TARGET

#define MRC__ROWS      12           // 24 + 2 + 1: 27 of AVX-512's 32
#define MRC__ROWS_MID  8
#define MRC__ROWS_MIN  4
#define MRC__VEC_BYTES 64
#define MRC__TARGET    MRC__TARGETS("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl")
#define MRC__F32       1
#define MRC__REAL      float
#define MRC__T(name)   mrc__cpu_##name##_avx512_f32
#include MRC_SELF
#undef MRC__F32
#define MRC__F32       0
#define MRC__REAL      double
#define MRC__T(name)   mrc__cpu_##name##_avx512_f64
#include MRC_SELF
#undef MRC__F32
#undef MRC__ROWS
#undef MRC__ROWS_MID
#undef MRC__ROWS_MIN
#undef MRC__VEC_BYTES
#undef MRC__TARGET
#endif // x86-64

#undef MRC__TARGETS
#undef MRC__PASS_CPU
#define MRC__PASS_CORE

static int mrc__cpu_has(mrc_isa isa) {
    if (isa == MRC_ISA_BASELINE) return 1;
#if defined(__x86_64__)
    int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (isa == MRC_ISA_AVX2) return avx2;
    if (isa == MRC_ISA_AVX512) {
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    }
#endif
    return 0;
}

static void mrc__cpu_fill(mrc_backend *be, mrc_isa isa) {
    mrc_kernels *f32 = &be->kernels[MRC_DTYPE_F32], *f64 = &be->kernels[MRC_DTYPE_F64];
    be->isa = "baseline";
    mrc__cpu_fill_f32(f32);
    mrc__cpu_fill_f64(f64);
#if defined(__x86_64__)
    if (isa == MRC_ISA_AVX2) {
        be->isa = "avx2";
        mrc__cpu_fill_avx2_f32(f32);
        mrc__cpu_fill_avx2_f64(f64);
    }
    if (isa == MRC_ISA_AVX512) {
        be->isa = "avx512";
        mrc__cpu_fill_avx512_f32(f32);
        mrc__cpu_fill_avx512_f64(f64);
    }
#endif
}

// The pool, the gemm's packs and the kernels, onto what the naive constructor made.
static mrc_status mrc__cpu_init(mrc_backend *be, mrc_isa isa, size_t threads) {
    mrc__host_backend *h = be->self;
    MRC__TRY(mrc__pool_new(&h->pool, &h->host, threads));
    h->pack_a_bytes = (size_t)MRC__MC * MRC__KC * sizeof(double);
    h->pack_a = mrc__host_alloc(be, h->pack_a_bytes * h->pool->n_workers);
    h->pack_b = mrc__host_alloc(be, (size_t)MRC__NC * MRC__KC * sizeof(double));
    if (!h->pack_a || !h->pack_b) return MRC_ERR_MEM;
    be->name = "cpu";
    mrc__cpu_fill(be, isa);
    return MRC_OK;
}

MRCDEF mrc_status mrc_backend_cpu_new(mrc_backend **out, const mrc_backend_desc *desc) {
    mrc_isa isa = desc ? desc->isa : MRC_ISA_AUTO;
    mrc_backend *be;
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (isa == MRC_ISA_AUTO) {
        isa = mrc__cpu_has(MRC_ISA_AVX512) ? MRC_ISA_AVX512
            : mrc__cpu_has(MRC_ISA_AVX2) ? MRC_ISA_AVX2 : MRC_ISA_BASELINE;
    }
    if (!mrc__cpu_has(isa)) return MRC_ERR_UNSUPPORTED;
    MRC__TRY(mrc_backend_naive_new(&be, desc));
    mrc_status s = mrc__cpu_init(be, isa, desc ? desc->threads : 0);
    if (s != MRC_OK) mrc_backend_free(be);
    else *out = be;
    return s;
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
//==============================================================================
#ifdef MRC__PASS_CORE
#endif // core pass

//==============================================================================
// >>impl.encode
//==============================================================================
#ifdef MRC__PASS_CORE
#endif // core pass

//==============================================================================
// >>impl.batch
//==============================================================================
#ifdef MRC__PASS_CORE
#endif // core pass

//==============================================================================
// >>impl.decode
//==============================================================================
#ifdef MRC__PASS_CORE
#endif // core pass

//==============================================================================
// >>impl.metrics
//==============================================================================
#ifdef MRC__PASS_CORE
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
