/* The inner loops that differ between the CPU's instruction sets: one table for each set. All other
 * code in cpu/ is written once and calls them.
 *
 * A packed matrix is a sequence of panels of 16 outputs. A panel holds all inputs of its outputs,
 * and is read from beginning to end: bf16 as [k/2][16][2] (pairs, as vdpbf16ps and AMX tiles read
 * them), f16 and f32 as [k][16]. k is padded with zeros to a multiple of 32, outputs to one of 16.
 *
 * Every sum has one accumulator, or a fixed set of lanes, and runs over its index in a fixed order.
 * So no result depends on how the rows are divided into calls. A length n may be any number, unless
 * a comment says otherwise. */
#pragma once

#include "kernels/device.h"
#include "kernels/kernels.h"

enum { PANEL = 16, GROUP = 4, GROUP_COLUMNS = GROUP * PANEL, FEW_ROWS = 16 };

/* How a product is divided. One call of a tile function makes the sums of a block of rows and some
 * panels; an item, which one thread works on, is one or several of these. */
struct blocking {
    int rows;     // the most that are given to one call; with its panels at most CALL_SUMS sums
    int row_step; // a number that they are best a multiple of
    // With up to FEW_ROWS rows panels and item_panels are GROUP.
    int panels;                 // of a call, at most GROUP
    int item_rows, item_panels; // the most of an item; 0 rows: all
};
enum {
    CALL_SUMS = 192 * 2 * PANEL,
    MOST_BLOCK_ROWS = 64 // struct blocking's rows, of vectors
};

/* c [rows][ldc] := x [rows][ldx] w^T, or += if add. w is `panels` panels, one after the other, of k
 * inputs each; k is a multiple of 32, rows at most the blocking's. Writes 16 * panels columns of
 * c.
 */
typedef void tile_fn(float *c, int ldc, const void *x, size_t ldx, const void *w, int panels,
                     int rows, int k, bool add);

/* The same for quantised weights; x [rows] are ldx groups each (quant.h). The bits of plain C. */
struct quant_group;
typedef void quant_tile_fn(float *c, int ldc, const struct quant_group *x, size_t ldx,
                           const void *w, int panels, int rows, int k);

/* See the end of struct cpu_isa. */
typedef double spin_fn(long rounds, float *sink);

struct cpu_isa {
    tile_fn *tile[3];                       // by dtype
    quant_tile_fn *quant_tile[QUANT_COUNT]; // none for QUANT_NONE
    // tiles: of bf16 products, where the set has tiles for them; quantised: of those with
    // quantised weights, where they are not as vectors are
    struct blocking vectors, tiles, quantised;

    /* A row of n numbers, a multiple of 32, in groups. The bits of plain C. */
    void (*quantise)(struct quant_group *to, const void *x, enum dtype type, int n);
    /* to := from, rounded */
    void (*store)(void *to, enum dtype type, const float *from, int n);
    /* The same, past the caches where the set can. Other threads see it after a fence. */
    void (*store_past)(void *to, enum dtype type, const float *from, int n);
    /* The sum of x^2 */
    float (*squares)(const float *x, int n);
    /* h := x * a * weight */
    void (*weigh)(void *h, enum dtype type, const float *x, float a, const float *weight, int n);
    /* h := silu(gate) * up */
    void (*swiglu)(void *h, enum dtype type, const float *gate, const float *up, int n);
    /* x += a * y */
    void (*add_scaled)(float *x, const void *y, enum dtype type, float a, int n);
    /* x *= a */
    void (*scale)(float *x, float a, int n);
    /* Returns the sum of exp(s - shift); writes the terms to p unless p is NULL. p may be s. */
    float (*exp_row)(float *p, const float *s, float shift, int n);
    /* One block of online softmax. Raises *max to the largest score so far, then
     * p [KV_BLOCK] := exp(s - *max) for the first `valid` (>= 1) keys and 0 for the others, and
     * *sum becomes the sum of the terms so far. Returns the factor by which the caller must
     * multiply the sums it made of earlier blocks. */
    float (*softmax_block)(void *p, enum dtype type, const float *s, int valid, float *max,
                           float *sum);
    /* y := x with its two halves rotated (kernels.h, rope_append), times scale; y may be x */
    void (*rope)(float *y, const float *x, const float *cosines, const float *sines, int half,
                 float scale);

    /* For measuring the roof. spin does `rounds` rounds of tile's arithmetic on registers, and
     * returns the number of FLOPs. read returns a sum over memory. */
    spin_fn *spin[3], *quant_spin[QUANT_COUNT];
    float (*read)(const void *from, size_t bytes);
};

extern const struct cpu_isa isa_plain, isa_avx2, isa_avx512;
extern const struct cpu_isa isa_avx_vnni; // isa_avx2 with quantised products by VNNI
extern const struct cpu_isa isa_amx;      // isa_avx512 with bf16 products by tiles
tile_fn amx_tile_bf16;
/* The same of one row, by vectors: c [panels][PANEL], the same bits. */
void amx_row_bf16(float *c, const void *x, const void *w, int panels, int k, bool add);
/* 192 rows of 2048 inputs take 768 KB of L2's 2 MB, and stay there while an item's panels pass */
#define AMX_BLOCKING       .rows = 192, .row_step = 32, .panels = 2, .item_rows = 192, .item_panels = 32
#define AMX_QUANT_BLOCKING .rows = 96, .row_step = 16, .panels = GROUP, .item_panels = GROUP
spin_fn amx_spin_bf16;
quant_tile_fn amx_tile_q8, amx_tile_q4; // quant_amx.c
spin_fn amx_spin_quant;
quant_tile_fn avx2_tile_q8, avx2_tile_q4; // quant_avx2.c
spin_fn avx2_spin_q8, avx2_spin_q4;
quant_tile_fn avx_vnni_tile_q8, avx_vnni_tile_q4; // quant_avx_vnni.c
spin_fn avx_vnni_spin_q8, avx_vnni_spin_q4;
quant_tile_fn avx512_tile_q8, avx512_tile_q4; // quant_avx512.c
spin_fn avx512_spin_q8, avx512_spin_q4;
void avx2_quantise(struct quant_group *to, const void *x, enum dtype type, int n);

/* exp(x) = 2^n e^r with |r| <= ln(2) / 2 and a polynomial for e^r (from Cephes, expf); the error is
 * 1 to 2 ulp. Below EXP_LOW the result is 0; from 127.5 ln(2) = 88.376 on, where n is 128, it is
 * infinite. ln(2) is EXP_LN2_A + EXP_LN2_B, so that n * EXP_LN2_A is exact. */
#define EXP_LOW   -87.3f
#define EXP_HIGH  89.0f
#define EXP_LOG2E 1.44269504f
#define EXP_ROUND 0x1.8p23f // x + EXP_ROUND has the integer nearest to x in its low bits
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

/* Where input i of output o is in a panel, in elements. */
static inline size_t panel_index(enum dtype type, size_t i, size_t o)
{
    return type == DTYPE_BF16 ? (i / 2 * PANEL + o) * 2 + i % 2 : i * PANEL + o;
}
