/* cp.async: a copy that really happens late. Until then its destination is poisoned, so that
 * whoever reads it too early is reported under AddressSanitizer, and reads old bytes without. */
#include <stdint.h>
#include <string.h>
#include <vector>

#include "block.h"
#include "races.h"
#include "report.h"
#include "sanitizers.h"
#include "shared.h"

namespace emulated
{

struct late_copy {
    void *to;
    const void *from;
    size_t bytes;
    bool zero, is_read; // what was there when it was read is in `found`
    char found[16];
};
struct lane_copies {
    std::vector<late_copy> copies; // of all groups not waited for, in order
    std::vector<size_t> closed;    // how many each closed group has; the rest is open
};
static thread_local lane_copies of_lanes[MOST_AT_ONCE][MOST_THREADS];

static lane_copies *copies_of(const lane *l)
{
    return &of_lanes[now->depth][l->index];
}

void copy_later(void *shared, const void *global, size_t bytes, bool zero)
{
    if (!is_shared(shared))
        die("cp.async to %p, which is not in shared memory", shared);
    if (bytes > sizeof late_copy().found || (uintptr_t)shared % bytes || (uintptr_t)global % bytes)
        die("cp.async of %zu bytes to %p from %p: not aligned", bytes, shared, global);
    note_access(shared, bytes, true, false, __builtin_return_address(0));
    poison(shared, bytes);
    copies_of(self)->copies.push_back({shared, global, bytes, zero, false, {}});
    self->pending_copies = true;
}

void close_copies()
{
    lane_copies *c = copies_of(self);
    size_t before = 0;
    for (size_t n : c->closed)
        before += n;
    c->closed.push_back(c->copies.size() - before);
    self->pending_copies = true;
}

static void copy_now(const late_copy &c, const void *pc)
{
    note_access(c.to, c.bytes, true, false, pc);
    unpoison(c.to, c.bytes);
    if (c.zero)
        memset(c.to, 0, c.bytes);
    else
        memcpy(c.to, c.is_read ? c.found : c.from, c.bytes);
}

/* Called before the lane waits for other lanes or for the grids before: the sources of its copies
 * are read now, so that what those write later is not copied. */
void read_copies()
{
    for (late_copy &c : copies_of(self)->copies)
        if (!c.zero && !c.is_read) {
            memcpy(c.found, c.from, c.bytes);
            c.is_read = true;
        }
}

void finish_copies(int but)
{
    lane_copies *c = copies_of(self);
    if (c->closed.size() <= (size_t)but)
        return;
    size_t groups = c->closed.size() - (size_t)but, n = 0;
    for (size_t i = 0; i < groups; i++)
        n += c->closed[i];
    for (size_t i = 0; i < n; i++)
        copy_now(c->copies[i], __builtin_return_address(0));
    c->closed.erase(c->closed.begin(), c->closed.begin() + (ptrdiff_t)groups);
    c->copies.erase(c->copies.begin(), c->copies.begin() + (ptrdiff_t)n);
    self->pending_copies = !c->copies.empty() || !c->closed.empty();
}

/* A lane may leave with copies under way: nobody reads them any more. */
void abandon_copies(lane *l)
{
    lane_copies *c = copies_of(l);
    for (const late_copy &copy : c->copies)
        unpoison(copy.to, copy.bytes);
    c->copies.clear();
    c->closed.clear();
}

} // namespace emulated
