/* A checkpoint whose matrices are quantised and packed already, as `epmoe quantize` writes them:
 * one file, whose tensors below have the bytes that a device has in memory (kernels/cpu/quant.h),
 * so that they are mapped and nothing is copied. All other tensors are as they were in the
 * checkpoint that it was made of. The names, by what they are:
 *
 *     epmoe.layers.L.qkv, epmoe.layers.L.o          attention's matrices
 *     epmoe.layers.L.experts.E.gate_up and .down    a routed expert's
 *     epmoe.layers.L.pieces.P.gate_up and .down     a piece's (model/pieces.h)
 *     epmoe.outputs                                 the output matrix
 *
 * The file's __metadata__ says how: epmoe.layout, epmoe.layout_version, epmoe.matrices and
 * epmoe.blocks. Another layout or version is refused. */
#pragma once

#include "base/quant.h"
#include "model/checkpoint.h"
#include "model/config.h"
#include "model/tensors.h"

#define PACKED_LAYOUT  "panels of 16"
#define PACKED_VERSION "1"
enum { PACKED_PANEL = 16 };

/* What a header's metadata says: 0, or STATUS_BAD_FILE for a layout that this program does not
 * have. `file` is what the error calls the file. */
int packed_read(struct packed_kind *kind, const char *header, size_t bytes, const char *file);

/* One matrix: its name, outputs and inputs, and how it is quantised. */
struct packed_matrix {
    char name[TENSOR_NAME_BYTES];
    int n, k;
    enum quant quant;
};

/* The matrix of an attention part, of a block (gate_up or down), and of the outputs. */
struct packed_matrix packed_part(const struct config *m, struct packed_kind kind,
                                 enum tensor_part part, int layer);
enum packed_block { PACKED_EXPERT, PACKED_PIECE };
struct packed_matrix packed_block(const struct config *m, struct packed_kind kind,
                                  enum packed_block block, int layer, int number, bool down);
struct packed_matrix packed_outputs(const struct config *m, struct packed_kind kind);

/* How the matrices of a part are kept; QUANT_NONE: its tensors are as they were. */
enum quant packed_quant(struct packed_kind kind, enum tensor_part part);

/* Every matrix of a model, in the order of the file. */
void packed_each(const struct config *m, struct packed_kind kind,
                 void (*each)(void *context, const struct packed_matrix *p), void *context);

/* Does c have all of them, with the right number of bytes? 0 or STATUS_BAD_FILE. */
int packed_check(const struct config *m, const struct checkpoint *c);

/* w := outputs [first, first + n) of a packed matrix. On a CPU it is mapped, and belongs to the
 * device; only outputs that do not begin with a panel are copied. A GPU gets a copy. 0 or
 * STATUS_BAD_FILE. */
struct dev;
struct matrix;
int packed_map(struct matrix *w, struct dev *d, enum dtype type, const struct checkpoint *c,
               const struct packed_matrix *p, int first, int n);
