/* The host's part in what a GPU does, where it takes C: its threads, and signs of progress. */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Pinned memory to := from, by at most `threads`: one alone is slower than PCIe. No alignment is
 * asked for. */
void stage_bytes(void *to, const void *from, size_t bytes, int threads);

/* This thread's pulse (base/pulse.h): it moves; the thread begins, and ends, to wait for the GPU.
 */
void host_pulse(void);
void host_wait_begin(void);
void host_wait_end(void);

#ifdef __cplusplus
}
#endif
