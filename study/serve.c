#include "study/serve.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "coordinator/scheduler.h"
#include "study/quantile.h"

/* One request, from its arrival to its last token. */
struct visit {
    int64_t due_ns, first_ns, last_ns;
    int tokens;
    struct serving *of;
};

struct serving {
    struct coordinator *c;
    const struct serve_options *o;
    struct scheduler scheduler;
    struct visit *visits; // [requests], by arrival
    int32_t *prompts;     // [requests][prompt]
    double *gaps;         // [n_gaps] of [requests][generate - 1]: seconds between two tokens
    int n_gaps;
    int n_admitted, n_done;
    struct progress bar;
};

static bool on_token(void *context, int32_t token)
{
    struct visit *v = context;
    (void)token;
    int64_t now = clock_ns();
    if (v->tokens)
        v->of->gaps[v->of->n_gaps++] = (double)(now - v->last_ns) * 1e-9;
    else
        v->first_ns = now;
    v->last_ns = now;
    v->tokens++;
    return false;
}

static int on_end(void *context, const struct request_result *result)
{
    struct visit *v = context;
    if (result->finish == FINISH_FAILED)
        return fail(STATUS_FAILED, "%s", result->error);
    progress_update(&v->of->bar, ++v->of->n_done);
    return 0;
}

static struct request request_of(struct serving *s, int i)
{
    const struct serve_options *o = s->o;
    static const struct sampler_options greedy = {
        .top_p = 1, .typical_p = 1, .repetition_penalty = 1};
    return (struct request){.tokens = s->prompts + (size_t)i * (size_t)o->prompt,
                            .n = o->prompt,
                            .n_predict = o->generate,
                            .ignore_eos = true,
                            .sampler = greedy,
                            .on_token = on_token,
                            .on_end = on_end,
                            .context = &s->visits[i]};
}

/* In (0, 1], the same for the same seed and i. */
static double draw(const struct serve_options *o, int i)
{
    return ((double)(hash_mix(o->seed + (uint64_t)i) >> 11) + 1) * 0x1p-53;
}

/* Arrivals of a Poisson process: the gaps between them are independent, exponentially distributed
 * and of mean 1 / rate. */
static void plan(struct serving *s)
{
    const struct serve_options *o = s->o;
    double at = 0;
    int64_t now = clock_ns();
    size_t n_ids = (size_t)o->requests * (size_t)o->prompt;
    for (int i = 0; i < o->requests; i++) {
        s->visits[i] = (struct visit){.due_ns = now + (int64_t)(at * 1e9), .of = s};
        at -= log(draw(o, i)) / o->rate;
    }
    for (size_t i = 0; i < n_ids; i++)
        s->prompts[i] =
            (int32_t)(hash_mix(o->seed ^ (i << 20)) % (uint64_t)s->c->config.vocab_size);
    s->n_admitted = s->n_done = s->n_gaps = 0;
}

/* Give the scheduler what has arrived, in order, as far as it has room. */
static void admit(struct serving *s, struct serve_report *r)
{
    const struct serve_options *o = s->o;
    int64_t now = clock_ns();
    int arrived = s->n_admitted;
    while (arrived < o->requests && s->visits[arrived].due_ns <= now)
        arrived++;
    bool room = true;
    while (room && s->n_admitted < arrived) {
        struct request request = request_of(s, s->n_admitted);
        room = scheduler_admit(&s->scheduler, &request);
        s->n_admitted += room;
    }
    int waiting = arrived - s->n_admitted;
    r->most_waiting = waiting > r->most_waiting ? waiting : r->most_waiting;
}

static void sleep_until(int64_t when_ns)
{
    int64_t left = when_ns - clock_ns();
    struct timespec t = {left / 1000000000, left % 1000000000};
    if (left > 0)
        nanosleep(&t, NULL);
}

static int serve_all(struct serving *s, struct serve_report *r)
{
    int status = 0;
    while (s->n_done < s->o->requests && !status) {
        admit(s, r);
        if (s->scheduler.n_running)
            status = scheduler_step(&s->scheduler);
        else
            sleep_until(s->visits[s->n_admitted].due_ns);
    }
    return status;
}

/* A first request, whose times do not count. */
static int warm_up(struct serving *s)
{
    struct request request = request_of(s, 0);
    int status = request_check(s->c, request.tokens, request.n, request.n_predict);
    if (status)
        return status;
    CHECK(scheduler_admit(&s->scheduler, &request), "no room for one request");
    while (s->n_done == 0 && !status)
        status = scheduler_step(&s->scheduler);
    s->scheduler.steps = s->scheduler.sequence_steps = 0;
    return status;
}

static struct quantiles quantiles_of(double *values, int n)
{
    double sum = 0;
    if (n == 0)
        return (struct quantiles){0};
    for (int i = 0; i < n; i++)
        sum += values[i];
    sort_ascending(values, n);
    return (struct quantiles){sum / n, quantile(values, n, 0.5), quantile(values, n, 0.9),
                              quantile(values, n, 0.99)};
}

static void evaluate(struct serve_report *r, struct serving *s)
{
    int n = s->o->requests;
    double *ttft = calloc(3 * (size_t)n, sizeof *ttft), *tpot = ttft + n, *latency = tpot + n;
    CHECK_MEMORY(ttft, "no memory for the times of %d requests", n);
    int64_t end = 0;
    for (int i = 0; i < n; i++) {
        const struct visit *v = &s->visits[i];
        int gaps = v->tokens > 1 ? v->tokens - 1 : 1;
        ttft[i] = (double)(v->first_ns - v->due_ns) * 1e-9;
        tpot[i] = (double)(v->last_ns - v->first_ns) * 1e-9 / gaps;
        latency[i] = (double)(v->last_ns - v->due_ns) * 1e-9;
        end = v->last_ns > end ? v->last_ns : end;
    }
    r->seconds = (double)(end - s->visits[0].due_ns) * 1e-9;
    r->ttft = quantiles_of(ttft, n);
    r->tpot = quantiles_of(tpot, n);
    r->latency = quantiles_of(latency, n);
    r->itl = quantiles_of(s->gaps, s->n_gaps);
    r->mean_batch = (double)s->scheduler.sequence_steps / (double)s->scheduler.steps;
    r->at_a_time = s->scheduler.max_sequences;
    free(ttft);
}

int serve_run(struct serve_report *r, struct coordinator *c, const struct serve_options *o)
{
    struct serving s = {.c = c, .o = o};
    *r = (struct serve_report){0};
    s.visits = calloc((size_t)o->requests, sizeof *s.visits);
    s.prompts = calloc((size_t)o->requests * (size_t)o->prompt, sizeof *s.prompts);
    s.gaps = calloc((size_t)o->requests * (size_t)o->generate, sizeof *s.gaps);
    CHECK_MEMORY(s.visits && s.prompts && s.gaps, "no memory for %d requests", o->requests);
    scheduler_open(&s.scheduler, c);
    progress_open(&s.bar, "bench", "requests", o->requests, 1);
    plan(&s);
    int status = warm_up(&s);
    plan(&s);
    if (!status)
        status = serve_all(&s, r);
    progress_close(&s.bar);
    if (!status)
        evaluate(r, &s);
    scheduler_close(&s.scheduler);
    if (!status)
        status = coordinator_finish_profile(c);
    free(s.visits);
    free(s.prompts);
    free(s.gaps);
    return status;
}
