/* How well a model predicts a text: the negative log-likelihood of its tokens, window by window,
 * and how far a run is from a reference run.
 *
 * Windows are those of transformers' guide "Perplexity of fixed-length models". Window w has the
 * tokens from w * stride on, `window` of them or what is left. It scores the tokens that no window
 * before it has; the last window is the first that reaches the end of the text. A token is scored
 * by the logits of the token before it in the same window (the labels are shifted by one), so the
 * first token of a window can never be scored: the text's first token is not, and with stride =
 * window neither is that of any other window. With a smaller stride every other token is scored
 * once, with at least window - stride tokens before it. The mean is over scored tokens, each
 * counted once. (The guide's own loop weighs a later window's mean by one token too few, which
 * changes the last digits.)
 *
 * A reference run keeps each scored token's best token, and rows of logits as far as they fit;
 * later runs of the same text are compared with them. Sums are in double and in order of the text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct coordinator;

struct perplexity_options {
    const int32_t *ids; // [n] the text, n >= 2
    int n;
    int window, stride; // 2 <= window <= the context; 1 <= stride <= window
};

/* Of a window: its tokens are [begin, end), the last `scored` of which it scores. */
struct perplexity_window {
    int begin, end, scored;
};

/* *w := the window after *w, or the first if w->end is 0. False: there is none. Windows that score
 * nothing (one token, of a text that ends there) are left out. */
bool perplexity_next(const struct perplexity_options *o, struct perplexity_window *w);

struct perplexity_sizes {
    int64_t scored, fed; // tokens that are scored, and that go through the model, of all windows
};
struct perplexity_sizes perplexity_sizes(const struct perplexity_options *o);

/* What a reference run leaves for others. The rows of logits are kept at even distances. */
struct perplexity_reference {
    int64_t scored, kept; // tokens, and rows of logits
    int vocab;
    int32_t *best; // [scored]
    float *logits; // [kept][vocab]
    bool filled;   // false: the next run is the reference
};

/* Memory for it, at most `bytes` of logits, all of it written once so that it is there when memory
 * is counted. STATUS_FAILED if the host has not so much. */
int perplexity_reference_open(struct perplexity_reference *r, const struct perplexity_options *o,
                              int vocab, uint64_t bytes);
void perplexity_reference_close(struct perplexity_reference *r);

struct perplexity_result {
    char name[32]; // of the weights' type
    int64_t scored, fed;
    double nll;     // nats, summed over the scored tokens
    double seconds; // of the passes, without loading
    bool compared;  // with a reference, which is another run than this
    int64_t same_best;
    int64_t kl_tokens; // of so many tokens is
    double kl;         // the sum of KL(reference || this), in nats
};

/* Rows of logits that are in memory at a time: c->logit_rows. */
enum { PERPLEXITY_ROWS = 64 };

/* Run the text through a model that is open for PERPLEXITY_ROWS rows of logits or fewer. r: NULL,
 * or a reference, which this run fills or is compared with. out->name is the caller's, the rest of
 * *out begins as 0. 0, what request_check() returned, STATUS_FAILED with where and why if logits
 * are no numbers, or what the exchange returned; then *out is of no use. */
int perplexity_run(struct perplexity_result *out, struct coordinator *c,
                   const struct perplexity_options *o, struct perplexity_reference *r);

/* ---- the report ---- */

enum perplexity_format { PERPLEXITY_TEXT, PERPLEXITY_JSON, PERPLEXITY_CSV };

struct perplexity_report {
    const char *model, *text; // as the user has named them; text NULL: ids
    size_t bytes;             // of the text; 0: unknown
    struct perplexity_options options;
    const struct perplexity_result *results; // [n] the first is the reference, if any was compared
    int n;
};

/* Bits per byte: the mean negative log-likelihood times the text's tokens, over its bytes. A token
 * that is not scored counts as an average one. NaN without bytes. */
double perplexity_bits_per_byte(const struct perplexity_report *r,
                                const struct perplexity_result *one);
void perplexity_print(const struct perplexity_report *r, enum perplexity_format format, FILE *out);
