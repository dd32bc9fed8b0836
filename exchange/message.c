#include "exchange/message.h"

#include <string.h>

#include "base/log.h"

static size_t align(size_t bytes)
{
    return (bytes + MESSAGE_ALIGN - 1) / MESSAGE_ALIGN * MESSAGE_ALIGN;
}

struct message_form message_form(const struct exchange_options *o, const struct exchange_limits *l,
                                 bool apart)
{
    return (struct message_form){.dedup = o->dedup == DEDUP_ON,
                                 .sum = o->combine == COMBINE_SUM,
                                 .apart = apart,
                                 .rounds = o->strategy == STRATEGY_PADDED,
                                 .experts = l->experts,
                                 .row_bytes = wire_row_bytes(o->wire, l->type, l->width)};
}

struct layout message_layout(const struct message_form *f, int n_experts, int slots, int rows,
                             bool all)
{
    size_t list = (size_t)slots * sizeof(int32_t);
    bool index = f->dedup || f->sum, two = f->dedup && f->sum && all;
    struct layout at = {.count = sizeof(struct message_header)};
    at.index = at.count + (size_t)n_experts * sizeof(int32_t);
    at.sum = at.index + (two ? list : 0);
    at.weight = at.sum + (index ? list : 0);
    at.rows = align(at.weight + (f->sum ? (size_t)slots * sizeof(float) : 0));
    at.bytes = align(at.rows + (f->apart ? 0 : (size_t)rows * f->row_bytes));
    return at;
}

struct layout allgather_layout(const struct message_form *f, int n, int k)
{
    size_t pairs = (size_t)n * (size_t)k;
    struct layout at = {.count = sizeof(struct message_header)};
    at.weight = at.count + pairs * sizeof(int32_t);
    at.rows = align(at.weight + (f->sum ? pairs * sizeof(float) : 0));
    at.bytes = align(at.rows + (f->apart ? 0 : (size_t)n * f->row_bytes));
    return at;
}

/* The sum of the counts, or -1 when one is negative or all are more than `most`. */
static int64_t total_of(const int32_t *count, int n, int most)
{
    int64_t total = 0;
    for (int e = 0; e < n; e++) {
        if (count[e] < 0)
            return -1;
        total += count[e];
    }
    return total <= most ? total : -1;
}

static int check_index(const int32_t *index, int n, int end)
{
    for (int i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= end)
            return fail(STATUS_FAILED, "dispatch: expected rows below %d, found %d", end, index[i]);
    return 0;
}

/* Every strategy but STRATEGY_PADDED has one round, and one back. */
static int check_rounds(const struct message_form *f, const struct message_header *header)
{
    if (f->rounds || (header->rounds == 1 && header->rounds_back == 1))
        return 0;
    return fail(STATUS_FAILED, "dispatch: expected 1 round and 1 back, found %d, %d",
                header->rounds, header->rounds_back);
}

/* How many rows must come. A rank with pieces gets all rows of the step. Without dedup there is
 * also a row for each slot. With dedup and without pieces the distinct rows of its experts come,
 * whose number is not known before: -1. */
static int rows_expected(const struct message_form *f, const struct expected *known, int slots)
{
    int all = known->pieces ? known->n : 0;
    if (f->dedup)
        return all ? all : -1;
    return slots + all;
}

/* Check that the header agrees with the counts and the options. */
static int check_header(const struct message_form *f, const struct message_header *header,
                        int slots, const struct expected *known)
{
    int most = slots < known->n ? slots : known->n, expected = rows_expected(f, known, slots);
    bool rows = expected < 0 ? header->rows >= 0 && header->rows <= most : header->rows == expected;
    bool back = f->sum ? header->back >= 0 && header->back <= most : header->back == slots;
    if (!rows || !back || (expected < 0 && f->sum && header->rows != header->back))
        return fail(STATUS_FAILED, "dispatch: %d places of %d rows: found %d rows to give %d for",
                    slots, known->n, header->rows, header->back);
    return check_rounds(f, header);
}

/* Read the header and the counts, and check that they agree; *slots := the sum of the counts. */
static int check_counts(const struct message_form *f, const char *message, size_t bytes,
                        const struct expected *known, struct message_header *header, int *slots)
{
    struct layout at = message_layout(f, known->experts, 0, 0, false);
    if (bytes < at.index)
        return fail(STATUS_FAILED, "dispatch: expected %d counts, found %zu bytes", known->experts,
                    bytes);
    memcpy(header, message, sizeof *header);
    const int32_t *count = (const int32_t *)(const void *)(message + at.count);
    int64_t total = total_of(count, known->experts, known->n * known->k);
    if (total < 0)
        return fail(STATUS_FAILED, "dispatch: expected counts of up to %d rows in all, found more",
                    known->n * known->k);
    *slots = (int)total;
    return check_header(f, header, *slots, known);
}

int message_unpack(struct dispatch *d, const struct message_form *f, const char *message,
                   size_t bytes, const struct expected *known)
{
    struct message_header header;
    int slots = 0, status = check_counts(f, message, bytes, known, &header, &slots);
    if (status)
        return status;
    struct layout at = message_layout(f, known->experts, slots, header.rows, known->pieces > 0);
    if (bytes < at.bytes || (bytes > at.bytes && !message_is_cut(f)))
        return fail(STATUS_FAILED, "dispatch: expected %zu bytes of %d rows, found %zu", at.bytes,
                    header.rows, bytes);
    const int32_t *index = (const int32_t *)(const void *)(message + at.index);
    const int32_t *sum_of = (const int32_t *)(const void *)(message + at.sum);
    *d = (struct dispatch){.n_slots = slots,
                           .count = (const int32_t *)(const void *)(message + at.count),
                           .source = f->dedup ? index : NULL,
                           .sum_of = sum_of,
                           .weight = (const float *)(const void *)(message + at.weight),
                           .rows = f->apart ? NULL : message + at.rows,
                           .n_rows = header.rows,
                           .n_back = header.back,
                           .all = f->dedup ? 0 : slots,
                           .n_piece_rows = known->pieces * known->n};
    if (f->dedup)
        status = check_index(index, slots, header.rows);
    if (!status && f->sum)
        status = check_index(sum_of, slots, header.back);
    return status;
}

static int check_routing(const struct message_form *f, const int32_t *expert, int n)
{
    for (int i = 0; i < n; i++)
        if (expert[i] < 0 || expert[i] >= f->experts)
            return fail(STATUS_FAILED, "dispatch: expected experts below %d, found %d", f->experts,
                        expert[i]);
    return 0;
}

int allgather_check(const struct message_form *f, const char *message, size_t bytes,
                    const struct expected *known, const int32_t **expert, const float **weight)
{
    struct layout at = allgather_layout(f, known->n, known->k);
    struct message_header header;
    if (bytes != at.bytes)
        return fail(STATUS_FAILED, "dispatch: expected %d rows in %zu bytes, found %zu bytes",
                    known->n, at.bytes, bytes);
    memcpy(&header, message, sizeof header);
    if (header.rows != known->n || header.back != 0)
        return fail(STATUS_FAILED, "dispatch: expected %d rows and 0 to give back, found %d and %d",
                    known->n, header.rows, header.back);
    int status = check_rounds(f, &header);
    *expert = (const int32_t *)(const void *)(message + at.count);
    *weight = (const float *)(const void *)(message + at.weight);
    return status ? status : check_routing(f, *expert, known->n * known->k);
}
