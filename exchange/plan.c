#include "exchange/plan.h"

#include <string.h>

#include "exchange/ends.h"

int plan_leaving_most(const struct exchange_limits *l, int ranks)
{
    return l->rows * l->top_k + (l->pieces ? (ranks - 1) * l->rows : 0);
}

void plan_open(struct plan *p, const struct exchange_setup *setup)
{
    const struct exchange_limits *l = &setup->limits;
    struct dev *d = setup->host;
    *p = (struct plan){.ranks = setup->transport ? setup->transport->size : 1,
                       .root = setup->root,
                       .dedup = setup->options.dedup == DEDUP_ON,
                       .sum = setup->options.combine == COMBINE_SUM};
    size_t ranks = (size_t)p->ranks;
    p->first = dev_alloc_host(d, (ranks + 1) * sizeof *p->first);
    p->sent = dev_alloc_host(d, ranks * sizeof *p->sent);
    p->back = dev_alloc_host(d, ranks * sizeof *p->back);
    p->leaving_first = dev_alloc_host(d, (ranks + 1) * sizeof *p->leaving_first);
    if (!setup->transport)
        return;
    p->leaving = dev_alloc(d, (size_t)plan_leaving_most(l, p->ranks) * sizeof *p->leaving);
    dedup_open(&p->map, d, l->rows, l->top_k);
    sums_open(&p->sums, d, l->rows, l->top_k);
}

/* How many slots a rank has. Alone, it has all of them; r->count is then in device memory, and is
 * not read. */
static int count_slots(const struct plan *p, const struct routing *r, int rank)
{
    int slots = 0;
    if (p->ranks == 1)
        return r->n * r->k;
    for (int g = r->layer.rank_first[rank]; g < r->layer.rank_first[rank + 1]; g++)
        slots += r->count[g];
    return slots;
}

/* Find the distinct rows of a rank's experts. With sum one row comes back for each of them, at the
 * rank's first slots, and is a term of the root's sum. */
static void share_rows(struct plan *p, const struct routing *r, int rank)
{
    int first = p->first[rank];
    int found = dedup_find(&p->map, rank, r->source, first, plan_slots(p, rank));
    if (p->dedup)
        p->sent[rank] = found;
    if (!p->sum)
        return;
    p->back[rank] = found;
    for (int i = 0; i < found; i++)
        sums_add(&p->sums, p->map.row[first + i], first + i, 1);
}

/* Find the distinct rows of all ranks. With sum, a row's terms are first its slots on the root, in
 * order, and then the sums of the other ranks, rank by rank. */
static void share_all(struct plan *p, const struct routing *r)
{
    dedup_reset(&p->map, r->n);
    if (p->sum) {
        sums_reset(&p->sums, r->n);
        sums_weigh(&p->sums, r->slot, r->weight, r->n * r->k);
        for (int slot = p->first[p->root]; slot < p->first[p->root + 1]; slot++)
            sums_add(&p->sums, r->source[slot], slot, p->sums.weight[slot]);
    }
    for (int rank = 0; rank < p->ranks; rank++)
        if (rank != p->root)
            share_rows(p, r, rank);
}

/* List the rows that leave for one rank, and return their number. A rank with pieces gets all rows:
 * with dedup these alone, without dedup after a row for each slot. */
static int list_leaving(struct plan *p, const struct routing *r, int rank, int32_t *list)
{
    bool all = layer_pieces(&r->layer, rank) > 0;
    int first = p->first[rank], n = p->dedup && all ? 0 : p->sent[rank];
    const int32_t *rows = p->dedup ? p->map.row : r->source;
    if (n)
        memcpy(list, rows + first, (size_t)n * sizeof *list);
    for (int row = 0; all && row < r->n; row++)
        list[n + row] = row;
    return all ? n + r->n : n;
}

static void list_all(struct plan *p, const struct routing *r)
{
    int at = 0;
    for (int rank = 0; rank < p->ranks; rank++) {
        p->leaving_first[rank] = at;
        if (rank != p->root)
            p->sent[rank] = list_leaving(p, r, rank, p->leaving + at);
        at += rank != p->root ? p->sent[rank] : 0;
    }
    p->leaving_first[p->ranks] = at;
}

void plan_make(struct plan *p, const struct routing *r)
{
    int slot = 0;
    p->routing = r;
    for (int rank = 0; rank < p->ranks; rank++) {
        p->first[rank] = slot;
        p->sent[rank] = p->back[rank] = count_slots(p, r, rank);
        slot += p->sent[rank];
    }
    p->first[p->ranks] = slot;
    if (p->ranks == 1)
        return;
    if (p->dedup || p->sum)
        share_all(p, r);
    list_all(p, r);
}
