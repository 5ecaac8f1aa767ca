// mma_shim.h - the functions of backends/cuda/mma.cuh on the shim, with the lane maps of the PTX
// manual.  An asynchronous copy is made when its group is waited for and not before; until then its
// target is poison, 0xff, so that reading it too early and writing it too soon both show.
#pragma once
#include <vector>

namespace mrc_shim {
inline float half_of(const unsigned *w, int i) {
    return mrc_h2f((uint16_t)(w[i / 2] >> (16 * (i & 1))));
}
inline float bf16_of(const unsigned *w, int i) {
    return __uint_as_float((w[i / 2] >> (16 * (i & 1))) << 16);
}
struct Mma {
    float *d;
    const unsigned *a, *b;
};
// d += A B for the lane's 4 elements of a 16 x 8 product.
template <int K>
inline void mma_16x8(const Mma &m, int lane, const float (&A)[16][K], const float (&B)[K][8]) {
    for (int i = 0; i < 4; i++) {
        int r = lane / 4 + i / 2 * 8, c = lane % 4 * 2 + (i & 1);
        for (int k = 0; k < K; k++) m.d[i] += A[r][k] * B[k][c];
    }
}
template <float (*ELEMENT)(const unsigned *, int)>
inline void mma_16816(float *d, const unsigned *a, const unsigned *b) {
    Mma mine{d, a, b};
    collective(~0u, &mine, [](void **all, uint32_t) {
        float A[16][16], B[16][8];
        for (int l = 0; l < 32; l++) {
            const Mma &m = *(Mma *)all[l];
            int g = l / 4, t = l % 4;
            for (int i = 0; i < 8; i++) {
                A[g + (i / 2 & 1) * 8][t * 2 + (i & 1) + i / 4 * 8] = ELEMENT(m.a, i);
            }
            for (int i = 0; i < 4; i++) B[t * 2 + (i & 1) + i / 2 * 8][g] = ELEMENT(m.b, i);
        }
        for (int l = 0; l < 32; l++) mma_16x8<16>(*(Mma *)all[l], l, A, B);
    });
}

struct Copy {
    void *to;
    const void *from;
    int bytes;
};
using Groups = std::vector<std::vector<Copy>>;      // the last one is still open

// Which thread, counted from 1, has copied a chunk of the block's dynamic shared memory and not
// published it to the asynchronous proxy: see wgmma_shim.h.
inline uint16_t unpublished[232448 / 16];
MRC_PLAIN inline void mark_copied(const void *chunk) {
    const size_t at = (size_t)((const char *)chunk - S.cur->blk->smem) / 16;
    if (at < sizeof unpublished / sizeof *unpublished) {
        unpublished[at] = (uint16_t)(S.cur->lin + 1);
    }
}
MRC_PLAIN inline void publish() {
    for (uint16_t &who : unpublished) who = who == S.cur->lin + 1 ? 0 : who;
}
MRC_PLAIN inline bool is_unpublished(size_t place) { return unpublished[place / 16] != 0; }
inline Groups &my_copies() {
    if (!S.cur->copies) S.cur->copies = std::make_shared<Groups>(1);
    return *(Groups *)S.cur->copies.get();
}
} // namespace mrc_shim

template <bool A_ROWS, bool B_COLUMNS>
static inline void mma_884(float *d, const unsigned *a, const unsigned *b) {
    using namespace mrc_shim;
    Mma mine{d, a, b};
    collective(~0u, &mine, [](void **all, uint32_t) {
        for (int q = 0; q < 4; q++) {
            float A[8][4], B[4][8];
            for (int l = 0; l < 8; l++) {
                const Mma &m = *(Mma *)all[q * 4 + l % 4 + l / 4 * 16];
                int t = l % 4, h = l / 4;
                for (int i = 0; i < 4; i++) {
                    (A_ROWS ? A[t + 4 * h][i] : A[4 * h + i][t]) = half_of(m.a, i);
                    (B_COLUMNS ? B[i][t + 4 * h] : B[t][4 * h + i]) = half_of(m.b, i);
                }
            }
            for (int l = 0; l < 8; l++) {
                const Mma &m = *(Mma *)all[q * 4 + l % 4 + l / 4 * 16];
                for (int i = 0; i < 8; i++) {
                    int r = (l & 1) + (i & 2) + l / 4 * 4, c = (i & 4) + (l & 2) + (i & 1);
                    for (int k = 0; k < 4; k++) m.d[i] += A[r][k] * B[k][c];
                }
            }
        }
    });
}
static inline void mma_16816(__half, float *d, const unsigned *a, const unsigned *b) {
    mrc_shim::mma_16816<mrc_shim::half_of>(d, a, b);
}
static inline void mma_16816(__nv_bfloat16, float *d, const unsigned *a, const unsigned *b) {
    mrc_shim::mma_16816<mrc_shim::bf16_of>(d, a, b);
}
static inline void mma_1688(float *d, const unsigned *a, const unsigned *b) {
    using namespace mrc_shim;
    Mma mine{d, a, b};
    collective(~0u, &mine, [](void **all, uint32_t) {
        float A[16][8], B[8][8];
        for (int l = 0; l < 32; l++) {
            const Mma &m = *(Mma *)all[l];
            int g = l / 4, t = l % 4;
            for (int i = 0; i < 4; i++) {
                if (m.a[i] & 0x1fff || m.b[i & 1] & 0x1fff) die("mma_1688: not a TF32 number");
                A[g + (i & 1) * 8][t + i / 2 * 4] = __uint_as_float(m.a[i]);
                B[t + (i & 1) * 4][g] = __uint_as_float(m.b[i & 1]);
            }
        }
        for (int l = 0; l < 32; l++) mma_16x8<8>(*(Mma *)all[l], l, A, B);
    });
}
static inline unsigned tf32_of(float x) {
    unsigned u = __float_as_uint(x);
    return (u & 0x7fffffff) > 0x7f800000 ? 0x7fffe000 : (u + 0x1000) & ~0x1fffu;
}
// One request of the counting mode, whose place is the caller's.
#ifdef MRC_COUNT
#define MRC_SHIM_REQUEST __attribute__((noinline, no_sanitize_thread)) static
#else
#define MRC_SHIM_REQUEST static inline
#endif
template <bool TRANSPOSED> MRC_SHIM_REQUEST void ldmatrix_x4(unsigned *d, const void *row) {
    using namespace mrc_shim;
    struct Lane {
        unsigned *d;
        const uint16_t *row;
    } mine{d, (const uint16_t *)row};
    if ((uintptr_t)row % 16) die("ldmatrix: a row is not aligned to 16 bytes");
    MRC_COUNTED(mrc_count_access(row, 16, 0, __builtin_return_address(0)));
    collective(~0u, &mine, [](void **all, uint32_t) {
        for (int l = 0; l < 32; l++) {
            for (int i = 0; i < 4; i++) {
                unsigned w = 0;
                for (int e = 0; e < 2; e++) {
                    int pair = l % 4 * 2 + e, g = l / 4;
                    int r = TRANSPOSED ? pair : g, c = TRANSPOSED ? g : pair;
                    w |= (unsigned)((Lane *)all[8 * i + r])->row[c] << (16 * e);
                }
                ((Lane *)all[l])->d[i] = w;
            }
        }
    });
}
MRC_SHIM_REQUEST void cp_async_16(void *shared, const void *global, int bytes) {
    using namespace mrc_shim;
    if (bytes < 0 || bytes > 16) die("cp.async: more than 16 bytes");
    if ((uintptr_t)shared % 16 || (bytes && (uintptr_t)global % 16)) {
        die("cp.async: an address is not aligned to 16 bytes");
    }
    if (bytes) MRC_COUNTED(mrc_count_access(global, 16, 0, __builtin_return_address(0)));
    MRC_COUNTED(mrc_count_access(shared, 16, 1, __builtin_return_address(0)));
    memset(shared, 0xff, 16);
    my_copies().back().push_back({shared, global, bytes});
}
static inline void cp_async_commit() { mrc_shim::my_copies().emplace_back(); }
template <int N> static inline void cp_async_wait() {
    using namespace mrc_shim;
    Groups &g = my_copies();
    while (g.size() > N + 1) {
        for (const Copy &c : g.front()) {
            memset(c.to, 0, 16);
            memcpy(c.to, c.from, (size_t)c.bytes);
            mark_copied(c.to);
        }
        g.erase(g.begin());
    }
    if (g.size() == 1 && g[0].empty()) S.cur->copies.reset();
}
