#include "heap.h"

#include <map>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "api.h"
#include "sanitizers.h"
#include "stream.h"

namespace emulated
{

static const size_t RESERVED = (size_t)1 << 40, PAGE = 4096, HUGE_PAGE = 2 << 20;
static const size_t ALIGNMENT = 512, REDZONE = 512;

struct allocation {
    size_t bytes;
    int device;
    bool live;
};

static char *base, *top; // reserved, and used so far
static int opened;
static std::map<uintptr_t, allocation> allocations; // by address
static std::map<uintptr_t, size_t> pinned;
static size_t used[16]; // bytes, by device
static struct sigaction before;

/* In huge pages, which make it fast. */
static void set_protection(int protection)
{
    size_t bytes = ((size_t)(top - base) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    if (bytes && mprotect(base, bytes, protection) < 0)
        die("mprotect of device memory failed");
}

void open_device_memory()
{
    if (opened++ == 0)
        set_protection(PROT_READ | PROT_WRITE);
}

void close_device_memory()
{
    if (--opened == 0)
        set_protection(PROT_NONE);
}

static bool in_range(const void *at)
{
    return base && (const char *)at >= base && (const char *)at < base + RESERVED;
}

/* Say what it was, then let it happen again under whoever handled such signals before us. */
static void on_fault(int number, siginfo_t *info, void *)
{
    if (in_range(info->si_addr))
        fprintf(stderr, "emulated CUDA: %s touches device memory: %s\n", where(),
                describe(info->si_addr));
    else
        fprintf(stderr, "emulated CUDA: invalid address %p in %s\n", info->si_addr, where());
    sigaction(number, &before, nullptr);
}

static void reserve()
{
    void *at = mmap(nullptr, RESERVED + HUGE_PAGE, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        die("cannot reserve addresses for device memory");
    base = top = (char *)(((uintptr_t)at + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
    madvise(base, RESERVED, MADV_HUGEPAGE);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigaction(SIGSEGV, &action, &before);
}

static const std::pair<const uintptr_t, allocation> *find(const void *at)
{
    auto next = allocations.upper_bound((uintptr_t)at);
    return next == allocations.begin() ? nullptr : &*std::prev(next);
}

memory_kind kind_of(const void *at, size_t bytes)
{
    uintptr_t address = (uintptr_t)at;
    if (in_range(at)) {
        auto found = find(at);
        bool inside =
            found && found->second.live && address + bytes <= found->first + found->second.bytes;
        return inside ? DEVICE : DEVICE_INVALID;
    }
    auto next = pinned.upper_bound(address);
    if (next == pinned.begin())
        return PAGEABLE;
    auto found = std::prev(next);
    return address + bytes <= found->first + found->second ? PINNED : PAGEABLE;
}

const char *allocation_of(const void *at, size_t *bytes)
{
    memory_kind kind = kind_of(at, 1);
    if (kind == DEVICE) {
        auto found = find(at);
        *bytes = found->second.bytes;
        return (const char *)found->first;
    }
    if (kind != PINNED)
        return nullptr;
    auto found = std::prev(pinned.upper_bound((uintptr_t)at));
    *bytes = found->second;
    return (const char *)found->first;
}

const char *describe(const void *at)
{
    static thread_local char text[160];
    auto found = find(at);
    if (!found)
        snprintf(text, sizeof text, "%p, below all allocations", at);
    else
        snprintf(text, sizeof text, "%p, byte %zu of an allocation of %zu%s", at,
                 (size_t)((uintptr_t)at - found->first), found->second.bytes,
                 found->second.live ? "" : " that has been freed");
    return text;
}

static void *allocate(size_t bytes)
{
    size_t room = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + REDZONE;
    if (!base)
        reserve();
    if (top + room + REDZONE > base + RESERVED)
        die("all addresses for device memory are used up");
    char *at = top == base ? base + REDZONE : top;
    device_memory_open with_the_old_range;
    char *old_top = top;
    top = at + room;
    set_protection(PROT_READ | PROT_WRITE);
    poison(old_top, (size_t)(top - old_top));
    unpoison(at, bytes);
    memset(at, 0xff, bytes);
    allocations[(uintptr_t)at] = {bytes, current_device(), true};
    used[current_device()] += bytes;
    return at;
}

/* Give the pages back; the addresses stay poisoned. */
static void release(uintptr_t at, allocation *a)
{
    a->live = false;
    used[a->device] -= a->bytes;
    poison((void *)at, a->bytes);
    uintptr_t first = (at + PAGE - 1) / PAGE * PAGE, end = (at + a->bytes) / PAGE * PAGE;
    if (end > first)
        madvise((void *)first, end - first, MADV_DONTNEED);
}

void check_pointer(const char *kernel, int index, const void *argument)
{
    if (!argument)
        return;
    std::lock_guard<std::recursive_mutex> hold(api_lock);
    memory_kind kind = kind_of(argument, 0);
    if (kind == PAGEABLE)
        die("kernel %s: argument %d (%p) is not device memory, nor pinned", kernel, index,
            argument);
    if (kind == DEVICE_INVALID)
        die("kernel %s: argument %d is %s", kernel, index, describe(argument));
}

static cudaError_t pin(void *memory, size_t bytes)
{
    pinned[(uintptr_t)memory] = bytes;
    return cudaSuccess;
}

static cudaError_t unpin(const char *call, void *memory)
{
    if (!pinned.erase((uintptr_t)memory))
        return misuse(cudaErrorInvalidValue, "%s: %p is not pinned memory", call, memory);
    return cudaSuccess;
}

} // namespace emulated

using namespace emulated;

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    API_CALL();
    if (cudaError_t refused = refuse_in_capture(__func__))
        return refused;
    *memory = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    if (used[current_device()] + bytes > device_memory_bytes())
        return failed(cudaErrorMemoryAllocation);
    *memory = allocate(bytes);
    return cudaSuccess;
}

/* Like NVIDIA's, it waits for all work of the device first. */
cudaError_t cudaFree(void *memory)
{
    API_CALL();
    if (cudaError_t refused = refuse_in_capture(__func__))
        return refused;
    if (!memory)
        return cudaSuccess;
    auto found = allocations.find((uintptr_t)memory);
    if (found == allocations.end() || !found->second.live)
        return misuse(cudaErrorInvalidValue, "cudaFree of %p, which is not an allocation", memory);
    finish_device(found->second.device);
    release(found->first, &found->second);
    return cudaSuccess;
}

static cudaError_t allocate_pinned(const char *call, void **memory, size_t bytes)
{
    if (cudaError_t refused = refuse_in_capture(call))
        return refused;
    *memory = aligned_alloc(PAGE, (bytes + PAGE) / PAGE * PAGE);
    if (!*memory)
        return failed(cudaErrorMemoryAllocation);
    memset(*memory, 0xff, bytes);
    poison((char *)*memory + bytes, (bytes + PAGE) / PAGE * PAGE - bytes);
    return pin(*memory, bytes);
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned int)
{
    API_CALL();
    return allocate_pinned(__func__, memory, bytes);
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    API_CALL();
    return allocate_pinned(__func__, memory, bytes);
}

cudaError_t cudaFreeHost(void *memory)
{
    API_CALL();
    if (cudaError_t refused = refuse_in_capture(__func__))
        return refused;
    if (!memory)
        return cudaSuccess;
    auto found = pinned.find((uintptr_t)memory);
    size_t bytes = found == pinned.end() ? 0 : found->second;
    finish_device(current_device());
    if (cudaError_t wrong = unpin(__func__, memory))
        return wrong;
    unpoison(memory, (bytes + PAGE) / PAGE * PAGE);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned int)
{
    API_CALL();
    return pin(memory, bytes);
}

cudaError_t cudaHostUnregister(void *memory)
{
    API_CALL();
    finish_device(current_device());
    return unpin(__func__, memory);
}

cudaError_t cudaHostGetDevicePointer(void **device, void *host, unsigned int)
{
    API_CALL();
    if (kind_of(host, 0) != PINNED)
        return misuse(cudaErrorInvalidValue, "cudaHostGetDevicePointer of %p, not pinned", host);
    *device = host;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    API_CALL();
    *total_bytes = device_memory_bytes();
    *free_bytes = *total_bytes - used[current_device()];
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *memory)
{
    API_CALL();
    memory_kind kind = kind_of(memory, 0);
    *attributes = {};
    if (kind == DEVICE) {
        attributes->type = cudaMemoryTypeDevice;
        attributes->device = find(memory)->second.device;
        attributes->devicePointer = (void *)memory;
    } else if (kind == PINNED) {
        attributes->type = cudaMemoryTypeHost;
        attributes->hostPointer = attributes->devicePointer = (void *)memory;
    }
    return cudaSuccess;
}
