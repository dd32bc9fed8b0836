#include "model/memory_fit.h"

#include <stdio.h>

#include "base/log.h"
#include "kernels/kernels.h"

struct memory_need memory_need_of(const struct memory_plan *plan, int rank, uint64_t buffers,
                                  const bool *on_host)
{
    struct rank_share own = memory_plan_share(plan, rank);
    struct memory_need need = {.plan = plan,
                               .weights = own.bytes - own.experts,
                               .experts = own.experts,
                               .kv = rank == 0 ? plan->kv_bytes : 0,
                               .buffers = buffers,
                               .ranks = 1};
    need.weights -= need.kv;
    for (int r = 0; r < plan->placement.n_ranks; r++) {
        if (r == rank || !on_host[r])
            continue;
        need.others += memory_plan_share(plan, r).bytes;
        need.ranks++;
    }
    return need;
}

static uint64_t own_bytes(const struct memory_need *n)
{
    return n->weights + n->experts + n->kv + n->buffers;
}

static double gib(uint64_t bytes)
{
    return (double)bytes / (1 << 30);
}

/* text := the first of these that is enough: a shorter context, experts on other hosts, other
 * hosts. */
static void advise(char *text, size_t size, const struct memory_need *n, uint64_t bytes,
                   uint64_t room)
{
    const struct memory_plan *p = n->plan;
    uint64_t expert = memory_plan_expert_of_each(p), rest = bytes - n->kv;
    if (n->kv && rest < room) {
        double share = (double)(room - rest) / (double)n->kv;
        int context = (int)(share * p->context) / KV_BLOCK * KV_BLOCK;
        if (context) {
            snprintf(text, size, "-c %d would fit", context);
            return;
        }
    }
    rest = bytes - n->experts;
    if (expert && n->experts && rest < room)
        snprintf(text, size, "--home %d would fit, with the other experts on ranks of other hosts",
                 (int)((room - rest) / expert));
    else
        snprintf(text, size, "more ranks on other hosts are needed, or a smaller model");
}

static int check(const struct memory_need *n, const char *host, uint64_t bytes, int ranks,
                 struct memory_room room)
{
    char advice[96], others[64] = "";
    if (bytes <= room.bytes)
        return 0;
    advise(advice, sizeof advice, n, bytes, room.bytes);
    if (ranks > 1)
        snprintf(others, sizeof others, ", %d other rank%s %.2f", ranks - 1, ranks > 2 ? "s" : "",
                 gib(n->others));
    return fail(
        STATUS_FAILED,
        "memory of %s: needs %.2f GiB (weights %.2f, experts %.2f, KV cache of %d positions "
        "%.2f, buffers %.2f%s), found %.2f GiB left (%s): %s",
        host, gib(bytes), gib(n->weights), gib(n->experts), n->plan->context, gib(n->kv),
        gib(n->buffers), others, gib(room.bytes), room.limit, advice);
}

int memory_fit_in(const struct memory_need *n, const char *host, struct memory_room here,
                  struct memory_room process)
{
    uint64_t own = own_bytes(n), all = own + n->others;
    int status = check(n, host, all, n->ranks, here);
    if (status)
        return status;
    return n->threads ? check(n, host, all, n->ranks, process) : check(n, host, own, 1, process);
}

int memory_fit(const struct memory_need *n, const char *host, bool here)
{
    struct memory_room unlimited = {UINT64_MAX, ""};
    return memory_fit_in(n, host, here ? memory_room_here("") : unlimited,
                         memory_room_of_process());
}
