/* Rows in the memory of GPUs, moved by NCCL: one rank's communicator, beside the transport that
 * brings it up and carries everything else.
 *
 * Nothing here waits for ever: what a call begins is asked after until it is done, NCCL fails, or
 * the transport's timeout has passed (a worker gives rank 0 two seconds more to find out first, as
 * transports do); then the communicator is given up for good, and so is the run. Errors as in
 * transport.h, TRANSPORT_INTERRUPTED among them. NCCL's environment variables are its own affair.
 *
 * Two forms, chosen by EPMOE_NCCL_BLOCKING, the same on every rank (docs/gpu.md). 0: NCCL's calls
 * only begin, in a thread that it makes for each. 1, the default: they come back when they have
 * been put on the GPU's queue; one that waits inside for another rank is ended by a watchdog, which
 * aborts a communicator of the same family that does not block and that nobody else calls. */
#pragma once

#include "kernels/side.h"
#include "transport/transport.h"
#include "transport/watchdog.h"

enum { NCCL_ID_BYTES = 128 };

struct nccl {
    struct transport *transport;
    struct side side;         // rows move on a queue of their own
    void *comm;               // an ncclComm_t that moves them; NULL: closed, or given up
    void *guard;              // where that one blocks: the one that it was split off, else NULL
    struct watchdog watchdog; // likewise
    bool under_way;           // something has begun that was not asked after yet
    int first, last;          // the ranks that take part in it, from and to; this one aside
};

/* One line for people: "2.28.9 (built with 2.28.9)", or why there is none. */
bool nccl_built(void);
void nccl_describe(char *text, size_t size);

/* Can ranks share a GPU? text := what that takes, and what was found. */
bool nccl_can_share(char *text, size_t size);

/* Rank 0: what all ranks must open with. */
int nccl_new_id(void *id);

/* All ranks at the same time; each has a GPU of its own unless nccl_can_share(). */
int nccl_open(struct nccl *n, struct transport *t, struct dev *gpu, const void *id);

/* What is begun from now on waits for all that the GPU has been given so far. */
void nccl_follow(struct nccl *n);

/* Move rows: begin; any number of sends and receives (at most one each way for a peer; the two ends
 * agree on the bytes beforehand, and leave out what is empty), or one of the calls that all ranks
 * make alike; start. Starting waits for nobody but the first time that two ranks meet. */
int nccl_begin(struct nccl *n);
int nccl_send(struct nccl *n, int to, const void *rows, size_t bytes);
int nccl_recv(struct nccl *n, int from, void *rows, size_t bytes);
/* rows := rank 0's, on all others. */
int nccl_broadcast(struct nccl *n, void *rows, size_t bytes);
/* to [size][bytes]: piece r := this rank's piece of rank r's from [size][bytes], which is another
 * buffer. */
int nccl_all_to_all(struct nccl *n, const void *from, void *to, size_t bytes);
int nccl_start(struct nccl *n);

/* All that was started is in the GPU's queue: nothing but another rank can keep it from being done.
 */
int nccl_settle(struct nccl *n);

/* All that was started is done: sent rows may be overwritten, received ones read. */
int nccl_wait(struct nccl *n);

/* Never waits for long; a communicator that has something under way is aborted. */
void nccl_close(struct nccl *n);
