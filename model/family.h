/* The families of models that this program runs, a row each: what config.json calls it, what holds
 * where config.json is silent, and what its tensors are called. The tensors themselves are
 * tensors.h's. */
#pragma once

#include "model/config.h"
#include "model/tensors.h"

enum { FAMILY_RENAMES = 8, FAMILY_LIST_BYTES = 128 };

/* Which layers see only sliding_window of the text, where config.json does not list them. */
enum windows {
    WINDOWS_NONE,
    WINDOWS_BEFORE, // with use_sliding_window: every other one of the first max_window_layers
    WINDOWS_FROM,   // with use_sliding_window: those from max_window_layers on
    WINDOWS_IF_ON,  // with use_sliding_window: all
    WINDOWS_ALL     // all, where there is a sliding_window
};

/* A tensor that this family calls otherwise than the table of tensors.c does. */
struct rename {
    enum tensor_kind kind;
    const char *name;
};

struct family {
    const char *type;                      // model_type
    const char *class;                     // the one entry of architectures
    bool has_experts;                      // layers may have experts, and the keys about them count
    bool has_dense_layers;                 // decoder_sparse_step and mlp_only_layers say which
    bool qkv_bias_required;                // qkv_bias may not be false
    enum windows windows;                  // which layers see a window only, if one is given
    struct config defaults;                // as transformers has them; what no key says, as it is
    struct rename renames[FAMILY_RENAMES]; // up to the first without a name
};

const struct family *family_of(const struct config *m);
const struct family *family_at(enum architecture architecture);

/* What a model_type needs that this program lacks, for those that it knows it cannot run; NULL for
 * all others. */
const char *family_lacks(const char *type);

/* "\"a\", \"b\" or \"c\"": every model_type there is. */
void family_list(char text[FAMILY_LIST_BYTES]);
