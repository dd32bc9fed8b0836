/* lab_throttle SHARE CGROUP…: gives each host SHARE of one core, until SIGTERM; then it prints what
 * each was given. launch/lab.sh starts it.
 *
 * A host may run in one window of SHARE * 2 ms every 2 ms, and is frozen between. Windows of N
 * hosts begin 2 ms / N apart and go round the C cores: a core's next window begins C * 2 ms / N
 * after the last, which is longer than a window, since N * SHARE < C. So no two hosts ever share a
 * core.
 *
 * Each core has a thread of its own here, at real-time priority. When a window is over, the timer
 * interrupts the host on that very core: it does not run while it is being frozen. So a window is
 * what lies between the thread's going to sleep and its waking up. It wakes up a little late; what
 * was too long in one window is taken off the host's next one. So is what a host has used outside
 * its windows: a thread in a long call of the kernel's stops only when the call is done. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "launch/lab/host.h"

enum {
    PERIOD_NS = 2000000,
    SECOND_NS = 1000000000,
    PRIORITY = 50,
    CORES = 1024,
    HOSTS = 256,
    WINDOWS_PER_BILL = 16
};
static const double most_of_cores = 0.9;
static const double tolerated = 0.05; // of a window: what stopping and going on cost by themselves
static const int64_t most_excess_ns = SECOND_NS / 2; // or a guest would fall silent for too long

struct guest {
    struct host host;
    pthread_mutex_t mutex; // of all below: its windows may lie on several cores
    long n, late, paid;    // windows; those left out as they were late, and to pay the excess
    int64_t sum_ns, least_ns, most_ns;
    int64_t excess_ns; // what it has had too much of
    int64_t billed_ns; // of host_used_ns(): compared with windows so far
    int64_t open_ns;   // windows since then
    double busiest, whole;
};

struct core {
    int index, number; // among ours; the system's
    pthread_t thread;
};

static struct guest guests[HOSTS];
static struct core cores[CORES];
static int n_guests, n_cores, n_places; // places: windows in a period, the first of them guests'
static int64_t window_ns, start_ns;
static _Atomic bool ending;

static void sleep_until(int64_t ns)
{
    struct timespec t = {ns / SECOND_NS, ns % SECOND_NS};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/* Every few windows: charge what was used outside of them, and learn of new threads. */
static void bill(struct guest *g)
{
    int64_t used = host_used_ns(&g->host);
    int64_t outside = used - g->billed_ns - g->open_ns -
                      (int64_t)(tolerated * WINDOWS_PER_BILL * (double)window_ns);
    if (outside > 0)
        g->excess_ns += outside;
    if (g->excess_ns > most_excess_ns)
        g->excess_ns = most_excess_ns;
    g->billed_ns = used;
    g->open_ns = 0;
    host_list_threads(&g->host);
}

/* Whether a window may begin that was due then: not so late that it could run into the guest's next
 * one, and not while the guest has had too much. */
static bool may_begin(struct guest *g, int64_t due)
{
    if (clock_ns() - due > PERIOD_NS - window_ns) {
        g->late++;
        return false;
    }
    if (g->excess_ns < window_ns)
        return true;
    g->paid++;
    g->excess_ns -= window_ns;
    return false;
}

/* Sets the moment at which the window is to end. */
static bool begin_window(struct guest *g, int core, int64_t due, int64_t *begin, int64_t *end)
{
    pthread_mutex_lock(&g->mutex);
    bool begins = may_begin(g, due);
    if (begins) {
        if (g->n % WINDOWS_PER_BILL == 0)
            bill(g);
        host_move(&g->host, core);
        host_thaw(&g->host);
        *begin = clock_ns();
        *end = *begin + window_ns - g->excess_ns;
    }
    pthread_mutex_unlock(&g->mutex);
    return begins;
}

static void end_window(struct guest *g, int64_t begin)
{
    int64_t ns = clock_ns() - begin;
    pthread_mutex_lock(&g->mutex);
    host_freeze(&g->host);
    g->least_ns = g->n == 0 || ns < g->least_ns ? ns : g->least_ns;
    g->most_ns = ns > g->most_ns ? ns : g->most_ns;
    g->sum_ns += ns;
    g->open_ns += ns;
    g->n++;
    g->excess_ns += ns - window_ns;
    if (g->excess_ns < 0) // a window that was too short is not made up for
        g->excess_ns = 0;
    pthread_mutex_unlock(&g->mutex);
}

static void *run_core(void *argument)
{
    struct core *c = argument;
    for (int64_t k = c->index; !ending; k += n_cores) {
        int64_t due = start_ns + k * PERIOD_NS / n_places, begin, end;
        int place = (int)(k % n_places);
        sleep_until(due);
        if (place >= n_guests || !begin_window(&guests[place], c->number, due, &begin, &end))
            continue;
        sleep_until(end);
        end_window(&guests[place], begin);
    }
    return NULL;
}

/* As many places as there are guests; some more, where guests can so keep to one core each. */
static void choose_places(double share)
{
    int even = (n_guests + n_cores - 1) / n_cores * n_cores;
    n_places = even * share <= most_of_cores * n_cores ? even : n_guests;
}

static void find_cores(void)
{
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0, "%s", strerror(errno));
    for (int i = 0; i < CPU_SETSIZE && n_cores < CORES; i++)
        if (CPU_ISSET(i, &set)) {
            cores[n_cores] = (struct core){.index = n_cores, .number = i};
            n_cores++;
        }
}

/* 0 or an errno. */
static int start_core(struct core *c, bool real_time)
{
    pthread_attr_t how;
    cpu_set_t set;
    struct sched_param priority = {.sched_priority = PRIORITY};
    CPU_ZERO(&set);
    CPU_SET(c->number, &set);
    pthread_attr_init(&how);
    pthread_attr_setaffinity_np(&how, sizeof set, &set);
    if (real_time) {
        pthread_attr_setinheritsched(&how, PTHREAD_EXPLICIT_SCHED);
        pthread_attr_setschedpolicy(&how, SCHED_FIFO);
        pthread_attr_setschedparam(&how, &priority);
    }
    int error = pthread_create(&c->thread, &how, run_core, c);
    pthread_attr_destroy(&how);
    return error;
}

static void start_cores(void)
{
    bool real_time = true;
    start_ns = clock_ns() + PERIOD_NS;
    for (int i = 0; i < n_cores; i++) {
        int error = start_core(&cores[i], real_time);
        if (error == EPERM && real_time) {
            real_time = false;
            warn("lab: expected real-time priority, found none (%s): phases of 1 to 10 ms may come "
                 "out by a third too fast",
                 strerror(error));
            error = start_core(&cores[i], real_time);
        }
        CHECK(error == 0, "no thread for core %d: %s", cores[i].number, strerror(error));
    }
}

/* The busiest second of each guest so far, and its share of all. */
static void note_usage(int64_t *then, const int64_t *first, int64_t last, int64_t began)
{
    int64_t now = clock_ns();
    for (int i = 0; i < n_guests; i++) {
        int64_t used = host_used_ns(&guests[i].host);
        double share = (double)(used - then[i]) / (double)(now - last);
        if (now - last > SECOND_NS / 2 && share > guests[i].busiest)
            guests[i].busiest = share;
        guests[i].whole = (double)(used - first[i]) / (double)(now - began);
        then[i] = used;
    }
}

/* Until SIGTERM. */
static void watch(const sigset_t *signals)
{
    const struct timespec second = {1, 0};
    int64_t then[HOSTS], first[HOSTS], began = clock_ns(), last = began;
    bool told = false;
    for (int i = 0; i < n_guests; i++)
        first[i] = then[i] = host_used_ns(&guests[i].host);
    while (!told) {
        told = sigtimedwait(signals, NULL, &second) > 0;
        note_usage(then, first, last, began);
        last = clock_ns();
    }
}

static void report(void)
{
    fprintf(stderr,
            "lab: windows of %.0f us every %d us; shares are of one core\n"
            "lab: host  window mean  least    most  windows  late  paid back  busiest second  "
            "whole run\n",
            (double)window_ns * 1e-3, PERIOD_NS / 1000);
    for (int i = 0; i < n_guests; i++) {
        const struct guest *g = &guests[i];
        fprintf(stderr, "lab: %4d  %8.1f us  %5.0f  %6.0f  %7ld  %4ld  %9ld  %14.3f  %9.3f\n", i,
                g->n ? (double)g->sum_ns * 1e-3 / (double)g->n : 0, (double)g->least_ns * 1e-3,
                (double)g->most_ns * 1e-3, g->n, g->late, g->paid, g->busiest, g->whole);
    }
}

static int open_guests(int argc, char **argv)
{
    char *end;
    if (argc < 3 || argc - 2 > HOSTS)
        return fail(STATUS_USAGE,
                    "lab_throttle: expected SHARE and 1 to %d cgroups, found %d arguments", HOSTS,
                    argc - 1);
    double share = strtod(argv[1], &end);
    if (end == argv[1] || *end || !(share > 0 && share < 1))
        return fail(STATUS_USAGE, "lab_throttle: expected a share between 0 and 1, found \"%s\"",
                    argv[1]);
    for (; n_guests < argc - 2; n_guests++) {
        struct guest *g = &guests[n_guests];
        if (host_open(&g->host, argv[2 + n_guests]))
            return STATUS_FAILED;
        pthread_mutex_init(&g->mutex, NULL);
        g->billed_ns = host_used_ns(&g->host);
    }
    window_ns = (int64_t)(share * PERIOD_NS);
    find_cores();
    choose_places(share);
    if (n_guests * share > most_of_cores * n_cores + 1e-9)
        return fail(STATUS_USAGE,
                    "lab_throttle: expected at most %.2f cores for all, found %d * %g",
                    most_of_cores * n_cores, n_guests, share);
    return 0;
}

static void thaw_all(void)
{
    for (int i = 0; i < n_guests; i++) {
        host_thaw(&guests[i].host);
        host_close(&guests[i].host);
    }
}

int main(int argc, char **argv)
{
    sigset_t signals;
    int status = open_guests(argc, argv);
    if (status)
        return status;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        warn("lab: memory of the throttle may be swapped out (mlockall: %s)", strerror(errno));
    signal(SIGINT, SIG_IGN); // a terminal's: launch/lab.sh ends us after the ranks
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    for (int i = 0; i < n_guests; i++)
        host_freeze(&guests[i].host);
    start_cores();
    watch(&signals);
    ending = true;
    for (int i = 0; i < n_cores; i++)
        pthread_join(cores[i].thread, NULL);
    thaw_all();
    report();
    return 0;
}
