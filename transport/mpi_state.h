/* What the parts of the MPI transport share: mpi.c (start, end, waiting, control messages),
 * mpi_rows.c (rows) and mpi_beat.c (signs of life). Private to transport/; these are the home of
 * mpi.h. */
#pragma once

#include <mpi.h>
#include <pthread.h>

#include "base/check.h"
#include "transport/lost.h"

enum { TAG_CONTROL = 1, TAG_GOODBYE, TAG_BEAT, TAG_ROWS }; // + lane

struct mpi_incoming {
    bool active;
    char *buffer;
    size_t capacity, bytes;
    size_t before;     // bytes of the message before it, in this wait
    char *next_buffer; // of a second message, or NULL
    size_t next_capacity;
    MPI_Request chunk; // being received, or MPI_REQUEST_NULL
    int64_t time_ns;   // when all of it was seen to be there
};

/* Sends under way, in parallel arrays. */
struct mpi_outgoing {
    MPI_Request *requests;
    int *to;
    void **owned; // a control message's copy, or NULL
    int n, capacity;
};

struct mpi_state {
    /* Two threads call MPI, one at a time (MPI_THREAD_SERIALIZED): the rank's own holds this in
     * every call of transport_ops, and lets go while it passes time. */
    pthread_mutex_t mutex;
    MPI_Comm comm;
    int rank;
    bool crowded;            // more ranks than cores on this host
    struct mpi_incoming *in; // [lane][size]
    struct mpi_outgoing rows[LANES], messages;
    bool *gone;    // [size] said goodbye
    bool *spoke;   // [size] has a control message for us, while rows are awaited
    bool *awaited; // [size] whose rows, or whose taking of ours, is missing
    struct watch watch;
    struct pulse pulse;
    struct beater *beater;
    char (*hosts)[HOST_BYTES];
    bool cut_short; // a wait ended early: some rows may never be received
};

const char *mpi_error(int error);

#define MPI(call)                                                                                  \
    do {                                                                                           \
        int mpi_error_ = (call);                                                                   \
        CHECK(mpi_error_ == MPI_SUCCESS, "%s", mpi_error(mpi_error_));                             \
    } while (0)

/* Between two looks at what MPI has for us: pass some time, and from time to time look after the
 * others (see watch_look). */
int mpi_keep_waiting(struct transport *t, const bool *awaited, const char *what);
void mpi_begin_waiting(struct mpi_state *s);
/* A message of this tag could be received now. from may be MPI_ANY_SOURCE. */
bool mpi_is_there(const struct mpi_state *s, int from, int tag);
/* Take in the goodbyes that have come: s->gone. */
void mpi_note_goodbyes(struct mpi_state *s);
int mpi_status_bytes(const MPI_Status *status);

/* Sends under way. owned: malloc'ed memory to free once sent, or NULL. */
void outgoing_add(struct mpi_state *s, struct mpi_outgoing *o, const void *bytes, size_t n, int to,
                  int tag, void *owned);
/* Forget the sends that are done; true if any was. */
bool outgoing_progress(struct mpi_outgoing *o);
/* Forget the others, too: they are left to MPI, which has no way to take them back. */
void outgoing_drop(struct mpi_outgoing *o);
void outgoing_free(struct mpi_outgoing *o);

/* Signs of life (mpi_beat.c). The thread runs from open to close; it sends and hears them from
 * begin to end. mpi_hear: take in those that have come. */
void beater_open(struct mpi_state *s);
void beater_begin(struct mpi_state *s, int size);
void beater_end(struct mpi_state *s);
void beater_close(struct mpi_state *s);
void mpi_hear(struct mpi_state *s);
/* End this process with STATUS_LOST_RANK unless that is taken back (ns 0) in time; it says then
 * that `what` does not come back, or nothing (NULL). */
void beater_guard(struct mpi_state *s, int64_t ns, const char *what);

/* transport_ops */
int mpi_start_send(struct transport *t, int lane, int to, const void *rows, size_t bytes);
int mpi_start_recv(struct transport *t, int lane, int from, void *buffer, size_t capacity);
int mpi_wait(struct transport *t, int lane, size_t *received);
int mpi_advance(struct transport *t);
void mpi_drop(struct transport *t);
