/* The fields of a request of epmoe batch, shared by batch_job.c and batch_prompt.c. */
#pragma once

#include "base/json.h"
#include "launch/batch.h"

/* Refuse a field: it says what was expected for the key, and what was found. STATUS_BAD_FILE. */
int batch_refuse(const char *key, const char *expected, const struct js *v);
/* The value of a field; NULL if it is absent or null, which both mean the default. */
const struct js *batch_field(const struct js *object, const char *key);
/* Refuse a field that is not among `known` (ends with NULL): a misspelled field would otherwise
 * change the result without a word. Of OpenAI's fields for what is not done here, those of a
 * request are taken (`of_request`) with the value that asks for nothing. `where` begins the error.
 * 0 or STATUS_BAD_FILE. */
int batch_check_fields(const struct js *object, const char *const *known, bool of_request,
                       const char *where);
/* Read a list of token ids, or of as many as `most`; *ids is malloc'ed. 0 or STATUS_BAD_FILE. */
int batch_read_ids(const char *key, const struct js *list, size_t most, int32_t **ids, size_t *n);

/* Read prompt or messages to j->prompt and j->request. */
int batch_read_prompt(struct job *j, const struct job_terms *terms);
