/* What the parts of the MPI transport share: mpi.c (start, end, waiting, control messages),
 * mpi_rows.c (rows) and mpi_beat.c (signs of life). Private to transport/. Only these files include
 * mpi.h. */
#pragma once

#include <mpi.h>
#include <pthread.h>

#include "base/check.h"
#include "transport/lost.h"

enum { TAG_CONTROL = 1, TAG_GOODBYE, TAG_BEAT, TAG_ROWS }; // rows of a lane: TAG_ROWS + lane

struct mpi_incoming {
    bool active;
    char *buffer;
    size_t capacity, bytes;
    size_t before;     // bytes of the message before it, in this wait
    char *next_buffer; // of a second message, or NULL
    size_t next_capacity;
    MPI_Request chunk; // being received, or MPI_REQUEST_NULL
    int64_t time_ns;   // when this rank saw that the last chunk was there
};

/* Sends that are not complete. Entry i of each array belongs to the same send. */
struct mpi_outgoing {
    MPI_Request *requests;
    int *to;
    void **owned; // the copy of a control message, freed once it is sent; or NULL
    int n, capacity;
};

struct mpi_state {
    /* Several threads call MPI, one at a time (MPI_THREAD_SERIALIZED): the rank's own, the beater
     * (mpi_beat.c) and, with NCCL, the watchdogs (transport_is_called_off). Each holds this mutex
     * while it does; the rank's own thread gives it back while it sleeps or yields. */
    pthread_mutex_t mutex;
    MPI_Comm comm;
    int rank;
    bool crowded;            // this host has more ranks than cores
    bool mpi_yielded;        // at the start, and is to at the end
    int64_t shared_until_ns; // until then another job is taken to want this rank's core
    struct mpi_incoming *in; // [lane][size]
    struct mpi_outgoing rows[LANES], messages;
    bool *gone;    // [size] the rank has said goodbye
    bool *spoke;   // [size] the rank has sent a control message while we wait for rows
    bool *awaited; // [size] this rank waits for rows from them, or for them to take ours
    struct watch watch;
    struct pulse pulse;
    struct beater *beater;
    char (*hosts)[HOST_BYTES];
    bool cut_short;       // rows were dropped: some may never be received
    int64_t next_look_ns; // when mpi_meanwhile() is to move rows on again
    int failed;           // the error that mpi_meanwhile() met, for mpi_wait() and mpi_advance()
};

const char *mpi_error(int error);

#define MPI(call)                                                                                  \
    do {                                                                                           \
        int mpi_error_ = (call);                                                                   \
        CHECK(mpi_error_ == MPI_SUCCESS, "%s", mpi_error(mpi_error_));                             \
    } while (0)

/* Pass some time between two polls, and from time to time check whether a rank is lost
 * (watch_look). 0, or STATUS_LOST_RANK. */
int mpi_keep_waiting(struct transport *t, const bool *awaited, const char *what);
void mpi_begin_waiting(struct mpi_state *s);
/* Can a message of this tag be received now? from may be MPI_ANY_SOURCE. */
bool mpi_is_there(const struct mpi_state *s, int from, int tag);
/* Rank `from` if it has said goodbye, or for ANY_RANK some rank that has; else -1. */
int mpi_find_gone(const struct transport *t, int from);
/* Receive the goodbyes that have come, and note them in s->gone. */
void mpi_note_goodbyes(struct mpi_state *s);
int mpi_status_bytes(const MPI_Status *status);

/* Start a send. owned: malloc'ed memory to free when it is complete, or NULL. */
void outgoing_add(struct mpi_state *s, struct mpi_outgoing *o, const void *bytes, size_t n, int to,
                  int tag, void *owned);
/* Remove the sends that are complete; true if there were any. */
bool outgoing_progress(struct mpi_outgoing *o);
/* Remove all sends. MPI cannot cancel those that are not complete, and finishes them when it can.
 */
void outgoing_drop(struct mpi_outgoing *o);
void outgoing_free(struct mpi_outgoing *o);

/* Signs of life (mpi_beat.c). The thread runs from beater_open to beater_close; it sends and
 * receives signs from beater_begin to beater_end. mpi_hear() receives those that have come. */
void beater_open(struct mpi_state *s);
void beater_begin(struct mpi_state *s, int size);
void beater_end(struct mpi_state *s);
void beater_close(struct mpi_state *s);
void mpi_hear(struct mpi_state *s);
/* After `ns`, end this process with STATUS_LOST_RANK; rank 0 then says that `what` does not come
 * back, or nothing if what is NULL. A later call replaces this one; ns 0 cancels it. */
void beater_guard(struct mpi_state *s, int64_t ns, const char *what);

/* transport_ops */
int mpi_start_send(struct transport *t, int lane, int to, const void *rows, size_t bytes);
int mpi_start_recv(struct transport *t, int lane, int from, void *buffer, size_t capacity);
int mpi_wait(struct transport *t, int lane, size_t *received);
int mpi_advance(struct transport *t);
int mpi_look(struct transport *t, bool begins);
void mpi_drop(struct transport *t);

/* struct pulse.meanwhile, for the transport `of`: moves rows on while the rank computes, since MPI
 * moves a long message only in calls of its own. */
void mpi_meanwhile(void *of);
