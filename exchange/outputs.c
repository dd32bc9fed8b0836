#include "exchange/outputs.h"

#include "base/clock.h"
#include "base/log.h"

enum { LANE = 0 };

static bool takes_part(const struct outputs *x, int rank)
{
    return rank != x->s.root && outputs_of(x, rank) > 0;
}

static int n_ranks(const struct outputs *x)
{
    return x->s.transport ? x->s.transport->size : 1;
}

bool outputs_are_shared(const struct outputs *x)
{
    bool any = false;
    for (int rank = 0; rank < n_ranks(x); rank++)
        any = any || takes_part(x, rank);
    return any;
}

static size_t slice_bytes(const struct outputs *x, int rank, int n, int most)
{
    size_t each = most ? (size_t)outputs_best(most, outputs_of(x, rank)) * sizeof(struct candidate)
                       : (size_t)outputs_of(x, rank) * sizeof(float);
    return (size_t)n * each;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

void outputs_open(struct outputs *x, const struct outputs_setup *setup)
{
    *x = (struct outputs){.s = *setup};
    if (!setup->transport || setup->transport->size < 2) {
        x->s.transport = NULL;
        return;
    }
    size_t ranks = (size_t)setup->transport->size;
    x->received = dev_alloc_host(setup->host, ranks * sizeof *x->received);
    x->rows = dev_alloc_host(setup->host, (size_t)setup->rows * setup->row_bytes);
    if (setup->transport->rank != setup->root)
        return;
    x->slice = dev_alloc_host(setup->host, ranks * sizeof *x->slice);
    for (int rank = 0; rank < (int)ranks; rank++)
        if (takes_part(x, rank))
            x->slice[rank] =
                dev_alloc_host(setup->host, larger(slice_bytes(x, rank, setup->rows, 0),
                                                   slice_bytes(x, rank, setup->rows, TOP_MOST)));
}

static void count(struct outputs *x, int rank, size_t sent, size_t received)
{
    struct exchange_counters *c = x->s.counters;
    c->sent += sent;
    c->received += received;
    c->with[rank].sent += sent;
    c->with[rank].received += received;
    c->messages += sent > 0;
}

int outputs_send(struct outputs *x, int n, int most)
{
    struct transport *t = x->s.transport;
    size_t bytes = (size_t)n * x->s.row_bytes;
    int status = 0;
    for (int rank = 0; rank < n_ranks(x) && !status; rank++) {
        if (!takes_part(x, rank))
            continue;
        size_t back = slice_bytes(x, rank, n, most);
        count(x, rank, bytes, back);
        status = transport_start_recv(t, LANE, rank, x->slice[rank], back);
        if (!status)
            status = transport_start_send(t, LANE, rank, x->rows, bytes);
    }
    return status;
}

int outputs_take(struct outputs *x, int n, int most)
{
    int64_t start = clock_ns();
    int status = transport_wait(x->s.transport, LANE, x->received);
    x->s.counters->exposed_ns += (uint64_t)(clock_ns() - start);
    for (int rank = 0; rank < n_ranks(x) && !status; rank++) {
        size_t expected = takes_part(x, rank) ? slice_bytes(x, rank, n, most) : 0;
        if (x->received[rank] != expected)
            status = fail(STATUS_FAILED, "rank %d: expected %zu bytes of logits, found %zu", rank,
                          expected, x->received[rank]);
    }
    return status;
}

int outputs_receive(struct outputs *x, int n, const void **rows)
{
    struct transport *t = x->s.transport;
    size_t bytes = (size_t)n * x->s.row_bytes;
    *rows = x->rows;
    int status = transport_start_recv(t, LANE, x->s.root, x->rows, bytes);
    if (!status)
        status = transport_wait(t, LANE, x->received);
    if (!status && x->received[x->s.root] != bytes)
        status = fail(STATUS_FAILED, "logits: expected %d rows in %zu bytes, found %zu bytes", n,
                      bytes, x->received[x->s.root]);
    return status;
}

int outputs_give(struct outputs *x, const void *slice, int n, int most)
{
    struct transport *t = x->s.transport;
    int status = transport_start_send(t, LANE, x->s.root, slice, slice_bytes(x, t->rank, n, most));
    return status ? status : transport_wait(t, LANE, NULL);
}
