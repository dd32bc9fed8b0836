/* The report of the all-to-all benchmark. docs/measuring.md says what each column means. */
#include "base/json.h"
#include "commit.h"
#include "study/alltoall_state.h"
#include "study/origin.h"

static uint64_t size_bytes(const struct alltoall_options *o, const struct alltoall_size *s)
{
    return (uint64_t)s->rows * wire_row_bytes(WIRE_MODEL, o->type, o->hidden);
}

/* ---- for people ---- */

static void print_head(const struct alltoall_report *r, const struct alltoall_options *o,
                       const struct transport *t, FILE *out)
{
    struct exchange_words w = exchange_words(&o->exchange);
    fprintf(out, "# epmoe alltoall, commit %s: %d rank%s, transport %s, %s\n", EPMOE_COMMIT,
            r->n_ranks, r->n_ranks == 1 ? "" : "s", alltoall_transport(t, o->nccl),
            o->nccl ? "cuda" : isa_name(r->isa));
    fprintf(out, "# rows of %d %s to %d of %d experts, skew %s, seed %llu, placement %s\n",
            o->hidden, dtype_name(o->type), o->top_k, o->experts, o->skew,
            (unsigned long long)o->seed, o->placed);
    fprintf(out, "# strategy %s, dedup %s, combine %s, wire %s; %d warm-up laps, %d timed\n",
            w.strategy, w.dedup, w.combine, w.wire, o->warmup, o->iterations);
    if (r->uncertainty_ns)
        fprintf(out,
                "# clocks of the hosts are known to %.1f us: so far off may be dispatch and "
                "combine\n",
                (double)r->uncertainty_ns * 1e-3);
}

/* What travels in a lap. */
static void print_bytes(const struct alltoall_report *r, const struct alltoall_options *o,
                        FILE *out)
{
    fprintf(out, "#\n# bytes of a lap\n# %9s %7s %11s %11s %11s %11s %4s %5s\n", "size", "tokens",
            "out", "back", "logical", "local", "last", "check");
    for (int i = 0; i < r->n_sizes; i++) {
        const struct alltoall_size *s = &r->size[i];
        fprintf(out, "%11llu %7d %11llu %11llu %11llu %11llu %4d %5s\n",
                (unsigned long long)size_bytes(o, s), s->rows, (unsigned long long)s->out,
                (unsigned long long)s->back, (unsigned long long)s->logical,
                (unsigned long long)s->local, s->slowest, s->checked ? "right" : "-");
    }
}

/* Microseconds in 8 columns, with digits behind the point while they fit. */
static void print_us(double ns, FILE *out)
{
    fprintf(out, " %8.*f", ns < 99999.995e3 ? 2 : 0, ns * 1e-3);
}

static void print_times(const struct lap_times *t, uint64_t bytes, FILE *out)
{
    print_us(t->median, out);
    print_us(t->p99, out);
    double rate = alltoall_rate(bytes, t->median) * 1e-9;
    fprintf(out, rate < 0.0995 ? " %5.3f" : " %5.3g", rate);
}

static void print_laps(const struct alltoall_report *r, const struct alltoall_options *o, FILE *out)
{
    fprintf(out, "#\n# %6s %23s %23s %23s\n# %6s", "", "dispatch", "combine", "round trip", "size");
    for (int i = 0; i < 3; i++)
        fprintf(out, " %8s %8s %5s", "us", "p99 us", "GB/s");
    fprintf(out, "\n");
    for (int i = 0; i < r->n_sizes; i++) {
        const struct alltoall_size *s = &r->size[i];
        fprintf(out, "%8llu", (unsigned long long)size_bytes(o, s));
        print_times(&s->dispatch, s->out, out);
        print_times(&s->combine, s->back, out);
        print_times(&s->round, s->out + s->back, out);
        fprintf(out, "\n");
    }
}

/* Two tables, each of which a terminal of 80 columns has room for. */
static void print_text(const struct alltoall_report *r, const struct alltoall_options *o,
                       const struct transport *t, FILE *out)
{
    print_head(r, o, t, out);
    print_bytes(r, o, out);
    print_laps(r, o, out);
}

/* ---- for programs ---- */

static struct js *times_json(const struct lap_times *t, uint64_t bytes)
{
    struct js *v = js_new_object();
    js_set(v, "median_ns", js_new_real(t->median));
    js_set(v, "p99_ns", js_new_real(t->p99));
    js_set(v, "bytes_per_s", js_new_real(alltoall_rate(bytes, t->median)));
    return v;
}

static struct js *ranks_json(const struct alltoall_report *r, const struct alltoall_size *s)
{
    struct js *list = js_new_array();
    for (int rank = 0; rank < r->n_ranks; rank++) {
        struct js *v = js_new_object();
        js_set(v, "rank", js_new_int(rank));
        js_set(v, "sent_to", js_new_int((int64_t)s->with[rank].sent));
        js_set(v, "received_from", js_new_int((int64_t)s->with[rank].received));
        js_set(v, "dispatch_median_ns", js_new_real(s->rank_dispatch[rank]));
        js_push(list, v);
    }
    return list;
}

static struct js *size_json(const struct alltoall_report *r, const struct alltoall_options *o,
                            const struct alltoall_size *s)
{
    struct js *v = js_new_object();
    js_set(v, "size_bytes", js_new_int((int64_t)size_bytes(o, s)));
    js_set(v, "tokens", js_new_int(s->rows));
    js_set(v, "out_bytes", js_new_int((int64_t)s->out));
    js_set(v, "back_bytes", js_new_int((int64_t)s->back));
    js_set(v, "messages_out", js_new_int((int64_t)s->messages));
    js_set(v, "logical_bytes", js_new_int((int64_t)s->logical));
    js_set(v, "local_bytes", js_new_int((int64_t)s->local));
    js_set(v, "dispatch", times_json(&s->dispatch, s->out));
    js_set(v, "combine", times_json(&s->combine, s->back));
    js_set(v, "round_trip", times_json(&s->round, s->out + s->back));
    js_set(v, "last_rank", js_new_int(s->slowest));
    js_set(v, "checked", js_new_bool(s->checked));
    js_set(v, "ranks", ranks_json(r, s));
    return v;
}

static void set_options(struct js *v, const struct alltoall_options *o)
{
    struct exchange_words w = exchange_words(&o->exchange);
    js_set(v, "hidden", js_new_int(o->hidden));
    js_set(v, "dtype", js_new_text(dtype_name(o->type)));
    js_set(v, "top_k", js_new_int(o->top_k));
    js_set(v, "experts", js_new_int(o->experts));
    js_set(v, "skew", js_new_text(o->skew));
    js_set(v, "seed", js_new_int((int64_t)o->seed));
    js_set(v, "placement", js_new_text(o->placed));
    js_set(v, "strategy", js_new_text(w.strategy));
    js_set(v, "dedup", js_new_text(w.dedup));
    js_set(v, "combine", js_new_text(w.combine));
    js_set(v, "wire", js_new_text(w.wire));
    js_set(v, "warmup", js_new_int(o->warmup));
    js_set(v, "iterations", js_new_int(o->iterations));
}

static void print_json(const struct alltoall_report *r, const struct alltoall_options *o,
                       const struct transport *t, FILE *out)
{
    struct js *v = js_new_object(), *sizes = js_new_array();
    js_set(v, "command", js_new_text("alltoall"));
    js_set(v, "commit", js_new_text(EPMOE_COMMIT));
    js_set(v, "origin", origin_json());
    js_set(v, "n_ranks", js_new_int(r->n_ranks));
    js_set(v, "transport", js_new_text(alltoall_transport(t, o->nccl)));
    js_set(v, "isa", js_new_text(isa_name(r->isa)));
    js_set(v, "clock_uncertainty_ns", js_new_int(r->uncertainty_ns));
    set_options(v, o);
    for (int i = 0; i < r->n_sizes; i++)
        js_push(sizes, size_json(r, o, &r->size[i]));
    js_set(v, "sizes", sizes);
    js_print(v, out, 2);
    js_free(v);
}

static void csv_times(const struct lap_times *t, uint64_t bytes, FILE *out)
{
    fprintf(out, ",%.0f,%.0f,%.6g", t->median, t->p99, alltoall_rate(bytes, t->median));
}

static void print_csv(const struct alltoall_report *r, const struct alltoall_options *o,
                      const struct transport *t, FILE *out)
{
    struct exchange_words w = exchange_words(&o->exchange);
    fputs("size_bytes,tokens,out_bytes,back_bytes,messages_out,logical_bytes,local_bytes,"
          "dispatch_median_ns,dispatch_p99_ns,dispatch_bytes_per_s,"
          "combine_median_ns,combine_p99_ns,combine_bytes_per_s,"
          "round_trip_median_ns,round_trip_p99_ns,round_trip_bytes_per_s,last_rank,checked,"
          "n_ranks,transport,strategy,dedup,combine,wire\n",
          out);
    for (int i = 0; i < r->n_sizes; i++) {
        const struct alltoall_size *s = &r->size[i];
        fprintf(out, "%llu,%d,%llu,%llu,%llu,%llu,%llu", (unsigned long long)size_bytes(o, s),
                s->rows, (unsigned long long)s->out, (unsigned long long)s->back,
                (unsigned long long)s->messages, (unsigned long long)s->logical,
                (unsigned long long)s->local);
        csv_times(&s->dispatch, s->out, out);
        csv_times(&s->combine, s->back, out);
        csv_times(&s->round, s->out + s->back, out);
        fprintf(out, ",%d,%s,%d,%s,%s,%s,%s,%s\n", s->slowest, s->checked ? "true" : "false",
                r->n_ranks, alltoall_transport(t, o->nccl), w.strategy, w.dedup, w.combine, w.wire);
    }
}

void alltoall_print(const struct alltoall_report *r, const struct alltoall_options *o,
                    const struct transport *t, enum alltoall_format format, FILE *out)
{
    if (format == ALLTOALL_JSON)
        print_json(r, o, t, out);
    else if (format == ALLTOALL_CSV)
        print_csv(r, o, t, out);
    else
        print_text(r, o, t, out);
}
