/* Rows in the memory of GPUs, moved by NCCL. A struct nccl is one rank's communicator for one lane.
 * It is used beside a transport, which starts it and carries everything that is not rows.
 *
 * Every wait has an end: it polls until the operation is complete, NCCL reports an error, or the
 * transport's timeout has passed (on a worker two seconds more, so that rank 0 finds out first, as
 * in transports). After an error the communicator is aborted and the run ends. Errors are those of
 * transport.h, with TRANSPORT_INTERRUPTED, and STATUS_USAGE: a build without NCCL, a wrong value of
 * EPMOE_NCCL_BLOCKING, or ranks that cannot share a GPU. epmoe sets none of NCCL's environment
 * variables.
 *
 * EPMOE_NCCL_BLOCKING chooses one of two forms, the same on every rank (docs/gpu.md).
 *   0            NCCL's calls return at once, and go on in a thread that NCCL makes for each.
 *   1, default   NCCL's calls return when they are in the GPU's queue, and may wait there for
 *                another rank. A watchdog ends a call that waits too long: it aborts the guard, a
 *                communicator of the same family that does not block and that no other thread
 *                calls. */
#pragma once

#include "kernels/side.h"
#include "transport/transport.h"
#include "transport/watchdog.h"

enum { NCCL_ID_BYTES = 128 };

struct nccl {
    struct transport *transport;
    struct side side;         // the queue on which rows move
    void *comm;               // the ncclComm_t that moves rows; NULL: closed, or given up
    void *guard;              // if comm blocks: the communicator that it was split off; else NULL
    struct watchdog watchdog; // likewise for a comm that blocks
    bool under_way;           // a group was started, and its end was not waited for yet
    int first, last;          // the lowest and the highest other rank that takes part in the group
};

/* Is NCCL in this build? */
bool nccl_built(void);
/* One line for people: "2.28.9 (built with 2.28.9)", or why there is none. */
void nccl_describe(char *text, size_t size);

/* Can ranks share a GPU? text := what is needed for that, and what was found. */
bool nccl_can_share(char *text, size_t size);

/* On rank 0: make the id [NCCL_ID_BYTES] that all ranks pass to nccl_open(). */
int nccl_new_id(void *id);

/* All ranks call this at the same time. Each must have a GPU of its own, unless nccl_can_share().
 */
int nccl_open(struct nccl *n, struct transport *t, struct dev *gpu, const void *id);

/* What is started from now on waits until the GPU has done all calls made so far. */
void nccl_follow(struct nccl *n);

/* To move rows: nccl_begin(); then any number of sends and receives, or one broadcast or
 * all-to-all, which all ranks call; then nccl_start(). There may be several sends to a peer, and
 * several receives from it, which meet in the order of the calls. Both ends must know the number of
 * bytes beforehand, and both leave out a message of 0 bytes. Starting does not wait for other
 * ranks, except the first time that two ranks exchange rows. */
int nccl_begin(struct nccl *n);
int nccl_send(struct nccl *n, int to, const void *rows, size_t bytes);
int nccl_recv(struct nccl *n, int from, void *rows, size_t bytes);
/* Copy rank 0's rows to `rows` of all other ranks. */
int nccl_broadcast(struct nccl *n, void *rows, size_t bytes);
/* `from` and `to` are [size][bytes], and may not overlap. to[r] := what rank r has in from[this
 * rank]. */
int nccl_all_to_all(struct nccl *n, const void *from, void *to, size_t bytes);
int nccl_start(struct nccl *n);

/* Wait until everything that was started is in the GPU's queue. From then on it depends only on
 * other ranks. */
int nccl_settle(struct nccl *n);

/* Wait until everything that was started is done: rows that were sent may then be overwritten, and
 * rows that were received may be read. */
int nccl_wait(struct nccl *n);

/* Gives what is under way, and then the end of each communicator, 0.4 s, and aborts what has not
 * ended by then. A communicator that blocks may take until its watchdog aborts it. */
void nccl_close(struct nccl *n);
