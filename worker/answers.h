/* What every loop that serves rank 0 has in common: hearing its next message, answering its
 * questions about time, and giving up. */
#pragma once

#include "base/trace.h"
#include "proto/control.h"

/* The next message of rank 0, whenever it comes: between two steps a user may think for hours. The
 * arena is emptied first and holds what the message points to. */
int answers_next(struct transport *t, struct control *message, struct arena *memory);

/* Answer a Clock question that came at heard_ns. */
int answers_clock(struct transport *t, int64_t heard_ns);
/* Answer a Records question: the log in messages of bearable size; then it starts anew. */
int answers_records(struct transport *t, struct trace *log);

/* Tell rank 0 that this rank gives up with this code, error_text() being the reason, then stay
 * until it has stopped everyone: whoever leaves first decides the exit code of the whole run. */
void answers_give_up(struct transport *t, int code, struct arena *memory);
