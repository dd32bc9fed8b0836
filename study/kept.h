/* Of many rows of logits, or steps of a recording, only some are kept, at even distances. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Is the i-th of all, 0 <= i < all, one of the `kept` (0 to all) that are kept? *at := its place
 * among them. */
static inline bool is_kept(int64_t i, int64_t kept, int64_t all, int64_t *at)
{
    *at = i * kept / all;
    return kept > 0 && (i == 0 || *at != (i - 1) * kept / all);
}
