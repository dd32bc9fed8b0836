/* Quantised products on AMX tiles: the same bits as plain.c (quant.h).
 *
 * A block's integers in q8, [8][16][4], are a tile as they lie in memory: 8 rows of 4 inputs of 16
 * outputs. One instruction multiplies 16 rows x 32 inputs with it: a group's sums of 16 rows, in
 * integers. These go through memory to vectors, where they are multiplied with the scales and added
 * up, 16 rows x 16 outputs in registers. q4 is widened to q8's integers first. A few rows are bound
 * by memory and go through AVX-512's. */
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/quant.h"

/* A chunk of so many groups stays in L1 while all rows pass. */
enum { FEWEST_ROWS = 9, WEIGHT_ROWS = QUANT_GROUP / 4, MOST_GROUPS = 32 };
typedef float floats __attribute__((vector_size(64)));
typedef int32_t integers __attribute__((vector_size(64)));

/* So many rows of sums and inputs; inputs are 32 bytes, weights 8 rows. */
static void set_byte_shapes(int n)
{
    enum { KEY = 1000 }; // beyond amx.c's
    const int rows[8] = {n, n, n, n, n, n, WEIGHT_ROWS, WEIGHT_ROWS};
    static const int bytes[8] = {64, 64, 64, 64, QUANT_GROUP, QUANT_GROUP, 64, 64};
    set_tiles(KEY + n, rows, bytes);
}

static inline void read_scales(floats *scale, const char *from)
{
#ifndef EPMOE_TILES_GIVEN
    *scale = _mm512_cvtph_ps(_mm256_loadu_si256((const void *)from));
#else
    for (int i = 0; i < PANEL; i++) {
        f16 half;
        memcpy(&half, from + i * 2, sizeof half);
        (*scale)[i] = f16_to_float(half);
    }
#endif
}

/* The integers of a chunk's blocks in q8's form, one block after the other. */
static inline void widen_q4(int8_t *to, const char *w, int groups)
{
    for (; groups > 0; groups--, w += quant_block_bytes(QUANT_Q4), to += Q8_BYTES)
        for (int i = 0; i < Q4_BYTES; i++) {
            uint8_t both = (uint8_t)w[i];
            to[i] = (int8_t)((both & 15) - Q4_ZERO);
            to[Q4_BYTES + i] = (int8_t)((both >> 4) - Q4_ZERO);
        }
}

/* sums [rows] := the products of one group's integers */
static inline void group_sums(integers *sums, const struct quant_group *x, size_t ldx,
                              const char *weights)
{
    memory_is_used();
    _tile_zero(0);
    _tile_loadd(4, x->q, ldx * sizeof *x);
    _tile_loadd(6, weights, TILE_ROW_BYTES);
    _tile_dpbssd(0, 4, 6);
    _tile_stored(0, sums, TILE_ROW_BYTES);
    memory_is_used();
}

/* Some groups of a panel. Its integers are `step` bytes apart, in q8's form. */
struct chunk {
    const char *integers, *scales;
    size_t step, block; // block: from one group's scales to the next's
    int first, groups;
    const char *next; // the blocks of the next chunk, which the first rows prefetch
};

/* c, or 0 before the first group, += up to 16 rows times a chunk. Prefetches the blocks at `next`,
 * unless it is NULL. */
static inline __attribute__((always_inline)) void chunk_rows(const struct chunk *w, float *c,
                                                             int ldc, const struct quant_group *x,
                                                             size_t ldx, int rows, const char *next)
{
    floats sum[TILE_ROWS] = {{0}};
    integers exact[2][TILE_ROWS]; // of one group and of the next, which need not wait
    for (int r = 0; r < rows && w->first; r++)
        memcpy(&sum[r], c + r * ldc, sizeof sum[r]);
    for (int g = 0; g < w->groups; g++) {
        integers *of = exact[g % 2];
        const struct quant_group *from = x + w->first + g;
        for (size_t i = 0; next && i < w->block; i += LINE)
            __builtin_prefetch(next + (size_t)g * w->block + i);
        group_sums(of, from, ldx, w->integers + (size_t)g * w->step);
        floats scale;
        read_scales(&scale, w->scales + (size_t)g * w->block);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
            sum[r] +=
                __builtin_convertvector(of[r], floats) * (scale * from[(size_t)r * ldx].scale);
    }
    for (int r = 0; r < rows; r++)
        memcpy(c + r * ldc, &sum[r], sizeof sum[r]);
}

/* All rows times a chunk, whose weights stay in L1 meanwhile. */
static void all_rows(const struct chunk *w, float *c, int ldc, const struct quant_group *x,
                     size_t ldx, int rows)
{
    for (int row = 0; row < rows; row += TILE_ROWS) {
        int own = rows - row < TILE_ROWS ? rows - row : TILE_ROWS;
        float *to = c + (size_t)row * (size_t)ldc;
        const struct quant_group *from = x + (size_t)row * ldx;
        set_byte_shapes(own);
        if (own == TILE_ROWS) // a constant, so that sums are registers
            chunk_rows(w, to, ldc, from, ldx, TILE_ROWS, row ? NULL : w->next);
        else
            chunk_rows(w, to, ldc, from, ldx, own, row ? NULL : w->next);
    }
}

static void by_tiles(enum quant quant, float *c, int ldc, const struct quant_group *x, size_t ldx,
                     const char *w, int panels, int rows, int k)
{
    int8_t room[MOST_GROUPS * Q8_BYTES] __attribute__((aligned(64))); // 16 KB
    int groups = k / QUANT_GROUP;
    size_t block = quant_block_bytes(quant);
    for (int p = 0; p < panels; p++, c += PANEL)
        for (int g = 0, n; g < groups; g += n, w += (size_t)n * block) {
            n = groups - g < MOST_GROUPS ? groups - g : MOST_GROUPS;
            struct chunk chunk = {w, w + quant_integer_bytes(quant), block, block, g,
                                  n, w + (size_t)n * block};
            if (quant == QUANT_Q4) {
                widen_q4(room, w, n);
                chunk.integers = (const char *)room;
                chunk.step = Q8_BYTES;
            }
            all_rows(&chunk, c, ldc, x, ldx, rows);
        }
}

static void tile(enum quant quant, float *c, int ldc, const struct quant_group *x, size_t ldx,
                 const void *w, int panels, int rows, int k)
{
    quant_tile_fn *vectors = quant == QUANT_Q8 ? avx512_tile_q8 : avx512_tile_q4;
    if (rows < FEWEST_ROWS)
        vectors(c, ldc, x, ldx, w, panels, rows, k);
    else
        by_tiles(quant, c, ldc, x, ldx, w, panels, rows, k);
}

void amx_tile_q8(float *c, int ldc, const struct quant_group *x, size_t ldx, const void *w,
                 int panels, int rows, int k)
{
    tile(QUANT_Q8, c, ldc, x, ldx, w, panels, rows, k);
}

void amx_tile_q4(float *c, int ldc, const struct quant_group *x, size_t ldx, const void *w,
                 int panels, int rows, int k)
{
    tile(QUANT_Q4, c, ldc, x, ldx, w, panels, rows, k);
}

/* The products of integers alone, of both kinds. */
double amx_spin_quant(long rounds, float *sink)
{
    int8_t numbers[TILE_BYTES];
    integers sums[TILE_ROWS];
    for (int i = 0; i < TILE_BYTES; i++)
        numbers[i] = (int8_t)(i * 7919 % 255 - 127);
    set_byte_shapes(TILE_ROWS);
    memory_is_used();
    _tile_loadd(4, numbers, QUANT_GROUP);
    _tile_loadd(6, numbers, TILE_ROW_BYTES);
    SPIN_TILES(_tile_dpbssd, rounds);
    _tile_stored(3, sums, TILE_ROW_BYTES);
    memory_is_used();
    *sink += (float)sums[0][0];
    return 4.0 * 2 * TILE_ROWS * PANEL * QUANT_GROUP * (double)rounds;
}
