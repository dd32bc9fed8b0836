#include "exchange/options.h"

#include <string.h>

#include "base/log.h"
#include "transport/transport.h"

static const char *const strategies[] = {"exact", "padded", "allgather"};
static const char *const combines[] = {"rows", "sum"};
static const char *const dedups[] = {"on", "off"};
static const char *const wires[] = {"model", "bf16", "int8"};
static const char *const overlaps[] = {"off", "on", "auto"};

struct exchange_words exchange_words(const struct exchange_options *o)
{
    return (struct exchange_words){strategies[o->strategy], combines[o->combine], dedups[o->dedup],
                                   wires[o->wire], overlaps[o->overlap]};
}

/* The index of the word in words [n], or -1 after fail(). */
static int find(const char *what, const char *const *words, int n, const char *word)
{
    for (int i = 0; i < n; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    fail(STATUS_FAILED, "setup: expected a known %s, found \"%.40s\"", what, word);
    return -1;
}

int exchange_understand(struct exchange_options *o, const struct exchange_words *words)
{
    int strategy = find("strategy", strategies, STRATEGY_COUNT, words->strategy);
    int combine = strategy < 0 ? -1 : find("combine", combines, COMBINE_COUNT, words->combine);
    int dedup = combine < 0 ? -1 : find("dedup", dedups, DEDUP_COUNT, words->dedup);
    int wire = dedup < 0 ? -1 : find("wire", wires, WIRE_COUNT, words->wire);
    int overlap = wire < 0 ? -1 : find("overlap", overlaps, OVERLAP_COUNT, words->overlap);
    if (overlap < 0)
        return STATUS_FAILED;
    *o = (struct exchange_options){(enum strategy)strategy, (enum combine)combine,
                                   (enum dedup)dedup, (enum wire)wire, (enum overlap)overlap};
    return 0;
}

int exchange_choose_wire(struct exchange_options *o, enum dtype type)
{
    if (o->wire != WIRE_BF16 || type == DTYPE_F32)
        return 0;
    if (type != DTYPE_BF16)
        return fail(STATUS_USAGE, "--wire bf16: expected an f32 model, found %s", dtype_name(type));
    o->wire = WIRE_MODEL;
    return 0;
}

int exchange_lanes(const struct exchange_options *o)
{
    return o->overlap == OVERLAP_OFF ? 1 : LANES;
}
