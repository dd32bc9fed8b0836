#include "model/speed.h"

struct rank_speed rank_speed_measure(struct dev *d, enum dtype type, int sharing)
{
    return (struct rank_speed){.flops = d->kernels->peak_flops(d, type, true),
                               .bytes = d->kernels->read_bandwidth(d, true),
                               .memory = dev_free_bytes(d) / (uint64_t)sharing};
}
