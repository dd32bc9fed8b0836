#include "coordinator/state.h"

static void *rows(struct dev *d, enum dtype type, int n, int width)
{
    return dev_alloc(d, (size_t)n * (size_t)row_stride(width) * (size_t)dtype_bytes(type));
}

static float *floats(struct dev *d, int n, int width)
{
    return dev_alloc(d, (size_t)n * (size_t)width * sizeof(float));
}

/* Device memory that the host has a copy of when rows travel. */
static void *shared(struct dev *d, void *host_pointer, size_t bytes, bool travels)
{
    void **host = host_pointer;
    if (!travels)
        return *host = dev_alloc(d, bytes);
    *host = dev_alloc_host(d, bytes);
    return dev_twin(d, *host, bytes);
}

static void open_routed(struct state *s, struct dev *d, const struct config *m, enum dtype type,
                        const struct state_limits *limits)
{
    size_t n = (size_t)limits->rows, wanted = (size_t)limits->logit_rows;
    size_t pairs = n * (size_t)(m->n_experts ? m->top_k : 0);
    size_t row = (size_t)row_stride(m->dim) * (size_t)dtype_bytes(type);
    bool travels = limits->travels, staged = travels && !limits->direct;
    s->h = shared(d, &s->host.h, (n > wanted ? n : wanted) * row, staged);
    s->y = shared(d, &s->host.y, pairs * row, staged);
    s->expert = shared(d, &s->host.expert, pairs * sizeof *s->expert, travels);
    s->place = shared(d, &s->host.place, pairs * sizeof *s->place, travels);
    s->source = shared(d, &s->host.source, pairs * sizeof *s->source, travels);
    s->count = shared(d, &s->host.count, 2 * (size_t)m->n_experts * sizeof *s->count, travels);
    s->weight = shared(d, &s->host.weight, pairs * sizeof *s->weight, travels);
    s->seen = staged && d->cuda ? dev_alloc(d, n * row) : NULL;
}

uint64_t state_bytes(const struct config *m, enum dtype type, const struct state_limits *limits)
{
    uint64_t n = (uint64_t)limits->rows, wanted = (uint64_t)limits->logit_rows;
    uint64_t k = m->n_experts ? (uint64_t)m->top_k : 0, element = (uint64_t)dtype_bytes(type);
    uint64_t row = (uint64_t)row_stride(m->dim) * element;
    int heads = m->n_heads + 2 * m->n_kv_heads, widest = m->expert_dim;
    widest = m->shared_dim > widest ? m->shared_dim : widest;
    widest = m->ffn_dim > widest ? m->ffn_dim : widest;
    uint64_t each = 2 * row + 8 * (uint64_t)row_stride(m->dim) +             // h, seen, x, dense
                    4 * (uint64_t)(heads * m->head_dim + m->n_experts + 4) + // qkv, scores
                    2 * (uint64_t)(m->n_heads * row_stride(m->head_dim)) * element; // q, a
    uint64_t pair = row + 16 + (uint64_t)row_stride(m->expert_dim) * element;
    uint64_t hidden = (k ? k : 1) * (uint64_t)row_stride(widest) * element; // scratch of an ffn
    return n * (each + k * pair + hidden) + wanted * 4 * (uint64_t)(m->vocab_size + m->dim);
}

void state_open(struct state *s, struct dev *d, const struct config *m, enum dtype type,
                const struct state_limits *limits)
{
    int n = limits->rows, wanted = limits->logit_rows;
    int heads = m->n_heads + 2 * m->n_kv_heads;
    *s = (struct state){
        .x = floats(d, n, m->dim),
        .qkv = floats(d, n, heads * m->head_dim),
        .q = rows(d, type, n * m->n_heads, m->head_dim),
        .a = rows(d, type, n, m->n_heads * m->head_dim),
        .scores = floats(d, n, m->n_experts + 1),
        .dense = floats(d, n, row_stride(m->dim)),
        .hit_host = dev_alloc_host(d, sizeof(uint64_t)),
        .inputs_host = dev_alloc_host(d, 3 * (size_t)n * sizeof(int32_t)),
        .picked = floats(d, wanted, m->dim),
        .logits_host = dev_alloc_host(d, (size_t)wanted * (size_t)m->vocab_size * sizeof(float)),
        .picks_host = dev_alloc_host(d, (size_t)wanted * sizeof(int32_t)),
    };
    open_routed(s, d, m, type, limits);
    s->inputs = dev_twin(d, s->inputs_host, 3 * (size_t)n * sizeof(int32_t));
    s->hit = dev_twin(d, s->hit_host, sizeof *s->hit);
    s->logits = dev_twin(d, s->logits_host, (size_t)wanted * (size_t)m->vocab_size * sizeof(float));
    s->picks = dev_twin(d, s->picks_host, (size_t)wanted * sizeof(int32_t));
}

static void *skip_rows(void *rows, enum dtype type, int n, int width)
{
    return (char *)rows + (size_t)n * (size_t)row_stride(width) * (size_t)dtype_bytes(type);
}

static struct routed routed_second_half(const struct routed *r, const struct config *m,
                                        enum dtype type, int first)
{
    size_t pairs = (size_t)first * (size_t)(m->n_experts ? m->top_k : 0);
    return (struct routed){.h = skip_rows(r->h, type, first, m->dim),
                           .y = skip_rows(r->y, type, (int)pairs, m->dim),
                           .expert = r->expert + pairs,
                           .place = r->place + pairs,
                           .source = r->source + pairs,
                           .count = r->count + m->n_experts,
                           .weight = r->weight + pairs};
}

struct state state_second_half(const struct state *s, const struct config *m, enum dtype type,
                               int first)
{
    struct routed all = {s->h, s->y, s->expert, s->place, s->source, s->count, s->weight};
    struct routed here = routed_second_half(&all, m, type, first);
    size_t n = (size_t)first;
    int heads = m->n_heads + 2 * m->n_kv_heads;
    return (struct state){
        .x = s->x + n * (size_t)m->dim,
        .h = here.h,
        .qkv = s->qkv + n * (size_t)(heads * m->head_dim),
        .q = skip_rows(s->q, type, first * m->n_heads, m->head_dim),
        .a = skip_rows(s->a, type, first, m->n_heads * m->head_dim),
        .scores = s->scores + n * (size_t)(m->n_experts + 1),
        .dense = s->dense + n * (size_t)row_stride(m->dim),
        .expert = here.expert,
        .weight = here.weight,
        .place = here.place,
        .source = here.source,
        .count = here.count,
        .hit = s->hit,
        .y = here.y,
        .host = routed_second_half(&s->host, m, type, first),
        .seen = s->seen ? skip_rows(s->seen, type, first, m->dim) : NULL,
    };
}
