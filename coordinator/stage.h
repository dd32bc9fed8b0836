/* Copies between a GPU and the host's memory, which a transport sends from and receives to. Before
 * a dispatch what the exchange reads is copied to s->host, and after it the results are copied back
 * to the GPU. If NCCL moves rows from GPU to GPU, only the routing is copied. On the CPU, and
 * without other ranks, nothing is copied. n: rows of the step, or of its half. */
#pragma once

#include "coordinator/coordinator.h"

/* Does a GPU compute while messages leave from the host's memory? */
static inline bool is_staged(const struct coordinator *c)
{
    return c->host.kernels != NULL;
}

/* Do rows stay on the device, to be moved by NCCL? */
static inline bool is_direct(const struct coordinator *c)
{
    return c->nccl;
}

/* Copy the rows (unless NCCL moves them) and, with `routed`, the routing to s->host. Waits: 0, or
 * what dev_wait() said. */
int stage_down(struct coordinator *c, const struct state *s, int n, bool routed);

/* The n rows, in device memory, that rank 0's own experts and pieces are to read: rounded as a
 * narrower wire rounds them, if there is one. */
const void *stage_home_rows(struct coordinator *c, const struct state *s, const struct root_end *x,
                            int n);

/* Before root_combine(): with a narrower wire, copy the results of rank 0's own experts and pieces
 * to s->host, to be narrowed like all others. Waits: 0, or what dev_wait() said. */
int stage_home_results(struct coordinator *c, const struct state *s, const struct root_end *x);

/* After root_combine(): copy the results to the device, and *terms too if they are not the
 * routing's; terms then points to device memory. */
void stage_up(struct coordinator *c, const struct state *s, const struct routing *r,
              const struct root_end *x, struct row_terms *terms);
