/* Measures what a rank's device can do, for a balanced placement (model/balance.h). It takes a
 * fraction of a second. */
#pragma once

#include "kernels/device.h"
#include "model/balance.h"

/* Is measuring the ranks worth its time for this model? Not if experts and pieces are small; ranks
 * are then taken to be equally fast. */
bool rank_speed_matters(const struct config *m, struct precision p);

/* Measure a device. sharing: how many ranks share its memory, this one included. */
struct rank_speed rank_speed_measure(struct dev *d, struct precision p, int sharing);
