#include "kernels/cuda/host.h"

#include <string.h>

#include "base/pulse.h"

enum { LEAST_BYTES = 128 << 10, PAGE_BYTES = 4 << 10 }; // with less, a thread is not worth waking

void stage_bytes(void *to, const void *from, size_t bytes, int threads)
{
    size_t each = (bytes / (size_t)threads + PAGE_BYTES) / PAGE_BYTES * PAGE_BYTES;
    each = each > LEAST_BYTES ? each : LEAST_BYTES;
    int parts = (int)((bytes + each - 1) / each);
#pragma omp parallel for num_threads(threads) if (parts > 1 && threads > 1) schedule(static)
    for (int i = 0; i < parts; i++) {
        size_t at = (size_t)i * each, left = bytes - at;
        memcpy((char *)to + at, (const char *)from + at, left < each ? left : each);
    }
}

void host_pulse(void)
{
    pulse();
}

void host_wait_begin(void)
{
    pulse_device_begin();
}

void host_wait_end(void)
{
    pulse_device_end();
}
