/* Every key that transformers 5 knows in the JSON files of a model beside its weights, and what
 * becomes of it here. A key is honoured, or has no effect on results, or is refused by name; none
 * is passed over because nobody thought of it (tests/model/test_known_keys.c). A key that
 * transformers does not know either has no effect in both. */
#pragma once

#include "model/config_source.h"

enum key_file { KEYS_OF_CONFIG, KEYS_OF_GENERATION, KEYS_OF_TOKENIZER, KEY_FILES };

enum key_use {
    KEY_UNKNOWN,
    KEY_HONOURED,
    KEY_WITHOUT_EFFECT,
    KEY_REFUSED, // unless it has the one value that changes nothing
};

enum key_use key_use(enum key_file file, const char *key);

/* 0, or STATUS_BAD_FILE if the file has a key that is refused, with a value that changes results.
 */
int known_keys_check(const struct config_source *s, enum key_file file);
