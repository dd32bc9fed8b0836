/* AddressSanitizer's interface where it is on, nothing where it is off. */
#pragma once

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define EMULATED_ASAN 1
#else
#define EMULATED_ASAN 0
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
