/* Filling pinned memory, by the host's threads. */
#pragma once

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* to := from, by at most `threads`: one alone is slower than PCIe. No alignment is asked for. */
void stage_bytes(void *to, const void *from, size_t bytes, int threads);

#ifdef __cplusplus
}
#endif
