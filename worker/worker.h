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
    struct dev dev;       // the device that computes
    struct dev host; // with a GPU: the CPU device that messages leave from, and rows unless NCCL
                     // moves them; else unused
    struct dev *wire_dev; // &host with a GPU, else &dev
    void *rows, *y;       // a GPU's copies of the members of struct exchange_work; NULL on the CPU
    float *z; // and where NCCL moves rows, so that the work is in the GPU's memory already
    int32_t *source;
    int32_t *count; // a GPU's copy; NULL on the CPU
    char *model_dir;
    struct config config;
    struct checkpoint *checkpoint;
    struct precision precision;
    struct placement placement;
    struct shard shard;
    struct worker_logits logits;
    struct exchange_options exchange_options;
    struct worker_end *exchange[LANES];
    int n_exchanges; // how many are open: 1 for whole steps, or one for each half
    int max_rows;
    bool ready; // a Setup has been done completely
    struct stats stats;
    struct trace log, *trace; // trace: the log, once the setup asks for one
};

/* Open the checkpoint and send Hello. 0 or an error; likewise below. */
int worker_greet(struct worker *w);
/* Open this rank's device, once, with the instruction set that all ranks have agreed on. */
int worker_open_device(struct worker *w, uint32_t agreed);
/* Do what a Setup asks for, and answer Ready: the first one loads, later ones only change how rows
 * travel. */
int worker_set_up(struct worker *w, const struct setup *setup);
