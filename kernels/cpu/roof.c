/* Measures the most FLOP/s and bytes/s that this device reaches. Benchmarks print other figures as
 * shares of these two. */
#include "base/clock.h"
#include "kernels/cpu/cpu.h"

enum { RUNS = 11, PAGE = 4096 };
static const size_t buffer_bytes = 512u << 20;

/* Spin once on all threads. Returns the seconds; *flops := the FLOPs of all threads together. */
static double spin_all(const struct dev *d, enum dtype type, long rounds, double *flops)
{
    double total = 0;
    int64_t start = clock_ns();
#pragma omp parallel num_threads(d->threads) reduction(+ : total)
    {
        float sink = 0;
        total += d->cpu->spin[type](rounds, &sink) + (sink == 1);
    }
    *flops = total;
    return seconds_since(start);
}

double cpu_peak_flops(struct dev *d, enum dtype type)
{
    double flops, best = 0;
    long rounds = 1000;
    // 0.02 s is long against the clock's resolution and the start of the threads
    while (spin_all(d, type, rounds, &flops) < 0.02)
        rounds *= 2;
    for (int i = 0; i < RUNS; i++) {
        double rate = 1 / spin_all(d, type, rounds, &flops);
        best = rate * flops > best ? rate * flops : best;
    }
    return best;
}

static double read_all(const struct dev *d, const char *buffer, size_t part)
{
    float total = 0;
    int64_t start = clock_ns();
#pragma omp parallel for num_threads(d->threads) schedule(static, 1) reduction(+ : total)
    for (int t = 0; t < d->threads; t++)
        total += d->cpu->read(buffer + (size_t)t * part, part);
    double seconds = seconds_since(start);
    return (double)(part * (size_t)d->threads) / seconds + (total == 1);
}

double cpu_read_bandwidth(struct dev *d)
{
    struct arena own = {0};
    char *buffer = arena_alloc(&own, buffer_bytes);
    size_t part = buffer_bytes / (size_t)d->threads / PAGE * PAGE;
    double best = 0;
    // each thread writes its part first, so that the part is on the thread's own NUMA node
#pragma omp parallel for num_threads(d->threads) schedule(static, 1)
    for (int t = 0; t < d->threads; t++)
        memset(buffer + (size_t)t * part, 1, part);
    for (int i = 0; i < RUNS; i++) {
        double rate = read_all(d, buffer, part);
        best = rate > best ? rate : best;
    }
    arena_free(&own);
    return best;
}
