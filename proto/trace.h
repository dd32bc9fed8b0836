/* Files for Perfetto (ui.perfetto.dev): tracks with nested slices, and arrows between them.
 * Callers never see protobuf.
 *
 * Slices of one track are written in order of time and close in the order opposite to that in which
 * they were opened; tracks may follow each other in any order. Errors of the stream stay in the
 * stream (ferror). */
#pragma once

#include <stdint.h>
#include <stdio.h>

/* A process with one thread, shown as one group. track: any number but 0, its own. */
void trace_write_track(FILE *out, uint64_t track, int pid, const char *process, const char *thread);

struct trace_slice {
    const char *name, *category;
    const char *number_name; // NULL, or what is shown with the slice: "rows"
    int64_t number;
    const uint64_t *flows; // [n_flows] arrows that pass through here; 0 is no arrow
    size_t n_flows;
    const uint64_t *ends; // [n_ends] arrows that end here
    size_t n_ends;
};

/* ns: of one clock for all tracks. */
void trace_write_begin(FILE *out, uint64_t track, int64_t ns, const struct trace_slice *slice);
void trace_write_end(FILE *out, uint64_t track, int64_t ns);
