#include "coordinator/probe.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "coordinator/forward.h"

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

int probe_look(struct coordinator *c, const float *x, int n, int l)
{
    struct probe *p = c->probe;
    size_t count = (size_t)n * (size_t)c->config.dim;
    if (l >= p->first)
        return 0;
    dev_download(&c->dev, p->rows, x, count * sizeof *x);
    int status = dev_wait(&c->dev);
    if (!status && !all_finite(p->rows, count))
        p->first = l;
    return status;
}

/* *layer := the first layer whose output is not finite; PROBE_EMBEDDING: the embedding is not;
 * n_layers: all are. */
static int probe_sequence(struct coordinator *c, int slot, const int32_t *tokens, int n, int *layer)
{
    size_t values = (size_t)c->chunk * (size_t)c->config.dim;
    struct probe probe = {malloc(values * sizeof(float)), c->config.n_layers};
    CHECK_MEMORY(probe.rows, "no memory for a chunk of %d rows", c->chunk);
    c->probe = &probe;
    int status = forward_sequence(c, slot, tokens, n, NULL, NULL);
    c->probe = NULL;
    *layer = probe.first;
    free(probe.rows);
    return status;
}

int probe_explain(struct coordinator *c, int slot, const int32_t *tokens, int n, char *text,
                  size_t size)
{
    int n_layers = c->config.n_layers, layer;
    char where[160];
    int status = probe_sequence(c, slot, tokens, n, &layer);
    if (layer == PROBE_EMBEDDING)
        snprintf(where, sizeof where, "as has the embedding: its weights are broken");
    else if (layer == n_layers)
        snprintf(where, sizeof where,
                 "though the output of every layer is finite: the last norm or the output matrix "
                 "is broken");
    else
        snprintf(where, sizeof where,
                 "first in the output of layer %d (of 0 to %d): its weights are broken, or its "
                 "numbers too large for %s",
                 layer, n_layers - 1, precision_text(&c->precision).text);
    snprintf(text, size,
             "expected numbers for the logits at position %d, found NaN or infinity, %s", n - 1,
             where);
    return status;
}
