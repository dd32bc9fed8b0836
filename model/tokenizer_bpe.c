/* Byte-pair encoding of one piece. It starts with a token for each byte, or for each character.
 * Then it merges two neighbouring tokens, always the pair of the lowest rank, and of equal ones the
 * leftmost, until no merge applies. The tokens are a linked list, and the merges that may apply are
 * in a heap, so n bytes take O(n log n). */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "model/tokenizer_parts.h"

enum {
    WAYS = 4
}; // children of a heap's node: more than 2 make fewer levels, so fewer cache misses

struct symbol {
    int32_t id; // -1: it was merged into the symbol before
    int32_t before, after;
};

struct bpe_scratch {
    struct symbol *symbols; // [room]
    int32_t count;          // of them
    uint64_t
        *heap; // [heap_room]: rank << 32 | place; a merge takes one out and puts at most two in
    size_t room, heap_room, in_heap;
    struct bytes spelled;
};

static size_t pair_slot(const struct merge_table *m, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return (h ^ h >> 32) & m->slot_mask;
}

static struct merge *find_merge(const struct merge_table *m, int32_t left, int32_t right)
{
    size_t i = pair_slot(m, left, right);
    while (m->slots[i].left >= 0 && (m->slots[i].left != left || m->slots[i].right != right))
        i = (i + 1) & m->slot_mask;
    return &m->slots[i];
}

void merge_table_build(struct merge_table *m, struct arena *memory, size_t most_merges)
{
    size_t slots = table_slots(most_merges);
    m->slot_mask = slots - 1;
    m->slots = arena_alloc(memory, slots * sizeof *m->slots);
    m->results = arena_alloc(memory, most_merges * sizeof *m->results);
    for (size_t i = 0; i < slots; i++)
        m->slots[i].left = -1;
}

void merge_table_put(struct merge_table *m, struct merge merge)
{
    *find_merge(m, merge.left, merge.right) = merge;
    m->results[merge.rank] = merge.result;
}

struct bpe_scratch *bpe_scratch_new(void)
{
    struct bpe_scratch *s = calloc(1, sizeof *s);
    CHECK_MEMORY(s, "no memory for a scratch");
    return s;
}

void bpe_scratch_free(struct bpe_scratch *s)
{
    free(s->symbols);
    free(s->heap);
    free(s->spelled.at);
    free(s);
}

static void symbol_push(struct bpe_scratch *s, int32_t id)
{
    if ((size_t)s->count == s->room) {
        s->room = s->room * 2 + 64;
        s->symbols = realloc(s->symbols, s->room * sizeof *s->symbols);
        CHECK_MEMORY(s->symbols, "no memory for a piece of %zu symbols", s->room);
    }
    s->symbols[s->count] = (struct symbol){id, s->count - 1, s->count + 1};
    s->count++;
}

/* Empty the heap, and make room for the merges of all symbols. */
static void heap_begin(struct bpe_scratch *s)
{
    s->in_heap = 0;
    if ((size_t)s->count * 2 <= s->heap_room)
        return;
    s->heap_room = (size_t)s->count * 3;
    free(s->heap);
    s->heap = malloc(s->heap_room * sizeof *s->heap);
    CHECK_MEMORY(s->heap, "no memory for the merges of %d symbols", s->count);
}

static void heap_push(struct bpe_scratch *s, uint64_t candidate)
{
    size_t i = s->in_heap++;
    for (; i && candidate < s->heap[(i - 1) / WAYS]; i = (i - 1) / WAYS)
        s->heap[i] = s->heap[(i - 1) / WAYS];
    s->heap[i] = candidate;
}

static uint64_t heap_pop(struct bpe_scratch *s)
{
    uint64_t top = s->heap[0], last = s->heap[--s->in_heap];
    size_t i = 0;
    for (size_t least; (least = i * WAYS + 1) < s->in_heap; i = least) {
        size_t end = least + WAYS < s->in_heap ? least + WAYS : s->in_heap;
        for (size_t child = least + 1; child < end; child++)
            least = s->heap[child] < s->heap[least] ? child : least;
        if (last <= s->heap[least])
            break;
        s->heap[i] = s->heap[least];
    }
    s->heap[i] = last;
    return top;
}

/* If the symbol at `at` and the one after it can merge, add that to the heap. */
static void offer(struct bpe_scratch *s, const struct merge_table *m, int32_t at)
{
    int32_t after = at < 0 ? -1 : s->symbols[at].after;
    if (after < 0)
        return;
    const struct merge *merge = find_merge(m, s->symbols[at].id, s->symbols[after].id);
    if (merge->left >= 0)
        heap_push(s, (uint64_t)merge->rank << 32 | (uint32_t)at);
}

/* The token that the symbol at `at` and the one after it merge into, -1 if they do not. */
static int32_t merged(const struct bpe_scratch *s, const struct merge_table *m, int32_t at)
{
    const struct symbol *left = &s->symbols[at];
    if (left->id < 0 || left->after < 0)
        return -1;
    const struct merge *merge = find_merge(m, left->id, s->symbols[left->after].id);
    return merge->left < 0 ? -1 : merge->result;
}

/* Do the merges in the heap. One of the two symbols of a merge may have changed since it was added;
 * the merge is done if the symbols that are there now make the same token. This is what tokenizers
 * does: if two pairs make the same token, the second is merged at the rank of the first. */
static void merge_all(struct bpe_scratch *s, const struct merge_table *m)
{
    while (s->in_heap) {
        uint64_t candidate = heap_pop(s);
        int32_t at = (int32_t)(candidate & INT32_MAX), result = m->results[candidate >> 32];
        if (merged(s, m, at) != result)
            continue;
        struct symbol *left = &s->symbols[at], *right = &s->symbols[left->after];
        left->id = result;
        right->id = -1;
        left->after = right->after;
        if (left->after >= 0)
            s->symbols[left->after].before = at;
        offer(s, m, left->before);
        offer(s, m, at);
    }
}

/* Make the list of the piece's bytes. A byte that has no token is left out. */
static void fill_bytes(struct bpe_scratch *s, const struct vocabulary *v, const char *piece,
                       size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        int32_t id = v->byte_ids[(unsigned char)piece[i]];
        if (id >= 0)
            symbol_push(s, id);
    }
}

static bool have_tokens(const struct vocabulary *v, const char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (v->byte_ids[(unsigned char)at[i]] < 0)
            return false;
    return true;
}

/* Make the list of the piece's characters. One without a token becomes those of its bytes, with
 * byte_fallback and if all have one; else the unknown token, which stands for the whole of a run of
 * such characters with fuse_unk. It is added when the run ends, before the next character that has
 * a token, but behind bytes that come between: so does tokenizers. */
static void fill_characters(struct bpe_scratch *s, const struct tokenizer *t, const char *piece,
                            size_t bytes)
{
    const struct vocabulary *v = &t->vocabulary;
    bool pending = false;
    for (size_t i = 0, n; i < bytes; i += n) {
        n = utf8_first(piece + i, bytes - i);
        int32_t id = vocabulary_find(v, piece + i, n);
        if (id >= 0 && v->tokens[id].in_model) {
            if (pending)
                symbol_push(s, t->unknown);
            pending = false;
            symbol_push(s, id);
        } else if (t->byte_fallback && have_tokens(v, piece + i, n)) {
            fill_bytes(s, v, piece + i, n);
        } else if (t->unknown >= 0) {
            if (pending && !t->fuse_unknown)
                symbol_push(s, t->unknown);
            pending = true;
        }
    }
    if (pending)
        symbol_push(s, t->unknown);
}

/* With ignore_merges a piece that is itself a token becomes that token: returns its id, or -1 if
 * this does not apply. */
static int32_t whole_token(struct encoding *e, const char *piece, size_t bytes)
{
    const struct vocabulary *v = &e->t->vocabulary;
    struct bytes *spelled = &e->bpe->spelled;
    if (!v->characters) {
        spelled->count = 0;
        bytes_reserve(spelled, 2 * bytes);
        bytes = alphabet_spell(piece, bytes, spelled->at);
        piece = spelled->at;
    }
    int32_t id = vocabulary_find(v, piece, bytes);
    return id >= 0 && v->tokens[id].in_model ? id : -1;
}

int bpe_piece(struct encoding *e, const char *piece, size_t bytes)
{
    const struct tokenizer *t = e->t;
    struct bpe_scratch *s = e->bpe;
    int32_t whole = t->ignore_merges ? whole_token(e, piece, bytes) : -1;
    if (whole >= 0) {
        id_list_push(&e->ids, whole);
        return 0;
    }
    s->count = 0;
    if (t->vocabulary.characters)
        fill_characters(s, t, piece, bytes);
    else
        fill_bytes(s, &t->vocabulary, piece, bytes);
    if (s->count)
        s->symbols[s->count - 1].after = -1;
    heap_begin(s);
    for (int32_t i = 0; i < s->count; i++)
        offer(s, &t->merges, i);
    merge_all(s, &t->merges);
    for (int32_t i = 0; i < s->count; i++)
        if (s->symbols[i].id >= 0)
            id_list_push(&e->ids, s->symbols[i].id);
    return 0;
}
