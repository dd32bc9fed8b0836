#include "base/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The number after `key`, of the first line that begins with both; UINT64_MAX when there is none.
 */
static uint64_t number_in(const char *path, const char *key)
{
    char line[256];
    size_t n = strlen(key);
    uint64_t value, found = UINT64_MAX;
    FILE *f = fopen(path, "r");
    while (f && found == UINT64_MAX && fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && sscanf(line + n, "%" SCNu64, &value) == 1)
            found = value;
    if (f)
        fclose(f);
    return found;
}

/* What the control group (version 2) still allows; UINT64_MAX when it sets no limit. The group
 * counts the page cache as used, but the kernel gives cached pages back on demand. */
static uint64_t group_available(void)
{
    uint64_t most = number_in("/sys/fs/cgroup/memory.max", "");
    uint64_t used = number_in("/sys/fs/cgroup/memory.current", "");
    uint64_t cache = number_in("/sys/fs/cgroup/memory.stat", "file ");
    if (most == UINT64_MAX || used == UINT64_MAX)
        return UINT64_MAX;
    used -= cache < used ? cache : 0;
    return used < most ? most - used : 0;
}

static uint64_t system_available(void)
{
    uint64_t kib = number_in("/proc/meminfo", "MemAvailable:");
    if (kib != UINT64_MAX)
        return kib * 1024;
    return (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t memory_available(void)
{
    uint64_t machine = system_available(), group = group_available();
    return machine < group ? machine : group;
}
