#include "study/place_print.h"

#include "base/json.h"
#include "commit.h"
#include "study/origin.h"

enum { TOGETHER = 5 }; // pairs of experts that are named

static const char *const kinds[REPLAY_KINDS] = {"decode", "prefill"};

/* Placements that are compared. */
static int columns(const struct place_report *r)
{
    return r->replicas ? 3 : 2;
}

/* A layer's figures, for n kinds of steps from the first. */
static void print_line(const struct place_report *r, const char *name, int layer, int first, int n,
                       FILE *out)
{
    const struct balance_stats *stats[] = {&r->even, &r->placed, &r->copied};
    int m = columns(r);
    fprintf(out, "%7s", name);
    for (int i = 0; i < 2 * n * m; i++) {
        enum replay_kind kind = (enum replay_kind)(first + i / (2 * m));
        const struct balance_stats *s = stats[i % m];
        fprintf(out, i % m ? " %7.2f" : " %8.2f",
                i / m % 2 ? balance_rows(s, kind, layer) : balance_experts(s, kind, layer));
    }
    fprintf(out, "\n");
}

static void print_heads(const struct place_report *r, int first, int n, FILE *out)
{
    static const char *const names[] = {"even", "placed", "copies"};
    int m = columns(r), width = 8 * m;
    fprintf(out, "# %5s", "");
    for (int kind = first; kind < first + n; kind++)
        fprintf(out, " %*s", 2 * width + (kind > first), kinds[kind]);
    fprintf(out, "\n# %5s", "");
    for (int kind = first; kind < first + n; kind++)
        fprintf(out, " %*s %*s", width, "experts", width, "rows");
    fprintf(out, "\n# %5s", "layer");
    for (int i = 0; i < 2 * n * m; i++)
        fprintf(out, i % m ? " %7s" : " %8s", names[i % m]);
    fprintf(out, "\n");
}

static void print_table(const struct place_report *r, int first, int n, FILE *out)
{
    char name[16];
    print_heads(r, first, n, out);
    for (int l = 0; l < r->file->n_sparse; l++) {
        snprintf(name, sizeof name, "%d", l);
        print_line(r, name, l, first, n, out);
    }
    print_line(r, "all", -1, first, n, out);
}

/* With copies both kinds of steps side by side would be wider than 80 columns. */
static void print_text(const struct place_report *r, FILE *out)
{
    fprintf(out, "# epmoe place --from %s, commit %s\n", r->path, EPMOE_COMMIT);
    fprintf(out, "# %d ranks, %ld experts of a layer at home, goal %s\n", r->n_ranks, r->home,
            r->goal);
    if (r->on != r->path)
        fprintf(out, "# compared on %s\n", r->on);
    if (r->replicas)
        fprintf(out, "# copies: placed, and %d further copies of experts, at most %ld in a layer\n",
                r->n_copies, r->replicas);
    fprintf(out, "# the busiest rank over the mean of those that hold experts, step by step;\n"
                 "# 1.00 is even\n");
    if (!r->replicas)
        print_table(r, 0, REPLAY_KINDS, out);
    for (int kind = 0; r->replicas && kind < REPLAY_KINDS; kind++)
        print_table(r, kind, 1, out);
}

static struct js *loads_json(const uint64_t *loads, int n)
{
    struct js *list = js_new_array();
    for (int rank = 0; rank < n; rank++)
        js_push(list, js_new_int((int64_t)loads[rank]));
    return list;
}

static struct js *balance_json(const struct balance_stats *s, int layer)
{
    struct js *v = js_new_object();
    for (int kind = 0; kind < REPLAY_KINDS; kind++) {
        struct js *one = js_new_object();
        js_set(one, "rows_over_mean", js_new_real(balance_rows(s, (enum replay_kind)kind, layer)));
        js_set(one, "experts_over_mean",
               js_new_real(balance_experts(s, (enum replay_kind)kind, layer)));
        if (layer >= 0) {
            const struct layer_balance *b = &s->layers[kind][layer];
            js_set(one, "rows", loads_json(b->rows, s->n_ranks));
            js_set(one, "experts", loads_json(b->experts, s->n_ranks));
        }
        js_set(v, kinds[kind], one);
    }
    return v;
}

/* The pairs of experts that most rows went to both of, most first. */
static struct js *together_json(const struct routing_file *f, int layer, struct arena *memory)
{
    int n = f->head.n_experts;
    struct js *list = js_new_array();
    uint32_t *together = arena_alloc(memory, (size_t)n * (size_t)n * sizeof *together);
    routing_together(together, f, layer, memory);
    for (int i = 0; i < TOGETHER; i++) {
        int a = 0, b = 0;
        for (int x = 0; x < n; x++)
            for (int y = x + 1; y < n; y++)
                if (together[x * n + y] > together[a * n + b])
                    a = x, b = y;
        if (together[a * n + b] == 0)
            break;
        struct js *pair = js_new_object();
        js_set(pair, "a", js_new_int(a));
        js_set(pair, "b", js_new_int(b));
        js_set(pair, "rows", js_new_int(together[a * n + b]));
        js_push(list, pair);
        together[a * n + b] = 0;
    }
    return list;
}

/* The experts of a layer that have copies, each with its ranks in the order in which rows take
 * turns. */
static struct js *copies_json(const struct layer_placement *p)
{
    struct js *list = js_new_array();
    for (int i = 0; i < p->n_copies;) {
        int expert = p->copy_of[i];
        struct js *v = js_new_object(), *ranks = js_new_array();
        js_push(ranks, js_new_int(p->rank_of[expert]));
        for (; i < p->n_copies && p->copy_of[i] == expert; i++)
            js_push(ranks, js_new_int(p->copy_rank[i]));
        js_set(v, "expert", js_new_int(expert));
        js_set(v, "ranks", ranks);
        js_push(list, v);
    }
    return list;
}

/* Where the l-th layer with experts stands among all layers. */
static int layer_of(const struct routing_head *h, int l)
{
    int at = 0;
    for (; !h->sparse[at] || l > 0; at++)
        l -= h->sparse[at] != 0;
    return at;
}

static struct js *layers_json(const struct place_report *r)
{
    const struct routing_file *f = r->file;
    struct arena memory = {0};
    struct js *layers = js_new_array();
    uint64_t *heat =
        arena_alloc(&memory, (size_t)f->n_sparse * (size_t)f->head.n_experts * sizeof *heat);
    routing_heat(heat, f, &memory);
    for (int l = 0; l < f->n_sparse; l++) {
        struct js *v = js_new_object();
        js_set(v, "heat",
               loads_json(heat + (size_t)l * (size_t)f->head.n_experts, f->head.n_experts));
        js_set(v, "together", together_json(f, l, &memory));
        js_set(v, "even", balance_json(&r->even, l));
        js_set(v, "placed", balance_json(&r->placed, l));
        if (r->replicas) {
            js_set(v, "copied", balance_json(&r->copied, l));
            js_set(v, "experts_with_copies",
                   copies_json(&r->placement->layers[layer_of(&f->head, l)]));
        }
        js_push(layers, v);
    }
    arena_free(&memory);
    return layers;
}

static void print_json(const struct place_report *r, FILE *out)
{
    struct js *v = js_new_object();
    js_set(v, "command", js_new_text("place"));
    js_set(v, "commit", js_new_text(EPMOE_COMMIT));
    js_set(v, "origin", origin_json());
    js_set(v, "routing", js_new_text(r->path));
    js_set(v, "on", js_new_text(r->on));
    js_set(v, "model", js_new_text(r->file->head.model));
    js_set(v, "n_ranks", js_new_int(r->n_ranks));
    js_set(v, "home", js_new_int(r->home));
    js_set(v, "goal", js_new_text(r->goal));
    if (r->out)
        js_set(v, "placement", js_new_text(r->out));
    js_set(v, "even", balance_json(&r->even, -1));
    js_set(v, "placed", balance_json(&r->placed, -1));
    if (r->replicas) {
        js_set(v, "replicas", js_new_int(r->replicas));
        js_set(v, "copies", js_new_int(r->n_copies));
        js_set(v, "copied", balance_json(&r->copied, -1));
    }
    js_set(v, "layers", layers_json(r));
    js_print(v, out, 2);
    js_free(v);
}

void place_print(const struct place_report *r, bool json, FILE *out)
{
    if (json)
        print_json(r, out);
    else
        print_text(r, out);
}

int place_write(const struct placement *p, const char *path)
{
    struct outfile f;
    int status = outfile_open(&f, path);
    if (status)
        return status;
    placement_write_experts(p, f.stream);
    fputs("}\n", f.stream);
    return outfile_commit(&f);
}
