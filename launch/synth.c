/* epmoe synth: writes a checkpoint with the shapes of a real model and random weights. */
#include "model/synth.h"

#include <string.h>

#include "base/log.h"
#include "launch/launch.h"

int command_synth(struct process *p, int argc, char **argv)
{
    static const enum dtype types[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    struct synth_options o = {0};
    long layers = 0, seed = 0;
    int type = 0;
    (void)p;
    struct command_spec spec = {"synth",
                                "Write a loadable checkpoint of true shapes and random weights.",
                                "--preset NAME [--layers N] [--seed S] -o DIR",
                                NULL,
                                NULL,
                                NULL};
    struct option_spec table[] = {
        {"preset", 0, OPTION_TEXT, &o.preset, synth_presets(), "whose shapes", 0, 0, NULL},
        {"layers", 0, OPTION_INT, &layers, "N", "fewer (or more) layers than the preset", 1, 256,
         NULL},
        {"seed", 0, OPTION_INT, &seed, "S", "same seed, same bytes (0)", 0, 0, NULL},
        {"dtype", 0, OPTION_CHOICE, &type, "bf16|f16|f32", "type of the weights (bf16)", 0, 0,
         NULL},
        {"output", 'o', OPTION_TEXT, &o.dir, "DIR", "made when absent", 0, 0, NULL},
        {0}};
    int status = options_parse(&spec, table, argc, argv);
    if (status)
        return status == OPTIONS_HELP ? 0 : status;
    if (!o.preset || !o.dir)
        return fail(STATUS_USAGE, "synth: expected --preset %s and -o DIR", synth_presets());
    o.layers = (int)layers;
    o.seed = (uint64_t)seed;
    o.type = types[type];
    return synth_write(&o);
}
