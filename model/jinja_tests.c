/* Tests: what stands after `is`. */
#include <string.h>

#include "model/jinja_parts.h"

#define TEST(test_name, condition)                                                                 \
    static struct jinja_value test_name(struct jinja_run *r, const struct jinja_value *v,          \
                                        jinja_given given)                                         \
    {                                                                                              \
        (void)r;                                                                                   \
        (void)given;                                                                               \
        return jinja_bool(condition);                                                              \
    }

static bool has_items(const struct jinja_value *v)
{
    return v->kind == JINJA_TEXT || v->kind == JINJA_LIST || v->kind == JINJA_DICT ||
           v->kind == JINJA_UNDEFINED;
}

static bool can_be_called(const struct jinja_value *v)
{
    return v->kind == JINJA_MACRO || v->kind == JINJA_METHOD || v->kind == JINJA_FUNCTION;
}

static int64_t rest(struct jinja_run *r, const struct jinja_value *v, const struct jinja_value *by)
{
    struct jinja_value out = jinja_binary(r, jinja_word("%").text, v, by);
    return jinja_expect_int(r, &out, "a test of whole numbers");
}

static int64_t rest_of_two(struct jinja_run *r, const struct jinja_value *v)
{
    const struct jinja_value two = jinja_int(2);
    return rest(r, v, &two);
}

/* The same object, as Python's `is` has it for values that templates compare so. */
static bool same(struct jinja_run *r, const struct jinja_value *a, const struct jinja_value *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind == JINJA_NONE || a->kind == JINJA_BOOL)
        return jinja_equal(r, a, b);
    jinja_fail(r, "sameas: expected true, false or none, found %s", jinja_kind_name(a));
}

TEST(is_defined, v->kind != JINJA_UNDEFINED)
TEST(is_undefined, v->kind == JINJA_UNDEFINED)
TEST(is_none, v->kind == JINJA_NONE)
TEST(is_boolean, v->kind == JINJA_BOOL)
TEST(is_true, v->kind == JINJA_BOOL && v->truth)
TEST(is_false, v->kind == JINJA_BOOL && !v->truth)
TEST(is_integer, v->kind == JINJA_INT)
TEST(is_float, v->kind == JINJA_REAL)
TEST(is_number, jinja_is_number(v))
TEST(is_string, v->kind == JINJA_TEXT)
TEST(is_mapping, v->kind == JINJA_DICT)
TEST(is_iterable, has_items(v))
TEST(is_sequence, has_items(v))
TEST(is_callable, can_be_called(v))
TEST(is_equal, jinja_equal(r, v, given[0]))
TEST(is_unequal, !jinja_equal(r, v, given[0]))
TEST(is_less, jinja_compare(r, jinja_word("<").text, v, given[0]))
TEST(is_less_or_equal, jinja_compare(r, jinja_word("<=").text, v, given[0]))
TEST(is_greater, jinja_compare(r, jinja_word(">").text, v, given[0]))
TEST(is_greater_or_equal, jinja_compare(r, jinja_word(">=").text, v, given[0]))
TEST(is_in, jinja_contains(r, given[0], v))
TEST(is_divisible, rest(r, v, given[0]) == 0)
TEST(is_even, rest_of_two(r, v) == 0)
TEST(is_odd, rest_of_two(r, v) == 1)
TEST(is_same, same(r, v, given[0]))

static const struct jinja_function tests[] = {
    {"defined", is_defined, {NULL}, 0},
    {"undefined", is_undefined, {NULL}, 0},
    {"none", is_none, {NULL}, 0},
    {"boolean", is_boolean, {NULL}, 0},
    {"true", is_true, {NULL}, 0},
    {"false", is_false, {NULL}, 0},
    {"integer", is_integer, {NULL}, 0},
    {"float", is_float, {NULL}, 0},
    {"number", is_number, {NULL}, 0},
    {"string", is_string, {NULL}, 0},
    {"mapping", is_mapping, {NULL}, 0},
    {"iterable", is_iterable, {NULL}, 0},
    {"sequence", is_sequence, {NULL}, 0},
    {"callable", is_callable, {NULL}, 0},
    {"equalto", is_equal, {"other"}, 1},
    {"eq", is_equal, {"other"}, 1},
    {"==", is_equal, {"other"}, 1},
    {"ne", is_unequal, {"other"}, 1},
    {"!=", is_unequal, {"other"}, 1},
    {"lt", is_less, {"other"}, 1},
    {"lessthan", is_less, {"other"}, 1},
    {"<", is_less, {"other"}, 1},
    {"le", is_less_or_equal, {"other"}, 1},
    {"<=", is_less_or_equal, {"other"}, 1},
    {"gt", is_greater, {"other"}, 1},
    {"greaterthan", is_greater, {"other"}, 1},
    {">", is_greater, {"other"}, 1},
    {"ge", is_greater_or_equal, {"other"}, 1},
    {">=", is_greater_or_equal, {"other"}, 1},
    {"in", is_in, {"seq"}, 1},
    {"divisibleby", is_divisible, {"num"}, 1},
    {"even", is_even, {NULL}, 0},
    {"odd", is_odd, {NULL}, 0},
    {"sameas", is_same, {"other"}, 1},
};

const struct jinja_function *jinja_test(struct jinja_text name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (jinja_is(name, tests[i].name))
            return &tests[i];
    return NULL;
}
