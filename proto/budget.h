/* Memory for unpacking a message: the caller's arena, but no more than `left` bytes of it, since a
 * few bytes of a file or a peer can ask for many. */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"

struct budget {
    struct arena *arena;
    size_t left;
};

static inline void *budget_alloc(void *user, size_t bytes)
{
    struct budget *b = user;
    if (bytes > b->left)
        return NULL;
    b->left -= bytes;
    return arena_alloc(b->arena, bytes);
}

static inline void budget_free(void *user, void *piece)
{
    (void)user;
    (void)piece;
}

/* An allocator for *_unpack(); it lives no longer than the budget. */
static inline ProtobufCAllocator budget_allocator(struct budget *b)
{
    return (ProtobufCAllocator){budget_alloc, budget_free, b};
}
