/* The host's part in what a GPU does, where it takes C: its threads, and signs of progress. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Pinned memory to := from, by at most `threads`: one alone is slower than PCIe. No alignment is
 * asked for. */
void stage_bytes(void *to, const void *from, size_t bytes, int threads);

/* Whether somebody looks at this thread's pulse (base/pulse.h); move it. */
bool host_is_watched(void);
void host_pulse(void);

#ifdef __cplusplus
}
#endif
