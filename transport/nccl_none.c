/* The functions of nccl.h for a build without NCCL. */
#include <stdio.h>

#include "base/log.h"
#include "transport/nccl.h"

bool nccl_built(void)
{
    return false;
}

void nccl_describe(char *text, size_t size)
{
    snprintf(text, size, "not built");
}

bool nccl_can_share(char *text, size_t size)
{
    nccl_describe(text, size);
    return false;
}

static int refuse(void)
{
    return fail(STATUS_USAGE, "--transport nccl: expected a build with NCCL, found one without: "
                              "install libnccl-dev, then configure with -DEPMOE_NCCL=ON");
}

int nccl_new_id(void *id)
{
    (void)id;
    return refuse();
}

int nccl_open(struct nccl *n, struct transport *t, struct dev *gpu, const void *id)
{
    (void)n, (void)t, (void)gpu, (void)id;
    return refuse();
}

void nccl_follow(struct nccl *n)
{
    (void)n;
}

int nccl_begin(struct nccl *n)
{
    (void)n;
    return refuse();
}

int nccl_send(struct nccl *n, int to, const void *rows, size_t bytes)
{
    (void)n, (void)to, (void)rows, (void)bytes;
    return refuse();
}

int nccl_recv(struct nccl *n, int from, void *rows, size_t bytes)
{
    (void)n, (void)from, (void)rows, (void)bytes;
    return refuse();
}

int nccl_broadcast(struct nccl *n, void *rows, size_t bytes)
{
    (void)n, (void)rows, (void)bytes;
    return refuse();
}

int nccl_all_to_all(struct nccl *n, const void *from, void *to, size_t bytes)
{
    (void)n, (void)from, (void)to, (void)bytes;
    return refuse();
}

int nccl_start(struct nccl *n)
{
    return nccl_begin(n);
}

int nccl_settle(struct nccl *n)
{
    return nccl_begin(n);
}

int nccl_wait(struct nccl *n)
{
    return nccl_begin(n);
}

void nccl_close(struct nccl *n)
{
    (void)n;
}
