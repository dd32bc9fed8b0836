/* The logs of other ranks (base/trace.h), as rank 0 collects them between steps. */
#pragma once

#include "base/arena.h"
#include "base/trace.h"
#include "transport/transport.h"

/* A rank's log. Its times are by its own clock; profile/clocks.h says how far that is ahead. */
struct rank_log {
    struct trace_event *events; // the holder frees them
    size_t n, room;
    size_t at; // the next event that profile_fold() reads
};

void log_append(struct rank_log *log, const struct trace_event *events, size_t n);

/* Ask a worker for its log since the last time, and append it; *dropped += marks that it had no
 * room for. The worker must be between steps. `memory` is emptied and used for the messages. */
int log_collect(struct rank_log *log, struct transport *t, int rank, uint64_t *dropped,
                struct arena *memory);
