/* MODEL on the command line: a directory, or a Hugging Face name looked up in the local cache. */
#pragma once

/* *dir := malloc'ed path of a directory. An existing directory wins over a name. A name Org/Model
 * is looked for in $HF_HUB_CACHE, else $HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else
 * ~/.cache/huggingface/hub, as models--Org--Model/snapshots/<refs/REVISION or a commit>, REVISION
 * "main" or what follows an @ in the name. 0, or STATUS_BAD_FILE: fail() says where it looked and
 * how to get the model. */
int hub_resolve(char **dir, const char *model);

/* The cache's directory (malloc'ed), whether it is there or not. */
char *hub_cache(void);
