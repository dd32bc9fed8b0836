#include "proto/phase.h"

const char *const phase_names[PHASE_COUNT] = {
    [PHASE_OUTSIDE] = "between steps",
    [PHASE_CONTROL] = "control",
    [PHASE_EMBED] = "embed",
    [PHASE_LOGITS] = "logits",
    [PHASE_SAMPLE] = "sampling",
    [PHASE_PROFILE] = "profiling",
    [PHASE_ATTENTION] = "attention",
    [PHASE_ROUTER] = "router",
    [PHASE_PLAN] = "plan",
    [PHASE_PACK] = "pack",
    [PHASE_WIRE_OUT] = "wire out",
    [PHASE_SHARED] = "shared expert",
    [PHASE_HOME] = "home experts",
    [PHASE_WAIT] = "wait for workers",
    [PHASE_COMBINE] = "combine",
    [PHASE_AWAIT] = "wait for rows",
    [PHASE_UNPACK] = "unpack",
    [PHASE_COMPUTE] = "compute",
};

const char *phase_name(enum phase phase)
{
    return phase < PHASE_COUNT ? phase_names[phase] : "unknown";
}

/* For each half of every layer: 16 phases, and for each worker a message that is packed and sent,
 * and a second one if `padded` needs another round. */
size_t phase_step_most(int layers, int ranks)
{
    return 2 * (size_t)layers * (16 + 4 * (size_t)ranks) + 1024;
}
