/* Weights in fewer bits than their numbers had: a group of QUANT_GROUP weights, neighbours along
 * the inputs of an output, has one scale in f16, and of each weight a small integer, the nearest to
 * weight / scale.
 *
 * q8: integers from -127 to 127. The scale is the largest magnitude / 127.
 * q4: integers from -8 to 7. The scale is the weight of the largest magnitude / -8, with its sign:
 *     so all 16 steps are used, and the weight that matters most is met. Only weights of the other
 *     sign that are nearly as large are cut off, from 8 to 7 steps at most.
 *
 * The scale is rounded away from 0 to f16. So no other weight is ever cut off, and each is within
 * half a step of its integer's, also where scales are so small that f16 has few bits for them
 * (below 6e-5: the weights of a whole group below 0.008 in q8). */
#pragma once

#include <stdbool.h>

#include "base/dtype.h"

enum { QUANT_GROUP = 32 };

/* When rows are quantised, a group whose largest magnitude is below this counts as zeros: 127 over
 * it may be infinite. */
#define QUANT_TINY 0x1p-100f

enum quant { QUANT_NONE, QUANT_Q8, QUANT_Q4, QUANT_COUNT };

static inline const char *quant_name(enum quant q)
{
    static const char *const names[QUANT_COUNT] = {"none", "q8", "q4"};
    return names[q];
}

/* Bytes of a group: its integers and its scale. */
static inline int quant_group_bytes(enum quant q)
{
    return (q == QUANT_Q4 ? QUANT_GROUP / 2 : QUANT_GROUP) + (int)sizeof(f16);
}

/* Bytes of a weight: of `type` itself, unless it is quantised. */
static inline double weight_bytes(enum dtype type, enum quant q)
{
    return q ? (double)quant_group_bytes(q) / QUANT_GROUP : dtype_bytes(type);
}

static inline const char *weight_name(enum dtype type, enum quant q)
{
    return q ? quant_name(q) : dtype_name(type);
}

/* The numbers of a run. All ranks have the same. */
struct precision {
    enum dtype type;     // of rows, of the KV cache and of routers, whatever else is quantised
    enum quant matrices; // attention's projections and the output matrix
    enum quant blocks;   // routed experts, and the pieces of dense blocks
};

static inline bool is_quantised(const struct precision *p)
{
    return p->matrices || p->blocks;
}

static inline bool same_precision(const struct precision *a, const struct precision *b)
{
    return a->type == b->type && a->matrices == b->matrices && a->blocks == b->blocks;
}

/* "bf16", "q8"; "q8/q4" where the blocks are kept in another way. */
struct precision_words {
    char text[16];
};
struct precision_words precision_text(const struct precision *p);

/* Nothing is quantised. */
static inline struct precision precision_of(enum dtype type)
{
    return (struct precision){type, QUANT_NONE, QUANT_NONE};
}
