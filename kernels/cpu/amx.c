/* bf16 products on AMX tiles. All other inner loops of ISA_AMX are those of AVX-512 (avx512.c).
 *
 * A tile register holds 16 rows of 64 bytes. A packed panel is a sequence of such tiles already: 16
 * pairs of inputs of 16 outputs each (isa.h). One product instruction adds to a tile of sums, 16
 * rows x 16 outputs in f32, a tile of 16 rows x 32 inputs times a tile of weights. An element's
 * terms are added in order of k, 32 at a time, whatever the number of rows, and rows that a tile
 * does not have are not computed. A single row goes through vectors (amx_row.c).
 *
 * Registers: 0 to 3 are sums, 4 and 5 inputs, 6 and 7 weights. Up to 16 rows are worked on as 1 x 4
 * tiles. More are worked on as 2 x 2, so that four loads serve four products. These take two loads
 * from L1 and two from L2 in the time of four products, but not four from L2. So from 64 rows on
 * inputs are divided into blocks, and the weights of a block stay in L1 while all rows pass, 32
 * after 32, whose sums wait in memory until the next block. Rows are loaded with the hint that they
 * are not needed again soon, and do not displace the weights.
 *
 * Tile loads are not followed by the hardware's prefetcher, so weights are prefetched here. */
#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/isa.h"

#ifdef EPMOE_TILES_GIVEN // tests/rig/tiles_in_c.c adds in another order, and needs no AVX-512
enum { ROW_BY_VECTORS = 0 };
#else
enum { ROW_BY_VECTORS = 1 };
#endif

enum {
    TILE_INPUTS = 32,
    AHEAD = 4 * TILE_BYTES,      // few rows: how far before its use a weight is prefetched
    ONCE_AHEAD = 8 * TILE_BYTES, // 17 to 63 rows: the same, but into L2
    MOST_STEPS = 12,             // of a block of inputs: two panels' weights are 24 KB of L1's 48
    PAIR_ROWS = 2 * TILE_ROWS
};

_Thread_local int amx_shapes;

/* A block of sums: up to 32 rows, and panels beside each other. */
struct sums {
    char *c; // tile (i, p) is 16 i rows and 64 p bytes from here
    size_t c_bytes;
    const char *x;
    size_t x_bytes;
    const char *w;
    size_t panel;
    int steps; // of 32 inputs
    bool add;
    const char *next; // many rows: the weights to prefetch, in each of two panels
    int lines;        // so many lines a step and panel
};

/* `first` rows in the upper tiles of sums and inputs, `second` in the lower ones. */
static void set_shapes(int first, int second)
{
    const int rows[8] = {first, first, second, second, first, second, TILE_ROWS, TILE_ROWS};
    static const int bytes[8] = {64, 64, 64, 64, 64, 64, 64, 64};
    set_tiles(first * (TILE_ROWS + 1) + second, rows, bytes);
}

static inline void prefetch(const char *tile)
{
    for (int i = 0; i < TILE_ROWS; i++)
        __builtin_prefetch(tile + i * LINE);
}

/* Prefetch into L2 what a step of many rows is to prefetch. Returns what the next step is to. */
static inline const char *prefetch_next(const struct sums *s, const char *next)
{
    for (int i = 0; i < s->lines; i++, next += LINE) {
        __builtin_prefetch(next, 0, 2);
        __builtin_prefetch(next + s->panel, 0, 2);
    }
    return next;
}

static inline char *sums_at(const struct sums *s, int i, int p)
{
    return s->c + (size_t)(i * TILE_ROWS) * s->c_bytes + p * TILE_ROW_BYTES;
}

/* Tile `number` of the sums begins with what memory has (add), or with zeros. */
#define BEGIN(number, i, p)                                                                        \
    do {                                                                                           \
        if (s->add)                                                                                \
            _tile_loadd(number, sums_at(s, i, p), s->c_bytes);                                     \
        else                                                                                       \
            _tile_zero(number);                                                                    \
    } while (0)
#define END(number, i, p) _tile_stored(number, sums_at(s, i, p), s->c_bytes)
#define LOAD_INPUTS(number, i)                                                                     \
    _tile_stream_loadd(number, x + (size_t)(i * TILE_ROWS) * s->x_bytes, s->x_bytes)
#define LOAD_WEIGHTS(number, p) _tile_loadd(number, w + (p)*s->panel, TILE_ROW_BYTES)
#define LOAD_NEW_WEIGHTS(number, p)                                                                \
    do {                                                                                           \
        prefetch(w + AHEAD + (p)*s->panel);                                                        \
        LOAD_WEIGHTS(number, p);                                                                   \
    } while (0)
#define EACH_STEP                                                                                  \
    for (const char *x = s->x, *w = s->w, *end = w + (size_t)s->steps * TILE_BYTES; w < end;       \
         x += TILE_ROW_BYTES, w += TILE_BYTES)

static void two_by_two(const struct sums *s)
{
    const char *next = s->next;
    BEGIN(0, 0, 0);
    BEGIN(1, 0, 1);
    BEGIN(2, 1, 0);
    BEGIN(3, 1, 1);
    EACH_STEP
    {
        next = prefetch_next(s, next);
        LOAD_INPUTS(4, 0);
        LOAD_WEIGHTS(6, 0);
        _tile_dpbf16ps(0, 4, 6);
        LOAD_WEIGHTS(7, 1);
        _tile_dpbf16ps(1, 4, 7);
        LOAD_INPUTS(5, 1);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    END(0, 0, 0);
    END(1, 0, 1);
    END(2, 1, 0);
    END(3, 1, 1);
}

static void two_by_one(const struct sums *s)
{
    BEGIN(0, 0, 0);
    BEGIN(2, 1, 0);
    EACH_STEP
    {
        LOAD_INPUTS(4, 0);
        LOAD_NEW_WEIGHTS(6, 0);
        _tile_dpbf16ps(0, 4, 6);
        LOAD_INPUTS(5, 1);
        _tile_dpbf16ps(2, 5, 6);
    }
    END(0, 0, 0);
    END(2, 1, 0);
}

static void one_by_four(const struct sums *s)
{
    BEGIN(0, 0, 0);
    BEGIN(1, 0, 1);
    BEGIN(2, 0, 2);
    BEGIN(3, 0, 3);
    EACH_STEP
    {
        LOAD_INPUTS(4, 0);
        LOAD_NEW_WEIGHTS(6, 0);
        _tile_dpbf16ps(0, 4, 6);
        LOAD_NEW_WEIGHTS(7, 1);
        _tile_dpbf16ps(1, 4, 7);
        LOAD_NEW_WEIGHTS(6, 2);
        _tile_dpbf16ps(2, 4, 6);
        LOAD_NEW_WEIGHTS(7, 3);
        _tile_dpbf16ps(3, 4, 7);
    }
    END(0, 0, 0);
    END(1, 0, 1);
    END(2, 0, 2);
    END(3, 0, 3);
}

static void one_by_two(const struct sums *s)
{
    BEGIN(0, 0, 0);
    BEGIN(1, 0, 1);
    EACH_STEP
    {
        LOAD_INPUTS(4, 0);
        LOAD_WEIGHTS(6, 0);
        _tile_dpbf16ps(0, 4, 6);
        LOAD_WEIGHTS(7, 1);
        _tile_dpbf16ps(1, 4, 7);
    }
    END(0, 0, 0);
    END(1, 0, 1);
}

static void one_by_one(const struct sums *s)
{
    BEGIN(0, 0, 0);
    EACH_STEP
    {
        LOAD_INPUTS(4, 0);
        LOAD_NEW_WEIGHTS(6, 0);
        _tile_dpbf16ps(0, 4, 6);
    }
    END(0, 0, 0);
}

/* Go on to the sums that are so many rows and panels further. */
static struct sums moved(struct sums s, int rows, int panels)
{
    s.c += (size_t)rows * s.c_bytes + (size_t)(panels * TILE_ROW_BYTES);
    s.x += (size_t)rows * s.x_bytes;
    s.w += (size_t)panels * s.panel;
    return s;
}

/* At most 16 rows. */
static void few_rows(struct sums s, int panels, int rows)
{
    set_shapes(rows, rows);
    for (; panels >= 4; panels -= 4, s = moved(s, 0, 4))
        one_by_four(&s);
    for (; panels > 0; panels--, s = moved(s, 0, 1))
        one_by_one(&s);
}

/* Up to 32 rows times two panels, all inputs in turn. At most 31 rows follow, which read the
 * weights once more, from L2: too few for keeping blocks of inputs in L1. */
static void one_block(struct sums s)
{
    s.lines = TILE_ROWS;
    s.next = s.w + ONCE_AHEAD;
    two_by_two(&s);
}

/* Blocks of 32 rows times two panels, a block of inputs after the other. Meanwhile the weights of
 * the next block are prefetched; during the last one those of the two panels that follow, which
 * most likely are wanted next. */
static void two_panels(struct sums s, int row_blocks)
{
    int all = s.steps, blocks = (all + MOST_STEPS - 1) / MOST_STEPS;
    int most = (all + blocks - 1) / blocks;
    const char *after = s.w + 2 * s.panel;
    s.lines = (TILE_ROWS + row_blocks - 1) / row_blocks;
    for (int step = 0; step < all; step += most) {
        s.steps = all - step < most ? all - step : most;
        const char *next = step + most < all ? s.w + (size_t)most * TILE_BYTES : after;
        for (int i = 0; i < row_blocks; i++) {
            struct sums block = moved(s, i * PAIR_ROWS, 0);
            block.next = next + (size_t)(i * s.steps * s.lines) * LINE;
            two_by_two(&block);
        }
        s.x += (size_t)s.steps * TILE_ROW_BYTES;
        s.w += (size_t)s.steps * TILE_BYTES;
        s.add = true;
    }
}

/* Shapes for a block of so many rows, up to 32. */
static void set_rows(int rows)
{
    set_shapes(rows < TILE_ROWS ? rows : TILE_ROWS, rows > TILE_ROWS ? rows - TILE_ROWS : rows);
}

/* All rows times two panels. What 32 does not divide comes last, and finds the weights in L2. */
static void pair_of_panels(struct sums s, int rows)
{
    int blocks = rows < PAIR_ROWS ? 1 : rows / PAIR_ROWS, left = rows - blocks * PAIR_ROWS;
    set_rows(rows < PAIR_ROWS ? rows : PAIR_ROWS);
    if (blocks == 1)
        one_block(s);
    else
        two_panels(s, blocks);
    if (left <= 0)
        return;
    set_rows(left);
    s = moved(s, blocks * PAIR_ROWS, 0);
    (left > TILE_ROWS ? two_by_two : one_by_two)(&s);
}

static void one_panel(struct sums s, int rows)
{
    for (; rows > 0; rows -= PAIR_ROWS, s = moved(s, PAIR_ROWS, 0)) {
        set_rows(rows < PAIR_ROWS ? rows : PAIR_ROWS);
        (rows > TILE_ROWS ? two_by_one : one_by_one)(&s);
    }
}

/* 17 to 32 rows of few inputs, such as attention's: one block of sums, and nothing to prefetch. */
static void small(struct sums s, int panels, int rows)
{
    set_rows(rows);
    s.next = s.w;
    for (; panels >= 2; panels -= 2, s = moved(s, 0, 2))
        two_by_two(&s);
    if (panels)
        two_by_one(&s);
}

static void many_rows(struct sums s, int panels, int rows)
{
    for (; panels >= 2; panels -= 2, s = moved(s, 0, 2))
        pair_of_panels(s, rows);
    if (panels)
        one_panel(s, rows);
}

void amx_tile_bf16(float *c, int ldc, const void *x, size_t ldx, const void *w, int panels,
                   int rows, int k, bool add)
{
    struct sums s = {.c = (char *)c,
                     .c_bytes = (size_t)ldc * sizeof *c,
                     .x = x,
                     .x_bytes = ldx * sizeof(uint16_t),
                     .w = w,
                     .panel = panel_bytes(DTYPE_BF16, k),
                     .steps = k / TILE_INPUTS,
                     .add = add};
    memory_is_used();
    if (rows == 1 && ROW_BY_VECTORS)
        amx_row_bf16(c, x, w, panels, k, add);
    else if (rows <= TILE_ROWS)
        few_rows(s, panels, rows);
    else if (rows <= PAIR_ROWS && s.steps <= MOST_STEPS)
        small(s, panels, rows);
    else
        many_rows(s, panels, rows);
}

/* Numbers as unlike each other as weights are: with zeros the processor needs less power, and its
 * clock runs a tenth faster than any product of real numbers sees. */
static float like_a_weight(int i)
{
    return (float)(i * 7919 % 1009 - 504) / 1009;
}

double amx_spin_bf16(long rounds, float *sink)
{
    uint16_t numbers[TILE_BYTES / 2];
    float sums[TILE_ROWS * PANEL];
    for (int i = 0; i < TILE_BYTES / 2; i++)
        numbers[i] = float_to_bf16(like_a_weight(i));
    set_shapes(TILE_ROWS, TILE_ROWS);
    memory_is_used();
    _tile_loadd(4, numbers, TILE_ROW_BYTES);
    _tile_loadd(6, numbers, TILE_ROW_BYTES);
    SPIN_TILES(_tile_dpbf16ps, rounds);
    _tile_stored(3, sums, TILE_ROW_BYTES);
    *sink += sums[0];
    return 4.0 * 2 * TILE_ROWS * PANEL * TILE_INPUTS * (double)rounds;
}
