/* The all-to-all of a layer, strategy `exact`: each worker gets the rows of its experts and nothing
 * else, and sends as many back.
 *
 * Dispatch, coordinator to worker r, one message: int32 counts of r's experts in group order,
 * padded to 64 bytes, then the rows in the same order. Combine, the way back: the rows alone. A
 * worker that owns no expert of a layer still gets its (empty) message, so both ends count alike.
 * docs/protocol.md has the bytes. Errors as in transport.h, and STATUS_FAILED for a message whose
 * size does not match its counts. */
#pragma once

#include "kernels/device.h"
#include "transport/transport.h"

struct exchange_limits {
    int rows;         // assignments (rows times top-k) of any step
    int experts;      // of one layer on all ranks
    size_t row_bytes; // of a row on the wire
};

struct exchange {
    struct transport *transport; // NULL with a single rank: nothing travels
    struct exchange_limits limits;
    size_t capacity;     // bytes of the largest dispatch message
    char *out;           // coordinator: [n_ranks] messages, one after the other
    size_t *expected;    // coordinator: [n_ranks] bytes that must come back
    size_t *received;    // [n_ranks]
    char *in;            // worker: a dispatch message
    uint64_t wire_bytes; // sent, so far
};

/* Buffers come from the device's memory. */
void exchange_open(struct exchange *x, struct dev *d, struct transport *t,
                   const struct exchange_limits *limits);

/* Coordinator. count [groups] rows of each group, rank_first [n_ranks + 1] the groups of each rank,
 * source [rows] the row of h behind each place. Rows for other ranks leave; theirs will land in y,
 * at their places. Nothing of h, count or y may change before exchange_combine() is back. */
int exchange_dispatch(struct exchange *x, struct dev *d, const void *h, void *y,
                      const int32_t *count, const int32_t *rank_first, const int32_t *source);
int exchange_combine(struct exchange *x);

/* Worker. The next dispatch of n_experts of its own: *count and *rows point into the message. */
int exchange_receive(struct exchange *x, int n_experts, const int32_t **count, const void **rows);
/* Send the rows back; y belongs to the exchange until the next receive or exchange_finish(). */
int exchange_return(struct exchange *x, const void *y, int n_rows);
int exchange_finish(struct exchange *x);
