/* Turning the logs of all ranks into sums. Private to profile/. */
#pragma once

#include "profile/profile.h"

enum { PROFILE_HALVES = 2 };

/* What a worker did in a layer for one half of the current step, in times of rank 0's clock; all 0:
 * not known. */
struct worker_span {
    int64_t begin, end; // its experts began and ended
    int64_t replied;    // it handed its reply to the transport
};

/* What rank 0 did in a layer for one half of the current step. */
struct wait_span {
    int64_t left;      // when it handed the last message to the transport
    int64_t elsewhere; // for how long it then waited for the other half's rows
    bool waited;       // it has waited for this half's rows
};

/* Add p->logs to the sums of p. A log holds whole steps; its last mark is the first of the next
 * log. STATUS_FAILED for a log that does not fit the run. */
int profile_fold(struct profile *p);
