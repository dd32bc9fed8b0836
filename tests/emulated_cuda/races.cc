#include "races.h"

#ifdef EMULATED_RACES

#include <algorithm>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <string>
#include <unistd.h>

#include "heap.h"
#include "report.h"
#include "scheduler.h"
#include "shared.h"
#include "symbols.h"

namespace emulated
{

/* Time is a number that grows with every barrier of any block, and for each warp one that grows
 * with every __syncwarp: what has an older one, is ordered before. */
struct moment {
    uint32_t block, warp;
};

struct access {
    moment when;
    int16_t lane;
    bool atomic, by_many_lanes, by_many_warps; // since that moment
    const void *pc;
};

struct cell { // of one byte
    access write, read;
};

static __thread uint32_t block_time, warp_time[MOST_THREADS / WARP];

void order_block()
{
    block_time++;
}

void order_warp(int warp)
{
    warp_time[warp]++;
}

static std::string source_of(const void *pc)
{
    char command[160], line[256] = "?";
    snprintf(command, sizeof command, "addr2line -Cspe /proc/%d/exe %#zx 2>/dev/null", getpid(),
             (size_t)((const char *)pc - program_start()) - 1);
    FILE *pipe = popen(command, "r");
    if (pipe && fgets(line, sizeof line, pipe))
        line[strcspn(line, "\n")] = 0;
    if (pipe)
        pclose(pipe);
    return line;
}

[[noreturn]] static void race(const char *mine, const void *pc, const char *theirs,
                              const access &other, size_t offset)
{
    die("race in shared memory, byte %zu: thread %s %s at %s what thread %s %s at %s, with no "
        "barrier between",
        offset, thread_name(self), mine, source_of(pc).c_str(),
        thread_name(&here->lanes[(size_t)other.lane]), theirs, source_of(other.pc).c_str());
}

/* Whether an access of another lane may happen at the same time as mine. */
static bool unordered(const access &a, int lane)
{
    int warp = lane / WARP;
    if (a.when.block != block_time)
        return false;
    if (a.lane / WARP != warp)
        return true;
    return a.when.warp == warp_time[warp] && (a.lane != lane || a.by_many_lanes);
}

static void note_read(cell *c, int lane, const void *pc, bool atomic, size_t offset)
{
    if (unordered(c->write, lane) && !(atomic && c->write.atomic))
        race("reads", pc, "writes", c->write, offset);
    access *r = &c->read;
    moment now_here = {block_time, warp_time[lane / WARP]};
    bool same_time = r->when.block == block_time;
    bool same_warp = r->lane / WARP == lane / WARP;
    bool many_warps = same_time && (r->by_many_warps || !same_warp);
    bool many_lanes = same_time && same_warp && r->when.warp == now_here.warp &&
                      (r->by_many_lanes || r->lane != lane);
    *r = {now_here, (int16_t)lane, atomic, many_lanes, many_warps, pc};
}

static void note_write(cell *c, int lane, const void *pc, bool atomic, size_t offset)
{
    if (unordered(c->write, lane) && !(atomic && c->write.atomic))
        race("writes", pc, "writes", c->write, offset);
    bool read_elsewhere = c->read.by_many_warps && c->read.when.block == block_time;
    if ((unordered(c->read, lane) || read_elsewhere) && !(atomic && c->read.atomic))
        race("writes", pc, "reads", c->read, offset);
    c->write = {{block_time, warp_time[lane / WARP]}, (int16_t)lane, atomic, false, false, pc};
}

/* The cell of a byte of shared memory, or null; made when a byte is first asked for. */
static cell *cell_of(const void *at)
{
    static thread_local std::vector<cell> cells;
    size_t index;
    if (!shared_index(at, &index))
        return nullptr;
    if (index >= cells.size())
        cells.resize(std::max(index + 1, 2 * cells.size()));
    return &cells[index];
}

void note_access(const void *at, size_t bytes, bool write, bool atomic, const void *pc)
{
    const char *p = (const char *)at;
    for (size_t i = 0; i < bytes; i++) {
        cell *c = cell_of(p + i);
        if (!c)
            return;
        if (write)
            note_write(c, self->index, pc, atomic, i);
        else
            note_read(c, self->index, pc, atomic, i);
    }
}

static bool inside(const void *at, const void *from, size_t bytes)
{
    return (uintptr_t)at - (uintptr_t)from < bytes;
}

/* What a lane may touch besides device memory and its stack: its arguments, the program's
 * constants, and what threadIdx and its like are made of. */
static bool is_own(const void *at)
{
    return inside(at, now->closure, now->closure_bytes) || inside(at, here, sizeof *here) ||
           inside(at, here->lanes.data(), here->lanes.size() * sizeof(lane)) ||
           inside(at, &self, sizeof self) || inside(at, &now, sizeof now) ||
           inside(at, program_start(), program_bytes());
}

static bool is_in_an_allocation(const void *at, size_t bytes)
{
    if (!inside(at, now->near, now->near_bytes)) {
        now->near = allocation_of(at, &now->near_bytes);
        if (!now->near)
            now->near_bytes = 0;
    }
    return inside((const char *)at + bytes - 1, now->near, now->near_bytes);
}

[[noreturn]] static void stray(const void *at, const char *does, const void *pc)
{
    if (kind_of(at, 1) == PAGEABLE)
        die("a kernel %s host memory that is not pinned: %p, at %s", does, at,
            source_of(pc).c_str());
    die("a kernel %s beyond its memory: %s, at %s", does, describe(at), source_of(pc).c_str());
}

/* Every access of a kernel's code. */
static void touch(const void *at, size_t bytes, bool write, const void *pc)
{
    if (!self || !self->in_kernel || inside(at, self->on->bottom, self->on->bytes))
        return;
    if (is_shared(at))
        note_access(at, bytes, write, false, pc);
    else if (!self->in_collective && !is_own(at)) {
        if (!is_in_an_allocation(at, bytes))
            stray(at, write ? "writes" : "reads", pc);
        if (write && now->kernel->early && !self->has_waited)
            die("a write that has not waited for the kernels before, at %s", source_of(pc).c_str());
    }
}

} // namespace emulated

using emulated::touch;

extern "C" {
void __tsan_init()
{
}
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit()
{
}
void __tsan_vptr_update(void **, void *)
{
}
void __tsan_read_range(void *at, size_t bytes)
{
    touch(at, bytes, false, __builtin_return_address(0));
}
void __tsan_write_range(void *at, size_t bytes)
{
    touch(at, bytes, true, __builtin_return_address(0));
}
#define EMULATED_TOUCH(name, bytes, write)                                                         \
    void name(void *at)                                                                            \
    {                                                                                              \
        touch(at, bytes, write, __builtin_return_address(0));                                      \
    }
#define EMULATED_TOUCHES(bytes)                                                                    \
    EMULATED_TOUCH(__tsan_read##bytes, bytes, false)                                               \
    EMULATED_TOUCH(__tsan_write##bytes, bytes, true)                                               \
    EMULATED_TOUCH(__tsan_unaligned_read##bytes, bytes, false)                                     \
    EMULATED_TOUCH(__tsan_unaligned_write##bytes, bytes, true)                                     \
    EMULATED_TOUCH(__tsan_volatile_read##bytes, bytes, false)                                      \
    EMULATED_TOUCH(__tsan_volatile_write##bytes, bytes, true)
EMULATED_TOUCHES(1)
EMULATED_TOUCHES(2)
EMULATED_TOUCHES(4)
EMULATED_TOUCHES(8)
EMULATED_TOUCHES(16)
}

#endif
