// What stands in for ThreadSanitizer's run time in the counting mode: see count.h.
#include "cuda_shim.h"
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

namespace {
struct Access {
    uintptr_t place, at;                // place: of the code
    size_t bytes;
    bool write;
};
typedef std::array<std::vector<Access>, 32> Lanes;
typedef std::vector<std::pair<int, uintptr_t>> Request;         // lane, address

std::map<std::string, mrc_counts> kernels;
mrc_counts *now;                        // of the kernel that runs
mrc_host_counts host;
std::map<uintptr_t, size_t> memory;     // device allocations: address, bytes
std::map<void *, std::vector<Lanes>> logs;              // of a block, by warp
bool quiet, accesses = true;

bool is_shared(const mrc_shim::Block &b, uintptr_t at) {
    return b.smem && at - (uintptr_t)b.smem < mrc_shim::S.smem;
}
bool is_global(uintptr_t at) {
    auto next = memory.upper_bound(at);
    if (next == memory.begin()) return false;
    --next;
    return at - next->first < next->second;
}

void count_global(mrc_count_global &c, const Request &lanes, size_t bytes) {
    std::set<uintptr_t> sectors, asked;
    for (auto &lane : lanes) {
        for (size_t i = 0; i < bytes; i++) {
            sectors.insert((lane.second + i) / 32);
            asked.insert(lane.second + i);
        }
    }
    c.requests++;
    c.sectors += sectors.size();
    c.ideal += (asked.size() + 31) / 32;
}

void count_shared(mrc_count_shared &c, const Request &lanes, size_t bytes) {
    const int width = bytes <= 4 ? 32 : bytes <= 8 ? 16 : 8;
    c.requests++;
    for (int first = 0; first < 32; first += width) {
        std::set<uintptr_t> words;
        int banks[32] = {}, most = 0;
        for (auto &lane : lanes) {
            if (lane.first < first || lane.first >= first + width) continue;
            for (size_t i = 0; i < bytes; i++) words.insert((lane.second + i) / 4);
        }
        for (uintptr_t word : words) most = std::max(most, ++banks[word % 32]);
        c.phases += most > 0;
        c.wavefronts += (uint64_t)most;
    }
}

// The logs of a warp's lanes as requests.
void converge(mrc_shim::Block &b, unsigned warp) {
    auto log = logs.find(&b);
    if (log == logs.end() || log->second.size() <= warp) return;
    std::map<std::tuple<uintptr_t, bool, size_t, int>, Request> requests;
    for (int lane = 0; lane < 32; lane++) {
        std::map<std::tuple<uintptr_t, bool, size_t>, int> times;
        for (const Access &a : log->second[warp][lane]) {
            const int k = times[{a.place, a.write, a.bytes}]++;
            requests[{a.place, a.write, a.bytes, k}].push_back({lane, a.at});
        }
        log->second[warp][lane].clear();
    }
    for (auto &r : requests) {
        const bool write = std::get<1>(r.first);
        const size_t bytes = std::get<2>(r.first);
        if (is_shared(b, r.second[0].second)) {
            count_shared(write ? now->shared_store : now->shared_load, r.second, bytes);
        } else {
            count_global(write ? now->store : now->load, r.second, bytes);
        }
    }
}
} // namespace

extern "C" {
mrc_counts mrc_counts_of(const char *kernel) {
    mrc_counts sum = {};
    uint64_t *to = (uint64_t *)&sum;
    for (auto &k : kernels) {
        if (k.first.find(kernel) == std::string::npos) continue;
        const uint64_t *from = (const uint64_t *)&k.second;
        for (size_t i = 0; i < sizeof sum / sizeof *to; i++) to[i] += from[i];
    }
    return sum;
}
const char *mrc_counts_kernel(size_t i) {
    for (auto &k : kernels) {
        if (i-- == 0) return k.first.c_str();
    }
    return nullptr;
}
mrc_host_counts mrc_counts_of_host(void) { return host; }
void mrc_counts_reset(void) {
    kernels.clear();
    host = {};
}
void mrc_counts_accesses(int on) { accesses = on != 0; }

void mrc_count_launch(const char *kernel, unsigned blocks) {
    now = &kernels[kernel];
    now->launches++;
    now->blocks += blocks;
    host.launches++;
}
void mrc_count_barrier(void) {
    mrc_shim::Block &b = *mrc_shim::S.cur->blk;
    now->barriers++;
    for (unsigned w = 0; w < b.nw; w++) converge(b, w);
}
void mrc_count_warp(int all_lanes) {
    if (all_lanes) converge(*mrc_shim::S.cur->blk, mrc_shim::S.cur->warp);
}
void mrc_count_block_end(void *block) {
    mrc_shim::Block &b = *(mrc_shim::Block *)block;
    for (unsigned w = 0; w < b.nw; w++) converge(b, w);
    logs.erase(block);
}
void mrc_count_memory(const void *p, size_t bytes) {
    if (bytes) memory[(uintptr_t)p] = bytes;
    else memory.erase((uintptr_t)p);
}
void mrc_count_upload(void) { host.uploads++; }
void mrc_count_download(void) { host.downloads++; }
void mrc_count_wait(void) { host.waits++; }
void mrc_count_quiet(int on) { quiet = on != 0; }

void mrc_count_access(const void *p, size_t bytes, int write, void *from) {
    const mrc_shim::Thread *t = mrc_shim::S.cur;
    const uintptr_t at = (uintptr_t)p;
    if (!t || quiet || !accesses || (!is_shared(*t->blk, at) && !is_global(at))) return;
    std::vector<Lanes> &log = logs[t->blk];
    if (log.size() < t->blk->nw) log.resize(t->blk->nw);
    log[t->warp][t->lane].push_back({(uintptr_t)from, at, bytes, write != 0});
}
void mrc_count_vector(void *to, const void *from, size_t bytes, void *place) {
    mrc_count_access(from, bytes, 0, place);
    mrc_count_access(to, bytes, 1, place);
    memcpy(to, from, bytes);
}

// What instrumented code calls.
void __tsan_init(void) {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_vptr_update(void **, void *) {}
void __tsan_vptr_read(void **) {}
#define MRC_HERE __builtin_return_address(0)
#define MRC_ACCESS(n)                                                                              \
    void __tsan_read##n(void *p) { mrc_count_access(p, n, 0, MRC_HERE); }                          \
    void __tsan_write##n(void *p) { mrc_count_access(p, n, 1, MRC_HERE); }                         \
    void __tsan_unaligned_read##n(void *p) { mrc_count_access(p, n, 0, MRC_HERE); }                \
    void __tsan_unaligned_write##n(void *p) { mrc_count_access(p, n, 1, MRC_HERE); }
MRC_ACCESS(1)
MRC_ACCESS(2)
MRC_ACCESS(4)
MRC_ACCESS(8)
MRC_ACCESS(16)
void __tsan_read_range(void *p, unsigned long n) { mrc_count_access(p, n, 0, MRC_HERE); }
void __tsan_write_range(void *p, unsigned long n) { mrc_count_access(p, n, 1, MRC_HERE); }
#define MRC_ATOMIC(bits, T)                                                                        \
    T __tsan_atomic##bits##_load(const volatile T *p, int) {                                       \
        return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                               \
    }                                                                                              \
    T __tsan_atomic##bits##_fetch_add(volatile T *p, T v, int) {                                   \
        return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);                                         \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile T *p, T *old, T v, int, int) {      \
        return __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile T *p, T *old, T v, int, int) {        \
        return __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
    }
MRC_ATOMIC(16, unsigned short)
MRC_ATOMIC(32, unsigned)
MRC_ATOMIC(64, unsigned long)
}
