/* A chat template, and after the first zero byte a conversation: role, zero, content, zero, role …
 * Of a role "json" the content is a whole message as JSON, "tools" and "kwargs" give a request's.
 * What is accepted must print the same a second time, in UTF-8; what is not must say why. That no
 * template runs for ever is seen by libFuzzer's own time limit. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_MESSAGES = 8 };

struct parts {
    struct js *messages, *tools, *kwargs;
};

static const char *take(const char **at, const char *end, size_t *bytes)
{
    const char *text = *at, *zero = memchr(text, 0, (size_t)(end - text));
    *bytes = (size_t)((zero ? zero : end) - text);
    *at = zero ? zero + 1 : end;
    return text;
}

/* Keep v if it is of the right kind; else free it. */
static void keep(struct js **to, struct js *v, bool right)
{
    js_free(right ? *to : v);
    *to = right ? v : *to;
}

static void read_pair(struct parts *p, const char *at, const char *end, const char **next)
{
    size_t role_bytes, bytes;
    const char *role = take(&at, end, &role_bytes), *content = take(&at, end, &bytes);
    bool json = strcmp(role, "json") == 0, tools = strcmp(role, "tools") == 0,
         kwargs = strcmp(role, "kwargs") == 0;
    struct js *v = json || tools || kwargs ? js_parse(content, bytes, "fuzz") : NULL;
    *next = at;
    if (tools) {
        keep(&p->tools, v, js_is_array(v));
    } else if (kwargs) {
        keep(&p->kwargs, v, js_is_object(v));
    } else if (js_is_object(v)) {
        js_push(p->messages, v);
    } else {
        js_free(v);
        v = js_new_object();
        js_set(v, "role", js_new_string(role, role_bytes));
        js_set(v, "content", js_new_string(content, bytes));
        js_push(p->messages, v);
    }
}

static void check_render(const struct chat *c, const struct parts *p)
{
    const struct chat_request q = {p->messages, p->tools, p->kwargs, NULL};
    size_t bytes = 0, again_bytes = 0;
    char *text = chat_render(c, &q, &bytes);
    CHECK(text || *error_text(), "refused without a word");
    char *again = chat_render(c, &q, &again_bytes);
    CHECK(!text == !again && bytes == again_bytes && (!text || !memcmp(text, again, bytes)),
          "another text");
    CHECK(!text || text[bytes] == 0, "no end");
    struct js *v = text ? js_new_string(text, bytes) : NULL;
    if (v) {
        js_string(v, &again_bytes);
        CHECK(again_bytes == bytes, "no UTF-8"); // else characters were replaced
    }
    js_free(v);
    free(text);
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chat c = {0};
    char *text = malloc(size + 1);
    size_t bytes;
    CHECK(text, "no memory");
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    error_capture(true);
    const char *at = text, *end = text + size;
    take(&at, end, &bytes);
    if (chat_parse(&c, text, bytes, "fuzz") == 0) {
        struct parts p = {.messages = js_new_array()};
        while (at < end && js_count(p.messages) < MOST_MESSAGES)
            read_pair(&p, at, end, &at);
        if (js_count(p.messages))
            check_render(&c, &p);
        js_free(p.messages);
        js_free(p.tools);
        js_free(p.kwargs);
        chat_close(&c);
    } else {
        CHECK(*error_text(), "refused without a word");
    }
    free(text);
    return 0;
}
