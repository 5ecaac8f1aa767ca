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
// MANUAL
//
//   What it is not.  No generation, no pretraining, no GPU code of its own (a backend can bring
//   it).  What is right is what Hugging Face's code for BERT and RoBERTa readers computes.
//
//   Predict, in a dozen calls, each of which returns a status (tools/predict.c is the whole of it):
//
//       mrc_backend_cpu_new(&be, NULL);                       threads and instruction set by itself
//       mrc_ctx_new(&ctx, &(mrc_ctx_desc){ .backend = be });
//       mrc_model_load(ctx, &model, &(mrc_model_load_desc){ .path = dir });
//       mrc_tokenizer_load(ctx, &tok, dir);
//       mrc_dataset_load(ctx, &data, "questions.jsonl");
//       mrc_features_config fc = mrc_features_config_default();
//       mrc_features_new(ctx, &features, data, tok, &fc);
//       mrc_evaluate(ctx, model, &(mrc_eval_desc){ .. .answer = print_it }, &result);
//
//   Train: mrc_optimizer_new() once; mrc_batch_plan_new() in each epoch; for each batch of the plan
//   mrc_train_step() with a rising random.step and lr * mrc_schedule_factor(); now and then
//   mrc_checkpoint_save().  tools/train.c is that loop with flags around it.
//
//   A new loss or head: compute it from tensors of the step, hand the result and a backward
//   function to mrc_custom(): no change here.  A new op: one block op.NAME (formula, naive kernels,
//   builder, backward), its args struct and entry in api.backend, a line in MRC__OPS, cases in
//   tests/op_cases.h: test_ops fails while there are none.
//
//   Macros, to be defined before the include: MRC_IMPLEMENTATION in one file; MRC_STATIC makes
//   everything static; MRCDEF is put before every declaration; MRC_SELF is the file's own name.
//   None changes a declared layout.  Compile with -O2 and -pthread; no -march flag is needed.
//
//   Errors.  Every fallible function returns an mrc_status, or NULL for a pointer; constructors
//   set *out to NULL first.  The context keeps the first error and its text; ops given NULL return
//   NULL, so model code reads as formulas and is checked once.  The library never exits or prints.
//
//   Memory.  A context, a backend and every loaded object take a mrc_allocator.  Tensors of a step
//   die with mrc_ctx_reset(); parameters live in their mrc_params.  mrc_train_plan() says what
//   training takes before it begins, mrc_ctx_reserve() takes it.  Free in this order: contexts,
//   then optimizers and models, then the backend.
//
//   Threads.  No global mutable state.  A context, and everything made from it, belongs to one
//   thread at a time; so does a backend instance, which has its own pool.  A loaded tokenizer, data
//   set or model is not changed by prediction and may be shared by threads that each have a context
//   and an instance.  Log callbacks run on the calling thread.
//
//   Numbers.  For one backend, build and instruction set, results are the same bits for any number
//   of threads.  Dropout masks are counted, not drawn: the same for every backend, packing, split
//   into micro-batches, recomputation and resume.  -ffast-math is refused.
//
//   Text is UTF-8; positions count code points and ranges are half-open.  `doc_stride` and `stride`
//   are the *overlap* of two windows (HF's meaning, not BERT's).  A dropout p is the probability of
//   zeroing.  Linear maps are y = x W^T + b with W (out, in).  LSTM gates stand i, f, g, o.
//
// CONTENTS  (jump with:  grep -n '>>tag' mrc.h)
//     >>api.config  >>api.status  >>api.backend  >>api.ctx  >>api.utf8  >>api.json  >>api.yaml
//     >>api.file  >>api.safetensors  >>api.tensor  >>api.tape  >>api.random  >>api.ops  >>api.optim
//     >>api.tokenizer  >>api.dataset  >>api.encode  >>api.batch  >>api.decode  >>api.metrics
//     >>api.model  >>api.checkpoint  >>api.reader
//     >>impl.passes  >>impl.status  >>impl.alloc  >>impl.threads  >>impl.arena  >>impl.ctx
//     >>impl.utf8  >>impl.json  >>impl.yaml  >>impl.file  >>impl.safetensors  >>impl.pickle
//     >>impl.torch  >>impl.tensor  >>impl.grad  >>impl.tape  >>impl.recompute  >>impl.random
//     >>op.common  >>op.embedding  >>op.linear  >>op.qkv  >>op.gelu  >>op.layer_norm
//     >>op.dropout  >>op.attention  >>op.add_norm  >>op.lstm  >>op.gru  >>op.unfold
//     >>op.cross_entropy  >>op.symmetric_kl  >>op.optim  >>op.custom  >>op.table
//     >>impl.naive  >>impl.cpu_math  >>impl.cpu_gemm  >>impl.cpu_ops  >>impl.cpu_attention
//     >>impl.cpu_lstm  >>impl.cpu  >>impl.null  >>impl.optim  >>impl.trie
//     >>impl.vocabulary  >>impl.tokenizer  >>impl.bpe  >>impl.dataset  >>impl.encode
//     >>impl.batch  >>impl.decode  >>impl.metrics  >>impl.config  >>impl.model
//     >>impl.weights  >>impl.model_dir  >>impl.checkpoint  >>impl.reader  >>impl.tables

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
//   - where activations are f16 or bf16, so are their gradients and matrices of weights; vectors
//     (biases, LayerNorm), embedding tables, statistics, losses, LSTM cells and all gradients of
//     weights are f32, and sums are taken in f32 or better;
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

// What one target costs (PARITY 3.13).  lp: log softmax over the window's K rows; y: the target,
// p = exp(lp_y).  Zero-initialised: cross-entropy.
//   CE                -lp_y
//   FOCAL             -(1 - p)^gamma lp_y;  reference: (1 - p)^gamma is a constant in backward
//   LABEL_SMOOTHING   -sum over k of t_k lp_k;  t_k = s / K, t_y = 1 - s + s / K;
//                     reference: t_k = s / (K - 1), t_y = 1 - s
typedef enum mrc_loss_kind { MRC_LOSS_CE, MRC_LOSS_FOCAL, MRC_LOSS_LABEL_SMOOTHING } mrc_loss_kind;
typedef struct mrc_loss {
    mrc_loss_kind kind;
    int           reference;
    double        gamma, smoothing; // gamma >= 0; 0 <= s < 1
} mrc_loss;

typedef struct mrc_cross_entropy_fwd_args {
    size_t   n_sequences, columns;
    mrc_loss criterion;
    mrc_in   logits, targets;       // (N, C) (C, B)
    mrc_in   cu_seqlens, loss_begin, loss_end, denominator;     // (B + 1) (B) (B) (C)
    mrc_in   alpha;                 // (T): the loss of target y is multiplied by alpha[y]; or NULL
    mrc_out  loss, lse;             // scalar; (C, B): saved for backward
    void    *workspace;
} mrc_cross_entropy_fwd_args;

typedef struct mrc_cross_entropy_bwd_args {
    size_t   n_sequences, columns;
    mrc_loss criterion;
    mrc_in   logits, targets;
    mrc_in   cu_seqlens, loss_begin, loss_end, denominator, alpha;
    mrc_in   lse, dloss;
    mrc_out  dlogits;
    void    *workspace;
} mrc_cross_entropy_bwd_args;

// How far two passes over the same sequences are apart: (KL(p || q) + KL(q || p)) / 2 of the two
// softmaxes over a sequence's window, added up as in cross_entropy over the targets that count.
typedef struct mrc_symmetric_kl_fwd_args {
    size_t  n_sequences, columns;
    mrc_in  logits, other, targets; // (N, C) (N, C) (C, B)
    mrc_in  cu_seqlens, loss_begin, loss_end, denominator;
    mrc_out loss, saved;            // scalar; (4, C B): both lse, KL(p || q), KL(q || p)
    void   *workspace;
} mrc_symmetric_kl_fwd_args;

typedef struct mrc_symmetric_kl_bwd_args {
    size_t  n_sequences, columns;
    mrc_in  logits, other, targets;
    mrc_in  cu_seqlens, loss_begin, loss_end, denominator;
    mrc_in  saved, dloss;
    mrc_out dlogits, dother;
    void   *workspace;
} mrc_symmetric_kl_bwd_args;

// y = word[input_ids] + position[position_ids] + token_type[token_type_ids]; ids were checked.
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

// A bidirectional GRU layer: the gates r, z, n of PyTorch.
typedef struct mrc_gru_fwd_args {
    size_t  n, n_sequences, max_length, in, h;
    mrc_in  cu_seqlens, x;          // (B + 1), (N, I)
    mrc_in  weight_ih[2], weight_hh[2], bias_ih[2], bias_hh[2]; // (3H, I) (3H, H) (3H) (3H)
    mrc_out y;                      // (N, 2 H)
    mrc_out gates;                  // (N, 8 H), of each direction r, z, W_hn h + b_hn, n: saved
    void   *workspace;
} mrc_gru_fwd_args;

typedef struct mrc_gru_bwd_args {
    size_t  n, n_sequences, max_length, in, h;
    mrc_in  cu_seqlens, x, weight_ih[2], weight_hh[2], y, dy;
    mrc_out gates;                  // as saved; afterwards their gradients, or anything
    mrc_out dx, dweight_ih[2], dweight_hh[2], dbias_ih[2], dbias_hh[2];
    void   *workspace;
} mrc_gru_bwd_args;

// y (N, I K): column i K + k of row r is x[r + k - K / 2][i], 0 where that row is not of r's
// sequence.  A convolution is this and a linear map.  K is odd.
typedef struct mrc_unfold_fwd_args {
    size_t  n, n_sequences, in, size;                           // size: K
    mrc_in  cu_seqlens, x;          // (B + 1), (N, I)
    mrc_out y;
    void   *workspace;
} mrc_unfold_fwd_args;

typedef struct mrc_unfold_bwd_args {
    size_t  n, n_sequences, in, size;
    mrc_in  cu_seqlens, dy;
    mrc_out dx;
    void   *workspace;
} mrc_unfold_bwd_args;

// What the optimizer's kernels do to one parameter.  The array is host memory.
typedef struct mrc_optim_tensor {
    size_t  numel, rows;            // rows: shape[0]; 0: a vector or a scalar
    mrc_in  grad;
    mrc_out param, copy, m, v;      // copy: f16 or bf16, data NULL when there is none
    double  lr, weight_decay;
} mrc_optim_tensor;

// Dynamic loss scaling: small gradients would be 0 in f16, so the loss is multiplied by a scale and
// the gradients are divided by it.  At an overflow (a norm that is not finite) the scale is halved,
// but for the first hysteresis - 1 since it last grew, and is 1 at least; after growth_interval
// steps without one it is doubled.
typedef struct mrc_loss_scale {
    mrc_out scale;                  // f32 scalar, read and written; data NULL: there is none
    mrc_out counts;                 // (2) i32, read and written: steps without an overflow since
    int32_t growth_interval, hysteresis;    // it changed; overflows since it grew, to hysteresis
} mrc_loss_scale;

// Begins an optimizer step: norm = ||all gradients / scale||, clip = min(1, max_norm / (norm +
// 1e-6)), or 1 with max_norm 0, divided by scale: what the gradients are multiplied by.  state (2)
// i32: [0] counts the steps applied; [1] is 1 and nothing is counted when the norm is not finite.
// Then the scale becomes that of the next step.  This kernel and the optimizers' stand in the table
// of the parameters' own type, f32 where they have 16-bit copies.
typedef struct mrc_grad_norm_args {
    size_t  n_tensors;
    const mrc_optim_tensor *tensors;
    double  max_norm;
    mrc_loss_scale loss_scale;
    mrc_out norm, clip, state;
    void   *workspace;
} mrc_grad_norm_args;

typedef enum mrc_optim { MRC_ADAMW_HF, MRC_ADAMW_TORCH, MRC_ADAMP, MRC_SGD } mrc_optim;
typedef struct mrc_adamw_args {
    size_t  n_tensors;
    const mrc_optim_tensor *tensors;
    mrc_optim variant;              // MRC_ADAMW_HF or MRC_ADAMW_TORCH (PARITY 3.11)
    double  beta1, beta2, eps;
    mrc_in  clip, state;            // as mrc_grad_norm left them; state[1]: do nothing
    void   *workspace;
} mrc_adamw_args;

// AdamP 0.3.0: where a matrix's gradient is almost at right angles to its weights, by rows or else
// as a whole, the step loses its part along them, and decay is multiplied by wd_ratio.
typedef struct mrc_adamp_args {
    size_t  n_tensors;
    const mrc_optim_tensor *tensors;
    double  beta1, beta2, eps, delta, wd_ratio;
    int     nesterov;
    mrc_in  clip, state;
    void   *workspace;
} mrc_adamp_args;

typedef struct mrc_sgd_args {       // as torch.optim.SGD, decay in the gradient; v is not used
    size_t  n_tensors;
    const mrc_optim_tensor *tensors;
    double  momentum;
    mrc_in  clip, state;
    void   *workspace;
} mrc_sgd_args;

// m = decay m + (1 - decay) param: an average of the weights.
typedef struct mrc_ema_args {
    size_t  n_tensors;
    const mrc_optim_tensor *tensors;
    double  decay;
    mrc_in  state;                  // state[1]: do nothing
    void   *workspace;
} mrc_ema_args;

// Of each tensor: m = param, param += eps grad / ||grad||, the step of an adversary; a norm that is
// 0 or not finite moves nothing.  restore: param = m.
typedef struct mrc_perturb_args {
    size_t  n_tensors;
    const mrc_optim_tensor *tensors;
    double  eps;
    int     restore;
    void   *workspace;
} mrc_perturb_args;

// The kernels, once.  NULL: the backend has none, and an op that needs it is MRC_ERR_UNSUPPORTED.
// Each has a query of its workspace, NULL for 0 bytes: asked with the args, before the kernel runs.
#define MRC_KERNEL_LIST(X)                                                                  \
    X(gemm) X(embedding_fwd) X(embedding_bwd) X(linear_fwd) X(linear_bwd) X(qkv_fwd)        \
    X(qkv_bwd) X(attention_fwd) X(attention_bwd) X(gelu_fwd) X(gelu_bwd) X(layer_norm_fwd)  \
    X(layer_norm_bwd) X(add_norm_fwd) X(add_norm_bwd) X(dropout_fwd) X(dropout_bwd)         \
    X(lstm_fwd) X(lstm_bwd) X(gru_fwd) X(gru_bwd) X(unfold_fwd) X(unfold_bwd)               \
    X(cross_entropy_fwd) X(cross_entropy_bwd) X(symmetric_kl_fwd) X(symmetric_kl_bwd)       \
    X(grad_norm) X(adamw) X(adamp) X(sgd) X(ema) X(perturb)
typedef struct mrc_kernels {
#define MRC_X(name)                                                                         \
    mrc_status (*name)(mrc_backend *be, const mrc_##name##_args *a);                        \
    size_t     (*name##_workspace)(mrc_backend *be, const mrc_##name##_args *a);
    MRC_KERNEL_LIST(MRC_X)
#undef MRC_X
} mrc_kernels;

// An instance.  It belongs to one thread at a time and is not shared by value: to derive a backend,
// make an instance, replace entries, and keep your own state in `derived`.
#define MRC_BACKEND_API 3
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
    // Weights for prediction: a matrix (rows, columns) in a form of the instance's own, which other
    // instances of its name and isa share; linear_fwd and qkv_fwd of f32 read it, as f32 or bf16,
    // where ld is 0.  prepack makes it from floats of the host; prepack_bytes says how large it is,
    // 0: there is none of that type.  Both NULL: there is none at all.  Who has bf16 also takes
    // embedding_fwd's word as plain bf16.
    size_t     (*prepack_bytes)(mrc_backend *be, mrc_dtype dtype, size_t rows, size_t columns);
    mrc_status (*prepack)(mrc_backend *be, void *dst, mrc_dtype dtype, size_t rows, size_t columns,
                          const float *host_src);
    // One table per element type of the activations: a kernel is written for one type and choosing
    // it is a lookup.  Matrices still carry their dtype, as the tables of f16 and bf16 mix.
    mrc_kernels kernels[MRC_DTYPE_COUNT];
};

typedef enum mrc_isa {
    MRC_ISA_AUTO, MRC_ISA_BASELINE, MRC_ISA_AVX2, MRC_ISA_AVX512, MRC_ISA_NEON
} mrc_isa;

typedef struct mrc_backend_desc {   // NULL or zero-initialised: malloc, the best instruction set
    mrc_allocator allocator;
    mrc_isa       isa;              // cpu only; one that the machine lacks is MRC_ERR_UNSUPPORTED
    size_t        threads;          // cpu only; 0: the processors this process may use, at most 64
} mrc_backend_desc;

// naive: plain loops, f32, f64, f16 and bf16, the oracle.  cpu: fast kernels on threads, f32 and
// f64, held to it by tests.
MRCDEF mrc_status mrc_backend_naive_new(mrc_backend **out, const mrc_backend_desc *desc);
MRCDEF mrc_status mrc_backend_cpu_new(mrc_backend **out, const mrc_backend_desc *desc);
MRCDEF void       mrc_backend_free(mrc_backend *be);        // after its contexts and parameters

// null: gives out addresses without memory, computes nothing (downloads are zeros) and counts.  It
// has the kernels of `like`, which must outlive it and is asked for their workspaces: a step on it
// takes what one on `like` would.
MRCDEF mrc_status mrc_backend_null_new(mrc_backend **out, mrc_backend *like,
                                       const mrc_backend_desc *desc);
typedef struct mrc_null_counts {
    size_t live, peak;              // bytes given out, now and at most
    double flops;                   // of matrix products with weights
} mrc_null_counts;
MRCDEF mrc_null_counts mrc_backend_null_counts(const mrc_backend *be);

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

// desc NULL: malloc, no log, no backend.  Why a context could not be made goes to desc->log, as
// there is no context to keep it in.
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
// fills (SIZE_MAX / 4), these are the plan of a step: see mrc_train_plan().
typedef struct mrc_memory {
    size_t step_live, step_peak, step_extent, step_reserved, grads;
} mrc_memory;
MRCDEF mrc_memory mrc_ctx_memory(const mrc_ctx *ctx);
// Makes the step arena one chunk of at least that size now, between steps: what is planned is had,
// or is refused, before the first one.
MRCDEF mrc_status mrc_ctx_reserve(mrc_ctx *ctx, size_t bytes);

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
__attribute__((format(printf, 2, 3)))
MRCDEF void mrc_text_printf(mrc_text *t, const char *fmt, ...);
// A JSON string with quotes; ascii 1: everything above 0x7e as \u escapes, as Python's json.dumps.
MRCDEF void mrc_text_json_string(mrc_text *t, const char *s, size_t bytes, int ascii);
// The shortest text that reads back as x, as Python's repr: 58.333333333333336, 1e-05, 2.0, NaN.
MRCDEF void mrc_text_number(mrc_text *t, double x);

//==============================================================================
// >>api.yaml   configuration files, into the same tree
//==============================================================================
// The subset of RELIABILITY 3.5: block mappings and lists, [ ] and { }, plain and quoted values of
// one line, comments, one "---"; types by YAML 1.2's core schema.  All else is refused by name,
// with line and column, and so are keys that stand twice.  Free the tree with mrc_json_free().
MRCDEF mrc_status mrc_yaml_parse(mrc_ctx *ctx, mrc_json **out, const char *name, const char *text,
                                 size_t bytes);
MRCDEF mrc_status mrc_yaml_load(mrc_ctx *ctx, mrc_json **out, const char *path);

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
MRCDEF int        mrc_file_exists(const char *path);        // 1: file, 2: folder, 0: neither
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
// In the order of the data; NULL past the last.
MRCDEF const mrc_st_entry *mrc_safetensors_at(const mrc_safetensors *st, size_t index);
MRCDEF const mrc_st_entry *mrc_safetensors_find(const mrc_safetensors *st, const char *name);
// Metadata by key; NULL when absent.
MRCDEF const char *mrc_safetensors_meta(const mrc_safetensors *st, const char *key);
// numel values as `to` (f32, f64, i32) into dst; from F32, F64, F16, BF16, and integers but U64.  A
// value that the target cannot hold is MRC_ERR_NUMERIC (NaN and infinity are values, and pass).
MRCDEF mrc_status mrc_safetensors_read(mrc_safetensors *st, const mrc_st_entry *e, mrc_dtype to,
                                       void *dst);

// CRC-32C of the values cast to little-endian f32: the same from every file that holds them.
MRCDEF mrc_status mrc_safetensors_crc32c(mrc_safetensors *st, const mrc_st_entry *e, uint32_t *crc);
MRCDEF const char *mrc_safetensors_format(const mrc_safetensors *st);   // safetensors or torch

// PyTorch's .bin and .pt, zip or the older stream, through the same reader: RELIABILITY 3.2.  The
// pickle is read, never run; what is no tensor is left out, nested names are joined by points.
MRCDEF mrc_status mrc_torch_open(mrc_ctx *ctx, mrc_safetensors **out, const char *path);
// A checkpoint however it is stored: a file of either kind; an index of shards; a folder with
// model.safetensors, model.safetensors.index.json, pytorch_model.bin or its index.json: the first
// of them that is there, and no other if that one is bad.
MRCDEF mrc_status mrc_weights_open(mrc_ctx *ctx, mrc_safetensors **out, const char *path);

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
// list may be in any order.  Atomic, as mrc_file_write.
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
    int       packed;               // 1: for prediction, data is what prepack() made, of type
                                    // copy_dtype; or copy itself, a table
    // The tape's, constant in parameters so that threads can share them:
    uint64_t  frame;                // 0: parameter; else it dies when this frame is rewound
    struct mrc_node *producer;      // NULL: no op made it, or none that was recorded
    int       dropped, pinned, read_back;   // see mrc_drop()
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
// Gives an f32 matrix a working copy in f16 or bf16, contents undefined: ops whose x has that dtype
// read the copy, the tape and the gradient stay the master's.  Uploads and optimizers write both.
MRCDEF mrc_status mrc_param_copy_new(mrc_params *params, mrc_tensor *t, mrc_dtype dtype);
// An f32 matrix for prediction only, which the backend keeps in its own form as f32 or bf16: it is
// uploaded as f32 and read by mrc_linear() and mrc_qkv() alone, not downloaded and not trained.
// MRC_ERR_UNSUPPORTED: the backend has no such form.
MRCDEF mrc_status mrc_param_packed_new(mrc_params *params, mrc_tensor **out, const char *name,
                                       mrc_dtype dtype, size_t rows, size_t columns);
MRCDEF void       mrc_params_free(mrc_params *params);

// A tensor of the running step, contents undefined.  It ends with mrc_ctx_reset() or a rewind.
MRCDEF mrc_tensor *mrc_tensor_new(mrc_ctx *ctx, mrc_dtype dtype, int ndim, const size_t *shape,
                                  int requires_grad);
// src and dst hold numel elements of t's dtype; a working copy is made anew by an upload.  Download
// waits for the device; nothing else does.
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
// forward pass that drops what it has read holds one layer, not all.  The same where no backward of
// the ops that read t, or made it, looks at its data.  Where one does, it goes if it can be made
// again without a matrix product (from what its op saved, or from inputs that are kept), else it
// stays: a hint is never an error.  In a segment only its own tensors go.
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
// weight (O, I), or more axes whose product is I.
MRCDEF mrc_tensor *mrc_linear(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *weight, mrc_tensor *bias,
                              mrc_act act);
MRCDEF mrc_tensor *mrc_gelu(mrc_ctx *ctx, mrc_tensor *x);
// word (V, H), position (P, H), token_type (Y, H) -> (N, H) of dtype: the tables' own, or f16 or
// bf16 from tables of f32.  Rows word_padding and position_padding get no gradient; -1: all do.
MRCDEF mrc_tensor *mrc_embedding(mrc_ctx *ctx, mrc_tensor *word, mrc_tensor *position,
                                 mrc_tensor *token_type, int32_t word_padding,
                                 int32_t position_padding, mrc_dtype dtype,
                                 const mrc_batch *batch);
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
// The same of a GRU: weight_ih (3H, I), weight_hh (3H, H), bias_ih, bias_hh (3H), and reverse.
MRCDEF mrc_tensor *mrc_gru(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *const weights[8],
                           const mrc_batch *batch);
// Windows of `size` rows, an odd number, around each row of its sequence: x (N, I) -> (N, I size),
// 0 beyond the ends.  mrc_linear() of it with a weight (O, I, size) is torch.nn.Conv1d.
MRCDEF mrc_tensor *mrc_unfold(mrc_ctx *ctx, mrc_tensor *x, size_t size, const mrc_batch *batch);
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
// The same with another loss; and with alpha, a weight for each target position, for as many as the
// longest sequence has rows at least.
MRCDEF mrc_tensor *mrc_span_loss(mrc_ctx *ctx, mrc_tensor *logits, mrc_tensor *targets,
                                 mrc_tensor *denominator, const mrc_loss *loss,
                                 const mrc_batch *batch);
MRCDEF mrc_tensor *mrc_weighted_loss(mrc_ctx *ctx, mrc_tensor *logits, mrc_tensor *targets,
                                     mrc_tensor *denominator, mrc_tensor *alpha,
                                     const mrc_loss *loss, const mrc_batch *batch);
// (KL(p || q) + KL(q || p)) / 2 of two passes' logits (R-Drop), counted and divided as above.
MRCDEF mrc_tensor *mrc_symmetric_kl(mrc_ctx *ctx, mrc_tensor *logits, mrc_tensor *other,
                                    mrc_tensor *targets, mrc_tensor *denominator,
                                    const mrc_batch *batch);

//==============================================================================
// >>api.optim   AdamW in both variants, schedules (PARITY 3.11, 3.12)
//==============================================================================
#define MRC_OPTIMIZER_MAGIC 0x6f707469
typedef struct mrc_optimizer_config {
    uint32_t  magic;
    mrc_optim variant;
    double    beta1, beta2, eps, weight_decay;
    double    max_grad_norm;        // 0: no clipping
    int       decay_all;            // 1: one group; 0: biases and LayerNorm weights are spared
    double    loss_scale;           // what mrc_loss_scale begins with, >= 1; 0: there is none
    int32_t   loss_scale_interval, loss_scale_hysteresis;
} mrc_optimizer_config;
// torch's AdamW, clip 1; no loss scale, were there one it would grow after 2000 steps and fall at
// the second overflow.
MRCDEF mrc_optimizer_config mrc_optimizer_config_default(void);

// Owns the moments: two lists of parameters with the names and shapes of those that require a
// gradient now.
typedef struct mrc_optimizer mrc_optimizer;
MRCDEF mrc_status  mrc_optimizer_new(mrc_ctx *ctx, mrc_optimizer **out, const mrc_params *params,
                                     const mrc_optimizer_config *config);
MRCDEF void        mrc_optimizer_free(mrc_optimizer *o);            // NULL is fine
// One step from the gradients that are in ctx; then they are cleared.  Parameters that backward did
// not reach are left alone.  A norm that is not finite changes nothing (see stats).
MRCDEF mrc_status  mrc_optimizer_step(mrc_ctx *ctx, mrc_optimizer *o, double lr);
// Waits for the device: the last step's gradient norm, before clipping; the steps applied so far;
// whether the last one was skipped.  Each may be NULL.
MRCDEF mrc_status  mrc_optimizer_stats(mrc_ctx *ctx, mrc_optimizer *o, double *grad_norm,
                                       int64_t *applied, int *skipped);
// The loss scale of the next step, an f32 scalar on the backend: dy of mrc_backward() from a loss.
// NULL: the optimizer has none.
MRCDEF const mrc_tensor *mrc_optimizer_loss_scale(const mrc_optimizer *o);
// Moments "exp_avg.<name>" and "exp_avg_sq.<name>", and the count of steps; load wants all of them.
// The loss scale and its counts, if there is one, are saved and loaded too.
MRCDEF mrc_status  mrc_optimizer_save(mrc_ctx *ctx, mrc_optimizer *o, const char *path);
MRCDEF mrc_status  mrc_optimizer_load(mrc_ctx *ctx, mrc_optimizer *o, const char *path);

typedef enum mrc_schedule {
    MRC_SCHEDULE_LINEAR, MRC_SCHEDULE_CONSTANT, MRC_SCHEDULE_CONSTANT_WITH_WARMUP
} mrc_schedule;
// The factor of the learning rate for optimizer step `step`, from 0.
MRCDEF double mrc_schedule_factor(mrc_schedule kind, uint64_t step, uint64_t warmup_steps,
                                  uint64_t total_steps);

//==============================================================================
// >>api.tokenizer   BertTokenizerFast's WordPiece (PARITY 3.8, 3.9), RobertaTokenizerFast's BPE
//==============================================================================
// A loaded tokenizer is immutable and may be shared by threads.
typedef struct mrc_tokenizer mrc_tokenizer;
// path: a folder (tokenizer.json if it is there, else vocab.txt, or vocab.json and merges.txt, with
// tokenizer_config.json and special_tokens_map.json), a vocab.txt, or a tokenizer.json.  Files of
// more than 64 MiB and tokens of more than 64 KiB are refused.
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
    const char *id, *title, *context, *question;        // UTF-8; the title may be ""
    size_t      context_bytes, question_bytes;
    mrc_answer *answers;            // checked: context has the text at answer_start
    size_t      n_answers;
    int         question_type;      // KLUE: 1 paraphrase, 2 several sentences, 3 no answer; 0: none
} mrc_example;
typedef struct mrc_dataset mrc_dataset;
// Rows that cannot be used are left out, counted by reason, and the first ten logged.
MRCDEF mrc_status mrc_dataset_load(mrc_ctx *ctx, mrc_dataset **out, const char *path);
// For answering and scoring, which must not lose a question: every row that has an id is kept, as
// the official scripts do.  Context and question may be "", answers none or not in the context.
MRCDEF mrc_status mrc_dataset_load_questions(mrc_ctx *ctx, mrc_dataset **out, const char *path);
// From memory: copies n examples, id NULL becoming the index in list.  Texts are UTF-8 (title NULL:
// ""); text that is not, and an answer that context does not have at answer_start, are MRC_ERR_ARG.
MRCDEF mrc_status mrc_dataset_new(mrc_ctx *ctx, mrc_dataset **out, const mrc_example *list,
                                  size_t n);
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
typedef enum mrc_span_kind {
    MRC_SPAN_TEXT,                  // code points begin to end of the context
    MRC_SPAN_NULL,                  // "": there is no answer (version_2_with_negative)
    MRC_SPAN_EMPTY                  // the word "empty": no span could be read
} mrc_span_kind;
typedef struct mrc_span {           // a candidate answer
    mrc_span_kind kind;
    float   start_logit, end_logit;
    int32_t begin, end;             // code points of the context, half-open
    double  probability;            // softmax over the n-best list
} mrc_span;
#define MRC_DECODE_MAGIC 0x6465636f
typedef struct mrc_decode_config {
    uint32_t magic;
    size_t   n_best_size, max_answer_length;    // the latter in tokens
    int      version_2_with_negative;           // 1: "no answer" is a candidate
    double   null_score_diff_threshold;         // "" when null's score is ahead by more than this
    int      max_context;           // 1: an answer begins only in the window that shows most of
                                    // what is around its first token (HF's token_is_max_context)
    double   temperature;           // scores are divided by it before the softmax
} mrc_decode_config;
MRCDEF mrc_decode_config mrc_decode_config_default(void);           // 20, 30, 0, 0, 0, 1
// The windows of one example and their logits, length long each -> at most n_best_size + 1 spans,
// best first, into out; at least one (null's, or the fallback).  Returns how many in *n_out.
typedef struct mrc_window_logits { const mrc_feature *feature; const float *start, *end; }
    mrc_window_logits;
MRCDEF mrc_status mrc_decode(mrc_ctx *ctx, const mrc_window_logits *windows, size_t n_windows,
                             const mrc_decode_config *config, mrc_span *out, size_t *n_out);
// The answer among the spans that mrc_decode() found: the first, or with version_2_with_negative
// the best that has text unless null's score is ahead by more than the threshold.  By how much it
// is ahead (null_odds.json) goes to *null_score_diff, which may be NULL.
MRCDEF const mrc_span *mrc_decode_answer(const mrc_decode_config *config, const mrc_span *spans,
                                         size_t n, double *null_score_diff);
// What a span of the example says, in place; its length in *bytes.
MRCDEF const char *mrc_span_text(const mrc_span *span, const mrc_example *e, size_t *bytes);

//==============================================================================
// >>api.metrics   the official scripts' scores digit for digit (PARITY 3.1 to 3.3)
//==============================================================================
typedef enum mrc_metric {
    MRC_METRIC_KORQUAD, MRC_METRIC_SQUAD, MRC_METRIC_SQUAD_V2, MRC_METRIC_KLUE
} mrc_metric;
// Of one prediction against all answers: exact 0 or 1, f1 0 to 1, each the best over the answers.
// KLUE's second score is ROUGE-W.  Without answers SQuAD 2 and KLUE expect "", the others score 0.
MRCDEF mrc_status mrc_metric_score(mrc_ctx *ctx, mrc_metric metric, const char *prediction,
                                   size_t bytes, const mrc_answer *answers, size_t n_answers,
                                   double *exact, double *f1);

//==============================================================================
// >>api.model   RoBERTa and BERT encoders, heads, the Hugging Face model directory
//==============================================================================
typedef enum mrc_model_type { MRC_MODEL_ROBERTA, MRC_MODEL_BERT } mrc_model_type;
typedef enum mrc_head_type { MRC_HEAD_LINEAR, MRC_HEAD_BILSTM } mrc_head_type;

#define MRC_MODEL_MAGIC 0x6d6f6465
typedef struct mrc_model_config {
    uint32_t       magic;
    mrc_model_type model_type;
    size_t         vocab_size, hidden_size, num_hidden_layers, num_attention_heads;
    size_t         intermediate_size, max_position_embeddings, type_vocab_size;
    double         hidden_dropout_prob, attention_probs_dropout_prob;
    double         initializer_range, layer_norm_eps;
    int32_t        pad_token_id;
    // The head: "mrc_head" of config.json; none there means linear.
    mrc_head_type  head;
    size_t         num_rnn_layers, rnn_hidden_size;
    double         rnn_dropout;     // between layers
    int            pad_to_max_length;   // was trained over pads: inference must pad too
} mrc_model_config;
MRCDEF mrc_model_config mrc_model_config_default(void);     // roberta-base's numbers, linear head
// path: a config.json or a folder that has one.  All numbers are checked against each other.
MRCDEF mrc_status mrc_model_config_load(mrc_ctx *ctx, mrc_model_config *out, const char *path);
// The longest sequence that the position table allows: RoBERTa counts from pad_token_id + 1.
MRCDEF size_t     mrc_model_config_max_length(const mrc_model_config *config);

typedef struct mrc_model {          // read-only for users
    mrc_allocator    host;
    mrc_model_config config;
    mrc_dtype        dtype;         // of activations and logits
    int              for_prediction;
    mrc_params      *params;        // names as saved (TOOLS, "The model directory")
    char            *config_json;   // of the source folder: its other keys are carried through
    struct mrc_encoder_weights *weights;
} mrc_model;

// Weights from seed, as PyTorch initialises them (other random numbers).  dtype f32 or f64; f16 and
// bf16 are mixed precision: weights in f32, 16-bit working copies of the matrices but for embedding
// tables, activations in 16 bits.
MRCDEF mrc_status mrc_model_new(mrc_ctx *ctx, mrc_model **out, const mrc_model_config *config,
                                mrc_dtype dtype, uint64_t seed);
typedef enum mrc_load_note { MRC_LOAD_MISSING, MRC_LOAD_UNEXPECTED } mrc_load_note;
typedef struct mrc_model_load_desc {
    const char             *path;   // the folder
    const mrc_model_config *config; // NULL: the folder's; else its head replaces the folder's
    mrc_dtype               dtype;  // f32 (0), f64, f16 or bf16: as mrc_model_new()
    // 1: weights are read only by forward passes, so they take the form in which the backend reads
    // them fastest; such a model is not trained or saved.  f32 gives the same results to the bit.
    // bf16 then means weights of linear layers in bf16 and activations in f32, where the backend
    // has that (cpu: half the memory), else as mrc_model_new().
    int                     for_prediction;
    uint64_t                seed;   // of what the file may lack: the head, the pooler
    // Called for each weight that was initialised, or is in the file and has no place here.
    void                  (*note)(void *user, mrc_load_note note, const char *name);
    void                   *user;
} mrc_model_load_desc;
// A missing encoder weight or a wrong shape is an error; names are matched with any prefix.
MRCDEF mrc_status mrc_model_load(mrc_ctx *ctx, mrc_model **out, const mrc_model_load_desc *desc);
MRCDEF void       mrc_model_free(mrc_model *m);             // NULL is fine; after its contexts
// config.json, model.safetensors and, from tokenizer_dir, the tokenizer's files, into a folder
// that is made if it is not there.  Each file appears whole or not at all.
MRCDEF mrc_status mrc_model_save(mrc_ctx *ctx, const mrc_model *m, const char *path,
                                 const char *tokenizer_dir);

#define MRC_FORWARD_MAGIC 0x666f7277
typedef struct mrc_forward_config {
    uint32_t magic;
    int      dropout;                   // 1: as in training
    int      gradient_checkpointing;    // 1: keep one tensor per layer and run it again
} mrc_forward_config;
MRCDEF mrc_forward_config mrc_forward_config_default(void); // both 0
// Logits (N, 2): column 0 start, 1 end.  NULL on error.
MRCDEF mrc_tensor *mrc_model_forward(mrc_ctx *ctx, mrc_model *m, const mrc_batch *batch,
                                     const mrc_forward_config *config);
// The features as one packed batch, the first with sequence_index first_index.  The model says how
// position ids count and whether it has token types.
MRCDEF mrc_status  mrc_model_batch(mrc_ctx *ctx, const mrc_model *m, mrc_batch *out,
                                   const mrc_feature *const *features, size_t n,
                                   size_t first_index);

//==============================================================================
// >>api.checkpoint   contract E: resumable states on disk
//==============================================================================
// Writes output_dir/checkpoint-<step>/: a model directory, optimizer.safetensors and
// trainer_state.json, which is `state` (a JSON object) with checksums added.  Built beside its
// place and renamed: the rename is the commit.  An older folder of that name is replaced.
MRCDEF mrc_status mrc_checkpoint_save(mrc_ctx *ctx, const char *output_dir, uint64_t step,
                                      const mrc_model *m, const char *tokenizer_dir,
                                      mrc_optimizer *o, const char *state);
// The newest checkpoint of output_dir whose checksums hold: its path, "" when there is none, into
// path (capacity bytes).  Others are logged; what a killed save left behind is removed.
MRCDEF mrc_status mrc_checkpoint_find(mrc_ctx *ctx, const char *output_dir, char *path,
                                      size_t capacity);
// MRC_OK when every checksum of this checkpoint holds; else says which does not.
MRCDEF mrc_status mrc_checkpoint_check(mrc_ctx *ctx, const char *path);
// Removes the oldest checkpoints until `keep` are left, never the newest; 0 keeps all.
MRCDEF mrc_status mrc_checkpoint_prune(mrc_ctx *ctx, const char *output_dir, size_t keep);

//==============================================================================
// >>api.reader   the whole system: train on features, predict, evaluate
//==============================================================================
// One optimizer step over n features in micro-batches of at most micro_batch of them.  The loss is
// the mean over what is counted in the whole step; random.step must rise from step to step.
// counted: targets that lay inside their windows.  A loss or gradient that is not finite changes no
// weight and is reported in *skipped; the loss then says what it was.  loss_scale: of the next
// step, 0 where the optimizer has none.
typedef struct mrc_step_result {
    double loss, grad_norm, loss_scale;
    int    skipped;
    size_t counted;
} mrc_step_result;
typedef struct mrc_step_desc {
    const mrc_feature *const *features;
    size_t     n, micro_batch;
    double     lr;
    mrc_random random;
    mrc_forward_config forward;
} mrc_step_desc;
MRCDEF mrc_status mrc_train_step(mrc_ctx *ctx, mrc_model *m, mrc_optimizer *o,
                                 const mrc_step_desc *desc, mrc_step_result *out);

// What training will take, in bytes, before it begins: one optimizer step over the largest
// micro-batch that these features can make, and the largest batch of an evaluation, run through the
// same code on a null backend.  Whatever the size of the model, that needs no memory to speak of;
// ctx's backend is the one that is planned for.  mrc_ctx_reserve(ctx, out->step) makes the plan
// true: the step arena then never grows.
typedef struct mrc_train_plan_desc {
    const mrc_model_config     *model;
    const mrc_optimizer_config *optimizer;
    mrc_dtype            dtype;         // of the model
    mrc_forward_config   forward;
    const mrc_features  *features;
    mrc_batching         batching;
    size_t               micro_batch, accumulation;     // features; micro-batches in a step
    const mrc_features  *eval;          // NULL: no evaluation
    size_t               eval_batch_size;
    int                  eval_dropout;
} mrc_train_plan_desc;
typedef struct mrc_train_memory {
    size_t parameters, gradients, optimizer;
    size_t step, step_train, step_eval; // step: the larger of the extents of the step arena
    size_t total;                       // parameters, gradients, optimizer and step
    size_t rows, sequences, max_length; // the most that a micro-batch can have
    double flops;                       // of one such micro-batch, matrix products with weights
} mrc_train_memory;
MRCDEF mrc_status mrc_train_plan(mrc_ctx *ctx, const mrc_train_plan_desc *desc,
                                 mrc_train_memory *out);

// Runs all features in order, batch_size at a time, and hands each one's logits to fn, which may
// stop the run with a status.  Holds one batch.
typedef struct mrc_predict_desc {
    const mrc_features *features;
    size_t              batch_size;
    int                 by_length;  // 1: longest first, as many at a time as have no more rows than
                                    // batch_size of the longest; fn sees them in that order
    int                 dropout;    // 1: the reference run validated with dropout on
    mrc_random          random;
    mrc_status (*fn)(mrc_ctx *ctx, void *user, const mrc_feature *f, const float *start,
                     const float *end);
    void               *user;       // of both
    // After each batch; NULL: none.  What it returns stops the run unless it is MRC_OK.
    mrc_status (*progress)(void *user, size_t done, size_t total);
} mrc_predict_desc;
MRCDEF mrc_status mrc_predict(mrc_ctx *ctx, mrc_model *m, const mrc_predict_desc *desc);

// Metrics over features: token positions as they are labelled; with a dataset, answers too.
typedef struct mrc_eval_result {
    size_t n_features, n_questions;
    double loss, start_accuracy, end_accuracy, accuracy;    // means over features; 0 to 1
    double exact_match, f1;                                 // 0 to 100; with a dataset
} mrc_eval_result;
typedef struct mrc_eval_desc {
    mrc_predict_desc    predict;    // its fn is not used
    const mrc_dataset  *dataset;    // NULL: no answers are decoded
    mrc_metric          metric;
    mrc_decode_config   decode;
    // With a dataset: each example's best spans, in the dataset's order of examples with features.
    mrc_status (*answer)(mrc_ctx *ctx, void *user, const mrc_example *e, const mrc_span *spans,
                         size_t n_spans);
    void               *user;
} mrc_eval_desc;
MRCDEF mrc_status mrc_evaluate(mrc_ctx *ctx, mrc_model *m, const mrc_eval_desc *desc,
                               mrc_eval_result *out);

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
//     MRC__GET(x), MRC__SET(d)   an element as double and back; MRC__MIXED 1: the elements are 16
//                    bits wide and other operands may be f32 (naive)
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
#ifdef __FAST_MATH__
#error "mrc.h needs IEEE arithmetic (NaN, infinity, order of sums): compile without -ffast-math"
#endif
#ifdef __cplusplus
#error "the implementation of mrc.h is C11: compile it as C (declarations are fine in C++)"
#endif

#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>                  // snprintf and its kin only
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

// f16: 5 bits of exponent, 10 of mantissa, subnormals of 2^-24.  bf16: the upper half of a float.
// To the nearest, ties to even; a NaN stays one.
static uint32_t mrc__float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static float mrc__bits_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static float mrc__from_bf16(uint16_t h) { return mrc__bits_float((uint32_t)h << 16); }
static float mrc__from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 0) return (sign ? -0x1p-24f : 0x1p-24f) * (float)mantissa;
    exponent = exponent == 31 ? 255 : exponent + 112;
    return mrc__bits_float(sign | exponent << 23 | mantissa << 13);
}
static uint16_t mrc__to_bf16(float x) {
    uint32_t u = mrc__float_bits(x);
    if (x != x) return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static uint16_t mrc__to_f16(float x) {
    uint32_t u = mrc__float_bits(x) & 0x7fffffff, sign = mrc__float_bits(x) >> 16 & 0x8000;
    if (x != x) return (uint16_t)(sign | 0x7e00);
    if (u >= 0x477ff000) return (uint16_t)(sign | 0x7c00);      // 65520 and above
    if (u < 0x38800000) {                                       // below 2^-14: 1/2 has ulp 2^-24
        u = mrc__float_bits(mrc__bits_float(u) + 0.5f) - 0x3f000000;
    } else {
        u = (u + 0xfff + (u >> 13 & 1) - 0x38000000) >> 13;
    }
    return (uint16_t)(sign | u);
}

static float mrc__widen(mrc_dtype dtype, uint16_t h) {
    return dtype == MRC_DTYPE_F16 ? mrc__from_f16(h) : mrc__from_bf16(h);
}
static void mrc__narrow(mrc_dtype dtype, uint16_t *to, const float *from, size_t n) {
    for (size_t i = 0; i < n; i++) {
        to[i] = dtype == MRC_DTYPE_F16 ? mrc__to_f16(from[i]) : mrc__to_bf16(from[i]);
    }
}
static int mrc__is_half(mrc_dtype dtype) {
    return dtype == MRC_DTYPE_F16 || dtype == MRC_DTYPE_BF16;
}

// A float from which x is rounded further as if at once: cut, with an odd last bit where inexact.
static float mrc__odd(double x) {
    float f = (float)x;
    if ((double)f == x || x != x) return f;
    uint32_t bits = mrc__float_bits(f);
    if (fabs((double)f) > fabs(x)) bits--;
    return mrc__bits_float(bits | 1);
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
typedef struct mrc__bump {
    mrc_allocator host;
    mrc__chunk   *chunks;
    char         *at;
    size_t        left, chunk_bytes;
} mrc__bump;

// align: 1 to 16, a power of two.  What is large gets a chunk of its own, so that no tail is lost.
static void *mrc__bump_alloc(mrc__bump *p, size_t bytes, size_t align) {
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

static void mrc__bump_free(mrc__bump *p) {
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
#elif defined(__aarch64__)
    __asm__ volatile("yield");
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
    const mrc_ctx_desc none = {0};
    if (!desc) desc = &none;
    if (!mrc__allocator_init(&host, &desc->allocator)) return MRC_ERR_ARG;
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

MRCDEF mrc_status mrc_ctx_reserve(mrc_ctx *ctx, size_t bytes) {
    if (!ctx) return MRC_ERR_ARG;
    if (!ctx->be || ctx->step.live || bytes > SIZE_MAX / 2) {
        return mrc__fail(ctx, MRC_ERR_ARG, "reserve: %zu bytes, %zu live, %s", bytes,
                         ctx->step.live, ctx->be ? ctx->be->name : "no backend");
    }
    bytes = (bytes + MRC_ALIGNMENT - 1) / MRC_ALIGNMENT * MRC_ALIGNMENT;
    if (ctx->step.n_chunks == 1 && ctx->step.reserved >= bytes) return MRC_OK;
    size_t chunk_bytes = ctx->step.chunk_bytes;
    mrc__arena_free(&ctx->step);
    ctx->step.chunk_bytes = bytes;
    if (bytes && mrc__arena_grow(&ctx->step, bytes)) return MRC_OK;
    ctx->step.chunk_bytes = chunk_bytes;
    if (!bytes) return MRC_OK;
    return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory for a step (found less, expected %zu bytes)",
                     ctx->be->name, bytes);
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
        if (p == digits) return mrc__lexer_fail(lx, lx->column, "a point without digits behind it");
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
static mrc_status mrc__lexer_text(mrc__lexer *lx, mrc__bump *pool, const char **out,
                                  size_t *bytes) {
    char *text = mrc__bump_alloc(pool, lx->bytes + 1, 1);
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

// A whole number without its sign; 0 when it is not whole or does not fit.
static int mrc__lexer_u64(const mrc__lexer *lx, uint64_t *out) {
    uint64_t value = 0;
    if (!lx->whole) return 0;
    for (size_t i = lx->text[0] == '-'; i < lx->bytes; i++) {
        uint64_t digit = (uint64_t)(lx->text[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) return 0;
        value = value * 10 + digit;
    }
    *out = value;
    return 1;
}

typedef struct mrc__json_doc {
    mrc_json      root;             // first: freeing the root frees the whole
    mrc_allocator host;
    mrc__bump     pool;
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
static mrc_status mrc__json_value(mrc__lexer *lx, mrc__bump *pool, mrc_json *node) {
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
static mrc_status mrc__json_child(mrc__lexer *lx, mrc__bump *pool, mrc__json_level *level,
                                  mrc_json **out) {
    mrc_json *node = mrc__bump_alloc(pool, sizeof *node, 16);
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
    mrc__bump_free(&doc->pool);
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
        const mrc_json *m = list[i], *other = list[i - 1];
        if (mrc__json_compare_keys(other, m)) continue;
        if (other->line > m->line || (other->line == m->line && other->column > m->column)) {
            m = other;              // the sort keeps no order among equals
        }
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
// >>impl.yaml
//
// The YAML that configurations are written in (RELIABILITY 3.5), into the tree that JSON has.  What
// is outside of it is refused by name and place; nothing is read as something else than YAML 1.2
// means by it.  A value stands on one line; only collections go over several.  Blocks nest 64 deep
// and flows 32, so that recursion has a bound.
//==============================================================================
#define MRC__YAML_BYTES (1 << 20)
#define MRC__YAML_NODES 10000
#define MRC__YAML_BLOCKS 64
#define MRC__YAML_FLOWS 32

typedef struct mrc__yaml {
    mrc_ctx        *ctx;
    const char     *name;
    const char     *at, *end, *line_start;
    size_t          line, nodes, blocks, flows;
    const char     *counted;        // columns of this line are counted up to here: how many
    size_t          count;
    int             fresh;          // the token at `at` is the first of its line
    int             begun;          // the first token was found: "---" now begins a second document
    mrc__json_doc  *doc;
} mrc__yaml;

// The column of p, from 1, in code points.  Long lines are not counted anew for each value.
static size_t mrc__yaml_place(mrc__yaml *y, const char *p) {
    if (y->counted < y->line_start || y->counted > p) {
        y->counted = y->line_start;
        y->count = 0;
    }
    y->count += mrc_utf8_length(y->counted, (size_t)(p - y->counted));
    y->counted = p;
    return y->count + 1;
}

__attribute__((format(printf, 3, 4)))
static mrc_status mrc__yaml_fail(mrc__yaml *y, const char *at, const char *fmt, ...) {
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return mrc__fail(y->ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: %s", y->name, y->line,
                     mrc__yaml_place(y, at), what);
}

static mrc_status mrc__yaml_unsupported(mrc__yaml *y, const char *what) {
    return mrc__yaml_fail(y, y->at, "unsupported YAML: %s", what);
}

static int mrc__yaml_blank(char c) { return c == ' ' || c == '\t'; }

// Lines end with \n or \r\n: other \r were refused.
static int mrc__yaml_line_end(const mrc__yaml *y, const char *p) {
    return p == y->end || *p == '\n' || *p == '\r';
}
static int mrc__yaml_flow_mark(char c) { return c && strchr(",[]{}", c) != NULL; }

// An indicator that counts only with a blank behind it: "- ", ": ", "? ".
static int mrc__yaml_indicator(const mrc__yaml *y, char c) {
    const char *p = y->at;
    if (p == y->end || *p != c) return 0;
    return mrc__yaml_line_end(y, p + 1) || mrc__yaml_blank(p[1]);
}

static int mrc__yaml_marker(const mrc__yaml *y, const char *marker) {
    const char *p = y->at;
    return y->end - p >= 3 && !memcmp(p, marker, 3)
           && (mrc__yaml_line_end(y, p + 3) || mrc__yaml_blank(p[3]));
}

static ptrdiff_t mrc__yaml_column(const mrc__yaml *y) { return y->at - y->line_start; }

// To the next token, over blanks, comments and lines.
static mrc_status mrc__yaml_skip(mrc__yaml *y) {
    const char *p = y->at;
    y->fresh = 0;
    for (;; p++) {
        const char *from = p;
        if (p == y->line_start) y->fresh = 1;
        while (p < y->end && mrc__yaml_blank(*p)) p++;
        if (p < y->end && *p == '#' && (p > from || p == y->line_start)) {
            while (!mrc__yaml_line_end(y, p)) p++;
        }
        if (p < y->end && *p == '\r') p++;
        if (p == y->end || *p != '\n') break;
        y->line++;
        y->line_start = p + 1;
    }
    y->at = p;
    if (p == y->end || !y->fresh) return MRC_OK;
    for (const char *q = y->line_start; q < p; q++) {
        if (*q == '\t') return mrc__yaml_fail(y, q, "unsupported YAML: a tab in indentation");
    }
    if (p > y->line_start) return MRC_OK;
    if (mrc__yaml_marker(y, "---") && y->begun) {
        return mrc__yaml_unsupported(y, "several documents");
    }
    if (mrc__yaml_marker(y, "...")) return mrc__yaml_unsupported(y, "an end of document (...)");
    return MRC_OK;
}

// Whether nothing but a comment follows on this line.
static int mrc__yaml_rest_empty(const mrc__yaml *y) {
    const char *p = y->at;
    while (p < y->end && mrc__yaml_blank(*p)) p++;
    return mrc__yaml_line_end(y, p) || (*p == '#' && p > y->at);
}

static mrc_status mrc__yaml_expect_line_end(mrc__yaml *y) {
    if (mrc__yaml_rest_empty(y)) return MRC_OK;
    while (mrc__yaml_blank(*y->at)) y->at++;
    return mrc__yaml_fail(y, y->at, "expected the end of the line behind a value");
}

// What begins with a character that has a meaning outside of the subset, by its name.
static mrc_status mrc__yaml_refuse(mrc__yaml *y) {
    static const struct { char c; const char *what; } marks[] = {
        { '&', "an anchor" }, { '*', "an alias" }, { '!', "a tag" }, { '|', "a block scalar" },
        { '>', "a block scalar" }, { '%', "a directive" }, { '@', "a reserved character" },
        { '`', "a reserved character" },
    };
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (*y->at == marks[i].c) return mrc__yaml_unsupported(y, marks[i].what);
    }
    if (mrc__yaml_indicator(y, '?')) return mrc__yaml_unsupported(y, "a key with a question mark");
    return MRC_OK;
}

typedef struct mrc__yaml_scalar {
    char  *text;                    // in the pool, NUL-terminated
    size_t bytes, line, column;
    int    quoted;
} mrc__yaml_scalar;

static mrc_status mrc__yaml_escape(mrc__yaml *y, const char **from, char **to) {
    static const char letters[] = "0abtnvfre\"/\\ \t", values[] = "\0\a\b\t\n\v\f\r\033\"/\\ \t";
    const char *p = *from + 1, *found;
    uint32_t cp = 0;
    size_t digits = 0;
    if (mrc__yaml_line_end(y, p)) return mrc__yaml_unsupported(y, "a value of several lines");
    if (*p && (found = strchr(letters, *p)) != NULL) {
        *(*to)++ = values[found - letters];
        *from = p + 1;
        return MRC_OK;
    }
    switch (*p) {
    case 'N': cp = 0x85; break;
    case '_': cp = 0xA0; break;
    case 'L': cp = 0x2028; break;
    case 'P': cp = 0x2029; break;
    case 'x': digits = 2; break;
    case 'u': digits = 4; break;
    case 'U': digits = 8; break;
    default: return mrc__yaml_fail(y, *from, "not an escape");
    }
    for (p++; digits > 0; digits--, p++) {
        int c = p < y->end ? (unsigned char)*p : 0, lower = c | 0x20;
        int digit = c >= '0' && c <= '9' ? c - '0'
                  : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
        if (digit < 0) return mrc__yaml_fail(y, *from, "an escape with too few digits");
        cp = cp << 4 | (uint32_t)digit;
    }
    size_t n = mrc_utf8_encode(cp, *to);
    if (n == 0) return mrc__yaml_fail(y, *from, "an escape that is no character");
    *to += n;
    *from = p;
    return MRC_OK;
}

// The length of a plain scalar at y->at, blanks behind it not counted.
static size_t mrc__yaml_plain(const mrc__yaml *y, int flow) {
    const char *p = y->at, *first = p;
    for (; !mrc__yaml_line_end(y, p); p++) {
        int last = mrc__yaml_line_end(y, p + 1);
        if (*p == ':' && (last || mrc__yaml_blank(p[1]) || (flow && mrc__yaml_flow_mark(p[1])))) {
            break;
        }
        if (*p == '#' && p > first && mrc__yaml_blank(p[-1])) break;
        if (flow && mrc__yaml_flow_mark(*p)) break;
    }
    while (p > first && mrc__yaml_blank(p[-1])) p--;
    return (size_t)(p - first);
}

// Bytes that are enough for the quoted scalar at y->at: an escape of two can stand for three.
static size_t mrc__yaml_quoted_room(const mrc__yaml *y, char quote) {
    const char *p = y->at + 1;
    for (; !mrc__yaml_line_end(y, p); p++) {
        int pair = !mrc__yaml_line_end(y, p + 1)
                   && (quote == '"' ? *p == '\\' : *p == quote && p[1] == quote);
        if (pair) p++;
        else if (*p == quote) break;
    }
    return 2 * (size_t)(p - y->at);
}

static mrc_status mrc__yaml_quoted(mrc__yaml *y, char quote, char *out, size_t *bytes) {
    const char *p = y->at + 1;
    char *o = out;
    for (;;) {
        if (p == y->end) {
            return mrc__yaml_fail(y, y->at, "the string that begins here has no end");
        }
        if (mrc__yaml_line_end(y, p)) return mrc__yaml_unsupported(y, "a value of several lines");
        if (*p == quote && quote == '\'' && p + 1 < y->end && p[1] == quote) {
            *o++ = quote;
            p += 2;
        } else if (*p == quote) {
            break;
        } else if (*p == '\\' && quote == '"') {
            MRC__TRY(mrc__yaml_escape(y, &p, &o));
        } else {
            *o++ = *p++;
        }
    }
    *o = 0;
    *bytes = (size_t)(o - out);
    y->at = p + 1;
    return MRC_OK;
}

// A plain or quoted scalar, which ends on its line.
static mrc_status mrc__yaml_scalar_at(mrc__yaml *y, int flow, mrc__yaml_scalar *out) {
    const char *p = y->at;
    size_t room;
    MRC__TRY(mrc__yaml_refuse(y));
    *out = (mrc__yaml_scalar){ .line = y->line, .quoted = *p == '"' || *p == '\'' };
    out->column = mrc__yaml_place(y, p);
    if (out->quoted) {
        room = mrc__yaml_quoted_room(y, *p);
    } else {
        int follows = p + 1 < y->end && !mrc__yaml_line_end(y, p + 1) && !mrc__yaml_blank(p[1])
                      && !(flow && mrc__yaml_flow_mark(p[1]));
        if (mrc__yaml_flow_mark(*p) || *p == '#' || (strchr("-?:", *p) && !follows)) {
            return mrc__yaml_fail(y, p, "expected a value, found '%c'", *p);
        }
        room = out->bytes = mrc__yaml_plain(y, flow);
    }
    out->text = mrc__bump_alloc(&y->doc->pool, room + 1, 1);
    if (!out->text) return mrc__fail(y->ctx, MRC_ERR_MEM, "%s: no memory for a value", y->name);
    if (out->quoted) return mrc__yaml_quoted(y, *p, out->text, &out->bytes);
    memcpy(out->text, p, room);
    out->text[room] = 0;
    y->at += room;
    return MRC_OK;
}

static mrc_status mrc__yaml_number(mrc__yaml *y, const mrc__yaml_scalar *s, char *text,
                                   mrc_json *node) {
    mrc__lexer lx;
    mrc__lexer_init(&lx, y->ctx, y->name, text, strlen(text), s->line);
    lx.column = s->column;
    MRC__TRY(mrc__lexer_number(&lx));
    return mrc__json_number(&lx, node);
}

// 0x1F: 1, or 0 when it is no such number.
static mrc_status mrc__yaml_hex(mrc__yaml *y, const mrc__yaml_scalar *s, mrc_json *node,
                                int *is_number) {
    uint64_t value = 0;
    *is_number = s->bytes > 2 && !memcmp(s->text, "0x", 2)
                 && strspn(s->text + 2, "0123456789abcdefABCDEF") == s->bytes - 2;
    for (const char *p = s->text + 2; *is_number && *p; p++) {
        unsigned digit = (unsigned)(*p <= '9' ? *p - '0' : (*p | 0x20) - 'a' + 10);
        if (value > ((uint64_t)INT64_MAX - digit) / 16) {
            return mrc__fail(y->ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: an integer that does not fit 63 "
                             "bits", y->name, s->line, s->column);
        }
        value = value * 16 + digit;
    }
    if (!*is_number) return MRC_OK;
    node->type = MRC_JSON_NUMBER;
    node->is_int = 1;
    node->integer = (int64_t)value;
    node->number = (double)value;
    return MRC_OK;
}

// Integers and fractions of the core schema, rewritten as JSON has them: no plus, no leading zeros,
// digits on both sides of the point.
static mrc_status mrc__yaml_decimal(mrc__yaml *y, const mrc__yaml_scalar *s, mrc_json *node,
                                    int *is_number) {
    const char *p = s->text + (*s->text == '-' || *s->text == '+'), *digits = p;
    size_t whole = strspn(p, "0123456789"), fraction = 0;
    *is_number = 0;
    p += whole;
    if (*p == '.') fraction = strspn(++p, "0123456789");
    if (whole + fraction == 0) return MRC_OK;
    const char *point = p;
    p += fraction;
    const char *exponent = *p == 'e' || *p == 'E' ? p : NULL;
    if (exponent) {
        p += 1 + (p[1] == '-' || p[1] == '+');
        size_t n = strspn(p, "0123456789");
        p += n;
        if (n == 0) return MRC_OK;
    }
    if (p != s->text + s->bytes) return MRC_OK;         // a NUL in it, or other text
    *is_number = 1;
    while (whole > 1 && *digits == '0') digits++, whole--;
    char *text = mrc__bump_alloc(&y->doc->pool, s->bytes + 4, 1), *o = text;
    if (!text) return mrc__fail(y->ctx, MRC_ERR_MEM, "%s: no memory for a number", y->name);
    if (*s->text == '-') *o++ = '-';
    if (whole == 0) *o++ = '0';
    memcpy(o, digits, whole);
    o += whole;
    if (point > digits && point[-1] == '.') {
        *o++ = '.';
        if (fraction == 0) *o++ = '0';
        memcpy(o, point, fraction);
        o += fraction;
    }
    size_t rest = exponent ? (size_t)(p - exponent) : 0;
    if (rest) memcpy(o, exponent, rest);
    o[rest] = 0;
    return mrc__yaml_number(y, s, text, node);
}

// What a scalar is by the core schema, but for 0o17, which stays a string.
static mrc_status mrc__yaml_resolve(mrc__yaml *y, const mrc__yaml_scalar *s, mrc_json *node) {
    static const struct { const char *words; mrc_json_type type; } types[] = {
        { "|~|null|Null|NULL|", MRC_JSON_NULL }, { "|true|True|TRUE|", MRC_JSON_TRUE },
        { "|false|False|FALSE|", MRC_JSON_FALSE },
    };
    char word[8];
    int is_number = 0;
    node->line = s->line;
    node->column = s->column;
    node->type = MRC_JSON_STRING;
    node->string = s->text;
    node->bytes = s->bytes;
    if (s->quoted || s->bytes == 0) return MRC_OK;
    if (s->bytes < 6 && !strchr(s->text, '|')) {
        snprintf(word, sizeof word, "|%s|", s->text);
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            if (strstr(types[i].words, word)) node->type = types[i].type;
        }
        const char *p = s->text + (*s->text == '-' || *s->text == '+');
        if (!strcmp(p, ".inf") || !strcmp(p, ".Inf") || !strcmp(p, ".INF") || !strcmp(p, ".nan")
            || !strcmp(p, ".NaN") || !strcmp(p, ".NAN")) {
            return mrc__fail(y->ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: not a finite number", y->name,
                             s->line, s->column);
        }
    }
    if (node->type == MRC_JSON_STRING) MRC__TRY(mrc__yaml_hex(y, s, node, &is_number));
    if (node->type == MRC_JSON_STRING) MRC__TRY(mrc__yaml_decimal(y, s, node, &is_number));
    if (node->type == MRC_JSON_STRING) return MRC_OK;
    node->string = NULL;
    node->bytes = 0;
    return MRC_OK;
}

// Whether ": " comes next, which makes a key of what was read; y->at is then at the colon.
static int mrc__yaml_colon(mrc__yaml *y) {
    const char *before = y->at;
    while (y->at < y->end && mrc__yaml_blank(*y->at)) y->at++;
    if (mrc__yaml_indicator(y, ':')) return 1;
    y->at = before;
    return 0;
}

static mrc_status mrc__yaml_child(mrc__yaml *y, mrc__json_level *level,
                                  const mrc__yaml_scalar *key, mrc_json **out) {
    if (++y->nodes > MRC__YAML_NODES) {
        return mrc__yaml_fail(y, y->at, "more than %d values", MRC__YAML_NODES);
    }
    mrc_json *node = mrc__bump_alloc(&y->doc->pool, sizeof *node, 16);
    if (!node) return mrc__fail(y->ctx, MRC_ERR_MEM, "%s: no memory for a node", y->name);
    memset(node, 0, sizeof *node);
    node->line = key ? key->line : y->line;
    node->column = key ? key->column : mrc__yaml_place(y, y->at);
    if (key) {
        if (key->bytes > 1024) return mrc__yaml_fail(y, y->at, "a key of more than 1024 bytes");
        if (!key->quoted && key->bytes == 2 && !memcmp(key->text, "<<", 2)) {
            return mrc__yaml_fail(y, y->at, "unsupported YAML: a merge key");
        }
        node->key = key->text;
        node->key_bytes = key->bytes;
    }
    if (level->last) level->last->next = node;
    else level->node->child = node;
    level->last = node;
    level->node->n++;
    *out = node;
    return MRC_OK;
}

static mrc_status mrc__yaml_flow(mrc__yaml *y, mrc_json *node, ptrdiff_t parent);

// Inside brackets lines are free, but stay to the right of what the flow belongs to.
static mrc_status mrc__yaml_flow_skip(mrc__yaml *y, ptrdiff_t parent) {
    MRC__TRY(mrc__yaml_skip(y));
    if (y->at == y->end) return mrc__yaml_fail(y, y->at, "a bracket is not closed");
    if (y->fresh && mrc__yaml_column(y) <= parent) {
        return mrc__yaml_fail(y, y->at, "expected more indentation inside brackets");
    }
    return MRC_OK;
}

static mrc_status mrc__yaml_flow_value(mrc__yaml *y, mrc_json *node, ptrdiff_t parent) {
    mrc__yaml_scalar scalar;
    if (*y->at == '[' || *y->at == '{') return mrc__yaml_flow(y, node, parent);
    MRC__TRY(mrc__yaml_scalar_at(y, 1, &scalar));
    return mrc__yaml_resolve(y, &scalar, node);
}

// One "key: value" of braces.
static mrc_status mrc__yaml_flow_pair(mrc__yaml *y, mrc__json_level *level, ptrdiff_t parent) {
    mrc__yaml_scalar key;
    mrc_json *child = NULL;
    if (*y->at == '[' || *y->at == '{') return mrc__yaml_unsupported(y, "a collection as a key");
    MRC__TRY(mrc__yaml_scalar_at(y, 1, &key));
    MRC__TRY(mrc__yaml_child(y, level, &key, &child));
    MRC__TRY(mrc__yaml_flow_skip(y, parent));
    if (*y->at == ',' || *y->at == '}') {
        return mrc__yaml_unsupported(y, "a key without a value in braces");
    }
    if (*y->at != ':') return mrc__yaml_unsupported(y, "a value of several lines");
    const char *p = y->at + 1;
    if (!key.quoted && !mrc__yaml_indicator(y, ':') && !(p < y->end && mrc__yaml_flow_mark(*p))) {
        return mrc__yaml_unsupported(y, "a value of several lines");
    }
    y->at++;
    MRC__TRY(mrc__yaml_flow_skip(y, parent));
    if (*y->at == ',' || *y->at == '}') return MRC_OK;
    return mrc__yaml_flow_value(y, child, parent);
}

// A [list] or {mapping}: y->at is at its bracket, and behind the closing one afterwards.
static mrc_status mrc__yaml_flow(mrc__yaml *y, mrc_json *node, ptrdiff_t parent) {
    int mapping = *y->at == '{';
    char close = mapping ? '}' : ']';
    mrc__json_level level = { .node = node };
    mrc_json *child = NULL;
    if (y->flows == MRC__YAML_FLOWS) {
        return mrc__yaml_fail(y, y->at, "brackets nested deeper than %d", MRC__YAML_FLOWS);
    }
    y->flows++;
    node->type = mapping ? MRC_JSON_OBJECT : MRC_JSON_ARRAY;
    y->at++;
    MRC__TRY(mrc__yaml_flow_skip(y, parent));
    while (*y->at != close) {
        if (mapping) {
            MRC__TRY(mrc__yaml_flow_pair(y, &level, parent));
        } else {
            MRC__TRY(mrc__yaml_child(y, &level, NULL, &child));
            MRC__TRY(mrc__yaml_flow_value(y, child, parent));
        }
        MRC__TRY(mrc__yaml_flow_skip(y, parent));
        if (*y->at == ':') return mrc__yaml_unsupported(y, "a pair that stands in no mapping");
        if (*y->at == close) break;
        if (*y->at != ',') {
            return mrc__yaml_fail(y, y->at, "expected ',' or '%c' (a value of several lines is not "
                                  "supported)", close);
        }
        y->at++;
        MRC__TRY(mrc__yaml_flow_skip(y, parent));
    }
    y->at++;
    y->flows--;
    return mapping ? mrc_json_unique_keys(y->ctx, node, y->name) : MRC_OK;
}

static mrc_status mrc__yaml_block(mrc__yaml *y, mrc_json *node, ptrdiff_t parent, int compact);

// The next entry of a block at `column`: *more 0 when the block ends here.
static mrc_status mrc__yaml_next(mrc__yaml *y, ptrdiff_t column, int *more) {
    MRC__TRY(mrc__yaml_skip(y));
    *more = y->at < y->end && mrc__yaml_column(y) >= column;
    if (*more && mrc__yaml_column(y) > column) {
        return mrc__yaml_fail(y, y->at, "indentation that fits no line above (a value of several "
                              "lines is not supported)");
    }
    return MRC_OK;
}

// Entries "- value" at one column.
static mrc_status mrc__yaml_sequence(mrc__yaml *y, mrc_json *node, ptrdiff_t column) {
    mrc__json_level level = { .node = node };
    mrc_json *child = NULL;
    int more;
    node->type = MRC_JSON_ARRAY;
    do {
        MRC__TRY(mrc__yaml_child(y, &level, NULL, &child));
        y->at++;
        if (mrc__yaml_rest_empty(y)) {
            MRC__TRY(mrc__yaml_skip(y));
            if (y->at < y->end && mrc__yaml_column(y) > column) {
                MRC__TRY(mrc__yaml_block(y, child, column, 1));
            }
        } else {
            while (*y->at == ' ') y->at++;
            if (*y->at == '\t') return mrc__yaml_unsupported(y, "a tab in indentation");
            MRC__TRY(mrc__yaml_block(y, child, column, 1));
        }
        MRC__TRY(mrc__yaml_next(y, column, &more));
    } while (more && mrc__yaml_indicator(y, '-'));
    return MRC_OK;
}

// What stands behind "key:".  A list below may begin at the key's own column.
static mrc_status mrc__yaml_value(mrc__yaml *y, mrc_json *child, ptrdiff_t column) {
    if (!mrc__yaml_rest_empty(y)) {
        while (mrc__yaml_blank(*y->at)) y->at++;
        return mrc__yaml_block(y, child, column, 0);
    }
    MRC__TRY(mrc__yaml_skip(y));
    if (y->at == y->end || mrc__yaml_column(y) < column) return MRC_OK;
    if (mrc__yaml_column(y) == column && !mrc__yaml_indicator(y, '-')) return MRC_OK;
    return mrc__yaml_block(y, child, mrc__yaml_column(y) == column ? column - 1 : column, 1);
}

// Entries "key: value" at one column; the first key is read, its colon is next.
static mrc_status mrc__yaml_mapping(mrc__yaml *y, mrc_json *node, ptrdiff_t column,
                                    mrc__yaml_scalar *key) {
    mrc__json_level level = { .node = node };
    mrc_json *child = NULL;
    int more;
    node->type = MRC_JSON_OBJECT;
    for (;;) {
        MRC__TRY(mrc__yaml_child(y, &level, key, &child));
        y->at++;
        MRC__TRY(mrc__yaml_value(y, child, column));
        MRC__TRY(mrc__yaml_next(y, column, &more));
        if (!more) return mrc_json_unique_keys(y->ctx, node, y->name);
        if (*y->at == '[' || *y->at == '{') {
            return mrc__yaml_unsupported(y, "a collection as a key");
        }
        MRC__TRY(mrc__yaml_scalar_at(y, 0, key));
        if (!mrc__yaml_colon(y)) return mrc__yaml_fail(y, y->at, "expected ':' behind a key");
    }
}

// The value at y->at, right of column `parent`.  compact 0: it stands behind a key, where no block
// may begin.
static mrc_status mrc__yaml_block(mrc__yaml *y, mrc_json *node, ptrdiff_t parent, int compact) {
    ptrdiff_t column = mrc__yaml_column(y);
    mrc_status s;
    node->line = y->line;
    node->column = mrc__yaml_place(y, y->at);
    if (y->blocks == MRC__YAML_BLOCKS) {
        return mrc__yaml_fail(y, y->at, "nested deeper than %d", MRC__YAML_BLOCKS);
    }
    y->blocks++;
    if (*y->at == '[' || *y->at == '{') {
        MRC__TRY(mrc__yaml_flow(y, node, parent));
        if (mrc__yaml_colon(y)) return mrc__yaml_unsupported(y, "a collection as a key");
        s = mrc__yaml_expect_line_end(y);
    } else if (compact && mrc__yaml_indicator(y, '-')) {
        s = mrc__yaml_sequence(y, node, column);
    } else {
        mrc__yaml_scalar scalar;
        MRC__TRY(mrc__yaml_scalar_at(y, 0, &scalar));
        if (mrc__yaml_colon(y)) {
            if (!compact) return mrc__yaml_fail(y, y->at, "a second ':' on the line of a key");
            s = mrc__yaml_mapping(y, node, column, &scalar);
        } else {
            MRC__TRY(mrc__yaml_resolve(y, &scalar, node));
            s = mrc__yaml_expect_line_end(y);
        }
    }
    y->blocks--;
    return s;
}

// Characters that YAML has no place for; afterwards \r stands only before \n.
static mrc_status mrc__yaml_check_text(mrc__yaml *y) {
    uint32_t cp;
    for (const char *p = y->at; p < y->end; ) {
        size_t n = mrc_utf8_decode(p, (size_t)(y->end - p), &cp);
        if (n == 0) return mrc__yaml_fail(y, p, "ill-formed UTF-8, byte 0x%02x", (unsigned char)*p);
        int crlf = cp == '\r' && p + 1 < y->end && p[1] == '\n';
        if ((cp < 0x20 && cp != '\t' && cp != '\n' && !crlf) || (cp >= 0x7F && cp < 0xA0)
            || cp == 0xFEFF || cp == 0xFFFE || cp == 0xFFFF || cp == 0x2028 || cp == 0x2029) {
            return mrc__yaml_fail(y, p, "the control character U+%04X", (unsigned)cp);
        }
        p += n;
        if (cp != '\n') continue;
        y->line++;
        y->line_start = p;
    }
    y->line = 1;
    y->line_start = y->at;
    return MRC_OK;
}

static mrc_status mrc__yaml_document(mrc__yaml *y) {
    mrc_json *root = &y->doc->root;
    MRC__TRY(mrc__yaml_check_text(y));
    MRC__TRY(mrc__yaml_skip(y));
    if (y->at == y->end) return mrc__yaml_fail(y, y->at, "no value: the file is empty");
    root->line = y->line;
    root->column = 1;
    y->begun = 1;
    if (mrc__yaml_column(y) > 0 || !mrc__yaml_marker(y, "---")) {
        MRC__TRY(mrc__yaml_block(y, root, -1, 1));
    } else {
        y->at += 3;
        int same_line = !mrc__yaml_rest_empty(y);
        MRC__TRY(mrc__yaml_skip(y));
        if (y->at < y->end) MRC__TRY(mrc__yaml_block(y, root, -1, !same_line));
    }
    MRC__TRY(mrc__yaml_skip(y));
    if (y->at == y->end) return MRC_OK;
    return mrc__yaml_fail(y, y->at, "expected the end (a value of several lines is not supported)");
}

MRCDEF mrc_status mrc_yaml_parse(mrc_ctx *ctx, mrc_json **out, const char *name, const char *text,
                                 size_t bytes) {
    if (!ctx || !out) return MRC_ERR_ARG;
    *out = NULL;
    if (!text) return mrc__fail(ctx, MRC_ERR_ARG, "yaml: no text given");
    mrc__yaml y = { .ctx = ctx, .name = name ? name : "yaml", .line = 1 };
    if (bytes >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3)) text += 3, bytes -= 3;
    y.at = y.line_start = text;
    y.end = text + bytes;
    if (bytes > MRC__YAML_BYTES) {
        return mrc__yaml_fail(&y, text, "%zu bytes, at most %d", bytes, MRC__YAML_BYTES);
    }
    y.doc = mrc__host_zalloc(&ctx->host, sizeof *y.doc);
    if (!y.doc) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory to parse it", y.name);
    y.doc->host = y.doc->pool.host = ctx->host;
    mrc_status s = mrc__yaml_document(&y);
    if (s == MRC_OK) *out = &y.doc->root;
    else mrc_json_free(&y.doc->root);
    return s;
}

MRCDEF mrc_status mrc_yaml_load(mrc_ctx *ctx, mrc_json **out, const char *path) {
    char *text;
    size_t bytes;
    if (!ctx || !out) return MRC_ERR_ARG;
    *out = NULL;
    MRC__TRY(mrc_file_read(ctx, &text, &bytes, path));
    mrc_status s = mrc_yaml_parse(ctx, out, path, text, bytes);
    mrc_file_free(ctx, text);
    return s;
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
    return mrc__fail(ctx, absent ? MRC_ERR_ARG : e == ENOMEM ? MRC_ERR_MEM : MRC_ERR_IO,
                     "%s: cannot %s: %s", path, doing, strerror(e));
}
static mrc_status mrc__write_fail(mrc_ctx *ctx, const char *path, const char *doing) {
    int e = errno;
    return mrc__fail(ctx, e == ENOMEM ? MRC_ERR_MEM : MRC_ERR_IO, "%s: cannot %s: %s", path, doing,
                     strerror(e));
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

// The zip format's.
static const uint32_t mrc__crc32_table[8][256] = {
    MRC__CRC_256(0x77073096u, 0xee0e612cu, 0x076dc419u, 0x0edb8832u,
                 0x1db71064u, 0x3b6e20c8u, 0x76dc4190u, 0xedb88320u),
    MRC__CRC_256(0x191b3141u, 0x32366282u, 0x646cc504u, 0xc8d98a08u,
                 0x4ac21251u, 0x958424a2u, 0xf0794f05u, 0x3b83984bu),
    MRC__CRC_256(0x01c26a37u, 0x0384d46eu, 0x0709a8dcu, 0x0e1351b8u,
                 0x1c26a370u, 0x384d46e0u, 0x709a8dc0u, 0xe1351b80u),
    MRC__CRC_256(0xb8bc6765u, 0xaa09c88bu, 0x8f629757u, 0xc5b428efu,
                 0x5019579fu, 0xa032af3eu, 0x9b14583du, 0xed59b63bu),
    MRC__CRC_256(0x3d6029b0u, 0x7ac05360u, 0xf580a6c0u, 0x30704bc1u,
                 0x60e09782u, 0xc1c12f04u, 0x58f35849u, 0xb1e6b092u),
    MRC__CRC_256(0xcb5cd3a5u, 0x4dc8a10bu, 0x9b914216u, 0xec53826du,
                 0x03d6029bu, 0x07ac0536u, 0x0f580a6cu, 0x1eb014d8u),
    MRC__CRC_256(0xa6770bb4u, 0x979f1129u, 0xf44f2413u, 0x33ef4e67u,
                 0x67de9cceu, 0xcfbd399cu, 0x440b7579u, 0x8816eaf2u),
    MRC__CRC_256(0xccaa009eu, 0x4225077du, 0x844a0efau, 0xd3e51bb5u,
                 0x7cbb312bu, 0xf9766256u, 0x299dc2edu, 0x533b85dau),
};

static uint32_t mrc__crc(const uint32_t (*t)[256], uint32_t crc, const void *data, size_t bytes) {
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

MRCDEF uint32_t mrc_crc32c(uint32_t crc, const void *data, size_t bytes) {
    return mrc__crc(mrc__crc32c_table, crc, data, bytes);
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
    mrc_status s = MRC_OK;
    if (fsync(fd) != 0 && errno != EINVAL) s = mrc__write_fail(ctx, path, "sync this folder");
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
static int mrc__dir_names(DIR *dir, mrc__bump *pool, void **list, size_t *capacity, size_t *n) {
    const struct dirent *entry;
    while ((errno = 0, entry = readdir(dir)) != NULL) {
        if (mrc__dir_is_dot(entry->d_name)) continue;
        size_t bytes = strlen(entry->d_name) + 1;
        char *name = mrc__bump_alloc(pool, bytes, 1);
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
    mrc__bump pool = { .host = ctx->host };
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
    mrc__bump_free(&pool);
    return s;
}

//==============================================================================
// >>impl.safetensors
//
// Eight bytes of header length, a JSON header, then the tensors end to end.  The reader believes
// nothing: the length is held against the file's size before anything is allocated, the header is
// read with the JSON lexer straight into entries (no tree, so a hostile header costs no more memory
// than its own size), and the ranges must tile the data area exactly.  Every size is computed with
// overflow checks, those of empty tensors too: [2^40, 2^40, 0] is refused, [0, 2^40, 2^40] is not.
// The writer makes what the format's own library makes: the same order, the same padding.
//==============================================================================
#define MRC__ST_HEADER_MAX 100000000u
#define MRC__ST_COUNT_MAX  1000000u
#define MRC__ST_NAME_MAX   65535u
#define MRC__ST_PIECE      16384u   // bytes of scratch, on the stack

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "mrc.h reads and writes tensors as they lie in memory: little-endian machines only"
#endif

// In the reference library's order, which is that of its writer, backwards.
static const struct { const char *name; unsigned bits; } mrc__st_dtypes[] = {
    { "BOOL", 8 }, { "F4", 4 }, { "F6_E2M3", 6 }, { "F6_E3M2", 6 }, { "U8", 8 }, { "I8", 8 },
    { "F8_E5M2", 8 }, { "F8_E4M3", 8 }, { "F8_E8M0", 8 }, { "F8_E4M3FNUZ", 8 },
    { "F8_E5M2FNUZ", 8 }, { "I16", 16 }, { "U16", 16 }, { "F16", 16 }, { "BF16", 16 },
    { "I32", 32 }, { "U32", 32 }, { "F32", 32 }, { "C64", 64 }, { "F64", 64 }, { "I64", 64 },
    { "U64", 64 },
};
#define MRC__ST_DTYPES (sizeof mrc__st_dtypes / sizeof mrc__st_dtypes[0])

// The dtype's index; MRC__ST_DTYPES: there is none of that name.
static size_t mrc__st_dtype(const char *name, size_t bytes) {
    size_t i = 0;
    while (i < MRC__ST_DTYPES && (strlen(mrc__st_dtypes[i].name) != bytes
                                  || memcmp(mrc__st_dtypes[i].name, name, bytes))) i++;
    return i;
}

static int mrc__mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    if (b != 0 && a > UINT64_MAX / b) return 0;
    *out = a * b;
    return 1;
}

// numel and bytes of a shape; NULL, or what is wrong with it.
static const char *mrc__st_size(size_t dtype, int ndim, const uint64_t *shape, uint64_t *numel,
                                uint64_t *bytes) {
    uint64_t bits;
    *numel = 1;
    for (int i = 0; i < ndim; i++) {
        if (!mrc__mul_u64(*numel, shape[i], numel)) return "the shape's product overflows";
    }
    if (!mrc__mul_u64(*numel, mrc__st_dtypes[dtype].bits, &bits)) return "the size overflows";
    if (bits % 8) return "the size is no whole number of bytes";
    *bytes = bits / 8;
    return NULL;
}

// Unlike tensors' names, keys may hold NUL: their length counts.
typedef struct mrc__st_meta { const char *key, *value; size_t key_bytes; } mrc__st_meta;

// An entry and where its elements lie; those of PyTorch's files may be strided.
typedef struct mrc__st_item {
    mrc_st_entry     e;             // first: users hold its address
    mrc_safetensors *owner;         // the file; of a sharded checkpoint, one of several
    uint64_t         at;            // in the file, of the first element
    int              strided;
    uint64_t         stride[8];     // in elements
    uint64_t         offset;        // of the first element in its storage, while a file is opened
    const struct mrc__pt_storage *storage;
} mrc__st_item;

// One reader for safetensors files, PyTorch's and folders of shards: a list of entries.
struct mrc_safetensors {
    mrc_ctx      *ctx;
    int           fd;               // -1: a sharded checkpoint, whose files are `shards`
    const char   *path, *format;
    mrc_safetensors **shards;
    size_t        n_shards, shards_capacity;
    uint64_t      data_begin;       // in the file
    mrc__bump     pool;             // entries, names, metadata
    const void  **by_offset;        // mrc_st_entry: how mrc_safetensors_at counts them
    const void  **by_name;
    size_t        n, capacity;
    const void  **meta;             // mrc__st_meta by key
    size_t        n_meta, meta_capacity;
};

// Reads exactly these bytes of the file, wherever the descriptor stands.
static mrc_status mrc__st_pread(mrc_ctx *ctx, const char *path, int fd, uint64_t at, void *to,
                                size_t bytes) {
    char *p = to;
    while (bytes > 0) {
        ssize_t n = pread(fd, p, bytes < ((size_t)1 << 30) ? bytes : (size_t)1 << 30, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return mrc__file_fail(ctx, path, "read it");
        if (n == 0) {
            return mrc__fail(ctx, MRC_ERR_IO, "%s: ends at byte %llu, %zu bytes more were there "
                             "when it was opened", path, (unsigned long long)at, bytes);
        }
        p += n;
        at += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return MRC_OK;
}

// "[1, 2, ..]": at most `most` integers of 0 to 2^64 - 1; the current token is its opening.
static mrc_status mrc__st_integers(mrc__lexer *lx, const char *field, uint64_t *out, int most,
                                   int *n) {
    *n = 0;
    if (lx->token != '[') return mrc__lexer_expected(lx, field);
    MRC__TRY(mrc__lexer_next(lx));
    while (lx->token != ']') {
        if (*n > 0 && lx->token != ',') return mrc__lexer_expected(lx, "',' or ']'");
        if (*n > 0) MRC__TRY(mrc__lexer_next(lx));
        if (lx->token != '0') return mrc__lexer_expected(lx, "an integer");
        if (*n == most) return mrc__lexer_fail(lx, lx->column, "more than %d in %s", most, field);
        if (lx->text[0] == '-' || !mrc__lexer_u64(lx, &out[*n])) {
            return mrc__lexer_fail(lx, lx->column, "%.*s is no integer of 0 to 2^64 - 1",
                                   lx->bytes < 40 ? (int)lx->bytes : 40, lx->text);
        }
        ++*n;
        MRC__TRY(mrc__lexer_next(lx));
    }
    return MRC_OK;
}

// One field of a tensor's object, the current token its value; *seen gathers which there were.
static mrc_status mrc__st_field(mrc__lexer *lx, const mrc__lexer *key, mrc_st_entry *e,
                                unsigned *seen) {
    static const char *const fields[] = { "dtype", "shape", "data_offsets" };
    uint64_t offsets[2];
    size_t i = 0;
    int n;
    while (i < 3 && (key->bytes != strlen(fields[i]) || memcmp(key->text, fields[i], key->bytes))) {
        i++;
    }
    if (i == 3) return mrc__lexer_fail(key, key->column, "unknown field in a tensor's entry");
    if (*seen & 1u << i) return mrc__lexer_fail(key, key->column, "a second \"%s\"", fields[i]);
    *seen |= 1u << i;
    if (i == 0) {
        size_t dtype = lx->token == '"' ? mrc__st_dtype(lx->text, lx->bytes) : MRC__ST_DTYPES;
        if (dtype == MRC__ST_DTYPES) return mrc__lexer_fail(lx, lx->column, "not a dtype");
        e->dtype = mrc__st_dtypes[dtype].name;
        return MRC_OK;
    }
    if (i == 1) return mrc__st_integers(lx, "a shape of at most 8 sizes", e->shape, 8, &e->ndim);
    MRC__TRY(mrc__st_integers(lx, "data_offsets of 2 integers", offsets, 2, &n));
    if (n != 2) return mrc__lexer_fail(lx, lx->column, "%d data_offsets, expected 2", n);
    e->begin = offsets[0];
    e->end = offsets[1];
    return MRC_OK;
}

// Keys are compared as they stand in the file: an escape in one of the three fields' names would
// go unrecognised, so it is undone first.
static mrc_status mrc__st_key(mrc__lexer *lx, mrc__lexer *key, char *room, size_t room_bytes) {
    if (lx->token != '"') return mrc__lexer_expected(lx, "a name in quotes");
    *key = *lx;
    if (lx->escaped && lx->bytes <= room_bytes) {
        key->bytes = mrc__json_unescape(lx->text, lx->bytes, room);
        key->text = room;
    }
    MRC__TRY(mrc__lexer_next(lx));
    if (lx->token != ':') return mrc__lexer_expected(lx, "':'");
    return mrc__lexer_next(lx);
}

// Between members: 1 in *more when another key is the current token.
static mrc_status mrc__st_more(mrc__lexer *lx, int first, int *more) {
    *more = lx->token != '}';
    if (!*more || first) return MRC_OK;
    if (lx->token != ',') return mrc__lexer_expected(lx, "',' or '}'");
    return mrc__lexer_next(lx);
}

static mrc_status mrc__st_memory(const mrc_safetensors *st) {
    return mrc__fail(st->ctx, MRC_ERR_MEM, "%s: no memory for its header", st->path);
}

// The list with room for one more pointer.
static int mrc__st_push(mrc_safetensors *st, const void ***list, size_t *capacity, size_t *n,
                        const void *item) {
    void *data = (void *)*list;
    if (!mrc__grow(&st->ctx->host, &data, capacity, *n + 1, sizeof **list)) return 0;
    *list = data;
    (*list)[(*n)++] = item;
    return 1;
}

// A tensor's object; the current token is its opening, `key` its name.
static mrc_status mrc__st_tensor(mrc_safetensors *st, mrc__lexer *lx, const mrc__lexer *key) {
    mrc__lexer field;
    char room[128];
    unsigned seen = 0;
    uint64_t bytes;
    size_t name_bytes = 0;
    int more;
    mrc__st_item *item = mrc__bump_alloc(&st->pool, sizeof *item, 16);
    if (!item) return mrc__st_memory(st);
    memset(item, 0, sizeof *item);
    item->owner = st;
    mrc_st_entry *e = &item->e;
    mrc__lexer name = *key;
    MRC__TRY(mrc__lexer_text(&name, &st->pool, &e->name, &name_bytes));
    if (name_bytes == 0 || name_bytes > MRC__ST_NAME_MAX || memchr(e->name, 0, name_bytes)) {
        return mrc__lexer_fail(key, key->column, "a name of %zu bytes, expected 1 to %u, no NUL",
                               name_bytes, MRC__ST_NAME_MAX);
    }
    if (st->n == MRC__ST_COUNT_MAX) {
        return mrc__lexer_fail(key, key->column, "more than %u tensors", MRC__ST_COUNT_MAX);
    }
    if (lx->token != '{') return mrc__lexer_expected(lx, "a tensor's entry");
    MRC__TRY(mrc__lexer_next(lx));
    MRC__TRY(mrc__st_more(lx, 1, &more));
    while (more) {
        MRC__TRY(mrc__st_key(lx, &field, room, sizeof room));
        MRC__TRY(mrc__st_field(lx, &field, e, &seen));
        MRC__TRY(mrc__lexer_next(lx));
        MRC__TRY(mrc__st_more(lx, 0, &more));
    }
    if (seen != 7) {
        return mrc__lexer_fail(key, key->column, "\"%.100s\" has no %s", e->name, !(seen & 1)
                               ? "dtype" : !(seen & 2) ? "shape" : "data_offsets");
    }
    const char *bad = mrc__st_size(mrc__st_dtype(e->dtype, strlen(e->dtype)), e->ndim, e->shape,
                                   &e->numel, &bytes);
    if (bad) return mrc__lexer_fail(key, key->column, "\"%.100s\": %s", e->name, bad);
    if (e->end < e->begin || e->end - e->begin != bytes) {
        return mrc__lexer_fail(key, key->column, "\"%.100s\" has data_offsets %llu to %llu, its "
                               "shape and dtype need %llu bytes", e->name,
                               (unsigned long long)e->begin, (unsigned long long)e->end,
                               (unsigned long long)bytes);
    }
    return mrc__st_push(st, &st->by_offset, &st->capacity, &st->n, e) ? MRC_OK
                                                                      : mrc__st_memory(st);
}

// The object of __metadata__, strings all of it.
static mrc_status mrc__st_metadata(mrc_safetensors *st, mrc__lexer *lx) {
    int more;
    size_t bytes;
    if (lx->token != '{') return mrc__lexer_expected(lx, "an object of strings");
    MRC__TRY(mrc__lexer_next(lx));
    MRC__TRY(mrc__st_more(lx, 1, &more));
    while (more) {
        mrc__lexer key;
        MRC__TRY(mrc__st_key(lx, &key, NULL, 0));
        mrc__st_meta *m = mrc__bump_alloc(&st->pool, sizeof *m, 16);
        if (!m) return mrc__st_memory(st);
        MRC__TRY(mrc__lexer_text(&key, &st->pool, &m->key, &m->key_bytes));
        if (lx->token != '"') return mrc__lexer_expected(lx, "a string");
        MRC__TRY(mrc__lexer_text(lx, &st->pool, &m->value, &bytes));
        if (!mrc__st_push(st, &st->meta, &st->meta_capacity, &st->n_meta, m)) {
            return mrc__st_memory(st);
        }
        MRC__TRY(mrc__lexer_next(lx));
        MRC__TRY(mrc__st_more(lx, 0, &more));
    }
    return MRC_OK;
}

static mrc_status mrc__st_header(mrc_safetensors *st, mrc__lexer *lx) {
    static const char metadata[] = "__metadata__";
    mrc__lexer key;
    char room[128];
    int more, n_metadata = 0;
    MRC__TRY(mrc__lexer_next(lx));
    if (lx->token != '{') return mrc__lexer_expected(lx, "an object");
    MRC__TRY(mrc__lexer_next(lx));
    MRC__TRY(mrc__st_more(lx, 1, &more));
    while (more) {
        mrc__lexer as_written = *lx;
        MRC__TRY(mrc__st_key(lx, &key, room, sizeof room));
        if (key.bytes == sizeof metadata - 1 && !memcmp(key.text, metadata, key.bytes)) {
            if (n_metadata++) return mrc__lexer_fail(&key, key.column, "a second %s", metadata);
            MRC__TRY(mrc__st_metadata(st, lx));
        } else {
            MRC__TRY(mrc__st_tensor(st, lx, &as_written));
        }
        MRC__TRY(mrc__lexer_next(lx));
        MRC__TRY(mrc__st_more(lx, 0, &more));
    }
    MRC__TRY(mrc__lexer_next(lx));
    return lx->token ? mrc__lexer_expected(lx, "the end") : MRC_OK;
}

static int mrc__st_compare_offset(const void *a, const void *b) {
    const mrc_st_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin > y->begin ? 1 : -1;
    if (x->end != y->end) return x->end > y->end ? 1 : -1;
    return strcmp(x->name, y->name);
}
static int mrc__st_compare_name(const void *a, const void *b) {
    return strcmp(((const mrc_st_entry *)a)->name, ((const mrc_st_entry *)b)->name);
}
static int mrc__st_compare_meta(const void *a, const void *b) {
    const mrc__st_meta *x = a, *y = b;
    return mrc__compare_bytes(x->key, x->key_bytes, y->key, y->key_bytes);
}

static mrc__st_item *mrc__st_item_of(const mrc_safetensors *st, size_t index) {
    union { const void *from; mrc__st_item *to; } item = { .from = st->by_offset[index] };
    return item.to;                 // ours, and still to be completed
}

// The entries by name too; two of one name are refused.
static mrc_status mrc__st_index_names(mrc_safetensors *st) {
    size_t bytes = 0;
    if (st->n == 0) return MRC_OK;
    st->by_name = mrc__mul(st->n, sizeof *st->by_name, &bytes)
                ? st->ctx->host.alloc(st->ctx->host.user, bytes) : NULL;
    if (!st->by_name) return mrc__st_memory(st);
    memcpy(st->by_name, st->by_offset, bytes);
    mrc__sort(st->by_name, st->n, mrc__st_compare_name);
    for (size_t i = 1; i < st->n; i++) {
        const mrc_st_entry *e = st->by_name[i];
        if (!mrc__st_compare_name(st->by_name[i - 1], e)) {
            return mrc__fail(st->ctx, MRC_ERR_FORMAT, "%s: two tensors named \"%.100s\"", st->path,
                             e->name);
        }
    }
    return MRC_OK;
}

// Names once each, and ranges that follow each other from 0 to the end of the file.
static mrc_status mrc__st_check(mrc_safetensors *st, uint64_t data_bytes) {
    mrc_ctx *ctx = st->ctx;
    uint64_t at = 0;
    MRC__TRY(mrc__st_index_names(st));
    mrc__sort(st->by_offset, st->n, mrc__st_compare_offset);
    mrc__sort(st->meta, st->n_meta, mrc__st_compare_meta);
    for (size_t i = 1; i < st->n_meta; i++) {
        const mrc__st_meta *m = st->meta[i];
        if (!mrc__st_compare_meta(st->meta[i - 1], m)) {
            return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: two metadata keys \"%.100s\"", st->path,
                             m->key);
        }
    }
    for (size_t i = 0; i < st->n; i++) {
        const mrc_st_entry *e = st->by_offset[i];
        if (e->begin != at) {
            return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: \"%.100s\" begins at data byte %llu, "
                             "expected %llu", st->path, e->name, (unsigned long long)e->begin,
                             (unsigned long long)at);
        }
        mrc__st_item_of(st, i)->at = st->data_begin + at;
        at = e->end;
    }
    if (at == data_bytes) return MRC_OK;
    return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: holds %llu bytes of data, its tensors need %llu",
                     st->path, (unsigned long long)data_bytes, (unsigned long long)at);
}

// Length, header, checks.  The header's text is freed: entries own copies.
static mrc_status mrc__st_load(mrc_safetensors *st, uint64_t file_bytes) {
    mrc_ctx *ctx = st->ctx;
    unsigned char length[8];
    if (file_bytes < 8) {
        return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: %llu bytes, a safetensors file has 8 at least",
                         st->path, (unsigned long long)file_bytes);
    }
    MRC__TRY(mrc__st_pread(ctx, st->path, st->fd, 0, length, 8));
    uint64_t n = (uint64_t)mrc__load_u32(length) | (uint64_t)mrc__load_u32(length + 4) << 32;
    if (n > MRC__ST_HEADER_MAX || n > file_bytes - 8) {
        return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: a header of %llu bytes in a file of %llu, at "
                         "most %u: truncated, or no safetensors file", st->path,
                         (unsigned long long)n, (unsigned long long)file_bytes,
                         MRC__ST_HEADER_MAX);
    }
    st->data_begin = 8 + n;
    char *header = ctx->host.alloc(ctx->host.user, n ? (size_t)n : 1);
    if (!header) return mrc__st_memory(st);
    mrc_status s = mrc__st_pread(ctx, st->path, st->fd, 8, header, (size_t)n);
    mrc__lexer lx;
    mrc__lexer_init(&lx, ctx, st->path, header, (size_t)n, 1);
    if (s == MRC_OK) s = mrc__st_header(st, &lx);
    ctx->host.free(ctx->host.user, header);
    return s == MRC_OK ? mrc__st_check(st, file_bytes - st->data_begin) : s;
}

// A reader without entries yet, its file open; path NULL-free and copied.
static mrc_status mrc__st_new(mrc_ctx *ctx, mrc_safetensors **out, const char *path,
                              uint64_t *file_bytes) {
    struct stat info = {0};
    int fd = -1;
    size_t bytes = strlen(path) + 1, path_bytes = bytes;
    if (file_bytes) MRC__TRY(mrc__file_open(ctx, path, &fd, &info));
    if (file_bytes && !S_ISREG(info.st_mode)) {
        close(fd);
        return mrc__fail(ctx, MRC_ERR_ARG, "%s: not a regular file", path);
    }
    mrc_safetensors *st = mrc__add(bytes, sizeof *st, &bytes)
                        ? mrc__host_zalloc(&ctx->host, bytes) : NULL;
    if (!st) {
        if (fd >= 0) close(fd);
        return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory to open it", path);
    }
    st->ctx = ctx;
    st->fd = fd;
    st->path = memcpy(st + 1, path, path_bytes);
    st->format = "safetensors";
    st->pool.host = ctx->host;
    if (file_bytes) *file_bytes = (uint64_t)info.st_size;
    *out = st;
    return MRC_OK;
}

MRCDEF mrc_status mrc_safetensors_open(mrc_ctx *ctx, mrc_safetensors **out, const char *path) {
    uint64_t file_bytes = 0;
    mrc_safetensors *st = NULL;
    if (!ctx || !out) return MRC_ERR_ARG;
    *out = NULL;
    if (!path) return mrc__fail(ctx, MRC_ERR_ARG, "safetensors: no path given");
    MRC__TRY(mrc__st_new(ctx, &st, path, &file_bytes));
    mrc_status s = mrc__st_load(st, file_bytes);
    if (s == MRC_OK) *out = st;
    else mrc_safetensors_close(st);
    return s;
}

static void mrc__st_close_one(mrc_safetensors *st) {
    const mrc_allocator *host = &st->ctx->host;
    if (st->fd >= 0) close(st->fd);
    if (st->by_offset) host->free(host->user, st->by_offset);
    if (st->by_name) host->free(host->user, st->by_name);
    if (st->meta) host->free(host->user, st->meta);
    if (st->shards) host->free(host->user, st->shards);
    mrc__bump_free(&st->pool);
    host->free(host->user, st);
}

MRCDEF void mrc_safetensors_close(mrc_safetensors *st) {
    if (!st) return;
    for (size_t i = 0; i < st->n_shards; i++) mrc__st_close_one(st->shards[i]);
    mrc__st_close_one(st);
}

MRCDEF const char *mrc_safetensors_format(const mrc_safetensors *st) {
    return st ? st->format : "";
}

MRCDEF const mrc_st_entry *mrc_safetensors_at(const mrc_safetensors *st, size_t index) {
    return st && index < st->n ? st->by_offset[index] : NULL;
}

// The first of n sorted items that `key` is not above.
static size_t mrc__st_search(const void *const *list, size_t n, const void *key,
                             int (*compare)(const void *a, const void *b)) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(list[middle], key) < 0) low = middle + 1;
        else high = middle;
    }
    return low < n && !compare(list[low], key) ? low : n;
}

MRCDEF const mrc_st_entry *mrc_safetensors_find(const mrc_safetensors *st, const char *name) {
    if (!st || !name) return NULL;
    const mrc_st_entry key = { .name = name };
    size_t i = mrc__st_search(st->by_name, st->n, &key, mrc__st_compare_name);
    return i < st->n ? st->by_name[i] : NULL;
}

MRCDEF const char *mrc_safetensors_meta(const mrc_safetensors *st, const char *key) {
    if (!st || !key) return NULL;
    const mrc__st_meta wanted = { .key = key, .key_bytes = strlen(key) };
    size_t i = mrc__st_search(st->meta, st->n_meta, &wanted, mrc__st_compare_meta);
    return i < st->n_meta ? ((const mrc__st_meta *)st->meta[i])->value : NULL;
}

// What the reader converts from; each element goes through a double or an int64.
typedef enum mrc__st_from {
    MRC__ST_NONE, MRC__ST_F32, MRC__ST_F64, MRC__ST_F16, MRC__ST_BF16, MRC__ST_I32, MRC__ST_I64,
    MRC__ST_I16, MRC__ST_I8, MRC__ST_U8, MRC__ST_BOOL, MRC__ST_U16, MRC__ST_U32, MRC__ST_FROM_COUNT
} mrc__st_from;

static mrc__st_from mrc__st_source(const char *dtype) {
    static const char *const names[] = { "F32", "F64", "F16", "BF16", "I32", "I64", "I16", "I8",
                                         "U8", "BOOL", "U16", "U32" };
    for (int i = 0; i + 1 < MRC__ST_FROM_COUNT; i++) {
        if (!strcmp(dtype, names[i])) return (mrc__st_from)(i + 1);
    }
    return MRC__ST_NONE;
}

static double mrc__st_real(mrc__st_from from, const char *p) {
    uint16_t half;
    float f32;
    double f64;
    switch (from) {
    case MRC__ST_F32: memcpy(&f32, p, 4); return (double)f32;
    case MRC__ST_F64: memcpy(&f64, p, 8); return f64;
    case MRC__ST_F16: memcpy(&half, p, 2); return (double)mrc__from_f16(half);
    default:          memcpy(&half, p, 2); return (double)mrc__from_bf16(half);     // BF16
    }
}

static int64_t mrc__st_integer(mrc__st_from from, const char *p) {
    const unsigned char *u = (const unsigned char *)p;
    int64_t i64;
    int32_t i32;
    switch (from) {
    case MRC__ST_I64: return memcpy(&i64, p, 8), i64;
    case MRC__ST_I16: i32 = u[0] | u[1] << 8; return i32 - (i32 > INT16_MAX ? 65536 : 0);
    case MRC__ST_I8:  return u[0] - (u[0] > 127 ? 256 : 0);
    case MRC__ST_U8:  return u[0];
    case MRC__ST_BOOL: return u[0] != 0;
    case MRC__ST_U16: return u[0] | u[1] << 8;
    case MRC__ST_U32: return (int64_t)mrc__load_u32(u);
    default:          return memcpy(&i32, p, 4), (int64_t)i32;
    }
}

// One element; 0 when the target cannot hold it.
static int mrc__st_convert(mrc__st_from from, const char *p, mrc_dtype to, char *out) {
    int32_t i32;
    float f32;
    double f64;
    if (from >= MRC__ST_I32) {
        int64_t value = mrc__st_integer(from, p);
        int64_t most = to == MRC_DTYPE_I32 ? INT32_MAX
                     : (int64_t)1 << (to == MRC_DTYPE_F32 ? 24 : 53);   // exact up to here
        if (value > most || value < -most - (to == MRC_DTYPE_I32)) return 0;
        i32 = to == MRC_DTYPE_I32 ? (int32_t)value : 0;
        f64 = (double)value;
        if (to == MRC_DTYPE_I32) return memcpy(out, &i32, 4), 1;
    } else {
        f64 = mrc__st_real(from, p);
    }
    if (to == MRC_DTYPE_F64) return memcpy(out, &f64, 8), 1;
    if (isfinite(f64) && fabs(f64) >= 0x1.ffffffp127) return 0;     // would round to infinity
    f32 = (float)f64;
    return memcpy(out, &f32, 4), 1;
}

// The elements from `first` on, n of them, in the order of the shape.  data: what lies between the
// first and the last element of a strided tensor; NULL for others, which are read from the file.
static mrc_status mrc__st_fetch(const mrc__st_item *item, const char *data, size_t element,
                                uint64_t first, size_t n, char *out) {
    const mrc_st_entry *e = &item->e;
    if (!data) {
        return mrc__st_pread(item->owner->ctx, item->owner->path, item->owner->fd,
                             item->at + first * element, out, n * element);
    }
    for (size_t i = 0; i < n; i++) {
        uint64_t rest = first + i, at = 0;
        for (int k = e->ndim; k-- > 0; rest /= e->shape[k]) {
            at += rest % e->shape[k] * item->stride[k];
        }
        memcpy(out + i * element, data + at * element, element);
    }
    return MRC_OK;
}

// What mrc__st_fetch wants as data.
static mrc_status mrc__st_span(const mrc__st_item *item, size_t element, char **data) {
    const mrc_safetensors *st = item->owner;
    uint64_t bytes = element;
    *data = NULL;
    if (!item->strided) return MRC_OK;
    for (int k = 0; k < item->e.ndim; k++) {        // inside of the storage: was checked
        bytes += (item->e.shape[k] - 1) * item->stride[k] * element;
    }
    *data = bytes <= SIZE_MAX ? st->ctx->host.alloc(st->ctx->host.user, (size_t)bytes) : NULL;
    if (!*data) {
        return mrc__fail(st->ctx, MRC_ERR_MEM, "%s: no %llu bytes of memory for \"%.100s\"",
                         st->path, (unsigned long long)bytes, item->e.name);
    }
    mrc_status s = mrc__st_pread(st->ctx, st->path, st->fd, item->at, *data, (size_t)bytes);
    if (s == MRC_OK) return s;
    st->ctx->host.free(st->ctx->host.user, *data);
    *data = NULL;
    return s;
}

// Hands all elements to fn, piece by piece.
static mrc_status mrc__st_stream(const mrc__st_item *item, size_t element,
                                 mrc_status (*fn)(const mrc__st_item *item, void *user,
                                                  uint64_t first, const char *piece, size_t n),
                                 void *user) {
    char piece[MRC__ST_PIECE], *data = NULL;
    mrc_status s = item->e.numel ? mrc__st_span(item, element, &data) : MRC_OK;
    for (uint64_t at = 0; s == MRC_OK && at < item->e.numel; ) {
        size_t n = sizeof piece / element;
        if (n > item->e.numel - at) n = (size_t)(item->e.numel - at);
        s = mrc__st_fetch(item, data, element, at, n, piece);
        if (s == MRC_OK) s = fn(item, user, at, piece, n);
        at += n;
    }
    if (data) item->owner->ctx->host.free(item->owner->ctx->host.user, data);
    return s;
}

typedef struct mrc__st_target {
    mrc__st_from from;
    mrc_dtype    to;
    size_t       element;
    char        *out;
} mrc__st_target;

static mrc_status mrc__st_convert_piece(const mrc__st_item *item, void *user, uint64_t first,
                                        const char *piece, size_t n) {
    mrc__st_target *t = user;
    for (size_t i = 0; i < n; i++, t->out += mrc_dtype_bytes(t->to)) {
        if (mrc__st_convert(t->from, piece + i * t->element, t->to, t->out)) continue;
        return mrc__fail(item->owner->ctx, MRC_ERR_NUMERIC, "%s: \"%.100s\" element %llu of %s is "
                         "out of range for %s", item->owner->path, item->e.name,
                         (unsigned long long)(first + i), item->e.dtype, mrc_dtype_name(t->to));
    }
    return MRC_OK;
}

MRCDEF mrc_status mrc_safetensors_read(mrc_safetensors *st, const mrc_st_entry *e, mrc_dtype to,
                                       void *dst) {
    if (!st || !e || (e->numel && !dst)) return MRC_ERR_ARG;
    const mrc__st_item *item = (const mrc__st_item *)e;
    mrc__st_from from = mrc__st_source(e->dtype);
    int real = to == MRC_DTYPE_F32 || to == MRC_DTYPE_F64;
    if (from == MRC__ST_NONE || !(real || (to == MRC_DTYPE_I32 && from >= MRC__ST_I32))) {
        return mrc__fail(st->ctx, MRC_ERR_UNSUPPORTED, "%s: \"%.100s\" is %s, cannot be read as %s",
                         item->owner->path, e->name, e->dtype, mrc_dtype_name(to));
    }
    mrc__st_target t = { .from = from, .to = to, .out = dst };
    t.element = mrc__st_dtypes[mrc__st_dtype(e->dtype, strlen(e->dtype))].bits / 8;
    int same = (from == MRC__ST_F32 && to == MRC_DTYPE_F32)
               || (from == MRC__ST_F64 && to == MRC_DTYPE_F64)
               || (from == MRC__ST_I32 && to == MRC_DTYPE_I32);
    if (same && !item->strided && e->numel) {
        return mrc__st_pread(st->ctx, item->owner->path, item->owner->fd, item->at, dst,
                             (size_t)e->numel * t.element);
    }
    return mrc__st_stream(item, t.element, mrc__st_convert_piece, &t);
}

// A plain cast, as `(float)x`: what is too large becomes infinite.
static mrc_status mrc__st_crc_piece(const mrc__st_item *item, void *user, uint64_t first,
                                    const char *piece, size_t n) {
    mrc__st_target *t = user;
    uint32_t crc;
    memcpy(&crc, t->out, 4);
    (void)item;
    (void)first;
    if (t->from == MRC__ST_F32) crc = mrc_crc32c(crc, piece, n * 4);
    for (size_t i = 0; t->from != MRC__ST_F32 && i < n; i++) {
        const char *p = piece + i * t->element;
        double x = t->from < MRC__ST_I32 ? mrc__st_real(t->from, p) : 0;
        float f32 = t->from >= MRC__ST_I32 ? (float)mrc__st_integer(t->from, p)
                  : isfinite(x) && fabs(x) >= 0x1.ffffffp127 ? (x < 0 ? -HUGE_VALF : HUGE_VALF)
                  : (float)x;
        crc = mrc_crc32c(crc, &f32, 4);
    }
    memcpy(t->out, &crc, 4);
    return MRC_OK;
}

MRCDEF mrc_status mrc_safetensors_crc32c(mrc_safetensors *st, const mrc_st_entry *e,
                                         uint32_t *crc) {
    if (!st || !e || !crc) return MRC_ERR_ARG;
    mrc__st_target t = { .from = mrc__st_source(e->dtype), .out = (char *)crc };
    *crc = 0;
    if (t.from == MRC__ST_NONE) {
        return mrc__fail(st->ctx, MRC_ERR_UNSUPPORTED, "%s: \"%.100s\" is %s, which is not read",
                         st->path, e->name, e->dtype);
    }
    t.element = mrc__st_dtypes[mrc__st_dtype(e->dtype, strlen(e->dtype))].bits / 8;
    return mrc__st_stream((const mrc__st_item *)e, t.element, mrc__st_crc_piece, &t);
}

// The tensors in the order in which they are written: wide dtypes first, then by name.
static int mrc__st_compare_write(const void *a, const void *b) {
    const mrc_st_tensor *x = a, *y = b;
    size_t dx = mrc__st_dtype(x->dtype, strlen(x->dtype));
    size_t dy = mrc__st_dtype(y->dtype, strlen(y->dtype));
    if (dx != dy) return dx < dy ? 1 : -1;
    return strcmp(x->name, y->name);
}

static int mrc__st_compare_write_name(const void *a, const void *b) {
    return strcmp(((const mrc_st_tensor *)a)->name, ((const mrc_st_tensor *)b)->name);
}

static int mrc__st_text_ok(const char *s) {
    size_t bytes = strlen(s);
    return mrc_utf8_valid(s, bytes) == bytes;
}

// One tensor of the writer's list by itself; *bytes is its size.
static mrc_status mrc__st_check_tensor(mrc_ctx *ctx, const char *path, const mrc_st_tensor *t,
                                       uint64_t *bytes) {
    uint64_t numel;
    size_t dtype = t->dtype ? mrc__st_dtype(t->dtype, strlen(t->dtype)) : MRC__ST_DTYPES;
    const char *bad = NULL;
    *bytes = 0;
    if (!t->name || !*t->name || strlen(t->name) > MRC__ST_NAME_MAX) {
        bad = "a name has 1 to 65535 bytes";
    } else if (!strcmp(t->name, "__metadata__") || !mrc__st_text_ok(t->name)) {
        bad = "not a name for a tensor";
    } else if (dtype == MRC__ST_DTYPES) {
        bad = "no dtype of the format";
    } else if (t->ndim < 0 || t->ndim > 8) {
        bad = "ndim is not 0 to 8";
    } else {
        bad = mrc__st_size(dtype, t->ndim, t->shape, &numel, bytes);
    }
    if (!bad && *bytes && !t->data && !t->fill) bad = "neither data nor fill";
    if (!bad) return MRC_OK;
    return mrc__fail(ctx, MRC_ERR_ARG, "%s: tensor \"%.100s\": %s", path, t->name ? t->name : "",
                     bad);
}

static mrc_status mrc__st_check_metadata(mrc_ctx *ctx, const char *path,
                                         const char *const *metadata) {
    for (size_t i = 0; metadata && metadata[i]; i += 2) {
        int bad = !metadata[i + 1] || !mrc__st_text_ok(metadata[i])
               || !mrc__st_text_ok(metadata[i + 1]) || !strcmp(metadata[i], "format");
        for (size_t j = 0; j < i; j += 2) bad = bad || !strcmp(metadata[j], metadata[i]);
        if (bad) {
            return mrc__fail(ctx, MRC_ERR_ARG, "%s: metadata \"%.100s\": twice, \"format\", no "
                             "value, or no UTF-8", path, metadata[i]);
        }
    }
    return MRC_OK;
}

static void mrc__st_add_string(mrc_text *t, const char *s) {
    mrc_text_json_string(t, s, strlen(s), 0);
}

// All tensors good, and their names different; leaves the list in the order of the file.
static mrc_status mrc__st_arrange(mrc_ctx *ctx, const char *path, const void **list, size_t n) {
    uint64_t bytes;
    for (size_t i = 0; i < n; i++) MRC__TRY(mrc__st_check_tensor(ctx, path, list[i], &bytes));
    mrc__sort(list, n, mrc__st_compare_write_name);
    for (size_t i = 1; i < n; i++) {
        const mrc_st_tensor *t = list[i];
        if (mrc__st_compare_write_name(list[i - 1], t)) continue;
        return mrc__fail(ctx, MRC_ERR_ARG, "%s: two tensors named \"%.100s\"", path, t->name);
    }
    mrc__sort(list, n, mrc__st_compare_write);
    return MRC_OK;
}

// The header's text, padded so that the data begins at a multiple of 8; *data_bytes: what follows.
static mrc_status mrc__st_make_header(mrc_ctx *ctx, const char *path, const void *const *list,
                                      size_t n, const char *const *metadata, mrc_text *t,
                                      uint64_t *data_bytes) {
    uint64_t at = 0, bytes;
    mrc_text_printf(t, "{\"__metadata__\":{\"format\":\"pt\"");
    for (size_t i = 0; metadata && metadata[i]; i++) {
        mrc_text_add(t, i % 2 ? ":" : ",", 1);
        mrc__st_add_string(t, metadata[i]);
    }
    mrc_text_add(t, "}", 1);
    for (size_t i = 0; i < n; i++) {
        const mrc_st_tensor *x = list[i];
        MRC__TRY(mrc__st_check_tensor(ctx, path, x, &bytes));
        if (bytes > (uint64_t)INT64_MAX / 2 - at) {
            return mrc__fail(ctx, MRC_ERR_ARG, "%s: more than 2^62 bytes", path);
        }
        mrc_text_add(t, ",", 1);
        mrc__st_add_string(t, x->name);
        mrc_text_printf(t, ":{\"dtype\":\"%s\",\"shape\":[", x->dtype);
        for (int k = 0; k < x->ndim; k++) {
            mrc_text_printf(t, "%s%llu", k ? "," : "", (unsigned long long)x->shape[k]);
        }
        mrc_text_printf(t, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                        (unsigned long long)(at + bytes));
        at += bytes;
    }
    mrc_text_add(t, "}", 1);
    if (t->bytes % 8) mrc_text_add(t, "       ", 8 - t->bytes % 8);
    *data_bytes = at;
    if (t->failed) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory for its header", path);
    if (t->bytes <= MRC__ST_HEADER_MAX) return MRC_OK;
    return mrc__fail(ctx, MRC_ERR_ARG, "%s: a header of %zu bytes, at most %u", path, t->bytes,
                     MRC__ST_HEADER_MAX);
}

// A tensor's bytes: at once from memory, or in pieces that `fill` brings.
static mrc_status mrc__st_write_data(mrc_file_writer *w, const mrc_st_tensor *t, char *piece,
                                     size_t piece_bytes) {
    mrc_ctx *ctx = w->ctx;
    uint64_t bytes;
    MRC__TRY(mrc__st_check_tensor(ctx, w->path, t, &bytes));
    if (t->data) return mrc_file_writer_add(w, t->data, (size_t)bytes);
    for (uint64_t at = 0; at < bytes; ) {
        size_t n = bytes - at < piece_bytes ? (size_t)(bytes - at) : piece_bytes;
        mrc_status s = t->fill(ctx, t->user, at, piece, n);
        if (s != MRC_OK) {
            return mrc__fail(ctx, s, "%s: no data for \"%.100s\" at byte %llu", w->path, t->name,
                             (unsigned long long)at);
        }
        MRC__TRY(mrc_file_writer_add(w, piece, n));
        at += n;
    }
    return MRC_OK;
}

static mrc_status mrc__st_write_all(mrc_file_writer *w, const void *const *list, size_t n,
                                    const mrc_text *header, uint64_t data_bytes) {
    const size_t piece_bytes = (size_t)1 << 18;     // a multiple of every dtype's size
    mrc_ctx *ctx = w->ctx;
    unsigned char length[8];
    for (int i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header->bytes >> 8 * i);
    char *piece = ctx->host.alloc(ctx->host.user, piece_bytes);
    if (!piece) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory to write it", w->path);
    mrc_status s = mrc__writer_reserve(w, 8 + header->bytes + data_bytes);
    if (s == MRC_OK) s = mrc_file_writer_add(w, length, 8);
    if (s == MRC_OK) s = mrc_file_writer_add(w, header->data, header->bytes);
    for (size_t i = 0; s == MRC_OK && i < n; i++) {
        s = mrc__st_write_data(w, list[i], piece, piece_bytes);
    }
    ctx->host.free(ctx->host.user, piece);
    return s;
}

MRCDEF mrc_status mrc_safetensors_write(mrc_ctx *ctx, const char *path, const mrc_st_tensor *list,
                                        size_t n, const char *const *metadata) {
    mrc_file_writer *w = NULL;
    mrc_text header;
    size_t bytes;
    uint64_t data_bytes = 0;
    if (!ctx || !path || (n && !list)) return MRC_ERR_ARG;
    MRC__TRY(mrc__st_check_metadata(ctx, path, metadata));
    const void **order = mrc__mul(n ? n : 1, sizeof *order, &bytes)
                       ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!order) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory for its header", path);
    for (size_t i = 0; i < n; i++) order[i] = &list[i];
    mrc_text_init(&header, ctx);
    mrc_status s = mrc__st_arrange(ctx, path, order, n);
    if (s == MRC_OK) s = mrc__st_make_header(ctx, path, order, n, metadata, &header, &data_bytes);
    if (s == MRC_OK) s = mrc_file_writer_new(ctx, &w, path);
    if (s == MRC_OK) s = mrc__st_write_all(w, order, n, &header, data_bytes);
    if (s == MRC_OK) s = mrc_file_writer_commit(w);
    else mrc_file_writer_abort(w);
    mrc_text_free(&header);
    ctx->host.free(ctx->host.user, order);
    return s;
}

//==============================================================================
// >>impl.pickle   what PyTorch's files say about their tensors, read and never run
//
// A pickle is a program (RELIABILITY 3.2).  This machine knows 31 of its instructions, four
// functions and ten types by name, and makes nothing but values: numbers, strings, tuples, lists,
// mappings, storages and tensors.  All else is an error, and there is nothing that an error falls
// back to.  Values lie in a pool that a budget bounds: twice the file and 64 MiB.  There is no
// recursion, so that nesting costs no C stack.
//==============================================================================
#define MRC__PT_MEMORY    ((uint64_t)64 << 20)
#define MRC__PT_OPS       50000000u
#define MRC__PT_MEMO      10000000u
#define MRC__PT_MARKS     64
#define MRC__PT_NESTING   8
#define MRC__PT_VISITS    10000000u
#define MRC__PT_STRING    (1u << 20)
#define MRC__PT_DIRECTORY ((uint64_t)256 << 20)

typedef enum mrc__pt_kind {
    MRC__PT_NONE, MRC__PT_BOOL, MRC__PT_INT, MRC__PT_MAGIC, MRC__PT_FLOAT, MRC__PT_STR,
    MRC__PT_GLOBAL, MRC__PT_TUPLE, MRC__PT_LIST, MRC__PT_DICT, MRC__PT_STORAGE, MRC__PT_TENSOR
} mrc__pt_kind;

typedef struct mrc__pt_value {
    mrc__pt_kind kind;
    union {
        int64_t                   i;            // BOOL, INT; GLOBAL: which
        struct mrc__pt_string    *string;
        struct mrc__pt_tuple     *tuple;
        struct mrc__pt_container *container;    // LIST, DICT
        struct mrc__pt_storage   *storage;
        struct mrc__st_item      *tensor;
    } u;
} mrc__pt_value;

typedef struct mrc__pt_string { size_t bytes; char text[]; } mrc__pt_string;
typedef struct mrc__pt_tuple { size_t n, depth; mrc__pt_value items[]; } mrc__pt_tuple;

// An element of a list, or a member of a mapping.
typedef struct mrc__pt_node {
    struct mrc__pt_node *next, *all;            // all: every member made, newest first
    struct mrc__pt_container *owner;
    mrc__pt_value key, value;
} mrc__pt_node;
typedef struct mrc__pt_container {
    size_t        serial, n;
    int           ordered;                      // an OrderedDict
    mrc__pt_node *first, *last;
} mrc__pt_container;

typedef struct mrc__pt_storage {
    struct mrc__pt_storage *next;
    char     key[24];
    size_t   dtype;                             // into mrc__st_dtypes
    uint64_t numel, at;                         // at: of its data in the file
    int      placed;
} mrc__pt_storage;

// Storages by the digits of their keys: no key makes looking up slow.
typedef struct mrc__pt_digit {
    struct mrc__pt_digit *child[10];
    mrc__pt_storage      *storage;
} mrc__pt_digit;

enum { MRC__PT_ORDERED_DICT = 100, MRC__PT_SIZE, MRC__PT_PARAMETER, MRC__PT_REBUILD };

typedef struct mrc__pt {
    mrc_safetensors     *st;
    mrc__bump            pool;                  // dies when the file is open
    uint64_t             budget;
    const unsigned char *data;                  // the pickle, or the old stream
    size_t               bytes, at;
    int                  legacy;
    mrc__pt_value       *stack, *memo;
    size_t               n_stack, stack_capacity, n_memo, memo_capacity;
    size_t               marks[MRC__PT_MARKS], n_marks, serial, n_storages, n_members;
    mrc__pt_node        *members;
    mrc__pt_storage     *storages, *last_storage;
    mrc__pt_digit        digits;
} mrc__pt;

__attribute__((format(printf, 2, 3)))
static mrc_status mrc__pt_fail(const mrc__pt *pt, const char *fmt, ...) {
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return mrc__fail(pt->st->ctx, MRC_ERR_FORMAT, "%s: pickle, byte %zu: %s", pt->st->path, pt->at,
                     what);
}

static mrc_status mrc__pt_alloc(mrc__pt *pt, size_t bytes, void *out) {
    void *data = NULL;
    if (bytes > pt->budget) return mrc__pt_fail(pt, "takes more memory than such a file may");
    pt->budget -= bytes;
    data = mrc__bump_alloc(&pt->pool, bytes, 16);
    if (!data) return mrc__fail(pt->st->ctx, MRC_ERR_MEM, "%s: no memory to read it", pt->st->path);
    memcpy(out, &data, sizeof data);
    memset(data, 0, bytes);
    return MRC_OK;
}

static mrc_status mrc__pt_push_to(mrc__pt *pt, mrc__pt_value **list, size_t *n, size_t *capacity,
                                  mrc__pt_value v) {
    const mrc_allocator *host = &pt->st->ctx->host;
    void *data = *list;
    size_t before = *capacity;
    if (!mrc__grow(host, &data, capacity, *n + 1, sizeof v)) {
        return mrc__fail(pt->st->ctx, MRC_ERR_MEM, "%s: no memory to read it", pt->st->path);
    }
    *list = data;
    size_t grown = (*capacity - before) * sizeof v;
    if (grown > pt->budget) return mrc__pt_fail(pt, "takes more memory than such a file may");
    pt->budget -= grown;
    (*list)[(*n)++] = v;
    return MRC_OK;
}
static mrc_status mrc__pt_push(mrc__pt *pt, mrc__pt_value v) {
    return mrc__pt_push_to(pt, &pt->stack, &pt->n_stack, &pt->stack_capacity, v);
}

// Values above the newest mark.
static size_t mrc__pt_depth(const mrc__pt *pt) {
    return pt->n_stack - (pt->n_marks ? pt->marks[pt->n_marks - 1] : 0);
}

static mrc_status mrc__pt_pop(mrc__pt *pt, size_t n, mrc__pt_value *out) {
    if (mrc__pt_depth(pt) < n) return mrc__pt_fail(pt, "an instruction lacks an operand");
    pt->n_stack -= n;
    memcpy(out, pt->stack + pt->n_stack, n * sizeof *out);
    return MRC_OK;
}

// The values above the newest mark, which is taken away; they stay readable until a push.
static mrc_status mrc__pt_pop_mark(mrc__pt *pt, mrc__pt_value **items, size_t *n) {
    if (!pt->n_marks) return mrc__pt_fail(pt, "no mark is set");
    size_t mark = pt->marks[--pt->n_marks];
    *items = pt->stack + mark;
    *n = pt->n_stack - mark;
    pt->n_stack = mark;
    return MRC_OK;
}

static mrc_status mrc__pt_take(mrc__pt *pt, size_t n, const unsigned char **out) {
    if (n > pt->bytes - pt->at) return mrc__pt_fail(pt, "ends in the middle");
    *out = pt->data + pt->at;
    pt->at += n;
    return MRC_OK;
}

static uint64_t mrc__load_le(const unsigned char *p, int bytes) {
    uint64_t x = 0;
    for (int i = bytes; i-- > 0; ) x = x << 8 | p[i];
    return x;
}

static mrc_status mrc__pt_long(mrc__pt *pt, mrc__pt_value *v) {
    static const unsigned char magic[10] = { 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50,
                                             0x19 };
    const unsigned char *p = NULL, *q = NULL;
    MRC__TRY(mrc__pt_take(pt, 1, &p));
    int n = *p;
    if (n > 10) return mrc__pt_fail(pt, "an integer of %d bytes, at most 10", n);
    MRC__TRY(mrc__pt_take(pt, (size_t)n, &q));
    if (n == 10 && !memcmp(q, magic, 10)) {
        v->kind = MRC__PT_MAGIC;
        return MRC_OK;
    }
    unsigned char fill = n && q[n - 1] & 0x80 ? 0xFF : 0, wide[10];
    memset(wide, fill, sizeof wide);
    memcpy(wide, q, (size_t)n);
    uint64_t bits = mrc__load_le(wide, 8);
    if (wide[8] != fill || wide[9] != fill || (wide[7] & 0x80) != (fill & 0x80)) {
        return mrc__pt_fail(pt, "an integer that does not fit 64 bits");
    }
    v->kind = MRC__PT_INT;
    v->u.i = bits >> 63 ? -(int64_t)~bits - 1 : (int64_t)bits;
    return MRC_OK;
}

static mrc_status mrc__pt_text(mrc__pt *pt, mrc__pt_value *v) {
    const unsigned char *p = NULL;
    MRC__TRY(mrc__pt_take(pt, 4, &p));
    size_t n = (size_t)mrc__load_le(p, 4);
    if (n > MRC__PT_STRING) return mrc__pt_fail(pt, "a string of %zu bytes, at most 1 MiB", n);
    MRC__TRY(mrc__pt_take(pt, n, &p));
    if (mrc_utf8_valid((const char *)p, n) != n || memchr(p, 0, n)) {
        return mrc__pt_fail(pt, "a string that is no UTF-8, or has a NUL");
    }
    MRC__TRY(mrc__pt_alloc(pt, sizeof *v->u.string + n + 1, &v->u.string));
    v->kind = MRC__PT_STR;
    v->u.string->bytes = n;
    memcpy(v->u.string->text, p, n);
    return MRC_OK;
}

static mrc_status mrc__pt_line(mrc__pt *pt, char *out, size_t room) {
    size_t left = pt->bytes - pt->at, n;
    const unsigned char *p = pt->data + pt->at;
    const unsigned char *end = memchr(p, '\n', left < room ? left : room);
    if (!end) return mrc__pt_fail(pt, "a name without an end");
    n = (size_t)(end - p);
    memcpy(out, p, n);
    out[n] = 0;
    if (memchr(out, 0, n)) out[0] = 0;
    pt->at += n + 1;
    return MRC_OK;
}

static const struct { const char *name, *dtype; } mrc__pt_types[] = {
    { "FloatStorage", "F32" }, { "DoubleStorage", "F64" }, { "HalfStorage", "F16" },
    { "BFloat16Storage", "BF16" }, { "LongStorage", "I64" }, { "IntStorage", "I32" },
    { "ShortStorage", "I16" }, { "CharStorage", "I8" }, { "ByteStorage", "U8" },
    { "BoolStorage", "BOOL" },
};

// Names are compared and never looked up anywhere.
static mrc_status mrc__pt_global(mrc__pt *pt, mrc__pt_value *v) {
    static const struct { const char *module, *name; int id; } known[] = {
        { "collections", "OrderedDict", MRC__PT_ORDERED_DICT }, { "torch", "Size", MRC__PT_SIZE },
        { "torch._utils", "_rebuild_tensor_v2", MRC__PT_REBUILD },
        { "torch._utils", "_rebuild_parameter", MRC__PT_PARAMETER },
    };
    char module[257], name[257];
    MRC__TRY(mrc__pt_line(pt, module, 256));
    MRC__TRY(mrc__pt_line(pt, name, 256));
    v->kind = MRC__PT_GLOBAL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        v->u.i = known[i].id;
        if (!strcmp(module, known[i].module) && !strcmp(name, known[i].name)) return MRC_OK;
    }
    for (size_t i = 0; i < sizeof mrc__pt_types / sizeof *mrc__pt_types; i++) {
        v->u.i = (int64_t)i;
        if (!strcmp(module, "torch") && !strcmp(name, mrc__pt_types[i].name)) return MRC_OK;
    }
    for (char *c = module; *c; c++) if (*c < 0x20 || *c > 0x7e) *c = '?';
    for (char *c = name; *c; c++) if (*c < 0x20 || *c > 0x7e) *c = '?';
    return mrc__pt_fail(pt, "asks for %.60s.%.60s: only tensors are read, nothing is executed",
                        module, name);
}

static mrc_status mrc__pt_make_tuple(mrc__pt *pt, const mrc__pt_value *items, size_t n,
                                     mrc__pt_value *v) {
    mrc__pt_tuple *t = NULL;
    size_t depth = 0, bytes;
    if (!mrc__mul(n, sizeof *items, &bytes) || !mrc__add(bytes, sizeof *t, &bytes)) {
        return mrc__pt_fail(pt, "a tuple of %zu values", n);
    }
    for (size_t i = 0; i < n; i++) {
        if (items[i].kind == MRC__PT_TUPLE && items[i].u.tuple->depth > depth) {
            depth = items[i].u.tuple->depth;
        }
    }
    if (depth == MRC__PT_MARKS) return mrc__pt_fail(pt, "tuples nested deeper than 64");
    MRC__TRY(mrc__pt_alloc(pt, bytes, &t));
    t->n = n;
    t->depth = depth + 1;
    if (n) memcpy(t->items, items, n * sizeof *items);
    v->kind = MRC__PT_TUPLE;
    v->u.tuple = t;
    return MRC_OK;
}

static mrc_status mrc__pt_container_new(mrc__pt *pt, mrc__pt_kind kind, int ordered,
                                        mrc__pt_value *v) {
    v->kind = kind;
    MRC__TRY(mrc__pt_alloc(pt, sizeof *v->u.container, &v->u.container));
    v->u.container->serial = pt->serial++;
    v->u.container->ordered = ordered;
    return MRC_OK;
}

// Adds to the list or mapping on the stack: n values, or keys and values in turn.
static mrc_status mrc__pt_add(mrc__pt *pt, mrc__pt_kind kind, const mrc__pt_value *items,
                              size_t n) {
    size_t step = kind == MRC__PT_DICT ? 2 : 1;
    if (mrc__pt_depth(pt) == 0 || pt->stack[pt->n_stack - 1].kind != kind) {
        return mrc__pt_fail(pt, "adds to what is no %s", step == 2 ? "mapping" : "list");
    }
    if (n % step) return mrc__pt_fail(pt, "a key without a value");
    mrc__pt_container *c = pt->stack[pt->n_stack - 1].u.container;
    for (size_t i = 0; i < n; i += step) {
        mrc__pt_node *node = NULL;
        MRC__TRY(mrc__pt_alloc(pt, sizeof *node, &node));
        if (step == 2) {
            if (items[i].kind != MRC__PT_STR && items[i].kind != MRC__PT_INT) {
                return mrc__pt_fail(pt, "a key that is neither a string nor an integer");
            }
            node->key = items[i];
            node->all = pt->members;
            pt->members = node;
            pt->n_members++;
        }
        node->owner = c;
        node->value = items[i + step - 1];
        if (c->last) c->last->next = node;
        else c->first = node;
        c->last = node;
        c->n++;
    }
    return MRC_OK;
}

// Two members of one mapping with one key: looked for once, at the end.
static int mrc__pt_compare_members(const void *a, const void *b) {
    const mrc__pt_node *x = a, *y = b;
    if (x->owner != y->owner) return x->owner->serial < y->owner->serial ? -1 : 1;
    if (x->key.kind != y->key.kind) return x->key.kind < y->key.kind ? -1 : 1;
    if (x->key.kind == MRC__PT_INT) return (x->key.u.i > y->key.u.i) - (x->key.u.i < y->key.u.i);
    const mrc__pt_string *s = x->key.u.string, *t = y->key.u.string;
    return s == t ? 0 : mrc__compare_bytes(s->text, s->bytes, t->text, t->bytes);
}

static mrc_status mrc__pt_check_keys(mrc__pt *pt) {
    const void **list = NULL;
    size_t bytes, n = 0;
    if (pt->n_members < 2) return MRC_OK;
    if (!mrc__mul(pt->n_members, sizeof *list, &bytes)) return mrc__pt_fail(pt, "too many keys");
    MRC__TRY(mrc__pt_alloc(pt, bytes, &list));
    for (const mrc__pt_node *m = pt->members; m; m = m->all) list[n++] = m;
    mrc__sort(list, n, mrc__pt_compare_members);
    for (size_t i = 1; i < n; i++) {
        if (!mrc__pt_compare_members(list[i - 1], list[i])) {
            return mrc__pt_fail(pt, "a mapping has one key twice");
        }
    }
    return MRC_OK;
}

// The storage of that key, made when it is new and `make`; NULL: there is none.
static mrc_status mrc__pt_storage_of(mrc__pt *pt, const char *key, int make,
                                     mrc__pt_storage **out) {
    mrc__pt_digit *at = &pt->digits;
    *out = NULL;
    for (const char *p = key; *p; p++) {
        mrc__pt_digit **child = &at->child[*p - '0'];
        if (!*child && !make) return MRC_OK;
        if (!*child) MRC__TRY(mrc__pt_alloc(pt, sizeof **child, child));
        at = *child;
    }
    if (!at->storage && make) {
        MRC__TRY(mrc__pt_alloc(pt, sizeof *at->storage, &at->storage));
        snprintf(at->storage->key, sizeof at->storage->key, "%s", key);
        at->storage->dtype = MRC__ST_DTYPES;
        if (pt->last_storage) pt->last_storage->next = at->storage;
        else pt->storages = at->storage;
        pt->last_storage = at->storage;
        pt->n_storages++;
    }
    *out = at->storage;
    return MRC_OK;
}

static int mrc__pt_is_key(const mrc__pt_value *v) {
    return v->kind == MRC__PT_STR && v->u.string->bytes >= 1 && v->u.string->bytes <= 20
           && strspn(v->u.string->text, "0123456789") == v->u.string->bytes;
}

// ('storage', type, key, location, numel), in the old stream with a None behind.
static mrc_status mrc__pt_persistent(mrc__pt *pt, mrc__pt_value *v) {
    const mrc__pt_tuple *t = v->kind == MRC__PT_TUPLE ? v->u.tuple : NULL;
    mrc__pt_storage *s = NULL;
    if (!t || t->n != (pt->legacy ? 6u : 5u) || t->items[0].kind != MRC__PT_STR
        || strcmp(t->items[0].u.string->text, "storage") || t->items[1].kind != MRC__PT_GLOBAL
        || t->items[1].u.i >= MRC__PT_ORDERED_DICT || t->items[3].kind != MRC__PT_STR) {
        return mrc__pt_fail(pt, "not the description of a storage");
    }
    if (!mrc__pt_is_key(&t->items[2])) {
        return mrc__pt_fail(pt, "a storage's key is not of 1 to 20 digits");
    }
    if (t->items[4].kind != MRC__PT_INT || t->items[4].u.i < 0
        || t->items[4].u.i > INT64_MAX / 8) {
        return mrc__pt_fail(pt, "a storage's size is not of 0 to 2^60");
    }
    if (pt->legacy && t->items[5].kind != MRC__PT_NONE) {
        return mrc__pt_fail(pt, "a view of a storage, which is not supported");
    }
    const char *type = mrc__pt_types[t->items[1].u.i].dtype;
    size_t dtype = mrc__st_dtype(type, strlen(type));
    MRC__TRY(mrc__pt_storage_of(pt, t->items[2].u.string->text, 1, &s));
    if (s->dtype == MRC__ST_DTYPES) {
        s->dtype = dtype;
        s->numel = (uint64_t)t->items[4].u.i;
    }
    if (s->dtype != dtype || s->numel != (uint64_t)t->items[4].u.i) {
        return mrc__pt_fail(pt, "storage %s is described twice, differently", s->key);
    }
    v->kind = MRC__PT_STORAGE;
    v->u.storage = s;
    return MRC_OK;
}

// A shape or strides: how many, or -1.
static int mrc__pt_sizes(const mrc__pt_value *v, uint64_t *out) {
    if (v->kind != MRC__PT_TUPLE || v->u.tuple->n > 8) return -1;
    for (size_t i = 0; i < v->u.tuple->n; i++) {
        const mrc__pt_value *item = &v->u.tuple->items[i];
        if (item->kind != MRC__PT_INT || item->u.i < 0) return -1;
        out[i] = (uint64_t)item->u.i;
    }
    return (int)v->u.tuple->n;
}

static int mrc__pt_is_empty_dict(const mrc__pt_value *v) {
    return v->kind == MRC__PT_DICT && v->u.container->n == 0;
}

// Whether all elements lie in the storage, and there are no more of them than it has.
static int mrc__pt_inside(const mrc_st_entry *e, const uint64_t *stride, uint64_t offset,
                          uint64_t numel) {
    uint64_t last = offset, step;
    if (e->numel == 0) return offset <= numel;
    for (int i = 0; i < e->ndim; i++) {
        if (!mrc__mul_u64(e->shape[i] - 1, stride[i], &step) || step > UINT64_MAX - last) return 0;
        last += step;
    }
    return last < numel && e->numel <= numel;
}

// (storage, offset, size, stride, requires_grad, hooks[, metadata]) -> a tensor.
static mrc_status mrc__pt_rebuild(mrc__pt *pt, const mrc__pt_tuple *a, mrc__pt_value *out) {
    mrc__st_item *item = NULL;
    uint64_t stride[8], expected = 1;
    if ((a->n != 6 && a->n != 7) || a->items[0].kind != MRC__PT_STORAGE
        || a->items[1].kind != MRC__PT_INT || a->items[1].u.i < 0
        || a->items[4].kind != MRC__PT_BOOL || !mrc__pt_is_empty_dict(&a->items[5])
        || (a->n == 7 && !mrc__pt_is_empty_dict(&a->items[6]))) {
        return mrc__pt_fail(pt, "not the arguments of a tensor");
    }
    const mrc__pt_storage *s = a->items[0].u.storage;
    MRC__TRY(mrc__pt_alloc(pt, sizeof *item, &item));
    mrc_st_entry *e = &item->e;
    e->ndim = mrc__pt_sizes(&a->items[2], e->shape);
    if (e->ndim < 0 || mrc__pt_sizes(&a->items[3], stride) != e->ndim) {
        return mrc__pt_fail(pt, "a tensor's size and stride are not two tuples of up to 8 sizes");
    }
    e->dtype = mrc__st_dtypes[s->dtype].name;
    e->numel = 1;
    int empty = 0, fits = 1;
    for (int i = 0; i < e->ndim; i++) empty = empty || e->shape[i] == 0;
    for (int i = 0; !empty && fits && i < e->ndim; i++) {
        fits = mrc__mul_u64(e->numel, e->shape[i], &e->numel);
    }
    if (empty) e->numel = 0;
    item->offset = (uint64_t)a->items[1].u.i;
    if (!fits || !mrc__pt_inside(e, stride, item->offset, s->numel)) {
        return mrc__pt_fail(pt, "a tensor reaches beyond its storage of %llu elements",
                            (unsigned long long)s->numel);
    }
    for (int i = e->ndim; i-- > 0 && e->numel; expected *= e->shape[i]) {
        item->strided = item->strided || (e->shape[i] > 1 && stride[i] != expected);
    }
    memcpy(item->stride, stride, sizeof stride);
    item->storage = s;
    out->kind = MRC__PT_TENSOR;
    out->u.tensor = item;
    return MRC_OK;
}

static mrc_status mrc__pt_reduce(mrc__pt *pt) {
    mrc__pt_value v[2], out = { .kind = MRC__PT_NONE };
    MRC__TRY(mrc__pt_pop(pt, 2, v));
    const mrc__pt_tuple *a = v[1].kind == MRC__PT_TUPLE ? v[1].u.tuple : NULL;
    int64_t id = v[0].kind == MRC__PT_GLOBAL ? v[0].u.i : -1;
    if (!a) return mrc__pt_fail(pt, "a call without arguments");
    if (id == MRC__PT_ORDERED_DICT && a->n == 0) {
        MRC__TRY(mrc__pt_container_new(pt, MRC__PT_DICT, 1, &out));
    } else if (id == MRC__PT_REBUILD) {
        MRC__TRY(mrc__pt_rebuild(pt, a, &out));
    } else if (id == MRC__PT_PARAMETER && a->n == 3 && a->items[0].kind == MRC__PT_TENSOR
               && a->items[1].kind == MRC__PT_BOOL && mrc__pt_is_empty_dict(&a->items[2])) {
        out = a->items[0];
    } else if (id == MRC__PT_SIZE && a->n == 1 && (a->items[0].kind == MRC__PT_TUPLE
                                                   || a->items[0].kind == MRC__PT_LIST)) {
        int list = a->items[0].kind == MRC__PT_LIST, ints = 1;
        const mrc__pt_tuple *t = a->items[0].u.tuple;
        size_t n = list ? a->items[0].u.container->n : t->n;
        mrc__pt_node *node = list ? a->items[0].u.container->first : NULL;
        out.kind = MRC__PT_TUPLE;
        MRC__TRY(mrc__pt_alloc(pt, sizeof *out.u.tuple + n * sizeof v[0], &out.u.tuple));
        out.u.tuple->n = n;
        out.u.tuple->depth = 1;
        for (size_t i = 0; i < n; i++) {
            out.u.tuple->items[i] = list ? node->value : t->items[i];
            ints = ints && out.u.tuple->items[i].kind == MRC__PT_INT;
            if (list) node = node->next;
        }
        if (!ints) return mrc__pt_fail(pt, "a size that is no integer");
    } else {
        return mrc__pt_fail(pt, "a call that makes no tensor");
    }
    return mrc__pt_push(pt, out);
}

static mrc_status mrc__pt_put(mrc__pt *pt, size_t index) {
    if (mrc__pt_depth(pt) == 0) return mrc__pt_fail(pt, "an instruction lacks an operand");
    if (index >= MRC__PT_MEMO || index > pt->n_memo) {
        return mrc__pt_fail(pt, "memo %zu, expected at most %zu", index, pt->n_memo);
    }
    mrc__pt_value top = pt->stack[pt->n_stack - 1];
    if (index == pt->n_memo) {
        return mrc__pt_push_to(pt, &pt->memo, &pt->n_memo, &pt->memo_capacity, top);
    }
    pt->memo[index] = top;
    return MRC_OK;
}

// Instructions that push one value made of what follows in the stream.
static mrc_status mrc__pt_literal(mrc__pt *pt, int op, int *known) {
    mrc__pt_value v = { .kind = MRC__PT_INT };
    const unsigned char *p = NULL;
    *known = 1;
    switch (op) {
    case '}': MRC__TRY(mrc__pt_container_new(pt, MRC__PT_DICT, 0, &v)); break;
    case ']': MRC__TRY(mrc__pt_container_new(pt, MRC__PT_LIST, 0, &v)); break;
    case ')': MRC__TRY(mrc__pt_make_tuple(pt, NULL, 0, &v)); break;
    case 'N': v.kind = MRC__PT_NONE; break;
    case 0x88: case 0x89:
        v.kind = MRC__PT_BOOL;
        v.u.i = op == 0x88;
        break;
    case 'J':
        MRC__TRY(mrc__pt_take(pt, 4, &p));
        v.u.i = (int64_t)mrc__load_le(p, 4);
        if (v.u.i > INT32_MAX) v.u.i -= (int64_t)1 << 32;
        break;
    case 'K': MRC__TRY(mrc__pt_take(pt, 1, &p)); v.u.i = *p; break;
    case 'M': MRC__TRY(mrc__pt_take(pt, 2, &p)); v.u.i = (int64_t)mrc__load_le(p, 2); break;
    case 0x8a: MRC__TRY(mrc__pt_long(pt, &v)); break;
    case 'G': MRC__TRY(mrc__pt_take(pt, 8, &p)); v.kind = MRC__PT_FLOAT; break;
    case 'X': MRC__TRY(mrc__pt_text(pt, &v)); break;
    case 'c': MRC__TRY(mrc__pt_global(pt, &v)); break;
    case 'h': case 'j': {
        int wide = op == 'j' ? 4 : 1;
        MRC__TRY(mrc__pt_take(pt, (size_t)wide, &p));
        size_t index = (size_t)mrc__load_le(p, wide);
        if (index >= pt->n_memo) return mrc__pt_fail(pt, "memo %zu was never set", index);
        v = pt->memo[index];
        break;
    }
    default: *known = 0; return MRC_OK;
    }
    return mrc__pt_push(pt, v);
}

// Instructions that work on the stack.
static mrc_status mrc__pt_operate(mrc__pt *pt, int op) {
    mrc__pt_value v[3], made, *items = v;
    const unsigned char *p = NULL;
    size_t n = 0;
    switch (op) {
    case '(':
        if (pt->n_marks == MRC__PT_MARKS) return mrc__pt_fail(pt, "more than 64 marks");
        pt->marks[pt->n_marks++] = pt->n_stack;
        return MRC_OK;
    case 'q': case 'r':
        MRC__TRY(mrc__pt_take(pt, op == 'r' ? 4 : 1, &p));
        return mrc__pt_put(pt, (size_t)mrc__load_le(p, op == 'r' ? 4 : 1));
    case 0x85: case 0x86: case 0x87: case 't':
        if (op == 't') MRC__TRY(mrc__pt_pop_mark(pt, &items, &n));
        else MRC__TRY(mrc__pt_pop(pt, n = (size_t)(op - 0x84), v));
        MRC__TRY(mrc__pt_make_tuple(pt, items, n, &made));
        return mrc__pt_push(pt, made);
    case 'a':
        MRC__TRY(mrc__pt_pop(pt, 1, v));
        return mrc__pt_add(pt, MRC__PT_LIST, v, 1);
    case 's':
        MRC__TRY(mrc__pt_pop(pt, 2, v));
        return mrc__pt_add(pt, MRC__PT_DICT, v, 2);
    case 'e': case 'u':
        MRC__TRY(mrc__pt_pop_mark(pt, &items, &n));
        return mrc__pt_add(pt, op == 'e' ? MRC__PT_LIST : MRC__PT_DICT, items, n);
    case 'R': return mrc__pt_reduce(pt);
    case 'b':                       // attributes of an OrderedDict: read and dropped
        MRC__TRY(mrc__pt_pop(pt, 1, v));
        if (v->kind == MRC__PT_DICT && mrc__pt_depth(pt) > 0
            && pt->stack[pt->n_stack - 1].kind == MRC__PT_DICT
            && pt->stack[pt->n_stack - 1].u.container->ordered) return MRC_OK;
        return mrc__pt_fail(pt, "sets attributes of what is no OrderedDict");
    case 'Q':
        MRC__TRY(mrc__pt_pop(pt, 1, v));
        MRC__TRY(mrc__pt_persistent(pt, v));
        return mrc__pt_push(pt, v[0]);
    default:
        pt->at--;
        return mrc__pt_fail(pt, "instruction 0x%02x, which is not supported", (unsigned)op);
    }
}

// One pickle from pt->at on: its value.
static mrc_status mrc__pt_run(mrc__pt *pt, mrc__pt_value *out) {
    const unsigned char *p = NULL;
    int known;
    pt->n_stack = pt->n_marks = pt->n_memo = 0;
    MRC__TRY(mrc__pt_take(pt, 2, &p));
    if (p[0] != 0x80 || p[1] != 2) return mrc__pt_fail(pt, "not a pickle of protocol 2");
    for (unsigned ops = 0; ops < MRC__PT_OPS; ops++) {
        MRC__TRY(mrc__pt_take(pt, 1, &p));
        if (*p == '.') {
            MRC__TRY(mrc__pt_pop(pt, 1, out));
            if (!pt->n_stack && !pt->n_marks) return mrc__pt_check_keys(pt);
            return mrc__pt_fail(pt, "values are left over");
        }
        MRC__TRY(mrc__pt_literal(pt, *p, &known));
        if (!known) MRC__TRY(mrc__pt_operate(pt, *p));
    }
    return mrc__pt_fail(pt, "more than %u instructions", MRC__PT_OPS);
}

//==============================================================================
// >>impl.torch   PyTorch's files: tensors by name, the zip, the old stream
//
// A zip of stored records, one of them a pickle and the others storages; or five pickles and the
// storages behind them.  Every size is held against the file before it is used.
//==============================================================================
typedef struct mrc__pt_frame {
    mrc__pt_value value;
    mrc__pt_node *node;
    size_t        index, name_bytes;
} mrc__pt_frame;
typedef struct mrc__pt_walk {
    mrc__pt_frame frames[MRC__PT_NESTING + 1];
    size_t        depth, visits;
    mrc_text      name;
} mrc__pt_walk;

static mrc_status mrc__pt_found(mrc__pt *pt, const mrc_text *name, const mrc__st_item *tensor) {
    mrc_safetensors *st = pt->st;
    if (name->bytes > MRC__ST_NAME_MAX || st->n == MRC__ST_COUNT_MAX) {
        return mrc__pt_fail(pt, "a tensor's name of more than %u bytes, or more than %u tensors",
                            MRC__ST_NAME_MAX, MRC__ST_COUNT_MAX);
    }
    size_t bytes = sizeof *tensor + name->bytes + 1;
    if (bytes > pt->budget) return mrc__pt_fail(pt, "takes more memory than such a file may");
    pt->budget -= bytes;
    mrc__st_item *item = mrc__bump_alloc(&st->pool, sizeof *item, 16);
    char *text = mrc__bump_alloc(&st->pool, name->bytes + 1, 1);
    if (!item || !text) return mrc__st_memory(st);
    *item = *tensor;
    if (name->bytes) memcpy(text, name->data, name->bytes);
    text[name->bytes] = 0;
    item->e.name = text;
    item->owner = st;
    return mrc__st_push(st, &st->by_offset, &st->capacity, &st->n, item) ? MRC_OK
                                                                         : mrc__st_memory(st);
}

static mrc_status mrc__pt_visit(mrc__pt *pt, mrc__pt_walk *w, mrc__pt_value v) {
    if (++w->visits > MRC__PT_VISITS) return mrc__pt_fail(pt, "more than 10^7 values");
    if (w->depth > MRC__PT_NESTING) return mrc__pt_fail(pt, "nested deeper than 8");
    if (v.kind == MRC__PT_TENSOR) return mrc__pt_found(pt, &w->name, v.u.tensor);
    if (v.kind != MRC__PT_DICT && v.kind != MRC__PT_LIST && v.kind != MRC__PT_TUPLE) return MRC_OK;
    mrc__pt_frame *f = &w->frames[w->depth++];
    *f = (mrc__pt_frame){ .value = v, .name_bytes = w->name.bytes };
    if (v.kind != MRC__PT_TUPLE) f->node = v.u.container->first;
    return MRC_OK;
}

// Nested mappings and lists, names joined by points; what is no tensor is passed over.
static mrc_status mrc__pt_flatten(mrc__pt *pt, mrc__pt_walk *w, mrc__pt_value root) {
    MRC__TRY(mrc__pt_visit(pt, w, root));
    while (w->depth > 0) {
        mrc__pt_frame *f = &w->frames[w->depth - 1];
        mrc__pt_value v, key = { .kind = MRC__PT_INT, .u.i = (int64_t)f->index };
        w->name.bytes = f->name_bytes;
        if (f->value.kind == MRC__PT_TUPLE ? f->index == f->value.u.tuple->n : !f->node) {
            w->depth--;
            continue;
        }
        if (f->value.kind == MRC__PT_TUPLE) {
            v = f->value.u.tuple->items[f->index];
        } else {
            v = f->node->value;
            if (f->value.kind == MRC__PT_DICT) key = f->node->key;
            f->node = f->node->next;
        }
        f->index++;
        if (w->name.bytes) mrc_text_add(&w->name, ".", 1);
        if (key.kind == MRC__PT_INT) mrc_text_printf(&w->name, "%lld", (long long)key.u.i);
        else mrc_text_add(&w->name, key.u.string->text, key.u.string->bytes);
        if (w->name.failed) return mrc__st_memory(pt->st);
        MRC__TRY(mrc__pt_visit(pt, w, v));
    }
    return MRC_OK;
}

// Lists the tensors below root, and where each begins in the file.
static mrc_status mrc__pt_collect(mrc__pt *pt, mrc__pt_value root) {
    mrc_safetensors *st = pt->st;
    mrc__pt_walk w = { .depth = 0 };
    mrc_text_init(&w.name, st->ctx);
    mrc_status s = mrc__pt_flatten(pt, &w, root);
    mrc_text_free(&w.name);
    MRC__TRY(s);
    for (size_t i = 0; i < st->n; i++) {
        mrc__st_item *item = mrc__st_item_of(st, i);
        size_t bytes = mrc__st_dtypes[item->storage->dtype].bits / 8;
        item->at = item->storage->at + item->offset * bytes;    // inside of the file: was checked
        item->e.begin = item->at;
        item->e.end = item->at + item->e.numel * bytes;
        item->storage = NULL;
    }
    return mrc__st_index_names(st);
}

//------------------------------------------------------------------------------
// The zip
//------------------------------------------------------------------------------
typedef struct mrc__pt_record {
    const char *name;               // without the top folder; not NUL-terminated
    size_t      name_bytes;
    uint64_t    header, at, bytes;  // in the file
    uint32_t    crc;
} mrc__pt_record;
typedef struct mrc__pt_zip {
    uint64_t     file_bytes, begin, end, n;     // the central directory, its entries
    const unsigned char *directory;
    const void **by_name, **by_place;
    const char  *folder;
    size_t       folder_bytes;
} mrc__pt_zip;

__attribute__((format(printf, 2, 3)))
static mrc_status mrc__pt_zip_fail(const mrc__pt *pt, const char *fmt, ...) {
    char what[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return mrc__fail(pt->st->ctx, MRC_ERR_FORMAT, "%s: zip: %s", pt->st->path, what);
}

static mrc_status mrc__pt_pread(mrc__pt *pt, uint64_t at, void *to, size_t bytes) {
    return mrc__st_pread(pt->st->ctx, pt->st->path, pt->st->fd, at, to, bytes);
}

// The end record and, where it is, the zip64 one: where the directory lies.
static mrc_status mrc__pt_zip_end(mrc__pt *pt, mrc__pt_zip *z) {
    unsigned char end[22], locator[20], wide[56];
    uint64_t place = z->file_bytes - 22, size, begin;
    if (z->file_bytes < 22) return mrc__pt_zip_fail(pt, "too small");
    MRC__TRY(mrc__pt_pread(pt, place, end, 22));
    if (memcmp(end, "PK\5\6", 4) || mrc__load_le(end + 20, 2)) {
        return mrc__pt_zip_fail(pt, "does not end with its end record: cut, or with a comment");
    }
    z->n = mrc__load_le(end + 8, 2);
    size = mrc__load_le(end + 12, 4);
    begin = mrc__load_le(end + 16, 4);
    if (mrc__load_le(end + 4, 4) || mrc__load_le(end + 10, 2) != z->n) {
        return mrc__pt_zip_fail(pt, "of several disks");
    }
    z->end = place;
    if (place >= 20) MRC__TRY(mrc__pt_pread(pt, place - 20, locator, 20));
    if (place >= 20 && !memcmp(locator, "PK\6\7", 4)) {
        z->end = mrc__load_le(locator + 8, 8);
        if (mrc__load_le(locator + 4, 4) || mrc__load_le(locator + 16, 4) != 1 || place < 76
            || z->end != place - 76) return mrc__pt_zip_fail(pt, "a bad zip64 locator");
        MRC__TRY(mrc__pt_pread(pt, z->end, wide, 56));
        uint64_t n64 = mrc__load_le(wide + 32, 8), size64 = mrc__load_le(wide + 40, 8);
        uint64_t begin64 = mrc__load_le(wide + 48, 8);
        if (memcmp(wide, "PK\6\6", 4) || mrc__load_le(wide + 4, 8) != 44
            || mrc__load_le(wide + 16, 8) || mrc__load_le(wide + 24, 8) != n64
            || (z->n != 0xFFFF && z->n != n64) || (size != UINT32_MAX && size != size64)
            || (begin != UINT32_MAX && begin != begin64)) {
            return mrc__pt_zip_fail(pt, "its zip64 end record does not fit the other one");
        }
        z->n = n64;
        size = size64;
        begin = begin64;
    } else if (z->n == 0xFFFF || size == UINT32_MAX || begin == UINT32_MAX) {
        return mrc__pt_zip_fail(pt, "has no zip64 end record");
    }
    if (z->n == 0 || z->n > 1000000) return mrc__pt_zip_fail(pt, "%llu entries, expected 1 to "
                                                             "10^6", (unsigned long long)z->n);
    if (size > MRC__PT_DIRECTORY || size > z->end || begin != z->end - size) {
        return mrc__pt_zip_fail(pt, "its directory is not where it should be");
    }
    z->begin = begin;
    return MRC_OK;
}

// The extra fields of a directory entry: sizes that do not fit 32 bits.
static mrc_status mrc__pt_zip_extra(mrc__pt *pt, const unsigned char *p, size_t bytes,
                                    uint64_t *const *wide, size_t n_wide) {
    while (bytes >= 4) {
        size_t id = (size_t)mrc__load_le(p, 2), length = (size_t)mrc__load_le(p + 2, 2);
        if (length > bytes - 4) return mrc__pt_zip_fail(pt, "a cut extra field");
        if (id == 1) {
            if (length < 8 * n_wide) return mrc__pt_zip_fail(pt, "a short zip64 field");
            for (size_t i = 0; i < n_wide; i++) *wide[i] = mrc__load_le(p + 4 + 8 * i, 8);
            n_wide = 0;
        }
        p += 4 + length;
        bytes -= 4 + length;
    }
    if (bytes) return mrc__pt_zip_fail(pt, "a cut extra field");
    return n_wide ? mrc__pt_zip_fail(pt, "a zip64 field is missing") : MRC_OK;
}

// The entry's name: one folder for all, nothing that could leave it.
static mrc_status mrc__pt_zip_name(mrc__pt *pt, mrc__pt_zip *z, const unsigned char *name, size_t n,
                                   mrc__pt_record *r) {
    const char *p = (const char *)name, *slash = memchr(p, '/', n);
    int bad = n == 0 || n > 512 || !slash || *p == '/';
    for (size_t i = 0; i < n; i++) bad = bad || p[i] < 0x20 || p[i] > 0x7e || p[i] == '\\';
    for (size_t i = 0; i + 1 < n; i++) {
        bad = bad || (p[i] == '.' && p[i + 1] == '.' && (i == 0 || p[i - 1] == '/')
                      && (i + 2 == n || p[i + 2] == '/'));
    }
    if (bad) return mrc__pt_zip_fail(pt, "an entry's name is not folder/file in ASCII");
    size_t folder = (size_t)(slash - p);
    if (!z->folder) {
        z->folder = p;
        z->folder_bytes = folder;
    }
    if (folder != z->folder_bytes || memcmp(p, z->folder, folder)) {
        return mrc__pt_zip_fail(pt, "two top folders");
    }
    r->name = slash + 1;
    r->name_bytes = n - folder - 1;
    return MRC_OK;
}

// The header before the data repeats the directory's: held against it.
static mrc_status mrc__pt_zip_local(mrc__pt *pt, const mrc__pt_zip *z, const unsigned char *entry,
                                    mrc__pt_record *r) {
    unsigned char local[30 + 512];
    size_t n = (size_t)mrc__load_le(entry + 28, 2);
    if (r->header > z->begin || z->begin - r->header < 30 + n) {
        return mrc__pt_zip_fail(pt, "an entry outside of the file");
    }
    MRC__TRY(mrc__pt_pread(pt, r->header, local, 30 + n));
    uint64_t crc = mrc__load_le(local + 14, 4), packed = mrc__load_le(local + 18, 4);
    uint64_t size = mrc__load_le(local + 22, 4);
    if (memcmp(local, "PK\3\4", 4) || memcmp(local + 6, entry + 8, 4)
        || memcmp(local + 26, entry + 28, 2) || memcmp(local + 30, entry + 46, n)) {
        return mrc__pt_zip_fail(pt, "an entry differs from the directory");
    }
    if (!(local[6] & 8) && (crc != r->crc || (packed != UINT32_MAX && packed != r->bytes)
                            || (size != UINT32_MAX && size != r->bytes))) {
        return mrc__pt_zip_fail(pt, "an entry's size or checksum differs from the directory");
    }
    r->at = r->header + 30 + n + mrc__load_le(local + 28, 2);
    if (r->at > z->begin || r->bytes > z->begin - r->at) {
        return mrc__pt_zip_fail(pt, "an entry reaches outside of the file");
    }
    return MRC_OK;
}

// One entry of the directory at *at.
static mrc_status mrc__pt_zip_entry(mrc__pt *pt, mrc__pt_zip *z, size_t *at, mrc__pt_record *r) {
    size_t left = (size_t)(z->end - z->begin) - *at, n_wide = 0;
    const unsigned char *p = z->directory + *at;
    if (left < 46 || memcmp(p, "PK\1\2", 4)) return mrc__pt_zip_fail(pt, "a bad directory entry");
    size_t name = (size_t)mrc__load_le(p + 28, 2), extra = (size_t)mrc__load_le(p + 30, 2);
    size_t comment = (size_t)mrc__load_le(p + 32, 2), flags = (size_t)mrc__load_le(p + 8, 2);
    if (name + extra + comment > left - 46) return mrc__pt_zip_fail(pt, "a cut directory entry");
    uint64_t packed = mrc__load_le(p + 20, 4), *wide[3];
    r->crc = (uint32_t)mrc__load_le(p + 16, 4);
    r->bytes = mrc__load_le(p + 24, 4);
    r->header = mrc__load_le(p + 42, 4);
    if (r->bytes == UINT32_MAX) wide[n_wide++] = &r->bytes;
    if (packed == UINT32_MAX) wide[n_wide++] = &packed;
    if (r->header == UINT32_MAX) wide[n_wide++] = &r->header;
    MRC__TRY(mrc__pt_zip_extra(pt, p + 46 + name, extra, wide, n_wide));
    if (comment || mrc__load_le(p + 34, 2)) return mrc__pt_zip_fail(pt, "an entry with a comment");
    if (flags & ~(size_t)0x0808) return mrc__pt_zip_fail(pt, "an entry with flags 0x%zx", flags);
    if (mrc__load_le(p + 10, 2) || packed != r->bytes) {
        return mrc__pt_zip_fail(pt, "a compressed entry");
    }
    MRC__TRY(mrc__pt_zip_name(pt, z, p + 46, name, r));
    *at += 46 + name + extra + comment;
    return mrc__pt_zip_local(pt, z, p, r);
}

static int mrc__pt_compare_name(const void *a, const void *b) {
    const mrc__pt_record *x = a, *y = b;
    return mrc__compare_bytes(x->name, x->name_bytes, y->name, y->name_bytes);
}
static int mrc__pt_compare_place(const void *a, const void *b) {
    const mrc__pt_record *x = a, *y = b;
    if (x->header != y->header) return x->header < y->header ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static mrc_status mrc__pt_zip_read(mrc__pt *pt, mrc__pt_zip *z) {
    unsigned char *directory = NULL;
    mrc__pt_record *records = NULL;
    size_t at = 0;
    MRC__TRY(mrc__pt_zip_end(pt, z));
    size_t n = (size_t)z->n, bytes = (size_t)(z->end - z->begin);
    if (n > bytes / 46) return mrc__pt_zip_fail(pt, "%zu entries in %zu bytes", n, bytes);
    MRC__TRY(mrc__pt_alloc(pt, bytes, &directory));
    MRC__TRY(mrc__pt_pread(pt, z->begin, directory, bytes));
    MRC__TRY(mrc__pt_alloc(pt, n * sizeof *records, &records));
    MRC__TRY(mrc__pt_alloc(pt, n * sizeof *z->by_name, &z->by_name));
    MRC__TRY(mrc__pt_alloc(pt, n * sizeof *z->by_place, &z->by_place));
    z->directory = directory;
    for (size_t i = 0; i < n; i++) {
        MRC__TRY(mrc__pt_zip_entry(pt, z, &at, &records[i]));
        z->by_name[i] = z->by_place[i] = &records[i];
    }
    if (at != bytes) return mrc__pt_zip_fail(pt, "its directory is longer than its entries");
    mrc__sort(z->by_name, n, mrc__pt_compare_name);
    mrc__sort(z->by_place, n, mrc__pt_compare_place);
    for (size_t i = 1; i < n; i++) {
        const mrc__pt_record *before = z->by_place[i - 1], *r = z->by_place[i];
        if (!mrc__pt_compare_name(z->by_name[i - 1], z->by_name[i])) {
            return mrc__pt_zip_fail(pt, "two entries of one name");
        }
        if (r->header < before->at + before->bytes) return mrc__pt_zip_fail(pt, "entries overlap");
    }
    return MRC_OK;
}

static const mrc__pt_record *mrc__pt_zip_find(const mrc__pt_zip *z, const char *name) {
    const mrc__pt_record key = { .name = name, .name_bytes = strlen(name) };
    size_t i = mrc__st_search(z->by_name, (size_t)z->n, &key, mrc__pt_compare_name);
    return i < z->n ? z->by_name[i] : NULL;
}

// Checks a record's CRC and, with `to`, keeps its bytes.  A stored CRC of 0 means "not computed".
static mrc_status mrc__pt_zip_record(mrc__pt *pt, const mrc__pt_record *r, unsigned char *to) {
    unsigned char piece[MRC__ST_PIECE];
    uint32_t crc = 0;
    if (to) {
        MRC__TRY(mrc__pt_pread(pt, r->at, to, (size_t)r->bytes));
        crc = mrc__crc(mrc__crc32_table, 0, to, (size_t)r->bytes);
    }
    for (uint64_t at = 0; !to && r->crc && at < r->bytes; ) {
        size_t n = r->bytes - at < sizeof piece ? (size_t)(r->bytes - at) : sizeof piece;
        MRC__TRY(mrc__pt_pread(pt, r->at + at, piece, n));
        crc = mrc__crc(mrc__crc32_table, crc, piece, n);
        at += n;
    }
    if (!r->crc || crc == r->crc) return MRC_OK;
    return mrc__pt_zip_fail(pt, "%.*s is damaged (found CRC-32 %08lx, expected %08lx)",
                            (int)r->name_bytes, r->name, (unsigned long)crc,
                            (unsigned long)r->crc);
}

// A small text among the records, "" when it is not there.
static mrc_status mrc__pt_zip_text(mrc__pt *pt, const mrc__pt_zip *z, const char *name, char *out) {
    const mrc__pt_record *r = mrc__pt_zip_find(z, name);
    out[0] = 0;
    if (!r) return MRC_OK;
    if (r->bytes > 16) return mrc__pt_zip_fail(pt, "%s is longer than 16 bytes", name);
    MRC__TRY(mrc__pt_zip_record(pt, r, (unsigned char *)out));
    out[r->bytes] = 0;
    if (r->bytes == 0 || memchr(out, 0, (size_t)r->bytes)) strcpy(out, "?");
    return MRC_OK;
}

static mrc_status mrc__pt_zip_version(mrc__pt *pt, const mrc__pt_zip *z) {
    char text[17], *p = text;
    unsigned long version = 0;
    if (mrc__pt_zip_find(z, "constants.pkl")) {
        return mrc__pt_zip_fail(pt, "a TorchScript archive, which is a program");
    }
    MRC__TRY(mrc__pt_zip_text(pt, z, "version", text));
    if (!*text) return mrc__pt_zip_fail(pt, "has no version");
    p += strspn(p, " \t\n\v\f\r");
    size_t digits = strspn(p, "0123456789");
    for (size_t i = 0; i < digits && version < 100; i++) version = version * 10
                                                                   + (unsigned long)(p[i] - '0');
    if (!digits || p[digits + strspn(p + digits, " \t\n\v\f\r")] || version < 1 || version > 10) {
        return mrc__pt_zip_fail(pt, "its version is not of 1 to 10");
    }
    MRC__TRY(mrc__pt_zip_text(pt, z, "byteorder", text));
    if (*text && strcmp(text, "little")) {
        return mrc__pt_zip_fail(pt, "its byte order is not little");
    }
    return MRC_OK;
}

static mrc_status mrc__pt_load_zip(mrc__pt *pt, uint64_t file_bytes) {
    mrc__pt_zip z = { .file_bytes = file_bytes };
    mrc__pt_value root;
    unsigned char *pickle = NULL;
    char name[32];
    MRC__TRY(mrc__pt_zip_read(pt, &z));
    MRC__TRY(mrc__pt_zip_version(pt, &z));
    const mrc__pt_record *r = mrc__pt_zip_find(&z, "data.pkl");
    if (!r) return mrc__pt_zip_fail(pt, "has no data.pkl");
    if (r->bytes > (uint64_t)1 << 30) return mrc__pt_zip_fail(pt, "data.pkl is above 1 GiB");
    MRC__TRY(mrc__pt_alloc(pt, (size_t)r->bytes + 1, &pickle));
    MRC__TRY(mrc__pt_zip_record(pt, r, pickle));
    pt->data = pickle;
    pt->bytes = (size_t)r->bytes;
    MRC__TRY(mrc__pt_run(pt, &root));
    if (pt->at != pt->bytes) return mrc__pt_fail(pt, "something follows its end");
    for (mrc__pt_storage *s = pt->storages; s; s = s->next) {
        snprintf(name, sizeof name, "data/%s", s->key);
        r = mrc__pt_zip_find(&z, name);
        uint64_t want = s->numel * (mrc__st_dtypes[s->dtype].bits / 8);     // numel is below 2^60
        if (!r) return mrc__pt_zip_fail(pt, "has no %s", name);
        if (r->bytes != want) {
            return mrc__pt_zip_fail(pt, "%s has %llu bytes, expected %llu", name,
                                    (unsigned long long)r->bytes, (unsigned long long)want);
        }
        MRC__TRY(mrc__pt_zip_record(pt, r, NULL));
        s->at = r->at;
    }
    return mrc__pt_collect(pt, root);
}

//------------------------------------------------------------------------------
// The old stream: magic, protocol, system, the object, the storages' keys; then their data
//------------------------------------------------------------------------------
static mrc_status mrc__pt_legacy_keys(mrc__pt *pt, mrc__pt_value keys) {
    mrc__pt_storage *s = NULL;
    const unsigned char *p = NULL;
    if (keys.kind != MRC__PT_LIST || keys.u.container->n != pt->n_storages) {
        return mrc__pt_fail(pt, "the list of storages is not that of the tensors");
    }
    for (const mrc__pt_node *k = keys.u.container->first; k; k = k->next) {
        s = NULL;
        if (mrc__pt_is_key(&k->value)) {
            MRC__TRY(mrc__pt_storage_of(pt, k->value.u.string->text, 0, &s));
        }
        if (!s || s->placed) return mrc__pt_fail(pt, "a storage that no tensor has, or one twice");
        s->placed = 1;
    }
    for (const mrc__pt_node *k = keys.u.container->first; k; k = k->next) {
        MRC__TRY(mrc__pt_storage_of(pt, k->value.u.string->text, 0, &s));
        MRC__TRY(mrc__pt_take(pt, 8, &p));
        if (mrc__load_le(p, 8) != s->numel) {
            return mrc__pt_fail(pt, "storage %s has another size than its tensors say", s->key);
        }
        s->at = pt->at;
        uint64_t bytes = s->numel * (mrc__st_dtypes[s->dtype].bits / 8);
        if (bytes > pt->bytes - pt->at) return mrc__pt_fail(pt, "ends in the middle");
        MRC__TRY(mrc__pt_take(pt, (size_t)bytes, &p));
    }
    return pt->at == pt->bytes ? MRC_OK : mrc__pt_fail(pt, "something follows its end");
}

static mrc_status mrc__pt_load_legacy(mrc__pt *pt) {
    mrc__pt_value v, root;
    int little = 0;
    pt->legacy = 1;
    MRC__TRY(mrc__pt_run(pt, &v));
    if (v.kind != MRC__PT_MAGIC) return mrc__pt_fail(pt, "not a PyTorch file: another magic");
    MRC__TRY(mrc__pt_run(pt, &v));
    if (v.kind != MRC__PT_INT || v.u.i != 1001) return mrc__pt_fail(pt, "not protocol 1001");
    MRC__TRY(mrc__pt_run(pt, &v));
    if (v.kind != MRC__PT_DICT) return mrc__pt_fail(pt, "nothing about its byte order");
    for (const mrc__pt_node *m = v.u.container->first; m; m = m->next) {
        if (m->key.kind == MRC__PT_STR && !strcmp(m->key.u.string->text, "little_endian")) {
            little = m->value.kind == MRC__PT_BOOL && m->value.u.i;
        }
    }
    if (!little) return mrc__pt_fail(pt, "its byte order is not little");
    pt->storages = pt->last_storage = NULL;
    pt->n_storages = 0;
    memset(&pt->digits, 0, sizeof pt->digits);
    MRC__TRY(mrc__pt_run(pt, &root));
    MRC__TRY(mrc__pt_run(pt, &v));
    MRC__TRY(mrc__pt_legacy_keys(pt, v));
    return mrc__pt_collect(pt, root);
}

static mrc_status mrc__pt_load(mrc__pt *pt, uint64_t file_bytes) {
    mrc_ctx *ctx = pt->st->ctx;
    unsigned char first[4] = {0};
    char *data;
    size_t bytes;
    MRC__TRY(mrc__pt_pread(pt, 0, first, file_bytes < 4 ? (size_t)file_bytes : 4));
    if (!memcmp(first, "PK\3\4", 4)) return mrc__pt_load_zip(pt, file_bytes);
    if (memcmp(first, "\x80\2", 2)) {
        return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: not a PyTorch checkpoint (expected a zip or a "
                         "pickle of protocol 2)", pt->st->path);
    }
    MRC__TRY(mrc_file_read(ctx, &data, &bytes, pt->st->path));
    pt->data = (const unsigned char *)data;
    pt->bytes = bytes;
    mrc_status s = mrc__pt_load_legacy(pt);
    mrc_file_free(ctx, data);
    return s;
}

MRCDEF mrc_status mrc_torch_open(mrc_ctx *ctx, mrc_safetensors **out, const char *path) {
    uint64_t file_bytes;
    mrc_safetensors *st;
    if (!ctx || !out) return MRC_ERR_ARG;
    *out = NULL;
    if (!path) return mrc__fail(ctx, MRC_ERR_ARG, "torch: no path given");
    MRC__TRY(mrc__st_new(ctx, &st, path, &file_bytes));
    st->format = "torch";
    mrc__pt *pt = mrc__host_zalloc(&ctx->host, sizeof *pt);
    mrc_status s = MRC_OK;
    if (!pt) {
        s = mrc__st_memory(st);
    } else {
        pt->st = st;
        pt->pool.host = ctx->host;
        pt->budget = file_bytes > UINT64_MAX / 4 ? UINT64_MAX : 2 * file_bytes + MRC__PT_MEMORY;
        s = mrc__pt_load(pt, file_bytes);
        if (pt->stack) ctx->host.free(ctx->host.user, pt->stack);
        if (pt->memo) ctx->host.free(ctx->host.user, pt->memo);
        mrc__bump_free(&pt->pool);
        ctx->host.free(ctx->host.user, pt);
    }
    if (s == MRC_OK) *out = st;
    else mrc_safetensors_close(st);
    return s;
}

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

// The working copy of n floats, a piece at a time.
static mrc_status mrc__upload_copy(mrc_ctx *ctx, const mrc_tensor *t, const float *src) {
    uint16_t piece[8192];
    mrc_status s = MRC_OK;
    for (size_t i = 0, n; s == MRC_OK && i < t->numel; i += n) {
        n = t->numel - i < 8192 ? t->numel - i : 8192;
        mrc__narrow(t->copy_dtype, piece, src + i, n);
        s = ctx->be->upload(ctx->be, (uint16_t *)t->copy + i, piece, n * sizeof *piece);
    }
    return s;
}

MRCDEF mrc_status mrc_tensor_upload(mrc_ctx *ctx, mrc_tensor *t, const void *src) {
    if (!ctx || !t || !src) return MRC_ERR_ARG;
    if (!ctx->be) return mrc__fail(ctx, MRC_ERR_ARG, "upload: the context has no backend");
    if (!t->data) return mrc__fail(ctx, MRC_ERR_ARG, "upload: the tensor was dropped");
    if (t->packed && !t->copy) {
        mrc_status p = ctx->be->prepack(ctx->be, t->data, t->copy_dtype, t->shape[0], t->shape[1],
                                        src);
        return p == MRC_OK ? p : mrc__fail(ctx, p, "prepack on %s", ctx->be->name);
    }
    mrc_status s = t->packed ? MRC_OK : ctx->be->upload(ctx->be, t->data, src,
                                                        t->numel * mrc_dtype_bytes(t->dtype));
    if (s == MRC_OK && t->copy) s = mrc__upload_copy(ctx, t, src);
    return s == MRC_OK ? s : mrc__fail(ctx, s, "upload on %s", ctx->be->name);
}

MRCDEF mrc_status mrc_tensor_download(mrc_ctx *ctx, const mrc_tensor *t, void *dst) {
    if (!ctx || !t || !dst) return MRC_ERR_ARG;
    if (!ctx->be) return mrc__fail(ctx, MRC_ERR_ARG, "download: the context has no backend");
    if (!t->data) return mrc__fail(ctx, MRC_ERR_ARG, "download: the tensor was dropped");
    if (t->packed) return mrc__fail(ctx, MRC_ERR_ARG, "download: %s is for prediction", t->name);
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

// packed_bytes 0: as large as its elements are.
static mrc_status mrc__param_make(mrc_params *params, mrc_tensor **out, const char *name,
                                  mrc_dtype dtype, int ndim, const size_t *shape,
                                  size_t packed_bytes) {
    size_t bytes;
    if (mrc_params_find(params, name)) return MRC_ERR_ARG;
    MRC__TRY(mrc__params_grow(params));
    size_t name_bytes = strlen(name) + 1;
    mrc_tensor *t = mrc__object_new(&params->host, &params->objects, 0, sizeof *t + name_bytes);
    if (!t) return MRC_ERR_MEM;
    if (mrc__tensor_init(t, dtype, ndim, shape, &bytes)) return MRC_ERR_ARG;
    t->requires_grad = !packed_bytes;
    t->name = memcpy(t + 1, name, name_bytes);
    t->data = mrc__arena_alloc(&params->arena, packed_bytes ? packed_bytes : bytes, 0);
    if (!t->data) return MRC_ERR_MEM;
    params->list[params->n++] = t;
    *out = t;
    return MRC_OK;
}

MRCDEF mrc_status mrc_param_new(mrc_params *params, mrc_tensor **out, const char *name,
                                mrc_dtype dtype, int ndim, const size_t *shape) {
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (!params || !name || (ndim > 0 && !shape)) return MRC_ERR_ARG;
    return mrc__param_make(params, out, name, dtype, ndim, shape, 0);
}

MRCDEF mrc_status mrc_param_packed_new(mrc_params *params, mrc_tensor **out, const char *name,
                                       mrc_dtype dtype, size_t rows, size_t columns) {
    const size_t shape[2] = { rows, columns };
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (!params || !name) return MRC_ERR_ARG;
    mrc_backend *be = params->arena.be;
    size_t bytes = be->prepack_bytes ? be->prepack_bytes(be, dtype, rows, columns) : 0;
    if (!bytes) return MRC_ERR_UNSUPPORTED;
    MRC__TRY(mrc__param_make(params, out, name, MRC_DTYPE_F32, 2, shape, bytes));
    (*out)->packed = 1;
    (*out)->copy_dtype = dtype;
    return MRC_OK;
}

// An f32 table for prediction, kept in bf16.
static mrc_status mrc__param_table_new(mrc_params *params, mrc_tensor **out, const char *name,
                                       size_t rows, size_t columns) {
    const size_t shape[2] = { rows, columns };
    size_t bytes;
    if (!mrc__mul(rows, columns, &bytes) || !mrc__mul(bytes, 2, &bytes)) return MRC_ERR_ARG;
    MRC__TRY(mrc__param_make(params, out, name, MRC_DTYPE_F32, 2, shape, bytes));
    (*out)->packed = 1;
    (*out)->copy = (*out)->data;
    (*out)->copy_dtype = MRC_DTYPE_BF16;
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
    if (!params || !t || t->frame || t->copy || t->ndim < 2) return MRC_ERR_ARG;
    if (t->dtype != MRC_DTYPE_F32 || !mrc__is_half(dtype)) return MRC_ERR_ARG;
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
    size_t n = d->n_sequences, bytes;
    if (given || !n) return mrc__batch_array(ctx, n, given, 0, 0);
    int32_t *made = mrc__mul(n, sizeof *made, &bytes) ? ctx->host.alloc(ctx->host.user, bytes)
                                                      : NULL;
    if (!made) return mrc__fail_null(ctx, MRC_ERR_MEM, "batch: no host memory");
    for (size_t i = 0; i < n; i++) made[i] = d->cu_seqlens[i + 1] - d->cu_seqlens[i];
    mrc_tensor *t = mrc__batch_array(ctx, n, made, 0, 0);
    ctx->host.free(ctx->host.user, made);
    return t;
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
// from this list, so an op without a backward does not compile.  Last, what backward reads: bit i
// is the data of in[i], MRC__OUT that of the output; -1 all of it.  What is not read, mrc_drop()
// may let go.
#define MRC__OUT (1 << 30)
#define MRC__OPS(OP)                                                            \
    OP(EMBEDDING,     embedding,     1 << 3 | 1 << 4 | 1 << 5)                  \
    OP(LINEAR,        linear,        1 << 0 | 1 << 1)                           \
    OP(QKV,           qkv,           1 << 0 | 1 << 1 | 1 << 2 | 1 << 3)         \
    OP(ATTENTION,     attention,     1 << 0 | 1 << 1 | 1 << 2 | 1 << 3)         \
    OP(GELU,          gelu,          1 << 0)                                    \
    OP(LAYER_NORM,    layer_norm,    1 << 0 | 1 << 1)                           \
    OP(ADD_NORM,      add_norm,      1 << 2 | 1 << 4 | 1 << 5)                  \
    OP(DROPOUT,       dropout,       1 << 1 | 1 << 2)                           \
    OP(LSTM,          lstm,          0x3ff | MRC__OUT)                          \
    OP(GRU,           gru,           0x3ff | MRC__OUT)                          \
    OP(UNFOLD,        unfold,        1 << 1)                                    \
    OP(CROSS_ENTROPY, cross_entropy, 0x7f)                                      \
    OP(SYMMETRIC_KL,  symmetric_kl,  0x7f)                                      \
    OP(CUSTOM,        custom,        -1)                                        \
    OP(CHECKPOINT,    checkpoint,    ~MRC__OUT)

typedef enum mrc__op {
#define MRC_X(NAME, name, reads) MRC__OP_##NAME,
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
        struct { size_t max_length; } lstm, gru;
        struct { size_t size; } unfold;
        struct { mrc_loss criterion; } loss;
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
    int         reads;                                      // what data: see MRC__OPS
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
    if (t->packed) return (mrc_in){ .dtype = t->copy_dtype, .data = t->data };
    if (t->dtype == dtype || !t->copy || t->copy_dtype != dtype) return mrc__in(t);
    return (mrc_in){ .dtype = dtype, .ld = mrc__columns(t), .data = t->copy };
}

// A matrix must come in x's dtype, a vector in that of statistics; so must the gradient of either.
static int mrc__param_fits(mrc_ctx *ctx, mrc__op op, const mrc_tensor *x, const mrc_tensor *t) {
    const mrc_dtype dtype = mrc__param_in(t, x->dtype).dtype, stat = mrc__stat_dtype(x->dtype);
    if (t->packed) {
        const int reads = op == MRC__OP_LINEAR || op == MRC__OP_QKV;
        if (x->dtype == MRC_DTYPE_F32 && !t->copy && reads) return 1;
        mrc__fail(ctx, MRC_ERR_ARG, "%s: x is %s, %s is for prediction", mrc__ops[op].name,
                  mrc_dtype_name(x->dtype), t->name);
        return 0;
    }
    if (dtype == (t->ndim < 2 ? stat : x->dtype) && (t->dtype == stat || !t->requires_grad)) {
        return 1;
    }
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
    node->recorded = wants && ctx->grad_mode;
    for (size_t i = 0; i < n_in; i++) {
        node->in[i] = in[i];
        if (!node->recorded || !in[i]->packed) continue;
        return mrc__fail_null(ctx, MRC_ERR_ARG, "%s: %s is for prediction and has no backward",
                              mrc__ops[op].name, in[i]->name);
    }
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
    int reads = mrc__ops[node->op].reads;
    out->read_back = (reads & MRC__OUT) != 0;
    for (size_t i = 0; i < node->n_in; i++) {           // backward cannot make a leaf again
        mrc_tensor *in = node->in[i];
        if (!in->frame) continue;                       // parameters are shared by threads
        if (!in->producer) in->pinned = 1;
        if (reads == -1 || (i < 30 && reads >> i & 1)) in->read_back = 1;
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
    int read_back = node && t->read_back;
    if (node ? read_back && !node->remake : ctx->grad_mode) return;
    size_t n_read = read_back && node->remake == mrc__ops[node->op].forward ? node->n_in : 0;
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
    if (!t->producer || !t->read_back) {
        return mrc__fail(ctx, MRC_ERR_ARG, "backward: an input was dropped for good");
    }
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
    if (MRC__MIXED && m.dtype == MRC_DTYPE_F32) return ((const float *)m.data)[r * m.ld + c];
    return MRC__GET(((const MRC__REAL *)m.data)[r * m.ld + c]);
}
static double MRC__T(peek)(mrc_out m, size_t r, size_t c) {
    return MRC__T(at)((mrc_in){ m.dtype, m.ld, m.data }, r, c);
}
static void MRC__T(put)(mrc_out m, size_t r, size_t c, double value) {
    if (!m.data) return;
    if (m.accumulate) value += MRC__T(peek)(m, r, c);
    if (MRC__MIXED && m.dtype == MRC_DTYPE_F32) ((float *)m.data)[r * m.ld + c] = (float)value;
    else ((MRC__REAL *)m.data)[r * m.ld + c] = MRC__SET(value);
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
                                 int32_t position_padding, mrc_dtype dtype,
                                 const mrc_batch *batch) {
    if (!ctx || !word || !position || !token_type || !batch) return NULL;
    if (!batch->input_ids || !batch->position_ids || !batch->token_type_ids) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "embedding: the batch has no input_ids");
    }
    if (word->ndim != 2) return mrc__fail_null(ctx, MRC_ERR_SHAPE, "embedding: word is no matrix");
    if (dtype != word->dtype && !(mrc__is_half(dtype) && word->dtype == MRC_DTYPE_F32)) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "embedding: %s from tables of %s",
                              mrc_dtype_name(dtype), mrc_dtype_name(word->dtype));
    }
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
    return mrc__apply(ctx, node, dtype, 2, shape);
}

// A table as it is kept: one for prediction may be bf16.
static mrc_in mrc__table_in(const mrc_tensor *t) {
    mrc_in table = mrc__in(t);
    if (t->packed) table.dtype = t->copy_dtype;
    return table;
}

static mrc_status mrc__embedding_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_embedding_fwd_args a = {
        .n = node->out->shape[0], .h = node->out->shape[1], .word = mrc__table_in(node->in[0]),
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
            z = MRC__GET(MRC__SET(z));          // y is of the z that backward sees
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
// Of a weight seen as (O, I).
static size_t mrc__weight_columns(const mrc_tensor *w) {
    return w->shape[0] ? w->numel / w->shape[0] : w->shape[w->ndim - 1];
}

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
    if (in == 0 || weight->ndim < 2 || mrc__weight_columns(weight) != in) {
        return mrc__fail_null(ctx, MRC_ERR_SHAPE,
                              "linear: x has %zu columns, weight (O, I) has %zu", in,
                              weight->ndim >= 2 ? mrc__weight_columns(weight) : 0);
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
    const size_t in = mrc__weight_columns(w);
    mrc_linear_fwd_args a = { .n = x->numel / in, .in = in, .out = w->shape[0],
                              .act = node->attr.linear.act, .x = mrc__in(x),
                              .weight = mrc__param_in(w, x->dtype),
                              .bias = mrc__param_in(node->in[2], x->dtype),
                              .y = mrc__out(node->out), .z = mrc__out(node->saved[0]) };
    a.z.ld = a.out;                                             // saved flat, used as (N, O)
    if (!w->packed) a.weight.ld = in;
    return MRC__RUN(ctx, x->dtype, linear_fwd, &a);
}

static mrc_status mrc__linear_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0], *w = node->in[1];
    MRC__TRY(mrc__need(ctx, x));
    MRC__TRY(mrc__need(ctx, w));
    const size_t in = mrc__weight_columns(w);
    mrc_linear_bwd_args a = { .n = x->numel / in, .in = in, .out = w->shape[0],
                              .act = node->attr.linear.act, .x = mrc__in(x),
                              .weight = mrc__param_in(w, x->dtype), .dy = mrc__dy(ctx, node) };
    a.z = mrc__out(node->saved[0]);
    a.z.ld = a.out;
    MRC__TRY(mrc_grad_target(ctx, x, &a.dx));
    MRC__TRY(mrc_grad_target(ctx, w, &a.dweight));
    MRC__TRY(mrc_grad_target(ctx, node->in[2], &a.dbias));
    a.weight.ld = a.dweight.ld = in;
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
    const int32_t *cu = a->cu_seqlens.data, *index = a->sequence_index.data;
    mrc_out u = a->sum.data ? a->sum : a->y;            // nobody wants u: y is room enough
    for (size_t s = 0; s < a->n_sequences; s++) {
        for (int32_t r = cu[s]; r < cu[s + 1]; r++) {
            for (uint32_t i = 0; i < a->h; i++) {
                double keep = MRC__T(kept)(&a->mask, 0, (uint32_t)index[s], (uint32_t)(r - cu[s]),
                                           i);
                double x = keep > 0 ? MRC__T(at)(a->x, (size_t)r, i) * keep : 0;
                MRC__T(put)(u, (size_t)r, i, x + MRC__T(at)(a->residual, (size_t)r, i));
            }
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
static void MRC__T(lstm_cell)(const mrc_lstm_fwd_args *a, mrc_out gates, mrc_out cells, int dir,
                              size_t row, ptrdiff_t before) {
    const size_t h = a->h, d = (size_t)dir, z = d * 4 * h;
    for (size_t o = 0; o < 4 * h; o++) {
        double sum = MRC__T(at)(a->bias_ih[dir], 0, o) + MRC__T(at)(a->bias_hh[dir], 0, o);
        for (size_t i = 0; i < a->in; i++) {
            sum += MRC__T(at)(a->weight_ih[dir], o, i) * MRC__T(at)(a->x, row, i);
        }
        for (size_t j = 0; before >= 0 && j < h; j++) {
            sum += MRC__T(at)(a->weight_hh[dir], o, j)
                 * MRC__T(peek)(a->y, (size_t)before, d * h + j);
        }
        MRC__T(put)(gates, row, z + o, o / h == 2 ? tanh(sum) : MRC__T(sigmoid)(sum));
    }
    for (size_t j = 0; j < h; j++) {
        double i = MRC__T(peek)(gates, row, z + j), f = MRC__T(peek)(gates, row, z + h + j);
        double g = MRC__T(peek)(gates, row, z + 2 * h + j);
        double was = before < 0 ? 0 : MRC__T(peek)(cells, (size_t)before, d * h + j);
        MRC__T(put)(cells, row, d * h + j, f * was + i * g);
        MRC__T(put)(a->y, row, d * h + j, MRC__T(peek)(gates, row, z + 3 * h + j)
                                          * tanh(MRC__T(peek)(cells, row, d * h + j)));
    }
}

// Where nothing is saved the cells and gates of all rows live in the workspace.
static size_t MRC__T(lstm_fwd_workspace)(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    (void)be;
    return a->gates.data ? 0 : a->n * a->h * (2 * sizeof(MRC__STAT) + 8 * sizeof(MRC__REAL));
}

static mrc_status MRC__T(lstm_fwd)(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    const int32_t *cu = a->cu_seqlens.data;
    mrc_out gates = a->gates, cells = a->cells;
    (void)be;
    if (!gates.data) {
        cells = (mrc_out){ mrc__stat_dtype(a->y.dtype), 2 * a->h, a->workspace, 0 };
        gates = (mrc_out){ a->y.dtype, 8 * a->h, (MRC__STAT *)cells.data + a->n * a->h * 2, 0 };
    }
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
    const size_t h = a->h, d = (size_t)dir, z = d * 4 * h;
    for (size_t j = 0; j < h; j++) {
        double gate[4], dh = MRC__T(at)(a->dy, row, d * h + j);
        for (size_t o = 0; after >= 0 && o < 4 * h; o++) {
            dh += MRC__T(peek)(a->gates, (size_t)after, z + o)
                * MRC__T(at)(a->weight_hh[dir], o, j);
        }
        // forward was: c_t = f c_(t-1) + i g;  h_t = o tanh(c_t)
        for (size_t k = 0; k < 4; k++) gate[k] = MRC__T(peek)(a->gates, row, z + k * h + j);
        double i = gate[0], f = gate[1], g = gate[2], o = gate[3];
        double t = tanh(MRC__T(peek)(a->cells, row, d * h + j));
        double was = before < 0 ? 0 : MRC__T(peek)(a->cells, (size_t)before, d * h + j);
        double dcj = dc[j] + dh * o * (1 - t * t);
        MRC__T(put)(a->gates, row, z + j, dcj * g * i * (1 - i));
        MRC__T(put)(a->gates, row, z + h + j, dcj * was * f * (1 - f));
        MRC__T(put)(a->gates, row, z + 2 * h + j, dcj * i * (1 - g * g));
        MRC__T(put)(a->gates, row, z + 3 * h + j, dh * t * o * (1 - o));
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
                dx += MRC__T(peek)(a->gates, r, o)
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
// What op.gru shares: weights of `gates` H rows.  A node whose inputs are x, the 8 weights and
// cu_seqlens.
static int mrc__rnn_fits(mrc_ctx *ctx, mrc__op op, size_t gates, const mrc_tensor *x,
                         mrc_tensor *const weights[8]) {
    size_t in = x->shape[1], h = weights[1]->ndim == 2 ? weights[1]->shape[1] : 0;
    for (int k = 0; k < 8; k++) {
        const mrc_tensor *w = weights[k];
        size_t columns = k % 4 == 0 ? in : h;
        int ok = k % 4 < 2 ? w->ndim == 2 && w->shape[0] == gates * h && w->shape[1] == columns
                           : w->numel == gates * h;
        if (h == 0 || !ok) {
            mrc__fail(ctx, MRC_ERR_SHAPE, "%s: weight %d has %zu rows of %zu, expected %zu of "
                      "%zu (x has %zu columns)", mrc__ops[op].name, k, w->ndim ? w->shape[0] : 0,
                      w->ndim == 2 ? w->shape[1] : 1, gates * h, k % 4 < 2 ? columns : 1, in);
            return 0;
        }
        if (!mrc__param_fits(ctx, op, x, w)) return 0;
    }
    return 1;
}

static mrc_node *mrc__rnn_node(mrc_ctx *ctx, mrc__op op, size_t gates, mrc_tensor *x,
                               mrc_tensor *const weights[8], const mrc_batch *batch, size_t *n,
                               size_t *h) {
    mrc_tensor *in[10] = { x };
    if (!ctx || !x || !weights || !batch || !batch->cu_seqlens) return NULL;
    for (int k = 0; k < 8; k++) {
        if (!weights[k]) return NULL;
        in[1 + k] = weights[k];
    }
    if (!mrc__rows_fit(ctx, mrc__ops[op].name, x, batch)) return NULL;
    if (!mrc__rnn_fits(ctx, op, gates, x, weights)) return NULL;
    in[9] = batch->cu_seqlens;
    *n = x->shape[0];
    *h = weights[1]->shape[1];
    return mrc__node_new(ctx, op, in, 10);
}

static void mrc__rnn_weights(const mrc_node *node, mrc_in weight_ih[2], mrc_in weight_hh[2],
                             mrc_in *bias_ih, mrc_in *bias_hh) {
    const mrc_dtype dtype = node->in[0]->dtype;
    for (int k = 0; k < 2; k++) {
        weight_ih[k] = mrc__param_in(node->in[1 + 4 * k], dtype);
        weight_hh[k] = mrc__param_in(node->in[2 + 4 * k], dtype);
        if (bias_ih) bias_ih[k] = mrc__param_in(node->in[3 + 4 * k], dtype);
        if (bias_hh) bias_hh[k] = mrc__param_in(node->in[4 + 4 * k], dtype);
    }
}

// What backward reads, and where it writes: targets are dweight_ih, dweight_hh, dbias_ih, dbias_hh.
static mrc_status mrc__rnn_backward(mrc_ctx *ctx, mrc_node *node, mrc_out *dx,
                                    mrc_out *const targets[4]) {
    MRC__TRY(mrc__need(ctx, node->in[0]));
    MRC__TRY(mrc__need(ctx, node->out));
    MRC__TRY(mrc_grad_target(ctx, node->in[0], dx));
    for (int k = 0; k < 4; k++) MRC__TRY(mrc__need(ctx, node->in[1 + k % 2 + 4 * (k / 2)]));
    for (int j = 0; j < 8; j++) {               // the kernel's order: a weight may be used twice
        MRC__TRY(mrc_grad_target(ctx, node->in[1 + j / 2 + 4 * (j % 2)], &targets[j / 2][j % 2]));
    }
    return MRC_OK;
}

MRCDEF mrc_tensor *mrc_lstm(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *const weights[8],
                            const mrc_batch *batch) {
    size_t n, h;
    mrc_node *node = mrc__rnn_node(ctx, MRC__OP_LSTM, 4, x, weights, batch, &n, &h);
    if (!node || mrc__node_save(ctx, node, 0, x->dtype, n * 8 * h) != MRC_OK
              || mrc__node_save(ctx, node, 1, mrc__stat_dtype(x->dtype), n * 2 * h) != MRC_OK) {
        return NULL;
    }
    node->attr.lstm.max_length = batch->max_length;
    return mrc__apply(ctx, node, x->dtype, 2, (const size_t[]){ n, 2 * h });
}

static mrc_status mrc__lstm_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    mrc_lstm_fwd_args a = {
        .n = x->shape[0], .n_sequences = node->in[9]->numel - 1, .in = x->shape[1],
        .h = node->out->shape[1] / 2, .max_length = node->attr.lstm.max_length,
        .cu_seqlens = mrc__in(node->in[9]), .x = mrc__in(x), .y = mrc__out(node->out),
        .gates = mrc__out(node->saved[0]), .cells = mrc__out(node->saved[1]) };
    mrc__rnn_weights(node, a.weight_ih, a.weight_hh, a.bias_ih, a.bias_hh);
    a.gates.ld = 8 * a.h;
    a.cells.ld = 2 * a.h;
    return MRC__RUN(ctx, x->dtype, lstm_fwd, &a);
}

static mrc_status mrc__lstm_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    mrc_lstm_bwd_args a = {
        .n = x->shape[0], .n_sequences = node->in[9]->numel - 1, .in = x->shape[1],
        .h = node->out->shape[1] / 2, .max_length = node->attr.lstm.max_length,
        .cu_seqlens = mrc__in(node->in[9]), .dy = mrc__dy(ctx, node),
        .gates = mrc__out(node->saved[0]), .cells = mrc__out(node->saved[1]) };
    mrc_out *const targets[] = { a.dweight_ih, a.dweight_hh, a.dbias_ih, a.dbias_hh };
    MRC__TRY(mrc__rnn_backward(ctx, node, &a.dx, targets));
    a.x = mrc__in(x);                           // where it is now: it may have been made again
    a.y = mrc__in(node->out);
    mrc__rnn_weights(node, a.weight_ih, a.weight_hh, NULL, NULL);
    a.gates.ld = 8 * a.h;
    a.cells.ld = 2 * a.h;
    return MRC__RUN(ctx, x->dtype, lstm_bwd, &a);
}
#endif

//==============================================================================
// >>op.gru
//   per sequence and direction, as in op.lstm:
//   r, z = sigmoid of  W_ih x_t + b_ih + W_hh h_(t-1) + b_hh        q = W_hn h_(t-1) + b_hn
//   n = tanh(W_in x_t + b_in + r q)         h_t = (1 - z) n + z h_(t-1)         y_t = h_t
//
//   dh = dy_t + z_(t+1) dh_(t+1) + W_hh^T (dr, dz, dq)_(t+1)
//   dn = dh (1-z) (1-n^2)   dz = dh (h_(t-1) - n) z(1-z)   dr = dn q r(1-r)   dq = dn r
//   dx = (dr, dz, dn) W_ih        dW_ih = (dr, dz, dn)^T x        db_ih = sum of (dr, dz, dn)
//   dW_hh = (dr, dz, dq)^T h_(t-1)                                db_hh = sum of (dr, dz, dq)
//
// As torch.nn.GRU with bidirectional=True.  Saves r, z, q, n of each direction (N, 8 H) in that
// order, so that what meets W_hh, and r and z of what meets W_ih, stand side by side; backward
// writes the gradients over them.
//==============================================================================
#ifdef MRC__PASS_NAIVE
// Element o of the 3 H of W_ih's rows, among the saved ones.
static size_t MRC__T(gru_column)(size_t o, size_t h) { return o < 2 * h ? o : o + h; }

static void MRC__T(gru_cell)(const mrc_gru_fwd_args *a, mrc_out gates, int dir, size_t row,
                             ptrdiff_t before) {
    const size_t h = a->h, d = (size_t)dir, g = d * 4 * h;
    for (size_t o = 0; o < 3 * h; o++) {
        double in = MRC__T(at)(a->bias_ih[dir], 0, o), state = MRC__T(at)(a->bias_hh[dir], 0, o);
        for (size_t i = 0; i < a->in; i++) {
            in += MRC__T(at)(a->weight_ih[dir], o, i) * MRC__T(at)(a->x, row, i);
        }
        for (size_t j = 0; before >= 0 && j < h; j++) {
            state += MRC__T(at)(a->weight_hh[dir], o, j)
                   * MRC__T(peek)(a->y, (size_t)before, d * h + j);
        }
        if (o < 2 * h) {
            MRC__T(put)(gates, row, g + o, MRC__T(sigmoid)(in + state));
            continue;
        }
        MRC__T(put)(gates, row, g + o, state);
        state = MRC__T(peek)(gates, row, g + o);
        MRC__T(put)(gates, row, g + o + h,
                    tanh(in + MRC__T(peek)(gates, row, g + o - 2 * h) * state));
    }
    for (size_t j = 0; j < h; j++) {
        double z = MRC__T(peek)(gates, row, g + h + j), n = MRC__T(peek)(gates, row, g + 3 * h + j);
        double was = before < 0 ? 0 : MRC__T(peek)(a->y, (size_t)before, d * h + j);
        MRC__T(put)(a->y, row, d * h + j, (1 - z) * n + z * was);
    }
}

// Where nothing is saved the gates of all rows live in the workspace.
static size_t MRC__T(gru_fwd_workspace)(mrc_backend *be, const mrc_gru_fwd_args *a) {
    (void)be;
    return a->gates.data ? 0 : a->n * a->h * 8 * sizeof(MRC__REAL);
}

static mrc_status MRC__T(gru_fwd)(mrc_backend *be, const mrc_gru_fwd_args *a) {
    const int32_t *cu = a->cu_seqlens.data;
    mrc_out gates = a->gates;
    (void)be;
    if (!gates.data) gates = (mrc_out){ a->y.dtype, 8 * a->h, a->workspace, 0 };
    for (size_t s = 0; s < a->n_sequences; s++) {
        int32_t n = cu[s + 1] - cu[s];
        for (int32_t t = 0; t < n; t++) {
            MRC__T(gru_cell)(a, gates, 0, (size_t)(cu[s] + t), t ? cu[s] + t - 1 : -1);
            int32_t last = cu[s + 1] - 1 - t;
            MRC__T(gru_cell)(a, gates, 1, (size_t)last, t ? last + 1 : -1);
        }
    }
    return MRC_OK;
}

// Gradients of one row over its gates; dh: z dh of the row after it, then of this one.
static void MRC__T(gru_cell_bwd)(const mrc_gru_bwd_args *a, double *dh, int dir, size_t row,
                                 ptrdiff_t before, ptrdiff_t after) {
    const size_t h = a->h, d = (size_t)dir, own = d * 4 * h;
    for (size_t j = 0; j < h; j++) {
        double gate[4], sum = dh[j] + MRC__T(at)(a->dy, row, d * h + j);
        for (size_t o = 0; after >= 0 && o < 3 * h; o++) {
            sum += MRC__T(peek)(a->gates, (size_t)after, own + o)
                 * MRC__T(at)(a->weight_hh[dir], o, j);
        }
        // forward was: n = tanh(.. + r q);  h_t = (1 - z) n + z h_(t-1)
        for (size_t k = 0; k < 4; k++) gate[k] = MRC__T(peek)(a->gates, row, own + k * h + j);
        double r = gate[0], z = gate[1], q = gate[2], n = gate[3];
        double was = before < 0 ? 0 : MRC__T(at)(a->y, (size_t)before, d * h + j);
        double dn = sum * (1 - z) * (1 - n * n);
        MRC__T(put)(a->gates, row, own + j, dn * q * r * (1 - r));
        MRC__T(put)(a->gates, row, own + h + j, sum * (was - n) * z * (1 - z));
        MRC__T(put)(a->gates, row, own + 2 * h + j, dn * r);
        MRC__T(put)(a->gates, row, own + 3 * h + j, dn);
        dh[j] = sum * z;
    }
}

static size_t MRC__T(gru_bwd_workspace)(mrc_backend *be, const mrc_gru_bwd_args *a) {
    (void)be;
    return a->h * sizeof(double);
}

// The gradients of one direction's gates as a matrix (N, 4 H).
static mrc_in MRC__T(gru_dz)(const mrc_gru_bwd_args *a, int dir) {
    return (mrc_in){ a->gates.dtype, 8 * a->h,
                     (const MRC__REAL *)a->gates.data + (size_t)dir * 4 * a->h };
}

static void MRC__T(gru_dweight)(const mrc_gru_bwd_args *a, int dir, int of_hh) {
    const mrc_in dz = MRC__T(gru_dz)(a, dir);
    const mrc_out to = of_hh ? a->dweight_hh[dir] : a->dweight_ih[dir];
    const int32_t *cu = a->cu_seqlens.data;
    for (size_t o = 0; to.data && o < 3 * a->h; o++) {
        size_t column = of_hh ? o : MRC__T(gru_column)(o, a->h);
        for (size_t i = 0; i < (of_hh ? a->h : a->in); i++) {
            double dw = 0;
            for (size_t s = 0; s < a->n_sequences; s++) {
                for (int32_t r = cu[s]; r < cu[s + 1]; r++) {
                    int32_t from = !of_hh ? r : dir ? r + 1 : r - 1;
                    if (from < cu[s] || from >= cu[s + 1]) continue;
                    dw += MRC__T(at)(dz, (size_t)r, column)
                        * (of_hh ? MRC__T(at)(a->y, (size_t)from, (size_t)dir * a->h + i)
                                 : MRC__T(at)(a->x, (size_t)from, i));
                }
            }
            MRC__T(put)(to, o, i, dw);
        }
    }
}

static void MRC__T(gru_dbias)(const mrc_gru_bwd_args *a, int dir, int of_hh) {
    const mrc_in dz = MRC__T(gru_dz)(a, dir);
    const mrc_out to = of_hh ? a->dbias_hh[dir] : a->dbias_ih[dir];
    for (size_t o = 0; to.data && o < 3 * a->h; o++) {
        size_t column = of_hh ? o : MRC__T(gru_column)(o, a->h);
        double db = 0;
        for (size_t r = 0; r < a->n; r++) db += MRC__T(at)(dz, r, column);
        MRC__T(put)(to, 0, o, db);
    }
}

static mrc_status MRC__T(gru_bwd)(mrc_backend *be, const mrc_gru_bwd_args *a) {
    const int32_t *cu = a->cu_seqlens.data;
    double *dh = a->workspace;
    (void)be;
    for (size_t s = 0; s < a->n_sequences; s++) {
        for (int dir = 0; dir < 2; dir++) {
            for (size_t j = 0; j < a->h; j++) dh[j] = 0;
            int32_t n = cu[s + 1] - cu[s];
            for (int32_t t = n - 1; t >= 0; t--) {      // against the order of forward
                int32_t row = dir ? cu[s + 1] - 1 - t : cu[s] + t, step = dir ? -1 : 1;
                MRC__T(gru_cell_bwd)(a, dh, dir, (size_t)row, t ? row - step : -1,
                                     t < n - 1 ? row + step : -1);
            }
        }
    }
    for (size_t r = 0; a->dx.data && r < a->n; r++) {
        for (size_t i = 0; i < a->in; i++) {
            double dx = 0;
            for (size_t o = 0; o < 6 * a->h; o++) {
                int dir = o >= 3 * a->h;
                size_t row = o % (3 * a->h);
                dx += MRC__T(at)(MRC__T(gru_dz)(a, dir), r, MRC__T(gru_column)(row, a->h))
                    * MRC__T(at)(a->weight_ih[dir], row, i);
            }
            MRC__T(put)(a->dx, r, i, dx);
        }
    }
    for (int k = 0; k < 4; k++) MRC__T(gru_dweight)(a, k % 2, k / 2);
    for (int k = 0; k < 4; k++) MRC__T(gru_dbias)(a, k % 2, k / 2);
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
MRCDEF mrc_tensor *mrc_gru(mrc_ctx *ctx, mrc_tensor *x, mrc_tensor *const weights[8],
                           const mrc_batch *batch) {
    size_t n, h;
    mrc_node *node = mrc__rnn_node(ctx, MRC__OP_GRU, 3, x, weights, batch, &n, &h);
    if (!node || mrc__node_save(ctx, node, 0, x->dtype, n * 8 * h) != MRC_OK) return NULL;
    node->attr.gru.max_length = batch->max_length;
    return mrc__apply(ctx, node, x->dtype, 2, (const size_t[]){ n, 2 * h });
}

static mrc_status mrc__gru_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    mrc_gru_fwd_args a = {
        .n = x->shape[0], .n_sequences = node->in[9]->numel - 1, .in = x->shape[1],
        .h = node->out->shape[1] / 2, .max_length = node->attr.gru.max_length,
        .cu_seqlens = mrc__in(node->in[9]), .x = mrc__in(x), .y = mrc__out(node->out),
        .gates = mrc__out(node->saved[0]) };
    mrc__rnn_weights(node, a.weight_ih, a.weight_hh, a.bias_ih, a.bias_hh);
    a.gates.ld = 8 * a.h;
    return MRC__RUN(ctx, x->dtype, gru_fwd, &a);
}

static mrc_status mrc__gru_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    mrc_gru_bwd_args a = {
        .n = x->shape[0], .n_sequences = node->in[9]->numel - 1, .in = x->shape[1],
        .h = node->out->shape[1] / 2, .max_length = node->attr.gru.max_length,
        .cu_seqlens = mrc__in(node->in[9]), .dy = mrc__dy(ctx, node),
        .gates = mrc__out(node->saved[0]) };
    mrc_out *const targets[] = { a.dweight_ih, a.dweight_hh, a.dbias_ih, a.dbias_hh };
    MRC__TRY(mrc__rnn_backward(ctx, node, &a.dx, targets));
    a.x = mrc__in(x);
    a.y = mrc__in(node->out);
    mrc__rnn_weights(node, a.weight_ih, a.weight_hh, NULL, NULL);
    a.gates.ld = 8 * a.h;
    return MRC__RUN(ctx, x->dtype, gru_bwd, &a);
}
#endif

//==============================================================================
// >>op.unfold
//   y[r][i K + k] = x[r + k - K / 2][i]   within r's sequence, else 0
//   dx[r][i] = sum over k of dy[r - k + K / 2][i K + k]
//
// x (N, I) -> (N, I K), K odd: the windows of a convolution with "same" padding.  Saves nothing;
// backward does not read x, and a dropped y is made again.
//==============================================================================
#ifdef MRC__PASS_NAIVE
static mrc_status MRC__T(unfold_fwd)(mrc_backend *be, const mrc_unfold_fwd_args *a) {
    const int32_t *cu = a->cu_seqlens.data, half = (int32_t)(a->size / 2);
    (void)be;
    for (size_t s = 0; s < a->n_sequences; s++) {
        for (int32_t r = cu[s]; r < cu[s + 1]; r++) {
            for (size_t o = 0; o < a->in * a->size; o++) {
                int32_t from = r + (int32_t)(o % a->size) - half;
                double x = from < cu[s] || from >= cu[s + 1] ? 0
                         : MRC__T(at)(a->x, (size_t)from, o / a->size);
                MRC__T(put)(a->y, (size_t)r, o, x);
            }
        }
    }
    return MRC_OK;
}

static mrc_status MRC__T(unfold_bwd)(mrc_backend *be, const mrc_unfold_bwd_args *a) {
    const int32_t *cu = a->cu_seqlens.data, half = (int32_t)(a->size / 2);
    (void)be;
    for (size_t s = 0; s < a->n_sequences; s++) {
        for (int32_t r = cu[s]; r < cu[s + 1]; r++) {
            for (size_t i = 0; i < a->in; i++) {
                double dx = 0;
                for (size_t k = 0; k < a->size; k++) {
                    // forward was: y[to] has x[to + k - half]
                    int32_t to = r - (int32_t)k + half;
                    if (to < cu[s] || to >= cu[s + 1]) continue;
                    dx += MRC__T(at)(a->dy, (size_t)to, i * a->size + k);
                }
                MRC__T(put)(a->dx, (size_t)r, i, dx);
            }
        }
    }
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
static mrc_status mrc__unfold_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    mrc_unfold_fwd_args a = { .n = x->shape[0], .n_sequences = node->in[1]->numel - 1,
                              .in = x->shape[1], .size = node->attr.unfold.size,
                              .cu_seqlens = mrc__in(node->in[1]), .x = mrc__in(x),
                              .y = mrc__out(node->out) };
    return MRC__RUN(ctx, x->dtype, unfold_fwd, &a);
}

MRCDEF mrc_tensor *mrc_unfold(mrc_ctx *ctx, mrc_tensor *x, size_t size, const mrc_batch *batch) {
    if (!ctx || !x || !batch || !batch->cu_seqlens) return NULL;
    if (!mrc__rows_fit(ctx, "unfold", x, batch)) return NULL;
    size_t shape[2] = { x->shape[0], 0 };
    if (size % 2 == 0 || size > INT32_MAX || !mrc__mul(x->shape[1], size, &shape[1])) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "unfold: windows of %zu rows, not an odd number",
                              size);
    }
    mrc_node *node = mrc__node_new(ctx, MRC__OP_UNFOLD,
                                   (mrc_tensor *[]){ x, batch->cu_seqlens }, 2);
    if (!node) return NULL;
    node->attr.unfold.size = size;
    node->remake = mrc__unfold_forward;
    return mrc__apply(ctx, node, x->dtype, 2, shape);
}

static mrc_status mrc__unfold_backward(mrc_ctx *ctx, mrc_node *node) {
    mrc_tensor *x = node->in[0];
    mrc_unfold_bwd_args a = { .n = x->shape[0], .n_sequences = node->in[1]->numel - 1,
                              .in = x->shape[1], .size = node->attr.unfold.size,
                              .cu_seqlens = mrc__in(node->in[1]), .dy = mrc__dy(ctx, node) };
    MRC__TRY(mrc_grad_target(ctx, x, &a.dx));
    return MRC__RUN(ctx, x->dtype, unfold_bwd, &a);
}
#endif

//==============================================================================
// >>op.cross_entropy
//   lse_cs = log sum over rows i of sequence s, in its loss window, of exp(l_ic)
//   loss   = sum over c of (sum over counted s of alpha f(lp)) / denominator_c
//   dl_ic  = dloss * alpha slope (exp(l_ic - lse_cs) - t_i) / denominator_c,
//            0 outside the window and where s is not counted
//   with lp_i = l_ic - lse_cs, y the target, p = exp(lp_y), t_i = [i = y] unless smoothed:
//     cross-entropy    f = -lp_y                       slope = 1
//     focal            f = -(1 - p)^g lp_y             slope = (1 - p)^g - g (1 - p)^(g-1) p lp_y
//                      (reference: the first term alone, as its backward takes p for a constant)
//     label smoothing  f = -sum over i of t_i lp_i     slope = 1, as the sum of t_i is 1
//
// logits (N, C) or (N), targets (C, B), denominator (C) -> loss ().  The softmax is over rows of a
// sequence: the start (column 0) or the end (1) of an answer.  A target outside the window is not
// counted (-1 by convention; HF ignores positions past the window too).  The denominators come from
// the caller, who knows the optimizer step; 0 means that nothing counts.  Saves lse (C, B).
//==============================================================================
#ifdef MRC__PASS_CORE
// t_y and the t of the other k - 1 rows, if there are any: the sum is 1.
static void mrc__loss_targets(const mrc_loss *loss, size_t k, double *own, double *other) {
    double s = loss->kind == MRC_LOSS_LABEL_SMOOTHING ? loss->smoothing : 0, n = (double)k;
    *other = k < 2 ? 0 : loss->reference ? s / (n - 1) : s / n;
    *own = k < 2 ? 1 : 1 - s + (loss->reference ? 0 : *other);
}

// f, from lp_y and the sum of lp over the k rows.
static double mrc__loss_value(const mrc_loss *loss, size_t k, double lp, double sum) {
    double own, other;
    if (loss->kind == MRC_LOSS_FOCAL) return -pow(-expm1(lp), loss->gamma) * lp;
    if (loss->kind != MRC_LOSS_LABEL_SMOOTHING) return -lp;
    mrc__loss_targets(loss, k, &own, &other);
    return -(own * lp + other * (sum - lp));
}

static double mrc__loss_slope(const mrc_loss *loss, double lp) {
    double gamma = loss->gamma, left = -expm1(lp);      // 1 - p
    if (loss->kind != MRC_LOSS_FOCAL) return 1;
    double slope = pow(left, gamma);
    if (loss->reference || !(left > 0) || gamma == 0) return slope;
    return slope - gamma * pow(left, gamma - 1) * exp(lp) * lp;
}
#endif

#ifdef MRC__PASS_NAIVE
static double MRC__T(cross_entropy_share)(mrc_in denominator, size_t c) {
    double d = MRC__T(at)(denominator, 0, c);
    return d > 0 ? 1 / d : 0;
}

// log sum of exp over rows begin to end of column c.
static double MRC__T(window_lse)(mrc_in logits, size_t begin, size_t end, size_t c) {
    double max = -HUGE_VAL, sum = 0;
    for (size_t i = begin; i < end; i++) max = fmax(max, MRC__T(at)(logits, i, c));
    for (size_t i = begin; i < end; i++) sum += exp(MRC__T(at)(logits, i, c) - max);
    return max + log(sum);
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
            double lse = MRC__T(window_lse)(a->logits, begin, end, c), sum = 0;
            MRC__T(put)(a->lse, c, s, lse);     // of an empty window -inf, which nothing reads
            if (targets[s] < from[s] || targets[s] >= to[s]) continue;
            double lp = MRC__T(at)(a->logits, (size_t)(cu[s] + targets[s]), c) - lse;
            double alpha = a->alpha.data ? MRC__T(at)(a->alpha, 0, (size_t)targets[s]) : 1;
            if (a->criterion.kind == MRC_LOSS_LABEL_SMOOTHING) {
                for (size_t i = begin; i < end; i++) sum += MRC__T(at)(a->logits, i, c) - lse;
            }
            column += alpha * mrc__loss_value(&a->criterion, end - begin, lp, sum);
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
            double slope = 0, own, other, lse = MRC__T(at)(a->lse, c, s);
            mrc__loss_targets(&a->criterion, (size_t)(to[s] - from[s]), &own, &other);
            if (counted) {
                // forward was: column += alpha * f(l_target - lse)
                double lp = MRC__T(at)(a->logits, (size_t)(cu[s] + targets[s]), c) - lse;
                slope = scale * mrc__loss_slope(&a->criterion, lp);
                if (a->alpha.data) slope *= MRC__T(at)(a->alpha, 0, (size_t)targets[s]);
            }
            for (int32_t i = 0; i < cu[s + 1] - cu[s]; i++) {
                size_t row = (size_t)(cu[s] + i);
                double dl = 0;
                if (counted && i >= from[s] && i < to[s]) {
                    double p = exp(MRC__T(at)(a->logits, row, c) - lse);
                    dl = slope * (p - (i == targets[s] ? own : other));
                }
                MRC__T(put)(a->dlogits, row, c, dl);
            }
        }
    }
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
// Whether logits, targets and denominators are of the batch; 0 with an error when not.
static int mrc__loss_fits(mrc_ctx *ctx, const char *op, const mrc_tensor *logits,
                          const mrc_tensor *targets, const mrc_tensor *denominator,
                          const mrc_batch *batch) {
    size_t columns = logits->ndim == 2 ? logits->shape[1] : 1;
    mrc_dtype stat = mrc__stat_dtype(logits->dtype);
    if (logits->ndim < 1 || logits->ndim > 2 || logits->shape[0] != batch->n_tokens
        || targets->numel != batch->n_sequences * columns || denominator->numel != columns) {
        mrc__fail(ctx, MRC_ERR_SHAPE, "%s: %zu logits, %zu tokens, %zu columns; %zu targets, %zu "
                  "sequences; %zu denominators", op, logits->numel, batch->n_tokens, columns,
                  targets->numel, batch->n_sequences, denominator->numel);
        return 0;
    }
    if (targets->dtype == MRC_DTYPE_I32 && denominator->dtype == stat) return 1;
    mrc__fail(ctx, MRC_ERR_ARG, "%s: targets are %s, not i32; denominators %s, not %s", op,
              mrc_dtype_name(targets->dtype), mrc_dtype_name(denominator->dtype),
              mrc_dtype_name(stat));
    return 0;
}

// alpha NULL: every target has the weight 1.
static mrc_tensor *mrc__loss_build(mrc_ctx *ctx, mrc_tensor *logits, mrc_tensor *targets,
                                   mrc_tensor *denominator, mrc_tensor *alpha,
                                   const mrc_loss *loss, const mrc_batch *batch) {
    if (!ctx || !logits || !targets || !denominator || !loss || !batch || !batch->loss_end) {
        return NULL;
    }
    if (!mrc__loss_fits(ctx, "cross_entropy", logits, targets, denominator, batch)) return NULL;
    mrc_dtype stat = mrc__stat_dtype(logits->dtype);
    if (!(loss->gamma >= 0 && loss->gamma <= DBL_MAX)
        || !(loss->smoothing >= 0 && loss->smoothing < 1)) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "cross_entropy: gamma is %g, not finite from 0; "
                              "smoothing %g, not in [0, 1)", loss->gamma, loss->smoothing);
    }
    if (alpha && (alpha->numel < batch->max_length || alpha->dtype != stat)) {
        return mrc__fail_null(ctx, MRC_ERR_SHAPE, "cross_entropy: alpha has %zu elements of %s, "
                              "the longest sequence %zu rows of %s", alpha->numel,
                              mrc_dtype_name(alpha->dtype), batch->max_length,
                              mrc_dtype_name(stat));
    }
    mrc_tensor *in[] = { logits, targets, batch->cu_seqlens, batch->loss_begin, batch->loss_end,
                         denominator, alpha };
    mrc_node *node = mrc__node_new(ctx, MRC__OP_CROSS_ENTROPY, in, alpha ? 7 : 6);
    if (!node || mrc__node_save(ctx, node, 0, stat, targets->numel) != MRC_OK) return NULL;
    node->attr.loss.criterion = *loss;
    return mrc__apply(ctx, node, stat, 0, NULL);
}

MRCDEF mrc_tensor *mrc_cross_entropy(mrc_ctx *ctx, mrc_tensor *logits, mrc_tensor *targets,
                                     mrc_tensor *denominator, const mrc_batch *batch) {
    const mrc_loss loss = { .kind = MRC_LOSS_CE };
    return mrc__loss_build(ctx, logits, targets, denominator, NULL, &loss, batch);
}

MRCDEF mrc_tensor *mrc_span_loss(mrc_ctx *ctx, mrc_tensor *logits, mrc_tensor *targets,
                                 mrc_tensor *denominator, const mrc_loss *loss,
                                 const mrc_batch *batch) {
    return mrc__loss_build(ctx, logits, targets, denominator, NULL, loss, batch);
}

MRCDEF mrc_tensor *mrc_weighted_loss(mrc_ctx *ctx, mrc_tensor *logits, mrc_tensor *targets,
                                     mrc_tensor *denominator, mrc_tensor *alpha,
                                     const mrc_loss *loss, const mrc_batch *batch) {
    if (!alpha) return NULL;
    return mrc__loss_build(ctx, logits, targets, denominator, alpha, loss, batch);
}

static mrc_status mrc__cross_entropy_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_cross_entropy_fwd_args a = {
        .n_sequences = node->in[3]->numel, .columns = node->in[5]->numel,
        .criterion = node->attr.loss.criterion,
        .logits = mrc__in(node->in[0]), .targets = mrc__in(node->in[1]),
        .cu_seqlens = mrc__in(node->in[2]), .loss_begin = mrc__in(node->in[3]),
        .loss_end = mrc__in(node->in[4]), .denominator = mrc__in(node->in[5]),
        .loss = mrc__out(node->out), .lse = mrc__out(node->saved[0]) };
    if (node->n_in > 6) a.alpha = mrc__in(node->in[6]);
    a.logits.ld = a.columns;
    a.lse.ld = a.n_sequences;
    return MRC__RUN(ctx, node->in[0]->dtype, cross_entropy_fwd, &a);
}

static mrc_status mrc__cross_entropy_backward(mrc_ctx *ctx, mrc_node *node) {
    MRC__TRY(mrc__need(ctx, node->in[0]));
    mrc_cross_entropy_bwd_args a = {
        .n_sequences = node->in[3]->numel, .columns = node->in[5]->numel,
        .criterion = node->attr.loss.criterion,
        .logits = mrc__in(node->in[0]), .targets = mrc__in(node->in[1]),
        .cu_seqlens = mrc__in(node->in[2]), .loss_begin = mrc__in(node->in[3]),
        .loss_end = mrc__in(node->in[4]), .denominator = mrc__in(node->in[5]),
        .lse = mrc__in(node->saved[0]), .dloss = mrc__dy(ctx, node) };
    if (node->n_in > 6) a.alpha = mrc__in(node->in[6]);
    MRC__TRY(mrc_grad_target(ctx, node->in[0], &a.dlogits));
    a.logits.ld = a.dlogits.ld = a.columns;
    a.lse.ld = a.n_sequences;
    return MRC__RUN(ctx, node->in[0]->dtype, cross_entropy_bwd, &a);
}
#endif

//==============================================================================
// >>op.symmetric_kl
//   p, q: softmax over a sequence's loss window of logits and of other
//   loss = sum over c of (sum over counted s of (KL(p || q) + KL(q || p)) / 2) / denominator_c
//   KL(p || q) = sum over i of p_i (lp_i - lq_i)
//   dlogits_i = dloss / (2 denominator_c) * (p_i (lp_i - lq_i - KL(p || q)) + p_i - q_i)
//   dother_i  = the same with p and q exchanged
//
// R-Drop's distance between two passes that differ in dropout only (Liang et al., "R-Drop:
// regularized dropout for neural networks", 2021).  Counted as in op.cross_entropy.  Saves
// (4, C B): log-sum-exp of logits and of other, KL(p || q), KL(q || p).
//==============================================================================
#ifdef MRC__PASS_NAIVE
// Sequence s, column c: its four saved numbers; returns whether it counts.
static int MRC__T(symmetric_kl_of)(const mrc_symmetric_kl_fwd_args *a, size_t c, size_t s,
                                   double saved[4]) {
    const int32_t *cu = a->cu_seqlens.data, *from = a->loss_begin.data, *to = a->loss_end.data;
    const int32_t target = ((const int32_t *)a->targets.data)[c * a->n_sequences + s];
    size_t begin = (size_t)(cu[s] + from[s]), end = (size_t)(cu[s] + to[s]);
    for (int k = 0; k < 4; k++) saved[k] = 0;
    if (target < from[s] || target >= to[s]) return 0;
    saved[0] = MRC__T(window_lse)(a->logits, begin, end, c);
    saved[1] = MRC__T(window_lse)(a->other, begin, end, c);
    for (size_t i = begin; i < end; i++) {
        double lp = MRC__T(at)(a->logits, i, c) - saved[0];
        double lq = MRC__T(at)(a->other, i, c) - saved[1];
        saved[2] += exp(lp) * (lp - lq);
        saved[3] += exp(lq) * (lq - lp);
    }
    return 1;
}

static mrc_status MRC__T(symmetric_kl_fwd)(mrc_backend *be, const mrc_symmetric_kl_fwd_args *a) {
    double loss = 0, saved[4];
    (void)be;
    for (size_t c = 0; c < a->columns; c++) {
        double column = 0;
        for (size_t s = 0; s < a->n_sequences; s++) {
            MRC__T(symmetric_kl_of)(a, c, s, saved);
            column += (saved[2] + saved[3]) / 2;
            for (size_t k = 0; k < 4; k++) {
                MRC__T(put)(a->saved, k, c * a->n_sequences + s, saved[k]);
            }
        }
        loss += column * MRC__T(cross_entropy_share)(a->denominator, c);
    }
    MRC__T(put)(a->loss, 0, 0, loss);
    return MRC_OK;
}

// The gradient of one side; mine: 0 logits, 1 other.
static void MRC__T(symmetric_kl_side)(const mrc_symmetric_kl_bwd_args *a, size_t mine) {
    const int32_t *cu = a->cu_seqlens.data, *from = a->loss_begin.data, *to = a->loss_end.data;
    const mrc_in own = mine ? a->other : a->logits, its = mine ? a->logits : a->other;
    const mrc_out d = mine ? a->dother : a->dlogits;
    for (size_t c = 0; d.data && c < a->columns; c++) {
        const int32_t *targets = (const int32_t *)a->targets.data + c * a->n_sequences;
        double scale = MRC__T(at)(a->dloss, 0, 0) / 2;
        scale *= MRC__T(cross_entropy_share)(a->denominator, c);
        for (size_t s = 0; s < a->n_sequences; s++) {
            int counted = targets[s] >= from[s] && targets[s] < to[s];
            double saved[4];
            for (size_t k = 0; k < 4; k++) {
                saved[k] = MRC__T(at)(a->saved, k, c * a->n_sequences + s);
            }
            for (int32_t i = 0; i < cu[s + 1] - cu[s]; i++) {
                size_t row = (size_t)(cu[s] + i);
                double dl = 0;
                if (counted && i >= from[s] && i < to[s]) {
                    // forward was: KL(p || q) = sum of p (lp - lq), and the same of q
                    double lp = MRC__T(at)(own, row, c) - saved[mine];
                    double lq = MRC__T(at)(its, row, c) - saved[1 - mine];
                    dl = scale * (exp(lp) * (lp - lq - saved[2 + mine]) + exp(lp) - exp(lq));
                }
                MRC__T(put)(d, row, c, dl);
            }
        }
    }
}

static mrc_status MRC__T(symmetric_kl_bwd)(mrc_backend *be, const mrc_symmetric_kl_bwd_args *a) {
    (void)be;
    MRC__T(symmetric_kl_side)(a, 0);
    MRC__T(symmetric_kl_side)(a, 1);
    return MRC_OK;
}
#endif

#ifdef MRC__PASS_CORE
MRCDEF mrc_tensor *mrc_symmetric_kl(mrc_ctx *ctx, mrc_tensor *logits, mrc_tensor *other,
                                    mrc_tensor *targets, mrc_tensor *denominator,
                                    const mrc_batch *batch) {
    if (!ctx || !logits || !other || !targets || !denominator || !batch || !batch->loss_end) {
        return NULL;
    }
    if (!mrc__loss_fits(ctx, "symmetric_kl", logits, targets, denominator, batch)) return NULL;
    if (other->numel != logits->numel || other->dtype != logits->dtype) {
        return mrc__fail_null(ctx, MRC_ERR_SHAPE, "symmetric_kl: %zu logits of %s against %zu of "
                              "%s", logits->numel, mrc_dtype_name(logits->dtype), other->numel,
                              mrc_dtype_name(other->dtype));
    }
    mrc_dtype stat = mrc__stat_dtype(logits->dtype);
    mrc_tensor *in[] = { logits, other, targets, batch->cu_seqlens, batch->loss_begin,
                         batch->loss_end, denominator };
    mrc_node *node = mrc__node_new(ctx, MRC__OP_SYMMETRIC_KL, in, 7);
    if (!node || mrc__node_save(ctx, node, 0, stat, 4 * targets->numel) != MRC_OK) return NULL;
    return mrc__apply(ctx, node, stat, 0, NULL);
}

static mrc_status mrc__symmetric_kl_forward(mrc_ctx *ctx, mrc_node *node) {
    mrc_symmetric_kl_fwd_args a = {
        .n_sequences = node->in[4]->numel, .columns = node->in[6]->numel,
        .logits = mrc__in(node->in[0]), .other = mrc__in(node->in[1]),
        .targets = mrc__in(node->in[2]), .cu_seqlens = mrc__in(node->in[3]),
        .loss_begin = mrc__in(node->in[4]), .loss_end = mrc__in(node->in[5]),
        .denominator = mrc__in(node->in[6]), .loss = mrc__out(node->out),
        .saved = mrc__out(node->saved[0]) };
    a.logits.ld = a.other.ld = a.columns;
    a.saved.ld = a.columns * a.n_sequences;
    return MRC__RUN(ctx, node->in[0]->dtype, symmetric_kl_fwd, &a);
}

static mrc_status mrc__symmetric_kl_backward(mrc_ctx *ctx, mrc_node *node) {
    for (int k = 0; k < 2; k++) MRC__TRY(mrc__need(ctx, node->in[k]));
    mrc_symmetric_kl_bwd_args a = {
        .n_sequences = node->in[4]->numel, .columns = node->in[6]->numel,
        .logits = mrc__in(node->in[0]), .other = mrc__in(node->in[1]),
        .targets = mrc__in(node->in[2]), .cu_seqlens = mrc__in(node->in[3]),
        .loss_begin = mrc__in(node->in[4]), .loss_end = mrc__in(node->in[5]),
        .denominator = mrc__in(node->in[6]), .saved = mrc__in(node->saved[0]),
        .dloss = mrc__dy(ctx, node) };
    MRC__TRY(mrc_grad_target(ctx, node->in[0], &a.dlogits));
    MRC__TRY(mrc_grad_target(ctx, node->in[1], &a.dother));
    a.logits.ld = a.other.ld = a.dlogits.ld = a.dother.ld = a.columns;
    a.saved.ld = a.columns * a.n_sequences;
    return MRC__RUN(ctx, node->in[0]->dtype, symmetric_kl_bwd, &a);
}
#endif

//==============================================================================
// >>op.optim   the optimizer's kernels: no nodes, run by mrc_optimizer_step()
//   norm = sqrt(sum over all gradients of g^2) / s     clip = min(1, max_norm / (norm + 1e-6)) / s,
//   s: the loss scale, or 1
//   g = clip * gradient     m = b1 m + (1 - b1) g     v = b2 v + (1 - b2) g^2,  t: steps applied
//   hf:     p -= lr sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps);  then  p -= lr wd p
//   torch:  p -= lr wd p;  p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
//   adamp:  u = m / (sqrt(v) / sqrt(1 - b2^t) + eps), nesterov with b1 m + (1 - b1) g for m;
//           where g is across p:  u -= n (n . u), n = p / (|p| + eps), and wd *= wd_ratio;
//           p -= lr wd p;  p -= lr / (1 - b1^t) * u
//   sgd:    g += wd p;  m = momentum m + g;  p -= lr m
//   ema:    m = decay m + (1 - decay) p                  perturb:  p += eps g / |g|
//
// PARITY 3.11.  The two AdamWs differ in where eps stands and in the order of the decay.  AdamP is
// that of Heo et al., "AdamP: slowing down the slowdown for momentum optimizers", 2021, as package
// 0.3.0 does it.  A gradient that is not finite makes the norm so: then nothing is written and t
// does not count.
//==============================================================================
#ifdef MRC__PASS_CORE
// |cos| of two vectors, from their products; norms below eps count as eps.
static double mrc__cosine(double gg, double pp, double gp, double eps) {
    return fabs(gp) / (fmax(sqrt(gg), eps) * fmax(sqrt(pp), eps));
}

static double mrc__perturb_scale(double eps, double sum_of_squares) {
    return sum_of_squares > 0 && sum_of_squares <= DBL_MAX ? eps / sqrt(sum_of_squares) : 0;
}
static void mrc__loss_scale_update(const mrc_loss_scale *l, int overflow) {
    float *scale = l->scale.data;
    int32_t *counts = l->counts.data;
    if (overflow) {
        counts[0] = 0;
        if (counts[1] < l->hysteresis) counts[1]++;
        if (counts[1] == l->hysteresis && *scale > 1) *scale = *scale > 2 ? *scale / 2 : 1;
    } else if (++counts[0] >= l->growth_interval) {
        counts[0] = counts[1] = 0;
        if (*scale < 0x1p126f) *scale *= 2;
    }
}

// A scalar of a host backend.
static void mrc__put_scalar(mrc_out to, double value) {
    if (!to.data) return;
    if (to.dtype == MRC_DTYPE_F64) *(double *)to.data = value;
    else *(float *)to.data = (float)value;
}

// What grad_norm does once it has the sum of squares, on a host backend of any type.
static void mrc__grad_norm_end(const mrc_grad_norm_args *a, double sum) {
    const double scale = a->loss_scale.scale.data ? *(float *)a->loss_scale.scale.data : 1;
    const double norm = sqrt(sum) / scale;
    double clip = a->max_norm > 0 ? a->max_norm / (norm + 1e-6) : 1;
    int32_t *state = a->state.data;
    mrc__put_scalar(a->norm, norm);
    mrc__put_scalar(a->clip, (clip < 1 ? clip : 1) / scale);
    state[1] = !(norm <= (a->norm.dtype == MRC_DTYPE_F64 ? DBL_MAX : (double)FLT_MAX));
    state[0] += !state[1];
    if (a->loss_scale.scale.data) mrc__loss_scale_update(&a->loss_scale, state[1]);
}
#endif

#if defined(MRC__PASS_NAIVE) && !MRC__MIXED
static mrc_status MRC__T(grad_norm)(mrc_backend *be, const mrc_grad_norm_args *a) {
    double sum = 0;
    (void)be;
    for (size_t k = 0; k < a->n_tensors; k++) {
        for (size_t i = 0; i < a->tensors[k].numel; i++) {
            double g = MRC__T(at)(a->tensors[k].grad, 0, i);
            sum += g * g;
        }
    }
    mrc__grad_norm_end(a, sum);
    return MRC_OK;
}

static void MRC__T(write_copy)(const mrc_optim_tensor *t) {
    if (t->copy.data) mrc__narrow(t->copy.dtype, t->copy.data, t->param.data, t->numel);
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
    MRC__T(write_copy)(t);
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

// The step m / d of element i, from the moments as they are stored.
static double MRC__T(adamp_step)(const mrc_adamp_args *a, const mrc_optim_tensor *t, size_t i,
                                 double clip, double c2) {
    double m = ((const MRC__REAL *)t->m.data)[i], v = ((const MRC__REAL *)t->v.data)[i];
    if (a->nesterov) m = a->beta1 * m + (1 - a->beta1) * clip * MRC__T(at)(t->grad, 0, i);
    return m / (sqrt(v) / sqrt(c2) + a->eps);
}

// Whether no row of this view has |cos(gradient, weight)| of delta / sqrt(columns) or more.
static int MRC__T(adamp_across)(const mrc_adamp_args *a, const mrc_optim_tensor *t, double clip,
                                size_t rows) {
    size_t columns = t->numel / rows;
    double most = 0;
    for (size_t r = 0; r < rows; r++) {
        double gg = 0, pp = 0, gp = 0;
        for (size_t i = r * columns; i < (r + 1) * columns; i++) {
            double g = clip * MRC__T(at)(t->grad, 0, i), p = ((const MRC__REAL *)t->param.data)[i];
            gg += g * g;
            pp += p * p;
            gp += g * p;
        }
        double cosine = mrc__cosine(gg, pp, gp, a->eps);
        if (!(cosine <= most)) most = cosine;
    }
    return most < a->delta / sqrt((double)columns);
}

static void MRC__T(adamp_one)(const mrc_adamp_args *a, const mrc_optim_tensor *t, double clip,
                              double c1, double c2) {
    size_t rows = 0;                            // of the view that is projected; 0: none
    for (size_t i = 0; i < t->numel; i++) {
        double g = clip * MRC__T(at)(t->grad, 0, i);
        MRC__REAL *m = (MRC__REAL *)t->m.data + i, *v = (MRC__REAL *)t->v.data + i;
        *m = (MRC__REAL)(a->beta1 * *m + (1 - a->beta1) * g);
        *v = (MRC__REAL)(a->beta2 * *v + (1 - a->beta2) * g * g);
    }
    if (t->rows && t->numel) {
        rows = MRC__T(adamp_across)(a, t, clip, t->rows) ? t->rows
             : MRC__T(adamp_across)(a, t, clip, 1) ? 1 : 0;
    }
    double decay = 1 - t->lr * t->weight_decay * (rows ? a->wd_ratio : 1);
    size_t n = rows ? rows : 1, columns = t->numel / n;
    for (size_t r = 0; r < n; r++) {
        MRC__REAL *param = (MRC__REAL *)t->param.data + r * columns;
        double pp = 0, pu = 0;
        for (size_t i = 0; rows && i < columns; i++) {
            pp += (double)param[i] * param[i];
            pu += param[i] * MRC__T(adamp_step)(a, t, r * columns + i, clip, c2);
        }
        double norm = sqrt(pp) + a->eps, along = rows ? pu / (norm * norm) : 0;
        for (size_t i = 0; i < columns; i++) {
            double u = MRC__T(adamp_step)(a, t, r * columns + i, clip, c2) - along * param[i];
            param[i] = (MRC__REAL)(param[i] * decay - t->lr / c1 * u);
        }
    }
    MRC__T(write_copy)(t);
}

static mrc_status MRC__T(adamp)(mrc_backend *be, const mrc_adamp_args *a) {
    const int32_t *state = a->state.data;
    (void)be;
    if (state[1]) return MRC_OK;
    double c1 = 1 - pow(a->beta1, state[0]), c2 = 1 - pow(a->beta2, state[0]);
    for (size_t k = 0; k < a->n_tensors; k++) {
        MRC__T(adamp_one)(a, &a->tensors[k], MRC__T(at)(a->clip, 0, 0), c1, c2);
    }
    return MRC_OK;
}

static mrc_status MRC__T(sgd)(mrc_backend *be, const mrc_sgd_args *a) {
    (void)be;
    if (((const int32_t *)a->state.data)[1]) return MRC_OK;
    double clip = MRC__T(at)(a->clip, 0, 0);
    for (size_t k = 0; k < a->n_tensors; k++) {
        const mrc_optim_tensor *t = &a->tensors[k];
        for (size_t i = 0; i < t->numel; i++) {
            MRC__REAL *p = (MRC__REAL *)t->param.data + i, *m = (MRC__REAL *)t->m.data + i;
            double g = clip * MRC__T(at)(t->grad, 0, i) + t->weight_decay * *p;
            double next = a->momentum * *m + g;
            *m = (MRC__REAL)next;
            *p = (MRC__REAL)(*p - t->lr * next);
        }
        MRC__T(write_copy)(t);
    }
    return MRC_OK;
}

static mrc_status MRC__T(ema)(mrc_backend *be, const mrc_ema_args *a) {
    (void)be;
    if (((const int32_t *)a->state.data)[1]) return MRC_OK;
    for (size_t k = 0; k < a->n_tensors; k++) {
        const mrc_optim_tensor *t = &a->tensors[k];
        for (size_t i = 0; i < t->numel; i++) {
            MRC__REAL *m = (MRC__REAL *)t->m.data + i, p = ((const MRC__REAL *)t->param.data)[i];
            *m = (MRC__REAL)(a->decay * *m + (1 - a->decay) * p);
        }
    }
    return MRC_OK;
}

static mrc_status MRC__T(perturb)(mrc_backend *be, const mrc_perturb_args *a) {
    (void)be;
    for (size_t k = 0; k < a->n_tensors; k++) {
        const mrc_optim_tensor *t = &a->tensors[k];
        MRC__REAL *p = t->param.data, *m = t->m.data;
        double sum = 0;
        for (size_t i = 0; !a->restore && i < t->numel; i++) {
            double g = MRC__T(at)(t->grad, 0, i);
            sum += g * g;
        }
        double scale = mrc__perturb_scale(a->eps, sum);
        for (size_t i = 0; i < t->numel; i++) {
            if (a->restore) {
                p[i] = m[i];
                continue;
            }
            m[i] = p[i];
            // 0 times a gradient that is not finite is not 0
            if (scale > 0) p[i] = (MRC__REAL)(p[i] + scale * MRC__T(at)(t->grad, 0, i));
        }
        MRC__T(write_copy)(t);
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
#define MRC_X(NAME, name, reads) \
    { #name, mrc__##name##_forward, mrc__##name##_backward, reads },
    MRC__OPS(MRC_X)
#undef MRC_X
};
#endif // core pass

//==============================================================================
// >>impl.naive   the oracle: plain loops, sums in double, one instance for each type
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
#if !MRC__MIXED
    k->grad_norm         = MRC__T(grad_norm);
    k->adamw             = MRC__T(adamw);
    k->adamp             = MRC__T(adamp);
    k->sgd               = MRC__T(sgd);
    k->ema               = MRC__T(ema);
    k->perturb           = MRC__T(perturb);
#endif
    k->gru_fwd           = MRC__T(gru_fwd);
    k->gru_bwd           = MRC__T(gru_bwd);
    k->gru_fwd_workspace = MRC__T(gru_fwd_workspace);
    k->gru_bwd_workspace = MRC__T(gru_bwd_workspace);
    k->unfold_fwd        = MRC__T(unfold_fwd);
    k->unfold_bwd        = MRC__T(unfold_bwd);
    k->symmetric_kl_fwd  = MRC__T(symmetric_kl_fwd);
    k->symmetric_kl_bwd  = MRC__T(symmetric_kl_bwd);
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

#define MRC__MIXED   0
#define MRC__GET(x)  ((double)(x))
#define MRC__SET(d)  ((MRC__REAL)(d))
#define MRC__STAT    MRC__REAL
#define MRC__REAL    float
#define MRC__T(name) mrc__naive_##name##_f32
#include MRC_SELF

#define MRC__REAL    double
#define MRC__T(name) mrc__naive_##name##_f64
#include MRC_SELF
#undef MRC__MIXED
#undef MRC__GET
#undef MRC__SET
#undef MRC__STAT

#define MRC__MIXED   1
#define MRC__STAT    float
#define MRC__GET(x)  ((double)mrc__from_f16(x))
#define MRC__SET(d)  mrc__to_f16(mrc__odd(d))
#define MRC__REAL    uint16_t
#define MRC__T(name) mrc__naive_##name##_f16
#include MRC_SELF
#undef MRC__GET
#undef MRC__SET

#define MRC__GET(x)  ((double)mrc__from_bf16(x))
#define MRC__SET(d)  mrc__to_bf16(mrc__odd(d))
#define MRC__REAL    uint16_t
#define MRC__T(name) mrc__naive_##name##_bf16
#include MRC_SELF
#undef MRC__MIXED
#undef MRC__GET
#undef MRC__SET
#undef MRC__STAT

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
    int           dot_bf16;         // cpu: products of bf16 by the instruction for them
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
    mrc__naive_fill_f16(&be->kernels[MRC_DTYPE_F16]);
    mrc__naive_fill_bf16(&be->kernels[MRC_DTYPE_BF16]);
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
// Weights for prediction come packed: gemm_pack's result for all slices, one after the other.  In
// bf16 an element of that is a pair, k and k + 1, so that k counts pairs: where the machine
// multiplies pairs, a is made of pairs too; elsewhere a panel is made floats before its slice.
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
    for (size_t i = 0; i < (size_t)r; i++) {        // c is on its way while the sums are made;
        uintptr_t row = (uintptr_t)t->c             // as a number: it may be no place to write
                      + mrc__min(i, t->m - 1) * t->ld * sizeof(MRC__REAL);
        __builtin_prefetch((const void *)row, 1);
        __builtin_prefetch((const void *)(row + sizeof(MRC__T(vec))), 1);
    }
    for (size_t k = 0; k < kc; k++, b += MRC__T(COLS), a = by_rows ? a : a + a_k) {
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

#if MRC__F32
// A panel of pairs of bf16 as floats: k = 2 p in the low halves, 2 p + 1 in the high ones.
MRC__TARGET static void MRC__T(widen)(float *dst, const uint32_t *src, size_t kc) {
    for (size_t k = 0; k < kc; k++) {
        for (size_t i = 0; i < MRC__T(COLS); i += MRC__T(LANES)) {
            MRC__T(uvec) pair = (MRC__T(uvec))MRC__T(load)(
                (const float *)(const void *)(src + k / 2 * MRC__T(COLS) + i));
            if (k % 2) pair &= 0xffff0000u;
            else pair <<= 16;
            MRC__T(store)(dst + k * MRC__T(COLS) + i, (MRC__T(vec))pair);
        }
    }
}
#endif

#if MRC__F32 && defined(MRC__TARGET_BF16)
// `lines` rows of n floats as pairs, rows of `pairs` pairs; what is past n is 0.
MRC__TARGET_BF16 static void MRC__T(narrow)(float *dst, const float *src, size_t ld, size_t lines,
                                            size_t n, size_t pairs) {
    for (size_t i = 0; i < lines; i++, src += ld, dst += pairs) {
        for (size_t k = 0; k < 2 * pairs; k += 16) {
            const __mmask16 in = (__mmask16)(n - k < 16 ? (1u << (n - k)) - 1 : 0xffff);
            const size_t left = pairs - k / 2;
            __m256bh h = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(in, src + k));
            _mm256_mask_storeu_epi32(dst + k / 2, (__mmask8)(left < 8 ? (1u << left) - 1 : 0xff),
                                     (__m256i)h);
        }
    }
}

// Up to r rows of a by one panel of b, both packed pairs.
MRC__TARGET_BF16 static inline __attribute__((always_inline))
void MRC__T(tile_pairs)(const int r, const MRC__T(block) *t) {
    __m512 sum[MRC__ROWS][2];
    const float *a = t->a, *b = t->b;
    MRC__UNROLL
    for (int i = 0; i < r; i++) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (size_t k = 0; k < t->kc; k++, b += MRC__T(COLS), a += MRC__ROWS) {
        const __m512bh b0 = (__m512bh)_mm512_loadu_ps(b), b1 = (__m512bh)_mm512_loadu_ps(b + 16);
        MRC__UNROLL
        for (int i = 0; i < r; i++) {
            const __m512bh ai = (__m512bh)_mm512_set1_ps(a[i]);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], ai, b0);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], ai, b1);
        }
    }
    const __mmask16 in[2] = { (__mmask16)(t->n < 16 ? (1u << t->n) - 1 : 0xffff),
                              (__mmask16)(t->n >= 32 ? 0xffff : t->n > 16 ? (1u << (t->n - 16)) - 1
                                          : 0) };
    MRC__UNROLL
    for (int i = 0; i < r; i++) {
        if ((size_t)i >= t->m) break;
        for (int j = 0; j < 2; j++) {
            float *c = t->c + (size_t)i * t->ld + 16 * j;
            __m512 value = sum[i][j];
            if (t->accumulate) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(in[j], c));
            _mm512_mask_storeu_ps(c, in[j], value);
        }
    }
}
#define MRC__PAIRS_ALONE MRC__TARGET_BF16 static __attribute__((noinline)) void
MRC__PAIRS_ALONE MRC__T(pairs_max)(const MRC__T(block) *t) { MRC__T(tile_pairs)(MRC__ROWS, t); }
MRC__PAIRS_ALONE MRC__T(pairs_mid)(const MRC__T(block) *t) { MRC__T(tile_pairs)(MRC__ROWS_MID, t); }
MRC__PAIRS_ALONE MRC__T(pairs_min)(const MRC__T(block) *t) { MRC__T(tile_pairs)(MRC__ROWS_MIN, t); }
#undef MRC__PAIRS_ALONE

// As multiply, of pairs; a is rows of floats as they came, scratch is room for one block of pairs.
MRC__TARGET_BF16 static void MRC__T(multiply_pairs)(const MRC__T(block) *all, const float *a,
                                                    size_t ld, size_t n, float *pack,
                                                    float *scratch) {
    for (size_t i = 0; i < all->m; i += MRC__ROWS) {
        size_t lines = mrc__min(all->m - i, MRC__ROWS);
        MRC__T(narrow)(scratch, a + i * ld, ld, lines, n, all->kc);
        MRC__T(pack)(pack + i * all->kc, scratch, all->kc, 1, lines, MRC__ROWS, all->kc);
    }
    for (size_t j = 0; j < all->n; j += MRC__T(COLS)) {
        for (size_t i = 0; i < all->m; i += MRC__ROWS) {
            MRC__T(block) t = *all;
            t.m = mrc__min(all->m - i, MRC__ROWS);
            t.n = mrc__min(all->n - j, MRC__T(COLS));
            t.a = pack + i * all->kc;
            t.b = all->b + j / MRC__T(COLS) * all->b_step;
            t.c = all->c + i * all->ld + j;
            if (t.m > MRC__ROWS_MID) MRC__T(pairs_max)(&t);
            else if (t.m > MRC__ROWS_MIN) MRC__T(pairs_mid)(&t);
            else MRC__T(pairs_min)(&t);
        }
    }
}
#endif

// One slice of the loops above; shared by its tasks.
typedef struct MRC__T(gemm_job) {
    const mrc_gemm_args *g;
    const MRC__T(finish) *finish;   // NULL but in the last slice of k
    const mrc__host_backend *h;
    const MRC__REAL *packed, *b;    // b as it came, NULL: not packed; as it is multiplied
    int pairs;                      // 1: a and b are pairs of bf16, and so k0 and kc count
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
#if MRC__F32
    if (job->packed) {
        MRC__T(widen)((float *)job->h->pack_b + j * job->kc,
                      (const uint32_t *)(const void *)job->packed + j * mrc__ceil_div(job->kc, 2),
                      job->kc);
        return;
    }
#endif
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
    for (size_t i = 0; !job->pairs && i < mc; i += MRC__ROWS) {
        MRC__T(pack_a)(pack + i * job->kc,
                       (const MRC__REAL *)g->a.data + job->k0 * k_step + (i0 + i) * line, line,
                       k_step, mc - i, job->kc);
    }
    MRC__T(block) block = {
        .m = mc, .n = cols, .kc = job->kc, .a = pack, .a_step = MRC__ROWS * job->kc,
        .a_k = MRC__ROWS, .b = job->b + begin * job->kc,
        .b_step = MRC__T(COLS) * job->kc, .ld = g->c.ld, .accumulate = job->accumulate,
        .c = (MRC__REAL *)g->c.data + i0 * g->c.ld + job->j0 + begin };
#if MRC__F32 && defined(MRC__TARGET_BF16)
    if (job->pairs) {               // half of the scratch is enough for a block of them
        MRC__T(multiply_pairs)(&block, (const float *)g->a.data + 2 * job->k0 + i0 * line, line,
                               mrc__min(2 * job->kc, g->k - 2 * job->k0), pack,
                               pack + MRC__MC * MRC__KC);
    } else
#endif
    MRC__T(multiply)(&block);
    if (job->finish) {
        MRC__T(finish_rows)(job->finish, g->c, i0, i0 + mc, job->j0 + begin,
                            job->j0 + begin + cols);
    }
}

// Elements of k in a slice: those of pairs hold twice as many, as their panels are as large.
static size_t MRC__T(k_slice)(size_t k, int halves, int pairs) {
    if (!halves) return mrc__slice(k, MRC__KC, 4);
    size_t slice = mrc__slice(mrc__ceil_div(k, 2), MRC__KC, 4);
    return pairs ? slice : 2 * slice;
}

// Where the block of columns j0 .. j0 + nc and of k from k0 on begins in a packed matrix, counted
// in floats or pairs.  nc n and k0 0 at j0 0: its size.
static size_t MRC__T(packed_at)(size_t k, int halves, size_t j0, size_t nc, size_t k0) {
    if (halves) return j0 * mrc__ceil_div(k, 2) + mrc__round_up(nc, MRC__T(COLS)) * (k0 / 2);
    return j0 * k + mrc__round_up(nc, MRC__T(COLS)) * k0;
}

MRC__TARGET static mrc_status MRC__T(gemm_run)(mrc_backend *be, const mrc_gemm_args *g,
                                               const MRC__T(finish) *finish) {
    const mrc__host_backend *h = be->self;
    const int packed = g->b.ld == 0 && g->b_transposed, halves = g->b.dtype == MRC_DTYPE_BF16;
    const int pairs = packed && halves && h->dot_bf16;
    const size_t k_all = pairs ? mrc__ceil_div(g->k, 2) : g->k;
    size_t nc = mrc__slice(g->n, MRC__NC, MRC__T(COLS)), kc = MRC__T(k_slice)(g->k, halves, pairs);
    size_t panels = mrc__ceil_div(g->m, MRC__ROWS);
    size_t mc = mrc__min(mrc__ceil_div(panels, 16) * MRC__ROWS, MRC__MC);
    size_t row_tasks = mrc__ceil_div(g->m, mc ? mc : 1);
    if (row_tasks == 0) return MRC_OK;
    for (size_t j0 = 0; j0 < g->n; j0 += nc) {
        for (size_t k0 = 0; k0 == 0 || k0 < k_all; k0 += kc) {  // k = 0 still writes c
            MRC__T(gemm_job) job = { .g = g, .h = h, .k0 = k0, .kc = mrc__min(kc, k_all - k0),
                                     .j0 = j0, .nc = mrc__min(nc, g->n - j0), .mc = mc,
                                     .pairs = pairs, .b = h->pack_b,
                                     .finish = k0 + kc >= k_all ? finish : NULL,
                                     .accumulate = k0 > 0 || g->c.accumulate };
            if (packed) {
                job.packed = (const MRC__REAL *)g->b.data
                           + MRC__T(packed_at)(g->k, halves, j0, job.nc, pairs ? 2 * k0 : k0);
                if (pairs || !halves) job.b = job.packed;
            }
            size_t b_panels = mrc__ceil_div(job.nc, MRC__T(COLS));
            size_t split = mrc__min(mrc__ceil_div(16, row_tasks), b_panels);
            job.group_cols = mrc__ceil_div(b_panels, split) * MRC__T(COLS);
            job.groups = mrc__ceil_div(job.nc, job.group_cols);
            size_t work = g->m * job.nc * job.kc / 64;
            if (job.b != job.packed) {
                mrc__pool_run(h->pool, b_panels, job.nc * job.kc / 2, MRC__T(gemm_pack), &job);
            }
            mrc__pool_run(h->pool, row_tasks * job.groups, work, MRC__T(gemm_task), &job);
        }
    }
    return MRC_OK;
}

MRC__TARGET static mrc_status MRC__T(gemm)(mrc_backend *be, const mrc_gemm_args *g) {
    return MRC__T(gemm_run)(be, g, NULL);
}

#if MRC__F32
// Who replaced gemm has its own products of f32.
static size_t MRC__T(prepack_bytes)(mrc_backend *be, mrc_dtype dtype, size_t rows,
                                    size_t columns) {
    const int halves = dtype == MRC_DTYPE_BF16;
    size_t room = mrc__round_up(rows, MRC__T(COLS)), elements, bytes;
    if (!halves && (dtype != MRC_DTYPE_F32 || be->kernels[dtype].gemm != MRC__T(gemm))) return 0;
    if (room < rows || !mrc__mul(room, columns, &elements)
        || !mrc__mul(elements, sizeof(float), &bytes)) return 0;
    return MRC__T(packed_at)(columns, halves, room, 0, 0) * sizeof(float);
}

typedef struct MRC__T(prepack_job) {
    const mrc__host_backend *h;
    float       *dst;
    const float *src;
    size_t       rows, columns;
    int          halves;
} MRC__T(prepack_job);

// One panel, slice by slice.
MRC__TARGET static void MRC__T(prepack_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(prepack_job) *p = arg;
    const size_t nc = mrc__slice(p->rows, MRC__NC, MRC__T(COLS));
    const size_t k_all = p->columns, kc = MRC__T(k_slice)(k_all, p->halves, 0);
    const size_t row = task * MRC__T(COLS), j0 = row / nc * nc, lines = p->rows - row;
    uint16_t *halves = (uint16_t *)(void *)(p->h->pack_a + worker * p->h->pack_a_bytes);
    for (size_t k0 = 0; k0 < k_all; k0 += kc) {
        const size_t n = mrc__min(kc, k_all - k0), pairs = mrc__ceil_div(n, 2);
        const float *src = p->src + row * k_all + k0;
        float *dst = p->dst + MRC__T(packed_at)(k_all, p->halves, j0, mrc__min(nc, p->rows - j0),
                                                k0);
        if (!p->halves) {
            MRC__T(pack_b)(dst + (row - j0) * n, src, k_all, 1, lines, n);
            continue;
        }
        for (size_t i = 0; i < mrc__min(lines, MRC__T(COLS)); i++) {
            halves[(i + 1) * 2 * pairs - 1] = 0;                // n may be odd
            mrc__narrow(MRC_DTYPE_BF16, halves + i * 2 * pairs, src + i * k_all, n);
        }
        MRC__T(pack_b)(dst + (row - j0) * pairs, (const float *)(const void *)halves, pairs, 1,
                       lines, pairs);
    }
}

static mrc_status MRC__T(prepack)(mrc_backend *be, void *dst, mrc_dtype dtype, size_t rows,
                                  size_t columns, const float *host_src) {
    const mrc__host_backend *h = be->self;
    MRC__T(prepack_job) job = { h, dst, host_src, rows, columns, dtype == MRC_DTYPE_BF16 };
    mrc__pool_run(h->pool, mrc__ceil_div(rows, MRC__T(COLS)), rows * columns / 2,
                  MRC__T(prepack_task), &job);
    return MRC_OK;
}
#endif
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
        if (!out[k].data) continue;
        MRC__REAL *to = (MRC__REAL *)out[k].data + j;
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
    if (be->kernels[a->x.dtype].gemm == MRC__T(gemm) || a->weight.ld == 0) {
        return MRC__T(gemm_run)(be, &g, &job.f);
    }
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

// Elements i and on, n of them, of a row of a table, which may be bf16 beside f32.
MRC__INLINE MRC__T(vec) MRC__T(table_n)(mrc_in table, size_t r, size_t i, size_t n) {
#if MRC__F32
    if (table.dtype == MRC_DTYPE_BF16) {
        const uint16_t *p = (const uint16_t *)table.data + r * table.ld + i;
        MRC__T(uvec) bits = {0};
        for (size_t k = 0; k < mrc__min(n, MRC__T(LANES)); k++) bits[k] = (uint32_t)p[k] << 16;
        return (MRC__T(vec))bits;
    }
#endif
    return MRC__T(load_n)(MRC__T(row)(table, r) + i, n);
}

MRC__TARGET static void MRC__T(embedding_task)(void *arg, size_t task, size_t worker) {
    const mrc_embedding_fwd_args *a = arg;
    const int32_t *ids = a->input_ids.data, *positions = a->position_ids.data;
    const int32_t *types = a->token_type_ids.data;
    size_t first = task * MRC__CPU_ROWS, last = mrc__min(a->n, first + MRC__CPU_ROWS);
    (void)worker;
    for (size_t r = first; r < last; r++) {
        const MRC__REAL *position = MRC__T(row)(a->position, (size_t)positions[r]);
        const MRC__REAL *type = MRC__T(row)(a->token_type, (size_t)types[r]);
        MRC__REAL *y = MRC__T(out_row)(a->y, r);
        for (size_t i = 0; i < a->h; i += MRC__T(LANES)) {
            MRC__T(vec) v = MRC__T(table_n)(a->word, (size_t)ids[r], i, a->h - i);
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
    double sum = 0;
    mrc__pool_run(h->pool, chunks, chunks * 2000, MRC__T(grad_norm_task), &job);
    for (size_t i = 0; i < chunks; i++) sum += part[i];
    mrc__grad_norm_end(a, sum);
    return MRC_OK;
}

// Elements i to i + n of a parameter into its working copy.
MRC__INLINE void MRC__T(write_copy)(const mrc_optim_tensor *t, size_t i, size_t n) {
#if MRC__F32
    const float *param = t->param.data;
    if (t->copy.data) mrc__narrow(t->copy.dtype, (uint16_t *)t->copy.data + i, param + i, n);
#else
    (void)t; (void)i; (void)n;
#endif
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
    for (size_t n; i < end; i += n) {
        n = mrc__min(end - i, MRC__T(LANES));
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
        MRC__T(write_copy)(t, i, n);
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

// AdamP: the moments and, by row, the products that its decision needs; then the step.
typedef struct MRC__T(adamp_row) { double gg, pp, gp, pu; } MRC__T(adamp_row);
typedef struct MRC__T(adamp_job) {
    const mrc_adamp_args *a;
    MRC__T(adamp_row) *rows;        // of all tensors, one after the other
    double *along, *decay;          // of each row what the step loses along it; of each tensor
    double  c1, c2;
    int     step;                   // 0: moments; 1: the step
} MRC__T(adamp_job);

static size_t MRC__T(adamp_rows)(const mrc_optim_tensor *t) { return t->rows ? t->rows : 1; }
// Rows of one task: about CHUNK elements.
static size_t MRC__T(adamp_run)(const mrc_optim_tensor *t) {
    size_t columns = t->numel / MRC__T(adamp_rows)(t);
    return columns >= MRC__CPU_CHUNK || !columns ? 1 : MRC__CPU_CHUNK / columns;
}
static size_t MRC__T(adamp_tasks)(const mrc_adamp_args *a, size_t *rows) {
    size_t tasks = 0;
    *rows = 0;
    for (size_t k = 0; k < a->n_tensors; k++) {
        const mrc_optim_tensor *t = &a->tensors[k];
        tasks += mrc__ceil_div(MRC__T(adamp_rows)(t), MRC__T(adamp_run)(t));
        *rows += MRC__T(adamp_rows)(t);
    }
    return tasks;
}

MRC__TARGET static void MRC__T(adamp_moments)(const MRC__T(adamp_job) *j,
                                              const mrc_optim_tensor *t, size_t begin,
                                              size_t columns, MRC__T(adamp_row) *row) {
    const mrc_adamp_args *a = j->a;
    const MRC__REAL clip = *(const MRC__REAL *)a->clip.data;
    const MRC__REAL b1 = (MRC__REAL)a->beta1, r1 = (MRC__REAL)(1 - a->beta1);
    const MRC__REAL b2 = (MRC__REAL)a->beta2, r2 = (MRC__REAL)(1 - a->beta2);
    const MRC__REAL root = (MRC__REAL)(1 / sqrt(j->c2)), eps = (MRC__REAL)a->eps;
    const MRC__REAL *grad = (const MRC__REAL *)t->grad.data + begin;
    const MRC__REAL *param = (const MRC__REAL *)t->param.data + begin;
    MRC__REAL *pm = (MRC__REAL *)t->m.data + begin, *pv = (MRC__REAL *)t->v.data + begin;
    *row = (MRC__T(adamp_row)){0};
    for (size_t i = 0; i < columns; i += MRC__T(LANES)) {
        size_t n = columns - i;
        MRC__T(vec) g = MRC__T(load_n)(grad + i, n) * clip, p = MRC__T(load_n)(param + i, n);
        MRC__T(vec) m = MRC__T(load_n)(pm + i, n) * b1 + g * r1;
        MRC__T(vec) v = MRC__T(load_n)(pv + i, n) * b2 + g * g * r2;
        MRC__T(store_n)(pm + i, m, n);
        MRC__T(store_n)(pv + i, v, n);
        if (!t->rows) continue;
        MRC__T(vec) u = a->nesterov ? m * b1 + g * r1 : m * 1;
        u = u / (MRC__T(sqrt)(v) * root + eps);
        row->gg += MRC__T(sum)(g * g);
        row->pp += MRC__T(sum)(p * p);
        row->gp += MRC__T(sum)(g * p);
        row->pu += MRC__T(sum)(p * u);
    }
}

MRC__TARGET static void MRC__T(adamp_move)(const MRC__T(adamp_job) *j, const mrc_optim_tensor *t,
                                           size_t begin, size_t columns, double lost,
                                           double decay_by) {
    const mrc_adamp_args *a = j->a;
    const MRC__REAL clip = *(const MRC__REAL *)a->clip.data;
    const MRC__REAL b1 = (MRC__REAL)a->beta1, r1 = (MRC__REAL)(1 - a->beta1);
    const MRC__REAL root = (MRC__REAL)(1 / sqrt(j->c2)), eps = (MRC__REAL)a->eps;
    const MRC__REAL rate = (MRC__REAL)(t->lr / j->c1), along = (MRC__REAL)lost;
    const MRC__REAL decay = (MRC__REAL)decay_by;
    const MRC__REAL *grad = (const MRC__REAL *)t->grad.data + begin;
    const MRC__REAL *pm = (const MRC__REAL *)t->m.data + begin;
    const MRC__REAL *pv = (const MRC__REAL *)t->v.data + begin;
    MRC__REAL *param = (MRC__REAL *)t->param.data + begin;
    for (size_t i = 0; i < columns; i += MRC__T(LANES)) {
        size_t n = columns - i;
        MRC__T(vec) p = MRC__T(load_n)(param + i, n), m = MRC__T(load_n)(pm + i, n);
        if (a->nesterov) m = m * b1 + MRC__T(load_n)(grad + i, n) * clip * r1;
        MRC__T(vec) u = m / (MRC__T(sqrt)(MRC__T(load_n)(pv + i, n)) * root + eps);
        u = u - p * along;
        MRC__T(store_n)(param + i, p - p * decay - u * rate, n);
    }
    MRC__T(write_copy)(t, begin, columns);
}

MRC__TARGET static void MRC__T(adamp_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(adamp_job) *j = arg;
    const mrc_optim_tensor *t = j->a->tensors;
    size_t first = 0, n;
    (void)worker;
    for (; task >= (n = mrc__ceil_div(MRC__T(adamp_rows)(t), MRC__T(adamp_run)(t))); t++) {
        task -= n;
        first += MRC__T(adamp_rows)(t);
    }
    size_t rows = MRC__T(adamp_rows)(t), columns = t->numel / rows, run = MRC__T(adamp_run)(t);
    for (size_t r = task * run; r < mrc__min(rows, (task + 1) * run); r++) {
        if (!j->step) MRC__T(adamp_moments)(j, t, r * columns, columns, &j->rows[first + r]);
        else MRC__T(adamp_move)(j, t, r * columns, columns, j->along[first + r],
                                j->decay[t - j->a->tensors]);
    }
}

// What each row of one tensor loses, and the tensor's decay.
static double MRC__T(adamp_decide)(const mrc_adamp_args *a, const mrc_optim_tensor *t,
                                   const MRC__T(adamp_row) *row, double *along) {
    const size_t rows = MRC__T(adamp_rows)(t);
    const double columns = (double)(t->numel / rows);
    MRC__T(adamp_row) all = {0};
    double most = 0;
    for (size_t r = 0; r < rows; r++) {
        double cosine = mrc__cosine(row[r].gg, row[r].pp, row[r].gp, a->eps);
        if (!(cosine <= most)) most = cosine;
        all.gg += row[r].gg;
        all.pp += row[r].pp;
        all.gp += row[r].gp;
        all.pu += row[r].pu;
    }
    int by_rows = t->rows && most < a->delta / sqrt(columns);
    int whole = t->rows && !by_rows && mrc__cosine(all.gg, all.pp, all.gp, a->eps)
                                     < a->delta / sqrt(columns * (double)rows);
    for (size_t r = 0; r < rows; r++) {
        double norm = sqrt(by_rows ? row[r].pp : all.pp) + a->eps;
        along[r] = by_rows || whole ? (by_rows ? row[r].pu : all.pu) / (norm * norm) : 0;
    }
    return t->lr * t->weight_decay * (by_rows || whole ? a->wd_ratio : 1);
}

static size_t MRC__T(adamp_workspace)(mrc_backend *be, const mrc_adamp_args *a) {
    size_t rows;
    (void)be;
    MRC__T(adamp_tasks)(a, &rows);
    return rows * (sizeof(MRC__T(adamp_row)) + sizeof(double)) + a->n_tensors * sizeof(double);
}
MRC__TARGET static mrc_status MRC__T(adamp)(mrc_backend *be, const mrc_adamp_args *a) {
    const mrc__host_backend *h = be->self;
    const int32_t *state = a->state.data;
    size_t rows, tasks = MRC__T(adamp_tasks)(a, &rows), first = 0;
    if (state[1]) return MRC_OK;
    MRC__T(adamp_job) j = { .a = a, .rows = a->workspace, .c1 = 1 - pow(a->beta1, state[0]),
                            .c2 = 1 - pow(a->beta2, state[0]) };
    j.along = (double *)(void *)(j.rows + rows);
    j.decay = j.along + rows;
    mrc__pool_run(h->pool, tasks, tasks * 4000, MRC__T(adamp_task), &j);
    for (size_t k = 0; k < a->n_tensors; first += MRC__T(adamp_rows)(&a->tensors[k++])) {
        j.decay[k] = MRC__T(adamp_decide)(a, &a->tensors[k], j.rows + first, j.along + first);
    }
    j.step = 1;
    mrc__pool_run(h->pool, tasks, tasks * 4000, MRC__T(adamp_task), &j);
    return MRC_OK;
}

MRC__TARGET static void MRC__T(sgd_task)(void *arg, size_t task, size_t worker) {
    const mrc_sgd_args *a = arg;
    size_t i, end;
    const mrc_optim_tensor *t = MRC__T(chunk)(a->tensors, task, &i, &end);
    const MRC__REAL clip = *(const MRC__REAL *)a->clip.data, *grad = t->grad.data;
    const MRC__REAL momentum = (MRC__REAL)a->momentum, rate = (MRC__REAL)t->lr;
    const MRC__REAL decay = (MRC__REAL)t->weight_decay;
    MRC__REAL *param = t->param.data, *pm = t->m.data;
    (void)worker;
    for (size_t n; i < end; i += n) {
        n = mrc__min(end - i, MRC__T(LANES));
        MRC__T(vec) p = MRC__T(load_n)(param + i, n);
        MRC__T(vec) g = MRC__T(load_n)(grad + i, n) * clip + p * decay;
        MRC__T(vec) m = MRC__T(load_n)(pm + i, n) * momentum + g;
        MRC__T(store_n)(pm + i, m, n);
        MRC__T(store_n)(param + i, p - m * rate, n);
        MRC__T(write_copy)(t, i, n);
    }
}
MRC__TARGET static mrc_status MRC__T(sgd)(mrc_backend *be, const mrc_sgd_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_sgd_args job = *a;
    if (((const int32_t *)a->state.data)[1]) return MRC_OK;
    size_t chunks = MRC__T(chunks)(a->tensors, a->n_tensors);
    mrc__pool_run(h->pool, chunks, chunks * 2000, MRC__T(sgd_task), &job);
    return MRC_OK;
}

MRC__TARGET static void MRC__T(ema_task)(void *arg, size_t task, size_t worker) {
    const mrc_ema_args *a = arg;
    size_t i, end;
    const mrc_optim_tensor *t = MRC__T(chunk)(a->tensors, task, &i, &end);
    const MRC__REAL keep = (MRC__REAL)a->decay, take = (MRC__REAL)(1 - a->decay);
    const MRC__REAL *param = t->param.data;
    MRC__REAL *pm = t->m.data;
    (void)worker;
    for (; i < end; i += MRC__T(LANES)) {
        size_t n = end - i;
        MRC__T(vec) p = MRC__T(load_n)(param + i, n) * take;
        MRC__T(store_n)(pm + i, MRC__T(load_n)(pm + i, n) * keep + p, n);
    }
}
MRC__TARGET static mrc_status MRC__T(ema)(mrc_backend *be, const mrc_ema_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_ema_args job = *a;
    if (((const int32_t *)a->state.data)[1]) return MRC_OK;
    size_t chunks = MRC__T(chunks)(a->tensors, a->n_tensors);
    mrc__pool_run(h->pool, chunks, chunks * 2000, MRC__T(ema_task), &job);
    return MRC_OK;
}

// One tensor at a time: there are few of them.
typedef struct MRC__T(perturb_job) {
    const mrc_optim_tensor *t;
    double scale;
    int    restore;
} MRC__T(perturb_job);
MRC__TARGET static void MRC__T(perturb_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(perturb_job) *j = arg;
    const MRC__REAL *grad = j->t->grad.data, scale = (MRC__REAL)j->scale;
    MRC__REAL *param = j->t->param.data, *pm = j->t->m.data;
    size_t i = task * MRC__CPU_CHUNK, end = mrc__min(j->t->numel, i + MRC__CPU_CHUNK);
    (void)worker;
    for (size_t n; i < end; i += n) {
        n = mrc__min(end - i, MRC__T(LANES));
        MRC__T(vec) p = MRC__T(load_n)(param + i, n);
        if (!j->restore) MRC__T(store_n)(pm + i, p, n);
        if (j->restore) p = MRC__T(load_n)(pm + i, n);
        else if (scale > 0) p = p + MRC__T(load_n)(grad + i, n) * scale;
        MRC__T(store_n)(param + i, p, n);
        MRC__T(write_copy)(j->t, i, n);
    }
}
static size_t MRC__T(perturb_workspace)(mrc_backend *be, const mrc_perturb_args *a) {
    (void)be;
    return a->restore ? 0 : MRC__T(chunks)(a->tensors, a->n_tensors) * sizeof(double);
}
MRC__TARGET static mrc_status MRC__T(perturb)(mrc_backend *be, const mrc_perturb_args *a) {
    const mrc__host_backend *h = be->self;
    mrc_grad_norm_args squares = { .n_tensors = a->n_tensors, .tensors = a->tensors,
                                   .workspace = a->workspace };
    size_t chunks = MRC__T(chunks)(a->tensors, a->n_tensors);
    const double *part = a->workspace;
    if (!a->restore) {
        mrc__pool_run(h->pool, chunks, chunks * 2000, MRC__T(grad_norm_task), &squares);
    }
    for (size_t k = 0; k < a->n_tensors; k++) {
        MRC__T(perturb_job) j = { .t = &a->tensors[k], .restore = a->restore };
        size_t n = mrc__ceil_div(j.t->numel, MRC__CPU_CHUNK);
        double sum = 0;
        for (size_t i = 0; !a->restore && i < n; i++) sum += *part++;
        j.scale = mrc__perturb_scale(a->eps, sum);
        mrc__pool_run(h->pool, n, n * 2000, MRC__T(perturb_task), &j);
    }
    return MRC_OK;
}

// ---- unfold ----

typedef struct MRC__T(unfolding) {
    const int32_t *cu;
    size_t  n, in, size;
    mrc_in  from;                   // x, or dy
    mrc_out to;
    int     backward;
} MRC__T(unfolding);
MRC__TARGET static void MRC__T(unfold_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(unfolding) *u = arg;
    const size_t first = task * MRC__CPU_ROWS, last = mrc__min(u->n, first + MRC__CPU_ROWS);
    const size_t half = u->size / 2;
    size_t s = 0;
    (void)worker;
    for (size_t r = first; r < last; r++) {
        s = mrc__cpu_sequence(u->cu, s, r);
        MRC__REAL *to = MRC__T(out_row)(u->to, r);
        for (size_t k = 0; k < u->size; k++) {
            // forward takes row r + k - half; backward is given by row r - k + half
            ptrdiff_t at = (ptrdiff_t)(u->backward ? r + half : r + k)
                         - (ptrdiff_t)(u->backward ? k : half);
            int inside = at >= u->cu[s] && at < u->cu[s + 1];
            const MRC__REAL *from = inside ? MRC__T(row)(u->from, (size_t)at) : NULL;
            for (size_t i = 0; i < u->in; i++) {
                if (!u->backward) {
                    to[i * u->size + k] = from ? from[i] : 0;
                } else {
                    MRC__REAL before = k || u->to.accumulate ? to[i] : 0;
                    to[i] = from ? before + from[i * u->size + k] : before;
                }
            }
        }
    }
}
static mrc_status MRC__T(unfold_fwd)(mrc_backend *be, const mrc_unfold_fwd_args *a) {
    const mrc__host_backend *h = be->self;
    MRC__T(unfolding) u = { a->cu_seqlens.data, a->n, a->in, a->size, a->x, a->y, 0 };
    mrc__pool_run(h->pool, mrc__cpu_row_tasks(a->n), a->n * a->in * a->size,
                  MRC__T(unfold_task), &u);
    return MRC_OK;
}
static mrc_status MRC__T(unfold_bwd)(mrc_backend *be, const mrc_unfold_bwd_args *a) {
    const mrc__host_backend *h = be->self;
    MRC__T(unfolding) u = { a->cu_seqlens.data, a->n, a->in, a->size, a->dy, a->dx, 1 };
    if (!a->dx.data) return MRC_OK;
    mrc__pool_run(h->pool, mrc__cpu_row_tasks(a->n), a->n * a->in * a->size,
                  MRC__T(unfold_task), &u);
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
// A GRU is the same sweep with three panels of W_hh a group, and cells of its own.
//==============================================================================
#ifdef MRC__PASS_CORE
enum { MRC__CPU_WIDE = 512 };       // hidden units from which a step is worth splitting
#endif

#ifdef MRC__PASS_CPU
// Forward and backward in one: what a sweep reads, and the workspace.
typedef struct MRC__T(sweep) {
    size_t n_sequences, h, groups;  // groups: units of COLS
    size_t parts;                   // of W_hh's rows: 4 H or, of a GRU, 3 H
    const int32_t *cu;
    MRC__REAL *bias[2];             // forward (4H): b_ih + b_hh; GRU: r, z, then b_hn, b_in
    MRC__REAL *gates, *cells;       // (N, 8 H), (N, 2 H)
    size_t gates_ld, cells_ld;
    mrc_out y;                      // forward
    mrc_in  dy, state;              // backward; state: a GRU's y
    MRC__REAL *pack[2], *dc;        // W_hh by panels; (2, B, H): dc, or z dh of a GRU
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

// The same of a GRU: gates r, z, q, n.
MRC__INLINE void MRC__T(gru_cells)(const MRC__T(sweep) *w, size_t t, size_t d, size_t unit,
                                   size_t first, size_t m) {
    const size_t h = w->h, units = mrc__min(h - unit, MRC__T(COLS));
    const MRC__REAL *rows[MRC__ROWS], *bias = w->bias[d] + unit;
    MRC__REAL q[MRC__ROWS][3][MRC__T(COLS)];
    for (size_t i = 0; t && i < MRC__ROWS; i++) {
        int32_t s = w->order[first + (i < m ? i : m - 1)];
        rows[i] = MRC__T(out_row)(w->y, MRC__T(lstm_row)(w->cu, s, t - 1, (int)d)) + d * h;
    }
    memset(q, 0, sizeof q);
    if (t) {
        const MRC__T(block) block = {
            .m = m, .n = 3 * MRC__T(COLS), .kc = h, .rows = rows, .c = q[0][0],
            .b = w->pack[d] + unit * 3 * h, .b_step = MRC__T(COLS) * h, .ld = 3 * MRC__T(COLS) };
        MRC__T(multiply)(&block);
    }
    for (size_t i = 0; i < m; i++) {
        size_t row = MRC__T(lstm_row)(w->cu, w->order[first + i], t, (int)d);
        MRC__REAL *gates = w->gates + row * w->gates_ld + d * 4 * h + unit;
        MRC__REAL *y = MRC__T(out_row)(w->y, row) + d * h + unit;
        for (size_t j = 0; j < units; j += MRC__T(LANES)) {
            MRC__T(vec) v[4], b[4], before = {0};
            size_t n = units - j;
            for (size_t k = 0; k < 4; k++) {
                b[k] = MRC__T(load_n)(bias + k * h + j, n);
                if (k != 2) v[k] = MRC__T(load_n)(gates + k * h + j, n) + b[k];
            }
            v[0] = MRC__T(sigmoid)(v[0] + MRC__T(load)(&q[i][0][j]));
            v[1] = MRC__T(sigmoid)(v[1] + MRC__T(load)(&q[i][1][j]));
            v[2] = MRC__T(load)(&q[i][2][j]) + b[2];
            v[3] = MRC__T(tanh)(v[3] + v[0] * v[2]);
            for (size_t k = 0; k < 4; k++) MRC__T(store_n)(gates + k * h + j, v[k], n);
            if (t) before = MRC__T(load_n)(rows[i] + unit + j, n);
            MRC__T(store_n)(y + j, (1 - v[1]) * v[3] + v[1] * before, n);
        }
    }
}

MRC__INLINE void MRC__T(gru_cells_bwd)(const MRC__T(sweep) *w, size_t t, size_t d, size_t unit,
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
            .m = linked, .n = MRC__T(COLS), .kc = 3 * h, .rows = rows, .c = dh[0],
            .b = w->pack[d] + unit * 3 * h, .ld = MRC__T(COLS) };
        MRC__T(multiply)(&block);
    }
    for (size_t i = 0; i < m; i++) {
        int32_t s = w->order[first + i];
        size_t row = MRC__T(lstm_row)(w->cu, s, t, (int)d);
        MRC__REAL *gates = w->gates + row * w->gates_ld + d * 4 * h + unit;
        const MRC__REAL *dy = MRC__T(row)(w->dy, row) + d * h + unit;
        const MRC__REAL *was = MRC__T(row)(w->state, !t ? row : d ? row + 1 : row - 1)
                             + d * h + unit;
        MRC__REAL *kept = w->dc + (d * w->n_sequences + first + i) * h + unit;
        for (size_t j = 0; j < units; j += MRC__T(LANES)) {
            size_t n = units - j;
            // forward was: n = tanh(.. + r q);  h_t = (1 - z) n + z h_(t-1)
            MRC__T(vec) r = MRC__T(load_n)(gates + j, n), z = MRC__T(load_n)(gates + h + j, n);
            MRC__T(vec) q = MRC__T(load_n)(gates + 2 * h + j, n), before = {0};
            MRC__T(vec) th = MRC__T(load_n)(gates + 3 * h + j, n);
            MRC__T(vec) sum = MRC__T(load_n)(dy + j, n) + MRC__T(load)(&dh[i][j]);
            if (t) before = MRC__T(load_n)(was + j, n);
            if (i < linked) sum = sum + MRC__T(load_n)(kept + j, n);
            MRC__T(vec) dn = sum * (1 - z) * (1 - th * th);
            MRC__T(store_n)(gates + j, dn * q * r * (1 - r), n);
            MRC__T(store_n)(gates + h + j, sum * (before - th) * z * (1 - z), n);
            MRC__T(store_n)(gates + 2 * h + j, dn * r, n);
            MRC__T(store_n)(gates + 3 * h + j, dn, n);
            MRC__T(store_n)(kept + j, sum * z, n);
        }
    }
}

MRC__TARGET static void MRC__T(lstm_unit)(const MRC__T(sweep) *w, size_t t, size_t d,
                                          size_t group) {
    for (size_t i = 0; i < w->running[t]; i += MRC__ROWS) {
        size_t m = mrc__min(w->running[t] - i, MRC__ROWS), unit = group * MRC__T(COLS);
        if (w->parts == 3 && w->backward) MRC__T(gru_cells_bwd)(w, t, d, unit, i, m);
        else if (w->parts == 3) MRC__T(gru_cells)(w, t, d, unit, i, m);
        else if (w->backward) MRC__T(lstm_cells_bwd)(w, t, d, unit, i, m);
        else MRC__T(lstm_cells)(w, t, d, unit, i, m);
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
// backward (4H, H): one panel.  (A GRU's: 3H, three.)
typedef struct MRC__T(lstm_packing) {
    const MRC__T(sweep) *w;
    const MRC__REAL *weight[2];
    size_t ld[2];
} MRC__T(lstm_packing);

MRC__TARGET static void MRC__T(lstm_pack_task)(void *arg, size_t task, size_t worker) {
    const MRC__T(lstm_packing) *p = arg;
    const size_t h = p->w->h, d = task / p->w->groups, unit = task % p->w->groups * MRC__T(COLS);
    MRC__REAL *to = p->w->pack[d] + unit * p->w->parts * h;
    (void)worker;
    if (p->w->backward) {
        MRC__T(pack_b)(to, p->weight[d] + unit, 1, p->ld[d], h - unit, p->w->parts * h);
        return;
    }
    for (size_t q = 0; q < p->w->parts; q++) {
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

static void MRC__T(lstm_run)(const mrc__host_backend *b, MRC__T(sweep) *w,
                             const mrc_in weight_hh[2]) {
    MRC__T(lstm_packing) p = { .w = w, .weight = { weight_hh[0].data, weight_hh[1].data },
                               .ld = { weight_hh[0].ld, weight_hh[1].ld } };
    mrc__pool_run(b->pool, 2 * w->groups, w->h * w->h, MRC__T(lstm_pack_task), &p);
    MRC__T(lstm_order)(w);
    MRC__T(lstm_sweep)(b, w);
}

// Lays the sweep's scratch out from base, or from NULL; returns its bytes.
static size_t MRC__T(lstm_scratch)(MRC__T(sweep) *w, void *base, size_t max_length) {
    const size_t padded = mrc__round_up(w->h, MRC__T(COLS));
    size_t bytes[6] = { padded * w->parts * w->h * sizeof(MRC__REAL), 0 }, total = 0;
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
    *w = (MRC__T(sweep)){ .n_sequences = a->n_sequences, .h = a->h, .parts = 4 };
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
    MRC__T(lstm_run)(b, &w, a->weight_hh);
    return MRC_OK;
}

// Behind the sweep's scratch: h of the step before, one direction at a time (N, H).
static size_t MRC__T(lstm_bwd_bytes)(const mrc_lstm_bwd_args *a, MRC__T(sweep) *w) {
    *w = (MRC__T(sweep)){ .n_sequences = a->n_sequences, .h = a->h, .parts = 4, .backward = 1 };
    w->groups = mrc__ceil_div(a->h, MRC__T(COLS));
    return MRC__T(lstm_scratch)(w, a->workspace, a->max_length);
}
static size_t MRC__T(lstm_bwd_workspace)(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    MRC__T(sweep) w;
    (void)be;
    return MRC__T(lstm_bwd_bytes)(a, &w) + a->n * a->h * sizeof(MRC__REAL);
}

MRC__TARGET static void MRC__T(lstm_before)(const int32_t *cu, size_t n_sequences, mrc_in y,
                                            size_t h, size_t d, MRC__REAL *to) {
    for (size_t s = 0; s < n_sequences; s++) {
        for (size_t r = (size_t)cu[s]; r < (size_t)cu[s + 1]; r++) {
            int first = d ? r + 1 == (size_t)cu[s + 1] : r == (size_t)cu[s];
            if (first) memset(to + r * h, 0, h * sizeof *to);
            else memcpy(to + r * h, MRC__T(row)(y, d ? r + 1 : r - 1) + d * h, h * sizeof *to);
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
        MRC__T(lstm_before)(a->cu_seqlens.data, a->n_sequences, a->y, h, d, before);
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
    MRC__T(lstm_run)(b, &w, a->weight_hh);
    return MRC__T(lstm_gradients)(be, a, (MRC__REAL *)(void *)before);
}

// ---- GRU ----

// A weight from its row o on.
MRC__TARGET static mrc_in MRC__T(gru_rows)(mrc_in weight, size_t o) {
    weight.data = MRC__T(row)(weight, o);
    return weight;
}

static size_t MRC__T(gru_fwd_bytes)(const mrc_gru_fwd_args *a, MRC__T(sweep) *w) {
    *w = (MRC__T(sweep)){ .n_sequences = a->n_sequences, .h = a->h, .parts = 3 };
    w->groups = mrc__ceil_div(a->h, MRC__T(COLS));
    return MRC__T(lstm_scratch)(w, a->workspace, a->max_length);
}
static size_t MRC__T(gru_fwd_workspace)(mrc_backend *be, const mrc_gru_fwd_args *a) {
    MRC__T(sweep) w;
    size_t rows = a->gates.data ? 0 : a->n * a->h * 8 * sizeof(MRC__REAL);
    (void)be;
    return MRC__T(gru_fwd_bytes)(a, &w) + rows;
}

MRC__TARGET static mrc_status MRC__T(gru_fwd)(mrc_backend *be, const mrc_gru_fwd_args *a) {
    const mrc__host_backend *b = be->self;
    const size_t h = a->h;
    MRC__T(sweep) w;
    MRC__REAL *rest = (MRC__REAL *)(void *)((char *)a->workspace + MRC__T(gru_fwd_bytes)(a, &w));
    w.cu = a->cu_seqlens.data;
    w.gates = a->gates.data ? a->gates.data : rest;
    w.gates_ld = a->gates.data ? a->gates.ld : 8 * h;
    w.y = a->y;
    for (size_t d = 0; d < 2; d++) {
        const MRC__REAL *ih = a->bias_ih[d].data, *hh = a->bias_hh[d].data;
        for (size_t i = 0; i < 2 * h; i++) w.bias[d][i] = ih[i] + hh[i];
        memcpy(w.bias[d] + 2 * h, hh + 2 * h, h * sizeof *hh);
        memcpy(w.bias[d] + 3 * h, ih + 2 * h, h * sizeof *ih);
        for (size_t n = 0; n < 2; n++) {
            mrc_gemm_args g = { .m = a->n, .n = n ? h : 2 * h, .k = a->in, .b_transposed = 1,
                                .a = a->x, .b = MRC__T(gru_rows)(a->weight_ih[d], n * 2 * h),
                                .c = { a->x.dtype, w.gates_ld,
                                       w.gates + d * 4 * h + n * 3 * h, 0 } };
            MRC__TRY(be->kernels[a->x.dtype].gemm(be, &g));
        }
    }
    MRC__T(lstm_run)(b, &w, a->weight_hh);
    return MRC_OK;
}

static size_t MRC__T(gru_bwd_bytes)(const mrc_gru_bwd_args *a, MRC__T(sweep) *w) {
    *w = (MRC__T(sweep)){ .n_sequences = a->n_sequences, .h = a->h, .parts = 3, .backward = 1 };
    w->groups = mrc__ceil_div(a->h, MRC__T(COLS));
    return MRC__T(lstm_scratch)(w, a->workspace, a->max_length);
}
static size_t MRC__T(gru_bwd_workspace)(mrc_backend *be, const mrc_gru_bwd_args *a) {
    MRC__T(sweep) w;
    (void)be;
    return MRC__T(gru_bwd_bytes)(a, &w) + a->n * a->h * sizeof(MRC__REAL);
}

// Outputs in the order of the struct.  What W_ih's rows meet is in two pieces: n 0: r and z, 1: n.
MRC__TARGET static mrc_status MRC__T(gru_gradients)(mrc_backend *be, const mrc_gru_bwd_args *a,
                                                    MRC__REAL *before) {
    const size_t h = a->h;
    const mrc_kernels *kernels = &be->kernels[a->x.dtype];
    mrc_in dz[2][2];
    for (size_t k = 0; k < 4; k++) {
        dz[k / 2][k % 2] = (mrc_in){ a->x.dtype, a->gates.ld, (const MRC__REAL *)a->gates.data
                                     + k / 2 * 4 * h + k % 2 * 3 * h };
    }
    for (size_t k = 0; a->dx.data && k < 4; k++) {
        mrc_gemm_args g = { .m = a->n, .n = a->in, .k = k % 2 ? h : 2 * h, .a = dz[k / 2][k % 2],
                            .b = MRC__T(gru_rows)(a->weight_ih[k / 2], k % 2 * 2 * h),
                            .c = a->dx };
        g.c.accumulate |= k > 0;
        MRC__TRY(kernels->gemm(be, &g));
    }
    for (size_t k = 0; k < 4; k++) {
        mrc_gemm_args g = { .m = k % 2 ? h : 2 * h, .n = a->in, .k = a->n, .a_transposed = 1,
                            .a = dz[k / 2][k % 2], .b = a->x, .c = a->dweight_ih[k / 2] };
        if (!g.c.data) continue;
        g.c.data = MRC__T(out_row)(g.c, k % 2 * 2 * h);
        MRC__TRY(kernels->gemm(be, &g));
    }
    for (size_t d = 0; d < 2; d++) {
        mrc_gemm_args g = { .m = 3 * h, .n = h, .k = a->n, .a_transposed = 1, .a = dz[d][0],
                            .b = { a->x.dtype, h, before }, .c = a->dweight_hh[d] };
        if (!g.c.data) continue;
        MRC__T(lstm_before)(a->cu_seqlens.data, a->n_sequences, a->y, h, d, before);
        MRC__TRY(kernels->gemm(be, &g));
    }
    for (size_t k = 0; k < 4; k++) {
        mrc_out out = a->dbias_ih[k / 2];
        if (out.data) out.data = (MRC__REAL *)out.data + k % 2 * 2 * h;
        MRC__T(sum_columns)(be, (MRC__T(columns)){ .n = a->n, .h = k % 2 ? h : 2 * h,
                                                   .dy = dz[k / 2][k % 2], .dbias = out });
    }
    for (size_t d = 0; d < 2; d++) {
        MRC__T(sum_columns)(be, (MRC__T(columns)){ .n = a->n, .h = 3 * h, .dy = dz[d][0],
                                                   .dbias = a->dbias_hh[d] });
    }
    return MRC_OK;
}

MRC__TARGET static mrc_status MRC__T(gru_bwd)(mrc_backend *be, const mrc_gru_bwd_args *a) {
    const mrc__host_backend *b = be->self;
    MRC__T(sweep) w;
    char *before = (char *)a->workspace + MRC__T(gru_bwd_bytes)(a, &w);
    w.cu = a->cu_seqlens.data;
    w.gates = a->gates.data;
    w.gates_ld = a->gates.ld;
    w.dy = a->dy;
    w.state = a->y;
    MRC__T(lstm_run)(b, &w, a->weight_hh);
    return MRC__T(gru_gradients)(be, a, (MRC__REAL *)(void *)before);
}
#endif // cpu pass

//==============================================================================
// >>impl.cpu   the instances of the kernels above, one per instruction set, and the backend
//
// Paths from one source: baseline (what the compiler targets anyway: SSE2 on x86-64, 16-byte
// vectors elsewhere); on x86-64 AVX2 with FMA and AVX-512 (F, DQ, BW, VL); on aarch64 NEON, the
// baseline's vectors with all registers and with products fused into sums.  The register block of
// each is chosen for its number of registers: ROWS x 2 sums, 2 of b, 1 of a.  cross_entropy and
// symmetric_kl stay naive: their sums are in double anyway, and they read two columns.
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
    k->adamp                   = MRC__T(adamp);
    k->adamp_workspace         = MRC__T(adamp_workspace);
    k->sgd                     = MRC__T(sgd);
    k->ema                     = MRC__T(ema);
    k->perturb                 = MRC__T(perturb);
    k->perturb_workspace       = MRC__T(perturb_workspace);
    k->gru_fwd                 = MRC__T(gru_fwd);
    k->gru_fwd_workspace       = MRC__T(gru_fwd_workspace);
    k->gru_bwd                 = MRC__T(gru_bwd);
    k->gru_bwd_workspace       = MRC__T(gru_bwd_workspace);
    k->unfold_fwd              = MRC__T(unfold_fwd);
    k->unfold_bwd              = MRC__T(unfold_bwd);
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
#if defined(__clang__) ? __clang_major__ >= 9 : __GNUC__ >= 10
#define MRC__TARGET_BF16 MRC__TARGETS("avx2,fma,avx512f,avx512dq,avx512bw,avx512vl,avx512bf16")
#endif
#define MRC__F32       1
#define MRC__REAL      float
#define MRC__T(name)   mrc__cpu_##name##_avx512_f32
#include MRC_SELF
#undef MRC__F32
#define MRC__F32       0
#define MRC__REAL      double
#define MRC__T(name)   mrc__cpu_##name##_avx512_f64
#include MRC_SELF
#ifdef MRC__TARGET_BF16
#undef MRC__TARGET_BF16
#define MRC__HAS_BF16
#endif
#undef MRC__F32
#undef MRC__ROWS
#undef MRC__ROWS_MID
#undef MRC__ROWS_MIN
#undef MRC__VEC_BYTES
#undef MRC__TARGET
#endif // x86-64

#if defined(__aarch64__)
#define MRC__ROWS      12           // 24 + 2 + 1: 27 of 32
#define MRC__ROWS_MID  8
#define MRC__ROWS_MIN  4
#define MRC__VEC_BYTES 16
#ifdef __clang__                    // fuses anyway
#define MRC__TARGET
#else
#define MRC__TARGET    __attribute__((optimize("fp-contract=fast")))
#endif
#define MRC__F32       1
#define MRC__REAL      float
#define MRC__T(name)   mrc__cpu_##name##_neon_f32
#include MRC_SELF
#undef MRC__F32
#define MRC__F32       0
#define MRC__REAL      double
#define MRC__T(name)   mrc__cpu_##name##_neon_f64
#include MRC_SELF
#undef MRC__F32
#undef MRC__ROWS
#undef MRC__ROWS_MID
#undef MRC__ROWS_MIN
#undef MRC__VEC_BYTES
#undef MRC__TARGET
#endif // aarch64

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
#elif defined(__aarch64__)
    if (isa == MRC_ISA_NEON) return 1;
#endif
    return 0;
}

static void mrc__cpu_fill(mrc_backend *be, mrc_isa isa) {
    mrc_kernels *f32 = &be->kernels[MRC_DTYPE_F32], *f64 = &be->kernels[MRC_DTYPE_F64];
    be->isa = "baseline";
    be->prepack_bytes = mrc__cpu_prepack_bytes_f32;
    be->prepack = mrc__cpu_prepack_f32;
    mrc__cpu_fill_f32(f32);
    mrc__cpu_fill_f64(f64);
#if defined(__x86_64__)
    if (isa == MRC_ISA_AVX2) {
        be->isa = "avx2";
        be->prepack_bytes = mrc__cpu_prepack_bytes_avx2_f32;
        be->prepack = mrc__cpu_prepack_avx2_f32;
        mrc__cpu_fill_avx2_f32(f32);
        mrc__cpu_fill_avx2_f64(f64);
    }
    if (isa == MRC_ISA_AVX512) {
        be->isa = "avx512";
        be->prepack_bytes = mrc__cpu_prepack_bytes_avx512_f32;
        be->prepack = mrc__cpu_prepack_avx512_f32;
        mrc__cpu_fill_avx512_f32(f32);
        mrc__cpu_fill_avx512_f64(f64);
#ifdef MRC__HAS_BF16
        ((mrc__host_backend *)be->self)->dot_bf16 = __builtin_cpu_supports("avx512bf16") != 0;
#endif
    }
#elif defined(__aarch64__)
    if (isa == MRC_ISA_NEON) {
        be->isa = "neon";
        be->prepack_bytes = mrc__cpu_prepack_bytes_neon_f32;
        be->prepack = mrc__cpu_prepack_neon_f32;
        mrc__cpu_fill_neon_f32(f32);
        mrc__cpu_fill_neon_f64(f64);
    }
#else
    (void)isa;
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
    be->kernels[MRC_DTYPE_F16] = be->kernels[MRC_DTYPE_BF16] = (mrc_kernels){0};
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
            : mrc__cpu_has(MRC_ISA_AVX2) ? MRC_ISA_AVX2
            : mrc__cpu_has(MRC_ISA_NEON) ? MRC_ISA_NEON : MRC_ISA_BASELINE;
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
// >>impl.null   no memory and no arithmetic: what a step takes, without taking it
//
// Addresses rise and are never used again, so that none is given out twice.  A query is answered by
// the instance that is planned for, by its own function, as it may read its own state (threads).
//==============================================================================
#ifdef MRC__PASS_CORE
typedef struct mrc__null_block {
    struct mrc__null_block *next;
    void  *ptr;
    size_t bytes;
} mrc__null_block;

typedef struct mrc__null_backend {
    mrc_backend      base;
    mrc_allocator    host;
    mrc_backend     *like;
    mrc__null_block *given;         // newest first
    uintptr_t        next;          // the next address
    mrc_null_counts  counts;
} mrc__null_backend;

static void *mrc__null_alloc(mrc_backend *be, size_t bytes) {
    mrc__null_backend *n = be->self;
    size_t rounded;
    if (!mrc__add(bytes ? bytes : 1, MRC_ALIGNMENT - 1, &rounded)) return NULL;
    rounded -= rounded % MRC_ALIGNMENT;
    if (rounded > UINTPTR_MAX - n->next) return NULL;
    mrc__null_block *b = mrc__host_zalloc(&n->host, sizeof *b);
    if (!b) return NULL;
    *b = (mrc__null_block){ .next = n->given, .ptr = (void *)n->next, .bytes = bytes };
    n->given = b;
    n->next += rounded;
    n->counts.live += bytes;
    if (n->counts.live > n->counts.peak) n->counts.peak = n->counts.live;
    return b->ptr;
}

static void mrc__null_free(mrc_backend *be, void *ptr) {
    mrc__null_backend *n = be->self;
    mrc__null_block **at = &n->given;
    while (*at && (*at)->ptr != ptr) at = &(*at)->next;
    mrc__null_block *b = *at;
    if (!b) return;
    *at = b->next;
    n->counts.live -= b->bytes;
    n->host.free(n->host.user, b);
}

static mrc_status mrc__null_upload(mrc_backend *be, void *dst, const void *src, size_t bytes) {
    (void)be; (void)dst; (void)src; (void)bytes;
    return MRC_OK;
}
static mrc_status mrc__null_download(mrc_backend *be, void *dst, const void *src, size_t bytes) {
    (void)be; (void)src;
    if (bytes) memset(dst, 0, bytes);
    return MRC_OK;
}

static size_t mrc__null_prepack_bytes(mrc_backend *be, mrc_dtype dtype, size_t rows,
                                      size_t columns) {
    mrc_backend *like = ((mrc__null_backend *)be->self)->like;
    return like->prepack_bytes(like, dtype, rows, columns);
}
static mrc_status mrc__null_prepack(mrc_backend *be, void *dst, mrc_dtype dtype, size_t rows,
                                    size_t columns, const float *src) {
    (void)be; (void)dst; (void)dtype; (void)rows; (void)columns; (void)src;
    return MRC_OK;
}

// `products` times m x n x k.
static mrc_status mrc__null_count(mrc_backend *be, size_t m, size_t n, size_t k, int products) {
    mrc__null_backend *null = be->self;
    null->counts.flops += 2.0 * (double)m * (double)n * (double)k * products;
    return MRC_OK;
}
static mrc_status mrc__null_gemm(mrc_backend *be, const mrc_gemm_args *a) {
    return mrc__null_count(be, a->m, a->n, a->k, 1);
}
static mrc_status mrc__null_linear_fwd(mrc_backend *be, const mrc_linear_fwd_args *a) {
    return mrc__null_count(be, a->n, a->out, a->in, 1);
}
static mrc_status mrc__null_linear_bwd(mrc_backend *be, const mrc_linear_bwd_args *a) {
    return mrc__null_count(be, a->n, a->out, a->in, !!a->dx.data + !!a->dweight.data);
}
static mrc_status mrc__null_qkv_fwd(mrc_backend *be, const mrc_qkv_fwd_args *a) {
    return mrc__null_count(be, a->n, 3 * a->out, a->in, 1);
}
static mrc_status mrc__null_qkv_bwd(mrc_backend *be, const mrc_qkv_bwd_args *a) {
    return mrc__null_count(be, a->n, 3 * a->out, a->in, !!a->dx.data + !!a->dweight[0].data);
}
static mrc_status mrc__null_lstm_fwd(mrc_backend *be, const mrc_lstm_fwd_args *a) {
    return mrc__null_count(be, a->n, 8 * a->h, a->in + a->h, 1);
}
// Through time always; to x and to the weights where wanted.
static mrc_status mrc__null_lstm_bwd(mrc_backend *be, const mrc_lstm_bwd_args *a) {
    mrc__null_count(be, a->n, 8 * a->h, a->h, 1 + !!a->dweight_hh[0].data);
    return mrc__null_count(be, a->n, 8 * a->h, a->in, !!a->dx.data + !!a->dweight_ih[0].data);
}

static mrc_status mrc__null_gru_fwd(mrc_backend *be, const mrc_gru_fwd_args *a) {
    return mrc__null_count(be, a->n, 6 * a->h, a->in + a->h, 1);
}
static mrc_status mrc__null_gru_bwd(mrc_backend *be, const mrc_gru_bwd_args *a) {
    mrc__null_count(be, a->n, 6 * a->h, a->h, 1 + !!a->dweight_hh[0].data);
    return mrc__null_count(be, a->n, 6 * a->h, a->in, !!a->dx.data + !!a->dweight_ih[0].data);
}

#define MRC__NULL_QUERY(name, TYPE)                                                         \
    static size_t mrc__null_##name##_##TYPE(mrc_backend *be, const mrc_##name##_args *a) {  \
        mrc_backend *like = ((mrc__null_backend *)be->self)->like;                          \
        return like->kernels[MRC_DTYPE_##TYPE].name##_workspace(like, a);                   \
    }
#define MRC_X(name)                                                                         \
    static mrc_status mrc__null_run_##name(mrc_backend *be, const mrc_##name##_args *a) {   \
        (void)be; (void)a;                                                                  \
        return MRC_OK;                                                                      \
    }                                                                                       \
    MRC__NULL_QUERY(name, F32) MRC__NULL_QUERY(name, F64)                                   \
    MRC__NULL_QUERY(name, F16) MRC__NULL_QUERY(name, BF16)
MRC_KERNEL_LIST(MRC_X)
#undef MRC_X
#undef MRC__NULL_QUERY

// What `like` lacks stays NULL: the plan fails where the step would.
static void mrc__null_fill(mrc_backend *be, const mrc_backend *like) {
#define MRC__NULL_FILL(name, TYPE)                                                          \
    if (like->kernels[MRC_DTYPE_##TYPE].name) {                                             \
        be->kernels[MRC_DTYPE_##TYPE].name = mrc__null_run_##name;                          \
    }                                                                                       \
    if (like->kernels[MRC_DTYPE_##TYPE].name##_workspace) {                                 \
        be->kernels[MRC_DTYPE_##TYPE].name##_workspace = mrc__null_##name##_##TYPE;         \
    }
#define MRC_X(name)                                                                         \
    MRC__NULL_FILL(name, F32) MRC__NULL_FILL(name, F64)                                     \
    MRC__NULL_FILL(name, F16) MRC__NULL_FILL(name, BF16)
    MRC_KERNEL_LIST(MRC_X)
#undef MRC_X
#undef MRC__NULL_FILL
    for (int dtype = 0; dtype < MRC_DTYPE_COUNT; dtype++) {
        mrc_kernels *k = &be->kernels[dtype];
        if (k->gemm) k->gemm = mrc__null_gemm;
        if (k->linear_fwd) k->linear_fwd = mrc__null_linear_fwd;
        if (k->linear_bwd) k->linear_bwd = mrc__null_linear_bwd;
        if (k->qkv_fwd) k->qkv_fwd = mrc__null_qkv_fwd;
        if (k->qkv_bwd) k->qkv_bwd = mrc__null_qkv_bwd;
        if (k->lstm_fwd) k->lstm_fwd = mrc__null_lstm_fwd;
        if (k->lstm_bwd) k->lstm_bwd = mrc__null_lstm_bwd;
        if (k->gru_fwd) k->gru_fwd = mrc__null_gru_fwd;
        if (k->gru_bwd) k->gru_bwd = mrc__null_gru_bwd;
    }
}

static void mrc__null_destroy(mrc_backend *be) {
    mrc__null_backend *n = be->self;
    while (n->given) mrc__null_free(be, n->given->ptr);
    n->host.free(n->host.user, n);
}

MRCDEF mrc_status mrc_backend_null_new(mrc_backend **out, mrc_backend *like,
                                       const mrc_backend_desc *desc) {
    mrc_allocator host;
    if (!out) return MRC_ERR_ARG;
    *out = NULL;
    if (mrc__backend_refusal(like)
        || !mrc__allocator_init(&host, desc ? &desc->allocator : NULL)) return MRC_ERR_ARG;
    mrc__null_backend *n = mrc__host_zalloc(&host, sizeof *n);
    if (!n) return MRC_ERR_MEM;
    n->host = host;
    n->like = like;
    n->next = MRC_ALIGNMENT;                        // 0 is NULL
    n->base = (mrc_backend){ .size = sizeof(mrc_backend), .api = MRC_BACKEND_API, .name = "null",
                             .isa = like->isa, .self = n, .destroy = mrc__null_destroy,
                             .alloc = mrc__null_alloc, .free = mrc__null_free,
                             .upload = mrc__null_upload, .download = mrc__null_download };
    if (like->prepack_bytes) {
        n->base.prepack_bytes = mrc__null_prepack_bytes;
        n->base.prepack = mrc__null_prepack;
    }
    mrc__null_fill(&n->base, like);
    *out = &n->base;
    return MRC_OK;
}

MRCDEF mrc_null_counts mrc_backend_null_counts(const mrc_backend *be) {
    return ((const mrc__null_backend *)be->self)->counts;
}
#endif // core pass

//==============================================================================
// >>impl.optim   moments, the step, learning rates; parameters to and from files
//==============================================================================
#ifdef MRC__PASS_CORE
MRCDEF mrc_optimizer_config mrc_optimizer_config_default(void) {
    return (mrc_optimizer_config){ .magic = MRC_OPTIMIZER_MAGIC, .variant = MRC_ADAMW_TORCH,
                                   .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .max_grad_norm = 1,
                                   .loss_scale_interval = 2000, .loss_scale_hysteresis = 2 };
}

struct mrc_optimizer {
    mrc_allocator        host;
    mrc_optimizer_config config;
    const mrc_params    *params;
    mrc_params          *exp_avg, *exp_avg_sq, *scalars;
    mrc_tensor          *norm, *clip, *state;
    mrc_tensor          *loss_scale, *loss_scale_counts;        // NULL: there is none
    mrc_optim_tensor    *list;      // room for every parameter; filled in each step
};

// t = 0, a piece at a time: no backend has a fill.
static mrc_status mrc__tensor_zero(mrc_ctx *ctx, mrc_tensor *t) {
    static const char zeros[4096];
    size_t bytes = t->numel * mrc_dtype_bytes(t->dtype);
    for (size_t at = 0; at < bytes; at += sizeof zeros) {
        size_t n = bytes - at < sizeof zeros ? bytes - at : sizeof zeros;
        mrc_status s = ctx->be->upload(ctx->be, (char *)t->data + at, zeros, n);
        if (s != MRC_OK) return mrc__fail(ctx, s, "zeros: upload on %s", ctx->be->name);
    }
    return MRC_OK;
}

static mrc_status mrc__optimizer_moments(mrc_ctx *ctx, mrc_optimizer *o) {
    mrc_params *lists[2] = { o->exp_avg, o->exp_avg_sq };
    for (size_t i = 0; ; i++) {
        const mrc_tensor *p = mrc_params_at(o->params, i);
        if (!p) return MRC_OK;
        for (int k = 0; k < 2 && p->requires_grad; k++) {
            mrc_tensor *t;
            mrc_status s = mrc_param_new(lists[k], &t, p->name, p->dtype, p->ndim, p->shape);
            if (s != MRC_OK) {
                return mrc__fail(ctx, s, "optimizer: no memory for a moment of %s", p->name);
            }
            MRC__TRY(mrc__tensor_zero(ctx, t));
        }
    }
}

static mrc_status mrc__optimizer_scale(mrc_ctx *ctx, mrc_optimizer *o) {
    const size_t two = 2;
    const float scale = (float)o->config.loss_scale;
    if (mrc_param_new(o->scalars, &o->loss_scale, "loss_scale", MRC_DTYPE_F32, 0, NULL) != MRC_OK
        || mrc_param_new(o->scalars, &o->loss_scale_counts, "loss_scale_counts", MRC_DTYPE_I32, 1,
                         &two) != MRC_OK) {
        return mrc__fail(ctx, MRC_ERR_MEM, "optimizer: no memory for the loss scale");
    }
    MRC__TRY(mrc__tensor_zero(ctx, o->loss_scale_counts));
    return mrc_tensor_upload(ctx, o->loss_scale, &scale);
}

static mrc_status mrc__optimizer_make(mrc_ctx *ctx, mrc_optimizer *o) {
    size_t n = o->params->n, bytes;
    const size_t two = 2;
    const mrc_tensor *first = mrc_params_at(o->params, 0);
    mrc_dtype stat = first ? mrc__stat_dtype(first->dtype) : MRC_DTYPE_F32;
    if (!mrc__mul(n + 1, sizeof *o->list, &bytes)) return MRC_ERR_MEM;
    o->list = ctx->host.alloc(ctx->host.user, bytes);
    if (!o->list
        || mrc_params_new(&o->exp_avg, ctx->be, &ctx->host) != MRC_OK
        || mrc_params_new(&o->exp_avg_sq, ctx->be, &ctx->host) != MRC_OK
        || mrc_params_new(&o->scalars, ctx->be, &ctx->host) != MRC_OK
        || mrc_param_new(o->scalars, &o->norm, "norm", stat, 0, NULL) != MRC_OK
        || mrc_param_new(o->scalars, &o->clip, "clip", stat, 0, NULL) != MRC_OK
        || mrc_param_new(o->scalars, &o->state, "state", MRC_DTYPE_I32, 1, &two) != MRC_OK) {
        return mrc__fail(ctx, MRC_ERR_MEM, "optimizer: no memory for %zu parameters", n);
    }
    MRC__TRY(mrc__tensor_zero(ctx, o->norm));
    MRC__TRY(mrc__tensor_zero(ctx, o->clip));
    MRC__TRY(mrc__tensor_zero(ctx, o->state));
    if (o->config.loss_scale > 0) MRC__TRY(mrc__optimizer_scale(ctx, o));
    return mrc__optimizer_moments(ctx, o);
}

MRCDEF mrc_status mrc_optimizer_new(mrc_ctx *ctx, mrc_optimizer **out, const mrc_params *params,
                                    const mrc_optimizer_config *config) {
    if (out) *out = NULL;
    if (!ctx || !out || !params || !config) return MRC_ERR_ARG;
    if (config->magic != MRC_OPTIMIZER_MAGIC) {
        return mrc__fail(ctx, MRC_ERR_ARG, "optimizer: the config is not from "
                         "mrc_optimizer_config_default()");
    }
    if (!ctx->be) return mrc__fail(ctx, MRC_ERR_ARG, "optimizer: the context has no backend");
    double scale = config->loss_scale;
    if (scale != 0 && !(scale >= 1 && scale <= 0x1p126 && config->loss_scale_interval > 0
                        && config->loss_scale_hysteresis > 0)) {
        return mrc__fail(ctx, MRC_ERR_ARG, "optimizer: the loss scale begins with %g, grows after "
                         "%d steps, falls at overflow %d (expected 1 or more each)", scale,
                         (int)config->loss_scale_interval, (int)config->loss_scale_hysteresis);
    }
    mrc_optimizer *o = mrc__host_zalloc(&ctx->host, sizeof *o);
    if (!o) return mrc__fail(ctx, MRC_ERR_MEM, "optimizer: no host memory");
    o->host = ctx->host;
    o->config = *config;
    o->params = params;
    mrc_status s = mrc__optimizer_make(ctx, o);
    if (s != MRC_OK) {
        mrc_optimizer_free(o);
        return s;
    }
    *out = o;
    return MRC_OK;
}

MRCDEF void mrc_optimizer_free(mrc_optimizer *o) {
    if (!o) return;
    mrc_params_free(o->exp_avg);
    mrc_params_free(o->exp_avg_sq);
    mrc_params_free(o->scalars);
    if (o->list) o->host.free(o->host.user, o->list);
    o->host.free(o->host.user, o);
}

// HF's rule: biases and the weights of LayerNorm are not decayed.
static int mrc__decays(const char *name) {
    return !strstr(name, "bias") && !strstr(name, "LayerNorm.weight");
}

static mrc_in mrc__flat_in(const mrc_tensor *t, const void *data) {
    return (mrc_in){ .dtype = t->dtype, .ld = t->numel, .data = data };
}
static mrc_out mrc__flat_out(const mrc_tensor *t) {
    return (mrc_out){ .dtype = t->dtype, .ld = t->numel, .data = t->data };
}

// Fills in the list; returns how many parameters have a gradient.
static size_t mrc__optimizer_list(mrc_ctx *ctx, mrc_optimizer *o, double lr) {
    size_t n = 0, moment = 0;
    for (size_t i = 0; ; i++) {
        mrc_tensor *p = mrc_params_at(o->params, i);
        if (!p) return n;
        mrc_tensor *m = mrc_params_at(o->exp_avg, moment);
        if (!m || strcmp(m->name, p->name)) continue;   // wanted no gradient from the start
        mrc_tensor *v = mrc_params_at(o->exp_avg_sq, moment++);
        const void *grad = mrc_grad(ctx, p);
        if (!grad) continue;
        mrc_out copy = { .dtype = p->copy_dtype, .ld = p->numel, .data = p->copy };
        int decays = o->config.decay_all || mrc__decays(p->name);
        o->list[n++] = (mrc_optim_tensor){
            .numel = p->numel, .rows = p->ndim > 1 ? p->shape[0] : 0,
            .grad = mrc__flat_in(p, grad), .param = mrc__flat_out(p),
            .copy = copy, .m = mrc__flat_out(m), .v = mrc__flat_out(v), .lr = lr,
            .weight_decay = decays ? o->config.weight_decay : 0 };
    }
}

MRCDEF mrc_status mrc_optimizer_step(mrc_ctx *ctx, mrc_optimizer *o, double lr) {
    if (!ctx || !o) return MRC_ERR_ARG;
    if (!(lr >= 0 && lr <= DBL_MAX)) {
        return mrc__fail(ctx, MRC_ERR_ARG, "optimizer: the learning rate is %g", lr);
    }
    size_t n = mrc__optimizer_list(ctx, o, lr);
    if (n == 0) return mrc__fail(ctx, MRC_ERR_ARG, "optimizer: no parameter has a gradient");
    mrc_dtype dtype = o->list[0].param.dtype;
    mrc_grad_norm_args norm = { .n_tensors = n, .tensors = o->list,
                                .max_norm = o->config.max_grad_norm, .norm = mrc__flat_out(o->norm),
                                .clip = mrc__flat_out(o->clip), .state = mrc__flat_out(o->state) };
    if (o->loss_scale) {
        norm.loss_scale = (mrc_loss_scale){
            .scale = mrc__flat_out(o->loss_scale), .counts = mrc__flat_out(o->loss_scale_counts),
            .growth_interval = o->config.loss_scale_interval,
            .hysteresis = o->config.loss_scale_hysteresis };
    }
    MRC__TRY(MRC__RUN(ctx, dtype, grad_norm, &norm));
    mrc_adamw_args adamw = { .n_tensors = n, .tensors = o->list, .variant = o->config.variant,
                             .beta1 = o->config.beta1, .beta2 = o->config.beta2,
                             .eps = o->config.eps, .clip = mrc__in(o->clip),
                             .state = mrc__in(o->state) };
    MRC__TRY(MRC__RUN(ctx, dtype, adamw, &adamw));
    mrc_grad_clear(ctx);
    return MRC_OK;
}

MRCDEF mrc_status mrc_optimizer_stats(mrc_ctx *ctx, mrc_optimizer *o, double *grad_norm,
                                      int64_t *applied, int *skipped) {
    int32_t state[2];
    double f64 = 0;
    float f32 = 0;
    if (!ctx || !o) return MRC_ERR_ARG;
    int is_f64 = o->norm->dtype == MRC_DTYPE_F64;
    MRC__TRY(mrc_tensor_download(ctx, o->norm, is_f64 ? (void *)&f64 : &f32));
    MRC__TRY(mrc_tensor_download(ctx, o->state, state));
    if (grad_norm) *grad_norm = is_f64 ? f64 : (double)f32;
    if (applied) *applied = state[0];
    if (skipped) *skipped = state[1];
    return MRC_OK;
}

MRCDEF const mrc_tensor *mrc_optimizer_loss_scale(const mrc_optimizer *o) {
    return o ? o->loss_scale : NULL;
}

//------------------------------------------------------------------------------
// Parameters to and from safetensors: models and optimizers share these.
//------------------------------------------------------------------------------
static mrc_status mrc__param_fill(mrc_ctx *ctx, void *user, uint64_t offset, void *dst,
                               size_t bytes) {
    const mrc_tensor *t = user;
    mrc_status s = ctx->be->download(ctx->be, dst, (const char *)t->data + offset, bytes);
    return s == MRC_OK ? s : mrc__fail(ctx, s, "download of %s on %s", t->name, ctx->be->name);
}

static void mrc__param_describe(mrc_st_tensor *to, mrc_tensor *t, const char *name) {
    *to = (mrc_st_tensor){ .name = name, .ndim = t->ndim, .fill = mrc__param_fill, .user = t,
                           .dtype = t->dtype == MRC_DTYPE_F64 ? "F64"
                                  : t->dtype == MRC_DTYPE_I32 ? "I32" : "F32" };
    for (int i = 0; i < t->ndim; i++) to->shape[i] = t->shape[i];
}

// "(768, 3072)" for messages.
static const char *mrc__shape_text(char text[96], int ndim, const uint64_t *shape) {
    size_t at = 0;
    text[at++] = '(';
    for (int i = 0; i < ndim && at < 80; i++) {
        at += (size_t)snprintf(text + at, 96 - at, i ? ", %llu" : "%llu",
                               (unsigned long long)shape[i]);
    }
    snprintf(text + at, 96 - at, ")");
    return text;
}

// Reads one tensor of a file into t; its shape must be t's.
static mrc_status mrc__param_load(mrc_ctx *ctx, mrc_safetensors *st, const mrc_st_entry *e,
                               mrc_tensor *t, const char *path) {
    uint64_t want[MRC_MAX_DIMS] = {0};
    char found[96], expected[96];
    int same = e->ndim == t->ndim;
    size_t bytes = t->numel * mrc_dtype_bytes(t->dtype);
    for (int i = 0; i < t->ndim; i++) {
        want[i] = t->shape[i];
        same = same && e->shape[i] == t->shape[i];
    }
    if (!same) {
        return mrc__fail(ctx, MRC_ERR_SHAPE, "%s: %s has another shape (found %s, expected %s)",
                         path, e->name, mrc__shape_text(found, e->ndim, e->shape),
                         mrc__shape_text(expected, t->ndim, want));
    }
    void *host = ctx->host.alloc(ctx->host.user, bytes ? bytes : 1);
    if (!host) return mrc__fail(ctx, MRC_ERR_MEM, "%s: %s: no %zu bytes", path, e->name, bytes);
    mrc_status s = mrc_safetensors_read(st, e, t->dtype, host);
    if (s == MRC_OK) s = mrc_tensor_upload(ctx, t, host);
    ctx->host.free(ctx->host.user, host);
    return s;
}

MRCDEF mrc_status mrc_optimizer_save(mrc_ctx *ctx, mrc_optimizer *o, const char *path) {
    if (!ctx || !o || !path) return MRC_ERR_ARG;
    size_t n = o->exp_avg->n, bytes, k = 0;
    const mrc_params *lists[2] = { o->exp_avg, o->exp_avg_sq };
    mrc_text names;
    mrc_text_init(&names, ctx);
    for (int l = 0; l < 2; l++) {                       // all names first: the text may move
        for (size_t i = 0; i < n; i++) {
            mrc_text_printf(&names, "%s.%s", l ? "exp_avg_sq" : "exp_avg",
                            mrc_params_at(lists[l], i)->name);
            mrc_text_add(&names, "", 1);
        }
    }
    mrc_st_tensor *list = mrc__mul(2 * n + 3, sizeof *list, &bytes)
                        ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    mrc_status s = list && !names.failed ? MRC_OK
                 : mrc__fail(ctx, MRC_ERR_MEM, "%s: no host memory", path);
    const char *name = names.data;
    for (int l = 0; s == MRC_OK && l < 2; l++) {
        for (size_t i = 0; i < n; i++, name += strlen(name) + 1) {
            mrc__param_describe(&list[k++], mrc_params_at(lists[l], i), name);
        }
    }
    if (s == MRC_OK) {
        mrc_tensor *scalars[] = { o->state, o->loss_scale, o->loss_scale_counts };
        for (int i = 0; i < (o->loss_scale ? 3 : 1); i++) {
            mrc__param_describe(&list[k++], scalars[i], scalars[i]->name);
        }
        s = mrc_safetensors_write(ctx, path, list, k, NULL);
    }
    if (list) ctx->host.free(ctx->host.user, list);
    mrc_text_free(&names);
    return s;
}

MRCDEF mrc_status mrc_optimizer_load(mrc_ctx *ctx, mrc_optimizer *o, const char *path) {
    mrc_safetensors *st;
    if (!ctx || !o || !path) return MRC_ERR_ARG;
    MRC__TRY(mrc_safetensors_open(ctx, &st, path));
    const mrc_params *lists[2] = { o->exp_avg, o->exp_avg_sq };
    mrc_status s = MRC_OK;
    for (size_t i = 0; s == MRC_OK && i < 2 * o->exp_avg->n; i++) {
        char name[512];
        mrc_tensor *t = mrc_params_at(lists[i % 2], i / 2);
        snprintf(name, sizeof name, "%s.%s", i % 2 ? "exp_avg_sq" : "exp_avg", t->name);
        const mrc_st_entry *e = mrc_safetensors_find(st, name);
        s = e ? mrc__param_load(ctx, st, e, t, path)
              : mrc__fail(ctx, MRC_ERR_FORMAT, "%s: has no tensor %s", path, name);
    }
    mrc_tensor *scalars[] = { o->state, o->loss_scale, o->loss_scale_counts };
    for (int i = 0; s == MRC_OK && i < (o->loss_scale ? 3 : 1); i++) {
        const mrc_st_entry *e = mrc_safetensors_find(st, scalars[i]->name);
        s = e ? mrc__param_load(ctx, st, e, scalars[i], path)
              : mrc__fail(ctx, MRC_ERR_FORMAT, "%s: has no tensor %s", path, scalars[i]->name);
    }
    mrc_safetensors_close(st);
    return s;
}

MRCDEF double mrc_schedule_factor(mrc_schedule kind, uint64_t step, uint64_t warmup_steps,
                                  uint64_t total_steps) {
    double t = (double)step, w = (double)warmup_steps, total = (double)total_steps;
    if (kind == MRC_SCHEDULE_CONSTANT) return 1;
    if (step < warmup_steps) return t / (w > 1 ? w : 1);
    if (kind == MRC_SCHEDULE_CONSTANT_WITH_WARMUP) return 1;
    double rest = total - w > 1 ? total - w : 1;
    return total > t ? (total - t) / rest : 0;
}
#endif // core pass

//==============================================================================
// >>impl.trie   the vocabulary as a table, and what is known of characters
//
// The vocabulary is a trie over code points: the longest match, which is all that WordPiece asks
// for, is one walk, and no choice of tokens makes it slow.
//==============================================================================
#ifdef MRC__PASS_CORE
typedef struct mrc__uni_range { uint32_t first, last, value; } mrc__uni_range;
typedef struct mrc__uni_lower { uint32_t first, last, step; int32_t delta; } mrc__uni_lower;
// `count` code points from `first` on, each decomposing to `length` parts: the first from `at`.
typedef struct mrc__uni_run { uint32_t first, count, length, at; } mrc__uni_run;
typedef struct mrc__unicode {
    const mrc__uni_range *classes, *combining, *gpt2;
    const mrc__uni_lower *lowers;
    const mrc__uni_run   *runs;
    const uint32_t       *parts;
    size_t                n_classes, n_combining, n_gpt2, n_lowers, n_runs;
} mrc__unicode;
static const mrc__unicode mrc__unicode_tables;      // generated data stands last, in impl.tables

#define MRC__UNI_POINTS 0x110000u
enum {
    MRC__UNI_DROP = 1, MRC__UNI_SPACE = 2, MRC__UNI_PUNCT = 4, MRC__UNI_CJK = 8, MRC__UNI_MARK = 16,
    MRC__UNI_NFD = 32, MRC__UNI_COMBINING = 64, MRC__UNI_LOWER = 128,
    MRC__GPT2_LETTER = 4, MRC__GPT2_NUMBER = 8      // byte-level BPE, with SPACE
};
#define MRC__BPE_SPACE 0x120u       // what stands for a space in byte-level BPE's tokens

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

// The node behind an edge, made if it is not there; 0: out of memory.
static int mrc__tok_edge_put(const mrc_allocator *host, mrc__tok_trie *t, uint64_t key,
                             uint32_t *node) {
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
    return 1;
}

// The node of a string, made if it is not there; 0: out of memory.
static int mrc__tok_trie_put(const mrc_allocator *host, mrc__tok_trie *t, const char *text,
                             size_t bytes, uint32_t *node) {
    const unsigned char *s = (const unsigned char *)text, *end = s + bytes;
    *node = 0;
    while (s < end) {
        uint32_t cp;
        s += mrc__tok_decode(s, end, &cp);
        if (!mrc__tok_edge_put(host, t, mrc__tok_key(*node, cp), node)) return 0;
    }
    return 1;
}

// From a node on, which may be none.
static uint32_t mrc__tok_trie_walk(const mrc__tok_trie *t, uint32_t node, const char *text,
                                   size_t bytes) {
    const unsigned char *s = (const unsigned char *)text, *end = s + bytes;
    uint32_t cp;
    while (s < end && node != MRC__TOK_NONE) {
        s += mrc__tok_decode(s, end, &cp);
        node = mrc__tok_next(t, node, cp);
    }
    return node;
}
static uint32_t mrc__tok_trie_find(const mrc__tok_trie *t, const char *text, size_t bytes) {
    return mrc__tok_trie_walk(t, 0, text, bytes);
}

#endif // core pass

//==============================================================================
// >>impl.vocabulary   a tokenizer's files: vocab.txt with Hugging Face's settings, tokenizer.json
//
// What to do with a character is one byte per code point, made at load: the bits of stages that are
// switched off are clear.
// Ids are 0 to n - 1, each with one token: twins, holes and strangers are refused.
// What byte-level BPE has more, its merges, is read in impl.bpe.
//==============================================================================
#ifdef MRC__PASS_CORE
#define MRC__TOK_TEMPLATE_ITEMS 16
typedef struct mrc__tok_item {
    int32_t sequence, type_id, id;  // sequence 0 or 1 (id is not read), -1: the special token id
} mrc__tok_item;
typedef struct mrc__tok_template {
    size_t        n, n_special;
    mrc__tok_item item[MRC__TOK_TEMPLATE_ITEMS];
} mrc__tok_template;

// The tokens that are found in the raw text; those that tokenizer.json calls "normalized" are
// looked for in what the others left.
#define MRC__TOK_PASSES 2
enum { MRC__TOK_LSTRIP = 1, MRC__TOK_WHOLE = 2 };   // takes white space before it; see impl.bpe

struct mrc_tokenizer {
    mrc_allocator     host;
    mrc__tok_trie     words, added[MRC__TOK_PASSES];    // the vocabulary; added tokens by pass
    mrc__tok_trie     merges;       // byte-level BPE: no edges without it
    uint32_t          suffix;       // the node of the continuing prefix "##"
    uint8_t           added_first[256];     // bit p: an added token of pass p begins so
    uint8_t          *classes;      // by code point
    mrc_text          pool;         // the tokens' texts
    size_t           *token_at;     // by id: where in the pool; SIZE_MAX: no such id yet
    uint8_t          *flags;        // by id
    int32_t           byte_id[256];         // BPE: the tokens of single bytes
    int               prefix_space;         // BPE: a space is put before the text
    int               trim, trim_prefix;    // BPE: offsets spare spaces, but for one put there
    size_t            n, capacity;
    size_t            max_length, max_chars;
    mrc_special_ids   special;
    mrc__tok_template single, pair;
};

MRCDEF void mrc_tokenizer_free(mrc_tokenizer *tok) {
    if (!tok) return;
    mrc_allocator host = tok->host;
    mrc__tok_trie_free(&host, &tok->words);
    mrc__tok_trie_free(&host, &tok->merges);
    for (int p = 0; p < MRC__TOK_PASSES; p++) mrc__tok_trie_free(&host, &tok->added[p]);
    if (tok->flags) host.free(host.user, tok->flags);
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
static inline int32_t mrc__tok_value(const mrc__tok_trie *t, uint32_t node) {
    return node == MRC__TOK_NONE ? -1 : t->value[node];
}
static int32_t mrc__tok_id(const mrc_tokenizer *tok, const char *token, size_t bytes) {
    int32_t id = mrc__tok_value(&tok->words, mrc__tok_trie_find(&tok->words, token, bytes));
    for (int p = 0; id < 0 && p < MRC__TOK_PASSES; p++) {
        id = mrc__tok_value(&tok->added[p], mrc__tok_trie_find(&tok->added[p], token, bytes));
    }
    return id;
}
MRCDEF int32_t mrc_tokenizer_id(const mrc_tokenizer *tok, const char *token) {
    return token ? mrc__tok_id(tok, token, strlen(token)) : -1;
}

//
// Loading.  mrc__tok_source is what the files say: settings, and the JSON trees as long as needed.
//
enum { MRC__TOK_CLS, MRC__TOK_SEP, MRC__TOK_PAD, MRC__TOK_UNK, MRC__TOK_MASK, MRC__TOK_BOS,
       MRC__TOK_EOS, MRC__TOK_NAMES };
// usual: in WordPiece, in byte-level BPE.
static const struct { const char *key, *usual[2]; } mrc__tok_names[MRC__TOK_NAMES] = {
    { "cls_token", { "[CLS]", "<s>" } }, { "sep_token", { "[SEP]", "</s>" } },
    { "pad_token", { "[PAD]", "<pad>" } }, { "unk_token", { "[UNK]", "<unk>" } },
    { "mask_token", { "[MASK]", "<mask>" } }, { "bos_token", { NULL, NULL } },
    { "eos_token", { NULL, NULL } },
};

typedef struct mrc__tok_source {
    mrc_ctx    *ctx;
    mrc_text    path;               // of the file in work; messages name it
    mrc_text    names[MRC__TOK_NAMES];      // empty: not given
    mrc_json   *config, *map, *json;
    int         lowercase, strip_accents, chinese, clean;   // -1: not given
    int         prefix_space, mask_lstrip;                  // -1: not given
    int         bpe;
    size_t      max_length;
} mrc__tok_source;

// In impl.bpe.
static mrc_status mrc__bpe_read_pipeline(mrc__tok_source *src, mrc_tokenizer *tok);
static mrc_status mrc__bpe_read_model(mrc__tok_source *src, mrc_tokenizer *tok,
                                      const mrc_json *model);
static mrc_status mrc__bpe_read_files(mrc__tok_source *src, mrc_tokenizer *tok, const char *dir);
static mrc_status mrc__bpe_find_whole(mrc__tok_source *src, mrc_tokenizer *tok);

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

#define MRC__TOK_TOKEN_BYTES 65536u
#define MRC__TOK_FILE_BYTES  (64u << 20)    // the largest vocabularies in use have half of that

// Puts a token at an id; `at` is where it stands in the file.
static mrc_status mrc__tok_add(mrc__tok_source *src, mrc_tokenizer *tok, mrc__tok_trie *trie,
                               const mrc_json *at, const char *text, size_t bytes, int64_t id) {
    uint32_t node;
    if (bytes == 0 || memchr(text, 0, bytes))
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "%s", bytes ? "token with a NUL character"
                                                                  : "empty token");
    if (bytes > MRC__TOK_TOKEN_BYTES)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "token of %zu bytes, expected at most %u",
                             bytes, MRC__TOK_TOKEN_BYTES);
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

// Makes a token one that is found in the raw text, in this pass; one that is already keeps its.
static mrc_status mrc__tok_add_special(mrc__tok_source *src, mrc_tokenizer *tok, const mrc_json *at,
                                       const char *text, size_t bytes, int64_t id, int pass) {
    for (int p = 0; p < MRC__TOK_PASSES; p++) {
        uint32_t node = mrc__tok_trie_find(&tok->added[p], text, bytes);
        if (mrc__tok_value(&tok->added[p], node) == id) return MRC_OK;
    }
    int32_t known = mrc__tok_id(tok, text, bytes);
    if (known >= 0 && known != id)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "token \"%.60s\" has two ids: %d in the "
                             "vocabulary and %lld as an added token", text, (int)known,
                             (long long)id);
    MRC__TRY(mrc__tok_add(src, tok, &tok->added[pass], at, text, bytes, id));
    tok->added_first[(unsigned char)text[0]] |= (uint8_t)(1 << pass);
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
    tok->flags = tok->token_at ? mrc__host_zalloc(&tok->host, capacity) : NULL;
    if (!tok->flags)
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

static mrc_status mrc__tok_too_large(mrc__tok_source *src) {
    struct stat info;
    if (stat(src->path.data, &info) != 0 || info.st_size <= (off_t)MRC__TOK_FILE_BYTES)
        return MRC_OK;
    return mrc__fail(src->ctx, MRC_ERR_FORMAT, "%s: a file of %lld bytes, expected at most %u",
                     src->path.data, (long long)info.st_size, MRC__TOK_FILE_BYTES);
}

// The text of src->path and the number of its lines.
static mrc_status mrc__tok_lines(mrc__tok_source *src, char **data, size_t *bytes, size_t *lines) {
    MRC__TRY(mrc__tok_too_large(src));
    MRC__TRY(mrc_file_read(src->ctx, data, bytes, src->path.data));
    size_t valid = mrc_utf8_valid(*data, *bytes), line = 1;
    *lines = 0;
    for (size_t i = 0; i < *bytes; i++) *lines += (*data)[i] == '\n';
    if (*bytes && (*data)[*bytes - 1] != '\n') ++*lines;
    if (valid == *bytes) return MRC_OK;
    for (size_t i = 0; i < valid; i++) line += (*data)[i] == '\n';
    mrc_status s = mrc__fail(src->ctx, MRC_ERR_FORMAT, "%s:%zu: ill-formed UTF-8 (byte 0x%02x)",
                             src->path.data, line, (unsigned)(unsigned char)(*data)[valid]);
    mrc_file_free(src->ctx, *data);
    return s;
}

static mrc_status mrc__tok_read_vocab(mrc__tok_source *src, mrc_tokenizer *tok, char *data,
                                      size_t bytes, size_t lines) {
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
    static const char *const flags[] = { "single_word", "rstrip", "lstrip", "normalized" };
    const mrc_json *content = j;
    int lstrip = -1, pass = 0;
    if (j->type != MRC_JSON_STRING) {
        MRC__TRY(mrc__tok_object(src, j, "an added token"));
        MRC__TRY(mrc__tok_string(src, j, "content", &content));
        if (!content)
            return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "an added token without %s", "content");
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
            int on = -1;
            MRC__TRY(mrc__tok_bool(src, j, flags[i], &on));
            if (i == 2) lstrip = on;
            else if (i == 3 && src->bpe) pass = on == 1;    // nothing is normalised there
            else if (on == 1)
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
    MRC__TRY(mrc__tok_add_special(src, tok, j, content->string, content->bytes, id, pass));
    if (lstrip >= 0) tok->flags[id] = lstrip ? MRC__TOK_LSTRIP : 0;
    return MRC_OK;
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
            if (i == MRC__TOK_MASK) MRC__TRY(mrc__tok_bool(src, j, "lstrip", &src->mask_lstrip));
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
    MRC__TRY(mrc__tok_bool(src, root, "add_prefix_space", &src->prefix_space));
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

// {token: id}, with the ids of n_added tokens after or among them.
static mrc_status mrc__tok_read_ids(mrc__tok_source *src, mrc_tokenizer *tok, const mrc_json *vocab,
                                    size_t n_added) {
    MRC__TRY(mrc__tok_room(src, tok, vocab->n + n_added));
    for (const mrc_json *j = vocab->child; j; j = j->next) {
        int64_t id = -1;
        MRC__TRY(mrc__tok_int(src, j, "a token's id", 0, INT32_MAX, &id));
        MRC__TRY(mrc__tok_add(src, tok, &tok->words, j, j->key, j->key_bytes, id));
    }
    return MRC_OK;
}

static mrc_status mrc__tok_read_model(mrc__tok_source *src, mrc_tokenizer *tok, size_t n_added) {
    const mrc_json *model, *prefix, *unk;
    MRC__TRY(mrc__tok_part(src, "model", "WordPiece", "BPE", &model));
    const mrc_json *vocab = mrc_json_get(model, "vocab");
    const mrc_json *max_chars = mrc_json_get(model, "max_input_chars_per_word");
    MRC__TRY(mrc__tok_string(src, model, "unk_token", &unk));
    MRC__TRY(mrc__tok_string(src, model, "continuing_subword_prefix", &prefix));
    if (!vocab || vocab->type != MRC_JSON_OBJECT)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, model, "vocab is %s, expected an object",
                             vocab ? mrc__tok_type(vocab) : "absent");
    MRC__TRY(mrc__tok_read_ids(src, tok, vocab, n_added));
    if (src->bpe) return mrc__bpe_read_model(src, tok, model);
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

// [CLS] A [SEP] and [CLS] A [SEP] B [SEP], types 0 0 0 1 1; RoBERTa: <s> A </s> and
// <s> A </s> </s> B </s>, types 0.
static void mrc__tok_usual_template(mrc_tokenizer *tok, int32_t cls, int32_t sep, int roberta) {
    tok->single = (mrc__tok_template){ 3, 2, { { -1, 0, cls }, { 0, 0, 0 }, { -1, 0, sep } } };
    if (roberta)
        tok->pair = (mrc__tok_template){ 6, 4, { { -1, 0, cls }, { 0, 0, 0 }, { -1, 0, sep },
                                                 { -1, 0, sep }, { 1, 0, 0 }, { -1, 0, sep } } };
    else
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
    MRC__TRY(mrc__tok_part(src, "post_processor", "TemplateProcessing",
                           src->bpe ? "RobertaProcessing" : "BertProcessing", &part));
    if (mrc__tok_is(mrc_json_get(part, "type"), "TemplateProcessing")) {
        MRC__TRY(mrc__tok_read_template(src, tok, part, "single", 1, &tok->single));
        return mrc__tok_read_template(src, tok, part, "pair", 2, &tok->pair);
    }
    MRC__TRY(mrc__tok_bert_pair(src, tok, part, "cls", &cls));
    MRC__TRY(mrc__tok_bert_pair(src, tok, part, "sep", &sep));
    mrc__tok_usual_template(tok, cls, sep, src->bpe);
    if (!src->bpe) return MRC_OK;
    int trim = -1, prefix = -1;         // both are meant where nothing is said
    MRC__TRY(mrc__tok_bool(src, part, "trim_offsets", &trim));
    MRC__TRY(mrc__tok_bool(src, part, "add_prefix_space", &prefix));
    tok->trim = trim != 0;
    tok->trim_prefix = prefix != 0;
    return MRC_OK;
}

static mrc_status mrc__tok_read_normalizer(mrc__tok_source *src) {
    const mrc_json *part;
    MRC__TRY(mrc__tok_part(src, "normalizer", "BertNormalizer", NULL, &part));
    MRC__TRY(mrc__tok_bool(src, part, "lowercase", &src->lowercase));
    MRC__TRY(mrc__tok_bool(src, part, "strip_accents", &src->strip_accents));
    MRC__TRY(mrc__tok_bool(src, part, "handle_chinese_chars", &src->chinese));
    MRC__TRY(mrc__tok_bool(src, part, "clean_text", &src->clean));
    return mrc__tok_part(src, "pre_tokenizer", "BertPreTokenizer", NULL, &part);
}

static mrc_status mrc__tok_read_json(mrc__tok_source *src, mrc_tokenizer *tok) {
    MRC__TRY(mrc__tok_too_large(src));
    MRC__TRY(mrc_json_load(src->ctx, &src->json, src->path.data));
    MRC__TRY(mrc__tok_object(src, src->json, "the tokenizer"));
    src->bpe = mrc__tok_is(mrc_json_get(mrc_json_get(src->json, "model"), "type"), "BPE");
    MRC__TRY(src->bpe ? mrc__bpe_read_pipeline(src, tok) : mrc__tok_read_normalizer(src));
    const mrc_json *added = mrc_json_get(src->json, "added_tokens");
    if (added && added->type == MRC_JSON_NULL) added = NULL;
    if (added && added->type != MRC_JSON_ARRAY)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, added, "added_tokens is %s, expected an array",
                             mrc__tok_type(added));
    MRC__TRY(mrc__tok_read_model(src, tok, added ? added->n : 0));
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
        const char *name = given ? src->names[i].data : mrc__tok_names[i].usual[src->bpe];
        if (!name) continue;
        int32_t id = mrc_tokenizer_id(tok, name);
        int ends = i == MRC__TOK_CLS || i == MRC__TOK_SEP;
        int needed = src->json ? i == MRC__TOK_UNK && !src->bpe : ends || i == MRC__TOK_UNK;
        if (id < 0 && (given || needed))
            return mrc__fail(src->ctx, MRC_ERR_FORMAT, "%s: %s \"%.60s\" is not in the vocabulary "
                             "of %zu tokens", src->path.data, mrc__tok_names[i].key, name, tok->n);
        if (i < sizeof out / sizeof *out) *out[i] = id;
        // tokenizer.json lists by itself what is found in the raw text.
        mrc_json at = { .line = (size_t)(id + 1), .column = 1 };
        if (id < 0 || src->json) continue;
        MRC__TRY(mrc__tok_add_special(src, tok, &at, name, strlen(name), id, 0));
        // RobertaTokenizer's mask takes the space before it.
        int lstrip = src->mask_lstrip < 0 ? src->bpe : src->mask_lstrip;
        if (i == MRC__TOK_MASK && lstrip) tok->flags[id] |= MRC__TOK_LSTRIP;
    }
    return MRC_OK;
}

static mrc_status mrc__tok_read_lines(mrc__tok_source *src, mrc_tokenizer *tok) {
    char *data;
    size_t bytes, lines;
    MRC__TRY(mrc__tok_lines(src, &data, &bytes, &lines));
    mrc_status s = mrc__tok_read_vocab(src, tok, data, bytes, lines);
    mrc_file_free(src->ctx, data);
    MRC__TRY(s);
    if (mrc__tok_trie_put(&tok->host, &tok->words, "##", 2, &tok->suffix)) return MRC_OK;
    return mrc__fail(src->ctx, MRC_ERR_MEM, "%s: no memory", src->path.data);
}

static mrc_status mrc__tok_read_text(mrc__tok_source *src, mrc_tokenizer *tok, const char *dir) {
    MRC__TRY(src->bpe ? mrc__bpe_read_files(src, tok, dir) : mrc__tok_read_lines(src, tok));
    MRC__TRY(mrc__tok_find_special(src, tok));
    mrc__tok_usual_template(tok, tok->special.cls, tok->special.sep, src->bpe);
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
    if (src->bpe) {
        for (size_t i = 0; i < u->n_gpt2; i++) {
            for (uint32_t cp = u->gpt2[i].first; cp <= u->gpt2[i].last; cp++)
                c[cp] = (uint8_t)u->gpt2[i].value;
        }
        return MRC_OK;
    }
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
        || !mrc__tok_trie_init(&tok->host, &tok->merges)
        || !mrc__tok_trie_init(&tok->host, &tok->added[0])
        || !mrc__tok_trie_init(&tok->host, &tok->added[1]))
        return mrc__fail(src->ctx, MRC_ERR_MEM, "%s: no memory", path);
    MRC__TRY(mrc__tok_path(src, NULL, path));
    if (dir) {
        MRC__TRY(mrc__tok_read_configs(src, dir));
        MRC__TRY(mrc__tok_path(src, dir, "tokenizer.json"));
        json = mrc_file_exists(src->path.data) == 1;
        if (!json) MRC__TRY(mrc__tok_path(src, dir, "vocab.txt"));
        if (!json && mrc_file_exists(src->path.data) != 1) {
            MRC__TRY(mrc__tok_path(src, dir, "vocab.json"));
            src->bpe = mrc_file_exists(src->path.data) == 1;
            if (!src->bpe)
                return mrc__fail(src->ctx, MRC_ERR_ARG, "%s: neither tokenizer.json nor vocab.txt "
                                 "nor vocab.json in this folder", dir);
        }
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
    MRC__TRY(mrc__tok_read_classes(src, tok));
    return src->bpe ? mrc__bpe_find_whole(src, tok) : MRC_OK;
}

MRCDEF mrc_status mrc_tokenizer_load(mrc_ctx *ctx, mrc_tokenizer **out, const char *path) {
    if (!ctx || !out || !path) return MRC_ERR_ARG;
    *out = NULL;
    mrc_tokenizer *tok = mrc__host_zalloc(&ctx->host, sizeof *tok);
    if (!tok) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory", path);
    mrc__tok_source src = { .ctx = ctx, .lowercase = -1, .strip_accents = -1, .chinese = -1,
                            .clean = -1, .prefix_space = -1, .mask_lstrip = -1 };
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
// Byte-level BPE has mrc__bpe_segment() instead; added tokens, templates and windows are shared.
//==============================================================================
#ifdef MRC__PASS_CORE
// A mrc__tok_run takes a text apart into pieces; its buffers serve both texts of a pair.
typedef struct mrc__tok_piece { int32_t id, begin, end, word; } mrc__tok_piece;
typedef struct mrc__tok_mark { uint32_t cp, order, follows; int32_t from; } mrc__tok_mark;
typedef struct mrc__bpe_symbol { int32_t id, previous, next; } mrc__bpe_symbol;     // id -1: gone
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
    uint64_t       *heap;           // BPE: room for pairs, then symbols; as large as the word
    mrc__bpe_symbol *symbols;
    size_t          n_heap, symbol_capacity;
    int             failed;         // out of memory: asked about once, at the end
} mrc__tok_run;

static void mrc__tok_run_free(mrc__tok_run *r) {
    const mrc_allocator *host = r->host;
    if (r->pieces) host->free(host->user, r->pieces);
    if (r->word) host->free(host->user, r->word);
    if (r->heap) host->free(host->user, r->heap);
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

static int32_t mrc__bpe_segment(mrc__tok_run *r, const unsigned char *s, const unsigned char *end,
                                int32_t at);        // in impl.bpe

// The White_Space before s, from begin on: where it begins, and its code points.
static const unsigned char *mrc__tok_space_before(const mrc_tokenizer *tok,
                                                  const unsigned char *begin,
                                                  const unsigned char *s, int32_t *chars) {
    for (*chars = 0; s > begin; ++*chars) {
        const unsigned char *p = s - 1;
        uint32_t cp;
        while (p > begin && s - p < 3 && (*p & 0xC0) == 0x80) p--;
        size_t bytes = mrc__tok_decode(p, s, &cp);
        if (p + bytes != s || !(tok->classes[cp] & MRC__UNI_SPACE)) break;
        s = p;
    }
    return s;
}

// Appends the pieces of a text that begins at code point `at` and has no added tokens of earlier
// passes; returns where it ends.
static int32_t mrc__tok_pass(mrc__tok_run *r, const unsigned char *s, const unsigned char *end,
                             int32_t at, int pass) {
    const mrc_tokenizer *tok = r->tok;
    const unsigned char *begin = s;
    if (pass == MRC__TOK_PASSES)
        return tok->merges.n_nodes > 1 ? mrc__bpe_segment(r, s, end, at)
                                       : mrc__tok_segment(r, s, end, at);
    while (s < end) {
        size_t bytes;
        int32_t chars, spaces = 0, id = -1;
        if (tok->added_first[*s] >> pass & 1)
            id = mrc__tok_added_at(&tok->added[pass], s, end, &bytes, &chars);
        if (id < 0) {
            s++;
            continue;
        }
        const unsigned char *stop = tok->flags[id] & MRC__TOK_LSTRIP
                                  ? mrc__tok_space_before(tok, begin, s, &spaces) : s;
        at = mrc__tok_pass(r, begin, stop, at, pass + 1);
        mrc__tok_piece_add(r, id, at, at + spaces + chars);
        r->words++;
        at += spaces + chars;
        begin = s += bytes;
    }
    return mrc__tok_pass(r, begin, end, at, pass + 1);
}

// Appends a text's pieces to r.
static void mrc__tok_text(mrc__tok_run *r, const char *text, size_t n_bytes) {
    const unsigned char *s = (const unsigned char *)text;
    r->words = 0;
    mrc__tok_pass(r, s, s + n_bytes, 0, 0);
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

// Spaces at the ends of a token, with those that it took, are not of its offsets.  That is how
// RobertaProcessing has it, which believes that one space of a window's first token was put there.
static void mrc__tok_trim_piece(const mrc_tokenizer *tok, mrc__tok_piece *p, int first) {
    const unsigned char *s = (const unsigned char *)tok->pool.data + tok->token_at[p->id];
    const unsigned char *end = s + strlen((const char *)s);
    int32_t leading = 0, trailing = 0, n = 0;
    for (uint32_t cp; s < end; n++) {
        s += mrc__tok_decode(s, end, &cp);
        int space = cp == MRC__BPE_SPACE || (tok->classes[cp] & MRC__UNI_SPACE);
        trailing = space ? trailing + 1 : 0;
        if (space && leading == n) leading++;
    }
    if (tok->flags[p->id] & MRC__TOK_LSTRIP) leading += p->end - p->begin - n;
    if (leading == 1 && tok->trim_prefix && (first || p->begin == 0)) leading = 0;
    p->begin = p->begin + leading < p->end ? p->begin + leading : p->end;
    if (trailing && p->end >= trailing)
        p->end = p->end - trailing > p->begin ? p->end - trailing : p->begin;
}

static void mrc__tok_window(const mrc_tokenizer *tok, mrc_encoding *e, const mrc__tok_template *t,
                            int special, const mrc__tok_piece *const text[2], const size_t n[2]) {
    size_t at = 0;
    for (size_t i = 0; i < t->n; i++) {
        int32_t which = t->item[i].sequence;
        size_t count = which >= 0 ? n[which] : special ? 1 : 0;
        for (size_t k = 0; k < count; k++, at++) {
            mrc__tok_piece p = which >= 0 ? text[which][k]
                                          : (mrc__tok_piece){ t->item[i].id, 0, 0, -1 };
            if (tok->trim && which >= 0) mrc__tok_trim_piece(tok, &p, k == 0);
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
static mrc_status mrc__tok_windows(mrc_ctx *ctx, mrc_encodings *out, const mrc_tokenizer *tok,
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
        mrc__tok_window(tok, e, t, special, from, n);
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
    if (s == MRC_OK) s = mrc__tok_windows(ctx, out, tok, texts, &plan, t, special);
    mrc__tok_run_free(&r);
    return s;
}

MRCDEF void mrc_encodings_free(mrc_encodings *e) {
    if (e->list) e->host.free(e->host.user, e->list);
    *e = (mrc_encodings){ .host = e->host };
}
#endif // core pass

//==============================================================================
// >>impl.bpe   byte-level BPE as RobertaTokenizerFast has it
//
// A text is cut into words by GPT-2's pattern
//
//     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// and the bytes of a word, each a token at first, are merged pair by pair: the pair that stands
// first in the list of merges before others, the leftmost of equals first.  In the files a byte is
// a printable character: itself where it is one, U+0100 and on in turn where it is not.
// Merges are edges from (left id, right id) in a table like the vocabulary's; their nodes are
// numbered by rank, and the value of a node is the id of the two together.  Most words are tokens
// that their bytes merge into: those are marked at load, and found without merging.
//==============================================================================
#ifdef MRC__PASS_CORE
static uint32_t mrc__bpe_char(unsigned byte) {
    if (byte < 33) return 256 + byte;
    if (byte >= 127 && byte < 161) return 256 + 33 + byte - 127;
    return byte == 173 ? 256 + 67 : byte;
}

//
// Merging
//
static inline uint64_t mrc__bpe_key(int32_t left, int32_t right) {
    return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
}

// Puts the pair that begins at symbol `left`, if it can be merged, into the heap.
static void mrc__bpe_push(mrc__tok_run *r, int32_t left) {
    const mrc__tok_trie *t = &r->tok->merges;
    const mrc__bpe_symbol *s = r->symbols;
    if (left < 0 || s[left].next < 0) return;
    uint64_t key = mrc__bpe_key(s[left].id, s[s[left].next].id);
    const mrc__tok_edge *e = &t->edges[mrc__tok_slot(t, key)];
    if (!e->key) return;
    uint64_t pair = (uint64_t)e->node << 32 | (uint32_t)left;
    size_t at = r->n_heap++;
    while (at > 0 && r->heap[(at - 1) / 2] > pair) {
        r->heap[at] = r->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    r->heap[at] = pair;
}

static uint64_t mrc__bpe_pop(mrc__tok_run *r) {
    uint64_t top = r->heap[0], last = r->heap[--r->n_heap];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < r->n_heap; at = child) {
        if (child + 1 < r->n_heap && r->heap[child + 1] < r->heap[child]) child++;
        if (r->heap[child] >= last) break;
        r->heap[at] = r->heap[child];
    }
    r->heap[at] = last;
    return top;
}

// Room for n symbols and their pairs: n - 1 at first, and two more for each merge.
static int mrc__bpe_room(mrc__tok_run *r, size_t n) {
    size_t bytes, want = r->symbol_capacity ? r->symbol_capacity : 64;
    if (n <= r->symbol_capacity) return 1;
    while (want < n) {
        if (!mrc__mul(want, 2, &want)) return 0;
    }
    if (!mrc__mul(want, 3 * sizeof *r->heap + sizeof *r->symbols, &bytes)) return 0;
    uint64_t *room = r->host->alloc(r->host->user, bytes);
    if (!room) return 0;
    if (r->heap) r->host->free(r->host->user, r->heap);
    r->heap = room;
    r->symbols = (mrc__bpe_symbol *)(room + 3 * want);
    r->symbol_capacity = want;
    return 1;
}

// Merges the word: what is left are the symbols from 0 along next; 0: out of memory.
static int mrc__bpe_merge_word(mrc__tok_run *r) {
    const mrc__tok_trie *t = &r->tok->merges;
    int32_t n = (int32_t)r->n_word;
    if (!mrc__bpe_room(r, r->n_word)) return 0;
    mrc__bpe_symbol *s = r->symbols;
    for (int32_t i = 0; i < n; i++) {
        s[i] = (mrc__bpe_symbol){ r->tok->byte_id[r->word[i]], i - 1, i + 1 < n ? i + 1 : -1 };
    }
    r->n_heap = 0;
    for (int32_t i = 0; i < n; i++) mrc__bpe_push(r, i);
    while (r->n_heap) {
        uint64_t pair = mrc__bpe_pop(r);
        int32_t left = (int32_t)(pair & 0x7FFFFFFF), right = s[left].next;
        if (s[left].id < 0 || right < 0) continue;
        // A pair of which one has been merged elsewhere since is another, or none.
        const mrc__tok_edge *e = &t->edges[mrc__tok_slot(t, mrc__bpe_key(s[left].id,
                                                                        s[right].id))];
        if (!e->key || e->node != pair >> 32) continue;
        s[left].id = t->value[e->node];
        s[left].next = s[right].next;
        s[right].id = -1;
        if (s[left].next >= 0) s[s[left].next].previous = left;
        mrc__bpe_push(r, s[left].previous);
        mrc__bpe_push(r, left);
    }
    return 1;
}

static void mrc__bpe_word_end(mrc__tok_run *r) {
    const mrc_tokenizer *tok = r->tok;
    const mrc__tok_trie *t = &tok->words;
    size_t n = r->n_word, i = 0;
    uint32_t node = 0;
    if (n == 0 || r->failed) return;
    for (; i < n && node != MRC__TOK_NONE; i++) {
        node = mrc__tok_next(t, node, mrc__bpe_char(r->word[i]));
    }
    int32_t id = mrc__tok_value(t, node);
    if (id >= 0 && (tok->flags[id] & MRC__TOK_WHOLE)) {
        mrc__tok_piece_add(r, id, r->from[0], r->from[n - 1] + 1);
    } else if (!mrc__bpe_merge_word(r)) {
        r->failed = 1;
    } else {
        for (int32_t k = 0, next; k >= 0; k = next) {
            next = r->symbols[k].next;
            size_t end = next < 0 ? n : (size_t)next;
            mrc__tok_piece_add(r, r->symbols[k].id, r->from[k], r->from[end - 1] + 1);
        }
    }
    r->n_word = 0;
    r->words++;
}

//
// GPT-2's pattern
//
// What is left of a text, whose first code point is number `at`.
typedef struct mrc__bpe_text { const unsigned char *s, *end; int32_t at; } mrc__bpe_text;

// The class of the code point at p; 0xFF past the end.
static inline unsigned mrc__bpe_class(const mrc__tok_run *r, const unsigned char *p,
                                      const unsigned char *end, size_t *bytes) {
    uint32_t cp;
    if (p == end) return 0xFF;
    *bytes = mrc__tok_decode(p, end, &cp);
    return r->tok->classes[cp];
}

// Adds the bytes of one code point to the word; what is ill-formed is U+FFFD's.
static void mrc__bpe_take(mrc__tok_run *r, mrc__bpe_text *x) {
    uint32_t cp;
    size_t n = mrc__tok_decode(x->s, x->end, &cp);
    static const unsigned char replacement[3] = { 0xEF, 0xBF, 0xBD };
    const unsigned char *from = cp == 0xFFFD ? replacement : x->s;
    size_t bytes = cp == 0xFFFD ? 3 : n;
    for (size_t i = 0; i < bytes; i++) mrc__tok_word_add(r, from[i], x->at);
    x->s += n;
    x->at++;
}

// How many bytes of 's 't 're 've 'm 'll 'd are at p; 0: none.
static size_t mrc__bpe_contraction(const unsigned char *p, const unsigned char *end) {
    if (end - p < 2 || p[0] != '\'') return 0;
    if (p[1] == 's' || p[1] == 't' || p[1] == 'm' || p[1] == 'd') return 2;
    if (end - p < 3) return 0;
    if ((p[1] == 'r' || p[1] == 'v') && p[2] == 'e') return 3;
    return p[1] == 'l' && p[2] == 'l' ? 3 : 0;
}

// White space: all of it at the end, else all but the last, which may begin the next word.  taken:
// how many of it the word has already.
static void mrc__bpe_spaces(mrc__tok_run *r, mrc__bpe_text *x, int taken) {
    size_t n = (size_t)taken, bytes = 0;
    unsigned k;
    for (const unsigned char *p = x->s;; p += bytes, n++) {
        k = mrc__bpe_class(r, p, x->end, &bytes);
        if (k == 0xFF || !(k & MRC__UNI_SPACE)) break;
    }
    if (k != 0xFF && n > 1) n--;
    for (n -= (size_t)taken; n; n--) mrc__bpe_take(r, x);
}

// A text without added tokens that begins at code point `at`; returns where it ends.
static int32_t mrc__bpe_segment(mrc__tok_run *r, const unsigned char *s, const unsigned char *end,
                                int32_t at) {
    mrc__bpe_text x = { s, end, at };
    int prefix = r->tok->prefix_space && s < end && *s != ' ';
    while (x.s < x.end && !r->failed) {
        // A space that is put before the text is aligned to its first code point.
        int space = prefix || *x.s == ' ';
        size_t bytes = 1, n = prefix ? 0 : mrc__bpe_contraction(x.s, x.end);
        unsigned k = mrc__bpe_class(r, x.s + (space && !prefix), x.end, &bytes);
        if (prefix) mrc__tok_word_add(r, ' ', x.at);
        if (n) {
            while (n--) mrc__bpe_take(r, &x);
        } else if (k == 0xFF || (k & MRC__UNI_SPACE)) {
            mrc__bpe_spaces(r, &x, prefix);
        } else {
            if (space && !prefix) mrc__bpe_take(r, &x);
            while (mrc__bpe_class(r, x.s, x.end, &bytes) == k) mrc__bpe_take(r, &x);
        }
        prefix = 0;
        mrc__bpe_word_end(r);
    }
    return x.at;
}

//
// Loading
//
static mrc_status mrc__bpe_no_memory(mrc__tok_source *src) {
    return mrc__fail(src->ctx, MRC_ERR_MEM, "%s: no memory for the merges", src->path.data);
}

// The merge of rank n: the n-th call.
static mrc_status mrc__bpe_merge(mrc__tok_source *src, mrc_tokenizer *tok, const mrc_json *at,
                                 const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    const mrc__tok_trie *t = &tok->words;
    uint32_t first = mrc__tok_trie_find(t, a, a_bytes), node;
    int32_t left = mrc__tok_value(t, first);
    int32_t right = mrc__tok_value(t, mrc__tok_trie_find(t, b, b_bytes));
    int32_t both = mrc__tok_value(t, mrc__tok_trie_walk(t, first, b, b_bytes));
    if (left < 0 || right < 0)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "the merge of a token that is not in the "
                             "vocabulary (\"%.*s\")", (int)((left < 0 ? a_bytes : b_bytes) % 61),
                             left < 0 ? a : b);
    if (both < 0)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "what \"%.*s\" and \"%.*s\" merge into is "
                             "not in the vocabulary", (int)(a_bytes % 61), a, (int)(b_bytes % 61),
                             b);
    size_t n = tok->merges.n_nodes;
    if (!mrc__tok_edge_put(&tok->host, &tok->merges, mrc__bpe_key(left, right), &node))
        return mrc__bpe_no_memory(src);
    if (node < n)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "the merge of \"%.*s\" and \"%.*s\" is there "
                             "twice: as number %u and %zu", (int)(a_bytes % 61), a,
                             (int)(b_bytes % 61), b, (unsigned)node, n);
    tok->merges.value[node] = both;
    return MRC_OK;
}

// "left right"
static mrc_status mrc__bpe_merge_text(mrc__tok_source *src, mrc_tokenizer *tok, const mrc_json *at,
                                      const char *text, size_t bytes) {
    const char *space = memchr(text, ' ', bytes);
    size_t n = space ? (size_t)(space - text) : 0;
    if (n == 0 || n + 1 == bytes || memchr(space + 1, ' ', bytes - n - 1))
        return mrc__tok_fail(src, MRC_ERR_FORMAT, at, "not a merge (found \"%.*s\", expected two "
                             "tokens with a space between them)", (int)(bytes % 61), text);
    return mrc__bpe_merge(src, tok, at, text, n, space + 1, bytes - n - 1);
}

// What every byte-level vocabulary must have, or texts would lose characters.
static mrc_status mrc__bpe_read_bytes(mrc__tok_source *src, mrc_tokenizer *tok) {
    for (unsigned b = 0; b < 256; b++) {
        uint32_t node = mrc__tok_next(&tok->words, 0, mrc__bpe_char(b));
        tok->byte_id[b] = mrc__tok_value(&tok->words, node);
        if (tok->byte_id[b] < 0)
            return mrc__fail(src->ctx, MRC_ERR_FORMAT, "%s: the vocabulary has no token for byte "
                             "0x%02x (U+%04X), expected one for each byte", src->path.data, b,
                             (unsigned)mrc__bpe_char(b));
    }
    tok->max_chars = SIZE_MAX;
    return MRC_OK;
}

// Nothing may be left that would make other tokens than plain byte-level BPE.
static mrc_status mrc__bpe_check_model(mrc__tok_source *src, const mrc_json *model) {
    static const char *const off[] = { "byte_fallback", "ignore_merges" };
    static const char *const none[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    for (int i = 0; i < 2; i++) {
        const mrc_json *text;
        int on = -1;
        MRC__TRY(mrc__tok_bool(src, model, off[i], &on));
        if (on == 1)
            return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, model, "%s is true, which is not "
                                 "supported", off[i]);
        MRC__TRY(mrc__tok_string(src, model, none[i], &text));
        if (text && text->bytes)
            return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, text, "%s is \"%.60s\", supported is "
                                 "none", none[i], text->string);
    }
    const mrc_json *dropout = mrc_json_get(model, "dropout");
    if (!dropout || dropout->type == MRC_JSON_NULL
        || (dropout->type == MRC_JSON_NUMBER && dropout->number == 0)) return MRC_OK;
    return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, dropout, "dropout is %s, supported is none",
                         mrc__tok_type(dropout));
}

// "merges": ["a b", ..] or [["a", "b"], ..]
static mrc_status mrc__bpe_read_model(mrc__tok_source *src, mrc_tokenizer *tok,
                                      const mrc_json *model) {
    const mrc_json *merges = mrc_json_get(model, "merges"), *unk;
    MRC__TRY(mrc__bpe_check_model(src, model));
    MRC__TRY(mrc__bpe_read_bytes(src, tok));
    MRC__TRY(mrc__tok_string(src, model, "unk_token", &unk));
    if (unk && mrc__tok_id(tok, unk->string, unk->bytes) < 0)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, unk, "unk_token \"%.60s\" is not in the "
                             "vocabulary of %zu tokens", unk->string, tok->n);
    if (!merges || merges->type != MRC_JSON_ARRAY)
        return mrc__tok_fail(src, MRC_ERR_FORMAT, model, "merges is %s, expected an array",
                             merges ? mrc__tok_type(merges) : "absent");
    for (const mrc_json *j = merges->child; j; j = j->next) {
        const mrc_json *a = j->type == MRC_JSON_ARRAY && j->n == 2 ? j->child : NULL;
        if (j->type == MRC_JSON_STRING) {
            MRC__TRY(mrc__bpe_merge_text(src, tok, j, j->string, j->bytes));
        } else if (a && a->type == MRC_JSON_STRING && a->next->type == MRC_JSON_STRING) {
            MRC__TRY(mrc__bpe_merge(src, tok, j, a->string, a->bytes, a->next->string,
                                    a->next->bytes));
        } else {
            return mrc__tok_fail(src, MRC_ERR_FORMAT, j, "a merge is %s, expected two tokens",
                                 mrc__tok_type(j));
        }
    }
    return MRC_OK;
}

// The parts of tokenizer.json before the model.
static mrc_status mrc__bpe_read_pipeline(mrc__tok_source *src, mrc_tokenizer *tok) {
    const mrc_json *part = mrc_json_get(src->json, "normalizer");
    int pattern = -1;
    if (part && part->type != MRC_JSON_NULL)
        return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, part, "byte-level BPE with a %s, which is "
                             "not supported", "normalizer");
    MRC__TRY(mrc__tok_part(src, "pre_tokenizer", "ByteLevel", NULL, &part));
    MRC__TRY(mrc__tok_bool(src, part, "add_prefix_space", &src->prefix_space));
    MRC__TRY(mrc__tok_bool(src, part, "use_regex", &pattern));
    if (pattern == 0)
        return mrc__tok_fail(src, MRC_ERR_UNSUPPORTED, part, "%s is false, which is not supported",
                             "use_regex");
    tok->prefix_space = src->prefix_space != 0;
    return MRC_OK;
}

static mrc_status mrc__bpe_read_merges(mrc__tok_source *src, mrc_tokenizer *tok, const char *data,
                                       size_t bytes, size_t lines) {
    const char *s = data, *version = "#version";
    for (size_t line = 1; line <= lines; line++) {
        mrc_json at = { .line = line, .column = 1 };
        const char *end = memchr(s, '\n', (size_t)(data + bytes - s));
        if (!end) end = data + bytes;
        size_t n = (size_t)(end - s);
        if (n && s[n - 1] == '\r') n--;
        int skip = n >= strlen(version) && memcmp(s, version, strlen(version)) == 0;
        if (!skip) MRC__TRY(mrc__bpe_merge_text(src, tok, &at, s, n));
        s = end + 1;
    }
    return MRC_OK;
}

// vocab.json, whose path is in src, and merges.txt beside it.
static mrc_status mrc__bpe_read_files(mrc__tok_source *src, mrc_tokenizer *tok, const char *dir) {
    mrc_json *vocab;
    char *data;
    size_t bytes, lines;
    MRC__TRY(mrc__tok_too_large(src));
    MRC__TRY(mrc_json_load(src->ctx, &vocab, src->path.data));
    mrc_status s = mrc__tok_object(src, vocab, "the vocabulary");
    if (s == MRC_OK) s = mrc__tok_read_ids(src, tok, vocab, 0);
    mrc_json_free(vocab);
    MRC__TRY(s);
    MRC__TRY(mrc__bpe_read_bytes(src, tok));
    MRC__TRY(mrc__tok_path(src, dir, "merges.txt"));
    MRC__TRY(mrc__tok_lines(src, &data, &bytes, &lines));
    s = mrc__bpe_read_merges(src, tok, data, bytes, lines);
    mrc_file_free(src->ctx, data);
    tok->prefix_space = tok->trim_prefix = src->prefix_space == 1;
    tok->trim = 1;
    return s;
}

// Marks the tokens that their bytes merge into.
static mrc_status mrc__bpe_find_whole(mrc__tok_source *src, mrc_tokenizer *tok) {
    int16_t byte_of[256 + 68];
    mrc__tok_run r = { .host = &tok->host, .tok = tok };
    mrc_status s = MRC_OK;
    for (int i = 0; i < 256 + 68; i++) byte_of[i] = -1;
    for (int b = 0; b < 256; b++) byte_of[mrc__bpe_char((unsigned)b)] = (int16_t)b;
    for (size_t id = 0; s == MRC_OK && id < tok->n; id++) {
        const unsigned char *p = (const unsigned char *)mrc_tokenizer_token(tok, (int32_t)id);
        const unsigned char *end = p + strlen((const char *)p);
        r.n_word = 0;
        while (p < end && !r.failed) {
            uint32_t cp;
            p += mrc__tok_decode(p, end, &cp);
            int byte = cp < 256 + 68 ? byte_of[cp] : -1;
            if (byte < 0) break;
            mrc__tok_word_add(&r, (uint32_t)byte, 0);
        }
        if (p < end && !r.failed) continue;
        if (r.failed || !mrc__bpe_merge_word(&r)) s = mrc__bpe_no_memory(src);
        else if (r.symbols[0].next < 0 && r.symbols[0].id == (int32_t)id)
            tok->flags[id] |= MRC__TOK_WHOLE;
    }
    mrc__tok_run_free(&r);
    return s;
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
    const mrc_json *kind = mrc__ds_get(row, "question_type", &twice);
    int has_question = question && question->type == MRC_JSON_STRING;
    if (kind && kind->is_int && kind->integer >= 1 && kind->integer <= 3) {
        e->question_type = (int)kind->integer;
    }
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

static mrc_status mrc__ds_push(mrc__ds_loader *l, const mrc_example *e) {
    mrc_dataset *d = l->d;
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
    d->list[d->n++] = *e;
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
    return mrc__ds_push(l, &e);
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

static int mrc__ds_has_answer(const mrc_example *e, const mrc_answer *a) {
    if (a->answer_start < 0 || (uint64_t)a->answer_start >= e->context_bytes) return 0;
    size_t at = mrc_utf8_offset(e->context, e->context_bytes, (size_t)a->answer_start);
    return a->bytes && a->bytes <= e->context_bytes - at &&
           memcmp(e->context + at, a->text, a->bytes) == 0;
}

// A copy of *from that lives in the data set.
static mrc_status mrc__ds_import(mrc__ds_loader *l, const mrc_example *from) {
    mrc_dataset *d = l->d;
    mrc_example e = *from;
    char number[24];
    size_t bytes;
    snprintf(number, sizeof number, "%zu", d->n);
    if (!from->context || !from->question || (from->n_answers && !from->answers) ||
        mrc_utf8_valid(from->context, from->context_bytes) != from->context_bytes ||
        mrc_utf8_valid(from->question, from->question_bytes) != from->question_bytes) {
        return mrc__fail(l->ctx, MRC_ERR_ARG, "mrc_dataset_new: example %zu has no context, no "
                         "question, or text that is not UTF-8", d->n);
    }
    const char *id = from->id ? from->id : number, *title = from->title ? from->title : "";
    e.id = mrc__ds_copy(d, id, strlen(id));
    e.title = mrc__ds_intern(d, title, strlen(title));
    e.context = mrc__ds_intern(d, from->context, from->context_bytes);
    e.question = mrc__ds_copy(d, from->question, from->question_bytes);
    e.answers = mrc__mul(from->n_answers, sizeof *e.answers, &bytes) ? mrc__ds_take(d, bytes)
                                                                     : NULL;
    if (!e.id || !e.title || !e.context || !e.question || !e.answers) return mrc__ds_no_memory(l);
    for (size_t i = 0; i < from->n_answers; i++) {
        const mrc_answer *a = &from->answers[i];
        if (!a->text || !mrc__ds_has_answer(&e, a)) {
            return mrc__fail(l->ctx, MRC_ERR_ARG, "mrc_dataset_new: example %zu: context does not "
                             "have answer %zu at %lld", d->n, i, (long long)a->answer_start);
        }
        e.answers[i] = *a;
        e.answers[i].text = mrc__ds_copy(d, a->text, a->bytes);
        if (!e.answers[i].text) return mrc__ds_no_memory(l);
    }
    d->rows++;
    return mrc__ds_push(l, &e);
}

MRCDEF mrc_status mrc_dataset_new(mrc_ctx *ctx, mrc_dataset **out, const mrc_example *list,
                                  size_t n) {
    mrc_status status = MRC_OK;
    *out = NULL;
    if (n && !list) return mrc__fail(ctx, MRC_ERR_ARG, "mrc_dataset_new: no list for %zu", n);
    mrc_dataset *d = mrc__host_zalloc(&ctx->host, sizeof *d);
    if (!d) return mrc__fail(ctx, MRC_ERR_MEM, "mrc_dataset_new: out of memory");
    d->host = ctx->host;
    d->format = "memory";
    d->version = "";
    mrc__ds_loader l = { .ctx = ctx, .d = d, .path = "mrc_dataset_new" };
    for (size_t i = 0; i < n && status == MRC_OK; i++) status = mrc__ds_import(&l, &list[i]);
    if (status == MRC_OK) *out = d;
    else mrc_dataset_free(d);
    return status;
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
    size_t special = e->tok->pair.n_special, taken = special + (q.n ? q.list[0].n : 0);
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
    size_t special = e->tok->pair.n_special;
    if (e->max_length <= special || e->max_length > INT32_MAX) {
        return mrc__fail(e->ctx, MRC_ERR_ARG, "encode: max_seq_length is %zu, expected at least "
                         "%zu", e->max_length, special + 1);
    }
    if (c->kind == MRC_ENCODING_OFFSETS && c->doc_stride >= e->max_length - special) {
        return mrc__fail(e->ctx, MRC_ERR_ARG, "encode: doc_stride %zu is no overlap of windows of "
                         "%zu tokens (expected less than %zu)", c->doc_stride, e->max_length,
                         e->max_length - special);
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
// HF's postprocess_qa_predictions (PARITY 3.5) in its arithmetic: scores are sums of two floats in
// float; probabilities are numpy's, float32 with its exp() and its pairwise sum, and in double when
// the "empty" fallback (a Python float) is in the list.
//
// Where HF leaves the result open: of equal logits the later row comes first (numpy's argsort is
// not stable; this is what a stable one gives, reversed), and a score that is not finite is no
// candidate, so that a broken model gives "empty" instead of NaN.
//==============================================================================
#ifdef MRC__PASS_CORE
MRCDEF mrc_decode_config mrc_decode_config_default(void) {
    return (mrc_decode_config){ .magic = MRC_DECODE_MAGIC, .n_best_size = 20,
                                .max_answer_length = 30, .temperature = 1 };
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

static float mrc__dec_score(const mrc_span *span) { return span->start_logit + span->end_logit; }

// Python's sorted(reverse=True) is stable: after equal scores.
static size_t mrc__dec_insert(mrc_span *out, size_t n, size_t k, mrc_span span) {
    float score = mrc__dec_score(&span);
    size_t at = n;
    while (at > 0 && score > mrc__dec_score(&out[at - 1])) at--;
    if (at == k) return n;
    if (n < k) n++;
    memmove(out + at + 1, out + at, (n - 1 - at) * sizeof *out);
    out[at] = span;
    return n;
}

// numpy's sum of float32: eight lanes, then the rest; above 128 the sum of two halves.
static float mrc__dec_sum(const float *x, size_t n) {
    float lane[8], sum = 0;
    size_t i = 0;
    if (n > 128) {
        size_t half = n / 2 - n / 2 % 8;
        return mrc__dec_sum(x, half) + mrc__dec_sum(x + half, n - half);
    }
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

// numpy's exp() of a float32 that is at most 0, as AVX2 and AVX-512 compute it: x = q ln 2 + r with
// ln 2 in two parts, then a rational function of r.  It is not correctly rounded, and shows in the
// digits of nbest_predictions.json.
static float mrc__dec_exp(float x) {
    if (!(x > -103.97f)) return 0;
    float q = rintf(x * 1.44269504f);
    float r = fmaf(q, -1.42860677e-6f, fmaf(q, -6.93145752e-1f, x));
    float p = fmaf(5.08276253e-04f, r, 6.75789705e-03f);
    p = fmaf(p, r, 5.11451215e-02f);
    p = fmaf(p, r, 2.47361541e-01f);
    p = fmaf(p, r, 7.25766461e-01f);
    p = fmaf(p, r, 1.0f);
    float d = fmaf(fmaf(2.15950938e-02f, r, -2.74233538e-01f), r, 1.0f);
    return ldexpf(p / d, (int)q);
}

// `e` has room for n floats.
static void mrc__dec_softmax(mrc_span *out, size_t n, double temperature, float *e) {
    float max = mrc__dec_score(&out[0]), t = (float)temperature;
    for (size_t i = 1; i < n; i++) {                    // null's may stand last and be above
        if (mrc__dec_score(&out[i]) > max) max = mrc__dec_score(&out[i]);
    }
    for (size_t i = 0; i < n; i++) {
        e[i] = mrc__dec_exp((mrc__dec_score(&out[i]) - max) / t);
    }
    float sum = mrc__dec_sum(e, n);
    for (size_t i = 0; i < n; i++) out[i].probability = (double)(e[i] / sum);
}

// The fallback before what there is: nothing, or one span without text.
static size_t mrc__dec_fallback(mrc_span *out, size_t n, double temperature) {
    mrc_span other = out[0];
    out[0] = (mrc_span){ .kind = MRC_SPAN_EMPTY, .probability = 1 };
    if (!n) return 1;
    double score = (double)mrc__dec_score(&other), max = score > 0 ? score : 0;
    double a = exp((0 - max) / temperature), b = exp((score - max) / temperature);
    out[0].probability = a / (a + b);
    other.probability = b / (a + b);
    out[1] = other;
    return 2;
}

// The rows of the passage: first to last, last excluded.
static void mrc__dec_passage(const mrc_feature *f, size_t *first, size_t *last) {
    size_t n = (size_t)f->length;
    for (*first = 0; *first < n && f->offset_mapping[*first][0] < 0; ) ++*first;
    for (*last = *first; *last < n && f->offset_mapping[*last][0] >= 0; ) ++*last;
}

// What a window shows around the token at these code points; -1: it does not have it.
static double mrc__dec_context(const mrc_feature *f, const int32_t offsets[2]) {
    size_t first, last, low, high;
    mrc__dec_passage(f, &first, &last);
    for (low = first, high = last; low < high; ) {
        size_t middle = low + (high - low) / 2;
        if (f->offset_mapping[middle][0] < offsets[0]) low = middle + 1;
        else high = middle;
    }
    while (low < last && f->offset_mapping[low][0] == offsets[0]
           && f->offset_mapping[low][1] != offsets[1]) low++;
    if (low == last || f->offset_mapping[low][0] != offsets[0]) return -1;
    size_t left = low - first, right = last - 1 - low;
    return (double)(left < right ? left : right) + 0.01 * (double)(last - first);
}

// Whether window `at` shows most around its token `row`; of several the first.
static int mrc__dec_is_max_context(const mrc_window_logits *windows, size_t n, size_t at,
                                   size_t row) {
    const int32_t *offsets = windows[at].feature->offset_mapping[row];
    double own = mrc__dec_context(windows[at].feature, offsets);
    for (size_t i = 0; i < n; i++) {
        double other = i == at ? -1 : mrc__dec_context(windows[i].feature, offsets);
        if (other > own || (i < at && other >= own)) return 0;
    }
    return 1;
}

// Adds one window's candidates, starts from the best, for each its ends from the best.
static size_t mrc__dec_window(const mrc_window_logits *windows, size_t n_windows, size_t at,
                              const mrc_decode_config *config, size_t *rows, mrc_span *out,
                              size_t n) {
    const mrc_window_logits *w = &windows[at];
    const mrc_feature *f = w->feature;
    size_t k = config->n_best_size, *starts = rows, *ends = rows + k;
    size_t n_starts = mrc__dec_top(w->start, (size_t)f->length, k, starts);
    size_t n_ends = mrc__dec_top(w->end, (size_t)f->length, k, ends);
    for (size_t a = 0; a < n_starts; a++) {
        size_t i = starts[a];
        if (f->offset_mapping[i][0] < 0) continue;
        if (config->max_context && !mrc__dec_is_max_context(windows, n_windows, at, i)) continue;
        for (size_t b = 0; b < n_ends; b++) {
            size_t j = ends[b];
            if (f->offset_mapping[j][0] < 0) continue;
            if (j < i || j - i >= config->max_answer_length) continue;
            mrc_span span = { .start_logit = w->start[i], .end_logit = w->end[j],
                              .begin = f->offset_mapping[i][0], .end = f->offset_mapping[j][1] };
            if (!isfinite(mrc__dec_score(&span))) continue;
            n = mrc__dec_insert(out, n, k, span);
        }
    }
    return n;
}

// "No answer" scores what the window that is least sure of it gives its first row.  It is always
// in the list, as one more where it is not among the best.
static size_t mrc__dec_null(const mrc_window_logits *windows, size_t n_windows, size_t k,
                            mrc_span *out, size_t n) {
    mrc_span null = { .kind = MRC_SPAN_NULL };
    int found = 0;
    for (size_t i = 0; i < n_windows; i++) {
        mrc_span span = { .kind = MRC_SPAN_NULL, .start_logit = windows[i].start[0],
                          .end_logit = windows[i].end[0] };
        if (windows[i].feature->length < 1 || !isfinite(mrc__dec_score(&span))) continue;
        if (!found || mrc__dec_score(&null) > mrc__dec_score(&span)) null = span;
        found = 1;
    }
    if (!found) return n;
    if (n == k && mrc__dec_score(&null) <= mrc__dec_score(&out[n - 1])) {
        out[n] = null;
        return n + 1;
    }
    return mrc__dec_insert(out, n, k, null);
}

MRCDEF mrc_status mrc_decode(mrc_ctx *ctx, const mrc_window_logits *windows, size_t n_windows,
                             const mrc_decode_config *config, mrc_span *out, size_t *n_out) {
    size_t bytes, n = 0, k = config->n_best_size;
    *n_out = 0;
    if (config->magic != MRC_DECODE_MAGIC || !k || !(config->temperature > 0)) {
        return mrc__fail(ctx, MRC_ERR_ARG, "decode: %s", !k ? "n_best_size is 0"
                         : config->magic == MRC_DECODE_MAGIC ? "the temperature is not above 0"
                         : "the config is not from mrc_decode_config_default()");
    }
    size_t *rows = mrc__mul(k + 1, 2 * sizeof *rows + sizeof(float), &bytes)
                       ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!rows) return mrc__fail(ctx, MRC_ERR_MEM, "decode: out of memory for %zu spans", k);
    for (size_t i = 0; i < n_windows; i++) {
        n = mrc__dec_window(windows, n_windows, i, config, rows, out, n);
    }
    if (config->version_2_with_negative) n = mrc__dec_null(windows, n_windows, k, out, n);
    if (!n || (n == 1 && (out[0].kind == MRC_SPAN_NULL || out[0].begin >= out[0].end))) {
        n = mrc__dec_fallback(out, n, config->temperature);
    } else {
        mrc__dec_softmax(out, n, config->temperature, (float *)(void *)(rows + 2 * k));
    }
    ctx->host.free(ctx->host.user, rows);
    *n_out = n;
    return MRC_OK;
}

MRCDEF const mrc_span *mrc_decode_answer(const mrc_decode_config *config, const mrc_span *spans,
                                         size_t n, double *null_score_diff) {
    const mrc_span *null = NULL, *best = NULL;
    if (null_score_diff) *null_score_diff = 0;
    for (size_t i = 0; i < n; i++) {
        if (spans[i].kind == MRC_SPAN_NULL) null = &spans[i];
        else if (!best && (spans[i].kind == MRC_SPAN_EMPTY || spans[i].begin < spans[i].end)) {
            best = &spans[i];
        }
    }
    if (!config->version_2_with_negative || !null || !best) return n ? spans : NULL;
    float diff = mrc__dec_score(null) - best->start_logit - best->end_logit;
    if (null_score_diff) *null_score_diff = (double)diff;
    return (double)diff > config->null_score_diff_threshold ? null : best;
}

MRCDEF const char *mrc_span_text(const mrc_span *span, const mrc_example *e, size_t *bytes) {
    *bytes = span->kind == MRC_SPAN_EMPTY ? 5 : 0;
    if (span->kind != MRC_SPAN_TEXT) return span->kind == MRC_SPAN_EMPTY ? "empty" : "";
    size_t begin = mrc_utf8_offset(e->context, e->context_bytes, (size_t)span->begin);
    size_t end = mrc_utf8_offset(e->context, e->context_bytes, (size_t)span->end);
    *bytes = end > begin ? end - begin : 0;
    return e->context + begin;
}
#endif // core pass

//==============================================================================
// >>impl.metrics
//
// The official scripts' normalisation and scores (PARITY 3.1 KorQuAD v1, 3.2 KLUE, 3.3 SQuAD), on
// code points.  Python decides what lower case, white space and a word are: str.lower() with its
// final sigma, str.split(), and \w of re, as of Unicode 14 (Python 3.11).  Lower case is the
// tokenizer's table, which is newer: only characters that are cased in 14 are looked up there.
//==============================================================================
#ifdef MRC__PASS_CORE
typedef struct mrc__met_text { uint32_t *cp; size_t n; } mrc__met_text;

enum { MRC__MET_WORD, MRC__MET_CASED, MRC__MET_IGNORABLE, MRC__MET_CLASSES };
// Pairs of (code points to skip, code points in the class).
typedef struct mrc__met_class { const uint16_t (*pairs)[2]; size_t n; } mrc__met_class;
static const mrc__met_class mrc__met_tables[MRC__MET_CLASSES];     // in impl.tables

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

// KLUE's pattern, which hardly ever occurs: one of these, then ( ) and both single quotes.
static void mrc__met_klue_pattern(mrc__met_text *t) {
    static const uint32_t tail[4] = { '(', ')', 0x2018, 0x2019 };
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        uint32_t c = t->cp[i];
        int head = mrc__met_is_quote(c) && c != '(' && c != ')' && c != 0x2018 && c != 0x2019;
        if (head && t->n - i > 4 && !memcmp(&t->cp[i + 1], tail, sizeof tail)) {
            t->cp[n++] = ' ';
            i += 4;
        } else {
            t->cp[n++] = c;
        }
    }
    t->n = n;
}

static int mrc__met_has_words(mrc_metric metric) {
    return metric == MRC_METRIC_SQUAD || metric == MRC_METRIC_SQUAD_V2;
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
    if (metric == MRC_METRIC_KLUE) mrc__met_klue_pattern(&low);
    size_t n = 0;
    for (size_t i = 0; i < low.n; i++) {
        if (!mrc__met_is_punctuation(low.cp[i])) low.cp[n++] = low.cp[i];
    }
    low.n = n;
    if (mrc__met_has_words(metric)) mrc__met_remove_articles(&low);
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
        if (mrc__met_has_words(metric)) {
            while (end < t.n && t.cp[end] != ' ') end++;
        }
        if (t.cp[i] != ' ') tokens[n++] = (mrc__met_text){ t.cp + i, end - i };
        i = end + (size_t)mrc__met_has_words(metric);
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

static int mrc__met_compare_cp(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

// difflib's autojunk: of a text of at least 200 characters, those that make more than one in a
// hundred begin no match.  Sets skip[j]; `sorted` is room for b.n.
static void mrc__met_popular(mrc__met_text b, unsigned char *skip, uint32_t *sorted) {
    memset(skip, 0, b.n);
    if (b.n < 200) return;
    memcpy(sorted, b.cp, b.n * sizeof *sorted);
    qsort(sorted, b.n, sizeof *sorted, mrc__met_compare_cp);
    for (size_t i = 0, end; i < b.n; i = end) {
        for (end = i; end < b.n && sorted[end] == sorted[i]; ) end++;
        for (size_t j = 0; end - i > b.n / 100 + 1 && j < b.n; j++) {
            if (b.cp[j] == sorted[i]) skip[j] = 1;
        }
    }
}

// The length of difflib's find_longest_match(): the longest common block of characters that may
// begin a match, the first in a, then in b, made longer at both ends by any that agree.  `row` is
// room for b.n + 1 lengths, all 0.
static size_t mrc__met_block(mrc__met_text a, mrc__met_text b, const unsigned char *skip,
                             size_t *row) {
    size_t best = 0, at_a = 0, at_b = 0;
    for (size_t i = 0; i < a.n; i++) {
        for (size_t j = b.n; j-- > 0;) {
            row[j + 1] = a.cp[i] == b.cp[j] && !skip[j] ? row[j] + 1 : 0;
        }
        for (size_t j = 0; j < b.n; j++) {
            if (row[j + 1] <= best) continue;
            best = row[j + 1];
            at_a = i + 1 - best;
            at_b = j + 1 - best;
        }
    }
    while (at_a && at_b && a.cp[at_a - 1] == b.cp[at_b - 1]) at_a--, at_b--, best++;
    while (at_a + best < a.n && at_b + best < b.n && a.cp[at_a + best] == b.cp[at_b + best]) best++;
    return best;
}

// ROUGE-W of KLUE, the label not empty; -1: no memory.
static double mrc__met_rouge_w(mrc_ctx *ctx, mrc__met_text p, mrc__met_text label) {
    const size_t each = sizeof(size_t) + sizeof(uint32_t) + 1;
    size_t bytes;
    size_t *row = mrc__mul(label.n + 1, each, &bytes) ? mrc__host_zalloc(&ctx->host, bytes) : NULL;
    if (!row) return -1;
    uint32_t *sorted = (uint32_t *)(void *)(row + label.n + 1);
    unsigned char *skip = (unsigned char *)(sorted + label.n + 1);
    mrc__met_popular(label, skip, sorted);
    double block = (double)mrc__met_block(p, label, skip, row);
    ctx->host.free(ctx->host.user, row);
    double precision = p.n ? block / (double)p.n : 0, recall = block / (double)label.n;
    return precision + recall > 0 ? 2 * (precision * recall) / (precision + recall) : 0;
}

// The second score of one normalised answer; -1: no memory.
static double mrc__met_second(mrc_ctx *ctx, mrc_metric metric, mrc__met_text p,
                              const mrc__met_text *p_tokens, size_t n_p, mrc__met_text g) {
    size_t size;
    if (metric == MRC_METRIC_KLUE) {
        return g.n ? mrc__met_rouge_w(ctx, p, g) : p.n ? 0 : 1;
    }
    mrc__met_text *tokens = mrc__mul(g.n + 1, sizeof *tokens, &size)
                          ? ctx->host.alloc(ctx->host.user, size) : NULL;
    if (!tokens) return -1;
    size_t n_g = mrc__met_tokens(metric, g, tokens);
    double f1 = mrc__met_f1(p_tokens, n_p, tokens, n_g);
    if (metric == MRC_METRIC_SQUAD_V2 && (!n_p || !n_g)) f1 = n_p == n_g;
    ctx->host.free(ctx->host.user, tokens);
    return f1;
}

// Scores one answer; *exact and *f1 only rise.  *counted: SQuAD 2 drops answers that normalise to
// nothing.
static mrc_status mrc__met_answer(mrc_ctx *ctx, mrc_metric metric, mrc__met_text p,
                                  const mrc__met_text *p_tokens, size_t n_p,
                                  const mrc_answer *answer, size_t *counted, double *exact,
                                  double *f1) {
    double f = 0;
    mrc__met_text g = mrc__met_normalize(ctx, metric, answer->text, answer->bytes);
    if (g.cp && (g.n || metric != MRC_METRIC_SQUAD_V2)) {
        f = mrc__met_second(ctx, metric, p, p_tokens, n_p, g);
        if (f > *f1) *f1 = f;
        if (g.n == p.n && memcmp(g.cp, p.cp, g.n * sizeof *g.cp) == 0) *exact = 1;
        ++*counted;
    }
    if (g.cp) ctx->host.free(ctx->host.user, g.cp);
    return g.cp && f >= 0 ? MRC_OK : mrc__fail(ctx, MRC_ERR_MEM, "metric: out of memory");
}

MRCDEF mrc_status mrc_metric_score(mrc_ctx *ctx, mrc_metric metric, const char *prediction,
                                   size_t bytes, const mrc_answer *answers, size_t n_answers,
                                   double *exact, double *f1) {
    mrc_status status = MRC_OK;
    size_t size, counted = 0;
    *exact = *f1 = 0;
    if ((unsigned)metric > MRC_METRIC_KLUE) {
        return mrc__fail(ctx, MRC_ERR_ARG, "metric: no metric %d", (int)metric);
    }
    mrc__met_text p = mrc__met_normalize(ctx, metric, prediction, bytes);
    mrc__met_text *tokens = p.cp && mrc__mul(p.n + 1, sizeof *tokens, &size)
                                ? ctx->host.alloc(ctx->host.user, size) : NULL;
    if (tokens) {
        size_t n = mrc__met_tokens(metric, p, tokens);
        for (size_t i = 0; i < n_answers && status == MRC_OK; i++) {
            status = mrc__met_answer(ctx, metric, p, tokens, n, &answers[i], &counted, exact, f1);
        }
        if (!counted && (metric == MRC_METRIC_SQUAD_V2 || metric == MRC_METRIC_KLUE)) {
            *exact = *f1 = p.n == 0;
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
// >>impl.config   config.json: the numbers of a model, checked
//==============================================================================
#ifdef MRC__PASS_CORE
MRCDEF mrc_model_config mrc_model_config_default(void) {
    return (mrc_model_config){
        .magic = MRC_MODEL_MAGIC, .vocab_size = 50265, .hidden_size = 768, .num_hidden_layers = 12,
        .num_attention_heads = 12, .intermediate_size = 3072, .max_position_embeddings = 514,
        .type_vocab_size = 1, .hidden_dropout_prob = 0.1, .attention_probs_dropout_prob = 0.1,
        .initializer_range = 0.02, .layer_norm_eps = 1e-5, .pad_token_id = 1, .num_rnn_layers = 2,
        .rnn_hidden_size = 768, .rnn_dropout = 0.2 };
}

MRCDEF size_t mrc_model_config_max_length(const mrc_model_config *config) {
    size_t first = config->model_type == MRC_MODEL_ROBERTA ? (size_t)config->pad_token_id + 1 : 0;
    return config->max_position_embeddings > first ? config->max_position_embeddings - first : 0;
}

// What is read from an object: its file for messages, the first error in the context.
typedef struct mrc__fields { mrc_ctx *ctx; const char *path; const mrc_json *object; } mrc__fields;

static const mrc_json *mrc__field(const mrc__fields *f, const char *key) {
    const mrc_json *v = mrc_json_get(f->object, key);
    return v && v->type != MRC_JSON_NULL ? v : NULL;
}

static mrc_status mrc__field_wrong(const mrc__fields *f, const mrc_json *v, const char *key,
                                   const char *expected) {
    char found[64] = "another type";
    if (v->type == MRC_JSON_NUMBER) snprintf(found, sizeof found, "%.17g", v->number);
    if (v->type == MRC_JSON_STRING) snprintf(found, sizeof found, "\"%.40s\"", v->string);
    return mrc__fail(f->ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: %s is out of range (found %s, expected "
                     "%s)", f->path, v->line, v->column, key, found, expected);
}

// An integer from min to max; absent: *out stays, unless it is required.
static mrc_status mrc__field_size(const mrc__fields *f, const char *key, int64_t min, int64_t max,
                                  int required, size_t *out) {
    const mrc_json *v = mrc__field(f, key);
    char expected[64];
    if (!v && !required) return MRC_OK;
    if (!v) return mrc__fail(f->ctx, MRC_ERR_FORMAT, "%s: has no %s", f->path, key);
    if (v->type != MRC_JSON_NUMBER || !v->is_int || v->integer < min || v->integer > max) {
        snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min,
                 (long long)max);
        return mrc__field_wrong(f, v, key, expected);
    }
    *out = (size_t)v->integer;
    return MRC_OK;
}

// A number in [min, max).
static mrc_status mrc__field_number(const mrc__fields *f, const char *key, double min, double max,
                                    double *out) {
    const mrc_json *v = mrc__field(f, key);
    char expected[64];
    if (!v) return MRC_OK;
    if (v->type != MRC_JSON_NUMBER || !(v->number >= min && v->number < max)) {
        snprintf(expected, sizeof expected, "a number from %g to below %g", min, max);
        return mrc__field_wrong(f, v, key, expected);
    }
    *out = v->number;
    return MRC_OK;
}

// One of the words, or an error; absent: the first.
static mrc_status mrc__field_word(const mrc__fields *f, const char *key, const char *const *words,
                                  int *out) {
    const mrc_json *v = mrc__field(f, key);
    *out = 0;
    if (!v) return MRC_OK;
    for (int i = 0; words[i] && v->type == MRC_JSON_STRING; i++) {
        if (!strcmp(v->string, words[i])) {
            *out = i;
            return MRC_OK;
        }
    }
    char expected[96];
    snprintf(expected, sizeof expected, "%s%s%s", words[0], words[1] ? " or " : "",
             words[1] ? words[1] : "");
    mrc_status s = mrc__field_wrong(f, v, key, expected);
    return v->type == MRC_JSON_STRING && s == MRC_ERR_FORMAT ? MRC_ERR_UNSUPPORTED : s;
}

static mrc_status mrc__config_head(const mrc__fields *f, mrc_model_config *c) {
    static const char *const types[] = { "linear", "bilstm", NULL };
    const mrc_json *head = mrc__field(f, "mrc_head");
    mrc__fields h = { f->ctx, f->path, head };
    int type;
    c->rnn_hidden_size = c->hidden_size;
    if (!head) return MRC_OK;
    if (head->type != MRC_JSON_OBJECT) {
        return mrc__field_wrong(f, head, "mrc_head", "an object");
    }
    MRC__TRY(mrc__field_word(&h, "type", types, &type));
    c->head = type ? MRC_HEAD_BILSTM : MRC_HEAD_LINEAR;
    MRC__TRY(mrc__field_size(&h, "num_layers", 1, 16, 0, &c->num_rnn_layers));
    MRC__TRY(mrc__field_size(&h, "hidden_size", 1, 1 << 16, 0, &c->rnn_hidden_size));
    MRC__TRY(mrc__field_number(&h, "dropout", 0, 1, &c->rnn_dropout));
    const mrc_json *pad = mrc__field(&h, "pad_to_max_length");
    if (pad && pad->type != MRC_JSON_TRUE && pad->type != MRC_JSON_FALSE) {
        return mrc__field_wrong(&h, pad, "pad_to_max_length", "true or false");
    }
    c->pad_to_max_length = pad && pad->type == MRC_JSON_TRUE;
    return MRC_OK;
}

static mrc_status mrc__config_sizes(const mrc__fields *f, mrc_model_config *c) {
    size_t pad = c->model_type == MRC_MODEL_ROBERTA;
    MRC__TRY(mrc__field_size(f, "vocab_size", 1, 1 << 28, 1, &c->vocab_size));
    MRC__TRY(mrc__field_size(f, "hidden_size", 1, 1 << 16, 1, &c->hidden_size));
    MRC__TRY(mrc__field_size(f, "num_hidden_layers", 1, 1000, 1, &c->num_hidden_layers));
    MRC__TRY(mrc__field_size(f, "num_attention_heads", 1, 1 << 12, 1, &c->num_attention_heads));
    MRC__TRY(mrc__field_size(f, "intermediate_size", 1, 1 << 20, 1, &c->intermediate_size));
    MRC__TRY(mrc__field_size(f, "max_position_embeddings", 4, 1 << 24, 1,
                             &c->max_position_embeddings));
    MRC__TRY(mrc__field_size(f, "type_vocab_size", 1, 1 << 16, 0, &c->type_vocab_size));
    MRC__TRY(mrc__field_size(f, "pad_token_id", 0, (1 << 28) - 1, 0, &pad));
    MRC__TRY(mrc__field_number(f, "hidden_dropout_prob", 0, 1, &c->hidden_dropout_prob));
    MRC__TRY(mrc__field_number(f, "attention_probs_dropout_prob", 0, 1,
                               &c->attention_probs_dropout_prob));
    MRC__TRY(mrc__field_number(f, "initializer_range", 0, 100, &c->initializer_range));
    MRC__TRY(mrc__field_number(f, "layer_norm_eps", 1e-30, 1, &c->layer_norm_eps));
    c->pad_token_id = (int32_t)pad;
    return MRC_OK;
}

// Numbers that must fit each other; the config may also come from a program.
static mrc_status mrc__config_check(mrc_ctx *ctx, const mrc_model_config *c, const char *path) {
    if (c->magic != MRC_MODEL_MAGIC) {
        return mrc__fail(ctx, MRC_ERR_ARG, "%s: the config is not from "
                         "mrc_model_config_default()", path);
    }
    if (!c->hidden_size || !c->num_attention_heads || !c->vocab_size || !c->num_hidden_layers
        || !c->intermediate_size || !c->type_vocab_size || !c->rnn_hidden_size
        || c->pad_token_id < 0) {
        return mrc__fail(ctx, MRC_ERR_ARG, "%s: a size is 0", path);
    }
    if (c->hidden_size % c->num_attention_heads) {
        return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: hidden_size %zu is no multiple of "
                         "num_attention_heads %zu", path, c->hidden_size, c->num_attention_heads);
    }
    if ((size_t)c->pad_token_id >= c->vocab_size) {
        return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: pad_token_id %d is not below vocab_size %zu",
                         path, (int)c->pad_token_id, c->vocab_size);
    }
    if (mrc_model_config_max_length(c) < 1) {
        return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: max_position_embeddings %zu leaves no position "
                         "after pad_token_id %d", path, c->max_position_embeddings,
                         (int)c->pad_token_id);
    }
    return MRC_OK;
}

static mrc_status mrc__config_parse(mrc_ctx *ctx, mrc_model_config *c, const mrc_json *root,
                                    const char *path) {
    static const char *const types[] = { "roberta", "bert", NULL };
    static const char *const acts[] = { "gelu", NULL }, *const positions[] = { "absolute", NULL };
    mrc__fields f = { ctx, path, root };
    int type, ignored;
    *c = mrc_model_config_default();
    if (root->type != MRC_JSON_OBJECT) {
        return mrc__fail(ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: is no JSON object", path, root->line,
                         root->column);
    }
    MRC__TRY(mrc_json_unique_keys(ctx, root, path));
    if (!mrc__field(&f, "model_type")) {
        return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: has no model_type", path);
    }
    MRC__TRY(mrc__field_word(&f, "model_type", types, &type));
    c->model_type = type ? MRC_MODEL_BERT : MRC_MODEL_ROBERTA;
    if (type) c->layer_norm_eps = 1e-12;
    if (type) c->type_vocab_size = 2;
    MRC__TRY(mrc__field_word(&f, "hidden_act", acts, &ignored));
    MRC__TRY(mrc__field_word(&f, "position_embedding_type", positions, &ignored));
    MRC__TRY(mrc__config_sizes(&f, c));
    MRC__TRY(mrc__config_head(&f, c));
    return mrc__config_check(ctx, c, path);
}

// path, or path/name when path is a folder.
static mrc_status mrc__path_in(mrc_ctx *ctx, char *out, size_t capacity, const char *path,
                               const char *name) {
    int n = name ? snprintf(out, capacity, "%s/%s", path, name)
                 : snprintf(out, capacity, "%s", path);
    if (n >= 0 && (size_t)n < capacity) return MRC_OK;
    return mrc__fail(ctx, MRC_ERR_ARG, "%.200s...: the path has %d bytes, %zu at most", path, n,
                     capacity - 1);
}
#define MRC__PATH_BYTES 4400

// The config and, when json is not NULL, the file's text.
static mrc_status mrc__config_load(mrc_ctx *ctx, mrc_model_config *out, const char *path,
                                   char **json) {
    char file[MRC__PATH_BYTES], *text;
    mrc_json *root;
    size_t bytes;
    MRC__TRY(mrc__path_in(ctx, file, sizeof file, path,
                          mrc_file_exists(path) == 2 ? "config.json" : NULL));
    MRC__TRY(mrc_file_read(ctx, &text, &bytes, file));
    mrc_status s = mrc_json_parse(ctx, &root, file, text, bytes, 0);
    if (s == MRC_OK) {
        s = mrc__config_parse(ctx, out, root, file);
        mrc_json_free(root);
    }
    if (s == MRC_OK && json) *json = text;
    else mrc_file_free(ctx, text);
    return s;
}

MRCDEF mrc_status mrc_model_config_load(mrc_ctx *ctx, mrc_model_config *out, const char *path) {
    if (!ctx || !out || !path) return MRC_ERR_ARG;
    return mrc__config_load(ctx, out, path, NULL);
}
#endif // core pass

//==============================================================================
// >>impl.model   parameters, their initialisation, the forward pass
//==============================================================================
#ifdef MRC__PASS_CORE
typedef struct mrc__layer_weights {
    mrc_tensor *qkv_weight[3], *qkv_bias[3];            // query, key, value
    mrc_tensor *attention_weight, *attention_bias, *attention_norm_weight, *attention_norm_bias;
    mrc_tensor *intermediate_weight, *intermediate_bias;
    mrc_tensor *output_weight, *output_bias, *output_norm_weight, *output_norm_bias;
} mrc__layer_weights;

typedef enum mrc__init_kind { MRC__INIT_NORMAL, MRC__INIT_ZERO, MRC__INIT_ONE, MRC__INIT_UNIFORM }
    mrc__init_kind;
typedef struct mrc__init { mrc__init_kind kind; double range; int32_t zero_row; } mrc__init;

typedef struct mrc_encoder_weights {
    mrc_tensor *word, *position, *token_type, *norm_weight, *norm_bias;
    mrc__layer_weights *layers;
    mrc_tensor *(*lstm)[8];
    mrc_tensor *head_weight, *head_bias;
    mrc__init  *init;               // by index of the parameter
} mrc_encoder_weights;

enum { MRC__PACKED_TABLE = 2 };

// While the parameters are being made.
typedef struct mrc__builder {
    mrc_ctx   *ctx;
    mrc_model *m;
    int        copies;              // matrices get working copies of the model's type
    int        packed;              // for prediction, in packed_dtype: 1: matrices; or a table
    mrc_dtype  packed_dtype;
    size_t     n;
    mrc_status status;
} mrc__builder;

// rows x columns, or a vector with columns 0.
__attribute__((format(printf, 6, 7)))
static mrc_tensor *mrc__make(mrc__builder *b, size_t rows, size_t columns, mrc__init_kind kind,
                             double range, const char *fmt, ...) {
    char name[256];
    const size_t shape[2] = { rows, columns };
    mrc_tensor *t = NULL;
    va_list ap;
    if (b->status != MRC_OK) return NULL;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    if (b->packed == MRC__PACKED_TABLE) {
        b->status = mrc__param_table_new(b->m->params, &t, name, rows, columns);
    } else if (b->packed && columns) {
        b->status = mrc_param_packed_new(b->m->params, &t, name, b->packed_dtype, rows, columns);
    } else {
        b->status = mrc_param_new(b->m->params, &t, name, mrc__stat_dtype(b->m->dtype),
                                  columns ? 2 : 1, shape);
    }
    if (t && b->m->for_prediction) t->requires_grad = 0;
    if (b->status == MRC_OK && b->copies && columns) {
        b->status = mrc_param_copy_new(b->m->params, t, b->m->dtype);
    }
    if (b->status != MRC_OK) {
        mrc__fail(b->ctx, b->status, "model: no memory for %s (%zu, %zu)", name, rows, columns);
        return NULL;
    }
    b->m->weights->init[b->n++] = (mrc__init){ kind, range, -1 };
    return t;
}

// What is before "embeddings..." in the names of a model as it is saved.
static const char *mrc__prefix(const mrc_model_config *c) {
    if (c->head == MRC_HEAD_BILSTM) return "transformer.";
    return c->model_type == MRC_MODEL_BERT ? "bert." : "roberta.";
}

static void mrc__make_layer(mrc__builder *b, size_t l) {
    static const char *const qkv[3] = { "query", "key", "value" };
    const mrc_model_config *c = &b->m->config;
    mrc__layer_weights *w = &b->m->weights->layers[l];
    char p[64];
    size_t h = c->hidden_size, in = c->intermediate_size;
    double r = c->initializer_range;
    snprintf(p, sizeof p, "%sencoder.layer.%zu", mrc__prefix(c), l);
    for (int k = 0; k < 3; k++) {
        w->qkv_weight[k] = mrc__make(b, h, h, MRC__INIT_NORMAL, r, "%s.attention.self.%s.weight",
                                     p, qkv[k]);
        w->qkv_bias[k] = mrc__make(b, h, 0, MRC__INIT_ZERO, 0, "%s.attention.self.%s.bias", p,
                                   qkv[k]);
    }
    w->attention_weight = mrc__make(b, h, h, MRC__INIT_NORMAL, r,
                                    "%s.attention.output.dense.weight", p);
    w->attention_bias = mrc__make(b, h, 0, MRC__INIT_ZERO, 0, "%s.attention.output.dense.bias", p);
    w->attention_norm_weight = mrc__make(b, h, 0, MRC__INIT_ONE, 0,
                                         "%s.attention.output.LayerNorm.weight", p);
    w->attention_norm_bias = mrc__make(b, h, 0, MRC__INIT_ZERO, 0,
                                       "%s.attention.output.LayerNorm.bias", p);
    w->intermediate_weight = mrc__make(b, in, h, MRC__INIT_NORMAL, r,
                                       "%s.intermediate.dense.weight", p);
    w->intermediate_bias = mrc__make(b, in, 0, MRC__INIT_ZERO, 0, "%s.intermediate.dense.bias", p);
    w->output_weight = mrc__make(b, h, in, MRC__INIT_NORMAL, r, "%s.output.dense.weight", p);
    w->output_bias = mrc__make(b, h, 0, MRC__INIT_ZERO, 0, "%s.output.dense.bias", p);
    w->output_norm_weight = mrc__make(b, h, 0, MRC__INIT_ONE, 0, "%s.output.LayerNorm.weight", p);
    w->output_norm_bias = mrc__make(b, h, 0, MRC__INIT_ZERO, 0, "%s.output.LayerNorm.bias", p);
}

// The reference module's pooler is never used: it is kept for its state_dict, and not trained.
static void mrc__make_pooler(mrc__builder *b) {
    const mrc_model_config *c = &b->m->config;
    size_t h = c->hidden_size;
    mrc_tensor *weight = mrc__make(b, h, h, MRC__INIT_NORMAL, 0.02, "%spooler.dense.weight",
                                   mrc__prefix(c));
    mrc_tensor *bias = mrc__make(b, h, 0, MRC__INIT_ZERO, 0, "%spooler.dense.bias",
                                 mrc__prefix(c));
    if (weight) weight->requires_grad = 0;
    if (bias) bias->requires_grad = 0;
}

static void mrc__make_head(mrc__builder *b) {
    const mrc_model_config *c = &b->m->config;
    mrc_encoder_weights *w = b->m->weights;
    size_t h = c->rnn_hidden_size, in = c->hidden_size;
    if (c->head == MRC_HEAD_LINEAR) {
        w->head_weight = mrc__make(b, 2, in, MRC__INIT_NORMAL, c->initializer_range,
                                   "qa_outputs.weight");
        w->head_bias = mrc__make(b, 2, 0, MRC__INIT_ZERO, 0, "qa_outputs.bias");
        return;
    }
    double bound = 1 / sqrt((double)h), fan = 1 / sqrt(2.0 * (double)h);
    for (size_t l = 0; l < c->num_rnn_layers; l++, in = 2 * h) {
        for (int d = 0; d < 2; d++) {
            const char *reverse = d ? "_reverse" : "";
            mrc_tensor **to = w->lstm[l] + 4 * d;
            to[0] = mrc__make(b, 4 * h, in, MRC__INIT_UNIFORM, bound, "lstm.weight_ih_l%zu%s", l,
                              reverse);
            to[1] = mrc__make(b, 4 * h, h, MRC__INIT_UNIFORM, bound, "lstm.weight_hh_l%zu%s", l,
                              reverse);
            to[2] = mrc__make(b, 4 * h, 0, MRC__INIT_UNIFORM, bound, "lstm.bias_ih_l%zu%s", l,
                              reverse);
            to[3] = mrc__make(b, 4 * h, 0, MRC__INIT_UNIFORM, bound, "lstm.bias_hh_l%zu%s", l,
                              reverse);
        }
    }
    w->head_weight = mrc__make(b, 2, 2 * h, MRC__INIT_UNIFORM, fan, "qa_head.weight");
    w->head_bias = mrc__make(b, 2, 0, MRC__INIT_UNIFORM, fan, "qa_head.bias");
}

static mrc_status mrc__make_all(mrc__builder *b) {
    const mrc_model_config *c = &b->m->config;
    mrc_encoder_weights *w = b->m->weights;
    const int copies = mrc__is_half(b->m->dtype), packed = b->packed;
    size_t h = c->hidden_size;
    double r = c->initializer_range;
    const char *p = mrc__prefix(c);
    b->packed = packed && b->packed_dtype == MRC_DTYPE_BF16 ? MRC__PACKED_TABLE : 0;
    w->word = mrc__make(b, c->vocab_size, h, MRC__INIT_NORMAL, r,
                        "%sembeddings.word_embeddings.weight", p);
    if (w->word) w->init[b->n - 1].zero_row = c->pad_token_id;
    b->packed = 0;
    w->position = mrc__make(b, c->max_position_embeddings, h, MRC__INIT_NORMAL, r,
                            "%sembeddings.position_embeddings.weight", p);
    if (w->position && c->model_type == MRC_MODEL_ROBERTA) {
        w->init[b->n - 1].zero_row = c->pad_token_id;
    }
    w->token_type = mrc__make(b, c->type_vocab_size, h, MRC__INIT_NORMAL, r,
                              "%sembeddings.token_type_embeddings.weight", p);
    w->norm_weight = mrc__make(b, h, 0, MRC__INIT_ONE, 0, "%sembeddings.LayerNorm.weight", p);
    w->norm_bias = mrc__make(b, h, 0, MRC__INIT_ZERO, 0, "%sembeddings.LayerNorm.bias", p);
    b->copies = copies;
    b->packed = packed;
    for (size_t l = 0; l < c->num_hidden_layers && b->status == MRC_OK; l++) mrc__make_layer(b, l);
    b->copies = b->packed = 0;
    if (c->head == MRC_HEAD_BILSTM) mrc__make_pooler(b);
    b->copies = copies;
    mrc__make_head(b);
    return b->status;
}

// The parameters, with undefined contents.
static mrc_status mrc__model_make(mrc_ctx *ctx, mrc_model **out, const mrc_model_config *config,
                                  mrc_dtype dtype, int for_prediction) {
    size_t n, bytes;
    *out = NULL;
    MRC__TRY(mrc__config_check(ctx, config, "model"));
    if (!ctx->be) return mrc__fail(ctx, MRC_ERR_ARG, "model: the context has no backend");
    mrc_backend *be = ctx->be;
    mrc__builder b = { .ctx = ctx, .packed_dtype = dtype };
    b.packed = for_prediction && be->prepack_bytes && be->prepack_bytes(be, dtype, 1, 1) > 0;
    if (b.packed) dtype = MRC_DTYPE_F32;
    if (dtype >= MRC_DTYPE_I32 || !be->kernels[dtype].linear_fwd) {
        return mrc__fail(ctx, MRC_ERR_UNSUPPORTED, "model: backend %s has no kernels for %s",
                         ctx->be->name, mrc_dtype_name(dtype));
    }
    mrc_model *m = mrc__host_zalloc(&ctx->host, sizeof *m);
    if (!m) return mrc__fail(ctx, MRC_ERR_MEM, "model: no host memory");
    m->host = ctx->host;
    m->config = *config;
    m->dtype = dtype;
    m->for_prediction = for_prediction;
    mrc_encoder_weights *w = m->weights = mrc__host_zalloc(&ctx->host, sizeof *w);
    n = 16 * config->num_hidden_layers + 8 * config->num_rnn_layers + 16;
    int ok = w && mrc__mul(n, sizeof *w->init, &bytes);
    if (ok) w->init = mrc__host_zalloc(&ctx->host, bytes);
    ok = ok && mrc__mul(config->num_hidden_layers, sizeof *w->layers, &bytes);
    if (ok) w->layers = mrc__host_zalloc(&ctx->host, bytes);
    ok = ok && mrc__mul(config->num_rnn_layers + 1, sizeof *w->lstm, &bytes);
    if (ok) w->lstm = mrc__host_zalloc(&ctx->host, bytes);
    ok = ok && w->init && w->layers && w->lstm
      && mrc_params_new(&m->params, ctx->be, &ctx->host) == MRC_OK;
    b.m = m;
    mrc_status s = ok ? mrc__make_all(&b)
                 : mrc__fail(ctx, MRC_ERR_MEM, "model: no memory for %zu layers",
                             config->num_hidden_layers);
    if (s != MRC_OK) {
        mrc_model_free(m);
        return s;
    }
    *out = m;
    return MRC_OK;
}

MRCDEF void mrc_model_free(mrc_model *m) {
    if (!m) return;
    mrc_encoder_weights *w = m->weights;
    mrc_params_free(m->params);
    if (w && w->init) m->host.free(m->host.user, w->init);
    if (w && w->layers) m->host.free(m->host.user, w->layers);
    if (w && w->lstm) m->host.free(m->host.user, w->lstm);
    if (w) m->host.free(m->host.user, w);
    if (m->config_json) m->host.free(m->host.user, m->config_json);
    m->host.free(m->host.user, m);
}

// Random numbers are counted here too: element i of a parameter is word i % 4 of
// philox({i / 4, i / 2^34, site of its name, "init"}, seed), so that neither the order of
// initialisation nor what a file lacks changes any other weight.
static double mrc__init_value(const mrc__init *init, const uint32_t u[4], size_t i) {
    const double unit = 1.0 / 4294967296.0;
    if (init->kind == MRC__INIT_UNIFORM) return (2 * (u[i % 4] + 0.5) * unit - 1) * init->range;
    // Box-Muller: words 0, 1 make elements 0, 1, words 2, 3 make 2, 3
    size_t pair = i % 4 / 2 * 2;
    double radius = sqrt(-2 * log((u[pair] + 0.5) * unit));
    double angle = 6.28318530717958647692 * (u[pair + 1] * unit);
    return init->range * radius * (i % 2 ? sin(angle) : cos(angle));
}

static void mrc__init_fill(const mrc__init *init, const mrc_tensor *t, uint64_t seed, void *to) {
    const uint32_t key[2] = { (uint32_t)seed, (uint32_t)(seed >> 32) }, domain = 0x696e6974;
    uint32_t u[4] = {0};
    for (size_t i = 0; i < t->numel; i++) {
        double value = init->kind == MRC__INIT_ONE;
        if (init->kind == MRC__INIT_NORMAL || init->kind == MRC__INIT_UNIFORM) {
            const uint32_t counter[4] = { (uint32_t)(i / 4), (uint32_t)((uint64_t)i >> 34),
                                          mrc_site(t->name), domain };
            if (i % 4 == 0) mrc_philox4x32(counter, key, u);
            value = mrc__init_value(init, u, i);
        }
        if (init->zero_row >= 0 && t->ndim == 2 && i / t->shape[1] == (size_t)init->zero_row) {
            value = 0;
        }
        if (t->dtype == MRC_DTYPE_F64) ((double *)to)[i] = value;
        else ((float *)to)[i] = (float)value;
    }
}

static mrc_status mrc__init_param(mrc_ctx *ctx, mrc_model *m, size_t index, uint64_t seed) {
    mrc_tensor *t = mrc_params_at(m->params, index);
    size_t bytes = t->numel * mrc_dtype_bytes(t->dtype);
    void *values = ctx->host.alloc(ctx->host.user, bytes);
    if (!values) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no %zu bytes", t->name, bytes);
    mrc__init_fill(&m->weights->init[index], t, seed, values);
    mrc_status s = mrc_tensor_upload(ctx, t, values);
    ctx->host.free(ctx->host.user, values);
    return s;
}

MRCDEF mrc_status mrc_model_new(mrc_ctx *ctx, mrc_model **out, const mrc_model_config *config,
                                mrc_dtype dtype, uint64_t seed) {
    if (out) *out = NULL;
    if (!ctx || !out || !config) return MRC_ERR_ARG;
    mrc_model *m;
    MRC__TRY(mrc__model_make(ctx, &m, config, dtype, 0));
    for (size_t i = 0; mrc_params_at(m->params, i); i++) {
        mrc_status s = mrc__init_param(ctx, m, i, seed);
        if (s == MRC_OK) continue;
        mrc_model_free(m);
        return s;
    }
    *out = m;
    return MRC_OK;
}

//------------------------------------------------------------------------------
// Forward
//------------------------------------------------------------------------------
MRCDEF mrc_forward_config mrc_forward_config_default(void) {
    return (mrc_forward_config){ .magic = MRC_FORWARD_MAGIC };
}

// One encoder layer as a segment: it may run a second time in backward, so what it reads beside
// in[0] lives in the step.
typedef struct mrc__layer_run {
    const mrc_model *m;
    const mrc_batch *batch;
    size_t           index;
    int              dropout;
} mrc__layer_run;

static uint32_t mrc__layer_site(size_t layer, const char *module) {
    char name[96];
    snprintf(name, sizeof name, "encoder.layer.%zu.%s", layer, module);
    return mrc_site(name);
}

static mrc_tensor *mrc__layer_forward(mrc_ctx *ctx, void *user, mrc_tensor *const *in,
                                      size_t n_in) {
    const mrc__layer_run *run = user;
    const mrc_model_config *c = &run->m->config;
    const mrc__layer_weights *w = &run->m->weights->layers[run->index];
    double p = run->dropout ? c->hidden_dropout_prob : 0, eps = c->layer_norm_eps;
    double p_attention = run->dropout ? c->attention_probs_dropout_prob : 0;
    (void)n_in;
    mrc_tensor *qkv = mrc_qkv(ctx, in[0], w->qkv_weight, w->qkv_bias);
    mrc_tensor *a = mrc_attention(ctx, qkv, c->num_attention_heads, p_attention,
                                  mrc__layer_site(run->index, "attention.self.dropout"),
                                  run->batch);
    mrc_drop(ctx, qkv);
    mrc_tensor *o = mrc_linear(ctx, a, w->attention_weight, w->attention_bias, MRC_ACT_NONE);
    mrc_drop(ctx, a);
    mrc_tensor *h = mrc_add_norm(ctx, o, in[0], w->attention_norm_weight, w->attention_norm_bias,
                                 eps, p, mrc__layer_site(run->index, "attention.output.dropout"),
                                 run->batch);
    mrc_drop(ctx, o);
    mrc_tensor *i = mrc_linear(ctx, h, w->intermediate_weight, w->intermediate_bias, MRC_ACT_GELU);
    mrc_tensor *y = mrc_linear(ctx, i, w->output_weight, w->output_bias, MRC_ACT_NONE);
    mrc_drop(ctx, i);
    mrc_tensor *out = mrc_add_norm(ctx, y, h, w->output_norm_weight, w->output_norm_bias, eps, p,
                                   mrc__layer_site(run->index, "output.dropout"), run->batch);
    mrc_drop(ctx, y);
    mrc_drop(ctx, h);
    return out;
}

static mrc_tensor *mrc__head_forward(mrc_ctx *ctx, mrc_model *m, mrc_tensor *x,
                                     const mrc_batch *batch, int dropout) {
    const mrc_model_config *c = &m->config;
    for (size_t l = 0; c->head == MRC_HEAD_BILSTM && l < c->num_rnn_layers; l++) {
        char site[48];
        snprintf(site, sizeof site, "lstm.dropout.%zu", l);
        mrc_tensor *h = mrc_lstm(ctx, x, m->weights->lstm[l], batch);
        mrc_drop(ctx, x);
        int last = l + 1 == c->num_rnn_layers;
        x = mrc_dropout(ctx, h, dropout && !last ? c->rnn_dropout : 0, mrc_site(site), batch);
    }
    return mrc_linear(ctx, x, m->weights->head_weight, m->weights->head_bias, MRC_ACT_NONE);
}

MRCDEF mrc_tensor *mrc_model_forward(mrc_ctx *ctx, mrc_model *m, const mrc_batch *batch,
                                     const mrc_forward_config *config) {
    if (!ctx || !m || !batch || !config) return NULL;
    if (config->magic != MRC_FORWARD_MAGIC) {
        return mrc__fail_null(ctx, MRC_ERR_ARG, "forward: the config is not from "
                              "mrc_forward_config_default()");
    }
    const mrc_model_config *c = &m->config;
    mrc_encoder_weights *w = m->weights;
    int32_t pad_position = c->model_type == MRC_MODEL_ROBERTA ? c->pad_token_id : -1;
    double p = config->dropout ? c->hidden_dropout_prob : 0;
    mrc_tensor *e = mrc_embedding(ctx, w->word, w->position, w->token_type, c->pad_token_id,
                                  pad_position, m->dtype, batch);
    mrc_tensor *n = mrc_layer_norm(ctx, e, w->norm_weight, w->norm_bias, c->layer_norm_eps);
    mrc_drop(ctx, e);
    mrc_tensor *x = mrc_dropout(ctx, n, p, mrc_site("embeddings.dropout"), batch);
    if (x != n) mrc_drop(ctx, n);
    for (size_t l = 0; x && l < c->num_hidden_layers; l++) {
        mrc_tape_mark(ctx);             // backward can hand over gradients layer by layer
        mrc__layer_run *run = mrc__object_new(&ctx->host, &ctx->objects, ctx->frame, sizeof *run);
        if (!run) return mrc__fail_null(ctx, MRC_ERR_MEM, "forward: no host memory");
        *run = (mrc__layer_run){ m, batch, l, config->dropout };
        mrc_tensor *y = config->gradient_checkpointing
                      ? mrc_checkpointed(ctx, mrc__layer_forward, run, &x, 1)
                      : mrc__layer_forward(ctx, run, &x, 1);
        if (!config->gradient_checkpointing) mrc_drop(ctx, x);
        x = y;
    }
    return mrc__head_forward(ctx, m, x, batch, config->dropout);
}

// Position ids as HF makes them: RoBERTa counts ids that are not pads, from pad + 1.
static void mrc__batch_rows(const mrc_model_config *c, const mrc_feature *f, int32_t *ids,
                            int32_t *types, int32_t *positions) {
    int32_t next = c->pad_token_id + 1;
    for (int32_t i = 0; i < f->length; i++) {
        ids[i] = f->input_ids[i];
        types[i] = c->type_vocab_size > 1 ? f->token_type_ids[i] : 0;
        positions[i] = i;
        if (c->model_type == MRC_MODEL_BERT) continue;
        positions[i] = ids[i] == c->pad_token_id ? c->pad_token_id : next++;
    }
}

MRCDEF mrc_status mrc_model_batch(mrc_ctx *ctx, const mrc_model *m, mrc_batch *out,
                                  const mrc_feature *const *features, size_t n,
                                  size_t first_index) {
    size_t rows = 0, bytes, total;
    if (!ctx || !m || !out || !features) return MRC_ERR_ARG;
    for (size_t i = 0; i < n; i++) rows += (size_t)features[i]->length;
    // cu_seqlens, index, real, begin, end, start and end positions; ids, types, positions
    if (!mrc__mul(7 * n + 1 + 3 * rows, sizeof(int32_t), &bytes) || rows > INT32_MAX) {
        return mrc__fail(ctx, MRC_ERR_ARG, "batch: %zu sequences of %zu rows", n, rows);
    }
    int32_t *block = ctx->host.alloc(ctx->host.user, bytes), *a = block, *array[6];
    if (!block) return mrc__fail(ctx, MRC_ERR_MEM, "batch: no %zu bytes", bytes);
    int32_t *cu = a;
    a += n + 1;
    for (int k = 0; k < 6; k++, a += n) array[k] = a;
    int32_t *ids = a, *types = ids + rows, *positions = types + rows;
    cu[0] = 0;
    total = 0;
    for (size_t i = 0; i < n; i++) {
        const mrc_feature *f = features[i];
        mrc__batch_rows(&m->config, f, ids + total, types + total, positions + total);
        total += (size_t)f->length;
        cu[i + 1] = (int32_t)total;
        array[0][i] = (int32_t)(first_index + i);
        array[1][i] = f->real_len;
        array[2][i] = f->loss_begin;
        array[3][i] = f->loss_end;
        array[4][i] = f->start_position;
        array[5][i] = f->end_position;
    }
    mrc_status s = mrc_batch_new(ctx, out, &(mrc_batch_desc){
        .n_sequences = n, .cu_seqlens = cu, .sequence_index = array[0], .real_len = array[1],
        .loss_begin = array[2], .loss_end = array[3], .start_positions = array[4],
        .end_positions = array[5], .input_ids = ids, .token_type_ids = types,
        .position_ids = positions });
    ctx->host.free(ctx->host.user, block);
    return s;
}
#endif // core pass

//==============================================================================
// >>impl.weights   a checkpoint however it is stored: one file of either kind, or shards
//==============================================================================
#ifdef MRC__PASS_CORE
#define MRC__SHARDS_MAX 4096

static int mrc__ends_with(const char *s, const char *tail) {
    size_t bytes = strlen(s), n = strlen(tail);
    return bytes >= n && !strcmp(s + bytes - n, tail);
}

// By its name, or else by its first bytes.
static mrc_status mrc__weights_file_open(mrc_ctx *ctx, mrc_safetensors **out, const char *path) {
    static const char *const torch[] = { ".bin", ".pt", ".pth", ".ckpt", NULL };
    unsigned char first[4] = {0};
    struct stat info;
    int fd;
    if (mrc__ends_with(path, ".safetensors")) return mrc_safetensors_open(ctx, out, path);
    for (int i = 0; torch[i]; i++) {
        if (mrc__ends_with(path, torch[i])) return mrc_torch_open(ctx, out, path);
    }
    MRC__TRY(mrc__file_open(ctx, path, &fd, &info));
    ssize_t n = pread(fd, first, 4, 0);
    close(fd);
    if (n < 0) return mrc__file_fail(ctx, path, "read it");
    if (!memcmp(first, "PK", 2) || !memcmp(first, "\x80\2", 2)) {
        return mrc_torch_open(ctx, out, path);
    }
    return mrc_safetensors_open(ctx, out, path);
}

static mrc_status mrc__index_fail(mrc_ctx *ctx, const char *path, const mrc_json *at,
                                  const char *what) {
    return mrc__fail(ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: %s", path, at->line, at->column, what);
}

// A shard lies beside its index: no folder, no way out of this one.
static int mrc__shard_name_ok(const mrc_json *v) {
    return v->type == MRC_JSON_STRING && v->bytes > 0 && v->bytes < 256
           && !memchr(v->string, 0, v->bytes) && !memchr(v->string, '/', v->bytes)
           && v->string[0] != '.';
}

static int mrc__shard_compare(const void *a, const void *b) {
    const mrc_json *x = a, *y = b;
    return mrc__compare_bytes(x->string, x->bytes, y->string, y->bytes);
}

// Opens one shard and adds its tensors.
static mrc_status mrc__shard_open(mrc_safetensors *st, const char *dir, const mrc_json *name) {
    mrc_ctx *ctx = st->ctx;
    char path[MRC__PATH_BYTES];
    mrc_safetensors *shard = NULL;
    void *data = (void *)st->shards;
    MRC__TRY(mrc__path_in(ctx, path, sizeof path, dir, name->string));
    if (!mrc__grow(&ctx->host, &data, &st->shards_capacity, st->n_shards + 1, sizeof shard)) {
        return mrc__st_memory(st);
    }
    st->shards = data;
    MRC__TRY(mrc__weights_file_open(ctx, &shard, path));
    st->shards[st->n_shards++] = shard;
    st->format = shard->format;
    for (size_t i = 0; i < shard->n; i++) {
        if (!mrc__st_push(st, &st->by_offset, &st->capacity, &st->n, shard->by_offset[i])) {
            return mrc__st_memory(st);
        }
    }
    return MRC_OK;
}

// Every tensor is where the index says, and the shards have no others.
static mrc_status mrc__index_check(mrc_safetensors *st, const mrc_json *map) {
    for (const mrc_json *m = map->child; m; m = m->next) {
        const mrc_st_entry *e = m->key_bytes == strlen(m->key) ? mrc_safetensors_find(st, m->key)
                                                               : NULL;
        const char *file = e ? ((const mrc__st_item *)e)->owner->path : "", *slash;
        if ((slash = strrchr(file, '/')) != NULL) file = slash + 1;
        if (!e || strcmp(file, m->string)) {
            return mrc__fail(st->ctx, MRC_ERR_FORMAT, "%s:%zu:%zu: \"%.100s\" is not in %.100s",
                             st->path, m->line, m->column, m->key, m->string);
        }
    }
    if (st->n == map->n) return MRC_OK;
    return mrc__fail(st->ctx, MRC_ERR_FORMAT, "%s: its files have %zu tensors, it names %zu",
                     st->path, st->n, map->n);
}

static mrc_status mrc__index_read(mrc_safetensors *st, const mrc_json *root, const void **names) {
    mrc_ctx *ctx = st->ctx;
    char dir[MRC__PATH_BYTES];
    const mrc_json *map = mrc_json_get(root, "weight_map");
    size_t n = 0, files = 0;
    MRC__TRY(mrc_json_unique_keys(ctx, root, st->path));
    MRC__TRY(mrc_json_unique_keys(ctx, map, st->path));
    for (const mrc_json *m = map->child; m; m = m->next) {
        if (!mrc__shard_name_ok(m)) {
            return mrc__index_fail(ctx, st->path, m, "not the name of a file beside the index");
        }
        names[n++] = m;
    }
    const char *slash = strrchr(st->path, '/');
    snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - st->path) : 1, slash ? st->path : ".");
    mrc__sort(names, n, mrc__shard_compare);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && !mrc__shard_compare(names[i - 1], names[i])) continue;
        if (++files > MRC__SHARDS_MAX) return mrc__index_fail(ctx, st->path, map, "too many files");
        MRC__TRY(mrc__shard_open(st, *dir ? dir : "/", names[i]));
    }
    MRC__TRY(mrc__st_index_names(st));
    return mrc__index_check(st, map);
}

static mrc_status mrc__index_open(mrc_ctx *ctx, mrc_safetensors **out, const char *path) {
    mrc_json *root = NULL;
    mrc_safetensors *st = NULL;
    size_t bytes;
    MRC__TRY(mrc_json_load(ctx, &root, path));
    const mrc_json *map = mrc_json_get(root, "weight_map");
    const void **names = NULL;
    mrc_status s = MRC_OK;
    if (!map || map->type != MRC_JSON_OBJECT || !map->n) {
        s = mrc__index_fail(ctx, path, root, "has no weight_map with names of files");
    } else {
        names = mrc__mul(map->n, sizeof *names, &bytes)
              ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
        if (!names) s = mrc__fail(ctx, MRC_ERR_MEM, "%s: no memory to read it", path);
    }
    if (s == MRC_OK) s = mrc__st_new(ctx, &st, path, NULL);
    if (s == MRC_OK) s = mrc__index_read(st, root, names);
    if (names) ctx->host.free(ctx->host.user, names);
    mrc_json_free(root);
    if (s == MRC_OK) *out = st;
    else mrc_safetensors_close(st);
    return s;
}

MRCDEF mrc_status mrc_weights_open(mrc_ctx *ctx, mrc_safetensors **out, const char *path) {
    static const char *const names[] = {
        "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
        "pytorch_model.bin.index.json", NULL };
    char file[MRC__PATH_BYTES];
    if (!ctx || !out) return MRC_ERR_ARG;
    *out = NULL;
    if (!path) return mrc__fail(ctx, MRC_ERR_ARG, "weights: no path given");
    if (mrc_file_exists(path) == 2) {
        for (int i = 0; ; i++) {
            MRC__TRY(mrc__path_in(ctx, file, sizeof file, path, names[names[i] ? i : 0]));
            if (!names[i] || mrc_file_exists(file) == 1) break;
        }
        path = file;                // where there is none, the error names the first
    }
    if (mrc__ends_with(path, ".index.json")) return mrc__index_open(ctx, out, path);
    return mrc__weights_file_open(ctx, out, path);
}
#endif // core pass

//==============================================================================
// >>impl.model_dir   weights by name in any prefix; saving as Hugging Face does
//==============================================================================
#ifdef MRC__PASS_CORE
// The weights' file: its reader, and what stands before the encoder's names in it.
typedef struct mrc__weights_file {
    mrc_safetensors *st;
    char             path[MRC__PATH_BYTES];
    const char      *prefix;
} mrc__weights_file;

static mrc_status mrc__weights_open(mrc_ctx *ctx, mrc__weights_file *f, const char *dir) {
    static const char *const prefixes[] = { "roberta.", "bert.", "transformer.", "", NULL };
    snprintf(f->path, sizeof f->path, "%s", dir);
    MRC__TRY(mrc_weights_open(ctx, &f->st, dir));
    snprintf(f->path, sizeof f->path, "%s", f->st->path);
    for (int i = 0; prefixes[i]; i++) {
        char name[96];
        snprintf(name, sizeof name, "%sembeddings.word_embeddings.weight", prefixes[i]);
        f->prefix = prefixes[i];
        if (mrc_safetensors_find(f->st, name)) return MRC_OK;
    }
    mrc_safetensors_close(f->st);
    return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: has no embeddings.word_embeddings.weight under any "
                     "of the prefixes roberta., bert., transformer. or none", f->path);
}

// Older files say gamma and beta for a LayerNorm's weight and bias: the other name, or "".
static void mrc__weights_alias(const char *name, char *out, size_t room) {
    static const char *const pairs[][2] = { { "LayerNorm.weight", "LayerNorm.gamma" },
                                            { "LayerNorm.bias", "LayerNorm.beta" } };
    size_t bytes = strlen(name);
    out[0] = 0;
    for (int i = 0; i < 4; i++) {
        const char *tail = pairs[i / 2][i % 2], *other = pairs[i / 2][1 - i % 2];
        size_t n = strlen(tail);
        if (bytes < n || strcmp(name + bytes - n, tail) || bytes - n + strlen(other) >= room) {
            continue;
        }
        memcpy(out, name, bytes - n);
        strcpy(out + bytes - n, other);
    }
}

// The file's name for one of our parameters.
static const mrc_st_entry *mrc__weights_find(const mrc__weights_file *f, const mrc_model *m,
                                             const char *name) {
    const char *own = mrc__prefix(&m->config);
    char there[320];
    int encoder = !strncmp(name, own, strlen(own));
    snprintf(there, sizeof there, "%s%s", encoder ? f->prefix : "",
             encoder ? name + strlen(own) : name);
    const mrc_st_entry *e = mrc_safetensors_find(f->st, there);
    if (e) return e;
    char alias[320];
    mrc__weights_alias(there, alias, sizeof alias);
    return mrc_safetensors_find(f->st, alias);
}

// Whether a file's tensor has a place in the model, or is one that nobody misses.
static int mrc__weights_expected(const mrc__weights_file *f, const mrc_model *m,
                                 const char *name) {
    char ours[1024];
    size_t prefix = strlen(f->prefix);
    size_t bytes = strlen(name), tail = strlen("embeddings.position_ids");
    if (bytes >= tail && !strcmp(name + bytes - tail, "embeddings.position_ids")) return 1;
    if (!strncmp(name, f->prefix, prefix)) {
        snprintf(ours, sizeof ours, "%s%s", mrc__prefix(&m->config), name + prefix);
        if (mrc_params_find(m->params, ours)) return 1;
        char alias[1024];
        mrc__weights_alias(ours, alias, sizeof alias);
        if (mrc_params_find(m->params, alias) && !mrc_safetensors_find(f->st, alias)) return 1;
    }
    return mrc_params_find(m->params, name) != NULL;
}

static mrc_status mrc__weights_read(mrc_ctx *ctx, mrc_model *m, mrc__weights_file *f,
                                    const mrc_model_load_desc *desc) {
    for (size_t i = 0; ; i++) {
        mrc_tensor *t = mrc_params_at(m->params, i);
        if (!t) break;
        const mrc_st_entry *e = mrc__weights_find(f, m, t->name);
        if (e) {
            MRC__TRY(mrc__param_load(ctx, f->st, e, t, f->path));
            continue;
        }
        const char *own = mrc__prefix(&m->config);
        if (!strncmp(t->name, own, strlen(own)) && !strstr(t->name, "pooler.")) {
            return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: has no %s%s, which the encoder of %zu "
                             "layers in config.json needs", f->path, f->prefix,
                             t->name + strlen(own), m->config.num_hidden_layers);
        }
        MRC__TRY(mrc__init_param(ctx, m, i, desc->seed));
        if (desc->note) desc->note(desc->user, MRC_LOAD_MISSING, t->name);
    }
    const mrc_st_entry *e;
    for (size_t i = 0; desc->note && (e = mrc_safetensors_at(f->st, i)) != NULL; i++) {
        if (!mrc__weights_expected(f, m, e->name)) {
            desc->note(desc->user, MRC_LOAD_UNEXPECTED, e->name);
        }
    }
    return MRC_OK;
}

MRCDEF mrc_status mrc_model_load(mrc_ctx *ctx, mrc_model **out, const mrc_model_load_desc *desc) {
    if (out) *out = NULL;
    if (!ctx || !out || !desc || !desc->path) return MRC_ERR_ARG;
    mrc_model_config config;
    mrc__weights_file f = {0};
    mrc_model *m = NULL;
    char *json = NULL;
    if (mrc_file_exists(desc->path) != 2) {
        return mrc__fail(ctx, MRC_ERR_ARG, "%s: no such model directory", desc->path);
    }
    MRC__TRY(mrc__config_load(ctx, &config, desc->path, &json));
    if (desc->config) {
        config.head = desc->config->head;
        config.num_rnn_layers = desc->config->num_rnn_layers;
        config.rnn_hidden_size = desc->config->rnn_hidden_size;
        config.rnn_dropout = desc->config->rnn_dropout;
        config.pad_to_max_length = desc->config->pad_to_max_length;
    }
    mrc_status s = mrc__weights_open(ctx, &f, desc->path);
    if (s == MRC_OK) {
        s = mrc__model_make(ctx, &m, &config, desc->dtype, desc->for_prediction);
        if (s == MRC_OK) s = mrc__weights_read(ctx, m, &f, desc);
        mrc_safetensors_close(f.st);
    }
    if (s != MRC_OK) {
        mrc_file_free(ctx, json);
        mrc_model_free(m);
        return s;
    }
    m->config_json = json;
    *out = m;
    return MRC_OK;
}

//------------------------------------------------------------------------------
// Saving
//------------------------------------------------------------------------------
static void mrc__json_write(mrc_text *t, const mrc_json *v);

static void mrc__json_write_members(mrc_text *t, const mrc_json *v) {
    mrc_text_add(t, v->type == MRC_JSON_ARRAY ? "[" : "{", 1);
    for (const mrc_json *c = v->child; c; c = c->next) {
        if (c != v->child) mrc_text_add(t, ", ", 2);
        if (v->type == MRC_JSON_OBJECT) {
            mrc_text_json_string(t, c->key, c->key_bytes, 0);
            mrc_text_add(t, ": ", 2);
        }
        mrc__json_write(t, c);
    }
    mrc_text_add(t, v->type == MRC_JSON_ARRAY ? "]" : "}", 1);
}

// A parsed value as JSON.  The parser bounds the depth, 64 levels here.
static void mrc__json_write(mrc_text *t, const mrc_json *v) {
    switch (v->type) {
    case MRC_JSON_NULL:   mrc_text_add(t, "null", 4); break;
    case MRC_JSON_FALSE:  mrc_text_add(t, "false", 5); break;
    case MRC_JSON_TRUE:   mrc_text_add(t, "true", 4); break;
    case MRC_JSON_STRING: mrc_text_json_string(t, v->string, v->bytes, 0); break;
    case MRC_JSON_ARRAY:
    case MRC_JSON_OBJECT: mrc__json_write_members(t, v); break;
    case MRC_JSON_NUMBER:
        if (v->is_int) mrc_text_printf(t, "%lld", (long long)v->integer);
        else mrc_text_number(t, v->number);
        break;
    }
}

static const char *const mrc__config_keys[] = {
    "architectures", "attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob",
    "hidden_size", "initializer_range", "intermediate_size", "layer_norm_eps",
    "max_position_embeddings", "model_type", "mrc_head", "num_attention_heads",
    "num_hidden_layers", "pad_token_id", "type_vocab_size", "vocab_size", "dtype", "torch_dtype",
    NULL };

static void mrc__config_number(mrc_text *t, const char *key, double value) {
    mrc_text_printf(t, ",\n  \"%s\": ", key);
    mrc_text_number(t, value);
}

static void mrc__config_write_head(mrc_text *t, const mrc_model_config *c) {
    if (c->head == MRC_HEAD_LINEAR && !c->pad_to_max_length) return;
    if (c->head == MRC_HEAD_LINEAR) {
        mrc_text_printf(t, ",\n  \"mrc_head\": {\"type\": \"linear\"");
    } else {
        mrc_text_printf(t, ",\n  \"mrc_head\": {\"type\": \"bilstm\", \"num_layers\": %zu, "
                        "\"hidden_size\": %zu, \"dropout\": ", c->num_rnn_layers,
                        c->rnn_hidden_size);
        mrc_text_number(t, c->rnn_dropout);
    }
    if (c->pad_to_max_length) mrc_text_printf(t, ", \"pad_to_max_length\": true");
    mrc_text_printf(t, "}");
}

// The keys that the library reads, then what else the source's config.json had.
static void mrc__config_write(mrc_text *t, const mrc_model *m, const mrc_json *source) {
    const mrc_model_config *c = &m->config;
    int bert = c->model_type == MRC_MODEL_BERT;
    mrc_text_printf(t, "{\n  \"model_type\": \"%s\"", bert ? "bert" : "roberta");
    if (c->head == MRC_HEAD_LINEAR) {
        mrc_text_printf(t, ",\n  \"architectures\": [\"%sForQuestionAnswering\"]",
                        bert ? "Bert" : "Roberta");
    }
    mrc_text_printf(t, ",\n  \"dtype\": \"%s\",\n  \"vocab_size\": %zu,\n  \"hidden_size\": %zu,\n"
                    "  \"num_hidden_layers\": %zu,\n  \"num_attention_heads\": %zu,\n"
                    "  \"intermediate_size\": %zu,\n  \"hidden_act\": \"gelu\",\n"
                    "  \"max_position_embeddings\": %zu,\n  \"type_vocab_size\": %zu,\n"
                    "  \"pad_token_id\": %d",
                    m->weights->word->dtype == MRC_DTYPE_F64 ? "float64" : "float32",
                    c->vocab_size, c->hidden_size, c->num_hidden_layers, c->num_attention_heads,
                    c->intermediate_size, c->max_position_embeddings, c->type_vocab_size,
                    (int)c->pad_token_id);
    mrc__config_number(t, "hidden_dropout_prob", c->hidden_dropout_prob);
    mrc__config_number(t, "attention_probs_dropout_prob", c->attention_probs_dropout_prob);
    mrc__config_number(t, "initializer_range", c->initializer_range);
    mrc__config_number(t, "layer_norm_eps", c->layer_norm_eps);
    mrc__config_write_head(t, c);
    for (const mrc_json *v = source ? source->child : NULL; v; v = v->next) {
        int known = 0;
        for (int i = 0; mrc__config_keys[i]; i++) known |= !strcmp(v->key, mrc__config_keys[i]);
        if (known) continue;
        mrc_text_printf(t, ",\n  ");
        mrc_text_json_string(t, v->key, v->key_bytes, 0);
        mrc_text_add(t, ": ", 2);
        mrc__json_write(t, v);
    }
    mrc_text_printf(t, "\n}\n");
}

static mrc_status mrc__save_config(mrc_ctx *ctx, const mrc_model *m, const char *dir) {
    char path[MRC__PATH_BYTES];
    mrc_json *source = NULL;
    mrc_text text;
    MRC__TRY(mrc__path_in(ctx, path, sizeof path, dir, "config.json"));
    if (m->config_json) {
        MRC__TRY(mrc_json_parse(ctx, &source, path, m->config_json, strlen(m->config_json), 64));
    }
    mrc_text_init(&text, ctx);
    mrc__config_write(&text, m, source);
    mrc_json_free(source);
    mrc_status s = text.failed ? mrc__fail(ctx, MRC_ERR_MEM, "%s: no host memory", path)
                 : mrc_file_write(ctx, path, text.data, text.bytes);
    mrc_text_free(&text);
    return s;
}

static mrc_status mrc__save_weights(mrc_ctx *ctx, const mrc_model *m, const char *dir) {
    char path[MRC__PATH_BYTES];
    size_t n = m->params->n, bytes;
    MRC__TRY(mrc__path_in(ctx, path, sizeof path, dir, "model.safetensors"));
    mrc_st_tensor *list = mrc__mul(n + 1, sizeof *list, &bytes)
                        ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!list) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no host memory", path);
    for (size_t i = 0; i < n; i++) {
        mrc_tensor *t = mrc_params_at(m->params, i);
        mrc__param_describe(&list[i], t, t->name);
    }
    mrc_status s = mrc_safetensors_write(ctx, path, list, n, NULL);
    ctx->host.free(ctx->host.user, list);
    return s;
}

// Byte for byte; a file that the source lacks is not written, and one that is the same file stays.
static mrc_status mrc__save_tokenizer(mrc_ctx *ctx, const char *dir, const char *source) {
    static const char *const names[] = { "vocab.txt", "vocab.json", "merges.txt", "tokenizer.json",
                                         "tokenizer_config.json", "special_tokens_map.json", NULL };
    for (int i = 0; names[i]; i++) {
        char from[MRC__PATH_BYTES], to[MRC__PATH_BYTES], *data;
        size_t bytes;
        MRC__TRY(mrc__path_in(ctx, from, sizeof from, source, names[i]));
        MRC__TRY(mrc__path_in(ctx, to, sizeof to, dir, names[i]));
        if (mrc_file_exists(from) != 1) continue;
        MRC__TRY(mrc_file_read(ctx, &data, &bytes, from));
        mrc_status s = mrc_file_write(ctx, to, data, bytes);
        mrc_file_free(ctx, data);
        MRC__TRY(s);
    }
    return MRC_OK;
}

// tokenizer_dir may be a vocab.txt too.
static mrc_status mrc__save_vocab(mrc_ctx *ctx, const char *dir, const char *source) {
    char to[MRC__PATH_BYTES], *data;
    const char *slash = strrchr(source, '/'), *name = slash ? slash + 1 : source;
    size_t bytes;
    MRC__TRY(mrc__path_in(ctx, to, sizeof to, dir,
                          strcmp(name, "tokenizer.json") ? "vocab.txt" : name));
    MRC__TRY(mrc_file_read(ctx, &data, &bytes, source));
    mrc_status s = mrc_file_write(ctx, to, data, bytes);
    mrc_file_free(ctx, data);
    return s;
}

MRCDEF mrc_status mrc_model_save(mrc_ctx *ctx, const mrc_model *m, const char *path,
                                 const char *tokenizer_dir) {
    if (!ctx || !m || !path) return MRC_ERR_ARG;
    if (m->for_prediction) {
        return mrc__fail(ctx, MRC_ERR_ARG, "%s: the model was loaded for prediction only", path);
    }
    MRC__TRY(mrc_dir_new(ctx, path));
    if (tokenizer_dir) {
        MRC__TRY(mrc_file_exists(tokenizer_dir) == 1 ? mrc__save_vocab(ctx, path, tokenizer_dir)
                 : mrc__save_tokenizer(ctx, path, tokenizer_dir));
    }
    MRC__TRY(mrc__save_weights(ctx, m, path));
    return mrc__save_config(ctx, m, path);
}
#endif // core pass

//==============================================================================
// >>impl.checkpoint   a folder that is complete and right, or is not taken
//==============================================================================
#ifdef MRC__PASS_CORE
// While the checksums of a folder's files are collected, in the order of mrc_dir_list.
typedef struct mrc__sums { const char *dir; mrc_text text; size_t n; } mrc__sums;
#define MRC__STATE_FILE "trainer_state.json"

static mrc_status mrc__sums_add(mrc_ctx *ctx, void *user, const char *name) {
    mrc__sums *sums = user;
    char path[MRC__PATH_BYTES];
    uint32_t crc;
    uint64_t bytes;
    if (!strcmp(name, MRC__STATE_FILE)) return MRC_OK;
    MRC__TRY(mrc__path_in(ctx, path, sizeof path, sums->dir, name));
    MRC__TRY(mrc_file_crc32c(ctx, path, &crc, &bytes));
    mrc_text_printf(&sums->text, "%s", sums->n++ ? ", " : "");
    mrc_text_json_string(&sums->text, name, strlen(name), 0);
    mrc_text_printf(&sums->text, ": {\"crc32c\": %lu, \"bytes\": %llu}", (unsigned long)crc,
                    (unsigned long long)bytes);
    return MRC_OK;
}

// The state with "files", each other file's checksum, and last "state_crc32c", that of all before.
static mrc_status mrc__state_write(mrc_ctx *ctx, const char *dir, const char *state) {
    char path[MRC__PATH_BYTES];
    mrc__sums sums = { .dir = dir };
    size_t bytes = strlen(state);
    while (bytes && (state[bytes - 1] == '\n' || state[bytes - 1] == ' ')) bytes--;
    if (bytes < 2 || state[0] != '{' || state[bytes - 1] != '}') {
        return mrc__fail(ctx, MRC_ERR_ARG, "checkpoint: the state is no JSON object");
    }
    MRC__TRY(mrc__path_in(ctx, path, sizeof path, dir, MRC__STATE_FILE));
    mrc_text_init(&sums.text, ctx);
    mrc_text_add(&sums.text, state, bytes - 1);
    mrc_text_printf(&sums.text, "%s\"files\": {", bytes > 2 ? ", " : "");
    mrc_status s = mrc_dir_list(ctx, dir, mrc__sums_add, &sums);
    mrc_text_printf(&sums.text, "}, ");
    if (s == MRC_OK && sums.text.failed) {
        s = mrc__fail(ctx, MRC_ERR_MEM, "%s: no host memory", path);
    }
    if (s == MRC_OK) {
        uint32_t crc = mrc_crc32c(0, sums.text.data, sums.text.bytes);
        mrc_text_printf(&sums.text, "\"state_crc32c\": %lu}\n", (unsigned long)crc);
        s = sums.text.failed ? mrc__fail(ctx, MRC_ERR_MEM, "%s: no host memory", path)
          : mrc_file_write(ctx, path, sums.text.data, sums.text.bytes);
    }
    mrc_text_free(&sums.text);
    return s;
}

static mrc_status mrc__rename(mrc_ctx *ctx, const char *from, const char *to) {
    if (rename(from, to) == 0) return MRC_OK;
    return mrc__fail(ctx, MRC_ERR_IO, "%s: cannot be renamed to %s: %s", from, to,
                     strerror(errno));
}

MRCDEF mrc_status mrc_checkpoint_save(mrc_ctx *ctx, const char *output_dir, uint64_t step,
                                      const mrc_model *m, const char *tokenizer_dir,
                                      mrc_optimizer *o, const char *state) {
    char name[64], temporary[MRC__PATH_BYTES], final[MRC__PATH_BYTES], old[MRC__PATH_BYTES];
    char moments[MRC__PATH_BYTES];
    if (!ctx || !output_dir || !m || !o || !state) return MRC_ERR_ARG;
    snprintf(name, sizeof name, "checkpoint-%llu", (unsigned long long)step);
    MRC__TRY(mrc__path_in(ctx, final, sizeof final, output_dir, name));
    snprintf(name, sizeof name, ".checkpoint-%llu.tmp", (unsigned long long)step);
    MRC__TRY(mrc__path_in(ctx, temporary, sizeof temporary, output_dir, name));
    snprintf(name, sizeof name, ".checkpoint-%llu.old.tmp", (unsigned long long)step);
    MRC__TRY(mrc__path_in(ctx, old, sizeof old, output_dir, name));
    MRC__TRY(mrc__path_in(ctx, moments, sizeof moments, temporary, "optimizer.safetensors"));
    MRC__TRY(mrc_dir_remove(ctx, temporary));
    MRC__TRY(mrc_dir_remove(ctx, old));
    mrc_status s = mrc_model_save(ctx, m, temporary, tokenizer_dir);
    if (s == MRC_OK) s = mrc_optimizer_save(ctx, o, moments);
    if (s == MRC_OK) s = mrc__state_write(ctx, temporary, state);
    if (s == MRC_OK) s = mrc_dir_sync(ctx, temporary);
    if (s == MRC_OK && mrc_file_exists(final)) s = mrc__rename(ctx, final, old);
    if (s == MRC_OK) s = mrc__rename(ctx, temporary, final);
    if (s == MRC_OK) s = mrc_dir_sync(ctx, output_dir);
    mrc_status removed = mrc_dir_remove(ctx, s == MRC_OK ? old : temporary);
    return s == MRC_OK ? removed : s;
}

// "files" against the folder: every file is there, with its bytes and checksum.
static mrc_status mrc__sums_check(mrc_ctx *ctx, const char *dir, const mrc_json *files) {
    for (const mrc_json *f = files->child; f; f = f->next) {
        const mrc_json *want_crc = mrc_json_get(f, "crc32c"), *want = mrc_json_get(f, "bytes");
        char path[MRC__PATH_BYTES];
        uint32_t crc;
        uint64_t bytes;
        if (!want_crc || !want || !want_crc->is_int || !want->is_int || strchr(f->key, '/')) {
            return mrc__fail(ctx, MRC_ERR_FORMAT, "%s/" MRC__STATE_FILE ": no checksum of %s", dir,
                             f->key);
        }
        MRC__TRY(mrc__path_in(ctx, path, sizeof path, dir, f->key));
        MRC__TRY(mrc_file_crc32c(ctx, path, &crc, &bytes));
        if (bytes != (uint64_t)want->integer || crc != (uint64_t)want_crc->integer) {
            return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: is damaged (found %llu bytes with checksum "
                             "%lu, expected %lld with %lld)", path, (unsigned long long)bytes,
                             (unsigned long)crc, (long long)want->integer,
                             (long long)want_crc->integer);
        }
    }
    return MRC_OK;
}

// The state's own checksum stands last, so that it covers everything before it.
static mrc_status mrc__state_check(mrc_ctx *ctx, const char *path, const char *text,
                                   size_t bytes) {
    static const char key[] = "\"state_crc32c\": ";
    const char *at = NULL;
    for (const char *p = text; (p = strstr(p, key)) != NULL; p++) at = p;
    size_t before = at ? (size_t)(at - text) : 0;
    unsigned long found = at ? mrc_crc32c(0, text, before) : 0;
    char expected[64];
    if (at) {
        snprintf(expected, sizeof expected, "%s%lu}\n", key, found);
        if (bytes - before == strlen(expected) && !memcmp(at, expected, bytes - before)) {
            return MRC_OK;
        }
    }
    return mrc__fail(ctx, MRC_ERR_FORMAT, "%s: is damaged (checksum found %lu, the file ends "
                     "\"%.40s\")", path, found, at ? at : "without one");
}

MRCDEF mrc_status mrc_checkpoint_check(mrc_ctx *ctx, const char *path) {
    char file[MRC__PATH_BYTES], *text;
    mrc_json *root = NULL;
    size_t bytes;
    if (!ctx || !path) return MRC_ERR_ARG;
    MRC__TRY(mrc__path_in(ctx, file, sizeof file, path, MRC__STATE_FILE));
    MRC__TRY(mrc_file_read(ctx, &text, &bytes, file));
    mrc_status s = mrc__state_check(ctx, file, text, bytes);
    if (s == MRC_OK) s = mrc_json_parse(ctx, &root, file, text, bytes, 64);
    const mrc_json *files = s == MRC_OK ? mrc_json_get(root, "files") : NULL;
    if (s == MRC_OK && (!files || files->type != MRC_JSON_OBJECT || files->n < 3)) {
        s = mrc__fail(ctx, MRC_ERR_FORMAT, "%s: names %zu files, at least 3 make a checkpoint",
                      file, files ? files->n : 0);
    }
    if (s == MRC_OK) s = mrc__sums_check(ctx, path, files);
    mrc_json_free(root);
    mrc_file_free(ctx, text);
    return s;
}

//------------------------------------------------------------------------------
// The checkpoints of an output folder
//------------------------------------------------------------------------------
typedef struct mrc__steps { const char *dir; uint64_t *list; size_t n, capacity; } mrc__steps;

// The number of "checkpoint-N", or 0 with *ok = 0.
static uint64_t mrc__step_of(const char *name, int *ok) {
    uint64_t step = 0;
    *ok = !strncmp(name, "checkpoint-", 11) && name[11];
    for (const char *p = name + 11; *ok && *p; p++) {
        if (*p < '0' || *p > '9' || step > (UINT64_MAX - 9) / 10) *ok = 0;
        step = step * 10 + (uint64_t)(*p - '0');
    }
    return *ok ? step : 0;
}

// Collects the steps; removes what a killed save left behind.
static mrc_status mrc__steps_add(mrc_ctx *ctx, void *user, const char *name) {
    mrc__steps *steps = user;
    size_t bytes = strlen(name);
    char path[MRC__PATH_BYTES];
    int ok;
    if (bytes > 16 && !strncmp(name, ".checkpoint-", 12) && !strcmp(name + bytes - 4, ".tmp")) {
        MRC__TRY(mrc__path_in(ctx, path, sizeof path, steps->dir, name));
        return mrc_dir_remove(ctx, path);
    }
    uint64_t step = mrc__step_of(name, &ok);
    if (!ok) return MRC_OK;
    if (steps->n == steps->capacity) {
        size_t capacity = steps->capacity ? 2 * steps->capacity : 64, want;
        uint64_t *list = mrc__mul(capacity, sizeof *list, &want)
                       ? ctx->host.alloc(ctx->host.user, want) : NULL;
        if (!list) return mrc__fail(ctx, MRC_ERR_MEM, "%s: no host memory", steps->dir);
        if (steps->n) memcpy(list, steps->list, steps->n * sizeof *list);
        if (steps->list) ctx->host.free(ctx->host.user, steps->list);
        steps->list = list;
        steps->capacity = capacity;
    }
    size_t at = steps->n++;
    for (; at > 0 && steps->list[at - 1] < step; at--) steps->list[at] = steps->list[at - 1];
    steps->list[at] = step;                             // newest first
    return MRC_OK;
}

static mrc_status mrc__steps_list(mrc_ctx *ctx, mrc__steps *steps, const char *dir) {
    *steps = (mrc__steps){ .dir = dir };
    if (mrc_file_exists(dir) != 2) return MRC_OK;
    return mrc_dir_list(ctx, dir, mrc__steps_add, steps);
}

MRCDEF mrc_status mrc_checkpoint_find(mrc_ctx *ctx, const char *output_dir, char *path,
                                      size_t capacity) {
    mrc__steps steps;
    if (!ctx || !output_dir || !path || capacity == 0) return MRC_ERR_ARG;
    path[0] = 0;
    mrc_status s = mrc__steps_list(ctx, &steps, output_dir);
    for (size_t i = 0; s == MRC_OK && i < steps.n; i++) {
        char name[64];
        snprintf(name, sizeof name, "checkpoint-%llu", (unsigned long long)steps.list[i]);
        s = mrc__path_in(ctx, path, capacity, output_dir, name);
        if (s != MRC_OK) break;
        mrc_status held = mrc_checkpoint_check(ctx, path);      // a failure has been logged
        if (held == MRC_OK) break;
        path[0] = 0;
        if (held == MRC_ERR_MEM) s = held;
        else mrc_ctx_clear_error(ctx);
    }
    if (s != MRC_OK) path[0] = 0;
    if (steps.list) ctx->host.free(ctx->host.user, steps.list);
    return s;
}

MRCDEF mrc_status mrc_checkpoint_prune(mrc_ctx *ctx, const char *output_dir, size_t keep) {
    mrc__steps steps;
    if (!ctx || !output_dir) return MRC_ERR_ARG;
    if (keep == 0) return MRC_OK;
    mrc_status s = mrc__steps_list(ctx, &steps, output_dir);
    for (size_t i = keep; s == MRC_OK && i < steps.n; i++) {
        char name[64], path[MRC__PATH_BYTES];
        snprintf(name, sizeof name, "checkpoint-%llu", (unsigned long long)steps.list[i]);
        s = mrc__path_in(ctx, path, sizeof path, output_dir, name);
        if (s == MRC_OK) s = mrc_dir_remove(ctx, path);
    }
    if (steps.list) ctx->host.free(ctx->host.user, steps.list);
    return s;
}
#endif // core pass

//==============================================================================
// >>impl.reader   one optimizer step, one pass over features
//==============================================================================
#ifdef MRC__PASS_CORE
// Whether a target lies inside the window that the loss looks at.
static int mrc__counts(const mrc_feature *f, int32_t position) {
    return position >= f->loss_begin && position < f->loss_end;
}

// n values of t's dtype on the host, as float.
static mrc_status mrc__download_f32(mrc_ctx *ctx, const mrc_tensor *t, float *out) {
    if (t->dtype == MRC_DTYPE_F32) return mrc_tensor_download(ctx, t, out);
    size_t bytes;
    void *raw = mrc__mul(t->numel + 1, mrc_dtype_bytes(t->dtype), &bytes)
              ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!raw) return mrc__fail(ctx, MRC_ERR_MEM, "download: no host memory");
    mrc_status s = mrc_tensor_download(ctx, t, raw);
    for (size_t i = 0; s == MRC_OK && i < t->numel; i++) {
        out[i] = t->dtype == MRC_DTYPE_F64 ? (float)((const double *)raw)[i]
               : mrc__widen(t->dtype, ((const uint16_t *)raw)[i]);
    }
    ctx->host.free(ctx->host.user, raw);
    return s;
}

static mrc_status mrc__download_scalar(mrc_ctx *ctx, const mrc_tensor *t, double *out) {
    float f32;
    if (t->dtype == MRC_DTYPE_F64) return mrc_tensor_download(ctx, t, out);
    MRC__TRY(mrc_tensor_download(ctx, t, &f32));
    *out = f32;
    return MRC_OK;
}

// The denominators of the two columns: a span's loss is the mean of its two ends.
static mrc_tensor *mrc__denominators(mrc_ctx *ctx, const mrc_model *m, const size_t counted[2]) {
    const size_t two = 2;
    mrc_dtype dtype = mrc__stat_dtype(m->weights->word->dtype);
    const double f64[2] = { 2.0 * (double)counted[0], 2.0 * (double)counted[1] };
    const float f32[2] = { (float)f64[0], (float)f64[1] };
    mrc_tensor *t = mrc_tensor_new(ctx, dtype, 1, &two, 0);
    const void *src = dtype == MRC_DTYPE_F64 ? (const void *)f64 : f32;
    return t && mrc_tensor_upload(ctx, t, src) == MRC_OK ? t : NULL;
}

// Forward and backward of features first .. first + n: gradients add up in ctx, times the scale.
static mrc_status mrc__micro_batch(mrc_ctx *ctx, mrc_model *m, const mrc_tensor *scale,
                                   const mrc_step_desc *desc, size_t first, size_t n,
                                   const size_t counted[2], double *loss) {
    mrc_batch batch;
    double value;
    MRC__TRY(mrc_model_batch(ctx, m, &batch, desc->features + first, n, first));
    mrc_tensor *denominators = mrc__denominators(ctx, m, counted);
    mrc_tensor *logits = mrc_model_forward(ctx, m, &batch, &desc->forward);
    mrc_tensor *t = mrc_cross_entropy(ctx, logits, batch.targets, denominators, &batch);
    MRC__TRY(mrc_backward(ctx, t, scale));
    MRC__TRY(mrc__download_scalar(ctx, t, &value));
    *loss += value;
    mrc_ctx_reset(ctx);
    return MRC_OK;
}

MRCDEF mrc_status mrc_train_step(mrc_ctx *ctx, mrc_model *m, mrc_optimizer *o,
                                 const mrc_step_desc *desc, mrc_step_result *out) {
    size_t counted[2] = { 0, 0 };
    if (!ctx || !m || !o || !desc || !out || !desc->features || desc->n == 0) return MRC_ERR_ARG;
    *out = (mrc_step_result){0};
    for (size_t i = 0; i < desc->n; i++) {
        const mrc_feature *f = desc->features[i];
        counted[0] += (size_t)mrc__counts(f, f->start_position);
        counted[1] += (size_t)mrc__counts(f, f->end_position);
    }
    out->counted = counted[0] + counted[1];
    size_t micro = desc->micro_batch ? desc->micro_batch : desc->n;
    mrc_status s = MRC_OK;
    mrc_ctx_set_random(ctx, desc->random);
    for (size_t first = 0; s == MRC_OK && first < desc->n; first += micro) {
        size_t n = desc->n - first < micro ? desc->n - first : micro;
        s = mrc__micro_batch(ctx, m, o->loss_scale, desc, first, n, counted, &out->loss);
    }
    int finite = fabs(out->loss) <= DBL_MAX;
    if (s == MRC_OK && finite) s = mrc_optimizer_step(ctx, o, desc->lr);
    if (s == MRC_OK && finite) {
        s = mrc_optimizer_stats(ctx, o, &out->grad_norm, NULL, &out->skipped);
    }
    if (s == MRC_OK && o->loss_scale) {
        s = mrc__download_scalar(ctx, o->loss_scale, &out->loss_scale);
    }
    if (!finite) out->skipped = 1;
    if (s == MRC_OK && finite) return MRC_OK;
    mrc_ctx_reset(ctx);                     // as good as new but for the message
    mrc_grad_clear(ctx);
    return s;
}

//------------------------------------------------------------------------------
// Prediction
//------------------------------------------------------------------------------
// The logits of one batch, column by column on the host: (2, N).
static mrc_status mrc__predict_batch(mrc_ctx *ctx, mrc_model *m, const mrc_predict_desc *desc,
                                     const mrc_feature *const *list, size_t n, size_t first) {
    mrc_forward_config forward = mrc_forward_config_default();
    mrc_batch batch;
    size_t bytes;
    forward.dropout = desc->dropout;
    MRC__TRY(mrc_model_batch(ctx, m, &batch, list, n, first));
    mrc_tensor *logits = mrc_model_forward(ctx, m, &batch, &forward);
    if (!logits) return ctx->status;
    size_t rows = batch.n_tokens;
    float *host = mrc__mul(4 * rows + 1, sizeof *host, &bytes)
                ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    if (!host) return mrc__fail(ctx, MRC_ERR_MEM, "predict: no %zu rows of host memory", rows);
    mrc_status s = mrc__download_f32(ctx, logits, host);
    float *start = host + 2 * rows, *end = start + rows;
    for (size_t r = 0; r < rows; r++) {
        start[r] = host[2 * r];
        end[r] = host[2 * r + 1];
    }
    for (size_t i = 0; s == MRC_OK && i < n; i++) {
        s = desc->fn(ctx, desc->user, list[i], start, end);
        start += list[i]->length;
        end += list[i]->length;
    }
    ctx->host.free(ctx->host.user, host);
    return s;
}

// Longest first; of one length as they come.
static int mrc__predict_order(const void *a, const void *b) {
    const mrc_feature *x = a, *y = b;
    if (x->length != y->length) return x->length > y->length ? -1 : 1;
    return x < y ? -1 : x > y;
}

// How many of the n features in list make the next batch.
static size_t mrc__predict_count(const mrc_predict_desc *desc, const mrc_feature *const *list,
                                 size_t n, size_t longest) {
    size_t count = 0, budget, rows = 0;
    if (!desc->by_length) return n < desc->batch_size ? n : desc->batch_size;
    if (!mrc__mul(desc->batch_size, longest, &budget) || budget > INT32_MAX) budget = INT32_MAX;
    while (count < n && (size_t)list[count]->length <= budget - rows) {
        rows += (size_t)list[count++]->length;
    }
    return count ? count : 1;
}

MRCDEF mrc_status mrc_predict(mrc_ctx *ctx, mrc_model *m, const mrc_predict_desc *desc) {
    if (!ctx || !m || !desc || !desc->features || !desc->fn || !desc->batch_size) {
        return MRC_ERR_ARG;
    }
    const mrc_features *f = desc->features;
    size_t bytes, n;
    const mrc_feature **list = mrc__mul(f->n, sizeof *list, &bytes)
                             ? ctx->host.alloc(ctx->host.user, bytes + 1) : NULL;
    if (!list) return mrc__fail(ctx, MRC_ERR_MEM, "predict: no host memory");
    for (size_t i = 0; i < f->n; i++) list[i] = &f->list[i];
    if (desc->by_length) mrc__sort((const void **)(void *)list, f->n, mrc__predict_order);
    mrc_status s = MRC_OK;
    int was_on = mrc_no_grad(ctx, 1);
    mrc_ctx_set_random(ctx, desc->random);
    for (size_t first = 0; s == MRC_OK && first < f->n; first += n) {
        n = mrc__predict_count(desc, list + first, f->n - first, (size_t)list[0]->length);
        s = mrc__predict_batch(ctx, m, desc, list + first, n, first);
        mrc_ctx_reset(ctx);
        if (s == MRC_OK && desc->progress) s = desc->progress(desc->user, first + n, f->n);
    }
    mrc_no_grad(ctx, was_on);
    ctx->host.free(ctx->host.user, list);
    return s;
}

//------------------------------------------------------------------------------
// The memory plan
//------------------------------------------------------------------------------
// What no batch of these features exceeds.
typedef struct mrc__bound {
    uint64_t           rows;
    size_t             sequences;
    const mrc_feature *longest;
} mrc__bound;

// Batches of `size` in the features' order.
static void mrc__bound_in_order(const mrc_features *f, size_t size, mrc__bound *b) {
    uint64_t rows = 0;
    for (size_t i = 0; i < f->n; i++) {
        if (i % size == 0) rows = 0;
        rows += (uint64_t)f->list[i].length;
        if (rows > b->rows) b->rows = rows;
    }
    b->sequences = size < f->n ? size : f->n;
}

// sum[k]: the rows of the k shortest features.
static mrc_status mrc__bound_sums(mrc_ctx *ctx, const mrc_features *f, size_t max_length,
                                  uint64_t **out) {
    size_t bytes, at = 0;
    size_t *count = mrc__mul(max_length + 1, sizeof *count, &bytes)
                  ? mrc__host_zalloc(&ctx->host, bytes) : NULL;
    uint64_t *sum = mrc__mul(f->n + 1, sizeof *sum, &bytes)
                  ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
    *out = sum;
    if (count && sum) {
        for (size_t i = 0; i < f->n; i++) count[f->list[i].length]++;
        sum[0] = 0;
        for (size_t length = 0; length <= max_length; length++) {
            for (size_t k = 0; k < count[length]; k++, at++) sum[at + 1] = sum[at] + length;
        }
    }
    if (count) ctx->host.free(ctx->host.user, count);
    if (count && sum) return MRC_OK;
    if (sum) ctx->host.free(ctx->host.user, sum);
    return mrc__fail(ctx, MRC_ERR_MEM, "plan: no host memory for %zu features", f->n);
}

// A step of n features within a budget of rows is cut into micro-batches of m = ceil(n / parts):
// the longest m may come together, as far as the other n - m leave them room.
static void mrc__bound_budget(const uint64_t *sum, size_t n_features, uint64_t budget,
                              size_t parts, mrc__bound *b) {
    for (size_t m = 1; m <= n_features; m++) {
        size_t n;                       // the fewest features that make such a micro-batch
        if (!mrc__mul(m - 1, parts, &n) || n >= n_features || sum[++n] > budget) return;
        uint64_t most = sum[n_features] - sum[n_features - m], room = budget - sum[n - m];
        if (most > room) most = room;
        if (most > b->rows) b->rows = most;
        b->sequences = m;
    }
}

static mrc_status mrc__bound_of(mrc_ctx *ctx, const mrc_features *f, mrc_batching batching,
                                size_t size, size_t parts, mrc__bound *b) {
    uint64_t *sum;
    *b = (mrc__bound){ .longest = &f->list[0] };
    for (size_t i = 0; i < f->n; i++) {
        if (f->list[i].length > b->longest->length) b->longest = &f->list[i];
    }
    if (batching == MRC_BATCHING_SEQUENTIAL) {
        mrc__bound_in_order(f, size, b);
        return MRC_OK;
    }
    size_t max_length = (size_t)b->longest->length, budget;
    MRC__TRY(mrc__bound_sums(ctx, f, max_length, &sum));
    if (batching == MRC_BATCHING_TOKEN_BUDGET) {
        if (!mrc__mul(size, parts, &budget) || !mrc__mul(budget, max_length, &budget)) {
            budget = SIZE_MAX;
        }
        mrc__bound_budget(sum, f->n, budget, parts, b);
    } else {                            // any may come together
        b->sequences = size < f->n ? size : f->n;
        b->rows = sum[f->n] - sum[f->n - b->sequences];
    }
    ctx->host.free(ctx->host.user, sum);
    return MRC_OK;
}

// Features with the rows, the number and the longest sequence of the bound, cut from its longest;
// one block, for the caller to free.
static mrc_status mrc__bound_batch(mrc_ctx *ctx, const mrc__bound *b, const mrc_feature ***out) {
    size_t bytes, n = b->sequences;
    *out = NULL;
    if (b->rows > INT32_MAX || !mrc__mul(n, sizeof(mrc_feature) + sizeof **out, &bytes)) {
        return mrc__fail(ctx, MRC_ERR_ARG, "plan: a batch of %zu sequences has %llu rows (expected "
                         "at most %d)", n, (unsigned long long)b->rows, INT32_MAX);
    }
    mrc_feature *list = ctx->host.alloc(ctx->host.user, bytes + 1);
    if (!list) return mrc__fail(ctx, MRC_ERR_MEM, "plan: no host memory for %zu sequences", n);
    const mrc_feature **refs = (const mrc_feature **)(void *)(list + n);
    uint64_t left = b->rows;
    for (size_t i = 0; i < n; i++) {
        int32_t length = b->longest->length;
        // The first is the longest; the others have the rest in equal shares.
        uint64_t share = (left + (n - i) - 1) / (n - i);
        if (i > 0 && share < (uint64_t)length) length = (int32_t)share;
        if ((uint64_t)length > left) length = (int32_t)left;
        list[i] = *b->longest;
        list[i].length = length;
        if (list[i].real_len > length) list[i].real_len = length;
        if (list[i].loss_end > length) list[i].loss_end = length;
        if (list[i].loss_begin > list[i].loss_end) list[i].loss_begin = list[i].loss_end;
        refs[i] = &list[i];
        left -= (uint64_t)length;
    }
    *out = refs;
    return MRC_OK;
}

// One optimizer step on a context of the null backend.
static mrc_status mrc__plan_train(mrc_ctx *ctx, const mrc_train_plan_desc *desc, mrc_model *m,
                                  mrc_train_memory *out) {
    const mrc_feature **refs;
    mrc_optimizer *o;
    mrc__bound b;
    mrc_step_result result;
    out->parameters = mrc_backend_null_counts(ctx->be).live;
    MRC__TRY(mrc__bound_of(ctx, desc->features, desc->batching, desc->micro_batch,
                           desc->accumulation, &b));
    MRC__TRY(mrc_optimizer_new(ctx, &o, m->params, desc->optimizer));
    out->optimizer = mrc_backend_null_counts(ctx->be).live - out->parameters;
    mrc_status s = mrc__bound_batch(ctx, &b, &refs);
    if (s == MRC_OK) {
        mrc_step_desc step = { .features = refs, .n = b.sequences, .forward = desc->forward };
        s = mrc_train_step(ctx, m, o, &step, &result);
        ctx->host.free(ctx->host.user, (void *)(uintptr_t)refs[0]);
    }
    mrc_optimizer_free(o);
    out->rows = (size_t)b.rows;
    out->sequences = b.sequences;
    out->max_length = (size_t)b.longest->length;
    out->flops = mrc_backend_null_counts(ctx->be).flops;
    out->gradients = mrc_ctx_memory(ctx).grads;
    out->step_train = mrc_ctx_memory(ctx).step_extent;
    return s;
}

static mrc_status mrc__plan_ignore(mrc_ctx *ctx, void *user, const mrc_feature *f,
                                   const float *start, const float *end) {
    (void)ctx; (void)user; (void)f; (void)start; (void)end;
    return MRC_OK;
}

static mrc_status mrc__plan_eval(mrc_ctx *ctx, const mrc_train_plan_desc *desc, mrc_model *m,
                                 mrc_train_memory *out) {
    const mrc_feature **refs;
    mrc__bound b;
    MRC__TRY(mrc__bound_of(ctx, desc->eval, MRC_BATCHING_SEQUENTIAL, desc->eval_batch_size, 1, &b));
    MRC__TRY(mrc__bound_batch(ctx, &b, &refs));
    mrc_predict_desc predict = { .dropout = desc->eval_dropout, .fn = mrc__plan_ignore };
    mrc_no_grad(ctx, 1);
    mrc_status s = mrc__predict_batch(ctx, m, &predict, refs, b.sequences, 0);
    ctx->host.free(ctx->host.user, (void *)(uintptr_t)refs[0]);
    out->step_eval = mrc_ctx_memory(ctx).step_extent;
    return s;
}

// Both, each on a context of its own, with one model.
static mrc_status mrc__plan_run(mrc_ctx *ctx, mrc_backend *null, const mrc_train_plan_desc *desc,
                                mrc_train_memory *out) {
    mrc_ctx_desc planner = { .allocator = ctx->host, .backend = null,
                             .step_chunk_bytes = SIZE_MAX / 4 };
    mrc_ctx *one[2] = { NULL, NULL };
    mrc_model *m = NULL;
    mrc_status s = MRC_OK;
    for (int k = 0; k < 2 && s == MRC_OK; k++) {
        s = mrc_ctx_new(&one[k], &planner);
        if (s == MRC_OK && k == 0) s = mrc__model_make(one[0], &m, desc->model, desc->dtype, 0);
        if (s == MRC_OK && k == 0) s = mrc__plan_train(one[0], desc, m, out);
        if (s == MRC_OK && k == 1 && desc->eval && desc->eval->n) {
            s = mrc__plan_eval(one[1], desc, m, out);
        }
        if (s != MRC_OK) {
            mrc__fail(ctx, s, "plan: %s", one[k] ? mrc_ctx_message(one[k]) : "no host memory");
        }
    }
    for (int k = 0; k < 2; k++) mrc_ctx_free(one[k]);
    mrc_model_free(m);
    return s;
}

MRCDEF mrc_status mrc_train_plan(mrc_ctx *ctx, const mrc_train_plan_desc *desc,
                                 mrc_train_memory *out) {
    mrc_backend *null;
    if (!ctx || !desc || !out || !desc->model || !desc->optimizer || !desc->features) {
        return MRC_ERR_ARG;
    }
    *out = (mrc_train_memory){0};
    if (!ctx->be || !desc->features->n || !desc->micro_batch || !desc->accumulation
        || (desc->eval && !desc->eval_batch_size)) {
        return mrc__fail(ctx, MRC_ERR_ARG, "plan: %zu features in %zu micro-batches of %zu, "
                         "evaluation by %zu, %s", desc->features->n, desc->accumulation,
                         desc->micro_batch, desc->eval_batch_size,
                         ctx->be ? ctx->be->name : "no backend");
    }
    mrc_status s = mrc_backend_null_new(&null, ctx->be,
                                        &(mrc_backend_desc){ .allocator = ctx->host });
    if (s != MRC_OK) return mrc__fail(ctx, s, "plan: no host memory");
    s = mrc__plan_run(ctx, null, desc, out);
    mrc_backend_free(null);
    out->step = out->step_train > out->step_eval ? out->step_train : out->step_eval;
    out->total = out->parameters + out->gradients + out->optimizer + out->step;
    return s;
}

//------------------------------------------------------------------------------
// Evaluation
//------------------------------------------------------------------------------
// The windows of the example that is being collected, and the sums so far.
typedef struct mrc__eval {
    const mrc_eval_desc *desc;
    mrc_eval_result     *out;
    mrc_allocator        host;
    mrc_window_logits   *windows;
    size_t               n, capacity;
    mrc_span            *spans;
} mrc__eval;

// -log softmax of one target over the feature's window; *best: the first of its largest rows.
static double mrc__eval_loss(const mrc_feature *f, const float *logits, int32_t target,
                             int32_t *best) {
    double sum = 0;
    *best = f->loss_begin;
    for (int32_t i = f->loss_begin; i < f->loss_end; i++) {
        if (logits[i] > logits[*best]) *best = i;
    }
    for (int32_t i = f->loss_begin; i < f->loss_end; i++) {
        sum += exp((double)logits[i] - (double)logits[*best]);
    }
    return log(sum) + (double)logits[*best] - (double)logits[target];
}

static void mrc__eval_windows_free(mrc__eval *e) {
    for (size_t i = 0; i < e->n; i++) {
        e->host.free(e->host.user, (void *)(uintptr_t)e->windows[i].start);
    }
    e->n = 0;
}

// Decodes the collected example and scores it.
static mrc_status mrc__eval_example(mrc_ctx *ctx, mrc__eval *e) {
    const mrc_eval_desc *desc = e->desc;
    size_t n_spans;
    double exact, f1;
    if (e->n == 0) return MRC_OK;
    const mrc_example *x = mrc_dataset_at(desc->dataset,
                                          (size_t)e->windows[0].feature->example_index);
    if (!x) return mrc__fail(ctx, MRC_ERR_ARG, "evaluate: the features are of another dataset");
    MRC__TRY(mrc_decode(ctx, e->windows, e->n, &desc->decode, e->spans, &n_spans));
    mrc__eval_windows_free(e);
    const mrc_span *best = mrc_decode_answer(&desc->decode, e->spans, n_spans, NULL);
    size_t bytes;
    const char *text = mrc_span_text(best, x, &bytes);
    MRC__TRY(mrc_metric_score(ctx, desc->metric, text, bytes, x->answers, x->n_answers, &exact,
                              &f1));
    e->out->exact_match += exact;
    e->out->f1 += f1;
    return desc->answer ? desc->answer(ctx, desc->user, x, e->spans, n_spans) : MRC_OK;
}

// Keeps a copy of one window's logits until its example is complete.
static mrc_status mrc__eval_keep(mrc_ctx *ctx, mrc__eval *e, const mrc_feature *f,
                                 const float *start, const float *end) {
    size_t n = (size_t)f->length, bytes;
    if (e->n && e->windows[0].feature->example_index != f->example_index) {
        MRC__TRY(mrc__eval_example(ctx, e));
    }
    if (e->n == e->capacity) {
        size_t capacity = e->capacity ? 2 * e->capacity : 16;
        mrc_window_logits *windows = mrc__mul(capacity, sizeof *windows, &bytes)
                                   ? e->host.alloc(e->host.user, bytes) : NULL;
        if (!windows) return mrc__fail(ctx, MRC_ERR_MEM, "evaluate: no host memory");
        if (e->n) memcpy(windows, e->windows, e->n * sizeof *windows);
        if (e->windows) e->host.free(e->host.user, e->windows);
        e->windows = windows;
        e->capacity = capacity;
    }
    float *copy = mrc__mul(2 * n + 1, sizeof *copy, &bytes)
                ? e->host.alloc(e->host.user, bytes) : NULL;
    if (!copy) return mrc__fail(ctx, MRC_ERR_MEM, "evaluate: no host memory");
    memcpy(copy, start, n * sizeof *copy);
    memcpy(copy + n, end, n * sizeof *copy);
    e->windows[e->n++] = (mrc_window_logits){ .feature = f, .start = copy, .end = copy + n };
    return MRC_OK;
}

static mrc_status mrc__eval_feature(mrc_ctx *ctx, void *user, const mrc_feature *f,
                                    const float *start, const float *end) {
    mrc__eval *e = user;
    if (mrc__counts(f, f->start_position) && mrc__counts(f, f->end_position)) {
        int32_t s, t;
        double loss = mrc__eval_loss(f, start, f->start_position, &s);
        loss += mrc__eval_loss(f, end, f->end_position, &t);
        e->out->loss += loss / 2;
        e->out->start_accuracy += s == f->start_position;
        e->out->end_accuracy += t == f->end_position;
        e->out->accuracy += s == f->start_position && t == f->end_position;
        e->out->n_features++;
    }
    return e->desc->dataset ? mrc__eval_keep(ctx, e, f, start, end) : MRC_OK;
}

static mrc_status mrc__eval_progress(void *user, size_t done, size_t total) {
    const mrc_predict_desc *predict = &((mrc__eval *)user)->desc->predict;
    return predict->progress(predict->user, done, total);
}

MRCDEF mrc_status mrc_evaluate(mrc_ctx *ctx, mrc_model *m, const mrc_eval_desc *desc,
                               mrc_eval_result *out) {
    if (!ctx || !m || !desc || !out) return MRC_ERR_ARG;
    *out = (mrc_eval_result){0};
    if (desc->dataset && desc->decode.magic != MRC_DECODE_MAGIC) {
        return mrc__fail(ctx, MRC_ERR_ARG, "evaluate: decode is not from "
                         "mrc_decode_config_default()");
    }
    size_t bytes;
    mrc__eval e = { .desc = desc, .out = out, .host = ctx->host };
    if (desc->dataset) {
        e.spans = mrc__mul(desc->decode.n_best_size + 1, sizeof *e.spans, &bytes)
                ? ctx->host.alloc(ctx->host.user, bytes) : NULL;
        if (!e.spans) return mrc__fail(ctx, MRC_ERR_MEM, "evaluate: no host memory");
    }
    mrc_predict_desc predict = desc->predict;
    predict.fn = mrc__eval_feature;
    predict.user = &e;
    if (predict.progress) predict.progress = mrc__eval_progress;
    mrc_status s = mrc_predict(ctx, m, &predict);
    if (s == MRC_OK && desc->dataset) s = mrc__eval_example(ctx, &e);
    mrc__eval_windows_free(&e);
    if (e.windows) ctx->host.free(ctx->host.user, e.windows);
    if (e.spans) ctx->host.free(ctx->host.user, e.spans);
    double n = out->n_features ? (double)out->n_features : 1;
    out->n_questions = desc->dataset ? mrc_dataset_size(desc->dataset) : 0;
    double questions = out->n_questions ? (double)out->n_questions : 1;
    out->loss /= n;
    out->start_accuracy /= n;
    out->end_accuracy /= n;
    out->accuracy /= n;
    out->exact_match *= 100 / questions;
    out->f1 *= 100 / questions;
    return s;
}
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
static const mrc__uni_range mrc__uni_gpt2[] = {
    {0x9,0xD,2}, {0x20,0x20,2}, {0x30,0x39,8}, {0x41,0x5A,4}, {0x61,0x7A,4}, {0x85,0x85,2},
    {0xA0,0xA0,2}, {0xAA,0xAA,4}, {0xB2,0xB3,8}, {0xB5,0xB5,4}, {0xB9,0xB9,8}, {0xBA,0xBA,4},
    {0xBC,0xBE,8}, {0xC0,0xD6,4}, {0xD8,0xF6,4}, {0xF8,0x2C1,4}, {0x2C6,0x2D1,4}, {0x2E0,0x2E4,4},
    {0x2EC,0x2EC,4}, {0x2EE,0x2EE,4}, {0x370,0x374,4}, {0x376,0x377,4}, {0x37A,0x37D,4},
    {0x37F,0x37F,4}, {0x386,0x386,4}, {0x388,0x38A,4}, {0x38C,0x38C,4}, {0x38E,0x3A1,4},
    {0x3A3,0x3F5,4}, {0x3F7,0x481,4}, {0x48A,0x52F,4}, {0x531,0x556,4}, {0x559,0x559,4},
    {0x560,0x588,4}, {0x5D0,0x5EA,4}, {0x5EF,0x5F2,4}, {0x620,0x64A,4}, {0x660,0x669,8},
    {0x66E,0x66F,4}, {0x671,0x6D3,4}, {0x6D5,0x6D5,4}, {0x6E5,0x6E6,4}, {0x6EE,0x6EF,4},
    {0x6F0,0x6F9,8}, {0x6FA,0x6FC,4}, {0x6FF,0x6FF,4}, {0x710,0x710,4}, {0x712,0x72F,4},
    {0x74D,0x7A5,4}, {0x7B1,0x7B1,4}, {0x7C0,0x7C9,8}, {0x7CA,0x7EA,4}, {0x7F4,0x7F5,4},
    {0x7FA,0x7FA,4}, {0x800,0x815,4}, {0x81A,0x81A,4}, {0x824,0x824,4}, {0x828,0x828,4},
    {0x840,0x858,4}, {0x860,0x86A,4}, {0x870,0x887,4}, {0x889,0x88E,4}, {0x8A0,0x8C9,4},
    {0x904,0x939,4}, {0x93D,0x93D,4}, {0x950,0x950,4}, {0x958,0x961,4}, {0x966,0x96F,8},
    {0x971,0x980,4}, {0x985,0x98C,4}, {0x98F,0x990,4}, {0x993,0x9A8,4}, {0x9AA,0x9B0,4},
    {0x9B2,0x9B2,4}, {0x9B6,0x9B9,4}, {0x9BD,0x9BD,4}, {0x9CE,0x9CE,4}, {0x9DC,0x9DD,4},
    {0x9DF,0x9E1,4}, {0x9E6,0x9EF,8}, {0x9F0,0x9F1,4}, {0x9F4,0x9F9,8}, {0x9FC,0x9FC,4},
    {0xA05,0xA0A,4}, {0xA0F,0xA10,4}, {0xA13,0xA28,4}, {0xA2A,0xA30,4}, {0xA32,0xA33,4},
    {0xA35,0xA36,4}, {0xA38,0xA39,4}, {0xA59,0xA5C,4}, {0xA5E,0xA5E,4}, {0xA66,0xA6F,8},
    {0xA72,0xA74,4}, {0xA85,0xA8D,4}, {0xA8F,0xA91,4}, {0xA93,0xAA8,4}, {0xAAA,0xAB0,4},
    {0xAB2,0xAB3,4}, {0xAB5,0xAB9,4}, {0xABD,0xABD,4}, {0xAD0,0xAD0,4}, {0xAE0,0xAE1,4},
    {0xAE6,0xAEF,8}, {0xAF9,0xAF9,4}, {0xB05,0xB0C,4}, {0xB0F,0xB10,4}, {0xB13,0xB28,4},
    {0xB2A,0xB30,4}, {0xB32,0xB33,4}, {0xB35,0xB39,4}, {0xB3D,0xB3D,4}, {0xB5C,0xB5D,4},
    {0xB5F,0xB61,4}, {0xB66,0xB6F,8}, {0xB71,0xB71,4}, {0xB72,0xB77,8}, {0xB83,0xB83,4},
    {0xB85,0xB8A,4}, {0xB8E,0xB90,4}, {0xB92,0xB95,4}, {0xB99,0xB9A,4}, {0xB9C,0xB9C,4},
    {0xB9E,0xB9F,4}, {0xBA3,0xBA4,4}, {0xBA8,0xBAA,4}, {0xBAE,0xBB9,4}, {0xBD0,0xBD0,4},
    {0xBE6,0xBF2,8}, {0xC05,0xC0C,4}, {0xC0E,0xC10,4}, {0xC12,0xC28,4}, {0xC2A,0xC39,4},
    {0xC3D,0xC3D,4}, {0xC58,0xC5A,4}, {0xC5D,0xC5D,4}, {0xC60,0xC61,4}, {0xC66,0xC6F,8},
    {0xC78,0xC7E,8}, {0xC80,0xC80,4}, {0xC85,0xC8C,4}, {0xC8E,0xC90,4}, {0xC92,0xCA8,4},
    {0xCAA,0xCB3,4}, {0xCB5,0xCB9,4}, {0xCBD,0xCBD,4}, {0xCDD,0xCDE,4}, {0xCE0,0xCE1,4},
    {0xCE6,0xCEF,8}, {0xCF1,0xCF2,4}, {0xD04,0xD0C,4}, {0xD0E,0xD10,4}, {0xD12,0xD3A,4},
    {0xD3D,0xD3D,4}, {0xD4E,0xD4E,4}, {0xD54,0xD56,4}, {0xD58,0xD5E,8}, {0xD5F,0xD61,4},
    {0xD66,0xD78,8}, {0xD7A,0xD7F,4}, {0xD85,0xD96,4}, {0xD9A,0xDB1,4}, {0xDB3,0xDBB,4},
    {0xDBD,0xDBD,4}, {0xDC0,0xDC6,4}, {0xDE6,0xDEF,8}, {0xE01,0xE30,4}, {0xE32,0xE33,4},
    {0xE40,0xE46,4}, {0xE50,0xE59,8}, {0xE81,0xE82,4}, {0xE84,0xE84,4}, {0xE86,0xE8A,4},
    {0xE8C,0xEA3,4}, {0xEA5,0xEA5,4}, {0xEA7,0xEB0,4}, {0xEB2,0xEB3,4}, {0xEBD,0xEBD,4},
    {0xEC0,0xEC4,4}, {0xEC6,0xEC6,4}, {0xED0,0xED9,8}, {0xEDC,0xEDF,4}, {0xF00,0xF00,4},
    {0xF20,0xF33,8}, {0xF40,0xF47,4}, {0xF49,0xF6C,4}, {0xF88,0xF8C,4}, {0x1000,0x102A,4},
    {0x103F,0x103F,4}, {0x1040,0x1049,8}, {0x1050,0x1055,4}, {0x105A,0x105D,4}, {0x1061,0x1061,4},
    {0x1065,0x1066,4}, {0x106E,0x1070,4}, {0x1075,0x1081,4}, {0x108E,0x108E,4}, {0x1090,0x1099,8},
    {0x10A0,0x10C5,4}, {0x10C7,0x10C7,4}, {0x10CD,0x10CD,4}, {0x10D0,0x10FA,4}, {0x10FC,0x1248,4},
    {0x124A,0x124D,4}, {0x1250,0x1256,4}, {0x1258,0x1258,4}, {0x125A,0x125D,4}, {0x1260,0x1288,4},
    {0x128A,0x128D,4}, {0x1290,0x12B0,4}, {0x12B2,0x12B5,4}, {0x12B8,0x12BE,4}, {0x12C0,0x12C0,4},
    {0x12C2,0x12C5,4}, {0x12C8,0x12D6,4}, {0x12D8,0x1310,4}, {0x1312,0x1315,4}, {0x1318,0x135A,4},
    {0x1369,0x137C,8}, {0x1380,0x138F,4}, {0x13A0,0x13F5,4}, {0x13F8,0x13FD,4}, {0x1401,0x166C,4},
    {0x166F,0x167F,4}, {0x1680,0x1680,2}, {0x1681,0x169A,4}, {0x16A0,0x16EA,4}, {0x16EE,0x16F0,8},
    {0x16F1,0x16F8,4}, {0x1700,0x1711,4}, {0x171F,0x1731,4}, {0x1740,0x1751,4}, {0x1760,0x176C,4},
    {0x176E,0x1770,4}, {0x1780,0x17B3,4}, {0x17D7,0x17D7,4}, {0x17DC,0x17DC,4}, {0x17E0,0x17E9,8},
    {0x17F0,0x17F9,8}, {0x1810,0x1819,8}, {0x1820,0x1878,4}, {0x1880,0x1884,4}, {0x1887,0x18A8,4},
    {0x18AA,0x18AA,4}, {0x18B0,0x18F5,4}, {0x1900,0x191E,4}, {0x1946,0x194F,8}, {0x1950,0x196D,4},
    {0x1970,0x1974,4}, {0x1980,0x19AB,4}, {0x19B0,0x19C9,4}, {0x19D0,0x19DA,8}, {0x1A00,0x1A16,4},
    {0x1A20,0x1A54,4}, {0x1A80,0x1A89,8}, {0x1A90,0x1A99,8}, {0x1AA7,0x1AA7,4}, {0x1B05,0x1B33,4},
    {0x1B45,0x1B4C,4}, {0x1B50,0x1B59,8}, {0x1B83,0x1BA0,4}, {0x1BAE,0x1BAF,4}, {0x1BB0,0x1BB9,8},
    {0x1BBA,0x1BE5,4}, {0x1C00,0x1C23,4}, {0x1C40,0x1C49,8}, {0x1C4D,0x1C4F,4}, {0x1C50,0x1C59,8},
    {0x1C5A,0x1C7D,4}, {0x1C80,0x1C8A,4}, {0x1C90,0x1CBA,4}, {0x1CBD,0x1CBF,4}, {0x1CE9,0x1CEC,4},
    {0x1CEE,0x1CF3,4}, {0x1CF5,0x1CF6,4}, {0x1CFA,0x1CFA,4}, {0x1D00,0x1DBF,4}, {0x1E00,0x1F15,4},
    {0x1F18,0x1F1D,4}, {0x1F20,0x1F45,4}, {0x1F48,0x1F4D,4}, {0x1F50,0x1F57,4}, {0x1F59,0x1F59,4},
    {0x1F5B,0x1F5B,4}, {0x1F5D,0x1F5D,4}, {0x1F5F,0x1F7D,4}, {0x1F80,0x1FB4,4}, {0x1FB6,0x1FBC,4},
    {0x1FBE,0x1FBE,4}, {0x1FC2,0x1FC4,4}, {0x1FC6,0x1FCC,4}, {0x1FD0,0x1FD3,4}, {0x1FD6,0x1FDB,4},
    {0x1FE0,0x1FEC,4}, {0x1FF2,0x1FF4,4}, {0x1FF6,0x1FFC,4}, {0x2000,0x200A,2}, {0x2028,0x2029,2},
    {0x202F,0x202F,2}, {0x205F,0x205F,2}, {0x2070,0x2070,8}, {0x2071,0x2071,4}, {0x2074,0x2079,8},
    {0x207F,0x207F,4}, {0x2080,0x2089,8}, {0x2090,0x209C,4}, {0x2102,0x2102,4}, {0x2107,0x2107,4},
    {0x210A,0x2113,4}, {0x2115,0x2115,4}, {0x2119,0x211D,4}, {0x2124,0x2124,4}, {0x2126,0x2126,4},
    {0x2128,0x2128,4}, {0x212A,0x212D,4}, {0x212F,0x2139,4}, {0x213C,0x213F,4}, {0x2145,0x2149,4},
    {0x214E,0x214E,4}, {0x2150,0x2182,8}, {0x2183,0x2184,4}, {0x2185,0x2189,8}, {0x2460,0x249B,8},
    {0x24EA,0x24FF,8}, {0x2776,0x2793,8}, {0x2C00,0x2CE4,4}, {0x2CEB,0x2CEE,4}, {0x2CF2,0x2CF3,4},
    {0x2CFD,0x2CFD,8}, {0x2D00,0x2D25,4}, {0x2D27,0x2D27,4}, {0x2D2D,0x2D2D,4}, {0x2D30,0x2D67,4},
    {0x2D6F,0x2D6F,4}, {0x2D80,0x2D96,4}, {0x2DA0,0x2DA6,4}, {0x2DA8,0x2DAE,4}, {0x2DB0,0x2DB6,4},
    {0x2DB8,0x2DBE,4}, {0x2DC0,0x2DC6,4}, {0x2DC8,0x2DCE,4}, {0x2DD0,0x2DD6,4}, {0x2DD8,0x2DDE,4},
    {0x2E2F,0x2E2F,4}, {0x3000,0x3000,2}, {0x3005,0x3006,4}, {0x3007,0x3007,8}, {0x3021,0x3029,8},
    {0x3031,0x3035,4}, {0x3038,0x303A,8}, {0x303B,0x303C,4}, {0x3041,0x3096,4}, {0x309D,0x309F,4},
    {0x30A1,0x30FA,4}, {0x30FC,0x30FF,4}, {0x3105,0x312F,4}, {0x3131,0x318E,4}, {0x3192,0x3195,8},
    {0x31A0,0x31BF,4}, {0x31F0,0x31FF,4}, {0x3220,0x3229,8}, {0x3248,0x324F,8}, {0x3251,0x325F,8},
    {0x3280,0x3289,8}, {0x32B1,0x32BF,8}, {0x3400,0x4DBF,4}, {0x4E00,0xA48C,4}, {0xA4D0,0xA4FD,4},
    {0xA500,0xA60C,4}, {0xA610,0xA61F,4}, {0xA620,0xA629,8}, {0xA62A,0xA62B,4}, {0xA640,0xA66E,4},
    {0xA67F,0xA69D,4}, {0xA6A0,0xA6E5,4}, {0xA6E6,0xA6EF,8}, {0xA717,0xA71F,4}, {0xA722,0xA788,4},
    {0xA78B,0xA7CD,4}, {0xA7D0,0xA7D1,4}, {0xA7D3,0xA7D3,4}, {0xA7D5,0xA7DC,4}, {0xA7F2,0xA801,4},
    {0xA803,0xA805,4}, {0xA807,0xA80A,4}, {0xA80C,0xA822,4}, {0xA830,0xA835,8}, {0xA840,0xA873,4},
    {0xA882,0xA8B3,4}, {0xA8D0,0xA8D9,8}, {0xA8F2,0xA8F7,4}, {0xA8FB,0xA8FB,4}, {0xA8FD,0xA8FE,4},
    {0xA900,0xA909,8}, {0xA90A,0xA925,4}, {0xA930,0xA946,4}, {0xA960,0xA97C,4}, {0xA984,0xA9B2,4},
    {0xA9CF,0xA9CF,4}, {0xA9D0,0xA9D9,8}, {0xA9E0,0xA9E4,4}, {0xA9E6,0xA9EF,4}, {0xA9F0,0xA9F9,8},
    {0xA9FA,0xA9FE,4}, {0xAA00,0xAA28,4}, {0xAA40,0xAA42,4}, {0xAA44,0xAA4B,4}, {0xAA50,0xAA59,8},
    {0xAA60,0xAA76,4}, {0xAA7A,0xAA7A,4}, {0xAA7E,0xAAAF,4}, {0xAAB1,0xAAB1,4}, {0xAAB5,0xAAB6,4},
    {0xAAB9,0xAABD,4}, {0xAAC0,0xAAC0,4}, {0xAAC2,0xAAC2,4}, {0xAADB,0xAADD,4}, {0xAAE0,0xAAEA,4},
    {0xAAF2,0xAAF4,4}, {0xAB01,0xAB06,4}, {0xAB09,0xAB0E,4}, {0xAB11,0xAB16,4}, {0xAB20,0xAB26,4},
    {0xAB28,0xAB2E,4}, {0xAB30,0xAB5A,4}, {0xAB5C,0xAB69,4}, {0xAB70,0xABE2,4}, {0xABF0,0xABF9,8},
    {0xAC00,0xD7A3,4}, {0xD7B0,0xD7C6,4}, {0xD7CB,0xD7FB,4}, {0xF900,0xFA6D,4}, {0xFA70,0xFAD9,4},
    {0xFB00,0xFB06,4}, {0xFB13,0xFB17,4}, {0xFB1D,0xFB1D,4}, {0xFB1F,0xFB28,4}, {0xFB2A,0xFB36,4},
    {0xFB38,0xFB3C,4}, {0xFB3E,0xFB3E,4}, {0xFB40,0xFB41,4}, {0xFB43,0xFB44,4}, {0xFB46,0xFBB1,4},
    {0xFBD3,0xFD3D,4}, {0xFD50,0xFD8F,4}, {0xFD92,0xFDC7,4}, {0xFDF0,0xFDFB,4}, {0xFE70,0xFE74,4},
    {0xFE76,0xFEFC,4}, {0xFF10,0xFF19,8}, {0xFF21,0xFF3A,4}, {0xFF41,0xFF5A,4}, {0xFF66,0xFFBE,4},
    {0xFFC2,0xFFC7,4}, {0xFFCA,0xFFCF,4}, {0xFFD2,0xFFD7,4}, {0xFFDA,0xFFDC,4},
    {0x10000,0x1000B,4}, {0x1000D,0x10026,4}, {0x10028,0x1003A,4}, {0x1003C,0x1003D,4},
    {0x1003F,0x1004D,4}, {0x10050,0x1005D,4}, {0x10080,0x100FA,4}, {0x10107,0x10133,8},
    {0x10140,0x10178,8}, {0x1018A,0x1018B,8}, {0x10280,0x1029C,4}, {0x102A0,0x102D0,4},
    {0x102E1,0x102FB,8}, {0x10300,0x1031F,4}, {0x10320,0x10323,8}, {0x1032D,0x10340,4},
    {0x10341,0x10341,8}, {0x10342,0x10349,4}, {0x1034A,0x1034A,8}, {0x10350,0x10375,4},
    {0x10380,0x1039D,4}, {0x103A0,0x103C3,4}, {0x103C8,0x103CF,4}, {0x103D1,0x103D5,8},
    {0x10400,0x1049D,4}, {0x104A0,0x104A9,8}, {0x104B0,0x104D3,4}, {0x104D8,0x104FB,4},
    {0x10500,0x10527,4}, {0x10530,0x10563,4}, {0x10570,0x1057A,4}, {0x1057C,0x1058A,4},
    {0x1058C,0x10592,4}, {0x10594,0x10595,4}, {0x10597,0x105A1,4}, {0x105A3,0x105B1,4},
    {0x105B3,0x105B9,4}, {0x105BB,0x105BC,4}, {0x105C0,0x105F3,4}, {0x10600,0x10736,4},
    {0x10740,0x10755,4}, {0x10760,0x10767,4}, {0x10780,0x10785,4}, {0x10787,0x107B0,4},
    {0x107B2,0x107BA,4}, {0x10800,0x10805,4}, {0x10808,0x10808,4}, {0x1080A,0x10835,4},
    {0x10837,0x10838,4}, {0x1083C,0x1083C,4}, {0x1083F,0x10855,4}, {0x10858,0x1085F,8},
    {0x10860,0x10876,4}, {0x10879,0x1087F,8}, {0x10880,0x1089E,4}, {0x108A7,0x108AF,8},
    {0x108E0,0x108F2,4}, {0x108F4,0x108F5,4}, {0x108FB,0x108FF,8}, {0x10900,0x10915,4},
    {0x10916,0x1091B,8}, {0x10920,0x10939,4}, {0x10980,0x109B7,4}, {0x109BC,0x109BD,8},
    {0x109BE,0x109BF,4}, {0x109C0,0x109CF,8}, {0x109D2,0x109FF,8}, {0x10A00,0x10A00,4},
    {0x10A10,0x10A13,4}, {0x10A15,0x10A17,4}, {0x10A19,0x10A35,4}, {0x10A40,0x10A48,8},
    {0x10A60,0x10A7C,4}, {0x10A7D,0x10A7E,8}, {0x10A80,0x10A9C,4}, {0x10A9D,0x10A9F,8},
    {0x10AC0,0x10AC7,4}, {0x10AC9,0x10AE4,4}, {0x10AEB,0x10AEF,8}, {0x10B00,0x10B35,4},
    {0x10B40,0x10B55,4}, {0x10B58,0x10B5F,8}, {0x10B60,0x10B72,4}, {0x10B78,0x10B7F,8},
    {0x10B80,0x10B91,4}, {0x10BA9,0x10BAF,8}, {0x10C00,0x10C48,4}, {0x10C80,0x10CB2,4},
    {0x10CC0,0x10CF2,4}, {0x10CFA,0x10CFF,8}, {0x10D00,0x10D23,4}, {0x10D30,0x10D39,8},
    {0x10D40,0x10D49,8}, {0x10D4A,0x10D65,4}, {0x10D6F,0x10D85,4}, {0x10E60,0x10E7E,8},
    {0x10E80,0x10EA9,4}, {0x10EB0,0x10EB1,4}, {0x10EC2,0x10EC4,4}, {0x10F00,0x10F1C,4},
    {0x10F1D,0x10F26,8}, {0x10F27,0x10F27,4}, {0x10F30,0x10F45,4}, {0x10F51,0x10F54,8},
    {0x10F70,0x10F81,4}, {0x10FB0,0x10FC4,4}, {0x10FC5,0x10FCB,8}, {0x10FE0,0x10FF6,4},
    {0x11003,0x11037,4}, {0x11052,0x1106F,8}, {0x11071,0x11072,4}, {0x11075,0x11075,4},
    {0x11083,0x110AF,4}, {0x110D0,0x110E8,4}, {0x110F0,0x110F9,8}, {0x11103,0x11126,4},
    {0x11136,0x1113F,8}, {0x11144,0x11144,4}, {0x11147,0x11147,4}, {0x11150,0x11172,4},
    {0x11176,0x11176,4}, {0x11183,0x111B2,4}, {0x111C1,0x111C4,4}, {0x111D0,0x111D9,8},
    {0x111DA,0x111DA,4}, {0x111DC,0x111DC,4}, {0x111E1,0x111F4,8}, {0x11200,0x11211,4},
    {0x11213,0x1122B,4}, {0x1123F,0x11240,4}, {0x11280,0x11286,4}, {0x11288,0x11288,4},
    {0x1128A,0x1128D,4}, {0x1128F,0x1129D,4}, {0x1129F,0x112A8,4}, {0x112B0,0x112DE,4},
    {0x112F0,0x112F9,8}, {0x11305,0x1130C,4}, {0x1130F,0x11310,4}, {0x11313,0x11328,4},
    {0x1132A,0x11330,4}, {0x11332,0x11333,4}, {0x11335,0x11339,4}, {0x1133D,0x1133D,4},
    {0x11350,0x11350,4}, {0x1135D,0x11361,4}, {0x11380,0x11389,4}, {0x1138B,0x1138B,4},
    {0x1138E,0x1138E,4}, {0x11390,0x113B5,4}, {0x113B7,0x113B7,4}, {0x113D1,0x113D1,4},
    {0x113D3,0x113D3,4}, {0x11400,0x11434,4}, {0x11447,0x1144A,4}, {0x11450,0x11459,8},
    {0x1145F,0x11461,4}, {0x11480,0x114AF,4}, {0x114C4,0x114C5,4}, {0x114C7,0x114C7,4},
    {0x114D0,0x114D9,8}, {0x11580,0x115AE,4}, {0x115D8,0x115DB,4}, {0x11600,0x1162F,4},
    {0x11644,0x11644,4}, {0x11650,0x11659,8}, {0x11680,0x116AA,4}, {0x116B8,0x116B8,4},
    {0x116C0,0x116C9,8}, {0x116D0,0x116E3,8}, {0x11700,0x1171A,4}, {0x11730,0x1173B,8},
    {0x11740,0x11746,4}, {0x11800,0x1182B,4}, {0x118A0,0x118DF,4}, {0x118E0,0x118F2,8},
    {0x118FF,0x11906,4}, {0x11909,0x11909,4}, {0x1190C,0x11913,4}, {0x11915,0x11916,4},
    {0x11918,0x1192F,4}, {0x1193F,0x1193F,4}, {0x11941,0x11941,4}, {0x11950,0x11959,8},
    {0x119A0,0x119A7,4}, {0x119AA,0x119D0,4}, {0x119E1,0x119E1,4}, {0x119E3,0x119E3,4},
    {0x11A00,0x11A00,4}, {0x11A0B,0x11A32,4}, {0x11A3A,0x11A3A,4}, {0x11A50,0x11A50,4},
    {0x11A5C,0x11A89,4}, {0x11A9D,0x11A9D,4}, {0x11AB0,0x11AF8,4}, {0x11BC0,0x11BE0,4},
    {0x11BF0,0x11BF9,8}, {0x11C00,0x11C08,4}, {0x11C0A,0x11C2E,4}, {0x11C40,0x11C40,4},
    {0x11C50,0x11C6C,8}, {0x11C72,0x11C8F,4}, {0x11D00,0x11D06,4}, {0x11D08,0x11D09,4},
    {0x11D0B,0x11D30,4}, {0x11D46,0x11D46,4}, {0x11D50,0x11D59,8}, {0x11D60,0x11D65,4},
    {0x11D67,0x11D68,4}, {0x11D6A,0x11D89,4}, {0x11D98,0x11D98,4}, {0x11DA0,0x11DA9,8},
    {0x11EE0,0x11EF2,4}, {0x11F02,0x11F02,4}, {0x11F04,0x11F10,4}, {0x11F12,0x11F33,4},
    {0x11F50,0x11F59,8}, {0x11FB0,0x11FB0,4}, {0x11FC0,0x11FD4,8}, {0x12000,0x12399,4},
    {0x12400,0x1246E,8}, {0x12480,0x12543,4}, {0x12F90,0x12FF0,4}, {0x13000,0x1342F,4},
    {0x13441,0x13446,4}, {0x13460,0x143FA,4}, {0x14400,0x14646,4}, {0x16100,0x1611D,4},
    {0x16130,0x16139,8}, {0x16800,0x16A38,4}, {0x16A40,0x16A5E,4}, {0x16A60,0x16A69,8},
    {0x16A70,0x16ABE,4}, {0x16AC0,0x16AC9,8}, {0x16AD0,0x16AED,4}, {0x16B00,0x16B2F,4},
    {0x16B40,0x16B43,4}, {0x16B50,0x16B59,8}, {0x16B5B,0x16B61,8}, {0x16B63,0x16B77,4},
    {0x16B7D,0x16B8F,4}, {0x16D40,0x16D6C,4}, {0x16D70,0x16D79,8}, {0x16E40,0x16E7F,4},
    {0x16E80,0x16E96,8}, {0x16F00,0x16F4A,4}, {0x16F50,0x16F50,4}, {0x16F93,0x16F9F,4},
    {0x16FE0,0x16FE1,4}, {0x16FE3,0x16FE3,4}, {0x17000,0x187F7,4}, {0x18800,0x18CD5,4},
    {0x18CFF,0x18D08,4}, {0x1AFF0,0x1AFF3,4}, {0x1AFF5,0x1AFFB,4}, {0x1AFFD,0x1AFFE,4},
    {0x1B000,0x1B122,4}, {0x1B132,0x1B132,4}, {0x1B150,0x1B152,4}, {0x1B155,0x1B155,4},
    {0x1B164,0x1B167,4}, {0x1B170,0x1B2FB,4}, {0x1BC00,0x1BC6A,4}, {0x1BC70,0x1BC7C,4},
    {0x1BC80,0x1BC88,4}, {0x1BC90,0x1BC99,4}, {0x1CCF0,0x1CCF9,8}, {0x1D2C0,0x1D2D3,8},
    {0x1D2E0,0x1D2F3,8}, {0x1D360,0x1D378,8}, {0x1D400,0x1D454,4}, {0x1D456,0x1D49C,4},
    {0x1D49E,0x1D49F,4}, {0x1D4A2,0x1D4A2,4}, {0x1D4A5,0x1D4A6,4}, {0x1D4A9,0x1D4AC,4},
    {0x1D4AE,0x1D4B9,4}, {0x1D4BB,0x1D4BB,4}, {0x1D4BD,0x1D4C3,4}, {0x1D4C5,0x1D505,4},
    {0x1D507,0x1D50A,4}, {0x1D50D,0x1D514,4}, {0x1D516,0x1D51C,4}, {0x1D51E,0x1D539,4},
    {0x1D53B,0x1D53E,4}, {0x1D540,0x1D544,4}, {0x1D546,0x1D546,4}, {0x1D54A,0x1D550,4},
    {0x1D552,0x1D6A5,4}, {0x1D6A8,0x1D6C0,4}, {0x1D6C2,0x1D6DA,4}, {0x1D6DC,0x1D6FA,4},
    {0x1D6FC,0x1D714,4}, {0x1D716,0x1D734,4}, {0x1D736,0x1D74E,4}, {0x1D750,0x1D76E,4},
    {0x1D770,0x1D788,4}, {0x1D78A,0x1D7A8,4}, {0x1D7AA,0x1D7C2,4}, {0x1D7C4,0x1D7CB,4},
    {0x1D7CE,0x1D7FF,8}, {0x1DF00,0x1DF1E,4}, {0x1DF25,0x1DF2A,4}, {0x1E030,0x1E06D,4},
    {0x1E100,0x1E12C,4}, {0x1E137,0x1E13D,4}, {0x1E140,0x1E149,8}, {0x1E14E,0x1E14E,4},
    {0x1E290,0x1E2AD,4}, {0x1E2C0,0x1E2EB,4}, {0x1E2F0,0x1E2F9,8}, {0x1E4D0,0x1E4EB,4},
    {0x1E4F0,0x1E4F9,8}, {0x1E5D0,0x1E5ED,4}, {0x1E5F0,0x1E5F0,4}, {0x1E5F1,0x1E5FA,8},
    {0x1E7E0,0x1E7E6,4}, {0x1E7E8,0x1E7EB,4}, {0x1E7ED,0x1E7EE,4}, {0x1E7F0,0x1E7FE,4},
    {0x1E800,0x1E8C4,4}, {0x1E8C7,0x1E8CF,8}, {0x1E900,0x1E943,4}, {0x1E94B,0x1E94B,4},
    {0x1E950,0x1E959,8}, {0x1EC71,0x1ECAB,8}, {0x1ECAD,0x1ECAF,8}, {0x1ECB1,0x1ECB4,8},
    {0x1ED01,0x1ED2D,8}, {0x1ED2F,0x1ED3D,8}, {0x1EE00,0x1EE03,4}, {0x1EE05,0x1EE1F,4},
    {0x1EE21,0x1EE22,4}, {0x1EE24,0x1EE24,4}, {0x1EE27,0x1EE27,4}, {0x1EE29,0x1EE32,4},
    {0x1EE34,0x1EE37,4}, {0x1EE39,0x1EE39,4}, {0x1EE3B,0x1EE3B,4}, {0x1EE42,0x1EE42,4},
    {0x1EE47,0x1EE47,4}, {0x1EE49,0x1EE49,4}, {0x1EE4B,0x1EE4B,4}, {0x1EE4D,0x1EE4F,4},
    {0x1EE51,0x1EE52,4}, {0x1EE54,0x1EE54,4}, {0x1EE57,0x1EE57,4}, {0x1EE59,0x1EE59,4},
    {0x1EE5B,0x1EE5B,4}, {0x1EE5D,0x1EE5D,4}, {0x1EE5F,0x1EE5F,4}, {0x1EE61,0x1EE62,4},
    {0x1EE64,0x1EE64,4}, {0x1EE67,0x1EE6A,4}, {0x1EE6C,0x1EE72,4}, {0x1EE74,0x1EE77,4},
    {0x1EE79,0x1EE7C,4}, {0x1EE7E,0x1EE7E,4}, {0x1EE80,0x1EE89,4}, {0x1EE8B,0x1EE9B,4},
    {0x1EEA1,0x1EEA3,4}, {0x1EEA5,0x1EEA9,4}, {0x1EEAB,0x1EEBB,4}, {0x1F100,0x1F10C,8},
    {0x1FBF0,0x1FBF9,8}, {0x20000,0x2A6DF,4}, {0x2A700,0x2B739,4}, {0x2B740,0x2B81D,4},
    {0x2B820,0x2CEA1,4}, {0x2CEB0,0x2EBE0,4}, {0x2EBF0,0x2EE5D,4}, {0x2F800,0x2FA1D,4},
    {0x30000,0x3134A,4}, {0x31350,0x323AF,4},
};
// end of what tests/tables/make_tables.py wrote

static const mrc__unicode mrc__unicode_tables = {
    .classes = mrc__uni_classes, .n_classes = sizeof mrc__uni_classes / sizeof *mrc__uni_classes,
    .combining = mrc__uni_combining,
    .n_combining = sizeof mrc__uni_combining / sizeof *mrc__uni_combining,
    .lowers = mrc__uni_lowers, .n_lowers = sizeof mrc__uni_lowers / sizeof *mrc__uni_lowers,
    .runs = mrc__uni_runs, .n_runs = sizeof mrc__uni_runs / sizeof *mrc__uni_runs,
    .gpt2 = mrc__uni_gpt2, .n_gpt2 = sizeof mrc__uni_gpt2 / sizeof *mrc__uni_gpt2,
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
