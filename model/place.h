/* What lies where a user looks for a model, when that is not what epmoe reads: a checkpoint of
 * another kind, or a directory of models. */
#pragma once

/* The directory has neither config.json nor a tokenizer. If what is in it shows what was meant,
 * STATUS_BAD_FILE says so; else 0. Other directories: 0. */
int place_check(const char *dir);

/* A file was given for a model. STATUS_BAD_FILE, with what to give instead. */
int place_refuse_file(const char *path);

/* What a file with weights is that epmoe does not read, by its name, and what to do instead; NULL:
 * it is no such file. */
const char *place_other_form(const char *name);
