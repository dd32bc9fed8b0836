/* EPMOE_TEST_PAIRS=1, which builds with sanitizers and races give their tests: a test that tries
 * all combinations of its choices tries so many that any two choices are together once. Preset ci,
 * and whoever runs a test by hand, has all. See docs/testing.md. */
#pragma once

#include <stdbool.h>
#include <stdlib.h>

static inline bool pairs_only(void)
{
    return getenv("EPMOE_TEST_PAIRS") != NULL;
}
