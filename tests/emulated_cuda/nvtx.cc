#include "nvtx3/nvToolsExt.h"

struct emulated_ranges *emulated_ranges(void)
{
    static thread_local struct emulated_ranges of_thread;
    return &of_thread;
}

int nvtxRangePushA(const char *name)
{
    struct emulated_ranges *r = emulated_ranges();
    r->last = name;
    return r->pushed++ - r->popped;
}

int nvtxRangePop(void)
{
    struct emulated_ranges *r = emulated_ranges();
    return r->pushed - ++r->popped;
}
