/* What all strategies and movers use: sizes, counting, waiting. */
#include "exchange/ends.h"

#include "base/clock.h"
#include "exchange/mover.h"
#include "exchange/strategy.h"

static const struct strategy_ops *const strategies[STRATEGY_COUNT] = {
    &strategy_exact, &strategy_padded, &strategy_allgather};

struct exchange_setup end_settle(const struct exchange_setup *setup)
{
    struct exchange_setup s = *setup;
    if (s.transport && s.transport->size < 2)
        s.transport = NULL;
    if (s.options.strategy == STRATEGY_ALLGATHER)
        s.options.dedup = DEDUP_ON; // a row travels once to each rank, whatever was asked for
    return s;
}

int end_lanes(const struct exchange_setup *setup)
{
    return setup->transport ? exchange_lanes(&setup->options) : 1;
}

struct exchange_end end_of(const struct exchange_setup *setup)
{
    const struct exchange_limits *l = &setup->limits;
    bool apart = setup->nccl && setup->transport;
    size_t ranks = setup->transport ? (size_t)setup->transport->size : 1;
    struct wire_error *error_host = dev_alloc_host(setup->dev, sizeof *error_host);
    struct exchange_end e = {
        .transport = setup->transport,
        .root = setup->root,
        .host = setup->host,
        .dev = setup->dev,
        .limits = *l,
        .options = setup->options,
        .form = message_form(&setup->options, l, apart),
        .strategy = strategies[setup->options.strategy],
        .mover = apart ? &nccl_mover : &message_mover,
        .counters = dev_alloc_host(setup->host, sizeof *e.counters),
        .error = dev_alloc_copy(setup->dev, error_host, sizeof *error_host),
        .error_host = error_host,
        .row_bytes = wire_row_bytes(WIRE_MODEL, l->type, l->width),
        .wire_row_bytes = wire_row_bytes(setup->options.wire, l->type, l->width),
        .piece_bytes = wire_row_bytes(WIRE_MODEL, DTYPE_F32, l->width),
        .wire_piece_bytes = wire_row_bytes(setup->options.wire, DTYPE_F32, l->width)};
    *e.counters = (struct exchange_counters){
        .with = dev_alloc_host(setup->host, ranks * sizeof *e.counters->with)};
    return e;
}

/* The most rows of one lane: of a half, or of a step that still goes whole. */
static int rows_of_lane(const struct exchange_end *e)
{
    int most = e->limits.rows, half = most - exchange_second_half(&e->options, most);
    int whole = end_least(most, e->options.overlap == OVERLAP_AUTO ? OVERLAP_AUTO_ROWS - 1 : 1);
    return half > whole ? half : whole;
}

struct exchange_end end_of_lane(const struct exchange_end *e, int lane, int n)
{
    struct exchange_end own = *e;
    own.lane = lane;
    if (n > 1)
        own.limits.rows = rows_of_lane(e);
    if (own.transport)
        own.received = dev_alloc_host(own.host, (size_t)own.transport->size * sizeof *own.received);
    return own;
}

size_t end_messages_most(const struct exchange_end *e, int workers)
{
    const struct exchange_limits *l = &e->limits;
    int64_t pairs = end_pairs(e), rows = (int64_t)workers * l->rows;
    if (e->options.strategy == STRATEGY_ALLGATHER)
        rows = l->rows;
    else if (e->options.dedup == DEDUP_OFF)
        rows = pairs + (l->pieces ? rows : 0);
    else if (rows > pairs && !l->pieces)
        rows = pairs;
    size_t overhead = sizeof(struct message_header) + (size_t)2 * MESSAGE_ALIGN; // of each
    return message_layout(&e->form, l->experts, (int)pairs, 0, true).bytes +
           (size_t)workers * overhead + (e->form.apart ? 0 : (size_t)rows * e->wire_row_bytes);
}

int end_wire_error(struct exchange_end *e, struct wire_error *error)
{
    dev_download(e->dev, e->error_host, e->error, sizeof *e->error);
    int status = dev_wait(e->dev);
    *error = *e->error_host;
    return status;
}

int end_wait(struct exchange_end *e)
{
    int64_t start = clock_ns();
    int status = transport_wait(e->transport, e->lane, e->received);
    e->counters->exposed_ns += (uint64_t)(clock_ns() - start);
    return status;
}

void end_count_sent(struct exchange_end *e, int to, size_t bytes)
{
    e->counters->sent += bytes;
    e->counters->with[to].sent += bytes;
    e->counters->messages++;
}

void end_count_received(struct exchange_end *e, int from, size_t bytes)
{
    e->counters->received += bytes;
    e->counters->with[from].received += bytes;
}

int end_send(struct exchange_end *e, int to, const void *bytes, size_t n)
{
    trace_mark_detail(e->trace, PHASE_WIRE_OUT, to);
    end_count_sent(e, to, n);
    return transport_start_send(e->transport, e->lane, to, bytes, n);
}
