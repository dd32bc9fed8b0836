#include "model/sizes.h"

#include "model/tensors.h"

static uint64_t part_params(const struct config *m, enum tensor_part part, int layer)
{
    enum tensor_kind kinds[PART_TENSORS];
    uint64_t sum = 0;
    int n = part_tensors(m, part, layer, kinds);
    for (int i = 0; i < n; i++)
        sum += tensor_elements(m, kinds[i]);
    return sum;
}

static uint64_t layer_params(const struct config *m, int layer)
{
    uint64_t sum = 0;
    for (int p = 0; p < PARTS; p++)
        if (part_is_of_layer((enum tensor_part)p))
            sum += part_params(m, (enum tensor_part)p, layer);
    return sum;
}

struct sizes sizes_of(const struct config *m)
{
    struct sizes s = {0};
    s.embed = tensor_elements(m, TENSOR_EMBED);
    s.unembed = tensor_elements(m, TENSOR_UNEMBED);
    for (int k = TENSOR_EXPERT_GATE; k <= TENSOR_EXPERT_DOWN; k++)
        s.expert += tensor_elements(m, (enum tensor_kind)k);
    for (int l = 0; l < m->n_layers; l++) {
        s.layers += layer_params(m, l);
        s.dense += part_params(m, PART_DENSE, l);
        s.sparse_layers += m->sparse[l];
    }
    uint64_t sparse = (uint64_t)s.sparse_layers;
    uint64_t final_norm = tensor_elements(m, TENSOR_FINAL_NORM);
    s.total = s.embed + (m->tied ? 0 : s.unembed) + s.layers + final_norm +
              sparse * (uint64_t)m->n_experts * s.expert;
    s.active = s.unembed + s.layers + final_norm + sparse * (uint64_t)m->top_k * s.expert;
    return s;
}

uint64_t sizes_active_published(const struct config *m)
{
    struct sizes s = sizes_of(m);
    return s.active + (m->tied ? 0 : s.embed);
}

/* How many parameters attention's matrices have in a layer. */
static uint64_t projections(const struct config *m, int layer)
{
    return part_params(m, PART_QKV, layer) + part_params(m, PART_O, layer);
}

double sizes_weight_bytes(const struct sizes *s, const struct config *m, const struct precision *p)
{
    uint64_t experts = (uint64_t)s->sparse_layers * (uint64_t)m->n_experts * s->expert;
    uint64_t blocks = experts + s->dense, matrices = m->tied ? 0 : s->unembed;
    for (int l = 0; l < m->n_layers; l++)
        matrices += projections(m, l);
    return (double)blocks * weight_bytes(p->type, p->blocks) +
           (double)matrices * weight_bytes(p->type, p->matrices) +
           (double)(s->total - blocks - matrices) * dtype_bytes(p->type);
}

double attention_flops(const struct config *m, int before, int n)
{
    double keys = (double)n * before + (double)n * (n + 1) / 2; // summed over the new positions
    return 4.0 * keys * m->n_heads * m->head_dim * m->n_layers; // q k^T and p v, 2 FLOPs each
}

uint64_t kv_bytes_per_token(const struct config *m, enum dtype type)
{
    return 2ull * (uint64_t)m->n_layers * (uint64_t)m->n_kv_heads * (uint64_t)m->head_dim *
           (uint64_t)dtype_bytes(type);
}
