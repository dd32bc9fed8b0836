/* Files for Perfetto (ui.perfetto.dev): tracks with nested slices, and arrows between them.
 * Callers need no protobuf.
 *
 * Slices of one track must be written in order of time, and the slice that was opened last closes
 * first. Tracks may be written in any order. After the last call the caller asks ferror() whether
 * writing failed. */
#pragma once

#include <stdint.h>
#include <stdio.h>

/* A process with one thread, which Perfetto shows as one group. track: a number of its own, not 0.
 */
void trace_write_track(FILE *out, uint64_t track, int pid, const char *process, const char *thread);

struct trace_slice {
    const char *name, *category;
    const char *number_name; // what `number` is, shown with the slice ("rows"); NULL: no number
    int64_t number;
    const uint64_t *flows; // [n_flows] arrows that pass through here; 0 is no arrow
    size_t n_flows;
    const uint64_t *ends; // [n_ends] arrows that end here
    size_t n_ends;
};

/* ns is of one clock for all tracks. */
void trace_write_begin(FILE *out, uint64_t track, int64_t ns, const struct trace_slice *slice);
void trace_write_end(FILE *out, uint64_t track, int64_t ns);
