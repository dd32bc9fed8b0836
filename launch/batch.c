/* epmoe batch: reads many prompts from a file, and writes each result to a file once it is there.
 */
#include "launch/batch.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/progress.h"
#include "launch/lines.h"
#include "launch/prompt.h"
#include "launch/ranks.h"

enum { MAX_BATCH = 4096, MAX_LOGIT_ROWS = 64, MAX_LINE_BYTES = 64 << 20 };

struct batch_command {
    struct model_options model;
    const char *input, *output, *system, *kv_memory;
    long max_batch, n_predict;
    bool n_predict_given;
    bool resume, quiet;
};

struct batch_run {
    const struct batch_command *o;
    struct ranks ranks;
    struct tokenizer *tokenizer;
    struct chat chat;
    char no_chat[512]; // why requests with messages are refused
    struct completion_terms terms;
    struct scheduler scheduler;
    int fd;
    struct line_reader input;
    struct batch_output output;
    struct names names; // of each id: OUTPUT_DONE, and above it the line that has the id (0: none)
    struct pending *jobs; // [max_batch + 1]: those in the scheduler, and the head
    struct pending *head; // the next request: read, but not yet admitted
    struct progress bar;
    double expected; // lines of the input; 0: unknown
    size_t n_lines, n_done, n_errors, n_skipped;
    uint64_t prompt_tokens, new_tokens;
    int64_t start_ns;
};

struct pending {
    struct job job;
    struct batch_run *run; // NULL: the entry is free
};

static int choose_memory(struct batch_command *o)
{
    uint64_t bytes;
    int status = parse_memory("batch: --kv-memory", o->kv_memory, &bytes);
    o->model.kv_bytes = o->kv_memory ? (long)bytes : KV_HALF_OF_MEMORY;
    return status;
}

static int parse(struct batch_command *o, int argc, char **argv)
{
    struct command_spec spec = {
        "batch",
        "Run the prompts of a JSONL file together and write each result as it is finished.",
        "-m MODEL -i IN.jsonl -o OUT.jsonl [--resume] [options]",
        NULL,
        NULL,
        "A line of input: {\"id\", \"prompt\"} or {\"id\", \"messages\": [{\"role\", "
        "\"content\"}]}, "
        "and\nmax_tokens, temperature, top_p, top_k, min_p, typical_p, repetition_penalty,\n"
        "frequency_penalty, presence_penalty, logit_bias, seed (0), stop, stop_token_ids, "
        "ignore_eos; with messages tools, chat_template_kwargs; or as OpenAI's batches have it, "
        "{\"custom_id\", \"body\"}.\nA line of output: {\"id\", \"text\", \"token_ids\", "
        "\"finish_reason\", "
        "\"usage\"} or {\"id\", \"error\"}."};
    struct option_spec table[MODEL_OPTIONS + PROFILE_OPTIONS + 9] = {{0}};
    const struct option_spec own[] = {
        {"input", 'i', OPTION_TEXT, &o->input, "FILE", "requests, one a line (-: stdin)", 0, 0, 0},
        {"output", 'o', OPTION_TEXT, &o->output, "FILE",
         "results, one a line, as they come (-: stdout)", 0, 0, 0},
        {"resume", 0, OPTION_FLAG, &o->resume, NULL, "skip what is in the output already", 0, 0, 0},
        {"max-batch", 0, OPTION_INT, &o->max_batch, "N", "sequences at once (32)", 1, MAX_BATCH, 0},
        {"kv-memory", 0, OPTION_TEXT, &o->kv_memory, "BYTES",
         "for keys and values, e.g. 4G (half of what is available)", 0, 0, 0},
        {"n-predict", 'n', OPTION_INT, &o->n_predict, "N",
         "new tokens of a request without max_tokens (the checkpoint's, or 128); -1: until the "
         "context is full",
         -1, 1 << 24, &o->n_predict_given},
        {"system", 0, OPTION_TEXT, &o->system, "TEXT",
         "system prompt of messages without one, instead of the template's", 0, 0, 0},
        {"quiet", 'q', OPTION_FLAG, &o->quiet, NULL, "no summary", 0, 0, 0},
    };
    model_options_table(table, &o->model);
    profile_options_table(table + MODEL_OPTIONS, &o->model.profile);
    memcpy(table + MODEL_OPTIONS + PROFILE_OPTIONS, own, sizeof own);
    int status = options_parse(&spec, table, argc, argv);
    if (!status && (!o->input || !o->output))
        return fail(STATUS_USAGE, "batch: expected -i FILE and -o FILE, found %s",
                    o->input ? "no -o" : "no -i");
    return status ? status : choose_memory(o);
}

/* Write a line of the output, a result or an error. An error also counts as done, as the same
 * request would get it again. */
static int write_line(struct batch_run *b, char *line, size_t bytes)
{
    int status = output_write(&b->output, line, bytes);
    free(line);
    b->n_done++;
    return status;
}

static int write_error(struct batch_run *b, const struct job *j, const char *error)
{
    size_t bytes;
    char *line = job_error(j, error, &bytes);
    b->n_errors++;
    return write_line(b, line, bytes);
}

static struct pending *new_job(struct batch_run *b)
{
    struct pending *p = b->jobs;
    while (p->run)
        p++;
    p->run = b;
    return p;
}

static void drop(struct pending *p)
{
    job_close(&p->job);
    p->run = NULL;
}

static int finish(void *context, const struct request_result *r)
{
    struct pending *p = context;
    struct batch_run *b = p->run;
    size_t bytes;
    bool failed = r->finish == FINISH_FAILED;
    char *line = failed ? job_error(&p->job, r->error, &bytes) : job_result(&p->job, r, &bytes);
    b->n_errors += failed;
    b->prompt_tokens += (uint64_t)r->n_prompt;
    b->new_tokens += (uint64_t)r->n_new;
    drop(p);
    return write_line(b, line, bytes);
}

/* Enter the line's id in the table of ids. True if an earlier line, *first, has the same id. */
static bool is_duplicate(struct batch_run *b, const struct job *j, size_t *first)
{
    int64_t *number = names_at(&b->names, j->id, j->id_bytes);
    *first = (size_t)(*number >> 1);
    if (*first == 0)
        *number |= (int64_t)j->line_number << 1;
    return *first != 0;
}

static bool is_done(struct batch_run *b, const char *id, size_t bytes)
{
    bool done = *names_at(&b->names, id, bytes) & OUTPUT_DONE;
    b->n_skipped += done;
    return done;
}

/* Write the error of a line whose id an earlier line has. The error's id is "line-N", so that every
 * id occurs once in the output. */
static int refuse_duplicate(struct batch_run *b, struct job *j, size_t first)
{
    char name[32], error[1024];
    snprintf(error, sizeof error, "id: expected a new one, found \"%.900s\" of line %zu again",
             j->id, first);
    snprintf(name, sizeof name, "line-%zu", j->line_number);
    if (is_done(b, name, strlen(name)))
        return 0;
    free(j->id);
    j->id = strdup(name);
    CHECK_MEMORY(j->id, "no memory for an id");
    j->id_bytes = strlen(name);
    return write_error(b, j, error);
}

/* Take a line that is not blank. It becomes b->head; or its error is written; or nothing is done,
 * as the output has its result already. */
static int take_line(struct batch_run *b, const char *line, size_t bytes, bool too_long)
{
    struct pending *p = new_job(b);
    size_t first;
    int status = 0, bad = job_read(&p->job, &b->terms, line, too_long ? 0 : bytes, b->n_lines);
    p->job.completion.request.on_end = finish;
    p->job.completion.request.context = p;
    if (is_duplicate(b, &p->job, &first)) {
        status = refuse_duplicate(b, &p->job, first);
    } else if (is_done(b, p->job.id, p->job.id_bytes)) {
        status = 0;
    } else if (too_long) {
        status = write_error(b, &p->job, "expected a line of at most 64 MiB, found a longer one");
    } else if (bad) {
        status = write_error(b, &p->job, p->job.error);
    } else {
        b->head = p;
        return 0;
    }
    drop(p);
    return status;
}

static bool is_blank(const char *line, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (!isspace((unsigned char)line[i]))
            return false;
    return true;
}

/* Read the next request into b->head. If requests are running and no line has arrived, b->head
 * stays NULL. If none are running, this waits for a line, and a NULL b->head means the end of the
 * input. */
static int read_head(struct batch_run *b)
{
    int status = 0;
    while (!b->head && !status) {
        char *line;
        size_t bytes;
        enum line_result got = lines_next(&b->input, b->scheduler.n_running == 0, &line, &bytes);
        if (got == LINE_FAILED)
            return fail(STATUS_BAD_FILE, "%s: cannot be read: %s", b->o->input, strerror(errno));
        if (got == LINE_NOT_YET || got == LINE_END)
            return 0;
        b->n_lines++;
        if (b->n_lines == 1 && bytes >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
            line += 3; // a byte order mark
            bytes -= 3;
        }
        if (got == LINE_TOO_LONG || !is_blank(line, bytes))
            status = take_line(b, line, bytes, got == LINE_TOO_LONG);
    }
    return status;
}

/* Admit requests to the scheduler as long as it has room. */
static int admit(struct batch_run *b)
{
    int status = read_head(b);
    while (!status && b->head && scheduler_admit(&b->scheduler, &b->head->job.completion.request)) {
        b->head = NULL;
        status = read_head(b);
    }
    return status;
}

static void show_progress(struct batch_run *b)
{
    double seconds = seconds_since(b->start_ns);
    char text[80];
    if (!b->bar.visible)
        return;
    snprintf(text, sizeof text, "%zu done, %d running, %.1f tokens/s", b->n_done,
             b->scheduler.n_running, seconds > 0 ? (double)b->new_tokens / seconds : 0);
    progress_describe(&b->bar, b->expected - (double)b->n_skipped, text);
    progress_update(&b->bar, (double)b->n_done);
}

static int work(struct batch_run *b)
{
    int status = 0;
    while (!status) {
        status = output_sync(&b->output); // reading the next request may wait for long
        if (!status)
            status = admit(b);
        if (status || b->scheduler.n_running == 0)
            break;
        status = scheduler_step(&b->scheduler);
        show_progress(b);
    }
    int synced = output_sync(&b->output);
    return status ? status : synced;
}

static void print_summary(const struct batch_run *b)
{
    const struct scheduler *s = &b->scheduler;
    const struct coordinator *c = &b->ranks.coordinator;
    size_t n = b->n_done - b->n_errors;
    FILE *out = log_stream();
    double seconds = seconds_since(b->start_ns);
    fprintf(out, "%zu request%s", n, n == 1 ? "" : "s");
    if (b->n_errors)
        fprintf(out, ", %zu error%s", b->n_errors, b->n_errors == 1 ? "" : "s");
    if (b->n_skipped)
        fprintf(out, ", %zu done before", b->n_skipped);
    fprintf(out, " | prompts %llu token%s, generated %llu in %.1f s, %.1f tokens/s",
            (unsigned long long)b->prompt_tokens, b->prompt_tokens == 1 ? "" : "s",
            (unsigned long long)b->new_tokens, seconds,
            seconds > 0 ? (double)b->new_tokens / seconds : 0);
    fprintf(out, " | mean batch %.1f", s->steps ? (double)s->sequence_steps / (double)s->steps : 0);
    fprintf(out, " | %s, %d rank%s\n", dev_name(&c->dev), c->placement.n_ranks,
            c->placement.n_ranks == 1 ? "" : "s");
}

/* How many lines the input still has, for the progress bar; 0 if it is no plain file. */
static double count_lines(int fd)
{
    enum { BYTES = 1 << 16 };
    struct stat st;
    char *text = malloc(BYTES);
    size_t lines = 0;
    off_t at = 0;
    CHECK_MEMORY(text, "no memory to count lines");
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        for (ssize_t n; (n = pread(fd, text, BYTES, at)) > 0; at += n)
            for (char *c = text; (c = memchr(c, '\n', (size_t)(text + n - c))); c++)
                lines++;
    free(text);
    return (double)lines;
}

static int open_input(struct batch_run *b)
{
    bool from_stdin = strcmp(b->o->input, "-") == 0;
    b->fd = from_stdin ? dup(STDIN_FILENO) : open(b->o->input, O_RDONLY | O_CLOEXEC);
    char probe;
    if (b->fd < 0 || (!from_stdin && read(b->fd, &probe, 0) < 0)) // open() also opens a directory
        return fail(STATUS_BAD_FILE, "%s: cannot be read: %s", b->o->input, strerror(errno));
    lines_open(&b->input, b->fd, MAX_LINE_BYTES);
    return 0;
}

/* Read the model's chat template. Without one the run goes on, and each request with messages is
 * refused. */
static void open_template(struct batch_run *b)
{
    error_capture(true);
    if (prompt_template(&b->chat, b->o->model.model) == 0)
        b->terms.chat = &b->chat;
    snprintf(b->no_chat, sizeof b->no_chat, "%s", error_text());
    error_capture(false);
}

static int run_model(struct batch_run *b, struct process *p)
{
    int rows = (int)b->o->max_batch;
    struct session_needs needs = {rows, rows < MAX_LOGIT_ROWS ? rows : MAX_LOGIT_ROWS, 0};
    int status = ranks_open(&b->ranks, p, &b->o->model, &needs);
    if (status)
        return status;
    b->terms.c = &b->ranks.coordinator;
    scheduler_open(&b->scheduler, &b->ranks.coordinator);
    progress_open(&b->bar, "batch", "requests", 0, 1);
    b->expected = b->bar.visible ? count_lines(b->fd) : 0;
    b->start_ns = clock_ns();
    b->jobs = calloc((size_t)rows + 1, sizeof *b->jobs);
    CHECK_MEMORY(b->jobs, "no memory for %d requests", rows);
    status = work(b);
    progress_close(&b->bar);
    log_follow_output();
    if (!status && !b->o->quiet)
        print_summary(b);
    if (!status)
        status = ranks_report_profile(&b->ranks, &b->o->model.profile, log_stream());
    for (int i = 0; i <= rows; i++)
        if (b->jobs[i].run) // a job is left only when the run has failed
            drop(&b->jobs[i]);
    free(b->jobs);
    scheduler_close(&b->scheduler);
    ranks_close(&b->ranks);
    return status;
}

/* Nothing that is written may take the place of what is read, or of other output. */
static int check_files(const struct batch_command *o)
{
    int status = outfile_check_apart(o->output, o->input);
    if (!status)
        status = ranks_check_apart(&o->model.profile, o->input);
    return status ? status : ranks_check_apart(&o->model.profile, o->output);
}

static int batch_here(struct process *p, const void *options)
{
    const struct batch_command *o = options;
    struct batch_run b = {.o = o, .fd = -1, .output = {.fd = -1}};
    b.terms = (struct completion_terms){.no_chat = b.no_chat,
                                        .system = o->system,
                                        .n_predict = o->n_predict_given ? (int)o->n_predict
                                                                        : NEW_BY_CHECKPOINT};
    int status = check_files(o);
    if (!status)
        status = prompt_tokenizer(&b.tokenizer, o->model.model);
    b.terms.tokenizer = b.tokenizer;
    if (!status)
        status = open_input(&b);
    if (!status)
        status = output_open(&b.output, o->output, o->resume, &b.names);
    if (!status) {
        open_template(&b);
        status = run_model(&b, p);
        output_close(&b.output, status);
    }
    if (b.fd >= 0)
        close(b.fd);
    lines_close(&b.input);
    names_free(&b.names);
    chat_close(&b.chat);
    tokenizer_close(b.tokenizer);
    return status;
}

int command_batch(struct process *p, int argc, char **argv)
{
    struct batch_command o = {.model = model_options_default(), .max_batch = 32, .n_predict = 128};
    return ranks_command(p, parse(&o, argc, argv), &o.model, batch_here, &o);
}
