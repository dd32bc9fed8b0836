/* What differs between the CPU's instruction sets: one table of inner loops each. All else in cpu/
 * is written once, on top of these.
 *
 * A packed matrix is a sequence of panels of 16 outputs, each with all of its inputs, so that
 * a panel is read as one stream: bf16 as [k/2][16][2] (pairs, as vdpbf16ps and tiles want them),
 * f16 and f32 as [k][16]. k is padded to a multiple of 32 and outputs to 16, with zeros.
 *
 * Every sum is one accumulator (or a fixed set of lanes) over a fixed order of its index, so
 * nothing here depends on how rows are cut into calls. Lengths n need no padding unless said. */
#pragma once

#include "kernels/device.h"
#include "kernels/kernels.h"

enum { PANEL = 16, GROUP = 4, GROUP_COLUMNS = GROUP * PANEL };

/* c [rows][ldc] := (or += when add) x [rows][ldx] w^T for consecutive panels w of k inputs each;
 * k a multiple of 32. Writes 16 * panels columns. */
typedef void tile_fn(float *c, int ldc, const void *x, size_t ldx, const void *w, int panels,
                     int rows, int k, bool add);

struct cpu_isa {
    tile_fn *tile[3]; // by dtype

    /* to := from, rounded */
    void (*store)(void *to, enum dtype type, const float *from, int n);
    /* h := x / sqrt(mean(x^2) + eps) * weight */
    void (*rmsnorm)(void *h, enum dtype type, const float *x, const float *weight, int n,
                    float eps);
    /* h := silu(gate) * up */
    void (*swiglu)(void *h, enum dtype type, const float *gate, const float *up, int n);
    /* x += a * y */
    void (*add_scaled)(float *x, const void *y, enum dtype type, float a, int n);
    /* x *= a */
    void (*scale)(float *x, float a, int n);
    /* sum of exp(s - shift); the terms go to p unless it is NULL (p may be s) */
    float (*exp_row)(float *p, const float *s, float shift, int n);
    /* One block of online softmax: p [KV_BLOCK] := exp(s - max) for the first `valid` (>= 1) keys
     * and 0 for the rest, with max and sum carried from block to block. Returns what earlier
     * blocks' sums are to be multiplied with. */
    float (*softmax_block)(void *p, enum dtype type, const float *s, int valid, float *max,
                           float *sum);
    /* y := x rotated by halves, times scale */
    void (*rope)(float *y, const float *x, const float *cosines, const float *sines, int half,
                 float scale);

    /* Roofs: FLOPs done by `rounds` rounds of tile's arithmetic on registers; a sum over memory. */
    double (*spin[3])(long rounds, float *sink);
    float (*read)(const void *from, size_t bytes);
};

extern const struct cpu_isa isa_plain, isa_avx2, isa_avx512;

/* exp(x) = 2^n e^r: |r| <= ln(2) / 2, and a polynomial for e^r (Cephes), 1 to 2 ulp. Below EXP_LOW
 * the result is 0; from 127.5 ln(2) = 88.376 on, where n is 128, it is infinite. */
#define EXP_LOW   -87.3f
#define EXP_HIGH  89.0f
#define EXP_LOG2E 1.44269504f
#define EXP_ROUND 0x1.8p23f // adding it leaves the nearest integer in the low bits
#define EXP_LN2_A 0.693359375f
#define EXP_LN2_B -2.12194440e-4f
#define EXP_C2    0.50000001201f
#define EXP_C3    0.16666665459f
#define EXP_C4    0.041665795894f
#define EXP_C5    0.0083334519073f
#define EXP_C6    0.0013981999507f
#define EXP_C7    0.00019875691500f

static inline int panel_count(int n)
{
    return (n + PANEL - 1) / PANEL;
}

static inline size_t panel_bytes(enum dtype type, int k)
{
    return (size_t)PANEL * (size_t)row_stride(k) * (size_t)dtype_bytes(type);
}

static inline size_t row_bytes(enum dtype type, int width)
{
    return (size_t)row_stride(width) * (size_t)dtype_bytes(type);
}

/* Where input i of a panel's output o is, in elements. */
static inline size_t panel_index(enum dtype type, size_t i, size_t o)
{
    return type == DTYPE_BF16 ? (i / 2 * PANEL + o) * 2 + i % 2 : i * PANEL + o;
}
