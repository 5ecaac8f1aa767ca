// Bugs that a test plants in the CUDA kernels while it runs: MRC_BUG(name) is true there once the
// test has set mrc_shim_bug to MRC_BUG_name.  What nvcc compiles has none of them.
#ifndef MRC_CUDA_BUGS_H
#define MRC_CUDA_BUGS_H

// Caught by the op table: the name, the op, and what goes wrong.
#define MRC_OP_BUGS(X)                                                                             \
    X(GLU_FWD, GLU, "the gate is read from the other half")                                        \
    X(GLU_BWD, GLU, "the activation has no slope")                                                 \
    X(ROPE, ROPE, "backward turns as forward does")                                                \
    X(POOL_FWD, POOL, "the prompt is pooled too")                                                  \
    X(POOL_BWD, POOL, "pads get a gradient")                                                       \
    X(NORMALIZE_FWD, NORMALIZE, "half a warp's sum is taken for a warp's")                         \
    X(NORMALIZE_BWD, NORMALIZE, "the length's gradient is missing")                                \
    X(MAXSIM_ROWS, MAXSIM, "a tile is read before it is whole")                                    \
    X(MAXSIM_KEEP, MAXSIM, "rows that do not count are matched")                                   \
    X(MAXSIM_SUMS, MAXSIM, "a query's last row is left out")                                       \
    X(MAXSIM_DQ, MAXSIM, "dq is of the first query's scores")                                      \
    X(MAXSIM_DD, MAXSIM, "ddocument is of the first query's scores")                               \
    X(SCORE_FWD, SCORE_LOSS, "a column without a target counts")                                   \
    X(SCORE_SUM, SCORE_LOSS, "the last column is left out")                                        \
    X(SCORE_BWD, SCORE_LOSS, "the target's own margin gets no gradient")                           \
    X(SUM_ROWS, LINEAR, "a bias' gradient lacks the first warp's rows")                            \
    X(ACT_SUM, LINEAR, "an activation's slope is in the bias' gradient alone")                     \
    X(EMBEDDING_FEW, EMBEDDING, "a table of few rows lacks what the first warp summed")            \
    X(NORM_FWD, LAYER_NORM, "a norm without statistics takes the mean off")                        \
    X(NORM_BWD, ADD_NORM, "the gradient of statistics that were not taken")                        \
    X(RNN_AHEAD, LSTM, "a slice of W_hh and its vectors come twice")                               \
    X(CHIP_REST, LSTM, "words of W_hh in shared memory are all the first")                         \
    X(CHIP_STAGED, LSTM, "h is multiplied before all of it is staged")                             \
    X(CHIP_AHEAD, LSTM, "z fetched ahead is the last step's")                                      \
    X(CHIP_ROWS, LSTM, "backward's words of W_hh in shared memory are all the first")              \
    X(CHIP_DZ, LSTM, "dz is multiplied before all of it stands")                                   \
    X(DELTA, ATTENTION, "delta is lost")                                                           \
    X(WIDE_DELTA, ATTENTION, "delta is lost where a block has a whole head")                       \
    X(WIDE_REUSE, ATTENTION, "a tile of keys is overwritten while weights are read there")         \
    X(WIDE_EXCHANGE, ATTENTION, "half a tile's scores are read before they stand")                 \
    X(WINDOW, ATTENTION, "the window is wider by one")                                             \
    X(WINDOW_NEAR, ATTENTION, "the window's first tile is left out")                               \
    X(WINDOW_FAR, ATTENTION, "the window's last tile is left out")                                 \
    X(BIAS, ATTENTION, "the bias of the opposite distance")                                        \
    X(BAND_LOAD, ATTENTION, "a band is read before it is whole")                                   \
    X(BAND_REUSE, ATTENTION, "a band is overwritten while it is read")                             \
    X(BAND_DQ, ATTENTION, "dq lacks what the table of keys gives")                                 \
    X(BAND_DKV, ATTENTION, "dk lacks what the table of queries gives")                             \
    X(TABLES, ATTENTION, "gradients of the tables read ds before it is whole")                     \
    X(TABLES_ROW, ATTENTION, "a table's last distance is left out")

// The same in 16 bits: what tensor cores alone do.
#define MRC_HALF_BUGS(X)                                                                           \
    X(ATTENTION_WAIT, ATTENTION, "a tile that is on its way is not waited for")                    \
    X(ATTENTION_BARRIER, ATTENTION, "a tile is overwritten while it is read")                      \
    X(ATTENTION_DELTA, ATTENTION, "delta is lost on tensor cores")                                 \
    X(ATTENTION_KEPT, ATTENTION, "backward's keys draw the mask of other queries")                 \
    X(ATTENTION_TAIL, ATTENTION, "the last tile's missing keys count")                             \
    X(TC_END, LINEAR, "a product's sums are overwritten while they are read")

// Caught by tests/unit/test_kernels.c, test_cuda.c and test_cuda_half.c.
#define MRC_KERNEL_BUGS(X)                                                                         \
    X(STEP_LOSS, "", "the weights move after any loss")                                            \
    X(RNN_EARLY, "", "what a sweep reads ahead of a barrier is the first step's")                  \
    X(DOWNLOAD, "", "a piece of a download is read before it has come")

// Caught by tests/cuda/planted.cu, for which some need a sanitizer.
#define MRC_PLANTED_BUGS(X)                                                                        \
    X(NO_BARRIER, "", "a product's slice is overwritten while it is read")                         \
    X(WHOLE_BARRIER, "", "a whole tile's next slice is read before it stands")                     \
    X(NO_WAIT, "", "an asynchronous copy is not waited for")                                       \
    X(WG_COPIED, "", "path 90 does not wait for its copies")                                       \
    X(WG_PUBLISH, "", "path 90's copies are not published to the tensor cores")                    \
    X(WG_FENCE, "", "path 90 begins products without a fence")                                     \
    X(WG_REUSE, "", "path 90 copies into the stage that products read")                            \
    X(WG_DONE, "", "path 90 reads sums that are not done")                                         \
    X(WG_SWIZZLE, "", "path 90's chunks keep their places")                                        \
    X(TAIL, "address", "a product's last row is written twice too far")                            \
    X(NO_RELEASE, "thread", "a grid barrier that orders nothing")

// Caught by the counting mode, tests/cuda/count_run.c, alone: results stay right.
#define MRC_COUNT_BUGS(X)                                                                          \
    X(NARROW, "add_norm", "rows of a norm are read and written by single elements")                \
    X(TC_SWIZZLE, "linear f16", "chunks of a product's rows of k keep their places")               \
    X(WIDE_PLACES, "attention", "chunks of attention's rows keep their places")                    \
    X(BAND_ORDER, "disentangled", "rows of a band stand in order: threads meet in banks")

enum {
    MRC_BUG_NONE,
#define MRC_X(name, op, what) MRC_BUG_##name,
    MRC_OP_BUGS(MRC_X) MRC_HALF_BUGS(MRC_X) MRC_KERNEL_BUGS(MRC_X) MRC_PLANTED_BUGS(MRC_X)
    MRC_COUNT_BUGS(MRC_X)
#undef MRC_X
    MRC_BUG_COUNT
};

#ifdef __cplusplus
extern "C" {
inline int mrc_shim_bug = MRC_BUG_NONE;
}
#define MRC_BUG(name) (mrc_shim_bug == MRC_BUG_##name)
#else
extern int mrc_shim_bug;
#endif

#endif
