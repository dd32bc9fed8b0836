/* lab_phases SHARE: what the laboratory's throttle makes of busy phases of 1 to 40 ms that begin at
 * moments of their own, as if a message came in. On SHARE of a core a phase of W ms lasts W /
 * SHARE. Neighbours can only make it longer: the time that the kernel says the thread stood in the
 * queue for a core, over SHARE, is what they may add. Prints a line for each W; exits with 1 if one
 * is wrong. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MS = 1000000, SECOND_NS = 1000000000, MOST = 150, WORK_MS = 400 };
static const int lengths_ms[] = {1, 2, 5, 10, 20, 40};
static const double least = 0.9, most = 1.4;

struct phases { // sums over n
    int n;
    double lasted_ms, queued_ms;
};

static int64_t now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

static void sleep_until(int64_t ns)
{
    struct timespec t = {ns / SECOND_NS, ns % SECOND_NS};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static void work(int64_t ns)
{
    int64_t end = now(CLOCK_THREAD_CPUTIME_ID) + ns;
    while (now(CLOCK_THREAD_CPUTIME_ID) < end)
        ;
}

static int64_t queued_ns(void)
{
    long long queued = -1;
    FILE *f = fopen("/proc/self/schedstat", "r");
    if (!f || fscanf(f, "%*d %lld", &queued) != 1) {
        fprintf(stderr, "lab_phases: expected /proc/self/schedstat, found none\n");
        exit(77);
    }
    fclose(f);
    return queued;
}

/* It counts from the moment at which the phase was to begin, not from when this thread could. */
static struct phases run(int work_ms)
{
    struct phases p = {0};
    for (p.n = 0; p.n < MOST && p.n < 10 + WORK_MS / work_ms; p.n++) {
        int64_t queued = queued_ns();
        int64_t begin = now(CLOCK_MONOTONIC) + 3 * MS + rand() % (6 * MS);
        sleep_until(begin);
        work((int64_t)work_ms * MS);
        p.lasted_ms += (double)(now(CLOCK_MONOTONIC) - begin) / MS;
        p.queued_ms += (double)(queued_ns() - queued) / MS;
    }
    return p;
}

int main(int argc, char **argv)
{
    double share = argc == 2 ? atof(argv[1]) : 0;
    int wrong = 0;
    if (!(share > 0 && share < 1)) {
        fprintf(stderr, "usage: lab_phases SHARE\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof lengths_ms / sizeof *lengths_ms; i++) {
        struct phases p = run(lengths_ms[i]);
        double lasted = p.lasted_ms / p.n, queued = p.queued_ms / p.n;
        double low = least * lengths_ms[i] / share;
        double high = most * (lengths_ms[i] + queued) / share;
        int bad = lasted < low || lasted > high;
        wrong |= bad;
        printf("%s: %d phases of %d ms of work on %g of a core: %.2f ms, of which queued %.2f; "
               "undisturbed "
               "%.2f, expected %.2f to %.2f\n",
               bad ? "WRONG" : "ok", p.n, lengths_ms[i], share, lasted, queued,
               lengths_ms[i] / share, low, high);
    }
    return wrong;
}
