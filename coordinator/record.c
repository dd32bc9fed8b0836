#include "coordinator/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"

struct record {
    struct arena memory;
    struct routing_head head;
    struct routing_writer writer;
    int *number;      // [layers] the number of each layer among those with experts
    uint8_t *experts; // [layers with experts][rows][top_k] of the step, in the file's form
    int32_t *routed;  // [rows][top_k] of a layer, in the host's memory
    struct routing_run *runs;
    struct routing_step step;
};

static int make_head(struct record *r, const struct record_setup *setup)
{
    const struct config *m = setup->config;
    uint8_t *sparse = arena_alloc(&r->memory, (size_t)m->n_layers);
    int n_sparse = 0;
    r->number = arena_alloc(&r->memory, (size_t)m->n_layers * sizeof *r->number);
    for (int l = 0; l < m->n_layers; l++) {
        sparse[l] = m->sparse[l];
        r->number[l] = n_sparse;
        n_sparse += m->sparse[l];
    }
    r->head = (struct routing_head){.version = arena_strdup(&r->memory, setup->version),
                                    .model = arena_strdup(&r->memory, setup->model),
                                    .digest = setup->digest,
                                    .n_layers = m->n_layers,
                                    .n_experts = m->n_experts,
                                    .top_k = m->top_k,
                                    .hidden = m->dim,
                                    .dtype = setup->dtype,
                                    .sparse = sparse};
    return n_sparse;
}

int record_open(struct record **record, const struct record_setup *setup)
{
    *record = NULL;
    if (!setup->path)
        return 0;
    struct record *r = calloc(1, sizeof *r);
    CHECK_MEMORY(r, "no memory for a record of routing");
    size_t layers = (size_t)make_head(r, setup), rows = (size_t)setup->rows;
    size_t pairs = rows * (size_t)r->head.top_k;
    int status = layers ? routing_write_begin(&r->writer, setup->path, &r->head)
                        : fail(STATUS_USAGE,
                               "--record-routing: expected a model with experts, found none in %s",
                               setup->model);
    if (status) {
        arena_free(&r->memory);
        free(r);
        return status;
    }
    r->experts = arena_alloc(&r->memory, layers * pairs * routing_expert_bytes(&r->head));
    r->routed = arena_alloc(&r->memory, pairs * sizeof *r->routed);
    r->runs = arena_alloc(&r->memory, rows * sizeof *r->runs);
    *record = r;
    return 0;
}

int record_finish(struct record *r)
{
    return r ? routing_write_end(&r->writer) : 0;
}

void record_close(struct record *r)
{
    if (!r)
        return;
    routing_write_abort(&r->writer);
    arena_free(&r->memory);
    free(r);
}

void record_begin_step(struct record *r, int n, const int32_t *tokens, const int32_t *seq,
                       const int32_t *pos)
{
    if (!r)
        return;
    r->step =
        (struct routing_step){.n_rows = n, .runs = r->runs, .token = tokens, .experts = r->experts};
    for (int i = 0; i < n; i++) {
        bool goes_on = i > 0 && seq[i] == seq[i - 1] && pos[i] == pos[i - 1] + 1;
        if (!goes_on)
            r->runs[r->step.n_runs++] = (struct routing_run){seq[i], pos[i], 0};
        r->runs[r->step.n_runs - 1].rows++;
    }
}

void record_rows(struct record *r, struct dev *d, int layer, int first, const int32_t *expert,
                 int n)
{
    if (!r)
        return;
    size_t k = (size_t)r->head.top_k, pairs = (size_t)n * k;
    size_t width = routing_expert_bytes(&r->head);
    size_t begin = ((size_t)r->number[layer] * (size_t)r->step.n_rows + (size_t)first) * k;
    uint8_t *to = r->experts + begin * width;
    dev_download(d, r->routed, expert, pairs * sizeof *r->routed);
    for (size_t p = 0; p < pairs; p++, to += width) {
        to[0] = (uint8_t)r->routed[p];
        if (width == 2)
            to[1] = (uint8_t)(r->routed[p] >> 8);
    }
}

void record_end_step(struct record *r)
{
    if (r)
        routing_write_step(&r->writer, &r->head, &r->step);
}
