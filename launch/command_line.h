/* A command's options as one table: it parses them, checks their ranges and prints --help.
 *
 * Long options are --name VALUE or --name=VALUE, short ones -x VALUE. Values are checked whole:
 * "12x" is no number. Every error is one line (STATUS_USAGE) that names the option, what it takes
 * and what was given, and where --help is. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum option_kind { OPTION_FLAG, OPTION_INT, OPTION_REAL, OPTION_TEXT, OPTION_CHOICE };

struct option_spec {
    const char *name; // without dashes; NULL ends the table
    char letter;      // 0: none
    enum option_kind kind;
    void *value;             // bool *, long *, double *, const char **, int * (a choice's index)
    const char *placeholder; // "N", "FILE"; for a choice "a|b|c", which also lists the choices
    const char *help;        // one line; the default is part of it
    double least, most;      // INT and REAL; both 0: any
    bool *given;             // NULL, or set when the option was there
};

struct command_spec {
    const char *name;    // "run"
    const char *summary; // one line
    const char *usage;   // "-m MODEL -p TEXT [options]"
    const char
        *positional; // NULL: none allowed; else what the one positional argument is ("MODEL")
    const char **positional_value; // an option may set it, too: then none is needed
    const char *notes;             // printed after the options, or NULL
};

enum { OPTIONS_HELP = -1 }; // --help was printed; exit with 0

/* STATUS_OK, STATUS_USAGE or OPTIONS_HELP. */
int options_parse(const struct command_spec *command, const struct option_spec *table, int argc,
                  char **argv);
