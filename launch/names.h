/* A table of names, each with a number: exact, grows as needed. Names may hold any byte. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

struct names {
    struct arena memory; // of the names
    struct name_entry *entries;
    size_t count, room; // room: a power of two
};

/* The number of a name, to be read or set; 0 for one that is new. Valid until the next call. */
int64_t *names_at(struct names *t, const char *name, size_t bytes);
void names_free(struct names *t);
