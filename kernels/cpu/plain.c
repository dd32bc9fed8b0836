/* The inner loops in plain C. Tests compare every other instruction set with these. */
#include "kernels/cpu/quant.h"

static float exp_plain(float x)
{
    if (x < EXP_LOW)
        return 0;
    x = x > EXP_HIGH ? EXP_HIGH : x;
    float shifted = x * EXP_LOG2E + EXP_ROUND, n = shifted - EXP_ROUND;
    float r = x - n * EXP_LN2_A - n * EXP_LN2_B;
    float p = EXP_C7;
    p = p * r + EXP_C6;
    p = p * r + EXP_C5;
    p = p * r + EXP_C4;
    p = p * r + EXP_C3;
    p = p * r + EXP_C2;
    p = p * (r * r) + r + 1;
    // times 2^n: n is in the low bits of `shifted`, and the shift moves 127 + n to the exponent and
    // drops the bits above
    return p * bits_to_float((float_to_bits(shifted) + 127) << 23);
}

static inline __attribute__((always_inline)) float element(enum dtype type, const void *x, size_t i)
{
    if (type == DTYPE_F32)
        return ((const float *)x)[i];
    uint16_t half = ((const uint16_t *)x)[i];
    return type == DTYPE_BF16 ? bf16_to_float(half) : f16_to_float(half);
}

/* One row times one panel: c[o] += x[i] w[i][o], i ascending. */
static inline __attribute__((always_inline)) void panel_row(enum dtype type, float *c,
                                                            const void *x, const void *w, int k)
{
    float sum[PANEL];
    memcpy(sum, c, sizeof sum);
    for (size_t i = 0; i < (size_t)k; i++) {
        float xi = element(type, x, i);
        for (size_t o = 0; o < PANEL; o++)
            sum[o] += xi * element(type, w, panel_index(type, i, o));
    }
    memcpy(c, sum, sizeof sum);
}

static inline __attribute__((always_inline)) void tile(enum dtype type, float *c, int ldc,
                                                       const void *x, size_t ldx, const void *w,
                                                       int panels, int rows, int k, bool add)
{
    size_t x_bytes = ldx * (size_t)dtype_bytes(type);
    for (int p = 0; p < panels; p++)
        for (int r = 0; r < rows; r++) {
            float *at = c + (size_t)r * (size_t)ldc + p * PANEL;
            if (!add)
                memset(at, 0, PANEL * sizeof *at);
            panel_row(type, at, (const char *)x + (size_t)r * x_bytes,
                      (const char *)w + (size_t)p * panel_bytes(type, k), k);
        }
}

#define TILE(name, type)                                                                           \
    static void name(float *c, int ldc, const void *x, size_t ldx, const void *w, int panels,      \
                     int rows, int k, bool add)                                                    \
    {                                                                                              \
        tile(type, c, ldc, x, ldx, w, panels, rows, k, add);                                       \
    }

TILE(tile_f32, DTYPE_F32)
TILE(tile_f16, DTYPE_F16)
TILE(tile_bf16, DTYPE_BF16)

static void quantise(struct quant_group *to, const void *x, enum dtype type, int n)
{
    quant_row_of(to, x, type, n);
}

/* sum [PANEL] := the products of a group's integers with a block's. */
static inline __attribute__((always_inline)) void
group_sums(enum quant quant, int32_t *sum, const struct quant_group *x, const uint8_t *block)
{
    for (int o = 0; o < PANEL; o++)
        sum[o] = quant == QUANT_Q4 ? -Q4_ZERO * x->sum : 0;
    for (int i = 0; i < QUANT_GROUP; i++)
        for (int o = 0; o < PANEL; o++) {
            int at = (i % (quant == QUANT_Q4 ? QUANT_GROUP / 2 : QUANT_GROUP) / 4 * PANEL + o) * 4 +
                     i % 4;
            int w = quant == QUANT_Q8     ? (int8_t)block[at]
                    : i < QUANT_GROUP / 2 ? block[at] & 15
                                          : block[at] >> 4;
            sum[o] += x->q[i] * w;
        }
}

static inline __attribute__((always_inline)) void quant_tile(enum quant quant, float *c, int ldc,
                                                             const struct quant_group *x,
                                                             size_t ldx, const void *w, int panels,
                                                             int rows, int k)
{
    const uint8_t *block = w;
    size_t integers = quant_integer_bytes(quant);
    for (int p = 0; p < panels; p++)
        for (int g = 0; g < k / QUANT_GROUP; g++, block += quant_block_bytes(quant))
            for (int r = 0; r < rows; r++) {
                const struct quant_group *from = &x[(size_t)r * ldx + (size_t)g];
                float *to = c + (size_t)r * (size_t)ldc + p * PANEL;
                int32_t sum[PANEL];
                group_sums(quant, sum, from, block);
                for (int o = 0; o < PANEL; o++) {
                    f16 scale;
                    memcpy(&scale, block + integers + (size_t)o * sizeof scale, sizeof scale);
                    to[o] = (g ? to[o] : 0) + (float)sum[o] * (f16_to_float(scale) * from->scale);
                }
            }
}

static void tile_q8(float *c, int ldc, const struct quant_group *x, size_t ldx, const void *w,
                    int panels, int rows, int k)
{
    quant_tile(QUANT_Q8, c, ldc, x, ldx, w, panels, rows, k);
}

static void tile_q4(float *c, int ldc, const struct quant_group *x, size_t ldx, const void *w,
                    int panels, int rows, int k)
{
    quant_tile(QUANT_Q4, c, ldc, x, ldx, w, panels, rows, k);
}

static void store(void *to, enum dtype type, const float *from, int n)
{
    for (int i = 0; i < n; i++)
        dtype_store(type, to, (size_t)i, from[i]);
}

static float squares(const float *x, int n)
{
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

static void weigh(void *h, enum dtype type, const float *x, float a, const float *weight, int n)
{
    for (int i = 0; i < n; i++)
        dtype_store(type, h, (size_t)i, x[i] * a * weight[i]);
}

static void swiglu(void *h, enum dtype type, const float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i++)
        dtype_store(type, h, (size_t)i, gate[i] / (1 + exp_plain(-gate[i])) * up[i]);
}

static void add_scaled(float *x, const void *y, enum dtype type, float a, int n)
{
    for (int i = 0; i < n; i++)
        x[i] += a * element(type, y, (size_t)i);
}

static void scale(float *x, float a, int n)
{
    for (int i = 0; i < n; i++)
        x[i] *= a;
}

static float exp_row(float *p, const float *s, float shift, int n)
{
    float sum = 0;
    for (int i = 0; i < n; i++) {
        float e = exp_plain(s[i] - shift);
        sum += e;
        if (p)
            p[i] = e;
    }
    return sum;
}

static float softmax_block(void *p, enum dtype type, const float *s, int valid, float *max,
                           float *sum)
{
    float old = *max, top = old, e[KV_BLOCK] = {0};
    for (int i = 0; i < valid; i++)
        top = s[i] > top ? s[i] : top;
    float rescale = exp_plain(old - top);
    *max = top;
    *sum = *sum * rescale + exp_row(e, s, top, valid);
    store(p, type, e, KV_BLOCK);
    return rescale;
}

static void rope(float *y, const float *x, const float *cosines, const float *sines, int half,
                 float factor)
{
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[half + i];
        y[i] = (a * cosines[i] - b * sines[i]) * factor;
        y[half + i] = (b * cosines[i] + a * sines[i]) * factor;
    }
}

static double spin(long rounds, float *sink)
{
    float sum[PANEL] = {0}, w[PANEL];
    for (int i = 0; i < PANEL; i++)
        w[i] = *sink + (float)i;
    for (long r = 0; r < rounds; r++)
        for (int i = 0; i < PANEL; i++)
            sum[i] += *sink * w[i];
    for (int i = 0; i < PANEL; i++)
        *sink += sum[i];
    return 2.0 * PANEL * (double)rounds;
}

/* The sums of one group again and again. The compiler is told that weights and inputs may be others
 * each time, or it would add them up once. */
static inline __attribute__((always_inline)) double quant_spin(enum quant quant, long rounds,
                                                               float *sink)
{
    struct quant_group x = {.scale = 1};
    uint8_t block[Q8_BYTES] = {0};
    int32_t sum[PANEL], all = 0;
    for (long i = 0; i < rounds; i++) {
        __asm__ volatile("" : : "r"(&x), "r"(block) : "memory");
        group_sums(quant, sum, &x, block);
        for (int o = 0; o < PANEL; o++)
            all |= sum[o];
    }
    *sink += (float)all;
    return 2.0 * PANEL * QUANT_GROUP * (double)rounds;
}

static double spin_q8(long rounds, float *sink)
{
    return quant_spin(QUANT_Q8, rounds, sink);
}

static double spin_q4(long rounds, float *sink)
{
    return quant_spin(QUANT_Q4, rounds, sink);
}

static float read_all(const void *from, size_t bytes)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < bytes / sizeof sum; i++)
        sum += ((const uint64_t *)from)[i];
    return (float)sum;
}

const struct cpu_isa isa_plain = {
    .tile = {[DTYPE_F32] = tile_f32, [DTYPE_F16] = tile_f16, [DTYPE_BF16] = tile_bf16},
    .quant_tile = {[QUANT_Q8] = tile_q8, [QUANT_Q4] = tile_q4},
    .quantise = quantise,
    .vectors = {48, 1, GROUP, 0, GROUP},
    .store = store,
    .store_past = store,
    .squares = squares,
    .weigh = weigh,
    .swiglu = swiglu,
    .add_scaled = add_scaled,
    .scale = scale,
    .exp_row = exp_row,
    .softmax_block = softmax_block,
    .rope = rope,
    .spin = {spin, spin, spin},
    .quant_spin = {[QUANT_Q8] = spin_q8, [QUANT_Q4] = spin_q4},
    .read = read_all,
};
