/* The inner loops of isa.h over vectors, written once: avx2.c and avx512.c define the operations
 * below for their registers, then include this file, then fill in their table.
 *
 *   vf, LANES           a vector of floats; VECTORS of them are a panel
 *   get, put            load or store the first n lanes of a vector (all if n >= LANES)
 *   get_or_lowest       get, with -infinity in the other lanes
 *   get_as, put_as      get and put for an array of any type, converted
 *   vset, vfma (a * b + c), vmax (b when a is NaN), vmin (likewise), vsum, vhighest
 *   vpower              2^n for the n in the low bits of a float that had EXP_ROUND added
 *   vkeep               v where x >= low, else 0
 *   raw, raw_load       one vector of weights in their packed form (for bf16 two inputs a lane)
 *   weight_parts        how many parts such a vector is multiplied in, one after the other, and
 *   weight_part         part i; its inputs begin i * PART_BYTES after those of part 0
 *   dot                 sum += part * inputs; broadcasts the inputs of one row to all lanes
 *   float_inputs        whether dot reads inputs of this type converted to f32; always, if sums of
 *                       MAX_ROWS are of one panel at a time
 *   MAX_ROWS            the most rows of a block of sums, at most 6; but up to ALONE_ROWS, at most
 *   ALONE_ROWS          6, are one block if there are no other rows
 *   ACCUMULATORS        the registers for the sums of a block
 */
#include "kernels/cpu/isa.h"

/* AHEAD_BYTES: of what is prefetched (see micro()). More hinders the hardware's prefetcher on
 * Zen 3. */
enum { VECTORS = PANEL / LANES, AHEAD_BYTES = 256, INPUT_CHUNK = 512, PART_BYTES = 4 };

/* `type` is a constant in each branch, so the compiler specialises what it inlines there. */
#define FOR_TYPE(type, call, ...)                                                                  \
    do {                                                                                           \
        if ((type) == DTYPE_BF16)                                                                  \
            call(DTYPE_BF16, __VA_ARGS__);                                                         \
        else if ((type) == DTYPE_F16)                                                              \
            call(DTYPE_F16, __VA_ARGS__);                                                          \
        else                                                                                       \
            call(DTYPE_F32, __VA_ARGS__);                                                          \
    } while (0)

INLINE vf vexp(vf x)
{
    vf clamped = vmax(vset(EXP_LOW), vmin(vset(EXP_HIGH), x)); // NaN stays NaN
    vf shifted = vfma(clamped, vset(EXP_LOG2E), vset(EXP_ROUND)), n = shifted - vset(EXP_ROUND);
    vf r = vfma(n, vset(-EXP_LN2_A), clamped);
    r = vfma(n, vset(-EXP_LN2_B), r);
    vf p = vset(EXP_C7);
    p = vfma(p, r, vset(EXP_C6));
    p = vfma(p, r, vset(EXP_C5));
    p = vfma(p, r, vset(EXP_C4));
    p = vfma(p, r, vset(EXP_C3));
    p = vfma(p, r, vset(EXP_C2));
    p = vfma(p, r * r, r) + vset(1);
    return vkeep(p * vpower(shifted), x, EXP_LOW);
}

INLINE void store_as(enum dtype type, void *to, const float *from, int n)
{
    for (int i = 0; i < n; i += LANES)
        put_as(type, to, (size_t)i, get(from + i, n - i), n - i);
}

static void store(void *to, enum dtype type, const float *from, int n)
{
    FOR_TYPE(type, store_as, to, from, n);
}

static float squares(const float *x, int n)
{
    vf sum = vset(0);
    for (int i = 0; i < n; i += LANES) {
        vf part = get(x + i, n - i);
        sum = vfma(part, part, sum);
    }
    return vsum(sum);
}

INLINE void weigh_as(enum dtype type, void *h, const float *x, float a, const float *weight, int n)
{
    for (int i = 0; i < n; i += LANES) {
        vf scaled = get(x + i, n - i) * vset(a) * get(weight + i, n - i);
        put_as(type, h, (size_t)i, scaled, n - i);
    }
}

static void weigh(void *h, enum dtype type, const float *x, float a, const float *weight, int n)
{
    FOR_TYPE(type, weigh_as, h, x, a, weight, n);
}

INLINE void swiglu_as(enum dtype type, void *h, const float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i += LANES) {
        vf g = get(gate + i, n - i), u = get(up + i, n - i);
        put_as(type, h, (size_t)i, g / (vset(1) + vexp(-g)) * u, n - i);
    }
}

static void swiglu(void *h, enum dtype type, const float *gate, const float *up, int n)
{
    FOR_TYPE(type, swiglu_as, h, gate, up, n);
}

INLINE void add_scaled_as(enum dtype type, float *x, const void *y, float a, int n)
{
    for (int i = 0; i < n; i += LANES)
        put(x + i, vfma(vset(a), get_as(type, y, (size_t)i, n - i), get(x + i, n - i)), n - i);
}

static void add_scaled(float *x, const void *y, enum dtype type, float a, int n)
{
    FOR_TYPE(type, add_scaled_as, x, y, a, n);
}

static void scale(float *x, float a, int n)
{
    for (int i = 0; i < n; i += LANES)
        put(x + i, get(x + i, n - i) * vset(a), n - i);
}

static float exp_row(float *p, const float *s, float shift, int n)
{
    vf sum = vset(0);
    for (int i = 0; i < n; i += LANES) {
        vf e = vexp(get_or_lowest(s + i, n - i) - vset(shift));
        sum += e;
        if (p)
            put(p + i, e, n - i);
    }
    return vsum(sum);
}

INLINE void softmax_block_as(enum dtype type, void *p, const float *s, int valid, float *max,
                             float *sum, float *rescale)
{
    enum { PARTS = KV_BLOCK / LANES };
    vf part[PARTS], top = vset(*max), total = vset(0);
    for (int i = 0; i < PARTS; i++) {
        part[i] = get_or_lowest(s + i * LANES, valid - i * LANES);
        top = vmax(part[i], top);
    }
    float highest = vhighest(top), old = *max;
    for (int i = 0; i < PARTS; i++) {
        vf e = vexp(part[i] - vset(highest));
        total += e;
        put_as(type, p, (size_t)(i * LANES), e, LANES);
    }
    exp_row(rescale, &old, highest, 1);
    *max = highest;
    *sum = *sum * *rescale + vsum(total);
}

static float softmax_block(void *p, enum dtype type, const float *s, int valid, float *max,
                           float *sum)
{
    float rescale;
    FOR_TYPE(type, softmax_block_as, p, s, valid, max, sum, &rescale);
    return rescale;
}

static void rope(float *y, const float *x, const float *cosines, const float *sines, int half,
                 float factor)
{
    for (int i = 0; i < half; i += LANES) {
        int n = half - i;
        vf a = get(x + i, n), b = get(x + half + i, n);
        vf c = get(cosines + i, n), s = get(sines + i, n);
        put(y + i, vfma(-b, s, a * c) * vset(factor), n);
        put(y + half + i, vfma(a, s, b * c) * vset(factor), n);
    }
}

/* Where a block's inputs begin, and the bytes from one row to the next; which block of rows it is
 * of those that go through the same weights. */
struct inputs {
    const char *at;
    size_t row_bytes;
    int block, blocks;
};

/* How many bytes of a row's inputs (input_step) and of a panel's weights (weight_step) one dot
 * reads. */
INLINE size_t input_step(enum dtype type)
{
    size_t elements = type == DTYPE_BF16 ? 2 : 1;
    return elements * (float_inputs(type) ? sizeof(float) : (size_t)dtype_bytes(type));
}

INLINE size_t weight_step(enum dtype type)
{
    return type == DTYPE_F16 ? PANEL * 2 : PANEL * 4;
}

/* How many panels micro() works on at a time: as many as have their sums in registers. */
INLINE int panels_at_once(int rows)
{
    int most = ACCUMULATORS / VECTORS / rows;
    return most >= 4 ? 4 : most >= 2 ? 2 : 1;
}

/* A block of sums, rows x panels, both constants. The sums stay in registers from the first input
 * to the last. The loop prefetches weights itself, as the hardware's prefetcher stops at every
 * page's end. Where several panels are read at once, it does so a little before their use. Where
 * rows take one panel after the other, each of their blocks fetches its part of the next panel, so
 * that memory is read during the arithmetic of all blocks, and not of the first alone. */
INLINE void micro(enum dtype type, int rows, int panels, float *c, int ldc, struct inputs x,
                  const char *w, size_t panel, int k, bool add)
{
    vf sum[ACCUMULATORS];
    raw weights[GROUP * VECTORS];
    int width = panels * VECTORS, steps = type == DTYPE_BF16 ? k / 2 : k;
    size_t next_step = weight_step(type) / (size_t)x.blocks;
    const char *next = w + panel + (size_t)(steps * x.block) * next_step;
#pragma GCC unroll 32
    for (int i = 0; i < rows * width; i++)
        sum[i] = add ? get(c + i / width * ldc + i % width * LANES, LANES) : vset(0);
    for (int i = 0; i < steps; i++) {
#pragma GCC unroll 32
        for (int v = 0; v < width; v++)
            weights[v] = raw_load(type, w + (size_t)(v / VECTORS) * panel, v % VECTORS);
#pragma GCC unroll 32
        for (int p = 0; p < panels && panels > 1; p++)
            __builtin_prefetch(w + (size_t)p * panel + AHEAD_BYTES);
        if (panels == 1)
            __builtin_prefetch(next, 0, 2); // to L2
#pragma GCC unroll 32
        for (int part = 0; part < weight_parts(type); part++) {
            raw own[GROUP * VECTORS];
#pragma GCC unroll 32
            for (int v = 0; v < width; v++)
                own[v] = weight_part(type, weights[v], part);
#pragma GCC unroll 32
            for (int r = 0; r < rows; r++)
#pragma GCC unroll 32
                for (int v = 0; v < width; v++)
                    sum[r * width + v] = dot(type, sum[r * width + v], own[v],
                                             x.at + (size_t)r * x.row_bytes + part * PART_BYTES);
        }
        w += weight_step(type);
        next += next_step;
        x.at += input_step(type);
    }
#pragma GCC unroll 32
    for (int i = 0; i < rows * width; i++)
        put(c + i / width * ldc + i % width * LANES, sum[i], LANES);
}

/* One block of rows times all panels, panels_at_once() at a time. */
INLINE void row_block(enum dtype type, int rows, float *c, int ldc, struct inputs x, const char *w,
                      size_t panel, int panels, int k, bool add)
{
    const int wide = panels_at_once(rows);
    int p = 0;
    for (; p + wide <= panels; p += wide)
        micro(type, rows, wide, c + p * PANEL, ldc, x, w + (size_t)p * panel, panel, k, add);
    for (; wide > 1 && p < panels; p++)
        micro(type, rows, 1, c + p * PANEL, ldc, x, w + (size_t)p * panel, panel, k, add);
}

#define ROW_BLOCK(type, rows)                                                                      \
    case rows:                                                                                     \
        row_block(type, rows, c, ldc, x, w, panel, panels, k, add);                                \
        break

INLINE void any_row_block(enum dtype type, int rows, float *c, int ldc, struct inputs x,
                          const char *w, size_t panel, int panels, int k, bool add)
{
    switch (rows) {
        ROW_BLOCK(type, 1);
        ROW_BLOCK(type, 2);
        ROW_BLOCK(type, 3);
        ROW_BLOCK(type, 4);
        ROW_BLOCK(type, 5);
        ROW_BLOCK(type, 6);
    }
}

/* line [rows][INPUT_CHUNK] := n inputs of each row, from number i on, converted to f32. */
INLINE void convert_inputs(enum dtype type, float *line, const char *x, size_t x_bytes, int rows,
                           int i, int n)
{
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < n; j += LANES)
            put(line + r * INPUT_CHUNK + j,
                get_as(type, x + (size_t)r * x_bytes, (size_t)(i + j), LANES), LANES);
}

/* any_row_block() on inputs that are first converted, INPUT_CHUNK of them at a time. */
INLINE void converted_row_block(enum dtype type, int rows, float *c, int ldc, struct inputs x,
                                const char *w, size_t panel, int panels, int k, bool add)
{
    float line[ALONE_ROWS * INPUT_CHUNK] __attribute__((aligned(64)));
    for (int i = 0; i < k; i += INPUT_CHUNK) {
        int n = k - i < INPUT_CHUNK ? k - i : INPUT_CHUNK;
        convert_inputs(type, line, x.at, x.row_bytes, rows, i, n);
        struct inputs floats = {(const char *)line, INPUT_CHUNK * sizeof *line, x.block, x.blocks};
        any_row_block(type, rows, c, ldc, floats, w, panel, panels, n, add || i);
        w += panel / (size_t)k * (size_t)n;
    }
}

/* The rows are divided into blocks whose sizes differ by one at most. */
INLINE int block_count(int rows)
{
    return rows <= ALONE_ROWS ? 1 : (rows + MAX_ROWS - 1) / MAX_ROWS;
}

/* The rows of block b, of those from `row` on. */
INLINE int block_rows(int rows, int row, int b, int blocks)
{
    return (rows - row + blocks - b - 1) / (blocks - b);
}

/* Many rows, where sums are of one panel at a time: a chunk of a panel stays in L1 while all blocks
 * of rows go through it. */
INLINE void panel_by_panel(enum dtype type, float *c, int ldc, const char *x, size_t x_bytes,
                           const char *w, int panels, int rows, int k, bool add)
{
    float line[MOST_BLOCK_ROWS * INPUT_CHUNK] __attribute__((aligned(64)));
    size_t panel = panel_bytes(type, k);
    int blocks = block_count(rows);
    for (int i = 0; i < k; i += INPUT_CHUNK) {
        int n = k - i < INPUT_CHUNK ? k - i : INPUT_CHUNK;
        convert_inputs(type, line, x, x_bytes, rows, i, n);
        for (int p = 0; p < panels; p++)
            for (int b = 0, row = 0, own; b < blocks; b++, row += own) {
                own = block_rows(rows, row, b, blocks);
                struct inputs from = {(const char *)(line + row * INPUT_CHUNK),
                                      INPUT_CHUNK * sizeof *line, b, blocks};
                any_row_block(type, own, c + (size_t)row * (size_t)ldc + p * PANEL, ldc, from,
                              w + (size_t)p * panel, panel, 1, n, add || i);
            }
        w += panel / (size_t)k * (size_t)n;
    }
}

/* Each block of rows goes through all panels, several at a time. */
INLINE void block_by_block(enum dtype type, float *c, int ldc, const char *x, size_t x_bytes,
                           const char *w, int panels, int rows, int k, bool add)
{
    size_t panel = panel_bytes(type, k);
    int blocks = block_count(rows);
    for (int b = 0, row = 0, own; b < blocks; b++, row += own) {
        own = block_rows(rows, row, b, blocks);
        struct inputs from = {x + (size_t)row * x_bytes, x_bytes, b, blocks};
        float *to = c + (size_t)row * (size_t)ldc;
        if (float_inputs(type))
            converted_row_block(type, own, to, ldc, from, w, panel, panels, k, add);
        else
            any_row_block(type, own, to, ldc, from, w, panel, panels, k, add);
    }
}

/* See tile_fn. */
INLINE void tile(enum dtype type, float *c, int ldc, const void *x, size_t ldx, const void *w,
                 int panels, int rows, int k, bool add)
{
    size_t x_bytes = ldx * (size_t)dtype_bytes(type);
    if (rows > ALONE_ROWS && panels_at_once(MAX_ROWS) == 1)
        panel_by_panel(type, c, ldc, x, x_bytes, w, panels, rows, k, add);
    else
        block_by_block(type, c, ldc, x, x_bytes, w, panels, rows, k, add);
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

/* See cpu_isa.spin: the sums of micro(), with the same weights and inputs in every round. */
INLINE double spin_as(enum dtype type, long rounds, float *sink)
{
    vf sum[ACCUMULATORS];
    float line[PANEL];
    for (int i = 0; i < PANEL; i++)
        line[i] = *sink;
    raw weights = raw_load(type, (const char *)line, 0);
#pragma GCC unroll 32
    for (int i = 0; i < ACCUMULATORS; i++)
        sum[i] = vset(*sink + (float)i);
    for (long r = 0; r < rounds; r++)
#pragma GCC unroll 32
        for (int i = 0; i < ACCUMULATORS; i++)
            sum[i] = dot(type, sum[i], weights, (const char *)line);
#pragma GCC unroll 32
    for (int i = 0; i < ACCUMULATORS; i++)
        *sink += vsum(sum[i]);
    return (type == DTYPE_BF16 ? 4.0 : 2.0) * ACCUMULATORS * LANES * (double)rounds;
}

static double spin_f32(long rounds, float *sink)
{
    return spin_as(DTYPE_F32, rounds, sink);
}

typedef uint32_t words __attribute__((vector_size(LANES * 4)));

/* Memory is read as products read panels: GROUP streams side by side. One alone does not keep
 * enough of it under way (Zen 3: three quarters of the bandwidth). */
enum { STREAM_BYTES = 65536, STREAM_STEP = 2 * LANES * 4 };

INLINE words read_streams(const char *from, int streams, size_t bytes)
{
    words sum[2] = {0};
    for (size_t i = 0; i < bytes; i += STREAM_STEP)
#pragma GCC unroll 4
        for (int s = 0; s < streams; s++)
#pragma GCC unroll 2
            for (int v = 0; v < 2; v++)
                sum[v] += *(const words *)(const void *)(from + (size_t)s * STREAM_BYTES + i +
                                                         (size_t)v * sizeof(words));
    return sum[0] + sum[1];
}

static float read_all(const void *from, size_t bytes)
{
    const char *at = from, *end = at + bytes / STREAM_STEP * STREAM_STEP;
    words sum = {0};
    for (; end - at >= GROUP * STREAM_BYTES; at += GROUP * STREAM_BYTES)
        sum += read_streams(at, GROUP, STREAM_BYTES);
    sum += read_streams(at, 1, (size_t)(end - at));
    uint32_t total = 0;
    for (int i = 0; i < LANES; i++)
        total += sum[i];
    return (float)total;
}
