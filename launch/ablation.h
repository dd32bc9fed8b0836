/* bench --ablation: opens the model once for each load that the study asks for (study/ablation.h).
 */
#pragma once

#include "launch/launch.h"
#include "study/ablation.h"

/* o's names are the caller's, dense_name NULL: what goes with the model, if anything does. Prints
 * the report. 0, or the exit code. */
int ablation_here(struct process *p, const struct model_options *model,
                  const struct ablation_options *o, enum bench_format format);
