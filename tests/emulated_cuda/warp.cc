/* Operations of a warp: lanes wait until all of the mask have come. */
#include <string.h>

#include "block.h"
#include "races.h"
#include "report.h"
#include "scheduler.h"

namespace emulated
{

static void check_mask(const lane *me, const lane *first, unsigned left)
{
    int lanes = here->run.n - first->index;
    unsigned there = lanes >= WARP ? 0xffffffffu : (1u << lanes) - 1;
    if (!(me->mask >> me->index % WARP & 1))
        die("%s (%s:%d): mask 0x%08x does not name the calling lane", me->at.what, me->at.file,
            me->at.line, me->mask);
    if (me->mask & ~there)
        die("%s (%s:%d): mask 0x%08x names lanes that this block's last warp has not", me->at.what,
            me->at.file, me->at.line, me->mask);
    if (me->mask & left)
        left_while_waiting(first + __builtin_ctz(me->mask & left), me);
}

static void check_same(const lane *me, const lane *other)
{
    if (!same_place(me->at, other->at))
        apart("divergence in a warp", me, other);
    if (me->mask != other->mask)
        die("%s (%s:%d): mask 0x%08x here, 0x%08x in thread %s", me->at.what, me->at.file,
            me->at.line, me->mask, other->mask, thread_name(other));
}

/* A waiting lane that has me in its mask, and is in mine, must be at the same operation with the
 * same mask. A lane that is not in my mask may wait for me elsewhere. */
static void check_company(const lane *me, const lane *first, unsigned waiting)
{
    for (waiting &= me->mask; waiting; waiting &= waiting - 1) {
        const lane *other = first + __builtin_ctz(waiting);
        if (other->mask >> me->index % WARP & 1) {
            check_same(me, other);
            return; // and the others are where this one is
        }
    }
}

/* Whether my mask has come together: some of it may still wait elsewhere, among themselves. */
static bool all_came(const lane *me, const lane *first, unsigned waiting)
{
    if ((waiting & me->mask) != me->mask)
        return false;
    for (unsigned bits = me->mask; bits; bits &= bits - 1)
        if (first[__builtin_ctz(bits)].mask != me->mask)
            return false;
    return true;
}

/* Compute for all, and let the others go on. */
static void complete(lane *me, lane *first, collective *f)
{
    const void *ins[WARP] = {};
    void *outs[WARP] = {};
    for (unsigned bits = me->mask; bits; bits &= bits - 1) {
        int i = __builtin_ctz(bits);
        ins[i] = first[i].in;
        outs[i] = first[i].out;
    }
    me->in_collective = true;
    f(me->mask, ins, outs);
    me->in_collective = false;
    if (me->mask == 0xffffffffu && strcmp(me->at.what, "__syncwarp") == 0)
        order_warp(me->index / WARP);
    for (unsigned bits = me->mask; bits; bits &= bits - 1)
        if (first + __builtin_ctz(bits) != me)
            make_ready(first + __builtin_ctz(bits));
}

void collect(site at, unsigned mask, const void *in, void *out, collective *f)
{
    lane *me = self, *first = me - me->index % WARP;
    warp_state *w = &here->warps[(size_t)(me->index / WARP)];
    me->at = at;
    me->mask = mask;
    me->in = in;
    me->out = out;
    check_mask(me, first, w->left);
    check_company(me, first, w->waiting);
    w->waiting |= 1u << me->index % WARP;
    if (!all_came(me, first, w->waiting)) {
        wait(AT_WARP);
        return;
    }
    w->waiting &= ~mask;
    complete(me, first, f);
}

} // namespace emulated
