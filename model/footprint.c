#include "model/footprint.h"

#include <stddef.h>

#include "kernels/ops.h"
#include "model/pieces.h"
#include "model/tensors.h"

/* Rounded up as an arena rounds what it hands out. */
static uint64_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

/* Bytes of a gated block with so many hidden values. */
static uint64_t block_bytes(const struct dev *d, struct precision p, int width, int dim)
{
    return rounded(matrix_bytes(d, p.type, p.blocks, 2 * row_stride(width), dim)) +
           rounded(matrix_bytes(d, p.type, p.blocks, dim, width));
}

static uint64_t piece_bytes(const struct dev *d, const struct config *m, struct precision p,
                            int layer)
{
    struct pieces cut = pieces_of(m, layer);
    return cut.n ? block_bytes(d, p, cut.width, m->dim) : 0;
}

static uint64_t part_bytes(const struct dev *d, const struct config *m, struct precision p,
                           enum tensor_part part, int layer)
{
    struct part_size size = part_size(m, part, layer);
    if (size.n == 0 || part_form(part) == FORM_TABLE)
        return 0;
    if (part == PART_DENSE)
        return (uint64_t)pieces_of(m, layer).n * piece_bytes(d, m, p, layer);
    if (part_form(part) == FORM_VECTOR)
        return rounded((size_t)size.n * sizeof(float));
    if (part_form(part) == FORM_MATRIX)
        return rounded(
            matrix_bytes(d, p.type, part == PART_ROUTER ? QUANT_NONE : p.matrices, size.n, size.k));
    return block_bytes(d, p, size.n, size.k);
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

struct footprint footprint_of(const struct config *m, struct precision p)
{
    struct footprint f = {0};
    struct dev d;
    dev_open_cpu(&d, ISA_PLAIN, 1); // all instruction sets pack alike
    for (int i = 0; i < PARTS; i++) {
        enum tensor_part part = (enum tensor_part)i;
        uint64_t *sum = (uint64_t *)((char *)&f + sum_of(part));
        for (int l = 0; l < (part_is_of_layer(part) ? m->n_layers : 1); l++)
            *sum += part_bytes(&d, m, p, part, l);
    }
    dev_close(&d);
    return f;
}

uint64_t piece_footprint(const struct config *m, struct precision p, int layer)
{
    struct dev d;
    dev_open_cpu(&d, ISA_PLAIN, 1);
    uint64_t bytes = piece_bytes(&d, m, p, layer);
    dev_close(&d);
    return bytes;
}

uint64_t outputs_footprint(const struct config *m, struct precision p, int outputs)
{
    struct dev d;
    dev_open_cpu(&d, ISA_PLAIN, 1);
    uint64_t bytes = rounded(matrix_bytes(&d, p.type, p.matrices, outputs, m->dim));
    dev_close(&d);
    return bytes;
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
