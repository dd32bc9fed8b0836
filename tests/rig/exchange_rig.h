/* One end of an exchange, whose other ends the test plays: it sends and receives their messages
 * itself. test_dispatch.c, test_results.c and the fuzz targets of the exchange use it. Messages and
 * their sizes are computed from docs/protocol.md, without the exchange's own code.
 *
 * Four ranks and five experts: expert 0 is rank 0's, 1, 2 and 3 are rank 1's, 4 is rank 2's, and
 * rank 3 has none. Rows are f32 in memory. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "exchange/root.h"
#include "exchange/worker.h"
#include "kernels/ops.h"

enum { RANKS = 4, EXPERTS = 5, OWN = 3, K = 2, WIDTH = 32, MOST_ROWS = 6, MOST_PIECES = 64 };
static const int32_t rig_group_of[EXPERTS] = {0, 1, 2, 3, 4};
static const int32_t rig_rank_first[RANKS + 1] = {0, 1, 4, 5, 5};
static const int32_t rig_no_pieces[RANKS + 1];
#define RIG_GROUPS                                                                                 \
    {                                                                                              \
        rig_group_of, EXPERTS, EXPERTS, 1                                                          \
    }
static const struct exchange_layer rig_layer = {RIG_GROUPS, rig_rank_first, rig_no_pieces, K};
/* Where the sums of pieces go; this layer has no pieces, so nothing is written. */
static inline float *rig_z(void)
{
    static float none[1];
    return none;
}

struct rig {
    struct dev d; // must be first: rig_alloc() casts its address to the rig's
    struct kernels kernels;
    struct transport ends[RANKS];
    struct root_end *root[LANES];     // of rank 0
    struct worker_end *worker[LANES]; // of any other
    struct exchange_options options;
    void *pieces[MOST_PIECES];
    int n_pieces;
};

/* Each piece of memory is an allocation of exactly its bytes, so that a sanitizer sees an access
 * beyond it. */
static inline void *rig_alloc(struct dev *d, size_t bytes)
{
    struct rig *r = (struct rig *)(void *)d;
    void *piece;
    CHECK(r->n_pieces < MOST_PIECES, "%d pieces of memory", r->n_pieces);
    CHECK(posix_memalign(&piece, 64, bytes ? bytes : 1) == 0, "no memory for %zu bytes", bytes);
    memset(piece, 0, bytes);
    return r->pieces[r->n_pieces++] = piece;
}

static inline void rig_open(struct rig *r, const struct exchange_options *o, int rank)
{
    *r = (struct rig){.options = *o};
    transport_open_local(r->ends, RANKS);
    dev_open_cpu(&r->d, ISA_PLAIN, 1);
    r->kernels = *r->d.kernels;
    r->kernels.alloc = r->kernels.alloc_host = rig_alloc;
    r->d.kernels = &r->kernels;
    struct exchange_setup setup = {.host = &r->d,
                                   .dev = &r->d,
                                   .transport = &r->ends[rank],
                                   .limits = {MOST_ROWS, K, EXPERTS, WIDTH, DTYPE_F32, 0, EXPERTS},
                                   .options = *o};
    int lanes = rank ? worker_end_open(r->worker, &setup) : root_open(r->root, &setup);
    CHECK(lanes == 1, "expected one lane, found %d", lanes);
}

static inline void rig_close(struct rig *r)
{
    for (int rank = 0; rank < RANKS; rank++)
        if (r->ends[rank].state)
            transport_close(&r->ends[rank]);
    while (r->n_pieces)
        free(r->pieces[--r->n_pieces]);
    dev_close(&r->d);
}

/* ---- sizes ---- */

static inline int rig_least(int a, int b)
{
    return a < b ? a : b;
}

static inline size_t rig_align(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

static inline bool rig_dedup(const struct exchange_options *o)
{
    return o->dedup == DEDUP_ON || o->strategy == STRATEGY_ALLGATHER;
}

static inline size_t rig_row_bytes(const struct exchange_options *o)
{
    return o->wire == WIRE_INT8 ? 4 + WIDTH : o->wire == WIRE_BF16 ? 2 * WIDTH : 4 * WIDTH;
}

/* At which byte the rows begin in a message to a worker that has `experts` experts. */
static inline size_t rig_rows_at(const struct exchange_options *o, int experts, int places)
{
    bool index = o->dedup == DEDUP_ON || o->combine == COMBINE_SUM, weight = o->combine;
    return rig_align(16 + 4 * (size_t)experts + (index ? 4 * (size_t)places : 0) +
                     (weight ? 4 * (size_t)places : 0));
}

static inline size_t rig_message_bytes(const struct exchange_options *o, int experts, int places,
                                       int rows)
{
    return rig_align(rig_rows_at(o, experts, places) + (size_t)rows * rig_row_bytes(o));
}

/* How many bytes stand before the rows in a message of STRATEGY_ALLGATHER. */
static inline size_t rig_routing_bytes(const struct exchange_options *o, int n)
{
    size_t pairs = (size_t)n * K;
    return rig_align(16 + 4 * pairs + (o->combine == COMBINE_SUM ? 4 * pairs : 0));
}

static inline size_t rig_allgather_bytes(const struct exchange_options *o, int n)
{
    return rig_align(rig_routing_bytes(o, n) + (size_t)n * rig_row_bytes(o));
}

/* How many bytes each worker gets and gives back in a round of STRATEGY_PADDED. */
struct rig_round {
    size_t out, back;
};

static inline struct rig_round rig_round_of(const struct exchange_options *o, int n)
{
    int pairs = n * K, workers = RANKS - 1;
    int places = rig_least(pairs, (3 * pairs + 2 * workers - 1) / (2 * workers));
    int rows = o->dedup == DEDUP_ON ? rig_least(places, n) : places;
    int back = o->combine == COMBINE_SUM ? rig_least(places, n) : places;
    return (struct rig_round){rig_message_bytes(o, OWN, places, rows),
                              (size_t)back * rig_row_bytes(o)};
}

static inline int rig_rounds(size_t bytes, size_t round)
{
    return bytes > round ? (int)((bytes + round - 1) / round) : 1;
}

/* ---- rows ---- */

/* Write a row whose elements all have this value, in the wire's form. */
static inline void rig_put_row(const struct exchange_options *o, char *to, float value)
{
    float scale = value / 127;
    for (int i = 0; i < WIDTH; i++)
        if (o->wire == WIRE_INT8)
            to[4 + i] = value == 0 ? 0 : 127;
        else
            dtype_store(o->wire == WIRE_BF16 ? DTYPE_BF16 : DTYPE_F32, to, (size_t)i, value);
    if (o->wire == WIRE_INT8)
        memcpy(to, &scale, sizeof scale);
}

/* Stands for the experts: the output of each (row, expert) pair is its input. */
static inline void rig_give_back(const struct exchange_work *work)
{
    size_t row = 4 * WIDTH;
    for (int i = 0; i < work->n; i++) {
        int from = work->source ? work->source[i] : i;
        CHECK(from >= 0 && from < work->n_rows, "pair %d reads row %d of %d", i, from,
              work->n_rows);
        memcpy((char *)work->y + (size_t)i * row, (const char *)work->rows + (size_t)from * row,
               row);
    }
}

/* Element i of a row in the wire's form. */
static inline float rig_value(const struct exchange_options *o, const char *row, int i)
{
    float scale;
    if (o->wire != WIRE_INT8)
        return dtype_load(o->wire == WIRE_BF16 ? DTYPE_BF16 : DTYPE_F32, row, (size_t)i);
    memcpy(&scale, row, sizeof scale);
    return scale * (float)(signed char)row[4 + i];
}

/* ---- messages by hand ---- */

/* Send a control message, so that a wait for rows that never come ends with
 * TRANSPORT_INTERRUPTED. */
static inline void rig_say_end(struct rig *r, int from, int to)
{
    CHECK(transport_send(&r->ends[from], to, "x", 1) == 0, "a control message failed");
}

static inline void rig_send(struct rig *r, int from, int to, const void *bytes, size_t n)
{
    CHECK(transport_start_send(&r->ends[from], 0, to, bytes, n) == 0, "a send failed");
}

/* Receive the next rows message from a rank. Returns its size, or -1 if the rank has called
 * rig_say_end(). */
static inline long rig_take(struct rig *r, int to, int from, void *buffer, size_t capacity)
{
    size_t received[RANKS];
    CHECK(transport_start_recv(&r->ends[to], 0, from, buffer, capacity) == 0, "a receive failed");
    return transport_wait(&r->ends[to], 0, received) == 0 ? (long)received[from] : -1;
}
