/* epmoe report: what other commands have measured, as one page of HTML. */
#include "study/report.h"

#include "base/log.h"
#include "launch/launch.h"

static int parse(struct argument_list *files, const char **out, int argc, char **argv)
{
    struct command_spec spec = {
        "report",
        "Make one page of what bench, --profile-json, alltoall, replay, place, calibrate and "
        "project have measured.",
        "RUN.json... -o report.html",
        "RUN.json",
        NULL,
        "What each file is, is told by what is in it. The page has figures, which gnuplot draws\n"
        "(apt-get install gnuplot-nox), and tables, and loads nothing else. docs/study.md."};
    struct option_spec table[] = {
        {"output", 'o', OPTION_TEXT, out, "FILE", "the page to write", 0, 0, NULL}, {0}};
    return options_parse_list(&spec, table, files, argc, argv);
}

int command_report(struct process *p, int argc, char **argv)
{
    struct argument_list files = {0};
    const char *out = NULL;
    (void)p;
    int status = parse(&files, &out, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    if (!out)
        return fail(STATUS_USAGE, "report: expected -o report.html, found none");
    if (files.n > REPORT_MOST_FILES)
        return fail(STATUS_USAGE, "report: expected at most %d files, found %d", REPORT_MOST_FILES,
                    files.n);
    return report_write(files.at, files.n, out);
}
