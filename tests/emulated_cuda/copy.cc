/* Copies and fills. Pageable host memory is read when the call is made and written before it
 * returns; pinned memory whenever the copy runs. */
#include <string.h>

#include "api.h"
#include "block.h"
#include "heap.h"
#include "stream.h"

namespace emulated
{

struct rectangle {
    char *to;
    size_t to_pitch;
    const char *from;
    size_t from_pitch, width, height;
};

static void copy(const rectangle &r)
{
    for (size_t y = 0; y < r.height; y++)
        memmove(r.to + y * r.to_pitch, r.from + y * r.from_pitch, r.width);
}

static size_t extent(size_t pitch, const rectangle &r)
{
    return r.height ? (r.height - 1) * pitch + r.width : 0;
}

static bool is_device_side(memory_kind kind)
{
    return kind == DEVICE || kind == DEVICE_INVALID;
}

static cudaError_t check_side(const char *call, const char *side, const void *at, size_t bytes,
                              bool want_device)
{
    memory_kind kind = kind_of(at, bytes);
    if (kind == DEVICE_INVALID)
        return misuse(cudaErrorInvalidValue, "%s of %zu bytes: %s is %s", call, bytes, side,
                      describe(at));
    if (is_device_side(kind) != want_device)
        return misuse(cudaErrorInvalidValue, "%s: %s is %s memory, not what its kind says", call,
                      side, want_device ? "host" : "device");
    return cudaSuccess;
}

static cudaError_t check(const char *call, const rectangle &r, cudaMemcpyKind kind)
{
    size_t to_bytes = extent(r.to_pitch, r), from_bytes = extent(r.from_pitch, r);
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    if (kind == cudaMemcpyDefault) {
        to_device = is_device_side(kind_of(r.to, to_bytes));
        from_device = is_device_side(kind_of(r.from, from_bytes));
    }
    if (cudaError_t wrong = check_side(call, "the target", r.to, to_bytes, to_device))
        return wrong;
    return check_side(call, "the source", r.from, from_bytes, from_device);
}

/* The source's bytes as they are now, in place of the source. */
static std::function<void()> staged(rectangle r)
{
    auto bytes = std::make_shared<std::vector<char>>(r.width * r.height);
    copy({bytes->data(), r.width, r.from, r.from_pitch, r.width, r.height});
    r.from_pitch = r.width;
    return [r, bytes]() mutable {
        r.from = bytes->data();
        copy(r);
    };
}

static cudaError_t issue_copy(const char *call, const rectangle &r, cudaMemcpyKind kind,
                              cudaStream_t stream)
{
    if (r.width == 0 || r.height == 0)
        return cudaSuccess;
    if (cudaError_t wrong = check(call, r, kind))
        return wrong;
    bool from_pageable = kind_of(r.from, extent(r.from_pitch, r)) == PAGEABLE;
    bool to_pageable = kind_of(r.to, extent(r.to_pitch, r)) == PAGEABLE;
    if ((from_pageable || to_pageable) && is_capturing(stream)) {
        stream->captured->lost = true;
        return misuse(cudaErrorStreamCaptureUnsupported, "%s of pageable memory in a capture",
                      call);
    }
    cudaError_t error = issue(
        stream, from_pageable ? staged(r) : [r] { copy(r); });
    if (!error && to_pageable)
        finish(stream);
    return error;
}

cudaError_t copy_to_symbol(void *symbol, size_t size, const void *from, size_t bytes, size_t offset)
{
    API_CALL();
    if (offset + bytes > size)
        return misuse(cudaErrorInvalidValue, "cudaMemcpyToSymbol: %zu bytes at %zu of %zu", bytes,
                      offset, size);
    return issue(nullptr, [=] { memcpy((char *)symbol + offset, from, bytes); });
}

} // namespace emulated

using namespace emulated;

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    API_CALL();
    return issue_copy(__func__, {(char *)to, bytes, (const char *)from, bytes, bytes, 1}, kind,
                      stream);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind, cudaStream_t stream)
{
    API_CALL();
    if (width > to_pitch || width > from_pitch)
        return misuse(cudaErrorInvalidValue, "%s: rows of %zu bytes are wider than their pitch",
                      __func__, width);
    return issue_copy(__func__,
                      {(char *)to, to_pitch, (const char *)from, from_pitch, width, height}, kind,
                      stream);
}

cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t bytes,
                                cudaStream_t stream)
{
    API_CALL();
    return issue_copy(__func__, {(char *)to, bytes, (const char *)from, bytes, bytes, 1},
                      cudaMemcpyDeviceToDevice, stream);
}

/* On the default stream, and done when it returns. */
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    API_CALL();
    return issue_copy(__func__, {(char *)to, bytes, (const char *)from, bytes, bytes, 1}, kind,
                      nullptr);
}

static cudaError_t issue_fill(const char *call, void *memory, int byte, size_t bytes,
                              cudaStream_t stream)
{
    if (bytes == 0)
        return cudaSuccess;
    if (cudaError_t wrong = check_side(call, "the target", memory, bytes, true))
        return wrong;
    return issue(stream, [=] { memset(memory, byte, bytes); });
}

cudaError_t cudaMemsetAsync(void *memory, int byte, size_t bytes, cudaStream_t stream)
{
    API_CALL();
    return issue_fill(__func__, memory, byte, bytes, stream);
}

cudaError_t cudaMemset(void *memory, int byte, size_t bytes)
{
    API_CALL();
    return issue_fill(__func__, memory, byte, bytes, nullptr);
}
