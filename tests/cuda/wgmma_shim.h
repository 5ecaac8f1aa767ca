// wgmma_shim.h - the functions of backends/cuda/wgmma.cuh on the shim: a warp makes its 16 rows of
// its warpgroup's 64, from operands that are found by their descriptors alone.
//
// A product is made when its group is waited for and not before.  It reads its operands when it is
// begun and again when it is made: where they are not the same, something was copied there too late
// or too soon, and the sums become NaN.  So they do where a chunk was copied and not published to
// the asynchronous proxy, or where no fence stands before a group.
#pragma once
#include "mma_shim.h"
#include <array>

namespace mrc_shim {
enum { WINDOW = 1024 + 128 };           // where the block's dynamic shared memory begins
struct Wgmma {
    float *d[32];                       // of each lane, 128 sums
    uint64_t a, b;
    bool a_by_k, b_by_k, half, spoilt;
    std::vector<uint16_t> read;         // 16 x 16 of a, then 16 x 256 of b
};
struct Products {                       // of a warp
    std::vector<std::vector<Wgmma>> groups{1};          // the last one is still open
    bool fenced = false;
};
inline Products &my_products() {
    Warp &w = S.cur->blk->w[S.cur->warp];
    if (!w.products) w.products = std::make_shared<Products>();
    return *(Products *)w.products.get();
}
// Byte `at` of an operand behind its descriptor's start, by the swizzle's rule; and whether it can
// be read.
inline uint16_t wg_element(uint64_t descriptor, size_t at, bool *spoilt) {
    const size_t start = (descriptor & 0x3fff) << 4, flat = start + at;
    const size_t place = (flat ^ (flat >> 7 & 7) << 4) - WINDOW;
    if (flat < WINDOW || place + 2 > S.smem) die("wgmma: an operand lies outside shared memory");
    if (is_unpublished(place)) *spoilt = true;
    return *(const uint16_t *)(S.cur->blk->smem + place);
}
// Where element (row, k) of an operand is behind its start.
inline size_t wg_offset(uint64_t descriptor, bool by_k, size_t row, size_t k) {
    const size_t leading = (descriptor >> 16 & 0x3fff) << 4;
    const size_t stride = (descriptor >> 32 & 0x3fff) << 4;
    if (descriptor >> 62 != 1) die("wgmma: a descriptor is not of the 128-byte swizzle");
    if (descriptor >> 49 & 7) die("wgmma: a descriptor's pattern does not begin on 1024 bytes");
    return by_k ? row / 8 * stride + row % 8 * 128 + k * 2
                : row / 64 * leading + row % 64 * 2 + k / 8 * stride + k % 8 * 128;
}
inline void wg_read(const Wgmma &m, unsigned warp, std::vector<uint16_t> &to, bool *spoilt) {
    to.clear();
    for (size_t r = 0; r < 16 + 256; r++) {
        for (size_t k = 0; k < 16; k++) {
            const bool is_a = r < 16;
            const uint64_t descriptor = is_a ? m.a : m.b;
            const size_t row = is_a ? warp % 4 * 16 + r : r - 16;
            to.push_back(wg_element(
                descriptor, wg_offset(descriptor, is_a ? m.a_by_k : m.b_by_k, row, k), spoilt));
        }
    }
}
inline void wg_make(const Wgmma &m, unsigned warp) {
    std::vector<std::array<float, 16>> v(16 + 256);
    std::vector<uint16_t> again;
    bool spoilt = m.spoilt;
    wg_read(m, warp, again, &spoilt);
    spoilt |= again != m.read;
    for (size_t i = 0; i < again.size(); i++) {
        const unsigned bits = m.read[i];
        v[i / 16][i % 16] = m.half ? mrc_h2f((uint16_t)bits) : __uint_as_float(bits << 16);
    }
    for (int l = 0; l < 32; l++) {
        for (int i = 0; i < 128; i++) {
            const int r = l / 4 + (i / 2 & 1) * 8, c = i / 4 * 8 + l % 4 * 2 + (i & 1);
            float sum = m.d[l][i];
            for (int k = 0; k < 16; k++) sum += v[r][k] * v[16 + c][k];
            m.d[l][i] = spoilt ? NAN : sum;
        }
    }
}
// A warp's operation of its whole warpgroup; the lanes' words must be the same.
template <class F> inline void wg_together(Wgmma *mine, F &&f) {
    if (S.cur->blk->nw % 4) die("wgmma: the block is not of whole warpgroups");
    collective(~0u, mine, f);
}
template <bool A_BY_K, bool B_BY_K>
inline void wg_begin(bool half, float *d, uint64_t a, uint64_t b) {
    Wgmma mine{{d}, a, b, A_BY_K, B_BY_K, half, false, {}};
    wg_together(&mine, [](void **all, uint32_t) {
        Products &p = my_products();
        Wgmma m = *(Wgmma *)all[0];
        for (int l = 0; l < 32; l++) {
            const Wgmma &one = *(Wgmma *)all[l];
            if (one.a != m.a || one.b != m.b) die("wgmma: lanes have different descriptors");
            m.d[l] = one.d[0];
        }
        m.spoilt = !p.fenced;
        wg_read(m, S.cur->warp, m.read, &m.spoilt);
        p.groups.back().push_back(m);
    });
}
} // namespace mrc_shim

static inline unsigned wg_address(const void *shared) {
    return (unsigned)((const char *)shared - mrc_shim::S.cur->blk->smem) + mrc_shim::WINDOW;
}
template <bool A_BY_K, bool B_BY_K>
static inline void wgmma(__half, float (&d)[16][8], uint64_t a, uint64_t b) {
    mrc_shim::wg_begin<A_BY_K, B_BY_K>(true, d[0], a, b);
}
template <bool A_BY_K, bool B_BY_K>
static inline void wgmma(__nv_bfloat16, float (&d)[16][8], uint64_t a, uint64_t b) {
    mrc_shim::wg_begin<A_BY_K, B_BY_K>(false, d[0], a, b);
}
static inline void wgmma_fence() {
    mrc_shim::Wgmma none{};
    mrc_shim::wg_together(&none, [](void **, uint32_t) { mrc_shim::my_products().fenced = true; });
}
static inline void wgmma_commit() {
    mrc_shim::Wgmma none{};
    mrc_shim::wg_together(&none, [](void **, uint32_t) {
        mrc_shim::Products &p = mrc_shim::my_products();
        p.groups.emplace_back();
        p.fenced = false;
    });
}
template <int N> static inline void wgmma_wait() {
    mrc_shim::Wgmma none{};
    mrc_shim::wg_together(&none, [](void **, uint32_t) {
        mrc_shim::Products &p = mrc_shim::my_products();
        while (p.groups.size() > N + 1) {
            for (const mrc_shim::Wgmma &m : p.groups.front()) {
                mrc_shim::wg_make(m, mrc_shim::S.cur->warp);
            }
            p.groups.erase(p.groups.begin());
        }
        if (p.groups.size() > 1 || !p.groups[0].empty()) return;
        mrc_shim::S.cur->blk->w[mrc_shim::S.cur->warp].products.reset();
    });
}
static inline void wg_publish() { mrc_shim::publish(); }
