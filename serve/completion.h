/* A text to be completed: the fields of a request that say which and how, and what has been
 * generated so far. epmoe batch reads them from a line, epmoe serve from a body. */
#pragma once

#include "coordinator/scheduler.h"
#include "model/chat.h"
#include "model/text_out.h"
#include "serve/params.h"

enum { NEW_BY_CHECKPOINT = -2 }; // see completion_terms.n_predict

/* What all completions of a run share. */
struct completion_terms {
    const struct coordinator *c;
    const struct tokenizer *tokenizer;
    const struct chat *chat; // NULL: requests with messages are refused, for the reason no_chat
    const char *no_chat, *system;
    /* New tokens of a request without max_tokens, as far as the context allows; -1: as many as it
     * allows; NEW_BY_CHECKPOINT: as many as generation_config.json says, or 128. */
    int n_predict;
    bool no_thinking; // enable_thinking is false for templates, unless a request says otherwise
};

/* It must not move: its request and its text point into it. */
struct completion {
    struct request request; // the caller sets on_token, on_end and their context
    int32_t *prompt;
    struct stop_strings stops;
    int32_t *stop_ids; // [n_stop_ids] tokens that end the text, without being part of it
    size_t n_stop_ids;
    struct candidate *biases; // those of request.sampler
    bool stopped;             // by one of them
    struct text_out out;
    int32_t *new_ids; // [n_new]
    int n_new, room;
};

/* The fields that completion_read() reads, for params_check(). Ends with NULL. */
extern const char *const completion_fields[];

/* Read a completion from an object's fields, whose strings must stay; of `prompt`, or if that is
 * NULL of the object's prompt or messages. 0, or a status that fail() has been told;
 * completion_close() in both cases. */
int completion_read(struct completion *c, const struct completion_terms *terms,
                    const struct js *fields, const struct js *prompt);
/* The ids, malloc'ed, of an object's `prompt` or `messages`. 0 or a status. */
int completion_prompt(const struct completion_terms *terms, const struct js *fields, int32_t **ids,
                      size_t *n);
/* The same of one prompt, a text or token ids. */
int completion_tokens(const struct completion_terms *terms, const struct js *prompt, int32_t **ids,
                      size_t *n);
/* Take the next token; true: the text ends here. */
bool completion_push(struct completion *c, int32_t token);
/* Once it has ended: why, as "stop" or "length", and how many tokens count as new. The text is
 * complete from then on. */
const char *completion_end(struct completion *c, const struct request_result *r, int *n_new);
void completion_close(struct completion *c);
