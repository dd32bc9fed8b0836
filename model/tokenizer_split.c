/* Splits a text by the pre-tokenizer's patterns. Each pattern cuts the pieces that the one before
 * it made into its matches and the texts between them; no byte is lost.
 *
 * The pattern comes from a file that may be hostile, so the steps of matching are counted, and a
 * pattern that takes more steps than a text may is an error. PCRE2 calls count_steps() before every
 * item of the pattern, which adds the distance from the last call. PCRE2's own limits are set, too,
 * but they count anew for each match, and do not count what a single repeat walks over. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/tokenizer_parts.h"

enum {
    MAX_PATTERN_BYTES = 16 << 10,
    JIT_STACK_BYTES = 1 << 20,
    HEAP_KIB = 256 << 10,
    STEPS = 4 << 20,    // that any text may take, and how many more for each byte:
    STEPS_PER_BYTE = 64 // ordinary text takes at most 17, by Qwen's pattern
};

struct split_pattern {
    pcre2_code *code;
    char *name; // of the file
};

struct split_scratch {
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    encode_text *piece; // is called with each piece
    uint64_t steps, most_steps;
    size_t position; // in the text, at the last callout
};

static int compile_failed(const char *name, const char *where, int error, size_t offset)
{
    char text[128];
    pcre2_get_error_message(error, (PCRE2_UCHAR *)text, sizeof text);
    return fail(STATUS_BAD_FILE, "%s: %s: expected a pattern, found a mistake at byte %zu: %s",
                name, where, offset, text);
}

static pcre2_code *compile(const char *name, const char *where, const char *pattern, size_t bytes,
                           uint32_t options)
{
    int error;
    size_t offset;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    CHECK_MEMORY(context, "no memory for a pattern");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF); // for . ^ and $, as in Oniguruma
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern, bytes, options | PCRE2_UTF | PCRE2_AUTO_CALLOUT, &error,
                      &offset, context);
    pcre2_compile_context_free(context);
    if (!code)
        compile_failed(name, where, error, offset);
    return code;
}

static pcre2_code *compile_regex(const char *name, const char *where, const char *pattern,
                                 size_t bytes)
{
    struct bytes ours = {0};
    const char *why;
    size_t at;
    pcre2_code *code = NULL;
    if (pattern_translate(&ours, pattern, bytes, &why, &at))
        code = compile(name, where, ours.count ? ours.at : "", ours.count,
                       PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_AUTO_CAPTURE);
    else
        fail(STATUS_BAD_FILE,
             "%s: %s: expected a pattern that Oniguruma and PCRE2 surely read alike, found at byte "
             "%zu %s",
             name, where, at, why);
    free(ours.at);
    return code;
}

struct split_pattern *split_pattern_new(const char *name, const char *where, const char *pattern,
                                        size_t bytes, bool literal)
{
    if (bytes > MAX_PATTERN_BYTES) {
        fail(STATUS_BAD_FILE, "%s: %s: expected a pattern of at most %d bytes, found %zu", name,
             where, MAX_PATTERN_BYTES, bytes);
        return NULL;
    }
    pcre2_code *code = literal ? compile(name, where, pattern, bytes, PCRE2_LITERAL)
                               : compile_regex(name, where, pattern, bytes);
    if (!code)
        return NULL;
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); // if this fails, PCRE2 interprets the pattern
    struct split_pattern *p = malloc(sizeof *p);
    CHECK_MEMORY(p, "no memory for a pattern");
    *p = (struct split_pattern){code, strdup(name)};
    CHECK_MEMORY(p->name, "no memory for a name");
    return p;
}

void split_pattern_free(struct split_pattern *p)
{
    if (!p)
        return;
    pcre2_code_free(p->code);
    free(p->name);
    free(p);
}

static int count_steps(pcre2_callout_block *block, void *data)
{
    struct split_scratch *s = data;
    size_t at = block->current_position;
    s->steps += 1 + (at > s->position ? at - s->position : s->position - at);
    s->position = at;
    return s->steps > s->most_steps ? PCRE2_ERROR_CALLOUT : 0;
}

struct split_scratch *split_scratch_new(const struct tokenizer *t, size_t text_bytes)
{
    struct split_scratch *s = calloc(1, sizeof *s);
    CHECK_MEMORY(s, "no memory for a scratch");
    s->match = pcre2_match_data_create(1, NULL);
    s->context = pcre2_match_context_create(NULL);
    s->stack = pcre2_jit_stack_create(32 << 10, JIT_STACK_BYTES, NULL);
    CHECK_MEMORY(s->match && s->context, "no memory for matches");
    if (s->stack)
        pcre2_jit_stack_assign(s->context, NULL, s->stack);
    s->most_steps = STEPS + (uint64_t)text_bytes * STEPS_PER_BYTE * (uint64_t)t->n_splits;
    pcre2_set_callout(s->context, count_steps, s);
    pcre2_set_heap_limit(s->context, HEAP_KIB);
    pcre2_set_match_limit(s->context,
                          (uint32_t)(s->most_steps < UINT32_MAX ? s->most_steps : UINT32_MAX));
    return s;
}

void split_scratch_free(struct split_scratch *s)
{
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->context);
    pcre2_jit_stack_free(s->stack);
    free(s);
}

static int match_failed(const struct split_pattern *p, const struct split_scratch *s, int error)
{
    char text[128];
    if (error == PCRE2_ERROR_CALLOUT)
        return fail(STATUS_BAD_FILE,
                    "%s: pre_tokenizer: expected a pattern that takes few steps, found one that "
                    "takes more than %llu on this text",
                    p->name, (unsigned long long)s->most_steps);
    pcre2_get_error_message(error, (PCRE2_UCHAR *)text, sizeof text);
    return fail(STATUS_BAD_FILE, "%s: pre_tokenizer: the pattern fails on this text: %s", p->name,
                text);
}

/* Search from byte `from` on. The compiled pattern has a stack of fixed size; if that is too small,
 * the search is repeated by the interpreter. */
static int find(const struct split_pattern *p, struct split_scratch *s, const char *text,
                size_t bytes, size_t from)
{
    s->position = from;
    int found = pcre2_match(p->code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK, s->match,
                            s->context);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found = pcre2_match(p->code, (PCRE2_SPTR)text, bytes, from,
                            PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, s->match, s->context);
    return found;
}

static int cut(struct encoding *e, int level, const char *text, size_t bytes);

/* Find one match after the other as find_iter of the onig crate does, which tokenizers uses: an
 * empty match at the end of the last match is skipped, and the search goes on one character
 * further. */
static int cut_at_matches(struct encoding *e, int level, const char *text, size_t bytes)
{
    const struct split_pattern *p = e->t->splits[level];
    struct split_scratch *s = e->split;
    size_t from = 0, done = 0, last_end = SIZE_MAX;
    while (from <= bytes) {
        int found = find(p, s, text, bytes, from);
        if (found == PCRE2_ERROR_NOMATCH)
            break;
        if (found < 0)
            return match_failed(p, s, found);
        const size_t *span = pcre2_get_ovector_pointer(s->match);
        size_t start = span[0], end = span[1];
        if (start == end && end == last_end) {
            from += from < bytes ? utf8_first(text + from, bytes - from) : 1;
            continue;
        }
        from = last_end = end;
        int status = start > done ? cut(e, level + 1, text + done, start - done) : 0;
        if (!status && end > start)
            status = cut(e, level + 1, text + start, end - start);
        if (status)
            return status;
        done = end;
    }
    return done < bytes ? cut(e, level + 1, text + done, bytes - done) : 0;
}

static int cut(struct encoding *e, int level, const char *text, size_t bytes)
{
    if (level < e->t->n_splits)
        return cut_at_matches(e, level, text, bytes);
    return e->split->piece(e, text, bytes);
}

int split_text(struct encoding *e, const char *text, size_t bytes, encode_text *piece)
{
    e->split->piece = piece;
    return cut(e, 0, text, bytes);
}
