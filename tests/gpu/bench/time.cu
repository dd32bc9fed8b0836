/* Timing by events in the stream, and what times decide. */
#include <algorithm>
#include <stdio.h>

#include "tests/gpu/bench/bench.h"

#ifdef EPMOE_EMULATED
enum { RUNS = 1, LONG_ENOUGH_MS = 0 };
#else
enum { RUNS = 5, LONG_ENOUGH_MS = 10 };
#endif

static void play(rig &r, const work &w, uint64_t key)
{
    if (w.recorded && !dev_graph_begin(&r.d, key))
        return;
    for (int i = 0; i < w.variants; i++)
        w.call(i);
    if (w.recorded)
        dev_graph_end(&r.d);
}

/* A work that is being timed. */
struct trial {
    const work &w;
    uint64_t key;
    int plays;              // of a run
    std::vector<double> ms; // of a call, of each run; empty after an error
};

/* In ms; 0 after an error. */
static double time_plays(rig &r, const trial &t, int plays)
{
    float ms = 0;
    cudaEventRecord(r.event[0], r.d.cuda->stream);
    for (int i = 0; i < plays; i++)
        play(r, t.w, t.key);
    cudaEventRecord(r.event[1], r.d.cuda->stream);
    if (dev_wait(&r.d) != 0 || cudaEventElapsedTime(&ms, r.event[0], r.event[1]) != cudaSuccess)
        return 0;
    return (double)ms;
}

/* How many plays are long enough for the clock. */
static trial warm_up(rig &r, const work &w)
{
    trial t = {w, ++r.keys, 1, {}};
    for (int i = 0; i < 3; i++)
        play(r, w, t.key); // one by one, recorded, played
    double once = dev_wait(&r.d) == 0 ? time_plays(r, t, 1) : 0;
    if (once > 0 && once < LONG_ENOUGH_MS)
        t.plays = std::max(1, (int)std::min(LONG_ENOUGH_MS / once, 200.0));
    return t;
}

static void run_once(rig &r, trial &t)
{
    double ms = time_plays(r, t, t.plays);
    if (ms > 0)
        t.ms.push_back(ms / t.plays / t.w.variants);
}

static timing timing_of(trial &t)
{
    if (t.ms.empty())
        return {0, 0, 0};
    std::sort(t.ms.begin(), t.ms.end());
    return {t.ms[t.ms.size() / 2] * 1e-3, t.ms.front() * 1e-3, t.ms.back() * 1e-3};
}

timing time_of(rig &r, const work &w)
{
    trial t = warm_up(r, w);
    for (int i = 0; i < RUNS; i++)
        run_once(r, t);
    return timing_of(t);
}

double roof_seconds(const rig &r, const work &w)
{
    double moving = r.bandwidth > 0 ? w.bytes / r.bandwidth : 0;
    double computing = r.flops > 0 ? w.flops / r.flops : 0;
    return std::max(moving, computing);
}

/* ---- tables ---- */

void table_head(const char *title)
{
    printf("\n%s\n\n| what | rows | us | MB | GFLOP | roof, us | of roof |\n"
           "|---|--:|--:|--:|--:|--:|--:|\n",
           title);
}

static void print_row(const rig &r, const work &w, const timing &t)
{
    double roof = roof_seconds(r, w);
    printf("| %s | %d | %.2f | %.4g | %.4g | %.2f | %.0f %% |\n", w.name.c_str(), w.rows,
           t.seconds * 1e6, w.bytes * 1e-6, w.flops * 1e-9, roof * 1e6,
           t.seconds > 0 ? 100 * roof / t.seconds : 0.0);
    fflush(stdout);
}

timing measure(rig &r, const work &w)
{
    timing t = time_of(r, w);
    print_row(r, w, t);
    return t;
}

/* ---- decisions ---- */

/* What repetition differs by, as a share. */
static double noise_of(const timing &t)
{
    return (t.high - t.low) / t.seconds;
}

void decide(const char *what, const std::vector<contender> &all)
{
    const contender &today = all[0];
    const contender *best = NULL; // of the others
    for (size_t i = 1; i < all.size(); i++)
        if (!best || all[i].t.seconds < best->t.seconds)
            best = &all[i];
    printf("\ndecision: %s: ", what);
    if (!best || best->t.seconds <= 0 || today.t.seconds <= 0) {
        printf("none, a time is missing\n");
        return;
    }
    double factor = today.t.seconds / best->t.seconds;
    if (best->t.high < today.t.low)
        printf("take %s, %.3f times as fast as %s, today's choice", best->name.c_str(), factor,
               today.name.c_str());
    else
        printf("keep %s: %s is %.3f times as fast, %s", today.name.c_str(), best->name.c_str(),
               factor, factor > 1 ? "within the noise" : "no gain");
    printf(" (%.2f us and %.2f us, noise %.1f %% and %.1f %%)\n", best->t.seconds * 1e6,
           today.t.seconds * 1e6, 100 * noise_of(best->t), 100 * noise_of(today.t));
}

void measure_ways(rig &r, const char *what, const std::vector<way> &ways)
{
    std::vector<trial> trials;
    std::vector<contender> all;
    for (const way &w : ways) {
        w.choose();
        trials.push_back(warm_up(r, w.w));
    }
    for (int i = 0; i < RUNS; i++)
        for (size_t j = 0; j < ways.size(); j++) {
            ways[j].choose();
            run_once(r, trials[j]);
        }
    for (size_t j = 0; j < ways.size(); j++) {
        all.push_back({ways[j].w.name, timing_of(trials[j])});
        print_row(r, ways[j].w, all[j].t);
    }
    ways[0].choose();
    decide(what, all);
}
