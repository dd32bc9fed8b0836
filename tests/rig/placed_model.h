/* The small model that tests of placements use, and memory that is freed after all tests. */
#pragma once

#include "base/arena.h"
#include "model/config.h"

static struct arena memory;

static int end(void **state)
{
    (void)state;
    arena_free(&memory);
    return 0;
}

/* Three layers, the second one dense. */
static struct config model(int experts)
{
    return (struct config){.n_layers = 3, .n_experts = experts, .sparse = {true, false, true}};
}
