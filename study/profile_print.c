#include <string.h>

#include "base/units.h"
#include "study/profile.h"

/* Columns of rank 0's table, and of the workers'. */
static const enum phase own[] = {PHASE_ATTENTION, PHASE_ROUTER,   PHASE_PLAN,
                                 PHASE_PACK,      PHASE_WIRE_OUT, PHASE_SHARED,
                                 PHASE_HOME,      PHASE_WAIT,     PHASE_COMBINE};
static const enum phase theirs[] = {PHASE_AWAIT, PHASE_UNPACK, PHASE_COMPUTE, PHASE_PACK,
                                    PHASE_WIRE_OUT};
static const enum phase outside[] = {PHASE_CONTROL, PHASE_EMBED, PHASE_LOGITS, PHASE_SAMPLE};
enum {
    N_OWN = sizeof own / sizeof *own,
    N_THEIRS = sizeof theirs / sizeof *theirs,
    N_OUTSIDE = sizeof outside / sizeof *outside
};

struct table {
    const struct profile *p;
    enum step_kind kind;
    FILE *out;
};

static double steps_of(const struct table *t)
{
    return (double)t->p->steps[t->kind].steps;
}

/* Microseconds a step. */
static double us(const struct table *t, int64_t ns)
{
    return (double)ns * 1e-3 / steps_of(t);
}

static void print_layer(const struct table *t, const char *name, const struct phase_times *times,
                        const struct exchange_times *x, int layer)
{
    fprintf(t->out, "| %5s |", name);
    for (int i = 0; i < N_OWN; i++) {
        fprintf(t->out, " %9.1f |", us(t, times->ns[own[i]]));
        if (own[i] == PHASE_WAIT)
            fprintf(t->out, " %7.1f | %6.1f | %8.1f |", us(t, x->compute), us(t, x->skew),
                    us(t, x->transfer));
    }
    fprintf(t->out, " %8.1f | %9.1f | %4.2f | %4.2f |\n", us(t, x->hidden),
            us(t, phase_total(times)), profile_rows_balance(t->p, t->kind, layer),
            profile_experts_balance(t->p, t->kind, layer));
}

static void print_shares(const struct table *t, const struct phase_times *layers,
                         const struct exchange_times *x, int64_t step)
{
    double percent = 100 / (double)step;
    fprintf(t->out, "| %5s |", "%");
    for (int i = 0; i < N_OWN; i++) {
        fprintf(t->out, " %9.1f |", (double)layers->ns[own[i]] * percent);
        if (own[i] == PHASE_WAIT)
            fprintf(t->out, " %7.1f | %6.1f | %8.1f |", (double)x->compute * percent,
                    (double)x->skew * percent, (double)x->transfer * percent);
    }
    fprintf(t->out, " %8.1f | %9.1f |      |      |\n", (double)x->hidden * percent,
            (double)phase_total(layers) * percent);
}

static struct phase_times without_outside(const struct table *t, const struct phase_times *all)
{
    struct phase_times layers = *all;
    const struct phase_times *rest = profile_times(t->p, t->kind, 0, t->p->n_layers);
    for (int phase = 0; phase < PHASE_COUNT; phase++)
        layers.ns[phase] -= rest->ns[phase];
    return layers;
}

static void print_layers(const struct table *t, const struct phase_times *all)
{
    const struct profile *p = t->p;
    struct exchange_times x = profile_exchange_times(p, t->kind);
    struct phase_times layers = without_outside(t, all);
    fprintf(t->out,
            "| layer | attention |    router |      plan |      pack |  wire out |    shared "
            "|      home |      wait = compute +   skew + transfer |   combine |   hidden "
            "|       sum | rows | exps |\n"
            "|------:|----------:|----------:|----------:|----------:|----------:|----------:"
            "|----------:|----------:|--------:|-------:|---------:|----------:|---------:"
            "|----------:|-----:|-----:|\n");
    for (int layer = 0; layer < p->n_layers; layer++) {
        char name[16];
        snprintf(name, sizeof name, "%d", layer);
        print_layer(t, name, profile_times(p, t->kind, 0, layer),
                    &p->steps[t->kind].exchange[layer], layer);
    }
    print_layer(t, "all", &layers, &x, -1);
    print_shares(t, &layers, &x, phase_total(all));
}

static void print_outside(const struct table *t, const struct phase_times *all)
{
    const char *between = "outside the layers:";
    for (int i = 0; i < N_OUTSIDE; i++) {
        fprintf(t->out, "%s %s %.1f (%.1f %%)", between, phase_name(outside[i]),
                us(t, all->ns[outside[i]]),
                100 * (double)all->ns[outside[i]] / (double)phase_total(all));
        between = ",";
    }
    fputc('\n', t->out);
}

static void print_exchange(const struct table *t, const struct phase_times *all)
{
    const struct exchange_counters *c = &t->p->steps[t->kind].bytes;
    struct exchange_times x = profile_exchange_times(t->p, t->kind);
    double n = steps_of(t);
    if (t->p->n_ranks > 1)
        fprintf(t->out,
                "exchange: %.1f %% of the step (pack, wire out, wait); %.1f exposed, %.1f hidden\n",
                100 * (double)phase_exchange(all) / (double)phase_total(all),
                us(t, all->ns[PHASE_WAIT]), us(t, x.hidden));
    fprintf(t->out, "bytes a step: wire %s out", bytes_text((double)c->sent / n).text);
    fprintf(t->out, " in %.0f messages", (double)c->messages / n);
    fprintf(t->out, " and %s back", bytes_text((double)c->received / n).text);
    fprintf(t->out, "; logical %s", bytes_text((double)c->logical / n).text);
    fprintf(t->out, ", of which %s at home\n", bytes_text((double)c->local / n).text);
}

static struct rank_load load_of(const struct table *t, int rank)
{
    struct rank_load sum = {0};
    for (int layer = 0; layer < t->p->n_layers; layer++) {
        const struct rank_load *load = &t->p->steps[t->kind].loads[rank * t->p->n_layers + layer];
        sum.rows += load->rows;
        sum.experts += load->experts;
    }
    return sum;
}

/* Rank 0's column of compute is its experts at home. */
static void print_ranks(const struct table *t)
{
    fprintf(t->out,
            "|  rank | wait for rows |    unpack |   compute |      pack |  wire out |     rows |  "
            "experts |\n"
            "|------:|--------------:|----------:|----------:|----------:|----------:|---------:|"
            "---------:|\n");
    for (int rank = 0; rank < t->p->n_ranks; rank++) {
        struct phase_times times = profile_rank_times(t->p, t->kind, rank);
        struct rank_load load = load_of(t, rank);
        if (rank == 0)
            times.ns[PHASE_COMPUTE] = times.ns[PHASE_HOME];
        fprintf(t->out, "| %5d |    ", rank);
        for (int i = 0; i < N_THEIRS; i++)
            fprintf(t->out, " %9.1f |", us(t, times.ns[theirs[i]]));
        fprintf(t->out, " %8.1f | %8.1f |\n", (double)load.rows / steps_of(t),
                (double)load.experts / steps_of(t));
    }
}

static void print_kind(const struct table *t, const char *name)
{
    const struct step_sums *s = &t->p->steps[t->kind];
    struct phase_times all = profile_rank_times(t->p, t->kind, 0);
    if (!s->steps)
        return;
    fprintf(t->out, "\n%s: %llu step%s of %.1f rows, %.1f us a step\n\n", name,
            (unsigned long long)s->steps, s->steps == 1 ? "" : "s", (double)s->rows / steps_of(t),
            us(t, phase_total(&all)));
    print_layers(t, &all);
    print_outside(t, &all);
    print_exchange(t, &all);
    if (t->p->n_ranks > 1)
        print_ranks(t);
}

static void print_clocks(const struct profile *p, FILE *out)
{
    int64_t worst = 0;
    for (int rank = 1; rank < p->n_ranks; rank++)
        worst = clock_uncertainty(&p->clocks[rank]) > worst ? clock_uncertainty(&p->clocks[rank])
                                                            : worst;
    fprintf(out, "\nbetween steps %.1f ms, profiling %.1f ms", (double)p->outside_ns * 1e-6,
            (double)p->profiling_ns * 1e-6);
    if (p->n_ranks > 1)
        fprintf(out, "; clocks known to %.1f us", (double)worst * 1e-3);
    fputc('\n', out);
    if (p->dropped)
        fprintf(out, "%llu marks found no room in a log: their time is with the phase before\n",
                (unsigned long long)p->dropped);
}

void profile_print(const struct profile *p, FILE *out)
{
    struct table prefill = {p, STEP_PREFILL, out}, decode = {p, STEP_DECODE, out};
    fprintf(out,
            "where the time goes: %d rank%s, %d layers; microseconds a step on rank 0, rows and "
            "experts of the busiest rank over the mean\n",
            p->n_ranks, p->n_ranks == 1 ? "" : "s", p->n_layers);
    print_kind(&prefill, "prefill");
    print_kind(&decode, "decode");
    print_clocks(p, out);
}
