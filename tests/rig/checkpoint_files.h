/* A directory of safetensors files for each test. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "model/checkpoint.h"
#include "tests/rig/cm.h"
#include "tests/rig/text_files.h"

#define INDEX "model.safetensors.index.json"
#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE(name) "{" T(name, "F32", "[1]", "[0,4]") "}"
#define TEST(f)   cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

static char dir[64]; // a fresh directory for each test

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/epmoe-checkpoint-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

/* Write a file with this header and data_bytes bytes of data: add, add + 1, add + 2, … */
static void write_tensors(const char *name, const char *header, size_t data_bytes, int add)
{
    size_t n = strlen(header);
    unsigned char *bytes = calloc(1, 8 + n + data_bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)n >> 8 * i);
    memcpy(bytes + 8, header, n);
    for (size_t i = 0; i < data_bytes; i++)
        bytes[8 + n + i] = (unsigned char)(i + (size_t)add);
    write_bytes(dir, name, bytes, 8 + n + data_bytes);
    free(bytes);
}

static void expect_error(int status, const char *part)
{
    if (status != STATUS_BAD_FILE || !strstr(error_text(), part))
        print_error("expected an error with: %s\nfound status %d: %s\n", part, status,
                    error_text());
    assert_int_equal(status, STATUS_BAD_FILE);
    assert_non_null(strstr(error_text(), part));
}
