#include "transport/nccl.h"

#include <nccl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pulse.h"
#include "transport/lost.h"

_Static_assert(NCCL_ID_BYTES == NCCL_UNIQUE_ID_BYTES, "NCCL's ids have another size");

static const int64_t close_ns = 400000000; // for a communicator to end in good order
static const int64_t spin_ns = 1000000;    // a wait beyond that leaves the core alone

bool nccl_built(void)
{
    return true;
}

void nccl_describe(char *text, size_t size)
{
    int version = 0;
    if (ncclGetVersion(&version) != ncclSuccess)
        snprintf(text, size, "%d.%d.%d at build, unusable", NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH);
    else
        snprintf(text, size, "%d.%d.%d (built with %d.%d.%d)%s", version / 10000,
                 version / 100 % 100, version % 100, NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH,
                 version >= NCCL_VERSION(2, 28, 0) ? ", with ncclAlltoAll" : "");
}

static int failed(ncclComm_t comm, ncclResult_t result, const char *doing)
{
    const char *detail = ncclGetLastError(comm);
    int code = result == ncclRemoteError ? STATUS_LOST_RANK : STATUS_FAILED;
    if (result == ncclInvalidUsage)
        return fail(STATUS_USAGE, "NCCL: %s: expected a GPU for each rank, found: %s", doing,
                    detail && *detail ? detail : ncclGetErrorString(result));
    return fail(code, "NCCL: %s: %s%s%s", doing, ncclGetErrorString(result),
                detail && *detail ? ": " : "", detail ? detail : "");
}

/* What is on its way is let go of: the stream gets past it, and other ranks time out. */
static void give_up(struct nccl *n)
{
    if (n->comm)
        ncclCommAbort(n->comm);
    n->comm = NULL;
    n->under_way = false;
}

static int give_up_because(struct nccl *n, ncclResult_t result, const char *doing)
{
    int status = failed(n->comm, result, doing);
    give_up(n);
    return status;
}

static void rest(int64_t waited_ns)
{
    const struct timespec nap = {0, 50000};
    if (waited_ns < spin_ns)
        sched_yield();
    else
        nanosleep(&nap, NULL);
}

/* NCCL does not say which of several it is. */
static int lost(const struct nccl *n, const char *doing)
{
    const struct transport *t = n->transport;
    double seconds = (double)t->timeout_ns * 1e-9;
    if (n->first == n->last)
        return fail(STATUS_LOST_RANK, "lost rank %d on %s: NCCL: %s: no progress for %.1f s",
                    n->first, t->hosts[n->first], doing, seconds);
    return fail(STATUS_LOST_RANK, "lost one of ranks %d to %d: NCCL: %s: no progress for %.1f s",
                n->first, n->last, doing, seconds);
}

static bool is_late(const struct nccl *n, int64_t start)
{
    const struct transport *t = n->transport;
    int64_t limit = t->timeout_ns + (t->rank ? DEFERENCE_NS : 0);
    return t->timeout_ns != NO_DEADLINE && clock_ns() - start > limit;
}

/* Between two questions: 0 while there is hope. */
static int keep_waiting(struct nccl *n, int64_t start, const char *doing)
{
    int status = 0;
    if (transport_is_called_off(n->transport))
        status = TRANSPORT_INTERRUPTED;
    else if (is_late(n, start))
        status = lost(n, doing);
    if (status)
        give_up(n);
    else
        rest(clock_ns() - start);
    return status;
}

/* Ask after what has begun until it is done. */
static int settle(struct nccl *n, const char *doing)
{
    int64_t start = clock_ns();
    for (;;) {
        ncclResult_t state, asked = ncclCommGetAsyncError(n->comm, &state);
        state = asked != ncclSuccess ? asked : state;
        if (state != ncclInProgress)
            return state == ncclSuccess ? 0 : give_up_because(n, state, doing);
        int status = keep_waiting(n, start, doing);
        if (status)
            return status;
    }
}

static bool has_begun(ncclResult_t result)
{
    return result == ncclSuccess || result == ncclInProgress;
}

static void with_rank(struct nccl *n, int rank)
{
    n->first = rank < n->first ? rank : n->first;
    n->last = rank > n->last ? rank : n->last;
}

static void with_all(struct nccl *n)
{
    n->first = n->transport->rank ? 0 : 1;
    n->last = n->transport->size - (n->transport->rank == n->transport->size - 1 ? 2 : 1);
}

int nccl_new_id(void *id)
{
    ncclUniqueId unique;
    ncclResult_t result = ncclGetUniqueId(&unique);
    if (result != ncclSuccess)
        return failed(NULL, result, "an id for the run");
    memcpy(id, &unique, sizeof unique);
    return 0;
}

int nccl_open(struct nccl *n, struct transport *t, struct dev *gpu, const void *id)
{
    static const char doing[] = "bringing up the ranks";
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId unique;
    ncclComm_t comm = NULL;
    config.blocking = 0;
    memcpy(&unique, id, sizeof unique);
    *n = (struct nccl){.transport = t};
    with_all(n);
    int status = side_open(&n->side, gpu);
    if (status)
        return status;
    ncclResult_t result = ncclCommInitRankConfig(&comm, t->size, unique, t->rank, &config);
    n->comm = comm;
    status = has_begun(result) ? settle(n, doing) : give_up_because(n, result, doing);
    if (status)
        nccl_close(n);
    return status;
}

static int gone(void)
{
    return fail(STATUS_FAILED, "NCCL: its ranks have been given up");
}

void nccl_follow(struct nccl *n)
{
    side_follow(&n->side);
}

int nccl_begin(struct nccl *n)
{
    int status = n->comm ? side_status(&n->side) : gone();
    if (!status && n->under_way)
        status = settle(n, "moving rows");
    if (status)
        return status;
    n->under_way = false;
    n->first = n->transport->size;
    n->last = 0;
    ncclResult_t result = ncclGroupStart();
    return result == ncclSuccess ? 0 : give_up_because(n, result, "a group");
}

/* A group that was opened is closed, whatever happens. */
static int added(struct nccl *n, ncclResult_t result, const char *doing)
{
    if (has_begun(result))
        return 0;
    ncclGroupEnd();
    return give_up_because(n, result, doing);
}

int nccl_send(struct nccl *n, int to, const void *rows, size_t bytes)
{
    with_rank(n, to);
    return added(n, ncclSend(rows, bytes, ncclInt8, to, n->comm, n->side.stream), "sending rows");
}

int nccl_recv(struct nccl *n, int from, void *rows, size_t bytes)
{
    with_rank(n, from);
    return added(n, ncclRecv(rows, bytes, ncclInt8, from, n->comm, n->side.stream),
                 "receiving rows");
}

int nccl_broadcast(struct nccl *n, void *rows, size_t bytes)
{
    with_all(n);
    return added(n, ncclBroadcast(rows, rows, bytes, ncclInt8, 0, n->comm, n->side.stream),
                 "broadcasting rows");
}

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
int nccl_all_to_all(struct nccl *n, const void *from, void *to, size_t bytes)
{
    with_all(n);
    return added(n, ncclAlltoAll(from, to, bytes, ncclInt8, n->comm, n->side.stream),
                 "an all-to-all of rows");
}
#else
/* What ncclAlltoAll is made of. */
int nccl_all_to_all(struct nccl *n, const void *from, void *to, size_t bytes)
{
    int status = 0;
    for (int rank = 0; rank < n->transport->size && !status; rank++) {
        status = nccl_send(n, rank, (const char *)from + (size_t)rank * bytes, bytes);
        if (!status)
            status = nccl_recv(n, rank, (char *)to + (size_t)rank * bytes, bytes);
    }
    return status;
}
#endif

int nccl_start(struct nccl *n)
{
    ncclResult_t result = ncclGroupEnd();
    n->under_way = true;
    return has_begun(result) ? 0 : give_up_because(n, result, "moving rows");
}

int nccl_wait(struct nccl *n)
{
    int64_t start = clock_ns();
    int status = n->comm ? settle(n, "moving rows") : gone();
    n->under_way = false;
    while (!status && !side_is_done(&n->side)) {
        ncclResult_t state, asked = ncclCommGetAsyncError(n->comm, &state);
        state = asked != ncclSuccess ? asked : state;
        status = state == ncclSuccess ? keep_waiting(n, start, "moving rows")
                                      : give_up_because(n, state, "moving rows");
    }
    return status ? status : side_status(&n->side);
}

/* Finalize, as long as that makes progress. */
static bool ends_well(struct nccl *n)
{
    int64_t start = clock_ns();
    ncclResult_t state = n->under_way ? ncclInProgress : ncclCommFinalize(n->comm);
    while ((state == ncclInProgress || !side_is_done(&n->side)) && clock_ns() - start < close_ns) {
        if (ncclCommGetAsyncError(n->comm, &state) != ncclSuccess)
            return false;
        if (state == ncclSuccess && n->under_way) {
            n->under_way = false;
            state = ncclCommFinalize(n->comm);
        }
        rest(clock_ns() - start);
    }
    return state == ncclSuccess && side_is_done(&n->side);
}

void nccl_close(struct nccl *n)
{
    if (n->comm && ends_well(n)) {
        ncclCommDestroy(n->comm);
        n->comm = NULL;
    }
    give_up(n);
    side_close(&n->side);
}
