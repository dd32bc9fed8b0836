#include "report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "block.h"
#include "sanitizers.h"

namespace emulated
{

static thread_local cudaError_t last_error;

const char *thread_name(const lane *l)
{
    static thread_local char names[4][48];
    static thread_local unsigned next;
    char *name = names[next++ % 4];
    snprintf(name, sizeof names[0], "(%u,%u,%u)", l->thread.x, l->thread.y, l->thread.z);
    return name;
}

const char *where()
{
    static thread_local char text[320];
    if (!now)
        return "the host";
    const kernel_launch *k = now->kernel;
    int n = snprintf(text, sizeof text, "kernel %s<<<(%u,%u,%u), (%u,%u,%u)>>>, block (%u,%u,%u)",
                     k->name, k->grid.x, k->grid.y, k->grid.z, k->block.x, k->block.y, k->block.z,
                     now->index.x, now->index.y, now->index.z);
    if (self && n > 0 && (size_t)n < sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, ", thread %s", thread_name(self));
    return text;
}

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "emulated CUDA: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n  in %s\n", where());
    va_end(arguments);
    abort();
}

cudaError_t misuse(cudaError_t error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "emulated CUDA: ");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    return failed(error);
}

cudaError_t failed(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

} // namespace emulated

using namespace emulated;

/* An error of a kernel that ran breaks the GPU's context, and stays. */
static bool stays(cudaError_t error)
{
    return error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    if (!stays(error))
        last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

#if EMULATED_ASAN
/* AddressSanitizer asks before its own report: it knows the host's stack only. */
extern "C" void __asan_on_error()
{
    fprintf(stderr, "emulated CUDA: invalid access of memory in %s\n", where());
}
#endif

/* The same for UndefinedBehaviorSanitizer, where its library has the hook. */
extern "C" void __ubsan_on_report()
{
    fprintf(stderr, "emulated CUDA: undefined behaviour in %s\n", where());
}
