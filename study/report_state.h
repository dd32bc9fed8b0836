/* What the parts of epmoe report share: the files, values in them, and the page's elements.
 *
 * The first error of a report is told by fail() and kept in report.status. After that every value
 * reads as 0, "" or an empty list and figures are left out, so no part has to ask. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/json.h"
#include "study/report.h"

enum report_kind {
    REPORT_BENCH, // one run of bench, or a list of them
    REPORT_PROFILE,
    REPORT_ALLTOALL,
    REPORT_REPLAY,
    REPORT_PLACE,
    REPORT_FIT,
    REPORT_PROJECT,
};

struct report_file {
    const char *path;
    struct js *root;
    enum report_kind kind;
};

struct report {
    struct report_file files[REPORT_MOST_FILES];
    int n;
    FILE *page;
    struct arena memory; // of columns that are made by a file's number of ranks or layers
    int status;          // of the first error
    int figures;
};

/* ---- files (report_files.c) ---- */

/* Read a file and tell what it is. 0 or STATUS_BAD_FILE. */
int report_read(struct report *r, const char *path);
void report_close(struct report *r);
bool report_has(const struct report *r, enum report_kind kind);
/* What a kind of file is called, and a command that writes one. */
const char *report_kind_name(enum report_kind kind);
const char *report_kind_command(enum report_kind kind);

/* ---- values (report_spot.c) ---- */

/* A value in a file, and where it stands there, as a JSON pointer. */
struct spot {
    struct report *report;
    const struct report_file *file;
    const struct js *value; // NULL: missing
    char at[112];
};
struct spot spot_root(struct report *r, const struct report_file *f);
/* The value at a path such as "layers/3/heat", numbers being places in lists; a missing one is an
 * error. */
struct spot spot_at(struct spot from, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same, but it may be missing: its value is then NULL. */
struct spot spot_find(struct spot from, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Anything else than what is asked for is an error. */
double spot_number(struct spot s); // finite
const char *spot_text(struct spot s);
int spot_count(struct spot list);

/* Call `each` for every run of bench, for every profile (of its own, or within a run of bench), for
 * every file of a kind. */
typedef void report_each(struct spot run);
void each_of(struct report *r, enum report_kind kind, report_each *each);
void each_profile(struct report *r, report_each *each);
bool report_has_profile(struct report *r);

/* ---- elements of the page (report_html.c) ---- */

/* How a number is shown: multiplied by scale, with so many digits after the point, or, if negative,
 * so many that count. */
struct unit {
    double scale;
    int digits;
};

void page_text(FILE *page, const char *text); // escaped
void page_number(struct spot s, struct unit u);
void page_ratio(struct spot s, struct spot over, struct unit u); // s / over
void page_heading(struct spot run, const char *what);            // a heading of one file's part

enum column_form {
    COLUMN_NUMBER,
    COLUMN_PER, // divided by the table's `per`
    COLUMN_TEXT,
    COLUMN_FLAG, // true or false
};

/* A column of a table: its title, and where its value stands in the row's object. A value that is
 * missing or null is shown as a dash if the column is optional. */
struct column {
    const char *title, *path;
    struct unit unit;
    enum column_form form;
    bool optional;
};

struct table {
    FILE *page;
    const char *label;  // what a row's name is: "layer"; NULL: rows have no names
    const char *region; // what the table is of, for those who do not see it
    const struct column *columns;
    int n;
    struct spot per;
};
void table_begin(const struct table *t);
void table_row(const struct table *t, const char *name, struct spot row);
void table_end(const struct table *t, const char *caption); // caption: HTML

/* ---- figures (report_plot.c) ---- */

/* A figure that gnuplot draws from a script. */
struct plot {
    struct report *report;
    FILE *script; // writes to text
    char *text;
    size_t bytes;
};
enum { PLOT_WIDTH = 520, PLOT_HEIGHT = 360 };
/* Begin a figure of so many pixels: the script has the settings of all figures in it. */
void plot_begin(struct plot *p, struct report *r, int width, int height);
/* The text as a string of gnuplot's in single quotes, in which nothing else is special; its own
 * single quotes become U+2019. */
void plot_text(FILE *script, const char *text);
/* How many bytes of a text a figure has room for: 40 or a little less, whole characters. */
int plot_room(const char *text);
/* Let gnuplot draw it and put it into the page with a caption, which is HTML. */
void plot_end(struct plot *p, const char *caption);
/* The colour of a figure's i-th line or area: "#rrggbb", to be seen on light and dark paper. */
const char *plot_colour(int i);

/* ---- sections ---- */

void report_time(struct report *r);
void report_ranks(struct report *r);
void report_copies(struct spot place); // of a file of place
void report_heat(struct report *r);
void report_alltoall(struct report *r);
void report_replay(struct report *r);
void report_speed(struct report *r);
void report_fit(struct report *r);
/* Give a figure the data block $fit, size and seconds, of what the first calibration predicts of
 * the laps of an alltoall. False: there is none. */
bool report_fit_laps(struct plot *p, struct spot run);
void report_project(struct report *r);
void report_sources(struct report *r); // the files, and where they are from

/* Parts of a profile, and of what bench, alltoall and others write, that are of these steps. */
enum { REPORT_STEPS = 2 };
extern const char *const report_steps[REPORT_STEPS];  // "decode", "prefill": keys
extern const char *const report_titles[REPORT_STEPS]; // "Decode", "Prefill"
