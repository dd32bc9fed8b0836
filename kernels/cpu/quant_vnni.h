/* Sums of quantised products by VNNI, written once: quant_avx512.c and quant_avx_vnni.c define what
 * quant_vector.h and the functions below need for their registers, then include this file.
 *
 *   iload, iset         a vector from memory, and one number in all lanes
 *   iand, ixor          bits
 *   high_halves         each lane 4 bits lower
 *   dot                 sum += four products of bytes, of those of a without a sign and those of b
 *
 * vpdpbusd (dot) multiplies bytes without a sign by bytes with one, and adds four neighbouring
 * products to a sum in 32 bits, which it does not cut off. So weights are taken without a sign, as
 * many more than they are as makes none negative: in q4 Q4_ZERO, as they are stored, in q8
 * Q8_ABOVE, which their highest bit, turned over, adds. A group's sum is then too high by that
 * times the sum of its inputs, and begins as much below 0. Nothing overflows: 32 * 255 * 127 <
 * 2^20.
 *
 * A step is four inputs; a panel's weights of a step are VECTORS vectors, as they lie in memory. */
#include "kernels/cpu/quant.h"

enum { Q8_ABOVE = 128, VECTOR_BYTES = LANES * 4 };

/* Vector v of the weights of a step. Vectors go on in the next panel, `panel` bytes further. */
INLINE vi weights_at(const char *w, size_t panel, int step, int v)
{
    return iload(w + (size_t)(v / VECTORS) * panel + (step * VECTORS + v % VECTORS) * VECTOR_BYTES);
}

/* sum += the products of one panel's weights of a step with four inputs of each row; `to` is the
 * sum of the first row, `width` vectors before the next one's. */
INLINE void add_step(vi *to, int rows, int width, const vi *weights, const int8_t *x, size_t ldx)
{
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        int32_t inputs;
        memcpy(&inputs, x + (size_t)r * ldx * sizeof(struct quant_group), sizeof inputs);
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++)
            to[r * width + v] = dot(to[r * width + v], weights[v], iset(inputs));
    }
}

/* Sums of weights that are `above` higher than they are begin so much lower. */
INLINE void begin_sums(vi *sum, int rows, int width, const struct quant_group *x, size_t ldx,
                       int above)
{
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < width; v++)
            sum[r * width + v] = iset(-above * x[(size_t)r * ldx].sum);
}

INLINE void sums_q8(vi *sum, int rows, int width, const struct quant_group *x, size_t ldx,
                    const char *w, size_t panel)
{
    const vi above = iset((int32_t)(Q8_ABOVE * 0x01010101u));
    begin_sums(sum, rows, width, x, ldx, Q8_ABOVE);
#pragma GCC unroll 8
    for (int s = 0; s < QUANT_GROUP / 4; s++)
#pragma GCC unroll 4
        for (int p = 0; p < width; p += VECTORS) {
            vi weights[VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++)
                weights[v] = ixor(weights_at(w, panel, s, p + v), above);
            add_step(sum + p, rows, width, weights, x->q + 4 * s, ldx);
        }
}

INLINE void sums_q4(vi *sum, int rows, int width, const struct quant_group *x, size_t ldx,
                    const char *w, size_t panel)
{
    const vi low = iset(0x0f0f0f0f);
    begin_sums(sum, rows, width, x, ldx, Q4_ZERO);
#pragma GCC unroll 4
    for (int s = 0; s < QUANT_GROUP / 8; s++)
#pragma GCC unroll 4
        for (int p = 0; p < width; p += VECTORS) {
            const int8_t *in = x->q + 4 * s;
            vi first[VECTORS], second[VECTORS];
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) {
                vi both = weights_at(w, panel, s, p + v);
                first[v] = iand(both, low);
                second[v] = iand(high_halves(both), low);
            }
            add_step(sum + p, rows, width, first, in, ldx);
            add_step(sum + p, rows, width, second, in + QUANT_GROUP / 2, ldx);
        }
}

#include "kernels/cpu/quant_vector.h"
