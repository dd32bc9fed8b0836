#include "launch/lab/host.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"

static int open_in(const char *directory, const char *name, int how)
{
    char *path = path_join(directory, name);
    int fd = open(path, how | O_CLOEXEC);
    if (fd < 0)
        fail(STATUS_FAILED, "%s: expected a cgroup of version 2 (Linux 5.2 or later): %s", path,
             strerror(errno));
    free(path);
    return fd;
}

int host_open(struct host *h, const char *directory)
{
    *h = (struct host){.usage = -1};
    h->freeze = open_in(directory, "cgroup.freeze", O_WRONLY);
    if (h->freeze >= 0)
        h->usage = open_in(directory, "cpu.stat", O_RDONLY);
    h->threads = path_join(directory, "cgroup.threads");
    return h->usage < 0 ? STATUS_FAILED : 0;
}

void host_close(struct host *h)
{
    close(h->freeze);
    close(h->usage);
    free(h->threads);
}

static void set_frozen(struct host *h, const char *digit)
{
    ssize_t n = pwrite(h->freeze, digit, 1, 0);
    CHECK(n == 1, "cgroup.freeze does not take a %s: %s", digit, strerror(errno));
}

void host_freeze(struct host *h)
{
    set_frozen(h, "1");
}

void host_thaw(struct host *h)
{
    set_frozen(h, "0");
}

void host_list_threads(struct host *h)
{
    FILE *f = fopen(h->threads, "r");
    h->n_moved = 0;
    while (f && h->n_moved < HOST_THREADS && fscanf(f, "%d", &h->moved[h->n_moved]) == 1)
        h->n_moved++;
    if (f)
        fclose(f);
}

void host_move(struct host *h, int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    for (int i = 0; i < h->n_moved; i++)
        sched_setaffinity(h->moved[i], sizeof set, &set); // fails for one that has ended
}

int64_t host_used_ns(const struct host *h)
{
    char text[64] = "";
    long long us = -1;
    ssize_t n = pread(h->usage, text, sizeof text - 1, 0);
    CHECK(n > 0 && sscanf(text, "usage_usec %lld", &us) == 1, "cpu.stat begins \"%s\"", text);
    return us * 1000;
}
