/* How long steps are expected to take, and which rank works for how much of it: what epmoe inspect
 * says of a placement (model/balance.h), from what the ranks can do. */
#pragma once

#include "base/arena.h"
#include "model/balance.h"

struct forecast {
    bool made;
    const char *file; // where the ranks' speeds come from; NULL: this machine's, for every rank
    int threads;      // that it was measured with
    struct balance balance;
    struct rank_speed *speeds; // [n_ranks]
    struct balance_times times[BALANCE_PHASES];
    double *busy[BALANCE_PHASES]; // [n_ranks] seconds of a step
};

/* f->speeds for f->balance.n_ranks ranks, from f->file or measured with f->threads threads. 0, or
 * STATUS_BAD_FILE: fail() has named file, key, what was expected and what was found. */
int forecast_speeds(struct forecast *f, struct arena *memory);

/* f->times and f->busy of a placement. */
void forecast_make(struct forecast *f, const struct placement *p, struct arena *memory);

/* Pieces of a rank in the layers that have any: the fewest and the most. */
struct range {
    int least, most;
};
struct range forecast_pieces(const struct placement *p, int rank);
