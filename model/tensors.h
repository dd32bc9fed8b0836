/* The tensors of a model: one table of what each is called, its shape, which layers have it and
 * what it becomes a part of. Checking and loading a checkpoint, counting its parameters and bytes,
 * and making a synthetic one all go by it. A family's own names are in family.h. */
#pragma once

#include <stdint.h>

#include "model/config.h"

/* In the order in which synthetic checkpoints have them. */
enum tensor_kind {
    TENSOR_EMBED,
    TENSOR_Q, // from here to TENSOR_MLP_DOWN: once a layer
    TENSOR_Q_BIAS,
    TENSOR_K,
    TENSOR_K_BIAS,
    TENSOR_V,
    TENSOR_V_BIAS,
    TENSOR_O,
    TENSOR_O_BIAS, // refused: no family that has it can be run
    TENSOR_Q_NORM,
    TENSOR_K_NORM,
    TENSOR_ATTN_NORM,
    TENSOR_FFN_NORM,
    TENSOR_ROUTER,
    TENSOR_EXPERT_GATE, // these three once an expert,
    TENSOR_EXPERT_UP,
    TENSOR_EXPERT_DOWN,
    TENSOR_FUSED_GATE_UP, // or in their place these two for all experts of a layer
    TENSOR_FUSED_DOWN,
    TENSOR_SHARED_GATE,
    TENSOR_SHARED_UP,
    TENSOR_SHARED_DOWN,
    TENSOR_SHARED_SCORE, // how much of the shared expert a row gets: scored as the experts are
    TENSOR_MLP_GATE,
    TENSOR_MLP_UP,
    TENSOR_MLP_DOWN,
    TENSOR_FINAL_NORM,
    TENSOR_UNEMBED,
    TENSOR_KINDS,
    TENSOR_FIRST_OF_LAYER = TENSOR_Q,
    TENSOR_LAST_OF_LAYER = TENSOR_MLP_DOWN
};

/* What tensors become in memory, one or several of them together; in the order of the check. */
enum tensor_part {
    PART_EMBED,
    PART_ATTN_NORM,
    PART_FFN_NORM,
    PART_QKV,
    PART_O,
    PART_QKV_BIAS,
    PART_QK_NORM,
    PART_ROUTER,
    PART_DENSE, // the MLP of a dense layer, or the shared expert of a sparse one
    PART_EXPERT,
    PART_FINAL_NORM,
    PART_UNEMBED,
    PARTS,
    PART_NONE = PARTS // the tensor is not loaded like this, or not at all
};

enum part_form {
    FORM_TABLE,  // stays as it is in its file
    FORM_VECTOR, // its tensors, one after the other
    FORM_MATRIX, // the rows of its tensors, one after the other
    FORM_FFN     // gate, up and down
};

enum { TENSOR_NAME_BYTES = 160, PART_TENSORS = 4 };

struct tensor_spec {
    enum tensor_kind kind;
    int layer, expert; // where it belongs to one
    char name[TENSOR_NAME_BYTES];
    int n_dims;
    int64_t shape[3];
};

/* The tensor of this kind, whether the model has it or not. The output matrix of a model that ties
 * it is the embedding. */
struct tensor_spec tensor_spec(const struct config *m, enum tensor_kind kind, int layer,
                               int expert);
uint64_t tensor_elements(const struct config *m, enum tensor_kind kind);

/* Has this layer tensors of this kind? */
bool tensor_is_here(const struct config *m, enum tensor_kind kind, int layer);
/* Why a layer's tensor that is not here must not be in the checkpoint either, as the end of the
 * sentence "expected no such tensor …". NULL: it may be there, and nobody reads it. */
const char *tensor_refusal(enum tensor_kind kind);

/* Calls each() for the tensors of a layer, in order, the experts' one by one. */
void tensors_each(const struct config *m, int layer,
                  void (*each)(void *context, const struct tensor_spec *t), void *context);

enum part_form part_form(enum tensor_part part);
/* Is it made once a layer? Else once for the model, and PART_EXPERT once an expert. */
bool part_is_of_layer(enum tensor_part part);

/* The tensors that a part is made of, in order, and their number; 0: this layer has no such part.
 * The layer does not matter where the part is not of a layer. */
int part_tensors(const struct config *m, enum tensor_part part, int layer,
                 enum tensor_kind kinds[PART_TENSORS]);

/* n outputs of k inputs; of an ffn n hidden of k inputs; of a vector n elements, and k is 1. n is 0
 * where this layer has no such part. */
struct part_size {
    int n, k;
};
struct part_size part_size(const struct config *m, enum tensor_part part, int layer);
