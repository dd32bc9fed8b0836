/* A host of the laboratory, as the throttle sees it: a cgroup (version 2) with the processes of one
 * rank. Freezing it stops all of their threads, wherever they are, without a signal that they or
 * their parents would notice; thawing lets them go on. A stopped process that is killed dies. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

enum { HOST_THREADS = 256 }; // of one host that are moved from core to core

struct host {
    int freeze, usage; // files: cgroup.freeze, cpu.stat
    char *threads;     // path of cgroup.threads
    pid_t moved[HOST_THREADS];
    int n_moved;
};

/* Open the cgroup in this directory. 0, or STATUS_FAILED: one line on stderr says what is missing.
 */
int host_open(struct host *h, const char *directory);
void host_close(struct host *h);

/* Both return before the threads have noticed: a thread stops when it next runs, and is woken. */
void host_freeze(struct host *h);
void host_thaw(struct host *h);

/* The list of threads that host_move() moves, read anew. */
void host_list_threads(struct host *h);

/* Let the threads of the list run on this core only. A new thread starts where its creator is. */
void host_move(struct host *h, int core);

/* Processor time of the host since it was made, in ns. */
int64_t host_used_ns(const struct host *h);
