/* Races in shared memory, and kernels that touch host memory: found where the kernels are compiled
 * with -fsanitize=thread (EPMOE_RACES), whose calls before every access come to us instead of to
 * ThreadSanitizer.
 *
 * Two accesses of a byte by different threads, one of them a write and not both atomic, race unless
 * a barrier of the block, or __syncwarp of their whole warp, stands between. Shuffles order no
 * memory. What the barriers' order hides on one run is found all the same. */
#pragma once

#include "block.h"

namespace emulated
{

#ifdef EMULATED_RACES

/* What the machine itself does for the running lane: cp.async, atomics. */
void note_access(const void *at, size_t bytes, bool write, bool atomic, const void *pc);

/* A block begins, or its barrier has been passed; the whole of a warp has met. */
void order_block();
void order_warp(int warp);

#else

inline void note_access(const void *, size_t, bool, bool, const void *)
{
}
inline void order_block()
{
}
inline void order_warp(int)
{
}

#endif

} // namespace emulated
