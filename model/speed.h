/* What a rank's device can do, measured in a fraction of a second: what a balanced placement goes
 * by (model/balance.h). */
#pragma once

#include "kernels/device.h"
#include "model/balance.h"

/* `sharing`: ranks that share the device's memory, this one included. */
struct rank_speed rank_speed_measure(struct dev *d, enum dtype type, int sharing);
