#include "serve/engine.h"

#include <poll.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/cluster.h"

enum { LOOK_NS = 1000000, WATCH_NS = 200000000 };

void engine_open(struct engine *e, struct metrics *m, int most_texts, bool keep)
{
    *e = (struct engine){.metrics = m, .most_texts = most_texts, .keep = keep};
    e->waits_at = &e->waiting;
    e->inbox_at = &e->inbox;
    pthread_mutex_init(&e->mutex, NULL);
    pthread_cond_init(&e->wake, NULL);
}

void engine_close(struct engine *e)
{
    pthread_mutex_destroy(&e->mutex);
    pthread_cond_destroy(&e->wake);
}

enum submitted engine_submit(struct engine *e, struct call *c)
{
    enum submitted result = SUBMIT_TAKEN;
    pthread_mutex_lock(&e->mutex);
    if (e->stopping)
        result = SUBMIT_STOPPING;
    else if (c->n_choices > e->most_texts)
        result = SUBMIT_TOO_MANY;
    else if (e->n_running + e->n_waiting + c->n_choices > e->most_texts)
        result = SUBMIT_FULL;
    if (result == SUBMIT_TAKEN) {
        c->users++; // no other thread has it yet
        c->engine = e;
        e->n_waiting += c->n_choices;
        *e->inbox_at = c;
        e->inbox_at = &c->next;
        metrics_waiting(e->metrics, e->n_waiting);
        pthread_cond_signal(&e->wake);
    }
    pthread_mutex_unlock(&e->mutex);
    return result;
}

void engine_stop(struct engine *e)
{
    pthread_mutex_lock(&e->mutex);
    e->stopping = true;
    pthread_cond_signal(&e->wake);
    pthread_mutex_unlock(&e->mutex);
}

bool engine_is_stopping(struct engine *e)
{
    pthread_mutex_lock(&e->mutex);
    bool stopping = e->stopping;
    pthread_mutex_unlock(&e->mutex);
    return stopping;
}

static void fail_all(struct call *list, const char *why)
{
    for (struct call *c = list; c; c = c->next)
        call_fail(c, 503, why);
}

void engine_abandon(struct engine *e, const char *why)
{
    pthread_mutex_lock(&e->mutex);
    e->stopping = true;
    fail_all(e->inbox, why);
    fail_all(e->calls, why);
    pthread_mutex_unlock(&e->mutex);
}

/* So many texts more wait and run. */
static void count_texts(struct engine *e, int waiting, int running)
{
    pthread_mutex_lock(&e->mutex);
    e->n_waiting += waiting;
    e->n_running += running;
    metrics_waiting(e->metrics, e->n_waiting);
    pthread_mutex_unlock(&e->mutex);
}

static int choice_ended(void *context, const struct request_result *r)
{
    struct choice *choice = context;
    count_texts(choice->call->engine, 0, -1); // before the client may know that there is room
    call_end(choice, r);
    return 0;
}

static void queue_choices(struct engine *e, struct call *c)
{
    for (int i = 0; i < c->n_choices; i++) {
        c->choices[i].completion.request.on_end = choice_ended;
        *e->waits_at = &c->choices[i];
        e->waits_at = &c->choices[i].next;
    }
}

/* The server is to end: a call of which nothing runs yet gets an error. Choices are admitted in
 * order, so the first tells. */
static void refuse_waiting(struct call *c)
{
    if (c->choices[0].state != CHOICE_WAITS)
        return;
    call_fail(c, 503, "the server is ending and takes no more requests");
    c->failed = true;
}

/* Sleep until there is something to do, or for `ns` (< 0: without a limit). The mutex is held. */
static void sleep_idle(struct engine *e, int64_t ns)
{
    int64_t when_ns = clock_ns() + ns;
    struct timespec when = {when_ns / 1000000000, when_ns % 1000000000};
    if (ns < 0)
        pthread_cond_wait(&e->wake, &e->mutex);
    else
        pthread_cond_clockwait(&e->wake, &e->mutex, CLOCK_MONOTONIC, &when);
}

/* With nothing to do, wait for it, and meanwhile look after the workers: 0, or the run is over. */
static int idle(struct engine *e, struct transport *t)
{
    bool looks = t && transport_look_ns(t) >= 0, begins = true;
    int64_t looked_ns = clock_ns(), interval_ns = looks ? transport_look_ns(t) : -1;
    int status = 0;
    pthread_mutex_lock(&e->mutex);
    while (!status && !e->calls && !e->inbox && !e->stopping) {
        sleep_idle(e, interval_ns);
        if (!looks || clock_ns() - looked_ns < interval_ns)
            continue;
        pthread_mutex_unlock(&e->mutex);
        status = cluster_look(t, begins);
        begins = false;
        looked_ns = clock_ns();
        pthread_mutex_lock(&e->mutex);
    }
    pthread_mutex_unlock(&e->mutex);
    return status;
}

/* Take what has been submitted. False: the engine is to stop, and nothing is left. */
static bool take_calls(struct engine *e)
{
    pthread_mutex_lock(&e->mutex);
    struct call *fresh = e->inbox;
    bool stopping = e->stopping;
    e->inbox = NULL;
    e->inbox_at = &e->inbox;
    for (struct call *c = fresh, *next; c; c = next) {
        next = c->next;
        c->next = e->calls;
        e->calls = c;
        queue_choices(e, c);
    }
    pthread_mutex_unlock(&e->mutex);
    for (struct choice *w = stopping ? e->waiting : NULL; w; w = w->next)
        refuse_waiting(w->call);
    return e->calls || !stopping;
}

/* ---- clients that have left ---- */

/* Ask the system which clients have closed their end. Their sockets are HTTP's: while a call has
 * one it is open; one that has just become another's is of a call that is gone already. */
static void look_for_gone(struct engine *e)
{
    struct pollfd *fds;
    size_t n = 0, i = 0;
    for (const struct call *c = e->calls; c; c = c->next)
        n++;
    fds = calloc(n + 1, sizeof *fds);
    CHECK_MEMORY(fds, "no memory for %zu clients", n);
    for (struct call *c = e->calls; c; c = c->next) {
        pthread_mutex_lock(&c->mutex);
        fds[i++] = (struct pollfd){.fd = c->fd, .events = POLLRDHUP};
        pthread_mutex_unlock(&c->mutex);
    }
    if (poll(fds, (nfds_t)n, 0) > 0) {
        i = 0;
        for (struct call *c = e->calls; c; c = c->next)
            if (fds[i++].revents & (POLLRDHUP | POLLHUP | POLLERR))
                call_mark_gone(c);
    }
    free(fds);
}

/* The other choices of a call that has failed, or whose client has left, end. */
static void cancel_choices(struct engine *e, struct call *c)
{
    for (int i = 0; i < c->n_choices; i++) {
        struct choice *choice = &c->choices[i];
        if (choice->state == CHOICE_RUNS)
            scheduler_cancel(&e->scheduler, choice);
        count_texts(e, -(choice->state == CHOICE_WAITS), -(choice->state == CHOICE_RUNS));
        if (choice->state != CHOICE_ENDED)
            c->n_left--;
        choice->state = CHOICE_ENDED;
    }
}

static void unqueue_ended(struct engine *e)
{
    struct choice **at = &e->waiting;
    while (*at)
        if ((*at)->state == CHOICE_ENDED)
            *at = (*at)->next;
        else
            at = &(*at)->next;
    e->waits_at = at;
}

static void account(struct engine *e, const struct call *c)
{
    for (int i = 0; i < c->n_choices; i++) {
        const struct choice *x = &c->choices[i];
        if (x->finish)
            metrics_choice(e->metrics, x->completion.request.n, x->n_reused, x->n_new,
                           (double)(x->first_ns - c->arrived_ns) * 1e-9,
                           (double)(x->last_ns - x->first_ns) * 1e-9);
    }
}

/* Let go of the calls that have ended, and end those that nobody waits for. */
static void drop_calls(struct engine *e)
{
    int64_t now = clock_ns();
    if (now - e->looked_ns >= LOOK_NS) {
        look_for_gone(e);
        e->looked_ns = now;
    }
    pthread_mutex_lock(&e->mutex);
    struct call *dropped = NULL;
    for (struct call **at = &e->calls; *at;) {
        struct call *c = *at;
        if (c->n_left && !c->failed && !call_is_gone(c)) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        c->next = dropped;
        dropped = c;
    }
    pthread_mutex_unlock(&e->mutex);
    for (struct call *c = dropped; c; c = c->next)
        cancel_choices(e, c);
    if (dropped) {
        unqueue_ended(e);
        metrics_step(e->metrics, &e->scheduler, 0);
    }
    while (dropped) {
        struct call *c = dropped;
        dropped = c->next;
        account(e, c);
        call_release(c);
    }
}

/* Give the scheduler what waits, in order, as far as it has room. */
static void admit(struct engine *e)
{
    int n = 0;
    while (e->waiting && scheduler_admit(&e->scheduler, &e->waiting->completion.request)) {
        e->waiting->state = CHOICE_RUNS;
        e->waiting = e->waiting->next;
        n++;
    }
    if (!e->waiting)
        e->waits_at = &e->waiting;
    if (n)
        count_texts(e, -n, n);
    CHECK(e->scheduler.n_running || !e->waiting, "a request that never finds room");
}

static int tokens_so_far(const struct engine *e)
{
    int n = 0;
    for (const struct call *c = e->calls; c; c = c->next)
        for (int i = 0; i < c->n_choices; i++)
            n += c->choices[i].completion.n_new;
    return n;
}

static int step(struct engine *e)
{
    int before = tokens_so_far(e), status = scheduler_step(&e->scheduler);
    if (!status)
        metrics_step(e->metrics, &e->scheduler, tokens_so_far(e) - before);
    return status;
}

/* Copying the counts takes longer than a step of a tiny model, so they are shown a few times a
 * second, and when nothing runs any more. */
static void show_watched(struct engine *e)
{
    int64_t now = clock_ns();
    if (now - e->watched_ns < WATCH_NS && e->scheduler.n_running)
        return;
    e->watched_ns = now;
    metrics_watch(e->metrics, &e->watched);
}

/* The run is over: every client is told, and nothing is waited for. */
static void end_calls(struct engine *e, int status)
{
    engine_abandon(e, status == STATUS_LOST_RANK ? "the server has lost a rank, and ends"
                                                 : "the server's run has failed, and it ends");
    take_calls(e);
    for (struct call *c = e->calls; c; c = c->next)
        c->failed = true;
    drop_calls(e);
}

int engine_run(struct engine *e, struct coordinator *c)
{
    int status = 0;
    scheduler_open(&e->scheduler, c);
    if (e->keep)
        scheduler_keep(&e->scheduler);
    watched_open(&e->watched, c->config.n_layers, c->config.n_experts, c->placement.n_ranks);
    c->watched = &e->watched;
    metrics_step(e->metrics, &e->scheduler, 0);
    show_watched(e);
    while (!status && !(status = idle(e, c->transport)) && take_calls(e)) {
        drop_calls(e);
        admit(e);
        status = step(e);
        show_watched(e);
    }
    if (status)
        end_calls(e, status);
    scheduler_close(&e->scheduler);
    kv_cache_forget(&c->kv);
    c->watched = NULL;
    watched_close(&e->watched);
    return status;
}
