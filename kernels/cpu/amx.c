/* bf16 products on AMX tiles. All other inner loops of ISA_AMX are those of AVX-512 (avx512.c).
 *
 * A tile register holds 16 rows of 64 bytes. A packed panel is a sequence of such tiles already: 16
 * pairs of inputs of 16 outputs each (isa.h). One product instruction adds to a tile of sums, 16
 * rows x 16 outputs in f32, a tile of 16 rows x 32 inputs times a tile of weights. Sums stay in
 * registers from the first input to the last; an element's terms are added in order of k, 32 at a
 * time, whatever the number of rows, and rows that a tile does not have are not computed.
 *
 * Registers: 0 to 3 are sums, 4 and 5 inputs, 6 and 7 weights. More than 16 rows are worked on as
 * 2 x 2 tiles, so that four loads serve four products; fewer as 1 x 4.
 *
 * Tile loads are not followed by the hardware's prefetcher, so weights are prefetched here. */
#ifndef EPMOE_TILES_GIVEN // tests/kernels/tiles.c gives the instructions in plain C
#include <immintrin.h>
#endif
#include <string.h>

#include "kernels/cpu/isa.h"

enum {
    TILE_ROWS = 16,
    TILE_ROW_BYTES = 64,
    TILE_BYTES = TILE_ROWS * TILE_ROW_BYTES,
    TILE_INPUTS = 32,
    AHEAD = 4 * TILE_BYTES // how far before its use a weight is prefetched
};

/* What ldtilecfg reads (Intel's manual, volume 2, LDTILECFG). */
struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

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
};

/* Compilers do not know what memory the instructions read; nothing may be moved past this. */
static inline void memory_is_read(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Set the shapes: `first` rows in the upper tiles of sums and inputs, `second` in the lower ones. A
 * thread's shapes stay until it sets others. */
static void set_shapes(int first, int second)
{
    static _Thread_local int now;
    if (now == first * (TILE_ROWS + 1) + second)
        return;
    const int rows[8] = {first, first, second, second, first, second, TILE_ROWS, TILE_ROWS};
    struct tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.rows[i] = (uint8_t)rows[i];
        shapes.row_bytes[i] = TILE_ROW_BYTES;
    }
    memory_is_read();
    _tile_loadconfig(&shapes);
    now = first * (TILE_ROWS + 1) + second;
}

static inline void prefetch(const char *w)
{
    for (int i = 0; i < TILE_ROWS; i++)
        __builtin_prefetch(w + AHEAD + i * TILE_ROW_BYTES);
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
    _tile_loadd(number, x + (size_t)(i * TILE_ROWS) * s->x_bytes, s->x_bytes)
#define LOAD_WEIGHTS(number, p)                                                                    \
    do {                                                                                           \
        prefetch(w + (p)*s->panel);                                                                \
        _tile_loadd(number, w + (p)*s->panel, TILE_ROW_BYTES);                                     \
    } while (0)
#define EACH_STEP                                                                                  \
    for (const char *x = s->x, *w = s->w, *end = w + (size_t)s->steps * TILE_BYTES; w < end;       \
         x += TILE_ROW_BYTES, w += TILE_BYTES)

static void two_by_two(const struct sums *s)
{
    BEGIN(0, 0, 0);
    BEGIN(1, 0, 1);
    BEGIN(2, 1, 0);
    BEGIN(3, 1, 1);
    EACH_STEP
    {
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
        LOAD_WEIGHTS(6, 0);
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
        LOAD_WEIGHTS(6, 0);
        _tile_dpbf16ps(0, 4, 6);
        LOAD_WEIGHTS(7, 1);
        _tile_dpbf16ps(1, 4, 7);
        LOAD_WEIGHTS(6, 2);
        _tile_dpbf16ps(2, 4, 6);
        LOAD_WEIGHTS(7, 3);
        _tile_dpbf16ps(3, 4, 7);
    }
    END(0, 0, 0);
    END(1, 0, 1);
    END(2, 0, 2);
    END(3, 0, 3);
}

static void one_by_one(const struct sums *s)
{
    BEGIN(0, 0, 0);
    EACH_STEP
    {
        LOAD_INPUTS(4, 0);
        LOAD_WEIGHTS(6, 0);
        _tile_dpbf16ps(0, 4, 6);
    }
    END(0, 0, 0);
}

/* One block of rows times all panels: `wide` panels at a time, then one at a time. */
static void all_panels(struct sums s, int panels, int wide, void (*many)(const struct sums *s),
                       void (*one)(const struct sums *s))
{
    while (panels > 0) {
        int n = panels >= wide ? wide : 1;
        (n == wide ? many : one)(&s);
        panels -= n;
        s.c += n * TILE_ROW_BYTES;
        s.w += (size_t)n * s.panel;
    }
}

void amx_tile_bf16(float *c, int ldc, const void *x, size_t ldx, const void *w, int panels,
                   int rows, int k, bool add)
{
    struct sums s = {.c_bytes = (size_t)ldc * sizeof *c,
                     .x_bytes = ldx * sizeof(uint16_t),
                     .w = w,
                     .panel = panel_bytes(DTYPE_BF16, k),
                     .steps = k / TILE_INPUTS,
                     .add = add};
    memory_is_read();
    for (int row = 0; row < rows; row += 2 * TILE_ROWS) {
        int left = rows - row;
        s.c = (char *)c + (size_t)row * s.c_bytes;
        s.x = (const char *)x + (size_t)row * s.x_bytes;
        if (left > TILE_ROWS) {
            set_shapes(TILE_ROWS, left > 2 * TILE_ROWS ? TILE_ROWS : left - TILE_ROWS);
            all_panels(s, panels, 2, two_by_two, two_by_one);
        } else {
            set_shapes(left, left);
            all_panels(s, panels, 4, one_by_four, one_by_one);
        }
    }
}

double amx_spin_bf16(long rounds, float *sink)
{
    uint8_t zeros[TILE_BYTES] = {0};
    float sums[TILE_ROWS * PANEL];
    set_shapes(TILE_ROWS, TILE_ROWS);
    memory_is_read();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, zeros, TILE_ROW_BYTES);
    _tile_loadd(6, zeros, TILE_ROW_BYTES);
    for (long i = 0; i < rounds; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 6);
        _tile_dpbf16ps(2, 4, 6);
        _tile_dpbf16ps(3, 4, 6);
    }
    _tile_stored(3, sums, TILE_ROW_BYTES);
    *sink += sums[0];
    return 4.0 * 2 * TILE_ROWS * PANEL * TILE_INPUTS * (double)rounds;
}
