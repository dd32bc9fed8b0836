/* Finds where numbers stop being finite, once a row's logits are not: the sequence goes through the
 * layers a second time, and its rows are looked at after each. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct coordinator;

enum { PROBE_EMBEDDING = -1 };

struct probe {
    float *rows; // host [chunk][dim]
    int first;   // the lowest layer after which a row was not finite; n_layers: none was
};

/* Look at x [n][dim], which has layer l (PROBE_EMBEDDING: none yet). Called by forward() while
 * c->probe is set. 0, or what dev_wait() said. */
int probe_look(struct coordinator *c, const float *x, int n, int l);

/* The logits of the last of tokens [n] are not all finite: text := a line that says in which
 * layer's output numbers first were not. The slot has its KV blocks, which get the values that they
 * have; c->state is overwritten. 0, or the run is over. */
int probe_explain(struct coordinator *c, int slot, const int32_t *tokens, int n, char *text,
                  size_t size);
