/* NCCL between threads. A group of calls becomes two pieces of work on its stream: it arrives, and
 * what follows waits until all its operations have met their counterparts. Whoever arrives last
 * moves the data. All of it under api_lock. */
#include "nccl.h"

#include <algorithm>
#include <map>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <string>

#include "api.h"
#include "base/dtype.h"
#include "heap.h"
#include "stream.h"

namespace emulated
{

enum kind { SEND, RECV, BROADCAST, REDUCE };

struct group;

struct operation {
    kind what;
    const void *from;
    void *to;
    size_t count;
    ncclDataType_t type;
    int peer; // or root
    ncclComm *comm;
    cudaStream_t stream;
    group *of;
};

/* The operations of one ncclGroupEnd on one communicator and stream. */
struct group {
    ncclComm *comm;
    cudaStream_t stream;
    std::vector<operation> operations;
    size_t left; // operations that have not met
    std::shared_ptr<marker> met;
};

/* What the ranks of one communicator share. */
struct world {
    int size;
    std::vector<ncclComm *> ranks;                                     // NULL: has not joined
    std::map<std::pair<int, int>, std::deque<operation>> sends, recvs; // arrived, by (from, to)
    std::map<std::pair<int, int>, bool> called;                        // a has called for b
    std::vector<std::deque<operation>> collectives;                    // arrived, by rank
    bool complained;
    bool is_complete() const
    {
        return std::count(ranks.begin(), ranks.end(), nullptr) == 0;
    }
};

static std::map<std::string, std::shared_ptr<world>> worlds;

struct thread_group {
    int depth;
    std::vector<operation> operations;
    ncclResult_t error;
};
static thread_local thread_group pending;
static thread_local char last_text[256];

} // namespace emulated

struct ncclComm {
    std::shared_ptr<emulated::world> of;
    int rank, device;
    bool blocking, joined;
    ncclResult_t state;
    int questions;                         // until a call under way gets on
    std::deque<emulated::group *> waiting; // called, and not on a stream yet
    std::vector<std::unique_ptr<emulated::group>> groups;
};

namespace emulated
{

__attribute__((format(printf, 2, 3))) static ncclResult_t refuse(ncclResult_t result,
                                                                 const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_text, sizeof last_text, format, arguments);
    va_end(arguments);
    fprintf(stderr, "emulated NCCL: %s\n", last_text);
    return result;
}

#define NCCL_CALL()                                                                                \
    std::lock_guard<std::recursive_mutex> hold(api_lock);                                          \
    if (must_fail(__func__))                                                                       \
        return ncclSystemError;

static size_t bytes_of(const operation &o)
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

/* In an order of its own: who wants one order of terms must not leave them to NCCL. */
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
    if (shares_a_device(c))
        c->state = refuse(ncclInvalidUsage,
                          "duplicate GPU detected: rank %d and another one are "
                          "on device %d",
                          c->rank, c->device);
}

static void get_on(ncclComm *c)
{
    if (c->state != ncclInProgress || c->questions-- > 0)
        return;
    if (must_fail("ncclAsync")) {
        c->state = refuse(ncclRemoteError, "rank %d: a failure that was asked for", c->rank);
        return;
    }
    if (!c->joined)
        return join(c);
    while (!c->waiting.empty() && is_connected(c->waiting.front())) {
        put_on_stream(c->waiting.front());
        c->waiting.pop_front();
    }
    if (c->waiting.empty())
        c->state = ncclSuccess;
}

/* A communicator that blocks comes back when it is done; another thread may have to act. */
static ncclResult_t began(ncclComm *c)
{
    c->state = ncclInProgress;
    c->questions = (int)(next_random() % 4);
    if (!c->blocking)
        return ncclInProgress;
    while (get_on(c), c->state == ncclInProgress)
        let_others_act();
    return c->state;
}

/* ---- Groups ---- */

static ncclResult_t check(const char *call, const operation &o)
{
    const ncclComm *c = o.comm;
    if (!c)
        return refuse(ncclInvalidArgument, "%s: no communicator", call);
    if (c->state == ncclInProgress)
        return refuse(ncclInvalidArgument,
                      "%s: the call before on this communicator is still in "
                      "progress",
                      call);
    if (c->state != ncclSuccess)
        return refuse(ncclInvalidUsage, "%s: the communicator has failed", call);
    if (o.peer < 0 || o.peer >= c->of->size)
        return refuse(ncclInvalidArgument, "%s: there is no rank %d", call, o.peer);
    if (!o.stream || o.stream->device != c->device)
        return refuse(ncclInvalidArgument, "%s: the stream is of another device", call);
    for (const void *at : {o.from, (const void *)o.to})
        if (at && kind_of(at, bytes_of(o)) != DEVICE)
            return refuse(ncclInvalidArgument, "%s: %p is not %zu bytes of device memory", call, at,
                          bytes_of(o));
    return ncclSuccess;
}

static ncclResult_t launch_group(ncclComm *c, cudaStream_t stream,
                                 const std::vector<operation> &all)
{
    auto g = std::make_unique<group>();
    g->comm = c;
    g->stream = stream;
    g->met = std::make_shared<marker>(marker{nullptr, false, 0});
    for (const operation &o : all)
        if (o.comm == c && o.stream == stream)
            g->operations.push_back(o);
    g->left = g->operations.size();
    for (operation &o : g->operations) {
        o.of = g.get();
        c->of->called[{c->rank, o.peer}] = true;
    }
    c->waiting.push_back(g.get());
    c->groups.push_back(std::move(g));
    something_happened();
    return began(c);
}

static ncclResult_t launch_all(const std::vector<operation> &all)
{
    std::vector<std::pair<ncclComm *, cudaStream_t>> seen;
    ncclResult_t result = ncclSuccess;
    for (const operation &o : all) {
        std::pair<ncclComm *, cudaStream_t> key(o.comm, o.stream);
        if (std::find(seen.begin(), seen.end(), key) != seen.end())
            continue;
        seen.push_back(key);
        ncclResult_t one = launch_group(o.comm, o.stream, all);
        result = one != ncclSuccess ? one : result;
    }
    return result;
}

static ncclResult_t add(const char *call, std::vector<operation> some)
{
    for (const operation &o : some)
        if (ncclResult_t wrong = check(call, o)) {
            pending.error = wrong;
            return wrong;
        }
    if (!pending.depth)
        return launch_all(some);
    pending.operations.insert(pending.operations.end(), some.begin(), some.end());
    return ncclSuccess;
}

/* Its streams go on as if all had been done; those of other ranks wait for ever. */
static void give_up(ncclComm *c)
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

/* Their groups may still be on streams; not to be destroyed at exit. */
static std::vector<ncclComm *> &buried = *new std::vector<ncclComm *>;

static void bury(ncclComm *c)
{
    c->state = ncclInvalidUsage;
    buried.push_back(c);
}

} // namespace emulated

using namespace emulated;

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    NCCL_CALL();
    static int number;
    *id = {};
    snprintf(id->internal, sizeof id->internal, "emulated %d", ++number);
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[] = {
        "no error",
        "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
        "unhandled system error (run with NCCL_DEBUG=INFO for details)",
        "internal error - please report this issue to the NCCL developers",
        "invalid argument (run with NCCL_DEBUG=WARN for details)",
        "invalid usage (run with NCCL_DEBUG=WARN for details)",
        "remote process exited or there was a network error",
        "NCCL operation in progress"};
    return result < ncclNumResults ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t)
{
    return last_text;
}

static ncclResult_t check_joining(const ncclUniqueId *id, int ranks, int rank,
                                  const ncclConfig_t *config)
{
    if (config && (config->magic != 0xcafebeef || config->size != sizeof *config))
        return refuse(ncclInvalidArgument, "a config without NCCL_CONFIG_INITIALIZER");
    if (rank < 0 || rank >= ranks)
        return refuse(ncclInvalidArgument, "rank %d of %d", rank, ranks);
    auto found = worlds.find(id->internal);
    if (found != worlds.end() && found->second->size != ranks)
        return refuse(ncclInvalidArgument, "%d ranks here, %d elsewhere", ranks,
                      found->second->size);
    if (found != worlds.end() && found->second->ranks[(size_t)rank])
        return refuse(ncclInvalidArgument, "two ranks %d", rank);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    NCCL_CALL();
    *comm = nullptr;
    if (enter("cudaSetDevice") != cudaSuccess)
        return ncclUnhandledCudaError;
    if (ncclResult_t wrong = check_joining(&id, ranks, rank, config))
        return wrong;
    std::shared_ptr<world> &w = worlds[id.internal];
    if (!w) {
        w = std::make_shared<world>();
        w->size = ranks;
        w->ranks.resize((size_t)ranks);
        w->collectives.resize((size_t)ranks);
    }
    *comm = new ncclComm{
        w,  rank, current_device(), !config || config->blocking != 0, false, ncclInProgress, 0,
        {}, {}};
    w->ranks[(size_t)rank] = *comm;
    something_happened();
    return began(*comm);
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state)
{
    NCCL_CALL();
    for (ncclComm *c : comm->of->ranks) // NCCL has threads of its own
        if (c)
            get_on(c);
    *state = comm->state;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    NCCL_CALL();
    if (comm->state != ncclSuccess)
        return refuse(ncclInvalidArgument, "ncclCommFinalize in progress or after an error");
    return began(comm);
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    NCCL_CALL();
    for (auto &g : comm->groups)
        if (!g->met->done)
            refuse(ncclInvalidUsage, "ncclCommDestroy on rank %d with work under way", comm->rank);
    give_up(comm);
    bury(comm);
    return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    NCCL_CALL();
    give_up(comm);
    bury(comm);
    return ncclSuccess;
}

ncclResult_t ncclGroupStart(void)
{
    NCCL_CALL();
    pending.depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void)
{
    NCCL_CALL();
    if (pending.depth == 0)
        return refuse(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--pending.depth > 0)
        return ncclSuccess;
    thread_group ended = std::move(pending);
    pending = {};
    return ended.error ? ended.error : launch_all(ended.operations);
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream)
{
    NCCL_CALL();
    return add(__func__, {{SEND, from, nullptr, count, type, peer, comm, stream, nullptr}});
}

ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    NCCL_CALL();
    return add(__func__, {{RECV, nullptr, to, count, type, peer, comm, stream, nullptr}});
}

ncclResult_t ncclAlltoAll(const void *from, void *to, size_t count, ncclDataType_t type,
                          ncclComm_t comm, cudaStream_t stream)
{
    NCCL_CALL();
    std::vector<operation> all;
    for (int peer = 0; peer < comm->of->size; peer++) {
        operation o = {SEND, nullptr, nullptr, count, type, peer, comm, stream, nullptr};
        size_t at = (size_t)peer * bytes_of(o);
        all.push_back(o);
        all.back().from = (const char *)from + at;
        o.what = RECV;
        o.to = (char *)to + at;
        all.push_back(o);
    }
    return add(__func__, all);
}

ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream)
{
    NCCL_CALL();
    const void *read = comm && comm->rank == root ? from : nullptr;
    return add(__func__, {{BROADCAST, read, to, count, type, root, comm, stream, nullptr}});
}

ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream)
{
    NCCL_CALL();
    bool is_float =
        type == ncclFloat16 || type == ncclFloat32 || type == ncclFloat64 || type == ncclBfloat16;
    if (op != ncclSum || !is_float)
        return refuse(ncclInvalidArgument, "ncclReduce: only sums of floats are emulated");
    void *written = comm && comm->rank == root ? to : nullptr;
    return add(__func__, {{REDUCE, from, written, count, type, root, comm, stream, nullptr}});
}
