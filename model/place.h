/* What lies where a user looks for a model, when that is not what epmoe reads: a checkpoint of
 * another kind, or a directory of models. */
#pragma once

/* If a directory has neither config.json nor a tokenizer, but files that show what the user meant:
 * STATUS_BAD_FILE, and the error says that. Else 0. */
int place_check(const char *dir);

/* A file was given for a model. STATUS_BAD_FILE, with what to give instead. */
int place_refuse_file(const char *path);

/* For the name of a file with weights in a form that epmoe does not read: what it is, and what to
 * do instead. NULL for other names. */
const char *place_other_form(const char *name);
