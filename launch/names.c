#include "launch/names.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"

struct name_entry {
    const char *name; // NULL: the entry is free
    size_t bytes;
    uint64_t hash;
    int64_t number;
};

/* The entry of a name, or the free entry where it belongs. */
static struct name_entry *find(const struct names *t, const char *name, size_t bytes, uint64_t hash)
{
    size_t i = hash & (t->room - 1);
    for (;; i = (i + 1) & (t->room - 1)) {
        struct name_entry *e = &t->entries[i];
        if (!e->name || (e->hash == hash && e->bytes == bytes && memcmp(e->name, name, bytes) == 0))
            return e;
    }
}

static void grow(struct names *t)
{
    struct names old = *t;
    t->room = old.room ? old.room * 2 : 1024;
    t->entries = calloc(t->room, sizeof *t->entries);
    CHECK_MEMORY(t->entries, "no memory for %zu names", t->room);
    for (size_t i = 0; i < old.room; i++)
        if (old.entries[i].name)
            *find(t, old.entries[i].name, old.entries[i].bytes, old.entries[i].hash) =
                old.entries[i];
    free(old.entries);
}

int64_t *names_at(struct names *t, const char *name, size_t bytes)
{
    uint64_t hash = hash_bytes(HASH_START, name, bytes);
    if (t->count * 2 >= t->room)
        grow(t);
    struct name_entry *e = find(t, name, bytes, hash);
    if (!e->name) {
        char *copy = arena_alloc(&t->memory, bytes + 1);
        memcpy(copy, name, bytes);
        *e = (struct name_entry){.name = copy, .bytes = bytes, .hash = hash};
        t->count++;
    }
    return &e->number;
}

void names_free(struct names *t)
{
    arena_free(&t->memory);
    free(t->entries);
    *t = (struct names){0};
}
