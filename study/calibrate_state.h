/* What the parts of a calibration share; private to study/calibrate*.c. */
#pragma once

#include "study/calibrate.h"

/* One more setting, all zeros. Earlier pointers to settings are of no use then. */
struct setting *calibration_add(struct calibration *c);
