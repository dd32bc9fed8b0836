/* The log probabilities of a prompt's own tokens, from the logits of all its rows. */
#pragma once

#include "coordinator/scheduler.h"

enum { SCORE_BROKEN = -1 };

/* After forward(): rows [row, row + n) of the step are positions first, first + 1, ... of r's
 * prompt, or of what follows it, which is left out. Calls r->on_scored for the token after each. 0;
 * SCORE_BROKEN if a row's logits hold NaN or infinity, or nothing but minus infinity, after the
 * calls for those before it; or the run is over. */
int score_rows(struct coordinator *c, const struct request *r, int row, int first, int n);
