#include "model/noise.h"

#include <math.h>

#include "base/hash.h"

enum { DRAWS = 4 }; // 16-bit draws of one 64-bit number

static double upper_tail(double x)
{
    return 0.5 * erfc(x * M_SQRT1_2);
}

static double density(double x)
{
    return exp(-0.5 * x * x) * 0.5 * M_2_SQRTPI * M_SQRT1_2;
}

/* Newton's steps towards the x above which `tail` lies. From below, where the distribution is
 * concave, they never step past it. */
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
    for (size_t i = 0; i < NOISE_LEVELS / 2; i++) {
        x = quantile_from(x, 0.5 - ((double)i + 0.5) / NOISE_LEVELS);
        set_level(n, NOISE_LEVELS / 2 + i, deviation * x);
        set_level(n, NOISE_LEVELS / 2 - 1 - i, -deviation * x);
    }
}

static uint64_t draw(uint64_t key, uint64_t counter)
{
    return hash_mix(key + counter * 0x9e3779b97f4a7c15u);
}

/* The same loop for both widths of element. */
#define FILL(levels, out)                                                                          \
    do {                                                                                           \
        size_t whole = count / DRAWS;                                                              \
        for (size_t i = 0; i < whole; i++) {                                                       \
            uint64_t r = draw(key, first / DRAWS + i);                                             \
            (out)[i * DRAWS] = (levels)[r & 0xffff];                                               \
            (out)[i * DRAWS + 1] = (levels)[r >> 16 & 0xffff];                                     \
            (out)[i * DRAWS + 2] = (levels)[r >> 32 & 0xffff];                                     \
            (out)[i * DRAWS + 3] = (levels)[r >> 48];                                              \
        }                                                                                          \
        for (size_t i = whole * DRAWS; i < count; i++)                                             \
            (out)[i] = (levels)[draw(key, (first + i) / DRAWS) >> 16 * (i % DRAWS) & 0xffff];      \
    } while (0)

void noise_fill(const struct noise *n, uint64_t key, uint64_t first, size_t count, void *out)
{
    if (n->type == DTYPE_F32)
        FILL(n->level.single, (float *)out);
    else
        FILL(n->level.half, (uint16_t *)out);
}
