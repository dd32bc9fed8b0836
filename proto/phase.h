/* The phases of a rank's log (base/trace.h). docs/profile.md defines each. */
#pragma once

#include <stddef.h>

/* The numbers are sent between ranks (proto/control.proto), so a new phase goes to the end, before
 * PHASE_COUNT. */
enum phase {
    // outside the layers
    PHASE_OUTSIDE, // between steps
    PHASE_CONTROL, // begins a step: tell the workers that it follows; detail: its rows
    PHASE_EMBED,
    PHASE_LOGITS,  // final norm and output matrix
    PHASE_SAMPLE,  // choose tokens and hand them to their sequences
    PHASE_PROFILE, // collect the logs
    // a layer on the coordinator
    PHASE_ATTENTION, // with its norm, projections and the KV cache
    PHASE_ROUTER,    // norm, scores, the k best
    PHASE_PLAN,      // sort the assignments, and find which rank needs which row
    PHASE_PACK,      // narrow and gather rows into messages; on a worker, sum and narrow results
    PHASE_WIRE_OUT, // hand a message to the transport; detail: the rank it goes to; in rank 0's log
                    // 0: all
    PHASE_SHARED,   // run the pieces of the shared expert or of a dense layer's MLP; with few rows
                    // the experts that rank 0 holds, too
    PHASE_HOME,     // run the experts that rank 0 holds, if not with the above
    PHASE_WAIT,     // wait for workers
    PHASE_COMBINE,  // place, widen and add up the results of workers
    // a layer on a worker
    PHASE_AWAIT,   // wait for rows
    PHASE_UNPACK,  // check, widen and gather them
    PHASE_COMPUTE, // run the experts; detail: rows
    PHASE_COUNT
};

extern const char *const phase_names[PHASE_COUNT]; // "attention"
/* The name, or "unknown". */
const char *phase_name(enum phase phase);

/* The most marks that a step can have, for sizing a log. All ranks of a run pass the same numbers.
 */
size_t phase_step_most(int layers, int ranks);
