/* Logits: the last norm and the output matrix, whose outputs may lie on several ranks. */
#pragma once

#include "coordinator/coordinator.h"

/* Buffers for what other ranks do of it; after the exchange is open. */
void unembed_open(struct coordinator *c);

/* Logits of rows[0 .. n) of the last step, n <= coordinator.logit_rows, on the device:
 * c->state.logits [n][vocab_size]. 0, or what the transport returned: then the run is over. */
int unembed(struct coordinator *c, const int32_t *rows, int n);

/* The same in the host's memory, c->state.logits_host, valid until the next call. 0, or the run is
 * over. */
int unembed_download(struct coordinator *c, const int32_t *rows, int n);
/* These logits, for callers to whom any failure is the same: NULL. */
const float *unembed_to_host(struct coordinator *c, const int32_t *rows, int n);

/* Are there outputs on other ranks? */
bool unembed_is_shared(const struct coordinator *c);

/* Only the best `most` candidates of each row, most <= TOP_MOST and vocab_size, best first, the
 * lower token first among equals, in the host's memory: best [n][most]. Less travels. 0, or the run
 * is over. */
int unembed_best(struct coordinator *c, const int32_t *rows, int n, int most,
                 struct candidate *best);
