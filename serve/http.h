/* HTTP/1.1, by libmicrohttpd, which nothing else includes: a few threads that wait for sockets
 * (epoll), none for a connection. A connection that waits for tokens is suspended, so it costs no
 * thread, and what a slow reader has not read waits in memory. */
#pragma once

#include "serve/engine.h"
#include "serve/guard.h"

struct http_options {
    const char *host; // to listen on; an address or a name
    int port;         // 0: any that is free
    struct guard guard;
    bool no_auth;     // without keys, other hosts than this one may ask
    size_t most_body; // bytes
    bool access_log;
};

struct http;

/* Listen, and answer: /health, and all else with 503 until http_ready(). 0, STATUS_USAGE (an
 * address beyond loopback, and neither keys nor no_auth) or STATUS_FAILED. `o` stays the caller's,
 * and must last, as the engine. */
int http_open(struct http **out, const struct http_options *o, struct engine *e);
/* From now on completions are taken; `terms` must last. */
void http_ready(struct http *h, const struct call_terms *terms);
/* Where it listens: "127.0.0.1:8080". */
const char *http_address(const struct http *h);
/* Wait until every answer under way has been sent, but no longer than this. */
void http_flush(struct http *h, double seconds);
void http_close(struct http *h); // when the engine has ended
const char *http_library(void);  // "libmicrohttpd 0.9.75"
