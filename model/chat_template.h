/* A Jinja template as a list of items, spelled in one way: for chat.c. */
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

/* False: not Jinja, or more of it than is understood here. Items live in the arena. */
bool template_read(struct template_items *items, struct arena *memory, const char *text);
