#include "model/synth_made.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/synth_fill.h"

#define PREFIX "synth:"

struct synth_made {
    struct synth_plan plan;
    struct noise noise;
};

bool synth_is_made(const char *model)
{
    return strncmp(model, PREFIX, strlen(PREFIX)) == 0;
}

/* Read a name PRESET or PRESET:LAYERS into the options. */
static int read_name(struct synth_options *o, char *name)
{
    char *colon = strchr(name, ':'), *end = NULL;
    o->preset = name;
    o->type = DTYPE_BF16;
    if (!colon)
        return 0;
    *colon = 0;
    errno = 0;
    long layers = strtol(colon + 1, &end, 10);
    if (errno || end == colon + 1 || *end || layers < 1 || layers > 256)
        return fail(STATUS_USAGE, PREFIX "%s: expected 1 to 256 layers, found \"%s\"", name,
                    colon + 1);
    o->layers = (int)layers;
    return 0;
}

static int open_plan(struct synth_plan *p, const char *model)
{
    struct synth_options o = {0};
    char *name = strdup(model + strlen(PREFIX));
    CHECK_MEMORY(name, "no memory for a name");
    int status = read_name(&o, name);
    if (!status)
        status = synth_plan_open(p, &o);
    free(name);
    return status;
}

int synth_made_open(struct synth_made **out, const char *model)
{
    struct synth_made *s = calloc(1, sizeof *s);
    CHECK_MEMORY(s, "no memory for a plan");
    int status = open_plan(&s->plan, model);
    if (status) {
        free(s);
        return status;
    }
    noise_build(&s->noise, s->plan.type, SYNTH_DEVIATION);
    *out = s;
    return 0;
}

void synth_made_close(struct synth_made *s)
{
    if (!s)
        return;
    synth_plan_close(&s->plan);
    free(s);
}

const struct synth_plan *synth_made_plan(const struct synth_made *s)
{
    return &s->plan;
}

void synth_made_fill(const struct synth_made *s, const char *tensor, uint64_t first, size_t bytes,
                     void *out)
{
    size_t width = (size_t)dtype_bytes(s->noise.type);
    CHECK(first % width == 0 && bytes % width == 0, "half an element of %s", tensor);
    synth_fill(&s->noise, 0, tensor, first / width, bytes / width, out);
}

bool synth_made_values(const struct synth_made *s, const char *tensor, uint64_t first,
                       struct values *v)
{
    size_t width = (size_t)dtype_bytes(s->noise.type);
    CHECK(first % width == 0, "half an element of %s", tensor);
    *v = (struct values){.type = s->noise.type,
                         .noise = &s->noise,
                         .key = synth_key(0, tensor),
                         .first = first / width};
    return !synth_is_ones(tensor);
}

char *synth_made_config(const char *model, size_t *bytes)
{
    struct synth_plan plan;
    char *text = NULL;
    if (open_plan(&plan, model) != 0)
        return NULL;
    FILE *memory = open_memstream(&text, bytes);
    bool printed = memory && js_print(plan.config, memory, 0);
    CHECK_MEMORY(printed && fclose(memory) == 0, "no memory for a text");
    synth_plan_close(&plan);
    return text;
}
