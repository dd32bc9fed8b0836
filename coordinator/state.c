#include "coordinator/state.h"

static void *rows(struct dev *d, enum dtype type, int n, int width)
{
    return dev_alloc(d, (size_t)n * (size_t)row_stride(width) * (size_t)dtype_bytes(type));
}

static float *floats(struct dev *d, int n, int width)
{
    return dev_alloc(d, (size_t)n * (size_t)width * sizeof(float));
}

static int32_t *ints(struct dev *d, int n, int width)
{
    return dev_alloc(d, (size_t)n * (size_t)width * sizeof(int32_t));
}

void state_open(struct state *s, struct dev *d, const struct config *m, enum dtype type,
                const struct state_limits *limits)
{
    int n = limits->rows, k = m->n_experts ? m->top_k : 0, wanted = limits->logit_rows;
    int heads = m->n_heads + 2 * m->n_kv_heads;
    *s = (struct state){
        .x = floats(d, n, m->dim),
        .h = rows(d, type, n > wanted ? n : wanted, m->dim),
        .qkv = floats(d, n, heads * m->head_dim),
        .q = rows(d, type, n * m->n_heads, m->head_dim),
        .a = rows(d, type, n, m->n_heads * m->head_dim),
        .scores = floats(d, n, m->n_experts + 1),
        .dense = floats(d, n, row_stride(m->dim)),
        .expert = ints(d, n, k),
        .weight = floats(d, n, k),
        .place = ints(d, n, k),
        .source = ints(d, n, k),
        .count = ints(d, 2, m->n_experts),
        .home = rows(d, type, n * k, m->dim),
        .y = rows(d, type, n * k, m->dim),
        .tokens = ints(d, n, 1),
        .seq = ints(d, n, 1),
        .pos = ints(d, n, 1),
        .picked = floats(d, wanted, m->dim),
        .logits = floats(d, wanted, m->vocab_size),
        .picks = ints(d, wanted, 1),
    };
}

static void *skip_rows(void *rows, enum dtype type, int n, int width)
{
    return (char *)rows + (size_t)n * (size_t)row_stride(width) * (size_t)dtype_bytes(type);
}

struct state state_second_half(const struct state *s, const struct config *m, enum dtype type,
                               int first)
{
    size_t n = (size_t)first, pairs = n * (size_t)(m->n_experts ? m->top_k : 0);
    int heads = m->n_heads + 2 * m->n_kv_heads;
    return (struct state){
        .x = s->x + n * (size_t)m->dim,
        .h = skip_rows(s->h, type, first, m->dim),
        .qkv = s->qkv + n * (size_t)(heads * m->head_dim),
        .q = skip_rows(s->q, type, first * m->n_heads, m->head_dim),
        .a = skip_rows(s->a, type, first, m->n_heads * m->head_dim),
        .scores = s->scores + n * (size_t)(m->n_experts + 1),
        .dense = s->dense + n * (size_t)row_stride(m->dim),
        .expert = s->expert + pairs,
        .weight = s->weight + pairs,
        .place = s->place + pairs,
        .source = s->source + pairs,
        .count = s->count + m->n_experts,
        .home = skip_rows(s->home, type, (int)pairs, m->dim),
        .y = skip_rows(s->y, type, (int)pairs, m->dim),
        .tokens = s->tokens + n,
        .seq = s->seq + n,
        .pos = s->pos + n,
    };
}
