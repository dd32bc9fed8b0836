#include "kernels/cuda/launch.cuh"

static thread_local launch_failure first;

void launch_note(const char *kernel)
{
    cudaError_t error = cudaPeekAtLastError();
    if (error != cudaSuccess && first.error == cudaSuccess)
        first = {error, kernel};
}

launch_failure launch_take(void)
{
    launch_failure taken = first;
    first = {cudaSuccess, nullptr};
    if (taken.error != cudaSuccess)
        cudaGetLastError();
    return taken;
}
