/* The one thread that runs steps, and the queue by which HTTP's threads hand it calls. */
#pragma once

#include "serve/call.h"
#include "serve/metrics.h"

struct engine {
    struct metrics *metrics;
    int most_texts; // that run and wait together; any thread may read it
    bool keep;      // blocks of the KV cache outlive their sequences
    struct scheduler scheduler;
    struct call *calls;                 // that have not ended
    struct choice *waiting, **waits_at; // in the order of their arrival, and where the next comes
    int new_tokens;                     // of the step in hand
    struct watched watched;
    int64_t watched_ns; // when these were last shown to the metrics
    int64_t looked_ns;  // when it was last looked for clients that have left

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t wake;
    struct call *inbox, **inbox_at; // submitted, not yet seen by the engine's thread
    int n_waiting;                  // texts in the inbox and the queue
    int n_running;                  // texts that the scheduler has
    bool stopping;
};

enum submitted {
    SUBMIT_TAKEN,
    SUBMIT_FULL,     // now
    SUBMIT_TOO_MANY, // it has more texts than ever find room
    SUBMIT_STOPPING
};

void engine_open(struct engine *e, struct metrics *m, int most_texts, bool keep);
void engine_close(struct engine *e);

/* Any thread: hand over a call; it then has one more user. */
enum submitted engine_submit(struct engine *e, struct call *c);
/* Any thread: take no more calls; finish those that run, refuse those that wait. */
void engine_stop(struct engine *e);
bool engine_is_stopping(struct engine *e); // any thread
/* Any thread, when the process is about to end: every client gets an error now. Steps may go on. */
void engine_abandon(struct engine *e, const char *why);
/* Run until engine_stop(), then 0; or until a step fails: then every client has got an error, and
 * its status is returned. */
int engine_run(struct engine *e, struct coordinator *c);
