#include "study/traffic.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/pulse.h"
#include "model/found.h"

enum { MAX_SKEW_BYTES = 1 << 20 };
static const char kinds[] = "uniform, zipf:S with S from 0 to 8, or a file";

static int zipf(double *weights, int experts, const char *text)
{
    char *end;
    double s = strtod(text, &end);
    if (end == text || *end || !(s >= 0 && s <= 8))
        return fail(STATUS_USAGE, "--skew: expected %s, found \"zipf:%.40s\"", kinds, text);
    for (int e = 0; e < experts; e++)
        weights[e] = pow(e + 1, -s);
    return 0;
}

static int take_list(double *weights, int experts, const struct js *list, const char *file)
{
    if (!js_is_array(list) || js_count(list) != (size_t)experts)
        return fail(STATUS_BAD_FILE,
                    "%s: expected a list of numbers, one for each of %d experts, found %s of %zu",
                    file, experts, js_kind(list), js_count(list));
    for (int e = 0; e < experts; e++) {
        const struct js *v = js_item(list, (size_t)e);
        double w = js_number(v);
        if (!js_is_number(v) || !(w >= 0 && w <= 1e300))
            return fail(STATUS_BAD_FILE, "%s: [%d]: expected a number from 0 to 1e300, found %s",
                        file, e, found(v).text);
        weights[e] = w;
    }
    return 0;
}

static int from_file(double *weights, int experts, const char *path)
{
    if (!file_exists(path))
        return fail(STATUS_BAD_FILE, "--skew %s: expected %s, found no such file", path, kinds);
    struct js *root = js_load(path, MAX_SKEW_BYTES);
    int status = root ? take_list(weights, experts, root, path) : STATUS_BAD_FILE;
    js_free(root);
    return status;
}

int skew_parse(double **weights, const char *text, int experts, int top_k, struct arena *memory)
{
    double *w = arena_alloc(memory, (size_t)experts * sizeof *w);
    int status = 0, wanted = 0;
    if (strcmp(text, "uniform") == 0)
        status = zipf(w, experts, "0");
    else if (strncmp(text, "zipf:", 5) == 0)
        status = zipf(w, experts, text + 5);
    else
        status = from_file(w, experts, text);
    for (int e = 0; e < experts; e++)
        wanted += w[e] > 0;
    if (!status && wanted < top_k)
        status = fail(STATUS_BAD_FILE, "--skew %s: expected at least %d experts above 0, found %d",
                      text, top_k, wanted);
    *weights = w;
    return status;
}

/* A number in (0, 1), of 53 bits. */
static double uniform(uint64_t seed, uint64_t i)
{
    uint64_t bits = hash_mix(hash_mix(seed + 0x9e3779b97f4a7c15u) + i * 0xd1342543de82ef95u);
    return ((double)(bits >> 11) + 0.5) * 0x1p-53;
}

/* The k experts of the smallest keys, in order. -log(u) / w is an exponential variable of rate w,
 * and the first of several such to happen is each with a probability in proportion to its rate; so
 * the order of the smallest keys is that of draws one after the other (Efraimidis and Spirakis,
 * 2006). */
static void draw_row(int32_t *expert, const double *weights, int experts, int k, uint64_t seed,
                     uint64_t row, double *best)
{
    int found = 0;
    for (int e = 0; e < experts; e++) {
        if (weights[e] <= 0)
            continue;
        double key = -log(uniform(seed, row * (uint64_t)experts + (uint64_t)e)) / weights[e];
        int at = found < k ? found++ : k;
        while (at > 0 && best[at - 1] > key)
            at--;
        if (at == k)
            continue;
        memmove(best + at + 1, best + at, (size_t)(found - 1 - at) * sizeof *best);
        memmove(expert + at + 1, expert + at, (size_t)(found - 1 - at) * sizeof *expert);
        best[at] = key;
        expert[at] = e;
    }
}

void traffic_open(struct traffic *t, int n, int k, struct arena *memory)
{
    size_t pairs = (size_t)n * (size_t)k;
    *t = (struct traffic){.k = k};
    t->expert = arena_alloc(memory, pairs * sizeof *t->expert);
    t->weight = arena_alloc(memory, pairs * sizeof *t->weight);
}

void traffic_draw(struct traffic *t, const double *weights, int experts, int n, int k,
                  uint64_t seed, struct arena *memory)
{
    size_t pairs = (size_t)n * (size_t)k;
    double *best = arena_alloc(memory, (size_t)k * sizeof *best);
    traffic_open(t, n, k, memory);
    t->n = n;
    for (int row = 0; row < n; row++) {
        draw_row(t->expert + (size_t)row * (size_t)k, weights, experts, k, seed, (uint64_t)row,
                 best);
        pulse();
    }
    for (size_t i = 0; i < pairs; i++)
        t->weight[i] = traffic_weight((int)(i % (size_t)k));
}
