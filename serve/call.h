/* One request of a client for completions, from its body to its answer.
 *
 * HTTP's thread reads it (call_read) and hands it to the engine; then it waits for output, which
 * the engine's thread makes (call_token, call_end, call_fail). The output is the body of the
 * answer: of a stream its events, in pieces as they come, else one object. When neither thread
 * needs the call any more (call_release by both), it is freed. */
#pragma once

#include <pthread.h>

#include "serve/completion.h"

enum { MAX_CHOICES = 128 };

/* What all calls of a server share. */
struct call_terms {
    struct completion_terms completion;
    bool
        n_predict_given; // else: OpenAI's, the rest of the context for a chat, 16 tokens for a text
    const char *model;   // what clients call it
};

/* Why a request cannot be served: the answer's HTTP status, and its text. */
struct refusal {
    int http;
    char text[1024];
};

/* Log probabilities that no chunk has carried yet; all NULL: none are wanted. */
struct marks {
    struct js *content;                         // a chat's
    struct js *tokens, *values, *best, *starts; // a text's
};

/* One of the texts that a call asks for. */
struct choice {
    struct completion completion;
    struct call *call;
    int index;
    struct token_logprobs logprobs;
    struct marks marks;
    struct text_stream told; // the text of the tokens that have marks, for where the next begins
    size_t characters;       // of it, so far as they are complete
    double sum;              // of the new tokens' log probabilities, where they are known
    size_t carried;          // bytes of the text that chunks have carried
    bool cut;           // an echoed prompt ends within a character, which the new text begins with
    bool begun;         // a chunk has been sent
    const char *finish; // why it has ended; NULL: it has not
    int n_new, n_reused;
    int64_t first_ns, last_ns; // when its first and last token came; 0: none has
    enum { CHOICE_WAITS, CHOICE_RUNS, CHOICE_ENDED } state; // the engine's
    struct choice *next;                                    // the engine's
};

struct call {
    struct js *body; // stop strings point into it
    const struct call_terms *terms;
    bool chat, stream, include_usage, echo;
    int top_logprobs; // -1: no log probabilities
    int n, best_of;   // choices of each prompt that are answered, and that are made
    char id[48];
    int64_t created_s, arrived_ns;
    struct choice *choices; // [n_choices] best_of of each prompt
    int n_choices, n_left;  // all; those that have not ended
    int prompt_tokens, new_tokens;
    bool failed;       // the engine's: the other choices need not go on
    struct call *next; // the engine's
    struct engine *engine;

    pthread_mutex_t mutex; // guards what follows
    char *out;             // [out_bytes], of which HTTP has taken out_taken
    size_t out_bytes, out_room, out_taken;
    bool begun;  // some output was made
    bool done;   // no more output comes
    bool gone;   // the client has left
    int http;    // status of the answer, while nothing of it has been sent
    int fd;      // the client's socket; -1: it may be another's by now
    int users;   // threads that still need the call
    bool asleep; // HTTP waits for wake()
    void (*wake)(void *connection);
    void *connection;
};

/* Read a request's body. NULL: refused. */
struct call *call_read(const char *body, size_t bytes, bool chat, const struct call_terms *terms,
                       struct refusal *why);
void call_release(struct call *c);

/* ---- the engine's thread ---- */

bool call_token(void *choice, int32_t token); // the on_token of a choice's request
void call_end(struct choice *choice, const struct request_result *r);
/* The client gets this error instead of the rest; no-op once the call is done. Any thread. */
void call_fail(struct call *c, int http, const char *text);
bool call_is_gone(struct call *c);
void call_mark_gone(struct call *c); // and wake HTTP

/* ---- HTTP's thread ---- */

/* Sleep until there is output, or, for the whole answer, until it is done. True: suspend() has been
 * called with the call locked, and wake() will be. False: it is there. */
bool call_sleep(struct call *c, void (*suspend)(void *connection));
int call_http(struct call *c); // the status of its answer; 0: the client has left
/* Copy up to `room` bytes of output. 0: nothing is there; then *done tells whether more may come.
 */
size_t call_take(struct call *c, char *to, size_t room, bool *done);
