/* What holds of every tokenizer that was accepted: any text becomes ids in range, or an error, and
 * they decode to UTF-8; streaming says the same. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "model/tokenizer_parts.h"

/* Ids one by one through a stream: the same text as at once. */
static inline void check_stream(const struct tokenizer *t, const int32_t *ids, size_t count,
                                const char *whole, size_t bytes)
{
    struct text_stream s = {0};
    size_t done = 0;
    bool begun = false;
    for (size_t i = 0; i <= count; i++) {
        size_t token_bytes;
        const char *token = i < count ? tokenizer_token_bytes(t, ids[i], &token_bytes) : NULL;
        if (token)
            text_stream_push(&s, token, token_bytes);
        else
            text_stream_end(&s);
        size_t left_out = begun ? 0 : tokenizer_left_out(t, s.text, s.bytes);
        size_t fresh = s.bytes - left_out;
        CHECK(done + fresh <= bytes && memcmp(whole + done, s.text + left_out, fresh) == 0,
              "the stream says something else");
        done += fresh;
        begun = begun || s.bytes;
    }
    CHECK(done == bytes, "the stream says less");
    text_stream_free(&s);
}

static inline void check_text(const struct tokenizer *t, const char *text, size_t bytes)
{
    int32_t *ids;
    size_t count, decoded_bytes;
    if (tokenizer_encode_prompt(t, text, bytes, &ids, &count) != 0)
        return;
    for (size_t i = 0; i < count; i++)
        CHECK(ids[i] >= 0 && ids[i] < t->vocabulary.size, "id %d", ids[i]);
    free(tokenizer_decode(t, ids, count, true, NULL));
    char *decoded = tokenizer_decode(t, ids, count, false, &decoded_bytes);
    CHECK(utf8_valid(decoded, decoded_bytes), "not UTF-8");
    check_stream(t, ids, count, decoded, decoded_bytes);
    free(decoded);
    free(ids);
}

static const char sample_text[] = "abc <s>ab cab\n\n  e\xcc\x81\xcc\xa3 123 'S\xf0\x9f\x98\x80\xff";
