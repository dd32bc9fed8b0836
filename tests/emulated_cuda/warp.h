/* What the 32 lanes of a warp do together. All are made of emulated::collect: lanes wait until all
 * of the mask have come, and the last computes for all. */
#pragma once

#include <string.h>

#include "language.h"

namespace emulated
{

/* The general form, for twins of tensor-core instructions: f runs once for the warp, with every
 * lane's operand and every lane's result: f(const In *const in[32], Out *const out[32]). */
template <class In, class Out, void (*f)(const In *const *, Out *const *)>
inline void warp_collective(const In &in, Out &out, EMULATED_SITE)
{
    collect({"a collective of the warp", file, line}, 0xffffffffu, &in, &out,
            [](unsigned, const void *const *ins, void *const *outs)
                EMULATED_UNCHECKED { f((const In *const *)ins, (Out *const *)outs); });
}

/* Every lane's `bytes` to every lane: all [32][bytes]. */
struct exchanged {
    const void *mine;
    size_t bytes;
};

inline void warp_exchange(const void *mine, size_t bytes, void *all, EMULATED_SITE)
{
    exchanged in = {mine, bytes};
    collect({"warp_exchange", file, line}, 0xffffffffu, &in, all,
            [](unsigned, const void *const *ins, void *const *outs) EMULATED_UNCHECKED {
                for (int to = 0; to < WARP; to++)
                    for (int from = 0; from < WARP; from++) {
                        const exchanged *e = (const exchanged *)ins[from];
                        memcpy((char *)outs[to] + (size_t)from * e->bytes, e->mine, e->bytes);
                    }
            });
}

template <class T> struct shuffled {
    T value;
    int source; // the lane whose value this one wants
};

/* A lane that wants from a lane outside the mask gets the garbage that a GPU would give it. */
template <class T>
inline T shuffle(const char *what, unsigned mask, T value, int source, const char *file, int line)
{
    shuffled<T> in = {value, source};
    T out;
    collect({what, file, line}, mask, &in, &out,
            [](unsigned all, const void *const *ins, void *const *outs) EMULATED_UNCHECKED {
                for (int i = 0; i < WARP; i++) {
                    if (!(all >> i & 1))
                        continue;
                    int from = ((const shuffled<T> *)ins[i])->source;
                    if (all >> from & 1)
                        memcpy(outs[i], &((const shuffled<T> *)ins[from])->value, sizeof(T));
                    else
                        memset(outs[i], 0xff, sizeof(T));
                }
            });
    return out;
}

template <class T, class R, R (*reduce)(unsigned, const T *const *)>
inline R reduced(const char *what, unsigned mask, T value, const char *file, int line)
{
    R out;
    collect({what, file, line}, mask, &value, &out,
            [](unsigned all, const void *const *ins, void *const *outs) EMULATED_UNCHECKED {
                R result = reduce(all, (const T *const *)ins);
                for (int i = 0; i < WARP; i++)
                    if (all >> i & 1)
                        *(R *)outs[i] = result;
            });
    return out;
}

inline unsigned ballot(unsigned mask, const int *const *predicates)
{
    unsigned bits = 0;
    for (int i = 0; i < WARP; i++)
        if ((mask >> i & 1) && *predicates[i])
            bits |= 1u << i;
    return bits;
}

template <class T, class F> inline T fold(unsigned mask, const T *const *values, F f)
{
    int first = __builtin_ctz(mask);
    T result = *values[first];
    for (int i = first + 1; i < WARP; i++)
        if (mask >> i & 1)
            result = f(result, *values[i]);
    return result;
}

template <class T> inline T sum_of(unsigned mask, const T *const *values)
{
    return fold(mask, values, [](T a, T b) { return (T)(a + b); });
}

template <class T> inline T least_of(unsigned mask, const T *const *values)
{
    return fold(mask, values, [](T a, T b) { return a < b ? a : b; });
}

template <class T> inline T greatest_of(unsigned mask, const T *const *values)
{
    return fold(mask, values, [](T a, T b) { return a > b ? a : b; });
}

inline unsigned or_of(unsigned mask, const unsigned *const *values)
{
    return fold(mask, values, [](unsigned a, unsigned b) { return a | b; });
}

inline unsigned and_of(unsigned mask, const unsigned *const *values)
{
    return fold(mask, values, [](unsigned a, unsigned b) { return a & b; });
}

inline int lane_index()
{
    return self->index % WARP;
}

/* Segments of `width` lanes shuffle among themselves; outside of its own, a lane keeps its value.
 */
inline int in_segment(int source, int first, int width)
{
    return source >= first && source < first + width ? source : lane_index();
}

} // namespace emulated

inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATED_SITE)
{
    int nothing = 0;
    emulated::collect({"__syncwarp", file, line}, mask, &nothing, &nothing,
                      [](unsigned, const void *const *, void *const *) {});
}

template <class T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMULATED_SITE)
{
    int first = emulated::lane_index() / width * width;
    return emulated::shuffle("__shfl_sync", mask, value, first + (source & (width - 1)), file,
                             line);
}

template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMULATED_SITE)
{
    int me = emulated::lane_index(), end = (me / width + 1) * width, source = me ^ bits;
    return emulated::shuffle("__shfl_xor_sync", mask, value, source < end ? source : me, file,
                             line);
}

template <class T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, EMULATED_SITE)
{
    int me = emulated::lane_index(), first = me / width * width;
    return emulated::shuffle("__shfl_up_sync", mask, value,
                             emulated::in_segment(me - (int)by, first, width), file, line);
}

template <class T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, EMULATED_SITE)
{
    int me = emulated::lane_index(), first = me / width * width;
    return emulated::shuffle("__shfl_down_sync", mask, value,
                             emulated::in_segment(me + (int)by, first, width), file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATED_SITE)
{
    return emulated::reduced<int, unsigned, emulated::ballot>("__ballot_sync", mask, predicate,
                                                              file, line);
}

inline int __any_sync(unsigned mask, int predicate, EMULATED_SITE)
{
    return emulated::reduced<int, unsigned, emulated::ballot>("__any_sync", mask, predicate, file,
                                                              line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, EMULATED_SITE)
{
    return emulated::reduced<int, unsigned, emulated::ballot>("__all_sync", mask, predicate, file,
                                                              line) == mask;
}

template <class T> inline unsigned __match_any_sync(unsigned mask, T value, EMULATED_SITE)
{
    unsigned out;
    emulated::collect(
        {"__match_any_sync", file, line}, mask, &value, &out,
        [](unsigned all, const void *const *ins, void *const *outs) EMULATED_UNCHECKED {
            for (int i = 0; i < 32; i++) {
                unsigned same = 0;
                for (int j = 0; j < 32 && (all >> i & 1); j++)
                    if ((all >> j & 1) && *(const T *)ins[i] == *(const T *)ins[j])
                        same |= 1u << j;
                if (all >> i & 1)
                    *(unsigned *)outs[i] = same;
            }
        });
    return out;
}

#define EMULATED_REDUCE(name, type, how)                                                           \
    inline type name(unsigned mask, type value, EMULATED_SITE)                                     \
    {                                                                                              \
        return emulated::reduced<type, type, how>(#name, mask, value, file, line);                 \
    }
EMULATED_REDUCE(__reduce_add_sync, int, emulated::sum_of<int>)
EMULATED_REDUCE(__reduce_add_sync, unsigned, emulated::sum_of<unsigned>)
EMULATED_REDUCE(__reduce_min_sync, int, emulated::least_of<int>)
EMULATED_REDUCE(__reduce_min_sync, unsigned, emulated::least_of<unsigned>)
EMULATED_REDUCE(__reduce_max_sync, int, emulated::greatest_of<int>)
EMULATED_REDUCE(__reduce_max_sync, unsigned, emulated::greatest_of<unsigned>)
EMULATED_REDUCE(__reduce_or_sync, unsigned, emulated::or_of)
EMULATED_REDUCE(__reduce_and_sync, unsigned, emulated::and_of)
#undef EMULATED_REDUCE
