/* From the logs of all ranks to sums; private to profile/. */
#pragma once

#include "profile/profile.h"

enum { PROFILE_HALVES = 2 };

/* What a worker did for a layer and half of the step at hand, on rank 0's clock; all 0: unknown. */
struct worker_span {
    int64_t begin, end; // of its experts' work
    int64_t replied;    // the reply was handed to the transport
};

/* Rank 0's side of the same. */
struct wait_span {
    int64_t left;      // the last message was handed to the transport
    int64_t elsewhere; // meanwhile rank 0 waited for the other half's: that hides nothing
    bool waited;       // for it to come back
};

/* Fold p->logs, each of which ends with the mark that the next will begin with: whole steps.
 * STATUS_FAILED for a log that does not fit the run. */
int profile_fold(struct profile *p);
