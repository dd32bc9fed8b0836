/* A command's options are one table, by which options_parse() parses them, checks their ranges and
 * prints --help.
 *
 * Long options are --name VALUE or --name=VALUE, short ones -x VALUE. A value must be valid as a
 * whole: "12x" is no number. Every error is one line (STATUS_USAGE) that names the option, what it
 * takes and what was given, and points to --help. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum option_kind { OPTION_FLAG, OPTION_INT, OPTION_REAL, OPTION_TEXT, OPTION_TEXTS, OPTION_CHOICE };

/* The values of an option that may be given several times. */
enum { MAX_TEXTS = 16 };
struct text_list {
    const char *at[MAX_TEXTS];
    int n;
};

struct option_spec {
    const char *name; // without dashes; NULL ends the table
    char letter;      // 0: there is no short form
    enum option_kind kind;
    /* bool *, long *, double *, const char **, struct text_list *, int * (a choice's index) */
    void *value;
    const char *placeholder; // "N", "FILE"; for a choice "a|b|c", which also lists the choices
    const char *help;        // one line; the default is part of it
    double least, most;      // of INT and REAL; both 0: any value
    bool *given;             // set to true when the option is there; or NULL
};

struct command_spec {
    const char *name;    // "run"
    const char *summary; // one line
    const char *usage;   // "-m MODEL -p TEXT [options]"
    const char
        *positional; // the name of the one positional argument ("MODEL"); NULL: there is none
    const char **positional_value; // its value; it may be missing if an option has set this
    const char *notes;             // printed after the options, or NULL
};

/* The place of a word of n bytes in choices "a|b|c"; -1: it is none of them. */
int choice_find(const char *choices, const char *word, size_t n);

enum { OPTIONS_HELP = -1 }; // --help was printed; exit with 0

/* Parse the arguments behind the command's name into the values of the table. STATUS_OK,
 * STATUS_USAGE or OPTIONS_HELP. Options may come in any order, before and after the argument. */
int options_parse(const struct command_spec *command, const struct option_spec *table, int argc,
                  char **argv);

/* The same for a command that takes one positional argument or more: *list is then of argv. */
struct argument_list {
    char **at;
    int n;
};
int options_parse_list(const struct command_spec *command, const struct option_spec *table,
                       struct argument_list *list, int argc, char **argv);
