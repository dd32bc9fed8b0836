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
    x->h = dev_alloc(x->where, rows * row);
    x->y = dev_alloc(x->where, pairs * row);
    if (x->where == &x->host) { // a GPU's memory is there from the start
        memset(x->h, 0, rows * row);
        memset(x->y, 0, pairs * row);
    }
}

static int open_devices(struct lap *x)
{
    x->where = x->s.nccl ? &x->gpu : &x->host;
    if (!x->s.nccl) {
        dev_open_cpu(&x->host, x->s.isa, 1);
        return 0;
    }
    int status = dev_open_cuda(&x->gpu, x->s.gpu, x->s.isa, 1);
    if (status)
        return status;
    const struct exchange_limits *l = &x->s.limits;
    struct dev_limits most = {.type = l->type, .rows = l->rows * l->top_k, .dim = l->width};
    dev_open_host(&x->host, &x->gpu);
    dev_reserve(&x->gpu, &most);
    return 0;
}

/* The host fills in and compares copies of a GPU's rows. */
static void open_checks(struct lap *x)
{
    const struct exchange_limits *l = &x->s.limits;
    size_t row = wire_row_bytes(WIRE_MODEL, l->type, l->width);
    size_t pairs = (size_t)l->rows * (size_t)l->top_k;
    x->wire = dev_alloc(&x->host, wire_row_bytes(x->s.options.wire, l->type, l->width));
    x->expected = dev_alloc(&x->host, row);
    if (x->s.nccl) {
        x->rows = dev_alloc(&x->host, pairs * row);
        x->results = dev_alloc(&x->host, pairs * row);
        x->row_of = dev_alloc_host(&x->host, pairs * sizeof *x->row_of);
    }
}

int lap_open(struct lap *x, const struct lap_setup *setup)
{
    const struct exchange_limits *l = &setup->limits;
    size_t pairs = (size_t)l->rows * (size_t)l->top_k;
    *x = (struct lap){.s = *setup};
    int status = open_devices(x);
    if (status)
        return status;
    x->count = dev_alloc_host(&x->host, (size_t)l->groups * sizeof *x->count);
    x->slot = dev_alloc_host(&x->host, pairs * sizeof *x->slot);
    x->source = dev_alloc_host(&x->host, pairs * sizeof *x->source);
    open_checks(x);
    struct exchange_setup exchange = {.host = &x->host,
                                      .dev = x->where,
                                      .transport = setup->transport,
                                      .limits = *l,
                                      .options = setup->options,
                                      .nccl = setup->nccl};
    if (is_root(x)) {
        open_root(x);
        root_open(x->root, &exchange);
    } else
        worker_end_open(x->worker, &exchange);
    return dev_wait(x->where);
}

int lap_join(struct lap *x, const void *ids)
{
    return is_root(x) ? root_join(x->root, 1, ids) : worker_end_join(x->worker, 1, ids);
}

void lap_close(struct lap *x)
{
    root_leave(x->root, 1);
    worker_end_leave(x->worker, 1);
    dev_close(&x->host);
    dev_close(&x->gpu);
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
    int status = root_combine(x->root[0], terms);
    return status ? status : dev_wait(x->where);
}

int lap_receive(struct lap *x)
{
    int status = worker_end_receive(x->worker[0], &x->routing.layer, x->routing.n, &x->work);
    return status ? status : dev_wait(x->where);
}

int lap_give_back(struct lap *x)
{
    int status = worker_end_return(x->worker[0]);
    return status ? status : worker_end_finish(x->worker[0]);
}
