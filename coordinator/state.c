#include "coordinator/state.h"

#include <stddef.h>
#include <string.h>

#include "model/pieces.h"

/* What a buffer has one entry for. The second half of a step has no buffers of the kinds after
 * STEP. */
enum unit {
    EACH_ROW,
    EACH_ROW_OR_LOGIT,
    EACH_PAIR,
    EACH_PIECE_ROW,
    EACH_HALF,
    STEP,
    EACH_LOGIT,
    BATCH_ROW
};

/* Which memory a buffer is in. With BOTH the host has a copy; otherwise the host's pointer is the
 * device's. */
enum memory {
    DEVICE,
    BOTH,
    BOTH_IF_ROWS_TRAVEL,
    BOTH_IF_ROWS_ARE_COPIED,  // rows travel from the host's memory
    DEVICE_IF_ROWS_ARE_COPIED // and only a GPU has the buffer
};

struct buffer {
    size_t device, host; // offsets of the pointers in struct state; NOWHERE: there is none
    enum unit unit;
    size_t bytes; // of an entry
    enum memory memory;
};

enum { BUFFERS = 19 };

#define AT(field)     offsetof(struct state, field)
#define NOWHERE       SIZE_MAX
#define FLOATS(width) ((size_t)(width) * sizeof(float))

/* Every buffer of a step. A pair is a row and one of its experts; every row has one of each piece.
 */
static void list_buffers(struct buffer list[BUFFERS], const struct config *m, enum dtype type,
                         int groups)
{
    size_t element = (size_t)dtype_bytes(type), row = (size_t)row_stride(m->dim) * element;
    size_t q = (size_t)m->n_heads * (size_t)row_stride(m->head_dim) * element;
    size_t a = (size_t)row_stride(m->n_heads * m->head_dim) * element, id = sizeof(int32_t);
    int qkv = (m->n_heads + 2 * m->n_kv_heads) * m->head_dim;
    const struct buffer all[BUFFERS] = {
        {AT(x), NOWHERE, EACH_ROW, FLOATS(m->dim), DEVICE},
        {AT(h), AT(host.h), EACH_ROW_OR_LOGIT, row, BOTH_IF_ROWS_ARE_COPIED},
        {AT(qkv), NOWHERE, EACH_ROW, FLOATS(qkv), DEVICE},
        {AT(q), NOWHERE, EACH_ROW, q, DEVICE},
        {AT(a), NOWHERE, EACH_ROW, a, DEVICE},
        {AT(scores), NOWHERE, EACH_ROW, FLOATS(m->n_experts + 1), DEVICE},
        {AT(z), AT(host.z), EACH_PIECE_ROW, FLOATS(row_stride(m->dim)), BOTH_IF_ROWS_ARE_COPIED},
        {AT(seen), NOWHERE, EACH_ROW, row, DEVICE_IF_ROWS_ARE_COPIED},
        {AT(y), AT(host.y), EACH_PAIR, row, BOTH_IF_ROWS_ARE_COPIED},
        {AT(expert), AT(host.expert), EACH_PAIR, id, BOTH_IF_ROWS_TRAVEL},
        {AT(slot), AT(host.slot), EACH_PAIR, id, BOTH_IF_ROWS_TRAVEL},
        {AT(source), AT(host.source), EACH_PAIR, id, BOTH_IF_ROWS_TRAVEL},
        {AT(weight), AT(host.weight), EACH_PAIR, FLOATS(1), BOTH_IF_ROWS_TRAVEL},
        {AT(count), AT(host.count), EACH_HALF, (size_t)groups * id, BOTH_IF_ROWS_TRAVEL},
        {AT(hit), AT(hit_host), STEP, sizeof(uint64_t), BOTH},
        {AT(picked), NOWHERE, EACH_LOGIT, FLOATS(m->dim), DEVICE},
        {AT(logits), AT(logits_host), EACH_LOGIT, FLOATS(m->vocab_size), BOTH},
        {AT(picks), AT(picks_host), EACH_LOGIT, id, BOTH},
        {AT(inputs), AT(inputs_host), BATCH_ROW, 3 * id, BOTH},
    };
    memcpy(list, all, sizeof all);
}

static int groups_of(const struct config *m, const struct state_limits *limits)
{
    return limits->groups > m->n_experts ? limits->groups : m->n_experts;
}

static size_t pairs_of(const struct config *m, size_t rows)
{
    return rows * (size_t)(m->n_experts ? m->top_k : 0);
}

static size_t bytes_of(const struct buffer *b, const struct config *m,
                       const struct state_limits *limits)
{
    size_t n = (size_t)limits->rows, wanted = (size_t)limits->logit_rows;
    const size_t entries[] = {
        [EACH_ROW] = n,
        [EACH_ROW_OR_LOGIT] = n > wanted ? n : wanted,
        [EACH_PAIR] = pairs_of(m, n),
        [EACH_PIECE_ROW] = n * (size_t)pieces_most(m),
        [EACH_HALF] = 2,
        [STEP] = 1,
        [EACH_LOGIT] = wanted,
        [BATCH_ROW] = n,
    };
    return entries[b->unit] * b->bytes;
}

static bool are_copied(const struct state_limits *limits)
{
    return limits->travels && !limits->direct;
}

static bool is_on_both(const struct buffer *b, const struct state_limits *limits)
{
    return b->memory == BOTH || (b->memory == BOTH_IF_ROWS_TRAVEL && limits->travels) ||
           (b->memory == BOTH_IF_ROWS_ARE_COPIED && are_copied(limits));
}

/* The pointers in struct state have several types, so they are read and written as bytes. */
static void set_pointer(struct state *s, size_t at, void *value)
{
    if (at != NOWHERE)
        memcpy((char *)s + at, &value, sizeof value);
}

static char *get_pointer(const struct state *s, size_t at)
{
    char *value;
    memcpy(&value, (const char *)s + at, sizeof value);
    return value;
}

static void open_buffer(struct state *s, struct dev *d, const struct buffer *b, size_t bytes,
                        bool both)
{
    void *host = both ? dev_alloc_host(d, bytes) : NULL;
    void *device = both ? dev_alloc_copy(d, host, bytes) : dev_alloc(d, bytes);
    set_pointer(s, b->device, device);
    set_pointer(s, b->host, both ? host : device);
}

void state_open(struct state *s, struct dev *d, const struct config *m, enum dtype type,
                const struct state_limits *limits)
{
    struct buffer list[BUFFERS];
    list_buffers(list, m, type, groups_of(m, limits));
    *s = (struct state){.groups = groups_of(m, limits)};
    for (int i = 0; i < BUFFERS; i++) {
        const struct buffer *b = &list[i];
        if (b->memory != DEVICE_IF_ROWS_ARE_COPIED || (are_copied(limits) && d->cuda))
            open_buffer(s, d, b, bytes_of(b, m, limits), is_on_both(b, limits));
    }
}

/* About what dev_reserve() takes: the hidden rows of an ffn; with quantised weights also these rows
 * and the ffn's inputs quantised, at 5/4 byte an element. */
static uint64_t scratch_bytes(const struct config *m, struct precision p, int rows)
{
    uint64_t k = m->n_experts ? (uint64_t)m->top_k : 0, n = (uint64_t)rows;
    uint64_t experts = k * (uint64_t)row_stride(m->expert_dim);
    uint64_t pieces = (uint64_t)pieces_most(m) * (uint64_t)pieces_widest(m);
    uint64_t inputs = (k + 1) * (uint64_t)row_stride(m->dim);
    uint64_t quantised = is_quantised(&p) ? n * (experts + pieces + inputs) * 5 / 4 : 0;
    return n * (experts + pieces) * (uint64_t)dtype_bytes(p.type) + quantised;
}

uint64_t state_bytes(const struct config *m, struct precision p, const struct state_limits *limits)
{
    struct buffer list[BUFFERS];
    uint64_t sum = scratch_bytes(m, p, limits->rows);
    list_buffers(list, m, p.type, groups_of(m, limits));
    for (int i = 0; i < BUFFERS; i++)
        if (list[i].memory != DEVICE_IF_ROWS_ARE_COPIED || are_copied(limits))
            sum += bytes_of(&list[i], m, limits);
    return sum;
}

struct state state_second_half(const struct state *s, const struct config *m, enum dtype type,
                               int first)
{
    struct buffer list[BUFFERS];
    struct state half = {.groups = s->groups};
    size_t n = (size_t)first;
    const size_t entries[] = {
        // of the first half
        [EACH_ROW] = n,
        [EACH_ROW_OR_LOGIT] = n,
        [EACH_PAIR] = pairs_of(m, n),
        [EACH_PIECE_ROW] = n * (size_t)pieces_most(m),
        [EACH_HALF] = 1,
        [STEP] = 0,
    };
    list_buffers(list, m, type, s->groups);
    for (int i = 0; i < BUFFERS; i++) {
        const struct buffer *b = &list[i];
        if (b->unit > STEP || !get_pointer(s, b->device))
            continue;
        size_t skip = entries[b->unit] * b->bytes;
        set_pointer(&half, b->device, get_pointer(s, b->device) + skip);
        if (b->host != NOWHERE)
            set_pointer(&half, b->host, get_pointer(s, b->host) + skip);
    }
    return half;
}
