#include "base/noise.h"

#include <math.h>

static double upper_tail(double x)
{
    return 0.5 * erfc(x * M_SQRT1_2);
}

static double density(double x)
{
    return exp(-0.5 * x * x) * 0.5 * M_2_SQRTPI * M_SQRT1_2;
}

/* The x above which the share `tail` of a standard normal distribution lies, by Newton's method
 * from a smaller x >= 0. There the upper tail is convex and falls, so no step goes past the
 * solution. */
static double quantile_from(double x, double tail)
{
    for (int i = 0; i < 60; i++) {
        double step = (upper_tail(x) - tail) / density(x);
        x += step;
        if (fabs(step) < 1e-13)
            break;
    }
    return x;
}

static void set_level(struct noise *n, size_t i, double value)
{
    if (n->type == DTYPE_F32)
        n->level.single[i] = (float)value;
    else
        dtype_store(n->type, n->level.half, i, (float)value);
}

void noise_build(struct noise *n, enum dtype type, double deviation)
{
    double x = 0;
    n->type = type;
    n->deviation = deviation;
    for (size_t i = 0; i < NOISE_LEVELS / 2; i++) {
        x = quantile_from(x, 0.5 - ((double)i + 0.5) / NOISE_LEVELS);
        set_level(n, NOISE_LEVELS / 2 + i, deviation * x);
        set_level(n, NOISE_LEVELS / 2 - 1 - i, -deviation * x);
    }
}

static uint16_t draw_one(uint64_t key, uint64_t i)
{
    return (uint16_t)(noise_draw(key, i / NOISE_DRAWS) >> 16 * (i % NOISE_DRAWS));
}

/* The loop of noise_fill, for elements of two or four bytes: single elements up to the first that
 * begins a draw, then whole draws, then the single elements that are left. */
#define FILL(levels, out)                                                                          \
    do {                                                                                           \
        size_t i = 0;                                                                              \
        for (; i < count && (first + i) % NOISE_DRAWS; i++)                                        \
            (out)[i] = (levels)[draw_one(key, first + i)];                                         \
        for (; i + NOISE_DRAWS <= count; i += NOISE_DRAWS) {                                       \
            uint64_t r = noise_draw(key, (first + i) / NOISE_DRAWS);                               \
            (out)[i] = (levels)[r & 0xffff];                                                       \
            (out)[i + 1] = (levels)[r >> 16 & 0xffff];                                             \
            (out)[i + 2] = (levels)[r >> 32 & 0xffff];                                             \
            (out)[i + 3] = (levels)[r >> 48];                                                      \
        }                                                                                          \
        for (; i < count; i++)                                                                     \
            (out)[i] = (levels)[draw_one(key, first + i)];                                         \
    } while (0)

void noise_fill(const struct noise *n, uint64_t key, uint64_t first, size_t count, void *out)
{
    if (n->type == DTYPE_F32)
        FILL(n->level.single, (float *)out);
    else
        FILL(n->level.half, (uint16_t *)out);
}
