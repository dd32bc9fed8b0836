/* The options of run and chat that say how tokens are picked and what ends a text. What is not
 * given is the checkpoint's own (generation_config.json). */
#pragma once

#include "base/json.h"
#include "coordinator/sampler.h"
#include "launch/command_line.h"

struct sampling_command {
    double temperature, top_p, min_p, typical_p, penalty;
    long top_k, seed;
    bool temperature_given, top_k_given, top_p_given, min_p_given, typical_p_given, penalty_given;
    bool ignore_eos;
    struct text_list stop;
};

/* Fill SAMPLING_OPTIONS entries of a command's table; parsing it fills *o. */
enum { SAMPLING_OPTIONS = 9 };
void sampling_options_table(struct option_spec *table, struct sampling_command *o);
/* After parsing: 0, or STATUS_USAGE with the command's name in the error. */
int sampling_check(const char *command, const struct sampling_command *o);

/* s := what was given. Not ignore_eos and stop, which are the request's. */
void sampling_apply(const struct sampling_command *o, struct sampler_options *s);
/* Set the fields of a request (serve/completion.h) that say all of it. */
void sampling_fields(const struct sampling_command *o, struct js *fields);
