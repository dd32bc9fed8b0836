#include "base/sink.h"

#include <errno.h>
#include <poll.h>
#include <sys/types.h>
#include <unistd.h>

int write_fully(int fd, const void *bytes, size_t n, size_t *done)
{
    const char *at = bytes;
    for (*done = 0; *done < n;) {
        ssize_t got = write(fd, at + *done, n - *done);
        if (got >= 0)
            *done += (size_t)got;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        else if (errno != EINTR)
            return -1;
    }
    return 0;
}

static ssize_t sink_write(void *cookie, const char *bytes, size_t n)
{
    struct sink *s = cookie;
    size_t done;
    if (!s->error && write_fully(s->fd, bytes, n, &done) != 0)
        s->error = errno;
    if (!s->error)
        return (ssize_t)n;
    errno = s->error;
    return 0; // what fopencookie takes for an error
}

FILE *sink_open(struct sink *s, int fd)
{
    *s = (struct sink){.fd = fd};
    return fopencookie(s, "w", (cookie_io_functions_t){.write = sink_write});
}
