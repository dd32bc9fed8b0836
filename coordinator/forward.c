/* The loop over layers: attention, then experts, which run where the placement says. Workers go
 * through the same layers in the same order (worker/serve.c). The loop allocates nothing: all its
 * buffers are in struct state.
 *
 * With --overlap a step's rows are cut into halves A and B that take turns: A(0) B(0) A(1) B(1) …,
 * with the layer in parentheses. A turn waits for the experts' results of its half's previous
 * layer, runs attention and routing of this one, and sends the rows to the workers, who compute
 * while the other half has its turn. The cut may be within a prompt: rows of a sequence are in
 * order of position, so A attends to no key of B, and in each layer A's keys and values are in the
 * cache before B attends to them.
 *
 * There is no deadlock: root_dispatch() never waits, and before rank 0 waits for the results of a
 * turn it has dispatched everything that a worker, which serves the turns in the same order, must
 * receive before it. */
#include "coordinator/forward.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/pulse.h"
#include "coordinator/cluster.h"
#include "coordinator/stage.h"
#include "kernels/ops.h"
#include "proto/control.h"

/* The rows that go through the layers together: all of a step, or half. */
struct half {
    int first, n;   // rows [first, first + n) of the step
    struct state s; // their buffers
    struct positions at;
    struct root_end *exchange;
    struct routing routing;          // of the latest layer
    bool away;                       // the latest layer's results have not been combined yet
    int layer;                       // the latest layer
    struct pending_residual pending; // what is still to be added to x
};

/* x += the pending residual, which completes layer l (-1: the embedding); then h := rmsnorm(x)
 * unless norm is NULL. */
static int add_pending(struct coordinator *c, struct half *half, int l, const float *norm)
{
    const struct config *m = &c->config;
    add_norm(&c->dev, half->s.x, half->s.h, c->precision.type, &half->pending, norm, half->n,
             m->dim, m->norm_eps);
    half->pending = (struct pending_residual){0};
    return c->probe ? probe_look(c, half->s.x, half->n, l) : 0;
}

/* x += Wo attend(q, k, v) of h */
static void attention_block(struct coordinator *c, int l, struct half *half)
{
    const struct config *m = &c->config;
    const struct layer_weights *L = &c->weights.layers[l];
    struct state *s = &half->s;
    struct dev *d = &c->dev;
    int n = half->n;

    trace_mark(c->trace, PHASE_ATTENTION);
    matmul(d, s->qkv, L->qkv.n, s->h, &L->qkv, n);
    rope_append(d, s->q, &c->kv.layers[l], s->qkv, L->qkv.n, &L->head_norm, &c->rope.table,
                &half->at, n, m->n_heads);
    attention(d, s->a, s->q, &c->kv.layers[l], &half->at, n, m->n_heads);
    matmul_add(d, s->x, m->dim, s->a, &L->o, n);
}

/* The routing of n rows in layer l, with the arrays of r. In a layer without experts k is 0: rows
 * go through pieces only. */
static struct routing routing_of(struct coordinator *c, int l, const struct routed *r, int n)
{
    const struct layer_placement *experts = &c->placement.layers[l];
    const struct layer_placement *pieces = &c->placement.pieces[l];
    int k = c->config.sparse[l] ? c->config.top_k : 0;
    return (struct routing){
        .n = n,
        .k = k,
        .expert = r->expert,
        .slot = r->slot,
        .weight = r->weight,
        .source = r->source,
        .count = r->count,
        .layer = {placement_grouping(experts), experts->rank_first, pieces->rank_first, k}};
}

/* y := the outputs of rank 0's own experts, at their slots */
static struct ffn_job experts_job(struct coordinator *c, int l, const struct half *half,
                                  const void *rows)
{
    const struct state *s = &half->s;
    struct ffn_job job = shard_experts_job(&c->shard, l);
    job.y = s->y;
    job.x = rows;
    job.source = s->source;
    job.count = s->count;
    job.n = root_home_rows(half->exchange);
    return job;
}

/* z := the outputs of rank 0's own pieces, in their places: down(silu(gate h) * up h) of each */
static struct ffn_job pieces_job(struct coordinator *c, int l, const struct half *half,
                                 const void *rows)
{
    const struct state *s = &half->s;
    size_t first = (size_t)root_home_pieces(half->exchange);
    struct ffn_job job = shard_pieces_job(&c->shard, l);
    job.y = s->z + first * (size_t)row_stride(c->config.dim);
    job.x = rows;
    job.n = half->n;
    return job;
}

/* Run the pieces and experts that rank 0 holds, while rows are with other ranks. */
static int blocks_here(struct coordinator *c, int l, struct half *half)
{
    const void *rows = stage_home_rows(c, &half->s, half->exchange, half->n);
    struct ffn_job jobs[2] = {pieces_job(c, l, half, rows), experts_job(c, l, half, rows)};
    static const enum phase phases[2] = {PHASE_SHARED, PHASE_HOME};
    int together = half->n <= c->dev.joint_ffn_max_rows ? 2 : 1, status = 0;
    for (int i = 0; i < 2 && !status; i += together) {
        trace_mark(c->trace, phases[i]);
        run_ffn(&c->dev, jobs + i, together);
        status = root_advance(half->exchange);
    }
    return status;
}

/* Compute the router's scores, then each row's experts with their weights and slots. */
static void route_layer(struct coordinator *c, int l, struct half *half)
{
    const struct config *m = &c->config;
    const struct layer_weights *L = &c->weights.layers[l];
    struct state *s = &half->s;
    struct dev *d = &c->dev;
    int n = half->n;
    const struct sorting sorting = {s->count, s->slot, s->source, s->hit, c->groups[l]};
    matmul(d, s->scores, L->router.n, s->h, &L->router, n);
    route_rows(d, s->expert, s->weight, &sorting, s->scores, L->router.n, n, m->n_experts, m->top_k,
               m->norm_topk);
}

/* Start a layer's MLP on h: rows leave for the ranks that hold its pieces and experts, and rank 0
 * runs its own. The next layer waits for the results (experts_back) and adds them to x: mlp(h) in a
 * dense layer, gate * shared(h) + sum over k of weight[k] * expert[k](h) in a sparse one. mlp and
 * shared are sums of pieces. */
static int expert_block(struct coordinator *c, int l, struct half *half)
{
    struct state *s = &half->s;
    int n = half->n;
    bool sparse = c->config.sparse[l];
    half->routing = routing_of(c, l, &s->host, n);
    half->away = true;
    half->layer = l;
    int status = root_begin(half->exchange, &half->routing.layer, s->host.h, n);
    if (status)
        return status;
    if (sparse) {
        route_layer(c, l, half);
        record_rows(c->record, &c->dev, l, half->first, s->expert, n);
    }
    trace_mark(c->trace, PHASE_PLAN);
    status = is_staged(c) ? stage_down(c, s, n, sparse) : 0;
    if (!status && sparse && (is_staged(c) || !c->dev.cuda)) // the host can read the counts
        profile_count_rows(c->profile, l, &half->routing);
    if (!status && (!sparse || is_staged(c) || !c->dev.cuda))
        watched_count(c->watched, l, &half->routing, &c->placement.layers[l]);
    if (!status)
        status = root_dispatch(half->exchange, &half->routing, s->host.y, s->host.z);
    return status ? status : blocks_here(c, l, half);
}

/* What add_norm is to add to x, once the results of layer half->layer are back. */
static struct pending_residual pending_of(struct coordinator *c, const struct half *half,
                                          const struct row_terms *terms)
{
    const struct layer_weights *L = &c->weights.layers[half->layer];
    const struct state *s = &half->s;
    bool is_gated = L->sparse && c->config.shared_dim > 0;
    return (struct pending_residual){.pieces = s->z,
                                     .piece_at = c->piece_at[half->layer],
                                     .n_pieces = c->placement.pieces[half->layer].n,
                                     .ld_pieces = row_stride(c->config.dim),
                                     .gate = is_gated ? s->scores + c->config.n_experts : NULL,
                                     .ld_gate = L->router.n,
                                     .y = s->y,
                                     .slot = terms->slot,
                                     .weight = terms->weight,
                                     .k = half->routing.k};
}

/* Wait for the results of the layer before, if there was one, and note them in half->pending. */
static int experts_back(struct coordinator *c, struct half *half)
{
    struct row_terms terms;
    if (!half->away)
        return 0;
    half->away = false;
    trace_at(c->trace, half->layer, root_lane(half->exchange));
    int status = is_staged(c) ? stage_home_results(c, &half->s, half->exchange) : 0;
    if (!status)
        status = root_combine(half->exchange, &terms);
    if (status)
        return status;
    if (is_staged(c))
        stage_up(c, &half->s, &half->routing, half->exchange, &terms);
    half->pending = pending_of(c, half, &terms);
    return 0;
}

static int run_layer(struct coordinator *c, int l, struct half *half)
{
    const struct config *m = &c->config;
    const struct layer_weights *L = &c->weights.layers[l];
    struct state *s = &half->s;

    int status = experts_back(c, half);
    if (!status)
        status = add_pending(c, half, l - 1, L->attn_norm);
    if (status)
        return status;
    pulse_layer(l);
    trace_at(c->trace, l, root_lane(half->exchange));
    attention_block(c, l, half);
    status = root_advance(half->exchange); // moves rows of the other half on
    trace_mark(c->trace, L->sparse ? PHASE_ROUTER : PHASE_SHARED);
    rmsnorm(&c->dev, s->h, c->precision.type, s->x, L->ffn_norm, half->n, m->dim, m->norm_eps);
    return status ? status : expert_block(c, l, half);
}

static int finish_layers(struct coordinator *c, struct half *half)
{
    int status = experts_back(c, half);
    return status ? status : add_pending(c, half, c->config.n_layers - 1, NULL);
}

/* Tell the workers that a step follows. */
static int announce(struct coordinator *c, int n, int second)
{
    struct control message = {.kind = CONTROL_STEP, .step = {n, second}};
    int status = 0;
    for (int rank = 1; c->transport && rank < c->transport->size && !status; rank++)
        status = control_send(c->transport, rank, &message);
    return status;
}

/* A sequence's rows stand together: more than one is part of a prompt. */
static enum step_kind kind_of(const struct batch *b)
{
    for (int i = 1; i < b->n; i++)
        if (b->seq[i] == b->seq[i - 1])
            return STEP_PREFILL;
    return STEP_DECODE;
}

/* Copy the batch to the device: tokens, sequence slots, positions; and the block table. */
static void upload(struct coordinator *c, const struct batch *b)
{
    struct state *s = &c->state;
    size_t bytes = (size_t)b->n * sizeof(int32_t);
    memcpy(s->inputs_host, b->tokens, bytes);
    memcpy(s->inputs_host + b->n, b->seq, bytes);
    memcpy(s->inputs_host + 2 * b->n, b->pos, bytes);
    dev_upload(&c->dev, s->inputs, s->inputs_host, 3 * bytes);
    kv_cache_upload(&c->kv, &c->dev);
}

/* Is row i its sequence's only row in the whole step? */
static bool is_alone(const struct batch *b, int i)
{
    return (i == 0 || b->seq[i - 1] != b->seq[i]) && (i + 1 == b->n || b->seq[i + 1] != b->seq[i]);
}

/* The sequences and positions of rows [first, first + n) of the step. */
static struct positions positions_of(const struct state *s, const struct batch *b, int first, int n)
{
    struct positions at = {s->inputs + b->n + first, s->inputs + 2 * b->n + first, 0, 0};
    const int32_t *pos = b->pos + first;
    for (int i = 0; i < n; i++)
        at.longest = pos[i] >= at.longest ? pos[i] + 1 : at.longest;
    while (at.singles < n && is_alone(b, first + at.singles))
        at.singles++;
    return at;
}

/* Rows [first, first + n) of the step, before its first layer. */
static struct half half_of(struct coordinator *c, const struct batch *b, int first, int n)
{
    return (struct half){
        .n = n,
        .first = first,
        .s = first ? state_second_half(&c->state, &c->config, c->precision.type, first) : c->state,
        .at = positions_of(&c->state, b, first, n),
        .exchange = c->exchange[first > 0]};
}

static int run_layers(struct coordinator *c, struct half *halves, int n_halves)
{
    int status = 0;
    for (int l = 0; l < c->config.n_layers && !status; l++)
        for (int i = 0; i < n_halves && !status; i++)
            status = run_layer(c, l, &halves[i]);
    for (int i = 0; i < n_halves && !status; i++)
        status = finish_layers(c, &halves[i]);
    return status;
}

/* Can the device record this step and play it again? Yes if there are no other ranks and every row
 * is its sequence's only one: all steps of so many rows then make the same calls, except for
 * at.longest. That becomes the next KV_BLOCK times a power of two, so that few recordings serve all
 * contexts. */
static bool can_be_recorded(const struct coordinator *c, struct half *all)
{
    if (c->transport || c->trace || c->probe || c->record || all->at.singles < all->n)
        return false;
    int reach = KV_BLOCK, most = c->kv.blocks_per_sequence * KV_BLOCK;
    while (reach < all->at.longest)
        reach *= 2;
    all->at.longest = reach < most ? reach : most;
    return true;
}

static uint64_t step_key(const struct half *all)
{
    return (uint64_t)1 << 63 | (uint64_t)all->n << 32 | (uint64_t)all->at.longest;
}

/* Count what a step that was played has computed; the exchange was not called for it. */
static void count_played(struct coordinator *c, int n)
{
    for (int l = 0; l < c->config.n_layers; l++)
        root_count_home(c->exchange[0], c->config.sparse[l] ? n * c->config.top_k : 0,
                        n * c->placement.pieces[l].n);
}

static int run_step(struct coordinator *c, struct half *halves, int n_halves, int n)
{
    bool again = n_halves == 1 && can_be_recorded(c, halves);
    if (again && !dev_graph_begin(&c->dev, step_key(halves))) {
        count_played(c, n);
        return 0;
    }
    embed(&c->dev, c->state.x, c->weights.embed, c->weights.embed_type, c->precision.type,
          c->state.inputs, n, c->config.dim);
    int status = run_layers(c, halves, n_halves);
    if (again)
        dev_graph_end(&c->dev);
    return status;
}

int forward(struct coordinator *c, const struct batch *b)
{
    int second = c->n_exchanges > 1 ? exchange_second_half(&c->options, b->n) : 0,
        first = b->n - second;
    struct half halves[LANES] = {half_of(c, b, 0, first), half_of(c, b, first, second)};

    pulse_step(b->n);
    int status = profile_begin_step(c->profile, kind_of(b), b->n, root_counters(c->exchange[0]));
    if (!status)
        status = dev_wait(&c->dev); // the last step's inputs have been read
    if (!status)
        status = announce(c, b->n, second);
    if (status)
        return status;
    trace_mark(c->trace, PHASE_EMBED);
    upload(c, b);
    record_begin_step(c->record, b->n, b->tokens, b->seq, b->pos);
    status = run_step(c, halves, second ? LANES : 1, b->n);
    if (status)
        root_drop(c->exchange[0]);
    else {
        record_end_step(c->record);
        pulse_finished();
    }
    trace_at(c->trace, -1, 0);
    trace_mark(c->trace, PHASE_OUTSIDE);
    return status == TRANSPORT_INTERRUPTED ? cluster_fault(c->transport) : status;
}

int forward_sequence(struct coordinator *c, int slot, const int32_t *tokens, int n,
                     int (*on_chunk)(void *context, struct coordinator *c, int first, int n),
                     void *context)
{
    int status = 0;
    size_t rows = (size_t)c->chunk;
    int32_t *seq = malloc(rows * sizeof *seq), *pos = malloc(rows * sizeof *pos);
    CHECK_MEMORY(seq && pos, "no memory for a chunk of %zu rows", rows);
    for (int done = 0; done < n && !status; done += c->chunk) {
        int count = n - done < c->chunk ? n - done : c->chunk;
        for (int i = 0; i < count; i++) {
            seq[i] = slot;
            pos[i] = done + i;
        }
        status = forward(c, &(struct batch){count, tokens + done, seq, pos});
        if (!status && on_chunk)
            status = on_chunk(context, c, done, count);
    }
    free(seq);
    free(pos);
    return status;
}
