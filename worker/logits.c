#include "worker/logits.h"

#include "base/log.h"
#include "kernels/ops.h"

void worker_logits_open(struct worker_logits *l, struct dev *dev, const struct outputs_setup *setup)
{
    size_t n = (size_t)setup->rows, best = n * TOP_MOST * sizeof *l->best;
    size_t bytes = n * (size_t)l->unembed.n * sizeof *l->logits;
    l->dev = dev;
    outputs_open(&l->outputs, setup);
    l->rows = dev->cuda ? dev_alloc(dev, n * setup->row_bytes) : NULL;
    l->on_host = dev_alloc_host(dev, bytes);
    l->logits = dev_alloc_copy(dev, l->on_host, bytes);
    l->best_on_host = dev_alloc_host(dev, best);
    l->best = dev_alloc_copy(dev, l->best_on_host, best);
}

/* Compute what is to be sent back for n rows. Returns where it is: l->on_host or l->best_on_host.
 */
static const void *make_slice(struct worker_logits *l, const void *rows, int n, int most)
{
    struct dev *d = l->dev;
    int own = l->unembed.n, few = outputs_best(most, own);
    if (l->rows) {
        dev_upload(d, l->rows, rows, (size_t)n * l->outputs.s.row_bytes);
        rows = l->rows;
    }
    matmul(d, l->logits, own, rows, &l->unembed, n);
    if (most == 0) {
        dev_download(d, l->on_host, l->logits, (size_t)n * (size_t)own * sizeof *l->logits);
        return l->on_host;
    }
    top_tokens(d, l->best, l->logits, n, own, few);
    dev_download(d, l->best_on_host, l->best, (size_t)(n * few) * sizeof *l->best);
    return l->best_on_host;
}

int worker_logits_serve(struct worker_logits *l, const struct logits *asked)
{
    const void *rows;
    int n = asked->n_rows;
    if (n > l->outputs.s.rows || l->unembed.n == 0)
        return fail(STATUS_FAILED, "logits: expected at most %d rows for %d outputs, found %d",
                    l->outputs.s.rows, l->unembed.n, n);
    int status = outputs_receive(&l->outputs, n, &rows);
    if (status)
        return status;
    const void *slice = make_slice(l, rows, n, asked->best);
    status = dev_wait(l->dev);
    return status ? status : outputs_give(&l->outputs, slice, n, asked->best);
}
