/* One arena per lifetime (a model, a session): everything in it is freed by one call.
 * Memory is zero, aligned to 64 bytes, and untouched until its user touches it first, so it lands
 * on that user's NUMA node. Pieces of 2 MiB and more ask for huge pages. */
#pragma once

#include <stddef.h>

struct arena {
    struct arena_block *blocks; // newest first
    size_t bytes;               // handed out so far
};

/* Never NULL: no memory left is a CHECK that says how much was asked for. */
void *arena_alloc(struct arena *a, size_t bytes);
char *arena_strdup(struct arena *a, const char *text);
void arena_free(struct arena *a);
/* As arena_free, but the first block stays, for what is filled again and again. */
void arena_reset(struct arena *a);
