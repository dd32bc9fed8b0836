/* Launching kernels, and a block's dynamic shared memory, in words that both nvcc and the emulation
 * (tests/emulated_cuda) understand. A template with a comma goes in brackets:
 *     LAUNCH((rows<T, 4>), grid, block, shared_bytes, stream, x, n);
 * A launch says nothing when it fails; the first failure of the host thread is kept with the
 * kernel's name until launch_take().
 *
 * LAUNCH_EARLY, where `early`, lets a kernel begin before the one before it in the stream has
 * ended, if that was told to by let_next_begin() (CUDA: programmatic dependent launch, sm_90 on).
 * So a kernel can bring what never changes, its weights, while the one before is still at work.
 * Until wait_for_previous() returns it may read nothing that a kernel of the same step writes, and
 * write nothing at all: the kernels before are then over, all of them, since each of them has
 * waited, too. What is read early must be read again by plain loads: __ldg and const __restrict__
 * promise that memory does not change while the kernel runs. */
#pragma once

#include <cuda_runtime.h>

struct launch_failure {
    cudaError_t error; // cudaSuccess: none
    const char *kernel;
};

/* Keep what the last launch may have left behind. */
void launch_note(const char *kernel);
/* The first failure since the last call. */
struct launch_failure launch_take(void);

#ifdef EPMOE_EMULATED

#define LAUNCH_EARLY(early, kernel, grid, block, shared_bytes, stream, ...)                        \
    (emulated::launch(#kernel, kernel, grid, block, shared_bytes, stream, early, __VA_ARGS__),     \
     launch_note(#kernel))
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                     \
    LAUNCH_EARLY(false, kernel, grid, block, shared_bytes, stream, __VA_ARGS__)
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
void launch_early(bool early, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                  cudaStream_t stream, A &&...arguments)
{
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = early;
    cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
}

#define LAUNCH_EARLY(early, kernel, grid, block, shared_bytes, stream, ...)                        \
    (launch_early(early, kernel, grid, block, shared_bytes, stream, __VA_ARGS__),                  \
     launch_note(#kernel))

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                     \
    (kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__), launch_note(#kernel))
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
