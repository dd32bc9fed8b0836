#include "transport/exchange.h"

#include <string.h>

#include "base/log.h"
#include "kernels/ops.h"

/* The counts in front of a message's rows, padded so that rows stay aligned. */
static size_t header_bytes(int n_experts)
{
    return ((size_t)n_experts * sizeof(int32_t) + 63) / 64 * 64;
}

void exchange_open(struct exchange *x, struct dev *d, struct transport *t,
                   const struct exchange_limits *limits)
{
    *x = (struct exchange){.transport = t, .limits = *limits};
    x->capacity = header_bytes(limits->experts) + (size_t)limits->rows * limits->row_bytes;
    if (!t || t->size == 1)
        return;
    size_t ranks = (size_t)t->size;
    x->received = dev_alloc(d, ranks * sizeof *x->received);
    if (t->rank == 0) {
        x->expected = dev_alloc(d, ranks * sizeof *x->expected);
        x->out = dev_alloc(d, ranks * header_bytes(limits->experts) +
                                  (size_t)limits->rows * limits->row_bytes);
    } else {
        x->in = dev_alloc(d, x->capacity);
    }
}

static int rows_of(const int32_t *count, int first, int end)
{
    int rows = 0;
    for (int g = first; g < end; g++)
        rows += count[g];
    return rows;
}

int exchange_dispatch(struct exchange *x, struct dev *d, const void *h, void *y,
                      const int32_t *count, const int32_t *rank_first, const int32_t *source)
{
    struct transport *t = x->transport;
    size_t row_bytes = x->limits.row_bytes;
    int place = rows_of(count, rank_first[0], rank_first[1]); // rank 0's own rows stay
    char *message = x->out;
    for (int rank = 1; t && rank < t->size; rank++) {
        int first = rank_first[rank], n_experts = rank_first[rank + 1] - first;
        int rows = rows_of(count, first, first + n_experts);
        size_t header = header_bytes(n_experts), bytes = (size_t)rows * row_bytes;
        memcpy(message, count + first, (size_t)n_experts * sizeof(int32_t));
        gather(d, message + header, h, source + place, rows, row_bytes);
        x->expected[rank] = bytes;
        int status = transport_start_recv(t, rank, (char *)y + (size_t)place * row_bytes, bytes);
        if (!status)
            status = transport_start_send(t, rank, message, header + bytes);
        if (status)
            return status;
        x->wire_bytes += header + bytes;
        message += header + bytes;
        place += rows;
    }
    return 0;
}

int exchange_combine(struct exchange *x)
{
    struct transport *t = x->transport;
    if (!t || t->size == 1)
        return 0;
    int status = transport_wait(t, x->received);
    for (int rank = 1; rank < t->size && !status; rank++)
        if (x->received[rank] != x->expected[rank])
            status = fail(STATUS_FAILED, "rank %d: expected %zu bytes of rows back, found %zu",
                          rank, x->expected[rank], x->received[rank]);
    return status;
}

int exchange_receive(struct exchange *x, int n_experts, const int32_t **count, const void **rows)
{
    struct transport *t = x->transport;
    int status = transport_start_recv(t, 0, x->in, x->capacity);
    if (!status)
        status = transport_wait(t, x->received);
    if (status)
        return status;
    size_t header = header_bytes(n_experts), bytes = x->received[0];
    *count = (const int32_t *)(const void *)x->in;
    *rows = x->in + header;
    int64_t total = 0;
    for (int e = 0; e < n_experts && bytes >= header; e++) {
        if ((*count)[e] < 0)
            return fail(STATUS_FAILED, "dispatch: expected a count of rows, found %d", (*count)[e]);
        total += (*count)[e];
    }
    if (bytes < header || bytes - header != (size_t)total * x->limits.row_bytes)
        return fail(STATUS_FAILED, "dispatch: expected %d counts and their rows, found %zu bytes",
                    n_experts, bytes);
    return 0;
}

int exchange_return(struct exchange *x, const void *y, int n_rows)
{
    size_t bytes = (size_t)n_rows * x->limits.row_bytes;
    x->wire_bytes += bytes;
    return transport_start_send(x->transport, 0, y, bytes);
}

int exchange_finish(struct exchange *x)
{
    return transport_wait(x->transport, NULL);
}
