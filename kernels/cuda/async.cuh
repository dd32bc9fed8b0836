/* cp.async copies 16 bytes from global to shared memory without passing through registers. Copies
 * that a thread issues between two commits are a group. The issuing thread sees the bytes after a
 * wait for their group, other threads after a barrier that follows that wait. Both addresses are
 * 16-byte aligned. */
#pragma once

#include <cuda_runtime.h>

#ifdef EPMOE_EMULATED

__device__ __forceinline__ void cp_async16(void *shared, const void *global)
{
    emulated::copy_later(shared, global, 16, false);
}

__device__ __forceinline__ void cp_async16_or_zero(void *shared, const void *global, bool there)
{
    emulated::copy_later(shared, global, 16, !there);
}

__device__ __forceinline__ void cp_async_commit()
{
    emulated::close_copies();
}

template <int N> __device__ __forceinline__ void cp_async_wait()
{
    emulated::finish_copies(N);
}

#else

__device__ __forceinline__ void cp_async16(void *shared, const void *global)
{
    unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}

/* As cp_async16, but writes zeros unless `there`; global must be a valid address even so. */
__device__ __forceinline__ void cp_async16_or_zero(void *shared, const void *global, bool there)
{
    unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global),
                 "r"(there ? 16 : 0)
                 : "memory");
}

/* Make a group of the copies issued since the last commit. */
__device__ __forceinline__ void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Wait for all groups of this thread but the last N. */
template <int N> __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif
