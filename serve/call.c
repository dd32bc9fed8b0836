#include "serve/call.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/clock.h"
#include "serve/reply.h"

static void call_free(struct call *c)
{
    for (int i = 0; i < c->n_choices; i++) {
        completion_close(&c->choices[i].completion);
        marks_close(&c->choices[i].marks);
        text_stream_free(&c->choices[i].told);
    }
    free(c->choices);
    free(c->out);
    js_free(c->body);
    pthread_mutex_destroy(&c->mutex);
    free(c);
}

void call_release(struct call *c)
{
    pthread_mutex_lock(&c->mutex);
    bool last = --c->users == 0;
    pthread_mutex_unlock(&c->mutex);
    if (last)
        call_free(c);
}

/* The mutex is held. */
static void wake(struct call *c)
{
    if (c->asleep)
        c->wake(c->connection);
    c->asleep = false;
}

/* The mutex is held. */
static void append(struct call *c, const char *text, size_t bytes)
{
    if (c->out_bytes + bytes > c->out_room) {
        c->out_room = 2 * (c->out_bytes + bytes);
        c->out = realloc(c->out, c->out_room);
        CHECK_MEMORY(c->out, "no memory for an answer of %zu bytes", c->out_room);
    }
    memcpy(c->out + c->out_bytes, text, bytes);
    c->out_bytes += bytes;
    c->begun = true;
}

/* The mutex is held. An event of a stream: "data: ", a line of JSON and an empty line. */
static void append_event(struct call *c, const char *json, size_t bytes)
{
    append(c, "data: ", 6);
    append(c, json, bytes);
    append(c, "\n", 1);
}

static void send(struct call *c, struct js *v, bool done)
{
    static const char end[] = "data: [DONE]\n\n";
    size_t bytes;
    char *text = reply_print(v, &bytes);
    pthread_mutex_lock(&c->mutex);
    if (c->stream)
        append_event(c, text, bytes);
    else
        append(c, text, bytes);
    if (done && c->stream)
        append(c, end, sizeof end - 1);
    c->done = done;
    if (c->stream || done)
        wake(c);
    pthread_mutex_unlock(&c->mutex);
    free(text);
}

bool call_token(void *context, int32_t token)
{
    struct choice *choice = context;
    choice->last_ns = clock_ns();
    if (!choice->first_ns)
        choice->first_ns = choice->last_ns;
    int before = choice->completion.n_new;
    bool ends = completion_push(&choice->completion, token);
    if (choice->completion.n_new > before) { // it is no stop token
        choice->sum += choice->logprobs.picked;
        reply_mark(choice, token);
    }
    if (choice->call->stream && !ends && choice->completion.out.bytes > choice->carried)
        send(choice->call, reply_chunk(choice), false);
    return ends;
}

static void finish(struct call *c)
{
    if (!c->stream)
        send(c, reply_whole(c), true);
    else if (c->include_usage)
        send(c, reply_usage_chunk(c), true);
}

void call_end(struct choice *choice, const struct request_result *r)
{
    struct call *c = choice->call;
    choice->state = CHOICE_ENDED;
    choice->n_reused = r->n_reused;
    c->n_left--;
    if (r->finish == FINISH_FAILED) {
        c->failed = true;
        call_fail(c, 500, r->error);
        return;
    }
    choice->finish = completion_end(&choice->completion, r, &choice->n_new);
    c->new_tokens += choice->n_new;
    if (c->failed)
        return;
    if (c->stream)
        send(c, reply_chunk(choice), c->n_left == 0 && !c->include_usage);
    if (c->n_left == 0)
        finish(c);
}

void call_fail(struct call *c, int http, const char *text)
{
    size_t bytes;
    char *json = reply_print(reply_error(http, text), &bytes);
    pthread_mutex_lock(&c->mutex);
    if (!c->done) {
        if (c->begun) { // a stream that has begun as a good one
            append_event(c, json, bytes);
        } else {
            c->http = http;
            append(c, json, bytes);
        }
        c->done = true;
        wake(c);
    }
    pthread_mutex_unlock(&c->mutex);
    free(json);
}

bool call_is_gone(struct call *c)
{
    pthread_mutex_lock(&c->mutex);
    bool gone = c->gone;
    pthread_mutex_unlock(&c->mutex);
    return gone;
}

void call_mark_gone(struct call *c)
{
    pthread_mutex_lock(&c->mutex);
    c->gone = c->done = true;
    c->fd = -1;
    wake(c);
    pthread_mutex_unlock(&c->mutex);
}

bool call_sleep(struct call *c, void (*suspend)(void *connection))
{
    pthread_mutex_lock(&c->mutex);
    c->asleep = !c->done && (!c->stream || c->out_taken == c->out_bytes);
    bool asleep = c->asleep;
    if (asleep)
        suspend(c->connection);
    pthread_mutex_unlock(&c->mutex);
    return asleep;
}

int call_http(struct call *c)
{
    pthread_mutex_lock(&c->mutex);
    int http = c->gone ? 0 : c->http;
    pthread_mutex_unlock(&c->mutex);
    return http;
}

size_t call_take(struct call *c, char *to, size_t room, bool *done)
{
    pthread_mutex_lock(&c->mutex);
    size_t left = c->out_bytes - c->out_taken, n = left < room ? left : room;
    if (n)
        memcpy(to, c->out + c->out_taken, n);
    c->out_taken += n;
    if (c->out_taken == c->out_bytes && c->out_taken > 1 << 16)
        c->out_taken = c->out_bytes = 0; // what was taken needs no memory
    *done = c->done;
    pthread_mutex_unlock(&c->mutex);
    return n;
}
