/* A conversation on the terminal: epmoe chat, and epmoe run --chat without a prompt. */
#pragma once

#include "launch/launch.h"
#include "launch/sampling.h"

struct chat_command {
    struct model_options model;
    struct sampling_command sampling;
    const char *system; // NULL: the template's
    /* New tokens of an answer; not given: until the context is full, or of a model without a chat
     * template as many as the checkpoint says. */
    long n_predict;
    bool n_predict_given, no_thinking;
};

/* What rank 0 does, for ranks_command(); options is a struct chat_command. */
int chat_here(struct process *p, const void *options);
