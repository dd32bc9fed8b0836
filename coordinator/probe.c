#include "coordinator/probe.h"

#include <math.h>
#include <stdbool.h>
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

int probe_sequence(struct coordinator *c, int slot, const int32_t *tokens, int n, int *layer)
{
    size_t rows = (size_t)c->chunk;
    struct probe probe = {malloc(rows * (size_t)c->config.dim * sizeof(float)), c->config.n_layers};
    int32_t *seq = malloc(rows * sizeof *seq), *pos = malloc(rows * sizeof *pos);
    int status = 0;
    CHECK_MEMORY(probe.rows && seq && pos, "no memory for a chunk of %zu rows", rows);
    c->probe = &probe;
    for (int done = 0; done < n && !status; done += c->chunk) {
        int count = n - done < c->chunk ? n - done : c->chunk;
        for (int i = 0; i < count; i++) {
            seq[i] = slot;
            pos[i] = done + i;
        }
        status = forward(c, &(struct batch){count, tokens + done, seq, pos});
    }
    c->probe = NULL;
    *layer = probe.first;
    free(probe.rows);
    free(seq);
    free(pos);
    return status;
}
