#include "serve/routes.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/progress.h"
#include "serve/page.h"
#include "serve/reply.h"

static const struct route routes[] = {
    {"/v1/chat/completions", true, false, ROUTE_CHAT},
    {"/v1/completions", true, false, ROUTE_TEXT},
    {"/v1/models", false, false, ROUTE_MODELS},
    {"/tokenize", true, false, ROUTE_TOKENIZE},
    {"/detokenize", true, false, ROUTE_DETOKENIZE},
    {"/health", false, true, ROUTE_HEALTH},
    {"/metrics", false, false, ROUTE_METRICS},
    {"/live", false, false, ROUTE_LIVE},
    {"/", false, true, ROUTE_PAGE},
};

const struct route *route_find(const char *path)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].path, path) == 0)
            return &routes[i];
    return NULL;
}

static struct js *models(const struct call_terms *terms)
{
    struct js *v = js_new_object(), *list = js_new_array(), *model = js_new_object();
    js_set(model, "id", js_new_text(terms->model));
    js_set(model, "object", js_new_text("model"));
    js_set(model, "created", js_new_int(0));
    js_set(model, "owned_by", js_new_text("epmoe"));
    js_set(model, "max_model_len", js_new_int(terms->completion.c->context));
    js_push(list, model);
    js_set(v, "object", js_new_text("list"));
    js_set(v, "data", list);
    return v;
}

static struct js *health(struct answer *a, const struct call_terms *terms, struct engine *e)
{
    struct js *v = js_new_object();
    struct progress_state p = progress_now();
    bool stopping = engine_is_stopping(e);
    js_set(v, "status", js_new_text(stopping ? "ending" : terms ? "ok" : "loading"));
    if (!terms && p.label) {
        js_set(v, "what", js_new_text(p.label));
        js_set(v, "progress", js_new_real(p.share));
    }
    a->http = terms && !stopping ? 200 : 503;
    return v;
}

static int tokenize(struct js **out, const struct call_terms *terms, const struct js *body)
{
    static const char *const names[] = {"prompt", "messages", "tools", "chat_template_kwargs",
                                        NULL};
    static const struct known_params known = {names, NULL, ""};
    int32_t *ids = NULL;
    size_t n = 0;
    int status = js_is_object(body)
                     ? params_check(body, &known, "")
                     : fail(STATUS_BAD_FILE, "expected an object, found %s", js_kind(body));
    if (!status)
        status = completion_prompt(&terms->completion, body, &ids, &n);
    if (status)
        return status;
    struct js *list = js_new_array(), *v = js_new_object();
    for (size_t i = 0; i < n; i++)
        js_push(list, js_new_int(ids[i]));
    js_set(v, "tokens", list);
    js_set(v, "count", js_new_int((int64_t)n));
    free(ids);
    *out = v;
    return 0;
}

static int detokenize(struct js **out, const struct call_terms *terms, const struct js *body)
{
    static const char *const names[] = {"tokens", NULL};
    static const struct known_params known = {names, NULL, ""};
    int32_t *ids = NULL;
    size_t n = 0, bytes;
    int status = js_is_object(body)
                     ? params_check(body, &known, "")
                     : fail(STATUS_BAD_FILE, "expected an object, found %s", js_kind(body));
    if (!status)
        status = param_ids("tokens", js_member(body, "tokens"), SIZE_MAX / 8,
                           terms->completion.c->config.vocab_size, &ids, &n);
    if (status)
        return status;
    char *text = tokenizer_decode(terms->completion.tokenizer, ids, n, false, &bytes);
    *out = js_new_object();
    js_set(*out, "prompt", js_new_string(text, bytes));
    free(text);
    free(ids);
    return 0;
}

/* Answer from a body of JSON. */
static struct js *from_body(struct answer *a, const struct call_terms *terms, const char *body,
                            size_t bytes,
                            int (*make)(struct js **, const struct call_terms *, const struct js *))
{
    struct js *v = NULL;
    error_capture(true);
    struct js *parsed = js_parse(body, bytes, "the body");
    int status = parsed ? make(&v, terms, parsed) : STATUS_BAD_FILE;
    if (status) {
        a->http = 400;
        v = reply_error(400, error_text());
    }
    error_capture(false);
    js_free(parsed);
    return v;
}

static void print_metrics(struct answer *a, struct engine *e)
{
    FILE *stream = open_memstream(&a->text, &a->bytes);
    CHECK_MEMORY(stream, "no memory for metrics");
    metrics_print(e->metrics, stream);
    CHECK_MEMORY(fclose(stream) == 0, "no memory for metrics");
    a->type = "text/plain; version=0.0.4; charset=utf-8";
}

static void copy_page(struct answer *a)
{
    a->bytes = page_html_bytes;
    a->text = malloc(a->bytes);
    CHECK_MEMORY(a->text, "no memory for the page");
    memcpy(a->text, page_html, a->bytes);
    a->type = "text/html; charset=utf-8";
}

/* What the page's live panel shows, once a second. */
static struct js *live(const struct call_terms *terms, struct engine *e)
{
    struct js *v = metrics_live(e->metrics);
    js_set(v, "model", js_new_text(terms->model));
    js_set(v, "chat", js_new_bool(terms->completion.chat != NULL));
    return v;
}

void route_answer(struct answer *a, const struct route *r, const struct call_terms *terms,
                  struct engine *e, const char *body, size_t bytes)
{
    struct js *v = NULL;
    if (r->kind == ROUTE_METRICS || r->kind == ROUTE_PAGE) {
        if (r->kind == ROUTE_PAGE)
            copy_page(a);
        else
            print_metrics(a, e);
        return;
    }
    if (r->kind == ROUTE_MODELS)
        v = models(terms);
    else if (r->kind == ROUTE_LIVE)
        v = live(terms, e);
    else if (r->kind == ROUTE_HEALTH)
        v = health(a, terms, e);
    else
        v = from_body(a, terms, body, bytes, r->kind == ROUTE_TOKENIZE ? tokenize : detokenize);
    a->text = reply_print(v, &a->bytes);
}
