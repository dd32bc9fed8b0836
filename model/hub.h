/* Finds the directory of a model that the command line names: a directory, or a Hugging Face name,
 * which is looked up in the local cache. */
#pragma once

/* *dir := the path of the directory, malloc'ed. If `model` is an existing directory, that is taken.
 * Otherwise it is a name Org/Model or Org/Model@REVISION (without it "main"). The cache is
 * $HF_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else
 * ~/.cache/huggingface/hub; in it, models--Org--Model/snapshots/<commit> is the directory, and
 * refs/REVISION names the commit. 0, or STATUS_BAD_FILE; the error says where it looked and how to
 * get the model. */
int hub_resolve(char **dir, const char *model);

/* The path of the cache, malloc'ed; the cache need not exist. */
char *hub_cache(void);
