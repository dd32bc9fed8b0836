#include <stdio.h>

#include "kernels/cuda/ffn.cuh"
#include "tests/gpu_bench/bench.h"

double ffn_bytes(const shape &s, double rows, double hit, int width)
{
    double weights = hit * 3 * s.dim * width, activations = 2 * rows * (s.dim + width);
    return (weights + activations) * sizeof(bf16);
}

double ffn_flops(const shape &s, double rows, int width)
{
    return 2 * rows * 3 * s.dim * width;
}

/* Both did the same work, or their times say nothing. */
static void compare(rig &r, const std::vector<bf16> &ours, const std::vector<bf16> &other,
                    const char *name)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < ours.size(); i++) {
        double x = (double)bf16_to_float(ours[i]), y = (double)bf16_to_float(other[i]);
        error += (x - y) * (x - y);
        size += x * x;
    }
    if (error <= 1e-4 * size && size > 0)
        return;
    printf("| %s: RMS error %.3g of %.3g | | | | | | |\n", name, error, size);
    r.good = false;
}

struct many {
    rig &r;
    routing route;
    const void *x;
    void *y;
    std::vector<bf16> ours, other; // what a first layer gives

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
    measure(r, m.work_of("as a model calls it", true, as_called));
    measure(r, m.work_of("our tiles", true, tiles));
    tiles(0);
    dev_download(&r.d, m.ours.data(), m.y, m.ours.size() * sizeof(bf16));
    as_called(0);
    dev_download(&r.d, m.other.data(), m.y, m.other.size() * sizeof(bf16));
    if (dev_wait(&r.d) == 0)
        compare(r, m.ours, m.other, "our tiles");
}

static void measure_cublas(many &m, bool grouped)
{
    rig &r = m.r;
    const char *name = grouped ? "cuBLAS grouped" : "cuBLAS in a loop";
    blas_ffn *b = blas_ffn_open(r, m.route, m.x);
    if (dev_wait(&r.d) == 0 && blas_ffn_run(r, b, 0, grouped, m.other.data()) &&
        dev_wait(&r.d) == 0) {
        compare(r, m.ours, m.other, name);
        measure(r, m.work_of(name, false, [&](int i) { blas_ffn_run(r, b, i, grouped, NULL); }));
    }
    blas_ffn_close(b);
}

static void measure_case(rig &r, int rows, bool skewed)
{
    char title[96];
    many m = {r, random_routing(r, rows, skewed), random_rows(r, rows, r.s.dim), NULL, {}, {}};
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
