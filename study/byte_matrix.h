/* Who sends how many bytes to whom, as a file in the format of nccl-tests' alltoallv_perf: numbers
 * separated by blanks and line ends, as many rows as columns, entry [i][j] the bytes from rank i to
 * rank j. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct byte_matrix {
    int n;
    uint64_t *bytes; // [n][n]; byte_matrix_free frees it
};

/* The first n rows and columns of a file or a text that may have more; `name` is what errors call
 * it. 0, or STATUS_BAD_FILE with the row, the column, what was expected and what was found. */
int byte_matrix_read(struct byte_matrix *m, const char *path, int n);
int byte_matrix_parse(struct byte_matrix *m, const char *text, int n, const char *name);
void byte_matrix_free(struct byte_matrix *m);

/* 0 or STATUS_FAILED; the file appears whole or not at all. */
int byte_matrix_write(const struct byte_matrix *m, const char *path);
