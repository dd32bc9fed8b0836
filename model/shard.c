#include "model/shard.h"

#include "kernels/ops.h"
#include "model/pieces.h"
#include "model/sizes.h"

/* What loading a shard needs at every step. */
struct loading {
    struct shard *s;
    struct dev *d;
    const struct config *m;
    const struct checkpoint *c;
    load_progress progress;
    void *context;
    uint64_t loaded; // parameters
};

static void report(struct loading *o, uint64_t parameters)
{
    o->loaded += parameters;
    if (o->progress)
        o->progress(o->context, o->loaded);
}

/* One block: an expert, or a piece of a layer's dense block. */
typedef int (*load_block)(struct ffn *f, struct dev *d, const struct config *m,
                          const struct checkpoint *c, struct precision p, int layer, int number);

/* The blocks of a layer that `rank` holds, in order of group. Each counts as so many parameters. */
static int load_list(struct loading *o, struct ffn_list *list, const struct layer_placement *at,
                     int rank, int layer, load_block load, uint64_t parameters)
{
    int n = placement_count(at, rank), status = 0;
    struct ffn *blocks = dev_alloc_host(o->d, (size_t)n * sizeof *blocks);
    *list = (struct ffn_list){.ffns = blocks, .n = n};
    for (int i = 0; i < n && !status; i++) {
        int number = at->block_at[at->rank_first[rank] + i];
        status = load(&blocks[i], o->d, o->m, o->c, o->s->precision, layer, number);
        report(o, parameters);
    }
    if (n && !status)
        ffn_list_open(o->d, list);
    return status;
}

static uint64_t piece_parameters(const struct config *m, int layer)
{
    return 3 * (uint64_t)m->dim * (uint64_t)pieces_of(m, layer).width;
}

uint64_t shard_parameters(const struct config *m, const struct placement *p, int rank)
{
    uint64_t sum = (uint64_t)placement_holding(p, rank).experts * sizes_of(m).expert;
    for (int l = 0; l < m->n_layers; l++)
        sum += (uint64_t)placement_count(&p->pieces[l], rank) * piece_parameters(m, l);
    return sum;
}

static int load_layer(struct loading *o, const struct placement *p, int rank, int layer)
{
    struct shard_layer *here = &o->s->layers[layer];
    int status = load_list(o, &here->experts, &p->layers[layer], rank, layer, weights_load_expert,
                           sizes_of(o->m).expert);
    if (!status)
        status = load_list(o, &here->pieces, &p->pieces[layer], rank, layer, weights_load_piece,
                           piece_parameters(o->m, layer));
    o->s->n_experts += here->experts.n;
    o->s->n_pieces += here->pieces.n;
    return status;
}

int shard_open(struct shard *s, struct dev *d, const struct config *m, const struct checkpoint *c,
               struct precision precision, const struct placement *p, int rank,
               load_progress progress, void *context)
{
    struct loading o = {s, d, m, c, progress, context, 0};
    uint64_t before = d->bytes;
    int status = 0;
    *s = (struct shard){.precision = precision,
                        .row_bytes =
                            (size_t)row_stride(m->dim) * (size_t)dtype_bytes(precision.type),
                        .piece_bytes = (size_t)row_stride(m->dim) * sizeof(float)};
    s->layers = dev_alloc_host(d, (size_t)m->n_layers * sizeof *s->layers);
    for (int l = 0; l < m->n_layers && !status; l++)
        status = load_layer(&o, p, rank, l);
    s->bytes = d->bytes - before;
    return status;
}
