/* Device memory, and what is known about host memory. Device memory lies in one range of addresses
 * that nobody may touch (PROT_NONE) but while device work runs: host code that does is reported.
 * Allocations have poisoned bytes around them, freed ones stay poisoned and are never used again.
 */
#pragma once

#include <stddef.h>

namespace emulated
{

/* Device work begins and ends; nests. */
void open_device_memory();
void close_device_memory();

struct device_memory_open {
    device_memory_open()
    {
        open_device_memory();
    }
    ~device_memory_open()
    {
        close_device_memory();
    }
};

enum memory_kind { PAGEABLE, PINNED, DEVICE, DEVICE_INVALID };

/* What [at, at + bytes) is; DEVICE_INVALID: device addresses, but not inside one live allocation.
 */
memory_kind kind_of(const void *at, size_t bytes);

/* The live allocation of device or pinned memory that has this byte; null when there is none. */
const char *allocation_of(const void *at, size_t *bytes);

/* For messages: "byte 40 of 32 from cudaMalloc", "freed memory"; static per thread. */
const char *describe(const void *at);

} // namespace emulated
