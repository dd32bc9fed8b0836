/* A chat template, and after the first zero byte a conversation: role, zero, content, zero, role …
 * What is accepted must be read the same a second time, and print every message whole. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_MESSAGES = 8 };

static const char *take(const char **at, const char *end, size_t *bytes)
{
    const char *text = *at, *zero = memchr(text, 0, (size_t)(end - text));
    *bytes = (size_t)((zero ? zero : end) - text);
    *at = zero ? zero + 1 : end;
    return text;
}

static size_t read_messages(struct chat_message *m, const char *at, const char *end)
{
    size_t n = 0;
    while (at < end && n < MOST_MESSAGES) {
        m[n].role = take(&at, end, &m[n].role_bytes);
        m[n].content = take(&at, end, &m[n].content_bytes);
        n++;
    }
    return n;
}

static void check_render(const struct chat *c, const struct chat_message *m, size_t n)
{
    size_t bytes, least = 0;
    char *text = chat_render(c, NULL, m, n, &bytes);
    CHECK(text || c->known_roles, "no text");
    for (size_t i = 0; i < n && text; i++) {
        least += m[i].role_bytes + m[i].content_bytes;
        CHECK(m[i].content_bytes == 0 || memmem(text, bytes, m[i].content, m[i].content_bytes),
              "message %zu is missing", i);
    }
    CHECK(!text || (bytes >= least && text[bytes] == 0), "%zu bytes", bytes);
    free(text);
}

static void check_same(const struct chat *a, const char *text, size_t bytes)
{
    struct chat b = {0};
    CHECK(chat_parse(&b, text, bytes, "fuzz") == 0, "%s", error_text());
    CHECK(a->no_second_answer == b.no_second_answer && a->system_bytes == b.system_bytes &&
              (!a->system || memcmp(a->system, b.system, a->system_bytes) == 0),
          "read as another one");
    chat_close(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chat c = {0};
    struct chat_message messages[MOST_MESSAGES];
    char *text = malloc(size + 1);
    size_t bytes;
    CHECK(text, "no memory");
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    error_capture(true);
    const char *at = text;
    take(&at, text + size, &bytes);
    if (chat_parse(&c, text, bytes, "fuzz") == 0) {
        size_t n = read_messages(messages, at, text + size);
        check_same(&c, text, bytes);
        if (n)
            check_render(&c, messages, n);
        chat_close(&c);
    } else {
        CHECK(*error_text(), "refused without a word");
    }
    free(text);
    return 0;
}
