/* The instructions of kernels/cpu/quant_avx512.c in plain C, as Intel's manual describes them
 * (volume 2: VPDPBUSD, VPXORD, VPANDD, VPORD, VPSRLD, VPBROADCASTD, VCVTPH2PS, VCVTDQ2PS, VMULPS,
 * VADDPS). Lanes are 32 bits, the lowest bytes first. Numbers are rounded to the nearest. */
#define EPMOE_VNNI_GIVEN
#define avx512_tile_q8 vnni_in_c_q8
#define avx512_tile_q4 vnni_in_c_q4
#define avx512_spin_q8 vnni_in_c_spin_q8
#define avx512_spin_q4 vnni_in_c_spin_q4

#include "tests/rig/tiles_in_c.h"

enum { IN_VECTOR = 16 };

typedef struct {
    uint32_t lane[IN_VECTOR];
} __m512i;
typedef struct {
    float lane[IN_VECTOR];
} __m512;
typedef struct {
    f16 lane[IN_VECTOR];
} __m256i;

static inline __m512i _mm512_loadu_si512(const void *from)
{
    __m512i v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline __m256i _mm256_loadu_si256(const void *from)
{
    __m256i v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline __m512 _mm512_loadu_ps(const void *from)
{
    __m512 v;
    memcpy(&v, from, sizeof v);
    return v;
}

static inline void _mm512_storeu_ps(void *to, __m512 v)
{
    memcpy(to, &v, sizeof v);
}

/* A function of one lane after the other. Not inline: the loops that use it are unrolled, and take
 * compilers minutes with it. */
#define EACH_LANE(type, name, parameters, expression)                                              \
    static __attribute__((noinline)) type name parameters                                          \
    {                                                                                              \
        type to;                                                                                   \
        for (int i = 0; i < IN_VECTOR; i++)                                                        \
            to.lane[i] = expression;                                                               \
        return to;                                                                                 \
    }

EACH_LANE(__m512i, _mm512_set1_epi32, (int32_t a), (uint32_t)a)
EACH_LANE(__m512i, _mm512_xor_si512, (__m512i a, __m512i b), a.lane[i] ^ b.lane[i])
EACH_LANE(__m512i, _mm512_and_si512, (__m512i a, __m512i b), a.lane[i] & b.lane[i])
EACH_LANE(__m512i, _mm512_or_si512, (__m512i a, __m512i b), a.lane[i] | b.lane[i])
EACH_LANE(__m512i, _mm512_srli_epi32, (__m512i a, unsigned n), a.lane[i] >> n)
EACH_LANE(__m512, _mm512_set1_ps, (float a), a)
EACH_LANE(__m512, _mm512_add_ps, (__m512 a, __m512 b), a.lane[i] + b.lane[i])
EACH_LANE(__m512, _mm512_mul_ps, (__m512 a, __m512 b), a.lane[i] * b.lane[i])
EACH_LANE(__m512, _mm512_cvtepi32_ps, (__m512i a), (float)(int32_t)a.lane[i])
EACH_LANE(__m512, _mm512_cvtph_ps, (__m256i a), f16_to_float(a.lane[i]))

/* Sums wrap around, as those of unsigned numbers do. */
EACH_LANE(__m512i, _mm512_dpbusd_epi32, (__m512i sum, __m512i u, __m512i s),
          sum.lane[i] + four_products(u.lane[i], s.lane[i]))

#include "kernels/cpu/quant_avx512.c"

const struct cpu_isa *vnni_in_c(void)
{
    static struct cpu_isa loops;
    loops = isa_plain;
    loops.quant_tile[QUANT_Q8] = vnni_in_c_q8;
    loops.quant_tile[QUANT_Q4] = vnni_in_c_q4;
    loops.quant_spin[QUANT_Q8] = vnni_in_c_spin_q8;
    loops.quant_spin[QUANT_Q4] = vnni_in_c_spin_q4;
    return &loops;
}
