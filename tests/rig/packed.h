/* A packed weight, read as kernels/cpu/quant.h describes panels and not by the code that packs. */
#pragma once

#include <string.h>

#include "kernels/cpu/quant.h"

struct packed {
    int integer;
    double scale;
};

/* Weight i of output o; m's panels are in host memory. */
static inline struct packed packed_at(const struct matrix *m, int o, int i)
{
    const uint8_t *block = (const uint8_t *)m->data +
                           (size_t)(o / PANEL) * quant_panel_bytes(m->quant, m->k) +
                           (size_t)(i / QUANT_GROUP) * quant_block_bytes(m->quant);
    int in = i % QUANT_GROUP, half = in % 16, lane = o % PANEL;
    f16 scale;
    if (m->quant == QUANT_Q8) {
        memcpy(&scale, block + 512 + lane * 2, 2);
        return (struct packed){(int8_t)block[in / 4 * 64 + lane * 4 + in % 4],
                               (double)f16_to_float(scale)};
    }
    memcpy(&scale, block + 256 + lane * 2, 2);
    int byte = block[half / 4 * 64 + lane * 4 + half % 4];
    return (struct packed){(in < 16 ? byte & 15 : byte >> 4) - 8, (double)f16_to_float(scale)};
}
