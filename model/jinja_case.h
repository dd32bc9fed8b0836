/* Upper and lower case. */
#pragma once

#include "model/jinja_parts.h"

enum jinja_case { JINJA_UPPER, JINJA_LOWER, JINJA_TITLE, JINJA_CAPITALIZE };

/* Only of ASCII: a text with other letters that have a case is refused, as their rules are long. */
struct jinja_value jinja_case(struct jinja_run *r, struct jinja_text t, enum jinja_case to);
