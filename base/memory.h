/* How much memory there is. */
#pragma once

#include <stdint.h>

struct memory_room {
    uint64_t bytes;    // UINT64_MAX: without limit
    const char *limit; // what sets it, for messages
};

/* What all processes of this host, or of this control group, may still take together: what the
 * system can give without swapping, within the limits of the groups (version 1 and 2) above this
 * process. `root` is "", or a folder with proc and sys, for tests. */
struct memory_room memory_room_here(const char *root);
/* What this process alone may still take (ulimit -v and -d). */
struct memory_room memory_room_of_process(void);

/* Bytes that this process may still take: the least of the two. */
uint64_t memory_available(void);
