/* Preloaded into the ranks of a run over MPI (LD_PRELOAD): makes one of them fail at some place.
 *   FAULT_RANK=2    the rank
 *   FAULT_AT=load:5 before it maps the fifth piece of a checkpoint; or rows:9, before it sends its
 *                   ninth message of rows
 *   FAULT_HOW=kill  it gets SIGKILL
 *             stop  it gets SIGSTOP
 *             hang  its main thread sleeps for ever, its other threads go on
 *             slow  it sleeps a millisecond there and each time after, so that a test has time to
 *                   send a signal while the run is at work
 */
#include "transport/mpi_state.h" // TAG_ROWS, and mpi.h
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void come_to_grief(void)
{
    const char *how = getenv("FAULT_HOW");
    if (strcmp(how, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(how, "stop") == 0)
        raise(SIGSTOP);
    while (strcmp(how, "hang") == 0)
        pause();
    usleep(1000);
}

/* Called before each event of the kind `what`, which FAULT_AT may count. */
static void count(const char *what)
{
    static int seen;
    const char *how = getenv("FAULT_HOW"), *at = getenv("FAULT_AT"), *rank = getenv("FAULT_RANK");
    const char *mine = getenv("OMPI_COMM_WORLD_RANK");
    size_t n = strlen(what);
    if (!how || !at || !rank || !mine || strcmp(rank, mine) != 0 || strncmp(at, what, n) != 0 ||
        at[n] != ':')
        return;
    int first = atoi(at + n + 1);
    if (++seen == first || (seen > first && strcmp(how, "slow") == 0))
        come_to_grief();
}

static int is_checkpoint(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = fd < 0 ? -1 : readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return strstr(path, ".safetensors") != NULL;
}

void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    void *(*next)(void *, size_t, int, int, int, off_t) =
        (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    if (is_checkpoint(fd))
        count("load");
    return next(at, bytes, protection, flags, fd, offset);
}

int MPI_Isend(const void *buffer, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    if (tag >= TAG_ROWS)
        count("rows");
    return PMPI_Isend(buffer, n, type, to, tag, comm, request);
}
