// cuda_shim.h - CUDA C++ kernels on the CPU, one fiber per CUDA thread.  C++17, g++ or clang++, no
// GPU, no nvcc: what backends/cuda/compat.cuh includes where nvcc does not compile.
//
// One block at a time on one OS thread (cooperative launches: all blocks at once) in an order that
// MRC_SHIM_SCHED=fwd|rev|rand[:seed] chooses, so that a missing barrier changes results.  It works
// under AddressSanitizer (the fibers are announced; memory ends at its exact byte) and under
// ThreadSanitizer (one fiber of its own per CUDA thread, happens-before from barriers only).
// Unwritten device and shared memory is 0xff: a NaN.  What no GPU would do ends the program with a
// line that says where: divergent barriers, lanes missing from a mask.
//
// MRC_SHIM_ARCH=70|75|80|90 is the device that it pretends to be (default 80), MRC_SHIM_DEVICES how
// many there are (default 1), MRC_SHIM_MEMORY the bytes of its memory (default 64 GiB).  With
// MRC_COUNT it counts requests (count.h).  Not covered: speed, registers, streams (everything is
// synchronous), fast-math, the hardware's order of accumulation.
#pragma once
#include "bugs.h"
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sys/mman.h>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#if defined(__F16C__)
#include <immintrin.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#define MRC_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MRC_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define MRC_TSAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__) && !defined(MRC_COUNT)
#define MRC_TSAN 1
#endif
#ifdef MRC_COUNT
#include "count.h"
#define MRC_COUNTED(call) call
#else
#define MRC_COUNTED(call) ((void)0)
#endif
#ifdef MRC_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef MRC_TSAN
extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
}
#endif
#if defined(MRC_SHIM_UCONTEXT) || !(defined(__x86_64__) || defined(__aarch64__))
#define MRC_UCTX 1
#include <ucontext.h>
#endif

// ---------------------------------------------------------------- language
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)
#define __shared__ static // one block at a time: a plain static (ASan gives it redzones)
#define __restrict__ __restrict
#define MRC_PRAGMA_UNROLL
struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
// Vectors.  The counting mode must see that they are read and written whole.
#ifdef MRC_COUNT
#define MRC_VECTOR_COPIES(V)                                                                       \
    V() = default;                                                                                 \
    __attribute__((noinline, no_sanitize_thread)) V(const V &o) {                                  \
        mrc_count_vector(this, &o, sizeof o, __builtin_return_address(0));                         \
    }                                                                                              \
    __attribute__((noinline, no_sanitize_thread)) V &operator=(const V &o) {                       \
        mrc_count_vector(this, &o, sizeof o, __builtin_return_address(0));                         \
        return *this;                                                                              \
    }
#define MRC_VECTOR2(V, T)                                                                          \
    struct alignas(8) V {                                                                          \
        T x, y;                                                                                    \
        MRC_VECTOR_COPIES(V)                                                                       \
        V(T x_, T y_) : x(x_), y(y_) {}                                                            \
    }
#define MRC_VECTOR4(V, T)                                                                          \
    struct alignas(16) V {                                                                         \
        T x, y, z, w;                                                                              \
        MRC_VECTOR_COPIES(V)                                                                       \
        V(T x_, T y_, T z_, T w_) : x(x_), y(y_), z(z_), w(w_) {}                                  \
    }
#else
#define MRC_VECTOR2(V, T) \
    struct alignas(8) V { \
        T x, y;           \
    }
#define MRC_VECTOR4(V, T)  \
    struct alignas(16) V { \
        T x, y, z, w;      \
    }
#endif
MRC_VECTOR2(float2, float);
MRC_VECTOR4(float4, float);
MRC_VECTOR2(int2, int);
MRC_VECTOR4(int4, int);
MRC_VECTOR2(uint2, unsigned);
MRC_VECTOR4(uint4, unsigned);
static inline float2 make_float2(float a, float b) { return {a, b}; }
static inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
static inline uint2 make_uint2(unsigned a, unsigned b) { return {a, b}; }
static inline uint4 make_uint4(unsigned a, unsigned b, unsigned c, unsigned d) {
    return {a, b, c, d};
}

// ---------------------------------------------------------------- fibers
namespace mrc_shim {
enum {
    STACK =
#if defined(MRC_ASAN) || defined(MRC_TSAN)
        256 << 10
#else
        64 << 10
#endif
};
struct Stack {
    Stack *next;
    char *base;
    void *sp;
    void *fake;
#ifdef MRC_UCTX
    ucontext_t uc;
#endif
};
struct Block;
struct Thread {
    uint3 tid, bid;
    unsigned lin, warp, lane;
    Block *blk;
    Stack *st;
    std::shared_ptr<void> copies;       // asynchronous ones under way: mma_shim.h
    void *tsan;
    bool started;
};
struct Warp {
    uint32_t live, ready, waiting;
    uint32_t mask[32];
    void *arg[32];
    unsigned seq;
    char tag[2];
    std::shared_ptr<void> products;     // of a warpgroup, under way: wgmma_shim.h
};
struct Block {
    uint3 bid;
    unsigned n, nw, live, bar, seq;
    char tag[2];
    Thread *th;
    Warp *w;
    char *smem;
};
struct State {
    Thread *cur;
    dim3 grid, block;
    size_t smem;
    const char *name;
    void (*body)(void *);
    void *arg;
    Block *blocks;
    unsigned nb, curb;
    bool coop;
    Stack main;
    void *main_tsan;
    const void *mbot;
    size_t msize;
    Stack *freest, *retired;
    void *fibers[8192];                 // ThreadSanitizer's, that no thread has now
    unsigned n_fibers;
    int order;
    uint64_t rng;
    uint64_t switches, barriers, warpops, threads;
};
inline State S{};
[[noreturn]] inline void die(const char *what) {
    fprintf(stderr, "cuda_shim: %s in kernel %s, block (%u,%u,%u)", what, S.name ? S.name : "?",
            S.cur ? S.cur->bid.x : 0, S.cur ? S.cur->bid.y : 0, S.cur ? S.cur->bid.z : 0);
    if (S.cur) fprintf(stderr, " thread (%u,%u,%u)", S.cur->tid.x, S.cur->tid.y, S.cur->tid.z);
    fprintf(stderr, "\n");
    for (unsigned b = 0; b < S.nb; b++)
        for (unsigned w = 0; w < S.blocks[b].nw; w++) {
            Warp &W = S.blocks[b].w[w];
            if (W.live)
                fprintf(stderr,
                        "  block %u warp %u: live %08x ready %08x at-warp-op %08x at-__syncthreads "
                        "%08x\n",
                        b, w, W.live, W.ready, W.waiting, W.live & ~W.ready & ~W.waiting);
        }
    abort();
}
#ifndef MRC_UCTX
extern "C" void mrc_shim_switch(void **save, void *to);
#if defined(__x86_64__)
asm(".text\n.weak mrc_shim_switch\n.type mrc_shim_switch,@function\nmrc_shim_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
#else
asm(".text\n.weak mrc_shim_switch\n.type mrc_shim_switch,%function\nmrc_shim_switch:\n"
    "sub sp,sp,#160\nstp x19,x20,[sp]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp "
    "x25,x26,[sp,#48]\nstp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\n"
    "stp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\n"
    "mov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
    "ldp x19,x20,[sp]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\nldp "
    "x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\n"
    "ldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\nadd "
    "sp,sp,#160\nret\n");
#endif
#endif
#if defined(__GNUC__) && !defined(__clang__)
#define MRC_NOSAN __attribute__((no_sanitize_address, no_sanitize_thread, noinline))
#else
#define MRC_NOSAN __attribute__((no_sanitize("address", "thread"), noinline))
#endif
#if defined(MRC_ASAN) || defined(MRC_TSAN) || defined(MRC_COUNT)
#define MRC_PLAIN MRC_NOSAN
#else
#undef MRC_NOSAN
#define MRC_NOSAN
#define MRC_PLAIN
#endif
void fiber_main();
MRC_NOSAN inline Stack *new_stack() {
    if (S.freest) {
        Stack *s = S.freest;
        S.freest = s->next;
        return s;
    }
    Stack *s = new Stack();
    char *p = (char *)mmap(nullptr, STACK + 4096, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        abort();
    }
    mprotect(p, 4096, PROT_NONE); // guard page: a kernel's stack overflow faults
    s->base = p + 4096;
    return s;
}
MRC_NOSAN inline void arm_stack(Stack *s) {
#ifdef MRC_UCTX
    getcontext(&s->uc);
    s->uc.uc_stack.ss_sp = s->base;
    s->uc.uc_stack.ss_size = STACK;
    s->uc.uc_link = nullptr;
    makecontext(&s->uc, fiber_main, 0);
#elif defined(__x86_64__)
    void **p = (void **)(s->base + STACK);
    *--p = nullptr;
    *--p = (void *)fiber_main;
    for (int i = 0; i < 6; i++) *--p = nullptr;
    s->sp = p;
#else
    char *p = s->base + STACK - 160;
    memset(p, 0, 160);
    *(void **)(p + 88) = (void *)fiber_main;
    s->sp = p;
#endif
    s->fake = nullptr;
}
// switch real stacks; from==nullptr: the current fiber is finished and its stack is free for reuse
MRC_NOSAN inline void jump(Stack *from, Stack *to, bool dying, void *tsan_to) {
    S.switches++;
#ifdef MRC_ASAN
    const void *b = to == &S.main ? S.mbot : to->base;
    size_t z = to == &S.main ? S.msize : (size_t)STACK;
    __sanitizer_start_switch_fiber(dying ? nullptr : &from->fake, b, z);
#endif
#ifdef MRC_TSAN
    __tsan_switch_to_fiber(tsan_to, 1 /* no sync: no happens-before from switching */);
#endif
    (void)tsan_to;
    (void)dying;
#ifdef MRC_UCTX
    swapcontext(&from->uc, &to->uc);
#else
    mrc_shim_switch(&from->sp, to->sp);
#endif
#ifdef MRC_ASAN
    const void *ob;
    size_t oz;
    __sanitizer_finish_switch_fiber(from->fake, &ob, &oz);
    if (!S.mbot) {
        S.mbot = ob;
        S.msize = oz;
    }
#endif
}
MRC_PLAIN inline unsigned pickbit(uint32_t m, unsigned from) {
    if (S.order == 0) {
        uint32_t hi = from < 31 ? m & (~0u << (from + 1)) : 0;
        return __builtin_ctz(hi ? hi : m);
    }
    if (S.order == 1) {
        uint32_t lo = m & ((1u << from) - 1);
        return 31 - __builtin_clz(lo ? lo : m);
    }
    S.rng = S.rng * 6364136223846793005ull + 1442695040888963407ull;
    unsigned k = (unsigned)(S.rng >> 33) % __builtin_popcount(m);
    while (k--) m &= m - 1;
    return __builtin_ctz(m);
}
// next runnable thread, or nullptr when nothing is left to run.  skipblk: prefer another block
// (spin loops of cooperative kernels)
MRC_NOSAN inline Thread *pick(bool skipblk) {
    unsigned b0 = S.curb;
    bool anylive = false;
    for (unsigned k = skipblk ? 1 : 0; k <= S.nb; k++) {
        unsigned bi = (b0 + k) % S.nb;
        Block &B = S.blocks[bi];
        if (!B.live) continue;
        anylive = true;
        unsigned w0 = S.cur && S.cur->blk == &B ? S.cur->warp : (S.order == 1 ? B.nw - 1 : 0),
                 l0 = S.cur && S.cur->blk == &B ? S.cur->lane : (S.order == 1 ? 0 : 31);
        if (S.order == 2) {
            S.rng = S.rng * 6364136223846793005ull + 1442695040888963407ull;
            if (!B.w[w0].ready || !((S.rng >> 40) & 7)) w0 = (unsigned)(S.rng >> 33) % B.nw;
        }
        for (unsigned j = 0; j < B.nw; j++) {
            unsigned wi = S.order == 1 ? (w0 + B.nw - j) % B.nw : (w0 + j) % B.nw;
            Warp &W = B.w[wi];
            if (W.ready) {
                S.curb = bi;
                return &B.th[wi * 32 + pickbit(W.ready, j ? (S.order == 1 ? 0 : 31) : l0)];
            }
        }
    }
    if (anylive)
        die("deadlock (threads wait at different barriers, or a lane named in a _sync mask never "
            "arrives)");
    return nullptr;
}
// leave the current thread (its ready bit says whether it can run again) and run another; returns
// when this one is resumed
MRC_NOSAN inline void yield_to_next(bool skipblk = false) {
    Thread *me = S.cur, *t = pick(skipblk);
    if (t == me) return;
    if (!t->started) {
        t->started = true;
        t->st = new_stack();
        arm_stack(t->st);
    }
    S.cur = t;
    Stack *from = me->st;
    jump(from, t->st, false, t->tsan);
}
// A finished fiber's stack is free for another one; under TSan only when its block is done, as
// nothing would order what the two write there.
MRC_NOSAN inline void retire(Stack *st) {
#ifdef MRC_TSAN
    st->next = S.retired;
    S.retired = st;
#else
    st->next = S.freest;
    S.freest = st;
#endif
}
MRC_NOSAN inline void reuse_retired() {
    while (S.retired) {
        Stack *st = S.retired;
        S.retired = st->next;
        st->next = S.freest;
        S.freest = st;
    }
}
MRC_NOSAN inline void run_body() { S.body(S.arg); }
MRC_NOSAN inline void fiber_main() {
#ifdef MRC_ASAN
    const void *ob;
    size_t oz;
    __sanitizer_finish_switch_fiber(nullptr, &ob, &oz);
    if (!S.mbot) {
        S.mbot = ob;
        S.msize = oz;
    }
#endif
    for (;;) {
#ifdef MRC_TSAN
        __tsan_acquire(&S);
#endif
        run_body();
        Thread *me = S.cur;
        Block &B = *me->blk;
        Warp &W = B.w[me->warp];
        Stack *st = me->st;
#ifdef MRC_TSAN
        __tsan_release(&S.main);
#endif
        W.live &= ~(1u << me->lane);
        W.ready &= ~(1u << me->lane);
        B.live--;
        S.threads++;
        if (B.live && B.bar == B.live) {
            B.bar = 0;
            B.seq++;
            for (unsigned w = 0; w < B.nw; w++) B.w[w].ready = B.w[w].live & ~B.w[w].waiting;
        }
        Thread *t = pick(false);
        if (!t) {
            S.cur = nullptr;
            retire(st);
            jump(st, &S.main, true, S.main_tsan);
            abort();
        }
        S.cur = t;
        if (!t->started) {
            t->started = true;
#ifndef MRC_TSAN // reuse this stack: kernels without barriers cost one call per thread
            t->st = st;
            continue;
#else
            t->st = new_stack();
            arm_stack(t->st);
#endif
        }
        retire(st);
        jump(st, t->st, true, t->tsan);
        abort();
    }
}
// TSan's happens-before edges go through two alternating tags: with one tag a late sleeper would
// also acquire the next barrier's releases
MRC_NOSAN inline void syncthreads() {
    Thread *me = S.cur;
    Block &B = *me->blk;
    Warp &W = B.w[me->warp];
    S.barriers++;
    char *tag = &B.tag[B.seq & 1];
    (void)tag;
#ifdef MRC_TSAN
    __tsan_release(tag);
#endif
    if (++B.bar == B.live) {
        MRC_COUNTED(mrc_count_barrier());
        B.bar = 0;
        B.seq++;
        for (unsigned w = 0; w < B.nw; w++) B.w[w].ready = B.w[w].live;
    } else {
        W.ready &= ~(1u << me->lane);
        yield_to_next();
    }
#ifdef MRC_TSAN
    __tsan_acquire(tag);
#endif
}
// all lanes of mask arrive, the last one runs fn over every lane's argument, all go on
template <class F>
MRC_NOSAN inline void collective(uint32_t mask, void *arg, F &&fn) {
    Thread *me = S.cur;
    Warp &W = me->blk->w[me->warp];
    uint32_t bit = 1u << me->lane;
    S.warpops++;
    char *tag = &W.tag[W.seq & 1];
    (void)tag;
    if (!(mask & bit)) die("a lane calls a _sync operation with a mask that leaves itself out");
    mask &= (me->blk->n - me->warp * 32 >= 32) ? ~0u : (1u << (me->blk->n - me->warp * 32)) - 1;
    if (mask & ~W.live) die("a _sync mask names a lane that has exited");
#ifdef MRC_TSAN
    __tsan_release(tag);
#endif
    W.mask[me->lane] = mask;
    W.arg[me->lane] = arg;
    W.waiting |= bit;
    bool all = (W.waiting & mask) == mask;
    if (all && mask != ~0u)
        for (uint32_t m = mask; m; m &= m - 1)
            if (W.mask[__builtin_ctz(m)] != mask) all = false;
    if (all) {
#ifdef MRC_TSAN
        __tsan_acquire(tag);
#endif
        MRC_COUNTED(mrc_count_warp(mask == W.live));
        MRC_COUNTED(mrc_count_quiet(1));
        fn(W.arg, mask);
        MRC_COUNTED(mrc_count_quiet(0));
        W.waiting &= ~mask;
        W.ready |= mask;
        W.seq++;
#ifdef MRC_TSAN
        __tsan_release(tag);
#endif
    } else {
        W.ready &= ~bit;
        yield_to_next();
    }
#ifdef MRC_TSAN
    __tsan_acquire(tag);
#endif
}
#ifdef MRC_TSAN
// Making one takes half a millisecond, so they are kept.  A launch's threads wait for all that the
// launches before it did, so a fiber that had a thread of one of them orders nothing more.
inline void *take_fiber() { return S.n_fibers ? S.fibers[--S.n_fibers] : __tsan_create_fiber(0); }
#endif
inline void setup_block(Block &B, dim3 bid, size_t smem) {
    unsigned n = S.block.x * S.block.y * S.block.z;
    B.bid = {bid.x, bid.y, bid.z};
    if (!B.th) {
        B.n = n;
        B.nw = (n + 31) / 32;
        B.th = new Thread[B.nw * 32]();
        B.w = new Warp[B.nw]();
#ifdef MRC_TSAN
        for (unsigned i = 0; i < n; i++) B.th[i].tsan = take_fiber();
#endif
    }
    if (smem) {
        B.smem = (char *)aligned_alloc(128, (smem + 127) / 128 * 128);
#ifdef MRC_ASAN
        if (smem % 128) ASAN_POISON_MEMORY_REGION(B.smem + smem, 128 - smem % 128);
#endif
        memset(B.smem, 0xff, smem);
    } // 0xff: a NaN for float, half, bf16: unwritten shared memory shows
    B.live = n;
    B.bar = 0;
    for (unsigned i = 0; i < n; i++) {
        Thread &t = B.th[i];
        t.lin = i;
        t.warp = i / 32;
        t.lane = i % 32;
        t.blk = &B;
        t.started = false;
        t.copies.reset();               // what a block before it has never waited for
        t.bid = B.bid;
        t.tid = {i % S.block.x, i / S.block.x % S.block.y, i / (S.block.x * S.block.y)};
    }
    for (unsigned w = 0; w < B.nw; w++) {
        unsigned k = n - w * 32;
        B.w[w].live = B.w[w].ready = k >= 32 ? ~0u : (1u << k) - 1;
        B.w[w].waiting = 0;
        B.w[w].products.reset();
    }
}
inline void end_block(Block &B) {
    MRC_COUNTED(mrc_count_block_end(&B));
#ifdef MRC_ASAN
    if (B.smem) ASAN_UNPOISON_MEMORY_REGION(B.smem, (S.smem + 127) / 128 * 128);
#endif
    free(B.smem);
    B.smem = nullptr;
}
inline void free_block(Block &B) {
#ifdef MRC_TSAN
    for (unsigned i = 0; i < B.n; i++) S.fibers[S.n_fibers++] = B.th[i].tsan;
#endif
    delete[] B.th;
    delete[] B.w;
    B.th = nullptr;
}
inline void enter() {
    S.cur = nullptr;
    Thread *t = pick(false);
    if (!t) return;
    t->started = true;
    t->st = new_stack();
    arm_stack(t->st);
    S.cur = t;
#ifdef MRC_TSAN
    __tsan_release(&S);
#endif
    jump(&S.main, t->st, false, t->tsan);
#ifdef MRC_TSAN
    __tsan_acquire(&S.main);
#endif
    reuse_retired();
}
// The device: compute capability times ten, and the shared memory of a block that it allows.
inline int arch() {
    const char *a = getenv("MRC_SHIM_ARCH");
    return a && *a ? atoi(a) : 80;
}
inline size_t max_smem() {
    return arch() >= 90 ? 232448 : arch() >= 80 ? 166912 : arch() == 75 ? 65536 : 98304;
}
// The most that any device has promised: an instance outlives the variable that it was made under.
inline size_t most_smem() {
    static size_t most = 0;
    if (max_smem() > most) most = max_smem();
    return most;
}
inline int promised_smem() {
    most_smem();
    return (int)max_smem();
}
inline int run(const char *name, dim3 g, dim3 b, size_t smem, bool coop, void (*body)(void *),
               void *arg) {
    unsigned n = b.x * b.y * b.z, nb = g.x * g.y * g.z;
    if (!n || n > 1024 || !nb || g.y > 65535 || g.z > 65535) {
        fprintf(stderr, "cuda_shim: %s: bad launch configuration\n", name);
        return 9;
    }
    const char *most = getenv("MRC_SHIM_COOP");          // as where others have part of the device
    if (coop && most && nb > (unsigned)atoi(most)) return 82;   // CooperativeLaunchTooLarge
    if (smem > most_smem()) {
        fprintf(stderr, "cuda_shim: %s: %zu bytes of dynamic shared memory, limit %zu\n", name,
                smem, most_smem());
        return 1;
    }
    const char *o = getenv("MRC_SHIM_SCHED");
    S.order = !o || !strncmp(o, "fwd", 3) ? 0 : !strncmp(o, "rev", 3) ? 1 : 2;
    S.rng = o && strchr(o, ':') ? strtoull(strchr(o, ':') + 1, nullptr, 10) * 2654435761u + 1 : 1;
    S.name = name;
    S.grid = g;
    S.block = b;
    S.smem = smem;
    S.body = body;
    S.arg = arg;
    S.coop = coop;
    MRC_COUNTED(mrc_count_launch(name, nb));
#ifdef MRC_TSAN
    S.main_tsan = __tsan_get_current_fiber();
#endif
    auto at = [&](unsigned i) {
        unsigned j = S.order == 1 ? nb - 1 - i : i;
        return dim3(j % g.x, j / g.x % g.y, j / (g.x * g.y));
    };
    if (coop) {
        S.nb = nb;
        S.blocks = new Block[nb]();
        S.curb = 0;
        for (unsigned i = 0; i < nb; i++) setup_block(S.blocks[i], at(i), smem);
        enter();
        for (unsigned i = 0; i < nb; i++) {
            end_block(S.blocks[i]);
            free_block(S.blocks[i]);
        }
        delete[] S.blocks;
    } else {
        Block B{};
        S.nb = 1;
        S.blocks = &B;
        S.curb = 0;
        for (unsigned i = 0; i < nb; i++) {
            setup_block(B, at(i), smem);
            enter();
            end_block(B);
        }
        free_block(B);
    }
    S.nb = 0;
    S.blocks = nullptr;
    S.cur = nullptr;
    return 0;
}
template <class F>
inline int launch(const char *name, dim3 g, dim3 b, size_t smem, bool coop, F &&f) {
    return run(
        name, g, b, smem, coop, [](void *p) { (*(std::remove_reference_t<F> *)p)(); }, (void *)&f);
}
// The device that a thread of the host has chosen last, and of what device a stream is: a launch on
// another one's stream fails.
inline thread_local int device = 0;
} // namespace mrc_shim
// What a download brings stands with the stream, and comes when it is waited for, no sooner.
namespace mrc_shim {
struct late {
    void *to;
    std::vector<char> bytes;
};
} // namespace mrc_shim
typedef struct mrc_shim_stream {
    int device;
    std::vector<mrc_shim::late> late;   // the first of them was number `came`
    size_t came;
} *cudaStream_t;
namespace mrc_shim {
inline void come(cudaStream_t s, size_t upto) {
    size_t n = 0;
    while (n < s->late.size() && s->came + n < upto) {
        memcpy(s->late[n].to, s->late[n].bytes.data(), s->late[n].bytes.size());
        n++;
    }
    s->late.erase(s->late.begin(), s->late.begin() + (std::ptrdiff_t)n);
    s->came += n;
}
inline bool is_foreign(cudaStream_t s) { return s && s->device != device; }
} // namespace mrc_shim
#define threadIdx (mrc_shim::S.cur->tid)
#define blockIdx (mrc_shim::S.cur->bid)
#define blockDim (mrc_shim::S.block)
#define gridDim (mrc_shim::S.grid)
#define warpSize 32
#define __syncthreads() mrc_shim::syncthreads()
#define MRC_SPIN() mrc_shim::yield_to_next(true)
#define MRC_DYN_SMEM(T, name) T *name = (T *)mrc_shim::S.cur->blk->smem
// 400: an invalid resource handle.
#define MRC_SHIM_LAUNCH(kern, grid, block, smem, coop, stream, ...)              \
    (mrc_shim::is_foreign(stream)                                                \
         ? 400                                                                   \
         : mrc_shim::launch(#kern, dim3(grid), dim3(block), smem, coop,          \
                            [&] { kern(__VA_ARGS__); }))
#define MRC_LAUNCH(kern, grid, block, smem, stream, ...) \
    MRC_SHIM_LAUNCH(kern, grid, block, smem, false, stream, __VA_ARGS__)
#define MRC_LAUNCH_COOP(kern, grid, block, smem, stream, ...) \
    MRC_SHIM_LAUNCH(kern, grid, block, smem, true, stream, __VA_ARGS__)

// ---------------------------------------------------------------- warp operations
namespace mrc_shim {
template <class T>
struct Shfl {
    T v, out;
    int src;
};
template <class T>
inline T shfl(uint32_t mask, T v, int src) {
    Shfl<T> a{v, v, src};
    collective(mask, &a, [](void **p, uint32_t m) {
        for (uint32_t k = m; k; k &= k - 1) {
            auto *x = (Shfl<T> *)p[__builtin_ctz(k)];
            if (!(m >> x->src & 1)) die("shuffle reads a lane outside its mask");
            x->out = ((Shfl<T> *)p[x->src])->v;
        }
    });
    return a.out;
}
inline int lane() { return (int)S.cur->lane; }
} // namespace mrc_shim
template <class T>
static inline T __shfl_sync(unsigned m, T v, int src, int w = 32) {
    int l = mrc_shim::lane();
    return mrc_shim::shfl(m, v, (l & ~(w - 1)) + (src & (w - 1)));
}
template <class T>
static inline T __shfl_xor_sync(unsigned m, T v, int x, int w = 32) {
    int l = mrc_shim::lane(), s = l ^ x;
    return mrc_shim::shfl(m, v, (s & ~(w - 1)) > (l & ~(w - 1)) ? l : s);
}
template <class T>
static inline T __shfl_down_sync(unsigned m, T v, unsigned d, int w = 32) {
    int l = mrc_shim::lane();
    return mrc_shim::shfl(m, v, (l & (w - 1)) + (int)d < w ? l + (int)d : l);
}
template <class T>
static inline T __shfl_up_sync(unsigned m, T v, unsigned d, int w = 32) {
    int l = mrc_shim::lane();
    return mrc_shim::shfl(m, v, (l & (w - 1)) - (int)d >= 0 ? l - (int)d : l);
}
static inline void __syncwarp(unsigned m = ~0u) {
    int d;
    mrc_shim::collective(m, &d, [](void **, uint32_t) {});
}
static inline unsigned __ballot_sync(unsigned m, int pred) {
    struct A {
        int p;
        unsigned o;
    } a{pred, 0};
    mrc_shim::collective(m, &a, [](void **p, uint32_t k) {
        unsigned r = 0;
        for (int i = 0; i < 32; i++)
            if (k >> i & 1 && ((A *)p[i])->p) r |= 1u << i;
        for (int i = 0; i < 32; i++)
            if (k >> i & 1) ((A *)p[i])->o = r;
    });
    return a.o;
}
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __any_sync(unsigned m, int p) { return __ballot_sync(m, p) != 0; }
static inline int __all_sync(unsigned m, int p) { return !__ballot_sync(m, !p); }

// ---------------------------------------------------------------- memory, maths
static inline void __threadfence() {}
static inline void __threadfence_block() {}
template <class T, class F>
static inline T mrc_rmw(T *p, F f) { // real atomics, so that TSan sees what the hardware would
    using I = std::conditional_t<sizeof(T) == 8, uint64_t,
                                 std::conditional_t<sizeof(T) == 4, uint32_t, uint16_t>>;
    I o = __atomic_load_n((I *)p, __ATOMIC_RELAXED), n;
    T t;
    do {
        memcpy(&t, &o, sizeof t);
        T u = f(t);
        memcpy(&n, &u, sizeof n);
    } while (!__atomic_compare_exchange_n((I *)p, &o, n, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return t;
}
template <class T, class U>
static inline T atomicAdd(T *p, U v) {
    return mrc_rmw(p, [=](T o) { return (T)(o + v); });
}
template <class T, class U>
static inline T atomicMax(T *p, U v) {
    return mrc_rmw(p, [=](T o) { return (T)v > o ? (T)v : o; });
}
template <class T, class U>
static inline T atomicMin(T *p, U v) {
    return mrc_rmw(p, [=](T o) { return (T)v < o ? (T)v : o; });
}
template <class T, class U>
static inline T atomicExch(T *p, U v) {
    return mrc_rmw(p, [=](T) { return (T)v; });
}
template <class T, class U, class V>
static inline T atomicCAS(T *p, U c, V v) {
    return mrc_rmw(p, [=](T o) { return o == (T)c ? (T)v : o; });
}
static inline uint3 mrc_place_again() { return { threadIdx.x, blockIdx.x, blockIdx.y }; }
static inline float mrc_exp2(float x) { return exp2f(x); }
static inline void mrc_red_release(unsigned *p, unsigned v) {
    __atomic_fetch_add(p, v, __ATOMIC_RELEASE);
}
static inline unsigned mrc_ld_acquire(const unsigned *p) {
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
template <class T>
static inline T __ldg(const T *p) {
    return *p;
}
static inline int __ffs(int x) { return __builtin_ffs(x); }
#define __expf(x) expf(x)
#define __logf(x) logf(x) // glibc declares __expf and __logf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __uint_as_float(unsigned u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline unsigned __float_as_uint(float f) {
    unsigned u;
    memcpy(&u, &f, 4);
    return u;
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)((uint64_t)a * b >> 32);
}

// ---------------------------------------------------------------- half, bfloat16 (16-bit storage,
// float arithmetic with one rounding)
struct __half {
    uint16_t u;
    __half() = default;
    __half(float f);
    explicit __half(double d) : __half((float)d) {}
    explicit __half(int i) : __half((float)i) {}
    operator float() const;
};
typedef __half half;
static inline float mrc_h2f(uint16_t h) {
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    uint32_t s = (uint32_t)(h & 0x8000) << 16, e = h >> 10 & 31, m = h & 1023, r;
    if (e == 31)
        r = s | 0x7f800000u | m << 13;
    else if (e)
        r = s | (e + 112) << 23 | m << 13;
    else if (m) {
        int k = __builtin_clz(m) - 21;
        r = s | (113u - k) << 23 | (m << (13 + k) & 0x7fffffu);
    } else
        r = s;
    float f;
    memcpy(&f, &r, 4);
    return f;
#endif
}
static inline uint16_t mrc_f2h(float f) {
#if defined(__F16C__)
    return (uint16_t)_cvtss_sh(f, 0);
#else
    uint32_t x;
    memcpy(&x, &f, 4);
    uint32_t s = x >> 16 & 0x8000, a = x & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(s | 0x7e00);
    if (a >= 0x477ff000u) return (uint16_t)(s | 0x7c00);
    if (a < 0x38800000u) {
        if (a < 0x33000000u) return (uint16_t)s;
        uint32_t e = a >> 23, m = (a & 0x7fffffu) | 0x800000u, sh = 126 - e, r = m >> sh,
                 rem = m << (32 - sh);
        r += rem > 0x80000000u || (rem == 0x80000000u && (r & 1));
        return (uint16_t)(s | r);
    }
    a += 0xc8000fffu + (a >> 13 & 1);
    return (uint16_t)(s | a >> 13);
#endif
}
inline __half::__half(float f) : u(mrc_f2h(f)) {}
inline __half::operator float() const { return mrc_h2f(u); }
struct alignas(4) __half2 {
    __half x, y;
};
typedef __half2 half2;
static inline __half __float2half(float f) { return __half(f); }
static inline __half __float2half_rn(float f) { return __half(f); }
static inline float __half2float(__half h) { return h; }
static inline __half2 __floats2half2_rn(float a, float b) { return {__half(a), __half(b)}; }
static inline __half2 __float22half2_rn(float2 a) { return {__half(a.x), __half(a.y)}; }
static inline float2 __half22float2(__half2 h) { return {h.x, h.y}; }
struct __nv_bfloat16 {
    uint16_t u;
    __nv_bfloat16() = default;
    __nv_bfloat16(float f) {
        uint32_t x;
        memcpy(&x, &f, 4);
        u = (x & 0x7fffffffu) > 0x7f800000u ? 0x7fff
                                            : (uint16_t)((x + 0x7fffu + (x >> 16 & 1)) >> 16);
    }
    operator float() const {
        uint32_t x = (uint32_t)u << 16;
        float f;
        memcpy(&f, &x, 4);
        return f;
    }
};
static inline __nv_bfloat16 __float2bfloat16(float f) { return __nv_bfloat16(f); }
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
static inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
    return {__nv_bfloat16(a), __nv_bfloat16(b)};
}
static inline float __bfloat162float(__nv_bfloat16 b) { return b; }

// ---------------------------------------------------------------- the runtime calls of a backend
typedef int cudaError_t;
typedef struct mrc_shim_event {
    cudaStream_t stream;
    size_t upto;                        // downloads asked for before it was recorded
} *cudaEvent_t;
enum {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorCooperativeLaunchTooLarge = 82,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorNoKernelImageForDevice = 209
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
enum { cudaSharedmemCarveoutMaxShared = 100 };
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrCooperativeLaunch = 95,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
namespace mrc_shim {
struct Alloc {                          // in front of a device allocation
    size_t n;
    char pad[248];
};
// ThreadSanitizer knows 8128 fibers at most, so that a grid that waits for itself must be smaller.
#ifdef MRC_TSAN
enum { processors = 3 };
#else
enum { processors = 4 };
#endif
inline size_t memory_used = 0;
inline size_t memory_total() {
    const char *m = getenv("MRC_SHIM_MEMORY");
    return m && *m ? (size_t)strtoull(m, nullptr, 10) : (size_t)64 << 30;
}
} // namespace mrc_shim
// To the byte, 256-byte aligned, full of NaN.
static inline cudaError_t cudaMalloc(void **p, size_t n) {
    *p = nullptr;
    if (n > mrc_shim::memory_total() - mrc_shim::memory_used) return cudaErrorMemoryAllocation;
    char *raw = (char *)aligned_alloc(256, sizeof(mrc_shim::Alloc) + (n + 255) / 256 * 256);
    if (!raw) return cudaErrorMemoryAllocation;
    ((mrc_shim::Alloc *)raw)->n = n;
    mrc_shim::memory_used += n;
    *p = raw + sizeof(mrc_shim::Alloc);
    MRC_COUNTED(mrc_count_memory(*p, n));
    memset(*p, 0xff, n);
#ifdef MRC_ASAN
    ASAN_POISON_MEMORY_REGION((char *)*p + n, (n + 255) / 256 * 256 - n);
    ASAN_POISON_MEMORY_REGION(raw, sizeof(mrc_shim::Alloc));
#endif
    return cudaSuccess;
}
static inline cudaError_t cudaFree(void *p) {
    if (!p) return cudaSuccess;
    MRC_COUNTED(mrc_count_memory(p, 0));
    char *raw = (char *)p - sizeof(mrc_shim::Alloc);
#ifdef MRC_ASAN
    ASAN_UNPOISON_MEMORY_REGION(raw, sizeof(mrc_shim::Alloc));
#endif
    mrc_shim::memory_used -= ((mrc_shim::Alloc *)raw)->n;
    free(raw);
    return cudaSuccess;
}
static inline cudaError_t cudaMallocHost(void **p, size_t n) {
    *p = malloc(n);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
static inline cudaError_t cudaFreeHost(void *p) {
    free(p);
    return cudaSuccess;
}
static inline cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *total = mrc_shim::memory_total();
    *free_bytes = *total - mrc_shim::memory_used;
    return cudaSuccess;
}
static inline cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind kind,
                                          cudaStream_t stream) {
    if (kind == cudaMemcpyHostToDevice) MRC_COUNTED(mrc_count_upload());
    if (kind == cudaMemcpyDeviceToHost) {
        MRC_COUNTED(mrc_count_download());
        stream->late.push_back({d, {(const char *)s, (const char *)s + n}});
        return cudaSuccess;
    }
    memcpy(d, s, n);
    return cudaSuccess;
}
static inline cudaError_t cudaMemsetAsync(void *d, int v, size_t n, cudaStream_t) {
    memset(d, v, n);
    return cudaSuccess;
}
static inline cudaError_t cudaGetDeviceCount(int *n) {
    const char *devices = getenv("MRC_SHIM_DEVICES");
    *n = getenv("MRC_SHIM_NO_DEVICE") ? 0 : devices ? atoi(devices) : 1;
    return *n ? cudaSuccess : cudaErrorNoDevice;
}
static inline cudaError_t cudaSetDevice(int device) {
    int n = 0;
    if (cudaGetDeviceCount(&n) != cudaSuccess || device < 0 || device >= n) {
        return cudaErrorInvalidValue;
    }
    mrc_shim::device = device;
    return cudaSuccess;
}
// Whether the device's own code is in the program: MRC_SHIM_NO_IMAGE says that it is not.
struct cudaFuncAttributes {
    int binaryVersion;
};
template <class F> static inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *a, F) {
    a->binaryVersion = mrc_shim::arch();
    return getenv("MRC_SHIM_NO_IMAGE") ? cudaErrorNoKernelImageForDevice : cudaSuccess;
}
static inline cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr a, int) {
    *value = a == cudaDevAttrMultiProcessorCount            ? mrc_shim::processors
             : a == cudaDevAttrComputeCapabilityMajor       ? mrc_shim::arch() / 10
             : a == cudaDevAttrComputeCapabilityMinor       ? mrc_shim::arch() % 10
             : a == cudaDevAttrMaxSharedMemoryPerBlockOptin ? mrc_shim::promised_smem()
                                                            : 1;
    return cudaSuccess;
}
static inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
    *s = new mrc_shim_stream{mrc_shim::device, {}, 0};
    return cudaSuccess;
}
static inline cudaError_t cudaStreamDestroy(cudaStream_t s) {
    delete s;
    return cudaSuccess;
}
static inline cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    MRC_COUNTED(mrc_count_wait());
    mrc_shim::come(s, SIZE_MAX);
    return cudaSuccess;
}
static inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
    *e = new mrc_shim_event{nullptr, 0};
    return cudaSuccess;
}
static inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    *e = {s, s->came + s->late.size()};
    return cudaSuccess;
}
static inline cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    MRC_COUNTED(mrc_count_wait());
    if (e->stream) mrc_shim::come(e->stream, e->upto);
    return cudaSuccess;
}
static inline cudaError_t cudaEventDestroy(cudaEvent_t e) {
    delete e;
    return cudaSuccess;
}
static inline cudaError_t cudaDeviceReset() { return cudaSuccess; }
static inline cudaError_t cudaGetLastError() { return cudaSuccess; }
static inline const char *cudaGetErrorString(cudaError_t e) {
    return e == cudaErrorMemoryAllocation ? "out of memory"
           : e == cudaErrorNoDevice       ? "no CUDA-capable device is detected"
                                          : "an error of the shim";
}
// As many blocks of a cooperative launch as fit: the shim's processors hold four each.
template <class F>
static inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *n, F, int, size_t) {
    *n = 4;
    return cudaSuccess;
}
template <class F>
static inline cudaError_t cudaFuncSetAttribute(F, cudaFuncAttribute which, int bytes) {
    if (which == cudaFuncAttributePreferredSharedMemoryCarveout) {
        return bytes >= -1 && bytes <= 100 ? cudaSuccess : cudaErrorInvalidValue;
    }
    return (size_t)bytes <= mrc_shim::most_smem() ? cudaSuccess : cudaErrorInvalidValue;
}
