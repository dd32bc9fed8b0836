/* cp.async: a copy that really happens late. Until then its destination is poisoned, so that
 * whoever reads it too early is reported under AddressSanitizer, and reads old bytes without. */
#include <deque>
#include <stdint.h>
#include <string.h>
#include <vector>

#include "block.h"
#include "report.h"
#include "sanitizers.h"
#include "shared.h"

namespace emulated
{

struct late_copy {
    void *to;
    const void *from;
    size_t bytes;
    bool zero;
};
typedef std::vector<late_copy> copy_group;

struct lane_copies {
    copy_group open;
    std::deque<copy_group> closed;
};
static thread_local lane_copies of_lane[MOST_THREADS];

void copy_later(void *shared, const void *global, size_t bytes, bool zero)
{
    if (!is_shared(shared))
        die("cp.async to %p, which is not in shared memory", shared);
    if ((uintptr_t)shared % bytes || (uintptr_t)global % bytes)
        die("cp.async of %zu bytes to %p from %p: not aligned", bytes, shared, global);
    poison(shared, bytes);
    of_lane[self->index].open.push_back({shared, global, bytes, zero});
    self->pending_copies = true;
}

void close_copies()
{
    lane_copies *c = &of_lane[self->index];
    c->closed.push_back(std::move(c->open));
    c->open.clear();
    self->pending_copies = true;
}

void finish_copies(int but)
{
    lane_copies *c = &of_lane[self->index];
    for (; c->closed.size() > (size_t)but; c->closed.pop_front())
        for (const late_copy &l : c->closed.front()) {
            unpoison(l.to, l.bytes);
            if (l.zero)
                memset(l.to, 0, l.bytes);
            else
                memcpy(l.to, l.from, l.bytes);
        }
    self->pending_copies = !c->closed.empty() || !c->open.empty();
}

/* A lane may leave with copies under way: nobody reads them any more. */
void abandon_copies(lane *l)
{
    lane_copies *c = &of_lane[l->index];
    c->closed.push_back(std::move(c->open));
    c->open.clear();
    for (const copy_group &g : c->closed)
        for (const late_copy &copy : g)
            unpoison(copy.to, copy.bytes);
    c->closed.clear();
}

} // namespace emulated
