/* Finds out why a row's logits are not finite: the sequence is computed again, and after each layer
 * its rows are checked for NaN and infinity. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct coordinator;

enum { PROBE_EMBEDDING = -1 };

struct probe {
    float *rows; // host [chunk][dim]
    int first;   // the lowest layer whose output was not finite; n_layers: none so far
};

/* Check x [n][dim] in device memory, the output of layer l (PROBE_EMBEDDING: of the embedding), and
 * update c->probe. forward() calls it while c->probe is set. 0, or what dev_wait() said. */
int probe_look(struct coordinator *c, const float *x, int n, int l);

/* For a slot whose logits after tokens [n] are not all finite: text := a line that says in which
 * layer's output the first such number was. The slot must have its KV blocks, which are written
 * with the same values again; c->state is overwritten. 0, or the run is over. */
int probe_explain(struct coordinator *c, int slot, const int32_t *tokens, int n, char *text,
                  size_t size);
