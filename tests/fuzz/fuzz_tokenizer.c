/* tokenizer.json, and after the first zero byte a text for it. What is accepted must encode any
 * text to ids in range, or say why not, and decode them to UTF-8; streaming must agree. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/tokenizer_parts.h"

/* Ids one by one through a stream: the same text as at once. */
static void check_stream(const struct tokenizer *t, const int32_t *ids, size_t count,
                         const char *whole, size_t bytes)
{
    struct text_stream s = {0};
    size_t done = 0;
    for (size_t i = 0; i <= count; i++) {
        size_t token_bytes;
        const char *token = i < count ? tokenizer_token_bytes(t, ids[i], &token_bytes) : NULL;
        if (token)
            text_stream_push(&s, token, token_bytes);
        else
            text_stream_end(&s);
        CHECK(done + s.bytes <= bytes && memcmp(whole + done, s.text, s.bytes) == 0,
              "the stream says something else");
        done += s.bytes;
    }
    CHECK(done == bytes, "the stream says less");
    text_stream_free(&s);
}

static void check_text(const struct tokenizer *t, const char *text, size_t bytes)
{
    int32_t *ids;
    size_t count, decoded_bytes;
    if (tokenizer_encode(t, text, bytes, &ids, &count) != 0)
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] = "abc <s>ab cab\n\n  e\xcc\x81\xcc\xa3 123 'S\xf0\x9f\x98\x80\xff";
    const char *json = (const char *)data;
    const char *zero = size ? memchr(data, 0, size) : NULL;
    size_t json_bytes = zero ? (size_t)(zero - json) : size;
    struct tokenizer *t;
    error_capture(true);
    if (tokenizer_parse(&t, json, json_bytes, "fuzz") != 0)
        return 0;
    check_text(t, sample, sizeof sample); // with its 0
    if (zero)
        check_text(t, zero + 1, size - json_bytes - 1);
    tokenizer_close(t);
    return 0;
}
