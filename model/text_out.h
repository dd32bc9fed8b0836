/* New tokens to text: whole characters, without special tokens, ended by the first stop string. */
#pragma once

#include "model/tokenizer.h"

enum { MAX_STOPS = 16 };

struct stop_strings {
    int n;
    const char *at[MAX_STOPS]; // none empty; the caller's
    size_t bytes[MAX_STOPS];
};

/* Start from {.tokenizer, .stops}. */
struct text_out {
    const struct tokenizer *tokenizer;
    const struct stop_strings *stops; // NULL: none
    struct text_stream stream;
    char *text;   // [bytes] is final; behind it, what may yet be the beginning of a stop string
    size_t bytes; // without the stop string
    size_t held, room;
    bool stopped; // a stop string came
};

bool text_out_push(struct text_out *o, int32_t token); // true: the text has ended
void text_out_end(struct text_out *o); // no more tokens: what was held is text after all
void text_out_free(struct text_out *o);
