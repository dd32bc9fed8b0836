/* Signs of progress. Code that may run for long calls pulse() as it gets through its work. Other
 * ranks see whether the count moves, and so tell a busy rank from a stuck one. The struct also says
 * what the rank is doing (which step, which layer), for the message about a lost rank.
 *
 * A pulse belongs to a rank. The rank's own thread binds and moves it, any thread reads it. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pulse {
    _Atomic uint64_t count;
    _Atomic bool waiting; // for a message that may take any time to come
    _Atomic bool loading;
    _Atomic uint64_t step, finished; // number of the last step that began, that ended; 0: none
    _Atomic int rows, layer;         // of step `step`
    _Atomic int decoding;            // how many of its rows decode; -1: unknown
    _Atomic int64_t device_since_ns; // when the rank began to wait for its GPU; 0: it does not wait
    /* What the rank's own thread does at each pulse (NULL: nothing more). It may not wait. */
    void (*meanwhile)(void *of);
    void *of;
};

extern _Thread_local struct pulse *pulse_here; // this thread's; NULL: it has none

static inline void pulse(void)
{
    struct pulse *p = pulse_here;
    if (!p)
        return;
    // only this thread writes it, so no atomic addition is needed
    atomic_store_explicit(&p->count, atomic_load_explicit(&p->count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    if (p->meanwhile)
        p->meanwhile(p->of);
}

/* The count that others are to see at the time now_ns (of clock_ns()). A host cannot see how far
 * its GPU is. So while the rank waits for its GPU, this count moves ten times a second for the
 * first two minutes, which is longer than any step takes. A GPU that takes longer counts as stuck.
 */
uint64_t pulse_seen(const struct pulse *p, int64_t now_ns);

/* This thread begins to wait for its GPU; it has waited. */
void pulse_device_begin(void);
void pulse_device_end(void);

/* Is the count not expected to move? The rank waits for a message, or has neither weights to load
 * nor a step to run. */
static inline bool pulse_rests(const struct pulse *p)
{
    return p->waiting || (!p->loading && p->step == p->finished);
}

/* From now on this thread's pulse() moves p (NULL: moves nothing). */
void pulse_bind(struct pulse *p);
void pulse_loading(bool loading);

/* A step of `rows` rows begins; it comes to a layer; it ends. Before pulse_step, pulse_decoding
 * says how many of the rows continue a sequence; the other rows are of prompts. */
void pulse_decoding(int rows);
void pulse_step(int rows);
void pulse_layer(int layer);
void pulse_finished(void);

/* Write what the rank is doing, in words for a message:
 * "in layer 12 of step 41 (prefill of 128 rows); last finished step: 40" */
void pulse_place(const struct pulse *p, char *out, size_t size);
