/* AVX2 with FMA and F16C. All arithmetic is in f32; weights are converted when they are loaded. */
#include <immintrin.h>
#include <math.h>

#include "kernels/cpu/isa.h"

enum { LANES = 8, MAX_ROWS = 5, ALONE_ROWS = 5, ACCUMULATORS = 12 };
typedef __m256 vf;
typedef __m256i raw;

#define INLINE static inline __attribute__((always_inline))

/* All ones in the first n lanes. */
INLINE __m256i first_lanes(int n)
{
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
}

INLINE vf vset(float x)
{
    return _mm256_set1_ps(x);
}

INLINE vf vfma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

INLINE vf vmax(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

INLINE vf vmin(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

INLINE float vsum(vf v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE float vhighest(vf v)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

INLINE vf vpower(vf shifted)
{
    __m256i n = _mm256_castps_si256(shifted);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

INLINE vf vkeep(vf v, vf x, float low)
{
    return _mm256_and_ps(v, _mm256_cmp_ps(x, vset(low), _CMP_NLT_UQ));
}

INLINE vf get(const float *p, int n)
{
    return n >= LANES ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, first_lanes(n));
}

INLINE vf get_or_lowest(const float *p, int n)
{
    vf lanes = _mm256_castsi256_ps(first_lanes(n));
    return _mm256_blendv_ps(vset(-INFINITY), _mm256_maskload_ps(p, first_lanes(n)), lanes);
}

INLINE void put(float *p, vf v, int n)
{
    if (n >= LANES)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, first_lanes(n), v);
}

INLINE __m128i get_half(const uint16_t *p, int n)
{
    if (n >= LANES)
        return _mm_loadu_si128((const void *)p);
    uint16_t line[LANES] = {0};
    memcpy(line, p, (size_t)n * sizeof *p);
    return _mm_loadu_si128((const void *)line);
}

INLINE vf get_as(enum dtype type, const void *p, size_t i, int n)
{
    if (type == DTYPE_F32)
        return get((const float *)p + i, n);
    __m128i half = get_half((const uint16_t *)p + i, n);
    if (type == DTYPE_F16)
        return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

/* To nearest, ties to even; NaN stays NaN. */
INLINE __m128i to_bf16(vf v)
{
    __m256i bits = _mm256_castps_si256(v), upper = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff));
    __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    __m256i rounded = _mm256_blendv_epi8(_mm256_srli_epi32(sum, 16), quiet, nan);
    // the pack instruction works in each half of the register; a permutation then puts the four
    // quarters in order
    __m256i packed = _mm256_packus_epi32(rounded, rounded);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}

INLINE void put_as(enum dtype type, void *p, size_t i, vf v, int n)
{
    if (type == DTYPE_F32) {
        put((float *)p + i, v, n);
        return;
    }
    __m128i half = type == DTYPE_F16 ? _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT) : to_bf16(v);
    if (n >= LANES)
        _mm_storeu_si128((void *)((uint16_t *)p + i), half);
    else
        memcpy((uint16_t *)p + i, &half, (size_t)n * sizeof(uint16_t));
}

INLINE bool float_inputs(enum dtype type)
{
    (void)type;
    return true;
}

INLINE raw raw_load(enum dtype type, const char *w, int vector)
{
    if (type == DTYPE_F16) {
        __m128i half = _mm_loadu_si128((const void *)(w + vector * LANES * 2));
        return _mm256_castps_si256(_mm256_cvtph_ps(half));
    }
    return _mm256_loadu_si256((const void *)(w + vector * LANES * 4));
}

/* Each lane of bf16 holds a pair of weights, the first one in its lower half. All first ones are
 * multiplied before all second ones: a sum's two products are then as far apart as they can be, and
 * the second need not wait for the first. */
INLINE int weight_parts(enum dtype type)
{
    return type == DTYPE_BF16 ? 2 : 1;
}

INLINE raw weight_part(enum dtype type, raw weights, int part)
{
    if (type != DTYPE_BF16)
        return weights;
    return part ? _mm256_and_si256(weights, _mm256_set1_epi32(-65536))
                : _mm256_slli_epi32(weights, 16);
}

INLINE vf dot(enum dtype type, vf sum, raw part, const char *x)
{
    (void)type;
    return vfma(vset(*(const float *)(const void *)x), _mm256_castsi256_ps(part), sum);
}

#include "kernels/cpu/vector.h"

/* What both tables have; they differ in their products with quantised weights. */
#define LOOPS                                                                                      \
    .tile = {[DTYPE_F32] = tile_f32, [DTYPE_F16] = tile_f16, [DTYPE_BF16] = tile_bf16},            \
    .quantise = avx2_quantise, .vectors = {60, MAX_ROWS, GROUP, 0, GROUP}, .store = store,         \
    .store_past = store, .squares = squares, .weigh = weigh, .swiglu = swiglu,                     \
    .add_scaled = add_scaled, .scale = scale, .exp_row = exp_row, .softmax_block = softmax_block,  \
    .rope = rope, .spin = {spin_f32, spin_f32, spin_f32}, .read = read_all

const struct cpu_isa isa_avx2 = {
    .quant_tile = {[QUANT_Q8] = avx2_tile_q8, [QUANT_Q4] = avx2_tile_q4},
    .quant_spin = {[QUANT_Q8] = avx2_spin_q8, [QUANT_Q4] = avx2_spin_q4},
    LOOPS,
};

const struct cpu_isa isa_avx_vnni = {
    .quant_tile = {[QUANT_Q8] = avx_vnni_tile_q8, [QUANT_Q4] = avx_vnni_tile_q4},
    .quant_spin = {[QUANT_Q8] = avx_vnni_spin_q8, [QUANT_Q4] = avx_vnni_spin_q4},
    LOOPS,
};
