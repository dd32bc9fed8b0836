/* Runs chat templates, which are programs in Jinja: the statements, filters, tests, methods and
 * functions that docs/models.md lists, on values as Python has them. What is not in that list is
 * refused by its name and line. Templates are untrusted: reading and running one is bounded in
 * depth, steps and memory, whatever it says. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

struct jinja;

/* Read a template of `bytes` bytes; errors call it `name`, which is copied. NULL after
 * fail(STATUS_BAD_FILE) has said in which line. jinja_close(NULL) is legal. */
struct jinja *jinja_open(const char *text, size_t bytes, const char *name);
void jinja_close(struct jinja *t);
/* Is this the name of a variable, or of a member of one, anywhere in the template? */
bool jinja_reads(const struct jinja *t, const char *name);

/* Of two variables with one name the first counts. */
struct jinja_variable {
    const char *name;
    const struct js *value;
};

struct jinja_input {
    const struct jinja_variable *variables;
    size_t n;
    /* A variable that is a list of objects, and the name of a member; NULL: none. Which objects'
     * member the template reads is watched. */
    const char *watched_list, *watched_member;
};

/* Render a template. The text is malloc'ed, with a 0 at its end that *bytes does not count. NULL
 * after fail(STATUS_BAD_FILE): the template's own words if it raised an exception, else what was
 * wrong in which line. *unread := the number, from 0, of the first object in the watched list whose
 * member is there and was not read; or SIZE_MAX. */
char *jinja_render(const struct jinja *t, const struct jinja_input *in, size_t *bytes,
                   size_t *unread);
