#include <string.h>

#include "base/units.h"
#include "study/profile.h"

struct column {
    enum phase phase;
    const char *title;
    int width;
};

static const struct column own[] = {
    {PHASE_ATTENTION, "attention", 9}, {PHASE_ROUTER, "router", 7},
    {PHASE_PLAN, "plan", 6},           {PHASE_PACK, "pack", 6},
    {PHASE_WIRE_OUT, "wire out", 8},   {PHASE_SHARED, "shared", 7},
    {PHASE_HOME, "home", 7},           {PHASE_WAIT, "wait", 8},
    {PHASE_COMBINE, "combine", 8},
};
static const struct column theirs[] = {
    {PHASE_AWAIT, "wait for rows", 14}, {PHASE_UNPACK, "unpack", 9},
    {PHASE_COMPUTE, "compute", 9},      {PHASE_PACK, "pack", 9},
    {PHASE_WIRE_OUT, "wire out", 9},
};
static const struct {
    const char *title;
    int width;
} wait_columns[] = {{"sum", 9},    {"wait =", 8},   {"compute +", 9},
                    {"skew +", 8}, {"transfer", 8}, {"hidden", 8}};
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
    double unit; // how many ns a printed 1 stands for
};

static double steps_of(const struct table *t)
{
    return (double)t->p->steps[t->kind].steps;
}

/* A time, with a digit behind the point while there is room for it. */
static void print_time(const struct table *t, int width, int64_t ns)
{
    double shown = (double)ns / t->unit;
    fprintf(t->out, " %*.*f", width, shown < 99999.95 ? 1 : 0, shown);
}

static void print_phases(const struct table *t, const char *name, const struct phase_times *times)
{
    fprintf(t->out, "%5s", name);
    for (int i = 0; i < N_OWN; i++)
        print_time(t, own[i].width, times->ns[own[i].phase]);
    fputc('\n', t->out);
}

/* The sum of the phases, what the wait consists of, and what was hidden. */
static void print_waits(const struct table *t, const char *name, const struct phase_times *times,
                        const struct exchange_times *x)
{
    const int64_t ns[] = {
        phase_total(times), times->ns[PHASE_WAIT], x->compute, x->skew, x->transfer, x->hidden};
    fprintf(t->out, "%5s", name);
    for (size_t i = 0; i < sizeof ns / sizeof *ns; i++)
        print_time(t, wait_columns[i].width, ns[i]);
}

/* A line of a layer's waits, and how unevenly its rows were spread over the ranks. */
static void print_layer(const struct table *t, const char *name, const struct phase_times *times,
                        const struct exchange_times *x, int layer)
{
    print_waits(t, name, times, x);
    fprintf(t->out, " %6.2f %9.2f\n", profile_rows_balance(t->p, t->kind, layer),
            profile_experts_balance(t->p, t->kind, layer));
}

static struct phase_times without_outside(const struct table *t, const struct phase_times *all)
{
    struct phase_times layers = *all;
    const struct phase_times *rest = profile_times(t->p, t->kind, 0, t->p->n_layers);
    for (int phase = 0; phase < PHASE_COUNT; phase++)
        layers.ns[phase] -= rest->ns[phase];
    return layers;
}

static struct table percent_of(const struct table *t, const struct phase_times *all)
{
    struct table percent = *t;
    percent.unit = (double)phase_total(all) / 100;
    return percent;
}

/* What rank 0 does, layer by layer. */
static void print_layers(const struct table *t, const struct phase_times *all)
{
    struct phase_times layers = without_outside(t, all);
    struct table percent = percent_of(t, all);
    fprintf(t->out, "%5s", "layer");
    for (int i = 0; i < N_OWN; i++)
        fprintf(t->out, " %*s", own[i].width, own[i].title);
    fputc('\n', t->out);
    for (int layer = 0; layer < t->p->n_layers; layer++) {
        char name[16];
        snprintf(name, sizeof name, "%d", layer);
        print_phases(t, name, profile_times(t->p, t->kind, 0, layer));
    }
    print_phases(t, "all", &layers);
    print_phases(&percent, "%", &layers);
}

/* The sums of the lines above, what the wait consists of, and the balance. */
static void print_layer_waits(const struct table *t, const struct phase_times *all)
{
    const struct profile *p = t->p;
    struct exchange_times x = profile_exchange_times(p, t->kind);
    struct phase_times layers = without_outside(t, all);
    struct table percent = percent_of(t, all);
    fprintf(t->out, "\n%5s", "layer");
    for (size_t i = 0; i < sizeof wait_columns / sizeof *wait_columns; i++)
        fprintf(t->out, " %*s", wait_columns[i].width, wait_columns[i].title);
    fprintf(t->out, " %6s %9s\n", "rows/~", "experts/~");
    for (int layer = 0; layer < p->n_layers; layer++) {
        char name[16];
        snprintf(name, sizeof name, "%d", layer);
        print_layer(t, name, profile_times(p, t->kind, 0, layer),
                    &p->steps[t->kind].exchange[layer], layer);
    }
    print_layer(t, "all", &layers, &x, -1);
    print_waits(&percent, "%", &layers, &x);
    fputc('\n', t->out);
}

static void print_outside(const struct table *t, const struct phase_times *all)
{
    const char *between = "outside the layers:";
    for (int i = 0; i < N_OUTSIDE; i++) {
        double ns = (double)all->ns[outside[i]];
        fprintf(t->out, "%s %s %.1f (%.1f %%)", between, phase_name(outside[i]), ns / t->unit,
                100 * ns / (double)phase_total(all));
        between = i == 1 ? ",\n " : ",";
    }
    fputc('\n', t->out);
}

static void print_exchange(const struct table *t, const struct phase_times *all)
{
    const struct exchange_counters *c = &t->p->steps[t->kind].bytes;
    struct exchange_times x = profile_exchange_times(t->p, t->kind);
    double n = steps_of(t);
    if (t->p->n_ranks > 1)
        fprintf(
            t->out,
            "exchange: %.1f %% of a step (pack, wire out, wait);\n  %.1f exposed, %.1f hidden\n",
            100 * (double)phase_exchange(all) / (double)phase_total(all),
            (double)all->ns[PHASE_WAIT] / t->unit, (double)x.hidden / t->unit);
    fprintf(t->out, "bytes a step: wire %s out", bytes_text((double)c->sent / n).text);
    fprintf(t->out, " in %.0f messages", (double)c->messages / n);
    fprintf(t->out, " and %s back;\n", bytes_text((double)c->received / n).text);
    fprintf(t->out, "  logical %s", bytes_text((double)c->logical / n).text);
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

/* A line for each rank. The compute column of rank 0 is the time of the experts that it holds. */
static void print_ranks(const struct table *t)
{
    fprintf(t->out, "\n%5s", "rank");
    for (int i = 0; i < N_THEIRS; i++)
        fprintf(t->out, " %*s", theirs[i].width, theirs[i].title);
    fputc('\n', t->out);
    for (int rank = 0; rank < t->p->n_ranks; rank++) {
        struct phase_times times = profile_rank_times(t->p, t->kind, rank);
        if (rank == 0)
            times.ns[PHASE_COMPUTE] = times.ns[PHASE_HOME];
        fprintf(t->out, "%5d", rank);
        for (int i = 0; i < N_THEIRS; i++)
            print_time(t, theirs[i].width, times.ns[theirs[i].phase]);
        fputc('\n', t->out);
    }
}

/* What each rank had to do, and the bytes between rank 0 and it. */
static void print_loads(const struct table *t)
{
    fprintf(t->out, "\n%5s %9s %9s %9s %9s\n", "rank", "rows", "experts", "bytes to", "from");
    for (int rank = 0; rank < t->p->n_ranks; rank++) {
        struct rank_load load = load_of(t, rank);
        const struct pair_bytes *with = &t->p->steps[t->kind].with[rank];
        fprintf(t->out, "%5d %9.1f %9.1f", rank, (double)load.rows / steps_of(t),
                (double)load.experts / steps_of(t));
        fprintf(t->out, " %9s", bytes_text((double)with->sent / steps_of(t)).text);
        fprintf(t->out, " %9s\n", bytes_text((double)with->received / steps_of(t)).text);
    }
}

static void print_kind(const struct profile *p, enum step_kind kind, const char *name, FILE *out)
{
    const struct step_sums *s = &p->steps[kind];
    struct table t = {p, kind, out, 1000 * (double)s->steps};
    struct phase_times all = profile_rank_times(p, kind, 0);
    if (!s->steps)
        return;
    fprintf(out, "\n%s: %llu step%s of %.1f rows, %.1f us a step\n\n", name,
            (unsigned long long)s->steps, s->steps == 1 ? "" : "s", (double)s->rows / steps_of(&t),
            (double)phase_total(&all) / t.unit);
    print_layers(&t, &all);
    print_layer_waits(&t, &all);
    print_outside(&t, &all);
    print_exchange(&t, &all);
    if (p->n_ranks > 1) {
        print_ranks(&t);
        print_loads(&t);
    }
}

static void print_rest(const struct profile *p, FILE *out)
{
    int64_t worst = 0;
    for (int rank = 1; rank < p->n_ranks; rank++) {
        int64_t ns = clock_uncertainty(&p->clocks[rank]);
        worst = ns > worst ? ns : worst;
    }
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
    fprintf(out,
            "where the time goes: %d rank%s, %d layers; microseconds a step on rank 0\n"
            "rows/~, experts/~: the busiest rank's over the mean of those that hold experts\n",
            p->n_ranks, p->n_ranks == 1 ? "" : "s", p->n_layers);
    print_kind(p, STEP_PREFILL, "prefill", out);
    print_kind(p, STEP_DECODE, "decode", out);
    print_rest(p, out);
}
