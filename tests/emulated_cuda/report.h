/* Diagnoses. Each says which kernel, block and thread; most end the process, as they would end a
 * run on a GPU, only with a reason. */
#pragma once

#include "cuda_runtime_api.h"

namespace emulated
{

struct lane;

[[noreturn]] __attribute__((format(printf, 1, 2))) void die(const char *format, ...);

/* Print one line of what a caller did wrong, and make it the last error. */
__attribute__((format(printf, 2, 3))) cudaError_t misuse(cudaError_t error, const char *format,
                                                         ...);

/* Set the last error, silently, and return it. */
cudaError_t failed(cudaError_t error);

/* "kernel k, block (0,0,0), thread (1,0,0)", or "the host". */
const char *where();
const char *thread_name(const lane *l);

} // namespace emulated
