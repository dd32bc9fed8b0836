/* What the two halves of the local transport share: local.c (start, end, waiting, control messages)
 * and local_rows.c (rows). Private to transport/. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "transport/lost.h"

struct local_message {
    struct local_message *next;
    int from;
    size_t bytes;
    char data[];
};

struct local_offer {
    const void *rows;
    size_t bytes;
    int64_t time_ns;
};

/* Rows that a rank has for another, oldest first. */
struct local_queue {
    struct local_offer *offers;
    int first, n, capacity;
    bool being_taken; // the first of them
};

struct local_incoming {
    bool active;
    void *buffer;
    size_t capacity, bytes; // bytes: of all messages of this wait
    int64_t time_ns;        // of the last offer that was taken
    void *next_buffer;      // of a second message, or NULL
    size_t next_capacity;
};

struct local_end {
    _Alignas(64) _Atomic uint32_t events; // written under the mutex, watched without it
    _Alignas(64) struct local_world *world;
    // shared
    pthread_cond_t wake;
    bool asleep, closed;
    struct local_message *first, **last;
    // this rank's own
    struct local_incoming *in; // [lane][size]
    bool *awaited;             // [size] whose rows, or whose taking of ours, is missing
    struct watch watch;
    struct pulse pulse; // others look at it
    int64_t spin_ns;    // 0: there are more ranks than cores
};

struct local_world {
    pthread_mutex_t mutex;
    int size, n_open;
    struct local_end *ends;     // [size]
    struct local_queue *queues; // [lane][from][to]
    char (*hosts)[HOST_BYTES];
};

/* Something that this end may be waiting for has changed. The mutex is held. */
void local_notify(struct local_end *e);
/* Wait for an event after `seen`; when_ns < 0: for ever. Called and left with the mutex held.
 * False: the time is over. */
bool local_await_event(struct local_end *e, uint32_t seen, int64_t when_ns);
/* Wait for an event after `seen`, and from time to time look after the others (see watch_look). */
int local_keep_waiting(struct transport *t, uint32_t seen, const bool *awaited, const char *what);
void local_begin_waiting(struct local_end *me);
/* The link to the first message from `from` (ANY_RANK: from anybody), or NULL. The mutex is held.
 */
struct local_message **local_find_message(struct local_end *me, int from);
/* Forget all that was started; a copy under way is let finish, since it reads our memory, unless
 * it is stuck. The mutex is held. */
void local_drop_rows(struct transport *t);

/* transport_ops */
int local_start_send(struct transport *t, int lane, int to, const void *rows, size_t bytes);
int local_start_recv(struct transport *t, int lane, int from, void *buffer, size_t capacity);
int local_wait(struct transport *t, int lane, size_t *received);
int local_advance(struct transport *t);
void local_drop(struct transport *t);
