#include "model/footprint.h"

#include <stddef.h>

#include "kernels/ops.h"
#include "model/tensors.h"

/* As an arena hands it out. */
static uint64_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static uint64_t part_bytes(const struct dev *d, const struct config *m, enum dtype type,
                           enum tensor_part part, int layer)
{
    struct part_size size = part_size(m, part, layer);
    if (size.n == 0 || part_form(part) == FORM_TABLE)
        return 0;
    if (part_form(part) == FORM_VECTOR)
        return rounded((size_t)size.n * sizeof(float));
    if (part_form(part) == FORM_MATRIX)
        return rounded(matrix_bytes(d, type, size.n, size.k));
    return rounded(matrix_bytes(d, type, 2 * row_stride(size.n), size.k)) +
           rounded(matrix_bytes(d, type, size.k, size.n));
}

/* Which sum a part's bytes belong to: its place in struct footprint. */
static size_t sum_of(enum tensor_part part)
{
    switch (part) {
    case PART_ROUTER:
        return offsetof(struct footprint, router);
    case PART_DENSE:
        return offsetof(struct footprint, dense);
    case PART_FINAL_NORM:
    case PART_UNEMBED:
        return offsetof(struct footprint, unembed);
    case PART_EXPERT:
        return offsetof(struct footprint, expert);
    default:
        return offsetof(struct footprint, attention);
    }
}

struct footprint footprint_of(const struct config *m, enum dtype type)
{
    struct footprint f = {0};
    struct dev d;
    dev_open_cpu(&d, ISA_PLAIN, 1); // all instruction sets pack alike
    for (int p = 0; p < PARTS; p++) {
        enum tensor_part part = (enum tensor_part)p;
        uint64_t *sum = (uint64_t *)((char *)&f + sum_of(part));
        for (int l = 0; l < (part_is_of_layer(part) ? m->n_layers : 1); l++)
            *sum += part_bytes(&d, m, type, part, l);
    }
    dev_close(&d);
    return f;
}

uint64_t kv_footprint(const struct config *m, enum dtype type, int context)
{
    struct dev d;
    dev_open_cpu(&d, ISA_PLAIN, 1);
    uint64_t block = kv_block_bytes(&d, type, m->n_kv_heads, m->head_dim);
    uint64_t blocks = ((uint64_t)context + KV_BLOCK - 1) / KV_BLOCK;
    dev_close(&d);
    return 2 * (uint64_t)m->n_layers * blocks * block;
}
