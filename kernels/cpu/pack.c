/* Packing weights: from the checkpoint's rows into panels. See isa.h for the layout.
 *
 * Padding is not written: dev_alloc returns zeroed memory. */
#include "base/noise.h"
#include "base/pulse.h"
#include "kernels/cpu/cpu.h"

enum {
    CHUNK = VALUES_AT_ONCE, // inputs converted at a time; 16 rows of them stay in L1
    PART = 1 << 18          // elements of a long array that one thread fills at a time
};

size_t cpu_matrix_bytes(enum dtype type, int n, int k)
{
    return (size_t)panel_count(n) * panel_bytes(type, k);
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

/* Source rows [0, rows) become outputs first, first + 1, ... of a matrix made of every `step`-th
 * panel of w, from panel `offset` on. */
static void pack(struct dev *d, struct matrix *w, int step, int offset, int first,
                 const struct values *source, int rows)
{
    size_t bytes = panel_bytes(w->type, w->k), k = values_columns(source, w);
    size_t stride = values_stride(source, w);
    int panels = rows ? (first + rows - 1) / PANEL + 1 : 0;
    int threads = team_size(d, (double)rows * (double)k * dtype_bytes(source->type));
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int p = first / PANEL; p < panels; p++) {
        char *panel = (char *)w->data + (size_t)(p * step + offset) * bytes;
        int begin = p * PANEL < first ? first : p * PANEL;
        int end = (p + 1) * PANEL < first + rows ? (p + 1) * PANEL : first + rows;
        for (size_t i = 0; i < k; i += CHUNK)
            for (int o = begin; o < end; o++) {
                float line[CHUNK];
                size_t n = k - i < CHUNK ? k - i : CHUNK;
                values_take(line, w->type, source, (size_t)(o - first) * stride + i, n);
                scatter(panel, w->type, line, i, n, (size_t)(o % PANEL));
            }
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
