/* The next tokens of a step's rows. The device penalises what a sequence has said and finds the
 * best few tokens; only these come to the host, where tokens that may not come next are left out
 * and the sequence's sampler chooses. A sampler that chooses among more than the device can rank
 * gets its whole row, and so does one whose request wants more of the row (coordinator/adjust.h);
 * the host then penalises it as well.
 *
 * Where a row holds NaN or infinity, or nothing but minus infinity, no token is picked but
 * PICK_BROKEN: the kernel `top` ranks NaN
 * first, so one look at the best candidate is enough. */
#pragma once

#include "coordinator/sampler.h"
#include "kernels/device.h"

struct picker {
    int vocab;
    uint32_t *seen;            // device [sequences][seen_words(vocab)] what each has said so far
    uint32_t *nothing;         // host [seen_words(vocab)] zeros
    struct candidate *all;     // host [2 * vocab] a whole row, ranked; scratch
    float *raw;                // host [vocab] the row before adjust_row() has changed it
    int32_t *counts;           // host [vocab] scratch of adjust_row()
    int32_t *seq;              // [rows] of a call: sequences,
    struct sampler **samplers; // their samplers,
    int32_t *picked;           // and what they picked, or PICK_BROKEN or PICK_NONE_LEFT
    int *needs;                // [rows] how many candidates they need; 0: the whole row
    int *n_banned;             // [rows] how many tokens may not come next
    uint32_t *banned;          // host [rows][seen_words(vocab)] which ones
    struct penalty *penalties, *penalties_host;
    struct candidate *best, *best_host; // [rows][most]
    struct candidate *merged;           // host [rows][most] of several ranks
};

/* Calls of at most `rows` rows, of sequences below `sequences`. */
void picker_open(struct picker *p, struct dev *d, int vocab, int rows, int sequences);

/* A new sequence begins, which has said the first n of its tokens; the others come by picker_see().
 */
void picker_begin(struct picker *p, struct dev *d, int seq, const int32_t *tokens, int n);
/* Tokens [n] of sequences seq [n], both the device's, have been said. */
void picker_see(struct picker *p, struct dev *d, const int32_t *tokens, const int32_t *seq, int n);
/* The first call for n rows, whose seq and samplers are set: note which tokens may not come next,
 * and how many candidates each row needs. Returns how many of each row are enough for
 * picker_pick_from(); 0: whole rows are needed, or what sequences have said is to be penalised
 * first, so picker_pick() must follow. */
int picker_needs(struct picker *p, int n);
/* picked[i] := what samplers[i] chooses for seq[i] from row i of the device's logits [n][vocab],
 * which change; `host` is memory for them. Waits: 0, or what dev_wait() said. */
int picker_pick(struct picker *p, struct dev *d, float *logits, float *host, int n);
/* The same from candidates best [n][most], of at least picker_needs(); they are overwritten. */
void picker_pick_from(struct picker *p, struct candidate *best, int most, int n);
