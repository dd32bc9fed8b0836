#include "study/virtual.h"

#include <string.h>

#include "base/check.h"

static struct virtual_ranks *ranks_of(struct transport *t)
{
    return t->state;
}

static int start_send(struct transport *t, int lane, int to, const void *rows, size_t bytes)
{
    struct virtual_pair *p = &ranks_of(t)->pairs[to];
    (void)lane, (void)rows;
    p->out += bytes;
    p->messages_out++;
    return 0;
}

/* A receive is taken to deliver as many bytes as its buffer has room for. */
static int start_recv(struct transport *t, int lane, int from, void *buffer, size_t capacity)
{
    struct virtual_ranks *v = ranks_of(t);
    (void)lane, (void)buffer;
    v->pairs[from].back += capacity;
    v->pairs[from].messages_back++;
    v->awaited[from] += capacity;
    return 0;
}

static int wait(struct transport *t, int lane, size_t *received)
{
    struct virtual_ranks *v = ranks_of(t);
    size_t bytes = (size_t)t->size * sizeof *received;
    (void)lane;
    if (received)
        memcpy(received, v->awaited, bytes);
    memset(v->awaited, 0, bytes);
    return 0;
}

static int advance(struct transport *t)
{
    (void)t;
    return 0;
}

/* The coordinator's end of an exchange uses no others. */
static const struct transport_ops ops = {
    .start_send = start_send, .start_recv = start_recv, .wait = wait, .advance = advance};

void virtual_open(struct virtual_ranks *v, int n, const struct exchange_limits *limits,
                  const struct exchange_options *way)
{
    enum isa isa = ISA_PLAIN;
    CHECK(isa_choose(&isa, isa_available()) == 0, "no instruction set");
    *v = (struct virtual_ranks){0};
    v->transport =
        (struct transport){.ops = &ops, .name = "virtual", .rank = 0, .size = n, .state = v};
    v->pairs = arena_alloc(&v->memory, (size_t)n * sizeof *v->pairs);
    v->awaited = arena_alloc(&v->memory, (size_t)n * sizeof *v->awaited);
    lap_open(&v->lap,
             &(struct lap_setup){
                 .transport = &v->transport, .isa = isa, .limits = *limits, .options = *way});
}

void virtual_close(struct virtual_ranks *v)
{
    lap_close(&v->lap);
    arena_free(&v->memory);
}

void virtual_lap(struct virtual_ranks *v, const struct traffic *t,
                 const struct layer_placement *experts)
{
    struct row_terms terms;
    memset(v->pairs, 0, (size_t)v->transport.size * sizeof *v->pairs);
    lap_prepare(&v->lap, t, experts);
    int status = lap_leave(&v->lap);
    if (!status)
        status = lap_return(&v->lap, &terms);
    CHECK(!status, "ranks that are not there make no errors: %d", status);
}

void virtual_add(struct virtual_pair *sum, const struct virtual_pair *p)
{
    sum->out += p->out;
    sum->back += p->back;
    sum->messages_out += p->messages_out;
    sum->messages_back += p->messages_back;
}

struct virtual_pair virtual_sum(const struct virtual_ranks *v)
{
    struct virtual_pair sum = {0};
    for (int rank = 0; rank < v->transport.size; rank++)
        virtual_add(&sum, &v->pairs[rank]);
    return sum;
}

struct costs lap_costs(const struct virtual_pair *sum, int laps, bool narrowed, bool between_work)
{
    struct costs c = {{0}};
    if (sum->messages_out + sum->messages_back == 0)
        return c;
    c.of[COST_LAP] = laps;
    c.of[COST_AFTER_WORK] = between_work ? laps : 0;
    c.of[COST_MESSAGE] = (double)(sum->messages_out + sum->messages_back);
    c.of[COST_OUT] = (double)sum->out;
    c.of[COST_BACK] = (double)sum->back;
    c.of[COST_NARROWED] = narrowed ? (double)(sum->out + sum->back) : 0;
    return c;
}
