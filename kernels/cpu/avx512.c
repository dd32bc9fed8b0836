/* AVX-512 with BF16: vdpbf16ps for bf16, FMA for f32 and (converted) f16.
 *
 * vdpbf16ps takes subnormal inputs for 0, flushes subnormal sums to 0, and adds a pair's two
 * products with one rounding fewer; everything else rounds as usual. */
#include <immintrin.h>
#include <math.h>

#include "kernels/cpu/isa.h"

enum { LANES = 16, MAX_ROWS = 6, ALONE_ROWS = 6, ACCUMULATORS = 24 };
typedef __m512 vf;
typedef __m512i raw;

#define INLINE static inline __attribute__((always_inline))

INLINE __mmask16 first_lanes(int n)
{
    return (__mmask16)(n >= LANES ? 0xffff : (1u << n) - 1);
}

INLINE vf vset(float x)
{
    return _mm512_set1_ps(x);
}

INLINE vf vfma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

INLINE vf vmax(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

INLINE vf vmin(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

INLINE float vsum(vf v)
{
    return _mm512_reduce_add_ps(v);
}

INLINE float vhighest(vf v)
{
    return _mm512_reduce_max_ps(v);
}

INLINE vf vpower(vf shifted)
{
    __m512i n = _mm512_castps_si512(shifted);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}

INLINE vf vkeep(vf v, vf x, float low)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, vset(low), _CMP_NLT_UQ), v);
}

INLINE vf get(const float *p, int n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}

INLINE vf get_or_lowest(const float *p, int n)
{
    return _mm512_mask_loadu_ps(vset(-INFINITY), n > 0 ? first_lanes(n) : 0, p);
}

INLINE void put(float *p, vf v, int n)
{
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
}

INLINE vf get_as(enum dtype type, const void *p, size_t i, int n)
{
    if (type == DTYPE_F32)
        return get((const float *)p + i, n);
    __m256i half = _mm256_maskz_loadu_epi16(first_lanes(n), (const uint16_t *)p + i);
    if (type == DTYPE_F16)
        return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Round to nearest, ties to even; NaN stays NaN. Subnormals are kept: vcvtneps2bf16, which would
 * flush them to 0, is not used. */
INLINE __m256i to_bf16(vf v)
{
    __m512i bits = _mm512_castps_si512(v), upper = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff));
    __m512i quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(_mm512_srli_epi32(sum, 16), nan, quiet));
}

INLINE void put_as(enum dtype type, void *p, size_t i, vf v, int n)
{
    if (type == DTYPE_F32) {
        put((float *)p + i, v, n);
        return;
    }
    __m256i half = type == DTYPE_F16 ? _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT) : to_bf16(v);
    _mm256_mask_storeu_epi16((uint16_t *)p + i, first_lanes(n), half);
}

INLINE bool float_inputs(enum dtype type)
{
    return type != DTYPE_BF16;
}

INLINE raw raw_load(enum dtype type, const char *w, int vector)
{
    (void)vector; // always 0: one vector holds a panel's step
    if (type == DTYPE_F16)
        return _mm512_castps_si512(_mm512_cvtph_ps(_mm256_loadu_si256((const void *)w)));
    return _mm512_loadu_si512(w);
}

INLINE int weight_parts(enum dtype type)
{
    (void)type;
    return 1;
}

INLINE raw weight_part(enum dtype type, raw weights, int part)
{
    (void)type, (void)part;
    return weights;
}

INLINE vf dot(enum dtype type, vf sum, raw weights, const char *x)
{
    int32_t input;
    memcpy(&input, x, sizeof input);
    raw all = _mm512_set1_epi32(input);
    if (type == DTYPE_BF16)
        return _mm512_dpbf16_ps(sum, (__m512bh)weights, (__m512bh)all);
    return vfma(_mm512_castsi512_ps(all), _mm512_castsi512_ps(weights), sum);
}

#include "kernels/cpu/vector.h"

/* The next 64 bytes of a row: 16 floats, or 32 halves. */
INLINE __m512i line_of(enum dtype type, const float *from)
{
    if (type == DTYPE_F32)
        return _mm512_castps_si512(_mm512_loadu_ps(from));
    __m256i half[2];
    for (int i = 0; i < 2; i++)
        put_as(type, half, (size_t)(i * LANES), _mm512_loadu_ps(from + i * LANES), LANES);
    return _mm512_inserti64x4(_mm512_castsi256_si512(half[0]), half[1], 1);
}

INLINE void store_past_as(enum dtype type, void *to, const float *from, int n)
{
    int size = type == DTYPE_F32 ? 4 : 2, line = 64 / size;
    for (int i = 0; i < n; i += line)
        _mm512_stream_si512((void *)((char *)to + i * size), line_of(type, from + i));
}

static void store_past(void *to, enum dtype type, const float *from, int n)
{
    if ((uintptr_t)to % 64 || n * dtype_bytes(type) % 64)
        store(to, type, from, n);
    else
        FOR_TYPE(type, store_past_as, to, from, n);
}

static double spin_bf16(long rounds, float *sink)
{
    return spin_as(DTYPE_BF16, rounds, sink);
}

/* What both tables have; they differ in their products. */
#define LOOPS                                                                                      \
    .quantise = avx2_quantise, .store = store, .store_past = store_past, .squares = squares,       \
    .weigh = weigh, .swiglu = swiglu, .add_scaled = add_scaled, .scale = scale,                    \
    .exp_row = exp_row, .softmax_block = softmax_block, .rope = rope, .read = read_all

const struct cpu_isa isa_avx512 = {
    .tile = {[DTYPE_F32] = tile_f32, [DTYPE_F16] = tile_f16, [DTYPE_BF16] = tile_bf16},
    .quant_tile = {[QUANT_Q8] = avx512_tile_q8, [QUANT_Q4] = avx512_tile_q4},
    .vectors = {48, MAX_ROWS, GROUP, 0, GROUP},
    .spin = {[DTYPE_F32] = spin_f32, [DTYPE_F16] = spin_f32, [DTYPE_BF16] = spin_bf16},
    .quant_spin = {[QUANT_Q8] = avx512_spin_q8, [QUANT_Q4] = avx512_spin_q4},
    LOOPS,
};

const struct cpu_isa isa_amx = {
    .tile = {[DTYPE_F32] = tile_f32, [DTYPE_F16] = tile_f16, [DTYPE_BF16] = amx_tile_bf16},
    .quant_tile = {[QUANT_Q8] = amx_tile_q8, [QUANT_Q4] = amx_tile_q4},
    .vectors = {48, MAX_ROWS, GROUP, 0, GROUP},
    .tiles = {AMX_BLOCKING},
    .quantised = {AMX_QUANT_BLOCKING},
    .spin = {[DTYPE_F32] = spin_f32, [DTYPE_F16] = spin_f32, [DTYPE_BF16] = amx_spin_bf16},
    .quant_spin = {[QUANT_Q8] = amx_spin_quant, [QUANT_Q4] = amx_spin_quant},
    LOOPS,
};
