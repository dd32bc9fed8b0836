/* Attention over the cache of keys and values (kv_block.h).
 *
 * Blocks of keys and values are packed matrices. So attention is, for each block in order of
 * position from 0, two products and a step of online softmax. Keys after a query's position get
 * probability 0. Their values are multiplied by 0, so they must be finite: a block of values is
 * cleared when its first position is written. Queries that share keys are worked on together, a
 * tile at a time. A query skips the blocks that lie wholly after its position, so its arithmetic is
 * the same in any tile.
 *
 * Every SPAN positions from 0 on the sums begin anew, and the spans' sums are added up in order.
 * So where there are fewer tiles than threads want, a tile's spans can go to different threads, and
 * the result is the same bits. */
#include <math.h>
#include <omp.h>

#include "base/check.h"
#include "base/pulse.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/kv_block.h"

enum {
    TILE = 32,
    SPAN_BLOCKS = 8,
    SPAN = SPAN_BLOCKS * KV_BLOCK,
    PARTS = 16 // for each thread so many sums of a span fit into the scratch
};

static int padded(int head_dim)
{
    return panel_count(head_dim) * PANEL;
}

size_t cpu_kv_block_bytes(enum dtype type, int n_kv_heads, int head_dim)
{
    return (size_t)n_kv_heads * (size_t)(KV_BLOCK / PANEL) * panel_bytes(type, head_dim);
}

/* The softmax sums of a tile's queries over some keys: out [TILE][padded(head_dim)] is the sum of
 * exp(s - max) v, and sum that of exp(s - max). */
struct sums {
    float max[TILE], sum[TILE];
    float out[];
};

static size_t sums_bytes(int head_dim)
{
    return sizeof(struct sums) + TILE * (size_t)row_stride(head_dim) * sizeof(float);
}

/* Room for queries [TILE][row_stride(head_dim)], then for two sums: of all spans so far, and of one
 * span. */
static size_t own_scratch_bytes(enum dtype type, int head_dim)
{
    return TILE * row_bytes(type, head_dim) + 2 * sums_bytes(head_dim);
}

/* Each thread has a part of its own; after all of these there are PARTS sums for each thread, which
 * the threads share. */
size_t attention_scratch_bytes(enum dtype type, int head_dim)
{
    return own_scratch_bytes(type, head_dim) + PARTS * sums_bytes(head_dim);
}

char *attention_scratch(const struct dev *d, const struct kv_layer *kv, int thread)
{
    size_t need = (size_t)d->threads * attention_scratch_bytes(kv->type, kv->head_dim);
    CHECK(need <= d->scratch_bytes, "%zu bytes of %zu", need, d->scratch_bytes);
    return (char *)d->scratch + (size_t)thread * own_scratch_bytes(kv->type, kv->head_dim);
}

/* The queries of rows [first, first + rows) and heads [head, head + heads). They are of one
 * sequence and share one kv head, and positions ascend. Query i is of row first + i / heads and
 * head head + i % heads. */
struct tile {
    int first, rows, head, heads, kv_head;
};

struct attention_call {
    const struct dev *d;
    const struct kv_layer *kv;
    const struct positions *at;
    const char *q;
    char *a;
    int n, n_heads;
    int group, heads; // query heads that share a kv head; how many of them are in one tile
    int tiles, items; // tiles of rows; items: tiles for some heads
    int spans;        // that items are divided into; 1: they are not
    char *parts;      // [items][spans] the sums of each
    int next, merged; // the first item that no thread has taken; the first that is not added up
};

static int tile_rows(const struct attention_call *c, int first)
{
    const struct positions *at = c->at;
    int rows = 1, most = TILE / c->heads;
    for (int i = first + 1; i < c->n && rows < most; i++, rows++)
        if (at->seq[i] != at->seq[first] || at->pos[i] < at->pos[i - 1])
            break;
    return rows;
}

static int tile_count(const struct attention_call *c)
{
    int count = 0;
    for (int first = 0; first < c->n; first += tile_rows(c, first))
        count++;
    return count;
}

static int position(const struct attention_call *c, const struct tile *t, int query)
{
    return c->at->pos[t->first + query / t->heads];
}

static char *query_at(const struct attention_call *c, const struct tile *t, int query)
{
    size_t row = (size_t)(t->first + query / t->heads);
    size_t head = (size_t)(t->head + query % t->heads);
    return (char *)c->q +
           (row * (size_t)c->n_heads + head) * row_bytes(c->kv->type, c->kv->head_dim);
}

/* Add one block of keys and values to the sums of queries [skip, queries). Earlier queries are at
 * positions before the block. */
static void attend_block(const struct attention_call *c, const struct tile *t, int block, int skip,
                         int queries, const char *q, struct sums *sums)
{
    const struct kv_layer *kv = c->kv;
    const struct cpu_isa *isa = c->d->cpu;
    int stride = row_stride(kv->head_dim), width = padded(kv->head_dim);
    size_t at = block_at(kv, c->at->seq[t->first], block);
    at += (size_t)t->kv_head * head_block_bytes(kv);
    float s[TILE * KV_BLOCK] __attribute__((aligned(64)));
    float p[TILE * KV_BLOCK] __attribute__((aligned(64))); // large enough for any type
    float *out = sums->out + (size_t)skip * (size_t)width;

    int rows = queries - skip;
    size_t q_bytes = row_bytes(kv->type, kv->head_dim), p_bytes = row_bytes(kv->type, KV_BLOCK);
    isa->tile[kv->type](s, KV_BLOCK, q + (size_t)skip * q_bytes, (size_t)stride,
                        (const char *)kv->k + at, KV_BLOCK / PANEL, rows, stride, false);
    for (int i = 0; i < rows; i++) {
        int seen = position(c, t, skip + i) - block * KV_BLOCK + 1;
        float rescale = isa->softmax_block((char *)p + (size_t)i * p_bytes, kv->type,
                                           s + i * KV_BLOCK, seen < KV_BLOCK ? seen : KV_BLOCK,
                                           &sums->max[skip + i], &sums->sum[skip + i]);
        if (rescale != 1)
            isa->scale(out + (size_t)i * (size_t)width, rescale, width);
    }
    isa->tile[kv->type](out, width, p, KV_BLOCK, (const char *)kv->v + at, width / PANEL, rows,
                        KV_BLOCK, true);
}

/* The first query of the tile at or after a position. */
static int first_from(const struct attention_call *c, const struct tile *t, int from)
{
    int query = 0, queries = t->rows * t->heads;
    while (query < queries && position(c, t, query) < from)
        query++;
    return query;
}

static int spans_of(const struct attention_call *c, const struct tile *t)
{
    return position(c, t, t->rows * t->heads - 1) / SPAN + 1;
}

/* The sums over the keys of one span. Queries before the span have none. */
static void attend_span(const struct attention_call *c, const struct tile *t, int span,
                        const char *q, struct sums *sums)
{
    int queries = t->rows * t->heads, width = padded(c->kv->head_dim);
    int last = position(c, t, queries - 1) / KV_BLOCK, end = (span + 1) * SPAN_BLOCKS;
    for (int i = 0; i < queries; i++) {
        sums->max[i] = -INFINITY;
        sums->sum[i] = 0;
    }
    memset(sums->out, 0, (size_t)queries * (size_t)width * sizeof *sums->out);
    for (int block = span * SPAN_BLOCKS; block <= last && block < end; block++) {
        attend_block(c, t, block, first_from(c, t, block * KV_BLOCK), queries, q, sums);
        pulse();
    }
}

/* Add the sums of a later span, [skip, queries): both are brought to the greater of their maxima.
 */
static void merge(const struct attention_call *c, const struct tile *t, int span, struct sums *all,
                  const struct sums *part)
{
    const struct cpu_isa *isa = c->d->cpu;
    int width = padded(c->kv->head_dim);
    for (int i = first_from(c, t, span * SPAN); i < t->rows * t->heads; i++) {
        float max = all->max[i] > part->max[i] ? all->max[i] : part->max[i], a, b;
        size_t at = (size_t)i * (size_t)width;
        isa->exp_row(&a, &all->max[i], max, 1);
        isa->exp_row(&b, &part->max[i], max, 1);
        all->max[i] = max;
        all->sum[i] = all->sum[i] * a + part->sum[i] * b;
        isa->scale(all->out + at, a, width);
        isa->add_scaled(all->out + at, part->out + at, DTYPE_F32, b, width);
    }
}

/* a := out / sum. Adding 0 turns -0 into +0: the sign of a zero could depend on masked keys. */
static void write_rows(const struct attention_call *c, const struct tile *t, struct sums *sums)
{
    int hd = c->kv->head_dim, all = c->n_heads * hd, width = padded(hd);
    size_t size = (size_t)dtype_bytes(c->kv->type), bytes = row_bytes(c->kv->type, all);
    float *o = sums->out;
    for (int i = 0; i < t->rows * t->heads; i++, o += width) {
        for (int j = 0; j < hd; j++)
            o[j] = o[j] / sums->sum[i] + 0.0f;
        char *a = c->a + (size_t)(t->first + i / t->heads) * bytes;
        int head = t->head + i % t->heads;
        c->d->cpu->store(a + (size_t)(head * hd) * size, c->kv->type, o, hd);
        if (head == c->n_heads - 1)
            memset(a + (size_t)all * size, 0, bytes - (size_t)all * size);
    }
}

/* The tile's queries beside each other, at the beginning of the scratch. */
static const char *gather_queries(const struct attention_call *c, const struct tile *t,
                                  char *scratch)
{
    size_t q_bytes = row_bytes(c->kv->type, c->kv->head_dim);
    for (int i = 0; i < t->rows * t->heads; i++)
        memcpy(scratch + (size_t)i * q_bytes, query_at(c, t, i), q_bytes);
    return scratch;
}

static void attend(const struct attention_call *c, const struct tile *t, char *scratch)
{
    const char *q = gather_queries(c, t, scratch);
    char *after = scratch + TILE * row_bytes(c->kv->type, c->kv->head_dim);
    struct sums *all = (void *)after, *part = (void *)(after + sums_bytes(c->kv->head_dim));
    attend_span(c, t, 0, q, all);
    for (int span = 1, spans = spans_of(c, t); span < spans; span++) {
        attend_span(c, t, span, q, part);
        merge(c, t, span, all, part);
    }
    write_rows(c, t, all);
}

/* Where a thread is in the list of tiles: tile number `tile` begins at row `first`. */
struct place {
    int tile, first;
};

/* Item `number`: a tile for some heads. Items are numbered head by head, so that a head's keys stay
 * in the cache while its tiles are worked on. */
static struct tile tile_of(const struct attention_call *c, int number, struct place *at)
{
    int which = number % c->tiles, parts = (c->group + c->heads - 1) / c->heads;
    int kv_head = number / c->tiles / parts, begin = number / c->tiles % parts * c->heads;
    int left = c->group - begin;
    if (which < at->tile)
        *at = (struct place){0, 0};
    for (; at->tile < which; at->tile++)
        at->first += tile_rows(c, at->first);
    return (struct tile){at->first, tile_rows(c, at->first), kv_head * c->group + begin,
                         left < c->heads ? left : c->heads, kv_head};
}

static struct sums *part_at(const struct attention_call *c, int number)
{
    return (void *)(c->parts + (size_t)number * sums_bytes(c->kv->head_dim));
}

static void attend_part(const struct attention_call *c, int number, struct place *at, char *scratch)
{
    struct tile t = tile_of(c, number / c->spans, at);
    if (number % c->spans < spans_of(c, &t))
        attend_span(c, &t, number % c->spans, gather_queries(c, &t, scratch), part_at(c, number));
}

static void merge_parts(const struct attention_call *c, int item, struct place *at)
{
    struct tile t = tile_of(c, item, at);
    struct sums *all = part_at(c, item * c->spans);
    for (int span = 1, spans = spans_of(c, &t); span < spans; span++)
        merge(c, &t, span, all, part_at(c, item * c->spans + span));
    write_rows(c, &t, all);
}

/* What each thread of the team does: take items, or their spans, until none is left; when all spans
 * are there, add them up. */
static void attention_run(struct attention_call *c, int thread)
{
    char *scratch = attention_scratch(c->d, c->kv, thread);
    struct place at = {0, 0};
    int number;
    while ((number = __atomic_fetch_add(&c->next, 1, __ATOMIC_RELAXED)) < c->items * c->spans)
        if (c->spans > 1) {
            attend_part(c, number, &at, scratch);
        } else {
            struct tile t = tile_of(c, number, &at);
            attend(c, &t, scratch);
        }
    if (c->spans == 1)
        return;
#pragma omp barrier
    while ((number = __atomic_fetch_add(&c->merged, 1, __ATOMIC_RELAXED)) < c->items)
        merge_parts(c, number, &at);
}

/* Divide items into spans where there are fewer than 4 for each thread, and room for all sums. */
static void choose_spans(struct attention_call *c, int threads)
{
    int longest = 0, parts = (c->group + c->heads - 1) / c->heads;
    for (int i = 0; i < c->n; i++)
        longest = c->at->pos[i] > longest ? c->at->pos[i] : longest;
    c->tiles = tile_count(c);
    c->items = c->kv->n_kv_heads * parts * c->tiles;
    c->spans = longest / SPAN + 1;
    c->parts = attention_scratch(c->d, c->kv, c->d->threads);
    if (threads == 1 || c->items >= 4 * threads || c->items > PARTS * c->d->threads / c->spans)
        c->spans = 1;
}

void cpu_attention(struct dev *d, void *a, const void *q, const struct kv_layer *kv,
                   const struct positions *at, int n, int n_heads)
{
    int group = n_heads / kv->n_kv_heads;
    struct attention_call call = {.d = d,
                                  .kv = kv,
                                  .at = at,
                                  .q = q,
                                  .a = a,
                                  .n = n,
                                  .n_heads = n_heads,
                                  .group = group,
                                  .heads = group < TILE ? group : TILE};
    double cost = 0;
    for (int i = 0; i < n; i++)
        cost += (double)(at->pos[i] + 1) * n_heads * kv->head_dim / 2;
    int threads = team_size(d, cost);
    choose_spans(&call, threads);
    if (threads == 1) {
        attention_run(&call, 0);
        return;
    }
#pragma omp parallel num_threads(threads)
    attention_run(&call, omp_get_thread_num());
}
