#include "launch/sampling.h"

#include <string.h>

#include "base/log.h"

void sampling_options_table(struct option_spec *table, struct sampling_command *o)
{
    const struct option_spec shared[SAMPLING_OPTIONS] = {
        {"temp", 0, OPTION_REAL, &o->temperature, "T", "temperature; 0: greedy", 0, 100,
         &o->temperature_given},
        {"top-k", 0, OPTION_INT, &o->top_k, "K", "sample from the K best; 0 or -1: all", -1,
         1 << 24, &o->top_k_given},
        {"top-p", 0, OPTION_REAL, &o->top_p, "P", "sample from the best that sum to P", 0, 1,
         &o->top_p_given},
        {"min-p", 0, OPTION_REAL, &o->min_p, "P",
         "sample from what has P times the probability of the best; 0: off", 0, 1, &o->min_p_given},
        {"typical-p", 0, OPTION_REAL, &o->typical_p, "P",
         "sample from the most typical that sum to P; 1: off", 1e-6, 1, &o->typical_p_given},
        {"repeat-penalty", 0, OPTION_REAL, &o->penalty, "X",
         "divide the logits of tokens seen before; 1: off", 0.01, 100, &o->penalty_given},
        {"seed", 's', OPTION_INT, &o->seed, "N", "same seed, same text (0)", 0, 0, NULL},
        {"stop", 0, OPTION_TEXTS, &o->stop, "TEXT", "end before this text; may be given 16 times",
         0, 0, 0},
        {"ignore-eos", 0, OPTION_FLAG, &o->ignore_eos, NULL, "go on after an end-of-text token", 0,
         0, 0},
    };
    memcpy(table, shared, sizeof shared);
}

int sampling_check(const char *command, const struct sampling_command *o)
{
    for (int i = 0; i < o->stop.n; i++)
        if (!*o->stop.at[i])
            return fail(STATUS_USAGE, "%s: --stop takes a text, found none", command);
    return 0;
}

void sampling_apply(const struct sampling_command *o, struct sampler_options *s)
{
    if (o->temperature_given)
        s->temperature = o->temperature;
    if (o->top_k_given)
        s->top_k = o->top_k > 0 ? (int)o->top_k : 0;
    if (o->top_p_given)
        s->top_p = o->top_p;
    if (o->min_p_given)
        s->min_p = o->min_p;
    if (o->typical_p_given)
        s->typical_p = o->typical_p;
    if (o->penalty_given)
        s->repetition_penalty = o->penalty;
    s->seed = (uint64_t)o->seed;
}

void sampling_fields(const struct sampling_command *o, struct js *fields)
{
    const struct {
        bool given;
        const char *name;
        double value;
    } reals[] = {{o->temperature_given, "temperature", o->temperature},
                 {o->top_p_given, "top_p", o->top_p},
                 {o->min_p_given, "min_p", o->min_p},
                 {o->typical_p_given, "typical_p", o->typical_p},
                 {o->penalty_given, "repetition_penalty", o->penalty}};
    struct js *stops = js_new_array();
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (reals[i].given)
            js_set(fields, reals[i].name, js_new_real(reals[i].value));
    if (o->top_k_given)
        js_set(fields, "top_k", js_new_int(o->top_k));
    js_set(fields, "seed", js_new_int(o->seed));
    for (int i = 0; i < o->stop.n; i++)
        js_push(stops, js_new_text(o->stop.at[i]));
    js_set(fields, "stop", stops);
    js_set(fields, "ignore_eos", js_new_bool(o->ignore_eos));
}
