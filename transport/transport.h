/* How messages and rows move between the ranks of a run.
 *
 * A struct transport is one rank's end. Control messages are short, in host memory, and receiving
 * one waits for it. Rows are what a layer exchanges. A rows message may be shorter than the buffer
 * that waits for it; the receiver learns the size.
 *
 * Rows travel in lanes, which know nothing of each other: two exchanges can be under way at once.
 * Starting never waits. Any number of sends may be under way, and arrive in order; of each peer up
 * to two messages are received, in the order of the starts. transport_wait() finishes all that was
 * started in one lane, sends as well: two ranks must not both start several sends to each other
 * before they wait. Everything runs on the rank's own thread.
 *
 * While a rank waits, it checks whether others are lost. A rank is lost
 *   - when it has ended;
 *   - when it has given no sign of life for timeout_ns, as a process does that was stopped or cut
 *     off (between processes, every worker and rank 0 send each other one ten times a second);
 *   - when it is awaited and its pulse has stood still for timeout_ns: it is stuck. A rank that
 *     computes for long moves its pulse.
 * With `patient`, a rank that rests between its steps is not counted as stuck.
 *
 * Errors: 0, or STATUS_LOST_RANK (fail() names the rank, its host and what it was wanted for), or
 * STATUS_FAILED for messages that break the rules. An end reports its first error only. After an
 * error, or after TRANSPORT_INTERRUPTED, no more rows can be sent or received. Control messages
 * can, as far as the other ranks are there, so that ranks can tell each other the reason; then
 * comes transport_close(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/pulse.h"

enum { ANY_RANK = -1, NO_DEADLINE = 0 };
enum { CONTROL_MAX_BYTES = 16 << 20, HOST_BYTES = 64 };
enum { LANES = 2 };

struct transport {
    const struct transport_ops *ops;
    const char *name; // "local", "mpi"
    int rank, size;
    const char (*hosts)[HOST_BYTES]; // [size] where each rank is
    int64_t timeout_ns;              // after which a rank counts as lost; NO_DEADLINE: never
    bool patient;                    // control messages may take any time to come
    int64_t arrived_ns;  // when the last rows that the last transport_wait received had come
    struct pulse *pulse; // this rank's; the rank's thread must pulse_bind() it
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
    int (*look)(struct transport *t, bool begins);
    void (*drop)(struct transport *t);
    int (*close)(struct transport *t);
};

/* Send a control message; the buffer may be reused on return. This does not wait for the receiver,
 * and a message to a rank that has ended is dropped without an error: the next receive reports it.
 */
static inline int transport_send(struct transport *t, int to, const void *message, size_t bytes)
{
    return t->ops->send(t, to, message, bytes);
}

/* Receive the next control message from *from; for ANY_RANK the first from any rank, and *from :=
 * its sender. A message larger than capacity is STATUS_FAILED. For ANY_RANK, messages that are
 * there are received first; when there is none and a rank has ended, that is STATUS_LOST_RANK. */
static inline int transport_recv(struct transport *t, int *from, void *buffer, size_t capacity,
                                 size_t *bytes)
{
    return t->ops->recv(t, from, buffer, capacity, bytes);
}

/* Start sending rows; the buffer may not change until transport_wait(). bytes may be 0: an empty
 * message is sent and must be received like any other. */
static inline int transport_start_send(struct transport *t, int lane, int to, const void *rows,
                                       size_t bytes)
{
    return t->ops->start_send(t, lane, to, rows, bytes);
}

/* Start receiving rows into a buffer of `capacity` bytes, which belongs to the transport until
 * transport_wait(). A larger message is STATUS_FAILED. */
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

/* Let rows in all lanes move as far as they can without waiting. Over MPI they also move on while
 * the rank computes: every half millisecond, in pulse(). What goes wrong then is returned by
 * the next transport_wait() or transport_advance(). */
static inline int transport_advance(struct transport *t)
{
    return t->ops->advance(t);
}

/* For waiting for rows that NCCL moves (transport/nccl.h). True once a control message has come, on
 * a worker from rank 0, on rank 0 from any rank, or such a rank has ended: then the rows may never
 * come, and transport_recv() tells why. Never waits. Any thread of the rank may call it. */
static inline bool transport_is_called_off(struct transport *t)
{
    return t->ops->is_called_off(t);
}

/* Look after the others while this rank waits for something else than a message, such as a client's
 * next request: 0; STATUS_LOST_RANK, of which fail() has been told, if one has ended or has given
 * no sign of life for timeout_ns; TRANSPORT_INTERRUPTED if a control message has come, which the
 * caller receives. Never waits. Call it every transport_look_ns() nanoseconds, with `begins` at the
 * first call after a step. Between threads of a process a rank that waits gives signs of life as
 * well, by its own looks. */
static inline int transport_look(struct transport *t, bool begins)
{
    return t->ops->look(t, begins);
}
int64_t transport_look_ns(const struct transport *t); // -1: never, as there is no deadline

/* How many ranks are on this rank's host, this one included. */
static inline int transport_ranks_here(const struct transport *t)
{
    int n = 0;
    for (int r = 0; r < t->size; r++)
        n += strcmp(t->hosts[r], t->hosts[t->rank]) == 0;
    return n;
}

/* Give up all sends and receives of rows, in all lanes; their buffers belong to the caller again.
 */
static inline void transport_drop(struct transport *t)
{
    t->ops->drop(t);
}

/* Close this end, after which t may not be used. Between processes it waits until all ranks close
 * theirs: 0, or STATUS_LOST_RANK if one does not, as it was lost before, or is now. Between threads
 * it waits for nobody and returns 0. */
static inline int transport_close(struct transport *t)
{
    return t->ops->close(t);
}

/* Ranks that are threads of this process: fill ends [size]; each thread gets one. A rank that waits
 * for another which has closed its end gets STATUS_LOST_RANK. */
void transport_open_local(struct transport *ends, int size);

/* Was this process started by mpirun or another MPI launcher? Asks the environment only. MPI is not
 * called before this is true, so a plain start needs no MPI at run time. */
bool transport_under_mpi(void);
/* Refuse, with STATUS_USAGE, to be a run of one process where the environment says that a launcher
 * has started several; else 0. They would all do the same work and write the same files, as happens
 * with another MPI's launcher. The first of them says so. */
int transport_refuse_alone(void);
/* Ranks that are processes: start MPI and make this process's end. *local_rank and *local_size: its
 * number among the ranks of this host, and how many these are. A run of one process is legal unless
 * the launcher has started more. 0, STATUS_FAILED or STATUS_USAGE; then there is nothing to close.
 */
int transport_open_mpi(struct transport *t, int *local_rank, int *local_size);
const char *transport_mpi_version(void); // "Open MPI v4.1.4, …"; may be called without MPI started
