/* Numbers that Python's JSON has and the parser behind json.h lacks: integers of any size, reals
 * beyond double, NaN, Infinity and -Infinity. Files that Python writes hold them (transformers'
 * "no limit" is 1000000000000000019884624838656), mostly under keys that nobody reads. */
#pragma once

#include <stddef.h>

/* A copy of a JSON text, malloc'ed, in which such a number is spelled as a real that the parser
 * takes; NULL if the text has none. *out_bytes := its length. */
char *json_numbers_spell(const char *text, size_t bytes, size_t *out_bytes);

/* Where in the text the byte `at` of such a copy comes from. */
size_t json_numbers_place(const char *text, size_t bytes, size_t at);

/* What a real of such a copy stands for: three of the largest reals mean NaN, Infinity and
 * -Infinity; any other is itself. */
double json_numbers_value(double real);
