/* The JSON of answers, as OpenAI's API has it. */
#pragma once

#include "serve/call.h"

/* One line of JSON, malloc'ed, with its newline; frees the value. */
char *reply_print(struct js *v, size_t *bytes);
/* {"error": …}; of a message that begins with a field's name, that is its param. */
struct js *reply_error(int http, const char *text);
/* The whole answer of a call whose choices have all ended. Of more choices than are to be answered
 * (best_of) it has those of each prompt with the greatest mean log probability of their new tokens,
 * the best first, of equals the earlier; a choice without a token comes last. */
struct js *reply_whole(const struct call *c);
/* A chunk of a stream: the next piece of a choice's text, as far as it is final; of a choice that
 * has ended with its finish_reason. */
struct js *reply_chunk(struct choice *choice);
/* The last chunk, with usage and without choices. */
struct js *reply_usage_chunk(const struct call *c);
/* Add the token that was picked last, with its log probabilities, to the choice's marks. */
void reply_mark(struct choice *choice, int32_t token);
/* The same of token i of the prompt, for echo; in order. The first has no log probability. */
void reply_mark_prompt(void *choice, int i);
void marks_close(struct marks *m);
