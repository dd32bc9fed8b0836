/* What rank 0 says to the workers between steps: it greets each one, sends all of them one setup,
 * waits until they have loaded, asks for counters, and stops them. Unless a comment says otherwise,
 * an int is 0, an error of the transport, or the code of a worker's Fault; fail() has been told. */
#pragma once

#include "exchange/options.h"
#include "model/config.h"
#include "model/speed.h"
#include "proto/control.h"

struct cluster_terms {
    const char *version;
    uint64_t digest; // of the coordinator's checkpoint
    struct precision precision;
    int max_rows, logit_rows;
    bool profile; // workers log their phases
    struct exchange_options exchange;
    char *nccl_ids; // [n_nccl_ids][NCCL_ID_BYTES], an id for each lane (transport/nccl.h)
    int n_nccl_ids; // 0: rows travel by the transport
};

/* Receive every worker's Hello. STATUS_FAILED if one has another version than terms->version,
 * STATUS_BAD_FILE if one has other weights. *common := a mask of the instruction sets (1 << isa)
 * that all ranks have, this one included. */
int cluster_greet(struct transport *t, const struct cluster_terms *terms, unsigned *common);

/* speeds [t->size] := what every rank's device can do, measured on all at the same time; entry 0 is
 * measured here, on the device `own`. Between cluster_greet and cluster_set_up. */
int cluster_measure(struct transport *t, const struct cluster_terms *terms, enum isa isa,
                    struct dev *own, struct rank_speed *speeds);

/* cluster_set_up sends every worker the setup. cluster_await waits until all are ready;
 * *worker_bytes := the bytes of weights that they hold together. Rank 0 loads its own weights
 * between the two calls. */
int cluster_set_up(struct transport *t, const struct cluster_terms *terms, enum isa isa,
                   const struct config *m, const struct placement *p);
int cluster_await(struct transport *t, uint64_t *worker_bytes);

/* With -v: what a rank has loaded, and how fast. */
void cluster_note_loaded(const char *host, int rank, const struct ready *ready);

/* stats [t->size] := every worker's counters; entry 0 is left alone. */
int cluster_stats(struct transport *t, struct stats *stats);

/* *error += what narrowing rows for the wire has changed on all workers so far. */
int cluster_wire_error(struct transport *t, struct wire_error *error);

/* After a wait that ended with TRANSPORT_INTERRUPTED: receive the Fault that interrupted it, tell
 * fail() its text and return its code. */
int cluster_fault(struct transport *t);

/* Between two steps, while there is nothing to do: check whether a worker is lost or has failed
 * (transport_look). `begins`: this is the first look after a step. After an error the run is over.
 */
int cluster_look(struct transport *t, bool begins);

/* Send Stop to all workers. Every run ends with it, also one that has failed. */
void cluster_stop(struct transport *t);
