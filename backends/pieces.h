// pieces: a vector that is cut into slices, one a rank, travels in pieces: for mpi.h and nccl.h
#ifndef MRC_PIECES_H
#define MRC_PIECES_H
#include <time.h>

static inline double mrc_pieces_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static inline size_t mrc_pieces_bytes(const mrc_comm_slices *b, int rank) {
    return (b->begin[rank + 1] - b->begin[rank]) * mrc_dtype_bytes(b->dtype);
}
static inline size_t mrc_pieces_longest(const mrc_comm_slices *b, int ranks) {
    size_t most = 0;
    for (int r = 0; r < ranks; r++) {
        if (mrc_pieces_bytes(b, r) > most) most = mrc_pieces_bytes(b, r);
    }
    return most;
}
// Of a slice of so many bytes, how many the piece that begins at byte `at` has.
static inline size_t mrc_pieces_part(size_t bytes, size_t at, size_t piece) {
    return at >= bytes ? 0 : bytes - at < piece ? bytes - at : piece;
}
// A rank's slice of data.
static inline char *mrc_pieces_at(const mrc_comm_slices *b, const void *data, int rank) {
    return (char *)(uintptr_t)data + b->begin[rank] * mrc_dtype_bytes(b->dtype);
}
// The place of a rank's piece in one of the buffers, each of which has a piece of every rank.
static inline char *mrc_pieces_staged(char *staging, size_t piece, int ranks, int buffer,
                                      int rank) {
    return staging + ((size_t)buffer * (size_t)ranks + (size_t)rank) * piece;
}

#endif
