/* Atomics: lanes run one at a time, so that a plain read and write is one. */
#pragma once

#include "races.h"

namespace emulated
{
template <class T, class F> __attribute__((no_sanitize("thread"))) T change(T *at, F f)
{
    note_access(at, sizeof *at, true, true, __builtin_return_address(0));
    T old = *at;
    *at = f(old);
    return old;
}
} // namespace emulated

#define EMULATED_ATOMIC(name, type, expression)                                                    \
    inline type name(type *at, type value)                                                         \
    {                                                                                              \
        return emulated::change(at, [=](type old) -> type { return expression; });                 \
    }
#define EMULATED_ATOMICS(type)                                                                     \
    EMULATED_ATOMIC(atomicAdd, type, old + value)                                                  \
    EMULATED_ATOMIC(atomicExch, type, ((void)old, value))
#define EMULATED_INTEGER_ATOMICS(type)                                                             \
    EMULATED_ATOMICS(type)                                                                         \
    EMULATED_ATOMIC(atomicMin, type, old < value ? old : value)                                    \
    EMULATED_ATOMIC(atomicMax, type, old > value ? old : value)                                    \
    EMULATED_ATOMIC(atomicOr, type, old | value)                                                   \
    EMULATED_ATOMIC(atomicAnd, type, old &value)                                                   \
    inline type atomicCAS(type *at, type expected, type value)                                     \
    {                                                                                              \
        return emulated::change(at, [=](type old) { return old == expected ? value : old; });      \
    }

EMULATED_INTEGER_ATOMICS(int)
EMULATED_INTEGER_ATOMICS(unsigned int)
EMULATED_INTEGER_ATOMICS(unsigned long long)
EMULATED_ATOMICS(float)
EMULATED_ATOMIC(atomicAdd, double, old + value)
EMULATED_ATOMIC(atomicSub, int, old - value)
EMULATED_ATOMIC(atomicSub, unsigned int, old - value)
EMULATED_ATOMIC(atomicInc, unsigned int, old >= value ? 0 : old + 1)

#undef EMULATED_ATOMIC
#undef EMULATED_ATOMICS
#undef EMULATED_INTEGER_ATOMICS
