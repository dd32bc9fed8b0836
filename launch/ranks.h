/* The ranks of one run: this process alone, threads of it (--ranks N), or processes under mpirun.
 */
#pragma once

#include <stdio.h>

#include "coordinator/coordinator.h"
#include "launch/launch.h"

struct ranks {
    struct coordinator coordinator;
    struct coordinator_options options; // that it was opened with
    struct rank_thread *threads;        // of local workers
    struct transport *ends;             // [n] of the local transport
    int n;
    char *model_dir;
    const char *transport_name;
};

struct session_needs {
    int max_sequences, logit_rows;
    int context; // positions that -c unset should give; 0: the model's maximum
};

/* Why --transport nccl cannot move this run's rows; NULL when it can, as far as this host shows. */
const char *ranks_why_not_nccl(const struct process *p, const struct model_options *o);

/* A command with a model, once its options are parsed (with this result: see options.h): refuse
 * what no rank can do, be a worker on ranks other than 0 under mpirun, and run `here` on rank 0.
 * Returns the exit code; a worker's is 0, for the coordinator's is the run's, unless it is the
 * coordinator that is lost. */
int ranks_command(struct process *p, int parsed, const struct model_options *o,
                  int (*here)(struct process *p, const void *options), const void *options);

/* Rank 0: start local workers where asked for and open the coordinator; or the exit code. */
int ranks_open(struct ranks *r, const struct process *p, const struct model_options *o,
               const struct session_needs *needs);
/* After a run: with -v, how long the coordinator waited for rows, and worked while they were away;
 * when the wire is narrower than the model, what it cost and what travelled. A line each, on
 * stderr.
 */
int ranks_report_exchange(struct ranks *r);
/* After a run, where asked for: complete the profile, write its files, and its table to `table`
 * (NULL: not here). */
int ranks_report_profile(struct ranks *r, const struct profile_command *o, FILE *table);
void ranks_close(struct ranks *r);
