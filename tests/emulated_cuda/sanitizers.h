/* AddressSanitizer's interface where the program is built with it (CMake says so), nothing where it
 * is not. */
#pragma once

#include <stddef.h>

#ifndef EMULATED_ASAN
#define EMULATED_ASAN 0
#endif

#if EMULATED_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulated
{

/* Any access of instrumented code to [at, at + bytes) is reported from now on. */
inline void poison(const void *at, size_t bytes)
{
#if EMULATED_ASAN
    __asan_poison_memory_region(at, bytes);
#else
    (void)at, (void)bytes;
#endif
}

inline void unpoison(const void *at, size_t bytes)
{
#if EMULATED_ASAN
    __asan_unpoison_memory_region(at, bytes);
#else
    (void)at, (void)bytes;
#endif
}

} // namespace emulated
