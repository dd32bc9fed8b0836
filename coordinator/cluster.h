/* Bringing the ranks of a run together: greet every worker, agree on one setup, wait until all have
 * loaded; and sending everyone home. */
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
    char *nccl_ids; // see transport/nccl.h
    int n_nccl_ids; // a lane's each; 0: rows travel by the transport
};

/* Hear every worker's Hello and refuse by name one of another version or other weights.
 * *common := the instruction sets that all ranks have, this one included. */
int cluster_greet(struct transport *t, const struct cluster_terms *terms, unsigned *common);

/* What every rank's device can do, measured on all at the same time: speeds [t->size]; entry 0 is
 * measured here, on the device `own`. Between cluster_greet and cluster_set_up. 0, or an error of
 * the transport, or a worker's. */
int cluster_measure(struct transport *t, const struct cluster_terms *terms, enum isa isa,
                    struct dev *own, struct rank_speed *speeds);

/* Tell every worker the setup; cluster_await waits until all are ready, and sums up the bytes of
 * weights that they hold. Loading one's own weights goes in between. 0, or an error of the
 * transport, or a worker's. */
int cluster_set_up(struct transport *t, const struct cluster_terms *terms, enum isa isa,
                   const struct config *m, const struct placement *p);
int cluster_await(struct transport *t, uint64_t *worker_bytes);

/* With -v: what a rank has loaded, and how fast. */
void cluster_note_loaded(const char *host, int rank, const struct ready *ready);

/* Ask every worker for its counters: stats [t->size], entry 0 left alone. */
int cluster_stats(struct transport *t, struct stats *stats);

/* error += what narrowing rows for the wire has cost the workers so far. */
int cluster_wire_error(struct transport *t, struct wire_error *error);

/* A wait ended with TRANSPORT_INTERRUPTED: print the Fault that interrupted it; returns its code.
 */
int cluster_fault(struct transport *t);

/* Between two steps, while there is nothing to do: look after the workers (transport_look).
 * `begins`: at the first look after a step. 0, or the status of what was lost or has failed, which
 * fail() has told; then the run is over. */
int cluster_look(struct transport *t, bool begins);

/* Say stop to all workers: the last word of every run, good or bad. */
void cluster_stop(struct transport *t);
