/* Blocks of the KV cache that outlive their sequence, so that a prompt which begins as an earlier
 * one need not be computed again.
 *
 * A row of the cache depends on its own token and those before it, and on nothing else of a run. So
 * a block that is full can be named by its tokens and the block before it; a sequence whose prompt
 * has the same tokens may read it, with the same bytes. A name is found by a hash and then compared
 * token by token; it holds the serial number under which the block before was kept, so that a block
 * which was given away since is never taken for it.
 *
 * A block that no sequence uses is kept until its memory is wanted: the least recently used goes
 * first, and of one sequence the last before those that lead to it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"

struct kept_block {
    int32_t tokens[KV_BLOCK];
    uint64_t serial, before; // its own, of the block before (0: it is the first); serial 0: no name
    uint64_t hash;           // of before and tokens
    int32_t next_in_bucket;  // -1: none
    int users;               // sequences that have it
    int32_t older, newer;    // in the order of use, of blocks that nobody uses; -1: none
};

struct prefixes {
    struct kept_block *blocks;       // [n_blocks]
    int32_t *buckets;                // [n_buckets] a power of two
    int n_blocks, n_buckets, n_idle; // n_idle: named, and used by nobody
    int32_t oldest, newest;          // of those
    uint64_t serials;                // given so far
};

void prefixes_open(struct prefixes *p, int n_blocks);
void prefixes_close(struct prefixes *p);

/* Find the block with these tokens [KV_BLOCK] behind the one of serial `before`; -1: there is none.
 */
int32_t prefixes_find(const struct prefixes *p, uint64_t before, const int32_t *tokens);
/* Give a block, which has at least one user and no name, a name that no other has. */
void prefixes_name(struct prefixes *p, int32_t block, uint64_t before, const int32_t *tokens);
/* One more sequence has the block; or one less: true if it is kept, false if it is free. */
void prefixes_take(struct prefixes *p, int32_t block);
bool prefixes_give(struct prefixes *p, int32_t block);
/* Give up the block that has not been used for longest; n_idle > 0. */
int32_t prefixes_evict(struct prefixes *p);
