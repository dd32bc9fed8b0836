/* Quantising weights as they are packed: the bits of kernels/cpu/quant.c. */
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/number.cuh"
#include "kernels/cuda/pack.cuh"
#include "kernels/cuda/product.cuh"
#include "kernels/cuda/quant.cuh"

/* Rounded away from 0. */
__device__ __forceinline__ f16 round_scale(float wanted)
{
    f16 nearest = float_to_f16(wanted);
    return fabsf(f16_to_float(nearest)) < fabsf(wanted) ? (f16)(nearest + 1) : nearest;
}

/* The scale of a group, of which each lane has a weight: from the largest magnitude, in q4 with the
 * sign of a weight that has it. */
template <enum quant Q> __device__ __forceinline__ f16 scale_of(float w)
{
    uint32_t bits = warp_largest(w);
    float largest = __uint_as_float(bits);
    bool positive = __any_sync(0xffffffffu, w == largest);
    float wanted =
        Q == QUANT_Q8 ? __fdiv_rn(largest, 127) : __fdiv_rn(positive ? largest : -largest, -8);
    return bits < 0x7f800000u ? round_scale(wanted) : (f16)0x7e00;
}

template <enum quant Q> __device__ __forceinline__ int integer_of(float w, f16 scale)
{
    constexpr float low = Q == QUANT_Q8 ? -127 : -8, high = Q == QUANT_Q8 ? 127 : 7;
    float rounded = f16_to_float(scale);
    bool some = (scale & 0x7fff) != 0 && (scale & 0x7c00) != 0x7c00;
    float steps = some ? __fdiv_rn(w, rounded) : 0;
    return quant_nearest(steps < low ? low : steps > high ? high : steps);
}

/* A lane's integer, or of q4 that and the one 16 inputs later, to output o of a block. */
template <enum quant Q>
__device__ __forceinline__ void put_integer(uint8_t *block, int q, int o, int lane)
{
    int later = __shfl_down_sync(0xffffffffu, q, QUANT_GROUP / 2);
    uint8_t *to = block + lane / 4 * WORDS_BYTES + o * 4 + lane % 4;
    if (Q == QUANT_Q8)
        *to = (uint8_t)q;
    else if (lane < QUANT_GROUP / 2)
        *to = (uint8_t)((q + 8) | (later + 8) << 4);
}

/* A group of a row by a warp. */
template <enum quant Q, class From>
__global__ void __launch_bounds__(PACK_THREADS)
    pack_quantised(uint8_t *to, const From *from, int rows, int columns, int pitch, int groups,
                   placing at)
{
    using block = quant_block<Q>;
    size_t number = ((size_t)blockIdx.x * PACK_THREADS + threadIdx.x) / WARP_SIZE;
    int row = (int)(number / (size_t)groups), group = (int)(number % (size_t)groups);
    int lane = (int)threadIdx.x % WARP_SIZE, column = group * QUANT_GROUP + lane;
    if (row >= rows)
        return;
    float w = column < columns ? to_float(from[(size_t)row * (size_t)pitch + column]) : 0;
    f16 scale = scale_of<Q>(w);
    int output = at.first + row, o = output % TILE_OUTPUTS;
    size_t panel = (size_t)(output / TILE_OUTPUTS * at.step + at.offset);
    uint8_t *here = to + (panel * (size_t)groups + (size_t)group) * block::BYTES;
    put_integer<Q>(here, integer_of<Q>(w, scale), o, lane);
    if (lane == 0)
        ((f16 *)(here + block::INTEGERS))[o] = scale;
}

template <enum quant Q, class From>
static void place(struct dev *d, const struct matrix *w, const staged_rows &from, placing at)
{
    int groups = quant_groups(w->k);
    size_t threads = (size_t)from.rows * (size_t)groups * WARP_SIZE;
    LAUNCH(d, (pack_quantised<Q, From>), (unsigned)blocks_for(threads, PACK_THREADS), PACK_THREADS,
           0, (uint8_t *)w->data, (const From *)from.data, from.rows, from.columns, from.pitch,
           groups, at);
}

void quant_place_rows(struct dev *d, const struct matrix *w, const staged_rows &from, placing at)
{
    if (w->quant == QUANT_Q8)
        FOR_TYPE(from.type, From, place<QUANT_Q8, From>(d, w, from, at));
    else
        FOR_TYPE(from.type, From, place<QUANT_Q4, From>(d, w, from, at));
}
