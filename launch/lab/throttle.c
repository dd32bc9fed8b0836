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
 * was too long in one window is taken off the host's next one on this core. */
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

enum { PERIOD_NS = 2000000, SECOND_NS = 1000000000, PRIORITY = 50, CORES = 1024, HOSTS = 256 };
static const double most_of_cores = 0.9;

/* The windows of a host on a core. */
struct windows {
    long n, missed;
    int64_t sum_ns, least_ns, most_ns;
    int64_t excess_ns; // by which the last ones were too long
};

struct core {
    int index, number; // among ours; the system's
    pthread_t thread;
    struct windows *of; // [n_hosts]
};

static struct host hosts[HOSTS];
static struct core cores[CORES];
static int n_hosts, n_cores, n_places; // places: windows in a period, of which hosts have the first
static int64_t window_ns, start_ns;
static _Atomic bool ending;

static void sleep_until(int64_t ns)
{
    struct timespec t = {ns / SECOND_NS, ns % SECOND_NS};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static void note_window(struct windows *w, int64_t ns)
{
    w->least_ns = w->n == 0 || ns < w->least_ns ? ns : w->least_ns;
    w->most_ns = ns > w->most_ns ? ns : w->most_ns;
    w->sum_ns += ns;
    w->n++;
    w->excess_ns += ns - window_ns;
    if (w->excess_ns < 0) // a window that was too short is not made up for
        w->excess_ns = 0;
}

/* A window that has to begin so late that it could run into the host's next one is left out. */
static void run_window(struct core *c, int host, int64_t due)
{
    struct host *h = &hosts[host];
    struct windows *w = &c->of[host];
    sleep_until(due);
    if (clock_ns() - due > PERIOD_NS - window_ns || w->excess_ns >= window_ns) {
        w->missed++;
        w->excess_ns -= w->excess_ns < window_ns ? w->excess_ns : window_ns;
        return;
    }
    host_move(h, c->number);
    host_thaw(h);
    int64_t begin = clock_ns();
    sleep_until(begin + window_ns - w->excess_ns);
    int64_t end = clock_ns();
    host_freeze(h);
    note_window(w, end - begin);
}

static void *run_core(void *argument)
{
    struct core *c = argument;
    for (int64_t k = c->index; !ending; k += n_cores)
        if (k % n_places < n_hosts)
            run_window(c, (int)(k % n_places), start_ns + k * PERIOD_NS / n_places);
        else
            sleep_until(start_ns + k * PERIOD_NS / n_places);
    return NULL;
}

/* As many places as there are hosts; some more, where hosts can so keep to one core each. */
static void choose_places(double share)
{
    int even = (n_hosts + n_cores - 1) / n_cores * n_cores;
    n_places = even * share <= most_of_cores * n_cores ? even : n_hosts;
}

static void find_cores(void)
{
    cpu_set_t set;
    CHECK(sched_getaffinity(0, sizeof set, &set) == 0, "%s", strerror(errno));
    for (int i = 0; i < CPU_SETSIZE && n_cores < CORES; i++)
        if (CPU_ISSET(i, &set)) {
            cores[n_cores] =
                (struct core){n_cores, i, 0, calloc((size_t)n_hosts, sizeof(struct windows))};
            CHECK(cores[n_cores].of, "no memory for %d hosts", n_hosts);
            n_cores++;
        }
}

/* 0, or why the threads of the cores have no real-time priority. */
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
    int error = 0;
    start_ns = clock_ns() + PERIOD_NS;
    for (int i = 0; i < n_cores; i++) {
        error = start_core(&cores[i], !error);
        if (!error)
            continue;
        if (error == EPERM)
            warn("lab: no real-time priority (%s): the windows printed at the end are as exact as "
                 "other work lets them be",
                 strerror(error));
        int again = start_core(&cores[i], false);
        CHECK(again == 0, "no thread for core %d: %s", cores[i].number, strerror(again));
    }
}

/* Until SIGTERM; meanwhile the busiest second of each host. */
static void watch(const sigset_t *signals, double *busiest, double *whole)
{
    const struct timespec second = {1, 0};
    int64_t used[HOSTS] = {0}, first[HOSTS], last = clock_ns(), began = last;
    bool told = false;
    for (int i = 0; i < n_hosts; i++)
        first[i] = used[i] = host_used_ns(&hosts[i]);
    while (!told) {
        told = sigtimedwait(signals, NULL, &second) > 0;
        int64_t now = clock_ns();
        for (int i = 0; i < n_hosts; i++) {
            int64_t then = used[i];
            used[i] = host_used_ns(&hosts[i]);
            double share = (double)(used[i] - then) / (double)(now - last);
            if (now - last > SECOND_NS / 2 && share > busiest[i])
                busiest[i] = share;
            whole[i] = (double)(used[i] - first[i]) / (double)(now - began);
        }
        last = now;
    }
}

static struct windows sum_windows(int host)
{
    struct windows all = {0};
    for (int i = 0; i < n_cores; i++) {
        const struct windows *w = &cores[i].of[host];
        all.missed += w->missed;
        if (w->n == 0)
            continue;
        all.least_ns = all.n == 0 || w->least_ns < all.least_ns ? w->least_ns : all.least_ns;
        all.most_ns = w->most_ns > all.most_ns ? w->most_ns : all.most_ns;
        all.sum_ns += w->sum_ns;
        all.n += w->n;
    }
    return all;
}

static void report(const double *busiest, const double *whole)
{
    fprintf(stderr,
            "lab: windows of %.0f us every %d us; shares are of one core\n"
            "lab: host  window mean  least    most  windows  left out  busiest second  whole run\n",
            (double)window_ns * 1e-3, PERIOD_NS / 1000);
    for (int i = 0; i < n_hosts; i++) {
        struct windows w = sum_windows(i);
        fprintf(stderr, "lab: %4d  %8.1f us  %5.0f  %6.0f  %7ld  %8ld  %14.3f  %9.3f\n", i,
                w.n ? (double)w.sum_ns * 1e-3 / (double)w.n : 0, (double)w.least_ns * 1e-3,
                (double)w.most_ns * 1e-3, w.n, w.missed, busiest[i], whole[i]);
    }
}

static int open_hosts(int argc, char **argv)
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
    for (n_hosts = 0; n_hosts < argc - 2; n_hosts++)
        if (host_open(&hosts[n_hosts], argv[2 + n_hosts]))
            return STATUS_FAILED;
    window_ns = (int64_t)(share * PERIOD_NS);
    find_cores();
    choose_places(share);
    if (n_hosts * share > most_of_cores * n_cores)
        return fail(STATUS_USAGE,
                    "lab_throttle: expected at most %.2f cores for all, found %d * %g",
                    most_of_cores * n_cores, n_hosts, share);
    return 0;
}

int main(int argc, char **argv)
{
    double busiest[HOSTS] = {0}, whole[HOSTS] = {0};
    sigset_t signals;
    int status = open_hosts(argc, argv);
    if (status)
        return status;
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        warn("lab: memory of the throttle may be swapped out (mlockall: %s)", strerror(errno));
    signal(SIGINT, SIG_IGN); // a terminal's: launch/lab.sh ends us after the ranks
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    for (int i = 0; i < n_hosts; i++)
        host_freeze(&hosts[i]);
    start_cores();
    watch(&signals, busiest, whole);
    ending = true;
    for (int i = 0; i < n_cores; i++)
        pthread_join(cores[i].thread, NULL);
    for (int i = 0; i < n_hosts; i++) {
        host_thaw(&hosts[i]);
        host_close(&hosts[i]);
    }
    report(busiest, whole);
    for (int i = 0; i < n_cores; i++)
        free(cores[i].of);
    return 0;
}
