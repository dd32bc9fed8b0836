/* The older files of byte-level BPE: vocab.json, merges.txt and, of added tokens, the list
 * added_tokens_decoder of tokenizer_config.json, or if it has none, special_tokens_map.json and
 * added_tokens.json. For tokenizer.c, where there is no tokenizer.json. */
#pragma once

#include <stdbool.h>

#include "base/json.h"

/* Has the directory vocab.json and merges.txt? */
bool tokenizer_files_exist(const char *dir);

/* *root := the tokenizer.json that transformers makes of the files of a directory for the class
 * that tokenizer_config.json names (Qwen2Tokenizer, GPT2Tokenizer, GPTNeoXTokenizer), or if it
 * names none, for the one of config.json's model_type. *config := what tokenizer_config.json says
 * (`said`, or NULL if there is no such file), and with special_tokens_map.json where that counts.
 * `name` is what errors call tokenizer_config.json. The caller frees both. 0, or STATUS_BAD_FILE
 * with both untouched. */
int tokenizer_files_read(struct js **root, struct js **config, const char *dir,
                         const struct js *said, const char *name);
