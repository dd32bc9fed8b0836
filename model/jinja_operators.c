/* Operators, as Python has them. */
#include <math.h>
#include <string.h>

#include "model/jinja_parts.h"

static double number(const struct jinja_value *v)
{
    return v->kind == JINJA_REAL ? v->real : v->kind == JINJA_BOOL ? v->truth : (double)v->integer;
}

static int64_t whole(const struct jinja_value *v)
{
    return v->kind == JINJA_BOOL ? v->truth : v->integer;
}

static void refuse(struct jinja_run *r, struct jinja_text sign, const struct jinja_value *a,
                   const struct jinja_value *b)
{
    const struct jinja_value *none = a->kind == JINJA_UNDEFINED ? a : b;
    if (none->kind == JINJA_UNDEFINED)
        jinja_fail(r, "%.*s", (int)none->text.bytes, none->text.at);
    jinja_fail(r, "expected values that %.*s takes, found %s and %s", (int)sign.bytes, sign.at,
               jinja_kind_name(a), jinja_kind_name(b));
}

/* Python's // and % round towards minus infinity. */
static bool divide(struct jinja_run *r, char sign, int64_t a, int64_t b, int64_t *out)
{
    if (b == 0)
        jinja_fail(r, "expected a divisor other than 0, found 0");
    if (a == INT64_MIN && b == -1)
        return true;
    int64_t quotient = a / b, rest = a % b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        rest += b;
        quotient--;
    }
    *out = sign == '%' ? rest : quotient;
    return false;
}

static bool power(int64_t base, int64_t exponent, int64_t *out)
{
    bool over = false;
    *out = 1;
    while (exponent > 0 && !over) {
        if (exponent & 1)
            over = __builtin_mul_overflow(*out, base, out);
        exponent >>= 1;
        if (exponent > 0)
            over = over || __builtin_mul_overflow(base, base, &base);
    }
    return over;
}

static struct jinja_value on_ints(struct jinja_run *r, const char *sign, int64_t a, int64_t b)
{
    int64_t out = 0;
    bool over = false;
    if (*sign == '+')
        over = __builtin_add_overflow(a, b, &out);
    else if (*sign == '-')
        over = __builtin_sub_overflow(a, b, &out);
    else if (strcmp(sign, "*") == 0)
        over = __builtin_mul_overflow(a, b, &out);
    else if (*sign == '*' && b >= 0)
        over = power(a, b, &out);
    else if (*sign == '%' || strcmp(sign, "//") == 0)
        over = divide(r, *sign, a, b, &out);
    else
        jinja_fail(r, "expected whole numbers that %s takes, found %lld and %lld", sign,
                   (long long)a, (long long)b);
    if (over)
        jinja_fail(r, "expected a whole number of 64 bits from %s, found a larger one", sign);
    return jinja_int(out);
}

static struct jinja_value on_reals(struct jinja_run *r, const char *sign, double a, double b)
{
    if ((*sign == '/' || *sign == '%') && b == 0)
        jinja_fail(r, "expected a divisor other than 0, found 0");
    if (*sign == '+')
        return jinja_real(a + b);
    if (*sign == '-')
        return jinja_real(a - b);
    if (strcmp(sign, "*") == 0)
        return jinja_real(a * b);
    if (*sign == '*')
        return jinja_real(pow(a, b));
    if (strcmp(sign, "/") == 0)
        return jinja_real(a / b);
    double rest = fmod(a, b);
    if (rest != 0 && (rest < 0) != (b < 0))
        rest += b;
    return jinja_real(*sign == '%' ? rest : floor((a - rest) / b + 0.5));
}

static struct jinja_value join(struct jinja_run *r, struct jinja_text a, struct jinja_text b)
{
    char *text = jinja_alloc(r, a.bytes + b.bytes);
    if (a.bytes)
        memcpy(text, a.at, a.bytes);
    if (b.bytes)
        memcpy(text + a.bytes, b.at, b.bytes);
    jinja_step(r, (a.bytes + b.bytes) / 64);
    return jinja_text(text, a.bytes + b.bytes);
}

static struct jinja_value join_lists(struct jinja_run *r, const struct jinja_list *a,
                                     const struct jinja_list *b)
{
    struct jinja_list *l = jinja_list_new(r, a->n + b->n);
    l->tuple = a->tuple;
    if (a->n)
        memcpy(l->at, a->at, a->n * sizeof *l->at);
    if (b->n)
        memcpy(l->at + a->n, b->at, b->n * sizeof *l->at);
    return jinja_list_value(l);
}

static struct jinja_value repeat(struct jinja_run *r, struct jinja_text t, int64_t times)
{
    struct jinja_buffer b = {0};
    for (int64_t i = 0; i < times && t.bytes; i++) {
        jinja_step(r, 1);
        jinja_put_text(r, &b, t);
    }
    return jinja_text(b.bytes ? b.text : "", b.bytes);
}

struct jinja_value jinja_binary(struct jinja_run *r, struct jinja_text sign,
                                const struct jinja_value *a, const struct jinja_value *b)
{
    char s[4] = {0};
    memcpy(s, sign.at, sign.bytes < 3 ? sign.bytes : 3);
    bool adds = strcmp(s, "+") == 0, times = strcmp(s, "*") == 0;
    if (*s == '~')
        return join(r, jinja_str(r, a), jinja_str(r, b));
    jinja_refuse_safe(r, a);
    jinja_refuse_safe(r, b);
    if (adds && a->kind == JINJA_TEXT && b->kind == JINJA_TEXT)
        return join(r, a->text, b->text);
    if (adds && a->kind == JINJA_LIST && b->kind == JINJA_LIST && a->list->tuple == b->list->tuple)
        return join_lists(r, a->list, b->list);
    if (times && a->kind == JINJA_TEXT && (b->kind == JINJA_INT || b->kind == JINJA_BOOL))
        return repeat(r, a->text, whole(b));
    if (!jinja_is_number(a) || !jinja_is_number(b))
        refuse(r, sign, a, b);
    if (a->kind == JINJA_REAL || b->kind == JINJA_REAL || strcmp(s, "/") == 0)
        return on_reals(r, s, number(a), number(b));
    return on_ints(r, s, whole(a), whole(b));
}

static int order_texts(struct jinja_text a, struct jinja_text b)
{
    size_t n = a.bytes < b.bytes ? a.bytes : b.bytes;
    int order = n ? memcmp(a.at, b.at, n) : 0;
    return order ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

static bool equal_lists(struct jinja_run *r, const struct jinja_list *a, const struct jinja_list *b)
{
    if (a->n != b->n || a->tuple != b->tuple)
        return false;
    for (size_t i = 0; i < a->n; i++)
        if (!jinja_equal(r, &a->at[i], &b->at[i]))
            return false;
    return true;
}

static bool equal_dicts(struct jinja_run *r, const struct jinja_dict *a, const struct jinja_dict *b)
{
    if (a->n != b->n)
        return false;
    for (size_t i = 0; i < a->n; i++) {
        struct jinja_entry *e = jinja_dict_find(r, b, a->at[i].key);
        if (!e || !jinja_equal(r, &a->at[i].value, &e->value))
            return false;
    }
    return true;
}

bool jinja_equal(struct jinja_run *r, const struct jinja_value *a, const struct jinja_value *b)
{
    bool same = false;
    if (jinja_is_number(a) && jinja_is_number(b))
        return a->kind == JINJA_REAL || b->kind == JINJA_REAL ? number(a) == number(b)
                                                              : whole(a) == whole(b);
    if (a->kind != b->kind)
        return false;
    jinja_enter(r);
    if (a->kind == JINJA_UNDEFINED || a->kind == JINJA_NONE)
        same = true;
    else if (a->kind == JINJA_TEXT)
        same = order_texts(a->text, b->text) == 0;
    else if (a->kind == JINJA_LIST)
        same = equal_lists(r, a->list, b->list);
    else if (a->kind == JINJA_DICT)
        same = equal_dicts(r, a->dict, b->dict);
    else if (a->kind == JINJA_NAMESPACE)
        same = a->dict == b->dict;
    else
        jinja_fail(r, "expected values to compare, found %s", jinja_kind_name(a));
    jinja_leave(r);
    return same;
}

/* Which of two lists comes first is said by the first items that differ. */
static bool less_lists(struct jinja_run *r, const struct jinja_list *a, const struct jinja_list *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (!jinja_equal(r, &a->at[i], &b->at[i]))
            return jinja_less(r, &a->at[i], &b->at[i]);
    return a->n < b->n;
}

bool jinja_less(struct jinja_run *r, const struct jinja_value *a, const struct jinja_value *b)
{
    bool less = false;
    jinja_enter(r);
    if (jinja_is_number(a) && jinja_is_number(b))
        less = a->kind == JINJA_REAL || b->kind == JINJA_REAL ? number(a) < number(b)
                                                              : whole(a) < whole(b);
    else if (a->kind == JINJA_TEXT && b->kind == JINJA_TEXT)
        less = order_texts(a->text, b->text) < 0;
    else if (a->kind == JINJA_LIST && b->kind == JINJA_LIST && a->list->tuple == b->list->tuple)
        less = less_lists(r, a->list, b->list);
    else
        refuse(r, jinja_word("<").text, a, b);
    jinja_leave(r);
    return less;
}

bool jinja_contains(struct jinja_run *r, const struct jinja_value *whole_value,
                    const struct jinja_value *part)
{
    if (whole_value->kind == JINJA_TEXT) {
        struct jinja_text t = jinja_expect_text(r, part, "in a text");
        jinja_step(r, whole_value->text.bytes / 64);
        return t.bytes == 0 ||
               memmem(whole_value->text.at, whole_value->text.bytes, t.at, t.bytes) != NULL;
    }
    if (whole_value->kind == JINJA_DICT)
        return part->kind == JINJA_TEXT && jinja_dict_find(r, whole_value->dict, part->text);
    const struct jinja_list *l = jinja_items(r, whole_value);
    for (size_t i = 0; i < l->n; i++)
        if (jinja_equal(r, &l->at[i], part))
            return true;
    return false;
}

/* NaN is neither less, nor greater, nor equal. */
static bool less_or_equal(struct jinja_run *r, const struct jinja_value *a,
                          const struct jinja_value *b)
{
    return jinja_less(r, a, b) || jinja_equal(r, a, b);
}

bool jinja_compare(struct jinja_run *r, struct jinja_text sign, const struct jinja_value *a,
                   const struct jinja_value *b)
{
    if (jinja_is(sign, "=="))
        return jinja_equal(r, a, b);
    if (jinja_is(sign, "!="))
        return !jinja_equal(r, a, b);
    if (jinja_is(sign, "in"))
        return jinja_contains(r, b, a);
    if (jinja_is(sign, "not in"))
        return !jinja_contains(r, b, a);
    if (jinja_is(sign, "<"))
        return jinja_less(r, a, b);
    if (jinja_is(sign, ">"))
        return jinja_less(r, b, a);
    return jinja_is(sign, "<=") ? less_or_equal(r, a, b) : less_or_equal(r, b, a);
}
