/* A second queue of a GPU's, beside the one that primitives go to, for what others put there (see
 * transport/nccl.h): it runs while the GPU computes. Neither waits for the other but where told.
 * Its first error is the device's: dev_wait() tells. */
#pragma once

#include "kernels/device.h"

struct side {
    struct dev *dev;
    void *stream, *event; // a cudaStream_t and a cudaEvent_t
};

/* 0, or STATUS_FAILED. Close it before the device. */
int side_open(struct side *s, struct dev *gpu);
void side_close(struct side *s);

/* What is put there from now on waits for all that the device has been given so far. */
void side_follow(struct side *s);

/* Whether all of it is done; true also after an error. Never waits. */
bool side_is_done(struct side *s);

/* 0, or STATUS_FAILED once the device has had an error: what it should have put into rows may not
 * be there, and they must not leave. Never waits. */
int side_status(const struct side *s);
