/* The loops of quantised products over panels, rows and groups of inputs, written once:
 * quant_avx2.c, and quant_avx_vnni.c and quant_avx512.c through quant_vnni.h, define what is below
 * for their registers, then include this file.
 *
 *   vi, vf, LANES       vectors of 32-bit integers and of floats; VECTORS of them are a panel
 *   MAX_ROWS            the most rows of one panel that are multiplied at a time, at most 8
 *   MOST_SUMS           the vectors that hold the sums of so many rows of one panel, and of one row
 *                       of GROUP panels
 *   sums_q8, sums_q4    sum [rows][width] := the integers of one group of rows x, `ldx` groups
 *                       apart, of `width` vectors of weights; vectors go on in the next panel,
 *                       `panel` bytes further. rows and width are constants
 *   either              the bits of one or the other
 *   to_floats           integers as floats
 *   halves              LANES numbers in f16, as floats
 *   fset, fload, fstore  one float in all lanes; a vector from memory, and to it
 *   fmul, fadd          a * b, a + b
 *
 * All rows go through CHUNK groups of inputs, whose weights stay in L1, before the next ones. */
#include "kernels/cpu/quant.h"

enum { CHUNK = 16, AHEAD_BYTES = 2048, LINE = 64 };

/* c := the sums of one group times their scales, or += unless `first`. */
INLINE void put_sums(float *c, int ldc, const vi *sum, int rows, int width,
                     const struct quant_group *x, size_t ldx, const char *scales, size_t panel,
                     bool first)
{
#pragma GCC unroll 8
    for (int v = 0; v < width; v++) {
        vf scale = halves(scales + (size_t)(v / VECTORS) * panel +
                          (size_t)(v % VECTORS * LANES) * sizeof(f16));
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            float *to = c + r * ldc + v * LANES;
            vf both = fmul(scale, fset(x[(size_t)r * ldx].scale));
            vf part = fmul(to_floats(sum[r * width + v]), both);
            fstore(to, fadd(first ? fset(0) : fload(to), part));
        }
    }
}

/* Rows times panels that are `panel` bytes apart, over some groups of inputs. One row takes the
 * panels side by side: the hardware then prefetches each of them by itself, and instructions that
 * do so only slow it down (measured on Zen 3). One panel for several rows is fetched a little
 * before its use where `ahead` says so. */
INLINE void micro(enum quant quant, int rows, int panels, float *c, int ldc,
                  const struct quant_group *x, size_t ldx, const char *w, size_t panel, int groups,
                  bool first, bool ahead)
{
    const int bytes = (int)quant_block_bytes(quant), width = panels * VECTORS;
    for (int g = 0; g < groups; g++, w += bytes) {
        vi sum[MOST_SUMS];
        for (int i = 0; ahead && i < bytes; i += LINE)
            __builtin_prefetch(w + AHEAD_BYTES + i);
        if (quant == QUANT_Q8)
            sums_q8(sum, rows, width, x + g, ldx, w, panel);
        else
            sums_q4(sum, rows, width, x + g, ldx, w, panel);
        put_sums(c, ldc, sum, rows, width, x + g, ldx, w + quant_integer_bytes(quant), panel,
                 first && g == 0);
    }
}

#define ROWS(n)                                                                                    \
    case n:                                                                                        \
        if (n <= MAX_ROWS)                                                                         \
            micro(quant, n, 1, c, ldc, x, ldx, w, 0, groups, first, ahead);                        \
        break

/* At most MAX_ROWS rows of one panel. */
INLINE void any_rows(enum quant quant, int rows, float *c, int ldc, const struct quant_group *x,
                     size_t ldx, const char *w, int groups, bool first, bool ahead)
{
    switch (rows) {
        ROWS(1);
        ROWS(2);
        ROWS(3);
        ROWS(4);
        ROWS(5);
        ROWS(6);
        ROWS(7);
        ROWS(8);
    }
}

/* Fetch part i of n of the next weights, so that memory is read during the arithmetic of all rows
 * and not of the first ones alone. */
INLINE void fetch_part(const char *next, size_t bytes, int i, int n)
{
    size_t end = bytes * (size_t)(i + 1) / (size_t)n;
    for (size_t at = bytes * (size_t)i / (size_t)n / LINE * LINE; at < end; at += LINE)
        __builtin_prefetch(next + at, 0, 2); // to L2
}

/* All rows times one panel, over the groups of a chunk, in blocks whose sizes differ by one at
 * most. `next` bytes further are the weights of the next chunk. */
INLINE void panel_rows(enum quant quant, float *c, int ldc, const struct quant_group *x, size_t ldx,
                       const char *w, size_t next, int rows, int groups, bool first)
{
    size_t bytes = (size_t)groups * quant_block_bytes(quant);
    int blocks = (rows + MAX_ROWS - 1) / MAX_ROWS;
    for (int b = 0, row = 0, own; b < blocks; b++, row += own) {
        own = (rows - row + blocks - b - 1) / (blocks - b);
        if (blocks > 1)
            fetch_part(w + next, bytes, b, blocks);
        any_rows(quant, own, c + (size_t)row * (size_t)ldc, ldc, x + (size_t)row * ldx, ldx, w,
                 groups, first, blocks == 1);
    }
}

/* See quant_tile_fn. One row takes GROUP panels side by side. Otherwise weights are read as they
 * lie in memory: one panel after the other, a chunk at a time. */
INLINE void tile(enum quant quant, float *c, int ldc, const struct quant_group *x, size_t ldx,
                 const char *w, int panels, int rows, int k)
{
    size_t block = quant_block_bytes(quant);
    int all = k / QUANT_GROUP, p = 0;
    size_t panel = (size_t)all * block;
    for (; rows == 1 && p + GROUP <= panels; p += GROUP, c += GROUP_COLUMNS, w += GROUP * panel)
        micro(quant, 1, GROUP, c, ldc, x, ldx, w, panel, all, true, false);
    for (; p < panels; p++, c += PANEL)
        for (int g = 0, n; g < all; g += n, w += (size_t)n * block) {
            n = all - g < CHUNK ? all - g : CHUNK;
            panel_rows(quant, c, ldc, x + g, ldx, w, (size_t)n * block, rows, n, g == 0);
        }
}

/* The sums of one group of MAX_ROWS rows again and again. The compiler is told that weights and
 * inputs may be others each time, or it would add them up once. */
INLINE double spin_as(enum quant quant, long rounds, float *sink)
{
    struct quant_group x[MAX_ROWS] = {{.scale = 1}};
    char w[Q8_BYTES] = {0};
    int32_t lanes[LANES];
    vi all = {0};
    for (long i = 0; i < rounds; i++) {
        vi sum[MAX_ROWS * VECTORS];
        __asm__ volatile("" : : "r"(x), "r"(w) : "memory");
        if (quant == QUANT_Q8)
            sums_q8(sum, MAX_ROWS, VECTORS, x, 1, w, 0);
        else
            sums_q4(sum, MAX_ROWS, VECTORS, x, 1, w, 0);
        for (int j = 0; j < MAX_ROWS * VECTORS; j++)
            all = either(all, sum[j]);
    }
    memcpy(lanes, &all, sizeof lanes);
    *sink += (float)lanes[0];
    return 2.0 * MAX_ROWS * PANEL * QUANT_GROUP * (double)rounds;
}

/* Which kernels/cpu/isa.h declares. */
#define QUANT_FUNCTIONS(isa)                                                                       \
    void isa##_tile_q8(float *c, int ldc, const struct quant_group *x, size_t ldx, const void *w,  \
                       int panels, int rows, int k)                                                \
    {                                                                                              \
        tile(QUANT_Q8, c, ldc, x, ldx, w, panels, rows, k);                                        \
    }                                                                                              \
    void isa##_tile_q4(float *c, int ldc, const struct quant_group *x, size_t ldx, const void *w,  \
                       int panels, int rows, int k)                                                \
    {                                                                                              \
        tile(QUANT_Q4, c, ldc, x, ldx, w, panels, rows, k);                                        \
    }                                                                                              \
    double isa##_spin_q8(long rounds, float *sink)                                                 \
    {                                                                                              \
        return spin_as(QUANT_Q8, rounds, sink);                                                    \
    }                                                                                              \
    double isa##_spin_q4(long rounds, float *sink)                                                 \
    {                                                                                              \
        return spin_as(QUANT_Q4, rounds, sink);                                                    \
    }
