#include "serve/metrics.h"

#include <inttypes.h>

#include "base/clock.h"

static const double bounds[N_BOUNDS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                        0.25,  0.5,    1,     2.5,  5,     10,   60};

void metrics_open(struct metrics *m)
{
    *m = (struct metrics){0};
    pthread_mutex_init(&m->mutex, NULL);
}

void metrics_close(struct metrics *m)
{
    pthread_mutex_destroy(&m->mutex);
    watched_close(&m->watched);
}

static void observe(struct histogram *h, double seconds)
{
    int i = 0;
    while (i < N_BOUNDS && seconds > bounds[i])
        i++;
    h->counts[i]++;
    h->sum += seconds;
}

void metrics_answer(struct metrics *m, int code)
{
    pthread_mutex_lock(&m->mutex);
    m->answers[code < N_CODES ? code : 0]++;
    pthread_mutex_unlock(&m->mutex);
}

void metrics_left(struct metrics *m)
{
    pthread_mutex_lock(&m->mutex);
    m->left++;
    pthread_mutex_unlock(&m->mutex);
}

void metrics_waiting(struct metrics *m, int waiting)
{
    pthread_mutex_lock(&m->mutex);
    m->waiting = waiting;
    pthread_mutex_unlock(&m->mutex);
}

/* The mutex is held. */
static void count_recent(struct metrics *m, int tokens)
{
    int64_t second = clock_ns() / 1000000000;
    int i = (int)(second % RATE_SECONDS);
    if (m->recent_s[i] != second)
        m->recent[i] = 0;
    m->recent_s[i] = second;
    m->recent[i] += (uint64_t)tokens;
}

void metrics_step(struct metrics *m, const struct scheduler *s, int new_tokens)
{
    const struct kv_cache *kv = &s->c->kv;
    const struct exchange_counters *moved = root_counters(s->c->exchange[0]);
    pthread_mutex_lock(&m->mutex);
    m->steps = s->steps;
    m->sequence_steps = s->sequence_steps;
    m->running = s->n_running;
    m->kv_blocks = kv->n_blocks;
    m->kv_used = kv->n_blocks - kv_cache_available(kv);
    m->exposed_ns = moved->exposed_ns;
    m->hidden_ns = moved->hidden_ns;
    m->new_tokens += (uint64_t)new_tokens;
    count_recent(m, new_tokens);
    pthread_mutex_unlock(&m->mutex);
}

void metrics_choice(struct metrics *m, int n_prompt, int n_reused, int n, double ttft, double rest)
{
    pthread_mutex_lock(&m->mutex);
    m->prompt_tokens += (uint64_t)n_prompt;
    m->reused_tokens += (uint64_t)n_reused;
    if (n > 0)
        observe(&m->ttft, ttft);
    if (n > 1)
        observe(&m->tpot, rest / (n - 1));
    pthread_mutex_unlock(&m->mutex);
}

/* Tokens a second, over so many of the last whole seconds. */
static double recent_rate(const struct metrics *m, int seconds)
{
    int64_t now = clock_ns() / 1000000000;
    uint64_t sum = 0;
    for (int i = 0; i < RATE_SECONDS; i++)
        if (m->recent_s[i] < now && m->recent_s[i] >= now - seconds)
            sum += m->recent[i];
    return (double)sum / seconds;
}

static void print_value(FILE *out, const char *name, const char *type, const char *help, double v)
{
    fprintf(out, "# HELP epmoe_%s %s\n# TYPE epmoe_%s %s\nepmoe_%s %.15g\n", name, help, name, type,
            name, v);
}

static void print_histogram(FILE *out, const char *name, const char *help,
                            const struct histogram *h)
{
    uint64_t sum = 0;
    fprintf(out, "# HELP epmoe_%s %s\n# TYPE epmoe_%s histogram\n", name, help, name);
    for (int i = 0; i < N_BOUNDS; i++) {
        sum += h->counts[i];
        fprintf(out, "epmoe_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, bounds[i], sum);
    }
    sum += h->counts[N_BOUNDS];
    fprintf(out, "epmoe_%s_bucket{le=\"+Inf\"} %" PRIu64 "\nepmoe_%s_sum %.9g\n", name, sum, name,
            h->sum);
    fprintf(out, "epmoe_%s_count %" PRIu64 "\n", name, sum);
}

static void print_answers(FILE *out, const struct metrics *m)
{
    fprintf(out, "# HELP epmoe_requests_total HTTP requests answered, by status\n"
                 "# TYPE epmoe_requests_total counter\n");
    for (int code = 0; code < N_CODES; code++)
        if (m->answers[code])
            fprintf(out, "epmoe_requests_total{code=\"%d\"} %" PRIu64 "\n", code, m->answers[code]);
}

void metrics_print(struct metrics *m, FILE *out)
{
    pthread_mutex_lock(&m->mutex);
    struct metrics now = *m;
    pthread_mutex_unlock(&m->mutex);
    print_answers(out, &now);
    print_value(out, "requests_left_total", "counter",
                "requests whose client left before the answer was complete", (double)now.left);
    print_value(out, "requests_waiting", "gauge", "texts in the queue", now.waiting);
    print_value(out, "requests_running", "gauge", "texts that are being generated", now.running);
    print_value(out, "kv_blocks", "gauge", "blocks of the KV cache", now.kv_blocks);
    print_value(out, "kv_blocks_used", "gauge", "blocks of the KV cache in use", now.kv_used);
    print_value(out, "prompt_tokens_total", "counter", "tokens of prompts that have ended",
                (double)now.prompt_tokens);
    print_value(out, "prompt_tokens_reused_total", "counter",
                "of these, tokens whose keys and values were kept", (double)now.reused_tokens);
    print_value(out, "new_tokens_total", "counter", "tokens generated", (double)now.new_tokens);
    print_value(out, "tokens_per_second", "gauge", "tokens generated a second, over ten seconds",
                recent_rate(&now, 10));
    print_value(out, "steps_total", "counter", "steps of the model", (double)now.steps);
    print_value(out, "sequence_steps_total", "counter", "sequences in these steps",
                (double)now.sequence_steps);
    print_value(out, "exchange_exposed_seconds_total", "counter",
                "waiting for rows that were with other ranks", (double)now.exposed_ns * 1e-9);
    print_value(out, "exchange_hidden_seconds_total", "counter",
                "working while rows were with other ranks", (double)now.hidden_ns * 1e-9);
    print_histogram(out, "time_to_first_token_seconds",
                    "from a request's arrival to its first token", &now.ttft);
    print_histogram(out, "time_per_output_token_seconds", "between tokens of a text, its mean",
                    &now.tpot);
}

void metrics_watch(struct metrics *m, const struct watched *w)
{
    pthread_mutex_lock(&m->mutex);
    if (!m->watched.ranks)
        watched_open(&m->watched, w->n_layers, w->n_experts, w->n_ranks);
    watched_copy(&m->watched, w);
    pthread_mutex_unlock(&m->mutex);
}

static struct js *list_of(const uint64_t *values, int n)
{
    struct js *list = js_new_array();
    for (int i = 0; i < n; i++)
        js_push(list, js_new_int((int64_t)values[i]));
    return list;
}

/* The mutex is held. */
static struct js *layers_of(const struct watched *w)
{
    struct js *list = js_new_array();
    for (int l = 0; l < w->n_layers; l++)
        js_push(list, list_of(w->experts + l * w->n_experts, w->n_experts));
    return list;
}

struct js *metrics_live(struct metrics *m)
{
    struct js *v = js_new_object();
    pthread_mutex_lock(&m->mutex);
    js_set(v, "tokens_per_second", js_new_real(recent_rate(m, 2)));
    js_set(v, "running", js_new_int(m->running));
    js_set(v, "waiting", js_new_int(m->waiting));
    js_set(v, "kv_blocks", js_new_int(m->kv_blocks));
    js_set(v, "kv_blocks_used", js_new_int(m->kv_used));
    js_set(v, "steps", js_new_int((int64_t)m->steps));
    js_set(v, "mean_batch",
           js_new_real(m->steps ? (double)m->sequence_steps / (double)m->steps : 0));
    js_set(v, "layers", layers_of(&m->watched));
    js_set(v, "ranks", list_of(m->watched.ranks, m->watched.n_ranks));
    pthread_mutex_unlock(&m->mutex);
    return v;
}
