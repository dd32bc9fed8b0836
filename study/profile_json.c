#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "study/origin.h"
#include "study/profile.h"

static const char *const kinds[STEP_KINDS] = {[STEP_PREFILL] = "prefill", [STEP_DECODE] = "decode"};

/* key := the phase's name with underscores for spaces: "wait_for_workers" */
static void name_key(char *key, size_t size, enum phase phase)
{
    snprintf(key, size, "%s", phase_name(phase));
    for (char *c = key; *c; c++)
        if (*c == ' ')
            *c = '_';
}

/* The phases that took time. Workers and rank 0 have different phases. */
static struct js *phases_json(const struct phase_times *t)
{
    struct js *phases = js_new_object();
    char key[32];
    for (int phase = 0; phase < PHASE_COUNT; phase++) {
        name_key(key, sizeof key, (enum phase)phase);
        if (t->ns[phase])
            js_set(phases, key, js_new_int(t->ns[phase]));
    }
    return phases;
}

static struct js *wait_json(const struct exchange_times *x)
{
    struct js *wait = js_new_object();
    js_set(wait, "compute", js_new_int(x->compute));
    js_set(wait, "skew", js_new_int(x->skew));
    js_set(wait, "transfer", js_new_int(x->transfer));
    return wait;
}

static struct js *exchange_json(const struct phase_times *t, const struct exchange_times *x)
{
    struct js *exchange = js_new_object();
    int64_t ns = phase_exchange(t), total = phase_total(t);
    js_set(exchange, "ns", js_new_int(ns));
    js_set(exchange, "share", js_new_real(total ? (double)ns / (double)total : 0));
    js_set(exchange, "exposed_ns", js_new_int(t->ns[PHASE_WAIT]));
    js_set(exchange, "hidden_ns", js_new_int(x->hidden));
    js_set(exchange, "wait", wait_json(x));
    return exchange;
}

/* The bytes between rank 0 and each worker. */
static struct js *pairs_json(const struct profile *p, enum step_kind kind)
{
    struct js *pairs = js_new_array();
    for (int rank = 0; rank < p->n_ranks; rank++) {
        const struct pair_bytes *with = &p->steps[kind].with[rank];
        struct js *one = js_new_object();
        js_set(one, "sent", js_new_int((int64_t)with->sent));
        js_set(one, "received", js_new_int((int64_t)with->received));
        js_push(pairs, one);
    }
    return pairs;
}

static struct js *bytes_json(const struct profile *p, enum step_kind kind)
{
    const struct exchange_counters *c = &p->steps[kind].bytes;
    struct js *bytes = js_new_object();
    js_set(bytes, "wire_sent", js_new_int((int64_t)c->sent));
    js_set(bytes, "wire_received", js_new_int((int64_t)c->received));
    js_set(bytes, "messages_sent", js_new_int((int64_t)c->messages));
    js_set(bytes, "logical", js_new_int((int64_t)c->logical));
    js_set(bytes, "local", js_new_int((int64_t)c->local));
    js_set(bytes, "ranks", pairs_json(p, kind));
    return bytes;
}

static struct js *balance_json(const struct profile *p, enum step_kind kind, int layer)
{
    struct js *balance = js_new_object();
    js_set(balance, "rows", js_new_real(profile_rows_balance(p, kind, layer)));
    js_set(balance, "experts", js_new_real(profile_experts_balance(p, kind, layer)));
    return balance;
}

static struct js *ranks_json(const struct profile *p, enum step_kind kind, int layer)
{
    struct js *ranks = js_new_array();
    for (int rank = 0; rank < p->n_ranks; rank++) {
        struct js *one = js_new_object();
        js_set(one, "phases", phases_json(profile_times(p, kind, rank, layer)));
        if (layer < p->n_layers) {
            const struct rank_load *load = &p->steps[kind].loads[rank * p->n_layers + layer];
            js_set(one, "rows", js_new_int((int64_t)load->rows));
            js_set(one, "experts", js_new_int((int64_t)load->experts));
        }
        js_push(ranks, one);
    }
    return ranks;
}

static struct js *layers_json(const struct profile *p, enum step_kind kind)
{
    struct js *layers = js_new_array();
    for (int layer = 0; layer < p->n_layers; layer++) {
        struct js *one = js_new_object();
        const struct phase_times *t = profile_times(p, kind, 0, layer);
        js_set(one, "exchange", exchange_json(t, &p->steps[kind].exchange[layer]));
        js_set(one, "max_over_mean", balance_json(p, kind, layer));
        js_set(one, "ranks", ranks_json(p, kind, layer));
        js_push(layers, one);
    }
    return layers;
}

static struct js *steps_json(const struct profile *p, enum step_kind kind)
{
    struct js *steps = js_new_object();
    const struct step_sums *s = &p->steps[kind];
    struct phase_times all = profile_rank_times(p, kind, 0);
    struct exchange_times x = profile_exchange_times(p, kind);
    js_set(steps, "steps", js_new_int((int64_t)s->steps));
    js_set(steps, "rows", js_new_int((int64_t)s->rows));
    js_set(steps, "ns", js_new_int(phase_total(&all)));
    js_set(steps, "phases", phases_json(&all));
    js_set(steps, "exchange", exchange_json(&all, &x));
    js_set(steps, "bytes", bytes_json(p, kind));
    js_set(steps, "max_over_mean", balance_json(p, kind, -1));
    js_set(steps, "layers", layers_json(p, kind));
    js_set(steps, "outside_layers", ranks_json(p, kind, p->n_layers));
    return steps;
}

static struct js *clocks_json(const struct profile *p)
{
    struct js *clocks = js_new_array();
    for (int rank = 1; rank < p->n_ranks; rank++) {
        const struct rank_clock *c = &p->clocks[rank];
        struct js *one = js_new_object();
        js_set(one, "rank", js_new_int(rank));
        js_set(one, "ahead_ns", js_new_int(clock_offset(c, c->last.at_ns)));
        js_set(one, "uncertainty_ns", js_new_int(clock_uncertainty(c)));
        js_set(one, "drift_ppm", js_new_real(clock_drift_ppm(c)));
        js_push(clocks, one);
    }
    return clocks;
}

struct js *profile_json(const struct profile *p)
{
    struct js *root = js_new_object();
    js_set(root, "ranks", js_new_int(p->n_ranks));
    js_set(root, "layers", js_new_int(p->n_layers));
    for (int kind = 0; kind < STEP_KINDS; kind++)
        js_set(root, kinds[kind], steps_json(p, (enum step_kind)kind));
    js_set(root, "between_steps_ns", js_new_int(p->outside_ns));
    js_set(root, "profiling_ns", js_new_int(p->profiling_ns));
    js_set(root, "dropped_marks", js_new_int((int64_t)p->dropped));
    js_set(root, "clocks", clocks_json(p));
    return root;
}

int profile_write_json(const struct profile *p, const char *path)
{
    struct outfile f;
    struct js *root = profile_json(p);
    js_set(root, "origin", origin_json());
    int status = outfile_open(&f, path);
    if (!status) {
        js_print(root, f.stream, 2);
        status = outfile_commit(&f);
    }
    js_free(root);
    return status;
}
