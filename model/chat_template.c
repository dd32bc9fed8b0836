/* Templates that print the same can be spelled in many ways. template_read() makes the same list of
 * items of all of them. Text that is printed becomes one item, whether it stands outside tags, in a
 * string or in a sum of strings. Values and statements are written with one space between tokens,
 * and a["b"] as a.b. Whitespace around tags is removed by transformers' settings (trim_blocks,
 * lstrip_blocks) and by the signs {%- and -%}. */
#include "model/chat_template.h"

#include <ctype.h>
#include <string.h>

enum { MAX_TOKENS = 256 };

/* A token inside a tag: the value of a string, or a name, a number or a sign. */
struct tag_token {
    const char *text;
    bool is_string;
};

struct template_reader {
    struct template_items *items;
    struct arena *memory;
    const char *at, *end;
    bool line_starts; // `at` is at the beginning of a line
    struct tag_token tokens[MAX_TOKENS];
    int n_tokens;
};

static char *copy(struct template_reader *r, const char *text, size_t bytes)
{
    char *to = arena_alloc(r->memory, bytes + 1);
    return memcpy(to, text, bytes);
}

static const char *join(struct template_reader *r, const char *a, const char *b, const char *c)
{
    char *to = arena_alloc(r->memory, strlen(a) + strlen(b) + strlen(c) + 1);
    return strcat(strcat(strcpy(to, a), b), c);
}

static void push(struct template_reader *r, enum template_item_kind kind, const char *text)
{
    struct template_items *l = r->items;
    struct template_item *last = l->count ? &l->at[l->count - 1] : NULL;
    if (kind == ITEM_TEXT && !*text)
        return;
    if (last && kind == ITEM_TEXT && last->kind == ITEM_TEXT) {
        last->text = join(r, last->text, text, "");
        return;
    }
    if (l->count == l->room) {
        struct template_item *more = arena_alloc(r->memory, (l->room * 2 + 32) * sizeof *more);
        if (l->count)
            memcpy(more, l->at, l->count * sizeof *more);
        l->at = more;
        l->room = l->room * 2 + 32;
    }
    l->at[l->count++] = (struct template_item){kind, text};
}

/* Read text outside tags, up to the tag at `to`, without the whitespace that this tag removes: {%-
 * removes all of it; {% at the beginning of a line removes its indentation. */
static void read_text(struct template_reader *r, const char *to, bool strip, bool is_block)
{
    const char *end = to, *line = to;
    while (strip && end > r->at && isspace((unsigned char)end[-1]))
        end--;
    while (line > r->at && (line[-1] == ' ' || line[-1] == '\t'))
        line--;
    bool starts = line > r->at ? line[-1] == '\n' : r->line_starts;
    if (!strip && is_block && starts)
        end = line;
    push(r, ITEM_TEXT, copy(r, r->at, (size_t)(end - r->at)));
    r->at = to;
}

/* Read a string 'text' or "text" at r->at. */
static bool read_string(struct template_reader *r, struct tag_token *t)
{
    static const char from[] = "nrt\\'\"", to[] = "\n\r\t\\'\"";
    char quote = *r->at++, *out = arena_alloc(r->memory, (size_t)(r->end - r->at) + 1);
    *t = (struct tag_token){out, true};
    while (*r->at && *r->at != quote) {
        const char *escape = *r->at == '\\' && r->at[1] ? strchr(from, r->at[1]) : NULL;
        if (*r->at == '\\' && !escape)
            return false;
        *out++ = escape ? to[escape - from] : *r->at;
        r->at += escape ? 2 : 1;
    }
    return *r->at && *r->at++ == quote;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static bool read_token(struct template_reader *r, struct tag_token *t)
{
    const char *start = r->at;
    if (*start == '\'' || *start == '"')
        return read_string(r, t);
    if (is_word(*start))
        while (is_word(*r->at))
            r->at++;
    else
        r->at += strchr("=!<>", *start) && start[1] == '=' ? 2 : 1;
    *t = (struct tag_token){copy(r, start, (size_t)(r->at - start)), false};
    return true;
}

static bool is_sign(const struct tag_token *t, const char *sign)
{
    return !t->is_string && strcmp(t->text, sign) == 0;
}

/* Change the tokens a [ "b" ] to a . b */
static void shorten_members(struct template_reader *r)
{
    struct tag_token *t = r->tokens;
    int kept = 0;
    for (int i = 0; i < r->n_tokens; i++) {
        bool member = i > 0 && i + 2 < r->n_tokens && is_sign(&t[i], "[") && t[i + 1].is_string &&
                      is_sign(&t[i + 2], "]");
        if (!member) {
            t[kept++] = t[i];
            continue;
        }
        t[kept++] = (struct tag_token){".", false};
        t[kept++] = (struct tag_token){t[i + 1].text, false};
        i += 2;
    }
    r->n_tokens = kept;
}

/* Read the tokens of a tag, up to its closing sign, where r->at stays. */
static bool read_tokens(struct template_reader *r, const char *close)
{
    for (r->n_tokens = 0; r->n_tokens < MAX_TOKENS;) {
        while (isspace((unsigned char)*r->at))
            r->at++;
        if (!*r->at)
            return false;
        if (strncmp(r->at + (*r->at == '-'), close, 2) == 0) {
            shorten_members(r);
            return true;
        }
        if (!read_token(r, &r->tokens[r->n_tokens++]))
            return false;
    }
    return false;
}

static const char *spell(struct template_reader *r, const struct tag_token *tokens, int n)
{
    const char *text = "";
    for (int i = 0; i < n; i++) {
        const char *token = tokens[i].text;
        if (tokens[i].is_string)
            token = join(r, "\"", token, "\"");
        text = join(r, text, i ? " " : "", token);
    }
    return text;
}

/* Add the terms of {{ a + b ~ c }} as items. Of an expression that is no such sum, the items are
 * pieces that no known template has. */
static void push_sum(struct template_reader *r)
{
    int first = 0;
    for (int i = 0; i <= r->n_tokens; i++) {
        if (i < r->n_tokens && !is_sign(&r->tokens[i], "+") && !is_sign(&r->tokens[i], "~"))
            continue;
        const struct tag_token *term = &r->tokens[first];
        if (i - first == 1 && term->is_string)
            push(r, ITEM_TEXT, term->text);
        else
            push(r, ITEM_VALUE, spell(r, term, i - first));
        first = i + 1;
    }
}

/* Skip the sign that closes a tag, and the whitespace that it removes: after -%} all of it, after
 * %} one newline, after }} none. */
static void close_tag(struct template_reader *r, bool is_block)
{
    bool strip = *r->at == '-';
    r->at += 2 + strip;
    const char *start = r->at;
    if (strip)
        while (isspace((unsigned char)*r->at))
            r->at++;
    else if (is_block && *r->at == '\n')
        r->at++;
    r->line_starts = r->at > start && r->at[-1] == '\n';
}

static bool read_comment(struct template_reader *r)
{
    const char *close = strstr(r->at, "#}");
    if (close)
        r->at = close[-1] == '-' ? close - 1 : close;
    return close != NULL;
}

/* Read the tag at r->at. */
static bool read_tag(struct template_reader *r)
{
    char kind = r->at[1];
    char close[3] = {kind == '{' ? '}' : kind, '}', 0};
    r->at += 2;
    r->at += *r->at == '-';
    if (kind == '#') {
        if (!read_comment(r))
            return false;
    } else if (!read_tokens(r, close)) {
        return false;
    } else if (kind == '{') {
        push_sum(r);
    } else {
        push(r, ITEM_STATEMENT, spell(r, r->tokens, r->n_tokens));
    }
    close_tag(r, kind != '{');
    return true;
}

bool template_read(struct template_items *items, struct arena *memory, const char *text)
{
    size_t bytes = strlen(text);
    struct template_reader r = {.items = items, .memory = memory, .line_starts = true};
    if (bytes && text[bytes - 1] == '\n') // Jinja drops a newline at the end of a template
        bytes--;
    r.at = copy(&r, text, bytes);
    r.end = r.at + bytes;
    *items = (struct template_items){0};
    for (const char *tag = r.at; (tag = strchr(tag, '{'));) {
        if (!tag[1] || !strchr("{%#", tag[1])) {
            tag++;
            continue;
        }
        read_text(&r, tag, tag[2] == '-', tag[1] != '{');
        if (!read_tag(&r))
            return false;
        tag = r.at;
    }
    read_text(&r, r.end, false, false);
    return true;
}

static bool is_statement(const struct template_item *item, const char *text)
{
    return item->kind == ITEM_STATEMENT && strcmp(item->text, text) == 0;
}

static bool begins(const struct template_item *item, const char *word)
{
    return item->kind == ITEM_STATEMENT && strncmp(item->text, word, strlen(word)) == 0;
}

/* Where the branch that begins behind item i ends: at the elif, else or endif of the same block. At
 * the end of the items if there is none, or if {% raw %} hides what is a statement. */
static size_t branch_end(const struct template_items *l, size_t i)
{
    int depth = 0;
    for (i++; i < l->count; i++) {
        const struct template_item *item = &l->at[i];
        bool ends = begins(item, "endif") || begins(item, "endfor");
        if (begins(item, "raw"))
            return l->count;
        if (depth == 0 && (ends || begins(item, "elif ") || begins(item, "else")))
            return i;
        depth += begins(item, "if ") || begins(item, "for ");
        depth -= ends;
    }
    return l->count;
}

static void drop(struct template_items *l, size_t first, size_t end)
{
    memmove(l->at + first, l->at + end, (l->count - end) * sizeof *l->at);
    l->count -= end - first;
}

/* {% if tools %} A {% else %} B {% endif %} becomes B. */
static bool drop_tools(struct template_items *l)
{
    if (l->count == 0 || !is_statement(&l->at[0], "if tools"))
        return false;
    size_t other = branch_end(l, 0);
    if (other == l->count || !is_statement(&l->at[other], "else"))
        return false;
    size_t end = branch_end(l, other);
    if (end == l->count || !is_statement(&l->at[end], "endif"))
        return false;
    drop(l, end, end + 1);
    drop(l, 0, other + 1);
    return true;
}

bool template_without_tools(struct template_items *l)
{
    static const char *const calls = "elif message . role == \"assistant\"";
    static const char *const answers = "elif message . role == \"tool\"";
    if (!drop_tools(l))
        return false;
    for (size_t i = 0; i < l->count;) {
        bool unused = is_statement(&l->at[i], calls) || is_statement(&l->at[i], answers);
        size_t end = unused ? branch_end(l, i) : i + 1;
        if (unused && end == l->count)
            return false;
        if (unused)
            drop(l, i, end);
        else
            i++;
    }
    return true;
}
