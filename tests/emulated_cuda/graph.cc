/* Capture and graphs: work is recorded with what must come before it, and replayed in any order
 * that this allows. */
#include <algorithm>

#include "api.h"
#include "stream.h"

struct CUgraph_st {
    std::vector<emulated::graph_node> nodes;
};

struct CUgraphExec_st {
    std::shared_ptr<const std::vector<emulated::graph_node>> nodes;
};

namespace emulated
{

static std::vector<std::shared_ptr<capture>> captures; // under way

bool is_capturing(cudaStream_t stream)
{
    return stream && stream->captured;
}

capture *endangered_capture()
{
    for (const auto &c : captures)
        if (c->mode == cudaStreamCaptureModeGlobal ||
            (c->mode == cudaStreamCaptureModeThreadLocal &&
             c->thread == std::this_thread::get_id()))
            return c.get();
    return nullptr;
}

cudaError_t refuse_in_capture(const char *call)
{
    capture *c = endangered_capture();
    if (!c)
        return cudaSuccess;
    c->lost = true;
    return misuse(cudaErrorStreamCaptureUnsupported, "%s: not while a stream is being captured",
                  call);
}

cudaError_t record_node(cudaStream_t stream, task todo)
{
    capture *c = stream->captured.get();
    if (c->lost)
        return failed(cudaErrorStreamCaptureInvalidated);
    c->nodes.push_back({std::move(todo), stream->frontier});
    stream->frontier = {(int)c->nodes.size() - 1};
    return cudaSuccess;
}

/* No stream is captured by c any more. */
void leave_capture(capture *c)
{
    for (CUstream_st *s : std::vector<CUstream_st *>(c->streams))
        if (s->captured.get() == c) {
            s->frontier.clear();
            if (s != c->origin)
                s->captured = nullptr;
        }
    auto found = std::find_if(captures.begin(), captures.end(),
                              [=](const auto &each) { return each.get() == c; });
    std::shared_ptr<capture> keep = c->origin->captured;
    c->origin->captured = nullptr;
    if (found != captures.end())
        captures.erase(found);
}

/* Which nodes `from` cannot do without. */
static std::vector<bool> reached(const capture *c, const std::vector<int> &from)
{
    std::vector<bool> seen(c->nodes.size());
    std::vector<int> todo = from;
    while (!todo.empty()) {
        int i = todo.back();
        todo.pop_back();
        if (seen[(size_t)i])
            continue;
        seen[(size_t)i] = true;
        const std::vector<int> &after = c->nodes[(size_t)i].after;
        todo.insert(todo.end(), after.begin(), after.end());
    }
    return seen;
}

/* An early kernel that waits for node i alone, or null. */
static const graph_node *follower(const std::vector<graph_node> &nodes, size_t i)
{
    for (const graph_node &n : nodes)
        if (n.todo.kernel && n.todo.kernel->early && n.after == std::vector<int>{(int)i})
            return &n;
    return nullptr;
}

static void replay(const std::vector<graph_node> &nodes)
{
    std::vector<bool> done(nodes.size());
    std::vector<size_t> ready;
    for (size_t left = nodes.size(); left;) {
        ready.clear();
        for (size_t i = 0; i < nodes.size(); i++)
            if (!done[i] && std::all_of(nodes[i].after.begin(), nodes[i].after.end(),
                                        [&](int j) { return done[(size_t)j]; }))
                ready.push_back(i);
        size_t next = ready[next_random() % ready.size()];
        done[next] = true;
        left -= (size_t)run_task(nodes[next].todo, [&]() -> const task * {
            const graph_node *n = follower(nodes, next);
            if (!n)
                return nullptr;
            next = (size_t)(n - nodes.data());
            done[next] = true;
            return &n->todo;
        });
    }
}

} // namespace emulated

using namespace emulated;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    API_CALL();
    if (!stream)
        return misuse(cudaErrorStreamCaptureUnsupported,
                      "cudaStreamBeginCapture: the default stream cannot be captured");
    if (stream->captured)
        return misuse(cudaErrorInvalidValue, "cudaStreamBeginCapture: it is captured already");
    stream->captured = std::make_shared<capture>(
        capture{stream, std::this_thread::get_id(), mode, false, {}, {stream}});
    stream->frontier.clear();
    captures.push_back(stream->captured);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    API_CALL();
    *graph = nullptr;
    std::shared_ptr<capture> c = stream->captured;
    if (!c || c->origin != stream)
        return misuse(cudaErrorStreamCaptureUnmatched,
                      "cudaStreamEndCapture: not the stream whose capture was begun");
    std::vector<bool> joined = reached(c.get(), stream->frontier);
    leave_capture(c.get());
    if (c->lost)
        return failed(cudaErrorStreamCaptureInvalidated);
    if (std::find(joined.begin(), joined.end(), false) != joined.end())
        return misuse(cudaErrorStreamCaptureUnjoined,
                      "cudaStreamEndCapture: work of another stream was never waited for");
    *graph = new CUgraph_st{std::move(c->nodes)};
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    API_CALL();
    *status = !is_capturing(stream)    ? cudaStreamCaptureStatusNone
              : stream->captured->lost ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    API_CALL();
    *exec = new CUgraphExec_st{std::make_shared<const std::vector<graph_node>>(graph->nodes)};
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    API_CALL();
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    API_CALL();
    return issue(stream, [nodes = exec->nodes] { replay(*nodes); });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    API_CALL();
    delete exec;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    API_CALL();
    delete graph;
    return cudaSuccess;
}
