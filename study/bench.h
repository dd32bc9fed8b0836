/* Prefill and decode speed of an open coordinator, beside what the machine could do at best.
 *
 * A repetition gives every sequence of the batch a prompt of `prompt` tokens (ppN: timed from the
 * first step to the logits of each sequence's last token, which is also TTFT), then `generate`
 * tokens one step at a time (tgN: logits of every sequence each step; TPOT is the time of a step).
 * Token ids are synthetic and fixed; tokenizing and sampling are outside the timed window. One
 * short repetition warms up. */
#pragma once

#include <stdio.h>

#include "coordinator/coordinator.h"
#include "study/roof.h"

enum { BENCH_MAX_BATCHES = 16, BENCH_MAX_REPEATS = 1000 };

struct bench_options {
    int prompt, generate, repeats;
    int batches[BENCH_MAX_BATCHES], n_batches;
    const char *model_name;
};

struct bench_result {
    const char *kind; // "pp" or "tg"
    int length, batch, ranks;
    double median, mean, sd; // tokens/s
    double seconds;          // median: TTFT of pp, TPOT of tg
    double roof;             // tokens/s at the device's peak FLOP/s and read bandwidth
    const char *bound;       // "flops" or "bytes": which of the two; "unknown": roof is 0
    // of the last repetition
    double wire_bytes;          // that travelled, both ways, a token
    double last_s;              // what it took
    double exposed_s, hidden_s; // see struct exchange_counters
};

struct bench_report {
    struct roof roof;
    struct bench_result results[2 * BENCH_MAX_BATCHES];
    int n_results;
    uint64_t peak_bytes; // resident, all processes of the run
    double wire_error;   // see coordinator_wire_error()
};

/* The coordinator must have been opened for the largest batch and prompt + generate positions. */
int bench_run(struct bench_report *r, struct coordinator *c, const struct bench_options *o);

enum bench_format { BENCH_MD, BENCH_JSON, BENCH_CSV };
void bench_print(const struct bench_report *r, const struct coordinator *c,
                 const struct bench_options *o, enum bench_format format, FILE *out);
