/* What a rank may be doing: the phases of its log (base/trace.h). docs/profile.md defines each. */
#pragma once

#include <stddef.h>

/* The numbers travel (proto/control.proto): new ones go before PHASE_COUNT. */
enum phase {
    // outside the layers
    PHASE_OUTSIDE, // between steps
    PHASE_CONTROL, // begins a step: agree with the workers that it follows; detail: its rows
    PHASE_EMBED,
    PHASE_LOGITS,  // final norm and output matrix
    PHASE_SAMPLE,  // pick tokens and hand them on
    PHASE_PROFILE, // collect the logs
    // a layer on the coordinator
    PHASE_ATTENTION, // with its norm, projections and the KV cache
    PHASE_ROUTER,    // norm, scores, the k best
    PHASE_PLAN,      // sort, and who needs which row
    PHASE_PACK,      // narrow and gather rows into messages; a worker: its sums and narrowing
    PHASE_WIRE_OUT,  // hand a message to the transport; detail: to which rank (rank 0's to 0: all)
    PHASE_SHARED,    // shared expert, or a dense layer's FFN
    PHASE_HOME,      // experts at home
    PHASE_WAIT,      // for workers
    PHASE_COMBINE,   // place, widen and add up what came back
    // a layer on a worker
    PHASE_AWAIT,   // for rows
    PHASE_UNPACK,  // check, widen and gather them
    PHASE_COMPUTE, // experts; detail: rows
    PHASE_COUNT
};

extern const char *const phase_names[PHASE_COUNT]; // "attention"
/* The name, or "unknown". */
const char *phase_name(enum phase phase);

/* Marks of the largest step that is foreseen, at least; every rank of a run asks for the same. */
size_t phase_step_most(int layers, int ranks);
