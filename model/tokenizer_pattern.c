/* tokenizers matches the file's pattern by Oniguruma, this project by PCRE2 (docs/architecture.md
 * says why). Much of their syntax is the same. Where it differs, most patterns compile in both, but
 * mean something else. So a pattern may only have what is known to mean the same in both:
 *
 *   letters, . ^ $ | and classes without nesting or &&; ( ) and (?: (?i: (?= (?! (?<= (?<! (?> ;
 *   * + ? with ? or + behind, {n} {n,} {n,m}; \p{..} and \P{..} of the general categories; \d \D \s
 * \S; \t \n \r \f \x{..} \u....; a backslash before punctuation.
 *
 * \s is translated to a list of code points, as PCRE2's \s has U+180E, which is no space since
 * Unicode 6.3. Within (?i: only ASCII is allowed. Oniguruma there also lets a pair of letters match
 * a ligature
 * ("st" and U+FB06), so such pairs are refused; and properties are refused, as Oniguruma does not
 * ignore their case. */
#include <string.h>

#include "model/tokenizer_parts.h"

#define SPACES                                                                                     \
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}"   \
    "\\x{3000}"

enum { MAX_DEPTH = 64 };

struct translation {
    const char *text;
    size_t bytes, at;
    struct bytes *out;
    const char *why; // not NULL: the pattern is refused, for this reason
    bool caseless[MAX_DEPTH];
    int depth;
    bool repeatable; // a quantifier may follow
    char last;       // within (?i: the letter before
};

static bool refuse(struct translation *r, const char *why)
{
    r->why = why;
    return false;
}

static int peek(const struct translation *r, size_t ahead)
{
    return r->at + ahead < r->bytes ? (unsigned char)r->text[r->at + ahead] : -1;
}

static bool starts_with(const struct translation *r, const char *text)
{
    size_t n = strlen(text);
    return r->bytes - r->at >= n && memcmp(r->text + r->at, text, n) == 0;
}

static bool put(struct translation *r, const char *text)
{
    bytes_push(r->out, text, strlen(text));
    return true;
}

/* Copy the next n bytes to the output. */
static bool copy(struct translation *r, size_t n)
{
    bytes_push(r->out, r->text + r->at, n);
    r->at += n;
    return true;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_letter(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_punctuation(int c)
{
    return c > ' ' && c < 0x7f && !is_digit(c) && !is_letter(c);
}

/* Translate \p{L} or \P{Lu}, a general category by its name in Unicode. */
static bool take_property(struct translation *r)
{
    static const char categories[] =
        " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po "
        "S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Cn Co ";
    char name[5] = " ";
    size_t n = 1;
    for (; n < 3 && is_letter(peek(r, 2 + n)); n++)
        name[n] = (char)peek(r, 2 + n);
    name[n] = ' ';
    if (peek(r, 2) != '{' || peek(r, 2 + n) != '}' || n == 1 || !strstr(categories, name))
        return refuse(r, "a property other than a general category such as \\p{L}");
    if (r->caseless[r->depth])
        return refuse(r, "a property where case is ignored");
    return copy(r, n + 3);
}

/* Translate \x{hh..} or \uhhhh; PCRE2 writes the latter as \x{hhhh}. */
static bool take_code_point(struct translation *r)
{
    bool braces = peek(r, 1) == 'x';
    size_t start = braces ? 3 : 2, n = 0;
    while (n < (braces ? 6 : 4) && is_hex(peek(r, start + n)))
        n++;
    if (braces ? peek(r, 2) != '{' || n == 0 || peek(r, start + n) != '}' : n != 4)
        return refuse(r, "an escape other than \\x{hh} or \\uhhhh");
    if (r->caseless[r->depth])
        return refuse(r, "a numbered character where case is ignored");
    r->at += start;
    put(r, "\\x{");
    copy(r, n);
    r->at += braces;
    return put(r, "}");
}

static bool take_space_escape(struct translation *r, bool in_class)
{
    bool positive = peek(r, 1) == 's';
    r->at += 2;
    if (in_class)
        return put(r, positive ? SPACES : "\\S\\x{180e}");
    return put(r, positive ? "[" SPACES "]" : "[^" SPACES "]");
}

static bool take_escape(struct translation *r, bool in_class)
{
    int c = peek(r, 1);
    r->last = 0;
    if (c == 'p' || c == 'P')
        return take_property(r);
    if (c == 'x' || c == 'u')
        return take_code_point(r);
    if (c == 's' || c == 'S')
        return take_space_escape(r, in_class);
    bool same = c == 'd' || c == 'D' || c == 't' || c == 'n' || c == 'r' || c == 'f';
    if (same || (is_punctuation(c) && c != '<' && c != '>'))
        return copy(r, 2);
    return refuse(r, "an escape that the two may read differently");
}

/* Are these two letters, ignoring case, one of ss, ff, fi, fl, st? Oniguruma lets them match a
 * ligature. */
static bool is_ligature(char a, int b)
{
    static const char pairs[] = "ss ff fi fl st ";
    char pair[] = {(char)(a | 0x20), (char)(b | 0x20), ' ', 0};
    return is_letter(a) && is_letter(b) && strstr(pairs, pair);
}

static bool take_character(struct translation *r)
{
    int c = peek(r, 0);
    if (r->caseless[r->depth] && (c >= 0x80 || is_ligature(r->last, c)))
        return refuse(r, "more than single ASCII letters where case is ignored");
    r->last = (char)c;
    return copy(r, utf8_first(r->text + r->at, r->bytes - r->at));
}

/* Translate a character of a class, or an escape; *set := it stands for many characters. */
static bool take_member(struct translation *r, bool *set)
{
    int c = peek(r, 0), kind = peek(r, 1);
    r->last = 0;
    *set = c == '\\' && kind > 0 && strchr("pPsSdD", kind);
    if (c < 0)
        return refuse(r, "a class without an end");
    if (c == '[' || starts_with(r, "&&"))
        return refuse(r, "a class within a class");
    return c == '\\' ? take_escape(r, true) : take_character(r);
}

/* Translate a member of a class, or two with a '-' between them. Any other '-' must be the first or
 * the last member. */
static bool take_range(struct translation *r, bool first)
{
    bool set;
    if (peek(r, 0) == '-' && !first && peek(r, 1) != ']')
        return refuse(r, "a hyphen in the middle of a class");
    if (!take_member(r, &set))
        return false;
    if (peek(r, 0) != '-' || peek(r, 1) == ']')
        return true;
    copy(r, 1);
    if (set || !take_member(r, &set) || set)
        return refuse(r, r->why ? r->why : "a set at the end of a range");
    return true;
}

static bool take_class(struct translation *r)
{
    copy(r, peek(r, 1) == '^' ? 2 : 1);
    int c = peek(r, 0);
    if (c == ']')
        return refuse(r, "a class that begins with ]");
    if (c == '.' || c == ':' || c == '=')
        put(r, "\\"); // as [. [: and [= have a meaning of their own in PCRE2
    for (bool first = true; peek(r, 0) != ']'; first = false)
        if (!take_range(r, first))
            return false;
    r->last = 0;
    return copy(r, 1);
}

static bool take_group(struct translation *r)
{
    static const char *const heads[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    if (r->depth + 1 == MAX_DEPTH)
        return refuse(r, "groups nested more than 63 deep");
    bool caseless = r->caseless[r->depth] || starts_with(r, "(?i:");
    r->caseless[++r->depth] = caseless;
    r->repeatable = false;
    r->last = 0;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (starts_with(r, heads[i]))
            return copy(r, strlen(heads[i]));
    if (peek(r, 1) == '?' || peek(r, 1) == '*')
        return refuse(r, "a kind of group that the two may read differently");
    return copy(r, 1);
}

static bool take_group_end(struct translation *r)
{
    if (r->depth == 0)
        return refuse(r, "a ) too many");
    r->depth--;
    r->repeatable = true;
    r->last = 0;
    return copy(r, 1);
}

/* The length of an interval {n}, {n,} or {n,m}; 0 if there is none. */
static size_t interval_bytes(const struct translation *r)
{
    size_t n = 1, digits = 0;
    for (; is_digit(peek(r, n)); n++)
        digits++;
    if (peek(r, n) == ',')
        for (n++; is_digit(peek(r, n)); n++)
            ;
    return digits && peek(r, n) == '}' ? n + 1 : 0;
}

static bool take_quantifier(struct translation *r)
{
    if (!r->repeatable)
        return refuse(r, "a quantifier behind nothing that it could repeat");
    bool interval = peek(r, 0) == '{';
    size_t n = interval ? interval_bytes(r) : 1;
    if (n == 0)
        return refuse(r, "a { that begins no {n}, {n,} or {n,m}");
    int suffix = peek(r, n);
    if (interval && (suffix == '?' || suffix == '+'))
        return refuse(r, "? or + behind an interval");
    r->repeatable = false;
    r->last = 0;
    return copy(r, n + (suffix == '?' || suffix == '+'));
}

static bool take_item(struct translation *r)
{
    int c = peek(r, 0);
    if (c == '(')
        return take_group(r);
    if (c == ')')
        return take_group_end(r);
    if (c == '*' || c == '+' || c == '?' || c == '{')
        return take_quantifier(r);
    r->repeatable = c != '|' && c != '^' && c != '$';
    if (c == '\\')
        return take_escape(r, false);
    if (c == '[')
        return take_class(r);
    if (c == '|')
        r->last = 0;
    return c == '|' ? copy(r, 1) : take_character(r);
}

bool pattern_translate(struct bytes *out, const char *pattern, size_t bytes, const char **why,
                       size_t *at)
{
    struct translation r = {.text = pattern, .bytes = bytes, .out = out};
    while (r.at < r.bytes && !r.why)
        take_item(&r);
    if (!r.why && r.depth)
        r.why = "a ( without its )";
    *why = r.why;
    *at = r.at;
    return !r.why;
}
