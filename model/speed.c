#include "model/speed.h"

#include "kernels/ops.h"
#include "model/sizes.h"

enum { WORTH_MEASURING = 256 << 20 }; // bytes of experts and pieces

bool rank_speed_matters(const struct config *m, struct precision p)
{
    struct sizes sizes = sizes_of(m);
    uint64_t n = (uint64_t)sizes.sparse_layers * (uint64_t)m->n_experts;
    return (double)(n * sizes.expert + sizes.dense) * weight_bytes(p.type, p.blocks) >
           WORTH_MEASURING;
}

struct rank_speed rank_speed_measure(struct dev *d, struct precision p, int sharing)
{
    return (struct rank_speed){.flops = dev_peak_flops(d, p.type, p.blocks, true),
                               .bytes = d->kernels->read_bandwidth(d, true),
                               .memory = dev_free_bytes(d) / (uint64_t)sharing};
}
