#include "shared.h"

#include <algorithm>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "report.h"
#include "sanitizers.h"
#include "symbols.h"

namespace emulated
{

enum { ALIGNMENT = 1024 };

static __thread char *open_memory;
static __thread size_t open_bytes, open_room;

struct suspended { // of a block that waits while another kernel runs
    char *memory;
    size_t bytes, room;
    std::vector<std::vector<char>> variables;
};
static thread_local std::vector<suspended> waiting;

static void suspend()
{
    suspended s = {open_memory, open_bytes, open_room, {}};
    for (const shared_variable &v : shared_variables())
        s.variables.push_back(std::vector<char>((const char *)v.at, (const char *)v.at + v.bytes));
    waiting.push_back(std::move(s));
}

static void resume()
{
    const suspended &s = waiting.back();
    size_t i = 0;
    for (const shared_variable &v : shared_variables())
        memcpy(v.at, s.variables[i++].data(), v.bytes);
    open_memory = s.memory;
    open_bytes = s.bytes;
    open_room = s.room;
    waiting.pop_back();
}

void *shared_open(size_t bytes)
{
    if (open_memory)
        suspend();
    open_bytes = bytes;
    open_room = (bytes + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    open_memory = (char *)aligned_alloc(ALIGNMENT, open_room);
    if (!open_memory)
        die("no memory for shared memory");
    poison(open_memory + bytes, open_room - bytes);
    return open_memory;
}

void shared_close()
{
    unpoison(open_memory, open_room);
    free(open_memory);
    open_memory = nullptr;
    if (!waiting.empty())
        resume();
}

void spoil_shared()
{
    memset(open_memory, 0xff, open_bytes);
    for (const shared_variable &v : shared_variables())
        memset(v.at, 0xff, v.bytes);
}

/* Static variables come first, one after the other. */
bool shared_index(const void *at, size_t *index)
{
    const char *p = (const char *)at;
    const std::vector<shared_variable> &all = shared_variables();
    size_t before = all.empty() ? 0 : all.back().index + all.back().bytes;
    if (open_memory && p >= open_memory && p < open_memory + open_bytes)
        return *index = before + (size_t)(p - open_memory), true;
    auto next = std::upper_bound(all.begin(), all.end(), p,
                                 [](const char *q, const shared_variable &v) { return q < v.at; });
    if (next == all.begin() || p >= std::prev(next)->at + std::prev(next)->bytes)
        return false;
    return *index = std::prev(next)->index + (size_t)(p - std::prev(next)->at), true;
}

bool is_shared(const void *at)
{
    size_t index;
    return shared_index(at, &index);
}

} // namespace emulated
