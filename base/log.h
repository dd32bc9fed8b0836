/* Messages to the user, and errors that a user, a file or a peer can cause.
 *
 * The function that decides that something is an error calls fail(), once, with what was expected
 * and what was found; everyone above only passes the code on. The code is the process's exit code.
 * A thread whose errors another one reports (a worker's go to rank 0, a test compares them)
 * captures them: fail() then keeps the text for error_text() and prints nothing. Capture and text
 * are per thread. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

enum status {
    STATUS_OK = 0,
    STATUS_FAILED = 1,    // the run failed
    STATUS_USAGE = 2,     // bad arguments
    STATUS_BAD_FILE = 3,  // bad input file
    STATUS_LOST_RANK = 4, // a rank died, hung or was cut off
};

/* Print "epmoe: <text>" as one line on stderr (or keep it, see above) and return the code.
 * Control characters in the text are shown as \xNN: it may quote a file. */
int fail(enum status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Print "epmoe: <text>" as one line on stderr; the run goes on. note() prints only after
 * log_verbose(true). */
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_verbose(bool on);

/* The caller has written all of its text to stdout. From now on note() prints to the file that
 * EPMOE_SUMMARY names, if it is set: launch/mpirun.sh prints that file once mpirun has passed on
 * all of stdout, so that notes come last. log_stream(): that file, or stderr. */
void log_follow_output(void);
FILE *log_stream(void);

/* Keep this thread's errors instead of printing them; error_text() is the last one, "" when there
 * was none since. */
void error_capture(bool on);
const char *error_text(void);
