/* Any bytes as a dispatch to a worker: accepted if and only if docs/protocol.md says so, and then
 * as many results come back as it asks for.
 *   byte 0 the options, byte 1 the rows of the step, byte 2 how the last round ends, then the
 *   message; padded: cut into rounds, as many as there are bytes for. */
#include "base/check.h"
#include "tests/rig/exchange_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 3, MOST_BYTES = 1 << 13 };

static struct exchange_options options_of(uint8_t byte)
{
    return (struct exchange_options){(enum strategy)(byte % 3), (enum combine)(byte / 3 % 2),
                                     (enum dedup)(byte / 6 % 2), (enum wire)(byte / 12 % 3),
                                     OVERLAP_OFF};
}

/* A message as the worker will have put it together. */
struct said {
    const struct exchange_options *o;
    const char *bytes;
    size_t size;
    int n;
};

static int32_t word(const struct said *m, size_t at)
{
    int32_t value;
    memcpy(&value, m->bytes + at, sizeof value);
    return value;
}

/* ---- what docs/protocol.md says ---- */

static bool routing_is_valid(const struct said *m)
{
    if (m->size != rig_allgather_bytes(m->o, m->n) || word(m, 0) != m->n || word(m, 4) != 0 ||
        word(m, 8) != 1 || word(m, 12) != 1)
        return false;
    for (int i = 0; i < m->n * K; i++)
        if (word(m, 16 + 4 * (size_t)i) < 0 || word(m, 16 + 4 * (size_t)i) >= EXPERTS)
            return false;
    return true;
}

/* The index of each place: a row that was sent, or a sum, of at most K places. */
static bool index_is_valid(const struct said *m, int places)
{
    int32_t end = word(m, m->o->dedup == DEDUP_ON ? 0 : 4);
    int often[MOST_ROWS * K] = {0};
    for (int p = 0; p < places; p++) {
        int32_t at = word(m, 16 + 4 * OWN + 4 * (size_t)p);
        if (at < 0 || at >= end || (m->o->combine == COMBINE_SUM && ++often[at] > K))
            return false;
    }
    return true;
}

static bool rows_are_valid(const struct said *m, int places)
{
    int32_t rows = word(m, 0), back = word(m, 4), most = rig_least(places, m->n);
    bool dedup = m->o->dedup == DEDUP_ON, sum = m->o->combine == COMBINE_SUM;
    return (dedup ? rows >= 0 && rows <= most : rows == places) &&
           (sum ? back >= 0 && back <= most : back == places) && (!dedup || !sum || rows == back);
}

/* The header and the counts: the places, or -1. */
static int places_of(const struct said *m)
{
    int64_t places = 0;
    if (m->size < 16 + 4 * OWN)
        return -1;
    for (size_t e = 0; e < OWN; e++) {
        if (word(m, 16 + 4 * e) < 0)
            return -1;
        places += word(m, 16 + 4 * e);
    }
    return places <= m->n * K ? (int)places : -1;
}

static bool share_is_valid(const struct said *m)
{
    int places = places_of(m);
    bool padded = m->o->strategy == STRATEGY_PADDED;
    if (places < 0 || !rows_are_valid(m, places))
        return false;
    size_t wanted = rig_message_bytes(m->o, OWN, places, word(m, 0));
    if (padded ? m->size < wanted : m->size != wanted || word(m, 8) != 1 || word(m, 12) != 1)
        return false;
    bool index = m->o->dedup == DEDUP_ON || m->o->combine == COMBINE_SUM;
    return !index || index_is_valid(m, places);
}

static bool is_valid(const struct said *m)
{
    return m->o->strategy == STRATEGY_ALLGATHER ? routing_is_valid(m) : share_is_valid(m);
}

/* ---- giving back ---- */

/* Results in rows: of an allgather what the routing says, else what the header asks for. */
static int rows_back(const struct said *m)
{
    bool met[MOST_ROWS] = {false};
    int back = 0;
    if (m->o->strategy != STRATEGY_ALLGATHER)
        return word(m, 4);
    for (int i = 0; i < m->n * K; i++) {
        int32_t expert = word(m, 16 + 4 * (size_t)i);
        if (expert < 1 || expert > OWN || (m->o->combine == COMBINE_SUM && met[i / K]))
            continue;
        met[i / K] = true;
        back++;
    }
    return back;
}

static void check_back(struct rig *r, const struct said *m, const struct exchange_work *work)
{
    static char rows[1 << 16];
    int32_t total = 0;
    size_t bytes = (size_t)rows_back(m) * rig_row_bytes(m->o), got = 0;
    for (int e = 0; e < OWN; e++)
        total += work->count[e];
    CHECK(total == work->n && total <= m->n * K, "%d pairs of %d", work->n, total);
    rig_give_back(work);
    CHECK(worker_end_return(r->worker[0]) == 0, "%s", error_text());
    transport_drop(&r->ends[0]); // rounds that the worker was not to read
    rig_say_end(r, 1, 0);
    for (long n; (n = rig_take(r, 0, 1, rows + got, sizeof rows - got)) >= 0;)
        got += (size_t)n;
    if (m->o->strategy == STRATEGY_PADDED)
        CHECK(got >= bytes && got % rig_round_of(m->o, m->n).back == 0, "%zu of %zu", got, bytes);
    else
        CHECK(got == bytes, "%zu bytes came back, not %zu", got, bytes);
}

/* ---- one input ---- */

/* Padded: as many rounds as the bytes are for, the last filled up if it may be. `said` becomes what
 * the header's rounds make of it; false when the worker is to refuse, or wait for more. */
static bool offer_rounds(struct rig *r, char *bytes, struct said *m, bool fill)
{
    struct rig_round round = rig_round_of(m->o, m->n);
    size_t sent = 0, whole = m->size / round.out;
    for (; sent < whole; sent++)
        rig_send(r, 0, 1, bytes + sent * round.out, round.out);
    size_t rest = m->size - whole * round.out;
    if (rest) {
        rig_send(r, 0, 1, bytes + sent * round.out, fill ? round.out : rest);
        whole += fill;
    }
    if (!whole)
        return false;
    int32_t rounds = word(m, 8), back = word(m, 12);
    m->size = (size_t)(rounds < 0 ? 0 : rounds) * round.out;
    size_t needs = (size_t)(word(m, 4) < 0 ? 0 : word(m, 4)) * rig_row_bytes(m->o);
    return rounds >= 1 && (size_t)rounds <= whole && back >= rig_rounds(needs, round.back);
}

static void offer(struct rig *r, char *bytes, struct said *m, bool fill, bool *good)
{
    *good = true;
    if (m->o->strategy == STRATEGY_PADDED)
        *good = offer_rounds(r, bytes, m, fill);
    else
        rig_send(r, 0, 1, bytes, m->size);
    rig_say_end(r, 0, 1);
    *good = *good && is_valid(m);
}

/* How many rounds a worker takes at most is its own affair, as long as they are enough. */
static bool may_refuse_rounds(const struct said *m)
{
    struct rig_round round = rig_round_of(m->o, m->n);
    int most = rig_rounds(rig_message_bytes(m->o, OWN, m->n * K, m->n * K), round.out);
    int most_back = rig_rounds((size_t)(m->n * K) * rig_row_bytes(m->o), round.back);
    return m->o->strategy == STRATEGY_PADDED && (word(m, 8) > most || word(m, 12) > most_back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char bytes[2 * MOST_BYTES];
    const struct exchange_work *work;
    struct rig r;
    bool good;
    if (size < HEAD || size > MOST_BYTES)
        return 0;
    struct exchange_options o = options_of(data[0]);
    struct said m = {&o, bytes, size - HEAD, 1 + data[1] % MOST_ROWS};
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, data + HEAD, size - HEAD);
    error_capture(true);
    rig_open(&r, &o, 1);
    offer(&r, bytes, &m, data[2] % 2, &good);
    int status = worker_end_receive(r.worker[0], &rig_layer, m.n, &work);
    CHECK(status ? !good || may_refuse_rounds(&m) : good, "status %d for a %s message: %s", status,
          good ? "good" : "malformed", error_text());
    CHECK(status != STATUS_FAILED || *error_text(), "refused without a word");
    if (status == 0)
        check_back(&r, &m, work);
    rig_close(&r);
    return 0;
}
