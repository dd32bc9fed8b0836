/* The coordinator: a model that is ready to run, with its experts wherever the placement says. */
#pragma once

#include "coordinator/kv_cache.h"
#include "coordinator/picker.h"
#include "coordinator/probe.h"
#include "coordinator/record.h"
#include "coordinator/rope_tables.h"
#include "coordinator/state.h"
#include "coordinator/watched.h"
#include "exchange/outputs.h"
#include "exchange/root.h"
#include "model/balance.h"
#include "model/shard.h"
#include "model/weights.h"
#include "profile/profile.h"
#include "transport/nccl.h"

struct coordinator_options {
    const char *model_dir;
    const char *version;     // of the program; workers must have the same
    int dtype;               // enum dtype, or -1: what config.json says
    enum quant quant;        // how matrices are kept
    enum quant expert_quant; // the same of experts and pieces of dense blocks; QUANT_NONE: as quant
    enum device device;
    int gpu;  // with DEVICE_CUDA: the GPU's number
    int gpus; // GPUs of this host, which its ranks take in turn; 0: only rank 0 has a GPU
    int threads;
    bool eager;  // compute as a straightforward program does (dev_make_eager); only on a CPU
                 // and without other ranks
    int chunk;   // rows of the largest step
    int context; // positions of a sequence, may exceed the model's maximum; 0: see wanted
    int wanted;  // with context 0: positions that are needed, cut to the model's maximum, which
                 // is also what 0 means
    int max_sequences; // in flight at once
    int logit_rows;    // of one call of unembed()
    struct placement_spec placement;
    struct workload expect; // the workload that placement "balanced" is made for
    struct exchange_options exchange;
    bool nccl;        // NCCL moves rows from GPU to GPU; every rank has a GPU, perhaps a shared one
    int64_t kv_bytes; // of the KV cache, at most; 0: all sequences at full length
    struct profile_options profile;
    const char *record;     // file that the routing of all steps is recorded in; NULL: none
    const char *model_name; // as the user has named it, for the record
};

/* Or kv_bytes is this: half of the memory that is available once the weights are loaded. */
enum { KV_HALF_OF_MEMORY = -1 };

struct coordinator {
    struct config config;
    struct generation_defaults defaults;
    struct transport *transport; // NULL or size 1: alone
    struct dev dev;              // the device that computes
    struct dev host; // with a GPU and other ranks: the CPU device that messages leave from, and
                     // rows unless NCCL moves them; else unused
    struct precision precision;
    int chunk, context, logit_rows;
    struct arena memory;
    struct weights weights;
    struct shard shard; // experts at home
    struct placement placement;
    struct exchange_options options; // the wire is resolved (exchange_choose_wire)
    bool nccl;                       // NCCL moves rows from GPU to GPU
    struct root_end *exchange[LANES];
    int n_exchanges;        // how many are open: 1 for whole steps, or one for each half
    struct outputs outputs; // the output matrix over the ranks
    struct kv_cache kv;
    struct rope_tables rope;
    struct grouping *groups;  // [n_layers] of experts; the arrays are where the device reads them
    const int32_t **piece_at; // [n_layers] places of pieces (struct pending_residual), likewise
    struct state state;
    struct picker picker;
    struct probe *probe;     // while probe_explain() runs a sequence again; else NULL
    struct watched *watched; // the caller's counters of rows; NULL: none
    struct profile *profile; // NULL: none is wanted
    struct trace *trace;     // the profile's log of this rank, or NULL
    struct record *record;   // of all steps' routing, or NULL
    double load_seconds;
    uint64_t weight_bytes; // of all ranks
};

/* The device whose memory messages travel from, and rows unless NCCL moves them. */
static inline struct dev *wire_dev(struct coordinator *c)
{
    return c->host.kernels ? &c->host : &c->dev;
}

/* Check the checkpoint, greet the workers, send them the setup, load, and wait until all are ready.
 * t NULL or of size 1: no workers. 0, or an error that fail() has told: then the workers have been
 * told to stop and nothing is left open. *c may not be moved while it is open. */
int coordinator_open(struct coordinator *c, const struct coordinator_options *o,
                     struct transport *t);
/* Between two steps, with workers: from now on rows travel as o->exchange and o->nccl say. The rest
 * of `o` must be as it was when opened; weights and KV cache stay. The old exchange's memory is
 * freed only by coordinator_close(). After an error the run is over. */
int coordinator_change_exchange(struct coordinator *c, const struct coordinator_options *o);
/* *error := the root mean square of what narrowing rows for the wire has changed so far on all
 * ranks, divided by that of the values; 0 on the model's own wire. 0, or an error of the device or
 * of a worker. */
int coordinator_wire_error(struct coordinator *c, double *error);
/* After the last step: complete c->profile. 0 (also without a profile), or the run is over. */
int coordinator_finish_profile(struct coordinator *c);
/* How many experts had rows, summed over layers and steps; each copy of an expert, and each half of
 * a step, counts by itself. Waits for the device. */
uint64_t coordinator_experts_hit(struct coordinator *c);
void coordinator_close(struct coordinator *c); // stops the workers; the transport stays open
