/* Reads the messages of a chat, as OpenAI's API has them, into the form that chat templates take.
 */
#pragma once

#include "base/json.h"
#include "model/chat.h"

/* *out := the messages, which the caller frees: texts whose parts are joined, and calls of tools
 * whose arguments are values, no longer JSON in a string. What a message has beside its text must
 * be something that the template reads. 0, or STATUS_BAD_FILE with *out untouched. */
int messages_read(struct js **out, const struct chat *chat, const struct js *messages);
/* Check tools: a list of objects, each with a type "function" and a function with a name. */
int tools_check(const struct js *tools);
