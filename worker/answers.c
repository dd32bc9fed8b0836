#include "worker/answers.h"

#include "base/clock.h"
#include "base/log.h"

int answers_next(struct transport *t, struct control *message, struct arena *memory)
{
    arena_reset(memory);
    t->patient = true;
    int status = control_recv(t, 0, message, memory);
    t->patient = false;
    return status;
}

int answers_clock(struct transport *t, int64_t heard_ns)
{
    struct control answer = {.kind = CONTROL_CLOCK,
                             .clock = {(uint64_t)heard_ns, (uint64_t)clock_ns()}};
    return control_send(t, 0, &answer);
}

int answers_records(struct transport *t, struct trace *log)
{
    size_t done = 0, n;
    int status = trace_settle(log);
    if (status)
        return status;
    do {
        size_t left = log->n - done;
        n = left < CONTROL_MAX_MARKS ? left : CONTROL_MAX_MARKS;
        struct control answer = {
            .kind = CONTROL_RECORDS,
            .records = {n ? log->events + done : NULL, n, left - n, left == n ? log->dropped : 0}};
        status = control_send(t, 0, &answer);
        done += n;
    } while (done < log->n && !status);
    trace_restart(log);
    return status;
}

void answers_give_up(struct transport *t, int code, struct arena *memory)
{
    struct control fault = {.kind = CONTROL_FAULT, .fault = {code, error_text()}};
    struct control message = {0};
    if (control_send(t, 0, &fault) != 0)
        return;
    while (message.kind != CONTROL_STOP && answers_next(t, &message, memory) == 0)
        ;
}
