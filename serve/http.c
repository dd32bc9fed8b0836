#include "serve/http.h"

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "serve/listen.h"
#include "serve/reply.h"
#include "serve/routes.h"

enum {
    THREADS = 2,
    MAX_CONNECTIONS = 1000,
    MAX_HEAD_BYTES = 32 << 10, // of a request's line and headers
    IDLE_SECONDS = 30,         // until a connection on which nothing moves is closed
    PIECE_BYTES = 16 << 10,    // of a stream, at most, at a time
};

struct http {
    const struct http_options *options;
    struct engine *engine;
    _Atomic(const struct call_terms *) terms; // NULL: the model is being loaded
    struct listener listener;
    struct MHD_Daemon *daemon;
    atomic_int open; // answers under way
};

/* Of the page: nothing from elsewhere, and no other page may frame it. */
static const char policy[] =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'";

/* A request and its answer. */
struct visit {
    struct http *http;
    struct MHD_Connection *connection;
    const struct route *route;
    struct call *call; // NULL: it wants no tokens
    char *body;        // [bytes]
    size_t bytes, room;
    size_t unkept; // bytes of a body that is too large; 0: it is not
    int64_t arrived_ns;
    const char *origin; // an origin that may read the answer, or NULL
    int code;
    char *method, *url; // for the log, or NULL
};

static const char *header(const struct visit *v, const char *name)
{
    return MHD_lookup_connection_value(v->connection, MHD_HEADER_KIND, name);
}

/* ---- answers ---- */

static enum MHD_Result queue(struct visit *v, int code, const char *type, struct MHD_Response *r)
{
    v->code = code;
    MHD_add_response_header(r, "Content-Type", type);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(r, "Content-Security-Policy", policy);
    if (v->origin) {
        MHD_add_response_header(r, "Access-Control-Allow-Origin", v->origin);
        MHD_add_response_header(r, "Vary", "Origin");
    }
    if (code == 429 || code == 503)
        MHD_add_response_header(r, "Retry-After", "1");
    if (code == 401)
        MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
    if (code == 405)
        MHD_add_response_header(r, "Allow",
                                v->route->post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS");
    enum MHD_Result done = MHD_queue_response(v->connection, (unsigned)code, r);
    MHD_destroy_response(r);
    return done;
}

static enum MHD_Result answer_text(struct visit *v, int code, const char *type, char *text,
                                   size_t bytes)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(bytes, text, MHD_RESPMEM_MUST_FREE);
    CHECK_MEMORY(r, "no memory for an answer");
    return queue(v, code, type, r);
}

static enum MHD_Result answer_json(struct visit *v, int code, struct js *json)
{
    size_t bytes;
    char *text = reply_print(json, &bytes);
    return answer_text(v, code, "application/json", text, bytes);
}

static enum MHD_Result answer_error(struct visit *v, int code, const char *text)
{
    return answer_json(v, code, reply_error(code, text));
}

/* The headers that a page asks to send: clients have some of their own, all of which are ignored
 * but for these two. */
static const char *wanted_headers(const struct visit *v)
{
    static const char names[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ";
    const char *asked = header(v, "Access-Control-Request-Headers");
    return asked && *asked && strlen(asked) == strspn(asked, names) ? asked
                                                                    : "authorization, content-type";
}

static enum MHD_Result answer_preflight(struct visit *v)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(0, "", MHD_RESPMEM_PERSISTENT);
    CHECK_MEMORY(r, "no memory for an answer");
    MHD_add_response_header(r, "Access-Control-Allow-Methods", "GET, POST");
    MHD_add_response_header(r, "Access-Control-Allow-Headers", wanted_headers(v));
    return queue(v, 204, "text/plain", r);
}

/* ---- completions ---- */

static void suspend(void *connection)
{
    MHD_suspend_connection(connection);
}

static void resume(void *connection)
{
    MHD_resume_connection(connection);
}

/* The next piece of a stream. With nothing to send the connection sleeps. */
static ssize_t next_piece(void *visit, uint64_t at, char *to, size_t room)
{
    struct visit *v = visit;
    bool done;
    (void)at;
    for (;;) {
        size_t n = call_take(v->call, to, room, &done);
        if (n)
            return (ssize_t)n;
        if (!call_http(v->call))
            return MHD_CONTENT_READER_END_WITH_ERROR;
        if (done)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (call_sleep(v->call, suspend))
            return 0;
    }
}

static enum MHD_Result answer_stream(struct visit *v)
{
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE_BYTES, next_piece, v, NULL);
    CHECK_MEMORY(r, "no memory for an answer");
    MHD_add_response_header(r, "Cache-Control", "no-cache");
    MHD_add_response_header(r, "X-Accel-Buffering", "no"); // a reverse proxy is to pass pieces on
    return queue(v, 200, "text/event-stream", r);
}

/* There is output of the call, or it is done. */
static enum MHD_Result answer_call(struct visit *v)
{
    int code = call_http(v->call);
    bool done;
    if (!code)
        return MHD_NO; // the client has left
    if (code == 200 && v->call->stream)
        return answer_stream(v);
    size_t bytes = v->call->out_bytes; // it is done, so nobody changes it
    char *text = malloc(bytes + 1);
    CHECK_MEMORY(text, "no memory for an answer of %zu bytes", bytes);
    call_take(v->call, text, bytes, &done);
    return answer_text(v, code, "application/json", text, bytes);
}

static int socket_of(const struct visit *v)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(v->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

static enum MHD_Result refuse_call(struct visit *v, enum submitted why, int texts)
{
    char text[160];
    if (why == SUBMIT_FULL)
        return answer_error(v, 429, "the queue is full: ask again in a second");
    if (why == SUBMIT_STOPPING)
        return answer_error(v, 503, "the server is ending and takes no more requests");
    snprintf(text, sizeof text,
             "n: expected at most %d texts in all (the server's --max-batch and --queue), found %d",
             v->http->engine->most_texts, texts);
    return answer_error(v, 400, text);
}

static enum MHD_Result answer_completion(struct visit *v, const struct call_terms *terms)
{
    struct refusal why;
    struct call *c =
        call_read(v->body ? v->body : "", v->bytes, v->route->kind == ROUTE_CHAT, terms, &why);
    if (!c)
        return answer_error(v, why.http, why.text);
    c->fd = socket_of(v);
    c->wake = resume;
    c->connection = v->connection;
    enum submitted taken = engine_submit(v->http->engine, c);
    if (taken != SUBMIT_TAKEN) {
        int n = c->n_choices;
        call_release(c);
        return refuse_call(v, taken, n);
    }
    v->call = c;
    return call_sleep(c, suspend) ? MHD_YES : answer_call(v);
}

/* ---- requests ---- */

static const char too_large[] = "the body is too large; --max-body sets the limit";

static enum MHD_Result answer(struct visit *v)
{
    const struct call_terms *terms = atomic_load(&v->http->terms);
    struct answer a = {.http = 200, .type = "application/json"};
    if (v->call)
        return answer_call(v);
    if (v->unkept)
        return answer_error(v, 413, too_large);
    if (!terms && v->route->kind != ROUTE_HEALTH && v->route->kind != ROUTE_METRICS &&
        v->route->kind != ROUTE_PAGE)
        return answer_error(v, 503, "the model is being loaded: /health tells how far it is");
    if (v->route->kind == ROUTE_CHAT || v->route->kind == ROUTE_TEXT)
        return answer_completion(v, terms);
    route_answer(&a, v->route, terms, v->http->engine, v->body ? v->body : "", v->bytes);
    return answer_text(v, a.http, a.type, a.text, a.bytes);
}

/* What a request's headers say about where its body ends, and which host it is for. */
struct framing {
    int hosts, lengths, codings;
    bool unknown; // a coding that is not chunked
};

static enum MHD_Result count_header(void *framing, enum MHD_ValueKind kind, const char *name,
                                    const char *value)
{
    struct framing *f = framing;
    (void)kind;
    f->hosts += strcasecmp(name, "Host") == 0;
    f->lengths += strcasecmp(name, "Content-Length") == 0;
    if (strcasecmp(name, "Transfer-Encoding") != 0)
        return MHD_YES;
    f->codings++;
    f->unknown = f->unknown || !value || strcasecmp(value, "chunked") != 0;
    return MHD_YES;
}

/* Why the headers are not clear about that, or NULL: a proxy that reads them in another way would
 * see other requests on the connection. */
static const char *unclear(const struct visit *v)
{
    struct framing f = {0};
    MHD_get_connection_values(v->connection, MHD_HEADER_KIND, count_header, &f);
    return f.unknown     ? "expected no Transfer-Encoding but chunked, found another"
           : f.hosts > 1 ? "expected one Host, found several"
           : f.lengths + f.codings > 1
               ? "expected one Content-Length or Transfer-Encoding, found several"
               : NULL;
}

/* What is wrong with a request before its body is read: 0 if nothing is. */
static int refuse_early(struct visit *v, const char *url, const char *method, const char **text)
{
    const struct guard *g = &v->http->options->guard;
    const char *host = header(v, "Host"), *length = header(v, "Content-Length");
    bool other, get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if ((*text = unclear(v)))
        return 400;
    *text = host ? "expected a Host that this server goes by, found another; --allow-host names one"
                 : "expected a Host that this server goes by, found none";
    if (!guard_host(g, host))
        return 403;
    *text = "expected a request of this server's own page, found another Origin; --allow-origin "
            "names one";
    if (!guard_origin(g, header(v, "Origin"), host, &other))
        return 403;
    v->origin = other ? header(v, "Origin") : NULL;
    v->route = route_find(url);
    *text = "expected a path of this API, found another; docs/serve.md lists them";
    if (!v->route)
        return 404;
    if (strcmp(method, "OPTIONS") == 0)
        return 0;
    *text = "expected another method on this path, which Allow names";
    if (v->route->post ? strcmp(method, "POST") != 0 : !get)
        return 405;
    *text = "expected an Authorization: Bearer with a key of this server, found none that is";
    if (!v->route->open && !guard_key(g, header(v, "Authorization")))
        return 401;
    *text = too_large;
    return length && strtoull(length, NULL, 10) > v->http->options->most_body ? 413 : 0;
}

static struct visit *begin(struct http *h, struct MHD_Connection *connection, const char *url,
                           const char *method)
{
    struct visit *v = calloc(1, sizeof *v);
    CHECK_MEMORY(v, "no memory for a request");
    *v = (struct visit){.http = h, .connection = connection, .arrived_ns = clock_ns()};
    atomic_fetch_add(&h->open, 1);
    if (h->options->access_log) {
        v->method = strdup(method);
        v->url = strdup(url);
    }
    return v;
}

/* A body that is too large is read to its end without being kept, as a client reads the answer only
 * then; but not for ever: false. */
static bool add_body(struct visit *v, const char *bytes, size_t n)
{
    enum { MOST_UNKEPT = 64 << 20 };
    if (v->unkept || v->bytes + n > v->http->options->most_body) {
        v->unkept += n;
        return v->unkept <= MOST_UNKEPT;
    }
    if (v->bytes + n > v->room) {
        v->room = 2 * (v->bytes + n);
        v->body = realloc(v->body, v->room);
        CHECK_MEMORY(v->body, "no memory for a body of %zu bytes", v->room);
    }
    memcpy(v->body + v->bytes, bytes, n);
    v->bytes += n;
    return true;
}

static enum MHD_Result handle(void *http, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *bytes, void **context)
{
    struct visit *v = *context;
    const char *text;
    (void)version;
    if (!v) {
        *context = v = begin(http, connection, url, method);
        int code = refuse_early(v, url, method, &text);
        return code ? answer_error(v, code, text) : MHD_YES;
    }
    if (*bytes) {
        bool fits = add_body(v, data, *bytes);
        *bytes = 0;
        return fits ? MHD_YES : MHD_NO;
    }
    return strcmp(method, "OPTIONS") == 0 ? answer_preflight(v) : answer(v);
}

static void log_access(const struct visit *v)
{
    if (v->method && v->url)
        warn("%s %s %d %.3f s", v->method, v->url, v->code, seconds_since(v->arrived_ns));
}

static void completed(void *http, struct MHD_Connection *connection, void **context,
                      enum MHD_RequestTerminationCode how)
{
    struct http *h = http;
    struct visit *v = *context;
    (void)connection;
    if (!v)
        return;
    if (v->call) {
        call_mark_gone(v->call);
        call_release(v->call);
    }
    if (how == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        metrics_answer(h->engine->metrics, v->code);
    else
        metrics_left(h->engine->metrics);
    log_access(v);
    free(v->body);
    free(v->method);
    free(v->url);
    free(v);
    *context = NULL;
    atomic_fetch_sub(&h->open, 1);
}

/* ---- the server ---- */

static int start(struct http *h)
{
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;
    h->daemon = MHD_start_daemon(flags, 0, NULL, NULL, handle, h, MHD_OPTION_LISTEN_SOCKET,
                                 h->listener.fd, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)THREADS,
                                 MHD_OPTION_CONNECTION_LIMIT, (unsigned)MAX_CONNECTIONS,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MAX_HEAD_BYTES,
                                 MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
                                 MHD_OPTION_NOTIFY_COMPLETED, completed, h, MHD_OPTION_END);
    return h->daemon ? 0
                     : fail(STATUS_FAILED, "%s: the HTTP server cannot start", h->listener.address);
}

int http_open(struct http **out, const struct http_options *o, struct engine *e)
{
    struct http *h = calloc(1, sizeof *h);
    CHECK_MEMORY(h, "no memory for a server");
    h->options = o;
    h->engine = e;
    int status = listen_on(&h->listener, o->host, o->port);
    bool opened = !status;
    if (!status && !h->listener.loopback && !o->guard.n_keys && !o->no_auth)
        status = fail(STATUS_USAGE,
                      "--host %s: expected --api-key-file with an address that other hosts reach, "
                      "found none; --no-auth serves everybody",
                      o->host);
    if (!status)
        status = start(h);
    if (!status) {
        *out = h;
        return 0;
    }
    if (opened)
        close(h->listener.fd);
    free(h);
    return status;
}

void http_ready(struct http *h, const struct call_terms *terms)
{
    atomic_store(&h->terms, terms);
}

const char *http_address(const struct http *h)
{
    return h->listener.address;
}

void http_flush(struct http *h, double seconds)
{
    static const struct timespec nap = {0, 2000000};
    int64_t start_ns = clock_ns();
    while (atomic_load(&h->open) > 0 && seconds_since(start_ns) < seconds)
        nanosleep(&nap, NULL);
}

void http_close(struct http *h)
{
    MHD_stop_daemon(h->daemon); // closes the socket, too
    free(h);
}

const char *http_library(void)
{
    static _Thread_local char text[64];
    snprintf(text, sizeof text, "libmicrohttpd %s", MHD_get_version());
    return text;
}
