/* One request alone, and the prompt's rows alone. */
#pragma once

#include "coordinator/scheduler.h"

/* A checked request (request_check) from prompt to end. */
int generate(struct coordinator *c, const struct request *r);

/* Feed tokens [n] of slot 0 in chunks; each is handed to on_chunk while its rows are in c->state.
 */
int prefill(struct coordinator *c, const int32_t *tokens, int n,
            int (*on_chunk)(void *context, struct coordinator *c, int first, int n), void *context);
