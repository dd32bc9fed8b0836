/* What the two halves of the MPI transport share: mpi.c (start, end, waiting, control messages) and
 * mpi_rows.c (rows). Private to transport/; these two are the home of mpi.h. */
#pragma once

#include <mpi.h>

#include "base/check.h"
#include "transport/transport.h"

enum { TAG_CONTROL = 1, TAG_ARRIVE, TAG_RELEASE, TAG_GOODBYE, TAG_ROWS }; // TAG_ROWS + lane

struct incoming {
    bool active;
    char *buffer;
    size_t capacity, bytes;
    MPI_Request chunk; // being received, or MPI_REQUEST_NULL
    int64_t time_ns;   // when all of it was seen to be there
};

/* Sends under way, in parallel arrays. */
struct outgoing {
    MPI_Request *requests;
    int *to;
    void **owned; // a control message's copy, or NULL
    int n, capacity;
};

struct mpi_state {
    MPI_Comm comm;
    bool crowded;        // more ranks than cores on this host
    struct incoming *in; // [lane][size]
    struct outgoing rows[LANES], messages;
    bool *gone;     // [size] said goodbye
    bool *spoke;    // [size] has a control message for us, while rows are awaited
    bool *awaited;  // [size] whose rows, or whose taking of ours, is missing
    bool reported;  // the first error
    bool cut_short; // a wait ended early: some rows may never be received
};

const char *mpi_error(int error);

#define MPI(call)                                                                                  \
    do {                                                                                           \
        int mpi_error_ = (call);                                                                   \
        CHECK(mpi_error_ == MPI_SUCCESS, "%s", mpi_error(mpi_error_));                             \
    } while (0)

/* Between two looks at what MPI has for us: pass some time; false when `since` is longer ago than
 * the deadline allows. */
bool mpi_keep_waiting(const struct transport *t, int64_t since);
/* A message of this tag could be received now. from may be MPI_ANY_SOURCE. */
bool mpi_is_there(const struct mpi_state *s, int from, int tag);
/* Take in the goodbyes that have come: s->gone. */
void mpi_note_goodbyes(struct mpi_state *s);
int mpi_status_bytes(const MPI_Status *status);

/* Sends under way. owned: malloc'ed memory to free once sent, or NULL. */
void outgoing_add(struct mpi_state *s, struct outgoing *o, const void *bytes, size_t n, int to,
                  int tag, void *owned);
/* Forget the sends that are done; true if any was. */
bool outgoing_progress(struct outgoing *o);
/* Forget the others, too: they are left to MPI, which has no way to take them back. */
void outgoing_drop(struct outgoing *o);
void outgoing_free(struct outgoing *o);

/* transport_ops */
int mpi_start_send(struct transport *t, int lane, int to, const void *rows, size_t bytes);
int mpi_start_recv(struct transport *t, int lane, int from, void *buffer, size_t capacity);
int mpi_wait(struct transport *t, int lane, size_t *received);
int mpi_advance(struct transport *t);
void mpi_drop(struct transport *t);
