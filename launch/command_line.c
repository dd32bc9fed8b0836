#include "launch/command_line.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/spelling.h"

enum { MAX_OPTIONS = 64, FIRST_LONG = 256 }; // getopt's code of option i is FIRST_LONG + i

static void print_option(const struct option_spec *o)
{
    int n = o->letter ? printf("  -%c, --%s", o->letter, o->name) : printf("      --%s", o->name);
    if (o->kind != OPTION_FLAG)
        n += printf(" %s", o->placeholder);
    if (n > 30)
        n = printf("\n") - 1;
    printf("%*s%s\n", 31 - n, "", o->help);
}

static void print_help(const struct command_spec *command, const struct option_spec *table)
{
    printf("usage: epmoe %s %s\n%s\n\n", command->name, command->usage, command->summary);
    for (const struct option_spec *o = table; o->name; o++)
        print_option(o);
    printf("%-31s%s\n", "  -h, --help", "print this");
    if (command->notes)
        printf("\n%s\n", command->notes);
}

static int refuse(const struct command_spec *command, const struct option_spec *o, const char *text)
{
    char range[96] = "";
    if (o->least != o->most)
        snprintf(range, sizeof range, " from %.15g to %.15g", o->least, o->most);
    const char *what = o->kind == OPTION_INT    ? "a whole number"
                       : o->kind == OPTION_REAL ? "a number"
                                                : o->placeholder;
    return fail(STATUS_USAGE, "%s: --%s takes %s%s, found \"%s\"; see epmoe %s --help",
                command->name, o->name, what, range, text, command->name);
}

static int set_int(const struct command_spec *command, const struct option_spec *o,
                   const char *text)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    bool in_range = o->least == o->most || ((double)v >= o->least && (double)v <= o->most);
    if (end == text || *end || errno || !in_range)
        return refuse(command, o, text);
    *(long *)o->value = v;
    return 0;
}

static int set_real(const struct command_spec *command, const struct option_spec *o,
                    const char *text)
{
    char *end;
    double v = strtod(text, &end);
    bool in_range = o->least == o->most || (v >= o->least && v <= o->most);
    if (end == text || *end || !isfinite(v) || !in_range)
        return refuse(command, o, text);
    *(double *)o->value = v;
    return 0;
}

int choice_find(const char *choices, const char *word, size_t n)
{
    int index = 0;
    for (const char *c = choices; c; index++) {
        const char *bar = strchr(c, '|');
        size_t length = bar ? (size_t)(bar - c) : strlen(c);
        if (length == n && memcmp(c, word, n) == 0)
            return index;
        c = bar ? bar + 1 : NULL;
    }
    return -1;
}

static int set_choice(const struct command_spec *command, const struct option_spec *o,
                      const char *text)
{
    int index = choice_find(o->placeholder, text, strlen(text));
    if (index < 0)
        return refuse(command, o, text);
    *(int *)o->value = index;
    return 0;
}

static int add_text(const struct command_spec *command, const struct option_spec *o,
                    const char *text)
{
    struct text_list *list = o->value;
    if (list->n == MAX_TEXTS)
        return fail(STATUS_USAGE,
                    "%s: expected --%s at most %d times, found it more often; see "
                    "epmoe %s --help",
                    command->name, o->name, MAX_TEXTS, command->name);
    list->at[list->n++] = text;
    return 0;
}

static int set_value(const struct command_spec *command, const struct option_spec *o,
                     const char *text)
{
    if (o->given)
        *o->given = true;
    switch (o->kind) {
    case OPTION_FLAG:
        *(bool *)o->value = true;
        return 0;
    case OPTION_INT:
        return set_int(command, o, text);
    case OPTION_REAL:
        return set_real(command, o, text);
    case OPTION_TEXT:
        *(const char **)o->value = text;
        return 0;
    case OPTION_TEXTS:
        return add_text(command, o, text);
    default:
        return set_choice(command, o, text);
    }
}

/* Convert the table to the two forms that getopt_long reads. */
static void build_getopt(const struct option_spec *table, struct option *longs, char *shorts)
{
    int n = 0;
    *shorts++ = ':'; // getopt then tells a missing value from an unknown option
    for (const struct option_spec *o = table; o->name; o++, n++) {
        CHECK(n < MAX_OPTIONS, "more than %d options", MAX_OPTIONS);
        int takes = o->kind == OPTION_FLAG ? no_argument : required_argument;
        longs[n] = (struct option){o->name, takes, NULL, FIRST_LONG + n};
        if (o->letter) {
            *shorts++ = o->letter;
            if (takes == required_argument)
                *shorts++ = ':';
        }
    }
    *shorts++ = 'h';
    *shorts = 0;
    longs[n] = (struct option){"help", no_argument, NULL, 'h'};
}

static const struct option_spec *find(const struct option_spec *table, int code)
{
    if (code >= FIRST_LONG)
        return &table[code - FIRST_LONG];
    for (const struct option_spec *o = table; o->name; o++)
        if (o->letter == code)
            return o;
    return NULL;
}

/* An unknown option: with the one that the user may have meant. Options of other programs for the
 * same thing are known by name. */
static int unknown(const struct command_spec *command, const struct option_spec *table,
                   const char *option)
{
    static const char *const others[][2] = {{"max-tokens", "n-predict"},
                                            {"max-new-tokens", "n-predict"},
                                            {"max_tokens", "n-predict"},
                                            {"ctx-size", "ctx"},
                                            {"context", "ctx"},
                                            {"num-threads", "threads"},
                                            {"repetition-penalty", "repeat-penalty"}};
    char hint[96] = "", word[64];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(option, "="), option);
    struct spelling s = {.word = word + strspn(word, "-")};
    for (const struct option_spec *o = table; o->name; o++) {
        spelling_try(&s, o->name);
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            if (strcmp(s.word, others[i][0]) == 0 && strcmp(o->name, others[i][1]) == 0)
                s.best = o->name, s.distance = 0;
    }
    if (s.best && option[0] == '-' && option[1] == '-')
        snprintf(hint, sizeof hint, " (did you mean --%s?)", s.best);
    return fail(STATUS_USAGE, "%s: unknown option \"%s\"%s; see epmoe %s --help", command->name,
                option, hint, command->name);
}

static int positional(const struct command_spec *command, int argc, char **argv)
{
    int extra = argc - optind;
    if (!command->positional && extra > 0)
        return fail(STATUS_USAGE, "%s: unexpected argument \"%s\"; see epmoe %s --help",
                    command->name, argv[optind], command->name);
    if (command->positional && *command->positional_value && extra == 0)
        return 0; // an option has set the value
    if (command->positional && extra != 1)
        return fail(STATUS_USAGE, "%s: expected one %s, found %d arguments; see epmoe %s --help",
                    command->name, command->positional, extra, command->name);
    if (command->positional)
        *command->positional_value = argv[optind];
    return 0;
}

static int parse_options(const struct command_spec *command, const struct option_spec *table,
                         int argc, char **argv)
{
    struct option longs[MAX_OPTIONS + 2] = {{0}};
    char shorts[3 * MAX_OPTIONS];
    build_getopt(table, longs, shorts);
    optind = 0; // makes getopt start anew when a process parses twice
    opterr = 0;
    for (int code; (code = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (code == 'h') {
            print_help(command, table);
            return OPTIONS_HELP;
        }
        if (code == ':')
            return fail(STATUS_USAGE, "%s: %s needs a value; see epmoe %s --help", command->name,
                        argv[optind - 1], command->name);
        if (code == '?')
            return unknown(command, table, argv[optind - 1]);
        int status = set_value(command, find(table, code), optarg);
        if (status)
            return status;
    }
    return 0;
}

int options_parse(const struct command_spec *command, const struct option_spec *table, int argc,
                  char **argv)
{
    int status = parse_options(command, table, argc, argv);
    return status ? status : positional(command, argc, argv);
}

int options_parse_list(const struct command_spec *command, const struct option_spec *table,
                       struct argument_list *list, int argc, char **argv)
{
    int status = parse_options(command, table, argc, argv);
    if (status)
        return status;
    *list = (struct argument_list){argv + optind, argc - optind};
    if (list->n == 0)
        return fail(STATUS_USAGE, "%s: expected one %s or more, found none; see epmoe %s --help",
                    command->name, command->positional, command->name);
    return 0;
}
