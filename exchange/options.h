/* How the rows of a layer travel: choices that change what is sent, but not which experts compute
 * what. All ranks of a run have the same. docs/protocol.md has every byte. */
#pragma once

#include "kernels/kernels.h"

enum strategy {
    STRATEGY_EXACT,     // each worker gets the rows of its experts and nothing else
    STRATEGY_PADDED,    // messages of one size to and from all workers, in rounds until all is sent
    STRATEGY_ALLGATHER, // every worker gets all rows and the routing, and picks
    STRATEGY_COUNT
};
/* ON: a row is sent once to a rank; OFF: once for each of its experts there. */
enum dedup { DEDUP_ON, DEDUP_OFF, DEDUP_COUNT };
/* What comes back: the output of each expert, or, for each row, the rank's weighted sum of them. */
enum combine { COMBINE_ROWS, COMBINE_SUM, COMBINE_COUNT };
/* A step's rows go through a layer together, or in two halves that take turns: one computes while
 * the other travels. A half reads as many weights as the whole, so AUTO halves only steps of at
 * least OVERLAP_AUTO_ROWS rows. */
enum overlap { OVERLAP_OFF, OVERLAP_ON, OVERLAP_AUTO, OVERLAP_COUNT };
enum { OVERLAP_AUTO_ROWS = 64 };

/* All zero is the default. */
struct exchange_options {
    enum strategy strategy;
    enum combine combine;
    enum dedup dedup; // without effect under STRATEGY_ALLGATHER
    enum wire wire;   // of rows, both ways; see exchange_choose_wire
    enum overlap overlap;
};

/* The same as the words of --help and of the Setup message. The strings are static. */
struct exchange_words {
    const char *strategy, *combine, *dedup, *wire, *overlap;
};
struct exchange_words exchange_words(const struct exchange_options *o);
/* *o := the options that the words name. 0, or STATUS_FAILED for an unknown word. */
int exchange_understand(struct exchange_options *o, const struct exchange_words *words);

/* Check o->wire for a model of this type: 0, or STATUS_USAGE if it is wider than the model's type.
 * A wire of the model's own type becomes WIRE_MODEL. */
int exchange_choose_wire(struct exchange_options *o, enum dtype type);

/* How many lanes of the transport a run with other ranks uses. */
int exchange_lanes(const struct exchange_options *o);

/* Rows of the second half of a step of n rows; the first has one more of an odd number. 0: the step
 * goes whole. */
static inline int exchange_second_half(const struct exchange_options *o, int n)
{
    bool halves =
        o->overlap == OVERLAP_ON || (o->overlap == OVERLAP_AUTO && n >= OVERLAP_AUTO_ROWS);
    return halves ? n / 2 : 0;
}
