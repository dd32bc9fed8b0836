/* The parts of epmoe batch. batch_job.c makes a job of a line of input, and a line of output of the
 * job's result. batch_output.c writes the lines, so that a crash loses none that was synced. */
#pragma once

#include "launch/names.h"
#include "serve/completion.h"

struct job {
    char *id;
    size_t id_bytes, line_number;
    char error[1024];        // why it was refused
    struct js *line;         // the line as JSON; stop strings point into it
    const struct js *fields; // the object in it that has the fields of the request
    struct completion completion;
};

/* Make a job of line number `line_number` of the input. j->id is always set: the line's own id, or
 * "line-N". 0, or a status, and j->error says what is wrong. job_close() in both cases. */
int job_read(struct job *j, const struct completion_terms *terms, const char *line, size_t bytes,
             size_t line_number);
bool job_token(void *job, int32_t token); // the request's on_token
/* The line of output, malloc'ed, with its newline: of a result, or of an error. */
char *job_result(struct job *j, const struct request_result *r, size_t *bytes);
char *job_error(const struct job *j, const char *error, size_t *bytes);
void job_close(struct job *j);

/* The output file. Each line is appended by one write; output_sync() brings them to the disk. */
struct batch_output {
    int fd;
    bool to_stdout; // the path is "-", and there is no fd
    const char *path;
    bool plain;     // a plain file, not a pipe or a device
    bool unsynced;  // lines were written since the last sync
    bool created;   // this run has created the file
    uint64_t bytes; // of the whole lines in the file
};

/* Open the output, and lock it against other runs. Without `resume` the file must be new or empty.
 * With it, the ids of the file's lines get OUTPUT_DONE in `names`, and a last line that a crash has
 * left incomplete is cut off; a file with other contents is refused and not changed. 0,
 * STATUS_USAGE, STATUS_BAD_FILE or STATUS_FAILED. */
enum { OUTPUT_DONE = 1 }; // bit 0 of a name's number; the caller may use the other bits
int output_open(struct batch_output *o, const char *path, bool resume, struct names *names);
int output_write(struct batch_output *o, const char *line, size_t bytes); // 0 or STATUS_FAILED
int output_sync(struct batch_output *o);                                  // 0 or STATUS_FAILED
/* Close the file. If the run failed (status is not 0) before its first line, a file that it created
 * is removed. */
void output_close(struct batch_output *o, int status);
