/* Ranks that are not there: the coordinator's end of an exchange with as many workers as wanted,
 * which sends, counts and forgets. Plans, strategies and messages are those of exchange/, so bytes,
 * messages and padding are what a run with as many ranks has. Nothing is waited for, and rows hold
 * zeros, so times mean nothing. */
#pragma once

#include "study/cost.h"
#include "study/lap.h"

/* Between the coordinator and one rank, of one lap or of several. */
struct virtual_pair {
    uint64_t out, back; // bytes
    uint64_t messages_out, messages_back;
};

struct virtual_ranks { // must not move while it is open
    struct transport transport;
    struct virtual_pair *pairs; // [n] since the last virtual_lap() began
    size_t *awaited;            // [n] bytes that are on their way back
    struct lap lap;
    struct arena memory;
};

/* n >= 1: the coordinator is one of them. */
void virtual_open(struct virtual_ranks *v, int n, const struct exchange_limits *limits,
                  const struct exchange_options *way);
void virtual_close(struct virtual_ranks *v);

/* What laps cost of which these are the sums: nothing where no message is sent. narrowed: on a wire
 * narrower than the model's; between_work: ranks compute before each. */
struct costs lap_costs(const struct virtual_pair *sum, int laps, bool narrowed, bool between_work);

/* One lap of a layer's routing with experts where `experts` says: v->pairs of it. */
void virtual_lap(struct virtual_ranks *v, const struct traffic *t,
                 const struct layer_placement *experts);
/* All pairs of the last lap together. */
struct virtual_pair virtual_sum(const struct virtual_ranks *v);
void virtual_add(struct virtual_pair *sum, const struct virtual_pair *p);
