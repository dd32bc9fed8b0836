/* The signs of life of the MPI transport. A thread of its own sends them, each with the rank's
 * pulse: a rank that computes for long, or whose output is paused, still sends them; a process that
 * was stopped, or a host that was cut off, does not. Rank 0 sends to each worker, and each worker
 * to rank 0.
 *
 * The same thread ends a process that cannot end by itself: when mpirun is gone, or when MPI's
 * start or end does not return. */
#include "transport/mpi_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/ticker.h"

enum { BEAT_NS = 100000000, RETRY_NS = 1000000 };

struct beat { // a sign of life, as it travels
    uint64_t count, resting;
};

struct beater {
    struct ticker ticker;
    pid_t parent;
    _Atomic bool on; // signs of life may be sent
    _Atomic int64_t guard_ns;
    _Atomic(const char *) guarded;
    struct beat *out;      // [size]
    MPI_Request *requests; // [size]
    int n;
};

static void check_fate(struct mpi_state *s)
{
    struct beater *b = s->beater;
    int64_t guard = b->guard_ns;
    if (getppid() != b->parent)
        _exit(STATUS_LOST_RANK); // mpirun is gone, and with it the place for messages
    if (guard == 0 || clock_ns() < guard)
        return;
    if (b->guarded && s->rank == 0)
        fail(STATUS_LOST_RANK, "lost a rank: %s does not come back", b->guarded);
    _exit(STATUS_LOST_RANK);
}

static void send_beat(struct mpi_state *s, int to)
{
    struct beater *b = s->beater;
    int done = 1;
    if (b->requests[to] != MPI_REQUEST_NULL)
        MPI(MPI_Test(&b->requests[to], &done, MPI_STATUS_IGNORE));
    if (!done)
        return;                            // the receiver has not taken the last one yet
    bool resting = pulse_rests(&s->pulse); // read before the count, which moves before resting ends
    b->out[to] = (struct beat){pulse_seen(&s->pulse, clock_ns()), resting};
    MPI(MPI_Isend(&b->out[to], sizeof(struct beat), MPI_BYTE, to, TAG_BEAT, s->comm,
                  &b->requests[to]));
}

void mpi_hear(struct mpi_state *s)
{
    while (mpi_is_there(s, MPI_ANY_SOURCE, TAG_BEAT)) {
        struct beat beat;
        MPI_Status status;
        MPI(MPI_Recv(&beat, sizeof beat, MPI_BYTE, MPI_ANY_SOURCE, TAG_BEAT, s->comm, &status));
        s->watch.signs[status.MPI_SOURCE] = (struct sign){beat.count, beat.resting, clock_ns()};
    }
}

/* Send and hear signs of life once the mutex is free. The rank's own thread releases it whenever it
 * computes or sleeps, so a few tries are enough; and with trylock that thread hardly ever waits for
 * this one. False: the thread is to end. */
static bool beat(struct mpi_state *s, int rank)
{
    struct beater *b = s->beater;
    while (pthread_mutex_trylock(&s->mutex) != 0)
        if (ticker_sleep(&b->ticker, RETRY_NS))
            return false;
    if (b->on) { // asked again with the mutex held: MPI may have ended since
        for (int r = rank ? 0 : 1; r < (rank ? 1 : b->n); r++)
            send_beat(s, r);
        mpi_hear(s);
    }
    pthread_mutex_unlock(&s->mutex);
    return true;
}

static void *beat_thread(void *argument)
{
    struct mpi_state *s = argument;
    while (!ticker_sleep(&s->beater->ticker, BEAT_NS)) {
        check_fate(s);
        if (s->beater->on && !beat(s, s->rank))
            break;
    }
    return NULL;
}

void beater_open(struct mpi_state *s)
{
    struct beater *b = calloc(1, sizeof *b);
    CHECK_MEMORY(b, "no memory");
    b->parent = getppid();
    s->beater = b;
    ticker_open(&b->ticker, beat_thread, s);
}

void beater_guard(struct mpi_state *s, int64_t ns, const char *what)
{
    s->beater->guarded = what;
    s->beater->guard_ns = ns ? clock_ns() + ns : 0;
}

void beater_begin(struct mpi_state *s, int size)
{
    struct beater *b = s->beater;
    int64_t now = clock_ns();
    b->n = size;
    b->out = calloc((size_t)size, sizeof *b->out);
    b->requests = calloc((size_t)size, sizeof *b->requests);
    CHECK_MEMORY(b->out && b->requests, "no memory for %d ranks", size);
    for (int r = 0; r < size; r++) {
        b->requests[r] = MPI_REQUEST_NULL;
        s->watch.signs[r].heard_ns = now;
    }
    b->on = true;
}

void beater_end(struct mpi_state *s)
{
    struct beater *b = s->beater;
    pthread_mutex_lock(&s->mutex); // waits until the thread is not sending
    b->on = false;
    for (int r = 0; r < b->n; r++)
        if (b->requests[r] != MPI_REQUEST_NULL)
            MPI(MPI_Request_free(&b->requests[r]));
    b->n = 0;
    pthread_mutex_unlock(&s->mutex);
}

void beater_close(struct mpi_state *s)
{
    struct beater *b = s->beater;
    ticker_close(&b->ticker);
    free(b->out);
    free(b->requests);
    free(b);
}

static int look(struct transport *t, bool begins)
{
    struct mpi_state *s = t->state;
    if (begins)
        mpi_begin_waiting(s);
    mpi_note_goodbyes(s); // before the probe: a rank's last message comes before its goodbye
    if (mpi_is_there(s, MPI_ANY_SOURCE, TAG_CONTROL))
        return TRANSPORT_INTERRUPTED;
    if (mpi_find_gone(t, ANY_RANK) >= 0)
        return report_gone(t, &s->watch, mpi_find_gone(t, ANY_RANK), WATCH_IDLE);
    mpi_hear(s);
    return watch_look_idle(t, &s->watch, clock_ns());
}

int mpi_look(struct transport *t, bool begins)
{
    struct mpi_state *s = t->state;
    pthread_mutex_lock(&s->mutex);
    int status = look(t, begins);
    pthread_mutex_unlock(&s->mutex);
    return status;
}
