/* How messages and rows move between the ranks of a run.
 *
 * A transport is one rank's end. Control messages are short, host memory, blocking. Rows are what
 * a layer exchanges. A rows message may be shorter than the buffer that waits for it: counts and
 * rows travel together, and the receiver learns the size.
 *
 * Rows travel in lanes, which know nothing of each other: two exchanges can be under way at once.
 * Starting never waits. Any number of sends may be under way, and arrive in order; of each peer up
 * to two messages are received, in the order of the starts. transport_wait() finishes all that was
 * started in one lane, sends as well: two ranks must not both start several sends to each other
 * before they wait. Everything runs on the rank's own thread.
 *
 * Every wait looks after the other ranks. A rank is lost when it has ended, or has given no sign of
 * life for timeout_ns (a process that was stopped or cut off: between processes each tells rank 0,
 * and rank 0 each, ten times a second that it is there), or is awaited and its pulse has stood
 * still for timeout_ns (it is stuck; one that computes for long moves its pulse and is not). To a
 * `patient` receive it does not matter how long a rank rests between its steps.
 *
 * Errors: 0, or STATUS_LOST_RANK (fail() names the rank, its host and what it was wanted for), or
 * for messages that break the rules STATUS_FAILED. An end reports its first error only. After an
 * error, or after TRANSPORT_INTERRUPTED, rows are over for good; control messages still pass where
 * they can, so that a last word can be said and heard, and then comes transport_close(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pulse.h"

enum { ANY_RANK = -1, NO_DEADLINE = 0 };
enum { CONTROL_MAX_BYTES = 16 << 20, HOST_BYTES = 64 };
enum { LANES = 2 };

struct transport {
    const struct transport_ops *ops;
    const char *name; // "local", "mpi"
    int rank, size;
    const char (*hosts)[HOST_BYTES]; // [size] where each rank is
    int64_t timeout_ns;              // until a rank counts as lost; NO_DEADLINE: never
    bool patient;                    // control messages may take any time to come
    int64_t arrived_ns;  // when the last rows of the last transport_wait were seen to be there
    struct pulse *pulse; // this rank's; pulse_bind() it on the rank's thread
    void *state;
};

struct transport_ops {
    int (*send)(struct transport *t, int to, const void *message, size_t bytes);
    int (*recv)(struct transport *t, int *from, void *buffer, size_t capacity, size_t *bytes);
    int (*start_send)(struct transport *t, int lane, int to, const void *rows, size_t bytes);
    int (*start_recv)(struct transport *t, int lane, int from, void *buffer, size_t capacity);
    int (*wait)(struct transport *t, int lane, size_t *received);
    int (*advance)(struct transport *t);
    bool (*is_called_off)(struct transport *t);
    void (*drop)(struct transport *t);
    int (*close)(struct transport *t);
};

/* Send a control message; the buffer may be reused on return. It does not wait for the receiver,
 * and a message to a rank that is gone is lost without a word: the next receive will tell. */
static inline int transport_send(struct transport *t, int to, const void *message, size_t bytes)
{
    return t->ops->send(t, to, message, bytes);
}

/* Receive the next control message from *from (ANY_RANK: from whoever is first; *from tells). A
 * message larger than capacity is STATUS_FAILED. From ANY_RANK, messages that are there come first;
 * then any rank that is gone is STATUS_LOST_RANK. */
static inline int transport_recv(struct transport *t, int *from, void *buffer, size_t capacity,
                                 size_t *bytes)
{
    return t->ops->recv(t, from, buffer, capacity, bytes);
}

/* Start sending rows; the buffer belongs to the transport until transport_wait(). bytes may be 0:
 * an empty message still travels, so that both ends count alike. */
static inline int transport_start_send(struct transport *t, int lane, int to, const void *rows,
                                       size_t bytes)
{
    return t->ops->start_send(t, lane, to, rows, bytes);
}

static inline int transport_start_recv(struct transport *t, int lane, int from, void *buffer,
                                       size_t capacity)
{
    return t->ops->start_recv(t, lane, from, buffer, capacity);
}

/* Finish everything started in a lane; received[r] := bytes that came from rank r in all (NULL: not
 * wanted; [size]). Rows in the other lane move on meanwhile.
 * A control message from a rank whose rows are awaited, or that has not taken ours, means that it
 * gave up: the wait ends with TRANSPORT_INTERRUPTED, nothing is printed, and the caller receives
 * that message. */
enum { TRANSPORT_INTERRUPTED = 100 };
static inline int transport_wait(struct transport *t, int lane, size_t *received)
{
    return t->ops->wait(t, lane, received);
}

/* Let rows in all lanes move on as far as they can without waiting: where no hardware does it,
 * long messages stand still while a rank computes. */
static inline int transport_advance(struct transport *t)
{
    return t->ops->advance(t);
}

/* While rows are awaited that something else moves (transport/nccl.h): true once a control message
 * waits, on a worker from rank 0, on rank 0 from anybody, or such a rank is gone. Then those rows
 * need not come; receiving tells why. Never waits; another thread of the rank's may ask, too. */
static inline bool transport_is_called_off(struct transport *t)
{
    return t->ops->is_called_off(t);
}

/* Give up all rows that were started, in all lanes: their buffers are the caller's again. */
static inline void transport_drop(struct transport *t)
{
    t->ops->drop(t);
}

/* STATUS_LOST_RANK when another rank stays away from the common end: it was lost before, or is now.
 */
static inline int transport_close(struct transport *t)
{
    return t->ops->close(t);
}

/* Ranks are threads of this process: fill ends[size], to be given to one thread each. Closing an
 * end tells the others that this rank is gone: whoever waits for it gets STATUS_LOST_RANK. */
void transport_open_local(struct transport *ends, int size);

/* Ranks are processes started by mpirun. True when this process was (no MPI call is made before
 * that is known, so a plain start needs no MPI at run time). */
bool transport_under_mpi(void);
/* MPI_Init and all; local_rank and local_size: of this host. A single end of a size-1 world is
 * legal; close() finalises. */
int transport_open_mpi(struct transport *t, int *local_rank, int *local_size);
const char *transport_mpi_version(void); // "Open MPI v4.1.4, …"; legal without transport_open_mpi
