/* Sequences of calls that come again, as CUDA graphs: one launch for some hundred kernels.
 *
 * A key's first sequence runs call by call, so that libraries do what they do once; the second is
 * recorded; from then on it is played. When there are too many keys the oldest makes room. */
#include "base/check.h"
#include "kernels/cuda/cuda.h"

enum { MOST_GRAPHS = 128 };

struct graph {
    uint64_t key;         // 0: free
    cudaGraphExec_t exec; // NULL: seen once
};

static void forget(struct graph *g)
{
    if (g->exec)
        cudaGraphExecDestroy(g->exec);
    g->exec = NULL;
    g->key = 0;
}

/* The key's entry, or a new one. */
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
        return true; // every call does nothing
    if (c->marks)
        return true; // played as one, its phases would have no time of their own
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

/* Where something went wrong meanwhile (a launch that CUDA refused, say), the capture ends, with or
 * without a graph; one that lacks a kernel is neither kept nor played. */
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
