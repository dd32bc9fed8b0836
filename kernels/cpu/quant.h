/* Products with quantised weights (base/quant.h): layout, arithmetic, and what quant.c offers the
 * other files.
 *
 * Rows are quantised, too, before a product: each group of 32 inputs has a scale in f32, its
 * largest magnitude / 127, and integers from -127 to 127. So a group's part of a sum is
 *
 *     (sum over 32 of x_i w_i) * (scale of w * scale of x)
 *
 * whose sum of integers is exact in any order. Its product with the scales is rounded as written
 * here: the two scales are multiplied, then the sum by that, then it is added to the sum of the
 * groups before. Nothing is fused. So all instruction sets give the same bits as plain C, and
 * a row's result depends on that row alone.
 *
 * A panel of 16 outputs is a sequence of blocks, one for each group of inputs: integers, then the
 * 16 scales. q8 has integers as [8][16][4], four inputs of each output beside each other, as the
 * dot products of bytes read them. q4 has bytes [4][16][4] in the same order: the low halves are
 * inputs 0 to 15 of the group and the high halves 16 to 31, each 8 more than the integer. */
#pragma once

#include "base/quant.h"
#include "kernels/cpu/isa.h"

enum {
    Q8_BYTES = QUANT_GROUP * PANEL, // of a block's integers
    Q4_BYTES = QUANT_GROUP / 2 * PANEL,
    Q4_ZERO = 8 // what is stored for 0
};

/* 32 inputs of a row. */
struct quant_group {
    float scale;
    int32_t sum; // of q
    int8_t q[QUANT_GROUP];
};

/* Of a block's integers, which its scales follow. */
static inline size_t quant_integer_bytes(enum quant quant)
{
    return quant == QUANT_Q8 ? Q8_BYTES : Q4_BYTES;
}

static inline size_t quant_block_bytes(enum quant quant)
{
    return (size_t)quant_group_bytes(quant) * PANEL;
}

static inline size_t quant_panel_bytes(enum quant quant, int k)
{
    return (size_t)(row_stride(k) / QUANT_GROUP) * quant_block_bytes(quant);
}

static inline size_t quant_row_bytes(int k)
{
    return (size_t)(row_stride(k) / QUANT_GROUP) * sizeof(struct quant_group);
}

/* Of a panel of w, and of a row that w is multiplied with. */
static inline size_t matrix_panel_bytes(const struct matrix *w)
{
    return w->quant ? quant_panel_bytes(w->quant, w->k) : panel_bytes(w->type, w->k);
}

static inline size_t matrix_input_bytes(const struct matrix *w)
{
    return w->quant ? quant_row_bytes(w->k) : row_bytes(w->type, w->k);
}

/* Rows that are to be quantised, by all threads of a team: each takes one row after the other. */
struct quant_rows {
    const struct cpu_isa *isa;
    char *to;      // [rows][quant_row_bytes(k)]
    const char *x; // rows of width k
    enum dtype type;
    const int32_t *source; // [rows] row i is row source[i] of x; NULL: row i
    int rows, k;
    int next; // the first row that no thread has taken
};
void quant_rows_run(struct quant_rows *q);

/* Write inputs [first, first + n) of output o of a panel; first is a multiple of QUANT_GROUP. */
void quant_pack(void *panel, enum quant quant, const float *from, size_t first, size_t n, size_t o);

/* The arithmetic of quantise() in isa.h, for each instruction set to compile by itself. */

/* The largest magnitude of 32 numbers. Magnitudes are compared as integers, in which infinity is
 * above all numbers and NaN above infinity. */
static inline __attribute__((always_inline)) float quant_largest(const float *x)
{
    uint32_t most = 0;
    for (int i = 0; i < QUANT_GROUP; i++) {
        uint32_t magnitude = float_to_bits(x[i]) & 0x7fffffff;
        most = magnitude > most ? magnitude : most;
    }
    return bits_to_float(most);
}

/* The nearest integer, ties to even: adding 1.5 * 2^23 leaves it in the low bits. */
static inline __attribute__((always_inline)) int32_t quant_nearest(float x)
{
    return (int32_t)float_to_bits(x + 0x1.8p23f) - 0x4b400000;
}

/* A group whose largest magnitude is not finite has zeros and the scale NaN: so has every sum that
 * it is part of. */
static inline __attribute__((always_inline)) void quant_group_of(struct quant_group *to,
                                                                 const float *x)
{
    int32_t q[QUANT_GROUP], sum = 0;
    float largest = quant_largest(x);
    bool finite = float_to_bits(largest) < 0x7f800000, some = finite && largest >= QUANT_TINY;
    float inverse = some ? 127 / largest : 0;
    for (int i = 0; i < QUANT_GROUP; i++)
        q[i] = quant_nearest(x[i] * inverse);
    for (int i = 0; i < QUANT_GROUP; i++) {
        q[i] = some ? q[i] : 0;
        to->q[i] = (int8_t)q[i];
        sum += q[i];
    }
    to->sum = sum;
    to->scale = !finite ? bits_to_float(0x7fc00000) : some ? largest / 127 : 0;
}

/* A row of n numbers, a multiple of QUANT_GROUP, in groups. */
static inline __attribute__((always_inline)) void
quant_row_of(struct quant_group *to, const void *x, enum dtype type, int n)
{
    float line[QUANT_GROUP];
    for (int i = 0; i < n; i += QUANT_GROUP) {
        for (int j = 0; j < QUANT_GROUP; j++)
            line[j] = dtype_load(type, x, (size_t)(i + j));
        quant_group_of(&to[i / QUANT_GROUP], line);
    }
}
