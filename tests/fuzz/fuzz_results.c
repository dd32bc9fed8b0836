/* Any messages as the results of a step, at the coordinator: accepted if and only if each has the
 * length that docs/protocol.md gives it, and then they are the step's rows.
 *   byte 0 the options, byte 1 the rows of the step, a byte for each row and choice its expert;
 *   then the workers' messages, round by round: a byte, how its length is off, and what it holds.
 */
#include "base/check.h"
#include "tests/rig/exchange_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 2 + MOST_ROWS * K, MOST_ROUNDS = 40, MOST_BYTES = 1 << 13 };

struct step {
    struct exchange_options o;
    struct routing routing;
    int32_t expert[MOST_ROWS * K], count[EXPERTS], slot[MOST_ROWS * K], source[MOST_ROWS * K];
    float weight[MOST_ROWS * K];
    _Alignas(64) float h[MOST_ROWS * WIDTH], y[MOST_ROWS * K * WIDTH];
    int back[RANKS], first[RANKS]; // rows that come back, and their places
    int rounds_out, rounds_back;
};

struct input {
    const uint8_t *data;
    size_t left;
};

static uint8_t next(struct input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->data++;
}

static struct exchange_options options_of(uint8_t byte)
{
    return (struct exchange_options){(enum strategy)(byte % 3), (enum combine)(byte / 3 % 2),
                                     (enum dedup)(byte / 6 % 2), (enum wire)(byte / 12 % 3),
                                     OVERLAP_OFF};
}

/* Rows that a rank's places are of, each counted once. */
static int distinct(const struct step *s, int rank, int n)
{
    int rows = 0;
    for (int row = 0; row < n; row++) {
        bool met = false;
        for (int k = 0; k < K; k++) {
            int32_t expert = s->expert[row * K + k];
            met = met || (expert >= rig_rank_first[rank] && expert < rig_rank_first[rank + 1]);
        }
        rows += met;
    }
    return rows;
}

static void count_rows(struct step *s, int rank)
{
    int places = 0, experts = rig_rank_first[rank + 1] - rig_rank_first[rank];
    for (int e = rig_rank_first[rank]; e < rig_rank_first[rank + 1]; e++)
        places += s->count[e];
    for (int e = 0; e < rig_rank_first[rank]; e++)
        s->first[rank] += s->count[e];
    int rows = distinct(s, rank, s->routing.n);
    s->back[rank] = s->o.combine == COMBINE_SUM ? rows : places;
    if (s->o.strategy != STRATEGY_PADDED)
        return;
    struct rig_round round = rig_round_of(&s->o, s->routing.n);
    int out = rig_rounds(
        rig_message_bytes(&s->o, experts, places, s->o.dedup == DEDUP_ON ? rows : places),
        round.out);
    int back = rig_rounds((size_t)s->back[rank] * rig_row_bytes(&s->o), round.back);
    s->rounds_out = out > s->rounds_out ? out : s->rounds_out;
    s->rounds_back = back > s->rounds_back ? back : s->rounds_back;
}

static void make_step(struct step *s, struct rig *r, struct input *in)
{
    *s = (struct step){.o = options_of(next(in)), .rounds_out = 1, .rounds_back = 1};
    int n = 1 + next(in) % MOST_ROWS;
    for (int i = 0; i < MOST_ROWS * K; i++) {
        s->expert[i] = next(in) % EXPERTS;
        s->weight[i] = 1;
    }
    rig_open(r, &s->o, 0);
    sort_rows(&(struct sorting){s->count, s->slot, s->source, NULL, RIG_GROUPS}, s->expert, n, K);
    s->routing =
        (struct routing){n, K, s->expert, s->slot, s->weight, s->source, s->count, rig_layer};
    for (int rank = 1; rank < RANKS; rank++)
        count_rows(s, rank);
}

static void take_dispatch(const struct step *s, struct rig *r)
{
    static char bytes[MOST_BYTES];
    for (int rank = 1; rank < RANKS; rank++)
        for (int round = 0; round < s->rounds_out; round++)
            CHECK(rig_take(r, rank, 0, bytes, sizeof bytes) >= 0, "a dispatch is missing");
}

/* The length of a message: mostly right, else off by a little or a lot. */
static size_t length_of(uint8_t how, size_t right)
{
    size_t off = (size_t)(how >> 2) + 1;
    switch (how & 3) {
    case 1:
        return right + off;
    case 2:
        return off < right ? right - off : 0;
    case 3:
        return off * 16;
    default:
        return right;
    }
}

/* What the workers said, message after message. */
struct replies {
    char bytes[RANKS][MOST_ROUNDS * MOST_ROWS * K * 4 * WIDTH];
    bool good;
};

static void reply(const struct step *s, struct rig *r, struct input *in, struct replies *all,
                  int rank)
{
    size_t right = s->o.strategy == STRATEGY_PADDED ? rig_round_of(&s->o, s->routing.n).back
                                                    : (size_t)s->back[rank] * rig_row_bytes(&s->o);
    CHECK(s->rounds_back <= MOST_ROUNDS, "%d rounds", s->rounds_back);
    for (int round = 0; round < s->rounds_back; round++) {
        uint8_t how = next(in);
        char *rows = all->bytes[rank] + (size_t)round * right;
        if (how == 255) { // it says no more
            all->good = false;
            break;
        }
        for (size_t i = 0; i < right; i++)
            rows[i] = (char)next(in);
        all->good = all->good && length_of(how, right) == right;
        rig_send(r, rank, 0, rows, length_of(how, right));
    }
    rig_say_end(r, rank, 0);
}

/* Rows on the model's own wire arrive as they were sent. */
static void check_rows(const struct step *s, const struct replies *all)
{
    for (int rank = 1; rank < RANKS && s->o.wire == WIRE_MODEL; rank++)
        CHECK(memcmp(s->y + s->first[rank] * WIDTH, all->bytes[rank],
                     (size_t)s->back[rank] * 4 * WIDTH) == 0,
              "rows of rank %d differ", rank);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct replies all;
    static struct step s;
    struct input in = {data, size};
    struct row_terms terms;
    struct rig r;
    if (size < HEAD || size > MOST_BYTES)
        return 0;
    error_capture(true);
    make_step(&s, &r, &in);
    CHECK(root_begin(r.root[0], &rig_layer, s.h, s.routing.n) == 0, "%s", error_text());
    CHECK(root_dispatch(r.root[0], &s.routing, s.y, rig_z()) == 0, "%s", error_text());
    take_dispatch(&s, &r);
    all.good = true;
    for (int rank = 1; rank < RANKS; rank++)
        reply(&s, &r, &in, &all, rank);
    int status = root_combine(r.root[0], &terms);
    CHECK((status == 0) == all.good, "status %d for %s results: %s", status,
          all.good ? "good" : "malformed", error_text());
    CHECK(status != STATUS_FAILED || *error_text(), "refused without a word");
    if (status == 0)
        check_rows(&s, &all);
    root_drop(r.root[0]);
    rig_close(&r);
    return 0;
}
