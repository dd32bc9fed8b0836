#include "launch/stdout.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/sink.h"

static struct sink sink;
static bool told;

/* In place of a closed stdout, /dev/null is opened for reading, so that output which nobody would
 * get still counts as lost. open() takes the lowest descriptor that is free. */
static void open_closed(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 &&
            open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY) != fd)
            _exit(STATUS_FAILED); // there is no stderr to say it on
}

void stdout_open(void)
{
    open_closed();
    FILE *stream = sink_open(&sink, STDOUT_FILENO);
    CHECK_MEMORY(stream, "no memory for stdout");
    setvbuf(stream, NULL, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, BUFSIZ);
    stdout = stream;
}

int stdout_status(void)
{
    if (!sink.error)
        return 0;
    if (sink.error == EPIPE)
        return 128 + SIGPIPE;
    if (!told)
        fail(STATUS_FAILED, "standard output: cannot be written: %s", strerror(sink.error));
    told = true;
    return STATUS_FAILED;
}

int stdout_close(void)
{
    fflush(stdout);
    return stdout_status();
}
