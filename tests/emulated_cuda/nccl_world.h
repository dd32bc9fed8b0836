/* What emulated communicators are made of, and how their operations meet. All of it under api_lock.
 */
#pragma once

#include "nccl.h"

#include <map>
#include <memory>
#include <utility>

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
    std::map<int, std::shared_ptr<world>> splits;                      // those split off, by number
    bool complained;
    explicit world(int n) : size(n), ranks((size_t)n), collectives((size_t)n), complained(false)
    {
    }
    bool is_complete() const
    {
        return std::count(ranks.begin(), ranks.end(), nullptr) == 0;
    }
};

} // namespace emulated

struct ncclComm {
    std::shared_ptr<emulated::world> of;
    int rank, device;
    bool blocking, joined;
    bool shares; // its abort flag, with what is split off
    ncclResult_t state;
    int questions;                         // until a call under way gets on
    std::deque<emulated::group *> waiting; // called, and not on a stream yet
    std::vector<std::unique_ptr<emulated::group>> groups;
    int n_splits;
    ncclComm *splitting, **split;                    // under way, and where it will be told
    std::shared_ptr<std::vector<ncclComm *>> family; // those with the same abort flag
};

namespace emulated
{

/* The result, after a line about why; ncclGetLastError has it, too. */
__attribute__((format(printf, 2, 3))) ncclResult_t refuse(ncclResult_t result, const char *format,
                                                          ...);
const char *last_refusal();

size_t bytes_of(const operation &o);

/* A call has begun; a communicator that blocks comes back when it is done. */
ncclResult_t began(ncclComm *c);
/* Calls under way get on as far as they can. */
void get_on(ncclComm *c);

int version();    // 22809
bool may_share(); // ranks, a device

/* Its streams go on as if all had been done; those of other ranks wait for ever. */
void give_up(ncclComm *c);
/* Likewise, and so for all of its family. */
void give_up_family(ncclComm *c);
/* Nobody may use it any more. */
void bury(ncclComm *c);

} // namespace emulated
