/* Picks the next tokens of a step's rows. The device applies the repetition penalty and finds each
 * row's best tokens. Only these candidates come to the host, which removes banned tokens and has
 * the sequence's sampler choose. The whole row comes to the host if the sampler needs more
 * candidates than the device finds, or needs adjust_row() or log probabilities
 * (coordinator/adjust.h); in the latter case the host applies the repetition penalty too.
 *
 * A row that holds NaN or +infinity, or only -infinity, gets PICK_BROKEN instead of a token. The
 * kernel `top` ranks NaN as infinity, so a look at the best candidate is enough. */
#pragma once

#include "coordinator/sampler.h"
#include "kernels/device.h"

struct picker {
    int vocab;
    uint32_t *seen;            // device [sequences][seen_words(vocab)] what each has said so far
    uint32_t *nothing;         // host [seen_words(vocab)] zeros
    struct candidate *all;     // host [2 * vocab] a whole row, ranked; then scratch
    float *raw;                // host [vocab] a row before adjust_row() has changed it
    int32_t *counts;           // host [vocab] scratch of adjust_row()
    int32_t *seq;              // [rows] the caller sets the sequence of each row of a call
    struct sampler **samplers; // [rows] and its sampler
    int32_t *picked;           // [rows] the result: a token, PICK_BROKEN or PICK_NONE_LEFT
    int *needs;                // [rows] how many candidates they need; 0: the whole row
    int *n_banned;             // [rows] how many tokens may not come next
    uint32_t *banned;          // host [rows][seen_words(vocab)] which ones
    struct penalty *penalties, *penalties_host; // [rows] on the device, on the host
    struct candidate *best, *best_host;         // [rows][most]; on the device, on the host
    struct candidate *merged;                   // host [rows][most], for unembed_best()
};

/* For calls of at most `rows` rows, and sequences 0 .. sequences - 1. Memory is the device's. */
void picker_open(struct picker *p, struct dev *d, int vocab, int rows, int sequences);

/* Begin a sequence, and mark tokens [n] as seen: those that no step will compute, as they are in
 * the KV cache already. picker_see() marks the others. */
void picker_begin(struct picker *p, struct dev *d, int seq, const int32_t *tokens, int n);
/* Mark tokens[i] as seen by sequence seq[i]; both arrays [n] are in device memory. */
void picker_see(struct picker *p, struct dev *d, const int32_t *tokens, const int32_t *seq, int n);
/* The first call for n rows, whose p->seq and p->samplers are set: finds the banned tokens and how
 * many candidates each row needs. Returns the most that a row needs, so that picker_pick_from() may
 * follow; 0: some row has to come whole or needs the repetition penalty, so picker_pick() must
 * follow. */
int picker_needs(struct picker *p, int n);
/* p->picked[i] := what samplers[i] chooses from row i of logits [n][vocab] in device memory, which
 * change. host [n][vocab]: room for the rows that come whole. Waits: 0, or what dev_wait() said. */
int picker_pick(struct picker *p, struct dev *d, float *logits, float *host, int n);
/* The same from the best candidates [n][most] of each row, most >= what picker_needs() returned;
 * they are overwritten. */
void picker_pick_from(struct picker *p, struct candidate *best, int most, int n);
