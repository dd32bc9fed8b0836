/* The ways that compete, of what a model does today: each by the product's own kernels, with fields
 * of struct cuda as the only difference, and with equal results. */
#include <algorithm>
#include <stdio.h>

#include "tests/gpu/bench/step.h"

/* What one call of the way leaves behind. */
static std::vector<float> result_of(step &s, const way &w)
{
    w.choose();
    s.refill();
    w.w.call(0);
    return s.result();
}

/* All must give what today's does: the same bytes, or, where a library may sum in another order,
 * nearly. */
static void compare_ways(step &s, const std::vector<way> &ways, bool bytes)
{
    std::vector<float> today = result_of(s, ways[0]);
    for (size_t i = 1; i < ways.size(); i++) {
        std::vector<float> other = result_of(s, ways[i]);
        const char *name = ways[i].w.name.c_str();
        if (!bytes)
            compare(s.r, today, other, name);
        else if (other != today) {
            printf("| %s: other results than %s | | | | | | |\n", name, ways[0].w.name.c_str());
            s.r.good = false;
        }
    }
    ways[0].choose();
}

static way named(std::string name, work w, std::function<void()> choose)
{
    w.name = std::move(name);
    return {std::move(w), std::move(choose)};
}

/* Gate and up of a slice go through L2 as floats: small slices stay there, large ones have fewer
 * and fuller products. */
static void measure_slices(rig &r)
{
    step s(r, 0);
    std::vector<way> ways;
    auto add = [&](std::string name, int rows) {
        ways.push_back(named(std::move(name), s.phase("shared"), [&r, rows] {
            r.d.cuda->dense_rows = rows;
            reserve(r);
        }));
    };
    int today = r.d.cuda->dense_rows;
    for (int rows : {today, 2 * today})
        if (rows < s.n)
            add(std::to_string(rows) + " rows a slice", rows);
    add("all rows at once", s.n);
    table_head("The shared expert in prefill, rows a slice");
    compare_ways(s, ways, false);
    measure_ways(r, "the shared expert in prefill", ways);
}

/* What kernels that begin early ask for before they wait, so that L2 has it. */
static void measure_prefetch(rig &r, step &s)
{
    int today = r.d.cuda->ahead_bytes;
    const struct {
        const char *name;
        int bytes;
    } amounts[] = {{"half of L2", today}, {"a quarter of L2", today / 2}, {"none", 0}};
    std::vector<way> ways;
    for (const auto &amount : amounts) {
        int bytes = amount.bytes;
        ways.push_back(
            named(amount.name, s.whole_layer(), [&r, bytes] { r.d.cuda->ahead_bytes = bytes; }));
    }
    table_head("A layer of decode, batch 1, by what is prefetched to L2");
    compare_ways(s, ways, true);
    measure_ways(r, "prefetch to L2", ways);
}

static void measure_early(rig &r, step &s)
{
    std::vector<way> ways = {
        named("early launch", s.whole_layer(), [&r] { r.d.cuda->early = true; }),
        named("one after the other", s.whole_layer(), [&r] { r.d.cuda->early = false; })};
    if (!r.d.cuda->early) {
        printf("\ndecision: early launch: none, this GPU has none or EPMOE_EARLY=0 forbids it\n");
        return;
    }
    table_head("A layer of decode, batch 1, by when kernels begin");
    compare_ways(s, ways, true);
    measure_ways(r, "early launch", ways);
}

void measure_variants(rig &r)
{
    measure_slices(r);
    step decode(r, 1);
    measure_prefetch(r, decode);
    measure_early(r, decode);
    measure_experts(r);
}
