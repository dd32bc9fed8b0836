#include "base/pulse.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"

enum { MOST_DEVICE_BEATS = 1200 };
static const int64_t device_beat_ns = 100000000;

_Thread_local struct pulse *pulse_here;

void pulse_bind(struct pulse *p)
{
    pulse_here = p;
}

static uint64_t device_beats(const struct pulse *p, int64_t now_ns)
{
    int64_t since = p->device_since_ns, beats = since ? (now_ns - since) / device_beat_ns : 0;
    return (uint64_t)(beats < 0 ? 0 : beats < MOST_DEVICE_BEATS ? beats : MOST_DEVICE_BEATS);
}

uint64_t pulse_seen(const struct pulse *p, int64_t now_ns)
{
    return p->count + device_beats(p, now_ns);
}

void pulse_device_begin(void)
{
    if (pulse_here)
        pulse_here->device_since_ns = clock_ns();
}

/* The beats of the wait are added to the count, so that the count others see never falls. */
void pulse_device_end(void)
{
    struct pulse *p = pulse_here;
    if (!p)
        return;
    p->count += device_beats(p, clock_ns());
    p->device_since_ns = 0;
}

void pulse_loading(bool loading)
{
    pulse();
    if (pulse_here)
        pulse_here->loading = loading;
}

void pulse_decoding(int rows)
{
    if (pulse_here)
        pulse_here->decoding = rows;
}

void pulse_step(int rows)
{
    struct pulse *p = pulse_here;
    if (!p)
        return;
    pulse(); // first: from step++ on the rank does not rest, and the count must have moved by then
    p->rows = rows;
    p->layer = 0;
    p->step++;
}

void pulse_layer(int layer)
{
    pulse();
    if (pulse_here)
        pulse_here->layer = layer;
}

void pulse_finished(void)
{
    struct pulse *p = pulse_here;
    if (!p)
        return;
    p->finished = p->step;
    p->decoding = -1;
}

/* "prefill of 128 rows", "decode of 3 rows", "prefill of 125 and decode of 3 rows" */
static void phase(char *out, size_t size, int rows, int decoding)
{
    int prompt = rows - decoding;
    if (decoding < 0)
        snprintf(out, size, "%d row%s", rows, rows == 1 ? "" : "s");
    else if (decoding == 0)
        snprintf(out, size, "prefill of %d row%s", rows, rows == 1 ? "" : "s");
    else if (prompt == 0)
        snprintf(out, size, "decode of %d row%s", rows, rows == 1 ? "" : "s");
    else
        snprintf(out, size, "prefill of %d and decode of %d rows", prompt, decoding);
}

void pulse_place(const struct pulse *p, char *out, size_t size)
{
    uint64_t step = p->step, finished = p->finished;
    char text[96];
    if (step > finished) {
        phase(text, sizeof text, p->rows, p->decoding);
        int n = snprintf(out, size, "in layer %d of step %" PRIu64 " (%s); ", p->layer, step, text);
        if (finished)
            snprintf(out + n, size - (size_t)n, "last finished step: %" PRIu64, finished);
        else
            snprintf(out + n, size - (size_t)n, "no step was finished");
    } else if (finished) {
        snprintf(out, size, "between steps; last finished step: %" PRIu64, finished);
    } else {
        snprintf(out, size, "%s; no step was finished",
                 p->loading ? "while loading" : "before the first step");
    }
}
