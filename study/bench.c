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
#include "study/quantile.h"

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
    uint64_t peak_bytes; // resident so far, without what measuring the roof takes
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

/* Every repetition has the same tokens. */
static int repeat(struct bench *b, int batch, int prompt, int generate, struct sample *sample)
{
    struct coordinator *c = b->c;
    b->random = 1;
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

/* What one result is made of: for each repetition the seconds of its unit (a prompt, or a step),
 * and what the device could do. */
struct series {
    double seconds[BENCH_MAX_REPEATS];
    struct roof_look roof[BENCH_MAX_REPEATS];
    int n, tokens; // tokens of a unit
    uint64_t hits; // experts that its steps read, each counted once a step; of all repetitions
};

/* Sorts the seconds. */
static void statistics(struct bench_result *r, struct series *s)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < s->n; i++)
        sum += s->tokens / s->seconds[i];
    r->mean = sum / s->n;
    for (int i = 0; i < s->n; i++)
        squares += pow(s->tokens / s->seconds[i] - r->mean, 2);
    r->sd = s->n > 1 ? sqrt(squares / (s->n - 1)) : 0;
    r->seconds = median(s->seconds, s->n);
    r->median = s->tokens / r->seconds;
}

/* What a unit needs: FLOPs, and bytes of weights, keys and values, each read once. */
struct need {
    double flops, bytes;
};

static struct need need_of(const struct bench *b, const struct series *s, int logit_rows,
                           double attention, double kv_bytes)
{
    const struct config *m = &b->c->config;
    const struct precision *p = &b->c->precision;
    struct sizes z = sizes_of(m);
    double read = (double)s->hits / s->n, most = (double)z.sparse_layers * m->n_experts;
    double experts = (read < most ? read : most) * (double)z.expert;
    double layers = (double)z.layers + (double)z.sparse_layers * m->top_k * (double)z.expert;
    return (struct need){
        2.0 * s->tokens * layers + 2.0 * logit_rows * (double)z.unembed + attention,
        (double)(z.layers - z.dense + z.unembed) * weight_bytes(p->type, p->matrices) +
            ((double)z.dense + experts) * weight_bytes(p->type, p->blocks) + kv_bytes};
}

static void set_roof(struct bench_result *r, const struct series *s, const struct need *need)
{
    static double roofs[BENCH_MAX_REPEATS], shares[BENCH_MAX_REPEATS];
    int by_flops = 0;
    r->bound = "unknown";
    for (int i = 0; i < s->n; i++) {
        if (s->roof[i].flops <= 0 || s->roof[i].read_bytes_per_s <= 0)
            return;
        double computing = need->flops / s->roof[i].flops;
        double reading = need->bytes / s->roof[i].read_bytes_per_s;
        double least = computing > reading ? computing : reading;
        by_flops += computing > reading;
        roofs[i] = s->tokens / least;
        shares[i] = least / s->seconds[i];
    }
    r->bound = 2 * by_flops > s->n ? "flops" : "bytes";
    r->roof = median(roofs, s->n);
    r->roof_share = median(shares, s->n);
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

static struct roof_look mean_of(struct roof_look a, struct roof_look b)
{
    return (struct roof_look){(a.flops + b.flops) / 2,
                              (a.read_bytes_per_s + b.read_bytes_per_s) / 2};
}

static void note_peak(struct bench *b)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    uint64_t bytes = (uint64_t)usage.ru_maxrss * 1024;
    b->peak_bytes = bytes > b->peak_bytes ? bytes : b->peak_bytes;
}

/* Let the kernel's own note of the peak begin anew, at what is resident now (proc(5), clear_refs).
 * Where it cannot, the peak has the roof's buffer in it. */
static void forget_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (!f)
        return;
    fputs("5", f);
    fclose(f);
}

static struct roof_look look(const struct bench_report *r, struct bench *b)
{
    note_peak(b);
    if (b->o->without_roof)
        return (struct roof_look){0, 0};
    struct roof_look look = roof_look(&r->roof, &b->c->dev, b->c->precision);
    forget_peak();
    return look;
}

static int measure(struct bench_report *r, struct bench *b, int prompt, int batch,
                   struct series *pp, struct series *tg, struct sample *last, struct progress *bar)
{
    const struct bench_options *o = b->o;
    int status = 0;
    if (!o->without_warm_up)
        status = repeat(b, batch, prompt, o->generate < 4 ? o->generate : 4, last);
    struct roof_look before = look(r, b);
    for (int i = 0; i < o->repeats && !status; i++) {
        status = repeat(b, batch, prompt, o->generate, last);
        struct roof_look after = look(r, b);
        pp->roof[i] = tg->roof[i] = mean_of(before, after);
        pp->seconds[i] = last->prefill.seconds;
        tg->seconds[i] = last->decode.seconds / (o->generate ? o->generate : 1);
        pp->hits += last->prefill.hits;
        tg->hits += last->decode.hits / (uint64_t)(o->generate ? o->generate : 1);
        before = after;
        progress_update(bar, r->n_results / 2.0 + (i + 1.0) / o->repeats);
    }
    return status;
}

static int one_size(struct bench_report *r, struct bench *b, int prompt, int batch,
                    struct progress *bar)
{
    static struct series pp, tg;
    struct sample last = {0};
    int generate = b->o->generate;
    pp = (struct series){.n = b->o->repeats, .tokens = batch * prompt};
    tg = (struct series){.n = b->o->repeats, .tokens = batch};
    int status = measure(r, b, prompt, batch, &pp, &tg, &last, bar);
    if (status)
        return status;
    const struct config *m = &b->c->config;
    double kv = (double)kv_bytes_per_token(m, b->c->precision.type),
           context = prompt + generate / 2.0;
    if (prompt) {
        struct bench_result *result = new_result(r, b, "pp", prompt, batch, &last.prefill);
        struct need need =
            need_of(b, &pp, batch, batch * attention_flops(m, 0, prompt), kv * pp.tokens);
        set_roof(result, &pp, &need);
        statistics(result, &pp);
    }
    if (generate) {
        struct bench_result *result = new_result(r, b, "tg", generate, batch, &last.decode);
        struct need need = need_of(b, &tg, batch, batch * attention_flops(m, (int)context, 1),
                                   kv * context * batch);
        set_roof(result, &tg, &need);
        statistics(result, &tg);
    }
    return 0;
}

/* The threads of all ranks on this host that can run at once. */
static int threads_here(const struct coordinator *c)
{
    int ranks = c->transport ? transport_ranks_here(c->transport) : 1, cores = usable_cores();
    return ranks * c->dev.threads < cores ? ranks * c->dev.threads : cores;
}

/* The peak memory of the run. Workers under mpirun are processes, whose memory is added; local ones
 * are threads of this process. */
static int peak_memory(struct bench_report *r, struct bench *b)
{
    struct coordinator *c = b->c;
    note_peak(b);
    r->peak_bytes = b->peak_bytes;
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
    struct bench b = {.c = c, .o = o};
    struct progress bar;
    int status = 0;
    *r = (struct bench_report){0};
    note_peak(&b);
    if (!o->without_roof)
        roof_measure(&r->roof, &c->dev, threads_here(c), c->precision);
    forget_peak();
    rows_open(&b.rows, c->chunk);
    progress_open(&bar, "bench", "size", o->n_prompts * o->n_batches, 1);
    for (int i = 0; i < o->n_prompts * o->n_batches && !status; i++)
        status = one_size(r, &b, o->prompts[i / o->n_batches], o->batches[i % o->n_batches], &bar);
    progress_close(&bar);
    if (!status)
        status = peak_memory(r, &b);
    if (!status)
        status = coordinator_wire_error(c, &r->wire_error);
    if (!status)
        status = coordinator_finish_profile(c);
    rows_close(&b.rows);
    return status;
}
