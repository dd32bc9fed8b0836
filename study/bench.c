#include "study/bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/progress.h"
#include "coordinator/cluster.h"
#include "coordinator/forward.h"
#include "coordinator/unembed.h"
#include "model/sizes.h"

/* The rows of several sequences that the next step will have. */
struct rows {
    int32_t *tokens, *seq, *pos, *last; // [chunk]; last: rows whose logits are wanted
    int n, n_last;
};

struct bench {
    struct coordinator *c;
    const struct bench_options *o;
    struct rows rows;
    uint32_t random;
};

static int32_t next_token(struct bench *b)
{
    b->random = b->random * 1664525u + 1013904223u;
    return (int32_t)((uint64_t)b->random * (uint64_t)b->c->config.vocab_size >> 32);
}

/* As greedy sampling has them. */
static int logits_of_last(struct bench *b)
{
    struct rows *r = &b->rows;
    if (unembed_is_shared(b->c))
        return unembed_best(b->c, r->last, r->n_last, 1, b->c->picker.merged);
    return unembed(b->c, r->last, r->n_last);
}

/* Run the rows gathered so far, and the logits of those that end a prompt. */
static int flush(struct bench *b)
{
    struct rows *r = &b->rows;
    if (r->n == 0)
        return 0;
    int status = forward(b->c, &(struct batch){r->n, r->tokens, r->seq, r->pos});
    if (!status && r->n_last)
        status = logits_of_last(b);
    if (!status)
        status = dev_wait(&b->c->dev);
    r->n = r->n_last = 0;
    return status;
}

static int add_row(struct bench *b, int sequence, int position, bool wants_logits)
{
    struct rows *r = &b->rows;
    if (wants_logits)
        r->last[r->n_last++] = r->n;
    r->tokens[r->n] = next_token(b);
    r->seq[r->n] = sequence;
    r->pos[r->n++] = position;
    return r->n == b->c->chunk ? flush(b) : 0;
}

static int prefill_all(struct bench *b, int batch, int length)
{
    int status = 0;
    for (int s = 0; s < batch && !status; s++)
        for (int p = 0; p < length && !status; p++)
            status = add_row(b, s, p, p == length - 1);
    return status ? status : flush(b);
}

static int decode_step(struct bench *b, int batch, int position)
{
    int status = 0;
    for (int s = 0; s < batch && !status; s++)
        status = add_row(b, s, position, true);
    return status ? status : flush(b);
}

/* A timed part of one repetition (its prompts, or its tokens): the time it took, the experts it
 * read, and what the exchange did. */
struct stretch {
    double seconds, exposed_s, hidden_s;
    uint64_t hits, bytes;
    // values at its beginning
    int64_t start;
    struct exchange_counters moved;
};

struct sample {
    struct stretch prefill, decode;
};

static void stretch_begin(struct stretch *p, struct coordinator *c)
{
    *p = (struct stretch){.start = clock_ns(),
                          .hits = coordinator_experts_hit(c),
                          .moved = *root_counters(c->exchange[0])};
}

static void stretch_end(struct stretch *p, struct coordinator *c)
{
    const struct exchange_counters *then = &p->moved, *now = root_counters(c->exchange[0]);
    p->seconds = seconds_since(p->start);
    p->hits = coordinator_experts_hit(c) - p->hits;
    p->bytes = now->sent + now->received - then->sent - then->received;
    p->exposed_s = (double)(now->exposed_ns - then->exposed_ns) * 1e-9;
    p->hidden_s = (double)(now->hidden_ns - then->hidden_ns) * 1e-9;
}

static int repeat(struct bench *b, int batch, int prompt, int generate, struct sample *sample)
{
    struct coordinator *c = b->c;
    for (int s = 0; s < batch; s++)
        CHECK(kv_cache_extend(&c->kv, s, prompt + generate), "no KV block for sequence %d", s);
    stretch_begin(&sample->prefill, c);
    int status = prefill_all(b, batch, prompt);
    stretch_end(&sample->prefill, c);
    stretch_begin(&sample->decode, c);
    for (int i = 0; i < generate && !status; i++)
        status = decode_step(b, batch, prompt + i);
    stretch_end(&sample->decode, c);
    for (int s = 0; s < batch; s++)
        kv_cache_release(&c->kv, s);
    return status;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void statistics(struct bench_result *r, double *seconds, int n, double tokens)
{
    double sum = 0, squares = 0;
    qsort(seconds, (size_t)n, sizeof *seconds, ascending);
    double middle = (seconds[(n - 1) / 2] + seconds[n / 2]) / 2;
    for (int i = 0; i < n; i++)
        sum += tokens / seconds[i];
    r->mean = sum / n;
    for (int i = 0; i < n; i++)
        squares += pow(tokens / seconds[i] - r->mean, 2);
    r->sd = n > 1 ? sqrt(squares / (n - 1)) : 0;
    r->median = tokens / middle;
    r->seconds = middle;
}

/* The roof of a result: the tokens/s at which the weights that are needed would be read once a step
 * at full bandwidth, or those at which all FLOPs would be done at the peak, whichever is less. */
static void set_roof(struct bench_result *r, const struct bench *b, const struct roof *roof,
                     int steps, int tokens, double logit_rows, double attention, double kv_bytes,
                     uint64_t hits)
{
    const struct config *m = &b->c->config;
    struct sizes s = sizes_of(m);
    double flops =
        2.0 * tokens * ((double)s.layers + (double)s.sparse_layers * m->top_k * (double)s.expert) +
        2.0 * logit_rows * (double)s.unembed + attention;
    double bytes = (steps * (double)(s.layers + s.unembed) + (double)hits * (double)s.expert) *
                       dtype_bytes(b->c->dtype) +
                   kv_bytes;
    if (roof->flops <= 0 || roof->read_bytes_per_s <= 0) {
        r->bound = "unknown";
        return;
    }
    double by_flops = flops / roof->flops, by_bytes = bytes / roof->read_bytes_per_s;
    r->bound = by_flops > by_bytes ? "flops" : "bytes";
    r->roof = tokens / (by_flops > by_bytes ? by_flops : by_bytes);
}

static struct bench_result *new_result(struct bench_report *r, const struct bench *b,
                                       const char *kind, int length, int batch,
                                       const struct stretch *last)
{
    struct bench_result *result = &r->results[r->n_results++];
    int tokens = batch * length;
    *result = (struct bench_result){.kind = kind,
                                    .length = length,
                                    .batch = batch,
                                    .ranks = b->c->placement.n_ranks,
                                    .wire_bytes = (double)last->bytes / tokens,
                                    .last_s = last->seconds,
                                    .exposed_s = last->exposed_s,
                                    .hidden_s = last->hidden_s};
    return result;
}

static int one_batch(struct bench_report *r, struct bench *b, int batch, struct progress *bar)
{
    const struct bench_options *o = b->o;
    static double prefill[BENCH_MAX_REPEATS], decode[BENCH_MAX_REPEATS];
    struct sample sample = {0};
    uint64_t prefill_hits = 0, decode_hits = 0;
    int status = repeat(b, batch, o->prompt, o->generate < 4 ? o->generate : 4, &sample); // warm up
    for (int i = 0; i < o->repeats && !status; i++) {
        status = repeat(b, batch, o->prompt, o->generate, &sample);
        prefill[i] = sample.prefill.seconds;
        decode[i] = sample.decode.seconds / (o->generate ? o->generate : 1);
        prefill_hits += sample.prefill.hits / (uint64_t)o->repeats;
        decode_hits += sample.decode.hits / (uint64_t)o->repeats;
        progress_update(bar, r->n_results / 2.0 + (i + 1.0) / o->repeats);
    }
    if (status)
        return status;
    double kv = (double)kv_bytes_per_token(&b->c->config, b->c->dtype);
    int tokens = batch * o->prompt, steps = (tokens + b->c->chunk - 1) / b->c->chunk;
    if (o->prompt) {
        struct bench_result *pp = new_result(r, b, "pp", o->prompt, batch, &sample.prefill);
        statistics(pp, prefill, o->repeats, tokens);
        set_roof(pp, b, &r->roof, steps, tokens, batch,
                 batch * attention_flops(&b->c->config, 0, o->prompt), kv * tokens, prefill_hits);
    }
    if (o->generate) {
        struct bench_result *tg = new_result(r, b, "tg", o->generate, batch, &sample.decode);
        double context = o->prompt + o->generate / 2.0;
        statistics(tg, decode, o->repeats, batch);
        set_roof(tg, b, &r->roof, 1, batch, batch,
                 batch * attention_flops(&b->c->config, (int)context, 1), kv * context * batch,
                 decode_hits / (uint64_t)o->generate);
    }
    return 0;
}

/* The peak memory of the run. Workers under mpirun are processes, whose memory is added; local ones
 * are threads of this process. */
static int peak_memory(struct bench_report *r, struct coordinator *c)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    r->peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    if (!c->transport || strcmp(c->transport->name, "local") == 0)
        return 0;
    struct stats *stats = calloc((size_t)c->transport->size, sizeof *stats);
    CHECK_MEMORY(stats, "no memory for the counters of %d ranks", c->transport->size);
    int status = cluster_stats(c->transport, stats);
    for (int rank = 1; rank < c->transport->size; rank++)
        r->peak_bytes += stats[rank].peak_bytes;
    free(stats);
    return status;
}

static void rows_open(struct rows *r, int n)
{
    *r = (struct rows){0};
    int32_t **arrays[] = {&r->tokens, &r->seq, &r->pos, &r->last};
    for (int i = 0; i < 4; i++) {
        *arrays[i] = calloc((size_t)n, sizeof(int32_t));
        CHECK_MEMORY(*arrays[i], "no memory for %d rows", n);
    }
}

static void rows_close(struct rows *r)
{
    free(r->tokens);
    free(r->seq);
    free(r->pos);
    free(r->last);
}

int bench_run(struct bench_report *r, struct coordinator *c, const struct bench_options *o)
{
    struct bench b = {.c = c, .o = o, .random = 1};
    struct progress bar;
    int status = 0;
    *r = (struct bench_report){0};
    roof_measure(&r->roof, &c->dev, c->dtype);
    rows_open(&b.rows, c->chunk);
    progress_open(&bar, "bench", "batch", o->n_batches, 1);
    for (int i = 0; i < o->n_batches && !status; i++)
        status = one_batch(r, &b, o->batches[i], &bar);
    progress_close(&bar);
    if (!status)
        status = peak_memory(r, c);
    if (!status)
        status = coordinator_wire_error(c, &r->wire_error);
    if (!status)
        status = coordinator_finish_profile(c);
    rows_close(&b.rows);
    return status;
}
