/* EPMOE_TEST_PAIRS=1: a test that would try all combinations of its choices tries only some, among
 * which any two choices are together at least once. CMake sets it for the tests of builds with
 * sanitizers and races; in preset ci and by hand tests try all. See docs/testing.md. */
#pragma once

#include <stdbool.h>
#include <stdlib.h>

static inline bool pairs_only(void)
{
    return getenv("EPMOE_TEST_PAIRS") != NULL;
}
