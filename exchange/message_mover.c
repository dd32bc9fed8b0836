/* The transport moves rows as the last part of the message, from the host's memory. STRATEGY_PADDED
 * cuts the message with its rows into rounds. */
#include "base/log.h"
#include "exchange/mover.h"
#include "exchange/strategy.h"

static void open_nothing(struct exchange_end *e)
{
    (void)e;
}

static size_t slack(const struct exchange_end *e)
{
    return message_is_cut(&e->form) ? padded_most(e).back : 0;
}

static int send_all(struct root_end *x, int n)
{
    (void)x, (void)n;
    return 0;
}

static int expect(struct root_end *x, int round)
{
    struct exchange_end *e = &x->end;
    int status = 0;
    EACH_WORKER (e, rank) {
        const struct area *pieces = &x->pieces_back[rank], *rows = &x->back[rank];
        if (!status && round == 0 && pieces->bytes)
            status = transport_start_recv(e->transport, e->lane, rank, pieces->at, pieces->bytes);
        if (!status)
            status = transport_start_recv(e->transport, e->lane, rank, rows->at, rows->bytes);
    }
    return status;
}

/* The part of a message of `bytes` that is sent in a round; after its end its beginning is sent
 * again, as padding. */
static const char *part(const char *message, size_t bytes, int round, size_t round_bytes)
{
    size_t at = (size_t)round * round_bytes;
    return at < bytes ? message + at : message;
}

static int send_round(struct root_end *x, int rank, int round)
{
    struct exchange_end *e = &x->end;
    const char *message = x->out + x->begin[rank];
    size_t length = x->begin[rank + 1] - x->begin[rank];
    return end_send(e, rank, part(message, length, round, e->round.out), e->round.out);
}

static int send(struct root_end *x)
{
    struct exchange_end *e = &x->end;
    int status = 0;
    int rounds = message_is_cut(&e->form) ? e->rounds : 0; // uncut ones were sent before
    for (int round = 0; round < rounds; round++)
        EACH_WORKER (e, rank)
            if (!status)
                status = send_round(x, rank, round);
    return status;
}

static int take(struct root_end *x, int round)
{
    struct exchange_end *e = &x->end;
    int status = end_wait(e);
    EACH_WORKER (e, rank) {
        if (status)
            break;
        size_t expected = x->back[rank].bytes + (round ? 0 : x->pieces_back[rank].bytes);
        end_count_received(e, rank, expected);
        if (e->received[rank] != expected)
            status = fail(STATUS_FAILED, "rank %d: expected %zu bytes of rows back, found %zu",
                          rank, expected, e->received[rank]);
    }
    return status;
}

/* Wait for one more round of the message. */
static int receive_round(struct worker_end *x)
{
    struct exchange_end *e = &x->end;
    size_t bytes = e->round.out;
    int status = transport_start_recv(e->transport, e->lane, e->root, x->in + x->in_bytes, bytes);
    if (!status)
        status = end_wait(e);
    if (!status && e->received[e->root] != bytes)
        status = fail(STATUS_FAILED, "dispatch: expected a round of %zu bytes, found %zu", bytes,
                      e->received[e->root]);
    x->in_bytes += bytes;
    end_count_received(e, e->root, bytes);
    return status;
}

static int start(struct worker_end *x, int first, int n)
{
    (void)first, (void)n;
    return message_is_cut(&x->end.form) ? receive_round(x) : 0;
}

static int finish(struct worker_end *x)
{
    (void)x;
    return 0;
}

/* Send the pieces' results. They go first, as the root starts to receive them first. */
static int give_pieces(struct worker_end *x, const void *pieces)
{
    struct exchange_end *e = &x->end;
    int rows = message_is_cut(&e->form) ? e->round.piece_rows : x->dispatch.n_piece_rows;
    return rows ? end_send(e, e->root, pieces, (size_t)rows * e->wire_piece_bytes) : 0;
}

static int give_back(struct worker_end *x, const void *rows, const void *pieces)
{
    struct exchange_end *e = &x->end;
    size_t bytes = (size_t)x->dispatch.n_back * e->wire_row_bytes;
    size_t each = message_is_cut(&e->form) ? e->round.back : bytes;
    int status = give_pieces(x, pieces);
    for (int round = 0; round < e->rounds_back && !status; round++)
        status = end_send(e, e->root, part(rows, bytes, round, each), each);
    return status;
}

const struct mover message_mover = {
    .apart = false,
    .open = open_nothing,
    .slack = slack,
    .send_all = send_all,
    .expect = expect,
    .send = send,
    .take = take,
    .start = start,
    .finish = finish,
    .give_back = give_back,
};
