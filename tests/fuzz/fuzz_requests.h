/* What fuzz targets of requests share: a model that is not there, with a tokenizer and a chat
 * template, and what holds of every request that was accepted. */
#pragma once

#include "base/check.h"
#include "base/log.h"
#include "model/tokenizer_parts.h"
#include "serve/completion.h"

enum { CONTEXT = 64 };

static inline struct completion_terms request_terms(void)
{
    static const char templ[] =
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + "
        "message.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    static struct coordinator c;
    static struct chat chat;
    struct tokenizer *t;
    CHECK(tokenizer_open(&t, SOURCE_DIR "/tests/golden/chat/tokenizer.json") == 0, "no tokenizer");
    CHECK(chat_parse(&chat, templ, sizeof templ - 1, "fuzz") == 0, "%s", error_text());
    c.config.vocab_size = t->vocabulary.size;
    c.context = CONTEXT;
    c.kv.n_blocks = c.kv.blocks_per_sequence = 1;
    c.defaults = generation_unsaid();
    return (struct completion_terms){&c, t, &chat, "", NULL, 16, false};
}

static inline void check_runnable(const struct request *r)
{
    const struct sampler_options *s = &r->sampler;
    CHECK(r->n >= 1 && r->n_predict >= 0 && r->n + r->n_predict <= CONTEXT, "%d + %d", r->n,
          r->n_predict);
    CHECK(s->temperature >= 0 && s->temperature <= 100 && s->top_p >= 0 && s->top_p <= 1 &&
              s->repetition_penalty >= 0.01 && s->top_k >= 0,
          "sampling");
}
