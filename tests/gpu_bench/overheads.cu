#include <stdio.h>

#include "kernels/cuda/launch.cuh"
#include "tests/gpu_bench/bench.h"

__global__ void nothing(int)
{
}

#ifdef EPMOE_EMULATED
enum { COPY_BYTES = 1 << 16 };
#else
enum { COPY_BYTES = 256 << 20 };
#endif

static void measure_copy(rig &r, const char *name, std::function<void(int)> call)
{
    double seconds = seconds_of(r, {name, 0, 0, 0, 1, false, call});
    printf("%s: %.1f GB/s\n", name, seconds > 0 ? COPY_BYTES / seconds * 1e-9 : 0.0);
}

void measure_copies(rig &r)
{
    void *host = dev_alloc_host(&r.d, COPY_BYTES), *device = dev_alloc(&r.d, COPY_BYTES);
    measure_copy(r, "host to device, pinned",
                 [&](int) { dev_upload(&r.d, device, host, COPY_BYTES); });
    measure_copy(r, "device to host, pinned",
                 [&](int) { dev_download(&r.d, host, device, COPY_BYTES); });
}

void measure_launches(rig &r)
{
    enum { LAUNCHES = 100 };
    auto launch = [&](int) { LAUNCH(&r.d, nothing, 1, 32, 0, 0); };
    table_head("Launching nothing");
    measure(r, {"a kernel in a graph", 0, 0, 0, LAUNCHES, true, launch});
    measure(r, {"a kernel by itself", 0, 0, 0, LAUNCHES, false, launch});
}
