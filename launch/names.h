/* A hash table of names, each with a number. It grows as needed. Names may hold any byte. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"

struct names {
    struct arena memory; // holds the names
    struct name_entry *entries;
    size_t count, room; // room: a power of two
};

/* A pointer to the number of a name, valid until the next call. A name that is not in the table is
 * added, with number 0. */
int64_t *names_at(struct names *t, const char *name, size_t bytes);
void names_free(struct names *t);
