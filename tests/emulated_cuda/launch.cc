/* What a launch must obey, and what a kernel may ask for. */
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string>

#include "api.h"
#include "block.h"
#include "heap.h"
#include "stream.h"
#include "symbols.h"

namespace emulated
{

static const int SHARED_WITHOUT_ASKING = 48 << 10;

static std::map<const void *, int> granted; // dynamic shared memory, by kernel

static cudaError_t check_shape(const kernel_launch &k)
{
    dim3 g = k.grid, b = k.block;
    size_t threads = (size_t)b.x * b.y * b.z;
    if (threads == 0 || threads > MOST_THREADS || b.z > 64)
        return misuse(cudaErrorInvalidConfiguration,
                      "kernel %s: a block of (%u,%u,%u) threads; 1 to %d is legal, z at most 64",
                      k.name, b.x, b.y, b.z, MOST_THREADS);
    if (!g.x || !g.y || !g.z || g.x > 0x7fffffff || g.y > 65535 || g.z > 65535)
        return misuse(cudaErrorInvalidConfiguration,
                      "kernel %s: a grid of (%u,%u,%u) blocks; (2^31-1, 65535, 65535) is the most",
                      k.name, g.x, g.y, g.z);
    return cudaSuccess;
}

/* What is known of a kernel, looked up once: its name in full, its static shared memory. */
struct kernel_facts {
    std::string name;
    size_t static_bytes;
};

static const kernel_facts &facts_of(const kernel_launch &k)
{
    static std::map<const void *, kernel_facts> known;
    auto found = known.find(k.function);
    if (found == known.end())
        found = known
                    .insert({k.function,
                             {kernel_name(k.function, k.name), static_shared_bytes(k.function)}})
                    .first;
    return found->second;
}

static cudaError_t check_shared(const kernel_launch &k, size_t static_bytes)
{
    auto found = granted.find(k.function);
    int most = SHARED_WITHOUT_ASKING - (int)static_bytes;
    if (found != granted.end() && found->second > most)
        most = found->second;
    if (k.shared_bytes > (size_t)most)
        return misuse(cudaErrorInvalidValue,
                      "kernel %s: %zu bytes of dynamic shared memory beside %zu static; it was "
                      "granted %d (cudaFuncSetAttribute)",
                      k.name, k.shared_bytes, static_bytes, most);
    if (k.shared_bytes + static_bytes > (size_t)shared_memory_optin())
        return misuse(cudaErrorInvalidValue,
                      "kernel %s: %zu bytes of dynamic and %zu of static shared memory; sm_%d has "
                      "%d",
                      k.name, k.shared_bytes, static_bytes, compute_capability(),
                      shared_memory_optin());
    return cudaSuccess;
}

void launch_kernel(kernel_launch k, cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> hold(api_lock);
    const kernel_facts &facts = facts_of(k);
    k.name = facts.name.c_str();
    if (cudaError_t refused = enter("cudaLaunchKernel")) {
        failed(refused);
        return;
    }
    if (check_shape(k) || check_shared(k, facts.static_bytes))
        return;
    note_call(k.name);
    issue(stream, std::make_shared<const kernel_launch>(std::move(k)));
}

/* EPMOE_EMULATED_LAUNCHES=FILE: how often each kernel has run, by its name without arguments. */
struct launch_log {
    std::map<std::string, long> runs;
    const char *file = getenv("EPMOE_EMULATED_LAUNCHES");

    ~launch_log()
    {
        FILE *to = file ? fopen(file, "w") : nullptr;
        for (const auto &[name, n] : runs)
            if (to)
                fprintf(to, "%ld %s\n", n, name.c_str());
        if (to)
            fclose(to);
    }
};

void log_run(const kernel_launch &k)
{
    static launch_log log;
    std::string name = k.name;
    if (log.file)
        log.runs[name.substr(0, name.find_first_of("<("))]++;
}

/* What is asked for must be there, though nobody sees whether it comes. */
void prefetch(const void *at)
{
    memory_kind kind = kind_of(at, 1);
    if (kind != DEVICE && kind != PINNED)
        die("a prefetch from %s", describe(at));
}

} // namespace emulated

using namespace emulated;

cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value)
{
    API_CALL();
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return cudaSuccess;
    if (value < 0 || value > shared_memory_optin())
        return misuse(cudaErrorInvalidValue,
                      "cudaFuncSetAttribute: %d bytes of shared memory; sm_%d has %d", value,
                      compute_capability(), shared_memory_optin());
    granted[kernel] = value;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel)
{
    API_CALL();
    auto found = granted.find(kernel);
    *attributes = {};
    attributes->sharedSizeBytes = static_shared_bytes(kernel);
    attributes->maxThreadsPerBlock = MOST_THREADS;
    attributes->maxDynamicSharedSizeBytes =
        found == granted.end() ? SHARED_WITHOUT_ASKING : found->second;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads,
                                                          size_t dynamic_shared)
{
    API_CALL();
    size_t by_shared = ((size_t)shared_memory_optin() + 1024) / (dynamic_shared + 1024);
    int by_threads = threads > 0 ? 2048 / threads : 0;
    *blocks = (size_t)by_threads < by_shared ? by_threads : (int)by_shared;
    return cudaSuccess;
}
