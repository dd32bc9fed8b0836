/* Ranks are threads of one process.
 *
 * One mutex guards everything that ranks share; nothing slow happens under it. Rows are not
 * buffered: a sender offers its buffer in the slot of its (from, to) pair, the receiver copies
 * straight out of it with the mutex released, and the emptied slot tells the sender. Control
 * messages are copied and queue at their receiver. Every change that a rank may be waiting for
 * counts up its `events`; waiting is looking, then sleeping until that number moves. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "transport/lost.h"
#include "transport/transport.h"

/* A sleeping thread takes tens of microseconds to start again, so a rank with a core to itself
 * first spins, longer the more often that has been worth it lately. */
enum { SPIN_LEAST_NS = 4000, SPIN_MOST_NS = 1000000 };
static const int64_t copy_ns = 1000000000; // for a copy under way to end, after an error

struct message {
    struct message *next;
    int from;
    size_t bytes;
    char data[];
};

struct slot {
    enum { SLOT_EMPTY, SLOT_OFFERED, SLOT_BEING_TAKEN } state;
    const void *rows;
    size_t bytes;
};

struct incoming {
    bool active;
    void *buffer;
    size_t capacity;
};

struct end {
    _Alignas(64) _Atomic uint32_t events; // written under the mutex, watched without it
    _Alignas(64) struct world *world;
    // shared
    pthread_cond_t wake;
    bool asleep, closed;
    unsigned barriers; // that this rank has come to
    struct message *first, **last;
    // this rank's own
    struct incoming *in; // [size]
    bool *awaited;       // [size] whose rows, or whose taking of ours, is missing
    struct watch watch;
    struct pulse pulse; // others look at it
    int64_t spin_ns;    // 0: there are more ranks than cores
};

struct world {
    pthread_mutex_t mutex;
    int size, n_open;
    struct end *ends;   // [size]
    struct slot *slots; // [from][to]
    char (*hosts)[HOST_BYTES];
};

static struct slot *slot_of(const struct world *w, int from, int to)
{
    return &w->slots[from * w->size + to];
}

static void notify(struct end *e)
{
    atomic_fetch_add_explicit(&e->events, 1, memory_order_release);
    if (e->asleep)
        pthread_cond_signal(&e->wake);
}

static void notify_all(struct world *w)
{
    for (int r = 0; r < w->size; r++)
        notify(&w->ends[r]);
}

/* Beyond the shortest wait the core is offered to others: the rank that we wait for may be one. */
static void spin(const struct end *e, uint32_t seen, int64_t start)
{
    int64_t waited = 0;
    while (atomic_load_explicit(&e->events, memory_order_acquire) == seen && waited < e->spin_ns) {
        if (waited > SPIN_LEAST_NS)
            sched_yield();
        waited = clock_ns() - start;
    }
}

static void adapt_spin(struct end *e, int64_t waited)
{
    if (waited < SPIN_MOST_NS)
        e->spin_ns = 2 * e->spin_ns < SPIN_MOST_NS ? 2 * e->spin_ns : SPIN_MOST_NS;
    else
        e->spin_ns = e->spin_ns / 2 > SPIN_LEAST_NS ? e->spin_ns / 2 : SPIN_LEAST_NS;
}

static bool sleep_until(struct end *e, int64_t when_ns)
{
    struct timespec when = {when_ns / 1000000000, when_ns % 1000000000};
    if (when_ns < 0)
        return pthread_cond_wait(&e->wake, &e->world->mutex) == 0;
    return pthread_cond_timedwait(&e->wake, &e->world->mutex, &when) != ETIMEDOUT;
}

/* Wait for an event after `seen`; when_ns < 0: for ever. Called and left with the mutex held.
 * False: the time is over. */
static bool await_event(struct end *e, uint32_t seen, int64_t when_ns)
{
    int64_t start = clock_ns();
    bool in_time = true;
    if (e->spin_ns) {
        pthread_mutex_unlock(&e->world->mutex);
        spin(e, seen, start);
        pthread_mutex_lock(&e->world->mutex);
    }
    e->asleep = true;
    while (e->events == seen && in_time)
        in_time = sleep_until(e, when_ns);
    e->asleep = false;
    if (e->spin_ns)
        adapt_spin(e, clock_ns() - start);
    return e->events != seen;
}

/* Wait for an event after `seen`, and from time to time look after the others. */
static int keep_waiting(struct transport *t, uint32_t seen, const bool *awaited, const char *what)
{
    struct end *me = t->state;
    if (await_event(me, seen, watch_next(t, &me->watch)))
        return 0;
    int64_t now = clock_ns();
    for (int r = 0; r < t->size; r++) {
        const struct pulse *p = &me->world->ends[r].pulse;
        bool resting = pulse_rests(p); // first: whoever stops resting has moved
        me->watch.signs[r] = (struct sign){p->count, resting, now};
    }
    return watch_look(t, &me->watch, awaited, what, now);
}

static void begin_waiting(struct end *me)
{
    watch_begin(&me->watch, clock_ns());
}

static int local_send(struct transport *t, int to, const void *bytes, size_t n)
{
    struct end *me = t->state, *peer = &me->world->ends[to];
    CHECK(to >= 0 && to < t->size && to != t->rank, "rank %d sends to %d", t->rank, to);
    struct message *m = malloc(sizeof *m + n);
    CHECK(m, "no memory for a message of %zu bytes", n);
    *m = (struct message){.from = t->rank, .bytes = n};
    if (n)
        memcpy(m->data, bytes, n);
    pthread_mutex_lock(&me->world->mutex);
    bool deliver = !peer->closed;
    if (deliver) {
        *peer->last = m;
        peer->last = &m->next;
        notify(peer);
    }
    pthread_mutex_unlock(&me->world->mutex);
    if (!deliver)
        free(m);
    return 0;
}

/* The link to the first message from `from`, or NULL. */
static struct message **find_message(struct end *me, int from)
{
    for (struct message **link = &me->first; *link; link = &(*link)->next)
        if (from == ANY_RANK || (*link)->from == from)
            return link;
    return NULL;
}

static struct message *unlink_message(struct end *me, struct message **link)
{
    struct message *m = *link;
    *link = m->next;
    if (me->last == &m->next)
        me->last = link;
    return m;
}

/* A rank out of `from` that has closed its end, or -1. */
static int find_gone(const struct transport *t, int from)
{
    const struct end *me = t->state;
    for (int r = 0; r < t->size; r++)
        if (r != t->rank && (from == ANY_RANK || from == r) && me->world->ends[r].closed)
            return r;
    return -1;
}

/* The mutex is held. */
static int await_message(struct transport *t, int from, struct message **m)
{
    struct end *me = t->state;
    memset(me->awaited, 0, (size_t)t->size);
    if (from != ANY_RANK)
        me->awaited[from] = true;
    begin_waiting(me);
    for (int status = 0; !status;) {
        uint32_t seen = me->events;
        struct message **link = find_message(me, from);
        int gone = find_gone(t, from);
        if (link) {
            *m = unlink_message(me, link);
            return 0;
        }
        if (gone >= 0)
            return report_gone(t, &me->watch, gone, "a message awaited");
        status = keep_waiting(t, seen, from == ANY_RANK ? NULL : me->awaited, "a message awaited");
    }
    return STATUS_LOST_RANK;
}

/* While no message need come, standing still is no sign of being stuck. */
static void rest(struct transport *t, bool waiting)
{
    struct end *me = t->state;
    me->pulse.count++;
    me->pulse.waiting = waiting;
}

static int local_recv(struct transport *t, int *from, void *buffer, size_t capacity, size_t *bytes)
{
    struct end *me = t->state;
    struct message *m = NULL;
    pthread_mutex_lock(&me->world->mutex);
    rest(t, t->patient);
    int status = await_message(t, *from, &m);
    rest(t, false);
    pthread_mutex_unlock(&me->world->mutex);
    if (!status && m->bytes > capacity)
        status = report_too_large(&me->watch, m->from, "a message", m->bytes, capacity);
    if (!status) {
        memcpy(buffer, m->data, m->bytes);
        *from = m->from;
        *bytes = m->bytes;
    }
    free(m);
    return status;
}

static int local_start_send(struct transport *t, int to, const void *rows, size_t bytes)
{
    struct end *me = t->state;
    CHECK(to >= 0 && to < t->size && to != t->rank, "rank %d sends rows to %d", t->rank, to);
    struct slot *slot = slot_of(me->world, t->rank, to);
    pthread_mutex_lock(&me->world->mutex);
    CHECK(slot->state == SLOT_EMPTY, "rank %d has rows for %d in flight", t->rank, to);
    *slot = (struct slot){SLOT_OFFERED, rows, bytes};
    notify(&me->world->ends[to]);
    pthread_mutex_unlock(&me->world->mutex);
    return 0;
}

static int local_start_recv(struct transport *t, int from, void *buffer, size_t capacity)
{
    struct end *me = t->state;
    CHECK(from >= 0 && from < t->size && from != t->rank, "rank %d receives rows from %d", t->rank,
          from);
    CHECK(!me->in[from].active, "rank %d awaits rows from %d already", t->rank, from);
    me->in[from] = (struct incoming){true, buffer, capacity};
    return 0;
}

static void copy_rows(struct end *me, int rank, int from, size_t bytes)
{
    struct world *w = me->world;
    struct slot *slot = slot_of(w, from, rank);
    slot->state = SLOT_BEING_TAKEN;
    pthread_mutex_unlock(&w->mutex);
    if (bytes)
        memcpy(me->in[from].buffer, slot->rows, bytes);
    pthread_mutex_lock(&w->mutex);
    slot->state = SLOT_EMPTY;
    me->in[from].active = false;
    notify(&w->ends[from]);
}

/* What can be done now about the rows awaited from one rank; *moved when something was. */
static int progress_recv(struct transport *t, int from, size_t *received, bool *moved)
{
    struct end *me = t->state;
    const struct slot *slot = slot_of(me->world, from, t->rank);
    size_t capacity = me->in[from].capacity, bytes = slot->bytes;
    if (slot->state != SLOT_OFFERED)
        return 0;
    if (bytes > capacity)
        return report_too_large(&me->watch, from, "rows", bytes, capacity);
    copy_rows(me, t->rank, from, bytes);
    if (received)
        received[from] = bytes;
    *moved = true;
    return 0;
}

/* One look at everything that was started. me->awaited := who is still missing. */
static int progress(struct transport *t, size_t *received, bool *moved, bool *done)
{
    struct end *me = t->state;
    *moved = false;
    *done = true;
    for (int r = 0; r < t->size; r++) {
        int status = me->in[r].active ? progress_recv(t, r, received, moved) : 0;
        if (status)
            return status;
        me->awaited[r] = me->in[r].active || slot_of(me->world, t->rank, r)->state != SLOT_EMPTY;
        *done = *done && !me->awaited[r];
        if (me->awaited[r] && find_message(me, r))
            return TRANSPORT_INTERRUPTED;
        if (me->awaited[r] && me->world->ends[r].closed)
            return report_gone(t, &me->watch, r, "rows awaited");
    }
    return 0;
}

/* Forget all that was started; a copy under way is let finish, since it reads our memory, unless
 * it is stuck. */
static void drop_rows(struct transport *t)
{
    struct end *me = t->state;
    int64_t when = clock_ns() + copy_ns;
    for (int r = 0; r < t->size; r++) {
        struct slot *out = slot_of(me->world, t->rank, r);
        while (out->state == SLOT_BEING_TAKEN && await_event(me, me->events, when))
            ;
        out->state = SLOT_EMPTY;
        me->in[r].active = false;
    }
}

static int local_wait(struct transport *t, size_t *received)
{
    struct end *me = t->state;
    bool moved, done;
    if (received)
        memset(received, 0, (size_t)t->size * sizeof *received);
    pthread_mutex_lock(&me->world->mutex);
    begin_waiting(me);
    for (;;) {
        uint32_t seen = me->events;
        int status = progress(t, received, &moved, &done);
        if (moved) {
            pulse();
            begin_waiting(me);
        }
        if (!status && !done)
            status = keep_waiting(t, seen, me->awaited, "rows awaited");
        if (!status && !done)
            continue;
        if (status)
            drop_rows(t);
        pthread_mutex_unlock(&me->world->mutex);
        return status;
    }
}

/* All ranks must have come to as many barriers as this one. */
static int barrier_is_open(struct transport *t, bool *open)
{
    struct end *me = t->state;
    *open = true;
    for (int r = 0; r < t->size; r++) {
        const struct end *peer = &me->world->ends[r];
        me->awaited[r] = (int)(peer->barriers - me->barriers) < 0;
        if (me->awaited[r] && peer->closed)
            return report_gone(t, &me->watch, r, "awaited at a barrier");
        *open = *open && !me->awaited[r];
    }
    return 0;
}

static int local_barrier(struct transport *t)
{
    struct end *me = t->state;
    bool open;
    pthread_mutex_lock(&me->world->mutex);
    begin_waiting(me);
    me->barriers++;
    notify_all(me->world);
    for (;;) {
        uint32_t seen = me->events;
        int status = barrier_is_open(t, &open);
        if (!status && !open)
            status = keep_waiting(t, seen, me->awaited, "awaited at a barrier");
        if (!status && !open)
            continue;
        pthread_mutex_unlock(&me->world->mutex);
        return status;
    }
}

static void free_world(struct world *w)
{
    for (int r = 0; r < w->size; r++) {
        pthread_cond_destroy(&w->ends[r].wake);
        free(w->ends[r].in);
        free(w->ends[r].awaited);
        watch_close(&w->ends[r].watch);
    }
    pthread_mutex_destroy(&w->mutex);
    free(w->hosts);
    free(w->slots);
    free(w->ends);
    free(w);
}

static int local_close(struct transport *t)
{
    struct end *me = t->state;
    struct world *w = me->world;
    pthread_mutex_lock(&w->mutex);
    if (pulse_here == &me->pulse)
        pulse_bind(NULL);
    drop_rows(t);
    me->closed = true;
    while (me->first)
        free(unlink_message(me, &me->first));
    notify_all(w);
    bool last = --w->n_open == 0;
    pthread_mutex_unlock(&w->mutex);
    if (last)
        free_world(w);
    t->state = NULL;
    return 0;
}

static const struct transport_ops local_ops = {
    .send = local_send,
    .recv = local_recv,
    .start_send = local_start_send,
    .start_recv = local_start_recv,
    .wait = local_wait,
    .barrier = local_barrier,
    .close = local_close,
};

static bool enough_cores(int ranks)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= ranks;
}

static void open_end(struct world *w, struct end *e)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    e->world = w;
    e->last = &e->first;
    e->in = calloc((size_t)w->size, sizeof *e->in);
    e->awaited = calloc((size_t)w->size, sizeof *e->awaited);
    CHECK(e->in && e->awaited, "no memory for %d ranks", w->size);
    watch_open(&e->watch, w->size);
    e->pulse.decoding = -1;
    e->spin_ns = enough_cores(w->size) ? SPIN_MOST_NS : 0;
}

void transport_open_local(struct transport *ends, int size)
{
    size_t n = (size_t)size;
    CHECK(size >= 1 && size <= 4096, "%d ranks", size);
    struct world *w = calloc(1, sizeof *w);
    CHECK(w, "no memory for %d ranks", size);
    w->size = w->n_open = size;
    w->ends = aligned_alloc(64, n * sizeof *w->ends);
    w->slots = calloc(n * n, sizeof *w->slots);
    w->hosts = calloc(n, sizeof *w->hosts);
    CHECK(w->ends && w->slots && w->hosts, "no memory for %d ranks", size);
    memset(w->ends, 0, n * sizeof *w->ends);
    pthread_mutex_init(&w->mutex, NULL);
    for (int r = 0; r < size; r++) {
        open_end(w, &w->ends[r]);
        ends[r] = (struct transport){.ops = &local_ops,
                                     .name = "local",
                                     .rank = r,
                                     .size = size,
                                     .hosts = (const char(*)[HOST_BYTES])w->hosts,
                                     .timeout_ns = NO_DEADLINE,
                                     .pulse = &w->ends[r].pulse,
                                     .state = &w->ends[r]};
        gethostname(w->hosts[r], HOST_BYTES - 1);
    }
}
