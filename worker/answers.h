/* What loops that serve rank 0 share: receiving its next message, answering its questions about
 * clocks and logs, and giving up. An int is 0 or an error of the transport. */
#pragma once

#include "base/trace.h"
#include "proto/control.h"

/* Wait for rank 0's next message, without a deadline while rank 0 rests: a user may think for
 * hours. The arena is emptied first, and then holds what *message points to. */
int answers_next(struct transport *t, struct control *message, struct arena *memory);

/* Answer a Clock question that was received at heard_ns of clock_ns(). */
int answers_clock(struct transport *t, int64_t heard_ns);
/* Answer a Records question: send the log in messages of at most CONTROL_MAX_MARKS marks, and empty
 * it. */
int answers_records(struct transport *t, struct trace *log);

/* Send rank 0 a Fault with this code and error_text(), then wait for its Stop: the rank that exits
 * first decides the exit code of the whole run, and that must be rank 0. */
void answers_give_up(struct transport *t, int code, struct arena *memory);
