/* What sgemm.c and experts.c share: random weights and rows, a device, and medians. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/noise.h"
#include "kernels/ops.h"

enum { MOST_CALLS = 99, MOST_SIZES = 16 };

/* bf16 noise of the size that weights have. */
static inline const struct noise *weight_noise(void)
{
    static struct noise noise;
    if (noise.deviation == 0)
        noise_build(&noise, DTYPE_BF16, 0.02);
    return &noise;
}

/* Open the CPU with the best instruction set, or the one that EPMOE_ISA names. */
static inline void open_cpu(struct dev *d, int threads)
{
    enum isa isa;
    if (isa_choose(&isa, isa_available()))
        exit(2);
    dev_open_cpu(d, isa, threads);
}

static inline struct matrix empty_matrix(struct dev *d, int n, int k)
{
    void *data = dev_alloc(d, matrix_bytes(d, DTYPE_BF16, QUANT_NONE, n, k));
    return (struct matrix){.type = DTYPE_BF16, .n = n, .k = k, .data = data};
}

static inline int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the values. */
static inline double median(double *values, int n)
{
    qsort(values, (size_t)n, sizeof *values, ascending);
    return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

/* Numbers of at least 1, with commas between them, to list. Returns how many. */
static inline int parse_sizes(int *list, const char *text)
{
    int n = 0;
    for (char *end; n < MOST_SIZES; text = end + 1) {
        long size = strtol(text, &end, 10);
        if (end == text || size < 1 || size > 1 << 20 || (*end && *end != ','))
            break;
        list[n++] = (int)size;
        if (!*end)
            return n;
    }
    fprintf(stderr, "expected at most %d numbers from 1 on, as 1,8,32; found '%s'\n", MOST_SIZES,
            text);
    exit(2);
}
