/* Rows of logits are large, so of many rows only some are kept, at even distances. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Is row i, 0 <= i < all, one of the `kept` (0 to all) that are kept? *at := its place among them.
 */
static inline bool is_kept(int64_t i, int64_t kept, int64_t all, int64_t *at)
{
    *at = i * kept / all;
    return kept > 0 && (i == 0 || *at != (i - 1) * kept / all);
}
