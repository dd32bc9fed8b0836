#include "study/expert_run.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"
#include "kernels/ops.h"

enum { LEAST_RUNS = 3 };

/* Rows of values in (-1, 1): zeros could be faster than what a model has. */
static void fill(struct expert_run *r, size_t values)
{
    struct dev *d = &r->c->dev;
    size_t bytes = values * (size_t)dtype_bytes(r->c->precision.type);
    void *host = malloc(bytes);
    CHECK_MEMORY(host, "no memory for %zu bytes of rows", bytes);
    for (size_t i = 0; i < values; i++)
        dtype_store(r->c->precision.type, host, i, (float)(hash_mix(i + 1) >> 40) * 0x1p-23f - 1);
    dev_upload(d, r->x, host, bytes);
    CHECK(dev_wait(d) == 0, "rows were not taken");
    free(host);
}

static double seconds(void *of, int i, const struct traffic *t, const bool *wanted)
{
    return expert_run_seconds(of, i, t, wanted, 0);
}

void expert_run_open(struct expert_run *r, struct coordinator *c, int rows)
{
    struct dev *d = &c->dev;
    size_t n = (size_t)rows, pairs = n * (size_t)c->config.top_k;
    size_t row = c->shard.row_bytes, experts = (size_t)c->config.n_experts;
    *r = (struct expert_run){.runner = {r, seconds}, .c = c, .rows = rows};
    r->x = dev_alloc(d, n * row);
    r->y = dev_alloc(d, pairs * row);
    r->source_host = dev_alloc_host(d, pairs * sizeof *r->source_host);
    r->count_host = dev_alloc_host(d, experts * sizeof *r->count_host);
    r->source = dev_alloc_copy(d, r->source_host, pairs * sizeof *r->source);
    r->count = dev_alloc_copy(d, r->count_host, experts * sizeof *r->count);
    fill(r, n * row / (size_t)dtype_bytes(c->precision.type));
}

/* The model's number of the i-th layer with experts. */
static int layer_of(const struct config *m, int i)
{
    int layer = 0;
    while (!m->sparse[layer] || i-- > 0)
        layer++;
    return layer;
}

/* The wanted rows in order of expert, as the exchange sorts them; returns their number. */
static int sort_wanted(struct expert_run *r, const struct traffic *t, const bool *wanted)
{
    int n = 0;
    for (int e = 0; e < r->c->config.n_experts; e++) {
        int first = n;
        for (int pair = 0; wanted[e] && pair < t->n * t->k; pair++)
            if (t->expert[pair] == e)
                r->source_host[n++] = pair / t->k;
        r->count_host[e] = n - first;
    }
    return n;
}

static void run_once(struct dev *d, const struct ffn_job *job)
{
    run_ffn(d, job, 1);
    CHECK(dev_wait(d) == 0, "the device failed");
}

double expert_run_seconds(struct expert_run *r, int i, const struct traffic *t, const bool *wanted,
                          double stretch)
{
    struct dev *d = &r->c->dev;
    struct ffn_job job = shard_experts_job(&r->c->shard, layer_of(&r->c->config, i));
    int runs = 0;
    CHECK(t->n <= r->rows, "%d rows, room for %d", t->n, r->rows);
    job.n = sort_wanted(r, t, wanted);
    dev_upload(d, r->source, r->source_host, (size_t)job.n * sizeof *r->source);
    dev_upload(d, r->count, r->count_host, (size_t)r->c->config.n_experts * sizeof *r->count);
    job.y = r->y;
    job.x = r->x;
    job.source = r->source;
    job.count = r->count;
    run_once(d, &job);
    int64_t start = clock_ns();
    for (; runs < LEAST_RUNS || seconds_since(start) < stretch; runs++)
        run_once(d, &job);
    return seconds_since(start) / runs;
}
