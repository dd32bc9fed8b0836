/* A second queue (stream) of a GPU, beside the one of the primitives. NCCL's transfers go there
 * (transport/nccl.h), and run while the GPU computes. The two queues do not wait for each other,
 * except where side_follow() says so. The first error of a side is kept as the device's error,
 * which dev_wait() returns. */
#pragma once

#include "kernels/device.h"

struct side {
    struct dev *dev;
    void *stream, *event; // a cudaStream_t and a cudaEvent_t
};

/* 0, or STATUS_FAILED with the reason told to fail(). Close the side before the device. */
int side_open(struct side *s, struct dev *gpu);
void side_close(struct side *s);

/* What is put into the side from now on waits until the device has done all calls made so far. */
void side_follow(struct side *s);

/* Has the GPU done everything that was put into the side? True also after an error. Never waits. */
bool side_is_done(struct side *s);

/* 0, or STATUS_FAILED once the device has had an error. Then rows that the device was to write may
 * not have been written, and must not be sent. Never waits. */
int side_status(const struct side *s);
