/* Starts and ends the ranks of one run: rank 0 alone, threads of this process (--ranks N), or
 * processes that mpirun has started. */
#pragma once

#include <stdio.h>

#include "coordinator/coordinator.h"
#include "launch/launch.h"
#include "launch/local_ranks.h"

struct ranks {
    struct coordinator coordinator;
    struct coordinator_options options; // the coordinator was opened with these
    struct local_ranks local;
    char *model_dir;
    const char *transport_name;
};

/* What a command needs of the coordinator. */
struct session_needs {
    int max_sequences, logit_rows;
    int context; // positions of a sequence without -c; 0: the model's maximum
};

/* The GPU of the i-th rank of a host: each takes the next, in turn. */
int ranks_gpu(int i);
/* Does --transport suit how this program was started, and what this host has? 0, or STATUS_USAGE
 * with what is wrong. Before CUDA's first call. */
int ranks_check_transport(const struct process *p, const struct model_options *o);
/* Why --transport nccl cannot move this run's rows; NULL if it can, as far as can be told on this
 * host. */
const char *ranks_why_not_nccl(const struct process *p, const struct model_options *o);

/* Run a command with a model. `parsed` is the result of options_parse(). Refuses options that no
 * rank can do. Under mpirun, ranks other than 0 then serve as workers; rank 0 calls here(p,
 * options). Returns the exit code. A worker's is 0, as the coordinator's is the run's, except when
 * the coordinator is lost. */
int ranks_command(struct process *p, int parsed, const struct model_options *o,
                  int (*here)(struct process *p, const void *options), const void *options);

/* On rank 0: start the local workers, if any, and open the coordinator. 0, or the exit code; then
 * there is nothing to close. */
int ranks_open(struct ranks *r, const struct process *p, const struct model_options *o,
               const struct session_needs *needs);
/* After a run, print on log_stream(): with -v, how long the coordinator waited for rows, and how
 * long it worked while they were away; if the wire is narrower than the model, the error and the
 * bytes. 0, or a status. */
int ranks_report_exchange(struct ranks *r);
/* STATUS_USAGE if a file of a profile is `other`, which would be lost. */
int ranks_check_apart(const struct profile_command *o, const char *other);
/* After a run: complete the record of its routing, if one was asked for; and if a profile was,
 * write its files, and print its tables to `table` (NULL: do not print them). 0, or a status. */
int ranks_report_profile(struct ranks *r, const struct profile_command *o, FILE *table);
void ranks_close(struct ranks *r);
