/* The parts of epmoe batch: a line of input becomes a job (batch_job.c), a job's result a line of
 * output that outlives a crash (batch_output.c). */
#pragma once

#include "coordinator/scheduler.h"
#include "launch/names.h"
#include "model/chat.h"
#include "model/text_out.h"

/* What all jobs of a run share. */
struct job_terms {
    const struct coordinator *c;
    const struct tokenizer *tokenizer;
    const struct chat *chat; // NULL: messages are refused, with the words of no_chat
    const char *no_chat, *system;
    int n_predict; // without max_tokens, and within the context
};

struct job {
    char *id;
    size_t id_bytes, line_number;
    char error[1024];       // why it was refused
    struct js *line;        // stop strings point into it
    struct request request; // on_end and its context are the caller's to set
    int32_t *prompt;
    struct stop_strings stops;
    struct text_out out;
    int32_t *new_ids; // [n_new]
    int n_new, room;
};

/* Read line number `line_number` of the input. j->id is always set: the line's own, or "line-N".
 * Not 0: j->error says what is wrong with it. */
int job_read(struct job *j, const struct job_terms *terms, const char *line, size_t bytes,
             size_t line_number);
bool job_token(void *job, int32_t token); // the request's on_token
/* The line to write, malloc'ed, with its newline: a result, or an error. */
char *job_result(struct job *j, const struct request_result *r, size_t *bytes);
char *job_error(const struct job *j, const char *error, size_t *bytes);
void job_close(struct job *j);

/* A file of finished lines. Each is appended whole; output_sync() brings them to the disk. */
struct batch_output {
    int fd;
    const char *path;
    bool plain;     // a file, not a pipe or a device
    bool unsynced;  // since the last sync
    bool created;   // by this run
    uint64_t bytes; // of whole lines
};

/* Without `resume` the file must be new or empty. With it, the ids of its lines get OUTPUT_DONE in
 * `names`, and a last line that a crash has torn is cut off; a file of other contents is refused
 * untouched. No other run may write to it meanwhile. 0, STATUS_USAGE, BAD_FILE or FAILED. */
enum { OUTPUT_DONE = 1 }; // in a name's number; the bits above are free
int output_open(struct batch_output *o, const char *path, bool resume, struct names *names);
int output_write(struct batch_output *o, const char *line, size_t bytes); // 0 or STATUS_FAILED
int output_sync(struct batch_output *o);
void output_close(struct batch_output *o, int status); // failed before the first line: no file
