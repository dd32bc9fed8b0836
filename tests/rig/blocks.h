/* Places the blocks of a layer on ranks, with or without copies, for tests. It does what
 * model/placement.h does, without using it. */
#pragma once

#include <stdint.h>

#include "kernels/kernels.h"

enum { EXPERTS = 11, MOST_RANKS = 10 };
enum placing { SPREAD, LAST_ONLY, RANDOM, HOME, COPIES, PLACINGS };

static uint32_t seed = 1;

static inline uint32_t draw(uint32_t below)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)seed * below >> 32);
}

/* The blocks of one kind, and the ranks that hold them. The copies of block b are on ranks
 * rank_of[b] to rank_of[b] + copies[b] - 1, modulo the number of ranks. */
enum { TURNS = 4, MOST_GROUPS = EXPERTS * MOST_RANKS };
struct blocks {
    int n, n_groups;
    int32_t rank_of[EXPERTS], copies[EXPERTS], group_of[TURNS * EXPERTS], block_at[MOST_GROUPS],
        rank_first[MOST_RANKS + 1];
};

/* Note the group of a block's copy: in turn t the rows go to copy t mod the number of copies. */
static inline void take_group(struct blocks *b, int block, int copy, int group)
{
    b->block_at[group] = block;
    for (int t = copy; t < TURNS; t += b->copies[block])
        b->group_of[t * b->n + block] = group;
}

static inline void place_blocks(struct blocks *b, int n, enum placing how, int ranks)
{
    int group = 0;
    b->n = n;
    for (int i = 0; i < n; i++) {
        b->copies[i] = how == COPIES ? 1 + i % (ranks < TURNS ? ranks : TURNS) : 1;
        b->rank_of[i] = ranks == 1 || how == HOME ? 0
                        : how == SPREAD           ? 1 + i % (ranks - 1)
                        : how == LAST_ONLY        ? ranks - 1
                                                  : (int32_t)draw((uint32_t)ranks);
    }
    for (int rank = 0; rank < ranks; rank++) {
        b->rank_first[rank] = group;
        for (int i = 0; i < n; i++) {
            int copy = (rank - b->rank_of[i] + ranks) % ranks;
            if (copy < b->copies[i])
                take_group(b, i, copy, group++);
        }
    }
    b->rank_first[ranks] = b->n_groups = group;
}

static inline struct grouping grouping_of(const struct blocks *b)
{
    return (struct grouping){b->group_of, b->n, b->n_groups, TURNS};
}
