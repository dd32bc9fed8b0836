/* A progress bar on stderr. It is drawn only when stderr is a terminal. A thread of its own draws
 * it while nothing moves, and says for how long: a file system may not answer, a worker may hang.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *label, *unit; // "loading", "GB"
    double total;             // in units; 0: unknown
    double scale;             // `done` divided by scale is in units
    double done;
    char extra[80]; // shown instead of the rate, unless empty
    int64_t start_ns, shown_ns, moved_ns, stall_ns;
    bool visible, ending;
    pthread_t thread;
    pthread_mutex_t mutex; // of all that changes after progress_open()
    pthread_cond_t wake;
};

/* p must not move until it is closed. */
void progress_open(struct progress *p, const char *label, const char *unit, double total,
                   double scale);
void progress_update(struct progress *p, double done); // redraws at most ten times a second
/* Another total, and a text in place of the rate. */
void progress_describe(struct progress *p, double total, const char *extra);
void progress_close(struct progress *p); // wipes the line

/* How far the newest progress of this process is, whether it is shown or not; any thread may ask.
 */
struct progress_state {
    const char *label; // NULL: nothing has begun
    double share;      // 0 to 1; 0 if the total is unknown
};
struct progress_state progress_now(void);
