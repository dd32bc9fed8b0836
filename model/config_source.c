#include "model/config_source.h"

#include <string.h>

#include "base/log.h"
#include "model/found.h"

const struct js *source_value(const struct config_source *s, const char *key)
{
    const struct js *v = js_member(s->root, key);
    return js_is_null(v) ? NULL : v;
}

int source_expected(const struct config_source *s, const char *key, const char *what,
                    const struct js *v)
{
    return fail(STATUS_BAD_FILE, "%s: %s: expected %s, found %s", s->file, key, what,
                found(v).text);
}

int source_check_int(const struct config_source *s, const char *key, const struct js *v, int least,
                     int most)
{
    if (js_is_int(v) && js_int(v) >= least && js_int(v) <= most)
        return 0;
    return fail(STATUS_BAD_FILE, "%s: %s: expected a whole number from %d to %d, found %s", s->file,
                key, least, most, found(v).text);
}

int source_int(const struct config_source *s, const char *key, int least, int most, int *out)
{
    const struct js *v = js_member(s->root, key);
    int status = v ? source_check_int(s, key, v, least, most) : 0;
    if (v && !status)
        *out = (int)js_int(v);
    return status;
}

int source_real(const struct config_source *s, const char *key, const struct js *v, double least,
                double most, double *out)
{
    if (!v)
        return 0;
    double x = js_number(v);
    if (!js_is_number(v) || !(x >= least && x <= most))
        return fail(STATUS_BAD_FILE, "%s: %s: expected a number from %g to %g, found %s", s->file,
                    key, least, most, found(v).text);
    *out = x;
    return 0;
}

int source_bool(const struct config_source *s, const char *key, bool *out)
{
    const struct js *v = js_member(s->root, key);
    if (v && !js_is_bool(v))
        return source_expected(s, key, "true or false", v);
    if (v)
        *out = js_bool(v);
    return 0;
}

bool source_is_text(const struct js *v, const char *text)
{
    size_t bytes = 0;
    const char *found_text = js_string(v, &bytes);
    return found_text && bytes == strlen(text) && memcmp(found_text, text, bytes) == 0;
}
