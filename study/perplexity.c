#include "study/perplexity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/pulse.h"
#include "base/units.h"
#include "coordinator/distribution.h"
#include "coordinator/generate.h"
#include "coordinator/probe.h"
#include "coordinator/unembed.h"
#include "study/kept.h"

/* ---- windows ---- */

bool perplexity_next(const struct perplexity_options *o, struct perplexity_window *w)
{
    int before = w->end, left = o->n - w->begin;
    if (before == o->n)
        return false;
    if (before > 0) {
        w->begin += o->stride;
        left -= o->stride;
    }
    w->end = w->begin + (left < o->window ? left : o->window);
    int fresh = w->end - before, shifted = w->end - w->begin - 1;
    w->scored = fresh < shifted ? fresh : shifted;
    return w->scored > 0;
}

struct perplexity_sizes perplexity_sizes(const struct perplexity_options *o)
{
    struct perplexity_sizes sizes = {0};
    for (struct perplexity_window w = {0}; perplexity_next(o, &w);) {
        sizes.scored += w.scored;
        sizes.fed += w.end - w.begin;
    }
    return sizes;
}

/* ---- the reference ---- */

int perplexity_reference_open(struct perplexity_reference *r, const struct perplexity_options *o,
                              int vocab, uint64_t bytes)
{
    int64_t scored = perplexity_sizes(o).scored;
    uint64_t row = (uint64_t)vocab * sizeof(float), room = bytes / row, there = memory_available();
    int64_t kept = room < (uint64_t)scored ? (int64_t)room : scored;
    uint64_t wanted = (uint64_t)kept * row + (uint64_t)scored * sizeof(int32_t);
    if (wanted > there)
        return fail(STATUS_FAILED,
                    "expected %s of memory for the reference's logits, found %s; --keep sets it",
                    bytes_text((double)wanted).text, bytes_text((double)there).text);
    *r = (struct perplexity_reference){.scored = scored, .kept = kept, .vocab = vocab};
    r->best = malloc((size_t)scored * sizeof *r->best);
    r->logits = malloc((size_t)kept * (size_t)row + 1);
    CHECK_MEMORY(r->best && r->logits, "no memory for %lld rows of logits", (long long)kept);
    memset(r->logits, 1, (size_t)kept * (size_t)row);
    return 0;
}

void perplexity_reference_close(struct perplexity_reference *r)
{
    free(r->best);
    free(r->logits);
    *r = (struct perplexity_reference){0};
}

/* ---- a run ---- */

struct running {
    const struct perplexity_options *o;
    struct perplexity_reference *reference;
    struct perplexity_result *out;
    struct perplexity_window window;
    struct progress progress;
};

static void fill(struct perplexity_reference *r, int64_t i, const float *logits)
{
    int64_t at;
    r->best[i] = best_token(logits, r->vocab);
    if (is_kept(i, r->kept, r->scored, &at))
        memcpy(r->logits + (size_t)at * (size_t)r->vocab, logits,
               (size_t)r->vocab * sizeof *logits);
}

static void compare(const struct perplexity_reference *r, int64_t i, const float *logits,
                    struct perplexity_result *out)
{
    int64_t at;
    out->same_best += r->best[i] == best_token(logits, r->vocab);
    if (!is_kept(i, r->kept, r->scored, &at))
        return;
    out->kl += divergence(r->logits + (size_t)at * (size_t)r->vocab, logits, r->vocab);
    out->kl_tokens++;
}

/* The logits of position `row` of the window are no numbers: say where, and since which layer. */
static int explain(struct running *run, struct coordinator *c, int row)
{
    const struct perplexity_window *w = &run->window;
    char why[320];
    int status = probe_explain(c, 0, run->o->ids + w->begin, row + 1, why, sizeof why);
    return status ? status
                  : fail(STATUS_FAILED, "the window of tokens %d to %d of the text: %s", w->begin,
                         w->end - 1, why);
}

/* Score the token after position `row` of the window by that row's logits. */
static int score(struct running *run, struct coordinator *c, int row, const float *logits)
{
    struct perplexity_result *out = run->out;
    int32_t next = run->o->ids[run->window.begin + row + 1];
    double nll = log_sum(logits, c->config.vocab_size) - logits[next];
    if (!isfinite(nll))
        return explain(run, c, row);
    if (run->reference && run->reference->filled)
        compare(run->reference, out->scored, logits, out);
    else if (run->reference)
        fill(run->reference, out->scored, logits);
    out->nll += nll;
    out->scored++;
    pulse();
    return 0;
}

/* Rows [first, first + n) of the window are in c->state: score by those that count. */
static int score_chunk(void *context, struct coordinator *c, int first, int n)
{
    struct running *run = context;
    const struct perplexity_window *w = &run->window;
    size_t vocab = (size_t)c->config.vocab_size;
    int last = w->end - w->begin - 1; // its logits are for the token after the window
    int row = last - w->scored > first ? last - w->scored : first;
    int end = first + n < last ? first + n : last, status = 0;
    while (row < end && !status) {
        int32_t rows[PERPLEXITY_ROWS];
        int count = end - row < c->logit_rows ? end - row : c->logit_rows;
        for (int i = 0; i < count; i++)
            rows[i] = row - first + i;
        const float *logits = unembed_to_host(c, rows, count);
        if (!logits)
            return STATUS_FAILED;
        for (int i = 0; i < count && !status; i++)
            status = score(run, c, row + i, logits + (size_t)i * vocab);
        row += count;
    }
    run->out->fed += n;
    progress_update(&run->progress, (double)run->out->fed);
    return status;
}

int perplexity_run(struct perplexity_result *out, struct coordinator *c,
                   const struct perplexity_options *o, struct perplexity_reference *r)
{
    struct running run = {.o = o, .reference = r, .out = out};
    int64_t start = clock_ns();
    int status = 0;
    CHECK(c->logit_rows <= PERPLEXITY_ROWS, "%d rows of logits", c->logit_rows);
    out->compared = r && r->filled;
    progress_open(&run.progress, out->name, "tokens", (double)perplexity_sizes(o).fed, 1);
    while (!status && perplexity_next(o, &run.window)) {
        const int32_t *ids = o->ids + run.window.begin;
        int n = run.window.end - run.window.begin;
        status = request_check(c, ids, n, 0);
        if (!status)
            status = prefill(c, ids, n, score_chunk, &run);
    }
    progress_close(&run.progress);
    out->seconds = seconds_since(start);
    if (r && !status)
        r->filled = true;
    return status;
}
