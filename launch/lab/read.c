/* lab_read WHEN SECONDS: the bandwidth in GB/s at which one thread reads memory, from the moment
 * WHEN (seconds since the machine started, as /proc/uptime counts them) for SECONDS. Several of
 * them with one WHEN read at the same time. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"
#include "kernels/cpu/cpu.h"

enum { PIECE = 4 << 20, PIECES = 64 }; // together larger than a cache

static double uptime(void)
{
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void sleep_until(double when)
{
    struct timespec t = {(time_t)when, (long)((when - (double)(time_t)when) * 1e9)};
    while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/* Bytes per second; *sum only keeps the reads from being left out. */
static double read_for(const struct dev *d, const char *buffer, double seconds, float *sum)
{
    double begin = uptime(), now = begin;
    long pieces = 0;
    for (; now - begin < seconds; now = uptime())
        *sum += d->cpu->read(buffer + (size_t)(pieces++ % PIECES) * PIECE, PIECE);
    return (double)pieces * PIECE / (now - begin);
}

static int number(const char *text, double *value)
{
    char *end;
    *value = strtod(text, &end);
    if (end == text || *end || !(*value >= 0 && *value < 1e12))
        return fail(STATUS_USAGE, "lab_read: expected seconds, found \"%s\"", text);
    return 0;
}

int main(int argc, char **argv)
{
    struct arena own = {0};
    struct dev d;
    enum isa isa;
    double when, seconds;
    float sum = 0;
    if (argc != 3)
        return fail(STATUS_USAGE, "lab_read: expected WHEN and SECONDS, found %d arguments",
                    argc - 1);
    if (number(argv[1], &when) || number(argv[2], &seconds) || isa_choose(&isa, isa_available()))
        return STATUS_USAGE;
    dev_open_cpu(&d, isa, 1);
    char *buffer = arena_alloc(&own, (size_t)PIECE * PIECES);
    memset(buffer, 1, (size_t)PIECE * PIECES);
    sleep_until(when);
    double rate = read_for(&d, buffer, seconds, &sum);
    printf("%.2f\n", rate * 1e-9 + (sum == 1));
    arena_free(&own);
    dev_close(&d);
    return 0;
}
