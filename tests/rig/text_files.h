/* Small files that a test writes. */
#pragma once

#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "tests/rig/cm.h"

static inline void write_text(const char *dir, const char *name, const char *text)
{
    char *path = path_join(dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    free(path);
}
