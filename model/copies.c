#include "model/copies.h"

#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "model/found.h"

/* ---- groups ---- */

/* How many further copies a block has; the first one is l->copy_of[at]. */
static int copies_from(const struct layer_placement *l, int at, int block)
{
    int n = 0;
    while (at + n < l->n_copies && l->copy_of[at + n] == block)
        n++;
    return n;
}

/* How many turns there are (struct grouping). With a power of two, a row's turn is the last bits of
 * its number. With at least 16 turns for each copy of an expert, no copy gets more than 1/16 more
 * rows than another. */
static int turns_of(const struct layer_placement *l)
{
    int most = 1, turns = 1;
    for (int b = 0, at = 0; b < l->n; b++) {
        int n = copies_from(l, at, b);
        at += n;
        most = n + 1 > most ? n + 1 : most;
    }
    while (most > 1 && turns < 16 * most)
        turns *= 2;
    return turns;
}

/* Number the groups in order of (rank, block). The groups of first copies go to l->group_of [n],
 * those of further copies to others [n_copies]. */
static void number_groups(struct layer_placement *l, int32_t *others, int n_ranks)
{
    int group = 0;
    for (int rank = 0; rank < n_ranks; rank++) {
        l->rank_first[rank] = group;
        for (int b = 0, at = 0; b < l->n; b++) {
            if (l->rank_of[b] == rank) {
                l->group_of[b] = group;
                l->block_at[group++] = b;
            }
            for (; at < l->n_copies && l->copy_of[at] == b; at++)
                if (l->copy_rank[at] == rank) {
                    others[at] = group;
                    l->block_at[group++] = b;
                }
        }
    }
    l->rank_first[n_ranks] = group;
}

/* In turn t a block's rows go to its copy t mod the number of its copies. */
static void take_turns(struct layer_placement *l, const int32_t *others)
{
    for (int b = 0, at = 0; b < l->n; b++) {
        int n = copies_from(l, at, b);
        for (int t = 1; t < l->turns; t++) {
            int copy = t % (n + 1);
            l->group_of[t * l->n + b] = copy ? others[at + copy - 1] : l->group_of[b];
        }
        at += n;
    }
}

void layer_order(struct layer_placement *l, struct arena *memory, int n_ranks)
{
    l->turns = turns_of(l);
    l->n_groups = l->n + l->n_copies;
    size_t cells = (size_t)l->turns * (size_t)l->n;
    l->group_of = arena_alloc(memory, cells * sizeof *l->group_of);
    l->block_at = arena_alloc(memory, (size_t)l->n_groups * sizeof *l->block_at);
    int32_t *others = arena_alloc(memory, (size_t)l->n_copies * sizeof *others);
    number_groups(l, others, n_ranks);
    take_turns(l, others);
}

/* ---- copies of a whole placement ---- */

struct expert_copies placement_copies(const struct placement *p, struct arena *memory)
{
    size_t bytes = (size_t)p->n_copies * sizeof(int32_t);
    int32_t *cell = arena_alloc(memory, bytes), *rank = arena_alloc(memory, bytes);
    int n = 0;
    for (int l = 0; l < p->n_layers; l++)
        for (int i = 0; i < p->layers[l].n_copies; i++, n++) {
            cell[n] = l * p->n_experts + p->layers[l].copy_of[i];
            rank[n] = p->layers[l].copy_rank[i];
        }
    return (struct expert_copies){n, cell, rank};
}

/* Does `rank` hold the expert of copy i already? */
static bool is_held(const struct layer_placement *l, const struct expert_copies *c, int i,
                    int expert)
{
    bool held = l->rank_of[expert] == c->rank[i];
    for (int j = i - 1; j >= 0 && c->cell[j] == c->cell[i]; j--)
        held = held || c->rank[j] == c->rank[i];
    return held;
}

static int check_copy(const struct placement *p, const struct expert_copies *c, int i)
{
    int64_t cells = (int64_t)p->n_layers * p->n_experts, least = i ? c->cell[i - 1] : 0;
    if (c->cell[i] < least || c->cell[i] >= cells)
        return fail(STATUS_FAILED, "placement: expected a copy of cell %lld to %lld, found %d",
                    (long long)least, (long long)cells - 1, c->cell[i]);
    int layer = c->cell[i] / p->n_experts, expert = c->cell[i] % p->n_experts;
    if (p->layers[layer].n == 0)
        return fail(STATUS_FAILED, "placement: expected no copies in dense layer %d, found one",
                    layer);
    if (c->rank[i] < 0 || c->rank[i] >= p->n_ranks || is_held(&p->layers[layer], c, i, expert))
        return fail(STATUS_FAILED,
                    "placement: expected another rank from 0 to %d for a copy of layer %d expert "
                    "%d, found %d",
                    p->n_ranks - 1, layer, expert, c->rank[i]);
    return 0;
}

int placement_add_copies(struct placement *p, struct arena *memory, const struct expert_copies *c)
{
    int status = 0;
    for (int i = 0; i < c->n && !status; i++)
        status = check_copy(p, c, i);
    for (int i = 0, n = 0; i < c->n && !status; i += n) {
        int layer = c->cell[i] / p->n_experts;
        struct layer_placement *l = &p->layers[layer];
        for (n = 0; i + n < c->n && c->cell[i + n] / p->n_experts == layer; n++)
            ;
        if (l->n + n > MAX_GROUPS)
            return fail(STATUS_FAILED,
                        "placement: expected at most %d copies of experts in layer %d, found %d",
                        MAX_GROUPS - l->n, layer, n);
        l->n_copies = n;
        l->copy_of = arena_alloc(memory, (size_t)n * sizeof *l->copy_of);
        l->copy_rank = arena_alloc(memory, (size_t)n * sizeof *l->copy_rank);
        for (int j = 0; j < n; j++) {
            l->copy_of[j] = c->cell[i + j] % p->n_experts;
            l->copy_rank[j] = c->rank[i + j];
        }
        layer_order(l, memory, p->n_ranks);
        p->n_copies += n;
        p->groups_most = l->n_groups > p->groups_most ? l->n_groups : p->groups_most;
    }
    return status;
}

/* ---- files ---- */

static void add_copy(struct copies_found *f, int cell, int32_t rank)
{
    if (f->n == f->room) {
        size_t used = (size_t)f->n * sizeof(int32_t);
        f->room = f->room ? 2 * f->room : 64;
        int32_t *lists = arena_alloc(f->memory, 2 * (size_t)f->room * sizeof *lists);
        if (used) {
            memcpy(lists, f->cell, used);
            memcpy(lists + f->room, f->rank, used);
        }
        f->cell = lists;
        f->rank = lists + f->room;
    }
    f->cell[f->n] = cell;
    f->rank[f->n++] = rank;
}

int copies_read(struct copies_found *f, int32_t *first, int cell, const struct js *list,
                const char *key)
{
    int begin = f->n, n = (int)js_count(list);
    if (n < 1 || n > f->n_ranks)
        return fail(STATUS_BAD_FILE,
                    "%s: %s: expected 1 to %d ranks that hold the expert, found %d", f->file, key,
                    f->n_ranks, n);
    for (int i = 0; i < n; i++) {
        const struct js *v = js_item(list, (size_t)i);
        if (!js_is_int(v) || js_int(v) < 0 || js_int(v) >= f->n_ranks)
            return fail(STATUS_BAD_FILE, "%s: %s[%d]: expected a rank from 0 to %d, found %s",
                        f->file, key, i, f->n_ranks - 1, found(v).text);
        int32_t rank = (int32_t)js_int(v);
        bool twice = i > 0 && *first == rank;
        for (int j = begin; j < f->n; j++)
            twice = twice || f->rank[j] == rank;
        if (twice)
            return fail(STATUS_BAD_FILE, "%s: %s[%d]: expected each rank once, found %d again",
                        f->file, key, i, rank);
        if (i > 0)
            add_copy(f, cell, rank);
        else
            *first = rank;
    }
    return 0;
}

void copies_write(FILE *out, const struct layer_placement *l, int block)
{
    int at = 0;
    while (at < l->n_copies && l->copy_of[at] < block)
        at++;
    int n = copies_from(l, at, block);
    fprintf(out, n ? "[%d" : "%d", l->rank_of[block]);
    for (int i = 0; i < n; i++)
        fprintf(out, ",%d", l->copy_rank[at + i]);
    fputs(n ? "]" : "", out);
}
