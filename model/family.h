/* The families of models that this program runs, a row each: what config.json calls it, what holds
 * where config.json is silent, and what its tensors are called. The tensors themselves are
 * tensors.h's. */
#pragma once

#include "model/config.h"
#include "model/tensors.h"

enum { FAMILY_RENAMES = 8, FAMILY_LIST_BYTES = 128 };

/* A tensor that this family calls otherwise than the table of tensors.c does. */
struct rename {
    enum tensor_kind kind;
    const char *name;
};

struct family {
    const char *type;                      // model_type
    const char *class;                     // the one entry of architectures
    bool has_experts;                      // layers may have experts, and the keys about them count
    bool qkv_bias_required;                // qkv_bias may not be false
    struct config defaults;                // as transformers has them
    struct rename renames[FAMILY_RENAMES]; // up to the first without a name
};

const struct family *family_of(const struct config *m);
const struct family *family_at(enum architecture architecture);

/* "\"a\", \"b\" or \"c\"": every model_type there is. */
void family_list(char text[FAMILY_LIST_BYTES]);
