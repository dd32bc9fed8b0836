/* Any text as a fit, and as a topology: refused with words, or read with every value in its range,
 * so that prices and times are finite. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "study/topology.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_status(int status)
{
    CHECK(status == 0 || (status == STATUS_BAD_FILE && *error_text()), "status %d", status);
}

static void check_span(const struct span *s)
{
    CHECK(s->least >= 0 && s->least <= s->most && isfinite(s->most), "%g to %g", s->least, s->most);
}

static void check_fit(const struct fit *f)
{
    const struct fit_model *m = &f->model;
    for (int c = 0; c < COSTS; c++)
        CHECK(f->prices.of[c] >= 0 && isfinite(f->prices.of[c]), "price %d", c);
    CHECK(f->has_model || f->prices.of[COST_ROW] >= 0, "a price of no model");
    CHECK(!f->has_model || (m->layers >= 1 && m->experts >= 1 && m->dtype <= DTYPE_BF16), "model");
    CHECK(*f->version && *f->processor && *f->isa && *f->transport, "an empty text");
    CHECK(f->ranks >= 1 && f->ranks_at_once >= 1 && f->threads >= 1, "ranks");
    check_span(&f->spans.ranks);
    check_span(&f->spans.rows);
    check_span(&f->spans.lap_bytes);
    check_span(&f->spans.lap_messages);
    check_span(&f->spans.positions);
    CHECK(isfinite(f->good.held_out_median) && f->good.fitted >= 0, "goodness");
}

static void check_topology(const struct topology *t)
{
    static const struct virtual_pair pairs[] = {{0}, {1, 1, 1, 1}, {1000, 10, 7, 3}};
    const struct star star = {1, 2, pairs};
    int node[3];
    topology_nodes(node, t, 1, 2);
    for (int i = 0; i < 3; i++)
        CHECK(node[i] >= 0 && node[i] < 3, "rank %d on node %d", i, node[i]);
    struct lap_time lap = star_time_by_topology(&star, t, node);
    double seconds = lap_time_sum(&lap);
    CHECK(seconds >= 0 && isfinite(seconds), "%g seconds", seconds);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct arena memory;
    struct fit fit;
    struct topology topology;
    error_capture(true);
    int status = fit_parse(&fit, (const char *)data, size, "fuzz", &memory);
    check_status(status);
    if (!status)
        check_fit(&fit);
    status = topology_parse(&topology, (const char *)data, size, "fuzz", &memory);
    check_status(status);
    if (!status)
        check_topology(&topology);
    arena_reset(&memory);
    return 0;
}
