#include "serve/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

enum { BACKLOG = 1024 };

static int try_address(const struct addrinfo *a)
{
    int on = 1, fd = socket(a->ai_family, a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

static bool is_loopback(const struct sockaddr *a)
{
    const struct sockaddr_in *four = (const void *)a;
    const struct sockaddr_in6 *six = (const void *)a;
    return a->sa_family == AF_INET ? ntohl(four->sin_addr.s_addr) >> 24 == 127
                                   : IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
}

static void describe(struct listener *l)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    char host[64] = "?", port[16] = "?";
    getsockname(l->fd, (struct sockaddr *)&a, &n);
    getnameinfo((struct sockaddr *)&a, n, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    l->loopback = is_loopback((struct sockaddr *)&a);
    snprintf(l->address, sizeof l->address, a.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
             port);
}

int listen_on(struct listener *l, const char *host, int port)
{
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    char text[16];
    snprintf(text, sizeof text, "%d", port);
    int unknown = getaddrinfo(host, text, &wanted, &found);
    if (unknown)
        return fail(STATUS_FAILED, "--host %s: expected an address of this host, found none: %s",
                    host, gai_strerror(unknown));
    l->fd = -1;
    for (struct addrinfo *a = found; a && l->fd < 0; a = a->ai_next)
        l->fd = try_address(a);
    int why = errno;
    freeaddrinfo(found);
    if (l->fd < 0)
        return fail(STATUS_FAILED, "%s port %d: cannot listen: %s; --port sets another", host, port,
                    strerror(why));
    describe(l);
    return 0;
}
