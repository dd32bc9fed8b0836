/* One row times bf16 weights by vectors, with the bits that tiles give it. Decode of one sequence
 * does nothing else, and vector loads with a prefetch a little ahead get more of the memory's
 * bandwidth than tile loads do. Compiled for AVX-512.
 *
 * Intel's manual (volume 2, TDPBF16PS) says what a product of tiles does: of 32 inputs it adds up
 * those of even number and those of odd number by FMA, each from 0 on, in order; then it adds the
 * two, and the result to the sum. Subnormal numbers count as 0, whatever MXCSR says. */
#include <immintrin.h>
#include <string.h>

#include "kernels/cpu/isa.h"

enum { PAIRS = 16, PAIR_BYTES = 4, LINE = 64, STEP_BYTES = PAIRS * LINE };
enum { AHEAD = 384 };                                  // bytes; 128 to 4096 were tried
enum { SUBNORMALS_ARE_ZERO = 0x8040, USUAL = 0x1f80 }; // of MXCSR: FTZ and DAZ; masks, to nearest

#define INLINE static inline __attribute__((always_inline))

INLINE __m512 even(__m512i pair)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
}

INLINE __m512 odd(__m512i pair)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pair, _mm512_set1_epi32((int)0xffff0000)));
}

/* sum [panels] += 32 inputs times their weights in each of the panels, `panel` bytes apart. */
INLINE void add_step(__m512 *sum, const char *x, const char *w, size_t panel, int panels)
{
    __m512 first[GROUP], second[GROUP];
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        first[p] = second[p] = _mm512_setzero_ps();
#pragma GCC unroll 16
    for (int i = 0; i < PAIRS; i++) {
        int32_t inputs;
        memcpy(&inputs, x + i * PAIR_BYTES, sizeof inputs);
        __m512i pair = _mm512_set1_epi32(inputs);
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) {
            const char *line = w + (size_t)p * panel + i * LINE;
            __m512i weights = _mm512_loadu_si512(line);
            __builtin_prefetch(line + AHEAD);
            first[p] = _mm512_fmadd_ps(even(pair), even(weights), first[p]);
            second[p] = _mm512_fmadd_ps(odd(pair), odd(weights), second[p]);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        sum[p] = _mm512_add_ps(sum[p], _mm512_add_ps(first[p], second[p]));
}

INLINE void row_times(float *c, const char *x, const char *w, size_t panel, int panels, int k,
                      bool add)
{
    __m512 sum[GROUP];
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        sum[p] = add ? _mm512_loadu_ps(c + p * PANEL) : _mm512_setzero_ps();
    for (int i = 0; i < k; i += 2 * PAIRS, x += PAIRS * PAIR_BYTES, w += STEP_BYTES)
        add_step(sum, x, w, panel, panels);
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++)
        _mm512_storeu_ps(c + p * PANEL, sum[p]);
}

/* Not inline, so that nothing of it is computed before MXCSR is set, or after. */
static __attribute__((noinline)) void all_panels(float *c, const char *x, const char *w,
                                                 size_t panel, int panels, int k, bool add)
{
    for (; panels >= GROUP; panels -= GROUP, c += GROUP * PANEL, w += GROUP * panel)
        row_times(c, x, w, panel, GROUP, k, add);
    for (; panels > 0; panels--, c += PANEL, w += panel)
        row_times(c, x, w, panel, 1, k, add);
}

void amx_row_bf16(float *c, const void *x, const void *w, int panels, int k, bool add)
{
    unsigned mode = _mm_getcsr();
    _mm_setcsr(USUAL | SUBNORMALS_ARE_ZERO);
    all_panels(c, x, w, panel_bytes(DTYPE_BF16, k), panels, k, add);
    _mm_setcsr(mode);
}
