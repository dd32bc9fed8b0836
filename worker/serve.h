/* A worker's whole run: send Hello, receive Setup, load its experts, serve steps until Stop comes.
 * Its loop over layers has the order of coordinator/forward.c. */
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

/* Returns 0 after Stop, STATUS_LOST_RANK when the coordinator is gone, or the code of this rank's
 * own error (a bad file, a wrong message). Such an error is sent to the coordinator as a Fault; the
 * coordinator prints it and stops all ranks. No error is printed here, and t stays open. */
int worker_serve(struct transport *t, const struct worker_options *o);
