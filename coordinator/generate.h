/* Runs one request by itself, or only the rows of a prompt. No other sequence may be running. */
#pragma once

#include "coordinator/scheduler.h"

/* Run a request that request_check() has accepted from prompt to end. 0, or what scheduler_step()
 * returned. */
int generate(struct coordinator *c, const struct request *r);

/* forward_sequence() of tokens [n] in slot 0, with KV blocks that are taken for it and given back;
 * there must be enough of them. */
int prefill(struct coordinator *c, const int32_t *tokens, int n,
            int (*on_chunk)(void *context, struct coordinator *c, int first, int n), void *context);
