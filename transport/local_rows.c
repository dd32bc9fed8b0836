/* Rows between threads. They are not buffered: a sender puts its buffer into the queue of its
 * (lane, from, to), and the receiver copies out of that buffer, with the mutex released. When the
 * queue is empty, the sender knows that all its rows were taken. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "transport/local_state.h"

static const int64_t copy_ns = 1000000000; // how long an end waits for a copy, after an error

static struct local_queue *queue_of(const struct local_world *w, int lane, int from, int to)
{
    return &w->queues[(lane * w->size + from) * w->size + to];
}

static struct local_incoming *incoming_of(const struct local_end *e, int lane, int from)
{
    return &e->in[lane * e->world->size + from];
}

/* Add an offer. The array grows by doubling and is never shrunk, so steps do not allocate. */
static void push(struct local_queue *q, const struct local_offer *offer)
{
    if (q->n == 0)
        q->first = 0;
    if (q->first + q->n == q->capacity) {
        q->capacity = q->capacity ? 2 * q->capacity : 4;
        q->offers = realloc(q->offers, (size_t)q->capacity * sizeof *q->offers);
        CHECK_MEMORY(q->offers, "no memory for %d rows messages", q->capacity);
    }
    q->offers[q->first + q->n++] = *offer;
}

int local_start_send(struct transport *t, int lane, int to, const void *rows, size_t bytes)
{
    struct local_end *me = t->state;
    CHECK(to >= 0 && to < t->size && to != t->rank, "rank %d sends rows to %d", t->rank, to);
    struct local_offer offer = {rows, bytes, clock_ns()};
    pthread_mutex_lock(&me->world->mutex);
    push(queue_of(me->world, lane, t->rank, to), &offer);
    local_notify(&me->world->ends[to]);
    pthread_mutex_unlock(&me->world->mutex);
    return 0;
}

int local_start_recv(struct transport *t, int lane, int from, void *buffer, size_t capacity)
{
    struct local_incoming *in = incoming_of(t->state, lane, from);
    CHECK(from >= 0 && from < t->size && from != t->rank, "rank %d receives rows from %d", t->rank,
          from);
    CHECK(!in->next_buffer, "rank %d awaits two messages from %d already", t->rank, from);
    if (in->active) {
        in->next_buffer = buffer;
        in->next_capacity = capacity;
        return 0;
    }
    in->active = true;
    in->buffer = buffer;
    in->capacity = capacity;
    return 0;
}

static void take_rows(struct local_world *w, struct local_incoming *in, struct local_queue *q,
                      struct local_end *sender)
{
    struct local_offer offer = q->offers[q->first];
    q->being_taken = true;
    pthread_mutex_unlock(&w->mutex);
    if (offer.bytes)
        memcpy(in->buffer, offer.rows, offer.bytes);
    pthread_mutex_lock(&w->mutex);
    q->being_taken = false;
    q->first++;
    q->n--;
    in->active = in->next_buffer != NULL;
    in->buffer = in->next_buffer;
    in->capacity = in->next_capacity;
    in->next_buffer = NULL;
    in->bytes += offer.bytes;
    in->time_ns = offer.time_ns;
    local_notify(sender);
}

/* Take the next rows from one rank if they are awaited and there. *moved := true if so. */
static int progress_recv(struct transport *t, int lane, int from, bool *moved)
{
    struct local_end *me = t->state;
    struct local_incoming *in = incoming_of(me, lane, from);
    struct local_queue *q = queue_of(me->world, lane, from, t->rank);
    while (in->active && q->n > 0) {
        size_t bytes = q->offers[q->first].bytes;
        if (bytes > in->capacity)
            return report_too_large(&me->watch, from, "rows", bytes, in->capacity);
        take_rows(me->world, in, q, &me->world->ends[from]);
        *moved = true;
    }
    return 0;
}

/* Take all awaited rows that are there, in all lanes. */
static int take_all(struct transport *t, bool *moved)
{
    *moved = false;
    for (int lane = 0; lane < LANES; lane++)
        for (int r = 0; r < t->size; r++) {
            int status = progress_recv(t, lane, r, moved);
            if (status)
                return status;
        }
    return 0;
}

/* Take the rows that are there. Then me->awaited[r] := rank r has still to send us rows in this
 * lane, or to take ours; *done := there is no such rank. */
static int progress(struct transport *t, int lane, bool *moved, bool *done)
{
    struct local_end *me = t->state;
    int status = take_all(t, moved);
    *done = true;
    for (int r = 0; r < t->size && !status; r++) {
        me->awaited[r] =
            incoming_of(me, lane, r)->active || queue_of(me->world, lane, t->rank, r)->n > 0;
        *done = *done && !me->awaited[r];
        if (me->awaited[r] && local_find_message(me, r))
            status = TRANSPORT_INTERRUPTED;
        else if (me->awaited[r] && me->world->ends[r].closed)
            status = report_gone(t, &me->watch, r, "rows awaited");
    }
    return status;
}

void local_drop_rows(struct transport *t)
{
    struct local_end *me = t->state;
    int64_t when = clock_ns() + copy_ns;
    for (int i = 0; i < LANES * t->size; i++) {
        struct local_queue *q = queue_of(me->world, i / t->size, t->rank, i % t->size);
        while (q->being_taken && local_await_event(me, me->events, when))
            ;
        q->n = 0;
        me->in[i] = (struct local_incoming){.bytes = me->in[i].bytes};
    }
}

/* received [size] and t->arrived_ns of a lane in which everything is done. */
static void tell_received(struct transport *t, int lane, size_t *received)
{
    t->arrived_ns = 0;
    for (int r = 0; r < t->size; r++) {
        struct local_incoming *in = incoming_of(t->state, lane, r);
        if (received)
            received[r] = in->bytes;
        if (in->time_ns > t->arrived_ns)
            t->arrived_ns = in->time_ns;
        *in = (struct local_incoming){0};
    }
}

int local_wait(struct transport *t, int lane, size_t *received)
{
    struct local_end *me = t->state;
    bool moved, done;
    pthread_mutex_lock(&me->world->mutex);
    local_begin_waiting(me);
    for (;;) {
        uint32_t seen = me->events;
        int status = progress(t, lane, &moved, &done);
        if (moved) {
            pulse();
            local_begin_waiting(me);
        }
        if (!status && !done)
            status = local_keep_waiting(t, seen, me->awaited, "rows awaited");
        if (!status && !done)
            continue;
        if (status)
            local_drop_rows(t);
        pthread_mutex_unlock(&me->world->mutex);
        tell_received(t, lane, received);
        return status;
    }
}

int local_advance(struct transport *t)
{
    struct local_end *me = t->state;
    bool moved;
    pthread_mutex_lock(&me->world->mutex);
    int status = take_all(t, &moved);
    pthread_mutex_unlock(&me->world->mutex);
    return status;
}

void local_drop(struct transport *t)
{
    struct local_end *me = t->state;
    pthread_mutex_lock(&me->world->mutex);
    local_drop_rows(t);
    pthread_mutex_unlock(&me->world->mutex);
}
