/* Launching kernels, and a block's dynamic shared memory, in words that both nvcc and the emulation
 * (tests/emulated_cuda) understand. A template with a comma goes in brackets:
 *     LAUNCH((rows<T, 4>), grid, block, shared_bytes, stream, x, n);
 * A launch says nothing when it fails; the first failure of the host thread is kept with the
 * kernel's name until launch_take(). */
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

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                     \
    (emulated::launch(#kernel, kernel, grid, block, shared_bytes, stream, __VA_ARGS__),            \
     launch_note(#kernel))
#define DYNAMIC_SHARED(type, name) type *name = (type *)emulated::dynamic_shared()

#else

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                     \
    (kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__), launch_note(#kernel))
/* One array for all kernels, of a type that suits all: extern arrays of one name must agree. */
#define DYNAMIC_SHARED(type, name)                                                                 \
    extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];                       \
    type *name = (type *)dynamic_shared_memory

#endif
