#include "study/topology.h"

#include <math.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "study/json_table.h"

enum { MAX_TOPOLOGY_BYTES = 1 << 20, MOST_PER_NODE = 65536 };

/* ---- the file ---- */

static int read_link(struct link *l, const struct js *object, const char *file, const char *where,
                     struct arena *memory)
{
    const struct json_key keys[] = {
        {.name = "latency_s", .kind = JSON_REAL, .to = &l->latency, .most = 10},
        {.name = "bytes_per_s",
         .kind = JSON_REAL,
         .to = &l->bytes_per_second,
         .least = 1,
         .most = 1e18},
        {.name = "s_per_message",
         .kind = JSON_REAL,
         .to = &l->per_message,
         .most = 10,
         .optional = true},
        {0}};
    return json_table_read(file, where, object, keys, memory);
}

static int read_device(struct topology *t, const struct js *object, const char *file,
                       struct arena *memory)
{
    const struct json_key keys[] = {
        {.name = "flops", .kind = JSON_REAL, .to = &t->flops, .least = 1, .most = 1e18},
        {.name = "read_bytes_per_s",
         .kind = JSON_REAL,
         .to = &t->read_bytes,
         .least = 1,
         .most = 1e18},
        {0}};
    t->has_device = true;
    return json_table_read(file, "device.", object, keys, memory);
}

static int read_topology(void *to, const struct js *root, const char *file, struct arena *memory)
{
    struct topology *t = to;
    const struct js *intra = NULL, *inter = NULL, *device = NULL;
    const struct json_key keys[] = {
        {.name = "name", .kind = JSON_TEXT, .to = &t->name},
        {.name = "source", .kind = JSON_TEXT, .to = &t->source},
        {.name = "ranks_per_node",
         .kind = JSON_WHOLE,
         .to = &t->ranks_per_node,
         .least = 1,
         .most = MOST_PER_NODE},
        {.name = "intra", .kind = JSON_OBJECT, .to = &intra},
        {.name = "inter", .kind = JSON_OBJECT, .to = &inter},
        {.name = "device", .kind = JSON_OBJECT, .to = &device, .optional = true},
        {0}};
    *t = (struct topology){0};
    int status = json_table_read(file, "", root, keys, memory);
    if (!status)
        status = read_link(&t->intra, intra, file, "intra.", memory);
    if (!status)
        status = read_link(&t->inter, inter, file, "inter.", memory);
    return status || !device ? status : read_device(t, device, file, memory);
}

int topology_parse(struct topology *t, const char *text, size_t bytes, const char *name,
                   struct arena *memory)
{
    return json_read_text(t, read_topology, text, bytes, name, memory);
}

int topology_read(struct topology *t, const char *path, struct arena *memory)
{
    return json_read_file(t, read_topology, path, MAX_TOPOLOGY_BYTES, memory);
}

/* ---- a device ---- */

struct costs topology_prices(const struct topology *t, const struct fit_model *m)
{
    double width = dtype_bytes(m->dtype), flop = 2 / t->flops, read = width / t->read_bytes;
    struct costs p = {{0}};
    p.of[COST_EXPERT] = m->expert_parameters * read;
    p.of[COST_ROW] = m->expert_parameters * flop;
    p.of[COST_STEP] = (m->home_parameters + m->output_parameters) * read;
    p.of[COST_HOME_ROW] = m->home_parameters * flop;
    p.of[COST_OUTPUT] = m->output_parameters * flop;
    // keys and values of all layers are read, and each value of a row meets both of them
    p.of[COST_POSITION] = 2.0 * m->layers * m->hidden * (read + flop);
    return p;
}

void topology_nodes(int *node, const struct topology *t, int coordinators, int workers)
{
    int ranks = coordinators + workers, each = t->ranks_per_node;
    int nodes = (ranks + each - 1) / each, at = 0, taken = 0;
    for (int c = 0; c < coordinators; c++)
        node[c] = (int)((int64_t)c * nodes / coordinators);
    for (int w = 0; w < workers; w++, taken++) {
        for (;; at++, taken = 0) {
            int here = 0;
            for (int c = 0; c < coordinators; c++)
                here += node[c] == at;
            if (here + taken < each)
                break;
        }
        node[coordinators + w] = at;
    }
}

/* ---- a lap ---- */

static const struct virtual_pair *pair_of(const struct star *s, int coordinator, int worker)
{
    return &s->pairs[(size_t)coordinator * (size_t)(s->workers + 1) + (size_t)worker];
}

/* Rank i of the star: a coordinator with all workers, or a worker with all coordinators; `other`
 * goes through these. */
static int partners(const struct star *s, int i)
{
    return i < s->coordinators ? s->workers : s->coordinators;
}

static const struct virtual_pair *partner(const struct star *s, int i, int other)
{
    return i < s->coordinators ? pair_of(s, i, other + 1)
                               : pair_of(s, other, i - s->coordinators + 1);
}

static struct lap_time time_by_prices(const struct costs *counted, const struct costs *prices)
{
    const double *n = counted->of, *price = prices->of;
    double latency = n[COST_LAP] * price[COST_LAP] + n[COST_AFTER_WORK] * price[COST_AFTER_WORK];
    return (struct lap_time){.hand = n[COST_MESSAGE] * price[COST_MESSAGE] +
                                     n[COST_NARROWED] * price[COST_NARROWED],
                             .out = latency / 2 + n[COST_OUT] * price[COST_OUT],
                             .back = latency / 2 + n[COST_BACK] * price[COST_BACK]};
}

static struct lap_time longer(struct lap_time a, struct lap_time b)
{
    return lap_time_sum(&b) > lap_time_sum(&a) ? b : a;
}

struct lap_time star_time_by_prices(const struct star *s, const struct costs *prices, bool narrowed)
{
    struct lap_time most = {0};
    for (int i = 0; i < s->coordinators + s->workers; i++) {
        struct virtual_pair sum = {0};
        for (int j = 0; j < partners(s, i); j++)
            virtual_add(&sum, partner(s, i, j));
        struct costs counted = lap_costs(&sum, 1, narrowed, true);
        most = longer(most, time_by_prices(&counted, prices));
    }
    return most;
}

static double link_time(const struct link *l, uint64_t messages, uint64_t bytes)
{
    return messages == 0 ? 0
                         : l->latency + l->per_message * (double)(messages - 1) +
                               (double)bytes / l->bytes_per_second;
}

struct lap_time star_time_by_topology(const struct star *s, const struct topology *t,
                                      const int *node)
{
    struct lap_time most = {0};
    for (int i = 0; i < s->coordinators + s->workers; i++) {
        struct virtual_pair near = {0}, far = {0};
        for (int j = 0; j < partners(s, i); j++) {
            int other = i < s->coordinators ? s->coordinators + j : j;
            virtual_add(node[i] == node[other] ? &near : &far, partner(s, i, j));
        }
        double out = fmax(link_time(&t->intra, near.messages_out, near.out),
                          link_time(&t->inter, far.messages_out, far.out));
        double back = fmax(link_time(&t->intra, near.messages_back, near.back),
                           link_time(&t->inter, far.messages_back, far.back));
        most = longer(most, (struct lap_time){.out = out, .back = back});
    }
    return most;
}
