/* One request alone, and the prompt's rows alone. */
#pragma once

#include "coordinator/scheduler.h"

/* A checked request (request_check) from prompt to end. */
int generate(struct coordinator *c, const struct request *r);

/* Feed tokens [n] from position 0 on into slot 0, which nobody else uses, in chunks; each is handed
 * to on_chunk while its rows are in c->state, with the position of its first one. KV blocks are
 * taken and given back. 0, or what forward() or on_chunk returned. */
int prefill(struct coordinator *c, const int32_t *tokens, int n,
            int (*on_chunk)(void *context, struct coordinator *c, int first, int n), void *context);
