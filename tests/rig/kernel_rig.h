/* What the kernel tests share: opening one device after the other, its memory and calls
 * (tests/rig/kernel_buffers.h, tests/rig/kernel_calls.h), random numbers and comparisons. Each test
 * includes this file once. */
#pragma once

#include "base/log.h"
#include "kernels/cases.h"
#include "kernels/cpu/isa.h"
#include "tests/rig/cm.h"
#include "tests/rig/kernel_calls.h"
#include "tests/rig/only.h"
#include "tests/rig/pairs.h"
#include "tests/rig/tiles_in_c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

static enum dtype type;  // the model's type in the present test
static enum quant quant; // how its weights are kept; a test that changes this changes it back

static inline const char *path_name(void)
{
    if (on_gpu())
        return strcmp(getenv("EPMOE_EARLY"), "0") == 0 ? "cuda, none early" : "cuda";
    return isa_name(dev.isa);
}

static inline void reserve(void)
{
    dev_reserve(&dev, &(struct dev_limits){.type = DTYPE_F32,
                                           .rows = 400,
                                           .ffn_width = 1408,
                                           .pieces = 8,
                                           .piece_width = 1408,
                                           .piece_rows = 140,
                                           .dim = 2048,
                                           .n_heads = 40,
                                           .head_dim = 128,
                                           .n_experts = 64,
                                           .context = 2048,
                                           .vocab = 151936,
                                           .logit_rows = 8,
                                           .quantised = true});
}

static inline bool is_here(enum isa isa)
{
    return isa_available() >> isa & 1;
}

/* The loops of an instruction set that the processor lacks, with products in plain C, or NULL. */
static inline const struct cpu_isa *stand_in(enum isa isa)
{
    if (is_here(isa))
        return NULL;
    if (isa == ISA_AVX_VNNI)
        return is_here(ISA_AVX2) ? avx_vnni_in_c() : NULL;
    return isa == ISA_AMX ? tiles_in_c() : isa == ISA_AVX512 ? vnni_in_c() : NULL;
}

/* Open the CPU's device. */
static inline void open_dev(enum isa isa, int threads)
{
    const struct cpu_isa *in_c = stand_in(isa);
    dev_open_cpu(&dev, in_c ? ISA_PLAIN : isa, threads);
    if (in_c) {
        dev.isa = isa;
        dev.cpu = in_c;
    }
    reserve();
}

/* Open the GPU in one of two ways: 0 with early launches (kernels/cuda/launch.cuh), 1 without.
 * Returns false for any other way, or if there is no GPU. */
static inline bool open_gpu(int way)
{
    if (cuda_count() == 0)
        print_message("           cuda: skipped, no GPU here\n");
    if (cuda_count() == 0 || way > 1)
        return false;
    setenv("EPMOE_EARLY", way == 0 ? "1" : "0", 1);
    assert_int_equal(dev_open_cuda(&dev, 0, ISA_PLAIN, 1), 0);
    reserve();
    return true;
}

/* Free what a test that failed has left: its buffers, which its device may still have had. */
static inline void start_over(void)
{
    away = false;
    drain();
}

static inline void in_types(enum dtype first, void (*body)(void))
{
    for (type = first; type <= DTYPE_BF16; type++) {
        body();
        drain();
    }
    close_dev();
}

/* Run `body` on the GPU in both ways and for every type; in the second way only for bf16 if pairs
 * are enough, as that way finds fewer errors: less runs at the same time. */
static inline void on_the_gpu(void (*body)(void))
{
    start_over();
    for (int way = 0; open_gpu(way); way++)
        in_types(way && pairs_only() ? DTYPE_BF16 : DTYPE_F32, body);
}

/* Whether to try an instruction set; prints why not. */
static inline bool tries(enum isa isa)
{
    bool here = is_here(isa) || stand_in(isa);
    if (!here || only_cuda())
        print_message("           %s: skipped, %s\n", isa_name(isa),
                      here ? "only the GPU is wanted" : "not here");
    return here && !only_cuda();
}

/* Whether another set has the same loops but for products of bf16 or quantised weights, which need
 * no other type to be tried. */
static inline bool only_products_differ(enum isa isa)
{
    return isa == ISA_AVX_VNNI || isa == ISA_AMX || stand_in(isa);
}

/* Run `body` for every instruction set and type. */
static inline void on_every_cpu(void (*body)(void))
{
    start_over();
    for (int i = 0; i < ISA_COUNT; i++)
        if (tries((enum isa)i)) {
            open_dev((enum isa)i, 1);
            in_types(only_products_differ((enum isa)i) ? DTYPE_BF16 : DTYPE_F32, body);
        }
}

/* Run `body` for every instruction set and type, and on a GPU if there is one. */
static inline void everywhere(void (*body)(void))
{
    on_every_cpu(body);
    on_the_gpu(body);
}

/* Called by a test that uses no GPU: skips it if only the GPU is to be tried. */
static inline void skip_without_cpu(void)
{
    if (only_cuda())
        skip();
}

static uint64_t seed = 1;

static inline float uniform(void) // -1 .. 1
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(int32_t)(seed >> 32) * 0x1p-31f;
}

static inline float *floats(size_t n, float range)
{
    float *x = buffer(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = uniform() * range;
    return x;
}

/* A buffer of n rows of random values from -range to range, zero beyond the width. */
static inline void *typed_rows(int n, int width, float range)
{
    void *x = buffer((size_t)n * row_bytes(type, width));
    for (int r = 0; r < n; r++)
        for (int i = 0; i < width; i++)
            dtype_store(type, x, (size_t)r * (size_t)row_stride(width) + (size_t)i,
                        uniform() * range);
    return x;
}

static inline double at(const void *rows, int width, int r, int i)
{
    return dtype_load(type, rows, (size_t)r * (size_t)row_stride(width) + (size_t)i);
}

static inline void *row_of(const void *rows, enum dtype as, int width, int r)
{
    return (char *)rows + (size_t)r * row_bytes(as, width);
}

static inline void near(double found, double wanted, double bound, const char *what)
{
    if (fabs(found - wanted) <= bound + CASE_TINY)
        return;
    print_error("%s, %s, %s: %.9g, not %.9g +- %.3g\n", path_name(), dtype_name(type), what, found,
                wanted, bound);
    assert_true(fabs(found - wanted) <= bound + CASE_TINY);
}

static inline void same(const void *a, const void *b, size_t bytes, const char *what)
{
    if (memcmp(a, b, bytes) == 0)
        return;
    print_error("%s, %s: %s changes bits\n", path_name(), dtype_name(type), what);
    assert_memory_equal(a, b, bytes);
}

/* A weight matrix on the device, and its source, whose values are rounded to the type. */
struct weights {
    struct matrix m;
    float *source; // [n][k]
};

static inline float *random_source(int n, int k)
{
    float *w = scratch((size_t)n * (size_t)k * sizeof *w);
    for (int i = 0; i < n * k; i++)
        w[i] = dtype_round(type, uniform());
    return w;
}

static inline struct matrix new_matrix(int n, int k)
{
    return (struct matrix){.type = type,
                           .n = n,
                           .k = k,
                           .data = device_memory(matrix_bytes(&dev, type, quant, n, k)),
                           .quant = quant};
}

static inline struct weights random_weights(int n, int k, bool bias)
{
    struct weights w = {.m = new_matrix(n, k), .source = random_source(n, k)};
    matrix_pack(&dev, &w.m, 0, &(struct values){.data = w.source}, n);
    w.m.bias = bias ? floats((size_t)n, 1) : NULL;
    return w;
}
