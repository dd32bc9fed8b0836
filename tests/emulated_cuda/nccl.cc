/* NCCL between threads. A group of calls becomes two pieces of work on its stream: it arrives, and
 * what follows waits until all its operations have met their counterparts (nccl_world.cc). All of
 * it under api_lock. */
#include "nccl.h"

#include <algorithm>
#include <stdio.h>
#include <string>

#include "api.h"
#include "heap.h"
#include "nccl_world.h"

namespace emulated
{

static std::map<std::string, std::shared_ptr<world>> worlds;

struct thread_group {
    int depth;
    std::vector<operation> operations;
    ncclResult_t error;
};
static thread_local thread_group pending;

#define NCCL_CALL()                                                                                \
    std::lock_guard<std::recursive_mutex> hold(api_lock);                                          \
    if (must_fail(__func__))                                                                       \
        return ncclSystemError;

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
    if (must_lose(call))
        return pending.depth ? ncclSuccess : ncclInProgress;
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

} // namespace emulated

using namespace emulated;

ncclResult_t ncclGetVersion(int *version)
{
    *version = emulated::version();
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
    return last_refusal();
}

static ncclResult_t check_config(const ncclConfig_t *config)
{
    if (!config)
        return ncclSuccess;
    if (config->magic != 0xcafebeef || config->size != sizeof *config)
        return refuse(ncclInvalidArgument, "a config without NCCL_CONFIG_INITIALIZER");
    if (config->maxCTAs != NCCL_CONFIG_UNDEF_INT && config->maxCTAs < 1)
        return refuse(ncclInvalidArgument, "at most %d blocks", config->maxCTAs);
    return ncclSuccess;
}

static ncclResult_t check_joining(const ncclUniqueId *id, int ranks, int rank)
{
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

static ncclComm *join_world(std::shared_ptr<world> &w, int ranks, int rank,
                            const ncclConfig_t *config)
{
    if (!w)
        w = std::make_shared<world>(ranks);
    ncclComm *c = new ncclComm{};
    c->of = w;
    c->rank = rank;
    c->device = current_device();
    c->blocking = !config || config->blocking != 0;
    c->shares = config && config->splitShare == 1;
    c->state = ncclInProgress;
    c->family = std::make_shared<std::vector<ncclComm *>>(1, c);
    w->ranks[(size_t)rank] = c;
    something_happened();
    return c;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config)
{
    NCCL_CALL();
    *comm = nullptr;
    if (enter("cudaSetDevice") != cudaSuccess)
        return ncclUnhandledCudaError;
    ncclResult_t wrong = check_config(config);
    if (!wrong)
        wrong = check_joining(&id, ranks, rank);
    if (wrong)
        return wrong;
    *comm = join_world(worlds[id.internal], ranks, rank, config);
    return began(*comm);
}

/* All ranks with their own numbers: what we use. */
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *split,
                           ncclConfig_t *config)
{
    NCCL_CALL();
    *split = nullptr;
    if (ncclResult_t wrong = check_config(config))
        return wrong;
    if (comm->state != ncclSuccess)
        return refuse(ncclInvalidArgument, "ncclCommSplit in progress or after an error");
    if (color != 0 || key != comm->rank)
        return refuse(ncclInvalidArgument, "ncclCommSplit: only the whole is emulated");
    comm->splitting =
        join_world(comm->of->splits[comm->n_splits++], comm->of->size, comm->rank, config);
    comm->split = split;
    if (comm->shares) {
        comm->splitting->family = comm->family;
        comm->family->push_back(comm->splitting);
    }
    return began(comm);
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
    give_up_family(comm);
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
