/* The paths of the API, and the answers of those that need no tokens of the model. */
#pragma once

#include "serve/engine.h"

struct route {
    const char *path;
    bool post; // else it is for GET
    bool open; // needs no key
    enum route_kind {
        ROUTE_CHAT,
        ROUTE_TEXT,
        ROUTE_MODELS,
        ROUTE_TOKENIZE,
        ROUTE_DETOKENIZE,
        ROUTE_HEALTH,
        ROUTE_METRICS,
        ROUTE_LIVE,
        ROUTE_PAGE
    } kind;
};

struct answer {
    int http;
    const char *type;
    char *text; // malloc'ed
    size_t bytes;
};

const struct route *route_find(const char *path); // NULL: there is none
/* Answer any but completions. terms NULL: the model is being loaded. */
void route_answer(struct answer *a, const struct route *r, const struct call_terms *terms,
                  struct engine *e, const char *body, size_t bytes);
