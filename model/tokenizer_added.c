/* Added tokens are found in a text before it is split. The leftmost match counts, and of several
 * that start there the longest; the search goes on after it. The order of the steps, and the white
 * space that a token may include on its sides, are those of AddedVocabulary in tokenizers. */
#include <string.h>

#include "model/tokenizer_parts.h"

void trie_build(struct trie *t, struct arena *memory, const struct added_token *added,
                size_t pattern_bytes)
{
    t->nodes = arena_alloc(memory, pattern_bytes * sizeof *t->nodes);
    t->count = 0;
    t->added = added;
    memset(t->first, 0xff, sizeof t->first);
}

static int32_t node_new(struct trie *t, unsigned char byte, int32_t sibling)
{
    t->nodes[t->count] = (struct trie_node){-1, sibling, -1, byte};
    return t->count++;
}

static int32_t find_byte(const struct trie *t, int32_t node, unsigned char byte)
{
    while (node >= 0 && t->nodes[node].byte != byte)
        node = t->nodes[node].sibling;
    return node;
}

bool trie_add(struct trie *t, int32_t index)
{
    const char *pattern = t->added[index].pattern;
    unsigned char byte = (unsigned char)pattern[0];
    if (t->first[byte] < 0)
        t->first[byte] = node_new(t, byte, -1);
    int32_t node = t->first[byte];
    for (uint32_t i = 1; i < t->added[index].pattern_bytes; i++) {
        byte = (unsigned char)pattern[i];
        int32_t child = find_byte(t, t->nodes[node].child, byte);
        if (child < 0)
            child = t->nodes[node].child = node_new(t, byte, t->nodes[node].child);
        node = child;
    }
    if (t->nodes[node].added >= 0)
        return false;
    t->nodes[node].added = index;
    return true;
}

/* The longest added token at the start of a text, or NULL. */
static const struct added_token *match_here(const struct trie *t, const char *text, size_t bytes)
{
    int32_t node = t->first[(unsigned char)text[0]], longest = -1;
    for (size_t i = 1; node >= 0; i++) {
        if (t->nodes[node].added >= 0)
            longest = t->nodes[node].added;
        if (i == bytes)
            break;
        node = find_byte(t, t->nodes[node].child, (unsigned char)text[i]);
    }
    return longest < 0 ? NULL : &t->added[longest];
}

/* The next match from byte *at on, or NULL; *at := its start. */
static const struct added_token *match_next(const struct trie *t, const char *text, size_t bytes,
                                            size_t *at)
{
    if (t->count == 0)
        return NULL;
    for (; *at < bytes; ++*at) {
        const struct added_token *added = match_here(t, text + *at, bytes - *at);
        if (added)
            return added;
    }
    return NULL;
}

/* Extend a match [*start, *end) by the white space that the token includes. *spaces_to is where the
 * white space ends that an earlier match has looked at, so that many matches within one run of
 * spaces do not each go through it. */
static void strip(const struct added_token *added, const char *text, size_t bytes, size_t done,
                  size_t *start, size_t *end, size_t *spaces_to)
{
    if (added->strip_left) // not beyond `done`, where the token before ends
        *start = *start > done ? *start - space_at_end(text + done, *start - done) : done;
    if (added->strip_right && *end >= *spaces_to)
        *spaces_to = *end + space_at_start(text + *end, bytes - *end);
    if (added->strip_right)
        *end = *spaces_to;
}

/* A token that counts only as a word of its own is no match within a longer one. */
static bool is_within_word(const struct added_token *added, const char *text, size_t bytes,
                           size_t start, size_t end)
{
    return added->single_word &&
           (word_at_end(text, start) || word_at_start(text + end, bytes - end));
}

int added_split(struct encoding *e, const struct trie *t, const char *text, size_t bytes,
                encode_text *rest)
{
    size_t done = 0, at = 0, spaces_to = 0;
    const struct added_token *added;
    while ((added = match_next(t, text, bytes, &at))) {
        size_t start = at, end = at + added->pattern_bytes;
        at = end;
        if (is_within_word(added, text, bytes, start, end))
            continue;
        strip(added, text, bytes, done, &start, &end, &spaces_to);
        if (start >= end) // the match is white space that the token before has included
            continue;
        int status = start > done ? rest(e, text + done, start - done) : 0;
        if (status)
            return status;
        id_list_push(&e->ids, added->id);
        done = end;
    }
    return done < bytes ? rest(e, text + done, bytes - done) : 0;
}
