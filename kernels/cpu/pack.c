/* Packing weights: from the checkpoint's rows into panels. See isa.h for the layout.
 *
 * Padding is not written: dev_alloc returns zeroed memory. */
#include "base/noise.h"
#include "base/pulse.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/quant.h"

enum {
    CHUNK = VALUES_AT_ONCE, // inputs packed at a time; 16 rows of them stay in L1
    PART = 1 << 18          // elements of a long array that one thread fills at a time
};

size_t cpu_matrix_bytes(enum dtype type, int n, int k)
{
    return (size_t)panel_count(n) * panel_bytes(type, k);
}

size_t quant_matrix_bytes(enum quant quant, int n, int k)
{
    return (size_t)panel_count(n) * quant_panel_bytes(quant, k);
}

/* Convert n elements from one type to another; `from` may be unaligned. */
static void convert(void *to, enum dtype type, const void *from, enum dtype from_type, size_t n)
{
    if (type == from_type) {
        memcpy(to, from, n * (size_t)dtype_bytes(type));
        return;
    }
    for (size_t i = 0; i < n; i++)
        dtype_store(type, to, i, dtype_load(from_type, from, i));
}

void values_take(void *to, enum dtype type, const struct values *source, size_t first, size_t n)
{
    float made[CHUNK];
    const void *from = made;
    if (source->data)
        from = (const char *)source->data + first * (size_t)dtype_bytes(source->type);
    else
        noise_fill(source->noise, source->key, source->first + first, n, made);
    convert(to, type, from, source->type, n);
}

/* Write inputs [first, first + n) of output o into a panel. */
static void scatter(void *panel, enum dtype type, const void *from, size_t first, size_t n,
                    size_t o)
{
    const uint16_t *half = from;
    const float *single = from;
    if (type == DTYPE_F32)
        for (size_t i = 0; i < n; i++)
            ((float *)panel)[(first + i) * PANEL + o] = single[i];
    else if (type == DTYPE_F16)
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)panel)[(first + i) * PANEL + o] = half[i];
    else
        for (size_t i = 0; i < n; i += 2) // first and CHUNK are even
            memcpy((uint16_t *)panel + panel_index(DTYPE_BF16, first + i, o), half + i,
                   i + 1 < n ? 2 * sizeof *half : sizeof *half);
}

size_t values_columns(const struct values *source, const struct matrix *w)
{
    return (size_t)(source->columns ? source->columns : w->k);
}

size_t values_stride(const struct values *source, const struct matrix *w)
{
    return source->stride ? (size_t)source->stride : values_columns(source, w);
}

typedef uint32_t four __attribute__((vector_size(16)));

static four load_four(const char *from)
{
    four v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* Words i .. i + 3 of four rows become columns of `to`, whose rows are PANEL words long. */
static inline void transpose_four(uint32_t *to, const char *const *rows, size_t i)
{
    four a = load_four(rows[0] + 4 * i), b = load_four(rows[1] + 4 * i);
    four c = load_four(rows[2] + 4 * i), d = load_four(rows[3] + 4 * i);
    four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5),
         AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5),
         CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const four columns[4] = {
        __builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
        __builtin_shufflevector(AB, CD, 0, 1, 4, 5), __builtin_shufflevector(AB, CD, 2, 3, 6, 7)};
    for (int j = 0; j < 4; j++)
        memcpy(to + j * PANEL, &columns[j], sizeof columns[j]);
}

/* to [words][PANEL] := the rows' words. A word is an input in f32, or a pair of them in bf16. */
static void transpose(uint32_t *to, const char *const rows[PANEL], size_t words)
{
    size_t whole = words / 4 * 4;
    for (size_t i = 0; i < whole; i += 4)
        for (int o = 0; o < PANEL; o += 4)
            transpose_four(to + i * PANEL + o, rows + o, i);
    for (size_t i = whole; i < words; i++)
        for (int o = 0; o < PANEL; o++)
            memcpy(to + i * PANEL + o, rows[o] + 4 * i, sizeof *to);
}

/* Which outputs of a panel are written, and from where in the source. */
struct strip {
    const struct values *source;
    size_t stride;  // elements from one row of the source to the next
    int first;      // the output that its row 0 becomes
    int begin, end; // outputs of this panel
};

/* Inputs [i, i + n) of all PANEL outputs at once. One output at a time would write four bytes of
 * each 64, and every cache line 16 times. */
static void pack_whole(char *panel, enum dtype type, const struct strip *s, size_t i, size_t n)
{
    char lines[PANEL][CHUNK * sizeof(float)];
    const char *rows[PANEL];
    size_t width = (size_t)dtype_bytes(type), words = (n * width + 3) / 4;
    bool as_is = s->source->data && s->source->type == type && n * width % 4 == 0;
    for (int o = 0; o < PANEL; o++) {
        size_t at = (size_t)(s->begin + o - s->first) * s->stride + i;
        rows[o] = as_is ? (const char *)s->source->data + at * width : lines[o];
        if (as_is)
            continue;
        memset(lines[o] + 4 * (words - 1), 0, 4); // a pair's second half is padding
        values_take(lines[o], type, s->source, at, n);
    }
    transpose((uint32_t *)(void *)(panel + i * width * PANEL), rows, words);
}

static void pack_some(char *panel, enum dtype type, const struct strip *s, size_t i, size_t n)
{
    for (int o = s->begin; o < s->end; o++) {
        float line[CHUNK];
        values_take(line, type, s->source, (size_t)(o - s->first) * s->stride + i, n);
        scatter(panel, type, line, i, n, (size_t)(o % PANEL));
    }
}

static void pack_quantised(char *panel, enum quant quant, const struct strip *s, size_t i, size_t n)
{
    float line[CHUNK];
    for (int o = s->begin; o < s->end; o++) {
        values_take(line, DTYPE_F32, s->source, (size_t)(o - s->first) * s->stride + i, n);
        quant_pack(panel, quant, line, i, n, (size_t)(o % PANEL));
    }
}

static void pack_strip(char *panel, const struct matrix *w, const struct strip *s, size_t i,
                       size_t n)
{
    bool whole = s->end - s->begin == PANEL && w->type != DTYPE_F16;
    if (w->quant)
        pack_quantised(panel, w->quant, s, i, n);
    else
        (whole ? pack_whole : pack_some)(panel, w->type, s, i, n);
}

/* Source rows [0, rows) become outputs first, first + 1, ... of a matrix made of every `step`-th
 * panel of w, from panel `offset` on. */
static void pack(struct dev *d, struct matrix *w, int step, int offset, int first,
                 const struct values *source, int rows)
{
    size_t bytes = matrix_panel_bytes(w), k = values_columns(source, w);
    int panels = rows ? (first + rows - 1) / PANEL + 1 : 0;
    int threads = team_size(d, (double)rows * (double)k * dtype_bytes(source->type));
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int p = first / PANEL; p < panels; p++) {
        char *panel = (char *)w->data + (size_t)(p * step + offset) * bytes;
        struct strip s = {.source = source, .stride = values_stride(source, w), .first = first};
        s.begin = p * PANEL < first ? first : p * PANEL;
        s.end = (p + 1) * PANEL < first + rows ? (p + 1) * PANEL : first + rows;
        for (size_t i = 0; i < k; i += CHUNK)
            pack_strip(panel, w, &s, i, k - i < CHUNK ? k - i : CHUNK);
        pulse();
    }
}

void cpu_matrix_pack(struct dev *d, struct matrix *w, int first, const struct values *source,
                     int rows)
{
    pack(d, w, 1, 0, first, source, rows);
}

void cpu_matrix_pack_pair(struct dev *d, struct matrix *gate_up, const struct values *gate,
                          const struct values *up, int width)
{
    pack(d, gate_up, 2, 0, 0, gate, width);
    pack(d, gate_up, 2, 1, 0, up, width);
}

void cpu_fill(struct dev *d, void *to, const struct values *source, size_t count)
{
    size_t width = (size_t)dtype_bytes(source->type);
    int parts = (int)((count + PART - 1) / PART), threads = team_size(d, (double)count);
    if (to == source->data)
        return;
    if (source->data) {
        memcpy(to, source->data, count * width);
        return;
    }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int i = 0; i < parts; i++) {
        size_t at = (size_t)i * PART, left = count - at;
        noise_fill(source->noise, source->key, source->first + at, left < PART ? left : PART,
                   (char *)to + at * width);
        pulse();
    }
}
