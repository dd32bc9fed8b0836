#include "profile/logs.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "proto/control.h"

void log_append(struct rank_log *log, const struct trace_event *events, size_t n)
{
    if (log->n + n > log->room) {
        log->room = 2 * (log->n + n);
        log->events = realloc(log->events, log->room * sizeof *events);
        CHECK_MEMORY(log->events, "no memory for %zu marks", log->room);
    }
    if (n)
        memcpy(log->events + log->n, events, n * sizeof *events);
    log->n += n;
}

int log_collect(struct rank_log *log, struct transport *t, int rank, uint64_t *dropped,
                struct arena *memory)
{
    struct control message = {.kind = CONTROL_RECORDS};
    int status = control_send(t, rank, &message);
    do {
        arena_reset(memory);
        if (!status)
            status = control_expect(t, rank, CONTROL_RECORDS, &message, memory);
        if (status)
            return status;
        log_append(log, message.records.events, message.records.n);
    } while (message.records.left && message.records.n);
    *dropped += message.records.dropped;
    return 0;
}
