/* What a launch must obey, and what a kernel may ask for. */
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <utility>

#include "api.h"
#include "block.h"
#include "heap.h"
#include "stream.h"
#include "symbols.h"

namespace emulated
{

static const int SHARED_WITHOUT_ASKING = 48 << 10;

/* Dynamic shared memory, by device and kernel. */
static std::map<std::pair<int, const void *>, int> granted;

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

/* Of "decode_split<__half, 4>" what comes before the arguments. */
static std::string base_name(const std::string &name)
{
    return name.substr(0, name.find_first_of("<("));
}

/* A kernel's dynamic shared memory begins at a multiple of 1024 bytes (launch.cuh), behind its
 * static. What the functions that it calls have is not known here, and counted as less than that.
 */
static size_t before_dynamic(size_t static_bytes)
{
    return static_bytes ? static_bytes / 1024 * 1024 + 1024 : 0;
}

static const kernel_facts &facts_of(const void *function, const char *otherwise)
{
    static std::map<const void *, kernel_facts> known;
    auto found = known.find(function);
    if (found == known.end())
        found = known
                    .insert({function,
                             {kernel_name(function, otherwise), static_shared_bytes(function)}})
                    .first;
    return found->second;
}

static int granted_to(const void *function)
{
    auto found = granted.find({current_device(), function});
    if (found != granted.end())
        return found->second;
    return SHARED_WITHOUT_ASKING - (int)before_dynamic(facts_of(function, "").static_bytes);
}

static cudaError_t check_shared(const kernel_launch &k, size_t static_bytes)
{
    size_t before = before_dynamic(static_bytes);
    int most = granted_to(k.function);
    if (k.shared_bytes == 0)
        return cudaSuccess; // nvcc sees to the static
    if (k.shared_bytes + before > (size_t)shared_memory_optin())
        return misuse(cudaErrorInvalidValue,
                      "kernel %s: %zu bytes of dynamic and %zu of static shared memory; sm_%d has "
                      "%d",
                      k.name, k.shared_bytes, static_bytes, compute_capability(),
                      shared_memory_optin());
    if (most < 0 || k.shared_bytes > (size_t)most)
        return misuse(cudaErrorInvalidValue,
                      "kernel %s: %zu bytes of dynamic shared memory beside %zu static; it was "
                      "granted %d (cudaFuncSetAttribute)",
                      k.name, k.shared_bytes, static_bytes, most);
    return cudaSuccess;
}

static cudaError_t check(const kernel_launch &k, const kernel_facts &facts)
{
    if (cudaError_t asked_for = enter("cudaLaunchKernel"))
        return failed(asked_for);
    if (cudaError_t asked_for = must_refuse(base_name(facts.name).c_str()))
        return failed(asked_for);
    if (cudaError_t wrong = check_shape(k))
        return wrong;
    return check_shared(k, facts.static_bytes);
}

/* A refused launch is in no graph. Whether it also ends the capture, CUDA does not say: here it
 * does every other time. */
static void spoil_capture(cudaStream_t stream)
{
    if (is_capturing(stream) && stream->captured->nodes.size() % 2)
        stream->captured->lost = true;
}

cudaError_t launch_kernel(kernel_launch k, cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> hold(api_lock);
    const kernel_facts &facts = facts_of(k.function, k.name);
    k.name = facts.name.c_str();
    if (cudaError_t refused = check(k, facts)) {
        spoil_capture(stream);
        return refused;
    }
    note_call(k.name);
    return issue(stream, std::make_shared<const kernel_launch>(std::move(k)));
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
    if (log.file)
        log.runs[base_name(k.name)]++;
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
    const kernel_facts &facts = facts_of(kernel, "");
    int most = shared_memory_optin() - (int)before_dynamic(facts.static_bytes);
    if (value < 0 || value > most)
        return misuse(cudaErrorInvalidValue,
                      "cudaFuncSetAttribute: %s: %d bytes of shared memory; sm_%d has %d",
                      facts.name.c_str(), value, compute_capability(), most);
    granted[{current_device(), kernel}] = value;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *kernel)
{
    API_CALL();
    *attributes = {};
    attributes->sharedSizeBytes = before_dynamic(facts_of(kernel, "").static_bytes);
    attributes->maxThreadsPerBlock = MOST_THREADS;
    attributes->maxDynamicSharedSizeBytes = granted_to(kernel);
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
