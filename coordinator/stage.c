#include "coordinator/stage.h"

static size_t row_size(const struct coordinator *c)
{
    return (size_t)row_stride(c->config.dim) * (size_t)dtype_bytes(c->precision.type);
}

static size_t piece_size(const struct coordinator *c)
{
    return (size_t)row_stride(c->config.dim) * sizeof(float);
}

int stage_down(struct coordinator *c, const struct state *s, int n, bool routed)
{
    const struct routed *host = &s->host;
    size_t pairs = (size_t)n * (size_t)c->config.top_k;
    trace_mark(c->trace, PHASE_PACK);
    if (!is_direct(c))
        dev_download(&c->dev, host->h, s->h, (size_t)n * row_size(c));
    if (!routed)
        return dev_wait(&c->dev);
    dev_download(&c->dev, host->expert, s->expert, pairs * sizeof *s->expert);
    dev_download(&c->dev, host->weight, s->weight, pairs * sizeof *s->weight);
    dev_download(&c->dev, host->slot, s->slot, pairs * sizeof *s->slot);
    dev_download(&c->dev, host->source, s->source, pairs * sizeof *s->source);
    dev_download(&c->dev, host->count, s->count, (size_t)s->groups * sizeof *s->count);
    int status = dev_wait(&c->dev);
    trace_mark(c->trace, PHASE_PLAN);
    return status;
}

const void *stage_home_rows(struct coordinator *c, const struct state *s, const struct root_end *x,
                            int n)
{
    const void *rows = root_input(x);
    if (!is_staged(c) || is_direct(c))
        return rows;
    if (rows == s->host.h)
        return s->h;
    dev_upload(&c->dev, s->seen, rows, (size_t)n * row_size(c));
    return s->seen;
}

int stage_home_results(struct coordinator *c, const struct state *s, const struct root_end *x)
{
    size_t first = (size_t)root_home_pieces(x) * piece_size(c);
    if (c->options.wire == WIRE_MODEL || is_direct(c))
        return 0;
    trace_mark(c->trace, PHASE_HOME);
    dev_download(&c->dev, s->host.y, s->y, (size_t)root_home_rows(x) * row_size(c));
    dev_download(&c->dev, (char *)s->host.z + first, (char *)s->z + first,
                 (size_t)root_home_piece_rows(x) * piece_size(c));
    return dev_wait(&c->dev);
}

/* Copy the results of other ranks to the device; with a narrower wire rank 0's own, too. */
static void upload_results(struct coordinator *c, const struct state *s, const struct routing *r,
                           const struct root_end *x)
{
    bool narrow = c->options.wire != WIRE_MODEL;
    size_t pairs = (size_t)r->n * (size_t)r->k, skip = narrow ? 0 : (size_t)root_home_rows(x);
    size_t before = (size_t)root_home_pieces(x), all = (size_t)root_piece_rows(x);
    size_t after = before + (narrow ? 0 : (size_t)root_home_piece_rows(x));
    size_t row = row_size(c), piece = piece_size(c);
    dev_upload(&c->dev, (char *)s->y + skip * row, (char *)s->host.y + skip * row,
               (pairs - skip) * row);
    dev_upload(&c->dev, s->z, s->host.z, before * piece);
    dev_upload(&c->dev, (char *)s->z + after * piece, (char *)s->host.z + after * piece,
               (all - after) * piece);
}

void stage_up(struct coordinator *c, const struct state *s, const struct routing *r,
              const struct root_end *x, struct row_terms *terms)
{
    size_t pairs = (size_t)r->n * (size_t)r->k;
    if (!is_direct(c))
        upload_results(c, s, r, x);
    if (terms->slot != s->host.slot) { // sums have slots and weights of their own
        dev_upload(&c->dev, s->slot, terms->slot, pairs * sizeof *s->slot);
        dev_upload(&c->dev, s->weight, terms->weight, pairs * sizeof *s->weight);
    }
    *terms = (struct row_terms){s->slot, s->weight};
}
