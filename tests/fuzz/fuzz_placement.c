/* A placement file for five ranks and a model of three layers with six experts, the first one
 * dense. What is accepted places every expert, and its order of groups is one. */
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/placement.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_RANKS = 5, N_EXPERTS = 6, N_LAYERS = 3 };

/* Do any rows of the expert go to the group? */
static bool takes_turn(const struct layer_placement *l, int expert, int group)
{
    bool takes = false;
    for (int turn = 0; turn < l->turns; turn++)
        takes = takes || placement_group(l, expert, turn) == group;
    return takes;
}

static void check_layer(const struct layer_placement *l)
{
    int at = 0;
    for (int r = 0; r < N_RANKS; r++) {
        CHECK(l->rank_first[r] == at, "rank %d begins at group %d", r, l->rank_first[r]);
        for (; at < l->rank_first[r + 1]; at++) {
            int e = l->block_at[at];
            CHECK(e >= 0 && e < N_EXPERTS && takes_turn(l, e, at), "group %d is expert %d", at, e);
            CHECK(l->group_of[e] != at || l->rank_of[e] == r, "expert %d is on rank %d", e, r);
        }
    }
    CHECK(at == l->n_groups && at == N_EXPERTS + l->n_copies, "%d groups", at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena memory;
    static struct config m = {
        .n_layers = N_LAYERS, .n_experts = N_EXPERTS, .top_k = 2, .sparse = {false, true, true}};
    struct placement p = {0};
    error_capture(true);
    int status = placement_parse(&p, &memory, &m, N_RANKS, (const char *)data, size, "fuzz");
    CHECK(status == 0 || (status == STATUS_BAD_FILE && *error_text()), "status %d", status);
    for (int l = 0; l < N_LAYERS && !status; l++) {
        CHECK(!p.layers[l].rank_of == !m.sparse[l], "layer %d", l);
        if (m.sparse[l])
            check_layer(&p.layers[l]);
    }
    arena_reset(&memory);
    return 0;
}
