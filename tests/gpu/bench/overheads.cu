/* What moves and starts work, by itself: copies, launches, and a step's graph. */
#include <algorithm>
#include <stdio.h>

extern "C" {
#include "base/clock.h"
}
#include "kernels/cuda/launch.cuh"
#include "tests/gpu/bench/bench.h"

__global__ void nothing(int)
{
}

__global__ void nothing_early(int)
{
    let_next_begin();
    wait_for_previous();
}

#ifdef EPMOE_EMULATED
enum { COPY_BYTES = 1 << 16, STEPS = 1, STEP_KERNELS = 10 };
#else
enum { COPY_BYTES = 256 << 20, STEPS = 25, STEP_KERNELS = 242 }; // of 24 layers
#endif

static void measure_copy(rig &r, const char *name, std::function<void(int)> call)
{
    double seconds = time_of(r, {name, 0, 0, 0, 1, false, call}).seconds;
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

/* From the host's call to the end of its wait, of a graph as long as a step's; the median. */
static double host_seconds(rig &r, int kernels, std::function<void(int)> launch)
{
    std::vector<double> all;
    uint64_t key = ++r.keys;
    for (int i = 0; i < STEPS + 2; i++) {
        double start = (double)clock_ns();
        if (dev_graph_begin(&r.d, key)) {
            for (int j = 0; j < kernels; j++)
                launch(j);
            dev_graph_end(&r.d);
        }
        if (dev_wait(&r.d) != 0)
            return 0;
        if (i >= 2) // it has been called, and recorded
            all.push_back(((double)clock_ns() - start) * 1e-9);
    }
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
}

void measure_launches(rig &r)
{
    enum { LAUNCHES = 100 };
    auto launch = [&](int) { LAUNCH(&r.d, nothing, 1, 32, 0, 0); };
    auto early = [&](int) { LAUNCH_EARLY(&r.d, nothing_early, 1, 32, 0, 0); };
    table_head("Launching nothing");
    measure(r, {"a kernel by itself", 0, 0, 0, LAUNCHES, false, launch});
    measure(r, {"a kernel in a graph", 0, 0, 0, LAUNCHES, true, launch});
    if (r.d.cuda->early)
        measure(r, {"a kernel in a graph, early", 0, 0, 0, LAUNCHES, true, early});
    double step = host_seconds(r, STEP_KERNELS, early), one = host_seconds(r, 1, early);
    r.round_trip = one;
    printf("\nFrom the host's call to the end of its wait: a graph of %d such kernels, %.1f us; "
           "of one, %.1f us\n",
           STEP_KERNELS, step * 1e6, one * 1e6);
}
