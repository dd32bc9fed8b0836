/* Filters that go through a list: map, select and its kin, sort. */
#pragma once

#include "model/jinja_parts.h"

const struct jinja_function *jinja_list_filter(struct jinja_text name); // NULL: there is none
/* The member that "a.b.0" names, as attribute= of a filter has it. */
struct jinja_value jinja_path(struct jinja_run *r, const struct jinja_value *v,
                              const struct jinja_value *path);
