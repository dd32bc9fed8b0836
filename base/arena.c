#include "base/arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"

/* A matrix fills many huge pages and part of one more, so large pieces share blocks as small ones
 * do: that part is the beginning of the next piece. What no piece reaches takes no memory. */
enum { ALIGN = 64, BLOCK_BYTES = 1 << 20, HUGE_PAGE = 2 << 20, LARGE_BLOCK_BYTES = 64 << 20 };

struct arena_block {
    struct arena_block *next;
    size_t size, used; // bytes, this header included
};

static size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Map `size` bytes that start at a multiple of `align` (a huge page for large blocks). It maps
 * `align` bytes more than that; what lies outside the block is never touched, so it takes no
 * memory. */
static void *map_aligned(size_t size, size_t align)
{
    char *raw = mmap(NULL, size + align, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK_MEMORY(raw != MAP_FAILED, "no memory for %zu bytes", size);
    char *start = (char *)round_up((uintptr_t)raw, align);
    if (start > raw)
        munmap(raw, (size_t)(start - raw));
    munmap(start + size, (size_t)(raw + align - start));
    return start;
}

static struct arena_block *block_new(size_t bytes)
{
    size_t need = bytes + ALIGN;
    bool huge = need >= HUGE_PAGE;
    size_t least = huge ? LARGE_BLOCK_BYTES : BLOCK_BYTES;
    size_t size = round_up(need > least ? need : least, huge ? HUGE_PAGE : 4096);
    struct arena_block *b = map_aligned(size, huge ? HUGE_PAGE : 4096);
    if (huge)
        madvise(b, size, MADV_HUGEPAGE); // may fail: without huge pages it is only slower
    b->size = size;
    b->used = ALIGN;
    return b;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    CHECK_MEMORY(bytes < SIZE_MAX / 2, "no memory for %zu bytes", bytes);
    size_t need = round_up(bytes ? bytes : 1, ALIGN);
    if (!a->blocks || a->blocks->size - a->blocks->used < need) {
        struct arena_block *b = block_new(need);
        b->next = a->blocks;
        a->blocks = b;
    }
    void *piece = (char *)a->blocks + a->blocks->used;
    a->blocks->used += need;
    a->bytes += need;
    return piece;
}

char *arena_strdup(struct arena *a, const char *text)
{
    size_t n = strlen(text) + 1;
    return memcpy(arena_alloc(a, n), text, n);
}

/* Where it is and how large; this itself is in the arena. */
struct arena_mapping {
    struct arena_mapping *next;
    void *at;
    size_t size;
};

void arena_adopt(struct arena *a, void *mapping, size_t size)
{
    struct arena_mapping *m = arena_alloc(a, sizeof *m);
    *m = (struct arena_mapping){a->adopted, mapping, size};
    a->adopted = m;
}

static void free_adopted(struct arena *a)
{
    for (struct arena_mapping *m = a->adopted; m; m = m->next)
        munmap(m->at, m->size);
    a->adopted = NULL;
}

void arena_reset(struct arena *a)
{
    free_adopted(a);
    while (a->blocks && a->blocks->next) {
        struct arena_block *b = a->blocks;
        a->blocks = b->next;
        munmap(b, b->size);
    }
    if (a->blocks) {
        memset((char *)a->blocks + ALIGN, 0, a->blocks->used - ALIGN);
        a->blocks->used = ALIGN;
    }
    a->bytes = 0;
}

void arena_free(struct arena *a)
{
    free_adopted(a);
    while (a->blocks) {
        struct arena_block *b = a->blocks;
        a->blocks = b->next;
        munmap(b, b->size);
    }
    a->bytes = 0;
}
