#include "base/memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

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

/* The names of a version's files. */
static const struct group_files {
    const char *folder, *most, *used, *cache;
} versions[] = {
    {"/sys/fs/cgroup", "memory.max", "memory.current", "file "},
    {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache "},
};

static uint64_t group_number(const char *folder, const char *file, const char *key)
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return number_in(path, key);
}

/* What one group still allows. It counts the page cache as used, but the kernel gives cached pages
 * back on demand. */
static uint64_t group_room(const struct group_files *v, const char *folder)
{
    uint64_t most = group_number(folder, v->most, ""), used = group_number(folder, v->used, "");
    uint64_t cache = group_number(folder, "memory.stat", v->cache);
    if (most == UINT64_MAX || used == UINT64_MAX)
        return UINT64_MAX;
    used -= cache < used ? cache : 0;
    return used < most ? most - used : 0;
}

/* The path of this process's group in a line of /proc/self/cgroup: "0::PATH" of version 2,
 * "N:CONTROLLERS:PATH" of version 1. NULL: the line is of another kind. */
static char *group_path(char *line, int version)
{
    char *controllers = strchr(line, ':'),
         *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path)
        return NULL;
    *path++ = 0;
    path[strcspn(path, "\n")] = 0;
    controllers++;
    bool memory = strcmp(controllers, "memory") == 0 || strstr(controllers, "memory,") ||
                  strstr(controllers, ",memory");
    return version == 0 ? (*controllers ? NULL : path) : memory ? path : NULL;
}

/* The least that the group at `path` and those above it allow. In a container the path is often
 * that of the host, of which only the end of the walk, the folder itself, can be seen. */
static uint64_t groups_room(const char *root, const struct group_files *v, char *path)
{
    uint64_t least = UINT64_MAX;
    for (bool more = true; more;) {
        char folder[PATH_BYTES];
        snprintf(folder, sizeof folder, "%s%s%s", root, v->folder, path);
        uint64_t room = group_room(v, folder);
        least = room < least ? room : least;
        char *end = strrchr(path, '/');
        more = end != NULL;
        if (end)
            *end = 0;
    }
    return least;
}

static uint64_t all_groups_room(const char *root)
{
    char file[PATH_BYTES], line[PATH_BYTES / 2];
    uint64_t least = UINT64_MAX;
    snprintf(file, sizeof file, "%s/proc/self/cgroup", root);
    FILE *f = fopen(file, "r");
    while (f && fgets(line, sizeof line, f))
        for (int version = 0; version < 2; version++) {
            char copy[sizeof line], *path;
            memcpy(copy, line, sizeof line);
            path = group_path(copy, version);
            uint64_t room = path ? groups_room(root, &versions[version], path) : UINT64_MAX;
            least = room < least ? room : least;
        }
    if (f)
        fclose(f);
    return least;
}

static uint64_t system_room(const char *root)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    uint64_t kib = number_in(path, "MemAvailable:");
    if (kib != UINT64_MAX)
        return kib * 1024;
    return (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

struct memory_room memory_room_here(const char *root)
{
    struct memory_room machine = {system_room(root), "RAM"};
    struct memory_room group = {all_groups_room(root), "the control group's limit"};
    return machine.bytes < group.bytes ? machine : group;
}

/* What a limit of this process leaves of it. */
static struct memory_room limit_room(int resource, const char *used_key, const char *name)
{
    struct rlimit limit;
    uint64_t used = number_in("/proc/self/status", used_key);
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return (struct memory_room){UINT64_MAX, name};
    used = used == UINT64_MAX ? 0 : used * 1024;
    return (struct memory_room){used < limit.rlim_cur ? limit.rlim_cur - used : 0, name};
}

struct memory_room memory_room_of_process(void)
{
    struct memory_room space = limit_room(RLIMIT_AS, "VmSize:", "ulimit -v");
    struct memory_room data = limit_room(RLIMIT_DATA, "VmData:", "ulimit -d");
    return space.bytes < data.bytes ? space : data;
}

uint64_t memory_available(void)
{
    struct memory_room here = memory_room_here(""), own = memory_room_of_process();
    return here.bytes < own.bytes ? here.bytes : own.bytes;
}
