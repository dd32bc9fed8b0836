/* Turns new tokens into text: whole characters, without special tokens, up to the first stop
 * string. */
#pragma once

#include "model/tokenizer.h"

enum { MAX_STOPS = 16 };

struct stop_strings {
    int n;
    const char *at[MAX_STOPS]; // none is empty; owned by the caller
    size_t bytes[MAX_STOPS];
};

/* Initialise with {.tokenizer, .stops, .begins}, all else zero. */
struct text_out {
    const struct tokenizer *tokenizer;
    const struct stop_strings *stops; // NULL: none
    struct text_stream stream;
    char
        *text; // the first `bytes` are final; the next `held` may be the beginning of a stop string
    size_t bytes; // never includes a stop string
    size_t held, room;
    bool begins;  // no text stands before, or it is a message of its own: tokenizer_left_out()
                  // applies to the first characters
    bool stopped; // the text has ended in a stop string
};

/* For `begins`: do these tokens, the prompt, give no text? */
bool text_out_begins(const struct tokenizer *t, const int32_t *prompt, size_t n);

/* Before the first push: these tokens stand before, and the bytes of a character that they leave
 * incomplete belong to this text. True: there are some. */
bool text_out_follow(struct text_out *o, const int32_t *before, size_t n);

bool text_out_push(struct text_out *o, int32_t token); // true: the text has ended
void text_out_end(struct text_out *o); // no token follows, so the held bytes become final
void text_out_free(struct text_out *o);
