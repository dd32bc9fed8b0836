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

    rmsnorm(d, s->h, c->dtype, s->x, L->attn_norm, n, m->dim, m->norm_eps);
    matmul(d, s->qkv, L->qkv.n, s->h, &L->qkv, n);
    rope_append(d, s->q, &c->kv.layers[l], s->qkv, L->qkv.n, &c->rope, at, n, m->n_heads);
    attention(d, s->a, s->q, &c->kv.layers[l], at, n, m->n_heads);
    matmul_add(d, s->x, m->dim, s->a, &L->o, n);
}

/* dense := down(silu(gate h) * up h) of a dense MLP or the shared expert */
static struct ffn_job dense_job(const struct state *s, const struct layer_weights *L, int n)
{
    return (struct ffn_job){
        .list = &L->dense, .y = s->dense, .y_type = DTYPE_F32, .x = s->h, .n = n};
}

/* x += dense, times the shared expert's sigmoid gate in a sparse layer */
static void add_dense(struct coordinator *c, const struct layer_weights *L, int n)
{
    const struct config *m = &c->config;
    struct state *s = &c->state;
    add_rows(&c->dev, s->x, s->dense, row_stride(m->dim),
             L->sparse ? s->scores + m->n_experts : NULL, L->router.n, n, m->dim);
}

static void dense_block(struct coordinator *c, const struct layer_weights *L, int n)
{
    struct ffn_job job = dense_job(&c->state, L, n);
    run_ffn(&c->dev, &job, 1);
    add_dense(c, L, n);
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
static struct ffn_job home_job(const struct coordinator *c, int l, const struct exchange_plan *plan)
{
    struct ffn_job job = shard_job(&c->shard, l);
    job.y = plan->y;
    job.x = plan->h;
    job.source = plan->source;
    job.count = plan->count;
    job.n = exchange_home_rows(&c->exchange);
    return job;
}

/* The shared expert and the experts at home, while rows are away. */
static void experts_here(struct coordinator *c, int l, const struct exchange_plan *plan)
{
    const struct layer_weights *L = &c->weights.layers[l];
    struct ffn_job jobs[2];
    int n = 0;
    if (L->has_dense)
        jobs[n++] = dense_job(&c->state, L, plan->n);
    jobs[n++] = home_job(c, l, plan);
    int together = plan->n <= c->dev.joint_rows ? n : 1;
    for (int i = 0; i < n; i += together)
        run_ffn(&c->dev, jobs + i, together);
    if (L->has_dense)
        add_dense(c, L, plan->n);
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
    sort_rows(d, s->count, s->place, s->source, s->hit, s->expert, c->group_of[l], n, m->top_k,
              m->n_experts);
    struct exchange_plan plan = plan_of(s, P, n, m->top_k);
    int status = exchange_dispatch(&c->exchange, d, &plan);
    if (status)
        return status;
    experts_here(c, l, &plan);
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

/* The batch on the device: tokens, then where the rows stand. */
static struct positions upload(struct coordinator *c, const struct batch *b)
{
    struct state *s = &c->state;
    struct positions at = {s->inputs + b->n, s->inputs + 2 * b->n, 0, 0};
    size_t bytes = (size_t)b->n * sizeof(int32_t);
    memcpy(s->inputs_host, b->tokens, bytes);
    memcpy(s->inputs_host + b->n, b->seq, bytes);
    memcpy(s->inputs_host + 2 * b->n, b->pos, bytes);
    dev_upload(&c->dev, s->inputs, s->inputs_host, 3 * bytes);
    kv_cache_upload(&c->kv, &c->dev);
    for (int i = 0; i < b->n; i++)
        at.longest = b->pos[i] >= at.longest ? b->pos[i] + 1 : at.longest;
    while (at.singles < b->n &&
           (at.singles + 1 == b->n || b->seq[at.singles + 1] != b->seq[at.singles]))
        at.singles++;
    return at;
}

int forward(struct coordinator *c, const struct batch *b)
{
    const struct config *m = &c->config;
    struct state *s = &c->state;
    struct dev *d = &c->dev;

    int status = dev_wait(d); // the last step's inputs have been read
    if (!status)
        status = announce(c, b->n);
    if (status)
        return status;
    struct positions at = upload(c, b);
    embed(d, s->x, c->weights.embed, c->weights.embed_type, c->dtype, s->inputs, b->n, m->dim);
    for (int l = 0; l < m->n_layers && !status; l++) {
        const struct layer_weights *L = &c->weights.layers[l];
        attention_block(c, l, &at, b->n);
        rmsnorm(d, s->h, c->dtype, s->x, L->ffn_norm, b->n, m->dim, m->norm_eps);
        if (L->sparse)
            status = expert_block(c, l, b->n);
        else
            dense_block(c, L, b->n);
    }
    return status == TRANSPORT_INTERRUPTED ? cluster_fault(c->transport) : status;
}

const float *forward_logits(struct coordinator *c, const int32_t *rows, int n)
{
    const struct config *m = &c->config;
    struct state *s = &c->state;
    struct dev *d = &c->dev;

    memcpy(s->picks_host, rows, (size_t)n * sizeof *rows);
    dev_upload(d, s->picks, s->picks_host, (size_t)n * sizeof *rows);
    gather(d, s->picked, s->x, s->picks, n, (size_t)m->dim * sizeof(float));
    rmsnorm(d, s->h, c->dtype, s->picked, c->weights.final_norm, n, m->dim, m->norm_eps);
    matmul(d, s->logits, m->vocab_size, s->h, &c->weights.unembed, n);
    dev_download(d, s->logits_host, s->logits,
                 (size_t)n * (size_t)m->vocab_size * sizeof *s->logits);
    return dev_wait(d) ? NULL : s->logits_host;
}
