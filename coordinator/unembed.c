#include "coordinator/unembed.h"

#include <math.h>
#include <string.h>

#include "coordinator/cluster.h"
#include "kernels/ops.h"

void unembed_open(struct coordinator *c)
{
    size_t row = (size_t)row_stride(c->config.dim) * (size_t)dtype_bytes(c->precision.type);
    struct outputs_setup setup = {.host = wire_dev(c),
                                  .transport = c->transport,
                                  .first = c->placement.output_first,
                                  .rows = c->logit_rows,
                                  .row_bytes = row,
                                  .counters = root_counters_of_all(c->exchange[0])};
    outputs_open(&c->outputs, &setup);
}

bool unembed_is_shared(const struct coordinator *c)
{
    return outputs_are_shared(&c->outputs);
}

/* h := rmsnorm of the picked rows */
static void pick_rows(struct coordinator *c, const int32_t *rows, int n)
{
    const struct config *m = &c->config;
    struct state *s = &c->state;
    struct dev *d = &c->dev;
    memcpy(s->picks_host, rows, (size_t)n * sizeof *rows);
    dev_upload(d, s->picks, s->picks_host, (size_t)n * sizeof *rows);
    gather(d, s->picked, s->x, s->picks, n, (size_t)m->dim * sizeof(float));
    rmsnorm(d, s->h, c->precision.type, s->picked, c->weights.final_norm, n, m->dim, m->norm_eps);
}

static int own_outputs(const struct coordinator *c)
{
    return c->weights.unembed.n;
}

/* Tell the workers that have outputs, and send them the rows. */
static int ask_others(struct coordinator *c, int n, int most)
{
    struct control message = {.kind = CONTROL_LOGITS, .logits = {n, most}};
    int status = 0;
    if (!unembed_is_shared(c))
        return 0;
    dev_download(&c->dev, c->outputs.rows, c->state.h, (size_t)n * c->outputs.s.row_bytes);
    status = dev_wait(&c->dev);
    for (int rank = 1; rank < c->transport->size && !status; rank++)
        if (outputs_of(&c->outputs, rank))
            status = control_send(c->transport, rank, &message);
    return status ? status : outputs_send(&c->outputs, n, most);
}

static int hear_others(struct coordinator *c, int n, int most)
{
    if (!unembed_is_shared(c))
        return 0;
    int status = outputs_take(&c->outputs, n, most);
    if (status)
        root_drop(c->exchange[0]);
    return status == TRANSPORT_INTERRUPTED ? cluster_fault(c->transport) : status;
}

/* Copy the slices that other ranks sent to their columns of the logits. */
static void place_slices(struct coordinator *c, int n)
{
    const struct outputs *x = &c->outputs;
    size_t vocab = (size_t)c->config.vocab_size;
    for (int rank = 1; c->transport && rank < c->transport->size; rank++) {
        size_t width = (size_t)outputs_of(x, rank), first = (size_t)x->s.first[rank];
        for (size_t i = 0; i < (size_t)n && width; i++)
            dev_upload(&c->dev, c->state.logits + i * vocab + first,
                       (const float *)(const void *)x->slice[rank] + i * width,
                       width * sizeof(float));
    }
}

int unembed(struct coordinator *c, const int32_t *rows, int n)
{
    struct state *s = &c->state;
    trace_mark(c->trace, PHASE_LOGITS);
    pick_rows(c, rows, n);
    int status = ask_others(c, n, 0);
    if (!status && own_outputs(c))
        matmul(&c->dev, s->logits, c->config.vocab_size, s->h, &c->weights.unembed, n);
    if (!status)
        status = hear_others(c, n, 0);
    if (!status)
        place_slices(c, n);
    trace_mark(c->trace, PHASE_OUTSIDE);
    return status;
}

int unembed_download(struct coordinator *c, const int32_t *rows, int n)
{
    struct state *s = &c->state;
    int status = unembed(c, rows, n);
    if (status)
        return status;
    dev_download(&c->dev, s->logits_host, s->logits,
                 (size_t)n * (size_t)c->config.vocab_size * sizeof *s->logits);
    return dev_wait(&c->dev);
}

const float *unembed_to_host(struct coordinator *c, const int32_t *rows, int n)
{
    return unembed_download(c, rows, n) ? NULL : c->state.logits_host;
}

/* ---- candidates ---- */

/* Is a before b? The kernel `top` makes no NaN; one that another rank sends counts as minus
 * infinity. */
static bool is_better(struct candidate a, struct candidate b)
{
    float x = a.logit == a.logit ? a.logit : -INFINITY,
          y = b.logit == b.logit ? b.logit : -INFINITY;
    return x > y || (x == y && a.token < b.token);
}

/* Insert a candidate at its place in best [*n], which is in order; drop the last one if there are
 * more than `most`. */
static void insert(struct candidate *best, int *n, int most, struct candidate one)
{
    if (*n == most && !is_better(one, best[most - 1]))
        return;
    int at = *n < most ? (*n)++ : most - 1;
    for (; at > 0 && is_better(one, best[at - 1]); at--)
        best[at] = best[at - 1];
    best[at] = one;
}

/* picker.best_host [n][few] := the best candidates of each row among this rank's outputs. Returns
 * `few`, how many of a row. */
static int find_own(struct coordinator *c, int n, int most)
{
    struct picker *p = &c->picker;
    int own = own_outputs(c), few = outputs_best(most, own);
    if (own == 0)
        return 0;
    matmul(&c->dev, c->state.logits, own, c->state.h, &c->weights.unembed, n);
    top_tokens(&c->dev, p->best, c->state.logits, n, own, few);
    dev_download(&c->dev, p->best_host, p->best, (size_t)(n * few) * sizeof *p->best);
    return few;
}

static void merge_row(const struct coordinator *c, int row, int most, int own,
                      struct candidate *best)
{
    const struct outputs *x = &c->outputs;
    int n = 0;
    for (int i = 0; i < own; i++)
        insert(best, &n, most, c->picker.best_host[row * own + i]);
    for (int rank = 1; rank < c->transport->size; rank++) {
        int few = outputs_best(most, outputs_of(x, rank));
        const struct candidate *from = (const struct candidate *)(const void *)x->slice[rank];
        for (int i = 0; i < few; i++) {
            struct candidate one = from[row * few + i];
            one.token += x->s.first[rank];
            insert(best, &n, most, one);
        }
    }
}

int unembed_best(struct coordinator *c, const int32_t *rows, int n, int most,
                 struct candidate *best)
{
    int own = 0;
    trace_mark(c->trace, PHASE_LOGITS);
    pick_rows(c, rows, n);
    int status = ask_others(c, n, most);
    if (!status)
        own = find_own(c, n, most);
    if (!status)
        status = hear_others(c, n, most);
    if (!status)
        status = dev_wait(&c->dev);
    for (int i = 0; i < n && !status; i++)
        merge_row(c, i, most, own, best + (size_t)(i * most));
    trace_mark(c->trace, PHASE_OUTSIDE);
    return status;
}
