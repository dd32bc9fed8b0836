/* Reads a Jinja template into a list of items, so that chat.c can compare templates. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"

enum template_item_kind { ITEM_TEXT, ITEM_VALUE, ITEM_STATEMENT };

struct template_item {
    enum template_item_kind kind;
    const char *text;
};

struct template_items {
    struct template_item *at;
    size_t count, room;
};

/* Items are in the arena. False: the text is not Jinja, or uses more of Jinja than this reads. */
bool template_read(struct template_items *items, struct arena *memory, const char *text);

/* Reduce a template that begins with {% if tools %} to what is left of it where there are no tools,
 * no calls of tools and no messages of the role "tool". False: it does not begin so, or does not
 * end its blocks; the items may have changed. */
bool template_without_tools(struct template_items *items);
