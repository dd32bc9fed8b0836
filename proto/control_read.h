/* What a peer has said, field by field: private to proto/. */
#pragma once

#include "control.pb-c.h"
#include "proto/control.h"

struct reader {
    struct arena *arena;
    int from;
    const char *kind; // "Setup"
    int status;       // of the first field that was wrong
};

/* An unpacked message as struct control, whose kind is set. 0, or STATUS_FAILED: the first field
 * that is missing or out of range has been named. Arrays lie in the arena that `in` was unpacked
 * to. */
int control_read(struct reader *r, struct control *out, const Control *in);
