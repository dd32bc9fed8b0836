/* Signs of progress. Whatever works for long calls pulse() as it gets through its work; others see
 * the count move, and know a rank that is busy from one that is stuck. Beside it stands where the
 * rank is, for whoever must say what a lost one was wanted for.
 *
 * A pulse belongs to a rank: its own thread binds and moves it, any thread reads it. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pulse {
    _Atomic uint64_t count;
    _Atomic bool waiting; // for a message that may take any time to come
    _Atomic bool loading;
    _Atomic uint64_t step, finished;   // steps begun and ended
    _Atomic int rows, decoding, layer; // of the step: how many of its rows decode, -1: unknown
    _Atomic int64_t device_since_ns;   // it has waited for its GPU since then; 0: it does not
};

extern _Thread_local struct pulse *pulse_here; // NULL: nobody looks

static inline void pulse(void)
{
    struct pulse *p = pulse_here;
    if (p) // one writer: a load and a store will do
        atomic_store_explicit(&p->count, atomic_load_explicit(&p->count, memory_order_relaxed) + 1,
                              memory_order_relaxed);
}

/* The count as others are to see it at this time (clock_ns()). Nobody sees a GPU get on: while the
 * rank waits for its own, the count moves ten times a second, for two minutes, more than any step
 * takes. A GPU that takes longer counts as stuck. */
uint64_t pulse_seen(const struct pulse *p, int64_t now_ns);

/* This thread begins, and ends, to wait for its GPU. */
void pulse_device_begin(void);
void pulse_device_end(void);

/* Nothing is expected to move: the rank waits, or has neither weights to load nor a step to run. */
static inline bool pulse_rests(const struct pulse *p)
{
    return p->waiting || (!p->loading && p->step == p->finished);
}

/* This thread works for p from now on (NULL: for nobody). */
void pulse_bind(struct pulse *p);
void pulse_loading(bool loading);

/* A step of `rows` rows begins; it comes to a layer; it is done. pulse_decoding says beforehand how
 * many of the rows continue a sequence; the rest are prompts'. */
void pulse_decoding(int rows);
void pulse_step(int rows);
void pulse_layer(int layer);
void pulse_finished(void);

/* "in layer 12 of step 41 (prefill of 128 rows); last finished step: 40" */
void pulse_place(const struct pulse *p, char *out, size_t size);
