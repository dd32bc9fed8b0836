/* A worker's state; private to worker/. */
#pragma once

#include "exchange/worker.h"
#include "model/checkpoint.h"
#include "model/shard.h"
#include "worker/logits.h"
#include "worker/serve.h"

struct worker {
    struct transport *transport;
    const struct worker_options *options;
    struct arena memory;  // the placement
    struct arena message; // the control message at hand
    struct dev dev;       // what computes
    struct dev host; // beside a GPU: its host, for messages, and for rows unless NCCL moves them
    struct dev *wire_dev; // &dev or &host
    void *rows, *y;       // a GPU's copies of what the exchange has; NULL where it is the GPU's own
    float *z;             // likewise
    int32_t *source;      // likewise
    int32_t *count;       // a GPU's copy; NULL on the CPU
    char *model_dir;
    struct config config;
    struct checkpoint *checkpoint;
    struct precision precision;
    struct placement placement;
    struct shard shard;
    struct worker_logits logits;
    struct exchange_options exchange_options;
    struct worker_end *exchange[LANES];
    int n_exchanges; // how many are open: of a step, or of its halves
    int max_rows;
    bool ready; // all of it is set up
    struct stats stats;
    struct trace log, *trace; // trace: the log, once the setup asks for one
};

/* Say Hello: the checkpoint is open then. */
int worker_greet(struct worker *w);
/* Open this rank's device, once, with the instruction set that all ranks have agreed on. */
int worker_open_device(struct worker *w, uint32_t agreed);
/* Do as Setup says and answer Ready: the first one loads, later ones change how rows travel. */
int worker_set_up(struct worker *w, const struct setup *setup);
