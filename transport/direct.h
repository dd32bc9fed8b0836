/* Rows from GPU to GPU; private to transport/. The host's messages are those of a strategy without
 * their rows, by the transport; the rows go by NCCL, as the strategy wants it. */
#pragma once

#include "transport/nccl.h"
#include "transport/strategy.h"

struct direct {
    struct nccl nccl; // this lane's
    int32_t *index;   // [places] on the GPU: rows that leave, or the row of each place
    char *rows;       // wire rows that leave, or have come; NULL where h is what leaves
    // STRATEGY_PADDED: [ranks] rounds each
    char *staging; // coordinator: what comes back
    char *nothing; // what is sent to whom nothing is to be said
    char *dropped; // and what comes of that
    int32_t *count_up;
};

extern const struct strategy_ops direct_exact, direct_padded, direct_allgather;

/* Before the rest of a lane is opened: x->direct and x->ops. */
void direct_open(struct exchange *x);
/* Bytes that may be read beyond the end of what a worker gives back. */
size_t direct_slack(const struct exchange *x);

/* Of STRATEGY_PADDED (direct_padded.c). */
void padded_open_direct(struct exchange *x);
size_t padded_slack(const struct exchange *x);
int padded_meet(struct exchange *x);

/* Coordinator: a worker's word that its rows have been started is awaited, from each of them. */
int direct_await_words(struct exchange *x);
/* Coordinator: the same, and messages of each worker's own leave. */
int direct_send_heads(struct exchange *x, const struct exchange_plan *plan);
/* Coordinator: x->direct->index := the rows of all places that travel. */
void direct_upload_rows(struct exchange *x, const struct exchange_plan *plan);
/* Worker: the rows have come; those of the places are to be read from them. */
int direct_present(struct exchange *x);
/* Worker: tell the coordinator that its rows have been started. */
int direct_announce(struct exchange *x);
/* What has been started is done. Both ends' time for it counts as exposed. */
int direct_wait(struct exchange *x);
