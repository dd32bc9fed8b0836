/* Whole files: read with a bound, written whole or not at all. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* The file's bytes, then a 0 that *bytes does not count; free() them. NULL: fail() has spoken. */
char *file_read(const char *path, size_t max_bytes, size_t *bytes);
bool file_exists(const char *path);

/* "dir/name", malloc'ed: free() it. */
char *path_join(const char *dir, const char *name);

/* A file that appears whole: written beside its place, then renamed. Any name is legal; a path of
 * another kind than a plain file (a pipe, /dev/null) is written straight. */
struct outfile {
    FILE *stream;
    char *path, *temporary; // temporary NULL: written straight
};
int outfile_open(struct outfile *f, const char *path);
int outfile_commit(struct outfile *f); // flush, sync, rename; 0 or STATUS_FAILED
void outfile_abort(struct outfile *f); // remove; legal after a failed open or commit
/* From any thread of a process that is about to end: remove what is being written. */
void outfile_discard(void);
/* Bring a new file's name to the disk; 0 or -1 with errno. */
int directory_sync(const char *path_of_file);
