/* Where a GPU's microseconds go: each phase of a layer of Qwen1.5-MoE-A2.7B's shape by itself and
 * all of them in order, beside their roof (bytes over bandwidth or FLOPs over peak, whichever is
 * longer, both measured in the same run); and the ways to do a thing that compete. Run by
 * tools/gpu_check.sh; in the tests with a tiny shape, on the emulation, where times mean nothing.
 */
#pragma once

#include <functional>
#include <string>
#include <vector>

extern "C" {
#include "base/check.h"
#include "base/noise.h"
#include "kernels/ops.h"
}
#include "kernels/cuda/cuda.h"

struct shape {
    int dim, heads, head_dim, experts, top_k, width, shared, vocab;
    int prompt, context,
        sequences;      // rows of the prefill; positions and number of those that decode
    int layers, copies; // of routed experts, and of the rest, which take turns: more than a cache
                        // holds
};

struct rig {
    struct dev d;
    shape s;
    double flops, bandwidth; // measured, bf16; 0: nobody needs them
    double round_trip;       // seconds that a step's graph takes besides its kernels
    cudaEvent_t event[2];
    struct noise *weights, *activations, *floats;
    std::vector<struct ffn_list *> experts, shared; // [layers], [copies]
    std::vector<struct matrix> qkv, o, router;      // [copies]
    struct matrix unembed;
    uint64_t keys; // of graphs and of noise, so far
    bool good;     // all that was compared agreed
};

/* ---- time.cu ---- */

/* One thing to be timed: calls 0 … variants - 1, which do the same with other weights. */
struct work {
    std::string name;
    int rows;
    double bytes, flops; // of one call
    int variants;
    bool recorded; // played as a graph, as decoding is
    std::function<void(int)> call;
};

/* Seconds of one call: the median of some runs, and the least and the most; all 0 after an error.
 */
struct timing {
    double seconds, low, high;
};

timing time_of(rig &r, const work &w);
double roof_seconds(const rig &r, const work &w);

/* A table's head; a row of it, timed now. A call that cannot be made sets the device's error. */
void table_head(const char *title);
timing measure(rig &r, const work &w);

/* One of the ways that compete. choose() makes the device go it, until another is chosen. */
struct way {
    work w;
    std::function<void()> choose;
};

/* A row each, timed in turns, so that a clock that changes changes all; today's way is the first.
 * Then the line "decision: <what>: …", which names the best and says by what factor it is faster
 * than today's, and whether that is more than repetition differs by. */
void measure_ways(rig &r, const char *what, const std::vector<way> &ways);

struct contender {
    std::string name;
    timing t;
};
void decide(const char *what, const std::vector<contender> &all);

/* ---- main.cu ---- */

/* Device memory with noise in it. */
struct matrix random_matrix(rig &r, int n, int k);
void *random_rows(rig &r, int n, int width);
float *random_floats(rig &r, size_t n);
int32_t *to_device(rig &r, const std::vector<int32_t> &host);

/* A routing of rows, drawn at random: even, or a few experts have most of the rows. */
struct routing {
    int rows, pairs, hit; // hit: experts that have rows
    std::vector<int32_t> host_count;
    int32_t *expert, *count, *source, *slot; // the device's
};
routing random_routing(rig &r, int rows, bool skewed);

/* The most that any call asks for, as the device is now: again after its fields have changed. */
void reserve(rig &r);

/* Both did the same work, or their times say nothing: r.good is false after a row that says so. */
void compare(rig &r, const std::vector<float> &ours, const std::vector<float> &other,
             const char *name);

/* ---- what is measured ---- */

void measure_copies(rig &r);            // overheads.cu
void measure_launches(rig &r);          //
void measure_step(rig &r, int batch);   // step.cu: the phases of a layer; 0: in prefill
void measure_experts(rig &r);           // experts.cu: the ways through many experts
void measure_variants(rig &r);          // variants.cu: all other ways that compete
void play_heavy_kernels(rig &r);        // heavy.cu: the heaviest, once, for a profiler
extern const char *const HEAVY_KERNELS; // a regular expression of their names

/* Bytes and FLOPs of rows through blocks of a width, `hit` of which are read. */
double ffn_bytes(const shape &s, double rows, double hit, int width);
double ffn_flops(const shape &s, double rows, int width);

/* cublas.cu: the same rows through the same experts by cuBLAS, one grouped call a projection or one
 * call an expert. It wants the counts on the host, where a model has them only after a wait. */
struct blas_ffn;
blas_ffn *blas_ffn_open(rig &r, const routing &route, const void *x);
void blas_ffn_close(blas_ffn *b);
/* y, unless NULL: the host's, [pairs][dim]. False after a row of the table that says why not. */
bool blas_ffn_run(rig &r, blas_ffn *b, int layer, bool grouped, bf16 *y);
