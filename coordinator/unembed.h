/* Logits: the last norm and the output matrix, whose outputs may lie on several ranks. */
#pragma once

#include "coordinator/coordinator.h"

/* Allocate buffers for the exchange with ranks that have outputs. After root_open(). */
void unembed_open(struct coordinator *c);

/* c->state.logits [n][vocab_size], in device memory, := the logits of rows[0 .. n) of the last
 * step; n <= c->logit_rows. 0, or an error of the transport, the device or a worker: the run is
 * over. */
int unembed(struct coordinator *c, const int32_t *rows, int n);

/* The same, copied to the host's memory c->state.logits_host, valid until the next call. */
int unembed_download(struct coordinator *c, const int32_t *rows, int n);
/* The same; returns c->state.logits_host, or NULL after an error. */
const float *unembed_to_host(struct coordinator *c, const int32_t *rows, int n);

/* Does another rank than rank 0 have outputs? */
bool unembed_is_shared(const struct coordinator *c);

/* best [n][most], in the host's memory, := only the best candidates of each row, best first, among
 * equals the lower token first; most <= TOP_MOST and <= vocab_size. Other ranks send candidates
 * instead of logits, so less travels. Only with other ranks. Errors: as unembed(). */
int unembed_best(struct coordinator *c, const int32_t *rows, int n, int most,
                 struct candidate *best);
