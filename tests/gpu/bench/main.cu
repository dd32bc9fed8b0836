#include <algorithm>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/gpu/bench/bench.h"

static const shape QWEN = {2048, 16, 128, 60, 4, 1408, 5632, 151936, 1500, 1520, 16, 4, 16};
static const shape TINY = {64, 2, 32, 6, 2, 32, 64, 512, 70, 80, 2, 2, 2};

/* ---- memory ---- */

static struct values noise_of(rig &r, const struct noise *n)
{
    return {n->type, NULL, n, ++r.keys, 0, 0, 0};
}

struct matrix random_matrix(rig &r, int n, int k)
{
    struct matrix m = {
        DTYPE_BF16, n,         k, dev_alloc(&r.d, matrix_bytes(&r.d, DTYPE_BF16, QUANT_NONE, n, k)),
        NULL,       QUANT_NONE};
    struct values source = noise_of(r, r.weights);
    matrix_pack(&r.d, &m, 0, &source, n);
    return m;
}

void *random_rows(rig &r, int n, int width)
{
    size_t count = (size_t)n * (size_t)row_stride(width);
    struct values source = noise_of(r, r.activations);
    void *rows = dev_alloc(&r.d, count * sizeof(bf16));
    CHECK(width % ROW_ALIGN == 0, "rows of %d have padding", width);
    fill_values(&r.d, rows, &source, count);
    return rows;
}

float *random_floats(rig &r, size_t n)
{
    struct values source = noise_of(r, r.floats);
    float *x = (float *)dev_alloc(&r.d, n * sizeof *x);
    fill_values(&r.d, x, &source, n);
    return x;
}

int32_t *to_device(rig &r, const std::vector<int32_t> &host)
{
    size_t bytes = host.size() * sizeof(int32_t);
    int32_t *to = (int32_t *)dev_alloc(&r.d, bytes);
    dev_upload(&r.d, to, host.data(), bytes);
    return to;
}

/* A layer's routed experts, or one dense block. */
static struct ffn_list *random_blocks(rig &r, int n, int width)
{
    struct ffn_list *list = (struct ffn_list *)arena_alloc(&r.d.memory, sizeof *list);
    struct ffn *f = (struct ffn *)arena_alloc(&r.d.memory, (size_t)n * sizeof *f);
    for (int i = 0; i < n; i++)
        f[i] = {random_matrix(r, 2 * row_stride(width), r.s.dim), random_matrix(r, r.s.dim, width)};
    list->ffns = f;
    list->n = n;
    ffn_list_open(&r.d, list);
    return list;
}

/* ---- routing ---- */

static double uniform(rig &r)
{
    return (double)(hash_mix(++r.keys) >> 11) * 0x1p-53;
}

/* Even: any expert. Skewed: expert e about as often as 1 / (e + 1). */
static int draw_expert(rig &r, bool skewed)
{
    int n = r.s.experts;
    int e = skewed ? (int)(exp(uniform(r) * log(n + 1.0)) - 1) : (int)(uniform(r) * n);
    return std::min(e, n - 1);
}

routing random_routing(rig &r, int rows, bool skewed)
{
    int k = r.s.top_k, n = r.s.experts;
    std::vector<int32_t> expert((size_t)(rows * k)), slot(expert.size()), source(expert.size());
    std::vector<int32_t> count((size_t)n), first((size_t)n);
    for (int i = 0; i < rows * k; i++) {
        auto begin = expert.begin() + i / k * k, end = expert.begin() + i;
        do
            expert[(size_t)i] = draw_expert(r, skewed);
        while (std::find(begin, end, expert[(size_t)i]) != end);
        count[(size_t)expert[(size_t)i]]++;
    }
    for (int e = 1; e < n; e++)
        first[(size_t)e] = first[(size_t)e - 1] + count[(size_t)e - 1];
    for (int i = 0; i < rows * k; i++) {
        slot[(size_t)i] = first[(size_t)expert[(size_t)i]]++;
        source[(size_t)slot[(size_t)i]] = i / k;
    }
    int hit = (int)std::count_if(count.begin(), count.end(), [](int32_t c) { return c > 0; });
    return {rows,
            rows * k,
            hit,
            count,
            to_device(r, expert),
            to_device(r, count),
            to_device(r, source),
            to_device(r, slot)};
}

/* ---- weights ---- */

static struct noise *new_noise(rig &r, enum dtype type, double deviation)
{
    struct noise *n = (struct noise *)arena_alloc(&r.d.memory, sizeof *n);
    noise_build(n, type, deviation);
    return n;
}

static void make_weights(rig &r)
{
    const shape &s = r.s;
    int heads = s.heads * s.head_dim;
    for (int i = 0; i < s.layers; i++)
        r.experts.push_back(random_blocks(r, s.experts, s.width));
    for (int i = 0; i < s.copies; i++) {
        r.shared.push_back(random_blocks(r, 1, s.shared));
        r.qkv.push_back(random_matrix(r, 3 * heads, s.dim));
        r.qkv.back().bias = random_floats(r, (size_t)(3 * heads));
        r.o.push_back(random_matrix(r, s.dim, heads));
        r.router.push_back(random_matrix(r, s.experts + 1, s.dim));
    }
    r.unembed = random_matrix(r, s.vocab, s.dim);
}

void compare(rig &r, const std::vector<float> &ours, const std::vector<float> &other,
             const char *name)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < ours.size(); i++) {
        double x = (double)ours[i], y = (double)other[i];
        error += (x - y) * (x - y);
        size += x * x;
    }
    if (error <= 1e-4 * size && size > 0)
        return;
    printf("| %s: RMS error %.3g of %.3g | | | | | | |\n", name, error, size);
    r.good = false;
}

/* ---- the program ---- */

enum mode { PHASES, COPIES, VARIANTS, HEAVY };

void reserve(rig &r)
{
    const shape &s = r.s;
    int most = s.prompt < 4096 && s.dim > 64 ? 4096 : s.prompt; // see measure_experts
    struct dev_limits limits = {DTYPE_BF16, most * s.top_k, s.width,     1,          s.shared,
                                s.prompt,   s.dim,          s.heads,     s.head_dim, s.experts,
                                s.context,  s.vocab,        s.sequences, false};
    dev_reserve(&r.d, &limits);
}

/* The roofs come before the weights: a GPU that is full cannot be measured. */
static bool open(rig &r, enum mode mode)
{
    reserve(r);
    r.weights = new_noise(r, DTYPE_BF16, 0.02);
    r.activations = new_noise(r, DTYPE_BF16, 1);
    r.floats = new_noise(r, DTYPE_F32, 1);
    if (mode != HEAVY) {
        r.flops = r.d.kernels->peak_flops(&r.d, DTYPE_BF16, false);
        r.bandwidth = r.d.kernels->read_bandwidth(&r.d, false);
        printf("roof: %.1f TFLOP/s bf16, %.0f GB/s read\n", r.flops * 1e-12, r.bandwidth * 1e-9);
    }
    make_weights(r);
    return dev_wait(&r.d) == 0;
}

static void measure_phases(rig &r)
{
    measure_launches(r);
    measure_step(r, 0);
    for (int batch = 1; batch <= r.s.sequences; batch *= 2)
        measure_step(r, batch);
    measure_experts(r);
}

static int run(rig &r, enum mode mode)
{
    if (mode == PHASES || mode == COPIES)
        measure_copies(r);
    if (mode == COPIES)
        return dev_wait(&r.d);
    if (mode == HEAVY)
        r.s.layers = r.s.copies = r.s.sequences = 1; // the less is to be made before
    if (!open(r, mode))
        return 1;
    if (mode == PHASES)
        measure_phases(r);
    else if (mode == VARIANTS)
        measure_variants(r);
    else
        play_heavy_kernels(r);
    return dev_wait(&r.d) || !r.good;
}

static int run_on_gpu(rig &r, enum mode mode)
{
    char text[256];
    cuda_describe(text, sizeof text);
    printf("CUDA %s\n", text);
    if (cuda_count() == 0)
        return 77;
    if (dev_open_cuda(&r.d, 0, ISA_PLAIN, 1) != 0)
        return 1;
    int status = 1;
    if (cudaEventCreate(&r.event[0]) == cudaSuccess && cudaEventCreate(&r.event[1]) == cudaSuccess)
        status = run(r, mode);
    for (cudaEvent_t event : r.event)
        if (event)
            cudaEventDestroy(event);
    dev_close(&r.d);
    return status;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: gpu_bench [--tiny] [MODE]\n"
            "  (none)             the phases of a layer, one by one and in order\n"
            "  --copies           to and from the GPU only\n"
            "  --variants         the ways that compete, and what their times decide\n"
            "  --profile-kernels  the heaviest kernels, for ncu: once to warm up, then once "
            "in the NVTX range \"profiled\"\n"
            "  --print-kernels    the regular expression of their names\n");
    return 2;
}

int main(int argc, char **argv)
{
    static rig r;
    enum mode mode = PHASES;
    r.s = QWEN;
    r.good = true;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--tiny") == 0)
            r.s = TINY;
        else if (strcmp(argv[i], "--copies") == 0)
            mode = COPIES;
        else if (strcmp(argv[i], "--variants") == 0)
            mode = VARIANTS;
        else if (strcmp(argv[i], "--profile-kernels") == 0)
            mode = HEAVY;
        else if (strcmp(argv[i], "--print-kernels") == 0)
            return puts(HEAVY_KERNELS) < 0;
        else
            return usage();
    return run_on_gpu(r, mode);
}
