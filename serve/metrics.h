/* What the server counts, and how /metrics prints it (Prometheus' text format). */
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#include "base/json.h"
#include "coordinator/scheduler.h"

enum { N_BOUNDS = 14, N_CODES = 600, RATE_SECONDS = 16 };

struct histogram {
    uint64_t counts[N_BOUNDS + 1]; // between bounds; the last: above all
    double sum;
};

struct metrics {
    pthread_mutex_t mutex;     // guards all of it
    uint64_t answers[N_CODES]; // by HTTP status
    uint64_t left;             // requests whose client has left before the answer was complete
    uint64_t prompt_tokens, reused_tokens, new_tokens;
    uint64_t steps, sequence_steps;
    uint64_t exposed_ns, hidden_ns; // of rows that travelled
    int waiting, running, kv_blocks, kv_used;
    struct histogram ttft, tpot;   // seconds
    uint64_t recent[RATE_SECONDS]; // new tokens in each of the last seconds, a ring
    int64_t recent_s[RATE_SECONDS];
    struct watched watched; // as of some step in the last moments
};

void metrics_open(struct metrics *m);
void metrics_close(struct metrics *m);
void metrics_answer(struct metrics *m, int code);
void metrics_left(struct metrics *m);
void metrics_waiting(struct metrics *m, int waiting);
/* After a step of the scheduler, which has made so many new tokens. */
void metrics_step(struct metrics *m, const struct scheduler *s, int new_tokens);
/* A choice has ended: tokens of its prompt, those of them that were in the KV cache; seconds from
 * the request's arrival to its first token, and those between its n tokens. */
void metrics_choice(struct metrics *m, int n_prompt, int n_reused, int n, double ttft, double rest);
void metrics_print(struct metrics *m, FILE *out);
/* Rows through experts and ranks, once opened by metrics_watch(). */
void metrics_watch(struct metrics *m, const struct watched *w);
/* The same as the page at / shows it. */
struct js *metrics_live(struct metrics *m);
