/* A layer is attention, then experts; which experts run where is the placement's affair. The worker
 * mirrors the loop (worker/serve.c). Nothing here allocates, and all buffers are in struct state.
 */
#include "coordinator/forward.h"

#include <string.h>

#include "coordinator/cluster.h"
#include "kernels/ops.h"
#include "proto/control.h"

/* x += Wo attend(q, k, v) */
static void attention_block(struct coordinator *c, int l, const struct positions *at, int n)
{
    const struct config *m = &c->config;
    const struct layer_weights *L = &c->weights.layers[l];
    struct state *s = &c->state;
    struct dev *d = &c->dev;

    trace_mark(c->trace, PHASE_ATTENTION);
    rmsnorm(d, s->h, c->dtype, s->x, L->attn_norm, n, m->dim, m->norm_eps);
    matmul(d, s->qkv, L->qkv.n, s->h, &L->qkv, n);
    rope_append(d, s->q, &c->kv.layers[l], s->qkv, L->qkv.n, &c->rope, at, n, m->n_heads);
    attention(d, s->a, s->q, &c->kv.layers[l], at, n, m->n_heads);
    matmul_add(d, s->x, m->dim, s->a, &L->o, n);
}

/* x += down(silu(gate h) * up h), times the shared expert's sigmoid gate in a sparse layer */
static void dense_block(struct coordinator *c, const struct layer_weights *L, int n)
{
    const struct config *m = &c->config;
    struct state *s = &c->state;
    struct ffn_run all = {&L->dense, 0, n};

    trace_mark(c->trace, PHASE_SHARED);
    run_ffn(&c->dev, s->dense, DTYPE_F32, s->h, &all, 1);
    add_rows(&c->dev, s->x, s->dense, row_stride(m->dim),
             L->sparse ? s->scores + m->n_experts : NULL, L->router.n, n, m->dim);
}

static struct exchange_plan plan_of(const struct state *s, const struct layer_placement *p, int n,
                                    int k)
{
    return (struct exchange_plan){.n = n,
                                  .k = k,
                                  .h = s->h,
                                  .y = s->y,
                                  .expert = s->expert,
                                  .place = s->place,
                                  .weight = s->weight,
                                  .source = s->source,
                                  .count = s->count,
                                  .layer = {p->group_of, p->rank_first}};
}

/* y := the outputs of the experts that stayed at home, at their places */
static void experts_at_home(struct coordinator *c, int l, const void *h)
{
    struct state *s = &c->state;
    const int32_t *rank_first = c->placement.layers[l].rank_first;
    int rows = 0;
    trace_mark(c->trace, PHASE_HOME);
    for (int group = rank_first[0]; group < rank_first[1]; group++)
        rows += s->count[group];
    gather(&c->dev, s->home, h, s->source, rows, c->shard.row_bytes);
    shard_run(&c->shard, &c->dev, l, s->y, s->home, s->count);
}

/* x += shared(h) + sum over k of weight[k] * expert[k](h), wherever they live */
static int expert_block(struct coordinator *c, int l, int n)
{
    const struct config *m = &c->config;
    const struct layer_weights *L = &c->weights.layers[l];
    const struct layer_placement *P = &c->placement.layers[l];
    struct state *s = &c->state;
    struct dev *d = &c->dev;

    matmul(d, s->scores, L->router.n, s->h, &L->router, n);
    route_rows(d, s->expert, s->weight, s->scores, L->router.n, n, m->n_experts, m->top_k,
               m->norm_topk);
    trace_mark(c->trace, PHASE_PLAN);
    sort_rows(d, s->count, s->place, s->source, s->expert, P->group_of, n, m->top_k, m->n_experts);
    for (int e = 0; e < m->n_experts; e++)
        c->experts_hit += s->count[e] > 0;
    struct exchange_plan plan = plan_of(s, P, n, m->top_k);
    profile_count_rows(c->profile, l, &plan);
    int status = exchange_dispatch(&c->exchange, d, &plan);
    if (status)
        return status;
    if (L->has_dense)
        dense_block(c, L, n); // while the rows are away
    experts_at_home(c, l, plan.h);
    status = exchange_combine(&c->exchange, d, &plan);
    if (status)
        return status;
    weighted_sum(d, s->x, s->y, c->dtype, plan.place, plan.weight, n, m->top_k, m->dim);
    return 0;
}

/* Tell the workers that a step follows. */
static int announce(struct coordinator *c, int n)
{
    struct control message = {.kind = CONTROL_STEP, .step = {n}};
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

static void upload(struct state *s, const struct batch *b)
{
    size_t bytes = (size_t)b->n * sizeof(int32_t);
    memcpy(s->tokens, b->tokens, bytes);
    memcpy(s->seq, b->seq, bytes);
    memcpy(s->pos, b->pos, bytes);
}

int forward(struct coordinator *c, const struct batch *b)
{
    const struct config *m = &c->config;
    struct state *s = &c->state;
    struct dev *d = &c->dev;
    struct positions at = {s->seq, s->pos};

    int status = profile_begin_step(c->profile, kind_of(b), b->n, &c->exchange.counters);
    if (!status)
        status = announce(c, b->n);
    upload(s, b);
    trace_mark(c->trace, PHASE_EMBED);
    embed(d, s->x, c->weights.embed_map.data, c->weights.embed_type, c->dtype, s->tokens, b->n,
          m->dim);
    for (int l = 0; l < m->n_layers && !status; l++) {
        const struct layer_weights *L = &c->weights.layers[l];
        trace_at(c->trace, l, 0);
        attention_block(c, l, &at, b->n);
        trace_mark(c->trace, L->sparse ? PHASE_ROUTER : PHASE_SHARED);
        rmsnorm(d, s->h, c->dtype, s->x, L->ffn_norm, b->n, m->dim, m->norm_eps);
        if (L->sparse)
            status = expert_block(c, l, b->n);
        else
            dense_block(c, L, b->n);
    }
    trace_at(c->trace, -1, 0);
    trace_mark(c->trace, PHASE_OUTSIDE);
    return status == TRANSPORT_INTERRUPTED ? cluster_fault(c->transport) : status;
}

const float *forward_logits(struct coordinator *c, const int32_t *rows, int n)
{
    const struct config *m = &c->config;
    struct state *s = &c->state;
    struct dev *d = &c->dev;

    trace_mark(c->trace, PHASE_LOGITS);
    memcpy(s->picks, rows, (size_t)n * sizeof *rows);
    gather(d, s->picked, s->x, s->picks, n, (size_t)m->dim * sizeof(float));
    rmsnorm(d, s->h, c->dtype, s->picked, c->weights.final_norm, n, m->dim, m->norm_eps);
    matmul(d, s->logits, m->vocab_size, s->h, &c->weights.unembed, n);
    trace_mark(c->trace, PHASE_OUTSIDE);
    return s->logits;
}
