/* Blocks of the KV cache that outlive their sequence, so that a prompt that begins like an earlier
 * one need not be computed again.
 *
 * Keys and values at a position depend on the tokens up to it and on nothing else of a run. So a
 * full block is named by its own tokens and the block before it in its sequence; another sequence
 * that begins with the same tokens reads the same bytes there. Names are found in a hash table and
 * compared token by token. A name refers to the block before by the serial number that this block
 * got with its own name: if that block is evicted and named anew, its serial differs, and the old
 * name no longer matches.
 *
 * A named block that no sequence uses is kept until its memory is wanted. Then the least recently
 * used one is evicted; of the blocks of one sequence, later ones before earlier ones. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"

struct kept_block {
    int32_t tokens[KV_BLOCK];
    uint64_t serial; // of its name; 0: it has no name, and tokens, before and hash do not count
    uint64_t before; // the serial of the block before it; 0: it is the first of its sequence
    uint64_t hash;   // of before and tokens
    int32_t next_in_bucket; // -1: none
    int users;              // how many sequences use it
    int32_t older, newer;   // if idle: its neighbours in the list of idle blocks; -1: none
};

struct prefixes {
    struct kept_block *blocks;       // [n_blocks]
    int32_t *buckets;                // [n_buckets] a power of two
    int n_blocks, n_buckets, n_idle; // idle blocks have a name and no user
    int32_t oldest, newest;          // ends of the list of idle blocks, by last use; -1: none
    uint64_t serials;                // how many have been given
};

void prefixes_open(struct prefixes *p, int n_blocks);
void prefixes_close(struct prefixes *p);

/* The block with these tokens [KV_BLOCK] that comes after the one with serial `before` (0: at the
 * beginning); -1: there is none. */
int32_t prefixes_find(const struct prefixes *p, uint64_t before, const int32_t *tokens);
/* Name a block, which must have a user and no name. No other block may have this name
 * (prefixes_find). */
void prefixes_name(struct prefixes *p, int32_t block, uint64_t before, const int32_t *tokens);
/* take: one more sequence uses the block. give: one less does; false if the block is now free, true
 * if it has other users or is kept. */
void prefixes_take(struct prefixes *p, int32_t block);
bool prefixes_give(struct prefixes *p, int32_t block);
/* Remove the name of the idle block that has been unused for longest, and return the block, which
 * is then free. n_idle must be > 0. */
int32_t prefixes_evict(struct prefixes *p);
