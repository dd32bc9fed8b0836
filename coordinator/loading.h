/* Rank 0's own part of a model, from its checkpoint to its device. */
#pragma once

#include "coordinator/coordinator.h"

/* Load c->weights and c->shard as c->placement says, with a progress bar on stderr, wait until the
 * device has packed them, and note() how fast that was. 0, STATUS_BAD_FILE, or what dev_wait()
 * said. */
int coordinator_load(struct coordinator *c, const struct checkpoint *ckpt);
