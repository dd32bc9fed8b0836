/* The socket that a server listens on. */
#pragma once

#include <stdbool.h>

enum { ADDRESS_BYTES = 80 };

struct listener {
    int fd;
    bool loopback;               // nobody but this host can reach it
    char address[ADDRESS_BYTES]; // "127.0.0.1:8080", "[::1]:8080"
};

/* Listen on a host, an address or a name, and a port, 0 for any that is free. 0 or STATUS_FAILED.
 */
int listen_on(struct listener *l, const char *host, int port);
