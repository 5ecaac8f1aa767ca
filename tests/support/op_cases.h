// What the ops are tested on: a table of shapes, and how a row of it becomes an op's arguments.
#ifndef OP_CASES_H
#define OP_CASES_H
#include "backends.h"

enum { MAX_IN = 9, MAX_NUMEL = 18000, MAX_SEQUENCES = 6 };

// A case: input shapes, scalars, and why it exists.
typedef struct op_case {
    mrc__op     op;
    int         n_in, ndim[MAX_IN];
    size_t      shape[MAX_IN][MRC_MAX_DIMS];
    int         same[MAX_IN];       // k: this input is the tensor of input k - 1
    double      eps, p;
    mrc_act     act;
    size_t      heads;
    int32_t     padding[2];         // embedding: rows of word and position without a gradient
    int32_t     first_position;     // 0: position ids are left to count from 0
    size_t      n_sequences;
    int32_t     lengths[MAX_SEQUENCES];
    int32_t     pads[MAX_SEQUENCES];                    // rows past real_len
    int32_t     targets[2 * MAX_SEQUENCES];
    int32_t     begin[MAX_SEQUENCES], end[MAX_SEQUENCES];   // loss windows; all 0: all rows
    double      denominator[2];
    mrc_loss    loss;
    int         weighted;           // loss: alpha is given
    mrc_pooling pooling;
    size_t      n_queries;          // maxsim: sequences of q, the first of `lengths`
    mrc_score_loss_kind score_loss;
    size_t      size;               // unfold; rope: heads that are rotated; pool: rows of a prompt
    double      scale;              // attention: 0: 1 / sqrt(d)
    size_t      window;
    mrc_attention_kind relative;    // its tables are inputs 3 and 4
    int         no_pos_key;         // input 3 is the table of queries
    const char *why;
} op_case;

#define LINEAR_CASE(n, i, o) .op = MRC__OP_LINEAR, .n_in = 3, .ndim = { 2, 2, 1 },             \
    .shape = { { n, i }, { o, i }, { o } }
// Three maps of one input, as query, key and value are.
#define MAPS_CASE(n, i, o1, o2, o3) .op = MRC__OP_LINEAR, .n_in = 7,                           \
    .ndim = { 2, 2, 1, 2, 1, 2, 1 },                                                           \
    .shape = { { n, i }, { o1, i }, { o1 }, { o2, i }, { o2 }, { o3, i }, { o3 } }
// Queries, keys and values side by side in one tensor; in three.
#define ATTENTION_CASE(n, a, d) .op = MRC__OP_ATTENTION, .n_in = 3, .ndim = { 2, 2, 2 },       \
    .same = { [1] = 1, [2] = 1 },                                                              \
    .shape = { { n, 3 * (a) * (d) }, { n, 3 * (a) * (d) }, { n, 3 * (a) * (d) } }, .heads = a
#define QKV_ATTENTION_CASE(n, a, d) .op = MRC__OP_ATTENTION, .n_in = 3, .ndim = { 2, 2, 2 },   \
    .shape = { { n, (a) * (d) }, { n, (a) * (d) }, { n, (a) * (d) } }, .heads = a
#define ADD_CASE(n, h) .op = MRC__OP_ADD, .n_in = 2, .ndim = { 2, 2 },                         \
    .shape = { { n, h }, { n, h } }
#define ACT_CASE(kind) .op = MRC__OP_ACTIVATION, .n_in = 1, .act = MRC_ACT_##kind, .ndim = { 2 }, \
    .shape = { { 3, 37 } }
#define BIAS_CASE(n, a, d, r) .op = MRC__OP_ATTENTION, .n_in = 4, .ndim = { 2, 2, 2, 2 },         \
    .shape = { { n, (a) * (d) }, { n, (a) * (d) }, { n, (a) * (d) }, { r, a } }, .heads = a,      \
    .relative = MRC_ATTENTION_BIAS
#define RELATIVE_CASE(n, a, d, r) .op = MRC__OP_ATTENTION, .n_in = 5, .ndim = { 2, 2, 2, 2, 2 },  \
    .shape = { { n, (a) * (d) }, { n, (a) * (d) }, { n, (a) * (d) }, { r, (a) * (d) },            \
               { r, (a) * (d) } }, .heads = a, .relative = MRC_ATTENTION_DISENTANGLED
#define RELATIVE_ONE_CASE(n, a, d, r) .op = MRC__OP_ATTENTION, .n_in = 4, .ndim = { 2, 2, 2, 2 }, \
    .shape = { { n, (a) * (d) }, { n, (a) * (d) }, { n, (a) * (d) }, { r, (a) * (d) } },          \
    .heads = a, .relative = MRC_ATTENTION_DISENTANGLED
#define NORM_CASE(n, h) .op = MRC__OP_LAYER_NORM, .n_in = 3, .ndim = { 2, 1, 1 },              \
    .shape = { { n, h }, { h }, { h } }
#define ADD_NORM_CASE(n, h) .op = MRC__OP_ADD_NORM, .n_in = 4, .ndim = { 2, 2, 1, 1 },         \
    .shape = { { n, h }, { n, h }, { h }, { h } }
#define LSTM_CASE(n, i, h) .op = MRC__OP_LSTM, .n_in = 9,                                      \
    .ndim = { 2, 2, 2, 1, 1, 2, 2, 1, 1 },                                                     \
    .shape = { { n, i }, { 4 * (h), i }, { 4 * (h), h }, { 4 * (h) }, { 4 * (h) },             \
               { 4 * (h), i }, { 4 * (h), h }, { 4 * (h) }, { 4 * (h) } }
#define GRU_CASE(n, i, h) .op = MRC__OP_GRU, .n_in = 9, .ndim = { 2, 2, 2, 1, 1, 2, 2, 1, 1 },   \
    .shape = { { n, i }, { 3 * (h), i }, { 3 * (h), h }, { 3 * (h) }, { 3 * (h) },             \
               { 3 * (h), i }, { 3 * (h), h }, { 3 * (h) }, { 3 * (h) } }
#define UNFOLD_CASE(n, i, k) .op = MRC__OP_UNFOLD, .n_in = 1, .ndim = { 2 },                   \
    .shape = { { n, i } }, .size = k
#define KL_CASE(n, c) .op = MRC__OP_SYMMETRIC_KL, .n_in = 2, .ndim = { 2, 2 },                 \
    .shape = { { n, c }, { n, c } }
#define EMBEDDING_CASE(v, p, y, h) .op = MRC__OP_EMBEDDING, .n_in = 3, .ndim = { 2, 2, 2 },    \
    .shape = { { v, h }, { p, h }, { y, h } }
#define LOSS_CASE(n, c) .op = MRC__OP_CROSS_ENTROPY, .n_in = 1, .ndim = { 2 },                 \
    .shape = { { n, c } }

#define POOL_CASE(kind, n, h) .op = MRC__OP_POOL, .n_in = 1, .pooling = MRC_POOLING_##kind,     \
    .ndim = { 2 }, .shape = { { n, h } }
#define NORMALIZE_CASE(n, d) .op = MRC__OP_NORMALIZE, .n_in = 1, .ndim = { 2 },                \
    .shape = { { n, d } }
#define MAXSIM_CASE(nq, nd, d) .op = MRC__OP_MAXSIM, .n_in = 2, .ndim = { 2, 2 },              \
    .shape = { { nq, d }, { nd, d } }
// Targets: of each column; labels are made by the kind, every fifth is no candidate.
#define SCORE_LOSS_CASE(kind, r, c) .op = MRC__OP_SCORE_LOSS, .n_in = 1, .ndim = { 2 },         \
    .score_loss = MRC_SCORE_LOSS_##kind, .shape = { { r, c } }

static const op_case cases[] = {
    { POOL_CASE(CLS, 9, 5), .n_sequences = 3, .lengths = { 4, 0, 5 }, .why = "an empty sequence" },
    { POOL_CASE(CLS, 9, 3), .size = 2, .n_sequences = 2, .lengths = { 4, 5 }, .why = "a prompt" },
    { POOL_CASE(LAST, 9, 5), .n_sequences = 2, .lengths = { 4, 5 }, .pads = { 1, 0 },
      .why = "pads" },
    { POOL_CASE(MAX, 11, 7), .n_sequences = 3, .lengths = { 1, 6, 4 }, .pads = { 0, 2, 4 },
      .why = "pads, one row, a sequence that is pads only" },
    { POOL_CASE(MEAN, 11, 7), .n_sequences = 3, .lengths = { 1, 6, 4 }, .pads = { 0, 2, 0 },
      .why = "pads, one row" },
    { POOL_CASE(MEAN, 11, 7), .size = 2, .n_sequences = 3, .lengths = { 1, 6, 4 },
      .why = "a prompt that is longer than a sequence" },
    { POOL_CASE(MEAN_SQRT, 130, 3), .n_sequences = 2, .lengths = { 126, 4 }, .why = "many rows" },
    { POOL_CASE(WEIGHTED, 9, 33), .size = 1, .n_sequences = 2, .lengths = { 4, 5 },
      .pads = { 0, 2 }, .why = "a prompt, pads" },
    { POOL_CASE(MEAN, 0, 3), .n_sequences = 1, .lengths = { 0 }, .why = "no rows" },
    { NORMALIZE_CASE(5, 7), .why = "odd sizes" },
    { NORMALIZE_CASE(1, 1), .why = "one element: no gradient" },
    { NORMALIZE_CASE(130, 33), .why = "many rows" },
    { NORMALIZE_CASE(0, 4), .why = "no rows" },
    { MAXSIM_CASE(5, 9, 7), .n_queries = 2, .n_sequences = 5, .lengths = { 2, 3, 4, 0, 5 },
      .why = "odd sizes, an empty document" },
    { MAXSIM_CASE(1, 1, 1), .n_queries = 1, .n_sequences = 2, .lengths = { 1, 1 },
      .why = "one element" },
    { MAXSIM_CASE(40, 150, 16), .n_queries = 3, .n_sequences = 6,
      .lengths = { 13, 20, 7, 70, 1, 79 }, .why = "longer than a block" },
    { MAXSIM_CASE(135, 20, 67), .n_queries = 2, .n_sequences = 4, .lengths = { 130, 5, 12, 8 },
      .why = "a query longer than a block, many columns" },
    { SCORE_LOSS_CASE(SOFT, 7, 3), .targets = { 0, 1, -1 }, .denominator = { 3, 2 },
      .why = "soft labels, a column that does not count" },
    { SCORE_LOSS_CASE(SOFT, 1, 1), .targets = { 0 }, .denominator = { 1 }, .why = "one element" },
    { SCORE_LOSS_CASE(BCE, 9, 1), .targets = { 0 }, .denominator = { 8 }, .why = "pairs" },
    { SCORE_LOSS_CASE(MARGIN, 6, 3), .targets = { 0, 1, 3 }, .denominator = { 3, 3 },
      .why = "margins" },
    { SCORE_LOSS_CASE(MSE, 6, 2), .targets = { 0, 1 }, .denominator = { 2, 2 },
      .why = "squares" },
    { EMBEDDING_CASE(11, 9, 2, 5), .padding = { -1, -1 }, .n_sequences = 3, .lengths = { 4, 0, 7 },
      .why = "odd sizes, an empty sequence" },
    { EMBEDDING_CASE(11, 9, 1, 5), .padding = { 3, 1 }, .first_position = 2, .n_sequences = 2,
      .lengths = { 4, 7 }, .pads = { 1, 0 }, .why = "RoBERTa: padding rows, one type" },
    { EMBEDDING_CASE(1, 1, 1, 1), .padding = { -1, -1 }, .n_sequences = 1, .lengths = { 1 },
      .why = "one element" },
    { EMBEDDING_CASE(7, 7, 2, 3), .same = { [1] = 1 }, .padding = { 0, -1 }, .n_sequences = 1,
      .lengths = { 7 }, .why = "word and position are one table" },
    { EMBEDDING_CASE(40, 101, 2, 70), .padding = { 0, -1 }, .n_sequences = 2,
      .lengths = { 101, 30 }, .why = "many rows" },
    { LINEAR_CASE(3, 5, 7), .why = "odd sizes" },
    { LINEAR_CASE(1, 1, 1), .act = MRC_ACT_GELU, .why = "one element" },
    { .op = MRC__OP_LINEAR, .n_in = 3, .ndim = { 3, 2, 1 },
      .shape = { { 2, 3, 6 }, { 5, 6 }, { 5 } }, .act = MRC_ACT_GELU, .why = "three axes" },
    { LINEAR_CASE(5, 5, 5), .same = { [1] = 1 },
      .why = "x is the weight: two gradients, one address" },
    { LINEAR_CASE(7, 300, 19), .why = "k above one slice" },
    { LINEAR_CASE(101, 3, 33), .act = MRC_ACT_GELU, .why = "m above one block" },
    { LINEAR_CASE(101, 70, 17), .act = MRC_ACT_GELU, .why = "m above one block, k and n odd" },
    { LINEAR_CASE(2, 3, 530), .why = "n above one block" },
    { MAPS_CASE(6, 5, 3, 4, 2), .why = "three maps" },
    { MAPS_CASE(33, 40, 32, 32, 32), .act = MRC_ACT_GELU, .why = "three maps, gelu" },
    { MAPS_CASE(4, 5, 3, 3, 3), .same = { [3] = 2 }, .why = "two maps with one weight" },
    { LINEAR_CASE(0, 5, 3), .why = "no rows: the weight's gradient is written all the same" },
    { ATTENTION_CASE(12, 3, 5), .n_sequences = 3, .lengths = { 5, 0, 7 },
      .why = "odd sizes, an empty sequence" },
    { ATTENTION_CASE(1, 1, 1), .n_sequences = 1, .lengths = { 1 }, .why = "one element" },
    { ATTENTION_CASE(14, 2, 4), .n_sequences = 4, .lengths = { 5, 1, 3, 5 },
      .pads = { 2, 0, 3, 4 }, .why = "pads, and a sequence that is masked whole" },
    { ATTENTION_CASE(3, 2, 4), .n_sequences = 1, .lengths = { 3 }, .pads = { 3 },
      .why = "everything is masked" },
    { ATTENTION_CASE(17, 2, 8), .p = 0.4, .n_sequences = 3, .lengths = { 9, 2, 6 },
      .pads = { 0, 1, 2 }, .why = "dropout, pads" },
    { ATTENTION_CASE(20, 2, 32), .n_sequences = 2, .lengths = { 13, 7 }, .why = "heads of 32" },
    { ATTENTION_CASE(19, 2, 33), .p = 0.1, .n_sequences = 2, .lengths = { 2, 17 },
      .pads = { 0, 3 }, .why = "heads of 33" },
    { ATTENTION_CASE(8, 5, 1), .n_sequences = 1, .lengths = { 8 }, .why = "heads of 1" },
    { ATTENTION_CASE(80, 1, 64), .n_sequences = 2, .lengths = { 70, 10 }, .pads = { 5, 0 },
      .why = "T above 64, heads of 64" },
    { ATTENTION_CASE(95, 2, 7), .p = 0.2, .n_sequences = 2, .lengths = { 94, 1 },
      .pads = { 25, 0 }, .why = "T above 64 with dropout and pads" },
    { ATTENTION_CASE(300, 2, 8), .n_sequences = 2, .lengths = { 270, 30 }, .pads = { 3, 0 },
      .why = "T above 256" },
    { ATTENTION_CASE(283, 1, 5), .p = 0.1, .n_sequences = 3, .lengths = { 1, 273, 9 },
      .pads = { 0, 140, 0 }, .why = "T above 256 with dropout, half of it pads" },
    { ATTENTION_CASE(5, 2, 129), .n_sequences = 2, .lengths = { 4, 1 }, .why = "heads of 129" },
    { ATTENTION_CASE(9, 1, 260), .p = 0.2, .n_sequences = 2, .lengths = { 2, 7 },
      .pads = { 0, 2 }, .why = "heads of 260 with dropout and pads" },
    { ATTENTION_CASE(150, 2, 16), .p = 0.2, .n_sequences = 3, .lengths = { 129, 20, 1 },
      .pads = { 7, 20, 0 }, .why = "heads of 16 in many tiles, dropout, pads" },
    { ATTENTION_CASE(70, 1, 48), .p = 0.1, .scale = 0.3, .n_sequences = 1, .lengths = { 70 },
      .why = "heads of 48, dropout, another scale" },
    { QKV_ATTENTION_CASE(150, 2, 40), .p = 0.2, .n_sequences = 3, .lengths = { 129, 20, 1 },
      .pads = { 7, 20, 0 }, .why = "heads of 40 in many tiles, dropout, pads" },
    { ATTENTION_CASE(12, 3, 5), .window = 2, .n_sequences = 3, .lengths = { 5, 0, 7 },
      .pads = { 0, 0, 2 }, .why = "a window, pads" },
    { ATTENTION_CASE(9, 1, 4), .window = 1, .n_sequences = 1, .lengths = { 9 }, .pads = { 6 },
      .why = "a window beyond the last key: rows that see nothing" },
    { ATTENTION_CASE(300, 2, 8), .window = 20, .p = 0.1, .n_sequences = 2, .lengths = { 270, 30 },
      .pads = { 3, 0 }, .why = "a window in many blocks, dropout" },
    { ATTENTION_CASE(131, 1, 16), .window = 64, .scale = 0.3, .n_sequences = 1,
      .lengths = { 131 }, .why = "a window of 64, another scale" },
    { ATTENTION_CASE(131, 1, 16), .window = 500, .n_sequences = 1, .lengths = { 131 },
      .why = "a window wider than the sequence" },
    { BIAS_CASE(12, 3, 5, 4), .n_sequences = 3, .lengths = { 5, 0, 7 }, .pads = { 0, 0, 2 },
      .why = "a bias by distance" },
    { BIAS_CASE(150, 2, 8, 32), .p = 0.2, .n_sequences = 2, .lengths = { 129, 21 },
      .pads = { 5, 0 }, .why = "a bias in many blocks, dropout, pads" },
    { BIAS_CASE(70, 2, 8, 7), .window = 9, .n_sequences = 2, .lengths = { 65, 5 },
      .why = "a bias and a window" },
    { RELATIVE_CASE(12, 3, 5, 6), .n_sequences = 3, .lengths = { 5, 0, 7 }, .pads = { 0, 0, 2 },
      .scale = 0.25, .why = "disentangled, odd sizes, pads" },
    { RELATIVE_CASE(150, 2, 8, 40), .p = 0.2, .n_sequences = 2, .lengths = { 129, 21 },
      .pads = { 5, 0 }, .why = "disentangled in many blocks, dropout, pads" },
    { RELATIVE_CASE(70, 1, 33, 500), .n_sequences = 2, .lengths = { 60, 10 },
      .why = "disentangled, rows out of reach" },
    { RELATIVE_CASE(37, 1, 70, 9), .n_sequences = 2, .lengths = { 33, 4 },
      .why = "disentangled, heads of 70" },
    { BIAS_CASE(37, 2, 70, 5), .window = 7, .p = 0.1, .n_sequences = 2, .lengths = { 33, 4 },
      .pads = { 3, 0 }, .why = "a bias and a window, heads of 70" },
    { RELATIVE_CASE(70, 2, 8, 9), .window = 9, .n_sequences = 2, .lengths = { 65, 5 },
      .why = "disentangled and a window" },
    { RELATIVE_CASE(13, 2, 4, 6), .same = { [4] = 4 }, .n_sequences = 1, .lengths = { 13 },
      .why = "one table for keys and queries: two gradients, one address" },
    { RELATIVE_ONE_CASE(13, 2, 4, 6), .n_sequences = 1, .lengths = { 13 },
      .why = "the table of keys alone" },
    { RELATIVE_ONE_CASE(13, 2, 4, 6), .no_pos_key = 1, .n_sequences = 1, .lengths = { 13 },
      .why = "the table of queries alone" },
    { RELATIVE_CASE(4, 2, 4, 6), .n_sequences = 1, .lengths = { 4 }, .pads = { 4 },
      .why = "disentangled, everything is masked" },
    { .op = MRC__OP_GLU, .n_in = 1, .ndim = { 2 }, .shape = { { 3, 10 } }, .act = MRC_ACT_GELU,
      .why = "odd sizes" },
    { .op = MRC__OP_GLU, .n_in = 1, .ndim = { 2 }, .shape = { { 40, 134 } }, .act = MRC_ACT_SILU,
      .why = "silu, many" },
    { .op = MRC__OP_GLU, .n_in = 1, .ndim = { 2 }, .shape = { { 5, 6 } }, .act = MRC_ACT_RELU,
      .why = "relu" },
    { .op = MRC__OP_GLU, .n_in = 1, .ndim = { 2 }, .shape = { { 0, 6 } }, .act = MRC_ACT_TANH,
      .why = "no rows" },
    { .op = MRC__OP_ROPE, .n_in = 1, .ndim = { 2 }, .shape = { { 12, 18 } }, .heads = 3, .size = 2,
      .n_sequences = 3, .lengths = { 5, 0, 7 }, .why = "an odd half, a head that is not rotated" },
    { .op = MRC__OP_ROPE, .n_in = 1, .ndim = { 2 }, .shape = { { 130, 64 } }, .heads = 2,
      .size = 2, .n_sequences = 2, .lengths = { 101, 29 }, .why = "many rows, heads of 32" },
    { ATTENTION_CASE(0, 2, 3), .n_sequences = 2, .lengths = { 0, 0 }, .why = "no rows" },
    { QKV_ATTENTION_CASE(12, 3, 5), .n_sequences = 3, .lengths = { 5, 0, 7 },
      .pads = { 1, 0, 2 }, .why = "three tensors" },
    { QKV_ATTENTION_CASE(70, 2, 8), .p = 0.2, .n_sequences = 2, .lengths = { 66, 4 },
      .pads = { 3, 0 }, .why = "three tensors, T above 64 with dropout" },
    { QKV_ATTENTION_CASE(6, 1, 4), .same = { [2] = 2 }, .n_sequences = 1, .lengths = { 6 },
      .why = "keys are the values: two gradients, one address" },
    { QKV_ATTENTION_CASE(77, 2, 36), .same = { [1] = 1, [2] = 1 }, .n_sequences = 2,
      .lengths = { 68, 9 }, .pads = { 0, 2 }, .why = "one tensor: three gradients, one address" },
    { ACT_CASE(GELU), .why = "odd sizes" },
    { ACT_CASE(GELU_TANH), .why = "odd sizes" },
    { ACT_CASE(RELU), .why = "odd sizes" },
    { ACT_CASE(TANH), .why = "odd sizes" },
    { ACT_CASE(SILU), .why = "odd sizes" },
    { .op = MRC__OP_ACTIVATION, .act = MRC_ACT_GELU, .n_in = 1, .ndim = { 0 },
      .why = "one element" },
    { .op = MRC__OP_ACTIVATION, .act = MRC_ACT_GELU, .n_in = 1, .ndim = { 3 },
      .shape = { { 7, 11, 13 } }, .why = "many" },
    { LINEAR_CASE(7, 9, 18), .act = MRC_ACT_GELU_TANH, .why = "gelu_tanh" },
    { LINEAR_CASE(7, 9, 18), .act = MRC_ACT_RELU, .why = "relu" },
    { LINEAR_CASE(7, 9, 18), .act = MRC_ACT_TANH, .why = "tanh" },
    { LINEAR_CASE(7, 9, 18), .act = MRC_ACT_SILU, .why = "silu" },
    { ADD_CASE(9, 7), .n_sequences = 3, .lengths = { 4, 0, 5 },
      .why = "odd sizes, an empty sequence" },
    { ADD_CASE(9, 37), .p = 0.3, .n_sequences = 2, .lengths = { 4, 5 }, .why = "dropout" },
    { ADD_CASE(6, 5), .same = { [1] = 1 }, .p = 0.3, .n_sequences = 2, .lengths = { 1, 5 },
      .why = "x is the residual: two gradients, one address" },
    { ADD_CASE(0, 6), .p = 0.1, .n_sequences = 1, .lengths = { 0 }, .why = "no rows" },
    { NORM_CASE(4, 8), .eps = 1e-5, .why = "RoBERTa eps" },
    { .op = MRC__OP_LAYER_NORM, .n_in = 3, .ndim = { 3, 1, 1 },
      .shape = { { 2, 3, 7 }, { 7 }, { 7 } }, .eps = 1e-12, .why = "BERT eps, odd H" },
    { NORM_CASE(3, 1), .eps = 1e-5, .why = "one column: variance 0" },
    { NORM_CASE(5, 300), .eps = 1e-5, .why = "h above 256" },
    { NORM_CASE(130, 9), .eps = 1e-5, .why = "many rows" },
    { NORM_CASE(5, 37), .eps = -1, .why = "without statistics" },
    { ADD_NORM_CASE(9, 21), .eps = -1, .p = 0.3, .n_sequences = 2, .lengths = { 4, 5 },
      .why = "without statistics, dropout" },
    { NORM_CASE(4, 4), .same = { [2] = 2 }, .eps = 1e-5, .why = "weight is the bias" },
    { NORM_CASE(0, 5), .eps = 1e-5, .why = "no rows" },
    { ADD_NORM_CASE(9, 7), .eps = 1e-12, .n_sequences = 3, .lengths = { 4, 0, 5 },
      .why = "odd sizes, an empty sequence" },
    { ADD_NORM_CASE(9, 13), .eps = 1e-5, .p = 0.3, .n_sequences = 2, .lengths = { 4, 5 },
      .why = "dropout" },
    { ADD_NORM_CASE(6, 5), .same = { [1] = 1 }, .eps = 1e-5, .p = 0.3, .n_sequences = 2,
      .lengths = { 1, 5 }, .why = "x is the residual: two gradients, one address" },
    { ADD_NORM_CASE(1, 1), .eps = 1e-5, .n_sequences = 1, .lengths = { 1 },
      .why = "one element: variance 0" },
    { ADD_NORM_CASE(5, 290), .eps = 1e-5, .p = 0.1, .n_sequences = 1, .lengths = { 5 },
      .why = "h above 256" },
    { ADD_NORM_CASE(130, 6), .eps = 1e-5, .p = 0.1, .n_sequences = 2, .lengths = { 127, 3 },
      .why = "many rows" },
    { ADD_NORM_CASE(0, 6), .eps = 1e-5, .p = 0.1, .n_sequences = 1, .lengths = { 0 },
      .why = "no rows" },
    { .op = MRC__OP_DROPOUT, .n_in = 1, .ndim = { 2 }, .shape = { { 7, 9 } }, .p = 0.3,
      .n_sequences = 3, .lengths = { 3, 0, 4 }, .why = "odd H, an empty sequence" },
    { .op = MRC__OP_DROPOUT, .n_in = 1, .ndim = { 2 }, .shape = { { 1, 1 } }, .p = 0.5,
      .n_sequences = 1, .lengths = { 1 }, .why = "one element" },
    { .op = MRC__OP_DROPOUT, .n_in = 1, .ndim = { 2 }, .shape = { { 130, 67 } }, .p = 0.1,
      .n_sequences = 2, .lengths = { 128, 2 }, .why = "many rows" },
    { LSTM_CASE(10, 3, 5), .n_sequences = 4, .lengths = { 6, 0, 1, 3 },
      .why = "odd sizes, an empty sequence, one of one row" },
    { LSTM_CASE(9, 6, 4), .n_sequences = 2, .lengths = { 5, 4 }, .pads = { 2, 0 },
      .why = "pads are rows" },
    { LSTM_CASE(1, 1, 1), .n_sequences = 1, .lengths = { 1 }, .why = "one element" },
    { LSTM_CASE(7, 4, 4), .same = { [5] = 3, [8] = 4 }, .n_sequences = 2, .lengths = { 3, 4 },
      .why = "weight_hh is the reverse weight_ih, a bias is used twice" },
    { LSTM_CASE(6, 3, 2), .same = { [4] = 4, [5] = 2, [6] = 3, [7] = 4, [8] = 4 },
      .n_sequences = 1, .lengths = { 6 }, .why = "one set of weights for both directions" },
    { LSTM_CASE(110, 5, 9), .n_sequences = 2, .lengths = { 70, 40 }, .why = "many rows" },
    { LSTM_CASE(6, 270, 6), .n_sequences = 1, .lengths = { 6 }, .why = "inputs above 256" },
    { LSTM_CASE(5, 7, 66), .n_sequences = 2, .lengths = { 3, 2 }, .why = "4 H above 256" },
    { LSTM_CASE(20, 5, 64), .n_sequences = 3, .lengths = { 12, 1, 7 },
      .why = "4 H in two slices, rows of four" },
    { LSTM_CASE(24, 3, 64), .n_sequences = 6, .lengths = { 3, 8, 1, 4, 6, 2 },
      .why = "hidden size 64, more sequences than are staged at once" },
    { LSTM_CASE(9, 3, 60), .n_sequences = 2, .lengths = { 3, 6 }, .why = "hidden size 60" },
    { LSTM_CASE(0, 3, 2), .n_sequences = 1, .lengths = { 0 }, .why = "no rows" },
    { .op = MRC__OP_CROSS_ENTROPY, .n_in = 1, .ndim = { 1 }, .shape = { { 9 } }, .n_sequences = 4,
      .lengths = { 3, 1, 0, 5 }, .targets = { 2, 0, 0, -1 }, .denominator = { 2 },
      .why = "uncounted, empty, length 1" },
    { LOSS_CASE(6, 1), .n_sequences = 2, .lengths = { 4, 2 }, .targets = { 1, 2 },
      .denominator = { 1 }, .why = "a target past its end" },
    { LOSS_CASE(5, 1), .n_sequences = 2, .lengths = { 2, 3 }, .targets = { -1, -1 },
      .why = "none counted" },
    { LOSS_CASE(1, 1), .n_sequences = 1, .lengths = { 1 }, .denominator = { 1 },
      .why = "one element" },
    { LOSS_CASE(9, 2), .n_sequences = 2, .lengths = { 5, 4 }, .targets = { 2, 0, 4, 3 },
      .begin = { 1, 0 }, .end = { 5, 4 }, .denominator = { 6, 4 },
      .why = "two ends of a span, part of a step" },
    { LOSS_CASE(9, 2), .n_sequences = 2, .lengths = { 5, 4 }, .targets = { 1, 2, 3, 2 },
      .begin = { 2, 2 }, .end = { 4, 2 }, .denominator = { 2, 2 },
      .why = "targets before, at and past the window" },
    { LOSS_CASE(430, 2), .n_sequences = 3, .lengths = { 301, 128, 1 },
      .targets = { 2, 100, 0, 300, 127, 0 }, .denominator = { 3, 3 }, .why = "long sequences" },
    { LOSS_CASE(9, 2), .n_sequences = 3, .lengths = { 5, 3, 1 }, .targets = { 2, 0, 0, 3, -1, 0 },
      .denominator = { 6, 4 }, .loss = { MRC_LOSS_FOCAL, 0, 2, 0 }, .why = "focal" },
    { LOSS_CASE(9, 2), .n_sequences = 2, .lengths = { 5, 4 }, .targets = { 2, 0, 4, 3 },
      .begin = { 1, 0 }, .end = { 5, 3 }, .denominator = { 6, 4 },
      .loss = { MRC_LOSS_FOCAL, 0, 0.5, 0 }, .why = "focal, gamma below 1, windows" },
    { LOSS_CASE(9, 2), .n_sequences = 2, .lengths = { 5, 4 }, .targets = { 2, 0, 4, 3 },
      .begin = { 1, 0 }, .end = { 5, 4 }, .denominator = { 6, 4 },
      .loss = { MRC_LOSS_FOCAL, 1, 1, 0 }, .why = "focal of the reference" },
    { LOSS_CASE(9, 2), .n_sequences = 3, .lengths = { 5, 3, 1 }, .targets = { 2, 0, 0, 3, -1, 0 },
      .denominator = { 6, 4 }, .loss = { MRC_LOSS_LABEL_SMOOTHING, 0, 0, 0.2 },
      .why = "label smoothing, a sequence of one row" },
    { LOSS_CASE(9, 2), .n_sequences = 3, .lengths = { 5, 3, 1 }, .targets = { 2, 0, 0, 3, -1, 0 },
      .begin = { 1, 0, 0 }, .end = { 5, 3, 1 }, .denominator = { 6, 4 },
      .loss = { MRC_LOSS_LABEL_SMOOTHING, 1, 0, 0.2 }, .why = "label smoothing of the reference" },
    { LOSS_CASE(9, 2), .n_sequences = 2, .lengths = { 5, 4 }, .targets = { 2, 0, 4, 3 },
      .denominator = { 6, 4 },
      .loss = { MRC_LOSS_FOCAL, 0, 2, 0 }, .weighted = 1, .why = "focal with alpha" },
    { KL_CASE(9, 2), .n_sequences = 3, .lengths = { 5, 3, 1 }, .targets = { 2, 0, 0, 3, -1, 0 },
      .denominator = { 6, 4 }, .why = "one uncounted, one of one row" },
    { KL_CASE(9, 2), .n_sequences = 2, .lengths = { 5, 4 }, .targets = { 2, 0, 4, 3 },
      .begin = { 1, 0 }, .end = { 5, 3 }, .denominator = { 2, 2 }, .why = "windows" },
    { KL_CASE(6, 1), .same = { [1] = 1 }, .n_sequences = 1, .lengths = { 6 }, .targets = { 1 },
      .denominator = { 1 }, .why = "with itself: 0" },
    { KL_CASE(430, 2), .n_sequences = 3, .lengths = { 301, 128, 1 },
      .targets = { 2, 100, 0, 300, 127, 0 }, .denominator = { 3, 3 }, .why = "long sequences" },
    { GRU_CASE(10, 3, 5), .n_sequences = 4, .lengths = { 6, 0, 1, 3 },
      .why = "odd sizes, an empty sequence, one of one row" },
    { GRU_CASE(1, 1, 1), .n_sequences = 1, .lengths = { 1 }, .why = "one element" },
    { GRU_CASE(7, 4, 4), .same = { [5] = 3, [8] = 4 }, .n_sequences = 2, .lengths = { 3, 4 },
      .why = "weight_hh is the reverse weight_ih, a bias is used twice" },
    { GRU_CASE(6, 3, 2), .same = { [4] = 4, [5] = 2, [6] = 3, [7] = 4, [8] = 4 },
      .n_sequences = 1, .lengths = { 6 }, .why = "one set of weights for both directions" },
    { GRU_CASE(110, 5, 9), .n_sequences = 2, .lengths = { 70, 40 }, .why = "many rows" },
    { GRU_CASE(5, 260, 6), .n_sequences = 2, .lengths = { 3, 2 }, .why = "inputs above 256" },
    { GRU_CASE(5, 7, 70), .n_sequences = 2, .lengths = { 3, 2 }, .why = "3 H above 200" },
    { GRU_CASE(33, 3, 18), .n_sequences = 6, .lengths = { 9, 2, 8, 1, 7, 6 },
      .why = "sequences that end one after the other" },
    { GRU_CASE(20, 5, 64), .n_sequences = 3, .lengths = { 12, 1, 7 },
      .why = "3 H in two slices, rows of four" },
    { GRU_CASE(0, 3, 2), .n_sequences = 1, .lengths = { 0 }, .why = "no rows" },
    { UNFOLD_CASE(9, 5, 3), .n_sequences = 4, .lengths = { 5, 0, 3, 1 }, .why = "odd sizes" },
    { UNFOLD_CASE(6, 2, 5), .n_sequences = 2, .lengths = { 2, 4 }, .why = "wider than a sequence" },
    { UNFOLD_CASE(3, 1, 1), .n_sequences = 1, .lengths = { 3 }, .why = "one row is itself" },
    { UNFOLD_CASE(130, 7, 3), .n_sequences = 2, .lengths = { 127, 3 }, .why = "many rows" },
    { UNFOLD_CASE(0, 4, 3), .n_sequences = 1, .lengths = { 0 }, .why = "no rows" },
    { .op = MRC__OP_LINEAR, .n_in = 3, .ndim = { 2, 3, 1 },
      .shape = { { 4, 6 }, { 5, 2, 3 }, { 5 } }, .act = MRC_ACT_GELU, .why = "Conv1d's weight" },
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

// Ids of a batch: every table's first row, repeats, and both of its ends.
static void case_ids(const op_case *c, size_t n, int32_t ids[3][512], const int32_t *cu) {
    const int32_t v = (int32_t)c->shape[0][0], y = (int32_t)c->shape[2][0];
    size_t s = 0;
    for (size_t r = 0; r < n && r < 512; r++) {
        while (s + 1 < c->n_sequences && (int32_t)r >= cu[s + 1]) s++;
        int32_t at = (int32_t)r - cu[s];
        int pad = at >= cu[s + 1] - cu[s] - c->pads[s];
        ids[0][r] = pad && c->padding[0] >= 0 ? c->padding[0]
                  : r % 3 == 0 ? (v - 1) * (r % 2 == 0) : (int32_t)(r * 5) % v;
        ids[1][r] = (int32_t)r % y;
        ids[2][r] = pad && c->padding[1] >= 0 ? c->padding[1] : c->first_position + at;
    }
}

static mrc_status case_batch(mrc_ctx *ctx, const op_case *c, mrc_batch *batch) {
    static const int32_t index[MAX_SEQUENCES] = { 5, 0, 2, 9, 1, 7 };
    int32_t cu[MAX_SEQUENCES + 1] = {0}, real[MAX_SEQUENCES], ids[3][512];
    int windows = 0, pads = 0;
    for (size_t s = 0; s < c->n_sequences; s++) {
        cu[s + 1] = cu[s] + c->lengths[s];
        real[s] = c->lengths[s] - c->pads[s];
        windows |= c->end[s] != 0;
        pads |= c->pads[s] != 0;
    }
    mrc_batch_desc desc = { .n_sequences = c->n_sequences, .cu_seqlens = cu,
                            .sequence_index = index, .real_len = pads ? real : NULL,
                            .loss_begin = windows ? c->begin : NULL,
                            .loss_end = windows ? c->end : NULL,
                            .start_positions = c->targets,
                            .end_positions = c->targets + c->n_sequences };
    if (c->op == MRC__OP_EMBEDDING) {
        case_ids(c, (size_t)cu[c->n_sequences], ids, cu);
        desc.input_ids = ids[0];
        desc.token_type_ids = c->shape[2][0] > 1 ? ids[1] : NULL;
        desc.position_ids = c->first_position ? ids[2] : NULL;
    }
    return mrc_batch_new(ctx, batch, &desc);
}

// Whether input i is an activation; else it is a parameter.
static int case_activation(const op_case *c, int i) {
    if (c->op == MRC__OP_EMBEDDING) return 0;
    const int two = c->op == MRC__OP_ADD_NORM || c->op == MRC__OP_ADD
                 || c->op == MRC__OP_SYMMETRIC_KL || c->op == MRC__OP_MAXSIM;
    return i == 0 || c->op == MRC__OP_ATTENTION || (two && i == 1);
}

// With 16 bits an activation is no parameter: their gradients have different types.
static int case_mixed(const op_case *c) {
    for (int i = 1; i < c->n_in; i++) {
        if (c->same[i] == 1 && !case_activation(c, i) && case_activation(c, 0)) return 0;
    }
    return 1;
}

// Input i of a case whose activations are of that type.  16 bits: parameters are f32, matrices with
// a working copy, which the upload fills.
static mrc_tensor *case_input(mrc_ctx *ctx, const op_case *c, int i, mrc_dtype dtype,
                              int trainable) {
    const int mixed = mrc__is_half(dtype) && !case_activation(c, i);
    mrc_tensor *t = mrc_tensor_new(ctx, mixed ? MRC_DTYPE_F32 : dtype, c->ndim[i], c->shape[i],
                                   trainable);
    if (!t || !mixed || c->ndim[i] < 2 || c->op == MRC__OP_EMBEDDING) return t;
    mrc_tensor *copy = mrc_tensor_new(ctx, dtype, c->ndim[i], c->shape[i], 0);
    t->copy = copy ? copy->data : NULL;
    t->copy_dtype = dtype;
    return copy ? t : NULL;
}

static mrc_tensor *case_loss(mrc_ctx *ctx, const op_case *c, mrc_tensor **in,
                             const mrc_batch *batch) {
    const size_t columns = c->ndim[0] == 2 ? c->shape[0][1] : 1, n = c->n_sequences;
    mrc_tensor *logits = in[0];
    mrc_tensor *targets = batch->targets;
    mrc_tensor *denominator = test_tensor(
        ctx, mrc_tensor_new(ctx, mrc__stat_dtype(logits->dtype), 1, &columns, 0), c->denominator);
    if (columns == 1) {
        targets = mrc_tensor_new(ctx, MRC_DTYPE_I32, 1, &n, 0);
        if (targets) mrc_tensor_upload(ctx, targets, c->targets);
    }
    if (c->op == MRC__OP_SYMMETRIC_KL) {
        return mrc_symmetric_kl(ctx, logits, in[1], targets, denominator, batch);
    }
    if (c->weighted) {
        static const double weights[] = { 0.25, 2, 0.5, 3, 1.5, 1 };
        const size_t count = 6;
        mrc_tensor *alpha = test_tensor(ctx, mrc_tensor_new(ctx, denominator->dtype, 1, &count, 0),
                                        weights);
        return mrc_weighted_loss(ctx, logits, targets, denominator, alpha, &c->loss, batch);
    }
    if (c->loss.kind == MRC_LOSS_CE) {
        return mrc_cross_entropy(ctx, logits, targets, denominator, batch);
    }
    return mrc_span_loss(ctx, logits, targets, denominator, &c->loss, batch);
}

// Labels of a kind: distributions, probabilities or scores; NaN: no candidate, but for the target.
static mrc_tensor *case_score_loss(mrc_ctx *ctx, const op_case *c, mrc_tensor *z) {
    static double labels[512];
    const size_t rows = c->shape[0][0], columns = c->shape[0][1];
    double counts[8];
    for (size_t i = 0; i < rows * columns; i++) {
        size_t row = i / columns, column = i % columns;
        double x = (double)((i * 7 + 3) % 11) / 11;
        int gold = (int32_t)row == c->targets[column];
        labels[i] = (i % 5 == 4 && !gold) ? NAN : c->score_loss == MRC_SCORE_LOSS_MSE ? 2 * x - 1
                  : c->score_loss == MRC_SCORE_LOSS_MARGIN ? 3 * x : x;
    }
    for (size_t k = 0; k < columns && c->score_loss == MRC_SCORE_LOSS_SOFT; k++) {
        double sum = 0;
        for (size_t r = 0; r < rows; r++) {
            if (!isnan(labels[r * columns + k])) sum += labels[r * columns + k];
        }
        for (size_t r = 0; r < rows; r++) labels[r * columns + k] /= sum;
    }
    for (size_t k = 0; k < columns; k++) counts[k] = c->denominator[k < 2 ? k : 1];
    mrc_tensor *l = test_tensor(ctx, mrc_tensor_new(ctx, z->dtype, 2, c->shape[0], 0), labels);
    mrc_tensor *d = test_tensor(ctx, mrc_tensor_new(ctx, mrc__stat_dtype(z->dtype), 1, &columns,
                                                    0), counts);
    mrc_tensor *t = mrc_tensor_new(ctx, MRC_DTYPE_I32, 1, &columns, 0);
    if (t) mrc_tensor_upload(ctx, t, c->targets);
    return mrc_score_loss(ctx, z, l, t, d, &(mrc_score_loss_desc){ c->score_loss, 1.5, 0.7 });
}

// Every seventh row of the documents does not count.
static mrc_tensor *case_maxsim(mrc_ctx *ctx, const op_case *c, mrc_tensor **in) {
    op_case q = *c, d = *c;
    mrc_batch queries, documents;
    int32_t keep[512];
    const size_t n = c->shape[1][0];
    q.n_sequences = c->n_queries;
    d.n_sequences = c->n_sequences - c->n_queries;
    for (size_t i = 0; i < d.n_sequences; i++) d.lengths[i] = c->lengths[c->n_queries + i];
    for (size_t i = 0; i < n; i++) keep[i] = i % 7 != 6;
    if (case_batch(ctx, &q, &queries) != MRC_OK) return NULL;
    if (case_batch(ctx, &d, &documents) != MRC_OK) return NULL;
    mrc_tensor *k = mrc_tensor_new(ctx, MRC_DTYPE_I32, 1, &n, 0);
    if (!k || mrc_tensor_upload(ctx, k, keep) != MRC_OK) return NULL;
    return mrc_maxsim(ctx, in[0], in[1], k, &queries, &documents);
}

// The table row of a distance r = i - j: falls and rises, and uses every row up to the ends.
static int32_t case_row(const op_case *c, int32_t r) {
    const int32_t rows = (int32_t)c->shape[3][0], half = rows / 2;
    int32_t t = r + half;
    if (c->relative == MRC_ATTENTION_BIAS) t = r > 0 ? r % rows : -(r * 3) % rows;
    return t < 0 ? 0 : t >= rows ? rows - 1 : t;
}

// q, k, v and, where the case has them, the tables: in[3], in[4].
static mrc_tensor *case_attention(mrc_ctx *ctx, const op_case *c, mrc_tensor **in,
                                  const mrc_batch *batch) {
    mrc_attention_desc desc = { .scale = c->scale, .window = c->window, .kind = c->relative };
    const size_t m = batch->max_length + 2, n = 2 * m - 1;      // longer than it has to be
    if (!c->relative && !c->window && c->scale == 0) {
        return mrc_attention(ctx, in[0], in[1], in[2], c->heads, c->p, mrc_site("a"), batch);
    }
    if (c->relative) {
        int32_t *rows = malloc(n * sizeof *rows);
        desc.index = mrc_tensor_new(ctx, MRC_DTYPE_I32, 1, &n, 0);
        for (size_t i = 0; i < n; i++) rows[i] = case_row(c, (int32_t)i - (int32_t)m + 1);
        if (desc.index) mrc_tensor_upload(ctx, desc.index, rows);
        free(rows);
        if (!desc.index) return NULL;
    }
    if (c->relative == MRC_ATTENTION_BIAS) desc.bias = in[3];
    if (c->relative == MRC_ATTENTION_DISENTANGLED) {
        desc.pos_key = c->no_pos_key ? NULL : in[3];
        desc.pos_query = c->n_in > 4 ? in[4] : c->no_pos_key ? in[3] : NULL;
    }
    return mrc_attention_with(ctx, in[0], in[1], in[2], c->heads, c->p, mrc_site("a"), &desc,
                              batch);
}

static mrc_tensor *case_build(mrc_ctx *ctx, const op_case *c, mrc_dtype dtype, mrc_tensor **in) {
    const uint32_t site = mrc_site("a");
    mrc_batch batch = {0};
    if (c->op == MRC__OP_MAXSIM) return case_maxsim(ctx, c, in);
    if (c->n_sequences && case_batch(ctx, c, &batch) != MRC_OK) return NULL;
    switch (c->op) {
    case MRC__OP_EMBEDDING:     return mrc_embedding(ctx, in[0], in[1], in[2], c->padding[0],
                                                     c->padding[1], dtype, &batch);
    case MRC__OP_LINEAR:        return c->n_in == 3
                                     ? mrc_linear(ctx, in[0], in[1], in[2], c->act)
                                     : mrc__linear(ctx, in[0], (mrc__map[3]){
                                           { in[1], in[2] }, { in[3], in[4] },
                                           { in[5], in[6] } }, 3, c->act);
    case MRC__OP_ATTENTION:     return case_attention(ctx, c, in, &batch);
    case MRC__OP_GLU:           return mrc_glu(ctx, in[0], c->act);
    case MRC__OP_ROPE:          return mrc_rope(ctx, in[0], c->heads, c->size, 100, &batch);
    case MRC__OP_ACTIVATION:    return mrc_activation(ctx, in[0], c->act);
    case MRC__OP_ADD:           return mrc_add(ctx, in[0], in[1], c->p, site, &batch);
    case MRC__OP_LAYER_NORM:    return mrc_layer_norm(ctx, in[0], in[1], in[2], c->eps);
    case MRC__OP_ADD_NORM:      return mrc_add_norm(ctx, in[0], in[1], in[2], in[3], c->eps, c->p,
                                                    site, &batch);
    case MRC__OP_DROPOUT:       return mrc_dropout(ctx, in[0], c->p, site, &batch);
    case MRC__OP_LSTM:          return mrc_lstm(ctx, in[0], in + 1, &batch);
    case MRC__OP_GRU:           return mrc_gru(ctx, in[0], in + 1, &batch);
    case MRC__OP_UNFOLD:        return mrc_unfold(ctx, in[0], c->size, &batch);
    case MRC__OP_SYMMETRIC_KL:
    case MRC__OP_CROSS_ENTROPY: return case_loss(ctx, c, in, &batch);
    case MRC__OP_POOL:          return mrc_pool(ctx, in[0], c->pooling, c->size, &batch);
    case MRC__OP_NORMALIZE:     return mrc_normalize(ctx, in[0]);
    case MRC__OP_SCORE_LOSS:    return case_score_loss(ctx, c, in[0]);
    case MRC__OP_MAXSIM:
    case MRC__OP_CUSTOM:        // test_tape.c has these two
    case MRC__OP_CHECKPOINT:
    case MRC__OP_COUNT:         break;
    }
    return NULL;
}

#endif
