/* The windows of a text, against the labels of transformers' guide written out; and which rows are
 * kept. What they score is tests/program/perplexity.sh's. */
#include <string.h>

#include "study/kept.h"
#include "study/perplexity.h"
#include "tests/rig/cm.h"

enum { MOST = 40 };

/* The guide's loop: label i of a window is wanted unless an earlier window has had it; the model
 * then scores labels 1 and on, each by the position before it. times[token] counts them; *fed: the
 * tokens of windows that score any. */
static void guide(const struct perplexity_options *o, int *times, int64_t *fed)
{
    int before = 0;
    for (int begin = 0; before < o->n; begin += o->stride) {
        int end = begin + o->window < o->n ? begin + o->window : o->n, scored = 0;
        for (int label = 1; label < end - begin; label++) {
            bool wanted = label >= end - begin - (end - before);
            times[begin + label] += wanted;
            scored += wanted;
        }
        *fed += scored ? end - begin : 0;
        before = end;
    }
}

/* The same by perplexity_next(); every window lies within the text and has something to score. */
static void ours(const struct perplexity_options *o, int *times)
{
    for (struct perplexity_window w = {0}; perplexity_next(o, &w);) {
        assert_in_range(w.begin, 0, o->n - 1);
        assert_in_range(w.end, w.begin + 2, w.begin + o->window);
        assert_in_range(w.scored, 1, w.end - w.begin - 1);
        for (int i = w.end - w.scored; i < w.end; i++) {
            times[i]++;
            int context = i - w.begin, all = o->window - o->stride;
            assert_true(context >= 1 && (w.begin == 0 || context >= all));
        }
    }
}

static void check(const struct perplexity_options *o)
{
    int expected[MOST] = {0}, found[MOST] = {0};
    int64_t fed = 0, scored = 0;
    struct perplexity_sizes sizes = perplexity_sizes(o);
    guide(o, expected, &fed);
    ours(o, found);
    assert_memory_equal(expected, found, sizeof found);
    for (int i = 0; i < o->n; i++) {
        assert_in_range(found[i], 0, 1);
        scored += found[i];
    }
    assert_int_equal(sizes.scored, scored);
    assert_int_equal(sizes.fed, fed);
    if (o->stride < o->window)
        assert_int_equal(scored, o->n - 1);
}

static void test_windows(void **state)
{
    (void)state;
    for (int n = 2; n < MOST; n++)
        for (int window = 2; window < MOST + 3; window++)
            for (int stride = 1; stride <= window; stride++)
                check(&(struct perplexity_options){.n = n, .window = window, .stride = stride});
}

/* Windows beside each other: the first token of each has no token before it. */
static void test_without_overlap(void **state)
{
    (void)state;
    struct perplexity_options o = {.n = 21, .window = 5, .stride = 5};
    struct perplexity_sizes sizes = perplexity_sizes(&o);
    assert_int_equal(sizes.scored, 16); // 4 windows of 5; the fifth has one token, and scores none
    assert_int_equal(sizes.fed, 20);
}

static void test_kept(void **state)
{
    (void)state;
    for (int64_t all = 1; all < 50; all++)
        for (int64_t kept = 0; kept <= all; kept++) {
            int64_t n = 0, at, before = -1;
            for (int64_t i = 0; i < all; i++) {
                if (!is_kept(i, kept, all, &at))
                    continue;
                assert_int_equal(at, n++);
                assert_true(before < 0 || i - before <= all / kept + 1);
                before = i;
            }
            assert_int_equal(n, kept);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_without_overlap),
        cmocka_unit_test(test_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
