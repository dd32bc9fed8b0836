/* Measures what a rank's device can do, for a balanced placement (model/balance.h). It takes a
 * fraction of a second. */
#pragma once

#include "kernels/device.h"
#include "model/balance.h"

/* Is measuring the ranks of a model worth the time it takes? Small experts and pieces are not;
 * ranks are then taken to be alike. */
bool rank_speed_matters(const struct config *m, struct precision p);

/* `sharing`: ranks that share the device's memory, this one included. */
struct rank_speed rank_speed_measure(struct dev *d, struct precision p, int sharing);
