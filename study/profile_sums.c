#include "study/profile.h"

struct phase_times profile_rank_times(const struct profile *p, enum step_kind kind, int rank)
{
    struct phase_times sum = {{0}};
    for (int layer = 0; layer <= p->n_layers; layer++)
        for (int phase = 0; phase < PHASE_COUNT; phase++)
            sum.ns[phase] += profile_times(p, kind, rank, layer)->ns[phase];
    return sum;
}

int64_t phase_total(const struct phase_times *t)
{
    int64_t sum = 0;
    for (int phase = 0; phase < PHASE_COUNT; phase++)
        sum += t->ns[phase];
    return sum;
}

struct exchange_times profile_exchange_times(const struct profile *p, enum step_kind kind)
{
    struct exchange_times sum = {0};
    for (int layer = 0; layer < p->n_layers; layer++) {
        const struct exchange_times *x = &p->steps[kind].exchange[layer];
        sum.compute += x->compute;
        sum.skew += x->skew;
        sum.transfer += x->transfer;
        sum.hidden += x->hidden;
    }
    return sum;
}

int64_t phase_exchange(const struct phase_times *t)
{
    return t->ns[PHASE_PACK] + t->ns[PHASE_WIRE_OUT] + t->ns[PHASE_WAIT];
}

/* The sum over layers of the busiest rank's load, over the sum of the mean loads. */
static double balance(const struct profile *p, enum step_kind kind, int layer, bool experts)
{
    const struct step_sums *s = &p->steps[kind];
    double most = 0, mean = 0;
    for (int l = layer < 0 ? 0 : layer; l < (layer < 0 ? p->n_layers : layer + 1); l++) {
        const struct layer_load *all = &s->layers[l];
        double sum = 0;
        for (int rank = 0; rank < p->n_ranks; rank++) {
            const struct rank_load *load = &s->loads[rank * p->n_layers + l];
            sum += (double)(experts ? load->experts : load->rows);
        }
        most += (double)(experts ? all->experts_most : all->rows_most);
        mean += all->holders ? sum / all->holders : 0;
    }
    return mean > 0 ? most / mean : 0;
}

double profile_rows_balance(const struct profile *p, enum step_kind kind, int layer)
{
    return balance(p, kind, layer, false);
}

double profile_experts_balance(const struct profile *p, enum step_kind kind, int layer)
{
    return balance(p, kind, layer, true);
}
