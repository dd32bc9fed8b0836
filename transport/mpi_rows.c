/* Rows over MPI. They are received by matched probe. So their size is known before they are written
 * to the buffer, and a wait that ends early has posted no receive that would have to be cancelled.
 * Rows travel in chunks of CHUNK_BYTES; the last chunk is shorter, and may be empty. */
#include "transport/mpi_state.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { CHUNK_BYTES = 16 << 20 };
enum {
    SETTLE_NS = 20000000,  // how long MPI may take to tell that our rows were received
    DRAIN_NS = 1000000000, // how long to wait for a receive that has begun, after an error
    LOOK_NS = 500000,      // how often rows are moved on while the rank computes
};

/* ---- sends under way ---- */

void outgoing_add(struct mpi_state *s, struct mpi_outgoing *o, const void *bytes, size_t n, int to,
                  int tag, void *owned)
{
    if (o->n == o->capacity) {
        o->capacity = o->capacity ? 2 * o->capacity : 16;
        o->requests = realloc(o->requests, (size_t)o->capacity * sizeof *o->requests);
        o->to = realloc(o->to, (size_t)o->capacity * sizeof *o->to);
        o->owned = realloc(o->owned, (size_t)o->capacity * sizeof *o->owned);
        CHECK_MEMORY(o->requests && o->to && o->owned, "no memory for %d sends", o->capacity);
    }
    MPI(MPI_Isend(bytes, (int)n, MPI_BYTE, to, tag, s->comm, &o->requests[o->n]));
    o->to[o->n] = to;
    o->owned[o->n++] = owned;
}

bool outgoing_progress(struct mpi_outgoing *o)
{
    int kept = 0, before = o->n, done;
    if (before == 0)
        return false;
    for (int i = 0; i < before; i++) {
        MPI(MPI_Test(&o->requests[i], &done, MPI_STATUS_IGNORE));
        if (done) {
            free(o->owned[i]);
            continue;
        }
        o->requests[kept] = o->requests[i];
        o->to[kept] = o->to[i];
        o->owned[kept++] = o->owned[i];
    }
    o->n = kept;
    return kept < before;
}

void outgoing_drop(struct mpi_outgoing *o)
{
    for (int i = 0; i < o->n; i++)
        MPI(MPI_Request_free(&o->requests[i]));
    o->n = 0;
}

void outgoing_free(struct mpi_outgoing *o)
{
    free(o->requests);
    free(o->to);
    free(o->owned);
    *o = (struct mpi_outgoing){0};
}

/* ---- rows ---- */

static struct mpi_incoming *incoming_of(const struct transport *t, int lane, int from)
{
    struct mpi_state *s = t->state;
    return &s->in[lane * t->size + from];
}

int mpi_start_send(struct transport *t, int lane, int to, const void *rows, size_t bytes)
{
    struct mpi_state *s = t->state;
    CHECK(to >= 0 && to < t->size && to != t->rank, "rank %d sends rows to %d", t->rank, to);
    pthread_mutex_lock(&s->mutex);
    size_t n = CHUNK_BYTES;
    for (size_t at = 0; n == CHUNK_BYTES; at += n) {
        n = bytes - at < CHUNK_BYTES ? bytes - at : CHUNK_BYTES;
        outgoing_add(s, &s->rows[lane], (const char *)rows + at, n, to, TAG_ROWS + lane, NULL);
    }
    pthread_mutex_unlock(&s->mutex);
    return 0;
}

int mpi_start_recv(struct transport *t, int lane, int from, void *buffer, size_t capacity)
{
    struct mpi_incoming *in = incoming_of(t, lane, from);
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
    in->bytes = 0;
    in->chunk = MPI_REQUEST_NULL;
    return 0;
}

/* Start receiving the next chunk of rows if it is there. */
static int match_chunk(struct mpi_state *s, int lane, int from, struct mpi_incoming *in)
{
    MPI_Message handle;
    MPI_Status status;
    int found;
    MPI(MPI_Improbe(from, TAG_ROWS + lane, s->comm, &found, &handle, &status));
    if (!found)
        return 0;
    int n = mpi_status_bytes(&status);
    if ((size_t)n > in->capacity - in->bytes)
        return report_too_large(&s->watch, from, "rows", in->bytes + (size_t)n, in->capacity);
    MPI(MPI_Imrecv(in->buffer + in->bytes, n, MPI_BYTE, &handle, &in->chunk));
    return 0;
}

/* A message is complete: on to the second, if one is awaited. */
static void end_message(struct mpi_incoming *in)
{
    in->active = in->next_buffer != NULL;
    in->before += in->bytes;
    in->bytes = 0;
    in->buffer = in->next_buffer;
    in->capacity = in->next_capacity;
    in->next_buffer = NULL;
}

/* What can be done now about the rows awaited from one rank; *moved when something was. */
static int progress_recv(struct transport *t, int lane, int from, bool *moved)
{
    struct mpi_incoming *in = incoming_of(t, lane, from);
    while (in->active) {
        bool matched = in->chunk != MPI_REQUEST_NULL;
        int done, status = matched ? 0 : match_chunk(t->state, lane, from, in);
        if (status || in->chunk == MPI_REQUEST_NULL)
            return status;
        MPI_Status arrived;
        MPI(MPI_Test(&in->chunk, &done, &arrived));
        if (!done)
            return 0;
        int n = mpi_status_bytes(&arrived);
        in->bytes += (size_t)n;
        if (n < CHUNK_BYTES)
            end_message(in);
        in->time_ns = clock_ns();
        *moved = true;
    }
    return 0;
}

/* Note finished sends and receive what is there, in all lanes. *moved := whether anything was. */
static int move_rows(struct transport *t, bool *moved)
{
    struct mpi_state *s = t->state;
    *moved = false;
    for (int lane = 0; lane < LANES; lane++) {
        *moved |= outgoing_progress(&s->rows[lane]);
        for (int r = 0; r < t->size; r++) {
            int status = progress_recv(t, lane, r, moved);
            if (status)
                return status;
        }
    }
    return 0;
}

/* Note which awaited ranks have sent a control message or a goodbye. This must come before looking
 * for rows: rows that were sent before such a message are then found. */
static void listen(struct transport *t)
{
    struct mpi_state *s = t->state;
    bool any = mpi_is_there(s, MPI_ANY_SOURCE, TAG_CONTROL);
    for (int r = 0; r < t->size; r++)
        s->spoke[r] = any && s->awaited[r] && mpi_is_there(s, r, TAG_CONTROL);
    mpi_note_goodbyes(s);
}

/* Has awaited rank r given up: sent a control message instead of rows, or left? If r has only to
 * take our rows, it may have done so and MPI may not know it yet; so this counts only once
 * `settled` says that MPI had time. */
static int check_rank(struct transport *t, int lane, int r, bool settled)
{
    struct mpi_state *s = t->state;
    const struct mpi_incoming *in = incoming_of(t, lane, r);
    bool nothing_more = in->active ? in->chunk == MPI_REQUEST_NULL : settled;
    if (nothing_more && s->spoke[r])
        return TRANSPORT_INTERRUPTED;
    if (nothing_more && s->gone[r])
        return report_gone(t, &s->watch, r, "rows awaited");
    return 0;
}

/* s->awaited[r] := rank r has still to send us rows in this lane, or to take ours. Returns whether
 * there is such a rank. */
static bool find_awaited(struct transport *t, int lane)
{
    struct mpi_state *s = t->state;
    const struct mpi_outgoing *rows = &s->rows[lane];
    bool any = rows->n > 0;
    for (int r = 0; r < t->size; r++) {
        s->awaited[r] = incoming_of(t, lane, r)->active;
        any = any || s->awaited[r];
    }
    for (int i = 0; i < rows->n; i++)
        s->awaited[rows->to[i]] = true;
    return any;
}

/* Move the rows that can move. *done := this lane is complete. An error if an awaited rank has
 * given up. */
static int progress(struct transport *t, int lane, bool settled, bool *moved, bool *done)
{
    struct mpi_state *s = t->state;
    listen(t);
    int status = move_rows(t, moved);
    outgoing_progress(&s->messages);
    *done = !find_awaited(t, lane);
    for (int r = 0; r < t->size && !status; r++)
        status = s->awaited[r] ? check_rank(t, lane, r, settled) : 0;
    return status;
}

/* Forget all sends and receives. MPI may be writing a chunk to our buffer; this waits until it has,
 * or for DRAIN_NS. */
static void drop_rows(struct transport *t)
{
    struct mpi_state *s = t->state;
    int64_t start = clock_ns();
    s->cut_short = true;
    for (int i = 0; i < LANES * t->size; i++) {
        struct mpi_incoming *in = &s->in[i];
        int done = in->chunk == MPI_REQUEST_NULL;
        while (!done && clock_ns() - start < DRAIN_NS)
            MPI(MPI_Test(&in->chunk, &done, MPI_STATUS_IGNORE));
        if (!done)
            MPI(MPI_Request_free(&in->chunk));
        in->active = false;
        in->next_buffer = NULL;
    }
    for (int lane = 0; lane < LANES; lane++)
        outgoing_drop(&s->rows[lane]);
}

/* received [size] and t->arrived_ns of a lane in which everything is done. */
static void tell_received(struct transport *t, int lane, size_t *received)
{
    t->arrived_ns = 0;
    for (int r = 0; r < t->size; r++) {
        struct mpi_incoming *in = incoming_of(t, lane, r);
        if (received)
            received[r] = in->before + in->bytes;
        if (in->time_ns > t->arrived_ns)
            t->arrived_ns = in->time_ns;
        *in = (struct mpi_incoming){.chunk = MPI_REQUEST_NULL};
    }
}

static int wait_for_rows(struct transport *t, int lane)
{
    struct mpi_state *s = t->state;
    bool moved, done = false;
    int status = 0;
    memset(s->awaited, true, (size_t)t->size);
    mpi_begin_waiting(s);
    while (!status && !done) {
        bool settled = clock_ns() - s->watch.since_ns > SETTLE_NS;
        status = progress(t, lane, settled, &moved, &done);
        if (moved) {
            pulse();
            mpi_begin_waiting(s);
        }
        if (!status && !done)
            status = mpi_keep_waiting(t, s->awaited, "rows awaited");
    }
    return status;
}

int mpi_wait(struct transport *t, int lane, size_t *received)
{
    struct mpi_state *s = t->state;
    pthread_mutex_lock(&s->mutex);
    int status = s->failed ? s->failed : wait_for_rows(t, lane);
    if (status)
        drop_rows(t);
    tell_received(t, lane, received);
    pthread_mutex_unlock(&s->mutex);
    return status;
}

int mpi_advance(struct transport *t)
{
    struct mpi_state *s = t->state;
    bool moved;
    pthread_mutex_lock(&s->mutex);
    int status = s->failed ? s->failed : move_rows(t, &moved);
    pthread_mutex_unlock(&s->mutex);
    return status;
}

void mpi_meanwhile(void *of)
{
    struct transport *t = of;
    struct mpi_state *s = t->state;
    int64_t now = clock_ns();
    bool moved;
    if (now < s->next_look_ns || s->failed || pthread_mutex_trylock(&s->mutex) != 0)
        return;
    s->next_look_ns = now + LOOK_NS;
    s->failed = move_rows(t, &moved);
    pthread_mutex_unlock(&s->mutex);
}

void mpi_drop(struct transport *t)
{
    struct mpi_state *s = t->state;
    pthread_mutex_lock(&s->mutex);
    drop_rows(t);
    pthread_mutex_unlock(&s->mutex);
}
