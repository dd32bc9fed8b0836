extern "C" {
#include "kernels/side.h"
}
#include "kernels/cuda/cuda.h"

static cudaStream_t stream_of(const struct side *s)
{
    return (cudaStream_t)s->stream;
}

int side_open(struct side *s, struct dev *gpu)
{
    cudaStream_t stream = NULL;
    cudaEvent_t event = NULL;
    int least, most;
    bool good = cuda_good(gpu, cudaDeviceGetStreamPriorityRange(&least, &most), "its priorities") &&
                cuda_good(gpu, cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, most),
                          "creating a stream") &&
                cuda_good(gpu, cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
                          "creating an event");
    *s = {gpu, stream, event};
    if (!good)
        side_close(s);
    return gpu->cuda->status;
}

void side_close(struct side *s)
{
    if (s->event)
        cudaEventDestroy((cudaEvent_t)s->event);
    if (s->stream)
        cudaStreamDestroy(stream_of(s));
    *s = {};
}

void side_follow(struct side *s)
{
    if (cuda_works(s->dev) &&
        cuda_good(s->dev, cudaEventRecord((cudaEvent_t)s->event, s->dev->cuda->stream),
                  "recording an event"))
        cuda_good(s->dev, cudaStreamWaitEvent(stream_of(s), (cudaEvent_t)s->event, 0),
                  "waiting for an event");
}

bool side_is_done(struct side *s)
{
    if (!cuda_works(s->dev))
        return true;
    cudaError_t state = cudaStreamQuery(stream_of(s));
    if (state != cudaErrorNotReady)
        return cuda_good(s->dev, state, "moving rows"), true;
    cudaGetLastError(); // clear it: CUDA keeps "not ready" as the thread's last error
    return false;
}

int side_status(const struct side *s)
{
    return s->dev->cuda->status;
}
