#include "model/jinja_lexer.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 100000, MOST_BRACKETS = 100 };

struct lexer {
    struct jinja_run *r;
    const char *at, *end; // there is a 0 at the end
    bool line_starts;     // `at` is at the beginning of a line
    struct jinja_token *tokens;
    size_t n, room;
    char brackets[MOST_BRACKETS]; // what closes those that are open
    int n_brackets;
};

/* Copy a template with its line ends as LF, and without one at its end, as Jinja does. */
static void take_source(struct lexer *l, struct jinja_text source)
{
    char *to = jinja_alloc(l->r, source.bytes + 1), *start = to;
    for (size_t i = 0; i < source.bytes; i++) {
        bool two = source.at[i] == '\r' && i + 1 < source.bytes && source.at[i + 1] == '\n';
        if (!two)
            *to++ = source.at[i] == '\r' ? '\n' : source.at[i];
    }
    if (to > start && to[-1] == '\n')
        to--;
    *to = 0;
    l->at = start;
    l->end = to;
}

static struct jinja_token *push(struct lexer *l, enum jinja_token_kind kind, const char *text,
                                size_t bytes)
{
    if (l->n == MOST_TOKENS)
        jinja_fail(l->r, "expected a template of at most %d words, found a longer one",
                   MOST_TOKENS);
    if (l->n == l->room) {
        size_t room = l->room ? l->room * 2 : 256;
        struct jinja_token *more = jinja_alloc(l->r, room * sizeof *more);
        if (l->n)
            memcpy(more, l->tokens, l->n * sizeof *more);
        l->tokens = more;
        l->room = room;
    }
    l->tokens[l->n] = (struct jinja_token){kind, l->r->line, {text, bytes}, jinja_none};
    return &l->tokens[l->n++];
}

/* Go on to `to`, and count the lines. */
static void advance(struct lexer *l, const char *to)
{
    for (; l->at < to; l->at++)
        l->r->line += *l->at == '\n';
}

/* Read text outside tags, up to the tag at `to`, without the whitespace that this tag removes: {%-
 * removes all of it; {% at the beginning of a line removes its indentation, {%+ does not. */
static void read_data(struct lexer *l, const char *to, char mark, bool is_block)
{
    const char *end = to, *line = to;
    while (line > l->at && line[-1] != '\n')
        line--;
    bool starts = line > l->at || l->line_starts;
    struct jinja_text whole = {l->at, (size_t)(to - l->at)}, last = {line, (size_t)(to - line)};
    if (mark == '-')
        end = l->at + jinja_space_end(whole);
    else if (mark != '+' && is_block && starts && jinja_space_begin(last) == last.bytes)
        end = line;
    if (end > l->at)
        push(l, TOKEN_DATA, l->at, (size_t)(end - l->at));
    advance(l, to);
}

/* Skip the sign that closes a tag, and the whitespace that it removes: after -%} all of it, after
 * %} one newline, after +%} and }} none. */
static void close_tag(struct lexer *l, bool is_block)
{
    char mark = *l->at == '-' || *l->at == '+' ? *l->at : 0;
    const char *start = l->at + 2 + (mark != 0), *to = start;
    if (mark == '-')
        to += jinja_space_begin((struct jinja_text){start, (size_t)(l->end - start)});
    else if (!mark && is_block && *to == '\n')
        to++;
    advance(l, to);
    l->line_starts = to > start && to[-1] == '\n';
}

static bool closes(const struct lexer *l, char kind)
{
    const char *at = l->at + (*l->at == '-' || (*l->at == '+' && kind != '}'));
    return at[0] == kind && at[1] == '}';
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static void read_number(struct lexer *l)
{
    const char *from = l->at;
    char *end;
    size_t digits = strspn(from, "0123456789");
    const char *rest = from + digits;
    bool real = (*rest == '.' && isdigit((unsigned char)rest[1])) || *rest == 'e' || *rest == 'E';
    real = real && from[-1] != '.'; // a.0.1 has two indices
    errno = 0;
    struct jinja_value v =
        real ? jinja_real(strtod(from, &end)) : jinja_int(strtoll(from, &end, 10));
    if (errno || is_word(*end) || (!real && digits > 1 && *from == '0'))
        jinja_fail(l->r, "expected a decimal number of 64 bits, found \"%.20s\"", from);
    push(l, TOKEN_VALUE, from, (size_t)(end - from))->value = v;
    l->at = end;
}

static void read_string(struct lexer *l)
{
    const char *from = l->at, *to = from + 1;
    while (to < l->end && *to != *from)
        to += *to == '\\' && to + 1 < l->end ? 2 : 1;
    if (to >= l->end)
        jinja_fail(l->r, "expected an end of the text that begins with %.20s, found none", from);
    struct jinja_text inside = {from + 1, (size_t)(to - from) - 1};
    push(l, TOKEN_VALUE, from, (size_t)(to - from) + 1)->value = jinja_string(l->r, inside);
    advance(l, to + 1);
}

static void balance(struct lexer *l, char c)
{
    static const char open[] = "([{", close[] = ")]}";
    const char *opens = strchr(open, c);
    if (opens) {
        if (l->n_brackets == MOST_BRACKETS)
            jinja_fail(l->r, "expected at most %d brackets in each other, found more",
                       MOST_BRACKETS);
        l->brackets[l->n_brackets++] = close[opens - open];
    } else if (strchr(close, c)) {
        if (l->n_brackets == 0 || l->brackets[l->n_brackets - 1] != c)
            jinja_fail(l->r, "expected no \"%c\" here, found one", c);
        l->n_brackets--;
    }
}

static void read_sign(struct lexer *l)
{
    static const char *const pairs[] = {"//", "**", "==", "!=", ">=", "<="};
    size_t bytes = 1;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strncmp(l->at, pairs[i], 2) == 0)
            bytes = 2;
    if (bytes == 1 && !strchr("+-*/%~[](){}<>=.:|,", *l->at))
        jinja_fail(l->r, "expected an expression, found \"%.20s\"", l->at);
    balance(l, *l->at);
    push(l, TOKEN_SIGN, l->at, bytes);
    l->at += bytes;
}

static void skip_space(struct lexer *l)
{
    while (l->at < l->end && isspace((unsigned char)*l->at))
        advance(l, l->at + 1);
}

static void read_token(struct lexer *l)
{
    const char *from = l->at;
    if (*from == '\'' || *from == '"') {
        read_string(l);
    } else if (isdigit((unsigned char)*from)) {
        read_number(l);
    } else if (is_word(*from)) {
        while (is_word(*l->at))
            l->at++;
        push(l, TOKEN_NAME, from, (size_t)(l->at - from));
    } else {
        read_sign(l);
    }
}

/* Read the tokens in a tag, and what closes it. */
static void read_inside(struct lexer *l, char close)
{
    int line = l->r->line;
    for (;;) {
        skip_space(l);
        if (l->at >= l->end) {
            l->r->line = line;
            jinja_fail(l->r, "expected an end of the tag that begins here, found none");
        }
        if (l->n_brackets == 0 && closes(l, close))
            break;
        read_token(l);
    }
    push(l, TOKEN_CLOSE, l->at, 0);
    close_tag(l, close == '%');
}

static void skip_comment(struct lexer *l)
{
    const char *end = strstr(l->at, "#}");
    if (!end)
        jinja_fail(l->r, "expected an end of the comment, found none");
    bool marked = end > l->at && (end[-1] == '-' || end[-1] == '+');
    advance(l, marked ? end - 1 : end);
    close_tag(l, true);
}

/* If a tag {% word %} begins at `at`: the sign that closes it; else NULL. */
static const char *after_word(const char *at, const char *word)
{
    if (strncmp(at, "{%", 2) != 0)
        return NULL;
    at += 2 + (at[2] == '-' || at[2] == '+');
    while (isspace((unsigned char)*at))
        at++;
    if (strncmp(at, word, strlen(word)) != 0)
        return NULL;
    at += strlen(word);
    while (isspace((unsigned char)*at))
        at++;
    return strncmp(at + (*at == '-' || *at == '+'), "%}", 2) == 0 ? at : NULL;
}

/* The text between {% raw %}, whose closing sign is at `close`, and {% endraw %}. After {% raw %}
 * no newline is removed. */
static void read_raw(struct lexer *l, const char *close)
{
    advance(l, close);
    close_tag(l, false);
    for (const char *at = l->at; (at = strstr(at, "{%")); at++) {
        const char *end = after_word(at, "endraw");
        if (!end)
            continue;
        read_data(l, at, at[2], true);
        advance(l, end);
        close_tag(l, true);
        return;
    }
    jinja_fail(l->r, "expected {%% endraw %%} after {%% raw %%}, found none");
}

static void read_tag(struct lexer *l)
{
    char kind = l->at[1];
    const char *raw = after_word(l->at, "raw");
    if (raw) {
        read_raw(l, raw);
        return;
    }
    l->at += 2;
    l->at += *l->at == '-' || *l->at == '+';
    if (kind == '#') {
        skip_comment(l);
        return;
    }
    push(l, kind == '{' ? TOKEN_PRINT : TOKEN_STATEMENT, l->at, 0);
    read_inside(l, kind == '{' ? '}' : '%');
}

const struct jinja_token *jinja_tokens(struct jinja_run *r, struct jinja_text source)
{
    struct lexer l = {.r = r, .line_starts = true};
    take_source(&l, source);
    for (const char *tag = l.at; (tag = strchr(tag, '{'));) {
        if (!tag[1] || !strchr("{%#", tag[1])) {
            tag++;
            continue;
        }
        read_data(&l, tag, tag[2], tag[1] != '{');
        read_tag(&l);
        tag = l.at;
    }
    if (l.at < l.end)
        push(&l, TOKEN_DATA, l.at, (size_t)(l.end - l.at));
    push(&l, TOKEN_END, l.end, 0);
    return l.tokens;
}
