/* Writing a test's files, over what they held. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/rig/cm.h"

static inline void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Write dir/name. */
static inline void write_bytes(const char *dir, const char *name, const void *bytes, size_t n)
{
    char *path = path_join(dir, name);
    write_file(path, bytes, n);
    free(path);
}

static inline void write_text(const char *dir, const char *name, const char *text)
{
    write_bytes(dir, name, text, strlen(text));
}
