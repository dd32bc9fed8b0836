#include "coordinator/prefix.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"

void prefixes_open(struct prefixes *p, int n_blocks)
{
    int buckets = 1;
    while (buckets < n_blocks)
        buckets *= 2;
    *p = (struct prefixes){.n_blocks = n_blocks, .n_buckets = buckets, .oldest = -1, .newest = -1};
    p->blocks = calloc((size_t)n_blocks, sizeof *p->blocks);
    p->buckets = malloc((size_t)buckets * sizeof *p->buckets);
    CHECK_MEMORY(p->blocks && p->buckets, "no memory for the names of %d blocks", n_blocks);
    for (int i = 0; i < buckets; i++)
        p->buckets[i] = -1;
}

void prefixes_close(struct prefixes *p)
{
    free(p->blocks);
    free(p->buckets);
}

static uint64_t hash_of(uint64_t before, const int32_t *tokens)
{
    return hash_bytes(hash_mix(before + HASH_START), tokens, KV_BLOCK * sizeof *tokens);
}

static int32_t *bucket_of(const struct prefixes *p, uint64_t hash)
{
    return &p->buckets[hash & (uint64_t)(p->n_buckets - 1)];
}

int32_t prefixes_find(const struct prefixes *p, uint64_t before, const int32_t *tokens)
{
    uint64_t hash = hash_of(before, tokens);
    for (int32_t i = *bucket_of(p, hash); i >= 0; i = p->blocks[i].next_in_bucket) {
        const struct kept_block *b = &p->blocks[i];
        if (b->hash == hash && b->before == before &&
            memcmp(b->tokens, tokens, sizeof b->tokens) == 0)
            return i;
    }
    return -1;
}

void prefixes_name(struct prefixes *p, int32_t block, uint64_t before, const int32_t *tokens)
{
    struct kept_block *b = &p->blocks[block];
    CHECK(b->users > 0 && !b->serial, "block %d cannot be named", block);
    memcpy(b->tokens, tokens, sizeof b->tokens);
    b->serial = ++p->serials;
    b->before = before;
    b->hash = hash_of(before, tokens);
    int32_t *bucket = bucket_of(p, b->hash);
    b->next_in_bucket = *bucket;
    *bucket = block;
}

/* Remove a block from the list of idle ones. */
static void unlink_block(struct prefixes *p, int32_t block)
{
    struct kept_block *b = &p->blocks[block];
    *(b->older < 0 ? &p->oldest : &p->blocks[b->older].newer) = b->newer;
    *(b->newer < 0 ? &p->newest : &p->blocks[b->newer].older) = b->older;
    p->n_idle--;
}

void prefixes_take(struct prefixes *p, int32_t block)
{
    struct kept_block *b = &p->blocks[block];
    if (b->users++ == 0 && b->serial)
        unlink_block(p, block);
}

bool prefixes_give(struct prefixes *p, int32_t block)
{
    struct kept_block *b = &p->blocks[block];
    if (--b->users > 0)
        return true;
    if (!b->serial)
        return false;
    b->older = p->newest;
    b->newer = -1;
    *(b->older < 0 ? &p->oldest : &p->blocks[b->older].newer) = block;
    p->newest = block;
    p->n_idle++;
    return true;
}

int32_t prefixes_evict(struct prefixes *p)
{
    int32_t block = p->oldest;
    CHECK(block >= 0, "no block is idle");
    struct kept_block *b = &p->blocks[block];
    int32_t *at = bucket_of(p, b->hash);
    unlink_block(p, block);
    while (*at != block)
        at = &p->blocks[*at].next_in_bucket;
    *at = b->next_in_bucket;
    b->serial = 0;
    return block;
}
