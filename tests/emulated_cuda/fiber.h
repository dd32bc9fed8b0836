/* Stacks to switch between: by hand on x86-64, by ucontext elsewhere; known to AddressSanitizer. */
#pragma once

#include <stddef.h>

namespace emulated
{

struct fiber {
    void *stack; // its pointer (x86-64) or ucontext_t, while it is not running
    void (*body)();
    const void *bottom; // of its memory
    size_t bytes;
    void *fake; // AddressSanitizer's
    fiber *next_free;
};

/* A fiber that will run body, which must not return, until it is freed by its OS thread. */
fiber *fiber_new(void (*body)());
void fiber_free(fiber *f); // not the running one

/* Leave `from`, which is running, and go on with `to`; returns when someone switches back. */
void fiber_switch(fiber *from, fiber *to);

} // namespace emulated
