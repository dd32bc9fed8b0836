#include "serve/guard.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"

enum { MAX_KEY_FILE = 1 << 20, MAX_HOST = 256 };

int guard_read_keys(struct guard *g, const char *path)
{
    size_t bytes, lines = 1;
    g->key_text = file_read(path, MAX_KEY_FILE, &bytes);
    if (!g->key_text)
        return STATUS_BAD_FILE;
    for (const char *c = g->key_text; *c; c++)
        lines += *c == '\n';
    g->keys = calloc(lines, sizeof *g->keys);
    CHECK_MEMORY(g->keys, "no memory for %zu keys", lines);
    char *save;
    for (char *line = strtok_r(g->key_text, "\r\n", &save); line;
         line = strtok_r(NULL, "\r\n", &save)) {
        char *key = line + strspn(line, " \t");
        key[strcspn(key, " \t")] = 0; // a comment may follow
        if (*key && *key != '#')
            g->keys[g->n_keys++] = key;
    }
    return g->n_keys
               ? 0
               : fail(STATUS_BAD_FILE, "%s: expected a key on a line of its own, found none", path);
}

void guard_close(struct guard *g)
{
    free(g->key_text);
    free(g->keys);
}

/* The loop's length depends on what the client has sent alone. */
static bool is_same_secret(const char *key, const char *sent)
{
    size_t n = strlen(key), m = strlen(sent);
    volatile unsigned char differs = n != m;
    for (size_t i = 0; i < m; i++)
        differs |= (unsigned char)(key[n ? i % n : 0] ^ sent[i]);
    return !differs;
}

bool guard_key(const struct guard *g, const char *authorization)
{
    static const char scheme[] = "Bearer ";
    size_t n = sizeof scheme - 1;
    bool found = false;
    if (g->n_keys == 0)
        return true;
    if (!authorization || strncasecmp(authorization, scheme, n) != 0)
        return false;
    for (int i = 0; i < g->n_keys; i++)
        found |= is_same_secret(g->keys[i], authorization + n);
    return found;
}

/* name := a Host header without its port. False if it is too long. */
static bool without_port(char *name, const char *host)
{
    size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    if (n >= MAX_HOST || n > strlen(host))
        return false;
    memcpy(name, host, n);
    name[n] = 0;
    return true;
}

static bool is_address(char *name)
{
    unsigned char address[sizeof(struct in6_addr)];
    size_t n = strlen(name);
    if (*name != '[')
        return inet_pton(AF_INET, name, address) == 1;
    name[n - 1] = 0;
    return inet_pton(AF_INET6, name + 1, address) == 1;
}

bool guard_host(const struct guard *g, const char *host)
{
    char name[MAX_HOST];
    if (!host || !without_port(name, host))
        return false;
    bool known = strcasecmp(name, "localhost") == 0;
    for (int i = 0; i < g->n_names; i++)
        known = known || strcasecmp(name, g->names[i]) == 0;
    return known || is_address(name);
}

bool guard_origin(const struct guard *g, const char *origin, const char *host, bool *other)
{
    *other = false;
    if (!origin)
        return true;
    for (int i = 0; i < g->n_origins; i++)
        *other = *other || strcasecmp(origin, g->origins[i]) == 0;
    const char *rest = strstr(origin, "://");
    return *other || (rest && host && strcasecmp(rest + 3, host) == 0);
}
