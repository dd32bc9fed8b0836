/* The log probabilities of a prompt's own tokens, from the logits of all its rows. */
#pragma once

#include "coordinator/scheduler.h"

enum { SCORE_BROKEN = -1 };

/* After forward(): rows [row, row + n) of the step are positions first, first + 1, ... of r's
 * sequence. For each row whose next token is in the prompt, set *r->scored and call r->on_scored.
 * 0; SCORE_BROKEN at the first row whose logits hold NaN or +infinity, or only -infinity; or the
 * run is over. */
int score_rows(struct coordinator *c, const struct request *r, int row, int first, int n);
