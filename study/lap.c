#include "study/lap.h"

#include "kernels/ops.h"

static bool is_root(const struct lap *x)
{
    return !x->s.transport || x->s.transport->rank == 0;
}

static int n_ranks(const struct lap *x)
{
    return x->s.transport ? x->s.transport->size : 1;
}

/* Rows are written once, so that their pages are there before any lap. */
static void open_root(struct lap *x)
{
    const struct exchange_limits *l = &x->s.limits;
    size_t row = wire_row_bytes(WIRE_MODEL, l->type, l->width);
    size_t rows = (size_t)l->rows, pairs = rows * (size_t)l->top_k;
    x->h = dev_alloc(&x->dev, rows * row);
    x->y = dev_alloc(&x->dev, pairs * row);
    memset(x->h, 0, rows * row);
    memset(x->y, 0, pairs * row);
}

void lap_open(struct lap *x, const struct lap_setup *setup)
{
    const struct exchange_limits *l = &setup->limits;
    size_t pairs = (size_t)l->rows * (size_t)l->top_k;
    *x = (struct lap){.s = *setup};
    dev_open_cpu(&x->dev, setup->isa, 1);
    x->count = dev_alloc_host(&x->dev, (size_t)l->groups * sizeof *x->count);
    x->slot = dev_alloc_host(&x->dev, pairs * sizeof *x->slot);
    x->source = dev_alloc_host(&x->dev, pairs * sizeof *x->source);
    x->wire = dev_alloc(&x->dev, wire_row_bytes(setup->options.wire, l->type, l->width));
    x->expected = dev_alloc(&x->dev, wire_row_bytes(WIRE_MODEL, l->type, l->width));
    struct exchange_setup exchange = {.host = &x->dev,
                                      .dev = &x->dev,
                                      .transport = setup->transport,
                                      .limits = *l,
                                      .options = setup->options};
    if (is_root(x)) {
        open_root(x);
        root_open(x->root, &exchange);
    } else
        worker_end_open(x->worker, &exchange);
}

void lap_close(struct lap *x)
{
    dev_close(&x->dev);
    *x = (struct lap){0};
}

enum { MOST_RANKS = 1 << 16 };
static const int32_t no_pieces[MOST_RANKS + 1];

void lap_prepare(struct lap *x, const struct traffic *t, const struct layer_placement *experts)
{
    const struct sorting to = {x->count, x->slot, x->source, NULL, placement_grouping(experts)};
    sort_rows(&to, t->expert, t->n, t->k);
    x->expert_at = experts->block_at;
    x->routing = (struct routing){
        .n = t->n,
        .k = t->k,
        .expert = t->expert,
        .slot = x->slot,
        .weight = t->weight,
        .source = x->source,
        .count = x->count,
        .layer = {placement_grouping(experts), experts->rank_first, no_pieces, t->k},
    };
}

void lap_expect(struct lap *x, int n, int k, const struct layer_placement *experts)
{
    x->routing = (struct routing){
        .n = n, .k = k, .layer = {placement_grouping(experts), experts->rank_first, no_pieces, k}};
}

bool lap_travels(const struct lap *x)
{
    return n_ranks(x) > 1 && !layer_stays(&x->routing.layer, 0, n_ranks(x));
}

int lap_leave(struct lap *x)
{
    static float none[1]; // there are no pieces to fill it
    int status = root_begin(x->root[0], &x->routing.layer, x->h, x->routing.n);
    return status ? status : root_dispatch(x->root[0], &x->routing, x->y, none);
}

int lap_return(struct lap *x, struct row_terms *terms)
{
    return root_combine(x->root[0], terms);
}

int lap_receive(struct lap *x)
{
    return worker_end_receive(x->worker[0], &x->routing.layer, x->routing.n, &x->work);
}

int lap_give_back(struct lap *x)
{
    int status = worker_end_return(x->worker[0]);
    return status ? status : worker_end_finish(x->worker[0]);
}
