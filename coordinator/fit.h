/* Does a model fit its GPU? Asked before a byte is loaded. */
#pragma once

#include "coordinator/coordinator.h"

/* 0, or STATUS_FAILED with the sum that shows why not, and what would fit. Always 0 on the CPU,
 * whose memory may be lent. Wants an open device and a placement. */
int fit_check(struct coordinator *c, const struct coordinator_options *o);
