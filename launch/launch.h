/* The program. main() finds the command. The command parses its options, starts its ranks and does
 * its work; its function returns the process's exit code (base/log.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/coordinator.h"
#include "launch/command_line.h"
#include "transport/transport.h"

/* What main() knows of the process before any option is read. */
struct process {
    struct transport *mpi;      // this rank's end under mpirun; else NULL
    int local_rank, local_size; // this rank among the ranks of this host, and how many these are
};

struct command {
    const char *name, *summary;
    int (*run)(struct process *p, int argc, char **argv);
    bool uses_ranks; // true: under mpirun all ranks run the command; false: only rank 0 does
};

int command_run(struct process *p, int argc, char **argv);
int command_logits(struct process *p, int argc, char **argv);
int command_perplexity(struct process *p, int argc, char **argv);
int command_tokenize(struct process *p, int argc, char **argv);
int command_synth(struct process *p, int argc, char **argv);
int command_quantize(struct process *p, int argc, char **argv);
int command_batch(struct process *p, int argc, char **argv);
int command_chat(struct process *p, int argc, char **argv);
int command_serve(struct process *p, int argc, char **argv);
int command_bench(struct process *p, int argc, char **argv);
int command_inspect(struct process *p, int argc, char **argv);
int command_alltoall(struct process *p, int argc, char **argv);
int command_replay(struct process *p, int argc, char **argv);
int command_place(struct process *p, int argc, char **argv);
int command_calibrate(struct process *p, int argc, char **argv);
int command_project(struct process *p, int argc, char **argv);
int command_report(struct process *p, int argc, char **argv);
int command_doctor(struct process *p, int argc, char **argv);

const char *program_version(void); // "0.1.0 (commit)"
/* "Open MPI v4.1.4, protobuf-c 1.4.1, ...": all but those of GPUs, in the versions that are loaded.
 */
const char *program_libraries(void);
void print_version(void);

/* The options that ask for a profile, or for a record of the routing. */
struct profile_command {
    bool table;               // print its tables
    const char *json, *trace; // paths of files to write, or NULL
    const char *routing;      // likewise, of recorded routing (proto/routing.h)
};

/* What moves rows between ranks. Auto: NCCL if each rank has a GPU of its own; else shared memory
 * for ranks that are threads, MPI for ranks that mpirun has started. */
enum transport_choice { TRANSPORT_AUTO, TRANSPORT_LOCAL, TRANSPORT_MPI, TRANSPORT_NCCL };

/* The options that every command with a model shares. */
struct model_options {
    const char *model;
    int dtype, expert_dtype;                     // see dtype_chosen()
    int device;                                  // enum device
    int worker_device;                           // 0: that of rank 0; else enum device + 1
    int transport;                               // enum transport_choice
    int strategy, dedup, combine, wire, overlap; // values of struct exchange_options
    struct placement_spec placement;
    const char *expect; // "1500,40" or "1500,40,8"; NULL: usual_workload
    long threads, chunk, context, ranks;
    long kv_bytes; // see coordinator_options
    double timeout_s;
    bool verbose;
    bool eager; // of bench --ablation; see coordinator_options
    struct profile_command profile;
};
struct model_options model_options_default(void);
enum { MODEL_OPTIONS = 20 };
/* Fill MODEL_OPTIONS entries of a command's table. */
void model_options_table(struct option_spec *table, struct model_options *o);

/* What --dtype and --expert-dtype may be, and what an index in each means: the type of rows, enum
 * dtype or -1 for the checkpoint's, and how matrices and experts are kept. */
#define DTYPE_CHOICES        "auto|f32|f16|bf16|q8|q4"
#define EXPERT_DTYPE_CHOICES "auto|q8|q4"
struct dtype_choice {
    int type;
    enum quant matrices, experts;
};
struct dtype_choice dtype_chosen(int dtype, int expert_dtype);

/* Fill PROFILE_OPTIONS entries of a command's table; parsing it fills *o. */
enum { PROFILE_OPTIONS = 4 };
void profile_options_table(struct option_spec *table, struct profile_command *o);

/* --expect: 0 or STATUS_USAGE. NULL: usual_workload. */
int parse_expect(const char *text, struct workload *w);
/* "24G", "24GB", "24 GiB", "512M", "1e9": bytes, units being powers of 1024; 0 for NULL.
 * STATUS_USAGE names the option. */
int parse_memory(const char *option, const char *text, uint64_t *bytes);

/* *ids := the *n token ids in a text such as "1,2,3"; the caller frees them. 0, or STATUS_USAGE
 * with the piece that is no id in the error. */
int parse_ids(const char *text, int32_t **ids, int *n);
