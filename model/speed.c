#include "model/speed.h"

#include "kernels/ops.h"

struct rank_speed rank_speed_measure(struct dev *d, struct precision p, int sharing)
{
    return (struct rank_speed){.flops = dev_peak_flops(d, p.type, p.blocks, true),
                               .bytes = d->kernels->read_bandwidth(d, true),
                               .memory = dev_free_bytes(d) / (uint64_t)sharing};
}
