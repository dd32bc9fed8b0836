/* What tokenizer_config.json says about tokens, as AutoTokenizer takes it. For tokenizer.c. */
#pragma once

#include "base/json.h"
#include "model/tokenizer_parts.h"

/* The keys of the file that name special tokens, in the order in which AutoTokenizer adds their
 * tokens. The value of a key is a token, a list of tokens, or an object of names and tokens. */
enum { SPECIAL_TOKEN_KEYS = 10 };
extern const char *const special_token_keys[SPECIAL_TOKEN_KEYS];

/* Check the keys of the file (known_keys.h), and its added_tokens_decoder against the added tokens
 * of tokenizer.json. *extra := an array, which the caller frees, of the tokens that it names and
 * tokenizer.json does not add, in the order in which they get ids: {"content": …, flags as in
 * tokenizer.json, but no "id"}. 0, or STATUS_BAD_FILE with *extra untouched. */
int tokenizer_config_tokens(struct js **extra, const struct js *config, const char *name,
                            const struct js *added_tokens);

/* Check that the file says of add_bos_token, add_eos_token and add_prefix_space, if it says
 * anything, what the tokenizer does: of transformers some versions follow the one and some the
 * other. 0 or STATUS_BAD_FILE. */
int tokenizer_config_agrees(const struct tokenizer *t, const struct js *config, const char *name);
