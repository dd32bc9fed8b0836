/* cp.async: 16 bytes from global to shared memory without passing through registers. The bytes are
 * there for the issuing thread after the wait that covers their group, and for the others after a
 * barrier that follows it. Both addresses are 16-byte aligned. */
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

/* Zeros where there is nothing to copy; global must still be a valid address. */
__device__ __forceinline__ void cp_async16_or_zero(void *shared, const void *global, bool there)
{
    unsigned to = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global),
                 "r"(there ? 16 : 0)
                 : "memory");
}

/* Close the group of what was issued since the last commit. */
__device__ __forceinline__ void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Wait for all groups but the last N. */
template <int N> __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif
