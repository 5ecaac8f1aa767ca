// Linear layers in bytes: sums are exact integers, whatever the instruction; how far rounding moves
// a result; rows with nothing, NaN or infinities in them; the same bits for any number of threads.
// tags: threads
#include "../support/test.h"

enum { MAX_X = 1200 * 70, MAX_W = 400 * 5200, MAX_Y = 1200 * 400 };
static float x[MAX_X], w[MAX_W], b[400], y[MAX_Y], first[MAX_Y], z[MAX_Y];

// y = act(x W^T + b) with W packed as i8; n: rows, columns of x, columns of y.
static void linear(mrc_backend *be, const size_t n[3], mrc_act act) {
    mrc_linear_fwd_args a = { .n = n[0], .in = n[1], .out = n[2], .act = act,
                              .x = { MRC_DTYPE_F32, n[1], x }, .bias = { MRC_DTYPE_F32, 0, b },
                              .y = { MRC_DTYPE_F32, n[2], y, 0 } };
    const size_t bytes = be->prepack_bytes(be, MRC_DTYPE_I8, n[2], n[1]);
    char *data = be->alloc(be, bytes + 64);
    if (!CHECK(bytes && data, "%zu bytes", bytes)) exit(1);
    memset(data, 0xff, bytes + 64);
    CHECK(be->prepack(be, data, MRC_DTYPE_I8, n[2], n[1], w) == MRC_OK, "prepack");
    for (size_t i = 0; i < 64; i++) {
        CHECK((signed char)data[bytes + i] == -1, "prepack writes past");
    }
    a.weight = (mrc_in){ MRC_DTYPE_I8, 0, data };
    if (act == MRC_ACT_GELU) a.z = (mrc_out){ MRC_DTYPE_F32, n[2], z, 0 };
    memset(y, 0xff, sizeof y);
    CHECK(be->kernels[MRC_DTYPE_F32].linear_fwd(be, &a) == MRC_OK, "linear_fwd");
    be->free(be, data);
}

// Integers that bytes hold: x from -low to 255 - low, both in each row; w from -127 to 127.
static void fill_integers(const size_t n[3], int extreme) {
    for (size_t r = 0; r < n[0]; r++) {
        const int low = (int)(r * 37 % 256);
        for (size_t k = 0; k < n[1]; k++) {
            const int byte = extreme ? 255 : (int)((test_random() + 1) * 127.99);
            x[r * n[1] + k] = (float)((k == 0 ? 0 : k == 1 ? 255 : byte) - low);
        }
    }
    for (size_t j = 0; j < n[2]; j++) {
        b[j] = 0;
        for (size_t k = 0; k < n[1]; k++) {
            const int v = extreme ? (j % 2 ? 127 : -127) : (int)(test_random() * 127);
            w[j * n[1] + k] = (float)(k == n[1] / 2 ? 127 : v);
        }
    }
}

static size_t wrong_sums(const size_t n[3]) {
    size_t wrong = 0;
    for (size_t r = 0; r < n[0]; r++) {
        for (size_t j = 0; j < n[2]; j++) {
            long long sum = 0;
            for (size_t k = 0; k < n[1]; k++) {
                sum += (long long)x[r * n[1] + k] * (long long)w[j * n[1] + k];
            }
            wrong += y[r * n[2] + j] != (float)sum;
        }
    }
    return wrong;
}

// Every way to multiply that this instance has.  Each makes the bits of the first.
static void test_exact(mrc_backend *be) {
    static const size_t sizes[][3] = { { 1, 2, 1 }, { 3, 5, 33 }, { 13, 7, 31 }, { 12, 64, 32 },
        { 30, 131, 70 }, { 5, 40, 390 }, { 14, 801, 40 }, { 4, 5000, 35 }, { 1150, 9, 5 },
        { 3, 9001, 5 } };                               // several slices of k in any form
    mrc__host_backend *h = be->self;
    const int dot = h->dot_int8;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (int extreme = 0; extreme < 2; extreme++) {
            fill_integers(sizes[s], extreme);
            for (int way = 0; way <= dot; way += dot ? dot : 1) {
                h->dot_int8 = way;
                linear(be, sizes[s], MRC_ACT_NONE);
                size_t wrong = wrong_sums(sizes[s]);
                CHECK(wrong == 0, "%s, way %d: %zu of %zu x %zu x %zu sums are wrong", be->isa,
                      way, wrong, sizes[s][0], sizes[s][1], sizes[s][2]);
            }
            h->dot_int8 = dot;
        }
    }
}

// Random numbers: close to the true product, and equal bits on all instances of an instruction set.
static void test_close(mrc_backend *be, int is_first) {
    const size_t n[3] = { 130, 500, 100 };
    mrc__host_backend *h = be->self;
    const int dot = h->dot_int8;
    test_seed("close");
    for (size_t i = 0; i < n[0] * n[1]; i++) {
        x[i] = (float)test_random() * (float)(1 + i / n[1] % 9);
    }
    for (size_t i = 0; i < n[2] * n[1]; i++) {
        w[i] = (float)test_random() * (float)(1 + i / n[1] % 5);
    }
    for (size_t j = 0; j < n[2]; j++) b[j] = (float)test_random();
    for (int way = 0; way <= dot; way += dot ? dot : 1) {
        double error = 0, size = 0;
        h->dot_int8 = way;
        linear(be, n, MRC_ACT_GELU);
        for (size_t r = 0; r < n[0]; r++) {
            for (size_t j = 0; j < n[2]; j++) {
                double want = b[j];
                for (size_t k = 0; k < n[1]; k++) {
                    want += (double)x[r * n[1] + k] * (double)w[j * n[1] + k];
                }
                const double e = (double)z[r * n[2] + j] - want;
                error += e * e;
                size += want * want;
            }
        }
        CHECK(sqrt(error / size) <= 0.01, "%s: off by %g", be->isa, sqrt(error / size));
        if (is_first && way == 0) memcpy(first, y, sizeof y);
        CHECK(!memcmp(first, y, n[0] * n[2] * sizeof *y), "%s, way %d: other bits", be->isa, way);
    }
    h->dot_int8 = dot;
}

static void test_rows(mrc_backend *be, size_t columns) {
    const size_t n[3] = { 5, columns, 40 };
    for (size_t i = 0; i < n[2] * n[1]; i++) w[i] = (float)test_random();
    for (size_t i = 0; i < n[0] * n[1]; i++) x[i] = (float)test_random();
    for (size_t j = 0; j < n[2]; j++) b[j] = (float)j;
    memset(x, 0, n[1] * sizeof *x);
    x[n[1] + 36] = NAN;             // the 64 elements that some instances pack at once hold it too
    x[2 * n[1] + 5] = HUGE_VALF;
    x[3 * n[1]] = -HUGE_VALF;
    memset(w + 3 * n[1], 0, n[1] * sizeof *w);
    linear(be, n, MRC_ACT_NONE);
    for (size_t j = 0; j < n[2]; j++) {
        CHECK(y[j] == b[j], "%s: a row of zeros gives %g", be->isa, (double)y[j]);
        for (size_t r = 1; r < 4; r++) {
            CHECK(!isfinite(y[r * n[2] + j]), "%s: row %zu is %g", be->isa, r,
                  (double)y[r * n[2] + j]);
        }
        CHECK(isfinite(y[4 * n[2] + j]), "%s: the next row", be->isa);
    }
    CHECK(y[4 * n[2] + 3] == b[3], "%s: a column of zeros", be->isa);
    w[0] = NAN;
    linear(be, n, MRC_ACT_NONE);
    CHECK(isnan(y[4 * n[2]]) && isfinite(y[4 * n[2] + 1]), "%s: NaN in a weight", be->isa);
    CHECK(be->prepack_bytes(be, MRC_DTYPE_I8, 4, 32768) > 0
          && be->prepack_bytes(be, MRC_DTYPE_I8, 4, 32769) == 0, "sums fit 32 bits");
    CHECK(be->prepack_bytes(be, MRC_DTYPE_I8, SIZE_MAX - 3, 4) == 0
          && be->prepack_bytes(be, MRC_DTYPE_I8, SIZE_MAX / 8, 64) == 0, "sizes are checked");
}

int main(void) {
    size_t n = 0;
    for (size_t i = 0; i < TEST_ISAS; i++) {
        for (size_t threads = 1; threads <= 16; threads++) {
            mrc_backend *be;
            const mrc_backend_desc desc = { .isa = test_isas[i].isa, .threads = threads };
            if (mrc_backend_cpu_new(&be, &desc) != MRC_OK) continue;
            n++;
            test_close(be, threads == 1);
            if (threads <= 3) test_exact(be);
            if (threads <= 3) test_rows(be, 37);
            if (threads <= 3) test_rows(be, 165);
            mrc_backend_free(be);
        }
    }
    if (n < 48) printf("SKIP: this machine lacks an instruction set: %zu instances\n", n);
    return test_end();
}
