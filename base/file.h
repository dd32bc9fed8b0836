/* Reading and writing whole files. A read is bounded; a write appears whole or not at all. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/sink.h"

/* The file's bytes, then a 0 that *bytes does not count; the caller frees them. NULL on error,
 * which it has told to fail(): the file cannot be read, is no plain file, or is larger than
 * max_bytes. */
char *file_read(const char *path, size_t max_bytes, size_t *bytes);
bool file_exists(const char *path); // a link counts, be there a file behind it or not

/* Does a file's name end in `end`, such as ".json", with something before it? */
bool name_ends_in(const char *name, const char *end);

/* "dir/name", malloc'ed: the caller frees it. */
char *path_join(const char *dir, const char *name);
bool file_exists_in(const char *dir, const char *name);

/* A file that appears whole: it is written under a temporary name in the same directory, and
 * renamed when it is complete, with the permissions of a file that was there. A path that exists
 * and is no plain file (a pipe, /dev/null), or that stands for an open file (/dev/stdout), is
 * written directly. A link stays: the file behind it is written. The struct must not move between
 * open and commit. */
struct outfile {
    FILE *stream; // ferror(stream): there is no use in writing more; commit says why
    struct sink sink;
    char *path, *temporary; // temporary NULL: the path is written directly
};
/* 0; STATUS_USAGE for "-"; or STATUS_FAILED. After an error f may only be aborted. A process has
 * one open at a time. */
int outfile_open(struct outfile *f, const char *path);
/* Can the file be written? For before a long run whose results would be lost: 0, or the error
 * of outfile_open(). A pipe is not opened, as its reader would see that; NULL is a file that nobody
 * asked for. */
int outfile_check(const char *path);
/* STATUS_USAGE if the two are one file, which would take the place of what is read or of the other
 * output. NULL, "-" to write, or what is no plain file, is never the same. */
int outfile_check_apart(const char *path, const char *other);
int outfile_commit(struct outfile *f); // flush, sync, rename; 0 or STATUS_FAILED
void outfile_abort(struct outfile *f); // remove; legal after a failed open or commit
/* Files that are of use only together, such as a checkpoint's. Between begin and end all files that
 * are committed belong to the set, one at a time. made_dir: the directory that the caller has made
 * for them; NULL: it was there before. end(false) removes files and directory. Returns how many
 * files were removed. */
void outfiles_begin(const char *made_dir);
int outfiles_end(bool keep);
/* Remove the temporary file of the outfile that is open, if one is, and an open set; let no other
 * open. For any thread of a process that is about to end. */
void outfile_discard(void);
/* Sync the file's directory, so that a new file's name is on the disk; 0, or -1 with errno set. */
int directory_sync(const char *path_of_file);
