/* Measures the most FLOP/s and bytes/s that this device reaches. Benchmarks print other figures as
 * shares of these two. */
#include <math.h>

#include "base/clock.h"
#include "kernels/cpu/cpu.h"

enum { RUNS = 11, QUICK_RUNS = 4, PAGE = 4096 };
static const size_t buffer_bytes = 512u << 20, quick_buffer_bytes = 128u << 20;

/* What several runs have shown: their mean, or the best of them. */
struct rates {
    double sum, best;
    int n;
};

static void add_rate(struct rates *r, double rate)
{
    r->sum += rate;
    r->best = rate > r->best ? rate : r->best;
    r->n++;
}

static double result(const struct rates *r, bool quick)
{
    return quick ? r->sum / r->n : r->best;
}

/* Spin once on all threads. Returns the seconds; *flops := the FLOPs of all threads together. */
static double spin_all(const struct dev *d, spin_fn *spin, long rounds, double *flops)
{
    double total = 0;
    int64_t start = clock_ns();
#pragma omp parallel num_threads(d->threads) reduction(+ : total)
    {
        float sink = 0;
        total += spin(rounds, &sink) + (sink == 1);
    }
    *flops = total;
    return seconds_since(start);
}

/* How many rounds take one thread at least so many seconds: long enough for the clock and for
 * waking the others. The fastest of three decides, since one alone may have waited for a core. */
static long rounds_for(spin_fn *spin, double least)
{
    float sink = 0;
    long rounds = 500;
    for (double fastest = 0; fastest < least && sink != 1;) {
        rounds *= 2;
        fastest = INFINITY;
        for (int i = 0; i < 3; i++) {
            int64_t start = clock_ns();
            spin(rounds, &sink);
            fastest = fmin(fastest, seconds_since(start));
        }
    }
    return rounds;
}

static double peak_flops(const struct dev *d, spin_fn *spin, bool quick)
{
    double flops;
    struct rates rates = {0};
    long rounds = rounds_for(spin, quick ? 0.004 : 0.02);
    for (int i = 0; i < (quick ? QUICK_RUNS : RUNS); i++) {
        double seconds = spin_all(d, spin, rounds, &flops);
        add_rate(&rates, flops / seconds);
    }
    return result(&rates, quick);
}

double cpu_peak_flops(struct dev *d, enum dtype type, bool quick)
{
    return peak_flops(d, d->cpu->spin[type], quick);
}

double cpu_quant_peak_flops(struct dev *d, enum quant quant, bool quick)
{
    return peak_flops(d, d->cpu->quant_spin[quant], quick);
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

double cpu_read_bandwidth(struct dev *d, bool quick)
{
    struct arena own = {0};
    size_t bytes = quick ? quick_buffer_bytes : buffer_bytes;
    char *buffer = arena_alloc(&own, bytes);
    size_t part = bytes / (size_t)d->threads / PAGE * PAGE;
    struct rates rates = {0};
#pragma omp parallel for num_threads(d->threads) schedule(static, 1) // first touch: its own node
    for (int t = 0; t < d->threads; t++)
        memset(buffer + (size_t)t * part, 1, part);
    for (int i = 0; i < (quick ? QUICK_RUNS : RUNS); i++)
        add_rate(&rates, read_all(d, buffer, part));
    arena_free(&own);
    return result(&rates, quick);
}
