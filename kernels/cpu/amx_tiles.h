/* The tile registers of AMX, as amx.c and quant_amx.c use them: 0 to 3 are sums, 4 and 5 inputs, 6
 * and 7 weights. */
#pragma once

#ifndef EPMOE_TILES_GIVEN // tests/rig/tiles_in_c.c gives the instructions in plain C
#include <immintrin.h>
#endif
#include <stdint.h>
#include <string.h>

enum { TILE_ROWS = 16, TILE_ROW_BYTES = 64, TILE_BYTES = TILE_ROWS * TILE_ROW_BYTES, LINE = 64 };

/* What ldtilecfg reads (Intel's manual, volume 2, LDTILECFG). */
struct tile_shapes {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* The shapes that this thread's registers have: the key of the last set_tiles(). */
extern _Thread_local int amx_shapes;

/* Compilers do not know what memory the tile instructions read and write, so they must not move
 * anything past this. */
static inline void memory_is_used(void)
{
    __asm__ volatile("" ::: "memory");
}

/* Set the shapes of the eight registers. A thread's shapes stay until it sets others. No two sets
 * of shapes have the same key, and none has 0. */
static inline void set_tiles(int key, const int rows[8], const int row_bytes[8])
{
    if (amx_shapes == key)
        return;
    struct tile_shapes shapes = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shapes.rows[i] = (uint8_t)rows[i];
        shapes.row_bytes[i] = (uint16_t)row_bytes[i];
    }
    memory_is_used();
    _tile_loadconfig(&shapes);
    amx_shapes = key;
}

/* For measuring the roof: `rounds` rounds of four products on registers. */
#define SPIN_TILES(product, rounds)                                                                \
    do {                                                                                           \
        _tile_zero(0);                                                                             \
        _tile_zero(1);                                                                             \
        _tile_zero(2);                                                                             \
        _tile_zero(3);                                                                             \
        for (long round = 0; round < (rounds); round++) {                                          \
            product(0, 4, 6);                                                                      \
            product(1, 4, 6);                                                                      \
            product(2, 4, 6);                                                                      \
            product(3, 4, 6);                                                                      \
        }                                                                                          \
    } while (0)
