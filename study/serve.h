/* Measures what the users of a server would see: requests arrive at random times, at a mean rate,
 * whether earlier ones are done or not (a Poisson process), and share steps as in a batch.
 *
 * The time to first token (TTFT) counts from a request's arrival, so it includes the wait for a
 * free slot. The time per output token (TPOT) is the mean of a request's tokens after the first;
 * the inter-token latency (ITL) is each single time between two tokens of a request; the latency
 * lasts from the arrival to the last token. Prompts are random ids, tokens are picked
 * greedily, and end-of-text ends nothing, so every request generates as many. The same seed gives
 * the same arrivals and prompts. */
#pragma once

#include <stdio.h>

#include "coordinator/coordinator.h"
#include "study/bench.h"

struct serve_options {
    double rate; // requests a second
    int requests, prompt, generate;
    uint64_t seed;
    const char *model_name;
    bool follows; // another report of the same output: CSV has no header again
};

struct quantiles { // of all requests, of ITL of all their tokens after the first, in seconds
    double mean, p50, p90, p99;
};

struct serve_report {
    double seconds;                            // from the first arrival to the last token
    struct quantiles ttft, tpot, itl, latency; // ITL of one token a request: zeros
    double mean_batch;                         // sequences in a step
    int at_a_time;    // the most sequences that the coordinator runs together
    int most_waiting; // the most requests that had arrived and waited for a slot
};

/* Run o->requests requests, and one before them to warm up. The coordinator must have been opened
 * for prompt + generate positions; its max_sequences is how many run at a time. generate >= 1. 0,
 * or the status of what failed, which fail() has told; *r is then incomplete. */
int serve_run(struct serve_report *r, struct coordinator *c, const struct serve_options *o);

/* The caller asks ferror(out). */
void serve_print(const struct serve_report *r, const struct coordinator *c,
                 const struct serve_options *o, enum bench_format format, FILE *out);
