/* epmoe report: what other commands have measured, as one page of HTML with figures and tables.
 *
 * The files are JSON that bench, --profile-json, alltoall, replay, place, calibrate and project
 * write; what each is, is told by what is in it. The page needs no other file and no script: its
 * figures are SVG, which gnuplot draws. Every number of its tables stands in one of the files, or
 * is the quotient of two that do, as its element says (docs/study.md). */
#pragma once

enum { REPORT_MOST_FILES = 256 };

/* Read the files and write the page to `out`, whole or not at all. 0; or STATUS_BAD_FILE for a file
 * that is none of those above or lacks a value, which is named with what was expected; or
 * STATUS_FAILED if gnuplot is missing or the page cannot be written. */
int report_write(char *const *paths, int n, const char *out);
