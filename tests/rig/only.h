/* EPMOE_TEST_ONLY=cuda: a test program leaves the CPU's instruction sets out and runs on the GPU
 * only. Where there is no GPU it then exits with 77, which is "skipped", and not with 0. */
#pragma once

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kernels/device.h"

enum { EXIT_SKIPPED = 77 };

static inline bool only_cuda(void)
{
    return getenv("EPMOE_TEST_ONLY") != NULL;
}

/* Called first in main(). Ends the program if the variable has another value, or if it asks for a
 * GPU and there is none. */
static inline void check_only(void)
{
    const char *wish = getenv("EPMOE_TEST_ONLY");
    if (wish && strcmp(wish, "cuda") != 0)
        exit(fail(STATUS_USAGE, "EPMOE_TEST_ONLY: expected cuda, found %s", wish));
    if (wish && cuda_count() == 0) {
        printf("skipped: EPMOE_TEST_ONLY=cuda, and no GPU here\n");
        exit(EXIT_SKIPPED);
    }
}
