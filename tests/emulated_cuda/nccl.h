/* The calls of NCCL 2.28 that we use, for ranks that are threads of this process, each with an
 * emulated GPU of its own (EPMOE_EMULATED_GPUS). C and C++. How they behave:
 *
 * A call on a communicator that does not block only begins: while ncclCommGetAsyncError says
 * ncclInProgress nothing is on the stream yet, and another call on it is refused. Calls get on when
 * any rank asks, and the first exchange of two ranks only once both have called. On a communicator
 * that blocks the call itself comes back only then, or when another thread aborts.
 * Sends and receives of two ranks meet in order once both streams have come to them. Where sizes
 * differ, or one rank never calls, the stream never gets past: who waits needs a deadline, and
 * ncclCommAbort.
 * A communicator that is split off has a `blocking` of its own. Where its parent has splitShare,
 * aborting one ends what is under way on the other, which is then good for nothing but its own
 * abort.
 * Two ranks on one device are refused with ncclInvalidUsage, unless EPMOE_EMULATED_NCCL, the
 * version that ncclGetVersion tells (2.28.9 without), is 2.30 or newer and
 * NCCL_MULTI_RANK_GPU_ENABLE is 1.
 * EPMOE_EMULATED_FAIL=ncclSend:2 fails a call, ncclAsync:n the n-th question how a call gets on,
 * ncclLaunch@1:n rank 1's n-th group when it is put on its stream;
 * EPMOE_EMULATED_LOSE=ncclSend:2 has one say that it has begun, and do nothing. */
#pragma once

#include "cuda_runtime_api.h"

#define NCCL_MAJOR            2
#define NCCL_MINOR            28
#define NCCL_PATCH            9
#define NCCL_VERSION_CODE     22809
#define NCCL_VERSION(x, y, z) ((x)*10000 + (y)*100 + (z))
#define NCCL_UNIQUE_ID_BYTES  128
#define NCCL_CONFIG_UNDEF_INT (-2147483647 - 1)

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ncclComm *ncclComm_t;
typedef struct {
    char internal[NCCL_UNIQUE_ID_BYTES];
} ncclUniqueId;

typedef enum {
    ncclSuccess,
    ncclUnhandledCudaError,
    ncclSystemError,
    ncclInternalError,
    ncclInvalidArgument,
    ncclInvalidUsage,
    ncclRemoteError,
    ncclInProgress,
    ncclNumResults
} ncclResult_t;

typedef enum {
    ncclInt8 = 0,
    ncclChar = 0,
    ncclUint8 = 1,
    ncclInt32 = 2,
    ncclUint32 = 3,
    ncclInt64 = 4,
    ncclUint64 = 5,
    ncclFloat16 = 6,
    ncclFloat32 = 7,
    ncclFloat64 = 8,
    ncclBfloat16 = 9,
    ncclNumTypes = 10
} ncclDataType_t;

typedef enum { ncclSum, ncclProd, ncclMax, ncclMin, ncclAvg } ncclRedOp_t;

typedef struct {
    size_t size;
    unsigned int magic, version;
    int blocking, maxCTAs, splitShare;
} ncclConfig_t;

#define NCCL_CONFIG_INITIALIZER                                                                    \
    {                                                                                              \
        sizeof(ncclConfig_t), 0xcafebeef, NCCL_VERSION_CODE, NCCL_CONFIG_UNDEF_INT,                \
            NCCL_CONFIG_UNDEF_INT, NCCL_CONFIG_UNDEF_INT                                           \
    }

ncclResult_t ncclGetVersion(int *version);
ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
const char *ncclGetErrorString(ncclResult_t result);
const char *ncclGetLastError(ncclComm_t comm);

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t *config);
ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t *split,
                           ncclConfig_t *config);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *state);
ncclResult_t ncclCommFinalize(ncclComm_t comm);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
ncclResult_t ncclCommAbort(ncclComm_t comm);

ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);
ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream);
ncclResult_t ncclAlltoAll(const void *from, void *to, size_t count, ncclDataType_t type,
                          ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type,
                        ncclRedOp_t op, int root, ncclComm_t comm, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
