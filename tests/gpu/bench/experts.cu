#include <stdio.h>

#include "kernels/cuda/ffn.cuh"
#include "tests/gpu/bench/bench.h"

double ffn_bytes(const shape &s, double rows, double hit, int width)
{
    double weights = hit * 3 * s.dim * width, activations = 2 * rows * (s.dim + width);
    return (weights + activations) * sizeof(bf16);
}

double ffn_flops(const shape &s, double rows, int width)
{
    return 2 * rows * 3 * s.dim * width;
}

struct many {
    rig &r;
    routing route;
    const void *x;
    void *y;
    std::vector<bf16> ours, other; // what a first layer gives
    std::vector<contender> all;

    struct ffn_job job(int layer) const
    {
        return {r.experts[(size_t)layer], y, DTYPE_BF16, x, route.source, route.count, route.pairs};
    }

    work work_of(const char *name, bool recorded, std::function<void(int)> call) const
    {
        const shape &s = r.s;
        return {name,
                route.rows,
                ffn_bytes(s, route.pairs, route.hit, s.width),
                ffn_flops(s, route.pairs, s.width),
                s.layers,
                recorded,
                call};
    }
};

static std::vector<float> floats_of(const std::vector<bf16> &values)
{
    std::vector<float> to;
    for (bf16 value : values)
        to.push_back(bf16_to_float(value));
    return to;
}

static void measure_one(many &m, const char *name, const char *choice, bool recorded,
                        std::function<void(int)> call)
{
    m.all.push_back({choice, measure(m.r, m.work_of(name, recorded, call))});
}

static void measure_ours(many &m)
{
    rig &r = m.r;
    auto as_called = [&](int i) {
        struct ffn_job job = m.job(i);
        run_ffn(&r.d, &job, 1);
    };
    auto tiles = [&](int i) {
        struct ffn_job job = m.job(i);
        ffn_many(&r.d, &job);
    };
    measure_one(m, "as a model calls it", "ours", true, as_called);
    measure_one(m, "our tiles", "our tiles whatever the rows", true, tiles);
    tiles(0);
    dev_download(&r.d, m.ours.data(), m.y, m.ours.size() * sizeof(bf16));
    as_called(0);
    dev_download(&r.d, m.other.data(), m.y, m.other.size() * sizeof(bf16));
    if (dev_wait(&r.d) == 0)
        compare(r, floats_of(m.ours), floats_of(m.other), "our tiles");
}

static void measure_cublas(many &m, bool grouped)
{
    rig &r = m.r;
    const char *name = grouped ? "cuBLAS grouped" : "cuBLAS in a loop";
    const char *choice = grouped ? "cuBLAS grouped (with the counts on the host)"
                                 : "cuBLAS in a loop (with the counts on the host)";
    blas_ffn *b = blas_ffn_open(r, m.route, m.x);
    if (dev_wait(&r.d) == 0 && blas_ffn_run(r, b, 0, grouped, m.other.data()) &&
        dev_wait(&r.d) == 0) {
        compare(r, floats_of(m.ours), floats_of(m.other), name);
        measure_one(m, name, choice, false, [&](int i) { blas_ffn_run(r, b, i, grouped, NULL); });
    }
    blas_ffn_close(b);
}

static void measure_case(rig &r, int rows, bool skewed)
{
    char title[96], what[64];
    many m = {r, random_routing(r, rows, skewed), random_rows(r, rows, r.s.dim), NULL, {}, {}, {}};
    size_t count = (size_t)m.route.pairs * (size_t)r.s.dim;
    m.y = dev_alloc(&r.d, count * sizeof(bf16));
    m.ours.resize(count);
    m.other.resize(count);
    snprintf(title, sizeof title, "Routed experts, %d rows, top %d, %s: %d of %d experts hit", rows,
             r.s.top_k, skewed ? "skewed" : "even", m.route.hit, r.s.experts);
    table_head(title);
    measure_ours(m);
    measure_cublas(m, true);
    measure_cublas(m, false);
    snprintf(what, sizeof what, "routed experts, %d rows, %s", rows, skewed ? "skewed" : "even");
    decide(what, m.all);
}

void measure_experts(rig &r)
{
    const int most = r.s.prompt;
    if (r.s.dim <= 64) { // tiny
        measure_case(r, most / 2, true);
        measure_case(r, most, false);
        return;
    }
    for (int rows : {64, 128, 256, most, 4096})
        measure_case(r, rows, false);
    measure_case(r, most, true);
}
