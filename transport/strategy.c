/* The strategies by name, and `exact`: one message each way, as long as it needs to be. */
#include "transport/strategy.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"

static const char *const strategies[] = {"exact", "padded", "allgather"};
static const char *const combines[] = {"rows", "sum"};
static const char *const dedups[] = {"on", "off"};
static const char *const wires[] = {"model", "bf16", "int8"};
static const char *const overlaps[] = {"off", "on"};

struct exchange_words exchange_words(const struct exchange_options *o)
{
    return (struct exchange_words){strategies[o->strategy], combines[o->combine], dedups[o->dedup],
                                   wires[o->wire], overlaps[o->overlap]};
}

/* The word's number, or -1 after fail(). */
static int find(const char *what, const char *const *words, int n, const char *word)
{
    for (int i = 0; i < n; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    fail(STATUS_FAILED, "setup: expected a known %s, found \"%.40s\"", what, word);
    return -1;
}

int exchange_understand(struct exchange_options *o, const struct exchange_words *words)
{
    int strategy = find("strategy", strategies, STRATEGY_COUNT, words->strategy);
    int combine = strategy < 0 ? -1 : find("combine", combines, COMBINE_COUNT, words->combine);
    int dedup = combine < 0 ? -1 : find("dedup", dedups, DEDUP_COUNT, words->dedup);
    int wire = dedup < 0 ? -1 : find("wire", wires, WIRE_COUNT, words->wire);
    int overlap = wire < 0 ? -1 : find("overlap", overlaps, OVERLAP_COUNT, words->overlap);
    if (overlap < 0)
        return STATUS_FAILED;
    *o = (struct exchange_options){(enum strategy)strategy, (enum combine)combine,
                                   (enum dedup)dedup, (enum wire)wire, (enum overlap)overlap};
    return 0;
}

int exchange_choose_wire(struct exchange_options *o, enum dtype type)
{
    if (o->wire != WIRE_BF16 || type == DTYPE_F32)
        return 0;
    if (type != DTYPE_BF16)
        return fail(STATUS_USAGE, "--wire bf16: expected an f32 model, found %s", dtype_name(type));
    o->wire = WIRE_MODEL;
    return 0;
}

int exchange_wait(struct exchange *x)
{
    int64_t start = clock_ns();
    int status = transport_wait(x->transport, x->lane, x->received);
    x->counters->exposed_ns += (uint64_t)(clock_ns() - start);
    return status;
}

void exchange_count_sent(struct exchange *x, int to, size_t bytes)
{
    x->counters->sent += bytes;
    x->counters->with[to].sent += bytes;
    x->counters->messages++;
}

void exchange_count_received(struct exchange *x, int from, size_t bytes)
{
    x->counters->received += bytes;
    x->counters->with[from].received += bytes;
}

int single_send(struct exchange *x, int to, const void *bytes, size_t n)
{
    trace_mark_detail(x->trace, PHASE_WIRE_OUT, to);
    exchange_count_sent(x, to, n);
    return transport_start_send(x->transport, x->lane, to, bytes, n);
}

int single_await(struct exchange *x)
{
    int status = 0;
    for (int rank = 1; rank < x->transport->size && !status; rank++)
        status = transport_start_recv(x->transport, x->lane, rank,
                                      x->landing + (size_t)x->first[rank] * x->wire_row_bytes,
                                      (size_t)x->back[rank] * x->wire_row_bytes);
    return status;
}

int single_combine(struct exchange *x, const struct exchange_plan *plan)
{
    (void)plan;
    int status = exchange_wait(x);
    for (int rank = 1; rank < x->transport->size && !status; rank++) {
        size_t expected = (size_t)x->back[rank] * x->wire_row_bytes;
        exchange_count_received(x, rank, expected);
        if (x->received[rank] != expected)
            status = fail(STATUS_FAILED, "rank %d: expected %zu bytes of rows back, found %zu",
                          rank, expected, x->received[rank]);
    }
    return status;
}

static int exact_dispatch(struct exchange *x, const struct exchange_plan *plan)
{
    message_place(x, plan);
    int status = single_await(x);
    for (int rank = 1; rank < x->transport->size && !status; rank++) {
        message_pack(x, plan, rank);
        status = single_send(x, rank, x->out + x->begin[rank], x->begin[rank + 1] - x->begin[rank]);
    }
    return status;
}

int single_receive(struct exchange *x, const struct exchange_layer *layer, int n)
{
    (void)layer, (void)n;
    int status = transport_start_recv(x->transport, x->lane, 0, x->in, x->in_capacity);
    if (!status)
        status = exchange_wait(x);
    x->in_bytes = x->received[0];
    exchange_count_received(x, 0, x->in_bytes);
    return status;
}

int single_give_back(struct exchange *x, const void *rows)
{
    return single_send(x, 0, rows, (size_t)x->n_back * x->wire_row_bytes);
}

const struct strategy_ops strategy_exact = {
    .dispatch = exact_dispatch,
    .combine = single_combine,
    .receive = single_receive,
    .unpack = message_unpack,
    .give_back = single_give_back,
};
