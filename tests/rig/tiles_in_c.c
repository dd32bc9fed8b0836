/* AMX's tile instructions in plain C, as Intel's manual describes them (volume 2: LDTILECFG,
 * TILELOADD, TILEZERO, TILESTORED, TDPBF16PS, TDPBSSD), except that they keep subnormal numbers.
 * For shapes beyond the limits and tiles that do not fit together, at which the processor raises an
 * exception, there is a CHECK. */
#define EPMOE_TILES_GIVEN
#define amx_tile_bf16  tiles_in_c_product
#define amx_spin_bf16  tiles_in_c_spin
#define amx_shapes     tiles_in_c_shapes
#define amx_tile_q8    tiles_in_c_q8
#define amx_tile_q4    tiles_in_c_q4
#define amx_spin_quant tiles_in_c_spin_quant
#define avx512_tile_q8 vnni_in_c_q8
#define avx512_tile_q4 vnni_in_c_q4

#include "tests/rig/tiles_in_c.h"

#include "base/check.h"

enum { TILES = 8, MOST_ROWS = 16, MOST_ROW_BYTES = 64 };

struct tile_register {
    int rows, row_bytes;
    char row[MOST_ROWS][MOST_ROW_BYTES];
};

static _Thread_local struct tile_register tiles[TILES];

static void _tile_loadconfig(const void *shapes)
{
    const uint8_t *at = shapes;
    CHECK(at[0] == 1 && at[1] == 0, "palette %d, start row %d", at[0], at[1]);
    for (int i = 2; i < 16; i++)
        CHECK(at[i] == 0, "reserved byte %d is %d", i, at[i]);
    memset(tiles, 0, sizeof tiles);
    for (int i = 0; i < TILES; i++) {
        uint16_t row_bytes;
        memcpy(&row_bytes, at + 16 + 2 * i, sizeof row_bytes);
        tiles[i].row_bytes = row_bytes;
        tiles[i].rows = at[48 + i];
        CHECK(tiles[i].rows >= 1 && tiles[i].rows <= MOST_ROWS && row_bytes >= 1 &&
                  row_bytes <= MOST_ROW_BYTES,
              "tile %d: %d rows of %d bytes", i, tiles[i].rows, row_bytes);
    }
}

static void _tile_loadd(int number, const void *from, size_t stride)
{
    struct tile_register *t = &tiles[number];
    CHECK(t->rows, "tile %d is loaded without a shape", number);
    memset(t->row, 0, sizeof t->row);
    for (int r = 0; r < t->rows; r++)
        memcpy(t->row[r], (const char *)from + (size_t)r * stride, (size_t)t->row_bytes);
}

#define _tile_stream_loadd _tile_loadd // the same with a hint for caches

static void _tile_stored(int number, void *to, size_t stride)
{
    const struct tile_register *t = &tiles[number];
    for (int r = 0; r < t->rows; r++)
        memcpy((char *)to + (size_t)r * stride, t->row[r], (size_t)t->row_bytes);
}

static void _tile_zero(int number)
{
    memset(tiles[number].row, 0, sizeof tiles[number].row);
}

static float half_of(const char *row, int i)
{
    uint16_t half;
    memcpy(&half, row + 2 * i, sizeof half);
    return bf16_to_float(half);
}

/* Whether a product of these fits together: both kinds have 4 bytes of inputs for each row of b. */
static void check_shapes(const struct tile_register *c, const struct tile_register *a,
                         const struct tile_register *b)
{
    CHECK(a->rows == c->rows && a->row_bytes == 4 * b->rows && b->row_bytes == c->row_bytes,
          "%dx%d times %dx%d to %dx%d", a->rows, a->row_bytes, b->rows, b->row_bytes, c->rows,
          c->row_bytes);
}

/* sums row r, column n += the pairs of inputs k times the pairs of weights k */
static void _tile_dpbf16ps(int sums, int inputs, int weights)
{
    struct tile_register *c = &tiles[sums];
    const struct tile_register *a = &tiles[inputs], *b = &tiles[weights];
    check_shapes(c, a, b);
    for (int r = 0; r < c->rows; r++)
        for (int n = 0; n < c->row_bytes / 4; n++) {
            float sum = 0, old;
            for (int k = 0; k < a->row_bytes / 2; k++)
                sum += half_of(a->row[r], k) * half_of(b->row[k / 2], 2 * n + k % 2);
            memcpy(&old, c->row[r] + 4 * n, sizeof old);
            sum += old;
            memcpy(c->row[r] + 4 * n, &sum, sizeof sum);
        }
}

/* sums row r, column n += the four inputs k times the four weights k, all with signs */
static void _tile_dpbssd(int sums, int inputs, int weights)
{
    struct tile_register *c = &tiles[sums];
    const struct tile_register *a = &tiles[inputs], *b = &tiles[weights];
    check_shapes(c, a, b);
    for (int r = 0; r < c->rows; r++)
        for (int n = 0; n < c->row_bytes / 4; n++) {
            int32_t sum;
            memcpy(&sum, c->row[r] + 4 * n, sizeof sum);
            for (int k = 0; k < a->row_bytes; k++)
                sum += (int8_t)a->row[r][k] * (int8_t)b->row[k / 4][4 * n + k % 4];
            memcpy(c->row[r] + 4 * n, &sum, sizeof sum);
        }
}

#include "kernels/cpu/amx.c"
#include "kernels/cpu/quant_amx.c"

const struct cpu_isa *tiles_in_c(void)
{
    static struct cpu_isa loops;
    loops = isa_plain;
    loops.tile[DTYPE_BF16] = tiles_in_c_product;
    loops.spin[DTYPE_BF16] = tiles_in_c_spin;
    loops.quant_tile[QUANT_Q8] = tiles_in_c_q8;
    loops.quant_tile[QUANT_Q4] = tiles_in_c_q4;
    loops.quant_spin[QUANT_Q8] = tiles_in_c_spin_quant;
    loops.quant_spin[QUANT_Q4] = tiles_in_c_spin_quant;
    loops.tiles = (struct blocking){AMX_BLOCKING};
    loops.quantised = (struct blocking){AMX_QUANT_BLOCKING};
    return &loops;
}
