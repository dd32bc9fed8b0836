/* epmoe COMMAND [options]: finds the command, starts MPI if mpirun has started this process, and
 * runs the command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/spelling.h"
#include "coordinator/cluster.h"
#include "launch/launch.h"
#include "launch/signals.h"
#include "launch/stdout.h"
#include "launch/waiting.h"
#include "study/origin.h"

static const struct command commands[] = {
    {"run", "text to text", command_run, true},
    {"batch", "many prompts from a file, results to a file", command_batch, true},
    {"chat", "a conversation on the terminal", command_chat, true},
    {"serve", "an HTTP server with OpenAI's API", command_serve, true},
    {"logits", "the logits of a prompt, as a safetensors file", command_logits, true},
    {"perplexity", "how well a model predicts a text, in each type of weights", command_perplexity,
     true},
    {"tokenize", "text to token ids, and back", command_tokenize, false},
    {"synth", "a checkpoint of true shape with random weights", command_synth, false},
    {"quantize", "a checkpoint with weights of 8 or 4 bits", command_quantize, false},
    {"bench", "speed beside the machine's roof", command_bench, true},
    {"alltoall", "what the exchange of a layer takes, without a model", command_alltoall, true},
    {"replay", "all ways that rows travel, on recorded routing", command_replay, true},
    {"place", "a placement computed from recorded routing", command_place, false},
    {"calibrate", "what messages, bytes, rows and experts cost on these ranks", command_calibrate,
     true},
    {"project", "what other numbers of ranks would give, from recorded routing", command_project,
     false},
    {"report", "one page of what the others have measured", command_report, false},
    {"inspect", "what is in a model, what it needs, and who would hold what", command_inspect,
     false},
    {"doctor", "what this machine and build can do, and what to do about the rest", command_doctor,
     false},
};

static void usage(FILE *out)
{
    fputs("usage: epmoe COMMAND [options]\n"
          "       launch/mpirun.sh -n 5 epmoe COMMAND [options]   (rank 0 coordinates, 1 to 4 hold "
          "experts)\n\n",
          out);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\nepmoe COMMAND --help tells a command's options; epmoe --version the build.\n", out);
}

static int refuse(const char *name)
{
    struct spelling s = {.word = name};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        spelling_try(&s, commands[i].name);
    return fail(STATUS_USAGE, "expected a command (epmoe --help lists them), found \"%s\"%s", name,
                spelling_hint(&s));
}

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* A worker has found rank 0 lost. It waits a second, so that rank 0, if it still runs, can name the
 * worker that was lost and end the run. Then rank 1 reports rank 0 as lost; the others wait a
 * little longer, so that they do not end the run before rank 1 has printed. */
static void report_lost_rank_0(int rank, const char *error)
{
    const struct timespec deference = {1, rank == 1 ? 0 : 500000000};
    nanosleep(&deference, NULL);
    if (rank == 1)
        warn("%s", error);
}

static int run_under_mpi(const struct command *command, int argc, char **argv)
{
    struct transport mpi;
    struct process p = {.mpi = &mpi};
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    signals_open(rank && atoi(rank) > 0, true);
    int status = transport_open_mpi(&mpi, &p.local_rank, &p.local_size);
    if (status)
        return status;
    mpi.timeout_ns = (int64_t)(model_options_default().timeout_s * 1e9);
    signals_place(mpi.pulse);
    if (mpi.rank > 0)
        error_capture(
            true); // wrong arguments fail on every rank, and rank 0 alone prints the error
    if (command->uses_ranks)
        status = command->run(&p, argc, argv);
    else if (mpi.rank == 0)
        status = command->run(&(struct process){.local_size = 1}, argc, argv);
    int unwritten = stdout_close();
    status = status ? status : unwritten;
    if (mpi.rank == 0)
        cluster_stop(&mpi); // also after an error, so that no worker waits for rank 0
    signals_place(NULL);
    int lost = transport_close(&mpi);
    if (mpi.rank > 0 && status == STATUS_LOST_RANK)
        report_lost_rank_0(mpi.rank, error_text());
    return status ? status : lost;
}

static int run_command(int argc, char **argv)
{
    const struct command *command = find(argv[1]);
    if (!command)
        return refuse(argv[1]);
    if (command->uses_ranks)
        choose_waiting(argv);
    if (transport_under_mpi())
        return run_under_mpi(command, argc - 1, argv + 1);
    if (command->uses_ranks && transport_refuse_alone())
        return STATUS_USAGE;
    signals_open(false, false);
    int status = command->run(&(struct process){.local_size = 1}, argc - 1, argv + 1);
    int lost = stdout_close();
    return status ? status : lost;
}

static bool is_one_of(const char *word, const char *a, const char *b)
{
    return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

int main(int argc, char **argv)
{
    char option[] = "--help", *help[] = {argv[0], argc > 2 ? argv[2] : NULL, option, NULL};
    stdout_open();
    origin_set(argc, argv);
    if (argc < 2) {
        usage(stderr);
        return STATUS_USAGE;
    }
    if (is_one_of(argv[1], "--version", "version"))
        print_version();
    else if (strcmp(argv[1], "help") == 0 && argc > 2)
        return run_command(3, help);
    else if (is_one_of(argv[1], "--help", "-h") || strcmp(argv[1], "help") == 0)
        usage(stdout);
    else
        return run_command(argc, argv);
    return stdout_close();
}
