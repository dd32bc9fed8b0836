/* epmoe serve: an HTTP server with OpenAI's API. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "launch/prompt.h"
#include "launch/ranks.h"
#include "launch/signals.h"
#include "serve/http.h"

enum { MAX_BATCH = 4096, MAX_LOGIT_ROWS = 64, MAX_QUEUE = 1 << 20 };

struct serve_command {
    struct model_options model;
    const char *host, *key_file, *name, *system, *kv_memory, *body_text;
    long port, max_batch, n_predict, queue;
    struct text_list names, origins;
    bool n_predict_given, no_auth, access_log, no_prefix_cache, no_thinking;
    uint64_t most_body;
};

struct serve_run {
    const struct serve_command *o;
    bool under_mpi;
    struct http_options http_options;
    struct http *http;
    struct engine engine;
    struct metrics metrics;
    struct ranks ranks;
    struct tokenizer *tokenizer;
    struct chat chat;
    char no_chat[512]; // why requests with messages are refused
    char *model_name;
    struct call_terms terms;
};

static int choose_memory(struct serve_command *o)
{
    uint64_t bytes;
    int status = parse_memory("serve: --kv-memory", o->kv_memory, &bytes);
    o->model.kv_bytes = o->kv_memory ? (long)bytes : KV_HALF_OF_MEMORY;
    return status ? status : parse_memory("serve: --max-body", o->body_text, &o->most_body);
}

/* What a browser says of a page is its scheme and host alone, with a port or without; so another
 * spelling would let nobody in. */
static int check_guests(const struct serve_command *o)
{
    for (int i = 0; i < o->names.n; i++)
        if (!*o->names.at[i] || strpbrk(o->names.at[i], "*/:"))
            return fail(STATUS_USAGE,
                        "--allow-host: expected a name alone, such as chat.example, found \"%s\"",
                        o->names.at[i]);
    for (int i = 0; i < o->origins.n; i++) {
        const char *origin = o->origins.at[i], *rest = strstr(origin, "://");
        bool whole = rest && rest > origin && rest[3] && !strpbrk(rest + 3, "*/");
        if (!whole && strcmp(origin, "null") != 0)
            return fail(STATUS_USAGE,
                        "--allow-origin: expected an origin, such as https://chat.example, without "
                        "anything behind it, found \"%s\"",
                        origin);
    }
    return 0;
}

static int parse(struct serve_command *o, int argc, char **argv)
{
    struct command_spec spec = {
        "serve",
        "Serve a model by HTTP, as OpenAI's API has it: /v1/chat/completions, /v1/completions and\n"
        "/v1/models; also /tokenize, /detokenize, /health and /metrics. docs/serve.md",
        "-m MODEL [--host 127.0.0.1] [--port 8080] [options]",
        NULL,
        NULL,
        "Ctrl-C or SIGTERM: finishes what runs; the second time: ends at once."};
    struct option_spec table[MODEL_OPTIONS + 17] = {{0}};
    const struct option_spec own[] = {
        {"host", 0, OPTION_TEXT, &o->host, "ADDRESS",
         "listen there (127.0.0.1: only this host can ask); beyond it --api-key-file is needed", 0,
         0, 0},
        {"port", 0, OPTION_INT, &o->port, "N", "listen there (8080); 0: any that is free", 0, 65535,
         0},
        {"api-key-file", 0, OPTION_TEXT, &o->key_file, "FILE",
         "clients must have one of its keys, one a line", 0, 0, 0},
        {"no-auth", 0, OPTION_FLAG, &o->no_auth, NULL, "serve other hosts without a key", 0, 0, 0},
        {"allow-host", 0, OPTION_TEXTS, &o->names, "NAME",
         "a name that clients may call this server by; may be given 16 times", 0, 0, 0},
        {"allow-origin", 0, OPTION_TEXTS, &o->origins, "ORIGIN",
         "another page that may ask, such as https://chat.example; may be given 16 times", 0, 0, 0},
        {"name", 0, OPTION_TEXT, &o->name, "NAME", "what clients call the model (its own name)", 0,
         0, 0},
        {"max-batch", 0, OPTION_INT, &o->max_batch, "N", "sequences at once (32)", 1, MAX_BATCH, 0},
        {"queue", 0, OPTION_INT, &o->queue, "N",
         "texts that wait at most, before clients get 429 (256)", 1, MAX_QUEUE, 0},
        {"kv-memory", 0, OPTION_TEXT, &o->kv_memory, "BYTES",
         "for keys and values, e.g. 4G (half of what is available)", 0, 0, 0},
        {"max-body", 0, OPTION_TEXT, &o->body_text, "BYTES", "of a request (16M)", 0, 0, 0},
        {"n-predict", 'n', OPTION_INT, &o->n_predict, "N",
         "new tokens of a request without max_tokens (chat: until the context is full; text: 16)",
         -1, 1 << 24, &o->n_predict_given},
        {"system", 0, OPTION_TEXT, &o->system, "TEXT",
         "system prompt of messages without one, instead of the template's", 0, 0, 0},
        {"no-thinking", 0, OPTION_FLAG, &o->no_thinking, NULL,
         "answers without thinking (enable_thinking false), unless a request says otherwise", 0, 0,
         0},
        {"no-prefix-cache", 0, OPTION_FLAG, &o->no_prefix_cache, NULL,
         "compute every prompt from its beginning", 0, 0, 0},
        {"access-log", 0, OPTION_FLAG, &o->access_log, NULL, "print a line for each request", 0, 0,
         0},
    };
    model_options_table(table, &o->model);
    _Static_assert(sizeof own / sizeof *own < 17, "the table's last entry is empty");
    memcpy(table + MODEL_OPTIONS, own, sizeof own);
    int status = options_parse(&spec, table, argc, argv);
    if (!status)
        status = check_guests(o);
    return status ? status : choose_memory(o);
}

/* "austen-moe" of models/austen-moe, and a name in the cache as it is. */
static char *name_of(const struct serve_command *o)
{
    struct stat st;
    const char *given = o->name ? o->name : o->model.model, *base = given;
    bool folder = !o->name && stat(given, &st) == 0;
    char *real = folder ? realpath(given, NULL) : NULL;
    if (real && strrchr(real, '/')[1])
        base = strrchr(real, '/') + 1;
    char *name = strdup(base);
    CHECK_MEMORY(name, "no memory for a name");
    free(real);
    return name;
}

/* How long this process goes on after a signal of mpirun, which kills it a second later. */
static const int64_t before_killed_ns = 900000000;

/* The first signal ends what waits and lets what runs finish. The second ends the process, and
 * every client gets an error first. Under mpirun both are launch/mpirun.sh's SIGUSR1; any
 * other signal is mpirun's, which is about to kill this process. */
static bool on_signal(void *context, int number, int times)
{
    struct serve_run *s = context;
    bool hurried = s->under_mpi && number != SIGUSR1;
    if (times == 1 && !hurried && number != SIGHUP) {
        engine_stop(&s->engine);
        warn("finishing what runs; Ctrl-C again ends at once");
        return true;
    }
    engine_abandon(&s->engine, "the server was ended");
    http_flush(s->http, hurried ? (double)before_killed_ns * 1e-9 : 3);
    return false;
}

/* A worker under mpirun waits a moment before it ends. mpirun sends SIGTERM to all ranks, sleeps
 * for a second and kills those that are left; but the end of any rank wakes it, and then rank 0
 * would be killed before it has told its clients. */
static bool on_worker_signal(void *context, int number, int times)
{
    const struct timespec moment = {0, before_killed_ns};
    (void)context;
    (void)times;
    if (number == SIGUSR1)
        return true;
    nanosleep(&moment, NULL);
    return false;
}

/* Read the model's chat template. Without one requests with messages are refused. 0 or a status. */
static int open_template(struct serve_run *s)
{
    error_capture(true);
    if (prompt_template(&s->chat, s->o->model.model) == 0)
        s->terms.completion.chat = &s->chat;
    snprintf(s->no_chat, sizeof s->no_chat, "%s", error_text());
    error_capture(false);
    s->terms.completion.no_thinking = s->o->no_thinking;
    int status = prompt_check_system(s->terms.completion.chat, s->o->system);
    return status ? status : prompt_check_thinking(s->terms.completion.chat, s->o->no_thinking);
}

static int serve_model(struct serve_run *s, struct process *p)
{
    int rows = (int)s->o->max_batch;
    struct session_needs needs = {rows, rows < MAX_LOGIT_ROWS ? rows : MAX_LOGIT_ROWS, 0};
    int status = ranks_open(&s->ranks, p, &s->o->model, &needs);
    if (status)
        return status;
    s->terms.completion.c = &s->ranks.coordinator;
    http_ready(s->http, &s->terms);
    warn("serving %s on http://%s", s->model_name, http_address(s->http));
    status = engine_run(&s->engine, &s->ranks.coordinator);
    http_flush(s->http, status ? 2 : 10);
    signals_on(NULL, NULL); // does not return if on_signal() is ending the process
    http_close(s->http);
    s->http = NULL;
    if (!status)
        status = ranks_report_exchange(&s->ranks);
    ranks_close(&s->ranks);
    return status;
}

_Static_assert((int)MAX_TEXTS <= (int)MAX_NAMES, "all values of --allow-host are kept");

static int open_guard(struct serve_run *s)
{
    const struct serve_command *o = s->o;
    struct guard *g = &s->http_options.guard;
    g->names[g->n_names++] = o->host;
    for (int i = 0; i < o->names.n; i++)
        g->names[g->n_names++] = o->names.at[i];
    for (int i = 0; i < o->origins.n; i++)
        g->origins[g->n_origins++] = o->origins.at[i];
    return o->key_file ? guard_read_keys(g, o->key_file) : 0;
}

static int serve_here(struct process *p, const void *options)
{
    const struct serve_command *o = options;
    struct serve_run s = {.o = o, .under_mpi = p->mpi};
    s.http_options = (struct http_options){.host = o->host,
                                           .port = (int)o->port,
                                           .no_auth = o->no_auth,
                                           .most_body = o->most_body,
                                           .access_log = o->access_log};
    s.model_name = name_of(o);
    s.terms = (struct call_terms){
        .completion = {.no_chat = s.no_chat, .system = o->system, .n_predict = (int)o->n_predict},
        .n_predict_given = o->n_predict_given,
        .model = s.model_name};
    metrics_open(&s.metrics);
    engine_open(&s.engine, &s.metrics, (int)(o->max_batch + o->queue), !o->no_prefix_cache);
    int status = prompt_tokenizer(&s.tokenizer, o->model.model);
    s.terms.completion.tokenizer = s.tokenizer;
    if (!status)
        status = open_guard(&s);
    if (!status)
        status = open_template(&s);
    if (!status)
        status = http_open(&s.http, &s.http_options, &s.engine);
    if (!status) {
        signals_on(on_signal, &s);
        status = serve_model(&s, p);
        signals_on(NULL, NULL);
    }
    if (s.http)
        http_close(s.http);
    engine_close(&s.engine);
    metrics_close(&s.metrics);
    guard_close(&s.http_options.guard);
    chat_close(&s.chat);
    tokenizer_close(s.tokenizer);
    free(s.model_name);
    return status;
}

int command_serve(struct process *p, int argc, char **argv)
{
    struct serve_command o = {.model = model_options_default(),
                              .host = "127.0.0.1",
                              .port = 8080,
                              .max_batch = 32,
                              .queue = 256,
                              .body_text = "16M"};
    if (p->mpi && p->mpi->rank > 0)
        signals_on(on_worker_signal, NULL);
    return ranks_command(p, parse(&o, argc, argv), &o.model, serve_here, &o);
}
