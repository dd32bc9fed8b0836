/* What the CUDA sources need from C code: OpenMP threads that copy, and the rank's pulse, whose
 * atomics are C11's. */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Copy `bytes` bytes to pinned memory by at most `threads` threads: one thread alone copies slower
 * than PCIe. Both may be unaligned. */
void stage_bytes(void *to, const void *from, size_t bytes, int threads);

/* pulse(), pulse_device_begin() and pulse_device_end() of base/pulse.h, for this thread. */
void host_pulse(void);
void host_wait_begin(void);
void host_wait_end(void);

#ifdef __cplusplus
}
#endif
