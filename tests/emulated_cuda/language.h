/* CUDA C++'s words: qualifiers, the built-in variables, barriers, launching. */
#pragma once

#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#include "block.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__    __attribute__((noinline))
#define __align__(n)    __attribute__((aligned(n)))
#define __launch_bounds__(...)

/* One block runs at a time, so that a block's memory can be static. The tag becomes part of the
 * symbol's name: that is how shared.cc finds all such variables, to spoil them before a block. */
#define __shared__ static __attribute__((abi_tag("emulated_shared")))

#define threadIdx (emulated::self->thread)
#define blockIdx  (emulated::now->index)
#define blockDim  (emulated::now->block)
#define gridDim   (emulated::now->grid)
constexpr int warpSize = 32;

/* Names the place of a call: default arguments are evaluated where the caller stands. */
#define EMULATED_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMULATED_SITE)
{
    emulated::barrier({"__syncthreads", file, line}, emulated::COUNT, 0);
}

inline int __syncthreads_count(int predicate, EMULATED_SITE)
{
    return emulated::barrier({"__syncthreads_count", file, line}, emulated::COUNT, predicate);
}

inline int __syncthreads_and(int predicate, EMULATED_SITE)
{
    return emulated::barrier({"__syncthreads_and", file, line}, emulated::AND, predicate);
}

inline int __syncthreads_or(int predicate, EMULATED_SITE)
{
    return emulated::barrier({"__syncthreads_or", file, line}, emulated::OR, predicate);
}

inline void __threadfence_block()
{
}
inline void __threadfence()
{
}
inline void __threadfence_system()
{
}

inline void __nanosleep(unsigned)
{
    emulated::yield();
}

namespace emulated
{

/* A kernel and its arguments: one thread's run. */
template <class... P> struct bound_kernel {
    void (*kernel)(P...);
    std::tuple<std::decay_t<P>...> arguments;

    void operator()() const
    {
        now->closure = this;
        now->closure_bytes = sizeof *this;
        self->in_kernel = true;
        std::apply(kernel, arguments);
        self->in_kernel = false;
    }
};

template <class T> void check_argument(const char *kernel, int index, const T &argument)
{
    if constexpr (std::is_pointer_v<T>)
        check_pointer(kernel, index, (const void *)argument);
}

template <class... P, class... A>
cudaError_t launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                   size_t shared_bytes, cudaStream_t stream, bool early, A &&...given)
{
    bound_kernel<P...> bound = {kernel, {std::forward<A>(given)...}};
    std::apply(
        [&](const auto &...each) {
            int index = 0;
            (check_argument(name, ++index, each), ...);
        },
        bound.arguments);
    return launch_kernel({name, (const void *)kernel, grid, block, shared_bytes, early, bound},
                         stream);
}

} // namespace emulated
