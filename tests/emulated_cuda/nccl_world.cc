/* How the operations of emulated ranks meet. Whoever arrives last moves the data. */
#include "nccl_world.h"

#include <algorithm>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>

#include "api.h"
#include "base/dtype.h"

namespace emulated
{

static thread_local char last_text[256];

ncclResult_t refuse(ncclResult_t result, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_text, sizeof last_text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "emulated NCCL: %s\n", last_text);
    return result;
}

const char *last_refusal()
{
    return last_text;
}

size_t bytes_of(const operation &o)
{
    static const size_t sizes[ncclNumTypes] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
    return o.count * sizes[o.type];
}

/* ---- Meeting ---- */

static void meet(const operation &o)
{
    if (--o.of->left == 0) {
        o.of->met->done = true;
        something_happened();
    }
}

static void complain(world *w, const char *what, const operation &a, const operation &b)
{
    if (!w->complained)
        fprintf(stderr, "emulated NCCL: %s: %zu bytes on rank %d, %zu on rank %d: never ends\n",
                what, bytes_of(a), a.comm->rank, bytes_of(b), b.comm->rank);
    w->complained = true;
}

static void meet_pair(world *w, std::pair<int, int> ranks)
{
    std::deque<operation> &sends = w->sends[ranks], &recvs = w->recvs[ranks];
    while (!sends.empty() && !recvs.empty()) {
        operation send = sends.front(), recv = recvs.front();
        if (bytes_of(send) != bytes_of(recv))
            return complain(w, "send and receive", send, recv);
        sends.pop_front();
        recvs.pop_front();
        memmove(recv.to, send.from, bytes_of(send));
        meet(send);
        meet(recv);
    }
}

static double load(const operation &o, size_t i)
{
    switch (o.type) {
    case ncclFloat16:
        return (double)dtype_load(DTYPE_F16, o.from, i);
    case ncclBfloat16:
        return (double)dtype_load(DTYPE_BF16, o.from, i);
    case ncclFloat64:
        return ((const double *)o.from)[i];
    default:
        return (double)((const float *)o.from)[i];
    }
}

static void store(const operation &o, size_t i, double x)
{
    switch (o.type) {
    case ncclFloat16:
        return dtype_store(DTYPE_F16, o.to, i, (float)x);
    case ncclBfloat16:
        return dtype_store(DTYPE_BF16, o.to, i, (float)x);
    case ncclFloat64:
        ((double *)o.to)[i] = x;
        return;
    default:
        ((float *)o.to)[i] = (float)x;
    }
}

/* Adds the ranks' terms in double, beginning after the root. NCCL promises no order, so a caller
 * that relies on one gets another result here. */
static void reduce(const std::vector<operation> &all, const operation &root)
{
    std::vector<double> sums(root.count, 0.0);
    for (size_t r = 1; r <= all.size(); r++)
        for (size_t i = 0; i < root.count; i++)
            sums[i] += load(all[((size_t)root.comm->rank + r) % all.size()], i);
    for (size_t i = 0; i < root.count; i++)
        store(root, i, sums[i]);
}

static bool agree(world *w, const std::vector<operation> &all)
{
    for (const operation &o : all)
        if (o.what != all[0].what || o.peer != all[0].peer || bytes_of(o) != bytes_of(all[0]))
            return complain(w, "a collective's calls", all[0], o), false;
    return true;
}

static void meet_collectives(world *w)
{
    std::vector<operation> all;
    for (const std::deque<operation> &of_rank : w->collectives) {
        if (of_rank.empty())
            return;
        all.push_back(of_rank.front());
    }
    if (!agree(w, all))
        return;
    const operation root = all[(size_t)all[0].peer];
    if (root.what == REDUCE)
        reduce(all, root);
    for (const operation &o : all) {
        if (o.what == BROADCAST)
            memmove(o.to, root.from, bytes_of(o));
        w->collectives[(size_t)o.comm->rank].pop_front();
        meet(o);
    }
    meet_collectives(w);
}

/* A group's stream has come to it. */
static void arrive(group *g)
{
    std::shared_ptr<world> w = g->comm->of;
    for (const operation &o : g->operations) {
        int rank = g->comm->rank;
        if (o.what == SEND)
            w->sends[{rank, o.peer}].push_back(o);
        else if (o.what == RECV)
            w->recvs[{o.peer, rank}].push_back(o);
        else
            w->collectives[(size_t)rank].push_back(o);
    }
    for (const operation &o : g->operations) {
        int rank = g->comm->rank;
        if (o.what == SEND || o.what == RECV)
            meet_pair(w.get(), o.what == SEND ? std::pair(rank, o.peer) : std::pair(o.peer, rank));
    }
    meet_collectives(w.get());
}

/* ---- Getting on ---- */

/* Two ranks that have never exchanged anything first connect, which takes both. */
static bool is_connected(const group *g)
{
    world *w = g->comm->of.get();
    for (const operation &o : g->operations)
        if ((o.what == SEND || o.what == RECV) && !w->called[{o.peer, g->comm->rank}])
            return false;
    return true;
}

static void put_on_stream(group *g)
{
    issue(g->stream, [g] { arrive(g); });
    wait_for(g->stream, g->met);
}

int version()
{
    const char *text = getenv("EPMOE_EMULATED_NCCL");
    int major, minor, patch;
    if (!text || sscanf(text, "%d.%d.%d", &major, &minor, &patch) != 3)
        return NCCL_VERSION_CODE;
    return NCCL_VERSION(major, minor, patch);
}

bool may_share()
{
    const char *enabled = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    return version() >= NCCL_VERSION(2, 30, 0) && enabled && atoi(enabled) != 0;
}

static bool shares_a_device(const ncclComm *c)
{
    for (const ncclComm *other : c->of->ranks)
        if (other != c && other->device == c->device)
            return true;
    return false;
}

static void join(ncclComm *c)
{
    if (!c->of->is_complete())
        return;
    c->joined = true;
    c->state = ncclSuccess;
    if (shares_a_device(c) && !may_share())
        c->state = refuse(ncclInvalidUsage,
                          "duplicate GPU detected: rank %d and another one are "
                          "on device %d",
                          c->rank, c->device);
}

/* What is split off is told of once all ranks have called. */
static void split(ncclComm *c)
{
    if (!c->splitting->of->is_complete())
        return;
    c->splitting->joined = true;
    c->splitting->state = ncclSuccess;
    *c->split = c->splitting;
    c->splitting = nullptr;
    c->state = ncclSuccess;
}

static bool launch_fails(const ncclComm *c)
{
    return must_fail(("ncclLaunch@" + std::to_string(c->rank)).c_str());
}

void get_on(ncclComm *c)
{
    if (c->state != ncclInProgress || c->questions-- > 0)
        return;
    if (must_fail("ncclAsync")) {
        c->state = refuse(ncclRemoteError, "rank %d: a failure that was asked for", c->rank);
        return;
    }
    if (!c->joined)
        return join(c);
    if (c->splitting)
        return split(c);
    while (!c->waiting.empty() && is_connected(c->waiting.front())) {
        if (launch_fails(c)) {
            c->state =
                refuse(ncclUnhandledCudaError, "rank %d: a launch that was to fail", c->rank);
            return;
        }
        put_on_stream(c->waiting.front());
        c->waiting.pop_front();
    }
    if (c->waiting.empty())
        c->state = ncclSuccess;
}

/* Where it blocks, another thread may have to act: a rank, or whoever aborts. */
ncclResult_t began(ncclComm *c)
{
    c->state = ncclInProgress;
    c->questions = (int)(next_random() % 4);
    if (!c->blocking)
        return ncclInProgress;
    while (get_on(c), c->state == ncclInProgress)
        let_others_act();
    return c->state;
}

/* ---- Giving up ---- */

void give_up(ncclComm *c)
{
    auto is_ours = [c](const operation &o) { return o.comm == c; };
    auto drop = [&](std::deque<operation> &q) {
        q.erase(std::remove_if(q.begin(), q.end(), is_ours), q.end());
    };
    for (auto &q : c->of->sends)
        drop(q.second);
    for (auto &q : c->of->recvs)
        drop(q.second);
    for (auto &q : c->of->collectives)
        drop(q);
    for (auto &g : c->groups) {
        g->operations.clear(); // those that have not arrived
        g->met->done = true;
    }
    something_happened();
}

void give_up_family(ncclComm *c)
{
    for (ncclComm *one : *c->family) {
        give_up(one);
        one->state = ncclInternalError;
    }
    if (!c->splitting)
        return;
    c->splitting->of->ranks[(size_t)c->rank] = nullptr; // which never joins
    bury(c->splitting);
    c->splitting = nullptr;
}

/* Their groups may still be on streams; not to be destroyed at exit. */
static std::vector<ncclComm *> &buried = *new std::vector<ncclComm *>;

void bury(ncclComm *c)
{
    c->state = ncclInvalidUsage;
    c->family->erase(std::remove(c->family->begin(), c->family->end(), c), c->family->end());
    buried.push_back(c);
}

} // namespace emulated
