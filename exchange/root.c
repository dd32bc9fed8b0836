/* The root's end: what all strategies have in common. */
#include "exchange/root.h"

#include "base/clock.h"
#include "exchange/mover.h"
#include "exchange/strategy.h"
#include "kernels/ops.h"

/* Buffers for a narrower wire. The root narrows the rows of its own experts, too, since results may
 * not depend on which rank has an expert. */
static void open_narrowing(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    size_t rows = (size_t)e->limits.rows, pairs = (size_t)end_pairs(e);
    x->narrowed = dev_alloc(e->dev, rows * e->wire_row_bytes);
    x->rounded = dev_alloc(e->dev, rows * e->row_bytes);
    x->narrow_results = dev_alloc(e->dev, pairs * e->wire_row_bytes);
    x->narrow_pieces = dev_alloc(e->dev, rows * (size_t)e->limits.pieces * e->wire_piece_bytes);
}

/* Buffers for messages. STRATEGY_PADDED may read up to a round beyond a message's end. */
static void open_messages(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    size_t ranks = (size_t)e->transport->size;
    size_t slack = message_is_cut(&e->form) ? padded_most(e).out : 0;
    x->begin = dev_alloc_host(e->host, (ranks + 1) * sizeof *x->begin);
    x->out_capacity = end_messages_most(e, (int)ranks - 1);
    x->out = dev_alloc(e->host, x->out_capacity + slack);
    x->back = dev_alloc_host(e->host, ranks * sizeof *x->back);
    x->pieces_back = dev_alloc_host(e->host, ranks * sizeof *x->pieces_back);
    if (e->options.strategy == STRATEGY_PADDED)
        padded_open_root(x);
    e->mover->open(e);
}

static struct root_end *open_lane(const struct exchange_setup *setup,
                                  const struct exchange_end *end)
{
    struct root_end *x = dev_alloc_host(setup->host, sizeof *x);
    struct exchange_setup own = *setup;
    own.limits = end->limits;
    *x = (struct root_end){.end = *end};
    plan_open(&x->plan, &own);
    if (end_narrows(end))
        open_narrowing(x);
    if (end->transport)
        open_messages(x);
    return x;
}

int root_open(struct root_end *x[LANES], const struct exchange_setup *setup)
{
    struct exchange_setup s = end_settle(setup);
    struct exchange_end all = end_of(&s);
    int n = end_lanes(&s);
    for (int lane = 0; lane < n; lane++) {
        struct exchange_end e = end_of_lane(&all, lane, n);
        x[lane] = open_lane(&s, &e);
    }
    return n;
}

int root_join(struct root_end *x[LANES], int lanes, const void *ids)
{
    int status = 0;
    for (int lane = 0; lane < lanes && !status; lane++)
        status = nccl_rows_join(&x[lane]->end, x[lane]->out, ids);
    return status;
}

void root_leave(struct root_end *x[LANES], int lanes)
{
    for (int lane = 0; lane < lanes; lane++)
        if (x[lane])
            nccl_rows_leave(&x[lane]->end);
}

void root_trace(struct root_end *x, struct trace *log)
{
    x->end.trace = log;
}

/* x->input := the rows that experts read; with a narrower wire also x->narrowed := what is sent.
 * then: the phase that goes on afterwards. */
static void narrow_input(struct root_end *x, int n, enum phase then)
{
    struct exchange_end *e = &x->end;
    const struct exchange_limits *l = &e->limits;
    x->input = x->h;
    if (!end_narrows(e))
        return;
    trace_mark(e->trace, PHASE_PACK);
    narrow_rows(e->dev, x->narrowed, e->options.wire, x->h, l->type, n, l->width, e->error);
    widen_rows(e->dev, x->rounded, l->type, x->narrowed, e->options.wire, n, l->width);
    x->input = x->rounded;
    trace_mark(e->trace, then);
}

/* Unless rows travel apart, they are sent from the host's memory, and a GPU's rows are copied there
 * together with their routing: h may not be read before root_dispatch(). */
int root_begin(struct root_end *x, const struct exchange_layer *layer, const void *h, int n)
{
    x->h = h;
    x->stays = !x->end.transport || layer_stays(layer, x->end.root, x->end.transport->size);
    if (!x->end.mover->apart)
        return 0;
    narrow_input(x, n, PHASE_ROUTER);
    return x->stays ? 0 : x->end.strategy->begin(x, n);
}

static void count_plan(const struct root_end *x)
{
    const struct plan *p = &x->plan;
    const struct exchange_layer *layer = layer_of(x);
    struct exchange_counters *c = x->end.counters;
    size_t pairs = 2 * x->end.row_bytes, pieces = x->end.row_bytes + x->end.piece_bytes;
    uint64_t all = (uint64_t)layer->piece_first[p->ranks] * (uint64_t)x->n;
    c->logical += (uint64_t)p->first[p->ranks] * pairs + all * pieces;
    c->local +=
        (uint64_t)plan_slots(p, p->root) * pairs + (uint64_t)piece_rows(x, p->root) * pieces;
}

int root_send_message(struct root_end *x, int rank)
{
    return end_send(&x->end, rank, x->out + x->begin[rank], x->begin[rank + 1] - x->begin[rank]);
}

int root_dispatch(struct root_end *x, const struct routing *r, void *y, float *z)
{
    struct exchange_end *e = &x->end;
    x->n = r->n;
    plan_make(&x->plan, r);
    count_plan(x);
    if (!e->mover->apart)
        narrow_input(x, r->n, PHASE_PLAN);
    x->y = y;
    x->z = z;
    x->results = end_narrows(e) ? x->narrow_results : y;
    x->piece_results = end_narrows(e) ? x->narrow_pieces : (char *)z;
    if (x->stays)
        return 0;
    e->rounds = e->rounds_back = 1;
    int status = e->strategy->dispatch(x);
    x->away_ns = clock_ns();
    x->exposed_then = e->counters->exposed_ns;
    return status;
}

const void *root_input(const struct root_end *x)
{
    return x->input;
}

int root_home_rows(const struct root_end *x)
{
    return plan_slots(&x->plan, x->plan.root);
}

int root_home_pieces(const struct root_end *x)
{
    return layer_of(x)->piece_first[x->end.root] * x->n;
}

int root_home_piece_rows(const struct root_end *x)
{
    return piece_rows(x, x->end.root);
}

int root_piece_rows(const struct root_end *x)
{
    return layer_of(x)->piece_first[x->plan.ranks] * x->n;
}

int root_advance(struct root_end *x)
{
    return x->end.transport ? transport_advance(x->end.transport) : 0;
}

/* z := the results of all pieces, from their form on the wire. Those of rank 0 are narrowed first,
 * so that results do not depend on where a piece is. */
static void widen_pieces(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    const struct plan *p = &x->plan;
    int width = e->limits.width, all = layer_of(x)->piece_first[p->ranks] * x->n;
    char *home = (char *)x->z + (size_t)root_home_pieces(x) * e->piece_bytes;
    narrow_rows(e->dev, piece_results_of(x, p->root), e->options.wire, home, DTYPE_F32,
                piece_rows(x, p->root), width, e->error);
    widen_rows(e->dev, x->z, DTYPE_F32, x->piece_results, e->options.wire, all, width);
}

/* y := the results of all experts, from their form on the wire; those of rank 0 are narrowed first.
 */
static void widen_output(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    const struct exchange_limits *l = &e->limits;
    const struct plan *p = &x->plan;
    int home = p->first[p->root];
    narrow_rows(e->dev, results_of(x, home), e->options.wire,
                (char *)x->y + (size_t)home * e->row_bytes, l->type, root_home_rows(x), l->width,
                e->error);
    for (int rank = 0; rank < p->ranks; rank++)
        widen_rows(e->dev, (char *)x->y + (size_t)p->first[rank] * e->row_bytes, l->type,
                   results_of(x, p->first[rank]), e->options.wire, p->back[rank], l->width);
}

/* Wait until the results are back, and count as hidden the time since the dispatch until they were
 * back or this wait began, less what was spent waiting for the other half's results. */
static int take_back(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    int64_t start = clock_ns();
    uint64_t waited = e->counters->exposed_ns - x->exposed_then;
    trace_mark(e->trace, PHASE_WAIT);
    int status = e->strategy->combine(x);
    int64_t back = e->transport->arrived_ns;
    int64_t worked = (back && back < start ? back : start) - x->away_ns - (int64_t)waited;
    e->counters->hidden_ns += worked > 0 ? (uint64_t)worked : 0;
    return status;
}

int root_combine(struct root_end *x, struct row_terms *terms)
{
    const struct plan *p = &x->plan;
    int status = x->stays ? 0 : take_back(x);
    if (status)
        return status;
    trace_mark(x->end.trace, PHASE_COMBINE);
    if (end_narrows(&x->end)) {
        widen_output(x);
        widen_pieces(x);
    }
    *terms = (struct row_terms){p->routing->slot, p->routing->weight};
    if (x->end.transport && p->sum)
        *terms = (struct row_terms){p->sums.slot, p->sums.factor};
    return 0;
}

void root_drop(struct root_end *x)
{
    if (x->end.transport)
        transport_drop(x->end.transport);
}

const struct exchange_counters *root_counters(const struct root_end *x)
{
    return x->end.counters;
}

struct exchange_counters *root_counters_of_all(struct root_end *x)
{
    return x->end.counters;
}

void root_count_home(struct root_end *x, int pairs, int pieces)
{
    uint64_t bytes = 2 * (uint64_t)pairs * x->end.row_bytes +
                     (uint64_t)pieces * (x->end.row_bytes + x->end.piece_bytes);
    x->end.counters->logical += bytes;
    x->end.counters->local += bytes;
}

int root_wire_error(struct root_end *x, struct wire_error *error)
{
    return end_wire_error(&x->end, error);
}

int root_lane(const struct root_end *x)
{
    return x->end.lane;
}
