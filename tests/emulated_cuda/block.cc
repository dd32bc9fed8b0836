#include "block.h"

#include <string.h>

#include <memory>
#include <utility>

#include "races.h"
#include "report.h"
#include "scheduler.h"
#include "shared.h"
#include "stream.h"

namespace emulated
{

enum { MOST_YIELDS = 1 << 20 };

__thread lane *self;
__thread running *now;
__thread scheduler *here;

void make_ready(lane *l)
{
    l->state = READY;
    here->ready[here->tail++ % READY_RING] = l;
}

/* Who goes on now; null: a lane that has not begun, which is the host's affair. */
static lane *next_ready()
{
    scheduler *s = here;
    if (s->head == s->tail || (s->yielded && s->started < s->run.n))
        return nullptr;
    s->yielded = false;
    return s->ready[s->head++ % READY_RING];
}

void wait(lane_state state)
{
    lane *me = self;
    me->state = state;
    lane *next = next_ready();
    if (next != me)
        fiber_switch(me->on, next ? next->on : &here->host);
    self = me;
    me->state = RUNNING;
}

void left_while_waiting(const lane *gone, const lane *waits)
{
    self = nullptr;
    die("divergence: thread %s has left the kernel while thread %s waits in %s (%s:%d)",
        thread_name(gone), thread_name(waits), waits->at.what, waits->at.file, waits->at.line);
}

void apart(const char *what, const lane *a, const lane *b)
{
    self = nullptr;
    die("%s: thread %s is in %s (%s:%d), thread %s in %s (%s:%d)", what, thread_name(a), a->at.what,
        a->at.file, a->at.line, thread_name(b), b->at.what, b->at.file, b->at.line);
}

bool same_place(const site &a, const site &b)
{
    return a.line == b.line && (a.what == b.what || strcmp(a.what, b.what) == 0) &&
           (a.file == b.file || strcmp(a.file, b.file) == 0);
}

static lane *in_order(int i)
{
    return &here->lanes[(size_t)(here->backwards ? here->run.n - 1 - i : i)];
}

static lane *someone(lane_state state)
{
    for (lane &l : here->lanes)
        if (l.state == state)
            return &l;
    return nullptr;
}

/* A lane that has left never comes: who counts on it would wait for ever. */
static void leave(lane *l)
{
    warp_state *w = &here->warps[(size_t)(l->index / WARP)];
    unsigned bit = 1u << l->index % WARP;
    l->state = LEFT;
    here->yields = 0;
    w->left |= bit;
    here->left++;
    if (!here->first_left)
        here->first_left = l;
    if (here->at_barrier)
        left_while_waiting(l, here->first_at_barrier);
    for (unsigned others = w->waiting; others; others &= others - 1) {
        const lane *other = l - l->index % WARP + __builtin_ctz(others);
        if (other->mask & bit)
            left_while_waiting(l, other);
    }
    if (l->pending_copies)
        abandon_copies(l);
}

/* A fiber's life: lane after lane, each to its end, however often it waits in between. */
static void run_lanes()
{
    scheduler *s = here;
    fiber *mine = s->current;
    for (;;) {
        while (s->started < s->run.n) {
            self = in_order(s->started++);
            self->state = RUNNING;
            self->on = mine;
            s->run.kernel->body();
            leave(self);
        }
        self = nullptr;
        mine->next_free = s->free;
        s->free = mine;
        fiber_switch(mine, &s->host);
    }
}

static void resume(fiber *f)
{
    here->current = f;
    fiber_switch(&here->host, f);
}

static fiber *take_fiber()
{
    fiber *f = here->free;
    here->yielded = false;
    if (!f)
        return fiber_new(run_lanes);
    here->free = f->next_free;
    return f;
}

void wait_for_previous()
{
    here->anyone_waited = true;
    self->at = {"wait_for_previous", "", 0};
    if (here->previous) {
        read_copies();
        wait(AT_PREVIOUS);
    }
    self->has_waited = true;
}

/* No lane can go on but those that wait for the grids before: run these, then wake the lanes. */
static bool run_previous()
{
    if (!here->previous || !someone(AT_PREVIOUS))
        return false;
    std::function<void()> previous = std::move(here->previous);
    here->previous = nullptr;
    previous();
    for (int i = 0; i < here->run.n; i++)
        if (in_order(i)->state == AT_PREVIOUS)
            make_ready(in_order(i));
    return true;
}

[[noreturn]] static void stuck()
{
    const lane *a = someone(AT_WARP), *b = someone(AT_BARRIER);
    if (a && b)
        apart("divergence", a, b);
    self = nullptr;
    die("threads wait for ever: thread %s in %s (%s:%d) with mask 0x%08x", thread_name(a),
        a->at.what, a->at.file, a->at.line, a->mask);
}

/* Ready lanes first, so that a warp stays together; then a fiber for those that have not begun. */
static void run_to_the_end()
{
    scheduler *s = here;
    while (s->left < s->run.n) {
        lane *next = next_ready();
        if (next)
            resume(next->on);
        else if (s->started < s->run.n)
            resume(take_fiber());
        else if (!run_previous())
            stuck();
    }
}

static void prepare_lanes()
{
    scheduler *s = here;
    dim3 b = s->run.block;
    for (int i = 0; i < s->run.n; i++) {
        unsigned u = (unsigned)i;
        lane l = {};
        l.index = i;
        l.thread = {u % b.x, u / b.x % b.y, u / b.x / b.y};
        s->lanes[(size_t)i] = l;
    }
    for (warp_state &w : s->warps)
        w = {0, 0};
    s->started = s->left = s->at_barrier = s->yields = 0;
    s->first_left = s->first_at_barrier = nullptr;
    s->head = s->tail = 0;
}

static void run_block(uint3 index)
{
    here->run.index = index;
    here->backwards = (index.x + index.y + index.z) & 1;
    order_block();
    prepare_lanes();
    spoil_shared();
    run_to_the_end();
}

static void reduce_predicates(reduction how)
{
    int sum = 0, n = here->run.n;
    for (const lane &l : here->lanes)
        sum += l.result != 0;
    int result = how == COUNT ? sum : how == AND ? sum == n : sum != 0;
    for (lane &l : here->lanes)
        l.result = result;
}

/* Release in the order opposite to the last time: a missing barrier that one order hides shows in
 * the other. */
static void release_barrier()
{
    order_block();
    here->at_barrier = 0;
    here->first_at_barrier = nullptr;
    here->backwards = !here->backwards;
    for (int i = 0; i < here->run.n; i++)
        make_ready(in_order(i));
}

int barrier(site at, reduction how, int predicate)
{
    lane *me = self;
    me->at = at;
    me->result = predicate;
    if (here->left)
        left_while_waiting(here->first_left, me);
    if (!here->at_barrier)
        here->first_at_barrier = me;
    else if (!same_place(here->first_at_barrier->at, at))
        apart("divergent barrier", me, here->first_at_barrier);
    if (++here->at_barrier < here->run.n) {
        wait(AT_BARRIER);
    } else {
        reduce_predicates(how);
        release_barrier();
        wait(READY);
    }
    return me->result;
}

/* Another block's lanes never run meanwhile, nor does the host: who waits for those is stuck. */
void yield()
{
    if (++here->yields > MOST_YIELDS)
        die("a thread spins for ever: blocks run one after another here");
    here->yielded = true;
    make_ready(self);
    wait(READY);
}

scheduler::~scheduler()
{
    while (free) {
        fiber *f = free;
        free = f->next_free;
        fiber_free(f);
    }
    here = nullptr;
}

/* One scheduler for each kernel under way on this OS thread. */
static thread_local std::vector<std::unique_ptr<scheduler>> schedulers;

static void begin_grid(const kernel_launch &k, int depth)
{
    while (schedulers.size() <= (size_t)depth)
        schedulers.emplace_back(new scheduler);
    scheduler *s = here = schedulers[(size_t)depth].get();
    size_t n = (size_t)k.block.x * k.block.y * k.block.z;
    s->run = {};
    s->run.kernel = &k;
    s->run.grid = k.grid;
    s->run.block = k.block;
    s->run.n = (int)n;
    s->run.depth = depth;
    s->run.shared = shared_open(k.shared_bytes);
    s->anyone_waited = false;
    s->lanes.resize(n);
    s->warps.resize((n + WARP - 1) / WARP);
    now = &s->run;
}

static uint3 block_index(const kernel_launch &k, uint64_t i)
{
    uint64_t row = i / k.grid.x;
    return {(unsigned)(i % k.grid.x), (unsigned)(row % k.grid.y), (unsigned)(row / k.grid.y)};
}

/* A block of chance begins, and goes on when the grids before are over; then the others. Only one
 * can be suspended, since a block's static memory is the program's. */
static void run_grid(const kernel_launch &k, std::function<void()> previous, int depth)
{
    scheduler *outer = here;
    running *outer_now = now;
    log_run(k);
    begin_grid(k, depth);
    uint64_t n = (uint64_t)k.grid.x * k.grid.y * k.grid.z, first = previous ? next_random() % n : 0;
    here->previous = std::move(previous);
    run_block(block_index(k, first));
    if (here->previous) // it had no need to wait
        std::exchange(here->previous, nullptr)();
    for (uint64_t i = 0; i < n; i++)
        if (i != first)
            run_block(block_index(k, i));
    if (k.early && !here->anyone_waited)
        die("launched early, and no thread has waited for the kernels before");
    shared_close();
    here = outer;
    now = outer_now;
}

void run_grids(const kernel_chain &chain)
{
    std::function<void(size_t, int)> run = [&](size_t i, int depth) {
        std::function<void()> previous;
        if (i > 0)
            previous = [&, i, depth] { run(i - 1, depth + 1); };
        run_grid(*chain[i], previous, depth);
    };
    run(chain.size() - 1, 0);
}

} // namespace emulated
