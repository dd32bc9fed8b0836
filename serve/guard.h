/* Who may talk to the server: keys, and the Host and Origin of a request.
 *
 * A browser sends what any website asks for to a server on loopback. A page of another origin says
 * so in Origin. A page whose name was made to mean this host (DNS rebinding) is of the same origin,
 * but its name stands in Host: so a Host that is a name must be one that the server goes by. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { MAX_NAMES = 16 };

struct guard {
    char *key_text; // the key file's; the keys point into it
    char **keys;    // [n_keys]; 0: none is needed
    int n_keys;
    const char *names[1 + MAX_NAMES]; // [n_names] the server's, beside localhost; the caller's
    int n_names;
    const char *origins[MAX_NAMES]; // [n_origins] of other pages that may ask, such as https://a.b
    int n_origins;
};

/* Read keys: one a line; blank lines and lines that begin with # are skipped. 0 or STATUS_BAD_FILE.
 */
int guard_read_keys(struct guard *g, const char *path);
void guard_close(struct guard *g);

/* May a request with this Authorization header (NULL: none) be served? Takes the same time for
 * every wrong key of one length. */
bool guard_key(const struct guard *g, const char *authorization);
/* The same of its Host: an address, localhost, or one of the server's names; any port. */
bool guard_host(const struct guard *g, const char *host);
/* The same of its Origin: none, that of its own Host, or one of the origins. *other := whether the
 * answer must say to the browser that this origin may read it. */
bool guard_origin(const struct guard *g, const char *origin, const char *host, bool *other);
