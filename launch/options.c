#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/log.h"
#include "launch/launch.h"

struct model_options model_options_default(void)
{
    return (struct model_options){.chunk = USUAL_CHUNK, .timeout_s = 30, .overlap = OVERLAP_AUTO};
}

void model_options_table(struct option_spec *table, struct model_options *o)
{
    const struct option_spec shared[MODEL_OPTIONS] = {
        {"model", 'm', OPTION_TEXT, &o->model, "MODEL",
         "a checkpoint directory, a Hugging Face name in the local cache, or synth:PRESET", 0, 0,
         NULL},
        {"dtype", 0, OPTION_CHOICE, &o->dtype, DTYPE_CHOICES,
         "type of weights and matmul inputs (auto: the checkpoint's); q8 and q4: weights of 8 and "
         "4 bits",
         0, 0, NULL},
        {"expert-dtype", 0, OPTION_CHOICE, &o->expert_dtype, EXPERT_DTYPE_CHOICES,
         "experts, shared experts and MLPs in fewer bits than the rest (auto: as --dtype)", 0, 0,
         NULL},
        {"threads", 't', OPTION_INT, &o->threads, "N",
         "threads of each rank (0: cores over ranks on this host)", 0, 1024, NULL},
        {"ctx", 'c', OPTION_INT, &o->context, "N", "context in tokens (0: what the request needs)",
         0, 1 << 24, NULL},
        {"chunk", 0, OPTION_INT, &o->chunk, "N", "prompt tokens a step (2048)", 1, 65536, NULL},
        {"ranks", 0, OPTION_INT, &o->ranks, "N",
         "ranks as threads of this process: one coordinator, N-1 workers", 1, 1024, NULL},
        {"placement", 0, OPTION_TEXT, &o->placement.text, "balanced|even|round-robin|FILE",
         "which rank holds what (balanced); docs/placement.md", 0, 0, NULL},
        {"expect", 0, OPTION_TEXT, &o->expect, "PROMPT,NEW[,BATCH]",
         "tokens in and out, and sequences at a time, that balanced places for (1500,40,1)", 0, 0,
         NULL},
        {"home", 0, OPTION_INT, &o->placement.home, "N",
         "experts of each layer that stay on rank 0 (0; with one rank all)", 0, MAX_EXPERTS,
         &o->placement.home_given},
        {"transport", 0, OPTION_CHOICE, &o->transport, "auto|local|mpi|nccl",
         "what moves rows: this process, MPI, or from GPU to GPU NCCL (auto: NCCL where it can)", 0,
         0, NULL},
        {"strategy", 0, OPTION_CHOICE, &o->strategy, "exact|padded|allgather",
         "how rows travel: exactly those needed, in equal messages, or all to all workers", 0, 0,
         NULL},
        {"dedup", 0, OPTION_CHOICE, &o->dedup, "on|off",
         "a row travels once to each rank, not once to each expert (on: never more rows)", 0, 0,
         NULL},
        {"combine", 0, OPTION_CHOICE, &o->combine, "rows|sum",
         "what comes back: each expert's row, or each worker's sum (fewer bytes, rounds)", 0, 0,
         NULL},
        {"wire", 0, OPTION_CHOICE, &o->wire, "model|bf16|int8",
         "type of the rows that travel; a narrower one has its error reported", 0, 0, NULL},
        {"overlap", 0, OPTION_CHOICE, &o->overlap, "off|on|auto",
         "split steps in two halves: one computes while the other is with the workers (auto: those "
         "of 64 rows or more)",
         0, 0, NULL},
        {"device", 0, OPTION_CHOICE, &o->device, "cpu|cuda",
         "what computes; of several GPUs, each rank of a host takes the next", 0, 0, NULL},
        {"worker-device", 0, OPTION_CHOICE, &o->worker_device, "same|cpu|cuda",
         "what workers compute with (same: as rank 0)", 0, 0, NULL},
        {"timeout", 0, OPTION_REAL, &o->timeout_s, "S",
         "seconds without progress until a rank counts as lost (30)", 0.1, 86400, NULL},
        {"verbose", 'v', OPTION_FLAG, &o->verbose, NULL, "say what is loaded where", 0, 0, NULL},
    };
    memcpy(table, shared, sizeof shared);
}

void profile_options_table(struct option_spec *table, struct profile_command *o)
{
    const struct option_spec shared[PROFILE_OPTIONS] = {
        {"profile", 0, OPTION_FLAG, &o->table, NULL,
         "say where the time goes, by layer, phase and rank; docs/profile.md", 0, 0, NULL},
        {"profile-json", 0, OPTION_TEXT, &o->json, "FILE", "the same for programs", 0, 0, NULL},
        {"trace", 0, OPTION_TEXT, &o->trace, "FILE", "the same as a timeline for ui.perfetto.dev",
         0, 0, NULL},
        {"record-routing", 0, OPTION_TEXT, &o->routing, "FILE",
         "record which experts every row went to, for epmoe replay and place; docs/study.md", 0, 0,
         NULL},
    };
    memcpy(table, shared, sizeof shared);
}

struct dtype_choice dtype_chosen(int dtype, int expert_dtype)
{
    static const struct dtype_choice choices[] = {{-1, QUANT_NONE, QUANT_NONE},
                                                  {DTYPE_F32, QUANT_NONE, QUANT_NONE},
                                                  {DTYPE_F16, QUANT_NONE, QUANT_NONE},
                                                  {DTYPE_BF16, QUANT_NONE, QUANT_NONE},
                                                  {-1, QUANT_Q8, QUANT_Q8},
                                                  {-1, QUANT_Q4, QUANT_Q4}};
    static const enum quant experts[] = {QUANT_NONE, QUANT_Q8, QUANT_Q4};
    struct dtype_choice c = choices[dtype];
    c.experts = expert_dtype ? experts[expert_dtype] : c.matrices;
    return c;
}

/* The bytes of a unit's name: "", "G", "GB" or "GiB", and so for K, M and T, in either case; 0: it
 * is none. All are powers of 1024, as memory is sold. */
static double unit_bytes(const char *unit)
{
    static const char letters[] = "KMGT";
    double bytes = 1;
    if (!*unit)
        return 1;
    const char *letter = strchr(letters, toupper((unsigned char)*unit));
    if (!letter || (unit[1] && strcasecmp(unit + 1, "B") != 0 && strcasecmp(unit + 1, "iB") != 0))
        return 0;
    for (long i = letter - letters + 1; i > 0; i--)
        bytes *= 1024;
    return bytes;
}

int parse_memory(const char *option, const char *text, uint64_t *bytes)
{
    char *end;
    *bytes = 0;
    if (!text)
        return 0;
    double number = strtod(text, &end);
    number *= unit_bytes(*end == ' ' ? end + 1 : end);
    if (end == text || !(number >= 1 && number < 0x1p62))
        return fail(STATUS_USAGE, "%s takes bytes such as 4G, 4GiB or 512M, found \"%.40s\"",
                    option, text);
    *bytes = (uint64_t)number;
    return 0;
}

int parse_expect(const char *text, struct workload *w)
{
    long n[3] = {0, 0, 1};
    int found = 0;
    char *end = NULL;
    *w = usual_workload;
    if (!text)
        return 0;
    for (const char *at = text; found < 3; at = end + 1) {
        n[found++] = strtol(at, &end, 10);
        if (end == at || *end != ',')
            break;
    }
    bool good = found >= 2 && *end == 0;
    for (int i = 0; i < 3; i++)
        good = good && n[i] >= (i == 1 ? 0 : 1) && n[i] <= 1 << 24;
    if (!good)
        return fail(STATUS_USAGE,
                    "--expect: expected PROMPT,NEW or PROMPT,NEW,BATCH such as 1500,40,8, found "
                    "\"%.40s\"",
                    text);
    *w = (struct workload){(int)n[0], (int)n[1], (int)n[2]};
    return 0;
}

int parse_ids(const char *text, int32_t **ids, int *n)
{
    size_t room = 1;
    for (const char *c = text; *c; c++)
        room += *c == ',';
    int32_t *list = malloc(room * sizeof *list);
    CHECK_MEMORY(list, "no memory for %zu token ids", room);
    *n = 0;
    for (const char *at = text;; at++) {
        char *end;
        errno = 0;
        long v = strtol(at, &end, 10);
        if (end == at || errno || v < 0 || v > INT32_MAX || (*end && *end != ',')) {
            free(list);
            return fail(STATUS_USAGE, "--tokens: expected ids such as 1,2,3, found \"%.40s\"", at);
        }
        list[(*n)++] = (int32_t)v;
        if (!*end)
            break;
        at = end;
    }
    *ids = list;
    return 0;
}
