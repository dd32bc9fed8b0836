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
    const char *version;            // of the program; workers must have the same
    int dtype;                      // enum dtype, or -1: what config.json says
    enum quant quant, expert_quant; // how matrices are kept; experts and pieces of dense blocks as
                                    // the others unless they are given their own
    enum device device;
    int gpu;  // its number, of DEVICE_CUDA
    int gpus; // of this host, whose ranks take them in turn; 0: only rank 0 has one
    int threads;
    bool eager;        // as a straightforward program would compute (dev_make_eager); a CPU, alone
    int chunk;         // rows of the largest step
    int context;       // positions of a sequence, beyond the model's maximum too; 0: see wanted
    int wanted;        // positions that are needed, within the model's maximum; 0: all of it
    int max_sequences; // in flight at once
    int logit_rows;    // of one call of unembed()
    struct placement_spec placement;
    struct workload expect; // what "balanced" places for
    struct exchange_options exchange;
    bool nccl;        // rows go from GPU to GPU by NCCL; every rank has one, or shares it
    int64_t kv_bytes; // of the KV cache at most; 0: all sequences at full length
    struct profile_options profile;
    const char *record;     // file that the routing of all steps is recorded in; NULL: none
    const char *model_name; // as the user has named it, for the record
};

/* kv_bytes: half of the memory that is available once the weights are loaded. */
enum { KV_HALF_OF_MEMORY = -1 };

struct coordinator {
    struct config config;
    struct generation_defaults defaults;
    struct transport *transport; // NULL or size 1: alone
    struct dev dev;              // what computes
    struct dev host; // beside a GPU: its host, for messages, and for rows unless NCCL moves them
    struct precision precision;
    int chunk, context, logit_rows;
    struct arena memory;
    struct weights weights;
    struct shard shard; // experts at home
    struct placement placement;
    struct exchange_options options; // as they count
    bool nccl;                       // rows go from GPU to GPU
    struct root_end *exchange[LANES];
    int n_exchanges;        // how many are open: of a step, or of its halves
    struct outputs outputs; // the output matrix over the ranks
    struct kv_cache kv;
    struct rope_tables rope;
    struct grouping *groups;  // [n_layers] the placement's, for the device,
    const int32_t **piece_at; // [n_layers] and the same of pieces
    struct state state;
    struct picker picker;
    struct probe *probe;     // a second pass looks for what is not finite; or NULL
    struct watched *watched; // NULL: nobody watches; else the caller's
    struct profile *profile; // NULL: none is wanted
    struct trace *trace;     // its log of this rank, or NULL
    struct record *record;   // of all steps' routing, or NULL
    double load_seconds;
    uint64_t weight_bytes; // of all ranks
};

/* The device whose memory messages travel from, and rows unless NCCL moves them. */
static inline struct dev *wire_dev(struct coordinator *c)
{
    return c->host.kernels ? &c->host : &c->dev;
}

/* Check the checkpoint, greet the workers, agree, load, and wait until all are ready. On failure
 * the workers have been told to stop and nothing is left open. It stays where it was opened. */
int coordinator_open(struct coordinator *c, const struct coordinator_options *o,
                     struct transport *t);
/* Between two steps, with workers: from now on rows travel as o->exchange and o->nccl say; the rest
 * of `o` is as it was when opened, and so are weights and KV cache. Memory of the exchange before
 * is given back at the end only. After an error the run is over. */
int coordinator_change_exchange(struct coordinator *c, const struct coordinator_options *o);
/* The wire's error so far: root mean square of what narrowing changed, over that of the values, on
 * all ranks; 0 on the model's own wire. */
int coordinator_wire_error(struct coordinator *c, double *error);
/* Complete c->profile, after the last step; 0 without one. */
int coordinator_finish_profile(struct coordinator *c);
/* How many experts had rows, summed over layers and steps; each copy of an expert, and each half of
 * a step, counts by itself. Waits for the device. */
uint64_t coordinator_experts_hit(struct coordinator *c);
void coordinator_close(struct coordinator *c); // stops the workers; the transport stays open
