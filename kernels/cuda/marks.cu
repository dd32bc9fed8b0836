/* The marks of a log (base/trace.h) on this device. For each mark there is an event in the stream,
 * whose time is read between steps, and an NVTX range, which names the phase to an attached
 * profiler.
 *
 * CUDA only tells the time between two events. So each settle() ends with an event, the origin, for
 * which the host waits and reads its own clock; the times of the next marks count from it. So the
 * two clocks are compared anew every few dozen steps. */
#include <nvtx3/nvToolsExt.h>

#include "base/check.h"
#include "kernels/cuda/cuda.h"
extern "C" {
#include "base/clock.h"
#include "base/trace.h"
}

struct marks {
    struct trace_timer timer;
    cudaEvent_t *events; // [timer.room]
    size_t n;            // how many are recorded
    cudaEvent_t origin;
    int64_t origin_ns; // clock_ns() when the GPU came to it
    bool in_range;     // an NVTX range is open
};

static void name_phase(struct marks *m, const char *phase)
{
    if (m->in_range)
        nvtxRangePop();
    nvtxRangePushA(phase);
    m->in_range = true;
}

static void mark(void *of, const char *phase)
{
    struct dev *d = (struct dev *)of;
    struct marks *m = d->cuda->marks;
    CHECK(m->n < m->timer.room, "mark %zu, with room for %zu", m->n, m->timer.room);
    name_phase(m, phase);
    if (cuda_works(d))
        cuda_good(d, cudaEventRecord(m->events[m->n++], d->cuda->stream), "marking a phase");
}

/* Record the origin, and take the host's time of it: the middle between before and after. */
static bool set_origin(struct dev *d)
{
    struct marks *m = d->cuda->marks;
    int64_t before = clock_ns();
    bool good = cuda_good(d, cudaEventRecord(m->origin, d->cuda->stream), "marking the time") &&
                cuda_good(d, cudaEventSynchronize(m->origin), "computing");
    m->origin_ns = before + (clock_ns() - before) / 2;
    m->n = 0;
    return good;
}

static int settle(void *of, struct trace_event *events, size_t n)
{
    struct dev *d = (struct dev *)of;
    struct marks *m = d->cuda->marks;
    float ms;
    if (cuda_wait(d) != 0)
        return d->cuda->status;
    CHECK(n == m->n, "%zu marks, %zu of them told", n, m->n);
    for (size_t i = 0; i < n; i++) {
        if (!cuda_good(d, cudaEventElapsedTime(&ms, m->origin, m->events[i]), "reading a time"))
            return d->cuda->status;
        events[i].ns = m->origin_ns + (int64_t)((double)ms * 1e6);
    }
    return set_origin(d) ? 0 : d->cuda->status;
}

static bool open_events(struct dev *d, struct marks *m)
{
    if (!cuda_good(d, cudaEventCreate(&m->origin), "creating an event"))
        return false;
    for (size_t i = 0; i < m->timer.room; i++)
        if (!cuda_good(d, cudaEventCreate(&m->events[i]), "creating an event"))
            return false;
    return set_origin(d);
}

const struct trace_timer *cuda_time_marks(struct dev *d, size_t room)
{
    struct marks *m = (struct marks *)arena_alloc(&d->memory, sizeof *m);
    CHECK(!d->cuda->marks && !d->cuda->recording, "marks are timed already, or a graph recorded");
    m->timer = {d, room, mark, settle};
    m->events = (cudaEvent_t *)arena_alloc(&d->memory, room * sizeof *m->events);
    d->cuda->marks = m;
    if (cuda_works(d))
        open_events(d, m);
    return &m->timer;
}

void cuda_marks_close(struct dev *d)
{
    struct marks *m = d->cuda->marks;
    if (!m)
        return;
    if (m->in_range)
        nvtxRangePop();
    for (size_t i = 0; i < m->timer.room; i++)
        if (m->events[i])
            cudaEventDestroy(m->events[i]);
    if (m->origin)
        cudaEventDestroy(m->origin);
}
