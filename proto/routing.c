/* Writing files of recorded routing. */
#include "proto/routing.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "routing.pb-c.h"

enum { FORMAT = 1 };

/* Each message is a Routing that holds one part of the file. */
static void write_part(struct routing_writer *w, const Routing *part)
{
    size_t n = routing__get_packed_size(part);
    uint8_t *bytes = malloc(n + 1);
    CHECK_MEMORY(bytes, "no memory for a step of %zu bytes", n);
    routing__pack(part, bytes);
    fwrite(bytes, 1, n, w->file.stream);
    free(bytes);
}

static ProtobufCBinaryData text(const char *s)
{
    return (ProtobufCBinaryData){strnlen(s, ROUTING_TEXT_BYTES), (uint8_t *)(uintptr_t)s};
}

int routing_write_begin(struct routing_writer *w, const char *path, const struct routing_head *h)
{
    Routing part = ROUTING__INIT;
    RoutingHead head = ROUTING_HEAD__INIT;
    *w = (struct routing_writer){0};
    int status = outfile_open(&w->file, path);
    if (status)
        return status;
    head.format = FORMAT;
    head.version = text(h->version);
    head.model = text(h->model);
    head.digest = h->digest;
    head.n_experts = (uint32_t)h->n_experts;
    head.top_k = (uint32_t)h->top_k;
    head.hidden = (uint32_t)h->hidden;
    head.dtype = text(dtype_name(h->dtype));
    head.sparse = (ProtobufCBinaryData){(size_t)h->n_layers, (uint8_t *)(uintptr_t)h->sparse};
    part.head = &head;
    write_part(w, &part);
    return 0;
}

static size_t sparse_layers(const struct routing_head *h)
{
    size_t n = 0;
    for (int l = 0; l < h->n_layers; l++)
        n += h->sparse[l];
    return n;
}

_Static_assert(sizeof(struct routing_run) == 3 * sizeof(uint32_t), "a run is three numbers");

void routing_write_step(struct routing_writer *w, const struct routing_head *h,
                        const struct routing_step *s)
{
    Routing part = ROUTING__INIT;
    RoutingStep step = ROUTING_STEP__INIT, *one = &step;
    size_t pairs = (size_t)s->n_rows * (size_t)h->top_k;
    step.n_rows = (uint32_t)s->n_rows;
    step.experts = (ProtobufCBinaryData){sparse_layers(h) * pairs * routing_expert_bytes(h),
                                         (uint8_t *)(uintptr_t)s->experts};
    step.n_token = (size_t)s->n_rows;
    step.token = (uint32_t *)(uintptr_t)s->token;
    step.n_run = (size_t)s->n_runs * 3;
    step.run = (uint32_t *)(uintptr_t)s->runs;
    part.n_step = 1;
    part.step = &one;
    write_part(w, &part);
    w->steps++;
    w->rows += (uint64_t)s->n_rows;
}

int routing_write_end(struct routing_writer *w)
{
    Routing part = ROUTING__INIT;
    RoutingEnd end = ROUTING_END__INIT;
    end.steps = w->steps;
    end.rows = w->rows;
    part.end = &end;
    write_part(w, &part);
    return outfile_commit(&w->file);
}

void routing_write_abort(struct routing_writer *w)
{
    outfile_abort(&w->file);
}
