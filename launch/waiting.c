#include "launch/waiting.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "kernels/device.h"

enum { LOOKS = 5, LOOK_NS = 1000000, SHARED_PART = 8 };

/* How many threads of this host run or want to run now; 0: the kernel does not say. */
static int runnable(void)
{
    int n = 0;
    FILE *f = fopen("/proc/loadavg", "r");
    if (f && fscanf(f, "%*f %*f %*f %d/", &n) != 1)
        n = 0;
    if (f)
        fclose(f);
    return n;
}

/* Whether other jobs want at least an eighth of the host's cores: they do in each of a few looks, a
 * millisecond apart. `ours` is how many of the threads that run now belong to this run. */
static bool cores_are_shared(int ours)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const struct timespec pause = {0, LOOK_NS};
    for (int i = 0; i < LOOKS; i++) {
        if (i)
            nanosleep(&pause, NULL);
        if ((runnable() - ours) * SHARED_PART < cores)
            return false;
    }
    return true;
}

void choose_waiting(char **argv)
{
    char self[PATH_MAX] = {0};
    const char *here = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    int ranks = here ? atoi(here) : 1;
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT"))
        return;
    if (ranks > usable_cores() || cores_are_shared(ranks))
        setenv("OMP_WAIT_POLICY", "passive", 1);
    else
        setenv("GOMP_SPINCOUNT", "3000", 1);
    if (readlink("/proc/self/exe", self, sizeof self - 1) > 0)
        execv(self, argv); // if this fails, the run goes on and is only slower
}
