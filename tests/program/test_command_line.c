/* A command's options: what is refused, and with which words. */
#include <string.h>

#include "base/log.h"
#include "base/spelling.h"
#include "launch/command_line.h"
#include "launch/launch.h"
#include "tests/rig/cm.h"

struct bad_options {
    const char *argv[4];
    const char *says;
};

static struct text_list each;

static int parse_options(int argc, const char *const *argv, long *n, int *choice)
{
    const char *text;
    long wide;
    double real;
    bool flag;
    struct command_spec spec = {"test", "", "", NULL, NULL, NULL};
    struct option_spec table[] = {{"number", 'n', OPTION_INT, n, "N", "", 1, 10, NULL},
                                  {"real", 0, OPTION_REAL, &real, "X", "", 0, 1, NULL},
                                  {"text", 0, OPTION_TEXT, &text, "T", "", 0, 0, NULL},
                                  {"wide", 0, OPTION_INT, &wide, "N", "", -1, 1 << 24, NULL},
                                  {"each", 0, OPTION_TEXTS, &each, "T", "", 0, 0, NULL},
                                  {"choice", 0, OPTION_CHOICE, choice, "red|green", "", 0, 0, NULL},
                                  {"flag", 0, OPTION_FLAG, &flag, NULL, "", 0, 0, NULL},
                                  {0}};
    char *copy[8] = {"test"};
    for (int i = 0; i < argc; i++)
        copy[i + 1] = (char *)(uintptr_t)argv[i];
    return options_parse(&spec, table, argc + 1, copy);
}

static void options_are_checked(void **state)
{
    (void)state;
    long n = 0;
    int choice = 0;
    static const struct bad_options cases[] = {
        {{"--number", "0"}, "from 1 to 10"},
        {{"--number", "12x"}, "\"12x\""},
        {{"-n", ""}, "a whole number"},
        {{"--real", "nan"}, "a number"},
        {{"--real", "2"}, "from 0 to 1"},
        {{"--choice", "blue"}, "red|green"},
        {{"--choice", "re"}, "red|green"},
        {{"--nothing"}, "unknown option \"--nothing\"; see"},
        {{"--nubmer", "3"}, "(did you mean --number?)"},
        {{"--txt=3"}, "\"--txt=3\" (did you mean --text?)"},
        {{"--texts"}, "(did you mean --text?)"},
        {{"-x"}, "unknown option \"-x\"; see"},
        {{"--wide", "16777217"}, "from -1 to 16777216, found"},
        {{"extra"}, "unexpected argument"},
        {{"--number"}, "needs a value"},
        {{"-n", "99999999999999999999"}, "a whole number"},
    };
    error_capture(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int argc = 0;
        while (cases[i].argv[argc])
            argc++;
        assert_int_equal(parse_options(argc, cases[i].argv, &n, &choice), STATUS_USAGE);
        assert_non_null(strstr(error_text(), cases[i].says));
        assert_non_null(strstr(error_text(), "--help"));
    }
    error_capture(false);
    const char *good[] = {"-n", "7", "--choice=green"};
    assert_int_equal(parse_options(3, good, &n, &choice), 0);
    assert_int_equal(n, 7);
    assert_int_equal(choice, 1);
}

static void an_option_may_be_given_several_times(void **state)
{
    (void)state;
    long n;
    int choice;
    const char *argv[] = {"--each=a", "--each=b", "--each=a"};
    each.n = 0;
    assert_int_equal(parse_options(3, argv, &n, &choice), 0);
    assert_int_equal(each.n, 3);
    assert_string_equal(each.at[1], "b");
    error_capture(true);
    int status = 0;
    for (int i = 3; i < MAX_TEXTS && !status; i++)
        status = parse_options(1, argv, &n, &choice);
    assert_int_equal(status, 0);
    assert_int_equal(parse_options(1, argv, &n, &choice), STATUS_USAGE);
    assert_non_null(strstr(error_text(), "at most 16 times"));
    error_capture(false);
}

static void bytes_are_read_in_any_spelling(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes; // 0: refused
    } cases[] = {{"24G", 24ull << 30},
                 {"24GB", 24ull << 30},
                 {"24GiB", 24ull << 30},
                 {"24 gib", 24ull << 30},
                 {"1.5k", 1536},
                 {"2T", 2ull << 40},
                 {"1e9", 1000000000},
                 {"7", 7},
                 {"24Gx", 0},
                 {"24GBs", 0},
                 {"G", 0},
                 {"", 0},
                 {"-4G", 0},
                 {"0", 0},
                 {"4X", 0},
                 {"nan", 0},
                 {"24B", 0},
                 {"24Gi", 0},
                 {"4  G", 0},
                 {"inf", 0}};
    error_capture(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t bytes;
        int status = parse_memory("--memory", cases[i].text, &bytes);
        if (status != (cases[i].bytes ? 0 : STATUS_USAGE) || bytes != cases[i].bytes)
            print_error("\"%s\"\n", cases[i].text);
        assert_int_equal(status, cases[i].bytes ? 0 : STATUS_USAGE);
        assert_int_equal(bytes, cases[i].bytes);
    }
    assert_non_null(strstr(error_text(), "--memory takes bytes"));
    error_capture(false);
}

/* The candidate among a few words, or "" for none. */
static const char *meant(const char *word)
{
    static const char *const words[] = {"run", "batch", "bench", "logits", "tokenize"};
    struct spelling s = {.word = word};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        spelling_try(&s, words[i]);
    return s.best ? s.best : "";
}

static void misspelled_words_are_recognised(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"rnu", "run"},      {"bech", "bench"}, {"logit", "logits"}, {"tokenise", "tokenize"},
        {"tok", "tokenize"}, {"ba", ""},        {"serve", ""},       {"", ""}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_string_equal(meant(pairs[i][0]), pairs[i][1]);
    char longest[400];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_string_equal(meant(longest), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(an_option_may_be_given_several_times),
        cmocka_unit_test(bytes_are_read_in_any_spelling),
        cmocka_unit_test(misspelled_words_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
