/* epmoe quantize: writes a checkpoint whose weights are quantised and packed. */
#include "model/quantize.h"

#include <stdlib.h>

#include "base/log.h"
#include "launch/launch.h"
#include "model/hub.h"

int command_quantize(struct process *p, int argc, char **argv)
{
    const char *model = NULL, *dir = NULL;
    long threads = 0;
    int dtype = 0, expert_dtype = 0;
    char *resolved;
    (void)p;
    struct command_spec spec = {"quantize",
                                "Write a checkpoint with weights of 8 or 4 bits, which a CPU maps.",
                                "-m MODEL --dtype q8|q4 [--expert-dtype q8|q4] -o DIR",
                                NULL,
                                NULL,
                                NULL};
    struct option_spec table[] = {
        {"model", 'm', OPTION_TEXT, &model, "MODEL",
         "a checkpoint directory, a Hugging Face name in the local cache, or synth:PRESET", 0, 0,
         NULL},
        {"dtype", 0, OPTION_CHOICE, &dtype, "auto|q8|q4",
         "attention, output matrix and experts (auto: as in the checkpoint)", 0, 0, NULL},
        {"expert-dtype", 0, OPTION_CHOICE, &expert_dtype, EXPERT_DTYPE_CHOICES,
         "experts, shared experts and MLPs (auto: as --dtype)", 0, 0, NULL},
        {"threads", 't', OPTION_INT, &threads, "N", "threads (0: as many as cores)", 0, 1024, NULL},
        {"output", 'o', OPTION_TEXT, &dir, "DIR", "made when absent", 0, 0, NULL},
        {0}};
    int status = options_parse(&spec, table, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    if (!model || !dir || (!dtype && !expert_dtype))
        return fail(STATUS_USAGE,
                    "quantize: expected -m MODEL, --dtype q8|q4 or --expert-dtype, and -o DIR");
    status = hub_resolve(&resolved, model);
    if (status)
        return status;
    struct quantize_options o = {.model = resolved,
                                 .dir = dir,
                                 .matrices = (enum quant)dtype,
                                 .blocks = (enum quant)(expert_dtype ? expert_dtype : dtype),
                                 .threads = threads ? (int)threads : usable_cores()};
    status = quantize_write(&o);
    free(resolved);
    return status;
}
