/* A worker's whole life: say hello, be told the setup, load its experts, serve steps until stopped.
 * The mirror image of coordinator/forward.c. */
#pragma once

#include "kernels/device.h"
#include "transport/transport.h"

struct worker_options {
    const char *model; // a directory or a name, resolved on this rank's own host
    enum device device;
    int gpu; // its number, of DEVICE_CUDA
    int threads;
    const char *version; // must equal the coordinator's
};

/* Returns when the coordinator said stop (0), or when it is gone (STATUS_LOST_RANK). An error of
 * this rank's own (a bad file, a wrong message) goes to the coordinator as a Fault, which prints it
 * and stops everyone: then the error's code is returned too. Prints nothing. Closes nothing. */
int worker_serve(struct transport *t, const struct worker_options *o);
