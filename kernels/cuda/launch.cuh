/* Launching kernels, and a block's dynamic shared memory, in words that both nvcc and the emulation
 * (tests/emulated_cuda) understand. A template with a comma goes in brackets:
 *     LAUNCH(d, (rows<T, 4>), grid, block, shared_bytes, x, n);
 * puts a kernel on the device's stream. CUDA says at once when it refuses a launch (too much shared
 * memory, too large a grid, no code for this GPU), and no later wait repeats it. So a refusal
 * becomes the device's error right here, with the kernel's name; nothing is launched after it.
 * Dynamic shared memory beyond what CUDA grants every kernel is asked for where a launch needs it.
 *
 * LAUNCH_EARLY lets a kernel begin before the one before it in the stream has ended, where the
 * device can and if that one was told to by let_next_begin() (CUDA: programmatic dependent launch,
 * sm_90 on). So a kernel can bring what never changes, its weights, while the one before is still
 * at work. Until wait_for_previous() returns it may read nothing that a kernel of the same step
 * writes, and write nothing at all: the kernels before are then over, all of them, since each of
 * them has waited, too. What is read early must be read again by plain loads: __ldg and const
 * __restrict__ promise that memory does not change while the kernel runs.
 *
 * LAUNCH_ON is for who has a stream and no device: the value is CUDA's error. */
#pragma once

#include <cuda_runtime.h>
#include <utility>

#include "kernels/cuda/cuda.h"

/* What is launched, for people. */
struct launch_shape {
    const char *kernel; // as the source says it
    dim3 grid, block;
    size_t shared_bytes;
};

/* Whether a kernel may be launched with so much dynamic shared memory; false after an error. */
bool launch_may_share(struct dev *d, const void *function, const launch_shape &shape);
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

/* The runtime's own form of the attribute, with the types of arguments that the kernel wants. */
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

/* One array for all kernels, of a type that suits all: extern arrays of one name must agree. */
#define DYNAMIC_SHARED(type, name)                                                                 \
    extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];                       \
    type *name = (type *)dynamic_shared_memory

/* Until the kernels before are over and what they wrote can be read. By each thread that goes on to
 * touch it; somebody in every kernel must. */
__device__ __forceinline__ void wait_for_previous()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* Once all of this kernel's blocks have said so, or left, the next may begin where there is room.
 */
__device__ __forceinline__ void let_next_begin()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* Ask for 32 bytes from memory, at a multiple of that, without waiting for them. */
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
