#include "launch/forecast.h"

#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/found.h"
#include "model/speed.h"

enum { MAX_FILE_BYTES = 1 << 20 };
static const double most_number = 1e18; // of any number in a file

/* The path that a run would take, on a processor. Memory is not this machine's question. */
static int measure(struct forecast *f)
{
    struct dev d = {0};
    enum isa isa;
    int status = isa_choose(&isa, isa_available());
    if (status)
        return status;
    dev_open_cpu(&d, isa, f->threads);
    struct rank_speed speed = rank_speed_measure(&d, f->balance.precision, 1);
    dev_close(&d);
    speed.memory = 0;
    for (int rank = 0; rank < f->balance.n_ranks; rank++)
        f->speeds[rank] = speed;
    return 0;
}

/* ---- a file of speeds ---- */

static int check_keys(const char *file, int rank, const struct js *one)
{
    if (!js_is_object(one))
        return fail(STATUS_BAD_FILE,
                    "%s: [%d]: expected an object with flops and read_bytes_per_s, found %s", file,
                    rank, found(one).text);
    for (struct js_entry e = js_first(one); e.key; e = js_next(one, e))
        if (strcmp(e.key, "flops") != 0 && strcmp(e.key, "read_bytes_per_s") != 0 &&
            strcmp(e.key, "memory_bytes") != 0)
            return fail(STATUS_BAD_FILE,
                        "%s: [%d]: expected the keys flops, read_bytes_per_s and memory_bytes, "
                        "found \"%.40s\"",
                        file, rank, e.key);
    return 0;
}

static int read_number(double *to, const char *file, int rank, const struct js *one,
                       const char *key)
{
    const struct js *v = js_member(one, key);
    *to = js_number(v);
    if (!js_is_number(v) || !(*to >= 1 && *to <= most_number))
        return fail(STATUS_BAD_FILE, "%s: [%d].%s: expected a number from 1 to %.15g, found %s",
                    file, rank, key, most_number, found(v).text);
    return 0;
}

static int read_rank(struct rank_speed *s, const char *file, int rank, const struct js *one)
{
    double memory = 0;
    int status = check_keys(file, rank, one);
    if (!status)
        status = read_number(&s->flops, file, rank, one, "flops");
    if (!status)
        status = read_number(&s->bytes, file, rank, one, "read_bytes_per_s");
    if (!status && js_member(one, "memory_bytes"))
        status = read_number(&memory, file, rank, one, "memory_bytes");
    s->memory = (uint64_t)memory;
    return status;
}

static int read_list(struct forecast *f, const struct js *list)
{
    int n = f->balance.n_ranks, status = 0;
    if (!js_is_array(list))
        return fail(STATUS_BAD_FILE, "%s: expected a list of %d ranks, found %s", f->file, n,
                    found(list).text);
    if (js_count(list) != (size_t)n)
        return fail(STATUS_BAD_FILE, "%s: expected an object for each of %d ranks, found %zu",
                    f->file, n, js_count(list));
    for (int rank = 0; rank < n && !status; rank++)
        status = read_rank(&f->speeds[rank], f->file, rank, js_item(list, (size_t)rank));
    return status;
}

static int read_speeds(struct forecast *f)
{
    if (!file_exists(f->file))
        return fail(STATUS_BAD_FILE, "--speeds %s: expected a file, found no such file", f->file);
    struct js *root = js_load(f->file, MAX_FILE_BYTES);
    if (!root)
        return STATUS_BAD_FILE;
    int status = read_list(f, root);
    js_free(root);
    return status;
}

int forecast_speeds(struct forecast *f, struct arena *memory)
{
    f->speeds = arena_alloc(memory, (size_t)f->balance.n_ranks * sizeof *f->speeds);
    int status = f->file ? read_speeds(f) : measure(f);
    f->balance.speeds = f->speeds;
    return status;
}

/* ---- what they come to ---- */

void forecast_make(struct forecast *f, const struct placement *p, struct arena *memory)
{
    for (int i = 0; i < BALANCE_PHASES; i++) {
        f->busy[i] = arena_alloc(memory, (size_t)f->balance.n_ranks * sizeof *f->busy[i]);
        f->times[i] = balance_times(&f->balance, p, (enum balance_phase)i, f->busy[i]);
    }
    f->made = true;
}

struct range forecast_pieces(const struct placement *p, int rank)
{
    struct range r = {0, 0};
    bool first = true;
    for (int l = 0; l < p->n_layers; l++) {
        int n = placement_count(&p->pieces[l], rank);
        if (p->pieces[l].n == 0)
            continue;
        r.least = first || n < r.least ? n : r.least;
        r.most = n > r.most ? n : r.most;
        first = false;
    }
    return r;
}
