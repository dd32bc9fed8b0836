/* Launching kernels, and a block's dynamic shared memory, in macros that both nvcc and the
 * emulation (tests/emulated_cuda) can compile. LAUNCH(d, (rows<T, 4>), grid, block, shared_bytes,
 * x, n); puts a kernel on the device's stream; a template with a comma needs the brackets. CUDA
 * reports a refused launch (too much shared memory, too large a grid, no code for this GPU) only at
 * the launch itself, not at a later wait. So LAUNCH makes a refusal the device's error, with the
 * kernel's name, and the device launches nothing more. If a launch needs more dynamic shared memory
 * than CUDA grants every kernel, LAUNCH asks CUDA for it.
 *
 * LAUNCH_EARLY lets a kernel begin before the one before it in the stream has ended, if the device
 * can do that and if the kernel before calls let_next_begin() (CUDA's programmatic dependent
 * launch, from sm_90 on). So a kernel can load its weights, which never change, while the kernel
 * before is still running. Until wait_for_previous() returns, a kernel may read nothing that a
 * kernel of the same step writes, and may write nothing. After it, all kernels before have ended,
 * as each of them has itself waited. A kernel that begins early must read with plain loads: __ldg
 * and const __restrict__ promise that memory does not change while the kernel runs.
 *
 * LAUNCH_ON launches on a stream without a device; its value is CUDA's error. */
#pragma once

#include <cuda_runtime.h>
#include <utility>

#include "kernels/cuda/cuda.h"

/* A launch, for error messages too. */
struct launch_shape {
    const char *kernel; // as written in the source
    dim3 grid, block;
    size_t shared_bytes;
};

/* See that the kernel may be launched with shape.shared_bytes; false after an error. */
bool launch_may_share(struct dev *d, const void *function, const launch_shape &shape);
/* Make a refused launch the device's error. */
void launch_refused(struct dev *d, cudaError_t error, const launch_shape &shape);

#ifdef EPMOE_EMULATED

template <class... P, class... A>
[[nodiscard]] cudaError_t launch_on(cudaStream_t stream, bool early, const launch_shape &s,
                                    void (*kernel)(P...), A &&...arguments)
{
    return emulated::launch(s.kernel, kernel, s.grid, s.block, s.shared_bytes, stream, early,
                            std::forward<A>(arguments)...);
}

#define DYNAMIC_SHARED(type, name) type *name = (type *)emulated::dynamic_shared()

__device__ __forceinline__ void wait_for_previous()
{
    emulated::wait_for_previous();
}

__device__ __forceinline__ void let_next_begin()
{
}

__device__ __forceinline__ void prefetch_l2(const void *at)
{
    emulated::prefetch(at);
}

#else

/* Launch with CUDA's attribute for early kernels, and with each argument cast to the kernel's
 * parameter type, as cudaLaunchKernelEx demands. */
template <class... P, class... A>
[[nodiscard]] cudaError_t launch_on(cudaStream_t stream, bool early, const launch_shape &s,
                                    void (*kernel)(P...), A &&...arguments)
{
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = s.grid;
    config.blockDim = s.block;
    config.dynamicSmemBytes = s.shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = early;
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}

/* The extern array must have one type in all kernels, so it is bytes, aligned for every type. */
#define DYNAMIC_SHARED(type, name)                                                                 \
    extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];                       \
    type *name = (type *)dynamic_shared_memory

/* Returns when the kernels before have ended and what they wrote can be read. Each thread that
 * reads it must call this. At least one thread of every early kernel must, even if it reads
 * nothing. */
__device__ __forceinline__ void wait_for_previous()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Once every block of this kernel has called this or ended, the next kernel may begin on what the
 * GPU has free. */
__device__ __forceinline__ void let_next_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* Ask for 32 bytes to be brought to L2, without waiting for them; `at` is a multiple of 32. */
__device__ __forceinline__ void prefetch_l2(const void *at)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
}

#endif

template <class... P, class... A>
void cuda_launch(struct dev *d, bool early, const launch_shape &s, void (*kernel)(P...),
                 A &&...arguments)
{
    if (!cuda_works(d) || !launch_may_share(d, (const void *)kernel, s))
        return;
    cudaError_t error = launch_on(d->cuda->stream, early, s, kernel, std::forward<A>(arguments)...);
    if (error != cudaSuccess)
        launch_refused(d, error, s);
}

#define LAUNCH(d, kernel, grid, block, shared_bytes, ...)                                          \
    cuda_launch(d, false, launch_shape{#kernel, grid, block, (size_t)(shared_bytes)}, kernel,      \
                __VA_ARGS__)
#define LAUNCH_EARLY(d, kernel, grid, block, shared_bytes, ...)                                    \
    cuda_launch(d, (d)->cuda->early, launch_shape{#kernel, grid, block, (size_t)(shared_bytes)},   \
                kernel, __VA_ARGS__)
#define LAUNCH_ON(stream, early, kernel, grid, block, shared_bytes, ...)                           \
    launch_on(stream, early, launch_shape{#kernel, grid, block, (size_t)(shared_bytes)}, kernel,   \
              __VA_ARGS__)
