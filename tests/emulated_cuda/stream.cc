#include "stream.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api.h"
#include "block.h"
#include "heap.h"

namespace emulated
{

enum { LONGEST_QUEUE = 512 };

static std::vector<CUstream_st *> streams;

uint64_t next_random()
{
    static uint64_t state = [] {
        const char *seed = getenv("EPMOE_EMULATED_SEED");
        return seed ? strtoull(seed, nullptr, 10) : 1;
    }();
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 33;
}

static bool runnable(const CUstream_st *s)
{
    return !s->queue.empty() && (!s->queue.front().wait || s->queue.front().wait->done);
}

int run_task(const task &first, const std::function<const task *()> &next)
{
    if (!first.kernel) {
        if (first.run)
            first.run();
        return 1;
    }
    kernel_chain chain = {first.kernel};
    while (chain.size() < MOST_AT_ONCE && next_random() % 4)
        if (const task *follows = next())
            chain.push_back(follows->kernel);
        else
            break;
    run_grids(chain);
    return (int)chain.size();
}

static void step(CUstream_st *s)
{
    work w = std::move(s->queue.front());
    std::vector<work> early;
    s->queue.pop_front();
    s->done += (uint64_t)run_task(w.todo, [&]() -> const task * {
        if (s->queue.empty())
            return nullptr;
        const task &front = s->queue.front().todo;
        if (!front.kernel || !front.kernel->early)
            return nullptr;
        early.push_back(std::move(s->queue.front()));
        s->queue.pop_front();
        return &early.back().todo;
    });
}

/* The stream that must move for s to get on; NULL: another rank must. */
static CUstream_st *needed(CUstream_st *s)
{
    while (s && !runnable(s))
        s = s->queue.front().wait->on;
    return s;
}

static std::condition_variable_any happened;

void something_happened()
{
    happened.notify_all();
}

void let_others_act()
{
    happened.wait_for(api_lock, std::chrono::milliseconds(1));
}

static CUstream_st *any_runnable(const CUstream_st *except)
{
    std::vector<CUstream_st *> some;
    for (CUstream_st *s : streams)
        if (s != except && runnable(s))
            some.push_back(s);
    return some.empty() ? nullptr : some[next_random() % some.size()];
}

static bool is_open(const CUstream_st *s)
{
    return std::find(streams.begin(), streams.end(), s) != streams.end();
}

enum order { NEEDED, OTHERS_FIRST, ANY };

/* What runs next on the way to getting s on; NULL: another host thread must act first. */
static CUstream_st *choose(CUstream_st *s, order o)
{
    CUstream_st *next = o == NEEDED ? nullptr : any_runnable(o == OTHERS_FIRST ? s : nullptr);
    if (!next)
        next = needed(s);
    return next ? next : any_runnable(nullptr); // it may be what brings another rank on
}

/* False: it takes another host thread. */
static bool try_until(CUstream_st *s, uint64_t done)
{
    order o = (order)(next_random() % 3);
    device_memory_open work_begins;
    while (s->done < done) {
        CUstream_st *next = choose(s, o);
        if (!next)
            return false;
        step(next);
    }
    return true;
}

static void run_until(CUstream_st *s, uint64_t done)
{
    while (is_open(s) && !try_until(s, done))
        let_others_act();
}

static void finish_streams(int device, bool only_blocking)
{
    std::vector<CUstream_st *> all = streams; // others may open and close some meanwhile
    for (CUstream_st *s : all)
        if (is_open(s) && s->device == device && (s->blocking || !only_blocking))
            run_until(s, s->issued);
}

static void finish_blocking(int device)
{
    finish_streams(device, true);
}

void finish_device(int device)
{
    finish_streams(device, false);
}

void finish(cudaStream_t stream)
{
    if (stream)
        run_until(stream, stream->issued);
    else
        finish_blocking(current_device());
}

static void queue(CUstream_st *s, work w)
{
    s->queue.push_back(std::move(w));
    s->issued++;
    if (s->queue.size() > LONGEST_QUEUE)
        run_until(s, s->issued - LONGEST_QUEUE / 2);
}

void wait_for(cudaStream_t stream, std::shared_ptr<marker> m)
{
    queue(stream, {std::function<void()>(), std::move(m)});
}

cudaError_t issue(cudaStream_t stream, task todo)
{
    if (is_capturing(stream))
        return record_node(stream, std::move(todo));
    if (stream) {
        queue(stream, {std::move(todo), nullptr});
        return cudaSuccess;
    }
    if (cudaError_t refused = refuse_in_capture("work on the default stream"))
        return refused;
    finish_blocking(current_device());
    device_memory_open work_begins;
    run_task(todo, [] { return nullptr; });
    return cudaSuccess;
}

static double now_milliseconds()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void happen(marker *m)
{
    m->done = true;
    m->milliseconds = now_milliseconds();
}

} // namespace emulated

using namespace emulated;

static CUstream_st *new_stream(unsigned int flags)
{
    streams.push_back(new CUstream_st());
    streams.back()->device = current_device();
    streams.back()->blocking = !(flags & cudaStreamNonBlocking);
    return streams.back();
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned int flags, int)
{
    API_CALL();
    *stream = new_stream(flags);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags)
{
    API_CALL();
    *stream = new_stream(flags);
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    API_CALL();
    *stream = new_stream(cudaStreamDefault);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    API_CALL();
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    API_CALL();
    auto found = std::find(streams.begin(), streams.end(), stream);
    if (found == streams.end())
        return misuse(cudaErrorInvalidResourceHandle, "cudaStreamDestroy of no stream");
    if (stream->captured)
        leave_capture(stream->captured.get());
    finish(stream);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    API_CALL();
    if (cudaError_t refused = refuse_in_capture(__func__))
        return refused;
    finish(stream);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    API_CALL();
    if (cudaError_t refused = refuse_in_capture(__func__))
        return refused;
    finish_device(current_device());
    return cudaSuccess;
}

/* Asking makes progress, or a program that asks until it is done would never be. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    API_CALL();
    if (cudaError_t refused = refuse_in_capture(__func__))
        return refused;
    if (!stream)
        return cudaSuccess;
    if (stream->done == stream->issued)
        return cudaSuccess;
    try_until(stream, stream->done + 1);
    return failed(cudaErrorNotReady); // CUDA keeps it, too
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int)
{
    API_CALL();
    if (event->capture) {
        if (stream->captured && stream->captured != event->capture)
            return misuse(cudaErrorInvalidValue, "cudaStreamWaitEvent: the event belongs to "
                                                 "another capture");
        if (!stream->captured) {
            stream->captured = event->capture;
            stream->captured->streams.push_back(stream);
            stream->frontier.clear();
        }
        stream->frontier.insert(stream->frontier.end(), event->frontier.begin(),
                                event->frontier.end());
        return cudaSuccess;
    }
    if (is_capturing(stream)) {
        stream->captured->lost = true;
        return misuse(cudaErrorStreamCaptureUnsupported,
                      "cudaStreamWaitEvent: a captured stream waits for an event from outside");
    }
    if (!event->last || event->last->done)
        return cudaSuccess;
    if (stream)
        wait_for(stream, event->last);
    else
        run_until(event->last->on, event->last->on->issued);
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
    API_CALL();
    return issue(stream, [=] { function(data); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags)
{
    API_CALL();
    *event = new CUevent_st{!(flags & cudaEventDisableTiming), {}, {}, {}};
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    API_CALL();
    *event = new CUevent_st{true, {}, {}, {}};
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    API_CALL();
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    API_CALL();
    if (is_capturing(stream)) {
        event->capture = stream->captured;
        event->frontier = stream->frontier;
        return cudaSuccess;
    }
    event->capture = nullptr;
    event->last = std::make_shared<marker>(marker{stream, false, 0});
    return issue(stream, [m = event->last] { happen(m.get()); });
}

static cudaError_t captured_event(const char *call, cudaEvent_t event)
{
    if (cudaError_t refused = refuse_in_capture(call))
        return refused;
    if (event->capture)
        return misuse(cudaErrorCapturedEvent, "%s: the event was recorded in a capture", call);
    return cudaSuccess;
}

static void finish_event(const marker *m)
{
    while (!m->done)
        run_until(m->on, m->on->done + 1);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    API_CALL();
    if (cudaError_t refused = captured_event(__func__, event))
        return refused;
    if (event->last)
        finish_event(event->last.get());
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    API_CALL();
    if (cudaError_t refused = captured_event(__func__, event))
        return refused;
    if (!event->last || event->last->done)
        return cudaSuccess;
    try_until(event->last->on, event->last->on->done + 1);
    return failed(cudaErrorNotReady); // CUDA keeps it, too
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    API_CALL();
    if (!start->timed || !end->timed || !start->last || !end->last)
        return misuse(cudaErrorInvalidResourceHandle,
                      "cudaEventElapsedTime: an event was not recorded, or is without timing");
    if (!start->last->done || !end->last->done)
        return failed(cudaErrorNotReady); // CUDA keeps it, too
    *milliseconds = (float)(end->last->milliseconds - start->last->milliseconds);
    return cudaSuccess;
}
