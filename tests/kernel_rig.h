/* What the kernel tests share: a device at a time, memory that the sanitizers watch, random numbers
 * and comparisons. Each test includes it once. */
#pragma once

#include "base/log.h"
#include "kernels/cases.h"
#include "kernels/cpu/isa.h"
#include "kernels/ops.h"
#include "tests/cm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof *(array)))

/* A GPU reads host memory that was allocated through it, and its results are there after a wait: so
 * a test that takes all its memory from buffer() runs on any device unchanged. */
static inline void settle(void);
#define embed(...)       (embed(__VA_ARGS__), settle())
#define rmsnorm(...)     (rmsnorm(__VA_ARGS__), settle())
#define matmul(...)      (matmul(__VA_ARGS__), settle())
#define matmul_add(...)  (matmul_add(__VA_ARGS__), settle())
#define run_ffn(...)     (run_ffn(__VA_ARGS__), settle())
#define rope_append(...) (rope_append(__VA_ARGS__), settle())
#define attention(...)   (attention(__VA_ARGS__), settle())
#define route_rows(...)  (route_rows(__VA_ARGS__), settle())
#define sort_rows(...)   (sort_rows(__VA_ARGS__), settle())
#define gather(...)      (gather(__VA_ARGS__), settle())
#define add_norm(...)    (add_norm(__VA_ARGS__), settle())
#define sum_rows(...)    (sum_rows(__VA_ARGS__), settle())
#define narrow_rows(...) (narrow_rows(__VA_ARGS__), settle())
#define widen_rows(...)  (widen_rows(__VA_ARGS__), settle())
#define mark_tokens(...) (mark_tokens(__VA_ARGS__), settle())
#define penalise(...)    (penalise(__VA_ARGS__), settle())
#define top_tokens(...)  (top_tokens(__VA_ARGS__), settle())
#define matrix_pack(...) (matrix_pack(__VA_ARGS__), settle())
#define fill_values(...) (fill_values(__VA_ARGS__), settle())

static struct dev dev;    // what the present test runs on
static enum dtype type;   // the model's type in it
static void *pool[10000]; // freed after each pass
static int pooled;

static inline bool on_gpu(void)
{
    return dev.cuda != NULL;
}

static inline void settle(void)
{
    assert_int_equal(dev_wait(&dev), 0);
}

static inline const char *path_name(void)
{
    return on_gpu() ? dev.kernels->name : isa_name(dev.isa);
}

/* Zeroed; until drain(), or on a GPU until it is closed. */
static inline void *buffer(size_t bytes)
{
    if (on_gpu())
        return dev_alloc_host(&dev, bytes);
    assert_true(pooled < LENGTH(pool));
    assert_int_equal(posix_memalign(&pool[pooled], 64, bytes ? bytes : 1), 0);
    return memset(pool[pooled++], 0, bytes);
}

static inline void drain(void)
{
    while (pooled)
        free(pool[--pooled]);
}

static inline void reserve(void)
{
    dev_reserve(&dev, &(struct dev_limits){.type = DTYPE_F32,
                                           .rows = 400,
                                           .ffn_width = 1408,
                                           .dim = 2048,
                                           .n_heads = 40,
                                           .head_dim = 128,
                                           .n_experts = 64,
                                           .context = 2048,
                                           .vocab = 151936,
                                           .logit_rows = 8});
}

static inline void open_dev(enum isa isa, int threads)
{
    dev_open_cpu(&dev, isa, threads);
    reserve();
}

static inline void every_type(void (*body)(void))
{
    for (type = DTYPE_F32; type <= DTYPE_BF16; type++) {
        body();
        drain();
    }
    dev_close(&dev);
}

static inline void on_the_gpu(void (*body)(void))
{
    if (cuda_count() == 0) {
        print_message("           cuda: skipped, no GPU here\n");
        return;
    }
    assert_int_equal(dev_open_cuda(&dev, 0, ISA_PLAIN, 1), 0);
    reserve();
    every_type(body);
}

/* Run `body` for every instruction set and type. */
static inline void on_every_cpu(void (*body)(void))
{
    for (int i = 0; i < ISA_COUNT; i++) {
        if (!(isa_available() >> i & 1)) {
            print_message("           %s: skipped, not here\n", isa_name((enum isa)i));
            continue;
        }
        open_dev((enum isa)i, 1);
        every_type(body);
    }
}

/* ... and on a GPU, if there is one. */
static inline void everywhere(void (*body)(void))
{
    on_every_cpu(body);
    on_the_gpu(body);
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

/* n rows of a width, of the type, zero beyond; any values. */
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

/* A weight matrix beside its source, which has values of the type already. */
struct weights {
    struct matrix m;
    float *source; // [n][k]
};

static inline float *random_source(int n, int k)
{
    float *w = buffer((size_t)n * (size_t)k * sizeof *w);
    for (int i = 0; i < n * k; i++)
        w[i] = dtype_round(type, uniform());
    return w;
}

static inline struct weights random_weights(int n, int k, bool bias)
{
    struct weights w = {.m = {type, n, k, buffer(matrix_bytes(&dev, type, n, k)), NULL}};
    w.source = random_source(n, k);
    matrix_pack(&dev, &w.m, 0, &(struct values){.data = w.source}, n);
    w.m.bias = bias ? floats((size_t)n, 1) : NULL;
    return w;
}
