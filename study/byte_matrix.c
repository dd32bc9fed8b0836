#include "study/byte_matrix.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "model/found.h"

// beyond any memory that an all-to-all could move
#define MOST_BYTES ((uint64_t)1 << 40)
enum { MAX_FILE_BYTES = 64 << 20 };

static const char *skip_blanks(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\r')
        at++;
    return at;
}

/* How much of a word an error quotes. */
static int word_bytes(const char *word)
{
    size_t n = strcspn(word, " \t\r\n");
    return found_bytes(word, n);
}

static int read_number(uint64_t *bytes, const char **at, int row, int column, const char *name)
{
    char *end;
    errno = 0;
    bool digit = isdigit((unsigned char)**at);
    uint64_t v = digit ? strtoull(*at, &end, 10) : 0;
    bool whole = digit && (*end == 0 || isspace((unsigned char)*end));
    if (!whole || errno || v > MOST_BYTES)
        return fail(STATUS_BAD_FILE,
                    "%s: row %d, column %d: expected bytes, a whole number up to %" PRIu64
                    ", found \"%.*s\"",
                    name, row, column, MOST_BYTES, word_bytes(*at), *at);
    *bytes = v;
    *at = skip_blanks(end);
    return 0;
}

/* A row of `columns` numbers (0: as many as there are, and *columns says so); the first n are kept.
 */
static int read_row(struct byte_matrix *m, const char **at, int row, int *columns, const char *name)
{
    int found = 0;
    for (; **at && **at != '\n'; found++) {
        uint64_t bytes = 0;
        int status = read_number(&bytes, at, row, found, name);
        if (status)
            return status;
        if (row < m->n && found < m->n)
            m->bytes[(size_t)row * (size_t)m->n + (size_t)found] = bytes;
    }
    if (*columns == 0)
        *columns = found;
    if (found != *columns || found < m->n)
        return fail(STATUS_BAD_FILE, "%s: row %d: expected %d columns%s, found %d", name, row,
                    found < m->n ? m->n : *columns,
                    found < m->n ? " or more, one for each rank" : "", found);
    return 0;
}

static int read_rows(struct byte_matrix *m, const char *text, const char *name)
{
    int rows = 0, columns = 0, status = 0;
    for (const char *at = text; *at && !status; at += *at == '\n') {
        at = skip_blanks(at);
        if (*at && *at != '\n')
            status = read_row(m, &at, rows++, &columns, name);
        if (status)
            return status;
    }
    if (rows != columns || rows < m->n)
        return fail(STATUS_BAD_FILE, "%s: expected as many rows as columns, %d or more, found %d",
                    name, columns > m->n ? columns : m->n, rows);
    return 0;
}

int byte_matrix_parse(struct byte_matrix *m, const char *text, int n, const char *name)
{
    *m = (struct byte_matrix){.n = n};
    m->bytes = calloc((size_t)n * (size_t)n, sizeof *m->bytes);
    CHECK_MEMORY(m->bytes, "no memory for a matrix of %d ranks", n);
    int status = read_rows(m, text, name);
    if (status)
        byte_matrix_free(m);
    return status;
}

int byte_matrix_read(struct byte_matrix *m, const char *path, int n)
{
    size_t bytes;
    char *text = file_read(path, MAX_FILE_BYTES, &bytes);
    if (!text)
        return STATUS_BAD_FILE;
    int status = strlen(text) == bytes
                     ? byte_matrix_parse(m, text, n, path)
                     : fail(STATUS_BAD_FILE, "%s: byte %zu: expected text, found a zero byte", path,
                            strlen(text));
    free(text);
    return status;
}

void byte_matrix_free(struct byte_matrix *m)
{
    free(m->bytes);
    *m = (struct byte_matrix){0};
}

int byte_matrix_write(const struct byte_matrix *m, const char *path)
{
    struct outfile f;
    int status = outfile_open(&f, path);
    if (status)
        return status;
    for (int i = 0; i < m->n; i++)
        for (int j = 0; j < m->n; j++)
            fprintf(f.stream, "%" PRIu64 "%c", m->bytes[i * m->n + j], j + 1 < m->n ? ' ' : '\n');
    return outfile_commit(&f);
}
