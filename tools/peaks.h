// What this machine's cores can do at most, by loops that hold everything in registers: the limits
// that bench writes beside its figures, as processors differ by more than libraries do.
//
// An operation is a multiply or an add: vfmadd231ps of 512 bits counts 32, vdpbf16ps 64, vpdpbusd
// 128.  Sums are asm, as a compiler would fold, copy or spill them.
#ifndef PEAKS_H
#define PEAKS_H
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct peak_loop { void (*run)(long n); double operations; } peak_loop;

#if defined(__x86_64__)
#include <immintrin.h>
#define PEAK_512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx512bf16,fma")))
#define PEAK_256 __attribute__((target("avx2,fma")))
// `sums` of them, as a tile has: every loop over s is unrolled, or s is memory.
#define PEAK_LOOP(type, sums, in, text)                                                            \
    type s[sums], a, b;                                                                            \
    memset(&a, 0, sizeof a);                                                                       \
    b = a;                                                                                         \
    _Pragma("GCC unroll 24") for (int i = 0; i < sums; i++) s[i] = a;                              \
    for (long k = 0; k < n; k++) {                                                                 \
        _Pragma("GCC unroll 24") for (int i = 0; i < sums; i++) {                                  \
            __asm__ volatile(text " %1, %2, %0" : "+" in(s[i]) : in(a), in(b));                    \
        }                                                                                          \
    }
PEAK_512 static void peak_f32_512(long n) { PEAK_LOOP(__m512, 24, "v", "vfmadd231ps") }
PEAK_512 static void peak_bf16_512(long n) { PEAK_LOOP(__m512, 24, "v", "vdpbf16ps") }
PEAK_512 static void peak_int8_512(long n) { PEAK_LOOP(__m512i, 24, "v", "vpdpbusd") }
PEAK_256 static void peak_f32_256(long n) { PEAK_LOOP(__m256, 12, "x", "vfmadd231ps") }
#endif

// The loops of this processor: f32, bf16, int8; run NULL: it has none.
static inline void peak_loops(peak_loop out[3]) {
    memset(out, 0, 3 * sizeof *out);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        out[0] = (peak_loop){ peak_f32_256, 12 * 16 };
    }
    if (__builtin_cpu_supports("avx512f")) out[0] = (peak_loop){ peak_f32_512, 24 * 32 };
    if (__builtin_cpu_supports("avx512bf16")) out[1] = (peak_loop){ peak_bf16_512, 24 * 64 };
    if (__builtin_cpu_supports("avx512vnni")) out[2] = (peak_loop){ peak_int8_512, 24 * 128 };
#endif
}

typedef struct peak_job { const peak_loop *loop; long n; double seconds; } peak_job;
static inline void *peak_thread(void *arg) {
    peak_job *j = arg;
    struct timespec t[2];
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t[0]);      // of this thread: others do not count
    j->loop->run(j->n);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t[1]);
    j->seconds = (double)(t[1].tv_sec - t[0].tv_sec) + 1e-9 * (double)(t[1].tv_nsec - t[0].tv_nsec);
    return NULL;
}

// G operations a second that `threads` threads, 64 at most, make together; 0: no such loop.
static inline double peak_rate(const peak_loop *loop, size_t threads, long n) {
    pthread_t id[64];
    peak_job job[64];
    double rate = 0;
    if (!loop->run) return 0;
    if (threads > 64) threads = 64;
    for (size_t i = 0; i < threads; i++) {
        job[i] = (peak_job){ loop, n, 0 };
        if (pthread_create(&id[i], NULL, peak_thread, &job[i]) != 0) threads = i;
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(id[i], NULL);
        rate += loop->operations * (double)n / job[i].seconds * 1e-9;
    }
    return rate;
}

// "AMD EPYC, family 25 model 17": processors of one name differ.
static inline void peak_processor(char *out, size_t room) {
    char line[512], name[128] = "unknown", family[16] = "?", model[16] = "?";
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        if (!value) break;                              // one processor is enough
        value += value[1] == ' ' ? 2 : 1;
        value[strcspn(value, "\n\t")] = '\0';
        if (strncmp(line, "model name", 10) == 0) snprintf(name, sizeof name, "%.120s", value);
        else if (strncmp(line, "cpu family", 10) == 0) snprintf(family, 16, "%.15s", value);
        else if (strncmp(line, "model\t", 6) == 0) snprintf(model, 16, "%.15s", value);
    }
    if (f) fclose(f);
    snprintf(out, room, "%s, family %s model %s", name, family, model);
}
#endif
