/* The functions that every chat template can call. */
#include <string.h>
#include <time.h>

#include "model/jinja_parts.h"

enum { MOST_RANGE = 100000 }; // as Jinja's sandbox has it

static struct jinja_value no_self = {.kind = JINJA_NONE};

static struct jinja_value range(struct jinja_run *r, const struct jinja_value *self,
                                jinja_given given)
{
    (void)self;
    int64_t from = 0, to = jinja_expect_int(r, given[0], "range"), step = 1, n = 0;
    if (given[1]) {
        from = to;
        to = jinja_expect_int(r, given[1], "range");
    }
    if (given[2])
        step = jinja_expect_int(r, given[2], "range");
    if (step == 0 || step == INT64_MIN)
        jinja_fail(r, "range: expected a step other than %lld, found it", (long long)step);
    uint64_t apart = (uint64_t)to - (uint64_t)from, stride = (uint64_t)step;
    if (step < 0) {
        apart = (uint64_t)from - (uint64_t)to;
        stride = (uint64_t)-step;
    }
    if (step > 0 ? from < to : from > to)
        n = (apart - 1) / stride >= MOST_RANGE ? MOST_RANGE + 1
                                               : (int64_t)((apart - 1) / stride) + 1;
    if (n > MOST_RANGE)
        jinja_fail(r, "range: expected at most %d numbers, found more", MOST_RANGE);
    struct jinja_list *l = jinja_list_new(r, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        l->at[i] = jinja_int(from + i * step);
    return jinja_list_value(l);
}

static struct jinja_value raise_exception(struct jinja_run *r, const struct jinja_value *self,
                                          jinja_given given)
{
    (void)self;
    struct jinja_text why = jinja_str(r, given[0]);
    r->raised = true;
    jinja_fail(r, "%.*s", why.bytes < JINJA_ERROR_BYTES ? (int)why.bytes : JINJA_ERROR_BYTES,
               why.at);
}

static struct jinja_value strftime_now(struct jinja_run *r, const struct jinja_value *self,
                                       jinja_given given)
{
    (void)self;
    char format[128], text[512];
    struct jinja_text t = jinja_expect_text(r, given[0], "strftime_now");
    if (t.bytes >= sizeof format || (t.bytes && memchr(t.at, 0, t.bytes)))
        jinja_fail(r, "strftime_now: expected a format of at most %zu bytes, found %zu",
                   sizeof format - 1, t.bytes);
    time_t now = time(NULL);
    struct tm parts;
    localtime_r(&now, &parts);
    if (t.bytes)
        memcpy(format, t.at, t.bytes);
    format[t.bytes] = 0;
    size_t bytes = strftime(text, sizeof text, format, &parts);
    char *copy = jinja_alloc(r, bytes);
    memcpy(copy, text, bytes);
    return jinja_text(copy, bytes);
}

static const struct jinja_function functions[] = {
    {"range", range, {"start", "stop", "step"}, 1},
    {"raise_exception", raise_exception, {"message"}, 1},
    {"strftime_now", strftime_now, {"format"}, 1},
};

/* namespace(a=1) and dict(a=1), which may also begin with another object's members. */
static struct jinja_value make(struct jinja_run *r, enum jinja_kind kind,
                               const struct jinja_args *args)
{
    struct jinja_dict *d = jinja_alloc(r, sizeof *d);
    *d = (struct jinja_dict){0};
    if (args->n > 1 || (args->n == 1 && args->at[0].kind != JINJA_DICT))
        jinja_fail(r, "expected an object and name=value for a new one, found other arguments");
    const struct jinja_dict *from[] = {args->n ? args->at[0].dict : d, &args->keywords};
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < from[k]->n; i++)
            jinja_dict_put(r, d, from[k]->at[i].key, from[k]->at[i].value);
    return (struct jinja_value){.kind = kind, .dict = d};
}

bool jinja_is_function(struct jinja_text name)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (jinja_is(name, functions[i].name))
            return true;
    return jinja_is(name, "namespace") || jinja_is(name, "dict");
}

struct jinja_value jinja_call_function(struct jinja_run *r, struct jinja_text name,
                                       const struct jinja_args *args)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (jinja_is(name, functions[i].name))
            return jinja_call(r, &functions[i], &no_self, args);
    return make(r, jinja_is(name, "dict") ? JINJA_DICT : JINJA_NAMESPACE, args);
}
