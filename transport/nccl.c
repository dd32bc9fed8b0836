#include "transport/nccl.h"

#include <nccl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/lost.h"

_Static_assert(NCCL_ID_BYTES == NCCL_UNIQUE_ID_BYTES, "NCCL's ids have another size");
_Static_assert(NCCL_VERSION_CODE >= NCCL_VERSION(2, 19, 0), "NCCL 2.19 or newer is needed");

static const int64_t close_ns = 400000000; // how long a communicator may take to end in order
static const int64_t spin_ns = 1000000;    // how long a wait polls before it sleeps between polls

enum { SHARING_VERSION = 23000 }; // the first version that lets ranks share a GPU
enum { CTAS_OF_SHARED_GPU = 32 }; // blocks of a lane's kernels, for all ranks of a GPU together
static const char sharing_variable[] = "NCCL_MULTI_RANK_GPU_ENABLE";
static const char blocking_variable[] = "EPMOE_NCCL_BLOCKING";

bool nccl_built(void)
{
    return true;
}

/* The version of the library that is loaded; 0 if it does not say. */
static int loaded_version(void)
{
    int version = 0;
    return ncclGetVersion(&version) == ncclSuccess ? version : 0;
}

void nccl_describe(char *text, size_t size)
{
    int version = loaded_version();
    if (!version)
        snprintf(text, size, "%d.%d.%d at build, unusable", NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH);
    else
        snprintf(text, size, "%d.%d.%d (built with %d.%d.%d)%s", version / 10000,
                 version / 100 % 100, version % 100, NCCL_MAJOR, NCCL_MINOR, NCCL_PATCH,
                 version >= NCCL_VERSION(2, 28, 0) ? ", with ncclAlltoAll" : "");
}

bool nccl_can_share(char *text, size_t size)
{
    const char *set = getenv(sharing_variable);
    int version = loaded_version();
    snprintf(text, size, "NCCL 2.30 or newer (found %d.%d.%d) and %s=1 (found %s)", version / 10000,
             version / 100 % 100, version % 100, sharing_variable, set ? set : "none");
    return version >= SHARING_VERSION && set && strtol(set, NULL, 0) != 0;
}

static int refused(const char *doing, const char *found)
{
    char sharing[128];
    nccl_can_share(sharing, sizeof sharing);
    return fail(STATUS_USAGE,
                "NCCL: %s: expected a GPU for each rank, or %s to share one, found: %s", doing,
                sharing, found);
}

static int failed(ncclComm_t comm, ncclResult_t result, const char *doing)
{
    const char *detail = ncclGetLastError(comm);
    int code = result == ncclRemoteError ? STATUS_LOST_RANK : STATUS_FAILED;
    if (result == ncclInvalidUsage)
        return refused(doing, detail && *detail ? detail : ncclGetErrorString(result));
    return fail(code, "NCCL: %s: %s%s%s", doing, ncclGetErrorString(result),
                detail && *detail ? ": " : "", detail ? detail : "");
}

static void rest(int64_t waited_ns)
{
    const struct timespec nap = {0, 50000};
    if (waited_ns < spin_ns)
        sched_yield();
    else
        nanosleep(&nap, NULL);
}

/* Report a lost rank. NCCL does not say which of the ranks of an operation it is. */
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

/* Abort the communicators. Operations under way end unfinished, and the stream goes on; other ranks
 * run into their timeouts. A blocking communicator shares its abort flag with its guard, so
 * aborting the guard first ends its calls. */
static void give_up(struct nccl *n)
{
    watchdog_close(&n->watchdog);
    if (n->guard && !n->watchdog.ended)
        ncclCommAbort(n->guard);
    if (n->comm)
        ncclCommAbort(n->comm);
    n->comm = n->guard = NULL;
    n->under_way = false;
}

/* Report an error and give up. If the watchdog has ended the call, its reason is reported, as
 * NCCL's result only follows from that. */
static int give_up_because(struct nccl *n, ncclResult_t result, const char *doing)
{
    int status = n->watchdog.ended;
    if (status == STATUS_LOST_RANK)
        status = lost(n, doing);
    else if (!status)
        status = failed(n->comm, result, doing);
    give_up(n);
    return status;
}

static bool is_late(const struct nccl *n, int64_t start)
{
    const struct transport *t = n->transport;
    return t->timeout_ns != NO_DEADLINE && clock_ns() - start > wait_limit_ns(t);
}

/* Pass some time between two polls. 0, or an error if the run was called off or time is up; then
 * the communicators have been given up. */
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

/* Poll NCCL until the call that has begun is complete. */
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

/* ---- opening ---- */

/* How many ranks share a GPU: the ranks of this host over its GPUs, rounded up. */
static int ranks_a_gpu(const struct transport *t)
{
    int ranks = 0, gpus = cuda_count() > 0 ? cuda_count() : 1;
    for (int r = 0; r < t->size; r++)
        ranks += strcmp(t->hosts[r], t->hosts[t->rank]) == 0;
    return (ranks + gpus - 1) / gpus;
}

/* splitShare: aborting the communicator also aborts one that is split off it. maxCTAs: if ranks
 * share a GPU, all blocks of all their NCCL kernels must fit on it at once; otherwise kernels would
 * wait for others that cannot start. */
static ncclConfig_t config_of(const struct transport *t)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    int sharing = ranks_a_gpu(t);
    config.blocking = 0;
    config.splitShare = 1;
    if (sharing > 1)
        config.maxCTAs = sharing < CTAS_OF_SHARED_GPU ? CTAS_OF_SHARED_GPU / sharing : 1;
    return config;
}

static int choose_form(bool *blocking)
{
    const char *wish = getenv(blocking_variable);
    *blocking = !wish || strcmp(wish, "0") != 0;
    if (wish && strcmp(wish, "0") != 0 && strcmp(wish, "1") != 0)
        return fail(STATUS_USAGE, "%s: expected 0 or 1, found %s", blocking_variable, wish);
    return 0;
}

static int bring_up(struct nccl *n, const void *id, ncclConfig_t *config)
{
    static const char doing[] = "bringing up the ranks";
    ncclUniqueId unique;
    ncclComm_t comm = NULL;
    memcpy(&unique, id, sizeof unique);
    ncclResult_t result =
        ncclCommInitRankConfig(&comm, n->transport->size, unique, n->transport->rank, config);
    n->comm = comm;
    return has_begun(result) ? settle(n, doing) : give_up_because(n, result, doing);
}

static void abort_guard(void *guard)
{
    ncclCommAbort(guard);
}

/* Split a blocking communicator off n->comm. It becomes n->comm, and the old one its guard. */
static int split_off(struct nccl *n, ncclConfig_t *config)
{
    static const char doing[] = "splitting off a blocking communicator";
    ncclComm_t blocking = NULL; // NCCL sets it when the split is complete
    config->blocking = 1;
    ncclResult_t result = ncclCommSplit(n->comm, 0, n->transport->rank, &blocking, config);
    int status = has_begun(result) ? settle(n, doing) : give_up_because(n, result, doing);
    if (status) {
        if (blocking)
            ncclCommAbort(blocking);
        return status;
    }
    n->guard = n->comm;
    n->comm = blocking;
    watchdog_open(&n->watchdog, n->transport, abort_guard, n->guard);
    return 0;
}

int nccl_open(struct nccl *n, struct transport *t, struct dev *gpu, const void *id)
{
    ncclConfig_t config = config_of(t);
    bool blocking;
    *n = (struct nccl){.transport = t};
    with_all(n);
    int status = choose_form(&blocking);
    if (!status)
        status = side_open(&n->side, gpu);
    if (!status)
        status = bring_up(n, id, &config);
    if (!status && blocking)
        status = split_off(n, &config);
    if (status)
        nccl_close(n);
    return status;
}

/* ---- moving rows ---- */

static int gone(void)
{
    return fail(STATUS_FAILED, "NCCL: its ranks have been given up");
}

int nccl_settle(struct nccl *n)
{
    int status = n->comm ? side_status(&n->side) : gone();
    return !status && n->under_way ? settle(n, "moving rows") : status;
}

void nccl_follow(struct nccl *n)
{
    side_follow(&n->side);
}

int nccl_begin(struct nccl *n)
{
    int status = nccl_settle(n);
    if (status)
        return status;
    n->under_way = false;
    n->first = n->transport->size;
    n->last = 0;
    ncclResult_t result = ncclGroupStart();
    return result == ncclSuccess ? 0 : give_up_because(n, result, "a group");
}

/* Check the result of a call within a group; after an error the group is closed. */
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
/* Older versions lack ncclAlltoAll: send and receive a piece for each rank. */
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

/* A blocking communicator may wait for other ranks in ncclGroupEnd, so the watchdog looks on. */
int nccl_start(struct nccl *n)
{
    watchdog_enter(&n->watchdog);
    ncclResult_t result = ncclGroupEnd();
    watchdog_leave(&n->watchdog);
    n->under_way = true;
    return has_begun(result) && !n->watchdog.ended ? 0 : give_up_because(n, result, "moving rows");
}

int nccl_wait(struct nccl *n)
{
    int64_t start = clock_ns();
    int status = nccl_settle(n);
    n->under_way = false;
    while (!status && !side_is_done(&n->side)) {
        ncclResult_t state, asked = ncclCommGetAsyncError(n->comm, &state);
        state = asked != ncclSuccess ? asked : state;
        status = state == ncclSuccess ? keep_waiting(n, start, "moving rows")
                                      : give_up_because(n, state, "moving rows");
    }
    if (!status && n->watchdog.ended) // the watchdog aborted: the stream ended without the rows
        status = give_up_because(n, ncclSuccess, "moving rows");
    return status ? status : side_status(&n->side);
}

/* ---- closing ---- */

/* Wait, for close_ns at most, until everything that was started is done; whether it is. */
static bool comes_to_rest(struct nccl *n, int64_t start)
{
    ncclResult_t state;
    for (; clock_ns() - start < close_ns; rest(clock_ns() - start)) {
        if (ncclCommGetAsyncError(n->comm, &state) != ncclSuccess)
            return false;
        if (state != ncclInProgress && (state != ncclSuccess || side_is_done(&n->side)))
            return state == ncclSuccess;
    }
    return false;
}

/* Finalize and destroy a communicator; false if that fails or takes longer than close_ns. */
static bool ends_well(struct nccl *n, void *comm)
{
    int64_t start = clock_ns();
    watchdog_enter(&n->watchdog);
    ncclResult_t state = ncclCommFinalize(comm);
    watchdog_leave(&n->watchdog);
    for (; state == ncclInProgress && clock_ns() - start < close_ns; rest(clock_ns() - start))
        if (ncclCommGetAsyncError(comm, &state) != ncclSuccess)
            return false;
    if (state != ncclSuccess || n->watchdog.ended)
        return false;
    ncclCommDestroy(comm);
    return true;
}

void nccl_close(struct nccl *n)
{
    if (n->comm && comes_to_rest(n, clock_ns()) && ends_well(n, n->comm)) {
        n->comm = NULL;
        watchdog_close(&n->watchdog);
        if (n->guard && !n->watchdog.ended && ends_well(n, n->guard))
            n->guard = NULL;
    }
    give_up(n);
    side_close(&n->side);
}
