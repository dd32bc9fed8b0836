#include "base/log.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 1024 };

static _Thread_local bool captured;
static _Thread_local char last_error[TEXT_BYTES];
static bool verbose;
static FILE *follower; // what log_follow_output() has opened

/* Copy `text`, with control characters as \xNN. A message may quote a file, whose escape sequences
 * must not reach the terminal. */
static void escape_controls(char *out, size_t size, const char *text)
{
    size_t n = 0;
    for (const unsigned char *c = (const unsigned char *)text; *c && n + 5 < size; c++) {
        if (*c < 0x20 || *c == 0x7f)
            n += (size_t)snprintf(out + n, size - n, "\\x%02x", *c);
        else
            out[n++] = (char)*c;
    }
    out[n] = 0;
}

static void print_line(FILE *out, const char *format, va_list args)
{
    char raw[TEXT_BYTES], line[TEXT_BYTES];
    vsnprintf(raw, sizeof raw, format, args);
    escape_controls(line, sizeof line, raw);
    fprintf(out, "epmoe: %s\n", line);
}

int fail(enum status code, const char *format, ...)
{
    char raw[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    escape_controls(last_error, sizeof last_error, raw);
    if (!captured)
        fprintf(stderr, "epmoe: %s\n", last_error);
    return code;
}

void warn(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print_line(stderr, format, args);
    va_end(args);
}

void note(const char *format, ...)
{
    if (!verbose)
        return;
    va_list args;
    va_start(args, format);
    print_line(log_stream(), format, args);
    va_end(args);
}

void log_follow_output(void)
{
    const char *path = getenv("EPMOE_SUMMARY");
    int fd = path && !follower ? open(path, O_WRONLY | O_APPEND | O_CLOEXEC) : -1;
    if (fd < 0)
        return; // also if the script is on another host
    follower = fdopen(fd, "a");
    if (follower)
        setvbuf(follower, NULL, _IOLBF, BUFSIZ);
}

FILE *log_stream(void)
{
    return follower ? follower : stderr;
}

void log_verbose(bool on)
{
    verbose = on;
}

void error_capture(bool on)
{
    captured = on;
    last_error[0] = 0;
}

const char *error_text(void)
{
    return last_error;
}
