/* Ranks are threads of one process.
 *
 * One mutex guards everything that ranks share; nothing slow happens while it is held. Control
 * messages are copied into a list at their receiver. Every change that a rank may be waiting for
 * raises that rank's `events`. To wait, a rank looks for what it needs, and sleeps until `events`
 * has changed. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "transport/local_state.h"
#include "transport/offer.h"
#include "transport/ticker.h"

/* A sleeping thread takes tens of microseconds to wake. So a rank with a core to itself first
 * spins; it spins longer after waits that were short, and less after long ones (adapt_spin), and
 * not at all while another job wants its core (offer_core). */
enum {
    SPIN_LEAST_NS = 4000,
    SPIN_MOST_NS = 1000000,
};

void local_notify(struct local_end *e)
{
    atomic_fetch_add_explicit(&e->events, 1, memory_order_release);
    if (e->asleep)
        pthread_cond_signal(&e->wake);
}

static void notify_all(struct local_world *w)
{
    for (int r = 0; r < w->size; r++)
        local_notify(&w->ends[r]);
}

/* After SPIN_LEAST_NS, each round offers the core to other threads: the awaited rank may need it.
 */
static void spin(struct local_end *e, uint32_t seen, int64_t start)
{
    int64_t now = start;
    while (atomic_load_explicit(&e->events, memory_order_acquire) == seen &&
           now - start < e->spin_ns && now >= e->shared_until_ns)
        now = now - start > SPIN_LEAST_NS ? offer_core(now, &e->shared_until_ns) : clock_ns();
}

static void adapt_spin(struct local_end *e, int64_t waited)
{
    if (waited < SPIN_MOST_NS)
        e->spin_ns = 2 * e->spin_ns < SPIN_MOST_NS ? 2 * e->spin_ns : SPIN_MOST_NS;
    else
        e->spin_ns = e->spin_ns / 2 > SPIN_LEAST_NS ? e->spin_ns / 2 : SPIN_LEAST_NS;
}

static bool sleep_until(struct local_end *e, int64_t when_ns)
{
    struct timespec when = {when_ns / 1000000000, when_ns % 1000000000};
    if (when_ns < 0)
        return pthread_cond_wait(&e->wake, &e->world->mutex) == 0;
    return pthread_cond_timedwait(&e->wake, &e->world->mutex, &when) != ETIMEDOUT;
}

bool local_await_event(struct local_end *e, uint32_t seen, int64_t when_ns)
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

int local_keep_waiting(struct transport *t, uint32_t seen, const bool *awaited, const char *what)
{
    struct local_end *me = t->state;
    if (local_await_event(me, seen, watch_next(t, &me->watch)))
        return 0;
    int64_t now = clock_ns();
    atomic_fetch_add_explicit(&me->looks, 1, memory_order_relaxed);
    for (int r = 0; r < t->size; r++) {
        const struct pulse *p = &me->world->ends[r].pulse;
        bool resting = pulse_rests(p); // read before the count, which moves before resting ends
        me->watch.signs[r] = (struct sign){pulse_seen(p, now), resting, now};
    }
    return watch_look(t, &me->watch, awaited, what, now);
}

void local_begin_waiting(struct local_end *me)
{
    watch_begin(&me->watch, clock_ns());
}

static int local_send(struct transport *t, int to, const void *bytes, size_t n)
{
    struct local_end *me = t->state, *peer = &me->world->ends[to];
    CHECK(to >= 0 && to < t->size && to != t->rank, "rank %d sends to %d", t->rank, to);
    struct local_message *m = malloc(sizeof *m + n);
    CHECK_MEMORY(m, "no memory for a message of %zu bytes", n);
    *m = (struct local_message){.from = t->rank, .bytes = n};
    if (n)
        memcpy(m->data, bytes, n);
    pthread_mutex_lock(&me->world->mutex);
    bool deliver = !peer->closed;
    if (deliver) {
        *peer->last = m;
        peer->last = &m->next;
        local_notify(peer);
    }
    pthread_mutex_unlock(&me->world->mutex);
    if (!deliver)
        free(m);
    return 0;
}

struct local_message **local_find_message(struct local_end *me, int from)
{
    for (struct local_message **link = &me->first; *link; link = &(*link)->next)
        if (from == ANY_RANK || (*link)->from == from)
            return link;
    return NULL;
}

static struct local_message *unlink_message(struct local_end *me, struct local_message **link)
{
    struct local_message *m = *link;
    *link = m->next;
    if (me->last == &m->next)
        me->last = link;
    return m;
}

/* Rank `from` if it has closed its end, or for ANY_RANK some rank that has; else -1. */
static int find_gone(const struct transport *t, int from)
{
    const struct local_end *me = t->state;
    for (int r = 0; r < t->size; r++)
        if (r != t->rank && (from == ANY_RANK || from == r) && me->world->ends[r].closed)
            return r;
    return -1;
}

/* Wait for a control message, and take it out of the list. The mutex is held. */
static int await_message(struct transport *t, int from, struct local_message **m)
{
    struct local_end *me = t->state;
    memset(me->awaited, 0, (size_t)t->size);
    if (from != ANY_RANK)
        me->awaited[from] = true;
    local_begin_waiting(me);
    for (int status = 0; !status;) {
        uint32_t seen = me->events;
        struct local_message **link = local_find_message(me, from);
        int gone = find_gone(t, from);
        if (link) {
            *m = unlink_message(me, link);
            return 0;
        }
        if (gone >= 0)
            return report_gone(t, &me->watch, gone, "a message awaited");
        status =
            local_keep_waiting(t, seen, from == ANY_RANK ? NULL : me->awaited, "a message awaited");
    }
    return STATUS_LOST_RANK;
}

static bool local_is_called_off(struct transport *t)
{
    struct local_end *me = t->state;
    int from = t->rank ? 0 : ANY_RANK;
    pthread_mutex_lock(&me->world->mutex);
    bool off = local_find_message(me, from) || find_gone(t, from) >= 0;
    pthread_mutex_unlock(&me->world->mutex);
    return off;
}

/* Note which ranks have given a sign of life since the last look: their pulse has moved, or they
 * have looked at others, as all do that wait. The mutex is held. */
static void hear_all(struct local_end *me, int size, bool begins, int64_t now)
{
    for (int r = 0; r < size; r++) {
        struct local_end *e = &me->world->ends[r];
        struct sign *s = &me->watch.signs[r];
        bool resting = pulse_rests(&e->pulse); // read before the count, as in local_keep_waiting()
        uint64_t count = pulse_seen(&e->pulse, now) + e->looks;
        *s = (struct sign){count, resting, begins || count != s->count ? now : s->heard_ns};
    }
}

/* The mutex is held. */
static int look(struct transport *t, bool begins)
{
    struct local_end *me = t->state;
    int64_t now = clock_ns();
    int gone = find_gone(t, ANY_RANK);
    if (begins)
        watch_begin(&me->watch, now);
    if (local_find_message(me, ANY_RANK))
        return TRANSPORT_INTERRUPTED;
    if (gone >= 0)
        return report_gone(t, &me->watch, gone, WATCH_IDLE);
    hear_all(me, t->size, begins, now);
    return watch_look_idle(t, &me->watch, now);
}

static int local_look(struct transport *t, bool begins)
{
    struct local_end *me = t->state;
    pthread_mutex_lock(&me->world->mutex);
    int status = look(t, begins);
    pthread_mutex_unlock(&me->world->mutex);
    return status;
}

/* A rank that waits for a message which may take any time is not stuck, though its pulse stands
 * still; others read that from pulse.waiting. */
static void rest(struct transport *t, bool waiting)
{
    struct local_end *me = t->state;
    me->pulse.count++;
    me->pulse.waiting = waiting;
}

static int local_recv(struct transport *t, int *from, void *buffer, size_t capacity, size_t *bytes)
{
    struct local_end *me = t->state;
    struct local_message *m = NULL;
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

static void free_world(struct local_world *w)
{
    for (int r = 0; r < w->size; r++) {
        pthread_cond_destroy(&w->ends[r].wake);
        free(w->ends[r].in);
        free(w->ends[r].awaited);
        watch_close(&w->ends[r].watch);
    }
    pthread_mutex_destroy(&w->mutex);
    free(w->hosts);
    for (int i = 0; i < LANES * w->size * w->size; i++)
        free(w->queues[i].offers);
    free(w->queues);
    free(w->ends);
    free(w);
}

static int local_close(struct transport *t)
{
    struct local_end *me = t->state;
    struct local_world *w = me->world;
    pthread_mutex_lock(&w->mutex);
    if (pulse_here == &me->pulse)
        pulse_bind(NULL);
    local_drop_rows(t);
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
    .advance = local_advance,
    .is_called_off = local_is_called_off,
    .look = local_look,
    .drop = local_drop,
    .close = local_close,
};

static bool enough_cores(int ranks)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= ranks;
}

static void open_end(struct local_world *w, struct local_end *e)
{
    cond_open_monotonic(&e->wake);
    e->world = w;
    e->last = &e->first;
    e->in = calloc((size_t)(LANES * w->size), sizeof *e->in);
    e->awaited = calloc((size_t)w->size, sizeof *e->awaited);
    CHECK_MEMORY(e->in && e->awaited, "no memory for %d ranks", w->size);
    watch_open(&e->watch, w->size);
    e->pulse.decoding = -1;
    e->spin_ns = enough_cores(w->size) ? SPIN_MOST_NS : 0;
}

void transport_open_local(struct transport *ends, int size)
{
    size_t n = (size_t)size;
    CHECK(size >= 1 && size <= 4096, "%d ranks", size);
    struct local_world *w = calloc(1, sizeof *w);
    CHECK_MEMORY(w, "no memory for %d ranks", size);
    w->size = w->n_open = size;
    w->ends = aligned_alloc(64, n * sizeof *w->ends);
    w->queues = calloc(LANES * n * n, sizeof *w->queues);
    w->hosts = calloc(n, sizeof *w->hosts);
    CHECK_MEMORY(w->ends && w->queues && w->hosts, "no memory for %d ranks", size);
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
