/* Finds where numbers stop being finite, once a row's logits are not: the sequence goes through the
 * layers a second time, and its rows are looked at after each. */
#pragma once

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

/* *layer := the first layer in whose output a row of tokens [n] of a slot, whose KV blocks it has,
 * is not finite; PROBE_EMBEDDING: before all layers; n_layers: after them. It overwrites c->state
 * and gives the KV cache the values that it has. 0, or the run is over. */
int probe_sequence(struct coordinator *c, int slot, const int32_t *tokens, int n, int *layer);
