/* Devices and their properties, the errors' names, and failures on demand. */
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>

#include "api.h"
#include "heap.h"
#include "stream.h"

namespace emulated
{

enum { MOST_DEVICES = 16 };

std::recursive_mutex api_lock;
static thread_local int present_device;

static long from_environment(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtol(text, nullptr, 10) : otherwise;
}

static int device_count()
{
    long n = from_environment("EPMOE_EMULATED_GPUS", 1);
    return n < MOST_DEVICES ? (int)n : MOST_DEVICES;
}

int current_device()
{
    return present_device;
}

size_t device_memory_bytes()
{
    return (size_t)from_environment("EPMOE_EMULATED_GPU_MEMORY", 4L << 30);
}

int compute_capability()
{
    return (int)from_environment("EPMOE_EMULATED_SM", 90);
}

int shared_memory_optin()
{
    return (compute_capability() >= 90 ? 227 : 163) << 10;
}

/* variable=cudaMalloc:3, with or without more behind */
static bool is_asked_for(const char *variable, const char *call)
{
    static std::map<std::string, long> calls;
    const char *wanted = getenv(variable), *colon = wanted ? strchr(wanted, ':') : nullptr;
    if (!colon || std::string(wanted, colon) != call)
        return false;
    return ++calls[std::string(variable) + call] == strtol(colon + 1, nullptr, 10);
}

void note_call(const char *call)
{
    static FILE *file = [] {
        const char *path = getenv("EPMOE_EMULATED_TRACE");
        FILE *to = path ? fopen(path, "w") : nullptr;
        const char *loading = getenv("CUDA_MODULE_LOADING"); // CUDA reads it at its first call
        if (to && loading)
            fprintf(to, "0 CUDA_MODULE_LOADING=%s\n", loading);
        return to;
    }();
    if (!file)
        return;
    fprintf(file, "%d %s\n", present_device, call);
    fflush(file);
}

bool must_fail(const char *call)
{
    note_call(call);
    return is_asked_for("EPMOE_EMULATED_FAIL", call);
}

bool must_lose(const char *call)
{
    return is_asked_for("EPMOE_EMULATED_LOSE", call);
}

/* EPMOE_EMULATED_FAIL=call:n:error, or what fits the call. */
static cudaError_t error_of(const char *call)
{
    const char *wanted = strchr(getenv("EPMOE_EMULATED_FAIL"), ':');
    if (const char *error = strchr(wanted + 1, ':'))
        return (cudaError_t)strtol(error + 1, nullptr, 10);
    return strncmp(call, "cudaMalloc", 10) == 0 || strcmp(call, "cudaHostAlloc") == 0
               ? cudaErrorMemoryAllocation
               : cudaErrorUnknown;
}

cudaError_t enter(const char *call)
{
    if (device_count() <= 0)
        return (cudaError_t)from_environment("EPMOE_EMULATED_NO_GPU", cudaErrorNoDevice);
    return must_fail(call) ? error_of(call) : cudaSuccess;
}

cudaError_t must_refuse(const char *kernel)
{
    return is_asked_for("EPMOE_EMULATED_FAIL", kernel) ? error_of(kernel) : cudaSuccess;
}

static cudaError_t check_device(const char *call, int device)
{
    if (device >= 0 && device < device_count())
        return cudaSuccess;
    return misuse(cudaErrorInvalidDevice, "%s: there is no device %d", call, device);
}

} // namespace emulated

using namespace emulated;

static const struct {
    cudaError_t error;
    const char *name, *text;
} errors[] = {
#define ERROR(name, text)                                                                          \
    {                                                                                              \
        name, #name, text                                                                          \
    }
    ERROR(cudaSuccess, "no error"),
    ERROR(cudaErrorInvalidValue, "invalid argument"),
    ERROR(cudaErrorMemoryAllocation, "out of memory"),
    ERROR(cudaErrorInitializationError, "initialization error"),
    ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    ERROR(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime "
                                       "version"),
    ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
    ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    ERROR(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the "
                                           "device"),
    ERROR(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled"),
    ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    ERROR(cudaErrorNotReady, "device not ready"),
    ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    ERROR(cudaErrorNotSupported, "operation not supported"),
    ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during "
                                             "capture"),
    ERROR(cudaErrorStreamCaptureUnmatched, "capture was not initiated in this stream"),
    ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
    ERROR(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a "
                                  "capturing stream"),
    ERROR(cudaErrorUnknown, "unknown error"),
#undef ERROR
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (const auto &e : errors)
        if (e.error == error)
            return e.name;
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (const auto &e : errors)
        if (e.error == error)
            return e.text;
    return "unrecognized error code";
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    API_CALL();
    *count = device_count();
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    API_CALL();
    *device = present_device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    API_CALL();
    if (cudaError_t wrong = check_device(__func__, device))
        return wrong;
    present_device = device;
    return cudaSuccess;
}

cudaError_t cudaSetDeviceFlags(unsigned int)
{
    API_CALL();
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    API_CALL();
    if (cudaError_t wrong = check_device(__func__, device))
        return wrong;
    *p = {};
    snprintf(p->name, sizeof p->name, "emulated");
    p->totalGlobalMem = device_memory_bytes();
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = (size_t)shared_memory_optin();
    p->reservedSharedMemPerBlock = 1 << 10;
    p->sharedMemPerMultiprocessor = p->sharedMemPerBlockOptin + (1 << 10);
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->major = compute_capability() / 10;
    p->minor = compute_capability() % 10;
    p->multiProcessorCount = 4;
    p->l2CacheSize = 1 << 20;
    p->memoryBusWidth = 64;
    p->pciBusID = device + 1;
    p->canMapHostMemory = p->concurrentKernels = p->unifiedAddressing = p->asyncEngineCount = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp p;
    if (cudaError_t wrong = cudaGetDeviceProperties(&p, device))
        return wrong;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        return *value = p.maxThreadsPerBlock, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        return *value = (int)p.sharedMemPerBlock, cudaSuccess;
    case cudaDevAttrWarpSize:
        return *value = p.warpSize, cudaSuccess;
    case cudaDevAttrClockRate:
    case cudaDevAttrMemoryClockRate:
        return *value = 1000000, cudaSuccess; // kHz
    case cudaDevAttrMultiProcessorCount:
        return *value = p.multiProcessorCount, cudaSuccess;
    case cudaDevAttrGlobalMemoryBusWidth:
        return *value = p.memoryBusWidth, cudaSuccess;
    case cudaDevAttrL2CacheSize:
        return *value = p.l2CacheSize, cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        return *value = p.major, cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        return *value = p.minor, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        return *value = (int)p.sharedMemPerMultiprocessor, cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        return *value = (int)p.sharedMemPerBlockOptin, cudaSuccess;
    }
    return misuse(cudaErrorInvalidValue, "cudaDeviceGetAttribute: not emulated: %d", attribute);
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int device)
{
    API_CALL();
    if (cudaError_t wrong = check_device(__func__, device))
        return wrong;
    snprintf(id, (size_t)length, "0000:%02x:00.0", device + 1);
    return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    API_CALL();
    *can = device != peer;
    return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned int)
{
    API_CALL();
    return check_device(__func__, peer);
}

cudaError_t cudaDeviceReset(void)
{
    API_CALL();
    finish_device(current_device());
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = device_count() > 0 ? CUDART_VERSION : 0; // 0: no driver; never an error
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}
