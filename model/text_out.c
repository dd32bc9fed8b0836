#include "model/text_out.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* Where the first stop string in the held text begins, or NULL. */
static const char *find_stop(const struct text_out *o)
{
    const char *first = NULL, *held = o->text + o->bytes;
    for (int i = 0; i < o->stops->n; i++) {
        const char *found = memmem(held, o->held, o->stops->at[i], o->stops->bytes[i]);
        if (found && (!first || found < first))
            first = found;
    }
    return first;
}

static bool begins_a_stop(const struct stop_strings *stops, const char *text, size_t bytes)
{
    for (int i = 0; i < stops->n; i++)
        if (bytes < stops->bytes[i] && memcmp(stops->at[i], text, bytes) == 0)
            return true;
    return false;
}

static void settle(struct text_out *o)
{
    const char *stop = find_stop(o);
    if (stop) {
        o->bytes = (size_t)(stop - o->text);
        o->held = 0;
        o->stopped = true;
        return;
    }
    while (o->held && !begins_a_stop(o->stops, o->text + o->bytes, o->held)) {
        o->bytes++;
        o->held--;
    }
}

static void append(struct text_out *o, const char *text, size_t bytes)
{
    size_t used = o->bytes + o->held;
    if (o->room - used < bytes) {
        o->room = o->room * 2 + bytes + 64;
        o->text = realloc(o->text, o->room);
        CHECK_MEMORY(o->text, "no memory for %zu bytes of text", o->room);
    }
    memcpy(o->text + used, text, bytes);
    o->held += bytes;
    if (o->stops && o->stops->n) {
        settle(o);
    } else {
        o->bytes += o->held;
        o->held = 0;
    }
}

bool text_out_begins(const struct tokenizer *t, const int32_t *prompt, size_t n)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n && !bytes; i++) {
        tokenizer_token_bytes(t, prompt[i], &bytes);
        if (tokenizer_is_special(t, prompt[i]))
            bytes = 0;
    }
    return bytes == 0;
}

bool text_out_follow(struct text_out *o, const int32_t *before, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t bytes;
        const char *piece = tokenizer_token_bytes(o->tokenizer, before[i], &bytes);
        text_stream_push(&o->stream, piece, bytes);
    }
    return o->stream.held_bytes > 0;
}

/* Append what the stream gave. */
static void append_stream(struct text_out *o)
{
    const struct text_stream *s = &o->stream;
    size_t left_out = o->begins ? tokenizer_left_out(o->tokenizer, s->text, s->bytes) : 0;
    if (!s->bytes)
        return;
    o->begins = false;
    append(o, s->text + left_out, s->bytes - left_out);
}

bool text_out_push(struct text_out *o, int32_t token)
{
    size_t bytes;
    const char *piece = tokenizer_token_bytes(o->tokenizer, token, &bytes);
    if (o->stopped || tokenizer_is_special(o->tokenizer, token))
        return o->stopped;
    text_stream_push(&o->stream, piece, bytes);
    append_stream(o);
    return o->stopped;
}

void text_out_end(struct text_out *o)
{
    if (o->stopped)
        return;
    text_stream_end(&o->stream);
    append_stream(o);
    o->bytes += o->held;
    o->held = 0;
}

void text_out_free(struct text_out *o)
{
    text_stream_free(&o->stream);
    free(o->text);
    o->text = NULL;
}
