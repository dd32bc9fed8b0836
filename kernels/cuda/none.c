/* The functions of device.h that are about GPUs, for a build without CUDA, which has none to open.
 */
#include <stdio.h>

#include "base/log.h"
#include "kernels/device.h"

int cuda_count(void)
{
    return 0;
}

void cuda_describe(char *text, size_t size)
{
    snprintf(text, size, "not in this build (needs the CUDA Toolkit)");
}

int dev_open_cuda(struct dev *d, int gpu, enum isa isa, int threads)
{
    (void)d, (void)isa, (void)threads;
    return fail(STATUS_USAGE,
                "--device cuda: expected a build with CUDA to open GPU %d, found one without: "
                "install the CUDA Toolkit, then configure with -DEPMOE_CUDA=ON",
                gpu);
}
