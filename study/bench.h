/* Measures the prefill and decode speed of an open coordinator, beside the best that the machine
 * can do.
 *
 * A repetition gives every sequence of the batch a prompt of `prompt` tokens, and is timed from the
 * first step to the logits of each sequence's last token. That is the result "pp"; the time is the
 * time to first token (TTFT). Then it generates `generate` tokens one step at a time, with the
 * logits of every sequence in each step. That is the result "tg"; the time of a step is the time
 * per output token (TPOT). Token ids are synthetic and fixed; tokenizing and sampling are not
 * timed. A short repetition comes first, to warm up.
 *
 * The roof of a result is what the device would reach if it did all its FLOPs at the peak, or read
 * each weight that is needed once (in a prompt, however many steps it takes; in a step of decode)
 * at full bandwidth, whichever takes longer. What the device can do is measured before and after
 * each repetition, with the run's threads, and the repetition compared with the mean of the two. */
#pragma once

#include <stdio.h>

#include "coordinator/coordinator.h"
#include "study/roof.h"

enum { BENCH_MAX_SIZES = 16, BENCH_MAX_REPEATS = 1000 };

struct bench_options {
    int generate, repeats;
    int prompts[BENCH_MAX_SIZES], n_prompts; // a result each, for each batch size
    int batches[BENCH_MAX_SIZES], n_batches;
    const char *model_name;
    const char *workers; // "GPUs" or "processors", if rank 0 computes on the other; else NULL
    bool follows;        // another report of the same output: CSV has no header again
    bool without_roof, without_warm_up; // roofs are then unknown; the first repetition is cold
};

struct bench_result {
    const char *kind; // "pp" or "tg"
    int length, batch, ranks;
    double median, mean, sd; // tokens/s
    double seconds;          // median: TTFT of pp, TPOT of tg
    double roof, roof_share; // tokens/s; the median of the repetitions' shares of it
    const char *bound;       // "flops" or "bytes", whichever limits the roof; "unknown": roof is 0
    // of the last repetition
    double wire_bytes;          // bytes that travelled for a token, both ways
    double last_s;              // the seconds it took
    double exposed_s, hidden_s; // see struct exchange_counters
};

struct bench_report {
    struct roof roof;
    struct bench_result results[2 * BENCH_MAX_SIZES * BENCH_MAX_SIZES];
    int n_results;
    uint64_t peak_bytes; // resident, all processes of the run
    double wire_error;   // see coordinator_wire_error()
};

/* Measure every prompt and batch size of o and fill *r: a result "pp" and a result "tg" for each,
 * in their order, prompts outermost. The coordinator must have been opened for the largest batch
 * and for the longest prompt and generate positions; what its KV cache held is overwritten. Takes
 * repeats + 1 repetitions for each. 0, or the status of what failed, which fail() has told; *r is
 * then incomplete. */
int bench_run(struct bench_report *r, struct coordinator *c, const struct bench_options *o);

enum bench_format { BENCH_MD, BENCH_JSON, BENCH_CSV };
/* Print a report as Markdown, JSON or CSV. The caller asks ferror(out). */
void bench_print(const struct bench_report *r, const struct coordinator *c,
                 const struct bench_options *o, enum bench_format format, FILE *out);
