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
        .hit_host = dev_alloc_host(d, sizeof(uint64_t)),
        .y = rows(d, type, n * k, m->dim),
        .inputs_host = dev_alloc_host(d, 3 * (size_t)n * sizeof(int32_t)),
        .picked = floats(d, wanted, m->dim),
        .logits_host = dev_alloc_host(d, (size_t)wanted * (size_t)m->vocab_size * sizeof(float)),
        .picks_host = dev_alloc_host(d, (size_t)wanted * sizeof(int32_t)),
    };
    s->inputs = dev_twin(d, s->inputs_host, 3 * (size_t)n * sizeof(int32_t));
    s->hit = dev_twin(d, s->hit_host, sizeof *s->hit);
    s->logits = dev_twin(d, s->logits_host, (size_t)wanted * (size_t)m->vocab_size * sizeof(float));
    s->picks = dev_twin(d, s->picks_host, (size_t)wanted * sizeof(int32_t));
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
        .y = skip_rows(s->y, type, (int)pairs, m->dim),
        .hit = s->hit,
    };
}
