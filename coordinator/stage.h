/* Between the device that computes and the memory that rows travel from. A transport moves the
 * host's memory; where the coordinator's device is another one, what the exchange reads comes down
 * to struct routed of the host, and what has landed there goes up again; rows only where NCCL does
 * not move them from GPU to GPU. On the CPU, and without other ranks, both are one and nothing is
 * copied. */
#pragma once

#include "coordinator/coordinator.h"

/* Must rows be copied between the two? */
static inline bool is_staged(const struct coordinator *c)
{
    return c->host.kernels != NULL;
}

/* Do rows stay on the device, to be moved by NCCL? */
static inline bool is_direct(const struct coordinator *c)
{
    return c->nccl;
}

/* The rows, and what the device has routed, if it has, are the host's to read. Waits. */
int stage_down(struct coordinator *c, const struct state *s, int n, bool routed);

/* The n rows that experts and pieces at home are to read: those of a narrower wire, if there is
 * one. */
const void *stage_home_rows(struct coordinator *c, const struct state *s, const struct root_end *x,
                            int n);

/* Before combine: what was made at home, where it must be narrowed like the rest. Waits. */
int stage_home_results(struct coordinator *c, const struct state *s, const struct root_end *x);

/* After combine: results and terms as add_norm is to have them, on the device. */
void stage_up(struct coordinator *c, const struct state *s, const struct routing *r,
              const struct root_end *x, struct row_terms *terms);
