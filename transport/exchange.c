/* What all strategies share: where rows stand, the wire's type, sums, and counting. */
#include "transport/exchange.h"

#include "base/clock.h"
#include "base/log.h"
#include "kernels/ops.h"
#include "transport/direct.h"

static const struct strategy_ops *const strategies[STRATEGY_COUNT] = {
    &strategy_exact, &strategy_padded, &strategy_allgather};

static bool narrows(const struct exchange *x)
{
    return x->options.wire != WIRE_MODEL;
}

static bool sums(const struct exchange *x)
{
    return x->options.combine == COMBINE_SUM;
}

/* The longest that the messages to so many workers can be together. */
static size_t messages_most(const struct exchange *x, int workers)
{
    const struct exchange_limits *l = &x->limits;
    int64_t pairs = pairs_most(l), rows = (int64_t)workers * l->rows;
    if (x->direct)
        rows = 0;
    else if (x->options.strategy == STRATEGY_ALLGATHER)
        rows = l->rows;
    else if (x->options.dedup == DEDUP_OFF || rows > pairs)
        rows = pairs;
    size_t overhead = sizeof(struct message_header) + (size_t)2 * MESSAGE_ALIGN; // of each
    return message_layout(x, l->experts, (int)pairs, 0).bytes + (size_t)workers * overhead +
           (size_t)rows * x->wire_row_bytes;
}

static void open_coordinator(struct exchange *x)
{
    size_t ranks = (size_t)x->transport->size, slack = 0;
    if (x->ops->pads) {
        struct uniform most = uniform_most(x);
        slack = most.out;
        x->staging = dev_alloc(x->host, (ranks - 1) * most.back);
    }
    x->begin = dev_alloc(x->host, (ranks + 1) * sizeof *x->begin);
    x->out_capacity = messages_most(x, (int)ranks - 1);
    x->out = dev_alloc(x->host, x->out_capacity + slack);
}

static void open_worker(struct exchange *x)
{
    const struct exchange_limits *l = &x->limits;
    size_t rows = (size_t)l->rows, pairs = (size_t)pairs_most(l), slack = 0;
    bool once = x->options.dedup == DEDUP_ON;
    x->in_capacity = messages_most(x, 1);
    if (x->ops->pads) {
        struct uniform most = uniform_most(x);
        x->in_capacity += most.out;
        slack = most.back;
    }
    if (x->direct)
        slack = direct_slack(x);
    x->in = dev_alloc(x->host, x->in_capacity);
    x->y = dev_alloc(x->dev, pairs * x->row_bytes + slack);
    if (narrows(x)) {
        x->wide = dev_alloc(x->dev, (once ? rows : pairs) * x->row_bytes);
        x->narrowed = dev_alloc(x->dev, (sums(x) ? rows : pairs) * x->wire_row_bytes + slack);
    }
    if (once)
        x->runs = dev_alloc(x->dev, pairs * x->row_bytes);
    if (sums(x))
        x->sums = dev_alloc(x->dev, rows * x->row_bytes + slack);
    if (x->options.strategy == STRATEGY_ALLGATHER) {
        x->count = dev_alloc(x->host, (size_t)l->experts * sizeof *x->count);
        x->place = dev_alloc(x->host, pairs * sizeof *x->place);
        x->source = dev_alloc(x->host, pairs * sizeof *x->source);
    }
}

/* Narrowed at home, too: the placement must not show. */
static void open_narrowing(struct exchange *x)
{
    size_t rows = (size_t)x->limits.rows, pairs = (size_t)pairs_most(&x->limits);
    x->narrowed = dev_alloc(x->dev, rows * x->wire_row_bytes);
    x->seen = dev_alloc(x->dev, rows * x->row_bytes);
    x->landing_wire = dev_alloc(x->dev, pairs * x->wire_row_bytes);
}

static void open_shares(struct exchange *x)
{
    size_t pairs = (size_t)pairs_most(&x->limits);
    x->shares = dev_alloc(x->host, sizeof *x->shares);
    shares_open(x->shares, x->host, x->limits.rows, x->limits.top_k);
    x->term_place = dev_twin(x->dev, x->shares->place, pairs * sizeof *x->term_place);
    x->term_factor = dev_twin(x->dev, x->shares->factor, pairs * sizeof *x->term_factor);
}

static void open_lane(struct exchange *x)
{
    size_t ranks = x->transport ? (size_t)x->transport->size : 1;
    bool coordinator = !x->transport || x->transport->rank == 0;
    if (coordinator) {
        x->first = dev_alloc_host(x->host, (ranks + 1) * sizeof *x->first);
        x->sent = dev_alloc_host(x->host, ranks * sizeof *x->sent);
        x->back = dev_alloc_host(x->host, ranks * sizeof *x->back);
        if (narrows(x))
            open_narrowing(x);
    }
    if (!x->transport)
        return;
    x->received = dev_alloc(x->host, ranks * sizeof *x->received);
    open_shares(x);
    if (coordinator)
        open_coordinator(x);
    else
        open_worker(x);
}

/* What all lanes have alike. */
static struct exchange in_common(struct dev *host, struct dev *dev, struct transport *t,
                                 const struct exchange_limits *limits,
                                 const struct exchange_options *o)
{
    struct wire_error *narrow_host = dev_alloc_host(dev, sizeof *narrow_host);
    struct exchange x = {.transport = t && t->size > 1 ? t : NULL,
                         .host = host,
                         .dev = dev,
                         .limits = *limits,
                         .options = *o,
                         .ops = strategies[o->strategy],
                         .counters = dev_alloc_host(host, sizeof *x.counters),
                         .narrow = dev_twin(dev, narrow_host, sizeof *narrow_host),
                         .narrow_host = narrow_host,
                         .row_bytes = wire_row_bytes(WIRE_MODEL, limits->type, limits->width),
                         .wire_row_bytes = wire_row_bytes(o->wire, limits->type, limits->width)};
    size_t ranks = x.transport ? (size_t)x.transport->size : 1;
    *x.counters =
        (struct exchange_counters){.with = dev_alloc_host(host, ranks * sizeof *x.counters->with)};
    if (o->strategy == STRATEGY_ALLGATHER)
        x.options.dedup = DEDUP_ON; // it is, whatever was asked for
    return x;
}

static int open_lanes(struct exchange x[LANES], const struct exchange *like, bool direct)
{
    int n = like->transport ? exchange_lanes(&like->options) : 1;
    for (int lane = 0; lane < n; lane++) {
        x[lane] = *like;
        x[lane].lane = lane;
        if (n > 1)
            x[lane].limits.rows -= exchange_second_half(like->limits.rows);
        if (direct && like->transport)
            direct_open(&x[lane]);
        open_lane(&x[lane]);
    }
    for (int lane = n; lane < LANES; lane++)
        x[lane] = (struct exchange){0};
    return n;
}

int exchange_open(struct exchange x[LANES], struct dev *d, struct transport *t,
                  const struct exchange_limits *limits, const struct exchange_options *o)
{
    struct exchange like = in_common(d, d, t, limits, o);
    return open_lanes(x, &like, false);
}

int exchange_open_direct(struct exchange x[LANES], struct dev *host, struct dev *gpu,
                         struct transport *t, const struct exchange_limits *limits,
                         const struct exchange_options *o)
{
    struct exchange like = in_common(host, gpu, t, limits, o);
    return open_lanes(x, &like, true);
}

/* ---- coordinator ---- */

/* Places of one rank: alone, all of them, and the counts are the device's to know. */
static int places_of(const struct exchange *x, const struct exchange_plan *plan, int rank)
{
    int places = 0;
    if (!x->transport)
        return plan->n * plan->k;
    for (int g = plan->layer.rank_first[rank]; g < plan->layer.rank_first[rank + 1]; g++)
        places += plan->count[g];
    return places;
}

/* Which places are whose; x->sent and x->back as if every place travelled. */
static void find_ranks(struct exchange *x, const struct exchange_plan *plan)
{
    int n_ranks = x->transport ? x->transport->size : 1, place = 0;
    for (int rank = 0; rank < n_ranks; rank++) {
        x->first[rank] = place;
        x->sent[rank] = x->back[rank] = places_of(x, plan, rank);
        place += x->sent[rank];
    }
    x->first[n_ranks] = place;
    x->counters->logical += 2 * (uint64_t)place * x->row_bytes;
    x->counters->local += 2 * (uint64_t)x->first[1] * x->row_bytes;
}

/* `then`: the phase that goes on afterwards. */
static void narrow_input(struct exchange *x, struct exchange_plan *plan, enum phase then)
{
    const struct exchange_limits *l = &x->limits;
    if (!narrows(x))
        return;
    trace_mark(x->trace, PHASE_PACK);
    narrow_rows(x->dev, x->narrowed, x->options.wire, plan->h, l->type, plan->n, l->width,
                x->narrow);
    widen_rows(x->dev, x->seen, l->type, x->narrowed, x->options.wire, plan->n, l->width);
    plan->h = x->seen;
    trace_mark(x->trace, then);
}

/* Each rank's distinct rows, and the terms of each row's sum: what stays, then rank by rank. */
static void find_shares(struct exchange *x, const struct exchange_plan *plan)
{
    struct shares *s = x->shares;
    shares_reset(s, plan->n);
    shares_weigh(s, plan->place, plan->weight, plan->n * plan->k);
    for (int at = 0; at < x->first[1]; at++)
        shares_add(s, plan->source[at], at, s->weight[at]);
    for (int rank = 1; rank < x->transport->size; rank++) {
        int first = x->first[rank];
        int found = shares_find(s, rank, plan->source, first, x->first[rank + 1] - first);
        if (x->options.dedup == DEDUP_ON)
            x->sent[rank] = found;
        if (!sums(x))
            continue;
        x->back[rank] = found;
        for (int i = 0; i < found; i++)
            shares_add(s, s->row[first + i], first + i, 1);
    }
}

/* The host's rows are there with the plan. */
int exchange_begin(struct exchange *x, struct exchange_plan *plan)
{
    if (!x->direct)
        return 0;
    narrow_input(x, plan, PHASE_ROUTER);
    return x->ops->begin(x, plan);
}

int exchange_dispatch(struct exchange *x, struct exchange_plan *plan)
{
    find_ranks(x, plan);
    if (!x->direct)
        narrow_input(x, plan, PHASE_PLAN);
    x->landing = narrows(x) ? x->landing_wire : plan->y;
    if (!x->transport)
        return 0;
    x->rounds = x->rounds_back = 1;
    if (has_index(x))
        find_shares(x, plan);
    int status = x->ops->dispatch(x, plan);
    x->away_ns = clock_ns();
    x->exposed_then = x->counters->exposed_ns;
    return status;
}

int exchange_advance(struct exchange *x)
{
    return x->transport ? transport_advance(x->transport) : 0;
}

/* What landed becomes rows of plan->y; experts at home speak through the same narrow wire. */
static void widen_output(struct exchange *x, const struct exchange_plan *plan)
{
    const struct exchange_limits *l = &x->limits;
    int n_ranks = x->transport ? x->transport->size : 1;
    narrow_rows(x->dev, x->landing, x->options.wire, plan->y, l->type, x->first[1], l->width,
                x->narrow);
    for (int rank = 0; rank < n_ranks; rank++)
        widen_rows(x->dev, (char *)plan->y + (size_t)x->first[rank] * x->row_bytes, l->type,
                   x->landing + (size_t)x->first[rank] * x->wire_row_bytes, x->options.wire,
                   x->back[rank], l->width);
}

/* Wait until the rows are back. Work hides their absence until they are, or this wait begins;
 * waiting for the other half's is not work. */
static int take_back(struct exchange *x, const struct exchange_plan *plan)
{
    int64_t start = clock_ns();
    uint64_t waited = x->counters->exposed_ns - x->exposed_then;
    int status = x->ops->combine(x, plan);
    int64_t back = x->transport->arrived_ns;
    int64_t worked = (back && back < start ? back : start) - x->away_ns - (int64_t)waited;
    x->counters->hidden_ns += worked > 0 ? (uint64_t)worked : 0;
    return status;
}

int exchange_combine(struct exchange *x, struct exchange_plan *plan)
{
    if (x->transport)
        trace_mark(x->trace, PHASE_WAIT);
    int status = x->transport ? take_back(x, plan) : 0;
    if (status)
        return status;
    trace_mark(x->trace, PHASE_COMBINE);
    if (narrows(x))
        widen_output(x, plan);
    if (x->transport && sums(x)) {
        plan->place = x->shares->place;
        plan->weight = x->shares->factor;
    }
    return 0;
}

struct wire_error exchange_wire_error(struct exchange *x)
{
    dev_download(x->dev, x->narrow_host, x->narrow, sizeof *x->narrow);
    dev_wait(x->dev);
    return *x->narrow_host;
}

/* ---- worker ---- */

/* The terms of each sum that goes back, in order of expert. */
static int find_terms(struct exchange *x)
{
    for (int at = 0; at < x->work.n_rows; at++)
        if (!shares_add(x->shares, x->share[at], at, x->weight[at]))
            return fail(STATUS_FAILED, "dispatch: expected up to %d experts of a row, found more",
                        x->limits.top_k);
    return 0;
}

static void prepare_rows(struct exchange *x)
{
    const struct exchange_limits *l = &x->limits;
    const void *rows = x->wire_rows;
    if (narrows(x)) {
        widen_rows(x->dev, x->wide, l->type, rows, x->options.wire, x->n_wire_rows, l->width);
        rows = x->wide;
    }
    if (x->gather) {
        gather(x->dev, x->runs, rows, x->gather, x->work.n_rows, x->row_bytes);
        rows = x->runs;
    }
    x->work.rows = rows;
    x->work.y = x->y;
}

int exchange_receive(struct exchange *x, const struct exchange_layer *layer, int n,
                     const struct exchange_work **work)
{
    x->rounds = x->rounds_back = 1;
    trace_mark(x->trace, PHASE_AWAIT);
    int status = x->ops->receive(x, layer, n);
    if (status)
        return status;
    trace_mark(x->trace, PHASE_UNPACK);
    if (sums(x))
        shares_reset(x->shares, n);
    status = x->ops->unpack(x, layer, n);
    if (!status && sums(x))
        status = find_terms(x);
    if (status)
        return status;
    prepare_rows(x);
    *work = &x->work;
    return 0;
}

/* x->sums := what the shares say of x->y. */
static void sum_output(struct exchange *x)
{
    const struct exchange_limits *l = &x->limits;
    size_t terms = (size_t)x->n_back * (size_t)l->top_k;
    dev_upload(x->dev, x->term_place, x->shares->place, terms * sizeof *x->term_place);
    dev_upload(x->dev, x->term_factor, x->shares->factor, terms * sizeof *x->term_factor);
    sum_rows(x->dev, x->sums, x->y, l->type, x->term_place, x->term_factor, x->n_back, l->top_k,
             l->width);
}

int exchange_return(struct exchange *x)
{
    const struct exchange_limits *l = &x->limits;
    const void *rows = x->y;
    trace_mark(x->trace, PHASE_PACK);
    if (sums(x)) {
        sum_output(x);
        rows = x->sums;
    }
    if (narrows(x)) {
        narrow_rows(x->dev, x->narrowed, x->options.wire, rows, l->type, x->n_back, l->width,
                    x->narrow);
        rows = x->narrowed;
    }
    return x->ops->give_back(x, rows);
}

int exchange_finish(struct exchange *x)
{
    return exchange_wait(x);
}

void exchange_drop(struct exchange *x)
{
    if (x->transport)
        transport_drop(x->transport);
}
