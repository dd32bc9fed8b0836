/* kernels/cpu/quant_avx_vnni.c with its product of bytes (vpdpbusd) in plain C, as Intel's manual
 * describes it (volume 2). Sums wrap around, as those of unsigned numbers do. */
#define EPMOE_DOT_GIVEN
#define avx_vnni_tile_q8 avx_vnni_in_c_q8
#define avx_vnni_tile_q4 avx_vnni_in_c_q4
#define avx_vnni_spin_q8 avx_vnni_in_c_spin_q8
#define avx_vnni_spin_q4 avx_vnni_in_c_spin_q4

#include "tests/rig/tiles_in_c.h"

#ifdef EPMOE_X86
#include <immintrin.h>

/* Not inline: the loops that use it are unrolled, and take compilers minutes with it. */
static __attribute__((noinline)) __m256i dot(__m256i sum, __m256i a, __m256i b)
{
    uint32_t to[8], u[8], s[8];
    memcpy(to, &sum, sizeof to);
    memcpy(u, &a, sizeof u);
    memcpy(s, &b, sizeof s);
    for (int i = 0; i < 8; i++)
        to[i] += four_products(u[i], s[i]);
    memcpy(&sum, to, sizeof to);
    return sum;
}

#include "kernels/cpu/quant_avx_vnni.c"

const struct cpu_isa *avx_vnni_in_c(void)
{
    static struct cpu_isa loops;
    loops = isa_avx2;
    loops.quant_tile[QUANT_Q8] = avx_vnni_in_c_q8;
    loops.quant_tile[QUANT_Q4] = avx_vnni_in_c_q4;
    loops.quant_spin[QUANT_Q8] = avx_vnni_in_c_spin_q8;
    loops.quant_spin[QUANT_Q4] = avx_vnni_in_c_spin_q4;
    return &loops;
}
#else
const struct cpu_isa *avx_vnni_in_c(void)
{
    return NULL;
}
#endif
