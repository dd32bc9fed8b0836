/* Measures what a rank's device can do, for a balanced placement (model/balance.h). It takes a
 * fraction of a second. */
#pragma once

#include "kernels/device.h"
#include "model/balance.h"

/* `sharing`: ranks that share the device's memory, this one included. */
struct rank_speed rank_speed_measure(struct dev *d, struct precision p, int sharing);
