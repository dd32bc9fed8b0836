#include "launch/chat.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "launch/line_edit.h"
#include "launch/prompt.h"
#include "launch/ranks.h"
#include "launch/signals.h"
#include "launch/stdout.h"
#include "serve/completion.h"

struct talk {
    const struct chat_command *o;
    struct ranks ranks;
    struct tokenizer *tokenizer;
    struct chat chat;
    struct completion_terms terms;
    struct scheduler scheduler;
    struct js *turns; // messages so far; not of a model without a template,
    char *text;       // whose text it is that goes on,
    size_t text_bytes;
    char *system;          // NULL: the template's
    size_t printed;        // bytes of the answer in hand
    struct completion now; // the answer in hand
    bool failed;
};

static atomic_bool answering, stopped;

/* Ctrl-C stops the answer. Between two answers it ends nothing either. */
static bool on_signal(void *context, int number, int times)
{
    (void)context;
    (void)times;
    if (number != SIGINT)
        return false;
    if (atomic_load(&answering))
        atomic_store(&stopped, true);
    else
        fputs("\n(/exit or Ctrl-D ends)\n", stderr);
    return true;
}

static int parse(struct chat_command *o, int argc, char **argv)
{
    struct command_spec spec = {
        "chat",
        "Talk to a model on the terminal. One without a chat template continues what is written.",
        "-m MODEL [options]",
        NULL,
        NULL,
        "Ctrl-C stops an answer. A line that ends with \\ goes on in the next, and so does what is "
        "pasted.\n/reset begins anew, /system TEXT does so with another system prompt, /save FILE "
        "writes the\nconversation as JSON, /exit ends."};
    struct option_spec table[MODEL_OPTIONS + SAMPLING_OPTIONS + 4] = {{0}};
    const struct option_spec own[] = {
        {"n-predict", 'n', OPTION_INT, &o->n_predict, "N",
         "at most N new tokens an answer (chat: until the context is full; else the checkpoint's, "
         "or 128)",
         -1, 1 << 24, &o->n_predict_given},
        {"system", 0, OPTION_TEXT, &o->system, "TEXT", "system prompt, instead of the template's",
         0, 0, 0},
        {"no-thinking", 0, OPTION_FLAG, &o->no_thinking, NULL,
         "ask the template for answers without thinking (enable_thinking false)", 0, 0, 0},
    };
    model_options_table(table, &o->model);
    sampling_options_table(table + MODEL_OPTIONS, &o->sampling);
    memcpy(table + MODEL_OPTIONS + SAMPLING_OPTIONS, own, sizeof own);
    int status = options_parse(&spec, table, argc, argv);
    return status ? status : sampling_check("chat", &o->sampling);
}

/* What is new of the answer. */
static void print_new(struct talk *t)
{
    const struct text_out *out = &t->now.out;
    if (out->bytes > t->printed)
        fwrite(out->text + t->printed, 1, out->bytes - t->printed, stdout);
    t->printed = out->bytes;
    fflush(stdout);
}

static bool on_token(void *context, int32_t token)
{
    struct talk *t = context;
    bool ends = completion_push(&t->now, token);
    print_new(t);
    return ends || atomic_load(&stopped) || stdout_status() != 0;
}

static int on_end(void *context, const struct request_result *r)
{
    struct talk *t = context;
    int n_new;
    completion_end(&t->now, r, &n_new);
    print_new(t);
    putchar('\n');
    fflush(stdout);
    t->failed = r->finish == FINISH_FAILED;
    if (t->failed)
        warn("%s", r->error);
    return 0;
}

/* The fields of the request whose answer is the next. */
static struct js *fields_of(const struct talk *t)
{
    struct js *v = js_new_object();
    if (t->terms.chat)
        js_set(v, "messages", js_copy(t->turns));
    else
        js_set(v, "prompt", js_new_string(t->text, t->text_bytes));
    sampling_fields(&t->o->sampling, v);
    return v;
}

/* Generate and print the answer to what has been said. 0, also if there was none for a reason that
 * was told: t->failed. */
static int answer(struct talk *t)
{
    struct js *fields = fields_of(t);
    int status = 0;
    t->printed = 0;
    atomic_store(&stopped, false);
    t->failed = completion_read(&t->now, &t->terms, fields, NULL) != 0;
    t->now.request.on_token = on_token;
    t->now.request.on_end = on_end;
    t->now.request.context = t;
    if (!t->failed) {
        atomic_store(&answering, true);
        CHECK(scheduler_admit(&t->scheduler, &t->now.request), "no room for a checked request");
        while (t->scheduler.n_running && !status)
            status = scheduler_step(&t->scheduler);
        atomic_store(&answering, false);
    }
    js_free(fields);
    return status ? status : stdout_status();
}

static void say(struct talk *t, const char *role, const char *text, size_t bytes)
{
    struct js *turn = js_new_object();
    js_set(turn, "role", js_new_text(role));
    js_set(turn, "content", js_new_string(text, bytes));
    js_push(t->turns, turn);
}

/* The conversation begins anew, with t->system. */
static void begin(struct talk *t)
{
    js_free(t->turns);
    t->turns = js_new_array();
    free(t->text);
    t->text = strdup("");
    CHECK_MEMORY(t->text, "no memory for a text");
    t->text_bytes = 0;
    if (t->system)
        say(t, "system", t->system, strlen(t->system));
}

static void append_text(struct talk *t, const char *text, size_t bytes)
{
    t->text = realloc(t->text, t->text_bytes + bytes + 1);
    CHECK_MEMORY(t->text, "no memory for a text of %zu bytes", t->text_bytes + bytes);
    memcpy(t->text + t->text_bytes, text, bytes);
    t->text_bytes += bytes;
    t->text[t->text_bytes] = 0;
}

/* One line of the user's and its answer; a line that gets none is forgotten. */
static int take_turn(struct talk *t, const char *line, size_t bytes)
{
    struct js *before = js_copy(t->turns);
    size_t text_before = t->text_bytes;
    say(t, "user", line, bytes);
    append_text(t, line, bytes);
    int status = answer(t);
    const struct text_out *out = &t->now.out;
    if (t->failed) {
        js_free(t->turns);
        t->turns = before;
        t->text_bytes = text_before;
        t->text[text_before] = 0;
    } else {
        js_free(before);
        say(t, "assistant", out->bytes ? out->text : "", out->bytes);
        append_text(t, out->bytes ? out->text : "", out->bytes);
    }
    completion_close(&t->now);
    return status;
}

static void save(const struct talk *t, const char *path)
{
    struct outfile f;
    struct js *whole = js_new_object();
    if (t->terms.chat)
        js_set(whole, "messages", js_copy(t->turns));
    else
        js_set(whole, "prompt", js_new_string(t->text, t->text_bytes));
    if (outfile_open(&f, path) == 0) {
        js_print(whole, f.stream, 2);
        if (outfile_commit(&f) == 0)
            fprintf(stderr, "saved to %s\n", path);
    }
    js_free(whole);
}

static bool begins(const char *line, const char *word, const char **rest)
{
    size_t n = strlen(word);
    if (strncmp(line, word, n) != 0 || (line[n] && line[n] != ' '))
        return false;
    *rest = line + n + strspn(line + n, " ");
    return true;
}

/* A line that begins with a slash. False: the conversation ends. */
static bool obey(struct talk *t, const char *line)
{
    const char *rest;
    if (begins(line, "/exit", &rest))
        return false;
    if (begins(line, "/reset", &rest)) {
        begin(t);
    } else if (begins(line, "/system", &rest) && t->terms.chat) {
        free(t->system);
        t->system = *rest ? strdup(rest) : NULL;
        begin(t);
    } else if (begins(line, "/save", &rest) && *rest) {
        save(t, rest);
    } else {
        warn("expected /reset, %s/save FILE or /exit, found \"%.40s\"",
             t->terms.chat ? "/system TEXT, " : "", line);
    }
    return true;
}

static int converse(struct talk *t)
{
    const char *prompt = t->terms.chat ? "> " : "text> ";
    char *line;
    size_t bytes;
    int status = 0;
    bool goes_on = true;
    while (!status && goes_on && (line = line_edit_read(prompt, &bytes))) {
        if (*line == '/')
            goes_on = obey(t, line);
        else if (bytes)
            status = take_turn(t, line, bytes);
        free(line);
    }
    if (goes_on && isatty(STDIN_FILENO))
        putchar('\n');
    return status;
}

/* Without a template the conversation is a text that goes on. */
static int open_template(struct talk *t)
{
    error_capture(true);
    if (prompt_template(&t->chat, t->o->model.model) == 0)
        t->terms.chat = &t->chat;
    char why[512];
    snprintf(why, sizeof why, "%s", error_text());
    error_capture(false);
    int status = prompt_check_system(t->terms.chat, t->o->system);
    if (!status)
        status = prompt_check_thinking(t->terms.chat, t->o->no_thinking);
    if (status)
        return status;
    if (!t->terms.chat)
        warn("%s; what is written is continued", why);
    if (!t->o->n_predict_given)
        t->terms.n_predict = t->terms.chat ? -1 : NEW_BY_CHECKPOINT;
    t->terms.no_thinking = t->o->no_thinking;
    return 0;
}

int chat_here(struct process *p, const void *options)
{
    const struct chat_command *o = options;
    struct talk t = {.o = o, .system = o->system ? strdup(o->system) : NULL};
    struct session_needs needs = {1, 1, 0};
    t.terms = (struct completion_terms){.no_chat = "", .n_predict = (int)o->n_predict};
    int status = prompt_tokenizer(&t.tokenizer, o->model.model);
    t.terms.tokenizer = t.tokenizer;
    if (!status)
        status = open_template(&t);
    if (!status)
        status = ranks_open(&t.ranks, p, &o->model, &needs);
    if (!status) {
        t.terms.c = &t.ranks.coordinator;
        scheduler_open(&t.scheduler, &t.ranks.coordinator);
        scheduler_keep(&t.scheduler);
        signals_on(on_signal, NULL);
        line_edit_open("epmoe");
        begin(&t);
        status = converse(&t);
        line_edit_close();
        signals_on(NULL, NULL);
        scheduler_close(&t.scheduler);
        kv_cache_forget(&t.ranks.coordinator.kv);
        ranks_close(&t.ranks);
    }
    js_free(t.turns);
    free(t.text);
    free(t.system);
    chat_close(&t.chat);
    tokenizer_close(t.tokenizer);
    return status;
}

int command_chat(struct process *p, int argc, char **argv)
{
    struct chat_command o = {.model = model_options_default()};
    return ranks_command(p, parse(&o, argc, argv), &o.model, chat_here, &o);
}
