#include "shared.h"

#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "sanitizers.h"
#include "symbols.h"

namespace emulated
{

enum { ALIGNMENT = 1024 };

static __thread char *open_memory;
static __thread size_t open_bytes, open_room;

void *shared_open(size_t bytes)
{
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
}

void spoil_shared()
{
    memset(open_memory, 0xff, open_bytes);
    for (const shared_variable &v : shared_variables())
        memset(v.at, 0xff, v.bytes);
}

bool is_shared(const void *at)
{
    const char *p = (const char *)at;
    if (open_memory && p >= open_memory && p < open_memory + open_bytes)
        return true;
    for (const shared_variable &v : shared_variables())
        if (p >= v.at && p < v.at + v.bytes)
            return true;
    return false;
}

} // namespace emulated
