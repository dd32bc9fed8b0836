/* NVTX's ranges of a thread: counted, for tests to read. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

struct emulated_ranges {
    int pushed, popped;
    const char *last; // the name of the range that was opened last
};

struct emulated_ranges *emulated_ranges_here(void); // of the calling thread

int nvtxRangePushA(const char *name);
int nvtxRangePop(void);

#ifdef __cplusplus
}
#endif
