/* The report of the matrix benchmark. */
#include "base/json.h"
#include "commit.h"
#include "study/matrix_bench.h"

static void print_text(const struct matrix_report *r, const struct matrix_options *o,
                       const struct transport *t, FILE *out)
{
    fprintf(out, "# epmoe alltoall, commit %s: %d rank%s, transport %s\n", EPMOE_COMMIT, r->n_ranks,
            r->n_ranks == 1 ? "" : "s", alltoall_transport(t, false));
    fprintf(out, "# bytes from rank to rank: %s; %d warm-up laps, %d timed\n", o->file, o->warmup,
            o->iterations);
    if (r->uncertainty_ns)
        fprintf(out, "# clocks of the hosts are known to %.1f us: so far off may be a time\n",
                (double)r->uncertainty_ns * 1e-3);
    fprintf(out, "#\n# %10s %12s %12s %10s %9s %6s %4s %5s\n", "wire", "local", "busiest", "us",
            "p99 us", "GB/s", "last", "check");
    fprintf(out, "%12llu %12llu %12llu %10.2f %9.2f %6.3g %4d %5s\n", (unsigned long long)r->wire,
            (unsigned long long)r->local, (unsigned long long)r->busiest, r->time.median * 1e-3,
            r->time.p99 * 1e-3, alltoall_rate(r->busiest, r->time.median) * 1e-9, r->slowest,
            r->checked ? "right" : "-");
}

static void print_json(const struct matrix_report *r, const struct matrix_options *o,
                       const struct transport *t, FILE *out)
{
    struct js *v = js_new_object();
    js_set(v, "command", js_new_text("alltoall"));
    js_set(v, "commit", js_new_text(EPMOE_COMMIT));
    js_set(v, "n_ranks", js_new_int(r->n_ranks));
    js_set(v, "transport", js_new_text(alltoall_transport(t, false)));
    js_set(v, "matrix", js_new_text(o->file));
    js_set(v, "warmup", js_new_int(o->warmup));
    js_set(v, "iterations", js_new_int(o->iterations));
    js_set(v, "clock_uncertainty_ns", js_new_int(r->uncertainty_ns));
    js_set(v, "wire_bytes", js_new_int((int64_t)r->wire));
    js_set(v, "local_bytes", js_new_int((int64_t)r->local));
    js_set(v, "busiest_bytes", js_new_int((int64_t)r->busiest));
    js_set(v, "median_ns", js_new_real(r->time.median));
    js_set(v, "p99_ns", js_new_real(r->time.p99));
    js_set(v, "bytes_per_s", js_new_real(alltoall_rate(r->busiest, r->time.median)));
    js_set(v, "last_rank", js_new_int(r->slowest));
    js_set(v, "checked", js_new_bool(r->checked));
    js_print(v, out, 2);
    js_free(v);
}

static void print_csv(const struct matrix_report *r, const struct transport *t, FILE *out)
{
    fputs("wire_bytes,local_bytes,busiest_bytes,median_ns,p99_ns,bytes_per_s,last_rank,checked,"
          "n_ranks,transport\n",
          out);
    fprintf(out, "%llu,%llu,%llu,%.0f,%.0f,%.6g,%d,%s,%d,%s\n", (unsigned long long)r->wire,
            (unsigned long long)r->local, (unsigned long long)r->busiest, r->time.median,
            r->time.p99, alltoall_rate(r->busiest, r->time.median), r->slowest,
            r->checked ? "true" : "false", r->n_ranks, alltoall_transport(t, false));
}

void matrix_print(const struct matrix_report *r, const struct matrix_options *o,
                  const struct transport *t, enum alltoall_format format, FILE *out)
{
    if (format == ALLTOALL_JSON)
        print_json(r, o, t, out);
    else if (format == ALLTOALL_CSV)
        print_csv(r, t, out);
    else
        print_text(r, o, t, out);
}
