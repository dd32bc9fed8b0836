/* Which lane runs next. One scheduler per OS thread that has run a kernel: stacks are costly. */
#pragma once

#include <vector>

#include "block.h"
#include "fiber.h"

namespace emulated
{

struct warp_state { // bits of lanes
    unsigned waiting, left;
};

enum { READY_RING = 2 * MOST_THREADS };

struct scheduler {
    running run;
    fiber host = {};          // the OS thread's own stack
    fiber *current = nullptr; // that the host has resumed
    fiber *free = nullptr;    // fibers that run no lane
    std::vector<lane> lanes;
    std::vector<warp_state> warps;
    lane *ready[READY_RING]; // first come, first served
    size_t head = 0, tail = 0;
    int started = 0, left = 0, at_barrier = 0;
    lane *first_left = nullptr, *first_at_barrier = nullptr;
    int yields = 0;                 // since a lane left
    std::function<void()> previous; // runs the grids before; null: they are over
    bool anyone_waited = false;     // for them
    bool yielded = false;           // the last lane lets others begin
    bool backwards = false;         // the order of threads at the start and after each barrier

    ~scheduler(); // when its OS thread ends
};

extern __thread scheduler *here;

/* The running lane stops until someone makes it ready. */
void wait(lane_state state);
void make_ready(lane *l);

bool same_place(const site &a, const site &b);
[[noreturn]] void apart(const char *what, const lane *a, const lane *b);
[[noreturn]] void left_while_waiting(const lane *gone, const lane *waits);

} // namespace emulated
