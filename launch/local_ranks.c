#include "launch/local_ranks.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

// how long rank 0 waits for local workers to end, and how long after an error
static const int64_t join_ns = 4000000000, join_lost_ns = 1000000000;

struct rank_thread {
    pthread_t thread;
    struct transport *end;
    int (*serve)(struct transport *end, const void *given);
    void *given;
};

/* Set by the first local worker that finds rank 0 lost; it reports that and ends the process. */
static atomic_flag told = ATOMIC_FLAG_INIT;

static void *worker_thread(void *argument)
{
    struct rank_thread *w = argument;
    char name[16];
    snprintf(name, sizeof name, "rank %d", w->end->rank);
    pthread_setname_np(pthread_self(), name);
    // the coordinator reports a worker's errors to the user, except when the coordinator is lost
    if (w->serve(w->end, w->given) == STATUS_LOST_RANK && !atomic_flag_test_and_set(&told)) {
        warn("%s", error_text());
        _exit(STATUS_LOST_RANK);
    }
    transport_close(w->end);
    return NULL;
}

static void *copy_of(const void *given, size_t bytes)
{
    void *copy = malloc(bytes);
    CHECK_MEMORY(copy, "no memory for the options of a rank");
    return memcpy(copy, given, bytes);
}

void local_ranks_start(struct local_ranks *l, int n, int64_t timeout_ns,
                       int (*serve)(struct transport *end, const void *given), const void *given,
                       size_t bytes)
{
    l->n = n;
    l->ends = calloc((size_t)n, sizeof *l->ends);
    l->threads = calloc((size_t)n, sizeof *l->threads);
    CHECK_MEMORY(l->ends && l->threads, "no memory for %d ranks", n);
    transport_open_local(l->ends, n);
    for (int i = 0; i < n; i++)
        l->ends[i].timeout_ns = timeout_ns;
    for (int i = 1; i < n; i++) {
        struct rank_thread *w = &l->threads[i];
        *w = (struct rank_thread){
            .end = &l->ends[i], .serve = serve, .given = copy_of(given, bytes)};
        CHECK(pthread_create(&w->thread, NULL, worker_thread, w) == 0, "no thread for rank %d", i);
    }
}

/* A worker's thread does not end, and cannot be ended from outside; so the process ends. Results
 * that were finished have been written. */
static void abandon(const struct local_ranks *l, int rank)
{
    if (!error_text()[0])
        fail(STATUS_LOST_RANK, "lost rank %d on %s: it does not end", rank, l->ends[0].hosts[rank]);
    fflush(stdout);
    _exit(STATUS_LOST_RANK);
}

/* Wait for a thread until a time; true if it has ended. pthread_clockjoin_np would do this without
 * sleeping between tries, but ThreadSanitizer does not know it. */
static bool join_until(pthread_t thread, int64_t when_ns)
{
    static const struct timespec nap = {0, 100000};
    while (pthread_tryjoin_np(thread, NULL) != 0) {
        if (clock_ns() > when_ns)
            return false;
        nanosleep(&nap, NULL);
    }
    return true;
}

/* How long to wait for local workers to end: join_lost_ns after an error. Else at least as long as
 * the timeout, since ending takes longer while other programs use the cores. */
static int64_t patience_ns(const struct local_ranks *l)
{
    if (error_text()[0])
        return join_lost_ns;
    return l->ends && l->ends[0].timeout_ns > join_ns ? l->ends[0].timeout_ns : join_ns;
}

void local_ranks_join(struct local_ranks *l)
{
    int64_t when_ns = clock_ns() + patience_ns(l);
    for (int i = 1; i < l->n; i++) {
        if (!join_until(l->threads[i].thread, when_ns))
            abandon(l, i);
        free(l->threads[i].given);
    }
}

void local_ranks_close(struct local_ranks *l)
{
    if (l->ends)
        transport_close(&l->ends[0]);
    free(l->ends);
    free(l->threads);
    *l = (struct local_ranks){0};
}
