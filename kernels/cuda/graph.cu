/* Sequences of calls that are repeated, as CUDA graphs: one launch for some hundred kernels.
 *
 * The first time, the sequence of a key runs call by call, so that libraries do their one-time
 * work; the second time it is recorded; from then on the recording is played. When there are more
 * keys than entries, a new key replaces the oldest. */
#include "base/check.h"
#include "kernels/cuda/cuda.h"

enum { MOST_GRAPHS = 128 };

struct graph {
    uint64_t key;         // 0: the entry is free
    cudaGraphExec_t exec; // NULL: not recorded yet
};

static void forget(struct graph *g)
{
    if (g->exec)
        cudaGraphExecDestroy(g->exec);
    g->exec = NULL;
    g->key = 0;
}

/* The key's entry, or a new one, which replaces the oldest. */
static struct graph *find(struct dev *d, uint64_t key, bool *is_new)
{
    struct cuda *c = d->cuda;
    if (!c->graphs)
        c->graphs = (struct graph *)arena_alloc(&d->memory, MOST_GRAPHS * sizeof *c->graphs);
    *is_new = false;
    for (int i = 0; i < MOST_GRAPHS; i++)
        if (c->graphs[i].key == key)
            return &c->graphs[i];
    struct graph *g = &c->graphs[c->next_graph];
    c->next_graph = (c->next_graph + 1) % MOST_GRAPHS;
    forget(g);
    g->key = key;
    *is_new = true;
    return g;
}

bool cuda_graph_begin(struct dev *d, uint64_t key)
{
    struct cuda *c = d->cuda;
    bool is_new;
    CHECK(key && !c->recording, "graph %llu within another", (unsigned long long)key);
    if (!cuda_works(d))
        return true; // the caller's calls will do nothing
    if (c->marks)
        return true; // a graph that is played sets no marks, and phases would have no times
    struct graph *g = find(d, key, &is_new);
    if (is_new)
        return true;
    if (g->exec) {
        cuda_good(d, cudaGraphLaunch(g->exec, c->stream), "playing a graph");
        return false;
    }
    if (cuda_good(d, cudaStreamBeginCapture(c->stream, cudaStreamCaptureModeThreadLocal),
                  "recording a graph")) {
        c->recording = true;
        c->recorded = g;
    }
    return true;
}

/* After an error during the recording (a launch that CUDA refused, say) the capture must still be
 * ended. A graph may come of it that lacks a kernel; it is neither kept nor played. */
void cuda_graph_end(struct dev *d)
{
    struct cuda *c = d->cuda;
    cudaGraph_t graph = NULL;
    if (!c->recording)
        return;
    c->recording = false;
    cudaError_t error = cudaStreamEndCapture(c->stream, &graph);
    if (cuda_good(d, error, "recording a graph") && cuda_works(d) &&
        cuda_good(d, cudaGraphInstantiate(&c->recorded->exec, graph, 0), "making a graph"))
        cuda_good(d, cudaGraphLaunch(c->recorded->exec, c->stream), "playing a graph");
    if (graph)
        cudaGraphDestroy(graph);
}

void cuda_graphs_close(struct dev *d)
{
    for (int i = 0; d->cuda->graphs && i < MOST_GRAPHS; i++)
        forget(&d->cuda->graphs[i]);
}
