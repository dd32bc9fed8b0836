#include "model/jinja_case.h"

#include <ctype.h>
#include <utf8proc.h>

static void refuse_cased(struct jinja_run *r, struct jinja_text t)
{
    utf8proc_int32_t c;
    utf8proc_ssize_t n = 1;
    for (size_t i = 0; i<t.bytes; i += n> 0 ? (size_t)n : 1) {
        n = utf8proc_iterate((const utf8proc_uint8_t *)t.at + i, (utf8proc_ssize_t)(t.bytes - i),
                             &c);
        utf8proc_category_t k = utf8proc_category(c);
        if (n > 1 &&
            (k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT))
            jinja_fail(r, "expected upper and lower case of ASCII only, found U+%04X", (unsigned)c);
    }
}

struct jinja_value jinja_case(struct jinja_run *r, struct jinja_text t, enum jinja_case to)
{
    char *text = jinja_alloc(r, t.bytes);
    bool in_word = false;
    refuse_cased(r, t);
    jinja_step(r, t.bytes / 16);
    for (size_t i = 0; i < t.bytes; i++) {
        int c = (unsigned char)t.at[i];
        bool upper = to == JINJA_UPPER || (to == JINJA_TITLE && !in_word) ||
                     (to == JINJA_CAPITALIZE && i == 0);
        in_word = c < 128 && isalpha(c);
        text[i] = (char)(c >= 128 ? c : upper ? toupper(c) : tolower(c));
    }
    return jinja_text(text, t.bytes);
}
