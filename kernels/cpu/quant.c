/* Quantising weights as they are packed, and the rows that a team multiplies. See quant.h. */
#include "kernels/cpu/quant.h"

#include "kernels/cpu/cpu.h"
#include "kernels/ops.h"

void quant_rows_run(struct quant_rows *q)
{
    size_t from = row_bytes(q->type, q->k), to = quant_row_bytes(q->k);
    for (int row; (row = __atomic_fetch_add(&q->next, 1, __ATOMIC_RELAXED)) < q->rows;) {
        int source = q->source ? q->source[row] : row;
        q->isa->quantise((struct quant_group *)(void *)(q->to + (size_t)row * to),
                         q->x + (size_t)source * from, q->type, row_stride(q->k));
    }
}

/* The weight of the largest magnitude, with its sign. */
static float signed_largest(const float *w, float largest)
{
    for (int i = 0; i < QUANT_GROUP; i++)
        if (w[i] == largest)
            return largest;
    return -largest;
}

/* Rounded away from 0. */
static f16 round_scale(float wanted)
{
    f16 nearest = float_to_f16(wanted);
    return fabsf(f16_to_float(nearest)) < fabsf(wanted) ? (f16)(nearest + 1) : nearest;
}

/* The scale of a group, and its integers within [low, high]. What is not finite becomes the scale
 * NaN, which all sums with it show. */
static f16 quantise_weights(int32_t *q, const float *w, enum quant quant)
{
    int low = quant == QUANT_Q8 ? -127 : -8, high = quant == QUANT_Q8 ? 127 : 7;
    float largest = quant_largest(w);
    bool finite = float_to_bits(largest) < 0x7f800000;
    float wanted = quant == QUANT_Q8 ? largest / 127 : signed_largest(w, largest) / -8;
    f16 scale = finite ? round_scale(wanted) : 0x7e00;
    float rounded = f16_to_float(scale);
    bool some = finite && rounded != 0;
    for (int i = 0; i < QUANT_GROUP; i++) {
        float steps = some ? w[i] / rounded : 0;
        steps = steps < (float)low ? (float)low : steps > (float)high ? (float)high : steps;
        q[i] = quant_nearest(steps);
    }
    return scale;
}

/* Write the integers q of output o into a q8 block: words of four of them, PANEL words apart. */
static void put_q8(uint8_t *block, const int32_t *q, size_t o)
{
    for (size_t i = 0; i < QUANT_GROUP; i++)
        block[(i / 4 * PANEL + o) * 4 + i % 4] = (uint8_t)q[i];
}

static void put_q4(uint8_t *block, const int32_t *q, size_t o)
{
    for (size_t i = 0; i < QUANT_GROUP / 2; i++)
        block[(i / 4 * PANEL + o) * 4 + i % 4] =
            (uint8_t)((q[i] + Q4_ZERO) | (q[i + QUANT_GROUP / 2] + Q4_ZERO) << 4);
}

void quant_pack(void *panel, enum quant quant, const float *from, size_t first, size_t n, size_t o)
{
    size_t bytes = quant_block_bytes(quant);
    for (size_t i = 0; i < n; i += QUANT_GROUP) {
        float w[QUANT_GROUP] = {0};
        int32_t q[QUANT_GROUP];
        uint8_t *block = (uint8_t *)panel + (first + i) / QUANT_GROUP * bytes;
        memcpy(w, from + i, (n - i < QUANT_GROUP ? n - i : QUANT_GROUP) * sizeof *w);
        f16 scale = quantise_weights(q, w, quant);
        (quant == QUANT_Q8 ? put_q8 : put_q4)(block, q, o);
        memcpy(block + quant_integer_bytes(quant) + o * sizeof scale, &scale, sizeof scale);
    }
}

/* An output's integers in a block are words of 4 bytes, PANEL words apart; its scale is behind all
 * of them. */
static void copy_output(uint8_t *to, const uint8_t *from, enum quant quant, size_t o, size_t source)
{
    size_t integers = quant_integer_bytes(quant);
    for (size_t i = 0; i < integers; i += sizeof(int32_t[PANEL]))
        memcpy(to + i + o * sizeof(int32_t), from + i + source * sizeof(int32_t), sizeof(int32_t));
    memcpy(to + integers + o * sizeof(f16), from + integers + source * sizeof(f16), sizeof(f16));
}

void quant_copy_outputs(struct matrix *w, const void *packed, int first)
{
    size_t panel = quant_panel_bytes(w->quant, w->k), block = quant_block_bytes(w->quant);
    for (int o = 0; o < w->n; o++) {
        uint8_t *to = (uint8_t *)w->data + (size_t)(o / PANEL) * panel;
        const uint8_t *from = (const uint8_t *)packed + (size_t)((first + o) / PANEL) * panel;
        for (size_t at = 0; at < panel; at += block)
            copy_output(to + at, from + at, w->quant, (size_t)(o % PANEL),
                        (size_t)((first + o) % PANEL));
    }
}

bool quant_is_finite(const struct matrix *w)
{
    size_t block = quant_block_bytes(w->quant), integers = quant_integer_bytes(w->quant);
    const char *end = (const char *)w->data + quant_matrix_bytes(w->quant, w->n, w->k);
    for (const char *at = w->data; at < end; at += block)
        for (size_t o = 0; o < PANEL; o++) {
            f16 scale;
            memcpy(&scale, at + integers + o * sizeof scale, sizeof scale);
            if (!isfinite(f16_to_float(scale)))
                return false;
        }
    return true;
}
