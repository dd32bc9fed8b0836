/* An arena holds what has one lifetime (a model, a session): one call frees everything in it.
 * Its memory is zero and aligned to 64 bytes. The arena itself does not touch it, so the system
 * puts each page on the NUMA node of the thread that writes there first. Pieces of 2 MiB and more
 * ask for huge pages. */
#pragma once

#include <stddef.h>

struct arena {
    struct arena_block *blocks; // newest first
    struct arena_mapping *adopted;
    size_t bytes; // handed out so far
};

/* Never NULL: when no memory is left, the process says how much was asked for, and ends. */
void *arena_alloc(struct arena *a, size_t bytes);
char *arena_strdup(struct arena *a, const char *text);
void arena_free(struct arena *a);
/* From now on a mapping (munmap) belongs to the arena, too. */
void arena_adopt(struct arena *a, void *mapping, size_t size);
/* As arena_free, but keeps the first block, for an arena that is filled again and again. */
void arena_reset(struct arena *a);
